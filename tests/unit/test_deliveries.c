/* Deliveries for people, over a real journal and real readers: names, what is shown, what commands
 * do, and text that steers no terminal. The commands by socket are in tests/e2e. */
#include "cmocka_all.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/metrics.h"

#include "../core/cli/deliveries.c"
#include "../core/cli/deliveries_text.c"
#include "../core/cli/pretty.c"
#include "../core/cli/text.c"

struct bed {
    struct mj_journal *journal;
    struct mj_readers *readers;
    struct mj_view view;
    struct mj_buf out;
};

static void bed_init(struct bed *b)
{
    *b = (struct bed){.journal = mj_journal_in_memory(4 << 20)};
    const struct mj_readers_cfg cfg = {.journal = b->journal};
    b->readers = mj_readers_new(&cfg);
    mj_view_init(&b->view, b->journal);
}

static void bed_deinit(struct bed *b)
{
    mj_view_deinit(&b->view);
    mj_readers_free(b->readers);
    mj_journal_close(b->journal);
    mj_buf_deinit(&b->out);
}

static struct mj_reader *reader(struct bed *b, const char *script, const char *node)
{
    struct mj_reader *r;
    MJ_AUTO_BUF error = {0};
    assert_int_equal(mj_reader_get(b->readers, script, node, MJ_READER_WEBHOOK, &r, &error), 0);
    return r;
}

static void own(struct mj_reader *r, void *who)
{
    const struct mj_owner_cfg cfg = {.workers = 4, .ctx = who, .retry = {.tries = 1}};
    mj_reader_own(r, &cfg);
}

/* One event for the reader, of its own account. */
static void append(struct bed *b, struct mj_reader *r, unsigned n)
{
    char json[400], did[40];
    snprintf(did, sizeof did, "did:plc:%024u", n);
    int64_t time = mj_journal_next_time(b->journal);
    snprintf(json, sizeof json,
             "{\"did\":\"%s\",\"time_us\":%lld,\"kind\":\"commit\",\"commit\":{\"rev\":\"3k\","
             "\"operation\":\"delete\",\"collection\":\"app.bsky.feed.post\",\"rkey\":\"%u\"}}",
             did, (long long)time, n);
    const struct mj_append a = {.time_us = time, .did_hash = mj_hash(mj_str(did)), .streams = 1};
    assert_int_equal(mj_journal_append(b->journal, &a, mj_str(json)), 0);
    assert_int_equal(mj_reader_note(r, &a, 1, 0), 0);
    assert_int_equal(mj_journal_publish(b->journal, -1, 0), 0);
    mj_readers_published(b->readers);
}

static void fail_next(struct bed *b, struct mj_reader *r, void *who, const char *reason)
{
    int64_t again;
    mj_view_refresh(&b->view);
    struct mj_parcel *p = mj_reader_take(r, who, &b->view, mj_now_us(), &again);
    assert_non_null(p);
    const struct mj_failure f = {.what = MJ_FAIL_DEAD,
                                 .status = 422,
                                 .reason = reason,
                                 .excerpt = MJ_SPAN("no \x1b[31mthanks")};
    mj_parcel_fail(p, mj_now_us(), &f);
}

/* Carries out a command of blank-separated words, with "_" for a blank inside of one. */
static const char *run(struct bed *b, int status, const char *words)
{
    static char copy[256];
    struct mj_strings args = {0};
    snprintf(copy, sizeof copy, "%s", words);
    for (char *w = strtok(copy, " "); w; w = strtok(NULL, " ")) {
        for (char *c = w; *c; c++)
            *c = *c == '_' && strncmp(w, "evt_", 4) != 0 ? ' ' : *c;
        args.v[args.n++] = w;
    }
    b->out.len = 0;
    int got = mj__deliveries(b->readers, &args, false, &b->out);
    if (got != status)
        fail_msg("%s: %d, %s", words, got, mj_buf_cstr(&b->out));
    struct mj_span rest = mj_buf_span(&b->out), raw;
    assert_int_equal(mj_json_take(&rest, &raw), MJ_JSON_OBJECT);
    assert_int_equal(rest.len, 0);
    return mj_buf_cstr(&b->out);
}

static void has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no '%s' in: %s", part, text);
}

