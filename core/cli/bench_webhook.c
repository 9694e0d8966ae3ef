/* Webhooks beside a bare loop of POSTs: the same bodies, as many connections, one receiver for
 * both, which is a process of its own.
 *
 *   journal ─▶ reader ─▶ net thread ─┐
 *   bare loop: send, poll, recv ─────┼─ sockets ─▶ receiver: counts, and notes when
 *                                    ┘
 *
 * The bare loop signs nothing, keeps no position, and knows one host: it is what a load tester
 * does. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/http.h"
#include "base/log.h"
#include "base/metrics.h"
#include "cli/bench_net.h"
#include "deliver/hook.h"
#include "deliver/sign.h"

#define AT_ONCE   16
#define ROUND     4000 /* requests of a round; of batches a tenth of them */
#define BATCH     100
#define ENDPOINTS 1000
#define MILLION   1000000
#define LATE_MAX  65536
#define SECRET    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define PEERS     4096 /* connections of the receiver */

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/* ---- the receiver ---- */

struct received {
    _Atomic uint64_t refused;
    struct mj_sign_key *key; /* the receiver's own */
    _Atomic uint32_t late_count;
    int32_t late_us[LATE_MAX]; /* from moonjet-cursor to here */
};

struct peer {
    struct mj_buf in;
};

/* Takes whole requests off the buffer; how many there were. */
static int take_requests(struct peer *p, struct received *r)
{
    int n = 0;
    for (;;) {
        struct mj_http_head head;
        int size = mj_http_parse_request(mj_buf_span(&p->in), &head);
        int64_t length = 0, cursor = 0;
        if (size <= 0)
            return n;
        mj_span_i64(mj_http_header(&head, "content-length"), &length);
        if (p->in.len < (size_t)size + (size_t)length)
            return n;
        const struct mj_sign_headers signs = {mj_http_header(&head, "webhook-id"),
                                              mj_http_header(&head, "webhook-timestamp"),
                                              mj_http_header(&head, "webhook-signature")};
        struct mj_buf why = {0};
        if (mj_sign_verify((const struct mj_sign_key *const *)&r->key, 1, &signs,
                           mj_span(p->in.ptr + size, (size_t)length), mj_now_us() / 1000000, 86400,
                           NULL, &why))
            atomic_fetch_add(&r->refused, 1);
        mj_buf_deinit(&why);
        struct mj_span at = mj_http_header(&head, "moonjet-cursor");
        uint32_t i;
        if (at.len && !mj_span_i64(at, &cursor) &&
            (i = atomic_fetch_add(&r->late_count, 1)) < LATE_MAX)
            r->late_us[i] = (int32_t)(mj_now_us() - cursor);
        mj_buf_shift(&p->in, (size_t)size + (size_t)length);
        n++;
    }
}

static void receive(int listener, struct received *r)
{
    static struct peer peers[PEERS];
    struct epoll_event ready[256], e = {.events = EPOLLIN, .data.fd = listener};
    int epoll = epoll_create1(0);
    struct mj_buf error = {0};
    mj_sign_key_parse(MJ_SPAN(SECRET), &r->key, &error);
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int count = epoll_wait(epoll, ready, MJ_COUNT(ready), -1);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) {
                e.data.fd = accept(listener, NULL, NULL);
                if (e.data.fd >= 0 && e.data.fd < PEERS)
                    epoll_ctl(epoll, EPOLL_CTL_ADD, e.data.fd, &e);
                continue;
            }
            struct peer *p = &peers[fd];
            mj_buf_reserve(&p->in, 1 << 16);
            ssize_t n = recv(fd, p->in.ptr + p->in.len, p->in.cap - p->in.len, 0);
            if (n <= 0) {
                close(fd);
                p->in.len = 0;
                continue;
            }
            p->in.len += (size_t)n;
            for (int k = take_requests(p, r); k > 0; k--)
                if (send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL) < 0)
                    break;
        }
    }
}

struct receiver {
    int pid, port;
    struct received *shared; /* owned: memory of both processes */
};

