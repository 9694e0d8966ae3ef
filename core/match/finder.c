#include "match/finder.h"

#include "base/err.h"

#define KEPT_MAX ((size_t)1 << 20) /* bytes kept from one record to the next */

struct mj__child {
    uint32_t key, value; /* where they start in the record */
};

void mj__finder_begin(struct mj__finder *f, struct mj_span record)
{
    if (f->children.cap > KEPT_MAX)
        mj_buf_deinit(&f->children);
    f->children.len = 0;
    f->opened_count = 0;
    f->record = record;
}

void mj__finder_deinit(struct mj__finder *f) { mj_buf_deinit(&f->children); }

static uint32_t offset(const struct mj__finder *f, const uint8_t *p)
{
    return (uint32_t)(p - f->record.ptr);
}

static struct mj_span from(const struct mj__finder *f, uint32_t at)
{
    return mj_span(f->record.ptr + at, f->record.len - at);
}

/* The container at the start of `in`; NULL when it is none, or cannot be remembered. */
static const struct mj__opened *open_at(struct mj__finder *f, struct mj_span in)
{
    struct mj_cbor c = mj_cbor(in);
    struct mj_cbor_head head, key;
    struct mj__opened o = {.at = offset(f, in.ptr),
                           .first = (uint32_t)(f->children.len / sizeof(struct mj__child))};
    for (size_t i = 0; i < f->opened_count; i++)
        if (f->opened[i].at == o.at)
            return &f->opened[i];
    if (f->opened_count == MJ__FINDER_OPEN || mj_cbor_next(&c, &head) ||
        (head.type != MJ_CBOR_MAP && head.type != MJ_CBOR_ARRAY))
        return NULL;
    o.is_map = head.type == MJ_CBOR_MAP;
    for (; o.count < head.n; o.count++) {
        struct mj__child child = {.key = offset(f, c.p)};
        bool bad = o.is_map && mj_cbor_next(&c, &key);
        child.value = offset(f, c.p);
        if (bad || mj_cbor_skip_checked(&c) || mj_buf_try_reserve(&f->children, sizeof child)) {
            f->children.len = o.first * sizeof child;
            return NULL;
        }
        mj_buf_put(&f->children, &child, sizeof child);
    }
    f->opened[f->opened_count] = o;
    return &f->opened[f->opened_count++];
}

/* In the order of keys: shorter first, then bytewise. */
static int compare(const struct mj__finder *f, const struct mj__child *child, struct mj_span key)
{
    struct mj_cbor c = mj_cbor(from(f, child->key));
    struct mj_cbor_head head;
    if (mj_cbor_next(&c, &head))
        return -1;
    if (head.s.len != key.len)
        return head.s.len < key.len ? -1 : 1;
    return key.len ? memcmp(head.s.ptr, key.ptr, key.len) : 0;
}

int mj__finder_step(struct mj__finder *f, struct mj_span in, const struct mj_step *step,
                    struct mj_span *value)
{
    const struct mj__opened *o = f->record.len < UINT32_MAX ? open_at(f, in) : NULL;
    if (!o)
        return mj_path_step(in, step, value);
    if (!o->count)
        return MJ_ENOENT;
    const struct mj__child *child = (const struct mj__child *)(void *)f->children.ptr + o->first;
    if (!o->is_map) {
        if (!step->index || step->index > o->count)
            return MJ_ENOENT;
        *value = from(f, child[step->index - 1].value);
        return 0;
    }
    uint32_t low = 0, high = step->key.ptr ? o->count : 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int c = compare(f, &child[middle], step->key);
        if (c == 0) {
            *value = from(f, child[middle].value);
            return 0;
        }
        if (c < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return MJ_ENOENT;
}
