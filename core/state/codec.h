/* Cells as disk keeps them: an LMDB key and value each.
 *
 *   key    number of the state (8 bytes, big-endian) │ 0 │ the cell's key, when it fits
 *                                                    │ 1 │ SHA-256 of it, when it does not
 *   value  type (1 byte) │ written, ttl (8 bytes each, little-endian, µs) │ key's length (2)
 *          │ key │ what the type says: 8 bytes of a double, or the rest as text
 *
 * LMDB keys have 511 bytes at most, ours 4,096. Whatever a disk gives back is checked. */
#pragma once

#include "state/cells.h"

#define MJ_CODEC_KEY_MAX 480 /* bytes of an LMDB key */

enum mj_codec_type {
    MJ_CODEC_NUMBER = 'n',
    MJ_CODEC_TEXT = 's',
    MJ_CODEC_TRUE = 't',
    MJ_CODEC_FALSE = 'f',
    MJ_CODEC_MEMBER = 'm',
    MJ_CODEC_SCORE = 'z'
};

struct mj_codec_cell {
    struct mj_span key;
    int64_t written, ttl_us;
    enum mj_codec_type type;
    double number;
    struct mj_span text;
};

/* The LMDB key into `out`; returns its length. */
size_t mj_codec_key(uint64_t number, struct mj_span key, uint8_t out[MJ_CODEC_KEY_MAX]);
/* Appends an LMDB value. The number of a text or a boolean does not matter, nor does the text of
 * the others. */
void mj_codec_put(struct mj_buf *out, const struct mj_codec_cell *cell);
/* Everything is borrowed from the value. 0, or MJ_ETRUNC, MJ_ETRAILING, MJ_ETYPE, MJ_EBIG,
 * MJ_EINVAL (a time or a number that cannot be). */
int mj_codec_take(struct mj_span value, struct mj_codec_cell *out);
