/* Recorded frames as tests keep them: u32 little-endian length, then the bytes, again and again. */
#pragma once

#include <zstd.h>

#include "shared.h"

/* Takes the next frame off *rest. False at the end or when the rest is cut. */
static inline bool mj_test_frame(struct mj_span *rest, struct mj_span *frame)
{
    if (rest->len < 4)
        return false;
    const uint8_t *p = rest->ptr;
    size_t n = p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
    if (n > rest->len - 4)
        return false;
    *frame = mj_span(p + 4, n);
    *rest = mj_span(p + 4 + n, rest->len - 4 - n);
    return true;
}

/* Reads and decompresses corpus/frames.bin.zst; false (after SKIP) without the data folder. */
static inline bool mj_test_corpus(struct mj_buf *out)
{
    MJ_AUTO_BUF packed = {0};
    if (!mj_test_shared("corpus/frames.bin.zst", &packed))
        return false;
    size_t cap = 16u << 20;
    mj_buf_reserve(out, cap);
    size_t n = ZSTD_decompress(out->ptr, cap, packed.ptr, packed.len);
    if (ZSTD_isError(n))
        abort();
    out->len = n;
    return true;
}
