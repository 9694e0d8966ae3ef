/* Match expressions: what the short form and values mean, and the compiled decision against a naive
 * evaluation of made-up flows over made-up events. */
#include <stdio.h>

#include "cmocka_all.h"

#include "base/err.h"
#include "journal/journal.h"
#include "match/decision.h"

static struct mj_event commit(const char *collection, enum mj_op op, const char *did)
{
    return (struct mj_event){
        .kind = MJ_KIND_COMMIT, .op = op, .did = mj_str(did), .collection = mj_str(collection)};
}

static const char did_a[] = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";

static bool eval(const struct mj_match *m, const struct mj_event *ev)
{
    struct mj_facts *facts = mj_facts_new();
    mj_facts_begin(facts, ev);
    bool yes = mj_match_eval(m, facts);
    mj_facts_free(facts);
    return yes;
}

static bool matches(const char *text, struct mj_event ev)
{
    MJ_AUTO_BUF error = {0};
    struct mj_match *m;
    if (mj_match_parse(mj_str(text), &m, &error))
        fail_msg("%s: %s", text, mj_buf_cstr(&error));
    bool yes = eval(m, &ev);
    mj_match_free(m);
    return yes;
}

static void short_form(void **state)
{
    (void)state;
    struct mj_event post = commit("app.bsky.feed.post", MJ_OP_CREATE, did_a);
    struct mj_event gate = commit("app.bsky.feed.postgate", MJ_OP_DELETE, did_a);
    struct mj_event identity = {.kind = MJ_KIND_IDENTITY, .did = mj_str(did_a)};
    struct mj_event account = {.kind = MJ_KIND_ACCOUNT, .did = mj_str(did_a)};

    assert_true(matches("app.bsky.feed.post", post));
    assert_true(matches("app.bsky.feed.post:create", post));
    assert_false(matches("app.bsky.feed.post:delete", post));
    assert_false(matches("app.bsky.feed.post", gate));
    assert_true(matches("app.bsky.feed.*", gate));
    assert_true(matches("app.*:delete", gate));
    assert_false(matches("app.bsky.graph.*", gate));
    assert_true(matches("*:delete", gate));
    assert_false(matches("*:delete", identity));
    assert_false(matches("app.bsky.feed.post", identity));
    assert_true(matches("#identity", identity));
    assert_false(matches("#identity", account));
    assert_true(matches("#account", account));
    assert_true(matches("#commit", post));
    assert_true(matches("*", identity));
    assert_true(matches("*", post));
}

static void bad_short_forms(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "is not a collection"},
        {"post", "is not a collection"},
        {"app.bsky..post", "is not a collection"},
        {"app.bsky.*.post", "is not a collection"},
        {".*", "is not a collection"},
        {"app..*", "is not a collection"},
        {"app.bsky.feed.post:", "unknown operation ''"},
        {"app.bsky.feed.post:crate", "did you mean 'create'"},
        {"#idenity", "did you mean 'identity'"},
        {"#", "unknown kind"},
        {"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "a DID goes into a table"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        MJ_AUTO_BUF error = {0};
        struct mj_match *m;
        assert_int_equal(mj_match_parse(mj_str(cases[i].text), &m, &error), MJ_ESYNTAX);
        assert_null(m);
        if (!strstr(mj_buf_cstr(&error), cases[i].says))
            fail_msg("'%s': %s", cases[i].text, mj_buf_cstr(&error));
    }
}

static void values_with_a_zero_byte(void **state)
{
    (void)state;
    MJ_AUTO_BUF error = {0};
    struct mj_match *m;
    assert_int_equal(mj_match_parse(MJ_SPAN("app.bsky.feed.post\0x"), &m, &error), MJ_ESYNTAX);
}

/* The property test: flows are made as a description a dozen lines can evaluate, and as an
 * expression; both must agree on every event, in a decision that holds them all. */

static uint64_t rng_state;
static uint32_t rng(uint32_t below)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return (uint32_t)(rng_state >> 33) % below;
}

static const char *const collections[] = {"app.bsky.feed.post", "app.bsky.feed.like",
                                          "app.bsky.feed.postgate", "app.bsky.graph.follow",
                                          "com.example.thing.one"};
static const char *const prefixes[] = {"app.bsky.", "app.bsky.feed.", "app.bsky.feed.post", "com."};
static const char *const dids[] = {"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",
                                   "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", "did:web:example.com",
                                   "did:web:example.org", "did:plc:cccccccccccccccccccccccc"};
static const char *const did_prefixes[] = {"did:web:", "did:plc:a", "did:"};

struct desc {
    char type; /* & | ! k o c C d D: kinds ops collections prefix dids did-prefix */
    unsigned mask;
    struct desc *a, *b;
};

static struct desc pool[100000];
static size_t used;

static struct desc *make_desc(unsigned depth)
{
    struct desc *d = &pool[used++];
    static const char types[] = "&|!kocCdD";
    d->type = types[depth ? rng(9) : 3 + rng(6)];
    d->mask = 1 + rng(31);
    if (d->type == '&' || d->type == '|' || d->type == '!')
        d->a = make_desc(depth - 1);
    if (d->type == '&' || d->type == '|')
        d->b = make_desc(depth - 1);
    return d;
}

