/* State: a map's increment beside a Lua table's; the longest single insert on the way to a million
 * keys, in a map and in a table; and what a set of 100,000 DIDs costs an event, beside a hundred
 * DIDs in a filter. */
#include <math.h>
#include <stdio.h>

#include "base/metrics.h"
#include "cli/bench_net.h"
#include "cli/bench_script.h"
#include "event/event.h"
#include "server/class.h"

#define KEYS       100000
#define MEMBERS    100000
#define DIDS       100
#define EVENTS     2000
#define ROUND_LIVE 10 /* events of a live round */

/* ---- in Lua ---- */

/* A gauge the script has set, while it is there. */
static double told(const char *script, const char *name)
{
    char family[64];
    snprintf(family, sizeof family, "moonjet_script_%s", name);
    return mj_metric_get_real(
        mj_metric(family, MJ_GAUGE_REAL, "Told by scripts.", "script=\"%s\"", script));
}

/* Runs a script's function once, on a made-up event. What it has set the gauges to, n of them, goes
 * to `values`. */
static int run_once(const char *source, const char *const *gauges, size_t n, double *values)
{
    struct mj_script_cfg cfg = {
        .memory = (size_t)1 << 30, .call_us = INT64_C(600000000), .declare_us = INT64_C(60000000)};
    struct mj_router *router = mj_router_new(NULL);
    struct mj_scripts *scripts = mj_scripts_new(router);
    char name[32];
    int err = mj_bench_script(scripts, mj_str(source), &cfg, name);
    if (!err) {
        struct mj_event ev = {.kind = MJ_KIND_ACCOUNT,
                              .did = MJ_SPAN("did:plc:ewvi7nxzyoun6zhxrhs64oiz"),
                              .time = MJ_SPAN("2026-07-04T14:38:08.123Z"),
                              .seq = 1};
        err = mj_router_event(router, &ev);
    }
    for (size_t i = 0; i < n && !err; i++)
        values[i] = told(name, gauges[i]);
    mj_router_free(router);
    mj_scripts_free(scripts);
    return err;
}

static void bench_incr(struct mj_bench *b)
{
    static const char *const gauges[] = {"bench_ours", "bench_theirs"};
    MJ_AUTO_BUF source = {0};
    double ns[2];
    mj_buf_printf(&source,
                  "local m, t = jet.map('m', { max = 1e6 }), {}\n"
                  "local ours, theirs = jet.gauge 'bench_ours', jet.gauge 'bench_theirs'\n"
                  "local keys, clock = {}, os.clock\n"
                  "for i = 1, %d do keys[i] = 'did:plc:' .. ('%%024d'):format(i * 7919) end\n"
                  "jet.from '*':tap(function()\n"
                  "  local best, other = 1, 1\n"
                  "  for round = 1, %d do\n"
                  "    local s = clock() for i = 1, #keys do m:incr(keys[i]) end\n"
                  "    best = math.min(best, clock() - s)\n"
                  "    s = clock() for i = 1, #keys do t[keys[i]] = (t[keys[i]] or 0) + 1 end\n"
                  "    other = math.min(other, clock() - s)\n"
                  "  end\n"
                  "  ours:set(best * 1e9 / #keys) theirs:set(other * 1e9 / #keys)\n"
                  "end)\n",
                  KEYS, mj_bench_rounds(b, MJ_BENCH_ROUNDS));
    if (run_once(mj_buf_cstr(&source), gauges, MJ_COUNT(gauges), ns))
        return;
    char beside[80];
    snprintf(beside, sizeof beside, "map:incr %.0f, Lua table %.0f ns, of %d keys", ns[0], ns[1],
             KEYS);
    mj_bench_report(b, "state_incr_vs_lua_table", ns[0] / ns[1], "x", beside, MJ_GOAL_NONE, 0);
}

/* CPU time, so that what else the machine does is no pause; the best of a few, for the same reason.
 */
static void bench_pause(struct mj_bench *b)
{
    double ours = INFINITY, theirs = INFINITY;
    int keys = b->seconds < 0.1 ? 10000 : 1000000;
    for (int round = 0; round < mj_bench_rounds(b, 3); round++) {
        for (int table = 0; table < 2; table++) {
            static const char *const gauge = "bench_worst";
            MJ_AUTO_BUF source = {0};
            double worst;
            mj_buf_printf(&source,
                          "local m, t = jet.map('m', { max = 1e8 }), {}\n"
                          "local worst, clock = jet.gauge 'bench_worst', os.clock\n"
                          "jet.from '*':tap(function()\n"
                          "  local longest = 0\n"
                          "  for i = 1, %d do\n"
                          "    local key = 'did:plc:' .. ('%%024d'):format(i * 7919)\n"
                          "    local s = clock()\n"
                          "    %s\n"
                          "    longest = math.max(longest, clock() - s)\n"
                          "  end\n"
                          "  worst:set(longest * 1e3)\n"
                          "end)\n",
                          keys, table ? "t[key] = i" : "m:set(key, i)");
            if (run_once(mj_buf_cstr(&source), &gauge, 1, &worst))
                return;
            double *best = table ? &theirs : &ours;
            *best = fmin(*best, worst);
        }
    }
    char beside[100];
    snprintf(beside, sizeof beside, "the longest of %d inserts; into a Lua table %.3g ms", keys,
             theirs);
    mj_bench_report(b, "state_worst_pause_ms", ours, "ms", beside, MJ_GOAL_AT_MOST, 5);
    mj_bench_report(b, "state_worst_pause_vs_lua_table", theirs / ours, "x", "", MJ_GOAL_NONE, 0);
}

