/* Subscribers: libwebsockets owns the socket, answers the handshake, pings and closes. Here is what
 * happens to one from the handshake to its end; its events are sent by feed.c. */
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "server/internal.h"

#define SECOND INT64_C(1000000)

static void count_message_bytes(struct mj_server *s, int64_t n)
{
    s->message_bytes += (size_t)n;
    mj_metric_add(s->m.message_bytes, n);
}

static void drop_message(struct mj_sub *sub)
{
    count_message_bytes(sub->server, -(int64_t)sub->message.cap);
    mj_buf_deinit(&sub->message);
}

/* Where it begins, as things are now. */
static void set_position(struct mj_sub *sub)
{
    struct mj_server *s = sub->server;
    mj_view_refresh(&s->view);
    sub->position =
        sub->has_cursor ? mj_cursor_position(&s->view, sub->cursor, mj_now_us()) : s->view.end;
    sub->replaying = sub->position < s->view.end;
}

/* The filter is taken. */
static void set_class(struct mj_sub *sub, unsigned stream, enum mj_codec codec,
                      struct mj_filter *filter)
{
    struct mj_server *s = sub->server;
    struct mj_class *old = sub->class;
    struct mj_class *class = mj_class_get(&s->classes, stream, codec, filter);
    if (sub->state == MJ_SUB_LIVE)
        mj__feed_move(sub, MJ_SUB_BEHIND);
    sub->class = class;
    mj_class_unref(&s->classes, old);
    mj_metric_set(s->m.classes, s->classes.count);
}

struct mj_sub *mj__sub_new(struct mj_server *s, unsigned stream, enum mj_codec codec,
                           struct mj_subscribe_query *q, const struct mj_address *unit)
{
    struct mj_sub *sub = mj_calloc(1, sizeof *sub);
    sub->server = s;
    sub->fd = -1;
    sub->state = MJ_SUB_WAITING;
    sub->cursor = q->cursor;
    sub->has_cursor = q->has_cursor;
    sub->hello_due = q->require_hello;
    sub->greet = q->info && q->has_cursor;
    sub->heartbeat_us = q->heartbeat_us;
    sub->end = MJ_END_CLIENT;
    sub->host = mj_hosts_ref(&s->hosts, unit, mj_mono_us());
    set_class(sub, stream, codec, q->filter);
    q->filter = NULL;
    set_position(sub); /* live means from the request on, not from when the handshake is through */
    return sub;
}

static void sub_free(struct mj_sub *sub)
{
    struct mj_server *s = sub->server;
    mj__feed_move(sub, MJ_SUB_ENDING);
    mj_class_unref(&s->classes, sub->class);
    mj_metric_set(s->m.classes, s->classes.count);
    mj_hosts_unref(&s->hosts, sub->host);
    drop_message(sub);
    free(sub);
}

void mj__sub_close(struct mj_sub *sub, enum mj_end end, unsigned code, const char *reason,
                   size_t len)
{
    if (sub->closing)
        return;
    /* Cut before a UTF-8 sequence, not within: the frame has room for 123 bytes. */
    if (len > sizeof sub->close_reason - 1) {
        len = sizeof sub->close_reason - 1;
        while (len && ((uint8_t)reason[len] & 0xc0) == 0x80)
            len--;
    }
    memcpy(sub->close_reason, reason, len);
    sub->close_reason[len] = '\0';
    sub->close_code = (uint16_t)code;
    sub->end = (uint8_t)end;
    sub->closing = true;
    mj__feed_move(sub, MJ_SUB_ENDING);
    drop_message(sub);
    lws_callback_on_writable(sub->wsi);
}

/* Libwebsockets learns of it from the socket, as of any broken connection; the reset lets the
 * kernel free what it holds. */
void mj__sub_kill(struct mj_sub *sub, enum mj_end end)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (end != MJ_END_CLIENT)
        setsockopt(sub->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    sub->end = (uint8_t)end;
    mj__feed_move(sub, MJ_SUB_ENDING);
    shutdown(sub->fd, SHUT_RDWR);
}

