/* Maps, zsets, tops and the store that keeps them: each against a naive reference under random
 * operations and a clock of our own; bounded work per operation however many keys there are;
 * limits; and what becomes of state when a script is loaded anew. */
#include "cmocka_all.h"

#include <math.h>
#include <stdio.h>

#include "base/err.h"
#include "state/codec.h"
#include "state/store.h"

static uint32_t seed = 7;

static unsigned roll(unsigned n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

static char text[64];

static struct mj_span name(unsigned i)
{
    return mj_span(text, (size_t)snprintf(text, sizeof text, "key%u", i));
}

static struct mj_value number(double n)
{
    return (struct mj_value){.type = MJ_VALUE_NUMBER, .number = n};
}

/* ---- maps ---- */

#define KEYS 60

struct model {
    bool there;
    enum mj_value_type type;
    double number;
    char value[40];
    int64_t written, ttl; /* of its own */
};

static bool lives(const struct model *m, int64_t ttl, int64_t now)
{
    int64_t t = m->ttl ? m->ttl : ttl;
    return m->there && (!t || m->written + t > now);
}

/* Room for a key that is not there: what has ended goes, then the one written longest ago. */
static void model_room(struct model *all, size_t max, int64_t ttl, int64_t now)
{
    size_t n = 0;
    struct model *oldest = NULL;
    for (size_t i = 0; i < KEYS; i++)
        if (lives(&all[i], ttl, now)) {
            n++;
            if (!oldest || all[i].written < oldest->written)
                oldest = &all[i];
        }
    if (n >= max)
        oldest->there = false;
}

static void check_map(struct mj_map *m, struct model *all, int64_t ttl, int64_t now)
{
    size_t count = 0, walked = 0;
    struct mj_value v;
    for (unsigned i = 0; i < KEYS; i++) {
        bool there = lives(&all[i], ttl, now);
        count += there;
        assert_int_equal(mj_map_get(m, name(i), now, &v), there);
        if (!there)
            continue;
        assert_int_equal(v.type, all[i].type);
        if (v.type == MJ_VALUE_NUMBER)
            assert_true(v.number == all[i].number);
        if (v.type == MJ_VALUE_TEXT)
            assert_true(mj_span_is(v.text, all[i].value));
    }
    struct mj_span at, next;
    for (int r = mj_map_after(m, NULL, now, &next, &v); r;
         at = next, r = mj_map_after(m, &at, now, &next, &v))
        walked += r == 1;
    assert_int_equal(walked, count);
    while (mj_cells_step(&m->cells, now, 100))
        ;
    assert_int_equal(mj_map_count(m), count);
}

static void set_both(struct mj_map *m, struct model *all, size_t max, int64_t ttl, int64_t now)
{
    unsigned k = roll(KEYS);
    struct model *e = &all[k];
    int64_t own = roll(3) ? 0 : 1 + roll(300);
    struct mj_value v = number(roll(100));
    if (!lives(e, ttl, now)) {
        e->there = false;
        model_room(all, max, ttl, now);
    }
    e->there = true;
    e->type = (enum mj_value_type)roll(4);
    e->written = now;
    e->ttl = own;
    e->number = v.number;
    v.type = e->type;
    snprintf(e->value, sizeof e->value, "%.*s", (int)roll(31),
             "abcdefghijklmnopqrstuvwxyz0123456789");
    v.text = mj_str(e->value);
    assert_int_equal(mj_map_set(m, name(k), &v, now, own), 0);
}

static void incr_both(struct mj_map *m, struct model *all, size_t max, int64_t ttl, int64_t now)
{
    unsigned k = roll(KEYS);
    struct model *e = &all[k];
    double by = (double)roll(10) - 4, sum;
    int err = mj_map_incr(m, name(k), by, now, &sum);
    if (lives(e, ttl, now) && e->type != MJ_VALUE_NUMBER) {
        assert_int_equal(err, MJ_ETYPE);
        return;
    }
    if (!lives(e, ttl, now)) {
        e->there = false;
        model_room(all, max, ttl, now);
        *e = (struct model){.there = true, .type = MJ_VALUE_NUMBER};
    }
    e->written = now;
    e->number += by;
    assert_int_equal(err, 0);
    assert_true(sum == e->number);
}

static void map_against_model(void **state)
{
    (void)state;
    for (int round = 0; round < 6; round++) {
        struct mj_state_budget budget = {0};
        struct mj_map m;
        struct model all[KEYS] = {0};
        size_t max = round % 2 ? 20 : 1000;
        int64_t ttl = round < 2 ? 0 : round < 4 ? 200 : 2000, now = 1000;
        assert_int_equal(mj_map_init(&m, &budget), 0);
        m.cells.max = max;
        m.cells.ttl_us = ttl;
        for (int i = 0; i < 30000; i++) {
            now++;
            switch (roll(8)) {
            case 0:
                if (roll(20) == 0)
                    now += roll(500);
                break;
            case 1: {
                unsigned k = roll(KEYS);
                assert_int_equal(mj_map_remove(&m, name(k), now), lives(&all[k], ttl, now));
                all[k].there = false;
                break;
            }
            case 2:
                if (roll(300) == 0) {
                    assert_int_equal(mj_cells_clear(&m.cells), 0);
                    memset(all, 0, sizeof all);
                }
                break;
            case 3:
            case 4:
                incr_both(&m, all, max, ttl, now);
                break;
            default:
                set_both(&m, all, max, ttl, now);
            }
            if (i % 50 == 0)
                check_map(&m, all, ttl, now);
        }
        mj_map_deinit(&m);
        assert_int_equal(budget.bytes, 0);
    }
}

/* A limit or a time to live that changes holds for what is there already, a few entries at a time.
 */
static void map_options_change(void **state)
{
    (void)state;
    struct mj_map m;
    struct mj_value v = number(1);
    mj_map_init(&m, NULL);
    for (unsigned i = 0; i < 1000; i++)
        mj_map_set(&m, name(i), &v, i, 0);
    m.cells.max = 10;
    mj_map_set(&m, name(2000), &v, 1000, 0);
    assert_int_equal(mj_map_count(&m), 999);
    while (mj_cells_step(&m.cells, 1000, 100))
        ;
    assert_int_equal(mj_map_count(&m), 10);
    assert_true(mj_map_get(&m, name(999), 1000, &v) && !mj_map_get(&m, name(3), 1000, &v));
    m.cells.ttl_us = 5;
    assert_true(mj_map_get(&m, name(999), 1003, &v));
    assert_false(mj_map_get(&m, name(999), 1004, &v));
    /* A clock that is set back makes nothing younger. */
    mj_map_set(&m, name(1), &v, 500, 0);
    assert_true(mj_map_get(&m, name(1), 1000, &v));
    assert_false(mj_map_get(&m, name(1), 1005, &v));
    mj_map_deinit(&m);
}

static void map_limits(void **state)
{
    (void)state;
    static uint8_t big[MJ_STATE_VALUE_MAX + 1];
    struct mj_state_budget budget = {.max = 1 << 20};
    struct mj_map m;
    double sum;
    mj_map_init(&m, &budget);
    struct mj_value v = {.type = MJ_VALUE_TEXT, .text = mj_span(big, sizeof big)};
    assert_int_equal(mj_map_set(&m, name(1), &v, 1, 0), MJ_EBIG);
    v.text.len--;
    assert_int_equal(mj_map_set(&m, mj_span(big, MJ_STATE_KEY_MAX + 1), &v, 1, 0), MJ_EBIG);
    assert_int_equal(mj_map_incr(&m, mj_span(big, MJ_STATE_KEY_MAX + 1), 1, 1, &sum), MJ_EBIG);
    assert_int_equal(mj_map_count(&m), 0);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(mj_map_set(&m, name(i), &v, i, 0), 0);
        assert_true(budget.bytes <= budget.max);
    }
    assert_int_equal(mj_map_count(&m), 15);
    assert_true(mj_map_get(&m, name(999), 999, &v));
    struct mj_map other; /* of the same script: it cannot make the first one give way */
    mj_map_init(&other, &budget);
    v = (struct mj_value){.type = MJ_VALUE_TEXT, .text = mj_span(big, MJ_STATE_VALUE_MAX)};
    assert_int_equal(mj_map_set(&other, name(1), &v, 1, 0), MJ_ELIMIT);
    assert_int_equal(mj_map_count(&other), 0);
    v = number(INFINITY);
    assert_int_equal(mj_map_set(&other, name(1), &v, 1, 0), 0);
    assert_int_equal(mj_map_incr(&other, name(1), -INFINITY, 1, &sum), MJ_EINVAL);
    assert_int_equal(mj_map_incr(&other, name(2), NAN, 1, &sum), MJ_EINVAL);
    assert_int_equal(mj_map_count(&other), 1);
    mj_map_deinit(&m);
    mj_map_deinit(&other);
    assert_int_equal(budget.bytes, 0);
}

