#include "flow/why.h"

#include <pthread.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "journal/journal.h"

#define BLOCK      ((size_t)64 << 10)
#define GRAPHS_MAX 64 /* descriptions kept, of graphs that are no more, too */
#define GAPS_MAX   64
#define REV_LEN    13
#define NO_SOURCE  0xff

/* A note: the graph's number, the node's place in it, what it did. */
#define NOTE(graph, place, did) ((uint32_t)(graph) << 14 | (uint32_t)(place) << 4 | (uint32_t)(did))
_Static_assert(MJ_NODES_MAX <= 1024, "a node's place has ten bits");
#define GRAPH_NUMBERS (1u << 18)

struct record {
    uint64_t key;
    int64_t time_us, seq;
    uint32_t did;
    uint16_t size; /* of record and tail, in 8 bytes */
    uint8_t source;
    uint8_t what; /* kind 0x03, op 0x0c, and the bits below */
};
#define IS_FRAME 0x10
#define ON_MAIN  0x20
#define HAS_TAIL 0x40
#define ASIDE    0x80
_Static_assert(sizeof(struct record) == 32, "what an event costs that nothing happened to");

struct tail {
    uint16_t notes;
    uint16_t text_len;
    uint8_t reason, more, rev_len;
    char rev[REV_LEN];
};

#define RECORD_MAX                                                                                 \
    (sizeof(struct record) + sizeof(struct tail) + MJ__WHY_NOTES * sizeof(uint32_t) +              \
     MJ__WHY_TEXTS + 8)
_Static_assert(RECORD_MAX <= BLOCK, "a record fits a block");

struct block {
    size_t used;
    int64_t oldest_us, newest_us; /* of its records */
    uint64_t events;
};

struct place {
    char *name, *file; /* owned */
    unsigned line;
    enum mj_node_type type;
};

struct described {
    uint32_t number;
    char *script;         /* owned */
    struct place *places; /* owned */
    size_t count;
};

struct mj_why {
    uint8_t *bytes;           /* owned: the blocks */
    struct block *blocks;     /* owned */
    size_t count, at;         /* blocks; the one that is written */
    struct described *graphs; /* owned, oldest first */
    size_t graph_count;
    uint32_t last_number;
    int64_t last_seq[MJ_SOURCES_MAX]; /* 0: none yet */
    struct mj_why_gap gaps[GAPS_MAX];
    uint64_t gap_count; /* ever */
    bool shared;
    pthread_mutex_t lock; /* of a shared one */
};

const char *mj_why_did_name(enum mj_why_did did)
{
    static const char *const names[] = {"dropped",       "passed",  "edited", "error",
                                        "error, passed", "no room", "paused"};
    return names[did];
}

struct mj_why *mj_why_new(size_t bytes, bool shared)
{
    struct mj_why *w = mj_calloc(1, sizeof *w);
    if (bytes < MJ_WHY_MIN)
        bytes = MJ_WHY_MIN;
    w->count = bytes / BLOCK;
    w->bytes = mj_alloc(w->count * BLOCK); /* the system gives pages when they are written to */
    w->blocks = mj_calloc(w->count, sizeof *w->blocks);
    w->shared = shared;
    pthread_mutex_init(&w->lock, NULL);
    return w;
}

static void forget_graph(struct described *g)
{
    for (size_t i = 0; i < g->count; i++) {
        free(g->places[i].name);
        free(g->places[i].file);
    }
    free(g->places);
    free(g->script);
}

void mj_why_free(struct mj_why *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->graph_count; i++)
        forget_graph(&w->graphs[i]);
    free(w->graphs);
    free(w->blocks);
    free(w->bytes);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static void enter(struct mj_why *w)
{
    if (w->shared)
        pthread_mutex_lock(&w->lock);
}

static void leave(struct mj_why *w)
{
    if (w->shared)
        pthread_mutex_unlock(&w->lock);
}

/* ---- graphs ---- */

static void describe(struct described *d, const struct mj_graph *graph)
{
    d->script = mj_strdup(graph->script);
    d->places = mj_calloc(graph->count + 1, sizeof *d->places);
    d->count = graph->count;
    for (size_t i = 0; i < graph->count; i++) {
        const struct mj_node *n = graph->nodes[i];
        d->places[i] = (struct place){mj_strdup(n->name), mj_strdup(n->file), n->line, n->type};
    }
}

/* The oldest descriptions go. Those of graphs that still run may be among them when there are very
 * many scripts; their notes then say less. */
