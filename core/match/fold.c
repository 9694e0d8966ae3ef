#include "match/fold.h"

#include "atproto/utf8.h"

/* Both in the order of unicode.py. What a character is, and which token it belongs to: none, one
 * that others may join, one of its own. */
enum mj_class { OTHER, SPACE, WORD, MARK, SINGLE, IGNORED };
enum at { NOWHERE, JOINED, ALONE };

#include "match/unicode_table.h"

struct point {
    uint32_t folded;
    enum mj_class class;
};

static struct point lookup(uint32_t point)
{
    unsigned kind = blocks[stages[point / 128]][point % 128];
    return (struct point){point + (uint32_t)kinds[kind].delta, (enum mj_class)kinds[kind].class};
}

/* The code point at p, well-formed and n bytes long. */
static uint32_t decode(const uint8_t *p, unsigned n)
{
    switch (n) {
    case 1:
        return p[0];
    case 2:
        return (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
    case 3:
        return (p[0] & 0xfu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    default:
        return (p[0] & 7u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
    }
}

static uint8_t *encode(uint8_t *w, uint32_t point)
{
    if (point < 0x80) {
        *w++ = (uint8_t)point;
    } else if (point < 0x800) {
        *w++ = (uint8_t)(0xc0 | point >> 6);
        *w++ = (uint8_t)(0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
        *w++ = (uint8_t)(0xe0 | point >> 12);
        *w++ = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        *w++ = (uint8_t)(0x80 | (point & 0x3f));
    } else {
        *w++ = (uint8_t)(0xf0 | point >> 18);
        *w++ = (uint8_t)(0x80 | (point >> 12 & 0x3f));
        *w++ = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        *w++ = (uint8_t)(0x80 | (point & 0x3f));
    }
    return w;
}

void mj_fold_tokens(struct mj_span text, struct mj_buf *out)
{
    mj_buf_reserve(out, 2 * text.len + 2);
    const uint8_t *p = text.ptr, *end = text.len ? p + text.len : p;
    uint8_t *w = out->ptr + out->len;
    unsigned at = NOWHERE;
    *w++ = MJ_EDGE;
    while (p < end) {
        /* Where words end cannot be foretold, so this has no branch for it: an edge is written
         * before each byte, and written over unless it belongs there. */
        for (; p < end && *p < 0x80; p++) {
            struct ascii_point a = ascii[*p];
            *w = MJ_EDGE;
            w += (unsigned)(at != NOWHERE) & (unsigned)((at & a.at) != JOINED);
            *w = a.folded;
            w += a.at != NOWHERE;
            at = a.at;
        }
        if (p == end)
            break;
        struct point point = {MJ_BROKEN, OTHER};
        unsigned n = mj_utf8_len(p, end);
        if (n)
            point = lookup(decode(p, n));
        p += n ? n : 1;
        if (point.class == IGNORED)
            continue;
        bool joins = point.class == MARK || (point.class == WORD && at == JOINED);
        if (at != NOWHERE && !joins)
            *w++ = MJ_EDGE;
        if (point.class == SPACE) {
            at = NOWHERE;
            continue;
        }
        if (n)
            w = encode(w, point.folded);
        else
            *w++ = MJ_BROKEN;
        if (point.class == WORD || (point.class == MARK && at == NOWHERE))
            at = JOINED;
        else if (point.class != MARK)
            at = ALONE;
    }
    if (at != NOWHERE)
        *w++ = MJ_EDGE;
    out->len = (size_t)(w - out->ptr);
}

void mj_fold_case(struct mj_span text, struct mj_buf *out)
{
    mj_buf_reserve(out, text.len + text.len / 2 + 2);
    const uint8_t *p = text.ptr, *end = text.len ? p + text.len : p;
    uint8_t *w = out->ptr + out->len;
    while (p < end) {
        unsigned n = mj_utf8_len(p, end);
        if (n)
            w = encode(w, lookup(decode(p, n)).folded);
        else
            *w++ = *p;
        p += n ? n : 1;
    }
    out->len = (size_t)(w - out->ptr);
}
