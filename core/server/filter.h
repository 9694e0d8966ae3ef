/* A subscriber's filter: which collections, which DIDs, how large a message. Built once from the
 * query or an options_update, then asked once per entry.
 *
 * It is asked about index records, not JSON: a collection is an interned id, and whether an id is
 * wanted (by full name or by prefix) is worked out the first time it is seen and remembered in two
 * bits, so a prefix costs no string work per event. A DID is looked up by its hash and confirmed
 * on the bytes.
 *
 * Names come from strangers and are therefore never interned. Owned by one subscriber, used on the
 * server's thread only. */
#pragma once

#include "journal/journal.h"

#define MJ_WANTED_COLLECTIONS_MAX 100
#define MJ_WANTED_DIDS_MAX        10000

struct mj_filter;

/* Passes everything. Never NULL. */
struct mj_filter *mj_filter_new(void);
void mj_filter_free(struct mj_filter *f);

/* Adds a wanted collection (NSID, or prefix ending in ".*") or DID, as text already decoded.
 * 0, or MJ_ESYNTAX. Counts are checked by mj_filter_check(), because v1 reports a bad name before
 * a long list. */
int mj_filter_add_collection(struct mj_filter *f, struct mj_span name);
int mj_filter_add_did(struct mj_filter *f, struct mj_span did);
/* Too many? NULL, or v1's words for it. */
const char *mj_filter_check_collections(const struct mj_filter *f);
const char *mj_filter_check_dids(const struct mj_filter *f);
/* Largest JSON to send, in bytes; 0 or below for no limit. */
void mj_filter_set_max_size(struct mj_filter *f, int64_t bytes);

/* True when nothing is filtered, so that runs can be sent whole. */
bool mj_filter_is_open(const struct mj_filter *f);
bool mj_filter_match(struct mj_filter *f, const struct mj_journal *j, const struct mj_entry *e,
                     struct mj_span json);
/* Heap bytes held, for the server's budget. */
size_t mj_filter_size(const struct mj_filter *f);
