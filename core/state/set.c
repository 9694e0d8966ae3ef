#include "state/set.h"

#include <pthread.h>
#include <stddef.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/metrics.h"
#include "state/codec.h"
#include "state/epoch.h"
#include "state/ledger.h"
#include "state/set_internal.h"
#include "state/store_internal.h"

#define GIVE_AT_ONCE 10000 /* members, when a giver changes what it gave */
#define WALK_MAX     1000  /* members looked at under the mutex */

struct member {
    struct mj_cell cell; /* first */
    uint32_t givers;     /* bits */
    uint32_t round;      /* of giving that last named it */
};

static struct mj_set *set_of(struct mj_cells *c)
{
    return (struct mj_set *)((char *)c - offsetof(struct mj_set, cells));
}

static void changed(struct mj_set *s)
{
    atomic_fetch_add_explicit(&s->version, 1, memory_order_release);
    atomic_store_explicit(&s->count, mj_cells_count(&s->cells), memory_order_relaxed);
}

static void on_drop(struct mj_cells *c, struct mj_cell *cell)
{
    (void)cell;
    atomic_fetch_add_explicit(&set_of(c)->version, 1, memory_order_release);
}

static void encode(const struct mj_cell *cell, struct mj_codec_cell *out)
{
    (void)cell;
    out->type = MJ_CODEC_MEMBER;
}

static uint64_t hash_of(struct mj_span text) { return mj_table_hash_of(mj_hash(text)); }

static const struct mj_cells_kind kind = {
    .size = sizeof(struct member), .hash = hash_of, .drop = on_drop, .encode = encode};

struct mj_set *mj_set_new(int64_t (*now_us)(void *ctx), void *ctx, struct mj_state_budget *budget)
{
    struct mj_set *s = calloc(1, sizeof *s);
    if (s && mj_cells_init(&s->cells, &kind, true, budget)) {
        free(s);
        s = NULL;
    }
    if (!s)
        return NULL;
    s->now_us = now_us;
    s->ctx = ctx;
    atomic_store(&s->refs, 1);
    atomic_store(&s->now, now_us(ctx));
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

struct mj_set *mj_set_ref(struct mj_set *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

static void free_item(void *ctx, struct mj_table_item *item)
{
    (void)ctx;
    free(item);
}

/* What is not in yet does not come in any more, and nothing goes because it was not named. */
static void end_giving(struct giving *g)
{
    while (g->removed && !mj_table_free_some(g->removed, SIZE_MAX, free_item, NULL))
        ;
    mj_members_deinit(&g->members);
    mj_buf_deinit(&g->at);
    *g = (struct giving){.round = g->round};
}

void mj_set_unref(struct mj_set *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) > 1)
        return;
    mj_cells_deinit(&s->cells);
    mj_sieve_deinit(&s->sieve);
    for (size_t i = 0; i < s->giver_count; i++)
        free(s->givers[i].name);
    end_giving(&s->giving);
    pthread_mutex_destroy(&s->lock);
    free(s->name);
    free(s);
}

const char *mj_set_name(const struct mj_set *s) { return s->name ? s->name : ""; }

/* ---- readers ---- */

bool mj_set_has_hashed(const struct mj_set *s, struct mj_span text, uint64_t hash)
{
    mj_epoch_enter();
    if (!mj_sieve_may_have(&s->sieve, (uint32_t)hash)) {
        mj_epoch_leave();
        return false;
    }
    const struct mj_cell *cell = (const struct mj_cell *)mj_table_find(
        mj_cells_table(&s->cells), text, mj_table_hash_of(hash));
    bool there = cell && !mj_cells_ended(&s->cells, cell,
                                         atomic_load_explicit(&((struct mj_set *)s)->now,
                                                              memory_order_relaxed));
    mj_epoch_leave();
    return there;
}

bool mj_set_has(const struct mj_set *s, struct mj_span text)
{
    return mj_set_has_hashed(s, text, mj_hash(text));
}

bool mj_set_may_have(const struct mj_set *s, uint32_t low)
{
    mj_epoch_enter();
    bool there =
        mj_sieve_may_have(&s->sieve, low) && mj_table_has_low(mj_cells_table(&s->cells), low);
    mj_epoch_leave();
    return there;
}

