#include "match/decision.h"

#include "base/hash.h"

/* Ids at or above this are not cached (MJ_COLLECTION_NONE among them): the journal gives out
 * fewer, and a table indexed by an id must have an end. */
#define CACHED_IDS 65536

struct answer {
    uint64_t *yes; /* owned; `depends` is its second half */
    uint64_t *depends;
    bool any_depends;
};

struct did {
    struct mj_span did; /* borrowed from an expression */
    uint64_t *flows;    /* owned: which flows name it */
};

struct mj_decision {
    const struct mj_match **flows; /* owned array of borrowed expressions */
    size_t count, cap, words;
    bool ready;             /* what follows is up to date */
    uint64_t *indexed;      /* owned: flows that are found by DID */
    uint64_t *result;       /* owned: the last answer */
    struct answer **cached; /* owned array of borrowed classes, by slot; NULL = not seen */
    size_t slots;
    struct answer **classes; /* owned, distinct */
    size_t class_count, class_cap;
    struct did *dids; /* owned; open addressing, at most half full */
    size_t did_count, did_cap;
    size_t adding; /* the flow whose DIDs are being indexed */
};

static void set_bit(uint64_t *words, size_t i) { words[i / 64] |= UINT64_C(1) << (i % 64); }

static void forget(struct mj_decision *d)
{
    for (size_t i = 0; i < d->class_count; i++) {
        free(d->classes[i]->yes);
        free(d->classes[i]);
    }
    for (size_t i = 0; i < d->did_cap; i++)
        free(d->dids[i].flows);
    free(d->cached);
    free(d->dids);
    free(d->indexed);
    free(d->result);
    d->cached = NULL;
    d->dids = NULL;
    d->indexed = d->result = NULL;
    d->slots = d->class_count = d->did_count = d->did_cap = 0;
    d->ready = false;
}

struct mj_decision *mj_decision_new(void) { return mj_calloc(1, sizeof(struct mj_decision)); }

void mj_decision_free(struct mj_decision *d)
{
    if (!d)
        return;
    forget(d);
    free(d->classes);
    free(d->flows);
    free(d);
}

size_t mj_decision_add(struct mj_decision *d, const struct mj_match *m)
{
    forget(d);
    if (d->count == d->cap) {
        d->cap = d->cap ? d->cap * 2 : 16;
        d->flows = mj_realloc(d->flows, d->cap * sizeof *d->flows);
    }
    d->flows[d->count] = m;
    return d->count++;
}

size_t mj_decision_count(const struct mj_decision *d) { return d->count; }

static struct did *did_slot(struct did *dids, size_t cap, struct mj_span did)
{
    size_t i = mj_hash(did) & (cap - 1);
    while (dids[i].flows && !mj_span_eq(dids[i].did, did))
        i = (i + 1) & (cap - 1);
    return &dids[i];
}

static void index_did(void *ctx, struct mj_span did)
{
    struct mj_decision *d = ctx;
    if (d->did_count * 2 >= d->did_cap) {
        size_t cap = d->did_cap ? d->did_cap * 2 : 16;
        struct did *dids = mj_calloc(cap, sizeof *dids);
        for (size_t i = 0; i < d->did_cap; i++)
            if (d->dids[i].flows)
                *did_slot(dids, cap, d->dids[i].did) = d->dids[i];
        free(d->dids);
        d->dids = dids;
        d->did_cap = cap;
    }
    struct did *slot = did_slot(d->dids, d->did_cap, did);
    if (!slot->flows) {
        slot->did = did;
        slot->flows = mj_calloc(d->words, sizeof(uint64_t));
        d->did_count++;
    }
    set_bit(slot->flows, d->adding);
}

static void prepare(struct mj_decision *d)
{
    d->words = d->count / 64 + 1;
    d->indexed = mj_calloc(d->words, sizeof(uint64_t));
    d->result = mj_calloc(d->words, sizeof(uint64_t));
    for (d->adding = 0; d->adding < d->count; d->adding++)
        if (mj_match_dids(d->flows[d->adding], index_did, d))
            set_bit(d->indexed, d->adding);
    d->ready = true;
}

/* Works a class out, and shares it with an equal one: strangers may invent collections, but flows
 * tell few of them apart. */
