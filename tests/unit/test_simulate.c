/* The simulated network under a strict reader: every frame decodes, every commit is signed by its
 * account, its proof holds what it says, undoing it gives prevData, and what an account says adds
 * up from frame to frame. */
#include "cmocka_all.h"

#include <cjson/cJSON.h>

#include "atproto/repo.h"
#include "atproto/syntax.h"
#include "base/clock.h"
#include "base/err.h"
#include "event/decode.h"
#include "event/jetstream.h"
#include "frame_parts.h"
#include "source/simulate.h"

#define START_US INT64_C(1767225600000000)

/* What a careful consumer remembers of one account. */
struct account {
    char *did; /* owned */
    struct mj_pubkey *key;
    char rev[14];
    struct mj_cid data;
    bool synced, inactive, deleted, announced;
};

struct reader {
    struct mj_simulate *sim;
    struct mj_decoder *decoder;
    struct account *v; /* owned */
    size_t n;
    int64_t seq;
    struct mj_test_blocks blocks;
    struct mj_buf json;
    int creates, updates, deletes, likes, posts, replies, facets, readings, lua, images;
    int commits, batches, refreshes, firsts, p256, syncs, identities, handles;
    int deactivated, takendown, gone, back;
};

static void str_is(struct mj_span s, const char *want)
{
    if (!mj_span_is(s, want))
        fail_msg("%.*s, expected %s", (int)s.len, (const char *)s.ptr, want);
}

/* The key, from the DID document as anybody would read it. */
static struct mj_pubkey *key_of(struct mj_simulate *sim, struct mj_span did)
{
    MJ_AUTO_BUF text = {0};
    assert_int_equal(mj_simulate_did_document(sim, did, &text), 0);
    cJSON *doc = cJSON_ParseWithLength((const char *)text.ptr, text.len);
    assert_non_null(doc);
    str_is(did, cJSON_GetStringValue(cJSON_GetObjectItem(doc, "id")));
    const char *alias =
        cJSON_GetStringValue(cJSON_GetArrayItem(cJSON_GetObjectItem(doc, "alsoKnownAs"), 0));
    assert_true(strncmp(alias, "at://", 5) == 0 && mj_handle_valid(mj_str(alias + 5)));
    cJSON *method = cJSON_GetArrayItem(cJSON_GetObjectItem(doc, "verificationMethod"), 0);
    struct mj_pubkey *key;
    assert_int_equal(
        mj_pubkey_parse(
            mj_str(cJSON_GetStringValue(cJSON_GetObjectItem(method, "publicKeyMultibase"))), &key),
        0);
    cJSON *pds = cJSON_GetArrayItem(cJSON_GetObjectItem(doc, "service"), 0);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(pds, "serviceEndpoint")),
                        "http://127.0.0.1:1");
    cJSON_Delete(doc);
    return key;
}

static struct account *account_of(struct reader *r, struct mj_span did)
{
    for (size_t i = 0; i < r->n; i++)
        if (mj_span_is(did, r->v[i].did))
            return &r->v[i];
    assert_true(mj_did_valid(did) && did.len == 32);
    r->v = mj_realloc(r->v, (r->n + 1) * sizeof *r->v);
    struct account *a = &r->v[r->n++];
    memset(a, 0, sizeof *a);
    a->did = mj_span_dup(did);
    a->key = key_of(r->sim, did);
    return a;
}

