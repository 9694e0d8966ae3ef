/* moonjet run: sources → router with scripts → journal → server, until a signal. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
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
#include "cli/data_dir.h"
#include "flow/router.h"
#include "script/script.h"
#include "server/server.h"
#include "source/firehose.h"

#define DEFAULT_SOURCE "wss://bsky.network"

struct run_cfg {
    struct mj_strings sources, config, trusted;
    const char *listen, *metrics_listen, *data, *dictionary, *on_future, *log_level, *log_format;
    int64_t max_per_ip, replay_rate, stall_seconds;
    int64_t cursor, tail, script_memory, retain, retain_bytes, sync, seal_after, segment_bytes;
};

static const struct mj_option options[] = {
    {"source", MJ_OPT_LIST, offsetof(struct run_cfg, sources), "URL",
     "firehose to read, repeatable; without a path " MJ_FIREHOSE_PATH
     " (without any: the public relay)",
     .env = "JETSTREAM_WS_URL"},
    {"listen", MJ_OPT_STR, offsetof(struct run_cfg, listen), "HOST:PORT",
     "where subscribers connect", .def = ":6008", .env = "JETSTREAM_LISTEN_ADDR"},
    {"metrics-listen", MJ_OPT_STR, offsetof(struct run_cfg, metrics_listen), "HOST:PORT",
     "where /metrics, /status and /_health answer", .def = "127.0.0.1:6009",
     .env = "JETSTREAM_METRICS_LISTEN_ADDR"},
    {"data", MJ_OPT_STR, offsetof(struct run_cfg, data), "DIR",
     "keep events there, and how far each source was read; without it every start is live",
     .env = "JETSTREAM_DATA_DIR"},
    {"cursor", MJ_OPT_INT, offsetof(struct run_cfg, cursor), "SEQ",
     "resume the source after this seq, whatever --data says; 0 = the oldest it has", .def = "-1",
     .env = "JETSTREAM_OVERRIDE_RELAY_CURSOR"},
    {"on-future-cursor", MJ_OPT_STR, offsetof(struct run_cfg, on_future), "stop|live|oldest",
     "when a source says our cursor is ahead of it", .def = "stop"},
    {"config", MJ_OPT_LIST, offsetof(struct run_cfg, config), "KEY=VALUE",
     "what scripts see as jet.config.KEY, repeatable"},
    {"script-memory", MJ_OPT_SIZE, offsetof(struct run_cfg, script_memory), "SIZE",
     "heap of one script", .def = "64M"},
    {"retain", MJ_OPT_TIME, offsetof(struct run_cfg, retain), "TIME",
     "keep events that long under --data, 36h or 7d; 0 = keep nothing there", .def = "36h",
     .env = "JETSTREAM_EVENT_TTL"},
    {"retain-bytes", MJ_OPT_SIZE, offsetof(struct run_cfg, retain_bytes), "SIZE",
     "keep at most that much under --data; 0 = keep nothing there", .def = "16G"},
    {"sync", MJ_OPT_TIME, offsetof(struct run_cfg, sync), "TIME",
     "fsync that often; 0 = before anything is sent", .def = "1s"},
    {"seal-after", MJ_OPT_SIZE, offsetof(struct run_cfg, seal_after), "SIZE",
     "newest events that are not compressed yet, for fast replay", .def = "512M"},
    {"segment-bytes", MJ_OPT_SIZE, offsetof(struct run_cfg, segment_bytes), "SIZE",
     "events go by files of that size; 0 = 256M, less when little is kept"},
    {"tail", MJ_OPT_SIZE, offsetof(struct run_cfg, tail), "SIZE",
     "without --data: events kept in memory for slow and returning subscribers", .def = "64M"},
    {"zstd-dictionary", MJ_OPT_STR, offsetof(struct run_cfg, dictionary), "FILE",
     "what compress=true needs (without: DATA/zstd_dictionary, then the installed one)",
     .env = "JETSTREAM_ZSTD_DICTIONARY_PATH"},
    {"max-per-ip", MJ_OPT_INT, offsetof(struct run_cfg, max_per_ip), "N",
     "subscribers of one address; 0 = as many as there is room for"},
    {"replay-rate", MJ_OPT_INT, offsetof(struct run_cfg, replay_rate), "N",
     "events per second that one address may catch up with; 0 = no limit",
     .env = "JETSTREAM_MAX_SUB_RATE"},
    {"trusted-proxy", MJ_OPT_LIST, offsetof(struct run_cfg, trusted), "CIDR",
     "believe X-Forwarded-For of these peers, 127.0.0.1 or 10.0.0.0/8; repeatable"},
    {"stall-seconds", MJ_OPT_INT, offsetof(struct run_cfg, stall_seconds), "N",
     "cut a subscriber that has acknowledged nothing for so long", .def = "60"},
    {"log-level", MJ_OPT_STR, offsetof(struct run_cfg, log_level), "debug|info|warn|error",
     "least important line to log", .def = "info"},
    {"log-format", MJ_OPT_STR, offsetof(struct run_cfg, log_format), "text|json",
     "format of the log on stderr", .def = "text"},
    {0}};

struct run;

struct source {
    struct run *run;          /* borrowed */
    char *url;                /* owned, as given: the key of its cursor */
    struct mj_firehose *hose; /* owned */
    int number;               /* the journal's */
    struct mj_metric *emitted, *persisted;
    _Atomic int64_t seq; /* copies for the server's thread, renewed every second */
    _Atomic bool connected;
};

