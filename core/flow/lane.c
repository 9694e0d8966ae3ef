#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/metrics.h"
#include "flow/internal.h"

#define EVENTS_DEFAULT 4096
#define BYTES_DEFAULT  ((size_t)64 << 20)
#define RESULTS_MAX    4096 /* that lane 0 has not appended yet; then the lane waits for it */
#define BATCH          64   /* events between two looks at tasks and results */
#define SLICE_US       1000 /* of tasks */

struct input {
    struct mj_kept *kept; /* a reference */
    uint64_t roots[MJ__ROOT_WORDS];
};

struct result {
    struct mj_kept *kept; /* a reference */
    struct mj__way way;   /* its array of readers is owned */
};

struct post {
    void (*fn)(void *ctx);
    void *ctx;
};

struct inputs {
    struct input *v; /* owned */
    size_t n, cap;
};

struct results {
    struct result *v; /* owned */
    size_t n, cap;
};

struct posts {
    struct post *v; /* owned */
    size_t n, cap;
};

struct mj_lane {
    /* Set before the thread starts. */
    char *script;             /* owned */
    struct mj_router *router; /* owned */
    struct mj_router *home;   /* borrowed: lane 0's; NULL before it is swapped in */
    struct mj_lane_cfg cfg;
    struct mj_graph *graph; /* borrowed */
    struct mj_lane *old;    /* borrowed until released: whose end this one waits for */
    struct mj_graph *seen;  /* borrowed until released: whose nodes' memory it takes over */
    pthread_t thread;
    bool started;

    /* Lane 0's. */
    uint64_t marked[MJ__ROOT_WORDS];
    bool any_marked;
    struct inputs pending;  /* not shown to the lane yet */
    struct results taken;   /* being appended */
    bool collecting;        /* … right now */
    struct mj_lane *before; /* borrowed: whose results must all be appended first */
    bool drained;           /* the thread has ended and all it left is appended */
    struct mj_log_gate gate;
    uint64_t pushed, appended;      /* events queued; those whose results are in the journal */
    uint64_t noted[MJ_SOURCES_MAX]; /* `pushed` at mj__lane_note() */
    struct mj_metric *skipped, *waits, *queued;

    /* Both sides'. */
    pthread_mutex_t lock;
    pthread_cond_t call;     /* for the lane: something has come, or there is room for results */
    pthread_cond_t progress; /* for lane 0: events are done, results are there, the end */
    struct inputs queue;
    struct results results;
    struct posts posts;
    bool going; /* it was swapped in */
    bool closing, poked, finished;
    uint64_t done; /* events worked off, their results handed over */
    bool claimed,
        released; /* a successor waits for the end; it needs nothing of this one any more */
    _Atomic bool abandoned;       /* what is queued is dropped */
    _Atomic bool awaited;         /* lane 0 waits */
    _Atomic size_t events, bytes; /* queued and not worked off */

    /* The lane's. */
    uint64_t worked; /* events worked off */
    struct inputs work;
    struct results made;
};

/* Makes room for one more in an array with v, n and cap. */
#define GROW(a)                                                                                    \
    ((a)->n == (a)->cap ? (void)((a)->cap = (a)->cap ? (a)->cap * 2 : 16,                          \
                                 (a)->v = mj_realloc((a)->v, (a)->cap * sizeof *(a)->v))           \
                        : (void)0)

