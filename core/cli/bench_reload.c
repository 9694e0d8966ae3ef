/* Reload: twenty scripts under load, one of them new each time. What a reload holds up the stream
 * for, beside what loading the same script costs by itself; and what a thousand leave behind. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "cli/bench.h"
#include "script/reload.h"

#define SCRIPTS 20
#define RELOADS 1000
#define FRAMES  20 /* between two reloads */

struct bed {
    char dir[MJ_BENCH_DIR];
    char *paths[SCRIPTS]; /* owned */
    struct mj_script_spec specs[SCRIPTS];
    struct mj_journal *journal;
    struct mj_streams *streams;
    struct mj_router *router;
    struct mj_scripts *scripts;
};

static int put_script(struct bed *b, int i, int version)
{
    FILE *f = fopen(b->paths[i], "w");
    if (!f)
        return MJ_EIO;
    fprintf(f,
            "local n = 0 -- %d\n"
            "local seen = jet.map 'seen'\n"
            "jet.from { collection = 'app.bsky.feed.post', op = 'create' }\n"
            "  :where(function(ev) n = n + 1 return #ev.text > 10 end)\n"
            "  :dedupe { by = 'uri', within = '1h' }\n"
            "  :tap(function(ev) seen:incr(ev.did) end)\n"
            "  :to(jet.stream 's%d')\n",
            version, i);
    return fclose(f) ? MJ_EIO : 0;
}

static int open_bed(struct bed *b)
{
    MJ_AUTO_BUF report = {0};
    struct mj_reload result;
    int made = mj_bench_make_dir(false, b->dir);
    if (made)
        return made;
    b->journal = mj_journal_in_memory(2 << 20);
    b->streams = mj_streams_new(b->journal);
    b->router = mj_router_new(b->journal);
    mj_router_set_streams(b->router, b->streams);
    b->scripts = mj_scripts_new(b->router);
    for (int i = 0; i < SCRIPTS; i++) {
        struct mj_buf path = {0};
        mj_buf_printf(&path, "%s/s%02d.lua", b->dir, i);
        mj_buf_cstr(&path);
        b->paths[i] = (char *)path.ptr;
        b->specs[i].path = b->paths[i];
        if (put_script(b, i, 0))
            return MJ_EIO;
    }
    return mj_scripts_reload(b->scripts, b->specs, SCRIPTS, false, &result, &report);
}

static void close_bed(struct bed *b)
{
    mj_router_free(b->router);
    mj_scripts_free(b->scripts);
    mj_streams_free(b->streams);
    mj_journal_close(b->journal);
    for (int i = 0; i < SCRIPTS; i++) {
        if (b->paths[i])
            unlink(b->paths[i]);
        free(b->paths[i]);
    }
    rmdir(b->dir);
}

static long resident(void)
{
    long pages[2] = {0};
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%ld %ld", &pages[0], &pages[1]) != 2)
        pages[1] = 0;
    fclose(f);
    return pages[1] * sysconf(_SC_PAGESIZE);
}

static int64_t load_alone(struct bed *b)
{
    MJ_AUTO_BUF error = {0};
    int64_t start = mj_bench_cpu_ns();
    struct mj_scripts *s = mj_scripts_new(NULL);
    mj_scripts_load(s, b->paths[0], NULL, &error);
    mj_scripts_free(s);
    return mj_bench_cpu_ns() - start;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

void mj_bench_reload(struct mj_bench *b)
{
    struct bed bed = {0};
    static int64_t took[RELOADS];
    int64_t alone = INT64_MAX;
    int n = b->seconds < 0.1 ? 10 : RELOADS;
    long before = 0;
    char beside[160];
    if (open_bed(&bed)) {
        fprintf(stderr, "bench: the scripts of reload cannot be had\n");
        close_bed(&bed);
        return;
    }
    for (int i = 0; i < n; i++) {
        MJ_AUTO_BUF report = {0};
        struct mj_reload result;
        for (int k = 0; k < FRAMES; k++) {
            struct mj_frame frame;
            mj_router_frame(bed.router, b->in->frames[(size_t)(i * FRAMES + k) % b->in->count],
                            &frame);
        }
        mj_router_flush(bed.router, -1, 0);
        mj_scripts_run(bed.scripts, 1000);
        if (put_script(&bed, i % SCRIPTS, i + 1))
            break;
        int64_t start = mj_bench_cpu_ns();
        mj_scripts_reload(bed.scripts, bed.specs, SCRIPTS, false, &result, &report);
        took[i] = mj_bench_cpu_ns() - start;
        int64_t other = load_alone(&bed);
        alone = other < alone ? other : alone;
        if (i == n / 2)
            before = resident();
    }
    qsort(took, (size_t)n, sizeof *took, by_size);
    int64_t median = took[(size_t)n / 2];
    snprintf(beside, sizeof beside, "of %d, one script of %d each; loading one by itself: %.3f ms",
             n, SCRIPTS, (double)alone / 1e6);
    mj_bench_report(b, "reload_median_ms", (double)median / 1e6, "ms", beside, MJ_GOAL_AT_MOST, 5);
    snprintf(beside, sizeof beside, "the slowest of them: %.3f ms", (double)took[n - 1] / 1e6);
    mj_bench_report(b, "reload_vs_load", (double)median / (double)alone, "x", beside, MJ_GOAL_NONE,
                    0);
    mj_bench_report(b, "reload_memory_kib", (double)(resident() - before) / 1024, "KiB",
                    "more after the second half of them than before it", MJ_GOAL_AT_MOST, 2048);
    close_bed(&bed);
}
