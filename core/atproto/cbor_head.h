/* The inline heart of every CBOR reader here: one initial byte and its argument. Internal to the
 * atproto and event rooms; everybody else uses atproto/cbor.h. */
#pragma once

#include "atproto/load.h"
#include "base/bytes.h"
#include "base/err.h"

enum mj__cbor_major {
    MJ__UINT = 0,
    MJ__NEGINT = 1,
    MJ__BYTES = 2,
    MJ__TEXT = 3,
    MJ__ARRAY = 4,
    MJ__MAP = 5,
    MJ__TAG = 6,
    MJ__SIMPLE = 7
};

/* Arguments that do not fit the initial byte. *p is behind it. */
int mj__cbor_long_arg(const uint8_t **p, const uint8_t *end, unsigned info, uint64_t *arg);

/* Reads the initial byte and its argument, shortest form only. Major 7 is left to the caller: its
 * `arg` is the additional information itself and *p is behind the initial byte. The rare path gets
 * copies, so that the caller's variables can stay in registers. */
static inline __attribute__((always_inline)) int mj__cbor_head(const uint8_t **p,
                                                               const uint8_t *end, unsigned *major,
                                                               uint64_t *arg)
{
    const uint8_t *at = *p;
    if (MJ_UNLIKELY(at >= end))
        return MJ_ETRUNC;
    unsigned b = *at++, info = b & 31;
    *major = b >> 5;
    *arg = info;
    *p = at;
    if (MJ_LIKELY(info < 24 || b >= MJ__SIMPLE << 5))
        return 0;
    if (MJ_LIKELY(info == 24 && at < end)) {
        *arg = *at;
        *p = at + 1;
        return MJ_LIKELY(*at >= 24) ? 0 : MJ_EMINIMAL;
    }
    uint64_t long_arg = 0;
    int err = mj__cbor_long_arg(&at, end, info, &long_arg);
    *arg = long_arg;
    *p = at;
    return err;
}

/* What a major-7 head other than false, true and null is: MJ_EFLOAT, MJ_EINDEF, … */
int mj__cbor_simple_error(const uint8_t *p, const uint8_t *end, unsigned info);

/* Why the bytes behind a tag-42 head are not a link. */
int mj__cbor_link_error(const uint8_t *p, const uint8_t *end);

/* Reads the tag-42 item whose tag head `d8 2a` has been read: bytes, 00, a valid CID. The result
 * is the CID, MJ_CID_LEN bytes, without the 00. */
static inline int mj__cbor_link(const uint8_t **p, const uint8_t *end, const uint8_t **cid)
{
    /* 58 25 00 01 (55|71) 12 20: one form only, so one comparison of seven bytes. */
    if (MJ_UNLIKELY(end - *p < 39 || mj__be32(*p) != 0x58250001 ||
                    ((*p)[4] != 0x71 && (*p)[4] != 0x55) || mj__be16(*p + 5) != 0x1220)) {
        *cid = *p; /* not used, but not wild either */
        return mj__cbor_link_error(*p, end);
    }
    *cid = *p + 3;
    *p += 39;
    return 0;
}

/* Canonical order of two map keys: shorter first, then bytewise. <0, 0, >0. */
static inline int mj__cbor_key_cmp(struct mj_span a, struct mj_span b)
{
    if (a.len != b.len)
        return a.len < b.len ? -1 : 1;
    return a.len ? memcmp(a.ptr, b.ptr, a.len) : 0;
}
