/* Matches as scripts write them: what each key means, values and their wrappers, how matches are
 * shown, and what is refused with which words. */
#include "script_fixture.h"

#include "json_cbor.h"

static struct fixture f;

static int setup(void **state)
{
    (void)state;
    fixture_open(&f);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_close(&f);
    return 0;
}

/* Sends a record written as JSON. */
static void send(const char *collection, const char *json)
{
    cJSON *v = cJSON_Parse(json);
    if (!v)
        fail_msg("bad JSON in the test: %s", json);
    f.record.len = 0;
    mj_test_to_cbor(v, &f.record);
    cJSON_Delete(v);
    struct mj_event ev = fixture_commit(&f, collection, MJ_OP_CREATE, mj_buf_span(&f.record));
    assert_int_equal(mj_router_event(f.router, &ev), 0);
}

#define POST "app.bsky.feed.post"
#define A    "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
#define B    "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
#define URI  "at://" A "/app.bsky.feed.post/3kgmi5fzxhc2l"

struct sent {
    const char *collection, *json;
};

static const struct sent events[] = {
    {POST, "{\"text\":\"The Moon over New York\",\"langs\":[\"en\"],\"n\":5,\"ok\":true}"},
    {POST, "{\"text\":\"Lua e a lua\",\"langs\":[\"pt-BR\"],\"tags\":[\"Lua\"],"
           "\"facets\":[{\"features\":[{\"$type\":\"app.bsky.richtext.facet#mention\","
           "\"did\":\"" A "\"}]}]}"},
    {POST, "{\"text\":\"\",\"embed\":{\"images\":[{\"alt\":\"A full moon\"}]},"
           "\"reply\":{\"parent\":{\"uri\":\"" URI "\"},\"root\":{\"uri\":\"at://" B
           "/app.bsky.feed.post/3kgmi5fzxhc2l\"}}}"},
    {POST, "{\"text\":\"look\",\"embed\":{\"record\":{\"uri\":\"" URI "\"}},"
           "\"facets\":[{\"features\":[{\"$type\":\"app.bsky.richtext.facet#link\","
           "\"uri\":\"https://www.Example.com/x\"},{\"$type\":\"app.bsky.richtext.facet#tag\","
           "\"tag\":\"Moon\"}]}]}"},
    {"app.bsky.feed.like", "{\"subject\":{\"uri\":\"" URI "\",\"cid\":\"x\"}}"},
    {"app.bsky.graph.follow", "{\"subject\":\"" B "\"}"},
};

/* Which of the events above a match takes, as digits. */
static void takes(const char *match, const char *expected)
{
    char source[2048], got[16] = "";
    /* The same match behind main as a where must agree. */
    snprintf(source, sizeof source,
             "local match = %s\njet.from(match):to(jet.stream 'a')\n"
             "jet.from '*':where(match):to(jet.stream 'b')",
             match);
    struct fixture saved = f;
    fixture_open(&f);
    fixture_load(&f, source);
    for (size_t i = 0; i < MJ_COUNT(events); i++) {
        send(events[i].collection, events[i].json);
        size_t n = fixture_count(&f, "a");
        assert_int_equal(fixture_count(&f, "b"), n);
        if (n)
            snprintf(got + strlen(got), sizeof got - strlen(got), "%zu", i);
        fixture_skip(&f);
    }
    fixture_close(&f);
    f = saved;
    if (strcmp(got, expected) != 0)
        fail_msg("%s takes \"%s\", not \"%s\"", match, got, expected);
}

