/* The Merkle search tree of a repository: path → CID, in an order and a shape that depend on the
 * content alone (spec/firehose.md §7.5).
 *
 *   height 2            [ · k7 · ]
 *                        /      \
 *   height 1     [ k2 · k4 ]    [ · ]      a node is leaves (key, value) and the subtrees
 *                      |          |        between them, in key order; a level that is skipped
 *   height 0         [ k3 ]    [ k8 k9 ]   is a node with nothing but one subtree
 *
 *   key      path bytes; its height is the number of leading zero bits of its SHA-256, halved
 *   stub     a subtree of which only the CID is known: what a commit's CAR leaves out
 *   fresh    a node written since the last mj_mst_proof(): new to whoever has the old tree
 *
 * A tree owns everything in it; keys and values are copied in. Operations that would need the
 * inside of a stub return MJ_EPARTIAL and change nothing. One thread at a time. */
#pragma once

#include "atproto/cid.h"
#include "base/bytes.h"

#define MJ_MST_KEY_MAX     1024
#define MJ_MST_ENTRIES_MAX 10000 /* per node, when loading */

struct mj_mst;

/* Leading zero bits of SHA-256(key), halved and rounded down: 0…128. */
unsigned mj_mst_height(struct mj_span key);
/* Number of equal bytes at the start of both. */
size_t mj_mst_common_prefix(struct mj_span a, struct mj_span b);

struct mj_mst *mj_mst_new(void); /* empty */
void mj_mst_free(struct mj_mst *t);

/* 0 with *value filled (value may be NULL), MJ_ENOENT, or MJ_EPARTIAL. */
int mj_mst_find(const struct mj_mst *t, struct mj_span key, struct mj_cid *value);
/* Inserts or replaces. 0 for a new key, 1 for a replaced one with *old filled (old may be NULL);
 * MJ_EPARTIAL; MJ_ELIMIT for a key of 0 or more than MJ_MST_KEY_MAX bytes. */
int mj_mst_put(struct mj_mst *t, struct mj_span key, const struct mj_cid *value,
               struct mj_cid *old);
/* 0 with *old filled (may be NULL), MJ_ENOENT, or MJ_EPARTIAL. */
int mj_mst_remove(struct mj_mst *t, struct mj_span key, struct mj_cid *old);

/* The root's CID. Writes the changed nodes bottom up; untouched ones keep their CID. */
void mj_mst_root(struct mj_mst *t, struct mj_cid *root);

/* Called once per node; the block is borrowed for the call. */
typedef void (*mj_mst_node_fn)(void *ctx, const struct mj_cid *cid, struct mj_span block);
/* Called once per leaf, in key order; borrowed. Non-zero stops. */
typedef int (*mj_mst_leaf_fn)(void *ctx, struct mj_span key, const struct mj_cid *value);

/* The nodes a commit's CAR must hold: the fresh ones, and for each key the covering proof, which
 * is the search path of the key and of its left and right neighbours. That is enough to undo the
 * operations on those keys without the rest of the tree. Afterwards nothing is fresh. */
void mj_mst_proof(struct mj_mst *t, const struct mj_span *keys, size_t n, mj_mst_node_fn fn,
                  void *ctx);
/* Every loaded node, root first, and what that makes of freshness is left alone. */
void mj_mst_nodes(struct mj_mst *t, mj_mst_node_fn fn, void *ctx);
/* Every leaf. 0, MJ_EPARTIAL at the first stub, or what fn returned. */
int mj_mst_leaves(const struct mj_mst *t, mj_mst_leaf_fn fn, void *ctx);

/* Hands out the block of a CID, borrowed until the load is over; {NULL, 0} when it is not there. */
typedef struct mj_span (*mj_block_fn)(void *ctx, struct mj_span cid);
/* Builds the tree below `root` from blocks; absent ones become stubs (the root must be there).
 * `budget` is the total size of all blocks: no block can occur twice in a tree, so loading more
 * than that proves the input hostile. Every rule of §7.5 that can be seen is enforced. The blocks'
 * hashes are the caller's business. 0 with *out owned by the caller; MJ_EBLOCK without the root
 * block; MJ_EMST or a CBOR error. */
int mj_mst_load(struct mj_cid root, size_t budget, mj_block_fn get, void *ctx, struct mj_mst **out);

enum mj_mst_action { MJ_MST_CREATE, MJ_MST_UPDATE, MJ_MST_DELETE };
struct mj_mst_op {
    enum mj_mst_action action;
    struct mj_span path;     /* borrowed */
    struct mj_cid cid, prev; /* cid: create, update; prev: update, delete */
};
/* Undoes the operations of one commit: deletes first, then in path order. `ops` is sorted in
 * place. 0, MJ_EPARTIAL, or MJ_EMISMATCH when the tree does not hold what an operation says. The
 * caller then compares mj_mst_root() with the commit's prevData. */
int mj_mst_invert(struct mj_mst *t, struct mj_mst_op *ops, size_t n);
