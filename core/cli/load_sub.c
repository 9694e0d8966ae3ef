/* The connections of a load test: sockets that are read into one buffer, what is received is
 * checked in place and forgotten. A subscriber costs a few hundred bytes. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "atproto/syntax.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "cli/load_run.h"

#define HEAD_BYTES  (16u << 10)
#define OUT_BYTES   (2u << 20) /* a request may carry thousands of DIDs */
#define STALLED_RCV 4096

/* ---- the end of a connection ---- */

void mj__load_release(struct mj__load_run *r, struct mj__load_sub *s)
{
    if (s->state == LOAD_CONNECTING || s->state == LOAD_TLS || s->state == LOAD_UPGRADING)
        r->pending--;
    if (s->state == LOAD_OPEN)
        r->opened--;
    mj_conn_close(&s->conn);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    mj_buf_deinit(&s->head);
    mj_buf_deinit(&s->out);
    mj_ws_reader_deinit(&s->reader);
    s->state = LOAD_ENDED;
}

void mj__load_end_sub(struct mj__load_run *r, struct mj__load_sub *s, int code, const char *fmt,
                      ...)
{
    struct mj__load_result *out = r->result;
    char why[sizeof out->ends[0].why];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    for (char *p = why; *p; p++) /* a server wrote it, and it is for a terminal */
        *p = *p >= 0x20 && *p < 0x7f ? *p : '?';
    bool was_open = s->state == LOAD_OPEN;
    mj__load_release(r, s);
    if (s->stalled && was_open) { /* what it is there for */
        out->stalled_cut++;
        return;
    }
    out->refused += !was_open;
    size_t i = 0;
    while (i < out->end_count &&
           (out->ends[i].code != code || (!code && strcmp(out->ends[i].why, why))))
        i++;
    if (i == MJ__LOAD_ENDS)
        i--; /* the last line holds all further kinds */
    if (i == out->end_count) {
        out->ends[i] = (struct mj__load_end){.code = code};
        memcpy(out->ends[i].why, why, sizeof why);
        out->end_count++;
    }
    out->ends[i].count++;
}

/* ---- output ---- */

static void poll_for(struct mj__load_run *r, struct mj__load_sub *s, uint32_t events)
{
    if (s->polled == events)
        return;
    struct epoll_event e = {.events = events, .data.ptr = s};
    epoll_ctl(r->epoll, s->polled ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, s->fd, &e);
    s->polled = events;
}

static void poll_again(struct mj__load_run *r, struct mj__load_sub *s)
{
    bool deaf = s->stalled && s->state == LOAD_OPEN;
    bool write = s->state == LOAD_CONNECTING || s->out.len || s->conn.wants_write;
    poll_for(r, s, (deaf ? 0 : EPOLLIN) | EPOLLRDHUP | (write ? EPOLLOUT : 0));
}

/* False when the connection ended over it. */
static bool flush_out(struct mj__load_run *r, struct mj__load_sub *s)
{
    while (s->out.len) {
        int64_t n = mj_conn_write(&s->conn, s->out.ptr, s->out.len);
        if (n < 0) {
            mj__load_end_sub(r, s, 0, "%s", s->conn.why);
            return false;
        }
        if (n == 0)
            break;
        mj_buf_shift(&s->out, (size_t)n);
    }
    if (s->out.len > OUT_BYTES) {
        mj__load_end_sub(r, s, 0, "the server does not read");
        return false;
    }
    if (!s->out.len)
        mj_buf_deinit(&s->out);
    return true;
}

static void put_control(struct mj__load_sub *s, enum mj_ws_opcode op, struct mj_span payload)
{
    static const uint8_t mask[4] = {0x6d, 0x6f, 0x6f, 0x6e}; /* nothing depends on a load test's */
    uint8_t head[MJ_WS_HEAD_MAX];
    mj_buf_put(&s->out, head, mj_ws_head_masked(head, op, payload.len, mask));
    mj_buf_put(&s->out, payload.ptr, payload.len);
    mj_ws_mask(s->out.ptr + s->out.len - payload.len, payload.len, mask, 0);
}

