/* The most frequent keys of a stream, in memory that does not grow with it: "space saving" counters
 * (Metwally, Agrawal, El Abbadi, 2005). A key without a counter takes over the lowest one, and its
 * count, which is noted as its possible error: a count is never too low, and too high by at most
 * that. With a window there are ten sketches, one per tenth of it, and the oldest is emptied when
 * its time is over.
 *
 *   window 10m:   [ 7 ][ 8 ][ 9 ][ 0 ][ 1 ] … [ 6 ]     each a minute; 6 is being filled
 *
 * Functions that take `now` want Unix µs. On one thread at a time. */
#pragma once

#include "state/cells.h"

#define MJ_TOP_K_MAX  1000
#define MJ_TOP_SLICES 10

struct mj_top_slice {
    struct mj_table *table; /* owned; NULL while nothing was counted */
    struct mj_heap counters;
    int64_t number; /* of the slice of time */
};

struct mj_top {
    size_t k;
    int64_t window_us; /* 0: for ever */
    struct mj_top_slice slices[MJ_TOP_SLICES];
    struct mj_table *going; /* owned: of a slice whose time is over */
    struct mj_buf entries;  /* struct mj_top_entry of the last mj_top_list() */
    struct mj_buf index;    /* its scratch: where keys are among them */
    size_t bytes;
    struct mj_state_budget *budget; /* borrowed; NULL: none */
};

struct mj_top_entry {
    struct mj_span key; /* borrowed until the top changes */
    int64_t count, error;
};

/* k: how many are followed closely, 1…MJ_TOP_K_MAX. */
void mj_top_init(struct mj_top *t, size_t k, int64_t window_us, struct mj_state_budget *budget);
void mj_top_deinit(struct mj_top *t);
/* Forgets everything when either is new. */
void mj_top_configure(struct mj_top *t, size_t k, int64_t window_us);
/* n from 1 to 2^53. 0; MJ_EBIG: the key is too long; MJ_ELIMIT: the budget is used up; MJ_ENOMEM.
 */
int mj_top_add(struct mj_top *t, struct mj_span key, int64_t n, int64_t now);
/* The n most frequent, equal ones in order of their keys; at most k. Borrowed until the next call
 * on the top. Returns how many, or MJ_ENOMEM. */
ptrdiff_t mj_top_list(struct mj_top *t, size_t n, int64_t now, const struct mj_top_entry **out);
/* How many keys have a counter now. */
size_t mj_top_count(const struct mj_top *t);
void mj_top_clear(struct mj_top *t);
/* Gives back memory, about n counters. True when there is more. */
bool mj_top_step(struct mj_top *t, int64_t now, size_t n);