static void keys(void **state)
{
    (void)state;
    takes("{ lang = 'en' }", "0");
    takes("{ lang = 'pt' }", "1");
    takes("{ lang = 'pt-br' }", "1");
    takes("{ lang = 'pt-PT' }", "");
    takes("{ lang = jet.no 'en' }", "1");
    takes("{ lang = jet.prefix 'P' }", "1");
    takes("{ text = 'moon' }", "0");
    takes("{ text = { 'LUA', 'new york' } }", "01");
    takes("{ text = jet.words { 'moon', 'lua' } }", "01");
    takes("{ text = { 'look', jet.words { 'moon' } } }", "03");
    takes("{ text = jet.no 'moon' }", "123");
    takes("{ words = 'moon' }", "023");
    takes("{ words = jet.no { 'moon', 'lua' } }", "");
    takes("{ mentions = '" A "' }", "1");
    takes("{ mentions = jet.prefix 'did:web:' }", "");
    takes("{ links = 'example.com' }", "3");
    takes("{ links = 'WWW.example.com' }", "3");
    takes("{ links = 'ww.example.com' }", "");
    takes("{ tags = 'moon' }", "3");
    takes("{ tags = { 'LUA', 'MOON' } }", "13");
    takes("{ tags = jet.prefix 'Mo' }", "3");
    takes("{ reply = true }", "2");
    takes("{ reply = false }", "013");
    takes("{ reply_to = '" A "' }", "2");
    takes("{ reply_to = '" URI "' }", "2");
    takes("{ root = '" A "' }", "");
    takes("{ root = '" B "' }", "2");
    takes("{ quotes = true }", "3");
    takes("{ quotes = false }", "012");
    takes("{ quotes = '" A "' }", "3");
    takes("{ quotes = jet.no '" A "' }", "");
    takes("{ subject = '" A "' }", "4");
    takes("{ subject = { '" URI "', '" B "' } }", "45");
    takes("{ subject = jet.no '" B "' }", "4");
    takes("{ has = 'embed' }", "23");
    takes("{ has = { 'embed', 'reply' } }", "2");
    takes("{ has = jet.any { 'tags', 'reply' } }", "12");
    takes("{ has = jet.no 'text' }", "45");
    takes("{ has = { 'text', jet.no 'embed' } }", "01");
    takes("{ has = jet.any { 'reply', jet.no 'text' } }", "245");
    takes("{ has = jet.any { 'nothing', jet.no { 'text' } } }", "45");
    takes("{ has = 'embed.images[1].alt' }", "2");
    takes("{ record = { n = 5 } }", "0");
    takes("{ record = { n = { 4, 5 }, ok = true } }", "0");
    takes("{ record = { ok = false } }", "");
    takes("{ record = { n = jet.no(4) } }", "0");
    takes("{ record = { ['langs[1]'] = jet.prefix 'pt' } }", "1");
    takes("{ record = { text = jet.no { 'look', '' }, langs = 'x' } }", "");
    takes("{ record = { text = jet.no { 'look', '' } } }", "01");
    takes("jet.no { text = 'moon' }", "12345");
    takes("{ { subject = '" B "' }, { lang = 'en' }, 'app.bsky.feed.like' }", "045");
    takes("{ collection = 'app.bsky.feed.post', reply = false, words = 'lua', lang = 'pt' }", "1");
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *match, *says;
    } cases[] = {
        {"{ mention = 'x' }", "a match has no 'mention'; did you mean 'mentions'?"},
        {"{ author = 'x' }", "it knows kind, collection"},
        {"{ lang = 'english language' }",
         "'english language' is not a language (like en or pt-BR)"},
        {"{ tags = '#moon' }", "'#moon' has a '#'; tags are written without"},
        {"{ tags = '\xef\xbc\x83moon' }", "has a '#'; tags are written without"},
        {"{ tags = jet.prefix '#moon' }", "a '#' does not fit 'tags'; tags are written without"},
        {"{ links = 'https://example.com' }", "is not a host; write it alone, like example.com"},
        {"{ links = '*.example.com' }", "example.com also matches the hosts below it"},
        {"{ links = '.example.com' }", "example.com also matches the hosts below it"},
        {"{ mentions = 'alice.example.com' }", "events carry DIDs, not handles"},
        {"{ subject = 'alice.example.com' }", "is neither a DID nor an AT URI; events carry DIDs"},
        {"{ reply = 'x' }", "'reply' is true (replies only) or false (roots only)"},
        {"{ reply_to = true }", "'reply_to' wants a text or a list of texts, not boolean"},
        {"{ text = '' }", "the word '' has nothing to look for"},
        {"{ text = 'mo*on' }", "has a star inside"},
        {"{ text = jet.prefix 'moon' }", "a word that may go on is written \"moon*\""},
        {"{ text = {} }", "the list for 'text' is empty, so nothing could match"},
        {"{ lang = jet.words { 'en' } }", "jet.words does not fit 'lang'; it goes behind 'text'"},
        {"jet.words { 'moon' }", "jet.words goes behind a key"},
        {"{ has = 'a..b' }", "bad path 'a..b'"},
        {"{ has = '' }", "bad path ''"},
        {"{ has = 5 }", "'has' wants a path or a list of paths"},
        {"{ has = {} }", "'has' wants a path or a list of paths"},
        {"{ record = 'x' }", "'record' wants paths and their values"},
        {"{ record = {} }", "'record' is empty"},
        {"{ record = { ['a['] = 1 } }", "bad path 'a['"},
        {"{ record = { a = 1.5 } }", "numbers in records are whole"},
        {"{ record = { a = 9007199254740993 } }", "whole and below 2^53"},
        {"{ record = { a = print } }", "'a' wants a text or a list of texts, not function"},
        {"{ record = { a = { b = 1 } } }", "'a' wants a list of texts, not a map"},
        {"{ op = jet.words { 'create' } }", "jet.words does not fit 'op'"},
        {"{ did = 5 }", "'did' wants a text or a list of texts, not number"},
        {"{ did = nil }", "the match is empty (is a value nil?); \"*\" is every event"},
        {"jet.no {}", "the match is empty"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        char source[512];
        snprintf(source, sizeof source, "jet.from(%s)", cases[i].match);
        fixture_refuse(&f, source, cases[i].says);
        assert_non_null(strstr(mj_buf_cstr(&f.error), ".lua:1: "));
    }
    fixture_refuse(&f, "jet.words(5)", "jet.words wants a list of words, not number");
    fixture_refuse(&f, "jet.words {}", "the list for jet.words is empty");
    fixture_refuse(&f, "jet.words { 'a', 5 }", "item 2 of jet.words is no text but number");
    fixture_refuse(&f, "jet.words { 'a', '*' }", "the word '*' has nothing to look for");
    fixture_refuse(&f, "jet.word { 'a' }", "did you mean 'words'");
    fixture_refuse(
        &f,
        "local t = {} for i = 1, 200000 do t[i] = 'did:web:a' .. i .. '.example.com' end\n"
        "for _ = 1, 20 do jet.from { did = t } end",
        "matches take more than 64 MiB");
    fixture_refuse(&f, "local t = 'x' for _ = 1, 20 do t = jet.no(t) end jet.from { lang = t }",
                   "nested too deeply");
    fixture_refuse(&f, "local t = 'x' for _ = 1, 20 do t = jet.any { t } end jet.from { has = t }",
                   "nested too deeply");
}