struct run {
    struct mj_loop *loop;
    struct mj_router *router;
    struct mj_data_dir data;
    struct source sources[MJ_SOURCES_MAX];
    size_t source_count;
    _Atomic int64_t last_frame_us; /* wall clock; 0 before the first */
    bool future;                   /* a source gave up */
    _Atomic bool failed;           /* the journal takes nothing more */
    struct mj_metric *published;   /* the journal's: events of all sources */
    bool on_disk;                  /* … which is kept under --data */
};

static int on_frame(void *ctx, struct mj_span frame, struct mj_frame *out)
{
    struct source *s = ctx;
    return mj_router_frame(s->run->router, frame, out);
}

static void on_flush(void *ctx)
{
    struct source *s = ctx;
    int64_t before = mj_metric_get(s->run->published);
    mj_router_flush(s->run->router, s->number, mj_firehose_cursor(s->hose));
    int64_t n = mj_metric_get(s->run->published) - before;
    mj_metric_add(s->emitted, n);
    if (s->run->on_disk)
        mj_metric_add(s->persisted, n);
    atomic_store_explicit(&s->run->last_frame_us, mj_now_us(), memory_order_relaxed);
}

static void on_stopped(void *ctx)
{
    struct source *s = ctx;
    s->run->future = true;
    mj_loop_stop(s->run->loop);
}

static void copy_state(void *ctx)
{
    struct run *run = ctx;
    for (size_t i = 0; i < run->source_count; i++) {
        struct source *s = &run->sources[i];
        atomic_store_explicit(&s->seq, mj_firehose_cursor(s->hose), memory_order_relaxed);
        atomic_store_explicit(&s->connected, mj_firehose_connected(s->hose), memory_order_relaxed);
    }
}

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
    mj_buf_puts(json, ",\"sources\":[");
    for (size_t i = 0; i < run->source_count; i++) {
        struct source *s = &run->sources[i];
        mj_buf_puts(json, i ? ",{\"url\":" : "{\"url\":");
        mj_buf_put_json(json, mj_str(s->url));
        mj_buf_printf(json, ",\"connected\":%s,\"seq\":%lld}",
                      atomic_load_explicit(&s->connected, memory_order_relaxed) ? "true" : "false",
                      (long long)atomic_load_explicit(&s->seq, memory_order_relaxed));
    }
    mj_buf_putc(json, ']');
}

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

