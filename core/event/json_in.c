#include "event/json_in.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "atproto/cbor.h"
#include "atproto/cid.h"
#include "atproto/load.h"
#include "atproto/utf8.h"
#include "event/shape.h"

/* ---- texts ---- */

/* The first byte from p on that is no plain ASCII: a quote, a backslash, a control or a byte above
 * 0x7f; or the end. */
static inline const uint8_t *plain(const uint8_t *p, const uint8_t *end)
{
#if defined(__SSE2__)
    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)p);
        __m128i odd = _mm_or_si128(_mm_cmplt_epi8(v, _mm_set1_epi8(0x20)),
                                   _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')),
                                                _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'))));
        unsigned stop = (unsigned)_mm_movemask_epi8(odd);
        if (stop)
            return p + __builtin_ctz(stop);
    }
#endif
    while (p < end && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\')
        p++;
    return p;
}

/* From behind the opening quote to the closing one; whether there were escapes, which are only
 * stepped over. */
static inline __attribute__((always_inline)) const uint8_t *closing(struct mj__in *in,
                                                                    const uint8_t *p, bool *escapes)
{
    *escapes = false;
    for (;;) {
        p = plain(p, in->end);
        if (MJ_UNLIKELY(p == in->end))
            return mj__in_fail(in, p, MJ_ESYNTAX);
        if (MJ_LIKELY(*p == '"'))
            return p;
        if (*p >= 0x80) {
            unsigned n = mj_utf8_len(p, in->end);
            if (MJ_UNLIKELY(!n))
                return mj__in_fail(in, p, MJ_EUTF8);
            p += n;
        } else if (*p == '\\' && in->end - p >= 2) {
            *escapes = true;
            p += 2;
        } else {
            return mj__in_fail(in, p, MJ_ESYNTAX);
        }
    }
}

/* The code unit of four hex digits, or -1. */
static int hex4(const uint8_t *p, const uint8_t *end)
{
    int v = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int d = mj_hex_digit(p[i]);
        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

static uint8_t *put_utf8(uint8_t *w, uint32_t c)
{
    if (c < 0x80) {
        *w++ = (uint8_t)c;
    } else if (c < 0x800) {
        *w++ = (uint8_t)(0xc0 | c >> 6);
        *w++ = (uint8_t)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *w++ = (uint8_t)(0xe0 | c >> 12);
        *w++ = (uint8_t)(0x80 | (c >> 6 & 63));
        *w++ = (uint8_t)(0x80 | (c & 63));
    } else {
        *w++ = (uint8_t)(0xf0 | c >> 18);
        *w++ = (uint8_t)(0x80 | (c >> 12 & 63));
        *w++ = (uint8_t)(0x80 | (c >> 6 & 63));
        *w++ = (uint8_t)(0x80 | (c & 63));
    }
    return w;
}

/* The escape behind the backslash at p, written to *w. */
static const uint8_t *escape(struct mj__in *in, const uint8_t *p, const uint8_t *end, uint8_t **w)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint8_t c = p[1];
    if (c != 'u') {
        const char *found = c ? strchr(from, c) : NULL;
        if (!found)
            return mj__in_fail(in, p, MJ_ESYNTAX);
        *(*w)++ = (uint8_t)to[found - from];
        return p + 2;
    }
    int unit = hex4(p + 2, end);
    if (unit < 0)
        return mj__in_fail(in, p, MJ_ESYNTAX);
    if (unit < 0xd800 || unit > 0xdfff) {
        *w = put_utf8(*w, (uint32_t)unit);
        return p + 6;
    }
    /* Half of a pair stands for no character: there is no text that holds one. */
    int low = end - p >= 12 && p[6] == '\\' && p[7] == 'u' ? hex4(p + 8, end) : -1;
    if (unit > 0xdbff || low < 0xdc00 || low > 0xdfff)
        return mj__in_fail(in, p, MJ_EUTF8);
    *w = put_utf8(*w, 0x10000 + (((uint32_t)unit - 0xd800) << 10) + ((uint32_t)low - 0xdc00));
    return p + 12;
}

/* What stands in [p, end), a string's inside, written to *w with its escapes resolved. False with
 * err. Never longer than what it came from. */
static bool resolve(struct mj__in *in, const uint8_t *p, const uint8_t *end, uint8_t **w)
{
    while (p < end) {
        const uint8_t *stop = memchr(p, '\\', (size_t)(end - p));
        size_t n = (size_t)((stop ? stop : end) - p);
        memcpy(*w, p, n);
        *w += n;
        p += n;
        if (p < end && !(p = escape(in, p, end, w)))
            return false;
    }
    return true;
}

