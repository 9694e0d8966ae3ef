/* jet.http, jet.serve and jet.resolve in real scripts, with the real net thread and a real server.
 * Tests ask the script's routes, as a client would, and so see what its functions got. */
#include <semaphore.h>
#include <signal.h>
#include <time.h>

#include "unit/script_fixture.h"

#include "base/clock.h"
#include "deliver/net.h"
#include "script/services.h"
#include "support/httpserver.h"

#define DID "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"

static struct httpserver server;
static struct mj_net *net;
static sem_t news;
static char routes[256];

static bool answer(struct httprequest *r)
{
    MJ_AUTO_BUF body = {0};
    if (mj_span_is(r->head.path, "/" DID))
        return http_reply(r, 200, "",
                          MJ_SPAN("{\"id\":\"" DID
                                  "\",\"service\":[{\"id\":\"#atproto_pds\",\"type\":"
                                  "\"AtprotoPersonalDataServer\",\"serviceEndpoint\":"
                                  "\"https://pds.example\"}]}"));
    if (mj_span_is(r->head.path, "/missing"))
        return http_reply(r, 404, "X-List: a\r\nX-List: b\r\n", MJ_SPAN("nothing"));
    struct mj_span type = mj_http_header(&r->head, "Content-Type"),
                   token = mj_http_header(&r->head, "X-Token");
    mj_buf_printf(&body, "%.*s %.*s|%.*s|%.*s|%.*s", (int)r->head.method.len, r->head.method.ptr,
                  (int)r->head.path.len, r->head.path.ptr, (int)type.len, type.ptr, (int)token.len,
                  token.ptr, (int)r->body.len, r->body.ptr);
    return http_reply(r, 200, "", mj_buf_span(&body));
}

static void on_news(void *ctx)
{
    (void)ctx;
    sem_post(&news);
}

static void fetch(void *ctx, uint64_t ticket, const struct mj_fetch *request)
{
    (void)ctx;
    mj_net_fetch(net, ticket, request);
}

static void resolve(void *ctx, uint64_t ticket, struct mj_span who, enum mj_resolve how)
{
    (void)ctx;
    mj_net_resolve(net, ticket, who, how);
}

static void publish(void *ctx, const char *const *list, size_t n)
{
    (void)ctx;
    routes[0] = 0;
    for (size_t i = 0; i < n; i++) {
        strncat(routes, list[i], sizeof routes - strlen(routes) - 1);
        strncat(routes, "\n", sizeof routes - strlen(routes) - 1);
    }
}

static const struct mj_services services = {
    .fetch = fetch, .resolve = resolve, .routes = publish, .wake = on_news};

static int setup(void **state)
{
    static char plc[64];
    static const char *const allow[] = {"127.0.0.1"};
    struct fixture *f = calloc(1, sizeof *f);
    MJ_AUTO_BUF error = {0};
    signal(SIGPIPE, SIG_IGN);
    sem_init(&news, 0, 0);
    http_start(&server, answer);
    snprintf(plc, sizeof plc, "http://127.0.0.1:%d/", server.port);
    struct mj_net_cfg cfg = {
        .allow = allow, .allow_count = 1, .plc = plc, .dns = "127.0.0.1:1", .wake = on_news};
    assert_int_equal(mj_net_start(&cfg, &net, &error), 0);
    fixture_open(f);
    mj_scripts_set_services(f->scripts, &services);
    routes[0] = 0;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_close(*state);
    free(*state);
    mj_net_stop(net);
    http_stop(&server);
    sem_destroy(&news);
    return 0;
}

struct asked {
    int status;
    struct mj_buf headers, body;
};

static void on_answer(void *ctx, int status, struct mj_span headers, struct mj_span body)
{
    struct asked *a = ctx;
    assert_int_equal(a->status, 0);
    a->status = status;
    mj_buf_put(&a->headers, headers.ptr, headers.len);
    mj_buf_put(&a->body, body.ptr, body.len);
}

/* What the router's thread does all day. */
static void run_until(struct fixture *f, const int *done)
{
    while (!*done) {
        mj_net_deliver(net, f->scripts);
        int64_t due = mj_scripts_run(f->scripts, 10000);
        if (*done || due == 0)
            continue;
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        int64_t us = (due < 0 ? 10000000 : due) + until.tv_nsec / 1000;
        until.tv_sec += us / 1000000;
        until.tv_nsec = us % 1000000 * 1000;
        if (sem_timedwait(&news, &until) && due < 0)
            fail_msg("nothing happens");
    }
}

