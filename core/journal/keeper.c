/* The keeper: one thread that makes durable what was published, keeps the reserve ahead of the
 * writer, drops what is too old or too much, and seals what is no longer new. Nobody waits for it;
 * only a writer that outruns the reserve helps itself. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "journal/internal.h"

#define SECOND   INT64_C(1000000)
#define SYNC_MAX 64 /* segments of one round; more are left to the next, which follows at once */

struct mj_keeper_metrics {
    struct mj_metric *floor, *newest, *durable, *window, *plain, *sealed, *index, *plain_segments,
        *sealed_segments, *syncs, *sync_us;
    _Atomic int64_t synced_us; /* monotonic: when the last round began */
};

/* ---- fsync ---- */

static int sync_segment(struct mj_journal *j, struct mj_segment *s)
{
    /* What marks refer to goes first, so that fewer marks are found to promise too much. */
    static const enum mj_file order[] = {MJ_FILE_DATA, MJ_FILE_INDEX, MJ_FILE_MARKS};
    for (size_t i = 0; i < MJ_COUNT(order); i++)
        if (s->fd[order[i]] >= 0 && fdatasync(s->fd[order[i]])) {
            char name[48];
            mj__file_name(name, s->first_seq, order[i]);
            return mj__journal_fail(j, "cannot sync", name, errno);
        }
    return 0;
}

/* Under the sync lock. *more: there may be other segments below `upto` that are not on the disk. */
static int sync_round(struct mj_journal *j, uint64_t upto, bool *more)
{
    struct mj_segment *todo[SYNC_MAX];
    size_t n = 0;
    pthread_mutex_lock(&j->lock);
    bool dir = j->dir_dirty;
    j->dir_dirty = false;
    for (size_t i = 0; i < j->count && n < SYNC_MAX; i++) {
        struct mj_segment *s = j->segments[i];
        if (s->state == MJ_SEALED || !s->dirty || s->first_seq >= upto)
            continue;
        s->dirty = s->state == MJ_ACTIVE;
        mj__segment_ref(s);
        todo[n++] = s;
    }
    pthread_mutex_unlock(&j->lock);

    int err = 0;
    if (j->collections.fd >= 0 && fdatasync(j->collections.fd))
        err = mj__journal_fail(j, "cannot sync", "collections", errno);
    for (size_t i = 0; i < n && !err; i++)
        err = sync_segment(j, todo[i]);
    if (!err && dir && fsync(j->dir))
        err = mj__journal_fail(j, "cannot sync", ".", errno);

    pthread_mutex_lock(&j->lock);
    for (size_t i = 0; i < n; i++) {
        if (!err && !todo[i]->dirty)
            mj__segment_close_files(todo[i]);
        mj__segment_unref(j, todo[i]);
    }
    pthread_mutex_unlock(&j->lock);
    *more = n == SYNC_MAX;
    return err;
}

int mj__sync(struct mj_journal *j, uint64_t upto)
{
    if (!j->cfg.dir || j->read_only)
        return 0;
    pthread_mutex_lock(&j->sync_lock);
    int64_t start = mj_mono_us();
    if (j->km)
        j->km->synced_us = start;
    int err = 0;
    if (atomic_load_explicit(&j->failed, memory_order_relaxed))
        err = MJ_EIO;
    for (bool more = true; more && !err;)
        err = sync_round(j, upto, &more);
    if (!err && upto > atomic_load_explicit(&j->durable, memory_order_relaxed))
        atomic_store_explicit(&j->durable, upto, memory_order_release);
    if (j->km) {
        mj_metric_add(j->km->syncs, 1);
        mj_metric_add(j->km->sync_us, mj_mono_us() - start);
    }
    pthread_mutex_unlock(&j->sync_lock);
    return err;
}

int mj_journal_sync(struct mj_journal *j)
{
    return mj__sync(j, atomic_load_explicit(&j->published, memory_order_acquire));
}

/* ---- the reserve ---- */

void mj__boot_id(char out[40])
{
    memset(out, 0, 40);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = read(fd, out, 36);
    close(fd);
    if (n != 36)
        memset(out, 0, 40);
}

