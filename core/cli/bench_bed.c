/* What a case about subscribers runs on: a journal on disk, a server, readers, bare sockets. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/http.h"
#include "base/metrics.h"
#include "cli/bench_net.h"

#define SNDBUF (128 << 10) /* the server's default */

int mj_bench_bed_init(struct mj_bench *b, struct mj_bench_bed *bed, size_t segment_bytes,
                      struct mj_span dictionary)
{
    *bed = (struct mj_bench_bed){0};
    int err = mj_bench_drain_start(&bed->drain);
    if (err || (err = mj_bench_make_dir(true, bed->dir)))
        return err;
    mj_bench_events_collect(b, &bed->events);
    if (!bed->events.count) {
        fprintf(stderr, "moonjet bench: the frames hold no events\n");
        return MJ_EINVAL;
    }
    char dir[sizeof bed->dir + 8];
    snprintf(dir, sizeof dir, "%s/journal", bed->dir);
    struct mj_journal_cfg cfg = {.dir = dir,
                                 .sync_us = 1000000,
                                 .no_seal = true,
                                 .plain_bytes = 1,
                                 .segment_bytes = segment_bytes};
    MJ_AUTO_BUF error = {0};
    err = mj_journal_open(&cfg, &bed->journal, &error);
    if (err) {
        fprintf(stderr, "moonjet bench: %s\n", mj_buf_cstr(&error));
        return err;
    }
    bed->streams = mj_streams_new(bed->journal);
    mj_streams_add(bed->streams, mj_str("other")); /* its bit is 1 */
    struct mj_server_cfg server = {.listen = "127.0.0.1:0",
                                   .journal = bed->journal,
                                   .streams = bed->streams,
                                   .dictionary = dictionary,
                                   .sndbuf = SNDBUF};
    err = mj_server_start(&server, &bed->server);
    if (!err)
        bed->port = mj_server_port(bed->server);
    return err;
}

void mj_bench_bed_deinit(struct mj_bench_bed *bed)
{
    mj_bench_drain_stop(&bed->drain);
    mj_server_stop(bed->server);
    mj_streams_free(bed->streams);
    mj_journal_close(bed->journal);
    mj_bench_events_deinit(&bed->events);
    mj_bench_remove_dir(bed->dir);
}

int mj_bench_bare_open(struct mj_bench_bed *bed, unsigned group, size_t n, int *fds)
{
    struct mj_hostport at;
    int port, size = SNDBUF, err = MJ_EIO;
    size_t got = 0;
    int listener = mj_hostport_parse("127.0.0.1:0", &at) ? -1 : mj_listen(&at, &port);
    /* In portions that fit the queue of connections not accepted yet: the drain's connect() waits
     * for room in it, and this process for the drain. */
    struct mj_bench_open o = {.group = group, .count = n, .port = port};
    if (listener >= 0 && n <= 1000 && !mj_bench_drain_open(&bed->drain, &o)) {
        for (; got < n; got++) {
            while ((fds[got] = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0 && errno == EAGAIN)
                usleep(100); /* the listener does not block, and the drain is ahead of it */
            if (fds[got] < 0)
                break;
            setsockopt(fds[got], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        }
        err = got == n ? 0 : MJ_EIO;
    }
    if (err) {
        fprintf(stderr, "moonjet bench: bare connections: %s\n", strerror(errno));
        mj_bench_bare_close(bed, group, got, fds);
    }
    if (listener >= 0)
        close(listener);
    return err;
}

void mj_bench_bare_close(struct mj_bench_bed *bed, unsigned group, size_t n, const int *fds)
{
    mj_bench_drain_close(&bed->drain, group);
    for (size_t i = 0; i < n; i++)
        close(fds[i]);
}

int64_t mj_bench_process_cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t mj_bench_others_cpu_ns(void) { return mj_bench_process_cpu_ns() - mj_bench_cpu_ns(); }

int64_t mj_bench_counter(const char *family)
{
    return mj_metric_get(mj_metric(family, MJ_COUNTER, "", NULL));
}

int mj_bench_make_dir(bool on_disk, char dir[MJ_BENCH_DIR])
{
    snprintf(dir, MJ_BENCH_DIR, "%s/moonjet-bench-XXXXXX", on_disk ? "/var/tmp" : "/tmp");
    if (mkdtemp(dir))
        return 0;
    fprintf(stderr, "moonjet bench: %s: %s\n", dir, strerror(errno));
    dir[0] = '\0';
    return MJ_EIO;
}

void mj_bench_remove_dir(const char *dir)
{
    MJ_AUTO_BUF command = {0};
    mj_buf_printf(&command, "rm -rf '%s'", dir);
    if (*dir && system(mj_buf_cstr(&command)))
        fprintf(stderr, "moonjet bench: cannot remove %s\n", dir);
}

bool mj_bench_allow_files(size_t n, const char *what)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r))
        return false;
    n += 256;
    if (r.rlim_cur < n && r.rlim_max >= n) {
        r.rlim_cur = n;
        setrlimit(RLIMIT_NOFILE, &r);
    }
    if (r.rlim_cur >= n)
        return true;
    fprintf(stderr,
            "moonjet bench: %s left out: it needs %zu file descriptors, and %zu are allowed\n",
            what, n, (size_t)r.rlim_cur);
    return false;
}
