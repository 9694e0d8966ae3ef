/* One decision for all flows: which of them want this event?
 *
 * What an expression asks about kind, operation and collection is worked out once for each class of
 * events, of which the network has few, and kept as bitmaps:
 *
 *   class (app.bsky.feed.post, commit, create)   yes:     0 1 1 0 0 0 …   these want it
 *                                                depends: 0 0 0 1 1 0 …   these ask for more
 *
 * Who asks for more is found from what the event holds: its DID, mentions, tags, hosts and so on
 * are looked up in one table, its text goes through one automaton for everybody's words, and each
 * question that has no value to look up is asked once (match/index.h). Only flows that one of these
 * points to are evaluated. An event's cost thus grows with the flows it might match, not with those
 * there are.
 *
 * Borrows the expressions. One thread. */
#pragma once

#include "match/match.h"

#define MJ_DECISION_WORDS_MAX ((size_t)16 << 20)

struct mj_decision;

struct mj_decision *mj_decision_new(void);
void mj_decision_free(struct mj_decision *d);
/* Adds a flow's expression (borrowed until the decision is freed); returns its bit, from 0 up. */
size_t mj_decision_add(struct mj_decision *d, const struct mj_match *m);
size_t mj_decision_count(const struct mj_decision *d);
/* Bytes of all words that flows look for: whoever adds flows sees to it that they stay below
 * MJ_DECISION_WORDS_MAX. The automaton takes some twenty times as much. */
size_t mj_decision_words(const struct mj_decision *d);
/* Builds the index, which the next call of the two below would do otherwise: some microseconds per
 * flow and per word. */
void mj_decision_ready(struct mj_decision *d);
/* Whether a flow may look into the record to tell if it wants the event: then the record must have
 * passed mj_record_check() before mj_decision_eval(). */
bool mj_decision_reads(struct mj_decision *d, const struct mj_event *ev, uint32_t collection);
/* The flows that want the event: bit i of word i / 64. `collection` is the interned id of the
 * event's collection (0 when it has none, MJ_COLLECTION_NONE when it could not be interned).
 * Borrowed until the next call. Allocates only for a class never seen before, and to read a record
 * larger than any before. */
const uint64_t *mj_decision_eval(struct mj_decision *d, const struct mj_event *ev,
                                 uint32_t collection);
/* Facts that the decision works with: about the event of the last mj_decision_eval(), for others
 * that ask about the same one, or whatever event they turn them to. Borrowed. */
struct mj_facts *mj_decision_facts(struct mj_decision *d);