/* A million keys: what one operation does is counted, not timed. A bucket holds a few items and one
 * more mark is set per insert, whatever the size; walks and clears are bounded by their step. */
static void a_million_keys(void **state)
{
    (void)state;
    struct mj_map m;
    struct mj_value v = number(1);
    mj_map_init(&m, NULL);
    m.cells.max = 1u << 20;
    for (unsigned i = 0; i < 1u << 20; i++) {
        uint64_t marks = mj_cells_table(&m.cells)->marks;
        assert_int_equal(mj_map_set(&m, name(i), &v, i, 0), 0);
        assert_true(mj_cells_table(&m.cells)->marks <= marks + 1);
    }
    assert_int_equal(mj_map_count(&m), 1u << 20);
    /* The longest way from a mark to the next. */
    unsigned longest = 0, run = 0;
    const struct mj_link *at = mj_cells_table(&m.cells)->parts[0];
    for (; at; at = at->next)
        if (at->order & 1)
            longest = ++run > longest ? run : longest;
        else
            run = 0;
    assert_true(longest < 20);
    for (unsigned i = 0; i < 1000; i++)
        mj_map_set(&m, name(2000000 + i), &v, 2000000, 0);
    assert_int_equal(mj_map_count(&m), 1u << 20);
    assert_int_equal(m.cells.evicted, 1000);
    assert_int_equal(mj_cells_clear(&m.cells), 0);
    assert_int_equal(mj_map_count(&m), 0);
    unsigned steps = 0;
    while (mj_cells_step(&m.cells, 0, 10000))
        steps++;
    assert_true(steps >= 100);
    mj_map_deinit(&m);
}

