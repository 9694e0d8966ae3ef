/* Sets: what they hold against a naive list, under random edits; the file format; what givers give;
 * ends and limits; and readers on other threads while a writer edits, clears and grows it. */
#include "cmocka_all.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/hash.h"
#include "state/epoch.h"
#include "state/set_internal.h"
#include "state/sets.h"

static int64_t now = 1000000;

static int64_t fake_now(void *ctx)
{
    (void)ctx;
    return now;
}

static uint32_t seed = 1;

static unsigned roll(unsigned n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

static struct mj_set *fresh(void)
{
    struct mj_set *s = mj_set_new(fake_now, NULL, NULL);
    assert_non_null(s);
    return s;
}

static size_t walk(struct mj_set *s)
{
    MJ_AUTO_BUF at = {0};
    size_t n = 0;
    int r;
    while ((r = mj_set_after(s, n || at.len ? mj_buf_span(&at) : mj_span(NULL, 0), &at)) != 0) {
        if (r == 1) {
            assert_true(mj_set_has(s, mj_buf_span(&at)));
            n++;
        }
    }
    return n;
}

static void against_a_list(void **state)
{
    (void)state;
    enum { N = 500 };
    bool there[N] = {false};
    size_t count = 0;
    struct mj_set *s = fresh();
    for (int i = 0; i < 200000; i++) {
        char text[32];
        unsigned k = roll(N);
        struct mj_span span = mj_span(text, (size_t)snprintf(text, sizeof text, "did:web:%u", k));
        uint64_t version = mj_set_version(s);
        bool change = false;
        switch (roll(i % 20000 < 15000 ? 4 : 5)) {
        case 0:
        case 1:
            assert_int_equal(mj_set_add(s, span), !there[k]);
            change = !there[k];
            count += change;
            there[k] = true;
            break;
        case 2:
            assert_int_equal(mj_set_remove(s, span), there[k]);
            change = there[k];
            count -= change;
            there[k] = false;
            break;
        case 4:
            if (roll(1000) == 0) {
                assert_int_equal(mj_set_clear(s), 0);
                memset(there, 0, sizeof there);
                count = 0;
                change = true;
            }
            break;
        default:
            assert_int_equal(mj_set_has(s, span), there[k]);
            if (there[k])
                assert_true(mj_set_may_have(s, (uint32_t)mj_hash(span)));
        }
        assert_int_equal(mj_set_version(s) > version, change);
        assert_int_equal(mj_set_count(s), count);
        if (i % 5000 == 0) {
            assert_int_equal(walk(s), count);
            mj_set_step(s, 100);
        }
    }
    mj_set_unref(s);
}

/* Half of the hash says no to nearly all that is not there. */
static void half_a_hash(void **state)
{
    (void)state;
    struct mj_set *s = fresh();
    char text[32];
    for (int i = 0; i < 100000; i++)
        assert_int_equal(
            mj_set_add(s, mj_span(text, (size_t)snprintf(text, sizeof text, "did:web:in%d", i))),
            1);
    int wrong = 0;
    for (int i = 0; i < 100000; i++) {
        struct mj_span in = mj_span(text, (size_t)snprintf(text, sizeof text, "did:web:in%d", i));
        assert_true(mj_set_may_have(s, (uint32_t)mj_hash(in)));
        assert_true(mj_set_has(s, in));
        struct mj_span out = mj_span(text, (size_t)snprintf(text, sizeof text, "did:web:no%d", i));
        assert_false(mj_set_has(s, out));
        wrong += mj_set_may_have(s, (uint32_t)mj_hash(out));
    }
    assert_true(wrong < 50); /* 100,000 of 2^32: two or three */
    assert_int_equal(walk(s), 100000);
    mj_set_unref(s);
}

static void limits_and_ends(void **state)
{
    (void)state;
    struct mj_set *s = fresh();
    char big[MJ_STATE_KEY_MAX + 1] = {1};
    assert_int_equal(mj_set_add(s, mj_span(big, sizeof big)), MJ_EBIG);
    assert_int_equal(mj_set_add(s, mj_span(big, sizeof big - 1)), 1);
    assert_int_equal(mj_set_add(s, mj_span("", 0)), MJ_EINVAL);
    assert_int_equal(mj_set_clear(s), 0);
    struct mj_state_options o = {.says_max = true, .max = 3, .says_ttl = true, .ttl_us = 100};
    mj_set_configure(s, &o);
    mj_set_add(s, MJ_SPAN("a"));
    now += 10;
    mj_set_add(s, MJ_SPAN("b"));
    mj_set_add(s, MJ_SPAN("c"));
    mj_set_add(s, MJ_SPAN("a")); /* the newest again */
    mj_set_add(s, MJ_SPAN("d")); /* b makes room */
    assert_int_equal(mj_set_count(s), 3);
    assert_false(mj_set_has(s, MJ_SPAN("b")));
    assert_true(mj_set_has(s, MJ_SPAN("a")));
    uint64_t version = mj_set_version(s);
    now += 99;
    mj_set_add(s, MJ_SPAN("d"));
    assert_true(mj_set_has(s, MJ_SPAN("a")));
    now++;
    mj_set_step(s, 0); /* readers see the time of the last step */
    assert_false(mj_set_has(s, MJ_SPAN("a")));
    assert_int_equal(mj_set_count(s), 3);
    mj_set_step(s, 100);
    assert_int_equal(mj_set_count(s), 1);
    assert_true(mj_set_version(s) > version);
    o = (struct mj_state_options){.says_ttl = true};
    mj_set_configure(s, &o);
    now += 1000000;
    mj_set_step(s, 100);
    assert_true(mj_set_has(s, MJ_SPAN("d")));
    mj_set_unref(s);

    struct mj_state_budget budget = {.max = 4096};
    s = mj_set_new(fake_now, NULL, &budget);
    char text[16];
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(mj_set_add(s, mj_span(text, (size_t)snprintf(text, 16, "%d", i))), 1);
        assert_true(budget.bytes <= budget.max);
    }
    assert_true(mj_set_has(s, MJ_SPAN("999")) && !mj_set_has(s, MJ_SPAN("0")));
    assert_int_equal(mj_set_add(s, mj_span(big, sizeof big - 1)), MJ_ELIMIT);
    mj_set_unref(s);
    assert_int_equal(budget.bytes, 0);
}

