/* The run of a load test: one thread, one epoll, sockets that are read into one buffer. A
 * subscriber costs a few hundred bytes; what is received is checked in place and forgotten. */
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "atproto/syntax.h"
#include "base/clock.h"
#include "base/dictionary.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/ws.h"
#include "cli/load.h"
#include "source/conn.h"
#include "source/dial.h"

#define RX_BYTES      (256u << 10)
#define MESSAGE_BYTES (16u << 20) /* a record of 1 MB, escaped as badly as JSON can be */
#define HEAD_BYTES    (16u << 10)
#define OUT_BYTES     (2u << 20) /* a request may carry thousands of DIDs */
#define HANDSHAKE_US  INT64_C(15000000)
#define SCOUT_US      INT64_C(30000000)
#define TICK_US       100000
#define BATCH         256 /* epoll events, and connects, in a row */
#define STALLED_RCV   4096

enum state { IDLE, CONNECTING, TLS, UPGRADING, OPEN, ENDED };

struct sub {
    struct mj_conn conn;
    int fd; /* owned; -1 = none */
    enum state state;
    bool zstd, stalled, resuming; /* resuming: the server repeats the event of the cursor */
    uint32_t class;
    uint32_t polled;             /* epoll's events as registered */
    int64_t since_us, opened_us; /* monotonic, of the attempt; wall clock */
    char key[25];
    struct mj_buf head, out; /* owned: the response; not yet written */
    struct mj_ws_reader reader;
    struct mj__load_place place;
    uint64_t events, window_events;
};

struct run {
    const struct mj__load_cfg *cfg;
    struct mj__load_class *classes;
    size_t class_count, weights;
    struct mj__load_result *result;
    struct sub *subs; /* owned; the stalled ones come last */
    size_t count, opened, next, pending, reached;
    struct sockaddr_storage to;
    socklen_t to_len;
    struct ssl_ctx_st *tls;       /* owned; NULL for plain */
    struct mj_zmessage *zmessage; /* owned; NULL without a dictionary */
    uint8_t *rx;                  /* owned, RX_BYTES */
    int epoll;
    int64_t start_us, window_us, shown_us; /* monotonic; window_us 0: not begun */
    double window_cpu;
    uint64_t shown_events, shown_bytes;
    bool scouting;
    int64_t scout_end_us;
    size_t churn_at, churn_done;
    /* The scout's DIDs: a set of hashes, and the texts one behind the other. */
    uint64_t *did_set;
    size_t did_cap, did_count, did_want;
    struct mj_buf did_texts;
};

static volatile sig_atomic_t signalled;

