/* Cells: a table whose entries have an age. What maps, sets and zsets share: a limit of entries,
 * entries that end some time after they were last written, memory that is counted against a budget,
 * and a note of what has changed since it was last written to disk.
 *
 *            oldest ◀──────────── in order of writing ────────────▶ newest
 *   usual    ●────●────●────●────●     all live equally long: the oldest ends first
 *   own      ●────●────●               each has a time of its own: a heap tells which ends first
 *   pinned   ●  ●  ●                   never end, never make room
 *
 * No call does more than a bounded number of steps, however much there is: a limit that was lowered
 * is caught up with a few entries at a time, what is cleared is given back later, by
 * mj_cells_step().
 *
 * One writer at a time. With `shared`, others may read meanwhile inside mj_epoch sections: the
 * table, and `written`. */
#pragma once

#include "state/heap.h"
#include "state/table.h"

#define MJ_STATE_KEY_MAX   4096u  /* bytes */
#define MJ_STATE_VALUE_MAX 65536u /* bytes */
#define MJ_STATE_MAX       UINT64_C(100000000)
#define MJ_STATE_MAX_USUAL UINT64_C(100000)

/* What is declared of any named state; what was not said is left as it is, or usual. */
struct mj_state_options {
    bool says_max, says_ttl, says_persist;
    bool persist;
    uint64_t max;   /* entries; 1…MJ_STATE_MAX */
    int64_t ttl_us; /* 0: for ever */
};

/* Memory of several states together. */
struct mj_state_budget {
    _Atomic size_t bytes; /* used */
    size_t max;           /* 0: no limit */
};

#define MJ_PINNED INT64_MAX

struct mj_cell {
    struct mj_table_item item; /* first */
    uint32_t place;            /* in the heap; 0: it has no time of its own */
    struct mj_cell *older, *newer;
    _Atomic int64_t written; /* Unix µs, or MJ_PINNED */
    int64_t ttl_us;          /* of its own; 0: as all */
    uint32_t noted;          /* place in the ledger's list; 0: not in it */
    bool kept;               /* disk may have it */
};

struct mj_cells;
struct mj_ledger;
struct mj_codec_cell;

struct mj_cells_kind {
    size_t size; /* of the struct a cell is embedded in */
    uint64_t (*hash)(struct mj_span key);
    /* It leaves by itself: it has ended, or makes room. It is still in the table. NULL: nothing to
     * do. */
    void (*drop)(struct mj_cells *cells, struct mj_cell *cell);
    /* Bytes it owns, and the end of them, but not of itself. NULL: it owns nothing. */
    size_t (*owned)(const struct mj_cell *cell);
    void (*destroy)(struct mj_cell *cell);
    /* What disk keeps of it, besides key and age. */
    void (*encode)(const struct mj_cell *cell, struct mj_codec_cell *out);
    bool lowest_first; /* it is not age that says who makes room: the embedder does it */
};

struct mj_cells_line {
    struct mj_cell *oldest, *newest;
};

struct mj_grave;

struct mj_cells {
    const struct mj_cells_kind *kind;
    _Atomic(struct mj_table *) table; /* owned */
    struct mj_cells_line usual, own;
    struct mj_heap ends; /* of own */
    uint64_t max;
    _Atomic int64_t ttl_us;
    size_t pinned;
    int64_t now; /* of the latest write: the clock may be set back, ages may not */
    bool shared;
    size_t bytes;
    struct mj_state_budget *budget; /* borrowed; NULL: none */
    bool unread;              /* disk has it and could not be read: it must not be written over */
    struct mj_ledger *ledger; /* owned; NULL: not kept on disk */
    struct mj_grave *graves;  /* owned: what was cleared, being given back */
    /* What has left and readers may still hold, owned, chained by `newer`: first it gathers, then
     * it waits as one until the epoch is safe, then it is given back. */
    struct mj_cell *gathering, *waiting, *ready;
    size_t gathered;
    uint64_t waiting_epoch;
    uint64_t evicted; /* so far: to make room */
};

/* 0 or MJ_ENOMEM. The kind is borrowed for ever. */
int mj_cells_init(struct mj_cells *c, const struct mj_cells_kind *kind, bool shared,
                  struct mj_state_budget *budget);
/* At once, whatever it takes. Nobody may be reading. */
void mj_cells_deinit(struct mj_cells *c);

static inline size_t mj_cells_count(const struct mj_cells *c)
{
    return atomic_load_explicit(&((struct mj_cells *)c)->table, memory_order_relaxed)->count;
}
struct mj_table *mj_cells_table(const struct mj_cells *c);
struct mj_span mj_cell_key(const struct mj_cells *c, const struct mj_cell *cell);

/* Has it ended by then? Also for readers. */
bool mj_cells_ended(const struct mj_cells *c, const struct mj_cell *cell, int64_t now);
/* The cell, or NULL when there is none or it has ended. */
struct mj_cell *mj_cells_find(const struct mj_cells *c, struct mj_span key, uint64_t hash,
                              int64_t now);
/* The cell, made when there is none: zeroed behind the cell's own part; *made says which. Room is
 * made first, unless it is going to be pinned. Follow it up by mj_cells_written(). NULL with *err
 * MJ_ENOMEM; or MJ_ELIMIT: the budget is used up. */
struct mj_cell *mj_cells_get(struct mj_cells *c, struct mj_span key, uint64_t hash, int64_t now,
                             bool pin, bool *made, int *err);
/* The cell is the newest now. ttl_us: of its own, 0 for none; MJ_PINNED: it never ends. 0 or
 * MJ_ENOMEM, then it lives as long as all. */
int mj_cells_written(struct mj_cells *c, struct mj_cell *cell, int64_t now, int64_t ttl_us);
/* So many bytes more (or less) belong to a cell. False when that is beyond the budget, even after
 * older cells have made room; nothing is counted then. */
bool mj_cells_charge(struct mj_cells *c, ptrdiff_t bytes, const struct mj_cell *spare);
/* `drop` is not called. */
void mj_cells_remove(struct mj_cells *c, struct mj_cell *cell);
/* All of them, in no time. MJ_ENOMEM: they are as they were. */
int mj_cells_clear(struct mj_cells *c);
/* The next cell behind that key (NULL: the first), NULL at the end. It may have ended. */
struct mj_cell *mj_cells_after(const struct mj_cells *c, const struct mj_span *key, uint64_t hash);
/* Ends what is due, makes room, gives memory back: about n cells of it. True when there is more. */
bool mj_cells_step(struct mj_cells *c, int64_t now, size_t n);
