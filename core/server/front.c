/* Listening sockets, and the time from accept to answer. We read request heads ourselves because
 * libwebsockets cannot hold the thousands of query arguments Jetstream allows, and because limits
 * and deadlines belong where strangers come in. Every plain answer closes the connection. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "server/internal.h"
#include "server/labels.h"

#define MONITORS     32  /* connections kept free for /metrics, /_health and control */
#define SEND_SECONDS 120 /* for an answer to be taken, however slowly */

struct mj_conn {
    ev_io io;
    ev_timer deadline;
    struct mj_server *server;
    struct mj_conn *next, **link;
    int fd;
    enum mj_listener at;
    enum { READING, READING_BODY, WAITING, ANSWERING, LINGERING } state;
    bool head_only;        /* a HEAD request: the answer has no body */
    size_t body_len;       /* that the head says */
    size_t counted;        /* in the server's conn_bytes */
    size_t head;           /* in its head_bytes */
    double send_until;     /* loop time */
    struct mj__call *call; /* READING_BODY: owned. WAITING: borrowed, and it knows us */
    size_t searched;       /* bytes of `in` known not to hold the end of the head */
    size_t sent;           /* of `out` */
    struct mj_buf in, out;
    struct mj_address peer;
};

/* Counts what the connection holds anew. */
static void recount(struct mj_conn *c)
{
    struct mj_server *s = c->server;
    size_t now = c->in.cap + c->out.cap, head = c->state == READING ? c->in.cap : 0;
    s->conn_bytes = s->conn_bytes - c->counted + now;
    s->head_bytes = s->head_bytes - c->head + head;
    c->counted = now;
    c->head = head;
}

static size_t budget(const struct mj_conn *c)
{
    return MJ_HEADS_BYTES_MAX + (c->at == MJ_LISTEN_CONTROL ? 2 * (size_t)MJ_CONTROL_BODY_MAX : 0);
}

/* What scripts' routes are sent, and answer, leaves subscribers the room for their heads. */
static bool is_over_budget(const struct mj_conn *c)
{
    const struct mj_server *s = c->server;
    return (c->state == READING ? s->head_bytes : s->conn_bytes - s->head_bytes) > budget(c);
}

static bool too_many_calls(const struct mj_conn *c)
{
    return c->server->calls >= MJ_CALLS_MAX + (c->at == MJ_LISTEN_CONTROL ? 32 : 0);
}

static void call_forget(struct mj_server *s, struct mj__call *call)
{
    s->calls--;
    s->conn_bytes -= call->bytes;
    mj__call_free(call);
}

/* Whoever has the call may save the work. */
static void abandon(struct mj_conn *c)
{
    if (c->call && c->state == WAITING) {
        c->call->conn = NULL;
        atomic_store_explicit(&c->call->gone, true, memory_order_relaxed);
    } else if (c->call) {
        mj__call_free(c->call);
    }
    c->call = NULL;
}

static void conn_free(struct mj_conn *c)
{
    struct mj_server *s = c->server;
    abandon(c);
    ev_io_stop(s->loop, &c->io);
    ev_timer_stop(s->loop, &c->deadline);
    if (c->fd >= 0)
        close(c->fd);
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    s->conn_count--;
    s->conn_bytes -= c->counted;
    s->head_bytes -= c->head;
    mj_metric_set(s->m.heads, (int64_t)s->conn_count);
    mj_buf_deinit(&c->in);
    mj_buf_deinit(&c->out);
    free(c);
}

static void watch(struct mj_conn *c, int events, double seconds)
{
    struct ev_loop *loop = c->server->loop;
    ev_io_stop(loop, &c->io);
    ev_io_set(&c->io, c->fd, events);
    ev_io_start(loop, &c->io);
    c->deadline.repeat = seconds;
    ev_timer_again(loop, &c->deadline);
}

/* Sends what is left of the answer; then waits a moment for the peer to close, because closing
 * with its bytes unread would reset the connection and take the answer along. */
static void send_answer(struct mj_conn *c)
{
    while (c->sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.ptr + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
        bool wait = n < 0 && errno == EAGAIN;
        if (wait && ev_now(c->server->loop) < c->send_until) {
            watch(c, EV_WRITE, c->server->cfg.head_seconds);
            return;
        }
        if (n < 0) {
            conn_free(c);
            return;
        }
        c->sent += (size_t)n;
    }
    shutdown(c->fd, SHUT_WR);
    c->state = LINGERING;
    watch(c, EV_READ, 1.0);
}

