#include "state/labels.h"

#include <endian.h>
#include <errno.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/dirs.h"
#include "base/err.h"
#include "base/log.h"
#include "base/metrics.h"
#include "state/probe.h"

#define MAP_MIN     ((size_t)256 << 20) /* address space; the file is as large as it must be */
#define BATCH_MAX   2000                /* changes in one transaction */
#define COMPLAIN_US INT64_C(60000000)

/* Value of an index entry. */
struct word {
    uint64_t seq;   /* little-endian on disk, like this: */
    int64_t exp_us; /* 0: does not end */
    uint8_t neg;
};
#define WORD_LEN 17

struct queued {
    struct queued *next;
    struct mj_label_change change;  /* texts are in `text` */
    struct mj_label_signer *signer; /* ref */
    char text[];
};

struct mj_labels {
    char *dir; /* owned; NULL: in memory */
    int memory_fd;
    _Atomic bool opened;
    MDB_env *env;
    MDB_dbi dbi;
    pthread_t thread;
    /* Over the environment: LMDB must not be resized while somebody reads; in memory, where there
     * is no lock file, nobody may read while something is written. */
    pthread_rwlock_t env_lock;
    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t wake, settled;
    struct queued *first, **last;
    size_t queued; /* with those being written */
    bool closing, failing;
    pthread_mutex_t watch_lock;
    void (*watch)(void *ctx);
    void *watch_ctx; /* borrowed */
    _Atomic uint64_t newest, oldest, begin_at;
    _Atomic int declared;
    /* the thread's own */
    uint64_t base, next; /* first and next seq of the transaction in progress */
    int64_t complained_us;
    struct {
        struct mj_metric *published, *repeated, *errors, *queued, *newest;
    } m;
};

static MDB_val val(struct mj_span s) { return (MDB_val){s.len, (void *)(uintptr_t)s.ptr}; }
static struct mj_span span(MDB_val v) { return mj_span(v.mv_data, v.mv_size); }

/* ---- keys and words ---- */

static void put_text(struct mj_buf *b, struct mj_span s)
{
    mj_buf_put(b, s.ptr, s.len);
    mj_buf_putc(b, '\0');
}

#define INDEX   'i'
#define LOG     'l' /* the last in the database, so that labels are appended */
#define LOG_LEN 9

static void log_key(uint64_t seq, uint8_t out[LOG_LEN])
{
    uint64_t big = htobe64(seq);
    out[0] = LOG;
    memcpy(out + 1, &big, 8);
}

static bool read_log_key(MDB_val key, uint64_t *seq)
{
    const uint8_t *p = key.mv_data;
    if (key.mv_size != LOG_LEN || p[0] != LOG)
        return false;
    memcpy(seq, p + 1, 8);
    *seq = be64toh(*seq);
    return true;
}

/* uri, src, val, cid, with a zero byte between them: those of one uri are together. */
static void make_key(const struct mj_label_change *c, struct mj_span cid, struct mj_buf *out)
{
    out->len = 0;
    mj_buf_putc(out, INDEX);
    put_text(out, c->uri);
    put_text(out, c->src);
    put_text(out, c->val);
    mj_buf_put(out, cid.ptr, cid.len);
}

static struct mj_span take_text(struct mj_span *rest)
{
    const uint8_t *end = rest->len ? memchr(rest->ptr, 0, rest->len) : NULL;
    size_t n = end ? (size_t)(end - rest->ptr) : rest->len;
    struct mj_span text = mj_span(rest->ptr, n);
    n += end != NULL;
    *rest = mj_span(rest->ptr + n, rest->len - n);
    return text;
}

static bool read_word(struct mj_span value, struct word *out)
{
    if (value.len != WORD_LEN)
        return false;
    memcpy(&out->seq, value.ptr, 8);
    memcpy(&out->exp_us, value.ptr + 8, 8);
    out->seq = le64toh(out->seq);
    out->exp_us = (int64_t)le64toh((uint64_t)out->exp_us);
    out->neg = value.ptr[16];
    return true;
}

static void write_word(const struct word *w, uint8_t out[WORD_LEN])
{
    uint64_t seq = htole64(w->seq), exp = htole64((uint64_t)w->exp_us);
    memcpy(out, &seq, 8);
    memcpy(out + 8, &exp, 8);
    out[16] = w->neg;
}

