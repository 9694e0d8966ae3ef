/* Durable readers under control: owners that come and go, pause, disable, rewind, forget, counts,
 * and what retention does to the slow. */
#include "cmocka_all.h"

#include <signal.h>
#include <sys/resource.h>

#include "unit/reader_bed.h"

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

static void reopen(struct reader_bed *b)
{
    mj_reader_disown(b->a, b);
    bed_close(b);
    bed_open(b);
}

static void done(struct reader_bed *b, const char *numbers)
{
    struct mj_parcel *p;
    assert_takes(b, p, numbers);
    mj_parcel_done(p, b->now, 200);
}

/* The old owner keeps what it has; the new one takes what is behind it, in order. */
static void test_owners(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p, *q;
    bed_own(b, (struct mj_owner_cfg){0});
    bed_post(b, "did:plc:a");
    bed_post(b, "did:plc:a");
    bed_post(b, "did:plc:b");
    assert_takes(b, p, "0");
    int other;
    mj_reader_own(b->a, &(struct mj_owner_cfg){.ctx = &other, .workers = 4});
    assert_null(bed_take(b)); /* no longer its */
    q = mj_reader_take(b->a, &other, &b->view, b->now, &b->again);
    assert_string_equal(bed_numbers(q), "2");
    assert_null(mj_reader_take(b->a, &other, &b->view, b->now, &b->again));
    assert_int_equal(b->again, -1);
    mj_reader_disown(b->a, b); /* is not its any more: nothing happens */
    mj_parcel_done(q, b->now, 0);
    mj_parcel_done(p, b->now, 0);
    q = mj_reader_take(b->a, &other, &b->view, b->now, &b->again);
    assert_string_equal(bed_numbers(q), "1");
    mj_reader_disown(b->a, &other);
    assert_string_equal(state_of(b->a).state, "gone");
    bed_fail(b, q, MJ_FAIL_BACK);
    unsigned woken = b->woken;
    bed_own(b, (struct mj_owner_cfg){0});
    assert_int_equal(b->woken, woken + 1);
    done(b, "1");
}

static void test_back_is_no_attempt(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p;
    bed_own(b, (struct mj_owner_cfg){.retry = {.tries = 1}});
    bed_post(b, "did:plc:a");
    for (unsigned i = 0; i < 3; i++) {
        assert_takes(b, p, "0");
        assert_int_equal(p->attempt, 1);
        bed_fail(b, p, MJ_FAIL_BACK);
    }
    done(b, "0");
    assert_int_equal(state_of(b->a).failed, 0);
}

static void test_retry_after_and_for(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p;
    bed_own(b, (struct mj_owner_cfg){.retry = {.min_us = SECOND, .for_us = 100 * SECOND}});
    bed_post(b, "did:plc:a");
    assert_takes(b, p, "0");
    mj_parcel_fail(p, b->now, &(struct mj_failure){.what = MJ_FAIL_RETRY, .after_us = 99 * SECOND});
    assert_null(bed_take(b));
    assert_int_equal(b->again, 99 * SECOND);
    b->now += 99 * SECOND;
    assert_takes(b, p, "0");
    assert_int_equal(p->first_us, b->now - 99 * SECOND);
    b->now += SECOND;
    bed_fail(b, p, MJ_FAIL_RETRY);
    assert_null(bed_take(b));
    assert_int_equal(state_of(b->a).dead, 1);
}

/* Full jitter: somewhere in the wait, which doubles up to its most. */
static void test_jitter(void **state)
{
    struct reader_bed *b = *state;
    int64_t most = 0, least = INT64_MAX;
    struct mj_parcel *p;
    bed_own(b, (struct mj_owner_cfg){.retry = {.min_us = SECOND, .max_us = 64 * SECOND}});
    bed_post(b, "did:plc:a");
    for (unsigned i = 0; i < 300; i++) {
        assert_takes(b, p, "0");
        bed_fail(b, p, MJ_FAIL_RETRY);
        assert_null(bed_take(b));
        assert_true(b->again > 0 && b->again <= 64 * SECOND);
        if (i < 6)
            assert_true(b->again <= (SECOND << i));
        if (i >= 6 && b->again > most)
            most = b->again;
        if (i >= 6 && b->again < least)
            least = b->again;
        b->now += b->again;
    }
    assert_true(most > 60 * SECOND && least < 4 * SECOND);
}

