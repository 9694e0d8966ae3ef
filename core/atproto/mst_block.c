/* MST nodes as blocks: encoding, loading, and the proofs that go into a commit's CAR. */
#include "atproto/cbor.h"
#include "atproto/mst.h"
#include "atproto/mst_node.h"
#include "base/err.h"

static void put_subtree(struct mj_buf *b, const struct mj_mst_item *i)
{
    if (!i) {
        mj_cbor_put_null(b);
        return;
    }
    const struct mj_cid *cid = i->node ? &i->node->cid : &i->cid;
    mj_cbor_put_link(b, mj_span(cid->bytes, MJ_CID_LEN));
}

/* Writes the block of a node whose subtrees all have their CIDs. */
static void encode(const struct mj_mst_node *n, struct mj_buf *b)
{
    uint32_t first = n->n && !mj__mst_is_leaf(&n->items[0]), leaves = 0;
    for (uint32_t i = first; i < n->n; i++)
        leaves += mj__mst_is_leaf(&n->items[i]);
    b->len = 0;
    mj_cbor_put_map(b, 2);
    mj_cbor_put_text(b, MJ_SPAN("e"));
    mj_cbor_put_array(b, leaves);
    struct mj_span before = {0};
    for (uint32_t i = first; i < n->n; i++) {
        const struct mj_mst_item *item = &n->items[i];
        if (!mj__mst_is_leaf(item))
            continue;
        struct mj_span key = mj__mst_key(item);
        size_t p = mj_mst_common_prefix(before, key);
        bool subtree = i + 1 < n->n && !mj__mst_is_leaf(&n->items[i + 1]);
        mj_cbor_put_map(b, 4);
        mj_cbor_put_text(b, MJ_SPAN("k"));
        mj_cbor_put_bytes(b, mj_span(key.ptr + p, key.len - p));
        mj_cbor_put_text(b, MJ_SPAN("p"));
        mj_cbor_put_int(b, (int64_t)p);
        mj_cbor_put_text(b, MJ_SPAN("t"));
        put_subtree(b, subtree ? &n->items[i + 1] : NULL);
        mj_cbor_put_text(b, MJ_SPAN("v"));
        mj_cbor_put_link(b, mj_span(item->cid.bytes, MJ_CID_LEN));
        before = key;
    }
    mj_cbor_put_text(b, MJ_SPAN("l"));
    put_subtree(b, first ? &n->items[0] : NULL);
}

static void settle(struct mj_mst *t, struct mj_mst_node *n)
{
    if (!n || !n->dirty)
        return;
    for (uint32_t i = 0; i < n->n; i++)
        settle(t, n->items[i].node);
    encode(n, &t->scratch);
    mj_cid_of(mj_buf_span(&t->scratch), &n->cid);
    n->dirty = false;
    n->fresh = true;
}

void mj_mst_root(struct mj_mst *t, struct mj_cid *root)
{
    settle(t, t->root.node);
    *root = t->root.node ? t->root.node->cid : t->root.cid;
}

/* A walk that hands out each node once. */
struct walk {
    struct mj_mst *t;
    mj_mst_node_fn fn;
    void *ctx;
};

static void emit(struct walk *w, struct mj_mst_node *n)
{
    n->fresh = false;
    if (n->seen == w->t->proof)
        return;
    n->seen = w->t->proof;
    encode(n, &w->t->scratch);
    w->fn(w->ctx, &n->cid, mj_buf_span(&w->t->scratch));
}

/* A node above a fresh one is always fresh itself. */
static void emit_fresh(struct walk *w, struct mj_mst_node *n)
{
    if (!n || !n->fresh)
        return;
    emit(w, n);
    for (uint32_t i = 0; i < n->n; i++)
        emit_fresh(w, n->items[i].node);
}

/* The outermost nodes of a subtree on one side: the way to the key that is next to it. */
static void emit_edge(struct walk *w, struct mj_mst_node *n, bool right)
{
    while (n) {
        emit(w, n);
        n = n->items[right ? n->n - 1 : 0].node; /* NULL for a leaf or a stub */
    }
}

static void emit_cover(struct walk *w, struct mj_mst_node *n, struct mj_span key)
{
    while (n) {
        emit(w, n);
        uint32_t slot = mj__mst_slot(n, key);
        struct mj_mst_node *left = slot ? n->items[slot - 1].node : NULL;
        if (slot < n->n && mj_span_eq(mj__mst_key(&n->items[slot]), key)) {
            emit_edge(w, left, true);
            emit_edge(w, slot + 1 < n->n ? n->items[slot + 1].node : NULL, false);
            return;
        }
        n = left;
    }
}

