#include "event/decode.h"

#include "atproto/car.h"
#include "atproto/syntax.h"
#include "event/payload.h"

struct mj_decoder {
    mj_drop_fn on_drop; /* borrowed with its ctx for the decoder's life; may be NULL */
    void *drop_ctx;
    bool hash;
    unsigned nops;
    struct mj__op ops[MJ_OPS_MAX];
    uint8_t order[MJ_OPS_MAX]; /* indices into ops, sorted by path and then by CID */
    /* Collections that were valid lately: nearly every operation names one of a few. */
    struct {
        uint8_t len; /* 0: unused */
        uint8_t text[63];
    } recent[16];
};

struct mj_decoder *mj_decoder_new(void)
{
    struct mj_decoder *d = mj_calloc(1, sizeof *d);
    d->hash = true;
    return d;
}

void mj_decoder_free(struct mj_decoder *d) { free(d); }

void mj_decoder_on_drop(struct mj_decoder *d, mj_drop_fn fn, void *ctx)
{
    d->on_drop = fn;
    d->drop_ctx = ctx;
}

void mj_decoder_set_hash(struct mj_decoder *d, bool on) { d->hash = on; }

static bool is(struct mj_span text, const char *word, size_t n)
{
    return text.len == n && memcmp(text.ptr, word, n) == 0;
}
#define IS(text, lit) is(text, lit, sizeof(lit) - 1)

static enum mj_frame_type frame_type(int op, struct mj_span t)
{
    if (op == -1)
        return MJ_FRAME_ERROR;
    if (op != 1)
        return MJ_FRAME_UNKNOWN;
    if (IS(t, "#commit"))
        return MJ_FRAME_COMMIT;
    if (IS(t, "#sync"))
        return MJ_FRAME_SYNC;
    if (IS(t, "#identity"))
        return MJ_FRAME_IDENTITY;
    if (IS(t, "#account"))
        return MJ_FRAME_ACCOUNT;
    if (IS(t, "#info"))
        return MJ_FRAME_INFO;
    return MJ_FRAME_UNKNOWN;
}

/* What the four messages about an account have in common, `who` being did or repo. */
static int check_common(const struct mj__payload *p, unsigned who, struct mj_frame *out)
{
    unsigned need = who | MJ__SEQ | MJ__TIME;
    if ((p->have & need) != need)
        return MJ_EFIELD;
    struct mj_span did = who == MJ__REPO ? p->repo : p->did;
    if (!mj_did_valid(did))
        return MJ_EDID;
    out->did = did;
    if (!mj_datetime_valid(p->time))
        return MJ_ETIME;
    out->time = p->time;
    return 0;
}

/* The fields a message needs are there, and those it may have are not of another type. */
static bool has(const struct mj__payload *p, unsigned need, unsigned may)
{
    return (p->have & need) == need && !(p->bad & may);
}

/* Sorts `order` by CID or by path, with a binary search for each place: a hostile list has long
 * paths that differ late, and few comparisons keep that cheap. */
static void sort_ops(struct mj_decoder *d, bool by_cid)
{
    for (unsigned i = 0; i < d->nops; i++) {
        const struct mj__op *x = &d->ops[i];
        unsigned low = 0, high = i;
        while (low < high) {
            unsigned mid = (low + high) / 2;
            const struct mj__op *y = &d->ops[d->order[mid]];
            if (mj_span_cmp(by_cid ? x->cid : x->path, by_cid ? y->cid : y->path) < 0)
                high = mid;
            else
                low = mid + 1;
        }
        memmove(d->order + low + 1, d->order + low, i - low);
        d->order[low] = (uint8_t)i;
    }
}

static bool duplicate_path(struct mj_decoder *d)
{
    if (d->nops < 2)
        return false;
    sort_ops(d, false);
    for (unsigned i = 1; i < d->nops; i++)
        if (mj_span_eq(d->ops[d->order[i - 1]].path, d->ops[d->order[i]].path))
            return true;
    return false;
}

/* Gives a section to every operation that names its CID; the first section of a CID counts. The
 * operations are sorted by CID, so a long list costs a binary search per section. */
static void offer_block(struct mj_decoder *d, const struct mj_car_section *s)
{
    unsigned low = 0, high = d->nops;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        if (mj_span_cmp(d->ops[d->order[mid]].cid, s->cid) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < d->nops; low++) {
        struct mj__op *op = &d->ops[d->order[low]];
        if (op->block.ptr || !mj_span_eq(op->cid, s->cid)) /* found before, all of them */
            break;
        op->block = s->block;
    }
}

