/* CBOR to JSON in one pass over the input. Entries of a map are printed in the order they come and
 * put in JSON's order afterwards, when that differs: copying a few hundred printed bytes is cheaper
 * than finding the entries first.
 *
 *   CBOR order   {"text":"…","$type":"…","createdAt":"…"}        shorter keys first
 *   free room                                             "$type":"…","createdAt":"…","text":"…"
 *   copied back  {"$type":"…","createdAt":"…","text":"…"}        bytewise by the escaped key */
#include "atproto/cbor.h"
#include "atproto/cbor_head.h"
#include "event/jetstream.h"
#include "event/json_out.h"
#include "event/shape.h"

/* An entry of the map being printed, "key":value without the comma. */
struct entry {
    uint64_t key;        /* the first eight bytes behind the opening quote, to compare at once */
    uint32_t start, end; /* offsets from the map's brace */
};

#define ENTRIES_INLINE 32
#define INPUT_MAX      (64u << 20) /* keeps offsets in 32 bits: no input byte prints more than 15 */

int mj__out_grow(struct mj__out *o, size_t n)
{
    size_t used = o->buf->ptr ? (size_t)(o->w - o->buf->ptr) : 0;
    int err = mj_buf_try_reserve(o->buf, used - o->buf->len + n + MJ__SLACK);
    if (err)
        return err;
    o->w = o->buf->ptr + used;
    o->end = o->buf->ptr + o->buf->cap;
    return 0;
}

void mj__out_int(struct mj__out *o, int64_t v)
{
    static const char pairs[] = "0001020304050607080910111213141516171819202122232425262728293031"
                                "3233343536373839404142434445464748495051525354555657585960616263"
                                "6465666768697071727374757677787980818283848586878889909192939495"
                                "96979899";
    uint8_t digits[20], *p = digits + sizeof digits;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    while (u >= 10000) {
        unsigned low = (unsigned)(u % 10000);
        p -= 4;
        memcpy(p, pairs + low / 100 * 2, 2);
        memcpy(p + 2, pairs + low % 100 * 2, 2);
        u /= 10000;
    }
    unsigned rest = (unsigned)u;
    for (; rest >= 10; rest /= 100) {
        p -= 2;
        memcpy(p, pairs + rest % 100 * 2, 2);
    }
    if (rest || p == digits + sizeof digits)
        *--p = (uint8_t)('0' + rest);
    if (v < 0)
        *o->w++ = '-';
    size_t n = (size_t)(digits + sizeof digits - p);
    memcpy(o->w, p, n);
    o->w += n;
}

int mj__out_escape(uint8_t **out, const uint8_t **in, const uint8_t *end)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t *w = *out;
    const uint8_t *p = *in;
    uint8_t c = *p;
    if (c >= 0x80) {
        do {
            unsigned n = mj_utf8_len(p, end);
            if (!n)
                return MJ_EUTF8;
            /* U+2028 and U+2029 end a line in JavaScript, so Go escapes them. */
            if (n == 3 && p[0] == 0xe2 && p[1] == 0x80 && (p[2] & 0xfe) == 0xa8) {
                memcpy(w, p[2] == 0xa8 ? "\\u2028" : "\\u2029", 6);
                w += 6;
            } else {
                for (unsigned i = 0; i < n; i++)
                    w[i] = p[i];
                w += n;
            }
            p += n;
        } while (p < end && *p >= 0x80);
    } else {
        p++;
        *w++ = '\\';
        if (c == '"' || c == '\\') {
            *w++ = c;
        } else if (c == '\n' || c == '\r' || c == '\t') {
            *w++ = c == '\n' ? 'n' : c == '\r' ? 'r' : 't';
        } else {
            memcpy(w, "u00", 3);
            w[3] = (uint8_t)hex[c >> 4];
            w[4] = (uint8_t)hex[c & 15];
            w += 5;
        }
    }
    *out = w;
    *in = p;
    return 0;
}

int mj__out_link(struct mj__out *o, const uint8_t cid[MJ_CID_LEN])
{
    int err = mj__out_room(o, MJ_CID_TEXT_LEN + 16);
    if (err)
        return err;
    MJ__PUT(o, "{\"$link\":\"");
    o->w += mj_cid_text(mj_span(cid, MJ_CID_LEN), (char *)o->w);
    MJ__PUT(o, "\"}");
    return 0;
}

