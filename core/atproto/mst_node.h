/* Inside of the MST, shared by mst.c (find and edit) and mst_block.c (blocks in and out). */
#pragma once

#include "atproto/mst.h"

struct mj_mst_node;

/* One place in a node: a leaf when key is set, else a subtree; a stub when node is NULL too. */
struct mj_mst_item {
    uint8_t *key;             /* owned */
    uint32_t key_len;         /* 1…MJ_MST_KEY_MAX for a leaf */
    struct mj_mst_node *node; /* owned */
    struct mj_cid cid;        /* a leaf's value, a stub's root */
};

struct mj_mst_node {
    struct mj_mst_item *items; /* owned; never two subtrees side by side */
    uint32_t n, cap;
    int height;
    bool dirty;        /* cid and everything above it is out of date */
    bool fresh;        /* written since the last proof */
    uint32_t seen;     /* the proof that already holds this node */
    struct mj_cid cid; /* when not dirty */
};

struct mj_mst {
    struct mj_mst_item root; /* a subtree: node or stub */
    uint32_t proof;          /* number of the running proof */
    struct mj_buf scratch;   /* of the encoder */
};

struct mj_mst_node *mj__mst_node(int height);
void mj__mst_node_free(struct mj_mst_node *n);
/* Opens a hole of `count` items at `at`; the caller fills it. */
void mj__mst_open(struct mj_mst_node *n, uint32_t at, uint32_t count);

static inline bool mj__mst_is_leaf(const struct mj_mst_item *i) { return i->key != NULL; }
static inline struct mj_span mj__mst_key(const struct mj_mst_item *i)
{
    return mj_span(i->key, i->key_len);
}
/* Index of the first leaf whose key is ≥ key; n->n when there is none. */
uint32_t mj__mst_slot(const struct mj_mst_node *n, struct mj_span key);
