/* The readers: a process that connects, receives and throws away. It is told what to do by a byte
 * on a socket, the rest is in memory that both processes see. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/ws.h"
#include "cli/bench_net.h"

#define ORDER_BYTES (1u << 20) /* a filter of thousands of DIDs */
#define WAIT_US     INT64_C(10000000)
#define STALLED_RCV 4096

struct mj_bench_drained {
    struct {
        _Atomic uint64_t open, ended, bytes;
    } groups[MJ_BENCH_GROUPS];
    struct mj_bench_open order; /* target: whether there is one */
    size_t len;                 /* of text */
    char text[ORDER_BYTES];     /* the target, or a frame to send */
};

struct conn {
    int fd;
    uint8_t group, ends; /* ends: bytes of the empty line that ends the head, so far */
    bool open, stalled;
};

/* The child's. */
struct drain {
    struct mj_bench_drained *drained;
    int epoll, control;
    struct group {
        struct conn *conns; /* owned */
        size_t count;
    } groups[MJ_BENCH_GROUPS];
};

static void hang_up(struct drain *d, struct conn *c)
{
    close(c->fd);
    c->fd = -1;
    if (c->open)
        atomic_fetch_sub(&d->drained->groups[c->group].open, 1);
}

static void now_open(struct drain *d, struct conn *c)
{
    c->open = true;
    if (c->stalled)
        epoll_ctl(d->epoll, EPOLL_CTL_DEL, c->fd, NULL);
    atomic_fetch_add(&d->drained->groups[c->group].open, 1);
}

static void on_readable(struct drain *d, struct conn *c)
{
    static char head[4096], rest[1 << 20];
    _Atomic uint64_t *bytes = &d->drained->groups[c->group].bytes;
    /* TRUNC: not even copied. */
    ssize_t n = c->open ? recv(c->fd, rest, sizeof rest, MSG_TRUNC | MSG_DONTWAIT)
                        : recv(c->fd, head, sizeof head, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        atomic_fetch_add(&d->drained->groups[c->group].ended, 1);
        hang_up(d, c);
        return;
    }
    if (c->open) {
        atomic_fetch_add(bytes, (uint64_t)n);
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        c->ends = head[i] == "\r\n\r\n"[c->ends] ? c->ends + 1 : head[i] == '\r';
        if (c->ends == 4) {
            now_open(d, c);
            atomic_fetch_add(bytes, (uint64_t)(n - i - 1));
            return;
        }
    }
}

static int connect_one(const struct mj_bench_open *o, size_t i)
{
    struct sockaddr_in from = {.sin_family = AF_INET},
                       to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)o->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, small = STALLED_RCV;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (o->stalled)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 256 + (uint32_t)i);
    if ((o->spread && bind(fd, (struct sockaddr *)&from, sizeof from)) ||
        connect(fd, (struct sockaddr *)&to, sizeof to)) {
        close(fd);
        return -1;
    }
    return fd;
}

static char open_group(struct drain *d)
{
    const struct mj_bench_open *o = &d->drained->order;
    struct group *g = &d->groups[o->group];
    g->conns = mj_calloc(o->count, sizeof *g->conns);
    g->count = o->count;
    MJ_AUTO_BUF request = {0};
    if (o->target)
        mj_buf_printf(&request,
                      "GET %s HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\n"
                      "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                      "Sec-WebSocket-Key: bW9vbmpldC1iZW5jaC4uLg==\r\n\r\n",
                      d->drained->text);
    for (size_t i = 0; i < o->count; i++) {
        struct conn *c = &g->conns[i];
        *c = (struct conn){
            .fd = connect_one(o, i), .group = (uint8_t)o->group, .stalled = o->stalled};
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        if (c->fd < 0 || epoll_ctl(d->epoll, EPOLL_CTL_ADD, c->fd, &e) ||
            (o->target && send(c->fd, request.ptr, request.len, MSG_NOSIGNAL) < 0)) {
            fprintf(stderr, "moonjet bench: connection %zu: %s\n", i, strerror(errno));
            g->count = c->fd < 0 ? i : i + 1;
            return 'n';
        }
        if (!o->target)
            now_open(d, c);
    }
    return 'y';
}

static void close_group(struct drain *d)
{
    unsigned k = d->drained->order.group;
    struct group *g = &d->groups[k];
    for (size_t i = 0; i < g->count; i++)
        if (g->conns[i].fd >= 0)
            hang_up(d, &g->conns[i]);
    free(g->conns);
    *g = (struct group){0};
    atomic_store(&d->drained->groups[k].bytes, 0);
    atomic_store(&d->drained->groups[k].ended, 0);
}

static void say(struct drain *d)
{
    struct group *g = &d->groups[d->drained->order.group];
    for (size_t i = 0; i < g->count; i++)
        if (g->conns[i].fd >= 0)
            send(g->conns[i].fd, d->drained->text, d->drained->len, MSG_NOSIGNAL);
}

