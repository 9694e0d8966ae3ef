#include "journal/tail.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/metrics.h"
#include "base/ws.h"

#define CHUNK_DATA    (1u << 20)
#define CHUNK_ENTRIES 8192u /* one per 128 bytes of data; events are four times that */
#define SPARES        2u    /* dropped chunks kept for reuse: their pages are already there */
#define JSON_MAX      (1u << 30)

/* One mapping: this header, the index, the data. Untouched pages cost nothing, so the index may
 * be generous. `used` and `n` are the writer's alone; readers learn how far they may read from
 * the tail's `published` and the next chunk's first_seq. */
struct mj_chunk {
    uint64_t first_seq;
    size_t mapped;
    size_t used, data_cap;
    size_t n, entry_cap;
    unsigned refs; /* under the tail's lock: one of the list, one per view */
    struct mj_entry *entries;
    uint8_t *data;
};

struct mj_tail {
    size_t budget;
    /* The writer's own. */
    struct mj_chunk *open; /* borrowed from the list's end, NULL before the first entry */
    uint64_t next_seq;
    int64_t last_time;
    int64_t now;            /* clock at the first event since the last flush; 0 = not read yet */
    uint64_t pending_bytes; /* of JSON appended but not published */
    struct mj_metric *events, *bytes;

    _Atomic uint64_t published;  /* first seq readers must not touch yet */
    _Atomic uint64_t generation; /* changes with the list; stored under the lock */

    pthread_mutex_t lock;     /* guards the rest */
    struct mj_chunk **chunks; /* owned array of references, oldest first */
    size_t count, cap;
    uint64_t serial; /* of chunks[0] */
    size_t kept;     /* bytes touched in the chunks before the open one */
    uint64_t floor;  /* first seq held */
    struct mj_chunk *spare[SPARES];
    size_t spares;
    void (*wake)(void *ctx);
    void *wake_ctx;
};

static size_t touched(const struct mj_chunk *c) { return c->used + c->n * sizeof(struct mj_entry); }

static struct mj_chunk *chunk_map(size_t entries, size_t data)
{
    size_t head = (sizeof(struct mj_chunk) + 63) & ~(size_t)63;
    size_t size = head + entries * sizeof(struct mj_entry) + data;
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    struct mj_chunk *c = p;
    c->mapped = size;
    c->data_cap = data;
    c->entry_cap = entries;
    c->entries = (struct mj_entry *)((uint8_t *)p + head);
    c->data = (uint8_t *)(c->entries + entries);
    return c;
}

/* Under the lock. */
static void chunk_unref(struct mj_tail *t, struct mj_chunk *c)
{
    if (--c->refs)
        return;
    if (c->data_cap == CHUNK_DATA && t->spares < SPARES)
        t->spare[t->spares++] = c;
    else
        munmap(c, c->mapped);
}

struct mj_tail *mj_tail_new(size_t budget)
{
    struct mj_tail *t = mj_calloc(1, sizeof *t);
    t->budget = budget;
    t->next_seq = 1;
    t->floor = 1;
    atomic_init(&t->published, 1);
    atomic_init(&t->generation, 0);
    pthread_mutex_init(&t->lock, NULL);
    t->events = mj_metric("jetstream_events_emitted_total", MJ_COUNTER,
                          "Events made visible to readers.", NULL);
    t->bytes = mj_metric("jetstream_bytes_emitted_total", MJ_COUNTER,
                         "Bytes of JSON made visible to readers.", NULL);
    return t;
}

