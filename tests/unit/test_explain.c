/* Why a match says no, in words: one case for each key and each wrapper that scripts have. */
#include "unit/script_fixture.h"

#include "json_cbor.h"

#include "match/match.h"

#define POST "app.bsky.feed.post"
#define A    "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
#define B    "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
#define URI  "at://" A "/app.bsky.feed.post/3kgmi5fzxhc2l"

/* What the match says to the event; "yes" when it takes it. */
static void says_of(const struct mj_event *ev, const char *match, const char *expected)
{
    struct fixture f;
    char source[2048];
    MJ_AUTO_BUF out = {0};
    fixture_open(&f);
    snprintf(source, sizeof source,
             "local vips = jet.set('vips', { '" A "' })\njet.from(%s):to(jet.stream 'a')", match);
    fixture_load(&f, source);
    const struct mj_node *root = mj_scripts_graph(f.scripts, 0)->nodes[0];
    struct mj_facts *facts = mj_facts_new();
    mj_facts_begin(facts, ev);
    bool holds = mj_match_explain(root->match, facts, &out);
    assert_int_equal(holds, mj_match_eval(root->match, facts));
    if (holds)
        assert_int_equal(out.len, 0);
    if (strcmp(holds ? "yes" : mj_buf_cstr(&out), expected) != 0)
        fail_msg("%s says:\n  %s\nnot\n  %s", match, holds ? "yes" : mj_buf_cstr(&out), expected);
    mj_facts_free(facts);
    fixture_close(&f);
}

static void says(const char *collection, const char *json, const char *match, const char *expected)
{
    struct fixture f = {0};
    MJ_AUTO_BUF record = {0};
    cJSON *v = cJSON_Parse(json);
    assert_non_null(v);
    mj_test_to_cbor(v, &record);
    cJSON_Delete(v);
    struct mj_event ev = fixture_commit(&f, collection, MJ_OP_CREATE, mj_buf_span(&record));
    says_of(&ev, match, expected);
}

#define EN "{\"text\":\"The Moon over New York\",\"langs\":[\"en-GB\"],\"n\":5,\"ok\":true}"

static void classes(void **state)
{
    (void)state;
    says(POST, EN, "'app.bsky.feed.post:create'", "yes");
    says(POST, EN, "'app.bsky.feed.like'",
         "collection is \"app.bsky.feed.post\", wanted \"app.bsky.feed.like\"");
    says(POST, EN, "'app.bsky.graph.*'",
         "collection is \"app.bsky.feed.post\", wanted what starts with \"app.bsky.graph.\"");
    says(POST, EN, "'app.bsky.feed.post:delete'", "op is \"create\", wanted \"delete\"");
    says(POST, EN, "{ op = { 'update', 'delete' } }",
         "op is \"create\", wanted \"update\" or \"delete\"");
    says(POST, EN, "'#identity'", "kind is \"commit\", wanted \"identity\"");
    says(POST, EN, "{ did = '" A "' }", "did is \"" FIXTURE_DID "\", wanted \"" A "\"");
    says(POST, EN, "{ did = jet.prefix 'did:web:' }",
         "did is \"" FIXTURE_DID "\", wanted what starts with \"did:web:\"");
    says(POST, EN, "{ did = jet.set 'vips' }",
         "did is \"" FIXTURE_DID "\", wanted a member of set vips");
    says(POST, EN, "{ did = jet.no '" FIXTURE_DID "' }",
         "did is \"" FIXTURE_DID "\", wanted not \"" FIXTURE_DID "\"");
    /* What a record of another kind says is left out. */
    says("app.bsky.feed.like", "{}", "{ collection = '" POST "', text = 'moon', lang = 'pt' }",
         "collection is \"app.bsky.feed.like\", wanted \"app.bsky.feed.post\"");
    struct mj_event ev = {.kind = MJ_KIND_IDENTITY, .did = MJ_SPAN(A)};
    says_of(&ev, "'#commit'", "kind is \"identity\", wanted \"commit\"");
    says_of(&ev, "{ collection = '" POST "' }",
            "kind is \"identity\", wanted \"commit\"; it has no collection, wanted \"" POST "\"");
}

