#include "atproto/mst.h"

#include "atproto/mst_node.h"
#include "base/err.h"

unsigned mj_mst_height(struct mj_span key)
{
    uint8_t hash[32];
    mj_sha256(key, hash);
    unsigned zeros = 0;
    for (size_t i = 0; i < sizeof hash; i++) {
        if (hash[i]) {
            zeros += (unsigned)__builtin_clz(hash[i]) - 24;
            break;
        }
        zeros += 8;
    }
    return zeros / 2;
}

size_t mj_mst_common_prefix(struct mj_span a, struct mj_span b)
{
    size_t n = a.len < b.len ? a.len : b.len, i = 0;
    while (i < n && a.ptr[i] == b.ptr[i])
        i++;
    return i;
}

struct mj_mst_node *mj__mst_node(int height)
{
    struct mj_mst_node *n = mj_calloc(1, sizeof *n);
    n->height = height;
    n->dirty = true;
    return n;
}

/* Recursion here and below is as deep as the tree is high: at most 129 levels. */
void mj__mst_node_free(struct mj_mst_node *n)
{
    if (!n)
        return;
    for (uint32_t i = 0; i < n->n; i++) {
        free(n->items[i].key);
        mj__mst_node_free(n->items[i].node);
    }
    free(n->items);
    free(n);
}

void mj__mst_open(struct mj_mst_node *n, uint32_t at, uint32_t count)
{
    if (!count)
        return;
    if (n->n + count > n->cap) {
        n->cap = n->n + count + (n->n + count) / 2;
        n->items = mj_realloc(n->items, n->cap * sizeof *n->items);
    }
    memmove(n->items + at + count, n->items + at, (n->n - at) * sizeof *n->items);
    memset(n->items + at, 0, count * sizeof *n->items);
    n->n += count;
}

/* Takes `count` items out; what they own must have been moved elsewhere. */
static void close_gap(struct mj_mst_node *n, uint32_t at, uint32_t count)
{
    memmove(n->items + at, n->items + at + count, (n->n - at - count) * sizeof *n->items);
    n->n -= count;
}

uint32_t mj__mst_slot(const struct mj_mst_node *n, struct mj_span key)
{
    uint32_t i = 0; /* a node has four leaves on average: no search beats a walk */
    while (i < n->n &&
           (!mj__mst_is_leaf(&n->items[i]) || mj_span_cmp(mj__mst_key(&n->items[i]), key) < 0))
        i++;
    return i;
}

struct mj_mst *mj_mst_new(void)
{
    struct mj_mst *t = mj_calloc(1, sizeof *t);
    t->root.node = mj__mst_node(0);
    return t;
}

void mj_mst_free(struct mj_mst *t)
{
    if (!t)
        return;
    mj__mst_node_free(t->root.node);
    mj_buf_deinit(&t->scratch);
    free(t);
}

/* Where a key is or would be: the leaf, or NULL after the search path has ended. MJ_EPARTIAL when
 * the path enters a stub. */
static int lookup(const struct mj_mst *t, struct mj_span key, struct mj_mst_item **leaf)
{
    const struct mj_mst_item *at = &t->root;
    *leaf = NULL;
    for (;;) {
        struct mj_mst_node *n = at->node;
        if (!n)
            return MJ_EPARTIAL;
        uint32_t slot = mj__mst_slot(n, key);
        if (slot < n->n && mj_span_eq(mj__mst_key(&n->items[slot]), key)) {
            *leaf = &n->items[slot];
            return 0;
        }
        if (!slot || mj__mst_is_leaf(&n->items[slot - 1]))
            return 0;
        at = &n->items[slot - 1];
    }
}

int mj_mst_find(const struct mj_mst *t, struct mj_span key, struct mj_cid *value)
{
    struct mj_mst_item *leaf;
    int r = lookup(t, key, &leaf);
    if (!r && !leaf)
        r = MJ_ENOENT;
    if (!r && value)
        *value = leaf->cid;
    return r;
}

/* Marks the path from the root down to the key's level. */
static void dirty_path(struct mj_mst *t, struct mj_span key)
{
    for (struct mj_mst_node *n = t->root.node; n;) {
        n->dirty = true;
        uint32_t slot = mj__mst_slot(n, key);
        bool here = slot < n->n && mj_span_eq(mj__mst_key(&n->items[slot]), key);
        if (here || !slot || mj__mst_is_leaf(&n->items[slot - 1]))
            return;
        n = n->items[slot - 1].node;
    }
}

/* Cuts a node in two at a key that is not in it: the node keeps what is smaller, the rest is
 * returned. Either side may be empty, which is NULL for the right side and n == 0 for the left. */