/* ---- zsets ---- */

struct scored {
    bool there;
    double score;
    int64_t written;
};

static bool is_above(const struct scored *all, unsigned a, unsigned b)
{
    if (all[a].score != all[b].score)
        return all[a].score > all[b].score;
    char x[32], y[32];
    snprintf(x, sizeof x, "key%u", a);
    snprintf(y, sizeof y, "key%u", b);
    return strcmp(x, y) < 0;
}

static void check_zset(struct mj_zset *z, const struct scored *all, int64_t now)
{
    size_t count = 0, ranks[KEYS] = {0};
    unsigned order[KEYS];
    for (unsigned a = 0; a < KEYS; a++) {
        if (!all[a].there)
            continue;
        count++;
        for (unsigned b = 0; b < KEYS; b++)
            ranks[a] += b != a && all[b].there && is_above(all, b, a);
        order[ranks[a]] = a;
    }
    assert_int_equal(mj_zset_count(z), count);
    double score;
    for (unsigned a = 0; a < KEYS; a++) {
        assert_int_equal(mj_zset_score(z, name(a), now, &score), all[a].there);
        assert_int_equal(mj_zset_rank(z, name(a), now), all[a].there ? ranks[a] + 1 : 0);
        if (all[a].there)
            assert_true(score == all[a].score);
    }
    struct mj_zset_entry e;
    struct mj_zset_cell *at = mj_zset_from_rank(z, 1);
    for (size_t i = 0; i < count; i++, at = mj_zset_down(at)) {
        assert_true(mj_zset_at(z, at, now, &e));
        assert_true(mj_span_eq(e.key, name(order[i])));
        assert_ptr_equal(at, mj_zset_from_rank(z, i + 1));
    }
    assert_null(at);
    assert_null(mj_zset_from_rank(z, count + 1));
    double least = roll(40);
    size_t from = 0;
    for (at = mj_zset_from_score(z, least); at; at = mj_zset_up(at)) {
        assert_true(mj_zset_at(z, at, now, &e));
        assert_true(e.score >= least);
        from++;
    }
    for (unsigned a = 0; a < KEYS; a++)
        from -= all[a].there && all[a].score >= least;
    assert_int_equal(from, 0);
}

