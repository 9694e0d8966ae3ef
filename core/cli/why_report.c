/* The report. What the rings and the journal know of one operation is put together: they agree on
 * the operation, on the rev where both have it, and an entry is never older than its event. */
#include <inttypes.h>
#include <stdio.h>

#include "atproto/syntax.h"
#include "base/clock.h"
#include "base/err.h"
#include "cli/why.h"
#include "event/from_json.h"
#include "match/match.h"

#define STEPS_MAX 200 /* the newest are told */

struct note {
    struct mj_why_note n; /* its text: owned */
    bool told;
};

/* One operation on the record: what is known of when it came and what became of it. */
struct step {
    int64_t time_us, seq;
    int source;
    enum mj_kind kind;
    enum mj_op op;
    char rev[16];
    bool remembered; /* a ring has it */
    bool main, frame, more;
    int reason;
    struct note *notes; /* owned */
    size_t note_count;
    const struct why_entry **entries; /* owned array of borrowed ones */
    size_t entry_count;
};

struct report {
    const struct why_world *w;
    struct step *steps; /* owned, oldest first */
    size_t count, cap;
    uint64_t left_out;
    struct mj_from_json *reader; /* owned */
    struct mj_facts *facts;      /* owned */
    struct mj_buf *out;
};

/* ---- putting it together ---- */

static void free_step(struct step *s)
{
    for (size_t i = 0; i < s->note_count; i++)
        free((void *)s->notes[i].n.text.ptr);
    free(s->notes);
    free(s->entries);
}

static struct step *add_step(struct report *r, struct step made)
{
    if (r->count == STEPS_MAX) {
        free_step(&r->steps[0]);
        memmove(r->steps, r->steps + 1, --r->count * sizeof *r->steps);
        r->left_out++;
    }
    if (r->count == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 8;
        r->steps = mj_realloc(r->steps, r->cap * sizeof *r->steps);
    }
    size_t at = r->count++;
    while (at && r->steps[at - 1].time_us > made.time_us) {
        r->steps[at] = r->steps[at - 1];
        at--;
    }
    r->steps[at] = made;
    return &r->steps[at];
}

static void set_rev(struct step *s, struct mj_span rev)
{
    if (rev.len && rev.len < sizeof s->rev)
        snprintf(s->rev, sizeof s->rev, "%.*s", (int)rev.len, (const char *)rev.ptr);
}

static void add_notes(struct step *s, const struct mj_why_seen *seen)
{
    s->notes = mj_realloc(s->notes, (s->note_count + seen->count + 1) * sizeof *s->notes);
    for (size_t i = 0; i < seen->count; i++) {
        struct note *n = &s->notes[s->note_count++];
        *n = (struct note){.n = seen->notes[i]};
        if (n->n.text.len)
            n->n.text.ptr = (const uint8_t *)mj_span_dup(n->n.text);
        else
            n->n.text = mj_span(NULL, 0);
    }
    s->more |= seen->more;
}

/* What a lane did belongs to the newest step with that seq and operation. */
static bool on_aside(struct report *r, const struct mj_why_seen *seen)
{
    for (size_t i = r->count; i-- > 0;) {
        struct step *s = &r->steps[i];
        if (s->remembered && s->op == seen->op && s->kind == seen->kind && s->seq == seen->seq) {
            add_notes(s, seen);
            return true;
        }
    }
    return false;
}

static bool on_seen(void *ctx, const struct mj_why_seen *seen)
{
    struct report *r = ctx;
    if (seen->lane && on_aside(r, seen))
        return true;
    /* An account's own events are what is left when no record was asked for. */
    if (!r->w->target->collection.len && !seen->frame && seen->kind == MJ_KIND_COMMIT)
        return true;
    struct step made = {.time_us = seen->time_us,
                        .seq = seen->seq,
                        .source = seen->source,
                        .kind = seen->kind,
                        .op = seen->op,
                        .remembered = !seen->lane,
                        .main = seen->main,
                        .frame = seen->frame,
                        .reason = seen->reason};
    set_rev(&made, seen->rev);
    add_notes(&made, seen);
    add_step(r, made);
    return true;
}