void mj_tail_free(struct mj_tail *t)
{
    if (!t)
        return;
    t->spares = SPARES; /* so that unref unmaps */
    for (size_t i = 0; i < SPARES; i++)
        if (t->spare[i])
            munmap(t->spare[i], t->spare[i]->mapped);
    for (size_t i = 0; i < t->count; i++)
        chunk_unref(t, t->chunks[i]);
    free(t->chunks);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

int64_t mj_tail_next_time(struct mj_tail *t)
{
    if (!t->now)
        t->now = mj_now_us();
    return t->now > t->last_time ? t->now : t->last_time + 1;
}

/* Under the lock: drops what the budget no longer holds, once the open chunk is full, too. */
static void drop_oldest(struct mj_tail *t)
{
    size_t n = 0;
    while (t->count - n > 2 && t->kept + CHUNK_DATA > t->budget) {
        t->kept -= touched(t->chunks[n]);
        chunk_unref(t, t->chunks[n++]);
    }
    if (!n)
        return;
    t->count -= n;
    t->serial += n;
    memmove(t->chunks, t->chunks + n, t->count * sizeof *t->chunks);
    t->floor = t->chunks[0]->first_seq;
}

/* Opens a chunk with room for one frame of `need` bytes. 0 or MJ_ENOMEM. */
static int open_chunk(struct mj_tail *t, size_t need)
{
    struct mj_chunk *c = NULL;
    pthread_mutex_lock(&t->lock);
    if (need <= CHUNK_DATA && t->spares)
        c = t->spare[--t->spares];
    pthread_mutex_unlock(&t->lock);
    if (!c)
        c = need <= CHUNK_DATA ? chunk_map(CHUNK_ENTRIES, CHUNK_DATA) : chunk_map(1, need);
    if (!c)
        return MJ_ENOMEM;
    c->first_seq = t->next_seq;
    c->used = c->n = 0;
    c->refs = 1;

    pthread_mutex_lock(&t->lock);
    if (t->open)
        t->kept += touched(t->open);
    if (t->count == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 16;
        t->chunks = mj_realloc(t->chunks, t->cap * sizeof *t->chunks);
    }
    t->chunks[t->count++] = c;
    drop_oldest(t);
    t->open = c;
    atomic_fetch_add_explicit(&t->generation, 1, memory_order_release);
    pthread_mutex_unlock(&t->lock);
    return 0;
}

int mj_tail_append(struct mj_tail *t, struct mj_entry *e, struct mj_span json)
{
    if (json.len > JSON_MAX)
        return MJ_ELIMIT;
    if (e->time_us <= t->last_time)
        return MJ_EINVAL;
    uint8_t head[MJ_WS_HEAD_MAX];
    size_t head_len = mj_ws_head(head, MJ_WS_TEXT, json.len);
    size_t need = head_len + json.len;
    struct mj_chunk *c = t->open;
    if (!c || c->data_cap - c->used < need || c->n == c->entry_cap) {
        int err = open_chunk(t, need);
        if (err)
            return err;
        c = t->open;
    }
    e->seq = t->next_seq++;
    e->offset = (uint32_t)c->used;
    e->len = (uint32_t)need;
    e->head = (uint16_t)head_len;
    memcpy(c->data + c->used, head, head_len);
    if (json.len)
        memcpy(c->data + c->used + head_len, json.ptr, json.len);
    c->used += need;
    c->entries[c->n++] = *e;
    t->last_time = e->time_us;
    t->pending_bytes += json.len;
    return 0;
}

void mj_tail_publish(struct mj_tail *t)
{
    uint64_t before = atomic_load_explicit(&t->published, memory_order_relaxed);
    t->now = 0;
    if (before == t->next_seq)
        return;
    atomic_store_explicit(&t->published, t->next_seq, memory_order_release);
    mj_metric_add(t->events, (int64_t)(t->next_seq - before));
    mj_metric_add(t->bytes, (int64_t)t->pending_bytes);
    t->pending_bytes = 0;
    pthread_mutex_lock(&t->lock);
    if (t->wake)
        t->wake(t->wake_ctx);
    pthread_mutex_unlock(&t->lock);
}

void mj_tail_on_publish(struct mj_tail *t, void (*fn)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&t->lock);
    t->wake = fn;
    t->wake_ctx = ctx;
    pthread_mutex_unlock(&t->lock);
}

