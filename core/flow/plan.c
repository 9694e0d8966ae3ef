#include "flow/plan.h"

#include "base/err.h"

void mj__plan_deinit(struct mj__plan *p)
{
    mj_decision_free(p->decision);
    free(p->members);
    free(p->flows);
    free(p->readers);
    free(p->live);
    free(p->here);
    free(p->sound);
    *p = (struct mj__plan){0};
}

static int stream_bit(const struct mj_node *n, const char *name, struct mj_streams *streams,
                      struct mj_buf *error)
{
    int bit = streams ? mj_streams_add(streams, mj_str(name)) : MJ_EINVAL;
    if (bit == MJ_ELIMIT)
        mj_buf_printf(
            error,
            "%s:%u: stream '%s': too many streams: %d names are in use. One that a script "
            "has had counts until the restart, and with --data for as long as DATA/streams "
            "has it; use an old name again",
            n->file, n->line, name, MJ_STREAMS_MAX);
    else if (bit < 0)
        mj_buf_printf(error, "%s:%u: stream '%s': %s", n->file, n->line, name, mj_strerror(bit));
    return bit;
}

static int find_streams(struct mj_graph *g, struct mj_streams *streams, struct mj_buf *error)
{
    for (size_t i = 0; i < g->count; i++) {
        struct mj_node *n = g->nodes[i];
        if (n->stream && (n->bit = stream_bit(n, n->stream, streams, error)) < 0)
            return n->bit;
        n->source_bits = 0;
        for (size_t k = 0; k < n->source_count; k++) {
            int bit = stream_bit(n, n->sources[k], streams, error);
            if (bit < 0)
                return bit;
            n->source_bits |= UINT64_C(1) << bit;
        }
    }
    return 0;
}

static void add_roots(struct mj__plan *p, size_t member)
{
    const struct mj_graph *g = p->members[member].graph;
    unsigned number = 0;
    for (size_t i = 0; i < g->count; i++) {
        struct mj_node *n = g->nodes[i];
        if (n->type != MJ_NODE_FROM)
            continue;
        struct mj__root root = {n, member, number++, n->source_bits, mj_node_reads_record(n)};
        for (size_t k = 0; p->members[member].lane && k < g->count; k++)
            if (g->nodes[k]->stream)
                root.sources &= ~(UINT64_C(1) << g->nodes[k]->bit);
        if (n->source_count) {
            p->readers = mj_realloc(p->readers, (p->reader_count + 1) * sizeof root);
            p->readers[p->reader_count++] = root;
        } else {
            size_t bit = mj_decision_add(p->decision, n->match);
            p->flows = mj_realloc(p->flows, (bit + 1) * sizeof root);
            p->flows[bit] = root;
            p->flow_count = bit + 1;
        }
    }
    if (g->main && g->main->child_count) {
        p->main_drawn = true;
        p->main_sound |= mj_node_reads_record(g->main);
    }
}

/* A script in a lane of its own shares nothing that has an order. */
static int check_lanes(const struct mj__plan *p, struct mj_buf *error)
{
    for (size_t i = 0; i < p->member_count; i++) {
        const struct mj_graph *g = p->members[i].graph;
        if (!p->members[i].lane)
            continue;
        if (g->main) {
            mj_buf_printf(error,
                          "%s:%u: jet.main() is one line through all scripts; a script with "
                          "lane = \"own\" runs beside them and has no part in it",
                          g->main->file, g->main->line);
            return MJ_EINVAL;
        }
        for (size_t n = 0; n < g->count; n++)
            for (size_t k = 0; g->nodes[n]->stream && k < p->member_count; k++)
                for (size_t m = 0; k != i && m < p->members[k].graph->count; m++) {
                    const struct mj_node *other = p->members[k].graph->nodes[m];
                    if (!other->stream || strcmp(other->stream, g->nodes[n]->stream) != 0)
                        continue;
                    mj_buf_printf(error,
                                  "%s:%u: stream '%s' is fed by %s:%u, too; a script with "
                                  "lane = \"own\" feeds only streams of its own",
                                  g->nodes[n]->file, g->nodes[n]->line, other->stream, other->file,
                                  other->line);
                    return MJ_EINVAL;
                }
    }
    return 0;
}

static uint64_t fed_by(const struct mj__root *r) { return mj_node_feeds(r->node); }

static const char *name_of(struct mj_streams *streams, unsigned bit)
{
    for (size_t i = 0; i < mj_streams_count(streams); i++)
        if (mj_streams_bit(streams, i) == bit)
            return mj_streams_name(streams, i);
    return "?";
}

/* Says which streams feed each other, starting from readers none of which could be placed: going
 * backwards from any of them must come back to a stream seen before. */
