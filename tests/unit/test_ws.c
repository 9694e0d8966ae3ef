/* WebSocket framing: heads, masking, the handshake key and the reader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "base/err.h"
#include "base/ws.h"

static void frame(struct mj_buf *b, uint8_t first, const void *p, size_t n)
{
    uint8_t head[MJ_WS_HEAD_MAX];
    size_t h = mj_ws_head(head, MJ_WS_BINARY, n);
    head[0] = first;
    mj_buf_put(b, head, h);
    mj_buf_put(b, p, n);
}

static void test_heads(void **state)
{
    (void)state;
    static const struct {
        uint64_t len;
        size_t size;
        const char *bytes;
    } cases[] = {{0, 2, "\x82\x00"},
                 {125, 2, "\x82\x7d"},
                 {126, 4, "\x82\x7e\x00\x7e"},
                 {65535, 4, "\x82\x7e\xff\xff"},
                 {65536, 10, "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"}};
    uint8_t out[MJ_WS_HEAD_MAX];
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        assert_int_equal(mj_ws_head(out, MJ_WS_BINARY, cases[i].len), cases[i].size);
        assert_memory_equal(out, cases[i].bytes, cases[i].size);
        assert_int_equal(mj_ws_head_masked(out, MJ_WS_TEXT, cases[i].len, (uint8_t *)"abcd"),
                         cases[i].size + 4);
        assert_int_equal(out[0], 0x81);
        assert_int_equal(out[1], (uint8_t)cases[i].bytes[1] | 0x80);
        assert_memory_equal(out + cases[i].size, "abcd", 4);
    }
}

static void test_mask(void **state)
{
    (void)state;
    uint8_t all[41], parts[41];
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = parts[i] = (uint8_t)(i * 7);
    const uint8_t mask[4] = {1, 2, 4, 8};
    mj_ws_mask(all, sizeof all, mask, 0);
    for (size_t i = 0; i < sizeof all; i++)
        assert_int_equal(all[i], (uint8_t)(i * 7) ^ mask[i % 4]);
    mj_ws_mask(parts, 3, mask, 0);
    mj_ws_mask(parts + 3, 19, mask, 3);
    mj_ws_mask(parts + 22, 19, mask, 22);
    assert_memory_equal(all, parts, sizeof all);
}

static void test_key(void **state)
{
    (void)state;
    char out[29], a[25], b[25];
    /* the example of RFC 6455 §1.3 */
    mj_ws_accept(MJ_SPAN("dGhlIHNhbXBsZSBub25jZQ=="), out);
    assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    mj_ws_new_key(a);
    mj_ws_new_key(b);
    assert_int_equal(strlen(a), 24);
    assert_string_not_equal(a, b);
}

/* Feeds the bytes in pieces of `step` and writes what came out as "op:len:lastbyte " text. */
static void run(struct mj_span in, bool masked, size_t limit, size_t step, struct mj_buf *out,
                int *code)
{
    struct mj_ws_reader r;
    mj_ws_reader_init(&r, masked, limit);
    uint8_t *copy = mj_alloc(in.len);
    memcpy(copy, in.ptr, in.len);
    int got = 0;
    for (size_t at = 0; at < in.len && got >= 0; at += step) {
        struct mj_ws_msg m;
        mj_ws_reader_feed(&r, copy + at, in.len - at < step ? in.len - at : step);
        while ((got = mj_ws_reader_next(&r, &m)) > 0)
            mj_buf_printf(out, "%d:%zu:%d ", m.op, m.payload.len,
                          m.payload.len ? m.payload.ptr[m.payload.len - 1] : -1);
    }
    *code = r.close_code;
    if (*code) {
        struct mj_ws_msg m;
        assert_true(mj_ws_reader_next(&r, &m) < 0); /* stays in error */
    }
    mj_ws_reader_deinit(&r);
    free(copy);
}

static void test_any_split(void **state)
{
    (void)state;
    MJ_AUTO_BUF in = {0};
    static uint8_t big[70000];
    memset(big, 9, sizeof big);
    frame(&in, 0x82, "abc", 3);
    frame(&in, 0x82, big, 200);
    frame(&in, 0x89, "hi", 2);
    frame(&in, 0x02, "one", 3);
    frame(&in, 0x00, "", 0);
    frame(&in, 0x89, "", 0); /* a ping between fragments */
    frame(&in, 0x80, "two", 3);
    frame(&in, 0x82, big, sizeof big);
    frame(&in, 0x82, "", 0);
    frame(&in, 0x88, "\x03\xe8gone", 6);
    const char *want = "2:3:99 2:200:9 9:2:105 9:0:-1 2:6:111 2:70000:9 2:0:-1 8:6:101 ";
    static const size_t steps[] = {1, 2, 3, 7, 100, 4096, 1000000};
    for (size_t i = 0; i < MJ_COUNT(steps); i++) {
        MJ_AUTO_BUF out = {0};
        int code;
        run(mj_buf_span(&in), false, 0, steps[i], &out, &code);
        assert_string_equal(mj_buf_cstr(&out), want);
        assert_int_equal(code, 0);
    }
}

