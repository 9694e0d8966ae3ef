#include "source/firehose.h"

#include <inttypes.h>
#include <stdio.h>

#include "atproto/syntax.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/metrics.h"
#include "source/peek.h"
#include "source/wsc.h"

#define TAG        "firehose"
#define BAD_FRAMES 8    /* in a row: this connection is damaged */
#define REPEATS    1000 /* in a row: worth a word */

enum reason {
    NETWORK,
    TIMEOUT,
    HTTP_STATUS,
    RATE_LIMITED,
    PROTOCOL,
    SILENCE,
    CLOSED,
    TOO_SLOW,
    FUTURE_CURSOR,
    ERROR_FRAME,
    DAMAGED,
    REASONS
};

static const char *const reason_names[REASONS] = {
    "network", "timeout",           "http_status",   "rate_limited", "protocol", "silence",
    "closed",  "consumer_too_slow", "future_cursor", "error_frame",  "damaged",
};

struct meters {
    struct mj_metric *frames, *bytes, *repeated, *gap, *history_lost, *connected;
    struct mj_metric *reconnects[REASONS];
    struct mj_metric *types[MJ_FRAME_TYPE_COUNT];
    struct mj_metric *last_seq, *processed_at, *created_at, *lag, *sequenced;
    struct mj_histogram *duration;
};

struct mj_firehose {
    struct mj_firehose_cfg cfg; /* url and user_agent owned */
    struct mj_url url;
    struct meters m;
    struct mj_wsc *wsc;     /* owned */
    struct mj_timer *retry; /* the next attempt */
    bool stopped;           /* for good */

    int64_t cursor;      /* -1 = none */
    int64_t last_seq;    /* of the stream, 0 = not known: gaps are counted from it */
    unsigned attempts;   /* in a row without a processed event */
    unsigned bad_frames; /* in a row */
    unsigned repeats;    /* in a row */
    struct mj_log_gate info_gate;

    /* the batch under way */
    int64_t batch_frames, batch_bytes, batch_events, batch_cursor;
    int64_t batch_us;   /* monotonic: when its first frame came */
    char last_time[64]; /* `time` of the newest frame, for the lag */
    size_t last_time_len;
};

/* ---- metrics ---- */

static void meters_init(struct meters *m, const char *url)
{
    static const char *const types[MJ_FRAME_TYPE_COUNT] = {"unknown", "commit", "sync", "identity",
                                                           "account", "info",   "error"};
    char l[512];
    mj_metric_label(mj_str(url), l, sizeof l);
#define METRIC(name, type, help) mj_metric(name, type, help, "socket_url=\"%s\"", l)
    m->frames = METRIC("moonjet_source_frames_total", MJ_COUNTER, "Frames received.");
    m->bytes = METRIC("moonjet_source_bytes_total", MJ_COUNTER, "Bytes of frames received.");
    m->repeated = METRIC("moonjet_source_repeated_total", MJ_COUNTER,
                         "Frames dropped because their seq was not above the last one.");
    m->gap = METRIC("moonjet_source_seq_gap_total", MJ_COUNTER,
                    "Sequence numbers that were skipped by the upstream.");
    m->history_lost = METRIC("moonjet_source_history_lost_total", MJ_COUNTER,
                             "Times the upstream no longer had what the cursor asked for.");
    m->connected = METRIC("moonjet_source_connected", MJ_GAUGE, "1 while subscribed.");
    m->last_seq = METRIC("consumer_last_seq", MJ_GAUGE, "Seq of the last frame processed.");
    m->processed_at = METRIC("consumer_last_evt_processed_at", MJ_GAUGE,
                             "When the last frame was processed, Unix nanoseconds.");
    m->created_at = METRIC("consumer_last_evt_created_at", MJ_GAUGE,
                           "The last frame's own time, Unix nanoseconds.");
    m->lag = METRIC("consumer_last_evt_created_evt_processed_gap", MJ_GAUGE,
                    "Seconds between the last frame's own time and its processing.");
    m->sequenced = METRIC("consumer_events_sequenced_total", MJ_COUNTER, "Events decoded.");
#undef METRIC
    /* v1's buckets: 0.1 ms, doubled. */
    static int64_t bounds[18];
    for (size_t i = 0; i < MJ_COUNT(bounds); i++)
        bounds[i] = INT64_C(100) << i;
    m->duration = mj_histogram("consumer_event_processing_duration_seconds",
                               "Time from a frame's arrival until it is published, batches by "
                               "their average.",
                               bounds, MJ_COUNT(bounds), "socket_url=\"%s\"", l);
    for (int i = 0; i < REASONS; i++)
        m->reconnects[i] = mj_metric("moonjet_source_reconnects_total", MJ_COUNTER,
                                     "Connections and attempts lost, by reason.",
                                     "socket_url=\"%s\",reason=\"%s\"", l, reason_names[i]);
    for (int i = 0; i < MJ_FRAME_TYPE_COUNT; i++)
        m->types[i] =
            mj_metric("consumer_events_processed_total", MJ_COUNTER, "Frames processed, by type.",
                      "event_type=\"%s\",socket_url=\"%s\"", types[i], l);
}

