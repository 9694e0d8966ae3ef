/* Lanes: a graph in a thread of its own, between two ends of one journal. Also meant for
 * ThreadSanitizer. */
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

#include "unit/script_fixture.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "flow/lane.h"
#include "flow/operator.h"

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

/* A gate in a lane's graph: its thread stops there until the test lets it through, and tells that
 * it has arrived. */
struct gate {
    sem_t arrived, open;
    _Atomic bool off;
};

static enum mj_verdict stop_at_gate(struct mj_node *n, const struct mj_event *ev)
{
    struct gate *g = n->ctx;
    (void)ev;
    if (g->off)
        return MJ_VERDICT_PASS;
    sem_post(&g->arrived);
    sem_wait(&g->open);
    return MJ_VERDICT_PASS;
}

static void gate_init(struct gate *g)
{
    sem_init(&g->arrived, 0, 0);
    sem_init(&g->open, 0, 0);
    g->off = false;
}

static void wake(void *ctx) { sem_post(ctx); }

static struct mj_lane *start(struct fixture *f, struct mj_graph *old, struct mj_graph *g,
                             const struct mj_lane_cfg *cfg)
{
    struct mj_lane *lane = mj_lane_new(cfg);
    mj_router_set_streams(mj_lane_router(lane), f->streams);
    f->error.len = 0;
    if (mj_router_add(mj_lane_router(lane), g, &f->error) ||
        mj_lane_swap(f->router, old, lane, &f->error))
        fail_msg("%s", mj_buf_cstr(&f->error));
    return lane;
}

/* Waits until so many entries of the stream have come back. */
static const char *wait_for(struct fixture *f, sem_t *news, const char *stream, size_t count)
{
    for (;;) {
        size_t n = 0;
        const char *out = fixture_take(f, stream);
        for (const char *s = out; *s; s++)
            n += *s == '\n';
        if (n >= count)
            return out;
        sem_wait(news);
    }
}

static void assert_in_order(const char *out, unsigned n)
{
    char text[32];
    for (unsigned i = 0; i < n; i++) {
        snprintf(text, sizeof text, "\"event %u\"", i);
        out = strstr(out, text);
        if (!out)
            fail_msg("%s is missing, or not in its place", text);
    }
}

