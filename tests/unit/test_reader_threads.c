/* Durable readers on the threads they have: a writer that notes and publishes, an owner that takes
 * and settles, one that is handed parcels, and control that looks, saves, pauses and rewinds. Also
 * meant for ThreadSanitizer. */
#include "unit/reader_bed.h"

#include <pthread.h>
#include <semaphore.h>

enum { EVENTS = 20000, LOOKS = 200 };

struct crowd {
    struct reader_bed *b;
    struct mj_reader *quiet; /* control's own, which rewinds it */
    sem_t news, handed, looked;
    _Atomic unsigned done, high;
    _Atomic bool stop;
    struct mj_parcel *_Atomic parcel;
    unsigned last[3]; /* number done last, per account */
};

static void signal_news(void *ctx) { sem_post(&((struct crowd *)ctx)->news); }

static void settle(struct crowd *c, struct mj_parcel *p)
{
    unsigned number = (unsigned)(p->items[0].upstream_seq - 1000);
    /* Of an account they come one after the other. */
    assert_true(number % 3 == number || c->last[number % 3] + 3 == number);
    c->last[number % 3] = number;
    if (number % 16 == 5 && p->attempt == 1) {
        c->last[number % 3] = number - 3;
        bed_fail(c->b, p, MJ_FAIL_RETRY);
        return;
    }
    mj_parcel_done(p, mj_now_us(), 0);
    c->done++;
}

/* Settles one in so many on another thread than took it. */
static void *helper(void *arg)
{
    struct crowd *c = arg;
    for (;;) {
        sem_wait(&c->handed);
        struct mj_parcel *p = atomic_load(&c->parcel);
        if (!p)
            return NULL;
        settle(c, p);
        atomic_store(&c->parcel, NULL);
    }
}

static void *owner(void *arg)
{
    struct crowd *c = arg;
    struct mj_view view;
    int64_t again = -1;
    unsigned n = 0;
    mj_view_init(&view, c->b->j);
    const struct mj_owner_cfg cfg = {
        .retry = {.min_us = 1, .max_us = 1}, .wake = signal_news, .ctx = c, .window = 64};
    mj_reader_own(c->b->a, &cfg);
    while (c->done < EVENTS) {
        mj_view_refresh(&view);
        struct mj_parcel *p = mj_reader_take(c->b->a, c, &view, mj_now_us(), &again);
        if (!p && again) {
            struct timespec soon;
            clock_gettime(CLOCK_REALTIME, &soon);
            soon.tv_sec += again < 0 ? 60 : 0; /* a wake that is lost is a test that hangs */
            soon.tv_nsec += again > 0 ? 1000 : 0;
            sem_timedwait(&c->news, &soon);
        } else if (p && ++n % 4 == 0 && !atomic_load(&c->parcel)) {
            atomic_store(&c->parcel, p);
            sem_post(&c->handed);
            while (atomic_load(&c->parcel)) /* `last` is for one of us at a time */
                sched_yield();
        } else if (p) {
            settle(c, p);
        }
    }
    mj_reader_disown(c->b->a, c);
    mj_view_deinit(&view);
    return NULL;
}

static bool look(void *ctx, const struct mj_reader_state *s)
{
    struct crowd *c = ctx;
    assert_true(s->overtaken == 0);
    c->high = s->waiting > c->high ? (unsigned)s->waiting : c->high;
    return true;
}

static void *control(void *arg)
{
    struct crowd *c = arg;
    for (unsigned i = 0; i < LOOKS || !c->stop; i++) {
        mj_readers_each(c->b->rs, look, c);
        mj_readers_save(c->b->rs);
        mj_reader_pause(c->b->a);
        mj_reader_rewind(c->quiet, 0);
        mj_reader_resume(c->b->a);
        mj_dead_each(c->b->rs, NULL, 0, NULL, NULL);
        sched_yield();
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    static struct crowd c;
    static const char *const dids[] = {"did:plc:a", "did:plc:b", "did:plc:c"};
    pthread_t threads[3];
    c.b = bed_new(true);
    bed_get(c.b, "each#2", &c.quiet);
    sem_init(&c.news, 0, 0);
    sem_init(&c.handed, 0, 0);
    pthread_create(&threads[0], NULL, owner, &c);
    pthread_create(&threads[1], NULL, helper, &c);
    pthread_create(&threads[2], NULL, control, &c);
    struct mj_reader *both[] = {c.b->a, c.quiet};
    for (unsigned i = 0; i < EVENTS; i++) {
        bed_append(c.b, dids[i % 3], i % 2, both, 1 + (i % 100 == 0));
        if (i % 5 == 4)
            bed_publish(c.b);
    }
    bed_publish(c.b);
    pthread_join(threads[0], NULL);
    c.stop = true;
    sem_post(&c.handed);
    pthread_join(threads[1], NULL);
    pthread_join(threads[2], NULL);
    assert_int_equal(c.done, EVENTS);
    struct mj_reader_state s;
    mj_reader_state(c.b->a, &s);
    assert_int_equal(s.waiting, 0);
    assert_int_equal(s.delivered, EVENTS);
    mj_reader_state(c.quiet, &s);
    assert_int_equal(s.waiting, EVENTS / 100);
    bed_free(c.b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
