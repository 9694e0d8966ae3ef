#include "flow/router.h"

#include <time.h>

#include "flow/operator.h"
#include "flow/parts.h"

#define TIMED_ONE_IN 64 /* events of a node that runs in C */

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
    struct mj_router *r = ctx;
    count_drop(r, reason, "operation");
    mj__why_operation(&r->why, r->frame->did, path, r->frame->seq, reason);
}

struct mj_router *mj_router_new(struct mj_journal *journal)
{
    static const char *const names[] = {"unknown", "commit", "sync", "identity",
                                        "account", "info",   "error"};
    struct mj_router *r = mj_calloc(1, sizeof *r);
    r->exit.journal = journal;
    r->why.source = -1;
    r->decoder = mj_decoder_new();
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
    mj__plan_deinit(&r->plan);
    mj__exit_deinit(&r->exit);
    free(r->outputs);
    free(r->noted);
    free(r->readers);
    free(r->copies);
    free(r->lanes);
    free(r);
}

void mj_router_set_streams(struct mj_router *r, struct mj_streams *streams)
{
    r->streams = streams;
}

void mj_router_set_readers(struct mj_router *r, struct mj_readers *readers)
{
    r->exit.readers = readers;
}

void mj_router_on_output(struct mj_router *r, mj_output_fn fn, void *ctx)
{
    r->exit.watch = fn;
    r->exit.watch_ctx = ctx;
}

void mj_router_set_stdout(struct mj_router *r, bool on) { r->exit.silent = !on; }

void mj_router_set_clock(struct mj_router *r, int64_t (*now_us)(void *ctx), void *ctx)
{
    r->exit.now_us = now_us;
    r->exit.now_ctx = ctx;
}

void mj_router_set_why(struct mj_router *r, struct mj_why *why) { r->why.why = why; }
void mj_router_set_source(struct mj_router *r, int source) { r->why.source = source; }

/* Two flows that did not edit the event, or share the same edit, share one output. */
static struct mj__output *output_of(struct mj_router *r, const struct mj_event *ev)
{
    for (size_t i = 0; i < r->output_count; i++)
        if (r->outputs[i].ev == ev)
            return &r->outputs[i];
    if (r->output_count == r->output_cap) {
        r->output_cap = r->output_cap ? r->output_cap * 2 : 8;
        r->outputs = mj_realloc(r->outputs, r->output_cap * sizeof *r->outputs);
    }
    r->outputs[r->output_count] = (struct mj__output){.ev = ev};
    return &r->outputs[r->output_count++];
}

/* The event is for a durable end: its reader gets a note behind it. */
static void add_reader(struct mj_router *r, struct mj_reader *reader, const struct mj_event *ev)
{
    if (r->noted_count == r->noted_cap) {
        r->noted_cap = r->noted_cap ? r->noted_cap * 2 : 8;
        r->noted = mj_realloc(r->noted, r->noted_cap * sizeof *r->noted);
    }
    size_t output = (size_t)(output_of(r, ev) - r->outputs);
    r->noted[r->noted_count++] = (struct mj__noted){reader, output};
}

/* What main's nodes pass on as it came is not worth a note: every event would have one. */
static void note(struct mj_router *r, struct mj_node *n, enum mj_why_did did)
{
    bool main = n->type == MJ_NODE_MAIN || (n->parent && n->parent->type == MJ_NODE_MAIN);
    if (r->why.why && !(main && did == MJ_WHY_PASSED && !n->reason))
        mj__why_note(&r->why, n, did);
}

/* Behind a batch: durable ends form their lists of what is noted for them. True when there is
 * another end, which gets them from the node's function. */
