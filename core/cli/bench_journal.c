/* The journal on disk: appending beside a bare loop of writes, what sealing saves, reading back,
 * and how long a start takes when the window is full. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cli/bench_net.h"
#include "journal/journal.h"

#define WRITE_BYTES  (64u << 10)  /* of one bare write */
#define BATCH_BYTES  (1u << 20)   /* published at once: a busy source's 5 ms */
#define ROUND_BYTES  (192u << 20) /* written per round and side */
#define SEALED_BYTES (256u << 20)
#define FULL_WINDOW  40000000u /* events of 36 hours at 310 a second */

static struct mj_journal *open_in(const char *dir, size_t segment_bytes)
{
    struct mj_journal_cfg cfg = {.dir = dir,
                                 .sync_us = 1000000,
                                 .no_seal = true,
                                 .plain_bytes = 1,
                                 .segment_bytes = segment_bytes};
    struct mj_journal *j;
    MJ_AUTO_BUF error = {0};
    if (mj_journal_open(&cfg, &j, &error) == 0)
        return j;
    fprintf(stderr, "moonjet bench: %s\n", mj_buf_cstr(&error));
    return NULL;
}

/* Bytes per second of the writing thread: the disk is not ours alone, and syncs in both cases. */
static double append_rate(struct mj_journal *j, const struct mj_bench_events *e, size_t bytes)
{
    size_t done = 0, batch = 0;
    int64_t start = mj_bench_cpu_ns();
    for (size_t n = 0; done < bytes; n++) {
        size_t len = mj_bench_event_append(j, e, n, 1);
        if (!len)
            return 0;
        batch += len;
        if (batch >= BATCH_BYTES) {
            done += batch;
            batch = 0;
            mj_journal_publish(j, 0, (int64_t)n);
        }
    }
    mj_journal_publish(j, -1, 0);
    return (double)done * 1e9 / (double)(mj_bench_cpu_ns() - start);
}

struct syncer {
    int fd;
    _Atomic bool done;
};

static void *sync_each_second(void *arg)
{
    struct syncer *s = arg;
    for (int i = 0; !atomic_load(&s->done); i++) {
        usleep(10000);
        if (i % 100 == 99)
            fdatasync(s->fd);
    }
    return NULL;
}

