/* The firehose client against a server that is told how to misbehave (spec/firehose.md §15.8).
 * Times are shortened; no test depends on anything being fast, only on what happens in which
 * order, and on waits being at least as long as they must be. */
#include "support/fakehose.h"

static bool done_10_events(struct rig *r) { return r->events >= 10; }

/* ---- cursors and lost connections ---- */

static void serve_drop(struct visit *v)
{
    accept_upgrade(v);
    if (v->number == 0) {
        say_events(v, 1, 5);
        MJ_AUTO_BUF b = {0};
        event_frame(&b, "#identity", 6);
        uint8_t head[MJ_WS_HEAD_MAX];
        say(v, head, mj_ws_head(head, MJ_WS_BINARY, b.len));
        say(v, b.ptr, b.len / 2); /* gone in the middle of a frame */
    } else {
        say_events(v, 4, 10); /* a server that resumes inclusively, and more */
        listen_out(v, true);
    }
}

static void test_drop_and_resume(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, serve_drop, -1);
    rig_run(&r, done_10_events);
    expect_events(&r, 1, 10);
    assert_true(r.flushes > 0);
    assert_int_equal(mj_firehose_cursor(r.f), 10);
    assert_true(mj_firehose_connected(r.f));
    assert_true(asked(&r, 0, "GET " MJ_FIREHOSE_PATH "?rig=1 HTTP/1.1\r\n"));
    assert_true(asked(&r, 0, "User-Agent: moonjet/" MOONJET_VERSION "\r\n"));
    assert_true(asked(&r, 1, "&cursor=5 HTTP/1.1\r\n"));
    assert_int_equal(mj_metric_get(r.f->m.repeated), 2);
    assert_int_equal(mj_metric_get(r.f->m.gap), 0);
    assert_int_equal(mj_metric_get(r.f->m.last_seq), 10);
    assert_int_equal(mj_metric_get(r.f->m.connected), 1);
    assert_int_equal(mj_metric_get(r.f->m.reconnects[CLOSED]), 1);
    assert_int_equal(mj_metric_get(r.f->m.created_at), INT64_C(1783175888123000000));
    rig_close(&r);
}

static void serve_bytes(struct visit *v)
{
    MJ_AUTO_BUF b = {0};
    upgrade_answer(v, &b);
    for (int64_t seq = 1; seq <= 10; seq++) {
        MJ_AUTO_BUF frame = {0};
        event_frame(&frame, "#identity", seq);
        if (seq % 2) { /* one message in fragments of one byte, with a ping among them */
            for (size_t i = 0; i < frame.len; i++) {
                uint8_t piece[3] = {i ? 0 : 2, 1, frame.ptr[i]};
                if (i + 1 == frame.len)
                    piece[0] |= 0x80;
                mj_buf_put(&b, piece, 3);
                if (i == 3)
                    mj_buf_put(&b,
                               "\x89\x0e"
                               "are you there?",
                               16);
            }
        } else {
            uint8_t head[MJ_WS_HEAD_MAX];
            mj_buf_put(&b, head, mj_ws_head(head, MJ_WS_BINARY, frame.len));
            mj_buf_put(&b, frame.ptr, frame.len);
        }
    }
    int one = 1;
    setsockopt(v->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (size_t i = 0; i < b.len; i++)
        say(v, b.ptr + i, 1);
    listen_out(v, false);
}

static bool done_pong(struct rig *r) { return r->events >= 10 && r->server->v[0].pings == -1; }

static void test_byte_by_byte(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, serve_bytes, 0);
    rig_run(&r, done_pong);
    expect_events(&r, 1, 10);
    assert_true(asked(&r, 0, "&cursor=0 HTTP/1.1\r\n"));
    assert_int_equal(atomic_load(&r.server->visits), 1);
    rig_close(&r);
}

static void serve_future(struct visit *v)
{
    accept_upgrade(v);
    if (v->number == 0)
        say_named(v, NULL, "error", "FutureCursor");
    else
        say_events(v, 1, 10);
    listen_out(v, true);
}

static bool done_stopped(struct rig *r) { return r->stopped > 0; }

