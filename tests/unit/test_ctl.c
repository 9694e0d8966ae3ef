/* moonjet ctl's parts: JSON as text, errors, the client against answers of every kind, and the live
 * table. The commands themselves run against a real router in tests/e2e. */
#include "cmocka_all.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"

#include "../core/cli/ctl_client.c"
#include "../core/cli/ctl_show.c"
#include "../core/cli/ctl_top.c"
#include "../core/cli/text.c"

static void shows(const char *json, const char *want)
{
    MJ_AUTO_BUF out = {0};
    assert_true(mj__ctl_show(mj_str(json), &out));
    assert_string_equal(mj_buf_cstr(&out), want);
}

static void test_show(void **state)
{
    (void)state;
    shows("{\"ok\":true}", "");
    shows("{\"ok\":true,\"version\":\"1.2\",\"uptime\":12.5,\"live\":true,\"none\":null}",
          "version  1.2\nuptime   12.5\nlive     yes\nnone     \n");
    shows("{\"a\":1,\"journal\":{\"floor\":7,\"deep\":{\"x\":\"y\"}}}",
          "a               1\njournal.floor   7\njournal.deep.x  y\n");
    shows("{\"n\":2,\"sets\":[{\"name\":\"vips\",\"members\":10},{\"name\":\"x\",\"members\":2000,"
          "\"file\":\"f\"}]}",
          "n  2\n\nsets\nname  members  file\nvips       10  \nx        2000  f\n");
    shows("{\"sets\":[]}", "sets: none\n");
    shows("{\"members\":[\"b\",\"a\"]}", "members\nb\na\n");
    shows("[{\"a\":1}]", "a\n1\n");
    shows("{\"ok\":true,\"text\":\"two\\n  lines\\n\"}", "two\n  lines\n");
    shows("\"just so\"", "just so\n");
    /* Strangers' words cannot steer a terminal, and take one line. */
    shows("{\"name\":\"a\\u001b[31m\\nb\\u202ec\"}", "name  a [31m b c\n");
    shows("{\"\\u001bkey\":1}", " key  1\n");
    shows("{\"ok\":true,\"text\":\"\\u001b[2Jx\"}", " [2Jx\n");
    MJ_AUTO_BUF out = {0};
    assert_false(mj__ctl_show(MJ_SPAN("{\"a\":}"), &out));
    assert_false(mj__ctl_show(MJ_SPAN("{} x"), &out));
    assert_int_equal(out.len, 0);
    /* Deeper than is shown: no recursion without end, and still text. */
    MJ_AUTO_BUF deep = {0};
    for (int i = 0; i < 100; i++)
        mj_buf_puts(&deep, i % 2 ? "[" : "{\"a\":");
    mj_buf_puts(&deep, "1");
    for (int i = 100; i--;)
        mj_buf_puts(&deep, i % 2 ? "]" : "}");
    assert_true(mj__ctl_show(mj_buf_span(&deep), &out));
}

static void test_error(void **state)
{
    (void)state;
    static const struct {
        int status;
        bool json;
        const char *body, *error; /* NULL: none */
    } cases[] = {
        {200, true, "{\"ok\":true}", NULL},
        {200, true, "{\"error\":\"a field of a script's\"}", NULL},
        {200, true, "{\"ok\":false,\"error\":\"why \\\"x\\\"\"}", "why \"x\""},
        {200, true, "{\"ok\":false}", "status 200"},
        {404, true, "{\"error\":\"no such set\"}", "no such set"},
        {405, true, "{\"message\":\"Method Not Allowed\"}", "Method Not Allowed"},
        {503, false, "too many", "status 503"},
        {500, true, "nonsense", "status 500"},
        {200, false, "# HELP x", NULL},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        MJ_AUTO_BUF text = {0};
        struct mj__ctl_answer a = {.status = cases[i].status, .is_json = cases[i].json};
        mj_buf_puts(&a.body, cases[i].body);
        struct mj_span error = mj__ctl_error(&a, &text);
        if (cases[i].error ? !mj_span_is(error, cases[i].error) : error.ptr != NULL)
            fail_msg("%s: %s", cases[i].body, mj_buf_cstr(&text));
        mj_buf_deinit(&a.body);
    }
}

/* One connection: reads the request as far as its body, says `answer`, closes. */
struct server {
    int fd;
    const char *answer;
    struct mj_buf request;
};

static void *serve(void *arg)
{
    struct server *s = arg;
    int fd = accept(s->fd, NULL, NULL);
    char chunk[4096];
    ssize_t n;
    while ((n = recv(fd, chunk, sizeof chunk, 0)) > 0) {
        mj_buf_put(&s->request, chunk, (size_t)n);
        struct mj_http_head head;
        int64_t length;
        int size = mj_http_parse_request(mj_buf_span(&s->request), &head);
        if (size > 0 && !mj_span_i64(mj_http_header(&head, "Content-Length"), &length) &&
            s->request.len >= (size_t)size + (size_t)length)
            break;
    }
    send(fd, s->answer, strlen(s->answer), MSG_NOSIGNAL);
    close(fd);
    return NULL;
}

static int asked(const char *answer, struct mj__ctl_answer *out, struct mj_buf *error,
                 struct mj_buf *request)
{
    char dir[] = "/tmp/moonjet-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strcpy(at.sun_path, path);
    struct server s = {.fd = socket(AF_UNIX, SOCK_STREAM, 0), .answer = answer};
    assert_int_equal(bind(s.fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(s.fd, 1), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, serve, &s), 0);
    error->len = 0;
    int r = mj__ctl_ask(path, "set", MJ_SPAN("{\"args\":[\"list\"]}"), out, error);
    pthread_join(thread, NULL);
    close(s.fd);
    unlink(path);
    rmdir(dir);
    request->len = 0;
    mj_buf_put(request, s.request.ptr, s.request.len);
    mj_buf_deinit(&s.request);
    return r;
}

