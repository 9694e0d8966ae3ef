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
 * with one release-store of `published` per flush; published bytes never change. The list of
 * chunks and their reference counts change under a mutex, once per chunk (about 1 MiB), never per
 * event.
 *
 * A position is a seq. Seqs are dense, so the entry of a seq is found by subtraction, and a reader
 * that keeps only its seq costs eight bytes and holds no memory back. What a reader thread looks
 * at is a view: the chunks held at one moment, pinned until the next refresh, and shared by all
 * positions of that thread.
 *
 *   floor ──────────── positions ───────────── end
 *   oldest seq held     any seq between         first seq not published yet */
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

/* budget: bytes kept. The open chunk and the one before it are kept whatever the budget, so a
 * reader less than one chunk behind is never overtaken. Memory is touched only as it fills. Never
 * NULL. */
struct mj_tail *mj_tail_new(size_t budget);
void mj_tail_free(struct mj_tail *t); /* after the last view is gone */

/* Writer side. The next time_us to use: max(now, last + 1). The clock is read once per flush: what
 * becomes visible together is stamped together, a microsecond apart. */
int64_t mj_tail_next_time(struct mj_tail *t);
/* Appends the event's JSON for the streams in the mask. e->seq, offset, len, head are filled in
 * by the tail; the rest by the caller. 0, MJ_ENOMEM, MJ_ELIMIT (json above 1 GiB), or MJ_EINVAL
 * when time_us is not above the last one's; on an error nothing changes. Invisible until
 * mj_tail_publish(). */
int mj_tail_append(struct mj_tail *t, struct mj_entry *e, struct mj_span json);
/* Makes everything appended visible, then calls the wake function (if set) when there is news. */
void mj_tail_publish(struct mj_tail *t);
/* Sets or (fn NULL) clears the wake function. It runs on the writer's thread and must only
 * signal. When this returns, the function set before is not running and never will again. */
void mj_tail_on_publish(struct mj_tail *t, void (*fn)(void *ctx), void *ctx);

/* Reader side. One view per reader thread; not shared between threads. */
struct mj_chunk;
struct mj_tail_view {
    struct mj_tail *tail;     /* borrowed */
    struct mj_chunk **chunks; /* owned array of references, oldest first */
    size_t count, cap;
    uint64_t serial;     /* of chunks[0]: how many the tail has ever dropped before it */
    uint64_t generation; /* of the list that was copied */
    uint64_t floor, end; /* seqs [floor, end) can be read */
};

/* The entries from a seq to the end of its chunk. Borrowed until the next refresh. */
struct mj_run {
    const struct mj_entry *entries; /* entries[0].seq is the seq asked for */
    size_t count;
    const uint8_t *data; /* entries[i]'s frame is data + entries[i].offset */
};

void mj_tail_view_init(struct mj_tail_view *v, struct mj_tail *t); /* refreshes, too */
void mj_tail_view_deinit(struct mj_tail_view *v);
/* Looks again: pins what is new, lets go of what the tail has dropped. True when end has moved. */
bool mj_tail_view_refresh(struct mj_tail_view *v);
/* False when seq is outside [floor, end): below floor the reader has been overtaken, at end there
 * is nothing yet. */
bool mj_tail_view_run(const struct mj_tail_view *v, uint64_t seq, struct mj_run *out);
/* First seq whose time_us is at least the given one; end when there is none. */
uint64_t mj_tail_view_find(const struct mj_tail_view *v, int64_t time_us);
/* time_us of the newest entry, or 0 when the view is empty. */
int64_t mj_tail_view_newest(const struct mj_tail_view *v);

static inline struct mj_span mj_run_frame(const struct mj_run *r, size_t i)
{
    return mj_span(r->data + r->entries[i].offset, r->entries[i].len);
}
static inline struct mj_span mj_run_json(const struct mj_run *r, size_t i)
{
    const struct mj_entry *e = &r->entries[i];
    return mj_span(r->data + e->offset + e->head, e->len - e->head);
}

/* Interned collection names: thread-safe, ids from 1, stable for the life of the process. The
 * table is bounded; past the bound every new name gets MJ_COLLECTION_OTHER and readers compare
 * the text. */
#define MJ_COLLECTION_OTHER UINT32_MAX
#define MJ_COLLECTIONS_MAX  16384
#define MJ_COLLECTION_LEN   317 /* longer names are never interned */
uint32_t mj_collection_id(struct mj_span name);
/* The name of an id, or {NULL, 0} for 0, MJ_COLLECTION_OTHER and ids never given out. Borrowed
 * for ever. */
struct mj_span mj_collection_name(uint32_t id);