struct mj_lane *mj_lane_new(const struct mj_lane_cfg *cfg)
{
    struct mj_lane *l = mj_calloc(1, sizeof *l);
    pthread_condattr_t attr;
    char label[256];
    l->cfg = *cfg;
    l->script = mj_strdup(cfg->script);
    l->cfg.script = l->script;
    l->cfg.events = cfg->events ? cfg->events : EVENTS_DEFAULT;
    l->cfg.bytes = cfg->bytes ? cfg->bytes : BYTES_DEFAULT;
    l->router = mj_router_new(NULL);
    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->call, &attr);
    pthread_cond_init(&l->progress, &attr);
    pthread_condattr_destroy(&attr);
    mj_metric_label(mj_str(cfg->script), label, sizeof label);
    l->skipped = mj_metric("moonjet_lane_skipped_total", MJ_COUNTER,
                           "Events a lane's script did not get because its queue was full.",
                           "script=\"%s\"", label);
    l->waits = mj_metric("moonjet_lane_waits_total", MJ_COUNTER,
                         "How often everything waited for room in a lane's queue.", "script=\"%s\"",
                         label);
    l->queued =
        mj_metric("moonjet_lane_queued_events", MJ_GAUGE,
                  "Events in a lane's queue, as of the last flush.", "script=\"%s\"", label);
    return l;
}

struct mj_router *mj_lane_router(struct mj_lane *l) { return l->router; }

/* Waits for the condition until the monotonic time; for ever when that is negative. */
static void wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t us)
{
    if (us < 0) {
        pthread_cond_wait(cond, lock);
        return;
    }
    struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    pthread_cond_timedwait(cond, lock, &t);
}

/* ---- the lane's thread ---- */

/* Gives lane 0 what has been made; waits for it when it is far behind. */
static void deliver(struct mj_lane *l)
{
    pthread_mutex_lock(&l->lock);
    while (l->results.n >= RESULTS_MAX && !atomic_load(&l->abandoned))
        pthread_cond_wait(&l->call, &l->lock);
    bool news = l->made.n && !l->results.n;
    if (!l->results.n) {
        struct results empty = l->results;
        l->results = l->made;
        l->made = empty;
    }
    for (size_t i = 0; i < l->made.n; i++) {
        GROW(&l->results);
        l->results.v[l->results.n++] = l->made.v[i];
    }
    l->made.n = 0;
    l->done = l->worked;
    pthread_cond_broadcast(&l->progress);
    pthread_mutex_unlock(&l->lock);
    if (news && l->cfg.wake)
        l->cfg.wake(l->cfg.ctx);
}

struct running {
    struct mj_lane *lane;
    struct mj_kept *kept; /* borrowed: what is being run */
};

static void drop_result(struct result *r)
{
    mj_kept_unref(r->kept);
    free((void *)(uintptr_t)r->way.readers);
}

static void on_result(void *ctx, const struct mj_event *ev, const struct mj__way *way)
{
    const struct running *now = ctx;
    struct mj_lane *l = now->lane;
    struct mj_kept *kept = ev == &now->kept->ev ? mj_kept_ref(now->kept) : mj_kept_new(ev);
    struct result result = {kept, *way};
    if (way->reader_count) {
        struct mj_reader **readers = mj_alloc(way->reader_count * sizeof(struct mj_reader *));
        memcpy(readers, way->readers, way->reader_count * sizeof(struct mj_reader *));
        result.way.readers = readers;
    } else {
        result.way.readers = NULL;
    }
    GROW(&l->made);
    l->made.v[l->made.n++] = result;
}

static int64_t run_tasks(struct mj_lane *l)
{
    return l->cfg.run ? l->cfg.run(l->cfg.ctx, SLICE_US) : -1;
}

static void work_off(struct mj_lane *l)
{
    for (size_t i = 0; i < l->work.n; i++) {
        const struct input *in = &l->work.v[i];
        struct running now = {l, in->kept};
        if (!atomic_load_explicit(&l->abandoned, memory_order_relaxed))
            mj__router_run(l->router, &in->kept->ev, in->roots, on_result, &now);
        else
            mj_metric_add(l->skipped, 1);
        size_t size = mj_kept_size(in->kept);
        mj_kept_unref(in->kept);
        l->worked++;
        atomic_fetch_sub(&l->bytes, size);
        atomic_fetch_sub(&l->events, 1);
        if (atomic_load(&l->awaited) || i % BATCH == BATCH - 1)
            deliver(l);
        if (i % BATCH == BATCH - 1)
            run_tasks(l);
    }
    l->work.n = 0;
}

