/* Outgoing HTTP against a real server: what is sent, what comes back, what is refused, and what the
 * limits do. */
#include "cmocka_all.h"

#include <dirent.h>
#include <dlfcn.h>
#include <netdb.h>
#include <semaphore.h>
#include <signal.h>
#include <zstd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/metrics.h"
#include "deliver/http.h"
#include "support/httpserver.h"

static struct httpserver server;
static struct mj_http *http;
static struct mj_reach *reach;

static bool answer(struct httprequest *r)
{
    struct mj_span path = r->head.path;
    MJ_AUTO_BUF body = {0};
    if (mj_span_is(path, "/echo")) {
        mj_buf_printf(&body, "%.*s %d\n", (int)r->head.method.len, r->head.method.ptr,
                      r->connection);
        for (size_t i = 0; i < r->head.count; i++)
            mj_buf_printf(&body, "%.*s=%.*s\n", (int)r->head.headers[i].name.len,
                          r->head.headers[i].name.ptr, (int)r->head.headers[i].value.len,
                          r->head.headers[i].value.ptr);
        mj_buf_printf(&body, "\n%.*s", (int)r->body.len, r->body.ptr);
        return http_reply(r, 200, "X-Mixed: Case\r\nSet-Cookie: a=b\r\n", mj_buf_span(&body));
    }
    if (mj_span_is(path, "/redirect"))
        return http_reply(r, 302, "Location: /echo\r\n", MJ_SPAN("over there"));
    if (mj_span_is(path, "/missing"))
        return http_reply(r, 404, "", MJ_SPAN("nothing"));
    if (mj_span_is(path, "/big")) {
        http_write(r, "HTTP/1.1 200 OK\r\n\r\n", 19);
        char piece[4096] = {0};
        for (int i = 0; i < 1000; i++)
            http_write(r, piece, sizeof piece);
        return false;
    }
    if (mj_span_is(path, "/bomb")) {
        static char zeros[8 << 20];
        mj_buf_reserve(&body, ZSTD_compressBound(sizeof zeros));
        body.len = ZSTD_compress(body.ptr, body.cap, zeros, sizeof zeros, 1);
        return http_reply(r, 200, "Content-Encoding: zstd\r\n", mj_buf_span(&body));
    }
    if (mj_span_is(path, "/small")) {
        mj_buf_reserve(&body, 1024);
        body.len = ZSTD_compress(body.ptr, body.cap, "unfolded", 8, 1);
        return http_reply(r, 200, "Content-Encoding: zstd\r\n", mj_buf_span(&body));
    }
    if (mj_span_is(path, "/headers")) {
        http_write(r, "HTTP/1.1 200 OK\r\n", 17);
        static const char line[] = "X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n";
        for (int i = 0; i < 2000; i++)
            http_write(r, line, sizeof line - 1);
        http_write(r, "\r\n", 2);
        return false;
    }
    if (mj_span_is(path, "/lines")) {
        int64_t n = 0;
        mj_span_i64(r->head.query, &n);
        http_write(r, "HTTP/1.1 200 OK\r\n", 17);
        while (n--)
            http_write(r, "a:\r\n", 4);
        http_write(r, "\r\n", 2);
        return false;
    }
    if (mj_span_is(path, "/garbage")) {
        http_write(r, "\0\1\2 what is this\r\n\r\n", 19);
        return false;
    }
    if (mj_span_is(path, "/close"))
        return false;
    http_hold(r); /* anything else waits */
    return http_reply(r, 200, "", MJ_SPAN("held"));
}

static void start(struct mj_http_cfg cfg, const char *allow)
{
    MJ_AUTO_BUF error = {0};
    signal(SIGPIPE, SIG_IGN);
    http_start(&server, answer);
    reach = mj_reach_new();
    if (allow)
        assert_int_equal(mj_reach_allow(reach, allow, &error), 0);
    cfg.reach = reach;
    assert_int_equal(mj_http_start(&cfg, &http), 0);
}

static void stop(void)
{
    mj_http_stop(http);
    http_stop(&server);
    mj_reach_free(reach);
}

struct reply {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
    int status;
    struct mj_buf error, headers, body;
};

