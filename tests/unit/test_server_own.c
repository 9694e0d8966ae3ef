/* What the server does beyond Jetstream v1, as its clients see it: zstd made once, kinds and
 * operations, info frames and heartbeats, limits per address, /status, and what is damaged on the
 * disk. (zstd itself is v1: spec/jetstream-v1.md §14, 47 to 51.) */
#include "cmocka_all.h"

#include <cJSON.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>

#include "base/err.h"
#include "support/dictionary.h"
#include "support/jetserver.h"

#define POST "app.bsky.feed.post"
#define LIKE "app.bsky.feed.like"
#define A    "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
#define B    "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"

static struct jetserver jet;

static int teardown(void **state)
{
    (void)state;
    jet_stop(&jet);
    return 0;
}

static int plain(void **state)
{
    (void)state;
    jet_start(&jet, (struct mj_server_cfg){0}, 64 << 20);
    return 0;
}

static int with_dictionary(void **state)
{
    (void)state;
    jet_start(&jet, (struct mj_server_cfg){.dictionary = test_dictionary()}, 64 << 20);
    return 0;
}

/* Waits until the server has looked at all that is published. */
static void await_newest(void)
{
    struct mj_journal_window w;
    mj_journal_window(jet.journal, &w);
    jet_await(&jet, "moonjet_live_seq", (int64_t)w.end - 1);
}

static void publish(const char *did, const char *collection)
{
    jet_append(&jet, did, collection, 1, 0);
    jet_publish(&jet);
}

/* Next message that is no ping, as text. */
static struct mj_span read_text(struct wsclient *c, bool zstd)
{
    static struct mj_buf text;
    struct mj_ws_msg m;
    do {
        assert_true(ws_read(c, &m));
    } while (m.op == MJ_WS_PING);
    assert_int_equal(m.op, zstd ? MJ_WS_BINARY : MJ_WS_TEXT);
    text.len = 0;
    if (zstd)
        test_decode(m.payload, &text);
    else
        mj_buf_put(&text, m.payload.ptr, m.payload.len);
    mj_buf_cstr(&text);
    return mj_buf_span(&text);
}

static struct wsclient *connect_with(const char *target, const char *headers)
{
    MJ_AUTO_BUF b = {0};
    mj_buf_printf(&b,
                  "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                  "%s\r\n",
                  target, headers);
    return ws_request(mj_server_port(jet.server), mj_buf_cstr(&b));
}

static void zstd(void **state)
{
    (void)state;
    int64_t before = jet_metric(&jet, "moonjet_zstd_events_total");
    for (int i = 0; i < 500; i++)
        jet_append(&jet, i % 2 ? A : B, i % 3 ? POST : "", 1, 0);
    jet_publish(&jet);
    struct wsclient *c[] = {
        connect_with("/subscribe?compress=true", ""),                          /* 47 */
        connect_with("/subscribe?cursor=0", "Socket-Encoding: gzip,zstd\r\n"), /* 48 */
        connect_with("/subscribe?cursor=0&compress=true&wantedDids=" A, ""),
        connect_with("/subscribe", "Socket-Encoding: ZSTD\r\n"), /* case matters: text */
        connect_with("/subscribe?compress=1", ""),               /* 49 */
        /* 50 */
        connect_with("/subscribe?compress=true",
                     "Sec-WebSocket-Extensions: permessage-deflate\r\n")};
    for (size_t i = 0; i < MJ_COUNT(c); i++) {
        assert_int_equal(c[i]->status, 101);
        assert_null(strcasestr(mj_buf_cstr(&c[i]->head), "extensions"));
    }
    for (int i = 0; i < 100; i++) {
        jet_append(&jet, i % 2 ? A : B, POST, 1, i == 50 ? 90000 : 0);
        if (i % 10 == 9)
            jet_publish(&jet);
    }
    for (size_t i = 0; i < MJ_COUNT(c); i++)
        for (uint64_t n = i == 1 || i == 2 ? 1 : 501; n <= 600; n++)
            if (i != 2 || n % 2 == 0)
                assert_int_equal(jet_number(read_text(c[i], i != 3 && i != 4)), n);
    /* Once each, whoever reads. */
    assert_int_equal(jet_metric(&jet, "moonjet_zstd_events_total") - before, 600);
    assert_true(jet_metric(&jet, "moonjet_zstd_in_bytes_total") >
                jet_metric(&jet, "moonjet_zstd_out_bytes_total"));
    for (size_t i = 0; i < MJ_COUNT(c); i++)
        ws_free(c[i]);
}