static void test_pause_and_disable(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p;
    bed_own(b, (struct mj_owner_cfg){0});
    bed_post(b, "did:plc:a");
    mj_reader_pause(b->a);
    assert_null(bed_take(b));
    assert_string_equal(state_of(b->a).state, "paused");
    reopen(b);
    bed_own(b, (struct mj_owner_cfg){0});
    assert_string_equal(state_of(b->a).state, "paused");
    assert_null(bed_take(b));
    unsigned woken = b->woken;
    mj_reader_resume(b->a);
    assert_int_equal(b->woken, woken + 1);
    assert_takes(b, p, "0");
    mj_reader_disable(b->a, "the endpoint answered 410");
    bed_fail(b, p, MJ_FAIL_BACK);
    assert_null(bed_take(b));
    reopen(b);
    bed_own(b, (struct mj_owner_cfg){0});
    assert_null(bed_take(b));
    assert_string_equal(state_of(b->a).state, "disabled");
    assert_string_equal(state_of(b->a).reason, "the endpoint answered 410");
    mj_reader_resume(b->a);
    done(b, "0");
}

static void test_rewind(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p;
    char id[MJ_DELIVERY_ID_LEN + 1];
    int64_t at = 0;
    bed_own(b, (struct mj_owner_cfg){.workers = 2});
    for (unsigned i = 0; i < 5; i++) {
        bed_post(b, "did:plc:a");
        assert_takes(b, p, i == 0 ? "0" : i == 1 ? "1" : i == 2 ? "2" : i == 3 ? "3" : "4");
        if (i == 2) {
            at = p->items[0].time_us;
            strcpy(id, p->items[0].id);
        }
        if (i < 4)
            mj_parcel_done(p, b->now, 0);
    }
    mj_reader_rewind(b->a, at);
    assert_int_equal(state_of(b->a).in_the_air, 0);
    assert_int_equal(state_of(b->a).waiting, 3);
    bed_post(b, "did:plc:b");
    assert_int_equal(state_of(b->a).waiting, 4);
    struct mj_parcel *q;
    assert_takes(b, q, "2");
    assert_string_equal(q->items[0].id, id);
    mj_parcel_done(p, b->now, 0); /* what was in the air settles nothing */
    mj_parcel_done(q, b->now, 0);
    done(b, "3");
    done(b, "4");
    done(b, "5");
    assert_null(bed_take(b));
    assert_int_equal(state_of(b->a).waiting, 0);
    /* Nor does it make room for more than the owner's workers. */
    mj_reader_own(b->a, &(struct mj_owner_cfg){.order = MJ_ORDER_NONE, .ctx = b});
    bed_post(b, "did:plc:a");
    bed_post(b, "did:plc:b");
    assert_takes(b, p, "6");
    mj_reader_rewind(b->a, p->items[0].time_us);
    assert_takes(b, q, "6");
    mj_parcel_done(p, b->now, 0);
    assert_int_equal(state_of(b->a).in_the_air, 1);
    assert_null(bed_take(b));
    mj_parcel_done(q, b->now, 0);
    done(b, "7");
    /* Forward: what is skipped does not come. */
    bed_post(b, "did:plc:a");
    mj_reader_rewind(b->a, INT64_MAX);
    assert_null(bed_take(b));
    bed_post(b, "did:plc:a");
    done(b, "9");
}

static bool count_reader(void *ctx, const struct mj_reader_state *s)
{
    (void)s;
    ++*(unsigned *)ctx;
    return true;
}

