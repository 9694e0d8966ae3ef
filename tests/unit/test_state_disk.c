/* State on disk: what comes back after a restart, after kill -9, from a disk that takes nothing for
 * a while, and from damaged entries. */
#include "cmocka_all.h"

#include <ftw.h>
#include <lmdb.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/metrics.h"
#include "state/codec.h"
#include "state/ledger.h"
#include "state/store.h"

static char dir[64];
static int64_t now_us = 1000000;
static struct mj_store *store;
static struct mj_shelf *shelf;
static struct mj_state *map, *zset;
static struct mj_set *set;

static int64_t fake_now(void *ctx)
{
    (void)ctx;
    return now_us;
}

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/moonjet-state-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static int teardown(void **state)
{
    (void)state;
    return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void open_store(void)
{
    MJ_AUTO_BUF error = {0};
    struct mj_store_cfg cfg = {.data = dir, .now_us = fake_now};
    if (mj_store_open(&cfg, &store, &error))
        fail_msg("%s", mj_buf_cstr(&error));
    shelf = mj_store_shelf(store, "a.lua");
}

/* Declares a map, a zset and a set of these options (ttl 0: for ever). */
static void declare(bool persist, uint64_t max, int64_t ttl)
{
    MJ_AUTO_BUF error = {0};
    struct mj_state_options o = {.says_max = max != 0,
                                 .max = max,
                                 .says_ttl = ttl != 0,
                                 .ttl_us = ttl,
                                 .says_persist = true,
                                 .persist = persist};
    struct mj_plan *p = mj_plan_new(shelf);
    assert_int_equal(mj_plan_state(p, MJ_STATE_MAP, "m", &o, &map, &error), 0);
    assert_int_equal(mj_plan_state(p, MJ_STATE_ZSET, "z", &o, &zset, &error), 0);
    assert_int_equal(mj_plan_set(p, "s", &o, NULL, &set, &error), 0);
    mj_plan_commit(p);
    mj_plan_free(p);
    mj_set_unref(set); /* the store has it */
}

static void start(void)
{
    open_store();
    declare(true, 0, 0);
}

static void stop(void)
{
    mj_store_close(store);
    store = NULL;
}

static void restart(void)
{
    stop();
    start();
}

static void step(void)
{
    while (mj_shelf_step(shelf, 1000000) == 0)
        ;
    while (mj_store_step(store, 1000000) == 0)
        ;
}

static char text[64];

static struct mj_span name(unsigned i)
{
    return mj_span(text, (size_t)snprintf(text, sizeof text, "key%u", i));
}

static void put(unsigned i, double n)
{
    struct mj_value v = {.type = MJ_VALUE_NUMBER, .number = n};
    assert_int_equal(mj_map_set(&map->map, name(i), &v, now_us, 0), 0);
}

static bool is_there(unsigned i)
{
    struct mj_value v;
    return mj_map_get(&map->map, name(i), now_us, &v);
}

static int64_t metric(const char *series)
{
    MJ_AUTO_BUF all = {0};
    mj_buf_putc(&all, '\n');
    mj_metrics_render(&all);
    const char *at = strstr(mj_buf_cstr(&all), series);
    return at ? strtoll(at + strlen(series), NULL, 10) : 0;
}

#define COMMITS   "\nmoonjet_state_commits_total "
#define ERRORS    "\nmoonjet_state_write_errors_total "
#define DAMAGED   "\nmoonjet_state_damaged_total "
#define UNWRITTEN "\nmoonjet_state_unwritten_bytes "

static void everything_comes_back(void **state)
{
    (void)state;
    static uint8_t big[MJ_STATE_VALUE_MAX];
    struct mj_value v;
    double score;
    memset(big, 'x', sizeof big);
    start();
    struct mj_span longest = mj_span(big, MJ_STATE_KEY_MAX), longer = mj_span(big, 2000);
    const struct mj_value values[] = {{.type = MJ_VALUE_NUMBER, .number = -0.25},
                                      {.type = MJ_VALUE_TEXT, .text = mj_span("a\0b", 3)},
                                      {.type = MJ_VALUE_TEXT, .text = mj_span("", 0)},
                                      {.type = MJ_VALUE_TEXT, .text = mj_span(big, sizeof big)},
                                      {.type = MJ_VALUE_TRUE},
                                      {.type = MJ_VALUE_FALSE}};
    for (unsigned i = 0; i < MJ_COUNT(values); i++)
        assert_int_equal(mj_map_set(&map->map, name(i), &values[i], now_us, 0), 0);
    assert_int_equal(mj_map_set(&map->map, longest, &values[0], now_us, 0), 0);
    assert_int_equal(mj_map_set(&map->map, longer, &values[4], now_us, 0), 0);
    assert_int_equal(mj_map_set(&map->map, mj_span("", 0), &values[4], now_us, 0), 0);
    mj_map_set(&map->map, MJ_SPAN("own"), &values[4], now_us, 500);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(mj_zset_set(&zset->zset, name(i), i * 1.5, now_us), 0);
        assert_int_equal(mj_set_add(set, name(i)), 1);
    }
    for (int round = 0; round < 3; round++) {
        restart();
        assert_int_equal(mj_map_count(&map->map), 10);
        for (unsigned i = 0; i < MJ_COUNT(values); i++) {
            assert_true(mj_map_get(&map->map, name(i), now_us, &v));
            assert_int_equal(v.type, values[i].type);
            assert_true(v.number == values[i].number && mj_span_eq(v.text, values[i].text));
        }
        assert_true(mj_map_get(&map->map, longest, now_us, &v) && v.number == -0.25);
        assert_true(mj_map_get(&map->map, longer, now_us, &v) && v.type == MJ_VALUE_TRUE);
        assert_true(mj_map_get(&map->map, mj_span("", 0), now_us, &v));
        assert_true(mj_map_get(&map->map, MJ_SPAN("own"), now_us + 499, &v));
        assert_false(mj_map_get(&map->map, MJ_SPAN("own"), now_us + 500, &v));
        assert_int_equal(mj_zset_count(&zset->zset), 1000);
        assert_int_equal(mj_zset_rank(&zset->zset, name(999), now_us), 1);
        assert_true(mj_zset_score(&zset->zset, name(7), now_us, &score) && score == 10.5);
        assert_int_equal(mj_set_count(set), 1000);
        assert_true(mj_set_has(set, name(999)) && !mj_set_has(set, name(1000)));
    }
    now_us += 500;
    step();
    restart();
    assert_int_equal(mj_map_count(&map->map), 9);
    stop();
}

