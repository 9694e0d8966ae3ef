#include "deliver/http.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "deliver/internal.h"

#define WAIT_US INT64_C(60000000) /* a round begins so often at least */

struct mj_http_task {
    struct mj_http_task *next;
    void (*fn)(void *ctx);
    void *ctx;
};

/* ---- any thread ---- */

static void hand_over(struct mj_http *h, struct mj_job *job)
{
    pthread_mutex_lock(&h->lock);
    bool empty = !h->incoming;
    *h->incoming_last = job;
    h->incoming_last = &job->next;
    pthread_mutex_unlock(&h->lock);
    if (empty)
        mj_http_wake(h);
}

void mj_http_send(struct mj_http *h, const struct mj_fetch *r, bool trusted, mj_http_done_fn done,
                  void *ctx)
{
    struct mj_job *job = mj_calloc(1, sizeof *job);
    job->http = h;
    job->done = done;
    job->ctx = ctx;
    job->script = mj_strdup(r->script ? r->script : "");
    job->start_us = mj_mono_us();
    job->timeout_us = r->timeout_us > 0 ? r->timeout_us : 1000;
    job->deadline_us = job->start_us + job->timeout_us;
    job->max_bytes = r->max_bytes;
    job->trusted = trusted;
    job->counted = r->url.len + r->headers.len + r->body.len + sizeof *job;
    size_t jobs = atomic_fetch_add(&h->jobs, 1);
    size_t bytes = atomic_fetch_add(&h->bytes, job->counted);
    /* What is not even looked at is not copied either. */
    if (jobs >= h->cfg.max_waiting || bytes + job->counted > h->cfg.max_bytes) {
        mj_buf_puts(&job->error, "too many requests are waiting");
    } else if (memchr(r->url.ptr, 0, r->url.len) || memchr(r->method.ptr, 0, r->method.len)) {
        mj_buf_puts(&job->error, "not a URL such as https://host/path");
    } else {
        job->method = mj_span_dup(r->method);
        job->url = mj_span_dup(r->url);
        mj_buf_put(&job->request_headers, r->headers.ptr, r->headers.len);
        mj_buf_put(&job->request_body, r->body.ptr, r->body.len);
    }
    hand_over(h, job);
}

void mj_http_run(struct mj_http *h, void (*fn)(void *ctx), void *ctx)
{
    struct mj_http_task *t = mj_calloc(1, sizeof *t);
    t->fn = fn;
    t->ctx = ctx;
    pthread_mutex_lock(&h->lock);
    bool empty = !h->tasks;
    *h->tasks_last = t;
    h->tasks_last = &t->next;
    pthread_mutex_unlock(&h->lock);
    if (empty)
        mj_http_wake(h);
}

struct allow {
    struct mj_http *h;
    struct mj_reach *reach;
    char *script;
};

static void set_allow(void *ctx)
{
    struct allow *a = ctx;
    struct mj_client *c = mj__http_client(a->h, a->script);
    a->h->reach_changes++;
    mj_reach_free(c->reach);
    c->reach = a->reach;
    free(a->script);
    free(a);
}

void mj_http_allow(struct mj_http *h, const char *script, struct mj_reach *reach)
{
    struct allow *a = mj_calloc(1, sizeof *a);
    *a = (struct allow){h, reach, mj_strdup(script)};
    mj_http_run(h, set_allow, a);
}

/* ---- the net thread ---- */

struct mj_client *mj__http_client(struct mj_http *h, const char *script)
{
    static const char *const names[MJ_OUTCOMES] = {"2xx", "3xx", "4xx", "5xx", "error", "refused"};
    for (struct mj_party *p = h->clients; p; p = p->next)
        if (strcmp(p->name, script) == 0)
            return (struct mj_client *)p;
    struct mj_client *c = mj_calloc(1, sizeof *c);
    char label[256];
    mj_metric_label(mj_str(*script ? script : "moonjet"), label, sizeof label);
    for (int i = 0; i < MJ_OUTCOMES; i++)
        c->outcomes[i] = mj_metric("moonjet_http_requests_total", MJ_COUNTER,
                                   "Requests made, by who made them and the answer's class.",
                                   "script=\"%s\",status=\"%s\"", label, names[i]);
    c->party.name = mj_strdup(script);
    c->party.next = h->clients;
    h->clients = &c->party;
    return c;
}

