#include "source/wsc.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "source/conn.h"
#include "source/dial.h"

#define RX_BYTES   (256u << 10) /* one read; the messages in it are still in cache when used */
#define READS_MAX  16           /* then the loop's other descriptors and timers have their turn */
#define TURN_US    3000         /* or then; by a clock that goes in steps of some milliseconds */
#define HEAD_BYTES (16u << 10)
#define OUT_BYTES  (64u << 10) /* unsent pongs to a server that pings and does not read */

enum state {
    IDLE,
    DIALING,   /* resolving and connecting, on the helper thread */
    TLS,       /* handshake */
    UPGRADING, /* request sent */
    OPEN
};

struct mj_wsc {
    struct mj_wsc_cfg cfg;
    struct mj_loop *loop;   /* borrowed */
    struct ssl_ctx_st *tls; /* owned; NULL for plain */
    enum state state;
    struct mj_timer *timer; /* the handshake's end, or the next liveness check */
    struct mj_timer *more;  /* the next turn, when `unread` */
    struct mj_watch *watch; /* of the dialling pair, then of the connection */
    int dial_fd;            /* owned by the watch */
    struct mj_conn conn;
    char key[25];
    struct mj_buf target; /* of the request */
    struct mj_buf head;   /* of the response */
    struct mj_buf out;    /* not yet written */
    struct mj_ws_reader reader;
    uint8_t *rx;   /* owned, RX_BYTES */
    bool in_batch; /* messages were handed over since the last batch() */
    bool unread;   /* the turn ended before the messages in rx did */
    int64_t heard_us, pinged_us;
    int64_t turn_us; /* coarse: when this turn began */
};

static uint64_t random_below(uint64_t n)
{
    uint64_t r = 0;
    if (getrandom(&r, sizeof r, 0) != sizeof r)
        r = (uint64_t)mj_mono_us();
    return n ? r % n : 0;
}

int64_t mj_wsc_backoff_ms(unsigned attempts, int64_t base_ms, int64_t max_ms)
{
    int64_t cap = base_ms;
    for (unsigned i = 0; i < attempts && cap < max_ms; i++)
        cap *= 2;
    return (int64_t)random_below((uint64_t)(cap < max_ms ? cap : max_ms) + 1);
}

/* ---- the end of a connection ---- */

static void release(struct mj_wsc *w)
{
    mj_timer_set(w->timer, -1);
    mj_timer_set(w->more, -1);
    w->unread = false;
    mj_conn_close(&w->conn);
    mj_watch_close(w->watch);
    w->watch = NULL;
    w->dial_fd = -1;
    mj_buf_deinit(&w->head);
    mj_buf_deinit(&w->out);
    mj_ws_reader_deinit(&w->reader);
    w->state = IDLE;
}

