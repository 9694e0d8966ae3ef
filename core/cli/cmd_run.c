/* moonjet run: sources → router with scripts → journal → server, until a signal. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/dictionary.h"
#include "base/err.h"
#include "base/http.h"
#include "base/log.h"
#include "base/process.h"
#include "cli/commands.h"
#include "cli/control_path.h"
#include "cli/deliveries.h"
#include "cli/run.h"
#include "flow/plugin.h"

#define PLUGINS_END_US INT64_C(6000000) /* for plug-ins to deliver what waits */

/* On any thread; the journal has said what happened. */
static void on_failed(void *ctx)
{
    struct run *run = ctx;
    atomic_store(&run->failed, true);
    mj_loop_stop(run->loop);
}

/* Runs on the server's thread. */
static void health(void *ctx, struct mj_buf *json)
{
    struct run *run = ctx;
    int64_t last = atomic_load_explicit(&run->last_frame_us, memory_order_relaxed);
    if (last)
        mj_buf_printf(json, ",\"last_frame_age_seconds\":%.3f", (double)(mj_now_us() - last) / 1e6);
    run_put_sources(run, json);
    mj_buf_puts(json, ",\"deliveries\":");
    mj__deliveries_summary(run->readers, json);
}

/* Something came from another thread, or SIGHUP. */
static void on_wake(void *ctx)
{
    struct run *run = ctx;
    if (mj_loop_hung_up(run->loop)) {
        MJ_AUTO_BUF report = {0};
        run_reload(run, false, NULL, &report);
    }
    run_take_calls(run);
    run_why_answers(run);
    if (run->net)
        mj_net_deliver(run->net, run->scripts);
    if (run->lanes) /* they may have results */
        mj_router_flush(run->router, -1, 0);
    run_scripts(run);
}

static void wake(void *ctx) { mj_loop_wake(((struct run *)ctx)->loop); }

/* The original server's variables without a counterpart here. */
static void note_unused_variables(void)
{
    static const char *const names[] = {"JETSTREAM_WORKER_COUNT", "JETSTREAM_MAX_QUEUE_SIZE",
                                        "JETSTREAM_LIVENESS_TTL"};
    for (size_t i = 0; i < MJ_COUNT(names); i++)
        if (getenv(names[i]))
            mj_log(MJ_LOG_WARN, "run", "%s is set; Moonjet has no such setting and ignores it",
                   names[i]);
}

/* The journal is read where it is mapped: a disk that fails under it, or a file that somebody cuts,
 * is told this way. So is a disk that is full when a new file that is mapped is written to, as the
 * state's lock is. Only what is safe in a signal handler. */
static void on_bus_error(int signal)
{
    (void)signal;
    static const char text[] = "moonjet run: a file under --data cannot be read any more: the disk "
                               "is full or failed, or somebody cut "
                               "the file. Stopping; see to the disk, then `moonjet journal verify "
                               "DIR` tells what is lost\n";
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    _exit(MJ_EXIT_FAILED);
}

/* Subscribers are descriptors: take as many as the system lets us without asking an administrator.
 */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void say_where(const struct run_cfg *cfg, struct mj_server *server,
                      struct mj_streams *streams)
{
    struct mj_hostport at;
    mj_hostport_parse(cfg->listen, &at);
    const char *open = strchr(at.host, ':') ? "[" : "", *close = *open ? "]" : "";
    const char *host = *at.host ? at.host : "0.0.0.0";
    int port = mj_server_port(server);
    fprintf(stderr, "listening on ws://%s%s%s:%d/subscribe\n", open, host, close, port);
    for (size_t i = 1; i < mj_streams_count(streams); i++)
        fprintf(stderr, "stream ws://%s%s%s:%d/stream/%s/subscribe\n", open, host, close, port,
                mj_streams_name(streams, i));
    if (*cfg->metrics_listen) {
        mj_hostport_parse(cfg->metrics_listen, &at);
        open = strchr(at.host, ':') ? "[" : "", close = *open ? "]" : "";
        fprintf(stderr, "metrics on http://%s%s%s:%d/metrics\n", open,
                *at.host ? at.host : "0.0.0.0", close, mj_server_metrics_port(server));
    }
}

/* The journal: under --data, or in memory when nothing is to be kept. */
static int open_journal(struct run *run, const struct run_cfg *cfg, struct mj_journal **out)
{
    MJ_AUTO_BUF error = {0};
    if (mj_data_dir_open(&run->data, cfg->data, &error)) {
        fprintf(stderr, "moonjet run: %s\n", mj_buf_cstr(&error));
        return MJ_EXIT_FAILED;
    }
    if (!run->data.path || !cfg->retain || !cfg->retain_bytes) {
        if (run->data.path)
            mj_log(MJ_LOG_INFO, "run", "nothing is kept under %s; every start is live",
                   run->data.path);
        *out = mj_journal_in_memory((size_t)cfg->tail);
        return 0;
    }
    mj_buf_printf(&error, "%s/journal", run->data.path);
    char *dir MJ_AUTO_FREE = mj_strdup(mj_buf_cstr(&error));
    struct mj_journal_cfg journal = {.dir = dir,
                                     .retain_us = cfg->retain,
                                     .retain_bytes = cfg->retain_bytes,
                                     .plain_bytes = cfg->seal_after ? cfg->seal_after : 1,
                                     .sync_us = cfg->sync,
                                     .segment_bytes = (size_t)cfg->segment_bytes,
                                     .failed = on_failed,
                                     .ctx = run};
    error.len = 0;
    run->on_disk = true;
    if (mj_journal_open(&journal, out, &error)) {
        fprintf(stderr, "moonjet run: %s\n", mj_buf_cstr(&error));
        return MJ_EXIT_FAILED;
    }
    return 0;
}

