/* Plug-ins in C, by way of the one we ship: what is pushed is in the file, in order, and what is
 * not is counted. The rings under them. */
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmocka_all.h"

#include "base/err.h"
#include "base/metrics.h"
#include "flow/plugin.h"
#include "flow/ring.h"

static void ring_is_a_queue(void **state)
{
    (void)state;
    struct mj_ring r;
    struct mj_ring_item items[8];
    char text[5000];
    uint32_t put = 0, got = 0;
    assert_int_equal(mj_ring_init(&r, 1), 0);
    assert_int_equal(r.size, 65536);
    /* Ten times around, in texts of all lengths, as full as it gets. */
    while (got < 2000) {
        size_t len = put % 997 + 4;
        memset(text, (int)('a' + put % 26), len);
        memcpy(text, &put, sizeof put);
        if (put < 2000 && mj_ring_put(&r, mj_span(text, len), put) == 0) {
            put++;
            continue;
        }
        size_t n = mj_ring_get(&r, items, 8, 0);
        assert_true(n > 0);
        size_t done = n > 3 ? n - 2 : n; /* the rest comes again */
        for (size_t i = 0; i < done; i++, got++) {
            uint32_t number;
            assert_int_equal(items[i].tag, got);
            assert_int_equal(items[i].text.len, got % 997 + 4);
            memcpy(&number, items[i].text.ptr, sizeof number);
            assert_int_equal(number, got);
            if (items[i].text.len > 4)
                assert_int_equal(items[i].text.ptr[items[i].text.len - 1], 'a' + got % 26);
        }
        mj_ring_done(&r, items, done);
    }
    assert_int_equal(mj_ring_used(&r), 0);
    assert_int_equal(mj_ring_get(&r, items, 8, 1000), 0);
    static char large[65536];
    assert_int_equal(mj_ring_put(&r, mj_span(large, sizeof large), 0), MJ_ELIMIT);
    assert_int_equal(mj_ring_put(&r, mj_span(large, sizeof large - 16), 0), 0);
    assert_int_equal(mj_ring_put(&r, mj_span(large, 0), 0), MJ_ELIMIT);
    mj_ring_deinit(&r);
}

#define NUMBERS 200000

static void *write_numbers(void *arg)
{
    struct mj_ring *r = arg;
    for (int64_t i = 0; i < NUMBERS;)
        i += mj_ring_put(r, mj_span(&i, sizeof i), i) == 0;
    mj_ring_end(r);
    return NULL;
}

static void ring_between_threads(void **state)
{
    (void)state;
    struct mj_ring r;
    struct mj_ring_item items[64];
    pthread_t writer;
    assert_int_equal(mj_ring_init(&r, 65536), 0);
    assert_int_equal(pthread_create(&writer, NULL, write_numbers, &r), 0);
    int64_t next = 0;
    for (;;) {
        size_t n = mj_ring_get(&r, items, 64, 10000000);
        for (size_t i = 0; i < n; i++, next++) {
            int64_t number;
            memcpy(&number, items[i].text.ptr, sizeof number);
            assert_int_equal(number, next);
        }
        mj_ring_done(&r, items, n);
        if (!n && mj_ring_ended(&r) && !mj_ring_used(&r))
            break;
    }
    assert_int_equal(next, NUMBERS);
    pthread_join(writer, NULL);
    mj_ring_deinit(&r);
}

static struct mj_sink *new_sink(const char *script, const char *path)
{
    MJ_AUTO_BUF error = {0};
    struct mj_sink *s;
    if (mj_sink_new("file", script, &s, &error) || mj_sink_set(s, "path", mj_str(path), &error) ||
        mj_sink_check(s, &error))
        fail_msg("%s", mj_buf_cstr(&error));
    return s;
}

static void fails(int err, const struct mj_buf *error, const char *part)
{
    assert_int_not_equal(err, 0);
    struct mj_buf copy = *error;
    if (!strstr(mj_buf_cstr(&copy), part))
        fail_msg("expected '%s' in '%s'", part, mj_buf_cstr(&copy));
    *(struct mj_buf *)error = copy;
}

