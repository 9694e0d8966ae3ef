#include "source/firehose.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "atproto/syntax.h"
#include "base/clock.h"
#include "base/http.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/ws.h"
#include "source/conn.h"
#include "source/dial.h"
#include "source/peek.h"

#define TAG           "firehose"
#define RX_BYTES      (256u << 10) /* one read; the frames in it are still in cache when decoded */
#define READS_MAX     4 /* then the loop's other descriptors and timers have their turn */
#define HEAD_BYTES    (16u << 10)
#define OUT_BYTES     (64u << 10) /* unsent pongs to a server that pings and does not read */
#define BAD_FRAMES    8           /* in a row: this connection is damaged */
#define RETRY_AFTER_S 3600        /* the longest a server may send us away for */

enum state {
    WAITING,   /* for the next attempt */
    DIALING,   /* resolving and connecting, on the helper thread */
    TLS,       /* handshake */
    UPGRADING, /* request sent */
    STREAMING,
    STOPPED /* for good */
};

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
    struct mj_metric *last_seq, *processed_at, *created_at, *lag;
};

struct mj_firehose {
    struct mj_firehose_cfg cfg; /* url and user_agent owned */
    struct mj_loop *loop;       /* borrowed */
    struct mj_url url;
    struct ssl_ctx_st *tls; /* owned; NULL for plain */
    struct meters m;

    enum state state;
    struct mj_timer *timer; /* the next attempt, the handshake's end, or the next liveness check */
    struct mj_watch *watch; /* of the dialling pair, then of the connection */
    int dial_fd;            /* owned by the watch */
    struct mj_conn conn;
    char key[25];
    struct mj_buf head; /* of the response */
    struct mj_buf out;  /* not yet written */
    struct mj_ws_reader reader;
    uint8_t *rx; /* owned, RX_BYTES */

    int64_t cursor;      /* -1 = none */
    int64_t last_seq;    /* of the stream, 0 = not known: gaps are counted from it */
    unsigned attempts;   /* in a row without a processed event */
    unsigned bad_frames; /* in a row */
    int64_t heard_us, pinged_us;
    char last_time[64]; /* `time` of the newest frame, for the lag */
    size_t last_time_len;
};

static void start(struct mj_firehose *f);

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
#undef METRIC
    for (int i = 0; i < REASONS; i++)
        m->reconnects[i] = mj_metric("moonjet_source_reconnects_total", MJ_COUNTER,
                                     "Connections and attempts lost, by reason.",
                                     "socket_url=\"%s\",reason=\"%s\"", l, reason_names[i]);
    for (int i = 0; i < MJ_FRAME_TYPE_COUNT; i++)
        m->types[i] =
            mj_metric("consumer_events_processed_total", MJ_COUNTER, "Frames processed, by type.",
                      "event_type=\"%s\",socket_url=\"%s\"", types[i], l);
}

/* ---- losing a connection, and when to try again ---- */

static uint64_t random_below(uint64_t n)
{
    uint64_t r = 0;
    if (getrandom(&r, sizeof r, 0) != sizeof r)
        r = (uint64_t)mj_mono_us();
    return n ? r % n : 0;
}

static void disconnect(struct mj_firehose *f)
{
    if (f->state == STREAMING)
        mj_metric_set(f->m.connected, 0);
    mj_conn_close(&f->conn);
    mj_watch_close(f->watch);
    f->watch = NULL;
    f->dial_fd = -1;
    mj_buf_deinit(&f->head);
    mj_buf_deinit(&f->out);
    mj_ws_reader_deinit(&f->reader);
}

/* Drops what there is of a connection and plans the next attempt, `least_ms` plus full jitter from
 * now: many clients of one relay must not come back in step. */