static bool in_force(const struct word *w, int64_t now_us)
{
    return !w->neg && (!w->exp_us || w->exp_us > now_us);
}

static bool as_long(const struct word *w, const struct mj_label_change *c)
{
    if (!c->slack_us || !w->exp_us)
        return w->exp_us == c->exp_us;
    return w->exp_us >= c->exp_us - c->slack_us;
}

/* ---- the thread ---- */

static int write_label(struct mj_labels *l, MDB_txn *txn, const struct queued *q,
                       const struct mj_label_change *c, struct mj_span key)
{
    MJ_AUTO_BUF label = {0};
    uint8_t bytes[WORD_LEN], seq[LOG_LEN];
    struct word w = {.seq = l->next, .exp_us = c->exp_us, .neg = c->neg};
    if (q->signer->make(q->signer, c, &label)) {
        static struct mj_log_gate gate;
        mj_log_limited(&gate, 1, MJ_LOG_ERROR, "labels",
                       "the label '%.*s' for %.*s cannot be signed, and is dropped",
                       (int)c->val.len, (const char *)c->val.ptr, (int)c->uri.len,
                       (const char *)c->uri.ptr);
        mj_metric_add(l->m.errors, 1);
        return 0;
    }
    write_word(&w, bytes);
    log_key(l->next, seq);
    MDB_val entry = {sizeof seq, seq}, value = val(mj_buf_span(&label)), at = val(key),
            word = {sizeof bytes, bytes};
    int err = mdb_put(txn, l->dbi, &entry, &value, MDB_APPEND);
    if (!err)
        err = mdb_put(txn, l->dbi, &at, &word, 0);
    if (!err)
        l->next++;
    return err;
}

/* What the index says of the key, if anything. */
static int look(struct mj_labels *l, MDB_txn *txn, struct mj_span key, struct word *w, bool *there)
{
    MDB_val at = val(key), value;
    int err = mdb_get(txn, l->dbi, &at, &value);
    *there = !err && read_word(span(value), w);
    return err == MDB_NOTFOUND ? 0 : err;
}

static int write_one(struct mj_labels *l, MDB_txn *txn, const struct queued *q, struct mj_span cid)
{
    MJ_AUTO_BUF key = {0};
    struct word w;
    bool there;
    struct mj_label_change c = q->change;
    c.cid = cid;
    make_key(&c, cid, &key);
    int err = look(l, txn, mj_buf_span(&key), &w, &there);
    if (err)
        return err;
    bool force = there && in_force(&w, c.now_us);
    bool news = c.neg ? force : !force || !as_long(&w, &c);
    if (news)
        return write_label(l, txn, q, &c, mj_buf_span(&key));
    mj_metric_add(l->m.repeated, 1);
    return 0;
}

