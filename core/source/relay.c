#include "source/relay.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "atproto/cbor.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/http.h"
#include "base/log.h"
#include "base/ws.h"
#include "source/relay_window.h"

#define TAG           "relay"
#define BATCH_BYTES   (256u << 10) /* a write costs what 30 frames cost, so frames go in runs */
#define TURN_BATCHES  16           /* then the next client has its turn */
#define HEAD_BYTES    (16u << 10)
#define MESSAGE_BYTES (64u << 10) /* of what clients say; subscribeRepos has nothing to say */
#define REPLIES_BYTES (64u << 10) /* unsent pongs of a client that pings and does not read */
#define CLIENTS_MAX   1024
#define SECOND        INT64_C(1000000)
#define HEAD_US       (10 * SECOND)
#define PING_US       (30 * SECOND)
#define LINGER_US     (5 * SECOND) /* for the peer's side of a close */
#define STOP_US       (SECOND / 2)
#define STALL_MS      60000u /* unacknowledged bytes for that long: the peer is gone */

enum state {
    REQUEST, /* reading the request head */
    STREAM,  /* upgraded, fed */
    CLOSING, /* sends what is left, then waits for the peer's end */
    DONE     /* to be freed */
};

struct client {
    struct client *next; /* owned by the relay's list */
    int fd;
    enum state state;
    bool upgraded, wants_out, shut;
    struct mj_buf in; /* request head */
    struct mj_ws_reader ws;
    struct mj_buf out; /* whole frames; the first `sent` bytes are gone */
    size_t sent;
    uint64_t from, pos; /* in the feed */
    int64_t due_us;     /* ask the feed again; INT64_MAX = after a wake-up */
    int64_t deadline_us;
    int64_t written_us; /* last time bytes left */
};

struct mj_relay {
    struct mj_relay_feed feed;
    struct mj_relay_window *window; /* owned; NULL in pull mode */
    mj_relay_get_fn get;
    void *get_ctx; /* borrowed */
    int port;
    int listen_fd, epoll_fd, wake_fd;
    pthread_t thread;
    atomic_bool stop, woken;
    atomic_int streaming;
    struct client *clients; /* owned list */
    int client_count;
    uint8_t rx[MESSAGE_BYTES];
};

void mj_relay_put(struct mj_buf *out, struct mj_span frame)
{
    uint8_t head[MJ_WS_HEAD_MAX];
    mj_buf_put(out, head, mj_ws_head(head, MJ_WS_BINARY, frame.len));
    mj_buf_put(out, frame.ptr, frame.len);
}

/* ---- what is said to clients ---- */

static void say(struct client *c, const char *header, size_t header_len, const char *key,
                const char *name, const char *message)
{
    MJ_AUTO_BUF frame = {0};
    mj_buf_put(&frame, header, header_len);
    mj_cbor_put_map(&frame, 2);
    mj_cbor_put_text(&frame, mj_str(key));
    mj_cbor_put_text(&frame, mj_str(name));
    mj_cbor_put_text(&frame, mj_str("message"));
    mj_cbor_put_text(&frame, mj_str(message));
    mj_relay_put(&c->out, mj_buf_span(&frame));
}

static void put_control(struct client *c, enum mj_ws_opcode op, struct mj_span payload)
{
    uint8_t head[MJ_WS_HEAD_MAX];
    mj_buf_put(&c->out, head, mj_ws_head(head, op, payload.len));
    mj_buf_put(&c->out, payload.ptr, payload.len);
}

static void set_state(struct mj_relay *r, struct client *c, enum state state)
{
    if (c->state == state)
        return;
    if (c->state == STREAM)
        atomic_fetch_sub(&r->streaming, 1);
    if (state == STREAM)
        atomic_fetch_add(&r->streaming, 1);
    c->state = state;
}

static void close_client(struct mj_relay *r, struct client *c, int code)
{
    if (c->state >= CLOSING)
        return;
    if (c->state == STREAM)
        mj_log(MJ_LOG_INFO, TAG, "client %d leaves after %" PRIu64 " frames", c->fd,
               c->pos - c->from);
    if (c->upgraded) {
        uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
        put_control(c, MJ_WS_CLOSE, mj_span(payload, 2));
    }
    set_state(r, c, CLOSING);
    c->deadline_us = mj_mono_us() + LINGER_US;
}

static void refuse(struct mj_relay *r, struct client *c, const char *error, const char *message)
{
    static const char header[] = {(char)0xa1, 0x62, 'o', 'p', 0x20};
    say(c, header, sizeof header, "error", error, message);
    mj_log(MJ_LOG_INFO, TAG, "client %d: %s", c->fd, error);
    close_client(r, c, 1008);
}

