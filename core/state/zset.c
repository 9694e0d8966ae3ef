#include "state/zset.h"

#include <math.h>

#include "base/err.h"
#include "state/codec.h"

#define ROOM_STEPS 2 /* lowest scores that go per new one */

struct mj_zset_cell {
    struct mj_cell cell; /* first */
    double score;
    struct mj_zset_cell *before;
    struct mj_zset_lane *lanes; /* owned; NULL until it is in the list */
    uint8_t height;
};

static void unlink_cell(struct mj_zset *z, struct mj_zset_cell *c);

static void on_drop(struct mj_cells *cells, struct mj_cell *cell)
{
    unlink_cell((struct mj_zset *)cells, (struct mj_zset_cell *)cell);
}

static size_t owned(const struct mj_cell *cell)
{
    const struct mj_zset_cell *c = (const struct mj_zset_cell *)cell;
    return c->height * sizeof *c->lanes;
}

static void destroy(struct mj_cell *cell) { free(((struct mj_zset_cell *)cell)->lanes); }

static void encode(const struct mj_cell *cell, struct mj_codec_cell *out)
{
    out->type = MJ_CODEC_SCORE;
    out->number = ((const struct mj_zset_cell *)cell)->score;
}

static const struct mj_cells_kind kind = {.size = sizeof(struct mj_zset_cell),
                                          .hash = mj_table_hash,
                                          .drop = on_drop,
                                          .owned = owned,
                                          .destroy = destroy,
                                          .encode = encode,
                                          .lowest_first = true};

static void empty(struct mj_zset *z)
{
    memset(z->head, 0, sizeof z->head);
    z->last = NULL;
}

int mj_zset_init(struct mj_zset *z, struct mj_state_budget *budget)
{
    *z = (struct mj_zset){.random = UINT64_C(0x9e3779b97f4a7c15)};
    return mj_cells_init(&z->cells, &kind, false, budget);
}

void mj_zset_deinit(struct mj_zset *z) { mj_cells_deinit(&z->cells); }

/* ---- the list ---- */

static struct mj_span key_of(const struct mj_zset *z, const struct mj_zset_cell *c)
{
    return mj_cell_key(&z->cells, &c->cell);
}

/* Is the cell before that score and key? */
static bool is_before(const struct mj_zset *z, const struct mj_zset_cell *c, double score,
                      struct mj_span key)
{
    if (c->score != score)
        return c->score < score;
    return mj_span_cmp(key_of(z, c), key) > 0;
}

/* The lanes that lead over a place: of the cells before it, or of the head. */
struct path {
    struct mj_zset_lane *lane[MJ_ZSET_LANES];
    size_t passed[MJ_ZSET_LANES]; /* keys up to that cell */
    struct mj_zset_cell *before;  /* NULL at the start */
};

static void find(struct mj_zset *z, double score, struct mj_span key, struct path *p)
{
    struct mj_zset_lane *lanes = z->head;
    size_t passed = 0;
    p->before = NULL;
    for (int i = MJ_ZSET_LANES; i-- > 0;) {
        while (lanes[i].next && is_before(z, lanes[i].next, score, key)) {
            passed += lanes[i].span;
            p->before = lanes[i].next;
            lanes = p->before->lanes;
        }
        p->lane[i] = &lanes[i];
        p->passed[i] = passed;
    }
}

static uint8_t roll_height(struct mj_zset *z)
{
    z->random ^= z->random << 13;
    z->random ^= z->random >> 7;
    z->random ^= z->random << 17;
    uint8_t height = 1;
    for (uint64_t r = z->random >> 8; height < MJ_ZSET_LANES && !(r & 3); r >>= 2)
        height++;
    return height;
}

/* It has lanes, and is not in the list. */
static void link_cell(struct mj_zset *z, struct mj_zset_cell *c)
{
    struct path p;
    find(z, c->score, key_of(z, c), &p);
    size_t place = p.passed[0] + 1;
    for (unsigned i = 0; i < MJ_ZSET_LANES; i++) {
        if (i >= c->height) {
            if (p.lane[i]->next)
                p.lane[i]->span++;
            continue;
        }
        c->lanes[i].next = p.lane[i]->next;
        /* What it leads to has moved on by one. */
        if (c->lanes[i].next)
            c->lanes[i].span = (uint32_t)(p.passed[i] + p.lane[i]->span + 1 - place);
        p.lane[i]->next = c;
        p.lane[i]->span = (uint32_t)(place - p.passed[i]);
    }
    c->before = p.before;
    if (c->lanes[0].next)
        c->lanes[0].next->before = c;
    else
        z->last = c;
}

static void unlink_cell(struct mj_zset *z, struct mj_zset_cell *c)
{
    struct path p;
    find(z, c->score, key_of(z, c), &p);
    for (unsigned i = 0; i < MJ_ZSET_LANES; i++) {
        if (p.lane[i]->next == c) {
            p.lane[i]->next = c->lanes[i].next;
            p.lane[i]->span += c->lanes[i].span - 1;
        } else if (p.lane[i]->next) {
            p.lane[i]->span--;
        }
    }
    if (c->lanes[0].next)
        c->lanes[0].next->before = c->before;
    else
        z->last = c->before;
}

/* ---- keys ---- */

static struct mj_zset_cell *lookup(const struct mj_zset *z, struct mj_span key, int64_t now)
{
    return (struct mj_zset_cell *)mj_cells_find(&z->cells, key, mj_table_hash(key), now);
}

