/* flow:each and plug-ins as owners of durable readers: what they take, what goes back, and that
 * nothing is lost, doubled or out of order over reloads and restarts. */
#include <unistd.h>

#include "unit/task_clock.h"

#include "base/clock.h"
#include "flow/lane.h"
#include "flow/plugin.h"
#include "journal/reader.h"
#include "script/reload.h"
#include "script/scripts.h"
#include "state/store.h"

static struct mj_readers *readers;

static int setup_readers(void **state)
{
    setup(state);
    struct fixture *f = *state;
    const struct mj_readers_cfg cfg = {.journal = f->journal};
    readers = mj_readers_new(&cfg);
    mj_router_set_readers(f->router, readers);
    return 0;
}

/* As a process ends: the router takes nothing any more, scripts and readers go. */
static void close_scripts(struct fixture *f)
{
    mj_router_free(f->router);
    f->router = NULL;
    mj_scripts_free(f->scripts);
    f->scripts = NULL;
    assert_true(mj_sinks_wait(20000000));
}

static int teardown_readers(void **state)
{
    close_scripts(*state);
    mj_readers_free(readers);
    return teardown(state);
}

/* … and begins again, with the same readers. */
static void open_scripts(struct fixture *f)
{
    f->router = mj_router_new(f->journal);
    mj_router_set_streams(f->router, f->streams);
    mj_router_set_readers(f->router, readers);
    f->scripts = mj_scripts_new(f->router);
    mj_scripts_set_services(f->scripts, &services);
}

static void post_as(struct fixture *f, const char *did, const char *text)
{
    f->record.len = 0;
    mj_cbor_put_map(&f->record, 2);
    put_text(&f->record, "text");
    put_text(&f->record, text);
    put_text(&f->record, "$type");
    put_text(&f->record, "app.bsky.feed.post");
    struct mj_event ev =
        fixture_commit(f, "app.bsky.feed.post", MJ_OP_CREATE, mj_buf_span(&f->record));
    char rev[16];
    snprintf(rev, sizeof rev, "3kgmi5%07u", (unsigned)f->seq % 10000000);
    for (char *c = rev + 6; *c; c++)
        *c = (char)('2' + (*c - '0') % 6); /* a TID's alphabet */
    ev.rev = mj_str(rev);
    ev.did = mj_str(did);
    assert_int_equal(mj_router_event(f->router, &ev), 0);
}

static void publish(struct fixture *f) { assert_int_equal(mj_router_flush(f->router, -1, 0), 0); }

static struct mj_reader_state reader(const char *name)
{
    struct mj_reader *r = mj_readers_find(readers, name);
    struct mj_reader_state s;
    if (!r)
        fail_msg("there is no reader '%s'", name);
    mj_reader_state(r, &s);
    return s;
}

static int64_t node(unsigned script, const char *name, const char *family)
{
    char labels[128], full[128];
    snprintf(labels, sizeof labels, "script=\"s%u.lua\",node=\"%s\"", script, name);
    snprintf(full, sizeof full, "moonjet_node_%s", family);
    return counter(full, labels);
}

static void takes_from_the_journal(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, SEEN "local last = 0\n"
                         "jet.from '*':map(function(ev)\n"
                         "  ev.record.text = ev.text .. '!' return ev\n"
                         "end):each(function(ev)\n"
                         "  seen:inc(ev.text)\n"
                         "  assert(ev.seq > last, 'order') last = ev.seq\n"
                         "  assert(ev.time_us > 1e15 and ev.record.text == ev.text)\n"
                         "  assert(ev.rev and ev.uri and ev.op == 'create' and ev.cid == nil)\n"
                         "  assert(#ev.id == 36)\n"
                         "end):to(jet.stream 'on')\n");
    post_as(f, "did:plc:a", "x");
    post_as(f, "did:plc:b", "x");
    advance(f, 0);
    assert_int_equal(seen_by(1, "x!"), 0); /* not published yet */
    publish(f);
    advance(f, 0);
    assert_int_equal(seen_by(1, "x!"), 2);
    assert_int_equal(fixture_count(f, "on"), 2);
    assert_int_equal(node(1, "each#1", "errors_total"), 0);
    assert_int_equal(node(1, "each#1", "events_in_total"), 2);
    struct mj_reader_state s = reader("s1.lua each#1");
    assert_int_equal(s.delivered, 2);
    assert_int_equal(s.waiting, 0);
    assert_int_equal(s.kind, MJ_READER_EACH);
    assert_string_equal(s.state, "live");
}