static void on_signal(int number)
{
    (void)number;
    signalled = 1;
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static struct mj__load_class *class_of(struct run *r, const struct sub *s)
{
    return &r->classes[s->class];
}

/* ---- the end of a connection ---- */

static void release(struct run *r, struct sub *s)
{
    if (s->state == CONNECTING || s->state == TLS || s->state == UPGRADING)
        r->pending--;
    if (s->state == OPEN)
        r->opened--;
    mj_conn_close(&s->conn);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    mj_buf_deinit(&s->head);
    mj_buf_deinit(&s->out);
    mj_ws_reader_deinit(&s->reader);
    s->state = ENDED;
}

/* An end that we did not ask for. */
static void end(struct run *r, struct sub *s, int code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void end(struct run *r, struct sub *s, int code, const char *fmt, ...)
{
    struct mj__load_result *out = r->result;
    char why[sizeof out->ends[0].why];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    bool was_open = s->state == OPEN;
    release(r, s);
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

static void poll_for(struct run *r, struct sub *s, uint32_t events)
{
    if (s->polled == events)
        return;
    struct epoll_event e = {.events = events, .data.ptr = s};
    epoll_ctl(r->epoll, s->polled ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, s->fd, &e);
    s->polled = events;
}

static void poll_again(struct run *r, struct sub *s)
{
    bool deaf = s->stalled && s->state == OPEN;
    bool write = s->state == CONNECTING || s->out.len || s->conn.wants_write;
    poll_for(r, s, (deaf ? 0 : EPOLLIN) | EPOLLRDHUP | (write ? EPOLLOUT : 0));
}

/* False when the connection ended over it. */
static bool flush_out(struct run *r, struct sub *s)
{
    while (s->out.len) {
        int64_t n = mj_conn_write(&s->conn, s->out.ptr, s->out.len);
        if (n < 0) {
            end(r, s, 0, "%s", s->conn.why);
            return false;
        }
        if (n == 0)
            break;
        mj_buf_shift(&s->out, (size_t)n);
    }
    if (s->out.len > OUT_BYTES) {
        end(r, s, 0, "the server does not read");
        return false;
    }
    if (!s->out.len)
        mj_buf_deinit(&s->out);
    return true;
}

static void put_control(struct sub *s, enum mj_ws_opcode op, struct mj_span payload)
{
    static const uint8_t mask[4] = {0x6d, 0x6f, 0x6f, 0x6e}; /* nothing depends on a load test's */
    uint8_t head[MJ_WS_HEAD_MAX];
    mj_buf_put(&s->out, head, mj_ws_head_masked(head, op, payload.len, mask));
    mj_buf_put(&s->out, payload.ptr, payload.len);
    mj_ws_mask(s->out.ptr + s->out.len - payload.len, payload.len, mask, 0);
}

/* Says goodbye if there is room for it. */
static void put_close(struct sub *s, int code)
{
    uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    put_control(s, MJ_WS_CLOSE, mj_span(payload, 2));
    mj_conn_write(&s->conn, s->out.ptr, s->out.len);
}

/* ---- opening ---- */

static void put_request(struct run *r, struct sub *s)
{
    const struct mj_url *u = &r->cfg->url;
    const struct mj__load_class *class = class_of(r, s);
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

static void connect_sub(struct run *r, struct sub *s)
{
    s->conn.fd = -1;
    s->conn.wants_write = false;
    s->polled = 0;
    s->state = CONNECTING;
    s->since_us = mj_mono_us();
    r->pending++;
    s->fd = socket(r->to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0) {
        end(r, s, 0, "socket: %s", strerror(errno));
        return;
    }
    int one = 1, small = STALLED_RCV;
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (s->stalled) /* so that it fills, and the server's side after it, with few bytes */
        setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (connect(s->fd, (struct sockaddr *)&r->to, r->to_len) && errno != EINPROGRESS) {
        end(r, s, 0, "cannot connect: %s", strerror(errno));
        return;
    }
    poll_again(r, s);
}

static void on_connected(struct run *r, struct sub *s)
{
    int failed = 0;
    socklen_t len = sizeof failed;
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &failed, &len) || failed) {
        end(r, s, 0, "cannot connect: %s", strerror(failed ? failed : errno));
        return;
    }
    s->state = TLS;
    if (mj_conn_open(&s->conn, s->fd, r->tls, r->cfg->url.host))
        end(r, s, 0, "%s", s->conn.why);
}

static void step_tls(struct run *r, struct sub *s)
{
    int done = mj_conn_handshake(&s->conn);
    if (done < 0) {
        end(r, s, 0, "%s", s->conn.why);
    } else if (done > 0) {
        s->state = UPGRADING;
        put_request(r, s);
        flush_out(r, s);
    }
}

/* ---- events ---- */

/* Takes a DID for a filter to come; true once there are enough. */
static bool scout(struct run *r, struct mj_span did, uint64_t hash)
{
    size_t at = (size_t)(hash & (r->did_cap - 1));
    for (; r->did_set[at]; at = (at + 1) & (r->did_cap - 1))
        if (r->did_set[at] == hash)
            return false;
    r->did_set[at] = hash ? hash : 1;
    mj_buf_put(&r->did_texts, did.ptr, did.len);
    mj_buf_putc(&r->did_texts, '\n');
    return ++r->did_count >= r->did_want;
}

static void stop_scouting(struct run *r);

/* Everything that is counted of an event, however it was checked. */
static void count_event(struct run *r, struct sub *s, int64_t time_us, int64_t now_us)
{
    r->result->events++;
    if (++s->events == r->cfg->events)
        r->reached++;
    /* A replayed event says nothing about latency. */
    if (time_us >= s->opened_us)
        mj__load_measure(&r->result->latency, now_us - time_us);
}

/* packed: hash of the message it came in, 0 for plain text. */
static void on_event(struct run *r, struct sub *s, struct mj_span json, uint64_t packed,
                     int64_t now_us)
{
    struct mj__load_class *class = class_of(r, s);
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
    if (r->scouting && s == &r->subs[0] && mj_did_valid(e.did) && scout(r, e.did, hash))
        stop_scouting(r);
}

/* A server compresses an event once, so nearly all that arrives is known by its bytes, and is not
 * unpacked again. */
static void on_packed(struct run *r, struct sub *s, struct mj_span message, int64_t now_us)
{
    struct mj__load_log *log = &class_of(r, s)->log;
    uint64_t hash = mj_hash(message);
    int64_t known = s->resuming || r->cfg->stamp ? 0 : mj__load_known(log, &s->place, hash);
    struct mj_span json;
    if (known) {
        mj__load_note(log, &s->place, known, 0);
        count_event(r, s, known, now_us);
    } else if (r->zmessage && !mj_zmessage_decode(r->zmessage, message, &json)) {
        on_event(r, s, json, hash, now_us);
    } else {
        r->result->malformed++;
    }
}

static void on_message(struct run *r, struct sub *s, const struct mj_ws_msg *m, int64_t now_us)
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
        put_close(s, code == 1005 ? 1000 : code);
        end(r, s, code, "%.*s", (int)n, n ? (const char *)m->payload.ptr + 2 : "");
        break;
    }
    default:
        break;
    }
}

