#include "state/disk.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/dirs.h"
#include "base/err.h"
#include "base/log.h"
#include "base/metrics.h"
#include "state/probe.h"

#define MAP_MIN      ((size_t)256 << 20) /* address space; the file is as large as it must be */
#define QUEUE_MAX    ((size_t)64 << 20)  /* bytes waiting */
#define GATHER_US    INT64_C(400000)     /* between two transactions */
#define RETRY_US     INT64_C(1000000)
#define SWEEP_STEP   5000 /* keys removed in one transaction */
#define COMPLAIN_US  INT64_C(60000000)
#define NAME_KEY_MAX 480
#define FULL_BYTES   ((size_t)1 << 20) /* of free space, when a write came back short */

enum op { OP_PUT = 'p', OP_REMOVE = 'r', OP_SWEEP = 's' };

struct batch {
    struct mj_buf ops; /* owned */
    struct batch *next;
};

struct mj_disk {
    char *dir; /* owned */
    MDB_env *env;
    MDB_dbi dbi;
    pthread_t thread;
    /* Over the environment: LMDB must not be resized while somebody reads. */
    pthread_rwlock_t resizing;
    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t wake;
    struct batch *first, **last; /* waiting */
    size_t waiting;              /* bytes of these, and of those being written */
    uint64_t handed, written;    /* batches, ever */
    bool closing;
    bool hurry;           /* somebody waits in mj_disk_flush() … */
    pthread_cond_t tried; /* … for this */
    bool read_only;       /* there is no thread, and what is handed over is dropped */
    _Atomic uint64_t next_number;
    /* the thread's own */
    struct batch *writing;
    uint64_t *sweeps; /* owned: numbers to be swept */
    size_t sweep_count;
    bool failing;
    int64_t complained_us;
    struct {
        struct mj_metric *commits, *errors, *waiting;
    } m;
};

/* ---- batches ---- */

static void put32(struct mj_buf *b, size_t n)
{
    uint32_t v = (uint32_t)n;
    mj_buf_put(b, &v, sizeof v);
}

static void put_op(struct mj_buf *b, enum op op, struct mj_span key, struct mj_span value)
{
    mj_buf_putc(b, (char)op);
    put32(b, key.len);
    put32(b, value.len);
    mj_buf_put(b, key.ptr, key.len);
    mj_buf_put(b, value.ptr, value.len);
}

void mj_batch_put(struct mj_buf *batch, struct mj_span key, struct mj_span value)
{
    put_op(batch, OP_PUT, key, value);
}

void mj_batch_remove(struct mj_buf *batch, struct mj_span key)
{
    put_op(batch, OP_REMOVE, key, mj_span(NULL, 0));
}

void mj_batch_sweep(struct mj_buf *batch, uint64_t number)
{
    uint64_t big = htobe64(number);
    put_op(batch, OP_SWEEP, mj_span(&big, sizeof big), mj_span(NULL, 0));
}

/* Script and name are short: their lengths are limited where they come from; what does not fit is
 * cut, and then two long names of scripts could meet. */
static size_t name_key(const char *script, const char *name, uint8_t out[NAME_KEY_MAX])
{
    size_t at = 8, room = NAME_KEY_MAX - 8 - 1 - (name ? strlen(name) : 0), n = strlen(script);
    memset(out, 0, 8);
    if (n > room)
        n = room;
    memcpy(out + at, script, n);
    at += n;
    out[at++] = 0;
    if (name) {
        memcpy(out + at, name, strlen(name));
        at += strlen(name);
    }
    return at;
}

void mj_batch_name(struct mj_buf *batch, const char *script, const char *name, uint64_t number,
                   char kind)
{
    uint8_t key[NAME_KEY_MAX], value[9];
    uint64_t little = htole64(number);
    memcpy(value, &little, 8);
    value[8] = (uint8_t)kind;
    mj_batch_put(batch, mj_span(key, name_key(script, name, key)), mj_span(value, sizeof value));
}

