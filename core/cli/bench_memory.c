/* What subscribers take: heap of an idle and of a stalled one, memory of a whole `moonjet run` with
 * a thousand active ones, and how many can come in a second beside bare handshakes. */
#include <errno.h>
#include <malloc.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/http.h"
#include "base/ws.h"
#include "cli/bench_net.h"

#define IDLE     4000
#define STALLED  500
#define ACTIVE   1000
#define CONNECTS 500
#define ROUNDS   5
#define KEPT     20000 /* events for those that stall: more than their sockets take */

enum { GROUP, BEFORE };

/* Bytes of the heap in use, large blocks included. */
static double heap(void)
{
    struct mallinfo2 m = mallinfo2();
    return (double)(m.uordblks + m.hblkhd);
}

/* The server is done with their requests, too. */
static bool settled(size_t subscribers)
{
    int64_t until = mj_mono_us() + 10000000;
    while (mj_bench_counter("moonjet_subscribers") != (int64_t)subscribers ||
           mj_bench_counter("moonjet_requests_open")) {
        if (mj_mono_us() > until) {
            fprintf(stderr, "moonjet bench: %zu subscribers wanted, %lld there\n", subscribers,
                    (long long)mj_bench_counter("moonjet_subscribers"));
            return false;
        }
        usleep(1000);
    }
    return true;
}

static bool open_and_settle(struct mj_bench_bed *bed, const struct mj_bench_open *o, size_t others)
{
    return !mj_bench_drain_open(&bed->drain, o) &&
           mj_bench_drain_await(&bed->drain, o->group, o->count) && settled(o->count + others);
}

/* What one takes; 0 on a failure. */
static double idle(struct mj_bench *b, struct mj_bench_bed *bed)
{
    size_t count = (size_t)fmax(200, IDLE * fmin(1, b->seconds));
    struct mj_bench_open o = {
        .group = BEFORE, .count = 100, .port = bed->port, .target = "/subscribe", .spread = true};
    if (!open_and_settle(bed, &o, 0)) /* what the first ones make is not theirs */
        return 0;
    mj_bench_drain_close(&bed->drain, BEFORE);
    if (!settled(0))
        return 0;
    double before = heap();
    o.group = GROUP;
    o.count = count;
    if (!open_and_settle(bed, &o, 0))
        return 0;
    char beside[80];
    snprintf(beside, sizeof beside, "%zu of them, each from an address of its own", count);
    double each = (heap() - before) / (double)count;
    mj_bench_report(b, "idle_subscriber_bytes", each, "bytes", beside, MJ_GOAL_AT_MOST, 4096);
    mj_bench_drain_close(&bed->drain, GROUP);
    return settled(0) ? each : 0;
}

/* Until nothing is written for a while. */
static void await_quiet(void)
{
    int64_t last = -1, since = mj_mono_us();
    while (mj_mono_us() - since < 300000) {
        int64_t now = mj_bench_counter("moonjet_written_bytes_total");
        if (now != last)
            since = mj_mono_us();
        last = now;
        usleep(10000);
    }
}

/* What one takes beyond an idle one. */
static void stalled(struct mj_bench *b, struct mj_bench_bed *bed, double idle_bytes)
{
    size_t bytes = 0, largest = 0;
    for (size_t n = 0; n < KEPT; n++) {
        size_t len = mj_bench_event_append(bed->journal, &bed->events, n, 1);
        bytes += len;
        largest = len > largest ? len : largest;
    }
    mj_journal_publish(bed->journal, -1, 0);
    struct mj_bench_open o = {.group = GROUP,
                              .count = STALLED,
                              .port = bed->port,
                              .target = "/subscribe?cursor=1",
                              .spread = true,
                              .stalled = true};
    double before = heap(), sent = (double)mj_bench_counter("moonjet_written_bytes_total");
    if (!open_and_settle(bed, &o, 0))
        return;
    await_quiet();
    double more = (heap() - before) / STALLED - idle_bytes;
    sent = ((double)mj_bench_counter("moonjet_written_bytes_total") - sent) / STALLED;
    char beside[112];
    snprintf(beside, sizeof beside,
             "beyond an idle one; frames are %zu bytes at most; %.0f KiB each in sockets", largest,
             sent / 1024);
    mj_bench_report(b, "stalled_subscriber_bytes", more, "bytes", beside, MJ_GOAL_AT_MOST,
                    (double)bytes / KEPT);
    mj_bench_drain_close(&bed->drain, GROUP);
}

/* ---- a whole router ---- */

static double private_mib(int pid)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *f = fopen(path, "re");
    double kib, sum = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %lf", &kib) == 1 || sscanf(line, "RssShmem: %lf", &kib) == 1)
            sum += kib;
    if (f)
        fclose(f);
    return sum / 1024;
}

