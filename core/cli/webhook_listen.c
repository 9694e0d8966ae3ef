/* moonjet webhook listen: a receiver that checks and prints what it gets. A thread per connection,
 * which may wait: it is a tool for a desk, and bounded like one. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/http.h"
#include "base/log.h"
#include "cli/webhook.h"
#include "deliver/http.h"

#define CONNECTIONS  64
#define HEAD_MAX     (64u << 10)
#define BODY_MAX     (16u << 20)
#define IDLE_SECONDS 120
#define UNREAD_MAX   (64u << 20) /* bytes of a refused request that are thrown away */
#define IDS          1024        /* that are remembered, to tell a delivery that came before */
#define ID_CHARS     80          /* of an id that are remembered */
#define FORWARD_US   30000000    /* for the answer of --forward */
#define FORWARD_MAX  (1u << 20)  /* bytes of it */

struct cfg {
    struct mj_strings secrets, files;
    const char *listen, *fail_rate, *forward;
    int64_t status, delay, count, tolerance;
    bool json, github;
};

struct listener {
    const struct cfg *cfg;
    struct mj__webhook_secrets secrets;
    struct mj_http *http; /* owned; NULL without --forward */
    double fail_rate;
    int port;
    bool colour;
    pthread_t main;

    pthread_mutex_t lock; /* of all that follows, and of stdout */
    pthread_cond_t free;  /* a connection ended */
    size_t connections;
    int fds[CONNECTIONS]; /* of the connections; -1: free */
    bool stopping;
    int64_t deliveries, good;
    struct {
        char id[ID_CHARS + 1];
        unsigned times;
    } ids[IDS];
    size_t next_id;
};

/* ---- checking ---- */

static void check_signature(struct listener *l, struct mj__delivery *d)
{
    const struct mj_sign_headers headers = {d->id, mj_http_header(d->head, "webhook-timestamp"),
                                            mj_http_header(d->head, "webhook-signature")};
    size_t which = 0;
    int err = mj_sign_verify((const struct mj_sign_key *const *)l->secrets.keys, l->secrets.keys_n,
                             &headers, d->body, mj_now_us() / 1000000, l->cfg->tolerance / 1000000,
                             &which, &d->how);
    d->good = !err;
    if (!err && l->secrets.keys_n > 1)
        mj_buf_printf(&d->how, "signed with secret %zu", which + 1);
    else if (!err)
        mj_buf_puts(&d->how, "signed");
}

static void check_github(struct listener *l, struct mj__delivery *d, struct mj_span header)
{
    for (size_t i = 0; i < l->secrets.texts_n && !d->good; i++) {
        d->how.len = 0;
        d->good =
            mj_sign_github_verify(mj_buf_span(&l->secrets.texts[i]), header, d->body, &d->how) == 0;
    }
    if (d->good)
        mj_buf_puts(&d->how, "signed as GitHub does");
}

static void check(struct listener *l, struct mj__delivery *d)
{
    struct mj_span hub = mj_http_header(d->head, "X-Hub-Signature-256");
    d->good = false;
    if (!l->secrets.texts_n) {
        d->good = true;
        mj_buf_puts(&d->how, "not checked");
        return;
    }
    if (l->secrets.keys_n)
        check_signature(l, d);
    /* With both, both must be right. */
    if (l->cfg->github && (d->good || !l->secrets.keys_n)) {
        d->good = false;
        check_github(l, d, hub);
    }
}

/* How often that id came before. Under the lock. */
static unsigned note_id(struct listener *l, struct mj_span id)
{
    char text[ID_CHARS + 1] = {0};
    if (!id.len)
        return 0;
    memcpy(text, id.ptr, id.len < ID_CHARS ? id.len : ID_CHARS);
    for (size_t i = 0; i < IDS; i++)
        if (strcmp(l->ids[i].id, text) == 0)
            return l->ids[i].times++;
    strcpy(l->ids[l->next_id].id, text);
    l->ids[l->next_id].times = 1;
    l->next_id = (l->next_id + 1) % IDS;
    return 0;
}

/* ---- --forward ---- */

struct forwarded {
    pthread_mutex_t lock;
    pthread_cond_t done_cond;
    bool done;
    struct mj__delivery *d;
};