/* "GET /path?query", then what the answer must be; "*" in front of the body: a piece of it. */
static void expect(struct fixture *f, const char *request, const char *sent, int status,
                   const char *headers, const char *body)
{
    struct asked a = {0};
    struct mj_span whole = mj_str(request);
    const char *blank = strchr(request, ' '), *query = strchr(request, '?');
    struct mj_route_request r = {.method = mj_span(request, (size_t)(blank - request)),
                                 .headers = MJ_SPAN("x-one: 1\r\nx-two: a\r\nx-two: b\r\n"),
                                 .body = mj_str(sent),
                                 .peer = MJ_SPAN("192.0.2.1")};
    r.path = mj_span(blank + 1, query ? (size_t)(query - blank) - 1
                                      : whole.len - (size_t)(blank - request) - 1);
    if (query)
        r.query = mj_str(query + 1);
    mj_scripts_serve(f->scripts, &r, on_answer, &a);
    run_until(f, &a.status);
    const char *text = mj_buf_cstr(&a.body);
    bool fits = *body == '*' ? strstr(text, body + 1) != NULL : strcmp(text, body) == 0;
    if (a.status != status || !fits || (headers && strcmp(mj_buf_cstr(&a.headers), headers) != 0))
        fail_msg("%s is answered %d\n%s\n%s", request, a.status, mj_buf_cstr(&a.headers), text);
    mj_buf_deinit(&a.headers);
    mj_buf_deinit(&a.body);
}

#define TEXT "Content-Type: text/plain; charset=utf-8\r\n"

static void serve(void **state)
{
    struct fixture *f = *state;
    fixture_load(
        f, "jet.serve('GET /text', function() return 'hello' end)\n"
           "jet.serve('GET /nothing', function() end)\n"
           "jet.serve('GET /teapot', function() return 418, 'short' end)\n"
           "jet.serve('GET /status', function() return 404 end)\n"
           "jet.serve('GET /headers', function() return 200, '<p>', "
           "  { ['content-type'] = 'text/html', ['X-N'] = 5 } end)\n"
           "jet.serve('POST /echo/*', function(r)\n"
           "  return table.concat({ r.method, r.path, r.body, r.peer, r.query.a or '-', "
           "  r.query['b c'] or '-', r.headers['x-one'], r.headers['x-two'] }, '|') end)\n"
           "local list = {}\n"
           "jet.serve('GET /json', function(r) return { a = jet.array(jet.array(list)), b = 1.5, "
           "  q = r.query } end)\n"
           "jet.serve('GET /bad', function() return { print } end)\n"
           "jet.serve('GET /typed', function() return 201, { 1 }, "
           "  { ['Content-Type'] = 'application/x' } end)\n"
           "jet.serve('GET /slow', function() jet.sleep '20ms' return 'slept' end)\n"
           "jet.serve('GET /error', function() error 'no' end)\n"
           "jet.serve('GET /table', function() return true end)\n"
           "jet.serve('GET /two', function() return 'a', 'b' end)\n"
           "jet.serve('GET /low', function() return 99, 'b' end)\n"
           "jet.serve('GET /break', function() return 200, '', { a = 'b\\nc: d' } end)\n"
           "jet.serve('GET /length', function() return 200, '', "
           "  { ['content-length'] = 1 } end)\n"
           "jet.serve('GET /name', function() return 200, '', { ['a:b'] = 1 } end)\n");
    assert_int_equal(strncmp(routes, "GET /text\nGET /nothing\n", 23), 0);
    expect(f, "GET /text", "", 200, TEXT, "hello");
    expect(f, "HEAD /text", "", 200, TEXT, "hello"); /* the server leaves the body out */
    expect(f, "GET /nothing", "", 204, TEXT, "");
    expect(f, "GET /teapot", "", 418, TEXT, "short");
    expect(f, "GET /status", "", 404, TEXT, "");
    expect(f, "GET /slow", "", 200, TEXT, "slept");
    expect(f, "GET /json", "", 200, "Content-Type: application/json\r\n",
           "{\"a\":[],\"b\":1.5,\"q\":{}}");
    expect(f, "GET /json", "", 200, NULL, "*[]");
    expect(f, "GET /typed", "", 201, "Content-Type: application/x\r\n", "[1]");
    expect(f, "GET /bad", "", 500, NULL, "*Internal");
    expect(f, "POST /echo/x/y?a=1%202&a=3&b+c=%zz", "body", 200, TEXT,
           "POST|/echo/x/y|body|192.0.2.1|1 2|%zz|1|a, b");
    expect(f, "GET /headers", "", 200, NULL, "<p>");
    static const char *const errors[] = {"GET /error", "GET /table",  "GET /two", "GET /low",
                                         "GET /break", "GET /length", "GET /name"};
    for (size_t i = 0; i < MJ_COUNT(errors); i++)
        expect(f, errors[i], "", 500, "Content-Type: application/json\r\n",
               "{\"message\":\"Internal Server Error\"}");
    expect(f, "GET /other", "", 404, NULL, "{\"message\":\"Not Found\"}");
    expect(f, "GET /echo/x", "", 404, NULL, "{\"message\":\"Not Found\"}");
    MJ_AUTO_BUF many = {0};
    mj_buf_puts(&many, "GET /text?");
    for (int i = 0; i < 1001; i++)
        mj_buf_puts(&many, "a&");
    expect(f, mj_buf_cstr(&many), "", 400, NULL, "*too many");

    /* The whole path first, then the longer prefix, whichever script has it. */
    fixture_load(f, "jet.serve('GET /echo/x', function() return 'whole' end)\n"
                    "jet.serve('GET /*', function() return 'rest' end)\n"
                    "jet.serve('GET /text', function() return 'never' end)\n");
    expect(f, "GET /echo/x", "", 200, TEXT, "whole");
    expect(f, "GET /echo/y", "", 200, TEXT, "rest");
    expect(f, "GET /text", "", 200, TEXT, "hello");
}

