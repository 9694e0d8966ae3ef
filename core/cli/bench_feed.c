/* Fed over loopback: `moonjet replay` in a process of its own, this one reading it as `moonjet
 * run` does. Beside it, the least a reader can do: recv() and step over frames. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/ws.h"
#include "cli/bench.h"
#include "flow/router.h"
#include "source/firehose.h"

struct feed {
    struct mj_loop *loop;
    struct mj_router *router; /* NULL: frames are only counted */
    size_t frames, events, want;
    int64_t wall, cpu; /* at the first frame */
    int64_t wall_end, cpu_end;
};

static int on_frame(void *ctx, struct mj_span bytes, struct mj_frame *out)
{
    struct feed *f = ctx;
    if (!f->frames++) {
        f->wall = mj_bench_wall_ns();
        f->cpu = mj_bench_cpu_ns();
    }
    int err = 0;
    if (f->router)
        err = mj_router_frame(f->router, bytes, out);
    else
        *out = (struct mj_frame){.type = MJ_FRAME_COMMIT};
    f->events += out->events;
    if (f->frames == f->want) {
        f->wall_end = mj_bench_wall_ns();
        f->cpu_end = mj_bench_cpu_ns();
        mj_loop_stop(f->loop);
    }
    return err;
}

static void on_flush(void *ctx)
{
    struct feed *f = ctx;
    if (f->router)
        mj_router_flush(f->router, -1, 0);
}

static int run_feed(struct feed *f, const char *url)
{
    f->loop = mj_loop_new();
    struct mj_firehose_cfg cfg = {
        .url = url, .cursor = -1, .frame = on_frame, .flush = on_flush, .ctx = f};
    struct mj_firehose *hose;
    int err = mj_firehose_new(f->loop, &cfg, &hose);
    if (!err) {
        mj_loop_run(f->loop);
        mj_firehose_free(hose);
    }
    mj_loop_free(f->loop);
    return err;
}

/* The yardstick: CPU nanoseconds per frame; 0 when the connection failed. */
static double plain_recv_ns(int port, size_t want)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    static const char request[] =
        "GET " MJ_FIREHOSE_PATH " HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: bW9vbmpldC1iZW5jaC4uLg==\r\n\r\n";
    double result = 0;
    struct mj_buf in = {0};
    size_t frames = 0;
    bool upgraded = false;
    int64_t start = 0;
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) ||
        send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0)
        goto out;
    while (frames < want) {
        mj_buf_reserve(&in, 256 << 10);
        ssize_t n = recv(fd, in.ptr + in.len, 256 << 10, 0);
        if (n <= 0)
            goto out;
        in.len += (size_t)n;
        size_t used = 0;
        if (!upgraded) {
            uint8_t *end = memmem(in.ptr, in.len, "\r\n\r\n", 4);
            if (!end)
                continue;
            used = (size_t)(end - in.ptr) + 4;
            upgraded = true;
            start = mj_bench_cpu_ns();
        }
        while (in.len - used >= 10 && frames < want) {
            const uint8_t *p = in.ptr + used;
            size_t len = p[1] & 127, head = 2;
            if (len == 126)
                len = (size_t)p[2] << 8 | p[3], head = 4;
            else if (len == 127)
                len = (size_t)p[6] << 24 | (size_t)p[7] << 16 | (size_t)p[8] << 8 | p[9], head = 10;
            if (in.len - used < head + len)
                break;
            used += head + len;
            frames++;
        }
        mj_buf_shift(&in, used);
    }
    result = (double)(mj_bench_cpu_ns() - start) / (double)frames;
out:
    if (fd >= 0)
        close(fd);
    mj_buf_deinit(&in);
    return result;
}

void mj_bench_feed(struct mj_bench *b)
{
    const char *const args[] = {"replay", b->in->path, "--listen", "127.0.0.1:0", "--loop", NULL};
    struct mj_bench_child child;
    char line[512], url[256];
    if (mj_bench_spawn(&child, args, "listening on ", line, sizeof line))
        return;
    snprintf(url, sizeof url, "%.*s", (int)strcspn(strstr(line, "ws://"), " \r\n"),
             strstr(line, "ws://"));
    int port = atoi(strchr(url + 5, ':') + 1);
    size_t want = (size_t)(b->seconds * 200000);
    double rate = 0, ours = 1e9, plain = 1e9;
    for (int round = 0; round < 3; round++) {
        struct mj_journal *journal = mj_journal_in_memory(32u << 20);
        struct feed routed = {.router = mj_router_new(journal), .want = want};
        if (!run_feed(&routed, url)) {
            double r = (double)routed.events * 1e9 / (double)(routed.wall_end - routed.wall);
            rate = r > rate ? r : rate;
        }
        mj_router_free(routed.router);
        mj_journal_close(journal);
        struct feed counted = {.want = want};
        if (!run_feed(&counted, url)) {
            double ns = (double)(counted.cpu_end - counted.cpu) / (double)counted.frames;
            ours = ns < ours ? ns : ours;
        }
        double ns = plain_recv_ns(port, want);
        plain = ns > 0 && ns < plain ? ns : plain;
    }
    mj_bench_kill(&child);
    mj_bench_report(b, "feed_events_per_s", rate, "events/s",
                    "wall clock, replay on the other core", MJ_GOAL_AT_LEAST, 3e5);
    char beside[80];
    snprintf(beside, sizeof beside, "ours %.0f ns, recv() loop %.0f ns of CPU per frame", ours,
             plain);
    mj_bench_report(b, "receive_vs_recv", ours / plain, "x", beside, MJ_GOAL_AT_MOST, 1.5);
}
