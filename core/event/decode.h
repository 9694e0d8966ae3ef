/* From a firehose frame to events (spec/firehose.md §§2-6), level `record`: each create or update
 * must find its block in the CAR, and the block must hash to the operation's CID.
 *
 *   frame    header map, payload map, nothing else
 *   dropped  with the whole frame when mj_decode() returns an error; one by one, with the drop
 *            callback, when only an operation is bad: its siblings are handed over
 *
 * Whether a record obeys the data model is found out by whoever reads it: mj_record_check(), or
 * mj_jetstream_encode() while printing. Signatures and the tree are not looked at.
 *
 * The decoder owns reusable scratch (the operation list), so nothing is allocated per frame. One
 * decoder per thread. */
#pragma once

#include "base/err.h"
#include "event/event.h"

#define MJ_FRAME_MAX  5000000 /* bytes of a frame */
#define MJ_BLOCKS_MAX 2000000 /* bytes of a CAR in a frame */
#define MJ_OPS_MAX    200     /* operations of a commit */
#define MJ_RECORD_MAX 1048576 /* bytes of a record */

enum mj_frame_type {
    MJ_FRAME_UNKNOWN, /* op or t we do not know; seq is filled in when there is one */
    MJ_FRAME_COMMIT,
    MJ_FRAME_SYNC,
    MJ_FRAME_IDENTITY,
    MJ_FRAME_ACCOUNT,
    MJ_FRAME_INFO,  /* name, message */
    MJ_FRAME_ERROR, /* name (the `error` field), message */
    MJ_FRAME_TYPE_COUNT
};

struct mj_frame {
    enum mj_frame_type type;
    int64_t seq;                  /* 0 when the frame carries none */
    struct mj_span did, time;     /* borrowed from the frame; empty unless they are valid */
    struct mj_span name, message; /* info and error only */
    unsigned events;              /* handed to the callback */
    unsigned dropped;             /* operations dropped, one by one */
};

struct mj_decoder;

/* Called once per event in operation order. time_us is 0: the caller assigns it. A negative
 * return stops the frame and becomes mj_decode()'s result. */
typedef int (*mj_event_fn)(void *ctx, struct mj_event *ev);
/* Called once per dropped operation with the reason: MJ_EACTION, MJ_EPATH, MJ_EOPCID, MJ_EBLOCK,
 * MJ_ELIMIT (record too long, or operations that name one block add up to more than
 * MJ_BLOCKS_MAX) or MJ_EHASH. `path` is as it came: any text, maybe empty. */
typedef void (*mj_drop_fn)(void *ctx, int reason, struct mj_span path);

struct mj_decoder *mj_decoder_new(void);
void mj_decoder_free(struct mj_decoder *d);
void mj_decoder_on_drop(struct mj_decoder *d, mj_drop_fn fn, void *ctx);
/* Whether blocks are hashed; true unless said otherwise. Off is for measuring what hashing costs
 * and for frames that have been verified already. */
void mj_decoder_set_hash(struct mj_decoder *d, bool on);

/* Decodes one frame. 0 with *out filled; or the reason the whole frame is dropped (out->type and
 * out->seq are filled in when they could be read):
 *
 *   MJ_EBIG                 frame, MJ_FRAME_MAX
 *   MJ_EFRAME               not two maps and nothing else
 *   MJ_ETRUNC…MJ_EDEPTH, MJ_ECID   malformed CBOR in header or payload
 *   MJ_EFIELD               a required field is missing, a known one has the wrong type or range
 *   MJ_EDID, MJ_EREV, MJ_ETIME     syntax of did/repo, rev, time
 *   MJ_ETOOBIG, MJ_ELIMIT   tooBig commit; too many operations, blocks too long
 *   MJ_EDUPPATH             one path in two operations
 *   MJ_ECAR, MJ_EBLOCK      malformed CAR or another root than the commit; commit block missing
 *
 * Never reads outside `frame`, allocates nothing. */
int mj_decode(struct mj_decoder *d, struct mj_span frame, struct mj_frame *out, mj_event_fn fn,
              void *ctx);
