/* Which entries a class may want, for subscribers that catch up: a bit per entry, over aligned
 * windows of seqs, kept for a while. Equal filters that read near each other share them.
 *
 *   seqs   … |  7168 … 8191  |  8192 … 9215  |  9216 … 10239 | …
 *   bits      0010000…0001       0 (skipped      0100…
 *                                 by summary)
 *
 * A fixed table; what does not fit replaces what was there. */
#pragma once

#include "server/class.h"

#define MJ_WINDOW 1024 /* seqs, a power of two */

struct mj_window {
    uint64_t serial;  /* of the class; 0 for none */
    uint64_t first;   /* seq of bit 0 */
    uint64_t to;      /* seqs below have been looked at, those that were kept then */
    uint64_t version; /* of the filter's sets then */
    uint64_t bits[MJ_WINDOW / 64];
};

struct mj_scans {
    struct mj_window *slots; /* owned */
};

void mj_scans_init(struct mj_scans *s);
void mj_scans_deinit(struct mj_scans *s);
/* The window of a seq in [floor, end) of the view, looked at from that seq to the window's end or
 * the view's. Borrowed until the next call. The class must have a filter. */
const struct mj_window *mj_scan(struct mj_scans *s, struct mj_class *class, const struct mj_view *v,
                                uint64_t seq);
/* The first seq from `seq` to below `to` that may match, or `to`. */
uint64_t mj_window_next(const struct mj_window *w, uint64_t seq, uint64_t to);
