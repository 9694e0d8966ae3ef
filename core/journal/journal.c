/* The writer's side, and the list of segments. */
#include "journal/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/dirs.h"
#include "base/hash.h"
#include "base/ws.h"
#include "journal/internal.h"

#define STAGE_BYTES   (256u << 10) /* handed to the kernel at once, when a batch is larger */
#define RESERVE_BYTES (16u << 20)  /* of disk at a time */
#define SECOND        INT64_C(1000000)
#define HOUR          (3600 * SECOND)
#define SEGMENT_LEAST (32u << 10)
#define LOCAL_UNSEEN  0

/* ---- failing ---- */

int mj__journal_fail(struct mj_journal *j, const char *what, const char *file, int err)
{
    if (atomic_exchange(&j->failed, true))
        return MJ_EIO;
    bool full = err == ENOSPC || err == EDQUOT;
    mj_log(MJ_LOG_ERROR, "journal",
           "%s %s/%s: %s. Stopping: nothing was skipped, and the next start "
           "goes on behind the last event kept. %s",
           what, j->cfg.dir ? j->cfg.dir : "memory", file, strerror(err),
           full
               ? "Make room on this disk, or keep less (--retain, --retain-bytes), then start again"
               : "See to the disk and its file system, then start again");
    mj_metric_set(mj_metric("moonjet_journal_failed", MJ_GAUGE,
                            "1 when the journal takes nothing more.", NULL),
                  1);
    if (j->cfg.failed)
        j->cfg.failed(j->cfg.ctx);
    return MJ_EIO;
}

static int write_at(struct mj_journal *j, struct mj_segment *s, enum mj_file file, const void *p,
                    size_t n, uint64_t at)
{
    const uint8_t *from = p;
    while (n) {
        ssize_t wrote = pwrite(s->fd[file], from, n, (off_t)at);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0) {
            char name[48];
            mj__file_name(name, s->first_seq, file);
            return mj__journal_fail(j, "cannot write to", name, wrote < 0 ? errno : ENOSPC);
        }
        from += wrote;
        at += (uint64_t)wrote;
        n -= (size_t)wrote;
    }
    return 0;
}

/* ---- the list ---- */

static size_t touched(const struct mj_segment *s)
{
    return s->used + s->n * sizeof(struct mj_entry);
}

void mj__drop_oldest(struct mj_journal *j, size_t n)
{
    if (!n)
        return;
    for (size_t i = 0; i < n; i++)
        mj__segment_unref(j, j->segments[i]);
    j->count -= n;
    j->serial += n;
    memmove(j->segments, j->segments + n, j->count * sizeof *j->segments);
    j->floor = j->segments[0]->first_seq;
    atomic_fetch_add_explicit(&j->generation, 1, memory_order_release);
}

/* Under the lock, in memory: drops what the budget no longer holds, once the active one is full,
 * too. The active one and the one before stay, so a reader less than one behind is never overtaken.
 */
static void drop_beyond_memory(struct mj_journal *j)
{
    size_t n = 0;
    while (j->count - n > 2 && j->memory_kept + MJ_MEMORY_DATA > j->cfg.memory)
        j->memory_kept -= touched(j->segments[n++]);
    mj__drop_oldest(j, n);
}

static void add_to_list(struct mj_journal *j, struct mj_segment *s)
{
    pthread_mutex_lock(&j->lock);
    if (j->active) {
        j->active->state = MJ_CLOSED;
        memcpy(j->active->cursors, j->cursors, sizeof j->cursors);
        j->memory_kept += touched(j->active);
    }
    if (j->count == j->cap) {
        j->cap = j->cap ? 2 * j->cap : 16;
        j->segments = mj_realloc(j->segments, j->cap * sizeof(struct mj_segment *));
    }
    if (!j->count)
        j->floor = s->first_seq;
    j->segments[j->count++] = s;
    if (!j->cfg.dir)
        drop_beyond_memory(j);
    j->active = s;
    j->dir_dirty = true;
    atomic_fetch_add_explicit(&j->generation, 1, memory_order_release);
    pthread_mutex_unlock(&j->lock);
}

/* ---- appending ---- */