static void parse(struct mj_members *m, const char *text, const char *want)
{
    MJ_AUTO_BUF error = {0};
    int err = mj_members_parse(m, mj_str(text), &error);
    assert_int_equal(err != 0, want != NULL);
    assert_string_equal(mj_buf_cstr(&error), want ? want : "");
}

static void give(struct mj_set *s, const char *giver, const char *text)
{
    struct mj_members m = {0};
    parse(&m, text, NULL);
    assert_int_equal(mj_set_give(s, giver, &m), 0);
    assert_int_equal(m.count, 0);
}

static bool has(struct mj_set *s, const char *text) { return mj_set_has(s, mj_str(text)); }

static void files(void **state)
{
    (void)state;
    struct mj_members m = {0};
    parse(&m, "\xef\xbb\xbf# all\n  did:a \r\n\n\tdid:b # second\n#c\n#\nx#y\n  # no\nlast", NULL);
    static const char *const want[] = {"did:a", "did:b", "x#y", "last"};
    struct mj_span rest = mj_buf_span(&m.bytes), text;
    assert_int_equal(m.count, MJ_COUNT(want));
    for (size_t i = 0; i < MJ_COUNT(want); i++) {
        assert_true(mj_members_next(&rest, &text));
        assert_true(mj_span_is(text, want[i]));
    }
    assert_false(mj_members_next(&rest, &text));
    MJ_AUTO_BUF error = {0};
    assert_int_equal(mj_members_parse(&m, MJ_SPAN("a\nb\0c\n"), &error), MJ_ESYNTAX);
    assert_string_equal(mj_buf_cstr(&error), "line 2: a zero byte; this is not a text file");
    MJ_AUTO_BUF big = {0};
    mj_buf_puts(&big, "\n\n");
    for (int i = 0; i < 4097; i++)
        mj_buf_putc(&big, 'x');
    error.len = 0;
    assert_int_equal(mj_members_parse(&m, mj_buf_span(&big), &error), MJ_EBIG);
    assert_string_equal(mj_buf_cstr(&error),
                        "line 3: a member of 4097 bytes; at most 4096 are allowed");
    error.len = 0;
    assert_int_equal(mj_members_read(&m, "/nonexistent/vips.txt", &error), MJ_EIO);
    assert_string_equal(mj_buf_cstr(&error),
                        "cannot read /nonexistent/vips.txt: No such file or directory");
    error.len = 0;
    assert_int_equal(mj_members_read(&m, "/", &error), MJ_EIO);
    assert_string_equal(mj_buf_cstr(&error), "cannot read /: Is a directory");
    char path[] = "/tmp/moonjet-set-XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "one\ntwo\n", 8), 8);
    close(fd);
    mj_members_deinit(&m);
    error.len = 0;
    assert_int_equal(mj_members_read(&m, path, &error), 0);
    assert_int_equal(m.count, 2);
    unlink(path);
    mj_members_deinit(&m);
}