static void names(void **state)
{
    (void)state;
    struct bed b;
    int me;
    bed_init(&b);
    has(run(&b, 200, "list"), "\"deliveries\":[]");
    own(reader(&b, "hook.lua", "alarm"), &me);
    own(reader(&b, "hook.lua", "alarms"), &me);
    own(reader(&b, "bot.lua", "each#1"), &me);
    has(run(&b, 200, "list"), "\"script\":\"bot.lua\",\"node\":\"each#1\",\"kind\":\"webhook\"");
    has(run(&b, 200, "list alarm"), "\"node\":\"alarms\"");
    assert_null(strstr(run(&b, 200, "list alarm"), "bot.lua"));
    has(run(&b, 200, "pause bot"), "bot.lua each#1 is paused");
    has(run(&b, 200, "pause alarms"), "hook.lua alarms is paused");
    has(run(&b, 200, "pause hook.lua_alarm"), "hook.lua alarm is paused"); /* exactly */
    has(run(&b, 200, "pause alarm"), "hook.lua alarm is paused");          /* the whole node */
    has(run(&b, 409, "pause hook"), "may be 'hook.lua alarm', 'hook.lua alarms'");
    has(run(&b, 404, "pause nobody"), "no delivery is called 'nobody'");
    has(run(&b, 200, "resume bot"), "goes on");
    has(run(&b, 200, "show bot"), "\"state\":\"live\"");
    has(run(&b, 200, "show alarms"), "\"state\":\"paused\"");
    has(run(&b, 400, "shwo bot"), "did you mean 'show'?");
    has(run(&b, 400, "show"), "show wants NAME");
    has(run(&b, 400, "pause a b"), "pause wants NAME");
    has(run(&b, 409, "forget bot"), "a script delivers bot.lua each#1");
    mj_reader_disown(mj_readers_find(b.readers, "bot.lua each#1"), &me);
    has(run(&b, 200, "show bot"), "\"state\":\"gone\"");
    has(run(&b, 200, "forget bot"), "bot.lua each#1 is forgotten");
    has(run(&b, 404, "show bot"), "no delivery is called 'bot'");
    for (unsigned i = 0; i < 9; i++) {
        char node[16];
        snprintf(node, sizeof node, "many%u", i);
        reader(&b, "x.lua", node);
    }
    has(run(&b, 409, "pause many"), "or others; say more of the name");
    bed_deinit(&b);
}

static void letters(void **state)
{
    (void)state;
    struct bed b;
    int me;
    bed_init(&b);
    struct mj_reader *r = reader(&b, "hook.lua", "alarm"), *o = reader(&b, "o.lua", "other");
    own(r, &me);
    own(o, &me);
    for (unsigned i = 0; i < 3; i++) {
        append(&b, r, i);
        fail_next(&b, r, &me, "https://example.com answered 422\x1b[2J");
    }
    append(&b, o, 9);
    fail_next(&b, o, &me, "no");
    append(&b, r, 10);
    const char *json = run(&b, 200, "show alarm");
    has(json, "\"waiting\":1,");
    has(json, "\"dead_letters\":3");
    has(json, "\"letter\":1,\"delivery\":\"hook.lua alarm\",\"id\":\"evt_");
    assert_null(strstr(json, "\"events\"")); /* in short */
    char id[MJ_DELIVERY_ID_LEN + 1], words[100];
    snprintf(id, sizeof id, "%s", strstr(json, "evt_"));
    MJ_AUTO_BUF text = {0};
    assert_true(mj__deliveries_text(mj_str(json), mj_now_us(), &text));
    has(mj_buf_cstr(&text), "delivery        hook.lua alarm\n");
    has(mj_buf_cstr(&text), "1          20"); /* a letter, and when */
    assert_null(memchr(text.ptr, 0x1b, text.len));
    json = run(&b, 200, "show 2");
    has(json, "\"answer\":\"no \\u001b[31mthanks\",\"events\":[{\"did\":");
    text.len = 0;
    assert_true(mj__deliveries_text(mj_str(json), mj_now_us(), &text));
    has(mj_buf_cstr(&text), "letter          2\n");
    has(mj_buf_cstr(&text), "did:plc:000000000000000000000001");
    assert_null(memchr(text.ptr, 0x1b, text.len));
    snprintf(words, sizeof words, "show %s", id);
    has(run(&b, 200, words), "\"letter\":1,");
    has(run(&b, 404, "show 77"), "there is no dead letter 77");
    /* Retries go out before what is new. */
    has(run(&b, 200, "retry 2"), "1 dead letter to be delivered once more");
    mj_view_refresh(&b.view);
    int64_t again;
    struct mj_parcel *p = mj_reader_take(r, &me, &b.view, mj_now_us(), &again);
    assert_int_equal(p->dead_id, 2);
    mj_parcel_done(p, mj_now_us(), 200);
    has(run(&b, 404, "retry 2"), "there is no dead letter 2");
    has(run(&b, 200, "retry alarm"), "2 dead letters to be delivered once more");
    mj_reader_disown(r, &me);
    has(run(&b, 409, "retry alarm"), "does not run now");
    has(run(&b, 200, "retry --all"), "1 dead letter to be delivered once more; 2 stay");
    has(run(&b, 400, "purge --all"), "purge wants NAME");
    snprintf(words, sizeof words, "purge %s", id);
    has(run(&b, 200, words), "1 dead letter removed");
    has(run(&b, 200, "purge alarm"), "1 dead letter removed");
    has(run(&b, 200, "show alarm"), "\"dead_letters\":[]");
    bed_deinit(&b);
}

