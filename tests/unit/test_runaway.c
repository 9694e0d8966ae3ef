/* What never ends and what eats memory, in functions that look at events and in tasks: it costs its
 * own script, and nobody else. */
#include "unit/script_fixture.h"

#include "base/clock.h"

#define WAIT_US INT64_C(60000000)

static int64_t counter(const char *family, const char *labels)
{
    return mj_metric_get(mj_metric(family, MJ_COUNTER, "", "%s", labels));
}

#define SEEN "local seen = jet.counter('runaway', { 'what' })\n"

static int64_t seen(const char *script, const char *what)
{
    char labels[128];
    snprintf(labels, sizeof labels, "script=\"%s\",what=\"%s\"", script, what);
    return counter("moonjet_script_runaway", labels);
}

/* The eleven. Those below a function in C cannot yield and are stopped; the others go on in slices
 * for as long as they like. */
static const char *const runaways[] = {
    "while true do end",
    "for i = 1, 1e15 do end",
    "while true do pcall(error, 'x') end",
    "while true do pcall(function() while true do end end) end",
    "coroutine.wrap(function() while true do end end)()",
    "local co = coroutine.wrap(function() while true do coroutine.yield() end end) "
    "while true do co() end",
    "local t = setmetatable({}, { __index = function() while true do end end }) return t.x",
    "while true do local s = '' for i = 1, 100 do s = s .. i end end",
    "(('x'):rep(100)):gsub('.', function() while true do end end)",
    "table.sort({ 3, 2, 1 }, function() while true do end end)",
    "return (('a'):rep(5000)):find(('.-'):rep(20) .. 'b')",
};

/* The seven. */
static const char *const bombs[] = {
    "local t = {} for i = 1, 1e9 do t[i] = {} end",
    "local s = 'x' while true do s = s .. s end",
    "return ('x'):rep(1e9)",
    "local t = {} for i = 1, 1e6 do t[i] = ('x'):rep(1e5) .. i end return table.concat(t)",
    "local t = {} for i = 1, 1e9 do t[i] = function() return t end end",
    "local function f() return 1 + f() end f()",
    "local function f() return coroutine.wrap(f)() end f()",
};

static void load_both(struct fixture *f, const char *body)
{
    MJ_AUTO_BUF source = {0};
    mj_buf_printf(&source,
                  SEEN "local function go(ev) %s end\n"
                       "jet.from '*':where(function(ev)\n"
                       "  if ev.text == 'sync' then go(ev) end\n"
                       "  return true\n"
                       "end):to(jet.stream 'same')\n"
                       "jet.from '*':each(function(ev)\n"
                       "  if ev.text == 'task' then seen:inc 'begun' go(ev) end\n"
                       "  seen:inc(ev.text)\n"
                       "end, { workers = 2 })\n",
                  body);
    f->cfg.call_us = 30000;
    f->cfg.memory = 4 << 20;
    fixture_load(f, mj_buf_cstr(&source));
    f->cfg.call_us = 20000000;
    f->cfg.memory = 0;
    fixture_load(f, SEEN "jet.every('1ms', function() seen:inc 'tick' end)\n"
                         "jet.from '*':where(function() return true end):to(jet.stream 'calm')\n"
                         "jet.from '*':each(function() seen:inc 'calm' end)\n");
}

static void post_as(struct fixture *f, const char *did, const char *text)
{
    f->record.len = 0;
    mj_cbor_put_map(&f->record, 2);
    put_text(&f->record, "text");
    put_text(&f->record, text);
    put_text(&f->record, "$type");
    put_text(&f->record, "app.bsky.feed.post");
    struct mj_event ev =
        fixture_commit(f, "app.bsky.feed.post", MJ_OP_CREATE, mj_buf_span(&f->record));
    ev.did = mj_str(did);
    assert_int_equal(mj_router_event(f->router, &ev), 0);
}

static int64_t longest;

static void run_tasks(struct fixture *f)
{
    int64_t before = mj_mono_us();
    mj_scripts_run(f->scripts, 1000);
    int64_t took = mj_mono_us() - before;
    longest = took > longest ? took : longest;
}

