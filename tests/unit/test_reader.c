/* Durable readers: what is noted is taken, once, in order, and not lost before it is done. */
#include "unit/reader_bed.h"

#include <sys/stat.h>

static int setup(void **state)
{
    *state = bed_new(false);
    return 0;
}

static int setup_disk(void **state)
{
    *state = bed_new(true);
    return 0;
}

static int teardown(void **state)
{
    bed_free(*state);
    return 0;
}

static struct mj_reader_state state_of(struct mj_reader *r)
{
    struct mj_reader_state s;
    mj_reader_state(r, &s);
    return s;
}

static void test_takes_what_is_noted(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p;
    bed_own(b, (struct mj_owner_cfg){0});
    assert_null(bed_take(b));
    assert_int_equal(b->again, -1);
    unsigned woken = b->woken;
    bed_append(b, "did:plc:a", 1, NULL, 0);
    bed_publish(b);
    assert_int_equal(b->woken, woken);
    assert_null(bed_take(b));
    bed_append(b, "did:plc:a", 0, &b->a, 1);
    assert_null(bed_take(b)); /* not published */
    bed_publish(b);
    assert_int_equal(b->woken, woken + 1);
    assert_takes(b, p, "1");
    assert_int_equal(p->attempt, 1);
    assert_int_equal(p->first_us, b->now);
    assert_int_equal(p->items[0].upstream_seq, 1001);
    assert_int_equal(p->items[0].seq, 2);
    assert_int_equal(strlen(p->items[0].id), MJ_DELIVERY_ID_LEN);
    assert_null(bed_take(b)); /* one worker */
    assert_int_equal(b->again, -1);
    assert_int_equal(state_of(b->a).in_the_air, 1);
    mj_parcel_done(p, b->now, 0);
    assert_null(bed_take(b));
    struct mj_reader_state s = state_of(b->a);
    assert_int_equal(s.delivered, 1);
    assert_int_equal(s.waiting, 0);
    assert_int_equal(s.position, 4);
    assert_string_equal(s.state, "live");
}

/* Several readers of one event find it, whatever order the notes are in. */
static void test_an_event_is_there_once(void **state)
{
    struct reader_bed *b = *state;
    struct mj_reader *c, *a = b->a;
    bed_get(b, "each#2", &c);
    bed_own(b, (struct mj_owner_cfg){0});
    mj_reader_own(c, &(struct mj_owner_cfg){.wake = bed_wake, .ctx = b});
    struct mj_reader *both[] = {c, a};
    bed_append(b, "did:plc:a", 1, both, 2);
    bed_append(b, "did:plc:b", 1, &a, 1);
    bed_publish(b);
    assert_int_equal(mj_journal_append(b->j, &(struct mj_append){0}, MJ_SPAN("{}")), MJ_EINVAL);
    struct mj_parcel *p, *q;
    assert_takes(b, p, "0");
    b->a = c;
    assert_takes(b, q, "0");
    assert_string_not_equal(p->items[0].id, q->items[0].id);
    assert_int_equal(p->items[0].seq, q->items[0].seq);
    mj_parcel_done(q, b->now, 0);
    assert_null(bed_take(b));
    b->a = a;
    mj_parcel_done(p, b->now, 0);
    assert_takes(b, p, "1");
    mj_parcel_done(p, b->now, 0);
}

static void test_order_per_account(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p[3];
    bed_own(b, (struct mj_owner_cfg){.workers = 10});
    bed_post(b, "did:plc:a");
    bed_post(b, "did:plc:a");
    bed_post(b, "did:plc:b");
    assert_takes(b, p[0], "0");
    assert_takes(b, p[1], "2");
    assert_null(bed_take(b));
    bed_fail(b, p[0], MJ_FAIL_RETRY);
    assert_null(bed_take(b)); /* 1 waits for 0 */
    mj_parcel_done(p[1], b->now, 200);
    assert_null(bed_take(b));
    b->now += b->again;
    assert_takes(b, p[0], "0");
    assert_int_equal(p[0]->attempt, 2);
    mj_parcel_done(p[0], b->now, 200);
    assert_takes(b, p[1], "1");
    mj_parcel_done(p[1], b->now, 200);
}

