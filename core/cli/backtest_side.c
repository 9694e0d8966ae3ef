/* Scripts over events of the past: a router without a journal, whose ends only note what reaches
 * them. Nodes that would act (each, batch, plug-ins) get a function that does nothing else; tasks
 * are not run. */
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "cli/backtest.h"
#include "event/path.h"
#include "script/script.h"
#include "script/services.h"

#define ERRORS_MAX 100 /* different messages kept; further ones are only counted */
#define HITS_MAX   256 /* outlets one event is followed into */

struct side_error {
    char *text; /* owned */
    uint64_t count;
};

struct mj__side {
    struct mj_streams *streams;
    struct mj_router *router;
    struct mj_scripts *scripts;
    struct mj_services services;
    mj__outcome_fn fn;
    void *ctx;
    bool main_drawn;

    struct mj__outlet outlets[MJ__OUTLETS_MAX];
    size_t outlet_count;
    int main_outlet, print_outlet;     /* -1: none */
    int stream_outlet[MJ_STREAMS_MAX]; /* by bit */

    const struct mj_node *nodes[4096]; /* borrowed */
    const char *node_scripts[4096];    /* borrowed */
    size_t node_count;

    /* The event in progress. */
    const struct mj_event *ev;
    struct mj__hit hits[HITS_MAX];
    size_t hit_count;
    bool reached_main;
    uint64_t main_digest;

    struct side_error errors[ERRORS_MAX];
    size_t error_count;
};

static void on_log(void *ctx, enum mj_log_level level, const char *tag, const char *text)
{
    struct mj__side *s = ctx;
    if (level < MJ_LOG_ERROR || strcmp(tag, "script") != 0)
        return;
    /* The event that was being looked at stands behind the last semicolon: not part of what went
     * wrong. */
    const char *end = strrchr(text, ';');
    size_t n = end ? (size_t)(end - text) : strlen(text);
    /* Neither are strikes, which count up. */
    const char *strikes = memrchr(text, '(', n);
    if (strikes && strikes > text && strikes[-1] == ' ' &&
        memmem(strikes, n - (size_t)(strikes - text), " strike", 7))
        n = (size_t)(strikes - 1 - text);
    for (size_t i = 0; i < s->error_count; i++)
        if (strlen(s->errors[i].text) == n && memcmp(s->errors[i].text, text, n) == 0) {
            s->errors[i].count++;
            return;
        }
    if (s->error_count < ERRORS_MAX)
        s->errors[s->error_count++] = (struct side_error){mj_span_dup(mj_span(text, n)), 1};
}

