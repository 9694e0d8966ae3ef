/* Scripts with lane = "own": each in a thread of its own, with a set of scripts, a net and timers
 * of its own, so that nothing here needs a lock.
 *
 *   router's thread ── copies of events ──▶ lane's thread: its script's flows and tasks
 *                   ◀── what leaves them ──
 *
 * What a script remembers belongs to one thread at a time. So a lane is not swapped for the next
 * as a graph is: the new file is tried first, then the old lane works off what it has been given
 * (for a second at most, with lag "wait" for ten), ends, and the new one begins where it ended. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "cli/run.h"
#include "script/life.h"

#define WORK_OFF_US INT64_C(1000000)  /* for the events a lane still has */
#define NONE_LOST   INT64_C(10000000) /* … when nobody would read them again, and all may wait */
#define STOP_US     INT64_C(1000000)  /* for what its script does at the end */

struct run_lane {
    struct run_lane *next;      /* owned by the list */
    struct run *run;            /* borrowed */
    char *path;                 /* owned */
    bool waits;                 /* lag "wait" */
    uint64_t terms;             /* of terms() when it began */
    char label[256];            /* the script's, in metrics */
    struct mj_lane *lane;       /* owned */
    struct mj_scripts *scripts; /* owned: the one script; the lane's thread's once it runs */
    struct mj_net *net;         /* owned */
    struct mj_services services;
};

/* ---- on the lane's thread ---- */

static int64_t run_tasks(void *ctx, int64_t budget_us)
{
    return mj_scripts_run(((struct run_lane *)ctx)->scripts, budget_us);
}

static void wake_router(void *ctx) { mj_loop_wake(((struct run_lane *)ctx)->run->loop); }

static void wake_lane(void *ctx) { mj_lane_wake(((struct run_lane *)ctx)->lane); }

static void deliver(void *ctx)
{
    struct run_lane *l = ctx;
    mj_net_deliver(l->net, l->scripts);
}

static void fetch(void *ctx, uint64_t ticket, const struct mj_fetch *request)
{
    mj_net_fetch(((struct run_lane *)ctx)->net, ticket, request);
}

/* The server asks the router's scripts only. */
static void routes(void *ctx, const char *const *texts, size_t n)
{
    const struct run_lane *l = ctx;
    for (size_t i = 0; i < n; i++)
        mj_log(MJ_LOG_WARN, "lane",
               "%s serves '%s', but a script in a lane of its own gets no requests; take lane = "
               "\"own\" away, or serve it in another script",
               l->path, texts[i]);
}

static void resolve(void *ctx, uint64_t ticket, struct mj_span who, enum mj_resolve how)
{
    mj_net_resolve(((struct run_lane *)ctx)->net, ticket, who, how);
}

static void *hook_open(void *ctx, struct mj_reader *reader, const struct mj_hook_spec *spec)
{
    return mj_net_hook_open(((struct run_lane *)ctx)->net, reader, spec);
}

static void hook_close(void *ctx, void *hook)
{
    if (((const struct run_lane *)ctx)->net) /* otherwise it went with the net */
        mj_hook_close(hook);
}

/* ---- on the net's ---- */

static void on_answers(void *ctx)
{
    struct run_lane *l = ctx;
    mj_lane_post(l->lane, deliver, l);
}

/* ---- on the router's ---- */

/* Lets the lane work off what it has, and runs what the script does at the end. When the process
 * goes on, what it has no time for is lost; otherwise it is read again at the next start. */
static void stop_lane(struct run_lane *l, bool goes_on)
{
    mj_lane_end(l->lane, goes_on && l->waits ? NONE_LOST : WORK_OFF_US);
    int64_t end = mj_mono_us() + STOP_US;
    while (l->scripts && !mj_scripts_stop(l->scripts, STOP_US) && mj_mono_us() < end) {
        if (l->net)
            mj_net_deliver(l->net, l->scripts);
        mj_scripts_run(l->scripts, 10000);
        poll(NULL, 0, 1);
    }
}

/* After stop_lane(), so that its thread uses the net no more. The net goes first: until it has
 * ended, its thread posts answers to the lane, and the requests that it gives up are answers, too.
 */
static void free_lane(struct run_lane *l)
{
    mj_net_drain(l->net, STOP_US);
    mj_net_stop(l->net);
    l->net = NULL;
    mj_lane_free(l->lane, 0);
    mj_scripts_free(l->scripts);
    free(l->path);
    free(l);
}