/* Walks the whole CAR, whose framing must hold to its end, and finds the blocks. Comparing eight
 * bytes of the digest first settles nearly every section. */
static int find_blocks(struct mj_decoder *d, const struct mj__payload *p)
{
    struct mj_car car;
    struct mj_car_section s;
    bool commit = false, many = d->nops > 1;
    int more, err = mj_car_open(&car, p->blocks);
    if (err || ((p->have & MJ__COMMIT) && !mj_span_eq(car.root, p->commit)))
        return MJ_ECAR;
    uint64_t root = mj__be64(car.root.ptr + 4);
    struct mj__op *one = d->nops == 1 && d->ops[0].cid.len ? &d->ops[0] : NULL;
    uint64_t only = one ? mj__be64(one->cid.ptr + 4) : root;
    if (many)
        sort_ops(d, true);
    while ((more = mj_car_next(&car, &s)) > 0) {
        if (MJ_UNLIKELY(s.cid.len != MJ_CID_LEN))
            continue;
        if (many)
            offer_block(d, &s);
        uint64_t key = mj__be64(s.cid.ptr + 4);
        if (MJ_LIKELY(key != root && key != only))
            continue;
        if (mj_span_eq(s.cid, car.root))
            commit = true;
        if (one && !one->block.ptr && mj_span_eq(s.cid, one->cid))
            one->block = s.block;
    }
    return more < 0 ? more : commit ? 0 : MJ_EBLOCK;
}

static bool collection_valid(struct mj_decoder *d, struct mj_span c)
{
    if (c.len < 1 || c.len > sizeof d->recent[0].text)
        return mj_nsid_valid(c);
    size_t slot = (c.len + c.ptr[c.len - 1]) % MJ_COUNT(d->recent);
    if (d->recent[slot].len == c.len && memcmp(d->recent[slot].text, c.ptr, c.len) == 0)
        return true;
    if (!mj_nsid_valid(c))
        return false;
    d->recent[slot].len = (uint8_t)c.len;
    memcpy(d->recent[slot].text, c.ptr, c.len);
    return true;
}

/* mj_path_split() with the memory of collections. */
static bool split_path(struct mj_decoder *d, struct mj_span path, struct mj_event *ev)
{
    const uint8_t *slash = path.len ? memchr(path.ptr, '/', path.len) : NULL;
    if (!slash)
        return false;
    ev->collection = mj_span(path.ptr, (size_t)(slash - path.ptr));
    ev->rkey = mj_span(slash + 1, path.len - ev->collection.len - 1);
    return collection_valid(d, ev->collection) && mj_rkey_valid(ev->rkey);
}

/* What is wrong with an operation; 0 with the event's fields filled in. */
static int check_op(struct mj_decoder *d, const struct mj__op *op, struct mj_event *ev)
{
    if (op->action == MJ_OP_NONE)
        return MJ_EACTION;
    if (!split_path(d, op->path, ev))
        return MJ_EPATH;
    ev->op = op->action;
    ev->cid = op->cid;
    ev->record = op->block;
    if (op->action == MJ_OP_DELETE)
        return op->cid.len ? MJ_EOPCID : 0;
    /* Tag 42 holds nothing but valid CIDs; the codec is all that is left to ask. */
    if (op->cid.len == 0 || op->cid.ptr[1] != 0x71)
        return MJ_EOPCID;
    if (!op->block.ptr)
        return MJ_EBLOCK;
    if (op->block.len > MJ_RECORD_MAX)
        return MJ_ELIMIT;
    return !d->hash || mj_cid_matches(op->cid, op->block) ? 0 : MJ_EHASH;
}

