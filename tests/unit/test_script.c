/* Scripts end to end: Lua source and events in, entries of the tail out. */
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

static void without_scripts_main_is_everything(void **state)
{
    struct fixture *f = *state;
    fixture_post(f, "hello");
    assert_holds(fixture_take(f, "main"), "\"text\":\"hello\"");
}

static void from_where_map_to(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "local jet = require 'moonjet'\n"
                    "jet.from 'app.bsky.feed.post:create'\n"
                    "  :where(function(ev) return ev.text:find('moon', 1, true) end)\n"
                    "  :map(function(d) d.record.text = d.text:upper() return d end)\n"
                    "  :to(jet.stream 'moon')\n");
    fixture_post(f, "the sun");
    fixture_post(f, "the moon");
    assert_int_equal(fixture_count(f, "main"), 2);
    assert_int_equal(fixture_count(f, "moon"), 1);
    const char *out = fixture_take(f, "moon");
    assert_holds(out, "\"text\":\"THE MOON\"");
    assert_lacks(out, "\"cid\"");
    out = fixture_take(f, "main");
    assert_holds(out, "\"text\":\"the moon\"");
    assert_lacks(out, "THE MOON");
}

static void streams_share_an_unedited_event(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.from '*':to(jet.stream 'a', jet.stream 'b')\n");
    uint64_t before = f->view.end;
    fixture_post(f, "once");
    assert_int_equal(fixture_count(f, "a"), 1);
    assert_int_equal(fixture_count(f, "b"), 1);
    assert_int_equal(fixture_count(f, "main"), 1);
    assert_int_equal(f->view.end - before, 1);
}

static void main_is_one_line_through_all_scripts(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.main():where(function(ev) return ev.text ~= 'drop' end)\n"
                    "jet.main():map(function(d) d.record.text = d.text .. ' one' return d end)\n");
    fixture_load(f, "jet.main():map(function(d) d.record.text = d.text .. ' two' return d end)\n"
                    "  :to(jet.stream 'copy')\n"
                    "jet.from '*':to(jet.stream 'raw')\n");
    fixture_post(f, "drop");
    fixture_post(f, "keep");
    assert_int_equal(fixture_count(f, "main"), 1);
    assert_holds(fixture_take(f, "main"), "\"text\":\"keep one two\"");
    assert_holds(fixture_take(f, "copy"), "\"text\":\"keep one two\"");
    assert_int_equal(fixture_count(f, "raw"), 2);
    assert_lacks(fixture_take(f, "raw"), "one");
}

static void an_error_costs_one_event_in_one_flow(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "jet.from '*':where(function(ev)\n"
                    "  if ev.text == 'bad' then error('no') end\n"
                    "  return true\n"
                    "end):as 'picky':to(jet.stream 'picky')\n"
                    "jet.from '*':to(jet.stream 'calm')\n");
    fixture_post(f, "bad");
    fixture_post(f, "good");
    assert_int_equal(fixture_count(f, "main"), 2);
    assert_int_equal(fixture_count(f, "calm"), 2);
    assert_int_equal(fixture_count(f, "picky"), 1);
    assert_int_equal(mj_metric_get(mj_metric("moonjet_node_errors_total", MJ_COUNTER, "",
                                             "script=\"s1.lua\",node=\"picky\"")),
                     1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_scripts_main_is_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(from_where_map_to, setup, teardown),
        cmocka_unit_test_setup_teardown(streams_share_an_unedited_event, setup, teardown),
        cmocka_unit_test_setup_teardown(main_is_one_line_through_all_scripts, setup, teardown),
        cmocka_unit_test_setup_teardown(an_error_costs_one_event_in_one_flow, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
