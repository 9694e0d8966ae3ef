#include "server/labels.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "atproto/cbor.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/ws.h"
#include "event/jetstream.h"
#include "server/label_query.h"
#include "state/labels.h"

#define QUERY_PATH     "/xrpc/com.atproto.label.queryLabels"
#define SUBSCRIBE_PATH "/xrpc/com.atproto.label.subscribeLabels"
#define JSON           "application/json; charset=UTF-8"
#define FILL           (64u << 10) /* bytes read ahead for a socket */
#define MESSAGE_MAX    4096        /* what a subscriber may send: it has nothing to say */
#define LOOKED_MAX     20000       /* labels that one query looks at */
#define CLOSE_US       INT64_C(5000000)
#define SECOND         INT64_C(1000000)

struct mj_label_sub {
    struct mj_server *server; /* borrowed */
    struct mj_label_sub *next, **link;
    struct mj_host *host; /* ref */
    ev_io io;
    int fd;
    uint64_t position; /* next seq to send */
    struct mj_ws_reader reader;
    struct mj_buf out;
    size_t sent;         /* of `out` */
    int64_t progress_us; /* monotonic: when the socket last took something */
    int64_t ping_us;     /* monotonic: when the next ping is due */
    int64_t close_us;    /* monotonic: when a close has been waited for enough; 0: not closing */
    enum mj_end end;
    bool deaf; /* what it sent is no WebSocket: the rest is not looked at */
};

struct mj_label_serving {
    struct mj_label_sub *subs; /* owned list */
    ev_async wake;
    struct {
        struct mj_metric *subs, *sent, *queries, *ends[MJ_END_COUNT];
    } m;
};

static void on_io(struct ev_loop *loop, ev_io *io, int events);

/* ---- frames ---- */

static void put_frame(struct mj_buf *out, enum mj_ws_opcode op, struct mj_span payload)
{
    uint8_t head[MJ_WS_HEAD_MAX];
    mj_buf_put(out, head, mj_ws_head(head, op, payload.len));
    mj_buf_put(out, payload.ptr, payload.len);
}

static void put_close(struct mj_buf *out, unsigned code, const char *reason)
{
    MJ_AUTO_BUF payload = {0};
    mj_buf_putc(&payload, (char)(code >> 8));
    mj_buf_putc(&payload, (char)code);
    mj_buf_puts(&payload, reason);
    put_frame(out, MJ_WS_CLOSE, mj_buf_span(&payload));
}

/* { t: type, op: 1 }; { op: -1 } without a type. Keys in canonical order. */
static void put_header(struct mj_buf *out, const char *type)
{
    mj_cbor_put_map(out, type ? 2 : 1);
    if (type) {
        mj_cbor_put_text(out, MJ_SPAN("t"));
        mj_cbor_put_text(out, mj_str(type));
    }
    mj_cbor_put_text(out, MJ_SPAN("op"));
    mj_cbor_put_int(out, type ? 1 : -1);
}

static void put_label(struct mj_buf *out, uint64_t seq, struct mj_span label)
{
    MJ_AUTO_BUF payload = {0};
    put_header(&payload, "#labels");
    mj_cbor_put_map(&payload, 2);
    mj_cbor_put_text(&payload, MJ_SPAN("seq"));
    mj_cbor_put_int(&payload, (int64_t)seq);
    mj_cbor_put_text(&payload, MJ_SPAN("labels"));
    mj_cbor_put_array(&payload, 1);
    mj_buf_put(&payload, label.ptr, label.len);
    put_frame(out, MJ_WS_BINARY, mj_buf_span(&payload));
}

/* An #info frame, or an error frame; they differ in the header, and in the first key. */
static void put_notice(struct mj_buf *out, bool error, const char *name, const char *message)
{
    MJ_AUTO_BUF payload = {0};
    put_header(&payload, error ? NULL : "#info");
    mj_cbor_put_map(&payload, 2);
    mj_cbor_put_text(&payload, error ? MJ_SPAN("error") : MJ_SPAN("name"));
    mj_cbor_put_text(&payload, mj_str(name));
    mj_cbor_put_text(&payload, MJ_SPAN("message"));
    mj_cbor_put_text(&payload, mj_str(message));
    put_frame(out, MJ_WS_BINARY, mj_buf_span(&payload));
}

