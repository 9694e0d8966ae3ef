/* One decision for all flows: which of them want this event?
 *
 * Everything an expression asks except the DID depends only on (collection, kind, operation), and
 * the network has few of those. So for each such class the answer of all flows is worked out once
 * and kept as two bitmaps:
 *
 *   class (app.bsky.feed.post, commit, create)   yes:     0 1 1 0 0 0 …   these want it
 *                                                depends: 0 0 0 1 1 0 …   these ask for the DID
 *
 * A flow that only wants DIDs it names is looked up by DID in one shared hash table, so a thousand
 * such flows cost one lookup. What remains (prefixes and negations over DIDs) is evaluated flow by
 * flow. An event's cost thus grows with the flows it might match, not with those there are.
 *
 * Borrows the expressions. One thread. */
#pragma once

#include "match/match.h"

struct mj_decision;

struct mj_decision *mj_decision_new(void);
void mj_decision_free(struct mj_decision *d);
/* Adds a flow's expression (borrowed until the decision is freed); returns its bit, from 0 up. */
size_t mj_decision_add(struct mj_decision *d, const struct mj_match *m);
size_t mj_decision_count(const struct mj_decision *d);
/* The flows that want the event: bit i of word i / 64. `collection` is the interned id of the
 * event's collection (0 when it has none, MJ_COLLECTION_NONE when it could not be interned).
 * Borrowed until the next call. Allocates only for a class never seen before. */
const uint64_t *mj_decision_eval(struct mj_decision *d, const struct mj_event *ev,
                                 uint32_t collection);