/* Without one the server says so to whoever asks for compression. */
static int find_dictionary(const struct run_cfg *cfg, struct mj_dictionary *out)
{
    MJ_AUTO_BUF error = {0};
    int err = mj_dictionary_find(cfg->dictionary, cfg->data, out, &error);
    if (!err)
        mj_log(MJ_LOG_INFO, "run", "compressing with %s (id %u)", out->path, out->id);
    if (!err || err == MJ_ENOENT)
        return 0;
    fprintf(stderr, "moonjet run: %s\n", mj_buf_cstr(&error));
    return MJ_EXIT_FAILED;
}

static int route(const struct run_settings *settings, char **argv)
{
    const struct run_cfg *cfg = &settings->cfg;
    int status = 0;
    mj_log_setup((enum mj_log_level)mj_log_level_parse(cfg->log_level),
                 strcmp(cfg->log_format, "json") == 0);
    note_unused_variables();
    mj_process_metrics();
    raise_file_limit();
    signal(SIGBUS, on_bus_error);

    static struct run run; /* the server's thread reads it until it is joined */
    struct mj_server *server = NULL;
    struct mj_journal *journal = NULL;
    struct mj_dictionary dictionary = {0};
    MJ_AUTO_BUF control = {0};
    MJ_AUTO_BUF error = {0};
    run.loop = mj_loop_new();
    mj_plugins_dirs(&cfg->plugins);
    status = open_journal(&run, cfg, &journal);
    if (!status)
        status = find_dictionary(cfg, &dictionary);
    if (status)
        goto out;
    run.journal = journal;
    run.streams = mj_streams_new(journal);
    run.router = mj_router_new(journal);
    mj_router_set_streams(run.router, run.streams);
    run_open_why(&run, (size_t)cfg->why);
    run.scripts = mj_scripts_new(run.router);
    mj_scripts_share(run.scripts);

    static struct run_notes notes;
    run_notes_read(&notes, run.data.path);
    run_restart_setup(&run, argv, &notes);
    mj_scripts_on_stuck(run.scripts, run_restart, NULL);
    run.settings = settings;
    status = run_start_services(&run);
    if (!status)
        status = run_open_store(&run);
    if (status)
        goto out;
    run_open_readers(&run, journal);

    status = MJ_EXIT_FAILED;
    if (run_allow(run.net, &settings->file, &error) ||
        run_give_sets(&run, &settings->file, &error)) {
        fprintf(stderr, "moonjet run: %s\n", mj_buf_cstr(&error));
        goto out;
    }
    if (run_load_scripts(run.scripts, &settings->file, &notes) ||
        run_load_lanes(&run, &settings->file, &notes) ||
        run_start_sources(&run, cfg, journal, &notes))
        goto out;
    run.calls = mj_calls_new(wake, &run);
    bool asked = mj_control_path(cfg->control, cfg->data, &control);
    if (cfg->control && strcmp(cfg->control, "none") == 0)
        control.len = 0;
    else if (!control.len)
        mj_log(MJ_LOG_INFO, "run", "no control socket for moonjet ctl: give --data or --control");
    struct mj_server_cfg server_cfg = {.listen = cfg->listen,
                                       .metrics_listen = cfg->metrics_listen,
                                       .control = control.len ? mj_buf_cstr(&control) : NULL,
                                       .control_may_fail = !asked,
                                       .routes = run.routes,
                                       .sets = mj_store_sets(run.store),
                                       .labels = mj_store_labels(run.store),
                                       .request = mj_calls_put,
                                       .request_ctx = run.calls,
                                       .journal = journal,
                                       .streams = run.streams,
                                       .dictionary = mj_buf_span(&dictionary.bytes),
                                       .max_per_ip = (size_t)cfg->max_per_ip,
                                       .replay_rate = cfg->replay_rate,
                                       .trusted_proxies = cfg->trusted.v,
                                       .trusted_proxy_count = cfg->trusted.n,
                                       .stall_seconds = (int)cfg->stall_seconds,
                                       .health = health,
                                       .health_ctx = &run};
    /* Whoever reads that we listen may send a signal at once. */
    mj_loop_stop_on_signals(run.loop);
    mj_loop_wake_on_hangup(run.loop);
    if (mj_server_start(&server_cfg, &server))
        goto out; /* it has said why */
    say_where(cfg, server, run.streams);
    mj_loop_on_wake(run.loop, on_wake, &run);
    if (cfg->watch && run_watch(&run))
        goto out;
    mj_loop_every(run.loop, 1000, run_copy_sources, &run);
    mj_loop_every(run.loop, 1000, run_save_readers, &run);
    run_start_scripts(&run);
    run_restart_armed();
    mj_loop_run(run.loop);
    run_restart_disarm();
    status = run.future                 ? MJ_EXIT_FUTURE_CURSOR
             : atomic_load(&run.failed) ? MJ_EXIT_FAILED
                                        : MJ_EXIT_OK;
out:
    run_stop_sources(&run);
    run_stop_why(&run);
    run_stop_lanes(&run);
    run_end_scripts(&run);
    run_unwatch(&run);
    run_stop_scripts(&run);
    run_stop_net(&run);
    mj_server_stop(server);
    mj_calls_free(run.calls);
    mj_router_free(run.router);
    mj_scripts_free(run.scripts);
    mj_sinks_wait(PLUGINS_END_US);
    mj_routes_free(run.routes);
    run_stop_deliveries();
    mj_readers_free(run.readers);
    mj_store_close(run.store);
    run_free_why(&run);
    mj_streams_free(run.streams);
    mj_journal_close(journal);
    mj_dictionary_deinit(&dictionary);
    mj_loop_free(run.loop);
    mj_data_dir_close(&run.data);
    return status;
}