static void test_future_cursor(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, serve_future, 99);
    rig_run(&r, done_stopped);
    assert_true(asked(&r, 0, "&cursor=99 "));
    assert_true(mj_firehose_stopped(r.f));
    assert_int_equal(mj_firehose_cursor(r.f), 99);
    assert_int_equal(r.stopped, 1);
    rig_close(&r);

    rig_open(&r, serve_future, 99);
    r.cfg.on_future = MJ_FUTURE_LIVE;
    rig_run(&r, done_10_events);
    expect_events(&r, 1, 10);
    assert_false(asked(&r, 1, "cursor"));
    assert_int_equal(mj_metric_get(r.f->m.gap), 0);
    rig_close(&r);

    rig_open(&r, serve_future, 99);
    r.cfg.on_future = MJ_FUTURE_OLDEST;
    rig_run(&r, done_10_events);
    expect_events(&r, 1, 10);
    assert_true(asked(&r, 1, "&cursor=0 "));
    rig_close(&r);
}

static void serve_slow_error(struct visit *v)
{
    accept_upgrade(v);
    if (v->number == 0) {
        say_events(v, 1, 4);
        say_named(v, NULL, "error", "ConsumerTooSlow");
    } else if (v->number == 1) {
        say_named(v, NULL, "error", "SomethingNew");
    } else {
        say_events(v, 5, 10);
    }
    listen_out(v, true);
}

static void test_error_frames(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, serve_slow_error, -1);
    rig_run(&r, done_10_events);
    expect_events(&r, 1, 10);
    assert_true(asked(&r, 1, "&cursor=4 "));
    assert_true(asked(&r, 2, "&cursor=4 "));
    assert_int_equal(mj_metric_get(r.f->m.reconnects[TOO_SLOW]), 1);
    assert_int_equal(mj_metric_get(r.f->m.reconnects[ERROR_FRAME]), 1);
    rig_close(&r);
}

static void serve_odd(struct visit *v)
{
    accept_upgrade(v);
    say_named(v, "#info", "name", "OutdatedCursor");
    say_named(v, "#info", "name", "Hello");
    say_events(v, 101, 104);
    MJ_AUTO_BUF b = {0};
    event_frame(&b, "#novelty", 105); /* ignored, but its seq counts */
    say_message(v, MJ_WS_BINARY, b.ptr, b.len);
    say_message(v, MJ_WS_PONG, "unasked", 7);
    say_events(v, 103, 106); /* steps back, then a hole of three behind it */
    say_events(v, 110, 114);
    listen_out(v, true);
}

static void test_info_unknown_gap(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, serve_odd, 98);
    rig_run(&r, done_10_events);
    const int64_t want[] = {101, 102, 103, 104, 106, 110, 111, 112, 113, 114};
    assert_int_equal(r.events, 10);
    for (int i = 0; i < 10; i++)
        assert_int_equal(r.seqs[i], want[i]);
    assert_int_equal(mj_metric_get(r.f->m.history_lost), 1);
    assert_int_equal(mj_metric_get(r.f->m.gap), 2 + 3);
    assert_int_equal(mj_metric_get(r.f->m.repeated), 3);
    assert_int_equal(mj_metric_get(r.f->m.types[MJ_FRAME_UNKNOWN]), 1);
    assert_int_equal(mj_metric_get(r.f->m.types[MJ_FRAME_INFO]), 2);
    assert_int_equal(atomic_load(&r.server->visits), 1);
    rig_close(&r);
}

/* ---- slow consumers ---- */

static void serve_at_once(struct visit *v)
{
    MJ_AUTO_BUF b = {0};
    accept_upgrade(v);
    int64_t from = v->number == 0 ? 1 : 101;
    for (int64_t seq = from; seq <= from + 99; seq++) {
        MJ_AUTO_BUF frame = {0};
        uint8_t head[MJ_WS_HEAD_MAX];
        event_frame(&frame, "#identity", seq);
        mj_buf_put(&b, head, mj_ws_head(head, MJ_WS_BINARY, frame.len));
        mj_buf_put(&b, frame.ptr, frame.len);
    }
    if (v->number == 0)
        mj_buf_put(&b, "\x88\x02\x03\xe9", 4);
    say(v, b.ptr, b.len);
    listen_out(v, true);
}