static void check_facets(struct reader *r, const cJSON *record)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(record, "text"));
    size_t len = strlen(text);
    const cJSON *f;
    cJSON_ArrayForEach(f, cJSON_GetObjectItem(record, "facets"))
    {
        const cJSON *index = cJSON_GetObjectItem(f, "index");
        const cJSON *what = cJSON_GetArrayItem(cJSON_GetObjectItem(f, "features"), 0);
        size_t start = (size_t)cJSON_GetObjectItem(index, "byteStart")->valueint;
        size_t end = (size_t)cJSON_GetObjectItem(index, "byteEnd")->valueint;
        assert_true(start < end && end <= len);
        const char *type = cJSON_GetStringValue(cJSON_GetObjectItem(what, "$type"));
        if (strstr(type, "#tag")) {
            const char *tag = cJSON_GetStringValue(cJSON_GetObjectItem(what, "tag"));
            assert_true(text[start] == '#');
            str_is(mj_span(text + start + 1, end - start - 1), tag);
        } else if (strstr(type, "#mention")) {
            assert_true(text[start] == '@');
            assert_true(mj_handle_valid(mj_span(text + start + 1, end - start - 1)));
        } else {
            /* What is shown is the beginning of the address, perhaps with an ellipsis. */
            const char *uri = cJSON_GetStringValue(cJSON_GetObjectItem(what, "uri"));
            size_t shown = end - start;
            if (memcmp(text + end - 3, "…", 3) == 0)
                shown -= 3;
            assert_memory_equal(uri + strlen("https://"), text + start, shown);
        }
        r->facets++;
    }
}

/* The event as Jetstream would print it, read back by a JSON parser. */
static int on_event(void *ctx, struct mj_event *ev)
{
    struct reader *r = ctx;
    r->json.len = 0;
    ev->time_us = 1;
    assert_int_equal(mj_jetstream_encode(ev, NULL, &r->json), 0);
    cJSON *line = cJSON_ParseWithLength((const char *)r->json.ptr, r->json.len);
    assert_non_null(line);
    if (ev->kind == MJ_KIND_COMMIT && ev->op != MJ_OP_DELETE) {
        assert_int_equal(mj_record_check(ev->record), 0);
        const cJSON *record = cJSON_GetObjectItem(cJSON_GetObjectItem(line, "commit"), "record");
        str_is(ev->collection, cJSON_GetStringValue(cJSON_GetObjectItem(record, "$type")));
        const char *created = cJSON_GetStringValue(cJSON_GetObjectItem(record, "createdAt"));
        assert_true(mj_datetime_valid(mj_str(created)));
        r->readings += mj_span_is(ev->collection, "com.example.sensor.reading");
        if (mj_span_is(ev->collection, "app.bsky.feed.post")) {
            check_facets(r, record);
            const cJSON *reply = cJSON_GetObjectItem(record, "reply");
            r->replies += reply != NULL;
            const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(record, "text"));
            assert_true(strlen(text) <= 3000);
            r->lua += strcasestr(text, "lua") != NULL;
            r->images += strstr((const char *)mj_buf_cstr(&r->json), "embed.images") != NULL;
        }
        const cJSON *subject = cJSON_GetObjectItem(record, "subject");
        const char *uri = cJSON_GetStringValue(cJSON_GetObjectItem(subject, "uri"));
        if (uri) { /* it names somebody who exists */
            assert_true(mj_aturi_valid(mj_str(uri)));
            MJ_AUTO_BUF doc = {0};
            assert_int_equal(mj_simulate_did_document(r->sim, mj_span(uri + 5, 32), &doc), 0);
        }
    }
    cJSON_Delete(line);
    return 0;
}

