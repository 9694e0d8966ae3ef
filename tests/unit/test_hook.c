/* Webhooks end to end: a journal and its readers, the net thread, and a receiver that behaves in
 * every way there is. Time is the test's where hours pass; nothing waits for it. */
#include "cmocka_all.h"

#include <poll.h>
#include <semaphore.h>
#include <signal.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "deliver/hook_internal.h"
#include "deliver/sign.h"
#include "support/httpserver.h"

#define START_US INT64_C(1767225600000000)
#define S        INT64_C(1000000)
#define HOUR     (3600 * S)
#define SECRET   "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define SECRET2  "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
#define GOT_MAX  4096

struct got {
    char path[32], id[64], timestamp[32], signature[256], github[80], attempt[16], replay[8],
        cursor[24], reader[80], type[64], agent[32];
    struct mj_buf body;
    int connection;
};

static struct httpserver server;
static pthread_mutex_t got_lock = PTHREAD_MUTEX_INITIALIZER;
static struct got got[GOT_MAX];
static size_t got_count;
static _Atomic int status; /* what /x answers */
static char reply_headers[200], reply_body[400];

static struct mj_journal *journal;
static struct mj_readers *readers;
static struct mj_http *http;
static struct mj_hooks *hooks;
static int64_t now_us; /* the test's clock; 0: it runs */

static void copy_header(const struct httprequest *r, const char *name, char *out, size_t cap)
{
    struct mj_span v = mj_http_header(&r->head, name);
    snprintf(out, cap, "%.*s", (int)v.len, v.len ? (const char *)v.ptr : "");
}

static void note_request(const struct httprequest *r)
{
    pthread_mutex_lock(&got_lock);
    assert_true(got_count < GOT_MAX);
    struct got *g = &got[got_count++];
    snprintf(g->path, sizeof g->path, "%.*s", (int)r->head.path.len, r->head.path.ptr);
    copy_header(r, "webhook-id", g->id, sizeof g->id);
    copy_header(r, "webhook-timestamp", g->timestamp, sizeof g->timestamp);
    copy_header(r, "webhook-signature", g->signature, sizeof g->signature);
    copy_header(r, "x-hub-signature-256", g->github, sizeof g->github);
    copy_header(r, "moonjet-attempt", g->attempt, sizeof g->attempt);
    copy_header(r, "moonjet-replay", g->replay, sizeof g->replay);
    copy_header(r, "moonjet-cursor", g->cursor, sizeof g->cursor);
    copy_header(r, "moonjet-reader", g->reader, sizeof g->reader);
    copy_header(r, "content-type", g->type, sizeof g->type);
    copy_header(r, "user-agent", g->agent, sizeof g->agent);
    g->body.len = 0;
    mj_buf_put(&g->body, r->body.ptr, r->body.len);
    g->connection = r->connection;
    pthread_mutex_unlock(&got_lock);
}

static size_t requests_of(const char *path)
{
    size_t n = 0;
    pthread_mutex_lock(&got_lock);
    for (size_t i = 0; i < got_count; i++)
        n += strcmp(got[i].path, path) == 0;
    pthread_mutex_unlock(&got_lock);
    return n;
}

