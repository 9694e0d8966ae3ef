/* The life of a script: strikes, quarantine, back-off, forgetting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "script/life.h"

#define S INT64_C(1000000)

static void three_strikes_in_ten_seconds(void **state)
{
    (void)state;
    struct mj_life l = {0};
    assert_int_equal(mj_life_due(&l), -1);
    assert_false(mj_life_strike(&l, 100 * S));
    assert_int_equal(l.state, MJ_LIFE_DEGRADED);
    assert_false(mj_life_strike(&l, 105 * S));
    assert_true(mj_life_strike(&l, 110 * S));
    assert_int_equal(l.state, MJ_LIFE_QUARANTINED);
    assert_int_equal(l.until, 111 * S);
    assert_int_equal(l.total, 3);
    assert_true(mj_life_paused(&l));
}

static void slower_ones_only_degrade(void **state)
{
    (void)state;
    struct mj_life l = {0};
    for (int i = 1; i < 50; i++)
        assert_false(mj_life_strike(&l, i * 6 * S));
    assert_int_equal(l.state, MJ_LIFE_DEGRADED);
}

static void each_quarantine_is_twice_as_long(void **state)
{
    (void)state;
    struct mj_life l = {0};
    int64_t now = 1000 * S, pause = S;
    for (int i = 0; i < 3; i++)
        mj_life_strike(&l, now);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(l.pause, pause);
        assert_false(mj_life_tick(&l, now + pause - 1));
        now += pause;
        assert_int_equal(mj_life_due(&l), now);
        assert_true(mj_life_tick(&l, now));
        assert_int_equal(l.state, MJ_LIFE_DEGRADED);
        assert_false(mj_life_tick(&l, now));
        now += 599 * S;
        assert_true(mj_life_strike(&l, now)); /* one is enough */
        pause = pause * 2 > 300 * S ? 300 * S : pause * 2;
    }
    assert_int_equal(l.pause, 300 * S);
}

static void ten_quiet_minutes_forget(void **state)
{
    (void)state;
    struct mj_life l = {0};
    for (int i = 0; i < 3; i++)
        mj_life_strike(&l, S);
    assert_true(mj_life_tick(&l, 2 * S));
    assert_false(mj_life_tick(&l, 601 * S));
    assert_int_equal(l.state, MJ_LIFE_DEGRADED);
    assert_false(mj_life_tick(&l, 602 * S));
    assert_int_equal(l.state, MJ_LIFE_RUNNING);
    assert_int_equal(l.total, 0);
    assert_false(mj_life_strike(&l, 603 * S));
    assert_false(mj_life_strike(&l, 603 * S));
    assert_true(mj_life_strike(&l, 603 * S));
    assert_int_equal(l.pause, S);
}

static void strikes_during_a_quarantine_change_nothing(void **state)
{
    (void)state;
    struct mj_life l = {0};
    mj_life_quarantine(&l, 3, 10 * S);
    assert_int_equal(l.until, 14 * S);
    assert_false(mj_life_strike(&l, 11 * S));
    assert_int_equal(l.until, 14 * S);
    assert_int_equal(l.state, MJ_LIFE_QUARANTINED);
    l.state = MJ_LIFE_OUT;
    assert_int_equal(mj_life_due(&l), -1);
    assert_false(mj_life_tick(&l, 10000 * S));
    assert_true(mj_life_paused(&l));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_strikes_in_ten_seconds),
        cmocka_unit_test(slower_ones_only_degrade),
        cmocka_unit_test(each_quarantine_is_twice_as_long),
        cmocka_unit_test(ten_quiet_minutes_forget),
        cmocka_unit_test(strikes_during_a_quarantine_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
