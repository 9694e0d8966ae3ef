/* The router from memory: with and without a script on hot frames, and the whole way on cold ones.
 */
#include <stdio.h>

#include "cli/bench.h"
#include "cli/bench_script.h"
#include "event/jetstream.h"
#include "flow/router.h"
#include "flow/why.h"

#define FLUSH_EVERY 64
#define COLD_BYTES  (64u << 20)
#define KEPT_BYTES  (64u << 20) /* what `moonjet run` keeps by default … */
#define WHY_BYTES   (16u << 20) /* … and remembers of its decisions */

/* Its match passes the posts, 12 % of the measured network. */
static const char script_text[] =
    "jet.from { collection = \"app.bsky.feed.post\", op = \"create\" }\n"
    "  :where(function(ev) return ev.text:find(\"moonjet\", 1, true) ~= nil end)\n"
    "  :to(jet.stream \"bench\")\n";

static int bed_init(struct mj_bench_route *bed, bool with_script, size_t kept)
{
    mj_bench_route_init(bed, kept);
    return with_script ? mj_bench_script(bed->scripts, mj_str(script_text), NULL, NULL) : 0;
}

static size_t route_pass(struct mj_bench_route *bed, const struct mj_bench_frames *in)
{
    size_t events = 0;
    struct mj_frame frame;
    for (size_t i = 0; i < in->count; i++) {
        mj_router_frame(bed->router, in->frames[i], &frame);
        events += frame.events;
        if (i % FLUSH_EVERY == FLUSH_EVERY - 1)
            mj_router_flush(bed->router, -1, 0);
    }
    mj_router_flush(bed->router, -1, 0);
    return events;
}

/* Nanoseconds of CPU per event over at least `budget` nanoseconds. */
static double route_ns(struct mj_bench_route *bed, const struct mj_bench_frames *in, int64_t budget)
{
    size_t events = 0;
    int64_t start = mj_bench_cpu_ns(), spent;
    do
        events += route_pass(bed, in);
    while ((spent = mj_bench_cpu_ns() - start) < budget);
    return (double)spent / (double)events;
}

struct share {
    size_t posts, all;
};

static int count_posts(void *ctx, struct mj_event *ev)
{
    struct share *s = ctx;
    s->posts += ev->op == MJ_OP_CREATE && mj_span_is(ev->collection, "app.bsky.feed.post");
    s->all++;
    return 0;
}

static int print_event(void *ctx, struct mj_event *ev)
{
    struct mj_buf *json = ctx;
    json->len = 0;
    mj_jetstream_encode(ev, NULL, json);
    return 0;
}

/* Frames in random order behind each other, more than any cache holds: *n of them, each in *where.
 */
static uint8_t *cold_copy(const struct mj_bench_frames *in, struct mj_span **where, size_t *n)
{
    uint8_t *pool = mj_alloc(COLD_BYTES);
    size_t used = 0, cap = 0;
    uint64_t random = 88172645463325252u;
    *n = 0;
    *where = NULL;
    for (;;) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        struct mj_span f = in->frames[random % in->count];
        if (f.len > COLD_BYTES - used)
            break;
        if (*n == cap) {
            cap = cap ? cap * 2 : 1024;
            *where = mj_realloc(*where, cap * sizeof **where);
        }
        memcpy(pool + used, f.ptr, f.len);
        (*where)[(*n)++] = mj_span(pool + used, f.len);
        used += f.len;
    }
    return pool;
}

static void whole_way(struct mj_bench *b, struct mj_bench_route *bed)
{
    struct mj_span *frames;
    size_t n;
    uint8_t *pool = cold_copy(b->in, &frames, &n);
    struct mj_decoder *decoder = mj_decoder_new();
    mj_decoder_set_hash(decoder, false);
    struct mj_buf hot = {0}, json = {0};
    double all = 0, part = 0;
    for (int round = 0; round < MJ_BENCH_ROUNDS; round++) {
        for (int half = 0; half < 2; half++) {
            size_t events = 0;
            int64_t start = mj_bench_cpu_ns(), spent;
            do {
                for (size_t i = 0; i < n; i++) {
                    struct mj_frame frame;
                    hot.len = 0;
                    mj_buf_put(&hot, frames[i].ptr, frames[i].len);
                    if (half)
                        mj_decode(decoder, mj_buf_span(&hot), &frame, print_event, &json);
                    else
                        mj_router_frame(bed->router, mj_buf_span(&hot), &frame);
                    events += frame.events;
                    if (!half && i % FLUSH_EVERY == 0)
                        mj_router_flush(bed->router, -1, 0);
                }
            } while ((spent = mj_bench_cpu_ns() - start) < mj_bench_round(b));
            double rate = (double)events * 1e9 / (double)spent;
            double *best = half ? &part : &all;
            *best = rate > *best ? rate : *best;
        }
    }
    char beside[96];
    snprintf(beside, sizeof beside, "copy + decode + JSON alone: %.0f events/s", part);
    mj_bench_report(b, "pipeline_events_per_s", all, "events/s", beside, MJ_GOAL_AT_LEAST, 9e5);
    mj_bench_report(b, "pipeline_vs_decode", all / part, "x", beside, MJ_GOAL_NONE, 0);
    mj_buf_deinit(&hot);
    mj_buf_deinit(&json);
    mj_decoder_free(decoder);
    free(frames);
    free(pool);
}

