/* One zstd dictionary for the tests of a program, and what checks and decodes a frame. */
#pragma once

#include "support/zdict.h"

static inline struct mj_span test_dictionary(void)
{
    static struct mj_buf dict; /* kept until the end */
    if (!dict.len)
        make_dictionary(&dict, 4711);
    return mj_buf_span(&dict);
}

/* Decodes one complete frame that carries the dictionary's id, a size and a checksum. */
static inline void test_decode(struct mj_span frame, struct mj_buf *out)
{
    static ZSTD_DCtx *dctx;
    struct mj_span dict = test_dictionary();
    if (!dctx)
        dctx = ZSTD_createDCtx();
    assert_int_equal(ZSTD_getDictID_fromFrame(frame.ptr, frame.len),
                     ZSTD_getDictID_fromDict(dict.ptr, dict.len));
    assert_true(frame.len > 5 && frame.ptr[4] & 4); /* checksum */
    unsigned long long size = ZSTD_getFrameContentSize(frame.ptr, frame.len);
    assert_true(size < 10u << 20);
    assert_int_equal(ZSTD_findFrameCompressedSize(frame.ptr, frame.len), frame.len);
    out->len = 0;
    mj_buf_reserve(out, (size_t)size);
    out->len = ZSTD_decompress_usingDict(dctx, out->ptr, (size_t)size, frame.ptr, frame.len,
                                         dict.ptr, dict.len);
    assert_int_equal(out->len, size);
}
