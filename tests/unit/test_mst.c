/* The tree against the interop vectors, and against itself: whatever was inserted and removed, the
 * root must be that of a tree built from scratch, and a commit's proof must undo the commit. */
#include "cmocka_all.h"

#include <cjson/cJSON.h>

#include "atproto/mst.h"
#include "base/err.h"
#include "shared.h"

/* The file, or the test is skipped. */
static struct mj_buf shared(const char *name)
{
    struct mj_buf b = {0};
    if (!mj_test_shared(name, &b))
        skip();
    return b;
}

#define EMPTY_TREE "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"

/* Blocks by CID: a plain list is enough for a test. */
struct store {
    struct {
        struct mj_cid cid;
        struct mj_buf block;
    } v[4096];
    size_t n, bytes;
};

static void keep(void *ctx, const struct mj_cid *cid, struct mj_span block)
{
    struct store *s = ctx;
    assert_true(s->n < MJ_COUNT(s->v));
    assert_true(mj_cid_matches(mj_span(cid->bytes, MJ_CID_LEN), block));
    for (size_t i = 0; i < s->n; i++)
        assert_memory_not_equal(s->v[i].cid.bytes, cid->bytes, MJ_CID_LEN);
    s->v[s->n].cid = *cid;
    s->v[s->n].block.len = 0;
    mj_buf_put(&s->v[s->n].block, block.ptr, block.len);
    s->n++;
    s->bytes += block.len;
}

static struct mj_span get(void *ctx, struct mj_span cid)
{
    struct store *s = ctx;
    for (size_t i = 0; i < s->n; i++)
        if (memcmp(s->v[i].cid.bytes, cid.ptr, MJ_CID_LEN) == 0)
            return mj_buf_span(&s->v[i].block);
    return (struct mj_span){0};
}

static void clear(struct store *s) { s->n = s->bytes = 0; }

static struct store *store_new(void) { return mj_calloc(1, sizeof(struct store)); }

static void store_free(struct store *s)
{
    for (size_t i = 0; i < MJ_COUNT(s->v); i++)
        mj_buf_deinit(&s->v[i].block);
    free(s);
}

static struct mj_cid cid_of(const char *text)
{
    uint8_t bytes[MJ_CID_MAX];
    struct mj_cid c;
    assert_int_equal(mj_cid_from_text(mj_str(text), bytes), MJ_CID_LEN);
    memcpy(c.bytes, bytes, MJ_CID_LEN);
    return c;
}

static void assert_root(struct mj_mst *t, const char *want)
{
    struct mj_cid root;
    char text[MJ_CID_TEXT_LEN + 1] = {0};
    mj_mst_root(t, &root);
    assert_int_equal(mj_cid_text(mj_span(root.bytes, MJ_CID_LEN), text), MJ_CID_TEXT_LEN);
    assert_string_equal(text, want);
}

static void assert_same_root(struct mj_mst *a, struct mj_mst *b)
{
    struct mj_cid x, y;
    mj_mst_root(a, &x);
    mj_mst_root(b, &y);
    assert_memory_equal(x.bytes, y.bytes, MJ_CID_LEN);
}

static cJSON *load(const char *name)
{
    MJ_AUTO_BUF text = shared(name);
    cJSON *json = cJSON_ParseWithLength((const char *)text.ptr, text.len);
    assert_non_null(json);
    return json;
}

static const char *str(const cJSON *o, const char *key)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));
    assert_non_null(s);
    return s;
}

static void key_heights(void **state)
{
    (void)state;
    cJSON *all = load("interop/mst/key_heights.json"), *v;
    int n = 0;
    cJSON_ArrayForEach(v, all)
    {
        assert_int_equal(mj_mst_height(mj_str(str(v, "key"))),
                         cJSON_GetObjectItem(v, "height")->valueint);
        n++;
    }
    assert_int_equal(n, 9);
    cJSON_Delete(all);

    /* example_keys.txt: one key per line, its height is its second character. */
    MJ_AUTO_BUF text = shared("interop/mst/example_keys.txt");
    n = 0;
    char *save = NULL;
    for (char *k = strtok_r((char *)text.ptr, "\n", &save); k; k = strtok_r(NULL, "\n", &save)) {
        assert_int_equal(mj_mst_height(mj_str(k)), k[1] - '0');
        n++;
    }
    assert_int_equal(n, 156);
}

