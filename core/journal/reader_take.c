/* Parcels: what an owner takes, and gives back as done or failed.
 *
 *   pick ─▶ copy texts ─▶ parcel ─┬▶ done ─────────────▶ out of the window
 *                                 └▶ failed ─┬▶ again ─▶ waits in the window, with the same others
 *                                            └▶ dead letter, out of the window
 *
 * A parcel is one allocation that owes nothing to the journal, so it may be held for as long as an
 * endpoint hangs. */
#include <stdio.h>

#include "event/id.h"
#include "journal/reader_internal.h"

#define RETRY_LEAST INT64_C(1000)     /* µs: a policy without a wait must not spin */
#define QUIET_MOST  INT64_C(60000000) /* that is believed without a look */
#define FULL_US     INT64_C(1000000)  /* before the next attempt, when a dead letter has no room */

struct parcel {
    struct mj_parcel p; /* first member */
    unsigned owner, epoch;
    uint64_t *notes; /* of the items; behind this struct, as all the rest */
    struct mj_item *items;
};

static struct parcel *parcel_new(struct mj_reader *r, size_t n, size_t bytes)
{
    struct parcel *p =
        mj_alloc(sizeof *p + n * (sizeof(struct mj_item) + sizeof(uint64_t)) + bytes);
    *p = (struct parcel){.owner = r->owner, .epoch = r->epoch};
    p->items = (struct mj_item *)(p + 1);
    p->notes = (uint64_t *)(p->items + n);
    p->p = (struct mj_parcel){.reader = r, .items = p->items};
    return p;
}

static void name_item(const struct mj_reader *r, struct mj_item *item)
{
    uint8_t id[MJ_EVENT_ID] = {0};
    mj_event_id_json(item->json, id); /* it is ours, so it is an event */
    mj_delivery_id(mj_str(r->name), id, item->id);
}

/* Copies the texts of what is picked, from the view. What is gone by now is left out. */
static struct parcel *fetch(struct mj_reader *r, struct mj_view *view, int64_t now_us)
{
    struct mj__window *w = &r->window;
    size_t bytes = 0;
    for (size_t i = 0; i < w->picked_count; i++)
        bytes += w->slots[w->picked[i]].size;
    struct parcel *p = parcel_new(r, w->picked_count, bytes);
    uint8_t *to = (uint8_t *)(p->notes + w->picked_count);
    for (size_t i = 0; i < w->picked_count; i++) {
        struct mj__slot *s = &w->slots[w->picked[i]];
        struct mj_item *item = &p->items[p->p.n];
        uint64_t seq = s->note - s->back;
        struct mj_run run;
        struct mj_span json = {NULL, 0};
        if (mj_view_run(view, seq, &run) && run.seq == seq && mj_view_load(view, &run) == 0)
            json = mj_run_json(&run, 0);
        if (!json.len || json.len != s->size) {
            mj__reader_lost(r, 1);
            s->state = MJ__DONE; /* the head moves below */
            w->live--;
            continue;
        }
        memcpy(to, json.ptr, json.len);
        *item = (struct mj_item){.seq = seq,
                                 .time_us = mj_run_time(&run, 0),
                                 .upstream_seq = s->upstream_seq,
                                 .did = s->did,
                                 .json = mj_span(to, json.len)};
        name_item(r, item);
        to += json.len;
        if (!p->p.n) {
            p->p.attempt = s->attempts + 1;
            p->p.first_us = s->attempts ? s->since_us : now_us;
        }
        mj__window_out(w, s);
        p->notes[p->p.n++] = s->note;
    }
    while (w->head < w->n && w->slots[w->head].state == MJ__DONE)
        w->head++;
    if (p->p.n)
        return p;
    free(p);
    return NULL;
}

/* ---- dead letters that go out once more ---- */

static struct parcel *revive(struct mj_reader *r, uint64_t id, int64_t now_us)
{
    MJ_AUTO_BUF value = {0};
    struct mj__letter_in l;
    if (mj__dead_read(r, id, &value) || mj__letter_take(mj_buf_span(&value), &l) || !l.n)
        return NULL;
    struct parcel *p = parcel_new(r, l.n, l.texts.len);
    uint8_t *to = (uint8_t *)(p->notes + l.n);
    for (struct mj_item *item = p->items; mj__letter_next(&l, item); item++) {
        memcpy(to, item->json.ptr, item->json.len);
        item->json.ptr = to;
        to += item->json.len;
        p->notes[p->p.n++] = 0;
    }
    p->p.attempt = l.dead.attempts + 1;
    p->p.first_us = l.dead.first_us ? l.dead.first_us : now_us;
    p->p.dead_id = id;
    return p;
}

