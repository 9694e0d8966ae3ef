/* Tree nodes from a stranger: loading them, looking around, editing and undoing must end in an
 * error or in a tree that is sound. The input is a script: blocks first, operations after.
 *
 *   byte 0       number of blocks; each is u16 little-endian length and bytes; the first is the
 * root then         operations: action, key length, key
 *
 * Inside a block, the 36 bytes of a CID that starts 01 71 12 20 ff are replaced by that of the
 * block whose number follows, so that the fuzzer can link blocks without finding hashes. */
#include "atproto/mst.h"
#include "base/err.h"

#define BLOCKS_MAX 24

struct store {
    struct mj_buf v[BLOCKS_MAX];
    struct mj_cid cids[BLOCKS_MAX];
    size_t n;
};

static struct mj_span get(void *ctx, struct mj_span cid)
{
    struct store *s = ctx;
    for (size_t i = 0; i < s->n; i++)
        if (memcmp(s->cids[i].bytes, cid.ptr, MJ_CID_LEN) == 0)
            return mj_buf_span(&s->v[i]);
    return (struct mj_span){0};
}

/* Blocks may only point to later ones, as hashes would have it; the last is settled first. */
static void link_blocks(struct store *s)
{
    static const uint8_t mark[] = {0x01, 0x71, 0x12, 0x20, 0xff};
    for (size_t i = s->n; i-- > 0;) {
        for (size_t at = 0; at + MJ_CID_LEN <= s->v[i].len; at++) {
            uint8_t *p = s->v[i].ptr + at;
            if (memcmp(p, mark, sizeof mark) == 0 && p[5] > i && p[5] < s->n)
                memcpy(p, s->cids[p[5]].bytes, MJ_CID_LEN);
        }
        mj_cid_of(mj_buf_span(&s->v[i]), &s->cids[i]);
    }
}

static int count(void *ctx, struct mj_span key, const struct mj_cid *value)
{
    (void)value;
    struct mj_buf *last = ctx;
    if (last->len && mj_span_cmp(mj_buf_span(last), key) >= 0)
        abort(); /* keys ascend */
    last->len = 0;
    mj_buf_put(last, key.ptr, key.len);
    return 0;
}

static void same_as_given(void *ctx, const struct mj_cid *cid, struct mj_span block)
{
    /* A node that was loaded and not touched is written as it was read. */
    if (!mj_span_eq(get(ctx, mj_span(cid->bytes, MJ_CID_LEN)), block))
        abort();
}

static void operate(struct mj_mst *t, const uint8_t *p, size_t n)
{
    while (n >= 2) {
        int action = p[0] % 4;
        size_t len = p[1] < n - 2 ? p[1] : n - 2;
        struct mj_span key = mj_span(p + 2, len);
        struct mj_cid value = {{0x01, 0x71, 0x12, 0x20}}, found;
        value.bytes[5] = p[1];
        if (action == 0) {
            int r = mj_mst_put(t, key, &value, NULL);
            if (r >= 0 && (mj_mst_find(t, key, &found) || memcmp(&found, &value, sizeof found)))
                abort();
        } else if (action == 1) {
            /* What is removed is gone, except that its place may have become a stub. */
            if (mj_mst_remove(t, key, NULL) == 0 && mj_mst_find(t, key, NULL) == 0)
                abort();
        } else if (action == 2) {
            struct mj_cid before, after;
            mj_mst_root(t, &before);
            struct mj_mst_op op = {.action = MJ_MST_CREATE, .path = key, .cid = value};
            if (mj_mst_find(t, key, NULL) == MJ_ENOENT && mj_mst_put(t, key, &value, NULL) == 0) {
                if (mj_mst_invert(t, &op, 1))
                    abort();
                mj_mst_root(t, &after);
                if (memcmp(&before, &after, sizeof before))
                    abort();
            }
        } else {
            mj_mst_find(t, key, NULL);
        }
        p += 2 + len;
        n -= 2 + len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct store s = {.n = 0};
    if (!n)
        return 0;
    size_t blocks = data[0] % (BLOCKS_MAX + 1), at = 1, bytes = 0;
    while (s.n < blocks && n - at >= 2) {
        size_t len = data[at] | (size_t)data[at + 1] << 8;
        at += 2;
        if (len > n - at)
            len = n - at;
        mj_buf_reserve(&s.v[s.n], 1);
        mj_buf_put(&s.v[s.n++], data + at, len);
        at += len;
        bytes += len;
    }
    link_blocks(&s);
    struct mj_mst *t = NULL;
    if (s.n && mj_mst_load(s.cids[0], bytes, get, &s, &t) == 0) {
        MJ_AUTO_BUF last = {0};
        mj_mst_leaves(t, count, &last);
        mj_mst_nodes(t, same_as_given, &s);
    }
    if (!t)
        t = mj_mst_new();
    operate(t, data + at, n - at);
    struct mj_cid root;
    mj_mst_root(t, &root);
    MJ_AUTO_BUF last = {0};
    mj_mst_leaves(t, count, &last);
    mj_mst_free(t);
    for (size_t i = 0; i < s.n; i++)
        mj_buf_deinit(&s.v[i]);
    return 0;
}
