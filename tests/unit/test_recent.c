/* The table of keys seen of late, beside a plain one. */
#include "cmocka_all.h"

#include "flow/recent.c"

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Every slot leads to an entry that is found from its hash, and none is lost. */
static void check(const struct mj_recent *r)
{
    size_t found = 0;
    for (size_t i = 0; i < r->shard_count; i++) {
        const struct shard *s = &r->shards[i];
        uint32_t used = 0;
        for (uint32_t k = 0; k < s->cap; k++) {
            if (s->slots[k] == NOWHERE)
                continue;
            used++;
            const struct entry *e = entry_at(r, s->slots[k]);
            assert_ptr_equal(shard_of(r, e->hash), s);
            assert_int_equal(slot_of(r, s, e->hash), k);
        }
        assert_int_equal(used, s->used);
        found += used;
    }
    assert_int_equal(found, r->count);
    assert_true(r->count <= r->max);
    assert_true(r->head - r->tail <= r->max);
}

struct plain {
    uint64_t hash;
    int64_t time;
};

/* Few hashes, so that they come again, in the same shard and neighbouring slots. */
static uint64_t some_hash(void)
{
    return (next_random() % 40) | (next_random() % 8) << 40 | (next_random() % 4) << 60;
}

static void remembers_what_a_plain_table_does(void **state)
{
    (void)state;
    enum { KEYS = 2000, MAX = 900 };
    static struct plain plain[KEYS];
    size_t n = 0, first = 0, hits = 0;
    struct mj_recent *r = mj_recent_new(MAX, false);
    int64_t now = 1;
    memset(plain, 0, sizeof plain);
    for (int step = 0; step < 200000; step++) {
        now += (int64_t)(next_random() % 3);
        if (step % 5000 == 0)
            now += 2000; /* a pause: all that is known is past */
        uint64_t hash = some_hash();
        int64_t *time = mj_recent_find(r, hash);
        bool known = time && *time > now, expected = false;
        for (size_t i = first; i < n; i++)
            expected |= plain[i % KEYS].hash == hash && plain[i % KEYS].time > now;
        assert_int_equal(known, expected);
        hits += known;
        if (known)
            continue;
        mj_recent_add(r, hash, now + 1000, now);
        plain[n++ % KEYS] = (struct plain){hash, now + 1000};
        while (first < n && (plain[first % KEYS].time <= now || n - first > MAX))
            first++;
        if (step % 997 == 0)
            check(r);
    }
    assert_true(hits > 1000);
    check(r);
    mj_recent_free(r);
}

static void the_oldest_go_first(void **state)
{
    (void)state;
    struct mj_recent *r = mj_recent_new(3, false);
    for (uint64_t i = 1; i <= 5; i++)
        mj_recent_add(r, i, 100, 0);
    assert_null(mj_recent_find(r, 1));
    assert_null(mj_recent_find(r, 2));
    for (uint64_t i = 3; i <= 5; i++)
        assert_non_null(mj_recent_find(r, i));
    assert_int_equal(mj_recent_count(r), 3);
    mj_recent_free(r);
    r = mj_recent_new(1, true);
    mj_recent_add(r, 1, 100, 0);
    mj_recent_add(r, 2, 100, 0);
    assert_null(mj_recent_find(r, 1));
    assert_non_null(mj_recent_find(r, 2));
    mj_recent_free(r);
}

/* Entries in use are put in front again, so those that are not make room. */
static void rotation_keeps_what_is_in_use(void **state)
{
    (void)state;
    struct mj_recent *r = mj_recent_new(64, true);
    mj_recent_add(r, 7, 10, 0);
    for (uint64_t i = 0; i < 10000; i++) {
        int64_t now = (int64_t)i;
        int64_t *time = mj_recent_find(r, 7);
        assert_non_null(time);
        *time = now + 10;
        mj_recent_add(r, 1000 + i, now + 5, now);
    }
    check(r);
    mj_recent_free(r);
}

static void memory_grows_and_shrinks_with_the_entries(void **state)
{
    (void)state;
    enum { MANY = 200000 };
    struct mj_recent *r = mj_recent_new(MANY, false);
    size_t empty = mj_recent_bytes(r), last = 0;
    int64_t now = 0;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < MANY; i++)
            mj_recent_add(r, next_random(), now + 1000, now);
        assert_int_equal(mj_recent_count(r), MANY);
        assert_true((double)(mj_recent_bytes(r) - empty) / MANY < 32);
        assert_true(!last || mj_recent_bytes(r) <= last + last / 20);
        last = mj_recent_bytes(r);
    }
    now += 2000;
    for (size_t i = 0; i < MANY / 2; i++) /* each new one sweeps a few of the old */
        mj_recent_add(r, i % 10, now + 1000, now);
    assert_int_equal(mj_recent_count(r), 10);
    check(r);
    assert_true(mj_recent_bytes(r) < last / 4);
    mj_recent_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(remembers_what_a_plain_table_does),
        cmocka_unit_test(the_oldest_go_first),
        cmocka_unit_test(rotation_keeps_what_is_in_use),
        cmocka_unit_test(memory_grows_and_shrinks_with_the_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
