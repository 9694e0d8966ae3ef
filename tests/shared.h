/* The read-only data folder beside the project: recorded frames and published test vectors that
 * are not ours to copy. Tests skip visibly without it, or fail when MOONJET_REQUIRE_SHARED=1. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"

#define MJ_SHARED "../shared/data/"

/* Reads a whole file (path from the project's root) into an owned buffer, NUL-terminated behind
 * its length. False when it cannot be read. */
static inline bool mj_test_read(const char *path, struct mj_buf *out)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return false;
    char chunk[65536];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        mj_buf_put(out, chunk, n);
    fclose(f);
    mj_buf_cstr(out);
    return true;
}

/* Reads MJ_SHARED + name. When it is missing: exits the test program as failed under
 * MOONJET_REQUIRE_SHARED=1, otherwise prints SKIP and returns false. */
static inline bool mj_test_shared(const char *name, struct mj_buf *out)
{
    char path[512];
    snprintf(path, sizeof path, MJ_SHARED "%s", name);
    if (mj_test_read(path, out))
        return true;
    const char *required = getenv("MOONJET_REQUIRE_SHARED");
    if (required && strcmp(required, "1") == 0) {
        fprintf(stderr, "FAIL: %s is missing and MOONJET_REQUIRE_SHARED=1\n", path);
        exit(1);
    }
    fprintf(stderr, "SKIP: %s is not here\n", path);
    return false;
}

/* Takes the next line off *rest, without its line end. False at the end. */
static inline bool mj_test_line(struct mj_span *rest, struct mj_span *line)
{
    if (!rest->len)
        return false;
    const uint8_t *nl = memchr(rest->ptr, '\n', rest->len);
    size_t n = nl ? (size_t)(nl - rest->ptr) : rest->len, step = nl ? n + 1 : n;
    *line = mj_span(rest->ptr, n);
    *rest = mj_span(rest->ptr + step, rest->len - step);
    return true;
}

/* Appends the bytes that hex digits spell; everything else is ignored, so blanks may group them. */
static inline void mj_test_hex(const char *hex, struct mj_buf *out)
{
    int high = -1;
    for (; *hex; hex++) {
        const char *digits = "0123456789abcdef", *d = strchr(digits, *hex);
        if (!d)
            continue;
        if (high < 0) {
            high = (int)(d - digits);
        } else {
            mj_buf_putc(out, (char)(high << 4 | (int)(d - digits)));
            high = -1;
        }
    }
}