static struct mj_party **host_slot(struct mj_http *h, const char *name)
{
    struct mj_party **at = &h->hosts[mj_hash(mj_str(name)) % MJ_COUNT(h->hosts)];
    while (*at && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

static struct mj_party *ref_host(struct mj_http *h, const char *name)
{
    struct mj_party **at = host_slot(h, name);
    if (!*at) {
        *at = mj_calloc(1, sizeof **at);
        (*at)->name = mj_strdup(name);
    }
    (*at)->jobs++;
    return *at;
}

static void unref_host(struct mj_http *h, struct mj_party *host)
{
    if (--host->jobs)
        return;
    struct mj_party **at = host_slot(h, host->name);
    *at = host->next;
    free(host->name);
    free(host);
}

/* Tells whoever asked; the job is gone afterwards. `error` NULL: there is an answer. */
static void finish(struct mj_job *job, const char *error, enum mj_outcome outcome, int status)
{
    struct mj_http *h = job->http;
    MJ_AUTO_BUF text = {0};
    if (error)
        mj_buf_printf(&text, "%s%s%s", job->origin ? job->origin : "", job->origin ? ": " : "",
                      error);
    struct mj_fetched a = {.error = error ? mj_buf_cstr(&text) : NULL,
                           .status = status,
                           .headers = mj_buf_span(&job->headers),
                           .body = mj_buf_span(&job->body),
                           .unsent = error && !job->easy};
    struct mj_client *client = job->client ? job->client : mj__http_client(h, job->script);
    mj_metric_add(client->outcomes[outcome], 1);
    if (outcome != MJ_OUTCOME_REFUSED)
        mj_histogram_observe(h->seconds, mj_mono_us() - job->start_us);
    atomic_fetch_sub(&h->jobs, 1);
    job->done(job->ctx, &a);
    if (job->to)
        unref_host(h, job->to);
    mj__job_free(job);
}

/* A job that libcurl has: takes it off. */
static void take_back(struct mj_job *job)
{
    struct mj_http *h = job->http;
    struct mj_job **at = &h->running;
    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    curl_multi_remove_handle(h->multi, job->easy);
    h->active--;
    job->client->party.active--;
    job->to->active--;
    mj_metric_set(h->in_flight, (int64_t)h->active);
}

/* Ends by the clock while a name is looked up leave a thread behind, which cannot be stopped. So
 * that a script whose name server is silent does not make thousands of them, they are counted. */
static void note_lingering(struct mj_job *job)
{
    struct mj_http *h = job->http;
    curl_off_t looked_up_us = 0;
    struct mj_address numeric;
    curl_easy_getinfo(job->easy, CURLINFO_NAMELOOKUP_TIME_T, &looked_up_us);
    if (looked_up_us || mj_address_parse(mj_str(job->host), &numeric) == 0)
        return;
    struct mj_lingering *l = mj_calloc(1, sizeof *l);
    *l = (struct mj_lingering){.client = job->client,
                               .until_us = mj_mono_us() + job->http->cfg.linger_us};
    l->client->lingering++;
    *h->lingering_last = l;
    h->lingering_last = &l->next;
}

static void expire_lingering(struct mj_http *h, int64_t now)
{
    struct mj_lingering *l;
    while ((l = h->lingering) && l->until_us <= now) {
        h->lingering = l->next;
        if (!h->lingering)
            h->lingering_last = &h->lingering;
        l->client->lingering--;
        free(l);
    }
}

static void on_result(struct mj_job *job, CURLcode code)
{
    long status = 0;
    const char *error = mj__job_result(job, code);
    curl_easy_getinfo(job->easy, CURLINFO_RESPONSE_CODE, &status);
    if (!error && (status < 200 || status > 599)) {
        error = "the answer's status is none";
        status = 0;
    }
    enum mj_outcome outcome = (enum mj_outcome)(status / 100 - 2);
    if (error)
        outcome = job->refused ? MJ_OUTCOME_REFUSED : MJ_OUTCOME_ERROR;
    if (code == CURLE_OPERATION_TIMEDOUT)
        note_lingering(job);
    take_back(job);
    finish(job, error, outcome, error ? 0 : (int)status);
}

static bool has_turn(const struct mj_job *job)
{
    const struct mj_http *h = job->http;
    return h->active < h->cfg.max_active && job->to->active < h->cfg.max_per_host &&
           job->client->party.active < h->cfg.max_per_script &&
           job->client->lingering < 2 * h->cfg.max_per_script;
}

/* Those whose turn it is, in order; a host or script that is busy holds up nobody else. */
static void start_waiting(struct mj_http *h)
{
    struct mj_job **at = &h->waiting;
    while (*at && h->active < h->cfg.max_active) {
        struct mj_job *job = *at;
        if (!has_turn(job)) {
            at = &job->next;
            continue;
        }
        *at = job->next;
        job->next = NULL;
        if (mj__job_start(job) || curl_multi_add_handle(h->multi, job->easy)) {
            finish(job, "out of memory", MJ_OUTCOME_ERROR, 0);
            continue;
        }
        job->next = h->running;
        h->running = job;
        h->active++;
        job->client->party.active++;
        job->to->active++;
    }
    while (*at)
        at = &(*at)->next;
    h->waiting_last = at;
    mj_metric_set(h->in_flight, (int64_t)h->active);
    mj_metric_set(h->queued, (int64_t)(atomic_load(&h->jobs) - h->active));
}

static void expire_waiting(struct mj_http *h, int64_t now)
{
    if (now < h->next_expiry_us)
        return;
    struct mj_job **at = &h->waiting, *ended = NULL;
    h->next_expiry_us = INT64_MAX;
    while (*at) {
        struct mj_job *job = *at;
        if (job->deadline_us <= now) {
            *at = job->next;
            job->next = ended;
            ended = job;
            continue;
        }
        if (job->deadline_us < h->next_expiry_us)
            h->next_expiry_us = job->deadline_us;
        at = &job->next;
    }
    h->waiting_last = at;
    while (ended) {
        struct mj_job *next = ended->next;
        finish(ended, "had no turn before its timeout: too many requests", MJ_OUTCOME_ERROR, 0);
        ended = next;
    }
}

static void admit(struct mj_http *h, struct mj_job *job)
{
    job->next = NULL;
    if (job->error.len || mj__job_prepare(job)) {
        finish(job, mj_buf_cstr(&job->error), MJ_OUTCOME_REFUSED, 0);
        return;
    }
    MJ_AUTO_BUF name = {0};
    mj_buf_printf(&name, "%.255s:%d", job->host, job->port);
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] >= 'A' && name.ptr[i] <= 'Z')
            name.ptr[i] |= 0x20;
    job->client = mj__http_client(h, job->script);
    job->client->party.jobs++;
    job->client->bytes += job->counted;
    if (job->client->party.jobs > h->cfg.max_waiting / 2 ||
        job->client->bytes > h->cfg.max_bytes / 2) {
        finish(job, "too many requests of the script are waiting", MJ_OUTCOME_REFUSED, 0);
        return;
    }
    job->to = ref_host(h, mj_buf_cstr(&name));
    *h->waiting_last = job;
    h->waiting_last = &job->next;
    if (job->deadline_us < h->next_expiry_us)
        h->next_expiry_us = job->deadline_us;
}