static void check_commit(struct reader *r, struct mj_span payload)
{
    struct mj_cbor_head repo, rev, since, blocks, commit, prev_data;
    assert_true(mj_test_get(payload, "repo", &repo) && mj_test_get(payload, "rev", &rev) &&
                mj_test_get(payload, "since", &since) && mj_test_get(payload, "blocks", &blocks) &&
                mj_test_get(payload, "commit", &commit));
    struct account *a = account_of(r, repo.s);
    assert_false(a->inactive || a->deleted);
    struct mj_mst_op ops[200];
    size_t n = mj_test_read_ops(payload, ops, MJ_COUNT(ops));
    struct mj_span root;
    mj_test_read_car(blocks.s, &root, &r->blocks);
    assert_true(mj_span_eq(root, commit.s));
    struct mj_span block = mj_test_find_block(&r->blocks, root);
    struct mj_commit c;
    assert_int_equal(mj_commit_parse(block, &c), 0);
    assert_true(mj_span_eq(c.did, repo.s) && mj_span_eq(c.rev, rev.s));
    assert_int_equal(mj_commit_verify(block, a->key), 0);
    assert_true(mj_tid_valid(rev.s));
    if (a->synced) {
        assert_true(mj_span_cmp(rev.s, mj_str(a->rev)) > 0);
        str_is(since.s, a->rev);
    }

    struct mj_mst *t;
    assert_int_equal(mj_mst_load(c.data, blocks.s.len, mj_test_find_block, &r->blocks, &t), 0);
    for (size_t i = 0; i < n; i++) {
        struct mj_cid found;
        int got = mj_mst_find(t, ops[i].path, &found);
        assert_int_equal(got, ops[i].action == MJ_MST_DELETE ? MJ_ENOENT : 0);
        if (got == 0)
            assert_memory_equal(found.bytes, ops[i].cid.bytes, MJ_CID_LEN);
        r->creates += ops[i].action == MJ_MST_CREATE;
        r->updates += ops[i].action == MJ_MST_UPDATE;
        r->deletes += ops[i].action == MJ_MST_DELETE;
        bool made = ops[i].action == MJ_MST_CREATE;
        r->likes += made && mj_span_starts(ops[i].path, MJ_SPAN("app.bsky.feed.like/"));
        r->posts += made && mj_span_starts(ops[i].path, MJ_SPAN("app.bsky.feed.post/"));
    }
    if (since.type == MJ_CBOR_NULL) {
        /* The first commit of all: empty, and nothing came before it. */
        assert_false(mj_test_get(payload, "prevData", &prev_data));
        assert_true(n == 0 && a->announced && !a->synced);
        assert_int_equal(r->blocks.n, 2);
        r->firsts++;
    } else {
        assert_true(mj_test_get(payload, "prevData", &prev_data));
        if (a->synced)
            assert_memory_equal(prev_data.s.ptr, a->data.bytes, MJ_CID_LEN);
        struct mj_cid undone;
        assert_int_equal(mj_mst_invert(t, ops, n), 0);
        mj_mst_root(t, &undone);
        assert_memory_equal(undone.bytes, prev_data.s.ptr, MJ_CID_LEN);
        r->refreshes += n == 0;
    }
    mj_mst_free(t);
    a->synced = true;
    a->data = c.data;
    memcpy(a->rev, rev.s.ptr, 13);
    r->commits++;
    r->batches += n > 1;
    r->p256 += mj_pubkey_type(a->key) == MJ_KEY_P256;
}

static void check_sync(struct reader *r, struct mj_span payload)
{
    struct mj_cbor_head did, rev, blocks;
    assert_true(mj_test_get(payload, "did", &did) && mj_test_get(payload, "rev", &rev) &&
                mj_test_get(payload, "blocks", &blocks));
    struct account *a = account_of(r, did.s);
    struct mj_span root;
    struct mj_commit c;
    mj_test_read_car(blocks.s, &root, &r->blocks);
    assert_int_equal(r->blocks.n, 1);
    assert_int_equal(mj_commit_parse(r->blocks.v[0].block, &c), 0);
    assert_int_equal(mj_commit_verify(r->blocks.v[0].block, a->key), 0);
    assert_true(mj_span_eq(c.did, did.s) && mj_span_eq(c.rev, rev.s));
    if (a->synced) {
        str_is(rev.s, a->rev);
        assert_memory_equal(c.data.bytes, a->data.bytes, MJ_CID_LEN);
    }
    a->synced = true;
    a->data = c.data;
    memcpy(a->rev, rev.s.ptr, 13);
    r->syncs++;
}

static void check_account(struct reader *r, struct mj_span payload)
{
    struct mj_cbor_head did, active, status;
    assert_true(mj_test_get(payload, "did", &did) && mj_test_get(payload, "active", &active));
    struct account *a = account_of(r, did.s);
    bool has_status = mj_test_get(payload, "status", &status);
    assert_int_equal(has_status, !active.i);
    assert_false(a->deleted);
    if (active.i) {
        r->back += a->inactive;
        a->inactive = false;
        return;
    }
    bool deleted = mj_span_is(status.s, "deleted");
    assert_true(!a->inactive);
    a->inactive = true;
    a->deleted = deleted;
    r->gone += deleted;
    r->deactivated += mj_span_is(status.s, "deactivated");
    r->takendown += mj_span_is(status.s, "takendown");
}

