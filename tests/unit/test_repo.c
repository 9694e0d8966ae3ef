/* Commit blocks and frames against recorded ones: every signature verifies with the key of its
 * account's DID document, every commit inverts to its prevData, and every frame that is built
 * again from its parts is the recorded one. */
#include "cmocka_all.h"

#include <cjson/cJSON.h>
#include <zstd.h>

#include "atproto/repo.h"
#include "base/err.h"
#include "frame_parts.h"
#include "shared.h"

/* The file, or the test is skipped. */
static struct mj_buf shared(const char *name)
{
    struct mj_buf b = {0};
    if (!mj_test_shared(name, &b))
        skip();
    return b;
}

static struct mj_pubkey *key_of(const cJSON *docs, struct mj_span did)
{
    MJ_AUTO_FREE char *text = mj_span_dup(did);
    const cJSON *doc = cJSON_GetObjectItemCaseSensitive(docs, text);
    assert_non_null(doc);
    const cJSON *method = cJSON_GetArrayItem(cJSON_GetObjectItem(doc, "verificationMethod"), 0);
    const char *key = cJSON_GetStringValue(cJSON_GetObjectItem(method, "publicKeyMultibase"));
    struct mj_pubkey *k;
    assert_int_equal(mj_pubkey_parse(mj_str(key), &k), 0);
    return k;
}

static void check_commit(struct mj_span frame, struct mj_span payload, const cJSON *docs)
{
    struct mj_cbor_head seq, repo, rev, time, since, blocks, commit, prev_data;
    assert_true(mj_test_get(payload, "seq", &seq) && mj_test_get(payload, "repo", &repo) &&
                mj_test_get(payload, "rev", &rev) && mj_test_get(payload, "time", &time) &&
                mj_test_get(payload, "since", &since) && mj_test_get(payload, "blocks", &blocks) &&
                mj_test_get(payload, "commit", &commit) &&
                mj_test_get(payload, "prevData", &prev_data));
    struct mj_mst_op ops[200];
    size_t op_count = mj_test_read_ops(payload, ops, MJ_COUNT(ops));
    struct mj_test_blocks b = {0};
    struct mj_span root;
    mj_test_read_car(blocks.s, &root, &b);
    assert_true(mj_span_eq(root, commit.s));

    struct mj_span block = mj_test_find_block(&b, root);
    struct mj_commit c;
    assert_int_equal(mj_commit_parse(block, &c), 0);
    assert_true(mj_span_eq(c.did, repo.s));
    assert_true(mj_span_eq(c.rev, rev.s));
    struct mj_pubkey *key = key_of(docs, repo.s);
    assert_int_equal(mj_commit_verify(block, key), 0);
    MJ_AUTO_BUF forged = {0};
    mj_buf_put(&forged, block.ptr, block.len);
    forged.ptr[(size_t)(c.rev.ptr - block.ptr) + 12] ^= 1;
    assert_int_equal(mj_commit_verify(mj_buf_span(&forged), key), MJ_ESIG);
    mj_pubkey_free(key);

    /* The frame first: inverting sorts the operations. */
    struct mj_cid prev = mj_test_cid(prev_data.s);
    MJ_AUTO_BUF again = {0};
    mj_frame_commit(&(struct mj_commit_frame){.seq = seq.i,
                                              .repo = repo.s,
                                              .rev = rev.s,
                                              .time = time.s,
                                              .since = since.s,
                                              .commit = mj_test_cid(commit.s),
                                              .prev_data = &prev,
                                              .blocks = blocks.s,
                                              .ops = ops,
                                              .op_count = op_count},
                    &again);
    assert_true(mj_span_eq(mj_buf_span(&again), frame));

    struct mj_mst *t;
    struct mj_cid undone;
    assert_int_equal(mj_mst_load(c.data, blocks.s.len, mj_test_find_block, &b, &t), 0);
    assert_int_equal(mj_mst_invert(t, ops, op_count), 0);
    mj_mst_root(t, &undone);
    assert_memory_equal(undone.bytes, prev.bytes, MJ_CID_LEN);
    mj_mst_free(t);
    free(b.v);
}

