/* The worst pause: how long the router is ever kept, at 5,000 events a second with scripts that
 * allocate and a task that never ends.
 *
 *   turn    what the router does before it looks at its socket again: frames, then the tasks' slice
 *   beat    a signal to this thread every quarter of a millisecond
 *
 * A virtual machine's host takes its processor away without telling, and that is on the thread's
 * own CPU clock like work. But beats show it. Nothing of ours, in Lua or C, holds a signal off,
 * only the system does, in calls and page faults: when beats are missing, and the next one comes
 * neither out of a call nor after a page fault, the machine was away. And so it was when a beat
 * finds every register as the last one left it: not an instruction of ours was done between them.
 * Such time is taken off the turn, and stands beside. So do turns that do nothing, in a loop.
 * (Of the calls timer_settime() does not count. It ends a slice, has little to do, and for that
 * asks the host.) */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "cli/bench.h"
#include "cli/bench_script.h"

#define RATE        5000 /* events a second */
#define TURN_NS     INT64_C(1000000)
#define SLICE_US    1000 /* of tasks after each turn, as `moonjet run` gives them */
#define LATE_NS     INT64_C(5000000)
#define FLUSH_EVERY 64
#define SECONDS     10 /* times --seconds */

#define BEAT_NS       INT64_C(250000)
#define SETTIME_BYTES 64
#define MISSED        (BEAT_NS * 3 / 2) /* ns to the next beat, when at least one is missing */

/* Keeps some ten thousand texts, makes garbage per event, and has tasks that do the same. */
static const char busy[] = "local last, n = {}, 0\n"
                           "jet.from '*':where(function(ev)\n"
                           "  n = n % 10000 + 1\n"
                           "  last[n] = ev.did .. (ev.uri or '') .. ev.text:lower()\n"
                           "  return false\n"
                           "end):tap(print)\n"
                           "jet.from 'app.bsky.feed.post:create':each(function(ev)\n"
                           "  local record = jet.json.decode(jet.json.encode(ev:table()))\n"
                           "  jet.sleep '5ms'\n"
                           "  last[n + 1] = record.text\n"
                           "end, { workers = 16 })\n";
static const char hungry[] = "jet.spawn(function()\n"
                             "  while true do\n"
                             "    local t = {}\n"
                             "    for i = 1, 100 do t[i] = { i, 'x' .. i } end\n"
                             "  end\n"
                             "end)\n";

/* What a thread has in its registers: when it is the same twice, nothing was done between. */
struct registers {
    unsigned char bytes[512];
    bool known;
};

/* Of this thread's; written by the handler, which interrupts what reads them. */
static struct {
    volatile int64_t cpu;         /* its CPU time at the last beat, or when the turn began */
    volatile long faults;         /* its page faults until then */
    volatile int64_t away;        /* ns of this turn that the machine took */
    struct registers at;          /* at the last beat; the handler's alone */
    const unsigned char *settime; /* timer_settime() */
} beats;

static long page_faults(void)
{
    struct rusage use;
    getrusage(RUSAGE_THREAD, &use);
    return use.ru_minflt + use.ru_majflt;
}

#if defined(__x86_64__)
/* Whether a signal came out of a system call: its instruction is the last one done, or, when the
 * call begins again, the next. */
static bool from_system_call(const ucontext_t *at)
{
    const unsigned char *pc = (const unsigned char *)at->uc_mcontext.gregs[REG_RIP];
    if (pc >= beats.settime && pc < beats.settime + SETTIME_BYTES)
        return false;
    return (pc[-2] == 0x0f && pc[-1] == 0x05) || (pc[0] == 0x0f && pc[1] == 0x05);
}

static void registers_of(const ucontext_t *at, struct registers *r)
{
    const size_t general = sizeof(greg_t) * (REG_RIP + 1);
    memset(r, 0, sizeof *r);
    memcpy(r->bytes, at->uc_mcontext.gregs, general);
    if ((r->known = at->uc_mcontext.fpregs))
        memcpy(r->bytes + general, at->uc_mcontext.fpregs->_xmm,
               sizeof at->uc_mcontext.fpregs->_xmm);
}
#else
/* Not known: nothing is taken off. */
static bool from_system_call(const ucontext_t *at) { return at; }
static void registers_of(const ucontext_t *at, struct registers *r) { r->known = !at; }
#endif

static void on_beat(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    int64_t cpu = mj_bench_cpu_ns(), gap = cpu - beats.cpu;
    long faults = page_faults();
    struct registers at;
    registers_of(context, &at);
    if (faults == beats.faults) {
        if (at.known && beats.at.known && !memcmp(at.bytes, beats.at.bytes, sizeof at.bytes))
            beats.away += gap;
        else if (gap > MISSED && !from_system_call(context))
            beats.away += gap - BEAT_NS;
    }
    beats.cpu = cpu;
    beats.faults = faults;
    beats.at = at;
}

