/* Tasks: who runs when, what may wait, what is stopped. The clock stands still unless a test moves
 * it. */
#include "unit/task_clock.h"

#include "base/clock.h"

static void every_and_sleep(void **state)
{
    struct fixture *f = *state;
    int64_t ticks = 0;
    fixture_load(f, SEEN "jet.every('10s', function() seen:inc 'tick' jet.sleep '5s' "
                         "seen:inc 'slept' end)\n"
                         "jet.spawn(function(a, b) assert(a == 1 and b == nil) seen:inc 'now' end, "
                         "1, nil)\n");
    assert_true(wakes > 0);
    assert_int_equal(seen_by(1, "now"), 0);
    assert_true(mj_scripts_run(f->scripts, 1000) == 10000000);
    assert_int_equal(seen_by(1, "now"), 1);
    advance(f, 10000000);
    assert_int_equal(seen_by(1, "tick") - ticks, 1);
    assert_int_equal(seen_by(1, "slept"), 0);
    advance(f, 5000000);
    assert_int_equal(seen_by(1, "slept"), 1);
    /* So long after it has ended. */
    advance(f, 9000000);
    assert_int_equal(seen_by(1, "tick") - ticks, 1);
    advance(f, 1000000);
    assert_int_equal(seen_by(1, "tick") - ticks, 2);
}

static void wrong_places(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *source, *says;
    } declare[] = {
        {"jet.sleep '1s'", "jet.sleep waits; use :each or jet.spawn"},
        {"jet.sleep(1)", "wants a duration as text"},
        {"jet.every('1x', print)", "is no duration"},
        {"jet.every('1s')", "wants a function"},
        {"jet.every('0', print)", "1ms or more"},
        {"jet.spawn()", "wants a function"},
        {"jet.on_stop(1)", "wants a function"},
        {"coroutine.wrap(function() jet.sleep '1s' end)()", "jet.sleep waits"},
        {"coroutine.resume(1)", "wants a coroutine"},
        {"\ncoroutine.yield(1)", ".lua:2: coroutine.yield waits; use :each or jet.spawn"},
        {"coroutine.wrap(function() ('x'):gsub('.', coroutine.yield) end)()",
         "coroutine.yield cannot wait here: a function that C has called"},
    };
    for (size_t i = 0; i < MJ_COUNT(declare); i++)
        fixture_refuse(f, declare[i].source, declare[i].says);
    fixture_load(f,
                 SEEN "local function says(what, f, ...)\n"
                      "  local ok, why = pcall(f, ...)\n"
                      "  if not ok and why:find(what, 1, true) then seen:inc 'said' "
                      "  else print(what, why) end\n"
                      "end\n"
                      "jet.from '*':tap(function()\n"
                      "  says('waits', jet.sleep, '1s')\n"
                      "  says('top level', jet.every, '1s', print)\n"
                      "  says('top level', jet.on_stop, print)\n"
                      "  jet.spawn(function() seen:inc 'spawned' end)\n"
                      "  says('.lua:12: coroutine.yield waits; use :each or jet.spawn',\n"
                      "    function() coroutine.yield(1) end)\n"
                      "  says('coroutine.yield cannot wait here: a function that C has',\n"
                      "    coroutine.wrap(function()\n"
                      "      table.sort({1, 2}, function() coroutine.yield() end)\n"
                      "    end))\n"
                      "  assert(coroutine.wrap(function() return coroutine.yield(7) end)() == 7)\n"
                      "end)\n"
                      "jet.spawn(function()\n"
                      "  says('cannot wait here', function() ('x'):gsub('.', function() "
                      "jet.sleep '1s' end) end)\n"
                      "  says('cannot wait here', function() table.sort({1, 2}, function() "
                      "jet.sleep '1s' end) end)\n"
                      "  says('cannot wait here', function() ('x'):gsub('.', function() "
                      "coroutine.wrap(function() jet.sleep '1s' end)() end) end)\n"
                      "  says('top level', jet.from, '*')\n"
                      "  says('.lua:25: coroutine.yield outside of a coroutine; jet.sleep waits',\n"
                      "    function() coroutine.yield() end)\n"
                      "  says('coroutine.yield cannot wait here', function() ('x'):gsub('.', "
                      "function() coroutine.yield() end) end)\n"
                      "end)\n");
    unsigned script = f->files;
    fixture_post(f, "x");
    assert_int_equal(seen_by(script, "said"), 5);
    advance(f, 0);
    assert_int_equal(seen_by(script, "spawned"), 1);
    assert_int_equal(seen_by(script, "said"), 11);
}

