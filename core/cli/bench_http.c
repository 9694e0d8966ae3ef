/* Requests: outgoing ones through the net thread beside bare sockets, and routes beside what the
 * server answers by itself. The peer of the first is a process of its own, so that all CPU of this
 * one is the client's. */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/http.h"
#include "cli/bench_net.h"
#include "deliver/http.h"

#define AT_ONCE 16
#define ROUND   1000 /* requests of a round */
#define BODY    1024

static char answer[BODY + 256];
static size_t answer_len;

static void make_answer(void)
{
    answer_len = (size_t)snprintf(answer, sizeof answer,
                                  "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                  "Content-Length: %d\r\n\r\n",
                                  BODY);
    memset(answer + answer_len, 'x', BODY);
    answer_len += BODY;
}

/* Answers whatever ends in an empty line, on up to 2 × AT_ONCE connections. */
static void serve(int listener)
{
    struct pollfd fds[1 + 2 * AT_ONCE] = {{.fd = listener, .events = POLLIN}};
    nfds_t n = 1;
    for (;;) {
        poll(fds, n, -1);
        for (nfds_t i = 1; i < n; i++) {
            char in[4096];
            if (!fds[i].revents)
                continue;
            ssize_t got = recv(fds[i].fd, in, sizeof in, 0);
            if (got <= 0 || send(fds[i].fd, answer, answer_len, MSG_NOSIGNAL) < 0) {
                close(fds[i].fd);
                fds[i--] = fds[--n];
            }
        }
        if (fds[0].revents && n < MJ_COUNT(fds)) {
            int fd = accept(listener, NULL, NULL);
            if (fd >= 0)
                fds[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
        }
    }
}

static int connect_to(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Reads one answer of that size; false when the peer is gone. */
static bool read_answer(int fd, size_t size)
{
    char in[4096];
    while (size) {
        ssize_t n = recv(fd, in, size < sizeof in ? size : sizeof in, 0);
        if (n <= 0)
            return false;
        size -= (size_t)n;
    }
    return true;
}

/* CPU of a request on bare sockets that are kept. */
static double bare_ns(const int *fds)
{
    static const char request[] = "GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n"
                                  "User-Agent: moonjet\r\n\r\n";
    int64_t start = mj_bench_process_cpu_ns();
    for (int i = 0; i < ROUND; i += AT_ONCE) {
        for (int k = 0; k < AT_ONCE; k++)
            if (send(fds[k], request, sizeof request - 1, MSG_NOSIGNAL) < 0)
                return 0;
        for (int k = 0; k < AT_ONCE; k++)
            if (!read_answer(fds[k], answer_len))
                return 0;
    }
    return (double)(mj_bench_process_cpu_ns() - start) / ROUND;
}

struct client {
    struct mj_http *http;
    struct mj_fetch fetch;
    _Atomic int left; /* requests to be sent yet */
    _Atomic int failed;
    sem_t done;
};

static void on_done(void *ctx, const struct mj_fetched *a)
{
    struct client *c = ctx;
    if (a->error || a->body.len != BODY)
        atomic_fetch_add(&c->failed, 1);
    if (atomic_fetch_sub(&c->left, 1) > 0)
        mj_http_send(c->http, &c->fetch, false, on_done, c);
    else
        sem_post(&c->done);
}

static double client_ns(struct client *c)
{
    int64_t start = mj_bench_process_cpu_ns();
    atomic_store(&c->left, ROUND - AT_ONCE);
    for (int i = 0; i < AT_ONCE; i++)
        mj_http_send(c->http, &c->fetch, false, on_done, c);
    for (int i = 0; i < AT_ONCE; i++)
        sem_wait(&c->done);
    return (double)(mj_bench_process_cpu_ns() - start) / ROUND;
}

static void keep_best(double *best, double value)
{
    if (value > 0 && (*best == 0 || value < *best))
        *best = value;
}

static void outgoing(struct mj_bench *b)
{
    struct mj_hostport at = {.host = "127.0.0.1"};
    char url[64], beside[64];
    int port, fds[AT_ONCE], listener = mj_listen(&at, &port);
    if (listener < 0)
        return;
    make_answer();
    pid_t pid = fork();
    if (!pid) {
        serve(listener);
        _exit(0);
    }
    close(listener);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/x", port);
    struct client c = {.fetch = {.script = "bench",
                                 .method = MJ_SPAN("GET"),
                                 .url = mj_str(url),
                                 .timeout_us = 10000000,
                                 .max_bytes = 1 << 20}};
    struct mj_reach *reach = mj_reach_new();
    MJ_AUTO_BUF error = {0};
    mj_reach_allow(reach, "127.0.0.1", &error);
    sem_init(&c.done, 0, 0);
    for (int i = 0; i < AT_ONCE; i++)
        fds[i] = connect_to(port);
    struct mj_http_cfg cfg = {.reach = reach, .max_per_host = AT_ONCE};
    if (mj_http_start(&cfg, &c.http) == 0) {
        double bare = 0, ours = 0;
        for (int i = 0; i < mj_bench_rounds(b, 10); i++) {
            keep_best(&bare, bare_ns(fds));
            keep_best(&ours, client_ns(&c));
        }
        snprintf(beside, sizeof beside, "bare sockets %.1f us, %.2f x", bare / 1000,
                 ours / (bare > 0 ? bare : 1));
        if (atomic_load(&c.failed))
            fprintf(stderr, "moonjet bench: %d requests failed\n", atomic_load(&c.failed));
        mj_bench_report(b, "http_us_per_request", ours / 1000, "us CPU", beside, MJ_GOAL_NONE, 0);
        mj_bench_report(b, "http_vs_bare_sockets", ours / (bare > 0 ? bare : 1), "x", "",
                        MJ_GOAL_NONE, 0);
        mj_http_stop(c.http);
    }
    for (int i = 0; i < AT_ONCE; i++)
        close(fds[i]);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    sem_destroy(&c.done);
    mj_reach_free(reach);
}

/* The thread that answers routes. */
struct answerer {
    struct mj_calls *calls;
    sem_t news;
    _Atomic bool stop;
};

static void on_news(void *ctx) { sem_post(&((struct answerer *)ctx)->news); }

static void *answer_calls(void *arg)
{
    struct answerer *a = arg;
    while (!atomic_load(&a->stop)) {
        sem_wait(&a->news);
        for (struct mj_call *c; (c = mj_calls_take(a->calls));)
            mj_call_answer(c, 200, MJ_SPAN("Content-Type: text/plain\r\n"),
                           MJ_SPAN("Welcome to Jetstream"));
    }
    return NULL;
}

/* CPU of a request on a connection of its own. */
static double request_ns(int port, const char *target)
{
    char request[128];
    int64_t start = mj_bench_process_cpu_ns();
    int len = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target);
    for (int i = 0; i < ROUND; i++) {
        char in[1024];
        int fd = connect_to(port);
        if (fd < 0 || send(fd, request, (size_t)len, MSG_NOSIGNAL) < 0)
            return 0;
        while (recv(fd, in, sizeof in, 0) > 0)
            ;
        close(fd);
    }
    return (double)(mj_bench_process_cpu_ns() - start) / ROUND;
}

static void incoming(struct mj_bench *b)
{
    struct answerer a = {0};
    struct mj_routes *routes = mj_routes_new();
    struct mj_journal *journal = mj_journal_in_memory(1 << 20);
    struct mj_streams *streams = mj_streams_new(journal);
    struct mj_server *server;
    pthread_t thread;
    char beside[64];
    sem_init(&a.news, 0, 0);
    a.calls = mj_calls_new(on_news, &a);
    mj_routes_set(routes, (const char *const[]){"GET /hello"}, 1);
    struct mj_server_cfg cfg = {.listen = "127.0.0.1:0",
                                .journal = journal,
                                .streams = streams,
                                .request = mj_calls_put,
                                .request_ctx = a.calls,
                                .routes = routes};
    if (mj_server_start(&cfg, &server) == 0) {
        if (pthread_create(&thread, NULL, answer_calls, &a) == 0) {
            double plain = 0, route = 0;
            for (int i = 0; i < mj_bench_rounds(b, 5); i++) {
                keep_best(&plain, request_ns(mj_server_port(server), "/"));
                keep_best(&route, request_ns(mj_server_port(server), "/hello"));
            }
            snprintf(beside, sizeof beside, "the server's own answer %.1f us", plain / 1000);
            mj_bench_report(b, "serve_us_per_request", route / 1000, "us CPU", beside, MJ_GOAL_NONE,
                            0);
            mj_bench_report(b, "serve_vs_own_answer", route / (plain > 0 ? plain : 1), "x", "",
                            MJ_GOAL_NONE, 0);
            atomic_store(&a.stop, true);
            sem_post(&a.news);
            pthread_join(thread, NULL);
        }
        mj_server_stop(server);
    }
    mj_calls_free(a.calls);
    mj_routes_free(routes);
    mj_streams_free(streams);
    mj_journal_close(journal);
    sem_destroy(&a.news);
}

void mj_bench_http(struct mj_bench *b)
{
    outgoing(b);
    incoming(b);
}