/* What other threads have handed over. True when it is time to stop. */
static bool take_over(struct mj_http *h)
{
    pthread_mutex_lock(&h->lock);
    struct mj_job *jobs = h->incoming;
    struct mj_http_task *tasks = h->tasks;
    bool stopping = h->stopping;
    h->incoming = NULL;
    h->incoming_last = &h->incoming;
    h->tasks = NULL;
    h->tasks_last = &h->tasks;
    pthread_mutex_unlock(&h->lock);
    while (tasks) {
        struct mj_http_task *next = tasks->next;
        tasks->fn(tasks->ctx);
        free(tasks);
        tasks = next;
    }
    while (jobs) {
        struct mj_job *next = jobs->next;
        admit(h, jobs);
        jobs = next;
    }
    return stopping;
}

/* Tells whoever waits for what has ended. True when something has. */
bool mj__http_results(struct mj_http *h)
{
    int ignored;
    bool any = false;
    for (CURLMsg *m; (m = curl_multi_info_read(h->multi, &ignored));) {
        struct mj_job *job = NULL;
        CURLcode code = m->data.result;
        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&job);
        if (job->line)
            mj__line_result(job, code);
        else
            on_result(job, code);
        any = true;
    }
    return any;
}

static void *serve(void *arg)
{
    struct mj_http *h = arg;
    while (!take_over(h)) {
        start_waiting(h);
        int64_t again_us = h->tick ? h->tick(h->tick_ctx) : WAIT_US;
        bool ended = mj__wait_run_due(h);
        expire_waiting(h, mj_mono_us());
        expire_lingering(h, mj_mono_us());
        mj__wait(h, ended ? 0 : again_us);
        mj__http_results(h);
    }
    return NULL;
}

