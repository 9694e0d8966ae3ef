/* What the files of durable readers share.
 *
 *   reader.c          the registry, notes, and what others ask and order
 *   reader_window.c   what a reader has read of its notes and is not done with
 *   reader_count.c    how much waits, and how much was lost
 *   reader_take.c     parcels: made of the window, settled into it
 *   reader_store.c    positions on disk
 *   reader_dead.c     dead letters
 *   reader_attempts.c what happened lately
 *
 * Two locks per reader. `mail` is held for a few instructions, so the writer never waits for an
 * owner that unpacks a block; `lock` is over all the rest. Who needs both takes `lock` first.
 *
 * Everything below `scanned` was looked at, and what of it is not done is in the window. So what is
 * kept on disk is one seq and the few that are not done below it, however much was done above the
 * oldest of these. */
#pragma once

#include "journal/internal.h"
#include "journal/reader.h"

#define MJ__READERS_SCRIPT "~readers" /* mj_disk names: no script is called that */
#define MJ__DEAD_SCRIPT    "~dead"
#define MJ__SLOTS_SAVED    65536 /* bytes of one position on disk */

enum mj__slot_state { MJ__WAITING, MJ__AIR, MJ__DONE };

/* Accounts, and how many events of each. */
struct mj__accounts {
    struct {
        uint32_t did, n; /* n - 1 events; 0: free */
    } * v;               /* owned */
    size_t cap, used;    /* also by accounts with no events any more */
};

/* An event that a reader has read and not done. */
struct mj__slot {
    uint64_t note;        /* seq of its note; slots are in this order */
    int64_t upstream_seq; /* as the note says */
    int64_t due_us;       /* not before; 0: at once */
    int64_t since_us;     /* of the first attempt; before that, when it was read */
    uint32_t back;        /* the event's seq is that much below the note's; 0: not looked at yet */
    uint32_t size;        /* of its JSON */
    uint32_t did;
    uint32_t group; /* those that failed together go out together, or a batch would come again
                       under the same id with other events; 0: was never out */
    uint32_t attempts;
    uint8_t state;
};

struct mj__window {
    struct mj__slot *slots; /* owned; [head, n) */
    size_t head, n, cap;
    size_t first;      /* nothing in [head, first) waits */
    size_t live;       /* of them, not done */
    size_t stuck;      /* of these, passed by at the last pick: for their next attempt, or for one
                          of their account's */
    size_t unresolved; /* of these, with back 0: come from disk */
    struct mj__accounts air;  /* of what is in the air */
    struct mj__accounts busy; /* that must wait, while a parcel is picked */
    size_t *picked;           /* owned: places in slots */
    size_t picked_count, picked_cap;
};

/* A dead letter that is to go out once more, or is out. */
struct mj__revived {
    uint64_t id;
    bool out;
    bool looked, many; /* `did` is there; it is of several accounts */
    uint32_t did;
};

struct mj_reader {
    struct mj_readers *rs; /* borrowed */
    char *script, *node;   /* owned */
    char *name;            /* owned: "SCRIPT NODE" */
    struct mj_buf front;   /* owned: of its notes */
    enum mj_reader_kind kind;
    uint32_t collection; /* mj_collection_id() of "~SCRIPT NODE" */
    uint16_t number;     /* the journal's; MJ_COLLECTION_OTHER when its table is full */

    /* The writer's own. */
    struct mj_reader *next_touched; /* borrowed: got notes since the last publish */
    bool touched;
    uint64_t made; /* the disk knows of it when mj_disk_written() is there; 0: it does */

    pthread_mutex_t mail;
    uint64_t staged_first, staged_last; /* notes appended, not published; 0: none */
    uint64_t news_first, news_last;     /* published, not seen by the window; 0: none */
    uint64_t staged_count, news_count;  /* of these */
    void (*wake)(void *ctx);
    void *wake_ctx;              /* borrowed */
    _Atomic int64_t quiet_until; /* nothing can be taken before; INT64_MAX: until something happens.
                                    Set to anything but 0 only under `mail` */

