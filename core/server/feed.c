/* How events get to subscribers. Two ways, one position:
 *
 *   round    what is new is matched once for all classes, each class with matches gathers its
 *            frames once, and each live member gets one send() of the same bytes
 *   turn     a subscriber that is behind gathers for itself, whenever its socket takes more
 *
 * A live member whose socket does not take everything leaves with the position of the first frame
 * it has not got; one that is behind becomes live when its position is exactly the rounds'. So
 * there is no gap, no duplicate and no disorder at the seam.
 *
 * Writing straight to the descriptor is safe under three conditions (spec/performance.md §5.2),
 * kept in mj__sub_may_write() and rest_of(): never while libwebsockets holds back bytes of its own;
 * after a short write the rest of the torn frame, and no more, goes to libwebsockets, so that its
 * pongs and closes queue behind it; only on this thread. So one that does not read costs a frame.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/ws.h"
#include "server/internal.h"

#define FRAMES_MAX  1024        /* of one write, and entries of one slice of a round */
#define SCAN_MAX    (64 * 1024) /* entries looked at in one turn */
#define TURN_WRITES 4
#define ROUND_BYTES (1u << 20) /* then others have their turn */
#define PARK        0.02       /* seconds between two looks at those who are out of tokens */

/* One write: frames that lie back to back, either where they are kept or copied together. */
struct mj_batch {
    const uint8_t *data; /* borrowed, or `copy` */
    size_t len, frames;
    size_t heads;      /* bytes of len that are WebSocket heads */
    int64_t oldest_us; /* time_us of the first frame */
    uint64_t seq[FRAMES_MAX];
    uint32_t end[FRAMES_MAX]; /* of the frame, from `data` */
    uint8_t head[FRAMES_MAX];
    uint8_t copy[MJ_WRITE_MAX];
};

/* ---- batches ---- */

static void batch_clear(struct mj_batch *b) { b->len = b->frames = b->heads = 0; }

/* Copies what is borrowed, because its owner may soon need the room. */
static void batch_own(struct mj_batch *b)
{
    if (b->len && b->data != b->copy)
        memcpy(b->copy, b->data, b->len);
    b->data = b->copy;
}

/* Adds a frame; false when it does not fit any more. A fleeting one is copied at once. */
static bool batch_add(struct mj_batch *b, uint64_t seq, struct mj_span frame, bool fleeting)
{
    if (b->frames == FRAMES_MAX || (b->len && b->len + frame.len > MJ_WRITE_MAX))
        return false;
    bool large = frame.len > MJ_WRITE_MAX; /* alone, so that nothing is asked for behind it */
    if (!b->len && (large || !fleeting)) {
        b->data = frame.ptr;
    } else if (fleeting || b->data == b->copy || frame.ptr != b->data + b->len) {
        batch_own(b);
        memcpy(b->copy + b->len, frame.ptr, frame.len);
    }
    unsigned head = mj_frame_head(frame.len);
    b->len += frame.len;
    b->heads += head;
    b->seq[b->frames] = seq;
    b->end[b->frames] = (uint32_t)b->len;
    b->head[b->frames++] = (uint8_t)head;
    return true;
}

/* Adds an entry of a loaded run that the class wants, in its codec. 1; 0 when the batch is full;
 * or MJ_ENOMEM. Too large for the class: as if added. */
static int add_entry(struct mj_server *s, const struct mj_class *class, struct mj_batch *b,
                     const struct mj_run *r, size_t i)
{
    struct mj_span frame;
    bool fleeting = false;
    if (class->codec == MJ_CODEC_TEXT) {
        frame = mj_run_frame(r, i);
        /* An unpacked block makes room when enough others are looked into before the next match. */
        fleeting = r->summary != NULL;
    } else {
        if (b->len >= MJ_WRITE_MAX)
            return 0;
        if (b->frames && (r->seq + i) / MJ_PACK_WINDOW != b->seq[b->frames - 1] / MJ_PACK_WINDOW)
            batch_own(b);
        int err = mj_packer_event(s->packer, r->seq + i, mj_run_json(r, i), &frame, &fleeting);
        if (err)
            return err;
    }
    if (class->filter && frame.len - mj_frame_head(frame.len) > mj_filter_max_size(class->filter))
        return 1;
    if (!b->frames)
        b->oldest_us = mj_run_time(r, i);
    return batch_add(b, r->seq + i, frame, fleeting);
}

