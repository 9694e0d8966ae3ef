/* The journal in memory: what is appended can be read back by seq and by time, nothing shows before
 * it is published, the budget drops the oldest, and writer and readers never race (run under tsan).
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/hash.h"
#include "flow/streams.h"
#include "journal/internal.h"

static int append(struct mj_journal *t, int64_t time_us, const char *json)
{
    struct mj_append e = {.time_us = time_us, .streams = 1};
    return mj_journal_append(t, &e, mj_str(json));
}

static int append_len(struct mj_journal *t, int64_t time_us, size_t len)
{
    char *p = mj_alloc(len + 1);
    memset(p, (int)('a' + time_us % 26), len);
    p[len] = '\0';
    int r = append(t, time_us, p);
    free(p);
    return r;
}

static void invisible_until_published(void **state)
{
    (void)state;
    struct mj_journal *t = mj_journal_in_memory(1 << 20);
    struct mj_view v;
    mj_view_init(&v, t);
    struct mj_run r;
    assert_false(mj_view_run(&v, 1, &r));
    assert_int_equal(mj_view_newest(&v), 0);
    assert_int_equal(append(t, 10, "{\"a\":1}"), 0);
    assert_false(mj_view_refresh(&v));
    assert_false(mj_view_run(&v, 1, &r));
    mj_journal_publish(t, -1, 0);
    assert_false(mj_view_run(&v, 1, &r)); /* a view changes only when refreshed */
    assert_true(mj_view_refresh(&v));
    assert_true(mj_view_run(&v, 1, &r));
    assert_int_equal(r.count, 1);
    assert_int_equal(r.seq, 1);
    assert_int_equal(mj_run_time(&r, 0), 10);
    assert_true(mj_span_is(mj_run_json(&r, 0), "{\"a\":1}"));
    assert_memory_equal(mj_run_frame(&r, 0).ptr, "\x81\x07{\"a\":1}", 9);
    assert_false(mj_view_refresh(&v));
    mj_view_deinit(&v);
    mj_journal_close(t);
}

/* The writer is segments ahead of its last publish: readers see them, but not what is in them.
 */
static void unpublished_segments(void **state)
{
    (void)state;
    struct mj_journal *t = mj_journal_in_memory(64 << 20);
    for (int64_t i = 1; i <= 10; i++)
        append_len(t, i, 500);
    mj_journal_publish(t, -1, 0);
    for (int64_t i = 11; i <= 5000; i++)
        append_len(t, i, 500);
    struct mj_view v;
    mj_view_init(&v, t);
    struct mj_run r;
    assert_true(v.count > 1);
    assert_int_equal(v.end, 11);
    assert_true(mj_view_run(&v, 1, &r));
    assert_int_equal(r.count, 10);
    assert_false(mj_view_run(&v, 11, &r));
    assert_int_equal(mj_view_find(&v, 11), 11);
    assert_int_equal(mj_view_newest(&v), 10);
    mj_view_deinit(&v);
    mj_journal_close(t);
}

static void frame_heads(void **state)
{
    (void)state;
    struct mj_journal *t = mj_journal_in_memory(8 << 20);
    static const size_t sizes[] = {0, 125, 126, 65535, 65536, MJ_MEMORY_DATA, 3 * MJ_MEMORY_DATA};
    for (size_t i = 0; i < MJ_COUNT(sizes); i++)
        assert_int_equal(append_len(t, (int64_t)i + 1, sizes[i]), 0);
    mj_journal_publish(t, -1, 0);
    struct mj_view v;
    mj_view_init(&v, t);
    for (size_t i = 0; i < MJ_COUNT(sizes); i++) {
        struct mj_run r;
        assert_true(mj_view_run(&v, i + 1, &r));
        struct mj_span json = mj_run_json(&r, 0);
        assert_int_equal(json.len, sizes[i]);
        if (json.len) {
            assert_int_equal(json.ptr[0], 'a' + (i + 1) % 26);
            assert_int_equal(json.ptr[json.len - 1], 'a' + (i + 1) % 26);
        }
        assert_int_equal(mj_frame_head(mj_run_frame(&r, 0).len), sizes[i] < 126     ? 2
                                                                 : sizes[i] < 65536 ? 4
                                                                                    : 10);
    }
    mj_view_deinit(&v);
    mj_journal_close(t);
}