static void add_to(struct step *s, const struct why_entry *e)
{
    s->entries = mj_realloc(s->entries, (s->entry_count + 1) * sizeof(void *));
    s->entries[s->entry_count++] = e;
}

static void place_entry(struct report *r, const struct why_entry *e)
{
    struct mj_event ev;
    size_t at;
    if (mj_event_from_json(r->reader, mj_buf_span(&e->json), &ev, &at))
        return;
    for (size_t i = r->count; i-- > 0;) {
        struct step *s = &r->steps[i];
        if (s->frame || s->time_us > e->time_us || s->kind != ev.kind || s->op != ev.op ||
            (*s->rev && !mj_span_is(ev.rev, s->rev)))
            continue;
        /* Without a rev it is the same one only if it got the very stamp, or is a version of it. */
        if (!*s->rev && ev.rev.len && !s->remembered)
            continue;
        set_rev(s, ev.rev);
        s->seq = s->seq ? s->seq : e->upstream_seq;
        add_to(s, e);
        return;
    }
    struct step made = {.time_us = e->time_us,
                        .seq = e->upstream_seq,
                        .source = -1,
                        .kind = ev.kind,
                        .op = ev.op,
                        .main = e->streams & 1};
    set_rev(&made, ev.rev);
    add_to(&made, e);
    add_step(r, made);
}

/* ---- what nodes said ---- */

static const struct mj_node *find_node(const struct why_world *w, const struct mj_why_note *n)
{
    for (size_t i = 0; i < w->graph_count; i++) {
        const struct mj_graph *g = w->graphs[i].graph;
        for (size_t k = 0; !strcmp(g->script, n->script) && k < g->count; k++)
            if (!strcmp(g->nodes[k]->name, n->node) && g->nodes[k]->line == n->line)
                return g->nodes[k];
    }
    return NULL;
}

static void put_node(struct mj_buf *out, bool first, const char *script, const char *node,
                     enum mj_node_type type, const char *file, unsigned line)
{
    mj_buf_puts(out, first ? "{\"script\":" : ",{\"script\":");
    mj_buf_put_json(out, mj_str(script));
    mj_buf_puts(out, ",\"node\":");
    mj_buf_put_json(out, mj_str(node));
    mj_buf_printf(out, ",\"type\":\"%s\",\"file\":", mj_node_type_name(type));
    mj_buf_put_json(out, mj_str(file));
    mj_buf_printf(out, ",\"line\":%u", line);
}

/* The event as the facts have it now, or not at all. */
static bool turn_to(struct report *r, const struct step *s, struct mj_event *ev)
{
    size_t at;
    if (!s->entry_count ||
        mj_event_from_json(r->reader, mj_buf_span(&s->entries[0]->json), ev, &at))
        return false;
    mj_facts_begin(r->facts, ev);
    return true;
}

/* The note of a root, or note_count. */
static size_t find_note(const struct step *s, const struct mj_graph *g, const struct mj_node *root)
{
    size_t i = 0;
    while (i < s->note_count && (strcmp(s->notes[i].n.script, g->script) != 0 ||
                                 strcmp(s->notes[i].n.node, root->name) != 0))
        i++;
    return i;
}

static void put_why(struct mj_buf *out, const struct mj_buf *why)
{
    if (!why->len)
        return;
    mj_buf_puts(out, ",\"why\":");
    mj_buf_put_json(out, mj_buf_span(why));
}

static bool is_of(const struct note *n, const struct mj_graph *g)
{
    return !strcmp(n->n.script, g->script);
}

/* The journal may have an edited version only: flows saw the event as it came. */
static bool was_edited(const struct report *r, const struct step *s)
{
    for (size_t i = 0; i < s->note_count; i++) {
        const struct mj_node *n =
            s->notes[i].n.did == MJ_WHY_EDITED ? find_node(r->w, &s->notes[i].n) : NULL;
        if (n && n->parent && n->parent->type == MJ_NODE_MAIN)
            return true;
    }
    return false;
}