static void count(struct mj_sub *sub, size_t frames, size_t bytes)
{
    mj_metric_add(sub->host->events, (int64_t)frames);
    mj_metric_add(sub->host->bytes, (int64_t)bytes);
    mj_metric_add(sub->server->m.frames, (int64_t)frames);
    if (sub->replaying)
        mj_host_spend(&sub->server->hosts, sub->host, frames);
    if (sub->heartbeat_us)
        sub->sent_us = mj_mono_us();
}

/* Gives the bytes of a torn frame to libwebsockets. False when the connection is broken. */
static bool rest_of(struct mj_sub *sub, const uint8_t *p, size_t n)
{
    /* RAW neither writes before the buffer nor changes it, whatever its type says. */
    if (lws_write(sub->wsi, (unsigned char *)(uintptr_t)p, n, LWS_WRITE_RAW) >= 0)
        return true;
    mj__sub_kill(sub, MJ_END_CLIENT);
    return false;
}

/* The socket has taken the first `sent` bytes of the batch, and not all. */
static void sent_part(struct mj_sub *sub, const struct mj_batch *b, size_t sent)
{
    size_t k = 0, heads = 0;
    for (; b->end[k] <= sent; k++)
        heads += b->head[k];
    size_t start = k ? b->end[k - 1] : 0;
    sub->position = b->seq[k];
    if (sent > start) {
        sub->position++;
        if (!rest_of(sub, b->data + sent, b->end[k] - sent))
            return;
        heads += b->head[k++];
    }
    if (k)
        count(sub, k, b->end[k - 1] - heads);
}

/* One write. True when the socket has taken all of it; otherwise the subscriber is BEHIND, with the
 * position of what it has not got, or ENDING. */
static bool send_batch(struct mj_sub *sub, const struct mj_batch *b)
{
    struct mj_server *s = sub->server;
    ssize_t n = send(sub->fd, b->data, b->len, MSG_NOSIGNAL | MSG_DONTWAIT);
    mj_metric_add(s->m.writes, 1);
    if (n < 0 && errno == EFAULT)
        raise(SIGBUS); /* pages of the journal are gone: as if we had looked at them ourselves */
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        mj__sub_kill(sub, MJ_END_CLIENT);
        return false;
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    mj_metric_add(s->m.write_bytes, (int64_t)sent);
    if (sent == b->len) {
        count(sub, b->frames, b->len - b->heads);
        return true;
    }
    mj__feed_move(sub, MJ_SUB_BEHIND);
    sent_part(sub, b, sent);
    return false;
}

/* ---- states ---- */

static void unpark(struct mj_sub *sub)
{
    struct mj_server *s = sub->server;
    *sub->park_link = sub->park_next;
    if (sub->park_next)
        sub->park_next->park_link = sub->park_link;
    if (!s->parked)
        ev_timer_stop(s->loop, &s->park);
}

static void park(struct mj_sub *sub)
{
    struct mj_server *s = sub->server;
    sub->park_next = s->parked;
    sub->park_link = &s->parked;
    if (s->parked)
        s->parked->park_link = &sub->park_next;
    s->parked = sub;
    if (!ev_is_active(&s->park))
        ev_timer_again(s->loop, &s->park);
}

void mj__feed_move(struct mj_sub *sub, enum mj_sub_state to)
{
    struct mj_class *class = sub->class;
    if (sub->state == MJ_SUB_LIVE) {
        struct mj_sub *last = class->live[--class->live_count];
        class->live[sub->place] = last;
        last->place = sub->place;
        sub->position = sub->server->live_end;
        sub->server->live_count--;
    } else if (sub->state == MJ_SUB_PARKED) {
        unpark(sub);
    }
    sub->state = (uint8_t)to;
    if (to == MJ_SUB_BEHIND)
        lws_callback_on_writable(sub->wsi);
    else if (to == MJ_SUB_PARKED)
        park(sub);
}