static void rewinds(void **state)
{
    (void)state;
    struct bed b;
    int me;
    int64_t again;
    bed_init(&b);
    struct mj_reader *r = reader(&b, "hook.lua", "alarm");
    own(r, &me);
    for (unsigned i = 0; i < 5; i++)
        append(&b, r, i);
    mj_view_refresh(&b.view);
    for (struct mj_parcel *p; (p = mj_reader_take(r, &me, &b.view, mj_now_us(), &again));)
        mj_parcel_done(p, mj_now_us(), 200);
    has(run(&b, 200, "show alarm"), "\"waiting\":0,");
    has(run(&b, 200, "rewind alarm -2h"), "hook.lua alarm goes on from 20");
    has(run(&b, 200, "show alarm"), "\"waiting\":5,");
    has(run(&b, 200, "rewind alarm now"), "goes on from");
    has(run(&b, 200, "show alarm"), "\"waiting\":0,");
    has(run(&b, 200, "rewind alarm oldest"), "the oldest event there is");
    has(run(&b, 200, "show alarm"), "\"waiting\":5,");
    has(run(&b, 400, "rewind alarm yesterday"), "a time is -2h");
    has(run(&b, 400, "rewind alarm 2200-01-01T00:00:00Z"), "is still to come; --at=now");
    has(run(&b, 200, "show alarm"), "\"waiting\":5,");
    has(run(&b, 400, "rewind alarm"), "rewind wants NAME and a time");
    bed_deinit(&b);
}

static void times(void **state)
{
    (void)state;
    const int64_t now = INT64_C(1795771177000000);
    static const struct {
        const char *text;
        int64_t want; /* -1: refused */
    } cases[] = {
        {"now", INT64_C(1795771177000000)},
        {"oldest", 0},
        {"-2h", INT64_C(1795763977000000)},
        {"-1h30m", INT64_C(1795765777000000)},
        {"-1000d", INT64_C(1709371177000000)},
        {"-1000000d", -1},
        {"1795763977", INT64_C(1795763977000000)},
        {"1795763977000001", INT64_C(1795763977000001)},
        {"2026-11-27T07:19:37Z", INT64_C(1795763977000000)},
        {"2026-11-27T08:19:37+01:00", INT64_C(1795763977000000)},
        {"", -1},
        {"-", -1},
        {"-2", -1},
        {"2h", -1},
        {"yesterday", -1},
        {"2026-11-27", -1},
        {"99999999999999999999", -1},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        int64_t us;
        int err = mj__deliveries_time(cases[i].text, now, &us);
        if (cases[i].want < 0 ? err == 0 : err || us != cases[i].want)
            fail_msg("%s: %d, %lld", cases[i].text, err, err ? 0 : (long long)us);
    }
}