static void forget_revived(struct mj_reader *r, uint64_t id)
{
    for (size_t i = 0; i < r->revived_count; i++)
        if (r->revived[i].id == id) {
            memmove(r->revived + i, r->revived + i + 1,
                    (r->revived_count - i - 1) * sizeof *r->revived);
            r->revived_count--;
            return;
        }
}

/* Whose it is. False when it was removed meanwhile, or cannot be read. */
static bool look_at(struct mj_reader *r, struct mj__revived *v)
{
    MJ_AUTO_BUF value = {0};
    struct mj__letter_in l;
    struct mj_item item;
    if (v->looked)
        return true;
    if (mj__dead_read(r, v->id, &value) || mj__letter_take(mj_buf_span(&value), &l))
        return false;
    v->looked = true;
    for (bool first = true; mj__letter_next(&l, &item); first = false) {
        v->many |= !first && item.did != v->did;
        v->did = item.did;
    }
    return true;
}

/* By the reader's order it is not its turn yet. One of several accounts only waits for others of
 * its kind, or it might wait for ever. */
static bool must_wait(const struct mj_reader *r, size_t at)
{
    const struct mj__window *w = &r->window;
    const struct mj__revived *v = &r->revived[at];
    bool total = r->cfg.order == MJ_ORDER_TOTAL;
    if (r->cfg.order == MJ_ORDER_NONE)
        return false;
    for (size_t i = 0; i < r->revived_count; i++) {
        const struct mj__revived *o = &r->revived[i];
        if (i != at && (i < at || o->out) && (total || v->many || o->many || o->did == v->did))
            return true;
    }
    for (size_t i = w->head; i < w->n; i++)
        if (w->slots[i].state == MJ__AIR && (total || (!v->many && w->slots[i].did == v->did)))
            return true;
    return false;
}

static struct parcel *next_revived(struct mj_reader *r, int64_t now_us)
{
    for (size_t i = 0; i < r->revived_count; i++) {
        if (r->revived[i].out)
            continue;
        bool there = look_at(r, &r->revived[i]);
        if (there && must_wait(r, i))
            continue;
        struct parcel *p = there ? revive(r, r->revived[i].id, now_us) : NULL;
        if (p) {
            r->revived[i].out = true;
            return p;
        }
        forget_revived(r, r->revived[i].id); /* it was removed meanwhile, or cannot be read */
        i--;
    }
    return NULL;
}

/* ---- taking ---- */

static struct parcel *take(struct mj_reader *r, struct mj_view *view, int64_t now_us,
                           int64_t *again_us)
{
    *again_us = -1;
    if (r->paused || r->disabled || r->air >= r->cfg.workers)
        return NULL;
    struct parcel *p = next_revived(r, now_us);
    if (p)
        return p;
    bool more = mj__window_fill(r, view, now_us);
    int64_t due;
    for (;;) {
        mj__window_pick(r, now_us, &due);
        if (r->window.picked_count && (p = fetch(r, view, now_us)))
            break;
        if (r->window.picked_count)
            continue; /* all of it is gone */
        if (more || !mj__window_wants(r))
            break;
        more = mj__window_fill(r, view, now_us); /* past what is stuck */
    }
    *again_us = more ? 0 : due < 0 ? -1 : due > now_us ? due - now_us : 0;
    return p;
}

struct mj_parcel *mj_reader_take(struct mj_reader *r, const void *ctx, struct mj_view *view,
                                 int64_t now_us, int64_t *again_us)
{
    int64_t quiet = atomic_load_explicit(&r->quiet_until, memory_order_acquire);
    /* Far ahead is looked at: the clock may have been set back since. */
    if (quiet == INT64_MAX || (now_us < quiet && quiet - now_us <= QUIET_MOST)) {
        *again_us = quiet == INT64_MAX ? -1 : quiet - now_us;
        return NULL;
    }
    struct parcel *p = NULL;
    *again_us = -1;
    pthread_mutex_lock(&r->lock);
    if (r->owned && r->cfg.ctx == ctx) {
        p = take(r, view, now_us, again_us);
        if (p) {
            r->air++;
            r->air_events += p->p.n;
            *again_us = 0;
        } else if (*again_us) {
            pthread_mutex_lock(&r->mail);
            if (!r->news_first)
                atomic_store_explicit(&r->quiet_until,
                                      *again_us < 0 ? INT64_MAX : now_us + *again_us,
                                      memory_order_release);
            pthread_mutex_unlock(&r->mail);
        }
    }
    pthread_mutex_unlock(&r->lock);
    return p ? &p->p : NULL;
}