int mj__out_bytes(struct mj__out *o, struct mj_span s)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    int err = mj__out_room(o, s.len / 3 * 4 + 4 + 16);
    if (err)
        return err;
    MJ__PUT(o, "{\"$bytes\":\"");
    const uint8_t *p = s.ptr, *end = s.ptr + s.len;
    uint8_t *w = o->w;
    for (; end - p >= 3; p += 3, w += 4) {
        uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        w[0] = (uint8_t)alphabet[v >> 18];
        w[1] = (uint8_t)alphabet[v >> 12 & 63];
        w[2] = (uint8_t)alphabet[v >> 6 & 63];
        w[3] = (uint8_t)alphabet[v & 63];
    }
    if (p < end) {
        uint32_t v = (uint32_t)p[0] << 16 | (end - p == 2 ? (uint32_t)p[1] << 8 : 0);
        *w++ = (uint8_t)alphabet[v >> 18];
        *w++ = (uint8_t)alphabet[v >> 12 & 63];
        if (end - p == 2)
            *w++ = (uint8_t)alphabet[v >> 6 & 63];
    }
    o->w = w;
    MJ__PUT(o, "\"}");
    return 0;
}

/* Copies n bytes in steps of 16: up to 15 bytes behind either end are touched, which the slack
 * covers, and no call is made for what is usually short. */
static inline void copy_stepwise(uint8_t *to, const uint8_t *from, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        uint8_t step[16];
        memcpy(step, from + i, 16);
        memcpy(to + i, step, 16);
    }
}

/* Order of two entries by their escaped, quoted keys. The closing quote makes no key a prefix of
 * another, so a difference comes before the shorter one ends. */
static int entry_cmp(const struct entry *a, const struct entry *b, const uint8_t *brace)
{
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    size_t n = a->end - a->start, m = b->end - b->start;
    return memcmp(brace + a->start, brace + b->start, n < m ? n : m);
}

static int entry_cmp_r(const void *a, const void *b, void *brace) { return entry_cmp(a, b, brace); }

/* Puts the n printed entries of the map whose brace is at offset `at` in order. */
static int arrange(struct mj__out *o, size_t at, struct entry *e, uint32_t n, bool blob)
{
    uint8_t *brace = o->buf->ptr + at;
    size_t size = (size_t)(o->w - brace) - 1;
    int err = mj__out_room(o, size);
    if (err)
        return err;
    brace = o->buf->ptr + at;
    if (blob) { /* ref, size, $type, mimeType → $type, ref, mimeType, size */
        struct entry ref = e[0], length = e[1];
        e[0] = e[2];
        e[1] = ref;
        e[2] = e[3];
        e[3] = length;
    } else if (n <= ENTRIES_INLINE) {
        for (uint32_t i = 1; i < n; i++) {
            struct entry x = e[i];
            uint32_t j = i;
            for (; j > 0 && entry_cmp(&x, &e[j - 1], brace) < 0; j--)
                e[j] = e[j - 1];
            e[j] = x;
        }
    } else {
        qsort_r(e, n, sizeof *e, entry_cmp_r, brace);
    }
    uint8_t *w = o->w;
    for (uint32_t i = 0; i < n; i++) {
        size_t len = e[i].end - e[i].start;
        copy_stepwise(w, brace + e[i].start, len);
        w += len;
        *w++ = ',';
    }
    /* The last comma is one byte more than there is to copy back. */
    memcpy(brace + 1, o->w, size);
    return 0;
}

/* One pass over the input. Each function takes where its part starts and returns where it ends, or
 * NULL with the reason in `err`: positions then travel in registers. */
struct pass {
    struct mj__out out;
    const uint8_t *end;   /* of the input */
    int err;              /* valid once something has returned NULL */
    enum mj__shape shape; /* of the map printed last */
    size_t weight;        /* what the maps may still weigh */
};

static const uint8_t *fail(struct pass *s, int err)
{
    s->err = err;
    return NULL;
}

static const uint8_t *value(struct pass *s, const uint8_t *p, unsigned depth);

/* Reads the head of a text item and makes sure that its bytes are there; the short form first.
 * NULL with err MJ_ETYPE when it is another item. */