void mj_mst_proof(struct mj_mst *t, const struct mj_span *keys, size_t n, mj_mst_node_fn fn,
                  void *ctx)
{
    struct walk w = {t, fn, ctx};
    settle(t, t->root.node);
    t->proof++;
    emit_fresh(&w, t->root.node);
    for (size_t i = 0; i < n; i++)
        emit_cover(&w, t->root.node, keys[i]);
}

static void nodes(struct walk *w, const struct mj_mst_node *n)
{
    if (!n)
        return;
    encode(n, &w->t->scratch);
    w->fn(w->ctx, &n->cid, mj_buf_span(&w->t->scratch));
    for (uint32_t i = 0; i < n->n; i++)
        nodes(w, n->items[i].node);
}

void mj_mst_nodes(struct mj_mst *t, mj_mst_node_fn fn, void *ctx)
{
    struct walk w = {t, fn, ctx};
    settle(t, t->root.node);
    nodes(&w, t->root.node);
}

/* What a load knows on its way down. */
struct load {
    mj_block_fn get;
    void *ctx;
    size_t budget;
    struct mj_buf last; /* the greatest key so far: keys ascend through the whole tree */
    bool any;           /* there is one */
};

static int expect(struct mj_cbor *c, enum mj_cbor_type type, struct mj_cbor_head *h)
{
    int r = mj_cbor_next(c, h);
    return r ? r : h->type == type ? 0 : MJ_EMST;
}

static int expect_key(struct mj_cbor *c, char key)
{
    struct mj_cbor_head h;
    int r = expect(c, MJ_CBOR_TEXT, &h);
    return r ? r : h.s.len == 1 && h.s.ptr[0] == (uint8_t)key ? 0 : MJ_EMST;
}

/* A structural link, or with `or_null` null, which is *present = false. */
static int expect_link(struct mj_cbor *c, bool or_null, bool *present, struct mj_cid *out)
{
    struct mj_cbor_head h;
    int r = mj_cbor_next(c, &h);
    if (r)
        return r;
    *present = h.type == MJ_CBOR_LINK;
    if (!*present)
        return or_null && h.type == MJ_CBOR_NULL ? 0 : MJ_EMST;
    if (!mj_cid_is_structural(h.s))
        return MJ_EMST;
    memcpy(out->bytes, h.s.ptr, MJ_CID_LEN);
    return 0;
}

static int load_node(struct load *l, struct mj_cid cid, int height, struct mj_mst_node **out);

/* Reads one subtree of a node that may not know its height yet; height −1 says so. */
static int load_subtree(struct load *l, struct mj_mst_node *n, const struct mj_cid *cid)
{
    mj__mst_open(n, n->n, 1);
    struct mj_mst_item *item = &n->items[n->n - 1];
    item->cid = *cid;
    if (n->height <= 0)
        return MJ_EMST; /* nothing lies below height 0 */
    struct mj_mst_node *below = NULL;
    int r = load_node(l, *cid, n->height - 1, &below);
    item->node = below;
    return r == MJ_EBLOCK ? 0 : r;
}

/* One entry's key: the shared part of the key before it in this node, and its own bytes. */
static int load_key(struct load *l, struct mj_cbor *c, struct mj_buf *key)
{
    struct mj_cbor_head k, p;
    int r = expect_key(c, 'k');
    r = r ? r : expect(c, MJ_CBOR_BYTES, &k);
    r = r ? r : expect_key(c, 'p');
    r = r ? r : expect(c, MJ_CBOR_INT, &p);
    if (r)
        return r;
    if (p.i < 0 || (uint64_t)p.i > key->len || !k.s.len)
        return MJ_EMST;
    size_t shared = (size_t)p.i;
    if (shared < key->len && k.s.ptr[0] == key->ptr[shared])
        return MJ_EMST; /* more could have been shared */
    if (shared + k.s.len > MJ_MST_KEY_MAX)
        return MJ_EMST;
    key->len = shared;
    mj_buf_put(key, k.s.ptr, k.s.len);
    if (l->any && mj_span_cmp(mj_buf_span(&l->last), mj_buf_span(key)) >= 0)
        return MJ_EMST;
    l->any = true;
    l->last.len = 0;
    mj_buf_put(&l->last, key->ptr, key->len);
    return 0;
}