static void recorded_frames(void **state)
{
    (void)state;
    MJ_AUTO_BUF packed = shared("corpus/frames.bin.zst");
    MJ_AUTO_BUF docs_text = shared("corpus/did_docs.json");
    cJSON *docs = cJSON_ParseWithLength((const char *)docs_text.ptr, docs_text.len);
    assert_non_null(docs);
    MJ_AUTO_BUF frames = {0};
    mj_buf_reserve(&frames, 4 << 20);
    frames.len = ZSTD_decompress(frames.ptr, frames.cap, packed.ptr, packed.len);
    assert_false(ZSTD_isError(frames.len));

    int commits = 0, others = 0;
    for (size_t at = 0; at < frames.len;) {
        uint32_t len;
        memcpy(&len, frames.ptr + at, 4);
        struct mj_span frame = mj_span(frames.ptr + at + 4, len);
        at += 4 + len;
        struct mj_span head, payload;
        mj_test_split(frame, &head, &payload);
        struct mj_cbor_head t, seq, did, time, active;
        assert_true(mj_test_get(head, "t", &t));
        if (mj_span_is(t.s, "#commit")) {
            check_commit(frame, payload, docs);
            commits++;
            continue;
        }
        others++;
        MJ_AUTO_BUF again = {0};
        assert_true(mj_test_get(payload, "seq", &seq) && mj_test_get(payload, "did", &did) &&
                    mj_test_get(payload, "time", &time));
        struct mj_cbor_head text = {0};
        if (mj_span_is(t.s, "#identity")) {
            mj_test_get(payload, "handle", &text);
            mj_frame_identity(seq.i, did.s, time.s, text.s, &again);
        } else {
            assert_true(mj_span_is(t.s, "#account"));
            assert_true(mj_test_get(payload, "active", &active));
            mj_test_get(payload, "status", &text);
            mj_frame_account(seq.i, did.s, time.s, active.i, text.s, &again);
        }
        assert_true(mj_span_eq(mj_buf_span(&again), frame));
    }
    print_message("%d commits, %d others\n", commits, others);
    assert_true(commits >= 50);
    cJSON_Delete(docs);
}

static size_t unbase64(const char *in, struct mj_buf *out)
{
    static const char abc[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t acc = 0;
    int bits = 0;
    for (; *in && *in != '='; in++) {
        acc = acc << 6 | (uint32_t)(strchr(abc, *in) - abc);
        bits += 6;
        if (bits >= 8)
            mj_buf_putc(out, (char)(acc >> (bits -= 8)));
    }
    return out->len;
}

static const char *str(const cJSON *o, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));
}

static bool link_of(const cJSON *o, const char *key, struct mj_cid *out)
{
    const char *text = str(cJSON_GetObjectItemCaseSensitive(o, key), "$link");
    uint8_t bytes[MJ_CID_MAX];
    if (!text)
        return false;
    assert_int_equal(mj_cid_from_text(mj_str(text), bytes), MJ_CID_LEN);
    *out = mj_test_cid(mj_span(bytes, MJ_CID_LEN));
    return true;
}

/* One account's likes, posts and profile over six commits: each follows from the one before, and
 * undoing each gives the tree of the one before. */
static void recorded_chain(void **state)
{
    (void)state;
    MJ_AUTO_BUF text = shared("interop/relay-scenarios/post_lifecycle.json");
    cJSON *all = cJSON_ParseWithLength((const char *)text.ptr, text.len), *m, *o;
    cJSON *account = cJSON_GetArrayItem(cJSON_GetObjectItem(all, "accounts"), 0);
    cJSON *keys = cJSON_GetObjectItem(cJSON_GetObjectItem(account, "identity"), "keys");
    struct mj_pubkey *key;
    assert_int_equal(
        mj_pubkey_parse(mj_str(str(cJSON_GetObjectItem(keys, "atproto"), "publicKeyMultibase")),
                        &key),
        0);
    struct mj_test_blocks b = {0};
    struct mj_cid last, prev_data, undone, again;
    char rev[14] = "";
    int n = 0;
    cJSON_ArrayForEach(m, cJSON_GetObjectItem(all, "messages"))
    {
        cJSON *body = cJSON_GetObjectItem(cJSON_GetObjectItem(m, "frame"), "body");
        MJ_AUTO_BUF car = {0};
        unbase64(str(cJSON_GetObjectItem(body, "blocks"), "$bytes"), &car);
        struct mj_span root;
        struct mj_commit c;
        mj_test_read_car(mj_buf_span(&car), &root, &b);
        struct mj_span block = mj_test_find_block(&b, root);
        assert_int_equal(mj_commit_parse(block, &c), 0);
        assert_int_equal(mj_commit_verify(block, key), 0);
        assert_true(mj_span_cmp(c.rev, mj_str(rev)) > 0);
        assert_true(link_of(body, "prevData", &prev_data));
        if (n) {
            assert_string_equal(str(body, "since"), rev);
            assert_memory_equal(prev_data.bytes, last.bytes, MJ_CID_LEN);
        }
        struct mj_mst_op ops[8];
        size_t count = 0;
        cJSON_ArrayForEach(o, cJSON_GetObjectItem(body, "ops"))
        {
            struct mj_mst_op *op = &ops[count++];
            memset(op, 0, sizeof *op);
            const char *action = str(o, "action");
            op->action = *action == 'c'   ? MJ_MST_CREATE
                         : *action == 'u' ? MJ_MST_UPDATE
                                          : MJ_MST_DELETE;
            op->path = mj_str(str(o, "path"));
            assert_int_equal(link_of(o, "cid", &op->cid), op->action != MJ_MST_DELETE);
            assert_int_equal(link_of(o, "prev", &op->prev), op->action != MJ_MST_CREATE);
        }
        struct mj_mst *t;
        assert_int_equal(mj_mst_load(c.data, car.len, mj_test_find_block, &b, &t), 0);
        assert_int_equal(mj_mst_invert(t, ops, count), 0);
        mj_mst_root(t, &undone);
        assert_memory_equal(undone.bytes, prev_data.bytes, MJ_CID_LEN);
        for (size_t i = 0; i < count; i++) /* and forward again */
            if (ops[i].action == MJ_MST_DELETE)
                assert_int_equal(mj_mst_remove(t, ops[i].path, NULL), 0);
            else
                assert_true(mj_mst_put(t, ops[i].path, &ops[i].cid, NULL) >= 0);
        mj_mst_root(t, &again);
        assert_memory_equal(again.bytes, c.data.bytes, MJ_CID_LEN);
        mj_mst_free(t);
        last = c.data;
        memcpy(rev, c.rev.ptr, 13);
        n++;
    }
    assert_int_equal(n, 6);
    mj_pubkey_free(key);
    free(b.v);
    cJSON_Delete(all);
}