static void givers(void **state)
{
    (void)state;
    struct mj_set *s = fresh();
    struct mj_state_options o = {.says_max = true, .max = 1, .says_ttl = true, .ttl_us = 10};
    mj_set_configure(s, &o);
    mj_set_add(s, MJ_SPAN("b"));
    give(s, "one.lua", "a\nb\nc\n");
    give(s, "two.lua", "c\nd\n");
    mj_set_add(s, MJ_SPAN("live"));
    mj_set_add(s, MJ_SPAN("a")); /* given it stays, and does not count */
    now += 1000;
    mj_set_step(s, 100);
    assert_true(has(s, "a") && has(s, "b") && has(s, "c") && has(s, "d") && !has(s, "live"));
    mj_set_add(s, MJ_SPAN("live"));
    mj_set_remove(s, MJ_SPAN("a"));
    give(s, "one.lua", "a\nb\nc\n"); /* the same: a live edit stands */
    assert_false(has(s, "a"));
    give(s, "one.lua", "e\nb\n");
    assert_true(!has(s, "a") && has(s, "b") && has(s, "c") && has(s, "d") && has(s, "e"));
    give(s, "two.lua", "");
    assert_true(!has(s, "c") && !has(s, "d") && has(s, "e") && has(s, "live"));
    assert_int_equal(mj_set_count(s), 3);
    give(s, "one.lua", "");
    assert_int_equal(mj_set_count(s), 1);
    for (int i = 2; i < MJ_SET_GIVERS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d.lua", i);
        give(s, name, "x");
    }
    struct mj_members m = {0};
    parse(&m, "y", NULL);
    assert_int_equal(mj_set_give(s, "more.lua", &m), MJ_ELIMIT);
    mj_set_unref(s);

    /* A long list that changes does so step by step; live edits and clears come in between. */
    s = fresh();
    MJ_AUTO_BUF text = {0};
    for (int i = 0; i < 30000; i++)
        mj_buf_printf(&text, "old%d\n", i);
    give(s, "x", mj_buf_cstr(&text));
    assert_int_equal(mj_set_count(s), 30000);
    text.len = 0;
    for (int i = 0; i < 30000; i++)
        mj_buf_printf(&text, "new%d\n", i);
    give(s, "x", mj_buf_cstr(&text));
    assert_int_equal(mj_set_count(s), 40000);
    mj_set_add(s, MJ_SPAN("live"));
    int steps = 0;
    while (mj_set_step(s, 1000))
        steps++;
    assert_true(steps > 60 && steps < 200);
    assert_int_equal(mj_set_count(s), 30001);
    assert_true(has(s, "live") && has(s, "new29999") && !has(s, "old3"));
    text.len = 0;
    for (int i = 0; i < 30000; i++)
        mj_buf_printf(&text, "next%d\n", i);
    give(s, "x", mj_buf_cstr(&text));
    mj_set_clear(s);
    mj_set_add(s, MJ_SPAN("after"));
    while (mj_set_step(s, 1000))
        ;
    assert_int_equal(mj_set_count(s), 1);
    assert_true(has(s, "after"));
    mj_set_unref(s);
}