static void check_identity(struct reader *r, struct mj_span payload)
{
    struct mj_cbor_head did, handle;
    assert_true(mj_test_get(payload, "did", &did));
    struct account *a = account_of(r, did.s);
    assert_false(a->deleted);
    a->announced = true;
    r->identities++;
    if (!mj_test_get(payload, "handle", &handle))
        return;
    MJ_AUTO_BUF resolved = {0};
    assert_true(mj_handle_valid(handle.s));
    assert_int_equal(mj_simulate_resolve_handle(r->sim, handle.s, &resolved), 0);
    assert_true(mj_span_eq(mj_buf_span(&resolved), did.s));
    r->handles++;
}

static void read_frame(struct reader *r)
{
    struct mj_span frame, head, payload;
    struct mj_cbor_head t, seq;
    int64_t n = mj_simulate_next(r->sim, &frame);
    assert_int_equal(n, ++r->seq);
    struct mj_frame f;
    assert_int_equal(mj_decode(r->decoder, frame, &f, on_event, r), 0);
    assert_int_equal(f.dropped, 0);
    assert_int_equal(f.seq, n);
    mj_test_split(frame, &head, &payload);
    assert_true(mj_test_get(head, "t", &t) && mj_test_get(payload, "seq", &seq));
    assert_int_equal(seq.i, n);
    if (mj_span_is(t.s, "#commit"))
        check_commit(r, payload);
    else if (mj_span_is(t.s, "#sync"))
        check_sync(r, payload);
    else if (mj_span_is(t.s, "#account"))
        check_account(r, payload);
    else
        check_identity(r, payload);
}

static int count_leaf(void *ctx, struct mj_span key, const struct mj_cid *value)
{
    void **pair = ctx;
    struct mj_test_blocks *b = pair[0];
    size_t *n = pair[1];
    struct mj_span collection, rkey;
    assert_true(mj_path_split(key, &collection, &rkey));
    assert_non_null(mj_test_find_block(b, mj_span(value->bytes, MJ_CID_LEN)).ptr);
    ++*n;
    return 0;
}

/* The repository of one account as a whole: complete, signed, and where the frames left it. */
static void check_repo(struct reader *r, struct account *a)
{
    MJ_AUTO_BUF car = {0};
    const char *status = NULL;
    int got = mj_simulate_repo(r->sim, mj_str(a->did), &car, &status);
    if (a->inactive) {
        assert_int_equal(got, a->deleted ? MJ_ENOENT : MJ_ECLOSED);
        return;
    }
    assert_int_equal(got, 0);
    struct mj_span root;
    struct mj_commit c;
    struct mj_mst *t;
    mj_test_read_car(mj_buf_span(&car), &root, &r->blocks);
    assert_true(mj_span_eq(r->blocks.v[0].cid, root));
    assert_int_equal(mj_commit_parse(r->blocks.v[0].block, &c), 0);
    assert_int_equal(mj_commit_verify(r->blocks.v[0].block, a->key), 0);
    if (a->synced) {
        str_is(c.rev, a->rev);
        assert_memory_equal(c.data.bytes, a->data.bytes, MJ_CID_LEN);
    }
    size_t leaves = 0;
    void *pair[] = {&r->blocks, &leaves};
    assert_int_equal(mj_mst_load(c.data, car.len, mj_test_find_block, &r->blocks, &t), 0);
    assert_int_equal(mj_mst_leaves(t, count_leaf, pair), 0);
    assert_true(leaves < r->blocks.n);
    mj_mst_free(t);
}