static void on_bytes(struct run *r, struct sub *s, uint8_t *p, size_t n)
{
    struct mj_ws_msg m;
    int got = 0;
    int64_t now_us = mj_now_us();
    mj_ws_reader_feed(&s->reader, p, n);
    while (s->state == OPEN && (got = mj_ws_reader_next(&s->reader, &m)) > 0)
        on_message(r, s, &m, now_us);
    if (s->state == OPEN && got < 0) {
        r->result->malformed++;
        put_close(s, s->reader.close_code);
        end(r, s, 0, "not a WebSocket frame we may accept");
    }
}

static void on_head(struct run *r, struct sub *s, const uint8_t *p, size_t n)
{
    struct mj_http_head h;
    char accept[29];
    mj_buf_put(&s->head, p, n);
    int size = mj_http_parse_response(mj_buf_span(&s->head), &h);
    if (size == MJ_EAGAIN && s->head.len < HEAD_BYTES)
        return;
    mj_ws_accept(mj_str(s->key), accept);
    if (size < 0) {
        end(r, s, 0, "the answer is not HTTP");
    } else if (h.status != 101) {
        size_t rest = s->head.len - (size_t)size, line = 0;
        const char *body = (const char *)s->head.ptr + size;
        while (line < rest && line < 60 && (uint8_t)body[line] >= 0x20)
            line++;
        end(r, s, h.status, "%.*s", (int)line, body);
    } else if (!mj_span_is(mj_http_header(&h, "sec-websocket-accept"), accept)) {
        end(r, s, 0, "the upgrade was not answered as asked");
    } else {
        struct mj_buf head = s->head; /* the messages may end the connection, which frees it */
        s->head = (struct mj_buf){0};
        s->state = OPEN;
        s->opened_us = mj_now_us();
        r->pending--;
        r->opened++;
        r->result->opened++;
        mj_ws_reader_init(&s->reader, false, MESSAGE_BYTES);
        if (!s->stalled)
            on_bytes(r, s, head.ptr + size, head.len - (size_t)size);
        mj_buf_deinit(&head);
    }
}

static void on_readable(struct run *r, struct sub *s)
{
    do {
        int64_t n = mj_conn_read(&s->conn, r->rx, s->state == OPEN ? RX_BYTES : HEAD_BYTES);
        if (n == 0)
            return;
        if (n < 0) {
            end(r, s, 0, "%s", n == MJ_ECLOSED ? "the server ended the connection" : s->conn.why);
            return;
        }
        r->result->bytes += (uint64_t)n;
        if (s->state == UPGRADING)
            on_head(r, s, r->rx, (size_t)n);
        else
            on_bytes(r, s, r->rx, (size_t)n);
    } while (s->state >= UPGRADING && s->state <= OPEN && mj_conn_pending(&s->conn));
}

static void on_ready(struct run *r, struct sub *s, uint32_t events)
{
    if (s->state == CONNECTING)
        on_connected(r, s);
    if (s->state == TLS)
        step_tls(r, s);
    else if ((s->state == UPGRADING || s->state == OPEN) && events & EPOLLOUT && !flush_out(r, s))
        return;
    if (s->state == OPEN && s->stalled) {
        if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
            end(r, s, 0, "cut");
    } else if ((s->state == UPGRADING || s->state == OPEN) && events & ~(uint32_t)EPOLLOUT) {
        on_readable(r, s);
    }
    if (s->state != ENDED)
        poll_again(r, s);
}

/* ---- the course of a run ---- */