int64_t mj_journal_next_time(struct mj_journal *j)
{
    if (!j->now)
        j->now = mj_now_us();
    return j->now > j->last_time ? j->now : j->last_time + 1;
}

uint16_t mj__journal_collection(struct mj_journal *j, uint32_t id)
{
    if (id == 0)
        return 0;
    if (id > MJ_COLLECTIONS_MAX)
        return MJ_COLLECTION_OTHER;
    if (MJ_UNLIKELY(j->local[id] == LOCAL_UNSEEN)) {
        int local = mj_names_add(&j->collections, mj_collection_name(id));
        j->local[id] = local < 0 ? MJ_COLLECTION_OTHER : (uint16_t)local;
    }
    return j->local[id];
}

/* Reserves disk ahead of the writes, which makes them cheaper and finds a full disk early. Where
 * the file system cannot, or there is no room for so much, the writes will tell. */
static void reserve_disk(struct mj_journal *j, struct mj_segment *s, uint64_t upto)
{
    if (upto <= s->reserved || s->reserved == UINT64_MAX)
        return;
    uint64_t step = j->cfg.segment_bytes < RESERVE_BYTES ? j->cfg.segment_bytes : RESERVE_BYTES;
    uint64_t end = (upto / step + 1) * step;
    int err = fallocate(s->fd[MJ_FILE_DATA], FALLOC_FL_KEEP_SIZE, (off_t)s->reserved,
                        (off_t)(end - s->reserved));
    s->reserved = err ? UINT64_MAX : end;
}

/* Hands the first n staged bytes to the kernel. */
static int write_bytes(struct mj_journal *j, size_t n)
{
    struct mj_segment *s = j->active;
    uint64_t at = s->used - j->staged.len;
    reserve_disk(j, s, at + n);
    XXH3_64bits_update(j->batch_hash, j->staged.ptr, n);
    int err = write_at(j, s, MJ_FILE_DATA, j->staged.ptr, n, at);
    if (!err)
        mj_buf_shift(&j->staged, n);
    return err;
}

/* A batch, or the part of it that lies in this segment: the rest of its bytes, its entries, and
 * then the mark that says they are there. */
static int write_batch(struct mj_journal *j, uint32_t flags, uint32_t source, int64_t upstream_seq)
{
    struct mj_segment *s = j->active;
    size_t n = j->staged_count;
    int err = 0;
    if (j->collections.pending.len && mj_names_write(&j->collections, false))
        return mj__journal_fail(j, "cannot write to", "collections", errno);
    if (j->staged.len)
        err = write_bytes(j, j->staged.len);
    if (n && !err)
        err = write_at(j, s, MJ_FILE_INDEX, j->staged_entries, n * sizeof(struct mj_entry),
                       (s->n - n) * sizeof(struct mj_entry));
    XXH3_64bits_update(j->batch_hash, j->staged_entries, n * sizeof(struct mj_entry));
    struct mj_mark m = {
        .flags = flags,
        .source = source,
        .upstream_seq = upstream_seq,
        .durable = atomic_load_explicit(&j->durable, memory_order_acquire),
        .count = s->n,
        .end = s->used,
        .collections = (uint32_t)mj_names_count(&j->collections),
        .batch = XXH3_64bits_digest(j->batch_hash),
    };
    m.hash = mj__mark_hash(&m, s->first_seq);
    if (!err)
        err = write_at(j, s, MJ_FILE_MARKS, &m, sizeof m, MJ_MARKS_AT + s->marks * sizeof m);
    if (err)
        return err;
    s->marks++;
    j->staged_count = 0;
    XXH3_64bits_reset(j->batch_hash);
    return 0;
}

/* A segment's files were made as large as they might become. The mappings may stay so: nobody looks
 * behind the end. */
static int trim(struct mj_segment *s)
{
    return ftruncate(s->fd[MJ_FILE_DATA], (off_t)s->used) ||
           ftruncate(s->fd[MJ_FILE_INDEX], (off_t)(s->n * sizeof(struct mj_entry)));
}