/* maxMessageSizeBytes is about the bytes that are sent. */
static void zstd_sizes(void **state)
{
    (void)state;
    jet_append(&jet, A, POST, 1, 5000); /* compresses to little */
    jet_append(&jet, A, POST, 1, 0);
    jet_publish(&jet);
    struct wsclient *small = jet_connect(&jet, "/subscribe?cursor=0&compress=true"
                                               "&maxMessageSizeBytes=1000");
    struct wsclient *text = jet_connect(&jet, "/subscribe?cursor=0&maxMessageSizeBytes=1000");
    assert_int_equal(jet_number(read_text(small, true)), 1);
    assert_int_equal(jet_number(read_text(small, true)), 2);
    assert_int_equal(jet_number(read_text(text, false)), 2);
    struct wsclient *none = jet_connect(&jet, "/subscribe?compress=true&maxMessageSizeBytes=20");
    publish(A, POST);
    assert_int_equal(jet_number(read_text(small, true)), 3);
    static const char update[] = "{\"type\":\"options_update\",\"payload\":{}}";
    ws_send(none, MJ_WS_TEXT, update, sizeof update - 1);
    ws_send(none, MJ_WS_PING, "p", 1);
    struct mj_ws_msg m;
    assert_true(ws_read(none, &m));
    assert_int_equal(m.op, MJ_WS_PONG);
    publish(A, POST);
    assert_int_equal(jet_number(read_text(none, true)), 4); /* still zstd */
    ws_free(small);
    ws_free(text);
    ws_free(none);
}

/* What fits lies further apart than the cache of compressed events reaches, and all between is too
 * large: it is compressed to know that. */
static void zstd_far_apart(void **state)
{
    (void)state;
    for (int i = 0; i < 40000; i++) {
        jet_append(&jet, A, i % 39999 ? POST : "", 1, i % 39999 && i % 100 == 0 ? 3000 : 0);
        if (i % 1000 == 0)
            jet_publish(&jet);
    }
    jet_publish(&jet);
    /* Account events are the shortest there are. */
    MJ_AUTO_BUF text = {0};
    struct mj_ws_msg m;
    struct wsclient *c = jet_connect(&jet, "/subscribe?cursor=0&compress=true&kinds=account");
    size_t size = 0;
    for (int i = 0; i < 2; i++) {
        while (ws_read(c, &m) && m.op == MJ_WS_PING)
            ;
        size = m.payload.len > size ? m.payload.len : size;
    }
    ws_free(c);
    char target[100];
    snprintf(target, sizeof target, "/subscribe?cursor=0&compress=true&maxMessageSizeBytes=%zu",
             size);
    c = jet_connect(&jet, target);
    uint64_t n = 0, last = 0;
    size_t got = 0;
    while (last < 40000) {
        assert_true(ws_read(c, &m));
        if (m.op == MJ_WS_PING)
            continue;
        assert_true(m.payload.len <= size);
        test_decode(m.payload, &text);
        n = jet_number(mj_buf_span(&text));
        assert_true(last ? n > last : n == 1);
        last = n;
        got++;
    }
    assert_int_equal(got, 2);
    ws_free(c);
}

static void no_dictionary(void **state)
{
    (void)state;
    struct wsclient *c = connect_with("/subscribe", "Socket-Encoding: zstd\r\n");
    assert_int_equal(c->status, 400);
    assert_non_null(strstr(mj_buf_cstr(&c->head), "moonjet dictionary install FILE"));
    ws_free(c);
    c = connect_with("/subscribe", "Socket-Encoding: gzip\r\n");
    assert_int_equal(c->status, 101);
    ws_free(c);
}