/* Makes the filters out of what the scout saw; if it saw too little, as many as that gives. */
static void stop_scouting(struct run *r)
{
    size_t each = r->cfg->filter_dids, n = r->did_count / each;
    const char *at = mj_buf_cstr(&r->did_texts);
    r->scouting = false;
    for (size_t i = 0; i < n; i++) {
        struct mj__load_class *c = &r->classes[r->class_count++];
        MJ_AUTO_BUF query = {0};
        *c = (struct mj__load_class){.weight = 1, .from_scout = true};
        for (size_t k = 0; k < each; k++) {
            mj_buf_puts(&query, k ? "&wantedDids=" : "wantedDids=");
            for (; *at != '\n'; at++)
                mj_buf_puts(&query, *at == '%' ? "%25" : (char[]){*at, '\0'});
            at++;
        }
        c->query = mj_strdup(mj_buf_cstr(&query));
        c->log.want_packed = r->zmessage;
        mj__load_filter_init(&c->filter, mj_str(c->query));
    }
    r->result->scouted = n;
    r->start_us = mj_mono_us(); /* the others' ramp begins now */
}

static uint32_t class_for(const struct run *r, size_t i)
{
    if (r->cfg->filters) {
        size_t n = r->result->scouted;
        return i && n ? (uint32_t)(r->class_count - n + (i - 1) % n) : 0;
    }
    size_t at = i % r->weights, k = 0;
    while (at >= r->classes[k].weight)
        at -= r->classes[k++].weight;
    return (uint32_t)k;
}

static void open_due(struct run *r, int64_t now)
{
    size_t due = r->count;
    if (r->scouting)
        due = 1;
    else if (now - r->start_us < r->cfg->ramp_us)
        due =
            1 + (size_t)((double)r->count * (double)(now - r->start_us) / (double)r->cfg->ramp_us);
    for (int i = 0; i < BATCH && r->next < due && r->next < r->count; i++) {
        struct sub *s = &r->subs[r->next];
        s->class = class_for(r, r->next);
        s->stalled = r->next >= r->count - r->cfg->stalled;
        /* Spread evenly over all, not the first so many. */
        size_t p = r->cfg->zstd_percent;
        s->zstd = class_of(r, s)->zstd || (r->next + 1) * p / 100 > r->next * p / 100;
        r->next++;
        connect_sub(r, s);
    }
}

static void begin_window(struct run *r, int64_t now)
{
    r->window_us = now;
    r->window_cpu = cpu_seconds();
    r->result->ramp_seconds = (double)(now - r->start_us) / 1e6;
    r->result->window_events = r->result->events; /* subtracted at the end */
    r->result->window_bytes = r->result->bytes;
    r->result->latency = r->result->stamped = (struct mj__load_histogram){0};
    for (size_t i = 0; i < r->count; i++)
        r->subs[i].window_events = r->subs[i].events;
}

/* One leaves, half of them without a word, and comes back where it was. */
static void churn(struct run *r, int64_t now)
{
    size_t due = (size_t)((double)(now - r->window_us) / 1e6 * (double)r->cfg->churn);
    size_t from = r->cfg->filters ? 1 : 0, n = r->count - r->cfg->stalled;
    for (int i = 0; i < BATCH && r->churn_done < due && n > from; i++, r->churn_done++) {
        struct sub *s = &r->subs[from + r->churn_at++ % (n - from)];
        if (s->state != OPEN)
            continue;
        struct linger reset = {.l_onoff = 1};
        if (r->churn_done & 1) {
            setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            s->conn.fd = -1; /* not shut down first, which would be a goodbye */
        } else {
            put_close(s, 1000);
        }
        release(r, s);
        r->result->churned++;
        s->resuming = s->place.last;
        connect_sub(r, s);
    }
}

static void show(struct run *r, int64_t now)
{
    const struct mj__load_result *o = r->result;
    double s = (double)(now - r->shown_us) / 1e6;
    if (r->scouting)
        fprintf(stderr, "\rlooking for %zu DIDs to filter by: %zu \033[K", r->did_want,
                r->did_count);
    else
        fprintf(stderr,
                "\r%5.1f s  %zu of %zu connected  %.0f events/s  %.1f MB/s  p99 %.1f ms%s "
                "\033[K",
                (double)(now - r->start_us) / 1e6, r->opened, r->count,
                (double)(o->events - r->shown_events) / s,
                (double)(o->bytes - r->shown_bytes) / s / 1e6,
                (double)mj__load_percentile(&o->latency, 0.99) / 1e3,
                r->window_us ? "" : "  (ramp)");
    r->shown_us = now;
    r->shown_events = o->events;
    r->shown_bytes = o->bytes;
}