static void common_prefix(void **state)
{
    (void)state;
    /* cJSON ends strings at the NUL that two of the vectors hold; those are written out here. */
    MJ_AUTO_BUF text = shared("interop/mst/common_prefix.json");
    for (size_t i = 0; i + 6 <= text.len; i++)
        if (memcmp(text.ptr + i, "\\u0000", 6) == 0)
            memcpy(text.ptr + i, "\\u0001", 6); /* any byte that is nowhere else does as well */
    cJSON *all = cJSON_ParseWithLength((const char *)text.ptr, text.len), *v;
    int n = 0;
    cJSON_ArrayForEach(v, all)
    {
        assert_int_equal(mj_mst_common_prefix(mj_str(str(v, "left")), mj_str(str(v, "right"))),
                         cJSON_GetObjectItem(v, "len")->valueint);
        n++;
    }
    assert_int_equal(n, 13);
    cJSON_Delete(all);
    assert_int_equal(mj_mst_common_prefix(MJ_SPAN("abc"), MJ_SPAN("abc\0")), 3);
}

static void empty_tree(void **state)
{
    (void)state;
    struct mj_mst *t = mj_mst_new();
    assert_root(t, EMPTY_TREE);
    struct mj_cid v = cid_of(EMPTY_TREE);
    assert_int_equal(mj_mst_find(t, MJ_SPAN("a/b"), NULL), MJ_ENOENT);
    assert_int_equal(mj_mst_remove(t, MJ_SPAN("a/b"), NULL), MJ_ENOENT);
    assert_int_equal(mj_mst_put(t, MJ_SPAN("a/b"), &v, NULL), 0);
    assert_int_equal(mj_mst_put(t, MJ_SPAN("a/b"), &v, NULL), 1);
    assert_int_equal(mj_mst_put(t, (struct mj_span){0}, &v, NULL), MJ_ELIMIT);
    assert_int_equal(mj_mst_remove(t, MJ_SPAN("a/b"), NULL), 0);
    assert_root(t, EMPTY_TREE);
    mj_mst_free(t);
}

static void add_ops(const cJSON *list, enum mj_mst_action action, const struct mj_cid *leaf,
                    struct mj_mst_op *ops, size_t *n)
{
    const cJSON *k;
    cJSON_ArrayForEach(k, list)
    {
        ops[*n].action = action;
        ops[*n].path = mj_str(k->valuestring);
        if (action == MJ_MST_CREATE)
            ops[*n].cid = *leaf;
        else
            ops[*n].prev = *leaf;
        ++*n;
    }
}

static void proof_fixtures(void **state)
{
    (void)state;
    cJSON *all = load("interop/firehose/commit-proof-fixtures.json"), *v, *k;
    int n = 0;
    struct store *s = store_new();
    cJSON_ArrayForEach(v, all)
    {
        struct mj_cid leaf = cid_of(str(v, "leafValue"));
        struct mj_mst *t = mj_mst_new();
        cJSON_ArrayForEach(k, cJSON_GetObjectItem(v, "keys"))
            assert_int_equal(mj_mst_put(t, mj_str(k->valuestring), &leaf, NULL), 0);
        assert_root(t, str(v, "rootBeforeCommit"));
        clear(s);
        mj_mst_proof(t, NULL, 0, keep, s); /* from here on, fresh means new with this commit */

        struct mj_mst_op ops[16];
        struct mj_span keys[16];
        size_t count = 0;
        add_ops(cJSON_GetObjectItem(v, "adds"), MJ_MST_CREATE, &leaf, ops, &count);
        add_ops(cJSON_GetObjectItem(v, "dels"), MJ_MST_DELETE, &leaf, ops, &count);
        for (size_t i = 0; i < count; i++) {
            keys[i] = ops[i].path;
            if (ops[i].action == MJ_MST_CREATE)
                assert_int_equal(mj_mst_put(t, keys[i], &leaf, NULL), 0);
            else
                assert_int_equal(mj_mst_remove(t, keys[i], NULL), 0);
        }
        assert_root(t, str(v, "rootAfterCommit"));

        /* Our proof is the published one, block for block … */
        clear(s);
        mj_mst_proof(t, keys, count, keep, s);
        cJSON *proof = cJSON_GetObjectItem(v, "blocksInProof");
        assert_int_equal(s->n, cJSON_GetArraySize(proof));
        cJSON_ArrayForEach(k, proof)
        {
            struct mj_cid c = cid_of(k->valuestring);
            assert_non_null(get(s, mj_span(c.bytes, MJ_CID_LEN)).ptr);
        }
        /* … and undoes the commit without the rest of the tree. */
        struct mj_mst *partial;
        assert_int_equal(mj_mst_load(cid_of(str(v, "rootAfterCommit")), s->bytes, get, s, &partial),
                         0);
        assert_root(partial, str(v, "rootAfterCommit"));
        assert_int_equal(mj_mst_invert(partial, ops, count), 0);
        assert_root(partial, str(v, "rootBeforeCommit"));
        mj_mst_free(partial);

        /* Without one of its blocks it must say so, not give a wrong root. */
        struct mj_cid root_cid = cid_of(str(v, "rootAfterCommit"));
        for (size_t drop = 0; drop < s->n; drop++) {
            if (memcmp(s->v[drop].cid.bytes, root_cid.bytes, MJ_CID_LEN) == 0)
                continue;
            struct mj_cid saved = s->v[drop].cid;
            memset(s->v[drop].cid.bytes, 0, MJ_CID_LEN);
            assert_int_equal(mj_mst_load(root_cid, s->bytes, get, s, &partial), 0);
            int r = mj_mst_invert(partial, ops, count);
            assert_true(r == 0 || r == MJ_EPARTIAL);
            if (r == 0)
                assert_root(partial, str(v, "rootBeforeCommit"));
            mj_mst_free(partial);
            s->v[drop].cid = saved;
        }
        mj_mst_free(t);
        n++;
    }
    assert_int_equal(n, 6);
    store_free(s);
    cJSON_Delete(all);
}