static void reply(struct mj_relay *r, struct client *c, int status, const char *type,
                  struct mj_span body)
{
    const char *reason = status == 200   ? "OK"
                         : status == 400 ? "Bad Request"
                         : status == 404 ? "Not Found"
                         : status == 405 ? "Method Not Allowed"
                         : status == 426 ? "Upgrade Required"
                                         : "Error";
    mj_buf_printf(&c->out,
                  "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s"
                  "Access-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n",
                  status, reason, type, body.len,
                  status == 426 ? "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" : "");
    mj_buf_put(&c->out, body.ptr, body.len);
    close_client(r, c, 0);
}

static void reply_error(struct mj_relay *r, struct client *c, int status, const char *error,
                        const char *message)
{
    MJ_AUTO_BUF body = {0};
    mj_buf_printf(&body, "{\"error\":\"%s\",\"message\":\"%s\"}", error, message);
    reply(r, c, status, "application/json", mj_buf_span(&body));
}

/* ---- the request ---- */

static void subscribe(struct mj_relay *r, struct client *c, const struct mj_http_head *h)
{
    struct mj_span key = mj_http_header(h, "sec-websocket-key");
    if (!mj_http_has_token(mj_http_header(h, "upgrade"), "websocket") ||
        !mj_http_has_token(mj_http_header(h, "connection"), "upgrade") || key.len != 24 ||
        !mj_span_is(mj_http_header(h, "sec-websocket-version"), "13")) {
        reply_error(r, c, 426, "UpgradeRequired", "this is a WebSocket endpoint");
        return;
    }
    int64_t number = 0, *cursor = NULL;
    struct mj_span rest = h->query, name, value;
    while (mj_query_next(&rest, &name, &value)) {
        if (!mj_span_is(name, "cursor") || cursor)
            continue;
        if (mj_span_i64(value, &number) || number < 0) {
            reply_error(r, c, 400, "InvalidRequest", "cursor is not a number");
            return;
        }
        cursor = &number;
    }
    char accept[29];
    mj_ws_accept(key, accept);
    mj_buf_printf(&c->out,
                  "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                  "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                  accept);
    c->upgraded = true;
    set_state(r, c, STREAM);
    c->deadline_us = INT64_MAX;
    enum mj_relay_start start = r->feed.seek(r->feed.ctx, cursor, &c->pos);
    c->from = c->pos;
    c->due_us = 0;
    if (cursor)
        mj_log(MJ_LOG_INFO, TAG, "client %d subscribes from cursor %" PRId64, c->fd, number);
    else
        mj_log(MJ_LOG_INFO, TAG, "client %d subscribes", c->fd);
    static const char info[] = {(char)0xa2, 0x61, 't',  0x65, '#', 'i', 'n',
                                'f',        'o',  0x62, 'o',  'p', 0x01};
    if (start == MJ_RELAY_OUTDATED)
        say(c, info, sizeof info, "name", "OutdatedCursor",
            "the cursor is older than what is kept: starting with the oldest frame");
    if (start == MJ_RELAY_FUTURE)
        refuse(r, c, "FutureCursor", "the cursor is ahead of this stream");
}

static void answer_get(struct mj_relay *r, struct client *c, const struct mj_http_head *h)
{
    if (!r->get) {
        reply_error(r, c, 404, "NotFound", "nothing here");
        return;
    }
    MJ_AUTO_BUF body = {0};
    const char *type = "application/json";
    int status = r->get(r->get_ctx, h->path, h->query, &body, &type);
    reply(r, c, status, type, mj_buf_span(&body));
}

/* ---- input ---- */

static void on_message(struct mj_relay *r, struct client *c, const struct mj_ws_msg *m)
{
    if (m->op == MJ_WS_PING) {
        put_control(c, MJ_WS_PONG, m->payload);
        if (c->out.len - c->sent > BATCH_BYTES + MJ_WS_LIMIT + REPLIES_BYTES)
            set_state(r, c, DONE);
    } else if (m->op == MJ_WS_CLOSE) {
        int code = mj_ws_close_code(m->payload);
        close_client(r, c, code == 1005 ? 1000 : code);
    }
}

static void on_bytes(struct mj_relay *r, struct client *c, uint8_t *p, size_t n)
{
    mj_ws_reader_feed(&c->ws, p, n);
    struct mj_ws_msg m;
    int got = 0;
    while (c->state == STREAM && (got = mj_ws_reader_next(&c->ws, &m)) > 0)
        on_message(r, c, &m);
    if (got < 0)
        close_client(r, c, c->ws.close_code);
}

