/* What answers of receivers mean, and when a circuit breaker opens and closes. */
#include "cmocka_all.h"

#include "base/err.h"
#include "deliver/breaker.h"
#include "deliver/hook_answer.h"

#define NOW_US INT64_C(1767225600000000) /* 2026-01-01T00:00:00Z */
#define S      INT64_C(1000000)

static struct mj_judged judge(int status, const char *headers)
{
    struct mj_fetched a = {.status = status, .headers = mj_str(headers)};
    return mj_hook_judge(&a, NOW_US);
}

static void test_statuses(void **state)
{
    static const struct {
        int status;
        enum mj_answer_class what;
    } table[] = {
        {200, MJ_ANSWER_DONE},    {204, MJ_ANSWER_DONE},    {299, MJ_ANSWER_DONE},
        {301, MJ_ANSWER_RETRY},   {302, MJ_ANSWER_RETRY},   {307, MJ_ANSWER_RETRY},
        {400, MJ_ANSWER_BAD},     {401, MJ_ANSWER_REFUSED}, {403, MJ_ANSWER_REFUSED},
        {404, MJ_ANSWER_REFUSED}, {405, MJ_ANSWER_BAD},     {408, MJ_ANSWER_RETRY},
        {410, MJ_ANSWER_GONE},    {413, MJ_ANSWER_BAD},     {422, MJ_ANSWER_BAD},
        {425, MJ_ANSWER_RETRY},   {429, MJ_ANSWER_RETRY},   {499, MJ_ANSWER_BAD},
        {500, MJ_ANSWER_RETRY},   {502, MJ_ANSWER_RETRY},   {503, MJ_ANSWER_RETRY},
        {599, MJ_ANSWER_RETRY},
    };
    (void)state;
    for (size_t i = 0; i < MJ_COUNT(table); i++)
        assert_int_equal(judge(table[i].status, "").what, table[i].what);
    struct mj_fetched none = {.error = "nobody is there"};
    assert_int_equal(mj_hook_judge(&none, NOW_US).what, MJ_ANSWER_RETRY);
}

static int64_t after(const char *value) { return mj_retry_after(mj_str(value), NOW_US); }

static void test_retry_after(void **state)
{
    (void)state;
    assert_int_equal(after("120"), 120 * S);
    assert_int_equal(after("0"), 0);
    assert_int_equal(after("-5"), 0);
    assert_int_equal(after(""), 0);
    assert_int_equal(after("soon"), 0);
    assert_int_equal(after("86400"), MJ_RETRY_AFTER_MAX);
    assert_int_equal(after("86401"), MJ_RETRY_AFTER_MAX);
    assert_int_equal(after("99999999999999999999999"), MJ_RETRY_AFTER_MAX);
    assert_int_equal(after("-99999999999999999999999"), 0);
    assert_int_equal(after("Thu, 01 Jan 2026 00:01:00 GMT"), 60 * S);
    assert_int_equal(after("Wed, 31 Dec 2025 23:59:00 GMT"), 0);
    assert_int_equal(after("Fri, 01 Jan 2100 00:00:00 GMT"), MJ_RETRY_AFTER_MAX);
    assert_int_equal(mj_retry_after(MJ_SPAN("Thu, 01 Jan 2026\0 00:01:00 GMT"), NOW_US), 0);
    assert_int_equal(judge(503, "x: y\r\nretry-after:  7 \r\n").after_us, 7 * S);
    assert_int_equal(judge(429, "retry-after: 7").after_us, 7 * S);
    assert_int_equal(judge(200, "retry-after: 7").after_us, 0);
    assert_int_equal(judge(429, "retry-afterwards: 7\r\n").after_us, 0);
}

static size_t failed_of(const char *body, bool cut, bool *marks)
{
    const struct mj_item items[] = {
        {.id = "evt_00000000000000000000000000000001"},
        {.id = "evt_00000000000000000000000000000002"},
    };
    marks[0] = marks[1] = false;
    return mj_hook_failed(mj_str(body), cut, items, 2, marks);
}

static size_t failed(const char *body, bool *marks) { return failed_of(body, false, marks); }

static void test_failed_items(void **state)
{
    bool marks[2];
    (void)state;
    assert_int_equal(failed("{\"failed\":[\"evt_00000000000000000000000000000002\"]}", marks), 1);
    assert_false(marks[0]);
    assert_true(marks[1]);
    assert_int_equal(
        failed(" {\"ok\":[1],\"failed\" : [ 3, \"evt_00000000000000000000000000000001\" ,"
               "\"evt_00000000000000000000000000000001\"] } ",
               marks),
        1);
    assert_true(marks[0]);
    static const char *const none[] = {
        "",
        "thank you",
        "{}",
        "[\"evt_00000000000000000000000000000001\"]",
        "{\"failed\":\"evt_00000000000000000000000000000001\"}",
        "{\"failed\":[\"evt_00000000000000000000000000000009\"]}",
        "{\"failed\":[\"evt_00000000000000000000000000000001\"]",
        "{\"failed\":[\"evt_00000000000000000000000000000001\"]} x",
        "{\"not\":{\"failed\":[\"evt_00000000000000000000000000000001\"]}}",
    };
    for (size_t i = 0; i < MJ_COUNT(none); i++)
        assert_int_equal(failed(none[i], marks), 0);
}

