/* The relay's window: the newest frames in order of seq, ready to send, bounded by bytes and
 * count. Written by mj_relay_publish() on any thread, read on the relay's thread as its feed. */
#pragma once

#include "source/relay.h"

struct mj_relay_window;

/* bytes, frames: limits, not 0. Never NULL. */
struct mj_relay_window *mj_relay_window_new(size_t bytes, size_t frames);
void mj_relay_window_free(struct mj_relay_window *w);
/* See mj_relay_publish(). */
int mj_relay_window_put(struct mj_relay_window *w, int64_t seq, struct mj_span frame);
/* The feed functions; ctx is the window. */
enum mj_relay_start mj_relay_window_seek(void *ctx, const int64_t *cursor, uint64_t *pos);
int mj_relay_window_read(void *ctx, uint64_t *pos, size_t max, struct mj_buf *out,
                         int64_t *wait_us);
