/* Calls: requests to scripts' routes and commands on the control socket, answered by another
 * thread; and clients that are slow, wrong or gone meanwhile. */
#include "cmocka_all.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/err.h"
#include "support/jetserver.h"

static struct jetserver jet;
static struct mj_calls *calls;
static struct mj_routes *routes;
static sem_t news;
static char dir[64], control[100];

static void on_news(void *ctx)
{
    (void)ctx;
    sem_post(&news);
}

/* The other thread: says what it was asked, until somebody posts /quit. Calls for /hold are kept
 * until one for /release comes. */
static void *answering(void *arg)
{
    (void)arg;
    struct mj_call *held[8];
    size_t n = 0;
    for (;;) {
        struct mj_call *c = mj_calls_take(calls);
        if (!c) {
            sem_wait(&news);
            continue;
        }
        if (mj_span_is(c->path, "/hold")) {
            held[n++] = c;
            continue;
        }
        if (mj_span_is(c->path, "/release"))
            while (n)
                mj_call_answer(held[--n], 200, mj_span(NULL, 0), MJ_SPAN("\"late\""));
        bool quit = mj_span_is(c->path, "/quit");
        if (mj_span_is(c->path, "fail")) {
            mj_call_fail(c, 400, "no %s", "\"luck\"");
            continue;
        }
        MJ_AUTO_BUF body = {0};
        mj_buf_printf(&body, "%s|%.*s|%.*s|%.*s|%.*s|%zu|", c->kind == MJ_CALL_ROUTE ? "r" : "c",
                      (int)c->method.len, c->method.ptr, (int)c->path.len, c->path.ptr,
                      (int)c->query.len, c->query.ptr, (int)c->peer.len, c->peer.ptr, c->body.len);
        mj_buf_put(&body, c->body.ptr, c->body.len < 100 ? c->body.len : 100);
        mj_buf_putc(&body, '|');
        mj_buf_put(&body, c->headers.ptr, c->headers.len);
        mj_call_answer(c, 201, MJ_SPAN("Content-Type: text/plain\r\nX-Odd: 1\r\n"),
                       mj_buf_span(&body));
        if (quit)
            return NULL;
    }
}

static pthread_t answerer;

