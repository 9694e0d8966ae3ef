#include "source/sim_repo.h"

#include <stdio.h>

#include "atproto/car.h"
#include "atproto/repo.h"
#include "atproto/syntax.h"

static struct mj_span cid_span(const struct mj_cid *c) { return mj_span(c->bytes, MJ_CID_LEN); }

struct mj_sim_repo *mj_sim_repo_new(void)
{
    struct mj_sim_repo *r = mj_calloc(1, sizeof *r);
    r->mst = mj_mst_new();
    return r;
}

void mj_sim_repo_free(struct mj_sim_repo *r)
{
    if (!r)
        return;
    mj_mst_free(r->mst);
    for (size_t i = 0; i < r->n; i++)
        free(r->records[i].block);
    free(r->records);
    mj_buf_deinit(&r->commit_block);
    mj_buf_deinit(&r->blocks);
    mj_buf_deinit(&r->car);
    free(r);
}

void mj_sim_repo_tid(struct mj_sim_repo *r, int64_t now_us, char out[14])
{
    r->tid_us = now_us > r->tid_us ? now_us : r->tid_us + 1;
    mj_tid_make(r->tid_us, 11, out);
}

static struct mj_span path_of(enum mj_sim_collection c, const char *rkey, char out[64])
{
    return mj_span(out, (size_t)snprintf(out, 64, "%s/%s", mj_sim_nsid[c], rkey));
}

static void store(struct mj_sim_stored *s, struct mj_span block)
{
    free(s->block);
    s->block = mj_alloc(block.len);
    s->len = (uint32_t)block.len;
    memcpy(s->block, block.ptr, block.len);
    mj_cid_of(block, &s->cid);
}

static struct mj_sim_stored *append(struct mj_sim_repo *r, enum mj_sim_collection c,
                                    const char *rkey, struct mj_span block)
{
    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 32;
        r->records = mj_realloc(r->records, r->cap * sizeof *r->records);
    }
    struct mj_sim_stored *s = &r->records[r->n++];
    memset(s, 0, sizeof *s);
    s->collection = c;
    snprintf(s->rkey, sizeof s->rkey, "%s", rkey);
    store(s, block);
    return s;
}

void mj_sim_repo_seed(struct mj_sim_repo *r, enum mj_sim_collection c, const char *rkey,
                      struct mj_span block)
{
    char path[64];
    struct mj_span p = path_of(c, rkey, path);
    if (mj_mst_find(r->mst, p, NULL) == 0)
        return;
    struct mj_sim_stored *s = append(r, c, rkey, block);
    mj_mst_put(r->mst, p, &s->cid, NULL);
}

void mj_sim_repo_begin(struct mj_sim_repo *r)
{
    r->op_count = r->fresh_count = 0;
    r->blocks.len = 0;
}

/* The next operation, with its path; NULL when there is no room or the path was touched. */
static struct mj_mst_op *next_op(struct mj_sim_repo *r, enum mj_mst_action action,
                                 enum mj_sim_collection c, const char *rkey)
{
    if (r->op_count == MJ_SIM_OPS_MAX)
        return NULL;
    struct mj_span path = path_of(c, rkey, r->paths[r->op_count]);
    for (size_t i = 0; i < r->op_count; i++)
        if (mj_span_eq(r->ops[i].path, path))
            return NULL;
    struct mj_mst_op *op = &r->ops[r->op_count++];
    memset(op, 0, sizeof *op);
    op->action = action;
    op->path = path;
    return op;
}

/* Notes the block for the CAR, once. */
static void note_block(struct mj_sim_repo *r, const struct mj_sim_stored *s)
{
    for (size_t i = 0; i < r->fresh_count; i++)
        if (memcmp(r->fresh[i].cid.bytes, s->cid.bytes, MJ_CID_LEN) == 0)
            return;
    r->fresh[r->fresh_count].cid = s->cid;
    r->fresh[r->fresh_count].offset = r->blocks.len;
    r->fresh[r->fresh_count++].len = s->len;
    mj_buf_put(&r->blocks, s->block, s->len);
}

bool mj_sim_repo_create(struct mj_sim_repo *r, enum mj_sim_collection c, const char *rkey,
                        struct mj_span block)
{
    char path[64];
    if (mj_mst_find(r->mst, path_of(c, rkey, path), NULL) == 0)
        return false;
    struct mj_mst_op *op = next_op(r, MJ_MST_CREATE, c, rkey);
    if (!op)
        return false;
    struct mj_sim_stored *s = append(r, c, rkey, block);
    op->cid = s->cid;
    mj_mst_put(r->mst, op->path, &s->cid, NULL);
    note_block(r, s);
    return true;
}