/* Removed is removed, cleared is cleared, and what is changed after a clear is what counts. */
static void what_goes_stays_away(void **state)
{
    (void)state;
    start();
    for (unsigned i = 0; i < 100; i++) {
        put(i, i);
        mj_zset_set(&zset->zset, name(i), i, now_us);
        mj_set_add(set, name(i));
    }
    step();
    for (unsigned i = 0; i < 50; i++) {
        assert_true(mj_map_remove(&map->map, name(i), now_us));
        assert_true(mj_zset_remove(&zset->zset, name(i), now_us));
        assert_int_equal(mj_set_remove(set, name(i)), 1);
    }
    put(3, 33);
    restart();
    assert_int_equal(mj_map_count(&map->map), 51);
    assert_int_equal(mj_zset_count(&zset->zset), 50);
    assert_int_equal(mj_set_count(set), 50);
    assert_true(is_there(3) && is_there(50) && !is_there(4));
    for (int round = 0; round < 3; round++) {
        assert_int_equal(mj_cells_clear(&map->cells), 0);
        assert_int_equal(mj_zset_clear(&zset->zset), 0);
        assert_int_equal(mj_set_clear(set), 0);
        put(7 + (unsigned)round, 1);
        if (round == 1)
            step();
    }
    restart();
    assert_int_equal(mj_map_count(&map->map), 1);
    assert_true(is_there(9));
    assert_int_equal(mj_zset_count(&zset->zset), 0);
    assert_int_equal(mj_set_count(set), 0);
    /* Another type, and no `persist` any more. */
    MJ_AUTO_BUF error = {0};
    struct mj_state_options o = {.says_persist = true, .persist = true};
    struct mj_state *s;
    struct mj_plan *p = mj_plan_new(shelf);
    assert_int_equal(mj_plan_state(p, MJ_STATE_ZSET, "m", &o, &s, &error), 0);
    mj_plan_commit(p);
    mj_plan_free(p);
    mj_zset_set(&s->zset, MJ_SPAN("x"), 1, now_us);
    stop();
    open_store();
    declare(false, 0, 0);
    assert_int_equal(mj_map_count(&map->map), 0);
    put(1, 1);
    mj_set_add(set, name(1));
    restart();
    assert_int_equal(mj_map_count(&map->map), 0);
    assert_int_equal(mj_set_count(set), 0);
    stop();
}

