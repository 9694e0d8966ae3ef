/* Subscribers: libwebsockets owns the socket, answers the handshake, pings and closes; we write
 * the events, as runs of ready-made frames, straight to the descriptor. That is safe under three
 * conditions (spec/performance.md §5.2), kept in may_write() and sent_part():
 *
 *   - never while libwebsockets holds back bytes of its own (lws_partial_buffered);
 *   - after a short write the rest of the torn frame, and no more, goes to libwebsockets, so that
 *     its pongs and closes queue behind it;
 *   - only on this thread.
 *
 * So a subscriber that does not read costs one frame at most. */
#include <errno.h>
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

#define FRAMES_MAX 4096        /* of one write */
#define SCAN_MAX   (64 * 1024) /* entries looked at in one turn of a subscriber */
#define PEERS_MAX  1000        /* addresses with metrics of their own */
#define SECOND     INT64_C(1000000)

/* One write: frames that lie back to back, either in the tail or copied together. */
struct mj_batch {
    const uint8_t *data; /* borrowed from the view, or `copy` */
    size_t len, frames, payload;
    uint64_t seq[FRAMES_MAX];
    uint32_t end[FRAMES_MAX]; /* of the frame, from `data` */
    uint8_t head[FRAMES_MAX];
    uint8_t copy[MJ_WRITE_MAX];
};

static void set_filter(struct mj_sub *sub, struct mj_filter *f)
{
    struct mj_server *s = sub->server;
    s->filter_bytes -= sub->filter_size;
    mj_filter_free(sub->filter);
    if (f && mj_filter_is_open(f)) {
        mj_filter_free(f);
        f = NULL;
    }
    sub->filter = f;
    sub->filter_size = f ? mj_filter_size(f) : 0;
    s->filter_bytes += sub->filter_size;
}

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

struct mj_sub *mj__sub_new(struct mj_server *s, unsigned stream, struct mj_subscribe_query *q)
{
    struct mj_sub *sub = mj_calloc(1, sizeof *sub);
    sub->server = s;
    sub->fd = -1;
    sub->stream = (uint8_t)stream;
    sub->cursor = q->cursor;
    sub->has_cursor = q->has_cursor;
    sub->hello_due = q->require_hello;
    sub->end = MJ_END_CLIENT;
    set_filter(sub, q->filter);
    q->filter = NULL;
    /* Live means from the request on, not from the moment the handshake is through. */
    mj_view_refresh(&s->view);
    sub->position =
        sub->has_cursor ? mj_cursor_position(&s->view, sub->cursor, mj_now_us()) : s->view.end;
    return sub;
}

static void sub_free(struct mj_sub *sub)
{
    set_filter(sub, NULL);
    drop_message(sub);
    free(sub);
}

/* Asks to be called when the socket takes more. */
static void block(struct mj_sub *sub)
{
    sub->blocked = true;
    lws_callback_on_writable(sub->wsi);
}

/* A close frame with a reason, as soon as the socket takes it. */
static void close_with(struct mj_sub *sub, enum mj_end end, unsigned code, const char *reason,
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
    sub->live = false;
    drop_message(sub);
    block(sub);
}

/* Without a word: for peers that do not take any. Libwebsockets learns of it from the socket, as of
 * any broken connection; the reset lets the kernel free what it holds. */
static void kill_sub(struct mj_sub *sub, enum mj_end end)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (end != MJ_END_CLIENT)
        setsockopt(sub->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    sub->end = (uint8_t)end;
    sub->live = false;
    sub->blocked = true;
    shutdown(sub->fd, SHUT_RDWR);
}

/* Adds a frame; false when it does not fit any more. */
static bool batch_add(struct mj_batch *b, uint64_t seq, struct mj_span frame, unsigned head)
{
    if (b->frames == FRAMES_MAX || (b->len && b->len + frame.len > MJ_WRITE_MAX))
        return false;
    if (!b->len) {
        b->data = frame.ptr;
    } else if (b->data == b->copy || frame.ptr != b->data + b->len) {
        if (b->data != b->copy) {
            memcpy(b->copy, b->data, b->len);
            b->data = b->copy;
        }
        memcpy(b->copy + b->len, frame.ptr, frame.len);
    }
    b->len += frame.len;
    b->seq[b->frames] = seq;
    b->end[b->frames] = (uint32_t)b->len;
    b->head[b->frames++] = (uint8_t)head;
    return true;
}

