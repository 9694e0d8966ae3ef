/* Filters over index records: the remembered answers per collection, DIDs with equal hashes,
 * names past the interning bound; and what a cursor stands for at the edges of the journal. */
#include "cmocka_all.h"

#include <stdio.h>

#include "base/err.h"
#include "base/hash.h"
#include "server/filter.c"
#include "server/update.h"

static struct mj_journal *journal; /* its numbers are what entries hold */

static uint16_t number_of(const char *collection)
{
    static int64_t time_us;
    struct mj_append a = {.time_us = ++time_us, .collection = mj_collection_id(mj_str(collection))};
    assert_int_equal(mj_journal_append(journal, &a, MJ_SPAN("{}")), 0);
    assert_int_equal(mj_journal_publish(journal, -1, 0), 0);
    struct mj_view v;
    mj_view_init(&v, journal);
    struct mj_run r;
    assert_true(mj_view_run(&v, v.end - 1, &r));
    uint16_t id = r.entries[0].collection;
    mj_view_deinit(&v);
    return id;
}

static bool passes(struct mj_filter *f, const struct mj_entry *e, struct mj_span json)
{
    return mj_filter_may(f, journal, e) && mj_filter_confirm(f, e, json);
}

static bool match(struct mj_filter *f, const char *did, uint16_t id, const char *collection)
{
    char json[600];
    int n = snprintf(json, sizeof json,
                     "{\"did\":\"%s\",\"time_us\":1,\"kind\":\"commit\",\"commit\":{\"rev\":\"r\","
                     "\"operation\":\"create\",\"collection\":\"%s\",\"rkey\":\"x\",\"record\":"
                     "{\"collection\":\"com.example.other\",\"did\":\"did:web:other.example\"}}}",
                     did, collection);
    struct mj_entry e = {
        .kind = MJ_KIND_COMMIT, .collection = id, .did = (uint32_t)mj_hash(mj_str(did))};
    return passes(f, &e, mj_span(json, (size_t)n));
}

static bool wants(struct mj_filter *f, const char *collection)
{
    return match(f, "did:web:a.example", number_of(collection), collection);
}

static void collections(void **state)
{
    (void)state;
    struct mj_filter *f = mj_filter_new(NULL);
    assert_true(mj_filter_is_open(f));
    assert_true(wants(f, "com.example.a"));
    assert_int_equal(mj_filter_add_collection(f, MJ_SPAN("com.example.b")), 0);
    assert_int_equal(mj_filter_add_collection(f, MJ_SPAN("net.example.*")), 0);
    assert_false(mj_filter_is_open(f));
    /* Twice: first worked out, then remembered. More ids than the first table holds. */
    for (int turn = 0; turn < 2; turn++) {
        assert_false(wants(f, "com.example.a"));
        assert_true(wants(f, "com.example.b"));
        assert_false(wants(f, "com.example.bb"));
        assert_false(wants(f, "net.example"));
        assert_false(wants(f, "net.examplex.y"));
        for (int i = 0; i < 1000; i++) {
            char name[40];
            snprintf(name, sizeof name, "%s.example.n%d", i % 3 ? "org" : "net", i);
            assert_int_equal(wants(f, name), i % 3 == 0);
        }
    }
    /* A name that was never interned is compared as text, and not in the record. */
    assert_true(match(f, "did:web:a.example", MJ_COLLECTION_OTHER, "com.example.b"));
    assert_true(match(f, "did:web:a.example", MJ_COLLECTION_OTHER, "net.example.late"));
    assert_false(match(f, "did:web:a.example", MJ_COLLECTION_OTHER, "com.example.late"));
    mj_filter_free(f);
}

static void dids(void **state)
{
    (void)state;
    struct mj_filter *f = mj_filter_new(NULL);
    char did[64];
    for (int i = 0; i < 5000; i++) {
        snprintf(did, sizeof did, "did:plc:%024d", i);
        assert_int_equal(mj_filter_add_did(f, mj_str(did)), 0);
        assert_int_equal(mj_filter_add_did(f, mj_str(did)), 0);
    }
    assert_null(mj_filter_check_dids(f));
    for (int i = 0; i < 10000; i++) {
        snprintf(did, sizeof did, "did:plc:%024d", i);
        assert_int_equal(match(f, did, 0, "com.example.a"), i < 5000);
    }
    assert_true(mj_filter_size(f) < 1 << 20);
    /* The hash alone is not enough: another DID's bytes under a wanted one's hash. */
    struct mj_entry e = {.did = (uint32_t)mj_hash(MJ_SPAN("did:plc:000000000000000000000001"))};
    assert_true(passes(f, &e, MJ_SPAN("{\"did\":\"did:plc:000000000000000000000001\"}")));
    assert_false(passes(f, &e, MJ_SPAN("{\"did\":\"did:plc:000000000000000000009999\"}")));
    assert_false(passes(f, &e, MJ_SPAN("{}")));
    mj_filter_free(f);
}

