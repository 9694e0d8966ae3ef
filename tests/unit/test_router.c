/* The router's graphs: swapped and paused between events, nodes that end in the script room, flows
 * that read streams, and who watches what leaves. Graphs are drawn in C; no Lua runs here. */
#include <malloc.h>

#include "unit/script_fixture.h"

#include "base/clock.h"
#include "base/metrics.h"

/* What the heap holds, also where a sanitizer has replaced malloc. */
extern size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static size_t heap(void)
{
    return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes()
                                                   : mallinfo2().uordblks;
}

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

static struct mj_node *add(struct mj_graph *g, enum mj_node_type type, struct mj_node *parent)
{
    return mj_graph_add(g, type, parent, g->script, (unsigned)g->count + 1);
}

static struct mj_node *add_from(struct mj_graph *g, const char *match)
{
    MJ_AUTO_BUF error = {0};
    struct mj_node *n = add(g, MJ_NODE_FROM, NULL);
    assert_int_equal(mj_match_parse(mj_str(match), &n->match, &error), 0);
    return n;
}

static struct mj_node *add_reader(struct mj_graph *g, const char *stream)
{
    struct mj_node *n = add(g, MJ_NODE_FROM, NULL);
    mj_graph_read(n, stream);
    return n;
}

static void add_stream(struct mj_graph *g, struct mj_node *behind, const char *name)
{
    add(g, MJ_NODE_STREAM, behind)->stream = mj_strdup(name);
}

static enum mj_verdict drop(struct mj_node *n, const struct mj_event *ev)
{
    (void)n, (void)ev;
    return MJ_VERDICT_DROP;
}

/* A map that sets the text to ctx. */
static enum mj_verdict set_text(struct mj_node *n, const struct mj_event *ev)
{
    MJ_AUTO_BUF item = {0};
    struct mj_path path = {.count = 0};
    assert_int_equal(mj_path_parse(&path, MJ_SPAN("text")), 0);
    mj_cbor_put_text(&item, mj_str(n->ctx));
    mj_patch_begin(&n->patch, ev->record);
    assert_int_equal(mj_patch_set(&n->patch, &path, mj_buf_span(&item)), 0);
    return MJ_VERDICT_PASS;
}

static void add_map(struct mj_graph *g, struct mj_node *behind, const char *text,
                    const char *stream)
{
    struct mj_node *n = add(g, MJ_NODE_MAP, behind);
    n->fn = set_text;
    n->ctx = (void *)text;
    add_stream(g, n, stream);
}

static void swap(struct fixture *f, struct mj_graph *old, struct mj_graph *graph)
{
    f->error.len = 0;
    if (mj_router_swap(f->router, old, graph, &f->error))
        fail_msg("%s", mj_buf_cstr(&f->error));
    mj_graph_free(old);
}

/* A graph that feeds the streams "a" (posts) and "b" (everything), and narrows main to nothing if
 * asked. */
static struct mj_graph *two_streams(const char *script, bool empty_main)
{
    struct mj_graph *g = mj_graph_new(script);
    add_stream(g, add_from(g, "app.bsky.feed.post"), "a");
    add_stream(g, add_from(g, "*"), "b");
    if (empty_main) {
        g->main = add(g, MJ_NODE_MAIN, NULL);
        add(g, MJ_NODE_WHERE, g->main)->fn = drop;
    }
    return g;
}

static int64_t metric_value(const char *series)
{
    MJ_AUTO_BUF all = {0};
    mj_metrics_render(&all);
    const char *at = strstr(mj_buf_cstr(&all), series);
    return at ? strtoll(at + strlen(series), NULL, 10) : -1;
}

static size_t lines(const char *s)
{
    size_t n = 0;
    for (; *s; s++)
        n += *s == '\n';
    return n;
}

