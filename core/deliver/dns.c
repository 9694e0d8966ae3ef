#include "deliver/dns.h"

#include <ares.h>
#include <poll.h>
#include <pthread.h>
#include <sys/time.h>

#include "base/err.h"

#define TEXTS_MAX  64
#define TIMEOUT_MS 2000 /* of one try; three of them, then HTTPS is asked */

struct mj_dns {
    struct mj_http *http; /* borrowed */
    ares_channel channel; /* owned */
};

struct question {
    void (*done)(void *ctx, const char *error, const struct mj_span *texts, size_t n);
    void *ctx;
};

static size_t prepare(void *ctx, struct pollfd *fds, size_t max, int64_t *timeout_us)
{
    struct mj_dns *d = ctx;
    ares_socket_t sockets[ARES_GETSOCK_MAXNUM];
    /* As ARES_GETSOCK_READABLE and _WRITABLE have it, whose shifts are of signed numbers. */
    unsigned mask = (unsigned)ares_getsock(d->channel, sockets, ARES_GETSOCK_MAXNUM);
    size_t n = 0;
    for (int i = 0; i < ARES_GETSOCK_MAXNUM && n < max; i++) {
        short events = (short)((mask >> i & 1 ? POLLIN : 0) |
                               (mask >> (i + ARES_GETSOCK_MAXNUM) & 1 ? POLLOUT : 0));
        if (events)
            fds[n++] = (struct pollfd){.fd = sockets[i], .events = events};
    }
    struct timeval tv, *left = ares_timeout(d->channel, NULL, &tv);
    if (left) {
        int64_t us = (int64_t)left->tv_sec * 1000000 + left->tv_usec;
        if (us < *timeout_us)
            *timeout_us = us;
    }
    return n;
}

static void ready(void *ctx, const struct pollfd *fds, size_t n)
{
    struct mj_dns *d = ctx;
    for (size_t i = 0; i < n; i++)
        if (fds[i].revents)
            ares_process_fd(d->channel, fds[i].revents & POLLIN ? fds[i].fd : ARES_SOCKET_BAD,
                            fds[i].revents & POLLOUT ? fds[i].fd : ARES_SOCKET_BAD);
    ares_process_fd(d->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD); /* its timeouts */
}

static pthread_once_t ares_once = PTHREAD_ONCE_INIT;
static void start_ares(void) { ares_library_init(ARES_LIB_INIT_ALL); }

int mj_dns_new(struct mj_http *http, const char *servers, struct mj_dns **out)
{
    struct ares_options options = {.timeout = TIMEOUT_MS, .tries = 3};
    pthread_once(&ares_once, start_ares);
    struct mj_dns *d = mj_calloc(1, sizeof *d);
    d->http = http;
    int r = ares_init_options(&d->channel, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES);
    if (r) {
        free(d);
        return MJ_EIO;
    }
    if (servers && ares_set_servers_ports_csv(d->channel, servers)) {
        ares_destroy(d->channel);
        free(d);
        return MJ_ESYNTAX;
    }
    *out = d;
    return 0;
}

void mj_dns_attach(struct mj_dns *d)
{
    mj_http_set_poller(d->http,
                       &(struct mj_http_poller){.prepare = prepare, .ready = ready, .ctx = d});
}

void mj_dns_free(struct mj_dns *d)
{
    if (!d)
        return;
    ares_destroy(d->channel);
    free(d);
}

static void collect(struct question *q, const struct ares_txt_ext *list)
{
    struct mj_buf texts[TEXTS_MAX] = {{0}};
    struct mj_span spans[TEXTS_MAX];
    size_t n = 0;
    for (; list; list = list->next) {
        if (list->record_start && n == TEXTS_MAX)
            break;
        n += list->record_start || !n;
        mj_buf_put(&texts[n - 1], list->txt, list->length);
    }
    for (size_t i = 0; i < n; i++)
        spans[i] = mj_buf_span(&texts[i]);
    q->done(q->ctx, NULL, spans, n);
    for (size_t i = 0; i < n; i++)
        mj_buf_deinit(&texts[i]);
}

static void on_answer(void *ctx, int status, int timeouts, unsigned char *answer, int len)
{
    struct question *q = ctx;
    struct ares_txt_ext *list = NULL;
    (void)timeouts;
    if (!status)
        status = ares_parse_txt_reply_ext(answer, len, &list);
    if (!status)
        collect(q, list);
    else if (status == ARES_ENODATA || status == ARES_ENOTFOUND)
        q->done(q->ctx, NULL, NULL, 0);
    else
        q->done(q->ctx, ares_strerror(status), NULL, 0);
    if (list)
        ares_free_data(list);
    free(q);
}

void mj_dns_txt(struct mj_dns *d, const char *name,
                void (*done)(void *ctx, const char *error, const struct mj_span *texts, size_t n),
                void *ctx)
{
    struct question *q = mj_calloc(1, sizeof *q);
    q->done = done;
    q->ctx = ctx;
    ares_query(d->channel, name, 1 /* IN */, 16 /* TXT */, on_answer, q);
}
