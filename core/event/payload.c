#include "event/payload.h"

#include "atproto/cbor.h"
#include "atproto/cbor_head.h"
#include "atproto/utf8.h"

/* A pass over header and payload. Each function takes where its part starts and returns where it
 * ends, or NULL with the reason in `err`: positions then travel in registers. */
struct pass {
    const uint8_t *end;    /* of the frame */
    int err;               /* valid once something has returned NULL */
    struct mj__payload *p; /* borrowed */
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
    if (MJ_UNLIKELY(s->p->seen & bit)) {
        s->err = MJ_EKEYDUP;
        return true;
    }
    s->p->seen |= bit;
    return false;
}

/* A known field's value of another type than it should have: null counts as absent. */
static const uint8_t *take_other(struct pass *s, const uint8_t *p, unsigned bit)
{
    if (p < s->end && *p != 0xf6)
        s->p->bad |= bit;
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
    s->p->have |= bit;
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
    s->p->have |= bit;
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
    if (again(s, MJ__COMMIT))
        return NULL;
    if (p == s->end || *p != 0xd8)
        return take_other(s, p, MJ__COMMIT);
    s->p->have |= MJ__COMMIT;
    return take_link(s, p, &s->p->commit);
}

static const uint8_t *take_seq(struct pass *s, const uint8_t *p)
{
    uint64_t n;
    if (again(s, MJ__SEQ))
        return NULL;
    if (p == s->end || *p >> 5 != MJ__UINT)
        return take_other(s, p, MJ__SEQ);
    p = take_head(s, p, MJ__UINT, &n);
    if (p && n >= 1 && n <= MJ__SEQ_MAX) {
        s->p->seq = (int64_t)n;
        s->p->have |= MJ__SEQ;
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
static const uint8_t *take_op(struct pass *s, const uint8_t *p, struct mj__op *op)
{
    enum { ACTION = 1, PATH = 2, CID = 4 };
    unsigned seen = 0, bit;
    uint64_t pairs;
    *op = (struct mj__op){.action = MJ_OP_NONE};
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
    if (again(s, MJ__OPS))
        return NULL;
    if (p == s->end || *p >> 5 != MJ__ARRAY)
        return take_other(s, p, MJ__OPS);
    s->p->have |= MJ__OPS;
    const uint8_t *first = take_head(s, p, MJ__ARRAY, &count);
    if (!first)
        return NULL;
    if (count > MJ_OPS_MAX) {
        s->p->nops = MJ_OPS_MAX + 1;
        return skip_value(s, p);
    }
    s->p->nops = (unsigned)count;
    p = first;
    for (unsigned i = 0; i < count && p; i++)
        p = take_op(s, p, &s->p->ops[i]);
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
    struct mj__payload *out = s->p;
    struct mj_span key;
    if (!(p = take_key(s, p, &key)))
        return NULL;
    uint64_t word = word_of(key, s->end);
    switch (word) {
    case WORD(3, 'd', 'i', 'd', 0, 0, 0, 0):
        return take_syntax(s, p, MJ__DID, &out->did);
    case WORD(3, 'o', 'p', 's', 0, 0, 0, 0):
        return take_ops(s, p);
    case WORD(3, 'r', 'e', 'v', 0, 0, 0, 0):
        return take_syntax(s, p, MJ__REV, &out->rev);
    case WORD(3, 's', 'e', 'q', 0, 0, 0, 0):
        return take_seq(s, p);
    case WORD(4, 'r', 'e', 'p', 'o', 0, 0, 0):
        return take_syntax(s, p, MJ__REPO, &out->repo);
    case WORD(4, 't', 'i', 'm', 'e', 0, 0, 0):
        return take_syntax(s, p, MJ__TIME, &out->time);
    case WORD(4, 'n', 'a', 'm', 'e', 0, 0, 0):
        return take_text(s, p, MJ__NAME, &out->name);
    case WORD(5, 'e', 'r', 'r', 'o', 'r', 0, 0):
        return take_text(s, p, MJ__ERROR, &out->error);
    case WORD(6, 'b', 'l', 'o', 'c', 'k', 's', 0):
        return take_string(s, p, MJ__BLOCKS, MJ__BYTES, false, &out->blocks);
    case WORD(6, 'c', 'o', 'm', 'm', 'i', 't', 0):
        return take_commit(s, p);
    case WORD(6, 't', 'o', 'o', 'B', 'i', 'g', 0):
        return take_bool(s, p, MJ__TOO_BIG, &out->too_big);
    case WORD(6, 'a', 'c', 't', 'i', 'v', 'e', 0):
        return take_bool(s, p, MJ__ACTIVE, &out->active);
    case WORD(6, 's', 't', 'a', 't', 'u', 's', 0):
        return take_text(s, p, MJ__STATUS, &out->status);
    case WORD(6, 'h', 'a', 'n', 'd', 'l', 'e', 0):
        return take_text(s, p, MJ__HANDLE, &out->handle);
    case WORD(7, 'm', 'e', 's', 's', 'a', 'g', 'e'):
        return take_text(s, p, MJ__MESSAGE, &out->message);
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

int mj__payload_read(struct mj_span frame, struct mj__payload *p, int *op, struct mj_span *t)
{
    struct pass s = {.end = frame.ptr + frame.len, .p = p};
    const uint8_t *at = take_header(&s, frame.ptr, op, t);
    if (at)
        at = take_payload(&s, at);
    if (!at)
        return s.err;
    return at == s.end ? 0 : MJ_EFRAME;
}