static void a_thousand_swaps_lose_nothing(void **state)
{
    enum { SWAPS = 1000, EACH = 3 };
    struct fixture *f = *state;
    struct mj_graph *first = mj_graph_new("first.lua"), *last = mj_graph_new("last.lua");
    add_stream(first, add_from(first, "*"), "before");
    add_stream(last, add_from(last, "*"), "after");
    struct mj_graph *g = two_streams("swapped.lua", false);
    swap(f, NULL, first);
    swap(f, NULL, g);
    swap(f, NULL, last);
    int a = mj_streams_find(f->streams, MJ_SPAN("a")),
        b = mj_streams_find(f->streams, MJ_SPAN("b"));
    const char *series = "moonjet_node_events_in_total{script=\"swapped.lua\",node=\"from#1\"} ";
    int64_t counted = metric_value(series);
    size_t before = 0;
    char text[32];
    unsigned n = 0;
    for (unsigned i = 0; i < SWAPS; i++) {
        for (unsigned k = 0; k < EACH; k++) {
            snprintf(text, sizeof text, "event %u.", n++);
            fixture_post(f, text);
        }
        struct mj_graph *next = two_streams("swapped.lua", false);
        swap(f, g, next);
        g = next;
        if (i == SWAPS / 10) /* every buffer has its size */
            before = heap();
    }
    assert_true(heap() <= before + 4096);
    assert_int_equal(metric_value(series) - counted, SWAPS * EACH);
    static const char *const names[] = {"a", "b", "before", "after", "main"};
    for (size_t i = 0; i < MJ_COUNT(names); i++) {
        const char *out = fixture_take(f, names[i]);
        assert_int_equal(lines(out), SWAPS * EACH);
        for (unsigned k = 0; k < n; k++) { /* once each, in order */
            snprintf(text, sizeof text, "\"event %u.\"", k);
            out = strstr(out, text);
            assert_non_null(out);
        }
    }
    assert_int_equal(mj_streams_find(f->streams, MJ_SPAN("a")), a);
    assert_int_equal(mj_streams_find(f->streams, MJ_SPAN("b")), b);
    swap(f, first, NULL);
    swap(f, g, NULL);
    swap(f, last, NULL);
}

static void a_swap_keeps_the_place_in_main(void **state)
{
    struct fixture *f = *state;
    struct mj_graph *g[3];
    static const char *const texts[] = {"one", "two", "three"};
    for (int i = 0; i < 3; i++) {
        g[i] = mj_graph_new("main.lua");
        g[i]->main = add(g[i], MJ_NODE_MAIN, NULL);
        add_map(g[i], g[i]->main, texts[i], "copy");
        /* On main the stream is a node of the line, not of the map. */
        add_stream(g[i], g[i]->main, i == 0 ? "one" : i == 1 ? "two" : "three");
        if (i != 1)
            swap(f, NULL, g[i]);
    }
    fixture_post(f, "x");
    assert_non_null(strstr(fixture_take(f, "main"), "\"three\""));
    fixture_skip(f);
    swap(f, g[0], g[1]); /* in front of the third, as the first was */
    fixture_post(f, "x");
    assert_non_null(strstr(fixture_take(f, "two"), "\"text\":\"two\""));
    assert_non_null(strstr(fixture_take(f, "main"), "\"text\":\"three\""));
    assert_int_equal(fixture_count(f, "one"), 0);
    swap(f, g[1], NULL);
    swap(f, g[2], NULL);
}

static void what_a_swap_refuses_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct mj_graph *g = two_streams("a.lua", false), *other = two_streams("b.lua", false);
    swap(f, NULL, g);
    f->error.len = 0;
    assert_int_equal(mj_router_swap(f->router, other, NULL, &f->error), MJ_ENOENT);
    struct mj_graph *bad = mj_graph_new("bad.lua");
    add_stream(bad, add_reader(bad, "x"), "y");
    add_stream(bad, add_reader(bad, "y"), "z");
    add_stream(bad, add_reader(bad, "z"), "x");
    f->error.len = 0;
    assert_int_equal(mj_router_swap(f->router, g, bad, &f->error), MJ_EINVAL);
    assert_non_null(strstr(mj_buf_cstr(&f->error), "would feed itself: "));
    assert_non_null(strstr(mj_buf_cstr(&f->error), "x → y → z"));
    fixture_post(f, "still there");
    assert_int_equal(fixture_count(f, "a"), 1);
    mj_graph_free(bad);
    mj_graph_free(other);
    swap(f, g, NULL);
}

