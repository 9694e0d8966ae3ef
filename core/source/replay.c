#include "source/replay.h"

#include "atproto/cbor.h"
#include "atproto/syntax.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/ws.h"
#include "source/capture.h"
#include "source/peek.h"

struct entry {
    size_t at; /* of the frame in the image */
    uint32_t len;
    uint32_t seq_at, seq_len; /* of the integer in the frame; seq_len 0 = none */
    int64_t seq;              /* 0 = none */
    int64_t due_us;           /* own pace: after the start of the pass; never decreases */
};

struct mj_replay {
    struct mj_replay_cfg cfg; /* path not kept */
    struct mj_buf image;      /* all frames, back to back */
    struct entry *entries;    /* owned */
    size_t count, cap;
    int64_t low_seq, high_seq, pass_us;
    int64_t started_us;  /* of the clock; 0 = no client yet */
    uint64_t high_water; /* the furthest position any client was given */
    bool torn;           /* the capture ended inside a frame */
};

static void add(struct mj_replay *r, struct mj_span frame)
{
    struct mj_peek p;
    int64_t time_us, first_us = 0, last_due = r->count ? r->entries[r->count - 1].due_us : 0;
    if (r->count == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 256;
        r->entries = mj_realloc(r->entries, r->cap * sizeof *r->entries);
    }
    struct entry *e = &r->entries[r->count++];
    *e = (struct entry){.at = r->image.len, .len = (uint32_t)frame.len, .due_us = last_due};
    mj_buf_put(&r->image, frame.ptr, frame.len);
    if (mj_peek(frame, r->cfg.own_pace, &p))
        return;
    e->seq = p.seq;
    e->seq_len = (uint32_t)p.seq_at.len;
    if (p.seq_at.len)
        e->seq_at = (uint32_t)(p.seq_at.ptr - frame.ptr);
    if (p.seq && (!r->low_seq || p.seq < r->low_seq))
        r->low_seq = p.seq;
    if (p.seq > r->high_seq)
        r->high_seq = p.seq;
    if (r->cfg.own_pace && mj_datetime_us(p.time, &time_us) == 0) {
        /* started_us is not needed before the first client: it holds the first frame's time. */
        first_us = r->started_us ? r->started_us : time_us;
        r->started_us = first_us;
        if (time_us - first_us > last_due)
            e->due_us = time_us - first_us;
    }
}

int mj_replay_open(const struct mj_replay_cfg *cfg, struct mj_replay **out)
{
    struct mj_capture *c;
    if (cfg->own_pace && cfg->rate > 0)
        return MJ_EINVAL;
    int err = mj_capture_open(cfg->path, &c);
    if (err)
        return err;
    struct mj_replay *r = mj_calloc(1, sizeof *r);
    r->cfg = *cfg;
    r->cfg.path = NULL;
    struct mj_span frame;
    while ((err = mj_capture_next(c, &frame)) > 0)
        add(r, frame);
    mj_capture_close(c);
    r->started_us = 0;
    /* A recorder that was killed leaves half a frame; what lies before it is whole. */
    r->torn = err == MJ_ETRUNC && r->count;
    if (!err || r->torn)
        err = !r->count ? MJ_ENOENT : cfg->loop && !r->high_seq ? MJ_EINVAL : 0;
    if (err) {
        mj_replay_close(r);
        return err;
    }
    /* The next pass starts one mean distance after the last frame of this one. */
    int64_t last = r->entries[r->count - 1].due_us;
    r->pass_us = last + (r->count > 1 ? last / (int64_t)(r->count - 1) : 0) + 1;
    *out = r;
    return 0;
}

void mj_replay_close(struct mj_replay *r)
{
    if (!r)
        return;
    mj_buf_deinit(&r->image);
    free(r->entries);
    free(r);
}

size_t mj_replay_frames(const struct mj_replay *r) { return r->count; }
size_t mj_replay_bytes(const struct mj_replay *r) { return r->image.len; }
bool mj_replay_torn(const struct mj_replay *r) { return r->torn; }

static bool paced(const struct mj_replay *r) { return r->cfg.own_pace || r->cfg.rate > 0; }

/* When a position is due, in µs after the clock's start. */
static int64_t due_us(const struct mj_replay *r, uint64_t pos)
{
    if (r->cfg.rate > 0)
        return (int64_t)((double)pos * 1e6 / r->cfg.rate);
    return r->entries[pos % r->count].due_us + (int64_t)(pos / r->count) * r->pass_us;
}