void mj__load_goodbye(struct mj__load_sub *s, int code)
{
    uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    put_control(s, MJ_WS_CLOSE, mj_span(payload, 2));
    mj_conn_write(&s->conn, s->out.ptr, s->out.len);
}

/* ---- opening ---- */

static void put_request(struct mj__load_run *r, struct mj__load_sub *s)
{
    const struct mj_url *u = &r->cfg->url;
    const struct mj__load_class *class = mj__load_class_of(r, s);
    bool v6 = strchr(u->host, ':');
    mj_buf_printf(&s->out, "GET %s", u->has_path ? "" : "/subscribe");
    mj_buf_puts(&s->out, u->has_path ? u->path : strchr(u->path, '?') ? u->path + 1 : "");
    size_t from = s->out.len;
    bool query = strchr(u->path, '?');
    if (*class->query)
        mj_buf_printf(&s->out, "%c%s", query ? '&' : '?', class->query);
    query = query || s->out.len > from;
    from = s->out.len;
    if (s->zstd && !class->zstd)
        mj_buf_printf(&s->out, "%ccompress=true", query ? '&' : '?');
    query = query || s->out.len > from;
    if (s->resuming)
        mj_buf_printf(&s->out, "%ccursor=%lld", query ? '&' : '?', (long long)s->place.last);
    else if (r->cfg->cursor)
        mj_buf_printf(&s->out, "%ccursor=%s", query ? '&' : '?', r->cfg->cursor);
    mj_ws_new_key(s->key);
    mj_buf_printf(&s->out,
                  " HTTP/1.1\r\nHost: %s%s%s:%d\r\nUser-Agent: moonjet-load/" MOONJET_VERSION
                  "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                  "Sec-WebSocket-Key: %s\r\n\r\n",
                  v6 ? "[" : "", u->host, v6 ? "]" : "", u->port, s->key);
}

void mj__load_connect(struct mj__load_run *r, struct mj__load_sub *s)
{
    s->conn.fd = -1;
    s->conn.wants_write = false;
    s->polled = 0;
    s->state = LOAD_CONNECTING;
    s->since_us = mj_mono_us();
    r->pending++;
    s->fd = socket(r->to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0) {
        mj__load_end_sub(r, s, 0, "socket: %s", strerror(errno));
        return;
    }
    int one = 1, small = STALLED_RCV;
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (s->stalled) /* so that it fills, and the server's side after it, with few bytes */
        setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (connect(s->fd, (struct sockaddr *)&r->to, r->to_len) && errno != EINPROGRESS) {
        mj__load_end_sub(r, s, 0, "cannot connect: %s", strerror(errno));
        return;
    }
    poll_again(r, s);
}

static void on_connected(struct mj__load_run *r, struct mj__load_sub *s)
{
    int failed = 0;
    socklen_t len = sizeof failed;
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &failed, &len) || failed) {
        mj__load_end_sub(r, s, 0, "cannot connect: %s", strerror(failed ? failed : errno));
        return;
    }
    s->state = LOAD_TLS;
    if (mj_conn_open(&s->conn, s->fd, r->tls, r->cfg->url.host))
        mj__load_end_sub(r, s, 0, "%s", s->conn.why);
}

static void step_tls(struct mj__load_run *r, struct mj__load_sub *s)
{
    int done = mj_conn_handshake(&s->conn);
    if (done < 0) {
        mj__load_end_sub(r, s, 0, "%s", s->conn.why);
    } else if (done > 0) {
        s->state = LOAD_UPGRADING;
        put_request(r, s);
        flush_out(r, s);
    }
}

/* ---- events ---- */

/* Takes a DID for a filter to come. */
static void scout(struct mj__load_run *r, struct mj_span did, uint64_t hash)
{
    if (r->did_count == r->did_want || !mj_did_valid(did))
        return;
    size_t at = (size_t)(hash & (r->did_cap - 1));
    for (; r->did_set[at]; at = (at + 1) & (r->did_cap - 1))
        if (r->did_set[at] == hash)
            return;
    r->did_set[at] = hash ? hash : 1;
    mj_buf_put(&r->did_texts, did.ptr, did.len);
    mj_buf_putc(&r->did_texts, '\n');
    r->did_count++;
}

