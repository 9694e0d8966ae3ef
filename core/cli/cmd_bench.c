#include <math.h>
#include <stdio.h>
#include <time.h>

#include "base/err.h"
#include "base/log.h"
#include "cli/bench.h"
#include "cli/commands.h"

static const struct {
    const char *name;
    void (*run)(struct mj_bench *b);
    const char *what;
} cases[] = {
    {"decode", mj_bench_decode, "frames to JSON beside libcbor + cJSON"},
    {"from_json", mj_bench_from_json, "JSON lines to events beside cJSON"},
    {"route", mj_bench_route, "router, script and append from memory"},
    {"flow", mj_bench_flow, "twenty scripts, edits, dedupe and limit"},
    {"reload", mj_bench_reload, "a thousand reloads under load"},
    {"pause", mj_bench_pause, "the router's worst pause, ten times --seconds"},
    {"tasks", mj_bench_tasks, "an event through a task beside one through a function"},
    {"feed", mj_bench_feed, "the same fed over loopback by `moonjet replay`"},
    {"append", mj_bench_append, "the journal beside a bare loop of writes"},
    {"seal", mj_bench_seal, "what sealing saves, and reading sealed events"},
    {"start", mj_bench_start, "opening a journal of 40 million events"},
    {"reader", mj_bench_reader, "durable readers: taking, a thousand of them, a million waiting"},
    {"fanout", mj_bench_fanout, "1,000 subscribers live, ten times --seconds"},
    {"zstd", mj_bench_zstd, "the same, compressed beside plain"},
    {"replay", mj_bench_replay, "1, 100 and 1,000 subscribers catching up, and filtered ones"},
    {"match", mj_bench_match, "1,000 filters at once beside each by itself"},
    {"words", mj_bench_words, "10,000 words over posts; 1,000 match tables beside 10"},
    {"state", mj_bench_state, "maps beside Lua tables; a large set beside a few DIDs"},
    {"specs", mj_bench_specs, "a test of a spec beside loading its script"},
    {"http", mj_bench_http, "requests of scripts beside bare sockets, and their routes"},
    {"webhook", mj_bench_webhook,
     "webhooks beside a bare loop of POSTs; 1,000 endpoints; an outage"},
    {"memory", mj_bench_memory, "what idle, stalled and active subscribers take"},
    {"connects", mj_bench_connects, "subscribers coming and going beside bare handshakes"},
    {"resident", mj_bench_resident, "memory of an idle `moonjet run`"},
    {"instructions", mj_bench_instructions, "a fixed number of passes, for callgrind"},
};

struct bench_cfg {
    const char *frames;
    const char *seconds;
    const char *dictionary;
    bool json;
};

static const struct mj_option options[] = {
    {"frames", MJ_OPT_STR, offsetof(struct bench_cfg, frames), "FILE",
     "capture to measure on, plain or zstd; without one frames are simulated"},
    {"seconds", MJ_OPT_STR, offsetof(struct bench_cfg, seconds), "N",
     "time for each measurement; more is steadier", .def = "1"},
    {"dictionary", MJ_OPT_STR, offsetof(struct bench_cfg, dictionary), "FILE",
     "zstd dictionary; without one Jetstream's, from beside the frames or as installed"},
    {"json", MJ_OPT_FLAG, offsetof(struct bench_cfg, json), NULL, "one JSON object on stdout"},
    {0}};

static int64_t clock_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t mj_bench_cpu_ns(void) { return clock_ns(CLOCK_THREAD_CPUTIME_ID); }
int64_t mj_bench_wall_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

void mj_bench_report(struct mj_bench *b, const char *key, double value, const char *unit,
                     const char *yardstick, enum mj_bench_goal sense, double goal)
{
    bool met = sense == MJ_GOAL_NONE || (sense == MJ_GOAL_AT_LEAST ? value >= goal : value <= goal);
    b->missed += !met;
    mj_buf_printf(&b->out, "%s\"%s\":%.6g", b->out.len ? "," : "", key, value);
    if (b->json)
        return;
    char text[40], limit[48] = "";
    snprintf(text, sizeof text, fabs(value) >= 1000 ? "%'.0f" : "%.3g", value);
    if (sense != MJ_GOAL_NONE)
        snprintf(limit, sizeof limit, fabs(goal) >= 1000 ? "%s %.0f" : "%s %.3g",
                 sense == MJ_GOAL_AT_LEAST ? ">=" : "<=", goal);
    printf("%-42s %14s %-12s %-14s %-7s %s\n", key, text, unit, limit,
           sense == MJ_GOAL_NONE ? "" : (met ? "met" : "MISSED"), yardstick);
    fflush(stdout);
}

static int bench_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct bench_cfg cfg = {0};
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    char *end;
    double seconds = strtod(cfg.seconds, &end);
    if (*end || !(seconds > 0 && seconds <= 600)) {
        fprintf(stderr, "moonjet bench: --seconds %s: expected a number above 0, up to 600\n",
                cfg.seconds);
        return MJ_EXIT_USAGE;
    }
    for (size_t i = 0; i < pos.n; i++) {
        size_t k = 0;
        while (k < MJ_COUNT(cases) && strcmp(cases[k].name, pos.v[i]))
            k++;
        if (k == MJ_COUNT(cases)) {
            fprintf(stderr, "moonjet bench: no case '%s'; there are:\n", pos.v[i]);
            for (k = 0; k < MJ_COUNT(cases); k++)
                fprintf(stderr, "  %-10s %s\n", cases[k].name, cases[k].what);
            return MJ_EXIT_USAGE;
        }
    }
    struct mj_bench_frames in = {0};
    if (mj_bench_load(cfg.frames, &in))
        return MJ_EXIT_FAILED;
    /* What the cases route is noise here; their figures are on stdout. */
    mj_log_setup(MJ_LOG_WARN, false);
    struct mj_bench b = {.in = &in,
                         .seconds = seconds,
                         .json = cfg.json,
                         .dictionary = cfg.dictionary && *cfg.dictionary ? cfg.dictionary : NULL};
    if (!cfg.json)
        printf("%zu frames, %zu events, %zu bytes (%s)\n%-42s %14s %-12s %-14s %-7s %s\n", in.count,
               in.events, in.bytes.len, cfg.frames ? cfg.frames : "simulated", "figure", "value",
               "unit", "goal", "", "beside");
    for (size_t k = 0; k < MJ_COUNT(cases); k++) {
        bool wanted = pos.n == 0 && cases[k].run != mj_bench_instructions;
        for (size_t i = 0; i < pos.n; i++)
            wanted = wanted || strcmp(cases[k].name, pos.v[i]) == 0;
        if (wanted)
            cases[k].run(&b);
    }
    if (cfg.json)
        printf("{%.*s}\n", (int)b.out.len, (const char *)b.out.ptr);
    else if (b.missed)
        printf("%u goal%s missed\n", b.missed, b.missed == 1 ? "" : "s");
    mj_buf_deinit(&b.out);
    mj_bench_unload(&in);
    return MJ_EXIT_OK;
}

const struct mj_command mj_cmd_bench = {
    .name = "bench",
    .usage = "[NAME…]",
    .summary = "Measure this build, each figure beside a yardstick.",
    .details =
        "Cases: decode, from_json, route, flow, reload, pause, tasks, feed, append, seal, start,\n"
        "reader, fanout, zstd, replay, match, words, state, specs, http, webhook, memory,\n"
        "connects, resident. A missed goal is printed, not an error: machines differ; compare "
        "ratios.",
    .options = options,
    .positional_max = 16,
    .main = bench_main,
};