bool mj_set_any(const struct mj_set *s, bool (*fn)(void *ctx, struct mj_span member), void *ctx)
{
    bool found = false;
    mj_epoch_enter();
    const struct mj_table *t = mj_cells_table(&s->cells);
    for (struct mj_table_item *item = mj_table_first(t); item && !found; item = mj_table_next(item))
        found = fn(ctx, mj_item_key(t, item));
    mj_epoch_leave();
    return found;
}

uint64_t mj_set_version(const struct mj_set *s)
{
    return atomic_load_explicit(&((struct mj_set *)s)->version, memory_order_acquire);
}

size_t mj_set_count(const struct mj_set *s)
{
    return atomic_load_explicit(&((struct mj_set *)s)->count, memory_order_relaxed);
}

uint64_t mj_set_max(struct mj_set *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t max = s->cells.max;
    pthread_mutex_unlock(&s->lock);
    return max;
}

/* ---- writers ---- */

/* The member, made when there is none; found by readers only once the sieve knows it. */
static struct member *get(struct mj_set *s, struct mj_span text, int64_t now, bool pin, bool *made,
                          int *err)
{
    struct member *m =
        (struct member *)mj_cells_get(&s->cells, text, hash_of(text), now, pin, made, err);
    if (m && *made)
        mj_sieve_add(&s->sieve, mj_cells_table(&s->cells), &m->cell.item);
    return m;
}

static int64_t begin(struct mj_set *s)
{
    pthread_mutex_lock(&s->lock);
    int64_t now = s->now_us(s->ctx);
    atomic_store_explicit(&s->now, now, memory_order_relaxed);
    return now;
}

static void end(struct mj_set *s)
{
    atomic_store_explicit(&s->count, mj_cells_count(&s->cells), memory_order_relaxed);
    pthread_mutex_unlock(&s->lock);
}

int mj_set_add(struct mj_set *s, struct mj_span text)
{
    bool made;
    int err;
    if (!text.len)
        return MJ_EINVAL;
    if (text.len > MJ_STATE_KEY_MAX)
        return MJ_EBIG;
    int64_t now = begin(s);
    struct member *m = get(s, text, now, false, &made, &err);
    if (m && !m->givers)
        mj_cells_written(&s->cells, &m->cell, now, 0);
    if (m && made)
        changed(s);
    end(s);
    return m ? made : err;
}

int mj__set_restore(struct mj_set *s, struct mj_span text, int64_t written)
{
    bool made;
    int err;
    struct member *m = get(s, text, 0, false, &made, &err);
    if (m)
        mj_cells_written(&s->cells, &m->cell, written, 0);
    return m ? 0 : err;
}

/* Its turn to be given is perhaps to come: then it stays away. Without memory, it does not. */
static void note_removed(struct giving *g, struct mj_span text)
{
    uint64_t hash = hash_of(text);
    if (!g->active || !g->rest.len || text.len > MJ_STATE_KEY_MAX)
        return;
    if (!g->removed)
        g->removed = mj_table_new(sizeof(struct mj_table_item));
    if (!g->removed || mj_table_find(g->removed, text, hash))
        return;
    struct mj_table_item *item = mj_table_item(g->removed, text, hash);
    if (item)
        mj_table_put(g->removed, item);
}

int mj_set_remove(struct mj_set *s, struct mj_span text)
{
    int64_t now = begin(s);
    struct mj_cell *cell = mj_cells_find(&s->cells, text, hash_of(text), now);
    note_removed(&s->giving, text);
    if (cell) {
        mj_cells_remove(&s->cells, cell);
        changed(s);
    }
    end(s);
    return cell != NULL;
}

int mj_set_clear(struct mj_set *s)
{
    begin(s);
    int err = mj_cells_clear(&s->cells);
    if (!err) {
        s->giving.rest = (struct mj_span){NULL, 0}; /* what was given before, but is not in yet */
        mj_sieve_clear(&s->sieve);
        changed(s);
    }
    end(s);
    return err;
}

