#include "deliver/hook.h"

#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "deliver/hook_internal.h"
#include "script/secrets.h"

#define BYTES_MAX  ((size_t)256 << 20)
#define HOOK_BYTES ((size_t)8 << 20) /* of one endpoint's parcels, unless it is one */
#define ROUND_US   INT64_C(60000000)
#define CROWDED_US 50000 /* between two looks whether there is room again */
#define IDLE_KEPT  64    /* handles */

/* ---- any thread ---- */

static void on_wake(void *ctx)
{
    struct mj_hook *h = ctx;
    if (atomic_exchange(&h->woken, true))
        return;
    struct mj_hooks *hs = h->hooks;
    struct mj_hook *head = atomic_load(&hs->woken);
    do {
        h->woken_next = head;
    } while (!atomic_compare_exchange_weak(&hs->woken, &head, h));
    if (!head)
        mj_http_wake(hs->cfg.http);
}

void mj_hook_question(const struct mj_hook_ask *a, struct mj_hook_question *out)
{
    *out = (struct mj_hook_question){
        .function = a->hook->spec->function,
        .items = a->parcel->items,
        .n = a->parcel->n,
        .list = a->hook->spec->max > 1 || a->parcel->n > 1,
    };
}

struct mj_hook_ask **mj_hook_ask_next(struct mj_hook_ask *a) { return &a->next; }

void mj_hook_answer(struct mj_hook_ask *a, struct mj_formatted *answer)
{
    struct mj_hooks *hs = a->hook->hooks;
    a->made = *answer;
    *answer = (struct mj_formatted){0};
    struct mj_hook_ask *head = atomic_load(&hs->answered);
    do {
        a->next = head;
    } while (!atomic_compare_exchange_weak(&hs->answered, &head, a));
    if (!head && !atomic_load(&hs->draining)) /* at the end the thread may be gone */
        mj_http_wake(hs->cfg.http);
}

/* ---- the net thread ---- */

uint64_t mj__hooks_random(struct mj_hooks *hs)
{
    hs->random ^= hs->random << 13;
    hs->random ^= hs->random >> 7;
    hs->random ^= hs->random << 17;
    return hs->random;
}

void mj__hook_ready(struct mj_hook *h)
{
    struct mj_hooks *hs = h->hooks;
    if (h->ready)
        return;
    h->ready = true;
    h->ready_next = NULL;
    *hs->ready_last = h;
    hs->ready_last = &h->ready_next;
}

void mj__hook_free_room(struct mj_hook_ask *a)
{
    struct mj_hook *h = a->hook;
    struct mj_hooks *hs = h->hooks;
    h->busy--;
    h->bytes -= a->bytes;
    hs->bytes -= a->bytes;
    if (a->sent && atomic_fetch_sub(&hs->sent, 1) == 1 && atomic_load(&hs->draining)) {
        pthread_mutex_lock(&hs->lock);
        pthread_cond_broadcast(&hs->changed);
        pthread_mutex_unlock(&hs->lock);
    }
    mj__hook_ready(h);
}

static void on_timer(struct mj_due *due)
{
    mj__hook_ready((struct mj_hook *)((char *)due - offsetof(struct mj_hook, timer)));
}

static void call_again(struct mj_hook *h, int64_t after_us)
{
    mj_due_set(&h->hooks->timers, &h->timer, mj_mono_us() + (after_us > 0 ? after_us : 0));
}

static bool has_room(const struct mj_hook *h)
{
    const struct mj_hooks *hs = h->hooks;
    return !h->busy || (h->bytes < HOOK_BYTES && hs->bytes < hs->cfg.max_bytes);
}

/* Posts as much as it may. */
static void pump(struct mj_hook *h)
{
    struct mj_hooks *hs = h->hooks;
    mj_due_clear(&hs->timers, &h->timer);
    while (!h->closing && !atomic_load(&hs->draining) && h->busy < h->spec->concurrency) {
        int64_t now = mj_mono_us(), again;
        if (now < h->hold_until_us) {
            call_again(h, h->hold_until_us - now);
            return;
        }
        int64_t wait = mj_breaker_wait(&h->breaker, now);
        mj_metric_set(h->state, h->breaker.state);
        if (wait < 0)
            return;
        if (!wait && h->spec->rate_count && now < h->next_us)
            wait = h->next_us - now;
        if (!wait && !has_room(h))
            wait = CROWDED_US;
        if (wait) {
            call_again(h, wait);
            return;
        }
        struct mj_parcel *p = mj_reader_take(h->reader, h, &hs->view, mj_now_us(), &again);
        if (!p) {
            if (again >= 0)
                call_again(h, again);
            return;
        }
        mj_breaker_sent(&h->breaker);
        if (h->spec->rate_count)
            h->next_us = now + h->spec->rate_period_us / h->spec->rate_count;
        mj__hook_start(h, p);
    }
}