static void end_lane(struct run_lane *l)
{
    stop_lane(l, true);
    free_lane(l);
}

static struct run_lane **find(struct run *run, const char *path)
{
    struct run_lane **at = &run->lanes;
    while (*at && strcmp((*at)->path, path) != 0)
        at = &(*at)->next;
    return at;
}

/* What a lane is given at its start, beside its script: tells two configurations apart. */
static uint64_t terms(const struct mj_config_script *s)
{
    MJ_AUTO_BUF b = {0};
    mj_buf_putc(&b, s->lag == MJ_LAG_WAIT ? 'w' : 's');
    for (size_t i = 0; i < s->http_allow.n; i++)
        mj_buf_put(&b, s->http_allow.v[i], strlen(s->http_allow.v[i]) + 1);
    return mj_hash(mj_buf_span(&b));
}

/* `old`, stopped, is what the new lane takes the place of, or NULL. */
static int start_lane(struct run *run, const struct mj_config_script *s, unsigned quarantines,
                      bool out, const struct run_lane *old, struct mj_buf *error)
{
    const char *slash = strrchr(s->path, '/'), *name = slash ? slash + 1 : s->path;
    struct run_lane *l = mj_calloc(1, sizeof *l);
    *l = (struct run_lane){
        .run = run, .path = mj_strdup(s->path), .waits = s->lag == MJ_LAG_WAIT, .terms = terms(s)};
    mj_metric_label(mj_str(name), l->label, sizeof l->label);
    const struct mj_lane_cfg lane = {
        .script = name, .lag = s->lag, .wake = wake_router, .run = run_tasks, .ctx = l};
    l->lane = mj_lane_new(&lane);
    mj_router_set_streams(mj_lane_router(l->lane), run->streams);
    mj_router_set_why(mj_lane_router(l->lane), run_lanes_why(run));
    l->scripts = mj_scripts_new(mj_lane_router(l->lane));
    l->services = (struct mj_services){.ctx = l,
                                       .fetch = fetch,
                                       .resolve = resolve,
                                       .routes = routes,
                                       .wake = wake_lane,
                                       .notify = wake_lane,
                                       .hook_check = run_hook_check,
                                       .hook_open = hook_open,
                                       .hook_close = hook_close};
    mj_scripts_set_services(l->scripts, &l->services);
    mj_scripts_set_store(l->scripts, run->store);
    mj_scripts_on_stuck(l->scripts, run_restart, NULL);
    int err = run_start_net(&run->settings->cfg, run->journal, on_answers, l, &l->net) ? MJ_EIO : 0;
    if (!err)
        err = mj_net_allow(l->net, name, s->http_allow.v, s->http_allow.n, error);
    if (!err)
        err = mj_scripts_load(l->scripts, s->path, &s->cfg, error);
    if (!err && quarantines)
        mj_scripts_quarantine(l->scripts, 0, out ? 0 : quarantines);
    if (!err)
        err = mj_lane_swap(run->router,
                           old ? (struct mj_graph *)mj_scripts_graph(old->scripts, 0) : NULL,
                           l->lane, error);
    if (err) {
        end_lane(l);
        return err;
    }
    struct run_lane **last = &run->lanes;
    while (*last)
        last = &(*last)->next;
    *last = l;
    return 0;
}

int run_load_lanes(struct run *run, const struct mj_config *config, const struct run_notes *notes)
{
    for (size_t i = 0; i < config->script_count; i++) {
        const struct mj_config_script *s = config->scripts[i];
        MJ_AUTO_BUF error = {0};
        unsigned n;
        bool out;
        if (s->lane != MJ_LANE_OWN || !run_was_harmless(notes, s->path, &n, &out))
            continue;
        if (start_lane(run, s, n, out, NULL, &error)) {
            fprintf(stderr, "moonjet run: %s\n", mj_buf_cstr(&error));
            return MJ_EXIT_FAILED;
        }
    }
    return 0;
}

static const struct mj_config_script *wanted(const struct mj_config *config, const char *path)
{
    for (size_t i = 0; i < config->script_count; i++)
        if (config->scripts[i]->lane == MJ_LANE_OWN && !strcmp(config->scripts[i]->path, path))
            return config->scripts[i];
    return NULL;
}

