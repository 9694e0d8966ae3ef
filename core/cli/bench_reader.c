/* Durable readers: an event noted, taken and done beside one that is only copied out of the
 * journal; a thousand readers with an event a second each; what a million events take that wait. */
#include <malloc.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cli/bench_net.h"
#include "journal/reader.h"

#define READERS 1000
#define BATCHES 200 /* publishes of a second: a busy source's 5 ms */
#define OTHERS  5   /* events of a batch that no reader wants */
#define WAITING 1000000

struct bed {
    char dir[MJ_BENCH_DIR];
    struct mj_bench_events events;
    struct mj_journal *journal;
    struct mj_readers *readers;
    struct mj_view view;
    struct mj_reader *of[READERS];
    size_t n; /* events so far */
};

static bool bed_open(const struct mj_bench *b, struct bed *bed)
{
    MJ_AUTO_BUF error = {0};
    mj_bench_events_collect(b, &bed->events);
    if (bed->events.count && mj_bench_make_dir(false, bed->dir))
        return false;
    struct mj_journal_cfg cfg = {.dir = bed->dir, .sync_us = 1000000, .no_seal = true};
    if (!bed->events.count || mj_journal_open(&cfg, &bed->journal, &error)) {
        fprintf(stderr, "moonjet bench: %s\n", error.len ? mj_buf_cstr(&error) : "no events");
        return false;
    }
    bed->readers = mj_readers_new(&(struct mj_readers_cfg){.journal = bed->journal});
    for (unsigned i = 0; i < READERS; i++) {
        char node[32];
        snprintf(node, sizeof node, "each#%u", i + 1);
        if (mj_reader_get(bed->readers, "bench.lua", node, MJ_READER_EACH, &bed->of[i], &error))
            return false;
    }
    mj_view_init(&bed->view, bed->journal);
    return true;
}

static void bed_close(struct bed *bed)
{
    mj_view_deinit(&bed->view);
    mj_readers_free(bed->readers);
    mj_journal_close(bed->journal);
    mj_bench_events_deinit(&bed->events);
    mj_bench_remove_dir(bed->dir);
}

static void own(struct bed *bed, struct mj_reader *r)
{
    mj_reader_own(r, &(struct mj_owner_cfg){.workers = 1, .ctx = bed});
}

/* Appends the next event, with a note for the reader (NULL: none). */
static bool append(struct bed *bed, struct mj_reader *r)
{
    const struct mj_bench_event *it = &bed->events.items[bed->n % bed->events.count];
    if (!mj_bench_event_append(bed->journal, &bed->events, bed->n++, 1))
        return false;
    const struct mj_append a = {.did_hash = it->did_hash};
    return !r || mj_reader_note(r, &a, 1, (int64_t)bed->n) == 0;
}

static void publish(struct bed *bed)
{
    mj_journal_publish(bed->journal, -1, 0);
    mj_readers_published(bed->readers);
    mj_view_refresh(&bed->view);
}

static size_t drain(struct bed *bed, struct mj_reader *r, int64_t now_us)
{
    int64_t again;
    size_t n = 0;
    for (struct mj_parcel *p;
         (p = mj_reader_take(r, bed, &bed->view, now_us, &again)) || again == 0;)
        if (p) {
            n += p->n;
            mj_parcel_done(p, now_us, 200);
        }
    return n;
}

/* The yardstick: finds each event and copies it, as whoever hands it on must. */
static size_t copy_all(struct bed *bed, uint64_t from)
{
    struct mj_run run;
    size_t n = 0;
    for (uint64_t seq = from; mj_view_run(&bed->view, seq, &run); seq = run.seq + run.count) {
        if (mj_view_load(&bed->view, &run))
            break;
        for (size_t i = 0; i < run.count; i++) {
            if (run.entries[i].kind == MJ_ENTRY_NOTE)
                continue;
            struct mj_span json = mj_run_json(&run, i);
            uint8_t *copy = mj_alloc(json.len + 1);
            memcpy(copy, json.ptr, json.len);
            n += copy[0] == '{';
            free(copy);
        }
    }
    return n;
}