static void start(struct mj_server_cfg cfg)
{
    static const char *const table[] = {"GET /hello", "POST /hello",  "POST /hooks/*", "GET /hold",
                                        "GET /quit",  "GET /release", "not a route",   "GET /a b"};
    sem_init(&news, 0, 0);
    strcpy(dir, "/tmp/moonjet-calls-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(control, sizeof control, "%s/control.sock", dir);
    calls = mj_calls_new(on_news, NULL);
    routes = mj_routes_new();
    mj_routes_set(routes, table, MJ_COUNT(table));
    cfg.request = mj_calls_put;
    cfg.request_ctx = calls;
    cfg.routes = routes;
    cfg.control = control;
    jet_start(&jet, cfg, 1 << 20);
    assert_int_equal(pthread_create(&answerer, NULL, answering, NULL), 0);
}

static struct wsclient *ask(const char *request);

static void stop(void)
{
    ws_free(ask("GET /quit HTTP/1.1\r\nHost: x\r\n\r\n"));
    pthread_join(answerer, NULL);
    jet_stop(&jet);
    mj_calls_free(calls);
    mj_routes_free(routes);
    sem_destroy(&news);
    assert_int_equal(access(control, F_OK), -1);
    assert_int_equal(rmdir(dir), 0);
}

static struct wsclient *ask(const char *request)
{
    return ws_request(mj_server_port(jet.server), request);
}

static const char *body_of(struct wsclient *c)
{
    return strstr(mj_buf_cstr(&c->head), "\r\n\r\n") + 4;
}

static void expect(const char *request, int status, const char *head, const char *body)
{
    struct wsclient *c = ask(request);
    if (c->status != status || (head && !strcasestr(mj_buf_cstr(&c->head), head)) ||
        strncmp(body_of(c), body, strlen(body)) != 0)
        fail_msg("%s\nis answered by\n%s", request, mj_buf_cstr(&c->head));
    ws_free(c);
}

static int connect_control(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = 10};
    strcpy(at.sun_path, control);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

static void expect_control(const char *request, const char *head, const char *body)
{
    int fd = connect_control();
    MJ_AUTO_BUF in = {0};
    char piece[4096];
    ssize_t n;
    tcp_send(fd, request, strlen(request));
    while ((n = recv(fd, piece, sizeof piece, 0)) > 0)
        mj_buf_put(&in, piece, (size_t)n);
    assert_int_equal(n, 0);
    close(fd);
    const char *text = mj_buf_cstr(&in), *b = strstr(text, "\r\n\r\n");
    if (strncmp(text, head, strlen(head)) != 0 || !b || strncmp(b + 4, body, strlen(body)) != 0)
        fail_msg("%s\nis answered by\n%s", request, text);
}

static void requests(void **state)
{
    (void)state;
    start((struct mj_server_cfg){0});
    expect("GET /hello?a=%20b HTTP/1.1\r\nHost: x\r\nX-Mixed: Case\r\n\r\n", 201, "X-Odd: 1",
           "r|GET|/hello|a=%20b|127.0.0.1|0||host: x\r\nx-mixed: Case\r\n");
    expect("GET /hello HTTP/1.1\r\n\r\n", 201, "Access-Control-Allow-Origin: *", "r|GET");
    expect("GET /%68ello HTTP/1.1\r\n\r\n", 201, "Content-Type: text/plain\r\n", "r|GET|/hello|");
    expect("POST /hello HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcdef", 201, NULL,
           "r|POST|/hello||127.0.0.1|3|abc|");
    expect("POST /hooks/a/b+c HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 201, NULL,
           "r|POST|/hooks/a/b+c|");
    expect("HEAD /hello HTTP/1.1\r\n\r\n", 201, "Content-Length: ", "");
    struct wsclient *c = ask("HEAD /hello HTTP/1.1\r\n\r\n");
    assert_string_equal(body_of(c), "");
    ws_free(c);
    expect("PUT /hello HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405,
           "Allow: OPTIONS, GET, HEAD, POST", "{\"message\"");
    expect("OPTIONS /hello HTTP/1.1\r\n\r\n", 204,
           "Access-Control-Allow-Methods: GET, HEAD, POST, OPTIONS\r\n", "");
    expect("OPTIONS /nowhere HTTP/1.1\r\n\r\n", 204, "Allow-Methods: GET,HEAD,OPTIONS\r\n", "");
    expect("GET /hello/more HTTP/1.1\r\n\r\n", 404, NULL, "{\"message\":\"Not Found\"}");
    expect("GET /hooks HTTP/1.1\r\n\r\n", 404, NULL, "");
    expect("GET /h%zz HTTP/1.1\r\n\r\n", 400, NULL, "");
    expect("GET / HTTP/1.1\r\n\r\n", 200, NULL, "Welcome to Jetstream");
    mj_routes_set(routes, (const char *const[]){"GET /quit"}, 1);
    expect("GET /hello HTTP/1.1\r\n\r\n", 404, NULL, "");
    stop();
}

static void bodies(void **state)
{
    (void)state;
    start((struct mj_server_cfg){.head_seconds = 1});
    expect("POST /hello HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411, NULL, "");
    expect("POST /hello HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", 413,
           "Access-Control-Allow-Origin: *", "");
    expect("POST /hello HTTP/1.1\r\nContent-Length: 9999999999999999999999\r\n\r\n", 400, NULL, "");
    expect("POST /hello HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, NULL, "");
    expect("POST /hello HTTP/1.1\r\nContent-Length: +1\r\n\r\nx", 400, NULL, "");
    expect("POST /hello HTTP/1.1\r\nContent-Length: 2\r\n\r\nx", 408, NULL, "");

    /* A body in pieces, after a word of encouragement. */
    int fd = tcp_connect(mj_server_port(jet.server));
    const char *head = "POST /hello HTTP/1.1\r\nExpect: 100-continue\r\n"
                       "Content-Length: 1048576\r\n\r\n";
    char text[4096] = "";
    tcp_send(fd, head, strlen(head));
    assert_true(recv(fd, text, 25, MSG_WAITALL) == 25);
    assert_string_equal(text, "HTTP/1.1 100 Continue\r\n\r\n");
    memset(text, 'x', sizeof text);
    for (int i = 0; i < 256; i++)
        tcp_send(fd, text, sizeof text);
    memset(text, 0, sizeof text);
    assert_true(recv(fd, text, sizeof text - 1, 0) > 0);
    assert_non_null(strstr(text, "201 Created"));
    close(fd);

    /* One that leaves in the middle of its body. */
    fd = tcp_connect(mj_server_port(jet.server));
    tcp_send(fd, head, strlen(head));
    close(fd);
    expect("GET /hello HTTP/1.1\r\n\r\n", 201, NULL, "");
    stop();
}

/* Requests that are half sent take neither the places of whole ones nor the room of heads. */
static void half_sent(void **state)
{
    (void)state;
    enum { N = 1100, LARGE = 80, PIECES = 255 };
    static int fds[N];
    static char piece[4096];
    start((struct mj_server_cfg){.head_seconds = 60});
    for (int i = 0; i < N; i++) {
        fds[i] = tcp_connect(mj_server_port(jet.server));
        tcp_send(fds[i], "POST /hello HTTP/1.1\r\nContent-Length: 1\r\n\r\n", 43);
    }
    jet_await(&jet, "moonjet_requests_open", N + 1); /* and the one that asks */
    expect("GET /hello HTTP/1.1\r\n\r\n", 201, NULL, "");
    for (int i = 0; i < N; i++)
        close(fds[i]);
    jet_await(&jet, "moonjet_requests_open", 1);
    /* Together too large; whose bytes come when there is no room is refused, whoever that is. */
    static struct pollfd waits[LARGE];
    for (int i = 0; i < LARGE; i++) {
        fds[i] = tcp_connect(mj_server_port(jet.server));
        tcp_send(fds[i], "POST /hello HTTP/1.1\r\nContent-Length: 1048576\r\n\r\n", 49);
        for (int k = 0; k < PIECES; k++)
            if (send(fds[i], piece, sizeof piece, MSG_NOSIGNAL) < 0)
                break;
        waits[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    }
    assert_true(poll(waits, LARGE, 30000) > 0);
    int refused = 0;
    while (!waits[refused].revents)
        refused++;
    char text[64] = "";
    assert_true(recv(fds[refused], text, sizeof text - 1, 0) > 0);
    assert_non_null(strstr(text, "503 Service"));
    expect("GET / HTTP/1.1\r\n\r\n", 200, NULL, "Welcome");
    for (int i = 0; i < LARGE; i++)
        close(fds[i]);
    jet_await(&jet, "moonjet_requests_open", 1);
    expect("POST /hello HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", 201, NULL, "");
    stop();
}

static void late(void **state)
{
    (void)state;
    start((struct mj_server_cfg){.call_seconds = 1});
    /* Gives up; the answer that comes afterwards goes nowhere. */
    expect("GET /hold HTTP/1.1\r\n\r\n", 504, NULL, "no answer in time");
    /* The client is gone when the answer comes. */
    int fd = tcp_connect(mj_server_port(jet.server));
    tcp_send(fd, "GET /hold HTTP/1.1\r\n\r\n", 22);
    close(fd);
    expect("GET /release HTTP/1.1\r\n\r\n", 201, NULL, "");
    /* The server is gone when the answer comes. */
    struct mj_calls *mine = calls;
    fd = tcp_connect(mj_server_port(jet.server));
    tcp_send(fd, "GET /hold HTTP/1.1\r\n\r\n", 22);
    expect("GET /hello HTTP/1.1\r\n\r\n", 201, NULL, "");
    assert_ptr_equal(mine, calls);
    jet_stop(&jet);
    close(fd);
    /* What the server would have handed over now is answered all the same. */
    jet_start(
        &jet,
        (struct mj_server_cfg){
            .request = mj_calls_put, .request_ctx = calls, .routes = routes, .control = control},
        1 << 20);
    expect("GET /release HTTP/1.1\r\n\r\n", 201, NULL, "");
    stop();
}

static void commands(void **state)
{
    (void)state;
    start((struct mj_server_cfg){0});
    struct stat st;
    assert_int_equal(lstat(control, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    expect_control("POST /ctl/reload?x=1 HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
                   "HTTP/1.1 201 Created\r\n", "c|POST|reload|x=1||2|{}|");
    expect_control("GET /ctl/fail HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n",
                   "{\"error\":\"no \\\"luck\\\"\"}\n");
    expect_control("GET /ctl/status HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n", "{\"version\":");
    expect_control("GET /ctl/metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n", "# HELP");
    expect_control("GET /_health HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n", "{\"status\":\"ok\"");
    expect_control("DELETE /ctl/status HTTP/1.1\r\n\r\n", "HTTP/1.1 405", "{\"error\":");
    expect_control("GET /ctl/ HTTP/1.1\r\n\r\n", "HTTP/1.1 404", "{\"error\":");
    expect_control("GET /hello HTTP/1.1\r\n\r\n", "HTTP/1.1 404", "");
    expect_control(
        "GET /ctl/streams HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n",
        "{\"streams\":[{\"name\":\"main\",\"path\":\"/subscribe\",\"subscribers\":0}]}\n");
    struct wsclient *a = jet_connect(
        &jet, "/subscribe?wantedCollections=app.bsky.feed.post&wantedCollections=app.bsky.graph.*"
              "&wantedDids=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa");
    jet_await(&jet, "moonjet_subscribers", 1);
    expect_control(
        "GET /ctl/subscribers HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n",
        "{\"subscribers\":[{\"stream\":\"main\",\"peer\":\"127.0.0.1\",\"state\":\"live\",");
    expect_control("GET /ctl/subscribers?limit=0 HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n",
                   "{\"subscribers\":[],\"total\":1}\n");
    expect_control("GET /ctl/subscribers?stream=other HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n",
                   "{\"subscribers\":[],\"total\":0}\n");
    ws_free(a);
    stop();
}

/* What is in the way of the socket. */
static void places(void **state)
{
    (void)state;
    struct mj_server *other;
    start((struct mj_server_cfg){0});
    struct mj_server_cfg cfg = {.listen = "127.0.0.1:0",
                                .journal = jet.journal,
                                .streams = jet.streams,
                                .control = control};
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    assert_int_equal(mj_server_start(&cfg, &other), MJ_EIO); /* somebody listens */
    char path[200], file[100];
    memset(path, 'x', sizeof path);
    path[sizeof path - 1] = 0;
    cfg.control = path;
    assert_int_equal(mj_server_start(&cfg, &other), MJ_ESYNTAX);
    snprintf(file, sizeof file, "%s/file", dir);
    FILE *f = fopen(file, "w");
    fclose(f);
    cfg.control = file;
    assert_int_equal(mj_server_start(&cfg, &other), MJ_EIO); /* no socket */
    assert_int_equal(unlink(file), 0);
    /* One left behind by a process that died. */
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strcpy(at.sun_path, file);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    close(fd);
    assert_int_equal(mj_server_start(&cfg, &other), 0);
    mj_server_stop(other);
    assert_int_equal(access(file, F_OK), -1);
    mj_journal_on_publish(jet.journal, NULL, NULL);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(requests),  cmocka_unit_test(bodies),
                                       cmocka_unit_test(half_sent), cmocka_unit_test(late),
                                       cmocka_unit_test(commands),  cmocka_unit_test(places)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
