#include "script/guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <lauxlib.h>
#include <luajit.h>

#include "base/bytes.h"

#define TICK_BUSY_NS INT64_C(10000000) /* between looks while scripts run */
#define TICK_IDLE_NS INT64_C(50000000)
#define COUNT_SLOW   10000 /* instructions between looks at the clock, without hook checks */
#define GRACE_NS     INT64_C(10000000) /* of CPU, past the deadline */
#define STUCK_NS     INT64_C(2000000000)
#define STUCK_CPU_NS INT64_C(1000000000)
#define SLICE_TICK   500000 /* ns between looks at the end of a task's slice */

struct mj_guard {
    _Atomic int64_t deadline; /* of the running call; 0 between calls */
    _Atomic int64_t calls;    /* begun so far */
    _Atomic int tid;          /* kernel thread of the running call */
    lua_State *_Atomic L;     /* of the running call */
    int64_t budget;
    int64_t late; /* CPU clock when the call was first seen past its deadline; 0 = not yet */
    bool stopped; /* the hook has raised */
    struct {
        void (*fn)(void *ctx, lua_State *L);
        void *ctx;          /* borrowed */
        int64_t call;       /* the late one */
        int64_t since, cpu; /* when it was first seen late, by the clock and by its thread's CPU */
    } stuck;                /* the watchdog's, once it is set */
    bool yielded;           /* the hook has let the task yield */
    _Atomic int64_t slice_end; /* of the running task; 0 = not a task, or it has yielded */
    bool (*may_yield)(lua_State *L);
    timer_t timer; /* of the thread `timer_tid`; 0 = none yet */
    int timer_tid;
    pthread_t watchdog;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool quit;
};

/* What the signal handler and the hook of this thread look at. */
static _Thread_local struct mj_guard *current;

int64_t mj_guard_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Past its deadline, and still computing: a thread that the system held back is late, too, but a
 * busy machine is not the script's fault. So the call must have spent some CPU of its own since it
 * was first seen late. (That clock is a system call, too dear to read at the start of every call.)
 * On the call's own thread only. */
static bool overdue(struct mj_guard *g)
{
    if (!g)
        return false;
    int64_t deadline = atomic_load_explicit(&g->deadline, memory_order_relaxed);
    if (!deadline || mj_guard_now() < deadline)
        return false;
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    int64_t cpu = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    if (!g->late)
        g->late = cpu;
    return g->stopped || cpu - g->late >= GRACE_NS;
}

static bool slice_over(struct mj_guard *g)
{
    if (!g)
        return false;
    int64_t end = atomic_load_explicit(&g->slice_end, memory_order_relaxed);
    return end && mj_guard_now() >= end;
}

static void on_hook(lua_State *L, lua_Debug *ar);

static void arm(lua_State *L) { lua_sethook(L, on_hook, LUA_MASKCOUNT, 1); }

static void disarm(lua_State *L)
{
    if (MOONJET_LUAJIT_CHECKHOOK)
        lua_sethook(L, NULL, 0, 0);
    else
        lua_sethook(L, on_hook, LUA_MASKCOUNT, COUNT_SLOW);
}

bool mj__guard_line(lua_State *L, int level, lua_Debug *at)
{
    static const char ours[] = "=moonjet"; /* and "=moonjet/bot.lua" */
    at->currentline = 0;
    for (; lua_getstack(L, level, at); level++) {
        lua_getinfo(L, "Sl", at);
        if (at->currentline > 0 && strncmp(at->source, ours, sizeof ours - 1) != 0)
            return true;
    }
    return false;
}

void mj_guard_where(lua_State *L)
{
    lua_Debug at;
    if (mj__guard_line(L, 0, &at))
        lua_pushfstring(L, "%s:%d: ", at.short_src, at.currentline);
    else
        lua_pushliteral(L, "");
}

static void stop_call(lua_State *L)
{
    current->stopped = true;
    arm(L); /* before raising: pcall in the script must not get away */
    mj_guard_where(L);
    lua_pushfstring(L, "stopped after %d ms", (int)(current->budget / 1000000));
    lua_concat(L, 2);
    lua_error(L);
}