static void summary(void **state)
{
    (void)state;
    struct bed b;
    int me;
    bed_init(&b);
    mj__deliveries_summary(b.readers, &b.out);
    has(mj_buf_cstr(&b.out), "{\"readers\":0,\"live\":0,");
    struct mj_reader *r = reader(&b, "hook.lua", "alarm");
    own(r, &me);
    reader(&b, "hook.lua", "orphan");
    append(&b, r, 1);
    append(&b, r, 2);
    b.out.len = 0;
    mj__deliveries_summary(b.readers, &b.out);
    has(mj_buf_cstr(&b.out), "{\"readers\":2,\"live\":1,\"behind\":0,\"paused\":0,\"disabled\":0,"
                             "\"gone\":1,\"waiting\":2,\"in_flight\":0,");
    mj_reader_disable(r, "answered 410, gone");
    b.out.len = 0;
    mj__deliveries_summary(b.readers, &b.out);
    has(mj_buf_cstr(&b.out), "\"disabled\":1,\"gone\":1,");
    has(mj_buf_cstr(&b.out), "\"lag_seconds\":0.000"); /* it is not to move */
    has(run(&b, 200, "show alarm"), "\"last_error\":\"answered 410, gone\"");
    bed_deinit(&b);
}

/* What is forgotten is no reason for an alarm. */
static void gauges(void **state)
{
    (void)state;
    struct bed b;
    int me;
    bed_init(&b);
    struct mj_reader *r = reader(&b, "gauge.lua", "alarm");
    own(r, &me);
    append(&b, r, 1);
    append(&b, r, 2);
    fail_next(&b, r, &me, "no");
    mj_readers_save(b.readers);
    mj_metrics_render(&b.out);
    has(mj_buf_cstr(&b.out), "moonjet_reader_waiting_events{reader=\"gauge.lua alarm\"} 1\n");
    has(mj_buf_cstr(&b.out), "moonjet_reader_dead_letters{reader=\"gauge.lua alarm\"} 1\n");
    has(mj_buf_cstr(&b.out), "moonjet_reader_state{reader=\"gauge.lua alarm\"} 0\n");
    mj_reader_disown(r, &me);
    has(run(&b, 200, "forget gauge"), "is forgotten");
    mj_readers_save(b.readers);
    b.out.len = 0;
    mj_metrics_render(&b.out);
    has(mj_buf_cstr(&b.out), "moonjet_reader_waiting_events{reader=\"gauge.lua alarm\"} 0\n");
    has(mj_buf_cstr(&b.out), "moonjet_reader_dead_letters{reader=\"gauge.lua alarm\"} 0\n");
    has(mj_buf_cstr(&b.out), "moonjet_reader_state{reader=\"gauge.lua alarm\"} 4\n");
    bed_deinit(&b);
}

static void list_as_text(void **state)
{
    (void)state;
    struct bed b;
    int me;
    MJ_AUTO_BUF text = {0};
    bed_init(&b);
    assert_true(mj__deliveries_text(mj_str(run(&b, 200, "list")), mj_now_us(), &text));
    has(mj_buf_cstr(&text), "nothing is delivered");
    struct mj_reader *r = reader(&b, "hook.lua", "alarm");
    own(r, &me);
    append(&b, r, 1);
    fail_next(&b, r, &me, "two\nlines \x1b[1m");
    text.len = 0;
    assert_true(mj__deliveries_text(mj_str(run(&b, 200, "list")), mj_now_us(), &text));
    has(mj_buf_cstr(&text), "delivery        kind     state ");
    has(mj_buf_cstr(&text), "hook.lua alarm  webhook  live ");
    has(mj_buf_cstr(&text), "two lines  [1m\n");
    assert_false(mj__deliveries_text(MJ_SPAN("{\"ok\":true,\"text\":\"x\"}"), 0, &text));
    assert_false(mj__deliveries_text(MJ_SPAN("{"), 0, &text));
    assert_false(mj__deliveries_text(MJ_SPAN(""), 0, &text));
    bed_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),        cmocka_unit_test(letters), cmocka_unit_test(rewinds),
        cmocka_unit_test(times),        cmocka_unit_test(summary), cmocka_unit_test(gauges),
        cmocka_unit_test(list_as_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
