/* Operators that run in C, from Lua source to what comes out. */
#include "unit/script_fixture.h"

static int setup(void **state)
{
    *state = calloc(1, sizeof(struct fixture));
    fixture_open(*state);
    return 0;
}

static int teardown(void **state)
{
    fixture_close(*state);
    free(*state);
    return 0;
}

static int64_t now_us = INT64_C(1783175888000000);
static int64_t our_clock(void *ctx)
{
    (void)ctx;
    return now_us;
}

static void assert_holds(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("expected \"%s\" in \"%s\"", part, text);
}

static void assert_lacks(const char *text, const char *part)
{
    if (strstr(text, part))
        fail_msg("did not expect \"%s\" in \"%s\"", part, text);
}

/* A post with a reply, two images, languages and a number past 2^53. */
static void rich_post(struct fixture *f)
{
    struct mj_buf *b = &f->record;
    b->len = 0;
    mj_cbor_put_map(b, 7);
    put_text(b, "text");
    put_text(b, "hello");
    put_text(b, "$type");
    put_text(b, "app.bsky.feed.post");
    put_text(b, "embed");
    mj_cbor_put_map(b, 1);
    put_text(b, "images");
    mj_cbor_put_array(b, 2);
    for (int i = 1; i <= 2; i++) {
        mj_cbor_put_map(b, 2);
        put_text(b, "alt");
        put_text(b, i == 1 ? "first" : "second");
        put_text(b, "size");
        mj_cbor_put_int(b, i);
    }
    put_text(b, "langs");
    mj_cbor_put_array(b, 2);
    put_text(b, "en");
    put_text(b, "pt-BR");
    put_text(b, "reply");
    mj_cbor_put_map(b, 2);
    put_text(b, "root");
    mj_cbor_put_map(b, 2);
    put_text(b, "cid");
    put_text(b, "rootcid");
    put_text(b, "uri");
    put_text(b, "at://root");
    put_text(b, "parent");
    mj_cbor_put_map(b, 1);
    put_text(b, "uri");
    put_text(b, "at://parent");
    put_text(b, "number");
    mj_cbor_put_int(b, INT64_C(9007199254740993));
    put_text(b, "nothing");
    mj_cbor_put_null(b);
    struct mj_event ev = fixture_commit(f, "app.bsky.feed.post", MJ_OP_CREATE, mj_buf_span(b));
    assert_int_equal(mj_record_check(mj_buf_span(b)), 0);
    assert_int_equal(mj_router_event(f->router, &ev), 0);
}

static void strip_takes_what_it_names(void **state)
{
    struct fixture *f = *state;
    fixture_load(f,
                 "jet.from '*'\n"
                 "  :strip('embed.images[1].alt', 'reply.root', 'langs.2', 'nowhere', 'text.x')\n"
                 "  :to(jet.stream 'out')\n"
                 "jet.from '*':strip('nowhere'):to(jet.stream 'same')\n");
    rich_post(f);
    const char *out = fixture_take(f, "out");
    assert_holds(out, "\"images\":[{\"size\":1},{\"alt\":\"second\",\"size\":2}]");
    assert_holds(out, "\"reply\":{\"parent\":{\"uri\":\"at://parent\"}}");
    assert_holds(out, "\"langs\":[\"en\"]");
    assert_holds(out, "\"number\":9007199254740993");
    assert_holds(out, "\"nothing\":null");
    assert_lacks(out, "\"cid\":\"baf"); /* it names the record as it was */
    assert_holds(fixture_take(f, "main"), "first");
    assert_holds(fixture_take(f, "same"), "\"cid\":\"baf"); /* nothing was there, nothing changed */
}

/* Items are those of the record as it came, in whatever order and way they are named. */
static void strip_of_several_items(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.from '*':strip('langs[1]', 'langs[2]'):to(jet.stream 'both')\n"
                    "jet.from '*':strip('embed.images[1]', 'embed.images[1].alt')\n"
                    "  :to(jet.stream 'inner')\n"
                    "jet.from '*':strip('langs[1]', 'langs.1'):to(jet.stream 'twice')\n");
    rich_post(f);
    assert_holds(fixture_take(f, "both"), "\"langs\":[]");
    assert_holds(fixture_take(f, "inner"), "\"images\":[{\"alt\":\"second\",\"size\":2}]");
    assert_holds(fixture_take(f, "twice"), "\"langs\":[\"pt-BR\"]");
}

