/* What says quickly that something is not in a table: one bit for each item, in sixteen or more
 * bits per item, so that nine of ten looks for what is not there end at one bit of a small block of
 * memory instead of at an item somewhere.
 *
 * Bits are only ever set. When as many were set as the sieve was made for, a larger one is filled
 * beside it, a few items of the table per call, and takes its place when it has them all. Readers
 * read inside mj_epoch sections; there is one writer. */
#pragma once

#include "state/table.h"

struct mj_sieve_bits;

struct mj_sieve {
    _Atomic(struct mj_sieve_bits *) now; /* owned; NULL: it says yes to everything */
    struct mj_sieve_bits *next;          /* owned: being filled; NULL: nothing is */
    struct mj_sieve_bits *old;           /* owned: readers may still have it */
    uint64_t old_epoch;
    struct mj_buf at; /* owned: the last item that was filled in */
    bool walking;
};

void mj_sieve_deinit(struct mj_sieve *s);
/* Nothing is in the table any more. */
void mj_sieve_clear(struct mj_sieve *s);
/* The item is in the table from now on. */
void mj_sieve_add(struct mj_sieve *s, const struct mj_table *t, const struct mj_table_item *item);
/* Fills in about n items; true when there are more. */
bool mj_sieve_step(struct mj_sieve *s, const struct mj_table *t, size_t n);
/* `low`: of mj_hash(), as for mj_table_has_low(). False: it is not there. */
bool mj_sieve_may_have(const struct mj_sieve *s, uint32_t low);