static void workers_keep_accounts_in_order(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, SEEN "local busy, last, most, now = {}, {}, 0, 0\n"
                         "jet.from '*':each(function(ev)\n"
                         "  assert(not busy[ev.did], 'twice at once')\n"
                         "  busy[ev.did] = true\n"
                         "  now = now + 1 most = math.max(most, now)\n"
                         "  assert(ev.seq > (last[ev.did] or 0), 'order')\n"
                         "  last[ev.did] = ev.seq\n"
                         "  jet.sleep(ev.text)\n"
                         "  busy[ev.did] = nil\n"
                         "  now = now - 1\n"
                         "  seen:inc 'ordered'\n"
                         "  if most == 4 then seen:inc 'four' end\n"
                         "end, { workers = 4, queue = 50 })\n");
    int64_t errors = node(1, "each#1", "errors_total");
    static const char *const naps[] = {"3s", "1s", "7s", "2s", "500ms"};
    for (unsigned i = 0; i < 200; i++) {
        char did[32];
        snprintf(did, sizeof did, "did:plc:%u", i * i % 7);
        post_as(f, did, naps[i % 5]);
    }
    publish(f);
    advance(f, INT64_C(3600000000));
    assert_int_equal(node(1, "each#1", "errors_total") - errors, 0);
    assert_int_equal(seen_by(1, "ordered"), 200);
    assert_true(seen_by(1, "four") > 0);
    assert_int_equal(reader("s1.lua each#1").delivered, 200);
}

struct letters {
    size_t n;
    char reason[256], excerpt[2100], event_id[40];
    unsigned attempts;
};

static bool on_letter(void *ctx, const struct mj_dead *d)
{
    struct letters *l = ctx;
    l->n++;
    l->attempts = d->attempts;
    snprintf(l->reason, sizeof l->reason, "%s", d->reason);
    snprintf(l->event_id, sizeof l->event_id, "%s", d->event_id);
    snprintf(l->excerpt, sizeof l->excerpt, "%.*s", (int)d->excerpt.len,
             (const char *)d->excerpt.ptr);
    return true;
}

static struct letters letters(const char *name)
{
    struct letters l = {0};
    assert_int_equal(mj_dead_each(readers, name, 0, on_letter, &l), 0);
    return l;
}

static void ends_are_told_apart(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, SEEN "local ids = {}\n"
                         "local function deeper(ev)\n"
                         "  if ev.text == 'error' then error('on purpose') end\n"
                         "end\n"
                         "jet.from '*':each(function(ev)\n"
                         "  seen:inc('t-' .. ev.text)\n"
                         "  assert((ids[ev.text] or ev.id) == ev.id) ids[ev.text] = ev.id\n"
                         "  if ev.text == 'later' then jet.retry('not now', '5s') end\n"
                         "  if ev.text == 'slow' then jet.sleep '1h' end\n"
                         "  deeper(ev)\n"
                         "end, { retry = { tries = 3, errors = false } })\n");
    post_as(f, "did:plc:a", "error");
    post_as(f, "did:plc:a", "fine");
    publish(f);
    advance(f, 0);
    assert_int_equal(seen_by(1, "t-error"), 1);
    assert_int_equal(seen_by(1, "t-fine"), 1);
    struct letters l = letters("s1.lua each#1");
    assert_int_equal(l.n, 1);
    assert_int_equal(l.attempts, 1);
    assert_string_equal(l.reason, "s1.lua:4: on purpose");
    assert_non_null(strstr(l.excerpt, "s1.lua:4: in function 'deeper'"));
    assert_int_equal(strncmp(l.event_id, "evt_", 4), 0);

    post_as(f, "did:plc:a", "later");
    post_as(f, "did:plc:a", "behind");
    post_as(f, "did:plc:b", "beside");
    publish(f);
    advance(f, 4999999);
    assert_int_equal(seen_by(1, "t-later"), 1);
    assert_int_equal(seen_by(1, "t-beside"), 1);
    assert_int_equal(seen_by(1, "t-behind"), 0);
    advance(f, 60000000);
    assert_int_equal(seen_by(1, "t-later"), 3);
    assert_int_equal(seen_by(1, "t-behind"), 1);
    l = letters("s1.lua each#1");
    assert_int_equal(l.n, 2);
    assert_int_equal(l.attempts, 3);
    assert_string_equal(l.reason, "not now");

    post_as(f, "did:plc:a", "slow");
    publish(f);
    advance(f, INT64_C(600000000));
    assert_int_equal(seen_by(1, "t-slow"), 3);
    l = letters("s1.lua each#1");
    assert_int_equal(l.n, 3);
    assert_string_equal(l.reason, "was not done after 60000 ms and is given up");
    assert_int_equal(reader("s1.lua each#1").waiting, 0);
}

