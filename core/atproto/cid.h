/* CIDv1 in its binary form, as found behind the 00 byte of a tag-42 item or in a CAR section.
 * Structural CIDs (commit, MST node, record) are dag-cbor + SHA-256: 01 71 12 20 and 32 bytes. */
#pragma once

#include "base/bytes.h"

#define MJ_CID_LEN      36  /* of a structural or raw SHA-256 CID */
#define MJ_CID_MAX      100 /* of any CID accepted inside record data */
#define MJ_CID_TEXT_LEN 59  /* of a MJ_CID_LEN one: 'b' and base32 */

struct mj_cid {
    uint8_t bytes[MJ_CID_LEN];
};

/* Parses one CIDv1 at the start of `in`; returns its size in bytes or MJ_ECID. Any codec and hash
 * with a digest that fits MJ_CID_MAX; CIDv0 is refused. */
int mj_cid_parse(struct mj_span in);
bool mj_cid_is_structural(struct mj_span cid); /* 01 71 12 20 + 32 */
/* CID of a dag-cbor block: SHA-256 of its bytes. */
void mj_cid_of(struct mj_span block, struct mj_cid *out);
/* True when the block's SHA-256 is the CID's digest. */
bool mj_cid_matches(struct mj_span cid, struct mj_span block);
/* Writes 'b' + lower-case base32 without padding; returns the length. out has room for
 * 1 + ceil(len * 8 / 5) bytes; not NUL-terminated. */
size_t mj_cid_text(struct mj_span cid, char *out);
/* Reads the text form; returns the byte length or MJ_ECID. */
int mj_cid_from_text(struct mj_span text, uint8_t out[MJ_CID_MAX]);

/* SHA-256 with the cheapest interface the crypto library has (spec/performance.md §2). */
void mj_sha256(struct mj_span in, uint8_t out[32]);
