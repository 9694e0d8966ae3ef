#include "flow/router.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "event/jetstream.h"
#include "match/decision.h"

#define OPS_COLLECTIONS 500 /* the first so many have series of their own, the rest shares one */

/* One version of the event on its way out. */
struct output {
    const struct mj_event *ev; /* borrowed: the event as it came, or a map node's */
    uint64_t streams;
    unsigned prints; /* how many print nodes want it */
};

struct mj_router {
    struct mj_journal *journal; /* borrowed, may be NULL */
    struct mj_streams *streams; /* borrowed, may be NULL */
    struct mj_decoder *decoder;
    struct mj_buf json;

    struct mj_graph **graphs; /* owned array of borrowed graphs, in load order */
    size_t graph_count;
    struct mj_node **flows; /* owned array of borrowed roots; the index is the decision's bit */
    struct mj_decision *decision;
    uint64_t *code;     /* owned bitmap: flows that run the user's code */
    bool main_is_drawn; /* some script works on main … */
    bool main_runs_code;

    struct output *outputs; /* owned, reused per event */
    size_t output_count, output_cap;
    bool printed;

    struct mj_metric *frames[MJ_FRAME_TYPE_COUNT];
    struct mj_metric *events;
    struct mj_metric
        *ops[OPS_COLLECTIONS + 1][MJ_OP_DELETE + 1]; /* by collection id, 0: the rest */
    struct mj_metric *drops[MJ_ERR_MAX];
    struct mj_log_gate drop_gate;
};

/* Metrics of this room have one writer, the router's thread, so no locked instruction is needed. */
static void bump(struct mj_metric *m, int64_t n) { mj_metric_set(m, mj_metric_get(m) + n); }

static void count_drop(struct mj_router *r, int reason, const char *what)
{
    unsigned i = reason < 0 && -reason < MJ_ERR_MAX ? (unsigned)-reason : 0;
    if (!r->drops[i])
        r->drops[i] = mj_metric("moonjet_drops_total", MJ_COUNTER,
                                "Frames and operations dropped, by reason.", "reason=\"%s\"",
                                mj_errlabel(reason));
    mj_metric_add(r->drops[i], 1);
    mj_log_limited(&r->drop_gate, 5, MJ_LOG_DEBUG, "router", "dropped %s: %s", what,
                   mj_strerror(reason));
}

static void on_drop(void *ctx, int reason, struct mj_span path)
{
    (void)path;
    count_drop(ctx, reason, "operation");
}

struct mj_router *mj_router_new(struct mj_journal *journal)
{
    static const char *const names[] = {"unknown", "commit", "sync", "identity",
                                        "account", "info",   "error"};
    struct mj_router *r = mj_calloc(1, sizeof *r);
    r->journal = journal;
    r->decoder = mj_decoder_new();
    r->decision = mj_decision_new();
    mj_decoder_on_drop(r->decoder, on_drop, r);
    for (int i = 0; i < MJ_FRAME_TYPE_COUNT; i++)
        r->frames[i] = mj_metric("moonjet_frames_total", MJ_COUNTER,
                                 "Firehose frames received, by type.", "type=\"%s\"", names[i]);
    r->events = mj_metric("moonjet_events_total", MJ_COUNTER, "Events decoded.", NULL);
    return r;
}

void mj_router_free(struct mj_router *r)
{
    if (!r)
        return;
    mj_decoder_free(r->decoder);
    mj_decision_free(r->decision);
    mj_buf_deinit(&r->json);
    free(r->graphs);
    free(r->flows);
    free(r->code);
    free(r->outputs);
    free(r);
}

void mj_router_set_streams(struct mj_router *r, struct mj_streams *streams)
{
    r->streams = streams;
}