static struct answer *make_class(struct mj_decision *d, const struct mj_event *ev)
{
    struct answer made = {.yes = mj_calloc(d->words * 2, sizeof(uint64_t))};
    made.depends = made.yes + d->words;
    for (size_t i = 0; i < d->count; i++) {
        enum mj_tri t = mj_match_without_did(d->flows[i], ev);
        if (t == MJ_YES)
            set_bit(made.yes, i);
        if (t == MJ_DEPENDS) {
            set_bit(made.depends, i);
            made.any_depends = true;
        }
    }
    for (size_t i = 0; i < d->class_count; i++)
        if (memcmp(d->classes[i]->yes, made.yes, d->words * 2 * sizeof(uint64_t)) == 0) {
            free(made.yes);
            return d->classes[i];
        }
    if (d->class_count == d->class_cap) {
        d->class_cap = d->class_cap ? d->class_cap * 2 : 16;
        d->classes = mj_realloc(d->classes, d->class_cap * sizeof *d->classes);
    }
    struct answer *c = mj_alloc(sizeof *c);
    *c = made;
    return d->classes[d->class_count++] = c;
}

/* Slots 0 and 1 are identity and account; a commit has three per collection id. */
static size_t slot_of(const struct mj_event *ev, uint32_t collection)
{
    if (ev->kind != MJ_KIND_COMMIT)
        return ev->kind == MJ_KIND_IDENTITY ? 0 : 1;
    return 3 * (size_t)collection + (ev->op == MJ_OP_NONE ? 0 : (size_t)ev->op - MJ_OP_CREATE) + 2;
}

static struct answer *class_of(struct mj_decision *d, const struct mj_event *ev,
                               uint32_t collection)
{
    size_t slot = slot_of(ev, collection);
    if (MJ_UNLIKELY(slot >= d->slots)) {
        size_t slots = d->slots ? d->slots : 64;
        while (slots <= slot)
            slots *= 2;
        d->cached = mj_realloc(d->cached, slots * sizeof *d->cached);
        memset(d->cached + d->slots, 0, (slots - d->slots) * sizeof *d->cached);
        d->slots = slots;
    }
    if (MJ_UNLIKELY(!d->cached[slot]))
        d->cached[slot] = make_class(d, ev);
    return d->cached[slot];
}

/* Evaluates the flows of one word of candidates. */
static uint64_t eval_word(const struct mj_decision *d, size_t word, uint64_t candidates,
                          const struct mj_event *ev)
{
    uint64_t hits = 0;
    for (; candidates; candidates &= candidates - 1) {
        unsigned bit = (unsigned)__builtin_ctzll(candidates);
        if (mj_match_eval(d->flows[word * 64 + bit], ev))
            hits |= UINT64_C(1) << bit;
    }
    return hits;
}

static uint64_t all_flows(const struct mj_decision *d, size_t word)
{
    size_t left = d->count - word * 64;
    return left >= 64 ? UINT64_MAX : (UINT64_C(1) << left) - 1;
}

const uint64_t *mj_decision_eval(struct mj_decision *d, const struct mj_event *ev,
                                 uint32_t collection)
{
    if (MJ_UNLIKELY(!d->ready))
        prepare(d);
    if (MJ_UNLIKELY(collection >= CACHED_IDS ||
                    (ev->kind == MJ_KIND_COMMIT && ev->op == MJ_OP_NONE))) {
        for (size_t w = 0; w < d->words; w++)
            d->result[w] = eval_word(d, w, all_flows(d, w), ev);
        return d->result;
    }
    const struct answer *c = class_of(d, ev, collection);
    if (MJ_LIKELY(!c->any_depends))
        return c->yes;
    const struct did *named = NULL;
    if (d->did_cap)
        named = did_slot(d->dids, d->did_cap, ev->did);
    for (size_t w = 0; w < d->words; w++) {
        uint64_t ask = c->depends[w] & ~d->indexed[w];
        if (named && named->flows)
            ask |= c->depends[w] & d->indexed[w] & named->flows[w];
        d->result[w] = c->yes[w] | eval_word(d, w, ask, ev);
    }
    return d->result;
}
