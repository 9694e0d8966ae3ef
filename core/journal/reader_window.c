/* The window: what a reader has read of its notes and is not done with, in the order of the notes.
 *
 *   slots   │done│AIR│done│wait│wait│AIR│wait│ …          read so far: everything below `scanned`
 *           └ gone as soon as it is at the head, or when too many are done
 *
 * It is read from the index: a note's kind and number are there, and its account, so that order
 * needs no look at texts. */
#include "base/json.h"
#include "journal/reader_internal.h"

#define SCAN_ONCE   (UINT64_C(256) << 10) /* entries looked at under the lock */
#define STUCK_MOST  ((size_t)60000)       /* slots; MJ__SLOTS_SAVED has room for them */
#define PARCEL_MOST ((size_t)64 << 20)    /* bytes of one parcel, whatever its owner allows */

void mj__window_deinit(struct mj__window *w)
{
    free(w->slots);
    free(w->air.v);
    free(w->busy.v);
    free(w->picked);
    *w = (struct mj__window){0};
}

/* ---- accounts ---- */

/* A table that was large once is not cleared for ever as if it still were. */
static void no_accounts(struct mj__accounts *a)
{
    if (a->cap > 64 && a->used < a->cap / 16) {
        free(a->v);
        *a = (struct mj__accounts){0};
    } else if (a->used) {
        memset(a->v, 0, a->cap * sizeof *a->v);
        a->used = 0;
    }
}

/* Its place, or the free one where it would be. There is one. */
static size_t place_of(const struct mj__accounts *a, uint32_t did)
{
    size_t i = did & (a->cap - 1);
    while (a->v[i].n && a->v[i].did != did)
        i = (i + 1) & (a->cap - 1);
    return i;
}

/* Room for one more, without those that have no events any more. */
static void make_room(struct mj__accounts *a)
{
    struct mj__accounts old = *a;
    size_t live = 0;
    if (2 * (a->used + 1) <= a->cap)
        return;
    for (size_t i = 0; i < old.cap; i++)
        live += old.v[i].n > 1;
    a->cap = old.cap ? old.cap : 32;
    while (4 * (live + 1) > a->cap)
        a->cap *= 2;
    a->v = mj_calloc(a->cap, sizeof *a->v);
    a->used = live;
    for (size_t i = 0; i < old.cap; i++)
        if (old.v[i].n > 1) {
            size_t to = place_of(a, old.v[i].did);
            a->v[to].did = old.v[i].did;
            a->v[to].n = old.v[i].n;
        }
    free(old.v);
}

static void add_account(struct mj__accounts *a, uint32_t did)
{
    make_room(a);
    size_t i = place_of(a, did);
    if (!a->v[i].n) {
        a->v[i].did = did;
        a->v[i].n = 1;
        a->used++;
    }
    a->v[i].n++;
}

static void drop_account(struct mj__accounts *a, uint32_t did) { a->v[place_of(a, did)].n--; }

static bool has_account(const struct mj__accounts *a, uint32_t did)
{
    return a->used && a->v[place_of(a, did)].n > 1;
}

/* ---- slots ---- */

void mj__window_clear(struct mj__window *w)
{
    w->head = w->n = w->first = w->live = w->unresolved = w->stuck = 0;
    no_accounts(&w->air);
}

/* Takes out what is done. */
static void compact(struct mj__window *w)
{
    size_t to = 0;
    for (size_t i = w->head; i < w->n; i++)
        if (w->slots[i].state != MJ__DONE)
            w->slots[to++] = w->slots[i];
    w->head = w->first = 0;
    w->n = to;
}

struct mj__slot *mj__window_add(struct mj__window *w)
{
    if (w->n == w->cap && w->cap && w->live <= w->cap / 2)
        compact(w);
    if (w->n == w->cap) {
        w->cap = w->cap ? 2 * w->cap : 16;
        w->slots = mj_realloc(w->slots, w->cap * sizeof *w->slots);
    }
    w->live++;
    w->slots[w->n] = (struct mj__slot){0};
    return &w->slots[w->n++];
}

struct mj__slot *mj__window_find(struct mj__window *w, uint64_t note)
{
    size_t lo = w->head, hi = w->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (w->slots[mid].note < note)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < w->n && w->slots[lo].note == note && w->slots[lo].state != MJ__DONE ? &w->slots[lo]
                                                                                    : NULL;
}

void mj__window_out(struct mj__window *w, struct mj__slot *s)
{
    s->state = MJ__AIR;
    add_account(&w->air, s->did);
}

void mj__window_back(struct mj__window *w, struct mj__slot *s)
{
    size_t at = (size_t)(s - w->slots);
    if (s->state == MJ__AIR)
        drop_account(&w->air, s->did);
    s->state = MJ__WAITING;
    w->first = at < w->first ? at : w->first;
}

