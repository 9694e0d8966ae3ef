/* Real relay frames against the lines production Jetstream printed for them. */
#include "cmocka_all.h"

#include "event/decode.h"
#include "event/jetstream.h"
#include "frames.h"

struct run {
    struct mj_span expected; /* lines not reached yet */
    unsigned lines, checked;
};

/* The expected line's own time_us is put into the event; then every byte must be equal. */
static int compare(void *ctx, struct mj_event *ev)
{
    struct run *r = ctx;
    struct mj_span line;
    assert_true(mj_test_line(&r->expected, &line));
    const char *at = strstr((const char *)line.ptr, "\"time_us\":");
    assert_non_null(at);
    ev->time_us = strtoll(at + 10, NULL, 10);
    MJ_AUTO_BUF json = {0};
    mj_buf_puts(&json, "before");
    assert_int_equal(mj_jetstream_encode(ev, NULL, &json), 0);
    if (json.len - 6 != line.len || memcmp(json.ptr + 6, line.ptr, line.len) != 0)
        fail_msg("line %u:\n%.*s\n%s", r->lines + 1, (int)line.len, (const char *)line.ptr,
                 mj_buf_cstr(&json) + 6);
    r->lines++;
    if (ev->op == MJ_OP_CREATE || ev->op == MJ_OP_UPDATE) {
        assert_int_equal(mj_record_check(ev->record), 0);
        r->checked++;
    }
    return 0;
}

static void test_corpus(void **state)
{
    (void)state;
    MJ_AUTO_BUF frames = {0}, expected = {0};
    if (!mj_test_corpus(&frames) || !mj_test_shared("corpus/expected_v1.jsonl", &expected))
        skip();
    struct mj_decoder *d = mj_decoder_new();
    struct run r = {.expected = mj_buf_span(&expected)};
    struct mj_span rest = mj_buf_span(&frames), frame;
    struct mj_frame out;
    unsigned n = 0, seqs = 0;
    while (mj_test_frame(&rest, &frame)) {
        /* Exactly sized, so that reading past a frame is seen. */
        uint8_t *copy = malloc(frame.len);
        memcpy(copy, frame.ptr, frame.len);
        assert_int_equal(mj_decode(d, mj_span(copy, frame.len), &out, compare, &r), 0);
        assert_int_equal(out.dropped, 0);
        seqs += out.seq > 0;
        free(copy);
        n++;
    }
    assert_int_equal(rest.len, 0);
    assert_int_equal(r.expected.len, 0);
    assert_int_equal(r.lines, 62);
    assert_int_equal(seqs, n);
    print_message("corpus: %u frames, %u lines equal, %u records checked\n", n, r.lines, r.checked);
    mj_decoder_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_corpus)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
