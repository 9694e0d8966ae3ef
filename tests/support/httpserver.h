/* A small HTTP server for tests of clients: a thread per connection, answers by a function of the
 * test's. Requests are read whole; what they say is kept for the test to look at. */
#pragma once

#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/http.h"

struct httpserver;

struct httprequest {
    struct httpserver *server;
    int fd;
    SSL *tls;                 /* NULL: in the clear */
    int connection;           /* which one, counted from 1 */
    struct mj_http_head head; /* borrowed from `in` */
    struct mj_buf in;
    struct mj_span body;
};

struct httpserver {
    int fd, port;
    SSL_CTX *tls; /* owned by the test; set between http_start() and the first connection */
    pthread_t thread;
    /* Writes the whole answer to r->fd; false to close the connection. */
    bool (*answer)(struct httprequest *r);
    _Atomic int connections, requests, open, most_open;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool released; /* what http_hold() waits for */
    int alive;     /* connections' threads */
};

static inline void http_write(struct httprequest *r, const void *p, size_t n)
{
    while (n) {
        ssize_t k = r->tls ? SSL_write(r->tls, p, (int)n) : send(r->fd, p, n, MSG_NOSIGNAL);
        if (k <= 0)
            return;
        p = (const char *)p + k;
        n -= (size_t)k;
    }
}

/* An answer that keeps the connection open. */
static inline bool http_reply(struct httprequest *r, int status, const char *headers,
                              struct mj_span body)
{
    MJ_AUTO_BUF out = {0};
    mj_buf_printf(&out, "HTTP/1.1 %d Word\r\nContent-Length: %zu\r\n%s\r\n", status, body.len,
                  headers);
    if (!mj_span_is(r->head.method, "HEAD"))
        mj_buf_put(&out, body.ptr, body.len);
    http_write(r, out.ptr, out.len);
    return true;
}

/* Waits until the test calls http_release(), or the peer leaves. */
static inline void http_hold(struct httprequest *r)
{
    struct httpserver *s = r->server;
    pthread_mutex_lock(&s->lock);
    while (!s->released)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static inline void http_release(struct httpserver *s)
{
    pthread_mutex_lock(&s->lock);
    s->released = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static inline bool http_read(struct httprequest *r)
{
    for (;;) {
        int size = mj_http_parse_request(mj_buf_span(&r->in), &r->head);
        int64_t len = 0;
        if (size > 0) {
            struct mj_span l = mj_http_header(&r->head, "Content-Length");
            if (l.len)
                mj_span_i64(l, &len);
            if (r->in.len >= (size_t)size + (size_t)len) {
                r->body = mj_span(r->in.ptr + size, (size_t)len);
                return true;
            }
        }
        mj_buf_reserve(&r->in, 65536);
        ssize_t n = r->tls ? SSL_read(r->tls, r->in.ptr + r->in.len, 65536)
                           : recv(r->fd, r->in.ptr + r->in.len, 65536, 0);
        if (n <= 0)
            return false;
        r->in.len += (size_t)n;
    }
}

static inline void *http_connection(void *arg)
{
    struct httprequest *r = arg;
    struct httpserver *s = r->server;
    bool ok = !r->tls || SSL_accept(r->tls) == 1;
    while (ok && http_read(r)) {
        atomic_fetch_add(&s->requests, 1);
        int open = atomic_fetch_add(&s->open, 1) + 1, most = atomic_load(&s->most_open);
        while (open > most && !atomic_compare_exchange_weak(&s->most_open, &most, open))
            ;
        bool more = s->answer(r);
        atomic_fetch_sub(&s->open, 1);
        if (!more)
            break;
        mj_buf_shift(&r->in, (size_t)(r->body.ptr - r->in.ptr) + r->body.len);
    }
    SSL_free(r->tls);
    close(r->fd);
    mj_buf_deinit(&r->in);
    free(r);
    pthread_mutex_lock(&s->lock);
    s->alive--;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static inline void *http_serve(void *arg)
{
    struct httpserver *s = arg;
    for (int fd; (fd = accept(s->fd, NULL, NULL)) >= 0;) {
        struct httprequest *r = mj_calloc(1, sizeof *r);
        pthread_t t;
        r->server = s;
        r->fd = fd;
        if (s->tls) {
            r->tls = SSL_new(s->tls);
            SSL_set_fd(r->tls, fd);
        }
        r->connection = atomic_fetch_add(&s->connections, 1) + 1;
        pthread_mutex_lock(&s->lock);
        s->alive++;
        pthread_mutex_unlock(&s->lock);
        if (pthread_create(&t, NULL, http_connection, r))
            abort();
        pthread_detach(t);
    }
    return NULL;
}

static inline void http_start(struct httpserver *s, bool (*answer)(struct httprequest *r))
{
    struct mj_hostport at = {.host = "127.0.0.1"};
    *s = (struct httpserver){.answer = answer};
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    s->fd = mj_listen(&at, &s->port);
    if (s->fd < 0)
        abort();
    int flags = 0;
    if (ioctl(s->fd, FIONBIO, &flags) || pthread_create(&s->thread, NULL, http_serve, s))
        abort();
}

/* After all clients have closed their connections. */
static inline void http_stop(struct httpserver *s)
{
    http_release(s);
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    pthread_mutex_lock(&s->lock);
    while (s->alive)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
    close(s->fd);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
}