static bool answer(struct httprequest *r)
{
    static char huge[1 << 20];
    struct mj_span path = r->head.path;
    note_request(r);
    if (mj_span_is(path, "/x"))
        return http_reply(r, atomic_load(&status), reply_headers, mj_str(reply_body));
    if (mj_span_is(path, "/ok"))
        return http_reply(r, 204, "", MJ_SPAN(""));
    if (mj_span_is(path, "/hang")) {
        http_hold(r);
        return false;
    }
    if (mj_span_is(path, "/late-410")) {
        http_hold(r);
        return http_reply(r, 410, "", MJ_SPAN(""));
    }
    if (mj_span_is(path, "/slow")) { /* a byte at a time, until the other side has enough */
        struct pollfd p = {.fd = r->fd, .events = POLLIN};
        http_write(r, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", 40);
        for (int i = 0; i < 100 && poll(&p, 1, 20) == 0; i++)
            http_write(r, "x", 1);
        return false;
    }
    if (mj_span_is(path, "/close"))
        return false;
    if (mj_span_is(path, "/garbage")) {
        http_write(r, "\0\1\2 what is this\r\n\r\n", 19);
        return false;
    }
    if (mj_span_is(path, "/most")) { /* of its events, all but the first have failed */
        MJ_AUTO_BUF body = {0};
        struct mj_span rest = r->body;
        const uint8_t *id;
        for (int i = 0; (id = memmem(rest.ptr, rest.len, "\"evt_", 5)) && requests_of("/most") == 1;
             i++) {
            if (i)
                mj_buf_printf(&body, "%s\n    %.38s", body.len ? "," : "{\"failed\": [", id);
            rest = mj_span(id + 5, rest.len - (size_t)(id + 5 - rest.ptr));
        }
        mj_buf_puts(&body, body.len ? "]}" : "");
        return http_reply(r, 200, "", mj_buf_span(&body));
    }
    if (mj_span_starts(path, MJ_SPAN("/echo/"))) { /* as debug pages do */
        MJ_AUTO_BUF body = {0};
        mj_buf_puts(&body, "Cannot POST ");
        mj_buf_put(&body, path.ptr, path.len);
        for (size_t i = 0; i < r->head.count; i++)
            mj_buf_printf(&body, "\n%.*s", (int)r->head.headers[i].value.len,
                          (const char *)r->head.headers[i].value.ptr);
        mj_buf_puts(&body, "\n\\/echo\\/tok3n-in-a-path\nthe key is " SECRET
                           ", it's a secret, that's all");
        return http_reply(r, 422, "", mj_buf_span(&body));
    }
    if (mj_span_is(path,
                   "/gossip")) { /* the first event has failed, and much is to be said of it */
        const struct mj_span *b = &r->body;
        const char *id = memmem(b->ptr, b->len, "evt_", 4);
        int n = snprintf(huge, sizeof huge, "{\"failed\":[\"%.36s\"],\"why\":\"", id ? id : "");
        memset(huge + n, 'x', sizeof huge - (size_t)n);
        return http_reply(r, 200, "", mj_span(huge, sizeof huge));
    }
    if (mj_span_is(path, "/huge")) {
        memset(huge, 'x', sizeof huge);
        return http_reply(r, 200, "", mj_span(huge, sizeof huge));
    }
    return http_reply(r, 302, "Location: /ok\r\n", MJ_SPAN(""));
}

/* ---- the fixture ---- */

static struct mj_reach *reach;

static void set_clock(int64_t us)
{
    now_us = us;
    mj_clock_freeze(us);
}

static void open_engine(void (*ask)(void *ctx, struct mj_hook_ask *ask))
{
    const struct mj_http_cfg cfg = {.reach = reach};
    assert_int_equal(mj_http_start(&cfg, &http), 0);
    const struct mj_hooks_cfg hcfg = {.http = http, .journal = journal, .ask = ask};
    hooks = mj_hooks_new(&hcfg);
}

static void close_engine(void)
{
    mj_hooks_drain(hooks, 0);
    mj_http_stop(http);
    mj_hooks_free(hooks);
}

static int setup(void **state)
{
    (void)state;
    mj_log_setup(MJ_LOG_ERROR, false);
    signal(SIGPIPE, SIG_IGN);
    http_start(&server, answer);
    got_count = 0;
    atomic_store(&status, 204);
    *reply_headers = *reply_body = 0;
    reach = mj_reach_new();
    journal = mj_journal_in_memory(64 << 20);
    const struct mj_readers_cfg cfg = {.journal = journal};
    readers = mj_readers_new(&cfg);
    open_engine(NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_engine();
    mj_readers_free(readers);
    mj_journal_close(journal);
    mj_reach_free(reach);
    http_stop(&server);
    set_clock(-1);
    now_us = 0;
    for (size_t i = 0; i < got_count; i++)
        mj_buf_deinit(&got[i].body);
    memset(got, 0, sizeof got);
    return 0;
}

static struct mj_reader *reader_of(const char *node)
{
    struct mj_reader *r;
    MJ_AUTO_BUF error = {0};
    assert_int_equal(mj_reader_get(readers, "t.lua", node, MJ_READER_WEBHOOK, &r, &error), 0);
    return r;
}

static char url[2][128];
static char *local[] = {"127.0.0.1"};

/* A spec for a path of the server; `which` of the two texts it lies in. */
static struct mj_hook_spec spec_of(const char *path, int which)
{
    snprintf(url[which], sizeof url[which], "http://127.0.0.1:%d%s", server.port, path);
    return (struct mj_hook_spec){
        .script = "t.lua",
        .node = "webhook#1",
        .url = url[which],
        .allow = local,
        .allow_count = 1,
        .retry = {.min_us = 5 * S, .max_us = 2 * HOUR, .for_us = 75 * HOUR},
        .max = 1,
        .max_bytes = 1 << 20,
        .concurrency = 4,
        .timeout_us = 10 * S,
    };
}

/* Event i of account d for the readers. */
static void append(int d, int i, struct mj_reader *const *rs, size_t n)
{
    char json[512], did[64];
    snprintf(did, sizeof did, "did:plc:%024d", d);
    int64_t time_us = mj_journal_next_time(journal);
    snprintf(
        json, sizeof json,
        "{\"did\":\"%s\",\"time_us\":%lld,\"kind\":\"commit\",\"commit\":{\"rev\":\"3%012d\","
        "\"operation\":\"create\",\"collection\":\"app.bsky.feed.post\",\"rkey\":\"r%d\","
        "\"record\":{\"$type\":\"app.bsky.feed.post\",\"text\":\"%d/%d\"},\"cid\":\"bafyreie5\"}}",
        did, (long long)time_us, i + 222222, i, d, i);
    struct mj_append entry = {.time_us = time_us,
                              .did_hash = mj_hash(mj_str(did)),
                              .collection = mj_collection_id(MJ_SPAN("app.bsky.feed.post")),
                              .op = 1};
    assert_int_equal(mj_journal_append(journal, &entry, mj_str(json)), 0);
    for (size_t k = 0; k < n; k++)
        assert_int_equal(mj_reader_note(rs[k], &entry, (unsigned)k + 1, i), 0);
}

static void publish(void)
{
    assert_int_equal(mj_journal_publish(journal, -1, 0), 0);
    mj_readers_published(readers);
}

static void send_event(struct mj_reader *r, int d, int i)
{
    append(d, i, &r, 1);
    publish();
}

static void post_sem(void *ctx) { sem_post(ctx); }

/* A round of the net thread. */
static void round_trip(void)
{
    sem_t done;
    sem_init(&done, 0, 0);
    mj_http_run(http, post_sem, &done);
    sem_wait(&done);
    sem_destroy(&done);
}

static int64_t real_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

#define UNTIL(x)                                                                                   \
    do {                                                                                           \
        for (int64_t end = real_s() + 60; !(x); round_trip())                                      \
            if (real_s() > end)                                                                    \
                fail_msg("never: %s", #x);                                                         \
    } while (0)

static struct mj_reader_state state_of(struct mj_reader *r)
{
    struct mj_reader_state s;
    mj_reader_state(r, &s);
    return s;
}

static size_t requests(void)
{
    pthread_mutex_lock(&got_lock);
    size_t n = got_count;
    pthread_mutex_unlock(&got_lock);
    return n;
}

static bool idle(struct mj_reader *r)
{
    struct mj_reader_state s = state_of(r);
    return !s.waiting && !s.in_the_air;
}

/* Lets hours pass, minute by minute or as given, until x. */
#define PASS(step_us, x)                                                                           \
    do {                                                                                           \
        int64_t end_us = now_us + 100 * HOUR;                                                      \
        while (!(x)) {                                                                             \
            if (now_us > end_us)                                                                   \
                fail_msg("never, in a hundred hours: %s", #x);                                     \
            set_clock(now_us + (step_us));                                                         \
            settle();                                                                              \
        }                                                                                          \
    } while (0)

/* Whatever can happen now has happened: nothing is in the air, and a round has found nothing new.
 */
static struct mj_reader *settling;
static void settle(void)
{
    round_trip();
    round_trip();
    UNTIL(!state_of(settling).in_the_air);
    round_trip();
    UNTIL(!state_of(settling).in_the_air);
}

/* ---- what is posted ---- */

static void check_signature(const struct got *g, const char *secret)
{
    struct mj_sign_key *key;
    MJ_AUTO_BUF why = {0};
    assert_int_equal(mj_sign_key_parse(mj_str(secret), &key, &why), 0);
    const struct mj_sign_headers h = {mj_str(g->id), mj_str(g->timestamp), mj_str(g->signature)};
    const struct mj_sign_key *keys[] = {key};
    int64_t now_s = mj_now_us() / S;
    if (mj_sign_verify(keys, 1, &h, mj_buf_span(&g->body), now_s, 300, NULL, &why))
        fail_msg("%s", mj_buf_cstr(&why));
    mj_sign_key_free(key);
}

static void test_request(void **state)
{
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/ok", 0);
    (void)state;
    spec.secrets[0] = SECRET;
    spec.secrets[1] = SECRET2;
    spec.secret_count = 2;
    spec.github_secret = "it's a secret";
    spec.headers = "X-Mine: yes\r\n";
    struct mj_hook *h = mj_hook_open(hooks, r, &spec);
    assert_non_null(h);
    send_event(r, 1, 1);
    UNTIL(state_of(r).delivered == 1);
    const struct got *g = &got[0];
    assert_int_equal(strlen(g->id), MJ_DELIVERY_ID_LEN);
    assert_memory_equal(g->id, "evt_", 4);
    assert_string_equal(g->attempt, "1");
    assert_string_equal(g->replay, "");
    assert_string_equal(g->reader, "t.lua webhook#1");
    assert_string_equal(g->type, "application/json");
    assert_memory_equal(g->agent, "moonjet/", 8);
    assert_int_equal(g->body.ptr[0], '{');
    assert_non_null(memmem(g->body.ptr, g->body.len, "\"text\":\"1/1\"", 12));
    assert_non_null(memmem(g->body.ptr, g->body.len, g->cursor, strlen(g->cursor)));
    assert_non_null(strchr(g->signature, ' '));
    check_signature(g, SECRET);
    check_signature(g, SECRET2);
    char github[MJ_SIGN_GITHUB_LEN + 1];
    assert_int_equal(mj_sign_github(MJ_SPAN("it's a secret"), mj_buf_span(&g->body), github), 0);
    assert_string_equal(g->github, github);
    mj_hook_close(h);
    UNTIL(strcmp(state_of(r).state, "gone") == 0);
}

/* An account's events come one after the other, in order, whatever fails in between. */
static void test_order(void **state)
{
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/x", 0);
    (void)state;
    set_clock(START_US);
    settling = r;
    mj_hook_open(hooks, r, &spec);
    atomic_store(&status, 500);
    for (int i = 0; i < 10; i++)
        for (int d = 0; d < 3; d++)
            append(d, i, &r, 1);
    publish();
    settle();
    atomic_store(&status, 200);
    PASS(60 * S, idle(r));
    int next[3] = {0};
    for (size_t i = 0; i < got_count; i++) {
        int d, n;
        const char *text = memmem(got[i].body.ptr, got[i].body.len, "\"text\":\"", 8);
        assert_int_equal(sscanf(text + 8, "%d/%d", &d, &n), 2);
        /* The one that is due, or once more one that failed. */
        assert_true(n == next[d] || n == next[d] - 1);
        next[d] = n + 1;
    }
    for (int d = 0; d < 3; d++)
        assert_int_equal(next[d], 10);
}

static void test_batches(void **state)
{
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/x", 0);
    (void)state;
    set_clock(START_US);
    settling = r;
    spec.max = 5;
    spec.every_us = S;
    spec.format = MJ_HOOK_BATCH;
    spec.secrets[0] = SECRET;
    spec.secret_count = 1;
    mj_hook_open(hooks, r, &spec);
    for (int i = 0; i < 7; i++)
        append(i, i, &r, 1);
    atomic_store(&status, 503);
    publish();
    UNTIL(requests() == 1);
    settle();
    char first[64];
    snprintf(first, sizeof first, "%s", got[0].id);
    assert_memory_equal(first, "bat_", 4);
    assert_memory_equal(got[0].body.ptr, "{\"type\":\"moonjet.batch\",\"timestamp\":\"2026", 41);
    check_signature(&got[0], SECRET);
    atomic_store(&status, 200);
    PASS(S, idle(r));
    bool again = false;
    for (size_t i = 1; i < got_count; i++)
        again |= strcmp(got[i].id, first) == 0 && got[i].body.len == got[0].body.len &&
                 memcmp(got[i].body.ptr, got[0].body.ptr, got[0].body.len) == 0;
    assert_true(again); /* the same id, and the same body */
    assert_int_equal(state_of(r).delivered, 7);
}

/* The receiver takes a batch but for some of its events. */
static void test_failed_items(void **state)
{
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/x", 0);
    (void)state;
    set_clock(START_US);
    settling = r;
    spec.max = 3;
    spec.format = MJ_HOOK_BATCH;
    atomic_store(&status, 503);
    mj_hook_open(hooks, r, &spec);
    for (int i = 0; i < 3; i++)
        append(i, i, &r, 1);
    publish();
    UNTIL(requests() == 1);
    settle();
    const char *id = memmem(got[0].body.ptr, got[0].body.len, "evt_", 4);
    snprintf(reply_body, sizeof reply_body, "{\"failed\":[\"%.36s\"]}", id);
    atomic_store(&status, 200);
    PASS(S, state_of(r).delivered == 2);
    assert_int_equal(state_of(r).waiting, 1);
    *reply_body = 0;
    PASS(S, idle(r));
    assert_int_equal(state_of(r).delivered, 3);
    const struct got *last = &got[got_count - 1];
    assert_memory_equal(last->id, reply_body[0] ? reply_body : last->id, 4);
    assert_non_null(memmem(last->body.ptr, last->body.len, last->id, strlen(last->id)));
}

/* The ids of a large batch are a large answer. */
static void test_many_failed_items(void **state)
{
    enum { N = 2500 };
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/most", 0);
    (void)state;
    set_clock(START_US);
    settling = r;
    spec.max = N;
    spec.every_us = S;
    spec.max_bytes = 8 << 20;
    spec.format = MJ_HOOK_BATCH;
    mj_hook_open(hooks, r, &spec);
    for (int i = 0; i < N; i++)
        append(i, i, &r, 1);
    publish();
    UNTIL(requests() == 1);
    settle();
    assert_int_equal(state_of(r).delivered, 1);
    PASS(S, idle(r));
    assert_int_equal(state_of(r).delivered, N);
}

/* ---- what receivers do ---- */

static bool check_letter(void *ctx, const struct mj_dead *d)
{
    static const char *const hidden[] = {"tok3n-in-a-path", "b3arer-token",     "Basic", SECRET,
                                         "it's a secret",   "tok3n-in-a-query", "QQQQ"};
    const struct mj_span end = MJ_SPAN("that's all");
    for (size_t i = 0; i < MJ_COUNT(hidden); i++)
        if (memmem(d->excerpt.ptr, d->excerpt.len, hidden[i], strlen(hidden[i])))
            fail_msg("'%s' is in '%.*s'", hidden[i], (int)d->excerpt.len, d->excerpt.ptr);
    assert_non_null(memmem(d->excerpt.ptr, d->excerpt.len, "Cannot POST ***", 15));
    assert_non_null(memmem(d->excerpt.ptr, d->excerpt.len, end.ptr, end.len));
    ++*(int *)ctx;
    return true;
}

/* A receiver that says what it got does not make a dead letter tell it. */
static void test_echo(void **state)
{
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/echo/tok3n-in-a-path?key=tok3n-in-a-query", 0);
    int letters = 0;
    char large[1501], headers[8192];
    (void)state;
    spec.secrets[0] = SECRET;
    spec.secret_count = 1;
    spec.github_secret = "it's a secret";
    /* So large that the third is cut in the middle of what is kept, were it not hidden before. */
    memset(large, 'Q', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    snprintf(headers, sizeof headers,
             "X-A: %s\r\nX-B: %s\r\nX-C: %s\r\n"
             "Authorization: Bearer b3arer-token\r\nProxy-Authorization: Basic abc\r\n"
             "X-Empty: \r\nContent-Type: text/plain\r\n",
             large, large, large);
    spec.headers = headers;
    mj_hook_open(hooks, r, &spec);
    send_event(r, 1, 1);
    UNTIL(state_of(r).dead == 1);
    assert_int_equal(mj_dead_each(readers, NULL, 0, check_letter, &letters), 0);
    assert_int_equal(letters, 1);
    assert_string_equal(got[0].type, "text/plain");
}

/* What the one event came to with a receiver at that path: the reason. */
static void fails_at(const char *path, int64_t timeout_us, const char *reason)
{
    struct mj_reader *r = reader_of(path);
    struct mj_hook_spec spec = spec_of(path, 0);
    char node[32];
    snprintf(node, sizeof node, "%s", path);
    spec.node = node;
    spec.timeout_us = timeout_us;
    spec.retry.tries = 1;
    struct mj_hook *h = mj_hook_open(hooks, r, &spec);
    send_event(r, 1, 1);
    UNTIL(state_of(r).dead == 1);
    struct mj_reader_state s = state_of(r);
    if (!strstr(s.reason, reason))
        fail_msg("%s: '%s' is not '%s'", path, s.reason, reason);
    assert_null(strstr(s.reason, path)); /* it may be a secret */
    assert_int_equal(s.letters, 1);
    mj_hook_close(h);
}

static void test_hostile(void **state)
{
    (void)state;
    fails_at("/hang", 100000, "no answer within 100ms");
    fails_at("/slow", 200000, "no answer within 200ms");
    fails_at("/close", 10 * S, "mpty reply");
    fails_at("/garbage", 10 * S, "HTTP/0.9");
    fails_at("/moved", 10 * S, "redirects (302)");
    for (size_t i = 0; i < got_count; i++)
        assert_string_not_equal(got[i].path, "/ok");
    http_release(&server);
}

static void test_huge_answer(void **state)
{
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/huge", 0);
    (void)state;
    mj_hook_open(hooks, r, &spec);
    send_event(r, 1, 1);
    UNTIL(state_of(r).delivered == 1);
}

/* What a batch's answer names is heard, however long it goes on. */
static void test_long_answer(void **state)
{
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/gossip", 0);
    (void)state;
    spec.max = 3;
    spec.format = MJ_HOOK_BATCH;
    spec.retry.tries = 1;
    mj_hook_open(hooks, r, &spec);
    for (int i = 0; i < 3; i++)
        append(i, i, &r, 1);
    publish();
    UNTIL(state_of(r).dead == 1);
    assert_int_equal(state_of(r).delivered, 2);
}

/* A host that leads to this one is refused, in the clear also one that leads out. */
static void test_unreachable(void **state)
{
    char *other[] = {"10.0.0.0/8"};
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/ok", 0);
    (void)state;
    spec.retry.tries = 1;
    spec.allow = other;
    for (int i = 0; i < 2; i++) {
        if (i)
            snprintf(url[0], sizeof url[0], "https://localhost:%d/ok", server.port);
        struct mj_hook *h = mj_hook_open(hooks, r, &spec);
        assert_non_null(h);
        send_event(r, 1, i);
        UNTIL(state_of(r).dead == (uint64_t)i + 1);
        assert_non_null(strstr(state_of(r).reason, "refused: "));
        assert_non_null(strstr(state_of(r).reason, "a loopback address"));
        mj_hook_close(h);
    }
    assert_int_equal(requests(), 0);
}

static void test_client_errors(void **state)
{
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/x", 0);
    (void)state;
    set_clock(START_US);
    settling = r;
    snprintf(reply_body, sizeof reply_body, "what is that?");
    atomic_store(&status, 422);
    struct mj_hook *h = mj_hook_open(hooks, r, &spec);
    send_event(r, 1, 1);
    UNTIL(state_of(r).dead == 1);
    assert_int_equal(requests(), 1);
    spec.retry_bad = true;
    struct mj_hook *h2 = mj_hook_open(hooks, r, &spec);
    mj_hook_close(h);
    round_trip(); /* it is the other's now */
    send_event(r, 1, 2);
    UNTIL(state_of(r).failed == 2);
    atomic_store(&status, 200);
    PASS(S, idle(r));
    assert_int_equal(state_of(r).delivered, 1);
    mj_hook_close(h2);
}

static void test_retry_after(void **state)
{
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/x", 0);
    (void)state;
    set_clock(START_US);
    settling = r;
    snprintf(reply_headers, sizeof reply_headers, "Retry-After: 3600\r\n");
    atomic_store(&status, 429);
    struct mj_hook *old = mj_hook_open(hooks, r, &spec);
    send_event(r, 1, 1);
    UNTIL(requests() == 1);
    settle();
    atomic_store(&status, 200);
    /* Nobody else's event goes there meanwhile either, nor when the script is loaded anew. */
    for (int i = 0; i < 59; i++) {
        if (i == 30) {
            mj_hook_open(hooks, r, &spec);
            mj_hook_close(old);
        }
        set_clock(now_us + 60 * S);
        send_event(r, 2 + i, i);
        settle();
        assert_int_equal(requests(), 1);
    }
    PASS(60 * S, idle(r));
    assert_int_equal(requests(), 61);
}

static void test_gone(void **state)
{
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/x", 0);
    (void)state;
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    set_clock(START_US);
    settling = r;
    atomic_store(&status, 410);
    mj_hook_open(hooks, r, &spec);
    send_event(r, 1, 1);
    UNTIL(strcmp(state_of(r).state, "disabled") == 0);
    assert_non_null(strstr(state_of(r).reason, "410"));
    size_t before = requests();
    for (int i = 0; i < 10; i++) {
        set_clock(now_us + HOUR);
        send_event(r, 2, i);
        settle();
    }
    assert_int_equal(requests(), before);
    assert_int_equal(state_of(r).waiting, 11);
    atomic_store(&status, 200);
    mj_reader_resume(r);
    PASS(S, idle(r));
    assert_int_equal(state_of(r).delivered, 11);
}

static void test_not_found_for_an_hour(void **state)
{
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/x", 0);
    (void)state;
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    set_clock(START_US);
    settling = r;
    atomic_store(&status, 404);
    mj_hook_open(hooks, r, &spec);
    for (int i = 0; i < 100; i++)
        append(i, 1, &r, 1);
    publish();
    settle();
    PASS(60 * S, strcmp(state_of(r).state, "disabled") == 0);
    assert_in_range(now_us, START_US + HOUR, START_US + 3 * HOUR);
    assert_int_equal(state_of(r).dead, 0);
    assert_true(requests() >= 20);
}

/* ---- outages ---- */

/* Down for three days: a few probes, nothing lost, and everything in order when it is back. */
static void test_three_days(void **state)
{
    enum { DIDS = 20, EACH = 20 };
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/x", 0);
    (void)state;
    set_clock(START_US);
    settling = r;
    atomic_store(&status, 503);
    mj_hook_open(hooks, r, &spec);
    int64_t back = START_US + 72 * HOUR;
    for (int i = 0; i < EACH; i++) {
        for (int d = 0; d < DIDS; d++)
            append(d, i, &r, 1);
        publish();
        settle();
        for (int m = 0; m < 72 * 4 / EACH; m++) {
            set_clock(now_us + 15 * 60 * S);
            settle();
        }
    }
    while (now_us < back) {
        set_clock(now_us + 15 * 60 * S);
        settle();
    }
    size_t down = requests();
    assert_in_range(down, 20, 72 * 60 * 2); /* as the breaker lets through */
    assert_int_equal(state_of(r).dead, 0);
    assert_int_equal(state_of(r).delivered, 0);
    assert_int_equal(state_of(r).in_the_air, 0);
    atomic_store(&status, 200);
    PASS(60 * S, idle(r));
    assert_int_equal(state_of(r).delivered, DIDS * EACH);
    assert_int_equal(got_count, down + DIDS * EACH); /* each once more, and no more */
    int next[DIDS] = {0};
    for (size_t i = down; i < got_count; i++) {
        int d, n;
        const char *text = memmem(got[i].body.ptr, got[i].body.len, "\"text\":\"", 8);
        assert_int_equal(sscanf(text + 8, "%d/%d", &d, &n), 2);
        assert_int_equal(n, next[d]++);
    }
}

/* One hangs, and the other gets all of its events nevertheless. */
static void test_two_endpoints(void **state)
{
    struct mj_reader *rs[2] = {reader_of("dead"), reader_of("well")};
    struct mj_hook_spec spec = spec_of("/hang", 0), other = spec_of("/ok", 1);
    (void)state;
    spec.node = "dead";
    spec.timeout_us = 600 * S;
    other.node = "well";
    mj_hook_open(hooks, rs[0], &spec);
    mj_hook_open(hooks, rs[1], &other);
    for (int i = 0; i < 200; i++)
        append(i, i, rs, 2);
    publish();
    UNTIL(state_of(rs[1]).delivered == 200);
    assert_int_equal(state_of(rs[0]).in_the_air, 4); /* its own concurrency */
    http_release(&server);
}

/* In the air at the end: it goes back, and out again under its id. */
static void test_restart(void **state)
{
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/hang", 0);
    (void)state;
    spec.timeout_us = 600 * S;
    mj_hook_open(hooks, r, &spec);
    send_event(r, 1, 1);
    UNTIL(requests() == 1);
    char id[64];
    snprintf(id, sizeof id, "%s", got[0].id);
    close_engine();
    struct mj_reader_state s = state_of(r);
    assert_int_equal(s.waiting, 1);
    assert_int_equal(s.in_the_air, 0);
    assert_int_equal(s.failed, 0);
    assert_string_equal(s.state, "gone");
    open_engine(NULL);
    spec = spec_of("/ok", 0);
    mj_hook_open(hooks, r, &spec);
    UNTIL(state_of(r).delivered == 1);
    assert_string_equal(got[1].id, id);
    assert_string_equal(got[1].attempt, "1");
    http_release(&server);
}

/* A reload: the new endpoint takes over, the old one ends what it has in the air. */
static void test_takeover(void **state)
{
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/hang", 0), next = spec_of("/ok", 1);
    (void)state;
    spec.timeout_us = 600 * S;
    spec.concurrency = 1;
    struct mj_hook *old = mj_hook_open(hooks, r, &spec);
    send_event(r, 1, 1);
    UNTIL(requests() == 1);
    mj_hook_open(hooks, r, &next);
    mj_hook_close(old);
    send_event(r, 2, 1);
    UNTIL(requests() == 2);
    assert_string_equal(got[1].path, "/ok");
    http_release(&server); /* it closes without an answer: again, by the new one */
    UNTIL(state_of(r).retried >= 1);
}

/* What the old endpoint answers after that is not about the new one. */
static void test_gone_after_takeover(void **state)
{
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/late-410", 0), next = spec_of("/ok", 1);
    (void)state;
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    spec.timeout_us = 600 * S;
    struct mj_hook *old = mj_hook_open(hooks, r, &spec);
    send_event(r, 1, 1);
    UNTIL(requests() == 1);
    mj_hook_open(hooks, r, &next);
    mj_hook_close(old);
    round_trip();
    http_release(&server);
    UNTIL(state_of(r).failed == 1);
    assert_string_not_equal(state_of(r).state, "disabled");
    UNTIL(state_of(r).delivered == 1);
    assert_string_equal(got[1].path, "/ok");
}

static void look_at_view(void *ctx) { *(uint64_t *)ctx = hooks->view.end; }

/* Nobody has anything to post, and still the net thread does not hold what the journal has dropped.
 */
static void test_holds_nothing(void **state)
{
    uint64_t seen = 0;
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/ok", 0);
    (void)state;
    mj_hook_open(hooks, r, &spec);
    send_event(r, 1, 1);
    UNTIL(state_of(r).delivered == 1);
    round_trip();
    round_trip(); /* one to begin, one to be done with */
    append(1, 2, NULL, 0);
    publish();
    round_trip();
    round_trip();
    struct mj_journal_window w;
    mj_journal_window(journal, &w);
    mj_http_run(http, look_at_view, &seen);
    round_trip();
    assert_int_equal(seen, w.end);
}

/* ---- formats ---- */

static _Atomic int asks;

static void on_ask(void *ctx, struct mj_hook_ask *ask)
{
    struct mj_hook_question q;
    struct mj_formatted f = {.what = MJ_FORMATTED};
    (void)ctx;
    mj_hook_question(ask, &q);
    assert_int_equal(q.function, 77);
    assert_int_equal(q.n, 1);
    int n = atomic_fetch_add(&asks, 1);
    if (n == 0) {
        mj_buf_puts(&f.body, "hello");
        mj_buf_puts(&f.type, "text/plain");
    } else if (n == 1) {
        f.what = MJ_FORMAT_NONE;
    } else {
        f.what = MJ_FORMAT_FAILED;
        mj_buf_puts(&f.error, "t.lua:5: oh");
    }
    mj_hook_answer(ask, &f);
}

static void test_format(void **state)
{
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/ok", 0);
    (void)state;
    close_engine();
    open_engine(on_ask);
    atomic_store(&asks, 0);
    spec.format = MJ_HOOK_FUNCTION;
    spec.function = 77;
    mj_hook_open(hooks, r, &spec);
    for (int i = 0; i < 3; i++) {
        send_event(r, 1, i);
        UNTIL(idle(r));
    }
    assert_int_equal(requests(), 1);
    assert_string_equal(got[0].type, "text/plain");
    assert_true(mj_span_is(mj_buf_span(&got[0].body), "hello"));
    struct mj_reader_state s = state_of(r);
    assert_int_equal(s.delivered, 2);
    assert_int_equal(s.dead, 1);
    assert_non_null(strstr(s.reason, "t.lua:5: oh"));
}

/* A dead letter once more: as a replay, under its id. */
static void test_replay(void **state)
{
    struct mj_reader *r = reader_of("webhook#1");
    struct mj_hook_spec spec = spec_of("/x", 0);
    (void)state;
    atomic_store(&status, 400);
    mj_hook_open(hooks, r, &spec);
    send_event(r, 1, 1);
    UNTIL(state_of(r).letters == 1);
    atomic_store(&status, 200);
    assert_int_equal(mj_dead_retry(readers, 1), 0);
    UNTIL(state_of(r).letters == 0);
    assert_int_equal(requests(), 2);
    assert_string_equal(got[1].id, got[0].id);
    assert_string_equal(got[1].replay, "true");
    assert_string_equal(got[1].attempt, "2");
}

static void test_checks(void **state)
{
    static const struct {
        const char *url, *secret, *allow, *headers, *says;
    } table[] = {
        {"https://x.example/", SECRET, NULL, NULL, NULL},
        {"https://x.example/", NULL, "10.0.0.0/8", "Authorization: Bearer x\r\n", NULL},
        {"https://x.example/", "whsec_c2hvcnQ=", NULL, NULL, ""},
        {"https://x.example/", "my secret", NULL, NULL, ""},
        {"https://x.example/", NULL, "10.0.0.0/99", NULL, "no host, address or prefix"},
        {"https://x.example:99999/", NULL, NULL, NULL, "not a URL"},
        {"http://x.example/", NULL, NULL, NULL, "allow = "},
        {"https://a@x.example/", NULL, NULL, NULL, "user name"},
        {"https://x.example/", NULL, NULL, "webhook-id: 5\r\n", "set by Moonjet"},
        {"https://x.example/", NULL, NULL, "Content-Length: 5\r\n", "set by Moonjet"},
        {"https://x.example/", NULL, NULL, "Host: y.example\r\n", "set by Moonjet"},
        {"https://x.example/", NULL, NULL, "a b: 5\r\n", "a header's name"},
    };
    (void)state;
    for (size_t i = 0; i < MJ_COUNT(table); i++) {
        MJ_AUTO_BUF error = {0};
        char *allow[] = {(char *)(uintptr_t)table[i].allow};
        struct mj_hook_spec spec = spec_of("", 0);
        spec.url = (char *)(uintptr_t)table[i].url;
        spec.secrets[0] = (char *)(uintptr_t)table[i].secret;
        spec.secret_count = table[i].secret != NULL;
        spec.allow = allow;
        spec.allow_count = table[i].allow != NULL;
        spec.headers = (char *)(uintptr_t)table[i].headers;
        int err = mj_hook_check(&spec, &error);
        if ((err == 0) != (table[i].says == NULL))
            fail_msg("%s: %s", table[i].url, mj_buf_cstr(&error));
        if (table[i].says && !strstr(mj_buf_cstr(&error), table[i].says))
            fail_msg("%s: '%s' is not '%s'", table[i].url, mj_buf_cstr(&error), table[i].says);
        if (table[i].secret)
            assert_null(strstr(mj_buf_cstr(&error), table[i].secret));
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(request),
        TEST(order),
        TEST(batches),
        TEST(failed_items),
        TEST(many_failed_items),
        TEST(echo),
        TEST(hostile),
        TEST(huge_answer),
        TEST(long_answer),
        TEST(unreachable),
        TEST(client_errors),
        TEST(retry_after),
        TEST(gone),
        TEST(not_found_for_an_hour),
        TEST(three_days),
        TEST(two_endpoints),
        TEST(restart),
        TEST(takeover),
        TEST(gone_after_takeover),
        TEST(holds_nothing),
        TEST(format),
        TEST(replay),
        TEST(checks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
