/* moonjet backtest: what scripts would have let through of events of the past, and what is
 * different from other scripts. */
#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "atproto/syntax.h"
#include "base/clock.h"
#include "base/err.h"
#include "cli/backtest.h"
#include "cli/commands.h"
#include "flow/plugin.h"

struct cfg {
    const char *data, *capture, *lines, *since, *until;
    struct mj_strings old, config, plugins;
    int64_t memory, examples;
    bool json;
};

static const struct mj_option options[] = {
    {"data", MJ_OPT_STR, offsetof(struct cfg, data), "DIR",
     "events that a router keeps there, also while it runs", .env = "JETSTREAM_DATA_DIR"},
    {"capture", MJ_OPT_STR, offsetof(struct cfg, capture), "FILE",
     "frames, as `moonjet record` keeps them"},
    {"lines", MJ_OPT_STR, offsetof(struct cfg, lines), "FILE",
     "events as JSON lines, as `moonjet tail` prints them; - is standard input"},
    {"since", MJ_OPT_STR, offsetof(struct cfg, since), "TIME",
     "begin there: 24h before the newest event, or 2026-07-04T12:00:00Z (default: the oldest)"},
    {"until", MJ_OPT_STR, offsetof(struct cfg, until), "TIME",
     "end before that, written alike (default: the newest)"},
    {"old", MJ_OPT_LIST, offsetof(struct cfg, old), "SCRIPT",
     "scripts to compare with, repeatable"},
    {"config", MJ_OPT_LIST, offsetof(struct cfg, config), "KEY=VALUE",
     "what scripts read as jet.config.KEY, repeatable"},
    {"script-memory", MJ_OPT_SIZE, offsetof(struct cfg, memory), "SIZE", "heap of one script",
     .def = "64M"},
    {"examples", MJ_OPT_INT, offsetof(struct cfg, examples), "N", "events to show of each kind",
     .def = "3"},
    {"json", MJ_OPT_FLAG, offsetof(struct cfg, json), NULL, "one JSON object on stdout"},
    {"plugins", MJ_OPT_LIST, offsetof(struct cfg, plugins), "DIR",
     "look for plug-ins there first, repeatable"},
    {0}};

struct progress {
    struct mj__side *side;
    const struct mj__backtest_input *in;
    int64_t start_ns, shown_ns;
    bool terminal;
};

/* The clock of the program stands at the events' time. */
static int64_t real_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool wants(void *ctx, const struct mj_event *like)
{
    return mj__side_wants(((struct progress *)ctx)->side, like);
}

static void on_event(void *ctx, uint64_t ordinal, struct mj_event *ev)
{
    mj__side_event(((struct progress *)ctx)->side, ordinal, ev);
}

static void on_tick(void *ctx)
{
    struct progress *p = ctx;
    int64_t now = real_ns();
    mj__side_tick(p->side);
    if (!p->terminal || now - p->shown_ns < 100000000)
        return;
    p->shown_ns = now;
    double seconds = (double)(now - p->start_ns) / 1e9;
    double part = p->in->all ? (double)p->in->done / (double)p->in->all : 0;
    char bar[31], left[32] = "";
    for (size_t i = 0; i < sizeof bar - 1; i++)
        bar[i] = (double)i < part * (double)(sizeof bar - 1) ? '#' : '.';
    bar[sizeof bar - 1] = '\0';
    if (part > 0.001)
        snprintf(left, sizeof left, "%.0f s left", seconds / part - seconds);
    if (p->in->all)
        fprintf(stderr, "\r%s %3.0f %%  %.0f events/s  %-14s", bar, 100 * part,
                (double)p->in->events / seconds, left);
    else
        fprintf(stderr, "\r%llu events  %.0f events/s  ", (unsigned long long)p->in->events,
                (double)p->in->events / seconds);
}

/* A time, or how long before the newest event. */
static int parse_time(const char *name, const char *text, int64_t newest, int64_t *out)
{
    int64_t duration;
    if (mj_datetime_us(mj_str(text), out) == 0)
        return 0;
    if (mj_duration_us(mj_str(text), &duration)) {
        fprintf(stderr,
                "moonjet backtest: --%s %s: expected 36h, 7d or a time such as "
                "2026-07-04T12:00:00Z\n",
                name, text);
        return MJ_EXIT_USAGE;
    }
    if (!newest) {
        fprintf(stderr,
                "moonjet backtest: --%s %s counts back from the newest event, which only a "
                "journal tells; give a time such as 2026-07-04T12:00:00Z\n",
                name, text);
        return MJ_EXIT_USAGE;
    }
    *out = newest - duration;
    return 0;
}

static int check_usage(struct cfg *cfg)
{
    if (cfg->capture && cfg->lines) {
        fprintf(stderr, "moonjet backtest: --capture and --lines: one of the two\n");
        return MJ_EXIT_USAGE;
    }
    /* The environment may name the data directory for other commands. */
    if (cfg->capture || cfg->lines)
        cfg->data = NULL;
    else if (!cfg->data || !*cfg->data) {
        fprintf(stderr, "moonjet backtest: no events: give --data DIR, --capture FILE or "
                        "--lines FILE\n");
        return MJ_EXIT_USAGE;
    }
    for (size_t i = 0; i < cfg->config.n; i++)
        if (!strchr(cfg->config.v[i], '=')) {
            fprintf(stderr, "moonjet backtest: --config %s: expected KEY=VALUE\n",
                    cfg->config.v[i]);
            return MJ_EXIT_USAGE;
        }
    if (cfg->examples < 0 || cfg->examples > 1000) {
        fprintf(stderr, "moonjet backtest: --examples %lld: expected 0 to 1000\n",
                (long long)cfg->examples);
        return MJ_EXIT_USAGE;
    }
    return 0;
}

