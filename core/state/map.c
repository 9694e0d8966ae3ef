#include "state/map.h"

#include <math.h>

#include "base/err.h"
#include "state/codec.h"

#define WALK_MAX 1000 /* ended entries passed over in one call */

struct entry {
    struct mj_cell cell; /* first */
    uint8_t type;        /* enum mj_value_type */
    uint32_t len;        /* of the text */
    union {
        double number;
        uint8_t *text; /* owned; NULL when empty */
    };
};

static size_t owned(const struct mj_cell *cell)
{
    const struct entry *e = (const struct entry *)cell;
    return e->type == MJ_VALUE_TEXT ? e->len : 0;
}

static void destroy(struct mj_cell *cell)
{
    struct entry *e = (struct entry *)cell;
    if (e->type == MJ_VALUE_TEXT)
        free(e->text);
}

static struct mj_value value_of(const struct entry *e)
{
    struct mj_value v = {.type = (enum mj_value_type)e->type};
    if (v.type == MJ_VALUE_TEXT)
        v.text = mj_span(e->len ? e->text : (const uint8_t *)"", e->len);
    else if (v.type == MJ_VALUE_NUMBER)
        v.number = e->number;
    return v;
}

static void encode(const struct mj_cell *cell, struct mj_codec_cell *out)
{
    static const enum mj_codec_type types[] = {[MJ_VALUE_NUMBER] = MJ_CODEC_NUMBER,
                                               [MJ_VALUE_TEXT] = MJ_CODEC_TEXT,
                                               [MJ_VALUE_FALSE] = MJ_CODEC_FALSE,
                                               [MJ_VALUE_TRUE] = MJ_CODEC_TRUE};
    struct mj_value v = value_of((const struct entry *)cell);
    out->type = types[v.type];
    out->number = v.number;
    out->text = v.text;
}

static const struct mj_cells_kind kind = {.size = sizeof(struct entry),
                                          .hash = mj_table_hash,
                                          .owned = owned,
                                          .destroy = destroy,
                                          .encode = encode};

int mj_map_init(struct mj_map *m, struct mj_state_budget *budget)
{
    return mj_cells_init(&m->cells, &kind, false, budget);
}

void mj_map_deinit(struct mj_map *m) { mj_cells_deinit(&m->cells); }

bool mj_map_get(const struct mj_map *m, struct mj_span key, int64_t now, struct mj_value *out)
{
    const struct mj_cell *cell = mj_cells_find(&m->cells, key, mj_table_hash(key), now);
    if (cell)
        *out = value_of((const struct entry *)cell);
    return cell != NULL;
}

/* The entry without a value, or NULL. */
static struct entry *get(struct mj_map *m, struct mj_span key, int64_t now, bool *made, int *err)
{
    if (key.len > MJ_STATE_KEY_MAX) {
        *err = MJ_EBIG;
        return NULL;
    }
    return (struct entry *)mj_cells_get(&m->cells, key, mj_table_hash(key), now, false, made, err);
}

/* Gives up an entry that was just made and cannot have its value. */
static int undo(struct mj_map *m, struct entry *e, bool made, int err)
{
    if (made)
        mj_cells_remove(&m->cells, &e->cell);
    return err;
}

/* `now` says what has ended. */
static int set(struct mj_map *m, struct mj_span key, const struct mj_value *value, int64_t now,
               int64_t written, int64_t ttl_us)
{
    bool made;
    int err;
    size_t len = value->type == MJ_VALUE_TEXT ? value->text.len : 0;
    if (len > MJ_STATE_VALUE_MAX)
        return MJ_EBIG;
    struct entry *e = get(m, key, now, &made, &err);
    if (!e)
        return err;
    size_t before = owned(&e->cell);
    uint8_t *text = NULL;
    if (len && !(text = malloc(len)))
        return undo(m, e, made, MJ_ENOMEM);
    if (!mj_cells_charge(&m->cells, (ptrdiff_t)len - (ptrdiff_t)before, &e->cell)) {
        free(text);
        return undo(m, e, made, MJ_ELIMIT);
    }
    destroy(&e->cell);
    e->type = (uint8_t)value->type;
    e->len = (uint32_t)len;
    e->text = NULL;
    if (len)
        memcpy(e->text = text, value->text.ptr, len);
    else if (value->type == MJ_VALUE_NUMBER)
        e->number = value->number;
    mj_cells_written(&m->cells, &e->cell, written, ttl_us);
    return 0;
}

int mj_map_set(struct mj_map *m, struct mj_span key, const struct mj_value *value, int64_t now,
               int64_t ttl_us)
{
    return set(m, key, value, now, now, ttl_us);
}

int mj_map_restore(struct mj_map *m, struct mj_span key, const struct mj_value *value,
                   int64_t written, int64_t ttl_us)
{
    return set(m, key, value, 0, written, ttl_us);
}

int mj_map_incr(struct mj_map *m, struct mj_span key, double by, int64_t now, double *out)
{
    bool made;
    int err;
    struct entry *e = get(m, key, now, &made, &err);
    if (!e)
        return err;
    if (e->type != MJ_VALUE_NUMBER)
        return MJ_ETYPE;
    double sum = e->number + by;
    if (isnan(sum))
        return undo(m, e, made, MJ_EINVAL);
    *out = e->number = sum;
    mj_cells_written(&m->cells, &e->cell, now, e->cell.ttl_us);
    return 0;
}

bool mj_map_remove(struct mj_map *m, struct mj_span key, int64_t now)
{
    struct mj_cell *cell = mj_cells_find(&m->cells, key, mj_table_hash(key), now);
    if (cell)
        mj_cells_remove(&m->cells, cell);
    return cell != NULL;
}

int mj_map_after(const struct mj_map *m, const struct mj_span *key, int64_t now,
                 struct mj_span *next, struct mj_value *value)
{
    const struct mj_cell *cell = mj_cells_after(&m->cells, key, key ? mj_table_hash(*key) : 0);
    int n = 0;
    while (cell && mj_cells_ended(&m->cells, cell, now) && n++ < WALK_MAX)
        cell = (const struct mj_cell *)mj_table_next(&cell->item);
    if (!cell)
        return 0;
    *next = mj_cell_key(&m->cells, cell);
    *value = value_of((const struct entry *)cell);
    return n > WALK_MAX ? MJ_EAGAIN : 1;
}