static void lists(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, SEEN "local batch = jet.from '*':batch { max = 3, every = '2s' }\n"
                         "batch:each(function(list)\n"
                         "  seen:inc('n' .. #list)\n"
                         "  for i = 2, #list do assert(list[i].seq > list[i - 1].seq) end\n"
                         "  for _, ev in ipairs(list) do seen:inc('l-' .. ev.text) end\n"
                         "end):as 'kept'\n"
                         "batch:each(function(list)\n"
                         "  seen:inc('m' .. #list)\n"
                         "end, { full = 'drop_new' }):as 'dropping'\n");
    for (int i = 0; i < 7; i++)
        post_as(f, i % 2 ? "did:plc:a" : "did:plc:b", "b");
    publish(f);
    advance(f, 0);
    assert_int_equal(seen_by(1, "n3"), 2);
    assert_int_equal(seen_by(1, "m3"), 2);
    advance(f, 1999999);
    assert_int_equal(seen_by(1, "n1"), 0);
    advance(f, 2);
    assert_int_equal(seen_by(1, "n1"), 1);
    assert_int_equal(seen_by(1, "m1"), 1);
    assert_int_equal(seen_by(1, "l-b"), 7);
    assert_int_equal(reader("s1.lua kept").delivered, 7);
    assert_null(mj_readers_find(readers, "s1.lua dropping"));
    assert_int_equal(node(1, "kept", "events_in_total"), 7);
    assert_int_equal(node(1, "dropping", "events_in_total"), 7);
}

/* What has begun may end; what has not goes back, and comes again after a restart, nothing else. */
static void stopping(void **state)
{
    struct fixture *f = *state;
    static const char source[] = SEEN "jet.from '*':each(function(ev)\n"
                                      "  seen:inc('begun' .. ev.text)\n"
                                      "  jet.sleep(ev.text == '1' and '2h' or '2s')\n"
                                      "  seen:inc('done' .. ev.text)\n"
                                      "end, { workers = 2, timeout = '3h' })\n";
    fixture_load(f, source);
    static const char *const dids[] = {"did:plc:a", "did:plc:b", "did:plc:c", "did:plc:a"};
    for (size_t i = 0; i < 4; i++)
        post_as(f, dids[i], (const char *[]){"0", "1", "2", "3"}[i]);
    publish(f);
    advance(f, 0);
    assert_int_equal(seen_by(1, "begun0") + seen_by(1, "begun1"), 2);
    assert_false(mj_scripts_stop(f->scripts, 5000000));
    advance(f, 4999999);
    assert_false(mj_scripts_stop(f->scripts, 5000000));
    advance(f, 1);
    assert_true(mj_scripts_stop(f->scripts, 5000000));
    assert_int_equal(seen_by(1, "begun2"), 0);
    close_scripts(f);
    assert_string_equal(reader("s1.lua each#1").state, "gone");
    assert_int_equal(reader("s1.lua each#1").waiting, 3);
    assert_int_equal(reader("s1.lua each#1").in_the_air, 0);

    open_scripts(f);
    f->files = 0;
    fixture_load(f, source);
    advance(f, 20000000);
    assert_int_equal(seen_by(1, "begun0"), 1);
    assert_int_equal(seen_by(1, "begun1"), 2);
    assert_int_equal(seen_by(1, "begun2"), 1);
    assert_int_equal(seen_by(1, "begun3"), 1);
    assert_int_equal(seen_by(1, "done0"), 1);
    assert_int_equal(seen_by(1, "done2"), 1);
    assert_int_equal(seen_by(1, "done3"), 1);
}