static void fields(void **state)
{
    (void)state;
    says(POST, EN, "{ lang = 'pt' }", "lang is \"en-gb\", wanted \"pt\"");
    says(POST, EN, "{ lang = { 'pt', 'es' } }", "lang is \"en-gb\", wanted \"es\" or \"pt\"");
    says(POST, EN, "{ lang = jet.no 'en' }", "lang is \"en-gb\", wanted not \"en\"");
    says(POST, EN, "{ lang = jet.no { 'en', 'pt' } }",
         "lang is \"en-gb\", wanted not \"en\" or \"pt\"");
    says(POST, "{\"text\":\"x\"}", "{ lang = 'pt' }", "it has no lang, wanted \"pt\"");
    says(POST, "{\"text\":\"x\"}", "{ lang = jet.no 'pt' }", "it has no lang");
    says(POST, EN, "{ text = 'lua' }",
         "the text is \"The Moon over New York\", wanted the word \"lua\"");
    says(POST, EN, "{ text = { 'lua*', '*jet', 'two words' } }",
         "the text is \"The Moon over New York\", wanted the word \"lua*\" or \"*jet\" or "
         "\"two words\"");
    says(POST, EN, "{ text = jet.no 'moon' }",
         "the text is \"The Moon over New York\", wanted not the word \"moon\"");
    says(POST, "{}", "{ text = jet.no 'moon' }", "it has no text");
    says(POST, EN, "{ words = jet.words { 'a', 'b', 'c', 'd', 'e', 'f' } }",
         "the text is \"The Moon over New York\", wanted the word \"a\" or \"b\" or \"c\" or \"d\" "
         "or 2 more there, in alt texts, the link card or tags");
    says(POST, EN, "{ mentions = '" A "' }", "it has no mentions, wanted \"" A "\"");
    says(POST,
         "{\"text\":\"x\",\"facets\":[{\"features\":[{\"$type\":\"app.bsky.richtext.facet#link\","
         "\"uri\":\"https://www.Example.com/x\"}]}]}",
         "{ links = 'example.org' }", "links is \"www.example.com\", wanted \"example.org\"");
    says(POST, "{\"text\":\"x\",\"tags\":[\"Lua\",\"C\"]}", "{ tags = 'moon' }",
         "tags is \"lua\", \"c\", wanted \"moon\"");
    says(POST, "{\"text\":\"x\",\"reply\":{\"parent\":{\"uri\":\"" URI "\"}}}",
         "{ reply_to = '" B "' }", "reply_to is \"" URI "\", wanted \"" B "\"");
    says(POST, EN, "{ root = '" B "' }", "it has no root, wanted \"" B "\"");
    says(POST, EN, "{ quotes = true }", "it has no quotes");
    says(POST, EN, "{ quotes = '" A "' }", "it has no quotes, wanted \"" A "\"");
    says("app.bsky.graph.follow", "{\"subject\":\"" B "\"}", "{ subject = '" A "' }",
         "subject is \"" B "\", wanted \"" A "\"");
    says(POST, EN, "{ reply = true }", "it is no reply");
    says(POST, "{\"text\":\"x\",\"reply\":{}}", "{ reply = false }", "it is a reply");
}

static void paths(void **state)
{
    (void)state;
    says(POST, EN, "{ record = { n = 6 } }", "record.n is 5, wanted 6");
    says(POST, EN, "{ record = { ok = false } }", "record.ok is true, wanted false");
    says(POST, EN, "{ record = { ['a.b'] = 'x' } }", "it has no record.a.b, wanted \"x\"");
    says(POST, EN, "{ record = { langs = 'x' } }",
         "record.langs is no text, number or boolean, wanted \"x\"");
    says(POST, EN, "{ record = { text = jet.prefix 'Sun' } }",
         "record.text is \"The Moon over New York\", wanted what starts with \"Sun\"");
    says(POST, EN, "{ has = 'embed.images' }", "it has no record.embed.images");
    says(POST, EN, "{ has = jet.no 'langs' }", "it has record.langs");
    says(POST, EN, "{ has = jet.any { 'embed', 'reply' } }",
         "none of 2 alternatives holds: (it has no record.embed), (it has no record.reply)");
}

static void wholes(void **state)
{
    (void)state;
    says(POST, EN, "{ lang = 'pt', text = 'lua' }",
         "lang is \"en-gb\", wanted \"pt\"; the text is \"The Moon over New York\", wanted the "
         "word \"lua\"");
    says(POST, EN, "{ { lang = 'pt' }, { lang = 'es' } }",
         "lang is \"en-gb\", wanted \"pt\" or \"es\"");
    says(POST, EN, "{ { lang = 'pt' }, { record = { n = 1 } }, '#account', { tags = 'x' } }",
         "none of 4 alternatives holds: (lang is \"en-gb\", wanted \"pt\"), (record.n is 5, wanted "
         "1), (kind is \"commit\", wanted \"account\"), …");
    says(POST, EN, "jet.no { lang = 'en', record = { n = 5 } }",
         "what must not be, is: lang is \"en-gb\" and record.n is 5");
    /* What strangers wrote is short, and quoted. */
    says(
        POST,
        "{\"text\":\"\\u001b[31m\\\" "
        "0123456789012345678901234567890123456789012345678901234567890123456789\xc3\xa9\xc3\xa9\"}",
        "{ text = 'x' }",
        "the text is \"\\u001b[31m\\\" "
        "0123456789012345678901234567890123456789012345678901234567890123456789\xc3\xa9\"…, "
        "wanted the word \"x\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(classes), cmocka_unit_test(fields),
                                       cmocka_unit_test(paths), cmocka_unit_test(wholes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