void mj_batch_forget(struct mj_buf *batch, const char *script, const char *name)
{
    uint8_t key[NAME_KEY_MAX];
    mj_batch_remove(batch, mj_span(key, name_key(script, name, key)));
}

/* ---- the thread ---- */

static MDB_val val(struct mj_span s) { return (MDB_val){s.len, (void *)(uintptr_t)s.ptr}; }

static struct mj_span span(MDB_val v) { return mj_span(v.mv_data, v.mv_size); }

static uint64_t number_of(struct mj_span key)
{
    uint64_t big;
    if (key.len < 8)
        return 0;
    memcpy(&big, key.ptr, 8);
    return be64toh(big);
}

static void note_sweep(struct mj_disk *d, uint64_t number)
{
    for (size_t i = 0; i < d->sweep_count; i++)
        if (d->sweeps[i] == number)
            return;
    d->sweeps = mj_realloc(d->sweeps, (d->sweep_count + 1) * sizeof *d->sweeps);
    d->sweeps[d->sweep_count++] = number;
}

/* The batch was made by us and is well-formed. */
static int apply(struct mj_disk *d, MDB_txn *txn, struct mj_span ops)
{
    int err = 0;
    while (!err && ops.len) {
        uint32_t key_len, value_len;
        enum op op = (enum op)ops.ptr[0];
        memcpy(&key_len, ops.ptr + 1, 4);
        memcpy(&value_len, ops.ptr + 5, 4);
        MDB_val key = val(mj_span(ops.ptr + 9, key_len));
        MDB_val value = val(mj_span(ops.ptr + 9 + key_len, value_len));
        size_t used = 9 + (size_t)key_len + value_len;
        ops = mj_span(ops.ptr + used, ops.len - used);
        if (op == OP_PUT) {
            err = mdb_put(txn, d->dbi, &key, &value, 0);
        } else if (op == OP_REMOVE) {
            err = mdb_del(txn, d->dbi, &key, NULL);
            if (err == MDB_NOTFOUND)
                err = 0;
        } else {
            note_sweep(d, number_of(span(key)));
        }
    }
    return err;
}