static void a_paused_graph_gets_nothing(void **state)
{
    struct fixture *f = *state;
    struct mj_graph *g = two_streams("paused.lua", true);
    struct mj_graph *reader = mj_graph_new("reader.lua");
    add_stream(reader, add_reader(reader, "b"), "read");
    swap(f, NULL, g);
    swap(f, NULL, reader);
    mj_router_pause(f->router, g, true, false);
    fixture_post(f, "main as it comes");
    assert_int_equal(fixture_count(f, "main"), 1);
    assert_int_equal(fixture_count(f, "a"), 0);
    assert_int_equal(fixture_count(f, "read"), 0);
    assert_int_equal(mj_metric_get(g->nodes[0]->dropped), 1); /* counted */
    mj_router_pause(f->router, g, true, true);
    fixture_post(f, "nothing on main");
    assert_int_equal(fixture_count(f, "main"), 1);
    mj_router_pause(f->router, g, false, false);
    mj_router_pause(f->router, reader, true, false);
    fixture_post(f, "on again");
    assert_int_equal(fixture_count(f, "a"), 1);
    assert_int_equal(fixture_count(f, "read"), 0);
    assert_int_equal(mj_metric_get(reader->nodes[0]->dropped), 1);
    assert_int_equal(fixture_count(f, "main"), 1); /* its own where drops */
    swap(f, g, NULL);
    swap(f, reader, NULL);
}

struct pausing {
    struct mj_router *router;
    struct mj_graph *graph;
};

static enum mj_verdict pause_own_graph(struct mj_node *n, const struct mj_event *ev)
{
    struct pausing *p = n->ctx;
    (void)ev;
    mj_router_pause(p->router, p->graph, true, false);
    return MJ_VERDICT_PASS;
}

static void a_pause_from_a_node_counts_from_the_next_event(void **state)
{
    struct fixture *f = *state;
    struct mj_graph *g = mj_graph_new("self.lua");
    struct pausing p = {f->router, g};
    struct mj_node *tap = add(g, MJ_NODE_TAP, add_from(g, "*"));
    tap->fn = pause_own_graph;
    tap->ctx = &p;
    add_stream(g, tap, "first");
    add_stream(g, add_from(g, "*"), "second");
    add_stream(g, add_reader(g, "second"), "third");
    swap(f, NULL, g);
    fixture_post(f, "seen by all");
    fixture_post(f, "seen by none");
    assert_int_equal(fixture_count(f, "third"), 1);
    assert_int_equal(fixture_count(f, "first"), 1);
    assert_int_equal(fixture_count(f, "second"), 1);
    swap(f, g, NULL);
}

static enum mj_verdict take(struct mj_node *n, const struct mj_event *ev)
{
    (void)ev;
    int *room = n->ctx;
    return (*room)-- > 0 ? MJ_VERDICT_PASS : MJ_VERDICT_DROP;
}

static void fail_if_run(struct mj_node *n) { fail_msg("%s was run", n->name); }

static enum mj_verdict must_not_run(struct mj_node *n, const struct mj_event *ev)
{
    (void)ev;
    fail_if_run(n);
    return MJ_VERDICT_ERROR;
}