static void keep_leaves_what_it_names(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.from '*'\n"
                    "  :keep('reply.root.uri', 'reply.parent', 'embed.images[2].alt', 'langs.1',\n"
                    "        'number', 'gone.away', 'text.x')\n"
                    "  :to(jet.stream 'out')\n"
                    "jet.from '*':keep('gone'):to(jet.stream 'type')\n"
                    "jet.from '*':keep('text', 'embed', 'langs', 'reply', 'number', 'nothing')\n"
                    "  :to(jet.stream 'all')\n");
    rich_post(f);
    const char *out = fixture_take(f, "out");
    assert_holds(out, "\"record\":{\"$type\":\"app.bsky.feed.post\","
                      "\"embed\":{\"images\":[{\"alt\":\"second\"}]},\"langs\":[\"en\"],"
                      "\"number\":9007199254740993,\"reply\":{\"parent\":{\"uri\":\"at://parent\"},"
                      "\"root\":{\"uri\":\"at://root\"}}}");
    assert_lacks(out, "\"cid\":\"baf");
    assert_holds(fixture_take(f, "type"), "\"record\":{\"$type\":\"app.bsky.feed.post\"}");
    assert_holds(fixture_take(f, "all"), "\"cid\":\"baf");
}

static void redact_replaces_texts(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.from '*':redact('text', '[gone] \"é\"')\n"
                    "  :redact('embed.images[2].alt', ''):redact('number', 'x')\n"
                    "  :redact('not.there', 'x'):to(jet.stream 'out')\n"
                    "jet.from '*':redact('text', 'hello'):to(jet.stream 'same')\n");
    rich_post(f);
    const char *out = fixture_take(f, "out");
    assert_holds(out, "\"text\":\"[gone] \\\"é\\\"\"");
    assert_holds(out, "{\"alt\":\"first\",\"size\":1},{\"alt\":\"\",\"size\":2}");
    assert_holds(out, "\"number\":9007199254740993"); /* no text */
    assert_lacks(out, "there");
    assert_holds(fixture_take(f, "same"), "\"cid\":\"baf");
}

static void edits_let_events_without_a_record_pass(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.from '*':strip('a'):keep('b'):redact('c', 'd'):to(jet.stream 'out')\n");
    struct mj_event ev = fixture_commit(f, "app.bsky.feed.post", MJ_OP_DELETE, mj_span(NULL, 0));
    assert_int_equal(mj_router_event(f->router, &ev), 0);
    ev = (struct mj_event){.kind = MJ_KIND_IDENTITY,
                           .seq = ++f->seq,
                           .did = MJ_SPAN(FIXTURE_DID),
                           .time = MJ_SPAN("2026-07-04T14:38:08.123Z")};
    assert_int_equal(mj_router_event(f->router, &ev), 0);
    assert_int_equal(fixture_count(f, "out"), 2);
}

static void edits_go_on_from_edits(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "local posts = jet.from 'app.bsky.feed.post'\n"
                    "local plain = posts:strip('reply', 'embed')\n"
                    "plain:map(function(d) d.record.text = d.text .. '!' return d end)\n"
                    "  :redact('langs[1]', 'xx'):to(jet.stream 'a')\n"
                    "plain:keep('text'):to(jet.stream 'b')\n"
                    "jet.main():strip('langs'):to(jet.stream 'm')\n"
                    "jet.main():where(function(ev) return not ev:has 'langs' end)\n");
    rich_post(f);
    const char *a = fixture_take(f, "a");
    assert_holds(a, "\"text\":\"hello!\"");
    assert_holds(a, "\"langs\":[\"xx\",\"pt-BR\"]");
    assert_lacks(a, "reply");
    assert_holds(fixture_take(f, "b"),
                 "\"record\":{\"$type\":\"app.bsky.feed.post\",\"text\":\"hello\"}");
    assert_lacks(fixture_take(f, "main"), "langs");
    assert_holds(fixture_take(f, "main"), "\"reply\"");
}