/* Under the lock: makes the view's list the tail's, touching only what differs. */
static void view_copy(struct mj_tail_view *v)
{
    struct mj_tail *t = v->tail;
    size_t gone = t->serial - v->serial;
    if (gone > v->count)
        gone = v->count;
    for (size_t i = 0; i < gone; i++)
        chunk_unref(t, v->chunks[i]);
    v->count -= gone;
    if (gone && v->count)
        memmove(v->chunks, v->chunks + gone, v->count * sizeof *v->chunks);
    v->serial = t->serial;
    if (v->cap < t->count) {
        v->cap = t->cap;
        v->chunks = mj_realloc(v->chunks, v->cap * sizeof *v->chunks);
    }
    for (; v->count < t->count; v->count++) {
        v->chunks[v->count] = t->chunks[v->count];
        v->chunks[v->count]->refs++;
    }
    v->floor = t->floor;
    v->generation = atomic_load_explicit(&t->generation, memory_order_relaxed);
}

bool mj_tail_view_refresh(struct mj_tail_view *v)
{
    struct mj_tail *t = v->tail;
    /* `published` first: whatever it covers lies in chunks whose generation is then seen, too. */
    uint64_t end = atomic_load_explicit(&t->published, memory_order_acquire);
    if (atomic_load_explicit(&t->generation, memory_order_acquire) != v->generation) {
        pthread_mutex_lock(&t->lock);
        view_copy(v);
        pthread_mutex_unlock(&t->lock);
        /* The floor may lie beyond `end` when several chunks are filled between two flushes. */
        end = atomic_load_explicit(&t->published, memory_order_acquire);
    }
    bool moved = end != v->end;
    v->end = end;
    return moved;
}

void mj_tail_view_init(struct mj_tail_view *v, struct mj_tail *t)
{
    *v = (struct mj_tail_view){.tail = t, .floor = 1, .end = 1};
    pthread_mutex_lock(&t->lock);
    view_copy(v);
    v->end = atomic_load_explicit(&t->published, memory_order_acquire);
    pthread_mutex_unlock(&t->lock);
}

void mj_tail_view_deinit(struct mj_tail_view *v)
{
    if (!v->tail)
        return;
    pthread_mutex_lock(&v->tail->lock);
    for (size_t i = 0; i < v->count; i++)
        chunk_unref(v->tail, v->chunks[i]);
    pthread_mutex_unlock(&v->tail->lock);
    free(v->chunks);
    *v = (struct mj_tail_view){0};
}

/* First seq of chunk i's successor, as far as it may be read. */
static uint64_t chunk_end(const struct mj_tail_view *v, size_t i)
{
    uint64_t end = i + 1 < v->count ? v->chunks[i + 1]->first_seq : v->end;
    return end < v->end ? end : v->end;
}

bool mj_tail_view_run(const struct mj_tail_view *v, uint64_t seq, struct mj_run *out)
{
    if (!v->count || seq < v->floor || seq >= v->end)
        return false;
    /* The last chunk whose first_seq is not above seq; most readers are in the very last. */
    size_t lo = 0, hi = v->count - 1;
    if (seq >= v->chunks[hi]->first_seq)
        lo = hi;
    while (lo < hi) {
        size_t mid = lo + (hi - lo + 1) / 2;
        if (v->chunks[mid]->first_seq <= seq)
            lo = mid;
        else
            hi = mid - 1;
    }
    const struct mj_chunk *c = v->chunks[lo];
    *out = (struct mj_run){.entries = c->entries + (seq - c->first_seq),
                           .count = chunk_end(v, lo) - seq,
                           .data = c->data};
    return true;
}

static int64_t time_of(const struct mj_tail_view *v, uint64_t seq)
{
    struct mj_run r;
    return mj_tail_view_run(v, seq, &r) ? r.entries->time_us : 0;
}

uint64_t mj_tail_view_find(const struct mj_tail_view *v, int64_t time_us)
{
    if (v->floor >= v->end)
        return v->end;
    uint64_t lo = v->floor, hi = v->end;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (time_of(v, mid) < time_us)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

int64_t mj_tail_view_newest(const struct mj_tail_view *v)
{
    return v->end > v->floor ? time_of(v, v->end - 1) : 0;
}
