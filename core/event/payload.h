/* Reading a frame's two maps: which fields came, of which type, with what value. Whether that makes
 * a message is for decode.c to say. Internal to the event room.
 *
 * Keys may come in any order, since neither map is ever hashed, and unknown ones are stepped over;
 * but every byte must be strict CBOR. All spans are borrowed from the frame. */
#pragma once

#include "event/decode.h"

#define MJ__SEQ_MAX ((1ll << 53) - 1)

/* An operation of a commit. */
struct mj__op {
    enum mj_op action;    /* MJ_OP_NONE: one we do not know */
    struct mj_span path;  /* borrowed from the frame */
    struct mj_span cid;   /* borrowed; empty: null */
    struct mj_span block; /* borrowed; ptr NULL until found in the CAR */
};

/* The payload's fields, those of all message types together. A bit of `have` says that a field
 * came with the type it should have, a bit of `bad` that it came with another. Null counts as
 * absent. */
enum {
    MJ__DID = 1 << 0,
    MJ__REPO = 1 << 1,
    MJ__REV = 1 << 2,
    MJ__SEQ = 1 << 3,
    MJ__TIME = 1 << 4,
    MJ__OPS = 1 << 5,
    MJ__BLOCKS = 1 << 6,
    MJ__COMMIT = 1 << 7,
    MJ__TOO_BIG = 1 << 8,
    MJ__ACTIVE = 1 << 9,
    MJ__STATUS = 1 << 10,
    MJ__HANDLE = 1 << 11,
    MJ__NAME = 1 << 12,
    MJ__MESSAGE = 1 << 13,
    MJ__ERROR = 1 << 14
};

struct mj__payload {
    unsigned have, bad, seen;
    int64_t seq;
    bool too_big, active;
    struct mj_span did, repo, rev, time, blocks, commit;
    struct mj_span status, handle, name, message, error;
    unsigned nops;      /* operations in ops; MJ_OPS_MAX + 1 when there are more */
    struct mj__op *ops; /* borrowed from the caller: room for MJ_OPS_MAX */
};

/* Reads both maps of a frame that is not empty. `p` is zero but for `ops`. 0 with *op (1, -1, or 0
 * for one we do not know) and *t filled in; or MJ_EFRAME, MJ_EFIELD for a bad header or operation
 * list, or what is wrong with the CBOR. What was read until then stays in *p. */
int mj__payload_read(struct mj_span frame, struct mj__payload *p, int *op, struct mj_span *t);