static bool add_batch(struct mj_router *r, const struct mj_node *batch, const struct mj_event *ev)
{
    bool others = !batch->child_count;
    for (size_t i = 0; i < batch->child_count; i++) {
        struct mj_node *n = batch->children[i];
        others |= !n->reader;
        if (!n->reader)
            continue;
        add_reader(r, n->reader, ev);
        bump(n->in, 1);
        bump(n->passed, 1);
        note(r, n, MJ_WHY_PASSED);
    }
    return others;
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static enum mj_verdict decide(struct mj_router *r, struct mj_node *n, const struct mj_event *ev)
{
    if (n->op)
        return mj__operator_run(n, ev);
    /* Facts are about one event at a time: the one as it came, unless a flow has edited it. */
    struct mj_facts *facts = mj_decision_facts(r->plan.decision);
    if (mj_facts_event(facts) != ev)
        mj_facts_begin(facts, ev);
    return mj_match_eval(n->match, facts) ? MJ_VERDICT_PASS : MJ_VERDICT_DROP;
}

/* A node that runs in C is often done sooner than a clock is read, so only one event in so many is
 * timed. */
static enum mj_verdict decide_timed(struct mj_router *r, struct mj_node *n,
                                    const struct mj_event *ev)
{
    if (MJ_LIKELY(mj_metric_get(n->in) % TIMED_ONE_IN || n->key))
        return decide(r, n, ev);
    int64_t start = now_ns();
    enum mj_verdict verdict = decide(r, n, ev);
    bump(n->ns, (now_ns() - start) * TIMED_ONE_IN);
    return verdict;
}

/* Runs one node. Returns the event as it leaves the node, or NULL. */
static const struct mj_event *run(struct mj_router *r, struct mj_node *n, const struct mj_event *ev)
{
    enum mj_verdict verdict = MJ_VERDICT_PASS;
    bump(n->in, 1);
    switch (n->type) {
    case MJ_NODE_MAIN:
    case MJ_NODE_FROM:
        break;
    case MJ_NODE_STREAM:
        output_of(r, ev)->streams |= UINT64_C(1) << n->bit;
        break;
    case MJ_NODE_PRINT:
        output_of(r, ev)->prints++;
        break;
    case MJ_NODE_EACH:
    case MJ_NODE_SINK:
    case MJ_NODE_HOOK:
        if (n->reader)
            add_reader(r, n->reader, ev);
        else
            verdict = n->fn(n, ev);
        break;
    case MJ_NODE_BATCH:
        if (add_batch(r, n, ev))
            verdict = n->fn(n, ev);
        break;
    default:
        verdict = n->fn ? n->fn(n, ev) : decide_timed(r, n, ev);
        break;
    }
    bool edits = n->type == MJ_NODE_MAP || n->type == MJ_NODE_STRIP || n->type == MJ_NODE_KEEP ||
                 n->type == MJ_NODE_REDACT;
    if (edits && verdict == MJ_VERDICT_PASS && mj_patch_changed(&n->patch)) {
        mj_patch_event(&n->patch, ev, &n->out);
        ev = &n->out;
        /* A node may run twice on one event; what was known about its first result is void. */
        struct mj_facts *facts = mj_decision_facts(r->plan.decision);
        if (mj_facts_event(facts) == ev)
            mj_facts_begin(facts, ev);
    }
    if (verdict == MJ_VERDICT_PASS) {
        bump(n->passed, 1);
        note(r, n, ev == &n->out ? MJ_WHY_EDITED : MJ_WHY_PASSED);
        return ev;
    }
    bump(verdict == MJ_VERDICT_ERROR ? n->errors : n->dropped, 1);
    /* What had no room for its copy does not keep main from going on. */
    bool copies = n->type == MJ_NODE_BATCH || n->type == MJ_NODE_EACH || n->type == MJ_NODE_SINK ||
                  n->type == MJ_NODE_HOOK;
    note(r, n,
         verdict == MJ_VERDICT_ERROR ? MJ_WHY_ERROR
         : copies                    ? MJ_WHY_NO_ROOM
                                     : MJ_WHY_DROPPED);
    return copies ? ev : NULL;
}

static void run_flow(struct mj_router *r, struct mj_node *n, const struct mj_event *ev)
{
    ev = run(r, n, ev);
    if (n->type == MJ_NODE_BATCH) { /* what is behind it gets lists */
        for (size_t i = 0; i < n->child_count; i++)
            if (n->children[i]->reader)
                note(r, n->children[i], MJ_WHY_PASSED);
        return;
    }
    for (size_t i = 0; ev && i < n->child_count; i++)
        run_flow(r, n->children[i], ev);
}

/* What a flow would get were its script not paused: dropped, and nothing is dropped uncounted. */
static void miss(struct mj_router *r, struct mj_node *root)
{
    bump(root->in, 1);
    bump(root->dropped, 1);
    note(r, root, MJ_WHY_PAUSED);
}

/* The main stream: one line through all scripts. False when one of them drops the event. */
static bool run_main(struct mj_router *r, const struct mj_event *ev)
{
    for (size_t m = 0; m < r->plan.member_count; m++) {
        const struct mj__member *member = &r->plan.members[m];
        struct mj_node *root = member->graph->main;
        if (!root)
            continue;
        if (MJ_UNLIKELY(member->paused)) {
            if (!member->drop_main)
                continue;
            miss(r, root);
            return false;
        }
        ev = run(r, root, ev);
        for (size_t i = 0; i < root->child_count; i++)
            if (!(ev = run(r, root->children[i], ev)))
                return false;
    }
    output_of(r, ev)->streams |= UINT64_C(1) << MJ_STREAM_MAIN;
    return true;
}

/* Outputs are borrowed from the nodes that made them. Before a node runs a second time on the same
 * event, its first result is copied. */
static void copy_outputs(struct mj_router *r, const struct mj_event *came)
{
    for (size_t i = 0; i < r->output_count; i++) {
        bool ours = r->outputs[i].ev == came;
        for (size_t k = 0; k < r->copy_count; k++)
            ours |= r->outputs[i].ev == &r->copies[k]->ev;
        if (ours)
            continue;
        if (r->copy_count == r->copy_cap) {
            r->copy_cap = r->copy_cap ? r->copy_cap * 2 : 4;
            r->copies = mj_realloc(r->copies, r->copy_cap * sizeof *r->copies);
        }
        r->copies[r->copy_count] = mj_kept_new(r->outputs[i].ev);
        r->outputs[i].ev = &r->copies[r->copy_count++]->ev;
    }
}

/* Flows that read streams, on what is in these now. */
static void run_readers(struct mj_router *r, const struct mj_event *came)
{
    for (size_t i = 0; i < r->plan.reader_count; i++) {
        const struct mj__root *reader = &r->plan.readers[i];
        const struct mj__member *member = &r->plan.members[reader->member];
        if (member->lane)
            continue;
        bool again = false;
        /* Nothing behind it feeds what it reads, so what is added meanwhile is not for it. */
        for (size_t o = 0, n = r->output_count; o < n; o++) {
            if (!(r->outputs[o].streams & reader->sources))
                continue;
            if (member->paused) {
                miss(r, reader->node);
                continue;
            }
            if (again)
                copy_outputs(r, came);
            again = true;
            run_flow(r, reader->node, r->outputs[o].ev);
        }
    }
}

static int emit(struct mj_router *r, const struct mj_event *ev, uint32_t collection,
                const struct mj__way *way)
{
    int dropped;
    int err = mj__exit_emit(&r->exit, ev, collection, way, &dropped);
    if (MJ_UNLIKELY(dropped)) {
        count_drop(r, dropped, "operation");
        r->why.reason = dropped;
        /* It was sound when it came, so somebody here has spoilt it. */
        if (ev->record_checked)
            mj_log_limited(&r->drop_gate, 5, MJ_LOG_ERROR, "router",
                           "at://%.*s/%.*s/%.*s is dropped: a script has made a record of it that "
                           "cannot be sent: %s",
                           (int)ev->did.len, (const char *)ev->did.ptr, (int)ev->collection.len,
                           (const char *)ev->collection.ptr, (int)ev->rkey.len,
                           (const char *)ev->rkey.ptr, mj_strerror(dropped));
    }
    return err;
}

/* A record must be sound before a script may look into it. */
static bool check_record(struct mj_router *r, struct mj_event *ev)
{
    if (ev->record_checked || !ev->record.len)
        return true;
    int err = mj_record_check(ev->record);
    if (err) {
        count_drop(r, err, "operation");
        r->why.reason = err;
    }
    ev->record_checked = err == 0;
    return ev->record_checked;
}

/* Queues the event, and versions of it in streams, for lanes whose roots want them. `hits` NULL:
 * only readers may. */
static void push_to_lanes(struct mj_router *r, const struct mj_event *came, const uint64_t *hits)
{
    const struct mj__plan *p = &r->plan;
    bool came_in_stream = false;
    for (size_t o = 0; o <= r->output_count; o++) {
        /* The last round is for the event as it came, unless a stream had it. */
        const struct mj_event *ev = o < r->output_count ? r->outputs[o].ev : came;
        uint64_t streams = o < r->output_count ? r->outputs[o].streams : 0;
        struct mj_kept *kept = NULL;
        if (o == r->output_count && came_in_stream)
            break;
        came_in_stream |= ev == came;
        for (size_t i = 0; streams && i < p->reader_count; i++) {
            const struct mj__member *m = &p->members[p->readers[i].member];
            if (m->lane && !m->paused && (p->readers[i].sources & streams))
                mj__lane_mark(m->lane, p->readers[i].number);
        }
        for (size_t w = 0; hits && ev == came && w < p->words; w++)
            for (uint64_t bits = hits[w] & p->live[w] & ~p->here[w]; bits; bits &= bits - 1) {
                const struct mj__root *f = &p->flows[w * 64 + (size_t)__builtin_ctzll(bits)];
                mj__lane_mark(p->members[f->member].lane, f->number);
            }
        for (size_t m = 0; m < p->member_count; m++)
            if (p->members[m].lane)
                mj__lane_push(p->members[m].lane, ev, &kept);
        mj_kept_unref(kept);
    }
}

/* After all outputs are done with: waiting appends what lanes have made. */
static void settle_lanes(struct mj_router *r)
{
    for (size_t m = 0; m < r->plan.member_count; m++)
        if (r->plan.members[m].lane)
            mj__lane_settle(r->plan.members[m].lane);
}

static void drop_copies(struct mj_router *r)
{
    while (MJ_UNLIKELY(r->copy_count))
        mj_kept_unref(r->copies[--r->copy_count]);
}

/* Where an output goes. */
static struct mj__way way_of(struct mj_router *r, size_t output)
{
    const struct mj__output *o = &r->outputs[output];
    struct mj__way way = {.streams = o->streams, .prints = o->prints};
    if (MJ_LIKELY(!r->noted_count))
        return way;
    if (r->readers_cap < r->noted_count) {
        r->readers_cap = r->noted_cap;
        r->readers = mj_realloc(r->readers, r->readers_cap * sizeof(struct mj_reader *));
    }
    for (size_t i = 0; i < r->noted_count; i++)
        if (r->noted[i].output == output)
            r->readers[way.reader_count++] = r->noted[i].reader;
    way.readers = r->readers;
    return way;
}

/* Hands on what the flows have left. */
static int emit_outputs(struct mj_router *r, uint32_t collection)
{
    bool appended = false;
    for (size_t i = 0; i < r->output_count; i++) {
        const struct mj__output *o = &r->outputs[i];
        const struct mj__way way = way_of(r, i);
        /* time_us is a cursor: each entry needs its own. */
        struct mj_event later;
        const struct mj_event *out = o->ev;
        if (appended) {
            later = *out;
            later.time_us = mj__exit_time(&r->exit);
            out = &later;
        }
        int err = emit(r, out, collection, &way);
        if (err)
            return err;
        appended |= way.streams || way.reader_count;
    }
    return 0;
}

/* Before lanes are waited for: that appends events of theirs, which have decisions of their own. */
static void remember(struct mj_router *r, const struct mj_event *ev, uint32_t collection, bool main)
{
    if (r->why.why)
        mj__why_event(&r->why, ev, collection, main && !r->why.reason);
}

static int route(struct mj_router *r, struct mj_event *ev, uint32_t collection)
{
    const struct mj__plan *plan = &r->plan;
    bool sound = plan->main_sound;
    if (MJ_UNLIKELY(r->pauses_changed)) {
        mj__plan_apply_pauses(&r->plan);
        r->pauses_changed = false;
    }
    if (mj_decision_reads(plan->decision, ev, collection) && !check_record(r, ev)) {
        remember(r, ev, collection, false);
        return 0;
    }
    const uint64_t *hits = mj_decision_eval(plan->decision, ev, collection);
    for (size_t w = 0; w < plan->words; w++)
        sound |= (hits[w] & plan->live[w] & plan->sound[w]) != 0;
    if (sound && !check_record(r, ev)) {
        remember(r, ev, collection, false);
        return 0;
    }
    r->output_count = r->noted_count = 0;
    bool main = true;
    if (plan->main_drawn)
        main = run_main(r, ev);
    else
        output_of(r, ev)->streams = UINT64_C(1) << MJ_STREAM_MAIN;
    for (size_t w = 0; w < plan->words; w++)
        for (uint64_t bits = hits[w] & plan->live[w] & plan->here[w]; bits; bits &= bits - 1)
            run_flow(r, plan->flows[w * 64 + (size_t)__builtin_ctzll(bits)].node, ev);
    for (size_t w = 0; plan->any_paused && w < plan->words; w++)
        for (uint64_t bits = hits[w] & ~plan->live[w] & plan->here[w]; bits; bits &= bits - 1)
            miss(r, plan->flows[w * 64 + (size_t)__builtin_ctzll(bits)].node);
    if (plan->reader_count)
        run_readers(r, ev);
    int err = emit_outputs(r, collection);
    remember(r, ev, collection, main);
    if (MJ_UNLIKELY(plan->has_lanes))
        push_to_lanes(r, ev, hits);
    drop_copies(r);
    if (MJ_UNLIKELY(plan->has_lanes))
        settle_lanes(r);
    return err;
}

int mj__router_inject(struct mj_router *r, const struct mj_event *ev, const struct mj__way *way)
{
    struct mj_event now = *ev;
    now.time_us = mj__exit_time(&r->exit);
    r->output_count = r->noted_count = 0;
    mj_facts_begin(mj_decision_facts(r->plan.decision), &now);
    *output_of(r, &now) = (struct mj__output){&now, way->streams, way->prints};
    mj__why_begin(&r->why);
    for (size_t i = 0; i < way->reader_count; i++)
        add_reader(r, way->readers[i], &now);
    if (r->plan.reader_count)
        run_readers(r, &now);
    int err = emit_outputs(r, now.collection.len ? mj_collection_id(now.collection) : 0);
    mj__why_aside(&r->why, &now);
    if (r->plan.has_lanes)
        push_to_lanes(r, &now, NULL);
    drop_copies(r);
    if (r->plan.has_lanes)
        settle_lanes(r);
    return err;
}

void mj__router_run(struct mj_router *r, const struct mj_event *ev, const uint64_t *roots,
                    mj__result_fn fn, void *ctx)
{
    const struct mj_graph *g = mj__router_graph(r);
    unsigned number = 0;
    if (r->pauses_changed) {
        mj__plan_apply_pauses(&r->plan);
        r->pauses_changed = false;
    }
    r->output_count = r->noted_count = 0;
    mj__why_begin(&r->why);
    /* Another event may have lain at this address. */
    mj_facts_begin(mj_decision_facts(r->plan.decision), ev);
    for (size_t i = 0; i < g->count; i++) {
        if (g->nodes[i]->type != MJ_NODE_FROM)
            continue;
        bool wanted = roots[number / 64] >> (number % 64) & 1;
        number++;
        if (wanted && r->plan.members[0].paused)
            miss(r, g->nodes[i]);
        else if (wanted)
            run_flow(r, g->nodes[i], ev);
    }
    run_readers(r, ev);
    mj__why_aside(&r->why, ev);
    for (size_t i = 0; i < r->output_count; i++) {
        const struct mj__way way = way_of(r, i);
        fn(ctx, r->outputs[i].ev, &way);
    }
    drop_copies(r);
}

/* v1's name, with a bound it did not have: anybody can invent collections. */
static void count_op(struct mj_router *r, const struct mj_event *ev, uint32_t collection)
{
    uint32_t i = collection <= MJ__OPS_COLLECTIONS ? collection : 0;
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
    ev->time_us = mj__exit_time(&r->exit);
    bump(r->events, 1);
    mj__why_begin(&r->why);
    if (r->plan.member_count)
        return route(r, ev, collection);
    int err = emit(r, ev, collection, &(struct mj__way){.streams = UINT64_C(1) << MJ_STREAM_MAIN});
    remember(r, ev, collection, true);
    return err;
}

static int on_event(void *ctx, struct mj_event *ev) { return mj_router_event(ctx, ev); }

int mj_router_frame(struct mj_router *r, struct mj_span frame, struct mj_frame *out)
{
    r->frame = out;
    int err = mj_decode(r->decoder, frame, out, on_event, r);
    bump(r->frames[out->type], 1);
    mj__why_seq(&r->why, out->seq);
    if (MJ_UNLIKELY(err)) {
        count_drop(r, err, "frame");
        mj__why_frame(&r->why, out->did, out->seq, err);
    }
    return err;
}

int mj_router_flush(struct mj_router *r, int source, int64_t upstream_seq)
{
    if (MJ_LIKELY(!r->lane_count && !r->cursors.held))
        return mj__exit_flush(&r->exit, source, upstream_seq);
    for (size_t i = 0; i < r->lane_count; i++) {
        mj__lane_hand_over(r->lanes[i]);
        mj__lane_collect(r->lanes[i]);
    }
    return mj__cursors_flush(&r->cursors, &r->exit, r->lanes, r->lane_count, source, upstream_seq);
}

void mj_router_hold(struct mj_router *r) { r->cursors.held = 0; }