/* A quarantined script's events wait; that which struck it is not tried for ever. */
static void quarantined(void **state)
{
    struct fixture *f = *state;
    f->cfg.call_us = 30000;
    fixture_load(f, SEEN "jet.from '*':each(function(ev)\n"
                         "  if ev.text == 'loop' then ('x'):gsub('.', function()\n"
                         "    while true do end end) end\n"
                         "  seen:inc('q-' .. ev.text)\n"
                         "end)\n");
    for (int i = 0; i < 3; i++)
        post_as(f, "did:plc:a", "loop");
    for (int i = 0; i < 5; i++)
        post_as(f, "did:plc:a", "after");
    publish(f);
    struct mj_script_state script;
    do {
        advance(f, 1);
        mj_scripts_state(f->scripts, 0, &script);
    } while (strcmp(script.state, "quarantined") != 0);
    advance(f, 120000000); /* nobody's time runs out: only the scripts' clock moves */
    assert_int_equal(reader("s1.lua each#1").waiting, 5);
    assert_int_equal(letters("s1.lua each#1").n, 3);
    assert_int_equal(seen_by(1, "q-after"), 0);
    mj_life_quarantine(&f->scripts->scripts[0]->life, 1, -MJ_LIFE_FIRST_US);
    advance(f, 1);
    assert_int_equal(seen_by(1, "q-after"), 5);
}

/* ---- reload ---- */

#define RELOADS 1000
#define DIDS    7

static int64_t order_of(const char *what)
{
    return mj_metric_get(
        mj_metric("moonjet_script_order", MJ_COUNTER, "", "script=\"r.lua\",what=\"%s\"", what));
}

static void reloads_under_load(void **state)
{
    struct fixture *f = *state;
    /* The last number of each account is in named state, which every version shares. */
    static const char source[] = "local order = jet.counter('order', { 'what' })\n"
                                 "local last, busy = jet.map 'last', jet.map 'busy'\n"
                                 "jet.from '*':each(function(ev)\n"
                                 "  local n = tonumber(ev.text)\n"
                                 "  if busy:get(ev.did) then order:inc 'twice at once' end\n"
                                 "  busy:set(ev.did, true)\n"
                                 "  if n ~= last:get(ev.did, 0) + 1 then order:inc 'wrong' end\n"
                                 "  last:set(ev.did, n)\n"
                                 "  jet.sleep(({ '1ms', '3ms', '9ms' })[n %% 3 + 1])\n"
                                 "  busy:remove(ev.did)\n"
                                 "  order:inc 'done'\n"
                                 "end, { workers = 4, queue = 20 }) -- version %u\n";
    char path[256], text[2048];
    snprintf(path, sizeof path, "%s/r.lua", f->dir);
    struct mj_script_spec spec = {path, &f->cfg};
    struct mj_reload result;
    MJ_AUTO_BUF report = {0};
    unsigned numbers[DIDS] = {0}, seed = 1, posted = 0;
    for (unsigned i = 0; i < RELOADS; i++) {
        snprintf(text, sizeof text, source, i);
        fixture_file(f, "r.lua", text);
        report.len = 0;
        assert_int_equal(mj_scripts_reload(f->scripts, &spec, 1, false, &result, &report), 0);
        for (unsigned k = 0; k < 4; k++, posted++) {
            char did[32], number[16];
            seed = seed * 1103515245 + 12345;
            unsigned d = seed >> 16 & 0xffff;
            snprintf(did, sizeof did, "did:plc:r%u", d % DIDS);
            snprintf(number, sizeof number, "%u", ++numbers[d % DIDS]);
            post_as(f, did, number);
        }
        if (i % 3)
            publish(f);
        advance(f, seed % 5 * 1000);
    }
    publish(f);
    advance(f, 60000000);
    assert_int_equal(order_of("wrong"), 0);
    assert_int_equal(order_of("twice at once"), 0);
    assert_int_equal(order_of("done"), posted);
    struct mj_reader_state s = reader("r.lua each#1");
    assert_int_equal(s.delivered, posted);
    assert_int_equal(s.waiting, 0);
    assert_int_equal(s.retried + s.dead + s.failed, 0);

    /* Without its script it waits, for as long as it takes. */
    report.len = 0;
    assert_int_equal(mj_scripts_reload(f->scripts, NULL, 0, false, &result, &report), 0);
    advance(f, 10000000);
    assert_string_equal(reader("r.lua each#1").state, "gone");
    assert_int_equal(mj_scripts_reload(f->scripts, &spec, 1, false, &result, &report), 0);
    post_as(f, "did:plc:r0", "1000000");
    publish(f);
    advance(f, 10000000);
    assert_int_equal(order_of("done"), posted + 1);
    assert_string_equal(reader("r.lua each#1").state, "live");
}

