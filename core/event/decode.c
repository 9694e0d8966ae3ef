#include "event/decode.h"

#include "atproto/car.h"
#include "atproto/cbor.h"
#include "atproto/cbor_head.h"
#include "atproto/syntax.h"
#include "atproto/utf8.h"

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
    /* Collections that were valid lately: nearly every operation names one of a few. */
    struct {
        uint8_t len; /* 0: unused */
        uint8_t text[63];
    } recent[16];
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

/* A pass over header and payload. Each function takes where its part starts and returns where it
 * ends, or NULL with the reason in `err`: positions then travel in registers. */
struct pass {
    const uint8_t *end; /* of the frame */
    int err;            /* valid once something has returned NULL */
    struct mj_decoder *d;
    struct payload p;
};

static const uint8_t *fail(struct pass *s, int err)
{
    s->err = err;
    return NULL;
}

/* Map, array or string head of the wanted major type; MJ_EFIELD for another type. */
static inline const uint8_t *take_head(struct pass *s, const uint8_t *p, unsigned want, uint64_t *n)
{
    unsigned major;
    int err = mj__cbor_head(&p, s->end, &major, n);
    if (MJ_UNLIKELY(err))
        return fail(s, err);
    return MJ_LIKELY(major == want) ? p : fail(s, MJ_EFIELD);
}

/* The bytes of a string whose head is next. UTF-8 is for the caller to check. */
static inline const uint8_t *take_span(struct pass *s, const uint8_t *p, unsigned want,
                                       struct mj_span *out)
{
    uint64_t n;
    if (MJ_LIKELY(s->end - p > 24 && *p - (want << 5) < 24)) { /* short, and far from the end */
        n = *p & 31;
        p++;
    } else {
        p = take_head(s, p, want, &n);
        if (MJ_UNLIKELY(!p))
            return NULL;
        if (MJ_UNLIKELY(n > (size_t)(s->end - p)))
            return fail(s, MJ_ETRUNC);
    }
    *out = mj_span(p, (size_t)n);
    return p + n;
}

/* Reads a map key. Order is not asked for here: neither header nor payload is ever hashed. UTF-8
 * is not either: a key we know is ASCII, any other is checked by skip_entry(). */
static inline const uint8_t *take_key(struct pass *s, const uint8_t *p, struct mj_span *key)
{
    const uint8_t *end = take_span(s, p, MJ__TEXT, key);
    if (MJ_UNLIKELY(!end && s->err == MJ_EFIELD))
        s->err = MJ_EKEYTYPE;
    return end;
}

/* Steps over a value; the short forms first, which are what frames have. */
static inline const uint8_t *skip_value(struct pass *s, const uint8_t *p)
{
    const uint8_t *cid;
    struct mj_span text;
    int err;
    if (MJ_LIKELY(s->end - p > 2)) {
        if ((*p >= 0xf4 && *p <= 0xf6) || *p == 0x80) /* simple; empty array */
            return p + 1;
        if (p[0] == 0xd8 && p[1] == 42) {
            p += 2;
            return (err = mj__cbor_link(&p, s->end, &cid)) ? fail(s, err) : p;
        }
        if (*p >> 5 == MJ__TEXT) {
            p = take_span(s, p, MJ__TEXT, &text);
            return !p || mj_utf8_valid(text) ? p : fail(s, MJ_EUTF8);
        }
    }
    struct mj_cbor c = {p, s->end};
    return (err = mj_cbor_skip(&c)) ? fail(s, err) : c.p;
}

/* Steps over the value of a key nobody here knows. */
static const uint8_t *skip_entry(struct pass *s, const uint8_t *p, struct mj_span key)
{
    return mj_utf8_valid(key) ? skip_value(s, p) : fail(s, MJ_EUTF8);
}

/* Notes that a field came; a second time is an error. */
static inline bool again(struct pass *s, unsigned bit)
{
    if (MJ_UNLIKELY(s->p.seen & bit)) {
        s->err = MJ_EKEYDUP;
        return true;
    }
    s->p.seen |= bit;
    return false;
}