bool mj__reserve_read(int dir, struct mj_reserve *out)
{
    int fd = openat(dir, "reserve", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = pread(fd, out, sizeof *out, 0);
    close(fd);
    return n == (ssize_t)sizeof *out &&
           memcmp(out->magic, MJ_RESERVE_MAGIC, sizeof out->magic) == 0 &&
           out->hash == XXH3_64bits(out, offsetof(struct mj_reserve, hash)) && out->time_us >= 0 &&
           out->time_us <= MJ_TIME_MAX && out->sync_us >= 0 && out->sync_us <= MJ_TIME_MAX / 2;
}

int mj__reserve(struct mj_journal *j, uint64_t ceiling, int64_t time_us, bool clean)
{
    struct mj_reserve r = {.ceiling = ceiling, .clean = clean, .sync_us = j->cfg.sync_us};
    memcpy(r.magic, MJ_RESERVE_MAGIC, sizeof r.magic);
    mj__boot_id(r.boot);
    if (clean) /* the writer is done, so its cursors may be read */
        memcpy(r.cursors, j->cursors, sizeof r.cursors);
    pthread_mutex_lock(&j->sync_lock);
    /* Writer and keeper may both be at it: who comes last may know less. */
    if (!clean && ceiling <= atomic_load_explicit(&j->ceiling, memory_order_relaxed)) {
        pthread_mutex_unlock(&j->sync_lock);
        return 0;
    }
    if (time_us > j->reserved_us)
        j->reserved_us = time_us;
    r.time_us = j->reserved_us;
    r.hash = XXH3_64bits(&r, offsetof(struct mj_reserve, hash));
    /* A file of its own each time, because this one must never be half there. */
    int fd = openat(j->dir, "reserve.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && pwrite(fd, &r, sizeof r, 0) == (ssize_t)sizeof r && fdatasync(fd) == 0;
    if (fd >= 0)
        close(fd);
    ok = ok && renameat(j->dir, "reserve.new", j->dir, "reserve") == 0 && fsync(j->dir) == 0;
    int error = errno ? errno : ENOSPC;
    if (ok)
        atomic_store_explicit(&j->ceiling, ceiling, memory_order_release);
    pthread_mutex_unlock(&j->sync_lock);
    return ok ? 0 : mj__journal_fail(j, "cannot write", "reserve", error);
}

/* ---- retention ---- */

static void unlink_file(struct mj_journal *j, uint64_t first_seq, enum mj_file file)
{
    char name[48];
    mj__file_name(name, first_seq, file);
    unlinkat(j->dir, name, 0);
}

/* What makes the others a segment goes first, and is off the disk before they go: what a crash or a
 * power loss in between leaves, the next start knows to be leftovers. */
static void unlink_segments(struct mj_journal *j, const uint64_t *first_seqs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unlink_file(j, first_seqs[i], MJ_FILE_MARKS);
        unlink_file(j, first_seqs[i], MJ_FILE_SEALED);
    }
    if (n && fsync(j->dir)) {
        mj__journal_fail(j, "cannot sync", ".", errno);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        unlink_file(j, first_seqs[i], MJ_FILE_DATA);
        unlink_file(j, first_seqs[i], MJ_FILE_INDEX);
    }
}

/* True when there may be more to drop. */
static bool drop_some(struct mj_journal *j)
{
    int64_t oldest = j->cfg.retain_us > 0 ? mj_now_us() - j->cfg.retain_us : INT64_MIN, total = 0;
    uint64_t gone[SYNC_MAX], durable = atomic_load_explicit(&j->durable, memory_order_acquire);
    size_t n = 0;
    bool unsynced = false;
    pthread_mutex_lock(&j->lock);
    for (size_t i = 0; i < j->count; i++) {
        int64_t index;
        if (j->segments[i]->state != MJ_ACTIVE)
            total += mj__segment_bytes(j->segments[i], &index) + index;
    }
    /* The newest one stays, however old: it knows times and cursors. */
    while (n < SYNC_MAX && n + 1 < j->count) {
        struct mj_segment *s = j->segments[n];
        int64_t index, bytes = mj__segment_bytes(s, &index) + index;
        bool much =
            j->cfg.retain_bytes > 0 && total + (int64_t)j->cfg.segment_bytes > j->cfg.retain_bytes;
        if (s->last_us >= oldest && !much)
            break;
        /* Something behind it must be on the disk, or a power loss would leave nothing. */
        unsynced = s->first_seq + s->n >= durable;
        if (unsynced)
            break;
        total -= bytes;
        gone[n++] = s->first_seq;
    }
    mj__drop_oldest(j, n);
    pthread_mutex_unlock(&j->lock);
    unlink_segments(j, gone, n);
    uint64_t end = atomic_load_explicit(&j->published, memory_order_acquire);
    if (unsynced)
        return end > durable && mj__sync(j, end) == 0;
    return n == SYNC_MAX && !atomic_load(&j->failed);
}

static void retain(struct mj_journal *j)
{
    if (j->cfg.retain_us <= 0 && j->cfg.retain_bytes <= 0)
        return;
    /* Whoever seals a segment on another thread needs its files; it is dropped a round later. */
    if (pthread_mutex_trylock(&j->seal_lock))
        return;
    while (drop_some(j))
        ;
    pthread_mutex_unlock(&j->seal_lock);
}

/* ---- sealing ---- */

/* Under the seal lock: the oldest closed, synced segment beyond the newest `plain` bytes; a
 * reference, or NULL. */
static struct mj_segment *next_to_seal(struct mj_journal *j, int64_t plain)
{
    struct mj_segment *found = NULL;
    uint64_t durable = atomic_load_explicit(&j->durable, memory_order_acquire);
    pthread_mutex_lock(&j->lock);
    for (size_t i = j->count; i-- > 0;) {
        struct mj_segment *s = j->segments[i];
        if (s->state != MJ_CLOSED)
            continue;
        if (plain > 0)
            plain -= s->used;
        else if (s->first_seq + s->n <= durable)
            found = s;
    }
    if (found)
        mj__segment_ref(found);
    pthread_mutex_unlock(&j->lock);
    return found;
}

/* Under the seal lock, so the plain form is still there: puts the sealed one in its place. */
static void replace(struct mj_journal *j, struct mj_segment *plain, struct mj_segment *sealed)
{
    pthread_mutex_lock(&j->lock);
    size_t i = 0;
    while (j->segments[i] != plain)
        i++;
    j->segments[i] = sealed;
    mj__segment_unref(j, plain);
    atomic_fetch_add_explicit(&j->generation, 1, memory_order_release);
    pthread_mutex_unlock(&j->lock);
    /* Whichever of these stays is a leftover. */
    unlink_file(j, plain->first_seq, MJ_FILE_MARKS);
    unlink_file(j, plain->first_seq, MJ_FILE_DATA);
}

static int seal_all(struct mj_journal *j, int64_t plain, bool (*breathe)(struct mj_journal *))
{
    int err = 0;
    struct mj_segment *s;
    /* The keeper has syncs to do while another thread seals. */
    if ((breathe ? pthread_mutex_trylock : pthread_mutex_lock)(&j->seal_lock))
        return 0;
    bool wait = breathe && mj_mono_us() < j->seal_again_us;
    while (!wait && !err && (s = next_to_seal(j, plain))) {
        struct mj_segment *sealed = mj__seal(j, s, breathe);
        if (sealed)
            replace(j, s, sealed);
        else
            err = MJ_EIO;
        pthread_mutex_lock(&j->lock);
        mj__segment_unref(j, s);
        pthread_mutex_unlock(&j->lock);
    }
    pthread_mutex_unlock(&j->seal_lock);
    return err;
}

int mj_journal_seal(struct mj_journal *j, int64_t plain_bytes)
{
    if (!j->cfg.dir || j->read_only)
        return 0;
    int err = mj_journal_sync(j);
    return err ? err : seal_all(j, plain_bytes, NULL);
}

/* ---- the thread ---- */

static void set_metrics(struct mj_journal *j)
{
    struct mj_keeper_metrics *m = j->km;
    struct mj_journal_window w;
    mj_journal_window(j, &w);
    mj_metric_set(m->floor, (int64_t)w.floor);
    mj_metric_set(m->newest, (int64_t)w.end - 1);
    mj_metric_set(m->durable, (int64_t)w.durable - 1);
    mj_metric_set(m->window, w.floor_us ? (w.newest_us - w.floor_us) / SECOND : 0);
    mj_metric_set(m->plain, w.plain_bytes);
    mj_metric_set(m->sealed, w.sealed_bytes);
    mj_metric_set(m->index, w.index_bytes);
    mj_metric_set(m->plain_segments, (int64_t)(w.segments - w.sealed_segments));
    mj_metric_set(m->sealed_segments, (int64_t)w.sealed_segments);
}

static bool is_stopping(struct mj_journal *j)
{
    pthread_mutex_lock(&j->lock);
    bool stop = j->stop;
    pthread_mutex_unlock(&j->lock);
    return stop;
}

static void keep_up(struct mj_journal *j)
{
    uint64_t end = atomic_load_explicit(&j->published, memory_order_acquire);
    if (j->cfg.sync_us > 0 && end > atomic_load_explicit(&j->durable, memory_order_relaxed) &&
        mj_mono_us() - j->km->synced_us >= j->cfg.sync_us)
        mj__sync(j, end);
    if (end + MJ_RESERVE / 2 > atomic_load_explicit(&j->ceiling, memory_order_acquire) &&
        !atomic_load(&j->failed))
        mj__reserve(j, end + MJ_RESERVE, mj_now_us(), false);
}

/* Between two blocks of a segment being sealed. */
static bool breathe(struct mj_journal *j)
{
    keep_up(j);
    return !is_stopping(j) && !atomic_load_explicit(&j->failed, memory_order_relaxed);
}

static void *keep(void *arg)
{
    struct mj_journal *j = arg;
    setpriority(PRIO_PROCESS, 0, 5); /* on Linux: of this thread */
    while (!is_stopping(j)) {
        keep_up(j);
        retain(j);
        if (!j->cfg.no_seal && !atomic_load(&j->failed))
            seal_all(j, j->cfg.plain_bytes, breathe);
        set_metrics(j);
        int64_t wait = j->cfg.sync_us > 0 && j->cfg.sync_us < SECOND ? j->cfg.sync_us : SECOND;
        int64_t next = mj_mono_us() + wait;
        struct timespec until = {next / SECOND, next % SECOND * 1000};
        pthread_mutex_lock(&j->lock);
        if (!j->stop)
            pthread_cond_timedwait(&j->keeper_wake, &j->lock, &until);
        pthread_mutex_unlock(&j->lock);
    }
    return NULL;
}

static struct mj_keeper_metrics *make_metrics(void)
{
    static const char bytes[] = "moonjet_journal_bytes", segments[] = "moonjet_journal_segments";
    struct mj_keeper_metrics *m = mj_calloc(1, sizeof *m);
    m->floor = mj_metric("moonjet_journal_floor_seq", MJ_GAUGE, "Oldest event kept.", NULL);
    m->newest = mj_metric("moonjet_journal_newest_seq", MJ_GAUGE, "Newest event.", NULL);
    m->durable =
        mj_metric("moonjet_journal_durable_seq", MJ_GAUGE, "Newest event that is synced.", NULL);
    m->window = mj_metric("moonjet_journal_window_seconds", MJ_GAUGE,
                          "Time between the oldest event kept and the newest.", NULL);
    m->plain = mj_metric(bytes, MJ_GAUGE, "Bytes of the journal.", "kind=\"plain\"");
    m->sealed = mj_metric(bytes, MJ_GAUGE, "", "kind=\"sealed\"");
    m->index = mj_metric(bytes, MJ_GAUGE, "", "kind=\"index\"");
    m->plain_segments =
        mj_metric(segments, MJ_GAUGE, "Segments of the journal.", "state=\"plain\"");
    m->sealed_segments = mj_metric(segments, MJ_GAUGE, "", "state=\"sealed\"");
    m->syncs = mj_metric("moonjet_journal_syncs_total", MJ_COUNTER, "Rounds of fsync.", NULL);
    m->sync_us = mj_metric("moonjet_journal_sync_microseconds_total", MJ_COUNTER,
                           "Time spent in rounds of fsync.", NULL);
    mj_metric("moonjet_journal_failed", MJ_GAUGE, "1 when the journal takes nothing more.", NULL);
    mj_metric("moonjet_journal_damaged_total", MJ_COUNTER,
              "Times a block of the journal could not be read.", NULL);
    return m;
}

int mj__keeper_start(struct mj_journal *j)
{
    j->km = make_metrics();
    j->dir_dirty = true;
    int err = mj__sync(j, atomic_load(&j->published));
    int64_t now = mj_now_us();
    if (!err)
        err = mj__reserve(j, j->next_seq + MJ_RESERVE, j->last_time > now ? j->last_time : now,
                          false);
    if (!err && pthread_create(&j->keeper, NULL, keep, j)) {
        mj_log(MJ_LOG_ERROR, "journal", "cannot start a thread");
        err = MJ_EIO;
    }
    j->keeper_runs = !err;
    return err;
}

void mj__keeper_stop(struct mj_journal *j)
{
    if (j->keeper_runs) {
        pthread_mutex_lock(&j->lock);
        j->stop = true;
        pthread_cond_signal(&j->keeper_wake);
        pthread_mutex_unlock(&j->lock);
        pthread_join(j->keeper, NULL);
        j->keeper_runs = false;
    }
    free(j->km);
    j->km = NULL;
}
