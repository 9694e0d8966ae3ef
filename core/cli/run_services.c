/* What scripts of a running moonjet get from the rest of it: HTTP and look-ups from the net thread,
 * and routes on the stream's listener. */
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"
#include "cli/run.h"

#define DRAIN_US INT64_C(3000000) /* for what webhooks have in the air at the end */

static void fetch(void *ctx, uint64_t ticket, const struct mj_fetch *request)
{
    mj_net_fetch(((struct run *)ctx)->net, ticket, request);
}

static void resolve(void *ctx, uint64_t ticket, struct mj_span who, enum mj_resolve how)
{
    mj_net_resolve(((struct run *)ctx)->net, ticket, who, how);
}

static void routes(void *ctx, const char *const *texts, size_t n)
{
    mj_routes_set(((struct run *)ctx)->routes, texts, n);
}

int run_hook_check(void *ctx, const struct mj_hook_spec *spec, struct mj_buf *error)
{
    (void)ctx;
    return mj_hook_check(spec, error);
}

static void *hook_open(void *ctx, struct mj_reader *reader, const struct mj_hook_spec *spec)
{
    const struct run *run = ctx;
    return run->net ? mj_net_hook_open(run->net, reader, spec) : NULL;
}

static void hook_close(void *ctx, void *hook)
{
    if (((const struct run *)ctx)->net) /* otherwise it went with the net */
        mj_hook_close(hook);
}

/* The loop comes back to the scripts by itself; a timer of no time will do. */
static void wake(void *ctx)
{
    struct run *run = ctx;
    if (run->tasks)
        mj_timer_set(run->tasks, 0);
}

static void wake_loop(void *ctx) { mj_loop_wake(((struct run *)ctx)->loop); }

int run_start_net(const struct run_cfg *cfg, struct mj_journal *journal, void (*fn)(void *ctx),
                  void *ctx, struct mj_net **out)
{
    MJ_AUTO_BUF error = {0};
    struct mj_net_cfg net = {.allow = cfg->http_allow.v,
                             .allow_count = cfg->http_allow.n,
                             .plc = cfg->plc,
                             .dns = cfg->dns,
                             .journal = journal,
                             .wake = fn,
                             .ctx = ctx};
    if (!mj_net_start(&net, out, &error))
        return 0;
    fprintf(stderr, "moonjet run: %s\n", error.len ? mj_buf_cstr(&error) : "no thread for HTTP");
    return MJ_EXIT_FAILED;
}

int run_start_services(struct run *run)
{
    const struct run_settings *s = run->settings;
    run->routes = mj_routes_new();
    run->services =
        (struct mj_services){.ctx = run, .routes = routes, .wake = wake, .notify = wake_loop};
    /* A plain Jetstream server needs no client; a configuration file may name scripts later. */
    if (s->file.script_count || s->path) {
        int status = run_start_net(&s->cfg, run->journal, wake_loop, run, &run->net);
        if (status)
            return status;
        run->services.fetch = fetch;
        run->services.resolve = resolve;
        run->services.hook_check = run_hook_check;
        run->services.hook_open = hook_open;
        run->services.hook_close = hook_close;
    }
    mj_scripts_set_services(run->scripts, &run->services);
    return 0;
}

void run_stop_net(struct run *run)
{
    mj_net_drain(run->net, DRAIN_US);
    mj_net_stop(run->net);
    run->net = NULL;
}

int run_check_allow(const struct mj_strings *allow, struct mj_buf *error)
{
    struct mj_reach *r = mj_reach_new();
    int err = 0;
    for (size_t i = 0; !err && i < allow->n; i++)
        err = mj_reach_allow(r, allow->v[i], error);
    mj_reach_free(r);
    return err;
}

int run_allow(struct mj_net *net, const struct mj_config *config, struct mj_buf *error)
{
    /* All of them, before anything changes. */
    for (size_t i = 0; i < config->script_count; i++) {
        const struct mj_config_script *s = config->scripts[i];
        MJ_AUTO_BUF why = {0};
        if (run_check_allow(&s->http_allow, &why)) {
            mj_buf_printf(error, "%s: http_allow: %s", s->path, mj_buf_cstr(&why));
            return MJ_ESYNTAX;
        }
    }
    for (size_t i = 0; net && i < config->script_count; i++) {
        const struct mj_config_script *s = config->scripts[i];
        const char *slash = strrchr(s->path, '/');
        int err =
            mj_net_allow(net, slash ? slash + 1 : s->path, s->http_allow.v, s->http_allow.n, error);
        if (err)
            return err;
    }
    return 0;
}
