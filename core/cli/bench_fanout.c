/* Live fan-out: a thousand subscribers at a thousand events a second, plain and zstd, beside a bare
 * loop that sends the same batches to as many sockets.
 *
 * Rounds take turns, each with its own subscribers: those of one stream rest while the other is
 * fed. The CPU is that of the whole process: appending, the journal's keeper and the server; the
 * readers are another process. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zdict.h>

#include "base/clock.h"
#include "base/dictionary.h"
#include "base/err.h"
#include "base/metrics.h"
#include "base/ws.h"
#include "cli/bench_net.h"

#define SUBSCRIBERS 1000
#define RATE        1000 /* events per second */
#define ROUNDS      5
#define TRAINED     (64u << 10) /* bytes of a dictionary made here */
#define WARM_UP     0.3         /* seconds in which the connections' buffers get their size */

enum { PLAIN, OTHER, BARE }; /* groups; the first two are also streams' bits */

/* Best of the rounds so far. */
struct live {
    double us_per_delivery;
    double frames_per_write; /* of all rounds */
    int64_t frames, writes;
};

static void sleep_until(int64_t ns)
{
    struct timespec at = {ns / 1000000000, ns % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {
    }
}

/* One event each millisecond to one stream's subscribers. Returns µs of CPU per delivery; 0 when
 * not all came. */
static double feed(struct mj_bench_bed *bed, unsigned stream, double seconds)
{
    size_t total = (size_t)ceil(seconds * RATE), n = 0;
    int64_t want = mj_bench_counter("moonjet_frames_written_total") + (int64_t)total * SUBSCRIBERS;
    int64_t cpu = mj_bench_process_cpu_ns(), start = mj_bench_wall_ns();
    while (n < total) {
        sleep_until(start + (int64_t)n * (1000000000 / RATE));
        size_t due = (size_t)((mj_bench_wall_ns() - start) / (1000000000 / RATE)) + 1;
        for (; n < total && n < due; n++)
            if (!mj_bench_event_append(bed->journal, &bed->events, n, UINT64_C(1) << stream))
                return 0;
        mj_journal_publish(bed->journal, -1, 0);
    }
    int64_t until = mj_mono_us() + 10000000;
    while (mj_bench_counter("moonjet_frames_written_total") < want) {
        if (mj_mono_us() > until) {
            fprintf(stderr, "moonjet bench: not everything was delivered\n");
            return 0;
        }
        usleep(1000);
    }
    return (double)(mj_bench_process_cpu_ns() - cpu) / 1e3 / (double)total / SUBSCRIBERS;
}

static void feed_round(struct mj_bench_bed *bed, unsigned stream, double seconds, struct live *out)
{
    int64_t frames = mj_bench_counter("moonjet_frames_written_total"),
            writes = mj_bench_counter("moonjet_writes_total");
    double us = feed(bed, stream, seconds);
    if (us > 0 && (us < out->us_per_delivery || !out->frames))
        out->us_per_delivery = us;
    out->frames += mj_bench_counter("moonjet_frames_written_total") - frames;
    out->writes += mj_bench_counter("moonjet_writes_total") - writes;
    out->frames_per_write = (double)out->frames / (double)(out->writes ? out->writes : 1);
}

/* The yardstick: the same number of events in each write, as often as they come. µs of this
 * thread per delivery. */
static double bare_round(const struct mj_bench_events *e, const int *fds, size_t batch,
                         double seconds)
{
    MJ_AUTO_BUF frames = {0};
    int64_t start = mj_bench_wall_ns(), cpu = mj_bench_cpu_ns();
    size_t n = 0, total = (size_t)ceil(seconds * RATE);
    while (n < total) {
        frames.len = 0;
        for (size_t i = 0; i < batch; i++, n++) {
            const struct mj_bench_event *it = &e->items[n % e->count];
            uint8_t head[MJ_WS_HEAD_MAX];
            mj_buf_put(&frames, head, mj_ws_head(head, MJ_WS_TEXT, it->len));
            mj_buf_put(&frames, e->json.ptr + it->at, it->len);
        }
        sleep_until(start + (int64_t)n * (1000000000 / RATE));
        for (size_t i = 0; i < SUBSCRIBERS; i++)
            if (send(fds[i], frames.ptr, frames.len, MSG_NOSIGNAL) < 0)
                return 0;
    }
    return (double)(mj_bench_cpu_ns() - cpu) / 1e3 / (double)n / SUBSCRIBERS;
}

static bool subscribe(struct mj_bench_bed *bed, unsigned group, const char *target)
{
    struct mj_bench_open o = {
        .group = group, .count = SUBSCRIBERS, .port = bed->port, .target = target};
    return !mj_bench_drain_open(&bed->drain, &o) &&
           mj_bench_drain_await(&bed->drain, group, SUBSCRIBERS);
}

/* Milliseconds that this share of all observations since `before` did not exceed, taken as spread
 * evenly within a bucket. */
static double percentile_ms(const struct mj_histogram *h, const int64_t *before, double share)
{
    int64_t counts[MJ_HISTOGRAM_MAX + 1], all = 0;
    for (size_t i = 0; i <= h->n; i++)
        all += counts[i] = atomic_load(&h->counts[i]) - before[i];
    double left = share * (double)all;
    for (size_t i = 0; i < h->n; i++) {
        double from = i ? (double)h->bounds[i - 1] : 0, to = (double)h->bounds[i];
        if (counts[i] && left <= (double)counts[i])
            return (from + (to - from) * left / (double)counts[i]) / 1e3;
        left -= (double)counts[i];
    }
    return h->n ? (double)h->bounds[h->n - 1] / 1e3 : 0;
}

void mj_bench_fanout(struct mj_bench *b)
{
    if (!mj_bench_allow_files(2 * SUBSCRIBERS, "fanout"))
        return;
    struct mj_bench_bed bed;
    int *fds = mj_calloc(SUBSCRIBERS, sizeof *fds);
    if (mj_bench_bed_init(b, &bed, 0, mj_span(NULL, 0)) ||
        mj_bench_bare_open(&bed, BARE, SUBSCRIBERS, fds))
        goto out;
    if (!subscribe(&bed, PLAIN, "/subscribe") || !feed(&bed, PLAIN, WARM_UP * fmin(1, b->seconds)))
        goto close;
    struct mj_histogram *h = mj_histogram("moonjet_delivery_seconds", "", NULL, 0, NULL);
    int64_t before[MJ_HISTOGRAM_MAX + 1];
    for (size_t i = 0; i <= h->n; i++)
        before[i] = atomic_load(&h->counts[i]);
    struct live live = {0};
    double bare = 0;
    for (int round = 0; round < mj_bench_rounds(b, ROUNDS); round++) {
        feed_round(&bed, PLAIN, 2 * b->seconds, &live);
        size_t batch = (size_t)(live.frames_per_write + 0.5);
        double us = bare_round(&bed.events, fds, batch ? batch : 1, fmin(2, b->seconds));
        bare = us > 0 && (us < bare || !bare) ? us : bare;
    }
    char beside[112];
    snprintf(beside, sizeof beside, "bare send() of the same: %.3f us; %.1f events in a write",
             bare, live.frames_per_write);
    mj_bench_report(b, "fanout_live_us_per_delivery", live.us_per_delivery, "us", beside,
                    MJ_GOAL_AT_MOST, 1);
    mj_bench_report(b, "fanout_live_vs_send", live.us_per_delivery / bare, "x", beside,
                    MJ_GOAL_NONE, 0);
    snprintf(beside, sizeof beside, "p50 %.2f, p99.9 %.2f ms, received to sent, over %.0f s",
             percentile_ms(h, before, 0.5), percentile_ms(h, before, 0.999),
             2 * b->seconds * mj_bench_rounds(b, ROUNDS));
    mj_bench_report(b, "fanout_live_p99_ms", percentile_ms(h, before, 0.99), "ms", beside,
                    MJ_GOAL_AT_MOST, 20);
    mj_bench_report(b, "fanout_forced_closes", (double)mj_bench_drain_ended(&bed.drain, PLAIN), "",
                    "", MJ_GOAL_AT_MOST, 0);
close:
    mj_bench_bare_close(&bed, BARE, SUBSCRIBERS, fds);
out:
    mj_bench_bed_deinit(&bed);
    free(fds);
}

/* One made of the events themselves; false when they are too few. */
static bool train(const struct mj_bench *b, struct mj_dictionary *out)
{
    struct mj_bench_events e = {0};
    mj_bench_events_collect(b, &e);
    size_t *sizes = mj_calloc(e.count + 1, sizeof *sizes);
    for (size_t i = 0; i < e.count; i++)
        sizes[i] = e.items[i].len;
    mj_buf_reserve(&out->bytes, TRAINED);
    size_t n = ZDICT_trainFromBuffer(out->bytes.ptr, TRAINED, e.json.ptr, sizes, (unsigned)e.count);
    free(sizes);
    mj_bench_events_deinit(&e);
    if (ZDICT_isError(n))
        return false;
    out->bytes.len = n;
    out->id = ZDICT_getDictID(out->bytes.ptr, n);
    return true;
}

/* The dictionary that was named, or Jetstream's from beside the frames, or the installed one, or
 * one trained here. False after a message. */
static bool find_dictionary(const struct mj_bench *b, struct mj_dictionary *out, const char **which)
{
    MJ_AUTO_BUF path = {0}, error = {0};
    const char *slash = strrchr(b->in->path, '/'), *named = b->dictionary;
    mj_buf_put(&path, b->in->path, slash ? (size_t)(slash + 1 - b->in->path) : 0);
    mj_buf_puts(&path, "../zstd/legacy_subscribe.zdict");
    if (!named && access(mj_buf_cstr(&path), R_OK) == 0)
        named = mj_buf_cstr(&path);
    *which = "";
    int err = mj_dictionary_find(named, NULL, out, &error);
    if (err == MJ_ENOENT && !named) {
        *which = " trained here";
        err = train(b, out) ? 0 : MJ_EINVAL;
    }
    if (err)
        fprintf(stderr, "moonjet bench: zstd left out: %s\n",
                error.len ? mj_buf_cstr(&error)
                          : "no dictionary, and too few events to make one; name it with "
                            "--dictionary");
    return !err;
}

void mj_bench_zstd(struct mj_bench *b)
{
    struct mj_dictionary dictionary = {0};
    const char *which;
    struct mj_bench_bed bed;
    if (!mj_bench_allow_files(2 * SUBSCRIBERS, "zstd"))
        return;
    if (!find_dictionary(b, &dictionary, &which)) {
        mj_dictionary_deinit(&dictionary);
        return;
    }
    if (mj_bench_bed_init(b, &bed, 0, mj_buf_span(&dictionary.bytes)) ||
        !subscribe(&bed, PLAIN, "/subscribe") ||
        !subscribe(&bed, OTHER, "/stream/other/subscribe?compress=true"))
        goto out;
    for (unsigned stream = PLAIN; stream <= OTHER; stream++)
        if (!feed(&bed, stream, WARM_UP * fmin(1, b->seconds)))
            goto out;
    struct live plain = {0}, packed = {0};
    for (int round = 0; round < mj_bench_rounds(b, ROUNDS); round++) {
        feed_round(&bed, PLAIN, fmin(2, b->seconds), &plain);
        feed_round(&bed, OTHER, fmin(2, b->seconds), &packed);
    }
    char beside[112];
    snprintf(beside, sizeof beside,
             "zstd %.3f us, plain %.3f us per delivery; %.1f, %.1f in a write",
             packed.us_per_delivery, plain.us_per_delivery, packed.frames_per_write,
             plain.frames_per_write);
    mj_bench_report(b, "fanout_zstd_vs_plain", packed.us_per_delivery / plain.us_per_delivery, "x",
                    beside, MJ_GOAL_AT_MOST, 1.2);
    double in = (double)mj_bench_counter("moonjet_zstd_in_bytes_total"),
           out = (double)mj_bench_counter("moonjet_zstd_out_bytes_total"),
           events = (double)mj_bench_counter("moonjet_zstd_events_total");
    snprintf(beside, sizeof beside, "%.0f of %.0f bytes an event; dictionary %u%s", out / events,
             in / events, dictionary.id, which);
    mj_bench_report(b, "zstd_ratio", in / out, "x", beside, MJ_GOAL_AT_LEAST, 2);
out:
    mj_bench_bed_deinit(&bed);
    mj_dictionary_deinit(&dictionary);
}