static void on_done(void *ctx, const struct mj_fetched *a)
{
    struct reply *r = ctx;
    pthread_mutex_lock(&r->lock);
    assert_false(r->done);
    r->done = true;
    r->status = a->status;
    if (a->error)
        mj_buf_puts(&r->error, a->error);
    mj_buf_put(&r->headers, a->headers.ptr, a->headers.len);
    mj_buf_put(&r->body, a->body.ptr, a->body.len);
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void reply_init(struct reply *r)
{
    *r = (struct reply){0};
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
}

static void await(struct reply *r)
{
    pthread_mutex_lock(&r->lock);
    while (!r->done)
        pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

static void reply_deinit(struct reply *r)
{
    mj_buf_deinit(&r->error);
    mj_buf_deinit(&r->headers);
    mj_buf_deinit(&r->body);
}

/* The server's URL with that path, or `where` as it is when it has a scheme; "PORT" is replaced. */
static const char *url_of(const char *where)
{
    static char url[512];
    if (!strstr(where, "://")) {
        snprintf(url, sizeof url, "http://127.0.0.1:%d%s", server.port, where);
        return url;
    }
    const char *port = strstr(where, "PORT");
    if (port)
        snprintf(url, sizeof url, "%.*s%d%s", (int)(port - where), where, server.port, port + 4);
    else
        snprintf(url, sizeof url, "%s", where);
    return url;
}

static struct mj_fetch request(const char *where)
{
    return (struct mj_fetch){.script = "test.lua",
                             .method = MJ_SPAN("GET"),
                             .url = mj_str(url_of(where)),
                             .timeout_us = 10000000,
                             .max_bytes = 1 << 20};
}

static void ask(struct reply *r, const struct mj_fetch *f)
{
    reply_init(r);
    mj_http_send(http, f, false, on_done, r);
    await(r);
}

/* Asks, and expects that answer: a status, or, with 0, a piece of the error. */
static void expect(const struct mj_fetch *f, int status, const char *piece)
{
    struct reply r;
    ask(&r, f);
    const char *text = mj_buf_cstr(status ? &r.body : &r.error);
    if (r.status != status || (piece && !strstr(text, piece)))
        fail_msg("%.*s: status %d, \"%s\", %.300s", (int)f->url.len, f->url.ptr, r.status,
                 mj_buf_cstr(&r.error), mj_buf_cstr(&r.body));
    reply_deinit(&r);
}

static void expect_url(const char *where, int status, const char *piece)
{
    struct mj_fetch f = request(where);
    expect(&f, status, piece);
}

static void requests(void **state)
{
    (void)state;
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    start((struct mj_http_cfg){0}, "127.0.0.1");
    struct mj_fetch f = request("/echo");
    struct reply r;
    ask(&r, &f);
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(mj_buf_cstr(&r.headers), "x-mixed: Case\r\n"));
    assert_null(strstr(mj_buf_cstr(&r.headers), "content-length"));
    const char *body = mj_buf_cstr(&r.body);
    assert_int_equal(strncmp(body, "GET 1\n", 6), 0);
    assert_non_null(strstr(body, "User-Agent=moonjet/"));
    assert_null(strcasestr(body, "content-type"));
    assert_null(strcasestr(body, "cookie"));
    reply_deinit(&r);

    expect_url("/echo", 200, "GET 1\n"); /* the same connection, and no cookie */
    f.method = MJ_SPAN("POST");
    f.body = MJ_SPAN("some text");
    expect(&f, 200, "Content-Type=text/plain; charset=utf-8\n");
    expect(&f, 200, "Content-Length=9\n");
    expect(&f, 200, "\n\nsome text");
    f.headers = MJ_SPAN("Content-Type: application/json\r\nX-Token: a b\r\nUser-Agent: me\r\n"
                        "X-Empty:\r\n");
    expect(&f, 200, "Content-Type=application/json\nX-Token=a b\nUser-Agent=me\nX-Empty=\n");
    f.body = (struct mj_span){0};
    expect(&f, 200, "Content-Length=0\n");
    f.method = MJ_SPAN("PUT");
    expect(&f, 200, "PUT ");
    f.method = MJ_SPAN("DELETE");
    expect(&f, 200, "DELETE ");
    f.method = MJ_SPAN("HEAD");
    ask(&r, &f);
    assert_int_equal(r.status, 200);
    assert_int_equal(r.body.len, 0);
    assert_non_null(strstr(mj_buf_cstr(&r.headers), "content-length: "));
    reply_deinit(&r);
    expect_url("/redirect", 302, "over there");
    expect_url("/missing", 404, "nothing");
    expect_url("/small", 200, "unfolded");
    stop();
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
}

static void bad_requests(void **state)
{
    (void)state;
    static const char *const urls[] = {"ftp://127.0.0.1/",   "file:///etc/passwd",
                                       "nonsense",           "http://",
                                       "http://a b/",        "://x",
                                       "gopher://localhost", "http:///x",
                                       "javascript:1://"};
    start((struct mj_http_cfg){0}, "127.0.0.1");
    for (size_t i = 0; i < MJ_COUNT(urls); i++) {
        struct mj_fetch f = request("/echo");
        f.url = mj_str(urls[i]);
        expect(&f, 0, "");
    }
    struct mj_fetch f = request("/echo");
    f.url = MJ_SPAN("http://127.0.0.1\0.evil/");
    expect(&f, 0, "not a URL");
    expect_url("http://user:secret@127.0.0.1:PORT/echo", 0, "Authorization");
    static const char *const headers[] = {
        "No colon\r\n",   ": empty\r\n",           "A B: c\r\n",        "A: b\nC: d\r\n",
        "A: b\rC: d\r\n", "Content-Length: 3\r\n", "connection: x\r\n", "A: \x7f\r\n"};
    f = request("/echo");
    for (size_t i = 0; i < MJ_COUNT(headers); i++) {
        f.headers = mj_str(headers[i]);
        expect(&f, 0, "header");
    }
    f.headers = MJ_SPAN("A: b\0c\r\n");
    expect(&f, 0, "header");
    f = request("/echo");
    static const char *const methods[] = {"", "G T", "CONNECT", "TRACE", "G\r\nX: y"};
    for (size_t i = 0; i < MJ_COUNT(methods); i++) {
        f.method = mj_str(methods[i]);
        expect(&f, 0, "");
    }
    assert_int_equal(atomic_load(&server.requests), 0);
    stop();
}

/* Ways to say "this machine". */
static void private_addresses(void **state)
{
    (void)state;
    static const char *const urls[] = {
        "http://127.0.0.1:PORT/echo",
        "http://2130706433:PORT/echo",
        "http://0x7f000001:PORT/echo",
        "http://0177.0.0.1:PORT/echo",
        "http://127.1:PORT/echo",
        "http://localhost:PORT/echo",
        "http://0.0.0.0:PORT/echo",
        "http://0:PORT/echo",
        "http://[::1]:PORT/echo",
        "http://[::]:PORT/echo",
        "http://[::ffff:127.0.0.1]:PORT/echo",
        "http://[64:ff9b::7f00:1]:PORT/echo",
        "http://a.example:PORT/echo",
        "http://127.0.0.1.:PORT/echo",
        "http://\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1:PORT/echo"};
    char name[64];
    const char *names[] = {name, NULL};
    http_start(&server, answer);
    snprintf(name, sizeof name, "a.example:%d:127.0.0.1:%d", server.port, server.port);
    struct mj_http_cfg cfg = {.connect_to = names};
    assert_int_equal(mj_http_start(&cfg, &http), 0);
    for (size_t i = 0; i < MJ_COUNT(urls); i++) {
        struct mj_fetch f = request(urls[i]);
        expect(&f, 0, "");
    }
    expect_url("http://a.example:PORT/echo?token=secret", 0,
               ": refused: 127.0.0.1 is a loopback address; --http-allow 127.0.0.1 lets scripts "
               "reach it");
    struct reply r;
    struct mj_fetch f = request("http://127.0.0.1:PORT/hidden?token=secret");
    ask(&r, &f);
    assert_null(strstr(mj_buf_cstr(&r.error), "hidden"));
    reply_deinit(&r);
    assert_int_equal(atomic_load(&server.requests), 0);
    assert_int_equal(atomic_load(&server.connections), 0);

    /* A connection that was opened for somebody trusted is not for everybody. */
    f = request("/echo");
    reply_init(&r);
    mj_http_send(http, &f, true, on_done, &r);
    await(&r);
    assert_int_equal(r.status, 200);
    reply_deinit(&r);
    expect_url("/echo", 0, "refused: 127.0.0.1 is a loopback address");
    assert_int_equal(atomic_load(&server.requests), 1);
    mj_http_stop(http);
    http_stop(&server);
    http = NULL;

    /* Allowed by name: then its address does not matter; other names of it stay refused. */
    http_start(&server, answer);
    snprintf(name, sizeof name, "a.example:%d:127.0.0.1:%d", server.port, server.port);
    reach = mj_reach_new();
    MJ_AUTO_BUF error = {0};
    assert_int_equal(mj_reach_allow(reach, "a.example", &error), 0);
    cfg.reach = reach;
    assert_int_equal(mj_http_start(&cfg, &http), 0);
    expect_url("http://a.example:PORT/echo", 200, "GET 1");
    expect_url("http://127.0.0.1:PORT/echo", 0, "refused");
    stop();
}

static void answers(void **state)
{
    (void)state;
    start((struct mj_http_cfg){0}, "127.0.0.0/8");
    expect_url("/big", 0, "the answer is larger than max_bytes, 1048576");
    expect_url("/bomb", 0, "the answer is larger than max_bytes, 1048576");
    static const char headers[] = "the answer's headers are larger than 64 KiB or more than 256";
    expect_url("/headers", 0, headers);
    expect_url("/lines?256", 200, "");
    expect_url("/lines?257", 0, headers);
    expect_url("/garbage", 0, "");
    expect_url("/close", 0, "");
    struct mj_fetch f = request("/hold");
    f.timeout_us = 50000;
    expect(&f, 0, "no answer within 50ms");
    expect_url("https://127.0.0.1:PORT/echo", 0, ""); /* it does not speak TLS */
    expect_url("http://no-such-host.invalid/", 0, "no host of that name is known");
    f = request("/missing");
    f.max_bytes = 7;
    expect(&f, 404, "nothing");
    f.max_bytes = 6;
    expect(&f, 0, "max_bytes, 6");
    stop();
}

/* Turns: at most so many to a host and of a script; those who wait pay with their timeout. */
static void turns(void **state)
{
    (void)state;
    enum { N = 12 };
    struct reply r[N];
    start((struct mj_http_cfg){.max_per_host = 3}, "127.0.0.1");
    struct mj_fetch f = request("/hold");
    for (int i = 0; i < N; i++) {
        reply_init(&r[i]);
        mj_http_send(http, &f, false, on_done, &r[i]);
    }
    /* Another host is not held up: this one is named differently. */
    f = request("/hold");
    f.timeout_us = 50000;
    expect(&f, 0, "had no turn before its timeout");
    expect_url("http://127.0.0.1:1/", 0, "");
    http_release(&server);
    for (int i = 0; i < N; i++) {
        await(&r[i]);
        assert_int_equal(r[i].status, 200);
        reply_deinit(&r[i]);
    }
    assert_int_equal(atomic_load(&server.most_open), 3);
    stop();

    start((struct mj_http_cfg){.max_per_script = 2}, "127.0.0.1");
    f = request("/hold");
    for (int i = 0; i < N; i++) {
        reply_init(&r[i]);
        mj_http_send(http, &f, false, on_done, &r[i]);
    }
    f = request("/echo");
    f.script = "other.lua";
    expect(&f, 200, "GET "); /* another script is not held up */
    mj_http_stop(http);      /* with requests on their way */
    for (int i = 0; i < N; i++) {
        await(&r[i]);
        assert_int_equal(r[i].status, 0);
        assert_non_null(strstr(mj_buf_cstr(&r[i].error), "Moonjet is stopping"));
        reply_deinit(&r[i]);
    }
    http = NULL;
    http_stop(&server);
    mj_reach_free(reach);

    start((struct mj_http_cfg){.max_waiting = 4}, "127.0.0.1");
    f = request("/hold");
    for (int i = 0; i < 2; i++) {
        reply_init(&r[i]);
        mj_http_send(http, &f, false, on_done, &r[i]);
    }
    expect_url("/echo", 0, "too many requests of the script are waiting");
    f.script = "other.lua";
    for (int i = 2; i < 4; i++) {
        reply_init(&r[i]);
        mj_http_send(http, &f, false, on_done, &r[i]);
    }
    f.script = "third.lua";
    expect(&f, 0, "too many requests are waiting");
    http_release(&server);
    for (int i = 0; i < 4; i++) {
        await(&r[i]);
        reply_deinit(&r[i]);
    }
    expect_url("/echo", 200, "GET ");
    stop();

    /* The same for bytes: the body of one that waits takes the script's half. */
    start((struct mj_http_cfg){.max_bytes = 256 << 10}, "127.0.0.1");
    static uint8_t large[100 << 10];
    f = request("/hold");
    f.body = mj_span(large, sizeof large);
    reply_init(&r[0]);
    mj_http_send(http, &f, false, on_done, &r[0]);
    f = request("/echo");
    f.body = mj_span(large, 40 << 10);
    expect(&f, 0, "too many requests of the script are waiting");
    f.script = "other.lua";
    expect(&f, 200, "GET");
    http_release(&server);
    await(&r[0]);
    reply_deinit(&r[0]);
    stop();
}

/* Stands in front of the C library's, for libcurl's threads: a name server that says nothing. */
static sem_t silence;
static _Atomic int looking;
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (host && strstr(host, "silent")) {
        looking++;
        sem_wait(&silence);
        return EAI_AGAIN;
    }
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(host, service, hints, out);
}