/* A lane that replaces another begins when that one has ended, and knows what it knew. */
static void wait_for_old(struct mj_lane *l)
{
    struct mj_lane *old = l->old;
    if (!old)
        return;
    pthread_mutex_lock(&old->lock);
    while (!old->finished && !atomic_load(&l->abandoned))
        wait_until(&old->progress, &old->lock, mj_mono_us() + 50000);
    bool ended = old->finished;
    pthread_mutex_unlock(&old->lock);
    if (ended && l->seen)
        mj__graph_adopt(l->graph, l->seen);
    pthread_mutex_lock(&old->lock);
    old->released = true;
    pthread_cond_broadcast(&old->progress);
    pthread_mutex_unlock(&old->lock);
    if (l->cfg.wake)
        l->cfg.wake(l->cfg.ctx);
}

static void *lane_main(void *arg)
{
    struct mj_lane *l = arg;
    struct posts posts = {0};
    int64_t due = -1;
    bool first = true;
    pthread_mutex_lock(&l->lock);
    while (!l->going && !l->closing)
        pthread_cond_wait(&l->call, &l->lock);
    bool going = l->going;
    pthread_mutex_unlock(&l->lock);
    if (!going)
        return NULL;
    wait_for_old(l);
    for (;;) {
        pthread_mutex_lock(&l->lock);
        while (!first && !l->queue.n && !l->posts.n && !l->poked && !l->closing &&
               (due < 0 || mj_mono_us() < due))
            wait_until(&l->call, &l->lock, due);
        bool end = !first && l->closing && !l->queue.n && !l->posts.n;
        struct inputs work = l->work;
        l->work = l->queue;
        l->queue = work;
        struct posts ran = posts;
        posts = l->posts;
        l->posts = ran;
        l->poked = false;
        first = false;
        if (end) {
            l->finished = true;
            pthread_cond_broadcast(&l->progress);
        }
        pthread_mutex_unlock(&l->lock);
        if (end)
            break;
        for (size_t i = 0; i < posts.n; i++)
            posts.v[i].fn(posts.v[i].ctx);
        posts.n = 0;
        work_off(l);
        int64_t in = run_tasks(l);
        due = in < 0 ? -1 : mj_mono_us() + in;
        deliver(l);
    }
    free(posts.v);
    if (l->cfg.wake)
        l->cfg.wake(l->cfg.ctx);
    return NULL;
}

/* ---- lane 0 ---- */

/* Sets a flag of both sides, for the lane to see. */
static void set_flag(struct mj_lane *l, bool *flag)
{
    pthread_mutex_lock(&l->lock);
    *flag = true;
    pthread_cond_signal(&l->call);
    pthread_mutex_unlock(&l->lock);
}

int mj_lane_swap(struct mj_router *r, struct mj_graph *old, struct mj_lane *l, struct mj_buf *error)
{
    struct mj_graph *graph = mj__router_graph(l->router);
    if (!graph) {
        mj_buf_printf(error, "%s: its lane has no graph", l->script);
        return MJ_EINVAL;
    }
    l->graph = graph;
    /* The thread first, since there may be none to have; it stands until the swap is done. */
    if (pthread_create(&l->thread, NULL, lane_main, l)) {
        mj_buf_printf(error, "%s: the system has no thread for its lane", l->script);
        return MJ_ENOMEM;
    }
    int err = mj__router_swap(r, old, graph, l, error);
    if (err) {
        set_flag(l, &l->closing);
        pthread_join(l->thread, NULL);
        l->closing = false;
    }
    return err;
}

void mj__lane_start(struct mj_lane *l, struct mj_router *r, struct mj_lane *old,
                    struct mj_graph *seen)
{
    l->home = r;
    l->old = l->before = old;
    l->seen = seen;
    if (old)
        old->claimed = true;
    l->started = true;
    set_flag(l, &l->going);
}

