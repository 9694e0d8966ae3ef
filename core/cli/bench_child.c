#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "cli/bench.h"

int mj_bench_spawn(struct mj_bench_child *c, const char *const *args, const char *ready, char *line,
                   size_t cap)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC)) {
        perror("moonjet bench: pipe");
        return MJ_EIO;
    }
    const char *argv[32] = {"moonjet"};
    for (size_t i = 0; args[i] && i + 2 < MJ_COUNT(argv); i++)
        argv[i + 1] = args[i];
    c->pid = fork();
    if (c->pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        execv("/proc/self/exe", (char *const *)argv);
        _exit(127);
    }
    close(fds[1]);
    c->err = fds[0];
    struct mj_buf text = {0};
    int64_t until = mj_mono_us() + 10 * 1000000;
    int found = MJ_EIO;
    while (c->pid > 0 && found) {
        int64_t left = (until - mj_mono_us()) / 1000;
        struct pollfd p = {.fd = c->err, .events = POLLIN};
        mj_buf_reserve(&text, 1024);
        ssize_t n = left > 0 && poll(&p, 1, (int)left) > 0
                        ? read(c->err, text.ptr + text.len, text.cap - text.len)
                        : 0;
        if (n <= 0)
            break;
        text.len += (size_t)n;
        uint8_t *nl;
        while (found && (nl = memchr(text.ptr, '\n', text.len))) {
            *nl = '\0';
            if (strstr((char *)text.ptr, ready)) {
                snprintf(line, cap, "%s", (char *)text.ptr);
                found = 0;
            }
            mj_buf_shift(&text, (size_t)(nl - text.ptr) + 1);
        }
    }
    mj_buf_deinit(&text);
    if (found) {
        fprintf(stderr, "moonjet bench: `moonjet %s` did not start\n", args[0]);
        mj_bench_kill(c);
    }
    return found;
}

void mj_bench_kill(struct mj_bench_child *c)
{
    if (c->pid > 0) {
        kill(c->pid, SIGTERM);
        waitpid(c->pid, NULL, 0);
    }
    close(c->err);
    c->pid = 0;
}