int mj_router_add(struct mj_router *r, struct mj_graph *graph, struct mj_buf *error)
{
    for (size_t i = 0; i < graph->count; i++) {
        struct mj_node *n = graph->nodes[i];
        if (!n->stream)
            continue;
        n->bit = r->streams ? mj_streams_add(r->streams, mj_str(n->stream)) : MJ_EINVAL;
        if (n->bit < 0) {
            mj_buf_printf(error, "%s:%u: stream '%s': %s", n->file, n->line, n->stream,
                          n->bit == MJ_ELIMIT ? "too many streams" : mj_strerror(n->bit));
            return n->bit;
        }
    }
    r->graphs = mj_realloc(r->graphs, (r->graph_count + 1) * sizeof graph);
    r->graphs[r->graph_count++] = graph;
    for (size_t i = 0; i < graph->count; i++) {
        struct mj_node *n = graph->nodes[i];
        if (n->type != MJ_NODE_FROM)
            continue;
        size_t bit = mj_decision_add(r->decision, n->match);
        r->flows = mj_realloc(r->flows, (bit + 1) * sizeof n);
        r->flows[bit] = n;
        r->code = mj_realloc(r->code, (bit / 64 + 1) * sizeof *r->code);
        if (bit % 64 == 0)
            r->code[bit / 64] = 0;
        r->code[bit / 64] |= (uint64_t)mj_node_runs_code(n) << (bit % 64);
    }
    if (graph->main && graph->main->child_count) {
        r->main_is_drawn = true;
        r->main_runs_code |= mj_node_runs_code(graph->main);
    }
    mj_graph_ready(graph);
    return 0;
}

/* Two flows that did not edit the event, or share the same edit, share one output. */
static struct output *output_of(struct mj_router *r, const struct mj_event *ev)
{
    for (size_t i = 0; i < r->output_count; i++)
        if (r->outputs[i].ev == ev)
            return &r->outputs[i];
    if (r->output_count == r->output_cap) {
        r->output_cap = r->output_cap ? r->output_cap * 2 : 8;
        r->outputs = mj_realloc(r->outputs, r->output_cap * sizeof *r->outputs);
    }
    r->outputs[r->output_count] = (struct output){.ev = ev};
    return &r->outputs[r->output_count++];
}

/* Facts are about one event at a time: the one as it came, unless a flow has edited it. */
static enum mj_verdict ask(struct mj_router *r, const struct mj_match *match,
                           const struct mj_event *ev)
{
    struct mj_facts *facts = mj_decision_facts(r->decision);
    if (mj_facts_event(facts) != ev)
        mj_facts_begin(facts, ev);
    return mj_match_eval(match, facts) ? MJ_VERDICT_PASS : MJ_VERDICT_DROP;
}

/* Runs one node. Returns the event as it leaves the node, or NULL. */
static const struct mj_event *run(struct mj_router *r, struct mj_node *n, const struct mj_event *ev)
{
    enum mj_verdict verdict = MJ_VERDICT_PASS;
    bump(n->in, 1);
    switch (n->type) {
    case MJ_NODE_STREAM:
        output_of(r, ev)->streams |= UINT64_C(1) << n->bit;
        break;
    case MJ_NODE_PRINT:
        output_of(r, ev)->prints++;
        break;
    case MJ_NODE_WHERE:
        verdict = n->fn ? n->fn(n, ev) : ask(r, n->match, ev);
        break;
    case MJ_NODE_TAP:
        verdict = n->fn(n, ev);
        break;
    case MJ_NODE_MAP:
        verdict = n->fn(n, ev);
        if (verdict == MJ_VERDICT_PASS && mj_patch_changed(&n->patch)) {
            mj_patch_event(&n->patch, ev, &n->out);
            ev = &n->out;
        }
        break;
    default: /* roots */
        break;
    }
    if (verdict == MJ_VERDICT_PASS) {
        bump(n->passed, 1);
        return ev;
    }
    bump(verdict == MJ_VERDICT_ERROR ? n->errors : n->dropped, 1);
    return NULL;
}

static void run_flow(struct mj_router *r, struct mj_node *n, const struct mj_event *ev)
{
    ev = run(r, n, ev);
    for (size_t i = 0; ev && i < n->child_count; i++)
        run_flow(r, n->children[i], ev);
}

/* The main stream: one line through all scripts. */
static void run_main(struct mj_router *r, const struct mj_event *ev)
{
    for (size_t g = 0; g < r->graph_count; g++) {
        struct mj_node *root = r->graphs[g]->main;
        if (!root)
            continue;
        ev = run(r, root, ev);
        for (size_t i = 0; i < root->child_count; i++)
            if (!(ev = run(r, root->children[i], ev)))
                return;
    }
    output_of(r, ev)->streams |= UINT64_C(1) << MJ_STREAM_MAIN;
}

static int64_t next_time(struct mj_router *r)
{
    return r->journal ? mj_journal_next_time(r->journal) : mj_now_us();
}