void mj__lane_mark(struct mj_lane *l, unsigned root)
{
    l->marked[root / 64] |= UINT64_C(1) << (root % 64);
    l->any_marked = true;
}

void mj__lane_push(struct mj_lane *l, const struct mj_event *ev, struct mj_kept **kept)
{
    if (!l->any_marked)
        return;
    l->any_marked = false;
    size_t events = atomic_load(&l->events), bytes = atomic_load(&l->bytes);
    if (l->cfg.lag == MJ_LAG_SKIP && (events >= l->cfg.events || bytes >= l->cfg.bytes)) {
        memset(l->marked, 0, sizeof l->marked);
        mj_metric_add(l->skipped, 1);
        mj_log_limited(&l->gate, 1, MJ_LOG_WARN, "lane",
                       "%s is slower than its events come: %zu are waiting, what does not fit is "
                       "skipped",
                       l->script, events);
        return;
    }
    if (!*kept)
        *kept = mj_kept_new(ev);
    GROW(&l->pending);
    struct input *in = &l->pending.v[l->pending.n++];
    in->kept = mj_kept_ref(*kept);
    memcpy(in->roots, l->marked, sizeof in->roots);
    memset(l->marked, 0, sizeof l->marked);
    l->pushed++;
    atomic_fetch_add(&l->bytes, mj_kept_size(*kept));
    atomic_fetch_add(&l->events, 1);
    if (l->pending.n >= 4 * BATCH)
        mj__lane_hand_over(l);
}

void mj__lane_hand_over(struct mj_lane *l)
{
    mj_metric_set(l->queued, (int64_t)atomic_load(&l->events));
    if (!l->pending.n)
        return;
    pthread_mutex_lock(&l->lock);
    if (!l->queue.n) {
        struct inputs empty = l->queue;
        l->queue = l->pending;
        l->pending = empty;
    }
    for (size_t i = 0; i < l->pending.n; i++) {
        GROW(&l->queue);
        l->queue.v[l->queue.n++] = l->pending.v[i];
    }
    l->pending.n = 0;
    pthread_cond_signal(&l->call);
    pthread_mutex_unlock(&l->lock);
}

void mj__lane_collect(struct mj_lane *l)
{
    if (l->before) {
        mj__lane_collect(l->before);
        if (!l->before->drained)
            return;
        l->before = NULL;
    }
    if (l->drained || l->collecting)
        return;
    l->collecting = true;
    pthread_mutex_lock(&l->lock);
    bool finished = l->finished;
    uint64_t done = l->done;
    struct results taken = l->taken;
    l->taken = l->results;
    l->results = taken;
    if (l->taken.n)
        pthread_cond_signal(&l->call);
    pthread_mutex_unlock(&l->lock);
    for (size_t i = 0; i < l->taken.n; i++) {
        struct result *r = &l->taken.v[i];
        mj__router_inject(l->home, &r->kept->ev, &r->way);
        drop_result(r);
    }
    l->taken.n = 0;
    l->appended = done;
    l->collecting = false;
    l->drained = finished;
}

void mj__lane_note(struct mj_lane *l, int source) { l->noted[source] = l->pushed; }

bool mj__lane_caught_up(const struct mj_lane *l, int source)
{
    return l->cfg.lag != MJ_LAG_WAIT || l->drained ||
           l->appended >= (source < 0 ? l->pushed : l->noted[source]);
}

static bool is_full(struct mj_lane *l)
{
    return atomic_load(&l->events) >= l->cfg.events || atomic_load(&l->bytes) >= l->cfg.bytes;
}

void mj__lane_settle(struct mj_lane *l)
{
    /* What is being collected may fill other lanes, but streams make no circles, so never this one.
     */
    if (l->cfg.lag != MJ_LAG_WAIT || MJ_LIKELY(!is_full(l)) || l->collecting)
        return;
    mj_metric_add(l->waits, 1);
    mj__lane_hand_over(l);
    atomic_store(&l->awaited, true);
    while (is_full(l)) {
        mj__lane_collect(l);
        pthread_mutex_lock(&l->lock);
        if (is_full(l) && !l->results.n)
            wait_until(&l->progress, &l->lock, mj_mono_us() + 10000);
        pthread_mutex_unlock(&l->lock);
    }
    atomic_store(&l->awaited, false);
}

