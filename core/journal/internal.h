/* What the journal's files share: segments, the files they lie in, and who may touch what.
 *
 *   DATA/journal/
 *     00000000000000000001.data     frames back to back, as they are sent        (until sealed)
 *     00000000000000000001.marks    a head, then one 64-byte mark per batch      (until sealed)
 *     00000000000000000001.index    24-byte entries
 *     00000000000000000001.sealed   the same bytes in compressed blocks, a row per block, a foot
 *     collections streams sources   names, one a line; the line's number is the id
 *     reserve                       seqs below this may have been given out
 *
 * The number in a name is the segment's first seq. Everything is little-endian; a big-endian
 * machine is refused when the journal is opened. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metrics.h"
#include "journal/journal.h"
#include "journal/names.h"

#define MJ_JSON_MAX      (1u << 30)
#define MJ_MEMORY_DATA   (1u << 20) /* bytes of a segment that lies in memory */
#define MJ_MEMORY_COUNT  8192u      /* its entries: one per 128 bytes; events are four times that */
#define MJ_SEGMENT_BYTES (256u << 20)
#define MJ_SLACK_BYTES                                                                             \
    (64u << 20)            /* mapped beyond that: a batch is not split if it can be helped */
#define MJ_EVENT_LEAST 96u /* entries are mapped for events that small on average */
#define MJ_BLOCK_BYTES (128u << 10)
#define MJ_TIME_MAX    (INT64_MAX / 2) /* no file is believed that says it is later */
#define MJ_RESERVE     (UINT64_C(1) << 20)

/* One batch, or a part of one. Written behind what it covers; after a crash a batch counts when its
 * marks, up to one without MORE, are whole and their hashes hold. */
struct mj_mark {
    uint32_t flags;
    uint32_t source;      /* UINT32_MAX for none */
    int64_t upstream_seq; /* how far that source is done */
    uint64_t durable;     /* seqs below were on the disk when this was written */
    uint32_t count, end;  /* of the segment's entries and plain bytes, this batch included */
    uint32_t collections; /* names that entries up to here may use */
    uint32_t reserved;
    uint64_t batch; /* hash of the bytes, then the entries, since the last mark */
    uint64_t hash;  /* of the 56 bytes above, seeded with the first seq */
    uint64_t reserved2;
};
#define MJ_MARK_MORE 1u /* the batch goes on in the next mark, maybe in the next segment */

/* The first 1,024 bytes of a .marks file. */
struct mj_marks_head {
    char magic[8];
    uint64_t first_seq;
    int64_t base_us;
    uint64_t after;   /* first seq of the segment before it; 0 for none */
    uint64_t follows; /* the end of that one: without all of it this one does not count */
    int64_t cursors[MJ_SOURCES_MAX]; /* as they stood before the segment; -1 for none */
    uint64_t hash;                   /* of everything above */
};
#define MJ_MARKS_MAGIC "MJMARKS1"
#define MJ_MARKS_AT    1024

/* A block of a .sealed file. */
struct mj_row {
    uint64_t at;           /* of the compressed bytes in the file */
    uint32_t packed;       /* their length */
    uint32_t first, count; /* entries */
    uint32_t start, len;   /* plain bytes */
    uint32_t reserved;
    struct mj_summary summary;
    uint64_t hash; /* of everything above */
};

/* The last bytes of a .sealed file: [blocks][rows][foot]. */
struct mj_foot {
    uint64_t first_seq;
    int64_t base_us, last_us;
    uint32_t count, end;        /* entries, plain bytes */
    uint32_t rows, collections; /* names that its entries use */
    uint64_t rows_at;
    uint64_t index_hash;             /* of the whole .index file; looked at by verify only */
    int64_t cursors[MJ_SOURCES_MAX]; /* as they stood at the end */
    char magic[8];
    uint64_t hash; /* of everything above */
};
#define MJ_SEALED_MAGIC "MJSEAL01"

enum mj_file { MJ_FILE_DATA, MJ_FILE_INDEX, MJ_FILE_MARKS, MJ_FILE_SEALED, MJ_FILES };

