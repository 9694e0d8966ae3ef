/* The server as its clients see it: endpoints, parameters and their errors, filters, cursors,
 * options_update, streams, closing (spec/jetstream-v1.md §14, by number). */
#include "cmocka_all.h"

#include "base/err.h"
#include "support/jetserver.h"

static struct jetserver jet;

static int setup(void **state)
{
    (void)state;
    jet_start(&jet, (struct mj_server_cfg){0}, 64 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    jet_stop(&jet);
    return 0;
}

static void publish(const char *did, const char *collection)
{
    jet_append(&jet, did, collection, 1, 0);
    jet_publish(&jet);
}

#define POST   "app.bsky.feed.post"
#define LIKE   "app.bsky.feed.like"
#define FOLLOW "app.bsky.graph.follow"
#define A      "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
#define B      "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"

static void live(void **state)
{
    (void)state;
    publish(A, POST); /* before anybody listens: not for live subscribers */
    struct wsclient *c = jet_connect(&jet, "/subscribe");
    publish(A, POST);
    publish(B, "");
    jet_append(&jet, A, LIKE, 1, 0);
    jet_append(&jet, A, LIKE, 1, 70000); /* larger than one write */
    jet_append(&jet, A, LIKE, 1, 200);
    jet_publish(&jet);
    for (uint64_t n = 2; n <= 6; n++)
        assert_int_equal(jet_read(c), n);
    ws_free(c);
}

static void handshake_head(void **state)
{
    (void)state;
    struct wsclient *c = ws_request(
        mj_server_port(jet.server),
        "GET /subscribe HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n"
        "Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nOrigin: https://anywhere.example\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
        "Sec-WebSocket-Protocol: chat\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    assert_int_equal(c->status, 101);
    struct mj_http_head h;
    assert_true(mj_http_parse_response(mj_buf_span(&c->head), &h) > 0);
    assert_true(
        mj_span_is(mj_http_header(&h, "Sec-WebSocket-Accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_null(mj_http_header(&h, "Sec-WebSocket-Extensions").ptr);
    assert_null(mj_http_header(&h, "Sec-WebSocket-Protocol").ptr);
    ws_free(c);
}

struct http_case {
    const char *request; /* first line and headers, without the blank line */
    int status;
    const char *body, *type;
    const char *header; /* one that must be there, or NULL */
};

static void http(int port, const struct http_case *t)
{
    MJ_AUTO_BUF b = {0};
    mj_buf_printf(&b, "%s\r\n\r\n", t->request);
    struct wsclient *c = ws_request(port, mj_buf_cstr(&b));
    struct mj_http_head h;
    int size = mj_http_parse_response(mj_buf_span(&c->head), &h);
    assert_true(size > 0);
    if (c->status != t->status)
        print_error("%s\n", t->request);
    assert_int_equal(c->status, t->status);
    struct mj_span body = mj_span(c->head.ptr + size, c->head.len - (size_t)size);
    if (t->body && !mj_span_is(body, t->body))
        print_error("got:  \"%.*s\"\nwant: \"%s\"\n", (int)body.len, (char *)body.ptr, t->body);
    assert_true(!t->body || mj_span_is(body, t->body));
    assert_true(!t->type || mj_span_is(mj_http_header(&h, "Content-Type"), t->type));
    if (t->header) {
        const char *value = strchr(t->header, ' ') + 1;
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(value - t->header - 2), t->header);
        assert_true(mj_span_is(mj_http_header(&h, name), value));
    }
    ws_free(c);
}

#define GET(target) "GET " target " HTTP/1.1\r\nHost: x"
#define PLAIN       "text/plain; charset=UTF-8"
#define BAD         "invalid subscriber options"

static void answers(void **state)
{
    (void)state;
    static const struct http_case cases[] = {
        {GET("/"), 200, "Welcome to Jetstream", PLAIN, "Access-Control-Allow-Origin: *"},
        {GET("/nowhere"), 404, "{\"message\":\"Not Found\"}", NULL, "Vary: Origin"},
        {GET("/subscribe/"), 404, "{\"message\":\"Not Found\"}", NULL, NULL},
        {GET("/stream//subscribe"), 404, NULL, NULL, NULL},
        {GET("/stream/nope/subscribe"), 404,
         "{\"message\":\"no stream is named \\\"nope\\\"; there are: main\"}", NULL, NULL},
        {"POST /subscribe HTTP/1.1\r\nHost: x", 405, "{\"message\":\"Method Not Allowed\"}", NULL,
         "Allow: OPTIONS, GET"},
        {"DELETE / HTTP/1.1\r\nHost: x", 405, NULL, NULL, "Allow: OPTIONS, GET"},
        {"HEAD / HTTP/1.1\r\nHost: x", 405, "", NULL, NULL},
        {"OPTIONS /subscribe HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example", 204, "", NULL,
         "Access-Control-Allow-Methods: GET,HEAD,OPTIONS"},
        /* 67 */
        {GET("/subscribe"), 400, "Bad Request\n", NULL, "Sec-Websocket-Version: 13"},
        {GET("/subscribe") "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                           "Sec-WebSocket-Version: 12\r\n"
                           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
         400, "Bad Request\n", NULL, NULL},
        {GET("/subscribe") "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short",
         400, "Bad Request\n", NULL, NULL},
        {GET("/subscribe?cursor=abc"), 400, "invalid cursor: abc", PLAIN, NULL}, /* 40 */
        {GET("/subscribe?cursor=1.5"), 400, "invalid cursor: 1.5", PLAIN, NULL},
        {GET("/subscribe?cursor=1e6"), 400, "invalid cursor: 1e6", PLAIN, NULL},
        {GET("/subscribe?cursor=9223372036854775808"), 400, "invalid cursor: 9223372036854775808",
         PLAIN, NULL},
        {GET("/subscribe?cursor=x%20%26y"), 400, "invalid cursor: x &y", PLAIN, NULL},
        {GET("/subscribe?cursor="), 400, "Bad Request\n", NULL, NULL}, /* valid: 39 */
        /* The cursor is looked at before the filters. */
        {GET("/subscribe?wantedCollections=bad&cursor=q"), 400, "invalid cursor: q", PLAIN, NULL},
        {GET("/subscribe?wantedCollections=app.bsky.graph.fo*"), 400,
         BAD ": invalid collection: app.bsky.graph.fo*", PLAIN, NULL}, /* 32 */
        {GET("/subscribe?wantedCollections=app.bsky.feed.post,app.bsky.feed.like"), 400,
         BAD ": invalid collection: app.bsky.feed.post,app.bsky.feed.like", PLAIN, NULL}, /* 33 */
        {GET("/subscribe?wantedCollections="), 400, BAD ": invalid collection: ", PLAIN, NULL},
        {GET("/subscribe?wantedCollections=*"), 400, BAD ": invalid collection: *", PLAIN, NULL},
        {GET("/subscribe?wantedCollections=app.bsky"), 400, BAD ": invalid collection: app.bsky",
         PLAIN, NULL},
        /* Accepted, so that the answer is about the missing upgrade. */
        {GET("/subscribe?wantedCollections=app.*&wantedCollections=.*"
             "&wantedCollections=a.b.c,app.bsky.*"),
         400, "Bad Request\n", NULL, NULL},
        {GET("/subscribe?wantedDids=alice.bsky.social"), 400, BAD, PLAIN, NULL}, /* 37 */
        {GET("/subscribe?wantedDids="), 400, BAD, PLAIN, NULL},
        {GET("/subscribe?wantedDids=did:web:a_b.example&maxMessageSizeBytes=x&requireHello=1"), 400,
         "Bad Request\n", NULL, NULL}, /* 52, 64, 71 */
        /* 72: unknown and malformed parameters are as if not there. */
        {GET("/subscribe?cursor=%zz&wantedDids=x;y&foo=bar&&=&%&cursor"), 400, "Bad Request\n",
         NULL, NULL},
        {GET("/subscribe?cursor=%zz&cursor=abc"), 400, "invalid cursor: abc", PLAIN, NULL},
        {GET("/subscribe?cursor=7&cursor=abc"), 400, "Bad Request\n", NULL, NULL},
        /* Our own. */
        {GET("/subscribe?kinds=commit&kinds=sync"), 400,
         BAD ": unknown kind: sync; there are commit, identity and account", PLAIN, NULL},
        {GET("/subscribe?operations=create,update"), 400,
         BAD ": unknown operation: create,update; there are create, update and delete", PLAIN,
         NULL},
        {GET("/subscribe?heartbeat=0s"), 400,
         BAD ": invalid heartbeat: 0s; it is 1s to 1h, such as 30s or 5m", PLAIN, NULL},
        {GET("/subscribe?heartbeat=2h"), 400, NULL, PLAIN, NULL},
        {GET("/subscribe?heartbeat="), 400, NULL, PLAIN, NULL},
        {GET("/subscribe?heartbeat=30"), 400, NULL, PLAIN, NULL},
        {GET("/subscribe?kinds=commit&kinds=account&operations=delete&info=1&heartbeat=1h"), 400,
         "Bad Request\n", NULL, NULL},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++)
        http(mj_server_port(jet.server), &cases[i]);
    struct wsclient *c = ws_connect(mj_server_port(jet.server), "/subscribe?compress=true");
    assert_int_equal(c->status, 400);
    assert_non_null(strstr(mj_buf_cstr(&c->head), "moonjet dictionary install FILE"));
    ws_free(c);
    c = jet_connect(&jet, "/subscribe?compress=1"); /* 49 */
    publish(A, POST);
    assert_int_equal(jet_read(c), jet.n);
    ws_free(c);
}

static void metrics_and_health(void **state)
{
    (void)state;
    struct wsclient *c = jet_connect(&jet, "/subscribe");
    publish(A, POST);
    jet_read(c);
    MJ_AUTO_BUF text = {0};
    jet_metrics(&jet, "/metrics", &text);
    static const char *const names[] = {
        "jetstream_subscribers_connected{ip_address=\"127.0.0.1\"}",
        "jetstream_events_delivered_total{ip_address=\"127.0.0.1\"}",
        "jetstream_bytes_delivered_total{ip_address=\"127.0.0.1\"}",
        "jetstream_events_emitted_total",
        "jetstream_bytes_emitted_total",
        "moonjet_subscribers_ended_total{reason=\"overtaken\"}",
        "moonjet_writes_total"};
    for (size_t i = 0; i < MJ_COUNT(names); i++) /* 69 */
        assert_non_null(strstr(mj_buf_cstr(&text), names[i]));
    assert_int_equal(jet_metric(&jet, "moonjet_subscribers"), 1);
    MJ_AUTO_BUF health = {0};
    jet_metrics(&jet, "/_health", &health);
    assert_non_null(strstr(mj_buf_cstr(&health), "{\"status\":\"ok\""));
    assert_non_null(strstr(mj_buf_cstr(&health), "\"subscribers\":1,"));
    assert_non_null(strstr(mj_buf_cstr(&health), "\"last_event_age_seconds\":0."));
    static const struct http_case other[] = {
        {GET("/"), 404, "{\"message\":\"Not Found\"}", NULL, NULL},
        {"POST /metrics HTTP/1.1\r\nHost: x", 405, NULL, NULL, NULL}};
    for (size_t i = 0; i < MJ_COUNT(other); i++)
        http(mj_server_metrics_port(jet.server), &other[i]);
    ws_free(c);
    jet_await(&jet, "moonjet_subscribers", 0);
}

/* Reads up to the answer of a ping, which comes behind everything sent before it and after
 * everything the client sent before. `event` is called for each event, or none may come. */
static void read_to_pong(struct wsclient *c, void (*event)(void *ctx, uint64_t n), void *ctx)
{
    struct mj_ws_msg m;
    ws_send(c, MJ_WS_PING, "end", 3);
    for (;;) {
        assert_true(ws_read(c, &m));
        if (m.op == MJ_WS_PONG)
            return;
        assert_int_equal(m.op, MJ_WS_TEXT);
        assert_non_null(event);
        event(ctx, jet_number(m.payload));
    }
}

struct seen {
    uint64_t first;
    unsigned bits;
};

static void see(void *ctx, uint64_t n)
{
    struct seen *s = ctx;
    assert_in_range(n, s->first, s->first + 5);
    s->bits |= 1u << (n - s->first);
}

/* Publishes one of each kind; which of the six the subscriber gets, as bits. */
static unsigned which(struct wsclient *c)
{
    read_to_pong(c, NULL, NULL); /* the update sent before has been read */
    struct seen s = {.first = jet.n + 1};
    jet_append(&jet, A, POST, 1, 300);
    jet_append(&jet, B, POST, 1, 400);
    jet_append(&jet, A, LIKE, 1, 500);
    jet_append(&jet, B, FOLLOW, 1, 300);
    jet_append(&jet, A, "", 1, 0);
    jet_append(&jet, B, "", 1, 0);
    jet_publish(&jet);
    /* Sent or filtered out, all of them have been looked at once this shows. */
    jet_await(&jet, "moonjet_live_seq", (int64_t)jet.n);
    read_to_pong(c, see, &s);
    return s.bits;
}

static void filters(void **state)
{
    (void)state;
    static const struct {
        const char *query;
        unsigned want; /* A post, B post, A like, B follow, A account, B account: bits 0…5 */
    } cases[] = {
        {"", 0x3f},
        {"?wantedCollections=app.bsky.feed.post", 0x33}, /* 30 */
        {"?wantedCollections=app.bsky.feed.*", 0x37},    /* 31 */
        {"?wantedCollections=app.bsky.graph.*&wantedCollections=app.bsky.feed.like", 0x3c},
        {"?wantedCollections=app.bsky.feed.pos.*", 0x30},
        {"?wantedCollections=.*", 0x30},
        {"?wantedCollections=App.bsky.feed.post", 0x30}, /* case matters */
        {"?wantedDids=" A, 0x15},                        /* 36 */
        {"?wantedDids=" A "&wantedCollections=app.bsky.feed.post", 0x11},
        {"?wantedDids=did:web:a_b.example", 0},
        {"?wantedDids=" A "&wantedDids=" B, 0x3f},
        {"?maxMessageSizeBytes=300", 0x39}, /* 53 */
        {"?maxMessageSizeBytes=299", 0x30},
        {"?maxMessageSizeBytes=0", 0x3f}, /* 52 */
        {"?maxMessageSizeBytes=-1", 0x3f},
        {"?maxMessageSizeBytes=", 0x3f},
        {"?maxMessageSizeBytes=x", 0x3f},
        {"?maxMessageSizeBytes=4294967297", 0x3f}, /* 54 */
        {"?wantedCollections=app.bsky.feed.%70ost", 0x33},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        char target[300];
        snprintf(target, sizeof target, "/subscribe%s", cases[i].query);
        struct wsclient *c = jet_connect(&jet, target);
        unsigned got = which(c);
        if (got != cases[i].want)
            print_error("%s: got %x, want %x\n", cases[i].query, got, cases[i].want);
        assert_int_equal(got, cases[i].want);
        ws_free(c);
    }
}

static void update(struct wsclient *c, const char *text)
{
    ws_send(c, MJ_WS_TEXT, text, strlen(text));
}

#define UPDATE(payload) "{\"type\":\"options_update\",\"payload\":" payload "}"

static void options_update(void **state)
{
    (void)state;
    struct wsclient *c = jet_connect(&jet, "/subscribe?wantedDids=" A "&maxMessageSizeBytes=300");
    assert_int_equal(which(c), 0x11);
    /* 59: none of these changes anything. */
    update(c, "{\"type\":\"other\",\"payload\":{\"wantedDids\":[\"" B "\"]}}");
    update(c, "null");
    update(c, "{}");
    ws_send(c, MJ_WS_BINARY, "not json", 8);
    assert_int_equal(which(c), 0x11);
    update(c, UPDATE("{\"wantedCollections\":[\"app.bsky.feed.*\"]}")); /* 55: DIDs off, size off */
    assert_int_equal(which(c), 0x37);
    update(c, UPDATE("{\"WANTEDDIDS\":[\"" B "\"],\"wantedCollections\":null,\"x\":[1,{}]}"));
    assert_int_equal(which(c), 0x2a);
    update(c, UPDATE("{\"wantedDids\":[\"" B "\"],\"wantedDids\":[\"" A "\"]}")); /* last wins */
    assert_int_equal(which(c), 0x15);
    update(c, UPDATE("{\"maxMessageSizeBytes\":300}")); /* 56: applied */
    assert_int_equal(which(c), 0x39);
    update(c, UPDATE("null")); /* 60 */
    assert_int_equal(which(c), 0x3f);
    update(c, " " UPDATE("{\"wantedCollections\":[\"app.bsky.feed.p\\u006fst\"]}") "\n");
    assert_int_equal(which(c), 0x33);
    ws_free(c);
}

static void bad_updates(void **state)
{
    (void)state;
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"hello", "failed to unmarshal subscriber sourced message: not JSON"},
        {"{\"type\":\"options_update\"} x", "failed to unmarshal subscriber sourced message: "},
        {"[]", "failed to unmarshal subscriber sourced message: "},
        {"{\"type\":5}", "failed to unmarshal subscriber sourced message: "},
        {"{\"type\":\"options_update\"}", "failed to unmarshal subscriber options update: "},
        {UPDATE("[]"), "failed to unmarshal subscriber options update: "},
        {UPDATE("{\"wantedDids\":\"x\"}"), "failed to unmarshal subscriber options update: "},
        {UPDATE("{\"wantedDids\":[1]}"), "failed to unmarshal subscriber options update: "},
        {UPDATE("{\"maxMessageSizeBytes\":1e3}"),
         "failed to unmarshal subscriber options update: "},
        {UPDATE("{\"maxMessageSizeBytes\":1.0}"),
         "failed to unmarshal subscriber options update: "},
        {UPDATE("{\"maxMessageSizeBytes\":\"9\"}"),
         "failed to unmarshal subscriber options update: "},
        {UPDATE("{\"wantedCollections\":[\"bad\"],\"maxMessageSizeBytes\":\"9\"}"),
         "failed to unmarshal subscriber options update: "},
        {UPDATE("{\"wantedCollections\":[\"bad\"]}"),
         "failed to parse subscriber options: invalid subscriber options: invalid collection: bad"},
        {UPDATE("{\"wantedDids\":[\"alice.example\"]}"),
         "failed to parse subscriber options: invalid subscriber options"},
    };
    int64_t before = jet_metric(&jet, "moonjet_subscribers_ended_total{reason=\"bad_message\"}");
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        struct wsclient *c =
            jet_connect(&jet, i % 2 ? "/subscribe?requireHello=true" : "/subscribe");
        update(c, cases[i].text);
        char reason[128];
        assert_int_equal(jet_read_close(c, reason), 1000); /* 57, 58, 60 */
        if (strncmp(reason, cases[i].reason, strlen(cases[i].reason)))
            print_error("%s: \"%s\"\n", cases[i].text, reason);
        assert_int_equal(strncmp(reason, cases[i].reason, strlen(cases[i].reason)), 0);
        ws_free(c);
    }
    jet_await(&jet, "moonjet_subscribers_ended_total{reason=\"bad_message\"}",
              before + (int64_t)MJ_COUNT(cases));
}

static void hello(void **state)
{
    (void)state;
    struct wsclient *c = jet_connect(&jet, "/subscribe?requireHello=true&wantedDids=" B);
    publish(B, POST);
    update(c, "{\"type\":\"other\"}"); /* 61: does not release */
    publish(B, POST);
    jet_await(&jet, "moonjet_live_seq", (int64_t)jet.n);
    update(c, UPDATE("{}"));
    read_to_pong(c, NULL, NULL); /* 63: what came before is not flushed */
    publish(A, LIKE);
    assert_int_equal(jet_read(c), jet.n);
    ws_free(c);
    /* 62: with a cursor the replay starts after the hello, under its filters. As the clients of
     * @atcute/jetstream do it. */
    c = jet_connect(&jet,
                    "/subscribe?requireHello=true&cursor=0&wantedDids=did:web:nobody.example");
    update(c, UPDATE("{\"wantedCollections\":[\"app.bsky.feed.post\"]}"));
    assert_int_equal(jet_read(c), 1);
    assert_int_equal(jet_read(c), 2);
    publish(A, POST);
    assert_int_equal(jet_read(c), jet.n);
    ws_free(c);
}

static void cursors(void **state)
{
    (void)state;
    int64_t times[6];
    for (int i = 1; i <= 5; i++) {
        publish(A, POST);
        times[i] = jet.time_us;
        usleep(2000); /* so that milliseconds differ */
    }
    struct {
        char value[32];
        int first; /* 0: live */
    } cases[32];
    size_t n = 0;
#define CASE(want, ...)                                                                            \
    do {                                                                                           \
        cases[n].first = (want);                                                                   \
        snprintf(cases[n++].value, sizeof cases[0].value, __VA_ARGS__);                            \
    } while (0)
    CASE(0, "%s", "");
    CASE(3, "%lld", (long long)times[3]); /* 41 */
    CASE(4, "%lld", (long long)times[3] + 1);
    CASE(3, "%%2B%lld", (long long)times[3]);
    CASE(0, "%lld", (long long)times[5] + INT64_C(3600000000)); /* 42 */
    CASE(0, "%lld", (long long)times[3] * 1000);                /* nanoseconds are the far future */
    CASE(1, "0");                                               /* 43 */
    CASE(1, "-1");
    CASE(1, "-9223372036854775808");
    CASE(1, "1577836800000000");
    CASE(1, "1577836800"); /* 44 */
    CASE(1, "1");
    CASE(1, "5");
    CASE(1, "99");
    CASE(3, "%lld", (long long)times[2] / 1000 + 1); /* milliseconds */
    CASE(0, "newest+1"); /* 45: nothing is newer, yet it is not the future */
    for (size_t i = 0; i < n; i++) {
        char target[80];
        if (strcmp(cases[i].value, "newest+1") == 0)
            snprintf(cases[i].value, sizeof cases[i].value, "%lld", (long long)jet.time_us + 1);
        snprintf(target, sizeof target, "/subscribe?cursor=%.31s", cases[i].value);
        struct wsclient *c = jet_connect(&jet, target);
        if (cases[i].first) {
            for (uint64_t k = (uint64_t)cases[i].first; k <= jet.n; k++)
                assert_int_equal(jet_read(c), k);
        }
        publish(A, POST);
        uint64_t got = jet_read(c);
        if (got != jet.n)
            print_error("cursor=%s: got %llu\n", cases[i].value, (unsigned long long)got);
        assert_int_equal(got, jet.n);
        ws_free(c);
    }
}

static void streams(void **state)
{
    (void)state;
    int bit = mj_streams_add(jet.streams, MJ_SPAN("lua"));
    struct wsclient *mine = jet_connect(&jet, "/stream/lua/subscribe");
    struct wsclient *explicit = jet_connect(&jet, "/stream/main/subscribe");
    struct wsclient *main_only = jet_connect(&jet, "/subscribe");
    jet_append(&jet, A, POST, 1, 0);
    jet_append(&jet, A, POST, UINT64_C(1) << bit, 0);
    jet_append(&jet, A, POST, 1 | UINT64_C(1) << bit, 0);
    jet_publish(&jet);
    assert_int_equal(jet_read(mine), 2);
    assert_int_equal(jet_read(mine), 3);
    assert_int_equal(jet_read(explicit), 1);
    assert_int_equal(jet_read(explicit), 3);
    assert_int_equal(jet_read(main_only), 1);
    assert_int_equal(jet_read(main_only), 3);
    ws_free(mine);
    ws_free(explicit);
    ws_free(main_only);
}

static void query_limits(void **state)
{
    (void)state;
    /* 34, 35: 100 pass and 101 do not; equal names count once, equal prefixes every time. */
    static const struct {
        int names, equal_names, prefixes;
        int status;
    } cases[] = {{100, 0, 0, 101}, {101, 0, 0, 400},   {0, 101, 0, 101},  {0, 0, 100, 101},
                 {0, 0, 101, 400}, {50, 100, 50, 400}, {49, 100, 50, 101}};
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        MJ_AUTO_BUF t = {0};
        mj_buf_puts(&t, "/subscribe?");
        for (int k = 0; k < cases[i].names; k++)
            mj_buf_printf(&t, "wantedCollections=com.example.c%d&", k);
        for (int k = 0; k < cases[i].equal_names; k++)
            mj_buf_puts(&t, "wantedCollections=app.bsky.feed.post&");
        for (int k = 0; k < cases[i].prefixes; k++)
            mj_buf_puts(&t, "wantedCollections=app.bsky.*&");
        struct wsclient *c = ws_connect(mj_server_port(jet.server), mj_buf_cstr(&t));
        assert_int_equal(c->status, cases[i].status);
        if (c->status == 400)
            assert_non_null(
                strstr(mj_buf_cstr(&c->head),
                       "\r\n\r\ninvalid subscriber options: too many wanted collections"));
        ws_free(c);
    }
    /* 38, by the query: 10,000 DIDs (twice, they count once), and one more. */
    for (int more = 0; more <= 1; more++) {
        MJ_AUTO_BUF t = {0};
        mj_buf_puts(&t, "/subscribe?wantedCollections=app.bsky.feed.*");
        for (int k = 0; k < 10000 + more; k++)
            mj_buf_printf(&t, "&wantedDids=did:plc:%024d", k);
        for (int k = 0; k < 1000; k++)
            mj_buf_printf(&t, "&wantedDids=did:plc:%024d", k);
        struct wsclient *c = ws_connect(mj_server_port(jet.server), mj_buf_cstr(&t));
        assert_int_equal(c->status, more ? 400 : 101);
        if (more) {
            assert_non_null(strstr(mj_buf_cstr(&c->head),
                                   "\r\n\r\ninvalid subscriber options: too many wanted DIDs"));
        } else {
            char did[64];
            for (int k = 9998; k <= 10001; k++) {
                snprintf(did, sizeof did, "did:plc:%024d", k);
                publish(did, POST);
            }
            assert_int_equal(jet_read(c), 1);
            assert_int_equal(jet_read(c), 2);
        }
        ws_free(c);
    }
}