static double child_cpu_ns(int pid)
{
    clockid_t clock;
    struct timespec ts = {0};
    if (clock_getcpuclockid(pid, &clock) == 0)
        clock_gettime(clock, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void active(struct mj_bench *b, const char *dir)
{
    const char *const feed[] = {"replay", b->in->path, "--listen", "127.0.0.1:0",
                                "--rate", "1000",      "--loop",   NULL};
    struct mj_bench_child source, router;
    struct mj_bench_drain drain;
    char line[512], url[256];
    if (mj_bench_drain_start(&drain) ||
        mj_bench_spawn(&source, feed, "listening on ", line, sizeof line)) {
        mj_bench_drain_stop(&drain);
        return;
    }
    snprintf(url, sizeof url, "%.*s", (int)strcspn(strstr(line, "ws://"), " \r\n"),
             strstr(line, "ws://"));
    const char *const run[] = {"run",         "--source",         url,           "--listen",
                               "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--data",
                               dir,           "--log-level",      "warn",        NULL};
    if (mj_bench_spawn(&router, run, "listening on ", line, sizeof line))
        goto out;
    struct mj_bench_open o = {.count = ACTIVE,
                              .port = atoi(strchr(strstr(line, "ws://") + 5, ':') + 1),
                              .target = "/subscribe",
                              .spread = true};
    if (!mj_bench_drain_open(&drain, &o) && mj_bench_drain_await(&drain, 0, ACTIVE)) {
        double seconds = 3 * fmin(1, b->seconds), cpu = child_cpu_ns(router.pid);
        uint64_t bytes = mj_bench_drain_bytes(&drain, 0);
        usleep((useconds_t)(seconds * 1e6));
        cpu = child_cpu_ns(router.pid) - cpu;
        bytes = mj_bench_drain_bytes(&drain, 0) - bytes;
        char beside[112];
        snprintf(beside, sizeof beside, "`moonjet run` at 1,000 frames/s: %.0f MB/s, %.0f %% CPU",
                 (double)bytes / seconds / 1e6, cpu / seconds / 1e7);
        mj_bench_report(b, "rss_1000_subscribers_mib", private_mib(router.pid), "MiB", beside,
                        MJ_GOAL_AT_MOST, 64);
    }
    mj_bench_kill(&router);
out:
    mj_bench_kill(&source);
    mj_bench_drain_stop(&drain);
}

void mj_bench_memory(struct mj_bench *b)
{
    struct mj_bench_bed bed;
    char dir[MJ_BENCH_DIR];
    if (!mj_bench_allow_files(IDLE + 200, "memory"))
        return;
    if (mj_bench_make_dir(true, dir))
        return;
    active(b, dir);
    mj_bench_remove_dir(dir);
    if (!mj_bench_bed_init(b, &bed, 0, mj_span(NULL, 0))) {
        double each = idle(b, &bed);
        if (each > 0)
            stalled(b, &bed, each);
    }
    mj_bench_bed_deinit(&bed);
}

/* ---- coming ---- */

/* The least a server can do: CPU nanoseconds of this thread per connection; 0 on a failure. */
static double bare_handshakes(struct mj_bench_bed *bed, int listener, int port, int *fds)
{
    struct mj_bench_open o = {
        .group = BEFORE, .count = CONNECTS, .port = port, .target = "/subscribe"};
    size_t n = 0;
    int64_t start = 0;
    if (!mj_bench_drain_open(&bed->drain, &o)) {
        start = mj_bench_cpu_ns();
        for (; n < CONNECTS; n++) {
            char request[1024], accept[29];
            while ((fds[n] = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0 && errno == EAGAIN)
                usleep(100);
            ssize_t got = fds[n] < 0 ? -1 : recv(fds[n], request, sizeof request, 0);
            struct mj_http_head head;
            if (got <= 0 || mj_http_parse_request(mj_span(request, (size_t)got), &head) <= 0)
                break;
            char key[64];
            struct mj_span k = mj_http_header(&head, "sec-websocket-key");
            snprintf(key, sizeof key, "%.*s", (int)k.len, (const char *)k.ptr);
            mj_ws_accept(mj_str(key), accept);
            char answer[256];
            int len = snprintf(answer, sizeof answer,
                               "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                               "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                               accept);
            if (send(fds[n], answer, (size_t)len, MSG_NOSIGNAL) != len)
                break;
        }
    }
    double ns = n == CONNECTS && mj_bench_drain_await(&bed->drain, BEFORE, CONNECTS)
                    ? (double)(mj_bench_cpu_ns() - start) / CONNECTS
                    : 0;
    mj_bench_bare_close(bed, BEFORE, n, fds);
    return ns;
}

void mj_bench_connects(struct mj_bench *b)
{
    if (!mj_bench_allow_files(2 * CONNECTS, "connects"))
        return;
    struct mj_bench_bed bed;
    struct mj_hostport at;
    int port, listener = -1, fds[CONNECTS];
    if (mj_bench_bed_init(b, &bed, 0, mj_span(NULL, 0)) || mj_hostport_parse("127.0.0.1:0", &at) ||
        (listener = mj_listen(&at, &port)) < 0)
        goto out;
    struct mj_bench_open o = {
        .group = GROUP, .count = CONNECTS, .port = bed.port, .target = "/subscribe"};
    double ours = INFINITY, bare = INFINITY;
    for (int round = 0; round < mj_bench_rounds(b, ROUNDS); round++) {
        int64_t cpu = mj_bench_others_cpu_ns();
        if (!open_and_settle(&bed, &o, 0))
            goto out;
        ours = fmin(ours, (double)(mj_bench_others_cpu_ns() - cpu) / CONNECTS);
        mj_bench_drain_close(&bed.drain, GROUP);
        double ns = settled(0) ? bare_handshakes(&bed, listener, port, fds) : 0;
        if (ns <= 0)
            goto out;
        bare = fmin(bare, ns);
    }
    char beside[80];
    snprintf(beside, sizeof beside, "of CPU; accept() and handshake alone: %.0f", 1e9 / bare);
    mj_bench_report(b, "subscriber_connects_per_s", 1e9 / ours, "1/s", beside, MJ_GOAL_NONE, 0);
out:
    if (listener >= 0)
        close(listener);
    mj_bench_bed_deinit(&bed);
}
