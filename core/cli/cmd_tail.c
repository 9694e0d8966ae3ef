/* moonjet tail: a Jetstream client. One line per event on stdout; a lost connection is resumed at
 * the last event, which the server sends again and we print once. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/dictionary.h"
#include "base/err.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/pretty.h"
#include "source/wsc.h"

#define TAG            "tail"
#define DEFAULT_URL    "ws://127.0.0.1:6008/subscribe"
#define MESSAGE_BYTES  (16u << 20) /* a record of 1 MB, escaped as badly as JSON can be */
#define BACKOFF_MS     500
#define BACKOFF_MAX_MS 10000

struct cfg {
    struct mj_strings collections, dids;
    const char *cursor, *dictionary;
    int64_t count, max_size;
    bool pretty, zstd;
};

struct run {
    const struct cfg *cfg;
    struct mj_loop *loop;
    struct mj_wsc *wsc;
    struct mj_timer *retry;
    struct mj_url url;
    struct mj_zmessage *zmessage; /* owned; NULL without --zstd */
    uint32_t dictionary_id;
    struct mj_buf out;
    bool colour, resumed;
    int64_t last_time_us; /* of the newest event printed; 0 = none */
    int64_t events;
    unsigned attempts;
    int status;
};

static void put_param(struct mj_buf *b, const char *key, const char *value)
{
    mj_buf_printf(b, "%c%s=", memchr(b->ptr, '?', b->len) ? '&' : '?', key);
    for (; *value; value++) {
        bool plain = (*value >= '0' && *value <= '9') ||
                     ((*value | 0x20) >= 'a' && (*value | 0x20) <= 'z') || strchr("-._~:*", *value);
        mj_buf_printf(b, plain ? "%c" : "%%%02X", (uint8_t)*value);
    }
}

/* The target of the next request: the URL's own parameters and ours. Servers take the first
 * cursor they see, so a resumed connection must not keep the URL's. */
static void connect_now(void *ctx)
{
    struct run *run = ctx;
    MJ_AUTO_BUF target = {0};
    struct mj_span rest = mj_str(run->url.path), key, value;
    const char *query = strchr(run->url.path, '?');
    size_t path = query ? (size_t)(query - run->url.path) : rest.len;
    run->resumed = run->last_time_us > 0;
    bool replace = run->resumed || run->cfg->cursor;
    if (run->url.has_path)
        mj_buf_put(&target, rest.ptr, path);
    else
        mj_buf_puts(&target, "/subscribe");
    rest = mj_str(query ? query + 1 : "");
    while (mj_query_next(&rest, &key, &value)) {
        if (replace && mj_span_is(key, "cursor"))
            continue;
        mj_buf_putc(&target, memchr(target.ptr, '?', target.len) ? '&' : '?');
        mj_buf_printf(&target, "%.*s=%.*s", (int)key.len, (const char *)key.ptr, (int)value.len,
                      value.len ? (const char *)value.ptr : "");
    }
    for (size_t i = 0; i < run->cfg->collections.n; i++)
        put_param(&target, "wantedCollections", run->cfg->collections.v[i]);
    for (size_t i = 0; i < run->cfg->dids.n; i++)
        put_param(&target, "wantedDids", run->cfg->dids.v[i]);
    if (run->cfg->zstd)
        put_param(&target, "compress", "true");
    char number[24];
    if (run->cfg->max_size > 0) {
        snprintf(number, sizeof number, "%" PRId64, run->cfg->max_size);
        put_param(&target, "maxMessageSizeBytes", number);
    }
    snprintf(number, sizeof number, "%" PRId64, run->last_time_us);
    if (replace)
        put_param(&target, "cursor", run->resumed ? number : run->cfg->cursor);
    mj_wsc_connect(run->wsc, mj_buf_cstr(&target));
}

static void finish(struct run *run, int status)
{
    run->status = status;
    mj_loop_stop(run->loop);
}

static bool is_finished(const struct run *run)
{
    return run->cfg->count > 0 && run->events >= run->cfg->count;
}