const uint8_t *mj__in_text(struct mj__in *in, const uint8_t *p, struct mj_span *out)
{
    bool escapes;
    if (p == in->end || *p != '"')
        return mj__in_fail(in, p, p == in->end ? MJ_ESYNTAX : MJ_ETYPE);
    const uint8_t *close = closing(in, ++p, &escapes);
    if (!close)
        return NULL;
    *out = mj_span(p, (size_t)(close - p));
    if (MJ_UNLIKELY(escapes)) {
        /* Room for all that may follow, too: texts given out must not move. */
        size_t rest = (size_t)(in->end - p);
        if (!in->text.len && mj_buf_try_reserve(&in->text, rest))
            return mj__in_fail(in, p, MJ_ENOMEM);
        uint8_t *start = in->text.ptr + in->text.len, *w = start;
        if (!resolve(in, p, close, &w))
            return NULL;
        in->text.len += (size_t)(w - start);
        *out = mj_span(start, (size_t)(w - start));
    }
    return close + 1;
}

/* ---- writing ---- */

int mj__in_room(struct mj__in *in, const uint8_t *p)
{
    size_t n = (size_t)(in->end - p), need = 2 * (n + n / 4096) + 64;
    in->out.len = 0;
    in->entry_count = 0;
    in->weight = 0;
    in->weight_max = mj__weight_max(n);
    return mj_buf_try_reserve(&in->out, need);
}

/* A head in its shortest form; returns how many bytes it took. */
static inline unsigned put_head(uint8_t *w, unsigned major, uint64_t arg)
{
    if (MJ_LIKELY(arg < 24)) {
        *w = (uint8_t)(major << 5 | arg);
        return 1;
    }
    unsigned bytes = arg < 0x100 ? 1 : arg < 0x10000 ? 2 : arg < 0x100000000 ? 4 : 8;
    *w++ = (uint8_t)(major << 5 | (bytes == 1 ? 24 : bytes == 2 ? 25 : bytes == 4 ? 26 : 27));
    for (unsigned i = bytes; i--;)
        *w++ = (uint8_t)(arg >> (8 * i));
    return 1 + bytes;
}

static inline unsigned head_size(uint64_t arg)
{
    return arg < 24 ? 1 : arg < 0x100 ? 2 : arg < 0x10000 ? 3 : arg < 0x100000000 ? 5 : 9;
}

static inline void put(struct mj__in *in, unsigned major, uint64_t arg)
{
    in->out.len += put_head(in->out.ptr + in->out.len, major, arg);
}

/* Copies n bytes in steps of 16: up to 15 bytes behind either end are touched. The output has that
 * much room, and no call is made for what is usually short. */
static inline void copy_stepwise(uint8_t *to, const uint8_t *from, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        uint8_t step[16];
        memcpy(step, from + i, 16);
        memcpy(to + i, step, 16);
    }
}

/* A string as a text item; p is at its quote. *out is the text where it now lies. */
static inline __attribute__((always_inline)) const uint8_t *put_text(struct mj__in *in,
                                                                     const uint8_t *p,
                                                                     struct mj_span *out)
{
    bool escapes;
    const uint8_t *close = closing(in, ++p, &escapes);
    if (MJ_UNLIKELY(!close))
        return NULL;
    size_t n = (size_t)(close - p);
    if (MJ_UNLIKELY(escapes)) {
        uint8_t *base = in->out.ptr + in->out.len, *start = base + head_size(n), *w = start;
        if (!resolve(in, p, close, &w))
            return NULL;
        n = (size_t)(w - start);
        unsigned head = head_size(n);
        if (base + head != start)
            memmove(base + head, start, n);
        put(in, MJ__TEXT, n);
    } else {
        put(in, MJ__TEXT, n);
        if (MJ_LIKELY(n <= 64 && in->end - close >= 16))
            copy_stepwise(in->out.ptr + in->out.len, p, n);
        else
            memcpy(in->out.ptr + in->out.len, p, n);
    }
    *out = mj_span(in->out.ptr + in->out.len, n);
    in->out.len += n;
    return close + 1;
}

/* ---- values ---- */

const uint8_t *mj__in_byte(struct mj__in *in, const uint8_t *p, char c)
{
    p = mj__in_blanks(in, p);
    if (p == in->end || *p != (uint8_t)c)
        return mj__in_fail(in, p, MJ_ESYNTAX);
    return mj__in_blanks(in, p + 1);
}