/* What a root without a note would say now. */
static const char *ask_root(struct report *r, const struct step *s, const struct mj_node *root,
                            bool have, struct mj_buf *why)
{
    uint64_t streams = 0;
    for (size_t i = 0; i < s->entry_count; i++)
        streams |= s->entries[i]->streams;
    if (root->source_count) {
        if (root->source_bits & streams && !s->remembered)
            return "matches";
        mj_buf_printf(why, "stream %s%s did not have it", root->sources[0],
                      root->source_count > 1 ? " and the others" : "");
        return "no match";
    }
    if (s->reason || !have) {
        mj_buf_puts(why, s->reason
                             ? "it was dropped before flows saw it"
                             : "the event is not kept any more, so what said no is not known");
        return "no match";
    }
    if (!mj_match_explain(root->match, r->facts, why)) {
        mj_buf_puts(why, was_edited(r, s) ? ", in the version that main made of it" : "");
        return "no match";
    }
    if (s->remembered)
        mj_buf_puts(why, "it matches now: the script, or a set it asks, was another when it came");
    return s->remembered ? "no match" : "matches";
}

static void put_note(struct report *r, struct note *note, bool first, bool have)
{
    struct mj_buf *out = r->out;
    const struct mj_why_note *n = &note->n;
    const struct mj_node *node = n->did == MJ_WHY_DROPPED ? find_node(r->w, n) : NULL;
    MJ_AUTO_BUF why = {0};
    note->told = true;
    put_node(out, first, n->script, n->node, n->type, n->file, n->line);
    mj_buf_printf(out, ",\"verdict\":\"%s\"", mj_why_did_name(n->did));
    if (n->text.len) {
        mj_buf_puts(out, ",\"error\":");
        mj_buf_put_json(out, n->text);
    }
    if (node && have && node->match)
        mj_match_explain(node->match, r->facts, &why);
    put_why(out, &why);
    if (node && node->match_text) {
        mj_buf_puts(out, ",\"match\":");
        mj_buf_put_json(out, mj_str(node->match_text));
    }
    mj_buf_putc(out, '}');
}

static void put_root(struct report *r, const struct step *s, const struct mj_graph *g,
                     const struct mj_node *root, bool first, bool have)
{
    MJ_AUTO_BUF why = {0};
    const char *verdict = ask_root(r, s, root, have, &why);
    put_node(r->out, first, g->script, root->name, root->type, root->file, root->line);
    mj_buf_printf(r->out, ",\"verdict\":\"%s\"", verdict);
    put_why(r->out, &why);
    mj_buf_putc(r->out, '}');
}

/* In the order in which scripts and their flows stand; then what else there is, of nodes of main
 * and of scripts that were others then. */
static void put_flows(struct report *r, struct step *s)
{
    struct mj_event ev;
    bool have = turn_to(r, s, &ev), first = true;
    mj_buf_puts(r->out, ",\"flows\":[");
    for (size_t i = 0; i < r->w->graph_count; i++) {
        const struct mj_graph *g = r->w->graphs[i].graph;
        for (size_t k = 0; k < g->count; k++) {
            if (g->nodes[k]->type != MJ_NODE_FROM)
                continue;
            size_t at = find_note(s, g, g->nodes[k]);
            if (at == s->note_count)
                put_root(r, s, g, g->nodes[k], first, have);
            for (size_t n = at; n < s->note_count; n++) {
                if (n > at && (s->notes[n].n.type == MJ_NODE_FROM || !is_of(&s->notes[n], g)))
                    break;
                put_note(r, &s->notes[n], first && n == at, have);
            }
            first = false;
        }
    }
    for (size_t n = 0; n < s->note_count; n++)
        if (!s->notes[n].told) {
            put_note(r, &s->notes[n], first, have);
            first = false;
        }
    mj_buf_putc(r->out, ']');
}

