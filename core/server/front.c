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

#define MONITORS 32 /* connections kept free for /metrics and /_health */

struct mj_conn {
    ev_io io;
    ev_timer deadline;
    struct mj_server *server;
    struct mj_conn *next, **link;
    int fd;
    enum mj_listener at;
    enum { READING, ANSWERING, LINGERING } state;
    size_t searched; /* bytes of `in` known not to hold the end of the head */
    size_t sent;     /* of `out` */
    struct mj_buf in, out;
    struct mj_address peer;
};

static void conn_free(struct mj_conn *c)
{
    struct mj_server *s = c->server;
    ev_io_stop(s->loop, &c->io);
    ev_timer_stop(s->loop, &c->deadline);
    if (c->fd >= 0)
        close(c->fd);
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    s->conn_count--;
    s->conn_bytes -= c->in.cap;
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
        if (n < 0 && errno == EAGAIN) {
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
                 {204, "No Content"},
                 {400, "Bad Request"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {408, "Request Timeout"},
                 {429, "Too Many Requests"},
                 {431, "Request Header Fields Too Large"},
                 {503, "Service Unavailable"}};
    for (size_t i = 0; i < MJ_COUNT(table); i++)
        if (table[i].status == status)
            return table[i].phrase;
    return "Internal Server Error";
}

static void answer(struct mj_conn *c, struct mj_answer *a, bool body)
{
    c->state = ANSWERING;
    c->server->conn_bytes -= c->in.cap;
    mj_buf_deinit(&c->in);
    mj_buf_printf(&c->out, "HTTP/1.1 %d %s\r\n", a->status, reason_phrase(a->status));
    if (a->type)
        mj_buf_printf(&c->out, "Content-Type: %s\r\n", a->type);
    if (a->status != 204)
        mj_buf_printf(&c->out, "Content-Length: %zu\r\n", a->body.len);
    mj_buf_put(&c->out, a->headers.ptr, a->headers.len);
    mj_buf_puts(&c->out, "Connection: close\r\n\r\n");
    if (body)
        mj_buf_put(&c->out, a->body.ptr, a->body.len);
    mj_buf_deinit(&a->headers);
    mj_buf_deinit(&a->body);
    send_answer(c);
}

static void refuse(struct mj_conn *c, int status, const char *text)
{
    struct mj_answer a = {.status = status, .type = "text/plain; charset=UTF-8"};
    mj_buf_puts(&a.body, text);
    mj_metric_add(c->server->m.refused, 1);
    answer(c, &a, true);
}

static void handle(struct mj_conn *c, const struct mj_http_head *head)
{
    struct mj_answer a = {0};
    struct mj_sub *sub = NULL;
    mj__endpoint(c->server, c->at, head, &c->peer, &a, &sub);
    if (!sub) {
        answer(c, &a, !mj_span_is(head->method, "HEAD"));
        return;
    }
    int fd = c->fd;
    ev_io_stop(c->server->loop, &c->io);
    mj__sub_adopt(sub, fd, mj_http_header(head, "Sec-WebSocket-Key"));
    c->fd = -1;
    conn_free(c);
}

/* Looks for the end of the head in what is new, so that a head that trickles in is not parsed
 * again and again. */
static void read_head(struct mj_conn *c)
{
    struct mj_server *s = c->server;
    size_t cap = c->in.cap;
    bool room = mj_buf_try_reserve(&c->in, c->in.len ? 16384 : 2048) == 0;
    s->conn_bytes += c->in.cap - cap;
    if (!room || s->conn_bytes > MJ_HEADS_BYTES_MAX) {
        refuse(c, 503, "too many large requests at once");
        return;
    }
    ssize_t n = recv(c->fd, c->in.ptr + c->in.len, c->in.cap - c->in.len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        conn_free(c);
        return;
    }
    c->in.len += (size_t)n;
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
        handle(c, &head);
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
    else
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
    mj_address_of(from, &c->peer);
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
    size_t reserve = at == MJ_LISTEN_METRICS ? MONITORS : 0;
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