static bool beats_start(timer_t *timer)
{
    struct sigaction sa = {.sa_sigaction = on_beat, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGUSR2, &sa, NULL);
    beats.settime = dlsym(RTLD_DEFAULT, "timer_settime");
    struct sigevent to = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR2};
    to._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    const struct timespec every = {.tv_nsec = BEAT_NS};
    const struct itimerspec beat = {.it_interval = every, .it_value = every};
    return timer_create(CLOCK_MONOTONIC, &to, timer) == 0 &&
           timer_settime(*timer, 0, &beat, NULL) == 0;
}

/* Of the turns so far, by the thread's CPU clock: the longest and how many were late, of themselves
 * and with what the machine took. */
struct pauses {
    int64_t worst, with_away;
    size_t turns, late, late_with_away;
};

static void spin(int64_t us)
{
    int64_t end = mj_bench_cpu_ns() + us * 1000;
    volatile unsigned n = 0;
    while (mj_bench_cpu_ns() < end)
        for (int i = 0; i < 10000; i++)
            n += (unsigned)i;
}

static void turn_took(struct pauses *p, int64_t cpu, int64_t away)
{
    int64_t own = cpu - away;
    p->worst = own > p->worst ? own : p->worst;
    p->with_away = cpu > p->with_away ? cpu : p->with_away;
    p->late += own > LATE_NS;
    p->late_with_away += cpu > LATE_NS;
    p->turns++;
}

static void turns(struct mj_bench_route *bed, const struct mj_bench *b, double seconds,
                  struct pauses *out)
{
    const struct mj_bench_frames *in = b->in;
    size_t next = 0, fed = 0;
    int64_t start = mj_bench_wall_ns(), now;
    while ((now = mj_bench_wall_ns()) - start < (int64_t)(seconds * 1e9)) {
        int64_t cpu = mj_bench_cpu_ns();
        beats.faults = page_faults();
        beats.away = 0;
        beats.cpu = cpu;
        size_t due = (size_t)((double)(now - start) * RATE / 1e9);
        /* What the kernel's buffer would hold comes in portions, not at once. */
        for (size_t n = 0; fed < due && n < FLUSH_EVERY; n++) {
            struct mj_frame frame;
            mj_router_frame(bed->router, in->frames[next++ % in->count], &frame);
            fed += frame.events;
        }
        mj_router_flush(bed->router, -1, 0);
        if (mj_scripts_count(bed->scripts))
            mj_scripts_run(bed->scripts, SLICE_US);
        else
            spin(SLICE_US);
        cpu = mj_bench_cpu_ns() - cpu;
        turn_took(out, cpu, beats.away);
        while (mj_bench_wall_ns() - now < TURN_NS) {
            struct timespec nap = {.tv_nsec = TURN_NS / 8}; /* which a beat may cut short */
            nanosleep(&nap, NULL);
        }
    }
}

void mj_bench_pause(struct mj_bench *b)
{
    struct mj_bench_route with = {0}, bare = {0};
    struct pauses p = {0}, loop = {0};
    timer_t timer;
    char text[240];
    if (!beats_start(&timer)) {
        perror("moonjet bench: timer");
        return;
    }
    mj_bench_route_init(&with, 0);
    mj_bench_route_init(&bare, 0);
    if (mj_bench_script(with.scripts, mj_str(busy), NULL, NULL) ||
        mj_bench_script(with.scripts, mj_str(hungry), NULL, NULL))
        goto out;
    /* Beside each other in time, as what a machine takes away comes and goes. */
    for (double left = b->seconds; left > 0; left--) {
        double part = left < 1 ? left : 1;
        turns(&bare, b, part, &loop);
        turns(&with, b, part * SECONDS, &p);
    }
    snprintf(text, sizeof text,
             "%zu of %zu turns above 5; with what the machine took away: %.2f ms, %zu; a busy loop "
             "instead of scripts: %.2f ms, %.2f with that, %zu of %zu",
             p.late, p.turns, (double)p.with_away / 1e6, p.late_with_away, (double)loop.worst / 1e6,
             (double)loop.with_away / 1e6, loop.late_with_away, loop.turns);
    mj_bench_report(b, "worst_pause_ms", (double)p.worst / 1e6, "ms", text, MJ_GOAL_AT_MOST, 5);
out:
    timer_delete(timer);
    mj_bench_route_deinit(&with);
    mj_bench_route_deinit(&bare);
}