static uint64_t rng_state;

static uint32_t rnd(uint32_t below)
{
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((rng_state >> 33) % below);
}

#define KEYS 400

struct model {
    bool present[KEYS];
    struct mj_cid value[KEYS];
};

static struct mj_span key_text(uint32_t i, char out[32])
{
    /* Few collections and close keys, so that prefixes are shared. */
    int n = snprintf(out, 32, "c%u/key%u", i % 3, i * 7919 % 1009);
    return mj_span(out, (size_t)n);
}

static struct mj_mst *rebuild(const struct model *m)
{
    struct mj_mst *t = mj_mst_new();
    char text[32];
    for (uint32_t i = KEYS; i-- > 0;)
        if (m->present[i])
            assert_int_equal(mj_mst_put(t, key_text(i, text), &m->value[i], NULL), 0);
    return t;
}

/* One random commit on tree and model; fills ops with what it did. */
static size_t random_commit(struct mj_mst *t, struct model *m, struct mj_mst_op *ops,
                            char texts[][32], bool grow)
{
    size_t n = 0, want = 1 + rnd(6);
    bool used[KEYS] = {false};
    while (n < want) {
        uint32_t i = rnd(KEYS);
        if (used[i])
            continue;
        used[i] = true;
        struct mj_mst_op *op = &ops[n];
        op->path = key_text(i, texts[n]);
        n++;
        struct mj_cid old = {{0}}, value;
        uint32_t noise = rnd(UINT32_MAX);
        mj_cid_of(mj_span(&noise, sizeof noise), &value);
        if (m->present[i] && rnd(100) < (grow ? 20u : 80u)) {
            op->action = MJ_MST_DELETE;
            op->prev = m->value[i];
            assert_int_equal(mj_mst_remove(t, op->path, &old), 0);
            assert_memory_equal(old.bytes, m->value[i].bytes, MJ_CID_LEN);
            m->present[i] = false;
            continue;
        }
        op->action = m->present[i] ? MJ_MST_UPDATE : MJ_MST_CREATE;
        op->prev = m->value[i];
        op->cid = value;
        assert_int_equal(mj_mst_put(t, op->path, &value, &old), m->present[i]);
        if (m->present[i])
            assert_memory_equal(old.bytes, m->value[i].bytes, MJ_CID_LEN);
        m->present[i] = true;
        m->value[i] = value;
    }
    return n;
}

struct listing {
    const struct model *m;
    size_t n;
    char last[32];
};

static int list_leaf(void *ctx, struct mj_span key, const struct mj_cid *value)
{
    struct listing *l = ctx;
    (void)value;
    assert_true(mj_span_cmp(mj_str(l->last), key) < 0);
    memcpy(l->last, key.ptr, key.len);
    l->last[key.len] = '\0';
    l->n++;
    return 0;
}

struct neighbours {
    struct mj_span key;
    char left[32], right[32]; /* "" = none */
};

static int note_neighbour(void *ctx, struct mj_span key, const struct mj_cid *value)
{
    struct neighbours *n = ctx;
    (void)value;
    int c = mj_span_cmp(key, n->key);
    if (c)
        snprintf(c < 0 ? n->left : n->right, 32, "%.*s", (int)key.len, (const char *)key.ptr);
    return c > 0;
}

