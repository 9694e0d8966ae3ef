#include "script/bed.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/route.h"
#include "script/guard.h"
#include "script/reload.h"
#include "state/store.h"

#define SLICE_US                                                                                   \
    INT64_C(20000) /* real time of the script's tasks between two looks at the clock               \
                    */
#define STOP_US INT64_C(5000000)

/* An event that went to a plug-in, which does not run here. */
struct sunk {
    char *plugin;          /* owned */
    struct mj_kept *event; /* one reference */
    bool taken;
};

struct mj_bed {
    struct mj_streams *streams; /* owned, like all of these */
    struct mj_router *router;
    struct mj_scripts *scripts;
    char *name, *path;
    /* What it was loaded with, for when it is loaded again; the texts are owned. */
    struct mj_script_cfg cfg;
    struct mj_strings config, secrets;
    struct mj_services services;
    int64_t now, seq;

    struct mj_output *outputs; /* owned array, from the first one on */
    size_t count, cap, bytes;
    size_t taken[MJ_STREAMS_MAX + 1]; /* per bit, and one for prints: outputs looked at */
    bool full;

    struct mj_ask **asks; /* owned array of owned ones, in the order they came */
    size_t asked, asks_cap;
    size_t told, shown; /* how many were taken to be answered, and how many were shown */
    struct mj_answer answer;
    char **routes; /* owned array of owned ones: the script's, as in jet.serve */
    size_t route_count;

    struct sunk *sunk;                      /* owned array */
    size_t sunk_count, sunk_cap, sunk_from; /* before it, all are taken */

    struct mj_bed_post *posts;                /* owned array */
    size_t post_count, posts_cap, posts_from; /* the same */

    struct mj_logged *logs; /* owned array */
    size_t logged, logs_cap;
    size_t logs_taken[2]; /* lines, errors: looked at */
};

/* The script's functions log what goes wrong under "script", and what they say themselves under
 * the script's own name. Anything else is the program's, and of no use here: that state is not kept
 * on disk, or that a quarantine is over. */
static void on_log(void *ctx, enum mj_log_level level, const char *tag, const char *text)
{
    struct mj_bed *bed = ctx;
    bool error = level == MJ_LOG_ERROR && strcmp(tag, "script") == 0;
    if (bed->logged == MJ_BED_LOGS_MAX || (!error && strcmp(tag, bed->name) != 0))
        return;
    if (bed->logged == bed->logs_cap) {
        bed->logs_cap = bed->logs_cap ? 2 * bed->logs_cap : 16;
        bed->logs = mj_realloc(bed->logs, bed->logs_cap * sizeof *bed->logs);
    }
    bed->logs[bed->logged++] = (struct mj_logged){
        .level = level,
        .error = error,
        .text = mj_strdup(text),
    };
}

static void enter(struct mj_bed *bed)
{
    mj_clock_freeze(bed->now);
    mj_log_capture(on_log, bed);
}

static void leave(void)
{
    mj_clock_freeze(-1);
    mj_log_capture(NULL, NULL);
}

static void on_output(void *ctx, const struct mj_event *ev, struct mj_span json, uint64_t streams,
                      unsigned prints)
{
    struct mj_bed *bed = ctx;
    (void)json;
    if (bed->bytes > MJ_BED_OUTPUT_MAX) {
        bed->full = true;
        return;
    }
    if (bed->count == bed->cap) {
        bed->cap = bed->cap ? 2 * bed->cap : 64;
        bed->outputs = mj_realloc(bed->outputs, bed->cap * sizeof *bed->outputs);
    }
    struct mj_kept *event = mj_kept_new(ev);
    bed->bytes += mj_kept_size(event) + sizeof *bed->outputs;
    bed->outputs[bed->count++] = (struct mj_output){event, streams, prints};
}

static void on_sunk(void *ctx, const char *plugin, const struct mj_event *ev)
{
    struct mj_bed *bed = ctx;
    if (bed->bytes > MJ_BED_OUTPUT_MAX) {
        bed->full = true;
        return;
    }
    if (bed->sunk_count == bed->sunk_cap) {
        bed->sunk_cap = bed->sunk_cap ? 2 * bed->sunk_cap : 64;
        bed->sunk = mj_realloc(bed->sunk, bed->sunk_cap * sizeof *bed->sunk);
    }
    struct mj_kept *event = mj_kept_new(ev);
    bed->bytes += mj_kept_size(event) + sizeof *bed->sunk;
    bed->sunk[bed->sunk_count++] = (struct sunk){mj_strdup(plugin), event, false};
}

