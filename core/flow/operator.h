/* Operators that run without the user's code.
 *
 *   strip, keep, redact     edit the record, as a map node does: the result is in node->patch
 *   sample, dedupe, limit   pass or drop, by a key of the event
 *
 * The key is a field of the event, as scripts call them (MJ_BY_FIELDS; what is a record, a list or
 * only there for readers is none), a path of the record, or what node->key finds out. An event
 * without it (a delete has no text) is let through by dedupe and limit, and sampled by its DID.
 *
 * dedupe remembers a key from when it let an event with it through: for `within`, and then the next
 * one passes. limit is a bucket per key that holds `burst` and is refilled at the rate (kept as the
 * time when it will be full, so a key takes 16 bytes and nothing runs between events). Time is the
 * event's time_us; memory is bounded by `max` (flow/recent.h). */
#pragma once

#include "flow/graph.h"

#define MJ_OPERATOR_PATHS 32
#define MJ_OPERATOR_MAX   100000 /* keys remembered unless said otherwise */

#define MJ_BY_FIELDS(X)                                                                            \
    X(MJ_BY_DID, "did")                                                                            \
    X(MJ_BY_URI, "uri")                                                                            \
    X(MJ_BY_COLLECTION, "collection")                                                              \
    X(MJ_BY_TEXT, "text")                                                                          \
    X(MJ_BY_RKEY, "rkey")                                                                          \
    X(MJ_BY_REV, "rev")                                                                            \
    X(MJ_BY_CID, "cid")                                                                            \
    X(MJ_BY_KIND, "kind")                                                                          \
    X(MJ_BY_OP, "op")                                                                              \
    X(MJ_BY_SEQ, "seq")                                                                            \
    X(MJ_BY_TIME, "time")                                                                          \
    X(MJ_BY_TIME_US, "time_us")                                                                    \
    X(MJ_BY_ACTIVE, "active")                                                                      \
    X(MJ_BY_STATUS, "status")                                                                      \
    X(MJ_BY_HANDLE, "handle")

enum mj_by {
    MJ_BY_ALL,
#define X(by, name) by,
    MJ_BY_FIELDS(X)
#undef X
        MJ_BY_PATH,
    MJ_BY_KEY
};

struct mj_operator_cfg {
    enum mj_node_type type;      /* MJ_NODE_STRIP … MJ_NODE_LIMIT */
    const struct mj_span *paths; /* borrowed; strip, keep: any; redact: one */
    size_t path_count;           /* 1 to MJ_OPERATOR_PATHS */
    struct mj_span text;         /* borrowed; redact: what is put there */
    double part;                 /* sample: 0 to 1 */
    enum mj_by by;               /* sample, dedupe, limit */
    struct mj_span by_path;      /* borrowed; MJ_BY_PATH */
    int64_t within_us;           /* dedupe: 1 or more */
    int64_t count, period_us;    /* limit: as of mj_rate_parse() */
    int64_t burst;               /* limit: 1 to 1e9; 0 = count */
    int64_t max;                 /* dedupe, limit: 1 to MJ_RECENT_MAX; 0 = MJ_OPERATOR_MAX */
};

/* What `by` names: a field, else MJ_BY_PATH. */
enum mj_by mj_by_named(struct mj_span name);
/* 0 with a new operator for node->op; MJ_ESYNTAX, MJ_ELIMIT or MJ_EINVAL with a sentence appended
 * to `error`. */
int mj_operator_new(const struct mj_operator_cfg *cfg, struct mj_operator **out,
                    struct mj_buf *error);
void mj_operator_free(struct mj_operator *o); /* NULL is fine */
/* The options as people write them: `"a.b", "c"`, `{ by = "did", within = "30m" }`. Borrowed. */
const char *mj_operator_text(const struct mj_operator *o);
bool mj_operator_reads_record(const struct mj_operator *o);
/* A key as mj_key_fn returns it. Seeded per process, so that no stranger can find two texts of one
 * key. */
uint64_t mj_key_hash(struct mj_span bytes);

/* Runs the node's operator. Internal to the flow room, like the rest. */
enum mj_verdict mj__operator_run(struct mj_node *node, const struct mj_event *ev);
/* Takes over what an operator of the same options has seen; both stay whole. */
void mj__operator_adopt(struct mj_operator *o, struct mj_operator *old);

/* keep.c: the paths of a keep node as a tree. */
struct mj__keep;
struct mj__keep *mj__keep_new(const struct mj_path *paths, size_t count); /* paths: borrowed */
void mj__keep_free(struct mj__keep *k);
/* Appends what the paths leave of the record (checked CBOR). */
void mj__keep_write(struct mj__keep *k, struct mj_span record, struct mj_buf *out);
