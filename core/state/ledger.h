/* The ledger of one persistent state: which of its cells disk does not have yet as they are.
 *
 *   written ──▶ noted, once however often ──▶ put as an entry ─┐
 *   removed ───────────────────────────────▶ put as a removal ─┴▶ bytes for the disk, in order
 *
 * Its memory is bounded: when the disk takes nothing for so long that the bytes are too many, they
 * are given up, and all cells are written anew once it takes something again, under a number of
 * their own, so that what the disk had stays whole until the new is complete.
 *
 * Belongs to a struct mj_cells, and to its writer. */
#pragma once

#include "base/bytes.h"

struct mj_ledger;
struct mj_cells;
struct mj_cell;

void mj_ledger_free(struct mj_ledger *l); /* NULL is fine */
/* The cell has changed. */
void mj_ledger_note(struct mj_ledger *l, struct mj_cell *cell);
/* It is about to be removed. */
void mj_ledger_gone(struct mj_ledger *l, const struct mj_cells *c, struct mj_cell *cell);
/* All are gone. */
void mj_ledger_clear(struct mj_ledger *l);