static void join(struct mj_sub *sub)
{
    struct mj_server *s = sub->server;
    struct mj_class *class = sub->class;
    mj_class_index(&s->classes, class);
    if (class->live_count == class->live_cap) {
        class->live_cap = class->live_cap ? 2 * class->live_cap : 1;
        class->live = mj_realloc(class->live, class->live_cap * sizeof(struct mj_sub *));
    }
    sub->place = class->live_count;
    class->live[class->live_count++] = sub;
    sub->state = MJ_SUB_LIVE;
    sub->replaying = false;
    s->live_count++;
}

uint64_t mj__feed_position(const struct mj_sub *sub)
{
    return sub->state == MJ_SUB_LIVE ? sub->server->live_end : sub->position;
}

int64_t mj__feed_lag(const struct mj_sub *sub, int64_t now_us)
{
    const struct mj_view *v = &sub->server->view;
    uint64_t at = mj__feed_position(sub);
    if (at >= sub->server->live_end)
        return 0;
    int64_t lag = now_us - mj_view_time(v, at > v->floor ? at : v->floor);
    return lag > 0 ? lag : 0;
}

static void on_park(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    struct mj_server *s = timer->data;
    int64_t now = mj_mono_us();
    for (struct mj_sub *sub = s->parked, *next; sub; sub = next) {
        next = sub->park_next;
        if (sub->position <= s->live_end &&
            (!sub->replaying || mj_host_allowance(&s->hosts, sub->host, now)))
            mj__feed_move(sub, MJ_SUB_BEHIND);
    }
}

bool mj__feed_info(struct mj_sub *sub, const char *name)
{
    struct mj_server *s = sub->server;
    const struct mj_view *v = &s->view;
    /* The newest it has looked at. Where that is gone, or seqs are missing, the next one there is:
     * cursors are inclusive, so nothing is lost. */
    uint64_t at = mj__feed_position(sub);
    int64_t time_us =
        at >= s->live_end ? s->live_us : mj_view_time(v, at > v->floor ? at - 1 : v->floor);
    char json[128];
    uint8_t text[MJ_WS_HEAD_MAX + sizeof json];
    int len = snprintf(json, sizeof json,
                       "{\"time_us\":%lld,\"kind\":\"info\",\"info\":{\"name\":\"%s\"}}",
                       (long long)time_us, name);
    struct mj_span frame;
    if (sub->class->codec == MJ_CODEC_ZSTD) {
        if (mj_packer_once(s->packer, mj_span(json, (size_t)len), &frame))
            return true; /* without memory it goes without */
    } else {
        size_t head = mj_ws_head(text, MJ_WS_TEXT, (uint64_t)len);
        memcpy(text + head, json, (size_t)len);
        frame = mj_span(text, head + (size_t)len);
    }
    ssize_t n = send(sub->fd, frame.ptr, frame.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n <= 0)
        return false; /* full, or broken, which the loop hears of, too */
    sub->sent_us = mj_mono_us();
    if ((size_t)n < frame.len)
        rest_of(sub, frame.ptr + n, frame.len - (size_t)n);
    return true;
}

/* ---- turns ---- */

static void overtaken(struct mj_sub *sub)
{
    struct mj_server *s = sub->server;
    char text[124];
    int n = snprintf(text, sizeof text,
                     "too slow: %llu events behind, no longer kept; reconnect with a cursor",
                     (unsigned long long)(s->view.end - sub->position));
    mj_metric_add(s->m.overtaken, (int64_t)(s->view.floor - sub->position));
    mj__sub_close(sub, MJ_END_OVERTAKEN, 1008, text, (size_t)n);
}

