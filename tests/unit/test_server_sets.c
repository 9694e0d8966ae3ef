/* wantedDids=set:NAME: who is in the set is looked up when an event comes, so edits count from the
 * next event on, for a hundred subscribers that are connected and for those that catch up, also
 * from sealed segments; sets, plain DIDs and collections go together; what is wrong is told. */
#include "cmocka_all.h"

#include <ftw.h>

#include "base/err.h"
#include "server/filter.h"
#include "support/jetserver.h"

#define POST "app.bsky.feed.post"
#define LIKE "app.bsky.feed.like"
#define A    "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
#define B    "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
#define C    "did:plc:cccccccccccccccccccccccc"

static struct jetserver jet;
static struct mj_sets *sets;
static struct mj_set *vips, *friends;

static struct mj_set *make(const char *name)
{
    struct mj_set *s = mj_sets_make(sets, name);
    mj_sets_declare(sets, s);
    return s;
}

static void begin(void)
{
    sets = mj_sets_new(NULL, NULL, 0);
    vips = make("vips");
    friends = make("friends");
    mj_set_unref(mj_sets_make(sets, "undeclared"));
}

static void end(void)
{
    jet_stop(&jet);
    mj_set_unref(vips);
    mj_set_unref(friends);
    mj_sets_free(sets);
}

