/* A look at a frame without decoding it: what kind it is and where its seq stands. Costs a few
 * dozen nanoseconds because commits carry `ops` and `seq` before their blocks. For whoever passes
 * frames on (replay) or must know the seq first (the firehose client). It finds its way by the
 * structure alone; whether a frame is good is for the decoder to say. */
#pragma once

#include "event/decode.h"

struct mj_peek {
    int64_t op;             /* 1 message, -1 error */
    struct mj_span t;       /* "#commit"; borrowed, empty when absent */
    struct mj_span payload; /* the second item, to the end of the frame */
    int64_t seq;            /* 0 when absent */
    struct mj_span seq_at;  /* the integer's bytes in the frame; empty when absent */
    struct mj_span time;    /* empty when absent or not reached; see mj_peek() */
};

/* 0, or MJ_EFRAME. Stops at the payload's seq when `want_time` is false, so what follows it is not
 * looked at; otherwise walks the whole payload, which must be the rest of the frame. */
int mj_peek(struct mj_span frame, bool want_time, struct mj_peek *out);