/* Removes some of what is under the first number to be swept; *done when that was all of it. */
static int sweep(struct mj_disk *d, MDB_txn *txn, bool *done)
{
    MDB_cursor *cursor;
    uint64_t big = htobe64(d->sweeps[0]);
    MDB_val key = {sizeof big, &big}, value;
    int err = mdb_cursor_open(txn, d->dbi, &cursor);
    if (err)
        return err;
    err = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (int i = 0; !err && i < SWEEP_STEP && number_of(span(key)) == d->sweeps[0]; i++) {
        err = mdb_cursor_del(cursor, 0);
        if (!err)
            err = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    *done = err == MDB_NOTFOUND || (!err && number_of(span(key)) != d->sweeps[0]);
    mdb_cursor_close(cursor);
    return err == MDB_NOTFOUND ? 0 : err;
}

static int grow(struct mj_disk *d)
{
    MDB_envinfo info;
    pthread_rwlock_wrlock(&d->resizing);
    mdb_env_info(d->env, &info);
    int err = mdb_env_set_mapsize(d->env, 2 * info.me_mapsize);
    pthread_rwlock_unlock(&d->resizing);
    return err;
}

/* One transaction of all that is being written, and of some sweeping. */
static int transact(struct mj_disk *d)
{
    MDB_txn *txn;
    bool swept = false;
    int err = mdb_txn_begin(d->env, NULL, 0, &txn);
    if (err)
        return err;
    for (struct batch *b = d->writing; b && !err; b = b->next)
        err = apply(d, txn, mj_buf_span(&b->ops));
    if (!err && d->sweep_count)
        err = sweep(d, txn, &swept);
    if (err)
        mdb_txn_abort(txn);
    else
        err = mdb_txn_commit(txn);
    if (!err && swept)
        d->sweeps[0] = d->sweeps[--d->sweep_count];
    return err;
}

/* LMDB takes a write that came back short for an I/O error, and a full disk shows by just that. */
static bool is_full(const struct mj_disk *d, int err)
{
    struct statvfs v;
    if (err != EIO)
        return err == ENOSPC || err == EDQUOT;
    return statvfs(d->dir, &v) == 0 && v.f_bavail * v.f_frsize < FULL_BYTES;
}

static void complain(struct mj_disk *d, int err)
{
    int64_t now = mj_mono_us();
    bool full = is_full(d, err);
    mj_metric_add(d->m.errors, 1);
    if (d->failing && now - d->complained_us < COMPLAIN_US)
        return;
    d->failing = true;
    d->complained_us = now;
    mj_log(MJ_LOG_ERROR, "state",
           "cannot write %s/data.mdb: %s. What scripts persist stays in memory and is tried again "
           "every second; a restart would lose it%s",
           d->dir, mdb_strerror(full && err == EIO ? ENOSPC : err),
           full ? ". Make room on the disk" : "");
}

static void free_batches(struct batch *b)
{
    while (b) {
        struct batch *next = b->next;
        mj_buf_deinit(&b->ops);
        free(b);
        b = next;
    }
}

static size_t batch_bytes(const struct batch *b)
{
    size_t n = 0;
    for (; b; b = b->next)
        n += b->ops.len;
    return n;
}

static int write_all(struct mj_disk *d)
{
    int err = transact(d);
    while (err == MDB_MAP_FULL && grow(d) == 0)
        err = transact(d);
    if (err) {
        complain(d, err);
        return err;
    }
    if (d->failing)
        mj_log(MJ_LOG_INFO, "state", "%s/data.mdb is written again", d->dir);
    d->failing = false;
    mj_metric_add(d->m.commits, 1);
    return 0;
}

/* Waits for batches, but not for longer than `us`, and takes them behind those being written. */
static void take(struct mj_disk *d, int64_t us)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(us % 1000000) * 1000;
    until.tv_sec += us / 1000000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&d->lock);
    while (!d->closing && !(us == 0 && d->first) && !(us && d->hurry))
        if (us ? pthread_cond_timedwait(&d->wake, &d->lock, &until)
               : pthread_cond_wait(&d->wake, &d->lock))
            break;
    struct batch **end = &d->writing;
    while (*end)
        end = &(*end)->next;
    *end = d->first;
    d->first = NULL;
    d->last = &d->first;
    pthread_mutex_unlock(&d->lock);
}

static bool is_closing(struct mj_disk *d)
{
    pthread_mutex_lock(&d->lock);
    bool closing = d->closing;
    pthread_mutex_unlock(&d->lock);
    return closing;
}

static void *run(void *arg)
{
    struct mj_disk *d = arg;
    for (;;) {
        /* Without work: until there is some, then a while for more of it to come. */
        if (!d->writing && !d->sweep_count && !d->failing)
            take(d, 0);
        take(d, d->failing ? RETRY_US : d->sweep_count && !d->writing ? 1000 : GATHER_US);
        bool closing = is_closing(d); /* nothing comes behind what was taken */
        if (closing)
            take(d, 0);
        bool written = (d->writing || d->sweep_count) && write_all(d) == 0;
        pthread_mutex_lock(&d->lock);
        for (const struct batch *b = written ? d->writing : NULL; b; b = b->next)
            d->written++;
        if (written)
            d->waiting -= batch_bytes(d->writing);
        mj_metric_set(d->m.waiting, (int64_t)d->waiting);
        d->hurry = d->hurry && d->first; /* a disk that fails is tried again in its time */
        pthread_cond_broadcast(&d->tried);
        pthread_mutex_unlock(&d->lock);
        if (written) {
            free_batches(d->writing);
            d->writing = NULL;
        }
        if (closing)
            return NULL;
    }
}

