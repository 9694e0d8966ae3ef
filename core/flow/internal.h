/* What router and lanes need of each other. Internal to the flow room. */
#pragma once

#include "event/kept.h"
#include "flow/exit.h"
#include "flow/lane.h"

#define MJ__ROOT_WORDS ((MJ_NODES_MAX + 63) / 64)

/* ---- router.c and swap.c, for lanes ---- */

/* mj_router_swap(); with `lane`, the graph runs there. */
int mj__router_swap(struct mj_router *r, struct mj_graph *old, struct mj_graph *graph,
                    struct mj_lane *lane, struct mj_buf *error);
/* The one graph of a lane's router. */
struct mj_graph *mj__router_graph(struct mj_router *r);
/* Runs the roots whose numbers are set (their place among the graph's from nodes), and what reads
 * the streams they feed. Each result goes to fn. */
typedef void (*mj__result_fn)(void *ctx, const struct mj_event *ev, const struct mj__way *way);
void mj__router_run(struct mj_router *r, const struct mj_event *ev, const uint64_t *roots,
                    mj__result_fn fn, void *ctx);
/* Appends a lane's result under a stamp of its own, after flows of others that read its streams. */
int mj__router_inject(struct mj_router *r, const struct mj_event *ev, const struct mj__way *way);
void mj__router_forget(struct mj_router *r, struct mj_lane *lane);
/* What nodes of the same name have seen goes over to the new graph. */
void mj__graph_adopt(struct mj_graph *graph, const struct mj_graph *old);

/* ---- lane.c, for the router; on lane 0 ---- */

/* The event on its way is for this root. */
void mj__lane_mark(struct mj_lane *lane, unsigned root);
/* Queues the event for the roots marked, if any; *kept is its copy, made when first needed. */
void mj__lane_push(struct mj_lane *lane, const struct mj_event *ev, struct mj_kept **kept);
/* With lag "wait": waits until the queue has room again. Appends results meanwhile. */
void mj__lane_settle(struct mj_lane *lane);
/* Shows the lane's thread what was queued. */
void mj__lane_hand_over(struct mj_lane *lane);
/* For cursors: what is queued now must be in the journal before `source` may move on. */
void mj__lane_note(struct mj_lane *lane, int source);
/* Whether it is; source -1: all that was ever queued. True for lanes that may skip. */
bool mj__lane_caught_up(const struct mj_lane *lane, int source);
/* Appends its results, but none while some of the lane it replaces are still to come. */
void mj__lane_collect(struct mj_lane *lane);
/* Nothing more will be queued. */
void mj__lane_close(struct mj_lane *lane);
/* Waits until a closed lane has worked everything off, for budget_us at most: the rest is dropped.
 */
void mj__lane_finish(struct mj_lane *lane, int64_t budget_us);
/* `gone` is about to be freed. */
void mj__lane_let_go(struct mj_lane *lane, const struct mj_lane *gone);
/* Its thread begins: after the thread of `old` (a lane, or NULL) has ended; `seen` is the graph
 * whose nodes' memory it takes over then, or NULL. */
void mj__lane_start(struct mj_lane *lane, struct mj_router *r, struct mj_lane *old,
                    struct mj_graph *seen);