/* On the net thread. */
static void on_forwarded(void *ctx, const struct mj_fetched *answer)
{
    struct forwarded *f = ctx;
    pthread_mutex_lock(&f->lock);
    if (answer->error) {
        f->d->status = 502;
        mj_buf_printf(&f->d->how, "; not forwarded: %s", answer->error);
    } else {
        f->d->status = answer->status;
        mj_buf_put(&f->d->answer, answer->body.ptr, answer->body.len);
    }
    f->done = true;
    pthread_cond_signal(&f->done_cond);
    pthread_mutex_unlock(&f->lock);
}

/* Headers that belong to one connection, or that the next request makes itself. */
static bool is_own_header(struct mj_span name)
{
    static const char *const own[] = {"host",   "connection",        "content-length",
                                      "expect", "transfer-encoding", "keep-alive",
                                      "te",     "upgrade",           "accept-encoding"};
    for (size_t i = 0; i < MJ_COUNT(own); i++)
        if (name.len == strlen(own[i]) &&
            strncasecmp((const char *)name.ptr, own[i], name.len) == 0)
            return true;
    return false;
}

static void forward(struct listener *l, struct mj__delivery *d)
{
    struct forwarded f = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, d};
    MJ_AUTO_BUF headers = {0};
    for (size_t i = 0; i < d->head->count; i++) {
        struct mj_span name = d->head->headers[i].name, value = d->head->headers[i].value;
        if (!is_own_header(name))
            mj_buf_printf(&headers, "%.*s: %.*s\r\n", (int)name.len, (const char *)name.ptr,
                          (int)value.len, value.len ? (const char *)value.ptr : "");
    }
    struct mj_fetch request = {.script = "webhook listen",
                               .method = d->head->method,
                               .url = mj_str(l->cfg->forward),
                               .headers = mj_buf_span(&headers),
                               .body = d->body,
                               .timeout_us = FORWARD_US,
                               .max_bytes = FORWARD_MAX};
    mj_http_send(l->http, &request, true, on_forwarded, &f);
    pthread_mutex_lock(&f.lock);
    while (!f.done)
        pthread_cond_wait(&f.done_cond, &f.lock);
    pthread_mutex_unlock(&f.lock);
    pthread_mutex_destroy(&f.lock);
    pthread_cond_destroy(&f.done_cond);
}

/* ---- a delivery ---- */

/* The n-th is one of the share when the whole part of n times the share has gone up: evenly, and
 * the same in each run. */
static bool is_to_fail(const struct listener *l, int64_t n)
{
    return (int64_t)((double)n * l->fail_rate) > (int64_t)((double)(n - 1) * l->fail_rate);
}

static void sleep_us(int64_t us)
{
    struct timespec ts = {us / 1000000, us % 1000000 * 1000};
    while (nanosleep(&ts, &ts) && errno == EINTR) {
    }
}

/* Fills in what is answered; false: nobody is to answer any more. */
static bool deliver(struct listener *l, struct mj__delivery *d)
{
    const struct cfg *cfg = l->cfg;
    d->id = mj_http_header(d->head, "webhook-id");
    if (!d->id.ptr)
        d->id = mj_http_header(d->head, "X-GitHub-Delivery");
    check(l, d);
    pthread_mutex_lock(&l->lock);
    if (cfg->count && l->deliveries >= cfg->count) {
        pthread_mutex_unlock(&l->lock);
        return false;
    }
    int64_t n = ++l->deliveries;
    l->good += d->good;
    d->again = d->good ? note_id(l, d->id) : 0;
    pthread_mutex_unlock(&l->lock);
    if (cfg->delay)
        sleep_us(cfg->delay);
    d->status = !d->good ? 401 : is_to_fail(l, n) ? 500 : (int)cfg->status;
    if (d->good && l->http && d->status == cfg->status)
        forward(l, d);
    else if (!d->good)
        mj_buf_printf(&d->answer, "%s\n", mj_buf_cstr(&d->how));
    pthread_mutex_lock(&l->lock);
    MJ_AUTO_BUF out = {0};
    if (cfg->json)
        mj__delivery_json(d, &out);
    else
        mj__delivery_text(d, l->colour, &out);
    fwrite(out.ptr, 1, out.len, stdout);
    fflush(stdout);
    pthread_mutex_unlock(&l->lock);
    return true;
}