static void zset_against_model(void **state)
{
    (void)state;
    struct mj_state_budget budget = {0};
    for (int round = 0; round < 3; round++) {
        struct mj_zset z;
        struct scored all[KEYS] = {0};
        size_t count = 0, max = round == 1 ? 15 : 1000;
        int64_t ttl = round == 2 ? 40 : 0;
        mj_zset_init(&z, &budget);
        z.cells.max = max;
        z.cells.ttl_us = ttl;
        for (int64_t now = 1; now < 20000; now++) {
            unsigned k = roll(KEYS);
            double score = (double)roll(50) - 10, out;
            while (mj_zset_step(&z, now, 10))
                ;
            for (unsigned i = 0; ttl && i < KEYS; i++)
                if (all[i].there && all[i].written + ttl <= now) {
                    all[i].there = false;
                    count--;
                }
            switch (roll(4)) {
            case 0:
                assert_int_equal(mj_zset_remove(&z, name(k), now), all[k].there);
                count -= all[k].there;
                all[k].there = false;
                break;
            case 1:
                assert_int_equal(mj_zset_incr(&z, name(k), score, now, &out), 0);
                score += all[k].there ? all[k].score : 0;
                assert_true(out == score);
                goto put;
            case 2:
                if (roll(500) == 0) {
                    assert_int_equal(mj_zset_clear(&z), 0);
                    memset(all, 0, sizeof all);
                    count = 0;
                }
                break;
            default:
                assert_int_equal(mj_zset_set(&z, name(k), score, now), 0);
            put:
                count += !all[k].there;
                all[k] = (struct scored){true, score, now};
                if (count > max) {
                    unsigned lowest = k;
                    for (unsigned i = 0; i < KEYS; i++)
                        if (all[i].there && is_above(all, lowest, i))
                            lowest = i;
                    all[lowest].there = false;
                    count--;
                }
            }
            if (now % 20 == 0)
                check_zset(&z, all, now);
        }
        double out;
        assert_int_equal(mj_zset_set(&z, name(1), NAN, 1), MJ_EINVAL);
        mj_zset_set(&z, name(1), INFINITY, 30000);
        assert_int_equal(mj_zset_incr(&z, name(1), -INFINITY, 30000, &out), MJ_EINVAL);
        assert_true(mj_zset_score(&z, name(1), 30000, &out) && out == INFINITY);
        mj_zset_deinit(&z);
        assert_int_equal(budget.bytes, 0);
    }
}

/* ---- tops ---- */

/* Keys with weights 1/1, 1/2, 1/3 … and a crowd that is seen once: the frequent ones are found, and
 * no count is too low, or too high by more than it says. */
static void top_counts(void **state)
{
    (void)state;
    enum { MANY = 2000 };
    struct mj_state_budget budget = {0};
    struct mj_top t;
    static int64_t real[MANY];
    double cumulated[MANY], sum = 0;
    for (int i = 0; i < MANY; i++)
        cumulated[i] = sum += 1.0 / (i + 1);
    mj_top_init(&t, 20, 0, &budget);
    for (int i = 0; i < 200000; i++) {
        if (i % 3 == 0) {
            assert_int_equal(mj_top_add(&t, name(1000000 + (unsigned)i), 1, 1), 0);
            continue;
        }
        double at = sum * roll(1 << 20) / (1 << 20);
        unsigned k = 0;
        while (cumulated[k] < at)
            k++;
        real[k] += 2;
        assert_int_equal(mj_top_add(&t, name(k), 2, 1), 0);
    }
    assert_int_equal(mj_top_count(&t), 400);
    assert_true(budget.bytes < 200000);
    const struct mj_top_entry *v;
    assert_int_equal(mj_top_list(&t, 20, 1, &v), 20);
    for (unsigned i = 0; i < 20; i++) {
        unsigned k;
        char key[32];
        snprintf(key, sizeof key, "%.*s", (int)v[i].key.len, (const char *)v[i].key.ptr);
        assert_int_equal(sscanf(key, "key%u", &k), 1);
        assert_true(k < 40); /* the first twenty, or as good as */
        assert_true(v[i].count >= real[k] && v[i].count - v[i].error <= real[k]);
        assert_true(!i || v[i].count <= v[i - 1].count);
        assert_true(i >= 5 || k == i);
    }
    assert_int_equal(mj_top_list(&t, 5, 1, &v), 5);
    mj_top_clear(&t);
    assert_int_equal(mj_top_list(&t, 5, 1, &v), 0);
    mj_top_deinit(&t);
    assert_int_equal(budget.bytes, 0);
}

