/* Dictionary files and compressed messages: a dictionary that passes the check can be used, a
 * message gives at most what was allowed, and what it gave survives being packed again. The input:
 * u16 little-endian length of the dictionary, the dictionary (none: length 0), the message. */
#include <zstd.h>

#include "base/dictionary.h"

#define LIMIT (256u << 10)

static void pack_again(struct mj_zmessage *z, struct mj_span text)
{
    MJ_AUTO_BUF copy = {0}, packed = {0};
    struct mj_span out;
    mj_buf_put(&copy, text.ptr, text.len);
    mj_buf_reserve(&packed, ZSTD_compressBound(text.len));
    size_t n = ZSTD_compress(packed.ptr, packed.cap, copy.ptr, copy.len, 1);
    if (ZSTD_isError(n) || mj_zmessage_decode(z, mj_span(packed.ptr, n), &out) ||
        !mj_span_eq(out, mj_buf_span(&copy)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2)
        return 0;
    size_t size = (size_t)(data[0] | data[1] << 8);
    size = size < n - 2 ? size : n - 2;
    struct mj_span dict = mj_span(data + 2, size);
    struct mj_span message = mj_span(data + 2 + size, n - 2 - size), out;
    uint32_t id;
    const char *why = NULL;
    bool good = mj_dictionary_check(dict, &id, &why) == 0;
    if (good != (why == NULL) || (good && !id))
        abort();
    struct mj_zmessage *z = mj_zmessage_new(good ? dict : (struct mj_span){0}, LIMIT);
    if (!z)
        abort();
    if (!mj_zmessage_decode(z, message, &out)) {
        if (out.len > LIMIT)
            abort();
        pack_again(z, out);
    } else if (out.ptr || out.len) {
        abort();
    }
    mj_zmessage_free(z);
    return 0;
}