static inline __attribute__((always_inline)) const uint8_t *text_head(struct pass *s,
                                                                      const uint8_t *p, size_t *n)
{
    unsigned major;
    uint64_t long_n;
    if (MJ_UNLIKELY(p == s->end))
        return fail(s, MJ_ETRUNC);
    if (MJ_LIKELY(*p - (unsigned)(MJ__TEXT << 5) < 24)) {
        *n = *p++ & 31;
    } else {
        if (*p >> 5 != MJ__TEXT)
            return fail(s, MJ_ETYPE);
        int err = mj__cbor_head(&p, s->end, &major, &long_n);
        if (MJ_UNLIKELY(err))
            return fail(s, err);
        *n = (size_t)long_n;
    }
    return MJ_LIKELY(*n <= (size_t)(s->end - p)) ? p : fail(s, MJ_ETRUNC);
}

/* A text item; NULL with err MJ_ETYPE when it is another. */
static inline __attribute__((always_inline)) const uint8_t *text(struct pass *s, const uint8_t *p)
{
    size_t n;
    p = text_head(s, p, &n);
    if (!p)
        return NULL;
    int err = mj__out_text(&s->out, mj_span(p, n), s->end);
    return MJ_LIKELY(!err) ? p + n : fail(s, err);
}

static const uint8_t *array(struct pass *s, const uint8_t *p, unsigned depth, uint64_t count)
{
    int err;
    if (depth == MJ_CBOR_DEPTH_MAX)
        return fail(s, MJ_EDEPTH);
    if (count > (size_t)(s->end - p))
        return fail(s, MJ_ETRUNC);
    if (count > MJ__CONTAINER_MAX)
        return fail(s, MJ_ELIMIT);
    *s->out.w++ = '[';
    for (uint64_t i = 0; i < count; i++) {
        if (i)
            *s->out.w++ = ',';
        if (!(p = value(s, p, depth + 1)))
            return NULL;
    }
    /* Brackets that close one another add up, so each makes sure of its room. */
    if ((err = mj__out_room(&s->out, 0)))
        return fail(s, err);
    *s->out.w++ = ']';
    return p;
}

static inline const uint8_t *entries(struct pass *s, const uint8_t *p, unsigned depth,
                                     uint64_t count, struct entry *e)
{
    struct mj__out *o = &s->out;
    const uint8_t *end = s->end;
    struct mj__map map = {p, count, MJ__PLAIN};
    size_t at = (size_t)(o->w - o->buf->ptr);
    struct mj_span last = {0};
    uint64_t last_key = 0;
    bool sorted = true;
    int err;
    *o->w++ = '{';
    for (uint64_t i = 0; i < count; i++) {
        size_t n;
        p = text_head(s, p, &n);
        if (MJ_UNLIKELY(!p))
            return fail(s, s->err == MJ_ETYPE ? MJ_EKEYTYPE : s->err);
        if (MJ_UNLIKELY(n > MJ__KEY_MAX))
            return fail(s, MJ_ELIMIT);
        struct mj_span key = mj_span(p, n);
        p += n;
        if (i) {
            if (key.len <= last.len) {
                int cmp = mj__cbor_key_cmp(last, key);
                if (MJ_UNLIKELY(cmp >= 0))
                    return fail(s, cmp ? MJ_EKEYORDER : MJ_EKEYDUP);
            }
            *o->w++ = ',';
        }
        last = key;
        size_t start = (size_t)(o->w - o->buf->ptr);
        if (MJ_UNLIKELY((err = mj__out_text(o, key, end))))
            return fail(s, err);
        *o->w++ = ':';
        /* Short keys leave bytes of nothing yet behind them: give those a value. */
        memset(o->w, 0, 8);
        e[i].key = mj__be64(o->buf->ptr + start + 1);
        e[i].start = (uint32_t)(start - at);
        if (mj__shape_asks(&map, i, key) && (err = mj__shape_key(&map, i, key, p, end)))
            return fail(s, err);
        const uint8_t *next = text(s, p);
        if (!next && (s->err != MJ_ETYPE || !(next = value(s, p, depth + 1))))
            return NULL;
        p = next;
        e[i].end = (uint32_t)((size_t)(o->w - o->buf->ptr) - at);
        if (i && e[i].key <= last_key)
            sorted = sorted && entry_cmp(&e[i - 1], &e[i], o->buf->ptr + at) < 0;
        last_key = e[i].key;
    }
    s->shape = map.shape;
    size_t size = (size_t)(p - map.first);
    if (MJ_UNLIKELY(size > s->weight))
        return fail(s, MJ_EDEPTH);
    s->weight -= size;
    if (!sorted || map.shape == MJ__BLOB) {
        err = arrange(o, at, e, (uint32_t)count, map.shape == MJ__BLOB);
        if (err)
            return fail(s, err);
    }
    if ((err = mj__out_room(o, 0)))
        return fail(s, err);
    *o->w++ = '}';
    return p;
}