void mj_http_set_poller(struct mj_http *h, const struct mj_http_poller *p) { h->poller = *p; }

void mj_http_set_tick(struct mj_http *h, int64_t (*fn)(void *ctx), void *ctx)
{
    h->tick = fn;
    h->tick_ctx = ctx;
}

/* ---- start and stop ---- */

static void set_defaults(struct mj_http_cfg *c)
{
    if (!c->max_active)
        c->max_active = 256;
    if (!c->max_per_host)
        c->max_per_host = 16;
    if (!c->max_per_script)
        c->max_per_script = 64;
    if (!c->max_waiting)
        c->max_waiting = 20000;
    if (!c->max_bytes)
        c->max_bytes = 256u << 20;
    if (!c->connect_us)
        c->connect_us = 5000000;
    if (!c->linger_us)
        c->linger_us = 20000000;
}

static void destroy(struct mj_http *h)
{
    if (h->multi)
        curl_multi_cleanup(h->multi);
    expire_lingering(h, INT64_MAX);
    for (struct mj_party *p = h->clients, *next; p; p = next) {
        next = p->next;
        mj_reach_free(((struct mj_client *)p)->reach);
        free(p->name);
        free(p);
    }
    curl_slist_free_all(h->connect_to);
    mj__wait_deinit(h);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static void start_curl(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

int mj_http_start(const struct mj_http_cfg *cfg, struct mj_http **out)
{
    static const int64_t bounds[] = {5000,    10000,   25000,   50000,    100000,   250000,  500000,
                                     1000000, 2500000, 5000000, 10000000, 30000000, 60000000};
    pthread_once(&curl_once, start_curl);
    struct mj_http *h = mj_calloc(1, sizeof *h);
    h->cfg = *cfg;
    h->epoll = h->bell = -1;
    set_defaults(&h->cfg);
    pthread_mutex_init(&h->lock, NULL);
    h->incoming_last = &h->incoming;
    h->tasks_last = &h->tasks;
    h->waiting_last = &h->waiting;
    h->lingering_last = &h->lingering;
    h->next_expiry_us = INT64_MAX;
    h->in_flight = mj_metric("moonjet_http_in_flight", MJ_GAUGE, "Requests being made now.", NULL);
    h->queued =
        mj_metric("moonjet_http_waiting", MJ_GAUGE, "Requests that wait for their turn.", NULL);
    h->seconds = mj_histogram("moonjet_http_seconds",
                              "How long requests took, time of waiting for a turn included.",
                              bounds, MJ_COUNT(bounds), NULL);
    h->multi = curl_multi_init();
    bool watched = h->multi && mj__wait_init(h) == 0;
    for (size_t i = 0; cfg->connect_to && cfg->connect_to[i]; i++)
        h->connect_to = curl_slist_append(h->connect_to, cfg->connect_to[i]);
    if (!h->multi || !watched || pthread_create(&h->thread, NULL, serve, h)) {
        mj_log(MJ_LOG_ERROR, "http", "cannot start the net thread");
        destroy(h);
        return MJ_EIO;
    }
    *out = h;
    return 0;
}

void mj_http_stop(struct mj_http *h)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->lock);
    h->stopping = true;
    pthread_mutex_unlock(&h->lock);
    mj_http_wake(h);
    pthread_join(h->thread, NULL);
    bool more;
    do {
        while (h->running) {
            struct mj_job *job = h->running;
            take_back(job);
            finish(job, "Moonjet is stopping", MJ_OUTCOME_ERROR, 0);
        }
        while (h->waiting) {
            struct mj_job *job = h->waiting;
            h->waiting = job->next;
            if (!h->waiting)
                h->waiting_last = &h->waiting;
            finish(job, "Moonjet is stopping", MJ_OUTCOME_ERROR, 0);
        }
        mj__lines_stop(h);
        take_over(h);
        pthread_mutex_lock(&h->lock);
        more = h->waiting || h->incoming || h->tasks; /* answers may lead to further requests */
        pthread_mutex_unlock(&h->lock);
    } while (more);
    destroy(h);
}