static void end(struct mj_wsc *w, struct mj_wsc_ended e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void end(struct mj_wsc *w, struct mj_wsc_ended e, const char *fmt, ...)
{
    char why[400]; /* formatted before what it may quote is released */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    release(w);
    e.why = why;
    w->cfg.ended(w->cfg.ctx, &e);
}

#define END(w, kind, number, ...)                                                                  \
    end(w, (struct mj_wsc_ended){.end = (kind), .code = (number)}, __VA_ARGS__)

/* ---- output ---- */

/* False when the connection ended over it. */
static bool flush_out(struct mj_wsc *w)
{
    while (w->out.len) {
        int64_t n = mj_conn_write(&w->conn, w->out.ptr, w->out.len);
        if (n < 0) {
            END(w, MJ_WSC_NETWORK, 0, "%s", w->conn.why);
            return false;
        }
        if (n == 0) {
            mj_watch_writable(w->watch);
            break;
        }
        mj_buf_shift(&w->out, (size_t)n);
    }
    if (w->out.len > OUT_BYTES) {
        END(w, MJ_WSC_PROTOCOL, 1008, "the server sends pings and reads no answers");
        return false;
    }
    return true;
}

static void put_control(struct mj_wsc *w, enum mj_ws_opcode op, struct mj_span payload)
{
    uint8_t head[MJ_WS_HEAD_MAX], mask[4];
    uint32_t r = (uint32_t)random_below(UINT64_C(1) << 32);
    memcpy(mask, &r, sizeof mask);
    mj_buf_put(&w->out, head, mj_ws_head_masked(head, op, payload.len, mask));
    mj_buf_put(&w->out, payload.ptr, payload.len);
    mj_ws_mask(w->out.ptr + w->out.len - payload.len, payload.len, mask, 0);
}

/* A goodbye is written if there is room for it, and not waited for. */
static void put_close(struct mj_wsc *w, int code)
{
    uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    put_control(w, MJ_WS_CLOSE, mj_span(payload, 2));
    while (w->out.len) {
        int64_t n = mj_conn_write(&w->conn, w->out.ptr, w->out.len);
        if (n <= 0)
            break;
        mj_buf_shift(&w->out, (size_t)n);
    }
}

/* ---- messages ---- */

static void on_close(struct mj_wsc *w, struct mj_span payload)
{
    int code = mj_ws_close_code(payload);
    struct mj_span text = payload.len > 2 ? mj_span(payload.ptr + 2, payload.len - 2) : MJ_SPAN("");
    put_close(w, code == 1005 ? 1000 : code);
    END(w, MJ_WSC_CLOSED, code, "closed by the server (%d%s%.*s)", code, text.len ? ": " : "",
        (int)text.len, (const char *)text.ptr);
}

static void on_message(struct mj_wsc *w, const struct mj_ws_msg *m)
{
    if (m->op == w->cfg.wanted) {
        w->cfg.message(w->cfg.ctx, m->payload);
    } else if (m->op == MJ_WS_PING) {
        put_control(w, MJ_WS_PONG, m->payload);
        flush_out(w);
    } else if (m->op == MJ_WS_CLOSE) {
        on_close(w, m->payload);
    } else if (m->op == MJ_WS_PONG) {
        return; /* it has done its work by arriving */
    } else if (w->cfg.other) {
        w->cfg.other(w->cfg.ctx, m->payload);
    } else {
        put_close(w, 1003);
        END(w, MJ_WSC_PROTOCOL, 1003, "a %s message where only %s ones belong",
            m->op == MJ_WS_TEXT ? "text" : "binary", m->op == MJ_WS_TEXT ? "binary" : "text");
    }
}

static void end_batch(struct mj_wsc *w)
{
    if (w->in_batch && w->cfg.batch)
        w->cfg.batch(w->cfg.ctx);
    w->in_batch = false;
}

/* Hands over what the reader was fed, or as much of it as a turn has time for. */
static void on_messages(struct mj_wsc *w)
{
    struct mj_ws_msg m;
    int got = 0;
    w->in_batch = true;
    w->unread = false;
    while (w->state == OPEN && (got = mj_ws_reader_next(&w->reader, &m)) > 0) {
        on_message(w, &m);
        if (MJ_UNLIKELY(mj_coarse_us() - w->turn_us >= TURN_US) && w->state == OPEN) {
            w->unread = true;
            mj_timer_set(w->more, 0);
            return;
        }
    }
    if (w->state == OPEN && got < 0) {
        end_batch(w);
        int code = w->reader.close_code;
        put_close(w, code);
        END(w, MJ_WSC_PROTOCOL, code,
            code == 1009 ? "a message above the size limit"
                         : "not a WebSocket frame we may accept");
    }
}

/* ---- the upgrade ---- */

static void send_request(struct mj_wsc *w)
{
    const struct mj_url *u = &w->cfg.url;
    bool v6 = strchr(u->host, ':');
    char port[8] = "";
    if (u->port != (u->tls ? 443 : 80))
        snprintf(port, sizeof port, ":%d", u->port);
    mj_ws_new_key(w->key);
    mj_buf_printf(&w->out,
                  "GET %s HTTP/1.1\r\nHost: %s%s%s%s\r\nUser-Agent: %s\r\n"
                  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                  "Sec-WebSocket-Key: %s\r\n\r\n",
                  mj_buf_cstr(&w->target), v6 ? "[" : "", u->host, v6 ? "]" : "", port,
                  w->cfg.user_agent, w->key);
    w->state = UPGRADING;
    flush_out(w);
}

/* The first line of what a refusing server says beside the status, if it came along. */
static struct mj_span first_line(struct mj_span body)
{
    size_t n = 0;
    while (n < body.len && n < 160 && body.ptr[n] >= 0x20)
        n++;
    return mj_span(body.ptr, n);
}

static void on_refusal(struct mj_wsc *w, const struct mj_http_head *h, struct mj_span body)
{
    struct mj_wsc_ended e = {.end = MJ_WSC_STATUS, .code = h->status};
    e.retry_after_ms = mj_http_retry_after(h, mj_now_us() / 1000000) * 1000;
    struct mj_span to = mj_http_header(h, "location");
    struct mj_span line = first_line(body);
    if (h->status >= 300 && h->status < 400)
        end(w, e, "HTTP %d redirects to '%.*s', which is not followed: name that server instead",
            h->status, to.len > 160 ? 160 : (int)to.len, to.len ? (const char *)to.ptr : "");
    else
        end(w, e, "HTTP %d%s%.*s", h->status, line.len ? ": " : "", (int)line.len,
            line.len ? (const char *)line.ptr : "");
}

static void schedule_liveness(struct mj_wsc *w)
{
    int64_t now = mj_mono_us();
    int64_t ping = w->pinged_us + w->cfg.ping_ms * 1000;
    int64_t silent = w->heard_us + w->cfg.silence_ms * 1000;
    int64_t next = ping < silent ? ping : silent;
    mj_timer_set(w->timer, next > now ? next - now : 0);
}

static void on_head(struct mj_wsc *w, const uint8_t *p, size_t n)
{
    struct mj_http_head h;
    mj_buf_put(&w->head, p, n);
    int size = mj_http_parse_response(mj_buf_span(&w->head), &h);
    if (size == MJ_EAGAIN && w->head.len < HEAD_BYTES)
        return;
    if (size < 0) {
        END(w, MJ_WSC_NOT_WS, 0, "the answer is not HTTP");
        return;
    }
    uint8_t *rest = w->head.ptr + size;
    size_t left = w->head.len - (size_t)size;
    if (h.status != 101) {
        on_refusal(w, &h, mj_span(rest, left));
        return;
    }
    char accept[29];
    mj_ws_accept(mj_str(w->key), accept);
    if (!mj_http_has_token(mj_http_header(&h, "upgrade"), "websocket") ||
        !mj_http_has_token(mj_http_header(&h, "connection"), "upgrade") ||
        !mj_span_is(mj_http_header(&h, "sec-websocket-accept"), accept) ||
        mj_http_header(&h, "sec-websocket-extensions").len ||
        mj_http_header(&h, "sec-websocket-protocol").len) {
        END(w, MJ_WSC_NOT_WS, 0, "the upgrade was not answered as asked");
        return;
    }
    w->state = OPEN;
    w->heard_us = w->pinged_us = mj_mono_us();
    mj_ws_reader_init(&w->reader, false, w->cfg.limit);
    schedule_liveness(w);
    /* The messages stay in rx until a turn has time for them. */
    memmove(w->rx, rest, left);
    mj_buf_deinit(&w->head);
    w->cfg.opened(w->cfg.ctx);
    if (w->state == OPEN) {
        mj_ws_reader_feed(&w->reader, w->rx, left);
        on_messages(w);
    }
    end_batch(w);
}

/* ---- the loop's calls ---- */

static void step_tls(struct mj_wsc *w)
{
    int r = mj_conn_handshake(&w->conn);
    if (r < 0)
        END(w, MJ_WSC_NETWORK, 0, "%s", w->conn.why);
    else if (r > 0)
        send_request(w);
    else if (w->conn.wants_write)
        mj_watch_writable(w->watch);
}

static void on_readable(void *ctx)
{
    struct mj_wsc *w = ctx;
    w->turn_us = mj_coarse_us();
    if (w->state == TLS)
        step_tls(w);
    if (w->unread)
        on_messages(w);
    for (int reads = 1; !w->unread && (w->state == UPGRADING || w->state == OPEN); reads++) {
        int64_t n = mj_conn_read(&w->conn, w->rx, w->state == OPEN ? RX_BYTES : HEAD_BYTES);
        if (n == 0) {
            if (w->conn.wants_write)
                mj_watch_writable(w->watch);
            break;
        }
        if (n < 0) {
            end_batch(w);
            if (w->state != UPGRADING && w->state != OPEN)
                return; /* its owner has closed it */
        }
        if (n == MJ_ECLOSED) {
            END(w, MJ_WSC_CLOSED, 1006, "the connection ended");
            return;
        }
        if (n < 0) {
            END(w, MJ_WSC_NETWORK, 0, "%s", w->conn.why);
            return;
        }
        w->heard_us = mj_mono_us();
        bool last = (n < RX_BYTES || reads >= READS_MAX) && !mj_conn_pending(&w->conn);
        if (w->state == UPGRADING) {
            on_head(w, w->rx, (size_t)n);
        } else {
            mj_ws_reader_feed(&w->reader, w->rx, (size_t)n);
            on_messages(w);
        }
        if (last)
            break;
    }
    end_batch(w);
}

static void on_writable(void *ctx)
{
    struct mj_wsc *w = ctx;
    if (w->state == TLS)
        step_tls(w);
    else if ((w->state == UPGRADING || w->state == OPEN) && flush_out(w))
        on_readable(w); /* TLS may have waited for room to go on reading */
}

static void on_dialed(void *ctx)
{
    struct mj_wsc *w = ctx;
    struct mj_dialed d;
    if (w->state != DIALING || mj_dial_finish(w->dial_fd, &d))
        return;
    mj_watch_close(w->watch);
    w->watch = NULL;
    w->dial_fd = -1;
    if (d.fd < 0) {
        END(w, MJ_WSC_NETWORK, 0, "%s", d.why);
        return;
    }
    static const struct mj_watch_fns fns = {on_readable, on_writable};
    w->watch = mj_watch_new(w->loop, d.fd, &fns, w);
    if (!w->watch) {
        close(d.fd);
        END(w, MJ_WSC_NETWORK, 0, "out of descriptors");
        return;
    }
    w->state = TLS;
    if (mj_conn_open(&w->conn, d.fd, w->tls, w->cfg.url.host))
        END(w, MJ_WSC_NETWORK, 0, "%s", w->conn.why);
    else
        step_tls(w);
}

static void on_timer(void *ctx)
{
    struct mj_wsc *w = ctx;
    int64_t now = mj_mono_us();
    if (w->state == IDLE)
        return;
    if (w->state != OPEN) {
        END(w, MJ_WSC_TIMEOUT, 0, "no connection after %.1f s", (double)w->cfg.handshake_ms / 1000);
        return;
    }
    if (now - w->heard_us >= w->cfg.silence_ms * 1000) {
        END(w, MJ_WSC_SILENCE, 0, "silent for %.1f s", (double)w->cfg.silence_ms / 1000);
        return;
    }
    if (now - w->pinged_us >= w->cfg.ping_ms * 1000) {
        w->pinged_us = now;
        put_control(w, MJ_WS_PING, (struct mj_span){0});
        if (!flush_out(w))
            return;
    }
    schedule_liveness(w);
}

/* ---- public ---- */

int mj_wsc_new(struct mj_loop *loop, const struct mj_wsc_cfg *cfg, struct mj_wsc **out)
{
    struct ssl_ctx_st *tls = cfg->url.tls ? mj_conn_tls_new() : NULL;
    if (cfg->url.tls && !tls)
        return MJ_EIO;
    struct mj_wsc *w = mj_calloc(1, sizeof *w);
    w->cfg = *cfg;
    if (!w->cfg.user_agent)
        w->cfg.user_agent = "moonjet/" MOONJET_VERSION;
    if (w->cfg.handshake_ms <= 0)
        w->cfg.handshake_ms = 10000;
    if (w->cfg.ping_ms <= 0)
        w->cfg.ping_ms = 30000;
    if (w->cfg.silence_ms <= 0)
        w->cfg.silence_ms = 60000;
    w->loop = loop;
    w->tls = tls;
    w->conn.fd = w->dial_fd = -1;
    w->rx = mj_alloc(RX_BYTES);
    w->timer = mj_timer_new(loop, on_timer, w);
    w->more = mj_timer_new(loop, on_readable, w);
    *out = w;
    return 0;
}

void mj_wsc_connect(struct mj_wsc *w, const char *target)
{
    static const struct mj_watch_fns fns = {on_dialed, NULL};
    w->target.len = 0;
    mj_buf_puts(&w->target, target);
    w->state = DIALING;
    mj_timer_set(w->timer, w->cfg.handshake_ms * 1000);
    w->dial_fd = mj_dial(w->cfg.url.host, w->cfg.url.port, w->cfg.handshake_ms);
    if (w->dial_fd >= 0)
        w->watch = mj_watch_new(w->loop, w->dial_fd, &fns, w);
    if (!w->watch) {
        if (w->dial_fd >= 0)
            close(w->dial_fd);
        END(w, MJ_WSC_NETWORK, 0, "out of threads or descriptors");
    }
}

void mj_wsc_close(struct mj_wsc *w, int code)
{
    if (w->state == OPEN)
        put_close(w, code);
    release(w);
}

void mj_wsc_free(struct mj_wsc *w)
{
    if (!w)
        return;
    mj_wsc_close(w, 1000);
    mj_timer_free(w->timer);
    mj_timer_free(w->more);
    mj_conn_tls_free(w->tls);
    mj_buf_deinit(&w->target);
    free(w->rx);
    free(w);
}

bool mj_wsc_is_open(const struct mj_wsc *w) { return w->state == OPEN; }