#define EVENTS_MAX 1024 /* few: they stay in the cache, as one just decoded does */

struct events {
    struct mj_event v[EVENTS_MAX]; /* spans into frames */
    uint32_t collections[EVENTS_MAX];
    size_t n;
};

static int collect(void *ctx, struct mj_event *ev)
{
    struct events *all = ctx;
    if (all->n == EVENTS_MAX)
        return 0;
    all->collections[all->n] = ev->collection.len ? mj_collection_id(ev->collection) : 0;
    all->v[all->n++] = *ev;
    return 0;
}

/* What remembering an event takes that nothing happened to. By itself: beside decoding, which takes
 * a hundred times as long, it would be lost in the noise. */
static void remembering(struct mj_bench *b)
{
    struct events *all = mj_calloc(1, sizeof *all);
    struct mj_frame frame;
    struct mj__why_notes *notes = mj_calloc(1, sizeof *notes);
    struct mj_decoder *decoder = mj_decoder_new();
    double best = 1e9;
    char beside[96];
    for (size_t i = 0; i < b->in->count; i++)
        mj_decode(decoder, b->in->frames[i], &frame, collect, all);
    mj_decoder_free(decoder);
    notes->why = mj_why_new(WHY_BYTES, false);
    for (int round = 0; all->n && round < MJ_BENCH_ROUNDS; round++) {
        size_t events = 0;
        int64_t start = mj_bench_cpu_ns(), spent;
        do {
            for (size_t i = 0; i < all->n; i++) {
                mj__why_begin(notes);
                mj__why_event(notes, &all->v[i], all->collections[i], true);
            }
            events += all->n;
        } while ((spent = mj_bench_cpu_ns() - start) < mj_bench_round(b));
        double ns = (double)spent / (double)events;
        best = ns < best ? ns : best;
    }
    struct mj_why_window window;
    mj_why_window(notes->why, mj_span(NULL, 0), &window);
    snprintf(beside, sizeof beside, "%llu events in %zu MiB", (unsigned long long)window.events,
             window.bytes >> 20);
    mj_bench_report(b, "why_ns_per_event", best, "ns", beside, MJ_GOAL_AT_MOST, 15);
    mj_why_free(notes->why);
    free(notes);
    free(all);
}

void mj_bench_route(struct mj_bench *b)
{
    struct mj_bench_route plain = {0}, scripted = {0}, whole = {0};
    /* Small journals for the difference, so that both beds fit the cache and neither is lucky. */
    if (bed_init(&plain, false, 0) || bed_init(&scripted, true, 0) ||
        bed_init(&whole, true, KEPT_BYTES))
        goto out;
    struct share share = {0};
    struct mj_decoder *decoder = mj_decoder_new();
    struct mj_frame frame;
    for (size_t i = 0; i < b->in->count; i++)
        mj_decode(decoder, b->in->frames[i], &frame, count_posts, &share);
    mj_decoder_free(decoder);

    double without = 1e9, with = 1e9;
    int64_t budget = mj_bench_round(b);
    route_pass(&plain, b->in);
    route_pass(&scripted, b->in);
    for (int round = 0; round < MJ_BENCH_ROUNDS; round++) {
        double ns = route_ns(&plain, b->in, budget);
        without = ns < without ? ns : without;
        ns = route_ns(&scripted, b->in, budget);
        with = ns < with ? ns : with;
    }
    char beside[96];
    snprintf(beside, sizeof beside, "without: %.0f ns/event; the match passes %.0f %%", without,
             100.0 * (double)share.posts / (double)share.all);
    mj_bench_report(b, "script_added_ns_per_event", with - without, "ns", beside, MJ_GOAL_AT_MOST,
                    150);
    /* Long enough that every buffer has its size and every chunk has been recycled once. */
    size_t events = 0;
    uint64_t before = mj_bench_allocations();
    for (int i = 0; i < 200 || events < 200000; i++)
        events += route_pass(&scripted, b->in);
    mj_bench_report(b, "route_allocations_per_event",
                    (double)(mj_bench_allocations() - before) / (double)events, "allocations",
                    "segments of the journal are the rest", MJ_GOAL_AT_MOST, 0.001);
    whole_way(b, &whole);
    remembering(b);
out:
    mj_bench_route_deinit(&plain);
    mj_bench_route_deinit(&scripted);
    mj_bench_route_deinit(&whole);
}