static void shown(void **state)
{
    (void)state;
    MJ_AUTO_BUF out = {0};
    fixture_load(&f, "local many = {} for i = 1, 1000 do many[i] = 'word' .. i end\n"
                     "jet.from { text = jet.words(many), lang = { 'en', 'pt', 'de', 'fr' },\n"
                     "  tags = many, record = { b = true, ['a.x'] = { 1, 'y' } }, reply = false,\n"
                     "  has = jet.no { 'x' }, quotes = true }:to(jet.print())");
    mj_graph_print(mj_scripts_graph(f.scripts, 0), &out);
    assert_non_null(strstr(
        mj_buf_cstr(&out),
        "{ lang = {\"en\", \"pt\", \"de\", \"fr\"}, "
        "text = words {\"word1\", \"word2\", \"word3\", … and 997 more}, "
        "tags = {\"word1\", \"word2\", \"word3\", … and 997 more}, reply = false, quotes = true, "
        "has = no {\"x\"}, record = { [\"a.x\"] = {1, \"y\"}, [\"b\"] = true } }"));
}

static void contains(void **state)
{
    (void)state;
    fixture_load(&f, "local moon = jet.words { 'Moon', 'New York', 'star*' }\n"
                     "assert(#moon == 3)\n"
                     "assert(tostring(moon) == 'words {\"Moon\", \"New York\", \"star*\"}')\n"
                     "jet.from '*':map(function(ev)\n"
                     "  ev.record.found = ev:contains(moon)\n"
                     "  ev.record.plain = ev:contains 'MOON'\n"
                     "  return ev\n"
                     "end):to(jet.stream 'out')");
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"a new  york moon", "\"found\":\"New York\",\"plain\":\"MOON\""},
        {"starry night", "\"found\":\"star*\",\"plain\":false"},
        {"moons", "\"found\":false,\"plain\":false"},
        {"", "\"found\":false,\"plain\":false"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        fixture_skip(&f);
        fixture_post(&f, cases[i].text);
        if (!strstr(fixture_take(&f, "out"), cases[i].says))
            fail_msg("'%s': %s", cases[i].text, mj_buf_cstr(&f.out));
    }
    fixture_skip(&f);
    send("app.bsky.feed.like", "{\"text\":5}");
    assert_non_null(strstr(fixture_take(&f, "out"), "\"found\":false"));
    fixture_load(&f, "jet.from '*':tap(function(ev) ev:contains(5) end)");
    fixture_load(&f, "jet.from '*':tap(function(ev) ev:contains '*' end)");
    fixture_post(&f, "x");
    assert_int_equal(mj_metric_get(mj_scripts_graph(f.scripts, 1)->nodes[1]->errors), 1);
    assert_int_equal(mj_metric_get(mj_scripts_graph(f.scripts, 2)->nodes[1]->errors), 1);
}

