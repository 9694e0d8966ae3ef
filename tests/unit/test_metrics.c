/* Histograms: buckets with inclusive bounds, seconds without needless zeros, replaced as a whole.
 */
#include "cmocka_all.h"

#include "base/metrics.h"

static void has(const char *want)
{
    MJ_AUTO_BUF text = {0};
    mj_metrics_render(&text);
    if (!strstr(mj_buf_cstr(&text), want))
        fail_msg("not there:\n%s\nbut:\n%s", want, mj_buf_cstr(&text));
}

static void histograms(void **state)
{
    (void)state;
    static const int64_t bounds[] = {250, 1000000, 90000000};
    struct mj_histogram *h = mj_histogram("test_seconds", "Help.", bounds, 3, "a=\"%d\"", 1);
    assert_ptr_equal(h, mj_histogram("test_seconds", "Help.", bounds, 3, "a=\"1\""));
    static const int64_t seen[] = {-5, 250, 251, 1000000, 1000001, 90000000, 90000001, 1};
    for (size_t i = 0; i < MJ_COUNT(seen); i++)
        mj_histogram_observe(h, seen[i]);
    has("# HELP test_seconds Help.\n# TYPE test_seconds histogram\n"
        "test_seconds_bucket{a=\"1\",le=\"0.00025\"} 3\n"
        "test_seconds_bucket{a=\"1\",le=\"1\"} 5\n"
        "test_seconds_bucket{a=\"1\",le=\"90\"} 7\n"
        "test_seconds_bucket{a=\"1\",le=\"+Inf\"} 8\n"
        "test_seconds_sum{a=\"1\"} 182.000499\n"
        "test_seconds_count{a=\"1\"} 8\n");
    struct mj_histogram *bare = mj_histogram("test_bare_seconds", "Help.", bounds, 1, NULL);
    mj_histogram_observe(bare, 1000);
    mj_histogram_set(bare, (const int64_t[]){4, 2}, -1500000);
    has("test_bare_seconds_bucket{le=\"0.00025\"} 4\n"
        "test_bare_seconds_bucket{le=\"+Inf\"} 6\n"
        "test_bare_seconds_sum -1.5\n"
        "test_bare_seconds_count 6\n");
}

static void series(void **state)
{
    (void)state;
    struct mj_metric *m = mj_metric("test_total", MJ_COUNTER, "Help.", "x=\"%s\"", "y");
    mj_metric_add(m, 3);
    mj_metric_add(mj_metric("test_total", MJ_COUNTER, "Help.", "x=\"y\""), 4);
    has("# TYPE test_total counter\ntest_total{x=\"y\"} 7\n");
    /* However many labels strangers make up, there is an end. */
    for (int i = 0; i < MJ_METRIC_SERIES_MAX + 50; i++)
        mj_metric_add(mj_metric("test_many_total", MJ_COUNTER, "Help.", "x=\"%d\"", i), 1);
    has("test_many_total{other=\"true\"} 50\n");
    mj_metric_add(mj_metric("test_many_total", MJ_COUNTER, "Help.", "x=\"7\""), 1);
    has("test_many_total{x=\"7\"} 2\n");
}

static void labels(void **state)
{
    static const struct {
        const char *value, *label;
    } cases[] = {
        {"a\"b\\c\n", "a\\\"b\\\\c?"},
        {"caf\xc3\xa9 \xe6\x9c\x88", "caf\xc3\xa9 \xe6\x9c\x88"},
        {"123456789012345\xc3\xa9", "123456789012345"}, /* not half of it */
        {"12345678901234\xc3\xa9", "12345678901234\xc3\xa9"},
        {"\xff\xc3\x28\xed\xa0\x80\xc0\x80", "?\?(?????"},
        {"1234567890123456\"", "1234567890123456"},
        {"12345678901234567890", "1234567890123456"},
    };
    char out[18];
    (void)state;
    for (size_t i = 0; i < MJ_COUNT(cases); i++)
        assert_string_equal(mj_metric_label(mj_str(cases[i].value), out, sizeof out),
                            cases[i].label);
}