static void refuses(void **state)
{
    (void)state;
    struct mj_journal *t = mj_journal_in_memory(0);
    struct mj_append e = {.time_us = 5};
    assert_int_equal(mj_journal_append(t, &e, mj_span("", (size_t)MJ_JSON_MAX + 1)), MJ_ELIMIT);
    assert_int_equal(append(t, 5, "x"), 0);
    assert_int_equal(append(t, 5, "x"), MJ_EINVAL);
    assert_int_equal(append(t, 4, "x"), MJ_EINVAL);
    assert_true(mj_journal_next_time(t) > 5);
    int64_t far = INT64_C(9000000000000000);
    assert_int_equal(append(t, far, "x"), 0);
    assert_int_equal(mj_journal_next_time(t), far + 1); /* the clock is behind: still increasing */
    mj_journal_close(t);
}

static void budget_moves_the_floor(void **state)
{
    (void)state;
    struct mj_journal *t = mj_journal_in_memory(4 << 20);
    struct mj_view v;
    mj_view_init(&v, t);
    int64_t n = 0;
    struct mj_run first;
    while (n < 100000) { /* about 56 MB of frames and index */
        assert_int_equal(append_len(t, ++n * 10, 500), 0);
        if (n % 100 == 0)
            mj_journal_publish(t, -1, 0);
        if (n == 100) {
            mj_view_refresh(&v);
            assert_true(mj_view_run(&v, 1, &first));
        }
    }
    /* The view has pinned the first segment: its bytes are still there, though the journal has let
     * go.
     */
    assert_int_equal(mj_run_json(&first, 99).ptr[0], 'a' + 1000 % 26);
    assert_true(mj_view_refresh(&v));
    assert_int_equal(v.end, 100001);
    assert_true(v.floor > 1);
    uint64_t held = v.end - v.floor;
    assert_in_range(held * (504 + sizeof(struct mj_entry)), 2 << 20, 4 << 20);
    struct mj_run r;
    assert_false(mj_view_run(&v, v.floor - 1, &r));
    uint64_t seq = v.floor;
    while (mj_view_run(&v, seq, &r)) {
        for (size_t i = 0; i < r.count; i++, seq++) {
            assert_int_equal(r.seq + i, seq);
            assert_int_equal(mj_run_time(&r, i), seq * 10);
            assert_int_equal(mj_run_json(&r, i).ptr[0], 'a' + seq * 10 % 26);
            /* Back to back: an unfiltered reader sends a whole run with one write. */
            if (i)
                assert_ptr_equal(mj_run_frame(&r, i).ptr,
                                 mj_run_frame(&r, i - 1).ptr + mj_run_frame(&r, i - 1).len);
        }
    }
    assert_int_equal(seq, v.end);
    mj_view_deinit(&v);
    mj_journal_close(t);
}

static void find_by_time(void **state)
{
    (void)state;
    struct mj_journal *t = mj_journal_in_memory(64 << 20);
    for (int64_t i = 1; i <= 20000; i++)
        assert_int_equal(append_len(t, i * 10, 300), 0);
    mj_journal_publish(t, -1, 0);
    struct mj_view v;
    mj_view_init(&v, t);
    assert_true(v.count > 3);
    assert_int_equal(mj_view_find(&v, INT64_MIN), 1);
    assert_int_equal(mj_view_find(&v, 10), 1);
    for (int64_t i = 2; i <= 20000; i += 7) {
        assert_int_equal(mj_view_find(&v, i * 10), i); /* inclusive */
        assert_int_equal(mj_view_find(&v, i * 10 - 1), i);
        assert_int_equal(mj_view_find(&v, i * 10 - 9), i);
    }
    assert_int_equal(mj_view_find(&v, 200000), 20000);
    assert_int_equal(mj_view_find(&v, 200001), v.end);
    assert_int_equal(mj_view_newest(&v), 200000);
    mj_view_deinit(&v);
    mj_journal_close(t);
}

