/* Jetstream v1 JSON back to the event it was printed from: a journal entry, a line of a recording,
 * a message of another Jetstream. The record becomes DAG-CBOR again, so there is one representation
 * behind everything that reads events.
 *
 * The data model maps both ways: whatever mj_jetstream_encode() printed comes back with the same
 * record, byte for byte, and is printed the same again. Two things JSON cannot say: a literal map
 * {"$link": "…"} in a record comes back as the link it looks like, {"$bytes": "…"} as bytes (except
 * where the text is not how links and bytes are written; then it can only have been a literal map,
 * and is one again).
 *
 * One pass, no tree. A reader keeps its buffers, so nothing is allocated once they have grown to
 * what events take; what one event of many megabytes took is given back. One thread per reader. */
#pragma once

#include "event/event.h"

#define MJ_JSON_EVENT_MAX (64u << 20) /* bytes; the largest edited record prints shorter */

struct mj_from_json;

struct mj_from_json *mj_from_json_new(void); /* never NULL */
void mj_from_json_free(struct mj_from_json *r);

/* Reads one event, which is all of `json` but for blanks. Members in any order; those we do not
 * know are stepped over. *ev borrows from `json` and the reader until the next call.
 *
 * A commit's JSON tells neither the upstream's seq nor its time: seq is 0, and time is time_us as
 * text. `record_checked` and `plain` are true: what was read keeps the rules that they promise.
 *
 * 0; otherwise *at is how many bytes of `json` were fine, and the result
 *
 *   MJ_ESYNTAX, MJ_EUTF8, MJ_EDEPTH, MJ_ELIMIT, MJ_EBIG, MJ_ENOMEM
 *   MJ_EFIELD               a member is missing or does not fit the kind, or stands there twice
 *   MJ_ETYPE                a member has the wrong type
 *   MJ_EDID, MJ_EREV, MJ_EPATH, MJ_ETIME, MJ_ECID, MJ_EACTION   syntax of one of them
 *   MJ_EKEYDUP, MJ_EFLOAT, MJ_EINT, MJ_ERECORD   the record breaks the data model */
int mj_event_from_json(struct mj_from_json *r, struct mj_span json, struct mj_event *ev,
                       size_t *at);
/* Reads any one JSON value as DAG-CBOR; *cbor is borrowed until the next call. Same errors. */
int mj_cbor_from_json(struct mj_from_json *r, struct mj_span json, struct mj_span *cbor,
                      size_t *at);
