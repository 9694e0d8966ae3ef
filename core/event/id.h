/* The name of an event: 16 bytes that are the same whenever and however often the event comes, from
 * whatever relay, over restarts and after edits. So a delivery can be told from its repetition.
 *
 *   commit              DID, collection, rkey, rev, operation
 *   identity, account   DID, the upstream's seq and time: of another relay it has another name
 *
 * A record has one revision per operation, so nothing else of a commit is needed. */
#pragma once

#include "event/event.h"

#define MJ_EVENT_ID     16
#define MJ_DELIVERY_ID  "evt_" /* … and 32 hex digits of the hash of reader and event */
#define MJ_DELIVERY_LEN 36

void mj_event_id(const struct mj_event *ev, uint8_t out[MJ_EVENT_ID]);
/* The same, of an event's JSON. 0, or MJ_ESYNTAX, MJ_EFIELD for what is no event. */
int mj_event_id_json(struct mj_span json, uint8_t out[MJ_EVENT_ID]);
/* The id under which a reader (any text) delivers the event; NUL-terminated. */
void mj_delivery_id(struct mj_span reader, const uint8_t event[MJ_EVENT_ID],
                    char out[MJ_DELIVERY_LEN + 1]);