/* The end is missing: what the list says up to there counts. */
static void test_failed_of_a_cut_answer(void **state)
{
    bool marks[2];
    (void)state;
    assert_int_equal(failed_of("{\"results\":[{\"a\":1}],\"failed\" : [ "
                               "\"evt_00000000000000000000000000000002\", \"evt_0",
                               true, marks),
                     1);
    assert_true(marks[1]);
    assert_int_equal(
        failed_of("{\"failed\":[\"evt_00000000000000000000000000000001\"],\"x\":\"yyyyy", true,
                  marks),
        1);
    assert_true(marks[0]);
    static const char *const none[] = {
        "",
        "{",
        "[\"failed\":[\"evt_00000000000000000000000000000001\"]",
        "{\"failed\"",
        "{\"failed\":",
        "{\"failed\":[",
        "{\"failed\":[\"evt_0000000000000000000000000000000",
        "{\"failed\":[\"evt_00000000000000000000000000000001",
        "{\"failed\":[1",
    };
    for (size_t i = 0; i < MJ_COUNT(none); i++)
        assert_int_equal(failed_of(none[i], true, marks), 0);
}

static void fail_times(struct mj_breaker *b, int n, int64_t now)
{
    while (n--) {
        assert_int_equal(mj_breaker_wait(b, now), 0);
        mj_breaker_sent(b);
        mj_breaker_ended(b, false, 0, now);
    }
}

static void test_breaker(void **state)
{
    struct mj_breaker b = {0};
    (void)state;
    fail_times(&b, MJ_BREAKER_FAILURES - 1, 0);
    assert_int_equal(b.state, MJ_BREAKER_CLOSED);
    mj_breaker_sent(&b);
    assert_true(mj_breaker_ended(&b, false, 0, 0));
    assert_int_equal(b.state, MJ_BREAKER_OPEN);
    /* At least half of the pause, and at most all of it. */
    int64_t wait = mj_breaker_wait(&b, 0);
    assert_int_equal(wait, MJ_BREAKER_FIRST_US / 2);
    assert_int_equal(mj_breaker_wait(&b, wait - 1), 1);
    /* One probe, and nobody beside it. */
    assert_int_equal(mj_breaker_wait(&b, wait), 0);
    assert_int_equal(b.state, MJ_BREAKER_HALF_OPEN);
    mj_breaker_sent(&b);
    assert_int_equal(mj_breaker_wait(&b, wait), -1);
    assert_false(mj_breaker_ended(&b, false, UINT64_MAX, wait));
    assert_in_range(mj_breaker_wait(&b, wait), MJ_BREAKER_FIRST_US, 2 * MJ_BREAKER_FIRST_US);
    /* Pauses grow to their longest, and no further. */
    int64_t now = wait;
    for (int i = 0; i < 20; i++) {
        now += mj_breaker_wait(&b, now);
        assert_int_equal(mj_breaker_wait(&b, now), 0);
        mj_breaker_sent(&b);
        mj_breaker_ended(&b, false, (uint64_t)i * 7919, now);
        assert_in_range(mj_breaker_wait(&b, now), 1, MJ_BREAKER_LONGEST_US);
    }
    assert_in_range(mj_breaker_wait(&b, now), MJ_BREAKER_LONGEST_US / 2, MJ_BREAKER_LONGEST_US);
    /* A probe that nobody tried is no probe. */
    now += mj_breaker_wait(&b, now);
    assert_int_equal(mj_breaker_wait(&b, now), 0);
    mj_breaker_sent(&b);
    mj_breaker_undo(&b);
    assert_int_equal(mj_breaker_wait(&b, now), 0);
    mj_breaker_sent(&b);
    assert_true(mj_breaker_ended(&b, true, 0, now));
    assert_int_equal(b.state, MJ_BREAKER_CLOSED);
    /* All is forgotten. */
    fail_times(&b, MJ_BREAKER_FAILURES - 1, now);
    assert_int_equal(b.state, MJ_BREAKER_CLOSED);
    assert_string_equal(mj_breaker_name(MJ_BREAKER_HALF_OPEN), "half-open");
}

/* Requests that were in the air when it opened. */
static void test_breaker_latecomers(void **state)
{
    struct mj_breaker b = {0};
    (void)state;
    fail_times(&b, MJ_BREAKER_FAILURES, 0);
    int64_t until = b.until;
    for (int i = 0; i < 5; i++)
        assert_false(mj_breaker_ended(&b, false, 0, 1));
    assert_int_equal(b.until, until);
    assert_true(mj_breaker_ended(&b, true, 0, 1));
    assert_int_equal(mj_breaker_wait(&b, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statuses),     cmocka_unit_test(test_retry_after),
        cmocka_unit_test(test_failed_items), cmocka_unit_test(test_failed_of_a_cut_answer),
        cmocka_unit_test(test_breaker),      cmocka_unit_test(test_breaker_latecomers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
