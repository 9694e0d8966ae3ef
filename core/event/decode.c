#include "event/decode.h"

#include "atproto/car.h"
#include "atproto/cbor.h"
#include "atproto/cbor_head.h"
#include "atproto/syntax.h"

#define SEQ_MAX ((1ll << 53) - 1)

struct op {
    enum mj_op action;    /* MJ_OP_NONE: one we do not know */
    struct mj_span path;  /* borrowed from the frame */
    struct mj_span cid;   /* borrowed; empty: null */
    struct mj_span block; /* borrowed; ptr NULL until found in the CAR */
};

struct mj_decoder {
    mj_drop_fn on_drop; /* borrowed with its ctx for the decoder's life; may be NULL */
    void *drop_ctx;
    bool hash;
    unsigned nops;
    struct op ops[MJ_OPS_MAX];
    uint8_t order[MJ_OPS_MAX]; /* indices into ops, sorted by path and then by CID */
};

/* The payload's fields, those of all message types together. A bit of `have` says that a field
 * came with the type it should have, a bit of `bad` that it came with another. Null counts as
 * absent. */
enum {
    DID = 1 << 0,
    REPO = 1 << 1,
    REV = 1 << 2,
    SEQ = 1 << 3,
    TIME = 1 << 4,
    OPS = 1 << 5,
    BLOCKS = 1 << 6,
    COMMIT = 1 << 7,
    TOO_BIG = 1 << 8,
    ACTIVE = 1 << 9,
    STATUS = 1 << 10,
    HANDLE = 1 << 11,
    NAME = 1 << 12,
    MESSAGE = 1 << 13,
    ERROR = 1 << 14
};