static bool receiver_start(struct receiver *r)
{
    struct mj_hostport at = {.host = "0.0.0.0"};
    int listener = mj_listen(&at, &r->port);
    r->shared =
        mmap(NULL, sizeof *r->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (listener < 0 || r->shared == MAP_FAILED)
        return false;
    r->pid = fork();
    if (!r->pid) {
        receive(listener, r->shared);
        _exit(0);
    }
    close(listener);
    return r->pid > 0;
}

static void receiver_stop(struct receiver *r)
{
    kill(r->pid, SIGKILL);
    waitpid(r->pid, NULL, 0);
    munmap(r->shared, sizeof *r->shared);
}

/* ---- ours ---- */

struct ours {
    struct mj_journal *journal;
    struct mj_readers *readers;
    struct mj_http *http;
    struct mj_hooks *hooks;
    struct mj_bench_events events;
};

static bool ours_start(struct mj_bench *b, struct ours *o, struct mj_journal *journal)
{
    const struct mj_http_cfg http = {0};
    o->journal = journal;
    const struct mj_readers_cfg readers = {.journal = journal};
    o->readers = mj_readers_new(&readers);
    mj_bench_events_collect(b, &o->events);
    if (mj_http_start(&http, &o->http))
        return false;
    const struct mj_hooks_cfg hooks = {.http = o->http, .journal = journal};
    o->hooks = mj_hooks_new(&hooks);
    return true;
}

static void ours_stop(struct ours *o)
{
    mj_hooks_drain(o->hooks, 0);
    mj_http_stop(o->http);
    mj_hooks_free(o->hooks);
    mj_readers_free(o->readers);
    mj_journal_close(o->journal);
    mj_bench_events_deinit(&o->events);
}

static struct mj_reader *open_hook(struct ours *o, const char *node, const char *host, int port,
                                   size_t max, size_t at_once, struct mj_hook **hook)
{
    char url[80], *allow[] = {"127.0.0.0/8"};
    struct mj_reader *r;
    MJ_AUTO_BUF error = {0};
    snprintf(url, sizeof url, "http://%s:%d/", host, port);
    const struct mj_hook_spec spec = {
        .script = "bench.lua",
        .node = (char *)(uintptr_t)node,
        .url = url,
        .secrets = {SECRET},
        .secret_count = 1,
        .allow = allow,
        .allow_count = 1,
        .retry = {.min_us = 1000000, .max_us = 1000000},
        .max = max,
        .max_bytes = 16 << 20,
        .every_us = 1000,
        .concurrency = at_once,
        .timeout_us = 15000000,
        .format = max > 1 ? MJ_HOOK_BATCH : MJ_HOOK_EVENT,
    };
    if (mj_reader_get(o->readers, "bench.lua", node, MJ_READER_WEBHOOK, &r, &error))
        return NULL;
    *hook = mj_hook_open(o->hooks, r, &spec);
    return r;
}

static void append(struct ours *o, size_t n, struct mj_reader *r)
{
    const struct mj_bench_event *it = &o->events.items[n % o->events.count];
    /* The same events again and again, but of other accounts: on the network it is rare that one
     * has two events among a few thousand, and one that has waits for itself. */
    uint64_t others = n / o->events.count * UINT64_C(0x9e3779b97f4a7c15);
    const struct mj_append a = {.time_us = mj_journal_next_time(o->journal),
                                .did_hash = it->did_hash + (others ^ others >> 32),
                                .collection = it->collection,
                                .kind = it->kind,
                                .op = it->op};
    mj_journal_append(o->journal, &a, mj_span(o->events.json.ptr + it->at, it->len));
    mj_reader_note(r, &a, 1, 0);
}

static void publish(struct ours *o)
{
    mj_journal_publish(o->journal, -1, 0);
    mj_readers_published(o->readers);
}

/* From its metric: to ask the reader itself would hold it up. */
static uint64_t delivered(const char *node)
{
    return (uint64_t)mj_metric_get(mj_metric("moonjet_reader_delivered_total", MJ_COUNTER, "",
                                             "reader=\"bench.lua %s\"", node));
}

struct took {
    double wall, cpu; /* ns of an event; 0: none yet */
};

static void keep_best(struct took *best, struct took t)
{
    if (t.wall > 0 && (best->wall == 0 || t.wall < best->wall))
        best->wall = t.wall;
    if (t.cpu > 0 && (best->cpu == 0 || t.cpu < best->cpu))
        best->cpu = t.cpu;
}

/* Events through a webhook; zeros when they got stuck. CPU is the net thread's. */
static struct took ours_took(struct ours *o, struct mj_reader *r, size_t *n, size_t events)
{
    uint64_t goal = delivered("webhook#1") + events;
    for (size_t i = 0; i < events; i++)
        append(o, (*n)++, r);
    int64_t cpu = mj_bench_others_cpu_ns(), start = mj_bench_wall_ns();
    publish(o);
    while (delivered("webhook#1") < goal) {
        if (mj_bench_wall_ns() - start > INT64_C(60000000000))
            return (struct took){0, 0};
        usleep(200);
    }
    return (struct took){(double)(mj_bench_wall_ns() - start) / (double)events,
                         (double)(mj_bench_others_cpu_ns() - cpu) / (double)events};
}

/* ---- the bare loop ---- */

struct bare {
    int fds[AT_ONCE];
    struct mj_buf request; /* of the average size */
};

static void bare_deinit(struct bare *l)
{
    for (int i = 0; i < AT_ONCE; i++)
        if (l->fds[i] >= 0)
            close(l->fds[i]);
    mj_buf_deinit(&l->request);
}

/* A head like ours, and a body as long as the events have on average. */
static bool bare_init(struct bare *l, const struct mj_bench_events *e, size_t batch, int port)
{
    size_t body = e->json.len / e->count * batch + (batch > 1 ? 80 + batch * 60 : 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct mj_buf text = {0}, error = {0}, signature = {0};
    struct mj_sign_key *key;
    mj_buf_reserve(&text, body);
    memset(text.ptr, 'x', body);
    text.len = body;
    int64_t now_s = mj_now_us() / 1000000;
    const struct mj_signed what = {MJ_SPAN("evt_00000000000000000000000000000000"), now_s,
                                   mj_buf_span(&text)};
    if (mj_sign_key_parse(MJ_SPAN(SECRET), &key, &error))
        return false;
    mj_sign((const struct mj_sign_key *const *)&key, 1, &what, &signature);
    mj_buf_printf(&l->request,
                  "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                  "webhook-id: evt_00000000000000000000000000000000\r\nwebhook-timestamp: %lld\r\n"
                  "webhook-signature: %s\r\nX-Padding: %0200d\r\nContent-Length: %zu\r\n\r\n",
                  (long long)now_s, mj_buf_cstr(&signature), 0, body);
    mj_buf_put(&l->request, text.ptr, text.len);
    mj_buf_deinit(&text);
    mj_buf_deinit(&signature);
    mj_sign_key_free(key);
    for (int i = 0; i < AT_ONCE; i++) {
        l->fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (l->fds[i] < 0 || connect(l->fds[i], (struct sockaddr *)&to, sizeof to))
            return false;
    }
    return true;
}

static bool send_all(int fd, struct mj_span s)
{
    while (s.len) {
        ssize_t n = send(fd, s.ptr, s.len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        s = mj_span(s.ptr + n, s.len - (size_t)n);
    }
    return true;
}

/* Requests when each connection sends the next one as soon as it has its answer. */
static struct took bare_took(struct bare *l, size_t requests)
{
    const struct took none = {0, 0};
    struct pollfd fds[AT_ONCE];
    size_t sent = 0, left = requests;
    int64_t cpu = mj_bench_cpu_ns(), start = mj_bench_wall_ns();
    for (int i = 0; i < AT_ONCE; i++) {
        fds[i] = (struct pollfd){.fd = l->fds[i], .events = POLLIN};
        if (sent < requests && !send_all(l->fds[i], mj_buf_span(&l->request)))
            return none;
        sent += sent < requests;
    }
    while (left) {
        poll(fds, AT_ONCE, 10000);
        for (int i = 0; i < AT_ONCE; i++) {
            char in[256];
            if (!fds[i].revents)
                continue;
            if (recv(fds[i].fd, in, sizeof in, 0) <= 0)
                return none;
            left--;
            if (sent < requests && !send_all(fds[i].fd, mj_buf_span(&l->request)))
                return none;
            sent += sent < requests;
        }
    }
    return (struct took){(double)(mj_bench_wall_ns() - start) / (double)requests,
                         (double)(mj_bench_cpu_ns() - cpu) / (double)requests};
}

/* ---- the library's loop: the same requests through libcurl, with nothing around it ---- */

struct library {
    struct mj_http_line *line;
    struct mj_span headers, body;
    size_t to_send;      /* the net thread's */
    _Atomic size_t left; /* answers to come */
};

static void library_next(void *ctx, const struct mj_fetched *ended)
{
    struct library *l = ctx;
    if (l->to_send) {
        l->to_send--;
        mj_http_line_post(l->line, l->headers, l->body, 1 << 16, library_next, l);
    }
    if (ended)
        atomic_fetch_sub(&l->left, 1);
}

static void library_begin(void *ctx)
{
    for (int i = 0; i < AT_ONCE; i++)
        library_next(ctx, NULL);
}

/* Requests as the bare loop sends them, by the client that webhooks are sent with. */
static struct took library_took(struct mj_http *http, struct library *l, size_t requests)
{
    l->to_send = requests;
    atomic_store(&l->left, requests);
    int64_t cpu = mj_bench_others_cpu_ns(), start = mj_bench_wall_ns();
    mj_http_run(http, library_begin, l);
    while (atomic_load(&l->left)) {
        if (mj_bench_wall_ns() - start > INT64_C(60000000000))
            return (struct took){0, 0};
        usleep(200);
    }
    return (struct took){(double)(mj_bench_wall_ns() - start) / (double)requests,
                         (double)(mj_bench_others_cpu_ns() - cpu) / (double)requests};
}

/* `request` is the bare loop's: its lines but for those that libcurl writes, and its body. */
static bool library_init(struct mj_http *http, struct library *l, struct mj_span request, int port)
{
    static const char allowed[] = "127.0.0.0/8";
    struct mj_reach *allow = mj_reach_new();
    MJ_AUTO_BUF error = {0};
    char url[80];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", port);
    const uint8_t *first = memmem(request.ptr, request.len, "Content-Type", 12);
    const uint8_t *last = memmem(request.ptr, request.len, "Content-Length", 14);
    const uint8_t *end = memmem(request.ptr, request.len, "\r\n\r\n", 4);
    if (!first || !last || !end || mj_reach_allow(allow, allowed, &error))
        return false;
    l->headers = mj_span(first, (size_t)(last - first));
    l->body = mj_span(end + 4, request.len - (size_t)(end + 4 - request.ptr));
    const struct mj_http_line_cfg cfg = {.script = "bench.lua",
                                         .url = url,
                                         .allow = allow,
                                         .only_allowed = true,
                                         .timeout_us = 15000000,
                                         .keep = AT_ONCE};
    return mj_http_line_new(http, &cfg, &l->line, &error) == 0;
}

/* ---- the figures ---- */

static void throughput(struct mj_bench *b, struct receiver *to, size_t batch)
{
    struct ours o = {0};
    struct bare bare = {{0}};
    struct mj_hook *hook;
    size_t n = 0, requests = batch > 1 ? ROUND / 10 : ROUND;
    struct took ours = {0, 0}, loop = {0, 0}, alone = {0, 0};
    struct library library = {0};
    char key[64], beside[160];
    if (!ours_start(b, &o, mj_journal_in_memory(64 << 20)) ||
        !bare_init(&bare, &o.events, batch, to->port) ||
        !library_init(o.http, &library, mj_buf_span(&bare.request), to->port))
        return;
    struct mj_reader *r = open_hook(&o, "webhook#1", "127.0.0.1", to->port, batch, AT_ONCE, &hook);
    for (int i = 0; i < mj_bench_rounds(b, 10); i++) {
        keep_best(&loop, bare_took(&bare, requests));
        keep_best(&alone, library_took(o.http, &library, requests));
        keep_best(&ours, ours_took(&o, r, &n, requests * batch));
    }
    double best = loop.wall > 0 ? 1e9 / loop.wall * (double)batch : 1;
    double rate = ours.wall > 0 ? 1e9 / ours.wall : 0;
    snprintf(beside, sizeof beside,
             "bare loop of POSTs %.0f; CPU of a request %.1f us, bare %.1f us", best,
             ours.cpu * (double)batch / 1000, loop.cpu / 1000);
    snprintf(key, sizeof key, "webhook_batch_%zu_events_per_s", batch);
    mj_bench_report(b, key, rate, "events/s", beside, MJ_GOAL_NONE, 0);
    snprintf(key, sizeof key, "webhook_batch_%zu_vs_bare_loop", batch);
    snprintf(beside, sizeof beside, "libcurl alone: %.2f x, %.1f us of CPU",
             alone.wall > 0 ? loop.wall / alone.wall : 0, alone.cpu / 1000);
    mj_bench_report(b, key, rate / best, "x", beside, MJ_GOAL_AT_LEAST, 0.7);
    mj_http_line_free(library.line);
    ours_stop(&o);
    bare_deinit(&bare);
}

static int compare_late(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* A thousand endpoints, each at an address of its own, with an event a second: how long one takes
 * from its stamp to the receiver, and what it costs. */
static void endpoints(struct mj_bench *b, struct receiver *to)
{
    static struct mj_reader *readers[ENDPOINTS];
    struct ours o = {0};
    struct mj_hook *hook;
    char beside[100];
    if (!ours_start(b, &o, mj_journal_in_memory(64 << 20)))
        return;
    for (int i = 0; i < ENDPOINTS; i++) {
        char node[32], host[32];
        snprintf(node, sizeof node, "webhook#%d", i + 1);
        snprintf(host, sizeof host, "127.1.%d.%d", i / 250, 1 + i % 250);
        readers[i] = open_hook(&o, node, host, to->port, 1, 4, &hook);
    }
    size_t n = 0;
    int seconds = b->seconds < 0.1 ? 0 : b->seconds < 2 ? 3 : (int)b->seconds + 1;
    /* Each connects once before it is measured. */
    for (int i = 0; i < ENDPOINTS; i++)
        append(&o, n++, readers[i]);
    publish(&o);
    for (int i = 0; i < ENDPOINTS; i++) {
        char node[32];
        snprintf(node, sizeof node, "webhook#%d", i + 1);
        for (int tries = 0; delivered(node) < 1 && tries < 10000; tries++)
            usleep(1000);
    }
    atomic_store(&to->shared->late_count, 0);
    int64_t start = mj_bench_wall_ns(), cpu = mj_bench_others_cpu_ns();
    for (int i = 0; i < ENDPOINTS * seconds; i++) {
        append(&o, n++, readers[i % ENDPOINTS]);
        publish(&o);
        int64_t next = start + (int64_t)(i + 1) * (1000000000 / ENDPOINTS);
        int64_t wait = next - mj_bench_wall_ns();
        if (wait > 0)
            usleep((useconds_t)(wait / 1000));
    }
    double wall = (double)(mj_bench_wall_ns() - start);
    double load = wall > 0 ? 100 * (double)(mj_bench_others_cpu_ns() - cpu) / wall : 0;
    usleep(200000);
    uint32_t count = atomic_load(&to->shared->late_count);
    count = count < LATE_MAX ? count : LATE_MAX;
    qsort(to->shared->late_us, count, sizeof(int32_t), compare_late);
    snprintf(beside, sizeof beside, "%.0f events/s", seconds ? (double)count * 1e9 / wall : 0);
    mj_bench_report(b, "webhook_1000_endpoints_cpu", load, "% of a core", beside, MJ_GOAL_AT_MOST,
                    30);
    if (count) {
        const int32_t *late = to->shared->late_us;
        size_t middle = count / 2, last = (size_t)count * 99 / 100;
        snprintf(beside, sizeof beside, "median %.2f ms", (double)late[middle] / 1000);
        mj_bench_report(b, "webhook_delay_p99_ms", (double)late[last] / 1000, "ms", beside,
                        MJ_GOAL_AT_MOST, 20);
    }
    ours_stop(&o);
}

static double private_mib(void)
{
    char line[256];
    FILE *f = fopen("/proc/self/status", "re");
    double kib = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %lf", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib / 1024;
}

/* An endpoint that nobody answers at, and what waits for it. */
static void outage(struct mj_bench *b)
{
    char dir[MJ_BENCH_DIR], beside[100];
    struct ours o = {0};
    struct mj_journal *journal;
    struct mj_hook *hook;
    MJ_AUTO_BUF error = {0};
    size_t total = b->seconds < 0.1 ? 20000 : MILLION;
    if (mj_bench_make_dir(false, dir))
        return;
    const struct mj_journal_cfg cfg = {.dir = dir, .segment_bytes = 64 << 20, .sync_us = 1000000};
    if (mj_journal_open(&cfg, &journal, &error) || !ours_start(b, &o, journal)) {
        mj_bench_remove_dir(dir);
        return;
    }
    struct mj_reader *r = open_hook(&o, "webhook#1", "127.0.0.1", 9, 1, 4, &hook);
    double before = 0;
    for (size_t i = 0; i < total; i++) {
        if (i == total / 20)
            before = private_mib();
        append(&o, i, r);
        if (i % 100 == 99)
            publish(&o);
    }
    publish(&o);
    usleep(200000);
    double after = private_mib();
    struct mj_reader_state s;
    mj_reader_state(r, &s);
    snprintf(beside, sizeof beside, "%zu waiting, %.0f MiB at first", s.waiting, before);
    mj_bench_report(b, "webhook_outage_million_mib", after - before, "MiB more", beside,
                    MJ_GOAL_AT_MOST, 4);
    ours_stop(&o);
    mj_bench_remove_dir(dir);
}

void mj_bench_webhook(struct mj_bench *b)
{
    struct receiver to;
    if (!receiver_start(&to))
        return;
    mj_log_setup(MJ_LOG_ERROR, false);
    throughput(b, &to, 1);
    throughput(b, &to, BATCH);
    if (mj_bench_allow_files(2 * ENDPOINTS, "webhook"))
        endpoints(b, &to);
    outage(b);
    mj_log_setup(MJ_LOG_WARN, false);
    if (atomic_load(&to.shared->refused))
        fprintf(stderr, "moonjet bench: the receiver has refused %llu requests\n",
                (unsigned long long)atomic_load(&to.shared->refused));
    receiver_stop(&to);
}
