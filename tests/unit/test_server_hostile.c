/* The server against peers that are slow, broken or hostile: whatever one of them does, frames stay
 * whole, memory stays bounded, the others get every event, and the reason is counted. */
#include "cmocka_all.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>

#include "base/err.h"
#include "support/jetserver.h"

#define A    "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
#define POST "app.bsky.feed.post"
#define MiB  (1 << 20)

static struct jetserver jet;

static int64_t ended(const char *reason)
{
    char series[100];
    snprintf(series, sizeof series, "moonjet_subscribers_ended_total{reason=\"%s\"}", reason);
    return jet_metric(&jet, series);
}

static void await_ended(const char *reason, int64_t value)
{
    char series[100];
    snprintf(series, sizeof series, "moonjet_subscribers_ended_total{reason=\"%s\"}", reason);
    jet_await(&jet, series, value);
}

static void small_buffers(struct wsclient *c)
{
    int size = 4096;
    setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

/* Frames of all head sizes. */
static size_t size_of(uint64_t n)
{
    return n % 97 == 0 ? 100000 : n % 7 == 0 ? 3000 : n * 31 % 400;
}

/* Reads frames in odd pieces with pings in between, so that nearly every write of the server is
 * short and its answers have to find the gaps between frames. */
static void torn_frames(void **state)
{
    (void)state;
    jet_start(&jet, (struct mj_server_cfg){.sndbuf = 4096}, 64 * MiB);
    struct wsclient *c[2] = {jet_connect(&jet, "/subscribe"),
                             jet_connect(&jet, "/subscribe?wantedCollections=app.bsky.*")};
    uint64_t expect[2] = {1, 1}, pongs[2] = {0, 0}, pings[2] = {0, 0};
    const uint64_t total = 3000;
    unsigned turn = 0;
    while (expect[0] <= total || expect[1] <= total) {
        if (jet.n < total) {
            for (int k = 0; k < 20; k++, turn++)
                jet_append(&jet, A, k % 3 ? POST : "com.example.thing", 1, size_of(jet.n + 1));
            jet_publish(&jet);
        }
        for (int i = 0; i < 2; i++) {
            struct pollfd p = {.fd = c[i]->fd, .events = POLLIN};
            if (pings[i] < pongs[i] + 3) { /* not so many that the peer may drop some */
                char text[16];
                ws_send(
                    c[i], MJ_WS_PING, text,
                    (size_t)snprintf(text, sizeof text, "%llu", (unsigned long long)++pings[i]));
            }
            while (poll(&p, 1, 1) == 1) {
                ssize_t n = recv(c[i]->fd, c[i]->rx, 1 + turn++ * 37 % 3001, 0);
                assert_true(n > 0);
                mj_ws_reader_feed(&c[i]->reader, c[i]->rx, (size_t)n);
                struct mj_ws_msg m;
                int got;
                while ((got = mj_ws_reader_next(&c[i]->reader, &m)) == 1) {
                    if (m.op == MJ_WS_PONG) {
                        pongs[i]++;
                        continue;
                    }
                    assert_int_equal(m.op, MJ_WS_TEXT);
                    /* Every third event is not for the one with the filter. */
                    if (i == 1 && (expect[1] - 1) % 20 % 3 == 0)
                        expect[1]++;
                    assert_int_equal(jet_number(m.payload), expect[i]);
                    assert_true(m.payload.len >= size_of(expect[i]++));
                    assert_memory_equal(m.payload.ptr + m.payload.len - 4, "\"}}}", 4);
                }
                assert_int_equal(got, 0);
            }
        }
    }
    assert_true(pongs[0] > 10 && pongs[1] > 10);
    assert_true(jet_metric(&jet, "moonjet_writes_total") > 0);
    ws_free(c[0]);
    ws_free(c[1]);
    jet_stop(&jet);
}

static void stalled(void **state)
{
    (void)state;
    jet_start(&jet, (struct mj_server_cfg){.stall_seconds = 2, .sndbuf = 16384}, 64 * MiB);
    int64_t before = ended("stalled");
    struct wsclient *deaf = jet_connect(&jet, "/subscribe");
    struct wsclient *slow = jet_connect(&jet, "/subscribe");
    struct wsclient *well = jet_connect(&jet, "/subscribe");
    small_buffers(deaf);
    small_buffers(slow);
    const uint64_t total = 2000;
    while (jet.n < total)
        jet_append(&jet, A, POST, 1, 1000);
    jet_publish(&jet);
    for (uint64_t n = 1; n <= total; n++)
        assert_int_equal(jet_read(well), n);
    /* The slow one takes 30 KB/s: it is read for four seconds, and not cut. */
    uint8_t sink[1500];
    int64_t start = mj_mono_us();
    while (mj_mono_us() - start < 4000000) {
        assert_true(recv(slow->fd, sink, sizeof sink, 0) > 0);
        usleep(50000);
    }
    await_ended("stalled", before + 1);
    assert_int_equal(jet_metric(&jet, "moonjet_subscribers"), 2);
    ws_free(deaf);
    ws_free(slow);
    ws_free(well);
    jet_stop(&jet);
}

static void overtaken(void **state)
{
    (void)state;
    jet_start(&jet, (struct mj_server_cfg){.sndbuf = 16384}, 2 * MiB);
    int64_t before = ended("overtaken");
    struct wsclient *slow = jet_connect(&jet, "/subscribe");
    jet_append(&jet, A, POST, 1, 500);
    jet_publish(&jet);
    assert_int_equal(jet_read(slow), 1);
    struct wsclient *well = jet_connect(&jet, "/subscribe");
    while (jet.n < 20000) { /* 20 MB, in steps that a reader can follow */
        for (int k = 0; k < 500; k++)
            jet_append(&jet, A, POST, 1, 1000);
        jet_publish(&jet);
        for (int k = 500; k > 0; k--)
            assert_int_equal(jet_read(well), jet.n - (uint64_t)k + 1);
    }
    /* What is in flight still comes, whole and in order; then the reason. */
    struct mj_ws_msg m;
    uint64_t n = 1;
    for (;;) {
        assert_true(ws_read(slow, &m));
        if (m.op == MJ_WS_CLOSE)
            break;
        assert_int_equal(jet_number(m.payload), ++n);
    }
    assert_true(n < 20000);
    assert_int_equal(m.payload.ptr[0] << 8 | m.payload.ptr[1], 1008);
    assert_memory_equal(m.payload.ptr + 2, "too slow: ", 10);
    ws_free(slow);
    await_ended("overtaken", before + 1);
    ws_free(well);
    jet_stop(&jet);
}

/* Sends bytes and reads until the end; the status of the answer, or 0 for none. */
static int raw_request(int port, const void *p, size_t n)
{
    int fd = tcp_connect(port), status = 0;
    /* The server may answer and close before it has read everything. */
    for (size_t at = 0; at < n;) {
        ssize_t w = send(fd, (const uint8_t *)p + at, n - at, MSG_NOSIGNAL);
        if (w <= 0)
            break;
        at += (size_t)w;
    }
    char text[4096];
    ssize_t got = 0, r;
    while (got < (ssize_t)sizeof text - 1 &&
           (r = recv(fd, text + got, sizeof text - 1 - (size_t)got, 0)) > 0)
        got += r;
    text[got] = '\0';
    if (got)
        assert_int_equal(sscanf(text, "HTTP/1.1 %d ", &status), 1);
    close(fd);
    return status;
}

static void heads(void **state)
{
    (void)state;
    jet_start(&jet, (struct mj_server_cfg){.head_seconds = 1}, MiB);
    int port = mj_server_port(jet.server);
    MJ_AUTO_BUF b = {0};
    mj_buf_puts(&b, "GET / HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 70; i++)
        mj_buf_printf(&b, "X-%d: y\r\n", i);
    mj_buf_puts(&b, "\r\n");
    assert_int_equal(raw_request(port, b.ptr, b.len), 431);
    b.len = 0;
    mj_buf_puts(&b, "GET /?x=");
    while (b.len < MiB + 10)
        mj_buf_puts(&b, "0123456789abcdef");
    assert_int_equal(raw_request(port, b.ptr, b.len), 431); /* no end in sight */
    mj_buf_puts(&b, " HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(raw_request(port, b.ptr, b.len), 431);
    b.len = MiB - 1000;
    mj_buf_puts(&b, " HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(raw_request(port, b.ptr, b.len), 200); /* large, and fine */
    static const char *const bad[] = {"\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/2.0\r\n\r\n",
                                      "GET / HTTP/1.1\r\nno colon\r\n\r\n", "\x16\x03\x01\r\n\r\n"};
    for (size_t i = 0; i < MJ_COUNT(bad); i++)
        assert_int_equal(raw_request(port, bad[i], strlen(bad[i])), 400);
    /* Byte by byte, so that the end of the head is never in one piece. */
    static const char slow[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    char reply[200] = "";
    int piecewise = tcp_connect(port), one = 1;
    setsockopt(piecewise, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (size_t i = 0; i < sizeof slow - 1; i++) {
        tcp_send(piecewise, &slow[i], 1);
        usleep(3000);
    }
    assert_true(recv(piecewise, reply, sizeof reply - 1, 0) > 0);
    assert_int_equal(strncmp(reply, "HTTP/1.1 200 ", 13), 0);
    close(piecewise);
    /* Slowloris: the deadline is for the whole head, however it trickles. */
    int fd = tcp_connect(port);
    int64_t start = mj_mono_us();
    char text[200] = "";
    struct pollfd p = {.fd = fd, .events = POLLIN};
    tcp_send(fd, "GET / HTTP/1.1\r\n", 16);
    for (int i = 0; i < 500 && poll(&p, 1, 20) == 0; i++)
        send(fd, "X", 1, MSG_NOSIGNAL);
    assert_true(recv(fd, text, sizeof text - 1, 0) > 0);
    assert_int_equal(strncmp(text, "HTTP/1.1 408 ", 13), 0);
    assert_in_range(mj_mono_us() - start, 900000, 5000000);
    close(fd);
    /* Who says nothing at all is told nothing. */
    assert_int_equal(raw_request(port, "", 0), 0);
    /* Frames in front of the handshake's answer. */
    static const char early[] = "GET /subscribe HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
                                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x81\x85";
    assert_int_equal(raw_request(port, early, sizeof early - 1), 0);
    jet_await(&jet, "moonjet_requests_open", 1); /* the one that asks */
    jet_stop(&jet);
}

/* Frames no client may send. Each ends that connection, and nothing else. */
static void bad_frames(void **state)
{
    (void)state;
    jet_start(&jet, (struct mj_server_cfg){0}, MiB);
    static const struct {
        const char *bytes;
        size_t len;
    } frames[] = {
        {"\x81\x05hello", 7},            /* not masked: read as it stands, it is not JSON either */
        {"\x09\x80\1\2\3\4", 6},         /* fragmented ping */
        {"\x89\xfe\x00\x7e\1\2\3\4", 8}, /* ping of 126 bytes */
        {"\x88\xff\0\0\0\0\0\0\0\x80\1\2\3\4", 14},       /* close of 128 bytes */
        {"\x83\x80\1\2\3\4", 6},                          /* reserved opcode */
        {"\x8f\x80\1\2\3\4", 6},                          /* reserved control opcode */
        {"\xc1\x80\1\2\3\4", 6},                          /* reserved bit */
        {"\x80\x80\1\2\3\4", 6},                          /* continues nothing */
        {"\x01\x80\1\2\3\4\x81\x80\1\2\3\4", 12},         /* a message within a message */
        {"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff", 10}, /* of 2^64-1 bytes */
    };
    struct wsclient *well = jet_connect(&jet, "/subscribe");
    struct wsclient *mute = jet_connect(&jet, "/subscribe");
    tcp_send(mute->fd, frames[1].bytes, frames[1].len);
    for (size_t i = 0; i < MJ_COUNT(frames); i++) {
        struct wsclient *c = jet_connect(&jet, "/subscribe");
        tcp_send(c->fd, frames[i].bytes, frames[i].len);
        uint8_t first;
        ssize_t n = recv(c->fd, &first, 1, 0); /* a close frame, or none */
        assert_true(n <= 0 ? n == 0 || errno == ECONNRESET : first == 0x88);
        ws_free(c);
        jet_append(&jet, A, POST, 1, 0);
        jet_publish(&jet);
        assert_int_equal(jet_read(well), jet.n);
    }
    /* One that does not answer the close frame and does not hang up either is not waited for. */
    assert_int_equal(jet_read_close(mute, NULL), 1002);
    struct mj_ws_msg m;
    assert_false(ws_read(mute, &m));
    ws_free(mute);
    jet_await(&jet, "moonjet_subscribers", 1);
    ws_free(well);
    jet_stop(&jet);
}

/* A text message in pieces with pings between them is one message. */
static void fragments(void **state)
{
    (void)state;
    jet_start(&jet, (struct mj_server_cfg){0}, MiB);
    struct wsclient *c = jet_connect(&jet, "/subscribe?requireHello=true&cursor=0");
    static const char text[] = "{\"type\":\"options_update\",\"payload\":{}}";
    for (size_t i = 0; i < sizeof text - 1; i++) {
        uint8_t frame[7] = {i ? 0 : 1, 0x81, 5, 6, 7, 8, (uint8_t)(text[i] ^ 5)};
        if (i == sizeof text - 2)
            frame[0] |= 0x80;
        tcp_send(c->fd, frame, sizeof frame);
        if (i % 5 == 0) {
            ws_send(c, MJ_WS_PING, "x", 1);
            struct mj_ws_msg m;
            assert_true(ws_read(c, &m));
            assert_int_equal(m.op, MJ_WS_PONG);
        }
    }
    jet_append(&jet, A, POST, 1, 0);
    jet_publish(&jet);
    assert_int_equal(jet_read(c), 1);
    ws_free(c);
    jet_stop(&jet);
}

/* Messages begun by many and ended by nobody: the budget ends some, memory stays bounded. */
static void message_budget(void **state)
{
    (void)state;
    jet_start(&jet, (struct mj_server_cfg){.message_budget = MiB}, MiB);
    int64_t before = ended("memory");
    struct wsclient *c[8];
    static uint8_t zeros[250000];
    for (int i = 0; i < 8; i++) {
        c[i] = jet_connect(&jet, "/subscribe");
        uint8_t head[MJ_WS_HEAD_MAX];
        const uint8_t mask[4] = {1, 2, 3, 4};
        size_t h = mj_ws_head_masked(head, MJ_WS_TEXT, 9000000, mask);
        tcp_send(c[i]->fd, head, h);
        tcp_send(c[i]->fd, zeros, sizeof zeros);
        /* Buffers double, so each takes 256 KiB: the fifth and the following do not fit. */
        if (i < 4) {
            jet_await(&jet, "moonjet_client_message_bytes", (i + 1) << 18);
        } else {
            assert_int_equal(jet_read_close(c[i], NULL), 1013);
            ws_free(c[i]);
            await_ended("memory", before + i - 3);
        }
    }
    jet_append(&jet, A, POST, 1, 0);
    jet_publish(&jet);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(jet_read(c[i]), 1);
        ws_free(c[i]);
    }
    jet_stop(&jet);
}

static void resets_and_limits(void **state)
{
    (void)state;
    jet_start(&jet, (struct mj_server_cfg){.max_connections = 20}, MiB);
    static const char rest[] =
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    struct linger now = {.l_onoff = 1};
    for (int i = 0; i < 200; i++) {
        int fd = tcp_connect(mj_server_port(jet.server));
        if (i % 3)
            tcp_send(fd, "GET /subscribe HTTP/1.1\r\nHost: x\r\n", 34);
        if (i % 3 == 2)
            tcp_send(fd, rest, sizeof rest - 1);
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close(fd);
        if (i % 10 == 9) {
            jet_await(&jet, "moonjet_subscribers", 0);
            jet_await(&jet, "moonjet_requests_open", 1);
        }
    }
    struct wsclient *c[20];
    for (int i = 0; i < 20; i++)
        c[i] = jet_connect(&jet, "/subscribe");
    struct wsclient *refused = ws_connect(mj_server_port(jet.server), "/subscribe");
    assert_int_equal(refused->status, 503);
    jet_await(&jet, "moonjet_subscribers", 20); /* a monitor still gets through */
    ws_free(refused);
    for (int i = 0; i < 20; i++)
        ws_free(c[i]);
    jet_stop(&jet);
}

static void pings(void **state)
{
    (void)state;
    jet_start(&jet, (struct mj_server_cfg){.ping_seconds = 1}, MiB);
    struct wsclient *c = jet_connect(&jet, "/subscribe");
    struct wsclient *silent = jet_connect(&jet, "/subscribe?requireHello=true");
    for (int i = 0; i < 2; i++) { /* 65 */
        struct mj_ws_msg m;
        assert_true(ws_read(c, &m));
        assert_int_equal(m.op, MJ_WS_PING);
        assert_int_equal(m.payload.len, 0);
    }
    uint8_t byte; /* 61: before the hello not even pings */
    assert_int_equal(recv(silent->fd, &byte, 1, MSG_DONTWAIT), -1);
    ws_free(c);
    ws_free(silent);
    jet_stop(&jet);
}

/* An argument runs only the tests whose names it matches. */
int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torn_frames),    cmocka_unit_test(stalled),
        cmocka_unit_test(overtaken),      cmocka_unit_test(heads),
        cmocka_unit_test(bad_frames),     cmocka_unit_test(fragments),
        cmocka_unit_test(message_budget), cmocka_unit_test(resets_and_limits),
        cmocka_unit_test(pings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