static void post_by(struct fixture *f, const char *did, const char *rkey)
{
    f->record.len = 0;
    mj_cbor_put_map(&f->record, 2);
    put_text(&f->record, "text");
    put_text(&f->record, rkey);
    put_text(&f->record, "$type");
    put_text(&f->record, "app.bsky.feed.post");
    struct mj_event ev =
        fixture_commit(f, "app.bsky.feed.post", MJ_OP_CREATE, mj_buf_span(&f->record));
    ev.did = mj_str(did);
    ev.rkey = mj_str(rkey);
    assert_int_equal(mj_router_event(f->router, &ev), 0);
}

static void a_sample_is_a_part_and_always_the_same(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "local all = jet.from '*'\n"
                    "all:sample(0.25):to(jet.stream 'quarter')\n"
                    "all:sample(0.25, 'uri'):to(jet.stream 'again')\n"
                    "all:sample(0.25, 'did'):to(jet.stream 'people')\n"
                    "all:sample(0.5, 'text'):to(jet.stream 'texts')\n"
                    "all:sample(0):to(jet.stream 'none')\n"
                    "all:sample(1, 'no.such.path'):to(jet.stream 'all')\n");
    char did[64], rkey[32];
    for (int i = 0; i < 4000; i++) {
        snprintf(did, sizeof did, "did:plc:ewvi7nxzyoun6zhxrhs64%03d", i % 100);
        snprintf(rkey, sizeof rkey, "3kgmi5fz%05d", i);
        post_by(f, did, rkey);
    }
    size_t quarter = fixture_count(f, "quarter"), people = fixture_count(f, "people");
    assert_in_range(quarter, 850, 1150);
    assert_int_equal(people % 40, 0); /* all posts of an account, or none */
    assert_in_range(people, 400, 1600);
    assert_in_range(fixture_count(f, "texts"), 1850, 2150);
    assert_int_equal(fixture_count(f, "none"), 0);
    assert_int_equal(fixture_count(f, "all"), 4000);
    char *first = strdup(fixture_take(f, "quarter"));
    assert_string_equal(fixture_take(f, "again"), first);
    free(first);
    /* Which of ten is an accident, but the same one on every machine, for ever. */
    fixture_skip(f);
    for (int i = 0; i < 10; i++) {
        snprintf(rkey, sizeof rkey, "%d", i);
        post_by(f, FIXTURE_DID, rkey);
    }
    const char *out = fixture_take(f, "quarter");
    MJ_AUTO_BUF chosen = {0};
    for (int i = 0; i < 10; i++) {
        snprintf(rkey, sizeof rkey, "\"rkey\":\"%d\"", i);
        if (strstr(out, rkey))
            mj_buf_printf(&chosen, "%d", i);
    }
    assert_string_equal(mj_buf_cstr(&chosen), "02");
}

static void dedupe_drops_what_came_before(void **state)
{
    struct fixture *f = *state;
    mj_router_set_clock(f->router, our_clock, NULL);
    fixture_load(f, "local all = jet.from '*'\n"
                    "all:dedupe { within = '10s' }:to(jet.stream 'uri')\n"
                    "all:dedupe { by = 'did', within = '1m' }:to(jet.stream 'did')\n"
                    "all:dedupe { by = 'text', within = '1h30m', max = 2 }:to(jet.stream 'text')\n"
                    "all:dedupe { by = 'no.such', within = '1m' }:to(jet.stream 'keyless')\n"
                    "all:dedupe { by = function(ev) if #ev.text > 1 then return #ev.text end end,\n"
                    "             within = '1m' }:to(jet.stream 'fn')\n");
    post_by(f, "did:plc:a", "1");
    post_by(f, "did:plc:a", "1");
    post_by(f, "did:plc:b", "1");
    post_by(f, "did:plc:b", "22");
    post_by(f, "did:plc:b", "33");
    assert_int_equal(fixture_count(f, "uri"), 4);
    assert_int_equal(fixture_count(f, "did"), 2);
    assert_int_equal(fixture_count(f, "text"), 3);
    assert_int_equal(fixture_count(f, "keyless"), 5);
    assert_int_equal(fixture_count(f, "fn"), 4); /* three without a key, and one of length 2 */
    fixture_skip(f);
    now_us += 9999000;
    post_by(f, "did:plc:a", "1"); /* seen 9.999 s ago */
    assert_int_equal(fixture_count(f, "uri"), 0);
    now_us += 2000; /* … and now 10.001 s: being dropped did not make it newer */
    post_by(f, "did:plc:a", "1");
    assert_int_equal(fixture_count(f, "uri"), 1);
    assert_int_equal(fixture_count(f, "did"), 0);
    /* Only two texts are remembered: "1" made room for "33" and passed the first time just now,
     * which made room again. */
    post_by(f, "did:plc:c", "22");
    assert_int_equal(fixture_count(f, "text"), 2);
}