static int emit_commit(struct mj_decoder *d, const struct mj__payload *p, struct mj_frame *out,
                       mj_event_fn fn, void *ctx)
{
    int err = check_common(p, MJ__REPO, out);
    if (err)
        return err;
    if (p->too_big)
        return MJ_ETOOBIG;
    if (!has(p, MJ__REV | MJ__OPS | MJ__BLOCKS | MJ__COMMIT, MJ__TOO_BIG) || p->blocks.len == 0)
        return MJ_EFIELD;
    if (!mj_tid_valid(p->rev))
        return MJ_EREV;
    if (d->nops > MJ_OPS_MAX || p->blocks.len > MJ_BLOCKS_MAX)
        return MJ_ELIMIT;
    if (duplicate_path(d))
        return MJ_EDUPPATH;
    if ((err = find_blocks(d, p)))
        return err;
    /* Two operations may name one block. Together they get no more bytes than a frame without
     * sharing could bring, or a small frame would make a lot of work and output. */
    size_t left = MJ_BLOCKS_MAX;
    for (unsigned i = 0; i < d->nops; i++) {
        struct mj_event ev = {.kind = MJ_KIND_COMMIT,
                              .seq = p->seq,
                              .did = p->repo,
                              .time = p->time,
                              .rev = p->rev,
                              .plain = true};
        size_t size = d->ops[i].block.len;
        int reason = MJ_ELIMIT;
        if (size <= left) {
            left -= size;
            reason = check_op(d, &d->ops[i], &ev);
        }
        if (reason) {
            out->dropped++;
            if (d->on_drop)
                d->on_drop(d->drop_ctx, reason, d->ops[i].path);
            continue;
        }
        out->events++;
        if ((err = fn(ctx, &ev)) < 0)
            return err;
    }
    return 0;
}

static int emit_sync(struct mj_decoder *d, const struct mj__payload *p, struct mj_frame *out)
{
    int err = check_common(p, MJ__DID, out);
    if (err)
        return err;
    if (!has(p, MJ__REV | MJ__BLOCKS, 0))
        return MJ_EFIELD;
    if (!mj_tid_valid(p->rev))
        return MJ_EREV;
    if (p->blocks.len > MJ_BLOCKS_MAX)
        return MJ_ELIMIT;
    d->nops = 0;
    return find_blocks(d, p);
}

static int emit_identity(const struct mj__payload *p, struct mj_frame *out, mj_event_fn fn,
                         void *ctx)
{
    int err = check_common(p, MJ__DID, out);
    if (err)
        return err;
    if (!has(p, 0, MJ__HANDLE))
        return MJ_EFIELD;
    struct mj_event ev = {.kind = MJ_KIND_IDENTITY,
                          .seq = p->seq,
                          .did = p->did,
                          .time = p->time,
                          .handle = p->handle,
                          .plain = true};
    out->events++;
    err = fn(ctx, &ev);
    return err < 0 ? err : 0;
}

static int emit_account(const struct mj__payload *p, struct mj_frame *out, mj_event_fn fn,
                        void *ctx)
{
    int err = check_common(p, MJ__DID, out);
    if (err)
        return err;
    if (!has(p, MJ__ACTIVE, MJ__STATUS))
        return MJ_EFIELD;
    struct mj_event ev = {.kind = MJ_KIND_ACCOUNT,
                          .seq = p->seq,
                          .did = p->did,
                          .time = p->time,
                          .status = p->status,
                          .active = p->active,
                          .plain = true};
    out->events++;
    err = fn(ctx, &ev);
    return err < 0 ? err : 0;
}

int mj_decode(struct mj_decoder *d, struct mj_span frame, struct mj_frame *out, mj_event_fn fn,
              void *ctx)
{
    *out = (struct mj_frame){0};
    if (frame.len > MJ_FRAME_MAX)
        return MJ_EBIG;
    if (frame.len == 0)
        return MJ_EFRAME;
    struct mj__payload p = {.ops = d->ops};
    struct mj_span t = {0};
    int op = 0;
    int err = mj__payload_read(frame, &p, &op, &t);
    out->type = frame_type(op, t);
    out->seq = p.seq;
    d->nops = p.nops;
    if (err)
        return err;
    switch (out->type) {
    case MJ_FRAME_COMMIT:
        return emit_commit(d, &p, out, fn, ctx);
    case MJ_FRAME_SYNC:
        return emit_sync(d, &p, out);
    case MJ_FRAME_IDENTITY:
        return emit_identity(&p, out, fn, ctx);
    case MJ_FRAME_ACCOUNT:
        return emit_account(&p, out, fn, ctx);
    case MJ_FRAME_INFO:
        out->name = p.name;
        out->message = p.message;
        return p.have & MJ__NAME ? 0 : MJ_EFIELD;
    case MJ_FRAME_ERROR:
        out->name = p.error;
        out->message = p.message;
        return p.have & MJ__ERROR ? 0 : MJ_EFIELD;
    default:
        return 0;
    }
}
