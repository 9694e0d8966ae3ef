/* Scripts that run too long or take too much, in a router beside others that do not. */
#include <unistd.h>

#include "script/scripts.h"
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

static struct mj_script_state state_of(struct fixture *f, size_t i)
{
    struct mj_script_state st;
    mj_scripts_state(f->scripts, i, &st);
    return st;
}

static int64_t metric(const char *name, const char *script)
{
    return mj_metric_get(mj_metric(name, MJ_GAUGE, "", "script=\"%s\"", script));
}

/* A script whose stream "bad" gets what it lets through, and which loops on "loop"; and another. */
static void load_both(struct fixture *f, const char *main)
{
    f->cfg.call_us = 20000;
    fixture_load(f, "jet.from '*':where(function(ev)\n"
                    "  if ev.text == 'loop' then while true do end end\n"
                    "  if ev.text == 'oops' then error 'no' end\n"
                    "  return true\nend):to(jet.stream 'bad')\n");
    f->cfg.call_us = 20000000;
    f->cfg.on_error = MJ_ON_ERROR_DEFAULT;
    fixture_load(f, main);
}

static void errors_are_no_strikes(void **state)
{
    struct fixture *f = *state;
    load_both(f, "jet.from '*':tap(function() end):to(jet.stream 'good')");
    for (int i = 0; i < 20; i++)
        fixture_post(f, "oops");
    assert_string_equal(state_of(f, 0).state, "running");
    assert_int_equal(fixture_count(f, "good"), 20);
    assert_int_equal(fixture_count(f, "bad"), 0);
}

static void three_loops_quarantine_and_time_heals(void **state)
{
    struct fixture *f = *state;
    int64_t strikes = metric("moonjet_script_strikes_total", "s1.lua"),
            quarantines = metric("moonjet_script_quarantines_total", "s1.lua");
    load_both(f, "jet.from '*':tap(function() end):to(jet.stream 'good')");
    fixture_post(f, "loop");
    assert_string_equal(state_of(f, 0).state, "degraded");
    assert_int_equal(state_of(f, 0).strikes, 1);
    fixture_post(f, "fine");
    fixture_post(f, "loop");
    fixture_post(f, "loop");
    assert_string_equal(state_of(f, 0).state, "quarantined");
    assert_true(state_of(f, 0).left_us > 0);
    assert_int_equal(metric("moonjet_script_state", "s1.lua"), 2);
    assert_int_equal(metric("moonjet_script_strikes_total", "s1.lua") - strikes, 3);
    assert_int_equal(metric("moonjet_script_quarantines_total", "s1.lua") - quarantines, 1);
    fixture_post(f, "fine");
    fixture_post(f, "loop");
    assert_int_equal(fixture_count(f, "bad"), 1); /* the one before the quarantine */
    assert_int_equal(fixture_count(f, "good"), 6);
    assert_int_equal(fixture_count(f, "main"), 6);
    assert_string_equal(state_of(f, 1).state, "running");

    int64_t due = f->scripts->scripts[0]->life.until;
    assert_int_equal(mj__lives_tick(f->scripts, due - 1), due);
    fixture_post(f, "fine");
    assert_int_equal(fixture_count(f, "bad"), 1);
    mj__lives_tick(f->scripts, due);
    assert_string_equal(state_of(f, 0).state, "degraded");
    fixture_post(f, "fine");
    assert_int_equal(fixture_count(f, "bad"), 2);
    /* One more strike is enough now, and the pause is twice as long. */
    fixture_post(f, "loop");
    assert_string_equal(state_of(f, 0).state, "quarantined");
    assert_true(state_of(f, 0).left_us > 1000000);
    assert_int_equal(metric("moonjet_script_quarantines_total", "s1.lua") - quarantines, 2);
}

static void memory_is_a_strike(void **state)
{
    struct fixture *f = *state;
    f->cfg.memory = 4 << 20;
    fixture_load(f, "jet.from '*':where(function(ev)\n"
                    "  local t = {} for i = 1, 1e8 do t[i] = { i } end\n"
                    "end):to(jet.stream 'bad')\n");
    for (int i = 0; i < 3; i++)
        fixture_post(f, "x");
    assert_string_equal(state_of(f, 0).state, "quarantined");
    assert_int_equal(fixture_count(f, "main"), 3);
}

static const char *const looping_main = "jet.main():where(function(ev)\n"
                                        "  if ev.text == 'loop' then while true do end end\n"
                                        "  if ev.text == 'oops' then error 'no' end\n"
                                        "  return ev.text ~= 'hide'\nend):map(function(d)\n"
                                        "  d.record.text = d.text .. '!'\n  if d.text == 'late!' "
                                        "then error 'no' end\n  return d\nend)\n";