static void test_total_order_and_none(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p, *q;
    bed_own(b, (struct mj_owner_cfg){.workers = 10, .order = MJ_ORDER_TOTAL});
    bed_post(b, "did:plc:a");
    bed_post(b, "did:plc:b");
    assert_takes(b, p, "0");
    assert_null(bed_take(b));
    bed_fail(b, p, MJ_FAIL_RETRY);
    assert_null(bed_take(b));
    bed_own(b, (struct mj_owner_cfg){.workers = 10, .order = MJ_ORDER_NONE});
    bed_post(b, "did:plc:a");
    assert_takes(b, p, "1");
    assert_takes(b, q, "2"); /* of the account that waits */
    mj_parcel_done(p, b->now, 0);
    mj_parcel_done(q, b->now, 0);
    b->now += 10 * SECOND;
    assert_takes(b, p, "0");
    mj_parcel_done(p, b->now, 0);
}

static void test_batches(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p;
    bed_own(b, (struct mj_owner_cfg){.max = 3, .every_us = SECOND});
    bed_post(b, "did:plc:a");
    assert_null(bed_take(b));
    assert_int_equal(b->again, SECOND);
    bed_post(b, "did:plc:a");
    assert_null(bed_take(b));
    bed_post(b, "did:plc:b");
    bed_post(b, "did:plc:c");
    assert_takes(b, p, "0 1 2");
    bed_fail(b, p, MJ_FAIL_RETRY);
    b->now += 10 * SECOND;
    /* The same ones together again, although a fourth waits. */
    assert_takes(b, p, "0 1 2");
    const bool failed[] = {false, true, false};
    mj_parcel_fail(p, b->now, &(struct mj_failure){.what = MJ_FAIL_RETRY, .failed = failed});
    b->now += 10 * SECOND;
    assert_takes(b, p, "1");
    mj_parcel_done(p, b->now, 0);
    assert_takes(b, p, "3");
    mj_parcel_done(p, b->now, 0);
    assert_int_equal(state_of(b->a).delivered, 4);
}

static void test_gives_up(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p;
    bed_own(b,
            (struct mj_owner_cfg){.retry = {.tries = 3, .min_us = SECOND, .max_us = 4 * SECOND}});
    bed_post(b, "did:plc:a");
    for (unsigned i = 1; i <= 3; i++) {
        assert_takes(b, p, "0");
        assert_int_equal(p->attempt, i);
        bed_fail(b, p, MJ_FAIL_RETRY);
        assert_null(bed_take(b));
        assert_true(b->again <= (int64_t)i * SECOND);
        b->now += b->again;
    }
    struct mj_reader_state s = state_of(b->a);
    assert_int_equal(s.failed, 3);
    assert_int_equal(s.retried, 2);
    assert_int_equal(s.dead, 1);
    assert_int_equal(s.letters, 1);
    assert_int_equal(s.waiting, 0);
    assert_string_equal(s.reason, "the endpoint answered 503");
}

/* What fails because something all events need is down is tried for as long as it is. */
static void test_sits_out(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p;
    bed_own(b, (struct mj_owner_cfg){.retry = {.tries = 2, .min_us = SECOND, .max_us = SECOND}});
    bed_post(b, "did:plc:a");
    for (unsigned i = 0; i < 10; i++) {
        assert_takes(b, p, "0");
        assert_int_equal(p->attempt, 1);
        mj_parcel_fail(p, b->now,
                       &(struct mj_failure){.what = MJ_FAIL_LATER, .after_us = 60 * SECOND});
        assert_null(bed_take(b));
        assert_int_equal(b->again, 60 * SECOND);
        b->now += b->again;
    }
    assert_int_equal(state_of(b->a).retried, 10);
    assert_int_equal(state_of(b->a).dead, 0);
    for (unsigned i = 1; i <= 2; i++) {
        assert_takes(b, p, "0");
        assert_int_equal(p->attempt, i);
        bed_fail(b, p, MJ_FAIL_RETRY);
        assert_null(bed_take(b));
        b->now += b->again;
    }
    assert_int_equal(state_of(b->a).dead, 1);
}