const uint8_t *mj__in_int(struct mj__in *in, const uint8_t *p, int64_t *out)
{
    const uint8_t *start = p, *end = in->end;
    bool negative = p < end && *p == '-';
    p += negative;
    const uint8_t *digits = p;
    uint64_t v = 0;
    bool over = false;
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        unsigned d = *p - '0';
        over |= v > (UINT64_MAX - d) / 10;
        v = v * 10 + d;
    }
    if (p == digits)
        return mj__in_fail(in, start, digits == start && p < end ? MJ_ETYPE : MJ_ESYNTAX);
    if (*digits == '0' && p - digits > 1)
        return mj__in_fail(in, start, MJ_ESYNTAX);
    if (p < end && (*p == '.' || *p == 'e' || *p == 'E'))
        return mj__in_fail(in, start, MJ_EFLOAT);
    if (negative && !v && !over) /* -0 is a float, too */
        return mj__in_fail(in, start, MJ_EFLOAT);
    if (over || v > (uint64_t)INT64_MAX + negative)
        return mj__in_fail(in, start, MJ_EINT);
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return p;
}

static const uint8_t *word(struct mj__in *in, const uint8_t *p, struct mj_span w, unsigned simple)
{
    if (!mj_span_starts(mj_span(p, (size_t)(in->end - p)), w))
        return mj__in_fail(in, p, MJ_ESYNTAX);
    put(in, MJ__SIMPLE, simple);
    return p + w.len;
}

static const uint8_t *array(struct mj__in *in, const uint8_t *p, unsigned depth)
{
    const uint8_t *start = p;
    size_t at = in->out.len++, n = 0;
    if (depth >= MJ_CBOR_DEPTH_MAX)
        return mj__in_fail(in, p, MJ_EDEPTH);
    p = mj__in_blanks(in, p + 1);
    if (p < in->end && *p == ']') {
        p++;
    } else {
        for (;;) {
            if (++n > MJ__CONTAINER_MAX)
                return mj__in_fail(in, start, MJ_ELIMIT);
            if (!(p = mj__in_value(in, p, depth + 1)))
                return NULL;
            p = mj__in_blanks(in, p);
            if (p < in->end && *p == ']')
                break;
            if (!(p = mj__in_byte(in, p, ',')))
                return NULL;
        }
        p++;
    }
    unsigned head = head_size(n);
    if (MJ_UNLIKELY(head > 1)) {
        memmove(in->out.ptr + at + head, in->out.ptr + at + 1, in->out.len - at - 1);
        in->out.len += head - 1;
    }
    put_head(in->out.ptr + at, MJ__ARRAY, n);
    return p;
}

/* The key of an entry, where its head says. */
static struct mj_span key_of(const struct mj__in_entry *e, const uint8_t *out)
{
    size_t len = (size_t)(e->order >> 48);
    return mj_span(out + e->start + head_size(len), len);
}

static inline int entry_cmp(const struct mj__in_entry *a, const struct mj__in_entry *b,
                            const uint8_t *out)
{
    if (a->order != b->order)
        return a->order < b->order ? -1 : 1;
    return mj_span_cmp(key_of(a, out), key_of(b, out));
}

static int entry_cmp_r(const void *a, const void *b, void *out) { return entry_cmp(a, b, out); }

/* Puts the n entries from offset `first` to the end of the output in order, behind a head. `at` is
 * the head's offset. */
static void arrange(struct mj__in *in, size_t at, struct mj__in_entry *e, size_t n, bool sorted)
{
    unsigned head = head_size(n);
    size_t size = in->out.len - at - 1;
    uint8_t *first = in->out.ptr + at + 1;
    if (!sorted) {
        uint8_t *w = in->out.ptr + in->out.len;
        for (size_t i = 0; i < n; i++) {
            uint32_t len = e[i].end - e[i].start;
            copy_stepwise(w, in->out.ptr + e[i].start, len);
            e[i].start = (uint32_t)((size_t)(w - in->out.ptr) - size + head - 1);
            w += len;
        }
        memmove(in->out.ptr + at + head, in->out.ptr + in->out.len, size);
    } else if (head > 1) {
        memmove(in->out.ptr + at + head, first, size);
        for (size_t i = 0; i < n; i++)
            e[i].start += head - 1;
    }
    in->out.len = at + head + size;
    put_head(in->out.ptr + at, MJ__MAP, n);
}

