/* The examples people start from, each run on made-up events; and frames through the whole router.
 */
#include "frames.h"
#include "shared.h"
#include "unit/cbor_text.h"
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

static void load_example(struct fixture *f, const char *path)
{
    if (mj_scripts_load(f->scripts, path, &f->cfg, &f->error))
        fail_msg("%s", mj_buf_cstr(&f->error));
}

static void send(struct fixture *f, const char *collection, const char *record)
{
    struct mj_event ev = fixture_commit(f, collection, MJ_OP_CREATE, cbor_text(&f->record, record));
    assert_int_equal(mj_router_event(f->router, &ev), 0);
}

static void has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("expected \"%s\" in \"%s\"", part, text);
}

static void quickstart(void **state)
{
    struct fixture *f = *state;
    load_example(f, "examples/quickstart.lua");
    struct mj_metric *pt = mj_metric("moonjet_script_languages", MJ_COUNTER, "",
                                     "script=\"quickstart.lua\",lang=\"pt\"");
    struct mj_metric *none = mj_metric("moonjet_script_languages", MJ_COUNTER, "",
                                       "script=\"quickstart.lua\",lang=\"none\"");
    send(f, "app.bsky.feed.post", "{text:\"Que Lua linda\",langs:[\"pt\",\"en\"]}");
    send(f, "app.bsky.feed.post", "{text:\"just the sun\"}");
    send(f, "app.bsky.feed.like", "{text:\"moon\"}");
    assert_int_equal(fixture_count(f, "main"), 3); /* main is left alone */
    assert_int_equal(fixture_count(f, "moon"), 1);
    has(fixture_take(f, "moon"), "\"text\":\"🌙 Que Lua linda\"");
    assert_int_equal(mj_metric_get(pt), 1);
    assert_int_equal(mj_metric_get(none), 1);
}

static void keyword(void **state)
{
    struct fixture *f = *state;
    struct mj_strings config = {.v = {"words=lua, AMIGA", "stream=mine"}, .n = 2};
    f->cfg.config = &config;
    load_example(f, "examples/keyword.lua");
    static const struct {
        const char *record;
        size_t n;
    } cases[] = {
        {"{text:\"I write Lua.\"}", 1},
        {"{text:\"valuable evaluation\"}", 0},
        {"{text:\"valuable but lua\"}", 1},
        {"{text:\"amiga\"}", 1},
        {"{text:\"lua_ and xlua\"}", 0},
        {"{tags:[\"Lua\"],text:\"no word\"}", 1},
        {"{text:\"\"}", 0},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        fixture_skip(f);
        send(f, "app.bsky.feed.post", cases[i].record);
        if (fixture_count(f, "mine") != cases[i].n)
            fail_msg("%s", cases[i].record);
    }
}

static void redact(void **state)
{
    struct fixture *f = *state;
    load_example(f, "examples/redact.lua");
    send(f, "app.bsky.graph.block", "{subject:\"x\"}");
    assert_int_equal(fixture_count(f, "main"), 0);
    send(f, "app.bsky.feed.post",
         "{n:9007199254740993,odd:[1,~,2],text:\"mail a.b@example.com now\",embed:{images:[{alt:"
         "\"x@y.org\"},{image:L}]},empty:[],facets:[1],nested:{}}");
    const char *out = fixture_take(f, "main");
    has(out, "\"record\":{\"embed\":{\"images\":[{\"alt\":\"[email]\"},{\"image\":{\"$link\":");
    has(out, "\"empty\":[],\"n\":9007199254740993,\"nested\":{},\"odd\":[1,null,2],"
             "\"text\":\"mail [email] now\"}");
    fixture_skip(f);
    send(f, "app.bsky.feed.post", "{text:\"nothing to hide\"}");
    has(fixture_take(f, "main"), "\"cid\":"); /* untouched, so the CID still fits */
    fixture_skip(f);
    struct mj_event gone = fixture_commit(f, "app.bsky.feed.post", MJ_OP_DELETE, mj_span(NULL, 0));
    assert_int_equal(mj_router_event(f->router, &gone), 0);
    assert_int_equal(fixture_count(f, "main"), 1);
}

/* Recorded frames through decoder, flows and tail: what a script passes on without an edit is byte
 * for byte what is there without scripts, the time apart. */
static size_t lines_without_time(struct fixture *f, const char *stream, struct mj_buf *out)
{
    struct mj_span rest = mj_str(fixture_take(f, stream)), line;
    size_t n = 0;
    for (; mj_test_line(&rest, &line); n++) {
        uint8_t *at = memmem(line.ptr, line.len, "\"time_us\":", 10);
        assert_non_null(at);
        size_t head = (size_t)(at - line.ptr) + 10, digits = 0;
        while (at[10 + digits] >= '0' && at[10 + digits] <= '9')
            digits++;
        mj_buf_put(out, line.ptr, head);
        mj_buf_put(out, line.ptr + head + digits, line.len - head - digits);
        mj_buf_putc(out, '\n');
    }
    return n;
}

static void corpus_through_scripts(void **state)
{
    struct fixture *f = *state;
    struct fixture plain;
    MJ_AUTO_BUF frames = {0};
    MJ_AUTO_BUF want = {0}, got = {0}, read = {0}, edited = {0};
    if (!mj_test_corpus(&frames))
        return;
    fixture_open(&plain);
    fixture_load(f, "jet.from '*':where(function(ev) return ev:table() or true end)"
                    ":to(jet.stream 'read')\n"
                    "jet.from '*':map(function(d)\n"
                    "  if d.record then d.record.zz = 1 d.record.zz = nil d:keep_cid() end\n"
                    "  return d\n"
                    "end):to(jet.stream 'edited')\n"
                    "jet.main():map(function(d)\n"
                    "  if d.record then d.record = d:table() d:keep_cid() end\n"
                    "  return d\n"
                    "end)\n");
    struct mj_span rest = mj_buf_span(&frames), frame;
    struct mj_frame info;
    while (mj_test_frame(&rest, &frame)) {
        assert_int_equal(mj_router_frame(plain.router, frame, &info), 0);
        assert_int_equal(mj_router_frame(f->router, frame, &info), 0);
    }
    assert_int_equal(lines_without_time(&plain, "main", &want), 62);
    assert_int_equal(lines_without_time(f, "main", &got), 62);
    assert_int_equal(lines_without_time(f, "read", &read), 62);
    assert_int_equal(lines_without_time(f, "edited", &edited), 62);
    assert_true(mj_span_eq(mj_buf_span(&want), mj_buf_span(&read)));
    assert_true(mj_span_eq(mj_buf_span(&want), mj_buf_span(&edited)));
    assert_true(mj_span_eq(mj_buf_span(&want), mj_buf_span(&got)));
    fixture_close(&plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(quickstart, setup, teardown),
        cmocka_unit_test_setup_teardown(keyword, setup, teardown),
        cmocka_unit_test_setup_teardown(redact, setup, teardown),
        cmocka_unit_test_setup_teardown(corpus_through_scripts, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
