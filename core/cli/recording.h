/* Recordings: files of events that tests and tools read instead of a network. A capture of firehose
 * frames (source/capture.h), compressed or not. */
#pragma once

#include "base/bytes.h"
#include "event/event.h"

/* Reads the recording at `path`, calls fn once per event, in order; the event is borrowed during
 * the call. 0; what fn returned, when that is negative, which ends the reading; or a negative error
 * with a sentence that names the file appended to `error`. Frames and operations that no firehose
 * should send are passed over. */
int mj_recording_read(const char *path, int (*fn)(void *ctx, struct mj_event *ev), void *ctx,
                      struct mj_buf *error);