static void obey(struct drain *d)
{
    char what, answer = 'y';
    if (read(d->control, &what, 1) != 1)
        _exit(0);
    if (what == 'o')
        answer = open_group(d);
    else if (what == 'c')
        close_group(d);
    else
        say(d);
    if (write(d->control, &answer, 1) != 1)
        _exit(0);
}

static void serve(struct drain *d)
{
    struct epoll_event ready[256], e = {.events = EPOLLIN};
    d->epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(d->epoll, EPOLL_CTL_ADD, d->control, &e);
    for (;;) {
        int n = epoll_wait(d->epoll, ready, MJ_COUNT(ready), -1);
        bool told = false;
        for (int i = 0; i < n; i++)
            if (ready[i].data.ptr)
                on_readable(d, ready[i].data.ptr);
            else
                told = true;
        if (told) /* last: it may free what is in ready[] */
            obey(d);
    }
}

/* ---- this process ---- */

int mj_bench_drain_start(struct mj_bench_drain *d)
{
    int pair[2];
    *d = (struct mj_bench_drain){.pid = -1, .control = -1};
    void *memory =
        mmap(NULL, sizeof *d->drained, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        perror("moonjet bench: readers");
        return MJ_EIO;
    }
    d->drained = memory;
    d->control = pair[0];
    fflush(NULL);
    d->pid = fork();
    if (d->pid < 0) {
        perror("moonjet bench: readers");
        close(pair[1]);
        return MJ_EIO;
    }
    if (d->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(pair[0]);
        struct drain child = {.drained = d->drained, .control = pair[1]};
        serve(&child);
    }
    close(pair[1]);
    return 0;
}

void mj_bench_drain_stop(struct mj_bench_drain *d)
{
    if (d->control >= 0)
        close(d->control);
    if (d->pid > 0) {
        kill(d->pid, SIGKILL);
        waitpid(d->pid, NULL, 0);
    }
    if (d->drained)
        munmap(d->drained, sizeof *d->drained);
    *d = (struct mj_bench_drain){.pid = -1, .control = -1};
}

static int order(struct mj_bench_drain *d, char what)
{
    char answer = 0;
    if (write(d->control, &what, 1) == 1 && read(d->control, &answer, 1) == 1 && answer == 'y')
        return 0;
    fprintf(stderr, "moonjet bench: the readers failed\n");
    return MJ_EIO;
}

int mj_bench_drain_open(struct mj_bench_drain *d, const struct mj_bench_open *o)
{
    d->drained->order = *o;
    snprintf(d->drained->text, sizeof d->drained->text, "%s", o->target ? o->target : "");
    return order(d, 'o');
}

void mj_bench_drain_say(struct mj_bench_drain *d, unsigned group, struct mj_span text)
{
    static const uint8_t mask[4] = {0};
    uint8_t head[MJ_WS_HEAD_MAX];
    size_t n = mj_ws_head_masked(head, MJ_WS_TEXT, text.len, mask);
    if (n + text.len > sizeof d->drained->text)
        return;
    memcpy(d->drained->text, head, n);
    memcpy(d->drained->text + n, text.ptr, text.len);
    d->drained->len = n + text.len;
    d->drained->order.group = group;
    order(d, 's');
}

void mj_bench_drain_close(struct mj_bench_drain *d, unsigned group)
{
    d->drained->order.group = group;
    order(d, 'c');
}

uint64_t mj_bench_drain_bytes(const struct mj_bench_drain *d, unsigned group)
{
    return atomic_load(&d->drained->groups[group].bytes);
}

uint64_t mj_bench_drain_ended(const struct mj_bench_drain *d, unsigned group)
{
    return atomic_load(&d->drained->groups[group].ended);
}

bool mj_bench_drain_await(struct mj_bench_drain *d, unsigned group, size_t count)
{
    int64_t until = mj_mono_us() + WAIT_US;
    while (atomic_load(&d->drained->groups[group].open) < count) {
        if (mj_mono_us() > until) {
            fprintf(stderr, "moonjet bench: %zu of %zu connections came\n",
                    (size_t)atomic_load(&d->drained->groups[group].open), count);
            return false;
        }
        usleep(500);
    }
    return true;
}

bool mj_bench_drain_receive(struct mj_bench_drain *d, unsigned group, uint64_t bytes)
{
    int64_t moved = mj_mono_us();
    uint64_t last = 0, now;
    while ((now = mj_bench_drain_bytes(d, group)) < bytes) {
        if (now != last)
            moved = mj_mono_us();
        last = now;
        if (mj_mono_us() - moved > WAIT_US) {
            fprintf(stderr, "moonjet bench: readers got %llu of %llu bytes\n",
                    (unsigned long long)now, (unsigned long long)bytes);
            return false;
        }
        usleep(200);
    }
    return true;
}