static void sign_parse_verify(void **state)
{
    (void)state;
    for (int type = MJ_KEY_K256; type <= MJ_KEY_P256; type++) {
        struct mj_keypair key;
        struct mj_pubkey *pub;
        mj_keypair_derive(type, MJ_SPAN("test"), &key);
        assert_int_equal(mj_pubkey_from_point(type, mj_span(key.point, MJ_POINT_LEN), &pub), 0);
        struct mj_commit c = {.did = MJ_SPAN("did:plc:44ybard66vv44zksje25o7dz"),
                              .rev = MJ_SPAN("3jzfcijpj2z2a")},
                         back;
        mj_cid_of(MJ_SPAN("data"), &c.data);
        MJ_AUTO_BUF block = {0};
        mj_commit_sign(&c, &key, &block);
        assert_int_equal(mj_cbor_check(mj_buf_span(&block)), 0);
        assert_int_equal(mj_commit_parse(mj_buf_span(&block), &back), 0);
        assert_true(mj_span_eq(back.did, c.did) && mj_span_eq(back.rev, c.rev));
        assert_memory_equal(back.data.bytes, c.data.bytes, MJ_CID_LEN);
        assert_int_equal(mj_commit_verify(mj_buf_span(&block), pub), 0);
        /* No prefix of it is a commit, nor anything longer. */
        for (size_t n = 0; n < block.len; n++)
            assert_true(mj_commit_parse(mj_span(block.ptr, n), &back) < 0);
        mj_buf_putc(&block, '\0');
        assert_int_equal(mj_commit_parse(mj_buf_span(&block), &back), MJ_ETRAILING);
        block.ptr[block.len - 2] = 2; /* version 2 */
        block.len--;
        assert_int_equal(mj_commit_parse(mj_buf_span(&block), &back), MJ_ECOMMIT);
        mj_pubkey_free(pub);
    }
}

/* The sample of spec/firehose.md §2, and an info frame. */
static void info_and_error(void **state)
{
    (void)state;
    MJ_AUTO_BUF b = {0};
    mj_frame_error(MJ_SPAN("FutureCursor"), MJ_SPAN("x"), &b);
    static const char want[] = "\xa1\x62op\x20\xa2\x65"
                               "error\x6c"
                               "FutureCursor\x67message\x61x";
    assert_true(mj_span_eq(mj_buf_span(&b), MJ_SPAN(want)));
    b.len = 0;
    mj_frame_info(MJ_SPAN("OutdatedCursor"), (struct mj_span){0}, &b);
    static const char info[] = "\xa2\x61t\x65#info\x62op\x01\xa1\x64name\x6eOutdatedCursor";
    assert_true(mj_span_eq(mj_buf_span(&b), MJ_SPAN(info)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_frames),
        cmocka_unit_test(recorded_chain),
        cmocka_unit_test(sign_parse_verify),
        cmocka_unit_test(info_and_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
