/* The journal: the one log that everything leaves through. What the router lets through is appended
 * once; every subscriber is a position in it.
 *
 *   segment 1 (sealed)          segment 480001 (closed)      segment 960001 (active)
 *   ┌─────┬─────┬─────┐         ┌─────────────────────┐      ┌─────────────
 *   │block│block│block│ …       │head│json│head│json│ …│      │head│json│ …      bytes
 *   └─────┴─────┴─────┘         └─────────────────────┘      └─────────────
 *   │entry│entry│entry│ …       │entry│entry│ …              │entry│ …          index
 *
 * Bytes are ready WebSocket frames of v1 text, back to back, so a run of them is one write. A
 * closed segment is sealed later: its bytes compressed in blocks, its index as it was.
 *
 * One writer thread, any number of reader threads, one keeper thread (fsync, sealing, retention).
 * The writer stages what is appended, hands it to the kernel at publish, and then moves `published`
 * with one release-store; published bytes never change. The list of segments and its reference
 * counts change under a mutex, once per segment, never per event.
 *
 * A position is a seq. Within a segment seqs are dense, so the entry of a seq is found by
 * subtraction; between segments some may be missing, because after a crash the journal goes on
 * above every seq that may ever have been given out. What a reader thread looks at is a view: the
 * segments held at one moment, pinned until the next refresh, shared by all positions of that
 * thread.
 *
 *   floor ──────────── positions ───────────── end
 *   oldest seq held     any seq between         first seq not published yet
 *
 * Promises: seq and time_us only grow, over restarts, crashes and steps of the clock. What a reader
 * has seen survives the death of the process; what was synced survives the death of the machine.
 * The upstream cursor of a source comes from the last batch that is there, whole, after a crash. */
#pragma once

#include "event/event.h"

#define MJ_STREAMS_MAX 64
#define MJ_STREAM_MAIN 0
#define MJ_SOURCES_MAX 64

/* An index record, as it lies on disk (little-endian). 24 bytes, so that a filter reads forty
 * million of them in less than a second. */
struct mj_entry {
    uint32_t time; /* µs after the run's base_us */
    uint32_t
        end; /* of the frame, in the segment's plain bytes; it starts where the last one ends */
    uint32_t did;        /* low half of mj_hash() of the DID */
    uint16_t collection; /* mj_journal_collection_name(); 0 for identity and account */
    uint8_t kind, op;    /* enum mj_kind, enum mj_op */
    uint64_t streams;    /* bit per stream */
};

#define MJ_COLLECTION_OTHER UINT16_MAX /* not in the table: readers compare the text */
#define MJ_COLLECTION_LEN   317        /* longer names are never in the table */

struct mj_journal;

struct mj_journal_cfg {
    const char *dir;      /* borrowed during open; NULL: in memory only, nothing survives */
    size_t memory;        /* without dir: bytes kept */
    int64_t retain_us;    /* with dir: what is older is dropped, whole segments at a time and never
                             the newest one; 0 = no limit */
    int64_t retain_bytes; /* with dir: files together; 0 = no limit */
    int64_t plain_bytes;  /* with dir: the newest so many bytes are not sealed yet; 0: 512 MiB */
    int64_t sync_us;      /* between two fsyncs; 0 = at every publish; default is the caller's */
    size_t segment_bytes; /* 0: 256 MiB, less when retention is small */
    bool no_seal;         /* sealing only by mj_journal_seal() */
    bool read_only; /* what is there now; also beside a process that writes to it. Nothing on the
                       disk is touched, appending is refused */
    bool tolerant;  /* with read_only: damaged segments are left out, with a line each in `error` */
    void (*failed)(void *ctx); /* an I/O error has been logged and the journal takes nothing more;
                                  any thread, must only signal. Once. */
    void *ctx;
};

/* Opens, and makes the directory if needed: cuts a torn tail, learns the cursors, starts the
 * keeper. The caller holds a lock that keeps other processes out. 0, or a negative error with a
 * sentence that names the file and the remedy appended to `error`. */