static struct mj_mst_node *split(struct mj_mst_node *n, struct mj_span key)
{
    uint32_t slot = mj__mst_slot(n, key);
    struct mj_mst_node *right = mj__mst_node(n->height);
    n->dirty = true;
    if (slot < n->n) {
        mj__mst_open(right, 0, n->n - slot);
        memcpy(right->items, n->items + slot, (n->n - slot) * sizeof *n->items);
        n->n = slot;
    }
    if (slot && !mj__mst_is_leaf(&n->items[slot - 1])) {
        struct mj_mst_node *below = n->items[slot - 1].node;
        struct mj_mst_node *rest = split(below, key);
        if (!below->n) {
            mj__mst_node_free(below);
            n->n--;
        }
        if (rest) {
            mj__mst_open(right, 0, 1);
            right->items[0].node = rest;
        }
    }
    if (!right->n) {
        mj__mst_node_free(right);
        return NULL;
    }
    return right;
}

/* Puts single-child nodes on top of a subtree until it has the height. */
static struct mj_mst_node *raise_to(struct mj_mst_node *n, int height)
{
    while (n->height < height) {
        struct mj_mst_node *up = mj__mst_node(n->height + 1);
        mj__mst_open(up, 0, 1);
        up->items[0].node = n;
        n = up;
    }
    return n;
}

static struct mj_mst_item leaf_item(struct mj_span key, const struct mj_cid *value)
{
    struct mj_mst_item i = {.key_len = (uint32_t)key.len, .cid = *value};
    i.key = mj_alloc(key.len);
    memcpy(i.key, key.ptr, key.len);
    return i;
}

/* Places a leaf of the node's own height at its slot, splitting the subtree that covers it. */
static void place(struct mj_mst_node *n, struct mj_mst_item leaf)
{
    struct mj_span key = mj__mst_key(&leaf);
    uint32_t slot = mj__mst_slot(n, key);
    struct mj_mst_node *right = NULL;
    n->dirty = true;
    if (slot && !mj__mst_is_leaf(&n->items[slot - 1])) {
        struct mj_mst_node *below = n->items[slot - 1].node;
        right = split(below, key);
        if (!below->n) {
            mj__mst_node_free(below);
            close_gap(n, --slot, 1);
        }
    }
    mj__mst_open(n, slot, right ? 2 : 1);
    n->items[slot] = leaf;
    if (right)
        n->items[slot + 1].node = right;
}

static struct mj_mst_node *insert(struct mj_mst_node *n, struct mj_mst_item leaf, int height)
{
    struct mj_span key = mj__mst_key(&leaf);
    if (!n->n)
        n->height = height; /* the empty root takes any height */
    n->dirty = true;
    if (height == n->height) {
        place(n, leaf);
        return n;
    }
    if (height > n->height) {
        struct mj_mst_node *top = mj__mst_node(height), *right = split(n, key);
        mj__mst_open(top, 0, 1);
        top->items[0] = leaf;
        if (right) {
            mj__mst_open(top, 1, 1);
            top->items[1].node = raise_to(right, height - 1);
        }
        if (n->n) {
            mj__mst_open(top, 0, 1);
            top->items[0].node = raise_to(n, height - 1);
        } else {
            mj__mst_node_free(n);
        }
        return top;
    }
    uint32_t slot = mj__mst_slot(n, key);
    if (slot && !mj__mst_is_leaf(&n->items[slot - 1])) {
        n->items[slot - 1].node = insert(n->items[slot - 1].node, leaf, height);
        return n;
    }
    struct mj_mst_node *bottom = mj__mst_node(height);
    mj__mst_open(bottom, 0, 1);
    bottom->items[0] = leaf;
    mj__mst_open(n, slot, 1);
    n->items[slot].node = raise_to(bottom, n->height - 1);
    return n;
}

int mj_mst_put(struct mj_mst *t, struct mj_span key, const struct mj_cid *value, struct mj_cid *old)
{
    if (!key.len || key.len > MJ_MST_KEY_MAX)
        return MJ_ELIMIT;
    struct mj_mst_item *leaf;
    int r = lookup(t, key, &leaf);
    if (r)
        return r;
    if (leaf) {
        if (old)
            *old = leaf->cid;
        leaf->cid = *value;
        dirty_path(t, key);
        return 1;
    }
    t->root.node = insert(t->root.node, leaf_item(key, value), (int)mj_mst_height(key));
    return 0;
}

/* True when two neighbouring subtrees can be joined without looking into a stub. */
static bool can_merge(const struct mj_mst_item *a, const struct mj_mst_item *b)
{
    while (a->node && b->node) {
        a = &a->node->items[a->node->n - 1];
        b = &b->node->items[0];
        if (mj__mst_is_leaf(a) || mj__mst_is_leaf(b))
            return true;
    }
    return false;
}

