/* The tail: the newest part of the log, in memory. Scripts' output is appended once; every
 * subscriber is a position in it. (The seam for the journal on disk: readers only know entries,
 * runs and positions.)
 *
 *   chunk 7                                   chunk 8
 *   ┌──────────────────────────────────────┐  ┌────────────────
 *   │head│json│head│json│head│json│ …      │  │head│json│ …       bytes: ready WebSocket frames
 *   └──────────────────────────────────────┘  └────────────────
 *   │entry│entry│entry│ …                     │entry│ …           index: fixed-size records
 *
 * One writer thread, any number of reader threads. The writer fills the open chunk and publishes
 * with one atomic store per flush; published bytes never change. Chunks are reference-counted:
 * a reader pins the ones it is sending from, the tail drops the oldest beyond its budget. */
#pragma once

#include "event/event.h"

#define MJ_STREAMS_MAX 64
#define MJ_STREAM_MAIN 0

struct mj_entry {
    uint64_t seq;    /* ours: from 1, +1 per entry */
    int64_t time_us; /* strictly increasing */
    int64_t upstream_seq;
    uint64_t did_hash;    /* mj_hash() of the DID */
    uint64_t streams;     /* bit per stream */
    uint32_t collection;  /* mj_collection_id(); 0 for identity and account */
    uint32_t offset, len; /* of the frame in the chunk, WebSocket head included */
    uint16_t head;        /* bytes of the WebSocket head */
    uint8_t kind, op;
};

struct mj_tail;

/* budget: bytes kept, at least one chunk. Never NULL. */
struct mj_tail *mj_tail_new(size_t budget);
void mj_tail_free(struct mj_tail *t); /* after the last reader is gone */

/* Writer side. The next time_us to use: max(now, last + 1). */
int64_t mj_tail_next_time(struct mj_tail *t);
/* Appends the event's JSON for the streams in the mask. e->seq, offset, len, head are filled in
 * by the tail; the rest by the caller. 0, or MJ_ENOMEM. Invisible until mj_tail_publish(). */
int mj_tail_append(struct mj_tail *t, struct mj_entry *e, struct mj_span json);
/* Makes everything appended visible, then calls the wake function (if set) when there is news. */
void mj_tail_publish(struct mj_tail *t);
void mj_tail_on_publish(struct mj_tail *t, void (*fn)(void *ctx), void *ctx);

/* Interned collection names: thread-safe, ids from 1, stable for the life of the process. The
 * table is bounded; past the bound every new name gets MJ_COLLECTION_OTHER and readers compare
 * the text. */
#define MJ_COLLECTION_OTHER UINT32_MAX
uint32_t mj_collection_id(struct mj_span name);