static int threads(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/task");
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* A look-up that is given up goes on in a thread: there are not many of those. */
static void silent_names(void **state)
{
    (void)state;
    char where[64];
    int before = threads();
    sem_init(&silence, 0, 0);
    start((struct mj_http_cfg){.max_per_script = 2, .linger_us = 600000000}, "127.0.0.1");
    /* Four that were being looked up; on a busy machine some have no turn before that. */
    for (int i = 0, lingering = 0; lingering < 4; i++) {
        struct reply r;
        snprintf(where, sizeof where, "http://silent%d.example/", i);
        struct mj_fetch f = request(where);
        f.timeout_us = 50000;
        ask(&r, &f);
        lingering += strstr(mj_buf_cstr(&r.error), "no answer within 50ms") != NULL;
        reply_deinit(&r);
    }
    for (int i = 0; i < 4; i++) {
        struct mj_fetch f = request("http://silent.example/");
        f.timeout_us = 50000;
        expect(&f, 0, "had no turn before its timeout");
    }
    assert_true(atomic_load(&looking) <= 4);
    struct mj_fetch f = request("/echo");
    f.script = "other.lua";
    expect(&f, 200, "GET ");
    for (int i = 0; i < 4; i++)
        sem_post(&silence);
    stop();
    for (int i = 0; i < 10000 && threads() > before; i++)
        usleep(1000); /* what they hold would be a leak */

    /* What times out later leaves nothing behind. */
    char to[64];
    const char *connect_to[] = {to, NULL};
    start((struct mj_http_cfg){0}, "a.example");
    snprintf(to, sizeof to, "a.example:%d:127.0.0.1:%d", server.port, server.port);
    mj_http_stop(http);
    struct mj_http_cfg cfg = {.reach = reach, .max_per_script = 1, .connect_to = connect_to};
    assert_int_equal(mj_http_start(&cfg, &http), 0);
    f = request("http://a.example:PORT/hold");
    f.timeout_us = 20000;
    for (int i = 0; i < 4; i++)
        expect(&f, 0, "");
    expect_url("http://a.example:PORT/echo", 200, "GET ");
    stop();
}

/* What one script may reach, another may not. */
static void per_script(void **state)
{
    (void)state;
    start((struct mj_http_cfg){0}, NULL);
    struct mj_reach *mine = mj_reach_new();
    MJ_AUTO_BUF error = {0};
    struct mj_fetch f = request("/echo"), other = f;
    other.script = "other.lua";
    assert_int_equal(mj_reach_allow(mine, "127.0.0.1", &error), 0);
    expect(&f, 0, "refused");
    mj_http_allow(http, "test.lua", mine);
    expect(&f, 200, "GET 1");
    expect(&other, 0, "refused");
    mj_http_allow(http, "test.lua", NULL);
    expect(&f, 0, "refused");
    stop();
}

static int64_t value(const char *series)
{
    MJ_AUTO_BUF text = {0};
    mj_metrics_render(&text);
    const char *at = strstr(mj_buf_cstr(&text), series);
    return at ? atoll(at + strlen(series)) : 0;
}

static void metrics(void **state)
{
    (void)state;
    static const char ok[] = "moonjet_http_requests_total{script=\"m.lua\",status=\"2xx\"}",
                      gone[] = "moonjet_http_requests_total{script=\"m.lua\",status=\"4xx\"}",
                      error[] = "moonjet_http_requests_total{script=\"m.lua\",status=\"error\"}",
                      refused[] =
                          "moonjet_http_requests_total{script=\"m.lua\",status=\"refused\"}";
    start((struct mj_http_cfg){0}, "127.0.0.1");
    struct mj_fetch f = request("/echo");
    f.script = "m.lua";
    expect(&f, 200, "");
    f.url = mj_str(url_of("/missing"));
    expect(&f, 404, "");
    f.url = mj_str(url_of("/close"));
    expect(&f, 0, "");
    f.url = mj_str(url_of("http://[::1]:PORT/"));
    expect(&f, 0, "refused");
    assert_int_equal(value(ok), 1);
    assert_int_equal(value(gone), 1);
    assert_int_equal(value(error), 1);
    assert_int_equal(value(refused), 1);
    assert_int_equal(value("moonjet_http_in_flight"), 0);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(requests),
                                       cmocka_unit_test(bad_requests),
                                       cmocka_unit_test(private_addresses),
                                       cmocka_unit_test(answers),
                                       cmocka_unit_test(turns),
                                       cmocka_unit_test(silent_names),
                                       cmocka_unit_test(per_script),
                                       cmocka_unit_test(metrics)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