static int roll(struct mj_journal *j, int64_t base_us, size_t need)
{
    if (j->active && j->pending && !j->active->memory) {
        int err = write_batch(j, MJ_MARK_MORE, UINT32_MAX, 0);
        if (err)
            return err;
    }
    if (j->active && !j->active->memory && trim(j->active))
        return mj__journal_fail(j, "cannot close a segment in", ".", errno);
    struct mj_segment *s = mj__segment_new(j, j->next_seq, base_us, need);
    if (!s)
        return j->cfg.dir ? MJ_EIO : MJ_ENOMEM;
    add_to_list(j, s);
    j->segment_us = mj_mono_us();
    return 0;
}

/* Must a segment be begun for this event? A batch is kept in one segment unless it is larger than
 * all the room there is. */
static bool must_roll(const struct mj_journal *j, int64_t time_us, size_t need)
{
    const struct mj_segment *s = j->active;
    if (!s || s->data_cap - s->used < need || s->n == s->entry_cap ||
        time_us - s->base_us > (int64_t)UINT32_MAX)
        return true;
    if (!j->cfg.dir || j->pending)
        return false;
    return s->used >= j->cfg.segment_bytes || mj_mono_us() - j->segment_us > j->segment_age_us;
}

static int stage_entry(struct mj_journal *j, const struct mj_entry *e)
{
    if (j->staged_count == j->staged_cap) {
        size_t cap = j->staged_cap ? 2 * j->staged_cap : 1024;
        struct mj_entry *p = realloc(j->staged_entries, cap * sizeof *p);
        if (!p)
            return MJ_ENOMEM;
        j->staged_entries = p;
        j->staged_cap = cap;
    }
    j->staged_entries[j->staged_count++] = *e;
    return 0;
}

int mj_journal_append(struct mj_journal *j, const struct mj_append *a, struct mj_span json)
{
    if (json.len > MJ_JSON_MAX)
        return MJ_ELIMIT;
    if (a->time_us <= j->last_time || j->read_only)
        return MJ_EINVAL;
    if (MJ_UNLIKELY(atomic_load_explicit(&j->failed, memory_order_relaxed)))
        return MJ_EIO;
    uint8_t head[MJ_WS_HEAD_MAX];
    size_t head_len = mj_ws_head(head, MJ_WS_TEXT, json.len);
    size_t need = head_len + json.len;
    if (MJ_UNLIKELY(must_roll(j, a->time_us, need))) {
        int err = roll(j, a->time_us, need);
        if (err)
            return err;
    }
    struct mj_segment *s = j->active;
    struct mj_entry e = {.time = (uint32_t)(a->time_us - s->base_us),
                         .end = s->used + (uint32_t)need,
                         .did = (uint32_t)a->did_hash,
                         .collection = mj__journal_collection(j, a->collection),
                         .kind = a->kind,
                         .op = a->op,
                         .streams = a->streams};
    uint8_t *to;
    if (s->memory) {
        to = (uint8_t *)(uintptr_t)s->data + s->used;
        ((struct mj_entry *)(uintptr_t)s->entries)[s->n] = e;
    } else {
        if (mj_buf_try_reserve(&j->staged, need) || stage_entry(j, &e))
            return MJ_ENOMEM;
        to = j->staged.ptr + j->staged.len;
        j->staged.len += need;
    }
    memcpy(to, head, head_len);
    if (json.len)
        memcpy(to + head_len, json.ptr, json.len);
    s->n++;
    s->used += (uint32_t)need;
    s->last_us = j->last_time = a->time_us;
    j->next_seq++;
    j->pending++;
    if (a->streams) { /* the rest is for nobody who subscribes */
        j->pending_events++;
        j->pending_bytes += json.len;
    }
    /* Whole pieces at whole multiples: the kernel takes them in large folios. */
    uint32_t piece = s->used / STAGE_BYTES * STAGE_BYTES;
    return MJ_UNLIKELY(!s->memory && piece > s->used - j->staged.len)
               ? write_bytes(j, j->staged.len - (s->used - piece))
               : 0;
}

/* Sources that moved on without an event of theirs being kept get marks of their own, not above
 * once a second; without an active segment, with the next one's head. */
static int mark_idle(struct mj_journal *j, bool now)
{
    if (!j->cursors_dirty || !j->active || j->active->memory)
        return 0;
    int64_t at = mj_mono_us();
    if (!now && at - j->idle_mark_us < SECOND)
        return 0;
    j->idle_mark_us = at;
    for (; j->cursors_dirty; j->cursors_dirty &= j->cursors_dirty - 1) {
        unsigned i = (unsigned)__builtin_ctzll(j->cursors_dirty);
        int err = write_batch(j, 0, i, j->cursors[i]);
        if (err)
            return err;
    }
    return 0;
}