static void send(struct fixture *f, struct mj_event ev)
{
    assert_int_equal(mj_router_event(f->router, &ev), 0);
}

/* Each name of an event's field means that field: what differs in it alone passes, what does not
 * differ in it is dropped, however much else does. */
static void fields_of_an_event_are_keys(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"rkey", "rev",    "cid",    "kind",   "op",      "seq",
                                        "time", "active", "status", "handle", "time_us", "text"};
    MJ_AUTO_BUF source = {0};
    mj_router_set_clock(f->router, our_clock, NULL);
    mj_buf_puts(&source, "local all = jet.from '*'\n");
    for (size_t i = 0; i < MJ_COUNT(names); i++)
        mj_buf_printf(&source, "all:dedupe { by = '%s', within = '1h' }:to(jet.stream '%s')\n",
                      names[i], names[i]);
    mj_buf_puts(&source, "all:limit { by = 'rkey', rate = '1/h' }:to(jet.stream 'limited')\n"
                         "all:sample(0.5, 'rev'):to(jet.stream 'sampled')\n");
    fixture_load(f, mj_buf_cstr(&source));
    fixture_post(f, "one");
    struct mj_event base =
        fixture_commit(f, "app.bsky.feed.post", MJ_OP_CREATE, mj_buf_span(&f->record));
    base.seq = 1;
    struct mj_event v[7] = {base, base, base, base, base, base, base};
    v[1].rkey = MJ_SPAN("other");
    v[2].rev = MJ_SPAN("3kgmi5g2bn23l");
    v[3].op = MJ_OP_UPDATE;
    v[4].seq = 100;
    v[5].time = MJ_SPAN("2026-07-04T14:38:08.124Z");
    v[6].op = MJ_OP_DELETE;
    v[6].record = v[6].cid = mj_span(NULL, 0);
    for (size_t i = 0; i < MJ_COUNT(v); i++)
        send(f, v[i]);
    send(f, v[6]); /* has neither cid nor text, so it passes there once more */
    static const struct {
        const char *stream;
        size_t passed;
    } wanted[] = {{"rkey", 2}, {"rev", 2},  {"cid", 3},     {"kind", 1},    {"op", 3},
                  {"seq", 2},  {"time", 2}, {"limited", 2}, {"time_us", 9}, {"text", 3}};
    for (size_t i = 0; i < MJ_COUNT(wanted); i++)
        if (fixture_count(f, wanted[i].stream) != wanted[i].passed)
            fail_msg("%s", wanted[i].stream);
    size_t sampled = fixture_count(f, "sampled"); /* all of one rev, and the one of the other */
    assert_true(sampled == 0 || sampled == 1 || sampled == 8 || sampled == 9);
    fixture_skip(f);

    /* None of these has what the others are told by. */
    struct mj_event account = {.kind = MJ_KIND_ACCOUNT,
                               .seq = 200,
                               .did = base.did,
                               .time = base.time,
                               .status = MJ_SPAN("takendown")};
    struct mj_event identity = {.kind = MJ_KIND_IDENTITY,
                                .seq = 201,
                                .did = base.did,
                                .time = base.time,
                                .handle = MJ_SPAN("a.example.com")};
    send(f, account);
    send(f, account);
    send(f, identity);
    send(f, identity);
    account.active = true;
    account.status = MJ_SPAN("throttled");
    identity.handle = MJ_SPAN("b.example.com");
    send(f, account);
    send(f, identity);
    assert_int_equal(fixture_count(f, "active"), 2 + 3);
    assert_int_equal(fixture_count(f, "status"), 2 + 3);
    assert_int_equal(fixture_count(f, "handle"), 2 + 3);
    assert_int_equal(fixture_count(f, "kind"), 2);
    assert_int_equal(fixture_count(f, "rkey"), 6);
    assert_int_equal(fixture_count(f, "op"), 6);
}

