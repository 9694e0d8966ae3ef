/* Durable readers through kill -9, power loss, a journal that is another one, and damage: nothing
 * that was published is lost for a reader, and what was done for good is not done again. */
#include "unit/reader_bed.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "journal/reader_internal.h"

static int setup(void **state)
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

/* The child's life: it posts and settles until it is killed, and tells of each event posted ("p")
 * and done ("d"), only once that is so. */
static void live(struct reader_bed *b, int out, unsigned seed)
{
    static const char *const dids[] = {"did:plc:a", "did:plc:b", "did:plc:c"};
    struct mj_parcel *air[64];
    size_t n = 0;
    bed_own(b, (struct mj_owner_cfg){.workers = 50, .retry = {.max_us = 1000}});
    for (;;) {
        unsigned first = b->posted;
        for (unsigned i = 0; i < 1 + (unsigned)rand_r(&seed) % 4; i++)
            bed_append(b, dids[rand_r(&seed) % 3], rand_r(&seed) % 2, &b->a, 1);
        bed_publish(b);
        for (; first < b->posted; first++)
            dprintf(out, "p%u\n", first);
        b->now += 1000;
        for (struct mj_parcel *p; n < 50 && (p = bed_take(b));)
            air[n++] = p;
        while (n > 20 || (n && rand_r(&seed) % 3)) {
            size_t i = (size_t)rand_r(&seed) % n;
            struct mj_parcel *p = air[i];
            air[i] = air[--n];
            if (rand_r(&seed) % 4 == 0) {
                bed_fail(b, p, MJ_FAIL_RETRY);
                continue;
            }
            const char *number = bed_numbers(p);
            char text[32];
            snprintf(text, sizeof text, "d%.20s\n", number);
            mj_parcel_done(p, b->now, 0);
            dprintf(out, "%s", text);
        }
        if (rand_r(&seed) % 8 == 0)
            mj_readers_save(b->rs);
    }
}

enum { LIVES = 12, EVENTS_MAX = 200000 };

static void test_kill_9(void **state)
{
    struct reader_bed *b = *state;
    static uint8_t posted[EVENTS_MAX], done[EVENTS_MAX];
    unsigned seed = 7, repeated = 0, highest = 0;
    for (unsigned life = 0; life < LIVES; life++) {
        int pipes[2];
        bed_close(b);
        assert_int_equal(pipe(pipes), 0);
        pid_t child = fork();
        if (child == 0) {
            close(pipes[0]);
            bed_open(b);
            live(b, pipes[1], seed + life);
        }
        close(pipes[1]);
        FILE *in = fdopen(pipes[0], "r");
        char what;
        unsigned number, lines = 300 + (unsigned)rand_r(&seed) % 3000;
        while (fscanf(in, "%c%u ", &what, &number) == 2) {
            assert_true(number < EVENTS_MAX);
            repeated += what == 'd' && done[number];
            (what == 'p' ? posted : done)[number] = 1;
            highest = number > highest ? number : highest;
            if (lines && !--lines)
                kill(child, SIGKILL);
        }
        fclose(in);
        assert_int_equal(waitpid(child, NULL, 0), child);
        bed_open(b);
        b->posted = highest + 100;
    }
    /* What is left comes now: all that was told to be posted has then been done. */
    bed_own(b, (struct mj_owner_cfg){0});
    b->now = mj_now_us() + 3600 * SECOND;
    for (struct mj_parcel *p; (p = bed_take(b));) {
        unsigned number = (unsigned)strtoul(bed_numbers(p), NULL, 10);
        repeated += done[number];
        done[number] = 1;
        mj_parcel_done(p, b->now, 0);
    }
    unsigned n = 0;
    for (unsigned i = 0; i <= highest; i++) {
        n += posted[i];
        if (posted[i] && !done[i])
            fail_msg("event %u of %u is lost", i, highest);
    }
    print_message("%u events, %u of them more than once, %u lives\n", n, repeated, LIVES);
    assert_int_equal(state_of(b->a).overtaken, 0);
    assert_int_equal(state_of(b->a).waiting, 0);
}

