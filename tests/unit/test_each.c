/* flow:each and flow:batch. */
#include "unit/task_clock.h"

#include "script/scripts.h"

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

static int64_t node(unsigned script, const char *name, const char *family)
{
    char labels[128], full[128];
    snprintf(labels, sizeof labels, "script=\"s%u.lua\",node=\"%s\"", script, name);
    snprintf(full, sizeof full, "moonjet_node_%s", family);
    return counter(full, labels);
}

static void each(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, SEEN "jet.from '*':each(function(ev)\n"
                         "  local text, record = ev.text, ev.record\n"
                         "  seen:inc 'begun'\n"
                         "  jet.sleep '1s'\n"
                         "  assert(ev.text == text and record.text == text and ev:get 'text' == "
                         "text)\n"
                         "  if text == 'bad' then error 'on purpose' end\n"
                         "  if text == 'slow' then jet.sleep '1h' end\n"
                         "  seen:inc 'done'\n"
                         "end, { retry = { tries = 1 } }):to(jet.stream 'on')\n");
    int64_t errors = node(1, "each#1", "errors_total");
    for (int i = 0; i < 3; i++)
        fixture_post(f, "x");
    assert_true(wakes > 0);
    assert_int_equal(fixture_count(f, "on"), 3); /* the flow goes on beside it */
    assert_int_equal(node(1, "each#1", "events_in_total"), 3);
    assert_int_equal(node(1, "each#1", "queue"), 2);
    advance(f, 0);
    assert_int_equal(seen_by(1, "begun"), 1); /* one worker */
    advance(f, 1000000);
    assert_int_equal(seen_by(1, "done"), 1);
    assert_int_equal(seen_by(1, "begun"), 2);
    advance(f, 2000000);
    assert_int_equal(seen_by(1, "done"), 3);
    assert_int_equal(node(1, "each#1", "queue"), 0);
    fixture_post(f, "bad");
    fixture_post(f, "slow");
    fixture_post(f, "x");
    advance(f, 62000000);
    assert_int_equal(seen_by(1, "done"), 4);
    assert_int_equal(node(1, "each#1", "errors_total") - errors, 2);
    assert_true(node(1, "each#1", "nanoseconds_total") > 0);
}

static void workers_keep_accounts_in_order(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, SEEN "local busy, last, most, now = {}, {}, 0, 0\n"
                         "jet.from '*':each(function(ev)\n"
                         "  assert(not busy[ev.did], 'twice at once')\n"
                         "  busy[ev.did] = true\n"
                         "  now = now + 1 most = math.max(most, now)\n"
                         "  assert(ev.seq > (last[ev.did] or 0), 'order')\n"
                         "  last[ev.did] = ev.seq\n"
                         "  jet.sleep(ev.text)\n"
                         "  busy[ev.did] = nil\n"
                         "  now = now - 1\n"
                         "  seen:inc 'done'\n"
                         "  if most == 4 then seen:inc 'four' end\n"
                         "end, { workers = 4 })\n");
    int64_t done = seen_by(1, "done"), errors = node(1, "each#1", "errors_total");
    static const char *const naps[] = {"3s", "1s", "7s", "2s", "500ms"};
    for (unsigned i = 0; i < 200; i++) {
        char did[32];
        snprintf(did, sizeof did, "did:plc:%u", i * i % 7);
        post_as(f, did, naps[i % 5]);
    }
    advance(f, INT64_C(3600000000));
    assert_int_equal(node(1, "each#1", "errors_total") - errors, 0);
    assert_int_equal(seen_by(1, "done") - done, 200);
    assert_true(seen_by(1, "four") > 0);
}

static void full(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, SEEN "local function work(name) return function(ev)\n"
                         "  jet.sleep '1s' seen:inc(name .. ev.text)\n"
                         "end end\n"
                         "jet.main():each(work 'new', { queue = 2, full = 'drop_new' }):as 'new'\n"
                         "jet.from '*':each(work 'old', { queue = 2, full = 'drop_old' }):as "
                         "'old'\n");
    for (int i = 0; i < 6; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        fixture_post(f, text);
    }
    advance(f, 10000000);
    assert_int_equal(fixture_count(f, "main"), 6); /* a full queue is not main's business */
    static const char *const expected[] = {"new0", "new1", "new2", "old0", "old4", "old5"};
    for (size_t i = 0; i < MJ_COUNT(expected); i++)
        assert_int_equal(seen_by(1, expected[i]), 1);
    assert_int_equal(seen_by(1, "new3") + seen_by(1, "old3"), 0);
    assert_int_equal(node(1, "new", "events_dropped_total"), 3);
    assert_int_equal(node(1, "new", "queue_full_total"), 3);
    assert_int_equal(node(1, "old", "queue_full_total"), 3);
    assert_int_equal(node(1, "old", "events_dropped_total"), 3);
}