/* A known field's value of another type than it should have: null counts as absent. */
static const uint8_t *take_other(struct pass *s, const uint8_t *p, unsigned bit)
{
    if (p < s->end && *p != 0xf6)
        s->p.bad |= bit;
    return skip_value(s, p);
}

/* Text or bytes. `utf8`: the value may be any text; otherwise its syntax is checked later, and
 * that allows ASCII only. */
static inline const uint8_t *take_string(struct pass *s, const uint8_t *p, unsigned bit,
                                         unsigned want, bool utf8, struct mj_span *out)
{
    if (again(s, bit))
        return NULL;
    if (MJ_UNLIKELY(p < s->end && *p >> 5 != want))
        return take_other(s, p, bit);
    s->p.have |= bit;
    p = take_span(s, p, want, out);
    return p && utf8 && !mj_utf8_valid(*out) ? fail(s, MJ_EUTF8) : p;
}

static const uint8_t *take_syntax(struct pass *s, const uint8_t *p, unsigned bit,
                                  struct mj_span *out)
{
    return take_string(s, p, bit, MJ__TEXT, false, out);
}

static const uint8_t *take_text(struct pass *s, const uint8_t *p, unsigned bit, struct mj_span *out)
{
    return take_string(s, p, bit, MJ__TEXT, true, out);
}

static const uint8_t *take_bool(struct pass *s, const uint8_t *p, unsigned bit, bool *out)
{
    if (again(s, bit))
        return NULL;
    if (p == s->end || (*p & 0xfe) != 0xf4)
        return take_other(s, p, bit);
    *out = *p == 0xf5;
    s->p.have |= bit;
    return p + 1;
}

/* A link, which is all that tag 42 can hold; or null. */
static const uint8_t *take_link(struct pass *s, const uint8_t *p, struct mj_span *out)
{
    const uint8_t *cid;
    int err;
    if (s->end - p < 2)
        return fail(s, MJ_ETRUNC);
    if (p[0] == 0xf6)
        return p + 1;
    if (p[0] != 0xd8 || p[1] != 42)
        return fail(s, MJ_EFIELD);
    p += 2;
    if ((err = mj__cbor_link(&p, s->end, &cid)))
        return fail(s, err);
    *out = mj_span(cid, MJ_CID_LEN);
    return p;
}

static const uint8_t *take_commit(struct pass *s, const uint8_t *p)
{
    if (again(s, COMMIT))
        return NULL;
    if (p == s->end || *p != 0xd8)
        return take_other(s, p, COMMIT);
    s->p.have |= COMMIT;
    return take_link(s, p, &s->p.commit);
}

static const uint8_t *take_seq(struct pass *s, const uint8_t *p)
{
    uint64_t n;
    if (again(s, SEQ))
        return NULL;
    if (p == s->end || *p >> 5 != MJ__UINT)
        return take_other(s, p, SEQ);
    p = take_head(s, p, MJ__UINT, &n);
    if (p && n >= 1 && n <= SEQ_MAX) {
        s->p.seq = (int64_t)n;
        s->p.have |= SEQ;
    }
    return p;
}

static bool is(struct mj_span text, const char *word, size_t n)
{
    return text.len == n && memcmp(text.ptr, word, n) == 0;
}
#define IS(text, lit) is(text, lit, sizeof(lit) - 1)

static const uint8_t *take_action(struct pass *s, const uint8_t *p, enum mj_op *out)
{
    struct mj_span text;
    if (!(p = take_span(s, p, MJ__TEXT, &text)))
        return NULL;
    if (IS(text, "create"))
        *out = MJ_OP_CREATE;
    else if (IS(text, "update"))
        *out = MJ_OP_UPDATE;
    else if (IS(text, "delete"))
        *out = MJ_OP_DELETE;
    else if (!mj_utf8_valid(text))
        return fail(s, MJ_EUTF8);
    return p;
}

