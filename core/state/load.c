/* State as disk has it, read back in the order in which it was written. Whatever is damaged is
 * skipped and counted. */
#include "base/err.h"
#include "base/log.h"
#include "base/metrics.h"
#include "state/codec.h"
#include "state/set_internal.h"
#include "state/store_internal.h"

struct load {
    const char *script, *name;
    uint64_t number;
    char kind;
    struct mj_state *state; /* one of these */
    struct mj_set *set;
    struct mj_buf cells; /* struct mj_codec_cell, borrowing from the disk */
    size_t damaged, refused;
};

static bool fits_kind(const struct mj_codec_cell *cell, char kind)
{
    switch (cell->type) {
    case MJ_CODEC_MEMBER:
        return kind == MJ_DISK_SET && cell->key.len;
    case MJ_CODEC_SCORE:
        return kind == MJ_DISK_ZSET;
    default:
        return kind == MJ_DISK_MAP;
    }
}

static void on_cell(void *ctx, struct mj_span key, struct mj_span value)
{
    struct load *l = ctx;
    struct mj_codec_cell cell;
    uint8_t own[MJ_CODEC_KEY_MAX];
    if (mj_codec_take(value, &cell) || !fits_kind(&cell, l->kind) ||
        !mj_span_eq(key, mj_span(own, mj_codec_key(l->number, cell.key, own))))
        l->damaged++;
    else
        mj_buf_put(&l->cells, &cell, sizeof cell);
}

static int by_age(const void *a, const void *b)
{
    const struct mj_codec_cell *x = a, *y = b;
    return (x->written > y->written) - (x->written < y->written);
}

static int restore(struct load *l, const struct mj_codec_cell *cell)
{
    struct mj_value v = {.number = cell->number, .text = cell->text};
    switch (cell->type) {
    case MJ_CODEC_MEMBER:
        return mj__set_restore(l->set, cell->key, cell->written);
    case MJ_CODEC_SCORE:
        return mj_zset_restore(&l->state->zset, cell->key, cell->number, cell->written);
    case MJ_CODEC_TEXT:
        v.type = MJ_VALUE_TEXT;
        break;
    case MJ_CODEC_NUMBER:
        v.type = MJ_VALUE_NUMBER;
        break;
    default:
        v.type = cell->type == MJ_CODEC_TRUE ? MJ_VALUE_TRUE : MJ_VALUE_FALSE;
    }
    return mj_map_restore(&l->state->map, cell->key, &v, cell->written, cell->ttl_us);
}

/* The disk's bytes are still there. */
static void on_end(void *ctx)
{
    struct load *l = ctx;
    size_t n = l->cells.len / sizeof(struct mj_codec_cell);
    struct mj_codec_cell *all = (void *)l->cells.ptr;
    if (n)
        qsort(all, n, sizeof *all, by_age);
    for (size_t i = 0; i < n; i++)
        l->refused += restore(l, &all[i]) != 0;
}

static void fill(struct load *l, struct mj_disk *disk, struct mj_cells *c)
{
    uint64_t max = c->max;
    c->max = UINT64_MAX; /* what is declared may be more than is usual */
    int err = mj_disk_read(disk, l->number, on_cell, on_end, l);
    c->max = max;
    mj_buf_deinit(&l->cells);
    for (struct mj_table_item *i = mj_table_first(mj_cells_table(c)); i; i = mj_table_next(i))
        ((struct mj_cell *)i)->kept = true;
    if (l->damaged) {
        mj_metric_add(mj_metric("moonjet_state_damaged_total", MJ_COUNTER,
                                "Damaged entries of what scripts persist, skipped.", NULL),
                      (int64_t)l->damaged);
        mj_log(MJ_LOG_ERROR, "state", "%s%s'%s': %zu entries on disk are damaged; they are skipped",
               l->script, *l->script ? ": " : "", l->name, l->damaged);
    }
    if (l->refused)
        mj_log(MJ_LOG_ERROR, "state", "%s%s'%s': no memory for %zu entries that disk has",
               l->script, *l->script ? ": " : "", l->name, l->refused);
    mj_log(MJ_LOG_DEBUG, "state", "%s%s'%s': %zu entries from disk", l->script,
           *l->script ? ": " : "", l->name, mj_cells_count(c));
    c->unread = err != 0;
    if (!err)
        c->ledger = mj_ledger_new(disk, l->script, l->name, l->kind, l->number);
}

struct found {
    char *name; /* owned */
    uint64_t number;
    char kind;
};

static void on_name(void *ctx, const char *name, uint64_t number, char kind)
{
    struct found f = {mj_strdup(name), number, kind};
    mj_buf_put(ctx, &f, sizeof f);
}

void mj__load_shelf(struct mj_shelf *shelf)
{
    MJ_AUTO_BUF names = {0};
    struct mj_disk *disk = shelf->store->disk;
    mj_disk_names(disk, shelf->script, on_name, &names);
    const struct found *f = (const void *)names.ptr;
    for (size_t n = names.len / sizeof *f; n; n--, f++) {
        struct load l = {
            .script = shelf->script, .name = f->name, .number = f->number, .kind = f->kind};
        if (f->kind == MJ_DISK_MAP || f->kind == MJ_DISK_ZSET)
            l.state = mj__state_new(shelf, f->kind == MJ_DISK_MAP ? MJ_STATE_MAP : MJ_STATE_ZSET,
                                    f->name);
        if (l.state) {
            fill(&l, disk, &l.state->cells);
            l.state->cells.max = MJ_STATE_MAX; /* until it is declared */
            mj__shelve(shelf, l.state);
            mj_state_unref(l.state);
        }
        free(f->name);
    }
}

void mj__load_set(struct mj_disk *disk, struct mj_set *set)
{
    MJ_AUTO_BUF names = {0};
    mj_disk_names(disk, "", on_name, &names);
    const struct found *f = (const void *)names.ptr;
    for (size_t n = names.len / sizeof *f; n; n--, f++) {
        if (!strcmp(f->name, set->name) && f->kind == MJ_DISK_SET) {
            struct load l = {
                .script = "", .name = f->name, .number = f->number, .kind = f->kind, .set = set};
            fill(&l, disk, &set->cells);
            set->persist = true;
            atomic_store(&set->count, mj_cells_count(&set->cells));
        }
        free(f->name);
    }
}