static int add_outlet(struct mj__side *s, bool main, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int add_outlet(struct mj__side *s, bool main, const char *fmt, ...)
{
    struct mj_buf name = {0};
    va_list ap;
    va_start(ap, fmt);
    mj_buf_vprintf(&name, fmt, ap);
    va_end(ap);
    mj_buf_cstr(&name);
    for (size_t i = 0; i < s->outlet_count; i++)
        if (strcmp(s->outlets[i].name, (char *)name.ptr) == 0) {
            mj_buf_deinit(&name);
            return (int)i;
        }
    if (s->outlet_count == MJ__OUTLETS_MAX) {
        mj_buf_deinit(&name);
        return -1;
    }
    s->outlets[s->outlet_count] = (struct mj__outlet){(char *)name.ptr, main};
    return (int)s->outlet_count++;
}

/* The version of the event: 0 for the one that came. */
static uint64_t digest(const struct mj__side *s, const struct mj_event *ev)
{
    bool same = ev->record.ptr == s->ev->record.ptr && ev->record.len == s->ev->record.len;
    return same ? 0 : mj_hash(ev->record) | 1;
}

static void hit(struct mj__side *s, int outlet, uint64_t version)
{
    if (outlet < 0)
        return;
    for (size_t i = 0; i < s->hit_count; i++)
        if (s->hits[i].outlet == (uint32_t)outlet) {
            s->hits[i].digest += version; /* more than one version: the order does not matter */
            return;
        }
    if (s->hit_count < HITS_MAX)
        s->hits[s->hit_count++] = (struct mj__hit){(uint32_t)outlet, false, version};
}

static void on_output(void *ctx, const struct mj_event *ev, struct mj_span json, uint64_t streams,
                      unsigned prints)
{
    struct mj__side *s = ctx;
    uint64_t version = digest(s, ev);
    (void)json;
    if (streams >> MJ_STREAM_MAIN & 1) {
        s->reached_main = true;
        s->main_digest = version;
    }
    for (uint64_t bits = streams; bits; bits &= bits - 1)
        hit(s, s->stream_outlet[__builtin_ctzll(bits)], version);
    if (prints)
        hit(s, s->print_outlet, version);
}

/* Stands in for what a node would do. Its ref, which nobody reads any more, is the outlet. */
static enum mj_verdict on_node(struct mj_node *n, const struct mj_event *ev)
{
    struct mj__side *s = n->ctx;
    hit(s, n->ref, digest(s, ev));
    return MJ_VERDICT_PASS;
}

/* So that no plug-in is started; its nodes are taken over before an event comes. */
static void on_sunk(void *ctx, const char *plugin, const struct mj_event *ev)
{
    (void)ctx, (void)plugin, (void)ev;
}

static void take_nodes(struct mj__side *s, bool alone)
{
    for (size_t g = 0; g < mj_scripts_count(s->scripts); g++) {
        const struct mj_graph *graph = mj_scripts_graph(s->scripts, g);
        s->main_drawn |= graph->main && graph->main->child_count;
        for (size_t i = 0; i < graph->count; i++) {
            struct mj_node *n = graph->nodes[i];
            if (s->node_count < MJ_COUNT(s->nodes)) {
                s->node_scripts[s->node_count] = graph->script;
                s->nodes[s->node_count++] = n;
            }
            switch (n->type) {
            case MJ_NODE_STREAM:
                s->stream_outlet[n->bit] = add_outlet(s, false, "stream %s", n->stream);
                break;
            case MJ_NODE_PRINT:
                s->print_outlet = add_outlet(s, false, "print");
                break;
            case MJ_NODE_EACH:
            case MJ_NODE_BATCH:
            case MJ_NODE_SINK:
            case MJ_NODE_HOOK:
                n->fn = on_node;
                n->ctx = s;
                n->ref = alone ? add_outlet(s, false, "%s", n->name)
                               : add_outlet(s, false, "%s %s", graph->script, n->name);
                break;
            default:
                break;
            }
        }
    }
    if (s->main_drawn)
        s->main_outlet = add_outlet(s, true, "main");
}

struct mj__side *mj__side_new(const struct mj_strings *scripts, const struct mj_strings *config,
                              size_t memory, struct mj_buf *error)
{
    struct mj__side *s = mj_calloc(1, sizeof *s);
    struct mj_script_cfg cfg = {.memory = memory, .config = config, .made_up_secrets = true};
    s->main_outlet = s->print_outlet = -1;
    for (size_t i = 0; i < MJ_STREAMS_MAX; i++)
        s->stream_outlet[i] = -1;
    s->streams = mj_streams_new(NULL);
    s->router = mj_router_new(NULL);
    mj_router_set_streams(s->router, s->streams);
    mj_router_on_output(s->router, on_output, s);
    mj_router_set_stdout(s->router, false);
    s->scripts = mj_scripts_new(s->router);
    mj_scripts_lenient(s->scripts);
    s->services = (struct mj_services){.ctx = s, .sunk = on_sunk};
    mj_scripts_set_services(s->scripts, &s->services);
    mj_log_capture(on_log, s);
    for (size_t i = 0; i < scripts->n; i++)
        if (mj_scripts_load(s->scripts, scripts->v[i], &cfg, error)) {
            mj__side_free(s);
            return NULL;
        }
    take_nodes(s, scripts->n == 1);
    return s;
}

void mj__side_free(struct mj__side *s)
{
    if (!s)
        return;
    mj_log_capture(NULL, NULL);
    mj_router_free(s->router);
    mj_scripts_free(s->scripts);
    mj_streams_free(s->streams);
    for (size_t i = 0; i < s->outlet_count; i++)
        free(s->outlets[i].name);
    for (size_t i = 0; i < s->error_count; i++)
        free(s->errors[i].text);
    free(s);
}

void mj__side_on_outcome(struct mj__side *s, mj__outcome_fn fn, void *ctx)
{
    s->fn = fn;
    s->ctx = ctx;
}

bool mj__side_wants(void *side, const struct mj_event *like)
{
    const struct mj__side *s = side;
    if (s->main_drawn)
        return true;
    for (size_t i = 0; i < s->node_count; i++)
        if (s->nodes[i]->type == MJ_NODE_FROM && s->nodes[i]->match &&
            mj_match_may(s->nodes[i]->match, like))
            return true;
    return false;
}

/* The first words of the record's text, whatever strangers wrote into it. */
static struct mj_span text_of(const struct mj_event *ev)
{
    struct mj_span value, text = {0};
    struct mj_cbor_head head;
    if (ev->record.len && mj_cbor_map_get(ev->record, MJ_SPAN("text"), &value) == 0) {
        struct mj_cbor c = mj_cbor(value);
        if (mj_cbor_next(&c, &head) == 0 && head.type == MJ_CBOR_TEXT)
            text = head.s;
    }
    return text;
}

static void tell(struct mj__side *s, uint64_t ordinal)
{
    const struct mj_event *ev = s->ev;
    MJ_AUTO_BUF uri = {0};
    if (ev->kind == MJ_KIND_COMMIT) {
        mj_buf_puts(&uri, "at://");
        mj_buf_put(&uri, ev->did.ptr, ev->did.len);
        mj_buf_putc(&uri, '/');
        mj_buf_put(&uri, ev->collection.ptr, ev->collection.len);
        mj_buf_putc(&uri, '/');
        mj_buf_put(&uri, ev->rkey.ptr, ev->rkey.len);
        if (ev->op != MJ_OP_CREATE)
            mj_buf_printf(&uri, " %s", mj_op_name(ev->op));
    } else {
        mj_buf_printf(&uri, "#%s ", mj_kind_name(ev->kind));
        mj_buf_put(&uri, ev->did.ptr, ev->did.len);
    }
    struct mj__outcome o = {.ordinal = ordinal,
                            .uri = mj_buf_span(&uri),
                            .text = text_of(ev),
                            .hits = s->hits,
                            .count = s->hit_count};
    s->fn(s->ctx, &o);
}

void mj__side_event(void *side, uint64_t ordinal, struct mj_event *ev)
{
    struct mj__side *s = side;
    s->ev = ev;
    s->hit_count = 0;
    s->reached_main = false;
    /* Scripts, their state and the router see the time when it happened. */
    mj_clock_freeze(ev->time_us);
    mj_router_event(s->router, ev);
    if (s->main_drawn && (!s->reached_main || s->main_digest) && s->hit_count < HITS_MAX)
        s->hits[s->hit_count++] = (struct mj__hit){(uint32_t)s->main_outlet, !s->reached_main,
                                                   s->reached_main ? s->main_digest : 0};
    if (s->hit_count)
        tell(s, ordinal);
}

void mj__side_tick(struct mj__side *s) { mj_scripts_tend(s->scripts); }

size_t mj__side_outlets(const struct mj__side *s) { return s->outlet_count; }

const struct mj__outlet *mj__side_outlet(const struct mj__side *s, size_t i)
{
    return &s->outlets[i];
}

size_t mj__side_nodes(const struct mj__side *s) { return s->node_count; }

struct mj__node_figures mj__side_node(const struct mj__side *s, size_t i)
{
    const struct mj_node *n = s->nodes[i];
    return (struct mj__node_figures){
        .script = s->node_scripts[i],
        .node = n->name,
        .file = n->file,
        .line = n->line,
        .in = mj_metric_get(n->in),
        .passed = mj_metric_get(n->passed),
        .dropped = mj_metric_get(n->dropped),
        .errors = mj_metric_get(n->errors),
        .ns = mj_metric_get(n->ns),
    };
}

size_t mj__side_errors(const struct mj__side *s) { return s->error_count; }

const char *mj__side_error(const struct mj__side *s, size_t i, uint64_t *count)
{
    *count = s->errors[i].count;
    return s->errors[i].text;
}