static void on_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    if (slice_over(current) && current->may_yield(L)) {
        /* First, so that no further tick sets the hook again for whoever runs next. */
        atomic_store_explicit(&current->slice_end, 0, memory_order_relaxed);
        current->yielded = true;
        disarm(L);
        lua_yield(L, 0);
    }
    if (overdue(current))
        stop_call(L);
    /* A signal meant for a call that ended just then, or a place where a task cannot yield: the
     * next tick tries again. */
    disarm(L);
}

void mj_guard_cancel(struct mj_guard *g)
{
    /* A call that ends meanwhile sets 0, which must stay. */
    int64_t deadline = atomic_load_explicit(&g->deadline, memory_order_relaxed);
    if (deadline)
        atomic_compare_exchange_strong(&g->deadline, &deadline, 1);
}

void mj_guard_check(lua_State *L)
{
    if (overdue(current))
        stop_call(L);
}

/* Off and on again: should the VM have been about to rewrite its own dispatch table when the signal
 * came, it may have undone the last attempt, and only a change is written. */
static void interrupt(struct mj_guard *g)
{
    lua_State *L = atomic_load_explicit(&g->L, memory_order_relaxed);
    lua_sethook(L, NULL, 0, 0);
    arm(L);
}

static void on_signal(int signal)
{
    (void)signal;
    int saved = errno;
    /* First, since it notes when a call was first seen late. */
    if (overdue(current) || slice_over(current))
        interrupt(current);
    errno = saved;
}

/* ThreadSanitizer holds signals back until the thread calls something it intercepts, which an
 * endless loop does not. Its builds take the risk of setting the hook from the watchdog, which then
 * looks after slices, too. */
#ifdef __SANITIZE_THREAD__
#define THREAD_SANITIZER 1
#else
#define THREAD_SANITIZER 0
#endif

static void send_signal(struct mj_guard *g)
{
    if (THREAD_SANITIZER)
        interrupt(g);
    else
        syscall(SYS_tgkill, getpid(), atomic_load_explicit(&g->tid, memory_order_relaxed), SIGURG);
}

/* The CPU time of a thread of this process, by its kernel id: pthread_getcpuclockid()'s answer,
 * without a pthread_t. */
