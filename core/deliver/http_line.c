/* Lines: requests to one address, again and again, on handles that are kept. */
#include "base/clock.h"
#include "base/err.h"
#include "deliver/internal.h"

#define KEPT_BYTES ((size_t)128 << 10) /* of an answer's room, with an idle handle */

static struct mj_job *job_new(struct mj_http_line *line, const char *script, const char *url)
{
    struct mj_job *job = mj_calloc(1, sizeof *job);
    job->http = line->http;
    job->line = line;
    job->script = mj_strdup(script);
    job->method = mj_strdup("POST");
    job->url = mj_strdup(url);
    job->timeout_us = line->timeout_us;
    return job;
}

int mj_http_line_new(struct mj_http *h, const struct mj_http_line_cfg *cfg,
                     struct mj_http_line **out, struct mj_buf *error)
{
    struct mj_http_line *line = mj_calloc(1, sizeof *line);
    *line = (struct mj_http_line){
        .http = h,
        .allow = cfg->allow,
        .only_allowed = cfg->only_allowed,
        .timeout_us = cfg->timeout_us > 1000 ? cfg->timeout_us : 1000,
        .keep = cfg->keep,
    };
    line->first = job_new(line, cfg->script, cfg->url);
    mj_buf_put(&line->first->request_headers, cfg->headers.ptr, cfg->headers.len);
    int err = mj__job_prepare(line->first);
    if (err) {
        mj_buf_put(error, line->first->error.ptr, line->first->error.len);
        mj_http_line_free(line);
        return MJ_EINVAL;
    }
    *out = line;
    return 0;
}

const char *mj_http_line_origin(const struct mj_http_line *line) { return line->first->origin; }

static void free_jobs(struct mj_job *job)
{
    while (job) {
        struct mj_job *next = job->next;
        job->client = NULL; /* lines are in nobody's counts */
        mj__job_free(job);
        job = next;
    }
}

void mj_http_line_free(struct mj_http_line *line)
{
    if (!line)
        return;
    if (line->known) {
        struct mj_http_line **at = &line->http->lines;
        while (*at != line)
            at = &(*at)->next;
        *at = line->next;
    }
    free_jobs(line->idle);
    free_jobs(line->first);
    mj_reach_free(line->allow);
    free(line);
}

/* A handle that is free, or a new one. */
static struct mj_job *take_job(struct mj_http_line *line)
{
    struct mj_job *job = line->idle;
    if (job) {
        line->idle = job->next;
        line->idle_count--;
        return job;
    }
    const struct mj_job *first = line->first;
    job = job_new(line, first->script, first->url);
    job->origin = mj_strdup(first->origin);
    job->host = mj_strdup(first->host);
    job->port = first->port;
    return job;
}

static void put_back(struct mj_job *job)
{
    struct mj_http_line *line = job->line;
    job->headers.len = job->body.len = job->error.len = 0;
    if (job->body.cap > KEPT_BYTES)
        mj_buf_deinit(&job->body);
    if (line->idle_count >= line->keep) {
        job->next = NULL;
        free_jobs(job);
        return;
    }
    job->next = line->idle;
    line->idle = job;
    line->idle_count++;
}

/* Tells whoever asked. The job is free again when it does, so that the next request can have it;
 * what it holds stays as it is until then. */
static void finish(struct mj_job *job, const char *error, enum mj_outcome outcome, int status)
{
    MJ_AUTO_BUF text = {0};
    if (error)
        mj_buf_printf(&text, "%s: %s", job->origin, error);
    struct mj_fetched a = {.error = error ? mj_buf_cstr(&text) : NULL,
                           .status = status,
                           .headers = mj_buf_span(&job->headers),
                           .body = mj_buf_span(&job->body),
                           .cut = job->cut,
                           .unsent = job->refused};
    mj_metric_add(job->client->outcomes[outcome], 1);
    if (outcome != MJ_OUTCOME_REFUSED)
        mj_histogram_observe(job->http->seconds, mj_mono_us() - job->start_us);
    job->done(job->ctx, &a);
    put_back(job);
}

static void take_back(struct mj_job *job)
{
    struct mj_job **at = &job->line->running;
    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    curl_multi_remove_handle(job->http->multi, job->easy);
}

void mj__line_result(struct mj_job *job, CURLcode code)
{
    long status = 0;
    const char *error = mj__job_result(job, code);
    curl_easy_getinfo(job->easy, CURLINFO_RESPONSE_CODE, &status);
    if (!error && (status < 200 || status > 599)) {
        error = "the answer's status is none";
        status = 0;
    }
    take_back(job);
    enum mj_outcome outcome = job->refused ? MJ_OUTCOME_REFUSED : MJ_OUTCOME_ERROR;
    if (!error)
        outcome = (enum mj_outcome)(status / 100 - 2);
    finish(job, error, outcome, error ? 0 : (int)status);
}

static void fail_soon(void *ctx) { finish(ctx, "out of memory", MJ_OUTCOME_ERROR, 0); }

void mj_http_line_post(struct mj_http_line *line, struct mj_span headers, struct mj_span body,
                       size_t max_bytes, mj_http_done_fn done, void *ctx)
{
    struct mj_http *h = line->http;
    struct mj_job *job = take_job(line);
    job->max_bytes = max_bytes;
    if (!line->known) {
        line->known = true;
        line->next = h->lines;
        h->lines = line;
    }
    job->client = mj__http_client(h, job->script);
    job->done = done;
    job->ctx = ctx;
    job->start_us = mj_mono_us();
    job->deadline_us = job->start_us + line->timeout_us;
    job->refused = job->cut = job->too_many_headers = false;
    job->lines = 0;
    *job->curl_error = 0;
    bool is_new = !job->easy;
    if (mj__job_headers(job, headers) || (is_new && mj__job_start(job))) {
        mj_http_run(h, fail_soon, job);
        return;
    }
    curl_easy_setopt(job->easy, CURLOPT_HTTPHEADER, job->header_list);
    curl_easy_setopt(job->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
    curl_easy_setopt(job->easy, CURLOPT_POSTFIELDS, body.len ? (const char *)body.ptr : "");
    if (curl_multi_add_handle(h->multi, job->easy)) {
        mj_http_run(h, fail_soon, job);
        return;
    }
    job->next = line->running;
    line->running = job;
}

void mj__lines_stop(struct mj_http *h)
{
    while (h->lines) {
        struct mj_http_line *line = h->lines;
        while (line->running) {
            struct mj_job *job = line->running;
            take_back(job);
            finish(job, "Moonjet is stopping", MJ_OUTCOME_ERROR, 0);
        }
        /* Their handles must go before libcurl's common one does. */
        free_jobs(line->idle);
        line->idle = NULL;
        line->idle_count = 0;
        h->lines = line->next;
        line->known = false;
    }
}