/* A replacement comes back as a whole; what was given, too, since it was replaced by live ones. */
static void replaced(void **state)
{
    (void)state;
    start();
    struct mj_members given = {0}, m = {0};
    for (unsigned i = 0; i < 3000; i++)
        mj_set_add(set, name(i));
    mj_members_add(&given, MJ_SPAN("given"));
    mj_members_add(&given, MJ_SPAN("gone"));
    assert_int_equal(mj_set_give(set, "a.lua", &given), 0);
    step();
    for (unsigned i = 2000; i < 5000; i++)
        mj_members_add(&m, name(i));
    mj_members_add(&m, MJ_SPAN("given"));
    assert_int_equal(mj_set_replace(set, &m), 0);
    mj_members_deinit(&m);
    assert_int_equal(mj_set_remove(set, name(4999)), 1);
    mj_set_add(set, name(0));
    restart();
    assert_int_equal(mj_set_count(set), 3001);
    assert_true(mj_set_has(set, MJ_SPAN("given")) && !mj_set_has(set, MJ_SPAN("gone")));
    assert_true(mj_set_has(set, name(0)) && !mj_set_has(set, name(1)));
    assert_true(mj_set_has(set, name(2000)) && !mj_set_has(set, name(4999)));
    stop();
}

/* Ages come back, too: limits and times to live go on as if nothing had happened. */
static void ages(void **state)
{
    (void)state;
    start();
    for (unsigned i = 0; i < 100; i++) {
        now_us += 10;
        put(99 - i, i);
        mj_set_add(set, name(99 - i));
    }
    put(50, 1); /* the newest */
    stop();
    open_store();
    declare(true, 10, 0);
    step();
    assert_int_equal(mj_map_count(&map->map), 10);
    assert_int_equal(mj_set_count(set), 10);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(is_there(i), i < 9 || i == 50);
    stop();
    open_store();
    declare(true, 0, 55);
    assert_int_equal(mj_map_count(&map->map), 10);
    step();
    assert_true(is_there(0) && is_there(5) && !is_there(6));
    stop();
}

/* Given members are not kept: their file has them. */
static void given_members(void **state)
{
    (void)state;
    start();
    struct mj_members m = {0};
    mj_members_add(&m, MJ_SPAN("given"));
    mj_set_add(set, MJ_SPAN("live"));
    assert_int_equal(mj_set_give(set, "a.lua", &m), 0);
    restart();
    assert_true(mj_set_has(set, MJ_SPAN("live")) && !mj_set_has(set, MJ_SPAN("given")));
    stop();
}

/* What a script does not declare any more waits on disk until it does. */
static void not_declared(void **state)
{
    (void)state;
    start();
    put(1, 1);
    stop();
    open_store();
    struct mj_plan *none = mj_plan_new(shelf);
    mj_plan_commit(none);
    mj_plan_free(none);
    step();
    stop();
    start();
    assert_true(is_there(1));
    stop();
}

/* kill -9: what was committed is there, what comes after it is there or not, entry by entry, and
 * nothing is damaged. */
static void killed(void **state)
{
    (void)state;
    int pipes[2];
    for (int round = 0; round < 5; round++) {
        assert_int_equal(pipe(pipes), 0);
        pid_t child = fork();
        if (!child) {
            start();
            for (unsigned i = 0; i < 5000; i++)
                put(i, i);
            step();
            /* Two commits later, what is handed over now is there. */
            int64_t commits = metric(COMMITS);
            for (unsigned i = 5000; metric(COMMITS) < commits + 2; i++) {
                put(5000 + i % 100000, i);
                step();
            }
            if (write(pipes[1], "x", 1) != 1)
                _exit(1);
            for (unsigned i = 0;; i++) {
                put(5000 + i % 100000, i);
                mj_map_remove(&map->map, name(5000 + i * 7 % 100000), now_us);
                mj_zset_set(&zset->zset, name(i % 1000), i, now_us);
                mj_set_add(set, name(i % 1000));
                if (i % 1000 == 0)
                    step();
                if (i % 20000 == 0)
                    mj_zset_clear(&zset->zset);
            }
        }
        char c;
        assert_true(child > 0);
        assert_int_equal(read(pipes[0], &c, 1), 1);
        usleep(1000u * (unsigned)(100 * round)); /* wherever it is then */
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        close(pipes[0]);
        close(pipes[1]);
        int64_t damaged = metric(DAMAGED);
        start();
        for (unsigned i = 0; i < 5000; i++)
            assert_true(is_there(i));
        assert_int_equal(metric(DAMAGED), damaged);
        assert_int_equal(mj_cells_clear(&map->cells), 0);
        restart();
        assert_int_equal(mj_map_count(&map->map), 0);
        stop();
    }
}