/* Keys that some slices have a counter of and others have not, as they are summed up one by one. */
static void top_sums(void **state)
{
    (void)state;
    struct mj_top t;
    const struct mj_top_entry *v;
    static int64_t real[3000];
    uint64_t random = 1;
    memset(real, 0, sizeof real);
    mj_top_init(&t, 150, 1000, NULL);
    for (int i = 0; i < 40000; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        unsigned most = (unsigned)(random >> 40) % MJ_COUNT(real) + 1;
        unsigned key = (unsigned)(random >> 20 & 0xfffff) % most; /* the first ones mostly */
        real[key]++;
        assert_int_equal(mj_top_add(&t, name(key), 1, 10000 + i / 40), 0);
    }
    for (size_t n = 1; n <= 150; n += 149) {
        assert_int_equal(mj_top_list(&t, n, 10999, &v), n);
        for (size_t i = 0; i < n; i++) {
            int64_t key;
            assert_int_equal(mj_span_i64(mj_span(v[i].key.ptr + 3, v[i].key.len - 3), &key), 0);
            assert_true(v[i].error >= 0);
            assert_true(v[i].count >= real[key] && v[i].count - v[i].error <= real[key]);
            if (i)
                assert_true(
                    v[i - 1].count > v[i].count ||
                    (v[i - 1].count == v[i].count && mj_span_cmp(v[i - 1].key, v[i].key) < 0));
        }
    }
    int64_t first = v[0].count;
    assert_int_equal(mj_top_list(&t, 1, 10999, &v), 1);
    assert_int_equal(v[0].count, first);
    assert_int_equal(mj_top_list(&t, 0, 10999, &v), 0);
    mj_top_deinit(&t);
}

static void top_windows(void **state)
{
    (void)state;
    struct mj_top t;
    const struct mj_top_entry *v;
    mj_top_init(&t, 10, 1000, NULL);
    mj_top_add(&t, MJ_SPAN("a"), 5, 10050);
    mj_top_add(&t, MJ_SPAN("b"), 3, 10150);
    mj_top_add(&t, MJ_SPAN("a"), 1, 10950);
    assert_int_equal(mj_top_list(&t, 10, 10999, &v), 2);
    assert_true(mj_span_is(v[0].key, "a") && v[0].count == 6 && !v[0].error);
    assert_int_equal(mj_top_list(&t, 10, 11000, &v), 2);
    assert_true(mj_span_is(v[0].key, "b") && v[0].count == 3);
    assert_true(mj_span_is(v[1].key, "a") && v[1].count == 1);
    assert_int_equal(mj_top_list(&t, 10, 11100, &v), 1);
    assert_int_equal(mj_top_list(&t, 10, 20000, &v), 0);
    while (mj_top_step(&t, 20000, 1))
        ;
    assert_int_equal(mj_top_count(&t), 0);
    mj_top_add(&t, MJ_SPAN("c"), 1, 20000);
    mj_top_configure(&t, 10, 1000);
    assert_int_equal(mj_top_list(&t, 10, 20000, &v), 1);
    mj_top_configure(&t, 11, 1000);
    assert_int_equal(mj_top_list(&t, 10, 20000, &v), 0);
    static uint8_t big[MJ_STATE_KEY_MAX + 1];
    assert_int_equal(mj_top_add(&t, mj_span(big, sizeof big), 1, 1), MJ_EBIG);
    mj_top_deinit(&t);
    struct mj_state_budget budget = {.max = 100};
    mj_top_init(&t, 10, 0, &budget);
    assert_int_equal(mj_top_add(&t, mj_span(big, 100), 1, 1), MJ_ELIMIT);
    mj_top_deinit(&t);
}

