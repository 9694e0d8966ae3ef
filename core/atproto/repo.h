/* Repositories and the messages about them: the signed commit block, the CAR slice around it, and
 * the firehose frames that announce it (spec/firehose.md §§2-4, 7.2, 7.3).
 *
 * The commit block is a map of exactly did, rev, sig, data, prev, version. What is signed is the
 * same map without sig; because the block is canonical, those bytes are the block with one item
 * cut out.
 *
 * Frame builders append a whole frame, header and payload, in canonical key order. They are for
 * whoever produces a firehose: the simulator and tests. */
#pragma once

#include "atproto/cid.h"
#include "atproto/keys.h"
#include "atproto/mst.h"
#include "base/bytes.h"

struct mj_commit {
    struct mj_span did, rev; /* borrowed */
    struct mj_cid data;      /* root of the tree */
    struct mj_span sig;      /* borrowed; MJ_SIG_LEN bytes; ignored when signing */
};

/* Appends a signed commit block, `prev` null, version 3. */
void mj_commit_sign(const struct mj_commit *c, const struct mj_keypair *key, struct mj_buf *out);
/* Reads a commit block; spans point into it. 0, MJ_ECOMMIT when it is not exactly the six fields
 * of version 3, or a CBOR error. `prev` may be null or a CID and is not kept. */
int mj_commit_parse(struct mj_span block, struct mj_commit *out);
/* Verifies the signature of a block that mj_commit_parse() has accepted. 0 or MJ_ESIG. */
int mj_commit_verify(struct mj_span block, const struct mj_pubkey *key);

struct mj_commit_frame {
    int64_t seq;
    struct mj_span repo, rev, time; /* borrowed */
    struct mj_span since;           /* {NULL, 0} = null */
    struct mj_cid commit;
    const struct mj_cid *prev_data; /* NULL = absent, as in a repository's first commit */
    struct mj_span blocks;          /* CAR */
    const struct mj_mst_op *ops;    /* borrowed */
    size_t op_count;
};

void mj_frame_commit(const struct mj_commit_frame *f, struct mj_buf *out);
void mj_frame_sync(int64_t seq, struct mj_span did, struct mj_span rev, struct mj_span time,
                   struct mj_span blocks, struct mj_buf *out);
/* handle {NULL, 0} = absent */
void mj_frame_identity(int64_t seq, struct mj_span did, struct mj_span time, struct mj_span handle,
                       struct mj_buf *out);
/* status {NULL, 0} = absent */
void mj_frame_account(int64_t seq, struct mj_span did, struct mj_span time, bool active,
                      struct mj_span status, struct mj_buf *out);
/* message {NULL, 0} = absent */
void mj_frame_info(struct mj_span name, struct mj_span message, struct mj_buf *out);
void mj_frame_error(struct mj_span name, struct mj_span message, struct mj_buf *out);
