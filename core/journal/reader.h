/* Durable readers: webhooks, :each tasks and plug-ins take their events from the journal, at their
 * own pace, and remember how far they are.
 *
 *   router   event ─▶ append ─▶ a note per reader it is for ─▶ publish      one batch: all or none
 *                                                                 │ wake
 *   owner    take ◀── [ window: waiting, taken, done ] ◀── scan ◀─┘
 *              └─▶ parcel ─▶ delivered? ─▶ done / fail ─▶ position ─▶ disk
 *
 * A note is an entry of its own, behind its event: in no stream, of kind MJ_ENTRY_NOTE, with the
 * reader's number as its collection, the event's half of the DID's hash, and a small text that says
 * how many entries back the event is. So a reader finds its events on the index alone, an event
 * that several readers want is there once, and subscribers never see a note.
 *
 *   journal   … event  note(A)  event  event  note(A)  note(B) …
 *   A's position ──────▲ everything of A's below it is done; above it only what the window holds
 *
 * The position moves over what is done without a gap; what is done above a gap is remembered beside
 * it, so a restart repeats only what was in the air. Positions are kept by (script, node): they
 * survive restart and reload, not a new name. A reader that nobody owns (its script is gone, or not
 * loaded yet) keeps its position until it is forgotten by name.
 *
 * What waits is in the journal, not in memory: an outage of days costs the window, which holds
 * seqs, no texts. A reader that retention overtakes loses what is gone: counted, logged, shown.
 *
 * Who owns what: the registry owns its readers, for as long as it lives. One owner at a time takes
 * from a reader; a reload replaces the owner, and parcels which the old one still has may be
 * settled by either. Everything here locks for itself, and may be called on any thread unless it
 * says otherwise; a view is the caller's own (journal.h: one per thread). */
#pragma once

#include "journal/journal.h"
#include "state/disk.h"

#define MJ_READERS_MAX     20000 /* in the life of a data directory, as collections are counted */
#define MJ_READER_NAME_MAX 300   /* bytes of "SCRIPT NODE" */
#define MJ_ENTRY_NOTE      7     /* mj_entry.kind; events have those of enum mj_kind */
#define MJ_DELIVERY_ID_LEN 36    /* "evt_" and 32 hex digits */
#define MJ_DISK_READER     'r'   /* mj_disk kinds: positions, dead letters */
#define MJ_DISK_DEAD       'd'

struct mj_readers;
struct mj_reader;

enum mj_reader_kind { MJ_READER_EACH, MJ_READER_SINK, MJ_READER_WEBHOOK };
/* DID: an account's events one after the other; TOTAL: all of them; NONE: as they come. */
enum mj_order { MJ_ORDER_DID, MJ_ORDER_TOTAL, MJ_ORDER_NONE };

struct mj_readers_cfg {
    struct mj_journal *journal; /* borrowed */
    struct mj_disk *disk;       /* borrowed; NULL: positions and dead letters are in memory only */
    size_t dead_max;            /* dead letters per reader, the oldest go; 0: 10,000 */
    size_t attempts;            /* remembered for mj_attempts_find(), of all readers; 0: 16,384 */
};

struct mj_readers *mj_readers_new(const struct mj_readers_cfg *cfg);
/* Writes positions. After the last owner is gone; NULL is fine. */
void mj_readers_free(struct mj_readers *rs);
/* Positions that moved go to disk; also called once a second by whoever runs the process. */
void mj_readers_save(struct mj_readers *rs);

/* ---- the writer's thread: the router ---- */

/* The reader of that script's node, made if it is new (its position is then the journal's end). 0;
 * MJ_ELIMIT, MJ_EIO with a sentence in `error`. */
int mj_reader_get(struct mj_readers *rs, const char *script, const char *node,
                  enum mj_reader_kind kind, struct mj_reader **out, struct mj_buf *error);
/* Appends a note for the event that was appended `back` entries ago (1: just now) under `event`.
 * Its own time_us comes from mj_journal_next_time(). As mj_journal_append(). */
