/* moonjet tail: resuming without losing or printing an event twice, what it asks for, how it ends,
 * and that its pretty lines cannot steer a terminal. */
#include "support/wsserver.h"

#include "cli/cmd_tail.c"
#include "cli/pretty.c"

static void say_jet(struct visit *v, int from, int to)
{
    for (int i = from; i <= to; i++) {
        char text[128];
        int n =
            snprintf(text, sizeof text, "{\"did\":\"did:plc:a\",\"time_us\":%d,\"kind\":\"x\"}", i);
        say_message(v, MJ_WS_TEXT, text, (size_t)n);
    }
}

static void serve_jet(struct visit *v)
{
    accept_upgrade(v);
    if (v->number == 0) {
        say_jet(v, 101, 105);
        return;
    }
    say_jet(v, 105, 120); /* the cursor is inclusive */
    listen_out(v, true);
}

static void serve_binary(struct visit *v)
{
    accept_upgrade(v);
    if (v->number == 0)
        say_message(v, MJ_WS_BINARY, "x", 1);
    else
        say_jet(v, 101, 105);
    listen_out(v, true);
}

static void serve_refusal(struct visit *v)
{
    say_text(v, "HTTP/1.1 400 Bad Request\r\nContent-Length: 20\r\n\r\ninvalid cursor: abc\n");
}