bool mj_disk_hand_over(struct mj_disk *d, struct mj_buf *batch, bool force)
{
    bool taken = true;
    if (d->read_only)
        batch->len = 0;
    if (!batch->len)
        return true;
    struct batch *b = mj_calloc(1, sizeof *b);
    pthread_mutex_lock(&d->lock);
    taken = force || d->waiting + batch->len <= QUEUE_MAX;
    if (taken) {
        b->ops = *batch;
        *batch = (struct mj_buf){0};
        d->waiting += b->ops.len;
        d->handed++;
        mj_metric_set(d->m.waiting, (int64_t)d->waiting);
        *d->last = b;
        d->last = &b->next;
        b = NULL;
        pthread_cond_signal(&d->wake);
    }
    pthread_mutex_unlock(&d->lock);
    free(b);
    return taken;
}

bool mj_disk_flush(struct mj_disk *d, int64_t wait_us)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(wait_us % 1000000) * 1000;
    until.tv_sec += wait_us / 1000000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&d->lock);
    uint64_t handed = d->handed;
    d->hurry = d->written < handed;
    pthread_cond_signal(&d->wake);
    while (d->written < handed && !pthread_cond_timedwait(&d->tried, &d->lock, &until))
        ;
    bool there = d->written >= handed;
    pthread_mutex_unlock(&d->lock);
    return there;
}

bool mj_disk_has_room(struct mj_disk *d)
{
    pthread_mutex_lock(&d->lock);
    bool room = d->waiting <= QUEUE_MAX / 2;
    pthread_mutex_unlock(&d->lock);
    return room;
}

uint64_t mj_disk_handed(struct mj_disk *d)
{
    pthread_mutex_lock(&d->lock);
    uint64_t n = d->handed;
    pthread_mutex_unlock(&d->lock);
    return n;
}

uint64_t mj_disk_written(struct mj_disk *d)
{
    pthread_mutex_lock(&d->lock);
    uint64_t n = d->written;
    pthread_mutex_unlock(&d->lock);
    return n;
}

uint64_t mj_disk_new_number(struct mj_disk *d) { return atomic_fetch_add(&d->next_number, 1); }

/* ---- reading ---- */

/* Walks the keys from `from` on that start with `prefix`, while `fn` says so. */
static int walk(struct mj_disk *d, struct mj_span prefix, struct mj_span from,
                bool (*fn)(void *ctx, struct mj_span key, struct mj_span value),
                void (*done)(void *ctx), void *ctx)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val key = val(from), value;
    pthread_rwlock_rdlock(&d->resizing);
    int err = mdb_txn_begin(d->env, NULL, MDB_RDONLY, &txn);
    if (err)
        goto out;
    err = mdb_cursor_open(txn, d->dbi, &cursor);
    if (!err) {
        err = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        while (!err && mj_span_starts(span(key), prefix) && fn(ctx, span(key), span(value)))
            err = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        if (done)
            done(ctx);
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
out:
    pthread_rwlock_unlock(&d->resizing);
    if (!err || err == MDB_NOTFOUND)
        return 0;
    mj_log(MJ_LOG_ERROR, "state", "cannot read %s/data.mdb: %s", d->dir, mdb_strerror(err));
    return MJ_EIO;
}

struct names {
    void (*fn)(void *ctx, const char *name, uint64_t number, char kind);
    void *ctx;
    size_t prefix;
};

static bool on_name(void *ctx, struct mj_span key, struct mj_span value)
{
    struct names *n = ctx;
    char name[NAME_KEY_MAX];
    uint64_t number;
    size_t len = key.len - n->prefix;
    if (value.len != 9 || len >= sizeof name)
        return true; /* not ours */
    memcpy(name, key.ptr + n->prefix, len);
    name[len] = 0;
    memcpy(&number, value.ptr, 8);
    n->fn(n->ctx, name, le64toh(number), (char)value.ptr[8]);
    return true;
}

int mj_disk_names(struct mj_disk *d, const char *script,
                  void (*fn)(void *ctx, const char *name, uint64_t number, char kind), void *ctx)
{
    uint8_t key[NAME_KEY_MAX];
    struct names names = {fn, ctx, name_key(script, NULL, key)};
    struct mj_span prefix = mj_span(key, names.prefix);
    return walk(d, prefix, prefix, on_name, NULL, &names);
}

