/* What readers see: a copy of the list of segments, and blocks of sealed ones, unpacked. */
#include "journal/blocks.h"
#include "journal/internal.h"

/* Under the lock: makes the view's list the journal's, touching only what differs. Sealing replaces
 * segments in place, so the middle is compared, too. */
static void copy_list(struct mj_view *v)
{
    struct mj_journal *j = v->journal;
    size_t gone = j->serial - v->serial;
    if (gone > v->count)
        gone = v->count;
    for (size_t i = 0; i < gone; i++) {
        mj_blocks_forget(v->blocks, v->segments[i]);
        mj__segment_unref(j, v->segments[i]);
    }
    v->count -= gone;
    if (gone && v->count)
        memmove(v->segments, v->segments + gone, v->count * sizeof *v->segments);
    v->serial = j->serial;
    if (v->cap < j->count) {
        v->cap = j->cap;
        v->segments = mj_realloc(v->segments, v->cap * sizeof *v->segments);
    }
    for (size_t i = 0; i < v->count; i++)
        if (v->segments[i] != j->segments[i]) {
            mj_blocks_forget(v->blocks, v->segments[i]);
            mj__segment_unref(j, v->segments[i]);
            mj__segment_ref(v->segments[i] = j->segments[i]);
        }
    for (; v->count < j->count; v->count++)
        mj__segment_ref(v->segments[v->count] = j->segments[v->count]);
    v->floor = j->floor;
    v->generation = atomic_load_explicit(&j->generation, memory_order_relaxed);
}

bool mj_view_refresh(struct mj_view *v)
{
    struct mj_journal *j = v->journal;
    /* `published` first: whatever it covers lies in segments whose generation is then seen, too. */
    uint64_t end = atomic_load_explicit(&j->published, memory_order_acquire);
    if (atomic_load_explicit(&j->generation, memory_order_acquire) != v->generation) {
        pthread_mutex_lock(&j->lock);
        copy_list(v);
        /* Again, because the floor may lie beyond the old one when several segments are filled
         * between two publishes; and under the lock, so that no segment is missing for it. */
        end = atomic_load_explicit(&j->published, memory_order_acquire);
        pthread_mutex_unlock(&j->lock);
    }
    bool moved = end != v->end;
    v->end = end;
    return moved;
}

void mj_view_init(struct mj_view *v, struct mj_journal *j)
{
    *v = (struct mj_view){.journal = j, .floor = 1, .end = 1, .blocks = mj_blocks_new()};
    pthread_mutex_lock(&j->lock);
    copy_list(v);
    v->end = atomic_load_explicit(&j->published, memory_order_acquire);
    pthread_mutex_unlock(&j->lock);
}

void mj_view_deinit(struct mj_view *v)
{
    if (!v->journal)
        return;
    pthread_mutex_lock(&v->journal->lock);
    for (size_t i = 0; i < v->count; i++)
        mj__segment_unref(v->journal, v->segments[i]);
    pthread_mutex_unlock(&v->journal->lock);
    mj_blocks_free(v->blocks);
    free(v->segments);
    *v = (struct mj_view){0};
}

/* How many entries of segment i may be read. What the writer counts in its last segment is its
 * own; seqs are dense there, so the end says it. */
static size_t readable(const struct mj_view *v, size_t i)
{
    const struct mj_segment *s = v->segments[i];
    if (v->end <= s->first_seq)
        return 0;
    uint64_t n = v->end - s->first_seq;
    return i + 1 < v->count && s->n < n ? s->n : n;
}

/* The segment that holds seq, or the first one behind it that holds anything; count for none. */
static size_t segment_of(const struct mj_view *v, uint64_t seq)
{
    size_t lo = 0, hi = v->count - 1;
    if (seq >= v->segments[hi]->first_seq)
        lo = hi;
    while (lo < hi) {
        size_t mid = lo + (hi - lo + 1) / 2;
        if (v->segments[mid]->first_seq <= seq)
            lo = mid;
        else
            hi = mid - 1;
    }
    while (lo < v->count &&
           (!readable(v, lo) || seq >= v->segments[lo]->first_seq + readable(v, lo)))
        lo++;
    return lo;
}

static uint32_t row_of(const struct mj_segment *s, uint32_t entry)
{
    uint32_t lo = 0, hi = s->row_count - 1;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo + 1) / 2;
        if (s->rows[mid].first <= entry)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

bool mj_view_run(const struct mj_view *v, uint64_t seq, struct mj_run *out)
{
    if (!v->count || seq < v->floor || seq >= v->end)
        return false;
    size_t i = segment_of(v, seq);
    if (i == v->count)
        return false;
    const struct mj_segment *s = v->segments[i];
    if (seq < s->first_seq)
        seq = s->first_seq;
    uint32_t k = (uint32_t)(seq - s->first_seq), n = (uint32_t)readable(v, i);
    *out = (struct mj_run){.entries = s->entries + k,
                           .seq = seq,
                           .base_us = s->base_us,
                           .segment = s,
                           .start = k ? s->entries[k - 1].end : 0};
    if (!s->sealed) {
        out->count = n - k;
        out->data = s->data + out->start;
        return true;
    }
    /* A damaged row is told when its bytes are asked for; until then it must only not lead us
     * astray. */
    const struct mj_row *row = &s->rows[row_of(s, k)];
    out->block = (uint32_t)(row - s->rows);
    uint32_t last = n;
    if (row->first <= k && row->count <= n && row->first <= n - row->count &&
        row->first + row->count > k)
        last = row->first + row->count;
    out->count = last - k;
    out->summary = mj_block_is_sound(s, out->block) ? &row->summary : NULL;
    return true;
}

int mj_view_load(struct mj_view *v, struct mj_run *r)
{
    return r->data ? 0 : mj_blocks_load(v->blocks, r);
}

int64_t mj_view_time(const struct mj_view *v, uint64_t seq)
{
    struct mj_run r;
    return mj_view_run(v, seq, &r) ? mj_run_time(&r, 0) : 0;
}

uint64_t mj_view_find(const struct mj_view *v, int64_t time_us)
{
    if (v->floor >= v->end)
        return v->end;
    for (size_t i = 0; i < v->count; i++) {
        const struct mj_segment *s = v->segments[i];
        size_t n = readable(v, i), lo = 0, hi = n;
        /* Without a look at the index, whose page may be on the disk. The last one's is the
         * writer's. */
        if (!n || (i + 1 < v->count && s->last_us < time_us))
            continue;
        if (s->base_us + s->entries[n - 1].time < time_us)
            continue;
        while (lo < hi) {
            size_t mid = lo + (hi - lo) / 2;
            if (s->base_us + s->entries[mid].time < time_us)
                lo = mid + 1;
            else
                hi = mid;
        }
        uint64_t seq = s->first_seq + lo;
        return seq < v->floor ? v->floor : seq;
    }
    return v->end;
}

int64_t mj_view_newest(const struct mj_view *v)
{
    for (size_t i = v->count; i-- > 0;) {
        size_t n = readable(v, i);
        if (n)
            return v->segments[i]->base_us + v->segments[i]->entries[n - 1].time;
    }
    return 0;
}
