#include "atproto/car.h"

#include "atproto/cbor.h"
#include "base/err.h"

/* Minimal unsigned LEB128 of at most nine bytes. */
static bool take_varint(const uint8_t **p, const uint8_t *end, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 63 && *p < end; shift += 7) {
        uint8_t b = *(*p)++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *out = v;
            return b != 0 || shift == 0;
        }
    }
    return false;
}

/* The header of every CAR a repository sends: one root, canonical. */
static bool usual_header(struct mj_span in)
{
    return in.len >= 59 && memcmp(in.ptr, "\x3a\xa2\x65roots\x81\xd8\x2a\x58\x25\0", 14) == 0 &&
           memcmp(in.ptr + 50, "\x67version\x01", 9) == 0 &&
           mj_cid_is_valid(mj_span(in.ptr + 14, MJ_CID_LEN));
}

int mj_car_open(struct mj_car *car, struct mj_span in)
{
    if (MJ_LIKELY(usual_header(in))) {
        *car = (struct mj_car){in.ptr + 59, in.ptr + in.len, mj_span(in.ptr + 14, MJ_CID_LEN)};
        return 0;
    }
    if (in.len == 0)
        return MJ_ECAR;
    const uint8_t *p = in.ptr, *end = in.ptr + in.len;
    uint64_t len;
    if (!take_varint(&p, end, &len) || len > (size_t)(end - p))
        return MJ_ECAR;
    struct mj_cbor c = mj_cbor(mj_span(p, (size_t)len));
    struct mj_cbor_head h;
    *car = (struct mj_car){.p = p + len, .end = end};
    if (mj_cbor_check(mj_span(p, (size_t)len)) || mj_cbor_next(&c, &h) || h.type != MJ_CBOR_MAP)
        return MJ_ECAR;
    bool version = false;
    for (uint64_t pairs = h.n; pairs > 0; pairs--) {
        mj_cbor_next(&c, &h);
        struct mj_span key = h.s;
        struct mj_cbor value = c;
        mj_cbor_skip(&c);
        mj_cbor_next(&value, &h);
        if (mj_span_is(key, "version")) {
            version = h.type == MJ_CBOR_INT && h.i == 1;
        } else if (mj_span_is(key, "roots")) {
            uint64_t roots = h.type == MJ_CBOR_ARRAY ? h.n : 0;
            for (uint64_t i = 0; i < roots; i++) {
                if (mj_cbor_next(&value, &h) || h.type != MJ_CBOR_LINK)
                    return MJ_ECAR;
                if (i == 0)
                    car->root = h.s;
            }
        }
    }
    return version && car->root.len ? 0 : MJ_ECAR;
}

int mj__car_next_slow(struct mj_car *car, struct mj_car_section *out)
{
    if (car->p == car->end)
        return 0;
    uint64_t len;
    if (!take_varint(&car->p, car->end, &len) || len == 0 || len > (size_t)(car->end - car->p))
        return MJ_ECAR;
    struct mj_span section = mj_span(car->p, (size_t)len);
    int cid = mj_cid_parse(section);
    if (cid < 0)
        return MJ_ECAR;
    out->cid = mj_span(section.ptr, (size_t)cid);
    out->block = mj_span(section.ptr + cid, section.len - (size_t)cid);
    car->p += len;
    return 1;
}

static void put_varint(struct mj_buf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        mj_buf_putc(b, (char)(v | 0x80));
    mj_buf_putc(b, (char)v);
}

void mj_car_put_header(struct mj_buf *b, struct mj_span root)
{
    MJ_AUTO_BUF h = {0};
    mj_cbor_put_map(&h, 2);
    mj_cbor_put_text(&h, MJ_SPAN("roots"));
    mj_cbor_put_array(&h, 1);
    mj_cbor_put_link(&h, root);
    mj_cbor_put_text(&h, MJ_SPAN("version"));
    mj_cbor_put_int(&h, 1);
    put_varint(b, h.len);
    mj_buf_put(b, h.ptr, h.len);
}

void mj_car_put_section(struct mj_buf *b, struct mj_span cid, struct mj_span block)
{
    put_varint(b, cid.len + block.len);
    mj_buf_put(b, cid.ptr, cid.len);
    mj_buf_put(b, block.ptr, block.len);
}
