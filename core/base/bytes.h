/* Bytes: borrowed spans and owned growable buffers. Nothing here depends on a NUL terminator.
 *
 *   mj_span   a pointer and a length; never owns. Whoever stores one says until when it is valid.
 *   mj_buf    owned bytes that grow; start from {0}, end with mj_buf_deinit().
 *
 * Small allocations abort when memory is gone; those sized by input are `try_` and return
 * MJ_ENOMEM or MJ_ELIMIT. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct mj_span {
    const uint8_t *ptr; /* borrowed */
    size_t len;
};

#define MJ_SPAN(lit) ((struct mj_span){(const uint8_t *)(lit), sizeof(lit) - 1})

static inline struct mj_span mj_span(const void *p, size_t n)
{
    return (struct mj_span){(const uint8_t *)p, n};
}

static inline struct mj_span mj_str(const char *s) { return mj_span(s, s ? strlen(s) : 0); }

static inline bool mj_span_eq(struct mj_span a, struct mj_span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool mj_span_is(struct mj_span a, const char *s) { return mj_span_eq(a, mj_str(s)); }

static inline bool mj_span_starts(struct mj_span a, struct mj_span prefix)
{
    return a.len >= prefix.len && (prefix.len == 0 || memcmp(a.ptr, prefix.ptr, prefix.len) == 0);
}

/* Bytewise order, shorter first on a common prefix: <0, 0, >0. */
static inline int mj_span_cmp(struct mj_span a, struct mj_span b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n ? memcmp(a.ptr, b.ptr, n) : 0;
    return c ? c : (a.len > b.len) - (a.len < b.len);
}

/* NUL-terminated heap copy; caller frees. Aborts without memory, so only for small input. */
char *mj_span_dup(struct mj_span s);
/* Decimal int64, optional sign, nothing else; 0 or MJ_ESYNTAX / MJ_ELIMIT (overflow). */
int mj_span_i64(struct mj_span s, int64_t *out);

void *mj_alloc(size_t n);               /* aborts without memory */
void *mj_calloc(size_t n, size_t size); /* aborts without memory */
void *mj_realloc(void *p, size_t n);    /* aborts without memory */
char *mj_strdup(const char *s);         /* aborts without memory */

struct mj_buf {
    uint8_t *ptr; /* owned */
    size_t len, cap;
};

void mj_buf_deinit(struct mj_buf *b);
/* Room for n more bytes behind len. 0 or MJ_ENOMEM (nothing changes). */
int mj_buf_try_reserve(struct mj_buf *b, size_t n);
/* Room for n more bytes; aborts without memory. */
void mj_buf_reserve(struct mj_buf *b, size_t n);
void mj_buf_put(struct mj_buf *b, const void *p, size_t n);
void mj_buf_puts(struct mj_buf *b, const char *s);
void mj_buf_putc(struct mj_buf *b, char c);
void mj_buf_printf(struct mj_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void mj_buf_vprintf(struct mj_buf *b, const char *fmt, va_list ap);
/* Appends s as a JSON string, U+FFFD for what is no UTF-8; for control output (not records). */
void mj_buf_put_json(struct mj_buf *b, struct mj_span s);
/* Drops the first n bytes. */
void mj_buf_shift(struct mj_buf *b, size_t n);
static inline struct mj_span mj_buf_span(const struct mj_buf *b) { return mj_span(b->ptr, b->len); }
/* NUL-terminates (the NUL is not counted in len) and returns the text, borrowed until a change. */
const char *mj_buf_cstr(struct mj_buf *b);

/* What a hex digit of either case stands for, or -1. */
static inline int mj_hex_digit(uint8_t c)
{
    uint8_t low = c | 0x20;
    return c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

static inline void mj__free(void *p) { free(*(void **)p); }
#define MJ_AUTO_FREE __attribute__((cleanup(mj__free)))
#define MJ_AUTO_BUF  __attribute__((cleanup(mj_buf_deinit))) struct mj_buf

#define MJ_COUNT(a)    (sizeof(a) / sizeof((a)[0]))
#define MJ_LIKELY(x)   __builtin_expect(!!(x), 1)
#define MJ_UNLIKELY(x) __builtin_expect(!!(x), 0)
