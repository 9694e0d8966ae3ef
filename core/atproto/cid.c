#include "atproto/cid.h"

/* OpenSSL 3 marks SHA256_Init and friends deprecated in favour of EVP, whose per-message algorithm
 * lookup costs more than hashing a record does (160 against 400 ns). The functions are part of the
 * stable ABI of every 3.x release, so the warning is silenced here, for these calls only. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include "atproto/load.h"
#include "base/err.h"

static const uint8_t structural[4] = {0x01, 0x71, 0x12, 0x20};
static const uint8_t raw[4] = {0x01, 0x55, 0x12, 0x20};

void mj_sha256(struct mj_span in, uint8_t out[32])
{
    SHA256_CTX ctx;
    SHA256_Init(&ctx);
    if (in.len)
        SHA256_Update(&ctx, in.ptr, in.len);
    SHA256_Final(out, &ctx);
}

/* Minimal LEB128 below 2^31 at *p; false when there is none. */
static bool take_varint(const uint8_t **p, const uint8_t *end, uint32_t *out)
{
    uint32_t v = 0;
    for (unsigned shift = 0; shift < 28 && *p < end; shift += 7) {
        uint8_t b = *(*p)++;
        v |= (uint32_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *out = v;
            return b != 0 || shift == 0;
        }
    }
    return false;
}

int mj_cid_parse(struct mj_span in)
{
    if (in.len == 0)
        return MJ_ECID;
    const uint8_t *p = in.ptr, *end = in.ptr + in.len;
    uint32_t version, codec, hash, size;
    if (!take_varint(&p, end, &version) || version != 1 || !take_varint(&p, end, &codec) ||
        !take_varint(&p, end, &hash) || !take_varint(&p, end, &size))
        return MJ_ECID;
    size_t head = (size_t)(p - in.ptr);
    if (size == 0 || size > (size_t)(end - p) || head + size > MJ_CID_MAX)
        return MJ_ECID;
    return (int)(head + size);
}

bool mj_cid_is_structural(struct mj_span cid)
{
    return cid.len == MJ_CID_LEN && memcmp(cid.ptr, structural, 4) == 0;
}

bool mj_cid_is_valid(struct mj_span cid)
{
    return cid.len == MJ_CID_LEN &&
           (memcmp(cid.ptr, structural, 4) == 0 || memcmp(cid.ptr, raw, 4) == 0);
}

void mj_cid_of(struct mj_span block, struct mj_cid *out)
{
    memcpy(out->bytes, structural, 4);
    mj_sha256(block, out->bytes + 4);
}

bool mj_cid_matches(struct mj_span cid, struct mj_span block)
{
    uint8_t digest[32];
    if (!mj_cid_is_valid(cid))
        return false;
    mj_sha256(block, digest);
    return memcmp(digest, cid.ptr + 4, 32) == 0;
}

static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";

/* Five bytes, as the low 40 bits of x, to eight base32 characters in one 64-bit word: the 5-bit
 * groups are spread one to a byte, then all eight are mapped at once ('a' + v, or '2' + v - 26). */
static inline uint64_t base32_group(uint64_t x)
{
    x = (x & 0xfffff) | x >> 20 << 32;
    x = (x & 0x000003ff000003ff) | (x & 0x000ffc00000ffc00) << 6;
    x = (x & 0x001f001f001f001f) | (x & 0x03e003e003e003e0) << 3;
    uint64_t digit = (x + 0x6666666666666666) >> 7 & 0x0101010101010101; /* 1 where v >= 26 */
    return x + 0x6161616161616161 - digit * ('a' + 26 - '2');
}

size_t mj_cid_text(struct mj_span cid, char *out)
{
    uint8_t *w = (uint8_t *)out;
    const uint8_t *p = cid.ptr;
    size_t n = cid.len;
    *w++ = 'b';
    if (MJ_LIKELY(n == MJ_CID_LEN)) { /* 36 = 6 × 5, whose loads may look ahead, + 5 + 1 */
        for (unsigned i = 0; i < 6; i++)
            mj__put_be64(w + 8 * i, base32_group(mj__be64(p + 5 * i) >> 24));
        mj__put_be64(w + 48, base32_group(mj__be64(p + 28) << 16 >> 24));
        w[56] = (uint8_t)digits[p[35] >> 3];
        w[57] = (uint8_t)digits[(p[35] & 7) << 2];
        return MJ_CID_TEXT_LEN;
    }
    uint32_t bits = 0;
    unsigned have = 0;
    for (; n; n--) {
        bits = bits << 8 | *p++;
        for (have += 8; have >= 5; have -= 5)
            *w++ = (uint8_t)digits[bits >> (have - 5) & 31];
    }
    if (have)
        *w++ = (uint8_t)digits[bits << (5 - have) & 31];
    return (size_t)(w - (uint8_t *)out);
}

/* One more than the value of a base32 digit; 0 for what is none. */
static const uint8_t value_of[256] = {
    ['a'] = 1,  ['b'] = 2,  ['c'] = 3,  ['d'] = 4,  ['e'] = 5,  ['f'] = 6,  ['g'] = 7,  ['h'] = 8,
    ['i'] = 9,  ['j'] = 10, ['k'] = 11, ['l'] = 12, ['m'] = 13, ['n'] = 14, ['o'] = 15, ['p'] = 16,
    ['q'] = 17, ['r'] = 18, ['s'] = 19, ['t'] = 20, ['u'] = 21, ['v'] = 22, ['w'] = 23, ['x'] = 24,
    ['y'] = 25, ['z'] = 26, ['2'] = 27, ['3'] = 28, ['4'] = 29, ['5'] = 30, ['6'] = 31, ['7'] = 32};

int mj_cid_from_text(struct mj_span text, uint8_t out[MJ_CID_MAX])
{
    if (text.len < 2 || text.len > 1 + (MJ_CID_MAX * 8 + 4) / 5 || text.ptr[0] != 'b')
        return MJ_ECID;
    uint32_t bits = 0;
    unsigned have = 0;
    size_t n = 0, i = 1;
    /* Eight characters are five bytes; a bad one shows in the top bits. */
    for (; text.len - i >= 8; i += 8, n += 5) {
        uint64_t v = 0;
        uint8_t bad = 0;
        for (size_t k = 0; k < 8; k++) {
            uint8_t digit = (uint8_t)(value_of[text.ptr[i + k]] - 1);
            bad |= digit;
            v = v << 5 | (digit & 31);
        }
        if (bad & 0x80 || n + 8 > MJ_CID_MAX)
            break; /* found again below */
        mj__put_be64(out + n, v << 24);
    }
    for (; i < text.len; i++) {
        uint8_t v = (uint8_t)(value_of[text.ptr[i]] - 1);
        if (v & 0x80)
            return MJ_ECID;
        bits = bits << 5 | v;
        have += 5;
        if (have >= 8) {
            have -= 8;
            out[n++] = (uint8_t)(bits >> have);
        }
    }
    /* Five or more spare bits would be a character that carries nothing. */
    if (have >= 5 || (bits & ((1u << have) - 1)) != 0)
        return MJ_ECID;
    return mj_cid_parse(mj_span(out, n)) == (int)n ? (int)n : MJ_ECID;
}