static int load_entry(struct load *l, struct mj_cbor *c, struct mj_mst_node *n, struct mj_buf *key)
{
    struct mj_cbor_head h;
    struct mj_cid value, below;
    bool has_value, has_below;
    int r = expect(c, MJ_CBOR_MAP, &h);
    r = r ? r : h.n == 4 ? 0 : MJ_EMST;
    r = r ? r : load_key(l, c, key);
    r = r ? r : expect_key(c, 't');
    r = r ? r : expect_link(c, true, &has_below, &below);
    r = r ? r : expect_key(c, 'v');
    r = r ? r : expect_link(c, false, &has_value, &value);
    if (r)
        return r;
    if ((int)mj_mst_height(mj_buf_span(key)) != n->height)
        return MJ_EMST;
    mj__mst_open(n, n->n, 1);
    struct mj_mst_item *item = &n->items[n->n - 1];
    item->key = mj_alloc(key->len);
    memcpy(item->key, key->ptr, key->len);
    item->key_len = (uint32_t)key->len;
    item->cid = value;
    return has_below ? load_subtree(l, n, &below) : 0;
}

/* The leftmost subtree stands last in the block but first in key order, so it is looked up ahead
 * of the entries; likewise the height, which the first key gives. */
static int peek(struct mj_cbor c, uint64_t entries, bool *has_left, struct mj_cid *left,
                int *height)
{
    int r = 0;
    if (entries) {
        struct mj_cbor first = c;
        struct mj_cbor_head h;
        r = expect(&first, MJ_CBOR_MAP, &h);
        r = r ? r : expect_key(&first, 'k');
        r = r ? r : expect(&first, MJ_CBOR_BYTES, &h);
        if (!r)
            *height = (int)mj_mst_height(h.s);
    }
    for (uint64_t i = 0; i < entries && !r; i++)
        r = mj_cbor_skip(&c);
    r = r ? r : expect_key(&c, 'l');
    r = r ? r : expect_link(&c, true, has_left, left);
    return r ? r : c.p == c.end ? 0 : MJ_ETRAILING;
}

static int load_block(struct load *l, struct mj_span block, struct mj_mst_node *n, bool root)
{
    struct mj_cbor c = mj_cbor(block);
    struct mj_cbor_head h;
    struct mj_cid left;
    bool has_left = false;
    int height = n->height;
    int r = expect(&c, MJ_CBOR_MAP, &h);
    r = r ? r : h.n == 2 ? 0 : MJ_EMST;
    r = r ? r : expect_key(&c, 'e');
    r = r ? r : expect(&c, MJ_CBOR_ARRAY, &h);
    r = r ? r : h.n <= MJ_MST_ENTRIES_MAX ? 0 : MJ_ELIMIT;
    r = r ? r : peek(c, h.n, &has_left, &left, &height);
    if (r)
        return r;
    if (root)
        n->height = h.n ? height : 0;
    if (height != n->height && h.n)
        return MJ_EMST;
    if (!h.n && root)
        return has_left ? MJ_EMST : 0; /* only the empty tree has an empty node */
    if (!h.n && !has_left)
        return MJ_EMST;
    if (has_left)
        r = load_subtree(l, n, &left);
    MJ_AUTO_BUF key = {0};
    for (uint64_t i = 0; i < h.n && !r; i++)
        r = load_entry(l, &c, n, &key);
    return r;
}

static int load_node(struct load *l, struct mj_cid cid, int height, struct mj_mst_node **out)
{
    bool root = height < 0;
    struct mj_span block = l->get(l->ctx, mj_span(cid.bytes, MJ_CID_LEN));
    if (!block.ptr)
        return MJ_EBLOCK;
    if (block.len > l->budget)
        return MJ_EMST;
    l->budget -= block.len;
    struct mj_mst_node *n = mj__mst_node(height);
    int r = load_block(l, block, n, root);
    if (r) {
        mj__mst_node_free(n);
        return r == MJ_EBLOCK ? MJ_EMST : r;
    }
    n->dirty = false;
    n->cid = cid;
    *out = n;
    return 0;
}

int mj_mst_load(struct mj_cid root, size_t budget, mj_block_fn get, void *ctx, struct mj_mst **out)
{
    struct load l = {.get = get, .ctx = ctx, .budget = budget};
    struct mj_mst_node *n = NULL;
    int r = load_node(&l, root, -1, &n);
    mj_buf_deinit(&l.last);
    if (r)
        return r;
    struct mj_mst *t = mj_calloc(1, sizeof *t);
    t->root.node = n;
    *out = t;
    return 0;
}