/* What waits in a coroutine of the script's, however deep, waits as a whole. */
static void coroutines_inside(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, SEEN "local function deep(n)\n"
                         "  if n == 0 then jet.sleep '1s' return 'woken' end\n"
                         "  return coroutine.wrap(deep)(n - 1)\n"
                         "end\n"
                         "jet.spawn(function()\n"
                         "  assert(coroutine.running() == nil)\n"
                         "  local numbers = coroutine.wrap(function()\n"
                         "    assert(coroutine.running())\n"
                         "    for i = 1, 3 do jet.sleep '1s' coroutine.yield(i, nil) end\n"
                         "  end)\n"
                         "  for i = 1, 3 do\n"
                         "    local got, none = numbers()\n"
                         "    assert(got == i and none == nil)\n"
                         "    seen:inc 'number'\n"
                         "  end\n"
                         "  local empty = coroutine.create(function() coroutine.yield() end)\n"
                         "  assert(select('#', coroutine.resume(empty)) == 1)\n"
                         "  assert(coroutine.status(empty) == 'suspended')\n"
                         "  local ok, woken = pcall(deep, 20)\n"
                         "  assert(ok and woken == 'woken')\n"
                         "  seen:inc 'deep'\n"
                         "end)\n"
                         "jet.spawn(function() coroutine.yield() end)\n");
    unsigned script = f->files;
    advance(f, 0);
    assert_int_equal(seen_by(script, "number"), 0);
    advance(f, 1000000);
    assert_int_equal(seen_by(script, "number"), 1);
    advance(f, 2000000);
    assert_int_equal(seen_by(script, "number"), 3);
    advance(f, 1000000);
    assert_int_equal(seen_by(script, "deep"), 1);
}

/* Endless tasks share the thread with others, of their own script and of others. */
static void slices(void **state)
{
    struct fixture *f = *state;
    f->cfg.call_us = 0; /* the default: 50 ms, of which no slice needs more than two */
    fixture_load(f, SEEN
                 "local n = 0\n"
                 "local function burn() while true do n = n + 1 end end\n"
                 "jet.spawn(burn)\n"
                 "jet.spawn(function() coroutine.wrap(function() "
                 "coroutine.wrap(burn)() end)() end)\n"
                 "jet.spawn(function() while true do pcall(error, 'x') end end)\n"
                 "jet.spawn(function() for i = 1, 5 do jet.sleep '1ms' seen:inc 'beside' end end)\n"
                 "jet.spawn(function()\n"
                 "  local sum = 0\n"
                 "  for i = 1, 2e7 do sum = sum + i % 7 end\n"
                 "  assert(sum == 60000003) seen:inc 'right'\n"
                 "end)\n");
    unsigned script = f->files;
    int64_t stopped = counter("moonjet_script_stopped_total", "script=\"s1.lua\"");
    fixture_load(f, SEEN "jet.spawn(function() for i = 1, 5 do jet.sleep '1ms' "
                         "seen:inc 'other' end end)\n");
    unsigned other = f->files;
    int64_t worst = 0, started = mj_mono_us();
    while (seen_by(script, "beside") < 5 || seen_by(other, "other") < 5 ||
           !seen_by(script, "right")) {
        int64_t before = mj_mono_us();
        mj_scripts_run(f->scripts, 1000);
        int64_t took = mj_mono_us() - before;
        worst = took > worst ? took : worst;
        now_us += 1000;
        assert_true(mj_mono_us() - started < 60000000);
    }
    print_message("longest run of tasks: %lld us\n", (long long)worst);
    assert_int_equal(counter("moonjet_script_stopped_total", "script=\"s1.lua\""), stopped);
}

static void limits(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, SEEN "jet.spawn(function()\n"
                         "  local ok, why\n"
                         "  for i = 1, 20000 do\n"
                         "    ok, why = pcall(jet.spawn, jet.sleep, '1h')\n"
                         "    if not ok then break end\n"
                         "    seen:inc 'spawned'\n"
                         "  end\n"
                         "  assert(not ok and why:find('10000 tasks', 1, true), why)\n"
                         "end)\n"
                         "jet.spawn(error, 'on purpose')\n"
                         "jet.spawn(error)\n");
    unsigned script = f->files;
    advance(f, 0);
    assert_int_equal(seen_by(script, "spawned"), 9998 - 1 + 2);
    advance(f, INT64_C(3600000000));
}