/* A task that a reload does not let end comes again, in the new version. */
static void cut_short_by_a_reload(void **state)
{
    struct fixture *f = *state;
    char path[256];
    snprintf(path, sizeof path, "%s/c.lua", f->dir);
    struct mj_script_spec spec = {path, &f->cfg};
    struct mj_reload result;
    MJ_AUTO_BUF report = {0};
    static const char *const versions[] = {
        "local c = jet.counter('cut', { 'what' })\n"
        "jet.from '*':each(function(ev) c:inc('old' .. ev.text) jet.sleep '50s' end)\n",
        "local c = jet.counter('cut', { 'what' })\n"
        "jet.from '*':each(function(ev) c:inc('new' .. ev.text) end)\n"};
    fixture_file(f, "c.lua", versions[0]);
    assert_int_equal(mj_scripts_reload(f->scripts, &spec, 1, false, &result, &report), 0);
    post_as(f, "did:plc:a", "1");
    post_as(f, "did:plc:a", "2");
    post_as(f, "did:plc:b", "3");
    publish(f);
    advance(f, 1000);
    fixture_file(f, "c.lua", versions[1]);
    assert_int_equal(mj_scripts_reload(f->scripts, &spec, 1, false, &result, &report), 0);
    advance(f, 1000);
    assert_int_equal(counter("moonjet_script_cut", "script=\"c.lua\",what=\"new3\""), 1);
    assert_int_equal(counter("moonjet_script_cut", "script=\"c.lua\",what=\"new2\""), 0);
    advance(f, 6000000);
    assert_int_equal(counter("moonjet_script_cut", "script=\"c.lua\",what=\"old1\""), 1);
    assert_int_equal(counter("moonjet_script_cut", "script=\"c.lua\",what=\"new1\""), 1);
    assert_int_equal(counter("moonjet_script_cut", "script=\"c.lua\",what=\"new2\""), 1);
    struct mj_reader_state s = reader("c.lua each#1");
    assert_int_equal(s.delivered, 3);
    assert_int_equal(s.failed + s.dead, 0);
}

/* ---- plug-ins ---- */

/* Where the build puts the plug-in of tests/support. */
static void find_test_plugins(void)
{
    static char dir[300];
    static struct mj_strings list = {.n = 1};
    ssize_t n = readlink("/proc/self/exe", dir, sizeof dir - 32);
    assert_true(n > 0);
    dir[n] = 0;
    strcpy(strrchr(dir, '/'), "/test-plugins");
    list.v[0] = dir;
    mj_plugins_dirs(&list);
}

static const char *file_text(const char *path, struct mj_buf *out)
{
    FILE *f = fopen(path, "r");
    char text[4096];
    out->len = 0;
    for (size_t n; f && (n = fread(text, 1, sizeof text, f));)
        mj_buf_put(out, text, n);
    if (f)
        fclose(f);
    return mj_buf_cstr(out);
}

/* Lets scripts and plug-ins run until that many events are done, or dead. */
static void until_settled(struct fixture *f, const char *name, uint64_t count)
{
    int64_t end = mj_mono_us() + 60000000;
    for (;;) {
        mj_scripts_run(f->scripts, 1000);
        struct mj_reader_state s = reader(name);
        if (s.delivered + s.dead >= count)
            return;
        if (mj_mono_us() > end)
            fail_msg("%s: %u delivered, %u dead, not %u together", name, (unsigned)s.delivered,
                     (unsigned)s.dead, (unsigned)count);
        usleep(1000);
    }
}

