/* Ids of events and deliveries: the same for ever, and different where events are. */
#include "cmocka_all.h"

#include <stdio.h>

#include "base/err.h"
#include "event/id.h"
#include "event/jetstream.h"

static const struct mj_event created = {
    .kind = MJ_KIND_COMMIT,
    .op = MJ_OP_CREATE,
    .seq = 7,
    .time_us = 1751639888123456,
    .did = {(const uint8_t *)"did:plc:ewvi7nxzyoun6zhxrhs64oiz", 32},
    .time = {(const uint8_t *)"2026-07-04T14:38:08.123Z", 24},
    .collection = {(const uint8_t *)"app.bsky.feed.post", 18},
    .rkey = {(const uint8_t *)"3kgmi5fzxhc2l", 13},
    .rev = {(const uint8_t *)"3kgmi5g2bn22l", 13},
    .record = {(const uint8_t *)"\xa1\x64text\x62hi", 9}};

/* Of the event, which must be that of its JSON, too. */
static const char *delivery(const struct mj_event *ev, const char *reader)
{
    static char out[4][MJ_DELIVERY_LEN + 1];
    static unsigned n;
    uint8_t id[MJ_EVENT_ID], again[MJ_EVENT_ID];
    MJ_AUTO_BUF json = {0};
    mj_event_id(ev, id);
    assert_int_equal(mj_jetstream_encode(ev, NULL, &json), 0);
    assert_int_equal(mj_event_id_json(mj_buf_span(&json), again), 0);
    assert_memory_equal(id, again, sizeof id);
    char *to = out[n++ % 4];
    mj_delivery_id(mj_str(reader), id, to);
    return to;
}

/* Receivers remember ids for days, so no version of this program may give others. */
static void test_for_ever(void **state)
{
    (void)state;
    assert_string_equal(delivery(&created, "bot.lua each#1"),
                        "evt_12d31567e25f434ed5590a6ea79caafa");
    struct mj_event ev = created;
    ev.kind = MJ_KIND_IDENTITY;
    assert_string_equal(delivery(&ev, "bot.lua each#1"), "evt_efe22feb61e8d5cc24691d3c11865d70");
}

/* What a flow edits, another stamp and another relay are the same event. */
static void test_same(void **state)
{
    (void)state;
    struct mj_event ev = created;
    ev.seq = 99;
    ev.time_us++;
    ev.time = MJ_SPAN("2027-01-01T00:00:00Z");
    ev.record = MJ_SPAN("\xa1\x64text\x62ho");
    assert_string_equal(delivery(&created, "a b"), delivery(&ev, "a b"));
}

static void test_different(void **state)
{
    (void)state;
    char was[MJ_DELIVERY_LEN + 1];
    strcpy(was, delivery(&created, "a b"));
    struct mj_event others[7];
    for (size_t i = 0; i < MJ_COUNT(others); i++)
        others[i] = created;
    others[0].did = MJ_SPAN("did:web:a.example");
    others[1].collection = MJ_SPAN("app.bsky.feed.like");
    others[2].rkey = MJ_SPAN("3kgmi5fzxhc2m");
    others[3].rev = MJ_SPAN("3kgmi5g2bn22m");
    others[4].op = MJ_OP_UPDATE;
    others[5].kind = MJ_KIND_ACCOUNT;
    /* Fields do not run into each other. */
    others[6].collection = MJ_SPAN("app.bsky.feed.post3");
    others[6].rkey = MJ_SPAN("kgmi5fzxhc2l");
    for (size_t i = 0; i < MJ_COUNT(others); i++)
        assert_string_not_equal(was, delivery(&others[i], "a b"));
    assert_string_not_equal(was, delivery(&created, "a c"));
    struct mj_event account = others[5];
    account.seq++;
    assert_string_not_equal(delivery(&others[5], "a b"), delivery(&account, "a b"));
}

static void test_no_events(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "{",
                                        "[]",
                                        "{}",
                                        "{\"did\":\"did:plc:a\"}",
                                        "{\"did\":5,\"kind\":\"commit\"}",
                                        "{\"did\":\"a\",\"kind\":\"commit\"} x"};
    uint8_t id[MJ_EVENT_ID];
    for (size_t i = 0; i < MJ_COUNT(texts); i++)
        assert_true(mj_event_id_json(mj_str(texts[i]), id) < 0);
    assert_int_equal(mj_event_id_json(MJ_SPAN("{\"did\":\"\\u0061\",\"kind\":\"identity\"}"), id),
                     0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_for_ever), cmocka_unit_test(test_same),
                                       cmocka_unit_test(test_different),
                                       cmocka_unit_test(test_no_events)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
