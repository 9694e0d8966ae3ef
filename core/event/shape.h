/* Maps with a meaning (spec/firehose.md §5 rules 16-17, spec/jetstream-v1.md §3). Used by the check
 * and by the printer, so that they cannot disagree. Internal to the event room.
 *
 *   blob     {"$type": "blob", "ref": link, "mimeType": text, "size": int ≥ 0}, nothing else
 *   legacy   {"cid": text CID, "mimeType": text}, nothing else
 *   link     {"$link": text CID}, nothing else: a literal map, not tag 42
 *   bytes    {"$bytes": base64 text}, nothing else: a literal map, not a byte string */
#pragma once

#include "atproto/cbor_head.h"

#define MJ__CONTAINER_MAX 131072 /* items of an array, pairs of a map */
#define MJ__KEY_MAX       8192   /* bytes of a map key */

/* What maps weigh: the bytes of each map with all it holds, added up over all maps of an item.
 * Putting printed entries in order copies each level once more, so a large record whose bytes lie
 * under a hundred maps would cost a hundred times its size. A record may weigh sixteen times its
 * size (its bytes lie under sixteen maps on average), and every small one may do as it likes. */
static inline size_t mj__weight_max(size_t size) { return 16 * size + (256u << 10); }

enum mj__shape { MJ__PLAIN, MJ__BLOB, MJ__LEGACY_BLOB, MJ__LINK_MAP, MJ__BYTES_MAP };

/* A map while it is being walked. */
struct mj__map {
    const uint8_t *first; /* its first key */
    uint64_t count;       /* pairs */
    enum mj__shape shape;
};

/* Judges the key at position `i` whose value starts at p. Only called when mj__shape_asks(). 0 or
 * MJ_ERECORD. */
int mj__shape_key(struct mj__map *m, uint64_t i, struct mj_span key, const uint8_t *p,
                  const uint8_t *end);

/* Cheap pre-check: could this key matter? */
static inline bool mj__shape_asks(const struct mj__map *m, uint64_t i, struct mj_span key)
{
    return (key.len && key.ptr[0] == '$') || (m->count == 2 && i == 1 && key.len == 8);
}
