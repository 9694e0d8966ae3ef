/* The hooks that test runners put in place of the clock and of stderr. */
#include "cmocka_all.h"

#include <stdio.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"

static void on_line(void *ctx, enum mj_log_level level, const char *tag, const char *text)
{
    mj_buf_printf(ctx, "%s %s: %s\n", mj_log_level_name(level), tag, text);
}

static void captured(void **state)
{
    (void)state;
    static struct mj_log_gate gate;
    MJ_AUTO_BUF lines = {0};
    mj_log_setup(MJ_LOG_WARN, false);
    mj_log_capture(on_line, &lines);
    mj_log(MJ_LOG_DEBUG, "a", "one %d", 1); /* levels do not count … */
    for (int i = 0; i < 3; i++)             /* … and neither do gates */
        mj_log_limited(&gate, 1, MJ_LOG_ERROR, "b", "line\n%d", i);
    mj_log_capture(NULL, NULL);
    mj_log(MJ_LOG_DEBUG, "a", "not any more");
    assert_string_equal(mj_buf_cstr(&lines), "debug a: one 1\nerror b: line\n0\nerror b: line\n1\n"
                                             "error b: line\n2\n");
}

/* What a log line looks like on stderr. */
static void harmless(void **state)
{
    int ends[2], real = dup(STDERR_FILENO);
    char line[256] = "";
    (void)state;
    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    mj_log_setup(MJ_LOG_WARN, false);
    mj_log(MJ_LOG_WARN, "a", "%s",
           "a\nb\033[31mc\x7f"
           "d\xc2\x9b"
           "31me\xc2\xa0\xc3\x9b\tf\xc2");
    mj_log_setup(MJ_LOG_WARN, true);
    mj_log(MJ_LOG_WARN, "a", "%s", "\xc3\xa9\xff \xed\xa0\x80\xc3");
    mj_log_setup(MJ_LOG_WARN, false);
    dup2(real, STDERR_FILENO);
    close(real);
    close(ends[1]);
    for (ssize_t at = 0, n; (n = read(ends[0], line + at, sizeof line - 1 - (size_t)at)) > 0;)
        at += n;
    close(ends[0]);
    /* JSON is UTF-8, whatever is in it. */
    char *json = strchr(line, '{');
    assert_non_null(json);
    assert_string_equal(strstr(json, "\"msg\":"),
                        "\"msg\":\"\xc3\xa9\\ufffd \\ufffd\\ufffd\\ufffd\\ufffd\"}\n");
    *json = '\0';
    assert_string_equal(strstr(line, " warn a: "),
                        " warn a: a b [31mc d  31me\xc2\xa0\xc3\x9b\tf\xc2\n");
}

static void frozen(void **state)
{
    (void)state;
    int64_t real = mj_now_us(), mono = mj_mono_us();
    mj_clock_freeze(1234567);
    assert_int_equal(mj_now_us(), 1234567);
    assert_int_equal(mj_mono_us(), 1234567);
    mj_clock_freeze(0);
    assert_int_equal(mj_now_us(), 0);
    mj_clock_freeze(-1);
    assert_true(mj_now_us() >= real);
    assert_true(mj_mono_us() >= mono);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(captured), cmocka_unit_test(harmless),
                                       cmocka_unit_test(frozen)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