/* Gathers what the subscriber wants from its position on; returns the first seq not looked at. */
static uint64_t gather(struct mj_sub *sub, struct mj_batch *b)
{
    struct mj_view *v = &sub->server->view;
    uint64_t pos = sub->position, last = pos + SCAN_MAX;
    uint64_t bit = UINT64_C(1) << sub->stream;
    struct mj_run r;
    b->len = b->frames = 0;
    while (pos < last && mj_view_run(v, pos, &r) && mj_view_load(v, &r) == 0) {
        pos = r.seq;
        for (size_t i = 0; i < r.count && pos < last; i++, pos++) {
            const struct mj_entry *e = &r.entries[i];
            if (!(e->streams & bit) ||
                (sub->filter && !mj_filter_match(sub->filter, v->journal, e, mj_run_json(&r, i))))
                continue;
            struct mj_span frame = mj_run_frame(&r, i);
            if (!batch_add(b, pos, frame, mj_frame_head(frame.len)))
                return pos;
        }
    }
    return pos;
}

/* Counts the first n frames of the batch as delivered. */
static void delivered(struct mj_sub *sub, const struct mj_batch *b, size_t n)
{
    if (!n)
        return;
    size_t heads = 0;
    for (size_t i = 0; i < n; i++)
        heads += b->head[i];
    mj_metric_add(sub->peer.events, (int64_t)n);
    mj_metric_add(sub->peer.bytes, (int64_t)(b->end[n - 1] - heads));
    mj_metric_add(sub->server->m.frames, (int64_t)n);
}

/* Takes part of a batch: what was cut in the middle of a frame goes on through libwebsockets. */
static void sent_part(struct mj_sub *sub, const struct mj_batch *b, size_t sent)
{
    size_t k = 0;
    while (b->end[k] <= sent)
        k++;
    size_t start = k ? b->end[k - 1] : 0;
    sub->position = b->seq[k];
    if (sent > start) {
        sub->position++;
        size_t rest = b->end[k] - sent;
        /* RAW neither writes before the buffer nor changes it, whatever its type says. */
        if (lws_write(sub->wsi, (unsigned char *)(uintptr_t)(b->data + sent), rest, LWS_WRITE_RAW) <
            0) {
            kill_sub(sub, MJ_END_CLIENT);
            return;
        }
        k++;
    }
    delivered(sub, b, k);
    block(sub);
}

/* May we write to the descriptor now? Not behind a close frame that libwebsockets has decided on by
 * itself, as for a malformed frame: it does not tell, but its reason is there to be seen. */
static bool may_write(struct mj_sub *sub)
{
    if (lws_get_close_length(sub->wsi) > 0)
        sub->live = false;
    return sub->live && !lws_partial_buffered(sub->wsi);
}

/* One turn of a live subscriber: one write at most. */
static void sub_write(struct mj_sub *sub)
{
    struct mj_server *s = sub->server;
    struct mj_batch *b = s->batch;
    if (!may_write(sub)) {
        if (sub->live)
            block(sub);
        return;
    }
    if (sub->position < s->view.floor) {
        char text[124];
        int n = snprintf(text, sizeof text,
                         "too slow: %llu events behind, no longer kept; reconnect with a cursor",
                         (unsigned long long)(s->view.end - sub->position));
        close_with(sub, MJ_END_OVERTAKEN, 1008, text, (size_t)n);
        return;
    }
    uint64_t next = gather(sub, b);
    if (b->frames) {
        ssize_t n = send(sub->fd, b->data, b->len, MSG_NOSIGNAL | MSG_DONTWAIT);
        mj_metric_add(s->m.writes, 1);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            kill_sub(sub, MJ_END_CLIENT);
            return;
        }
        size_t sent = n > 0 ? (size_t)n : 0;
        mj_metric_add(s->m.write_bytes, (int64_t)sent);
        if (sent < b->len) {
            sent_part(sub, b, sent);
            return;
        }
        delivered(sub, b, b->frames);
    }
    sub->position = next;
    if (next < s->view.end)
        block(sub);
}

void mj__subs_pump(struct mj_server *s)
{
    for (size_t i = 0; i < s->sub_count; i++) {
        struct mj_sub *sub = s->subs[i];
        if (sub->live && !sub->blocked)
            sub_write(sub);
    }
}

static void go_live(struct mj_sub *sub)
{
    sub->live = true;
    sub->hello_due = false;
    sub->progress_us = mj_mono_us();
    sub->ping_us = sub->progress_us + (sub->server->cfg.ping_seconds - 1) * SECOND;
    block(sub);
}

