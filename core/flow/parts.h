/* A router's parts, for the two files it is made of: router.c has what happens to events, swap.c
 * which graphs there are. Internal to the flow room. */
#pragma once

#include "base/log.h"
#include "flow/cursors.h"
#include "flow/plan.h"
#include "flow/why.h"

/* The first so many collections have series of their own, the rest shares one. */
#define MJ__OPS_COLLECTIONS 500

/* One version of the event on its way out. */
struct mj__output {
    const struct mj_event *ev; /* borrowed: the event as it came, or a map node's */
    uint64_t streams;
    unsigned prints; /* how many print nodes want it */
};

/* A durable reader that gets one of the outputs. */
struct mj__noted {
    struct mj_reader *reader; /* borrowed */
    size_t output;            /* its place */
};

struct mj_router {
    struct mj__exit exit;
    struct mj_streams *streams; /* borrowed, may be NULL */
    struct mj_decoder *decoder;

    struct mj__plan plan;
    bool pauses_changed;    /* mj_router_pause() has asked for something */
    struct mj_lane **lanes; /* owned array of borrowed ones, oldest first, also swapped out */
    size_t lane_count;

    struct mj__cursors cursors;

    struct mj__output *outputs; /* owned, reused per event */
    size_t output_count, output_cap;
    struct mj__noted *noted; /* owned, reused per event */
    size_t noted_count, noted_cap;
    struct mj_reader **readers; /* owned, reused: of one output */
    size_t readers_cap;
    struct mj_kept **copies; /* owned: outputs whose nodes have run again since */
    size_t copy_count, copy_cap;

    struct mj__why_notes why;
    const struct mj_frame *frame; /* borrowed: being decoded; else NULL */

    struct mj_metric *frames[MJ_FRAME_TYPE_COUNT];
    struct mj_metric *events;
    struct mj_metric
        *ops[MJ__OPS_COLLECTIONS + 1][MJ_OP_DELETE + 1]; /* by collection id, 0: the rest */
    struct mj_metric *drops[MJ_ERR_MAX];
    struct mj_log_gate drop_gate;
};