int mj_reader_note(struct mj_reader *r, const struct mj_append *event, unsigned back,
                   int64_t upstream_seq);
/* Before a publish: where a reader that got notes was made a moment ago, waits until the disk knows
 * of it, or a crash would leave notes that nobody looks for. Nearly always it has long been so. */
void mj_readers_publish(struct mj_readers *rs);
/* After a publish: wakes the owners of readers that got notes. */
void mj_readers_published(struct mj_readers *rs);

/* ---- the owner ---- */

struct mj_retry {
    unsigned tries;         /* attempts in all; 0: no limit */
    int64_t min_us, max_us; /* wait after the first failure, doubled each time up to max, with full
                               jitter */
    int64_t for_us;         /* since the first attempt; 0: no limit */
};

struct mj_owner_cfg {
    enum mj_order order;
    size_t workers;        /* parcels in the air; 0: 1. TOTAL has one */
    size_t max, max_bytes; /* of a parcel: events; bytes of their JSON; 0: 1; no limit */
    int64_t every_us;      /* how long the first event of a parcel waits for others */
    size_t window;         /* events read and not done; 0: 4096 */
    struct mj_retry retry;
    /* There is something to take. Any thread, must only signal. */
    void (*wake)(void *ctx);
    void *ctx; /* borrowed; also tells owners apart */
};

/* Takes over the reader. What another owner has in the air stays with it. */
void mj_reader_own(struct mj_reader *r, const struct mj_owner_cfg *cfg);
/* Lets go, if it is still ctx's. Its parcels must be settled first, or later. */
void mj_reader_disown(struct mj_reader *r, const void *ctx);

struct mj_item {
    uint64_t seq;                    /* of the event's entry; 0 for one out of a dead letter */
    int64_t time_us, upstream_seq;   /* of the event */
    uint32_t did;                    /* half of the DID's hash */
    struct mj_span json;             /* the event; the parcel's */
    char id[MJ_DELIVERY_ID_LEN + 1]; /* stable: of reader, DID, collection, rkey, rev, operation */
};

struct mj_parcel {
    struct mj_reader *reader;
    const struct mj_item *items; /* oldest first */
    size_t n;
    unsigned attempt; /* 1 for the first; of its oldest item */
    int64_t first_us; /* of that attempt; now, for the first */
    uint64_t dead_id; /* the dead letter it is a retry of, or 0 */
    void *owner;      /* the taker's own */
};

/* The next parcel that may go out now (Unix µs), or NULL; then *again_us is when to ask again (µs
 * from now; -1: when woken). NULL, too, for who is no longer its owner, and while it is paused or
 * disabled. The view is refreshed by the caller. */
struct mj_parcel *mj_reader_take(struct mj_reader *r, const void *ctx, struct mj_view *view,
                                 int64_t now_us, int64_t *again_us);
/* Delivered. Frees the parcel. `status`: HTTP's, 0 for none. */
void mj_parcel_done(struct mj_parcel *p, int64_t now_us, int status);

struct mj_failure {
    enum {
        MJ_FAIL_RETRY, /* by the reader's policy; when that is at its end, a dead letter */
        MJ_FAIL_LATER, /* the same, but no attempt is counted: all it takes is down */
        MJ_FAIL_DEAD,  /* a dead letter at once */
        MJ_FAIL_AGAIN, /* how it went is not known: no attempt is counted, and it may go out again
                          at once, with the same others */
        MJ_FAIL_BACK   /* nobody tried: as AGAIN, but with any others */
    } what;
    int64_t after_us;   /* with RETRY and LATER: not before that (Retry-After); 0: by the policy */
    int status;         /* HTTP's, 0 for none */
    const char *reason; /* a short sentence without secrets */
    struct mj_span excerpt; /* of the answer; the first 2,048 bytes are kept */
    const bool *failed;     /* per item: those that failed, the others are done; NULL: all */
};
/* Frees the parcel. */
void mj_parcel_fail(struct mj_parcel *p, int64_t now_us, const struct mj_failure *f);

/* The endpoint wants nothing more (410): stays so, also after a restart, until resumed. */
void mj_reader_disable(struct mj_reader *r, const char *reason);