static void measure_taking(struct mj_bench *b, struct bed *bed)
{
    enum { EVENTS = 20000 };
    double ours = 0, bare = 0;
    own(bed, bed->of[0]);
    for (int round = 0; round < mj_bench_rounds(b, MJ_BENCH_ROUNDS); round++) {
        uint64_t from = bed->view.end;
        for (unsigned i = 0; i < EVENTS; i++)
            if (!append(bed, bed->of[0]))
                return;
        publish(bed);
        int64_t start = mj_bench_cpu_ns();
        double rate = (double)copy_all(bed, from) * 1e9;
        rate /= (double)(mj_bench_cpu_ns() - start);
        bare = rate > bare ? rate : bare;
        start = mj_bench_cpu_ns();
        rate = (double)drain(bed, bed->of[0], mj_now_us()) * 1e9;
        rate /= (double)(mj_bench_cpu_ns() - start);
        ours = rate > ours ? rate : ours;
    }
    char beside[96];
    snprintf(beside, sizeof beside, "%.2f µs an event taken and done, copied only %.2f µs",
             1e6 / ours, 1e6 / bare);
    mj_bench_report(b, "reader_take_vs_copy", ours / bare, "x", beside, MJ_GOAL_NONE, 0);
}

/* One second of a thousand readers, without the events themselves: appended once before, once with
 * notes that are taken and done. */
static double second(struct bed *bed, bool noted)
{
    int64_t start = mj_bench_cpu_ns(), now = mj_now_us();
    const size_t each = READERS / BATCHES;
    for (size_t batch = 0; batch < BATCHES; batch++) {
        for (size_t i = 0; i < each + OTHERS; i++)
            append(bed, noted && i < each ? bed->of[batch * each + i] : NULL);
        publish(bed);
        for (size_t i = 0; i < each && noted; i++)
            drain(bed, bed->of[batch * each + i], now);
        /* Those without news are asked, too, as a loop does that was woken by others. */
        for (size_t i = 0; i < READERS && noted; i++)
            drain(bed, bed->of[i], now);
    }
    if (noted)
        mj_readers_save(bed->readers);
    return (double)(mj_bench_cpu_ns() - start) / 1e9;
}

static void measure_many(struct mj_bench *b, struct bed *bed)
{
    double with = 1e9, without = 1e9;
    for (size_t i = 0; i < READERS; i++)
        own(bed, bed->of[i]);
    for (int round = 0; round < mj_bench_rounds(b, MJ_BENCH_ROUNDS); round++) {
        double s = second(bed, false);
        without = s < without ? s : without;
        s = second(bed, true);
        with = s < with ? s : with;
    }
    char beside[96];
    snprintf(beside, sizeof beside, "the same events without readers %.2f %%", without * 100);
    mj_bench_report(b, "readers_1000_percent_of_a_core", (with - without) * 100, "%", beside,
                    MJ_GOAL_AT_MOST, 5);
}

static void measure_waiting(struct mj_bench *b, struct bed *bed)
{
    const size_t events = b->seconds < 0.1 ? WAITING / 100 : WAITING;
    int64_t again;
    own(bed, bed->of[0]);
    drain(bed, bed->of[0], mj_now_us());
    struct mallinfo2 before = mallinfo2();
    for (size_t i = 0; i < events; i++) {
        if (!append(bed, bed->of[0]))
            return;
        if (i % 100 == 99) {
            publish(bed);
            struct mj_parcel *p = mj_reader_take(bed->of[0], bed, &bed->view, mj_now_us(), &again);
            if (p) /* nobody takes anything: the endpoint is down */
                mj_parcel_fail(p, mj_now_us(),
                               &(struct mj_failure){.what = MJ_FAIL_RETRY,
                                                    .after_us = 1000000000,
                                                    .reason = "it is down"});
        }
    }
    publish(bed);
    struct mallinfo2 after = mallinfo2();
    struct mj_reader_state s;
    mj_reader_state(bed->of[0], &s);
    char beside[96];
    snprintf(beside, sizeof beside, "%zu events wait", s.waiting);
    double kib = ((double)after.uordblks + (double)after.hblkhd - (double)before.uordblks -
                  (double)before.hblkhd) /
                 1024;
    mj_bench_report(b, "reader_waiting_heap_kib", kib, "KiB", beside, MJ_GOAL_AT_MOST, 2048);
}

void mj_bench_reader(struct mj_bench *b)
{
    struct bed *bed = mj_calloc(1, sizeof *bed);
    if (bed_open(b, bed)) {
        measure_taking(b, bed);
        measure_many(b, bed);
        measure_waiting(b, bed);
    }
    bed_close(bed);
    free(bed);
}
