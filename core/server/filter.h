/* A filter: which collections, which DIDs, which kinds and operations, how large a message. Built
 * once from the query or an options_update, then asked about index records.
 *
 *   index record ──may()──▶ candidate ──confirm()──▶ match
 *   24 bytes, no JSON       few of them   the JSON: is it that DID, or only its hash?
 *
 * A collection is a number of the journal, and whether a number is wanted (by full name or by
 * prefix) is worked out the first time it is seen and remembered in two bits, so a prefix costs no
 * string work per event. A DID is looked up by 32 bits of its hash.
 *
 * Names come from strangers and are therefore never interned. Owned by one class (class.h), used on
 * the server's thread only.
 *
 * A wanted DID may also be "set:NAME": all that are in a named set, as it is when an event is
 * looked at. Other threads edit it meanwhile; looking takes no lock (state/set.h). */
#pragma once

#include "journal/journal.h"
#include "state/sets.h"

#define MJ_WANTED_COLLECTIONS_MAX 100
#define MJ_WANTED_DIDS_MAX        10000
#define MJ_WANTED_SETS_MAX        16

struct mj_filter;

/* Passes everything. `sets`: where "set:NAME" is looked up, borrowed as long as DIDs are added;
 * NULL: there are none. Never NULL. */
struct mj_filter *mj_filter_new(struct mj_sets *sets);
void mj_filter_free(struct mj_filter *f);

/* Adds a wanted collection (NSID, or prefix ending in ".*"), DID, kind or operation, as text
 * already decoded. 0, MJ_ESYNTAX, or MJ_ENOENT for a set that does not exist. Counts are checked by
 * mj_filter_check_…(), because v1 reports a bad name before a long list. */
int mj_filter_add_collection(struct mj_filter *f, struct mj_span name);
int mj_filter_add_did(struct mj_filter *f, struct mj_span did);
int mj_filter_add_kind(struct mj_filter *f, struct mj_span name);
int mj_filter_add_operation(struct mj_filter *f, struct mj_span name);
/* Too many? NULL, or v1's words for it. */
const char *mj_filter_check_collections(const struct mj_filter *f);
const char *mj_filter_check_dids(const struct mj_filter *f);
/* Largest message to send, in bytes; 0 or below for no limit. */
void mj_filter_set_max_size(struct mj_filter *f, int64_t bytes);

/* True when nothing is filtered, so that runs can be sent whole. */
bool mj_filter_is_open(const struct mj_filter *f);
/* Equal for filters that pass the same, in whatever order they were put together. */
uint64_t mj_filter_hash(const struct mj_filter *f);
bool mj_filter_equal(const struct mj_filter *a, const struct mj_filter *b);
/* Heap bytes held, for the server's budget. */
size_t mj_filter_size(const struct mj_filter *f);

uint64_t mj_filter_max_size(const struct mj_filter *f); /* UINT64_MAX for none */
bool mj_filter_has_collections(const struct mj_filter *f);
/* Does it ask for certain DIDs, by name or by set? */
bool mj_filter_has_dids(const struct mj_filter *f);
/* Of the DIDs given by name. */
size_t mj_filter_did_count(const struct mj_filter *f);
/* The sets; borrowed as long as the filter lives. */
size_t mj_filter_set_count(const struct mj_filter *f);
struct mj_set *mj_filter_set(const struct mj_filter *f, size_t i);
/* Larger after each edit of one of its sets: what was worked out before need not hold any more. */
uint64_t mj_filter_version(const struct mj_filter *f);
/* Of the i-th DID; the text is borrowed as long as the filter lives. */
uint64_t mj_filter_did_hash(const struct mj_filter *f, size_t i);
struct mj_span mj_filter_did_text(const struct mj_filter *f, size_t i);
/* Bit (kind * 4 + op) for each that passes what kinds and operations say. */
uint16_t mj_filter_pass(const struct mj_filter *f);
static inline unsigned mj_filter_pass_bit(const struct mj_entry *e)
{
    return (e->kind & 3u) * 4 + (e->op & 3u);
}
/* The DID in an event's JSON. */
struct mj_span mj_json_did(struct mj_span json);

/* Does it want the collection of that number? Only asked when it has collections. */
bool mj_filter_wants(struct mj_filter *f, const struct mj_journal *j, uint16_t collection);
/* May the entry match? The size is not looked at. */
bool mj_filter_may(struct mj_filter *f, const struct mj_journal *j, const struct mj_entry *e);
/* Does an entry that may match? */
bool mj_filter_confirm(const struct mj_filter *f, const struct mj_entry *e, struct mj_span json);
/* Sets bit `at + i` for each of n entries that may match and has the stream's bit. */
void mj_filter_scan(struct mj_filter *f, const struct mj_journal *j, unsigned stream,
                    const struct mj_entry *entries, size_t n, uint64_t *bits, size_t at);
/* May anything in there match? Looks at all names the journal knows so far, once each. */
bool mj_filter_may_any(struct mj_filter *f, const struct mj_journal *j, unsigned stream,
                       const struct mj_summary *s);
/* Appends it as a JSON object for people: collections, kinds, operations, max_bytes, and how many
 * DIDs. */
void mj_filter_print(const struct mj_filter *f, struct mj_buf *json);
