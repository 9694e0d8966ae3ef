#include "source/loop.h"

#include <libwebsockets.h>
#include <signal.h>
#include <stdatomic.h>

#include "base/bytes.h"
#include "base/log.h"

#define WATCHES_MAX 256 /* lws sizes its tables by this, else by what the process may open */

struct periodic {
    struct periodic *next; /* owned by the loop's list */
    struct mj_timer *timer;
    int64_t us;
    void (*fn)(void *ctx);
    void *ctx; /* borrowed */
};

struct mj_loop {
    struct lws_context *lws;
    atomic_bool stop, woken, hung_up;
    void (*on_wake)(void *ctx);
    void *wake_ctx; /* borrowed */
    struct periodic *periodic;
};

struct mj_watch {
    struct lws *wsi; /* borrowed from lws until its close callback */
    struct mj_watch_fns fns;
    void *ctx;    /* borrowed */
    bool calling; /* inside a callback: lws must not be told to close it meanwhile */
    bool closed;  /* nobody wants to hear of it any more; freed by the close callback */
};

struct mj_timer {
    lws_sorted_usec_list_t sul; /* first: lws hands it back */
    struct mj_loop *loop;       /* borrowed */
    void (*fn)(void *ctx);
    void *ctx; /* borrowed */
};

static int call(struct mj_watch *w, void (*fn)(void *ctx))
{
    if (!w || w->closed)
        return -1;
    if (!fn)
        return 0;
    w->calling = true;
    fn(w->ctx);
    w->calling = false;
    return w->closed ? -1 : 0; /* -1: lws closes the descriptor */
}

/* lws closes by itself when it sees the hang-up before we read the end. What was received by then
 * is still in the socket: the owner reads on until it meets the end and closes its watch. */
static void let_owner_finish(struct mj_watch *w)
{
    w->wsi = NULL;
    for (int i = 0; i < 1000 && !w->closed; i++)
        call(w, w->fns.readable);
    if (w->closed)
        free(w);
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t len)
{
    (void)user;
    (void)in;
    (void)len;
    struct mj_watch *w;
    switch (reason) {
    case LWS_CALLBACK_RAW_RX_FILE:
        w = lws_get_opaque_user_data(wsi);
        return call(w, w ? w->fns.readable : NULL);
    case LWS_CALLBACK_RAW_WRITEABLE_FILE:
        w = lws_get_opaque_user_data(wsi);
        return call(w, w ? w->fns.writable : NULL);
    case LWS_CALLBACK_RAW_CLOSE_FILE:
        w = lws_get_opaque_user_data(wsi);
        if (w && w->closed)
            free(w);
        else if (w)
            let_owner_finish(w);
        return 0;
    case LWS_CALLBACK_EVENT_WAIT_CANCELLED: {
        struct mj_loop *l = lws_context_user(lws_get_context(wsi));
        if (atomic_exchange(&l->woken, false) && l->on_wake)
            l->on_wake(l->wake_ctx);
        return 0;
    }
    default:
        return 0;
    }
}

static void log_lws(int level, const char *line)
{
    size_t n = strcspn(line, "\n");
    mj_log(level & LLL_ERR ? MJ_LOG_ERROR : MJ_LOG_WARN, "lws", "%.*s", (int)n, line);
}

struct mj_loop *mj_loop_new(void)
{
    static const struct lws_protocols protocols[] = {{.name = "mj-watch", .callback = on_event},
                                                     {0}};
    struct mj_loop *l = mj_calloc(1, sizeof *l);
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .protocols = protocols,
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
        .user = l,
        .fd_limit_per_thread = WATCHES_MAX,
    };
    lws_set_log_level(LLL_ERR | LLL_WARN, log_lws);
    l->lws = lws_create_context(&info);
    if (!l->lws) {
        mj_log(MJ_LOG_ERROR, "loop", "cannot create an event loop: out of memory or descriptors");
        abort();
    }
    return l;
}

void mj_loop_free(struct mj_loop *l)
{
    if (!l)
        return;
    while (l->periodic) {
        struct periodic *p = l->periodic;
        l->periodic = p->next;
        mj_timer_free(p->timer);
        free(p);
    }
    lws_context_destroy(l->lws);
    free(l);
}

