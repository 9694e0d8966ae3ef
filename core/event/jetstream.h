/* Event to Jetstream v1 JSON, byte for byte as production wrote it (spec/jetstream-v1.md §3,
 * spec/firehose.md §6): bytewise-sorted keys by their escaped form, the blob's own order, Go's
 * HTML escapes, $link, unpadded $bytes, exact integers. */
#pragma once

#include "event/event.h"

struct mj_patch; /* event/patch.h: a flow's edits, NULL for none */

/* Appends the JSON object of the event, no newline. Checks the record while it prints it, so an
 * unchecked record is fine. 0, or the reason the operation must be dropped (out is unchanged). */
int mj_jetstream_encode(const struct mj_event *ev, const struct mj_patch *patch,
                        struct mj_buf *out);
/* Appends one checked DAG-CBOR item as JSON by the same rules. */
int mj_json_from_cbor(struct mj_span item, struct mj_buf *out);
