/* What tests need to look into firehose frames. Include after cmocka_all.h. */
#pragma once

#include "atproto/car.h"
#include "atproto/cbor.h"
#include "atproto/mst.h"
#include "base/bytes.h"

/* The sections of a CAR, every one of which hashes to its CID. */
struct mj_test_blocks {
    struct mj_car_section *v; /* owned */
    size_t n, cap;
};

static inline void mj_test_read_car(struct mj_span in, struct mj_span *root,
                                    struct mj_test_blocks *out)
{
    struct mj_car car;
    assert_int_equal(mj_car_open(&car, in), 0);
    *root = car.root;
    out->n = 0;
    for (;;) {
        if (out->n == out->cap) {
            out->cap = out->cap ? out->cap * 2 : 64;
            out->v = mj_realloc(out->v, out->cap * sizeof *out->v);
        }
        int r = mj_car_next(&car, &out->v[out->n]);
        assert_true(r >= 0);
        if (!r)
            return;
        assert_true(mj_cid_matches(out->v[out->n].cid, out->v[out->n].block));
        out->n++;
    }
}

/* Fits mj_block_fn. */
static inline struct mj_span mj_test_find_block(void *ctx, struct mj_span cid)
{
    const struct mj_test_blocks *b = ctx;
    for (size_t i = 0; i < b->n; i++)
        if (mj_span_eq(b->v[i].cid, cid))
            return b->v[i].block;
    return (struct mj_span){0};
}

/* The head of a key's value; false when the key is absent. */
static inline bool mj_test_get(struct mj_span map, const char *key, struct mj_cbor_head *h)
{
    struct mj_span value;
    if (mj_cbor_map_get(map, mj_str(key), &value))
        return false;
    struct mj_cbor c = mj_cbor(value);
    assert_int_equal(mj_cbor_next(&c, h), 0);
    return true;
}

static inline struct mj_cid mj_test_cid(struct mj_span s)
{
    struct mj_cid c;
    assert_int_equal(s.len, MJ_CID_LEN);
    memcpy(c.bytes, s.ptr, MJ_CID_LEN);
    return c;
}

/* Splits a frame into its two maps; both must be canonical. */
static inline void mj_test_split(struct mj_span frame, struct mj_span *head,
                                 struct mj_span *payload)
{
    struct mj_cbor c = mj_cbor(frame);
    assert_int_equal(mj_cbor_skip(&c), 0);
    *head = mj_span(frame.ptr, (size_t)(c.p - frame.ptr));
    *payload = mj_span(c.p, (size_t)(c.end - c.p));
    assert_int_equal(mj_cbor_check(*head), 0);
    assert_int_equal(mj_cbor_check(*payload), 0);
}

/* The operations of a #commit payload. */
static inline size_t mj_test_read_ops(struct mj_span payload, struct mj_mst_op *ops, size_t max)
{
    struct mj_span list;
    assert_int_equal(mj_cbor_map_get(payload, MJ_SPAN("ops"), &list), 0);
    struct mj_cbor c = mj_cbor(list);
    struct mj_cbor_head h;
    assert_int_equal(mj_cbor_next(&c, &h), 0);
    assert_true(h.type == MJ_CBOR_ARRAY && h.n <= max);
    for (uint64_t i = 0; i < h.n; i++) {
        const uint8_t *start = c.p;
        assert_int_equal(mj_cbor_skip(&c), 0);
        struct mj_span op = mj_span(start, (size_t)(c.p - start));
        struct mj_cbor_head v;
        memset(&ops[i], 0, sizeof ops[i]);
        assert_true(mj_test_get(op, "path", &v));
        ops[i].path = v.s;
        assert_true(mj_test_get(op, "action", &v));
        ops[i].action = mj_span_is(v.s, "create")   ? MJ_MST_CREATE
                        : mj_span_is(v.s, "update") ? MJ_MST_UPDATE
                                                    : MJ_MST_DELETE;
        assert_true(mj_test_get(op, "cid", &v));
        assert_int_equal(v.type, ops[i].action == MJ_MST_DELETE ? MJ_CBOR_NULL : MJ_CBOR_LINK);
        if (v.type == MJ_CBOR_LINK)
            ops[i].cid = mj_test_cid(v.s);
        bool has_prev = mj_test_get(op, "prev", &v);
        assert_int_equal(has_prev, ops[i].action != MJ_MST_CREATE);
        if (has_prev)
            ops[i].prev = mj_test_cid(v.s);
    }
    return (size_t)h.n;
}