/* Sends a text message in frames of up to 64 KiB, as large as wanted. */
static void send_large(struct wsclient *c, const struct mj_buf *text)
{
    const uint8_t mask[4] = {9, 8, 7, 6};
    MJ_AUTO_BUF frame = {0};
    for (size_t at = 0; at < text->len;) {
        size_t n = text->len - at < 65535 ? text->len - at : 65535;
        mj_buf_reserve(&frame, n + MJ_WS_HEAD_MAX);
        size_t h = mj_ws_head_masked(frame.ptr, at ? MJ_WS_CONT : MJ_WS_TEXT, n, mask);
        if (at + n < text->len)
            frame.ptr[0] &= 0x7f;
        memcpy(frame.ptr + h, text->ptr + at, n);
        mj_ws_mask(frame.ptr + h, n, mask, 0);
        tcp_send(c->fd, frame.ptr, h + n);
        at += n;
    }
}

static void large_messages(void **state)
{
    (void)state;
    struct wsclient *c = jet_connect(&jet, "/subscribe");
    for (int more = 0; more <= 1; more++) {
        MJ_AUTO_BUF b = {0};
        mj_buf_puts(&b, "{\"type\":\"options_update\",\"payload\":{\"wantedDids\":[");
        for (int k = 0; k < 10000 + more; k++)
            mj_buf_printf(&b, "%s\"did:plc:%024d\"", k ? "," : "", k);
        mj_buf_puts(&b, "]}}");
        send_large(c, &b); /* 38 */
        if (more) {
            char reason[128];
            assert_int_equal(jet_read_close(c, reason), 1000);
            assert_string_equal(reason, "failed to parse subscriber options: invalid subscriber "
                                        "options: too many wanted DIDs");
            break;
        }
        read_to_pong(c, NULL, NULL);
        publish(A, POST);
        publish("did:plc:000000000000000000009999", POST);
        assert_int_equal(jet_read(c), jet.n);
        /* 59: above 10 MB it is read, ignored, and the subscriber stays as it is. */
        b.len = 0;
        mj_buf_puts(&b, "not even json ");
        while (b.len <= 10000000)
            mj_buf_puts(&b, "padding padding padding padding padding padding padding padding ");
        send_large(c, &b);
        publish("did:plc:000000000000000000009999", POST);
        assert_int_equal(jet_read(c), jet.n);
    }
    ws_free(c);
}