/* What it wants of a run from the position on cannot be read. */
static void damaged(struct mj_sub *sub, const struct mj_run *r)
{
    struct mj_server *s = sub->server;
    struct mj_class *class = sub->class;
    int64_t lost = 0;
    for (size_t i = 0; i < r->count; i++)
        lost += r->entries[i].streams >> class->stream & 1 &&
                (!class->filter || mj_filter_may(class->filter, s->cfg.journal, &r->entries[i]));
    /* The next event there is, or whatever comes. */
    int64_t next = r->seq + r->count < s->view.end ? mj_view_time(&s->view, r->seq + r->count)
                                                   : mj_run_time(r, r->count - 1) + 1;
    char text[124];
    int n = snprintf(text, sizeof text,
                     "events are damaged on the server's disk; go on after them with cursor=%lld",
                     (long long)next);
    mj_metric_add(s->m.damaged, lost);
    mj__sub_close(sub, MJ_END_DAMAGED, 1011, text, (size_t)n);
}

/* What a subscriber looks through. */
struct reading {
    struct mj_sub *sub;
    const struct mj_window *window; /* of `pos`, or NULL; with a filter only */
    struct mj_run run;              /* loaded, when count > 0 */
    uint64_t pos, stop;
};

/* Moves pos to the next entry that the class may want, or to stop. */
static void skip(struct reading *at)
{
    struct mj_server *s = at->sub->server;
    struct mj_class *class = at->sub->class;
    while (class->filter && at->pos < at->stop) {
        if (!at->window || at->pos >= at->window->to)
            at->window = mj_scan(&s->scans, class, &s->view, at->pos);
        uint64_t to = at->window->to < at->stop ? at->window->to : at->stop;
        if (to <= at->pos) { /* never, and if so the next view has it */
            at->stop = at->pos;
            return;
        }
        at->pos = mj_window_next(at->window, at->pos, to);
        if (at->pos < to)
            return;
    }
}

/* The run that holds pos, loaded; pos moves on when its entry is missing or its block holds nothing
 * of the stream. 1; 0 at stop; or an error with the run that cannot be loaded. */
static int find_run(struct reading *at)
{
    struct mj_server *s = at->sub->server;
    struct mj_run *r = &at->run;
    while (at->pos < at->stop) {
        if (r->count && at->pos >= r->seq && at->pos < r->seq + r->count)
            return 1;
        r->count = 0;
        struct mj_run found;
        if (!mj_view_run(&s->view, at->pos, &found))
            return 0; /* never, and if so the next view has it */
        if (found.seq > at->pos) {
            at->pos = found.seq;
            skip(at);
            continue;
        }
        if (found.summary && !(found.summary->streams >> at->sub->class->stream & 1)) {
            at->pos = found.seq + found.count;
            continue;
        }
        int err = mj_view_load(&s->view, &found);
        *r = found;
        return err ? err : 1;
    }
    at->pos = at->stop;
    return 0;
}

/* Adds entries [i, n) of a loaded run of text to what lies right before them, as far as they are in
 * the stream and the batch has room: what catching up without a filter is made of. Returns how
 * many. */
static size_t add_run(struct mj_batch *b, const struct mj_run *r, size_t i, size_t n,
                      unsigned stream)
{
    const uint8_t *at = mj_run_frame(r, i).ptr;
    if (b->len && b->data + b->len != at)
        return 0;
    size_t k = b->frames, len = b->len, heads = b->heads, before = k;
    uint32_t base = (uint32_t)(at - r->data) + r->start - (uint32_t)len;
    for (; i < n && k < FRAMES_MAX && r->entries[i].streams >> stream & 1; i++, k++) {
        uint32_t end = r->entries[i].end - base;
        if (end > MJ_WRITE_MAX)
            break;
        b->seq[k] = r->seq + i;
        b->end[k] = end;
        b->head[k] = (uint8_t)mj_frame_head(end - len);
        heads += b->head[k];
        len = end;
    }
    if (!b->frames && k) {
        b->data = at;
        b->oldest_us = mj_run_time(r, i - k);
    }
    b->frames = k;
    b->len = len;
    b->heads = heads;
    return k - before;
}

/* Puts up to `most` of what the subscriber wants into the batch; at->pos is then the first seq not
 * looked at. 0, or the error of what comes first. */