/* One bad function: first while it looks at an event, then in a task. */
static void costs_its_own_script(const char *body, bool bomb)
{
    struct fixture fixture, *f = &fixture;
    fixture_open(f);
    load_both(f, body);
    int64_t begun = seen("s1.lua", "begun"), fine = seen("s1.lua", "fine");
    int64_t tick = seen("s2.lua", "tick"), calm = seen("s2.lua", "calm");
    int64_t bad = counter("moonjet_node_errors_total", "script=\"s1.lua\",node=\"each#1\"");
    post_as(f, "did:plc:a", "sync");
    post_as(f, "did:plc:a", "fine");
    if (fixture_count(f, "same") != 1 || fixture_count(f, "calm") != 2 ||
        fixture_count(f, "main") != 2)
        fail_msg("in a where: %s", body);
    post_as(f, "did:plc:b", "task");
    post_as(f, "did:plc:c", "fine");
    /* A runaway has begun and still runs, or was stopped; everybody else's tasks go on, its own
     * script's too. A bomb ends, and may have taken its script's memory until then. */
    int64_t give_up = mj_mono_us() + WAIT_US;
    while (seen("s1.lua", "begun") == begun ||
           (bomb ? counter("moonjet_node_errors_total", "script=\"s1.lua\",node=\"each#1\"") == bad
                 : seen("s1.lua", "fine") < fine + 2) ||
           seen("s2.lua", "tick") < tick + 5 || seen("s2.lua", "calm") < calm + 4) {
        run_tasks(f);
        if (mj_mono_us() > give_up)
            fail_msg("in a task: %s", body);
    }
    fine = seen("s1.lua", "fine");
    post_as(f, "did:plc:d", "fine");
    while (seen("s1.lua", "fine") == fine) {
        run_tasks(f);
        if (mj_mono_us() > give_up)
            fail_msg("in a later task: %s", body);
    }
    /* So do its own functions. */
    fixture_skip(f);
    post_as(f, "did:plc:c", "fine");
    if (fixture_count(f, "same") != 1 || fixture_count(f, "calm") != 1)
        fail_msg("after the task: %s", body);
    fixture_close(f);
}

static void runaways_cost_their_own_script(void **state)
{
    (void)state;
    longest = 0;
    for (size_t i = 0; i < MJ_COUNT(runaways); i++)
        costs_its_own_script(runaways[i], false);
    print_message("longest turn of tasks: %lld us\n", (long long)longest);
}

static void bombs_cost_their_own_script(void **state)
{
    (void)state;
    longest = 0;
    for (size_t i = 0; i < MJ_COUNT(bombs); i++)
        costs_its_own_script(bombs[i], true);
    print_message("longest turn of tasks: %lld us\n", (long long)longest);
}

/* What cannot yield is stopped; what can is not, however long it takes. */
static void stopped_or_sliced(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        bool stopped;
    } cases[] = {
        {"('x'):gsub('.', function() while true do end end)", true},
        {"pcall(string.gsub, 'x', '.', function() while true do end end) seen:inc 'caught'", true},
        {"while true do end", false},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        struct fixture fixture, *f = &fixture;
        fixture_open(f);
        MJ_AUTO_BUF source = {0};
        mj_buf_printf(&source, SEEN "jet.spawn(function() %s seen:inc 'end' end)", cases[i].body);
        f->cfg.call_us = 20000;
        int64_t before = counter("moonjet_script_stopped_total", "script=\"s1.lua\"");
        fixture_load(f, mj_buf_cstr(&source));
        int64_t give_up = mj_mono_us() + (cases[i].stopped ? WAIT_US : 300000);
        while (counter("moonjet_script_stopped_total", "script=\"s1.lua\"") == before &&
               mj_mono_us() < give_up)
            run_tasks(f);
        assert_int_equal(counter("moonjet_script_stopped_total", "script=\"s1.lua\"") - before,
                         cases[i].stopped);
        assert_int_equal(seen("s1.lua", "end"), 0);
        fixture_close(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runaways_cost_their_own_script),
        cmocka_unit_test(bombs_cost_their_own_script),
        cmocka_unit_test(stopped_or_sliced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