static const char *reason_phrase(int status)
{
    static const struct {
        int status;
        const char *phrase;
    } table[] = {{200, "OK"},
                 {201, "Created"},
                 {202, "Accepted"},
                 {204, "No Content"},
                 {301, "Moved Permanently"},
                 {302, "Found"},
                 {303, "See Other"},
                 {304, "Not Modified"},
                 {307, "Temporary Redirect"},
                 {308, "Permanent Redirect"},
                 {400, "Bad Request"},
                 {401, "Unauthorized"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {408, "Request Timeout"},
                 {409, "Conflict"},
                 {411, "Length Required"},
                 {413, "Content Too Large"},
                 {422, "Unprocessable Content"},
                 {429, "Too Many Requests"},
                 {431, "Request Header Fields Too Large"},
                 {500, "Internal Server Error"},
                 {502, "Bad Gateway"},
                 {503, "Service Unavailable"},
                 {504, "Gateway Timeout"}};
    for (size_t i = 0; i < MJ_COUNT(table); i++)
        if (table[i].status == status)
            return table[i].phrase;
    return "Status"; /* the number says it all; scripts choose it */
}

static void answer(struct mj_conn *c, struct mj_answer *a)
{
    bool none = a->status == 204 || a->status == 304;
    abandon(c);
    c->state = ANSWERING;
    mj_buf_deinit(&c->in);
    mj_buf_printf(&c->out, "HTTP/1.1 %d %s\r\n", a->status, reason_phrase(a->status));
    if (a->type)
        mj_buf_printf(&c->out, "Content-Type: %s\r\n", a->type);
    if (!none)
        mj_buf_printf(&c->out, "Content-Length: %zu\r\n", a->body.len);
    mj_buf_put(&c->out, a->headers.ptr, a->headers.len);
    mj_buf_puts(&c->out, "Connection: close\r\n\r\n");
    if (!none && !c->head_only)
        mj_buf_put(&c->out, a->body.ptr, a->body.len);
    mj_buf_deinit(&a->headers);
    mj_buf_deinit(&a->body);
    recount(c);
    c->send_until = ev_now(c->server->loop) + SEND_SECONDS;
    send_answer(c);
}

static void refuse(struct mj_conn *c, int status, const char *text)
{
    struct mj_answer a = {.status = status, .type = "text/plain; charset=UTF-8"};
    mj_buf_puts(&a.body, text);
    if (c->at == MJ_LISTEN_STREAM)
        mj__cors(&a, NULL);
    mj_metric_add(c->server->m.refused, 1);
    answer(c, &a);
}

/* The body is there: the call is somebody else's now. */
static void hand_over(struct mj_conn *c)
{
    struct mj_server *s = c->server;
    struct mj__call *call = c->call;
    /* Only now: requests that are half sent must not take the places of those that are whole. */
    if (too_many_calls(c)) {
        refuse(c, 503, "too many requests are being answered");
        return;
    }
    s->calls++;
    ev_io_stop(s->loop, &c->io);
    call->in = c->in;
    call->call.body = mj_span(call->in.ptr, c->body_len);
    call->bytes = call->in.cap + call->text.cap;
    s->conn_bytes += call->bytes;
    c->in = (struct mj_buf){0};
    recount(c);
    c->state = WAITING;
    call->conn = c;
    c->deadline.repeat = s->cfg.call_seconds;
    ev_timer_again(s->loop, &c->deadline);
    s->cfg.request(s->cfg.request_ctx, &call->call);
}

/* The head is read and says that there is more. */
static void start_body(struct mj_conn *c, const struct mj_http_head *head, size_t head_size)
{
    struct mj_span length = mj_http_header(head, "Content-Length");
    bool expects = mj_http_has_token(mj_http_header(head, "Expect"), "100-continue");
    int64_t n = 0;
    c->state = READING_BODY;
    recount(c);
    if (mj_http_header(head, "Transfer-Encoding").len) {
        refuse(c, 411, "say how long the body is: Content-Length");
        return;
    }
    if (length.len && (length.ptr[0] < '0' || length.ptr[0] > '9' || mj_span_i64(length, &n))) {
        refuse(c, 400, "Content-Length is no number of bytes");
        return;
    }
    if ((uint64_t)n > c->call->body_max) {
        refuse(c, 413, "the body is too large");
        return;
    }
    c->body_len = (size_t)n;
    mj_buf_shift(&c->in, head_size);
    if (c->in.len >= c->body_len) {
        hand_over(c);
        return;
    }
    if (expects) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        send(c->fd, go_on, sizeof go_on - 1, MSG_NOSIGNAL); /* without it, it goes on soon, too */
    }
    watch(c, EV_READ, c->server->cfg.head_seconds);
}