static void leave(struct mj_zset *z, struct mj_zset_cell *c)
{
    unlink_cell(z, c);
    mj_cells_remove(&z->cells, &c->cell);
}

/* Lanes for a cell that was just made. */
static int raise(struct mj_zset *z, struct mj_zset_cell *c)
{
    uint8_t height = roll_height(z);
    struct mj_zset_lane *lanes = calloc(height, sizeof *lanes);
    int err = lanes ? 0 : MJ_ENOMEM;
    if (!err && !mj_cells_charge(&z->cells, (ptrdiff_t)(height * sizeof *lanes), &c->cell))
        err = MJ_ELIMIT;
    if (err) {
        free(lanes);
        mj_cells_remove(&z->cells, &c->cell);
        return err;
    }
    c->lanes = lanes;
    c->height = height;
    return 0;
}

/* `now` says what has ended. */
static int put(struct mj_zset *z, struct mj_span key, double score, bool add, int64_t now,
               int64_t written, double *out)
{
    bool made;
    int err;
    if (key.len > MJ_STATE_KEY_MAX)
        return MJ_EBIG;
    if (isnan(score))
        return MJ_EINVAL;
    struct mj_zset_cell *c = (struct mj_zset_cell *)mj_cells_get(&z->cells, key, mj_table_hash(key),
                                                                 now, false, &made, &err);
    if (!c)
        return err;
    if (made && (err = raise(z, c)))
        return err;
    double next = add ? c->score + score : score;
    if (isnan(next)) { /* of a cell that was there: infinities of both signs */
        return MJ_EINVAL;
    }
    if (made || next != c->score) {
        if (!made)
            unlink_cell(z, c);
        c->score = next;
        link_cell(z, c);
    }
    mj_cells_written(&z->cells, &c->cell, written, 0);
    *out = next;
    for (int i = 0; i < ROOM_STEPS && mj_zset_count(z) > z->cells.max; i++) {
        leave(z, z->head[0].next);
        z->cells.evicted++;
    }
    return 0;
}

int mj_zset_set(struct mj_zset *z, struct mj_span key, double score, int64_t now)
{
    double ignored;
    return put(z, key, score, false, now, now, &ignored);
}

int mj_zset_restore(struct mj_zset *z, struct mj_span key, double score, int64_t written)
{
    double ignored;
    return put(z, key, score, false, 0, written, &ignored);
}

int mj_zset_incr(struct mj_zset *z, struct mj_span key, double by, int64_t now, double *out)
{
    return put(z, key, by, true, now, now, out);
}

bool mj_zset_score(const struct mj_zset *z, struct mj_span key, int64_t now, double *out)
{
    const struct mj_zset_cell *c = lookup(z, key, now);
    if (c)
        *out = c->score;
    return c != NULL;
}

size_t mj_zset_rank(const struct mj_zset *z, struct mj_span key, int64_t now)
{
    const struct mj_zset_cell *c = lookup(z, key, now);
    struct path p;
    if (!c)
        return 0;
    find((struct mj_zset *)z, c->score, key, &p);
    return mj_zset_count(z) - p.passed[0];
}

bool mj_zset_remove(struct mj_zset *z, struct mj_span key, int64_t now)
{
    struct mj_zset_cell *c = lookup(z, key, now);
    if (c)
        leave(z, c);
    return c != NULL;
}

int mj_zset_clear(struct mj_zset *z)
{
    int err = mj_cells_clear(&z->cells);
    if (!err)
        empty(z);
    return err;
}

struct mj_zset_cell *mj_zset_from_rank(const struct mj_zset *z, size_t rank)
{
    size_t count = mj_zset_count(z);
    if (!rank || rank > count)
        return NULL;
    size_t place = count + 1 - rank, passed = 0; /* from the lowest */
    const struct mj_zset_lane *lanes = z->head;
    struct mj_zset_cell *at = NULL;
    for (int i = MJ_ZSET_LANES; i-- > 0;)
        while (lanes[i].next && passed + lanes[i].span <= place) {
            passed += lanes[i].span;
            at = lanes[i].next;
            lanes = at->lanes;
        }
    return at;
}

struct mj_zset_cell *mj_zset_from_score(const struct mj_zset *z, double least)
{
    const struct mj_zset_lane *lanes = z->head;
    for (int i = MJ_ZSET_LANES; i-- > 0;)
        while (lanes[i].next && lanes[i].next->score < least)
            lanes = lanes[i].next->lanes;
    return lanes[0].next;
}

struct mj_zset_cell *mj_zset_down(const struct mj_zset_cell *at) { return at->before; }
struct mj_zset_cell *mj_zset_up(const struct mj_zset_cell *at) { return at->lanes[0].next; }

bool mj_zset_at(const struct mj_zset *z, const struct mj_zset_cell *at, int64_t now,
                struct mj_zset_entry *out)
{
    *out = (struct mj_zset_entry){key_of(z, at), at->score};
    return !mj_cells_ended(&z->cells, &at->cell, now);
}

bool mj_zset_step(struct mj_zset *z, int64_t now, size_t n)
{
    for (; n && mj_zset_count(z) > z->cells.max; n--) {
        leave(z, z->head[0].next);
        z->cells.evicted++;
    }
    return mj_cells_step(&z->cells, now, n) || !n;
}
