#include "atproto/repo.h"

#include "atproto/cbor.h"
#include "base/err.h"

#define SIG_ITEM (4 + 2 + MJ_SIG_LEN) /* "sig" and 64 bytes, with their heads */

static void put_key(struct mj_buf *b, const char *key) { mj_cbor_put_text(b, mj_str(key)); }

static void put_text(struct mj_buf *b, const char *key, struct mj_span text)
{
    put_key(b, key);
    mj_cbor_put_text(b, text);
}

static void put_cid(struct mj_buf *b, const char *key, const struct mj_cid *cid)
{
    put_key(b, key);
    mj_cbor_put_link(b, mj_span(cid->bytes, MJ_CID_LEN));
}

static void put_commit(const struct mj_commit *c, const uint8_t *sig, struct mj_buf *b)
{
    mj_cbor_put_map(b, sig ? 6 : 5);
    put_text(b, "did", c->did);
    put_text(b, "rev", c->rev);
    if (sig) {
        put_key(b, "sig");
        mj_cbor_put_bytes(b, mj_span(sig, MJ_SIG_LEN));
    }
    put_cid(b, "data", &c->data);
    put_key(b, "prev");
    mj_cbor_put_null(b);
    put_key(b, "version");
    mj_cbor_put_int(b, 3);
}

void mj_commit_sign(const struct mj_commit *c, const struct mj_keypair *key, struct mj_buf *out)
{
    MJ_AUTO_BUF unsigned_block = {0};
    uint8_t sig[MJ_SIG_LEN];
    put_commit(c, NULL, &unsigned_block);
    mj_keypair_sign(key, mj_buf_span(&unsigned_block), sig);
    put_commit(c, sig, out);
}

/* Reads the next key, which must be this one, and the head of its value. */
static int field(struct mj_cbor *c, const char *key, struct mj_cbor_head *value)
{
    struct mj_cbor_head h;
    int r = mj_cbor_next(c, &h);
    if (r)
        return r;
    if (h.type != MJ_CBOR_TEXT || !mj_span_is(h.s, key))
        return MJ_ECOMMIT;
    return mj_cbor_next(c, value);
}

int mj_commit_parse(struct mj_span block, struct mj_commit *out)
{
    struct mj_cbor c = mj_cbor(block);
    struct mj_cbor_head map, did, rev, sig, data, prev, version;
    int r = mj_cbor_next(&c, &map);
    if (r)
        return r;
    if (map.type != MJ_CBOR_MAP || map.n != 6)
        return MJ_ECOMMIT;
    if ((r = field(&c, "did", &did)) || (r = field(&c, "rev", &rev)) ||
        (r = field(&c, "sig", &sig)) || (r = field(&c, "data", &data)) ||
        (r = field(&c, "prev", &prev)) || (r = field(&c, "version", &version)))
        return r;
    if (c.p != c.end)
        return MJ_ETRAILING;
    if (did.type != MJ_CBOR_TEXT || rev.type != MJ_CBOR_TEXT || sig.type != MJ_CBOR_BYTES ||
        sig.s.len != MJ_SIG_LEN || data.type != MJ_CBOR_LINK || !mj_cid_is_structural(data.s) ||
        (prev.type != MJ_CBOR_NULL && prev.type != MJ_CBOR_LINK) || version.type != MJ_CBOR_INT ||
        version.i != 3)
        return MJ_ECOMMIT;
    out->did = did.s;
    out->rev = rev.s;
    out->sig = sig.s;
    memcpy(out->data.bytes, data.s.ptr, MJ_CID_LEN);
    return 0;
}

int mj_commit_verify(struct mj_span block, const struct mj_pubkey *key)
{
    struct mj_commit c;
    if (mj_commit_parse(block, &c))
        return MJ_ESIG;
    /* One field fewer, and the sig item cut out. */
    size_t at = (size_t)(c.sig.ptr - block.ptr) - (SIG_ITEM - MJ_SIG_LEN);
    MJ_AUTO_BUF cut = {0};
    mj_cbor_put_map(&cut, 5);
    mj_buf_put(&cut, block.ptr + 1, at - 1);
    mj_buf_put(&cut, block.ptr + at + SIG_ITEM, block.len - at - SIG_ITEM);
    return mj_pubkey_verify(key, mj_buf_span(&cut), c.sig);
}