static void limit_drops_what_is_too_much(void **state)
{
    struct fixture *f = *state;
    mj_router_set_clock(f->router, our_clock, NULL);
    fixture_load(f, "local all = jet.from '*'\n"
                    "all:limit { rate = '6/m', by = 'did' }:to(jet.stream 'six')\n"
                    "all:limit { rate = '1/s', burst = 3 }:to(jet.stream 'burst')\n"
                    "all:limit { rate = '5/10s', by = function(ev) return ev.did end, burst = 1 }\n"
                    "  :to(jet.stream 'fn')\n"
                    "all:limit { rate = '1/h', by = 'no.such' }:to(jet.stream 'keyless')\n");
    for (int i = 0; i < 10; i++) {
        post_by(f, "did:plc:a", "1");
        post_by(f, "did:plc:b", "1");
    }
    assert_int_equal(fixture_count(f, "six"), 12);
    assert_int_equal(fixture_count(f, "burst"), 3);
    assert_int_equal(fixture_count(f, "fn"), 2);
    assert_int_equal(fixture_count(f, "keyless"), 20);
    fixture_skip(f);
    now_us += 10000000; /* ten seconds are one more each; the bucket of three is full again */
    for (int i = 0; i < 10; i++) {
        post_by(f, "did:plc:a", "1");
        post_by(f, "did:plc:b", "1");
    }
    assert_int_equal(fixture_count(f, "six"), 2);
    assert_int_equal(fixture_count(f, "burst"), 3);
    assert_int_equal(fixture_count(f, "fn"), 2);
    fixture_skip(f);
    now_us += INT64_C(3600000000); /* no more than a burst however long nothing came */
    for (int i = 0; i < 10; i++)
        post_by(f, "did:plc:a", "1");
    assert_int_equal(fixture_count(f, "six"), 6);
    assert_int_equal(fixture_count(f, "burst"), 3);
}

static void a_function_for_a_key_may_fail(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "local all = jet.from '*'\n"
                    "all:dedupe { by = function(ev) return {} end, within = '1m' }\n"
                    "  :to(jet.stream 'table')\n"
                    "all:limit { by = function(ev) error 'no' end, rate = '1/s' }\n"
                    "  :to(jet.stream 'error')\n"
                    "all:dedupe { by = function(ev) return ev.text == '1' end, within = '1m' }\n"
                    "  :to(jet.stream 'bool')\n");
    for (int i = 0; i < 2; i++) {
        post_by(f, FIXTURE_DID, "1");
        post_by(f, FIXTURE_DID, "2");
    }
    assert_int_equal(fixture_count(f, "table"), 0);
    assert_int_equal(fixture_count(f, "error"), 0);
    assert_int_equal(fixture_count(f, "bool"), 2);
    const struct mj_graph *g = mj_scripts_graph(f->scripts, 0);
    int64_t errors = 0;
    for (size_t i = 0; i < g->count; i++)
        errors += mj_metric_get(g->nodes[i]->errors);
    assert_int_equal(errors, 8);
}