/* ---- control: any thread ---- */

struct mj_reader_state {
    const char *script, *node; /* borrowed for the life of the registry */
    enum mj_reader_kind kind;
    const char *state; /* "live", "behind", "paused", "disabled", "gone" (no owner) */
    uint64_t position; /* seq; everything below is done */
    int64_t at_us;     /* time_us of the oldest event not done; 0: none */
    size_t waiting;    /* notes not done, up to a million; less while what was there at the start,
                          or before a rewind, is still being counted */
    size_t in_the_air; /* events of parcels taken */
    uint64_t delivered, failed, retried, dead, overtaken; /* events, but failed: attempts */
    size_t letters;                                       /* dead letters held */
    int64_t last_ok_us, last_fail_us;
    char reason[256]; /* of the last failure, or why it is disabled */
};
/* The readers one after the other; `fn` false: stop. Counting looks at the index with a view of its
 * own. */
void mj_readers_each(struct mj_readers *rs, bool (*fn)(void *ctx, const struct mj_reader_state *s),
                     void *ctx);
/* The same at once, without looking at the index: `waiting` is what is known so far. */
void mj_readers_glance(struct mj_readers *rs,
                       bool (*fn)(void *ctx, const struct mj_reader_state *s), void *ctx);
/* "SCRIPT NODE"; the journal it reads, for the owner's view. Borrowed for the life of the registry.
 */
const char *mj_reader_name(const struct mj_reader *r);
struct mj_journal *mj_reader_journal(const struct mj_reader *r);
/* By "SCRIPT NODE", or NULL. */
struct mj_reader *mj_readers_find(struct mj_readers *rs, const char *name);
void mj_reader_state(struct mj_reader *r, struct mj_reader_state *out);
void mj_reader_pause(struct mj_reader *r);
void mj_reader_resume(struct mj_reader *r); /* also out of "disabled" */
/* Whether it is done with the note of that seq: delivered, or a dead letter. */
bool mj_reader_done(struct mj_reader *r, uint64_t note);
/* Back (or forward) to the first event at or after that time: what is in the air is forgotten, and
 * everything from there goes out again under the same ids. */
void mj_reader_rewind(struct mj_reader *r, int64_t time_us);
/* Forgets position and dead letters of one that nobody owns; MJ_EINVAL while somebody does. */
int mj_reader_forget(struct mj_reader *r);

struct mj_dead {
    uint64_t id;          /* counts up, over all readers */
    const char *reader;   /* "SCRIPT NODE" */
    const char *event_id; /* of its (first) item */
    int64_t died_us, first_us;
    unsigned attempts;
    int status;
    const char *reason;
    struct mj_span excerpt;
    struct mj_span events; /* JSON array of what was to be delivered */
};
/* Dead letters with id at or above `from`, oldest first, of one reader (NULL: all); `fn` false:
 * stop; texts borrowed during the call. 0 or MJ_EIO. */
int mj_dead_each(struct mj_readers *rs, const char *reader, uint64_t from,
                 bool (*fn)(void *ctx, const struct mj_dead *d), void *ctx);
/* To be delivered once more, before what is new; done: it is gone, failed: it is back with one more
 * attempt. MJ_ENOENT; MJ_EINVAL when nobody owns the reader. */
int mj_dead_retry(struct mj_readers *rs, uint64_t id);
int mj_dead_remove(struct mj_readers *rs, uint64_t id); /* or MJ_ENOENT */

/* What happened to deliveries lately, newest last; for why. */
struct mj_attempt {
    const char *reader; /* "SCRIPT NODE" */
    uint64_t seq;       /* the event's */
    int64_t at_us;
    unsigned attempt;
    int status;
    enum { MJ_ATTEMPT_DONE, MJ_ATTEMPT_RETRY, MJ_ATTEMPT_DEAD } what;
    char reason[96];
};
void mj_attempts_find(struct mj_readers *rs, uint64_t seq,
                      void (*fn)(void *ctx, const struct mj_attempt *a), void *ctx);
