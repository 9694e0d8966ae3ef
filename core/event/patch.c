#include "event/patch.h"

#include "base/err.h"

void mj_patch_begin(struct mj_patch *p, struct mj_span record)
{
    p->record = record;
    p->version = 0;
    p->keep_cid = false;
}

void mj_patch_deinit(struct mj_patch *p)
{
    mj_buf_deinit(&p->buf[0]);
    mj_buf_deinit(&p->buf[1]);
}

/* Where an edit goes: in the container whose head is at [head, body), the bytes [from, to) make
 * room for the new ones. */
struct spot {
    const uint8_t *head, *body;
    const uint8_t *from, *to;
    uint64_t count;
    bool is_map, found;
};

/* DRISL's order of map keys: shorter first, then bytewise. */
static int key_cmp(struct mj_span a, struct mj_span b)
{
    if (a.len != b.len)
        return a.len < b.len ? -1 : 1;
    return a.len ? memcmp(a.ptr, b.ptr, a.len) : 0;
}

static int locate(struct mj_span container, const struct mj_step *step, struct spot *out)
{
    struct mj_cbor c = mj_cbor(container);
    struct mj_cbor_head head, key;
    int err = mj_cbor_next(&c, &head);
    if (err)
        return err;
    if (head.type != MJ_CBOR_MAP && head.type != MJ_CBOR_ARRAY)
        return MJ_ETYPE;
    *out = (struct spot){
        .head = container.ptr, .body = c.p, .count = head.n, .is_map = head.type == MJ_CBOR_MAP};
    if (out->is_map ? !step->key.ptr : !step->index || step->index > head.n + 1)
        return MJ_ENOENT;
    for (uint64_t i = 0; i < head.n; i++) {
        out->from = c.p;
        int order = i + 1 == step->index ? 0 : -1;
        if (out->is_map) {
            if ((err = mj_cbor_next(&c, &key)))
                return err;
            order = key_cmp(key.s, step->key);
        }
        if (order > 0) {
            out->to = out->from;
            return 0;
        }
        if ((err = mj_cbor_skip_checked(&c)))
            return err;
        if (order == 0) {
            out->to = c.p;
            out->found = true;
            return 0;
        }
    }
    out->from = out->to = c.p;
    return 0;
}

/* Levels of containers in an item; stops counting at the limit. */
static unsigned depth_of(struct mj_cbor *c, unsigned limit)
{
    struct mj_cbor_head head;
    unsigned deepest = 0;
    if (!limit || mj_cbor_next(c, &head))
        return 0;
    if (head.type != MJ_CBOR_ARRAY && head.type != MJ_CBOR_MAP)
        return 0;
    for (uint64_t i = 0; i < head.n; i++) {
        if (head.type == MJ_CBOR_MAP && mj_cbor_skip_checked(c))
            return deepest + 1;
        unsigned d = depth_of(c, limit - 1);
        if (d > deepest)
            deepest = d;
    }
    return deepest + 1;
}

static int edit(struct mj_patch *p, const struct mj_path *path, const struct mj_span *value)
{
    const uint8_t *start = p->record.ptr, *end = start + p->record.len;
    struct mj_buf *out = &p->buf[p->version % 2];
    struct mj_span in = p->record;
    struct spot spot = {0};
    if (!path->count && !value)
        return MJ_EINVAL;
    for (unsigned i = 0; i + 1 < path->count; i++) {
        int err = mj_path_step(in, &path->steps[i], &in);
        if (err)
            return err;
    }
    const struct mj_step *last = path->count ? &path->steps[path->count - 1] : NULL;
    if (last) {
        int err = locate(in, last, &spot);
        if (err)
            return err;
        if (!value && !spot.found)
            return 0;
    } else {
        spot = (struct spot){.head = start, .body = start, .from = start, .to = end, .found = true};
    }
    size_t grow = 0;
    if (value) {
        struct mj_cbor c = mj_cbor(*value);
        if (path->count + depth_of(&c, MJ_CBOR_DEPTH_MAX) >= MJ_CBOR_DEPTH_MAX)
            return MJ_EDEPTH;
        grow = value->len + (last ? last->key.len : 0) + 32; /* and two heads */
    }
    if (p->record.len + grow > MJ_PATCH_RECORD_MAX)
        return MJ_ELIMIT;
    out->len = 0;
    if (mj_buf_try_reserve(out, p->record.len + grow + 16))
        return MJ_ENOMEM;

    uint64_t count = spot.count + (value && !spot.found) - (!value && spot.found);
    mj_buf_put(out, start, (size_t)(spot.head - start));
    if (last && count == spot.count)
        mj_buf_put(out, spot.head, (size_t)(spot.body - spot.head));
    else if (last && spot.is_map)
        mj_cbor_put_map(out, count);
    else if (last)
        mj_cbor_put_array(out, count);
    mj_buf_put(out, spot.body, (size_t)(spot.from - spot.body));
    if (value) {
        if (spot.is_map)
            mj_cbor_put_text(out, last->key);
        mj_buf_put(out, value->ptr, value->len);
    }
    mj_buf_put(out, spot.to, (size_t)(end - spot.to));
    p->record = mj_buf_span(out);
    p->version++;
    return 0;
}

int mj_patch_set(struct mj_patch *p, const struct mj_path *path, struct mj_span value)
{
    return edit(p, path, &value);
}

int mj_patch_unset(struct mj_patch *p, const struct mj_path *path)
{
    int err = edit(p, path, NULL);
    return err == MJ_ENOENT ? 0 : err;
}

void mj_patch_event(const struct mj_patch *p, const struct mj_event *in, struct mj_event *out)
{
    *out = *in;
    if (!mj_patch_changed(p))
        return;
    out->record = p->record;
    if (!p->keep_cid)
        out->cid = mj_span(NULL, 0);
}