/* A live edit stands against what is still being given. */
static void edits_while_given(void **state)
{
    (void)state;
    MJ_AUTO_BUF text = {0};
    struct mj_set *s = fresh();
    give(s, "x", "last\nstays");
    for (int i = 0; i < 30000; i++)
        mj_buf_printf(&text, "m%d\n", i);
    mj_buf_puts(&text, "last\nback\nstays\nm2\n");
    give(s, "x", mj_buf_cstr(&text));
    assert_true(has(s, "last") && has(s, "m2") && !has(s, "m29999"));
    assert_int_equal(mj_set_remove(s, MJ_SPAN("last")), 1);
    assert_int_equal(mj_set_remove(s, MJ_SPAN("last")), 0);
    assert_int_equal(mj_set_remove(s, MJ_SPAN("m29999")), 0); /* has not come yet */
    assert_int_equal(mj_set_remove(s, MJ_SPAN("m2")), 1);     /* comes again */
    assert_int_equal(mj_set_remove(s, MJ_SPAN("back")), 0);
    assert_int_equal(mj_set_add(s, MJ_SPAN("back")), 1);
    while (mj_set_step(s, 1000))
        ;
    assert_true(!has(s, "last") && !has(s, "m29999") && !has(s, "m2"));
    assert_true(has(s, "back") && has(s, "stays") && has(s, "m29998"));
    assert_int_equal(mj_set_count(s), 30000);
    give(s, "x", "last\nm2"); /* other members: now they count again */
    while (mj_set_step(s, 1000))
        ;
    assert_true(has(s, "last") && has(s, "m2") && !has(s, "stays"));
    /* Ends in the middle. */
    give(s, "x", mj_buf_cstr(&text));
    mj_set_remove(s, MJ_SPAN("back"));
    mj_set_unref(s);
}

static int replace(struct mj_set *s, const char *text)
{
    struct mj_members m = {0};
    parse(&m, text, NULL);
    int err = mj_set_replace(s, &m);
    mj_members_deinit(&m);
    return err;
}

static void replacing(void **state)
{
    (void)state;
    struct mj_set *s = fresh();
    mj_set_add(s, MJ_SPAN("a"));
    give(s, "one.lua", "b\nc\n");
    uint64_t version = mj_set_version(s);
    assert_int_equal(replace(s, "d\nb\na\n"), 0);
    assert_true(mj_set_version(s) > version);
    assert_true(has(s, "a") && has(s, "b") && has(s, "d") && !has(s, "c"));
    assert_int_equal(mj_set_count(s), 3);
    assert_int_equal(walk(s), 3);
    version = mj_set_version(s);
    assert_int_equal(replace(s, "d\nb\na\n"), 0);
    assert_int_equal(mj_set_version(s), version);
    give(s, "one.lua", "b\nc\n"); /* the same: the replacement stands */
    assert_false(has(s, "c"));
    give(s, "one.lua", "e\n"); /* b is not given any more, but live */
    assert_true(has(s, "b") && has(s, "e"));

    /* They end and make room as live members do, in the file's order; b was given once. */
    struct mj_state_options o = {.says_max = true, .max = 3, .says_ttl = true, .ttl_us = 100};
    mj_set_configure(s, &o);
    assert_int_equal(replace(s, "w\nx\ny\nz\n"), MJ_ELIMIT);
    assert_true(mj_set_count(s) == 4 && has(s, "a"));
    assert_int_equal(replace(s, "a\nx\nb\n"), 0);
    assert_int_equal(mj_set_count(s), 3);
    assert_int_equal(s->cells.evicted, 0);
    mj_set_add(s, MJ_SPAN("y"));
    assert_true(!has(s, "a") && has(s, "x") && has(s, "b") && has(s, "y"));
    now += 100;
    assert_int_equal(replace(s, "b\nz\n"), 0); /* b had ended */
    assert_true(has(s, "b") && has(s, "z"));
    now += 99;
    mj_set_step(s, 100);
    assert_int_equal(mj_set_count(s), 2);
    assert_int_equal(replace(s, ""), 0);
    assert_int_equal(mj_set_count(s), 0);

    /* What was being given step by step does not come in afterwards, nor does its end take away. */
    MJ_AUTO_BUF text = {0};
    give(s, "x", "old");
    for (int i = 0; i < 30000; i++)
        mj_buf_printf(&text, "given%d\n", i);
    give(s, "x", mj_buf_cstr(&text));
    assert_int_equal(replace(s, "given3\ngiven29999\n"), 0);
    while (mj_set_step(s, 1000))
        ;
    assert_true(has(s, "given3") && has(s, "given29999"));
    assert_int_equal(mj_set_count(s), 2);
    mj_set_unref(s);

    struct mj_state_budget budget = {.max = 8192};
    s = mj_set_new(fake_now, NULL, &budget);
    text.len = 0;
    for (int i = 0; i < 1000; i++)
        mj_buf_printf(&text, "%d\n", i);
    assert_int_equal(replace(s, mj_buf_cstr(&text)), MJ_ELIMIT);
    assert_true(budget.bytes <= budget.max);
    assert_int_equal(replace(s, "a\nb\n"), 0);
    assert_int_equal(mj_set_count(s), 2);
    mj_set_unref(s);
    assert_int_equal(budget.bytes, 0);
}