bool mj_sim_repo_update(struct mj_sim_repo *r, size_t at, struct mj_span block)
{
    struct mj_sim_stored *s = &r->records[at];
    struct mj_mst_op *op = next_op(r, MJ_MST_UPDATE, s->collection, s->rkey);
    if (!op)
        return false;
    op->prev = s->cid;
    store(s, block);
    op->cid = s->cid;
    mj_mst_put(r->mst, op->path, &s->cid, NULL);
    note_block(r, s);
    return true;
}

bool mj_sim_repo_delete(struct mj_sim_repo *r, size_t at)
{
    struct mj_sim_stored *s = &r->records[at];
    struct mj_mst_op *op = next_op(r, MJ_MST_DELETE, s->collection, s->rkey);
    if (!op)
        return false;
    op->prev = s->cid;
    mj_mst_remove(r->mst, op->path, NULL);
    free(s->block);
    *s = r->records[--r->n];
    return true;
}

static void put_node(void *ctx, const struct mj_cid *cid, struct mj_span block)
{
    mj_car_put_section(ctx, cid_span(cid), block);
}

static void ignore_node(void *ctx, const struct mj_cid *cid, struct mj_span block)
{
    (void)ctx;
    (void)cid;
    (void)block;
}

static void sign(struct mj_sim_repo *r, struct mj_span did, const struct mj_keypair *key,
                 int64_t now_us)
{
    memcpy(r->since, r->rev, sizeof r->since);
    r->prev_data = r->data;
    mj_sim_repo_tid(r, now_us, r->rev);
    mj_mst_root(r->mst, &r->data);
    r->commit_block.len = 0;
    struct mj_commit c = {.did = did, .rev = mj_str(r->rev), .data = r->data};
    mj_commit_sign(&c, key, &r->commit_block);
    mj_cid_of(mj_buf_span(&r->commit_block), &r->commit);
}

void mj_sim_repo_found(struct mj_sim_repo *r, struct mj_span did, const struct mj_keypair *key,
                       int64_t now_us)
{
    sign(r, did, key, now_us);
    mj_mst_proof(r->mst, NULL, 0, ignore_node, NULL); /* none of it is news later */
}

void mj_sim_repo_commit(struct mj_sim_repo *r, struct mj_span did, const struct mj_keypair *key,
                        int64_t now_us)
{
    sign(r, did, key, now_us);
    /* Without operations the root alone is shown: the empty key lies left of everything. */
    struct mj_span keys[MJ_SIM_OPS_MAX] = {MJ_SPAN("")};
    for (size_t i = 0; i < r->op_count; i++)
        keys[i] = r->ops[i].path;
    r->car.len = 0;
    mj_car_put_header(&r->car, cid_span(&r->commit));
    for (size_t i = 0; i < r->fresh_count; i++)
        mj_car_put_section(&r->car, cid_span(&r->fresh[i].cid),
                           mj_span(r->blocks.ptr + r->fresh[i].offset, r->fresh[i].len));
    mj_mst_proof(r->mst, keys, r->op_count ? r->op_count : 1, put_node, &r->car);
    mj_car_put_section(&r->car, cid_span(&r->commit), mj_buf_span(&r->commit_block));
}

ptrdiff_t mj_sim_repo_find(const struct mj_sim_repo *r, enum mj_sim_collection c, const char *rkey)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->records[i].collection == c && strcmp(r->records[i].rkey, rkey) == 0)
            return (ptrdiff_t)i;
    return -1;
}

void mj_sim_repo_sync_car(const struct mj_sim_repo *r, struct mj_buf *out)
{
    mj_car_put_header(out, cid_span(&r->commit));
    mj_car_put_section(out, cid_span(&r->commit), mj_buf_span(&r->commit_block));
}

void mj_sim_repo_export(struct mj_sim_repo *r, struct mj_buf *out)
{
    mj_sim_repo_sync_car(r, out);
    mj_mst_nodes(r->mst, put_node, out);
    for (size_t i = 0; i < r->n; i++)
        mj_car_put_section(out, cid_span(&r->records[i].cid),
                           mj_span(r->records[i].block, r->records[i].len));
}