static bool exists(const struct mj_replay *r, uint64_t pos)
{
    return pos < r->count || r->cfg.loop;
}

/* First position that is not due yet (or does not exist). */
static uint64_t live_position(const struct mj_replay *r, int64_t elapsed)
{
    uint64_t pos = 0;
    if (r->cfg.rate > 0)
        pos = (uint64_t)((double)elapsed * r->cfg.rate / 1e6);
    else if (r->cfg.loop)
        pos = (uint64_t)(elapsed / r->pass_us) * r->count;
    if (!r->cfg.loop && pos > r->count)
        pos = r->count;
    while (exists(r, pos) && due_us(r, pos) <= elapsed)
        pos++;
    return pos;
}

static int64_t span(const struct mj_replay *r) { return r->high_seq - r->low_seq + 1; }

static int64_t seq_of(const struct mj_replay *r, uint64_t pos)
{
    const struct entry *e = &r->entries[pos % r->count];
    return e->seq ? e->seq + (int64_t)(pos / r->count) * span(r) : 0;
}

/* First position whose seq is above the cursor. */
static uint64_t position_after(const struct mj_replay *r, int64_t cursor)
{
    uint64_t pass = 0;
    if (r->cfg.loop && cursor >= r->low_seq)
        pass = (uint64_t)((cursor - r->low_seq) / span(r));
    uint64_t pos = pass * r->count;
    while (exists(r, pos) && seq_of(r, pos) <= cursor)
        pos++;
    return pos;
}

static enum mj_relay_start seek(void *ctx, const int64_t *cursor, uint64_t *pos)
{
    struct mj_replay *r = ctx;
    int64_t now = mj_mono_us();
    uint64_t published = r->high_water > r->count ? r->high_water : r->count;
    if (paced(r))
        published = r->started_us ? live_position(r, now - r->started_us) : 0;
    if (cursor && *cursor > (INT64_C(1) << 53))
        return MJ_RELAY_FUTURE;
    *pos = cursor ? position_after(r, *cursor) : paced(r) ? published : 0;
    bool first = paced(r) && !r->started_us;
    if (cursor && !exists(r, *pos) && *cursor > r->high_seq)
        return MJ_RELAY_FUTURE;
    if (cursor && !first && *pos > published)
        return MJ_RELAY_FUTURE;
    if (first) /* the clock starts where this client wants to go on */
        r->started_us = now - (exists(r, *pos) ? due_us(r, *pos) : 0);
    if (!cursor)
        return MJ_RELAY_LIVE;
    return *cursor > 0 && *cursor + 1 < r->low_seq ? MJ_RELAY_OUTDATED : MJ_RELAY_BACKLOG;
}

static void put(const struct mj_replay *r, uint64_t pos, struct mj_buf *out)
{
    const struct entry *e = &r->entries[pos % r->count];
    const uint8_t *p = r->image.ptr + e->at;
    if (pos < r->count || !e->seq_len) {
        mj_relay_put(out, mj_span(p, e->len));
        return;
    }
    uint8_t digits[9];
    struct mj_buf seq = {.ptr = digits, .cap = sizeof digits}; /* the longest integer fits */
    mj_cbor_put_int(&seq, seq_of(r, pos));
    uint8_t head[MJ_WS_HEAD_MAX];
    mj_buf_put(out, head, mj_ws_head(head, MJ_WS_BINARY, e->len - e->seq_len + seq.len));
    mj_buf_put(out, p, e->seq_at);
    mj_buf_put(out, seq.ptr, seq.len);
    size_t behind = e->seq_at + e->seq_len;
    mj_buf_put(out, p + behind, e->len - behind);
}

static int read_feed(void *ctx, uint64_t *pos, size_t max, struct mj_buf *out, int64_t *wait_us)
{
    struct mj_replay *r = ctx;
    int64_t elapsed = mj_mono_us() - r->started_us;
    while (out->len < max && exists(r, *pos)) {
        if (paced(r) && due_us(r, *pos) > elapsed) {
            *wait_us = due_us(r, *pos) - elapsed;
            break;
        }
        put(r, (*pos)++, out);
    }
    if (*pos > r->high_water)
        r->high_water = *pos;
    return 0;
}

struct mj_relay_feed mj_replay_feed(struct mj_replay *r)
{
    return (struct mj_relay_feed){r, seek, read_feed};
}