/* 1 when there is more, 0 when there is nothing to be had now, or -1: the connection is done. */
static int read_more(struct mj_conn *c)
{
    bool room = mj_buf_try_reserve(&c->in, c->in.len ? 16384 : 2048) == 0;
    recount(c);
    if (!room || is_over_budget(c)) {
        refuse(c, 503, "too many large requests at once");
        return -1;
    }
    ssize_t n = recv(c->fd, c->in.ptr + c->in.len, c->in.cap - c->in.len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) {
        conn_free(c);
        return -1;
    }
    c->in.len += (size_t)n;
    return 1;
}

static void handle(struct mj_conn *c, const struct mj_http_head *head, size_t head_size)
{
    struct mj_answer a = {0};
    struct mj_taken taken = {0};
    c->head_only = mj_span_is(head->method, "HEAD");
    mj__endpoint(c->server, c->at, head, &c->peer, &a, &taken);
    if (taken.call) {
        c->call = taken.call;
        start_body(c, head, head_size);
        return;
    }
    if (!taken.sub && !taken.label_sub) {
        answer(c, &a);
        return;
    }
    int fd = c->fd;
    ev_io_stop(c->server->loop, &c->io);
    struct mj_span key = mj_http_header(head, "Sec-WebSocket-Key");
    if (taken.sub)
        mj__sub_adopt(taken.sub, fd, key);
    else
        mj__label_sub_start(taken.label_sub, fd, key);
    c->fd = -1;
    conn_free(c);
}

static bool has_header(struct mj_span lines, const char *name)
{
    size_t n = strlen(name);
    while (lines.len) {
        const uint8_t *end = memchr(lines.ptr, '\n', lines.len);
        size_t line = end ? (size_t)(end - lines.ptr) + 1 : lines.len;
        if (line > n && lines.ptr[n] == ':' && strncasecmp((const char *)lines.ptr, name, n) == 0)
            return true;
        lines = mj_span(lines.ptr + line, lines.len - line);
    }
    return false;
}

static void count_answer(const struct mj__call *call, int status)
{
    struct mj_metric *m = call->answers[status / 100];
    if (m)
        mj_metric_add(m, 1);
}

static void send_call(struct mj_conn *c, struct mj__call *call)
{
    struct mj_server *s = c->server;
    struct mj_answer a = {.status = call->status};
    bool route = call->call.kind == MJ_CALL_ROUTE;
    c->call = NULL;
    if (a.status < 200 || a.status > 599)
        a.status = 500;
    if (route && (call->out_body.len > MJ_ANSWER_MAX ||
                  s->conn_bytes - s->head_bytes + call->out_body.len > 2 * budget(c))) {
        count_answer(call, 503);
        refuse(c, 503, "the answer is too large");
        return;
    }
    count_answer(call, a.status);
    struct mj_span lines = mj_buf_span(&call->out_headers);
    if (call->out_body.len && !has_header(lines, "Content-Type"))
        a.type = "application/json; charset=UTF-8";
    bool cors = route && !has_header(lines, "Access-Control-Allow-Origin");
    a.headers = call->out_headers;
    a.body = call->out_body;
    call->out_headers = call->out_body = (struct mj_buf){0};
    if (cors)
        mj__cors(&a, NULL);
    answer(c, &a);
}

void mj__front_answered(struct mj_server *s)
{
    struct mj_call *list = mj__desk_answered(s->desk);
    while (list) {
        struct mj__call *call = (struct mj__call *)list;
        list = list->next;
        if (call->conn)
            send_call(call->conn, call);
        call_forget(s, call);
    }
}

/* Looks for the end of the head in what is new, so that a head that trickles in is not parsed
 * again and again. */