    pthread_mutex_t lock;
    bool known; /* it was got, or found on disk, and not forgotten since */
    bool owned; /* cfg is somebody's */
    bool paused, disabled;
    bool dirty; /* position or flags differ from what was saved */
    struct mj_owner_cfg cfg;
    unsigned owner; /* counts up; parcels know whose they are */
    unsigned epoch; /* counts up; parcels of an earlier one settle nothing */
    size_t air;     /* parcels of the present owner */
    size_t air_events;
    uint64_t scanned;                     /* seq: everything below was looked at */
    uint64_t news;                        /* seq: no note at or above is known of */
    uint64_t unread;                      /* notes in [scanned, news), but for those in … */
    uint64_t uncounted_at, uncounted_end; /* … [uncounted_at, uncounted_end) */
    uint64_t claimed; /* notes that were counted once, and are to be found again or are lost */
    struct mj__window window;
    uint32_t group;
    uint64_t random;
    uint64_t saved; /* position that was saved last */
    uint64_t delivered, failed, retried, dead, overtaken;
    int64_t last_ok_us, last_fail_us;
    char reason[256];
    uint64_t disk_number, dead_number; /* 0: none yet */
    uint64_t *letters;                 /* owned: ids of dead letters, ascending */
    size_t letter_count, letter_cap;
    struct mj__revived *revived; /* owned, in the order they were asked for */
    size_t revived_count, revived_cap;
    struct {
        struct mj_metric *state, *waiting, *lag, *air, *letters, *delivered, *failed, *retried,
            *dead, *overtaken, *dropped;
    } m;
};

/* A dead letter that the disk may not have yet, or never gets. */
struct mj__recent {
    uint64_t id, handed; /* on the disk when mj_disk_written() is there */
    struct mj_buf value; /* owned */
};

struct mj_readers {
    struct mj_journal *journal; /* borrowed */
    struct mj_disk *disk;       /* borrowed; may be NULL */
    size_t dead_max;
    struct mj_reader **all; /* owned, MJ_READERS_MAX of them; [0, count) never change */
    _Atomic size_t count;
    struct mj_reader *touched; /* the writer's */
    uint64_t await;            /* the writer's: mj_reader.made of readers with notes; 0: none */
    struct mj_buf text;        /* the writer's: a note */
    pthread_mutex_t lock;      /* over making readers, and `view`; before any reader's */
    struct mj_view view;       /* for counting and rewinding */
    pthread_mutex_t dead_lock; /* over what follows; after any reader's */
    uint64_t next_dead;
    struct mj__recent *recent; /* owned, oldest first */
    size_t recent_count, recent_cap, recent_bytes;
    struct mj__attempts *attempts; /* owned */
};

/* ---- reader.c ---- */

#define MJ__STATE_GONE 4 /* of moonjet_reader_state */

/* Something has changed: whoever takes next looks. `wake` also tells the owner. */
void mj__reader_stir(struct mj_reader *r, bool wake);
struct mj_reader *mj__reader_new(struct mj_readers *rs, const char *script, const char *node,
                                 enum mj_reader_kind kind, struct mj_buf *error);
/* Under the lock: everything below is done. */
uint64_t mj__reader_position(const struct mj_reader *r);
/* Under the registry's lock and the reader's: the gauges. */
void mj__reader_show(struct mj_reader *r, int64_t now_us, uint64_t *budget);
#define MJ__LOOK_SAVE (UINT64_C(1) << 20) /* entries looked at to count, at one save */

/* Under the lock: events are gone before they were delivered; counted and said. */
void mj__reader_lost(struct mj_reader *r, uint64_t events);

/* ---- reader_note.c ---- */

struct mj__note {
    uint32_t back;
    int64_t upstream_seq;
    struct mj_span reader; /* raw JSON string */
};
/* What every note of a reader ("SCRIPT NODE") begins with. */
void mj__note_front(struct mj_buf *out, const char *reader);
void mj__note_put(struct mj_buf *out, struct mj_span front, unsigned back, int64_t upstream_seq);
/* Reads what mj__note_put() wrote behind that front, but for out->reader. False for any other text,
 * and for a negative seq. */
bool mj__note_quick(struct mj_span json, struct mj_span front, struct mj__note *out);
/* Reads any note: 0, or MJ_ESYNTAX, MJ_EINVAL for what no writer of ours makes. */
int mj__note_take(struct mj_span json, struct mj__note *out);

/* ---- reader_window.c ---- */

void mj__window_deinit(struct mj__window *w);
void mj__window_clear(struct mj__window *w);
/* A slot at the end. */
struct mj__slot *mj__window_add(struct mj__window *w);
/* The slot of a note, not done, or NULL. */
struct mj__slot *mj__window_find(struct mj__window *w, uint64_t note);
/* From there on it is in the air; waits again; is done. */
void mj__window_out(struct mj__window *w, struct mj__slot *s);
void mj__window_back(struct mj__window *w, struct mj__slot *s);
void mj__window_done(struct mj__window *w, struct mj__slot *s);
/* Under the lock: takes what the writer has left. */
void mj__take_mail(struct mj_reader *r);
/* Under the lock: reads on, until the window is full, there is no more in the view, or it has
 * looked at enough for once. True when it should be called again soon. */