static void lost(struct mj_firehose *f, enum reason reason, int64_t least_ms, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void lost(struct mj_firehose *f, enum reason reason, int64_t least_ms, const char *fmt, ...)
{
    char why[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    disconnect(f);
    f->state = WAITING;
    mj_metric_add(f->m.reconnects[reason], 1);
    int64_t cap = f->cfg.times.backoff;
    for (unsigned i = 0; i < f->attempts && cap < f->cfg.times.backoff_max; i++)
        cap *= 2;
    if (cap > f->cfg.times.backoff_max)
        cap = f->cfg.times.backoff_max;
    f->attempts++;
    int64_t ms = least_ms + (int64_t)random_below((uint64_t)cap + 1);
    mj_timer_set(f->timer, ms * 1000);
    mj_log(least_ms >= f->cfg.times.slow ? MJ_LOG_ERROR : MJ_LOG_WARN, TAG,
           "%s: %s; trying again in %.1f s", f->cfg.url, why, (double)ms / 1000);
}

/* For closes and violations that a quick retry would only repeat. */
static int64_t unhurried(const struct mj_firehose *f) { return f->cfg.times.backoff_max / 2; }

static void give_up(struct mj_firehose *f)
{
    disconnect(f);
    f->state = STOPPED;
    mj_timer_set(f->timer, -1);
    mj_log(MJ_LOG_ERROR, TAG,
           "%s: cursor %" PRId64 " is ahead of this server: the wrong server, or it lost its "
           "history. Stopping; --on-future-cursor live or oldest goes on without the cursor",
           f->cfg.url, f->cursor);
    if (f->cfg.stopped)
        f->cfg.stopped(f->cfg.ctx);
}

/* ---- output ---- */

/* False when the connection was lost over it. */
static bool flush_out(struct mj_firehose *f)
{
    while (f->out.len) {
        int64_t n = mj_conn_write(&f->conn, f->out.ptr, f->out.len);
        if (n < 0) {
            lost(f, NETWORK, 0, "%s", f->conn.why);
            return false;
        }
        if (n == 0) {
            mj_watch_writable(f->watch);
            break;
        }
        mj_buf_shift(&f->out, (size_t)n);
    }
    if (f->out.len > OUT_BYTES) {
        lost(f, PROTOCOL, unhurried(f), "the server sends pings and reads no answers");
        return false;
    }
    return true;
}

static bool send_control(struct mj_firehose *f, enum mj_ws_opcode op, struct mj_span payload)
{
    uint8_t head[MJ_WS_HEAD_MAX], mask[4];
    uint32_t r = (uint32_t)random_below(UINT64_C(1) << 32);
    memcpy(mask, &r, sizeof mask);
    mj_buf_put(&f->out, head, mj_ws_head_masked(head, op, payload.len, mask));
    mj_buf_put(&f->out, payload.ptr, payload.len);
    mj_ws_mask(f->out.ptr + f->out.len - payload.len, payload.len, mask, 0);
    return flush_out(f);
}

static bool send_close(struct mj_firehose *f, int code)
{
    uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    return send_control(f, MJ_WS_CLOSE, mj_span(payload, 2));
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
            send_close(f, 1000);
            give_up(f);
            return;
        }
        f->cursor = f->cfg.on_future == MJ_FUTURE_LIVE ? -1 : 0;
        f->last_seq = 0;
        lost(f, ERROR_FRAME, 0, "the server says FutureCursor (%s); going on %s", message,
             f->cursor ? "live" : "from the oldest frame");
        return;
    }
    lost(f, strcmp(name, "ConsumerTooSlow") == 0 ? TOO_SLOW : ERROR_FRAME, 0,
         "the server says %s (%s)", name, message);
}

static void on_info(struct mj_firehose *f, const struct mj_frame *frame)
{
    bool outdated = mj_span_is(frame->name, "OutdatedCursor");
    if (outdated)
        mj_metric_add(f->m.history_lost, 1);
    mj_log(outdated ? MJ_LOG_WARN : MJ_LOG_INFO, TAG, "%s: %.*s: %.*s%s", f->cfg.url,
           (int)frame->name.len, (const char *)frame->name.ptr, (int)frame->message.len,
           (const char *)frame->message.ptr, outdated ? " (history lost)" : "");
}