/* ---- connections ---- */

static bool send_all(int fd, struct mj_span bytes)
{
    for (size_t at = 0; at < bytes.len;) {
        ssize_t n = send(fd, bytes.ptr + at, bytes.len - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

static bool answer(int fd, int status, struct mj_span body, bool close)
{
    MJ_AUTO_BUF out = {0};
    mj_buf_printf(&out, "HTTP/1.1 %d %s\r\nContent-Length: %zu\r\n%s%s\r\n", status,
                  status < 300 ? "OK" : "No", status == 204 ? 0 : body.len,
                  body.len ? "Content-Type: text/plain; charset=utf-8\r\n" : "",
                  close ? "Connection: close\r\n" : "");
    if (status != 204)
        mj_buf_put(&out, body.ptr, body.len);
    return send_all(fd, mj_buf_span(&out)) && !close;
}

/* A request that is no delivery: said to the peer only, and the connection ends. What the peer
 * still sends is thrown away for a while: a connection that is closed with bytes unread is cut, and
 * our answer might be lost with it. */
static bool refuse(int fd, int status, const char *why)
{
    struct timeval wait = {.tv_sec = 2};
    char some[65536];
    answer(fd, status, mj_str(why), true);
    shutdown(fd, SHUT_WR);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    for (size_t n = 0; n < UNREAD_MAX;) {
        ssize_t got = recv(fd, some, sizeof some, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    return false;
}

/* More bytes into `in`; false at the end, or when nothing came for too long. */
static bool receive(int fd, struct mj_buf *in)
{
    if (mj_buf_try_reserve(in, 65536))
        return false;
    ssize_t n;
    do
        n = recv(fd, in->ptr + in->len, 65536, 0);
    while (n < 0 && errno == EINTR);
    in->len += n > 0 ? (size_t)n : 0;
    return n > 0;
}

/* Reads one request and answers it; false: the connection has ended. */
static bool serve_one(struct listener *l, int fd, struct mj_buf *in)
{
    struct mj_http_head head;
    int size;
    while ((size = mj_http_parse_request(mj_buf_span(in), &head)) == MJ_EAGAIN)
        if (in->len > HEAD_MAX)
            return refuse(fd, 431, "the head is too large\n");
        else if (!receive(fd, in))
            return false;
    int64_t length = 0;
    struct mj_span given;
    if (size < 0)
        return refuse(fd, 400, "that is no HTTP/1.1\n");
    given = mj_http_header(&head, "Content-Length");
    if (mj_http_header(&head, "Transfer-Encoding").ptr)
        return refuse(fd, 411, "send a Content-Length\n");
    if (given.ptr && (mj_span_i64(given, &length) || length < 0))
        return refuse(fd, 400, "the Content-Length is no number\n");
    if (length > (int64_t)BODY_MAX)
        return refuse(fd, 413, "the body is larger than 16 MiB\n");
    if (mj_http_has_token(mj_http_header(&head, "Expect"), "100-continue") &&
        !send_all(fd, MJ_SPAN("HTTP/1.1 100 Continue\r\n\r\n")))
        return false;
    size_t whole = (size_t)size + (size_t)length;
    while (in->len < whole)
        if (!receive(fd, in))
            return false;
    mj_http_parse_request(mj_buf_span(in), &head); /* the buffer may have moved */
    bool last = mj_http_has_token(mj_http_header(&head, "Connection"), "close"), more;
    if (mj_span_is(head.method, "POST") || mj_span_is(head.method, "PUT")) {
        struct mj__delivery d = {.head = &head, .body = mj_span(in->ptr + size, (size_t)length)};
        more = deliver(l, &d) && answer(fd, d.status, mj_buf_span(&d.answer), last);
        mj_buf_deinit(&d.how);
        mj_buf_deinit(&d.answer);
    } else {
        more = answer(fd, 405, MJ_SPAN("deliveries are sent with POST\n"), last);
    }
    mj_buf_shift(in, whole);
    return more;
}

struct connection {
    struct listener *l;
    size_t slot;
};

static void *serve(void *arg)
{
    struct connection *c = arg;
    struct listener *l = c->l;
    size_t slot = c->slot;
    int fd = l->fds[slot]; /* was set before this thread began */
    MJ_AUTO_BUF in = {0};
    free(c);
    while (serve_one(l, fd, &in)) {
        if (!l->cfg->count)
            continue;
        pthread_mutex_lock(&l->lock);
        bool enough = l->deliveries >= l->cfg->count;
        pthread_mutex_unlock(&l->lock);
        if (enough)
            break;
    }
    pthread_mutex_lock(&l->lock);
    l->fds[slot] = -1;
    l->connections--;
    bool enough = l->cfg->count && l->deliveries >= l->cfg->count;
    pthread_cond_signal(&l->free);
    pthread_mutex_unlock(&l->lock);
    close(fd);
    if (enough)
        kill(getpid(), SIGTERM);
    return NULL;
}

/* A thread for the connection; when there are too many the peer waits until one ends. */
static void take(struct listener *l, int fd)
{
    struct timeval wait = {.tv_sec = IDLE_SECONDS};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    struct connection *c = mj_calloc(1, sizeof *c);
    c->l = l;
    pthread_mutex_lock(&l->lock);
    while (l->fds[c->slot] >= 0)
        c->slot++;
    l->fds[c->slot] = fd;
    l->connections++;
    pthread_mutex_unlock(&l->lock);
    pthread_t thread;
    if (pthread_create(&thread, NULL, serve, c) == 0) {
        pthread_detach(thread);
        return;
    }
    fprintf(stderr, "moonjet webhook listen: no thread for a connection\n");
    pthread_mutex_lock(&l->lock);
    l->fds[c->slot] = -1;
    l->connections--;
    pthread_mutex_unlock(&l->lock);
    close(fd);
    free(c);
}

static volatile sig_atomic_t stopping;
static void on_signal(int sig)
{
    (void)sig;
    stopping = 1;
}

/* Until a signal. It is blocked but while this waits, so none is missed. */
static void accept_all(struct listener *l, int fd, const sigset_t *waiting)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (!stopping) {
        pthread_mutex_lock(&l->lock);
        bool full = l->connections == CONNECTIONS;
        pthread_mutex_unlock(&l->lock);
        struct timespec soon = {0, 50000000};
        int n = ppoll(&p, full ? 0 : 1, full ? &soon : NULL, waiting);
        if (n <= 0)
            continue;
        int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (conn >= 0)
            take(l, conn);
        else if (errno == EMFILE || errno == ENFILE)
            sleep_us(50000);
    }
}

/* Ends the connections, and waits for their threads. */
static void end_all(struct listener *l)
{
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < CONNECTIONS; i++)
        if (l->fds[i] >= 0)
            shutdown(l->fds[i], SHUT_RD);
    while (l->connections)
        pthread_cond_wait(&l->free, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

static int run(struct listener *l, const struct mj_hostport *at)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t ours, waiting;
    sigemptyset(&ours);
    sigaddset(&ours, SIGINT);
    sigaddset(&ours, SIGTERM);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    pthread_sigmask(SIG_BLOCK, &ours, &waiting);
    int fd = mj_listen(at, &l->port);
    if (fd < 0) {
        fprintf(stderr, "moonjet webhook listen: --listen %s: %s\n", l->cfg->listen,
                strerror(errno));
        return MJ_EXIT_FAILED;
    }
    MJ_AUTO_BUF error = {0};
    if (l->cfg->forward && mj_http_start(&(struct mj_http_cfg){0}, &l->http)) {
        close(fd);
        return MJ_EXIT_FAILED;
    }
    const char *host = *at->host ? at->host : "127.0.0.1";
    fprintf(stderr, "listening on http://%s%s%s:%d/\n", strchr(host, ':') ? "[" : "", host,
            strchr(host, ':') ? "]" : "", l->port);
    if (!l->secrets.texts_n)
        fprintf(stderr, "no --secret and no --secret-file: signatures are not checked\n");
    accept_all(l, fd, &waiting);
    close(fd);
    end_all(l);
    mj_http_stop(l->http);
    fprintf(stderr, "%" PRId64 " deliveries, %" PRId64 " refused\n", l->deliveries,
            l->deliveries - l->good);
    return l->good == l->deliveries ? MJ_EXIT_OK : MJ_EXIT_FAILED;
}

/* 0.1 or 10%; false when it is neither. */
static bool read_share(const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    if (end != text && *end == '%') {
        *out /= 100;
        end++;
    }
    return end != text && !*end && *out >= 0 && *out <= 1;
}

static int listen_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg cfg = {0};
    struct mj_strings pos;
    struct mj_hostport at;
    struct mj_url url;
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    struct listener *l = mj_calloc(1, sizeof *l);
    l->cfg = &cfg;
    l->colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->free, NULL);
    for (size_t i = 0; i < CONNECTIONS; i++)
        l->fds[i] = -1;
    mj_log_setup(MJ_LOG_WARN, false);
    r = MJ_EXIT_USAGE;
    if (mj_hostport_parse(cfg.listen, &at))
        fprintf(stderr, "moonjet webhook listen: --listen %s: expected HOST:PORT\n", cfg.listen);
    else if (cfg.status < 200 || cfg.status > 599)
        fprintf(stderr, "moonjet webhook listen: --status is a number from 200 to 599\n");
    else if (!read_share(cfg.fail_rate, &l->fail_rate))
        fprintf(stderr,
                "moonjet webhook listen: --fail-rate %s: expected 0 to 1, or 0%% to 100%%\n",
                cfg.fail_rate);
    else if (cfg.forward && mj_url_parse(cfg.forward, &url))
        fprintf(stderr, "moonjet webhook listen: --forward %s: expected http://HOST:PORT/PATH\n",
                cfg.forward);
    else if (cfg.delay < 0 || cfg.count < 0 || cfg.tolerance < 0)
        fprintf(stderr,
                "moonjet webhook listen: --delay, --count and --tolerance are at least 0\n");
    else
        r = mj__webhook_secrets_read("webhook listen", &cfg.secrets, &cfg.files, cfg.github,
                                     &l->secrets);
    if (!r)
        r = run(l, &at);
    mj__webhook_secrets_deinit(&l->secrets);
    pthread_cond_destroy(&l->free);
    pthread_mutex_destroy(&l->lock);
    free(l);
    return r;
}

#define AT(field) offsetof(struct cfg, field)

static const struct mj_option options[] = {
    {"listen", MJ_OPT_STR, AT(listen), "HOST:PORT", "where to receive; port 0 picks one",
     .def = "127.0.0.1:6010"},
    {"secret", MJ_OPT_LIST, AT(secrets), "TEXT",
     "whsec_… or whpk_…; others on this machine can see it: better in a file; repeatable"},
    {"secret-file", MJ_OPT_LIST, AT(files), "FILE",
     "a file with a secret (- for standard input); repeatable, while secrets are changed"},
    {"github", MJ_OPT_FLAG, AT(github), NULL,
     "check X-Hub-Signature-256 as well; the secret may then be any text"},
    {"tolerance", MJ_OPT_TIME, AT(tolerance), "TIME", "how far webhook-timestamp may be off",
     .def = "5m"},
    {"status", MJ_OPT_INT, AT(status), "N", "the answer to a good delivery", .def = "200"},
    {"delay", MJ_OPT_TIME, AT(delay), "TIME", "wait that long before each answer", .def = "0"},
    {"fail-rate", MJ_OPT_STR, AT(fail_rate), "SHARE", "answer 500 to that share (0.1, 10%)",
     .def = "0"},
    {"forward", MJ_OPT_STR, AT(forward), "URL",
     "send good deliveries on to that, and answer what it answers"},
    {"count", MJ_OPT_INT, AT(count), "N", "end after N deliveries"},
    {"json", MJ_OPT_FLAG, AT(json), NULL, "a line of JSON each, with headers and body"},
    {0}};

const struct mj_command mj__webhook_listen = {
    .name = "webhook listen",
    .usage = "",
    .summary = "Receive webhooks, check their signatures, and print them.",
    .details = "What is wrong with a delivery is said here and in the answer, which is then 401.\n"
               "The exit status is 1 when one was refused. A moonjet on the same machine must be\n"
               "allowed to reach it: jet.webhook { url = …, allow = { \"127.0.0.1\" } }.",
    .options = options,
    .main = listen_main,
};