static void batches(void **state)
{
    struct fixture *f = *state;
    fixture_load(f,
                 SEEN "jet.from '*':batch { max = 3, every = '2s' }:each(function(list)\n"
                      "  seen:inc('n' .. #list)\n"
                      "  jet.sleep '1s'\n"
                      "  for i = 2, #list do assert(list[i].seq > list[i - 1].seq) end\n"
                      "  seen:inc('text', 0) for _, ev in ipairs(list) do seen:inc(ev.text) end\n"
                      "end)\n");
    int64_t errors = node(1, "each#1", "errors_total");
    for (int i = 0; i < 7; i++)
        fixture_post(f, "b");
    advance(f, 0);
    assert_int_equal(seen_by(1, "n3"), 1);
    advance(f, 1000000);
    assert_int_equal(seen_by(1, "n3"), 2);
    assert_int_equal(seen_by(1, "b"), 3);
    advance(f, 999999);
    assert_int_equal(seen_by(1, "n1"), 0);
    advance(f, 1);
    assert_int_equal(seen_by(1, "n1"), 1);
    advance(f, 1000000);
    assert_int_equal(seen_by(1, "b"), 7);
    assert_int_equal(node(1, "each#1", "errors_total"), errors);
    assert_int_equal(node(1, "batch#1", "events_out_total"), 7);
    /* By bytes: a record of 300 bytes and what belongs to it. */
    fixture_load(f, SEEN "jet.from '*':batch { bytes = 2000, every = '1h' }:each(function(list)\n"
                         "  seen:inc 'lists' seen:inc('events', #list)\n"
                         "end)\n");
    char text[301] = {0};
    memset(text, 'x', 300);
    for (int i = 0; i < 20; i++)
        fixture_post(f, text);
    advance(f, 0);
    assert_in_range(seen_by(2, "lists"), 4, 12);
    assert_in_range(seen_by(2, "events"), 15, 20);
}

static void stopping(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, SEEN "jet.from '*':batch { every = '1h' }:each(function(list)\n"
                         "  seen:inc('list', #list) jet.sleep '1s' seen:inc 'last'\n"
                         "end)\n"
                         "jet.from '*':each(function() jet.sleep '2s' seen:inc 'each' end)\n");
    int64_t dropped = node(1, "each#2", "events_dropped_total");
    for (int i = 0; i < 5; i++)
        fixture_post(f, "x");
    assert_false(mj_scripts_stop(f->scripts, 5000000));
    fixture_post(f, "too late");
    advance(f, 4999999);
    assert_false(mj_scripts_stop(f->scripts, 5000000));
    advance(f, 1);
    assert_true(mj_scripts_stop(f->scripts, 5000000));
    assert_int_equal(seen_by(1, "list"), 5);
    assert_int_equal(seen_by(1, "last"), 1);
    assert_int_equal(seen_by(1, "each"), 2);
    assert_int_equal(node(1, "each#2", "events_dropped_total") - dropped, 1);
    mj_router_free(f->router);
    f->router = NULL;
    mj_scripts_free(f->scripts);
    f->scripts = NULL;
    assert_int_equal(node(1, "each#2", "events_dropped_total") - dropped, 4);
}

/* What is cut short comes again, under the same id, before what comes behind it from the account.
 */