void mj__why_graph(struct mj_why *w, struct mj_graph *graph)
{
    if (!w)
        return;
    enter(w);
    if (w->graph_count >= GRAPHS_MAX) {
        forget_graph(&w->graphs[0]);
        memmove(w->graphs, w->graphs + 1, --w->graph_count * sizeof *w->graphs);
    }
    w->graphs = mj_realloc(w->graphs, (w->graph_count + 1) * sizeof *w->graphs);
    struct described *d = &w->graphs[w->graph_count++];
    *d = (struct described){.number = w->last_number = (w->last_number + 1) % GRAPH_NUMBERS};
    describe(d, graph);
    for (size_t i = 0; i < graph->count; i++)
        graph->nodes[i]->place = NOTE(d->number, i, 0);
    leave(w);
}

static const struct described *find_graph(const struct mj_why *w, uint32_t number)
{
    for (size_t i = w->graph_count; i-- > 0;)
        if (w->graphs[i].number == number)
            return &w->graphs[i];
    return NULL;
}

/* ---- writing ---- */

static void add_text(struct mj__why_notes *n, unsigned note, struct mj_span text)
{
    if (text.len > MJ_WHY_TEXT) {
        text.len = MJ_WHY_TEXT;
        while (text.len && (text.ptr[text.len] & 0xc0) == 0x80)
            text.len--;
    }
    if (!text.len || n->text_len + 3 + text.len > sizeof n->texts)
        return;
    uint8_t *p = n->texts + n->text_len;
    p[0] = (uint8_t)note;
    p[1] = (uint8_t)(note >> 8);
    p[2] = (uint8_t)text.len;
    memcpy(p + 3, text.ptr, text.len);
    n->text_len += 3 + text.len;
}

void mj__why_note(struct mj__why_notes *n, struct mj_node *node, enum mj_why_did did)
{
    if (MJ_UNLIKELY(node->reason != NULL)) {
        /* A function that failed may have let the event go on. */
        if (did == MJ_WHY_PASSED || did == MJ_WHY_EDITED)
            did = MJ_WHY_ERROR_PASS;
        if (n->count < MJ__WHY_NOTES)
            add_text(n, n->count, mj_str(node->reason));
        node->reason = NULL;
    }
    if (MJ_LIKELY(n->count < MJ__WHY_NOTES))
        n->notes[n->count++] = node->place | did;
    else
        n->more = true;
}

/* Room for a record, with its size and time. The next block is emptied when this one is full. */
static struct record *claim(struct mj_why *w, size_t size, int64_t time_us)
{
    struct block *b = &w->blocks[w->at];
    if (MJ_UNLIKELY(b->used + size > BLOCK)) {
        w->at = w->at + 1 == w->count ? 0 : w->at + 1;
        b = &w->blocks[w->at];
        *b = (struct block){0};
    }
    if (MJ_UNLIKELY(!b->used))
        b->oldest_us = time_us;
    struct record *r = (struct record *)(void *)(w->bytes + w->at * BLOCK + b->used);
    b->used += size;
    b->newest_us = time_us;
    b->events++;
    r->size = (uint16_t)(size / 8);
    r->time_us = time_us;
    return r;
}

/* `name` is the collection's hash. Not its id: what was dropped unread must get none, since anybody
 * can write any path. */
static uint64_t key_of(uint64_t did, uint64_t name, struct mj_span rkey)
{
    return XXH3_64bits_withSeed(rkey.ptr, rkey.len, did + name);
}

static uint64_t name_of(struct mj__why_notes *n, const struct mj_event *ev, uint32_t collection)
{
    if (MJ_UNLIKELY(!collection || collection >= MJ__WHY_NAMES))
        return mj_hash(ev->collection);
    if (MJ_UNLIKELY(!n->names[collection]))
        n->names[collection] = mj_hash(ev->collection);
    return n->names[collection];
}

static void fill_tail(const struct mj__why_notes *n, struct record *r, struct mj_span rev)
{
    struct tail t = {.notes = (uint16_t)n->count,
                     .text_len = (uint16_t)n->text_len,
                     .reason = (uint8_t)-n->reason,
                     .more = n->more};
    uint8_t *p = (uint8_t *)(r + 1);
    if (rev.len && rev.len <= REV_LEN) {
        t.rev_len = (uint8_t)rev.len;
        memcpy(t.rev, rev.ptr, rev.len);
    }
    memcpy(p, &t, sizeof t);
    p += sizeof t;
    if (n->count)
        memcpy(p, n->notes, n->count * sizeof *n->notes);
    p += n->count * sizeof *n->notes;
    if (n->text_len)
        memcpy(p, n->texts, n->text_len);
}

