#include "state/cells.h"

#include "base/err.h"
#include "state/epoch.h"
#include "state/ledger.h"

#define ROOM_STEPS                                                                                 \
    2 /* cells that make room per new one, so that a lower limit is caught up with                 \
       */
#define BUDGET_STEPS  16 /* … when it is the budget that is short */
#define RETIRED_BATCH 64
#define OVERHEAD      16 /* bytes malloc needs for itself, about */

struct mj_grave {
    struct mj_table *table;
    uint64_t epoch;
    struct mj_grave *next;
};

static void moved(void *item, uint32_t place) { ((struct mj_cell *)item)->place = place; }

int mj_cells_init(struct mj_cells *c, const struct mj_cells_kind *kind, bool shared,
                  struct mj_state_budget *budget)
{
    struct mj_table *t = mj_table_new(kind->size);
    if (!t)
        return MJ_ENOMEM;
    *c = (struct mj_cells){.kind = kind,
                           .max = MJ_STATE_MAX_USUAL,
                           .shared = shared,
                           .budget = budget,
                           .ends = {.moved = moved}};
    atomic_store(&c->table, t);
    return 0;
}

struct mj_table *mj_cells_table(const struct mj_cells *c)
{
    return atomic_load_explicit(&((struct mj_cells *)c)->table, memory_order_seq_cst);
}

struct mj_span mj_cell_key(const struct mj_cells *c, const struct mj_cell *cell)
{
    return mj_span((const uint8_t *)cell + c->kind->size, cell->item.key_len);
}

/* ---- memory ---- */

static void count_bytes(struct mj_cells *c, ptrdiff_t bytes)
{
    c->bytes += (size_t)bytes;
    if (c->budget)
        atomic_fetch_add_explicit(&c->budget->bytes, (size_t)bytes, memory_order_relaxed);
}

/* Of a cell with that key, the mark that comes with it included. */
static size_t cell_bytes(const struct mj_cells *c, size_t key_len)
{
    return c->kind->size + key_len + OVERHEAD + sizeof(struct mj_link);
}

static void free_cell(void *ctx, struct mj_table_item *item)
{
    const struct mj_cells *c = ctx;
    if (c->kind->destroy)
        c->kind->destroy((struct mj_cell *)item);
    free(item);
}

/* Up to *n of the chain. */
static void free_chain(struct mj_cells *c, struct mj_cell **chain, size_t *n)
{
    for (; *chain && *n; --*n) {
        struct mj_cell *cell = *chain;
        *chain = cell->newer;
        free_cell(c, &cell->item);
    }
}

/* What has left is given back two cells at a time, so that it does not matter how much it is. */
static void reclaim(struct mj_cells *c, size_t n)
{
    free_chain(c, &c->ready, &n);
    if (!c->ready && c->waiting && mj_epoch_safe() >= c->waiting_epoch) {
        c->ready = c->waiting;
        c->waiting = NULL;
    }
    if (!c->waiting && c->gathered >= RETIRED_BATCH) {
        c->waiting = c->gathering;
        c->waiting_epoch = mj_epoch_retire();
        c->gathering = NULL;
        c->gathered = 0;
    }
}

static void retire(struct mj_cells *c, struct mj_cell *cell)
{
    if (!c->shared) {
        free_cell(c, &cell->item);
        return;
    }
    cell->newer = c->gathering;
    c->gathering = cell;
    c->gathered++;
    reclaim(c, 2);
}

/* True when there is more. */
static bool dig(struct mj_cells *c, size_t n)
{
    struct mj_grave *g = c->graves;
    if (!g)
        return false;
    if (c->shared && mj_epoch_safe() < g->epoch)
        return true;
    if (mj_table_free_some(g->table, n, free_cell, c)) {
        c->graves = g->next;
        free(g);
    }
    return c->graves != NULL;
}

void mj_cells_deinit(struct mj_cells *c)
{
    struct mj_table *t = mj_cells_table(c);
    size_t all = SIZE_MAX;
    if (!t)
        return;
    mj_ledger_free(c->ledger);
    c->shared = false;
    while (!mj_table_free_some(t, SIZE_MAX, free_cell, c))
        ;
    while (dig(c, SIZE_MAX))
        ;
    free_chain(c, &c->gathering, &all);
    free_chain(c, &c->waiting, &all);
    free_chain(c, &c->ready, &all);
    mj_heap_deinit(&c->ends);
    count_bytes(c, -(ptrdiff_t)c->bytes);
    atomic_store(&c->table, NULL);
}