/* One entry of the operation list: {action, path, cid, prev}. */
static const uint8_t *take_op(struct pass *s, const uint8_t *p, struct op *op)
{
    enum { ACTION = 1, PATH = 2, CID = 4 };
    unsigned seen = 0, bit;
    uint64_t pairs;
    *op = (struct op){.action = MJ_OP_NONE};
    if (!(p = take_head(s, p, MJ__MAP, &pairs)))
        return NULL;
    for (; pairs > 0; pairs--) {
        struct mj_span key;
        if (!(p = take_key(s, p, &key)))
            return NULL;
        bit = IS(key, "path") ? PATH : IS(key, "action") ? ACTION : IS(key, "cid") ? CID : 0;
        if (MJ_UNLIKELY(seen & bit))
            return fail(s, MJ_EKEYDUP);
        seen |= bit;
        if (bit == PATH) {
            p = take_span(s, p, MJ__TEXT, &op->path);
            if (p && !mj_utf8_valid(op->path))
                return fail(s, MJ_EUTF8);
        } else if (bit == ACTION) {
            p = take_action(s, p, &op->action);
        } else {
            p = bit == CID ? take_link(s, p, &op->cid) : skip_entry(s, p, key);
        }
        if (!p)
            return NULL;
    }
    return (seen & (PATH | ACTION)) == (PATH | ACTION) ? p : fail(s, MJ_EFIELD);
}

/* The whole list. One that is too long is stepped over, so that the rest of the payload, seq above
 * all, is still read. */
static const uint8_t *take_ops(struct pass *s, const uint8_t *p)
{
    uint64_t count;
    if (again(s, OPS))
        return NULL;
    if (p == s->end || *p >> 5 != MJ__ARRAY)
        return take_other(s, p, OPS);
    s->p.have |= OPS;
    const uint8_t *first = take_head(s, p, MJ__ARRAY, &count);
    if (!first)
        return NULL;
    if (count > MJ_OPS_MAX) {
        s->d->nops = MJ_OPS_MAX + 1;
        return skip_value(s, p);
    }
    s->d->nops = (unsigned)count;
    p = first;
    for (unsigned i = 0; i < count && p; i++)
        p = take_op(s, p, &s->d->ops[i]);
    return p;
}

/* A key of at most seven bytes as one number, its length included, so that a switch finds it. */
#define WORD(len, a, b, c, d, e, f, g)                                                             \
    ((uint64_t)(a) << 56 | (uint64_t)(b) << 48 | (uint64_t)(c) << 40 | (uint64_t)(d) << 32 |       \
     (uint64_t)(e) << 24 | (uint64_t)(f) << 16 | (uint64_t)(g) << 8 | (len))

static inline uint64_t word_of(struct mj_span key, const uint8_t *end)
{
    uint8_t bytes[8] = {0};
    if (key.len > 7 || key.len == 0)
        return 0;
    if (MJ_LIKELY(end - key.ptr >= 8))
        return (mj__be64(key.ptr) & ~0ull << (64 - 8 * key.len)) | key.len;
    memcpy(bytes, key.ptr, key.len);
    return mj__be64(bytes) | key.len;
}

