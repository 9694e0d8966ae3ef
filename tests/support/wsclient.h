/* A blocking WebSocket client for tests: what it is told to send is sent as is, so it can
 * misbehave. Every wait ends after ten seconds in a failed assertion. */
#pragma once

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/http.h"
#include "base/ws.h"

struct wsclient {
    int fd;
    int status;         /* of the HTTP response */
    struct mj_buf head; /* the response, with the body of a refused upgrade */
    struct mj_ws_reader reader;
    uint8_t rx[1 << 16];
};

/* Of the next sockets; 0: the system's. Set before connecting, it bounds what the peer ever sends.
 */
static int tcp_rcvbuf __attribute__((unused));

static inline int tcp_connect(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 10};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (tcp_rcvbuf)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &tcp_rcvbuf, sizeof tcp_rcvbuf);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static inline void tcp_send(int fd, const void *p, size_t n)
{
    assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), n);
}

/* Sends the request text and reads the response head; bytes behind it go to the reader. */
static inline struct wsclient *ws_request(int port, const char *request)
{
    struct wsclient *c = mj_calloc(1, sizeof *c);
    c->fd = tcp_connect(port);
    tcp_send(c->fd, request, strlen(request));
    mj_ws_reader_init(&c->reader, false, 0);
    struct mj_http_head h;
    int size;
    while ((size = mj_http_parse_response(mj_buf_span(&c->head), &h)) <= 0) {
        mj_buf_reserve(&c->head, 4096);
        ssize_t n = recv(c->fd, c->head.ptr + c->head.len, 4096, 0);
        assert_true(n > 0);
        c->head.len += (size_t)n;
    }
    c->status = h.status;
    if (c->status == 101) {
        mj_buf_cstr(&c->head); /* so that it never moves: the reader borrows what is behind it */
        mj_ws_reader_feed(&c->reader, c->head.ptr + size, c->head.len - (size_t)size);
        return c;
    }
    ssize_t n;
    while ((n = recv(c->fd, c->rx, sizeof c->rx, 0)) > 0)
        mj_buf_put(&c->head, c->rx, (size_t)n);
    assert_int_equal(n, 0);
    return c;
}

static inline struct wsclient *ws_connect(int port, const char *target)
{
    MJ_AUTO_BUF b = {0};
    mj_buf_printf(&b,
                  "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                  "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                  target);
    return ws_request(port, mj_buf_cstr(&b));
}

/* The next message; false when the server closed the connection. */
static inline bool ws_read(struct wsclient *c, struct mj_ws_msg *m)
{
    int got;
    while ((got = mj_ws_reader_next(&c->reader, m)) == 0) {
        ssize_t n = recv(c->fd, c->rx, sizeof c->rx, 0);
        if (n <= 0) {
            assert_int_equal(n, 0);
            return false;
        }
        mj_ws_reader_feed(&c->reader, c->rx, (size_t)n);
    }
    assert_int_equal(got, 1);
    return true;
}

/* Sends one masked, final frame. */
static inline void ws_send(struct wsclient *c, enum mj_ws_opcode op, const void *p, size_t n)
{
    uint8_t frame[MJ_WS_HEAD_MAX + 1024];
    const uint8_t mask[4] = {1, 2, 3, 4};
    assert_true(n <= 1024);
    size_t h = mj_ws_head_masked(frame, op, n, mask);
    if (n)
        memcpy(frame + h, p, n);
    mj_ws_mask(frame + h, n, mask, 0);
    tcp_send(c->fd, frame, h + n);
}

static inline void ws_free(struct wsclient *c)
{
    close(c->fd);
    mj_buf_deinit(&c->head);
    mj_ws_reader_deinit(&c->reader);
    free(c);
}