static void ends_get_events_and_their_children_do_not(void **state)
{
    struct fixture *f = *state;
    int room = 3;
    struct mj_graph *g = mj_graph_new("ends.lua");
    struct mj_node *from = add_from(g, "*");
    struct mj_node *batch = add(g, MJ_NODE_BATCH, from);
    batch->fn = take;
    batch->ctx = &room;
    add(g, MJ_NODE_EACH, batch)->fn = must_not_run;
    struct mj_node *each = add(g, MJ_NODE_EACH, from), *sink = add(g, MJ_NODE_SINK, from);
    each->fn = sink->fn = take;
    each->ctx = sink->ctx = &room;
    add_stream(g, from, "besides");
    swap(f, NULL, g);
    fixture_post(f, "room for three");
    fixture_post(f, "room for none");
    assert_int_equal(fixture_count(f, "besides"), 2);
    assert_int_equal(mj_metric_get(each->in), 2);
    assert_int_equal(mj_metric_get(each->passed), 1);
    assert_int_equal(mj_metric_get(each->dropped), 1);
    assert_int_equal(mj_metric_get(batch->dropped), 1);
    swap(f, g, NULL);
}

static void a_reader_sees_what_others_put_there(void **state)
{
    struct fixture *f = *state;
    /* The readers come first, in the wrong order, so that only the plan can put them right. */
    struct mj_graph *second = mj_graph_new("second.lua"), *first = mj_graph_new("first.lua");
    struct mj_graph *source = mj_graph_new("source.lua");
    add_stream(second, add_reader(second, "middle"), "end");
    add_map(first, add_reader(first, "start"), "edited", "middle");
    add_stream(source, add_from(source, "app.bsky.feed.post"), "start");
    swap(f, NULL, second);
    swap(f, NULL, first);
    swap(f, NULL, source);
    fixture_post(f, "plain");
    assert_non_null(strstr(fixture_take(f, "start"), "\"plain\""));
    assert_non_null(strstr(fixture_take(f, "middle"), "\"edited\""));
    assert_non_null(strstr(fixture_take(f, "end"), "\"edited\""));
    assert_int_equal(fixture_count(f, "end"), 1);
    assert_non_null(strstr(fixture_take(f, "main"), "\"plain\""));
    swap(f, source, NULL);
    swap(f, first, NULL);
    swap(f, second, NULL);
}

/* A map that appends ctx to the text. */
static enum mj_verdict append_text(struct mj_node *n, const struct mj_event *ev)
{
    struct mj_span value;
    MJ_AUTO_BUF text = {0}, item = {0};
    struct mj_path path = {.count = 0};
    struct mj_cbor_head head;
    assert_int_equal(mj_path_parse(&path, MJ_SPAN("text")), 0);
    assert_int_equal(mj_path_find(ev->record, &path, &value), 0);
    struct mj_cbor c = mj_cbor(value);
    assert_int_equal(mj_cbor_next(&c, &head), 0);
    mj_buf_put(&text, head.s.ptr, head.s.len);
    mj_buf_puts(&text, n->ctx);
    mj_cbor_put_text(&item, mj_buf_span(&text));
    mj_patch_begin(&n->patch, ev->record);
    assert_int_equal(mj_patch_set(&n->patch, &path, mj_buf_span(&item)), 0);
    return MJ_VERDICT_PASS;
}

/* Two versions of one event in a stream: its readers run once for each, and the first one's result
 * must not be overwritten by the second one's. */
static void a_reader_runs_for_each_version(void **state)
{
    struct fixture *f = *state;
    struct mj_graph *g = mj_graph_new("versions.lua");
    struct mj_node *from = add_from(g, "*");
    add_map(g, from, "one", "in");
    add_map(g, from, "two", "in");
    struct mj_node *map = add(g, MJ_NODE_MAP, add_reader(g, "in"));
    map->fn = append_text;
    map->ctx = (void *)"+a";
    add_stream(g, map, "out");
    map = add(g, MJ_NODE_MAP, add_reader(g, "out"));
    map->fn = append_text;
    map->ctx = (void *)"+b";
    add_stream(g, map, "last");
    swap(f, NULL, g);
    for (int i = 0; i < 2; i++) {
        fixture_skip(f);
        fixture_post(f, "x");
        const char *out = fixture_take(f, "out");
        assert_int_equal(lines(out), 2);
        assert_non_null(strstr(out, "\"one+a\""));
        assert_non_null(strstr(out, "\"two+a\""));
        out = fixture_take(f, "last");
        assert_int_equal(lines(out), 2);
        assert_non_null(strstr(out, "\"one+a+b\""));
        assert_non_null(strstr(out, "\"two+a+b\""));
    }
    swap(f, g, NULL);
}

