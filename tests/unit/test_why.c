/* The ring of decisions: what a router writes there, and that it is bounded. Scripts draw the
 * graphs; the ring is read as moonjet ctl why reads it. */
#include "flow/why.c"

#include "unit/script_fixture.h"

struct bed {
    struct fixture f;
    struct mj_why *why;
};

static int setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);
    *state = b;
    fixture_open(&b->f);
    b->why = mj_why_new(0, false);
    mj_router_set_why(b->f.router, b->why);
    return 0;
}

static int teardown(void **state)
{
    struct bed *b = *state;
    fixture_close(&b->f);
    mj_why_free(b->why);
    free(b);
    return 0;
}

/* All that is told about a record, a line each: "create main; s1.lua where#1:2 dropped". */
static bool tell(void *ctx, const struct mj_why_seen *seen)
{
    struct mj_buf *out = ctx;
    mj_buf_printf(out, "%s%s%s", seen->frame ? "frame" : mj_op_name(seen->op),
                  seen->main ? " main" : "", seen->lane ? " lane" : "");
    if (seen->reason)
        mj_buf_printf(out, " %s", mj_errlabel(seen->reason));
    for (size_t i = 0; i < seen->count; i++) {
        const struct mj_why_note *n = &seen->notes[i];
        mj_buf_printf(out, "; %s %s:%u %s", n->script, n->node, n->line, mj_why_did_name(n->did));
        if (n->text.len)
            mj_buf_printf(out, " (%.*s)", (int)n->text.len, (const char *)n->text.ptr);
    }
    mj_buf_puts(out, seen->more ? " …\n" : "\n");
    return true;
}

static const char *told(struct bed *b, const char *did, const char *collection, const char *rkey)
{
    const struct mj_why_query q = {mj_str(did), mj_str(collection), mj_str(rkey)};
    b->f.out.len = 0;
    mj_why_find(b->why, &q, tell, &b->f.out);
    return mj_buf_cstr(&b->f.out);
}

#define POST "app.bsky.feed.post"
#define RKEY "3kgmi5fzxhc2l"

static void check(struct bed *b, const char *expected)
{
    assert_string_equal(told(b, FIXTURE_DID, POST, RKEY), expected);
}