static void stopping(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, SEEN "jet.on_stop(function() jet.sleep '1s' seen:inc 'stopped' end)\n"
                         "jet.on_stop(function() error 'oh' end)\n"
                         "jet.every('1s', function() seen:inc 'every' end)\n");
    unsigned script = f->files;
    advance(f, 2000000);
    assert_int_equal(seen_by(script, "every"), 2);
    assert_false(mj_scripts_stop(f->scripts, 5000000));
    advance(f, 900000);
    assert_false(mj_scripts_stop(f->scripts, 5000000));
    advance(f, 100000);
    assert_true(mj_scripts_stop(f->scripts, 5000000));
    assert_int_equal(seen_by(script, "stopped"), 1);
    assert_int_equal(seen_by(script, "every"), 2);
    advance(f, 10000000);
    assert_int_equal(seen_by(script, "every"), 2);
    /* What does not end has so much time. */
    fixture_load(f, "jet.on_stop(function() jet.sleep '1d' end)\n");
    assert_false(mj_scripts_stop(f->scripts, 5000000));
    advance(f, 4999999);
    assert_false(mj_scripts_stop(f->scripts, 5000000));
    advance(f, 1);
    assert_true(mj_scripts_stop(f->scripts, 5000000));
}

static void queues(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, SEEN "local q, small = jet.queue(), jet.queue(2)\n"
                         "jet.from '*':tap(function(ev)\n"
                         "  local ok, why = pcall(small.get, small)\n"
                         "  assert(not ok and why:find('queue:get waits', 1, true), why)\n"
                         "  if small:put(ev.text) then seen:inc 'put' else seen:inc 'full' end\n"
                         "  q:put(ev:keep())\n"
                         "end)\n"
                         "jet.spawn(function()\n"
                         "  for i = 1, 3 do assert(q:get().text == 'x') seen:inc 'got' end\n"
                         "  assert(q:get '1s' == nil)\n"
                         "  seen:inc 'timeout'\n"
                         "  assert(q:get '0' == nil)\n"
                         "  for i = 1, 100 do assert(q:get '1ms' == nil) end\n"
                         "  assert(q:get() == 'late') seen:inc 'late'\n"
                         "end)\n"
                         "jet.spawn(function()\n"
                         "  jet.sleep '5s'\n"
                         "  assert(small:count() == 2)\n"
                         "  assert(small:get() == 'x' and small:get() == 'x')\n"
                         "  for i = 1, 20 do jet.spawn(function()\n"
                         "    assert(small:put(i) == true) seen:inc 'in'\n"
                         "  end) end\n"
                         "  jet.sleep '1s'\n"
                         "  seen:inc 'waited'\n"
                         "  for i = 1, 20 do assert(small:get() == i) seen:inc 'out' end\n"
                         "  assert(small:count() == 0)\n"
                         "  assert(q:put 'late')\n"
                         "  assert(not pcall(q.put, q, nil) and not pcall(q.put, q))\n"
                         "  assert(not pcall(q.put, {}, 1) and not pcall(q.get, q, 5))\n"
                         "  seen:inc 'end'\n"
                         "end)\n");
    unsigned script = f->files;
    advance(f, 0);
    for (int i = 0; i < 3; i++)
        fixture_post(f, "x");
    assert_int_equal(seen_by(script, "put"), 2);
    assert_int_equal(seen_by(script, "full"), 1);
    assert_int_equal(seen_by(script, "got"), 0);
    advance(f, 0);
    assert_int_equal(seen_by(script, "got"), 3);
    advance(f, 1000000);
    assert_int_equal(seen_by(script, "timeout"), 1);
    advance(f, 4000000);
    assert_int_equal(seen_by(script, "in"), 2);
    advance(f, 1000000);
    assert_int_equal(seen_by(script, "in"), 20);
    assert_int_equal(seen_by(script, "out"), 20);
    assert_int_equal(seen_by(script, "late"), 1);
    assert_int_equal(seen_by(script, "end"), 1);
    fixture_refuse(f, "jet.queue(0)", "whole number");
    fixture_refuse(f, "jet.queue('x')", "whole number");
    fixture_refuse(f, "jet.queue().put(1)", "with a colon");
    fixture_load(f, "local q = jet.queue(1) assert(q:put(1) == true and q:put(2) == false)\n"
                    "assert(not pcall(q.get, q))");
}

/* Tasks that gave up while they waited to put have left their values; the queue stays bounded, and
 * in order. */
static void abandoned_puts(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, SEEN "local q, n = jet.queue(1), 0\n"
                         "jet.from '*':each(function(ev)\n"
                         "  if ev.text == 'put' then n = n + 1 q:put(n) return end\n"
                         "  for i = 1, q:count() do assert(q:get() == i) end\n"
                         "  assert(q:count() == 0) seen:inc 'orderly'\n"
                         "end, { workers = 1, queue = 20000, timeout = '1ms', "
                         "full = 'drop_new' })\n");
    for (int i = 0; i < 10100; i++)
        fixture_post(f, "put");
    advance(f, 20000000);
    fixture_post(f, "look");
    advance(f, 1000);
    assert_int_equal(seen_by(f->files, "orderly"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(abandoned_puts), T(every_and_sleep), T(wrong_places), T(coroutines_inside),
        T(slices),         T(limits),          T(stopping),     T(queues),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
