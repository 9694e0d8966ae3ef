/* Compressed events: complete frames with id, size and checksum; made once however often they are
 * asked for; back to back when asked for in order; bounded memory. */
#include "cmocka_all.h"

#include <stdio.h>

#include "base/ws.h"
#include "server/pack.c"
#include "support/dictionary.h"

static struct mj_packer *new_packer(void)
{
    struct mj_packer *p;
    assert_int_equal(mj_packer_new(test_dictionary(), &p), 0);
    return p;
}

static struct mj_span event(unsigned i, size_t size)
{
    static struct mj_buf text;
    text.len = 0;
    mj_buf_printf(&text, "{\"did\":\"did:plc:%024u\",\"time_us\":%u,\"kind\":\"commit\",\"x\":\"",
                  i, i);
    for (uint32_t n = i; text.len < size; n = n * 1664525 + 1013904223)
        mj_buf_putc(&text, (char)('!' + (n >> 16) % 90 + ((n >> 16) % 90 == 1)));
    mj_buf_puts(&text, "\"}");
    return mj_buf_span(&text);
}

static struct mj_span payload(struct mj_span frame)
{
    uint8_t head[MJ_WS_HEAD_MAX];
    unsigned h = 2;
    while (h < 10 && frame.len - h != 0 && mj_ws_head(head, MJ_WS_BINARY, frame.len - h) != h)
        h = h == 2 ? 4 : 10;
    assert_int_equal(mj_ws_head(head, MJ_WS_BINARY, frame.len - h), h);
    assert_memory_equal(frame.ptr, head, h);
    return mj_span(frame.ptr + h, frame.len - h);
}

static void frames(void **state)
{
    (void)state;
    struct mj_packer *p = new_packer();
    static const size_t sizes[] = {0, 60, 200, 500, 3000, 60000, 70000, 200000};
    MJ_AUTO_BUF text = {0};
    for (unsigned i = 0; i < MJ_COUNT(sizes); i++)
        for (int once = 0; once <= 1; once++) {
            struct mj_span frame, json = event(i, sizes[i]);
            bool fleeting = false;
            assert_int_equal(once ? mj_packer_once(p, json, &frame)
                                  : mj_packer_event(p, i, json, &frame, &fleeting),
                             0);
            assert_false(fleeting);
            test_decode(payload(frame), &text);
            assert_int_equal(text.len, json.len);
            assert_memory_equal(text.ptr, json.ptr, json.len);
        }
    mj_packer_free(p);
}

static void once(void **state)
{
    (void)state;
    struct mj_packer *p = new_packer();
    int64_t before = mj_metric_get(p->events);
    const uint8_t *end = NULL;
    unsigned joints = 0;
    bool fleeting;
    for (int turn = 0; turn < 3; turn++) {
        joints = 0;
        for (unsigned i = 0; i < 2000; i++) {
            struct mj_span frame;
            assert_int_equal(mj_packer_event(p, 5000 + i, event(i, 400), &frame, &fleeting), 0);
            assert_false(fleeting);
            joints += frame.ptr == end;
            end = frame.ptr + frame.len;
        }
    }
    assert_int_equal(mj_metric_get(p->events) - before, 2000);
    assert_true(joints > 1900); /* but for the ends of chunks and blocks */
    mj_packer_free(p);
}

static void bounds(void **state)
{
    (void)state;
    struct mj_packer *p = new_packer();
    MJ_AUTO_BUF text = {0};
    bool fleeting, any = false;
    struct mj_span frame, last = {0};
    unsigned long long sum = 0;
    /* Many blocks, of all sizes; the frame before the latest stays what it was. */
    for (unsigned i = 0; i < 6000; i++) {
        uint64_t seq = i * 151u;
        assert_int_equal(mj_packer_event(p, seq, event(i, i % 50 ? 500 : 30000), &frame, &fleeting),
                         0);
        assert_false(fleeting);
        assert_true(p->size < BUDGET + BLOCK_MAX + CHUNK);
        if (i % 100 == 1) {
            test_decode(payload(last), &text);
            sum += text.len;
        }
        last = frame;
    }
    assert_true(sum > 0);
    /* One block of huge events: those past the bound are made each time. */
    for (int turn = 0; turn < 2; turn++)
        for (unsigned i = 0; i < 20; i++) {
            struct mj_span json = event(i, 400000);
            assert_int_equal(mj_packer_event(p, (1u << 30) + i, json, &frame, &fleeting), 0);
            test_decode(payload(frame), &text);
            assert_int_equal(text.len, json.len);
            any = any || fleeting;
            assert_true(p->size < BUDGET + 2 * BLOCK_MAX);
        }
    assert_true(any);
    mj_packer_free(p);
}

static void bad_dictionaries(void **state)
{
    (void)state;
    struct mj_packer *p;
    assert_int_equal(mj_packer_new(MJ_SPAN("no dictionary at all"), &p), MJ_EINVAL);
    assert_int_equal(mj_packer_new(mj_span(NULL, 0), &p), MJ_EINVAL);
    struct mj_span cut = test_dictionary();
    cut.len = 40;
    assert_int_equal(mj_packer_new(cut, &p), MJ_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(frames), cmocka_unit_test(once),
                                       cmocka_unit_test(bounds),
                                       cmocka_unit_test(bad_dictionaries)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
