#include "match/fold.h"

#include "atproto/utf8.h"

/* In the order of unicode.py. */
enum mj_class { OTHER, SPACE, WORD, MARK, SINGLE, IGNORED };

#include "match/unicode_table.h"

/* Which token the last character belongs to. */
enum at { NOWHERE, JOINED, ALONE };

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

/* ASCII letters, digits and the underscore, folded; 0 for all else. */
static uint8_t word_byte(uint8_t c)
{
    static const uint8_t table[256] = {
        ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6',
        ['7'] = '7', ['8'] = '8', ['9'] = '9', ['_'] = '_', ['a'] = 'a', ['b'] = 'b', ['c'] = 'c',
        ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g', ['h'] = 'h', ['i'] = 'i', ['j'] = 'j',
        ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p', ['q'] = 'q',
        ['r'] = 'r', ['s'] = 's', ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w', ['x'] = 'x',
        ['y'] = 'y', ['z'] = 'z', ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd', ['E'] = 'e',
        ['F'] = 'f', ['G'] = 'g', ['H'] = 'h', ['I'] = 'i', ['J'] = 'j', ['K'] = 'k', ['L'] = 'l',
        ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q', ['R'] = 'r', ['S'] = 's',
        ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x', ['Y'] = 'y', ['Z'] = 'z'};
    return table[c];
}

void mj_fold_tokens(struct mj_span text, struct mj_buf *out)
{
    mj_buf_reserve(out, 2 * text.len + 2);
    const uint8_t *p = text.ptr, *end = text.len ? p + text.len : p;
    uint8_t *w = out->ptr + out->len, c;
    enum at at = NOWHERE;
    *w++ = MJ_EDGE;
    while (p < end) {
        if ((c = word_byte(*p))) { /* most of most texts */
            if (at == ALONE)
                *w++ = MJ_EDGE;
            do
                *w++ = c;
            while (++p < end && (c = word_byte(*p)));
            at = JOINED;
            continue;
        }
        struct point point = {MJ_BROKEN, OTHER};
        unsigned n = *p == ' ' ? 1 : mj_utf8_len(p, end);
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
