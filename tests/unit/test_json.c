/* Reading hostile JSON: what is JSON and what is not, members and elements, texts with escapes. */
#include "cmocka_all.h"

#include "base/err.h"
#include "base/json.h"

static void accepts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int type;
    } cases[] = {
        {"null", MJ_JSON_NULL},
        {" true\n", MJ_JSON_BOOL},
        {"false", MJ_JSON_BOOL},
        {"0", MJ_JSON_NUMBER},
        {"-0.5e+10", MJ_JSON_NUMBER},
        {"9223372036854775808", MJ_JSON_NUMBER},
        {"1E9", MJ_JSON_NUMBER},
        {"\"\"", MJ_JSON_STRING},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\xc3\xa9\"", MJ_JSON_STRING},
        {"[]", MJ_JSON_ARRAY},
        {"[ ]", MJ_JSON_ARRAY},
        {"[1, [2,{}] ,\"]\"]", MJ_JSON_ARRAY},
        {"{}", MJ_JSON_OBJECT},
        {"{\"a\":{\"b\":[null]},\"\" : 1}", MJ_JSON_OBJECT},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        struct mj_span rest = mj_str(cases[i].text), raw;
        assert_int_equal(mj_json_take(&rest, &raw), cases[i].type);
        assert_int_equal(rest.len, 0);
    }
}

static void refuses(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",        " ",         "nul",         "True",     "01",    "-",          "1.",
        ".5",      "1e",        "+1",          "0x1",      "\"",    "\"\\\"",     "\"\\x\"",
        "\"\\u12", "\"\n\"",    "\"\\u12g4\"", "[",        "[1",    "[1,]",       "[,1]",
        "[1 2]",   "{",         "{\"a\"}",     "{\"a\":}", "{a:1}", "{\"a\":1,}", "{1:1}",
        "]",       "{\"a\" 1}", "'a'",         "NaN",      "[1}",   "{\"a\":1]"};
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        struct mj_span rest = mj_str(cases[i]), raw;
        int type = mj_json_take(&rest, &raw);
        if (type >= 0 ? rest.len == 0 : type != MJ_ESYNTAX)
            fail_msg("accepted: %s", cases[i]);
    }
    struct mj_span two = MJ_SPAN("1 2"), raw;
    assert_int_equal(mj_json_take(&two, &raw), MJ_JSON_NUMBER);
    assert_true(mj_span_is(two, "2")); /* the rest is the caller's to refuse */
}

static void depth(void **state)
{
    (void)state;
    for (int more = 0; more <= 1; more++) {
        MJ_AUTO_BUF b = {0};
        for (int i = 0; i < MJ_JSON_DEPTH_MAX + more; i++)
            mj_buf_putc(&b, '[');
        for (int i = 0; i < MJ_JSON_DEPTH_MAX + more; i++)
            mj_buf_putc(&b, ']');
        struct mj_span rest = mj_buf_span(&b), raw;
        assert_int_equal(mj_json_take(&rest, &raw), more ? MJ_EDEPTH : MJ_JSON_ARRAY);
    }
}

static void members(void **state)
{
    (void)state;
    struct mj_span rest = MJ_SPAN("{ \"a\\u0062\" : [ 1 , \"x,]\" ] ,\"c\":{\"d\":null} } "),
                   object, key, raw;
    assert_int_equal(mj_json_take(&rest, &object), MJ_JSON_OBJECT);
    rest = mj_json_inside(object);
    assert_int_equal(mj_json_member(&rest, &key, &raw), MJ_JSON_ARRAY);
    assert_true(mj_span_is(key, "\"a\\u0062\""));
    struct mj_span elements = mj_json_inside(raw);
    assert_int_equal(mj_json_element(&elements, &raw), MJ_JSON_NUMBER);
    assert_true(mj_span_is(raw, "1"));
    assert_int_equal(mj_json_element(&elements, &raw), MJ_JSON_STRING);
    assert_true(mj_span_is(raw, "\"x,]\""));
    assert_int_equal(mj_json_element(&elements, &raw), MJ_ENOENT);
    assert_int_equal(mj_json_member(&rest, &key, &raw), MJ_JSON_OBJECT);
    assert_true(mj_span_is(raw, "{\"d\":null}"));
    assert_int_equal(mj_json_member(&rest, &key, &raw), MJ_ENOENT);
}

static void texts(void **state)
{
    (void)state;
    static const struct {
        const char *raw, *text;
    } cases[] = {
        {"\"\"", ""},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"a\\u00e9\\u20AC\\ud83d\\ude00z\"", "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z"},
        {"\"\\ud83dx\\ude00\\ud83d\\ud83d\\ude00\"",
         "\xef\xbf\xbdx\xef\xbf\xbd\xef\xbf\xbd\xf0\x9f\x98\x80"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        MJ_AUTO_BUF out = {0};
        mj_json_text(mj_str(cases[i].raw), &out);
        assert_true(mj_span_is(mj_buf_span(&out), cases[i].text));
    }
    MJ_AUTO_BUF nul = {0};
    mj_json_text(MJ_SPAN("\"a\\u0000b\""), &nul);
    assert_int_equal(nul.len, 3);
    assert_memory_equal(nul.ptr, "a\0b", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(accepts), cmocka_unit_test(refuses),
                                       cmocka_unit_test(depth), cmocka_unit_test(members),
                                       cmocka_unit_test(texts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