bool mj__sub_may_write(struct mj_sub *sub)
{
    if (lws_get_close_length(sub->wsi) > 0)
        mj__feed_move(sub, MJ_SUB_ENDING);
    return sub->state != MJ_SUB_ENDING && !lws_partial_buffered(sub->wsi);
}

static void begin(struct mj_sub *sub)
{
    sub->hello_due = false;
    sub->progress_us = sub->sent_us = mj_mono_us();
    sub->ping_us = sub->progress_us + (sub->server->cfg.ping_seconds - 1) * SECOND;
    mj__feed_move(sub, MJ_SUB_BEHIND);
}

/* Pings are ours, not libwebsockets': it would hang up on a slow reader that answers late. */
static void ping(struct mj_sub *sub, int64_t now)
{
    static const uint8_t frame[2] = {0x80 | 9, 0};
    if (now < sub->ping_us || !mj__sub_may_write(sub))
        return;
    ssize_t n = send(sub->fd, frame, sizeof frame, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return; /* full: the next second will do; broken: the loop hears of it, too */
    if (n == 1 &&
        lws_write(sub->wsi, (unsigned char *)(uintptr_t)&frame[1], 1, LWS_WRITE_RAW) < 0) {
        mj__sub_kill(sub, MJ_END_CLIENT);
        return;
    }
    sub->ping_us = now + sub->server->cfg.ping_seconds * SECOND;
}

/* Has the peer acknowledged anything it owes since the last look? */
static void check_progress(struct mj_sub *sub, int64_t now)
{
    int owed = 0;
    if (ioctl(sub->fd, SIOCOUTQ, &owed) == 0 && owed == 0 && !lws_partial_buffered(sub->wsi)) {
        sub->progress_us = now;
        return;
    }
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    if (getsockopt(sub->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
        info.tcpi_bytes_acked != sub->acked) {
        sub->acked = info.tcpi_bytes_acked;
        sub->progress_us = now;
    }
    if (now - sub->progress_us > sub->server->cfg.stall_seconds * SECOND)
        mj__sub_kill(sub, MJ_END_STALLED);
}

void mj__subs_second(struct mj_server *s)
{
    static const char slow_message[] = "a message took longer than a minute";
    static size_t turn;
    /* Looking costs two system calls, so everybody is looked at every fifth second. */
    size_t every = s->cfg.stall_seconds < 10 ? 1 : 5;
    turn++;
    /* Its timers, as for a close that is never answered, run late on a loop that others use, too,
     * unless it is woken. */
    if (s->adopted)
        lws_cancel_service(s->lws);
    int64_t now = mj_mono_us(), wall = mj_now_us(), lag_sum = 0;
    int64_t lags[MJ_HISTOGRAM_MAX + 1] = {0};
    for (size_t i = 0; i < s->sub_count; i++) {
        struct mj_sub *sub = s->subs[i];
        bool begun = sub->state != MJ_SUB_WAITING && sub->state != MJ_SUB_ENDING;
        if (begun)
            ping(sub, now);
        if (begun && sub->heartbeat_us && now - sub->sent_us >= sub->heartbeat_us &&
            mj__sub_may_write(sub))
            mj__feed_info(sub, "cursor");
        int64_t lag = begun ? mj__feed_lag(sub, wall) : 0;
        lags[mj_histogram_bucket(s->m.lag, lag)] += begun;
        lag_sum += lag;
        if (sub->message.len && now - sub->message_us > 60 * SECOND)
            mj__sub_close(sub, MJ_END_BAD_MESSAGE, 1008, slow_message, sizeof slow_message - 1);
        if ((i + turn) % every == 0)
            check_progress(sub, now);
    }
    mj_histogram_set(s->m.lag, lags, lag_sum);
    mj_hosts_sweep(&s->hosts, now);
}

void mj__subs_close_all(struct mj_server *s)
{
    static const char text[] = "server is shutting down";
    for (size_t i = 0; i < s->sub_count; i++)
        mj__sub_close(s->subs[i], MJ_END_SHUTDOWN, 1001, text, sizeof text - 1);
}

static void on_message(struct mj_sub *sub)
{
    struct mj_server *s = sub->server;
    struct mj_filter *f = NULL;
    MJ_AUTO_BUF reason = {0};
    int r = mj_client_message_parse(mj_buf_span(&sub->message), s->cfg.sets, &f, &reason);
    drop_message(sub);
    if (r < 0) {
        mj__sub_close(sub, MJ_END_BAD_MESSAGE, 1000, (const char *)reason.ptr, reason.len);
        return;
    }
    if (r == 0)
        return;
    set_class(sub, sub->class->stream, (enum mj_codec)sub->class->codec, f);
    if (s->classes.bytes > MJ_FILTERS_BYTES_MAX) {
        static const char text[] = "too many large filters at once";
        mj__sub_close(sub, MJ_END_MEMORY, 1013, text, sizeof text - 1);
    } else if (sub->hello_due) {
        /* What came before the hello is not this subscriber's: its filter was not known. */
        set_position(sub);
        begin(sub);
    }
}

/* A piece of a message. Text is collected up to the limit; longer messages and binary ones are
 * read and forgotten, as v1 does. */
static void on_receive(struct mj_sub *sub, const void *in, size_t len)
{
    struct mj_server *s = sub->server;
    if (sub->closing)
        return;
    if (lws_is_first_fragment(sub->wsi)) {
        drop_message(sub);
        sub->discarding = lws_frame_is_binary(sub->wsi);
        sub->message_us = mj_mono_us();
    }
    if (!sub->discarding && sub->message.len + len > MJ_CLIENT_MESSAGE_MAX) {
        drop_message(sub);
        sub->discarding = true;
    }
    if (!sub->discarding) {
        size_t cap = sub->message.cap;
        int err = mj_buf_try_reserve(&sub->message, len);
        count_message_bytes(s, (int64_t)(sub->message.cap - cap));
        if (err || s->message_bytes > s->cfg.message_budget) {
            static const char text[] = "too many large messages at once";
            mj__sub_close(sub, MJ_END_MEMORY, 1013, text, sizeof text - 1);
            return;
        }
        mj_buf_put(&sub->message, in, len);
    }
    if (lws_is_final_fragment(sub->wsi) && !lws_remaining_packet_payload(sub->wsi)) {
        if (!sub->discarding)
            on_message(sub);
        sub->discarding = false;
    }
}

static void on_established(struct mj_sub *sub, struct lws *wsi)
{
    struct mj_server *s = sub->server;
    sub->wsi = wsi;
    sub->progress_us = mj_mono_us();
    if (s->sub_count == s->sub_cap) {
        s->sub_cap = s->sub_cap ? 2 * s->sub_cap : 64;
        s->subs = mj_realloc(s->subs, s->sub_cap * sizeof *s->subs);
    }
    sub->index = (uint32_t)s->sub_count;
    s->subs[s->sub_count++] = sub;
    mj_metric_set(s->m.subs, (int64_t)s->sub_count);
    mj_metric_add(sub->host->connected, 1);
    if (!sub->hello_due)
        begin(sub);
}

static void on_closed(struct mj_sub *sub)
{
    struct mj_server *s = sub->server;
    struct mj_sub *last = s->subs[--s->sub_count];
    s->subs[sub->index] = last;
    last->index = sub->index;
    mj__feed_move(sub, MJ_SUB_ENDING);
    sub->wsi = NULL;
    mj_metric_set(s->m.subs, (int64_t)s->sub_count);
    mj_metric_add(sub->host->connected, -1);
    mj_metric_add(s->m.ends[sub->end], 1);
}

static int on_writeable(struct mj_sub *sub)
{
    struct mj_server *s = sub->server;
    if (sub->closing) {
        if (sub->close_sent)
            return 0; /* its answer is awaited, as long as libwebsockets sees fit */
        sub->close_sent = true;
        lws_close_reason(sub->wsi, (enum lws_close_status)sub->close_code,
                         (unsigned char *)sub->close_reason, strlen(sub->close_reason));
        return -1;
    }
    if (sub->state != MJ_SUB_BEHIND)
        return 0;
    /* However many are catching up, those who are live do not wait for all of them. */
    if (mj_mono_us() - s->pump_end_us > MJ_FLUSH_MAX_US / 2)
        mj__pump(s);
    mj__feed_turn(sub);
    return 0;
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len)
{
    (void)user;
    struct mj_sub *sub = lws_get_opaque_user_data(wsi);
    if (reason == LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED) {
        struct mj_server *s = lws_context_user(lws_get_context(wsi));
        lws_set_opaque_user_data(wsi, s->adopting);
        s->adopting = NULL;
        return 0;
    }
    if (!sub)
        return 0;
    switch (reason) {
    case LWS_CALLBACK_ESTABLISHED:
        on_established(sub, wsi);
        return 0;
    case LWS_CALLBACK_RECEIVE:
        on_receive(sub, in, len);
        return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return on_writeable(sub);
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        mj__feed_move(sub, MJ_SUB_ENDING); /* nothing may follow the echo of its close */
        return 0;
    case LWS_CALLBACK_CLOSED:
        if (sub->wsi)
            on_closed(sub);
        return 0;
    case LWS_CALLBACK_WSI_DESTROY:
        lws_set_opaque_user_data(wsi, NULL);
        sub->server->adopted--;
        sub_free(sub);
        return 0;
    default:
        return 0;
    }
}

void mj__sub_adopt(struct mj_sub *sub, int fd, struct mj_span key)
{
    struct mj_server *s = sub->server;
    sub->fd = fd;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &s->cfg.sndbuf, sizeof s->cfg.sndbuf);
    /* Finds peers that vanished while nothing is sent to them, as before a hello, in two minutes.
     */
    int one = 1, idle = 60, interval = 15, probes = 4;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    char request[256];
    int n = snprintf(request, sizeof request,
                     "GET / HTTP/1.1\r\nHost: moonjet\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: %.*s\r\n\r\n",
                     (int)key.len, (const char *)key.ptr);
    s->adopting = sub;
    s->adopted++;
    lws_adopt_socket_vhost_readbuf(s->vhost, fd, request, (size_t)n);
    if (s->adopting) { /* it never got as far as to know the subscriber */
        s->adopting = NULL;
        s->adopted--;
        sub_free(sub);
    }
}

static const struct lws_protocols protocols[] = {
    {.name = "jetstream", .callback = callback, .rx_buffer_size = 1024, .tx_packet_size = 1 << 20},
    {0},
};

/* Errors of libwebsockets are ours to log, except the line it prints at every adoption. */
static void lws_log(int level, const char *line)
{
    if (strstr(line, "calling service"))
        return;
    size_t n = strcspn(line, "\n");
    static struct mj_log_gate gate;
    mj_log_limited(&gate, 5, level & LLL_ERR ? MJ_LOG_WARN : MJ_LOG_DEBUG, "lws", "%.*s", (int)n,
                   line);
}

int mj__subs_init(struct mj_server *s)
{
    static const lws_retry_bo_t no_idle_policy = {0};
    lws_set_log_level(LLL_ERR, lws_log);
    void *loops[1] = {s->loop};
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .protocols = protocols,
        .options = LWS_SERVER_OPTION_LIBEV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
        .foreign_loops = loops,
        .user = s,
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
        .retry_and_idle_policy = &no_idle_policy,
        .timeout_secs = 3,
        .vhost_name = "stream",
    };
    s->lws = lws_create_context(&info);
    if (!s->lws)
        return MJ_EIO;
    s->vhost = lws_create_vhost(s->lws, &info);
    return s->vhost ? 0 : MJ_EIO;
}

void mj__subs_deinit(struct mj_server *s)
{
    if (s->lws)
        lws_context_destroy(s->lws);
    free(s->subs);
}