/* Pings are ours, not libwebsockets': it would hang up on a slow reader that answers late. */
static void ping(struct mj_sub *sub, int64_t now)
{
    static const uint8_t frame[2] = {0x80 | 9, 0};
    if (now < sub->ping_us || sub->blocked || !may_write(sub))
        return;
    ssize_t n = send(sub->fd, frame, sizeof frame, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return; /* full: the next second will do; broken: the loop hears of it, too */
    if (n == 1 &&
        lws_write(sub->wsi, (unsigned char *)(uintptr_t)&frame[1], 1, LWS_WRITE_RAW) < 0) {
        kill_sub(sub, MJ_END_CLIENT);
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
        kill_sub(sub, MJ_END_STALLED);
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
    int64_t now = mj_mono_us();
    for (size_t i = 0; i < s->sub_count; i++) {
        struct mj_sub *sub = s->subs[i];
        if (sub->live)
            ping(sub, now);
        if (sub->message.len && now - sub->message_us > 60 * SECOND)
            close_with(sub, MJ_END_BAD_MESSAGE, 1008, slow_message, sizeof slow_message - 1);
        if ((i + turn) % every == 0)
            check_progress(sub, now);
    }
}

void mj__subs_close_all(struct mj_server *s)
{
    static const char text[] = "server is shutting down";
    for (size_t i = 0; i < s->sub_count; i++)
        close_with(s->subs[i], MJ_END_SHUTDOWN, 1001, text, sizeof text - 1);
}

static void on_message(struct mj_sub *sub)
{
    struct mj_server *s = sub->server;
    struct mj_filter *f = NULL;
    MJ_AUTO_BUF reason = {0};
    int r = mj_client_message_parse(mj_buf_span(&sub->message), &f, &reason);
    drop_message(sub);
    if (r < 0) {
        close_with(sub, MJ_END_BAD_MESSAGE, 1000, (const char *)reason.ptr, reason.len);
        return;
    }
    if (r == 0)
        return;
    set_filter(sub, f);
    if (s->filter_bytes > MJ_FILTERS_BYTES_MAX) {
        static const char text[] = "too many large filters at once";
        close_with(sub, MJ_END_MEMORY, 1013, text, sizeof text - 1);
    } else if (sub->hello_due) {
        /* What came before the hello is not this subscriber's: its filter was not known. */
        mj_view_refresh(&s->view);
        sub->position =
            sub->has_cursor ? mj_cursor_position(&s->view, sub->cursor, mj_now_us()) : s->view.end;
        go_live(sub);
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
            close_with(sub, MJ_END_MEMORY, 1013, text, sizeof text - 1);
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
    sub->index = s->sub_count;
    s->subs[s->sub_count++] = sub;
    mj_metric_set(s->m.subs, (int64_t)s->sub_count);
    mj_metric_add(sub->peer.connected, 1);
    if (!sub->hello_due)
        go_live(sub);
}

static void on_closed(struct mj_sub *sub)
{
    struct mj_server *s = sub->server;
    struct mj_sub *last = s->subs[--s->sub_count];
    s->subs[sub->index] = last;
    last->index = sub->index;
    sub->live = false;
    sub->wsi = NULL;
    mj_metric_set(s->m.subs, (int64_t)s->sub_count);
    mj_metric_add(sub->peer.connected, -1);
    mj_metric_add(s->m.ends[sub->end], 1);
}

static int on_writeable(struct mj_sub *sub)
{
    sub->blocked = false;
    if (sub->closing) {
        if (sub->close_sent)
            return 0; /* its answer is awaited, as long as libwebsockets sees fit */
        sub->close_sent = true;
        lws_close_reason(sub->wsi, (enum lws_close_status)sub->close_code,
                         (unsigned char *)sub->close_reason, strlen(sub->close_reason));
        return -1;
    }
    if (sub->live)
        sub_write(sub);
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
        sub->live = false; /* nothing may follow the echo of its close */
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

/* Metrics per address, for as many addresses as a monitor can bear. */
static struct mj_peer peer_metrics(const char *address)
{
    static size_t known;
    static char seen[PEERS_MAX][48];
    size_t i = 0;
    while (i < known && strcmp(seen[i], address))
        i++;
    if (i == known && known < PEERS_MAX)
        strcpy(seen[known++], address);
    const char *label = i < known ? address : "other";
    return (struct mj_peer){mj_metric("jetstream_subscribers_connected", MJ_GAUGE,
                                      "Subscribers connected now.", "ip_address=\"%s\"", label),
                            mj_metric("jetstream_events_delivered_total", MJ_COUNTER,
                                      "Events sent to subscribers.", "ip_address=\"%s\"", label),
                            mj_metric("jetstream_bytes_delivered_total", MJ_COUNTER,
                                      "Bytes of JSON sent to subscribers.", "ip_address=\"%s\"",
                                      label)};
}

void mj__sub_adopt(struct mj_sub *sub, int fd, struct mj_span key, const char *address)
{
    struct mj_server *s = sub->server;
    sub->fd = fd;
    sub->peer = peer_metrics(address);
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
    s->batch = mj_calloc(1, sizeof *s->batch);
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
    free(s->batch);
}