void mj_set_configure(struct mj_set *s, const struct mj_state_options *o)
{
    begin(s);
    if (o->says_max)
        s->cells.max = o->max;
    if (o->says_ttl)
        atomic_store_explicit(&s->cells.ttl_us, o->ttl_us, memory_order_relaxed);
    if (o->says_persist) {
        s->persist = o->persist;
        if (s->persist && !s->disk)
            mj__warn_no_disk(s->name);
    }
    end(s);
}

static int giver_index(struct mj_set *s, const char *name)
{
    for (size_t i = 0; i < s->giver_count; i++)
        if (!strcmp(s->givers[i].name, name))
            return (int)i;
    if (s->giver_count == MJ_SET_GIVERS_MAX)
        return MJ_ELIMIT;
    s->givers[s->giver_count] = (struct giver){.name = mj_strdup(name)};
    return (int)s->giver_count++;
}

static int give_one(struct mj_set *s, struct mj_span text, int64_t now)
{
    bool made;
    int err;
    if (s->giving.removed && mj_table_find(s->giving.removed, text, hash_of(text)))
        return 0;
    struct member *m = get(s, text, now, true, &made, &err);
    if (!m)
        return err;
    m->givers |= UINT32_C(1) << s->giving.giver;
    m->round = s->giving.round;
    mj_cells_written(&s->cells, &m->cell, now, MJ_PINNED);
    if (made)
        changed(s);
    return 0;
}

/* The giver does not name it any more. */
static void ungive(struct mj_set *s, struct member *m)
{
    uint32_t bit = UINT32_C(1) << s->giving.giver;
    if (!(m->givers & bit) || m->round == s->giving.round)
        return;
    m->givers &= ~bit;
    if (!m->givers) {
        mj_cells_remove(&s->cells, &m->cell);
        changed(s);
    }
}

/* Goes on giving: first what the giver names, then away with what it does not. True when there is
 * more. The walk goes on by the last key, which is kept because its member may go meanwhile. */
static bool give_some(struct mj_set *s, int64_t now, size_t n, int *err)
{
    struct giving *g = &s->giving;
    struct mj_span text;
    if (!g->active)
        return false;
    while (n && mj_members_next(&g->rest, &text)) {
        n--;
        int e = give_one(s, text, now);
        if (e && !*err)
            *err = e;
    }
    struct mj_cell *at = NULL, *next;
    if (n && g->sweep) {
        struct mj_span key = mj_buf_span(&g->at);
        at = mj_cells_after(&s->cells, g->walking ? &key : NULL, hash_of(key));
        g->walking = true;
    }
    for (; n && at; at = next, n--) {
        struct mj_span key = mj_cell_key(&s->cells, at);
        next = (struct mj_cell *)mj_table_next(&at->item);
        g->at.len = 0;
        mj_buf_put(&g->at, key.ptr, key.len);
        ungive(s, (struct member *)at);
    }
    if (!n)
        return true;
    end_giving(g);
    return false;
}

int mj_set_give(struct mj_set *s, const char *giver, struct mj_members *m)
{
    int err = 0;
    int64_t now = begin(s);
    int i = giver_index(s, giver);
    struct giver *who = i >= 0 ? &s->givers[i] : NULL;
    if (who && !(who->given && who->hash == m->hash && who->count == m->count)) {
        while (give_some(s, now, SIZE_MAX, &err))
            ; /* what another gave before */
        err = 0;
        s->giving = (struct giving){.active = true,
                                    .giver = (unsigned)i,
                                    .round = s->giving.round + 1,
                                    .sweep = who->given,
                                    .members = *m,
                                    .rest = mj_buf_span(&m->bytes)};
        *m = (struct mj_members){0};
        who->hash = s->giving.members.hash;
        who->count = s->giving.members.count;
        give_some(s, now, who->given ? GIVE_AT_ONCE : SIZE_MAX, &err);
        who->given = true;
    }
    end(s);
    mj_members_deinit(m);
    return i < 0 ? i : err;
}