static void retries(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, SEEN "local first\n"
                         "jet.from '*':each(function(ev)\n"
                         "  seen:inc(ev.text)\n"
                         "  first = first or ev.id\n"
                         "  assert(#ev.id == 36 and ev.id:find '^evt_%x+$')\n"
                         "  if ev.text == 'again' then assert(ev.id == first) seen:inc 'same' end\n"
                         "  if ev.text == 'again' then jet.retry('later', '10s') end\n"
                         "  if ev.text == 'caught' then\n"
                         "    local ok, e = pcall(jet.retry, 'why')\n"
                         "    assert(not ok and tostring(e) == 'why') error(e)\n"
                         "  end\n"
                         "  if ev.text == 'error' then error 'on purpose' end\n"
                         "  if ev.text == 'slow' then jet.sleep '2m' end\n"
                         "end, { retry = { tries = 3, errors = false } })\n");
    int64_t errors = node(1, "each#1", "errors_total");
    fixture_post(f, "again");
    fixture_post(f, "behind");
    post_as(f, "did:plc:other", "beside");
    advance(f, 0);
    assert_int_equal(seen_by(1, "again"), 1);
    assert_int_equal(seen_by(1, "beside"), 1); /* the worker is free meanwhile */
    advance(f, 9999999);
    assert_int_equal(seen_by(1, "again"), 1);
    advance(f, 10000001);
    assert_int_equal(seen_by(1, "again"), 3);
    assert_int_equal(seen_by(1, "same"), 3);
    assert_int_equal(seen_by(1, "behind"), 1);
    assert_int_equal(node(1, "each#1", "errors_total") - errors, 0);
    fixture_post(f, "caught");
    advance(f, 3000000);
    assert_int_equal(seen_by(1, "caught"), 3);
    fixture_post(f, "error");
    fixture_post(f, "slow");
    advance(f, 600000000);
    assert_int_equal(seen_by(1, "error"), 1);
    assert_int_equal(seen_by(1, "slow"), 3);
    assert_int_equal(node(1, "each#1", "errors_total") - errors, 4);
    assert_int_equal(node(1, "each#1", "queue"), 0);
    /* Errors, too, when it is said how often; and what drops tries nothing again. */
    fixture_load(f, SEEN
                 "local function work(name) return function(ev)\n"
                 "  seen:inc(name) error 'on purpose'\n"
                 "end end\n"
                 "jet.from '*':each(work 'each-again', { retry = { tries = 4 } })\n"
                 "jet.from '*':each(work 'drops', { retry = { tries = 4 }, full = 'drop_new' "
                 "})\n"
                 "jet.from '*':batch { max = 2 }:each(work 'list-again', { retry = { tries = 4 } "
                 "})\n"
                 "jet.from '*':each(work 'bound', { retry = { tries = 0, [\"for\"] = '3s', "
                 "errors = true } })\n");
    fixture_post(f, "x");
    fixture_post(f, "x");
    advance(f, 600000000);
    assert_int_equal(seen_by(2, "each-again"), 8);
    assert_int_equal(seen_by(2, "drops"), 2);
    assert_int_equal(seen_by(2, "list-again"), 4);
    assert_int_equal(seen_by(2, "bound"), 6);
}

/* One after the other: an account's events, all, or none. */
static void orders(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, SEEN "for _, order in ipairs { 'did', 'total', 'none' } do\n"
                         "  local now, most = 0, 0\n"
                         "  jet.from '*':each(function(ev)\n"
                         "    now = now + 1 most = math.max(most, now)\n"
                         "    jet.sleep '1s' now = now - 1\n"
                         "    seen:inc(order .. most)\n"
                         "  end, { order = order, workers = order == 'total' and 1 or 4 })\n"
                         "end\n");
    for (int i = 0; i < 4; i++)
        post_as(f, i < 2 ? "did:plc:a" : "did:plc:b", "x");
    advance(f, 10000000);
    assert_int_equal(seen_by(1, "did2"), 4);
    assert_int_equal(seen_by(1, "total1"), 4);
    assert_int_equal(seen_by(1, "none4"), 4);
}

static void refused(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *source, *says;
    } cases[] = {
        {"jet.from '*':each()", "each wants a function"},
        {"jet.from '*':each(print, { worker = 1 })", "did you mean 'workers'"},
        {"jet.from '*':each(print, { workers = 0 })", "whole number"},
        {"jet.from '*':each(print, { queue = 1e9 })", "whole number"},
        {"jet.from '*':each(print, { full = 'drop' })", "drop_new"},
        {"jet.from '*':each(print, { timeout = 5 })", "duration"},
        {"jet.from '*':each(print, { timeout = '0' })", "1ms or more"},
        {"jet.from '*':batch { max = 0 }", "whole number"},
        {"jet.from '*':batch { every = '0' }", "1ms or more"},
        {"jet.from '*':batch { maxx = 1 }", "did you mean 'max'"},
        {"jet.from '*':batch():batch()", "lists of lists"},
        {"jet.from '*':batch():where(print)", "behind batch there are lists"},
        {"jet.from '*':each(print, { order = 'rkey' })", "\"did\", \"total\" or \"none\""},
        {"jet.from '*':each(print, { order = 'total', workers = 2 })", "whole number"},
        {"jet.from '*':each(print, { retry = 3 })", "table"},
        {"jet.from '*':each(print, { retry = { trys = 3 } })", "did you mean 'tries'"},
        {"jet.from '*':each(print, { retry = { tries = -1 } })", "whole number"},
        {"jet.from '*':each(print, { retry = { errors = 1 } })", "true or false"},
        {"jet.from '*':each(print, { retry = { min = '2s', max = '1s' } })", "not less than 'min'"},
        {"jet.from '*':each(print, { retry = { min = '0' } })", "1ms or more"},
        {"jet.from '*':batch { max = 500 }:each(print, { queue = 100 })", "whole number"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++)
        fixture_refuse(f, cases[i].source, cases[i].says);
}

