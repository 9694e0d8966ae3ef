/* The firehose server behind `replay` and `simulate`: cursors, window, pull mode, HTTP. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/log.h"
#include "source/relay.h"
#include "support/wsclient.h"

static struct mj_relay *start(size_t window_bytes, size_t window_frames)
{
    struct mj_relay_cfg cfg = {
        .listen = "127.0.0.1:0", .window_bytes = window_bytes, .window_frames = window_frames};
    struct mj_relay *r;
    assert_int_equal(mj_relay_start(&cfg, &r), 0);
    assert_true(mj_relay_port(r) > 0);
    return r;
}

/* Frames are opaque to the relay: here the seq as text. */
static void publish(struct mj_relay *r, int64_t from, int64_t to)
{
    for (int64_t seq = from; seq <= to; seq++) {
        char text[24];
        int n = snprintf(text, sizeof text, "%lld", (long long)seq);
        assert_int_equal(mj_relay_publish(r, seq, mj_span(text, (size_t)n)), 0);
    }
}

static struct wsclient *subscribe(struct mj_relay *r, const char *query)
{
    char target[256];
    snprintf(target, sizeof target, "%s%s", MJ_RELAY_PATH, query);
    struct wsclient *c = ws_connect(mj_relay_port(r), target);
    assert_int_equal(c->status, 101);
    struct mj_http_head h;
    assert_true(mj_http_parse_response(mj_buf_span(&c->head), &h) > 0);
    assert_true(
        mj_span_is(mj_http_header(&h, "sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    return c;
}

static void expect(struct wsclient *c, int64_t from, int64_t to)
{
    for (int64_t seq = from; seq <= to; seq++) {
        struct mj_ws_msg m;
        int64_t got = -1;
        assert_true(ws_read(c, &m));
        assert_int_equal(m.op, MJ_WS_BINARY);
        assert_int_equal(mj_span_i64(m.payload, &got), 0);
        assert_int_equal(got, seq);
    }
}

/* A close with that code, then the end of the connection. */
static void expect_close(struct wsclient *c, int code)
{
    struct mj_ws_msg m;
    assert_true(ws_read(c, &m));
    assert_int_equal(m.op, MJ_WS_CLOSE);
    assert_int_equal(mj_ws_close_code(m.payload), code);
    assert_false(ws_read(c, &m));
}

static void test_cursors(void **state)
{
    (void)state;
    struct mj_relay *r = start(0, 10);
    struct wsclient *live = subscribe(r, "");
    for (int64_t seq = 101; seq <= 120; seq++) { /* 111…120 stay */
        publish(r, seq, seq);
        expect(live, seq, seq);
    }
    struct wsclient *oldest = subscribe(r, "?cursor=0");
    struct wsclient *inside = subscribe(r, "?x=1&cursor=115&cursor=1");
    struct wsclient *edge = subscribe(r, "?cursor=110");
    struct wsclient *newest = subscribe(r, "?cursor=120");
    struct wsclient *old = subscribe(r, "?cursor=109");
    struct wsclient *ahead = subscribe(r, "?cursor=121");
    expect(oldest, 111, 120);
    expect(inside, 116, 120);
    expect(edge, 111, 120);
    struct mj_ws_msg m;
    assert_true(ws_read(old, &m));
    static const char info[] = "\xa2\x61t\x65#info\x62op\x01\xa2\x64name\x6eOutdatedCursor";
    assert_true(mj_span_starts(m.payload, MJ_SPAN(info)));
    expect(old, 111, 120);
    assert_true(ws_read(ahead, &m));
    static const char future[] = "\xa1\x62op\x20\xa2\x65"
                                 "error\x6c"
                                 "FutureCursor";
    assert_true(mj_span_starts(m.payload, MJ_SPAN(future)));
    expect_close(ahead, 1008);
    publish(r, 121, 122);
    struct wsclient *all[] = {live, oldest, inside, edge, newest, old};
    for (size_t i = 0; i < MJ_COUNT(all); i++) {
        expect(all[i], 121, 122);
        ws_free(all[i]);
    }
    ws_free(ahead);
    mj_relay_stop(r);
}

static void test_publish_refused(void **state)
{
    (void)state;
    struct mj_relay *r = start(0, 0);
    publish(r, 5, 5);
    assert_int_equal(mj_relay_publish(r, 5, MJ_SPAN("x")), MJ_ESEQ);
    assert_int_equal(mj_relay_publish(r, 4, MJ_SPAN("x")), MJ_ESEQ);
    uint8_t *big = mj_calloc(1, 5000001);
    assert_int_equal(mj_relay_publish(r, 6, mj_span(big, 5000001)), MJ_EBIG);
    assert_int_equal(mj_relay_publish(r, 6, mj_span(big, 5000000)), 0);
    struct wsclient *c = subscribe(r, "?cursor=5");
    struct mj_ws_msg m;
    assert_true(ws_read(c, &m));
    assert_int_equal(m.payload.len, 5000000);
    free(big);
    ws_free(c);
    mj_relay_stop(r);
}

static void test_too_slow(void **state)
{
    (void)state;
    struct mj_relay *r = start(1 << 20, 0);
    struct wsclient *c = subscribe(r, "");
    static uint8_t frame[60000];
    /* Far more than the window, the socket buffers and one batch hold together. */
    for (int i = 1; i <= 600; i++)
        assert_int_equal(mj_relay_publish(r, i, mj_span(frame, sizeof frame)), 0);
    struct mj_ws_msg m;
    int frames = 0;
    for (;;) {
        assert_true(ws_read(c, &m));
        if (m.payload.len != sizeof frame)
            break;
        frames++;
    }
    /* None at all when the publisher outran the relay's first look at the window. */
    assert_true(frames < 600);
    static const char slow[] = "\xa1\x62op\x20\xa2\x65"
                               "error\x6f"
                               "ConsumerTooSlow";
    assert_true(mj_span_starts(m.payload, MJ_SPAN(slow)));
    expect_close(c, 1008);
    ws_free(c);
    mj_relay_stop(r);
}

static void test_control_and_close(void **state)
{
    (void)state;
    struct mj_relay *r = start(0, 0);
    struct wsclient *c = subscribe(r, "");
    struct mj_ws_msg m;
    ws_send(c, MJ_WS_PING, "abc", 3);
    assert_true(ws_read(c, &m));
    assert_int_equal(m.op, MJ_WS_PONG);
    assert_true(mj_span_is(m.payload, "abc"));
    ws_send(c, MJ_WS_TEXT, "ignored", 7);
    publish(r, 1, 1);
    expect(c, 1, 1);
    assert_int_equal(mj_relay_clients(r), 1);
    ws_send(c, MJ_WS_CLOSE, "\x0f\xa0", 2);
    expect_close(c, 4000);
    assert_int_equal(mj_relay_clients(r), 0);
    ws_free(c);

    c = subscribe(r, "");
    tcp_send(c->fd, "\x82\x00", 2); /* a client that does not mask */
    expect_close(c, 1002);
    ws_free(c);

    c = subscribe(r, "");
    struct mj_relay *stopping = r;
    mj_relay_stop(stopping);
    expect_close(c, 1001);
    ws_free(c);
}

static int get(void *ctx, struct mj_span path, struct mj_span query, struct mj_buf *body,
               const char **type)
{
    assert_ptr_equal(ctx, &get);
    if (!mj_span_is(path, "/did:plc:x"))
        return 404;
    *type = "text/plain";
    mj_buf_put(body, query.ptr, query.len);
    return 200;
}

static void test_http(void **state)
{
    (void)state;
    struct mj_relay_cfg cfg = {.listen = "127.0.0.1:0", .get = get, .get_ctx = (void *)&get};
    struct mj_relay *r;
    assert_int_equal(mj_relay_start(&cfg, &r), 0);
    static const struct {
        const char *request;
        int status;
        const char *body;
    } cases[] = {
        {"GET /did:plc:x?a=b HTTP/1.1\r\n\r\n", 200, "text/plain"},
        {"GET /did:plc:x?a=b HTTP/1.1\r\n\r\n", 200, "a=b"},
        {"GET /other HTTP/1.1\r\n\r\n", 404, ""},
        {"POST /did:plc:x HTTP/1.1\r\n\r\n", 405, "only GET"},
        {"GET " MJ_RELAY_PATH " HTTP/1.1\r\n\r\n", 426, "UpgradeRequired"},
        {"GET " MJ_RELAY_PATH "?cursor=x HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
         400, "cursor"},
        {"GET " MJ_RELAY_PATH "?cursor=-1 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
         400, "cursor"},
        {"nonsense\r\n\r\n", 400, "malformed"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        struct wsclient *c = ws_request(mj_relay_port(r), cases[i].request);
        assert_int_equal(c->status, cases[i].status);
        assert_non_null(strstr(mj_buf_cstr(&c->head), cases[i].body));
        ws_free(c);
    }
    mj_relay_stop(r);
    cfg.listen = "nonsense";
    assert_int_equal(mj_relay_start(&cfg, &r), MJ_ESYNTAX);
}

/* Pull mode: 1000 frames, never more than asked for. */
struct endless {
    uint64_t asked_from[8];
    int seeks;
};

static enum mj_relay_start pull_seek(void *ctx, const int64_t *cursor, uint64_t *pos)
{
    struct endless *e = ctx;
    *pos = cursor ? (uint64_t)*cursor : 0;
    e->asked_from[e->seeks++ & 7] = *pos;
    return MJ_RELAY_BACKLOG;
}

static int pull_read(void *ctx, uint64_t *pos, size_t max, struct mj_buf *out, int64_t *wait_us)
{
    (void)ctx;
    for (int i = 0; i < 7 && *pos < 1000 && out->len < max; i++) {
        char text[24];
        int n = snprintf(text, sizeof text, "%d", (int)++*pos);
        mj_relay_put(out, mj_span(text, (size_t)n));
    }
    *wait_us = 1000;
    return 0;
}

static void test_pull(void **state)
{
    (void)state;
    struct endless e = {0};
    struct mj_relay_feed feed = {&e, pull_seek, pull_read};
    struct mj_relay_cfg cfg = {.listen = "127.0.0.1:0", .feed = &feed};
    struct mj_relay *r;
    assert_int_equal(mj_relay_start(&cfg, &r), 0);
    assert_int_equal(mj_relay_publish(r, 1, MJ_SPAN("x")), MJ_EINVAL);
    struct wsclient *a = subscribe(r, ""), *b = subscribe(r, "?cursor=500");
    expect(b, 501, 1000);
    expect(a, 1, 1000);
    ws_free(a);
    ws_free(b);
    mj_relay_stop(r);
}

int main(void)
{
    mj_log_setup(MJ_LOG_ERROR, false);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cursors),  cmocka_unit_test(test_publish_refused),
        cmocka_unit_test(test_too_slow), cmocka_unit_test(test_control_and_close),
        cmocka_unit_test(test_http),     cmocka_unit_test(test_pull),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
