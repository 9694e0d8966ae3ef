/* Captures: firehose frames in a file, one behind the other, nothing else.
 *
 *   ┌─────────────┬─────────────┬─────────────┬─────────────┬──
 *   │ u32 LE size │ frame bytes │ u32 LE size │ frame bytes │ …
 *   └─────────────┴─────────────┴─────────────┴─────────────┴──
 *
 * Read from a file or a pipe; input that starts with zstd's magic number is decompressed on the
 * way. A size above 5,000,000 means it is no capture (or a damaged one): nothing behind it can be
 * found again. */
#pragma once

#include "base/bytes.h"

#define MJ_CAPTURE_FRAME_MAX 5000000

struct mj_capture;

/* path "-" is standard input. 0, or MJ_EIO with errno set. */
int mj_capture_open(const char *path, struct mj_capture **out);
/* 1 with the next frame, borrowed until the next call; 0 at the end; MJ_ETRUNC when the input ends
 * inside a frame, MJ_EBIG for an impossible size, MJ_ESYNTAX for damaged compression, MJ_EIO with
 * errno set. After an error there is no more. */
int mj_capture_next(struct mj_capture *c, struct mj_span *frame);
/* True when the next frame is in memory: mj_capture_next() will not wait for a pipe. */
bool mj_capture_ready(const struct mj_capture *c);
/* How much of the file has been read, and how much there is, in bytes as they lie there; *all is 0
 * where that is not known, as of a pipe. */
void mj_capture_progress(const struct mj_capture *c, uint64_t *done, uint64_t *all);
void mj_capture_close(struct mj_capture *c);

/* Appends one frame in the file's format. */
void mj_capture_put(struct mj_buf *out, struct mj_span frame);
