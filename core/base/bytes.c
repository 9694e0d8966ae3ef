#include "base/bytes.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/utf8.h"

static void *must(void *p)
{
    if (!p) {
        fputs("moonjet: out of memory\n", stderr);
        abort();
    }
    return p;
}

void *mj_alloc(size_t n) { return must(malloc(n ? n : 1)); }
void *mj_calloc(size_t n, size_t size) { return must(calloc(n ? n : 1, size ? size : 1)); }
void *mj_realloc(void *p, size_t n) { return must(realloc(p, n ? n : 1)); }
char *mj_strdup(const char *s) { return mj_span_dup(mj_str(s)); }

char *mj_span_dup(struct mj_span s)
{
    char *p = mj_alloc(s.len + 1);
    if (s.len)
        memcpy(p, s.ptr, s.len);
    p[s.len] = '\0';
    return p;
}

int mj_span_i64(struct mj_span s, int64_t *out)
{
    size_t i = 0;
    bool neg = false;
    if (s.len && (s.ptr[0] == '-' || s.ptr[0] == '+')) {
        neg = s.ptr[0] == '-';
        i = 1;
    }
    if (i == s.len)
        return MJ_ESYNTAX;
    uint64_t v = 0, max = (uint64_t)INT64_MAX + neg;
    bool over = false;
    for (; i < s.len; i++) {
        unsigned d = (unsigned)s.ptr[i] - '0';
        if (d > 9)
            return MJ_ESYNTAX;
        over = over || v > (max - d) / 10;
        v = v * 10 + d;
    }
    if (over)
        return MJ_ELIMIT;
    *out = neg ? (int64_t)(0 - v) : (int64_t)v;
    return 0;
}

void mj_buf_deinit(struct mj_buf *b)
{
    free(b->ptr);
    *b = (struct mj_buf){0};
}

int mj_buf_try_reserve(struct mj_buf *b, size_t n)
{
    if (b->cap - b->len >= n)
        return 0;
    if (n > SIZE_MAX / 2 - b->len)
        return MJ_ENOMEM;
    size_t cap = b->cap ? b->cap : 256;
    while (cap - b->len < n)
        cap *= 2;
    uint8_t *p = realloc(b->ptr, cap);
    if (!p)
        return MJ_ENOMEM;
    b->ptr = p;
    b->cap = cap;
    return 0;
}

void mj_buf_reserve(struct mj_buf *b, size_t n)
{
    if (mj_buf_try_reserve(b, n))
        must(NULL);
}

void mj_buf_put(struct mj_buf *b, const void *p, size_t n)
{
    if (!n)
        return;
    mj_buf_reserve(b, n);
    memcpy(b->ptr + b->len, p, n);
    b->len += n;
}

void mj_buf_puts(struct mj_buf *b, const char *s) { mj_buf_put(b, s, strlen(s)); }
void mj_buf_putc(struct mj_buf *b, char c) { mj_buf_put(b, &c, 1); }

void mj_buf_vprintf(struct mj_buf *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    mj_buf_reserve(b, 1);
    int n = vsnprintf((char *)b->ptr + b->len, b->cap - b->len, fmt, ap);
    if (n >= 0 && (size_t)n >= b->cap - b->len) {
        mj_buf_reserve(b, (size_t)n + 1);
        n = vsnprintf((char *)b->ptr + b->len, b->cap - b->len, fmt, again);
    }
    va_end(again);
    if (n > 0)
        b->len += (size_t)n;
}

void mj_buf_printf(struct mj_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    mj_buf_vprintf(b, fmt, ap);
    va_end(ap);
}

void mj_buf_put_json(struct mj_buf *b, struct mj_span s)
{
    mj_buf_putc(b, '"');
    for (size_t i = 0; i < s.len;) {
        uint8_t c = s.ptr[i];
        unsigned n = 1;
        if (c == '"' || c == '\\')
            mj_buf_printf(b, "\\%c", c);
        else if (c == '\n')
            mj_buf_puts(b, "\\n");
        else if (c < 0x20)
            mj_buf_printf(b, "\\u%04x", c);
        else if (!(n = mj_utf8_len(s.ptr + i, s.ptr + s.len)))
            mj_buf_puts(b, "\\ufffd");
        else
            mj_buf_put(b, s.ptr + i, n);
        i += n ? n : 1;
    }
    mj_buf_putc(b, '"');
}

void mj_buf_shift(struct mj_buf *b, size_t n)
{
    if (n > b->len)
        n = b->len;
    b->len -= n;
    if (b->len)
        memmove(b->ptr, b->ptr + n, b->len);
}

const char *mj_buf_cstr(struct mj_buf *b)
{
    mj_buf_reserve(b, 1);
    b->ptr[b->len] = '\0';
    return (const char *)b->ptr;
}
