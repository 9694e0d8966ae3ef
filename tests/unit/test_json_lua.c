/* jet.json: both ways, and what is refused. */
#include "unit/script_fixture.h"

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    fixture_open(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_close(*state);
    free(*state);
    return 0;
}

static void both_ways(void **state)
{
    fixture_load(
        *state,
        "local encode, decode = jet.json.encode, jet.json.decode\n"
        "local function same(text)\n"
        "  local value, why = decode(text)\n"
        "  assert(value ~= nil, why)\n"
        "  assert(encode(value) == text, encode(value))\n"
        "end\n"
        "same '0' same '-1' same '1.5' same '1e+300' same '0.1' same '-0.25'\n"
        "same '1.2345678901234568e+20'\n"
        "same 'true' same 'false' same 'null' same '\"\"' same '[]' same '{}'\n"
        "same '[null,[],{},[[1]]]' same '{\"a\":null,\"b\":[{\"c\":1.25}]}'\n"
        "same '\"\xc3\xa9 \xf0\x9f\x8c\x99\"'\n"
        "assert(decode ' [ 1 , 2 ] '[2] == 2)\n"
        "assert(decode '{\"a\" : {\"b\":[true]}}'.a.b[1] == true)\n"
        "assert(decode 'null' == jet.null and decode '[null]'[1] == jet.null)\n"
        "assert(decode [[\"\\u0041\\n\\/\\\"\\\\\\ud83c\\udf19\\u00e9\\u20ac\"]] == "
        "'A\\n/\"\\\\\\240\\159\\140\\153\\195\\169\\226\\130\\172')\n"
        "assert(decode [[\"\\u0000\"]] == '\\0')\n"
        "assert(decode '{\"a\":1,\"a\":2}'.a == 2)\n"
        "assert(decode '1E2' == 100 and decode '-0' == 0)\n"
        "assert(encode { b = 1, a = 'x', c = jet.null } == '{\"a\":\"x\",\"b\":1,\"c\":null}')\n"
        "assert(encode { 1, 'x', false } == '[1,\"x\",false]')\n"
        "assert(encode(jet.array()) == '[]' and encode(jet.object()) == '{}')\n"
        "assert(encode 'a\\n\\1\"' == [[\"a\\n\\u0001\\\"\"]], encode 'a\\n\\1\"')\n"
        "assert(encode(2 ^ 53) == '9007199254740992')\n"
        "local deep = decode(('['):rep(63) .. (']'):rep(63))\n"
        "assert(encode(deep) == ('['):rep(63) .. (']'):rep(63))\n");
}

static void refused(void **state)
{
    static const struct {
        const char *json, *says;
    } texts[] = {
        {"", "a value is expected, at byte 1"},
        {"  ", "a value is expected, at byte 3"},
        {"nul", "a value is expected"},
        {"[1,]", "a value is expected, at byte 4"},
        {"[1 2]", "',' or ']'"},
        {"[1", "',' or ']'"},
        {"{\"a\" 1}", "':' is expected"},
        {"{a:1}", "a key in quotes"},
        {"{\"a\":1,}", "a key in quotes"},
        {"{\"a\":1", "',' or '}'"},
        {"01", "something follows"},
        {"1.", "a digit"},
        {"1e", "a digit"},
        {"+1", "a value"},
        {"-", "a value"},
        {"1e999", "too large"},
        {"NaN", "a value"},
        {"\"x", "does not end"},
        {"\"\\\\x\"", "no such escape"},
        {"\"\\\\ud800\"", "half a surrogate"},
        {"\"\\\\udc00\"", "half a surrogate"},
        {"\"\\\\ud800\\\\u0041\"", "half a surrogate"},
        {"\"\\\\u12g4\"", "four hex digits"},
        {"\"\\1\"", "control character"},
        {"\"\\255\"", "not valid UTF-8"},
        {"\"\\237\\160\\128\"", "not valid UTF-8"},
        {"true false", "something follows"},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < MJ_COUNT(texts); i++) {
        MJ_AUTO_BUF source = {0};
        mj_buf_printf(&source,
                      "local v, why = jet.json.decode '%s'\n"
                      "assert(v == nil and why:find(\"%s\", 1, true), why)",
                      texts[i].json, texts[i].says);
        fixture_load(f, mj_buf_cstr(&source));
    }
    fixture_load(f, "local v, why = jet.json.decode(('['):rep(65))\n"
                    "assert(v == nil and why:find 'nested too deeply', why)\n"
                    "v, why = jet.json.decode('[' .. ('1'):rep(2000) .. ']')\n"
                    "assert(v == nil and why:find 'too long', why)\n");
    static const struct {
        const char *source, *says;
    } values[] = {
        {"jet.json.encode(nil)", "a null is jet.null"},
        {"jet.json.encode {}", "neither a list nor a map"},
        {"jet.json.encode { 1, nil, 3 }", "without holes"},
        {"jet.json.encode { 1, a = 2 }", "both kinds"},
        {"jet.json.encode { [true] = 1 }", "cannot be a key"},
        {"jet.json.encode { [1.5] = 1 }", "found 1.5"},
        {"jet.json.encode(print)", "a function has no form"},
        {"jet.json.encode(0/0)", "no number"},
        {"jet.json.encode(1/0)", "no number"},
        {"jet.json.encode '\\255'", "not valid UTF-8"},
        {"jet.json.encode { ['\\255'] = 1 }", "not valid UTF-8"},
        {"local t = {} t[1] = t jet.json.encode(t)", "contains itself"},
        {"jet.json.encode(jet.stream 'x')", "has no form"},
        {"local s = ('x'):rep(1e6) local t = {} for i = 1, 20 do t[i] = s end jet.json.encode(t)",
         "16 MiB"},
        {"jet.json.decode(('x'):rep(2 ^ 25))", "16 MiB"},
        {"jet.json.decode {}", "wants a text"},
        {"jet.json.encoed {}", "did you mean 'encode'"},
    };
    f->cfg.memory = 256 << 20;
    for (size_t i = 0; i < MJ_COUNT(values); i++) {
        if (strstr(values[i].source, "2 ^ 25"))
            fixture_load(f, "local v, why = jet.json.decode(('x'):rep(2 ^ 25)) assert(v == nil and "
                            "why:find '16 MiB')");
        else
            fixture_refuse(f, values[i].source, values[i].says);
    }
}

/* Parts of records are JSON, too. */
static void records(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.from '*':where(function(ev)\n"
                    "  local text = jet.json.encode(ev.record)\n"
                    "  assert(jet.json.decode(text).text == 'moon', text)\n"
                    "  assert(jet.json.encode { part = ev.record, kept = ev:keep().record } ==\n"
                    "    '{\"kept\":' .. text .. ',\"part\":' .. text .. '}')\n"
                    "  local ok, why = pcall(jet.json.encode, ev)\n"
                    "  assert(not ok and why:find 'ev:json', why)\n"
                    "  return not pcall(jet.json.encode, { ev:keep() })\n"
                    "end):to(jet.stream 'json')\n");
    fixture_post(f, "moon");
    assert_int_equal(fixture_count(f, "json"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(both_ways),
        T(refused),
        T(records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
