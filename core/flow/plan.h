/* The plan: the graphs of all scripts, compiled for the router. It is made anew whenever a graph
 * comes, goes or is replaced, and until that has succeeded the one before stays.
 *
 *   member    a script's graph, and whether it is paused
 *   flow      a root that is fed from the network; its number is its bit in the decision
 *   reader    a root that reads streams. Readers stand in an order in which each comes behind all
 *             that feed what it reads, so one pass serves them all; where there is no such order
 *             an event would go round for ever, and the plan is refused.
 *
 * Internal to the flow room. Borrows the graphs. */
#pragma once

#include "flow/graph.h"
#include "flow/streams.h"
#include "match/decision.h"

struct mj__member {
    struct mj_graph *graph; /* borrowed */
    struct mj_lane *lane;   /* borrowed: where it runs; NULL: here */
    bool paused, drop_main;
    bool pause_next, drop_next; /* what the two will be from the next event on */
};

struct mj__root {
    struct mj_node *node; /* borrowed */
    size_t member;        /* whose it is */
    unsigned number;      /* its place among the from nodes of its graph */
    uint64_t sources;     /* a reader's: streams that this router sees, not those within its lane */
    bool reads_record;    /* it or what it leads to looks into the record */
};

struct mj__plan {
    struct mj__member *members; /* owned, in load order */
    size_t member_count;
    struct mj__root *flows; /* owned; index = bit of the decision */
    size_t flow_count;
    size_t words;             /* of the bitmaps over flows */
    uint64_t *live;           /* owned bitmap: flows of members that are not paused */
    uint64_t *here;           /* owned bitmap: flows of members without a lane of their own */
    uint64_t *sound;          /* owned bitmap: flows that want the record checked */
    struct mj__root *readers; /* owned, in the order they run */
    size_t reader_count;
    struct mj_decision *decision; /* owned */
    bool has_lanes;
    bool any_paused;
    bool main_drawn; /* some script works on main … */
    bool main_sound; /* … and wants the record checked */
};

/* Compiles `members` (taken, also on an error) into *out. 0, or what mj_streams_add() says, or
 * MJ_EINVAL when streams feed each other in a circle, or a script in a lane of its own takes part
 * in main or shares a stream; then a sentence is appended to `error`. */
int mj__plan_make(struct mj__plan *out, struct mj__member *members, size_t count,
                  struct mj_streams *streams, struct mj_buf *error);
void mj__plan_deinit(struct mj__plan *p);
/* Takes over what mj_router_pause() has asked for. */
void mj__plan_apply_pauses(struct mj__plan *p);