static void plugins_own_readers(void **state)
{
    struct fixture *f = *state;
    char source[600];
    MJ_AUTO_BUF text = {0};
    find_test_plugins();
    snprintf(source, sizeof source,
             "local moody = jet.sink('moody', { path = '%s/out' })\n"
             "jet.from '*':to(moody):as 'a'\n"
             "jet.from { collection = 'app.bsky.feed.post', text = 'twice' }\n"
             "  :batch { max = 2, every = '1h' }:to(moody):as 'b'\n",
             f->dir);
    fixture_load(f, source);
    advance(f, 0);
    static const char *const texts[] = {"1", "2", "3", "4", "again", "5", "never", "6", "7"};
    for (size_t i = 0; i < MJ_COUNT(texts); i++) {
        post_as(f, "did:plc:a", texts[i]);
        if (strcmp(texts[i], "never") == 0) { /* what is with it would go with it */
            publish(f);
            until_settled(f, "s1.lua a", i + 1);
        }
    }
    publish(f);
    until_settled(f, "s1.lua a", MJ_COUNT(texts));
    char path[100];
    snprintf(path, sizeof path, "%s/out", f->dir);
    assert_string_equal(file_text(path, &text), "1\n2\n3\n4\nagain\n5\n6\n7\n");
    struct mj_reader_state s = reader("s1.lua a");
    assert_int_equal(s.dead, 1);
    assert_int_equal(s.kind, MJ_READER_SINK);
    assert_true(s.retried > 0);
    struct letters l = letters("s1.lua a");
    assert_int_equal(l.n, 1);
    assert_string_equal(l.reason, "the plug-in cannot take it");
    assert_int_equal(counter("moonjet_sink_events_total", "script=\"s1.lua\",plugin=\"moody\""), 8);

    /* A list is not delivered before it is one; and the plug-in ends with what it has taken. */
    post_as(f, "did:plc:a", "twice");
    publish(f);
    until_settled(f, "s1.lua a", MJ_COUNT(texts) + 1);
    assert_int_equal(reader("s1.lua b").delivered, 0);
    post_as(f, "did:plc:a", "twice");
    publish(f);
    until_settled(f, "s1.lua b", 2);
    until_settled(f, "s1.lua a", MJ_COUNT(texts) + 2);

    /* What comes while nobody is there waits for the next. */
    mj_scripts_stop(f->scripts, 0);
    mj_router_flush(f->router, -1, 0);
    close_scripts(f);
    assert_string_equal(reader("s1.lua a").state, "gone");
    open_scripts(f);
    f->files = 0;
    fixture_load(f, source);
    post_as(f, "did:plc:a", "last");
    publish(f);
    until_settled(f, "s1.lua a", MJ_COUNT(texts) + 3);
    assert_non_null(strstr(file_text(path, &text), "\ntwice\nlast\n"));
}

/* A new instance does not begin before the old one is done with what it has in hand. */
static void plugins_over_reloads(void **state)
{
    struct fixture *f = *state;
    char path[100], out[100], text[300];
    MJ_AUTO_BUF report = {0};
    MJ_AUTO_BUF lines = {0};
    struct mj_script_spec spec = {path, &f->cfg};
    struct mj_reload result;
    find_test_plugins();
    snprintf(path, sizeof path, "%s/p.lua", f->dir);
    snprintf(out, sizeof out, "%s/out", f->dir);
    unsigned posted = 0;
    for (unsigned i = 0; i < 100; i++) {
        snprintf(text, sizeof text,
                 "jet.from '*':to(jet.sink('moody', { path = '%s' })):as 'a' -- %u\n", out, i);
        fixture_file(f, "p.lua", text);
        assert_int_equal(mj_scripts_reload(f->scripts, &spec, 1, false, &result, &report), 0);
        for (unsigned k = 0; k < 20; k++) {
            snprintf(text, sizeof text, "%u", posted++);
            post_as(f, "did:plc:a", text);
        }
        publish(f);
        mj_scripts_run(f->scripts, 1000);
    }
    until_settled(f, "p.lua a", posted);
    const char *at = file_text(out, &lines);
    for (unsigned i = 0; i < posted; i++, at++) {
        char *end;
        assert_int_equal(strtoul(at, &end, 10), i);
        at = end;
        assert_int_equal(*at, '\n');
    }
    assert_int_equal(*at, 0);
}

/* ---- lanes ---- */

struct lane_bed {
    struct mj_lane *lane;
    struct mj_scripts *scripts;
    struct mj_services services;
};

static int64_t lane_run(void *ctx, int64_t budget_us)
{
    return mj_scripts_run(((struct lane_bed *)ctx)->scripts, budget_us);
}

static void lane_wake(void *ctx) { mj_lane_wake(((struct lane_bed *)ctx)->lane); }