static void read_head(struct mj_conn *c)
{
    if (read_more(c) <= 0)
        return;
    const uint8_t *end = memmem(c->in.ptr + c->searched, c->in.len - c->searched, "\r\n\r\n", 4);
    size_t size = end ? (size_t)(end - c->in.ptr) + 4 : c->in.len;
    if (size > MJ_HEAD_MAX) {
        refuse(c, 431, "request head above 1 MiB");
        return;
    }
    if (!end) {
        c->searched = c->in.len > 3 ? c->in.len - 3 : 0;
        return;
    }
    struct mj_http_head head;
    int r = mj_http_parse_request(mj_buf_span(&c->in), &head);
    if (r == MJ_ELIMIT)
        refuse(c, 431, "too many request headers");
    else if (r < 0)
        refuse(c, 400, "malformed request");
    else if ((size_t)r < c->in.len && mj_http_header(&head, "Upgrade").len)
        conn_free(c); /* frames before the handshake is through: v1 drops these, too */
    else
        handle(c, &head, (size_t)r);
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
    (void)loop;
    (void)events;
    struct mj_conn *c = io->data;
    switch (c->state) {
    case READING:
        read_head(c);
        return;
    case READING_BODY:
        if (read_more(c) > 0 && c->in.len >= c->body_len)
            hand_over(c);
        return;
    case WAITING: /* is not watched */
        return;
    case ANSWERING:
        send_answer(c);
        return;
    case LINGERING: {
        char sink[4096];
        ssize_t n = recv(c->fd, sink, sizeof sink, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            conn_free(c);
        return;
    }
    }
}

static void on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    struct mj_conn *c = timer->data;
    /* A connection that never said a word gets no answer either: it may be a probe, or a browser
     * that opened one in advance. */
    if (c->state == READING && c->in.len)
        refuse(c, 408, "the request head did not arrive in time");
    else if (c->state == READING_BODY)
        refuse(c, 408, "the request's body did not arrive in time");
    else if (c->state == WAITING) {
        count_answer(c->call, 504);
        refuse(c, 504, "no answer in time");
    } else
        conn_free(c);
}

static void on_accept_pause(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)events;
    struct mj_server *s = timer->data;
    for (int i = 0; i < MJ_LISTENERS; i++)
        if (s->accepting[i].fd >= 0 && !s->stopping)
            ev_io_start(loop, &s->accepting[i]);
}

static void conn_new(struct mj_server *s, enum mj_listener at, int fd,
                     const struct sockaddr_storage *from)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct mj_conn *c = mj_calloc(1, sizeof *c);
    c->server = s;
    c->fd = fd;
    c->at = at;
    mj_address_of((const struct sockaddr *)from, sizeof *from, &c->peer);
    c->next = s->conns;
    c->link = &s->conns;
    if (c->next)
        c->next->link = &c->next;
    s->conns = c;
    s->conn_count++;
    mj_metric_set(s->m.heads, (int64_t)s->conn_count);
    ev_init(&c->io, on_io);
    ev_init(&c->deadline, on_deadline);
    c->io.data = c->deadline.data = c;
    watch(c, EV_READ, s->cfg.head_seconds);
    /* A monitor must get through exactly when the server is full. */
    size_t reserve = at == MJ_LISTEN_STREAM ? 0 : MONITORS;
    if (s->conn_count + s->adopted > s->cfg.max_connections + reserve)
        refuse(c, 503, "too many connections");
}

static void on_acceptable(struct ev_loop *loop, ev_io *io, int events)
{
    (void)events;
    struct mj_server *s = io->data;
    static struct mj_log_gate gate;
    for (int i = 0; i < 64; i++) { /* then let others have their turn */
        struct sockaddr_storage a;
        socklen_t len = sizeof a;
        int fd = accept4(io->fd, (struct sockaddr *)&a, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                /* The listener stays readable: without a pause this would spin. */
                mj_log_limited(&gate, 1, MJ_LOG_WARN, "server", "cannot accept: %s",
                               strerror(errno));
                for (int k = 0; k < MJ_LISTENERS; k++)
                    ev_io_stop(loop, &s->accepting[k]);
                s->accept_pause.repeat = 0.1;
                ev_timer_again(loop, &s->accept_pause);
                s->accept_pause.repeat = 0.;
            }
            return;
        }
        mj_metric_add(s->m.accepted, 1);
        conn_new(s, (enum mj_listener)(io - s->accepting), fd, &a);
    }
}

void mj__front_start(struct mj_server *s)
{
    ev_init(&s->accept_pause, on_accept_pause);
    s->accept_pause.data = s;
    for (int i = 0; i < MJ_LISTENERS; i++) {
        int fd = s->accepting[i].fd;
        if (fd < 0)
            continue;
        ev_io_init(&s->accepting[i], on_acceptable, fd, EV_READ);
        s->accepting[i].data = s;
        ev_io_start(s->loop, &s->accepting[i]);
    }
}

void mj__front_stop_accepting(struct mj_server *s)
{
    ev_timer_stop(s->loop, &s->accept_pause);
    for (int i = 0; i < MJ_LISTENERS; i++) {
        if (s->accepting[i].fd < 0)
            continue;
        ev_io_stop(s->loop, &s->accepting[i]);
        close(s->accepting[i].fd);
        s->accepting[i].fd = -1;
    }
}

void mj__front_close_all(struct mj_server *s)
{
    while (s->conns)
        conn_free(s->conns);
}