/* Appends b's items to a and frees b. */
static void merge(struct mj_mst_node *a, struct mj_mst_node *b)
{
    struct mj_mst_item *last = &a->items[a->n - 1], *first = &b->items[0];
    uint32_t skip = 0;
    a->dirty = true;
    if (!mj__mst_is_leaf(last) && !mj__mst_is_leaf(first)) {
        merge(last->node, first->node);
        skip = 1;
    }
    if (b->n > skip) {
        uint32_t at = a->n;
        mj__mst_open(a, at, b->n - skip);
        memcpy(a->items + at, b->items + skip, (b->n - skip) * sizeof *b->items);
    }
    free(b->items);
    free(b);
}

/* Removes a key that is known to be there. The node may end up empty. */
static void take(struct mj_mst_node *n, struct mj_span key)
{
    n->dirty = true;
    uint32_t slot = mj__mst_slot(n, key);
    if (slot < n->n && mj_span_eq(mj__mst_key(&n->items[slot]), key)) {
        free(n->items[slot].key);
        close_gap(n, slot, 1);
        if (slot && slot < n->n && !mj__mst_is_leaf(&n->items[slot - 1]) &&
            !mj__mst_is_leaf(&n->items[slot])) {
            merge(n->items[slot - 1].node, n->items[slot].node);
            close_gap(n, slot, 1);
        }
        return;
    }
    struct mj_mst_node *below = n->items[slot - 1].node;
    take(below, key);
    if (!below->n) {
        mj__mst_node_free(below);
        close_gap(n, slot - 1, 1);
    }
}

/* The node that holds a key which is known to be there. */
static struct mj_mst_node *holder(struct mj_mst_node *n, struct mj_span key, uint32_t *slot)
{
    for (;;) {
        *slot = mj__mst_slot(n, key);
        if (*slot < n->n && mj_span_eq(mj__mst_key(&n->items[*slot]), key))
            return n;
        n = n->items[*slot - 1].node;
    }
}

/* A root that is nothing but one subtree gives way to it, be it a stub. */
static void trim(struct mj_mst *t)
{
    while (t->root.node && t->root.node->n == 1 && !mj__mst_is_leaf(&t->root.node->items[0])) {
        struct mj_mst_node *old = t->root.node;
        t->root = old->items[0];
        old->n = 0;
        mj__mst_node_free(old);
    }
    if (t->root.node && !t->root.node->n)
        t->root.node->height = 0;
}

int mj_mst_remove(struct mj_mst *t, struct mj_span key, struct mj_cid *old)
{
    struct mj_mst_item *leaf;
    int r = lookup(t, key, &leaf);
    if (r)
        return r;
    if (!leaf)
        return MJ_ENOENT;
    uint32_t slot;
    struct mj_mst_node *n = holder(t->root.node, key, &slot);
    if (slot && slot + 1 < n->n && !mj__mst_is_leaf(&n->items[slot - 1]) &&
        !mj__mst_is_leaf(&n->items[slot + 1]) &&
        !can_merge(&n->items[slot - 1], &n->items[slot + 1]))
        return MJ_EPARTIAL;
    if (old)
        *old = leaf->cid;
    take(t->root.node, key);
    trim(t);
    return 0;
}

static int leaves(const struct mj_mst_item *at, mj_mst_leaf_fn fn, void *ctx)
{
    if (!at->node)
        return MJ_EPARTIAL;
    int r = 0;
    for (uint32_t i = 0; i < at->node->n && !r; i++) {
        const struct mj_mst_item *item = &at->node->items[i];
        r = mj__mst_is_leaf(item) ? fn(ctx, mj__mst_key(item), &item->cid) : leaves(item, fn, ctx);
    }
    return r;
}

int mj_mst_leaves(const struct mj_mst *t, mj_mst_leaf_fn fn, void *ctx)
{
    return leaves(&t->root, fn, ctx);
}

static int by_turn(const void *a, const void *b)
{
    const struct mj_mst_op *x = a, *y = b;
    int dx = x->action == MJ_MST_DELETE, dy = y->action == MJ_MST_DELETE;
    return dx != dy ? dy - dx : mj_span_cmp(x->path, y->path);
}

static bool same(const struct mj_cid *a, const struct mj_cid *b)
{
    return memcmp(a->bytes, b->bytes, MJ_CID_LEN) == 0;
}

int mj_mst_invert(struct mj_mst *t, struct mj_mst_op *ops, size_t n)
{
    if (n)
        qsort(ops, n, sizeof *ops, by_turn);
    for (size_t i = 0; i < n; i++) {
        const struct mj_mst_op *op = &ops[i];
        struct mj_cid was;
        int r;
        if (op->action == MJ_MST_CREATE) {
            r = mj_mst_remove(t, op->path, &was);
            if (r == MJ_ENOENT || (!r && !same(&was, &op->cid)))
                return MJ_EMISMATCH;
        } else {
            r = mj_mst_put(t, op->path, &op->prev, &was);
            int expected = op->action == MJ_MST_UPDATE;
            if (r >= 0 && (r != expected || (expected && !same(&was, &op->cid))))
                return MJ_EMISMATCH;
        }
        if (r < 0)
            return r;
    }
    return 0;
}
