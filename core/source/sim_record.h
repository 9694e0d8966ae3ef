/* Records of the simulated network, as canonical DAG-CBOR blocks. */
#pragma once

#include "atproto/cid.h"
#include "base/bytes.h"
#include "source/sim_text.h"

enum mj_sim_collection {
    MJ_SIM_LIKE,
    MJ_SIM_POST,
    MJ_SIM_REPOST,
    MJ_SIM_FOLLOW,
    MJ_SIM_BLOCK,
    MJ_SIM_LISTITEM,
    MJ_SIM_THREADGATE,
    MJ_SIM_PROFILE,
    MJ_SIM_READING, /* nobody's lexicon: bytes, nulls, integers of every width */
    MJ_SIM_COLLECTION_COUNT
};

extern const char *const mj_sim_nsid[MJ_SIM_COLLECTION_COUNT];

/* A record somewhere in the network. */
struct mj_sim_ref {
    char uri[128];
    struct mj_cid cid;
};

struct mj_sim_post {
    const struct mj_sim_text *text;
    const struct mj_sim_ref *root, *parent; /* both NULL unless a reply */
    const struct mj_sim_ref *quote;         /* NULL unless it quotes a post */
};

/* All append one block; `created` is a datetime. */
void mj_sim_put_like(struct mj_rng *rng, const struct mj_sim_ref *subject, struct mj_span created,
                     struct mj_buf *out);
void mj_sim_put_repost(const struct mj_sim_ref *subject, struct mj_span created,
                       struct mj_buf *out);
/* Follows and blocks: a DID as subject. */
void mj_sim_put_graph(enum mj_sim_collection c, struct mj_span did, struct mj_span created,
                      struct mj_buf *out);
void mj_sim_put_listitem(struct mj_span list_uri, struct mj_span did, struct mj_span created,
                         struct mj_buf *out);
void mj_sim_put_threadgate(struct mj_rng *rng, const char *post_uri, struct mj_span created,
                           struct mj_buf *out);
void mj_sim_put_post(struct mj_rng *rng, const struct mj_sim_post *post, struct mj_span created,
                     struct mj_buf *out);
void mj_sim_put_profile(struct mj_rng *rng, struct mj_span name, struct mj_span created,
                        struct mj_buf *out);
void mj_sim_put_reading(struct mj_rng *rng, struct mj_span created, struct mj_buf *out);
