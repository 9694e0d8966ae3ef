/* moonjet repl: Lua at a prompt, in a script's VM: in a session of its own, or in a running
 * moonjet. */
#include <stdio.h>

#include "atproto/syntax.h"
#include "base/err.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/control_path.h"
#include "cli/prompt.h"
#include "cli/recording.h"
#include "cli/repl_live.h"
#include "script/repl.h"

#define EVENTS_BYTES ((size_t)1 << 30) /* of a recording that is held */

struct cfg {
    const char *events, *control, *data;
    struct mj_strings config;
    bool live;
};

static const struct mj_option options[] = {
    {.name = "events",
     .type = MJ_OPT_STR,
     .offset = offsetof(struct cfg, events),
     .arg = "FILE",
     .help = "a recording to look at: a capture, or Jetstream JSON lines"},
    {.name = "config",
     .type = MJ_OPT_LIST,
     .offset = offsetof(struct cfg, config),
     .arg = "KEY=VALUE",
     .help = "what the script reads as jet.config.KEY"},
    {.name = "live",
     .type = MJ_OPT_FLAG,
     .offset = offsetof(struct cfg, live),
     .help = "inside a running moonjet, in its script of that name (default: the first)"},
    {.name = "control",
     .type = MJ_OPT_STR,
     .offset = offsetof(struct cfg, control),
     .arg = "PATH",
     .help = "with --live: the control socket, as of moonjet run"},
    {.name = "data",
     .type = MJ_OPT_STR,
     .offset = offsetof(struct cfg, data),
     .arg = "DIR",
     .help = "with --live: the data directory of moonjet run",
     .env = "JETSTREAM_DATA_DIR"},
    {0}};

struct events {
    struct mj_kept **v;
    size_t n, cap, bytes;
};

static int keep_event(void *ctx, struct mj_event *ev)
{
    struct events *e = ctx;
    if (ev->record.len && mj_record_check(ev->record))
        return 0; /* no script would see it */
    if (e->n == e->cap) {
        e->cap = e->cap ? 2 * e->cap : 1024;
        e->v = mj_realloc(e->v, e->cap * sizeof *e->v);
    }
    ev->record_checked = true;
    if (!ev->time_us) /* of a capture: when the upstream had it */
        mj_datetime_us(ev->time, &ev->time_us);
    e->v[e->n] = mj_kept_new(ev);
    e->bytes += mj_kept_size(e->v[e->n++]);
    return e->bytes > EVENTS_BYTES ? MJ_ELIMIT : 0;
}

/* False after a message. */
static bool read_events(const char *path, struct events *events)
{
    MJ_AUTO_BUF error = {0};
    int err = mj_recording_read(path, keep_event, events, &error);
    if (err == MJ_ELIMIT && !error.len) {
        fprintf(stderr, "moonjet repl: %s: only the first %zu events are held\n", path, events->n);
        return true;
    }
    if (err) {
        fprintf(stderr, "moonjet repl: %s\n", mj_buf_cstr(&error));
        for (size_t i = 0; i < events->n; i++)
            mj_kept_unref(events->v[i]);
        free(events->v);
    }
    return !err;
}

static int eval(void *ctx, struct mj_span code, struct mj_buf *out)
{
    return mj_repl_eval(ctx, code, out);
}

static void interrupt(void *ctx) { mj_repl_interrupt(ctx); }

static void complete(void *ctx, const char *word, void (*fn)(void *fn_ctx, const char *word),
                     void *fn_ctx)
{
    mj_repl_complete(ctx, word, fn, fn_ctx);
}

static int repl_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg cfg = {0};
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    MJ_AUTO_BUF error = {0};
    mj_log_setup(MJ_LOG_WARN, false);
    if (cfg.live) {
        MJ_AUTO_BUF path = {0};
        mj_control_path(cfg.control, cfg.data, &path);
        if (path.len)
            return mj__repl_live(mj_buf_cstr(&path), pos.n ? pos.v[0] : NULL);
        fprintf(stderr, "moonjet repl: which moonjet? Give --control PATH, or --data DIR as "
                        "moonjet run has it\n");
        return MJ_EXIT_USAGE;
    }
    struct events events = {0};
    if (cfg.events && !read_events(cfg.events, &events))
        return MJ_EXIT_FAILED;
    struct mj_script_cfg script = {.config = &cfg.config};
    struct mj_repl *repl =
        mj_repl_new(pos.n ? pos.v[0] : NULL, &script, events.v, events.n, &error);
    if (!repl) {
        fprintf(stderr, "moonjet repl: %s\n", mj_buf_cstr(&error));
        return MJ_EXIT_FAILED;
    }
    const struct mj__prompt_cfg prompt = {
        .ctx = repl, .eval = eval, .interrupt = interrupt, .complete = complete};
    r = mj__prompt_run(&prompt);
    mj_repl_free(repl);
    return r;
}

const struct mj_command mj_cmd_repl = {
    .name = "repl",
    .usage = "[SCRIPT]",
    .summary = "Lua at a prompt, in a script, over recorded events.",
    .details =
        "Loads SCRIPT as `moonjet run` would and takes lines of Lua: expressions are printed, the\n"
        "script's locals can be read, called and changed. With --events, `ev` is an event of the\n"
        "recording: next() and find(match) go on to another, try(match, function) counts those\n"
        "that pass, send() runs ev through the script's flows. help() lists it. With --live, what\n"
        "is typed runs inside a running moonjet, between two events. Without a terminal, lines\n"
        "are read from stdin, and the exit status is 1 when one of them failed.",
    .options = options,
    .positional_max = 1,
    .main = repl_main,
};