static void on_posted(void *ctx, const struct mj_posted *p)
{
    struct mj_bed *bed = ctx;
    if (bed->bytes > MJ_BED_OUTPUT_MAX) {
        bed->full = true;
        return;
    }
    if (bed->post_count == bed->posts_cap) {
        bed->posts_cap = bed->posts_cap ? 2 * bed->posts_cap : 16;
        bed->posts = mj_realloc(bed->posts, bed->posts_cap * sizeof *bed->posts);
    }
    struct mj_bed_post *post = &bed->posts[bed->post_count++];
    *post = (struct mj_bed_post){.node = mj_strdup(p->node),
                                 .url = mj_strdup(p->url),
                                 .id = mj_strdup(p->id),
                                 .events = p->events};
    mj_buf_put(&post->type, p->type.ptr, p->type.len);
    mj_buf_put(&post->body, p->body.ptr, p->body.len);
    bed->bytes += p->body.len + sizeof *post;
}

/* The label by which metrics of a script are told from those of others. */
static void script_label(const char *name, char *out, size_t cap)
{
    char value[256];
    mj_metric_label(mj_str(name), value, sizeof value);
    snprintf(out, cap, "script=\"%s\"", value);
}

/* ---- what the script asks for ---- */

/* Where the next one is noted; NULL when there are too many, and then nobody will answer. */
static struct mj_ask *new_ask(struct mj_bed *bed, uint64_t ticket)
{
    if (bed->asked == MJ_BED_ASKS_MAX)
        return NULL;
    if (bed->asked == bed->asks_cap) {
        bed->asks_cap = bed->asks_cap ? 2 * bed->asks_cap : 16;
        bed->asks = mj_realloc(bed->asks, bed->asks_cap * sizeof *bed->asks);
    }
    struct mj_ask *ask = mj_calloc(1, sizeof *ask);
    ask->ticket = ticket;
    return bed->asks[bed->asked++] = ask;
}

static void put_span(struct mj_buf *out, struct mj_span s) { mj_buf_put(out, s.ptr, s.len); }

static void on_fetch(void *ctx, uint64_t ticket, const struct mj_fetch *request)
{
    struct mj_ask *ask = new_ask(ctx, ticket);
    if (!ask)
        return;
    ask->timeout_us = request->timeout_us;
    ask->max_bytes = request->max_bytes;
    put_span(&ask->method, request->method);
    put_span(&ask->what, request->url);
    put_span(&ask->headers, request->headers);
    put_span(&ask->body, request->body);
}

static void on_resolve(void *ctx, uint64_t ticket, struct mj_span who, enum mj_resolve how)
{
    (void)how;
    struct mj_ask *ask = new_ask(ctx, ticket);
    if (!ask)
        return;
    ask->resolve = true;
    put_span(&ask->what, who);
}

const struct mj_ask *mj_bed_ask(struct mj_bed *bed)
{
    return bed->told < bed->asked ? bed->asks[bed->told++] : NULL;
}

const struct mj_ask *mj_bed_request(struct mj_bed *bed)
{
    while (bed->shown < bed->asked) {
        const struct mj_ask *ask = bed->asks[bed->shown++];
        if (!ask->resolve)
            return ask;
    }
    return NULL;
}

void mj_bed_fetched(struct mj_bed *bed, const struct mj_ask *ask, const struct mj_fetched *answer)
{
    enter(bed);
    mj_scripts_fetched(bed->scripts, ask->ticket, answer);
    leave();
}

void mj_bed_resolved(struct mj_bed *bed, const struct mj_ask *ask, const struct mj_identity *answer)
{
    enter(bed);
    mj_scripts_resolved(bed->scripts, ask->ticket, answer);
    leave();
}

/* As the server sends it: these have no body. */
static void on_answer(void *ctx, int status, struct mj_span headers, struct mj_span body)
{
    struct mj_answer *a = ctx;
    a->done = true;
    a->status = status;
    put_span(&a->headers, headers);
    if (!a->head_only && status != 204 && status != 304)
        put_span(&a->body, body);
}

static void free_routes(struct mj_bed *bed)
{
    for (size_t i = 0; i < bed->route_count; i++)
        free(bed->routes[i]);
    free(bed->routes);
}