static void test_in_place(void **state)
{
    (void)state;
    MJ_AUTO_BUF in = {0};
    frame(&in, 0x82, "abc", 3);
    frame(&in, 0x82, "defg", 4);
    struct mj_ws_reader r;
    mj_ws_reader_init(&r, false, 0);
    mj_ws_reader_feed(&r, in.ptr, in.len);
    struct mj_ws_msg m;
    assert_int_equal(mj_ws_reader_next(&r, &m), 1);
    assert_ptr_equal(m.payload.ptr, in.ptr + 2);
    assert_int_equal(mj_ws_reader_next(&r, &m), 1);
    assert_ptr_equal(m.payload.ptr, in.ptr + 7);
    assert_int_equal(mj_ws_reader_next(&r, &m), 0);
    assert_null(r.frame.ptr); /* nothing was copied */
    mj_ws_reader_deinit(&r);
}

static void test_masked_peer(void **state)
{
    (void)state;
    MJ_AUTO_BUF in = {0};
    uint8_t head[MJ_WS_HEAD_MAX];
    const uint8_t mask[4] = {0x11, 0x22, 0x33, 0x44};
    uint8_t text[300];
    memset(text, 'x', sizeof text);
    mj_buf_put(&in, head, mj_ws_head_masked(head, MJ_WS_TEXT, sizeof text, mask));
    mj_ws_mask(text, sizeof text, mask, 0);
    mj_buf_put(&in, text, sizeof text);
    for (size_t step = 1; step < 310; step += 103) {
        MJ_AUTO_BUF out = {0};
        int code;
        run(mj_buf_span(&in), true, 0, step, &out, &code);
        assert_string_equal(mj_buf_cstr(&out), "1:300:120 ");
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        bool masked;
        const char *bytes;
        size_t n;
        int code;
    } cases[] = {
        {"reserved bit", false, "\xc2\x00", 2, 1002},
        {"reserved opcode", false, "\x83\x00", 2, 1002},
        {"reserved control opcode", false, "\x8b\x00", 2, 1002},
        {"mask forbidden", false, "\x82\x80", 2, 1002},
        {"mask required", true, "\x82\x00", 2, 1002},
        {"fragmented ping", false, "\x09\x00", 2, 1002},
        {"long ping", false, "\x89\x7e\x00\x7e", 4, 1002},
        {"16-bit length for 125", false, "\x82\x7e\x00\x7d", 4, 1002},
        {"64-bit length for 65535", false, "\x82\x7f\0\0\0\0\0\0\xff\xff", 10, 1002},
        {"length with the top bit", false, "\x82\x7f\x80\0\0\0\0\0\0\0", 10, 1002},
        {"continuation of nothing", false, "\x80\x00", 2, 1002},
        {"data inside a message", false, "\x02\x01x\x82\x01y", 6, 1002},
        {"close with one byte", false, "\x88\x01x", 3, 1002},
        {"close code 1005", false, "\x88\x02\x03\xed", 4, 1002},
        {"close code 999", false, "\x88\x02\x03\xe7", 4, 1002},
        {"above the limit", false, "\x82\x7e\x03\xe9", 4, 1009},
        {"far above it", false, "\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", 10, 1009},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++)
        for (size_t step = 1; step < 20; step += 18) {
            MJ_AUTO_BUF out = {0};
            int code;
            run(mj_span(cases[i].bytes, cases[i].n), cases[i].masked, 1000, step, &out, &code);
            if (code != cases[i].code)
                fail_msg("%s: close code %d, expected %d", cases[i].what, code, cases[i].code);
        }
}

static void test_fragments_add_up_to_the_limit(void **state)
{
    (void)state;
    char part[100] = {0};
    for (int extra = 0; extra < 2; extra++) {
        MJ_AUTO_BUF in = {0}, out = {0};
        int code;
        frame(&in, 0x02, part, 100);
        frame(&in, 0x00, part, 100);
        frame(&in, 0x80, part, 100);
        run(mj_buf_span(&in), false, 300 - (size_t)extra, 1000, &out, &code);
        assert_int_equal(code, extra ? 1009 : 0);
        assert_string_equal(mj_buf_cstr(&out), extra ? "" : "2:300:0 ");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),    cmocka_unit_test(test_mask),
        cmocka_unit_test(test_key),      cmocka_unit_test(test_any_split),
        cmocka_unit_test(test_in_place), cmocka_unit_test(test_masked_peer),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_fragments_add_up_to_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