static void zero(void **state)
{
    (void)state;
    static const int64_t bounds[] = {250};
    struct mj_metric *a = mj_metric("test_zero_total", MJ_COUNTER, "Help.", "script=\"a\"");
    struct mj_metric *b = mj_metric("test_zero_total", MJ_COUNTER, "Help.", "script=\"b\"");
    struct mj_histogram *h = mj_histogram("test_zero_seconds", "Help.", bounds, 1, "script=\"a\"");
    mj_metric_add(a, 1);
    mj_metric_add(b, 2);
    mj_histogram_observe(h, 300);
    mj_metrics_zero("script=\"a\"");
    has("test_zero_total{script=\"a\"} 0\ntest_zero_total{script=\"b\"} 2\n");
    has("test_zero_seconds_sum{script=\"a\"} 0\ntest_zero_seconds_count{script=\"a\"} 0\n");
    mj_metrics_zero(NULL);
    assert_int_equal(mj_metric_get(b), 0);
}

static void lacks(const char *part)
{
    MJ_AUTO_BUF text = {0};
    mj_metrics_render(&text);
    if (strstr(mj_buf_cstr(&text), part))
        fail_msg("there is:\n%s\nin:\n%s", part, mj_buf_cstr(&text));
}

static bool claim(const char *family, enum mj_metric_type type, const char *script)
{
    return mj_metric_claim(family, type, type == MJ_COUNTER ? "Counted." : "Told.", script);
}

static struct mj_metric *told(const char *labels)
{
    return mj_metric("test_claimed", MJ_GAUGE_REAL, "Told.", "%s", labels);
}

#define A "script=\"a\""
#define B "script=\"b\""

static void claims(void **state)
{
    (void)state;
    mj_metric("test_made_total", MJ_COUNTER, "Help.", NULL);
    assert_false(claim("test_made_total", MJ_GAUGE_REAL, A));
    assert_true(claim("test_claimed", MJ_GAUGE_REAL, A));
    has("# HELP test_claimed Told.\n# TYPE test_claimed gauge\n");
    assert_true(claim("test_claimed", MJ_GAUGE_REAL, A));
    assert_true(claim("test_claimed", MJ_GAUGE_REAL, B));
    assert_false(claim("test_claimed", MJ_COUNTER, A));
    mj_metric_set_real(told(A ",x=\"1\""), 0.5);
    mj_metric_set_real(told(B), 2);
    mj_metric_set_real(told("script=\"a2\""), 3);
    mj_metric_unclaim("test_claimed", A); /* the other script of that name has it still */
    has("test_claimed{" A ",x=\"1\"} 0.5\n");
    mj_metric_unclaim("test_claimed", A);
    mj_metric_unclaim("test_claimed", A); /* there is none: nothing happens */
    mj_metric_unclaim("test_nothing", A);
    lacks("test_claimed{" A);
    has("test_claimed{" B "} 2\ntest_claimed{script=\"a2\"} 3\n");
    assert_true(claim("test_claimed", MJ_GAUGE_REAL, A));
    lacks("test_claimed{" A);
    assert_true(mj_metric_get_real(told(A ",x=\"1\"")) == 0); /* told anew */
    has("test_claimed{" A ",x=\"1\"} 0\n");
    assert_false(claim("test_claimed", MJ_COUNTER, B));
    mj_metric_unclaim("test_claimed", A);
    mj_metric_unclaim("test_claimed", B);
    lacks("test_claimed");

    assert_true(claim("test_claimed", MJ_COUNTER, B));
    has("# HELP test_claimed Counted.\n# TYPE test_claimed counter\n");
    lacks("test_claimed{");
    mj_metric_add(mj_metric("test_claimed", MJ_COUNTER, "Counted.", B), 7);
    mj_metric_unclaim("test_claimed", B);
    has("test_claimed{" B "} 7\n"); /* what was counted stays */
    assert_true(claim("test_claimed", MJ_GAUGE_REAL, B));
    lacks("test_claimed{");
    mj_metric_unclaim("test_claimed", B);

    /* A family of the program's own is nobody's to take over. */
    assert_true(claim("test_made_total", MJ_COUNTER, A));
    mj_metric_unclaim("test_made_total", A);
    assert_false(claim("test_made_total", MJ_GAUGE_REAL, A));
    has("test_made_total 0\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(histograms), cmocka_unit_test(series),
                                       cmocka_unit_test(labels), cmocka_unit_test(zero),
                                       cmocka_unit_test(claims)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