struct reading {
    void (*fn)(void *ctx, struct mj_span key, struct mj_span value);
    void (*done)(void *ctx);
    void *ctx;
};

static bool on_cell(void *ctx, struct mj_span key, struct mj_span value)
{
    struct reading *r = ctx;
    r->fn(r->ctx, key, value);
    return true;
}

static void on_done(void *ctx)
{
    struct reading *r = ctx;
    if (r->done)
        r->done(r->ctx);
}

int mj_disk_read(struct mj_disk *d, uint64_t number,
                 void (*fn)(void *ctx, struct mj_span key, struct mj_span value),
                 void (*done)(void *ctx), void *ctx)
{
    uint64_t big = htobe64(number);
    struct mj_span prefix = mj_span(&big, sizeof big);
    struct reading reading = {fn, done, ctx};
    return walk(d, prefix, prefix, on_cell, on_done, &reading);
}

int mj_disk_walk(struct mj_disk *d, uint64_t number, struct mj_span from,
                 bool (*fn)(void *ctx, struct mj_span key, struct mj_span value), void *ctx)
{
    uint64_t big = htobe64(number);
    MJ_AUTO_BUF key = {0};
    mj_buf_put(&key, &big, sizeof big);
    mj_buf_put(&key, from.ptr, from.len);
    return walk(d, mj_span(&big, sizeof big), mj_buf_span(&key), fn, NULL, ctx);
}

/* ---- opening ---- */

struct numbers {
    uint64_t *v; /* owned: those that have an owner */
    size_t n;
    uint64_t newest;
};

static bool on_owner(void *ctx, struct mj_span key, struct mj_span value)
{
    struct numbers *all = ctx;
    uint64_t number;
    (void)key;
    if (value.len != 9)
        return true;
    memcpy(&number, value.ptr, 8);
    number = le64toh(number);
    all->v = mj_realloc(all->v, (all->n + 1) * sizeof *all->v);
    all->v[all->n++] = number;
    if (number > all->newest)
        all->newest = number;
    return true;
}

/* Finds which numbers there are; those without an owner are to be swept. */
static int find_numbers(struct mj_disk *d)
{
    static const uint64_t zero;
    struct numbers all = {0};
    MDB_txn *txn = NULL;
    MDB_cursor *cursor = NULL;
    const struct mj_span names = mj_span(&zero, sizeof zero);
    int err = walk(d, names, names, on_owner, NULL, &all);
    if (!err)
        err = mdb_txn_begin(d->env, NULL, MDB_RDONLY, &txn);
    if (!err)
        err = mdb_cursor_open(txn, d->dbi, &cursor);
    for (uint64_t at = 1; !err; at++) {
        uint64_t big = htobe64(at);
        MDB_val key = {sizeof big, &big}, value;
        err = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        if (err)
            break;
        at = number_of(span(key));
        size_t i = 0;
        while (i < all.n && all.v[i] != at)
            i++;
        if (i == all.n)
            note_sweep(d, at);
        if (at > all.newest)
            all.newest = at;
        if (at == UINT64_MAX)
            break;
    }
    if (cursor)
        mdb_cursor_close(cursor);
    if (txn)
        mdb_txn_abort(txn);
    free(all.v);
    atomic_store(&d->next_number, all.newest + 1);
    return err == MDB_NOTFOUND ? 0 : err;
}

static int open_env(struct mj_disk *d)
{
    MDB_txn *txn;
    unsigned flags = d->read_only ? MDB_RDONLY : 0;
    int err = mdb_env_create(&d->env);
    if (!err) /* more, if the file is larger */
        err = mdb_env_set_mapsize(d->env, MAP_MIN);
    if (!err) /* reads are not bound to a thread */
        err = mdb_env_open(d->env, d->dir, MDB_NOTLS | flags, 0600);
    /* A new file's first pages wait for a first commit, which may never come. */
    if (!err && !d->read_only)
        err = mdb_env_sync(d->env, 1);
    /* LMDB syncs what is in its file, not the file's name. */
    if (!err && !d->read_only && mj_sync_dir(d->dir))
        err = errno;
    if (!err)
        err = mdb_txn_begin(d->env, NULL, flags, &txn);
    if (err)
        return err;
    err = mdb_dbi_open(txn, NULL, 0, &d->dbi);
    if (err) {
        mdb_txn_abort(txn);
        return err;
    }
    return mdb_txn_commit(txn);
}

