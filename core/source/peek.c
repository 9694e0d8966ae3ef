#include "source/peek.h"

#include "atproto/cbor.h"
#include "base/err.h"

/* The header: a map of `op` and `t`, in either order, foreign keys ignored. */
static int header(struct mj_cbor *c, struct mj_peek *out)
{
    struct mj_cbor_head map, key, value;
    int err = mj_cbor_next(c, &map);
    if (err || map.type != MJ_CBOR_MAP)
        return err ? err : MJ_EFRAME;
    for (uint64_t i = 0; i < map.n; i++) {
        if ((err = mj_cbor_next(c, &key)))
            return err;
        if (key.type != MJ_CBOR_TEXT)
            return MJ_EFRAME;
        bool op = mj_span_is(key.s, "op"), t = mj_span_is(key.s, "t");
        if (!op && !t) {
            if ((err = mj_cbor_skip(c)))
                return err;
            continue;
        }
        if ((err = mj_cbor_next(c, &value)))
            return err;
        if (value.type != (op ? MJ_CBOR_INT : MJ_CBOR_TEXT))
            return MJ_EFRAME;
        if (op)
            out->op = value.i;
        else
            out->t = value.s;
    }
    return 0;
}

int mj_peek(struct mj_span frame, bool want_time, struct mj_peek *out)
{
    *out = (struct mj_peek){0};
    struct mj_cbor c = mj_cbor(frame);
    int err = header(&c, out);
    if (err)
        return err;
    out->payload = mj_span(c.p, (size_t)(c.end - c.p));
    struct mj_cbor_head map, key, value;
    if ((err = mj_cbor_next(&c, &map)))
        return err;
    if (map.type != MJ_CBOR_MAP)
        return MJ_EFRAME;
    for (uint64_t i = 0; i < map.n; i++) {
        if ((err = mj_cbor_next(&c, &key)))
            return err;
        if (key.type != MJ_CBOR_TEXT)
            return MJ_EFRAME;
        const uint8_t *at = c.p;
        if (mj_span_is(key.s, "seq")) {
            if ((err = mj_cbor_next(&c, &value)))
                return err;
            if (value.type != MJ_CBOR_INT || value.i < 0)
                return MJ_EFRAME;
            out->seq = value.i;
            out->seq_at = mj_span(at, (size_t)(c.p - at));
            if (!want_time)
                return 0;
        } else if (want_time && mj_span_is(key.s, "time")) {
            if ((err = mj_cbor_next(&c, &value)))
                return err;
            if (value.type != MJ_CBOR_TEXT)
                return MJ_EFRAME;
            out->time = value.s;
        } else if ((err = mj_cbor_skip(&c))) {
            return err;
        }
    }
    return c.p == c.end ? 0 : MJ_EFRAME;
}

void mj_peek_reseq(struct mj_span frame, const struct mj_peek *peek, int64_t seq,
                   struct mj_buf *out)
{
    if (!peek->seq_at.len) {
        mj_buf_put(out, frame.ptr, frame.len);
        return;
    }
    const uint8_t *behind = peek->seq_at.ptr + peek->seq_at.len;
    mj_buf_put(out, frame.ptr, (size_t)(peek->seq_at.ptr - frame.ptr));
    mj_cbor_put_int(out, seq);
    mj_buf_put(out, behind, (size_t)(frame.ptr + frame.len - behind));
}