static void test_forget(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p;
    unsigned n = 0;
    bed_own(b, (struct mj_owner_cfg){0});
    bed_post(b, "did:plc:a");
    assert_takes(b, p, "0");
    bed_fail(b, p, MJ_FAIL_DEAD);
    bed_post(b, "did:plc:a");
    assert_int_equal(mj_reader_forget(b->a), MJ_EINVAL);
    mj_reader_disown(b->a, b);
    assert_ptr_equal(mj_readers_find(b->rs, "bot.lua each#1"), b->a);
    assert_int_equal(mj_reader_forget(b->a), 0);
    assert_int_equal(mj_reader_forget(b->a), MJ_ENOENT);
    assert_null(mj_readers_find(b->rs, "bot.lua each#1"));
    mj_readers_each(b->rs, count_reader, &n);
    assert_int_equal(n, 0);
    if (*b->dir) {
        mj_readers_save(b->rs);
        mj_view_deinit(&b->view);
        mj_readers_free(b->rs);
        mj_disk_close(b->disk);
        MJ_AUTO_BUF path = {0};
        mj_buf_printf(&path, "%s/state", b->dir);
        assert_int_equal(mj_disk_open(mj_buf_cstr(&path), &b->disk, &b->error), 0);
        b->rs = mj_readers_new(&(struct mj_readers_cfg){.journal = b->j, .disk = b->disk});
        mj_view_init(&b->view, b->j);
        mj_readers_each(b->rs, count_reader, &n);
        assert_int_equal(n, 0);
    }
    /* Got again, it is a new one. */
    bed_get(b, "each#1", &b->a);
    bed_own(b, (struct mj_owner_cfg){0});
    assert_null(bed_take(b));
    assert_int_equal(state_of(b->a).letters, 0);
    bed_post(b, "did:plc:a");
    done(b, "2");
}

/* Forgotten between two owners, while its node runs: the next one's progress is kept, too. */
static void test_forget_between_owners(void **state)
{
    struct reader_bed *b = *state;
    bed_own(b, (struct mj_owner_cfg){0});
    bed_post(b, "did:plc:a");
    done(b, "0");
    mj_reader_disown(b->a, b);
    bed_post(b, "did:plc:a");
    assert_int_equal(mj_reader_forget(b->a), 0);
    bed_own(b, (struct mj_owner_cfg){0});
    assert_ptr_equal(mj_readers_find(b->rs, "bot.lua each#1"), b->a);
    bed_post(b, "did:plc:a");
    bed_post(b, "did:plc:a");
    mj_readers_save(b->rs);
    reopen(b);
    bed_own(b, (struct mj_owner_cfg){0});
    struct mj_parcel *p;
    while ((p = bed_take(b)))
        mj_parcel_done(p, b->now, 0);
    assert_in_range(state_of(b->a).delivered, 2, 3);
}

/* A window much smaller than what waits; what waits is counted, whoever noted it. */
static void test_backlog(void **state)
{
    struct reader_bed *b = *state;
    enum { EVENTS = 3000 };
    struct mj_reader *other;
    bed_get(b, "each#2", &other);
    for (unsigned i = 0; i < EVENTS; i++) {
        bed_append(b, i % 2 ? "did:plc:a" : "did:plc:b", i % 3 == 0, &b->a, 1);
        bed_append(b, "did:plc:c", 1, &other, 1);
        if (i % 7 == 0)
            bed_publish(b);
    }
    bed_publish(b);
    assert_int_equal(state_of(b->a).waiting, EVENTS);
    assert_true(state_of(b->a).at_us > 0);
    if (*b->dir) {
        reopen(b);
        assert_int_equal(mj_journal_seal(b->j, 1), 0);
        mj_view_refresh(&b->view);
    }
    assert_int_equal(state_of(b->a).waiting, EVENTS);
    bed_own(b, (struct mj_owner_cfg){.window = 16, .max = 5, .order = MJ_ORDER_DID});
    for (unsigned i = 0, n = 0; i < EVENTS; i += (unsigned)n) {
        struct mj_parcel *p = bed_take(b);
        assert_non_null(p);
        n = (unsigned)p->n;
        for (unsigned k = 0; k < n; k++) {
            char text[32];
            snprintf(text, sizeof text, "\"event %u\"", 2 * (i + k));
            MJ_AUTO_BUF json = {0};
            mj_buf_put(&json, p->items[k].json.ptr, p->items[k].json.len);
            assert_non_null(strstr(mj_buf_cstr(&json), text));
        }
        mj_parcel_done(p, b->now, 0);
        assert_int_equal(state_of(b->a).waiting, EVENTS - i - n);
    }
    assert_null(bed_take(b));
    assert_int_equal(state_of(b->a).overtaken, 0);
}

