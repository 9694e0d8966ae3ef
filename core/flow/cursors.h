/* Cursors of sources while lanes are behind. A cursor must not be ahead of its data, and what a
 * lane makes of an event comes later than the event. So with lanes that may not lose anything, how
 * far a source is done is noted together with what is queued for them, and told to the journal once
 * that has come back.
 *
 * Per source one note at a time; when it has been told, the newest is noted. Internal to the flow
 * room. */
#pragma once

#include "flow/exit.h"
#include "flow/internal.h"

struct mj__cursors {
    uint64_t held;                  /* bit per source: has a note */
    int64_t noted[MJ_SOURCES_MAX];  /* what it says */
    int64_t newest[MJ_SOURCES_MAX]; /* how far the source is by now */
};

/* mj_router_flush() after events and results were exchanged. */
int mj__cursors_flush(struct mj__cursors *c, struct mj__exit *e, struct mj_lane *const *lanes,
                      size_t lane_count, int source, int64_t upstream_seq);