static const uint8_t *map(struct pass *s, const uint8_t *p, unsigned depth, uint64_t count)
{
    struct entry few[ENTRIES_INLINE];
    if (depth == MJ_CBOR_DEPTH_MAX)
        return fail(s, MJ_EDEPTH);
    if (count > (size_t)(s->end - p) / 2)
        return fail(s, MJ_ETRUNC);
    if (count > MJ__CONTAINER_MAX)
        return fail(s, MJ_ELIMIT);
    struct entry *many = NULL;
    if (MJ_UNLIKELY(count > ENTRIES_INLINE) && !(many = malloc(count * sizeof *many)))
        return fail(s, MJ_ENOMEM);
    p = entries(s, p, depth, count, many ? many : few);
    free(many);
    return p;
}

static const uint8_t *scalar(struct pass *s, const uint8_t *p, unsigned major, uint64_t arg)
{
    struct mj__out *o = &s->out;
    const uint8_t *cid;
    int err;
    switch (major) {
    case MJ__UINT:
    case MJ__NEGINT:
        if (arg > INT64_MAX)
            return fail(s, MJ_EINT);
        mj__out_int(o, major == MJ__UINT ? (int64_t)arg : -1 - (int64_t)arg);
        return p;
    case MJ__BYTES:
        if (arg > (size_t)(s->end - p))
            return fail(s, MJ_ETRUNC);
        err = mj__out_bytes(o, mj_span(p, (size_t)arg));
        return err ? fail(s, err) : p + arg;
    case MJ__TAG:
        if (arg != 42)
            return fail(s, MJ_ETAG);
        if ((err = mj__cbor_link(&p, s->end, &cid)) || (err = mj__out_link(o, cid)))
            return fail(s, err);
        return p;
    default:
        if (arg == 20)
            MJ__PUT(o, "false");
        else if (arg == 21)
            MJ__PUT(o, "true");
        else if (arg == 22)
            MJ__PUT(o, "null");
        else
            return fail(s, mj__cbor_simple_error(p, s->end, (unsigned)arg));
        return p;
    }
}

static const uint8_t *value(struct pass *s, const uint8_t *p, unsigned depth)
{
    const uint8_t *next = text(s, p);
    if (next || s->err != MJ_ETYPE)
        return next;
    unsigned major;
    uint64_t arg;
    int err = mj__cbor_head(&p, s->end, &major, &arg);
    if (MJ_UNLIKELY(err))
        return fail(s, err);
    if (MJ_UNLIKELY((err = mj__out_room(&s->out, 0))))
        return fail(s, err);
    if (major == MJ__MAP)
        return map(s, p, depth, arg);
    if (major == MJ__ARRAY)
        return array(s, p, depth, arg);
    return scalar(s, p, major, arg);
}

int mj__out_value(struct mj__out *o, struct mj_span in, bool record)
{
    if (in.len == 0)
        return MJ_ETRUNC;
    struct pass s = {.out = *o, .end = in.ptr + in.len, .weight = mj__weight_max(in.len)};
    if (record && in.ptr[0] >> 5 != MJ__MAP)
        return MJ_ERECORD;
    if (in.len > INPUT_MAX)
        return MJ_ELIMIT;
    const uint8_t *p = value(&s, in.ptr, 0);
    if (!p)
        return s.err;
    *o = s.out;
    if (p != s.end)
        return MJ_ETRAILING;
    return record && s.shape != MJ__PLAIN ? MJ_ERECORD : 0;
}

int mj_json_from_cbor(struct mj_span item, struct mj_buf *out)
{
    struct mj__out o;
    int err = mj__out_begin(&o, out);
    if (err || (err = mj__out_value(&o, item, false)))
        return err;
    mj__out_commit(&o);
    return 0;
}