static size_t tail_size(const struct mj__why_notes *n)
{
    return sizeof(struct tail) + n->count * sizeof *n->notes + n->text_len;
}

static void add_event(struct mj__why_notes *n, const struct mj_event *ev, uint32_t collection,
                      unsigned bits)
{
    struct mj_why *w = n->why;
    bool tail = n->count || n->reason || !(bits & ON_MAIN);
    size_t size = (sizeof(struct record) + (tail ? tail_size(n) : 0) + 7) & ~(size_t)7;
    uint64_t did = mj_hash(ev->did);
    uint64_t key = key_of(did, name_of(n, ev, collection), ev->rkey);
    enter(w);
    struct record *r = claim(w, size, ev->time_us);
    r->key = key;
    r->seq = ev->seq;
    r->did = (uint32_t)did;
    r->source = (uint8_t)n->source;
    r->what = (uint8_t)(ev->kind | (unsigned)ev->op << 2 | bits | (tail ? HAS_TAIL : 0));
    if (MJ_UNLIKELY(tail))
        fill_tail(n, r, ev->rev);
    leave(w);
}

void mj__why_event(struct mj__why_notes *n, const struct mj_event *ev, uint32_t collection,
                   bool main)
{
    add_event(n, ev, collection, main ? ON_MAIN : 0);
}

void mj__why_aside(struct mj__why_notes *n, const struct mj_event *ev)
{
    if (n->why && (n->count || n->reason))
        add_event(n, ev, 0, ASIDE);
}

/* What never became an event. */
static void add_dropped(struct mj__why_notes *n, struct mj_span did, uint64_t key, int64_t seq,
                        int reason, uint8_t what)
{
    struct mj_why *w = n->why;
    mj__why_begin(n);
    n->reason = reason;
    size_t size = (sizeof(struct record) + tail_size(n) + 7) & ~(size_t)7;
    enter(w);
    struct record *r = claim(w, size, mj_now_us());
    r->key = key;
    r->seq = seq;
    r->did = did.len ? (uint32_t)mj_hash(did) : 0;
    r->source = (uint8_t)n->source;
    r->what = what | HAS_TAIL;
    fill_tail(n, r, mj_span(NULL, 0));
    leave(w);
    mj__why_begin(n);
}

void mj__why_operation(struct mj__why_notes *n, struct mj_span did, struct mj_span path,
                       int64_t seq, int reason)
{
    const uint8_t *slash = path.len ? memchr(path.ptr, '/', path.len) : NULL;
    if (!n->why)
        return;
    if (!slash || !did.len) {
        add_dropped(n, did, 0, seq, reason, IS_FRAME);
        return;
    }
    struct mj_span collection = mj_span(path.ptr, (size_t)(slash - path.ptr)),
                   rkey = mj_span(slash + 1, path.len - collection.len - 1);
    add_dropped(n, did, key_of(mj_hash(did), mj_hash(collection), rkey), seq, reason,
                MJ_KIND_COMMIT);
}

void mj__why_frame(struct mj__why_notes *n, struct mj_span did, int64_t seq, int reason)
{
    if (n->why)
        add_dropped(n, did, 0, seq, reason, IS_FRAME);
}

void mj__why_seq(struct mj__why_notes *n, int64_t seq)
{
    struct mj_why *w = n->why;
    if (!w || seq <= 0 || n->source < 0 || n->source >= MJ_SOURCES_MAX)
        return;
    int64_t last = w->last_seq[n->source];
    w->last_seq[n->source] = seq;
    if (MJ_LIKELY(!last || seq <= last + 1))
        return;
    w->gaps[w->gap_count++ % GAPS_MAX] = (struct mj_why_gap){n->source, last + 1, seq, mj_now_us()};
}

/* ---- looking ---- */

struct search {
    struct mj_why *w;
    bool (*fn)(void *ctx, const struct mj_why_seen *seen);
    void *ctx;
    struct mj_why_note notes[MJ__WHY_NOTES];
};