static void describe_circle(const struct mj__root *left, size_t count, struct mj_streams *streams,
                            struct mj_buf *error)
{
    uint64_t seen = 0;
    unsigned way[64], n = 0, bit;
    const struct mj__root *r = &left[0];
    for (;;) {
        /* A stream this one reads that another of those left feeds. */
        const struct mj__root *feeder = NULL;
        for (size_t i = 0; i < count && !feeder; i++)
            if (fed_by(&left[i]) & r->node->source_bits)
                feeder = &left[i];
        if (!feeder)
            return; /* cannot be: it would have been placed */
        bit = (unsigned)__builtin_ctzll(fed_by(feeder) & r->node->source_bits);
        if (seen >> bit & 1)
            break;
        seen |= UINT64_C(1) << bit;
        way[n++] = bit;
        r = feeder;
    }
    mj_buf_printf(error, "%s:%u: stream '%s' would feed itself: %s", r->node->file, r->node->line,
                  name_of(streams, bit), name_of(streams, bit));
    while (n && way[n - 1] != bit)
        mj_buf_printf(error, " → %s", name_of(streams, way[--n]));
    mj_buf_printf(error, " → %s; a flow that reads a stream must not lead back to it",
                  name_of(streams, bit));
}

/* Puts the readers in order. */
static int sort_readers(struct mj__plan *p, struct mj_streams *streams, struct mj_buf *error)
{
    for (size_t done = 0; done < p->reader_count; done++) {
        uint64_t open = 0; /* what those not placed yet will feed */
        for (size_t i = done; i < p->reader_count; i++)
            open |= fed_by(&p->readers[i]);
        size_t next = done;
        while (next < p->reader_count && p->readers[next].node->source_bits & open)
            next++;
        if (next == p->reader_count) {
            describe_circle(p->readers + done, p->reader_count - done, streams, error);
            return MJ_EINVAL;
        }
        struct mj__root r = p->readers[next];
        memmove(p->readers + done + 1, p->readers + done, (next - done) * sizeof r);
        p->readers[done] = r;
    }
    return 0;
}

/* Whoever feeds a stream whose readers look into the record must have it checked first. */
static void spread_sound(struct mj__plan *p)
{
    uint64_t sound = 0; /* streams */
    for (size_t i = p->reader_count; i-- > 0;) {
        struct mj__root *r = &p->readers[i];
        r->reads_record |= (fed_by(r) & sound) != 0;
        if (r->reads_record)
            sound |= r->node->source_bits;
    }
    for (size_t i = 0; i < p->flow_count; i++)
        if (p->flows[i].reads_record || (fed_by(&p->flows[i]) & sound))
            p->sound[i / 64] |= UINT64_C(1) << (i % 64);
    for (size_t i = 0; i < p->member_count; i++) {
        const struct mj_node *main = p->members[i].graph->main;
        p->main_sound |= main && (mj_node_feeds(main) & sound);
    }
}

void mj__plan_apply_pauses(struct mj__plan *p)
{
    p->any_paused = false;
    for (size_t i = 0; i < p->member_count; i++) {
        p->members[i].paused = p->members[i].pause_next;
        p->members[i].drop_main = p->members[i].drop_next;
        p->any_paused |= p->members[i].paused;
    }
    for (size_t w = 0; w < p->words; w++)
        p->live[w] = 0;
    for (size_t i = 0; i < p->flow_count; i++)
        if (!p->members[p->flows[i].member].paused)
            p->live[i / 64] |= UINT64_C(1) << (i % 64);
}

int mj__plan_make(struct mj__plan *out, struct mj__member *members, size_t count,
                  struct mj_streams *streams, struct mj_buf *error)
{
    struct mj__plan p = {.members = members, .member_count = count};
    int err = check_lanes(&p, error); /* first: what is refused here gets no streams */
    p.decision = mj_decision_new();
    for (size_t i = 0; i < count && !err; i++) {
        err = find_streams(members[i].graph, streams, error);
        if (!err)
            add_roots(&p, i);
    }
    if (!err && mj_decision_words(p.decision) > MJ_DECISION_WORDS_MAX) {
        mj_buf_printf(error, "the words that all scripts look for take more than %zu MiB",
                      MJ_DECISION_WORDS_MAX >> 20);
        err = MJ_ELIMIT;
    }
    if (!err)
        err = sort_readers(&p, streams, error);
    if (err) {
        mj__plan_deinit(&p);
        return err;
    }
    p.words = (p.flow_count + 63) / 64;
    p.live = mj_calloc(p.words + 1, sizeof *p.live);
    p.here = mj_calloc(p.words + 1, sizeof *p.here);
    p.sound = mj_calloc(p.words + 1, sizeof *p.sound);
    for (size_t i = 0; i < p.flow_count; i++)
        p.here[i / 64] |= (uint64_t)!members[p.flows[i].member].lane << (i % 64);
    for (size_t i = 0; i < count; i++)
        p.has_lanes |= members[i].lane != NULL;
    spread_sound(&p);
    mj_decision_ready(p.decision);
    mj__plan_apply_pauses(&p);
    *out = p;
    return 0;
}