struct watched {
    size_t calls, prints;
    uint64_t streams;
    char last[1024];
};

static void watch(void *ctx, const struct mj_event *ev, struct mj_span json, uint64_t streams,
                  unsigned prints)
{
    struct watched *w = ctx;
    assert_true(mj_span_is(ev->did, FIXTURE_DID));
    w->calls++;
    w->prints += prints;
    w->streams |= streams;
    snprintf(w->last, sizeof w->last, "%.*s", (int)json.len, (const char *)json.ptr);
}

static void somebody_watches_what_leaves(void **state)
{
    struct fixture *f = *state;
    struct watched w = {0};
    struct mj_graph *g = two_streams("watched.lua", true);
    add(g, MJ_NODE_PRINT, add_from(g, "app.bsky.feed.post:create"));
    swap(f, NULL, g);
    mj_router_on_output(f->router, watch, &w);
    mj_router_set_stdout(f->router, false);
    fixture_post(f, "seen");
    assert_int_equal(w.calls, 1);
    assert_int_equal(w.prints, 1);
    uint64_t both = UINT64_C(1) << mj_streams_find(f->streams, MJ_SPAN("a")) |
                    UINT64_C(1) << mj_streams_find(f->streams, MJ_SPAN("b"));
    assert_true(w.streams == both);
    assert_non_null(strstr(w.last, "\"text\":\"seen\""));
    mj_router_on_output(f->router, NULL, NULL);
    fixture_post(f, "not seen");
    assert_int_equal(w.calls, 1);
    swap(f, g, NULL);
    /* Without graphs, too. */
    mj_router_on_output(f->router, watch, &w);
    fixture_post(f, "main alone");
    assert_int_equal(w.calls, 2);
    assert_non_null(strstr(w.last, "main alone"));
}

static int64_t stopped_clock(void *ctx) { return *(int64_t *)ctx; }

static void stamp(void *ctx, const struct mj_event *ev, struct mj_span json, uint64_t streams,
                  unsigned prints)
{
    (void)json, (void)streams, (void)prints;
    *(int64_t *)ctx = ev->time_us;
}

static void the_clock_may_be_ours(void **state)
{
    struct fixture *f = *state;
    struct mj_router *kept = f->router;
    int64_t now = INT64_C(1783175888000000), stamped = 0;
    f->router = mj_router_new(NULL);
    mj_router_set_clock(f->router, stopped_clock, &now);
    mj_router_on_output(f->router, stamp, &stamped);
    fixture_post(f, "x");
    assert_int_equal(stamped, now);
    fixture_post(f, "x");
    assert_int_equal(stamped, now + 1);
    now += 5000000;
    fixture_post(f, "x");
    assert_int_equal(stamped, now);
    now -= 1000000; /* set back: stamps are not */
    fixture_post(f, "x");
    assert_int_equal(stamped, now + 1000001);
    mj_router_set_clock(f->router, NULL, NULL);
    fixture_post(f, "x");
    assert_true(stamped > now);
    mj_router_free(f->router);
    f->router = kept;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_thousand_swaps_lose_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_swap_keeps_the_place_in_main, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_swap_refuses_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_paused_graph_gets_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pause_from_a_node_counts_from_the_next_event, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(ends_get_events_and_their_children_do_not, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reader_sees_what_others_put_there, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reader_runs_for_each_version, setup, teardown),
        cmocka_unit_test_setup_teardown(somebody_watches_what_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(the_clock_may_be_ours, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
