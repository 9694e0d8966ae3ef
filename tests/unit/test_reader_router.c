/* Durable ends in the router: what their flows let through is noted in the journal, once per
 * version of an event, and what only they want is in no stream. */
#include <semaphore.h>

#include "unit/script_fixture.h"

#include "base/clock.h"
#include "flow/lane.h"
#include "journal/reader.h"

struct bed {
    struct fixture f;
    struct mj_readers *rs;
    struct mj_graph *g;
    unsigned called; /* fn of an end that is not durable */
};

static int setup(void **state)
{
    struct bed *b = mj_calloc(1, sizeof *b);
    mj_metrics_zero(NULL);
    fixture_open(&b->f);
    b->rs = mj_readers_new(&(struct mj_readers_cfg){.journal = b->f.journal});
    mj_router_set_readers(b->f.router, b->rs);
    b->g = mj_graph_new("bot.lua");
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bed *b = *state;
    mj_router_swap(b->f.router, b->g, NULL, &b->f.error);
    mj_graph_free(b->g);
    mj_router_set_readers(b->f.router, NULL);
    mj_readers_free(b->rs);
    fixture_close(&b->f);
    free(b);
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

static enum mj_verdict count_call(struct mj_node *n, const struct mj_event *ev)
{
    (void)ev;
    ((struct bed *)n->ctx)->called++;
    return MJ_VERDICT_PASS;
}

static struct mj_node *add_end(struct bed *b, struct mj_graph *g, enum mj_node_type type,
                               struct mj_node *parent, bool durable)
{
    struct mj_node *n = add(g, type, parent);
    n->fn = count_call;
    n->ctx = b;
    n->durable = durable;
    n->reader_kind = type == MJ_NODE_EACH ? MJ_READER_EACH : MJ_READER_SINK;
    return n;
}

static void go_live(struct bed *b)
{
    if (mj_router_add(b->f.router, b->g, &b->f.error))
        fail_msg("%s", mj_buf_cstr(&b->f.error));
}

static void own(struct bed *b, struct mj_reader *r, size_t max)
{
    mj_reader_own(r, &(struct mj_owner_cfg){.max = max, .ctx = b});
}

/* What the reader gets, as one text: "a,b" with texts of the posts; `|` between parcels. */
static const char *drain(struct bed *b, struct mj_reader *r)
{
    static char out[512];
    struct mj_parcel *p;
    int64_t again;
    size_t at = 0;
    *out = 0;
    mj_router_flush(b->f.router, -1, 0);
    mj_view_refresh(&b->f.view);
    while ((p = mj_reader_take(r, b, &b->f.view, mj_now_us(), &again))) {
        at += (size_t)snprintf(out + at, sizeof out - at, at ? "|" : "");
        for (size_t i = 0; i < p->n; i++) {
            MJ_AUTO_BUF json = {0};
            mj_buf_put(&json, p->items[i].json.ptr, p->items[i].json.len);
            const char *text = strstr(mj_buf_cstr(&json), "\"text\":\"");
            assert_non_null(text);
            bool loud = strstr(mj_buf_cstr(&json), "\"loud\":true");
            at += (size_t)snprintf(out + at, sizeof out - at, "%s%.*s%s", i ? "," : "",
                                   (int)strcspn(text + 8, "\""), text + 8, loud ? "!" : "");
        }
        mj_parcel_done(p, mj_now_us(), 0);
    }
    return out;
}

static size_t entries(struct bed *b, bool notes)
{
    struct mj_run run;
    size_t n = 0;
    mj_router_flush(b->f.router, -1, 0);
    mj_view_refresh(&b->f.view);
    for (uint64_t seq = b->f.next; mj_view_run(&b->f.view, seq, &run); seq += run.count)
        for (size_t i = 0; i < run.count; i++)
            n += (run.entries[i].kind == MJ_ENTRY_NOTE) == notes;
    return n;
}

static enum mj_verdict shout(struct mj_node *n, const struct mj_event *ev)
{
    static const struct mj_path path = {.steps = {{{(const uint8_t *)"loud", 4}, 0}}, .count = 1};
    MJ_AUTO_BUF item = {0};
    mj_cbor_put_bool(&item, true);
    mj_patch_begin(&n->patch, ev->record);
    assert_int_equal(mj_patch_set(&n->patch, &path, mj_buf_span(&item)), 0);
    return MJ_VERDICT_PASS;
}

static void test_one_event_for_many(void **state)
{
    struct bed *b = *state;
    struct mj_node *from = add_from(b->g, "app.bsky.feed.post");
    struct mj_node *each = add_end(b, b->g, MJ_NODE_EACH, from, true);
    struct mj_node *sink = add_end(b, b->g, MJ_NODE_SINK, from, true);
    struct mj_node *map = add(b->g, MJ_NODE_MAP, from);
    map->fn = shout;
    struct mj_node *loud = add_end(b, b->g, MJ_NODE_EACH, map, true);
    go_live(b);
    assert_string_equal(mj_reader_name(each->reader), "bot.lua each#1");
    own(b, each->reader, 0);
    own(b, sink->reader, 0);
    own(b, loud->reader, 0);
    fixture_post(&b->f, "one");
    fixture_post(&b->f, "two");
    assert_int_equal(entries(b, false), 4); /* the edited versions are entries of their own */
    assert_int_equal(entries(b, true), 6);
    assert_int_equal(fixture_count(&b->f, "main"), 2);
    assert_string_equal(drain(b, each->reader), "one|two");
    assert_string_equal(drain(b, sink->reader), "one|two");
    assert_string_equal(drain(b, loud->reader), "one!|two!");
    assert_int_equal(b->called, 0);
    assert_int_equal(mj_metric_get(each->in), 2);
    assert_int_equal(mj_metric_get(each->passed), 2);
}

static enum mj_verdict drop(struct mj_node *n, const struct mj_event *ev)
{
    (void)n, (void)ev;
    return MJ_VERDICT_DROP;
}

/* Main lets nothing through, so the event is in no stream. */
static void test_only_for_a_reader(void **state)
{
    struct bed *b = *state;
    b->g->main = add(b->g, MJ_NODE_MAIN, NULL);
    struct mj_node *where = add(b->g, MJ_NODE_WHERE, b->g->main);
    where->fn = drop;
    struct mj_node *each =
        add_end(b, b->g, MJ_NODE_EACH, add_from(b->g, "app.bsky.feed.post"), true);
    struct mj_metric *emitted = mj_metric("jetstream_events_emitted_total", MJ_COUNTER, "", NULL);
    int64_t before = mj_metric_get(emitted);
    go_live(b);
    own(b, each->reader, 0);
    fixture_post(&b->f, "one");
    assert_string_equal(drain(b, each->reader), "one");
    assert_int_equal(fixture_count(&b->f, "main"), 0);
    assert_int_equal(mj_metric_get(emitted), before);
}

static void test_behind_a_batch(void **state)
{
    struct bed *b = *state;
    struct mj_node *from = add_from(b->g, "app.bsky.feed.post");
    struct mj_node *batch = add_end(b, b->g, MJ_NODE_BATCH, from, false);
    struct mj_node *each = add_end(b, b->g, MJ_NODE_EACH, batch, true);
    struct mj_node *mixed = add_end(b, b->g, MJ_NODE_BATCH, from, false);
    struct mj_node *sink = add_end(b, b->g, MJ_NODE_SINK, mixed, true);
    add_end(b, b->g, MJ_NODE_EACH, mixed, false);
    go_live(b);
    own(b, each->reader, 2);
    own(b, sink->reader, 10);
    for (unsigned i = 0; i < 3; i++)
        fixture_post(&b->f, "x");
    assert_string_equal(drain(b, each->reader), "x,x|x");
    assert_string_equal(drain(b, sink->reader), "x,x,x");
    assert_int_equal(b->called, 3); /* the one with an end that is not durable */
    assert_int_equal(mj_metric_get(each->in), 3);
    assert_int_equal(mj_metric_get(batch->passed), 3);
}

static void test_flows_that_read_streams(void **state)
{
    struct bed *b = *state;
    struct mj_node *from = add_from(b->g, "app.bsky.feed.post");
    struct mj_node *map = add(b->g, MJ_NODE_MAP, from);
    map->fn = shout;
    add(b->g, MJ_NODE_STREAM, map)->stream = mj_strdup("loud");
    struct mj_node *reading = add(b->g, MJ_NODE_FROM, NULL);
    mj_graph_read(reading, "loud");
    struct mj_node *each = add_end(b, b->g, MJ_NODE_EACH, reading, true);
    go_live(b);
    own(b, each->reader, 0);
    fixture_post(&b->f, "one");
    assert_string_equal(drain(b, each->reader), "one!");
    assert_int_equal(fixture_count(&b->f, "loud"), 1);
}

/* A swap keeps the reader, and what was noted for the graph before. */
static void test_swap(void **state)
{
    struct bed *b = *state;
    struct mj_node *each =
        add_end(b, b->g, MJ_NODE_EACH, add_from(b->g, "app.bsky.feed.post"), true);
    go_live(b);
    fixture_post(&b->f, "before");
    struct mj_reader *reader = each->reader;
    struct mj_graph *next = mj_graph_new("bot.lua");
    each = add_end(b, next, MJ_NODE_EACH, add_from(next, "app.bsky.feed.post"), true);
    assert_int_equal(mj_router_swap(b->f.router, b->g, next, &b->f.error), 0);
    mj_graph_free(b->g);
    b->g = next;
    assert_ptr_equal(each->reader, reader);
    fixture_post(&b->f, "after");
    own(b, each->reader, 0);
    assert_string_equal(drain(b, each->reader), "before|after");
    /* While the script is paused its flows miss events. */
    mj_router_pause(b->f.router, b->g, true, false);
    fixture_post(&b->f, "missed");
    mj_router_pause(b->f.router, b->g, false, false);
    fixture_post(&b->f, "more");
    assert_string_equal(drain(b, each->reader), "more");
}

static void wake(void *ctx) { sem_post(ctx); }

static void test_lane(void **state)
{
    struct bed *b = *state;
    sem_t news;
    sem_init(&news, 0, 0);
    struct mj_node *from = add_from(b->g, "app.bsky.feed.post");
    struct mj_node *map = add(b->g, MJ_NODE_MAP, from);
    map->fn = shout;
    struct mj_node *plain = add_end(b, b->g, MJ_NODE_EACH, from, true);
    struct mj_node *loud = add_end(b, b->g, MJ_NODE_EACH, map, true);
    struct mj_lane *lane = mj_lane_new(
        &(struct mj_lane_cfg){.script = "bot.lua", .lag = MJ_LAG_WAIT, .wake = wake, .ctx = &news});
    mj_router_set_streams(mj_lane_router(lane), b->f.streams);
    assert_int_equal(mj_router_add(mj_lane_router(lane), b->g, &b->f.error), 0);
    assert_int_equal(mj_lane_swap(b->f.router, NULL, lane, &b->f.error), 0);
    own(b, plain->reader, 0);
    own(b, loud->reader, 0);
    fixture_post(&b->f, "one");
    mj_router_flush(b->f.router, -1, 0);
    while (entries(b, true) < 2)
        sem_wait(&news);
    assert_string_equal(drain(b, plain->reader), "one");
    assert_string_equal(drain(b, loud->reader), "one!");
    assert_int_equal(fixture_count(&b->f, "main"), 1);
    mj_lane_free(lane, 1000000);
    sem_destroy(&news);
}

/* Without a registry durable ends are ends like others. */
static void test_no_registry(void **state)
{
    struct bed *b = *state;
    mj_router_set_readers(b->f.router, NULL);
    struct mj_node *each =
        add_end(b, b->g, MJ_NODE_EACH, add_from(b->g, "app.bsky.feed.post"), true);
    go_live(b);
    assert_null(each->reader);
    fixture_post(&b->f, "one");
    assert_int_equal(b->called, 1);
    assert_int_equal(entries(b, true), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_event_for_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_for_a_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(test_behind_a_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flows_that_read_streams, setup, teardown),
        cmocka_unit_test_setup_teardown(test_swap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lane, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_registry, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