/* Everything that is counted of an event, however it was checked. */
static void count_event(struct mj__load_run *r, struct mj__load_sub *s, int64_t time_us,
                        int64_t now_us)
{
    r->result->events++;
    if (++s->events == r->cfg->events)
        r->reached++;
    /* A replayed event says nothing about latency. */
    if (time_us >= s->opened_us)
        mj__load_measure(&r->result->latency, now_us - time_us);
}

/* packed: hash of the message it came in, 0 for plain text. */
static void on_event(struct mj__load_run *r, struct mj__load_sub *s, struct mj_span json,
                     uint64_t packed, int64_t now_us)
{
    struct mj__load_class *class = mj__load_class_of(r, s);
    struct mj__load_result *out = r->result;
    struct mj__load_event e = mj__load_event(json);
    bool again = s->resuming && e.time_us == s->place.last;
    s->resuming = false;
    if (!e.time_us || again) {
        out->malformed += !again;
        return;
    }
    const struct mj__load_filter *f = &class->filter;
    bool filtered = f->did_count || f->collections.len;
    uint64_t hash = filtered || class->log.want_dids ? mj_hash(e.did) : 0;
    if (filtered && !mj__load_passes(f, hash, json))
        out->wrong++;
    if (mj__load_full(&class->log)) {
        for (size_t i = 0; i < r->count; i++)
            if (r->subs[i].class == s->class)
                out->missing += mj__load_settle(&class->log, &r->subs[i].place);
        mj__load_trim(&class->log);
    }
    enum mj__load_order order = mj__load_note(&class->log, &s->place, e.time_us, hash);
    out->duplicates += order == MJ__LOAD_DUPLICATE;
    out->disorder += order == MJ__LOAD_DISORDER;
    if (packed)
        mj__load_remember(&class->log, &s->place, packed);
    count_event(r, s, e.time_us, now_us);
    int64_t made = r->cfg->stamp ? mj__load_stamp(json) : 0;
    if (made && made >= s->opened_us)
        mj__load_measure(&out->stamped, now_us - made);
    if (r->scouting && s == &r->subs[0])
        scout(r, e.did, hash);
}

/* A server compresses an event once, so nearly all that arrives is known by its bytes, and is not
 * unpacked again. */
static void on_packed(struct mj__load_run *r, struct mj__load_sub *s, struct mj_span message,
                      int64_t now_us)
{
    struct mj__load_log *log = &mj__load_class_of(r, s)->log;
    uint64_t hash = mj_hash(message);
    int64_t known = s->resuming || r->cfg->stamp ? 0 : mj__load_known(log, &s->place, hash);
    struct mj_span json;
    if (known) {
        mj__load_note(log, &s->place, known, 0);
        count_event(r, s, known, now_us);
    } else if (r->zmessage && !mj_zmessage_decode(r->zmessage, message, &json)) {
        on_event(r, s, json, hash, now_us);
    } else { /* nor would the next one be any better */
        r->result->malformed++;
        mj__load_goodbye(s, 1007);
        mj__load_end_sub(r, s, 0, "cannot decode a compressed message (dictionary %u)",
                         mj_zmessage_wants(message));
    }
}

static void on_message(struct mj__load_run *r, struct mj__load_sub *s, const struct mj_ws_msg *m,
                       int64_t now_us)
{
    switch (m->op) {
    case MJ_WS_TEXT:
        r->result->messages++;
        on_event(r, s, m->payload, 0, now_us);
        break;
    case MJ_WS_BINARY:
        r->result->messages++;
        on_packed(r, s, m->payload, now_us);
        break;
    case MJ_WS_PING:
        put_control(s, MJ_WS_PONG, m->payload);
        flush_out(r, s);
        break;
    case MJ_WS_CLOSE: {
        int code = mj_ws_close_code(m->payload);
        size_t n = m->payload.len > 2 ? m->payload.len - 2 : 0;
        mj__load_goodbye(s, code == 1005 ? 1000 : code);
        mj__load_end_sub(r, s, code, "%.*s", (int)n, n ? (const char *)m->payload.ptr + 2 : "");
        break;
    }
    default:
        break;
    }
}