static void on_request(struct mj_relay *r, struct client *c)
{
    struct mj_http_head h;
    int size = mj_http_parse_request(mj_buf_span(&c->in), &h);
    if (size == MJ_EAGAIN) {
        if (c->in.len >= HEAD_BYTES)
            reply_error(r, c, 400, "InvalidRequest", "the request head is too large");
        return;
    }
    if (size < 0)
        reply_error(r, c, 400, "InvalidRequest", "malformed request");
    else if (!mj_span_is(h.method, "GET"))
        reply_error(r, c, 405, "InvalidRequest", "only GET");
    else if (mj_span_is(h.path, MJ_RELAY_PATH))
        subscribe(r, c, &h);
    else
        answer_get(r, c, &h);
    if (c->state == STREAM)
        on_bytes(r, c, c->in.ptr + size, c->in.len - (size_t)size);
    mj_buf_deinit(&c->in);
}

static void receive(struct mj_relay *r, struct client *c)
{
    ssize_t n = recv(c->fd, r->rx, sizeof r->rx, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        if (c->state == STREAM)
            mj_log(MJ_LOG_INFO, TAG, "client %d is gone after %" PRIu64 " frames", c->fd,
                   c->pos - c->from);
        set_state(r, c, DONE);
    } else if (c->state == REQUEST) {
        mj_buf_put(&c->in, r->rx, (size_t)n);
        on_request(r, c);
    } else if (c->state == STREAM) {
        on_bytes(r, c, r->rx, (size_t)n);
    } /* while closing, what still arrives no longer matters */
}

/* ---- output ---- */

static void want_out(struct mj_relay *r, struct client *c, bool on)
{
    if (c->wants_out == on)
        return;
    struct epoll_event ev = {.events = EPOLLIN | (on ? (uint32_t)EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(r->epoll_fd, EPOLL_CTL_MOD, c->fd, &ev);
    c->wants_out = on;
}

/* Sends what there is and asks the feed for more, for one turn. */
static void pump(struct mj_relay *r, struct client *c)
{
    for (int turn = 0; turn < TURN_BATCHES; turn++) {
        if (c->sent == c->out.len) {
            c->sent = c->out.len = 0;
            if (c->out.cap > 4 * BATCH_BYTES)
                mj_buf_deinit(&c->out);
            if (c->state == STREAM && c->due_us <= mj_mono_us()) {
                int64_t wait = INT64_MAX;
                if (r->feed.read(r->feed.ctx, &c->pos, BATCH_BYTES, &c->out, &wait))
                    refuse(r, c, "ConsumerTooSlow", "frames were dropped before you read them");
                if (!c->out.len)
                    c->due_us = wait == INT64_MAX ? wait : mj_mono_us() + wait;
            }
        }
        if (c->sent == c->out.len) {
            want_out(r, c, false);
            if (c->state == CLOSING && !c->shut) {
                shutdown(c->fd, SHUT_WR);
                c->shut = true;
            }
            return;
        }
        ssize_t n = send(c->fd, c->out.ptr + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            want_out(r, c, true);
            return;
        }
        if (n < 0 && errno != EINTR) {
            set_state(r, c, DONE);
            return;
        }
        if (n > 0) {
            c->sent += (size_t)n;
            c->written_us = mj_mono_us();
        }
    }
}

/* ---- the loop ---- */

static void accept_clients(struct mj_relay *r)
{
    for (;;) {
        int fd = accept4(r->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            /* Out of descriptors: the listening socket stays readable, so breathe a little. */
            if (errno == EMFILE || errno == ENFILE)
                nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
            return;
        }
        if (r->client_count == CLIENTS_MAX) {
            close(fd);
            continue;
        }
        int one = 1;
        unsigned stall = STALL_MS;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &stall, sizeof stall);
        struct client *c = mj_calloc(1, sizeof *c);
        c->fd = fd;
        c->due_us = INT64_MAX;
        c->written_us = mj_mono_us();
        c->deadline_us = c->written_us + HEAD_US;
        mj_ws_reader_init(&c->ws, true, MESSAGE_BYTES);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
        c->next = r->clients;
        r->clients = c;
        r->client_count++;
    }
}

static void free_client(struct mj_relay *r, struct client *c)
{
    set_state(r, c, DONE);
    close(c->fd);
    mj_buf_deinit(&c->in);
    mj_buf_deinit(&c->out);
    mj_ws_reader_deinit(&c->ws);
    free(c);
    r->client_count--;
}

/* Gives everybody who may have something to do a turn, sweeps out who is done, and returns when
 * the next one is due. */
static int64_t turn(struct mj_relay *r, bool news)
{
    int64_t now = mj_mono_us(), next = INT64_MAX;
    for (struct client **at = &r->clients; *at;) {
        struct client *c = *at;
        if (news && c->state == STREAM)
            c->due_us = 0;
        if (c->state == STREAM && c->out.len == c->sent && now - c->written_us >= PING_US)
            put_control(c, MJ_WS_PING, (struct mj_span){0});
        if (c->state != DONE && !c->wants_out)
            pump(r, c);
        if (now >= c->deadline_us)
            set_state(r, c, DONE);
        if (c->state == DONE) {
            *at = c->next;
            free_client(r, c);
            continue;
        }
        int64_t due = c->deadline_us;
        if (!c->wants_out && c->state == STREAM) {
            if (c->due_us < due)
                due = c->due_us;
            if (c->written_us + PING_US < due)
                due = c->written_us + PING_US;
        }
        if (!c->wants_out && c->out.len != c->sent)
            due = 0; /* its turn was over before it was done */
        if (due < next)
            next = due;
        at = &c->next;
    }
    return next;
}

static void *serve(void *arg)
{
    struct mj_relay *r = arg;
    int64_t next = INT64_MAX, stop_at = INT64_MAX;
    while (mj_mono_us() < stop_at && (stop_at == INT64_MAX || r->clients)) {
        struct epoll_event events[64];
        int64_t wait = next < stop_at ? next : stop_at;
        int ms = -1;
        if (wait != INT64_MAX) {
            int64_t left = wait - mj_mono_us();
            ms = left <= 0 ? 0 : left > 60 * SECOND ? 60000 : (int)((left + 999) / 1000);
        }
        int n = epoll_wait(r->epoll_fd, events, MJ_COUNT(events), ms);
        bool news = false;
        for (int i = 0; i < n; i++) {
            struct client *c = events[i].data.ptr;
            if (c == NULL) {
                accept_clients(r);
            } else if ((void *)c == r) {
                uint64_t count;
                news = read(r->wake_fd, &count, sizeof count) > 0;
            } else {
                if (events[i].events & EPOLLOUT)
                    want_out(r, c, false);
                if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && c->state != DONE)
                    receive(r, c);
            }
        }
        /* Cleared before the feed is read: a wake-up from now on is not lost. */
        if (news)
            atomic_store(&r->woken, false);
        if (atomic_load(&r->stop) && stop_at == INT64_MAX) {
            stop_at = mj_mono_us() + STOP_US;
            for (struct client *c = r->clients; c; c = c->next)
                close_client(r, c, 1001);
        }
        next = turn(r, news);
    }
    while (r->clients) {
        struct client *c = r->clients;
        r->clients = c->next;
        free_client(r, c);
    }
    return NULL;
}