/* ---- the store ---- */

static int64_t now_us = 1000000;

static int64_t fake_now(void *ctx)
{
    (void)ctx;
    return now_us;
}

static struct mj_store *open_store(void)
{
    struct mj_store *s;
    MJ_AUTO_BUF error = {0};
    struct mj_store_cfg cfg = {.now_us = fake_now};
    assert_int_equal(mj_store_open(&cfg, &s, &error), 0);
    return s;
}

static struct mj_state *plan_map(struct mj_plan *p, const char *key, uint64_t max)
{
    MJ_AUTO_BUF error = {0};
    struct mj_state *s;
    struct mj_state_options o = {.says_max = max != 0, .max = max};
    assert_int_equal(mj_plan_state(p, MJ_STATE_MAP, key, &o, &s, &error), 0);
    return s;
}

static void plans(void **state)
{
    (void)state;
    struct mj_store *store = open_store();
    struct mj_shelf *shelf = mj_store_shelf(store, "a.lua");
    assert_ptr_equal(mj_store_shelf(store, "a.lua"), shelf);
    assert_int_equal(mj_shelf_step(shelf, 1000), -1);
    struct mj_plan *first = mj_plan_new(shelf);
    struct mj_state *seen = plan_map(first, "seen", 0);
    assert_ptr_equal(plan_map(first, "seen", 0), seen);
    plan_map(first, "other", 0);
    MJ_AUTO_BUF error = {0};
    struct mj_state *s;
    struct mj_state_options o = {.says_max = true, .max = 5};
    assert_int_equal(mj_plan_state(first, MJ_STATE_MAP, "seen", &o, &s, &error), MJ_EINVAL);
    assert_string_equal(mj_buf_cstr(&error), "'seen' is declared already, with other options");
    error.len = 0;
    assert_int_equal(mj_plan_state(first, MJ_STATE_ZSET, "seen", &o, &s, &error), MJ_EINVAL);
    assert_string_equal(mj_buf_cstr(&error), "'seen' is declared already, as a map");
    mj_plan_commit(first);
    struct mj_value v = number(1);
    for (unsigned i = 0; i < 100; i++)
        mj_map_set(&seen->map, name(i), &v, now_us, 0);
    struct mj_state *kept = mj_state_ref(seen); /* as the VM's handle has it */
    mj_plan_free(first);

    /* A script that does not load changes nothing. */
    struct mj_plan *failed = mj_plan_new(shelf);
    assert_ptr_equal(plan_map(failed, "seen", 3), seen);
    mj_plan_free(failed);
    assert_int_equal(seen->cells.max, MJ_STATE_MAX_USUAL);

    struct mj_plan *second = mj_plan_new(shelf);
    assert_ptr_equal(plan_map(second, "seen", 10), seen);
    mj_plan_commit(second);
    mj_plan_free(second);
    assert_true(mj_shelf_step(shelf, 100000) > 0);
    assert_int_equal(mj_map_count(&seen->map), 10);

    /* Another type starts empty; whoever has the old one still has it. */
    struct mj_plan *third = mj_plan_new(shelf);
    error.len = 0;
    assert_int_equal(mj_plan_state(third, MJ_STATE_ZSET, "seen", &o, &s, &error), 0);
    mj_plan_commit(third);
    mj_plan_free(third);
    assert_int_equal(mj_zset_count(&s->zset), 0);
    assert_int_equal(mj_map_count(&kept->map), 10);
    mj_state_unref(kept);
    mj_shelf_step(shelf, 100000);

    /* Another script's state of that name is another. */
    struct mj_plan *theirs = mj_plan_new(mj_store_shelf(store, "b.lua"));
    assert_ptr_not_equal(plan_map(theirs, "seen", 0), s);
    mj_plan_commit(theirs);
    mj_plan_free(theirs);
    mj_store_close(store);
}

