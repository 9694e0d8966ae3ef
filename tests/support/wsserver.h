/* A WebSocket server that does what a test tells it, in a thread and with blocking sockets: one
 * connection at a time, each handed to the test's function once its request is there. */
#pragma once

#include "cmocka_all.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "support/wsclient.h"

#define VISITS_MAX 16

/* One connection as the server sees it. Sending to a client that has gone is not a failure. */
struct visit {
    int number; /* 0, 1, 2 … */
    int fd;
    SSL *ssl; /* owned; NULL for plain */
    char request[4096];
    size_t request_len;
    int64_t at_us;
    int close_code;   /* the client's */
    atomic_int pings; /* the client's, all masked and empty */
    struct mj_ws_reader reader;
    uint8_t rx[4096];
};

struct server {
    int listen_fd, port;
    pthread_t thread;
    atomic_bool stop;
    bool joined;
    SSL_CTX *tls; /* borrowed; NULL for plain */
    void (*serve)(struct visit *v);
    atomic_int visits;
    struct visit v[VISITS_MAX];
};

static inline void say(struct visit *v, const void *p, size_t n)
{
    if (v->ssl)
        SSL_write(v->ssl, p, (int)n);
    else
        send(v->fd, p, n, MSG_NOSIGNAL);
}

static inline ssize_t hear(struct visit *v, void *p, size_t n)
{
    return v->ssl ? SSL_read(v->ssl, p, (int)n) : recv(v->fd, p, n, 0);
}

static inline void say_text(struct visit *v, const char *s) { say(v, s, strlen(s)); }

static inline void say_message(struct visit *v, enum mj_ws_opcode op, const void *p, size_t n)
{
    MJ_AUTO_BUF b = {0};
    uint8_t head[MJ_WS_HEAD_MAX];
    mj_buf_put(&b, head, mj_ws_head(head, op, n));
    mj_buf_put(&b, p, n);
    say(v, b.ptr, b.len);
}

static inline void upgrade_answer(const struct visit *v, struct mj_buf *b)
{
    struct mj_http_head h;
    char accept[29];
    assert_true(mj_http_parse_request(mj_span(v->request, v->request_len), &h) > 0);
    mj_ws_accept(mj_http_header(&h, "sec-websocket-key"), accept);
    mj_buf_printf(b,
                  "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                  "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                  accept);
}

static inline void accept_upgrade(struct visit *v)
{
    MJ_AUTO_BUF b = {0};
    upgrade_answer(v, &b);
    say(v, b.ptr, b.len);
}

/* Reads until the client is gone, answering pings if told to. */
static inline void listen_out(struct visit *v, bool answer)
{
    ssize_t n;
    while ((n = hear(v, v->rx, sizeof v->rx)) > 0) {
        struct mj_ws_msg m;
        mj_ws_reader_feed(&v->reader, v->rx, (size_t)n);
        while (mj_ws_reader_next(&v->reader, &m) > 0) {
            if (m.op == MJ_WS_CLOSE)
                v->close_code = mj_ws_close_code(m.payload);
            if (m.op == MJ_WS_PING) {
                v->pings++;
                if (answer)
                    say_message(v, MJ_WS_PONG, m.payload.ptr, m.payload.len);
            }
            if (m.op == MJ_WS_PONG && mj_span_is(m.payload, "are you there?"))
                v->pings = -1;
        }
    }
}

static inline void visit(struct server *s, int fd)
{
    int i = atomic_load(&s->visits);
    struct visit *v = &s->v[i];
    v->number = i;
    v->fd = fd;
    v->at_us = mj_mono_us();
    mj_ws_reader_init(&v->reader, true, 0);
    struct timeval limit = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    bool ready = true;
    if (s->tls) {
        v->ssl = SSL_new(s->tls);
        SSL_set_fd(v->ssl, fd);
        ready = SSL_accept(v->ssl) == 1;
    }
    while (ready && !memmem(v->request, v->request_len, "\r\n\r\n", 4)) {
        ssize_t n = hear(v, v->request + v->request_len, sizeof v->request - 1 - v->request_len);
        ready = n > 0;
        v->request_len += ready ? (size_t)n : 0;
    }
    atomic_fetch_add(&s->visits, 1);
    if (ready)
        s->serve(v);
    SSL_free(v->ssl);
    mj_ws_reader_deinit(&v->reader);
    close(fd);
}

static inline void *server_main(void *arg)
{
    struct server *s = arg;
    while (!atomic_load(&s->stop)) {
        int fd = accept(s->listen_fd, NULL, NULL);
        if (fd >= 0 && !atomic_load(&s->stop) && atomic_load(&s->visits) < VISITS_MAX)
            visit(s, fd);
        else if (fd >= 0)
            close(fd);
    }
    return NULL;
}

static inline struct server *server_start(void (*serve)(struct visit *v), SSL_CTX *tls)
{
    struct server *s = mj_calloc(1, sizeof *s);
    struct mj_hostport at = {"127.0.0.1", 0};
    s->listen_fd = mj_listen(&at, &s->port);
    assert_true(s->listen_fd >= 0);
    assert_int_equal(fcntl(s->listen_fd, F_SETFL, 0), 0); /* blocking */
    s->serve = serve;
    s->tls = tls;
    assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
    return s;
}

/* No visit is under way any more: what they noted may be read. */
static inline void server_join(struct server *s)
{
    atomic_store(&s->stop, true);
    shutdown(s->listen_fd, SHUT_RDWR); /* wakes accept() */
    pthread_join(s->thread, NULL);
    s->joined = true;
}

static inline void server_stop(struct server *s)
{
    if (!s->joined)
        server_join(s);
    close(s->listen_fd);
    free(s);
}