/* However many wait for their next attempt, or behind one that does: others are read and go out. */
static void test_stuck_ones(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p;
    char want[16];
    bed_own(b, (struct mj_owner_cfg){.window = 4,
                                     .workers = 2,
                                     .retry = {.min_us = 1000 * SECOND, .max_us = 1000 * SECOND}});
    bed_post(b, "did:plc:bad");
    assert_takes(b, p, "0");
    bed_fail(b, p, MJ_FAIL_RETRY);
    for (unsigned i = 1; i <= 20; i++)
        bed_post(b, "did:plc:bad");
    for (unsigned i = 21; i <= 40; i++) {
        char did[24];
        snprintf(did, sizeof did, "did:plc:%u", i);
        bed_post(b, did);
    }
    for (unsigned i = 21; i <= 40; i++) {
        snprintf(want, sizeof want, "%u", i);
        assert_takes(b, p, want);
        if (i % 2)
            bed_fail(b, p, MJ_FAIL_RETRY);
        else
            mj_parcel_done(p, b->now, 200);
    }
    assert_null(bed_take(b));
    b->now += 2000 * SECOND;
    for (unsigned i = 0; i <= 20; i++) {
        snprintf(want, sizeof want, "%u", i);
        assert_takes(b, p, want);
        mj_parcel_done(p, b->now, 200);
    }
    assert_takes(b, p, "21");
    mj_parcel_done(p, b->now, 200);
}

/* What went out, and came back with nobody knowing how it went, goes out with the same others; also
 * after a restart. */
static void test_together_again(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p;
    const struct mj_owner_cfg cfg = {.max = 3};
    bed_own(b, cfg);
    for (unsigned i = 0; i < 2; i++)
        bed_post(b, "did:plc:a");
    assert_takes(b, p, "0 1");
    bed_post(b, "did:plc:a");
    bed_fail(b, p, MJ_FAIL_AGAIN);
    assert_takes(b, p, "0 1");
    assert_int_equal(p->attempt, 1);
    bed_fail(b, p, MJ_FAIL_AGAIN);
    mj_reader_disown(b->a, b);
    bed_close(b);
    bed_open(b);
    bed_own(b, cfg);
    assert_takes(b, p, "0 1");
    assert_int_equal(p->attempt, 1);
    mj_parcel_done(p, b->now, 200);
    assert_takes(b, p, "2");
    bed_fail(b, p, MJ_FAIL_BACK);
    bed_post(b, "did:plc:a");
    assert_takes(b, p, "2 3");
    mj_parcel_done(p, b->now, 200);
    assert_int_equal(state_of(b->a).failed, 0);
}

/* Better a dead letter than an event that is gone before its next attempt. */
static void test_gone_by_then(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p;
    bed_close(b);
    b->cfg.retain_us = 3600 * SECOND;
    bed_open(b);
    bed_own(b, (struct mj_owner_cfg){.retry = {.min_us = SECOND, .max_us = SECOND}});
    bed_post(b, "did:plc:a");
    assert_takes(b, p, "0");
    mj_parcel_fail(p, b->now,
                   &(struct mj_failure){.what = MJ_FAIL_RETRY, .after_us = 3000 * SECOND});
    assert_int_equal(state_of(b->a).dead, 0);
    b->now += 3000 * SECOND;
    assert_takes(b, p, "0");
    mj_parcel_fail(p, b->now,
                   &(struct mj_failure){.what = MJ_FAIL_RETRY, .after_us = 700 * SECOND});
    assert_int_equal(state_of(b->a).dead, 1);
    assert_int_equal(state_of(b->a).waiting, 0);
}

struct seen {
    uint64_t id;
    unsigned n, attempts;
    char text[1024];
};

static bool on_dead(void *ctx, const struct mj_dead *d)
{
    struct seen *s = ctx;
    s->id = d->id;
    s->n++;
    s->attempts = d->attempts;
    snprintf(s->text, sizeof s->text, "%s %d %s %.*s %.*s", d->reader, d->status, d->reason,
             (int)d->excerpt.len, (const char *)d->excerpt.ptr, (int)d->events.len,
             (const char *)d->events.ptr);
    return true;
}

