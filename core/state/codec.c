#include "state/codec.h"

#include <endian.h>
#include <math.h>
#include <openssl/sha.h>

#include "base/err.h"

#define HEAD 19 /* bytes before the key in a value */

size_t mj_codec_key(uint64_t number, struct mj_span key, uint8_t out[MJ_CODEC_KEY_MAX])
{
    uint64_t big = htobe64(number);
    memcpy(out, &big, 8);
    out[8] = key.len > MJ_CODEC_KEY_MAX - 9;
    if (out[8]) {
        SHA256(key.ptr, key.len, out + 9);
        return 9 + SHA256_DIGEST_LENGTH;
    }
    if (key.len)
        memcpy(out + 9, key.ptr, key.len);
    return 9 + key.len;
}

static void put64(uint8_t *at, uint64_t v)
{
    v = htole64(v);
    memcpy(at, &v, 8);
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, 8);
    return le64toh(v);
}

void mj_codec_put(struct mj_buf *out, const struct mj_codec_cell *cell)
{
    uint8_t head[HEAD];
    head[0] = (uint8_t)cell->type;
    put64(head + 1, (uint64_t)cell->written);
    put64(head + 9, (uint64_t)cell->ttl_us);
    head[17] = (uint8_t)cell->key.len;
    head[18] = (uint8_t)(cell->key.len >> 8);
    mj_buf_put(out, head, sizeof head);
    mj_buf_put(out, cell->key.ptr, cell->key.len);
    if (cell->type == MJ_CODEC_NUMBER || cell->type == MJ_CODEC_SCORE) {
        uint64_t bits;
        memcpy(&bits, &cell->number, 8);
        put64(head, bits);
        mj_buf_put(out, head, 8);
    } else if (cell->type == MJ_CODEC_TEXT) {
        mj_buf_put(out, cell->text.ptr, cell->text.len);
    }
}

/* What is behind the key. */
static int take_tail(struct mj_span tail, struct mj_codec_cell *out)
{
    switch (out->type) {
    case MJ_CODEC_NUMBER:
    case MJ_CODEC_SCORE:
        if (tail.len != 8)
            return tail.len < 8 ? MJ_ETRUNC : MJ_ETRAILING;
        uint64_t bits = get64(tail.ptr);
        memcpy(&out->number, &bits, 8);
        return out->type == MJ_CODEC_SCORE && isnan(out->number) ? MJ_EINVAL : 0;
    case MJ_CODEC_TEXT:
        out->text = tail;
        return tail.len > MJ_STATE_VALUE_MAX ? MJ_EBIG : 0;
    case MJ_CODEC_TRUE:
    case MJ_CODEC_FALSE:
    case MJ_CODEC_MEMBER:
        return tail.len ? MJ_ETRAILING : 0;
    default:
        return MJ_ETYPE;
    }
}

int mj_codec_take(struct mj_span value, struct mj_codec_cell *out)
{
    *out = (struct mj_codec_cell){0};
    if (value.len < HEAD)
        return MJ_ETRUNC;
    out->type = (enum mj_codec_type)value.ptr[0];
    out->written = (int64_t)get64(value.ptr + 1);
    out->ttl_us = (int64_t)get64(value.ptr + 9);
    size_t len = value.ptr[17] | (size_t)value.ptr[18] << 8;
    if (len > MJ_STATE_KEY_MAX)
        return MJ_EBIG;
    if (len > value.len - HEAD)
        return MJ_ETRUNC;
    if (out->written < 0 || out->written == INT64_MAX || out->ttl_us < 0 ||
        out->ttl_us == INT64_MAX)
        return MJ_EINVAL;
    out->key = mj_span(value.ptr + HEAD, len);
    return take_tail(mj_span(value.ptr + HEAD + len, value.len - HEAD - len), out);
}
