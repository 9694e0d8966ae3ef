/* CIDv1 in its binary form, as found behind the 00 byte of a tag-42 item or in a CAR section.
 *
 *   structural   01 71 12 20 + 32 bytes: dag-cbor under SHA-256. Commits, MST nodes, records.
 *   valid        the same, or 01 55 12 20 + 32: raw bytes under SHA-256. Blobs. These two are what
 *                DASL allows and what tag 42 may hold.
 *   any other    parsed only so that a CAR section under a foreign CID can be stepped over.
 *
 * Spans are borrowed during the call; nothing here allocates. (spec/firehose.md §4) */
#pragma once

#include "base/bytes.h"

#define MJ_CID_LEN      36  /* of a valid CID */
#define MJ_CID_MAX      100 /* of any CID that can be parsed */
#define MJ_CID_TEXT_LEN 59  /* of a MJ_CID_LEN one: 'b' and base32 */

struct mj_cid {
    uint8_t bytes[MJ_CID_LEN];
};

/* Parses one CIDv1 at the start of `in`, any codec and any hash; returns its size, 5…MJ_CID_MAX,
 * or MJ_ECID. CIDv0, an empty digest and varints that are not minimal are refused. */
int mj_cid_parse(struct mj_span in);
bool mj_cid_is_structural(struct mj_span cid); /* 01 71 12 20 + 32 */
bool mj_cid_is_valid(struct mj_span cid);      /* 01 71 or 01 55, then 12 20 + 32 */
/* CID of a dag-cbor block: SHA-256 of its bytes. */
void mj_cid_of(struct mj_span block, struct mj_cid *out);
/* True when the CID is valid and the block's SHA-256 is its digest. */
bool mj_cid_matches(struct mj_span cid, struct mj_span block);
/* Writes 'b' + lower-case base32 without padding; returns the length. out has room for
 * 1 + ceil(len * 8 / 5) bytes; not NUL-terminated. */
size_t mj_cid_text(struct mj_span cid, char *out);
/* Reads the text form of any CIDv1: 'b', then lower-case base32 without padding and with zero
 * spare bits, so that text and bytes map one to one. Returns the byte length or MJ_ECID. */
int mj_cid_from_text(struct mj_span text, uint8_t out[MJ_CID_MAX]);

/* SHA-256 with the cheapest interface the crypto library has (spec/performance.md §2). */
void mj_sha256(struct mj_span in, uint8_t out[32]);