static void limit_files(rlim_t bytes)
{
    struct rlimit r;
    getrlimit(RLIMIT_FSIZE, &r);
    r.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

/* A disk that is full: said, counted, and nobody waits; when there is room again everything gets
 * there. In a process of its own, because the limit stands for the disk. */
static void full_disk(size_t values)
{
    static uint8_t big[MJ_STATE_VALUE_MAX];
    signal(SIGXFSZ, SIG_IGN);
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    start();
    put(1, 1);
    step();
    while (!metric(COMMITS) || metric(UNWRITTEN))
        usleep(1000);
    int64_t errors = metric(ERRORS);
    limit_files(100000);
    for (unsigned i = 0; i < values; i++) {
        struct mj_value v = {.type = MJ_VALUE_TEXT, .text = mj_span(big, sizeof big)};
        snprintf((char *)big, sizeof big, "%u", i);
        assert_int_equal(mj_map_set(&map->map, name(10 + i), &v, now_us, 0), 0);
        mj_shelf_step(shelf, 1000000);
    }
    while (metric(ERRORS) < errors + 2)
        usleep(1000);
    assert_true(metric(UNWRITTEN) > 0);
    assert_true(metric(UNWRITTEN) < 70 << 20);
    assert_true(mj_map_remove(&map->map, name(10), now_us));
    limit_files(RLIM_INFINITY);
    for (;;) {
        bool more = mj_shelf_step(shelf, 1000000) == 0;
        if (!more && !metric(UNWRITTEN))
            break;
        usleep(1000);
    }
    restart();
    assert_int_equal(mj_map_count(&map->map), values);
    for (unsigned i = 1; i < values; i++) {
        struct mj_value v;
        assert_true(mj_map_get(&map->map, name(10 + i), now_us, &v));
        assert_int_equal(strtoul((const char *)v.text.ptr, NULL, 10), i);
    }
    assert_true(is_there(1));
    stop();
}

/* Keys that come and go while the disk takes nothing: what is noted of them has an end. */
static void full_disk_churn(size_t keys)
{
    static uint8_t big[MJ_STATE_VALUE_MAX];
    signal(SIGXFSZ, SIG_IGN);
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    start();
    put(1, 1);
    step();
    while (!metric(COMMITS) || metric(UNWRITTEN))
        usleep(1000);
    limit_files(100000);
    const struct mj_ledger *l = map->cells.ledger;
    for (unsigned i = 0; mj_ledger_bytes(l) < 10 << 20; i++) {
        struct mj_value v = {.type = MJ_VALUE_TEXT, .text = mj_span(big, sizeof big)};
        assert_int_equal(mj_map_set(&map->map, name(i), &v, now_us, 0), 0);
        mj_shelf_step(shelf, 1000000);
    }
    size_t before = mj_ledger_bytes(l);
    for (unsigned i = 0; i < keys; i++) {
        put(1000000 + i, i);
        if (i >= 100)
            assert_true(mj_map_remove(&map->map, name(1000000 + i - 100), now_us));
        if (i % 1000 == 0)
            mj_shelf_step(shelf, 1000);
    }
    size_t more = mj_ledger_bytes(l) - before;
    assert_true(more < 100000);
    limit_files(RLIM_INFINITY);
    restart();
    for (unsigned i = 0; i < keys; i += i < keys - 200 ? 997 : 1)
        assert_int_equal(is_there(1000000 + i), i + 100 >= keys);
    stop();
}

static void in_a_process(void (*fn)(size_t), size_t n)
{
    int status;
    pid_t child = fork();
    if (!child) {
        fn(n);
        _exit(0);
    }
    assert_true(child > 0);
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void full_for_a_while(void **state)
{
    (void)state;
    in_a_process(full_disk, 100);
}

static void note_error(void *ctx, enum mj_log_level level, const char *tag, const char *line)
{
    (void)tag;
    if (level == MJ_LOG_ERROR && !((struct mj_buf *)ctx)->len)
        mj_buf_puts(ctx, line);
}

/* On a small file system of its own, as far as the process may have one. */
static void said_when_full(void **state)
{
    static uint8_t big[MJ_STATE_VALUE_MAX];
    MJ_AUTO_BUF line = {0};
    int status;
    (void)state;
    pid_t child = fork();
    if (child) {
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77)
            skip();
        assert_int_equal(WEXITSTATUS(status), 0);
        return;
    }
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("tmpfs", dir, "tmpfs", 0, "size=1m"))
        _exit(77);
    mj_log_capture(note_error, &line);
    start();
    for (unsigned i = 0; i < 40; i++) {
        struct mj_value v = {.type = MJ_VALUE_TEXT, .text = mj_span(big, sizeof big)};
        mj_map_set(&map->map, name(i), &v, now_us, 0);
    }
    step();
    while (!metric(ERRORS))
        usleep(1000);
    stop(); /* and so the disk's thread */
    mj_log_capture(NULL, NULL);
    _exit(strstr(mj_buf_cstr(&line), "No space left") && strstr(mj_buf_cstr(&line), "Make room")
              ? 0
              : 1);
}

