/* The router: takes frames from the sources, decodes them, lets every script's flows see each
 * event, and appends what is left to the tail. One router, one thread; it never blocks.
 *
 *   frame ─▶ decode ─▶ event ─▶ match ─▶ flows (Lua) ─▶ main and named streams ─▶ tail
 *
 * Owns the decoder and scratch; borrows the tail. */
#pragma once

#include "event/decode.h"
#include "journal/tail.h"

struct mj_router;

struct mj_router *mj_router_new(struct mj_tail *tail);
void mj_router_free(struct mj_router *r);

/* Routes one frame. 0 with *out filled (its `name`/`message` matter for info and error frames,
 * which the source must act on), or the reason the whole frame was dropped; drops are already
 * counted. Nothing is visible to readers before mj_router_flush(). */
int mj_router_frame(struct mj_router *r, struct mj_span frame, struct mj_frame *out);
/* Publishes what was appended: once per batch of frames, never per event. */
void mj_router_flush(struct mj_router *r);