static int64_t cpu_of(int tid)
{
    struct timespec t;
    clockid_t clock = (clockid_t)(~(unsigned)tid << 3 | 6);
    return clock_gettime(clock, &t) ? 0 : (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* A call past its deadline that no signal ends is in C. A process that was held up as a whole is
 * late, too, so the thread must have been computing. */
static void look_for_stuck(struct mj_guard *g, int64_t call, int64_t now)
{
    int tid = atomic_load_explicit(&g->tid, memory_order_relaxed);
    if (!g->stuck.fn)
        return;
    if (g->stuck.call != call) {
        g->stuck.call = call;
        g->stuck.since = now;
        g->stuck.cpu = cpu_of(tid);
    } else if (now - g->stuck.since >= STUCK_NS && cpu_of(tid) - g->stuck.cpu >= STUCK_CPU_NS) {
        g->stuck.fn(g->stuck.ctx, atomic_load_explicit(&g->L, memory_order_relaxed));
        g->stuck.since = now;
    }
}

void mj_guard_on_stuck(struct mj_guard *g, void (*fn)(void *ctx, lua_State *L), void *ctx)
{
    pthread_mutex_lock(&g->lock);
    g->stuck.fn = fn;
    g->stuck.ctx = ctx;
    pthread_mutex_unlock(&g->lock);
}

static void *watch(void *arg)
{
    struct mj_guard *g = arg;
    int64_t seen = 0;
    pthread_mutex_lock(&g->lock);
    while (!g->quit) {
        int64_t calls = atomic_load_explicit(&g->calls, memory_order_relaxed);
        int64_t deadline = atomic_load_explicit(&g->deadline, memory_order_acquire);
        int64_t now = mj_guard_now();
        if (deadline && (now >= deadline || (THREAD_SANITIZER && slice_over(g))) &&
            MOONJET_LUAJIT_CHECKHOOK)
            send_signal(g);
        if (deadline && now >= deadline)
            look_for_stuck(g, calls, now);
        int64_t until = now + (deadline || calls != seen ? TICK_BUSY_NS : TICK_IDLE_NS);
        if (THREAD_SANITIZER)
            until = now + SLICE_TICK;
        seen = calls;
        struct timespec t = {.tv_sec = until / 1000000000, .tv_nsec = until % 1000000000};
        pthread_cond_timedwait(&g->wake, &g->lock, &t);
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

struct mj_guard *mj_guard_new(void)
{
    struct mj_guard *g = mj_calloc(1, sizeof *g);
    if (MOONJET_LUAJIT_CHECKHOOK) {
        struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        sigemptyset(&sa.sa_mask);
        sigaction(SIGURG, &sa, NULL);
    }
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->wake, &attr);
    pthread_condattr_destroy(&attr);
    /* The watchdog takes no signals: those are for the threads that have work. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&g->watchdog, NULL, watch, g))
        abort();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return g;
}

void mj_guard_free(struct mj_guard *g)
{
    if (!g)
        return;
    pthread_mutex_lock(&g->lock);
    g->quit = true;
    pthread_cond_signal(&g->wake);
    pthread_mutex_unlock(&g->lock);
    pthread_join(g->watchdog, NULL);
    pthread_cond_destroy(&g->wake);
    pthread_mutex_destroy(&g->lock);
    if (g->timer_tid)
        timer_delete(g->timer);
    if (current == g)
        current = NULL;
    free(g);
}

void mj_guard_setup(lua_State *L)
{
    luaJIT_setmode(
        L, 0, LUAJIT_MODE_ENGINE | (MOONJET_LUAJIT_CHECKHOOK ? LUAJIT_MODE_ON : LUAJIT_MODE_OFF));
    disarm(L);
}

static int thread_id(void)
{
    static _Thread_local int tid;
    if (MJ_UNLIKELY(!tid))
        tid = (int)syscall(SYS_gettid);
    return tid;
}

void mj_guard_enter(struct mj_guard *g, lua_State *L, int64_t now_ns, int64_t budget_ns)
{
    int tid = thread_id();
    atomic_store_explicit(&g->L, L, memory_order_relaxed);
    g->budget = budget_ns;
    g->stopped = g->yielded = false;
    g->late = 0;
    current = g;
    atomic_store_explicit(&g->tid, tid, memory_order_relaxed);
    atomic_store_explicit(&g->calls, g->calls + 1, memory_order_relaxed);
    atomic_store_explicit(&g->deadline, now_ns + budget_ns, memory_order_release);
}

void mj_guard_slice(struct mj_guard *g, int64_t slice_ns, bool (*may_yield)(lua_State *L))
{
    g->may_yield = may_yield;
    atomic_store_explicit(&g->slice_end, mj_guard_now() + slice_ns, memory_order_relaxed);
}

void mj_guard_tick(struct mj_guard *g, bool on)
{
    if (!MOONJET_LUAJIT_CHECKHOOK || THREAD_SANITIZER)
        return; /* the permanent hook, or the watchdog, looks */
    int tid = thread_id();
    if (g->timer_tid != tid) {
        if (g->timer_tid)
            timer_delete(g->timer);
        struct sigevent to = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGURG};
        to._sigev_un._tid = tid;
        /* Without a timer slices end where the watchdog looks, only later. */
        g->timer_tid = timer_create(CLOCK_MONOTONIC, &to, &g->timer) == 0 ? tid : 0;
    }
    struct itimerspec every = {.it_interval = {.tv_nsec = on ? SLICE_TICK : 0},
                               .it_value = {.tv_nsec = on ? SLICE_TICK : 0}};
    if (g->timer_tid)
        timer_settime(g->timer, 0, &every, NULL);
}

bool mj_guard_yielded(const struct mj_guard *g) { return g->yielded; }

bool mj_guard_stopped(const struct mj_guard *g) { return g->stopped; }

bool mj_guard_leave(struct mj_guard *g, lua_State *L)
{
    /* A call that no signal has found late costs no look at the clock. */
    bool over = MJ_UNLIKELY(g->late) && overdue(g);
    atomic_store_explicit(&g->slice_end, 0, memory_order_relaxed);
    atomic_store_explicit(&g->deadline, 0, memory_order_relaxed);
    if (MJ_UNLIKELY(g->stopped))
        disarm(L);
    return g->stopped || over;
}