/* All members but those that `m` names, which a round of their own tells. */
static void remove_others(struct mj_set *s, const struct mj_members *m, int64_t now)
{
    struct mj_span rest = mj_buf_span(&m->bytes), text;
    uint32_t round = ++s->giving.round;
    while (mj_members_next(&rest, &text)) {
        struct mj_cell *cell = mj_cells_find(&s->cells, text, hash_of(text), now);
        if (cell)
            ((struct member *)cell)->round = round;
    }
    struct mj_cell *next, *at = mj_cells_after(&s->cells, NULL, 0);
    for (; at; at = next) {
        next = (struct mj_cell *)mj_table_next(&at->item);
        if (((struct member *)at)->round == round)
            continue;
        mj_cells_remove(&s->cells, at);
        changed(s);
    }
}

static int add_live(struct mj_set *s, struct mj_span text, int64_t now)
{
    bool made;
    int err;
    struct member *m = get(s, text, now, false, &made, &err);
    if (!m)
        return err;
    m->givers = 0;
    mj_cells_written(&s->cells, &m->cell, now, 0);
    if (made)
        changed(s);
    return 0;
}

int mj_set_replace(struct mj_set *s, const struct mj_members *m)
{
    struct mj_span rest = mj_buf_span(&m->bytes), text;
    int64_t now = begin(s);
    struct mj_ledger *ledger = s->cells.ledger;
    uint64_t evicted = s->cells.evicted;
    int err = m->count > s->cells.max ? MJ_ELIMIT : 0;
    if (!err) {
        /* Nothing is noted: disk has the old members as a whole until it has the new ones. */
        s->cells.ledger = NULL;
        end_giving(&s->giving);
        remove_others(s, m, now);
        while (!err && mj_members_next(&rest, &text))
            err = add_live(s, text, now);
        s->cells.ledger = ledger;
        if (ledger)
            mj_ledger_clear(ledger);
        if (!err && s->cells.evicted != evicted) /* there were none but these */
            err = MJ_ELIMIT;
    }
    end(s);
    return err;
}

int mj_set_after(struct mj_set *s, struct mj_span text, struct mj_buf *out)
{
    int64_t now = begin(s);
    struct mj_cell *cell = mj_cells_after(&s->cells, text.ptr ? &text : NULL, hash_of(text));
    int r = cell ? 1 : 0;
    for (int n = 0; cell && mj_cells_ended(&s->cells, cell, now); n++) {
        struct mj_cell *next = (struct mj_cell *)mj_table_next(&cell->item);
        if (n == WALK_MAX && next) {
            r = MJ_EAGAIN;
            break;
        }
        cell = next;
        r = cell ? 1 : 0;
    }
    if (cell) {
        struct mj_span key = mj_cell_key(&s->cells, cell);
        out->len = 0;
        mj_buf_put(out, key.ptr, key.len);
    }
    end(s);
    return r;
}

/* Begins and ends being kept on disk; the lock is held. */
static void update_ledger(struct mj_set *s)
{
    bool wanted = s->persist && s->disk && !s->cells.unread;
    if (wanted && !s->cells.ledger) {
        s->cells.ledger = mj_ledger_new(s->disk, "", s->name, MJ_DISK_SET, 0);
    } else if (!wanted && s->cells.ledger) {
        mj_ledger_end(s->cells.ledger);
        s->cells.ledger = NULL;
    }
}

static void tell_metrics(struct mj_set *s)
{
    if (!s->entries)
        return;
    mj_metric_set(s->entries, (int64_t)mj_cells_count(&s->cells));
    mj_metric_set(s->bytes, (int64_t)s->cells.bytes);
    mj_metric_add(s->evicted, (int64_t)(s->cells.evicted - s->evicted_told));
    s->evicted_told = s->cells.evicted;
}

void mj__set_flush(struct mj_set *s)
{
    begin(s);
    update_ledger(s);
    if (s->cells.ledger)
        mj_ledger_flush(s->cells.ledger, &s->cells);
    end(s);
}

bool mj_set_step(struct mj_set *s, size_t n)
{
    int err = 0;
    int64_t now = begin(s);
    bool more = give_some(s, now, n, &err);
    more = mj_cells_step(&s->cells, now, n) || more;
    more = mj_sieve_step(&s->sieve, mj_cells_table(&s->cells), n) || more;
    update_ledger(s);
    if (s->cells.ledger)
        more = mj_ledger_step(s->cells.ledger, &s->cells, n) || more;
    tell_metrics(s);
    end(s);
    return more;
}