/* The frame's own encoding is broken, not just something it carries. */
static bool is_damage(int err) { return err == MJ_EFRAME || (err <= MJ_ETRUNC && err >= MJ_ETYPE); }

static void on_frame(struct mj_firehose *f, struct mj_span frame)
{
    struct mj_peek peek;
    bool readable = mj_peek(frame, false, &peek) == 0;
    int64_t seq = readable ? peek.seq : 0;
    if (seq && seq <= f->cursor) {
        mj_metric_add(f->m.repeated, 1);
        f->bad_frames = 0;
        return;
    }
    struct mj_frame out = {0};
    int err = f->cfg.frame(f->cfg.ctx, frame, &out);
    if (seq) {
        if (f->last_seq && seq > f->last_seq + 1)
            mj_metric_add(f->m.gap, seq - f->last_seq - 1);
        f->last_seq = f->cursor = seq;
    }
    if (err && (!readable || is_damage(err))) {
        if (++f->bad_frames >= BAD_FRAMES)
            lost(f, DAMAGED, 0, "%d damaged frames in a row (%s)", BAD_FRAMES, mj_strerror(err));
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

static void on_message(struct mj_firehose *f, const struct mj_ws_msg *m)
{
    switch (m->op) {
    case MJ_WS_BINARY:
        on_frame(f, m->payload);
        break;
    case MJ_WS_PING:
        send_control(f, MJ_WS_PONG, m->payload);
        break;
    case MJ_WS_CLOSE: {
        int code = mj_ws_close_code(m->payload);
        bool fault = code == 1000 || code == 1002 || code == 1003 || code == 1007 || code == 1009;
        char text[126];
        snprintf(text, sizeof text, "%.*s", m->payload.len > 2 ? (int)m->payload.len - 2 : 0,
                 m->payload.len > 2 ? (const char *)m->payload.ptr + 2 : "");
        if (send_close(f, code == 1005 ? 1000 : code))
            lost(f, CLOSED, fault ? unhurried(f) : 0, "closed by the server (%d%s%s)", code,
                 *text ? ": " : "", text);
        break;
    }
    case MJ_WS_TEXT:
        if (send_close(f, 1003))
            lost(f, PROTOCOL, unhurried(f), "a text message on a binary stream");
        break;
    default:
        break; /* a pong has done its work by arriving */
    }
}

static void finish_batch(struct mj_firehose *f, int64_t before, int64_t frames, int64_t bytes)
{
    if (!frames)
        return;
    mj_metric_add(f->m.frames, frames);
    mj_metric_add(f->m.bytes, bytes);
    if (f->cfg.flush)
        f->cfg.flush(f->cfg.ctx);
    if (f->cursor == before)
        return;
    int64_t now = mj_now_us(), created;
    mj_metric_set(f->m.last_seq, f->cursor);
    mj_metric_set(f->m.processed_at, now * 1000);
    if (mj_datetime_us(mj_span(f->last_time, f->last_time_len), &created) == 0) {
        mj_metric_set(f->m.created_at, created * 1000);
        mj_metric_set(f->m.lag, (now - created) / 1000000);
    }
}

static void on_bytes(struct mj_firehose *f, uint8_t *p, size_t n)
{
    int64_t before = f->cursor, frames = 0, bytes = 0;
    struct mj_ws_msg m;
    int got = 0;
    mj_ws_reader_feed(&f->reader, p, n);
    while (f->state == STREAMING && (got = mj_ws_reader_next(&f->reader, &m)) > 0) {
        frames += m.op == MJ_WS_BINARY;
        bytes += m.op == MJ_WS_BINARY ? (int64_t)m.payload.len : 0;
        on_message(f, &m);
    }
    finish_batch(f, before, frames, bytes);
    if (f->state == STREAMING && got < 0 && send_close(f, f->reader.close_code))
        lost(f, PROTOCOL, unhurried(f),
             f->reader.close_code == 1009 ? "a message above the size limit"
                                          : "not a WebSocket frame we may accept");
}

/* ---- the upgrade ---- */

static bool send_request(struct mj_firehose *f)
{
    bool port = f->url.port != (f->url.tls ? 443 : 80);
    bool v6 = strchr(f->url.host, ':');
    char digits[8] = "", cursor[40] = "";
    if (port)
        snprintf(digits, sizeof digits, ":%d", f->url.port);
    if (f->cursor >= 0)
        snprintf(cursor, sizeof cursor, "%ccursor=%" PRId64, strchr(f->url.path, '?') ? '&' : '?',
                 f->cursor);
    mj_ws_new_key(f->key);
    mj_buf_printf(&f->out,
                  "GET %s%s HTTP/1.1\r\nHost: %s%s%s%s\r\nUser-Agent: %s\r\n"
                  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                  "Sec-WebSocket-Key: %s\r\n\r\n",
                  f->url.path, cursor, v6 ? "[" : "", f->url.host, v6 ? "]" : "", digits,
                  f->cfg.user_agent, f->key);
    f->state = UPGRADING;
    return flush_out(f);
}

/* Retry-After in milliseconds: seconds or a date; 0 when absent or nonsense. */
static int64_t retry_after_ms(const struct mj_http_head *h)
{
    struct mj_span v = mj_http_header(h, "retry-after");
    int64_t s = 0;
    if (v.len && mj_span_i64(v, &s)) {
        char *text = mj_span_dup(v);
        struct tm tm = {0};
        s = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm) ? timegm(&tm) - mj_now_us() / 1000000
                                                             : 0;
        free(text);
    }
    return (s < 0 ? 0 : s > RETRY_AFTER_S ? RETRY_AFTER_S : s) * 1000;
}

static void on_refusal(struct mj_firehose *f, const struct mj_http_head *h)
{
    int64_t after = retry_after_ms(h);
    if (h->status == 429) {
        lost(f, RATE_LIMITED, after, "HTTP 429, rate limited");
    } else if (h->status >= 500 && h->status != 501) {
        lost(f, HTTP_STATUS, after, "HTTP %d", h->status);
    } else if (h->status >= 300 && h->status < 400) {
        struct mj_span to = mj_http_header(h, "location");
        char text[200];
        snprintf(text, sizeof text, "%.*s", to.len > 190 ? 190 : (int)to.len, (const char *)to.ptr);
        lost(f, HTTP_STATUS, f->cfg.times.slow,
             "HTTP %d redirects to '%s', which is not followed: name that server as the source",
             h->status, text);
    } else {
        lost(f, HTTP_STATUS, f->cfg.times.slow, "HTTP %d: not a firehose, or not for us",
             h->status);
    }
}

static void schedule_liveness(struct mj_firehose *f)
{
    int64_t now = mj_mono_us();
    int64_t ping = f->pinged_us + f->cfg.times.ping * 1000;
    int64_t silent = f->heard_us + f->cfg.times.silence * 1000;
    int64_t next = ping < silent ? ping : silent;
    mj_timer_set(f->timer, next > now ? next - now : 0);
}

static void on_head(struct mj_firehose *f, const uint8_t *p, size_t n)
{
    struct mj_http_head h;
    mj_buf_put(&f->head, p, n);
    int size = mj_http_parse_response(mj_buf_span(&f->head), &h);
    if (size == MJ_EAGAIN && f->head.len < HEAD_BYTES)
        return;
    if (size < 0) {
        lost(f, PROTOCOL, f->cfg.times.slow, "the answer is not HTTP");
        return;
    }
    if (h.status != 101) {
        on_refusal(f, &h);
        return;
    }
    char accept[29];
    mj_ws_accept(mj_str(f->key), accept);
    if (!mj_http_has_token(mj_http_header(&h, "upgrade"), "websocket") ||
        !mj_http_has_token(mj_http_header(&h, "connection"), "upgrade") ||
        !mj_span_is(mj_http_header(&h, "sec-websocket-accept"), accept) ||
        mj_http_header(&h, "sec-websocket-extensions").len ||
        mj_http_header(&h, "sec-websocket-protocol").len) {
        lost(f, PROTOCOL, f->cfg.times.slow, "the upgrade was not answered as asked");
        return;
    }
    f->state = STREAMING;
    f->heard_us = f->pinged_us = mj_mono_us();
    f->bad_frames = 0;
    mj_ws_reader_init(&f->reader, false, 0);
    mj_metric_set(f->m.connected, 1);
    if (f->cursor >= 0)
        mj_log(MJ_LOG_INFO, TAG, "%s: connected, cursor %" PRId64, f->cfg.url, f->cursor);
    else
        mj_log(MJ_LOG_INFO, TAG, "%s: connected, live", f->cfg.url);
    schedule_liveness(f);
    /* Taken out first: the frames may end the connection, which frees the head. */
    struct mj_buf head = f->head;
    f->head = (struct mj_buf){0};
    on_bytes(f, head.ptr + size, head.len - (size_t)size);
    mj_buf_deinit(&head);
}

/* ---- the loop's calls ---- */

static void step_tls(struct mj_firehose *f)
{
    int r = mj_conn_handshake(&f->conn);
    if (r < 0)
        lost(f, NETWORK, 0, "%s", f->conn.why);
    else if (r > 0)
        send_request(f);
    else if (f->conn.wants_write)
        mj_watch_writable(f->watch);
}

static void on_readable(void *ctx)
{
    struct mj_firehose *f = ctx;
    if (f->state == TLS)
        step_tls(f);
    for (int reads = 0; f->state == UPGRADING || f->state == STREAMING; reads++) {
        int64_t n = mj_conn_read(&f->conn, f->rx, f->state == STREAMING ? RX_BYTES : HEAD_BYTES);
        if (n == 0) {
            if (f->conn.wants_write)
                mj_watch_writable(f->watch);
            return;
        }
        if (n < 0) {
            lost(f, n == MJ_ECLOSED ? CLOSED : NETWORK, 0, "%s",
                 n == MJ_ECLOSED ? "the connection ended" : f->conn.why);
            return;
        }
        f->heard_us = mj_mono_us();
        if (f->state == UPGRADING)
            on_head(f, f->rx, (size_t)n);
        else
            on_bytes(f, f->rx, (size_t)n);
        if ((n < RX_BYTES || reads >= READS_MAX) && !mj_conn_pending(&f->conn))
            return;
    }
}

static void on_writable(void *ctx)
{
    struct mj_firehose *f = ctx;
    if (f->state == TLS)
        step_tls(f);
    else if (f->state == UPGRADING || f->state == STREAMING)
        if (flush_out(f))
            on_readable(f); /* TLS may have waited for room to go on reading */
}

static void on_dialed(void *ctx)
{
    struct mj_firehose *f = ctx;
    struct mj_dialed d;
    if (f->state != DIALING || mj_dial_finish(f->dial_fd, &d))
        return;
    mj_watch_close(f->watch);
    f->watch = NULL;
    f->dial_fd = -1;
    if (d.fd < 0) {
        lost(f, NETWORK, 0, "%s", d.why);
        return;
    }
    static const struct mj_watch_fns fns = {on_readable, on_writable};
    f->watch = mj_watch_new(f->loop, d.fd, &fns, f);
    if (!f->watch) {
        close(d.fd);
        lost(f, NETWORK, 0, "out of descriptors");
        return;
    }
    f->state = TLS;
    if (mj_conn_open(&f->conn, d.fd, f->tls, f->url.host))
        lost(f, NETWORK, 0, "%s", f->conn.why);
    else
        step_tls(f);
}

static void start(struct mj_firehose *f)
{
    static const struct mj_watch_fns fns = {on_dialed, NULL};
    f->state = DIALING;
    mj_timer_set(f->timer, f->cfg.times.handshake * 1000);
    f->dial_fd = mj_dial(f->url.host, f->url.port, f->cfg.times.handshake);
    if (f->dial_fd >= 0)
        f->watch = mj_watch_new(f->loop, f->dial_fd, &fns, f);
    if (!f->watch) {
        if (f->dial_fd >= 0)
            close(f->dial_fd);
        lost(f, NETWORK, 0, "out of threads or descriptors");
    }
}

static void on_timer(void *ctx)
{
    struct mj_firehose *f = ctx;
    int64_t now = mj_mono_us();
    switch (f->state) {
    case WAITING:
        start(f);
        break;
    case DIALING:
    case TLS:
    case UPGRADING:
        lost(f, TIMEOUT, 0, "no connection after %.1f s", (double)f->cfg.times.handshake / 1000);
        break;
    case STREAMING:
        if (now - f->heard_us >= f->cfg.times.silence * 1000) {
            lost(f, SILENCE, 0, "silent for %.1f s", (double)f->cfg.times.silence / 1000);
            break;
        }
        if (now - f->pinged_us >= f->cfg.times.ping * 1000) {
            f->pinged_us = now;
            if (!send_control(f, MJ_WS_PING, (struct mj_span){0}))
                break;
        }
        schedule_liveness(f);
        break;
    case STOPPED:
        break;
    }
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
    struct ssl_ctx_st *tls = url.tls ? mj_conn_tls_new() : NULL;
    if (url.tls && !tls)
        return MJ_EIO;
    struct mj_firehose *f = mj_calloc(1, sizeof *f);
    f->cfg = *cfg;
    f->cfg.url = mj_strdup(cfg->url);
    f->cfg.user_agent = mj_strdup(cfg->user_agent ? cfg->user_agent : "moonjet/" MOONJET_VERSION);
    struct mj_firehose_times *t = &f->cfg.times;
    set_default(&t->handshake, 10000);
    set_default(&t->ping, 30000);
    set_default(&t->silence, 60000);
    set_default(&t->backoff, 1000);
    set_default(&t->backoff_max, 30000);
    set_default(&t->slow, 60000);
    f->loop = loop;
    f->url = url;
    f->tls = tls;
    f->cursor = cfg->cursor < 0 ? -1 : cfg->cursor;
    f->last_seq = cfg->cursor > 0 ? cfg->cursor : 0;
    f->conn.fd = f->dial_fd = -1;
    f->rx = mj_alloc(RX_BYTES);
    f->timer = mj_timer_new(loop, on_timer, f);
    meters_init(&f->m, cfg->url);
    start(f);
    *out = f;
    return 0;
}

void mj_firehose_free(struct mj_firehose *f)
{
    if (!f)
        return;
    if (f->state == STREAMING)
        send_close(f, 1000);
    disconnect(f);
    mj_timer_free(f->timer);
    mj_conn_tls_free(f->tls);
    free(f->rx);
    free((char *)f->cfg.url);
    free((char *)f->cfg.user_agent);
    free(f);
}

int64_t mj_firehose_cursor(const struct mj_firehose *f) { return f->cursor; }
bool mj_firehose_connected(const struct mj_firehose *f) { return f->state == STREAMING; }
bool mj_firehose_stopped(const struct mj_firehose *f) { return f->state == STOPPED; }

int mj_on_future_parse(const char *name)
{
    static const char *const names[] = {"stop", "live", "oldest"};
    for (size_t i = 0; i < MJ_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0)
            return (int)i;
    return -1;
}