int mj_journal_publish(struct mj_journal *j, int source, int64_t upstream_seq)
{
    bool moved = source >= 0 && source < MJ_SOURCES_MAX && j->cursors[source] != upstream_seq;
    int err = 0;
    j->now = 0;
    /* Not even a source's progress: what it brought may be what was not taken. */
    if (MJ_UNLIKELY(atomic_load_explicit(&j->failed, memory_order_relaxed)))
        return MJ_EIO;
    if (!j->pending) {
        if (moved) {
            j->cursors[source] = upstream_seq;
            j->cursors_dirty |= UINT64_C(1) << source;
        }
        return mark_idle(j, false);
    }
    if (!j->active->memory) {
        if (MJ_UNLIKELY(j->next_seq > atomic_load_explicit(&j->ceiling, memory_order_acquire)))
            err = mj__reserve(j, j->next_seq + MJ_RESERVE, j->last_time, false);
        if (!err)
            err = write_batch(j, 0, source >= 0 ? (uint32_t)source : UINT32_MAX, upstream_seq);
        if (!err && j->cfg.sync_us == 0)
            err = mj__sync(j, j->next_seq);
        if (err)
            return err;
    }
    if (moved)
        j->cursors[source] = upstream_seq;
    if (source >= 0)
        j->cursors_dirty &= ~(UINT64_C(1) << source);
    atomic_store_explicit(&j->published, j->next_seq, memory_order_release);
    mj_metric_add(j->events, (int64_t)j->pending_events);
    mj_metric_add(j->bytes, (int64_t)j->pending_bytes);
    j->pending = j->pending_events = j->pending_bytes = 0;
    pthread_mutex_lock(&j->lock);
    if (j->wake)
        j->wake(j->wake_ctx);
    pthread_mutex_unlock(&j->lock);
    return 0;
}

void mj_journal_on_publish(struct mj_journal *j, void (*fn)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&j->lock);
    j->wake = fn;
    j->wake_ctx = ctx;
    pthread_mutex_unlock(&j->lock);
}

/* ---- names ---- */

/* New names are rare and used by what follows at once, so they are on the disk first. */
static int number_of(struct mj_journal *j, struct mj_names *names, struct mj_span name,
                     const char *file)
{
    int id = mj_names_find(names, name);
    if (id >= 0 || j->read_only)
        return id;
    id = mj_names_add(names, name);
    if (id >= 0 && names->fd >= 0 && mj_names_write(names, true))
        return mj__journal_fail(j, "cannot write to", file, errno);
    return id;
}

int mj_journal_source(struct mj_journal *j, const char *url)
{
    return number_of(j, &j->sources, mj_str(url), "sources");
}

int mj_journal_stream(struct mj_journal *j, struct mj_span name)
{
    return number_of(j, &j->streams, name, "streams");
}

int64_t mj_journal_cursor(const struct mj_journal *j, int source)
{
    return source >= 0 && source < MJ_SOURCES_MAX ? j->found[source] : -1;
}

struct mj_span mj_journal_collection_name(const struct mj_journal *j, uint16_t id)
{
    return mj_names_get(&j->collections, id);
}

/* ---- opening ---- */

static void set_defaults(struct mj_journal *j)
{
    struct mj_journal_cfg *c = &j->cfg;
    if (!c->segment_bytes) {
        c->segment_bytes = MJ_SEGMENT_BYTES;
        if (c->retain_bytes > 0 && (uint64_t)c->retain_bytes / 16 < c->segment_bytes)
            c->segment_bytes = (size_t)c->retain_bytes / 16;
        if (c->segment_bytes < (1u << 20))
            c->segment_bytes = 1u << 20;
    }
    if (c->retain_bytes > 0 && c->segment_bytes > (size_t)c->retain_bytes / 4)
        c->segment_bytes = (size_t)c->retain_bytes / 4;
    if (c->segment_bytes < SEGMENT_LEAST)
        c->segment_bytes = SEGMENT_LEAST;
    if (!c->plain_bytes)
        c->plain_bytes = 2 * (int64_t)MJ_SEGMENT_BYTES;
    /* Old events go by whole segments, so these must not span much of what is kept. */
    j->segment_age_us = HOUR;
    if (c->retain_us > 0 && c->retain_us / 16 < j->segment_age_us)
        j->segment_age_us = c->retain_us / 16 > SECOND ? c->retain_us / 16 : SECOND;
}

