/* why, of a running router: POST /ctl/why with {"args":["at://…"]}.
 *
 *   router's thread          a thread of its own           router's thread
 *   parse, start  ─────────▶ search the journal ── wake ──▶ rings, graphs, readers: report, answer
 */
#include <pthread.h>

#include "base/err.h"
#include "cli/run.h"
#include "cli/why.h"

#define SEARCHES_MAX 4 /* at a time: each reads the whole journal */

struct search {
    struct search *next; /* owned by the list */
    struct run *run;     /* borrowed */
    struct mj_call *call;
    struct why_target target;
    struct why_found found;
    pthread_t thread;
    _Atomic bool stop, done;
};

struct run_why {
    struct mj_why *ring, *lanes; /* owned */
    struct search *searches;     /* owned list */
};

void run_open_why(struct run *run, size_t bytes)
{
    run->why = mj_calloc(1, sizeof *run->why);
    if (!bytes)
        return;
    run->why->ring = mj_why_new(bytes, false);
    run->why->lanes = mj_why_new(bytes / 4, true);
    mj_router_set_why(run->router, run->why->ring);
}

struct mj_why *run_lanes_why(struct run *run) { return run->why ? run->why->lanes : NULL; }

static void *search_main(void *arg)
{
    struct search *s = arg;
    why_search(s->run->journal, &s->target, &s->stop, &s->found);
    if (s->run->readers)
        why_deliveries(s->run->readers, &s->target, &s->stop, &s->found);
    atomic_store(&s->done, true);
    mj_loop_wake(s->run->loop);
    return NULL;
}

static void free_search(struct search *s)
{
    why_found_deinit(&s->found);
    why_target_deinit(&s->target);
    free(s);
}

void run_why_command(struct run *run, struct run_args *args, struct mj_call *call)
{
    MJ_AUTO_BUF given = {0};
    MJ_AUTO_BUF error = {0};
    size_t running = 0;
    for (const struct search *s = run->why->searches; s; s = s->next)
        running++;
    if (running >= SEARCHES_MAX) {
        mj_call_fail(call, 503, "%d others are asking already; ask again in a moment",
                     SEARCHES_MAX);
        return;
    }
    struct search *s = mj_calloc(1, sizeof *s);
    s->run = run;
    s->call = call;
    if (!run_next_arg(args, &given) || why_target_parse(mj_buf_cstr(&given), &s->target, &error)) {
        mj_call_fail(call, 400, "%s",
                     error.len ? mj_buf_cstr(&error) : "why wants at://… or a DID");
        free_search(s);
        return;
    }
    if (pthread_create(&s->thread, NULL, search_main, s)) {
        mj_call_fail(call, 503, "the system has no thread for it");
        free_search(s);
        return;
    }
    s->next = run->why->searches;
    run->why->searches = s;
}

static const char *stream_name(void *ctx, unsigned bit)
{
    const struct run *run = ctx;
    for (size_t i = 0; i < mj_streams_count(run->streams); i++)
        if (mj_streams_bit(run->streams, i) == bit)
            return mj_streams_name(run->streams, i);
    return NULL;
}

static const char *source_url(void *ctx, int number)
{
    const struct run *run = ctx;
    for (size_t i = 0; i < run->source_count; i++)
        if (run->sources[i].number == number)
            return run->sources[i].url;
    return NULL;
}

struct graphs {
    struct why_graph *v; /* owned */
    size_t n;
    bool lane;
};

static void add_graphs(void *ctx, struct mj_scripts *scripts)
{
    struct graphs *g = ctx;
    size_t n = mj_scripts_count(scripts);
    g->v = mj_realloc(g->v, (g->n + n + 1) * sizeof *g->v);
    for (size_t i = 0; i < n; i++)
        g->v[g->n++] = (struct why_graph){mj_scripts_graph(scripts, i), g->lane};
}

static void report(struct run *run, struct search *s)
{
    MJ_AUTO_BUF json = {0};
    struct graphs graphs = {0};
    add_graphs(&graphs, run->scripts);
    graphs.lane = true;
    run_each_lane(run, add_graphs, &graphs);
    const struct why_world world = {.target = &s->target,
                                    .found = &s->found,
                                    .rings = {run->why->ring, run->why->lanes},
                                    .graphs = graphs.v,
                                    .graph_count = graphs.n,
                                    .running = true,
                                    .stream = stream_name,
                                    .source = source_url,
                                    .ctx = run};
    why_report(&world, &json);
    mj_call_answer(s->call, 200, (struct mj_span){NULL, 0}, mj_buf_span(&json));
    free(graphs.v);
}

void run_why_answers(struct run *run)
{
    for (struct search **at = &run->why->searches, *s; (s = *at);) {
        if (!atomic_load(&s->done)) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        pthread_join(s->thread, NULL);
        report(run, s);
        free_search(s);
    }
}

void run_stop_why(struct run *run)
{
    for (struct search *s; run->why && (s = run->why->searches);) {
        run->why->searches = s->next;
        atomic_store(&s->stop, true);
        pthread_join(s->thread, NULL);
        mj_call_fail(s->call, 503, "moonjet is ending");
        free_search(s);
    }
}

void run_free_why(struct run *run)
{
    if (!run->why)
        return;
    mj_why_free(run->why->ring);
    mj_why_free(run->why->lanes);
    free(run->why);
    run->why = NULL;
}
