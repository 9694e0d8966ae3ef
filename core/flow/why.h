/* Why: what became of each of the last events, so that somebody can ask. A ring in memory, bounded
 * in bytes; the oldest goes when there is no room.
 *
 *   [ block: record record … ][ block: record … ][ block being written ]
 *
 *   record   32 bytes   key (hash of DID, collection and rkey), time_us, the upstream's seq, half
 *                       the DID's hash, source, kind, operation, whether main has it
 *            tail       only when something happened: rev, the reason it was dropped, a note of
 * four bytes per node that saw it, and the texts of errors
 *
 * An event that no flow wanted and that main has costs 32 bytes and some nanoseconds. The nodes of
 * main are noted only when they did something; of a flow, every node that saw the event is.
 *
 * Notes name nodes by the number of their graph, and the ring keeps a description of each graph
 * that it has known, so that a reload does not make old notes unreadable.
 *
 * Owns what it keeps. One thread, the router's, writes and reads it without a lock; a shared one is
 * for lanes, which write from several threads: it locks once per event. */
#pragma once

#include "flow/graph.h"

#define MJ_WHY_MIN  ((size_t)256 << 10) /* bytes; smaller ones are made that large */
#define MJ_WHY_TEXT 160                 /* bytes of an error that are kept */

/* What a node did with an event. */
enum mj_why_did {
    MJ_WHY_DROPPED,
    MJ_WHY_PASSED,
    MJ_WHY_EDITED,     /* … and it is another now */
    MJ_WHY_ERROR,      /* its function failed, and the event left the flow */
    MJ_WHY_ERROR_PASS, /* its function failed, and the event went on all the same */
    MJ_WHY_NO_ROOM,    /* each, batch, plug-in: its queue was full */
    MJ_WHY_PAUSED      /* the script was */
};
/* "dropped", "passed", … as in reports. */
const char *mj_why_did_name(enum mj_why_did did);

struct mj_why;

struct mj_why *mj_why_new(size_t bytes, bool shared);
void mj_why_free(struct mj_why *w); /* NULL is fine */

/* ---- looking, on the router's thread; a shared one from anywhere ---- */

struct mj_why_note {
    const char *script, *node,
        *file; /* borrowed during the call; "" when it is not known any more */
    unsigned line;
    enum mj_node_type type;
    enum mj_why_did did;
    struct mj_span text; /* of an error, or empty */
};

struct mj_why_seen {
    int64_t time_us; /* the stamp it got; when it was dropped before it got one, when that was */
    int64_t seq;     /* the upstream's; 0 for none */
    int source;      /* the journal's number; -1 for none */
    bool frame;      /* a whole frame was dropped: of what kind is not known */
    enum mj_kind kind;
    enum mj_op op;
    bool main;          /* the main stream has it */
    bool lane;          /* a part of the story: what flows in a lane, or behind one, did */
    int reason;         /* MJ_E… it was dropped for, or 0 */
    struct mj_span rev; /* empty when it is not kept */
    const struct mj_why_note *notes;
    size_t count;
    bool more; /* notes were left out */
};

struct mj_why_query {
    struct mj_span did, collection, rkey; /* collection empty: whatever is about the account */
};

/* Calls fn for each record of what is asked for, oldest first; everything is borrowed during the
 * call. False: stop. Frames of the account that were dropped are part of every answer. */
void mj_why_find(struct mj_why *w, const struct mj_why_query *q,
                 bool (*fn)(void *ctx, const struct mj_why_seen *seen), void *ctx);

struct mj_why_window {
    int64_t oldest_us, newest_us; /* 0: it is empty */
    uint64_t events;              /* held */
    uint64_t of_did;              /* of these, of the account */
    int64_t did_us;               /* the newest of these, or 0 */
    size_t bytes;                 /* it takes */
};
/* What it reaches back to; `did` may be empty. */
void mj_why_window(struct mj_why *w, struct mj_span did, struct mj_why_window *out);

/* Seqs that an upstream jumped over: [from, to). The newest are kept. */
struct mj_why_gap {
    int source;
    int64_t from, to, time_us;
};
void mj_why_gaps(struct mj_why *w, void (*fn)(void *ctx, const struct mj_why_gap *gap), void *ctx);

/* ---- writing; internal to the flow room ---- */

#define MJ__WHY_NOTES 1000
#define MJ__WHY_TEXTS 1024 /* bytes of errors of one event */
#define MJ__WHY_NAMES 512  /* collections whose hash is kept */

/* What has happened to the event that is being worked on. One per router. */
struct mj__why_notes {
    struct mj_why *why; /* borrowed; NULL: nobody wants to know */
    unsigned count;
    bool more;
    int reason;
    int source;
    size_t text_len;
    uint64_t names[MJ__WHY_NAMES]; /* hashes of collections, by id; 0: not made yet */
    uint32_t notes[MJ__WHY_NOTES];
    uint8_t texts[MJ__WHY_TEXTS]; /* note (2 bytes), length (1), text */
};

static inline void mj__why_begin(struct mj__why_notes *n)
{
    n->count = 0;
    n->more = false;
    n->reason = 0;
    n->text_len = 0;
}

/* A graph is the router's now: its nodes get their numbers. */
void mj__why_graph(struct mj_why *w, struct mj_graph *graph);
void mj__why_note(struct mj__why_notes *n, struct mj_node *node, enum mj_why_did did);
/* The event is done with. `collection`: its id, or 0. `main`: the main stream has it. */
void mj__why_event(struct mj__why_notes *n, const struct mj_event *ev, uint32_t collection,
                   bool main);
/* What a lane, or flows that read a lane's streams, did with it. */
void mj__why_aside(struct mj__why_notes *n, const struct mj_event *ev);
/* An operation was dropped while it was decoded; `path` is any text. did may be empty. */
void mj__why_operation(struct mj__why_notes *n, struct mj_span did, struct mj_span path,
                       int64_t seq, int reason);
/* A whole frame was. */
void mj__why_frame(struct mj__why_notes *n, struct mj_span did, int64_t seq, int reason);
/* A frame with that seq came. */
void mj__why_seq(struct mj__why_notes *n, int64_t seq);