/* ---- lines ---- */

static struct mj_cells_line *line_of(struct mj_cells *c, const struct mj_cell *cell)
{
    return cell->place ? &c->own : &c->usual;
}

static int64_t written(const struct mj_cell *cell)
{
    return atomic_load_explicit(&((struct mj_cell *)cell)->written, memory_order_relaxed);
}

/* Out of its line and of the heap. */
static void unlink_cell(struct mj_cells *c, struct mj_cell *cell)
{
    if (written(cell) == MJ_PINNED) {
        c->pinned--;
        return;
    }
    struct mj_cells_line *line = line_of(c, cell);
    if (cell->older)
        cell->older->newer = cell->newer;
    else
        line->oldest = cell->newer;
    if (cell->newer)
        cell->newer->older = cell->older;
    else
        line->newest = cell->older;
    cell->older = cell->newer = NULL;
    if (cell->place)
        mj_heap_take(&c->ends, cell->place);
}

static int64_t end_of(int64_t at, int64_t ttl_us)
{
    int64_t end;
    return __builtin_add_overflow(at, ttl_us, &end) ? INT64_MAX : end;
}

bool mj_cells_ended(const struct mj_cells *c, const struct mj_cell *cell, int64_t now)
{
    int64_t at = written(cell);
    int64_t ttl = cell->ttl_us;
    if (at == MJ_PINNED)
        return false;
    if (!ttl)
        ttl = atomic_load_explicit(&((struct mj_cells *)c)->ttl_us, memory_order_relaxed);
    return ttl && end_of(at, ttl) <= now;
}

/* ---- one cell ---- */

struct mj_cell *mj_cells_find(const struct mj_cells *c, struct mj_span key, uint64_t hash,
                              int64_t now)
{
    struct mj_cell *cell = (struct mj_cell *)mj_table_find(mj_cells_table(c), key, hash);
    return cell && !mj_cells_ended(c, cell, now) ? cell : NULL;
}

void mj_cells_remove(struct mj_cells *c, struct mj_cell *cell)
{
    if (c->ledger)
        mj_ledger_gone(c->ledger, c, cell);
    unlink_cell(c, cell);
    count_bytes(c, -(ptrdiff_t)(cell_bytes(c, cell->item.key_len) +
                                (c->kind->owned ? c->kind->owned(cell) : 0)));
    mj_table_take(mj_cells_table(c), &cell->item);
    retire(c, cell);
}

static void leave(struct mj_cells *c, struct mj_cell *cell)
{
    if (c->kind->drop)
        c->kind->drop(c, cell);
    mj_cells_remove(c, cell);
}

/* The one written longest ago, other than `spare`. */
static struct mj_cell *oldest(const struct mj_cells *c, const struct mj_cell *spare)
{
    struct mj_cell *a = c->usual.oldest, *b = c->own.oldest;
    if (a && a == spare)
        a = a->newer;
    if (b && b == spare)
        b = b->newer;
    if (!a || !b)
        return a ? a : b;
    return written(b) < written(a) ? b : a;
}

/* The next one whose time is over, or NULL. */
static struct mj_cell *due(const struct mj_cells *c, int64_t now)
{
    const struct mj_heap_node *top = mj_heap_top(&c->ends);
    if (top && top->key <= now)
        return top->item;
    struct mj_cell *cell = c->usual.oldest;
    return cell && mj_cells_ended(c, cell, now) ? cell : NULL;
}

static size_t expire(struct mj_cells *c, int64_t now, size_t n)
{
    struct mj_cell *cell;
    while (n && (cell = due(c, now))) {
        leave(c, cell);
        n--;
    }
    return n;
}

/* The cells that count for `max`. */
static size_t live(const struct mj_cells *c) { return mj_cells_count(c) - c->pinned; }

static bool make_room(struct mj_cells *c, const struct mj_cell *spare)
{
    struct mj_cell *cell = oldest(c, spare);
    if (!cell)
        return false;
    leave(c, cell);
    c->evicted++;
    return true;
}