/* ---- in filters ---- */

struct side {
    struct mj_classes classes;
    struct mj_class *class;
};

static void side_init(struct side *s, struct mj_journal *j, struct mj_filter *f)
{
    mj_classes_init(&s->classes, j);
    s->class = mj_class_get(&s->classes, MJ_STREAM_MAIN, MJ_CODEC_TEXT, f);
    mj_class_index(&s->classes, s->class);
    s->class->live_count = 1;
}

static void side_deinit(struct side *s)
{
    mj_class_unref(&s->classes, s->class);
    mj_classes_deinit(&s->classes);
}

static uint64_t pass(struct side *s, const struct mj_run *run)
{
    uint64_t matches = 0;
    for (size_t i = 0; i < run->count;) {
        struct mj_run r = *run;
        r.entries += i;
        r.count = run->count - i < ROUND_LIVE ? run->count - i : ROUND_LIVE;
        r.data += i ? run->entries[i - 1].end - run->start : 0;
        r.start = i ? run->entries[i - 1].end : run->start;
        i += mj_classes_match(&s->classes, &r, r.count);
        matches += s->classes.hit_count;
        mj_classes_done(&s->classes);
    }
    return matches;
}

static double measure(const struct mj_bench *b, struct side *s, const struct mj_run *run)
{
    uint64_t n = 0;
    int64_t start = mj_bench_cpu_ns(), spent;
    do {
        pass(s, run);
        n += run->count;
    } while ((spent = mj_bench_cpu_ns() - start) < mj_bench_round(b));
    return (double)spent / (double)n;
}

static bool publish_events(const struct mj_bench *b, struct mj_journal *j)
{
    struct mj_bench_events e = {0};
    mj_bench_events_collect(b, &e);
    bool ok = e.count > 0;
    /* One event in a hundred is of one of the hundred. */
    for (size_t n = 0; n < EVENTS && ok; n++) {
        uint32_t who = (uint32_t)(n % 100 ? MEMBERS + n : n / 100 % DIDS);
        mj_bench_event_did(&e, n, who);
        ok = mj_bench_event_append(j, &e, n, 1) > 0;
    }
    mj_bench_events_deinit(&e);
    return ok && !mj_journal_publish(j, -1, 0);
}

static void bench_sets(struct mj_bench *b)
{
    struct mj_sets *sets = mj_sets_new(NULL, NULL, 0);
    struct mj_set *set = mj_sets_make(sets, "bench");
    struct mj_journal *j = mj_journal_in_memory(64u << 20);
    struct mj_filter *by_set = mj_filter_new(sets), *by_did = mj_filter_new(NULL);
    struct mj_view view;
    struct mj_run run;
    struct side large, small;
    mj_sets_declare(sets, set);
    mj_filter_add_did(by_set, MJ_SPAN("set:bench"));
    for (uint32_t i = 0; i < MEMBERS; i++) {
        char did[MJ_BENCH_DID_LEN + 1];
        mj_bench_did(i, did);
        mj_set_add(set, mj_str(did));
        if (i < DIDS)
            mj_filter_add_did(by_did, mj_str(did));
    }
    side_init(&large, j, by_set);
    side_init(&small, j, by_did);
    bool ok = publish_events(b, j);
    mj_view_init(&view, j);
    if (!ok || !mj_view_run(&view, view.floor, &run) || mj_view_load(&view, &run) ||
        pass(&large, &run) != pass(&small, &run)) {
        fprintf(stderr, "moonjet bench: state: the set matches something else than the DIDs\n");
    } else {
        double ours = INFINITY, theirs = INFINITY;
        char beside[100];
        for (int round = 0; round < MJ_BENCH_ROUNDS; round++) {
            ours = fmin(ours, measure(b, &large, &run));
            theirs = fmin(theirs, measure(b, &small, &run));
        }
        snprintf(beside, sizeof beside, "a set of %d %.0f, %d DIDs %.0f ns an event", MEMBERS, ours,
                 DIDS, theirs);
        mj_bench_report(b, "state_set_filter_vs_dids", ours / theirs, "x", beside, MJ_GOAL_AT_MOST,
                        2);
    }
    side_deinit(&large);
    side_deinit(&small);
    mj_view_deinit(&view);
    mj_journal_close(j);
    mj_set_unref(set);
    mj_sets_free(sets);
}

void mj_bench_state(struct mj_bench *b)
{
    bench_incr(b);
    bench_pause(b);
    bench_sets(b);
}