static struct mj_journal *journal_new(const struct mj_journal_cfg *cfg)
{
    struct mj_journal *j = mj_calloc(1, sizeof *j);
    j->cfg = *cfg;
    j->cfg.dir = cfg->dir ? mj_strdup(cfg->dir) : NULL;
    j->dir = -1;
    j->next_seq = 1;
    j->floor = 1;
    atomic_init(&j->published, 1);
    atomic_init(&j->durable, 1);
    for (int i = 0; i < MJ_SOURCES_MAX; i++)
        j->cursors[i] = j->found[i] = -1;
    pthread_mutex_init(&j->lock, NULL);
    pthread_mutex_init(&j->sync_lock, NULL);
    pthread_mutex_init(&j->seal_lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&j->keeper_wake, &attr);
    pthread_condattr_destroy(&attr);
    j->batch_hash = XXH3_createState();
    XXH3_64bits_reset(j->batch_hash);
    j->local = mj_calloc(MJ_COLLECTIONS_MAX + 1, sizeof *j->local);
    mj_names_init(&j->collections, 1, MJ_COLLECTIONS_MAX, MJ_COLLECTION_LEN);
    mj_names_init(&j->streams, 0, MJ_STREAMS_MAX, 255);
    mj_names_init(&j->sources, 0, MJ_SOURCES_MAX, 4096);
    j->events = mj_metric("jetstream_events_emitted_total", MJ_COUNTER,
                          "Events made visible to readers.", NULL);
    j->bytes = mj_metric("jetstream_bytes_emitted_total", MJ_COUNTER,
                         "Bytes of JSON made visible to readers.", NULL);
    set_defaults(j);
    return j;
}

static void journal_free(struct mj_journal *j)
{
    for (size_t i = 0; i < j->count; i++)
        mj__segment_free(j->segments[i]);
    for (size_t i = 0; i < j->spares; i++)
        mj__segment_free(j->spare[i]);
    free(j->segments);
    mj_buf_deinit(&j->staged);
    free(j->staged_entries);
    XXH3_freeState(j->batch_hash);
    free(j->local);
    mj_names_deinit(&j->collections);
    mj_names_deinit(&j->streams);
    mj_names_deinit(&j->sources);
    if (j->dir >= 0)
        close(j->dir);
    pthread_cond_destroy(&j->keeper_wake);
    pthread_mutex_destroy(&j->seal_lock);
    pthread_mutex_destroy(&j->sync_lock);
    pthread_mutex_destroy(&j->lock);
    free((char *)(uintptr_t)j->cfg.dir);
    free(j);
}

static int load_names(struct mj_journal *j, struct mj_names *names, const char *file,
                      struct mj_buf *error)
{
    int err = mj_names_load(names, j->dir, file, j->read_only);
    if (err)
        mj_buf_printf(error, "%s/%s: %s", j->cfg.dir, file,
                      err == MJ_EIO ? strerror(errno) : "is no list of names");
    return err;
}

static int cut_names(struct mj_journal *j, struct mj_names *names, const char *file,
                     struct mj_buf *error)
{
    int err = mj_names_cut(names);
    if (err)
        mj_buf_printf(error, "%s/%s: cannot cut a torn line: %s", j->cfg.dir, file,
                      strerror(errno));
    return err;
}