/* A reader that is a moment old when the process dies: what was published for it is found. */
static void test_new_reader(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p;
    bed_close(b);
    pid_t child = fork();
    if (child == 0) {
        struct mj_reader *fresh;
        bed_open(b);
        bed_get(b, "each#9", &fresh);
        bed_append(b, "did:plc:a", 0, &fresh, 1);
        bed_publish(b);
        kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    bed_open(b);
    bed_get(b, "each#9", &b->a);
    bed_own(b, (struct mj_owner_cfg){0});
    assert_takes(b, p, "0");
    mj_parcel_done(p, b->now, 0);
}

static void copy(const char *from, const char *to)
{
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s' && cp -r '%s' '%s'", to, from, to);
    assert_int_equal(system(command), 0);
}

/* The journal loses what was not synced, while the position is that far already. What is lost comes
 * again from upstream, under seqs that are new. */
static void test_power_loss(void **state)
{
    struct reader_bed *b = *state;
    char journal[128], before[128];
    struct mj_parcel *p;
    snprintf(journal, sizeof journal, "%s/journal", b->dir);
    snprintf(before, sizeof before, "%s/before", b->dir);
    bed_own(b, (struct mj_owner_cfg){0});
    bed_post(b, "did:plc:a");
    assert_int_equal(mj_journal_sync(b->j), 0);
    copy(journal, before);
    for (unsigned i = 0; i < 50; i++)
        bed_post(b, "did:plc:a");
    char id[MJ_DELIVERY_ID_LEN + 1] = "";
    while ((p = bed_take(b))) {
        if (strcmp(bed_numbers(p), "1") == 0)
            strcpy(id, p->items[0].id);
        mj_parcel_done(p, b->now, 0);
    }
    uint64_t position = state_of(b->a).position;
    mj_reader_disown(b->a, b);
    bed_close(b);
    copy(before, journal);
    bed_open(b);
    bed_own(b, (struct mj_owner_cfg){0});
    assert_true(state_of(b->a).position >= position);
    assert_null(bed_take(b));
    b->posted = 1;
    bed_post(b, "did:plc:a");
    assert_takes(b, p, "1");
    assert_true(p->items[0].seq > position);
    assert_string_equal(p->items[0].id, id); /* so that it can be told from new */
    mj_parcel_done(p, b->now, 0);
}

/* DATA/journal was removed, DATA/state was not. */
static void test_another_journal(void **state)
{
    struct reader_bed *b = *state;
    char journal[128], aside[128];
    struct mj_parcel *p;
    snprintf(journal, sizeof journal, "%s/journal", b->dir);
    snprintf(aside, sizeof aside, "%s/aside", b->dir);
    bed_own(b, (struct mj_owner_cfg){.order = MJ_ORDER_NONE, .workers = 2});
    for (unsigned i = 0; i < 20; i++)
        bed_post(b, "did:plc:a");
    p = bed_take(b);
    mj_parcel_done(bed_take(b), b->now, 0);
    mj_readers_save(b->rs);
    bed_fail(b, p, MJ_FAIL_BACK);
    mj_reader_disown(b->a, b);
    bed_close(b);
    assert_int_equal(rename(journal, aside), 0);
    bed_open(b);
    bed_own(b, (struct mj_owner_cfg){0});
    assert_null(bed_take(b));
    bed_post(b, "did:plc:a");
    assert_takes(b, p, "20");
    mj_parcel_done(p, b->now, 0);
}

/* A position that cannot be read is said, and costs what waited, no more. */
static void test_damaged_position(void **state)
{
    struct reader_bed *b = *state;
    struct mj_parcel *p;
    bed_own(b, (struct mj_owner_cfg){0});
    bed_post(b, "did:plc:a");
    mj_readers_save(b->rs);
    MJ_AUTO_BUF batch = {0};
    uint8_t key[16];
    uint64_t big = __builtin_bswap64(b->a->disk_number);
    memcpy(key, &big, 8);
    memcpy(key + 8, "position", 8);
    mj_batch_put(&batch, mj_span(key, sizeof key), MJ_SPAN("\x01\x09garbage"));
    mj_disk_hand_over(b->disk, &batch, true);
    mj_reader_disown(b->a, b);
    bed_close(b);
    bed_open(b);
    bed_own(b, (struct mj_owner_cfg){0});
    assert_null(bed_take(b));
    bed_post(b, "did:plc:a");
    assert_takes(b, p, "1");
    mj_parcel_done(p, b->now, 0);
}

/* More in the window than is kept of it: what does not fit is read again. */
static void test_large_window(void **state)
{
    struct reader_bed *b = *state;
    enum { EVENTS = 40000 };
    for (unsigned i = 0; i < EVENTS; i++)
        bed_append(b, i % 2 ? "did:plc:a" : "did:plc:b", 1, &b->a, 1);
    bed_publish(b);
    bed_own(b,
            (struct mj_owner_cfg){
                .window = EVENTS, .order = MJ_ORDER_NONE, .max = EVENTS, .retry = {.min_us = 1}});
    /* All have failed once, so each takes some 20 bytes. */
    struct mj_parcel *p = bed_take(b);
    assert_int_equal(p->n, EVENTS);
    bed_fail(b, p, MJ_FAIL_RETRY);
    mj_reader_disown(b->a, b);
    MJ_AUTO_BUF kept = {0};
    mj__position_put(&kept, b->a);
    assert_true(kept.len < MJ__SLOTS_SAVED + 64);
    bed_close(b);
    bed_open(b);
    assert_int_equal(state_of(b->a).waiting, EVENTS);
    bed_own(b, (struct mj_owner_cfg){.window = EVENTS, .order = MJ_ORDER_NONE, .max = EVENTS});
    b->now += 10 * SECOND;
    size_t n = 0;
    while ((p = bed_take(b))) {
        if (!n) /* those that failed together, as many as were kept */
            assert_int_equal(p->attempt, 2);
        n += p->n;
        mj_parcel_done(p, b->now, 0);
    }
    assert_int_equal(n, EVENTS);
}

/* A block of the journal is damaged: what it held for the reader is lost, and counted; it goes on.
 */
static void test_damaged_block(void **state)
{
    struct reader_bed *b = *state;
    char command[300];
    enum { EVENTS = 2000 };
    for (unsigned i = 0; i < EVENTS; i++)
        bed_post(b, "did:plc:a");
    bed_close(b);
    bed_open(b);
    assert_int_equal(mj_journal_seal(b->j, 1), 0);
    bed_close(b);
    snprintf(command, sizeof command,
             "f=$(ls %s/journal/*.sealed | head -1) && printf 'XXXXXXXXXXXXXXXX' | "
             "dd of=\"$f\" bs=1 seek=100 conv=notrunc 2>/dev/null",
             b->dir);
    assert_int_equal(system(command), 0);
    bed_open(b);
    bed_own(b, (struct mj_owner_cfg){.max = 100});
    size_t n = 0;
    for (struct mj_parcel *p; (p = bed_take(b));) {
        n += p->n;
        mj_parcel_done(p, b->now, 0);
    }
    struct mj_reader_state s = state_of(b->a);
    assert_true(s.overtaken > 0 && n > 0);
    assert_int_equal(s.overtaken + n, EVENTS);
    assert_int_equal(s.waiting, 0);
}

/* The journal's table of names is full, so readers share a number, and notes are told apart by
 * their text. */
static void test_full_table(void **state)
{
    struct reader_bed *b = *state;
    struct mj_reader *a = b->a, *other;
    struct mj_parcel *p;
    bed_get(b, "each#2", &other);
    a->collection = other->collection = MJ_COLLECTION_NONE;
    a->number = other->number = MJ_COLLECTION_OTHER;
    bed_own(b, (struct mj_owner_cfg){0});
    bed_append(b, "did:plc:a", 1, &other, 1);
    bed_append(b, "did:plc:b", 1, &a, 1);
    bed_publish(b);
    assert_takes(b, p, "1");
    mj_parcel_done(p, b->now, 0);
    assert_null(bed_take(b));
    assert_int_equal(state_of(a).waiting, 0);
    b->a = other;
    bed_own(b, (struct mj_owner_cfg){0});
    assert_takes(b, p, "0");
    mj_parcel_done(p, b->now, 0);
    assert_null(bed_take(b));
    assert_int_equal(state_of(other).overtaken, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kill_9, setup, teardown),
        cmocka_unit_test_setup_teardown(test_new_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(test_power_loss, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_journal, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_position, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_window, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_block, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_table, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
