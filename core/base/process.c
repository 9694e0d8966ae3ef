#include "base/process.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/metrics.h"

static struct {
    struct mj_metric *rss, *virtual, *fds, *max_fds, *cpu;
} m;

static void read_memory(void)
{
    long pages[2] = {0};
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return;
    if (fscanf(f, "%ld %ld", &pages[0], &pages[1]) == 2) {
        mj_metric_set(m.virtual, (int64_t)pages[0] * sysconf(_SC_PAGESIZE));
        mj_metric_set(m.rss, (int64_t)pages[1] * sysconf(_SC_PAGESIZE));
    }
    fclose(f);
}

static void count_files(void)
{
    DIR *d = opendir("/proc/self/fd");
    if (!d)
        return;
    int64_t n = 0;
    struct dirent *e;
    while ((e = readdir(d)))
        n += e->d_name[0] != '.';
    closedir(d);
    mj_metric_set(m.fds, n - 1); /* not the one that looked */
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        mj_metric_set(m.max_fds, (int64_t)limit.rlim_cur);
}

static void look(void *ctx)
{
    (void)ctx;
    read_memory();
    count_files();
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) == 0)
        mj_metric_set(m.cpu, u.ru_utime.tv_sec + u.ru_stime.tv_sec +
                                 (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000000);
}

void mj_process_metrics(void)
{
    m.rss = mj_metric("process_resident_memory_bytes", MJ_GAUGE,
                      "Resident memory, mapped files included.", NULL);
    m.virtual = mj_metric("process_virtual_memory_bytes", MJ_GAUGE, "Virtual memory.", NULL);
    m.fds = mj_metric("process_open_fds", MJ_GAUGE, "Open descriptors.", NULL);
    m.max_fds = mj_metric("process_max_fds", MJ_GAUGE, "Most descriptors allowed.", NULL);
    m.cpu = mj_metric("process_cpu_seconds_total", MJ_COUNTER, "CPU time, whole seconds.", NULL);
    mj_metric_set(mj_metric("process_start_time_seconds", MJ_GAUGE, "Start, Unix time.", NULL),
                  mj_now_us() / 1000000);
    mj_metric_set(mj_metric("moonjet_build_info", MJ_GAUGE, "The version that runs.",
                            "version=\"%s\"", MOONJET_VERSION),
                  1);
    mj_metric_on_render(look, NULL);
}
