#include "source/dial.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

struct dial {
    char *host; /* owned */
    int port, answer_fd;
    int64_t timeout_ms;
};

static int connect_one(const struct addrinfo *ai, int64_t timeout_ms, int *why)
{
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        *why = errno;
        return -1;
    }
    int failed = connect(fd, ai->ai_addr, ai->ai_addrlen) ? errno : 0;
    if (failed == EINPROGRESS) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        socklen_t len = sizeof failed;
        if (poll(&p, 1, (int)timeout_ms) <= 0)
            failed = ETIMEDOUT;
        else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &len))
            failed = errno;
    }
    if (failed) {
        *why = failed;
        close(fd);
        return -1;
    }
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void try_all(const struct dial *d, struct mj_dialed *out)
{
    char port[8];
    snprintf(port, sizeof port, "%d", d->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG};
    struct addrinfo *list;
    int r = getaddrinfo(d->host, port, &hints, &list);
    if (r) {
        snprintf(out->why, sizeof out->why, "cannot resolve: %s", gai_strerror(r));
        return;
    }
    int left = 0, why = 0;
    for (struct addrinfo *ai = list; ai; ai = ai->ai_next)
        left++;
    /* One address that swallows packets must not use up the time of the others. */
    int64_t end = mj_mono_us() + d->timeout_ms * 1000;
    for (struct addrinfo *ai = list; ai && out->fd < 0; ai = ai->ai_next, left--) {
        int64_t ms = (end - mj_mono_us()) / 1000 / left;
        out->fd = connect_one(ai, ms > 1 ? ms : 1, &why);
    }
    freeaddrinfo(list);
    if (out->fd < 0)
        snprintf(out->why, sizeof out->why, "cannot connect: %s", strerror(why));
}

static void *run(void *arg)
{
    struct dial *d = arg;
    struct mj_dialed result = {.fd = -1};
    try_all(d, &result);
    /* The socket travels as a passed descriptor, so that the kernel closes it if nobody is left
     * to receive it. */
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = result.why, .iov_len = sizeof result.why};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (result.fd >= 0) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof control.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &result.fd, sizeof(int));
    }
    ssize_t n = sendmsg(d->answer_fd, &msg, MSG_NOSIGNAL);
    (void)n; /* nobody waits any more */
    if (result.fd >= 0)
        close(result.fd);
    close(d->answer_fd);
    free(d->host);
    free(d);
    return NULL;
}

int mj_dial(const char *host, int port, int64_t timeout_ms)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
        return MJ_EIO;
    struct dial *d = mj_calloc(1, sizeof *d);
    *d = (struct dial){mj_strdup(host), port, pair[1], timeout_ms};
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, &attr, run, d);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (failed) {
        close(pair[0]);
        close(pair[1]);
        free(d->host);
        free(d);
        errno = failed;
        return MJ_EIO;
    }
    return pair[0];
}

int mj_dial_finish(int dial_fd, struct mj_dialed *out)
{
    *out = (struct mj_dialed){.fd = -1};
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = out->why, .iov_len = sizeof out->why};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof control.bytes};
    ssize_t n = recvmsg(dial_fd, &msg, MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return MJ_EAGAIN;
    out->why[sizeof out->why - 1] = '\0';
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(&out->fd, CMSG_DATA(c), sizeof(int));
    else if (n <= 0)
        snprintf(out->why, sizeof out->why, "cannot connect: the attempt was abandoned");
    return 0;
}