static void on_bytes(struct mj__load_run *r, struct mj__load_sub *s, uint8_t *p, size_t n)
{
    struct mj_ws_msg m;
    int got = 0;
    int64_t now_us = mj_now_us();
    mj_ws_reader_feed(&s->reader, p, n);
    while (s->state == LOAD_OPEN && (got = mj_ws_reader_next(&s->reader, &m)) > 0)
        on_message(r, s, &m, now_us);
    if (s->state == LOAD_OPEN && got < 0) {
        r->result->malformed++;
        mj__load_goodbye(s, s->reader.close_code);
        mj__load_end_sub(r, s, 0, "not a WebSocket frame we may accept");
    }
}

static void on_head(struct mj__load_run *r, struct mj__load_sub *s, const uint8_t *p, size_t n)
{
    struct mj_http_head h;
    char accept[29];
    mj_buf_put(&s->head, p, n);
    int size = mj_http_parse_response(mj_buf_span(&s->head), &h);
    if (size == MJ_EAGAIN && s->head.len < HEAD_BYTES)
        return;
    mj_ws_accept(mj_str(s->key), accept);
    if (size < 0) {
        mj__load_end_sub(r, s, 0, "the answer is not HTTP");
    } else if (h.status != 101) {
        size_t rest = s->head.len - (size_t)size, line = 0;
        const char *body = (const char *)s->head.ptr + size;
        while (line < rest && line < 60 && (uint8_t)body[line] >= 0x20)
            line++;
        mj__load_end_sub(r, s, h.status, "%.*s", (int)line, body);
    } else if (!mj_span_is(mj_http_header(&h, "sec-websocket-accept"), accept)) {
        mj__load_end_sub(r, s, 0, "the upgrade was not answered as asked");
    } else {
        struct mj_buf head = s->head; /* the messages may end the connection, which frees it */
        s->head = (struct mj_buf){0};
        s->state = LOAD_OPEN;
        s->opened_us = mj_now_us();
        r->pending--;
        r->opened++;
        r->result->opened++;
        mj_ws_reader_init(&s->reader, false, LOAD_MESSAGE_MAX);
        if (!s->stalled)
            on_bytes(r, s, head.ptr + size, head.len - (size_t)size);
        mj_buf_deinit(&head);
    }
}

static void on_readable(struct mj__load_run *r, struct mj__load_sub *s)
{
    do {
        int64_t n =
            mj_conn_read(&s->conn, r->rx, s->state == LOAD_OPEN ? LOAD_RX_BYTES : HEAD_BYTES);
        if (n == 0)
            return;
        if (n < 0) {
            mj__load_end_sub(r, s, 0, "%s",
                             n == MJ_ECLOSED ? "the server ended the connection" : s->conn.why);
            return;
        }
        r->result->bytes += (uint64_t)n;
        if (s->state == LOAD_UPGRADING)
            on_head(r, s, r->rx, (size_t)n);
        else
            on_bytes(r, s, r->rx, (size_t)n);
    } while (s->state >= LOAD_UPGRADING && s->state <= LOAD_OPEN && mj_conn_pending(&s->conn));
}

void mj__load_ready(struct mj__load_run *r, struct mj__load_sub *s, uint32_t events)
{
    if (s->state == LOAD_CONNECTING)
        on_connected(r, s);
    if (s->state == LOAD_TLS)
        step_tls(r, s);
    else if ((s->state == LOAD_UPGRADING || s->state == LOAD_OPEN) && events & EPOLLOUT &&
             !flush_out(r, s))
        return;
    if (s->state == LOAD_OPEN && s->stalled) {
        if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
            mj__load_end_sub(r, s, 0, "cut");
    } else if ((s->state == LOAD_UPGRADING || s->state == LOAD_OPEN) &&
               events & ~(uint32_t)EPOLLOUT) {
        on_readable(r, s);
    }
    if (s->state != LOAD_ENDED)
        poll_again(r, s);
}