/* Event n of ten: every third is an account event, the others create, update and delete in turn. */
static void publish_ten(void)
{
    for (unsigned i = 0; i < 10; i++) {
        jet.n++;
        char json[200];
        struct mj_append a = {.time_us = mj_journal_next_time(jet.journal),
                              .did_hash = mj_hash(MJ_SPAN(A)),
                              .streams = 1};
        if (i % 3 == 2) {
            a.kind = MJ_KIND_ACCOUNT;
        } else {
            a.op = (uint8_t)(MJ_OP_CREATE + i % 3 + i / 3 % 2);
            a.collection = mj_collection_id(MJ_SPAN(POST));
        }
        int len = snprintf(json, sizeof json, "{\"did\":\"" A "\",\"rkey\":\"r%llu\"}",
                           (unsigned long long)jet.n);
        assert_int_equal(mj_journal_append(jet.journal, &a, mj_span(json, (size_t)len)), 0);
    }
    jet_publish(&jet);
}

static void kinds_and_operations(void **state)
{
    (void)state;
    /* create update account update delete account create update account update */
    static const struct {
        const char *query;
        unsigned want; /* bits 0…9 */
    } cases[] = {
        {"kinds=commit", 0x2db},
        {"kinds=account", 0x124},
        {"kinds=account&kinds=commit&kinds=identity", 0x3ff},
        {"kinds=identity&kinds=account", 0x124},
        {"operations=create", 0x165},
        {"operations=create&kinds=commit", 0x041},
        {"operations=delete&operations=update", 0x3be},
        {"operations=delete&kinds=commit&wantedCollections=app.bsky.feed.*", 0x010},
        {"kinds=account&wantedCollections=" LIKE, 0x124},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++)
        for (int replay = 0; replay <= 1; replay++) {
            char target[200];
            uint64_t first = jet.n + 1;
            struct mj_append mark = {.time_us = mj_journal_next_time(jet.journal), .streams = 2};
            assert_int_equal(mj_journal_append(jet.journal, &mark, MJ_SPAN("{}")), 0);
            jet_publish(&jet);
            if (replay)
                publish_ten();
            snprintf(target, sizeof target, "/subscribe?%s%s%lld", cases[i].query,
                     replay ? "&cursor=" : "&x=", (long long)mark.time_us);
            struct wsclient *c = jet_connect(&jet, target);
            if (!replay)
                publish_ten();
            for (unsigned k = 0; k < 10; k++)
                if (cases[i].want >> k & 1)
                    assert_int_equal(jet_number(read_text(c, false)), first + k);
            /* Nothing more: after an update that wants all, the next event comes next. */
            static const char update[] =
                "{\"type\":\"options_update\",\"payload\":{\"kinds\":null,\"operations\":[]}}";
            await_newest();
            ws_send(c, MJ_WS_TEXT, update, sizeof update - 1);
            ws_send(c, MJ_WS_PING, "p", 1);
            struct mj_ws_msg m;
            assert_true(ws_read(c, &m));
            assert_int_equal(m.op, MJ_WS_PONG);
            ws_free(c);
        }
    struct wsclient *c = jet_connect(&jet, "/subscribe");
    static const char bad[] =
        "{\"type\":\"options_update\",\"payload\":{\"kinds\":[\"commit\",\"sync\"]}}";
    char reason[128];
    ws_send(c, MJ_WS_TEXT, bad, sizeof bad - 1);
    assert_int_equal(jet_read_close(c, reason), 1000);
    assert_string_equal(reason, "failed to parse subscriber options: invalid subscriber options: "
                                "unknown kind: sync");
    ws_free(c);
}

static int64_t info(struct mj_span json, const char *name)
{
    cJSON *o = cJSON_ParseWithLength((const char *)json.ptr, json.len);
    assert_non_null(o);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(o, "kind")), "info");
    assert_string_equal(
        cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetObjectItem(o, "info"), "name")), name);
    int64_t t = (int64_t)cJSON_GetNumberValue(cJSON_GetObjectItem(o, "time_us"));
    cJSON_Delete(o);
    return t;
}