/* ---- subscribers ---- */

static void sub_free(struct mj_label_sub *sub)
{
    struct mj_server *s = sub->server;
    if (sub->fd >= 0) {
        ev_io_stop(s->loop, &sub->io);
        close(sub->fd);
        *sub->link = sub->next;
        if (sub->next)
            sub->next->link = sub->link;
        s->adopted--;
        mj_metric_add(s->labels->m.subs, -1);
        mj_metric_add(s->labels->m.ends[sub->end], 1);
        mj_metric_add(sub->host->connected, -1);
    }
    mj_hosts_unref(&s->hosts, sub->host);
    mj_ws_reader_deinit(&sub->reader);
    mj_buf_deinit(&sub->out);
    free(sub);
}

/* After an error of the socket. The kernel may be the first to see that nothing is taken. */
static void lost(struct mj_label_sub *sub)
{
    if (errno == ETIMEDOUT && !sub->close_us)
        sub->end = MJ_END_STALLED;
    sub_free(sub);
}

static void watch(struct mj_label_sub *sub, int events)
{
    struct ev_loop *loop = sub->server->loop;
    if (ev_is_active(&sub->io) && sub->io.events == events)
        return;
    ev_io_stop(loop, &sub->io);
    ev_io_set(&sub->io, sub->fd, events);
    ev_io_start(loop, &sub->io);
}

static bool take_label(void *ctx, uint64_t seq, struct mj_span label)
{
    struct mj_label_sub *sub = ctx;
    put_label(&sub->out, seq, label);
    sub->position = seq + 1;
    mj_metric_add(sub->server->labels->m.sent, 1);
    return sub->out.len < FILL;
}

static void close_sub(struct mj_label_sub *sub, enum mj_end end, unsigned code, const char *reason)
{
    if (sub->close_us)
        return;
    put_close(&sub->out, code, reason);
    sub->close_us = mj_mono_us() + CLOSE_US;
    sub->end = end;
}

/* Reads on, when all of the last piece is sent. */
static void fill(struct mj_label_sub *sub)
{
    if (sub->sent < sub->out.len)
        return;
    sub->out.len = sub->sent = 0;
    if (sub->close_us || sub->position > mj_labels_newest(sub->server->cfg.labels))
        return;
    if (mj_labels_read(sub->server->cfg.labels, sub->position, take_label, sub))
        close_sub(sub, MJ_END_DAMAGED, 1011, "labels cannot be read");
}

/* Sends until there is nothing, or the socket is full. False when the subscriber is gone. */
static bool push(struct mj_label_sub *sub)
{
    for (int turn = 0; turn < 8; turn++) { /* then others have theirs */
        fill(sub);
        if (sub->sent == sub->out.len)
            break;
        ssize_t n = send(sub->fd, sub->out.ptr + sub->sent, sub->out.len - sub->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n < 0) {
            lost(sub);
            return false;
        }
        sub->sent += (size_t)n;
        sub->progress_us = mj_mono_us();
    }
    bool more = sub->sent < sub->out.len ||
                (!sub->close_us && sub->position <= mj_labels_newest(sub->server->cfg.labels));
    watch(sub, EV_READ | (more ? EV_WRITE : 0));
    return true;
}

static void on_message(struct mj_label_sub *sub, const struct mj_ws_msg *msg)
{
    if (msg->op == MJ_WS_CLOSE) {
        if (sub->close_us)
            sub->close_us = 1; /* that was the answer to ours */
        else
            close_sub(sub, MJ_END_CLIENT, 1000, "");
    } else if (msg->op == MJ_WS_PING && !sub->close_us && sub->out.len - sub->sent < 2 * FILL) {
        put_frame(&sub->out, MJ_WS_PONG, msg->payload);
    }
}