static inline const uint8_t *take_entry(struct pass *s, const uint8_t *p)
{
    struct payload *out = &s->p;
    struct mj_span key;
    if (!(p = take_key(s, p, &key)))
        return NULL;
    uint64_t word = word_of(key, s->end);
    switch (word) {
    case WORD(3, 'd', 'i', 'd', 0, 0, 0, 0):
        return take_syntax(s, p, DID, &out->did);
    case WORD(3, 'o', 'p', 's', 0, 0, 0, 0):
        return take_ops(s, p);
    case WORD(3, 'r', 'e', 'v', 0, 0, 0, 0):
        return take_syntax(s, p, REV, &out->rev);
    case WORD(3, 's', 'e', 'q', 0, 0, 0, 0):
        return take_seq(s, p);
    case WORD(4, 'r', 'e', 'p', 'o', 0, 0, 0):
        return take_syntax(s, p, REPO, &out->repo);
    case WORD(4, 't', 'i', 'm', 'e', 0, 0, 0):
        return take_syntax(s, p, TIME, &out->time);
    case WORD(4, 'n', 'a', 'm', 'e', 0, 0, 0):
        return take_text(s, p, NAME, &out->name);
    case WORD(5, 'e', 'r', 'r', 'o', 'r', 0, 0):
        return take_text(s, p, ERROR, &out->error);
    case WORD(6, 'b', 'l', 'o', 'c', 'k', 's', 0):
        return take_string(s, p, BLOCKS, MJ__BYTES, false, &out->blocks);
    case WORD(6, 'c', 'o', 'm', 'm', 'i', 't', 0):
        return take_commit(s, p);
    case WORD(6, 't', 'o', 'o', 'B', 'i', 'g', 0):
        return take_bool(s, p, TOO_BIG, &out->too_big);
    case WORD(6, 'a', 'c', 't', 'i', 'v', 'e', 0):
        return take_bool(s, p, ACTIVE, &out->active);
    case WORD(6, 's', 't', 'a', 't', 'u', 's', 0):
        return take_text(s, p, STATUS, &out->status);
    case WORD(6, 'h', 'a', 'n', 'd', 'l', 'e', 0):
        return take_text(s, p, HANDLE, &out->handle);
    case WORD(7, 'm', 'e', 's', 's', 'a', 'g', 'e'):
        return take_text(s, p, MESSAGE, &out->message);
    default:
        return word && !(word & 0x8080808080808080) ? skip_value(s, p) : skip_entry(s, p, key);
    }
}

static const uint8_t *take_payload(struct pass *s, const uint8_t *p)
{
    uint64_t pairs;
    if (p == s->end || *p >> 5 != MJ__MAP)
        return fail(s, MJ_EFRAME);
    p = take_head(s, p, MJ__MAP, &pairs);
    for (; p && pairs > 0; pairs--)
        p = take_entry(s, p);
    return p;
}