/* What comes from a pipe is read by two: a file without a name that both can open. NULL after a
 * message. */
static char *spool_stdin(void)
{
    struct mj_buf path = {0};
    const char *dir = getenv("TMPDIR");
    char chunk[65536];
    ssize_t n;
    mj_buf_printf(&path, "%s/moonjet-backtest-XXXXXX", dir && *dir ? dir : "/tmp");
    mj_buf_cstr(&path);
    int fd = mkstemp((char *)path.ptr);
    if (fd >= 0)
        unlink((char *)path.ptr);
    while (fd >= 0 && (n = read(STDIN_FILENO, chunk, sizeof chunk)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        for (ssize_t done = 0, w; n > 0 && done < n; done += w)
            if ((w = write(fd, chunk + done, (size_t)(n - done))) < 0)
                n = w;
        if (n < 0) {
            close(fd);
            fd = -1;
        }
    }
    if (fd < 0) {
        fprintf(stderr, "moonjet backtest: cannot keep standard input in %s: %s\n",
                mj_buf_cstr(&path), strerror(errno));
        mj_buf_deinit(&path);
        return NULL;
    }
    path.len = 0;
    mj_buf_printf(&path, "/proc/self/fd/%d", fd);
    mj_buf_cstr(&path);
    return (char *)path.ptr;
}

static int failed(struct mj_buf *error)
{
    fprintf(stderr, "moonjet backtest: %s\n", mj_buf_cstr(error));
    return MJ_EXIT_FAILED;
}

static void print_report(const struct cfg *cfg, const struct mj__backtest_report *r)
{
    MJ_AUTO_BUF out = {0};
    if (cfg->json)
        mj__backtest_print_json(r, &out);
    else
        mj__backtest_print(r, &out);
    if (out.len)
        fwrite(out.ptr, 1, out.len, stdout);
}

/* With the input open. */
static int run(const struct cfg *cfg, const struct mj_strings *scripts,
               struct mj__backtest_input *in)
{
    MJ_AUTO_BUF error = {0};
    struct progress p = {.in = in, .terminal = isatty(STDERR_FILENO)};
    struct mj__comparison comparison = {0};
    struct mj__other *other = NULL;
    int status = MJ_EXIT_FAILED;
    uint64_t old_errors = 0;
    if (cfg->old.n &&
        !(other = mj__other_start(in, &cfg->old, &cfg->config, (size_t)cfg->memory, &error)))
        return failed(&error);
    p.side = mj__side_new(scripts, &cfg->config, (size_t)cfg->memory, &error);
    if (!p.side) {
        failed(&error);
        goto out;
    }
    if (other && mj__other_ready(other))
        goto out; /* it has said why */
    mj__comparison_init(&comparison, p.side, other, (size_t)cfg->examples);
    mj__side_on_outcome(p.side, mj__comparison_note, &comparison);
    in->ctx = &p;
    in->wants = wants;
    in->event = on_event;
    in->tick = on_tick;
    p.start_ns = real_ns();
    int err = mj__backtest_read(in, &error);
    mj__comparison_end(&comparison);
    if (p.shown_ns)
        fprintf(stderr, "\r%78s\r", "");
    if (err) {
        failed(&error);
        goto out;
    }
    if (other && mj__other_end(other, &old_errors)) {
        fprintf(stderr, "moonjet backtest: the process of --old ended early\n");
        goto out;
    }
    print_report(cfg,
                 &(struct mj__backtest_report){.in = in,
                                               .comparison = &comparison,
                                               .side = p.side,
                                               .old_errors = old_errors,
                                               .seconds = (double)(real_ns() - p.start_ns) / 1e9});
    status = in->bad && !in->events ? MJ_EXIT_FAILED : MJ_EXIT_OK;
out:
    mj__comparison_deinit(&comparison);
    mj__other_free(other);
    mj__side_free(p.side);
    return status;
}

static int backtest_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg cfg = {0};
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r || (r = check_usage(&cfg)))
        return r;
    mj_plugins_dirs(&cfg.plugins);
    char *spooled MJ_AUTO_FREE = NULL;
    const char **file = cfg.capture ? &cfg.capture : &cfg.lines;
    if (cfg.old.n && *file && strcmp(*file, "-") == 0 && !(*file = spooled = spool_stdin()))
        return MJ_EXIT_FAILED;
    MJ_AUTO_BUF error = {0};
    struct mj__backtest_input in = {.data = cfg.data,
                                    .capture = cfg.capture,
                                    .lines = cfg.lines,
                                    .from_us = INT64_MIN,
                                    .until_us = INT64_MAX};
    if (mj__backtest_open(&in, &error)) {
        r = failed(&error);
    } else {
        int64_t newest = mj__backtest_newest(&in);
        if (cfg.since)
            r = parse_time("since", cfg.since, newest, &in.from_us);
        if (!r && cfg.until)
            r = parse_time("until", cfg.until, newest, &in.until_us);
        if (!r)
            r = run(&cfg, &pos, &in);
    }
    mj__backtest_close(&in);
    return r;
}

const struct mj_command mj_cmd_backtest = {
    .name = "backtest",
    .usage = "[--old SCRIPT] SCRIPT…",
    .summary = "Run scripts over events of the past and show what they let through.",
    .details =
        "Nothing is sent: streams, what is printed and what plug-ins would get is counted, events\n"
        "for :each and :batch are, too, and no task runs. State starts empty, in memory; its "
        "clock,\n"
        "and that of :dedupe and :limit, is the events'. With --old, shows what newly gets "
        "through,\n"
        "what no longer does, and what is edited differently.",
    .options = options,
    .positional_min = 1,
    .positional_max = MJ_STRINGS_MAX,
    .main = backtest_main,
};