static void caught_up(void **state)
{
    (void)state;
    for (int i = 0; i < 300; i++)
        jet_append(&jet, A, POST, 1, 0);
    jet_publish(&jet);
    for (int packed = 0; packed <= 1; packed++) {
        uint64_t n = jet.n;
        struct wsclient *c =
            jet_connect(&jet, packed ? "/subscribe?cursor=0&info=true&compress=true"
                                     : "/subscribe?cursor=0&info=true");
        struct wsclient *live = jet_connect(&jet, "/subscribe?info=true");
        struct wsclient *deaf = jet_connect(&jet, "/subscribe?cursor=0&info=1");
        for (uint64_t k = 1; k <= n; k++)
            assert_int_equal(jet_number(read_text(c, packed)), k);
        assert_int_equal(info(read_text(c, packed), "caught_up"), jet.time_us);
        publish(A, POST);
        assert_int_equal(jet_number(read_text(c, packed)), n + 1);
        assert_int_equal(jet_number(read_text(live, false)), n + 1); /* it never was behind */
        for (uint64_t k = 1; k <= n + 1; k++)
            assert_int_equal(jet_number(read_text(deaf, false)), k);
        ws_free(c);
        ws_free(live);
        ws_free(deaf);
    }
    /* With nothing behind it to catch up with, too. */
    struct wsclient *c = jet_connect(&jet, "/subscribe?cursor=9000000000000000&info=true");
    assert_int_equal(info(read_text(c, false), "caught_up"), jet.time_us);
    ws_free(c);
}

static void heartbeats(void **state)
{
    (void)state;
    publish(A, POST);
    struct wsclient *rare =
        jet_connect(&jet, "/subscribe?wantedDids=" B "&heartbeat=1s&compress=true");
    struct wsclient *all = jet_connect(&jet, "/subscribe?cursor=1&heartbeat=1s");
    assert_int_equal(jet_number(read_text(all, false)), 1);
    info(read_text(all, false), "caught_up");
    publish(A, POST);
    int64_t seen = jet.time_us;
    /* The newest that was looked at, though nothing of it was sent: it may still be the first at
     * the first heartbeat. */
    while (info(read_text(rare, true), "cursor") != seen)
        ;
    assert_int_equal(jet_number(read_text(all, false)), 2);
    while (info(read_text(all, false), "cursor") != seen)
        ;
    publish(B, POST);
    ws_free(rare);
    char target[100];
    snprintf(target, sizeof target, "/subscribe?wantedDids=" B "&cursor=%lld", (long long)seen);
    rare = jet_connect(&jet, target);
    assert_int_equal(jet_number(read_text(rare, false)), 3);
    ws_free(rare);
    ws_free(all);
}

static int limited(void **state)
{
    (void)state;
    static const char *const trusted[] = {"127.0.0.0/8", "::1"};
    jet_start(&jet,
              (struct mj_server_cfg){.max_per_ip = 3,
                                     .replay_rate = 200,
                                     .trusted_proxies = trusted,
                                     .trusted_proxy_count = 2},
              64 << 20);
    return 0;
}

static void per_address(void **state)
{
    (void)state;
    static const char *const from[] = {"X-Forwarded-For: 198.51.100.7\r\n",
                                       "X-Forwarded-For: 6.6.6.6, 198.51.100.7\r\n",
                                       "X-Forwarded-For: 198.51.100.7, 127.0.0.9\r\n"};
    struct wsclient *c[3], *other, *refused;
    for (int i = 0; i < 3; i++) {
        c[i] = connect_with("/subscribe", from[i]);
        assert_int_equal(c[i]->status, 101);
    }
    jet_await(&jet, "jetstream_subscribers_connected{ip_address=\"198.51.100.7\"}", 3);
    refused = connect_with("/subscribe", from[0]);
    assert_int_equal(refused->status, 429);
    struct mj_http_head h;
    int size = mj_http_parse_response(mj_buf_span(&refused->head), &h);
    assert_true(mj_span_is(mj_http_header(&h, "Retry-After"), "30"));
    assert_non_null(
        strstr((char *)refused->head.ptr + size, "too many connections from 198.51.100.7: 3"));
    ws_free(refused);
    /* An IPv6 customer has a /64. */
    for (int i = 0; i < 4; i++) {
        char header[80];
        snprintf(header, sizeof header, "X-Forwarded-For: 2001:db8:0:1::%x\r\n", i + 1);
        other = connect_with("/subscribe", header);
        assert_int_equal(other->status, i < 3 ? 101 : 429);
        if (i < 3)
            jet_await(&jet, "jetstream_subscribers_connected{ip_address=\"2001:db8:0:1::/64\"}",
                      i + 1);
        if (i < 3)
            c[i] = (ws_free(c[i]), other);
        else
            ws_free(other);
    }
    /* Who leaves makes room. */
    jet_await(&jet, "jetstream_subscribers_connected{ip_address=\"198.51.100.7\"}", 0);
    other = connect_with("/subscribe", from[0]);
    assert_int_equal(other->status, 101);
    ws_free(other);
    for (int i = 0; i < 3; i++)
        ws_free(c[i]);
}