static void release(struct mj_relay *r)
{
    int saved = errno;
    if (r->listen_fd >= 0)
        close(r->listen_fd);
    if (r->epoll_fd >= 0)
        close(r->epoll_fd);
    if (r->wake_fd >= 0)
        close(r->wake_fd);
    mj_relay_window_free(r->window);
    free(r);
    errno = saved;
}

int mj_relay_start(const struct mj_relay_cfg *cfg, struct mj_relay **out)
{
    struct mj_hostport at;
    int err = mj_hostport_parse(cfg->listen, &at);
    if (err)
        return err;
    struct mj_relay *r = mj_calloc(1, sizeof *r);
    r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    r->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    r->listen_fd = mj_listen(&at, &r->port);
    if (r->listen_fd < 0 || r->epoll_fd < 0 || r->wake_fd < 0) {
        release(r);
        return MJ_EIO;
    }
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, r->listen_fd, &ev);
    ev.data.ptr = r;
    epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, r->wake_fd, &ev);
    if (cfg->feed) {
        r->feed = *cfg->feed;
    } else {
        r->window = mj_relay_window_new(cfg->window_bytes ? cfg->window_bytes : 64u << 20,
                                        cfg->window_frames ? cfg->window_frames : SIZE_MAX);
        r->feed = (struct mj_relay_feed){r->window, mj_relay_window_seek, mj_relay_window_read};
    }
    r->get = cfg->get;
    r->get_ctx = cfg->get_ctx;
    /* Signals belong to the thread that started us. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&r->thread, NULL, serve, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        errno = failed;
        release(r);
        return MJ_EIO;
    }
    *out = r;
    return 0;
}

void mj_relay_wake(struct mj_relay *r)
{
    if (!atomic_exchange(&r->woken, true)) {
        uint64_t one = 1;
        ssize_t n = write(r->wake_fd, &one, sizeof one);
        (void)n; /* a full counter wakes as well */
    }
}

void mj_relay_stop(struct mj_relay *r)
{
    if (!r)
        return;
    atomic_store(&r->stop, true);
    uint64_t one = 1;
    ssize_t n = write(r->wake_fd, &one, sizeof one);
    (void)n;
    pthread_join(r->thread, NULL);
    release(r);
}

int mj_relay_port(const struct mj_relay *r) { return r->port; }
int mj_relay_clients(const struct mj_relay *r) { return atomic_load(&r->streaming); }

int mj_relay_publish(struct mj_relay *r, int64_t seq, struct mj_span frame)
{
    if (!r->window)
        return MJ_EINVAL;
    int err = mj_relay_window_put(r->window, seq, frame);
    if (!err)
        mj_relay_wake(r);
    return err;
}