static int rig_frame_slow(void *ctx, struct mj_span frame, struct mj_frame *out)
{
    usleep(5000);
    return rig_frame(ctx, frame, out);
}

static bool done_200_events(struct rig *r) { return r->events >= 200; }

/* What scripts take for the frames of one read is not kept from timers, subscribers and signals. */
static void test_slow_frames(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, serve_at_once, -1);
    r.cfg.frame = rig_frame_slow;
    rig_run(&r, done_200_events);
    expect_events(&r, 1, 200);
    assert_true(asked(&r, 1, "&cursor=100 "));
    assert_true(r.flushes >= 30);
    assert_true(r.ticks >= 30);
    rig_close(&r);
}

static void serve_talkative(struct visit *v)
{
    static char name[5000];
    accept_upgrade(v);
    memset(name, 'n', sizeof name - 1);
    for (int i = 0; i < 100; i++)
        say_named(v, "#info", "name", name);
    say_events(v, 1, 10);
    for (int i = 0; i < 100; i++)
        say_events(v, 1, 10);
    say_events(v, 11, 11);
    listen_out(v, true);
}

static bool done_11_events(struct rig *r) { return r->events >= 11; }

/* A server can neither fill the disk with what it says, nor have everything dropped unnoticed. */
static void test_log_of_a_talkative_server(void **state)
{
    (void)state;
    struct rig r;
    static char text[1 << 20];
    FILE *log = tmpfile();
    assert_non_null(log);
    fflush(stderr);
    int saved = dup(STDERR_FILENO);
    dup2(fileno(log), STDERR_FILENO);
    mj_log_setup(MJ_LOG_INFO, false);
    rig_open(&r, serve_talkative, -1);
    rig_run(&r, done_11_events);
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(log);
    size_t n = fread(text, 1, sizeof text - 1, log);
    text[n] = '\0';
    fclose(log);
    expect_events(&r, 1, 11);
    assert_int_equal(mj_metric_get(r.f->m.types[MJ_FRAME_INFO]), 100);
    assert_int_equal(mj_metric_get(r.f->m.repeated), 1000);
    assert_non_null(strstr(text, "nnnnn"));
    assert_in_range(n, 1, 100000);
    assert_non_null(strstr(text, "1000 frames in a row at or below seq 10, the newest at 10"));
    rig_close(&r);
}

static void serve_damaged(struct visit *v)
{
    accept_upgrade(v);
    /* Seven in a row are forgiven, whatever came before; eight are not. */
    for (int i = 0; i < 7; i++)
        say_message(v, MJ_WS_BINARY, "\xff\x00", 2);
    say_events(v, v->number * 5 + 1, v->number * 5 + 1);
    for (int i = 0; i < 7; i++)
        say_message(v, MJ_WS_BINARY, "", 0);
    say_events(v, v->number * 5 + 2, v->number * 5 + 5);
    for (int i = 0; i < 8 && v->number == 0; i++)
        say_message(v, MJ_WS_BINARY, "\xa0", 1);
    listen_out(v, true);
}

static void test_damaged_frames(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, serve_damaged, -1);
    rig_run(&r, done_10_events);
    expect_events(&r, 1, 10);
    assert_int_equal(atomic_load(&r.server->visits), 2);
    assert_int_equal(mj_metric_get(r.f->m.reconnects[DAMAGED]), 1);
    rig_close(&r);
}

/* ---- liveness ---- */

static void serve_silent(struct visit *v)
{
    accept_upgrade(v);
    listen_out(v, v->number > 0); /* the first visit gets no answer to its pings */
}

static bool done_5_pongs(struct rig *r) { return r->server->v[1].pings >= 5; }

static void test_silence(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, serve_silent, -1);
    r.cfg.times.ping = 40;
    r.cfg.times.silence = 100;
    rig_run(&r, done_5_pongs);
    /* The answered pings kept the second connection for longer than the silence that ended the
     * first: without them it could not have seen more than three. */
    assert_true(mj_metric_get(r.f->m.reconnects[SILENCE]) >= 1);
    assert_true(r.server->v[0].pings >= 1);
    assert_true(r.server->v[1].at_us - r.server->v[0].at_us >= 100000);
    rig_close(&r);
}