/* Runs the command with stdout in *out; returns its exit status. */
static int run_tail(int argc, char **argv, struct mj_buf *out)
{
    char file[] = "/tmp/moonjet-tail-XXXXXX";
    int fd = mkstemp(file), saved = dup(STDOUT_FILENO), errors = dup(STDERR_FILENO);
    int null = open("/dev/null", O_WRONLY);
    fflush(stdout);
    dup2(fd, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    int status = mj_cmd_tail.main(&mj_cmd_tail, argc, argv);
    dup2(saved, STDOUT_FILENO);
    dup2(errors, STDERR_FILENO);
    lseek(fd, 0, SEEK_SET);
    mj_buf_reserve(out, 1 << 16);
    ssize_t n = read(fd, out->ptr, 1 << 16);
    assert_true(n >= 0);
    out->len = (size_t)n;
    close(fd);
    close(saved);
    close(errors);
    close(null);
    unlink(file);
    return status;
}

static void expect_lines(struct mj_buf *out, int from, int to)
{
    MJ_AUTO_BUF want = {0};
    for (int i = from; i <= to; i++)
        mj_buf_printf(&want, "{\"did\":\"did:plc:a\",\"time_us\":%d,\"kind\":\"x\"}\n", i);
    assert_string_equal(mj_buf_cstr(out), mj_buf_cstr(&want));
}

static void test_resume(void **state)
{
    (void)state;
    struct server *s = server_start(serve_jet, NULL);
    char url[64];
    snprintf(url, sizeof url, "ws://127.0.0.1:%d?cursor=0&x=1", s->port);
    char *argv[] = {"tail",        url,       "--collection", "app.bsky.feed.*", "--did",
                    "did:plc:a b", "--count", "10",           "--max-size",      "4K"};
    MJ_AUTO_BUF out = {0};
    assert_int_equal(run_tail(MJ_COUNT(argv), argv, &out), MJ_EXIT_OK);
    server_join(s);
    expect_lines(&out, 101, 110);
    assert_non_null(strstr(s->v[0].request,
                           "GET /subscribe?cursor=0&x=1&wantedCollections=app.bsky.feed.*"
                           "&wantedDids=did:plc:a%20b&maxMessageSizeBytes=4096 HTTP/1.1\r\n"));
    assert_non_null(strstr(s->v[1].request, "&maxMessageSizeBytes=4096&cursor=105 HTTP/1.1\r\n"));
    assert_null(strstr(s->v[1].request, "cursor=0"));
    server_stop(s);
}

static void test_explicit_cursor(void **state)
{
    (void)state;
    struct server *s = server_start(serve_binary, NULL);
    char url[64];
    snprintf(url, sizeof url, "ws://127.0.0.1:%d/stream/x/subscribe?cursor=7", s->port);
    char *argv[] = {"tail", url, "--cursor", "101", "--count", "5"};
    MJ_AUTO_BUF out = {0};
    assert_int_equal(run_tail(MJ_COUNT(argv), argv, &out), MJ_EXIT_OK);
    server_join(s);
    expect_lines(&out, 101, 105); /* the first one of a given cursor is printed */
    assert_int_equal(s->v[0].close_code, 1003);
    for (int i = 0; i < 2; i++)
        assert_non_null(strstr(s->v[i].request, "GET /stream/x/subscribe?cursor=101 HTTP"));
    server_stop(s);
}

static void test_refused_by_server(void **state)
{
    (void)state;
    struct server *s = server_start(serve_refusal, NULL);
    char url[64];
    snprintf(url, sizeof url, "ws://127.0.0.1:%d", s->port);
    char *argv[] = {"tail", url};
    MJ_AUTO_BUF out = {0};
    assert_int_equal(run_tail(2, argv, &out), MJ_EXIT_FAILED);
    server_join(s);
    assert_int_equal(out.len, 0);
    assert_int_equal(atomic_load(&s->visits), 1); /* asking again would not help */
    char *nonsense[] = {"tail", "example.com"};
    assert_int_equal(run_tail(2, nonsense, &out), MJ_EXIT_USAGE);
    server_stop(s);
}

static void expect_pretty(const char *json, const char *want)
{
    MJ_AUTO_BUF out = {0};
    mj_pretty(mj_str(json), false, &out);
    assert_string_equal(mj_buf_cstr(&out), want);
}

static void test_pretty(void **state)
{
    (void)state;
    expect_pretty(
        "{\"did\":\"did:plc:ewvi7nxzyoun6zhxrhs64oiz\",\"time_us\":52000000,"
        "\"kind\":\"commit\",\"commit\":{\"operation\":\"create\",\"collection\":"
        "\"app.bsky.feed.post\",\"rkey\":\"r\",\"record\":{\"text\":\"hi\\n  \xc3\xa4\"}}}",
        "00:00:52  + post         did:plc:ewvi7nxzyoun6zhxrhs64oiz  hi \xc3\xa4\n");
    expect_pretty(
        "{\"did\":\"did:plc:ewvi7nxzyoun6zhxrhs64oiz\",\"time_us\":1,\"kind\":\"commit\","
        "\"commit\":{\"operation\":\"delete\",\"collection\":\"x.y.like\",\"rkey\":\"rk\"}}",
        "00:00:00  - like         did:plc:ewvi7nxzyoun6zhxrhs64oiz  rk\n");
    expect_pretty(
        "{\"did\":\"did:plc:ewvi7nxzyoun6zhxrhs64oiz\",\"time_us\":1,\"kind\":\"account\","
        "\"account\":{\"active\":false,\"status\":\"deleted\"}}",
        "00:00:00  @ account      did:plc:ewvi7nxzyoun6zhxrhs64oiz  inactive deleted\n");
    /* Escape sequences, C1 controls, a direction override and a forged line. */
    expect_pretty("{\"did\":\"did:web:a\\u001b[2J\",\"time_us\":1,\"kind\":\"commit\",\"commit\":{"
                  "\"operation\":\"update\",\"collection\":\"a.b.c\\u0007\",\"record\":{\"text\":"
                  "\"x\\u001b]0;y\\u009b1m\\u202ez\\r\\n00:00:00  + post\"}}}",
                  "00:00:00  ~ c            did:web:a [2J                     "
                  "x ]0;y 1m z 00:00:00 + post\n");
    expect_pretty("not \x1b[31mJSON\xff!", "not [31mJSON !\n");
    MJ_AUTO_BUF json = {0}, want = {0};
    mj_buf_puts(&json, "{\"did\":\"did:plc:ewvi7nxzyoun6zhxrhs64oiz\",\"time_us\":1,\"kind\":"
                       "\"commit\",\"commit\":{\"operation\":\"create\",\"collection\":\"a.b.c\","
                       "\"record\":{\"text\":\"");
    mj_buf_puts(&want, "00:00:00  + c            did:plc:ewvi7nxzyoun6zhxrhs64oiz  ");
    for (int i = 0; i < 200; i++) {
        mj_buf_puts(&json, "\xe9\x9b\xa8");
        if (i < TEXT_CHARS)
            mj_buf_puts(&want, "\xe9\x9b\xa8");
    }
    mj_buf_puts(&json, "\"}}}");
    mj_buf_puts(&want, "…\n");
    expect_pretty(mj_buf_cstr(&json), mj_buf_cstr(&want));
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_explicit_cursor),
        cmocka_unit_test(test_refused_by_server),
        cmocka_unit_test(test_pretty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
