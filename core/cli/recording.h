/* Recordings: files of events that tests and the REPL read instead of a network. Either a capture
 * of firehose frames (source/capture.h), compressed or not, or Jetstream's JSON, one event a line,
 * as `moonjet tail` and `moonjet decode` print it. */
#pragma once

#include "base/bytes.h"
#include "event/event.h"

/* Reads the recording at `path`, calls fn once per event, in order; the event is borrowed during
 * the call. 0; what fn returned, when that is negative, which ends the reading; or a negative error
 * with a sentence that names the file, and the line where there are lines, appended to `error`.
 * Frames and operations that no firehose should send are passed over; a line that is no event is an
 * error. */
int mj_recording_read(const char *path, int (*fn)(void *ctx, struct mj_event *ev), void *ctx,
                      struct mj_buf *error);
