/* The inbox alone: order, bounds, what goes when it is full. */
#include <stdio.h>

#include "cmocka_all.h"

#include "script/inbox.h"

static struct mj_kept *event(const char *did, int64_t seq)
{
    struct mj_event ev = {.kind = MJ_KIND_IDENTITY, .seq = seq, .did = mj_str(did)};
    return mj_kept_new(&ev);
}

static size_t put(struct mj_inbox *in, const char *did, int64_t seq)
{
    struct mj_kept *k = event(did, seq);
    size_t dropped = mj_inbox_put(in, &k, 1);
    mj_kept_unref(k);
    return dropped;
}

static int64_t take(struct mj_inbox *in, struct mj_letter **out)
{
    struct mj_letter *l = mj_inbox_take(in);
    if (out)
        *out = l;
    return l ? l->events[0]->ev.seq : -1;
}

static void accounts_stay_in_order(void **state)
{
    (void)state;
    struct mj_inbox *in = mj_inbox_new(&(struct mj_inbox_cfg){.max = 10, .max_bytes = 1 << 20});
    struct mj_letter *a, *b, *c;
    put(in, "did:a", 1);
    put(in, "did:a", 2);
    put(in, "did:b", 3);
    put(in, "did:a", 4);
    put(in, "did:c", 5);
    assert_int_equal(mj_inbox_count(in), 5);
    assert_int_equal(take(in, &a), 1);
    assert_int_equal(take(in, &b), 3); /* a's next waits */
    assert_int_equal(take(in, &c), 5);
    assert_int_equal(take(in, NULL), -1);
    assert_int_equal(mj_inbox_busy(in), 3);
    mj_inbox_done(in, b);
    assert_int_equal(take(in, NULL), -1);
    mj_inbox_done(in, a);
    put(in, "did:b", 6);
    assert_int_equal(take(in, &a), 2); /* the oldest first */
    assert_int_equal(take(in, &b), 6);
    mj_inbox_done(in, a);
    assert_int_equal(take(in, &a), 4);
    mj_inbox_done(in, a);
    mj_inbox_done(in, b);
    mj_inbox_done(in, c);
    assert_int_equal(mj_inbox_count(in) + mj_inbox_busy(in), 0);
    mj_inbox_free(in);
}

static void full(void **state)
{
    (void)state;
    struct mj_inbox *in = mj_inbox_new(&(struct mj_inbox_cfg){.max = 3, .max_bytes = 1 << 20});
    struct mj_letter *l;
    for (int i = 1; i <= 5; i++)
        assert_int_equal(put(in, "did:a", i), i > 3);
    assert_int_equal(take(in, &l), 1);
    assert_int_equal(put(in, "did:a", 6), 0);
    mj_inbox_free(in);

    in = mj_inbox_new(&(struct mj_inbox_cfg){.max = 3, .max_bytes = 1 << 20, .drop_old = true});
    put(in, "did:a", 1);
    assert_int_equal(take(in, &l), 1);
    put(in, "did:a", 2); /* of an account that is in work */
    put(in, "did:b", 3);
    put(in, "did:a", 4);
    assert_int_equal(put(in, "did:c", 5), 1);
    assert_int_equal(put(in, "did:d", 6), 1);
    struct mj_letter *other;
    assert_int_equal(take(in, &other), 5);
    mj_inbox_done(in, l);
    assert_int_equal(take(in, &l), 4);
    assert_int_equal(mj_inbox_busy_events(in), 2);
    mj_inbox_free(in); /* with letters in work */

    in = mj_inbox_new(&(struct mj_inbox_cfg){.max = 1000, .max_bytes = 4096});
    int n = 0;
    while (!put(in, "did:a", n))
        n++;
    assert_in_range(n, 4, 30);
    mj_inbox_free(in);
}

static void lists(void **state)
{
    (void)state;
    struct mj_inbox *in = mj_inbox_new(
        &(struct mj_inbox_cfg){.max = 5, .max_bytes = 1 << 20, .order = MJ_ORDER_TOTAL});
    struct mj_kept *list[3] = {event("did:a", 1), event("did:b", 2), event("did:c", 3)};
    struct mj_letter *l;
    assert_int_equal(mj_inbox_put(in, list, 3), 0);
    assert_int_equal(mj_inbox_put(in, list, 2), 0);
    assert_int_equal(mj_inbox_put(in, list, 1), 1);
    assert_int_equal(take(in, &l), 1);
    assert_int_equal(l->n, 3);
    assert_int_equal(take(in, NULL), -1); /* one after the other */
    mj_inbox_done(in, l);
    assert_int_equal(take(in, &l), 1);
    assert_int_equal(l->n, 2);
    mj_inbox_free(in);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(list[i]->refs, 1);
        mj_kept_unref(list[i]);
    }
}

/* Random puts, takes and dones: per account nothing overtakes, and nothing is lost. */
static void many(void **state)
{
    (void)state;
    static struct mj_letter *work[64];
    static int64_t last[200];
    size_t working = 0, in_count = 0, out_count = 0, dropped = 0;
    struct mj_inbox *in =
        mj_inbox_new(&(struct mj_inbox_cfg){.max = 500, .max_bytes = 1 << 30, .drop_old = true});
    uint32_t rng = 1;
    for (int64_t i = 1; i < 200000; i++) {
        rng = rng * 1664525 + 1013904223;
        uint32_t r = rng >> 8;
        if (r % 100 < 45) {
            char did[16];
            snprintf(did, sizeof did, "did:%u", r / 100 % 200);
            in_count++;
            dropped += put(in, did, i);
        } else if (r % 100 < 70 && working < 64) {
            struct mj_letter *l = mj_inbox_take(in);
            if (!l)
                continue;
            const struct mj_event *ev = &l->events[0]->ev;
            int64_t account;
            assert_int_equal(mj_span_i64(mj_span(ev->did.ptr + 4, ev->did.len - 4), &account), 0);
            for (size_t k = 0; k < working; k++)
                assert_false(mj_span_eq(work[k]->events[0]->ev.did, ev->did));
            assert_true(ev->seq > last[account]);
            last[account] = ev->seq;
            work[working++] = l;
        } else if (working) {
            size_t k = r % working;
            mj_inbox_done(in, work[k]);
            work[k] = work[--working];
            out_count++;
        }
    }
    assert_int_equal(in_count, out_count + working + dropped + mj_inbox_count(in));
    assert_true(dropped > 0);
    mj_inbox_free(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accounts_stay_in_order),
        cmocka_unit_test(full),
        cmocka_unit_test(lists),
        cmocka_unit_test(many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
