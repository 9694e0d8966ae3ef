/* A clock of our own in front of a program's: an LD_PRELOAD library under which time runs `rate`
 * times as fast, and the wall clock can be set while the program runs. Waits are shortened alike,
 * so the program notices nothing but its peers being slow.
 *
 *   CLOCK_FILE=FILE  16 bytes, read whenever the time is asked for: int64 what is added to the wall
 *                    clock, in ns; double the rate, read once at the start
 *
 * Thread and process CPU clocks are left alone. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

struct setting {
    volatile int64_t wall_ns;
    double rate;
};

static const struct setting *setting;
static double rate = 1;
static int64_t start_mono, start_wall; /* real, when the program started */

#define NS INT64_C(1000000000)
#define REAL(ret, name, ...)                                                                       \
    static ret (*real)(__VA_ARGS__);                                                               \
    if (!real)                                                                                     \
    *(void **)&real = dlsym(RTLD_NEXT, #name)

static int64_t ns_of(const struct timespec *t) { return (int64_t)t->tv_sec * NS + t->tv_nsec; }
static struct timespec of_ns(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / NS, .tv_nsec = ns % NS};
}

static int64_t true_time(clockid_t id)
{
    struct timespec t;
    syscall(SYS_clock_gettime, id, &t);
    return ns_of(&t);
}

__attribute__((constructor)) static void init(void)
{
    const char *file = getenv("CLOCK_FILE");
    if (setting || !file)
        return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC);
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *setting, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        fprintf(stderr, "clock: %s: %s\n", file, strerror(errno));
        abort();
    }
    syscall(SYS_close, fd);
    start_mono = true_time(CLOCK_MONOTONIC);
    start_wall = true_time(CLOCK_REALTIME);
    rate = ((const struct setting *)p)->rate;
    setting = p;
}

static bool is_wall(clockid_t id) { return id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE; }
static bool is_ours(clockid_t id)
{
    return is_wall(id) || id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE ||
           id == CLOCK_MONOTONIC_RAW || id == CLOCK_BOOTTIME;
}

static int64_t our_time(clockid_t id)
{
    init();
    if (!setting)
        return true_time(id);
    int64_t gone = (int64_t)((double)(true_time(CLOCK_MONOTONIC) - start_mono) * rate);
    return is_wall(id) ? start_wall + gone + setting->wall_ns : start_mono + gone;
}

/* A wait of so many virtual ns in real ones, rounded up. */
static int64_t shorter(int64_t ns) { return ns <= 0 ? ns : (int64_t)ceil((double)ns / rate); }
static int shorter_ms(int ms) { return ms <= 0 ? ms : (int)ceil(ms / rate); }
static const struct timespec *shorter_ts(const struct timespec *t, struct timespec *out)
{
    if (t)
        *out = of_ns(shorter(ns_of(t)));
    return t ? out : NULL;
}
/* A moment on a clock of ours as a moment on the true one. */
static struct timespec true_moment(clockid_t id, const struct timespec *t)
{
    return of_ns(true_time(id) + shorter(ns_of(t) - our_time(id)));
}

int clock_gettime(clockid_t id, struct timespec *out)
{
    if (!is_ours(id))
        return (int)syscall(SYS_clock_gettime, id, out);
    *out = of_ns(our_time(id));
    return 0;
}
int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    (void)zone;
    int64_t ns = our_time(CLOCK_REALTIME);
    *out = (struct timeval){.tv_sec = ns / NS, .tv_usec = ns % NS / 1000};
    return 0;
}
time_t time(time_t *out)
{
    time_t t = (time_t)(our_time(CLOCK_REALTIME) / NS);
    if (out)
        *out = t;
    return t;
}

int poll(struct pollfd *fds, nfds_t n, int ms)
{
    REAL(int, poll, struct pollfd *, nfds_t, int);
    return real(fds, n, shorter_ms(ms));
}
int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *t, const sigset_t *mask)
{
    REAL(int, ppoll, struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);
    struct timespec s;
    return real(fds, n, shorter_ts(t, &s), mask);
}
int epoll_wait(int fd, struct epoll_event *events, int n, int ms)
{
    REAL(int, epoll_wait, int, struct epoll_event *, int, int);
    return real(fd, events, n, shorter_ms(ms));
}
int epoll_pwait(int fd, struct epoll_event *events, int n, int ms, const sigset_t *mask)
{
    REAL(int, epoll_pwait, int, struct epoll_event *, int, int, const sigset_t *);
    return real(fd, events, n, shorter_ms(ms), mask);
}
int select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *t)
{
    REAL(int, select, int, fd_set *, fd_set *, fd_set *, struct timeval *);
    if (!t)
        return real(n, r, w, e, NULL);
    int64_t ns = shorter(t->tv_sec * NS + t->tv_usec * 1000);
    struct timeval s = {.tv_sec = ns / NS, .tv_usec = ns % NS / 1000};
    return real(n, r, w, e, &s);
}
int nanosleep(const struct timespec *t, struct timespec *left)
{
    REAL(int, nanosleep, const struct timespec *, struct timespec *);
    struct timespec s;
    return real(shorter_ts(t, &s), left);
}
int usleep(useconds_t us)
{
    struct timespec t = of_ns((int64_t)us * 1000);
    return nanosleep(&t, NULL);
}
int clock_nanosleep(clockid_t id, int flags, const struct timespec *t, struct timespec *left)
{
    REAL(int, clock_nanosleep, clockid_t, int, const struct timespec *, struct timespec *);
    struct timespec s;
    if (flags & TIMER_ABSTIME)
        s = true_moment(id, t);
    else
        shorter_ts(t, &s);
    return real(id, flags, &s, left);
}
int timerfd_settime(int fd, int flags, const struct itimerspec *t, struct itimerspec *old)
{
    REAL(int, timerfd_settime, int, int, const struct itimerspec *, struct itimerspec *);
    struct itimerspec s = *t;
    if (!(flags & TFD_TIMER_ABSTIME)) {
        shorter_ts(&t->it_value, &s.it_value);
        shorter_ts(&t->it_interval, &s.it_interval);
    }
    return real(fd, flags, &s, old);
}

/* Which clock a condition variable waits by is not for us to see; programs that mean the monotonic
 * one give moments that are near it. */
int pthread_cond_timedwait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m,
                           const struct timespec *restrict t)
{
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!real) /* where there are two, the one whose condition variables know clocks */
        *(void **)&real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    int64_t mono = our_time(CLOCK_MONOTONIC), wall = our_time(CLOCK_REALTIME);
    bool near_mono = llabs(ns_of(t) - mono) < llabs(ns_of(t) - wall);
    struct timespec s = true_moment(near_mono ? CLOCK_MONOTONIC : CLOCK_REALTIME, t);
    return real(c, m, &s);
}
int pthread_cond_clockwait(pthread_cond_t *restrict c, pthread_mutex_t *restrict m, clockid_t id,
                           const struct timespec *restrict t)
{
    REAL(int, pthread_cond_clockwait, pthread_cond_t *, pthread_mutex_t *, clockid_t,
         const struct timespec *);
    struct timespec s = true_moment(id, t);
    return real(c, m, id, &s);
}