static int gather(struct reading *at, struct mj_batch *b, size_t most)
{
    struct mj_server *s = at->sub->server;
    struct mj_class *class = at->sub->class;
    int err = 0;
    batch_clear(b);
    at->window = NULL;
    at->run.count = 0;
    for (skip(at); at->pos < at->stop && b->frames < most; skip(at)) {
        if ((err = find_run(at)) <= 0)
            break;
        size_t i = (size_t)(at->pos - at->run.seq);
        if (!class->filter && class->codec == MJ_CODEC_TEXT) {
            uint64_t n = at->stop - at->run.seq;
            if (n - i > most - b->frames)
                n = i + (most - b->frames);
            size_t got =
                add_run(b, &at->run, i, n < at->run.count ? n : at->run.count, class->stream);
            at->pos += got;
            if (got)
                continue;
        }
        const struct mj_entry *e = &at->run.entries[i];
        if (e->streams >> class->stream & 1 &&
            (!class->filter || mj_filter_confirm(class->filter, e, mj_run_json(&at->run, i))) &&
            (err = add_entry(s, class, b, &at->run, i)) <= 0)
            break;
        at->pos++;
    }
    if (at->pos > at->stop)
        at->pos = at->stop;
    return err < 0 && !b->frames ? err : 0;
}

/* At the position of the rounds: joins them, or waits for the next one. */
static void caught_up(struct mj_sub *sub)
{
    if (sub->position > sub->server->live_end) {
        mj__feed_move(sub, MJ_SUB_PARKED);
        return;
    }
    if (sub->greet) {
        if (!mj__feed_info(sub, "caught_up")) {
            lws_callback_on_writable(sub->wsi);
            return;
        }
        sub->greet = false;
        if (sub->state != MJ_SUB_BEHIND)
            return; /* its connection broke */
    }
    join(sub);
}

/* How many events a replay may have now: an equal part of what its address may. */
static size_t share_of(const struct mj_sub *sub)
{
    size_t all = mj_host_allowance(&sub->server->hosts, sub->host, mj_mono_us());
    size_t share = all / sub->host->connections;
    return share || !all ? share : 1;
}

void mj__feed_turn(struct mj_sub *sub)
{
    struct mj_server *s = sub->server;
    if (!mj__sub_may_write(sub)) {
        if (sub->state == MJ_SUB_BEHIND)
            lws_callback_on_writable(sub->wsi);
        return;
    }
    uint64_t last = sub->position + SCAN_MAX;
    struct reading at = {.sub = sub, .stop = last < s->live_end ? last : s->live_end};
    for (int writes = 0; writes < TURN_WRITES && sub->position < last; writes++) {
        if (sub->position >= s->live_end) {
            caught_up(sub);
            return;
        }
        if (sub->position < s->view.floor) {
            overtaken(sub);
            return;
        }
        size_t most = SIZE_MAX;
        if (sub->replaying && !(most = share_of(sub))) {
            mj__feed_move(sub, MJ_SUB_PARKED);
            return;
        }
        at.pos = sub->position;
        int err = gather(&at, s->batch, most);
        if (err == MJ_ENOMEM) {
            static const char text[] = "out of memory";
            mj__sub_close(sub, MJ_END_MEMORY, 1013, text, sizeof text - 1);
            return;
        }
        if (err) {
            damaged(sub, &at.run);
            return;
        }
        if (s->batch->frames && !send_batch(sub, s->batch))
            return;
        if (at.pos == sub->position) {
            mj__feed_move(sub, MJ_SUB_PARKED);
            return;
        }
        sub->position = at.pos;
    }
    lws_callback_on_writable(sub->wsi);
}

/* ---- rounds ---- */

static void send_live(struct mj_server *s, struct mj_class *class)
{
    const struct mj_batch *b = s->batch;
    for (uint32_t i = class->live_count; i-- > 0;) {
        struct mj_sub *sub = class->live[i];
        if (!mj__sub_may_write(sub)) {
            if (sub->state == MJ_SUB_LIVE) {
                mj__feed_move(sub, MJ_SUB_BEHIND);
                sub->position = b->seq[0];
            }
            continue;
        }
        if (send_batch(sub, b))
            mj_histogram_observe(s->m.delivery, mj_now_us() - b->oldest_us);
    }
}

/* Everybody reads on for themselves, and meets what is wrong. */
static void all_behind(struct mj_server *s)
{
    for (size_t i = 0; i < s->sub_count && s->live_count; i++)
        if (s->subs[i]->state == MJ_SUB_LIVE)
            mj__feed_move(s->subs[i], MJ_SUB_BEHIND);
}