static void drop_late(struct run *r, int64_t now)
{
    for (size_t i = 0; i < r->next && r->pending; i++) {
        struct sub *s = &r->subs[i];
        if (s->state != IDLE && s->state != OPEN && s->state != ENDED &&
            now - s->since_us > HANDSHAKE_US)
            end(r, s, 0, "no connection after %d s", (int)(HANDSHAKE_US / 1000000));
    }
}

static bool is_over(const struct run *r, int64_t now)
{
    const struct mj__load_cfg *c = r->cfg;
    size_t live = r->count - c->stalled;
    if (r->window_us && c->duration_us && now - r->window_us >= c->duration_us)
        return true;
    if (c->events && r->reached >= live)
        return true;
    return r->next == r->count && !r->pending && !r->opened; /* nobody is left */
}

static void serve(struct run *r)
{
    struct epoll_event ready[BATCH];
    int64_t late_us = 0;
    while (!signalled) {
        int64_t now = mj_mono_us();
        if (r->scouting && (now > r->scout_end_us || (r->next && r->subs[0].state == ENDED)))
            stop_scouting(r);
        open_due(r, now);
        if (!r->window_us && r->next == r->count && !r->pending)
            begin_window(r, now);
        if (is_over(r, now))
            break;
        if (r->window_us && r->cfg->churn)
            churn(r, now);
        if (now - late_us > 1000000) {
            late_us = now;
            drop_late(r, now);
            if (r->cfg->progress)
                show(r, now);
        }
        bool busy = r->next < r->count && !r->scouting;
        int n = epoll_wait(r->epoll, ready, BATCH, busy ? 1 : TICK_US / 1000);
        for (int i = 0; i < n; i++)
            on_ready(r, ready[i].data.ptr, ready[i].events);
    }
}

static void conclude(struct run *r)
{
    struct mj__load_result *o = r->result;
    int64_t now = mj_mono_us();
    if (!r->window_us) { /* it never came to that: the figures are of what there was */
        r->window_us = r->start_us;
        r->window_cpu = 0;
        o->window_events = o->window_bytes = 0;
    }
    o->seconds = (double)(now - r->window_us) / 1e6;
    o->cpu_seconds = cpu_seconds() - r->window_cpu;
    o->window_events = o->events - o->window_events;
    o->window_bytes = o->bytes - o->window_bytes;
    o->interrupted = signalled;

    /* Equal are the subscribers of the largest class; those that were there all the time count. */
    size_t *members = mj_calloc(r->class_count, sizeof *members), largest = 0;
    for (size_t i = 0; i < r->count - r->cfg->stalled; i++)
        members[r->subs[i].class] += r->subs[i].state == OPEN;
    for (size_t k = 0; k < r->class_count; k++)
        largest = members[k] > members[largest] ? k : largest;
    free(members);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < r->count; i++) {
        struct sub *s = &r->subs[i];
        o->stalled_open += s->stalled && s->state == OPEN;
        if (s->stalled)
            continue;
        o->missing += mj__load_settle(&class_of(r, s)->log, &s->place);
        if (s->state != OPEN || s->class != largest)
            continue;
        uint64_t n = s->events - s->window_events;
        o->fewest = !o->equal || n < o->fewest ? n : o->fewest;
        o->most = n > o->most ? n : o->most;
        sum += (double)n;
        squares += (double)n * (double)n;
        o->equal++;
    }
    if (o->equal) {
        o->mean = sum / (double)o->equal;
        o->deviation = sqrt(fmax(0, squares / (double)o->equal - o->mean * o->mean));
    }
    if (o->most >= 20 && !r->cfg->cursor) /* a replay is as fast as each one reads */
        for (size_t i = 0; i < r->count; i++)
            o->starved += !r->subs[i].stalled && r->subs[i].state == OPEN &&
                          r->subs[i].class == largest &&
                          r->subs[i].events - r->subs[i].window_events < o->most / 2;
    for (size_t k = 0; k < r->class_count; k++) {
        const struct mj__load_class *c = &r->classes[k];
        if (c->from_scout)
            o->unlike +=
                mj__load_compare(&r->classes[0].log, &c->log, c->filter.dids, c->filter.did_count);
        if (c->log.inserts > MJ__LOAD_INSERTS_MAX)
            o->unlike += c->log.inserts;
    }
}