static size_t drain_ready(struct wsclient *c, uint64_t *next)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    struct mj_ws_msg m;
    size_t n = 0;
    for (;;) {
        int got = mj_ws_reader_next(&c->reader, &m);
        assert_true(got >= 0);
        if (!got) {
            if (poll(&p, 1, 0) != 1)
                return n;
            ssize_t r = recv(c->fd, c->rx, sizeof c->rx, 0);
            assert_true(r > 0);
            mj_ws_reader_feed(&c->reader, c->rx, (size_t)r);
        } else if (m.op == MJ_WS_TEXT) {
            assert_int_equal(jet_number(m.payload), (*next)++);
            n++;
        }
    }
}

static void replay_rate(void **state)
{
    (void)state;
    for (int i = 0; i < 500; i++)
        jet_append(&jet, A, POST, 1, 0);
    jet_publish(&jet);
    /* Two of one address share its 200 events a second, and the 200 it had saved. */
    static const char from[] = "X-Forwarded-For: 198.51.100.7\r\n";
    struct wsclient *live = connect_with("/subscribe", from);
    int64_t start = mj_mono_us();
    struct wsclient *c[2] = {connect_with("/subscribe?cursor=0", from),
                             connect_with("/subscribe?cursor=0", from)};
    struct wsclient *other =
        connect_with("/subscribe?cursor=0", "X-Forwarded-For: 198.51.100.8\r\n");
    uint64_t next[2] = {1, 1}, others = 1;
    size_t got = 0, at_live = 0;
    while (next[0] <= 500 || next[1] <= 500) {
        struct pollfd p[2] = {{.fd = c[0]->fd, .events = POLLIN},
                              {.fd = c[1]->fd, .events = POLLIN}};
        assert_true(poll(p, 2, 10000) > 0);
        got += drain_ready(c[0], &next[0]) + drain_ready(c[1], &next[1]);
        int64_t us = mj_mono_us() - start;
        assert_true((int64_t)got <= 201 + us * 200 / 1000000);
        if (got > 300 && !at_live) { /* live delivery is not delayed meanwhile */
            for (int i = 0; i < 400; i++)
                jet_append(&jet, A, POST, 1, 0);
            jet_publish(&jet);
            for (uint64_t n = 501; n <= 900; n++)
                assert_int_equal(jet_number(read_text(live, false)), n);
            got += drain_ready(c[0], &next[0]) + drain_ready(c[1], &next[1]);
            at_live = got;
        }
    }
    assert_true(at_live < 1000);
    while (others <= 500)
        assert_int_equal(jet_number(read_text(other, false)), others++);
    for (int i = 0; i < 2; i++)
        ws_free(c[i]);
    ws_free(other);
    ws_free(live);
}

static void put_sources(void *ctx, struct mj_buf *json)
{
    (void)ctx;
    mj_buf_puts(json, ",\"sources\":[]");
}

static int with_health(void **state)
{
    (void)state;
    jet_start(&jet, (struct mj_server_cfg){.dictionary = test_dictionary(), .health = put_sources},
              64 << 20);
    return 0;
}

static double number(const cJSON *o, const char *a, const char *b)
{
    cJSON *i = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(o, a), b);
    assert_true(cJSON_IsNumber(i));
    return cJSON_GetNumberValue(i);
}