static void name_note(const struct mj_why *w, uint32_t note, struct mj_why_note *out)
{
    const struct described *d = find_graph(w, note >> 14);
    uint32_t place = note >> 4 & 0x3ff;
    *out = (struct mj_why_note){.script = "", .node = "", .file = "", .did = note & 0xf};
    if (!d || place >= d->count)
        return;
    out->script = d->script;
    out->node = d->places[place].name;
    out->file = d->places[place].file;
    out->line = d->places[place].line;
    out->type = d->places[place].type;
}

/* False: enough. */
static bool show(struct search *s, const struct record *r)
{
    struct tail t = {0};
    struct mj_why_seen seen = {.time_us = r->time_us,
                               .seq = r->seq,
                               .source = r->source == NO_SOURCE ? -1 : r->source,
                               .frame = r->what & IS_FRAME,
                               .kind = r->what & 3,
                               .op = r->what >> 2 & 3,
                               .main = r->what & ON_MAIN,
                               .lane = r->what & ASIDE,
                               .notes = s->notes};
    if (!(r->what & HAS_TAIL))
        return s->fn(s->ctx, &seen);
    const uint8_t *p = (const uint8_t *)(r + 1);
    memcpy(&t, p, sizeof t);
    p += sizeof t;
    for (; seen.count < t.notes; p += sizeof(uint32_t)) {
        uint32_t note;
        memcpy(&note, p, sizeof note);
        name_note(s->w, note, &s->notes[seen.count++]);
    }
    for (const uint8_t *end = p + t.text_len; p < end; p += 3 + p[2])
        s->notes[p[0] | p[1] << 8].text = mj_span(p + 3, p[2]);
    seen.reason = -(int)t.reason;
    seen.more = t.more;
    seen.rev = mj_span(t.rev, t.rev_len);
    return s->fn(s->ctx, &seen);
}

/* Calls fn with each record, oldest first; false: stop. */
static void each_record(const struct mj_why *w, bool (*fn)(void *ctx, const struct record *r),
                        void *ctx)
{
    for (size_t i = 1; i <= w->count; i++) {
        size_t block = (w->at + i) % w->count;
        const uint8_t *p = w->bytes + block * BLOCK, *end = p + w->blocks[block].used;
        while (p < end) {
            const struct record *r = (const struct record *)(const void *)p;
            if (!fn(ctx, r))
                return;
            p += (size_t)r->size * 8;
        }
    }
}

struct find {
    struct search search;
    uint64_t key;
    uint32_t did;
    bool account;
};

static bool find_record(void *ctx, const struct record *r)
{
    struct find *f = ctx;
    bool fits = r->did == f->did && (f->account || (r->what & IS_FRAME) || r->key == f->key);
    return !fits || show(&f->search, r);
}

void mj_why_find(struct mj_why *w, const struct mj_why_query *q,
                 bool (*fn)(void *ctx, const struct mj_why_seen *seen), void *ctx)
{
    uint64_t did = mj_hash(q->did);
    struct find *f = mj_calloc(1, sizeof *f);
    f->search.w = w;
    f->search.fn = fn;
    f->search.ctx = ctx;
    f->account = !q->collection.len;
    f->key = key_of(did, mj_hash(q->collection), q->rkey);
    f->did = (uint32_t)did;
    enter(w);
    each_record(w, find_record, f);
    leave(w);
    free(f);
}

struct count {
    uint32_t did;
    struct mj_why_window *out;
};

static bool count_record(void *ctx, const struct record *r)
{
    struct count *c = ctx;
    if (r->did == c->did) {
        c->out->of_did++;
        c->out->did_us = r->time_us;
    }
    return true;
}

void mj_why_window(struct mj_why *w, struct mj_span did, struct mj_why_window *out)
{
    *out = (struct mj_why_window){.bytes = w->count * BLOCK};
    enter(w);
    for (size_t i = 1; i <= w->count; i++) {
        const struct block *b = &w->blocks[(w->at + i) % w->count];
        if (!b->events)
            continue;
        out->oldest_us = out->oldest_us ? out->oldest_us : b->oldest_us;
        out->newest_us = b->newest_us;
        out->events += b->events;
    }
    struct count c = {(uint32_t)mj_hash(did), out};
    if (did.len)
        each_record(w, count_record, &c);
    leave(w);
}

void mj_why_gaps(struct mj_why *w, void (*fn)(void *ctx, const struct mj_why_gap *gap), void *ctx)
{
    for (uint64_t i = w->gap_count > GAPS_MAX ? w->gap_count - GAPS_MAX : 0; i < w->gap_count; i++)
        fn(ctx, &w->gaps[i % GAPS_MAX]);
}