/* The header, whose keys are in canonical order: `t` before `op`. */
static void put_header(struct mj_buf *b, const char *t)
{
    mj_cbor_put_map(b, t ? 2 : 1);
    if (t)
        put_text(b, "t", mj_str(t));
    put_key(b, "op");
    mj_cbor_put_int(b, t ? 1 : -1);
}

static void put_op(struct mj_buf *b, const struct mj_mst_op *op)
{
    static const char *const names[] = {
        [MJ_MST_CREATE] = "create", [MJ_MST_UPDATE] = "update", [MJ_MST_DELETE] = "delete"};
    mj_cbor_put_map(b, op->action == MJ_MST_CREATE ? 3 : 4);
    if (op->action == MJ_MST_DELETE) {
        put_key(b, "cid");
        mj_cbor_put_null(b);
    } else {
        put_cid(b, "cid", &op->cid);
    }
    put_text(b, "path", op->path);
    if (op->action != MJ_MST_CREATE)
        put_cid(b, "prev", &op->prev);
    put_text(b, "action", mj_str(names[op->action]));
}

static void put_seq(struct mj_buf *b, int64_t seq)
{
    put_key(b, "seq");
    mj_cbor_put_int(b, seq);
}

static void put_flag(struct mj_buf *b, const char *key, bool v)
{
    put_key(b, key);
    mj_cbor_put_bool(b, v);
}

void mj_frame_commit(const struct mj_commit_frame *f, struct mj_buf *b)
{
    put_header(b, "#commit");
    mj_cbor_put_map(b, f->prev_data ? 12 : 11);
    put_key(b, "ops");
    mj_cbor_put_array(b, f->op_count);
    for (size_t i = 0; i < f->op_count; i++)
        put_op(b, &f->ops[i]);
    put_text(b, "rev", f->rev);
    put_seq(b, f->seq);
    put_text(b, "repo", f->repo);
    put_text(b, "time", f->time);
    put_key(b, "blobs");
    mj_cbor_put_array(b, 0);
    put_key(b, "since");
    if (f->since.ptr)
        mj_cbor_put_text(b, f->since);
    else
        mj_cbor_put_null(b);
    put_key(b, "blocks");
    mj_cbor_put_bytes(b, f->blocks);
    put_cid(b, "commit", &f->commit);
    put_flag(b, "rebase", false);
    put_flag(b, "tooBig", false);
    if (f->prev_data)
        put_cid(b, "prevData", f->prev_data);
}

void mj_frame_sync(int64_t seq, struct mj_span did, struct mj_span rev, struct mj_span time,
                   struct mj_span blocks, struct mj_buf *b)
{
    put_header(b, "#sync");
    mj_cbor_put_map(b, 5);
    put_text(b, "did", did);
    put_text(b, "rev", rev);
    put_seq(b, seq);
    put_text(b, "time", time);
    put_key(b, "blocks");
    mj_cbor_put_bytes(b, blocks);
}

void mj_frame_identity(int64_t seq, struct mj_span did, struct mj_span time, struct mj_span handle,
                       struct mj_buf *b)
{
    put_header(b, "#identity");
    mj_cbor_put_map(b, handle.ptr ? 4 : 3);
    put_text(b, "did", did);
    put_seq(b, seq);
    put_text(b, "time", time);
    if (handle.ptr)
        put_text(b, "handle", handle);
}

void mj_frame_account(int64_t seq, struct mj_span did, struct mj_span time, bool active,
                      struct mj_span status, struct mj_buf *b)
{
    put_header(b, "#account");
    mj_cbor_put_map(b, status.ptr ? 5 : 4);
    put_text(b, "did", did);
    put_seq(b, seq);
    put_text(b, "time", time);
    put_flag(b, "active", active);
    if (status.ptr)
        put_text(b, "status", status);
}

static void put_named(struct mj_buf *b, const char *t, const char *key, struct mj_span name,
                      struct mj_span message)
{
    put_header(b, t);
    mj_cbor_put_map(b, message.ptr ? 2 : 1);
    put_text(b, key, name);
    if (message.ptr)
        put_text(b, "message", message);
}

void mj_frame_info(struct mj_span name, struct mj_span message, struct mj_buf *b)
{
    put_named(b, "#info", "name", name, message);
}

void mj_frame_error(struct mj_span name, struct mj_span message, struct mj_buf *b)
{
    put_named(b, NULL, "error", name, message);
}