/* ---- entries ---- */

/* Where nobody could be asked how it went. */
static void put_readers(struct report *r, const struct why_entry *e)
{
    mj_buf_puts(r->out, ",\"readers\":[");
    for (size_t i = 0; i < e->note_count; i++) {
        mj_buf_puts(r->out, i ? "," : "");
        mj_buf_put_json(r->out, mj_str(e->notes[i].reader));
    }
    mj_buf_putc(r->out, ']');
}

static void put_entries(struct report *r, const struct step *s)
{
    struct mj_buf *out = r->out;
    mj_buf_puts(out, ",\"entries\":[");
    for (size_t i = 0; i < s->entry_count; i++) {
        const struct why_entry *e = s->entries[i];
        bool first = true;
        mj_buf_printf(out, "%s{\"seq\":%" PRIu64 ",\"time_us\":%" PRId64 ",\"streams\":[",
                      i ? "," : "", e->seq, e->time_us);
        for (unsigned bit = 0; bit < MJ_STREAMS_MAX; bit++) {
            const char *name = !bit ? "main" : r->w->stream(r->w->ctx, bit);
            if (!(e->streams >> bit & 1) || !name)
                continue;
            mj_buf_puts(out, first ? "" : ",");
            mj_buf_put_json(out, mj_str(name));
            first = false;
        }
        mj_buf_printf(out, "],\"deliveries\":[%.*s]", (int)e->deliveries.len,
                      (const char *)e->deliveries.ptr);
        if (!r->w->found->asked && e->note_count)
            put_readers(r, e);
        mj_buf_putc(out, '}');
    }
    mj_buf_putc(out, ']');
}

static void put_step(struct report *r, struct step *s)
{
    struct mj_buf *out = r->out;
    const char *source = s->source >= 0 ? r->w->source(r->w->ctx, s->source) : NULL;
    int64_t made = mj_tid_time_us(mj_str(s->rev));
    mj_buf_printf(out, "{\"time_us\":%" PRId64, s->time_us);
    if (s->frame)
        mj_buf_puts(out, ",\"kind\":\"frame\"");
    else
        mj_buf_printf(out, ",\"kind\":\"%s\"", mj_kind_name(s->kind));
    if (s->op)
        mj_buf_printf(out, ",\"operation\":\"%s\"", mj_op_name(s->op));
    if (*s->rev)
        mj_buf_printf(out, ",\"rev\":\"%s\"", s->rev);
    if (made)
        mj_buf_printf(out, ",\"committed_us\":%" PRId64, made);
    if (s->seq)
        mj_buf_printf(out, ",\"upstream_seq\":%" PRId64, s->seq);
    if (source) {
        mj_buf_puts(out, ",\"source\":");
        mj_buf_put_json(out, mj_str(source));
    }
    if (s->reason) {
        mj_buf_printf(out, ",\"dropped\":\"%s\",\"dropped_text\":", mj_errlabel(s->reason));
        mj_buf_put_json(out, mj_str(mj_strerror(s->reason)));
    }
    mj_buf_printf(out, ",\"main\":%s,\"remembered\":%s", s->main ? "true" : "false",
                  s->remembered ? "true" : "false");
    if (s->more)
        mj_buf_puts(out, ",\"more_nodes\":true");
    put_entries(r, s);
    if (!s->frame)
        put_flows(r, s);
    mj_buf_putc(out, '}');
}

/* ---- what is known where nothing is ---- */

struct gaps {
    struct report *r;
    bool any;
};

static void on_gap(void *ctx, const struct mj_why_gap *gap)
{
    struct gaps *g = ctx;
    const char *source = g->r->w->source(g->r->w->ctx, gap->source);
    mj_buf_puts(g->r->out, g->any ? ",{\"source\":" : "{\"source\":");
    g->any = true;
    mj_buf_put_json(g->r->out, mj_str(source ? source : ""));
    mj_buf_printf(g->r->out,
                  ",\"from_seq\":%" PRId64 ",\"to_seq\":%" PRId64 ",\"time_us\":%" PRId64 "}",
                  gap->from, gap->to, gap->time_us);
}