static void status_page(void **state)
{
    (void)state;
    assert_int_equal(mj_streams_add(jet.streams, MJ_SPAN("lua")), 1);
    publish(A, POST);
    int64_t first_us = jet.time_us;
    struct wsclient *c[] = {jet_connect(&jet, "/subscribe?compress=true"),
                            jet_connect(&jet, "/stream/lua/subscribe"),
                            jet_connect(&jet, "/stream/lua/subscribe")};
    publish(A, POST);
    jet_number(read_text(c[0], true));
    jet_await(&jet, "moonjet_subscribers", 3);
    MJ_AUTO_BUF text = {0};
    jet_metrics(&jet, "/status", &text);
    cJSON *o = cJSON_Parse(mj_buf_cstr(&text));
    assert_non_null(o);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(o, "version")), MOONJET_VERSION);
    assert_true(cJSON_IsArray(cJSON_GetObjectItem(o, "sources")));
    assert_true(cJSON_GetNumberValue(cJSON_GetObjectItem(o, "last_event_age_seconds")) >= 0);
    assert_true(number(o, "subscribers", "total") == 3);
    assert_true(number(o, "subscribers", "zstd") == 1);
    assert_true(number(o, "subscribers", "text") == 2);
    assert_true(number(o, "subscribers", "classes") == 2);
    cJSON *lua = cJSON_GetArrayItem(cJSON_GetObjectItem(o, "streams"), 1);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(lua, "name")), "lua");
    assert_true(cJSON_GetNumberValue(cJSON_GetObjectItem(lua, "subscribers")) == 2);
    assert_true(number(o, "journal", "oldest_seq") == 1);
    assert_true(number(o, "journal", "next_seq") == 3);
    assert_true(number(o, "journal", "oldest_time_us") == (double)first_us);
    assert_true(number(o, "journal", "newest_time_us") == (double)jet.time_us);
    assert_true(number(o, "journal", "plain_bytes") > 0);
    cJSON_Delete(o);
    for (size_t i = 0; i < MJ_COUNT(c); i++)
        ws_free(c[i]);
    assert_true(jet_metric(&jet, "moonjet_delivery_seconds_count") > 0);
    jet_await(&jet, "moonjet_classes", 0);
    jet_await(&jet, "moonjet_subscriber_lag_seconds_count", 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static const char *broken_part; /* of file names that break_one() damages */
static unsigned broken;

/* Flips a byte in the middle of each such file. */
static int break_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)at;
    if (type != FTW_F || !strstr(path, broken_part) || !st->st_size)
        return 0;
    int fd = open(path, O_RDWR);
    uint8_t byte;
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, st->st_size / 2), 1);
    byte ^= 0x55;
    assert_int_equal(pwrite(fd, &byte, 1, st->st_size / 2), 1);
    close(fd);
    broken++;
    return 0;
}