/* Nobody is live, so what is new is everybody's own business. */
static void pass_over(struct mj_server *s)
{
    if (s->live_end == s->view.end)
        return;
    s->live_end = s->view.end;
    s->live_us = mj_view_newest(&s->view);
}

/* The first n entries of a run to a class: those of its hits, or, from hit MJ_NO_HIT, all that are
 * in its stream. */
static void send_class(struct mj_server *s, struct mj_class *class, const struct mj_run *r,
                       size_t n)
{
    struct mj_batch *b = s->batch;
    uint32_t hit = class->first_hit;
    size_t i = class->filter ? s->classes.hits[hit].entry : 0;
    batch_clear(b);
    while (i < n && class->live_count) {
        int got = class->filter || r->entries[i].streams >> class->stream & 1
                      ? add_entry(s, class, b, r, i)
                      : 1;
        if (got < 0) {
            /* Each meets the error by itself, if there still is one. */
            while (class->live_count) {
                struct mj_sub *sub = class->live[class->live_count - 1];
                mj__feed_move(sub, MJ_SUB_BEHIND);
                sub->position = b->frames ? b->seq[0] : r->seq + i;
            }
            return;
        }
        if (!got) {
            send_live(s, class);
            batch_clear(b);
            continue;
        }
        if (!class->filter) {
            i++;
        } else {
            hit = s->classes.hits[hit].next;
            i = hit == MJ_NO_HIT ? n : s->classes.hits[hit].entry;
        }
    }
    if (b->frames)
        send_live(s, class);
}

/* How many entries of a run are one write. */
static size_t slice(const struct mj_run *r)
{
    size_t n = 1;
    while (n < r->count && n < FRAMES_MAX && r->entries[n].end - r->start <= MJ_WRITE_MAX)
        n++;
    return n;
}

bool mj__feed_round(struct mj_server *s)
{
    struct mj_view *v = &s->view;
    size_t bytes = 0;
    if (s->live_end < v->floor) { /* more came at once than is kept */
        all_behind(s);
        s->live_end = v->floor;
    }
    if (!s->live_count)
        pass_over(s);
    while (s->live_end < v->end && bytes < ROUND_BYTES) {
        struct mj_run r;
        if (!mj_view_run(v, s->live_end, &r))
            break; /* never, and if so the next view has it */
        if (mj_view_load(v, &r)) {
            all_behind(s);
            pass_over(s);
            break;
        }
        size_t n = mj_classes_match(&s->classes, &r, slice(&r));
        const struct mj_class_list *open = &s->classes.lists[MJ_INDEX_OPEN];
        for (uint32_t i = 0; i < open->count; i++)
            if (open->v[i]->live_count)
                send_class(s, open->v[i], &r, n);
        for (size_t i = 0; i < s->classes.touched_count; i++)
            send_class(s, s->classes.touched[i], &r, n);
        mj_classes_done(&s->classes);
        bytes += r.entries[n - 1].end - r.start;
        s->live_end = r.seq + n;
        s->live_us = mj_run_time(&r, n - 1);
    }
    if (s->parked)
        on_park(s->loop, &s->park, 0);
    return bytes >= ROUND_BYTES && s->live_end < v->end;
}

int mj__feed_init(struct mj_server *s)
{
    s->batch = mj_calloc(1, sizeof *s->batch);
    mj_classes_init(&s->classes, s->cfg.journal);
    mj_scans_init(&s->scans);
    ev_timer_init(&s->park, on_park, 0., PARK);
    s->park.data = s;
    if (!s->cfg.dictionary.len || !mj_packer_new(s->cfg.dictionary, &s->packer))
        return 0;
    mj_log(MJ_LOG_ERROR, "server", "what was given as a zstd dictionary is none");
    return MJ_EINVAL;
}

void mj__feed_deinit(struct mj_server *s)
{
    mj_packer_free(s->packer);
    mj_scans_deinit(&s->scans);
    mj_classes_deinit(&s->classes);
    free(s->batch);
}