static void options_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *part;
    } bad[] = {{"pth", "x", "did you mean 'path'?"},
               {"rotate", "much", "expected a size such as 64M"},
               {"keep", "1.5", "expected a whole number"},
               {"sync", "maybe", "expected true or false"}};
    MJ_AUTO_BUF error = {0};
    struct mj_sink *s;
    fails(mj_sink_new("fil", "x.lua", &s, &error), &error, "there is no plug-in 'fil'");
    error.len = 0;
    fails(mj_sink_new("../file", "x.lua", &s, &error), &error, "there is no plug-in");
    error.len = 0;
    assert_int_equal(mj_sink_new("file", "x.lua", &s, &error), 0);
    fails(mj_sink_check(s, &error), &error, "file needs 'path'");
    for (size_t i = 0; i < MJ_COUNT(bad); i++) {
        error.len = 0;
        fails(mj_sink_set(s, bad[i].name, mj_str(bad[i].value), &error), &error, bad[i].part);
    }
    /* Nothing has run yet, and nothing is left. */
    mj_sink_stop(s, 0);
    s = new_sink("x.lua", "/nowhere/at/all/x.jsonl");
    error.len = 0;
    fails(mj_sink_start(s, &error), &error, "x.lua: plug-in file does not start");
    mj_sink_stop(s, 0);
}

static struct mj_event post(int i, char *rkey)
{
    snprintf(rkey, 20, "k%d", i);
    return (struct mj_event){.kind = MJ_KIND_IDENTITY,
                             .seq = i,
                             .time_us = 1000000 + i,
                             .did = MJ_SPAN("did:plc:abcdefghijklmnopqrstuvwx"),
                             .time = MJ_SPAN("2026-01-01T00:00:00Z"),
                             .handle = mj_str(rkey)};
}

/* Reads the lines of a file and checks that they are events next, next + 1, …; returns the one
 * after them. */
static int read_lines(const char *path, int next)
{
    FILE *f = fopen(path, "r");
    char line[1000], part[40];
    if (!f)
        return next;
    for (; fgets(line, sizeof line, f); next++) {
        snprintf(part, sizeof part, "\"handle\":\"k%d\"", next);
        if (!strstr(line, part) || line[strlen(line) - 1] != '\n')
            fail_msg("%s: expected %s in %s", path, part, line);
    }
    fclose(f);
    return next;
}

static void file_gets_every_event(void **state)
{
    (void)state;
    char dir[] = "/tmp/moonjet-plugin-XXXXXX", path[100], older[110], rkey[20];
    MJ_AUTO_BUF error = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/out.jsonl", dir);
    struct mj_sink *s = new_sink("rotating.lua", path);
    assert_int_equal(mj_sink_set(s, "rotate", MJ_SPAN("100K"), &error), 0);
    assert_int_equal(mj_sink_set(s, "keep", MJ_SPAN("20"), &error), 0);
    assert_int_equal(mj_sink_start(s, &error), 0);
    for (int i = 0; i < 5000; i++) {
        struct mj_event ev = post(i, rkey);
        assert_int_equal(mj_sink_push(s, &ev), 0);
    }
    mj_sink_stop(s, 10000000);
    assert_true(mj_sinks_wait(20000000));
    int next = 0, files = 0;
    for (int i = 20; i >= 0; i--) {
        struct stat st;
        snprintf(older, sizeof older, i ? "%s.%d" : "%s", path, i);
        if (stat(older, &st))
            continue;
        files++;
        assert_true(st.st_size <= 100 * 1024);
        next = read_lines(older, next);
        unlink(older);
    }
    assert_int_equal(next, 5000);
    assert_true(files > 3);
    rmdir(dir);
}

static int64_t dropped(const char *script, const char *reason)
{
    return mj_metric_get(mj_metric("moonjet_sink_dropped_total", MJ_COUNTER, "",
                                   "script=\"%s\",plugin=\"file\",reason=\"%s\"", script, reason));
}

static void what_does_not_fit_is_counted(void **state)
{
    (void)state;
    char rkey[20];
    MJ_AUTO_BUF error = {0};
    struct mj_sink *s = new_sink("full.lua", "/dev/full");
    assert_int_equal(mj_sink_start(s, &error), 0);
    int taken = 0, refused = 0;
    for (int i = 0; i < 50000; i++) {
        struct mj_event ev = post(i, rkey);
        int err = mj_sink_push(s, &ev);
        taken += err == 0;
        refused += err == MJ_ELIMIT;
    }
    mj_sink_stop(s, 0);
    assert_true(mj_sinks_wait(20000000));
    assert_int_equal(taken + refused, 50000);
    assert_true(refused > 0);
    assert_int_equal(dropped("full.lua", "full"), refused);
    assert_int_equal(dropped("full.lua", "stopped"), taken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_is_a_queue),
        cmocka_unit_test(ring_between_threads),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(file_gets_every_event),
        cmocka_unit_test(what_does_not_fit_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
