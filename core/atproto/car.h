/* CARv1: the archive a commit carries its blocks in (spec/firehose.md §4).
 *
 *   varint(len) header   {"roots": [CID, …], "version": 1}
 *   varint(len) section  CID, then the block's bytes; any number, any order, duplicates legal
 *
 * The reader is a cursor that yields one section after the other out of the input and copies
 * nothing. It checks the framing; whether a block hashes to its CID is for the caller to ask
 * (mj_cid_matches), because a router needs that for few of them. */
#pragma once

#include "atproto/cbor_head.h"
#include "atproto/cid.h"
#include "base/bytes.h"

struct mj_car {
    const uint8_t *p, *end; /* borrowed: the sections not read yet */
    struct mj_span root;    /* borrowed: the first root, MJ_CID_LEN bytes */
};

struct mj_car_section {
    struct mj_span cid, block; /* borrowed from the input */
};

/* Reads the header. 0, or MJ_ECAR for anything but version 1 with one root or more. */
int mj_car_open(struct mj_car *car, struct mj_span in);
/* Sections whose head is not the usual shape: foreign CIDs, long or bad lengths. */
int mj__car_next_slow(struct mj_car *car, struct mj_car_section *out);

/* Takes the next section. 1 with *out filled, 0 at the end, MJ_ECAR. Inline, because every frame
 * has a dozen sections of which one matters. */
static inline int mj_car_next(struct mj_car *car, struct mj_car_section *out)
{
    const uint8_t *p = car->p;
    size_t left = (size_t)(car->end - p);
    if (MJ_LIKELY(left > 2 + MJ_CID_LEN)) {
        size_t n = p[0], head = 1;
        if (n >= 0x80) {
            n = (n & 0x7f) | (size_t)p[1] << 7;
            head = 2;
        }
        /* Two bytes are the shortest form only when the second says something. */
        uint32_t prefix = mj__be32(p + head);
        if (MJ_LIKELY(n >= MJ_CID_LEN && n <= left - head &&
                      (head == 1 || (p[1] < 0x80 && p[1] != 0)) &&
                      (prefix == 0x01711220 || prefix == 0x01551220))) {
            out->cid = mj_span(p + head, MJ_CID_LEN);
            out->block = mj_span(p + head + MJ_CID_LEN, n - MJ_CID_LEN);
            car->p = p + head + n;
            return 1;
        }
    }
    /* Copies, so that the caller's cursor and section can stay in registers. */
    struct mj_car at = *car;
    struct mj_car_section section = {0};
    int result = mj__car_next_slow(&at, &section);
    *car = at;
    *out = section;
    return result;
}

/* Writers, for simulators and tests. They abort without memory. */
void mj_car_put_header(struct mj_buf *b, struct mj_span root);
void mj_car_put_section(struct mj_buf *b, struct mj_span cid, struct mj_span block);