static void free_hook(struct mj_hook *h)
{
    mj_due_clear(&h->hooks->timers, &h->timer);
    mj_http_line_free(h->line);
    for (size_t i = 0; i < MJ_HOOK_LIST_MAX; i++)
        mj_sign_key_free(h->keys[i]);
    mj_hook_spec_free(h->spec);
    mj_buf_deinit(&h->fixed);
    mj_buf_deinit(&h->type);
    mj_secrets_free(h->hidden);
    free(h);
}

/* Those that were closed and have nothing on its way. Nobody wakes them any more: what was woken
 * before is off that list by now. */
static void free_closed(struct mj_hooks *hs)
{
    for (struct mj_hook **at = &hs->all, *h; (h = *at);) {
        if (!h->closing || h->busy || h->ready || atomic_load(&h->woken)) {
            at = &h->next;
            continue;
        }
        *at = h->next;
        free_hook(h);
    }
}

static void take_woken(struct mj_hooks *hs)
{
    for (struct mj_hook *h = atomic_exchange(&hs->woken, NULL), *next; h; h = next) {
        next = h->woken_next;
        atomic_store(&h->woken, false);
        mj__hook_ready(h);
    }
    for (struct mj_hook_ask *a = atomic_exchange(&hs->answered, NULL), *next; a; a = next) {
        next = a->next;
        mj__hook_formatted(a);
    }
}

static int64_t tick(void *ctx)
{
    struct mj_hooks *hs = ctx;
    bool closed = false;
    take_woken(hs);
    for (struct mj_due *due; (due = mj_dues_first(&hs->timers)) && due->key <= mj_mono_us();) {
        mj_due_clear(&hs->timers, due);
        due->fire(due);
    }
    /* Always: a view that is not looked at keeps what the journal would drop. */
    mj_view_refresh(&hs->view);
    while (hs->ready) {
        struct mj_hook *h = hs->ready;
        hs->ready = h->ready_next;
        if (!hs->ready)
            hs->ready_last = &hs->ready;
        h->ready = false;
        closed |= h->closing;
        pump(h);
    }
    if (closed)
        free_closed(hs);
    const struct mj_due *first = mj_dues_first(&hs->timers);
    int64_t wait = first ? first->key - mj_mono_us() : ROUND_US;
    return wait < 0 ? 0 : wait < ROUND_US ? wait : ROUND_US;
}

static void begin(void *ctx)
{
    struct mj_hook *h = ctx;
    const struct mj_hook_spec *s = h->spec;
    /* A reload does not end the quiet that the endpoint has asked for. */
    const struct mj_hook *was = h->hooks->all;
    while (was && (was->reader != h->reader || strcmp(was->spec->url, s->url) != 0))
        was = was->next;
    if (was)
        h->hold_until_us = was->hold_until_us;
    h->next = h->hooks->all;
    h->hooks->all = h;
    const struct mj_owner_cfg cfg = {
        .order = s->order,
        .workers = s->concurrency,
        .max = s->max,
        .max_bytes = s->max_bytes,
        .every_us = s->every_us,
        .retry = s->retry,
        .wake = on_wake,
        .ctx = h,
    };
    mj_reader_own(h->reader, &cfg);
    mj__hook_ready(h);
}

static void end(void *ctx)
{
    struct mj_hook *h = ctx;
    mj_reader_disown(h->reader, h);
    h->closing = true;
    mj__hook_ready(h);
}

/* ---- opening and closing ---- */

static int make(struct mj_http *http, const struct mj_hook_spec *spec, struct mj_hook **out,
                struct mj_buf *error)
{
    MJ_AUTO_BUF origin = {0};
    struct mj_hook *h = mj_calloc(1, sizeof *h);
    struct mj_reach *allow = mj_reach_new();
    h->spec = mj_hook_spec_copy(spec);
    int err = mj_hook_origin(spec, &origin, error);
    for (size_t i = 0; !err && i < spec->allow_count; i++) {
        err = mj_reach_allow(allow, spec->allow[i], error);
    }
    if (!err)
        err = mj__hook_prepare(h, error);
    if (!err) {
        struct mj_http_line_cfg line = {
            .script = spec->script,
            .url = spec->url,
            .headers = mj_str(spec->headers),
            .allow = allow,
            .only_allowed = strncasecmp(spec->url, "http:", 5) == 0,
            .timeout_us = spec->timeout_us,
            .keep = spec->concurrency < IDLE_KEPT ? spec->concurrency : IDLE_KEPT,
        };
        allow = NULL;
        err = mj_http_line_new(http, &line, &h->line, error);
    }
    mj_reach_free(allow);
    *out = h;
    return err ? MJ_EINVAL : 0;
}

/* One that never began. */
static void unmake(struct mj_hook *h)
{
    struct mj_hooks none = {0};
    h->hooks = &none;
    free_hook(h);
}