/* Retention drops what was noted: counted, and what is left comes. */
static void test_overtaken(void **state)
{
    struct reader_bed *b = *state;
    struct mj_journal *j = b->j;
    enum { EVENTS = 30000 };
    mj_view_deinit(&b->view);
    mj_readers_free(b->rs);
    b->j = mj_journal_in_memory(2 << 20);
    b->rs = mj_readers_new(&(struct mj_readers_cfg){.journal = b->j});
    bed_get(b, "each#1", &b->a);
    mj_view_init(&b->view, b->j);
    bed_own(b, (struct mj_owner_cfg){.workers = 1000, .order = MJ_ORDER_NONE, .window = 10});
    struct mj_parcel *in_the_air, *p;
    bed_post(b, "did:plc:a");
    assert_takes(b, in_the_air, "0");
    for (unsigned i = 1; i < EVENTS; i++)
        bed_post(b, "did:plc:a");
    unsigned taken = 1;
    mj_parcel_done(in_the_air, b->now, 0); /* a parcel owes nothing to the journal */
    while ((p = bed_take(b))) {
        taken++;
        mj_parcel_done(p, b->now, 0);
    }
    struct mj_reader_state s = state_of(b->a);
    assert_true(taken > 100 && taken < EVENTS);
    assert_int_equal(s.overtaken + s.delivered, EVENTS);
    assert_int_equal(s.waiting, 0);
    mj_journal_close(j);
}

/* The same while nobody takes: it shows at once, not when somebody comes back. */
static void test_overtaken_while_paused(void **state)
{
    struct reader_bed *b = *state;
    struct mj_journal *j = b->j;
    enum { EVENTS = 30000 };
    mj_view_deinit(&b->view);
    mj_readers_free(b->rs);
    b->j = mj_journal_in_memory(2 << 20);
    b->rs = mj_readers_new(&(struct mj_readers_cfg){.journal = b->j});
    bed_get(b, "each#1", &b->a);
    mj_view_init(&b->view, b->j);
    bed_own(b, (struct mj_owner_cfg){0});
    mj_reader_pause(b->a);
    for (unsigned i = 0; i < EVENTS; i++) {
        bed_post(b, "did:plc:a");
        assert_null(bed_take(b));
        if (i % 1000 == 0)
            mj_readers_save(b->rs);
    }
    mj_readers_save(b->rs);
    struct mj_reader_state s = state_of(b->a);
    assert_true(s.overtaken > 100);
    assert_int_equal(s.overtaken + s.waiting, EVENTS);
    assert_int_equal(mj_view_time(&b->view, s.position) <= s.at_us, 1);
    mj_reader_resume(b->a);
    struct mj_parcel *p = bed_take(b);
    assert_non_null(p);
    mj_parcel_done(p, b->now, 0);
    mj_journal_close(j);
}