/* Sorts the entries. True when they were in order; *same when two have one key. */
static bool sort(struct mj__in_entry *e, size_t n, const uint8_t *out, bool *same)
{
    bool sorted = true;
    *same = false;
    if (n <= 32) {
        for (size_t i = 1; i < n; i++) {
            struct mj__in_entry x = e[i];
            size_t j = i;
            int cmp = 0;
            while (j && (cmp = entry_cmp(&x, &e[j - 1], out)) < 0) {
                e[j] = e[j - 1];
                j--;
            }
            e[j] = x;
            sorted &= j == i;
            *same |= j && !cmp;
        }
        return sorted;
    }
    for (size_t i = 1; i < n && sorted; i++)
        sorted = entry_cmp(&e[i - 1], &e[i], out) < 0;
    if (sorted)
        return true;
    qsort_r(e, n, sizeof *e, entry_cmp_r, (void *)out);
    for (size_t i = 1; i < n; i++)
        *same |= !entry_cmp(&e[i - 1], &e[i], out);
    return false;
}

static int base64_digit(uint8_t c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* Decodes base64 as the printer writes it, no padding and no spare bits, in place of what is at
 * `to` (which may overlap `text` from below). False when it is written another way. */
static bool from_base64(struct mj_span text, uint8_t *to)
{
    uint32_t bits = 0;
    unsigned have = 0;
    if (text.len % 4 == 1)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        int d = base64_digit(text.ptr[i]);
        if (d < 0)
            return false;
        bits = bits << 6 | (uint32_t)d;
        have += 6;
        if (have >= 8) {
            have -= 8;
            *to++ = (uint8_t)(bits >> have);
        }
    }
    return !(bits & ((1u << have) - 1));
}

/* {"$link":…} and {"$bytes":…} as what they stand for, when they are written as the printer writes
 * links and bytes. Other ones are literal maps: nothing else can have been printed that way, and so
 * they come out as they were. `value` is the text at the end of the output. */
static bool lift(struct mj__in *in, size_t at, struct mj_span key, struct mj_span value)
{
    uint8_t cid[MJ_CID_MAX];
    uint8_t *out = in->out.ptr + at;
    if (mj_span_eq(key, MJ_SPAN("$link"))) {
        int n = mj_cid_from_text(value, cid);
        if (n < 0 || !mj_cid_is_valid(mj_span(cid, (size_t)n)))
            return false;
        memcpy(out, "\xd8\x2a\x58\x25\x00", 5);
        memcpy(out + 5, cid, MJ_CID_LEN);
        in->out.len = at + 5 + MJ_CID_LEN;
        return true;
    }
    if (!mj_span_eq(key, MJ_SPAN("$bytes")))
        return false;
    /* Behind the output first, since it may turn out to be none. */
    size_t n = value.len / 4 * 3 + (value.len % 4 ? value.len % 4 - 1 : 0);
    uint8_t *decoded = in->out.ptr + in->out.len;
    if (!from_base64(value, decoded))
        return false;
    unsigned head = put_head(out, MJ__BYTES, n);
    memmove(out + head, decoded, n);
    in->out.len = at + head + n;
    return true;
}

/* What maps with a meaning must look like, once the entries are where they belong. */
static int check_shape(struct mj__in *in, struct mj__in_entry *e, size_t n, size_t first)
{
    const uint8_t *out = in->out.ptr, *end = out + in->out.len;
    struct mj__map map = {out + first, n, MJ__PLAIN};
    for (size_t i = 0; i < n; i++) {
        struct mj_span key = key_of(&e[i], out);
        int err =
            mj__shape_asks(&map, i, key) ? mj__shape_key(&map, i, key, key.ptr + key.len, end) : 0;
        if (err)
            return err;
    }
    in->shape = map.shape;
    return 0;
}

static int add_entry(struct mj__in *in)
{
    if (MJ_LIKELY(in->entry_count < in->entry_cap))
        return 0;
    size_t cap = in->entry_cap ? 2 * in->entry_cap : 64;
    struct mj__in_entry *more = realloc(in->entries, cap * sizeof *more);
    if (!more)
        return MJ_ENOMEM;
    in->entries = more;
    in->entry_cap = cap;
    return 0;
}