static void test_client(void **state)
{
    (void)state;
    struct mj__ctl_answer a = {0};
    MJ_AUTO_BUF error = {0};
    MJ_AUTO_BUF request = {0};
    assert_int_equal(asked("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                           "Content-Length: 11\r\n\r\n{\"ok\":true}",
                           &a, &error, &request),
                     0);
    assert_int_equal(a.status, 200);
    assert_true(a.is_json && mj_span_is(mj_buf_span(&a.body), "{\"ok\":true}"));
    struct mj_http_head head;
    int size = mj_http_parse_request(mj_buf_span(&request), &head);
    assert_true(size > 0 && mj_span_is(head.method, "POST") && mj_span_is(head.path, "/ctl/set"));
    assert_string_equal(mj_buf_cstr(&request) + size, "{\"args\":[\"list\"]}");

    static const struct {
        const char *answer, *error;
    } bad[] = {
        {"", "ended before"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "ended before"},
        {"HTTP/1.1 200 OK\r\n\r\nab", "not what moonjet says"},
        {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "not what moonjet says"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "not what moonjet says"},
        {"SSH-2.0-x\r\n\r\n", "not what moonjet says"},
    };
    for (size_t i = 0; i < MJ_COUNT(bad); i++) {
        assert_true(asked(bad[i].answer, &a, &error, &request) < 0);
        if (!strstr(mj_buf_cstr(&error), bad[i].error))
            fail_msg("%s: %s", bad[i].answer, mj_buf_cstr(&error));
    }
    error.len = 0;
    assert_true(mj__ctl_ask("/nonexistent/socket", "x", MJ_SPAN(""), &a, &error) < 0);
    assert_non_null(strstr(mj_buf_cstr(&error), "is moonjet running"));
    char path[200];
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_true(mj__ctl_ask(path, "x", MJ_SPAN(""), &a, &error) < 0);
    mj_buf_deinit(&a.body);
}

static void test_top(void **state)
{
    (void)state;
    struct mj__ctl_sample before = {0}, now = {0};
    mj__ctl_sample_read(
        &before,
        MJ_SPAN("# HELP moonjet_events_total x\nmoonjet_events_total 100\n"
                "moonjet_node_events_in_total{script=\"a.lua\",node=\"from#1\"} 10\n"
                "moonjet_node_nanoseconds_total{script=\"a.lua\",node=\"from#1\"} 0\n"
                "moonjet_node_events_in_total{script=\"gone\",node=\"x\"} 10\n"
                "moonjet_reader_delivered_total{reader=\"a.lua hook\"} 10\n"),
        1000000);
    mj__ctl_sample_read(
        &now,
        MJ_SPAN("moonjet_events_total 300\n"
                "jetstream_subscribers_connected{stream=\"main\"} 3\n"
                "jetstream_subscribers_connected{stream=\"lua\"} 4\n"
                "moonjet_node_events_in_total{script=\"a.lua\",node=\"from#1\"} 30\n"
                "moonjet_node_events_in_total{script=\"b\\\"c\",node=\"w\"} 1000\n"
                "moonjet_node_nanoseconds_total{script=\"b\\\"c\",node=\"w\"} 2000000\n"
                "moonjet_node_events_in_total{script=\"broken\n"
                "moonjet_node_events_in_total{script=\"broken\",node=\"x\"}\n"
                "moonjet_reader_delivered_total{reader=\"a.lua hook\"} 510\n"
                "moonjet_reader_delivered_total{reader=\"a.lua idle\"} 1\n"
                "moonjet_reader_waiting_events{reader=\"a.lua hook\"} 77\n"
                "moonjet_reader_lag_seconds{reader=\"a.lua hook\"} 12.5\n"
                "moonjet_reader_state{reader=\"a.lua hook\"} 1\n"
                "moonjet_reader_state{reader=\"a.lua idle\"} 99\n"
                "moonjet_node_events_in_total 7\n{\n \nx{a=\"\\"),
        3000000);
    assert_int_equal(now.count, 2);
    MJ_AUTO_BUF out = {0};
    mj__ctl_top(&before, &now, SIZE_MAX, &out);
    const char *text = mj_buf_cstr(&out);
    assert_non_null(strstr(text, "100 events/s in, 0 delivered to 7 subscribers"));
    const char *busy = strstr(text, "b\\\"c"), *idle = strstr(text, "a.lua");
    assert_true(busy && idle && busy < idle);
    assert_non_null(strstr(busy, "500"));  /* in/s */
    assert_non_null(strstr(busy, "2.00")); /* µs an event */
    const char *hook = strstr(text, "a.lua hook"), *other = strstr(text, "a.lua idle");
    assert_true(hook && other && idle < hook && hook < other);
    assert_int_equal(strcspn(hook, "\n"), strcspn(other, "\n"));
    assert_non_null(strstr(hook, "behind           250       0.0         0         77      12.5"));
    out.len = 0;
    mj__ctl_top(&before, &now, 4, &out);
    assert_null(strstr(mj_buf_cstr(&out), "a.lua"));
    /* After a restart counters begin at 0. */
    out.len = 0;
    before.at_us = 5000000;
    mj__ctl_top(&now, &before, SIZE_MAX, &out);
    assert_non_null(strstr(mj_buf_cstr(&out), "50 events/s in"));
    mj__ctl_sample_deinit(&before);
    mj__ctl_sample_deinit(&now);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_show),
        cmocka_unit_test(test_error),
        cmocka_unit_test(test_client),
        cmocka_unit_test(test_top),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
