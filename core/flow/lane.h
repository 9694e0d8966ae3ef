/* A lane: a script in a thread of its own. Lane 0, the router's thread, decides which events the
 * script wants and hands over copies; what leaves the script's flows comes back, and lane 0 appends
 * it, so the journal has one writer.
 *
 *   lane 0   match ──▶ kept event ──▶ [ queue ] ──▶ flows, Lua, tasks     the lane's thread
 *            append ◀── flows that read its streams ◀── [ results ] ◀──┘
 *
 * Both directions are in order, so a DID's events stay in order. The queue is bounded, in events
 * and bytes; when it is full the script's lag policy decides: skip drops the event for this script
 * and counts it, wait makes lane 0 wait for room, and with it the sources and everybody else.
 *
 * A lane's script has no part in main, and what it feeds, no other script feeds: the order in such
 * a stream would be an accident.
 *
 * When a lane is replaced, the old one works off what it was given, and the new one begins after
 * that.
 *
 * With lag "wait" the cursor of a source moves only when what the lane makes of its events is in
 * the journal: after a crash they are read again, and so come twice to everybody else. With "skip"
 * what was in the queue when the process died is lost to this script. */
#pragma once

#include "flow/router.h"

struct mj_lane;

enum mj_lag { MJ_LAG_SKIP, MJ_LAG_WAIT };

struct mj_lane_cfg {
    const char *script; /* label in logs and metrics; borrowed during mj_lane_new() */
    size_t events;      /* that may wait; 0 = 4096 */
    size_t bytes;       /* of these; 0 = 64 MiB */
    enum mj_lag lag;
    /* On the lane's thread, must only signal: there are results, so lane 0 should call
     * mj_router_flush(…, -1, 0). May be NULL when lane 0 flushes often anyhow. */
    void (*wake)(void *ctx);
    /* On the lane's thread, between events: runs tasks for about budget_us and returns after how
     * many µs it wants to be called again (negative: when something happens). NULL: no tasks. */
    int64_t (*run)(void *ctx, int64_t budget_us);
    void *ctx; /* borrowed: wake's and run's own */
};

/* A lane without a thread yet. Never NULL. */
struct mj_lane *mj_lane_new(const struct mj_lane_cfg *cfg);
/* Where its script's graph is added, once, before mj_lane_swap(). Borrowed. */
struct mj_router *mj_lane_router(struct mj_lane *lane);
/* As mj_router_swap(), with the lane's graph; starts its thread, which from now on is the only one
 * that may touch the lane's router, graph and VM. MJ_EINVAL with a sentence in `error` when the
 * script takes part in main, or shares a stream; MJ_ENOMEM when there is no thread to have. On lane
 * 0. */
int mj_lane_swap(struct mj_router *r, struct mj_graph *old, struct mj_lane *lane,
                 struct mj_buf *error);
/* Whether mj_lane_swap() would take a lane with that graph in the place of `old` (NULL: at the
 * end). Same errors; changes nothing but that streams get their bits. On lane 0. */
int mj_lane_check(struct mj_router *r, const struct mj_graph *old, struct mj_graph *graph,
                  struct mj_buf *error);
/* Calls fn on the lane's thread, soon; for answers that its tasks wait for. False when the lane has
 * ended; fn is not called then. Any thread. */
bool mj_lane_post(struct mj_lane *lane, void (*fn)(void *ctx), void *ctx);
/* Wakes the lane so that it calls `run`. Any thread. */
void mj_lane_wake(struct mj_lane *lane);
/* Lets it work off its queue for budget_us at most (what is left is dropped and counted) and ends
 * its thread; its router, graph and VM are lane 0's again. It may then be replaced with
 * mj_lane_swap(), or freed. On lane 0. */
void mj_lane_end(struct mj_lane *lane, int64_t budget_us);
/* Whether it has dropped, or will drop, events of sources whose cursors wait for it (lag "wait").
 * Who ends the process then calls mj_router_hold(). Any thread. */
bool mj_lane_gave_up(struct mj_lane *lane);
/* True when a lane that was swapped out has worked everything off. On lane 0. */
bool mj_lane_done(struct mj_lane *lane);
/* Swaps the lane out of its router if need be, lets it work off its queue for budget_us at most
 * (what is left is dropped and counted), and ends its thread. On lane 0, before its router and its
 * script are freed. NULL is fine. */
void mj_lane_free(struct mj_lane *lane, int64_t budget_us);