static void on_routes(void *ctx, const char *const *routes, size_t n)
{
    struct mj_bed *bed = ctx;
    free_routes(bed);
    bed->routes = mj_calloc(n + 1, sizeof *bed->routes);
    bed->route_count = n;
    for (size_t i = 0; i < n; i++)
        bed->routes[i] = mj_strdup(routes[i]);
}

/* What the server answers without asking the script (server/endpoints.c): preflights, and methods
 * that a path does not have. */
static bool answer_for_it(struct mj_bed *bed, const struct mj_route_request *request)
{
    MJ_AUTO_BUF allow = {0};
    MJ_AUTO_BUF headers = {0};
    struct mj_route_look look = {.method = request->method, .path = request->path, .allow = &allow};
    for (size_t i = 0; i < bed->route_count; i++) {
        struct mj_route route;
        if (!mj_route_parse(mj_str(bed->routes[i]), &route, NULL))
            mj_route_look_at(&look, &route);
    }
    if (mj_span_is(request->method, "OPTIONS")) {
        mj_buf_puts(&allow, ", OPTIONS");
        mj_buf_printf(&headers,
                      "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: %s\r\n%s",
                      look.known ? mj_buf_cstr(&allow) + 2 : "GET,HEAD,OPTIONS",
                      look.known ? "Access-Control-Allow-Headers: *, Authorization\r\n" : "");
        on_answer(&bed->answer, 204, mj_buf_span(&headers), MJ_SPAN(""));
    } else if (look.known && !look.fit) {
        mj_buf_printf(&headers,
                      "Content-Type: application/json; charset=UTF-8\r\nAllow: OPTIONS%s\r\n",
                      mj_buf_cstr(&allow));
        on_answer(&bed->answer, 405, mj_buf_span(&headers),
                  MJ_SPAN("{\"message\":\"Method Not Allowed\"}"));
    }
    return bed->answer.done;
}

const struct mj_answer *mj_bed_serve(struct mj_bed *bed, const struct mj_route_request *request)
{
    struct mj_route_request given = *request;
    bed->answer.pending = true;
    bed->answer.done = false;
    bed->answer.headers.len = bed->answer.body.len = 0;
    bed->answer.head_only = mj_span_is(request->method, "HEAD");
    if (bed->answer.head_only)
        given.method = MJ_SPAN("GET");
    if (answer_for_it(bed, request))
        return &bed->answer;
    enter(bed);
    mj_scripts_serve(bed->scripts, &given, on_answer, &bed->answer);
    leave();
    return &bed->answer;
}

static void free_asks(struct mj_bed *bed)
{
    for (size_t i = 0; i < bed->asked; i++) {
        struct mj_ask *ask = bed->asks[i];
        mj_buf_deinit(&ask->method);
        mj_buf_deinit(&ask->what);
        mj_buf_deinit(&ask->headers);
        mj_buf_deinit(&ask->body);
        free(ask);
    }
    free(bed->asks);
    mj_buf_deinit(&bed->answer.headers);
    mj_buf_deinit(&bed->answer.body);
}

/* ---- the bed ---- */

static void copy_strings(struct mj_strings *to, const struct mj_strings *from)
{
    for (size_t i = 0; from && i < from->n; i++)
        to->v[to->n++] = mj_strdup(from->v[i]);
}

static void free_strings(struct mj_strings *s)
{
    for (size_t i = 0; i < s->n; i++)
        free((char *)s->v[i]);
}

static int64_t bed_now(void *ctx) { return ((struct mj_bed *)ctx)->now; }

struct mj_bed *mj_bed_new(const char *path, const char *name, const struct mj_script_cfg *cfg,
                          bool strict, struct mj_buf *error)
{
    struct mj_bed *bed = mj_calloc(1, sizeof *bed);
    char label[300];
    bed->now = MJ_BED_START_US;
    script_label(name, label, sizeof label);
    mj_metrics_zero(label);
    bed->name = mj_strdup(name);
    bed->path = mj_strdup(path);
    if (cfg) {
        copy_strings(&bed->config, cfg->config);
        copy_strings(&bed->secrets, cfg->secret_values);
        bed->cfg.config_lua = cfg->config_lua ? mj_strdup(cfg->config_lua) : NULL;
        bed->cfg.config = cfg->config ? &bed->config : NULL;
        bed->cfg.secret_values = cfg->secret_values ? &bed->secrets : NULL;
    }
    bed->streams = mj_streams_new(NULL);
    bed->router = mj_router_new(NULL);
    mj_router_set_streams(bed->router, bed->streams);
    mj_router_on_output(bed->router, on_output, bed);
    mj_router_set_stdout(bed->router, false);
    mj_router_set_clock(bed->router, bed_now, bed);
    bed->scripts = mj_scripts_new(bed->router);
    bed->services = (struct mj_services){.ctx = bed,
                                         .now_us = bed_now,
                                         .fetch = on_fetch,
                                         .resolve = on_resolve,
                                         .routes = on_routes,
                                         .sunk = on_sunk,
                                         .posted = on_posted};
    mj_scripts_set_services(bed->scripts, &bed->services);
    if (strict)
        mj_scripts_strict(bed->scripts);
    enter(bed);
    int err = mj_scripts_load(bed->scripts, path, &bed->cfg, error);
    leave();
    if (!err)
        return bed;
    mj_bed_free(bed);
    return NULL;
}

