/* Tasks: what an event through a task costs beside one through a function. */
#include <stdio.h>

#include "cli/bench.h"
#include "cli/bench_script.h"
#include "journal/reader.h"

#define FLUSH_EVERY 64
#define KEPT        ((size_t)16 << 20) /* bytes of the journal: more than a flush */

static const char tap[] = "jet.from '*':tap(function(ev) local x = ev.did end)\n";
static const char each[] =
    "jet.from '*':each(function(ev) local x = ev.did end, { queue = 100000 })\n";

static double ns_per_event(struct mj_bench_route *bed, const struct mj_bench_frames *in,
                           int64_t budget)
{
    size_t events = 0;
    int64_t start = mj_bench_cpu_ns(), spent;
    do {
        for (size_t i = 0; i < in->count; i++) {
            struct mj_frame frame;
            mj_router_frame(bed->router, in->frames[i], &frame);
            events += frame.events;
            if (i % FLUSH_EVERY == FLUSH_EVERY - 1) {
                mj_router_flush(bed->router, -1, 0);
                mj_scripts_run(bed->scripts, 1000000);
            }
        }
        mj_router_flush(bed->router, -1, 0);
        mj_scripts_run(bed->scripts, 1000000);
    } while ((spent = mj_bench_cpu_ns() - start) < budget);
    return (double)spent / (double)events;
}

/* The same script, with its events in memory and in the journal. */
void mj_bench_tasks(struct mj_bench *b)
{
    enum { NONE, FUNCTION, MEMORY, JOURNAL, BEDS };
    struct mj_bench_route beds[BEDS] = {{0}};
    double ns[BEDS];
    for (int i = 0; i < BEDS; i++) {
        mj_bench_route_init(&beds[i], KEPT);
        ns[i] = 1e12;
    }
    const struct mj_readers_cfg cfg = {.journal = beds[JOURNAL].journal};
    struct mj_readers *readers = mj_readers_new(&cfg);
    mj_router_set_readers(beds[JOURNAL].router, readers);
    if (mj_bench_script(beds[FUNCTION].scripts, mj_str(tap), NULL, NULL) ||
        mj_bench_script(beds[MEMORY].scripts, mj_str(each), NULL, NULL) ||
        mj_bench_script(beds[JOURNAL].scripts, mj_str(each), NULL, NULL))
        goto out;
    for (int round = 0; round < MJ_BENCH_ROUNDS; round++)
        for (int i = 0; i < BEDS; i++) {
            double took = ns_per_event(&beds[i], b->in, mj_bench_round(b));
            ns[i] = took < ns[i] ? took : ns[i];
        }
    char text[96];
    snprintf(text, sizeof text, "through a function: %.0f ns", ns[FUNCTION] - ns[NONE]);
    mj_bench_report(b, "each_ns_per_event", ns[MEMORY] - ns[NONE], "ns", text, MJ_GOAL_NONE, 0);
    snprintf(text, sizeof text, "%.1f times as much as from memory",
             (ns[JOURNAL] - ns[NONE]) / (ns[MEMORY] - ns[NONE]));
    mj_bench_report(b, "each_durable_ns_per_event", ns[JOURNAL] - ns[NONE], "ns", text,
                    MJ_GOAL_NONE, 0);
out:
    /* The scripts own readers, and the readers look at the journal. */
    mj_router_free(beds[JOURNAL].router);
    mj_scripts_free(beds[JOURNAL].scripts);
    beds[JOURNAL].router = NULL;
    beds[JOURNAL].scripts = NULL;
    mj_readers_free(readers);
    for (int i = 0; i < BEDS; i++)
        mj_bench_route_deinit(&beds[i]);
}