/* time_us of an event; it stands behind the DID, which holds no quotes. 0 when there is none. */
static int64_t time_of(struct mj_span json)
{
    static const char key[] = "\"time_us\":";
    const uint8_t *at = memmem(json.ptr, json.len, key, sizeof key - 1);
    if (!at)
        return 0;
    at += sizeof key - 1;
    size_t left = (size_t)(json.ptr + json.len - at), n = 0;
    while (n < left && at[n] >= '0' && at[n] <= '9')
        n++;
    int64_t t;
    return mj_span_i64(mj_span(at, n), &t) ? 0 : t;
}

static void on_message(void *ctx, struct mj_span json)
{
    struct run *run = ctx;
    int64_t time_us = time_of(json);
    if (is_finished(run) || (run->resumed && time_us && time_us <= run->last_time_us))
        return;
    if (time_us)
        run->last_time_us = time_us;
    run->attempts = 0;
    run->events++;
    if (run->cfg->pretty) {
        mj_pretty(json, run->colour, &run->out);
    } else {
        mj_buf_put(&run->out, json.ptr, json.len);
        mj_buf_putc(&run->out, '\n');
    }
    if (is_finished(run))
        finish(run, MJ_EXIT_OK);
}

/* What cannot be decoded ends it all: going on would leave events out without a word, and asking
 * again would get the same. */
static void on_zstd(void *ctx, struct mj_span message)
{
    struct run *run = ctx;
    struct mj_span json;
    if (is_finished(run) || run->status)
        return;
    int err = mj_zmessage_decode(run->zmessage, message, &json);
    if (!err) {
        on_message(ctx, json);
        return;
    }
    uint32_t wants = mj_zmessage_wants(message);
    if (err == MJ_EMISMATCH)
        fprintf(stderr,
                "moonjet tail: the server compresses with dictionary %u, this is %u; name the "
                "right one with --dictionary FILE\n",
                wants, run->dictionary_id);
    else
        fprintf(stderr, "moonjet tail: cannot decode a compressed message: %s\n",
                err == MJ_EBIG ? "it is larger than any event" : mj_strerror(err));
    finish(run, MJ_EXIT_FAILED);
    mj_wsc_close(run->wsc, err == MJ_EBIG ? 1009 : 1007);
}

static void on_batch(void *ctx)
{
    struct run *run = ctx;
    for (size_t at = 0; at < run->out.len;) {
        ssize_t n = write(STDOUT_FILENO, run->out.ptr + at, run->out.len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) { /* EPIPE: whoever read us has seen enough */
            if (errno != EPIPE)
                fprintf(stderr, "moonjet tail: cannot write: %s\n", strerror(errno));
            finish(run, errno == EPIPE ? MJ_EXIT_OK : MJ_EXIT_FAILED);
            break;
        }
        at += (size_t)n;
    }
    run->out.len = 0;
}

static void on_opened(void *ctx)
{
    struct run *run = ctx;
    mj_log(MJ_LOG_INFO, TAG, "connected to %s:%d", run->url.host, run->url.port);
}

static void on_ended(void *ctx, const struct mj_wsc_ended *e)
{
    struct run *run = ctx;
    bool temporary = e->end != MJ_WSC_STATUS || e->code == 429 || e->code >= 500;
    if (!temporary || e->end == MJ_WSC_NOT_WS) {
        fprintf(stderr, "moonjet tail: %s\n", e->why);
        finish(run, MJ_EXIT_FAILED);
        return;
    }
    int64_t ms = e->retry_after_ms + mj_wsc_backoff_ms(run->attempts++, BACKOFF_MS, BACKOFF_MAX_MS);
    mj_log(MJ_LOG_WARN, TAG, "%s; trying again in %.1f s", e->why, (double)ms / 1000);
    mj_timer_set(run->retry, ms * 1000);
}