static void post_number(struct fixture *f, unsigned i)
{
    char text[32];
    snprintf(text, sizeof text, "event %u", i);
    fixture_post(f, text);
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

static void what_a_lane_makes_comes_back_in_order(void **state)
{
    enum { EVENTS = 3000 };
    struct fixture *f = *state;
    sem_t news;
    sem_init(&news, 0, 0);
    struct mj_graph *g = mj_graph_new("lane.lua"), *other = mj_graph_new("other.lua");
    struct mj_node *from = add_from(g, "app.bsky.feed.post"), *map = add(g, MJ_NODE_MAP, from);
    map->fn = shout;
    add_stream(g, from, "plain");
    add_stream(g, map, "loud");
    add_stream(g, add_reader(g, "loud"), "again"); /* in the lane itself */
    add_stream(g, add_from(g, "app.bsky.graph.*"), "never");
    add_stream(other, add_reader(other, "loud"), "copied"); /* in lane 0 */
    assert_int_equal(mj_router_add(f->router, other, &f->error), 0);
    struct mj_lane *lane = start(
        f, NULL, g,
        &(struct mj_lane_cfg){
            .script = "lane.lua", .lag = MJ_LAG_WAIT, .events = 100, .wake = wake, .ctx = &news});
    for (unsigned i = 0; i < EVENTS; i++) {
        post_number(f, i);
        if (i % 50 == 49)
            mj_router_flush(f->router, -1, 0);
    }
    static const char *const names[] = {"plain", "loud", "again", "copied", "main"};
    for (size_t i = 0; i < MJ_COUNT(names); i++) {
        const char *out = wait_for(f, &news, names[i], EVENTS);
        assert_in_order(out, EVENTS);
        assert_int_equal(fixture_count(f, names[i]), EVENTS);
        out = fixture_take(f, names[i]);
        bool loud = i >= 1 && i <= 3;
        assert_int_equal(strstr(out, "\"loud\":true") != NULL, loud);
    }
    assert_int_equal(fixture_count(f, "never"), 0);
    mj_lane_free(lane, 1000000);
    assert_int_equal(mj_router_swap(f->router, other, NULL, &f->error), 0);
    mj_graph_free(other);
    mj_graph_free(g);
    sem_destroy(&news);
}

static void a_slow_lane_may_skip(void **state)
{
    struct fixture *f = *state;
    struct gate gate;
    gate_init(&gate);
    struct mj_graph *g = mj_graph_new("skip.lua");
    struct mj_node *tap = add(g, MJ_NODE_TAP, add_from(g, "*"));
    tap->fn = stop_at_gate;
    tap->ctx = &gate;
    add_stream(g, tap, "out");
    struct mj_lane *lane =
        start(f, NULL, g, &(struct mj_lane_cfg){.script = "skip.lua", .events = 10});
    post_number(f, 0);
    mj_router_flush(f->router, -1, 0);
    sem_wait(&gate.arrived);
    for (unsigned i = 1; i < 100; i++) {
        post_number(f, i);
        mj_router_flush(f->router, -1, 0);
    }
    assert_int_equal(fixture_count(f, "main"), 100); /* nobody waited */
    char label[] = "script=\"skip.lua\"";
    struct mj_metric *skipped =
        mj_metric("moonjet_lane_skipped_total", MJ_COUNTER, "", "%s", label);
    assert_int_equal(mj_metric_get(skipped), 90);
    gate.off = true;
    sem_post(&gate.open);
    mj_lane_free(lane, 10000000);
    const char *out = fixture_take(f, "out");
    assert_in_order(out, 10);
    assert_int_equal(fixture_count(f, "out"), 10);
    mj_graph_free(g);
}

static void a_lane_is_bounded_in_bytes(void **state)
{
    struct fixture *f = *state;
    struct gate gate;
    gate_init(&gate);
    struct mj_graph *g = mj_graph_new("bytes.lua");
    struct mj_node *tap = add(g, MJ_NODE_TAP, add_from(g, "*"));
    tap->fn = stop_at_gate;
    tap->ctx = &gate;
    add_stream(g, tap, "out");
    struct mj_lane *lane =
        start(f, NULL, g, &(struct mj_lane_cfg){.script = "bytes.lua", .bytes = 4096});
    char *big = malloc(2000);
    memset(big, 'x', 1999);
    big[1999] = 0;
    for (int i = 0; i < 100; i++)
        fixture_post(f, big);
    free(big);
    gate.off = true;
    sem_post(&gate.open);
    mj_lane_free(lane, 10000000);
    assert_in_range(fixture_count(f, "out"), 2, 3);
    mj_graph_free(g);
}

struct opener {
    struct gate *gate;
    sem_t *news;
};

static void *open_later(void *arg)
{
    struct gate *gate = arg;
    sem_wait(&gate->arrived);
    gate->off = true;
    sem_post(&gate->open);
    return NULL;
}

/* Its queue holds one event, so lane 0 must wait for the lane, which only goes on after it has been
 * seen to stand. */
static void a_slow_lane_may_make_all_wait(void **state)
{
    struct fixture *f = *state;
    struct gate gate;
    pthread_t opener;
    gate_init(&gate);
    struct mj_graph *g = mj_graph_new("wait.lua");
    struct mj_node *tap = add(g, MJ_NODE_TAP, add_from(g, "*"));
    tap->fn = stop_at_gate;
    tap->ctx = &gate;
    add_stream(g, tap, "out");
    struct mj_lane *lane = start(
        f, NULL, g, &(struct mj_lane_cfg){.script = "wait.lua", .events = 1, .lag = MJ_LAG_WAIT});
    assert_int_equal(pthread_create(&opener, NULL, open_later, &gate), 0);
    for (unsigned i = 0; i < 500; i++)
        post_number(f, i);
    pthread_join(opener, NULL);
    /* All but those in the queue have come back already, without a flush. */
    mj_lane_free(lane, 10000000);
    const char *out = fixture_take(f, "out");
    assert_in_order(out, 500);
    assert_int_equal(fixture_count(f, "out"), 500);
    mj_graph_free(g);
}

static struct mj_graph *deduped(const char *stream, struct gate *gate)
{
    struct mj_graph *g = mj_graph_new("reload.lua");
    struct mj_node *tap = add(g, MJ_NODE_TAP, add_from(g, "*"));
    MJ_AUTO_BUF error = {0};
    struct mj_operator_cfg cfg = {
        .type = MJ_NODE_DEDUPE, .by = MJ_BY_TEXT, .within_us = INT64_C(3600000000)};
    tap->fn = stop_at_gate;
    tap->ctx = gate;
    struct mj_node *dedupe = add(g, MJ_NODE_DEDUPE, tap);
    assert_int_equal(mj_operator_new(&cfg, &dedupe->op, &error), 0);
    add_stream(g, dedupe, stream);
    add_stream(g, add_reader(g, stream), "read"); /* in the lane, not again in the next one */
    return g;
}

/* The old lane stands when it is replaced: what it was given is worked off first, and the new one
 * knows what it has seen. */
static void a_reload_goes_on_where_the_old_lane_ends(void **state)
{
    struct fixture *f = *state;
    struct gate gate, open;
    gate_init(&gate);
    gate_init(&open);
    open.off = true;
    struct mj_graph *first = deduped("out", &gate), *second = deduped("out", &open);
    struct mj_lane_cfg cfg = {.script = "reload.lua", .lag = MJ_LAG_WAIT};
    struct mj_lane *old = start(f, NULL, first, &cfg);
    for (unsigned i = 0; i < 20; i++)
        post_number(f, i);
    mj_router_flush(f->router, -1, 0);
    sem_wait(&gate.arrived);
    struct mj_lane *lane = start(f, first, second, &cfg);
    for (unsigned i = 10; i < 40; i++) /* ten of these are known */
        post_number(f, i);
    mj_router_flush(f->router, -1, 0);
    assert_false(mj_lane_done(old));
    assert_int_equal(fixture_count(f, "out"), 0);
    gate.off = true;
    sem_post(&gate.open);
    mj_lane_free(old, 10000000);
    mj_graph_free(first);
    mj_lane_free(lane, 10000000);
    const char *out = fixture_take(f, "out");
    assert_in_order(out, 40);
    assert_int_equal(fixture_count(f, "out"), 40);
    assert_int_equal(fixture_count(f, "read"), 40);
    mj_graph_free(second);
}

/* As a program does that wants the old thread gone before the new script is loaded. */
static void a_lane_that_has_ended_may_be_replaced(void **state)
{
    struct fixture *f = *state;
    struct gate open;
    gate_init(&open);
    open.off = true;
    struct mj_graph *first = deduped("out", &open), *second = deduped("out", &open);
    struct mj_lane_cfg cfg = {.script = "reload.lua", .lag = MJ_LAG_WAIT};
    struct mj_lane *old = start(f, NULL, first, &cfg);
    for (unsigned i = 0; i < 20; i++)
        post_number(f, i);
    mj_lane_end(old, 10000000);
    assert_int_equal(fixture_count(f, "out"), 20);
    struct mj_lane *lane = start(f, first, second, &cfg);
    mj_lane_free(old, 0);
    mj_graph_free(first);
    for (unsigned i = 10; i < 30; i++)
        post_number(f, i);
    mj_lane_free(lane, 10000000);
    assert_in_order(fixture_take(f, "out"), 30);
    assert_int_equal(fixture_count(f, "out"), 30);
    mj_graph_free(second);
}

/* From lane 0 to a lane and back: what dedupe has seen goes along. */
static void a_script_may_move(void **state)
{
    struct fixture *f = *state;
    struct gate open;
    gate_init(&open);
    open.off = true;
    struct mj_graph *g[3];
    for (int i = 0; i < 3; i++)
        g[i] = deduped("out", &open);
    assert_int_equal(mj_router_add(f->router, g[0], &f->error), 0);
    for (unsigned i = 0; i < 10; i++)
        post_number(f, i);
    struct mj_lane *lane = start(f, g[0], g[1], &(struct mj_lane_cfg){.script = "reload.lua"});
    mj_graph_free(g[0]);
    for (unsigned i = 5; i < 15; i++)
        post_number(f, i);
    assert_int_equal(mj_router_swap(f->router, g[1], g[2], &f->error), 0);
    mj_lane_free(lane, 1000000);
    mj_graph_free(g[1]);
    for (unsigned i = 10; i < 20; i++)
        post_number(f, i);
    const char *out = fixture_take(f, "out");
    assert_in_order(out, 20);
    assert_int_equal(fixture_count(f, "out"), 20);
    assert_int_equal(mj_router_swap(f->router, g[2], NULL, &f->error), 0);
    mj_graph_free(g[2]);
}

static void a_lane_shares_nothing(void **state)
{
    struct fixture *f = *state;
    struct mj_graph *other = mj_graph_new("other.lua");
    add_stream(other, add_from(other, "*"), "shared");
    assert_int_equal(mj_router_add(f->router, other, &f->error), 0);
    for (int i = 0; i < 2; i++) {
        struct mj_graph *g = mj_graph_new("lane.lua");
        if (i)
            g->main = add(g, MJ_NODE_MAIN, NULL);
        else
            add_stream(g, add_from(g, "*"), "shared");
        struct mj_lane *lane = mj_lane_new(&(struct mj_lane_cfg){.script = "lane.lua"});
        mj_router_set_streams(mj_lane_router(lane), f->streams);
        f->error.len = 0;
        assert_int_equal(mj_lane_check(f->router, NULL, g, &f->error), MJ_EINVAL);
        assert_int_equal(mj_lane_check(f->router, other, g, &f->error), i ? MJ_EINVAL : 0);
        f->error.len = 0;
        assert_int_equal(mj_router_add(mj_lane_router(lane), g, &f->error), 0);
        assert_int_equal(mj_lane_swap(f->router, NULL, lane, &f->error), MJ_EINVAL);
        assert_non_null(strstr(mj_buf_cstr(&f->error),
                               i ? "has no part in it" : "'shared' is fed by other.lua:2, too"));
        mj_lane_free(lane, 0);
        mj_graph_free(g);
    }
    /* … nor may somebody else come to a lane's stream. */
    struct mj_graph *g = mj_graph_new("lane.lua"), *late = mj_graph_new("late.lua");
    add_stream(g, add_from(g, "*"), "own");
    add_stream(late, add_from(late, "*"), "own");
    struct mj_lane *lane = start(f, NULL, g, &(struct mj_lane_cfg){.script = "lane.lua"});
    f->error.len = 0;
    assert_int_equal(mj_router_add(f->router, late, &f->error), MJ_EINVAL);
    assert_int_equal(mj_router_swap(f->router, other, NULL, &f->error), 0);
    mj_lane_free(lane, 1000000);
    mj_graph_free(g);
    mj_graph_free(late);
    mj_graph_free(other);
}

struct tasks {
    sem_t ran;
    int64_t next;
    pthread_t thread;
    sem_t posted;
};

static int64_t run_tasks(void *ctx, int64_t budget_us)
{
    struct tasks *t = ctx;
    assert_true(budget_us > 0);
    t->thread = pthread_self();
    sem_post(&t->ran);
    return t->next;
}

static void on_post(void *ctx)
{
    struct tasks *t = ctx;
    t->next = 1000; /* from now on every millisecond */
    assert_true(pthread_equal(t->thread, pthread_self()));
    sem_post(&t->posted);
}

static void a_lane_runs_tasks_when_they_are_due(void **state)
{
    struct fixture *f = *state;
    struct tasks t = {.next = -1};
    sem_init(&t.ran, 0, 0);
    sem_init(&t.posted, 0, 0);
    struct mj_graph *g = mj_graph_new("tasks.lua");
    add_stream(g, add_from(g, "*"), "out");
    struct mj_lane *lane = start(
        f, NULL, g, &(struct mj_lane_cfg){.script = "tasks.lua", .run = run_tasks, .ctx = &t});
    sem_wait(&t.ran); /* at the start */
    mj_lane_wake(lane);
    sem_wait(&t.ran);
    assert_true(mj_lane_post(lane, on_post, &t));
    sem_wait(&t.posted);
    for (int i = 0; i < 5; i++) /* without anybody waking it */
        sem_wait(&t.ran);
    mj_lane_free(lane, 1000000);
    mj_graph_free(g);
}

static void a_lane_that_does_not_end_is_ended(void **state)
{
    struct fixture *f = *state;
    struct gate gate;
    pthread_t opener;
    gate_init(&gate);
    struct mj_graph *g = mj_graph_new("end.lua");
    struct mj_node *tap = add(g, MJ_NODE_TAP, add_from(g, "*"));
    tap->fn = stop_at_gate;
    tap->ctx = &gate;
    add_stream(g, tap, "out");
    struct mj_lane *lane = start(f, NULL, g, &(struct mj_lane_cfg){.script = "end.lua"});
    for (unsigned i = 0; i < 100; i++)
        post_number(f, i);
    mj_router_flush(f->router, -1, 0);
    sem_wait(&gate.arrived);
    sem_post(&gate.arrived);
    /* The gate opens after mj_lane_free() has begun to wait, or before: in both cases what is
     * still queued when the time is up is dropped and counted. */
    assert_int_equal(pthread_create(&opener, NULL, open_later, &gate), 0);
    mj_lane_free(lane, 0);
    pthread_join(opener, NULL);
    struct mj_metric *skipped =
        mj_metric("moonjet_lane_skipped_total", MJ_COUNTER, "", "script=\"%s\"", "end.lua");
    assert_int_equal(fixture_count(f, "out") + (size_t)mj_metric_get(skipped), 100);
    mj_graph_free(g);
}

/* The real thing: a script's VM in a lane of its own, beside one in lane 0. */
static void a_script_runs_in_a_lane(void **state)
{
    struct fixture *f = *state;
    sem_t news;
    sem_init(&news, 0, 0);
    struct mj_lane *lane = mj_lane_new(
        &(struct mj_lane_cfg){.script = "s1.lua", .lag = MJ_LAG_WAIT, .wake = wake, .ctx = &news});
    mj_router_set_streams(mj_lane_router(lane), f->streams);
    struct mj_scripts *zero = f->scripts, *own = mj_scripts_new(mj_lane_router(lane));
    f->scripts = own;
    fixture_load(f, "local n = 0\n"
                    "jet.from 'app.bsky.feed.post:create'\n"
                    "  :where(function(ev) return ev.text ~= 'event 3' end)\n"
                    "  :map(function(d) n = n + 1 d.record.n = n return d end)\n"
                    "  :to(jet.stream 'numbered')\n");
    f->scripts = zero;
    fixture_load(f, "jet.from(jet.stream 'numbered')\n"
                    "  :where(function(ev) return ev.record.n % 2 == 0 end)\n"
                    "  :to(jet.stream 'even')\n");
    f->error.len = 0;
    if (mj_lane_swap(f->router, NULL, lane, &f->error))
        fail_msg("%s", mj_buf_cstr(&f->error));
    for (unsigned i = 0; i < 201; i++)
        post_number(f, i);
    const char *out = wait_for(f, &news, "numbered", 200);
    assert_null(strstr(out, "\"event 3\""));
    assert_non_null(strstr(out, "\"n\":200,"));
    assert_int_equal(fixture_count(f, "even"), 100);
    mj_lane_free(lane, 1000000);
    mj_scripts_free(own);
    sem_destroy(&news);
}

/* Matches behind the first node look at what lies where the last event lay. */
static void matches_in_a_lane_see_each_event(void **state)
{
    struct fixture *f = *state;
    struct mj_lane *lane = mj_lane_new(&(struct mj_lane_cfg){.script = "s1.lua", .events = 100000});
    mj_router_set_streams(mj_lane_router(lane), f->streams);
    struct mj_scripts *zero = f->scripts, *own = mj_scripts_new(mj_lane_router(lane));
    f->scripts = own;
    fixture_load(f, "local all = jet.from '*'\n"
                    "all:where { text = 'moon' }:to(jet.stream 'moon')\n"
                    "all:to(jet.stream 'all')\n");
    f->scripts = zero;
    fixture_load(f, "jet.from(jet.stream 'all'):where { text = 'moon' }:to(jet.stream 'zero')\n");
    assert_int_equal(mj_lane_swap(f->router, NULL, lane, &f->error), 0);
    for (unsigned i = 0; i < 300; i++) {
        fixture_post(f, i % 3 ? "the sun." : "the moon");
        if (i % 7 == 0)
            mj_router_flush(f->router, -1, 0);
    }
    mj_lane_free(lane, 10000000);
    assert_int_equal(fixture_count(f, "all"), 300);
    assert_int_equal(fixture_count(f, "moon"), 100);
    assert_int_equal(fixture_count(f, "zero"), 100);
    mj_scripts_free(own);
}

/* What a reader of the journal's files would resume the source after. */
static int64_t cursor_on_disk(const char *dir)
{
    struct mj_journal *j;
    MJ_AUTO_BUF error = {0};
    if (mj_journal_open(&(struct mj_journal_cfg){.dir = dir, .read_only = true}, &j, &error))
        fail_msg("%s", mj_buf_cstr(&error));
    int64_t cursor = mj_journal_cursor(j, mj_journal_source(j, "wss://source.example"));
    mj_journal_close(j);
    return cursor;
}

/* An event the lane does not want: a cursor is written with the next batch that has one. */
static void like(struct fixture *f)
{
    struct mj_event ev = fixture_commit(f, "app.bsky.feed.like", MJ_OP_DELETE, mj_span(NULL, 0));
    assert_int_equal(mj_router_event(f->router, &ev), 0);
}

static void a_cursor_is_never_ahead_of_a_lane(void **state)
{
    struct fixture *f = *state;
    struct mj_router *in_memory = f->router;
    struct mj_journal *j;
    struct gate gate;
    char dir[128];
    gate_init(&gate);
    snprintf(dir, sizeof dir, "%s/journal", f->dir);
    f->error.len = 0;
    assert_int_equal(
        mj_journal_open(&(struct mj_journal_cfg){.dir = dir, .no_seal = true}, &j, &f->error), 0);
    int source = mj_journal_source(j, "wss://source.example");
    f->router = mj_router_new(j);
    mj_router_set_streams(f->router, f->streams);
    struct mj_graph *g = mj_graph_new("cursor.lua");
    struct mj_node *tap = add(g, MJ_NODE_TAP, add_from(g, "app.bsky.feed.post"));
    tap->fn = stop_at_gate;
    tap->ctx = &gate;
    add_stream(g, tap, "out");
    struct mj_lane *lane =
        start(f, NULL, g, &(struct mj_lane_cfg){.script = "cursor.lua", .lag = MJ_LAG_WAIT});
    like(f);
    assert_int_equal(mj_router_flush(f->router, source, 100), 0); /* nothing is queued */
    assert_int_equal(cursor_on_disk(dir), 100);
    post_number(f, 0);
    assert_int_equal(mj_router_flush(f->router, source, 200), 0);
    sem_wait(&gate.arrived);
    post_number(f, 1);
    assert_int_equal(mj_router_flush(f->router, source, 300), 0);
    assert_int_equal(cursor_on_disk(dir), 100); /* both are with the lane */
    sem_post(&gate.open);
    sem_wait(&gate.arrived); /* the first is done, the second has begun */
    for (int64_t at = 100; at == 100; at = cursor_on_disk(dir)) {
        like(f);
        assert_int_equal(mj_router_flush(f->router, -1, 0), 0);
    }
    assert_int_equal(cursor_on_disk(dir), 200);
    gate.off = true;
    sem_post(&gate.open);
    mj_lane_free(lane, 10000000);
    like(f);
    assert_int_equal(mj_router_flush(f->router, -1, 0), 0);
    assert_int_equal(cursor_on_disk(dir), 300);
    mj_router_free(f->router);
    mj_journal_close(j);
    mj_graph_free(g);
    f->router = in_memory;
}

static void *open_late(void *arg)
{
    void **with = arg; /* a gate, a lane */
    while (!mj_lane_gave_up(with[1]))
        usleep(1000);
    sem_post(&((struct gate *)with[0])->open);
    return NULL;
}

/* Who ends with a lane that had no time for its events has them read again, as after a crash. */
static void what_is_dropped_at_the_end_is_read_again(void **state)
{
    struct fixture *f = *state;
    struct mj_router *in_memory = f->router;
    struct mj_journal *j;
    struct gate gate;
    pthread_t thread;
    char dir[128];
    gate_init(&gate);
    snprintf(dir, sizeof dir, "%s/journal", f->dir);
    f->error.len = 0;
    assert_int_equal(
        mj_journal_open(&(struct mj_journal_cfg){.dir = dir, .no_seal = true}, &j, &f->error), 0);
    int source = mj_journal_source(j, "wss://source.example");
    f->router = mj_router_new(j);
    mj_router_set_streams(f->router, f->streams);
    struct mj_graph *g = mj_graph_new("end.lua");
    struct mj_node *tap = add(g, MJ_NODE_TAP, add_from(g, "app.bsky.feed.post"));
    tap->fn = stop_at_gate;
    tap->ctx = &gate;
    add_stream(g, tap, "out");
    struct mj_lane *lane =
        start(f, NULL, g, &(struct mj_lane_cfg){.script = "end.lua", .lag = MJ_LAG_WAIT});
    like(f);
    assert_int_equal(mj_router_flush(f->router, source, 100), 0);
    post_number(f, 0);
    post_number(f, 1);
    assert_int_equal(mj_router_flush(f->router, source, 200), 0);
    sem_wait(&gate.arrived);
    assert_false(mj_lane_gave_up(lane));
    pthread_create(&thread, NULL, open_late, (void *[]){&gate, lane});
    mj_lane_end(lane, 0);
    pthread_join(thread, NULL);
    assert_true(mj_lane_gave_up(lane));
    mj_lane_free(lane, 0);
    mj_router_hold(f->router);
    like(f);
    assert_int_equal(mj_router_flush(f->router, -1, 0), 0);
    assert_int_equal(cursor_on_disk(dir), 100);
    mj_router_free(f->router);
    mj_journal_close(j);
    mj_graph_free(g);
    f->router = in_memory;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_a_lane_makes_comes_back_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_slow_lane_may_skip, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lane_is_bounded_in_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_slow_lane_may_make_all_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reload_goes_on_where_the_old_lane_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lane_that_has_ended_may_be_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(a_script_may_move, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lane_shares_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lane_runs_tasks_when_they_are_due, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lane_that_does_not_end_is_ended, setup, teardown),
        cmocka_unit_test_setup_teardown(a_script_runs_in_a_lane, setup, teardown),
        cmocka_unit_test_setup_teardown(matches_in_a_lane_see_each_event, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cursor_is_never_ahead_of_a_lane, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_dropped_at_the_end_is_read_again, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