enum mj_state {
    MJ_ACTIVE, /* the writer's */
    MJ_CLOSED, /* complete, bytes as they are sent */
    MJ_SEALED
};

/* Immutable but for the writer's members, and `state` and `refs`, which change under the lock. A
 * segment that is sealed is replaced by a new object, so what a view holds never changes. */
struct mj_segment {
    uint64_t first_seq;
    int64_t base_us, last_us; /* last_us: the writer's while active */
    enum mj_state state;
    unsigned refs;    /* under the lock: one of the list, one per view or keeper's round */
    uint32_t n, used; /* entries and plain bytes; the writer's while active, staged ones included */

    const struct mj_entry *entries; /* mapped */
    const uint8_t *data;            /* mapped; NULL when sealed */
    size_t entry_cap, data_cap;     /* what the mappings have room for */
    void *memory;                   /* the one mapping of a segment in memory, else NULL */
    size_t memory_size;

    int fd[MJ_FILES];  /* owned, -1 where not open */
    uint32_t marks;    /* written; the writer's */
    uint64_t reserved; /* disk for so many bytes; UINT64_MAX: not here. The writer's */
    bool dirty;        /* under the lock: active, or closed and not synced since */
    int64_t cursors[MJ_SOURCES_MAX]; /* closed and sealed: as they stood at the end */

    /* sealed: */
    const uint8_t *sealed; /* mapped */
    size_t sealed_size;
    const struct mj_row *rows;
    uint32_t row_count;
    _Atomic bool damage_said;
};

struct mj_journal {
    struct mj_journal_cfg cfg; /* dir owned */
    int dir;                   /* owned descriptor; -1 in memory */
    bool read_only;

    /* The writer's own. */
    struct mj_segment *active; /* borrowed from the list's end, or NULL */
    uint64_t next_seq;
    int64_t last_time;
    int64_t now;      /* clock at the first event since the last publish; 0: not read yet */
    uint64_t pending; /* entries appended but not published */
    uint64_t pending_events, pending_bytes; /* those in a stream, and their JSON */
    struct mj_buf staged;            /* bytes not handed to the kernel yet; empty in memory */
    XXH3_state_t *batch_hash;        /* owned: of the batch so far */
    struct mj_entry *staged_entries; /* owned, staged_cap of them */
    size_t staged_count, staged_cap;
    int64_t cursors[MJ_SOURCES_MAX];
    uint64_t cursors_dirty; /* bit per source: moved on without entries, no mark yet */
    int64_t idle_mark_us;   /* monotonic: when such marks were last written */
    int64_t segment_us;     /* monotonic: when the active segment was begun */
    int64_t segment_age_us; /* it is closed when that old */
    uint16_t *local;        /* owned: this journal's number of a mj_collection_id() */
    struct mj_metric *events, *bytes, *emitted, *persisted;

    struct mj_names collections, streams, sources;
    int64_t found[MJ_SOURCES_MAX]; /* cursors when the journal was opened */

    _Atomic uint64_t published;  /* first seq readers must not touch yet */
    _Atomic uint64_t durable;    /* seqs below are synced */
    _Atomic uint64_t ceiling;    /* of the reserve, on the disk */
    _Atomic uint64_t generation; /* changes with the list; stored under the lock */
    _Atomic bool failed;

    pthread_mutex_t lock;         /* guards the rest, and what segments say is under it */
    struct mj_segment **segments; /* owned array of references, oldest first */
    size_t count, cap;
    uint64_t serial;             /* of segments[0] */
    uint64_t floor;              /* first seq held */
    bool dir_dirty;              /* files were made since the directory was synced */
    struct mj_segment *spare[2]; /* in memory: dropped segments kept for reuse, pages and all */
    size_t spares;
    size_t memory_kept; /* in memory: bytes touched in segments before the active one */
    void (*wake)(void *ctx);
    void *wake_ctx;

