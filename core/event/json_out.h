/* Writing JSON into a buffer with room reserved once per value instead of per byte. Internal to the
 * event room: json.c (values) and jetstream.c (the envelope around them).
 *
 * Invariant: between two values there are at least MJ__SLACK free bytes, enough for punctuation
 * and for the 16-byte stores that copy text. Nothing is visible in the buffer until
 * mj__out_commit(), so a failure needs no undoing. */
#pragma once

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "atproto/cid.h"
#include "atproto/utf8.h"
#include "base/bytes.h"
#include "base/err.h"

#define MJ__SLACK 64

struct mj__out {
    uint8_t *w, *end;   /* borrowed from buf: where the next byte goes, end of the room */
    struct mj_buf *buf; /* borrowed */
};

int mj__out_grow(struct mj__out *o, size_t n);

/* Makes sure that n bytes and the slack fit. 0 or MJ_ENOMEM; pointers into the buffer move. */
static inline int mj__out_room(struct mj__out *o, size_t n)
{
    return MJ_LIKELY((size_t)(o->end - o->w) >= n + MJ__SLACK) ? 0 : mj__out_grow(o, n);
}

static inline int mj__out_begin(struct mj__out *o, struct mj_buf *buf)
{
    o->buf = buf;
    o->w = buf->ptr ? buf->ptr + buf->len : NULL;
    o->end = buf->ptr ? buf->ptr + buf->cap : NULL;
    return mj__out_room(o, 0);
}

static inline void mj__out_commit(struct mj__out *o) { o->buf->len = (size_t)(o->w - o->buf->ptr); }

/* A short literal; room must be there. */
#define MJ__PUT(o, lit) (memcpy((o)->w, lit, sizeof(lit) - 1), (o)->w += sizeof(lit) - 1)

/* Decimal digits; needs 20 bytes of room. */
void mj__out_int(struct mj__out *o, int64_t v);
/* {"$link":"b…"} */
int mj__out_link(struct mj__out *o, const uint8_t cid[MJ_CID_LEN]);
/* {"$bytes":"…"}, standard alphabet, no padding */
int mj__out_bytes(struct mj__out *o, struct mj_span s);

/* `in`, exactly one CBOR item, as JSON. `record`: it is a whole record, so a map that is no blob,
 * link or bytes. Every rule of spec/firehose.md §5 is applied on the way. After an error *o is of
 * no further use. */
int mj__out_value(struct mj__out *o, struct mj_span in, bool record);

/* Writes what stands for the byte at *p, which is one that cannot be copied as it is, and for a
 * whole run of non-ASCII behind it. 0 or MJ_EUTF8. */
int mj__out_escape(uint8_t **w, const uint8_t **p, const uint8_t *end);

#if defined(__SSE2__)
/* Bit per byte that needs a look: control, non-ASCII (both negative or below 0x20 as signed), and
 * " & < > \. The two ors fold 22 with 26 and 3c with 3e. */
static inline unsigned mj__text_special(__m128i v)
{
    __m128i a = _mm_cmplt_epi8(v, _mm_set1_epi8(0x20));
    __m128i b = _mm_cmpeq_epi8(_mm_or_si128(v, _mm_set1_epi8(4)), _mm_set1_epi8('&'));
    __m128i c = _mm_cmpeq_epi8(_mm_or_si128(v, _mm_set1_epi8(2)), _mm_set1_epi8('>'));
    __m128i d = _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d)));
}

/* The n < 16 bytes at p, zeroes behind them, without reading past them: two loads that overlap. */
static inline __m128i mj__text_tail(const uint8_t *p, size_t n)
{
    uint64_t low = 0, high = 0;
    if (n > 8) {
        memcpy(&low, p, 8);
        memcpy(&high, p + n - 8, 8);
        high >>= 8 * (16 - n);
    } else if (n >= 4) {
        uint32_t a, b;
        memcpy(&a, p, 4);
        memcpy(&b, p + n - 4, 4);
        low = a | (uint64_t)b >> 8 * (8 - n) << 32;
    } else if (n) {
        low =
            (uint64_t)p[0] | (uint64_t)p[n / 2] << 8 * (n / 2) | (uint64_t)p[n - 1] << 8 * (n - 1);
    }
    return _mm_set_epi64x((long long)high, (long long)low);
}
#else
static inline bool mj__text_plain(uint8_t c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '&' && c != '<' && c != '>' && c != '\\';
}
#endif

/* Appends s as a quoted JSON string with Go's escapes, checking its UTF-8. `in_end` is the end of
 * the memory s lies in: up to there the 16-byte loads may look. 0, MJ_EUTF8 or MJ_ENOMEM. */
static inline __attribute__((always_inline)) int mj__out_text(struct mj__out *o, struct mj_span s,
                                                              const uint8_t *in_end)
{
    int err = mj__out_room(o, s.len * 6); /* six is what the longest escape takes */
    if (MJ_UNLIKELY(err))
        return err;
    const uint8_t *p = s.ptr, *end = s.ptr + s.len;
    uint8_t *w = o->w;
    *w++ = '"';
#if defined(__SSE2__)
    for (;;) {
        size_t n = (size_t)(end - p);
        /* Fewer than 16 bytes to in_end mean fewer than 16 to end. */
        __m128i v =
            MJ_LIKELY(in_end - p >= 16) ? _mm_loadu_si128((const __m128i *)p) : mj__text_tail(p, n);
        _mm_storeu_si128((__m128i *)w, v);
        unsigned stop = mj__text_special(v);
        if (n < 16)
            stop |= 1u << n;
        else if (!stop) {
            p += 16;
            w += 16;
            continue;
        }
        unsigned plain = (unsigned)__builtin_ctz(stop);
        p += plain;
        w += plain;
        if (p == end)
            break;
        /* Copies again, to keep w and p in registers everywhere else. */
        uint8_t *escaped = w;
        const uint8_t *rest = p;
        if (MJ_UNLIKELY((err = mj__out_escape(&escaped, &rest, end))))
            return err;
        w = escaped;
        p = rest;
    }
#else
    (void)in_end;
    while (p < end) {
        if (mj__text_plain(*p))
            *w++ = *p++;
        else if ((err = mj__out_escape(&w, &p, end)))
            return err;
    }
#endif
    *w++ = '"';
    o->w = w;
    return 0;
}