void mj_bed_free(struct mj_bed *bed)
{
    if (!bed)
        return;
    enter(bed);
    mj_router_free(bed->router);
    mj_scripts_free(bed->scripts);
    leave();
    mj_streams_free(bed->streams);
    for (size_t i = 0; i < bed->count; i++)
        mj_kept_unref(bed->outputs[i].event);
    for (size_t i = 0; i < bed->logged; i++)
        free(bed->logs[i].text);
    for (size_t i = 0; i < bed->sunk_count; i++) {
        mj_kept_unref(bed->sunk[i].event);
        free(bed->sunk[i].plugin);
    }
    free(bed->sunk);
    for (size_t i = 0; i < bed->post_count; i++) {
        struct mj_bed_post *p = &bed->posts[i];
        free(p->node);
        free(p->url);
        free(p->id);
        mj_buf_deinit(&p->type);
        mj_buf_deinit(&p->body);
    }
    free(bed->posts);
    free_asks(bed);
    free(bed->outputs);
    free(bed->logs);
    free(bed->name);
    free(bed->path);
    free((char *)bed->cfg.config_lua);
    free_routes(bed);
    free_strings(&bed->config);
    free_strings(&bed->secrets);
    free(bed);
}

struct mj_scripts *mj_bed_scripts(struct mj_bed *bed) { return bed->scripts; }
struct mj_sets *mj_bed_sets(struct mj_bed *bed)
{
    return mj_store_sets(mj_scripts_store(bed->scripts));
}

int64_t mj_bed_now(const struct mj_bed *bed) { return bed->now; }
int64_t mj_bed_seq(struct mj_bed *bed) { return ++bed->seq; }

int mj_bed_run(struct mj_bed *bed, int64_t until, int64_t patience_us)
{
    int64_t end_ns = mj_guard_now() + 1000 * patience_us;
    for (;;) {
        enter(bed);
        int64_t next = mj_scripts_run(bed->scripts, SLICE_US);
        leave();
        if (bed->told < bed->asked)
            return 1;
        if (bed->answer.pending && bed->answer.done) {
            bed->answer.pending = false;
            return 0;
        }
        if (next != 0 && (next < 0 || bed->now + next > until))
            break;
        if (mj_guard_now() > end_ns)
            return MJ_ELIMIT;
        bed->now += next;
    }
    if (bed->now < until)
        bed->now = until;
    return 0;
}

int mj_bed_reload(struct mj_bed *bed, struct mj_buf *report)
{
    struct mj_script_spec spec = {.path = bed->path, .cfg = &bed->cfg};
    struct mj_reload result = {0};
    enter(bed);
    int err = mj_scripts_reload(bed->scripts, &spec, 1, true, &result, report);
    leave();
    return err;
}

bool mj_bed_stop(struct mj_bed *bed)
{
    enter(bed);
    bool done = mj_scripts_stop(bed->scripts, STOP_US);
    leave();
    return done;
}

int mj_bed_send(struct mj_bed *bed, struct mj_event *ev)
{
    enter(bed);
    int err = mj_router_event(bed->router, ev);
    if (!err)
        err = mj_router_flush(bed->router, -1, 0);
    leave();
    return bed->full ? MJ_ELIMIT : err;
}

static int bit_of(const struct mj_bed *bed, const char *stream)
{
    return stream ? mj_streams_find(bed->streams, mj_str(stream)) : MJ_STREAMS_MAX;
}

bool mj_bed_has_stream(const struct mj_bed *bed, const char *stream)
{
    return bit_of(bed, stream) >= 0;
}