static int open_dir(struct mj_journal *j, struct mj_buf *error)
{
    if (htole32(1) != 1) {
        mj_buf_puts(error, "a journal on disk needs a little-endian machine; keep it in memory");
        return MJ_EINVAL;
    }
    if (!j->read_only && mj_make_dirs(j->cfg.dir)) {
        mj_buf_printf(error, "%s: cannot make the directory: %s", j->cfg.dir, strerror(errno));
        return MJ_EIO;
    }
    j->dir = open(j->cfg.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (j->dir < 0) {
        mj_buf_printf(error, "%s: %s", j->cfg.dir, strerror(errno));
        return MJ_EIO;
    }
    int err;
    if ((err = load_names(j, &j->collections, "collections", error)) ||
        (err = load_names(j, &j->streams, "streams", error)) ||
        (err = load_names(j, &j->sources, "sources", error)))
        return err;
    for (size_t i = 1; i <= mj_names_count(&j->collections); i++) {
        uint32_t id = mj_collection_id(mj_names_get(&j->collections, i));
        if (id <= MJ_COLLECTIONS_MAX)
            j->local[id] = (uint16_t)i;
    }
    if ((err = mj__recover(j, error)) || j->read_only)
        return err;
    /* Only now that the segments have all the names they use. */
    if ((err = cut_names(j, &j->collections, "collections", error)) ||
        (err = cut_names(j, &j->streams, "streams", error)))
        return err;
    return cut_names(j, &j->sources, "sources", error);
}

int mj_journal_open(const struct mj_journal_cfg *cfg, struct mj_journal **out, struct mj_buf *error)
{
    struct mj_journal *j = journal_new(cfg);
    j->read_only = cfg->read_only;
    int err = j->cfg.dir ? open_dir(j, error) : 0;
    if (!err && j->cfg.dir && !j->read_only) {
        err = mj__keeper_start(j);
        if (err)
            mj_buf_printf(error, "%s: the journal does not start; the log says why", j->cfg.dir);
    }
    if (!err && mj_journal_stream(j, MJ_SPAN("main")) != MJ_STREAM_MAIN && !j->read_only) {
        mj_buf_printf(error, "%s/streams: its first line must be `main`", j->cfg.dir);
        err = MJ_ESYNTAX;
    }
    if (err) {
        mj__keeper_stop(j);
        journal_free(j);
        return err;
    }
    *out = j;
    return 0;
}

struct mj_journal *mj_journal_in_memory(size_t bytes)
{
    struct mj_journal *j = journal_new(&(struct mj_journal_cfg){.memory = bytes});
    mj_journal_stream(j, MJ_SPAN("main"));
    return j;
}

void mj_journal_close(struct mj_journal *j)
{
    if (!j)
        return;
    mj__keeper_stop(j);
    if (j->cfg.dir && !j->read_only && !atomic_load(&j->failed)) {
        /* What was appended but never published leaves no trace. */
        if (!j->pending)
            mark_idle(j, true);
        if (mj_journal_sync(j) == 0 && (!j->active || trim(j->active) == 0))
            mj__reserve(j, j->next_seq - j->pending, j->last_time, true);
    }
    journal_free(j);
}

void mj_journal_window(struct mj_journal *j, struct mj_journal_window *out)
{
    *out = (struct mj_journal_window){.on_disk = j->cfg.dir != NULL};
    pthread_mutex_lock(&j->lock);
    out->end = atomic_load_explicit(&j->published, memory_order_acquire);
    out->floor = j->floor < out->end ? j->floor : out->end;
    out->durable = atomic_load_explicit(&j->durable, memory_order_relaxed);
    out->segments = j->count;
    for (size_t i = 0; i < j->count; i++) {
        const struct mj_segment *s = j->segments[i];
        uint64_t n = s == j->active ? out->end - s->first_seq : s->n;
        if (out->end <= s->first_seq || !n)
            continue;
        if (n > out->end - s->first_seq)
            n = out->end - s->first_seq;
        /* Without a look at the index where it can be helped: its page may be on the disk, and
         * whoever publishes waits for this lock. */
        bool whole = s != j->active && n == s->n;
        if (!out->floor_us)
            out->floor_us = s->base_us + s->entries[0].time;
        out->newest_us = whole ? s->last_us : s->base_us + s->entries[n - 1].time;
        out->index_bytes += (int64_t)(n * sizeof(struct mj_entry));
        if (s->state == MJ_SEALED) {
            out->sealed_segments++;
            out->sealed_bytes += (int64_t)s->sealed_size;
        } else {
            out->plain_bytes += whole ? s->used : s->entries[n - 1].end;
        }
    }
    pthread_mutex_unlock(&j->lock);
}
