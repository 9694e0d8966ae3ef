/* The ledger of one persistent state: which of its cells disk does not have yet as they are.
 *
 *   written ──▶ noted, once however often ──▶ put as an entry ─┐
 *   removed ───────────────────────────────▶ put as a removal ─┴▶ batch for the disk, in order
 *
 * Its memory is bounded: when the disk takes nothing for so long that the batch is too large, the
 * batch is given up. Once the disk takes something again, all cells are written anew under another
 * number, and only when that is complete, the name leads to it: until then disk has the old state,
 * as a whole. A state that has just become persistent begins that way, too.
 *
 * Belongs to a struct mj_cells, and to its writer. Pinned cells are not kept on disk: whoever gave
 * them gives them again. */
#pragma once

#include "state/disk.h"

struct mj_ledger;
struct mj_cells;
struct mj_cell;

/* For the state of that script and name (which are copied) on that disk (borrowed). `number`: what
 * disk has is under that number, and is what the cells are; 0: disk has nothing of it. */
struct mj_ledger *mj_ledger_new(struct mj_disk *disk, const char *script, const char *name,
                                char kind, uint64_t number);
/* What is noted and not handed over is gone. NULL is fine. */
void mj_ledger_free(struct mj_ledger *l);
/* The state is not to be on disk any more. Frees the ledger. */
void mj_ledger_end(struct mj_ledger *l);
/* The cell has changed. */
void mj_ledger_note(struct mj_ledger *l, struct mj_cell *cell);
/* It is about to be removed. */
void mj_ledger_gone(struct mj_ledger *l, const struct mj_cells *c, struct mj_cell *cell);
/* All are gone. */
void mj_ledger_clear(struct mj_ledger *l);
/* Puts up to n cells into the batch, and hands it over. True when there is more to put. */
bool mj_ledger_step(struct mj_ledger *l, const struct mj_cells *c, size_t n);
/* Memory of what is noted and waits here. */
size_t mj_ledger_bytes(const struct mj_ledger *l);
/* All of it, however much is waiting. */
void mj_ledger_flush(struct mj_ledger *l, const struct mj_cells *c);