/* Sets: named and private ones, edited while events go by. */
static void sets(void **state)
{
    (void)state;
    MJ_AUTO_BUF out = {0};
    fixture_load(&f, "local vips = jet.set('vips', { '" A "' })\n"
                     "jet.from { subject = vips }:to(jet.stream 'vips')\n"
                     "jet.from { subject = jet.no(jet.set { '" A "' }) }:to(jet.stream 'others')\n"
                     "jet.from { record = { text = { 'x', vips } } }:to(jet.stream 'text')\n"
                     "jet.from '#identity':tap(function(ev) vips:add(ev.did) end)");
    const char *like = "{\"subject\":{\"uri\":\"" URI "\"}}";
    const char *follow = "{\"subject\":\"" B "\"}";
    send("app.bsky.feed.like", like);
    send("app.bsky.graph.follow", follow);
    send("app.bsky.feed.post", "{\"text\":\"" A "\"}");
    assert_int_equal(fixture_count(&f, "vips"), 1);
    assert_int_equal(fixture_count(&f, "others"), 1);
    assert_int_equal(fixture_count(&f, "text"), 1);
    struct mj_event ev = {
        .kind = MJ_KIND_IDENTITY, .did = MJ_SPAN(B), .time = MJ_SPAN("2026-07-04T14:38:08.123Z")};
    assert_int_equal(mj_router_event(f.router, &ev), 0);
    fixture_skip(&f);
    send("app.bsky.graph.follow", follow);
    assert_int_equal(fixture_count(&f, "vips"), 1);
    assert_int_equal(fixture_count(&f, "others"), 1);
    mj_graph_print(mj_scripts_graph(f.scripts, 0), &out);
    assert_non_null(strstr(mj_buf_cstr(&out), "{ subject = set vips }"));
    assert_non_null(strstr(mj_buf_cstr(&out), "{ subject = no set of 1 }"));
    fixture_refuse(&f, "jet.from(jet.set('vips'))", "jet.set goes behind a key");
    fixture_refuse(&f, "jet.from { text = jet.set('vips') }", "words are listed with jet.words");
    fixture_refuse(&f, "jet.from { kind = jet.set('vips') }", "jet.set does not fit 'kind'");
}

