#include "server/label_query.h"

#include "base/err.h"
#include "base/http.h"

#define KEY_MAX 510

/* Where a text begins in `text`, while that still moves; its end is marked by the next one. */
struct place {
    size_t at, len;
};

struct reading {
    struct mj_label_query *q;
    struct mj_buf *error;
    struct place *prefixes; /* owned */
    struct place sources[MJ_LABEL_SOURCES_MAX], cursor;
    size_t prefix_count, source_count;
};

static int wrong(struct reading *r, const char *what)
{
    mj_buf_puts(r->error, what);
    return MJ_ESYNTAX;
}

static int read_pattern(struct reading *r, struct place p)
{
    struct mj_buf *text = &r->q->text;
    if (!p.len)
        return wrong(r, "uriPatterns: a pattern is an address, a DID, or \"*\"");
    const uint8_t *at = text->ptr + p.at, *star = memchr(at, '*', p.len);
    if (star && star != at + p.len - 1)
        return wrong(r, "uriPatterns: a \"*\" stands at the end of a pattern only");
    if (memchr(at, 0, p.len))
        return wrong(r, "uriPatterns: a pattern has no zero bytes");
    if (r->prefix_count == MJ_LABEL_PATTERNS_MAX)
        return wrong(r, "uriPatterns: too many patterns");
    if (star)
        p.len--;
    else
        mj_buf_putc(text, '\0'); /* which is behind every whole address */
    p.len += !star;
    r->prefixes[r->prefix_count++] = p;
    return 0;
}

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int read_cursor(struct reading *r, struct place p)
{
    uint8_t *at = r->q->text.ptr + p.at;
    if (p.len % 2 || p.len > 2 * KEY_MAX)
        return wrong(r, "cursor: this is no cursor of ours");
    for (size_t i = 0; i < p.len / 2; i++) {
        int high = hex_digit(at[2 * i]), low = hex_digit(at[2 * i + 1]);
        if (high < 0 || low < 0)
            return wrong(r, "cursor: this is no cursor of ours");
        at[i] = (uint8_t)(high << 4 | low);
    }
    r->cursor = (struct place){p.at, p.len / 2};
    return 0;
}

static int read_limit(struct reading *r, struct mj_span text)
{
    int64_t n;
    if (mj_span_i64(text, &n) || n < 1 || n > MJ_LABEL_LIMIT_MAX)
        return wrong(r, "limit: a whole number from 1 to 250");
    r->q->limit = (size_t)n;
    return 0;
}

static int read_pair(struct reading *r, struct mj_span key, struct mj_span value)
{
    struct mj_buf *text = &r->q->text;
    MJ_AUTO_BUF name = {0};
    struct place p = {.at = text->len};
    if (mj_query_decode(key, &name))
        return wrong(r, "the query has a bad escape");
    struct mj_span n = mj_buf_span(&name);
    bool pattern = mj_span_is(n, "uriPatterns") || mj_span_is(n, "uriPatterns[]");
    bool source = mj_span_is(n, "sources") || mj_span_is(n, "sources[]");
    bool cursor = mj_span_is(n, "cursor");
    if (!pattern && !source && !cursor && !mj_span_is(n, "limit"))
        return 0;
    if (mj_query_decode(value, text))
        return wrong(r, "the query has a bad escape");
    p.len = text->len - p.at;
    if (pattern)
        return read_pattern(r, p);
    if (cursor)
        return read_cursor(r, p);
    if (!source)
        return read_limit(r, mj_span(text->ptr + p.at, p.len));
    if (r->source_count == MJ_LABEL_SOURCES_MAX)
        return wrong(r, "sources: too many DIDs");
    r->sources[r->source_count++] = p;
    return 0;
}

static int by_bytes(const void *a, const void *b)
{
    return mj_span_cmp(*(const struct mj_span *)a, *(const struct mj_span *)b);
}

/* In order, and without those that another one covers. */
static void sort_prefixes(struct mj_label_query *q)
{
    size_t n = 0;
    qsort(q->prefixes, q->prefix_count, sizeof *q->prefixes, by_bytes);
    for (size_t i = 0; i < q->prefix_count; i++)
        if (!n || !mj_span_starts(q->prefixes[i], q->prefixes[n - 1]))
            q->prefixes[n++] = q->prefixes[i];
    q->prefix_count = n;
}

static struct mj_span span_of(const struct mj_label_query *q, struct place p)
{
    return mj_span(q->text.ptr + p.at, p.len);
}

int mj_label_query_parse(struct mj_span query, struct mj_label_query *out, struct mj_buf *error)
{
    struct reading r = {.q = out, .error = error};
    struct mj_span key, value;
    int err = 0;
    *out = (struct mj_label_query){.limit = 50};
    mj_buf_reserve(&out->text, 64); /* so that places in it are somewhere from the first on */
    r.prefixes = mj_calloc(MJ_LABEL_PATTERNS_MAX, sizeof *r.prefixes);
    while (!err && mj_query_next(&query, &key, &value))
        err = read_pair(&r, key, value);
    if (!err && !r.prefix_count)
        err =
            wrong(&r, "uriPatterns: say which labels: addresses, DIDs, or beginnings with a \"*\"");
    if (!err) {
        out->prefixes = mj_calloc(r.prefix_count, sizeof *out->prefixes);
        for (size_t i = 0; i < r.prefix_count; i++)
            out->prefixes[out->prefix_count++] = span_of(out, r.prefixes[i]);
        for (size_t i = 0; i < r.source_count; i++)
            out->sources[out->source_count++] = span_of(out, r.sources[i]);
        out->cursor = span_of(out, r.cursor);
        sort_prefixes(out);
    }
    free(r.prefixes);
    return err;
}

void mj_label_query_deinit(struct mj_label_query *q)
{
    mj_buf_deinit(&q->text);
    free(q->prefixes);
}

void mj_label_cursor_put(struct mj_span key, struct mj_buf *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < key.len; i++) {
        mj_buf_putc(out, digits[key.ptr[i] >> 4]);
        mj_buf_putc(out, digits[key.ptr[i] & 15]);
    }
}

int mj_label_seq_parse(struct mj_span query, bool *has, uint64_t *out)
{
    MJ_AUTO_BUF text = {0};
    struct mj_span key, value;
    int64_t n;
    *has = false;
    while (mj_query_next(&query, &key, &value)) {
        if (!mj_span_is(key, "cursor"))
            continue;
        text.len = 0;
        if (mj_query_decode(value, &text) || mj_span_i64(mj_buf_span(&text), &n) || n < 0)
            return MJ_ESYNTAX;
        *has = true;
        *out = (uint64_t)n;
        return 0;
    }
    return 0;
}
