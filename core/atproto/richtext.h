/* Rich text: what of a plain text is a mention, a link or a tag, and where a text may be cut.
 *
 *   "é 👨‍👩‍👧 @alice.test https://x.y #tag"
 *    │ └ one grapheme, 18 bytes      └ byteStart, byteEnd: offsets into the UTF-8, end exclusive
 *    └ one grapheme, 2 bytes
 *
 * The rules are those of the network's official package (@atproto/api), so a post looks the same
 * whoever wrote it; tests/e2e/suites/richtext.mjs compares. Graphemes are Unicode's extended
 * clusters, by libutf8proc; which top-level domains exist is known from libpsl.
 *
 * Nothing here allocates, and every function takes any bytes; what is no UTF-8 counts byte by
 * byte. */
#pragma once

#include "base/bytes.h"

#define MJ_POST_GRAPHEMES 300 /* limits of a post's text */
#define MJ_POST_BYTES     3000
#define MJ_TAG_GRAPHEMES  64
#define MJ_TAG_BYTES      640
#define MJ_LINK_BYTES     8000 /* of an address: a URI of the network has at most 8 KiB */

enum mj_facet_kind { MJ_FACET_MENTION, MJ_FACET_LINK, MJ_FACET_TAG, MJ_FACET_CASHTAG };
#define MJ_FACET_KINDS 4

struct mj_facet {
    enum mj_facet_kind kind;
    size_t start, end; /* bytes, end exclusive; with "@", "#" or "$" */
    /* What it is about: the handle, the address, or the tag without its sign; borrowed from the
     * text. A bare link lacks its "https://", a cashtag may be written in lower case. */
    struct mj_span value;
    bool bare;
};

/* A walk over the facets of a text. */
struct mj_facets {
    struct mj_span text; /* borrowed */
    size_t at[MJ_FACET_KINDS];
    struct mj_facet next[MJ_FACET_KINDS];
    bool has[MJ_FACET_KINDS];
    size_t covered;
};

void mj_facets_init(struct mj_facets *f, struct mj_span text);
/* The next facet, in order of their starts; false when there is no more. They do not overlap: of
 * two that would, the one that starts first is there. */
bool mj_facets_next(struct mj_facets *f, struct mj_facet *out);

/* How many graphemes the text has. */
size_t mj_graphemes(struct mj_span text);
/* How many bytes of the text's start are whole graphemes within both limits; 0 when the first one
 * does not fit, or the text is empty. */
size_t mj_graphemes_fit(struct mj_span text, size_t graphemes, size_t bytes);
/* The end of the last word that ends at or before byte `end`: after it comes white space, or the
 * text is over; 0 when there is none. */
size_t mj_word_end(struct mj_span text, size_t end);
/* Length of the white space at the start of the text, and at its end, in bytes. */
size_t mj_space_before(struct mj_span text);
size_t mj_space_after(struct mj_span text);