static void bad_routes(void **state)
{
    struct fixture *f = *state;
    static const char *const cases[][2] = {
        {"jet.serve('/x', print)", "\"GET /path\""},
        {"jet.serve('get /x', print)", "in capitals"},
        {"jet.serve('GET x', print)", "begins with \"/\""},
        {"jet.serve('GET /*/x', print)", "last \"/\""},
        {"jet.serve('GET /x?y', print)", "no blanks"},
        {"jet.serve('GET /subscribe', print)", "the server itself"},
        {"jet.serve('GET /stream/x/subscribe', print)", "the server itself"},
        {"jet.serve('GET /', print)", "the server itself"},
        {"jet.serve('GET /x')", "a route and a function"},
        {"jet.serve(print, print)", "a route and a function"},
        {"jet.serve('GET /x', print) jet.serve('GET /x', print)", "served already"},
        {"for i = 1, 201 do jet.serve('GET /x' .. i, print) end", "at most 200 routes"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        if (!fixture_try(f, cases[i][0]))
            fail_msg("%s loads", cases[i][0]);
        if (!strstr(mj_buf_cstr(&f->error), cases[i][1]) ||
            !strstr(mj_buf_cstr(&f->error), ".lua:1:"))
            fail_msg("%s: %s", cases[i][0], mj_buf_cstr(&f->error));
    }
    fixture_load(f, "jet.serve('GET /x', function() jet.serve('GET /y', print) end)");
    expect(f, "GET /x", "", 500, NULL, "*Internal");
}

/* A request in work when its script goes is answered all the same. */
static void gone(void **state)
{
    struct fixture *f = *state;
    struct asked a = {0};
    struct mj_route_request r = {.method = MJ_SPAN("GET"), .path = MJ_SPAN("/x")};
    fixture_load(f, "jet.serve('GET /x', function() jet.sleep '1h' end)");
    mj_scripts_serve(f->scripts, &r, on_answer, &a);
    mj_scripts_run(f->scripts, 10000);
    assert_int_equal(a.status, 0);
    mj_router_free(f->router);
    mj_scripts_free(f->scripts);
    assert_int_equal(a.status, 503);
    mj_buf_deinit(&a.headers);
    mj_buf_deinit(&a.body);
    f->router = mj_router_new(f->journal);
    f->scripts = mj_scripts_new(f->router);
}

static void http(void **state)
{
    struct fixture *f = *state;
    char source[4096], url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d", server.port);
    snprintf(
        source, sizeof source,
        "local url = '%s'\n"
        "jet.serve('GET /get', function() local r = jet.http.get(url .. '/a') "
        "  return r.status, r.body end)\n"
        "jet.serve('GET /post', function() return jet.http.post(url .. '/b', 'text', "
        "  { headers = { ['X-Token'] = 7 } }).body end)\n"
        "jet.serve('GET /put', function() return jet.http.request { method = 'PUT', "
        "  url = url .. '/c', body = '{}', headers = { ['content-type'] = 'a/b' } }.body end)\n"
        "jet.serve('GET /json', function() return jet.http.post(url .. '/b', { a = 1 }).body "
        "  end)\n"
        "jet.serve('GET /json2', function() return jet.http.request { url = url, method = "
        "  'PATCH', body = { 1 }, headers = { ['Content-type'] = 'x/y' } }.body end)\n"
        "jet.serve('GET /missing', function() local r = jet.http.get(url .. '/missing') "
        "  return r.headers['x-list'] .. r.status .. r.body end)\n"
        "jet.serve('GET /refused', function() local r, e = jet.http.get 'http://10.0.0.5/' "
        "  return tostring(r) .. ' ' .. e end)\n"
        "jet.serve('GET /both', function() local done = 0\n"
        "  for i = 1, 2 do jet.spawn(function() jet.http.get(url) done = done + 1 end) end\n"
        "  while done < 2 do jet.sleep '1ms' end return 'both' end)\n"
        "local function bad(...) local ok, e = pcall(...) return ok and 'fine' or e end\n"
        "jet.serve('GET /bad1', function() return bad(jet.http.get, 5) end)\n"
        "jet.serve('GET /bad2', function() return bad(jet.http.get, url, { time = 1 }) end)\n"
        "jet.serve('GET /bad3', function() return bad(jet.http.get, url, { timeout = '1h' }) "
        "  end)\n"
        "jet.serve('GET /bad4', function() return bad(jet.http.post, url, 'x', "
        "  { headers = { a = 'b\\r\\nc: d' } }) end)\n"
        "jet.serve('GET /bad5', function() return bad(jet.http.request, url) end)\n"
        "jet.serve('GET /bad6', function() return bad(jet.http.gett) end)\n"
        "jet.serve('GET /bad8', function() return select(2, pcall(function() "
        "  local r = jet.http.post(url, {}) return r end)) end)\n"
        "jet.serve('GET /bad7', function() return bad(jet.http.post, url, true) end)\n",
        url);
    fixture_load(f, source);
    expect(f, "GET /get", "", 200, TEXT, "GET /a|||");
    expect(f, "GET /post", "", 200, TEXT, "POST /b|text/plain; charset=utf-8|7|text");
    expect(f, "GET /put", "", 200, TEXT, "PUT /c|a/b||{}");
    expect(f, "GET /json", "", 200, TEXT, "POST /b|application/json||{\"a\":1}");
    expect(f, "GET /json2", "", 200, TEXT, "PATCH /|x/y||[1]");
    expect(f, "GET /missing", "", 200, TEXT, "a, b404nothing");
    expect(
        f, "GET /refused", "", 200, TEXT,
        "nil http://10.0.0.5: refused: 10.0.0.5 is a private address; --http-allow 10.0.0.5 lets "
        "scripts reach it");
    expect(f, "GET /both", "", 200, TEXT, "both");
    expect(f, "GET /bad1", "", 200, TEXT, "*jet.http.get wants the address as text, not number");
    expect(f, "GET /bad2", "", 200, TEXT, "*jet.http.get has no option 'time'");
    expect(f, "GET /bad3", "", 200, TEXT, "*'timeout' is 1ms to 10m");
    expect(f, "GET /bad4", "", 200, TEXT, "*the header 'a' has a line break in it");
    expect(f, "GET /bad5", "", 200, TEXT, "*jet.http.request wants a table");
    expect(f, "GET /bad8", "", 200, TEXT, "*s1.lua:19: jet.json.encode: an empty table");
    expect(f, "GET /bad7", "", 200, TEXT, "*wants the body as text or table, not boolean");
    assert_int_not_equal(fixture_try(f, "jet.http.get 'https://x.example'"), 0);
    assert_non_null(strstr(mj_buf_cstr(&f->error), "jet.http.get waits"));
    assert_int_not_equal(fixture_try(f, "jet.http.gett 'x'"), 0);
    assert_non_null(strstr(mj_buf_cstr(&f->error), "did you mean 'get'?"));
}

static void resolving(void **state)
{
    struct fixture *f = *state;
    fixture_load(f, "local function show(id, e) if not id then return e end\n"
                    "  return id.did .. '|' .. id.pds .. '|' .. tostring(id.handle) end\n"
                    "jet.serve('POST /who', function(r) return show(jet.resolve(r.body)) end)\n"
                    "jet.serve('GET /bad', function() return (select(2, pcall(jet.resolve))) end)");
    expect(f, "POST /who", DID, 200, TEXT, DID "|https://pds.example|nil");
    expect(f, "POST /who", DID, 200, TEXT, DID "|https://pds.example|nil");
    assert_int_equal(atomic_load(&server.requests), 1);
    expect(f, "POST /who", "nonsense", 200, TEXT, "nonsense: neither a DID nor a handle");
    expect(f, "GET /bad", "", 200, TEXT, "*jet.resolve wants a DID or a handle as text");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(serve), TEST(bad_routes), TEST(gone), TEST(http),
                                       TEST(resolving)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