/* What was read before the pause is lost like what was not; what is in the air is there. */
static void test_overtaken_in_the_window(void **state)
{
    struct reader_bed *b = *state;
    struct mj_journal *j = b->j;
    enum { EVENTS = 30000 };
    struct mj_parcel *p;
    mj_view_deinit(&b->view);
    mj_readers_free(b->rs);
    b->j = mj_journal_in_memory(2 << 20);
    b->rs = mj_readers_new(&(struct mj_readers_cfg){.journal = b->j});
    bed_get(b, "each#1", &b->a);
    mj_view_init(&b->view, b->j);
    bed_own(b, (struct mj_owner_cfg){.workers = 2, .order = MJ_ORDER_NONE, .window = 10});
    for (unsigned i = 0; i < 10; i++)
        bed_post(b, "did:plc:a");
    assert_takes(b, p, "0");
    mj_reader_pause(b->a);
    for (unsigned i = 0; i < EVENTS; i++)
        bed_append(b, "did:plc:a", 1, NULL, 0);
    bed_publish(b);
    mj_readers_save(b->rs);
    struct mj_reader_state s = state_of(b->a);
    assert_int_equal(s.overtaken, 9);
    assert_int_equal(s.waiting, 1);
    mj_parcel_done(p, b->now, 0);
    mj_reader_resume(b->a);
    assert_null(bed_take(b));
    s = state_of(b->a);
    assert_int_equal(s.overtaken, 9);
    assert_int_equal(s.delivered, 1);
    assert_int_equal(s.waiting, 0);
    mj_journal_close(j);
}

/* With nothing to do a reader is as far as the journal. */
static void test_idle_reader_moves(void **state)
{
    struct reader_bed *b = *state;
    bed_own(b, (struct mj_owner_cfg){0});
    for (unsigned i = 0; i < 100; i++)
        bed_append(b, "did:plc:a", 1, NULL, 0);
    bed_publish(b);
    assert_int_equal(state_of(b->a).position, 1);
    mj_readers_save(b->rs);
    assert_int_equal(state_of(b->a).position, 101);
    /* But not over what is noted and not published. */
    bed_append(b, "did:plc:a", 1, &b->a, 1);
    assert_int_equal(mj_journal_publish(b->j, -1, 0), 0);
    mj_readers_save(b->rs);
    mj_readers_published(b->rs);
    mj_view_refresh(&b->view);
    done(b, "100");
}

/* The wall clock is set back by a day: what waits for another attempt does not wait a day more, and
 * then waits as it should. */
static void test_clock_set_back(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p;
    bed_own(b, (struct mj_owner_cfg){.retry = {.min_us = 8 * SECOND, .max_us = 8 * SECOND}});
    bed_post(b, "did:plc:a");
    bed_fail(b, bed_take(b), MJ_FAIL_RETRY);
    assert_null(bed_take(b));
    assert_in_range(b->again, 1, 8 * SECOND);
    b->now -= 86400 * SECOND;
    assert_takes(b, p, "0");
    assert_int_equal(p->attempt, 2);
    bed_fail(b, p, MJ_FAIL_RETRY);
    assert_null(bed_take(b));
    assert_in_range(b->again, 1, 8 * SECOND);
    if (*b->dir) { /* and while it does not run */
        b->now -= 86400 * SECOND;
        reopen(b);
        bed_own(b, (struct mj_owner_cfg){0});
    } else {
        b->now += 8 * SECOND;
    }
    done(b, "0");
}

/* Dead letters that go out once more keep the order, too: among themselves, and with what is new.
 */
static void test_retried_letters_in_order(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p, *q, *other;
    bed_own(b, (struct mj_owner_cfg){.workers = 8});
    for (unsigned i = 0; i < 4; i++) {
        bed_post(b, i == 2 ? "did:plc:b" : "did:plc:a");
        bed_fail(b, bed_take(b), MJ_FAIL_DEAD);
    }
    for (uint64_t id = 1; id <= 4; id++)
        assert_int_equal(mj_dead_retry(b->rs, id), 0);
    bed_post(b, "did:plc:a");
    assert_takes(b, p, "0");
    assert_takes(b, other, "2");
    assert_null(bed_take(b));
    bed_fail(b, p, MJ_FAIL_BACK);
    assert_takes(b, p, "0");
    mj_parcel_done(p, b->now, 0);
    assert_takes(b, p, "1");
    assert_null(bed_take(b));
    mj_parcel_done(other, b->now, 0);
    mj_parcel_done(p, b->now, 0);
    done(b, "3");
    /* What is in the air already comes before. */
    assert_takes(b, p, "4");
    bed_post(b, "did:plc:a");
    bed_fail(b, p, MJ_FAIL_DEAD);
    assert_takes(b, p, "5");
    assert_int_equal(mj_dead_retry(b->rs, 5), 0);
    assert_null(bed_take(b));
    mj_parcel_done(p, b->now, 0);
    assert_takes(b, q, "4");
    mj_parcel_done(q, b->now, 0);
    assert_null(bed_take(b));
}

