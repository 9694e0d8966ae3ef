/* Frame to JSON on one core, frames hot in cache, beside the obvious way. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/bench.h"
#include "event/decode.h"
#include "event/jetstream.h"

struct sink {
    struct mj_buf json;
    size_t events;
};

static int print_event(void *ctx, struct mj_event *ev)
{
    struct sink *s = ctx;
    s->json.len = 0;
    s->events += mj_jetstream_encode(ev, NULL, &s->json) == 0;
    return 0;
}

/* Not inlined, so that callgrind can be told to count inside it only. */
__attribute__((noinline)) size_t mj_bench_decode_pass(struct mj_decoder *d,
                                                      const struct mj_bench_frames *in,
                                                      struct mj_buf *json)
{
    struct sink s = {.json = *json};
    struct mj_frame frame;
    for (size_t i = 0; i < in->count; i++)
        mj_decode(d, in->frames[i], &frame, print_event, &s);
    *json = s.json;
    return s.events;
}

static size_t libcbor_pass(const struct mj_bench_frames *in)
{
    size_t events = 0;
    for (size_t i = 0; i < in->count; i++)
        events += mj_bench_libcbor_frame(in->frames[i]);
    return events;
}

/* Instructions per event by running this same binary under callgrind; 0 when it is not there. */
static double instructions(struct mj_bench *b)
{
    char command[4096 + 256], self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return 0;
    self[n] = '\0';
    if (strchr(self, '\'') || strchr(b->in->path, '\''))
        return 0; /* would need shell quoting; nobody names a build folder so */
    snprintf(command, sizeof command,
             "valgrind --tool=callgrind --callgrind-out-file=/dev/null "
             "--toggle-collect=mj_bench_decode_pass '%s' bench instructions --seconds 0.001 "
             "--frames '%s' 2>&1",
             self, b->in->path);
    FILE *p = popen(command, "r");
    if (!p)
        return 0;
    char line[512];
    double collected = 0, events = 0;
    while (fgets(line, sizeof line, p)) {
        const char *at = strstr(line, "Collected :");
        if (at)
            collected = strtod(at + 11, NULL);
        if (sscanf(line, "events counted: %lf", &events) == 1)
            continue;
    }
    pclose(p);
    return events > 0 ? collected / events : 0;
}

void mj_bench_instructions(struct mj_bench *b)
{
    struct mj_decoder *d = mj_decoder_new();
    mj_decoder_set_hash(d, false);
    struct mj_buf json = {0};
    size_t events = 0;
    for (int i = 0; i < 20; i++)
        events += mj_bench_decode_pass(d, b->in, &json);
    fprintf(stderr, "events counted: %zu\n", events);
    mj_buf_deinit(&json);
    mj_decoder_free(d);
}

void mj_bench_decode(struct mj_bench *b)
{
    struct mj_decoder *d = mj_decoder_new();
    mj_decoder_set_hash(d, false);
    struct mj_buf json = {0};
    mj_bench_decode_pass(d, b->in, &json);
    libcbor_pass(b->in);
    double ours = 0, theirs = 0;
    uint64_t allocations = 0, events_counted = 0;
    for (int round = 0; round < MJ_BENCH_ROUNDS; round++) {
        uint64_t before = mj_bench_allocations();
        int64_t start = mj_bench_cpu_ns(), spent;
        size_t events = 0;
        do
            events += mj_bench_decode_pass(d, b->in, &json);
        while ((spent = mj_bench_cpu_ns() - start) < mj_bench_round(b));
        allocations += mj_bench_allocations() - before;
        events_counted += events;
        double rate = (double)events * 1e9 / (double)spent;
        ours = rate > ours ? rate : ours;
        start = mj_bench_cpu_ns();
        events = 0;
        do
            events += libcbor_pass(b->in);
        while ((spent = mj_bench_cpu_ns() - start) < mj_bench_round(b));
        rate = (double)events * 1e9 / (double)spent;
        theirs = rate > theirs ? rate : theirs;
    }
    char beside[80];
    snprintf(beside, sizeof beside, "cbor_load + cJSON: %.0f events/s", theirs);
    mj_bench_report(b, "decode_json_events_per_s", ours, "events/s", beside, MJ_GOAL_AT_LEAST, 2e6);
    mj_bench_report(b, "decode_json_vs_libcbor", ours / theirs, "x", beside, MJ_GOAL_AT_LEAST, 20);
    mj_bench_report(b, "decode_json_allocations_per_event",
                    (double)allocations / (double)events_counted, "allocations", "",
                    MJ_GOAL_AT_MOST, 0);
    double count = instructions(b);
    if (count > 0)
        mj_bench_report(b, "decode_json_instructions_per_event", count, "instructions", "callgrind",
                        MJ_GOAL_AT_MOST, 6500);
    else
        fprintf(stderr, "SKIP decode_json_instructions_per_event: valgrind did not run; `make "
                        "setup` installs it\n");
    mj_buf_deinit(&json);
    mj_decoder_free(d);
}