int mj_journal_open(const struct mj_journal_cfg *cfg, struct mj_journal **out,
                    struct mj_buf *error);
/* One in memory, of that many bytes. Never NULL. */
struct mj_journal *mj_journal_in_memory(size_t bytes);
/* Publishes nothing, syncs what is published, stops the keeper. After the last view is gone; NULL
 * is fine. */
void mj_journal_close(struct mj_journal *j);

/* ---- writer's thread ---- */

/* The next time_us to use: max(now, last + 1). The clock is read once per flush: what becomes
 * visible together is stamped together, a microsecond apart. */
int64_t mj_journal_next_time(struct mj_journal *j);

struct mj_append {
    int64_t time_us;     /* strictly increasing */
    uint64_t did_hash;   /* mj_hash() of the DID */
    uint64_t streams;    /* bit per stream */
    uint32_t collection; /* mj_collection_id(); 0 for identity and account */
    uint8_t kind, op;
};

/* Stages the event's JSON. 0, or MJ_ENOMEM, MJ_ELIMIT (json above 1 GiB), MJ_EINVAL when time_us
 * is not above the last one's, MJ_EIO once the journal has failed; on an error nothing changes.
 * Invisible until mj_journal_publish(). */
int mj_journal_append(struct mj_journal *j, const struct mj_append *a, struct mj_span json);
/* Makes everything appended visible, as one batch: after a crash all of it is there or none. Then
 * calls the wake function (if set) when there is news. `source` and `upstream_seq` say how far
 * that source is done with this batch; source -1 for none. 0 or MJ_EIO (said, and cfg.failed
 * called; nothing of the batch became visible). */
int mj_journal_publish(struct mj_journal *j, int source, int64_t upstream_seq);
/* Sets or (fn NULL) clears the wake function. It runs on the writer's thread and must only
 * signal. When this returns, the function set before is not running and never will again. */
void mj_journal_on_publish(struct mj_journal *j, void (*fn)(void *ctx), void *ctx);

/* The number of a source, by its URL, given out now if it is new; 0 or more, MJ_ELIMIT, MJ_EIO. */
int mj_journal_source(struct mj_journal *j, const char *url);
/* The upstream seq to resume that source after, as found when the journal was opened; -1 for none.
 */
int64_t mj_journal_cursor(const struct mj_journal *j, int source);
/* The bit of a stream's name, given out now if it is new and kept for the life of the journal; or
 * MJ_ELIMIT, MJ_EIO. */
int mj_journal_stream(struct mj_journal *j, struct mj_span name);

/* Seals closed segments now, all but the newest `plain_bytes`; waits. 0 or MJ_EIO. Any thread. */
int mj_journal_seal(struct mj_journal *j, int64_t plain_bytes);
/* What is published is on the disk when this returns. 0 or MJ_EIO. Any thread. */
int mj_journal_sync(struct mj_journal *j);

/* ---- any thread ---- */

struct mj_journal_window {
    uint64_t floor, end, durable; /* seqs; below durable everything is synced */
    int64_t floor_us, newest_us;  /* time_us of the oldest and newest entry; 0 when empty */
    int64_t plain_bytes, sealed_bytes, index_bytes;
    size_t segments, sealed_segments;
    bool on_disk;
};
void mj_journal_window(struct mj_journal *j, struct mj_journal_window *out);

/* The text of an entry's collection, or {NULL, 0} for 0, MJ_COLLECTION_OTHER and ids never given
 * out. Borrowed as long as the journal lives. Lookups take no lock. */
struct mj_span mj_journal_collection_name(const struct mj_journal *j, uint16_t id);

/* ---- readers: one view per thread, not shared between threads ---- */

struct mj_segment;
struct mj_view {
    struct mj_journal *journal;   /* borrowed */
    uint64_t floor, end;          /* seqs [floor, end) can be read */
    struct mj_segment **segments; /* owned array of references, oldest first */
    size_t count, cap;
    uint64_t serial;          /* of segments[0]: how many were ever dropped before it */
    uint64_t generation;      /* of the list that was copied */
    struct mj_blocks *blocks; /* owned: blocks of sealed segments, unpacked */
};

