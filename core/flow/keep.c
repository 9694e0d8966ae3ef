/* What a keep node leaves of a record. The paths are merged into a tree once:
 *
 *   "reply.root.uri", "reply.parent", "text"      reply ─┬─ root ── uri ●
 *                                                        └─ parent ●
 *                                                 text ●                    ● with all below it
 *
 * Per record, each path is looked up first, which marks the branches that exist: a map's head says
 * how many entries follow, so that must be known before it is written. */
#include "flow/operator.h"

#define NONE 0 /* no branch leads to the root */

struct branch {
    struct mj_step step; /* key borrowed from the path */
    bool whole;          /* a path ends here */
    bool present;        /* in this record */
    uint32_t child, next;
};

struct mj__keep {
    struct branch *branches; /* owned; the first is the root */
    size_t count, cap;
    const struct mj_path *paths; /* borrowed */
    size_t path_count;
};

static bool same_step(const struct mj_step *a, const struct mj_step *b)
{
    /* "[1]" and "1" may name the same item. */
    if (a->index && a->index == b->index)
        return true;
    return a->key.ptr && b->key.ptr && mj_span_eq(a->key, b->key);
}

/* The branch of a step below another; made if need be. */
static uint32_t child_of(struct mj__keep *k, uint32_t at, const struct mj_step *step, bool make)
{
    uint32_t i = k->branches[at].child;
    while (i != NONE && !same_step(&k->branches[i].step, step))
        i = k->branches[i].next;
    if (i != NONE || !make) {
        if (i != NONE && make && !k->branches[i].step.key.ptr)
            k->branches[i].step = *step;
        return i;
    }
    if (k->count == k->cap) {
        k->cap = k->cap ? k->cap * 2 : 16;
        k->branches = mj_realloc(k->branches, k->cap * sizeof *k->branches);
    }
    k->branches[k->count] = (struct branch){.step = *step, .next = k->branches[at].child};
    k->branches[at].child = (uint32_t)k->count;
    return (uint32_t)k->count++;
}

struct mj__keep *mj__keep_new(const struct mj_path *paths, size_t count)
{
    struct mj__keep *k = mj_calloc(1, sizeof *k);
    k->paths = paths;
    k->path_count = count;
    k->cap = 16;
    k->branches = mj_alloc(k->cap * sizeof *k->branches);
    k->branches[k->count++] = (struct branch){.child = NONE};
    for (size_t i = 0; i < count; i++) {
        uint32_t at = 0;
        for (unsigned s = 0; s < paths[i].count; s++)
            at = child_of(k, at, &paths[i].steps[s], true);
        k->branches[at].whole = true;
    }
    return k;
}

void mj__keep_free(struct mj__keep *k)
{
    if (!k)
        return;
    free(k->branches);
    free(k);
}

static void write_branch(const struct mj__keep *k, uint32_t at, struct mj_span in,
                         struct mj_buf *out)
{
    const struct branch *b = &k->branches[at];
    struct mj_cbor c = mj_cbor(in);
    struct mj_cbor_head head;
    if (b->whole || mj_cbor_next(&c, &head) ||
        (head.type != MJ_CBOR_MAP && head.type != MJ_CBOR_ARRAY)) {
        struct mj_span item = mj_cbor_item(in);
        mj_buf_put(out, item.ptr, item.len);
        return;
    }
    bool map = head.type == MJ_CBOR_MAP;
    uint64_t left = 0;
    for (uint32_t i = b->child; i != NONE; i = k->branches[i].next)
        left += k->branches[i].present;
    if (map)
        mj_cbor_put_map(out, left);
    else
        mj_cbor_put_array(out, left);
    for (uint64_t n = 1; n <= head.n && left; n++) {
        struct mj_cbor_head key = {0};
        if (map && mj_cbor_next(&c, &key))
            return;
        uint32_t i = b->child;
        while (i != NONE &&
               !(k->branches[i].present &&
                 (map ? k->branches[i].step.key.ptr && mj_span_eq(k->branches[i].step.key, key.s)
                      : k->branches[i].step.index == n)))
            i = k->branches[i].next;
        if (i != NONE) {
            if (map)
                mj_cbor_put_text(out, key.s);
            write_branch(k, i, mj_span(c.p, (size_t)(c.end - c.p)), out);
            left--;
        }
        if (mj_cbor_skip_checked(&c))
            return;
    }
}

void mj__keep_write(struct mj__keep *k, struct mj_span record, struct mj_buf *out)
{
    for (size_t i = 0; i < k->count; i++)
        k->branches[i].present = false;
    for (size_t i = 0; i < k->path_count; i++) {
        struct mj_span value;
        if (mj_path_find(record, &k->paths[i], &value))
            continue;
        uint32_t at = 0;
        for (unsigned s = 0; s < k->paths[i].count; s++) {
            at = child_of(k, at, &k->paths[i].steps[s], false);
            k->branches[at].present = true;
        }
    }
    write_branch(k, 0, record, out);
}