static void client_close_is_echoed(void **state)
{
    (void)state;
    struct wsclient *c = jet_connect(&jet, "/subscribe");
    ws_send(c, MJ_WS_CLOSE, "\x0f\xa1why", 5); /* 4001 */
    assert_int_equal(jet_read_close(c, NULL), 4001);
    ws_free(c);
    jet_await(&jet, "moonjet_subscribers", 0);
}

static void stop_says_goodbye(void **state)
{
    (void)state;
    struct jetserver j;
    jet_start(&j, (struct mj_server_cfg){0}, 1 << 20);
    struct wsclient *c[3];
    for (int i = 0; i < 3; i++)
        c[i] = jet_connect(&j, i == 1 ? "/subscribe?requireHello=true" : "/subscribe");
    jet_await(&j, "moonjet_subscribers", 3);
    jet_append(&j, A, POST, 1, 0);
    jet_publish(&j);
    int64_t start = mj_mono_us();
    jet_stop(&j); /* nobody answers its close frames */
    assert_true(mj_mono_us() - start < 4000000);
    for (int i = 0; i < 3; i++) {
        char reason[128];
        if (i != 1)
            assert_int_equal(jet_read(c[i]), 1);
        assert_int_equal(jet_read_close(c[i], reason), 1001);
        assert_string_equal(reason, "server is shutting down");
        ws_free(c[i]);
    }
}

static void bad_addresses(void **state)
{
    (void)state;
    struct mj_server *s;
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    char taken[32];
    snprintf(taken, sizeof taken, "127.0.0.1:%d", mj_server_port(jet.server));
    struct mj_server_cfg cfg = {
        .listen = "nonsense", .journal = jet.journal, .streams = jet.streams};
    assert_int_equal(mj_server_start(&cfg, &s), MJ_ESYNTAX);
    cfg.listen = taken;
    assert_int_equal(mj_server_start(&cfg, &s), MJ_EIO);
}

#define WITH_SERVER(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* An argument runs only the tests whose names it matches. */
int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        WITH_SERVER(live),
        WITH_SERVER(handshake_head),
        WITH_SERVER(answers),
        WITH_SERVER(metrics_and_health),
        WITH_SERVER(filters),
        WITH_SERVER(options_update),
        WITH_SERVER(bad_updates),
        WITH_SERVER(hello),
        WITH_SERVER(cursors),
        WITH_SERVER(streams),
        WITH_SERVER(query_limits),
        WITH_SERVER(large_messages),
        WITH_SERVER(client_close_is_echoed),
        cmocka_unit_test(stop_says_goodbye),
        WITH_SERVER(bad_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