bool mj__load_passed(const struct mj__load_result *r)
{
    return r->events && !r->refused && !r->end_count && !r->duplicates && !r->disorder &&
           !r->missing && !r->wrong && !r->malformed && !r->unlike && !r->starved;
}

/* ---- preparations ---- */

/* Finds an address that answers; everybody then connects to it. */
static bool resolve(struct run *r)
{
    const struct mj_url *u = &r->cfg->url;
    struct mj_dialed d;
    int fd = mj_dial(u->host, u->port, 10000), got;
    if (fd < 0) {
        fprintf(stderr, "moonjet load: %s\n", strerror(errno));
        return false;
    }
    while ((got = mj_dial_finish(fd, &d)) == MJ_EAGAIN && !signalled) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        poll(&p, 1, 1000);
    }
    close(fd);
    if (got || d.fd < 0) {
        fprintf(stderr, "moonjet load: %s:%d: %s\n", u->host, u->port, got ? "interrupted" : d.why);
        return false;
    }
    r->to_len = sizeof r->to;
    bool ok = getpeername(d.fd, (struct sockaddr *)&r->to, &r->to_len) == 0;
    close(d.fd);
    return ok;
}

static bool allow_descriptors(size_t n)
{
    struct rlimit l;
    getrlimit(RLIMIT_NOFILE, &l);
    if (l.rlim_cur < n + 64 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max < n + 64 ? l.rlim_max : n + 64;
        setrlimit(RLIMIT_NOFILE, &l);
    }
    if (l.rlim_cur >= n + 64)
        return true;
    fprintf(stderr,
            "moonjet load: %zu connections need as many descriptors, and this process may open "
            "%llu; raise that with `ulimit -n`\n",
            n, (unsigned long long)l.rlim_cur);
    return false;
}

static void prepare(struct run *r)
{
    const struct mj__load_cfg *c = r->cfg;
    for (size_t k = 0; k < r->class_count; k++) {
        struct mj__load_class *class = &r->classes[k];
        r->weights += class->weight;
        class->log.want_packed = r->zmessage;
        class->log.want_dids = c->filters && k == 0;
    }
    if (!c->filters)
        return;
    r->did_want = c->filters * c->filter_dids;
    r->did_cap = 64;
    while (r->did_cap < 2 * r->did_want)
        r->did_cap *= 2;
    r->did_set = mj_calloc(r->did_cap, sizeof *r->did_set);
    r->scouting = true;
}

int mj__load_run(const struct mj__load_cfg *cfg, struct mj__load_class *classes, size_t count,
                 struct mj__load_result *out)
{
    struct run r = {.cfg = cfg,
                    .classes = classes,
                    .class_count = count,
                    .result = out,
                    .count = cfg->subscribers + cfg->stalled,
                    .epoll = -1};
    int status = MJ_EXIT_FAILED;
    *out = (struct mj__load_result){0};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    signalled = 0;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    r.subs = mj_calloc(r.count, sizeof *r.subs);
    for (size_t i = 0; i < r.count; i++)
        r.subs[i].fd = r.subs[i].conn.fd = -1;
    r.rx = mj_alloc(RX_BYTES);
    if (cfg->dictionary.len)
        r.zmessage = mj_zmessage_new(cfg->dictionary, MESSAGE_BYTES);
    r.tls = cfg->url.tls ? mj_conn_tls_new() : NULL;
    r.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (r.epoll >= 0 && (r.tls || !cfg->url.tls) && allow_descriptors(r.count) && resolve(&r)) {
        prepare(&r);
        r.start_us = r.shown_us = mj_mono_us();
        r.scout_end_us = r.start_us + SCOUT_US;
        serve(&r);
        if (cfg->progress)
            fprintf(stderr, "\r\033[K");
        conclude(&r);
        status = 0;
    }
    for (size_t i = 0; i < r.count; i++) {
        if (r.subs[i].state == OPEN)
            put_close(&r.subs[i], 1000);
        if (r.subs[i].state != IDLE && r.subs[i].state != ENDED)
            release(&r, &r.subs[i]);
    }
    if (r.epoll >= 0)
        close(r.epoll);
    mj_conn_tls_free(r.tls);
    mj_zmessage_free(r.zmessage);
    mj_buf_deinit(&r.did_texts);
    free(r.did_set);
    free(r.subs);
    free(r.rx);
    return status;
}
