/* When may memory be freed that another thread might be reading without a lock? When every reader
 * that was inside a section as the memory left its structure has left that section.
 *
 *   reader   enter ── follows pointers ── leave        a store with a fence, and a plain store
 *   writer   unlink ─ retire() = 7 ─ …later… ─ safe() >= 7 ? free
 *
 * A reader notes the epoch it entered at, in a slot of its thread's; the writer moves the epoch on
 * after it has unlinked something, so whoever notes that epoch or a later one cannot find it any
 * more. Threads get their slot at their first section and give it back when they end: nobody has to
 * sign up. Sections nest; a thread that reads a lot takes one around all of it. */
#pragma once

#include <stdint.h>

void mj_epoch_enter(void);
void mj_epoch_leave(void);
/* Call after unlinking: what was unlinked may be freed once mj_epoch_safe() is not below this. */
uint64_t mj_epoch_retire(void);
/* The oldest epoch that a reader is in; UINT64_MAX when there is none. */
uint64_t mj_epoch_safe(void);