    pthread_mutex_t sync_lock; /* one fsync round at a time; taken before `lock` */
    int64_t reserved_us;       /* under the sync lock: time_us of the reserve */
    pthread_mutex_t seal_lock; /* one sealing, or dropping, at a time; taken before `sync_lock` */
    int64_t seal_again_us;     /* under it: monotonic; no sealing by the keeper before, for lack of
                                  room */
    pthread_t keeper;
    bool keeper_runs;
    pthread_cond_t keeper_wake;
    bool stop;                    /* under the lock */
    struct mj_keeper_metrics *km; /* owned by keeper.c */
};

/* segment.c */
void mj__file_name(char out[48], uint64_t first_seq, enum mj_file file);
/* A fresh segment of the journal, mapped, its files made; not yet in the list. NULL with errno set
 * after a log line. */
struct mj_segment *mj__segment_new(struct mj_journal *j, uint64_t first_seq, int64_t base_us,
                                   size_t need);
/* A .sealed file, checked as far as its foot. NULL with a sentence in `error`. */
struct mj_segment *mj__segment_open_sealed(struct mj_journal *j, uint64_t first_seq,
                                           struct mj_buf *error);
/* Under the lock. */
void mj__segment_ref(struct mj_segment *s);
void mj__segment_unref(struct mj_journal *j, struct mj_segment *s);
/* Maps a plain segment's files for reading, `data_cap` and `entry_cap` as set. 0 or MJ_EIO. */
int mj__segment_map(struct mj_segment *s);
/* Mappings outlive descriptors, and there may be hundreds of segments. */
void mj__segment_close_files(struct mj_segment *s);
void mj__segment_free(struct mj_segment *s);
/* Bytes of the files (plain or sealed, and index). */
int64_t mj__segment_bytes(const struct mj_segment *s, int64_t *index);
uint64_t mj__mark_hash(const struct mj_mark *m, uint64_t first_seq);
uint64_t mj__batch_hash(const struct mj_entry *entries, size_t n, struct mj_span data);

/* journal.c */
/* Says what failed and what to do, once; the journal takes nothing more. MJ_EIO. */
int mj__journal_fail(struct mj_journal *j, const char *what, const char *file, int err);
/* The writer's: this journal's number for a mj_collection_id(), given out now if it is new. */
uint16_t mj__journal_collection(struct mj_journal *j, uint32_t id);
/* Under the lock: the list without its n oldest, of which one at least stays. */
void mj__drop_oldest(struct mj_journal *j, size_t n);

/* recover.c: fills the list from the directory. 0, or an error with a sentence in `error`. */
int mj__recover(struct mj_journal *j, struct mj_buf *error);

/* keeper.c */
int mj__keeper_start(struct mj_journal *j);
void mj__keeper_stop(struct mj_journal *j);
/* Syncs what was handed to the kernel before; seqs below `upto` are durable then. 0 or MJ_EIO. */
int mj__sync(struct mj_journal *j, uint64_t upto);
/* Puts the reserve at `ceiling`, unless it is there or above already; `clean` puts it there in any
 * case, as the next seq. A time_us up to the one given may have been given out. 0 or MJ_EIO. */
int mj__reserve(struct mj_journal *j, uint64_t ceiling, int64_t time_us, bool clean);
struct mj_reserve {
    char magic[8];
    uint64_t ceiling;
    uint64_t clean;  /* 1: closed in order, the ceiling is the next seq */
    int64_t time_us; /* a time_us up to this may have been given out when this was written */
    int64_t
        sync_us;   /* as configured: what was given out later is at most so much newer, or synced */
    char boot[40]; /* the system's boot id, NUL-padded: another one, and unsynced bytes are gone */
    int64_t
        cursors[MJ_SOURCES_MAX]; /* when clean: as they stood, also without an event behind them */
    uint64_t hash;
};
#define MJ_RESERVE_MAGIC "MJRESRV1"
bool mj__reserve_read(int dir, struct mj_reserve *out);
void mj__boot_id(char out[40]);

/* seal.c: the sealed form of a closed segment beside it, synced and in place; NULL after an error
 * that is logged, for lack of room (then seal_again_us is set), or when `breathe`, called between
 * blocks, says to stop. */
struct mj_segment *mj__seal(struct mj_journal *j, struct mj_segment *s,
                            bool (*breathe)(struct mj_journal *j));
