/* Event to Jetstream v1 JSON, byte for byte as production wrote it (spec/jetstream-v1.md §3,
 * spec/firehose.md §6): bytewise-sorted keys by their escaped form, the blob's own order, Go's
 * HTML escapes, $link, unpadded $bytes, exact integers. */
#pragma once

#include "event/event.h"

struct mj_patch; /* event/patch.h: a flow's edits, NULL for none */

/* Appends the JSON object of the event, no newline, with the patch's record in place of its own.
 * Checks the record while it prints it, so an unchecked record is fine; a create or update without
 * `cid` is printed without. 0, or the reason the operation must be dropped: what
 * mj_record_check() says, MJ_EUTF8 for other text, MJ_EACTION, MJ_EINVAL, MJ_ENOMEM. `out` keeps
 * what it had and may have grown. */
int mj_jetstream_encode(const struct mj_event *ev, const struct mj_patch *patch,
                        struct mj_buf *out);
/* Appends one DAG-CBOR item, any type, as JSON by the same rules. 0 or what is wrong with it. */
int mj_json_from_cbor(struct mj_span item, struct mj_buf *out);
