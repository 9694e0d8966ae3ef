/* Jetstream lines back to events on one core, beside cJSON, which only makes a tree of them. */
#include <cjson/cJSON.h>
#include <stdio.h>

#include "cli/bench.h"
#include "event/decode.h"
#include "event/from_json.h"
#include "event/jetstream.h"

struct lines {
    struct mj_buf bytes; /* owned */
    size_t *ends;        /* owned */
    size_t count, cap;
};

static int add_line(void *ctx, struct mj_event *ev)
{
    struct lines *l = ctx;
    ev->time_us = 1767323045678000 + (int64_t)l->count;
    if (mj_jetstream_encode(ev, NULL, &l->bytes))
        return 0;
    if (l->count == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 1024;
        l->ends = mj_realloc(l->ends, l->cap * sizeof *l->ends);
    }
    l->ends[l->count++] = l->bytes.len;
    return 0;
}

static struct mj_span line(const struct lines *l, size_t i)
{
    size_t start = i ? l->ends[i - 1] : 0;
    return mj_span(l->bytes.ptr + start, l->ends[i] - start);
}

static size_t our_pass(const struct lines *l, struct mj_from_json *r)
{
    size_t events = 0, at;
    struct mj_event ev;
    for (size_t i = 0; i < l->count; i++)
        events += mj_event_from_json(r, line(l, i), &ev, &at) == 0;
    return events;
}

static size_t cjson_pass(const struct lines *l)
{
    size_t events = 0;
    for (size_t i = 0; i < l->count; i++) {
        cJSON *tree = cJSON_ParseWithLength((const char *)line(l, i).ptr, line(l, i).len);
        events += tree != NULL;
        cJSON_Delete(tree);
    }
    return events;
}

void mj_bench_from_json(struct mj_bench *b)
{
    struct lines l = {0};
    struct mj_decoder *d = mj_decoder_new();
    struct mj_frame frame;
    for (size_t i = 0; i < b->in->count; i++)
        mj_decode(d, b->in->frames[i], &frame, add_line, &l);
    mj_decoder_free(d);
    struct mj_from_json *r = mj_from_json_new();
    our_pass(&l, r);
    double ours = 0, theirs = 0;
    uint64_t allocations = 0, counted = 0;
    for (int round = 0; round < mj_bench_rounds(b, MJ_BENCH_ROUNDS); round++) {
        uint64_t before = mj_bench_allocations();
        int64_t start = mj_bench_cpu_ns(), spent;
        size_t events = 0;
        do
            events += our_pass(&l, r);
        while ((spent = mj_bench_cpu_ns() - start) < mj_bench_round(b));
        allocations += mj_bench_allocations() - before;
        counted += events;
        double rate = (double)events * 1e9 / (double)spent;
        ours = rate > ours ? rate : ours;
        start = mj_bench_cpu_ns();
        events = 0;
        do
            events += cjson_pass(&l);
        while ((spent = mj_bench_cpu_ns() - start) < mj_bench_round(b));
        rate = (double)events * 1e9 / (double)spent;
        theirs = rate > theirs ? rate : theirs;
    }
    char beside[80];
    snprintf(beside, sizeof beside, "cJSON_Parse: %.0f events/s", theirs);
    mj_bench_report(b, "from_json_events_per_s", ours, "events/s", beside, MJ_GOAL_NONE, 0);
    mj_bench_report(b, "from_json_vs_cjson", ours / theirs, "x", beside, MJ_GOAL_AT_LEAST, 2);
    mj_bench_report(b, "from_json_allocations_per_event", (double)allocations / (double)counted,
                    "allocations", "", MJ_GOAL_AT_MOST, 0);
    mj_from_json_free(r);
    mj_buf_deinit(&l.bytes);
    free(l.ends);
}