static double write_rate(int fd, const uint8_t *data, size_t bytes)
{
    struct syncer s = {.fd = fd};
    pthread_t thread;
    if (pthread_create(&thread, NULL, sync_each_second, &s))
        return 0;
    size_t done = 0;
    int64_t start = mj_bench_cpu_ns();
    while (done < bytes) {
        ssize_t n = write(fd, data, WRITE_BYTES);
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    double rate = (double)done * 1e9 / (double)(mj_bench_cpu_ns() - start);
    atomic_store(&s.done, true);
    pthread_join(thread, NULL);
    return rate;
}

static void bench_append(struct mj_bench *b, struct mj_bench_events *e, const char *dir)
{
    char plain[96];
    snprintf(plain, sizeof plain, "%s/plain", dir);
    MJ_AUTO_BUF block = {0};
    while (block.len < WRITE_BYTES)
        mj_buf_put(&block, e->json.ptr, e->json.len);
    double ours = 0, bare = 0;
    for (int round = 0; round < 5; round++) {
        char sub[112];
        snprintf(sub, sizeof sub, "%s/append", dir);
        struct mj_journal *j = open_in(sub, 0);
        if (!j)
            return;
        mj_journal_source(j, "wss://a.example");
        double rate = append_rate(j, e, ROUND_BYTES);
        ours = rate > ours ? rate : ours;
        mj_journal_close(j);
        mj_bench_remove_dir(sub);
        int fd = open(plain, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        rate = write_rate(fd, block.ptr, ROUND_BYTES);
        bare = rate > bare ? rate : bare;
        close(fd);
        unlink(plain);
    }
    char beside[96];
    snprintf(beside, sizeof beside, "ours %.2f GB/s, bare write() of 64 KiB %.2f GB/s", ours / 1e9,
             bare / 1e9);
    mj_bench_report(b, "append_vs_write", ours / bare, "x", beside, MJ_GOAL_AT_LEAST, 0.8);
    mj_bench_report(b, "append_ns_per_event", 1e9 * (double)e->json.len / (double)e->count / ours,
                    "ns", "", MJ_GOAL_NONE, 0);
}

/* Every event is different: its DIDs, keys and hashes carry the number, as they do in life. */
static void vary(struct mj_bench_events *e, size_t n)
{
    uint64_t x = n * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t i = 0; i < e->count; i++) {
        uint8_t *p = e->json.ptr + e->items[i].at, *end = p + e->items[i].len;
        static const char *const keys[] = {"did:plc:", "bafyrei", "bafkrei", "\"3l",
                                           "\"3m",     "/3l",     "/3m"};
        for (size_t k = 0; k < MJ_COUNT(keys); k++) {
            size_t len = strlen(keys[k]);
            for (uint8_t *at = p; (at = memmem(at, (size_t)(end - at), keys[k], len));) {
                at += len;
                for (; at < end && ((*at >= 'a' && *at <= 'z') || (*at >= '2' && *at <= '7'));
                     at++) {
                    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
                    *at = (uint8_t) "abcdefghijklmnopqrstuvwxyz234567"[x >> 40 & 31];
                }
            }
        }
    }
}

static double read_all(struct mj_journal *j, size_t *events)
{
    struct mj_view v;
    mj_view_init(&v, j);
    struct mj_run r;
    size_t n = 0;
    uint64_t sum = 0;
    int64_t start = mj_bench_cpu_ns();
    for (uint64_t seq = v.floor; mj_view_run(&v, seq, &r); seq = r.seq + r.count) {
        if (mj_view_load(&v, &r))
            break;
        for (size_t i = 0; i < r.count; i++)
            sum += mj_run_frame(&r, i).ptr[0];
        n += r.count;
    }
    double ns = (double)(mj_bench_cpu_ns() - start);
    mj_view_deinit(&v);
    *events = n;
    return sum ? (double)n * 1e9 / ns : 0;
}

static void bench_seal(struct mj_bench *b, struct mj_bench_events *e, const char *dir)
{
    char sub[112];
    snprintf(sub, sizeof sub, "%s/seal", dir);
    struct mj_journal *j = open_in(sub, 0);
    if (!j)
        return;
    size_t bytes = 0, n = 0, events;
    while (bytes < SEALED_BYTES + (16u << 20)) {
        vary(e, n);
        for (size_t i = 0; i < e->count; i++, n++)
            bytes += mj_bench_event_append(j, e, i, 1);
        mj_journal_publish(j, -1, 0);
    }
    double plain = read_all(j, &events);
    int64_t start = mj_bench_wall_ns();
    mj_journal_seal(j, 0);
    double spent = (double)(mj_bench_wall_ns() - start);
    struct mj_journal_window w;
    mj_journal_window(j, &w);
    uint64_t sealed = w.end - 1;
    struct mj_view v;
    mj_view_init(&v, j);
    struct mj_run r;
    int64_t plain_left = w.plain_bytes;
    for (uint64_t seq = v.floor; mj_view_run(&v, seq, &r); seq = r.seq + r.count)
        if (!r.summary)
            sealed = r.seq - 1 < sealed ? r.seq - 1 : sealed;
    mj_view_deinit(&v);
    double each =
        ((double)w.sealed_bytes + (double)sealed * sizeof(struct mj_entry)) / (double)sealed;
    double was = ((double)bytes - (double)plain_left) / (double)sealed;
    char beside[96];
    snprintf(beside, sizeof beside, "%.0f of %.0f bytes an event; sealed at %.0f MB/s", each, was,
             ((double)bytes - (double)plain_left) * 1e3 / spent);
    mj_bench_report(b, "sealed_vs_plain_bytes", each / was, "x", beside, MJ_GOAL_AT_MOST, 1.0 / 3);
    double unpacked = read_all(j, &events);
    snprintf(beside, sizeof beside, "not sealed: %.1f million/s", plain / 1e6);
    mj_bench_report(b, "read_sealed_events_per_s", unpacked, "events/s", beside, MJ_GOAL_NONE, 0);
    mj_journal_close(j);
    mj_bench_remove_dir(sub);
}

static void bench_start(struct mj_bench *b, struct mj_bench_events *e, const char *dir)
{
    /* Events cut to a fifth, and segments with them: as many entries, files and blocks' worth of
     * them as in life, without 22 GB of disk. */
    size_t segment = (256u << 20) / 5;
    for (size_t i = 0; i < e->count; i++)
        e->items[i].len = e->items[i].len / 5 + 1;
    char sub[112];
    snprintf(sub, sizeof sub, "%s/start", dir);
    struct mj_journal *j = open_in(sub, segment);
    if (!j)
        return;
    for (size_t n = 0; n < FULL_WINDOW; n++) {
        mj_bench_event_append(j, e, n, 1);
        if (n % 1000 == 999)
            mj_journal_publish(j, 0, (int64_t)n);
        if (n % 2000000 == 1999999) {
            mj_journal_seal(j, 1);
            if (isatty(STDERR_FILENO))
                fprintf(stderr, "\rfilling a window: %zu %% ", 100 * n / FULL_WINDOW);
        }
    }
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%30s\r", "");
    mj_journal_publish(j, 0, FULL_WINDOW);
    mj_journal_close(j);
    double best = 1e9;
    for (int round = 0; round < 3; round++) {
        int64_t start = mj_bench_wall_ns();
        j = open_in(sub, segment);
        double s = (double)(mj_bench_wall_ns() - start) / 1e9;
        best = s < best ? s : best;
        mj_journal_close(j);
    }
    char beside[96];
    snprintf(beside, sizeof beside, "%u million events", FULL_WINDOW / 1000000);
    mj_bench_report(b, "open_full_window_s", best, "s", beside, MJ_GOAL_AT_MOST, 1);
    mj_bench_remove_dir(sub);
}

static void with_events(struct mj_bench *b,
                        void (*run)(struct mj_bench *, struct mj_bench_events *, const char *))
{
    /* Not /tmp, which may be memory. */
    char dir[MJ_BENCH_DIR];
    if (mj_bench_make_dir(true, dir))
        return;
    struct mj_bench_events e = {0};
    mj_bench_events_collect(b, &e);
    if (e.count)
        run(b, &e, dir);
    mj_bench_events_deinit(&e);
    mj_bench_remove_dir(dir);
}

void mj_bench_append(struct mj_bench *b) { with_events(b, bench_append); }
void mj_bench_seal(struct mj_bench *b) { with_events(b, bench_seal); }
void mj_bench_start(struct mj_bench *b) { with_events(b, bench_start); }