static void nothing_happened(void **state)
{
    struct bed *b = *state;
    fixture_post(&b->f, "hello");
    check(b, "create main\n");
    assert_string_equal(told(b, FIXTURE_DID, POST, "3kgmi5fzxhc2m"), "");
    assert_string_equal(told(b, FIXTURE_DID, "app.bsky.feed.like", RKEY), "");
    assert_string_equal(told(b, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", POST, RKEY), "");
    struct mj_why_window w;
    mj_why_window(b->why, MJ_SPAN(FIXTURE_DID), &w);
    assert_int_equal(w.events, 1);
    assert_int_equal(w.of_did, 1);
    assert_true(w.oldest_us && w.oldest_us == w.newest_us && w.did_us == w.newest_us);
}

static void verdicts(void **state)
{
    struct bed *b = *state;
    fixture_load(&b->f, "jet.from 'app.bsky.feed.post'\n"
                        "  :where(function(ev) return #ev.text > 5 end)\n"
                        "  :map(function(ev) ev:set('text', 'new') return ev end)\n"
                        "  :to(jet.stream 'a')\n"
                        "jet.from 'app.bsky.feed.like':to(jet.stream 'b')\n"
                        "jet.from { text = 'x' }:dedupe { by = 'text', within = '1h' }\n"
                        "  :tap(function(ev) error 'boom' end)\n");
    fixture_post(&b->f, "short");
    check(b, "create main; s1.lua from#1:1 passed; s1.lua where#1:2 dropped\n");
    fixture_post(&b->f, "long enough");
    assert_non_null(strstr(told(b, FIXTURE_DID, POST, RKEY),
                           "create main; s1.lua from#1:1 passed; s1.lua where#1:2 passed; "
                           "s1.lua map#1:3 edited; s1.lua stream#1:4 passed\n"));
    fixture_post(&b->f, "x");
    assert_non_null(strstr(told(b, FIXTURE_DID, POST, RKEY),
                           "; s1.lua from#3:6 passed; s1.lua dedupe#1:6 passed; s1.lua tap#1:7 "
                           "error (s1.lua:7: boom)\n"));
    fixture_post(&b->f, "x");
    assert_non_null(strstr(told(b, FIXTURE_DID, POST, RKEY),
                           "; s1.lua from#3:6 passed; s1.lua dedupe#1:6 "
                           "dropped\n"));
}

static void main_stream(void **state)
{
    struct bed *b = *state;
    fixture_load(&b->f, "jet.main():where(function(ev) return ev.text ~= 'no' end)\n"
                        "  :map(function(ev) if ev.text == 'me' then ev:set('text', 'you') end "
                        "return ev end)");
    fixture_post(&b->f, "yes");
    check(b, "create main\n");
    fixture_post(&b->f, "no");
    fixture_post(&b->f, "me");
    check(b, "create main\ncreate; s1.lua where#1:1 dropped\ncreate main; s1.lua map#1:2 edited\n");
}

static void error_that_passes(void **state)
{
    struct bed *b = *state;
    b->f.cfg.on_error = MJ_ON_ERROR_PASS;
    fixture_load(&b->f, "jet.main():where(function(ev) error 'boom' end)");
    fixture_post(&b->f, "yes");
    check(b, "create main; s1.lua where#1:1 error, passed (s1.lua:1: boom)\n");
}

static void paused(void **state)
{
    struct bed *b = *state;
    fixture_load(&b->f, "jet.from '*':to(jet.stream 'a')");
    struct mj_graph *g = (struct mj_graph *)mj_scripts_graph(b->f.scripts, 0);
    mj_router_pause(b->f.router, g, true, false);
    fixture_post(&b->f, "yes");
    check(b, "create main; s1.lua from#1:1 paused\n");
}

static void streams_read(void **state)
{
    struct bed *b = *state;
    fixture_load(&b->f, "jet.from '*':to(jet.stream 'a')\n"
                        "jet.from(jet.stream 'a'):to(jet.stream 'b')");
    fixture_post(&b->f, "yes");
    check(b, "create main; s1.lua from#1:1 passed; s1.lua stream#1:1 passed; "
             "s1.lua from#2:2 passed; s1.lua stream#2:2 passed\n");
}

/* A record that breaks the data model is told with its reason: found by a script that looks, or
 * while it is printed. */
static void unsound(void **state)
{
    struct bed *b = *state;
    const uint8_t bad[] = {0xa1, 0x61, 0x78, 0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0}; /* a float */
    struct mj_event ev = fixture_commit(&b->f, POST, MJ_OP_CREATE, mj_span(bad, sizeof bad));
    assert_int_equal(mj_router_event(b->f.router, &ev), 0);
    check(b, "create cbor_float\n");
    fixture_load(&b->f, "jet.from '*':where(function(ev) return true end):to(jet.stream 'a')");
    ev = fixture_commit(&b->f, POST, MJ_OP_CREATE, mj_span(bad, sizeof bad));
    assert_int_equal(mj_router_event(b->f.router, &ev), 0);
    check(b, "create cbor_float\ncreate cbor_float\n");
}

/* Notes of a script that was replaced can still be read. */
static void replaced(void **state)
{
    struct bed *b = *state;
    struct mj_graph *old = mj_graph_new("old.lua"), *new = mj_graph_new("new.lua");
    MJ_AUTO_BUF error = {0};
    struct mj_node *n = mj_graph_add(old, MJ_NODE_FROM, NULL, "old.lua", 7);
    assert_int_equal(mj_match_parse(MJ_SPAN("*"), &n->match, &error), 0);
    n = mj_graph_add(new, MJ_NODE_FROM, NULL, "new.lua", 8);
    assert_int_equal(mj_match_parse(MJ_SPAN("*"), &n->match, &error), 0);
    assert_int_equal(mj_router_swap(b->f.router, NULL, old, &error), 0);
    fixture_post(&b->f, "one");
    assert_int_equal(mj_router_swap(b->f.router, old, new, &error), 0);
    mj_graph_free(old);
    fixture_post(&b->f, "two");
    check(b, "create main; old.lua from#1:7 passed\ncreate main; new.lua from#1:8 passed\n");
    /* Descriptions are bounded; what has none says so. */
    for (int i = 0; i < GRAPHS_MAX; i++)
        mj__why_graph(b->why, new);
    assert_int_equal(b->why->graph_count, GRAPHS_MAX);
    check(b, "create main;  :0 passed\ncreate main;  :0 passed\n");
    mj_router_swap(b->f.router, new, NULL, &error);
    mj_graph_free(new);
}

/* The oldest go, block by block, and what is told stays whole. */
static void wraps(void **state)
{
    struct bed *b = *state;
    struct mj__why_notes notes = {.why = b->why, .source = 3};
    struct mj_graph *g = mj_graph_new("w.lua");
    for (int i = 0; i < MJ_NODES_MAX; i++)
        mj_graph_add(g, MJ_NODE_FROM, NULL, "w.lua", (unsigned)i + 1);
    mj__why_graph(b->why, g);
    char rkey[32];
    struct mj_event ev = {.kind = MJ_KIND_COMMIT,
                          .op = MJ_OP_CREATE,
                          .did = MJ_SPAN(FIXTURE_DID),
                          .collection = MJ_SPAN(POST)};
    const int n = 20000;
    for (int i = 0; i < n; i++) {
        snprintf(rkey, sizeof rkey, "key%d", i);
        ev.rkey = mj_str(rkey);
        ev.time_us = 1000 + i;
        ev.seq = i;
        mj__why_begin(&notes);
        /* Of any size, the largest among them. */
        int many = i % 997 ? i % 5 : MJ_NODES_MAX + 5;
        for (int k = 0; k < many; k++) {
            struct mj_node *node = g->nodes[k % MJ_NODES_MAX];
            node->reason = k % 50 == 3 ? "a reason \xc3\xa9" : NULL;
            mj__why_note(&notes, node, MJ_WHY_ERROR);
        }
        mj__why_event(&notes, &ev, 0, true);
    }
    struct mj_why_window w;
    mj_why_window(b->why, MJ_SPAN(FIXTURE_DID), &w);
    assert_int_equal(w.bytes, MJ_WHY_MIN);
    assert_true(w.events > 1000 && w.events < (uint64_t)n);
    assert_int_equal(w.of_did, w.events);
    assert_int_equal(w.newest_us, 1000 + n - 1);
    assert_int_equal(w.oldest_us, 1000 + n - (int)w.events);
    int held = 0;
    for (int i = 0; i < n; i++) {
        snprintf(rkey, sizeof rkey, "key%d", i);
        const char *text = told(b, FIXTURE_DID, POST, rkey);
        held += *text != 0;
        assert_int_equal(*text != 0, i >= n - (int)w.events);
        if (*text && !(i % 997))
            assert_non_null(strstr(text, " …\n"));
        if (i % 5 == 4 && i % 997 && *text)
            assert_non_null(strstr(text, "w.lua from#4:4 error (a reason \xc3\xa9)\n"));
    }
    assert_int_equal(held, w.events);
    mj_graph_free(g);
}

/* What is dropped while it is decoded, and whole frames. */
static void undecoded(void **state)
{
    struct bed *b = *state;
    struct mj__why_notes notes = {.why = b->why, .source = 2};
    struct mj_span did = MJ_SPAN(FIXTURE_DID);
    mj__why_operation(&notes, did, MJ_SPAN(POST "/" RKEY), 17, MJ_EHASH);
    mj__why_operation(&notes, did, MJ_SPAN("no path"), 18, MJ_EPATH);
    mj__why_operation(&notes, mj_span(NULL, 0), MJ_SPAN(POST "/" RKEY), 18, MJ_EPATH);
    mj__why_frame(&notes, did, 19, MJ_ETOOBIG);
    mj__why_frame(&notes, mj_span(NULL, 0), 0, MJ_EFRAME);
    MJ_AUTO_BUF expected = {0};
    mj_buf_printf(&expected, "create %s\n", mj_errlabel(MJ_EHASH));
    expected.len = 0;
    mj_buf_printf(&expected, " %s\nframe %s\nframe %s\n", mj_errlabel(MJ_EHASH),
                  mj_errlabel(MJ_EPATH), mj_errlabel(MJ_ETOOBIG));
    check(b, mj_buf_cstr(&expected));
}

static void count_gap(void *ctx, const struct mj_why_gap *gap)
{
    mj_buf_printf(ctx, "%d: %lld to %lld\n", gap->source, (long long)gap->from, (long long)gap->to);
}

static void gaps(void **state)
{
    struct bed *b = *state;
    MJ_AUTO_BUF out = {0};
    struct mj__why_notes notes = {.why = b->why};
    static const int64_t seqs[][2] = {{0, 10}, {1, 5}, {0, 11}, {0, 14}, {1, 6},  {1, 4},
                                      {1, 5},  {1, 9}, {0, 0},  {0, 15}, {-1, 99}};
    for (size_t i = 0; i < MJ_COUNT(seqs); i++) {
        notes.source = (int)seqs[i][0];
        mj__why_seq(&notes, seqs[i][1]);
    }
    mj_why_gaps(b->why, count_gap, &out);
    assert_string_equal(mj_buf_cstr(&out), "0: 12 to 14\n1: 6 to 9\n");
    notes.source = 0;
    for (int i = 0; i < 2 * GAPS_MAX; i++)
        mj__why_seq(&notes, 20 + 2 * i);
    out.len = 0;
    mj_why_gaps(b->why, count_gap, &out);
    size_t lines = 0;
    for (size_t i = 0; i < out.len; i++)
        lines += out.ptr[i] == '\n';
    assert_int_equal(lines, GAPS_MAX);
}

#define WRITERS 3
#define EACH    20000

struct writer {
    struct mj_why *why;
    struct mj_graph *graph;
    int number;
};

static void *write_many(void *arg)
{
    const struct writer *w = arg;
    struct mj__why_notes *notes = calloc(1, sizeof *notes);
    char rkey[32];
    notes->why = w->why;
    for (int i = 0; i < EACH; i++) {
        snprintf(rkey, sizeof rkey, "w%d-%d", w->number, i);
        struct mj_event ev = {.kind = MJ_KIND_COMMIT,
                              .op = MJ_OP_CREATE,
                              .time_us = i + 1,
                              .did = MJ_SPAN(FIXTURE_DID),
                              .collection = MJ_SPAN(POST),
                              .rkey = mj_str(rkey)};
        mj__why_begin(notes);
        for (int k = 0; k < i % 4; k++)
            mj__why_note(notes, w->graph->nodes[w->number], MJ_WHY_PASSED);
        mj__why_aside(notes, &ev);
    }
    free(notes);
    return NULL;
}

static bool count_seen(void *ctx, const struct mj_why_seen *seen)
{
    size_t *n = ctx;
    assert_true(seen->lane && seen->count >= 1 && seen->count <= 3);
    assert_string_equal(seen->notes[0].script, "lane.lua");
    ++*n;
    return true;
}

/* Lanes write one from several threads, while somebody asks. */
static void shared(void **state)
{
    (void)state;
    struct mj_why *why = mj_why_new(0, true);
    struct mj_graph *g = mj_graph_new("lane.lua");
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS];
    const struct mj_why_query q = {.did = MJ_SPAN(FIXTURE_DID)};
    struct mj_why_window window;
    size_t n = 0;
    for (int i = 0; i < WRITERS; i++)
        mj_graph_add(g, MJ_NODE_FROM, NULL, "lane.lua", 1);
    mj__why_graph(why, g);
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){why, g, i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, &writers[i]), 0);
    }
    for (int i = 0; i < 50; i++) {
        mj_why_find(why, &q, count_seen, &n);
        mj_why_window(why, q.did, &window);
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    n = 0;
    mj_why_find(why, &q, count_seen, &n);
    mj_why_window(why, q.did, &window);
    assert_int_equal(n, window.events);
    assert_true(n > 0);
    mj_graph_free(g);
    mj_why_free(why);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(nothing_happened),  TEST(verdicts), TEST(main_stream),
        TEST(error_that_passes), TEST(paused),   TEST(streams_read),
        TEST(unsound),           TEST(replaced), TEST(wraps),
        TEST(undecoded),         TEST(gaps),     TEST(shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