void run_drop_lanes(struct run *run, const struct mj_config *config, struct mj_buf *report)
{
    for (struct run_lane **at = &run->lanes, *l; (l = *at);) {
        if (wanted(config, l->path)) {
            at = &l->next;
            continue;
        }
        mj_buf_printf(report, "%s: its lane has ended\n", l->path);
        *at = l->next;
        end_lane(l);
    }
}

/* Would the script load, and run in the place of the one that does? Tried beside that one. */
static int try_script(struct run *run, const struct mj_config_script *s, const struct run_lane *old,
                      struct mj_buf *error)
{
    struct mj_scripts *scripts = mj_scripts_new(NULL);
    int err = mj_scripts_load(scripts, s->path, &s->cfg, error);
    if (!err)
        err = mj_lane_check(run->router, mj_scripts_graph(old->scripts, 0),
                            (struct mj_graph *)mj_scripts_graph(scripts, 0), error);
    mj_scripts_free(scripts);
    return err;
}

static int replace_lane(struct run *run, const struct mj_config_script *s, struct mj_buf *report)
{
    MJ_AUTO_BUF error = {0};
    struct run_lane **at = find(run, s->path), *old = *at;
    int err = old ? try_script(run, s, old, &error) : 0;
    bool ended = !err && old;
    if (ended) {
        *at = old->next;
        stop_lane(old, true);
    }
    if (!err)
        err = start_lane(run, s, 0, false, old, &error);
    if (ended)
        free_lane(old);
    if (err)
        mj_buf_printf(report, "%s; %s\n", mj_buf_cstr(&error),
                      ended || !old ? "it does not run" : "the running one goes on");
    else
        mj_buf_printf(report, "%s: %s in its lane\n", s->path, old ? "reloaded" : "added");
    return err;
}

/* The lane's thread has the rest; metrics may be read by anybody. */
static int64_t metric(const struct run_lane *l, const char *family)
{
    return mj_metric_get(mj_metric(family, MJ_GAUGE, "", "script=\"%s\"", l->label));
}

int run_reload_lanes(struct run *run, const struct mj_config *config, bool all,
                     const struct mj_strings *only, struct mj_buf *report)
{
    int failed = 0;
    for (size_t i = 0; i < config->script_count; i++) {
        const struct mj_config_script *s = config->scripts[i];
        const struct run_lane *l = *find(run, s->path);
        if (s->lane != MJ_LANE_OWN)
            continue;
        bool meant = !only || !only->n || run_is_named(only, s->path);
        bool out = l && !run->watch_asked && metric(l, "moonjet_script_state") == MJ_LIFE_OUT;
        if (!l || (meant && (all || out || l->terms != terms(s) ||
                             mj_scripts_changed(l->scripts, 0, &s->cfg)))) {
            int err = replace_lane(run, s, report);
            failed = failed ? failed : err;
        }
    }
    return failed;
}

void run_stop_lanes(struct run *run)
{
    bool again = false;
    while (run->lanes) {
        struct run_lane *l = run->lanes;
        run->lanes = l->next;
        stop_lane(l, false);
        again |= mj_lane_gave_up(l->lane);
        free_lane(l);
    }
    if (again) {
        mj_log(MJ_LOG_WARN, "lane", "what is dropped at the end is read again at the next start");
        mj_router_hold(run->router);
    }
    if (run->router)
        mj_router_flush(run->router, -1, 0); /* what they made at the end */
}

void run_list_lanes(struct run *run, bool first, struct mj_buf *json)
{
    for (struct run_lane *l = run->lanes; l; l = l->next, first = false) {
        int64_t state = metric(l, "moonjet_script_state");
        const struct mj_graph *g = mj_scripts_graph(l->scripts, 0);
        mj_buf_puts(json, first ? "{\"script\":" : ",{\"script\":");
        mj_buf_put_json(json, mj_str(g->script));
        mj_buf_printf(json,
                      ",\"state\":\"%s\",\"strikes\":%" PRId64 ",\"heap_bytes\":%" PRId64
                      ",\"nodes\":%zu,\"lane\":\"own\",\"path\":",
                      mj_life_name((enum mj_life_state)state),
                      metric(l, "moonjet_script_strikes_total"),
                      metric(l, "moonjet_script_heap_bytes"), g->count);
        mj_buf_put_json(json, mj_str(l->path));
        mj_buf_putc(json, '}');
    }
}

void run_each_lane(struct run *run, void (*fn)(void *ctx, struct mj_scripts *scripts), void *ctx)
{
    for (struct run_lane *l = run->lanes; l; l = l->next)
        fn(ctx, l->scripts);
}
