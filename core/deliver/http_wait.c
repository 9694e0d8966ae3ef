/* What the net thread waits with: epoll, since curl_multi_poll() looks at every handle in every
 * round. libcurl says which sockets it wants to know of, and when it wants to be called. */
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "deliver/internal.h"

#define EXTRA_FDS 32
#define READY_MAX 256 /* sockets looked at in a round */
/* In the set of epoll, as; and libcurl wants it. */
#define INTEREST_IN     1
#define INTEREST_OUT    2
#define INTEREST_WANTED 4
#define IDLE_MAX        2048 /* connections kept open, and no more than a quarter of the descriptors */

void mj_http_wake(struct mj_http *h)
{
    uint64_t one = 1;
    ssize_t ignored = write(h->bell, &one, sizeof one);
    (void)ignored; /* it rings already */
}

/* libcurl's timers go by the real time, also where the clock stands. */
static int64_t real_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int on_timer(CURLM *multi, long ms, void *ctx)
{
    struct mj_http *h = ctx;
    (void)multi;
    h->curl_due_us = ms < 0 ? INT64_MAX : ms ? real_us() + (int64_t)ms * 1000 : 0;
    return 0;
}

/* What epoll has of a descriptor. */
static uint8_t *interest_of(struct mj_http *h, int fd)
{
    if ((size_t)fd >= h->interest_cap) {
        size_t cap = h->interest_cap ? h->interest_cap : 256;
        while (cap <= (size_t)fd)
            cap *= 2;
        h->interest = mj_realloc(h->interest, cap);
        memset(h->interest + h->interest_cap, 0, cap - h->interest_cap);
        h->interest_cap = cap;
    }
    return &h->interest[fd];
}

/* libcurl wants to know of a socket, or no more. It stays in the set when a request has ended,
 * because the next one mostly comes at once; what happens to it meanwhile takes it out. */
static int on_interest(CURL *easy, curl_socket_t fd, int what, void *ctx, void *known)
{
    struct mj_http *h = ctx;
    struct epoll_event e = {.data.fd = fd};
    uint8_t *is = interest_of(h, fd), was = *is & (INTEREST_IN | INTEREST_OUT);
    (void)easy;
    (void)known;
    if (what == CURL_POLL_REMOVE) {
        *is &= (uint8_t)~INTEREST_WANTED;
        return 0;
    }
    uint8_t wanted = what & CURL_POLL_IN ? INTEREST_IN : 0;
    wanted |= what & CURL_POLL_OUT ? INTEREST_OUT : 0;
    e.events |= wanted & INTEREST_IN ? EPOLLIN : 0;
    e.events |= wanted & INTEREST_OUT ? EPOLLOUT : 0;
    /* Between two requests it may have been closed behind our back, and its number be another's. */
    bool sure = *is & INTEREST_WANTED && was == wanted;
    *is = wanted | INTEREST_WANTED;
    if (!sure && (!was || epoll_ctl(h->epoll, EPOLL_CTL_MOD, fd, &e)) &&
        epoll_ctl(h->epoll, EPOLL_CTL_ADD, fd, &e) && epoll_ctl(h->epoll, EPOLL_CTL_MOD, fd, &e))
        *is = 0;
    return 0;
}

/* The kernel takes it out of the set by itself; its number comes again. */
int mj__http_close(void *ctx, curl_socket_t fd)
{
    struct mj_http *h = ctx;
    *interest_of(h, fd) = 0;
    return close(fd);
}

static bool is_idle(struct mj_http *h, int fd)
{
    uint8_t *is = interest_of(h, fd);
    if (*is & INTEREST_WANTED)
        return false;
    *is = 0;
    epoll_ctl(h->epoll, EPOLL_CTL_DEL, fd, NULL);
    return true;
}

/* What is due by libcurl's clock. True when something has ended. */
bool mj__wait_run_due(struct mj_http *h)
{
    int ignored;
    if (h->curl_due_us == INT64_MAX || (h->curl_due_us && h->curl_due_us > real_us()))
        return false;
    h->curl_due_us = INT64_MAX;
    curl_multi_socket_action(h->multi, CURL_SOCKET_TIMEOUT, 0, &ignored);
    return mj__http_results(h);
}

static void on_ready(struct mj_http *h, const struct epoll_event *e)
{
    int ignored, what = 0;
    uint64_t count;
    if (e->data.fd == h->bell) {
        if (read(h->bell, &count, sizeof count) < 0)
            return; /* somebody was sooner */
        return;
    }
    if (is_idle(h, e->data.fd))
        return;
    what |= e->events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0;
    what |= e->events & EPOLLOUT ? CURL_CSELECT_OUT : 0;
    what |= e->events & EPOLLERR ? CURL_CSELECT_ERR : 0;
    curl_multi_socket_action(h->multi, e->data.fd, what, &ignored);
}

/* Waits for sockets, the bell, the poller's descriptors, or that long. */
void mj__wait(struct mj_http *h, int64_t timeout_us)
{
    struct pollfd fds[1 + EXTRA_FDS];
    struct epoll_event ready[READY_MAX];
    size_t n = 0;
    if (h->next_expiry_us != INT64_MAX && h->next_expiry_us - mj_mono_us() < timeout_us)
        timeout_us = h->next_expiry_us - mj_mono_us();
    if (h->waiting && h->lingering && h->lingering->until_us - mj_mono_us() < timeout_us)
        timeout_us = h->lingering->until_us - mj_mono_us();
    if (!h->curl_due_us)
        timeout_us = 0;
    else if (h->curl_due_us != INT64_MAX && h->curl_due_us - real_us() < timeout_us)
        timeout_us = h->curl_due_us - real_us();
    if (h->poller.prepare)
        n = h->poller.prepare(h->poller.ctx, fds + 1, EXTRA_FDS, &timeout_us);
    int ms = timeout_us <= 0 ? 0 : (int)(timeout_us / 1000) + 1;
    if (n) {
        fds[0] = (struct pollfd){.fd = h->epoll, .events = POLLIN};
        for (size_t i = 1; i <= n; i++)
            fds[i].revents = 0;
        poll(fds, (nfds_t)n + 1, ms);
        ms = 0;
    }
    int count = epoll_wait(h->epoll, ready, READY_MAX, ms);
    for (int i = 0; i < count; i++)
        on_ready(h, &ready[i]);
    if (h->poller.ready)
        h->poller.ready(h->poller.ctx, fds + 1, n);
}

static long idle_max(void)
{
    struct rlimit limit;
    rlim_t quarter = getrlimit(RLIMIT_NOFILE, &limit) ? 64 : limit.rlim_cur / 4;
    return quarter < IDLE_MAX ? (long)quarter : IDLE_MAX;
}

int mj__wait_init(struct mj_http *h)
{
    h->curl_due_us = INT64_MAX;
    h->epoll = epoll_create1(EPOLL_CLOEXEC);
    h->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event bell = {.events = EPOLLIN, .data.fd = h->bell};
    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, idle_max());
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_interest);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
    return epoll_ctl(h->epoll, EPOLL_CTL_ADD, h->bell, &bell) ? MJ_EIO : 0;
}

void mj__wait_deinit(struct mj_http *h)
{
    free(h->interest);
    if (h->epoll >= 0)
        close(h->epoll);
    if (h->bell >= 0)
        close(h->bell);
}