static struct mj_simulate *new_sim(uint64_t seed, uint32_t accounts, uint32_t records)
{
    struct mj_simulate_cfg cfg = {.seed = seed,
                                  .accounts = accounts,
                                  .records_max = records,
                                  .start_us = START_US,
                                  .step_us = 1000,
                                  .pds_url = "http://127.0.0.1:1"};
    struct mj_simulate *s;
    assert_int_equal(mj_simulate_new(&cfg, &s), 0);
    return s;
}

static void reader_free(struct reader *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->v[i].did);
        mj_pubkey_free(r->v[i].key);
    }
    free(r->v);
    free(r->blocks.v);
    mj_buf_deinit(&r->json);
    mj_decoder_free(r->decoder);
    mj_simulate_free(r->sim);
}

static void a_strict_reader_finds_nothing(void **state)
{
    (void)state;
    struct reader r = {.sim = new_sim(42, 40, 200), .decoder = mj_decoder_new()};
    for (int i = 0; i < 4500; i++)
        read_frame(&r);
    for (size_t i = 0; i < r.n; i++)
        check_repo(&r, &r.v[i]);
    print_message("%d commits (%d batches, %d refreshes, %d first, %d p256), %d sync, "
                  "%d identity (%d with handle); deactivated %d, takendown %d, back %d, gone %d\n",
                  r.commits, r.batches, r.refreshes, r.firsts, r.p256, r.syncs, r.identities,
                  r.handles, r.deactivated, r.takendown, r.back, r.gone);
    print_message("create %d, update %d, delete %d; like %d, post %d (%d replies, %d facets, %d "
                  "images, %d lua), reading %d\n",
                  r.creates, r.updates, r.deletes, r.likes, r.posts, r.replies, r.facets, r.images,
                  r.lua, r.readings);
    /* Everything that is to happen has happened. */
    assert_true(r.batches > 20 && r.refreshes && r.firsts && r.p256 && r.syncs && r.handles &&
                r.identities > r.handles && r.deactivated && r.takendown && r.back && r.gone);
    assert_true(r.replies > 50 && r.facets > 50 && r.images > 10 && r.lua > 10 && r.readings > 5);
    /* The mix of the live network, within a few percent. */
    assert_in_range(r.likes * 100 / r.creates, 63, 75);
    assert_in_range(r.posts * 100 / r.creates, 9, 16);
    assert_in_range(r.creates * 100 / (r.creates + r.updates + r.deletes), 92, 98);
    assert_in_range(r.commits * 100 / r.seq, 95, 99);
    reader_free(&r);
}

/* One person alone: nobody else to follow, nobody may leave but for good. */
static void the_smallest_network(void **state)
{
    (void)state;
    struct reader r = {.sim = new_sim(7, 1, 150), .decoder = mj_decoder_new()};
    for (int i = 0; i < 500; i++)
        read_frame(&r);
    assert_true(r.gone > 0 && r.firsts > 0);
    reader_free(&r);
}

static void same_seed_same_bytes(void **state)
{
    (void)state;
    struct mj_simulate *a = new_sim(5, 50, 0), *b = new_sim(5, 50, 0), *c = new_sim(6, 50, 0);
    int differ = 0;
    for (int i = 0; i < 400; i++) {
        struct mj_span x, y, z;
        mj_simulate_next(a, &x);
        mj_simulate_next(b, &y);
        mj_simulate_next(c, &z);
        assert_true(mj_span_eq(x, y));
        differ += !mj_span_eq(x, z);
    }
    assert_int_equal(differ, 400);
    mj_simulate_free(a);
    mj_simulate_free(b);
    mj_simulate_free(c);
}

static int ignore_event(void *ctx, struct mj_event *ev)
{
    (void)ctx;
    (void)ev;
    return 0;
}

