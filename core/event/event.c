#include "event/event.h"

#include "atproto/cbor.h"
#include "event/shape.h"

const char *mj_kind_name(enum mj_kind k)
{
    static const char *const names[] = {"commit", "identity", "account"};
    return (size_t)k < MJ_COUNT(names) ? names[k] : "";
}

const char *mj_op_name(enum mj_op op)
{
    static const char *const names[] = {"", "create", "update", "delete"};
    return (size_t)op < MJ_COUNT(names) ? names[op] : "";
}

/* One value with its children; `shape` tells what kind of map it was, `weight` is what the maps may
 * still weigh. */
static int check(struct mj_cbor *c, unsigned depth, enum mj__shape *shape, size_t *weight)
{
    struct mj_cbor_head h, key;
    enum mj__shape ignored;
    int err = mj_cbor_next(c, &h);
    if (err || (h.type != MJ_CBOR_ARRAY && h.type != MJ_CBOR_MAP))
        return err;
    if (depth == MJ_CBOR_DEPTH_MAX)
        return MJ_EDEPTH;
    if (h.n > MJ__CONTAINER_MAX)
        return MJ_ELIMIT;
    struct mj__map map = {c->p, h.n, MJ__PLAIN};
    struct mj_span last = {0};
    for (uint64_t i = 0; i < h.n; i++) {
        if (h.type == MJ_CBOR_MAP) {
            if (c->p < c->end && *c->p >> 5 != MJ__TEXT)
                return MJ_EKEYTYPE;
            if ((err = mj_cbor_next(c, &key)))
                return err;
            if (key.s.len > MJ__KEY_MAX)
                return MJ_ELIMIT;
            int cmp = i ? mj__cbor_key_cmp(last, key.s) : -1;
            if (cmp >= 0)
                return cmp ? MJ_EKEYORDER : MJ_EKEYDUP;
            last = key.s;
            if (mj__shape_asks(&map, i, key.s) &&
                (err = mj__shape_key(&map, i, key.s, c->p, c->end)))
                return err;
        }
        if ((err = check(c, depth + 1, &ignored, weight)))
            return err;
    }
    size_t size = (size_t)(c->p - map.first);
    if (h.type == MJ_CBOR_MAP) {
        if (size > *weight)
            return MJ_EDEPTH;
        *weight -= size;
    }
    *shape = map.shape;
    return 0;
}

int mj_record_check(struct mj_span record)
{
    struct mj_cbor c = mj_cbor(record);
    enum mj__shape shape = MJ__PLAIN;
    size_t weight = mj__weight_max(record.len);
    bool map = record.len && record.ptr[0] >> 5 == MJ__MAP;
    int err = check(&c, 0, &shape, &weight);
    if (err)
        return err;
    if (c.p != c.end)
        return MJ_ETRAILING;
    return map && shape == MJ__PLAIN ? 0 : MJ_ERECORD;
}
