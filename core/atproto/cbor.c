#include "atproto/cbor.h"

#include "atproto/cbor_head.h"
#include "atproto/cid.h"
#include "atproto/utf8.h"

int mj__cbor_long_arg(const uint8_t **p, const uint8_t *end, unsigned info, uint64_t *arg)
{
    const uint8_t *at = *p;
    size_t left = (size_t)(end - at);
    uint64_t least;
    if (info > 27)
        return info == 31 ? MJ_EINDEF : MJ_ERESERVED;
    if (left < 1u << (info - 24))
        return MJ_ETRUNC;
    /* Each width must hold something the next smaller one cannot. */
    switch (info) {
    case 24:
        *arg = *at;
        least = 24;
        break;
    case 25:
        *arg = mj__be16(at);
        least = 1u << 8;
        break;
    case 26:
        *arg = mj__be32(at);
        least = 1u << 16;
        break;
    default:
        *arg = mj__be64(at);
        least = 1ull << 32;
    }
    *p = at + (1u << (info - 24));
    return *arg >= least ? 0 : MJ_EMINIMAL;
}

int mj__cbor_simple_error(const uint8_t *p, const uint8_t *end, unsigned info)
{
    if (info >= 25 && info <= 27)
        return end - p < 1 << (info - 24) ? MJ_ETRUNC : MJ_EFLOAT;
    if (info == 24)
        return p == end ? MJ_ETRUNC : MJ_ESIMPLE;
    if (info == 31)
        return MJ_EINDEF;
    return info > 27 ? MJ_ERESERVED : MJ_ESIMPLE;
}

int mj__cbor_link_error(const uint8_t *p, const uint8_t *end)
{
    unsigned major;
    uint64_t arg;
    int err = mj__cbor_head(&p, end, &major, &arg);
    if (err)
        return err;
    return major == MJ__BYTES && arg > (size_t)(end - p) ? MJ_ETRUNC : MJ_ECID;
}

int mj_cbor_next(struct mj_cbor *c, struct mj_cbor_head *out)
{
    unsigned major;
    uint64_t arg;
    int err = mj__cbor_head(&c->p, c->end, &major, &arg);
    if (err)
        return err;
    size_t left = (size_t)(c->end - c->p);
    const uint8_t *cid;
    switch (major) {
    case MJ__UINT:
    case MJ__NEGINT:
        if (arg > INT64_MAX)
            return MJ_EINT;
        out->type = MJ_CBOR_INT;
        out->i = major == MJ__UINT ? (int64_t)arg : -1 - (int64_t)arg;
        return 0;
    case MJ__BYTES:
    case MJ__TEXT:
        if (arg > left)
            return MJ_ETRUNC;
        out->type = major == MJ__TEXT ? MJ_CBOR_TEXT : MJ_CBOR_BYTES;
        out->s = mj_span(c->p, (size_t)arg);
        c->p += arg;
        return major == MJ__TEXT && !mj_utf8_valid(out->s) ? MJ_EUTF8 : 0;
    case MJ__ARRAY:
        /* Every item takes a byte, every pair two: a count that cannot fit is a truncation, known
         * before anybody reserves anything for it. */
        out->type = MJ_CBOR_ARRAY;
        out->n = arg;
        return arg > left ? MJ_ETRUNC : 0;
    case MJ__MAP:
        out->type = MJ_CBOR_MAP;
        out->n = arg;
        return arg > left / 2 ? MJ_ETRUNC : 0;
    case MJ__TAG:
        if (arg != 42)
            return MJ_ETAG;
        err = mj__cbor_link(&c->p, c->end, &cid);
        if (err)
            return err;
        out->type = MJ_CBOR_LINK;
        out->s = mj_span(cid, MJ_CID_LEN);
        return 0;
    default:
        if (arg == 22) {
            out->type = MJ_CBOR_NULL;
            return 0;
        }
        if (arg != 20 && arg != 21)
            return mj__cbor_simple_error(c->p, c->end, (unsigned)arg);
        out->type = MJ_CBOR_BOOL;
        out->i = arg == 21;
        return 0;
    }
}

/* One item with its children. `order` adds the rule that keys ascend. Recursion is bounded by
 * MJ_CBOR_DEPTH_MAX, and its frame is small. */
static int walk(struct mj_cbor *c, unsigned depth, bool order)
{
    struct mj_cbor_head h, k;
    int err = mj_cbor_next(c, &h);
    if (err || (h.type != MJ_CBOR_ARRAY && h.type != MJ_CBOR_MAP))
        return err;
    if (depth == MJ_CBOR_DEPTH_MAX)
        return MJ_EDEPTH;
    struct mj_span last = {0};
    for (uint64_t i = 0; i < h.n; i++) {
        if (h.type == MJ_CBOR_MAP) {
            if (c->p < c->end && *c->p >> 5 != MJ__TEXT)
                return MJ_EKEYTYPE;
            if ((err = mj_cbor_next(c, &k)))
                return err;
            int cmp = i && order ? mj__cbor_key_cmp(last, k.s) : -1;
            if (cmp >= 0)
                return cmp ? MJ_EKEYORDER : MJ_EKEYDUP;
            last = k.s;
        }
        if ((err = walk(c, depth + 1, order)))
            return err;
    }
    return 0;
}