static void what_was_seen_survives_a_swap(void **state)
{
    struct fixture *f = *state;
    mj_router_set_clock(f->router, our_clock, NULL);
    static const char source[] = "local all = jet.from '*'\n"
                                 "all:dedupe { by = 'did', within = '1m' }:to(jet.stream 'd')\n"
                                 "all:limit { by = 'did', rate = '2/m' }:to(jet.stream 'l')\n"
                                 "all:limit { rate = '2/m' }:as 'one':to(jet.stream 'o')\n"
                                 "all:dedupe { by = 'text', within = '%s' }:to(jet.stream 'x')\n";
    char text[512];
    snprintf(text, sizeof text, source, "1m");
    fixture_load(f, text);
    for (int i = 0; i < 4; i++)
        post_by(f, "did:plc:a", "1");
    assert_int_equal(fixture_count(f, "d") + fixture_count(f, "l") + fixture_count(f, "o"), 5);
    assert_int_equal(fixture_count(f, "x"), 1);
    fixture_skip(f);
    /* A second set of scripts stands for the new generation: its graph takes the first one's place
     * in the router. */
    struct mj_scripts *old = f->scripts;
    f->scripts = mj_scripts_new(NULL);
    snprintf(text, sizeof text, source, "2m"); /* another option: it starts afresh */
    fixture_load(f, text);
    MJ_AUTO_BUF error = {0};
    assert_int_equal(mj_router_swap(f->router, (struct mj_graph *)mj_scripts_graph(old, 0),
                                    (struct mj_graph *)mj_scripts_graph(f->scripts, 0), &error),
                     0);
    for (int i = 0; i < 4; i++)
        post_by(f, "did:plc:a", "1");
    assert_int_equal(fixture_count(f, "d") + fixture_count(f, "l") + fixture_count(f, "o"), 0);
    assert_int_equal(fixture_count(f, "x"), 1);
    mj_scripts_free(old);
}

static void misuse_is_told(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *source, *message;
    } cases[] = {
        {"jet.from '*':strip()", "s1.lua:1: strip wants 1 to 32 paths"},
        {"jet.from '*':strip('a..b')", "'a..b' is no path"},
        {"jet.from '*':strip('a', '')", "'' is no path"},
        {"jet.from '*':keep(3)", "keep wants paths as texts, not number"},
        {"jet.from '*':redact('text')", "redact wants the text to put there, not no value"},
        {"jet.from '*':redact('text', '\\255')", "not valid UTF-8"},
        {"jet.from '*':sample()", "sample wants a part from 0 to 1"},
        {"jet.from '*':sample(1.5)", "sample wants a part from 0 to 1"},
        {"jet.from '*':sample(0/0)", "sample wants a part from 0 to 1"},
        {"jet.from '*':sample(0.5, 'a[')", "'a[' is no path"},
        {"jet.from '*':dedupe()", "dedupe wants a table of options"},
        {"jet.from '*':dedupe {}", "'within' is how long"},
        {"jet.from '*':dedupe { whitin = '5m' }", "dedupe has no option 'whitin'; did you mean "
                                                  "'within'?"},
        {"jet.from '*':dedupe { within = 5 }", "'within' wants a duration as text"},
        {"jet.from '*':dedupe { within = '5m', max = 1e9 }",
         "'max' wants a whole number from 1 to 10000000"},
        {"jet.from '*':dedupe { within = '5m', by = {} }", "'by' wants a field of the event"},
        {"jet.from '*':dedupe { within = '5m', by = 'Did' }",
         "s1.lua:1: dedupe: 'by': an event has no 'Did'; did you mean 'did'?"},
        {"jet.from '*':limit { rate = '5/m', by = 'URI' }", "did you mean 'uri'?"},
        {"jet.from '*':sample(0.5, 'RKey')", "did you mean 'rkey'?"},
        {"jet.from '*':limit { by = 'did' }", "'rate' wants a number of events and a time"},
        {"jet.from '*':limit { rate = '6 per minute' }", "'rate' wants a number"},
        {"jet.from '*':limit { rate = '0/m' }", "'rate' wants a number"},
        {"jet.from '*':limit { rate = '6/m', burst = 0.5 }", "'burst' wants a whole number"},
        {"jet.from '*':limit { rate = '1/d', burst = 1e9 }", "'burst' is 1 to 1e9"},
        {"jet.from '*':limit { '6/m' }", "limit wants named options"},
        {"jet.from(jet.print())", "nothing comes out of another sink"},
        {"jet.from { jet.stream 'a', '*' }", "either matches or streams"},
        {"jet.from(jet.stream 'a'):to(jet.stream 'a')", "would feed itself: a → a"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        f->files = 0;
        fixture_refuse(f, cases[i].source, cases[i].message);
    }
}