bool mj_cells_charge(struct mj_cells *c, ptrdiff_t bytes, const struct mj_cell *spare)
{
    const struct mj_state_budget *b = c->budget;
    if (b && b->max && bytes > 0)
        for (int i = 0;
             atomic_load_explicit(&((struct mj_state_budget *)b)->bytes, memory_order_relaxed) +
                 (size_t)bytes >
             b->max;
             i++)
            if (i == BUDGET_STEPS || !make_room(c, spare))
                return false;
    count_bytes(c, bytes);
    return true;
}

struct mj_cell *mj_cells_get(struct mj_cells *c, struct mj_span key, uint64_t hash, int64_t now,
                             bool pin, bool *made, int *err)
{
    struct mj_table *t = mj_cells_table(c);
    struct mj_cell *cell = (struct mj_cell *)mj_table_find(t, key, hash);
    *made = false;
    *err = 0;
    if (cell && !mj_cells_ended(c, cell, now))
        return cell;
    if (cell)
        leave(c, cell);
    size_t left = expire(c, now, ROOM_STEPS);
    for (; left && !pin && !c->kind->lowest_first && live(c) >= c->max && make_room(c, NULL);
         left--)
        ;
    if (!mj_cells_charge(c, (ptrdiff_t)cell_bytes(c, key.len), NULL)) {
        *err = MJ_ELIMIT;
        return NULL;
    }
    cell = (struct mj_cell *)mj_table_item(t, key, hash);
    if (!cell) {
        count_bytes(c, -(ptrdiff_t)cell_bytes(c, key.len));
        *err = MJ_ENOMEM;
        return NULL;
    }
    atomic_store_explicit(&cell->written, MJ_PINNED, memory_order_relaxed);
    mj_table_put(t, &cell->item);
    c->pinned++;
    *made = true;
    return cell;
}

int mj_cells_written(struct mj_cells *c, struct mj_cell *cell, int64_t now, int64_t ttl_us)
{
    int err = 0;
    unlink_cell(c, cell);
    if (now < c->now)
        now = c->now;
    c->now = now;
    if (ttl_us && ttl_us != MJ_PINNED) {
        err = mj_heap_put(&c->ends, end_of(now, ttl_us), cell);
        if (err)
            ttl_us = 0;
    }
    bool pin = ttl_us == MJ_PINNED;
    if (cell->ttl_us != (pin ? 0 : ttl_us)) /* never of shared cells: readers look at it */
        cell->ttl_us = pin ? 0 : ttl_us;
    c->pinned += pin;
    atomic_store_explicit(&cell->written, pin ? MJ_PINNED : now, memory_order_relaxed);
    if (!pin) {
        struct mj_cells_line *line = line_of(c, cell);
        cell->older = line->newest;
        cell->newer = NULL;
        if (line->newest)
            line->newest->newer = cell;
        else
            line->oldest = cell;
        line->newest = cell;
    }
    if (c->ledger)
        mj_ledger_note(c->ledger, cell);
    return err;
}

int mj_cells_clear(struct mj_cells *c)
{
    struct mj_grave *g = calloc(1, sizeof *g);
    struct mj_table *fresh = g ? mj_table_new(c->kind->size) : NULL;
    if (!fresh) {
        free(g);
        return MJ_ENOMEM;
    }
    g->table = mj_cells_table(c);
    atomic_store_explicit(&c->table, fresh, memory_order_seq_cst);
    g->epoch = c->shared ? mj_epoch_retire() : 0;
    g->next = c->graves;
    c->graves = g;
    c->usual = c->own = (struct mj_cells_line){0};
    mj_heap_deinit(&c->ends);
    c->pinned = 0;
    count_bytes(c, -(ptrdiff_t)c->bytes);
    if (c->ledger)
        mj_ledger_clear(c->ledger);
    return 0;
}

struct mj_cell *mj_cells_after(const struct mj_cells *c, const struct mj_span *key, uint64_t hash)
{
    const struct mj_table *t = mj_cells_table(c);
    return (struct mj_cell *)(key ? mj_table_after(t, *key, hash) : mj_table_first(t));
}

bool mj_cells_step(struct mj_cells *c, int64_t now, size_t n)
{
    n = expire(c, now, n);
    for (; n && !c->kind->lowest_first && live(c) > c->max && make_room(c, NULL); n--)
        ;
    bool more = !n;
    if (c->shared) {
        /* Whatever has gathered goes on its way, however little it is. */
        if (c->gathering && !c->waiting)
            c->gathered = RETIRED_BATCH;
        reclaim(c, n);
    }
    return dig(c, n) || c->ready || more;
}