const char *mj_bed_stream(const struct mj_bed *bed, size_t i)
{
    return i < mj_streams_count(bed->streams) ? mj_streams_name(bed->streams, i) : NULL;
}

const struct mj_output *mj_bed_take(struct mj_bed *bed, const char *stream)
{
    int bit = bit_of(bed, stream);
    if (bit < 0)
        return NULL;
    for (size_t *at = &bed->taken[bit]; *at < bed->count;) {
        const struct mj_output *o = &bed->outputs[(*at)++];
        if (stream ? o->streams >> bit & 1 : o->prints)
            return o;
    }
    return NULL;
}

bool mj_bed_has_webhook(const struct mj_bed *b, const char *node)
{
    for (size_t i = 0; i < mj_scripts_count(b->scripts); i++) {
        const struct mj_graph *g = mj_scripts_graph(b->scripts, i);
        for (size_t k = 0; k < g->count; k++)
            if (g->nodes[k]->reader_kind == MJ_READER_WEBHOOK && !strcmp(g->nodes[k]->name, node))
                return true;
    }
    return false;
}

const struct mj_bed_post *mj_bed_posted(struct mj_bed *bed, const char *node)
{
    while (bed->posts_from < bed->post_count && bed->posts[bed->posts_from].taken)
        bed->posts_from++;
    for (size_t i = bed->posts_from; i < bed->post_count; i++) {
        struct mj_bed_post *p = &bed->posts[i];
        if (p->taken || (node && strcmp(p->node, node) != 0))
            continue;
        p->taken = true;
        return p;
    }
    return NULL;
}

const struct mj_event *mj_bed_sunk(struct mj_bed *bed, const char *plugin)
{
    while (bed->sunk_from < bed->sunk_count && bed->sunk[bed->sunk_from].taken)
        bed->sunk_from++;
    for (size_t i = bed->sunk_from; i < bed->sunk_count; i++) {
        struct sunk *s = &bed->sunk[i];
        if (!s->taken && strcmp(s->plugin, plugin) == 0) {
            s->taken = true;
            return &s->event->ev;
        }
    }
    return NULL;
}

const struct mj_logged *mj_bed_log(struct mj_bed *bed, bool error)
{
    for (size_t *at = &bed->logs_taken[error]; *at < bed->logged;) {
        const struct mj_logged *l = &bed->logs[(*at)++];
        if (l->error == error)
            return l;
    }
    return NULL;
}

/* Whether the series' labels hold each of those wanted. Values may hold commas, so this looks for
 * whole `name="value"` texts, one after the other. */
static bool has_labels(struct mj_span labels, const char *wanted)
{
    while (wanted && *wanted) {
        const char *end = strstr(wanted, "\",");
        size_t len = end ? (size_t)(end + 1 - wanted) : strlen(wanted);
        const uint8_t *at = labels.len ? memmem(labels.ptr, labels.len, wanted, len) : NULL;
        while (at && at > labels.ptr && at[-1] != ',') {
            size_t left = labels.len - (size_t)(at + 1 - labels.ptr);
            at = memmem(at + 1, left, wanted, len);
        }
        if (!at)
            return false;
        wanted += len + (end != NULL);
        wanted += strspn(wanted, " ");
    }
    return true;
}

double mj_bed_metric(struct mj_bed *bed, const char *name, const char *labels)
{
    MJ_AUTO_BUF text = {0};
    char mine[300];
    double sum = 0;
    size_t len = strlen(name);
    enter(bed);
    mj_metrics_render(&text);
    leave();
    script_label(bed->name, mine, sizeof mine);
    for (const char *line = mj_buf_cstr(&text), *next; *line; line = next) {
        const char *end = strchr(line, '\n');
        next = end + 1;
        if (strncmp(line, name, len) != 0 || (line[len] != '{' && line[len] != ' '))
            continue;
        /* The value stands behind the last space: labels may hold any text but line ends. */
        const char *value = memrchr(line, ' ', (size_t)(end - line));
        struct mj_span own = mj_span(NULL, 0);
        if (line[len] == '{')
            own = mj_span(line + len + 1, (size_t)(value - 1 - (line + len + 1)));
        if (!has_labels(own, labels))
            continue;
        if (own.len && memmem(own.ptr, own.len, "script=\"", 8) && !has_labels(own, mine))
            continue;
        sum += strtod(value, NULL);
    }
    return sum;
}