/* Negates all of that uri, src and val. The keys are gathered first: writing moves cursors. */
static int write_negations(struct mj_labels *l, MDB_txn *txn, const struct queued *q)
{
    MJ_AUTO_BUF front = {0};
    MJ_AUTO_BUF cids = {0};
    MDB_cursor *cursor;
    make_key(&q->change, mj_span(NULL, 0), &front);
    int err = mdb_cursor_open(txn, l->dbi, &cursor);
    if (err)
        return err;
    MDB_val key = val(mj_buf_span(&front)), value;
    err = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (!err && mj_span_starts(span(key), mj_buf_span(&front))) {
        struct mj_span k = span(key);
        put_text(&cids, mj_span(k.ptr + front.len, k.len - front.len));
        err = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    err = err == MDB_NOTFOUND ? 0 : err;
    for (struct mj_span rest = mj_buf_span(&cids); !err && rest.len;)
        err = write_one(l, txn, q, take_text(&rest));
    return err;
}

static int transact(struct mj_labels *l, const struct queued *list, size_t n)
{
    MDB_txn *txn;
    int err = mdb_txn_begin(l->env, NULL, 0, &txn);
    uint64_t newest = atomic_load(&l->newest), begin = atomic_load(&l->begin_at);
    if (err)
        return err;
    l->base = l->next = newest + 1 > begin ? newest + 1 : begin;
    /* Of the last one, whoever appends another may be writing `next` just now. */
    for (const struct queued *q = list; n && !err; q = --n ? q->next : NULL)
        err = q->change.neg && !q->change.cid.len ? write_negations(l, txn, q)
                                                  : write_one(l, txn, q, q->change.cid);
    if (err) {
        mdb_txn_abort(txn);
        return err;
    }
    return mdb_txn_commit(txn);
}

static int grow(struct mj_labels *l)
{
    MDB_envinfo info;
    mdb_env_info(l->env, &info);
    return mdb_env_set_mapsize(l->env, 2 * info.me_mapsize);
}

static int grow_locked(struct mj_labels *l)
{
    pthread_rwlock_wrlock(&l->env_lock);
    int err = grow(l);
    pthread_rwlock_unlock(&l->env_lock);
    return err;
}

static int write_batch(struct mj_labels *l, const struct queued *list, size_t n)
{
    int err;
    if (l->dir) {
        while ((err = transact(l, list, n)) == MDB_MAP_FULL && grow_locked(l) == 0)
            ;
        return err;
    }
    pthread_rwlock_wrlock(&l->env_lock);
    while ((err = transact(l, list, n)) == MDB_MAP_FULL && grow(l) == 0)
        ;
    pthread_rwlock_unlock(&l->env_lock);
    return err;
}

static void publish(struct mj_labels *l)
{
    uint64_t newest = atomic_load(&l->newest), n = l->next - 1;
    if (l->next == l->base)
        return;
    if (atomic_load(&l->oldest) > newest) /* the first of all */
        atomic_store(&l->oldest, l->base);
    mj_metric_add(l->m.published, (int64_t)(l->next - l->base));
    mj_metric_set(l->m.newest, (int64_t)n);
    atomic_store_explicit(&l->newest, n, memory_order_release);
    pthread_mutex_lock(&l->watch_lock);
    if (l->watch)
        l->watch(l->watch_ctx);
    pthread_mutex_unlock(&l->watch_lock);
}

/* True when that is new. */
static bool set_failing(struct mj_labels *l, bool failing)
{
    pthread_mutex_lock(&l->lock);
    bool was = l->failing;
    l->failing = failing;
    pthread_cond_broadcast(&l->settled);
    pthread_mutex_unlock(&l->lock);
    return was != failing;
}

static void complain(struct mj_labels *l, int err)
{
    int64_t now = mj_mono_us();
    mj_metric_add(l->m.errors, 1);
    if (!set_failing(l, true) && now - l->complained_us < COMPLAIN_US)
        return;
    l->complained_us = now;
    mj_log(MJ_LOG_ERROR, "labels",
           "cannot write %s/data.mdb: %s. New labels wait in memory and are tried again every "
           "second; a restart would lose them%s",
           l->dir ? l->dir : "memory", mdb_strerror(err),
           err == ENOSPC ? ". Make room on the disk" : "");
}

static void free_queued(struct queued *q)
{
    q->signer->release(q->signer);
    free(q);
}

/* Takes what was written off the queue. */
static void settle(struct mj_labels *l, size_t n)
{
    struct queued *done = NULL, **end = &done;
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < n; i++) {
        *end = l->first;
        end = &l->first->next;
        l->first = l->first->next;
    }
    *end = NULL;
    if (!l->first)
        l->last = &l->first;
    l->queued -= n;
    mj_metric_set(l->m.queued, (int64_t)l->queued);
    pthread_cond_broadcast(&l->settled);
    pthread_mutex_unlock(&l->lock);
    while (done) {
        struct queued *next = done->next;
        free_queued(done);
        done = next;
    }
}

static void wait_for_work(struct mj_labels *l)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 1;
    while (!l->closing && !l->first)
        pthread_cond_wait(&l->wake, &l->lock);
    while (!l->closing && l->failing && pthread_cond_timedwait(&l->wake, &l->lock, &until) == 0)
        ; /* more work is no reason to try again sooner */
}