static void serve_mute(struct visit *v)
{
    if (v->number == 0) {
        listen_out(v, false); /* never answers the request */
        return;
    }
    accept_upgrade(v);
    say_events(v, 1, 10);
    listen_out(v, true);
}

static void test_handshake_timeout(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, serve_mute, -1);
    r.cfg.times.handshake = 100;
    int64_t start = mj_mono_us(); /* the server may see its first visit late */
    rig_run(&r, done_10_events);
    assert_int_equal(mj_metric_get(r.f->m.reconnects[TIMEOUT]), 1);
    assert_true(r.server->v[1].at_us - start >= 90000);
    rig_close(&r);
}

/* ---- what the server may not send ---- */

static void serve_forbidden(struct visit *v)
{
    static const uint8_t oversize[10] = {0x82, 127, 0, 0, 0, 0, 0, 0x4c, 0x4b, 0x41};
    accept_upgrade(v);
    if (v->number == 0)
        say_message(v, MJ_WS_TEXT, "{}", 2);
    else if (v->number == 1)
        say(v, oversize, sizeof oversize); /* 5,000,001 bytes */
    else if (v->number == 2)
        say(v, "\x82\x80\0\0\0\0", 6); /* a server must not mask */
    else
        say_events(v, 1, 10);
    listen_out(v, true);
}

static void test_forbidden(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, serve_forbidden, -1);
    rig_run(&r, done_10_events);
    assert_int_equal(r.server->v[0].close_code, 1003);
    assert_int_equal(r.server->v[1].close_code, 1009);
    assert_int_equal(r.server->v[2].close_code, 1002);
    assert_int_equal(mj_metric_get(r.f->m.reconnects[PROTOCOL]), 3);
    expect_events(&r, 1, 10);
    rig_close(&r);
}

static void serve_largest(struct visit *v)
{
    /* A legal frame of exactly the limit: an unknown message type with padding. */
    MJ_AUTO_BUF b = {0};
    mj_cbor_put_map(&b, 2);
    put_text(&b, "t");
    put_text(&b, "#novelty");
    put_text(&b, "op");
    mj_cbor_put_int(&b, 1);
    mj_cbor_put_map(&b, 2);
    put_text(&b, "pad");
    size_t rest = 5 + 4 + 1; /* the pad's head, the key "seq", and its value */
    struct mj_buf pad = {0};
    pad.len = 5000000 - b.len - rest;
    pad.ptr = mj_calloc(1, pad.len);
    mj_cbor_put_bytes(&b, mj_buf_span(&pad));
    mj_buf_deinit(&pad);
    put_text(&b, "seq");
    mj_cbor_put_int(&b, 1);
    assert_int_equal(b.len, 5000000);
    accept_upgrade(v);
    say_message(v, MJ_WS_BINARY, b.ptr, b.len);
    say_events(v, 2, 11);
    listen_out(v, true);
}

static void test_largest_frame(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, serve_largest, 0);
    rig_run(&r, done_10_events);
    expect_events(&r, 2, 11);
    assert_int_equal(atomic_load(&r.server->visits), 1);
    assert_true(mj_metric_get(r.f->m.bytes) > 5000000);
    rig_close(&r);
}

/* ---- refused upgrades and back-off ---- */

static void serve_statuses(struct visit *v)
{
    static const char *const answers[] = {
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n",
        "HTTP/1.1 503 Service Unavailable\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
    };
    if (v->number < (int)MJ_COUNT(answers)) {
        say_text(v, answers[v->number]);
        return;
    }
    accept_upgrade(v);
    say_events(v, 1, 10);
    listen_out(v, true);
}