static void names(void **state)
{
    (void)state;
    struct mj_sets *sets = mj_sets_new(fake_now, NULL, 0);
    MJ_AUTO_BUF text = {0};
    struct mj_set *b = mj_sets_make(sets, "b"), *a = mj_sets_make(sets, "a");
    assert_null(mj_sets_get(sets, MJ_SPAN("b")));
    mj_sets_names(sets, &text);
    assert_string_equal(mj_buf_cstr(&text), "none");
    mj_sets_declare(sets, b);
    mj_sets_declare(sets, a);
    text.len = 0;
    mj_sets_names(sets, &text);
    assert_string_equal(mj_buf_cstr(&text), "a, b");
    struct mj_set *again = mj_sets_get(sets, MJ_SPAN("b"));
    assert_ptr_equal(again, b);
    assert_string_equal(mj_set_name(b), "b");
    assert_null(mj_sets_get(sets, MJ_SPAN("c")));
    assert_null(mj_sets_get(NULL, MJ_SPAN("c")));
    assert_false(mj_sets_step(sets, 100));
    mj_set_unref(a);
    mj_set_unref(b);
    mj_set_unref(again);
    mj_sets_free(sets);
    assert_true(mj_state_name_valid(MJ_SPAN("Vips_2")));
    assert_false(mj_state_name_valid(MJ_SPAN("2vips")));
    assert_false(mj_state_name_valid(MJ_SPAN("v-ips")));
    assert_false(mj_state_name_valid(MJ_SPAN("")));
}

/* ---- threads ---- */

static struct mj_set *shared;
static _Atomic bool over;
static _Atomic unsigned reading;

static void *reader(void *arg)
{
    size_t *found = arg;
    char text[32];
    atomic_fetch_add(&reading, 1);
    while (!atomic_load(&over)) {
        mj_epoch_enter();
        for (unsigned i = 0; i < 200; i++) {
            /* Those that are never removed are there, whatever goes on around them. */
            struct mj_span stay = mj_span(text, (size_t)snprintf(text, 32, "stay%u", i));
            if (!mj_set_has(shared, stay) || !mj_set_may_have(shared, (uint32_t)mj_hash(stay)))
                *found = SIZE_MAX;
            struct mj_span go = mj_span(text, (size_t)snprintf(text, 32, "go%u", i * 7));
            if (*found != SIZE_MAX)
                *found += mj_set_has(shared, go);
            if (mj_set_has(shared, mj_span(text, (size_t)snprintf(text, 32, "never%u", i))))
                *found = SIZE_MAX;
        }
        mj_epoch_leave();
    }
    return NULL;
}

static void *writer(void *arg)
{
    char text[32];
    uint32_t *own = arg;
    while (!atomic_load(&reading))
        usleep(100);
    for (int i = 0; i < 60000; i++) {
        *own = *own * 1664525 + 1013904223;
        struct mj_span go = mj_span(text, (size_t)snprintf(text, 32, "go%u", (*own >> 8) % 5000));
        if (*own >> 31)
            mj_set_add(shared, go);
        else
            mj_set_remove(shared, go);
        if (i % 1000 == 0)
            mj_set_step(shared, 1000);
    }
    return NULL;
}