bool mj__window_fill(struct mj_reader *r, struct mj_view *view, int64_t now_us);
/* Under the lock: what waits below the floor is lost. */
void mj__window_floor(struct mj_reader *r, uint64_t floor);
/* Under the lock: `picked` is what may go out now as one parcel. Otherwise it is empty, and *due_us
 * is when there may be something; -1: not before something happens. */
void mj__window_pick(struct mj_reader *r, int64_t now_us, int64_t *due_us);
/* Under the lock: there is more to read, and room for it. */
bool mj__window_wants(const struct mj_reader *r);
bool mj__is_note_of(const struct mj_reader *r, const struct mj_entry *e);

/* ---- reader_count.c; all under the lock ---- */

bool mj__block_may_have(const struct mj_reader *r, const struct mj_summary *s);
/* Counts on, looking at as many entries as the budget has, and takes them off it. */
void mj__count_on(struct mj_reader *r, const struct mj_view *view, uint64_t *budget);
/* The note of that seq was read. */
void mj__count_read(struct mj_reader *r, uint64_t seq);
/* `scanned` has moved. */
void mj__count_scanned(struct mj_reader *r);
/* Nothing from there on is counted any more. */
void mj__count_again(struct mj_reader *r, uint64_t from);
/* What lies below the journal's floor is gone: `scanned` is not below it afterwards, unless there
 * was nothing to read. */
void mj__count_floor(struct mj_reader *r, uint64_t floor);

/* ---- reader_store.c ---- */

/* Writes that there is such a reader, and where it begins. */
void mj__reader_save(struct mj_reader *r);
/* mj_readers_save(); the last one does not ask whether the disk has room. */
void mj__readers_save(struct mj_readers *rs, bool last);
/* Appends its position to a batch for the disk that there is. */
void mj__reader_put(struct mj_reader *r, struct mj_buf *batch);
/* Finds what disk has of all readers. */
void mj__readers_load(struct mj_readers *rs);
/* Appends the position as disk keeps it. */
void mj__position_put(struct mj_buf *out, const struct mj_reader *r);
/* Fills in a fresh reader. 0, or MJ_ETRUNC, MJ_ETRAILING, MJ_EINVAL, and nothing has changed. */
int mj__position_take(struct mj_span value, struct mj_reader *r);

void mj__put_varint(struct mj_buf *out, uint64_t v);
void mj__put64(struct mj_buf *out, uint64_t v);
/* Off the front of *in: 0, MJ_ETRUNC, MJ_EINVAL. */
int mj__take_varint(struct mj_span *in, uint64_t *out);
int mj__take64(struct mj_span *in, uint64_t *out);

/* ---- reader_dead.c ---- */

/* What goes into a dead letter; everything borrowed. */
struct mj__letter {
    const struct mj_item *items;
    size_t n;
    int64_t first_us, died_us;
    unsigned attempts;
    int status;
    const char *reason;
    struct mj_span excerpt;
};
/* And what comes out of it: texts borrowed from the value, `id` and `reason` from this struct. */
struct mj__letter_in {
    struct mj_dead dead;
    char id[MJ_DELIVERY_ID_LEN + 1];
    char reason[256];
    size_t n;             /* items */
    struct mj_span heads; /* of those not taken yet */
    struct mj_span texts;
};
void mj__letter_put(struct mj_buf *out, const struct mj__letter *l);
/* 0, MJ_ETRUNC, MJ_ETRAILING, MJ_EINVAL. */
int mj__letter_take(struct mj_span value, struct mj__letter_in *out);
/* The next item: true, n times. */
bool mj__letter_next(struct mj__letter_in *l, struct mj_item *out);

/* All under the reader's lock: adds one; writes one over whose retry failed; drops one; all. */
void mj__dead_add(struct mj_reader *r, const struct mj__letter *l);
void mj__dead_replace(struct mj_reader *r, uint64_t id, const struct mj__letter *l);
void mj__dead_drop(struct mj_reader *r, uint64_t id);
void mj__dead_clear(struct mj_reader *r);
/* The value of a letter appended to `out`: 0, MJ_ENOENT or MJ_EIO. */
int mj__dead_read(struct mj_reader *r, uint64_t id, struct mj_buf *out);
/* Finds which letters disk has; the readers are there. */
void mj__dead_load(struct mj_readers *rs);

/* ---- reader_attempts.c ---- */

struct mj__attempts *mj__attempts_new(size_t count);
void mj__attempts_free(struct mj__attempts *a);
void mj__attempts_add(struct mj__attempts *a, const struct mj_attempt *one);