void mj_loop_run(struct mj_loop *l)
{
    while (!atomic_load(&l->stop) && lws_service(l->lws, 0) >= 0)
        ;
}

void mj_loop_stop(struct mj_loop *l)
{
    atomic_store(&l->stop, true);
    lws_cancel_service(l->lws);
}

bool mj_loop_stopped(struct mj_loop *l) { return atomic_load(&l->stop); }

void mj_loop_resume(struct mj_loop *l) { atomic_store(&l->stop, false); }

void mj_loop_wake(struct mj_loop *l)
{
    if (!atomic_exchange(&l->woken, true))
        lws_cancel_service(l->lws);
}

void mj_loop_on_wake(struct mj_loop *l, void (*fn)(void *ctx), void *ctx)
{
    l->on_wake = fn;
    l->wake_ctx = ctx;
}

struct mj_watch *mj_watch_new(struct mj_loop *l, int fd, const struct mj_watch_fns *fns, void *ctx)
{
    struct mj_watch *w = mj_calloc(1, sizeof *w);
    w->fns = *fns;
    w->ctx = ctx;
    lws_sock_file_fd_type desc = {.filefd = fd};
    w->wsi = lws_adopt_descriptor_vhost(lws_get_vhost_by_name(l->lws, "default"),
                                        LWS_ADOPT_RAW_FILE_DESC, desc, "mj-watch", NULL);
    if (!w->wsi) {
        free(w);
        return NULL;
    }
    lws_set_opaque_user_data(w->wsi, w);
    return w;
}

void mj_watch_writable(struct mj_watch *w)
{
    if (w->wsi && !w->closed)
        lws_callback_on_writable(w->wsi);
}

void mj_watch_close(struct mj_watch *w)
{
    if (!w || w->closed)
        return;
    w->closed = true;
    /* Inside its own callback, the callback's result closes it. */
    if (!w->calling && w->wsi)
        lws_set_timeout(w->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
}

static void on_timer(lws_sorted_usec_list_t *sul)
{
    struct mj_timer *t = (struct mj_timer *)sul;
    t->fn(t->ctx);
}

struct mj_timer *mj_timer_new(struct mj_loop *l, void (*fn)(void *ctx), void *ctx)
{
    struct mj_timer *t = mj_calloc(1, sizeof *t);
    t->loop = l;
    t->fn = fn;
    t->ctx = ctx;
    return t;
}

void mj_timer_set(struct mj_timer *t, int64_t us)
{
    lws_sul_schedule(t->loop->lws, 0, &t->sul, on_timer,
                     us < 0 ? LWS_SET_TIMER_USEC_CANCEL : (lws_usec_t)(us ? us : 1));
}

void mj_timer_free(struct mj_timer *t)
{
    if (!t)
        return;
    mj_timer_set(t, -1);
    free(t);
}

static void on_period(void *ctx)
{
    struct periodic *p = ctx;
    mj_timer_set(p->timer, p->us);
    p->fn(p->ctx);
}

void mj_loop_every(struct mj_loop *l, int ms, void (*fn)(void *ctx), void *ctx)
{
    struct periodic *p = mj_calloc(1, sizeof *p);
    *p = (struct periodic){l->periodic, NULL, (int64_t)ms * 1000, fn, ctx};
    p->timer = mj_timer_new(l, on_period, p);
    l->periodic = p;
    mj_timer_set(p->timer, p->us);
}

static struct mj_loop *signalled; /* borrowed: the loop that asked for signals */

static void on_signal(int number)
{
    (void)number;
    mj_loop_stop(signalled);
}

void mj_loop_stop_on_signals(struct mj_loop *l)
{
    signalled = l;
    /* Reset after the first: whoever asks twice wants the process gone. */
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void on_hangup(int number)
{
    (void)number;
    atomic_store(&signalled->hung_up, true);
    mj_loop_wake(signalled);
}

void mj_loop_wake_on_hangup(struct mj_loop *l)
{
    signalled = l;
    struct sigaction action = {.sa_handler = on_hangup, .sa_flags = SA_RESTART};
    sigaction(SIGHUP, &action, NULL);
}

bool mj_loop_hung_up(struct mj_loop *l) { return atomic_exchange(&l->hung_up, false); }