static inline const uint8_t *entry(struct mj__in *in, const uint8_t *p, unsigned depth,
                                   struct mj_span *key, struct mj_span *text)
{
    size_t i = in->entry_count, start = in->out.len;
    const uint8_t *from = p;
    if (MJ_UNLIKELY(p == in->end || *p != '"'))
        return mj__in_fail(in, p, MJ_ESYNTAX);
    if (add_entry(in))
        return mj__in_fail(in, p, MJ_ENOMEM);
    in->entry_count++;
    if (!(p = put_text(in, p, key)))
        return NULL;
    if (key->len > MJ__KEY_MAX)
        return mj__in_fail(in, from, MJ_ELIMIT);
    /* From the input, where that is the same: the output was written a moment ago in smaller parts,
     * and a load that spans stores waits for them. Both have room for the eight bytes. */
    bool same = key->len + 2 == (size_t)(p - from) && in->end - from > 8;
    uint64_t order = mj__be64(same ? from + 1 : key->ptr) >> 16;
    if (key->len < 6)
        order &= ~(UINT64_C(0xffffffffffff) >> 8 * key->len);
    order |= (uint64_t)key->len << 48;
    if (MJ_LIKELY(p < in->end && *p == ':'))
        p++;
    else if (!(p = mj__in_byte(in, p, ':')))
        return NULL;
    p = mj__in_blanks(in, p);
    if (p < in->end && *p == '"') {
        p = put_text(in, p, text);
    } else {
        text->ptr = NULL;
        p = mj__in_value(in, p, depth + 1);
    }
    in->entries[i] = (struct mj__in_entry){order, (uint32_t)start, (uint32_t)in->out.len};
    return p;
}

/* A map whose brace is at p. */
static const uint8_t *map(struct mj__in *in, const uint8_t *p, unsigned depth)
{
    const uint8_t *brace = p;
    size_t at = in->out.len++, base = in->entry_count, n = 0;
    struct mj_span key = {0}, text = {0};
    /* One level more than maps may have: it may be a link. */
    if (depth > MJ_CBOR_DEPTH_MAX)
        return mj__in_fail(in, p, MJ_EDEPTH);
    p = mj__in_blanks(in, p + 1);
    if (p < in->end && *p == '}') {
        p++;
    } else {
        for (;;) {
            if (++n > MJ__CONTAINER_MAX)
                return mj__in_fail(in, brace, MJ_ELIMIT);
            if (!(p = entry(in, p, depth, &key, &text)))
                return NULL;
            p = mj__in_blanks(in, p);
            if (p < in->end && *p == '}')
                break;
            if (!(p = mj__in_byte(in, p, ',')))
                return NULL;
        }
        p++;
    }
    if (n == 1 && text.ptr && lift(in, at, key, text)) {
        in->entry_count = base;
        in->shape = MJ__LINK_MAP;
        return p;
    }
    if (depth == MJ_CBOR_DEPTH_MAX)
        return mj__in_fail(in, brace, MJ_EDEPTH);
    struct mj__in_entry *e = in->entries + base;
    bool same, sorted = sort(e, n, in->out.ptr, &same);
    if (same)
        return mj__in_fail(in, brace, MJ_EKEYDUP);
    unsigned head = head_size(n);
    arrange(in, at, e, n, sorted);
    int err = check_shape(in, e, n, at + head);
    if (err)
        return mj__in_fail(in, brace, err);
    in->weight += in->out.len - at - head;
    if (in->weight > in->weight_max)
        return mj__in_fail(in, brace, MJ_EDEPTH);
    in->entry_count = base;
    return p;
}

const uint8_t *mj__in_value(struct mj__in *in, const uint8_t *p, unsigned depth)
{
    int64_t v;
    struct mj_span text;
    if (p == in->end)
        return mj__in_fail(in, p, MJ_ESYNTAX);
    switch (*p) {
    case '"':
        return put_text(in, p, &text);
    case '{':
        return map(in, p, depth);
    case '[':
        return array(in, p, depth);
    case 't':
        return word(in, p, MJ_SPAN("true"), 21);
    case 'f':
        return word(in, p, MJ_SPAN("false"), 20);
    case 'n':
        return word(in, p, MJ_SPAN("null"), 22);
    default:
        break;
    }
    if (!(p = mj__in_int(in, p, &v))) {
        in->err = in->err == MJ_ETYPE ? MJ_ESYNTAX : in->err;
        return NULL;
    }
    if (v < 0)
        put(in, MJ__NEGINT, (uint64_t)(-1 - v));
    else
        put(in, MJ__UINT, (uint64_t)v);
    return p;
}