/* ---- settling ---- */

static struct mj_attempt attempt_of(const struct parcel *p, int64_t now_us, int status,
                                    const char *reason)
{
    struct mj_attempt a = {
        .reader = p->p.reader->name, .at_us = now_us, .attempt = p->p.attempt, .status = status};
    snprintf(a.reason, sizeof a.reason, "%s", reason ? reason : "");
    return a;
}

/* What became of one item; of a dead letter's nothing is kept. */
static void note_attempt(struct mj_reader *r, struct mj_attempt *a, const struct mj_item *item,
                         int what)
{
    a->seq = item->seq;
    a->what = what;
    if (a->seq)
        mj__attempts_add(r->rs->attempts, a);
}

/* The parcel is back, under the lock. False when nothing of it counts any more. */
static bool came_back(struct mj_reader *r, const struct parcel *p)
{
    bool counts = p->epoch == r->epoch;
    if (counts && p->owner == r->owner && r->air)
        r->air--;
    if (counts)
        r->air_events -= p->p.n < r->air_events ? p->p.n : r->air_events;
    r->dirty = true;
    return counts;
}

static void settled(struct mj_reader *r, struct parcel *p)
{
    bool other = p->owner != r->owner;
    pthread_mutex_unlock(&r->lock);
    /* Who settles takes again by itself; who has taken over does not know of it. */
    mj__reader_stir(r, other);
    free(p);
}

void mj_parcel_done(struct mj_parcel *parcel, int64_t now_us, int status)
{
    struct parcel *p = (struct parcel *)parcel;
    struct mj_reader *r = parcel->reader;
    pthread_mutex_lock(&r->lock);
    bool counts = came_back(r, p);
    r->last_ok_us = now_us;
    r->delivered += p->p.n;
    mj_metric_add(r->m.delivered, (int64_t)p->p.n);
    struct mj_attempt attempt = attempt_of(p, now_us, status, NULL);
    for (size_t i = 0; i < p->p.n; i++) {
        struct mj__slot *s =
            counts && p->notes[i] ? mj__window_find(&r->window, p->notes[i]) : NULL;
        if (s)
            mj__window_done(&r->window, s);
        note_attempt(r, &attempt, &p->items[i], MJ_ATTEMPT_DONE);
    }
    if (p->p.dead_id) {
        forget_revived(r, p->p.dead_id);
        mj__dead_drop(r, p->p.dead_id);
    }
    settled(r, p);
}

static uint64_t random64(struct mj_reader *r)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return r->random;
}

/* Full jitter: anything from nothing to the wait, which doubles. */
static int64_t wait_of(struct mj_reader *r, unsigned attempts)
{
    const struct mj_retry *retry = &r->cfg.retry;
    int64_t wait = retry->min_us > RETRY_LEAST ? retry->min_us : RETRY_LEAST;
    int64_t most = retry->max_us > wait ? retry->max_us : wait;
    for (unsigned i = 1; i < attempts && wait < most; i++)
        wait *= 2;
    if (wait > most)
        wait = most;
    return (int64_t)(random64(r) % (uint64_t)wait) + 1;
}

static bool is_at_its_end(const struct mj_reader *r, unsigned attempts, int64_t since_us,
                          int64_t now_us)
{
    const struct mj_retry *retry = &r->cfg.retry;
    return (retry->tries && attempts >= retry->tries) ||
           (retry->for_us && now_us - since_us >= retry->for_us);
}

/* Before the next attempt the journal drops it: better a dead letter than nothing. */
static bool is_gone_by(const struct mj_reader *r, int64_t time_us, int64_t due_us)
{
    int64_t kept = r->rs->journal->cfg.retain_us;
    return kept > 0 && due_us - time_us >= kept;
}

static void bury(struct mj_reader *r, struct parcel *p, const bool *dies, size_t n, int64_t now_us,
                 const struct mj_failure *f)
{
    struct mj_item *items = mj_alloc((n ? n : 1) * sizeof *items);
    size_t k = 0;
    for (size_t i = 0; i < p->p.n; i++)
        if (dies[i])
            items[k++] = p->items[i];
    const struct mj__letter l = {.items = items,
                                 .n = n,
                                 .first_us = p->p.first_us,
                                 .died_us = now_us,
                                 .attempts = p->p.attempt,
                                 .status = f->status,
                                 .reason = f->reason ? f->reason : "",
                                 .excerpt = f->excerpt};
    if (p->p.dead_id) {
        mj__dead_replace(r, p->p.dead_id, &l);
    } else {
        mj__dead_add(r, &l);
        r->dead += n;
        mj_metric_add(r->m.dead, (int64_t)n);
    }
    free(items);
}

