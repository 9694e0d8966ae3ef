/* What a client of com.atproto.label.queryLabels asks for.
 *
 *   uriPatterns   an address or DID, or the beginning of some with a "*" behind it
 *   sources       DIDs of labelers; none: all
 *   limit         1…250, 50 if it is not said
 *   cursor        the place in the index where the last page ended, in hex
 *
 * Patterns become prefixes of keys of the index (state/labels.h), in order and with none inside
 * another, so that a page is one walk through the index, from the cursor on. */
#pragma once

#include "base/bytes.h"

#define MJ_LABEL_PATTERNS_MAX 1000
#define MJ_LABEL_SOURCES_MAX  100
#define MJ_LABEL_LIMIT_MAX    250

struct mj_label_query {
    struct mj_buf text;       /* owned: what the spans are in */
    struct mj_span *prefixes; /* owned */
    size_t prefix_count;
    struct mj_span sources[MJ_LABEL_SOURCES_MAX];
    size_t source_count;
    struct mj_span cursor; /* a key; empty: from the beginning */
    size_t limit;
};

/* Reads the query of the request, still encoded. 0, or MJ_ESYNTAX with a sentence appended to
 * `error`. *out is to be given back in any case. */
int mj_label_query_parse(struct mj_span query, struct mj_label_query *out, struct mj_buf *error);
void mj_label_query_deinit(struct mj_label_query *q);
/* Appends a key as the cursor that leads to it. */
void mj_label_cursor_put(struct mj_span key, struct mj_buf *out);

/* The cursor of subscribeLabels: 0 with *has and *out; MJ_ESYNTAX when it is no number from 0 on.
 */
int mj_label_seq_parse(struct mj_span query, bool *has, uint64_t *out);