static void assert_proof_covers(struct mj_mst *t, struct mj_cid root, struct store *proof,
                                const struct mj_span *keys, size_t count)
{
    struct mj_mst *partial;
    assert_int_equal(mj_mst_load(root, proof->bytes, get, proof, &partial), 0);
    for (size_t i = 0; i < count; i++) {
        struct neighbours n = {.key = keys[i]};
        mj_mst_leaves(t, note_neighbour, &n);
        if (n.left[0])
            assert_int_equal(mj_mst_find(partial, mj_str(n.left), NULL), 0);
        if (n.right[0])
            assert_int_equal(mj_mst_find(partial, mj_str(n.right), NULL), 0);
    }
    mj_mst_free(partial);
}

static void random_commits(void **state)
{
    (void)state;
    struct store *proof = store_new(), *full = store_new();
    rng_state = 20261123;
    struct model *m = mj_calloc(1, sizeof *m);
    struct mj_mst *t = mj_mst_new();
    for (int round = 0; round < 600; round++) {
        struct mj_cid before, after, undone;
        mj_mst_root(t, &before);
        struct mj_mst_op ops[8];
        struct mj_span keys[8];
        char texts[8][32];
        size_t n = random_commit(t, m, ops, texts, round % 200 < 120);
        for (size_t i = 0; i < n; i++)
            keys[i] = ops[i].path;
        mj_mst_root(t, &after);
        clear(proof);
        mj_mst_proof(t, keys, n, keep, proof);

        /* Same content, same tree. */
        struct mj_mst *again = rebuild(m);
        assert_same_root(t, again);
        mj_mst_free(again);

        /* The proof holds the way to the keys and to their neighbours on either side. */
        assert_proof_covers(t, after, proof, keys, n);

        /* The proof alone inverts the commit. */
        struct mj_mst *partial;
        assert_int_equal(mj_mst_load(after, proof->bytes, get, proof, &partial), 0);
        for (size_t i = 0; i < n; i++) {
            struct mj_cid found;
            int r = mj_mst_find(partial, ops[i].path, &found);
            assert_int_equal(r, ops[i].action == MJ_MST_DELETE ? MJ_ENOENT : 0);
            if (!r)
                assert_memory_equal(found.bytes, ops[i].cid.bytes, MJ_CID_LEN);
        }
        assert_int_equal(mj_mst_invert(partial, ops, n), 0);
        mj_mst_root(partial, &undone);
        assert_memory_equal(undone.bytes, before.bytes, MJ_CID_LEN);
        mj_mst_free(partial);

        /* A lie about an operation is noticed. */
        assert_int_equal(mj_mst_load(after, proof->bytes, get, proof, &partial), 0);
        size_t lie = rnd((uint32_t)n);
        if (ops[lie].action == MJ_MST_DELETE)
            ops[lie].prev.bytes[20] ^= 1;
        else
            ops[lie].cid.bytes[20] ^= 1;
        int r = mj_mst_invert(partial, ops, n);
        if (!r) {
            mj_mst_root(partial, &undone);
            r = memcmp(undone.bytes, before.bytes, MJ_CID_LEN) ? MJ_EMISMATCH : 0;
        }
        assert_int_equal(r, MJ_EMISMATCH);
        mj_mst_free(partial);

        if (round % 20)
            continue;
        /* The whole tree goes through blocks and back, and lists what the model holds. */
        clear(full);
        mj_mst_nodes(t, keep, full);
        struct mj_mst *whole;
        assert_int_equal(mj_mst_load(after, full->bytes, get, full, &whole), 0);
        assert_int_equal(mj_mst_load(after, full->bytes - 1, get, full, &partial), MJ_EMST);
        struct listing l = {.m = m};
        assert_int_equal(mj_mst_leaves(whole, list_leaf, &l), 0);
        size_t want = 0;
        for (size_t i = 0; i < KEYS; i++)
            want += m->present[i];
        assert_int_equal(l.n, want);
        mj_mst_free(whole);
    }
    mj_mst_free(t);
    free(m);
    store_free(proof);
    store_free(full);
}

/* Node blocks that break one rule each; the first is good. Keys: A0/374913 and B0/601692 have
 * height 0, B1/986427 has height 1. */