static void lane_open(struct fixture *f, struct lane_bed *b, struct mj_store *store,
                      const char *path)
{
    const struct mj_lane_cfg cfg = {.script = "l.lua", .run = lane_run, .ctx = b};
    b->lane = mj_lane_new(&cfg);
    mj_router_set_streams(mj_lane_router(b->lane), f->streams);
    b->scripts = mj_scripts_new(mj_lane_router(b->lane));
    b->services = (struct mj_services){.ctx = b, .wake = lane_wake, .notify = lane_wake};
    mj_scripts_set_services(b->scripts, &b->services);
    mj_scripts_set_store(b->scripts, store);
    MJ_AUTO_BUF error = {0};
    if (mj_scripts_load(b->scripts, path, &f->cfg, &error) ||
        mj_lane_swap(f->router, NULL, b->lane, &error))
        fail_msg("%s", mj_buf_cstr(&error));
}

static void lane_close(struct fixture *f, struct lane_bed *b)
{
    mj_lane_end(b->lane, 10000000);
    mj_router_flush(f->router, -1, 0);
    while (!mj_scripts_stop(b->scripts, 10000000))
        mj_scripts_run(b->scripts, 10000);
    mj_lane_free(b->lane, 0);
    mj_scripts_free(b->scripts);
}

/* A script goes into a lane of its own and back, again and again, while events come. */
static void into_lanes_and_back(void **state)
{
    struct fixture *f = *state;
    static const char source[] =
        "local order = jet.counter('order', { 'what' })\n"
        "local last = jet.map 'last'\n"
        "jet.from '*':each(function(ev)\n"
        "  if tonumber(ev.text) ~= last:get('n', 0) + 1 then order:inc 'wrong' end\n"
        "  last:set('n', tonumber(ev.text))\n"
        "  jet.sleep '1ms'\n"
        "  order:inc 'done'\n"
        "end)\n";
    static const char done[] = "script=\"l.lua\",what=\"done\"";
    struct mj_store *store;
    const struct mj_store_cfg store_cfg = {0};
    char path[100], text[32];
    MJ_AUTO_BUF error = {0};
    assert_int_equal(mj_store_open(&store_cfg, &store, &error), 0);
    snprintf(path, sizeof path, "%s/l.lua", f->dir);
    fixture_file(f, "l.lua", source);
    unsigned posted = 0;
    for (unsigned i = 0; i < 12; i++) {
        struct lane_bed b = {0};
        bool lane = i % 2;
        struct mj_scripts *scripts = NULL;
        struct mj_services real = {.wake = test_wake, .notify = test_wake};
        if (lane) {
            lane_open(f, &b, store, path);
        } else {
            scripts = mj_scripts_new(f->router);
            mj_scripts_set_services(scripts, &real);
            mj_scripts_set_store(scripts, store);
            assert_int_equal(mj_scripts_load(scripts, path, &f->cfg, &error), 0);
        }
        for (unsigned k = 0; k < 40; k++) {
            snprintf(text, sizeof text, "%u", ++posted);
            post_as(f, "did:plc:a", text);
            if (k % 8 == 7)
                publish(f);
            if (scripts)
                mj_scripts_run(scripts, 1000);
        }
        publish(f);
        /* The first come now, the others in the next round. */
        for (unsigned want = posted - 20; reader("l.lua each#1").delivered < want; usleep(1000)) {
            if (scripts)
                mj_scripts_run(scripts, 1000);
            mj_router_flush(f->router, -1, 0);
        }
        if (lane) {
            lane_close(f, &b);
            continue;
        }
        MJ_AUTO_BUF why = {0};
        struct mj_graph *graph = (struct mj_graph *)mj_scripts_graph(scripts, 0);
        assert_int_equal(mj_router_swap(f->router, graph, NULL, &why), 0);
        while (!mj_scripts_stop(scripts, 10000000))
            mj_scripts_run(scripts, 10000);
        mj_scripts_free(scripts);
    }
    mj_store_close(store);
    assert_int_equal(counter("moonjet_script_order", "script=\"l.lua\",what=\"wrong\""), 0);
    assert_int_equal(counter("moonjet_script_order", done), reader("l.lua each#1").delivered);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup_readers, teardown_readers)
        T(takes_from_the_journal),
        T(workers_keep_accounts_in_order),
        T(ends_are_told_apart),
        T(lists),
        T(stopping),
        T(quarantined),
        T(reloads_under_load),
        T(cut_short_by_a_reload),
        T(plugins_own_readers),
        T(plugins_over_reloads),
        T(into_lanes_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
