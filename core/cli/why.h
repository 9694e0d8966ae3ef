/* moonjet why, and moonjet ctl why: what became of one record, or of what came about an account.
 *
 *   ring of decisions (flow/why.h) ─┐
 *   journal: entries, notes ────────┼─▶ report (JSON) ─▶ text for people
 *   graphs: what said no ───────────┤
 *   attempts, dead letters ─────────┘
 *
 * The journal may hold days, so it is searched on a thread of its own when a router runs
 * (run_why.c); all else is quick, and done on the router's. What each part knows is put into one
 * report there. Internal to core/cli. */
#pragma once

#include <stdatomic.h>

#include "flow/why.h"
#include "journal/journal.h"

/* ---- what is asked for: why_target.c ---- */

struct why_target {
    struct mj_buf text;                   /* owned: "at://…" or the DID */
    struct mj_span did, collection, rkey; /* borrowed from it; collection empty: the account */
};

/* at://DID/COLLECTION/RKEY, a link to a post, list or feed on bsky.app, or a DID. 0, or MJ_ESYNTAX
 * with a sentence appended to `error`. */
int why_target_parse(const char *given, struct why_target *out, struct mj_buf *error);
void why_target_deinit(struct why_target *t);
/* Is that event what was asked for? */
struct mj_from_json;
bool why_target_is(const struct why_target *t, struct mj_from_json *reader, struct mj_span json);

/* The same, with a handle where a DID should be looked up first; it may take some seconds. 0;
 * MJ_ESYNTAX as above; MJ_ENOENT or MJ_EIO when the look-up fails, with a sentence. */
struct why_lookup {
    const char *plc, *dns; /* borrowed; NULL: as moonjet run has them by default */
};
int why_target_ask(const char *given, const struct why_lookup *l, struct why_target *out,
                   struct mj_buf *error);
/* why_handle.c: the DID of a handle, appended to `did`. */
int why_handle_resolve(struct mj_span handle, const struct why_lookup *l, struct mj_buf *did,
                       struct mj_buf *error);

/* ---- what the journal has: why_search.c ---- */

#define WHY_ENTRIES_MAX 200 /* the newest are told */
#define WHY_NOTES_MAX   200 /* of one entry */
#define WHY_PAUSES_MAX  8

/* A reader that an entry is for. */
struct why_noted {
    char *reader; /* owned: "SCRIPT NODE" */
    uint64_t seq; /* of the note */
};

struct why_entry {
    uint64_t seq;
    int64_t time_us;
    uint64_t streams;
    uint8_t kind, op;
    struct mj_buf json;      /* owned */
    struct why_noted *notes; /* owned */
    size_t note_count;
    int64_t upstream_seq;     /* as a note says; 0 when it has none */
    struct mj_buf deliveries; /* owned: JSON objects with commas between them */
};

struct why_found {
    struct why_entry *entries; /* owned, oldest first */
    size_t count;
    uint64_t left_out; /* older ones that there are, too */
    uint64_t floor, end;
    int64_t floor_us, newest_us; /* 0: nothing is kept */
    uint64_t of_did;             /* entries of the account, as far as half a hash tells */
    int64_t did_us;              /* the newest of these, or 0 */
    struct {
        int64_t from_us, to_us;
    } pauses[WHY_PAUSES_MAX]; /* nothing came, around when the record was made; the longest */
    size_t pause_count;
    bool damaged;          /* a part could not be read */
    bool asked;            /* why_deliveries() was called: there are readers to know of */
    struct mj_buf letters; /* owned: dead letters about it, as JSON objects with commas between */
};

/* Reads the whole journal, a second or so for a day of it; with a view of its own, on any thread.
 * `stop` (may be NULL) ends it early. */
void why_search(struct mj_journal *journal, const struct why_target *target,
                const _Atomic bool *stop, struct why_found *out);
void why_found_deinit(struct why_found *f);

/* ---- what was delivered: why_deliveries.c ---- */

struct mj_readers;

/* Adds to what was found; on any thread. */
void why_deliveries(struct mj_readers *readers, const struct why_target *target,
                    const _Atomic bool *stop, struct why_found *found);

/* ---- the report: why_report.c ---- */

struct why_graph {
    const struct mj_graph *graph; /* borrowed */
    bool lane;                    /* it runs in one */
};

struct why_world {
    const struct why_target *target;
    const struct why_found *found;
    struct mj_why *rings[2];  /* borrowed; NULL: there is none */
    struct why_graph *graphs; /* borrowed: those that run, or were named */
    size_t graph_count;
    bool running;
    const char *(*stream)(void *ctx, unsigned bit); /* name, or NULL */
    const char *(*source)(void *ctx, int number);   /* URL, or NULL */
    void *ctx;
};

/* Appends the report as one JSON object. True when it arrived. */
bool why_report(const struct why_world *world, struct mj_buf *json);

/* ---- moonjet ctl why: ctl_why.c ---- */

/* Asks, and prints the answer; an exit status: 0 it arrived, 1 it did not, 2 there is no answer. */
int mj__ctl_why(const char *socket, const char *given, const struct why_lookup *lookup, bool json);

/* ---- for people: why_show.c ---- */

/* Appends the report as text. `colour`: with ANSI colours. Returns the exit status: 0 it arrived, 1
 * it did not; MJ_EXIT_USAGE with nothing appended when that is no report. */
int why_show(struct mj_span json, bool colour, struct mj_buf *out);