/* {op, t}: *op is 0 for a message nobody here knows. */
static const uint8_t *take_header(struct pass *s, const uint8_t *p, int *op, struct mj_span *t)
{
    /* What the header of every commit is, byte for byte. */
    static const uint8_t usual[] = "\xa2\x61t\x67#commit\x62op\x01";
    if (s->end - p > 15 && memcmp(p, usual, 15) == 0) {
        *op = 1;
        *t = mj_span(p + 4, 7);
        return p + 15;
    }
    uint64_t pairs;
    bool have_op = false, have_t = false;
    if (p == s->end || *p >> 5 != MJ__MAP)
        return fail(s, MJ_EFRAME);
    p = take_head(s, p, MJ__MAP, &pairs);
    for (; p && pairs > 0; pairs--) {
        struct mj_cbor_head h;
        struct mj_span key;
        if (!(p = take_key(s, p, &key)))
            return NULL;
        struct mj_cbor c = {p, s->end};
        if (!IS(key, "op") && !IS(key, "t")) {
            p = skip_entry(s, p, key);
            continue;
        }
        bool *seen = key.len == 2 ? &have_op : &have_t;
        if (*seen)
            return fail(s, MJ_EKEYDUP);
        *seen = true;
        if ((s->err = mj_cbor_next(&c, &h)))
            return NULL;
        if (h.type != (key.len == 2 ? MJ_CBOR_INT : MJ_CBOR_TEXT))
            return fail(s, MJ_EFIELD);
        if (key.len == 2)
            *op = h.i == 1 || h.i == -1 ? (int)h.i : 0;
        else
            *t = h.s;
        p = c.p;
    }
    return !p || (have_op && (*op != 1 || have_t)) ? p : fail(s, MJ_EFIELD);
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

/* What the four messages about an account have in common, `who` being did or repo. */
static int check_common(const struct payload *p, unsigned who, struct mj_frame *out)
{
    unsigned need = who | SEQ | TIME;
    if ((p->have & need) != need)
        return MJ_EFIELD;
    struct mj_span did = who == REPO ? p->repo : p->did;
    if (!mj_did_valid(did))
        return MJ_EDID;
    out->did = did;
    if (!mj_datetime_valid(p->time))
        return MJ_ETIME;
    out->time = p->time;
    return 0;
}

/* The fields a message needs are there, and those it may have are not of another type. */
static bool has(const struct payload *p, unsigned need, unsigned may)
{
    return (p->have & need) == need && !(p->bad & may);
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
    bool commit = false, many = d->nops > 1;
    int more, err = mj_car_open(&car, p->blocks);
    if (err || ((p->have & COMMIT) && !mj_span_eq(car.root, p->commit)))
        return MJ_ECAR;
    uint64_t root = mj__be64(car.root.ptr + 4);
    struct op *one = d->nops == 1 && d->ops[0].cid.len ? &d->ops[0] : NULL;
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
static int check_op(struct mj_decoder *d, const struct op *op, struct mj_event *ev)
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

static int emit_commit(struct mj_decoder *d, const struct payload *p, struct mj_frame *out,
                       mj_event_fn fn, void *ctx)
{
    int err = check_common(p, REPO, out);
    if (err)
        return err;
    if (p->too_big)
        return MJ_ETOOBIG;
    if (!has(p, REV | OPS | BLOCKS | COMMIT, TOO_BIG) || p->blocks.len == 0)
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
        int reason = d->ops[i].block.len > left ? MJ_ELIMIT : check_op(d, &d->ops[i], &ev);
        if (reason) {
            out->dropped++;
            if (d->on_drop)
                d->on_drop(d->drop_ctx, reason, d->ops[i].path);
            continue;
        }
        left -= ev.record.len;
        out->events++;
        if ((err = fn(ctx, &ev)) < 0)
            return err;
    }
    return 0;
}

static int emit_sync(struct mj_decoder *d, const struct payload *p, struct mj_frame *out)
{
    int err = check_common(p, DID, out);
    if (err)
        return err;
    if (!has(p, REV | BLOCKS, 0))
        return MJ_EFIELD;
    if (!mj_tid_valid(p->rev))
        return MJ_EREV;
    if (p->blocks.len > MJ_BLOCKS_MAX)
        return MJ_ELIMIT;
    d->nops = 0;
    return find_blocks(d, p);
}

static int emit_identity(const struct payload *p, struct mj_frame *out, mj_event_fn fn, void *ctx)
{
    int err = check_common(p, DID, out);
    if (err)
        return err;
    if (!has(p, 0, HANDLE))
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

static int emit_account(const struct payload *p, struct mj_frame *out, mj_event_fn fn, void *ctx)
{
    int err = check_common(p, DID, out);
    if (err)
        return err;
    if (!has(p, ACTIVE, STATUS))
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
    d->nops = 0;
    if (frame.len > MJ_FRAME_MAX)
        return MJ_EBIG;
    if (frame.len == 0)
        return MJ_EFRAME;
    struct pass s = {.end = frame.ptr + frame.len, .d = d};
    struct payload *p = &s.p;
    struct mj_span t = {0};
    int op = 0;
    const uint8_t *at = take_header(&s, frame.ptr, &op, &t);
    if (!at)
        return s.err;
    out->type = frame_type(op, t);
    at = take_payload(&s, at);
    out->seq = p->seq;
    if (!at)
        return s.err;
    if (at != s.end)
        return MJ_EFRAME;
    switch (out->type) {
    case MJ_FRAME_COMMIT:
        return emit_commit(d, p, out, fn, ctx);
    case MJ_FRAME_SYNC:
        return emit_sync(d, p, out);
    case MJ_FRAME_IDENTITY:
        return emit_identity(p, out, fn, ctx);
    case MJ_FRAME_ACCOUNT:
        return emit_account(p, out, fn, ctx);
    case MJ_FRAME_INFO:
        out->name = p->name;
        out->message = p->message;
        return p->have & NAME ? 0 : MJ_EFIELD;
    case MJ_FRAME_ERROR:
        out->name = p->error;
        out->message = p->message;
        return p->have & ERROR ? 0 : MJ_EFIELD;
    default:
        return 0;
    }
}
