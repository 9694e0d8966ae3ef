/* One repository of the simulated network: its tree, its records, and the commits it makes.
 *
 *   begin ─▶ create / update / delete, one call per operation ─▶ commit ─▶ operations, CAR slice
 *
 * Owns everything in it. What a commit hands out is valid until the next begin. */
#pragma once

#include "atproto/keys.h"
#include "atproto/mst.h"
#include "source/sim_record.h"

#define MJ_SIM_OPS_MAX 32

struct mj_sim_stored {
    enum mj_sim_collection collection;
    char rkey[16];
    struct mj_cid cid;
    uint8_t *block; /* owned */
    uint32_t len;
};

struct mj_sim_repo {
    struct mj_mst *mst;            /* owned */
    struct mj_sim_stored *records; /* owned */
    size_t n, cap;
    int64_t tid_us; /* time of the last TID: they rise */
    char rev[14];   /* of the last commit; "" before the first */
    struct mj_cid data, commit;
    struct mj_buf commit_block; /* signed */

    /* The commit being made. */
    struct mj_mst_op ops[MJ_SIM_OPS_MAX];
    char paths[MJ_SIM_OPS_MAX][64];
    struct {
        struct mj_cid cid;
        size_t offset, len;
    } fresh[MJ_SIM_OPS_MAX]; /* new record blocks, in `blocks` */
    struct mj_buf blocks;
    size_t op_count, fresh_count;
    char since[14];
    struct mj_cid prev_data;
    struct mj_buf car;
};

struct mj_sim_repo *mj_sim_repo_new(void);
void mj_sim_repo_free(struct mj_sim_repo *r);

/* A new TID at or after `now_us`, above every one given out before. */
void mj_sim_repo_tid(struct mj_sim_repo *r, int64_t now_us, char out[14]);
/* Puts a record without telling anybody: a repository's prehistory. Ignored when the path is
 * taken. */
void mj_sim_repo_seed(struct mj_sim_repo *r, enum mj_sim_collection c, const char *rkey,
                      struct mj_span block);

/* Signs the first commit over what was seeded. It is not announced. */
void mj_sim_repo_found(struct mj_sim_repo *r, struct mj_span did, const struct mj_keypair *key,
                       int64_t now_us);

void mj_sim_repo_begin(struct mj_sim_repo *r);
/* One operation each; `at` indexes records. False when the commit has no room or has already
 * touched that path; then nothing changes. A deleted record's place is taken by the last one. */
bool mj_sim_repo_create(struct mj_sim_repo *r, enum mj_sim_collection c, const char *rkey,
                        struct mj_span block);
bool mj_sim_repo_update(struct mj_sim_repo *r, size_t at, struct mj_span block);
bool mj_sim_repo_delete(struct mj_sim_repo *r, size_t at);
/* Signs the commit and writes its CAR slice: record blocks, tree nodes, the commit block last. */
void mj_sim_repo_commit(struct mj_sim_repo *r, struct mj_span did, const struct mj_keypair *key,
                        int64_t now_us);

/* Index of the record, or −1. */
ptrdiff_t mj_sim_repo_find(const struct mj_sim_repo *r, enum mj_sim_collection c, const char *rkey);
/* Appends a CAR with the commit block only, as #sync carries it. */
void mj_sim_repo_sync_car(const struct mj_sim_repo *r, struct mj_buf *out);
/* Appends the whole repository as com.atproto.sync.getRepo returns it. */
void mj_sim_repo_export(struct mj_sim_repo *r, struct mj_buf *out);
