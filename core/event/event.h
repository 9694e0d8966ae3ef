/* The event: the one value that travels through Moonjet. It is what one operation of a commit, an
 * identity message or an account message says, as scalars and spans into the frame it came in.
 *
 * Built by event/decode.c, read by flows and encoders. It is only valid during the callback that
 * hands it over; whoever needs it longer copies. Nobody changes it: a flow's edits are a patch
 * beside it (event/patch.h). */
#pragma once

#include "atproto/cid.h"
#include "base/bytes.h"

enum mj_kind { MJ_KIND_COMMIT, MJ_KIND_IDENTITY, MJ_KIND_ACCOUNT };
enum mj_op { MJ_OP_NONE, MJ_OP_CREATE, MJ_OP_UPDATE, MJ_OP_DELETE };

struct mj_event {
    enum mj_kind kind;
    enum mj_op op;   /* commit only */
    int64_t seq;     /* the upstream's */
    int64_t time_us; /* Unix µs, ours: strictly increasing in arrival order */
    struct mj_span did;
    struct mj_span time; /* the upstream's `time`, verbatim */
    bool plain; /* did, time, collection, rkey and rev have passed their syntax checks, so they
                 * hold nothing that JSON escapes; false is always safe */
    /* commit */
    struct mj_span collection, rkey, rev;
    struct mj_span cid;    /* binary CID of the record; empty for a delete */
    struct mj_span record; /* DAG-CBOR block; empty for a delete */
    bool record_checked;   /* mj_record_check() has passed */
    /* identity: handle; account: active, status. Absent = {NULL, 0}. */
    struct mj_span handle, status;
    bool active;
    /* of one that a durable reader gives: what it is delivered under, the same each time; else
     * {NULL, 0} */
    struct mj_span id;
};

/* "commit", "identity", "account"; "create", "update", "delete", "" */
const char *mj_kind_name(enum mj_kind k);
const char *mj_op_name(enum mj_op op);
/* The record obeys DRISL and the data model (spec/firehose.md §5, rules 1-17) and is no longer than
 * the containers and keys of spec/firehose.md §9 allow. Accepts exactly what mj_jetstream_encode()
 * prints. 0, MJ_ETRUNC…MJ_EDEPTH, MJ_ECID, MJ_ELIMIT, or MJ_ERECORD for rules 16 and 17. */
int mj_record_check(struct mj_span record);