void mj__lane_close(struct mj_lane *l)
{
    mj__lane_hand_over(l);
    set_flag(l, &l->closing);
}

void mj__lane_finish(struct mj_lane *l, int64_t budget_us)
{
    int64_t deadline = mj_mono_us() + budget_us;
    for (bool ended = false; !ended;) {
        mj__lane_collect(l);
        pthread_mutex_lock(&l->lock);
        if (!l->finished && mj_mono_us() >= deadline && !atomic_load(&l->abandoned)) {
            mj_log(MJ_LOG_WARN, "lane", "%s: %zu events are dropped: its time is up", l->script,
                   atomic_load(&l->events));
            atomic_store(&l->abandoned, true);
            pthread_cond_broadcast(&l->call);
        }
        if (!l->finished && !l->results.n)
            wait_until(&l->progress, &l->lock, mj_mono_us() + 10000);
        ended = l->finished;
        pthread_mutex_unlock(&l->lock);
    }
    mj__lane_collect(l);
}

void mj_lane_end(struct mj_lane *l, int64_t budget_us)
{
    if (!l->started)
        return;
    mj__lane_close(l);
    mj__lane_finish(l, budget_us);
}

bool mj_lane_gave_up(struct mj_lane *l)
{
    return l->cfg.lag == MJ_LAG_WAIT && atomic_load(&l->abandoned);
}

bool mj_lane_done(struct mj_lane *l)
{
    mj__lane_collect(l);
    pthread_mutex_lock(&l->lock);
    bool done = l->finished && (!l->claimed || l->released);
    pthread_mutex_unlock(&l->lock);
    return done && l->drained;
}

bool mj_lane_post(struct mj_lane *l, void (*fn)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&l->lock);
    bool can = !l->finished;
    if (can) {
        GROW(&l->posts);
        l->posts.v[l->posts.n++] = (struct post){fn, ctx};
        pthread_cond_signal(&l->call);
    }
    pthread_mutex_unlock(&l->lock);
    return can;
}

void mj_lane_wake(struct mj_lane *l) { set_flag(l, &l->poked); }

static void drop_inputs(struct inputs *a)
{
    for (size_t i = 0; i < a->n; i++)
        mj_kept_unref(a->v[i].kept);
    free(a->v);
}

static void drop_results(struct results *a)
{
    for (size_t i = 0; i < a->n; i++)
        drop_result(&a->v[i]);
    free(a->v);
}

void mj_lane_free(struct mj_lane *l, int64_t budget_us)
{
    if (!l)
        return;
    if (l->started) {
        MJ_AUTO_BUF error = {0};
        mj__router_swap(l->home, l->graph, NULL, NULL, &error); /* where it is still in */
        mj_lane_end(l, budget_us);
        /* A successor still reads what this one's nodes have seen. */
        pthread_mutex_lock(&l->lock);
        while (l->claimed && !l->released)
            wait_until(&l->progress, &l->lock, mj_mono_us() + 10000);
        pthread_mutex_unlock(&l->lock);
        pthread_join(l->thread, NULL);
        mj__router_forget(l->home, l);
    }
    mj_router_free(l->router);
    drop_inputs(&l->pending);
    drop_inputs(&l->queue);
    drop_inputs(&l->work);
    drop_results(&l->results);
    drop_results(&l->taken);
    drop_results(&l->made);
    free(l->posts.v);
    pthread_cond_destroy(&l->call);
    pthread_cond_destroy(&l->progress);
    pthread_mutex_destroy(&l->lock);
    free(l->script);
    free(l);
}

void mj__lane_let_go(struct mj_lane *l, const struct mj_lane *gone)
{
    if (l->before == gone)
        l->before = NULL;
}
