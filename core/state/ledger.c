#include "state/ledger.h"

#include "base/log.h"
#include "state/cells.h"
#include "state/codec.h"

#define BATCH_MAX ((size_t)16 << 20) /* bytes that wait here for the disk to take more */

struct mj_ledger {
    struct mj_disk *disk; /* borrowed */
    char *script, *name;  /* owned */
    char kind;
    uint64_t number;     /* what the name leads to on disk; 0: to nothing */
    uint64_t next;       /* what is being written anew, and the name will lead to; 0: nothing is */
    bool used;           /* something was handed over under `next` */
    bool walking;        /* the writing anew has begun, `at` is the last cell */
    bool walked;         /* … and has come to the end */
    bool over;           /* the batch was given up */
    struct mj_buf at;    /* owned */
    struct mj_buf batch; /* owned: not handed over yet */
    struct mj_buf value; /* owned: scratch */
    struct mj_cell **list; /* owned: noted cells; NULL where one has gone */
    uint32_t count, cap, done;
};

struct mj_ledger *mj_ledger_new(struct mj_disk *disk, const char *script, const char *name,
                                char kind, uint64_t number)
{
    struct mj_ledger *l = mj_calloc(1, sizeof *l);
    *l = (struct mj_ledger){.disk = disk,
                            .script = mj_strdup(script),
                            .name = mj_strdup(name),
                            .kind = kind,
                            .number = number,
                            .next = number ? 0 : mj_disk_new_number(disk)};
    return l;
}

void mj_ledger_free(struct mj_ledger *l)
{
    if (!l)
        return;
    mj_buf_deinit(&l->at);
    mj_buf_deinit(&l->batch);
    mj_buf_deinit(&l->value);
    free(l->list);
    free(l->script);
    free(l->name);
    free(l);
}

/* The number that cells are written under. */
static uint64_t current(const struct mj_ledger *l) { return l->next ? l->next : l->number; }

/* Forgets what is noted. Cells may go on pointing into the list: who looks there checks. */
static void forget(struct mj_ledger *l)
{
    mj_buf_deinit(&l->batch);
    l->count = l->done = 0;
    l->walking = l->walked = false;
}

/* Everything is written anew, under a number that disk has nothing of. */
static void restart(struct mj_ledger *l)
{
    MJ_AUTO_BUF batch = {0};
    forget(l);
    l->over = false;
    if (l->next && !l->used)
        return;
    if (l->next) {
        mj_batch_sweep(&batch, l->next);
        mj_disk_hand_over(l->disk, &batch, true);
    }
    l->next = mj_disk_new_number(l->disk);
    l->used = false;
}

void mj_ledger_end(struct mj_ledger *l)
{
    forget(l);
    mj_batch_forget(&l->batch, l->script, l->name);
    if (l->number)
        mj_batch_sweep(&l->batch, l->number);
    if (l->next)
        mj_batch_sweep(&l->batch, l->next);
    mj_disk_hand_over(l->disk, &l->batch, true);
    mj_ledger_free(l);
}

static void give_up(struct mj_ledger *l)
{
    forget(l);
    l->over = true;
    mj_log(MJ_LOG_ERROR, "state",
           "%s: '%s' has changed more than can wait for the disk; it is written anew when the disk "
           "takes something again",
           l->script, l->name);
}

static bool hand_over(struct mj_ledger *l, bool force)
{
    bool some = l->batch.len != 0;
    if (!mj_disk_hand_over(l->disk, &l->batch, force))
        return false;
    l->used = l->used || (some && l->next);
    return true;
}

static bool is_noted(const struct mj_ledger *l, const struct mj_cell *cell)
{
    return cell->noted && cell->noted <= l->count && l->list[cell->noted - 1] == cell;
}

void mj_ledger_gone(struct mj_ledger *l, const struct mj_cells *c, struct mj_cell *cell)
{
    uint8_t key[MJ_CODEC_KEY_MAX];
    if (is_noted(l, cell))
        l->list[cell->noted - 1] = NULL;
    cell->noted = 0;
    if (!cell->kept || l->over)
        return;
    cell->kept = false;
    size_t n = mj_codec_key(current(l), mj_cell_key(c, cell), key);
    mj_batch_remove(&l->batch, mj_span(key, n));
    if (l->batch.len > BATCH_MAX && !hand_over(l, false))
        give_up(l);
}

