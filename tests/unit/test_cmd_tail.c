/* moonjet tail: resuming without losing or printing an event twice, what it asks for, how it ends,
 * and that its pretty lines cannot steer a terminal. */
#include "support/wsserver.h"
#include "support/zdict.h"

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

static struct mj_buf dict; /* what the servers below compress with */

static void say_packed(struct visit *v, struct mj_span text, bool say_size)
{
    MJ_AUTO_BUF packed = {0};
    pack(&packed, text, mj_buf_span(&dict), say_size);
    say_message(v, MJ_WS_BINARY, packed.ptr, packed.len);
}

/* Some compressed, some not, and the connection breaks in between. */
static void serve_zstd(struct visit *v)
{
    accept_upgrade(v);
    for (int i = v->number ? 105 : 101; i <= (v->number ? 120 : 105); i++) {
        if (i % 4 == 0) {
            say_jet(v, i, i);
            continue;
        }
        MJ_AUTO_BUF text = {0};
        mj_buf_printf(&text, "{\"did\":\"did:plc:a\",\"time_us\":%d,\"kind\":\"x\"}", i);
        say_packed(v, mj_buf_span(&text), i & 1);
    }
    if (v->number)
        listen_out(v, true);
}

static void serve_one(struct visit *v)
{
    accept_upgrade(v);
    say_packed(v, MJ_SPAN("{\"did\":\"did:plc:a\",\"time_us\":1}"), true);
    listen_out(v, true);
}

static void serve_bomb(struct visit *v)
{
    accept_upgrade(v);
    MJ_AUTO_BUF zeros = {0};
    mj_buf_reserve(&zeros, MESSAGE_BYTES + 1);
    memset(zeros.ptr, ' ', MESSAGE_BYTES + 1);
    say_packed(v, mj_span(zeros.ptr, MESSAGE_BYTES + 1), false);
    listen_out(v, true);
}

static void serve_rubbish(struct visit *v)
{
    accept_upgrade(v);
    say_message(v, MJ_WS_BINARY, "{\"time_us\":1}", 13);
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

static void write_dictionary(char *file, uint32_t id)
{
    int fd = mkstemp(file);
    make_dictionary(&dict, id);
    assert_int_equal(write(fd, dict.ptr, dict.len), dict.len);
    close(fd);
}

static void test_zstd(void **state)
{
    (void)state;
    char file[] = "/tmp/moonjet-tail-dict-XXXXXX", url[64];
    write_dictionary(file, 77);
    struct server *s = server_start(serve_zstd, NULL);
    snprintf(url, sizeof url, "ws://127.0.0.1:%d", s->port);
    char *argv[] = {"tail", url, "--zstd", "--dictionary", file, "--count", "10"};
    MJ_AUTO_BUF out = {0};
    assert_int_equal(run_tail(MJ_COUNT(argv), argv, &out), MJ_EXIT_OK);
    server_join(s);
    expect_lines(&out, 101, 110);
    assert_non_null(strstr(s->v[0].request, "GET /subscribe?compress=true HTTP/1.1\r\n"));
    assert_non_null(strstr(s->v[1].request, "compress=true&cursor=105 HTTP/1.1\r\n"));
    server_stop(s);
    unlink(file);
    mj_buf_deinit(&dict);
}

/* Ends with status 1 and that close code, prints nothing, and does not try again. */
static void expect_undecodable(void (*serve)(struct visit *v), uint32_t dictionary, int code)
{
    char file[] = "/tmp/moonjet-tail-dict-XXXXXX", url[64];
    write_dictionary(file, dictionary);
    make_dictionary(&dict, 77);
    struct server *s = server_start(serve, NULL);
    snprintf(url, sizeof url, "ws://127.0.0.1:%d", s->port);
    char *argv[] = {"tail", url, "--zstd", "--dictionary", file};
    MJ_AUTO_BUF out = {0};
    assert_int_equal(run_tail(MJ_COUNT(argv), argv, &out), MJ_EXIT_FAILED);
    server_join(s);
    assert_int_equal(out.len, 0);
    assert_int_equal(atomic_load(&s->visits), 1);
    assert_int_equal(s->v[0].close_code, code);
    server_stop(s);
    unlink(file);
    mj_buf_deinit(&dict);
}

static void test_zstd_undecodable(void **state)
{
    (void)state;
    expect_undecodable(serve_one, 78, 1007); /* another dictionary than the server's */
    expect_undecodable(serve_bomb, 77, 1009);
    expect_undecodable(serve_rubbish, 77, 1007);
    char *argv[] = {"tail", "ws://127.0.0.1:1", "--zstd", "--dictionary", "/nowhere/dict"};
    MJ_AUTO_BUF out = {0};
    assert_int_equal(run_tail(MJ_COUNT(argv), argv, &out), MJ_EXIT_FAILED);
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
        cmocka_unit_test(test_zstd),
        cmocka_unit_test(test_zstd_undecodable),
        cmocka_unit_test(test_pretty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