static void threads(void **state)
{
    (void)state;
    pthread_t readers[2], writers[2];
    size_t found[2] = {0};
    uint32_t seeds[2] = {1, 2};
    char text[32];
    shared = fresh();
    for (unsigned i = 0; i < 200; i++)
        mj_set_add(shared, mj_span(text, (size_t)snprintf(text, 32, "stay%u", i)));
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, reader, &found[i]), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, writer, &seeds[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
    atomic_store(&over, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(readers[i], NULL);
        assert_true(found[i] != SIZE_MAX);
    }
    mj_set_step(shared, 10000);
    mj_set_unref(shared);
}

/* Clearing takes the whole table away under the readers. */
static void *clear_reader(void *arg)
{
    size_t *rounds = arg;
    while (!atomic_load(&over)) {
        bool before = mj_set_has(shared, MJ_SPAN("a"));
        (void)before;
        ++*rounds;
    }
    return NULL;
}

static void clearing(void **state)
{
    (void)state;
    pthread_t t;
    size_t rounds = 0;
    char text[32];
    atomic_store(&over, false);
    shared = fresh();
    assert_int_equal(pthread_create(&t, NULL, clear_reader, &rounds), 0);
    for (int i = 0; i < 300; i++) {
        mj_set_add(shared, MJ_SPAN("a"));
        for (int k = 0; k < 100; k++)
            mj_set_add(shared, mj_span(text, (size_t)snprintf(text, 32, "%d", k)));
        mj_set_clear(shared);
        mj_set_step(shared, 1000);
    }
    atomic_store(&over, true);
    pthread_join(t, NULL);
    mj_set_unref(shared);
}

/* Members that are in the old content and in the new one. */
static void *stay_reader(void *arg)
{
    size_t *missed = arg;
    char text[32];
    atomic_fetch_add(&reading, 1);
    while (!atomic_load(&over))
        for (unsigned i = 0; i < 100; i++) {
            struct mj_span stay = mj_span(text, (size_t)snprintf(text, 32, "stay%u", i));
            *missed += !mj_set_has(shared, stay);
        }
    return NULL;
}

static void replacing_while_read(void **state)
{
    (void)state;
    pthread_t t;
    size_t missed = 0;
    struct mj_members contents[2] = {{{0}}};
    char text[32];
    struct mj_state_options o = {.says_max = true, .max = 500};
    atomic_store(&over, false);
    atomic_store(&reading, 0);
    shared = fresh();
    mj_set_configure(shared, &o);
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 500; k++) {
            int n = k < 400 ? snprintf(text, 32, "%s%d", i ? "odd" : "even", k)
                            : snprintf(text, 32, "stay%d", k - 400);
            mj_members_add(&contents[i], mj_span(text, (size_t)n));
        }
    assert_int_equal(mj_set_replace(shared, &contents[0]), 0);
    assert_int_equal(pthread_create(&t, NULL, stay_reader, &missed), 0);
    while (!atomic_load(&reading))
        usleep(100);
    for (int i = 1; i < 600; i++) {
        assert_int_equal(mj_set_replace(shared, &contents[i % 2]), 0);
        assert_int_equal(mj_set_count(shared), 500);
        mj_set_step(shared, 1000);
    }
    atomic_store(&over, true);
    pthread_join(t, NULL);
    assert_int_equal(missed, 0);
    assert_int_equal(walk(shared), 500);
    mj_members_deinit(&contents[0]);
    mj_members_deinit(&contents[1]);
    mj_set_unref(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(against_a_list),
                                       cmocka_unit_test(half_a_hash),
                                       cmocka_unit_test(limits_and_ends),
                                       cmocka_unit_test(files),
                                       cmocka_unit_test(givers),
                                       cmocka_unit_test(names),
                                       cmocka_unit_test(edits_while_given),
                                       cmocka_unit_test(replacing),
                                       cmocka_unit_test(replacing_while_read),
                                       cmocka_unit_test(threads),
                                       cmocka_unit_test(clearing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