void mj_view_init(struct mj_view *v, struct mj_journal *j); /* refreshes, too */
void mj_view_deinit(struct mj_view *v);
/* Looks again: pins what is new, lets go of what was dropped. True when end has moved. Entries,
 * runs and bytes got before are no longer valid. */
bool mj_view_refresh(struct mj_view *v);

/* What may be in a run, for skipping it whole: no bit, no match. Only sealed blocks have one. */
struct mj_summary {
    uint64_t collections[4]; /* bit (id % 256) of each collection */
    uint64_t streams;        /* all masks, or-ed */
    uint32_t kinds, ops;     /* bit per kind, per op */
    uint64_t dids[64];       /* bloom filter: bits (did) % 4096, (did >> 12) % 4096, and
                                (did >> 20) % 4096 */
};

/* Consecutive entries; entries[0] has seq `seq`, and count is 1 or more. */
struct mj_run {
    const struct mj_entry *entries;
    size_t count;
    uint64_t seq;
    int64_t base_us;
    const struct mj_summary *summary; /* NULL: anything */
    const uint8_t *data;              /* the first entry's frame, or NULL before mj_view_load() */
    uint32_t start;                   /* where that frame starts in the segment's plain bytes */
    const struct mj_segment *segment;
    uint32_t block;
};

/* The entries from a seq (or, where that one is missing, the next there is) to the end of what lies
 * together. False when seq is outside [floor, end). The entries may be read at once; their bytes
 * after mj_view_load(). */
bool mj_view_run(const struct mj_view *v, uint64_t seq, struct mj_run *out);
/* Makes the run's bytes readable: nothing for segments not sealed, otherwise unpacks a block unless
 * it is still there. Valid until the next refresh, or four further loads of other runs. 0, MJ_EIO
 * or MJ_EHASH (damaged; said in the log, counted); then the run cannot be sent. */
int mj_view_load(struct mj_view *v, struct mj_run *r);
/* First seq whose time_us is at least the given one; end when there is none. */
uint64_t mj_view_find(const struct mj_view *v, int64_t time_us);
/* time_us of the entry, or of the next there is; 0 outside [floor, end). */
int64_t mj_view_time(const struct mj_view *v, uint64_t seq);
/* time_us of the newest entry, or 0 when the view is empty. */
int64_t mj_view_newest(const struct mj_view *v);

static inline int64_t mj_run_time(const struct mj_run *r, size_t i)
{
    return r->base_us + r->entries[i].time;
}
/* The frame, WebSocket head included. Loaded runs only. */
static inline struct mj_span mj_run_frame(const struct mj_run *r, size_t i)
{
    uint32_t at = i ? r->entries[i - 1].end : r->start;
    return mj_span(r->data + (at - r->start), r->entries[i].end - at);
}
/* Bytes of the WebSocket head of an unmasked frame of that size: 2, 4 or 10. */
static inline unsigned mj_frame_head(size_t frame)
{
    return frame <= 2 + 125 ? 2 : frame <= 4 + 65535 ? 4 : 10;
}
static inline struct mj_span mj_run_json(const struct mj_run *r, size_t i)
{
    struct mj_span f = mj_run_frame(r, i);
    unsigned head = mj_frame_head(f.len);
    return mj_span(f.ptr + head, f.len - head);
}

/* ---- collection names of this process ---- */

/* Interned: thread-safe, ids from 1, stable for the life of the process; journals have numbers of
 * their own. The table is bounded; past the bound every new name gets MJ_COLLECTION_NONE. */
#define MJ_COLLECTION_NONE UINT32_MAX
#define MJ_COLLECTIONS_MAX 32768
uint32_t mj_collection_id(struct mj_span name);
/* The name of an id, or {NULL, 0} for 0, MJ_COLLECTION_NONE and ids never given out. Borrowed for
 * ever. */
struct mj_span mj_collection_name(uint32_t id);
