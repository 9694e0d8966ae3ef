/* HTTP heads, queries, addresses and URLs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/http.h"

static bool is(struct mj_span s, const char *text) { return mj_span_is(s, text); }

static void test_request(void **state)
{
    (void)state;
    const char *text = "GET /a/b?x=1&y=2?3 HTTP/1.1\r\nHost: h:1\r\nConnection: keep-alive , "
                       "Upgrade\r\nEmpty:\r\n\r\nbody";
    struct mj_http_head h;
    assert_int_equal(mj_http_parse_request(mj_str(text), &h), strlen(text) - 4);
    assert_true(is(h.method, "GET") && is(h.target, "/a/b?x=1&y=2?3"));
    assert_true(is(h.path, "/a/b") && is(h.query, "x=1&y=2?3"));
    assert_int_equal(h.count, 3);
    assert_true(is(mj_http_header(&h, "hOST"), "h:1"));
    assert_true(is(mj_http_header(&h, "empty"), ""));
    assert_non_null(mj_http_header(&h, "empty").ptr);
    assert_null(mj_http_header(&h, "absent").ptr);
    assert_true(mj_http_has_token(mj_http_header(&h, "connection"), "upgrade"));
    assert_true(mj_http_has_token(mj_http_header(&h, "connection"), "Keep-Alive"));
    assert_false(mj_http_has_token(mj_http_header(&h, "connection"), "keep"));
    for (size_t n = 0; n < strlen(text) - 4; n++)
        assert_int_equal(mj_http_parse_request(mj_span(text, n), &h), MJ_EAGAIN);
}

static void test_request_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET /\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "G(T / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1 \r\n\r\n",
        "GET /a\tb HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\nA: b\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\nB: c\r\n\r\n",
        "GET / HTTP/1.1\r\n folded: b\r\n\r\n",
        "GET / HTTP/1.1\r\nA : b\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nA: \x01\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
    };
    struct mj_http_head h;
    for (size_t i = 0; i < MJ_COUNT(bad); i++)
        if (mj_http_parse_request(mj_str(bad[i]), &h) != MJ_ESYNTAX)
            fail_msg("accepted: %s", bad[i]);
    MJ_AUTO_BUF many = {0};
    mj_buf_puts(&many, "GET / HTTP/1.1\r\n");
    for (int i = 0; i < MJ_HTTP_HEADERS_MAX; i++)
        mj_buf_puts(&many, "a: b\r\n");
    size_t len = many.len;
    mj_buf_puts(&many, "\r\n");
    assert_int_equal(mj_http_parse_request(mj_buf_span(&many), &h), many.len);
    many.len = len;
    mj_buf_puts(&many, "a: b\r\n\r\n");
    assert_int_equal(mj_http_parse_request(mj_buf_span(&many), &h), MJ_ELIMIT);
}

static void test_response(void **state)
{
    (void)state;
    struct mj_http_head h;
    assert_true(mj_http_parse_response(
                    MJ_SPAN("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\n\r\n"), &h) > 0);
    assert_int_equal(h.status, 429);
    assert_true(is(mj_http_header(&h, "retry-after"), "7"));
    assert_true(mj_http_parse_response(MJ_SPAN("HTTP/1.0 101\r\n\r\n"), &h) > 0);
    assert_int_equal(mj_http_parse_response(MJ_SPAN("HTTP/1.1 1x1 a\r\n\r\n"), &h), MJ_ESYNTAX);
    assert_int_equal(mj_http_parse_response(MJ_SPAN("HTTP/1.1 099 a\r\n\r\n"), &h), MJ_ESYNTAX);
    assert_int_equal(mj_http_parse_response(MJ_SPAN("HTTP/1.1 1011\r\n\r\n"), &h), MJ_ESYNTAX);
    assert_int_equal(mj_http_parse_response(MJ_SPAN("SSH-2.0-x\r\n\r\n"), &h), MJ_ESYNTAX);
}

static void test_retry_after(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        int64_t seconds;
    } cases[] = {
        {"7", 7},
        {"0", 0},
        {"-5", 0},
        {"999999999", 3600},
        {"99999999999999999999", 0},
        {"soon", 0},
        {"Sun, 06 Nov 1994 08:49:37 GMT", 7},
        {"Sun, 06 Nov 1994 08:49:27 GMT", 0},
        {"Fri, 31 Dec 2199 23:59:59 GMT", 3600},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        char text[200];
        int n = snprintf(text, sizeof text, "HTTP/1.1 429 x\r\nRetry-After: %s\r\n\r\n",
                         cases[i].value);
        struct mj_http_head h;
        assert_true(mj_http_parse_response(mj_span(text, (size_t)n), &h) > 0);
        assert_int_equal(mj_http_retry_after(&h, 784111777 - 7), cases[i].seconds);
    }
    struct mj_http_head none;
    assert_true(mj_http_parse_response(MJ_SPAN("HTTP/1.1 429 x\r\n\r\n"), &none) > 0);
    assert_int_equal(mj_http_retry_after(&none, 0), 0);
}

static void test_query(void **state)
{
    (void)state;
    struct mj_span rest = MJ_SPAN("&a=1&&b&c=x%20y+z=&=v&"), key, value;
    static const char *const want[][2] = {{"a", "1"}, {"b", ""}, {"c", "x%20y+z="}, {"", "v"}};
    for (size_t i = 0; i < MJ_COUNT(want); i++) {
        assert_true(mj_query_next(&rest, &key, &value));
        assert_true(is(key, want[i][0]) && is(value, want[i][1]));
    }
    assert_false(mj_query_next(&rest, &key, &value));
    MJ_AUTO_BUF out = {0};
    mj_buf_puts(&out, ">");
    assert_int_equal(mj_query_decode(MJ_SPAN("x%20y+z%2f%2F%00"), &out), 0);
    assert_true(mj_span_eq(mj_buf_span(&out), MJ_SPAN(">x y z//\0")));
    static const char *const bad[] = {"a%", "a%2", "a%2g", "a%g2", "%%20"};
    for (size_t i = 0; i < MJ_COUNT(bad); i++) {
        assert_int_equal(mj_query_decode(mj_str(bad[i]), &out), MJ_ESYNTAX);
        assert_int_equal(out.len, 9);
    }
}

static void test_hostport(void **state)
{
    (void)state;
    struct mj_hostport h;
    assert_int_equal(mj_hostport_parse(":6008", &h), 0);
    assert_string_equal(h.host, "");
    assert_int_equal(h.port, 6008);
    assert_int_equal(mj_hostport_parse("127.0.0.1:0", &h), 0);
    assert_string_equal(h.host, "127.0.0.1");
    assert_int_equal(h.port, 0);
    assert_int_equal(mj_hostport_parse("[::1]:80", &h), 0);
    assert_string_equal(h.host, "::1");
    static const char *const bad[] = {"",       "h",    "h:",    "h:65536", "h:-1",
                                      "h:+1",   "h:1x", "::1:8", "[::1]8",  "[]:80",
                                      "h h:80", "[::1", "[ab]:8"};
    for (size_t i = 0; i < MJ_COUNT(bad); i++)
        if (mj_hostport_parse(bad[i], &h) != MJ_ESYNTAX)
            fail_msg("accepted: %s", bad[i]);
}

static void test_listen(void **state)
{
    (void)state;
    struct mj_hostport at = {"127.0.0.1", 0};
    int port = 0;
    int fd = mj_listen(&at, &port);
    assert_true(fd >= 0 && port > 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int client = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&to, sizeof to), 0);
    close(client);
    at.port = port;
    int again;
    assert_int_equal(mj_listen(&at, &again), MJ_EIO);
    assert_int_equal(errno, EADDRINUSE);
    close(fd);
    at = (struct mj_hostport){"", 0};
    fd = mj_listen(&at, &port);
    assert_true(fd >= 0 && port > 0);
    close(fd);
}

static void test_url(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool tls;
        const char *host;
        int port;
        const char *path;
        bool has_path;
    } good[] = {
        {"wss://bsky.network", true, "bsky.network", 443, "/", false},
        {"ws://localhost:2470/", false, "localhost", 2470, "/", false},
        {"HTTPS://h/x?y=z#frag", true, "h", 443, "/x?y=z", true},
        {"http://[::1]:8/x", false, "::1", 8, "/x", true},
        {"ws://h?cursor=1", false, "h", 80, "/?cursor=1", false},
    };
    struct mj_url u;
    for (size_t i = 0; i < MJ_COUNT(good); i++) {
        assert_int_equal(mj_url_parse(good[i].text, &u), 0);
        assert_int_equal(u.tls, good[i].tls);
        assert_string_equal(u.host, good[i].host);
        assert_int_equal(u.port, good[i].port);
        assert_string_equal(u.path, good[i].path);
        assert_int_equal(u.has_path, good[i].has_path);
    }
    static const char *const bad[] = {
        "",          "h",         "ftp://h",   "ws://",        "ws:///x",        "ws://h:",
        "ws://h:0/", "ws://u@h/", "ws://h/ x", "ws://h:99999", "ws://h/\r\nX: y"};
    for (size_t i = 0; i < MJ_COUNT(bad); i++)
        if (mj_url_parse(bad[i], &u) != MJ_ESYNTAX)
            fail_msg("accepted: %s", bad[i]);
    MJ_AUTO_BUF longer = {0};
    mj_buf_puts(&longer, "ws://h/");
    for (int i = 0; i < 2047; i++)
        mj_buf_putc(&longer, 'a');
    assert_int_equal(mj_url_parse(mj_buf_cstr(&longer), &u), MJ_ELIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request),  cmocka_unit_test(test_request_refused),
        cmocka_unit_test(test_response), cmocka_unit_test(test_query),
        cmocka_unit_test(test_hostport), cmocka_unit_test(test_listen),
        cmocka_unit_test(test_url),      cmocka_unit_test(test_retry_after),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