static int try_graph(struct mj_router *router, const struct mj_config_script *s,
                     struct mj_graph *graph)
{
    MJ_AUTO_BUF error = {0};
    int err = s->lane == MJ_LANE_OWN ? mj_lane_check(router, NULL, graph, &error)
                                     : mj_router_add(router, graph, &error);
    if (err)
        fprintf(stderr, "moonjet run: %s\n", mj_buf_cstr(&error));
    return err ? MJ_EXIT_FAILED : 0;
}

/* --check-config: everything that can be known without running. */
static int check_config(const struct run_settings *s)
{
    struct mj_streams *streams = mj_streams_new(NULL);
    struct mj_router *router = mj_router_new(NULL);
    mj_router_set_streams(router, streams);
    /* The scripts themselves know no router, so that nothing of theirs goes live: no plug-in opens
     * its file. */
    struct mj_scripts *scripts = mj_scripts_new(NULL);
    static const struct mj_services services = {.hook_check = run_hook_check};
    mj_scripts_set_services(scripts, &services);
    struct run memory = {.scripts = scripts}; /* a store that keeps nothing, for the sets */
    MJ_AUTO_BUF error = {0};
    int status = MJ_EXIT_FAILED;
    if (run_open_store(&memory) || run_check_allow(&s->cfg.http_allow, &error) ||
        run_allow(NULL, &s->file, &error) || run_give_sets(&memory, &s->file, &error))
        fprintf(stderr, "moonjet run: %s\n", mj_buf_cstr(&error));
    else
        status = run_load_scripts(scripts, &s->file, NULL);
    for (size_t i = 0; !status && i < s->file.script_count; i++)
        status =
            try_graph(router, s->file.scripts[i], (struct mj_graph *)mj_scripts_graph(scripts, i));
    if (!status)
        printf("%s: ok, %zu script%s\n", s->path ? s->path : "the configuration",
               s->file.script_count, s->file.script_count == 1 ? "" : "s");
    mj_router_free(router);
    mj_scripts_free(scripts);
    mj_store_close(memory.store);
    mj_streams_free(streams);
    return status;
}

static int print_config(const struct run_settings *s)
{
    MJ_AUTO_BUF out = {0};
    run_print_settings(s, &out);
    fwrite(out.ptr, 1, out.len, stdout);
    return fflush(stdout) ? MJ_EXIT_FAILED : MJ_EXIT_OK;
}

static int run_main(const struct mj_command *cmd, int argc, char **argv)
{
    static struct run_settings settings; /* what runs borrows from it until the end */
    int status = run_read_settings(cmd, argc, argv, &settings);
    if (!status && (settings.cfg.print_config || settings.cfg.check_config))
        status = settings.cfg.print_config ? print_config(&settings) : check_config(&settings);
    else if (!status)
        status = route(&settings, argv);
    run_settings_deinit(&settings);
    return status;
}

const struct mj_command mj_cmd_run = {
    .name = "run",
    .usage = "[SCRIPT…]",
    .summary = "Route a firehose through scripts to subscribers (the default command).",
    .details =
        "Without a script it is a plain Jetstream server. Exit status 3: a source says our\n"
        "cursor is ahead of it (see --on-future-cursor). --config FILE, or an argument named\n"
        "moonjet.lua, is a configuration file in Lua; the command line and the environment\n"
        "go over what it says (docs/operations.md).",
    .options = mj_run_options,
    .positional_max = MJ_STRINGS_MAX,
    .main = run_main,
};