static void put_known(struct report *r)
{
    const struct why_world *w = r->w;
    const struct why_found *f = w->found;
    struct mj_buf *out = r->out;
    uint64_t seen = f->of_did;
    int64_t last = f->did_us;
    mj_buf_printf(out,
                  ",\"journal\":{\"from_us\":%" PRId64 ",\"to_us\":%" PRId64
                  ",\"floor_seq\":%" PRIu64 ",\"end_seq\":%" PRIu64 ",\"damaged\":%s}",
                  f->floor_us, f->newest_us, f->floor, f->end, f->damaged ? "true" : "false");
    if (w->rings[0]) {
        struct mj_why_window window;
        mj_why_window(w->rings[0], w->target->did, &window);
        mj_buf_printf(out,
                      ",\"decisions\":{\"from_us\":%" PRId64 ",\"to_us\":%" PRId64
                      ",\"events\":%" PRIu64 ",\"bytes\":%zu}",
                      window.oldest_us, window.newest_us, window.events, window.bytes);
        seen = window.of_did > seen ? window.of_did : seen;
        last = window.did_us > last ? window.did_us : last;
    }
    mj_buf_printf(out, ",\"account\":{\"events\":%" PRIu64 ",\"newest_us\":%" PRId64 "}", seen,
                  last);
    mj_buf_printf(out, ",\"letters\":[%.*s]", (int)f->letters.len, (const char *)f->letters.ptr);
    mj_buf_puts(out, ",\"pauses\":[");
    for (size_t i = 0; i < f->pause_count; i++)
        mj_buf_printf(out, "%s{\"from_us\":%" PRId64 ",\"to_us\":%" PRId64 "}", i ? "," : "",
                      f->pauses[i].from_us, f->pauses[i].to_us);
    mj_buf_puts(out, "],\"gaps\":[");
    struct gaps gaps = {r, false};
    if (w->rings[0])
        mj_why_gaps(w->rings[0], on_gap, &gaps);
    mj_buf_putc(out, ']');
}

bool why_report(const struct why_world *w, struct mj_buf *json)
{
    struct report r = {.w = w, .reader = mj_from_json_new(), .facts = mj_facts_new(), .out = json};
    const struct mj_why_query query = {w->target->did, w->target->collection, w->target->rkey};
    bool arrived = false;
    for (size_t i = 0; i < MJ_COUNT(w->rings); i++)
        if (w->rings[i])
            mj_why_find(w->rings[i], &query, on_seen, &r);
    for (size_t i = 0; i < w->found->count; i++)
        place_entry(&r, &w->found->entries[i]);
    for (size_t i = 0; i < r.count; i++)
        arrived |= !r.steps[i].frame;
    int64_t made = mj_tid_time_us(w->target->rkey);
    mj_buf_printf(json, "{\"ok\":true,\"arrived\":%s,\"%s\":", arrived ? "true" : "false",
                  w->target->collection.len ? "uri" : "did");
    mj_buf_put_json(json, mj_buf_span(&w->target->text));
    mj_buf_printf(json, ",\"running\":%s,\"now_us\":%" PRId64, w->running ? "true" : "false",
                  mj_now_us());
    if (made)
        mj_buf_printf(json, ",\"made_us\":%" PRId64, made);
    mj_buf_printf(json, ",\"left_out\":%" PRIu64 ",\"steps\":[", r.left_out + w->found->left_out);
    for (size_t i = 0; i < r.count; i++) {
        mj_buf_puts(json, i ? "," : "");
        put_step(&r, &r.steps[i]);
    }
    mj_buf_putc(json, ']');
    put_known(&r);
    mj_buf_putc(json, '}');
    for (size_t i = 0; i < r.count; i++)
        free_step(&r.steps[i]);
    free(r.steps);
    mj_facts_free(r.facts);
    mj_from_json_free(r.reader);
    return arrived;
}
