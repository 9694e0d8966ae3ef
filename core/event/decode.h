/* From a firehose frame to events (spec/firehose.md §§2-6), level `record`: each create or update
 * must find its block in the CAR, and the block must hash to the operation's CID.
 *
 * The decoder owns reusable scratch (block table, operation list), so the steady state allocates
 * nothing. One decoder per thread. */
#pragma once

#include "base/err.h"
#include "event/event.h"

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
    struct mj_span did, time;     /* borrowed from the frame; empty when absent */
    struct mj_span name, message; /* info and error only */
    unsigned events;              /* handed to the callback */
    unsigned dropped;             /* operations dropped, one by one, by reason in the decoder */
};

struct mj_decoder;

/* Called once per event in operation order. time_us is 0: the caller assigns it. A negative
 * return stops the frame and becomes mj_decode()'s result. */
typedef int (*mj_event_fn)(void *ctx, struct mj_event *ev);
/* Called once per dropped operation. `path` may be empty. */
typedef void (*mj_drop_fn)(void *ctx, int reason, struct mj_span path);

struct mj_decoder *mj_decoder_new(void);
void mj_decoder_free(struct mj_decoder *d);
void mj_decoder_on_drop(struct mj_decoder *d, mj_drop_fn fn, void *ctx);

/* Decodes one frame. 0 with *out filled; or the reason the whole frame is dropped (out->seq is
 * filled in when it could be read). Never reads outside `frame`, allocates only to grow scratch. */
int mj_decode(struct mj_decoder *d, struct mj_span frame, struct mj_frame *out, mj_event_fn fn,
              void *ctx);