static void planned_sets(void **state)
{
    (void)state;
    struct mj_store *store = open_store();
    struct mj_sets *sets = mj_store_sets(store);
    struct mj_plan *p = mj_plan_new(mj_store_shelf(store, "a.lua"));
    MJ_AUTO_BUF error = {0};
    struct mj_set *a, *b;
    struct mj_state_options none = {0}, o = {.says_ttl = true, .ttl_us = 10};
    struct mj_members *m = mj_plan_members(p);
    mj_members_add(m, MJ_SPAN("x"));
    assert_int_equal(mj_plan_set(p, "vips", &o, m, &a, &error), 0);
    assert_int_equal(mj_plan_set(p, "vips", &none, NULL, &b, &error), 0);
    assert_ptr_equal(a, b);
    mj_set_unref(b);
    assert_int_equal(mj_plan_set(p, "vips", &o, NULL, &b, &error), MJ_EINVAL);
    assert_string_equal(mj_buf_cstr(&error),
                        "set 'vips' is declared already; after that, name it without more");
    assert_null(mj_sets_get(sets, MJ_SPAN("vips")));
    assert_int_equal(mj_set_count(a), 0);
    mj_plan_commit(p);
    mj_plan_free(p);
    b = mj_sets_get(sets, MJ_SPAN("vips"));
    assert_ptr_equal(a, b);
    assert_true(mj_set_has(a, MJ_SPAN("x")));
    mj_set_add(a, MJ_SPAN("y"));
    assert_true(mj_store_step(store, 1000) > 0);
    now_us += 10;
    mj_store_step(store, 1000);
    assert_true(mj_set_has(a, MJ_SPAN("x")) && !mj_set_has(a, MJ_SPAN("y")));
    mj_set_unref(a);
    mj_set_unref(b);
    mj_store_close(store);
}

static void encoded(void **state)
{
    (void)state;
    MJ_AUTO_BUF out = {0};
    static const enum mj_codec_type types[] = {MJ_CODEC_NUMBER, MJ_CODEC_TEXT,   MJ_CODEC_TRUE,
                                               MJ_CODEC_FALSE,  MJ_CODEC_MEMBER, MJ_CODEC_SCORE};
    for (size_t i = 0; i < MJ_COUNT(types); i++) {
        struct mj_codec_cell got, cell = {.key = MJ_SPAN("k\0ey"),
                                          .type = types[i],
                                          .written = 1234567890123456,
                                          .ttl_us = 77};
        if (types[i] == MJ_CODEC_NUMBER || types[i] == MJ_CODEC_SCORE)
            cell.number = -0.1;
        if (types[i] == MJ_CODEC_TEXT)
            cell.text = MJ_SPAN("value");
        out.len = 0;
        mj_codec_put(&out, &cell);
        assert_int_equal(mj_codec_take(mj_buf_span(&out), &got), 0);
        assert_true(mj_span_eq(got.key, cell.key) && mj_span_eq(got.text, cell.text) &&
                    got.number == cell.number && got.written == cell.written &&
                    got.ttl_us == cell.ttl_us && got.type == cell.type);
        for (size_t cut = 0; cut < 23; cut++)
            assert_int_equal(mj_codec_take(mj_span(out.ptr, cut), &got), MJ_ETRUNC);
        mj_buf_putc(&out, 'x');
        if (types[i] != MJ_CODEC_TEXT)
            assert_int_equal(mj_codec_take(mj_buf_span(&out), &got), MJ_ETRAILING);
        out.ptr[0] = 'X';
        assert_int_equal(mj_codec_take(mj_buf_span(&out), &got), MJ_ETYPE);
    }
    static uint8_t big[MJ_STATE_KEY_MAX];
    uint8_t a[MJ_CODEC_KEY_MAX], b[MJ_CODEC_KEY_MAX];
    assert_int_equal(mj_codec_key(5, mj_span(big, 471), a), 480);
    assert_int_equal(mj_codec_key(5, mj_span(big, 472), a), 41);
    assert_int_equal(mj_codec_key(5, mj_span(big, 473), b), 41);
    assert_memory_not_equal(a, b, 41);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(map_against_model),
                                       cmocka_unit_test(map_options_change),
                                       cmocka_unit_test(map_limits),
                                       cmocka_unit_test(a_million_keys),
                                       cmocka_unit_test(zset_against_model),
                                       cmocka_unit_test(top_counts),
                                       cmocka_unit_test(top_sums),
                                       cmocka_unit_test(top_windows),
                                       cmocka_unit_test(plans),
                                       cmocka_unit_test(planned_sets),
                                       cmocka_unit_test(encoded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