/* One event for so many readers that its notes lie in segments behind it. */
static void test_many_readers_of_one_event(void **state)
{
    struct reader_bed *b = *state;
    enum { READERS = 2000, EVENTS = 3 };
    static struct mj_reader *all[READERS];
    for (unsigned i = 0; i < READERS; i++) {
        char node[32];
        snprintf(node, sizeof node, "many#%u", i);
        bed_get(b, node, &all[i]);
    }
    for (unsigned i = 0; i < EVENTS; i++)
        bed_append(b, "did:plc:a", 1, all, READERS);
    bed_publish(b);
    for (int life = 0; life < 2; life++) {
        for (unsigned i = 0; i < READERS; i++) {
            struct mj_parcel *p;
            b->a = all[i];
            bed_own(b, (struct mj_owner_cfg){.max = EVENTS});
            assert_takes(b, p, life ? "1" : "0 1 2");
            const bool failed[] = {false, true, false};
            if (life)
                mj_parcel_done(p, b->now, 0);
            else
                mj_parcel_fail(p, b->now,
                               &(struct mj_failure){.what = MJ_FAIL_RETRY, .failed = failed});
            mj_reader_disown(all[i], b);
        }
        if (life)
            break;
        reopen(b);
        b->now += SECOND;
        for (unsigned i = 0; i < READERS; i++) {
            char node[32];
            snprintf(node, sizeof node, "many#%u", i);
            bed_get(b, node, &all[i]);
        }
    }
}