static void graphs_show_options(void **state)
{
    struct fixture *f = *state;
    fixture_load(
        f, "jet.from '*':strip('a.b', 'c'):keep 'd':redact('e', 'f'):sample(0.05, 'did')\n"
           "  :dedupe { within = '90s' }:limit { rate = '100/h', by = 'did', burst = 5 }\n"
           "  :limit { rate = '5/s' }:dedupe { by = function() end, within = '1d', max = 1e6 }\n"
           "  :dedupe { by = 'rkey', within = '1h' }:sample(0.5, 'record.Did')\n"
           "  :to(jet.stream 'x')\n"
           "jet.from { jet.stream 'x', jet.stream 'y' }:tap(function() end)\n");
    MJ_AUTO_BUF out = {0};
    mj_graph_print(mj_scripts_graph(f->scripts, 0), &out);
    const char *text = mj_buf_cstr(&out);
    assert_holds(text, "strip#1 \"a.b\", \"c\"");
    assert_holds(text, "redact#1 \"e\", \"f\"");
    assert_holds(text, "sample#1 0.05, \"did\"");
    assert_holds(text, "dedupe#1 { by = \"uri\", within = \"1m30s\" }");
    assert_holds(text, "limit#1 { rate = \"100/h\", by = \"did\", burst = 5 }");
    assert_holds(text, "limit#2 { rate = \"5/s\" }");
    assert_holds(text, "dedupe#2 { by = a function, within = \"1d\", max = 1000000 }");
    assert_holds(text, "dedupe#3 { by = \"rkey\", within = \"1h\" }");
    assert_holds(text, "sample#2 0.5, \"record.Did\"");
    assert_holds(text, "from#2 stream x, stream y");
    out.len = 0;
    mj_graph_print_json(mj_scripts_graph(f->scripts, 0), &out);
    text = mj_buf_cstr(&out);
    assert_holds(text, "\"options\":\"\\\"a.b\\\", \\\"c\\\"\"");
    assert_holds(text, "\"sources\":[\"x\",\"y\"]");
}

static void flows_read_streams(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.from(jet.stream 'loud')\n"
                    "  :where(function(ev) return ev.text:find('MOON', 1, true) end)\n"
                    "  :to(jet.stream 'moon')\n"
                    "jet.from 'app.bsky.feed.post'\n"
                    "  :map(function(d) d.record.text = d.text:upper() return d end)\n"
                    "  :to(jet.stream 'loud')\n");
    fixture_post(f, "the sun");
    fixture_post(f, "the moon");
    assert_int_equal(fixture_count(f, "loud"), 2);
    assert_int_equal(fixture_count(f, "moon"), 1);
    assert_holds(fixture_take(f, "moon"), "THE MOON");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(strip_takes_what_it_names, setup, teardown),
        cmocka_unit_test_setup_teardown(strip_of_several_items, setup, teardown),
        cmocka_unit_test_setup_teardown(keep_leaves_what_it_names, setup, teardown),
        cmocka_unit_test_setup_teardown(redact_replaces_texts, setup, teardown),
        cmocka_unit_test_setup_teardown(edits_let_events_without_a_record_pass, setup, teardown),
        cmocka_unit_test_setup_teardown(edits_go_on_from_edits, setup, teardown),
        cmocka_unit_test_setup_teardown(a_sample_is_a_part_and_always_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(dedupe_drops_what_came_before, setup, teardown),
        cmocka_unit_test_setup_teardown(fields_of_an_event_are_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(limit_drops_what_is_too_much, setup, teardown),
        cmocka_unit_test_setup_teardown(a_function_for_a_key_may_fail, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_seen_survives_a_swap, setup, teardown),
        cmocka_unit_test_setup_teardown(misuse_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(graphs_show_options, setup, teardown),
        cmocka_unit_test_setup_teardown(flows_read_streams, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
