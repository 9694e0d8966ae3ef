/* A small zstd dictionary, and messages packed with one, for tests. */
#pragma once

#include "cmocka_all.h"

#include <zdict.h>
#include <zstd.h>

#include "base/bytes.h"

/* A dictionary made here, with its id changed to the given one. */
static inline void make_dictionary(struct mj_buf *out, uint32_t id)
{
    static const char *const words[] = {"like", "post", "repost", "follow", "block"};
    MJ_AUTO_BUF samples = {0};
    size_t sizes[2000];
    for (size_t i = 0; i < MJ_COUNT(sizes); i++) {
        size_t before = samples.len;
        mj_buf_printf(&samples,
                      "{\"did\":\"did:plc:%zu\",\"time_us\":%zu,\"kind\":\"commit\",\"commit\":{"
                      "\"collection\":\"app.bsky.feed.%s\",\"rkey\":\"%zx\"}}",
                      i * 7919, 1700000000000000 + i * 1237, words[i % 5], i * 104729);
        sizes[i] = samples.len - before;
    }
    mj_buf_reserve(out, 4096);
    out->len = ZDICT_trainFromBuffer(out->ptr, 4096, samples.ptr, sizes, MJ_COUNT(sizes));
    assert_false(ZDICT_isError(out->len));
    for (int i = 0; i < 4; i++)
        out->ptr[4 + i] = (uint8_t)(id >> (8 * i));
}

/* One zstd frame with a checksum, as Jetstream sends it. */
static inline void pack(struct mj_buf *out, struct mj_span text, struct mj_span dict, bool say_size)
{
    ZSTD_CCtx *c = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
    ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, say_size);
    ZSTD_CCtx_loadDictionary(c, dict.ptr, dict.len);
    out->len = 0;
    mj_buf_reserve(out, ZSTD_compressBound(text.len));
    out->len = ZSTD_compress2(c, out->ptr, out->cap, text.ptr, text.len);
    assert_false(ZSTD_isError(out->len));
    ZSTD_freeCCtx(c);
}