/* All scripts' words have a bound together; the scripts before stay as they are. */
static void too_many_words(void **state)
{
    (void)state;
    const char *source = "local t, long = {}, ('long'):rep(60)\n"
                         "for i = 1, 36000 do t[i] = long .. i end\n"
                         "t[#t + 1] = 'moon'\n"
                         "jet.from { text = jet.words(t) }:to(jet.stream 'moon')";
    fixture_load(&f, source);
    fixture_refuse(&f, source, "the words that all scripts look for take more than 16 MiB");
    fixture_post(&f, "moon");
    assert_int_equal(fixture_count(&f, "moon"), 1);
}

/* What a flow edits, a match behind it sees; other flows do not. */
static void edited_events(void **state)
{
    (void)state;
    fixture_load(&f, "local flow = jet.from { text = 'moon' }\n"
                     "flow:map(function(d) d.record.text = 'sun' return d end)\n"
                     "  :where { text = 'sun' }:to(jet.stream 'sun')\n"
                     "flow:where { text = 'moon' }:to(jet.stream 'moon')\n"
                     "flow:where { text = 'sun' }:to(jet.stream 'none')\n"
                     "jet.main():where { text = jet.no 'star' }\n");
    fixture_post(&f, "moon");
    fixture_post(&f, "star");
    fixture_post(&f, "moon star");
    assert_int_equal(fixture_count(&f, "sun"), 2);
    assert_int_equal(fixture_count(&f, "moon"), 2);
    assert_int_equal(fixture_count(&f, "none"), 0);
    assert_int_equal(fixture_count(&f, "main"), 1);
}

/* A record that breaks the data model is dropped before a match looks into it. */
static void broken_records(void **state)
{
    (void)state;
    fixture_load(&f, "jet.from { collection = 'app.bsky.feed.post', text = 'moon' }\n"
                     "  :to(jet.stream 'moon')");
    struct mj_event ev =
        fixture_commit(&f, POST, MJ_OP_CREATE, MJ_SPAN("\xa1\x64text\x64moon\x00"));
    assert_int_equal(mj_router_event(f.router, &ev), 0);
    ev = fixture_commit(&f, POST, MJ_OP_CREATE, MJ_SPAN("\xa1\x64text\x64mo\xff\xff"));
    assert_int_equal(mj_router_event(f.router, &ev), 0);
    assert_int_equal(fixture_count(&f, "moon"), 0);
    assert_int_equal(fixture_count(&f, "main"), 0);
}

/* A script that runs out of memory while it lists words leaves nothing behind. */
static void words_under_a_memory_cap(void **state)
{
    (void)state;
    f.cfg.memory = 4 << 20;
    fixture_refuse(&f,
                   "local keep = {}\n"
                   "for i = 1, 1e6 do keep[i] = jet.words { 'a' .. i, 'b' .. i } end",
                   "not enough memory");
    fixture_refuse(&f,
                   "local keep = {}\n"
                   "for i = 1, 1e6 do\n"
                   "  keep[i] = { text = { 'a' .. i, 'b' .. i }, record = { ['x' .. i] = i } }\n"
                   "  pcall(jet.from, keep[i])\n"
                   "end",
                   "not enough memory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keys, setup, teardown),
        cmocka_unit_test_setup_teardown(refused, setup, teardown),
        cmocka_unit_test_setup_teardown(shown, setup, teardown),
        cmocka_unit_test_setup_teardown(contains, setup, teardown),
        cmocka_unit_test_setup_teardown(sets, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_words, setup, teardown),
        cmocka_unit_test_setup_teardown(edited_events, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_records, setup, teardown),
        cmocka_unit_test_setup_teardown(words_under_a_memory_cap, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