/* So much that it cannot wait in memory: it is written anew as a whole. */
static void full_for_long(void **state)
{
    (void)state;
    in_a_process(full_disk, 1600);
}

static void full_and_busy(void **state)
{
    (void)state;
    in_a_process(full_disk_churn, 300000);
}

/* Scribbles over values in the file: `at` of each value, which is -1 for cutting it. */
static unsigned scribble(int at)
{
    char path[100];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_cursor *cursor;
    MDB_val key, value;
    unsigned n = 0;
    snprintf(path, sizeof path, "%s/state", dir);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, path, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
    assert_int_equal(mdb_cursor_open(txn, dbi, &cursor), 0);
    for (int err = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); !err;
         err = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        uint8_t copy[100], own[100];
        if (!memcmp(key.mv_data, "\0\0\0\0\0\0\0", 8) || value.mv_size > sizeof copy)
            continue;
        if (n++ % 3)
            continue;
        memcpy(copy, value.mv_data, value.mv_size);
        memcpy(own, key.mv_data, key.mv_size); /* a cut value moves it */
        key.mv_data = own;
        if (at >= 0)
            copy[at] ^= 0xff;
        MDB_val bad = {at < 0 ? 5 : value.mv_size, copy};
        assert_int_equal(mdb_cursor_put(cursor, &key, &bad, MDB_CURRENT), 0);
    }
    mdb_cursor_close(cursor);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    return (n + 2) / 3;
}

static void damaged_entries(void **state)
{
    (void)state;
    /* The type, the time's last byte, the key's length, the key, the value's length. */
    static const int places[] = {0, 8, 17, 19, -1};
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    for (size_t i = 0; i < MJ_COUNT(places); i++) {
        start();
        mj_cells_clear(&map->cells);
        for (unsigned k = 0; k < 99; k++)
            put(k, k);
        stop();
        unsigned bad = scribble(places[i]);
        assert_int_equal(bad, 33);
        int64_t damaged = metric(DAMAGED);
        start();
        assert_int_equal(metric(DAMAGED) - damaged, bad);
        assert_int_equal(mj_map_count(&map->map), 66);
        put(1000, 1);
        stop();
    }
    mj_log_setup(MJ_LOG_INFO, false);
}

static void bad_places(void **state)
{
    (void)state;
    MJ_AUTO_BUF error = {0};
    struct mj_store *s;
    struct mj_store_cfg cfg = {.data = "/proc/nothing"};
    assert_int_equal(mj_store_open(&cfg, &s, &error), MJ_EIO);
    assert_non_null(strstr(mj_buf_cstr(&error), "cannot make the directory /proc/nothing/state"));
    start();
    put(1, 1);
    stop();
    char path[100];
    snprintf(path, sizeof path, "%s/state/data.mdb", dir);
    FILE *f = fopen(path, "r+");
    for (int i = 0; i < 8192; i++)
        putc('x', f);
    fclose(f);
    error.len = 0;
    cfg.data = dir;
    assert_int_equal(mj_store_open(&cfg, &s, &error), MJ_EIO);
    assert_non_null(strstr(mj_buf_cstr(&error), "/state, where scripts' state is kept: "));
    assert_non_null(strstr(mj_buf_cstr(&error), "move it away and start again"));
}

