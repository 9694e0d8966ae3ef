/* Resident memory of a `moonjet run` that waits: its source refuses connections. */
#include <stdio.h>
#include <unistd.h>

#include "cli/bench.h"

static double resident_mib(int pid)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *f = fopen(path, "re");
    double kib = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmRSS: %lf", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib / 1024;
}

void mj_bench_resident(struct mj_bench *b)
{
    /* Port 9 of loopback: nothing listens there, and nothing else is reached. */
    const char *const args[] = {"run",         "--source",         "ws://127.0.0.1:9", "--listen",
                                "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",      NULL};
    struct mj_bench_child child;
    char line[512];
    if (mj_bench_spawn(&child, args, "metrics on", line, sizeof line))
        return;
    usleep(500000);
    mj_bench_report(b, "idle_rss_mib", resident_mib(child.pid), "MiB", "", MJ_GOAL_AT_MOST, 24);
    mj_bench_kill(&child);
}