static int check_usage(const struct run_cfg *cfg)
{
    if (mj_log_level_parse(cfg->log_level) < 0) {
        fprintf(stderr, "moonjet run: --log-level %s: expected debug, info, warn or error\n",
                cfg->log_level);
        return MJ_EXIT_USAGE;
    }
    if (strcmp(cfg->log_format, "text") && strcmp(cfg->log_format, "json")) {
        fprintf(stderr, "moonjet run: --log-format %s: expected text or json\n", cfg->log_format);
        return MJ_EXIT_USAGE;
    }
    if (mj_on_future_parse(cfg->on_future) < 0) {
        fprintf(stderr, "moonjet run: --on-future-cursor %s: expected stop, live or oldest\n",
                cfg->on_future);
        return MJ_EXIT_USAGE;
    }
    if (cfg->cursor < -1) {
        fprintf(stderr, "moonjet run: --cursor %lld: expected a seq, 0 or more\n",
                (long long)cfg->cursor);
        return MJ_EXIT_USAGE;
    }
    if (cfg->cursor >= 0 && cfg->sources.n > 1) {
        fprintf(stderr, "moonjet run: --cursor goes with one --source: each source counts for "
                        "itself\n");
        return MJ_EXIT_USAGE;
    }
    for (size_t i = 0; i < cfg->sources.n; i++) {
        struct mj_url url;
        if (mj_url_parse(cfg->sources.v[i], &url)) {
            fprintf(stderr, "moonjet run: --source %s: expected a URL such as wss://bsky.network\n",
                    cfg->sources.v[i]);
            return MJ_EXIT_USAGE;
        }
        for (size_t k = 0; k < i; k++)
            if (strcmp(cfg->sources.v[i], cfg->sources.v[k]) == 0) {
                fprintf(stderr, "moonjet run: --source %s is given twice\n", cfg->sources.v[i]);
                return MJ_EXIT_USAGE;
            }
    }
    static const struct {
        const char *name;
        size_t offset;
        int64_t least, most;
    } numbers[] = {{"max-per-ip", offsetof(struct run_cfg, max_per_ip), 0, INT32_MAX},
                   {"replay-rate", offsetof(struct run_cfg, replay_rate), 0, INT32_MAX},
                   {"stall-seconds", offsetof(struct run_cfg, stall_seconds), 1, 86400},
                   {"segment-bytes", offsetof(struct run_cfg, segment_bytes), 0, 1 << 30}};
    for (size_t i = 0; i < MJ_COUNT(numbers); i++) {
        int64_t v = *(const int64_t *)((const char *)cfg + numbers[i].offset);
        if (v < numbers[i].least || v > numbers[i].most) {
            fprintf(stderr, "moonjet run: --%s %lld: expected %lld to %lld\n", numbers[i].name,
                    (long long)v, (long long)numbers[i].least, (long long)numbers[i].most);
            return MJ_EXIT_USAGE;
        }
    }
    struct mj_hostport at;
    if (mj_hostport_parse(cfg->listen, &at)) {
        fprintf(stderr, "moonjet run: --listen %s: expected HOST:PORT or :PORT\n", cfg->listen);
        return MJ_EXIT_USAGE;
    }
    if (*cfg->metrics_listen && mj_hostport_parse(cfg->metrics_listen, &at)) {
        fprintf(stderr, "moonjet run: --metrics-listen %s: expected HOST:PORT or :PORT\n",
                cfg->metrics_listen);
        return MJ_EXIT_USAGE;
    }
    return 0;
}

/* The journal is read where it is mapped: a disk that fails under it, or a file that somebody cuts,
 * is told this way. Only what is safe in a signal handler. */