/* Cells that come and go while the disk takes nothing leave holes, and must not need more and more
 * room. */
static void close_holes(struct mj_ledger *l)
{
    uint32_t kept = 0;
    for (uint32_t i = l->done; i < l->count; i++) {
        struct mj_cell *cell = l->list[i];
        if (!cell)
            continue;
        l->list[kept] = cell;
        cell->noted = ++kept;
    }
    l->count = kept;
    l->done = 0;
}

void mj_ledger_note(struct mj_ledger *l, struct mj_cell *cell)
{
    if (l->over || is_noted(l, cell))
        return;
    bool full = l->count == l->cap;
    if (full)
        close_holes(l);
    if (full && l->count >= l->cap / 2) {
        uint32_t cap = l->cap ? 2 * l->cap : 64;
        void *list = realloc(l->list, cap * sizeof *l->list);
        if (!list) {
            give_up(l);
            return;
        }
        l->list = list;
        l->cap = cap;
    }
    l->list[l->count++] = cell;
    cell->noted = l->count;
}

void mj_ledger_clear(struct mj_ledger *l) { restart(l); }

static void put(struct mj_ledger *l, const struct mj_cells *c, struct mj_cell *cell)
{
    uint8_t key[MJ_CODEC_KEY_MAX];
    struct mj_codec_cell out = {.key = mj_cell_key(c, cell),
                                .written =
                                    atomic_load_explicit(&cell->written, memory_order_relaxed),
                                .ttl_us = cell->ttl_us};
    cell->noted = 0;
    if (out.written == MJ_PINNED)
        return;
    c->kind->encode(cell, &out);
    l->value.len = 0;
    mj_codec_put(&l->value, &out);
    size_t n = mj_codec_key(current(l), out.key, key);
    mj_batch_put(&l->batch, mj_span(key, n), mj_buf_span(&l->value));
    cell->kept = true;
}

/* Puts cells from where the writing anew was left. */
static void walk(struct mj_ledger *l, const struct mj_cells *c, size_t *n)
{
    struct mj_span at = mj_buf_span(&l->at);
    struct mj_cell *cell =
        mj_cells_after(c, l->walking ? &at : NULL, l->walking ? c->kind->hash(at) : 0);
    l->walking = true;
    for (; cell && *n; --*n) {
        struct mj_span key = mj_cell_key(c, cell);
        if (is_noted(l, cell))
            l->list[cell->noted - 1] = NULL;
        put(l, c, cell);
        l->at.len = 0;
        mj_buf_put(&l->at, key.ptr, key.len);
        cell = (struct mj_cell *)mj_table_next(&cell->item);
    }
    l->walked = !cell;
}

/* All that was written anew is on its way: behind it, the name leads there. */
static void complete(struct mj_ledger *l)
{
    MJ_AUTO_BUF batch = {0};
    mj_batch_name(&batch, l->script, l->name, l->next, l->kind);
    if (l->number)
        mj_batch_sweep(&batch, l->number);
    mj_disk_hand_over(l->disk, &batch, true);
    l->number = l->next;
    l->next = 0;
    l->walking = l->walked = l->used = false;
}

static bool step(struct mj_ledger *l, const struct mj_cells *c, size_t n, bool force)
{
    if (l->over && !force && !mj_disk_has_room(l->disk))
        return false;
    if (l->over)
        restart(l);
    if (l->batch.len > BATCH_MAX / 2 && !hand_over(l, force))
        return false; /* what waits has to go before more is put */
    if (l->next && !l->walked)
        walk(l, c, &n);
    for (; n && l->done < l->count; n--) {
        struct mj_cell *cell = l->list[l->done++];
        if (cell)
            put(l, c, cell);
    }
    if (l->done == l->count)
        l->done = l->count = 0;
    if (!hand_over(l, force))
        return false;
    if (l->walked)
        complete(l);
    return l->count || l->next;
}

bool mj_ledger_step(struct mj_ledger *l, const struct mj_cells *c, size_t n)
{
    return step(l, c, n, false);
}

void mj_ledger_flush(struct mj_ledger *l, const struct mj_cells *c)
{
    while (step(l, c, 100000, true))
        ;
}

size_t mj_ledger_bytes(const struct mj_ledger *l)
{
    return sizeof *l + l->cap * sizeof(struct mj_cell *) + l->batch.cap + l->at.cap + l->value.cap;
}
