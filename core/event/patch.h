/* A flow's edits of one record. Each edit is spliced into the record's DAG-CBOR at once: the
 * containers on the way get a new count if need be, the edited value its new bytes, and everything
 * else is copied as it was. So values nobody touched keep their type, order and exactness, and
 * whatever reads records reads an edited one just the same.
 *
 *   record  a2 | 64 text | 62 hi       | 65 $type | …      set "text" = "hello"
 *   after   a2 | 64 text | 65 hello    | 65 $type | …      everything but one value is a copy
 *
 * The event itself never changes: a patch belongs to the flow that made it, and two flows that
 * edit the same event do not see each other. Keeps its two buffers, so the steady state allocates
 * nothing. */
#pragma once

#include "event/event.h"
#include "event/path.h"

#define MJ_PATCH_RECORD_MAX (4u << 20) /* bytes of an edited record */

struct mj_patch {
    struct mj_span record; /* as it is now: the event's until the first edit, then ours */
    struct mj_buf buf[2];  /* the edited record, and where the next edit is written */
    unsigned version;      /* +1 per edit: offsets into an older version are stale */
    bool keep_cid;         /* the event keeps the CID of the record it had */
};

/* Starts over with a record (borrowed until the next begin). */
void mj_patch_begin(struct mj_patch *p, struct mj_span record);
void mj_patch_deinit(struct mj_patch *p);
static inline bool mj_patch_changed(const struct mj_patch *p) { return p->version != 0; }

/* Sets the value at the path to one checked CBOR item, which may lie inside p->record. A missing
 * last key is added; index count + 1 appends. The empty path replaces the whole record. 0;
 * MJ_ENOENT when a part of the path is missing; MJ_ETYPE when one is no container; MJ_EDEPTH;
 * MJ_ELIMIT; MJ_ENOMEM. Nothing changes on an error. */
int mj_patch_set(struct mj_patch *p, const struct mj_path *path, struct mj_span value);
/* Removes what is at the path; array items behind it move up. Nothing there is fine (0); errors
 * as above, MJ_EINVAL for the empty path. */
int mj_patch_unset(struct mj_patch *p, const struct mj_path *path);

/* The event as this flow sees it: a copy with the edited record and, unless keep_cid, without the
 * CID, which no longer fits. Borrows from both. */
void mj_patch_event(const struct mj_patch *p, const struct mj_event *in, struct mj_event *out);