static void refused(void)
{
    MJ_AUTO_BUF error = {0};
    struct mj_store *s;
    struct mj_store_cfg cfg = {.data = dir};
    assert_int_equal(mj_store_open(&cfg, &s, &error), MJ_EIO);
    assert_non_null(strstr(mj_buf_cstr(&error), "move it away and start again"));
}

/* A file that ends early, as after a copy that was cut off, or has a page of nothing: LMDB would
 * end the process when it comes to that. */
static void damaged_file(void **state)
{
    (void)state;
    static uint8_t page[4096];
    char path[100];
    start();
    for (unsigned i = 0; i < 10000; i++)
        put(i, i);
    stop();
    snprintf(path, sizeof path, "%s/state/data.mdb", dir);
    FILE *f = fopen(path, "r+");
    for (long at = 20; at < 140; at += 20) {
        assert_int_equal(fseek(f, at * 4096, SEEK_SET), 0);
        assert_int_equal(fread(page, 1, sizeof page, f), sizeof page);
        fseek(f, at * 4096 + 8, SEEK_SET);
        for (int i = 0; i < 4088; i++)
            putc(0, f);
        fflush(f);
        refused();
        fseek(f, at * 4096, SEEK_SET);
        assert_int_equal(fwrite(page, 1, sizeof page, f), sizeof page);
        fflush(f);
    }
    fclose(f);
    start();
    assert_int_equal(mj_map_count(&map->map), 10000);
    stop();
    for (off_t size = 600000; size > 8192; size = size * 2 / 3) {
        assert_int_equal(truncate(path, size), 0);
        refused();
    }
}

static void add_up(void *ctx, struct mj_span key, struct mj_span value)
{
    (void)key;
    *(size_t *)ctx += value.len;
}

static void put_one(struct mj_disk *d, const char *value)
{
    MJ_AUTO_BUF batch = {0};
    mj_batch_name(&batch, "a.lua", "m", 1, MJ_DISK_MAP);
    mj_batch_put(&batch, MJ_SPAN("\0\0\0\0\0\0\0\1k"), mj_str(value));
    assert_true(mj_disk_hand_over(d, &batch, true));
}

/* To be looked at only: what is handed over is dropped, and nothing is made. Beside a process that
 * writes it is used in tests/e2e: LMDB is opened once per process. */
static void looked_at(void **state)
{
    (void)state;
    char path[128];
    struct mj_disk *d;
    MJ_AUTO_BUF error = {0};
    snprintf(path, sizeof path, "%s/state", dir);
    assert_int_equal(mj_disk_open_read_only(path, &d, &error), MJ_ENOENT);
    assert_non_null(strstr(mj_buf_cstr(&error), "state/data.mdb: No such file"));
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(mj_disk_open(path, &d, &error), 0);
    put_one(d, "four");
    mj_disk_close(d);
    for (int i = 0; i < 2; i++) {
        size_t bytes = 0;
        error.len = 0;
        if (mj_disk_open_read_only(path, &d, &error))
            fail_msg("%s", mj_buf_cstr(&error));
        assert_int_equal(mj_disk_read(d, 1, add_up, NULL, &bytes), 0);
        assert_int_equal(bytes, 4);
        put_one(d, "many more");
        mj_disk_close(d);
    }
    snprintf(path, sizeof path, "%s/state/data.mdb", dir);
    assert_int_equal(truncate(path, 5000), 0);
    path[strlen(path) - strlen("/data.mdb")] = '\0';
    assert_int_equal(mj_disk_open_read_only(path, &d, &error), MJ_EIO);
}

/* An argument runs only the tests whose names it matches. */
int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {T(everything_comes_back),
                                       T(what_goes_stays_away),
                                       T(replaced),
                                       T(ages),
                                       T(given_members),
                                       T(not_declared),
                                       T(killed),
                                       T(full_for_a_while),
                                       T(full_for_long),
                                       T(said_when_full),
                                       T(damaged_entries),
                                       T(bad_places),
                                       T(damaged_file),
                                       T(looked_at),
                                       T(full_and_busy)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
