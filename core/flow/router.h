/* The router: takes frames from the sources, decodes them, lets every script's flows see each
 * event, and appends what is left to the journal. One router, one thread; it never blocks.
 *
 *   frame ─▶ decode ─▶ event ─▶ match ─▶ flows (Lua) ─▶ main and named streams ─▶ journal
 *
 * The main stream is one line through all scripts in the order they were added: each narrows or
 * rewrites what the ones before let through. Every other flow starts from the event as it came, so
 * one script's edits never show in another's streams.
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
/* Adds a script's graph (borrowed until the router is freed) behind those already there. 0, or
 * MJ_ELIMIT or MJ_ESYNTAX with a sentence appended to `error` when its streams cannot be had;
 * then nothing was added. Between frames only. */
int mj_router_add(struct mj_router *r, struct mj_graph *graph, struct mj_buf *error);

/* Puts `graph` where `old` is, between two frames: its flows and its part of main. `old` NULL: at
 * the end; `graph` NULL: takes `old` away. Errors as mj_router_add(), and then `old` stays. `old`
 * may be freed when this returns. */
int mj_router_swap(struct mj_router *r, struct mj_graph *old, struct mj_graph *graph,
                   struct mj_buf *error);
/* While a graph is paused its flows get no events. Its part of main passes events as they come, or
 * with `drop_main` none. Between frames, or from a node's fn (it counts from the next event on). */
void mj_router_pause(struct mj_router *r, struct mj_graph *graph, bool paused, bool drop_main);
/* Sees everything that leaves the flows, as it is about to be appended: for the test runner, the
 * backtest and the repl. `streams` has a bit per stream of mj_streams_bit(); `prints` is how many
 * print nodes it reached. fn NULL: nobody. */
typedef void (*mj_output_fn)(void *ctx, const struct mj_event *ev, struct mj_span json,
                             uint64_t streams, unsigned prints);
void mj_router_on_output(struct mj_router *r, mj_output_fn fn, void *ctx);

/* Routes one frame. 0 with *out filled (its `name`/`message` matter for info and error frames,
 * which the source must act on), or the reason the whole frame was dropped; drops are already
 * counted. Nothing is visible to readers before mj_router_flush(). */
int mj_router_frame(struct mj_router *r, struct mj_span frame, struct mj_frame *out);
/* Routes one event that did not come in a frame of ours. time_us is assigned here. 0, or what the
 * journal said; drops are counted. */
int mj_router_event(struct mj_router *r, struct mj_event *ev);
/* Publishes what was appended: once per batch of frames, never per event. `source` (of
 * mj_journal_source(); -1 for none) is done up to `upstream_seq` with it. 0 or MJ_EIO (said). */
int mj_router_flush(struct mj_router *r, int source, int64_t upstream_seq);