static bool naive(const struct desc *d, const struct mj_event *ev)
{
    bool is_commit = ev->kind == MJ_KIND_COMMIT, yes = false;
    switch (d->type) {
    case '&':
        return naive(d->a, ev) && naive(d->b, ev);
    case '|':
        return naive(d->a, ev) || naive(d->b, ev);
    case '!':
        return !naive(d->a, ev);
    case 'k':
        return d->mask >> ev->kind & 1;
    case 'o':
        return is_commit && (d->mask >> ev->op & 1);
    case 'c':
        for (unsigned i = 0; i < 5; i++)
            yes |= (d->mask >> i & 1) && is_commit && mj_span_is(ev->collection, collections[i]);
        return yes;
    case 'C':
        return is_commit && mj_span_starts(ev->collection, mj_str(prefixes[d->mask % 4]));
    case 'd':
        for (unsigned i = 0; i < 5; i++)
            yes |= (d->mask >> i & 1) && mj_span_is(ev->did, dids[i]);
        return yes;
    default:
        return mj_span_starts(ev->did, mj_str(did_prefixes[d->mask % 3]));
    }
}

static struct mj_match *to_match(const struct desc *d)
{
    struct mj_match *m;
    switch (d->type) {
    case '&':
    case '|':
        m = d->type == '&' ? mj_match_and() : mj_match_or();
        mj_match_add(m, to_match(d->a));
        mj_match_add(m, to_match(d->b));
        return m;
    case '!':
        return mj_match_not(to_match(d->a));
    case 'k':
        return mj_match_kinds(d->mask);
    case 'o':
        return mj_match_ops(d->mask);
    case 'c':
    case 'd':
        m = mj_match_set(d->type == 'c' ? MJ_FIELD_COLLECTION : MJ_FIELD_DID);
        for (unsigned i = 0; i < 5; i++)
            if (d->mask >> i & 1)
                mj_match_set_add(m, mj_str(d->type == 'c' ? collections[i] : dids[i]));
        return m;
    case 'C':
        return mj_match_prefix(MJ_FIELD_COLLECTION, mj_str(prefixes[d->mask % 4]));
    default:
        return mj_match_prefix(MJ_FIELD_DID, mj_str(did_prefixes[d->mask % 3]));
    }
}

static struct mj_event random_event(void)
{
    struct mj_event ev = {.did = mj_str(dids[rng(5)]), .kind = (enum mj_kind)rng(3)};
    if (rng(4))
        ev.kind = MJ_KIND_COMMIT;
    if (ev.kind == MJ_KIND_COMMIT) {
        ev.op = (enum mj_op)(MJ_OP_CREATE + rng(3));
        ev.collection = mj_str(collections[rng(5)]);
    }
    return ev;
}

static void decision_agrees_with_naive(void **state)
{
    (void)state;
    size_t hits = 0, asked = 0;
    for (rng_state = 1; rng_state < 200;) {
        uint64_t seed = rng_state;
        struct desc *descs[150];
        struct mj_match *flows[150];
        size_t n = 1 + rng(150);
        struct mj_decision *d = mj_decision_new();
        used = 0;
        for (size_t i = 0; i < n; i++) {
            descs[i] = make_desc(rng(4));
            flows[i] = to_match(descs[i]);
            assert_int_equal(mj_decision_add(d, flows[i]), i);
        }
        for (int k = 0; k < 200; k++) {
            struct mj_event ev = random_event();
            /* Now and then the collection could not be interned. */
            uint32_t id = ev.kind != MJ_KIND_COMMIT ? 0
                          : rng(10)                 ? mj_collection_id(ev.collection)
                                                    : MJ_COLLECTION_NONE;
            const uint64_t *got = mj_decision_eval(d, &ev, id);
            for (size_t i = 0; i < n; i++) {
                bool want = naive(descs[i], &ev);
                if (want != (got[i / 64] >> (i % 64) & 1))
                    fail_msg("seed %llu, event %d, flow %zu", (unsigned long long)seed, k, i);
                hits += want;
                asked++;
            }
            assert_int_equal(got[n / 64] >> (n % 64), 0); /* no bits past the flows */
        }
        mj_decision_free(d);
        for (size_t i = 0; i < n; i++)
            mj_match_free(flows[i]);
        rng_state = seed + 1;
    }
    /* A test in which nearly everything or nothing matched would show little. */
    assert_in_range(hits * 100 / asked, 20, 80);
}

static void many_flows_by_did(void **state)
{
    (void)state;
    struct mj_decision *d = mj_decision_new();
    struct mj_match *flows[1000];
    char did[64];
    for (int i = 0; i < 1000; i++) {
        flows[i] = mj_match_set(MJ_FIELD_DID);
        snprintf(did, sizeof did, "did:web:n%d.example.com", i);
        mj_match_set_add(flows[i], mj_str(did));
        mj_decision_add(d, flows[i]);
    }
    for (int i = 0; i < 1001; i++) {
        snprintf(did, sizeof did, "did:web:n%d.example.com", i);
        struct mj_event ev = commit("app.bsky.feed.post", MJ_OP_CREATE, did);
        const uint64_t *got = mj_decision_eval(d, &ev, mj_collection_id(ev.collection));
        for (int k = 0; k < 1000; k++)
            assert_int_equal(got[k / 64] >> (k % 64) & 1, i == k);
    }
    mj_decision_free(d);
    for (int i = 0; i < 1000; i++)
        mj_match_free(flows[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_form),
        cmocka_unit_test(bad_short_forms),
        cmocka_unit_test(values_with_a_zero_byte),
        cmocka_unit_test(decision_agrees_with_naive),
        cmocka_unit_test(many_flows_by_did),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