/* What failed of a dead letter stays one. */
static void fail_revived(struct mj_reader *r, struct parcel *p, int64_t now_us,
                         const struct mj_failure *f)
{
    bool *dies = mj_calloc(p->p.n + 1, sizeof *dies);
    size_t n = 0;
    if (f->what == MJ_FAIL_BACK || f->what == MJ_FAIL_AGAIN) {
        for (size_t i = 0; i < r->revived_count; i++)
            if (r->revived[i].id == p->p.dead_id)
                r->revived[i].out = false;
    } else {
        for (size_t i = 0; i < p->p.n; i++)
            n += dies[i] = !f->failed || f->failed[i];
        forget_revived(r, p->p.dead_id);
        if (n)
            bury(r, p, dies, n, now_us, f);
        else
            mj__dead_drop(r, p->p.dead_id);
    }
    free(dies);
}

static void fail_events(struct mj_reader *r, struct parcel *p, int64_t now_us,
                        const struct mj_failure *f)
{
    bool *dies = mj_calloc(p->p.n + 1, sizeof *dies);
    size_t n = 0, retried = 0;
    bool tried = f->what != MJ_FAIL_BACK && f->what != MJ_FAIL_AGAIN, whole = true;
    bool counted = f->what != MJ_FAIL_LATER;
    /* A disk that takes nothing must not fill the memory with dead letters: these wait, too. */
    bool room = !r->rs->disk || mj_disk_has_room(r->rs->disk);
    int64_t wait = f->what == MJ_FAIL_DEAD || !tried ? 0 : wait_of(r, p->p.attempt);
    struct mj_attempt done = attempt_of(p, now_us, f->status, NULL);
    struct mj_attempt attempt = attempt_of(p, now_us, f->status, f->reason);
    for (size_t i = 0; i < p->p.n; i++)
        whole &= !f->failed || f->failed[i];
    /* Those that fail together stay together; a part of a parcel is another parcel. */
    r->group += f->what != MJ_FAIL_BACK;
    r->group += r->group == 0;
    for (size_t i = 0; i < p->p.n; i++) {
        struct mj__slot *s = mj__window_find(&r->window, p->notes[i]);
        if (!s)
            continue;
        if (f->failed && !f->failed[i]) {
            mj__window_done(&r->window, s);
            r->delivered++;
            mj_metric_add(r->m.delivered, 1);
            note_attempt(r, &done, &p->items[i], MJ_ATTEMPT_DONE);
            continue;
        }
        mj__window_back(&r->window, s);
        if (f->what == MJ_FAIL_AGAIN && !s->group)
            s->group = r->group;
        if (!tried)
            continue;
        if (counted && !s->attempts++)
            s->since_us = p->p.first_us;
        if (s->since_us > now_us)
            s->since_us = now_us;
        if (!s->group || !whole)
            s->group = r->group;
        int64_t due = now_us + (f->after_us > 0 ? f->after_us : wait);
        bool ends = f->what == MJ_FAIL_DEAD || is_gone_by(r, p->items[i].time_us, due) ||
                    (counted && is_at_its_end(r, s->attempts, s->since_us, now_us));
        dies[i] = ends && room;
        note_attempt(r, &attempt, &p->items[i], dies[i] ? MJ_ATTEMPT_DEAD : MJ_ATTEMPT_RETRY);
        if (dies[i]) {
            mj__window_done(&r->window, s);
            n++;
            continue;
        }
        s->due_us = ends && f->after_us <= 0 ? now_us + FULL_US : due;
        retried++;
    }
    r->retried += retried;
    mj_metric_add(r->m.retried, (int64_t)retried);
    if (n)
        bury(r, p, dies, n, now_us, f);
    free(dies);
}

void mj_parcel_fail(struct mj_parcel *parcel, int64_t now_us, const struct mj_failure *f)
{
    struct parcel *p = (struct parcel *)parcel;
    struct mj_reader *r = parcel->reader;
    pthread_mutex_lock(&r->lock);
    bool counts = came_back(r, p);
    if (f->what != MJ_FAIL_BACK && f->what != MJ_FAIL_AGAIN) {
        r->failed++;
        mj_metric_add(r->m.failed, 1);
        r->last_fail_us = now_us;
        if (!r->disabled)
            snprintf(r->reason, sizeof r->reason, "%s", f->reason ? f->reason : "");
    }
    if (p->p.dead_id)
        fail_revived(r, p, now_us, f);
    else if (counts)
        fail_events(r, p, now_us, f);
    settled(r, p);
}