/* False when the subscriber is gone. */
static bool receive(struct mj_label_sub *sub)
{
    uint8_t in[4096];
    struct mj_ws_msg msg;
    int r;
    ssize_t n = recv(sub->fd, in, sizeof in, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (n <= 0) {
        if (n < 0)
            lost(sub);
        else
            sub_free(sub);
        return false;
    }
    if (sub->deaf)
        return true;
    mj_ws_reader_feed(&sub->reader, in, (size_t)n);
    while ((r = mj_ws_reader_next(&sub->reader, &msg)) == 1)
        on_message(sub, &msg);
    if (r < 0) {
        sub->deaf = true;
        close_sub(sub, MJ_END_BAD_MESSAGE, (unsigned)sub->reader.close_code, "");
    }
    if (sub->close_us == 1 && sub->sent == sub->out.len) {
        sub_free(sub);
        return false;
    }
    return true;
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
    (void)loop;
    struct mj_label_sub *sub = io->data;
    if (events & EV_READ && !receive(sub))
        return;
    push(sub);
}

static void on_wake(struct ev_loop *loop, ev_async *async, int events)
{
    (void)loop;
    (void)events;
    struct mj_server *s = async->data;
    for (struct mj_label_sub *sub = s->labels->subs, *next; sub; sub = next) {
        next = sub->next;
        if (sub->sent == sub->out.len)
            push(sub);
    }
}

void mj__labels_wake(void *server)
{
    struct mj_server *s = server;
    ev_async_send(s->loop, &s->labels->wake);
}

void mj__labels_second(struct mj_server *s)
{
    int64_t now = mj_mono_us();
    for (struct mj_label_sub *sub = s->labels->subs, *next; sub; sub = next) {
        next = sub->next;
        bool waits = sub->sent < sub->out.len;
        if (sub->close_us && now > sub->close_us) {
            sub_free(sub);
        } else if (waits && now - sub->progress_us > s->cfg.stall_seconds * SECOND) {
            sub->end = MJ_END_STALLED;
            sub_free(sub);
        } else if (!waits && !sub->close_us && now >= sub->ping_us) {
            sub->ping_us = now + s->cfg.ping_seconds * SECOND;
            sub->out.len = sub->sent = 0;
            put_frame(&sub->out, MJ_WS_PING, mj_span(NULL, 0));
            push(sub);
        }
    }
}

void mj__labels_close_all(struct mj_server *s)
{
    for (struct mj_label_sub *sub = s->labels->subs, *next; sub; sub = next) {
        next = sub->next;
        close_sub(sub, MJ_END_SHUTDOWN, 1001, "server is shutting down");
        push(sub);
    }
}

void mj__label_sub_start(struct mj_label_sub *sub, int fd, struct mj_span key)
{
    struct mj_server *s = sub->server;
    char accept[29];
    MJ_AUTO_BUF head = {0};
    mj_ws_accept(key, accept);
    mj_buf_printf(&head,
                  "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                  "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                  accept);
    mj_buf_put(&head, sub->out.ptr, sub->out.len);
    struct mj_buf swap = sub->out;
    sub->out = head;
    head = swap;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &s->cfg.sndbuf, sizeof s->cfg.sndbuf);
    /* Finds peers that vanished: those who owe an answer, and those who owe none. */
    int one = 1, idle = 60, interval = 15, probes = 4, patience = s->cfg.stall_seconds * 1000;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof patience);
    sub->fd = fd;
    sub->progress_us = mj_mono_us();
    sub->ping_us = sub->progress_us + s->cfg.ping_seconds * SECOND;
    sub->link = &s->labels->subs;
    sub->next = s->labels->subs;
    if (sub->next)
        sub->next->link = &sub->next;
    s->labels->subs = sub;
    s->adopted++;
    mj_metric_add(s->labels->m.subs, 1);
    mj_metric_add(sub->host->connected, 1);
    ev_init(&sub->io, on_io);
    sub->io.data = sub;
    push(sub);
}

