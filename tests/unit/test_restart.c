/* Notes of restarts: what is read of them, and what they mean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../core/cli/run_restart.c"

#define S   INT64_C(1000000)
#define NOW (1000000 * S)

static struct run_notes notes;

static void parse(const char *text)
{
    memset(&notes, 0, sizeof notes);
    run_notes_parse(&notes, mj_str(text), NOW);
}

static void notes_are_lines(void **state)
{
    (void)state;
    parse("999999000000\twhere#1\ta/b.lua\n999999500000\tmap#1\tc\td.lua\n"
          "cursor\t77\twss://relay\ncursor\t-1\tx\ncursor\tz\tx\ncursor\t5\t\n"
          "\n\t\t\nnonsense\n12\twhere#1\told.lua\n1000000000001\tx\tfuture.lua\n"
          "999999000000\twhere#1\ta/b.lua"); /* the same again */
    assert_int_equal(notes.count, 2);
    assert_string_equal(notes.notes[0].what, "where#1");
    assert_string_equal(notes.notes[0].path, "a/b.lua");
    assert_string_equal(notes.notes[1].path, "c\td.lua");
    assert_int_equal(notes.cursor_count, 1);
    assert_int_equal(notes.cursors[0].seq, 77);
    assert_string_equal(notes.cursors[0].url, "wss://relay");
}

static unsigned count(const char *text, bool *out, bool *loading)
{
    parse(text);
    return run_notes_count(&notes, "a.lua", out, loading);
}

static void three_within_a_minute_are_out(void **state)
{
    (void)state;
    bool out, loading;
    assert_int_equal(count("", &out, &loading), 0);
    assert_int_equal(count("999900000000\tx\tb.lua\n", &out, &loading), 0);
    assert_int_equal(count("999900000000\tx\ta.lua\n999910000000\tx\ta.lua\n", &out, &loading), 2);
    assert_false(out);
    assert_int_equal(count("999900000000\tx\ta.lua\n999910000000\tx\ta.lua\n"
                           "999960000001\tx\ta.lua\n",
                           &out, &loading),
                     3);
    assert_false(out);
    assert_false(loading);
    count("999800000000\tx\ta.lua\n999900000000\tx\ta.lua\n999910000000\tx\ta.lua\n"
          "999960000000\tloading\ta.lua\n",
          &out, &loading);
    assert_true(out);
    assert_true(loading);
}

static void the_newest_are_kept(void **state)
{
    (void)state;
    MJ_AUTO_BUF text = {0};
    for (int i = 0; i < 100; i++)
        mj_buf_printf(&text, "%lld\tx\ta.lua\n", (long long)(NOW - 200 * S + i * S));
    parse(mj_buf_cstr(&text));
    assert_int_equal(notes.count, RUN_NOTES_MAX);
    assert_int_equal(notes.notes[RUN_NOTES_MAX - 1].us, NOW - 101 * S);
    char *long_path = malloc(3000);
    memset(long_path, 'p', 2999);
    long_path[2999] = 0;
    text.len = 0;
    mj_buf_printf(&text, "%lld\tx\t%s\n", (long long)(NOW - S), long_path);
    free(long_path);
    parse(mj_buf_cstr(&text));
    assert_int_equal(notes.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(notes_are_lines),
        cmocka_unit_test(three_within_a_minute_are_out),
        cmocka_unit_test(the_newest_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