static void count_wake(void *ctx) { ++*(int *)ctx; }

static void wakes_only_for_news(void **state)
{
    (void)state;
    struct mj_journal *t = mj_journal_in_memory(0);
    int wakes = 0;
    mj_journal_on_publish(t, count_wake, &wakes);
    mj_journal_publish(t, -1, 0);
    assert_int_equal(wakes, 0);
    append(t, 1, "x");
    append(t, 2, "y");
    mj_journal_publish(t, -1, 0);
    assert_int_equal(wakes, 1);
    mj_journal_publish(t, -1, 0);
    assert_int_equal(wakes, 1);
    mj_journal_on_publish(t, NULL, NULL);
    append(t, 3, "z");
    mj_journal_publish(t, -1, 0);
    assert_int_equal(wakes, 1);
    mj_journal_close(t);
}

/* One writer, three readers of different habits; every reader checks all it sees. */
#define STRESS_EVENTS 60000

struct stress {
    struct mj_journal *journal;
    _Atomic bool done;
    unsigned habit;
    uint64_t seen, skipped;
    bool bad;
};

static size_t stress_json(char out[700], uint64_t n)
{
    size_t len = 20 + n * 7919 % 600;
    memset(out, (int)('A' + n % 26), len);
    int w = snprintf(out, 21, "%020llu", (unsigned long long)n);
    out[w] = (char)('A' + n % 26);
    return len;
}

static void *stress_reader(void *arg)
{
    struct stress *s = arg;
    struct mj_view v;
    mj_view_init(&v, s->journal);
    uint64_t pos = 1;
    char want[700];
    for (;;) {
        bool last = atomic_load(&s->done);
        mj_view_refresh(&v);
        if (pos < v.floor) { /* overtaken: a reader always learns it */
            s->skipped += v.floor - pos;
            pos = v.floor;
        }
        struct mj_run r;
        while (mj_view_run(&v, pos, &r)) {
            for (size_t i = 0; i < r.count; i++, pos++, s->seen++) {
                size_t len = stress_json(want, pos);
                struct mj_span json = mj_run_json(&r, i);
                if (r.seq + i != pos || json.len != len || memcmp(json.ptr, want, len))
                    s->bad = true;
            }
            if (s->habit == 1)
                break; /* refreshes after each run, so it follows at the very end */
            if (s->habit == 2 && mj_view_find(&v, (int64_t)pos - 1) != pos - 1)
                s->bad = true;
        }
        if (last && pos == v.end)
            break;
    }
    mj_view_deinit(&v);
    return NULL;
}

static void threads(void **state)
{
    (void)state;
    struct mj_journal *t = mj_journal_in_memory(3 << 20);
    struct stress s[3];
    pthread_t id[3];
    for (unsigned i = 0; i < 3; i++) {
        memset(&s[i], 0, sizeof s[i]);
        s[i].journal = t;
        s[i].habit = i;
        pthread_create(&id[i], NULL, stress_reader, &s[i]);
    }
    int wakes = 0;
    mj_journal_on_publish(t, count_wake, &wakes);
    char json[700];
    for (uint64_t n = 1; n <= STRESS_EVENTS; n++) {
        struct mj_append e = {.time_us = (int64_t)n};
        size_t len = stress_json(json, n);
        assert_int_equal(mj_journal_append(t, &e, mj_span(json, len)), 0);
        if (n % 37 == 0)
            mj_journal_publish(t, -1, 0);
    }
    mj_journal_publish(t, -1, 0);
    for (unsigned i = 0; i < 3; i++)
        atomic_store(&s[i].done, true);
    for (unsigned i = 0; i < 3; i++) {
        pthread_join(id[i], NULL);
        assert_false(s[i].bad);
        assert_int_equal(s[i].seen + s[i].skipped, STRESS_EVENTS);
        assert_true(s[i].seen > 0);
    }
    assert_int_equal(wakes, STRESS_EVENTS / 37 + 1);
    assert_int_equal(t->segments[0]->refs, 1);
    mj_journal_close(t);
}