/* ---- requests ---- */

static void refuse(struct mj_answer *out, int status, const char *name, struct mj_span message)
{
    out->status = status;
    out->type = JSON;
    out->body.len = 0;
    mj_buf_printf(&out->body, "{\"error\":\"%s\",\"message\":", name);
    mj_buf_put_json(&out->body, message);
    mj_buf_putc(&out->body, '}');
}

/* Where it begins: behind the cursor, or with what comes next. */
static void place(struct mj_label_sub *sub, bool has_cursor, uint64_t cursor)
{
    const struct mj_labels *l = sub->server->cfg.labels;
    uint64_t newest = mj_labels_newest(l), oldest = mj_labels_oldest(l);
    sub->position = has_cursor && cursor <= newest ? cursor + 1 : newest + 1;
    if (!has_cursor)
        return;
    if (cursor >= mj_labels_next(l)) {
        put_notice(&sub->out, true, "FutureCursor", "the cursor is ahead of the newest label");
        close_sub(sub, MJ_END_CLIENT, 1008, "FutureCursor");
    } else if (newest && cursor + 1 < oldest && cursor) {
        put_notice(&sub->out, false, "OutdatedCursor",
                   "labels up to the oldest one that is kept are missing");
    }
}

static void subscribe(struct mj_server *s, const struct mj_http_head *head,
                      const struct mj_address *peer, struct mj_answer *out,
                      struct mj_label_sub **result)
{
    struct mj_address client, unit;
    bool has_cursor;
    uint64_t cursor = 0;
    if (mj_label_seq_parse(head->query, &has_cursor, &cursor)) {
        refuse(out, 400, "InvalidRequest", MJ_SPAN("cursor is a whole number, 0 or more"));
        return;
    }
    if (!mj__is_upgrade(head)) {
        refuse(out, 426, "InvalidRequest", MJ_SPAN("this is for WebSocket clients"));
        mj_buf_puts(&out->headers, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
        return;
    }
    mj_address_client(peer, head, s->trusted, s->trusted_count, &client);
    unit = mj_address_unit(&client);
    if (s->cfg.max_per_ip && mj_hosts_connections(&s->hosts, &unit) >= s->cfg.max_per_ip) {
        mj__too_many(s, &unit, out);
        return;
    }
    struct mj_label_sub *sub = mj_calloc(1, sizeof *sub);
    sub->server = s;
    sub->fd = -1;
    sub->end = MJ_END_CLIENT;
    sub->host = mj_hosts_ref(&s->hosts, &unit, mj_mono_us());
    mj_ws_reader_init(&sub->reader, true, MESSAGE_MAX);
    place(sub, has_cursor, cursor);
    *result = sub;
}

struct page {
    const struct mj_label_query *q;
    struct mj_buf *json;
    struct mj_buf last; /* key of the last one that was looked at */
    size_t n, looked;
    int64_t now_us;
};

static bool wants(const struct mj_label_query *q, struct mj_span src)
{
    for (size_t i = 0; i < q->source_count; i++)
        if (mj_span_eq(q->sources[i], src))
            return true;
    return !q->source_count;
}

static bool take_found(void *ctx, const struct mj_label_found *f)
{
    struct page *p = ctx;
    bool ended = f->neg || (f->exp_us && f->exp_us <= p->now_us);
    if (!ended && wants(p->q, f->src)) {
        size_t at = p->json->len;
        mj_buf_puts(p->json, p->n ? "," : "");
        if (mj_json_from_cbor(f->label, p->json))
            p->json->len = at;
        else
            p->n++;
    }
    p->last.len = 0;
    mj_buf_put(&p->last, f->key.ptr, f->key.len);
    return p->n < p->q->limit && ++p->looked < LOOKED_MAX;
}

static void query(struct mj_server *s, const struct mj_http_head *head, struct mj_answer *out)
{
    struct mj_label_query q;
    MJ_AUTO_BUF error = {0};
    struct page p = {.q = &q, .json = &out->body, .now_us = mj_now_us()};
    mj_metric_add(s->labels->m.queries, 1);
    if (mj_label_query_parse(head->query, &q, &error)) {
        refuse(out, 400, "InvalidRequest", mj_buf_span(&error));
        mj_label_query_deinit(&q);
        return;
    }
    out->status = 200;
    out->type = JSON;
    mj_buf_puts(&out->body, "{\"labels\":[");
    int err = 0;
    for (size_t i = 0; i < q.prefix_count && !err && p.n < q.limit && p.looked < LOOKED_MAX; i++)
        err = mj_labels_find(s->cfg.labels, q.prefixes[i], q.cursor, take_found, &p);
    mj_buf_putc(&out->body, ']');
    if (p.n == q.limit || p.looked == LOOKED_MAX) {
        mj_buf_puts(&out->body, ",\"cursor\":\"");
        mj_label_cursor_put(mj_buf_span(&p.last), &out->body);
        mj_buf_putc(&out->body, '"');
    }
    mj_buf_putc(&out->body, '}');
    if (err)
        refuse(out, 500, "InternalServerError", MJ_SPAN("labels cannot be read"));
    mj_buf_deinit(&p.last);
    mj_label_query_deinit(&q);
}

bool mj__labels_endpoint(struct mj_server *s, const struct mj_http_head *head,
                         const struct mj_address *peer, struct mj_answer *out,
                         struct mj_label_sub **sub)
{
    bool ask = mj_span_is(head->path, QUERY_PATH);
    if ((!ask && !mj_span_is(head->path, SUBSCRIBE_PATH)) || !s->cfg.labels ||
        !mj_labels_served(s->cfg.labels))
        return false;
    if (mj_span_is(head->method, "OPTIONS")) {
        out->status = 204;
        mj__cors(out, "GET,HEAD,OPTIONS");
        mj_buf_puts(&out->headers, "Access-Control-Allow-Headers: *, Authorization\r\n");
        return true;
    }
    if (!mj_span_is(head->method, "GET") && !mj_span_is(head->method, "HEAD")) {
        refuse(out, 405, "InvalidRequest", MJ_SPAN("ask with GET"));
        mj_buf_puts(&out->headers, "Allow: OPTIONS, GET\r\n");
    } else if (ask) {
        query(s, head, out);
    } else {
        subscribe(s, head, peer, out, sub);
    }
    if (!*sub)
        mj__cors(out, NULL);
    return true;
}

/* ---- life ---- */

void mj__labels_init(struct mj_server *s)
{
    static const char *const ends[] = {
#define X(name, label) label,
        MJ_ENDS(X)
#undef X
    };
    struct mj_label_serving *l = mj_calloc(1, sizeof *l);
    s->labels = l;
    for (int i = 0; i < MJ_END_COUNT; i++)
        l->m.ends[i] =
            mj_metric("moonjet_label_subscribers_ended_total", MJ_COUNTER,
                      "Subscribers to labels that are gone, by reason.", "reason=\"%s\"", ends[i]);
    l->m.subs = mj_metric("moonjet_label_subscribers", MJ_GAUGE,
                          "Subscribers to labels connected now.", NULL);
    l->m.sent =
        mj_metric("moonjet_labels_sent_total", MJ_COUNTER, "Labels sent to subscribers.", NULL);
    l->m.queries = mj_metric("moonjet_label_queries_total", MJ_COUNTER,
                             "Requests for labels by their subjects.", NULL);
    ev_async_init(&l->wake, on_wake);
    l->wake.data = s;
    ev_async_start(s->loop, &l->wake);
}

void mj__labels_deinit(struct mj_server *s)
{
    if (!s->labels)
        return;
    while (s->labels->subs)
        sub_free(s->labels->subs);
    free(s->labels);
    s->labels = NULL;
}
