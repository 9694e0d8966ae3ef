/* Rich text: what counts as a facet, how graphemes are counted, where texts may be cut. That the
 * official package says the same is tests/e2e/suites/richtext.mjs. */
#include "cmocka_all.h"

#include "atproto/richtext.h"

/* The facets as "@handle link #tag $CASH" with their bytes, to compare. */
static const char *facets(const char *text, struct mj_buf *out)
{
    struct mj_facets walk;
    struct mj_facet f;
    out->len = 0;
    mj_facets_init(&walk, mj_str(text));
    while (mj_facets_next(&walk, &f))
        mj_buf_printf(out, "%s%c%.*s@%zu-%zu", out->len ? " " : "", "@^#$"[f.kind],
                      (int)f.value.len, (const char *)f.value.ptr, f.start, f.end);
    return mj_buf_cstr(out);
}

static void facets_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *text, *facets;
    } cases[] = {
        {"", ""},
        {"nothing here", ""},
        {"é 👨‍👩‍👧 @alice.test https://x.y #tag",
         "@alice.test@22-33 ^https://x.y@34-45 #tag@46-50"},
        /* mentions */
        {"@bob.bsky.social", "@bob.bsky.social@0-16"},
        {"(@bob.example.com)", "@bob.example.com@1-17"},
        {"@bob.example.com, hi", "@bob.example.com@0-16"},
        {"@bob.example.com.", "@bob.example.com@0-16"},
        {"me@bob.example.com", ""},
        {"@bob", ""},
        {"@bob.nosuchzone", ""},
        {"@bob..test", ""},
        {"@bob.example.com_", ""},
        {"@", ""},
        {"@@bob.test", ""},
        /* links */
        {"http://a", "^http://a@0-8"},
        {"HTTPS://A.example", "^HTTPS://A.example@0-17"},
        {"see example.com.", "^example.com@4-15"},
        {"see (example.com/a)", "^example.com/a@5-18"},
        {"https://en.example/a_(b)", "^https://en.example/a_(b)@0-24"},
        {"https://a.example/?q=1!", "^https://a.example/?q=1@0-22"},
        {"example.com!!", "^example.com!@0-12"},
        {"httpbin.org/get", "^httpbin.org/get@0-15"},
        {"bbc.co.za", "^bbc.co.za@0-9"},
        {"e.g. this", ""},
        {"1.com", ""},
        {"file.txt", ""},
        {"https://", ""},
        {"https:///etc", ""},
        {"https://.", ""},
        {"xhttps://a.com", ""},
        {"a\nb.com\u3000c.com", "^b.com@2-7 ^c.com@10-15"},
        /* tags */
        {"#moon #Moon's", "#moon@0-5 #Moon's@6-13"},
        {"#1 #1a #٣", "#1a@3-6 #٣@7-10"},
        {"#a.b... #?!", "#a.b@0-4"},
        {"\uff03moon", "#moon@0-7"},
        {"#\ufe0f\u20e3", ""},
        {"x#moon ##moon", "##moon@7-13"},
        {"#a\u200bb", "#a@0-2"},
        {"#", ""},
        /* cashtags */
        {"$aapl, $TOOLONG $1 ($X)", "$aapl@0-5 $X@20-22"},
        {"$A\u2019s $a_b", "$A@0-2"},
        /* one behind the other, one in the other */
        {"#a(b.com #c", "#a(b.com@0-8 #c@9-11"},
        {"https://a.com/(@b.test)", "^https://a.com/(@b.test)@0-23"},
    };
    MJ_AUTO_BUF out = {0};
    for (size_t i = 0; i < MJ_COUNT(cases); i++)
        if (strcmp(facets(cases[i].text, &out), cases[i].facets) != 0)
            fail_msg("%s: %s, not %s", cases[i].text, mj_buf_cstr(&out), cases[i].facets);
}

static void tags_have_a_length(void **state)
{
    (void)state;
    MJ_AUTO_BUF text = {0}, out = {0};
    mj_buf_puts(&text, "#");
    for (int i = 0; i < 64; i++)
        mj_buf_puts(&text, "é");
    facets(mj_buf_cstr(&text), &out);
    assert_true(out.len > 0);
    mj_buf_puts(&text, "e");
    facets(mj_buf_cstr(&text), &out);
    assert_int_equal(out.len, 0);
}

static void graphemes_are_counted(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t graphemes;
    } cases[] = {
        {"", 0},
        {"abc", 3},
        {"é", 1},
        {"e\u0301", 1},
        {"👨‍👩‍👧", 1},
        {"👍🏽", 1},
        {"🇩🇪🇫🇷", 2},
        {"🇩🇪🇫", 2},
        {"\r\n", 1},
        {"한국", 2},
        {"각", 1},
        {"\xff\xfe", 2},
        {"a\xcc", 2},
        {"👩🏽‍🚀x", 2},
        {"क्ष", 1},
        {"क्‍ष", 1},
        {"नमस्ते", 3},
        {"ക്ഷ", 1},
        {"क्‌ष", 2},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++)
        if (mj_graphemes(mj_str(cases[i].text)) != cases[i].graphemes)
            fail_msg("%s: %zu", cases[i].text, mj_graphemes(mj_str(cases[i].text)));
}

static void what_fits_is_whole(void **state)
{
    (void)state;
    struct mj_span text = mj_str("a👨‍👩‍👧é");
    assert_int_equal(mj_graphemes_fit(text, 0, 100), 0);
    assert_int_equal(mj_graphemes_fit(text, 1, 100), 1);
    assert_int_equal(mj_graphemes_fit(text, 2, 100), 19);
    assert_int_equal(mj_graphemes_fit(text, 9, 18), 1);
    assert_int_equal(mj_graphemes_fit(text, 9, 20), 19);
    assert_int_equal(mj_graphemes_fit(text, 9, 21), 21);
    assert_int_equal(mj_graphemes_fit(mj_str("👨‍👩‍👧"), 9, 5), 0);
}

static void words_end(void **state)
{
    (void)state;
    struct mj_span text = mj_str("one  two\u3000drei");
    assert_int_equal(mj_word_end(text, 100), text.len);
    assert_int_equal(mj_word_end(text, text.len), text.len);
    assert_int_equal(mj_word_end(text, 12), 8);
    assert_int_equal(mj_word_end(text, 8), 8);
    assert_int_equal(mj_word_end(text, 7), 3);
    assert_int_equal(mj_word_end(text, 4), 3);
    assert_int_equal(mj_word_end(text, 2), 0);
    assert_int_equal(mj_word_end(text, 0), 0);
    assert_int_equal(mj_space_before(mj_str(" \u2003\nx ")), 5);
    assert_int_equal(mj_space_after(mj_str(" x\t\u00a0")), 3);
    assert_int_equal(mj_space_before(mj_str("")), 0);
    assert_int_equal(mj_space_after(mj_str("")), 0);
    assert_int_equal(mj_space_after(mj_str("\xa0")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(facets_are_found),
        cmocka_unit_test(tags_have_a_length),
        cmocka_unit_test(graphemes_are_counted),
        cmocka_unit_test(what_fits_is_whole),
        cmocka_unit_test(words_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