static void *intern(void *arg)
{
    uint32_t *ids = arg;
    char name[64];
    for (int i = 0; i < 2000; i++) {
        int n = snprintf(name, sizeof name, "com.example.thing%d", i);
        ids[i] = mj_collection_id(mj_span(name, (size_t)n));
    }
    return NULL;
}

static void collections(void **state)
{
    (void)state;
    static uint32_t ids[2][2000];
    pthread_t id[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&id[i], NULL, intern, ids[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(id[i], NULL);
    assert_memory_equal(ids[0], ids[1], sizeof ids[0]);
    for (int i = 0; i < 2000; i++) {
        char name[64];
        snprintf(name, sizeof name, "com.example.thing%d", i);
        assert_in_range(ids[0][i], 1, MJ_COLLECTIONS_MAX);
        assert_true(mj_span_is(mj_collection_name(ids[0][i]), name));
    }
    assert_null(mj_collection_name(0).ptr);
    assert_null(mj_collection_name(MJ_COLLECTION_NONE).ptr);
    char longest[MJ_COLLECTION_LEN + 1];
    memset(longest, 'a', sizeof longest);
    assert_int_equal(mj_collection_id(mj_span(longest, sizeof longest)), MJ_COLLECTION_NONE);
    /* Strangers choose the names: the table is full some day, and stays usable. */
    char name[64];
    for (int i = 0; i < MJ_COLLECTIONS_MAX + 100; i++)
        mj_collection_id(mj_span(name, (size_t)snprintf(name, sizeof name, "net.stranger.x%d", i)));
    assert_int_equal(mj_collection_id(MJ_SPAN("net.stranger.late")), MJ_COLLECTION_NONE);
    assert_int_equal(mj_collection_id(MJ_SPAN("com.example.thing7")), ids[0][7]);
}

static void streams(void **state)
{
    (void)state;
    struct mj_streams *s = mj_streams_new(NULL);
    assert_int_equal(mj_streams_find(s, MJ_SPAN("main")), MJ_STREAM_MAIN);
    assert_int_equal(mj_streams_add(s, MJ_SPAN("main")), MJ_STREAM_MAIN);
    assert_int_equal(mj_streams_find(s, MJ_SPAN("lua")), MJ_ENOENT);
    assert_int_equal(mj_streams_add(s, MJ_SPAN("lua")), 1);
    assert_int_equal(mj_streams_add(s, MJ_SPAN("lua")), 1);
    assert_int_equal(mj_streams_find(s, MJ_SPAN("lua")), 1);
    static const char *const bad[] = {"", "-a", ".a", "A", "a/b", "a b", "caf\xc3\xa9", "_x"};
    for (size_t i = 0; i < MJ_COUNT(bad); i++)
        assert_int_equal(mj_streams_add(s, mj_str(bad[i])), MJ_ESYNTAX);
    char name[80];
    memset(name, 'a', sizeof name);
    assert_int_equal(mj_streams_add(s, mj_span(name, 65)), MJ_ESYNTAX);
    assert_int_equal(mj_streams_add(s, mj_span(name, 64)), 2);
    for (int i = 3; i < MJ_STREAMS_MAX; i++)
        assert_int_equal(
            mj_streams_add(s, mj_span(name, (size_t)snprintf(name, sizeof name, "9s.%d-x_", i))),
            i);
    assert_int_equal(mj_streams_add(s, MJ_SPAN("one-more")), MJ_ELIMIT);
    assert_int_equal(mj_streams_count(s), MJ_STREAMS_MAX);
    assert_string_equal(mj_streams_name(s, 63), "9s.63-x_");
    mj_streams_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(invisible_until_published),
        cmocka_unit_test(unpublished_segments),
        cmocka_unit_test(frame_heads),
        cmocka_unit_test(refuses),
        cmocka_unit_test(budget_moves_the_floor),
        cmocka_unit_test(find_by_time),
        cmocka_unit_test(wakes_only_for_news),
        cmocka_unit_test(threads),
        cmocka_unit_test(collections),
        cmocka_unit_test(streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