static int setup(void **state)
{
    (void)state;
    begin();
    jet_start(&jet, (struct mj_server_cfg){.sets = sets}, 64 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    end();
    return 0;
}

static void add(struct mj_set *s, const char *did)
{
    assert_int_equal(mj_set_add(s, mj_str(did)), 1);
}

static void take(struct mj_set *s, const char *did)
{
    assert_int_equal(mj_set_remove(s, mj_str(did)), 1);
}

static struct wsclient *plain; /* gets everything; NULL when nobody waits for it */

/* With `plain`, returns only when the event has been matched for all who were caught up. */
static uint64_t publish(const char *did, const char *collection)
{
    jet_append(&jet, did, collection, 1, 0);
    jet_publish(&jet);
    if (plain)
        assert_int_equal(jet_read(plain), jet.n);
    return jet.n;
}

/* Everybody gets events of C at the end, so that what did not come before did not come at all. */
static void a_hundred_subscribers(void **state)
{
    (void)state;
    static const char *const targets[] = {
        "/subscribe?wantedDids=set:vips&wantedDids=" C,
        "/subscribe?wantedDids=set:vips&wantedDids=set:friends&wantedDids=" C,
        "/subscribe?wantedDids=set%3Avips&wantedCollections=" POST "&wantedDids=" C,
        "/subscribe?wantedDids=set:friends&wantedDids=" C,
        "/subscribe?wantedDids=" A "&wantedDids=" C};
    struct wsclient *c[100];
    add(vips, B);
    for (size_t i = 0; i < 100; i++)
        c[i] = jet_connect(&jet, targets[i % 5]);
    plain = jet_connect(&jet, "/subscribe");
    uint64_t first = publish(C, POST);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(jet_read(c[i]), first);
    uint64_t n[8];
    n[0] = publish(A, POST); /* A is in no set */
    add(vips, A);
    n[1] = publish(A, POST);
    n[2] = publish(A, LIKE);
    add(friends, A); /* in both: those who want both get it once */
    n[3] = publish(A, POST);
    take(vips, A);
    n[4] = publish(A, POST);
    assert_int_equal(mj_set_clear(friends), 0);
    n[5] = publish(A, POST);
    n[6] = publish(B, POST);
    n[7] = publish(C, POST);
    static const char *const want[] = {"01110011", "01111011", "01010011", "00011001", "11111101"};
    for (size_t i = 0; i < 100; i++) {
        for (size_t k = 0; k < 8; k++)
            if (want[i % 5][k] == '1')
                assert_int_equal(jet_read(c[i]), n[k]);
        ws_free(c[i]);
    }
    ws_free(plain);
    plain = NULL;
}

/* Adds and removals while events come; each subscriber sees exactly those that were published while
 * their DID was in the set. */
static void edits_between_events(void **state)
{
    (void)state;
    enum { N = 2000 };
    struct wsclient *c = jet_connect(&jet, "/subscribe?wantedDids=set:vips&wantedDids=" C);
    plain = jet_connect(&jet, "/subscribe");
    size_t wanted = 0;
    bool in = false;
    assert_int_equal(jet_read(c), publish(C, POST));
    for (unsigned i = 0; i < N; i++) {
        if (i % 3 == 0) {
            if (in)
                take(vips, A);
            else
                add(vips, A);
            in = !in;
        }
        uint64_t n = publish(i % 2 ? A : B, POST);
        if (in && i % 2) {
            assert_int_equal(jet_read(c), n);
            wanted++;
        }
    }
    assert_true(wanted > 300);
    assert_int_equal(jet_read(c), publish(C, POST));
    ws_free(plain);
    plain = NULL;
    ws_free(c);
}

static void send_update(struct wsclient *c, const char *payload)
{
    char text[512];
    int n = snprintf(text, sizeof text, "{\"type\":\"options_update\",\"payload\":%s}", payload);
    ws_send(c, MJ_WS_TEXT, text, (size_t)n);
}

static void updates(void **state)
{
    (void)state;
    char reason[128];
    add(vips, A);
    /* Nothing is sent before the first update, so what follows it is filtered by it. */
    struct wsclient *c = jet_connect(&jet, "/subscribe?requireHello=true&cursor=0");
    uint64_t a = publish(A, POST);
    publish(B, POST);
    uint64_t last = publish(C, POST);
    send_update(c, "{\"wantedDids\":[\"set:vips\",\"" C "\"]}");
    assert_int_equal(jet_read(c), a);
    assert_int_equal(jet_read(c), last);
    send_update(c, "{\"wantedDids\":[\"set:nobody\"]}");
    assert_int_equal(jet_read_close(c, reason), 1000);
    assert_string_equal(reason, "failed to parse subscriber options: invalid subscriber options: "
                                "no such set: set:nobody; there are: friends, vips");
    ws_free(c);
}

static const char *refused(const char *target)
{
    static struct mj_buf text;
    struct wsclient *c = ws_connect(mj_server_port(jet.server), target);
    assert_int_equal(c->status, 400);
    text.len = 0;
    mj_buf_puts(&text, strstr(mj_buf_cstr(&c->head), "\r\n\r\n") + 4);
    ws_free(c);
    return mj_buf_cstr(&text);
}

static void errors(void **state)
{
    (void)state;
    assert_string_equal(
        refused("/subscribe?wantedDids=set:nobody"),
        "invalid subscriber options: no such set: set:nobody; there are: friends, vips");
    assert_string_equal(
        refused("/subscribe?wantedDids=set:undeclared"),
        "invalid subscriber options: no such set: set:undeclared; there are: friends, vips");
    assert_string_equal(refused("/subscribe?wantedDids=set:vips&wantedDids=alice"),
                        "invalid subscriber options");
    MJ_AUTO_BUF target = {0};
    mj_buf_puts(&target, "/subscribe?x=y");
    for (int i = 0; i <= MJ_WANTED_SETS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        mj_set_unref(make(name));
        mj_buf_printf(&target, "&wantedDids=set:%s", name);
    }
    assert_string_equal(refused(mj_buf_cstr(&target)),
                        "invalid subscriber options: too many wanted sets");
    /* v1's limit holds for plain DIDs beside a set. */
    target.len = 0;
    mj_buf_puts(&target, "/subscribe?wantedDids=set:vips");
    for (int i = 0; i <= MJ_WANTED_DIDS_MAX; i++)
        mj_buf_printf(&target, "&wantedDids=did:web:a%d", i);
    assert_string_equal(refused(mj_buf_cstr(&target)),
                        "invalid subscriber options: too many wanted DIDs");
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

/* From sealed segments: small sets skip blocks by their filter of DIDs, large ones cannot; either
 * way all that is in the set comes, and nothing else. While one subscriber is in the middle of it,
 * the set changes. */
static void replay(void **state)
{
    (void)state;
    enum { N = 20000, PEOPLE = 400 };
    char dir[] = "/tmp/moonjet-sets-XXXXXX", did[40], target[100];
    assert_non_null(mkdtemp(dir));
    MJ_AUTO_BUF error = {0};
    struct mj_journal_cfg cfg = {
        .dir = dir, .segment_bytes = 1 << 20, .no_seal = true, .sync_us = 1000000};
    begin();
    assert_int_equal(mj_journal_open(&cfg, &jet.journal, &error), 0);
    jet_start_on(&jet, (struct mj_server_cfg){.sets = sets});
    for (int i = 1; i <= N; i++) {
        /* Rare ones keep to themselves, so that most blocks have none of them. */
        int who = i % 5000 == 17 ? i / 5000 : 10 + i % PEOPLE;
        snprintf(did, sizeof did, "did:web:p%d.example", who);
        jet_append(&jet, did, POST, 1, 300);
        if (i % 100 == 0)
            jet_publish(&jet);
    }
    assert_int_equal(mj_journal_seal(jet.journal, 0), 0);
    for (int i = 0; i < 4; i++) {
        snprintf(did, sizeof did, "did:web:p%d.example", i);
        add(vips, did);
    }
    struct wsclient *c = jet_connect(&jet, "/subscribe?cursor=0&wantedDids=set:vips");
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(jet_read(c), i * 5000 + 17);
    ws_free(c);
    /* 300 of 400 people, more than a block's filter is asked for. */
    for (int i = 10; i < 310; i++) {
        snprintf(did, sizeof did, "did:web:p%d.example", i);
        add(friends, did);
    }
    c = jet_connect(&jet, "/subscribe?cursor=0&wantedDids=set:friends&wantedDids=set:vips");
    for (int i = 1; i <= N; i++)
        if (i % 5000 == 17 || i % PEOPLE < 300)
            assert_int_equal(jet_read(c), i);
    /* Caught up: live edits count here, too. */
    take(friends, "did:web:p10.example");
    publish("did:web:p10.example", POST);
    uint64_t last = publish("did:web:p11.example", POST);
    assert_int_equal(jet_read(c), last);
    ws_free(c);
    /* What a window has been worked out for is worked out anew after an edit: the same class, the
     * same events. */
    snprintf(target, sizeof target, "/subscribe?cursor=0&wantedDids=set:vips");
    struct wsclient *first = jet_connect(&jet, target);
    assert_int_equal(jet_read(first), 17);
    add(vips, "did:web:p18.example"); /* events 8, 408, … */
    take(vips, "did:web:p0.example");
    c = jet_connect(&jet, target);
    for (int i = 1; i <= N; i++)
        if ((i % 5000 == 17 && i != 17) || (i % 5000 != 17 && i % PEOPLE == 8))
            assert_int_equal(jet_read(c), i);
    ws_free(c);
    ws_free(first);
    end();
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* An argument runs only the tests whose names it matches. */
int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_hundred_subscribers, setup, teardown),
        cmocka_unit_test_setup_teardown(edits_between_events, setup, teardown),
        cmocka_unit_test_setup_teardown(updates, setup, teardown),
        cmocka_unit_test_setup_teardown(errors, setup, teardown),
        cmocka_unit_test(replay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