static int emit(struct mj_router *r, const struct mj_event *ev, uint32_t collection,
                uint64_t streams, unsigned prints)
{
    r->json.len = 0;
    int err = mj_jetstream_encode(ev, NULL, &r->json);
    if (err) {
        count_drop(r, err, "operation");
        return 0;
    }
    for (; prints; prints--) {
        fwrite(r->json.ptr, 1, r->json.len, stdout);
        fputc('\n', stdout);
        r->printed = true;
    }
    if (!streams || !r->journal)
        return 0;
    struct mj_append entry = {
        .time_us = ev->time_us,
        .did_hash = mj_hash(ev->did),
        .streams = streams,
        .collection = collection,
        .kind = (uint8_t)ev->kind,
        .op = (uint8_t)ev->op,
    };
    return mj_journal_append(r->journal, &entry, mj_buf_span(&r->json));
}

/* A record must be sound before a script may look into it. */
static bool check_record(struct mj_router *r, struct mj_event *ev)
{
    if (ev->record_checked || !ev->record.len)
        return true;
    int err = mj_record_check(ev->record);
    if (err)
        count_drop(r, err, "operation");
    ev->record_checked = err == 0;
    return ev->record_checked;
}

static int route(struct mj_router *r, struct mj_event *ev, uint32_t collection)
{
    size_t words = (mj_decision_count(r->decision) + 63) / 64;
    bool code = r->main_runs_code;
    if (mj_decision_reads(r->decision, ev, collection) && !check_record(r, ev))
        return 0;
    const uint64_t *hits = mj_decision_eval(r->decision, ev, collection);
    for (size_t w = 0; w < words; w++)
        code |= (hits[w] & r->code[w]) != 0;
    if (code && !check_record(r, ev))
        return 0;
    r->output_count = 0;
    if (r->main_is_drawn)
        run_main(r, ev);
    else
        output_of(r, ev)->streams = UINT64_C(1) << MJ_STREAM_MAIN;
    for (size_t w = 0; w < words; w++)
        for (uint64_t bits = hits[w]; bits; bits &= bits - 1)
            run_flow(r, r->flows[w * 64 + (size_t)__builtin_ctzll(bits)], ev);

    bool appended = false;
    for (size_t i = 0; i < r->output_count; i++) {
        const struct output *o = &r->outputs[i];
        /* time_us is a cursor: each entry needs its own. */
        struct mj_event later;
        const struct mj_event *out = o->ev;
        if (appended) {
            later = *out;
            later.time_us = next_time(r);
            out = &later;
        }
        int err = emit(r, out, collection, o->streams, o->prints);
        if (err)
            return err;
        appended |= o->streams != 0;
    }
    return 0;
}

/* v1's name, with a bound it did not have: anybody can invent collections. */
static void count_op(struct mj_router *r, const struct mj_event *ev, uint32_t collection)
{
    uint32_t i = collection <= OPS_COLLECTIONS ? collection : 0;
    struct mj_metric **m = &r->ops[i][ev->op];
    if (MJ_UNLIKELY(!*m)) {
        char label[400];
        *m = mj_metric("consumer_ops_processed_total", MJ_COUNTER,
                       "Operations decoded, by kind and collection.", "kind=\"%s\",op_path=\"%s\"",
                       mj_op_name(ev->op),
                       i ? mj_metric_label(ev->collection, label, sizeof label) : "other");
    }
    bump(*m, 1);
}

int mj_router_event(struct mj_router *r, struct mj_event *ev)
{
    uint32_t collection = ev->collection.len ? mj_collection_id(ev->collection) : 0;
    if (collection)
        count_op(r, ev, collection);
    ev->time_us = next_time(r);
    bump(r->events, 1);
    if (MJ_LIKELY(!r->graph_count))
        return emit(r, ev, collection, UINT64_C(1) << MJ_STREAM_MAIN, 0);
    return route(r, ev, collection);
}

static int on_event(void *ctx, struct mj_event *ev) { return mj_router_event(ctx, ev); }

int mj_router_frame(struct mj_router *r, struct mj_span frame, struct mj_frame *out)
{
    int err = mj_decode(r->decoder, frame, out, on_event, r);
    bump(r->frames[out->type], 1);
    if (err)
        count_drop(r, err, "frame");
    return err;
}

int mj_router_flush(struct mj_router *r, int source, int64_t upstream_seq)
{
    if (r->printed)
        fflush(stdout);
    r->printed = false;
    return r->journal ? mj_journal_publish(r->journal, source, upstream_seq) : 0;
}
