/* The WebSocket reader: however the bytes are split, the same messages come out, within the limit,
 * and memory stays within what was received. Byte 0 picks the role and the split. */
#include "base/err.h"
#include "base/ws.h"

#define LIMIT 4096

static void run(const uint8_t *data, size_t n, bool masked, size_t step, struct mj_buf *out)
{
    struct mj_ws_reader r;
    mj_ws_reader_init(&r, masked, LIMIT);
    uint8_t *copy = mj_alloc(n);
    memcpy(copy, data, n);
    int got = 0;
    for (size_t at = 0; at < n && got >= 0; at += step) {
        struct mj_ws_msg m;
        mj_ws_reader_feed(&r, copy + at, n - at < step ? n - at : step);
        while ((got = mj_ws_reader_next(&r, &m)) > 0) {
            if (m.payload.len > LIMIT || ((m.op & 8) && m.payload.len > 125))
                abort();
            mj_buf_printf(out, "%d:%zu:", m.op, m.payload.len);
            mj_buf_put(out, m.payload.ptr, m.payload.len);
        }
        if ((got < 0) != (r.close_code != 0))
            abort();
        if (r.frame.cap + r.parts.cap > 4 * (LIMIT + MJ_WS_HEAD_MAX + 256))
            abort();
    }
    mj_buf_printf(out, "=%d", r.close_code);
    mj_ws_reader_deinit(&r);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1)
        return 0;
    MJ_AUTO_BUF whole = {0};
    MJ_AUTO_BUF split = {0};
    run(data + 1, n - 1, data[0] & 1, n, &whole);
    run(data + 1, n - 1, data[0] & 1, 1 + (data[0] >> 1) % 32, &split);
    if (!mj_span_eq(mj_buf_span(&whole), mj_buf_span(&split)))
        abort();
    return 0;
}