static void on_bus_error(int signal)
{
    (void)signal;
    static const char text[] = "moonjet run: a file under --data cannot be read any more: the disk "
                               "failed, or somebody cut "
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

static int load_scripts(struct mj_scripts *scripts, const struct mj_strings *paths,
                        const struct run_cfg *cfg)
{
    struct mj_script_cfg script_cfg = {.memory = (size_t)cfg->script_memory,
                                       .config = &cfg->config};
    for (size_t i = 0; i < paths->n; i++) {
        MJ_AUTO_BUF error = {0};
        if (mj_scripts_load(scripts, paths->v[i], &script_cfg, &error)) {
            fprintf(stderr, "moonjet run: %s\n", mj_buf_cstr(&error));
            return MJ_EXIT_FAILED;
        }
    }
    return 0;
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

static int start_sources(struct run *run, const struct run_cfg *cfg, struct mj_journal *journal)
{
    run->published = mj_metric("jetstream_events_emitted_total", MJ_COUNTER, "", NULL);
    for (size_t i = 0; i < cfg->sources.n; i++) {
        struct source *s = &run->sources[i];
        s->run = run;
        s->url = mj_strdup(cfg->sources.v[i]);
        s->number = mj_journal_source(journal, s->url);
        char label[512];
        mj_metric_label(mj_str(s->url), label, sizeof label);
        s->emitted = mj_metric("consumer_events_emitted_total", MJ_COUNTER,
                               "Events made visible to readers.", "socket_url=\"%s\"", label);
        s->persisted =
            mj_metric("consumer_events_persisted_total", MJ_COUNTER,
                      "Events written to the journal on disk.", "socket_url=\"%s\"", label);
        if (s->number < 0) {
            fprintf(stderr, "moonjet run: --source %s: %s\n", s->url,
                    s->number == MJ_ELIMIT
                        ? "the journal has known 64 sources, all it can tell apart; start a new "
                          "--data directory"
                        : "the journal cannot note it; the log says why");
            free(s->url);
            return MJ_EXIT_FAILED;
        }
        struct mj_firehose_cfg hose = {
            .url = s->url,
            .cursor = cfg->cursor >= 0 ? cfg->cursor : mj_journal_cursor(journal, s->number),
            .on_future = (enum mj_on_future)mj_on_future_parse(cfg->on_future),
            .frame = on_frame,
            .flush = on_flush,
            .stopped = on_stopped,
            .ctx = s,
        };
        atomic_store(&s->seq, hose.cursor);
        int err = mj_firehose_new(run->loop, &hose, &s->hose);
        if (err) {
            fprintf(stderr, "moonjet run: --source %s: %s\n", s->url, mj_strerror(err));
            free(s->url);
            return MJ_EXIT_FAILED;
        }
        run->source_count++;
    }
    return 0;
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

static int run_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct run_cfg cfg = {0};
    struct mj_strings scripts_given;
    int status = mj_options_parse(cmd, argc, argv, &cfg, &scripts_given);
    if (!status)
        status = check_usage(&cfg);
    if (status)
        return status;
    if (!cfg.sources.n)
        cfg.sources.v[cfg.sources.n++] = DEFAULT_SOURCE;
    mj_log_setup((enum mj_log_level)mj_log_level_parse(cfg.log_level),
                 strcmp(cfg.log_format, "json") == 0);
    note_unused_variables();
    mj_process_metrics();
    raise_file_limit();
    signal(SIGBUS, on_bus_error);

    static struct run run; /* the server's thread reads it until it is joined */
    struct mj_server *server = NULL;
    struct mj_journal *journal = NULL;
    struct mj_streams *streams = NULL;
    struct mj_scripts *scripts = NULL;
    struct mj_dictionary dictionary = {0};
    run.loop = mj_loop_new();
    status = open_journal(&run, &cfg, &journal);
    if (!status)
        status = find_dictionary(&cfg, &dictionary);
    if (status)
        goto out;
    streams = mj_streams_new(journal);
    run.router = mj_router_new(journal);
    mj_router_set_streams(run.router, streams);
    scripts = mj_scripts_new(run.router);

    status = MJ_EXIT_FAILED;
    if (load_scripts(scripts, &scripts_given, &cfg) || start_sources(&run, &cfg, journal))
        goto out;
    struct mj_server_cfg server_cfg = {.listen = cfg.listen,
                                       .metrics_listen = cfg.metrics_listen,
                                       .journal = journal,
                                       .streams = streams,
                                       .dictionary = mj_buf_span(&dictionary.bytes),
                                       .max_per_ip = (size_t)cfg.max_per_ip,
                                       .replay_rate = cfg.replay_rate,
                                       .trusted_proxies = cfg.trusted.v,
                                       .trusted_proxy_count = cfg.trusted.n,
                                       .stall_seconds = (int)cfg.stall_seconds,
                                       .health = health,
                                       .health_ctx = &run};
    if (mj_server_start(&server_cfg, &server))
        goto out; /* it has said why */
    say_where(&cfg, server, streams);
    mj_loop_stop_on_signals(run.loop);
    mj_loop_every(run.loop, 1000, copy_state, &run);
    mj_loop_run(run.loop);
    status = run.future                 ? MJ_EXIT_FUTURE_CURSOR
             : atomic_load(&run.failed) ? MJ_EXIT_FAILED
                                        : MJ_EXIT_OK;
out:
    mj_server_stop(server);
    for (size_t i = 0; i < run.source_count; i++) {
        mj_firehose_free(run.sources[i].hose);
        free(run.sources[i].url);
    }
    mj_router_free(run.router);
    mj_scripts_free(scripts);
    mj_streams_free(streams);
    mj_journal_close(journal);
    mj_dictionary_deinit(&dictionary);
    mj_loop_free(run.loop);
    mj_data_dir_close(&run.data);
    return status;
}

const struct mj_command mj_cmd_run = {
    .name = "run",
    .usage = "[SCRIPT…]",
    .summary = "Route a firehose through scripts to subscribers (the default command).",
    .details = "Without a script it is a plain Jetstream server. Exit status 3: a source says our\n"
               "cursor is ahead of it (see --on-future-cursor).",
    .options = options,
    .positional_max = MJ_STRINGS_MAX,
    .main = run_main,
};