void mj__window_done(struct mj__window *w, struct mj__slot *s)
{
    if (s->state == MJ__AIR)
        drop_account(&w->air, s->did);
    s->state = MJ__DONE;
    w->live--;
    while (w->head < w->n && w->slots[w->head].state == MJ__DONE)
        w->head++;
    if (w->head == w->n)
        w->head = w->n = w->first = 0;
}

/* ---- reading ---- */

bool mj__is_note_of(const struct mj_reader *r, const struct mj_entry *e)
{
    return MJ_UNLIKELY(e->kind == MJ_ENTRY_NOTE) && e->collection == r->number;
}

/* Beyond the journal's table of names several readers share a number. */
static bool says_our_name(const struct mj_reader *r, const struct mj__note *note)
{
    if (r->number != MJ_COLLECTION_OTHER)
        return true;
    MJ_AUTO_BUF text = {0};
    mj_json_text(note->reader, &text);
    return mj_span_eq(mj_buf_span(&text), mj_str(r->name));
}

/* Where the event of a note is: 0 with the slot filled in, MJ_ENOENT when it is gone or cannot be
 * read, MJ_EINVAL when the note is not ours. */
static int resolve(const struct mj_reader *r, struct mj_view *view, struct mj_run *run, size_t i,
                   struct mj__slot *s)
{
    struct mj__note note;
    struct mj_run at;
    if (mj_view_load(view, run))
        return MJ_ENOENT;
    if (!mj__note_quick(mj_run_json(run, i), mj_buf_span(&r->front), &note)) {
        if (mj__note_take(mj_run_json(run, i), &note))
            return MJ_ENOENT;
        if (!says_our_name(r, &note))
            return MJ_EINVAL;
    }
    s->back = note.back;
    s->upstream_seq = note.upstream_seq;
    s->did = run->entries[i].did;
    s->note = run->seq + i;
    if (note.back <= i) {
        s->size = (uint32_t)mj_run_json(run, i - note.back).len;
        return 0;
    }
    /* The event is in the run before. */
    if (note.back > s->note || !mj_view_run(view, s->note - note.back, &at) ||
        at.seq != s->note - note.back || mj_view_load(view, &at))
        return MJ_ENOENT;
    s->size = (uint32_t)mj_run_json(&at, 0).len;
    return 0;
}

/* Slots that come from disk: what are they now? */
static void look_again(struct mj_reader *r, struct mj_view *view, int64_t now_us)
{
    struct mj__window *w = &r->window;
    for (size_t i = w->head; i < w->n && w->unresolved; i++) {
        struct mj__slot *s = &w->slots[i];
        struct mj__slot found = *s;
        struct mj_run run;
        if (s->state == MJ__DONE || s->back)
            continue;
        w->unresolved--;
        if (mj_view_run(view, s->note, &run) && run.seq == s->note &&
            mj__is_note_of(r, run.entries) && resolve(r, view, &run, 0, &found) == 0) {
            if (!found.since_us)
                found.since_us = now_us;
            *s = found;
            continue;
        }
        mj__reader_lost(r, 1);
        s->state = MJ__DONE; /* the head moves below */
        w->live--;
    }
    while (w->head < w->n && w->slots[w->head].state == MJ__DONE)
        w->head++;
}

void mj__take_mail(struct mj_reader *r)
{
    pthread_mutex_lock(&r->mail);
    if (r->news_first) {
        /* Up to the first of them there is nothing. */
        if (r->scanned >= r->news && r->scanned < r->news_first)
            r->scanned = r->news_first;
        if (r->news < r->news_last)
            r->news = r->news_last;
        r->unread += r->news_count;
        r->news_first = r->news_count = 0;
    }
    pthread_mutex_unlock(&r->mail);
}

void mj__window_floor(struct mj_reader *r, uint64_t floor)
{
    struct mj__window *w = &r->window;
    uint64_t lost = 0;
    for (size_t i = w->head; i < w->n && w->slots[i].note < floor; i++) {
        struct mj__slot *s = &w->slots[i];
        if (s->state != MJ__WAITING)
            continue;
        w->unresolved -= !s->back;
        s->state = MJ__DONE; /* the head moves below */
        w->live--;
        lost++;
    }
    while (w->head < w->n && w->slots[w->head].state == MJ__DONE)
        w->head++;
    r->dirty |= lost > 0;
    mj__reader_lost(r, lost);
}

/* Events that wait for their next attempt, and those behind them, do not keep others from being
 * read. */
static bool has_room(const struct mj_reader *r)
{
    const struct mj__window *w = &r->window;
    return w->live < r->cfg.window + (w->stuck < STUCK_MOST ? w->stuck : STUCK_MOST);
}

bool mj__window_wants(const struct mj_reader *r) { return r->scanned < r->news && has_room(r); }