static void test_statuses(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, serve_statuses, -1);
    r.cfg.times.slow = 150;
    rig_run(&r, done_10_events);
    int64_t waited[7] = {0};
    for (int i = 1; i < 7; i++) {
        waited[i] = r.server->v[i].at_us - r.server->v[i - 1].at_us;
        assert_true(asked(&r, i, "GET " MJ_FIREHOSE_PATH)); /* no redirect was followed */
    }
    assert_true(waited[1] >= 990000); /* Retry-After */
    assert_true(waited[2] >= 140000); /* 404: configuration */
    assert_true(waited[3] >= 140000); /* redirect */
    assert_true(waited[5] >= 140000); /* wrong accept key */
    assert_true(waited[6] >= 140000); /* not HTTP */
    assert_int_equal(mj_metric_get(r.f->m.reconnects[RATE_LIMITED]), 1);
    assert_int_equal(mj_metric_get(r.f->m.reconnects[HTTP_STATUS]), 3);
    assert_int_equal(mj_metric_get(r.f->m.reconnects[PROTOCOL]), 2);
    rig_close(&r);
}

static void serve_close(struct visit *v)
{
    accept_upgrade(v);
    if (v->number == 4)
        say_events(v, 1, 1);
    if (v->number == 5)
        say_message(v, MJ_WS_CLOSE,
                    "\x03\xe8"
                    "bye",
                    5);
    if (v->number >= 5)
        listen_out(v, true);
}

static bool done_7_visits(struct rig *r)
{
    return atomic_load(&r->server->visits) >= 7 && mj_firehose_connected(r->f);
}

/* Only a processed event makes the next retry quick again: accepting and closing does not. */
static void test_attempts(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, serve_close, -1);
    r.cfg.times.backoff_max = 200;
    rig_run(&r, done_7_visits);
    assert_int_equal(r.f->attempts, 2); /* the lost visit after the event, and the close */
    assert_true(r.server->v[6].at_us - r.server->v[5].at_us >= 95000); /* 1000 is not hurried */
    assert_int_equal(r.server->v[5].close_code, 1000);
    rig_close(&r);
}

static bool done_refused(struct rig *r) { return mj_metric_get(r->f->m.reconnects[NETWORK]) >= 3; }

static void test_nobody_listens(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, serve_drop, -1);
    struct mj_hostport at = {"127.0.0.1", 0};
    int port;
    close(mj_listen(&at, &port)); /* a port that was free a moment ago */
    snprintf(r.url, sizeof r.url, "ws://127.0.0.1:%d", port);
    rig_run(&r, done_refused);
    assert_false(mj_firehose_connected(r.f));
    rig_close(&r);
}

static void test_urls(void **state)
{
    (void)state;
    struct mj_loop *loop = mj_loop_new();
    struct mj_firehose_cfg cfg = {.frame = rig_frame, .cursor = -1};
    struct mj_firehose *f;
    static const struct {
        const char *url;
        int err;
        const char *path;
    } cases[] = {
        {"ws://127.0.0.1:1", 0, MJ_FIREHOSE_PATH},
        {"http://127.0.0.1:1/", 0, MJ_FIREHOSE_PATH},
        {"ws://127.0.0.1:1?x=1", 0, MJ_FIREHOSE_PATH "?x=1"},
        {"ws://127.0.0.1:1/other", 0, "/other"},
        {"127.0.0.1:1", MJ_ESYNTAX, ""},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        cfg.url = cases[i].url;
        assert_int_equal(mj_firehose_new(loop, &cfg, &f), cases[i].err);
        if (!cases[i].err) {
            assert_string_equal(f->url.path, cases[i].path);
            mj_firehose_free(f);
        }
    }
    mj_loop_free(loop);
    assert_int_equal(mj_on_future_parse("live"), MJ_FUTURE_LIVE);
    assert_int_equal(mj_on_future_parse("later"), -1);
}

int main(void)
{
    mj_log_setup(getenv("TEST_LOG") ? MJ_LOG_DEBUG : MJ_LOG_ERROR + 1, false);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drop_and_resume),
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_future_cursor),
        cmocka_unit_test(test_error_frames),
        cmocka_unit_test(test_log_of_a_talkative_server),
        cmocka_unit_test(test_info_unknown_gap),
        cmocka_unit_test(test_slow_frames),
        cmocka_unit_test(test_damaged_frames),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_handshake_timeout),
        cmocka_unit_test(test_forbidden),
        cmocka_unit_test(test_largest_frame),
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_attempts),

        cmocka_unit_test(test_nobody_listens),
        cmocka_unit_test(test_urls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
