/* Keys in the order of their scores: a skip list whose steps know how many keys they pass, over
 * cells, so that a score, a rank and the n-th are all found in a few steps. When it is full, the
 * lowest scores go first.
 *
 *   lane 2   ─────────────────3──────────────▶ d ─ …
 *   lane 1   ─────1────▶ b ───────2──────────▶ d ─1▶ e
 *   lane 0   ─1▶ a ─1▶   b ─1▶      c ──1────▶ d ─1▶ e      lowest score first; of equal scores the
 *                                                          larger key first
 *
 * Scores are never NaN. Functions that take `now` want Unix µs. On one thread at a time. */
#pragma once

#include "state/cells.h"

#define MJ_ZSET_LANES 16

struct mj_zset_cell;

struct mj_zset_lane {
    struct mj_zset_cell *next;
    uint32_t span; /* keys passed, the one it leads to included */
};

struct mj_zset {
    struct mj_cells cells; /* first */
    struct mj_zset_lane head[MJ_ZSET_LANES];
    struct mj_zset_cell *last;
    uint64_t random;
};

struct mj_zset_entry {
    struct mj_span key; /* borrowed until the zset changes */
    double score;
};

/* 0 or MJ_ENOMEM. */
int mj_zset_init(struct mj_zset *z, struct mj_state_budget *budget);
void mj_zset_deinit(struct mj_zset *z);
static inline size_t mj_zset_count(const struct mj_zset *z) { return mj_cells_count(&z->cells); }

/* 0; MJ_EINVAL: NaN; MJ_EBIG: the key is too long; MJ_ELIMIT: the budget is used up; MJ_ENOMEM. A
 * score too low for a full zset is gone again at once. */
int mj_zset_set(struct mj_zset *z, struct mj_span key, double score, int64_t now);
/* The same for a key that was written at an earlier time, which disk had. */
int mj_zset_restore(struct mj_zset *z, struct mj_span key, double score, int64_t written);
/* Adds to the score, 0 when there is none; *out is the new one. Errors as above. */
int mj_zset_incr(struct mj_zset *z, struct mj_span key, double by, int64_t now, double *out);
bool mj_zset_score(const struct mj_zset *z, struct mj_span key, int64_t now, double *out);
/* 1 for the highest score; 0 when it is not there. */
size_t mj_zset_rank(const struct mj_zset *z, struct mj_span key, int64_t now);
bool mj_zset_remove(struct mj_zset *z, struct mj_span key, int64_t now);
/* For clear: what the cells were is forgotten. 0 or MJ_ENOMEM. */
int mj_zset_clear(struct mj_zset *z);
/* Walks. Each returns a place to go on from, NULL at the end; entries that have ended are walked,
 * too, and told by mj_zset_at(), which is false for them. */
struct mj_zset_cell *mj_zset_from_rank(const struct mj_zset *z, size_t rank); /* 1: the highest */
struct mj_zset_cell *mj_zset_from_score(const struct mj_zset *z, double least);
struct mj_zset_cell *mj_zset_down(const struct mj_zset_cell *at); /* to lower scores */
struct mj_zset_cell *mj_zset_up(const struct mj_zset_cell *at);
bool mj_zset_at(const struct mj_zset *z, const struct mj_zset_cell *at, int64_t now,
                struct mj_zset_entry *out);
bool mj_zset_step(struct mj_zset *z, int64_t now, size_t n);