static void without_a_start_time_it_is_now(void **state)
{
    (void)state;
    struct mj_simulate *s;
    int64_t before = mj_now_us();
    assert_int_equal(mj_simulate_new(&(struct mj_simulate_cfg){.accounts = 3}, &s), 0);
    struct mj_decoder *d = mj_decoder_new();
    for (int i = 0; i < 50; i++) {
        struct mj_span frame;
        struct mj_frame f;
        int64_t at;
        mj_simulate_next(s, &frame);
        assert_int_equal(mj_decode(d, frame, &f, ignore_event, NULL), 0);
        assert_int_equal(mj_datetime_us(f.time, &at), 0);
        assert_true(at >= before - 1000 && at <= mj_now_us()); /* the text has milliseconds */
    }
    mj_decoder_free(d);
    mj_simulate_free(s);
    assert_int_equal(mj_simulate_new(&(struct mj_simulate_cfg){.accounts = 1000001}, &s),
                     MJ_EINVAL);
}

static int get(struct mj_simulate *s, const char *path, const char *query, struct mj_buf *body,
               const char **type)
{
    body->len = 0;
    *type = "application/json";
    int status = mj_simulate_get(s, mj_str(path), mj_str(query), body, type);
    mj_buf_cstr(body);
    return status;
}

static void documents(void **state)
{
    (void)state;
    struct mj_simulate *s = new_sim(1, 5, 0);
    struct mj_span frame;
    struct mj_frame f;
    struct mj_decoder *d = mj_decoder_new();
    do {
        mj_simulate_next(s, &frame);
        assert_int_equal(mj_decode(d, frame, &f, ignore_event, NULL), 0);
    } while (f.type != MJ_FRAME_COMMIT);
    MJ_AUTO_FREE char *did = mj_span_dup(f.did);
    MJ_AUTO_BUF body = {0}, text = {0};
    const char *type;
    mj_buf_printf(&text, "/%s", did);
    assert_int_equal(get(s, mj_buf_cstr(&text), "", &body, &type), 200);
    assert_string_equal(type, "application/did+ld+json");
    cJSON *doc = cJSON_Parse((const char *)body.ptr);
    const char *alias =
        cJSON_GetStringValue(cJSON_GetArrayItem(cJSON_GetObjectItem(doc, "alsoKnownAs"), 0));
    text.len = 0;
    mj_buf_printf(&text, "x=1&handle=%s", alias + 5);
    assert_int_equal(
        get(s, "/xrpc/com.atproto.identity.resolveHandle", mj_buf_cstr(&text), &body, &type), 200);
    assert_non_null(strstr((const char *)body.ptr, did));
    cJSON_Delete(doc);
    text.len = 0;
    mj_buf_printf(&text, "did=did%%3Aplc%%3A%s", did + 8);
    assert_int_equal(get(s, "/xrpc/com.atproto.sync.getRepo", mj_buf_cstr(&text), &body, &type),
                     200);
    assert_string_equal(type, "application/vnd.ipld.car");
    struct mj_car car;
    assert_int_equal(mj_car_open(&car, mj_buf_span(&body)), 0);

    static const struct {
        const char *path, *query;
        int status;
    } bad[] = {
        {"/xrpc/com.atproto.sync.getRepo", "", 400},
        {"/xrpc/com.atproto.sync.getRepo", "did=did:plc:nobody", 400},
        {"/xrpc/com.atproto.sync.getRepo", "did=%zz", 400},
        {"/xrpc/com.atproto.identity.resolveHandle", "", 400},
        {"/xrpc/com.atproto.identity.resolveHandle", "handle=nobody.test", 400},
        {"/did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "", 404},
        {"/", "", 404},
        {"", "", 404},
    };
    for (size_t i = 0; i < MJ_COUNT(bad); i++) {
        assert_int_equal(get(s, bad[i].path, bad[i].query, &body, &type), bad[i].status);
        cJSON *error = cJSON_Parse((const char *)body.ptr);
        assert_non_null(cJSON_GetObjectItem(error, "error"));
        cJSON_Delete(error);
    }
    mj_decoder_free(d);
    mj_simulate_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_strict_reader_finds_nothing),
        cmocka_unit_test(the_smallest_network),
        cmocka_unit_test(same_seed_same_bytes),
        cmocka_unit_test(without_a_start_time_it_is_now),
        cmocka_unit_test(documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