struct payload {
    unsigned have, bad, seen;
    int64_t seq;
    bool too_big, active;
    struct mj_span did, repo, rev, time, blocks, commit;
    struct mj_span status, handle, name, message, error;
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

static bool is(struct mj_span key, const char *name, size_t n)
{
    return key.len == n && memcmp(key.ptr, name, n) == 0;
}
#define IS(key, lit) is(key, lit, sizeof(lit) - 1)

/* Reads a map key. Order is not asked for here: neither header nor payload is ever hashed. */
static int take_key(struct mj_cbor *c, struct mj_span *key)
{
    struct mj_cbor_head h;
    if (c->p < c->end && *c->p >> 5 != MJ__TEXT)
        return MJ_EKEYTYPE;
    int err = mj_cbor_next(c, &h);
    *key = h.s;
    return err;
}

/* One entry of the operation list: {action, path, cid, prev}. */
static int take_op(struct mj_cbor *c, struct op *op)
{
    struct mj_cbor_head h;
    struct mj_span key;
    bool action = false, path = false, cid = false;
    int err = mj_cbor_next(c, &h);
    if (err)
        return err;
    if (h.type != MJ_CBOR_MAP)
        return MJ_EFIELD;
    *op = (struct op){.action = MJ_OP_NONE};
    for (uint64_t n = h.n; n > 0; n--) {
        if ((err = take_key(c, &key)))
            return err;
        if (IS(key, "cid")) {
            if ((err = mj_cbor_next(c, &h)))
                return err;
            if (cid)
                return MJ_EKEYDUP;
            cid = true;
            if (h.type == MJ_CBOR_LINK)
                op->cid = h.s;
            else if (h.type != MJ_CBOR_NULL)
                return MJ_EFIELD;
        } else if (IS(key, "path") || IS(key, "action")) {
            bool *seen = key.len == 4 ? &path : &action;
            if ((err = mj_cbor_next(c, &h)))
                return err;
            if (*seen)
                return MJ_EKEYDUP;
            *seen = true;
            if (h.type != MJ_CBOR_TEXT)
                return MJ_EFIELD;
            if (key.len == 4)
                op->path = h.s;
            else if (IS(h.s, "create"))
                op->action = MJ_OP_CREATE;
            else if (IS(h.s, "update"))
                op->action = MJ_OP_UPDATE;
            else if (IS(h.s, "delete"))
                op->action = MJ_OP_DELETE;
        } else if ((err = mj_cbor_skip(c))) {
            return err;
        }
    }
    return action && path ? 0 : MJ_EFIELD;
}

/* The whole list. A list too long is stepped over, so that the rest of the payload, seq above all,
 * is still read; its number of operations tells the caller. */
static int take_ops(struct mj_decoder *d, struct mj_cbor *c, uint64_t count)
{
    int err = 0;
    d->nops = count <= MJ_OPS_MAX ? (unsigned)count : MJ_OPS_MAX + 1;
    for (uint64_t i = 0; i < count && !err; i++)
        err = count <= MJ_OPS_MAX ? take_op(c, &d->ops[i]) : mj_cbor_skip(c);
    return err;
}

/* What a known field is for: its bit, its type, where the value goes. */
struct field {
    unsigned bit;
    enum mj_cbor_type type;
    struct mj_span *s;
    int64_t *i;
    bool *b;
};

static bool find_field(struct payload *p, struct mj_span key, struct field *f)
{
#define TEXT(name, flag, member)                                                                   \
    if (memcmp(key.ptr, name, sizeof(name) - 1) == 0) {                                            \
        *f = (struct field){.bit = flag, .type = MJ_CBOR_TEXT, .s = &p->member};                   \
        return true;                                                                               \
    }
    switch (key.len) {
    case 3:
        TEXT("did", DID, did)
        TEXT("rev", REV, rev)
        if (memcmp(key.ptr, "seq", 3) == 0) {
            *f = (struct field){.bit = SEQ, .type = MJ_CBOR_INT, .i = &p->seq};
            return true;
        }
        if (memcmp(key.ptr, "ops", 3) == 0) {
            *f = (struct field){.bit = OPS, .type = MJ_CBOR_ARRAY};
            return true;
        }
        return false;
    case 4:
        TEXT("repo", REPO, repo)
        TEXT("time", TIME, time)
        TEXT("name", NAME, name)
        return false;
    case 5:
        TEXT("error", ERROR, error)
        return false;
    case 6:
        if (memcmp(key.ptr, "blocks", 6) == 0) {
            *f = (struct field){.bit = BLOCKS, .type = MJ_CBOR_BYTES, .s = &p->blocks};
            return true;
        }
        if (memcmp(key.ptr, "commit", 6) == 0) {
            *f = (struct field){.bit = COMMIT, .type = MJ_CBOR_LINK, .s = &p->commit};
            return true;
        }
        if (memcmp(key.ptr, "tooBig", 6) == 0) {
            *f = (struct field){.bit = TOO_BIG, .type = MJ_CBOR_BOOL, .b = &p->too_big};
            return true;
        }
        if (memcmp(key.ptr, "active", 6) == 0) {
            *f = (struct field){.bit = ACTIVE, .type = MJ_CBOR_BOOL, .b = &p->active};
            return true;
        }
        TEXT("status", STATUS, status)
        TEXT("handle", HANDLE, handle)
        return false;
    case 7:
        TEXT("message", MESSAGE, message)
        return false;
    default:
        return false;
    }
#undef TEXT
}

static int take_payload(struct mj_decoder *d, struct mj_cbor *c, struct payload *p)
{
    struct mj_cbor_head h;
    struct mj_span key;
    int err = mj_cbor_next(c, &h);
    if (err)
        return c->p == c->end ? MJ_EFRAME : err;
    if (h.type != MJ_CBOR_MAP)
        return MJ_EFRAME;
    for (uint64_t n = h.n; n > 0; n--) {
        struct field f;
        if ((err = take_key(c, &key)))
            return err;
        if (!find_field(p, key, &f)) {
            if ((err = mj_cbor_skip(c)))
                return err;
            continue;
        }
        if (p->seen & f.bit)
            return MJ_EKEYDUP;
        p->seen |= f.bit;
        struct mj_cbor item = *c;
        if ((err = mj_cbor_next(c, &h)))
            return err;
        if (h.type == f.type) {
            p->have |= f.bit;
            if (f.s)
                *f.s = h.s;
            else if (f.i)
                *f.i = h.i;
            else if (f.b)
                *f.b = h.i != 0;
            else if ((err = take_ops(d, c, h.n)))
                return err;
        } else {
            if (h.type != MJ_CBOR_NULL)
                p->bad |= f.bit;
            *c = item;
            if ((err = mj_cbor_skip(c)))
                return err;
        }
    }
    return 0;
}

/* {op, t}: *op is 0 for a message nobody here knows. */
static int take_header(struct mj_cbor *c, int *op, struct mj_span *t)
{
    struct mj_cbor_head h;
    struct mj_span key;
    bool have_op = false, have_t = false;
    int err = mj_cbor_next(c, &h);
    if (err)
        return c->p == c->end && err == MJ_ETRUNC ? MJ_EFRAME : err;
    if (h.type != MJ_CBOR_MAP)
        return MJ_EFRAME;
    for (uint64_t n = h.n; n > 0; n--) {
        if ((err = take_key(c, &key)))
            return err;
        if (IS(key, "op") || IS(key, "t")) {
            bool *seen = key.len == 2 ? &have_op : &have_t;
            if ((err = mj_cbor_next(c, &h)))
                return err;
            if (*seen)
                return MJ_EKEYDUP;
            *seen = true;
            if (h.type != (key.len == 2 ? MJ_CBOR_INT : MJ_CBOR_TEXT))
                return MJ_EFIELD;
            if (key.len == 2)
                *op = h.i == 1 || h.i == -1 ? (int)h.i : 0;
            else
                *t = h.s;
        } else if ((err = mj_cbor_skip(c))) {
            return err;
        }
    }
    return have_op && (*op != 1 || have_t) ? 0 : MJ_EFIELD;
}

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

/* What the four messages about an account have in common. */
static int check_common(const struct payload *p, unsigned need, unsigned may, struct mj_span did)
{
    need |= SEQ | TIME;
    if ((p->have & need) != need || (p->bad & (need | may)) || p->seq < 1 || p->seq > SEQ_MAX)
        return MJ_EFIELD;
    if (!mj_did_valid(did))
        return MJ_EDID;
    if ((need & REV) && !mj_tid_valid(p->rev))
        return MJ_EREV;
    return mj_datetime_valid(p->time) ? 0 : MJ_ETIME;
}

/* Sorts `order` by CID or by path, with a binary search for each place: a hostile list has long
 * paths that differ late, and few comparisons keep that cheap. */
static void sort_ops(struct mj_decoder *d, bool by_cid)
{
    for (unsigned i = 0; i < d->nops; i++) {
        const struct op *x = &d->ops[i];
        unsigned low = 0, high = i;
        while (low < high) {
            unsigned mid = (low + high) / 2;
            const struct op *y = &d->ops[d->order[mid]];
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
        struct op *op = &d->ops[d->order[low]];
        if (!mj_span_eq(op->cid, s->cid))
            break;
        if (!op->block.ptr)
            op->block = s->block;
    }
}

/* Walks the whole CAR, whose framing must hold to its end, and finds the blocks. Comparing eight
 * bytes of the digest first settles nearly every section. */
static int find_blocks(struct mj_decoder *d, const struct payload *p)
{
    struct mj_car car;
    struct mj_car_section s;
    bool commit = false;
    int more, err = mj_car_open(&car, p->blocks);
    if (err || ((p->have & COMMIT) && !mj_span_eq(car.root, p->commit)))
        return MJ_ECAR;
    uint64_t root = mj__be64(car.root.ptr + 4);
    uint64_t only = d->nops == 1 && d->ops[0].cid.len ? mj__be64(d->ops[0].cid.ptr + 4) : 0;
    if (d->nops > 1)
        sort_ops(d, true);
    while ((more = mj_car_next(&car, &s)) > 0) {
        if (s.cid.len != MJ_CID_LEN)
            continue;
        uint64_t key = mj__be64(s.cid.ptr + 4);
        if (key == root && mj_span_eq(s.cid, car.root))
            commit = true;
        if (d->nops > 1)
            offer_block(d, &s);
        else if (d->nops == 1 && key == only && !d->ops[0].block.ptr &&
                 mj_span_eq(s.cid, d->ops[0].cid))
            d->ops[0].block = s.block;
    }
    return more < 0 ? more : commit ? 0 : MJ_EBLOCK;
}

/* What is wrong with an operation; 0 with the event's fields filled in. */
static int check_op(const struct mj_decoder *d, const struct op *op, struct mj_event *ev)
{
    if (op->action == MJ_OP_NONE)
        return MJ_EACTION;
    if (!mj_path_split(op->path, &ev->collection, &ev->rkey))
        return MJ_EPATH;
    ev->op = op->action;
    ev->cid = op->cid;
    ev->record = op->block;
    if (op->action == MJ_OP_DELETE)
        return op->cid.len ? MJ_EOPCID : 0;
    if (!mj_cid_is_structural(op->cid))
        return MJ_EOPCID;
    if (!op->block.ptr)
        return MJ_EBLOCK;
    if (op->block.len > MJ_RECORD_MAX)
        return MJ_ELIMIT;
    return !d->hash || mj_cid_matches(op->cid, op->block) ? 0 : MJ_EHASH;
}

static int emit_commit(struct mj_decoder *d, const struct payload *p, struct mj_frame *out,
                       mj_event_fn fn, void *ctx)
{
    const unsigned need = REPO | REV | OPS | BLOCKS | COMMIT;
    if (p->have & TOO_BIG && p->too_big)
        return MJ_ETOOBIG;
    int err = check_common(p, need, TOO_BIG, p->repo);
    if (err)
        return err;
    if (p->blocks.len == 0)
        return MJ_EFIELD;
    if (d->nops > MJ_OPS_MAX || p->blocks.len > MJ_BLOCKS_MAX)
        return MJ_ELIMIT;
    if (duplicate_path(d))
        return MJ_EDUPPATH;
    if ((err = find_blocks(d, p)))
        return err;
    for (unsigned i = 0; i < d->nops; i++) {
        struct mj_event ev = {
            .kind = MJ_KIND_COMMIT, .seq = p->seq, .did = p->repo, .time = p->time, .rev = p->rev};
        int reason = check_op(d, &d->ops[i], &ev);
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

static int emit_sync(struct mj_decoder *d, const struct payload *p)
{
    int err = check_common(p, DID | REV | BLOCKS, 0, p->did);
    if (err)
        return err;
    if (p->blocks.len > MJ_BLOCKS_MAX)
        return MJ_ELIMIT;
    d->nops = 0;
    return find_blocks(d, p);
}

static int emit_identity(const struct payload *p, struct mj_frame *out, mj_event_fn fn, void *ctx)
{
    int err = check_common(p, DID, HANDLE, p->did);
    if (err)
        return err;
    struct mj_event ev = {.kind = MJ_KIND_IDENTITY,
                          .seq = p->seq,
                          .did = p->did,
                          .time = p->time,
                          .handle = p->handle};
    out->events++;
    err = fn(ctx, &ev);
    return err < 0 ? err : 0;
}

static int emit_account(const struct payload *p, struct mj_frame *out, mj_event_fn fn, void *ctx)
{
    int err = check_common(p, DID | ACTIVE, STATUS, p->did);
    if (err)
        return err;
    struct mj_event ev = {.kind = MJ_KIND_ACCOUNT,
                          .seq = p->seq,
                          .did = p->did,
                          .time = p->time,
                          .status = p->status,
                          .active = p->active};
    out->events++;
    err = fn(ctx, &ev);
    return err < 0 ? err : 0;
}

int mj_decode(struct mj_decoder *d, struct mj_span frame, struct mj_frame *out, mj_event_fn fn,
              void *ctx)
{
    struct payload p = {0};
    struct mj_span t = {0};
    int op = 0;
    *out = (struct mj_frame){0};
    if (frame.len > MJ_FRAME_MAX)
        return MJ_EBIG;
    struct mj_cbor c = mj_cbor(frame);
    int err = take_header(&c, &op, &t);
    if (err)
        return err;
    out->type = frame_type(op, t);
    d->nops = 0;
    err = take_payload(d, &c, &p);
    if (p.have & SEQ && p.seq > 0 && p.seq <= SEQ_MAX)
        out->seq = p.seq;
    if (err)
        return err;
    if (c.p != c.end)
        return MJ_EFRAME;
    out->did = p.have & REPO ? p.repo : p.did;
    out->time = p.time;
    switch (out->type) {
    case MJ_FRAME_COMMIT:
        return emit_commit(d, &p, out, fn, ctx);
    case MJ_FRAME_SYNC:
        return emit_sync(d, &p);
    case MJ_FRAME_IDENTITY:
        return emit_identity(&p, out, fn, ctx);
    case MJ_FRAME_ACCOUNT:
        return emit_account(&p, out, fn, ctx);
    case MJ_FRAME_INFO:
        out->name = p.name;
        out->message = p.message;
        return p.have & NAME ? 0 : MJ_EFIELD;
    case MJ_FRAME_ERROR:
        out->name = p.error;
        out->message = p.message;
        return p.have & ERROR ? 0 : MJ_EFIELD;
    default:
        return 0;
    }
}