bool mj__window_fill(struct mj_reader *r, struct mj_view *view, int64_t now_us)
{
    struct mj__window *w = &r->window;
    uint64_t looked = 0;
    mj__take_mail(r);
    if (w->unresolved)
        look_again(r, view, now_us);
    while (mj__window_wants(r)) {
        struct mj_run run;
        if (looked >= SCAN_ONCE || r->scanned >= view->end)
            return true;
        mj__count_floor(r, view->floor);
        if (!mj_view_run(view, r->scanned, &run))
            return true; /* all that is held is overtaken: the view must be refreshed */
        uint64_t end = run.seq + run.count < r->news ? run.seq + run.count : r->news;
        size_t i = 0, n = end > run.seq ? (size_t)(end - run.seq) : 0;
        if (!mj__block_may_have(r, run.summary))
            i = n;
        for (; i < n && has_room(r); i++) {
            struct mj__slot found = {0};
            if (MJ_LIKELY(!mj__is_note_of(r, &run.entries[i])))
                continue;
            int err = resolve(r, view, &run, i, &found);
            if (err != MJ_EINVAL)
                mj__count_read(r, run.seq + i);
            if (err == MJ_ENOENT)
                mj__reader_lost(r, 1);
            if (err)
                continue;
            found.since_us = now_us;
            *mj__window_add(w) = found;
        }
        looked += i + 1;
        r->scanned = run.seq + i > r->scanned ? run.seq + i : r->scanned;
        if (!n) /* seqs are missing up to there */
            r->scanned = r->news;
        r->dirty = true;
    }
    mj__count_scanned(r);
    return false;
}

/* ---- picking ---- */

static bool must_wait(const struct mj__window *w, uint32_t did)
{
    return has_account(&w->air, did) || has_account(&w->busy, did);
}

static void pick(struct mj__window *w, size_t i)
{
    if (w->picked_count == w->picked_cap) {
        w->picked_cap = w->picked_cap ? 2 * w->picked_cap : 16;
        w->picked = mj_realloc(w->picked, w->picked_cap * sizeof *w->picked);
    }
    w->picked[w->picked_count++] = i;
}

void mj__window_pick(struct mj_reader *r, int64_t now_us, int64_t *due_us)
{
    struct mj__window *w = &r->window;
    const struct mj_owner_cfg *c = &r->cfg;
    size_t bytes = 0, most = c->max_bytes < PARCEL_MOST ? c->max_bytes : PARCEL_MOST;
    bool full = false;
    *due_us = -1;
    w->picked_count = w->stuck = 0;
    no_accounts(&w->busy);
    for (size_t i = 0; i < r->revived_count; i++) {
        if (r->revived[i].out && c->order == MJ_ORDER_TOTAL)
            return;
        if (r->revived[i].out && !r->revived[i].many)
            add_account(&w->busy, r->revived[i].did);
    }
    w->first = w->first < w->head ? w->head : w->first;
    while (w->first < w->n && w->slots[w->first].state != MJ__WAITING)
        w->first++;
    if (c->order == MJ_ORDER_TOTAL && w->first > w->head)
        return; /* the head is in the air */
    for (size_t i = w->first; i < w->n && !full; i++) {
        const struct mj__slot *s = &w->slots[i];
        if (s->state == MJ__DONE || (s->state == MJ__AIR && c->order != MJ_ORDER_TOTAL))
            continue; /* what is in the air is counted by account */
        /* A clock before its first attempt was set back: then its time says nothing. */
        bool due = s->state == MJ__WAITING && (s->due_us <= now_us || s->since_us > now_us);
        bool joins = !w->picked_count || s->group == w->slots[w->picked[0]].group;
        if (s->state == MJ__WAITING && !due && (*due_us < 0 || s->due_us < *due_us))
            *due_us = s->due_us;
        if (due && joins && (c->order != MJ_ORDER_DID || !must_wait(w, s->did))) {
            if (w->picked_count && bytes + s->size > most) {
                full = true;
                break;
            }
            pick(w, i);
            bytes += s->size;
            full = w->picked_count >= c->max || bytes >= most;
        } else if (c->order == MJ_ORDER_TOTAL) {
            break;
        } else if (!has_account(&w->air, s->did) || c->order == MJ_ORDER_NONE) {
            w->stuck++;
            if (c->order == MJ_ORDER_DID && !has_account(&w->busy, s->did))
                add_account(&w->busy, s->did); /* what comes behind it waits, too */
        }
    }
    if (!w->picked_count || full || c->every_us <= 0 || !has_room(r))
        return;
    const struct mj__slot *first = &w->slots[w->picked[0]];
    if (first->group || first->since_us + c->every_us <= now_us || first->since_us > now_us)
        return;
    int64_t ripe = first->since_us + c->every_us;
    if (*due_us < 0 || ripe < *due_us)
        *due_us = ripe;
    w->picked_count = 0;
}
