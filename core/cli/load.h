/* What `moonjet load` is made of.
 *
 *   class        one filter; all its subscribers must see the same sequence of time_us
 *   log          that sequence, as the union of what they saw: a leader appends, the others walk
 *                along it, so that following costs one comparison per event
 *   place        where one subscriber is in the log of its class
 *   subscriber   a socket, its place, its figures
 *
 *   log    [101][102][104][107][109]
 *                 ▲first    ▲next        received 2 of the 2 entries in [first, next)
 *
 * Every event received is in the log, so what a subscriber missed is what lies between its first
 * and its last event, less what it received. */
#pragma once

#include "base/bytes.h"
#include "base/http.h"
#include "base/options.h"

/* ---- the log of a class (load_check.c) ---- */

#define MJ__LOAD_LOG_MAX     (1u << 22) /* entries; then the older half goes */
#define MJ__LOAD_INSERTS_MAX 10000 /* so many that the leader missed; then nothing is compared */

struct mj__load_log {
    int64_t *times;   /* owned: rising */
    uint64_t *packed; /* owned: hash of the compressed message, 0 = not known; NULL: not wanted */
    uint64_t *dids;   /* owned: hash of the DID; NULL: not wanted */
    size_t len, cap;
    uint64_t base;               /* number of times[0]: entries dropped before it */
    uint64_t inserts;            /* entries that their leader did not have */
    bool want_packed, want_dids; /* set before the first event */
};

struct mj__load_place {
    int64_t first, last; /* time_us; first 0: nothing received since the last settling */
    uint64_t next;       /* number of the entry expected next: a hint */
    uint64_t received;   /* events since first */
};

enum mj__load_order { MJ__LOAD_RISING, MJ__LOAD_DUPLICATE, MJ__LOAD_DISORDER };

void mj__load_log_deinit(struct mj__load_log *l);
/* An event of a subscriber. did: hash, used when the log wants it. */
enum mj__load_order mj__load_note(struct mj__load_log *l, struct mj__load_place *p, int64_t time_us,
                                  uint64_t did);
/* The time_us of the entry expected next if it is known to come as this compressed message; 0. */
int64_t mj__load_known(const struct mj__load_log *l, const struct mj__load_place *p, uint64_t hash);
/* Remembers the compressed form of the event noted last. */
void mj__load_remember(struct mj__load_log *l, const struct mj__load_place *p, uint64_t hash);
/* What the subscriber has missed since the last settling. */
uint64_t mj__load_settle(const struct mj__load_log *l, struct mj__load_place *p);
/* Full: the owner settles all places, then trims. */
static inline bool mj__load_full(const struct mj__load_log *l)
{
    return l->len >= MJ__LOAD_LOG_MAX;
}
void mj__load_trim(struct mj__load_log *l);
/* How many events `part`, a filtered log, lacks of `whole` or has beyond it, where both reach:
 * `dids` are the sorted hashes of the DIDs it is filtered by. */
uint64_t mj__load_compare(const struct mj__load_log *whole, const struct mj__load_log *part,
                          const uint64_t *dids, size_t n);

/* ---- events ---- */

struct mj__load_event {
    struct mj_span did;
    int64_t time_us; /* 0: not an event */
};
/* The first two members of a v1 event, found by position. */
struct mj__load_event mj__load_event(struct mj_span json);
/* When the commit was made, by its rev; 0 when there is none. */
int64_t mj__load_stamp(struct mj_span json);

/* What a filter lets through, by the same rules as the server's. */
struct mj__load_filter {
    uint64_t *dids; /* owned, sorted hashes; none: any */
    size_t did_count;
    struct mj_buf collections; /* wanted, each behind its length (one byte); empty: any */
};
/* From the wantedDids and wantedCollections of a query string. */
void mj__load_filter_init(struct mj__load_filter *f, struct mj_span query);
void mj__load_filter_deinit(struct mj__load_filter *f);
bool mj__load_passes(const struct mj__load_filter *f, uint64_t did, struct mj_span json);

/* ---- latency ---- */

/* Microseconds, in buckets a 32nd of their value wide. */
#define MJ__LOAD_BUCKETS (60 * 32)
struct mj__load_histogram {
    uint64_t buckets[MJ__LOAD_BUCKETS];
    uint64_t count;
    int64_t max;
};
void mj__load_measure(struct mj__load_histogram *h, int64_t us);
/* The value that this share (0…1) of all does not exceed; 0 when empty. */
int64_t mj__load_percentile(const struct mj__load_histogram *h, double share);

/* ---- the run (load_run.c) ---- */

struct mj__load_class {
    char *query; /* owned: "wantedDids=…&…", maybe "" */
    unsigned weight;
    bool zstd, from_scout; /* zstd: by the query; from_scout: a DID filter that we chose */
    struct mj__load_filter filter;
    struct mj__load_log log;
};

struct mj__load_cfg {
    struct mj_url url;
    struct mj_span dictionary;                                /* borrowed; {NULL, 0}: no zstd */
    const char *cursor;                                       /* NULL: live */
    size_t subscribers, stalled, filters, filter_dids, churn; /* churn: per second */
    unsigned zstd_percent;
    int64_t ramp_us, duration_us; /* duration 0: until a signal */
    uint64_t events;              /* end once everybody has so many; 0: no matter */
    bool stamp, progress;
};

#define MJ__LOAD_ENDS 32
struct mj__load_end {
    char why[96]; /* of the first one */
    int code;     /* of the close frame, or the HTTP status; 0: neither */
    uint64_t count;
};

/* What a run found. Figures marked * are of the window: live, from when everybody was there; of a
 * replay, from its start. */
struct mj__load_result {
    uint64_t opened, refused, messages, events, bytes, churned;
    uint64_t duplicates, disorder, missing, wrong, malformed, unlike, starved;
    uint64_t stalled_open, stalled_cut;
    uint64_t window_events, window_bytes, fewest, most; /* * */
    double mean, deviation;                             /* * of events per equal subscriber */
    double seconds, cpu_seconds, ramp_seconds;          /* * the first two */
    struct mj__load_histogram latency, stamped;         /* * */
    struct mj__load_end ends[MJ__LOAD_ENDS];            /* not asked for by us */
    size_t end_count, equal; /* equal: how many subscribers fewest … deviation are about */
    size_t scouted;          /* DID filters that could be made */
    bool interrupted;
};

/* classes: borrowed, `count` of them (1 or more); those of cfg->filters are added to it, so it must
 * have room for them. 0, or MJ_EXIT_FAILED after a message. */
int mj__load_run(const struct mj__load_cfg *cfg, struct mj__load_class *classes, size_t count,
                 struct mj__load_result *out);
/* Nothing went wrong. */
bool mj__load_passed(const struct mj__load_result *r);