int mj_hook_check(const struct mj_hook_spec *spec, struct mj_buf *error)
{
    struct mj_hook *h;
    int err = make(NULL, spec, &h, error);
    unmake(h);
    return err;
}

static void make_metrics(struct mj_hook *h)
{
    static const char *const names[MJ__POSTED_COUNT] = {"2xx", "3xx",   "4xx",
                                                        "5xx", "error", "refused"};
    char script[256], node[256];
    mj_metric_label(mj_str(h->spec->script), script, sizeof script);
    mj_metric_label(mj_str(h->spec->node), node, sizeof node);
    for (int i = 0; i < MJ__POSTED_COUNT; i++)
        h->posted[i] = mj_metric("moonjet_webhook_requests_total", MJ_COUNTER,
                                 "Requests to webhooks, by the answer's class.",
                                 "script=\"%s\",node=\"%s\",status=\"%s\"", script, node, names[i]);
    h->state = mj_metric("moonjet_webhook_breaker", MJ_GAUGE,
                         "A webhook's circuit breaker: 0 closed, 1 half-open, 2 open.",
                         "script=\"%s\",node=\"%s\"", script, node);
    h->opened = mj_metric("moonjet_webhook_breaker_opened_total", MJ_COUNTER,
                          "How often a webhook's circuit breaker has opened.",
                          "script=\"%s\",node=\"%s\"", script, node);
    mj_metric_set(h->state, MJ_BREAKER_CLOSED);
}

struct mj_hook *mj_hook_open(struct mj_hooks *hs, struct mj_reader *reader,
                             const struct mj_hook_spec *spec)
{
    MJ_AUTO_BUF error = {0};
    struct mj_hook *h;
    if (make(hs->cfg.http, spec, &h, &error)) {
        mj_log(MJ_LOG_ERROR, "webhook", "%s %s: %s", spec->script, spec->node, mj_buf_cstr(&error));
        unmake(h);
        return NULL;
    }
    h->hooks = hs;
    h->reader = reader;
    h->timer.fire = on_timer;
    make_metrics(h);
    mj_http_run(hs->cfg.http, begin, h);
    return h;
}

void mj_hook_close(struct mj_hook *h)
{
    if (h)
        mj_http_run(h->hooks->cfg.http, end, h);
}

/* ---- the engine ---- */

static void attach(void *ctx)
{
    struct mj_hooks *hs = ctx;
    mj_http_set_tick(hs->cfg.http, tick, hs);
}

struct mj_hooks *mj_hooks_new(const struct mj_hooks_cfg *cfg)
{
    static const int64_t bounds[] = {1000,     2500,      5000,       10000,      20000,   50000,
                                     100000,   250000,    500000,     1000000,    5000000, 15000000,
                                     60000000, 600000000, 3600000000, 86400000000};
    struct mj_hooks *hs = mj_calloc(1, sizeof *hs);
    hs->cfg = *cfg;
    if (!hs->cfg.max_bytes)
        hs->cfg.max_bytes = BYTES_MAX;
    hs->ready_last = &hs->ready;
    hs->random = (uint64_t)mj_now_us() * UINT64_C(0x9e3779b97f4a7c15) | 1;
    hs->delay = mj_histogram("moonjet_webhook_delay_seconds",
                             "From an event's time_us to its first request.", bounds,
                             MJ_COUNT(bounds), NULL);
    hs->took = mj_histogram("moonjet_webhook_seconds", "How long requests to webhooks took.",
                            bounds, MJ_COUNT(bounds), NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&hs->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&hs->lock, NULL);
    mj_view_init(&hs->view, cfg->journal);
    mj_http_run(cfg->http, attach, hs);
    return hs;
}

void mj_hooks_drain(struct mj_hooks *hs, int64_t budget_us)
{
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    int64_t ns = end.tv_nsec + budget_us % 1000000 * 1000;
    end.tv_sec += budget_us / 1000000 + ns / 1000000000;
    end.tv_nsec = ns % 1000000000;
    atomic_store(&hs->draining, true);
    pthread_mutex_lock(&hs->lock);
    while (atomic_load(&hs->sent) && !pthread_cond_timedwait(&hs->changed, &hs->lock, &end))
        ;
    pthread_mutex_unlock(&hs->lock);
}

void mj_hooks_free(struct mj_hooks *hs)
{
    if (!hs)
        return;
    take_woken(hs); /* asks that were answered with "gone" */
    while (hs->all) {
        struct mj_hook *h = hs->all;
        hs->all = h->next;
        mj_reader_disown(h->reader, h);
        free_hook(h);
    }
    mj_dues_deinit(&hs->timers);
    mj_view_deinit(&hs->view);
    pthread_cond_destroy(&hs->changed);
    pthread_mutex_destroy(&hs->lock);
    free(hs);
}