int mj_cbor_skip(struct mj_cbor *c) { return walk(c, 0, false); }

/* Only lengths and counts matter to step over what is known to be sound; `left` is how many items
 * are still to come at all levels together. */
int mj_cbor_skip_checked(struct mj_cbor *c)
{
    for (uint64_t left = 1; left; left--) {
        unsigned major;
        uint64_t arg;
        int err = mj__cbor_head(&c->p, c->end, &major, &arg);
        if (err)
            return err;
        switch (major) {
        case MJ__BYTES:
        case MJ__TEXT:
            if (arg > (size_t)(c->end - c->p))
                return MJ_ETRUNC;
            c->p += arg;
            break;
        case MJ__ARRAY:
        case MJ__MAP:
            if (arg > (size_t)(c->end - c->p))
                return MJ_ETRUNC;
            left += major == MJ__MAP ? 2 * arg : arg;
            break;
        case MJ__TAG:
            left++;
            break;
        default:
            break;
        }
    }
    return 0;
}

/* Key of a checked map: its bytes, without looking at them. */
static int next_key(struct mj_cbor *c, struct mj_span *key)
{
    unsigned major;
    uint64_t len;
    if (mj__cbor_head(&c->p, c->end, &major, &len) || major != MJ__TEXT ||
        len > (size_t)(c->end - c->p))
        return MJ_ETYPE;
    *key = mj_span(c->p, (size_t)len);
    c->p += len;
    return 0;
}

int mj_cbor_check(struct mj_span in)
{
    struct mj_cbor c = mj_cbor(in);
    int err = walk(&c, 0, true);
    return err ? err : c.p < c.end ? MJ_ETRAILING : 0;
}

int mj_cbor_map_get(struct mj_span map, struct mj_span key, struct mj_span *value)
{
    struct mj_cbor c = mj_cbor(map);
    struct mj_cbor_head h;
    struct mj_span k;
    if (mj_cbor_next(&c, &h) || h.type != MJ_CBOR_MAP)
        return MJ_ETYPE;
    for (uint64_t i = 0; i < h.n; i++) {
        if (next_key(&c, &k))
            return MJ_ETYPE;
        int cmp = mj__cbor_key_cmp(k, key);
        if (cmp == 0) {
            *value = mj_span(c.p, (size_t)(c.end - c.p));
            return 0;
        }
        if (cmp > 0) /* keys ascend: it cannot come any more */
            return MJ_ENOENT;
        if (mj_cbor_skip_checked(&c))
            return MJ_ETYPE;
    }
    return MJ_ENOENT;
}

static void put_head(struct mj_buf *b, unsigned major, uint64_t arg)
{
    uint8_t h[9];
    size_t n = 1;
    h[0] = (uint8_t)(major << 5);
    if (arg < 24) {
        h[0] |= (uint8_t)arg;
    } else {
        unsigned log = arg < 1u << 8 ? 0 : arg < 1u << 16 ? 1 : arg < 1ull << 32 ? 2 : 3;
        h[0] |= (uint8_t)(24 + log);
        n += (size_t)1 << log;
        for (size_t i = n - 1; i > 0; i--, arg >>= 8)
            h[i] = (uint8_t)arg;
    }
    mj_buf_put(b, h, n);
}

void mj_cbor_put_int(struct mj_buf *b, int64_t v)
{
    if (v >= 0)
        put_head(b, MJ__UINT, (uint64_t)v);
    else
        put_head(b, MJ__NEGINT, (uint64_t)(-1 - v));
}

void mj_cbor_put_bytes(struct mj_buf *b, struct mj_span s)
{
    put_head(b, MJ__BYTES, s.len);
    mj_buf_put(b, s.ptr, s.len);
}

void mj_cbor_put_text(struct mj_buf *b, struct mj_span s)
{
    put_head(b, MJ__TEXT, s.len);
    mj_buf_put(b, s.ptr, s.len);
}

void mj_cbor_put_array(struct mj_buf *b, uint64_t n) { put_head(b, MJ__ARRAY, n); }
void mj_cbor_put_map(struct mj_buf *b, uint64_t n) { put_head(b, MJ__MAP, n); }

void mj_cbor_put_link(struct mj_buf *b, struct mj_span cid)
{
    put_head(b, MJ__TAG, 42);
    put_head(b, MJ__BYTES, cid.len + 1);
    mj_buf_putc(b, 0);
    mj_buf_put(b, cid.ptr, cid.len);
}

void mj_cbor_put_bool(struct mj_buf *b, bool v) { mj_buf_putc(b, (char)(v ? 0xf5 : 0xf4)); }
void mj_cbor_put_null(struct mj_buf *b) { mj_buf_putc(b, (char)0xf6); }
