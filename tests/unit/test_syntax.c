/* Identifier syntax against the published vectors, plus the limits they do not reach. */
#include "cmocka_all.h"

#include "atproto/syntax.h"
#include "base/err.h"
#include "shared.h"

/* Checks every line of a vector file; returns how many there were. Blanks at the ends of a line
 * belong to the vector. */
static unsigned vectors(const char *file, bool (*valid)(struct mj_span), bool expected)
{
    char name[128];
    unsigned n = 0;
    MJ_AUTO_BUF text = {0};
    snprintf(name, sizeof name, "interop/syntax/%s.txt", file);
    if (!mj_test_shared(name, &text))
        return 0;
    struct mj_span rest = mj_buf_span(&text), line;
    while (mj_test_line(&rest, &line)) {
        if (line.len == 0 || line.ptr[0] == '#')
            continue;
        n++;
        if (valid(line) != expected)
            fail_msg("%s: %.*s", file, (int)line.len, (const char *)line.ptr);
    }
    return n;
}

static void test_vectors(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool (*valid)(struct mj_span);
        unsigned good, bad;
    } files[] = {
        {"atidentifier", mj_at_identifier_valid, 11, 22},
        {"aturi", mj_aturi_valid, 23, 72},
        {"cid", mj_cid_text_valid, 8, 10},
        {"datetime", mj_datetime_valid, 35, 45},
        {"did", mj_did_valid, 24, 18},
        {"handle", mj_handle_valid, 71, 48},
        {"nsid", mj_nsid_valid, 25, 27},
        {"recordkey", mj_rkey_valid, 16, 11},
        {"tid", mj_tid_valid, 4, 9},
    };
    for (size_t i = 0; i < MJ_COUNT(files); i++) {
        char name[64];
        snprintf(name, sizeof name, "%s_syntax_valid", files[i].name);
        unsigned good = vectors(name, files[i].valid, true);
        snprintf(name, sizeof name, "%s_syntax_invalid", files[i].name);
        unsigned bad = vectors(name, files[i].valid, false);
        print_message("%s: %u good, %u bad\n", files[i].name, good, bad);
        if (good || bad) {
            assert_true(good >= 3);
            assert_true(bad >= 3);
        }
    }
    unsigned bad = vectors("datetime_parse_invalid", mj_datetime_valid, false);
    assert_true(bad == 0 || bad == 7);
}

/* A text of n bytes 'a', optionally with a head and a tail. */
static struct mj_span padded(struct mj_buf *b, const char *head, size_t n, const char *tail)
{
    b->len = 0;
    mj_buf_puts(b, head);
    for (size_t i = 0; i < n; i++)
        mj_buf_putc(b, 'a');
    mj_buf_puts(b, tail);
    return mj_buf_span(b);
}

static void test_limits(void **state)
{
    (void)state;
    MJ_AUTO_BUF b = {0};
    assert_true(mj_did_valid(padded(&b, "did:web:", 2040, "")));
    assert_false(mj_did_valid(padded(&b, "did:web:", 2041, "")));
    assert_true(mj_rkey_valid(padded(&b, "", 512, "")));
    assert_false(mj_rkey_valid(padded(&b, "", 513, "")));
    assert_false(mj_rkey_valid(mj_str("")));
    assert_true(mj_handle_valid(padded(&b, "", 63, ".example.com")));
    assert_false(mj_handle_valid(padded(&b, "", 64, ".example.com")));
    assert_true(mj_nsid_valid(padded(&b, "com.example.", 63, "")));
    assert_false(mj_nsid_valid(padded(&b, "com.example.", 64, "")));
    assert_false(mj_aturi_valid(padded(&b, "at://did:web:", 8200, "")));
    static bool (*const every[])(struct mj_span) = {
        mj_did_valid, mj_handle_valid, mj_at_identifier_valid, mj_nsid_valid,    mj_rkey_valid,
        mj_tid_valid, mj_aturi_valid,  mj_datetime_valid,      mj_cid_text_valid};
    for (size_t i = 0; i < MJ_COUNT(every); i++) {
        assert_false(every[i](mj_span(NULL, 0)));
        assert_false(every[i](mj_str("caf\xc3\xa9.example.com")));
    }
    /* A NUL inside is a byte like any other, and allowed nowhere. */
    assert_false(mj_did_valid(mj_span("did:web:a\0b", 11)));
}

static void test_path(void **state)
{
    (void)state;
    struct mj_span c, r;
    assert_true(mj_path_split(mj_str("app.bsky.feed.post/3k:x"), &c, &r));
    assert_true(mj_span_is(c, "app.bsky.feed.post"));
    assert_true(mj_span_is(r, "3k:x"));
    static const char *const bad[] = {"",    "/",     "app.bsky.feed.post", "app.bsky.feed.post/",
                                      "a/b", "/self", "a.b.c/d/e",          "a.b.c//d"};
    for (size_t i = 0; i < MJ_COUNT(bad); i++)
        assert_false(mj_path_split(mj_str(bad[i]), &c, &r));
}

static void test_tid(void **state)
{
    (void)state;
    char text[14];
    assert_int_equal(mj_tid_time_us(mj_str("3jzfcijpj2z2a")), 1688137381887007);
    mj_tid_make(1688137381887007, 6, text);
    assert_string_equal(text, "3jzfcijpj2z2a");
    assert_int_equal(mj_tid_time_us(mj_str("zzzzzzzzzzzzz")), 0);
    mj_tid_make((1ll << 53) - 1, 1023, text);
    assert_true(mj_tid_valid(mj_str(text)));
    assert_int_equal(mj_tid_time_us(mj_str(text)), (1ll << 53) - 1);
}

static void test_datetime(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t us;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1969-12-31T23:59:59.999999Z", -1},
        {"2026-07-04T14:38:08.999Z", 1783175888999000},
        {"2026-07-04T16:38:08.9999999+02:00", 1783175888999999},
        {"2000-02-29T00:00:00Z", 951782400000000},
        {"0000-01-01T00:00:00Z", -62167219200000000},
        {"9999-12-31T23:59:59.999999Z", 253402300799999999},
    };
    int64_t us;
    for (size_t i = 0; i < MJ_COUNT(good); i++) {
        assert_int_equal(mj_datetime_us(mj_str(good[i].text), &us), 0);
        assert_int_equal(us, good[i].us);
    }
    static const char *const bad[] = {
        "1900-02-29T00:00:00Z",      "2026-04-31T00:00:00Z",     "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:60Z",      "2026-01-01T00:00:00",      "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+0000",  "2026-01-01T00:00:00.Z",    "2026-01-01T00:00:00-00:00",
        "2026-01-01T00:00:00.1+1:0", "+026-01-01T00:00:00Z",     "2026-01-01T00:00:00ZZ",
        "2026-01-01T00:00:00+00:60", "0000-01-01T00:00:00+00:01"};
    for (size_t i = 0; i < MJ_COUNT(bad); i++)
        if (mj_datetime_us(mj_str(bad[i]), &us) != MJ_ETIME)
            fail_msg("%s", bad[i]);
    char text[28];
    for (int64_t t = -62167219200000000; t < 253402300799000000; t += 12345678912345) {
        mj_datetime_make(t, text);
        assert_int_equal(mj_datetime_us(mj_str(text), &us), 0);
        assert_int_equal(us, t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),  cmocka_unit_test(test_limits),
        cmocka_unit_test(test_path),     cmocka_unit_test(test_tid),
        cmocka_unit_test(test_datetime),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