/* As many events as come, in little memory: the queue's bound holds, and nothing piles up. */
static void flood(void **state)
{
    struct fixture *f = *state;
    f->cfg.memory = 4 << 20;
    fixture_load(f, SEEN "jet.from '*':each(function(ev) seen:inc(ev.text) jet.sleep '1ms' end, "
                         "{ workers = 8, queue = 100000, full = 'drop_old' })\n");
    int64_t errors = node(1, "each#1", "errors_total");
    for (int i = 0; i < 20000; i++) {
        char did[32];
        snprintf(did, sizeof did, "did:plc:%d", i % 1000);
        post_as(f, did, "flood");
        if (i % 16 == 0) {
            mj_scripts_run(f->scripts, 1000);
            now_us += 1000;
        }
    }
    advance(f, 60000000);
    assert_int_equal(node(1, "each#1", "errors_total") - errors, 0);
    assert_int_equal(seen_by(1, "flood"), 20000);
}

/* What waits for a quarantined script is worked on afterwards, without another event. */
static void quarantined(void **state)
{
    struct fixture *f = *state;
    f->cfg.call_us = 30000;
    fixture_load(f, SEEN "jet.from '*':each(function(ev)\n"
                         "  if ev.text == 'loop' then ('x'):gsub('.', function()\n"
                         "    while true do end end) end\n"
                         "  seen:inc(ev.text)\n"
                         "end)\n");
    for (int i = 0; i < 3; i++)
        fixture_post(f, "loop");
    for (int i = 0; i < 5; i++)
        fixture_post(f, "after");
    struct mj_script_state script;
    do {
        advance(f, 1);
        mj_scripts_state(f->scripts, 0, &script);
    } while (strcmp(script.state, "quarantined") != 0);
    assert_int_equal(node(1, "each#1", "queue"), 5);
    advance(f, 120000000); /* nobody's time runs out: only the scripts' clock moves */
    assert_int_equal(node(1, "each#1", "queue"), 5);
    assert_int_equal(seen_by(1, "after"), 0);
    mj_life_quarantine(&f->scripts->scripts[0]->life, 1, -MJ_LIFE_FIRST_US);
    advance(f, 1);
    assert_int_equal(seen_by(1, "after"), 5);
}

/* No event pays for memory that is not there once the script is quarantined for it. */
static void out_of_memory(void **state)
{
    struct fixture *f = *state;
    f->cfg.memory = 4 << 20;
    fixture_load(f, SEEN "local all = {}\n"
                         "jet.from '*':each(function(ev)\n"
                         "  seen:inc 'hungry'\n"
                         "  while collectgarbage 'count' < 3800 do\n"
                         "    all = { all }\n"
                         "  end\n"
                         "  jet.sleep '1s'\n"
                         "end)\n");
    for (int i = 0; i < 100; i++)
        fixture_post(f, "x");
    advance(f, 5000000);
    assert_int_equal(seen_by(1, "hungry"), 1);
    assert_int_equal(node(1, "each#1", "queue"), 98); /* one is being tried again */
}

/* Who found no room for a task begins when there is some. */
static void room_again(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, SEEN "jet.from '*':where(function(ev)\n"
                         "  if ev.text ~= 'fill' then return true end\n"
                         "  while pcall(jet.spawn, jet.sleep, '1s') do end\n"
                         "end):each(function(ev) seen:inc(ev.text) end)\n");
    fixture_post(f, "fill");
    fixture_post(f, "room");
    assert_int_equal(node(1, "each#1", "queue"), 1);
    advance(f, 2000000);
    assert_int_equal(seen_by(1, "room"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(each),          T(workers_keep_accounts_in_order),
        T(full),          T(batches),
        T(retries),       T(orders),
        T(stopping),      T(refused),
        T(flood),         T(quarantined),
        T(out_of_memory), T(room_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
