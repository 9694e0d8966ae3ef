/* A zstd dictionary for tests, trained on events of the shape they send, and its decoder. */
#pragma once

#include <zdict.h>
#include <zstd.h>

#include "base/bytes.h"

static inline struct mj_span test_dictionary(void)
{
    static uint8_t dict[16384];
    static size_t size;
    if (!size) {
        MJ_AUTO_BUF samples = {0};
        size_t sizes[2000];
        for (unsigned i = 0; i < MJ_COUNT(sizes); i++) {
            size_t before = samples.len;
            mj_buf_printf(
                &samples,
                "{\"did\":\"did:plc:%024u\",\"time_us\":%u,\"kind\":\"commit\",\"commit\":{"
                "\"rev\":\"3l3qo2vuowo%02u\",\"operation\":\"create\",\"collection\":"
                "\"app.bsky.feed.%s\",\"rkey\":\"r%u\",\"record\":{\"text\":\"%08x%08x\"}}}",
                i % 37, i * 7919, i % 97, i % 3 ? "like" : "post", i, i * 2654435761u, i * 40503u);
            sizes[i] = samples.len - before;
        }
        size = ZDICT_trainFromBuffer(dict, sizeof dict, samples.ptr, sizes, MJ_COUNT(sizes));
        assert_false(ZDICT_isError(size));
    }
    return mj_span(dict, size);
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