/* False after a message. */
static bool open_dictionary(struct run *run)
{
    struct mj_dictionary d;
    MJ_AUTO_BUF error = {0};
    int err = mj_dictionary_find(run->cfg->dictionary, NULL, &d, &error);
    if (err) {
        fprintf(stderr, "moonjet tail: %s\n",
                err == MJ_ENOENT ? "--zstd needs the server's dictionary: name it with "
                                   "--dictionary FILE, or `moonjet dictionary install FILE` once"
                                 : mj_buf_cstr(&error));
        return false;
    }
    run->dictionary_id = d.id;
    run->zmessage = mj_zmessage_new(mj_buf_span(&d.bytes), MESSAGE_BYTES);
    mj_dictionary_deinit(&d);
    if (!run->zmessage)
        fprintf(stderr, "moonjet tail: out of memory\n");
    return run->zmessage;
}

static int tail_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg cfg = {0};
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    struct run run = {.cfg = &cfg, .colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR")};
    const char *url = pos.n ? pos.v[0] : DEFAULT_URL;
    if (mj_url_parse(url, &run.url)) {
        fprintf(stderr, "moonjet tail: '%s' is not a URL like %s\n", url, DEFAULT_URL);
        return MJ_EXIT_USAGE;
    }
    if (cfg.zstd && !open_dictionary(&run))
        return MJ_EXIT_FAILED;
    run.loop = mj_loop_new();
    mj_loop_stop_on_signals(run.loop);
    run.retry = mj_timer_new(run.loop, connect_now, &run);
    struct mj_wsc_cfg wsc = {
        .url = run.url,
        .wanted = MJ_WS_TEXT,
        .limit = MESSAGE_BYTES,
        .opened = on_opened,
        .message = on_message,
        .other = cfg.zstd ? on_zstd : NULL,
        .batch = on_batch,
        .ended = on_ended,
        .ctx = &run,
    };
    mj_log_setup(MJ_LOG_WARN, false);
    if (mj_wsc_new(run.loop, &wsc, &run.wsc)) {
        run.status = MJ_EXIT_FAILED;
    } else {
        connect_now(&run);
        mj_loop_run(run.loop);
    }
    mj_wsc_free(run.wsc);
    mj_timer_free(run.retry);
    mj_loop_free(run.loop);
    mj_zmessage_free(run.zmessage);
    mj_buf_deinit(&run.out);
    return run.status;
}

static const struct mj_option options[] = {
    {"collection", MJ_OPT_LIST, offsetof(struct cfg, collections), "NSID",
     "only this collection, or app.bsky.feed.*; repeatable"},
    {"did", MJ_OPT_LIST, offsetof(struct cfg, dids), "DID", "only this account; repeatable"},
    {"cursor", MJ_OPT_STR, offsetof(struct cfg, cursor), "TIME_US",
     "start at this time (Unix microseconds); 0 = the oldest there is"},
    {"count", MJ_OPT_INT, offsetof(struct cfg, count), "N", "end after N events"},
    {"max-size", MJ_OPT_SIZE, offsetof(struct cfg, max_size), "BYTES",
     "leave out events that are larger"},
    {"zstd", MJ_OPT_FLAG, offsetof(struct cfg, zstd), NULL,
     "ask for compressed messages, less than half the bytes; the output is the same"},
    {"dictionary", MJ_OPT_STR, offsetof(struct cfg, dictionary), "FILE",
     "for --zstd: the server's dictionary, else the one that `moonjet dictionary show` names"},
    {"pretty", MJ_OPT_FLAG, offsetof(struct cfg, pretty), NULL,
     "a short line for people instead of the JSON"},
    {0}};

const struct mj_command mj_cmd_tail = {
    .name = "tail",
    .usage = "[URL]",
    .summary = "Print the events of a Jetstream server.",
    .details =
        "URL defaults to " DEFAULT_URL "; one without a path gets\n"
        "/subscribe. A lost connection is resumed where it broke, without printing an event\n"
        "twice. Ends with exit status 1 when the server refuses the request (its answer is\n"
        "on stderr).",
    .options = options,
    .positional_max = 1,
    .main = tail_main,
};