static void check_dead(struct reader_bed *b)
{
    struct mj_parcel *p;
    struct seen seen = {0};
    char id[MJ_DELIVERY_ID_LEN + 1];
    bed_own(b, (struct mj_owner_cfg){.max = 2});
    bed_append(b, "did:plc:a", 1, &b->a, 1);
    bed_append(b, "did:plc:b", 1, &b->a, 1);
    bed_publish(b);
    assert_takes(b, p, "0 1");
    strcpy(id, p->items[0].id);
    mj_parcel_fail(
        p, b->now,
        &(struct mj_failure){
            .what = MJ_FAIL_DEAD, .status = 400, .reason = "no", .excerpt = MJ_SPAN("go away")});
    assert_int_equal(mj_dead_each(b->rs, NULL, 0, on_dead, &seen), 0);
    assert_int_equal(seen.n, 1);
    assert_non_null(strstr(seen.text, "bot.lua each#1 400 no go away [{\"did\":\"did:plc:a\""));
    assert_non_null(strstr(seen.text, "},{\"did\":\"did:plc:b\""));
    /* After a restart, where there is a disk, it is still there. */
    if (*b->dir) {
        struct stat st;
        char path[128];
        snprintf(path, sizeof path, "%s/state/data.mdb", b->dir);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600); /* letters are other people's posts */
        bed_close(b);
        bed_open(b);
        bed_own(b, (struct mj_owner_cfg){.max = 2});
        assert_null(bed_take(b));
    }
    bed_post(b, "did:plc:c");
    assert_int_equal(mj_dead_retry(b->rs, seen.id), 0);
    assert_int_equal(mj_dead_retry(b->rs, seen.id), 0);
    assert_int_equal(mj_dead_retry(b->rs, seen.id + 1), MJ_ENOENT);
    assert_takes(b, p, "0 1"); /* before what is new */
    assert_int_equal(p->dead_id, seen.id);
    assert_int_equal(p->attempt, 2);
    assert_string_equal(p->items[0].id, id);
    bed_fail(b, p, MJ_FAIL_RETRY);
    assert_int_equal(mj_dead_each(b->rs, "bot.lua each#1", 0, on_dead, &seen), 0);
    assert_int_equal(seen.n, 2);
    assert_int_equal(seen.attempts, 2);
    assert_takes(b, p, "2");
    mj_parcel_done(p, b->now, 0);
    assert_int_equal(mj_dead_retry(b->rs, seen.id), 0);
    assert_takes(b, p, "0 1");
    mj_parcel_done(p, b->now, 0);
    assert_null(bed_take(b));
    assert_int_equal(mj_dead_remove(b->rs, seen.id), MJ_ENOENT);
    assert_int_equal(state_of(b->a).letters, 0);
}

static void test_dead_letters(void **state) { check_dead(*state); }
static void test_dead_letters_on_disk(void **state) { check_dead(*state); }

/* Only what was in the air comes again. */
static void test_position_on_disk(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p[4];
    char id[MJ_DELIVERY_ID_LEN + 1];
    bed_own(b, (struct mj_owner_cfg){.workers = 10, .order = MJ_ORDER_NONE});
    for (unsigned i = 0; i < 4; i++)
        bed_post(b, "did:plc:a");
    for (unsigned i = 0; i < 4; i++)
        p[i] = bed_take(b);
    bed_fail(b, p[1], MJ_FAIL_RETRY);
    mj_parcel_done(p[0], b->now, 0);
    mj_parcel_done(p[3], b->now, 0);
    strcpy(id, p[2]->items[0].id);
    mj_readers_save(b->rs);
    mj_parcel_fail(p[2], b->now, &(struct mj_failure){.what = MJ_FAIL_BACK});
    mj_reader_disown(b->a, b);
    bed_close(b);
    bed_open(b);
    assert_string_equal(state_of(b->a).state, "gone");
    assert_int_equal(state_of(b->a).waiting, 2);
    bed_own(b, (struct mj_owner_cfg){.workers = 10});
    b->now += 10 * SECOND;
    assert_takes(b, p[1], "1");
    assert_int_equal(p[1]->attempt, 2);
    mj_parcel_done(p[1], b->now, 0);
    assert_takes(b, p[2], "2");
    assert_int_equal(p[2]->attempt, 1);
    assert_string_equal(p[2]->items[0].id, id);
    mj_parcel_done(p[2], b->now, 0);
    assert_null(bed_take(b));
    bed_post(b, "did:plc:z");
    assert_takes(b, p[0], "4");
    mj_parcel_done(p[0], b->now, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_takes_what_is_noted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_event_is_there_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order_per_account, setup, teardown),
        cmocka_unit_test_setup_teardown(test_total_order_and_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_batches, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gives_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sits_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stuck_ones, setup, teardown),
        cmocka_unit_test_setup_teardown(test_together_again, setup_disk, teardown),
        cmocka_unit_test_setup_teardown(test_gone_by_then, setup_disk, teardown),
        cmocka_unit_test_setup_teardown(test_dead_letters, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dead_letters_on_disk, setup_disk, teardown),
        cmocka_unit_test_setup_teardown(test_position_on_disk, setup_disk, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
