/* DRISL: the strict DAG-CBOR of atproto (spec/firehose.md §5). Reader over spans that never
 * allocates, and a writer that appends canonical bytes.
 *
 *   cursor    struct mj_cbor: where the next item starts; items are pulled in document order
 *   head      one item without its children; arrays and maps give their count only
 *
 * mj_cbor_next() checks everything about one head: shortest form, no indefinite lengths, no
 * floats, tag 42 only on a good CID, valid UTF-8, counts that can fit the rest. Key order and
 * duplicates are checked by mj_cbor_check(), which walks one whole item.
 *
 * Errors of the reader, in the numbering of spec/firehose.md §5: MJ_ETRUNC and MJ_ETRAILING (1),
 * MJ_EMINIMAL (2), MJ_EINDEF (3), MJ_ERESERVED (4), MJ_EKEYTYPE (5), MJ_EKEYORDER (6), MJ_EKEYDUP
 * (7), MJ_ETAG (8), MJ_ECID (9), MJ_ESIMPLE (10), MJ_EFLOAT (11, 12), MJ_EINT (13), MJ_EUTF8 (14),
 * MJ_EDEPTH (15). After an error the cursor is inside the bad item and of no further use. */
#pragma once

#include "base/bytes.h"

#define MJ_CBOR_DEPTH_MAX 128 /* arrays and maps around an item */

enum mj_cbor_type {
    MJ_CBOR_INT,   /* i */
    MJ_CBOR_BYTES, /* s */
    MJ_CBOR_TEXT,  /* s */
    MJ_CBOR_ARRAY, /* n items follow */
    MJ_CBOR_MAP,   /* n pairs follow */
    MJ_CBOR_LINK,  /* s: CID bytes without the leading 00 */
    MJ_CBOR_BOOL,  /* i: 0 or 1 */
    MJ_CBOR_NULL
};

struct mj_cbor {
    const uint8_t *p, *end; /* borrowed */
};

struct mj_cbor_head {
    enum mj_cbor_type type;
    int64_t i;
    uint64_t n;
    struct mj_span s; /* borrowed from the input */
};

static inline struct mj_cbor mj_cbor(struct mj_span s)
{
    return (struct mj_cbor){s.ptr, s.len ? s.ptr + s.len : s.ptr};
}

/* Reads one head. 0, or MJ_ETRUNC…MJ_EUTF8, MJ_ECID. */
int mj_cbor_next(struct mj_cbor *c, struct mj_cbor_head *out);
/* Steps over one whole item, children included; every rule but key order. Same errors,
 * MJ_EKEYTYPE and MJ_EDEPTH. */
int mj_cbor_skip(struct mj_cbor *c);
/* The same over an item that has been checked: looks at heads only, so several times quicker. Stays
 * within the input whatever that holds. */
int mj_cbor_skip_checked(struct mj_cbor *c);
/* Walks the input as exactly one item and applies every rule, key order included; no trailing
 * bytes. 0 or the first error. */
int mj_cbor_check(struct mj_span in);
/* Finds `key` in the map that starts at `map` (already checked). 0 with *value at the value's
 * first byte and running to the end of `map`; MJ_ENOENT; MJ_ETYPE when it is not a map. */
int mj_cbor_map_get(struct mj_span map, struct mj_span key, struct mj_span *value);

/* Writers: append one head in canonical form. The caller writes as many children as it announced
 * and map keys in canonical order (shorter first, then bytewise); text must be UTF-8 and CIDs valid
 * (mj_cid_is_valid). They abort without memory. */
void mj_cbor_put_int(struct mj_buf *b, int64_t v);
void mj_cbor_put_bytes(struct mj_buf *b, struct mj_span s);
void mj_cbor_put_text(struct mj_buf *b, struct mj_span s);
void mj_cbor_put_array(struct mj_buf *b, uint64_t n);
void mj_cbor_put_map(struct mj_buf *b, uint64_t n);
void mj_cbor_put_link(struct mj_buf *b, struct mj_span cid);
void mj_cbor_put_bool(struct mj_buf *b, bool v);
void mj_cbor_put_null(struct mj_buf *b);