static void counts(void **state)
{
    (void)state;
    struct mj_filter *f = mj_filter_new(NULL);
    /* However many a hostile query names, only so many are kept. */
    char name[64];
    for (int i = 0; i < 30000; i++) {
        mj_filter_add_collection(f, mj_span(name, (size_t)snprintf(name, 64, "a.b.c%d", i)));
        mj_filter_add_collection(f, mj_span(name, (size_t)snprintf(name, 64, "a.b.c%d.*", i)));
        mj_filter_add_did(f, mj_span(name, (size_t)snprintf(name, 64, "did:web:x%d", i)));
    }
    assert_string_equal(mj_filter_check_collections(f), "too many wanted collections");
    assert_string_equal(mj_filter_check_dids(f), "too many wanted DIDs");
    assert_true(mj_filter_size(f) < 1 << 20);
    assert_int_equal(mj_filter_add_did(f, MJ_SPAN("alice.example")), MJ_ESYNTAX);
    assert_int_equal(mj_filter_add_collection(f, MJ_SPAN("com.example")), MJ_ESYNTAX);
    mj_filter_free(f);
}

static void cursors(void **state)
{
    (void)state;
    const int64_t newest = INT64_C(1783175888123456), now = newest + 5000000;
    struct mj_journal *t = mj_journal_in_memory(64 << 20);
    struct mj_view v;
    mj_view_init(&v, t);
    assert_int_equal(mj_cursor_position(&v, 0, now), 1); /* an empty journal: whatever comes */
    assert_int_equal(mj_cursor_position(&v, newest, now), 1);
    for (int i = 99; i >= 0; i--) {
        struct mj_append e = {.time_us = newest - i * INT64_C(1000000)};
        assert_int_equal(mj_journal_append(t, &e, MJ_SPAN("{}")), 0);
    }
    mj_journal_publish(t, -1, 0);
    mj_view_refresh(&v);
    static const struct {
        int64_t cursor;
        uint64_t seq;
    } cases[] = {
        {INT64_MIN, 1},
        {-1, 1},
        {0, 1},
        {1, 1},
        {5, 1},
        {99, 1},
        {999999999, 1},
        {INT64_C(1783175888), 100}, /* seconds */
        {INT64_C(1783175887), 99},
        {INT64_C(1783175889), 101},    /* newer than the newest, though not than now: live */
        {INT64_C(1783175888123), 100}, /* milliseconds */
        {INT64_C(1783175888124), 101},
        {INT64_C(1783175887123457), 100},
        {INT64_C(1783175888123456), 100},
        {INT64_C(1783175888123457), 101},
        {INT64_C(1783175893123457), 101},    /* beyond now */
        {INT64_C(1783175888123456000), 101}, /* nanoseconds */
        {INT64_C(9999999999), 101},
        {INT64_MAX, 101},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++)
        if (mj_cursor_position(&v, cases[i].cursor, now) != cases[i].seq)
            fail_msg("cursor %lld: %llu", (long long)cases[i].cursor,
                     (unsigned long long)mj_cursor_position(&v, cases[i].cursor, now));
    /* After the clock was set back, what time_us there is lies in its future. */
    const int64_t back = newest - INT64_C(10500000);
    assert_int_equal(mj_cursor_position(&v, newest - 1000000, back), 99);
    assert_int_equal(mj_cursor_position(&v, newest, back), 100);
    assert_int_equal(mj_cursor_position(&v, newest + 1, back), 101);
    assert_int_equal(mj_cursor_position(&v, newest * 1000, back), 101);
    mj_view_deinit(&v);
    mj_journal_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(collections), cmocka_unit_test(dids),
                                       cmocka_unit_test(counts), cmocka_unit_test(cursors)};
    journal = mj_journal_in_memory(1 << 20);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    mj_journal_close(journal);
    return failed;
}
