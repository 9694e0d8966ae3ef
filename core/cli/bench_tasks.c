/* Tasks: how long the router is ever kept, at 5,000 events a second with scripts that allocate and
 * a task that never ends; and what an event through a task costs beside one through a function. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "cli/bench.h"
#include "cli/bench_script.h"
#include "journal/reader.h"

#define RATE        5000 /* events a second */
#define TURN_NS     INT64_C(1000000)
#define SLICE_US    1000 /* of tasks after each turn, as `moonjet run` gives them */
#define LATE_NS     INT64_C(5000000)
#define FLUSH_EVERY 64
#define KEPT        ((size_t)16 << 20) /* bytes of the journal: more than a flush */
#define SECONDS     10                 /* times --seconds, for the pause */

/* Keeps some ten thousand texts, makes garbage per event, and has tasks that do the same. */
static const char busy[] = "local last, n = {}, 0\n"
                           "jet.from '*':where(function(ev)\n"
                           "  n = n % 10000 + 1\n"
                           "  last[n] = ev.did .. (ev.uri or '') .. ev.text:lower()\n"
                           "  return false\n"
                           "end):tap(print)\n"
                           "jet.from 'app.bsky.feed.post:create':each(function(ev)\n"
                           "  local record = jet.json.decode(jet.json.encode(ev:table()))\n"
                           "  jet.sleep '5ms'\n"
                           "  last[n + 1] = record.text\n"
                           "end, { workers = 16 })\n";
static const char hungry[] = "jet.spawn(function()\n"
                             "  while true do\n"
                             "    local t = {}\n"
                             "    for i = 1, 100 do t[i] = { i, 'x' .. i } end\n"
                             "  end\n"
                             "end)\n";
static const char tap[] = "jet.from '*':tap(function(ev) local x = ev.did end)\n";
static const char each[] =
    "jet.from '*':each(function(ev) local x = ev.did end, { queue = 100000 })\n";

/* The longest turn by the thread's own clock, which does not run while the machine does something
 * else; by how much a turn was ever longer on the wall; and how many were longer than they may be.
 */
struct pauses {
    int64_t cpu, noise;
    size_t turns, late;
};

/* What a machine takes away below its system (a virtual one's host, interrupts) is on the thread's
 * clock, too. So there are turns that do nothing else for as long as scripts may run. */
static void spin(int64_t us)
{
    int64_t end = mj_bench_cpu_ns() + us * 1000;
    while (mj_bench_cpu_ns() < end)
        ;
}

static void turns(struct mj_bench_route *bed, const struct mj_bench *b, double seconds,
                  struct pauses *out)
{
    const struct mj_bench_frames *in = b->in;
    size_t next = 0, fed = 0;
    int64_t start = mj_bench_wall_ns(), now;
    while ((now = mj_bench_wall_ns()) - start < (int64_t)(seconds * 1e9)) {
        int64_t cpu = mj_bench_cpu_ns();
        size_t due = (size_t)((double)(now - start) * RATE / 1e9);
        /* What the kernel's buffer would hold comes in portions, not at once. */
        for (size_t n = 0; fed < due && n < FLUSH_EVERY; n++) {
            struct mj_frame frame;
            mj_router_frame(bed->router, in->frames[next++ % in->count], &frame);
            fed += frame.events;
        }
        mj_router_flush(bed->router, -1, 0);
        if (mj_scripts_count(bed->scripts))
            mj_scripts_run(bed->scripts, SLICE_US);
        else
            spin(SLICE_US);
        cpu = mj_bench_cpu_ns() - cpu;
        int64_t wall = mj_bench_wall_ns() - now;
        out->cpu = cpu > out->cpu ? cpu : out->cpu;
        out->noise = wall - cpu > out->noise ? wall - cpu : out->noise;
        out->turns++;
        out->late += cpu > LATE_NS;
        struct timespec nap = {.tv_nsec = wall < TURN_NS ? TURN_NS - wall : 0};
        if (nap.tv_nsec)
            nanosleep(&nap, NULL);
    }
}

static void pause_of(struct mj_bench *b)
{
    struct mj_bench_route with = {0}, bare = {0};
    struct pauses p = {0}, beside = {0};
    char text[200];
    mj_bench_route_init(&with, 0);
    mj_bench_route_init(&bare, 0);
    if (mj_bench_script(with.scripts, mj_str(busy), NULL, NULL) ||
        mj_bench_script(with.scripts, mj_str(hungry), NULL, NULL))
        goto out;
    /* Beside each other in time, as what a machine takes away comes and goes. */
    for (double left = b->seconds; left > 0; left--) {
        double part = left < 1 ? left : 1;
        turns(&bare, b, part, &beside);
        turns(&with, b, part * SECONDS, &p);
    }
    snprintf(text, sizeof text,
             "%zu of %zu turns above 5; a busy loop instead of scripts: %.2f ms, %zu of %zu; held "
             "back besides: %.1f ms",
             p.late, p.turns, (double)beside.cpu / 1e6, beside.late, beside.turns,
             (double)(p.noise > beside.noise ? p.noise : beside.noise) / 1e6);
    mj_bench_report(b, "worst_pause_ms", (double)p.cpu / 1e6, "ms", text, MJ_GOAL_AT_MOST, 5);
out:
    mj_bench_route_deinit(&with);
    mj_bench_route_deinit(&bare);
}

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
static void cost_of(struct mj_bench *b)
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

void mj_bench_tasks(struct mj_bench *b)
{
    cost_of(b);
    pause_of(b);
}