/* What of main arrives while the script is quarantined. */
static size_t main_after_loops(struct fixture *f, enum mj_on_error on_error)
{
    f->cfg.call_us = 20000;
    f->cfg.on_error = on_error;
    fixture_load(f, looping_main);
    for (int i = 0; i < 3; i++)
        fixture_post(f, "loop");
    assert_string_equal(state_of(f, 0).state, "quarantined");
    fixture_skip(f);
    fixture_post(f, "hide");
    fixture_post(f, "show");
    return fixture_count(f, "main");
}

static void main_passes_in_quarantine(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(main_after_loops(f, MJ_ON_ERROR_DEFAULT), 2);
    assert_null(strstr(fixture_take(f, "main"), "show!"));
}

static void main_drops_in_quarantine_when_asked(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(main_after_loops(f, MJ_ON_ERROR_DROP), 0);
}

static void errors_drop_or_pass_the_event(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, looping_main);
    fixture_post(f, "oops");
    fixture_post(f, "late");
    assert_int_equal(fixture_count(f, "main"), 0);
    fixture_close(f);
    fixture_open(f);
    f->cfg.on_error = MJ_ON_ERROR_PASS;
    struct mj_metric *errors =
        mj_metric("moonjet_node_errors_total", MJ_COUNTER, "", "script=\"s1.lua\",node=\"map#1\"");
    int64_t before = mj_metric_get(errors);
    fixture_load(f, looping_main);
    fixture_post(f, "oops");
    fixture_post(f, "late");
    const char *out = fixture_take(f, "main");
    assert_non_null(strstr(out, "\"text\":\"oops!\""));
    assert_non_null(strstr(out, "\"text\":\"late\"")); /* unedited */
    assert_int_equal(mj_metric_get(errors) - before, 1);
}

/* Nothing raises inside a C function. What ends there has held everybody up all the same. */
#define SLOW_IN_C "local function slow() return table.insert({}, -1e7, 1) end\n"

static void long_in_c_is_a_strike(void **state)
{
    if (!MOONJET_LUAJIT_CHECKHOOK) /* and then no signal looks at the clock */
        skip();
    struct fixture *f = *state;
    f->cfg.call_us = 10000;
    fixture_load(f, SLOW_IN_C "jet.from '*':where(slow)"
                              ":to(jet.stream 'bad')");
    for (int i = 0; i < 4; i++)
        fixture_post(f, "x");
    assert_string_equal(state_of(f, 0).state, "quarantined");
    assert_int_equal(state_of(f, 0).strikes, 3);
    assert_int_equal(fixture_count(f, "bad"), 0);
    assert_int_equal(fixture_count(f, "main"), 4);
}

/* A task is not ended for it, but a script that does it again and again is set aside. */
static void long_in_c_is_a_strike_in_a_task(void **state)
{
    if (!MOONJET_LUAJIT_CHECKHOOK)
        skip();
    struct fixture *f = *state;
    f->cfg.call_us = 10000;
    fixture_load(f, SLOW_IN_C "jet.spawn(function() for i = 1, 4 do slow() end end)");
    for (int i = 0; i < 1000 && strcmp(state_of(f, 0).state, "quarantined") != 0; i++)
        mj_scripts_run(f->scripts, 1000);
    assert_string_equal(state_of(f, 0).state, "quarantined");
    assert_int_equal(state_of(f, 0).strikes, 3);
}

/* The strike is told with script, line, node, event and what follows. */
static void strikes_are_told(void **state)
{
    struct fixture *f = *state;
    int fds[2], saved = dup(2);
    assert_int_equal(pipe(fds), 0);
    load_both(f, "");
    fflush(stderr);
    dup2(fds[1], 2);
    for (int i = 0; i < 3; i++)
        fixture_post(f, "loop");
    dup2(saved, 2);
    close(saved);
    close(fds[1]);
    char text[8192];
    ssize_t n = read(fds[0], text, sizeof text - 1);
    close(fds[0]);
    assert_true(n > 0);
    text[n] = 0;
    assert_non_null(strstr(text, "error script: s1.lua:2 where#1: stopped after 20 ms; "
                                 "at://" FIXTURE_DID "/app.bsky.feed.post/3kgmi5fzxhc2l "
                                 "(1 strike)\n"));
    assert_non_null(strstr(text, "(3 strikes, quarantined 1s)\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(errors_are_no_strikes, setup, teardown),
        cmocka_unit_test_setup_teardown(three_loops_quarantine_and_time_heals, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_is_a_strike, setup, teardown),
        cmocka_unit_test_setup_teardown(main_passes_in_quarantine, setup, teardown),
        cmocka_unit_test_setup_teardown(main_drops_in_quarantine_when_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(errors_drop_or_pass_the_event, setup, teardown),
        cmocka_unit_test_setup_teardown(long_in_c_is_a_strike, setup, teardown),
        cmocka_unit_test_setup_teardown(long_in_c_is_a_strike_in_a_task, setup, teardown),
        cmocka_unit_test_setup_teardown(strikes_are_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