static void hostile_nodes(void **state)
{
    (void)state;
#define CID24                                                                                      \
    "\xd8\x2a\x58\x25\x00\x01\x71\x12\x20"                                                         \
    "0123456789abcdef0123456789abcdef"
#define ENTRY(k, p, t) "\xa4\x61k" k "\x61p" p "\x61t" t "\x61v" CID24
#define NODE(head, entries, l)                                                                     \
    "\xa2\x61"                                                                                     \
    "e" head entries "\x61l" l
#define A0                                                                                         \
    "\x49"                                                                                         \
    "A0/374913"
#define B0                                                                                         \
    "\x49"                                                                                         \
    "B0/601692"
#define B1                                                                                         \
    "\x49"                                                                                         \
    "B1/986427"
#define CASE(text, r)                                                                              \
    {                                                                                              \
        MJ_SPAN(text), r                                                                           \
    }
    static const struct {
        struct mj_span block;
        int r;
    } cases[] = {
        CASE(NODE("\x82", ENTRY(A0, "\x00", "\xf6") ENTRY(B0, "\x00", "\xf6"), "\xf6"), 0),
        CASE(NODE("\x80", "", "\xf6"), 0),                      /* the empty tree */
        CASE(NODE("\x81", ENTRY(B1, "\x00", CID24), CID24), 0), /* stubs on both sides */
        CASE(NODE("\x80", "", CID24), MJ_EMST),                 /* a root that is a lone pointer */
        CASE(NODE("\x82", ENTRY(B0, "\x00", "\xf6") ENTRY(A0, "\x00", "\xf6"), "\xf6"), MJ_EMST),
        CASE(NODE("\x82", ENTRY(A0, "\x00", "\xf6") ENTRY(A0, "\x00", "\xf6"), "\xf6"), MJ_EMST),
        CASE(NODE("\x82", ENTRY(A0, "\x00", "\xf6") ENTRY(B1, "\x00", "\xf6"), "\xf6"), MJ_EMST),
        CASE(NODE("\x81", ENTRY(A0, "\x01", "\xf6"), "\xf6"), MJ_EMST), /* first p not 0 */
        CASE(NODE("\x81", ENTRY(A0, "\x00", CID24), "\xf6"), MJ_EMST),  /* below height 0 */
        CASE(NODE("\x81", ENTRY(A0, "\x00", "\xf6"), CID24), MJ_EMST),
        CASE(NODE("\x82",
                  ENTRY(A0, "\x00", "\xf6") ENTRY("\x41"
                                                  "a",
                                                  "\x09", "\xf6"),
                  "\xf6"),
             0),
        CASE(NODE("\x82",
                  ENTRY(A0, "\x00", "\xf6") ENTRY("\x42"
                                                  "3a",
                                                  "\x08", "\xf6"),
                  "\xf6"),
             MJ_EMST), /* one byte more could have been shared */
        CASE(NODE("\x82",
                  ENTRY(A0, "\x00", "\xf6") ENTRY("\x41"
                                                  "a",
                                                  "\x0a", "\xf6"),
                  "\xf6"),
             MJ_EMST), /* and there is nothing to share there */
        CASE(NODE("\x82", ENTRY(A0, "\x00", "\xf6"), "\xf6"), MJ_EMST),     /* count too high */
        CASE(NODE("\x81", ENTRY("\x40", "\x00", "\xf6"), "\xf6"), MJ_EMST), /* empty key */
        CASE(NODE("\x81", ENTRY(A0, "\x20", "\xf6"), "\xf6"), MJ_EMST),     /* p = -1 */
        CASE(NODE("\x81", ENTRY(A0, "\x00", "\x00"), "\xf6"), MJ_EMST),
        CASE(NODE("\x81", "\xf6", "\xf6"), MJ_EMST),
        CASE(NODE("\x80", "", "\xf6") "\x00", MJ_ETRAILING),
        CASE("\xa1\x61l\xf6", MJ_EMST),
        CASE("\xa2\x61l\xf6\x61"
             "e\x80",
             MJ_EMST),
        CASE("\x80", MJ_EMST),
        CASE("", MJ_ETRUNC),
    };
    struct store *s = store_new();
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        clear(s);
        struct mj_cid root;
        mj_cid_of(cases[i].block, &root);
        keep(s, &root, cases[i].block);
        if (!s->v[0].block.ptr)
            mj_buf_reserve(&s->v[0].block, 1); /* present, though it has no bytes */
        struct mj_mst *t = NULL;
        int r = mj_mst_load(root, s->bytes, get, s, &t);
        if (r != cases[i].r)
            fail_msg("case %zu: %s, expected %s", i, mj_strerror(r), mj_strerror(cases[i].r));
        mj_mst_free(t);
    }
    struct mj_mst *t;
    assert_int_equal(mj_mst_load(cid_of(EMPTY_TREE), 100, get, s, &t), MJ_EBLOCK);
    store_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_heights),    cmocka_unit_test(common_prefix),
        cmocka_unit_test(empty_tree),     cmocka_unit_test(proof_fixtures),
        cmocka_unit_test(random_commits), cmocka_unit_test(hostile_nodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
