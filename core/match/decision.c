#include "match/decision.h"

#include "match/index.h"

/* Ids at or above this are not cached (MJ_COLLECTION_NONE among them): the journal gives out
 * fewer, and a table indexed by an id must have an end. */
#define CACHED_IDS 65536

struct answer {
    uint64_t *yes; /* owned; `depends` is its second half */
    uint64_t *depends;
    bool any_depends, reads;
    struct mj__part part; /* of the index, for those that depend */
};

struct mj_decision {
    const struct mj_match **flows; /* owned array of borrowed expressions */
    size_t count, cap, words;
    struct mj_facts *facts;
    struct mj__index *index; /* owned; NULL: what follows has to be made */
    uint64_t *result;        /* owned: the last answer, then two bitmaps to work with */
    struct answer **cached;  /* owned array of borrowed classes, by slot; NULL = not seen */
    size_t slots;
    struct answer **classes; /* owned, distinct */
    size_t class_count, class_cap;
};

static void set_bit(uint64_t *words, size_t i) { words[i / 64] |= UINT64_C(1) << (i % 64); }

static void forget(struct mj_decision *d)
{
    for (size_t i = 0; i < d->class_count; i++) {
        mj__part_deinit(&d->classes[i]->part);
        free(d->classes[i]->yes);
        free(d->classes[i]);
    }
    mj__index_free(d->index);
    free(d->cached);
    free(d->result);
    d->cached = NULL;
    d->result = NULL;
    d->index = NULL;
    d->slots = d->class_count = 0;
}

struct mj_decision *mj_decision_new(void)
{
    struct mj_decision *d = mj_calloc(1, sizeof *d);
    d->facts = mj_facts_new();
    return d;
}

void mj_decision_free(struct mj_decision *d)
{
    if (!d)
        return;
    forget(d);
    mj_facts_free(d->facts);
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

struct lists {
    const struct mj_words **items; /* owned array of borrowed lists */
    size_t count, cap;
};

static void collect_lists(struct lists *l, const struct mj_match *m)
{
    for (size_t i = 0; i < m->count; i++)
        collect_lists(l, m->children[i]);
    if (!m->words)
        return;
    if (l->count == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 16;
        l->items = mj_realloc(l->items, l->cap * sizeof *l->items);
    }
    l->items[l->count++] = m->words;
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return (x > y) - (x < y);
}

size_t mj_decision_words(const struct mj_decision *d)
{
    struct lists l = {0};
    size_t bytes = 0;
    for (size_t i = 0; i < d->count; i++)
        collect_lists(&l, d->flows[i]);
    if (l.count)
        qsort(l.items, l.count, sizeof *l.items, by_address);
    for (size_t i = 0; i < l.count; i++)
        if (!i || l.items[i] != l.items[i - 1])
            bytes += mj_words_bytes(l.items[i]);
    free(l.items);
    return bytes;
}

struct mj_facts *mj_decision_facts(struct mj_decision *d) { return d->facts; }

void mj_decision_ready(struct mj_decision *d)
{
    if (d->index)
        return;
    d->words = d->count / 64 + 1;
    d->result = mj_calloc(3 * d->words, sizeof(uint64_t));
    d->index = mj__index_new(d->flows, d->count);
}

/* Works a class out, and shares it with an equal one: strangers may invent collections, but flows
 * tell few of them apart. */
static struct answer *make_class(struct mj_decision *d, const struct mj_event *ev)
{
    struct answer made = {.yes = mj_calloc(d->words * 2, sizeof(uint64_t))};
    made.depends = made.yes + d->words;
    for (size_t i = 0; i < d->count; i++) {
        enum mj__tri t = mj__match_class(d->flows[i], ev);
        if (t == MJ__YES)
            set_bit(made.yes, i);
        if (t == MJ__DEPENDS) {
            set_bit(made.depends, i);
            made.any_depends = true;
            made.reads |= mj_match_reads_record(d->flows[i]);
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
    mj__part_init(&c->part, d->index, c->depends);
    return d->classes[d->class_count++] = c;
}

/* Slots 0 and 1 are identity and account; a commit has three per collection id. */
static size_t slot_of(const struct mj_event *ev, uint32_t collection)
{
    if (ev->kind != MJ_KIND_COMMIT)
        return ev->kind == MJ_KIND_IDENTITY ? 0 : 1;
    return 3 * (size_t)collection + (ev->op == MJ_OP_NONE ? 0 : (size_t)ev->op - MJ_OP_CREATE) + 2;
}

/* The class of the event; NULL for events of no class that is kept. */
static const struct answer *class_of(struct mj_decision *d, const struct mj_event *ev,
                                     uint32_t collection)
{
    mj_decision_ready(d);
    if (MJ_UNLIKELY(collection >= CACHED_IDS ||
                    (ev->kind == MJ_KIND_COMMIT && ev->op == MJ_OP_NONE)))
        return NULL;
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

static bool reads_at_all(const struct mj_decision *d)
{
    for (size_t i = 0; i < d->count; i++)
        if (mj_match_reads_record(d->flows[i]))
            return true;
    return false;
}

bool mj_decision_reads(struct mj_decision *d, const struct mj_event *ev, uint32_t collection)
{
    const struct answer *c = class_of(d, ev, collection);
    return c ? c->reads : reads_at_all(d);
}

/* Asks the flows of one word of candidates. */
static uint64_t eval_word(struct mj_decision *d, size_t word, uint64_t candidates, bool all)
{
    uint64_t hits = 0;
    for (; candidates; candidates &= candidates - 1) {
        size_t bit = (size_t)__builtin_ctzll(candidates), flow = word * 64 + bit;
        if (all ? mj__index_eval_all(d->index, flow) : mj__index_eval(d->index, flow))
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
    const struct answer *c = class_of(d, ev, collection);
    mj_facts_begin(d->facts, ev);
    if (MJ_LIKELY(c && !c->any_depends))
        return c->yes;
    mj__index_begin(d->index, d->facts);
    if (MJ_UNLIKELY(!c)) {
        for (size_t w = 0; w < d->words; w++)
            d->result[w] = eval_word(d, w, all_flows(d, w), true);
        return d->result;
    }
    uint64_t *sure = d->result + d->words, *maybe = sure + d->words;
    memset(sure, 0, 2 * d->words * sizeof *sure);
    mj__index_find(d->index, &c->part, sure, maybe);
    for (size_t w = 0; w < d->words; w++) {
        uint64_t hits = c->yes[w] | (sure[w] & c->depends[w]);
        d->result[w] = hits | eval_word(d, w, maybe[w] & c->depends[w] & ~hits, false);
    }
    return d->result;
}
