/* The router: takes frames from the sources, decodes them, lets every script's flows see each
 * event, and appends what is left to the journal. One router, one thread; it never blocks, but for
 * a lane that asks for it (flow/lane.h).
 *
 *   frame ─▶ decode ─▶ event ─▶ match ─▶ flows (Lua) ─▶ main and named streams ─▶ journal
 *                                                         └▶ flows that read streams ─▶ …
 *
 * The main stream is one line through all scripts in the order they were added: each narrows or
 * rewrites what the ones before let through. Every other flow starts from the event as it came, so
 * one script's edits never show in another's streams; flows that read a stream start from what the
 * others put there, in the same pass.
 *
 * What leaves the flows is encoded once per version of the event: streams that get the same
 * version share one entry, an edited version is an entry of its own.
 *
 * Owns the decoder and scratch; borrows the journal, the stream names and the graphs. */
#pragma once

#include "event/decode.h"
#include "flow/graph.h"
#include "flow/streams.h"
#include "journal/journal.h"

struct mj_router;

/* journal NULL: nothing is kept (`jet.print()` still prints). Without graphs every event goes to
 * main at full speed. */
struct mj_router *mj_router_new(struct mj_journal *journal);
void mj_router_free(struct mj_router *r);

/* Where stream names are registered; before the first graph with a stream is added. Borrowed. */
void mj_router_set_streams(struct mj_router *r, struct mj_streams *streams);
/* Where durable readers are found and made; before the first graph with a durable end is added.
 * Borrowed, as long as the router; of its journal. Without, durable ends run as other ends do. */
void mj_router_set_readers(struct mj_router *r, struct mj_readers *readers);
/* Adds a script's graph (borrowed until it is swapped out or the router is freed) behind those
 * already there. 0, or with a sentence appended to `error` MJ_ELIMIT, MJ_ESYNTAX, MJ_EIO when its
 * streams cannot be had, MJ_EINVAL when streams would feed each other in a circle; then nothing was
 * added. Between frames only. */
int mj_router_add(struct mj_router *r, struct mj_graph *graph, struct mj_buf *error);

/* Puts `graph` where `old` is, between two frames: its flows and its part of main; what dedupe and
 * limit nodes of the same name and options have seen goes over to it, and it is not paused. `old`
 * NULL: at the end; `graph` NULL: takes `old` away. Errors as mj_router_add(), MJ_ENOENT when the
 * router does not have `old`, and then everything stays. `old` may be freed when this returns.
 *
 * A stream that nobody feeds any more can still be subscribed to, and is silent, until the
 * process ends: its subscribers must not be cut because a script is being worked on. */
int mj_router_swap(struct mj_router *r, struct mj_graph *old, struct mj_graph *graph,
                   struct mj_buf *error);
/* While a graph is paused its flows get no events. Its part of main passes events as they come, or
 * with `drop_main` none. Between frames, or from a node's fn; it counts from the next event on. */
void mj_router_pause(struct mj_router *r, struct mj_graph *graph, bool paused, bool drop_main);
/* Sees everything that leaves the flows, as it is about to be appended: for the test runner, the
 * backtest and the repl. `streams` has a bit per stream of mj_streams_bit(), none when it only goes
 * to print nodes; `prints` is how many of these it reached. `ev` and `json` are borrowed during the
 * call. fn NULL: nobody. */
typedef void (*mj_output_fn)(void *ctx, const struct mj_event *ev, struct mj_span json,
                             uint64_t streams, unsigned prints);
void mj_router_on_output(struct mj_router *r, mj_output_fn fn, void *ctx);
/* Whether print nodes write to stdout; true unless said otherwise. */
void mj_router_set_stdout(struct mj_router *r, bool on);
/* What stamps events, Unix µs; NULL (the default): the journal's clock, or the system's without a
 * journal. Stamps of what leaves the flows only grow, whatever the clock does. dedupe and
 * limit go by the stamps, so a clock that stands still stands still for them. */
void mj_router_set_clock(struct mj_router *r, int64_t (*now_us)(void *ctx), void *ctx);

/* Where decisions are remembered (flow/why.h). Before the first graph is added; borrowed; NULL (the
 * default): nowhere. */
struct mj_why;
void mj_router_set_why(struct mj_router *r, struct mj_why *why);
/* What follows comes from that source, of mj_journal_source(); -1 (the default): nobody knows. */
void mj_router_set_source(struct mj_router *r, int source);

/* Routes one frame. 0 with *out filled (its `name`/`message` matter for info and error frames,
 * which the source must act on), or the reason the whole frame was dropped; drops are already
 * counted. Nothing is visible to readers before mj_router_flush(). */
int mj_router_frame(struct mj_router *r, struct mj_span frame, struct mj_frame *out);
/* Routes one event that did not come in a frame of ours. time_us is assigned here. 0, or what the
 * journal said; drops are counted. */
int mj_router_event(struct mj_router *r, struct mj_event *ev);
/* Exchanges events and results with lanes, and publishes what was appended: once per batch of
 * frames, never per event. `source` (of
 * mj_journal_source(); -1 for none) is done up to `upstream_seq` with it. 0 or MJ_EIO (said). */
int mj_router_flush(struct mj_router *r, int source, int64_t upstream_seq);
/* Forgets how far sources are by now beyond the cursors in the journal, so that they are read again
 * from there at the next start. At the end, after the last lane is gone. */
void mj_router_hold(struct mj_router *r);