static void *run(void *arg)
{
    struct mj_labels *l = arg;
    for (;;) {
        pthread_mutex_lock(&l->lock);
        wait_for_work(l);
        struct queued *list = l->first;
        bool closing = l->closing;
        size_t n = l->queued < BATCH_MAX ? l->queued : BATCH_MAX;
        pthread_mutex_unlock(&l->lock);
        if (!list)
            return NULL;
        int err = write_batch(l, list, n);
        if (err) {
            complain(l, err);
            if (closing)
                return NULL;
            continue;
        }
        if (set_failing(l, false))
            mj_log(MJ_LOG_INFO, "labels", "labels are written again");
        publish(l);
        settle(l, n);
    }
}

int mj_labels_put(struct mj_labels *l, const struct mj_label_change *c,
                  struct mj_label_signer *signer)
{
    const struct mj_span *from[] = {&c->src, &c->uri, &c->val, &c->cid, &c->exp, &c->cts};
    size_t size = 0;
    int err = 0;
    for (size_t i = 0; i < MJ_COUNT(from); i++)
        size += from[i]->len;
    struct queued *q = mj_calloc(1, sizeof *q + size);
    q->change = *c;
    q->signer = signer;
    struct mj_span *to[] = {&q->change.src, &q->change.uri, &q->change.val,
                            &q->change.cid, &q->change.exp, &q->change.cts};
    for (size_t i = 0, at = 0; i < MJ_COUNT(from); i++) {
        if (from[i]->len)
            memcpy(q->text + at, from[i]->ptr, from[i]->len);
        *to[i] = mj_span(q->text + at, from[i]->len);
        at += from[i]->len;
    }
    if (c->uri.len + c->src.len + c->val.len + c->cid.len + 3 > MJ_LABEL_KEY_MAX) {
        free_queued(q);
        return MJ_EBIG;
    }
    pthread_mutex_lock(&l->lock);
    if (!l->opened)
        err = MJ_ECLOSED;
    else if (l->queued >= MJ_LABELS_QUEUED_MAX)
        err = MJ_ELIMIT;
    if (!err) {
        *l->last = q;
        l->last = &q->next;
        l->queued++;
        mj_metric_set(l->m.queued, (int64_t)l->queued);
        pthread_cond_signal(&l->wake);
        while (!l->dir && l->queued && !l->failing)
            pthread_cond_wait(&l->settled, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    if (err)
        free_queued(q);
    return err;
}

/* ---- reading ---- */

static int begin_read(struct mj_labels *l, MDB_txn **txn)
{
    pthread_rwlock_rdlock(&l->env_lock);
    int err = mdb_txn_begin(l->env, NULL, MDB_RDONLY, txn);
    if (err)
        pthread_rwlock_unlock(&l->env_lock);
    return err;
}

static int end_read(struct mj_labels *l, MDB_txn *txn, MDB_cursor *cursor, int err)
{
    static struct mj_log_gate gate;
    if (cursor)
        mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    pthread_rwlock_unlock(&l->env_lock);
    if (!err || err == MDB_NOTFOUND)
        return 0;
    mj_log_limited(&gate, 1, MJ_LOG_ERROR, "labels", "cannot read %s/data.mdb: %s",
                   l->dir ? l->dir : "memory", mdb_strerror(err));
    return MJ_EIO;
}

int mj_labels_read(struct mj_labels *l, uint64_t from,
                   bool (*fn)(void *ctx, uint64_t seq, struct mj_span label), void *ctx)
{
    MDB_txn *txn;
    MDB_cursor *cursor = NULL;
    uint64_t seq, newest = mj_labels_newest(l);
    uint8_t start[LOG_LEN];
    MDB_val key = {sizeof start, start}, value;
    if (from > newest)
        return 0;
    log_key(from, start);
    int err = begin_read(l, &txn);
    if (err)
        return MJ_EIO;
    err = mdb_cursor_open(txn, l->dbi, &cursor);
    if (!err)
        err = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (!err && read_log_key(key, &seq)) {
        /* What is committed and not yet published has to wait for its turn. */
        if (seq > newest || !fn(ctx, seq, span(value)))
            break;
        err = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    return end_read(l, txn, cursor, err);
}

/* False: enough. */
static bool give(struct mj_labels *l, MDB_txn *txn, struct mj_span key, struct mj_span value,
                 bool (*fn)(void *ctx, const struct mj_label_found *found), void *ctx)
{
    struct mj_label_found found = {.key = key};
    struct word w;
    if (!read_word(value, &w))
        return true;
    uint8_t entry[LOG_LEN];
    MDB_val at = {sizeof entry, entry}, label;
    log_key(w.seq, entry);
    if (mdb_get(txn, l->dbi, &at, &label))
        return true;
    found.uri = take_text(&key);
    found.src = take_text(&key);
    found.val = take_text(&key);
    found.cid = key;
    found.label = span(label);
    found.exp_us = w.exp_us;
    found.neg = w.neg;
    return fn(ctx, &found);
}

int mj_labels_find(struct mj_labels *l, struct mj_span prefix, struct mj_span after,
                   bool (*fn)(void *ctx, const struct mj_label_found *found), void *ctx)
{
    MDB_txn *txn;
    MDB_cursor *cursor = NULL;
    struct mj_span from = after.len && mj_span_cmp(after, prefix) > 0 ? after : prefix;
    uint8_t start[1 + MJ_LABEL_KEY_MAX] = {INDEX};
    MDB_val key = {1 + from.len, start}, value;
    if (!l->opened || from.len > MJ_LABEL_KEY_MAX)
        return 0;
    if (from.len)
        memcpy(start + 1, from.ptr, from.len);
    int err = begin_read(l, &txn);
    if (err)
        return MJ_EIO;
    err = mdb_cursor_open(txn, l->dbi, &cursor);
    if (!err)
        err = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (; !err && key.mv_size && *(uint8_t *)key.mv_data == INDEX;
         err = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        struct mj_span k = mj_span((uint8_t *)key.mv_data + 1, key.mv_size - 1);
        if (after.len && mj_span_eq(k, after))
            continue;
        if (!mj_span_starts(k, prefix) || !give(l, txn, k, span(value), fn, ctx))
            break;
    }
    return end_read(l, txn, cursor, err);
}

/* ---- opening ---- */

static int open_db(struct mj_labels *l)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    uint8_t start[LOG_LEN];
    MDB_val key = {sizeof start, start}, value;
    uint64_t oldest = 1, newest = 0;
    int err = mdb_txn_begin(l->env, NULL, 0, &txn);
    if (err)
        return err;
    err = mdb_dbi_open(txn, NULL, 0, &l->dbi);
    if (!err)
        err = mdb_cursor_open(txn, l->dbi, &cursor);
    if (err) {
        mdb_txn_abort(txn);
        return err;
    }
    log_key(0, start);
    if (mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE) == 0)
        read_log_key(key, &oldest);
    if (mdb_cursor_get(cursor, &key, &value, MDB_LAST) == 0)
        read_log_key(key, &newest);
    mdb_cursor_close(cursor);
    atomic_store(&l->oldest, oldest);
    atomic_store(&l->newest, newest);
    mj_metric_set(l->m.newest, (int64_t)newest);
    return mdb_txn_commit(txn);
}

static int open_env(struct mj_labels *l)
{
    char memory[64];
    const char *path = l->dir;
    unsigned flags = MDB_NOTLS; /* reads are not bound to a thread */
    if (!path) {
        l->memory_fd = memfd_create("moonjet labels", MFD_CLOEXEC);
        if (l->memory_fd < 0)
            return errno;
        snprintf(memory, sizeof memory, "/proc/self/fd/%d", l->memory_fd);
        path = memory;
        flags |= MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOSYNC;
    } else {
        mj_disk_put_unborn_aside(path);
        if (mj_disk_probe(path))
            return MDB_CORRUPTED;
    }
    int err = mdb_env_create(&l->env);
    if (!err) /* more, if the file is larger */
        err = mdb_env_set_mapsize(l->env, MAP_MIN);
    if (!err)
        err = mdb_env_open(l->env, path, flags, 0600);
    return err ? err : open_db(l);
}

static int open_locked(struct mj_labels *l, struct mj_buf *error)
{
    if (l->dir && mj_make_dirs(l->dir)) {
        mj_buf_printf(error, "cannot make the directory %s: %s", l->dir, strerror(errno));
        return MJ_EIO;
    }
    int err = open_env(l);
    if (!err)
        err = pthread_create(&l->thread, NULL, run, l);
    if (!err) {
        l->opened = true;
        return 0;
    }
    mj_buf_printf(
        error,
        "cannot open %s, where labels are kept: %s. If it is damaged, put a copy of it in "
        "its place: without it seqs would begin anew, and subscribers would miss labels",
        l->dir ? l->dir : "memory", mdb_strerror(err));
    if (l->env)
        mdb_env_close(l->env);
    l->env = NULL;
    return MJ_EIO;
}

int mj_labels_open(struct mj_labels *l, struct mj_buf *error)
{
    pthread_mutex_lock(&l->lock);
    int err = l->opened ? 0 : open_locked(l, error);
    pthread_mutex_unlock(&l->lock);
    return err;
}

struct mj_labels *mj_labels_new(const char *dir)
{
    static const char total[] = "moonjet_labels_total",
                      help[] = "Labels that scripts applied or negated, by what came of it.";
    struct mj_labels *l = mj_calloc(1, sizeof *l);
    pthread_condattr_t monotonic;
    l->dir = dir ? mj_strdup(dir) : NULL;
    l->memory_fd = -1;
    l->last = &l->first;
    atomic_store(&l->oldest, 1);
    pthread_rwlock_init(&l->env_lock, NULL);
    pthread_mutex_init(&l->lock, NULL);
    pthread_mutex_init(&l->watch_lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&l->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_cond_init(&l->settled, NULL);
    l->m.published = mj_metric(total, MJ_COUNTER, help, "result=\"published\"");
    l->m.repeated = mj_metric(total, MJ_COUNTER, help, "result=\"repeated\"");
    l->m.errors = mj_metric("moonjet_labels_write_errors_total", MJ_COUNTER,
                            "Failed attempts to write labels.", NULL);
    l->m.queued =
        mj_metric("moonjet_labels_queued", MJ_GAUGE, "Labels waiting to be written.", NULL);
    l->m.newest = mj_metric("moonjet_labels_seq", MJ_GAUGE, "Seq of the newest label.", NULL);
    return l;
}

void mj_labels_free(struct mj_labels *l)
{
    if (!l)
        return;
    if (l->opened) {
        pthread_mutex_lock(&l->lock);
        l->closing = true;
        pthread_cond_signal(&l->wake);
        pthread_mutex_unlock(&l->lock);
        pthread_join(l->thread, NULL);
        mdb_env_close(l->env);
    }
    if (l->queued)
        mj_log(MJ_LOG_ERROR, "labels", "%zu labels could not be written", l->queued);
    while (l->first) {
        struct queued *next = l->first->next;
        free_queued(l->first);
        l->first = next;
    }
    if (l->memory_fd >= 0)
        close(l->memory_fd);
    pthread_rwlock_destroy(&l->env_lock);
    pthread_mutex_destroy(&l->lock);
    pthread_mutex_destroy(&l->watch_lock);
    pthread_cond_destroy(&l->wake);
    pthread_cond_destroy(&l->settled);
    free(l->dir);
    free(l);
}

/* ---- the rest ---- */

bool mj_labels_on_disk(const struct mj_labels *l) { return l->dir != NULL; }

void mj_labels_begin_at(struct mj_labels *l, uint64_t seq)
{
    uint64_t was = atomic_load(&l->begin_at);
    while (seq > was && !atomic_compare_exchange_weak(&l->begin_at, &was, seq))
        ;
}

void mj_labels_declare(struct mj_labels *l, int by) { atomic_fetch_add(&l->declared, by); }

bool mj_labels_served(const struct mj_labels *l)
{
    return atomic_load(&((struct mj_labels *)(uintptr_t)l)->declared) > 0 ||
           mj_labels_newest(l) > 0;
}

uint64_t mj_labels_newest(const struct mj_labels *l)
{
    return atomic_load_explicit(&l->newest, memory_order_acquire);
}

uint64_t mj_labels_oldest(const struct mj_labels *l) { return atomic_load(&l->oldest); }

uint64_t mj_labels_next(const struct mj_labels *l)
{
    uint64_t next = mj_labels_newest(l) + 1, begin = atomic_load(&l->begin_at);
    return next > begin ? next : begin;
}

void mj_labels_watch(struct mj_labels *l, void (*fn)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&l->watch_lock);
    l->watch = fn;
    l->watch_ctx = ctx;
    pthread_mutex_unlock(&l->watch_lock);
}