static void limit_files(rlim_t bytes)
{
    struct rlimit r;
    getrlimit(RLIMIT_FSIZE, &r);
    r.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

/* A disk that takes nothing: positions and dead letters wait for it, in bounded memory, and nothing
 * is lost when there is room again. */
static void test_full_disk(void **state)
{
    struct reader_bed *b = *state;
    enum { EVENTS = 5000, SAVES = 800 };
    struct mj_metric *unwritten = mj_metric("moonjet_state_unwritten_bytes", MJ_GAUGE, "", NULL);
    struct mj_parcel *p;
    signal(SIGXFSZ, SIG_IGN);
    bed_own(b, (struct mj_owner_cfg){.max = EVENTS, .order = MJ_ORDER_NONE, .window = EVENTS});
    for (unsigned i = 0; i < EVENTS; i++)
        bed_post(b, "did:plc:a");
    limit_files(1);
    p = bed_take(b);
    assert_int_equal(p->n, EVENTS);
    bed_fail(b, p, MJ_FAIL_RETRY); /* a position with all of them */
    for (unsigned i = 0; i < SAVES; i++) {
        mj_reader_resume(b->a); /* something has changed */
        mj_readers_save(b->rs);
    }
    assert_in_range(mj_metric_get(unwritten), 1, 40 << 20);
    b->now += SECOND;
    bed_fail(b, bed_take(b), MJ_FAIL_DEAD);
    assert_int_equal(state_of(b->a).letters, 0);
    assert_int_equal(state_of(b->a).waiting, EVENTS);
    limit_files(RLIM_INFINITY);
    assert_true(mj_disk_flush(b->disk, 60 * SECOND));
    b->now += 60 * SECOND;
    bed_fail(b, bed_take(b), MJ_FAIL_DEAD);
    assert_int_equal(state_of(b->a).letters, 1);
    reopen(b);
    assert_int_equal(state_of(b->a).letters, 1);
    assert_int_equal(state_of(b->a).waiting, 0);
}

static void test_dead_letters_are_bounded(void **state)
{
    struct reader_bed *b = *state;
    mj_view_deinit(&b->view);
    mj_readers_free(b->rs);
    b->rs =
        mj_readers_new(&(struct mj_readers_cfg){.journal = b->j, .disk = b->disk, .dead_max = 3});
    bed_get(b, "each#1", &b->a);
    mj_view_init(&b->view, b->j);
    bed_own(b, (struct mj_owner_cfg){0});
    for (unsigned i = 0; i < 5; i++) {
        bed_post(b, "did:plc:a");
        bed_fail(b, bed_take(b), MJ_FAIL_DEAD);
    }
    assert_int_equal(state_of(b->a).letters, 3);
    assert_int_equal(mj_dead_remove(b->rs, 2), MJ_ENOENT);
    assert_int_equal(mj_dead_remove(b->rs, 4), 0);
    assert_int_equal(mj_dead_retry(b->rs, 3), 0);
    assert_int_equal(mj_dead_retry(b->rs, 5), 0);
    assert_int_equal(mj_dead_remove(b->rs, 5), 0);
    done(b, "2");
    assert_null(bed_take(b));
    assert_int_equal(state_of(b->a).letters, 0);
}

static void on_attempt(void *ctx, const struct mj_attempt *a)
{
    mj_buf_printf(ctx, "%s %u %d %d %s;", a->reader, a->attempt, a->what, a->status, a->reason);
}

static void test_attempts(void **state)
{
    struct reader_bed *b = *state;
    MJ_AUTO_BUF seen = {0};
    bed_own(b, (struct mj_owner_cfg){.retry = {.tries = 2}});
    bed_post(b, "did:plc:a");
    bed_fail(b, bed_take(b), MJ_FAIL_RETRY);
    b->now += SECOND;
    bed_fail(b, bed_take(b), MJ_FAIL_RETRY);
    bed_post(b, "did:plc:a");
    done(b, "1");
    mj_attempts_find(b->rs, 1, on_attempt, &seen);
    mj_attempts_find(b->rs, 3, on_attempt, &seen);
    assert_string_equal(mj_buf_cstr(&seen), "bot.lua each#1 1 1 503 the endpoint answered 503;"
                                            "bot.lua each#1 2 2 503 the endpoint answered 503;"
                                            "bot.lua each#1 1 0 200 ;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_owners, setup, teardown),
        cmocka_unit_test_setup_teardown(test_back_is_no_attempt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retry_after_and_for, setup, teardown),
        cmocka_unit_test_setup_teardown(test_jitter, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pause_and_disable, setup_disk, teardown),
        cmocka_unit_test_setup_teardown(test_rewind, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forget, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forget, setup_disk, teardown),
        cmocka_unit_test_setup_teardown(test_forget_between_owners, setup_disk, teardown),
        cmocka_unit_test_setup_teardown(test_backlog, setup, teardown),
        cmocka_unit_test_setup_teardown(test_backlog, setup_disk, teardown),
        cmocka_unit_test_setup_teardown(test_overtaken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overtaken_while_paused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overtaken_in_the_window, setup, teardown),
        cmocka_unit_test_setup_teardown(test_idle_reader_moves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dead_letters_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dead_letters_are_bounded, setup_disk, teardown),
        cmocka_unit_test_setup_teardown(test_clock_set_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clock_set_back, setup_disk, teardown),
        cmocka_unit_test_setup_teardown(test_retried_letters_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_retried_letters_in_order, setup_disk, teardown),
        cmocka_unit_test_setup_teardown(test_many_readers_of_one_event, setup_disk, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, setup_disk, teardown),
        cmocka_unit_test_setup_teardown(test_attempts, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