static void damaged(void **state)
{
    (void)state;
    char dir[] = "/tmp/moonjet-own-XXXXXX";
    assert_non_null(mkdtemp(dir));
    MJ_AUTO_BUF error = {0};
    struct mj_journal_cfg cfg = {
        .dir = dir, .segment_bytes = 256 << 10, .no_seal = true, .sync_us = 1000000};
    assert_int_equal(mj_journal_open(&cfg, &jet.journal, &error), 0);
    jet_start_on(&jet, (struct mj_server_cfg){0});
    mj_log_setup(MJ_LOG_ERROR + 1, false); /* the journal says which file it is */
    for (int i = 0; i < 2000; i++) {
        jet_append(&jet, i % 500 == 7 ? B : A, POST, 1, 300 + (size_t)(i * 7 % 500));
        if (i % 50 == 0)
            jet_publish(&jet);
    }
    jet_publish(&jet);
    assert_int_equal(mj_journal_seal(jet.journal, 0), 0);
    broken_part = "sealed";
    nftw(dir, break_one, 8, FTW_PHYS);
    assert_true(broken > 0);
    int64_t before = jet_metric(&jet, "moonjet_gaps_total{reason=\"damaged\"}"), lost = 0;
    /* Whoever goes on where the reason says gets all there is, in order. */
    char target[100] = "/subscribe?cursor=0";
    uint64_t last = 0;
    unsigned closed = 0;
    while (last < 2000) {
        struct wsclient *c = jet_connect(&jet, target);
        struct mj_ws_msg m;
        uint64_t first = last;
        for (;;) {
            assert_true(ws_read(c, &m));
            if (m.op == MJ_WS_CLOSE)
                break;
            uint64_t n = jet_number(m.payload);
            if (last == first) {
                assert_true(n > last);
                lost += (int64_t)(n - last) - 1;
            } else {
                assert_int_equal(n, last + 1);
            }
            if ((last = n) == 2000)
                break;
        }
        if (m.op == MJ_WS_CLOSE) {
            assert_int_equal(m.payload.ptr[0] << 8 | m.payload.ptr[1], 1011);
            char reason[128] = "";
            memcpy(reason, m.payload.ptr + 2, m.payload.len - 2);
            const char *cursor = strstr(reason, "cursor=");
            assert_non_null(cursor);
            snprintf(target, sizeof target, "/subscribe?%s", cursor);
            closed++;
        }
        ws_free(c);
    }
    assert_int_equal(closed, broken);
    assert_true(lost > 0);
    assert_int_equal(jet_metric(&jet, "moonjet_gaps_total{reason=\"damaged\"}") - before, lost);
    jet_stop(&jet);
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Matches so far apart that the block of the first is forgotten before the second is found: every
 * block between them holds a DID whose hash deceives the index, so each is unpacked and looked
 * into. */
static void far_apart(void **state)
{
    (void)state;
    char dir[] = "/tmp/moonjet-own-XXXXXX", pad[900];
    assert_non_null(mkdtemp(dir));
    MJ_AUTO_BUF error = {0};
    struct mj_journal_cfg cfg = {
        .dir = dir, .segment_bytes = 4 << 20, .no_seal = true, .sync_us = 1000000};
    assert_int_equal(mj_journal_open(&cfg, &jet.journal, &error), 0);
    jet_start_on(&jet, (struct mj_server_cfg){0});
    memset(pad, 'x', sizeof pad);
    for (int i = 0; i < 30000; i++) {
        bool wanted = i == 10 || i == 29000;
        char json[1200];
        int64_t time_us = mj_journal_next_time(jet.journal);
        int n = snprintf(
            json, sizeof json,
            "{\"did\":\"%s\",\"time_us\":%lld,\"kind\":\"account\",\"account\":{\"seq\":%d,"
            "\"pad\":\"%.*s\"}}",
            wanted ? B : A, (long long)time_us, i, 700 + i % 200, pad);
        struct mj_append e = {.time_us = time_us,
                              .did_hash = mj_hash(mj_str(wanted || i % 50 == 0 ? B : A)),
                              .streams = 1,
                              .kind = MJ_KIND_ACCOUNT};
        assert_int_equal(mj_journal_append(jet.journal, &e, mj_span(json, (size_t)n)), 0);
        if (i % 100 == 0)
            jet_publish(&jet);
    }
    jet_publish(&jet);
    assert_int_equal(mj_journal_seal(jet.journal, 0), 0);
    struct wsclient *c = jet_connect(&jet, "/subscribe?cursor=0&wantedDids=" B);
    assert_int_equal(jet_read(c), 10);
    assert_int_equal(jet_read(c), 29000);
    ws_free(c);
    jet_stop(&jet);
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void bad_configurations(void **state)
{
    (void)state;
    struct mj_server *s;
    static const char *const prefixes[] = {"10.0.0.0/8", "10.0.0.0/33"};
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    struct mj_server_cfg cfg = {.listen = "127.0.0.1:0",
                                .journal = jet.journal,
                                .streams = jet.streams,
                                .trusted_proxies = prefixes,
                                .trusted_proxy_count = 2};
    assert_int_equal(mj_server_start(&cfg, &s), MJ_ESYNTAX);
    cfg.trusted_proxy_count = 1;
    cfg.dictionary = MJ_SPAN("this is no dictionary");
    assert_int_equal(mj_server_start(&cfg, &s), MJ_EINVAL);
}

/* An argument runs only the tests whose names it matches. */
int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(zstd, with_dictionary, teardown),
        cmocka_unit_test_setup_teardown(zstd_sizes, with_dictionary, teardown),
        cmocka_unit_test_setup_teardown(zstd_far_apart, with_dictionary, teardown),
        cmocka_unit_test_setup_teardown(no_dictionary, plain, teardown),
        cmocka_unit_test_setup_teardown(kinds_and_operations, plain, teardown),
        cmocka_unit_test_setup_teardown(caught_up, with_dictionary, teardown),
        cmocka_unit_test_setup_teardown(heartbeats, with_dictionary, teardown),
        cmocka_unit_test_setup_teardown(per_address, limited, teardown),
        cmocka_unit_test_setup_teardown(replay_rate, limited, teardown),
        cmocka_unit_test_setup_teardown(status_page, with_health, teardown),
        cmocka_unit_test(damaged),
        cmocka_unit_test(far_apart),
        cmocka_unit_test_setup_teardown(bad_configurations, plain, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
