#include "base/json.h"

#include "base/err.h"

struct reader {
    const uint8_t *p, *end;
};

static void skip_blanks(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
        r->p++;
}

static bool take(struct reader *r, char c)
{
    if (r->p == r->end || *r->p != c)
        return false;
    r->p++;
    return true;
}

static bool word(struct reader *r, struct mj_span w)
{
    if (!mj_span_starts(mj_span(r->p, (size_t)(r->end - r->p)), w))
        return false;
    r->p += w.len;
    return true;
}

static bool digits(struct reader *r)
{
    const uint8_t *start = r->p;
    while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
        r->p++;
    return r->p > start;
}

static bool number(struct reader *r)
{
    take(r, '-');
    if (!take(r, '0') && !digits(r))
        return false;
    if (take(r, '.') && !digits(r))
        return false;
    if (take(r, 'e') || take(r, 'E')) {
        if (!take(r, '+'))
            take(r, '-');
        return digits(r);
    }
    return true;
}

static int hex4(const uint8_t *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        int d = mj_hex_digit(p[i]);
        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

static bool string(struct reader *r)
{
    if (!take(r, '"'))
        return false;
    while (r->p < r->end) {
        uint8_t c = *r->p++;
        if (c == '"')
            return true;
        if (c < 0x20)
            return false;
        if (c != '\\')
            continue;
        if (r->p == r->end)
            return false;
        c = *r->p++;
        if (c == 'u') {
            if (r->end - r->p < 4 || hex4(r->p) < 0)
                return false;
            r->p += 4;
        } else if (!c || !strchr("\"\\/bfnrt", c)) {
            return false;
        }
    }
    return false;
}

static int value(struct reader *r, unsigned depth);

static int container(struct reader *r, bool object, unsigned depth)
{
    char close = object ? '}' : ']';
    if (!depth)
        return MJ_EDEPTH;
    r->p++;
    skip_blanks(r);
    if (take(r, close))
        return 0;
    for (;;) {
        skip_blanks(r);
        if (object) {
            if (!string(r))
                return MJ_ESYNTAX;
            skip_blanks(r);
            if (!take(r, ':'))
                return MJ_ESYNTAX;
            skip_blanks(r);
        }
        int type = value(r, depth - 1);
        if (type < 0)
            return type;
        skip_blanks(r);
        if (take(r, close))
            return 0;
        if (!take(r, ','))
            return MJ_ESYNTAX;
    }
}

/* Steps over one value: its type, or why not. */
static int value(struct reader *r, unsigned depth)
{
    if (r->p == r->end)
        return MJ_ESYNTAX;
    int err;
    switch (*r->p) {
    case '{':
        err = container(r, true, depth);
        return err ? err : MJ_JSON_OBJECT;
    case '[':
        err = container(r, false, depth);
        return err ? err : MJ_JSON_ARRAY;
    case '"':
        return string(r) ? MJ_JSON_STRING : MJ_ESYNTAX;
    case 'n':
        return word(r, MJ_SPAN("null")) ? MJ_JSON_NULL : MJ_ESYNTAX;
    case 't':
        return word(r, MJ_SPAN("true")) ? MJ_JSON_BOOL : MJ_ESYNTAX;
    case 'f':
        return word(r, MJ_SPAN("false")) ? MJ_JSON_BOOL : MJ_ESYNTAX;
    default:
        return number(r) ? MJ_JSON_NUMBER : MJ_ESYNTAX;
    }
}

int mj_json_take(struct mj_span *rest, struct mj_span *raw)
{
    struct reader r = {rest->ptr, rest->len ? rest->ptr + rest->len : rest->ptr};
    skip_blanks(&r);
    const uint8_t *start = r.p;
    int type = value(&r, MJ_JSON_DEPTH_MAX);
    if (type < 0)
        return type;
    *raw = mj_span(start, (size_t)(r.p - start));
    skip_blanks(&r);
    *rest = mj_span(r.p, (size_t)(r.end - r.p));
    return type;
}

struct mj_span mj_json_inside(struct mj_span c) { return mj_span(c.ptr + 1, c.len - 1); }

/* Steps over a comma, which has been checked to stand only between members. False at the end. */
static bool at_member(struct mj_span *rest)
{
    struct reader r = {rest->ptr, rest->len ? rest->ptr + rest->len : rest->ptr};
    skip_blanks(&r);
    take(&r, ',');
    skip_blanks(&r);
    *rest = mj_span(r.p, (size_t)(r.end - r.p));
    return rest->len && *rest->ptr != ']' && *rest->ptr != '}';
}

int mj_json_element(struct mj_span *rest, struct mj_span *raw)
{
    return at_member(rest) ? mj_json_take(rest, raw) : MJ_ENOENT;
}

int mj_json_member(struct mj_span *rest, struct mj_span *key, struct mj_span *raw)
{
    if (!at_member(rest))
        return MJ_ENOENT;
    int type = mj_json_take(rest, key);
    if (type < 0)
        return type;
    *rest = mj_span(rest->ptr + 1, rest->len - 1); /* the colon */
    return mj_json_take(rest, raw);
}

static void put_utf8(struct mj_buf *out, uint32_t c)
{
    if (c < 0x80) {
        mj_buf_putc(out, (char)c);
    } else if (c < 0x800) {
        mj_buf_putc(out, (char)(0xc0 | c >> 6));
        mj_buf_putc(out, (char)(0x80 | (c & 63)));
    } else if (c < 0x10000) {
        mj_buf_putc(out, (char)(0xe0 | c >> 12));
        mj_buf_putc(out, (char)(0x80 | (c >> 6 & 63)));
        mj_buf_putc(out, (char)(0x80 | (c & 63)));
    } else {
        mj_buf_putc(out, (char)(0xf0 | c >> 18));
        mj_buf_putc(out, (char)(0x80 | (c >> 12 & 63)));
        mj_buf_putc(out, (char)(0x80 | (c >> 6 & 63)));
        mj_buf_putc(out, (char)(0x80 | (c & 63)));
    }
}

void mj_json_text(struct mj_span raw, struct mj_buf *out)
{
    const uint8_t *p = raw.ptr + 1, *end = raw.ptr + raw.len - 1;
    while (p < end) {
        const uint8_t *plain = p;
        while (p < end && *p != '\\')
            p++;
        mj_buf_put(out, plain, (size_t)(p - plain));
        if (p == end)
            break;
        uint8_t c = p[1];
        p += 2;
        if (c != 'u') {
            static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
            const char *at = strchr(from, c);
            mj_buf_putc(out, at ? to[at - from] : (char)c);
            continue;
        }
        uint32_t u = (uint32_t)hex4(p);
        p += 4;
        if (u >= 0xd800 && u < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
            uint32_t low = (uint32_t)hex4(p + 2);
            if (low >= 0xdc00 && low < 0xe000) {
                u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
                p += 6;
            }
        }
        put_utf8(out, u >= 0xd800 && u < 0xe000 ? 0xfffd : u);
    }
}