/* ---- attempts ---- */

static void attempt(void *ctx)
{
    struct mj_firehose *f = ctx;
    MJ_AUTO_BUF target = {0};
    mj_buf_puts(&target, f->url.path);
    if (f->cursor >= 0)
        mj_buf_printf(&target, "%ccursor=%" PRId64, strchr(f->url.path, '?') ? '&' : '?',
                      f->cursor);
    mj_wsc_connect(f->wsc, mj_buf_cstr(&target));
}

/* Plans the next attempt, `least_ms` plus full jitter from now. The connection is gone. */
static void try_again(struct mj_firehose *f, enum reason reason, int64_t least_ms, const char *why)
{
    mj_metric_set(f->m.connected, 0);
    mj_metric_add(f->m.reconnects[reason], 1);
    const struct mj_firehose_times *t = &f->cfg.times;
    int64_t ms = least_ms + mj_wsc_backoff_ms(f->attempts++, t->backoff, t->backoff_max);
    mj_timer_set(f->retry, ms * 1000);
    mj_log(least_ms >= t->slow ? MJ_LOG_ERROR : MJ_LOG_WARN, TAG, "%s: %s; trying again in %.1f s",
           f->cfg.url, why, (double)ms / 1000);
}

/* We end it: with code 1000, because what the server sent was well-formed WebSocket. */
static void leave(struct mj_firehose *f, enum reason reason, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void leave(struct mj_firehose *f, enum reason reason, const char *fmt, ...)
{
    char why[400]; /* formatted before what it may quote is released */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    mj_wsc_close(f->wsc, 1000);
    try_again(f, reason, 0, why);
}

static void on_ended(void *ctx, const struct mj_wsc_ended *e)
{
    static const enum reason reasons[] = {
        [MJ_WSC_NETWORK] = NETWORK, [MJ_WSC_TIMEOUT] = TIMEOUT,   [MJ_WSC_STATUS] = HTTP_STATUS,
        [MJ_WSC_NOT_WS] = PROTOCOL, [MJ_WSC_PROTOCOL] = PROTOCOL, [MJ_WSC_SILENCE] = SILENCE,
        [MJ_WSC_CLOSED] = CLOSED,
    };
    struct mj_firehose *f = ctx;
    enum reason reason = reasons[e->end];
    int64_t least = 0;
    /* What a quick retry would only repeat is not hurried; what looks like a configuration error
     * is retried slowly and said loudly. */
    int64_t unhurried = f->cfg.times.backoff_max / 2;
    if (e->end == MJ_WSC_STATUS) {
        bool temporary = e->code == 429 || (e->code >= 500 && e->code != 501);
        least = temporary ? e->retry_after_ms : f->cfg.times.slow;
        if (e->code == 429)
            reason = RATE_LIMITED;
    } else if (e->end == MJ_WSC_NOT_WS) {
        least = f->cfg.times.slow;
    } else if (e->end == MJ_WSC_PROTOCOL || e->code == 1000 || e->code == 1002 || e->code == 1003 ||
               e->code == 1007 || e->code == 1009) {
        least = unhurried;
    }
    try_again(f, reason, least, e->why);
}

static void give_up(struct mj_firehose *f)
{
    mj_wsc_close(f->wsc, 1000);
    mj_metric_set(f->m.connected, 0);
    f->stopped = true;
    mj_log(MJ_LOG_ERROR, TAG,
           "%s: cursor %" PRId64 " is ahead of this server: the wrong server, or it lost its "
           "history. Stopping; --on-future-cursor live or oldest goes on without the cursor",
           f->cfg.url, f->cursor);
    if (f->cfg.stopped)
        f->cfg.stopped(f->cfg.ctx);
}

/* ---- frames ---- */

static void on_error_frame(struct mj_firehose *f, const struct mj_frame *frame)
{
    char name[64], message[200];
    snprintf(name, sizeof name, "%.*s", (int)frame->name.len, (const char *)frame->name.ptr);
    snprintf(message, sizeof message, "%.*s",
             frame->message.len > 190 ? 190 : (int)frame->message.len,
             (const char *)frame->message.ptr);
    if (strcmp(name, "FutureCursor") == 0) {
        mj_metric_add(f->m.reconnects[FUTURE_CURSOR], 1);
        if (f->cfg.on_future == MJ_FUTURE_STOP) {
            give_up(f);
            return;
        }
        f->cursor = f->cfg.on_future == MJ_FUTURE_LIVE ? -1 : 0;
        f->last_seq = 0;
        leave(f, ERROR_FRAME, "the server says FutureCursor (%s); going on %s", message,
              f->cursor ? "live" : "from the oldest frame");
        return;
    }
    leave(f, strcmp(name, "ConsumerTooSlow") == 0 ? TOO_SLOW : ERROR_FRAME,
          "the server says %s (%s)", name, message);
}

/* How much of a server's text a log line has room for. */
static int shown(struct mj_span text) { return text.len > 190 ? 190 : (int)text.len; }

static void on_info(struct mj_firehose *f, const struct mj_frame *frame)
{
    bool outdated = mj_span_is(frame->name, "OutdatedCursor");
    if (outdated)
        mj_metric_add(f->m.history_lost, 1);
    mj_log_limited(&f->info_gate, 2, outdated ? MJ_LOG_WARN : MJ_LOG_INFO, TAG, "%s: %.*s: %.*s%s",
                   f->cfg.url, shown(frame->name), (const char *)frame->name.ptr,
                   shown(frame->message), (const char *)frame->message.ptr,
                   outdated ? " (history lost)" : "");
}

/* The frame's own encoding is broken, not just something it carries. */
static bool is_damage(int err) { return err == MJ_EFRAME || (err <= MJ_ETRUNC && err >= MJ_ETYPE); }

static void on_frame(void *ctx, struct mj_span frame)
{
    struct mj_firehose *f = ctx;
    if (!f->batch_frames++)
        f->batch_us = mj_mono_us();
    f->batch_bytes += (int64_t)frame.len;
    struct mj_peek peek;
    bool readable = mj_peek(frame, false, &peek) == 0;
    int64_t seq = readable ? peek.seq : 0;
    if (seq && seq <= f->cursor) {
        mj_metric_add(f->m.repeated, 1);
        f->bad_frames = 0;
        if (++f->repeats == REPEATS)
            mj_log(MJ_LOG_WARN, TAG,
                   "%s: %d frames in a row at or below seq %" PRId64 ", the newest at %" PRId64
                   ": all are dropped as repeats. If the server has begun to count anew, restart "
                   "with --cursor 0",
                   f->cfg.url, REPEATS, f->cursor, seq);
        return;
    }
    f->repeats = 0;
    struct mj_frame out = {0};
    int err = f->cfg.frame(f->cfg.ctx, frame, &out);
    f->batch_events += (int64_t)out.events;
    if (seq) {
        if (f->last_seq && seq > f->last_seq + 1)
            mj_metric_add(f->m.gap, seq - f->last_seq - 1);
        f->last_seq = f->cursor = seq;
    }
    if (err && (!readable || is_damage(err))) {
        if (++f->bad_frames >= BAD_FRAMES)
            leave(f, DAMAGED, "%d damaged frames in a row (%s)", BAD_FRAMES, mj_strerror(err));
        return;
    }
    f->bad_frames = 0;
    mj_metric_add(f->m.types[out.type], 1);
    if (seq && err == 0) {
        f->attempts = 0;
        f->last_time_len = out.time.len < sizeof f->last_time ? out.time.len : 0;
        if (f->last_time_len)
            memcpy(f->last_time, out.time.ptr, f->last_time_len);
    }
    if (err == 0 && out.type == MJ_FRAME_ERROR)
        on_error_frame(f, &out);
    else if (err == 0 && out.type == MJ_FRAME_INFO)
        on_info(f, &out);
}

static void on_batch(void *ctx)
{
    struct mj_firehose *f = ctx;
    if (!f->batch_frames)
        return;
    mj_metric_add(f->m.frames, f->batch_frames);
    mj_metric_add(f->m.bytes, f->batch_bytes);
    if (f->cfg.flush)
        f->cfg.flush(f->cfg.ctx);
    mj_metric_add(f->m.sequenced, f->batch_events);
    mj_histogram_observe_n(f->m.duration, (mj_mono_us() - f->batch_us) / f->batch_frames,
                           f->batch_frames);
    f->batch_frames = f->batch_bytes = f->batch_events = 0;
    if (f->cursor == f->batch_cursor)
        return;
    f->batch_cursor = f->cursor;
    int64_t now = mj_now_us(), created;
    mj_metric_set(f->m.last_seq, f->cursor);
    mj_metric_set(f->m.processed_at, now * 1000);
    if (mj_datetime_us(mj_span(f->last_time, f->last_time_len), &created) == 0) {
        mj_metric_set(f->m.created_at, created * 1000);
        mj_metric_set(f->m.lag, (now - created) / 1000000);
    }
}

static void on_opened(void *ctx)
{
    struct mj_firehose *f = ctx;
    f->bad_frames = 0;
    mj_metric_set(f->m.connected, 1);
    if (f->cursor >= 0)
        mj_log(MJ_LOG_INFO, TAG, "%s: connected, cursor %" PRId64, f->cfg.url, f->cursor);
    else
        mj_log(MJ_LOG_INFO, TAG, "%s: connected, live", f->cfg.url);
}

/* ---- public ---- */

static void set_default(int64_t *ms, int64_t def)
{
    if (*ms <= 0)
        *ms = def;
}

int mj_firehose_new(struct mj_loop *loop, const struct mj_firehose_cfg *cfg,
                    struct mj_firehose **out)
{
    struct mj_url url;
    int err = mj_url_parse(cfg->url, &url);
    if (err)
        return err;
    if (!url.has_path) {
        char path[sizeof url.path];
        int n = snprintf(path, sizeof path, "%s%s", MJ_FIREHOSE_PATH, url.path + 1);
        if (n < 0 || (size_t)n >= sizeof path)
            return MJ_ELIMIT;
        memcpy(url.path, path, (size_t)n + 1);
    }
    struct mj_firehose *f = mj_calloc(1, sizeof *f);
    f->cfg = *cfg;
    f->cfg.url = mj_strdup(cfg->url);
    f->cfg.user_agent = cfg->user_agent ? mj_strdup(cfg->user_agent) : NULL;
    struct mj_firehose_times *t = &f->cfg.times;
    set_default(&t->backoff, 1000);
    set_default(&t->backoff_max, 30000);
    set_default(&t->slow, 60000);
    f->url = url;
    f->cursor = f->batch_cursor = cfg->cursor < 0 ? -1 : cfg->cursor;
    f->last_seq = cfg->cursor > 0 ? cfg->cursor : 0;
    struct mj_wsc_cfg wsc = {
        .url = url,
        .user_agent = f->cfg.user_agent,
        .wanted = MJ_WS_BINARY,
        .handshake_ms = t->handshake,
        .ping_ms = t->ping,
        .silence_ms = t->silence,
        .opened = on_opened,
        .message = on_frame,
        .batch = on_batch,
        .ended = on_ended,
        .ctx = f,
    };
    err = mj_wsc_new(loop, &wsc, &f->wsc);
    if (err) {
        mj_firehose_free(f);
        return err;
    }
    f->retry = mj_timer_new(loop, attempt, f);
    meters_init(&f->m, cfg->url);
    attempt(f);
    *out = f;
    return 0;
}

void mj_firehose_free(struct mj_firehose *f)
{
    if (!f)
        return;
    mj_wsc_free(f->wsc);
    mj_timer_free(f->retry);
    free((char *)f->cfg.url);
    free((char *)f->cfg.user_agent);
    free(f);
}

int64_t mj_firehose_cursor(const struct mj_firehose *f) { return f->cursor; }
bool mj_firehose_connected(const struct mj_firehose *f) { return mj_wsc_is_open(f->wsc); }
bool mj_firehose_stopped(const struct mj_firehose *f) { return f->stopped; }

int mj_on_future_parse(const char *name)
{
    static const char *const names[] = {"stop", "live", "oldest"};
    for (size_t i = 0; i < MJ_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0)
            return (int)i;
    return -1;
}