static void free_disk(struct mj_disk *d)
{
    if (d->env)
        mdb_env_close(d->env);
    free_batches(d->writing);
    free_batches(d->first);
    free(d->sweeps);
    free(d->dir);
    pthread_rwlock_destroy(&d->resizing);
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->wake);
    pthread_cond_destroy(&d->tried);
    free(d);
}

static struct mj_disk *disk_new(const char *dir)
{
    struct mj_disk *d = mj_calloc(1, sizeof *d);
    pthread_condattr_t monotonic;
    d->dir = mj_strdup(dir);
    d->last = &d->first;
    pthread_rwlock_init(&d->resizing, NULL);
    pthread_mutex_init(&d->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&d->wake, &monotonic);
    pthread_cond_init(&d->tried, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return d;
}

int mj_disk_open(const char *dir, struct mj_disk **out, struct mj_buf *error)
{
    struct mj_disk *d = disk_new(dir);
    d->m.commits = mj_metric("moonjet_state_commits_total", MJ_COUNTER,
                             "Transactions of what scripts persist.", NULL);
    d->m.errors = mj_metric("moonjet_state_write_errors_total", MJ_COUNTER,
                            "Failed attempts to write what scripts persist.", NULL);
    d->m.waiting = mj_metric("moonjet_state_unwritten_bytes", MJ_GAUGE,
                             "Of what scripts persist, not on disk yet.", NULL);
    if (mj_make_dirs(dir)) {
        mj_buf_printf(error, "cannot make the directory %s: %s", dir, strerror(errno));
        free_disk(d);
        return MJ_EIO;
    }
    mj_disk_put_unborn_aside(dir);
    int err = mj_disk_probe(dir) ? MDB_CORRUPTED : open_env(d);
    if (!err)
        err = find_numbers(d);
    if (!err)
        err = pthread_create(&d->thread, NULL, run, d);
    if (err) {
        mj_buf_printf(error,
                      "cannot open %s, where scripts' state is kept: %s. If it is damaged, move it "
                      "away and start again: what scripts persisted is gone then",
                      dir, mdb_strerror(err));
        free_disk(d);
        return MJ_EIO;
    }
    *out = d;
    return 0;
}

int mj_disk_open_read_only(const char *dir, struct mj_disk **out, struct mj_buf *error)
{
    struct mj_disk *d = disk_new(dir);
    MJ_AUTO_BUF file = {0};
    d->read_only = true;
    mj_buf_printf(&file, "%s/data.mdb", dir);
    int err = access(mj_buf_cstr(&file), R_OK) ? errno : 0;
    if (!err)
        err = mj_disk_probe(dir) ? MDB_CORRUPTED : open_env(d);
    if (!err) {
        *out = d;
        return 0;
    }
    mj_buf_printf(error, "%s: %s", mj_buf_cstr(&file), mdb_strerror(err));
    free_disk(d);
    return err == ENOENT ? MJ_ENOENT : MJ_EIO;
}

void mj_disk_close(struct mj_disk *d)
{
    if (!d)
        return;
    pthread_mutex_lock(&d->lock);
    d->closing = true;
    pthread_cond_signal(&d->wake);
    pthread_mutex_unlock(&d->lock);
    if (!d->read_only)
        pthread_join(d->thread, NULL);
    size_t lost = batch_bytes(d->writing);
    if (lost)
        mj_log(MJ_LOG_ERROR, "state", "%zu bytes of what scripts persist could not be written",
               lost);
    free_disk(d);
}
