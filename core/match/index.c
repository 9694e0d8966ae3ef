#include "match/index.h"

#include "base/err.h"
#include "base/hash.h"
#include "match/automaton.h"

/* Things by number, each with the flows that are filed under it. */
struct pair {
    uint32_t thing, flow;
};

struct postings {
    struct pair *pairs; /* owned */
    size_t count, cap;
    uint32_t *starts; /* owned; by thing, and one more */
    uint32_t *flows;  /* owned */
};

struct key {
    struct mj_span value; /* borrowed from an expression */
    enum mj_field field;
    uint32_t path;
};

/* Where a key is, if it is. */
struct place {
    uint32_t tag; /* of its hash */
    uint32_t key; /* its number + 1; 0: free */
};

struct flow {
    const struct mj_match *match; /* borrowed */
    const struct mj_match **open; /* owned array: what the class does not decide; all must hold */
    size_t open_count;
    bool sure;
};

/* An atom on words, whoever asks it. */
struct slot {
    struct mj_words *words; /* borrowed from an expression */
    bool all;
    uint32_t found; /* the event it was found in */
};

struct mj__index {
    struct flow *flows; /* owned */
    size_t flow_count;

    struct key *keys; /* owned */
    size_t key_count, key_cap;
    struct place *places; /* owned; open addressing, at most half full */
    size_t place_cap;
    struct postings key_flows;

    const struct mj_match **paths; /* owned array of borrowed atoms, one per distinct path */
    size_t path_count;
    const struct mj_match **asked; /* owned array of borrowed questions */
    uint64_t *asked_hashes;        /* owned */
    size_t asked_count;
    struct postings asked_flows;

    struct slot *slots; /* owned */
    size_t slot_count;
    struct postings slot_flows, word_slots; /* of the latter the "flows" are slots */
    struct mj_automaton *automaton;         /* owned; NULL when nobody looks for words */
    uint32_t *seen;                         /* owned; by word: the event it was found in */
    size_t word_count;
    struct {
        const struct mj_match *atom;
        uint32_t slot;
    } * atoms; /* owned; open addressing, at most half full */
    size_t atom_cap;

    /* The event at hand. */
    struct mj_facts *facts; /* borrowed */
    uint32_t event;         /* its number */
    bool text_done, words_done, in_text;
    uint64_t *sure, *maybe; /* borrowed while candidates are collected */
};

/* ---- postings ---- */

static void file(struct postings *p, size_t thing, size_t flow)
{
    if (p->count == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 64;
        p->pairs = mj_realloc(p->pairs, p->cap * sizeof *p->pairs);
    }
    p->pairs[p->count++] = (struct pair){(uint32_t)thing, (uint32_t)flow};
}

/* Sorts the pairs by thing, for `things` of them. */
static void file_all(struct postings *p, size_t things)
{
    p->starts = mj_calloc(things + 2, sizeof *p->starts);
    p->flows = mj_alloc((p->count + 1) * sizeof *p->flows);
    for (size_t i = 0; i < p->count; i++)
        p->starts[p->pairs[i].thing + 2]++;
    for (size_t i = 2; i < things + 2; i++)
        p->starts[i] += p->starts[i - 1];
    for (size_t i = 0; i < p->count; i++)
        p->flows[p->starts[p->pairs[i].thing + 1]++] = p->pairs[i].flow;
}

static void postings_deinit(struct postings *p)
{
    free(p->pairs);
    free(p->starts);
    free(p->flows);
}

/* ---- what flows insist on ---- */

/* How few events a question lets through, at a guess: 0 for one that the class decides, 1 for one
 * that has to be asked. */
static unsigned selects(const struct mj_match *m)
{
    static const unsigned char by_field[] = {
        [MJ_FIELD_DID] = 9,   [MJ_FIELD_SUBJECT] = 8, [MJ_FIELD_REPLY_TO] = 8,  [MJ_FIELD_ROOT] = 8,
        [MJ_FIELD_QUOTE] = 8, [MJ_FIELD_MENTION] = 8, [MJ_FIELD_LINK] = 7,      [MJ_FIELD_TAG] = 7,
        [MJ_FIELD_PATH] = 6,  [MJ_FIELD_LANG] = 2,    [MJ_FIELD_COLLECTION] = 0};
    unsigned best = 0, worst = 9;
    if (mj__match_is_class(m))
        return 0;
    switch (m->type) {
    case MJ__SET:
        return by_field[m->field];
    case MJ__WORDS:
        return 5;
    case MJ__AND:
        for (size_t i = 0; i < m->count; i++) {
            unsigned n = selects(m->children[i]);
            best = n > best ? n : best;
        }
        return best;
    case MJ__OR:
        /* Every child must be something that can be looked up, or the whole is asked. */
        for (size_t i = 0; i < m->count; i++) {
            unsigned n = selects(m->children[i]);
            worst = n < worst ? n : worst;
        }
        return worst > 1 ? worst : 1;
    default:
        return 1;
    }
}

static uint32_t slot_of(struct mj__index *x, const struct mj_match *atom)
{
    size_t i = 0;
    while (i < x->slot_count && (x->slots[i].words != atom->words || x->slots[i].all != atom->all))
        i++;
    if (i == x->slot_count) {
        if ((i & (i - 1)) == 0)
            x->slots = mj_realloc(x->slots, (i ? 2 * i : 1) * sizeof *x->slots);
        x->slots[x->slot_count++] = (struct slot){atom->words, atom->all, 0};
    }
    return (uint32_t)i;
}

static uint32_t path_of(struct mj__index *x, const struct mj_match *atom)
{
    size_t i = 0;
    while (i < x->path_count && !mj_span_eq(x->paths[i]->path_text, atom->path_text))
        i++;
    if (i == x->path_count) {
        if ((i & (i - 1)) == 0)
            x->paths = mj_realloc(x->paths, (i ? 2 * i : 1) * sizeof *x->paths);
        x->paths[x->path_count++] = atom;
    }
    return (uint32_t)i;
}

static uint64_t key_hash(enum mj_field field, uint32_t path, struct mj_span value)
{
    return (mj_hash(value) ^ ((uint64_t)path << 8 | (unsigned)field)) * 0x9e3779b97f4a7c15;
}

static bool same_key(const struct key *k, enum mj_field field, uint32_t path, struct mj_span value)
{
    return k->field == field && k->path == path && mj_span_eq(k->value, value);
}

/* The place of the key, or the free one where it belongs. */
static struct place *place_of(const struct mj__index *x, uint64_t hash, enum mj_field field,
                              uint32_t path, struct mj_span value)
{
    size_t i = hash >> 32 & (x->place_cap - 1);
    for (;; i = (i + 1) & (x->place_cap - 1)) {
        struct place *p = &x->places[i];
        if (!p->key ||
            (p->tag == (uint32_t)hash && same_key(&x->keys[p->key - 1], field, path, value)))
            return p;
    }
}

static void grow_places(struct mj__index *x)
{
    size_t cap = x->place_cap ? 2 * x->place_cap : 64;
    free(x->places);
    x->places = mj_calloc(cap, sizeof *x->places);
    x->place_cap = cap;
    for (size_t i = 0; i < x->key_count; i++) {
        const struct key *k = &x->keys[i];
        uint64_t hash = key_hash(k->field, k->path, k->value);
        *place_of(x, hash, k->field, k->path, k->value) =
            (struct place){(uint32_t)hash, (uint32_t)i + 1};
    }
}

static void file_key(struct mj__index *x, enum mj_field field, uint32_t path, struct mj_span value,
                     size_t flow)
{
    if (2 * x->key_count >= x->place_cap)
        grow_places(x);
    uint64_t hash = key_hash(field, path, value);
    struct place *p = place_of(x, hash, field, path, value);
    if (!p->key) {
        if (x->key_count == x->key_cap) {
            x->key_cap = x->key_cap ? 2 * x->key_cap : 64;
            x->keys = mj_realloc(x->keys, x->key_cap * sizeof *x->keys);
        }
        x->keys[x->key_count++] = (struct key){value, field, path};
        *p = (struct place){(uint32_t)hash, (uint32_t)x->key_count};
    }
    file(&x->key_flows, p->key - 1, flow);
}

static uint64_t question_hash(const struct mj_match *m)
{
    uint64_t h = (uint64_t)m->type << 8 | (unsigned)m->field << 4 | (unsigned)m->all;
    h = h * 31 + m->mask + m->set.count;
    h ^= mj_hash(m->prefix) * 3 + mj_hash(m->path_text) * 5 + (uintptr_t)m->words +
         (uintptr_t)m->members * 7;
    for (size_t i = 0; i < m->count; i++)
        h = h * 0x9e3779b97f4a7c15 + question_hash(m->children[i]);
    return h;
}

static bool same_set(const struct mj_match *a, const struct mj_match *b)
{
    if (a->set.count != b->set.count)
        return false;
    for (size_t i = 0; i < a->set.cap; i++)
        if (a->set.slots[i].ptr && !mj__match_in_set(b, a->set.slots[i]))
            return false;
    return true;
}

static bool same_question(const struct mj_match *a, const struct mj_match *b)
{
    if (a->type != b->type || a->field != b->field || a->mask != b->mask || a->all != b->all ||
        a->count != b->count || a->words != b->words || a->members != b->members ||
        !mj_span_eq(a->prefix, b->prefix) || !mj_span_eq(a->path_text, b->path_text) ||
        !same_set(a, b))
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!same_question(a->children[i], b->children[i]))
            return false;
    return true;
}

static void file_question(struct mj__index *x, const struct mj_match *m, size_t flow)
{
    uint64_t hash = question_hash(m);
    size_t i = 0, n = x->asked_count;
    while (i < n && (x->asked_hashes[i] != hash || !same_question(x->asked[i], m)))
        i++;
    if (i == n) {
        if ((n & (n - 1)) == 0) {
            x->asked = mj_realloc(x->asked, (n ? 2 * n : 1) * sizeof *x->asked);
            x->asked_hashes =
                mj_realloc(x->asked_hashes, (n ? 2 * n : 1) * sizeof *x->asked_hashes);
        }
        x->asked[n] = m;
        x->asked_hashes[n] = hash;
        x->asked_count++;
    }
    file(&x->asked_flows, i, flow);
}

/* Files a flow under what `m`, a part of it, insists on. True when one of that being met is the
 * same as `m` holding. */
static bool file_flow(struct mj__index *x, const struct mj_match *m, size_t flow)
{
    unsigned n = selects(m);
    if (n <= 1) {
        file_question(x, m, flow);
        return true;
    }
    bool sure = true;
    uint32_t path;
    size_t i = 0;
    switch (m->type) {
    case MJ__SET:
        path = m->path ? path_of(x, m) : 0;
        for (; i < m->set.cap; i++)
            if (m->set.slots[i].ptr)
                file_key(x, m->field, path, m->set.slots[i], flow);
        return true;
    case MJ__WORDS:
        file(&x->slot_flows, slot_of(x, m), flow);
        return true;
    case MJ__AND:
        while (selects(m->children[i]) != n)
            i++;
        return file_flow(x, m->children[i], flow) && m->count == 1;
    default:
        for (; i < m->count; i++)
            sure &= file_flow(x, m->children[i], flow);
        return sure;
    }
}

/* Splits a flow's expression into what the class decides, which is no more asked, and the rest. */
static void add_flow(struct mj__index *x, size_t i, const struct mj_match *m)
{
    struct flow *f = &x->flows[i];
    f->match = m;
    if (mj__match_is_class(m))
        return;
    if (m->type != MJ__AND) {
        f->open = mj_alloc(sizeof *f->open);
        f->open[f->open_count++] = m;
        f->sure = file_flow(x, m, i);
        return;
    }
    f->open = mj_alloc((m->count + 1) * sizeof *f->open);
    const struct mj_match *best = NULL;
    for (size_t k = 0; k < m->count; k++) {
        const struct mj_match *child = m->children[k];
        if (mj__match_is_class(child))
            continue;
        f->open[f->open_count++] = child;
        if (!best || selects(child) > selects(best))
            best = child;
    }
    f->sure = file_flow(x, best, i) && f->open_count == 1;
}

/* ---- words ---- */

static size_t count_atoms(const struct mj_match *m)
{
    size_t n = m->type == MJ__WORDS;
    for (size_t i = 0; i < m->count; i++)
        n += count_atoms(m->children[i]);
    return n;
}

static size_t atom_place(const struct mj__index *x, const struct mj_match *atom)
{
    size_t i = ((uintptr_t)atom >> 4) * 0x9e3779b97f4a7c15 >> 32 & (x->atom_cap - 1);
    while (x->atoms[i].atom && x->atoms[i].atom != atom)
        i = (i + 1) & (x->atom_cap - 1);
    return i;
}

static void add_atoms(struct mj__index *x, const struct mj_match *m)
{
    if (m->type == MJ__WORDS) {
        size_t i = atom_place(x, m);
        x->atoms[i].atom = m;
        x->atoms[i].slot = slot_of(x, m);
    }
    for (size_t i = 0; i < m->count; i++)
        add_atoms(x, m->children[i]);
}

static void add_words(struct mj__index *x)
{
    size_t atoms = 0, words = 0, n = 0;
    for (size_t i = 0; i < x->flow_count; i++)
        atoms += count_atoms(x->flows[i].match);
    if (!atoms)
        return;
    for (x->atom_cap = 2; x->atom_cap < 2 * atoms; x->atom_cap *= 2) {
    }
    x->atoms = mj_calloc(x->atom_cap, sizeof *x->atoms);
    for (size_t i = 0; i < x->flow_count; i++)
        add_atoms(x, x->flows[i].match);
    for (size_t i = 0; i < x->slot_count; i++)
        words += mj_words_count(x->slots[i].words);
    struct mj_span *patterns = mj_alloc((words + 1) * sizeof *patterns);
    for (size_t i = 0; i < x->slot_count; i++)
        for (size_t k = 0; k < mj_words_count(x->slots[i].words); k++)
            patterns[n++] = mj_words_stream(x->slots[i].words, k);
    x->automaton = mj_automaton_new(patterns, n);
    x->seen = mj_calloc(n + 1, sizeof *x->seen);
    x->word_count = n;
    free(patterns);
    n = 0;
    for (size_t i = 0; i < x->slot_count; i++)
        for (size_t k = 0; k < mj_words_count(x->slots[i].words); k++)
            file(&x->word_slots, mj_automaton_alias(x->automaton, (uint32_t)n++), i);
    file_all(&x->word_slots, n);
}

/* ---- made once ---- */

struct mj__index *mj__index_new(const struct mj_match *const *flows, size_t n)
{
    struct mj__index *x = mj_calloc(1, sizeof *x);
    x->flows = mj_calloc(n + 1, sizeof *x->flows);
    x->flow_count = n;
    for (size_t i = 0; i < n; i++)
        add_flow(x, i, flows[i]);
    add_words(x);
    file_all(&x->key_flows, x->key_count);
    file_all(&x->asked_flows, x->asked_count);
    file_all(&x->slot_flows, x->slot_count);
    return x;
}

void mj__index_free(struct mj__index *x)
{
    if (!x)
        return;
    for (size_t i = 0; i < x->flow_count; i++)
        free(x->flows[i].open);
    postings_deinit(&x->key_flows);
    postings_deinit(&x->asked_flows);
    postings_deinit(&x->slot_flows);
    postings_deinit(&x->word_slots);
    mj_automaton_free(x->automaton);
    free(x->seen);
    free(x->flows);
    free(x->keys);
    free(x->places);
    free(x->paths);
    free(x->asked);
    free(x->asked_hashes);
    free(x->slots);
    free(x->atoms);
    free(x);
}

static bool has_bit(const uint64_t *words, size_t i) { return words[i / 64] >> (i % 64) & 1; }

/* Adds a number to a list unless it is in it. The newest first: numbers tend to repeat. */
static void note(uint32_t **list, size_t *count, uint32_t n)
{
    for (size_t i = *count; i--;)
        if ((*list)[i] == n)
            return;
    *list = mj_realloc(*list, (*count + 1) * sizeof **list);
    (*list)[(*count)++] = n;
}

void mj__part_init(struct mj__part *p, const struct mj__index *x, const uint64_t *flows)
{
    *p = (struct mj__part){0};
    for (size_t i = 0; i < x->key_flows.count; i++) {
        if (!has_bit(flows, x->key_flows.pairs[i].flow))
            continue;
        const struct key *k = &x->keys[x->key_flows.pairs[i].thing];
        if (k->field == MJ_FIELD_PATH)
            note(&p->paths, &p->path_count, k->path);
        else
            p->fields |= 1u << k->field;
    }
    for (size_t i = 0; i < x->asked_flows.count; i++)
        if (has_bit(flows, x->asked_flows.pairs[i].flow))
            note(&p->asked, &p->asked_count, x->asked_flows.pairs[i].thing);
    for (size_t i = 0; i < x->slot_flows.count; i++)
        if (has_bit(flows, x->slot_flows.pairs[i].flow)) {
            bool all = x->slots[x->slot_flows.pairs[i].thing].all;
            p->words |= all;
            p->text |= !all;
        }
}

void mj__part_deinit(struct mj__part *p)
{
    free(p->paths);
    free(p->asked);
}

/* ---- per event ---- */

void mj__index_begin(struct mj__index *x, struct mj_facts *facts)
{
    x->facts = facts;
    x->text_done = x->words_done = false;
    if (MJ_UNLIKELY(!++x->event)) { /* numbers have gone round: none may look like a new one */
        for (size_t i = 0; i < x->slot_count; i++)
            x->slots[i].found = 0;
        memset(x->seen, 0, x->word_count * sizeof *x->seen);
        x->event = 1;
    }
}

/* The flows filed under a thing become candidates. */
static void take(struct mj__index *x, const struct postings *p, size_t thing)
{
    for (uint32_t i = p->starts[thing]; i < p->starts[thing + 1]; i++) {
        uint32_t flow = p->flows[i];
        uint64_t *words = x->flows[flow].sure ? x->sure : x->maybe;
        words[flow / 64] |= UINT64_C(1) << (flow % 64);
    }
}

/* The text comes before the other words, so that what has been found once says nothing new: however
 * often a stranger repeats a word, it costs each list once. */
static enum mj_scan found_word(void *ctx, uint32_t word)
{
    struct mj__index *x = ctx;
    const struct postings *p = &x->word_slots;
    if (x->seen[word] == x->event)
        return MJ_SCAN_SEEN;
    x->seen[word] = x->event;
    for (uint32_t i = p->starts[word]; i < p->starts[word + 1]; i++) {
        struct slot *s = &x->slots[p->flows[i]];
        if (s->found == x->event || !(s->all || x->in_text))
            continue;
        s->found = x->event;
        if (x->maybe)
            take(x, &x->slot_flows, p->flows[i]);
    }
    return MJ_SCAN_ON;
}

/* Looks for everybody's words in the text, and with `all` in the record's other words. */
static void scan(struct mj__index *x, bool all)
{
    struct mj_span stream = all ? mj_facts_words(x->facts) : (struct mj_span){NULL, 0},
                   text = mj_facts_text(x->facts);
    if (!x->text_done) {
        x->text_done = x->in_text = true;
        mj_automaton_scan(x->automaton, text, found_word, x);
    }
    if (all && !x->words_done) {
        x->words_done = true;
        x->in_text = false;
        if (stream.len > text.len)
            mj_automaton_scan(x->automaton, mj_span(stream.ptr + text.len, stream.len - text.len),
                              found_word, x);
    }
}

static void look_up(struct mj__index *x, enum mj_field field, uint32_t path, struct mj_span value)
{
    uint64_t hash = key_hash(field, path, value);
    const struct place *p = place_of(x, hash, field, path, value);
    if (p->key)
        take(x, &x->key_flows, p->key - 1);
}

static bool holds_words(void *ctx, const struct mj_match *atom)
{
    struct mj__index *x = ctx;
    if (atom->all ? !x->words_done : !x->text_done)
        scan(x, atom->all);
    return x->slots[x->atoms[atom_place(x, atom)].slot].found == x->event;
}

void mj__index_find(struct mj__index *x, const struct mj__part *p, uint64_t *sure, uint64_t *maybe)
{
    x->sure = sure;
    x->maybe = maybe;
    if (p->fields & 1u << MJ_FIELD_DID)
        look_up(x, MJ_FIELD_DID, 0, mj_facts_event(x->facts)->did);
    for (unsigned fields = p->fields & ~(1u << MJ_FIELD_DID); fields; fields &= fields - 1) {
        enum mj_field field = (enum mj_field)__builtin_ctz(fields);
        struct mj_values values = mj_facts_values(x->facts, field);
        for (size_t i = 0; i < values.count; i++)
            look_up(x, field, 0, values.items[i]);
    }
    for (size_t i = 0; i < p->path_count; i++) {
        struct mj_span item = mj_facts_item(x->facts, x->paths[p->paths[i]]->path);
        if (item.len)
            look_up(x, MJ_FIELD_PATH, p->paths[i], item);
    }
    if (p->text || p->words)
        scan(x, p->words);
    x->maybe = NULL;
    for (size_t i = 0; i < p->asked_count; i++)
        if (mj__match_eval(x->asked[p->asked[i]], x->facts, holds_words, x)) {
            x->maybe = maybe;
            take(x, &x->asked_flows, p->asked[i]);
            x->maybe = NULL;
        }
}

bool mj__index_eval(struct mj__index *x, size_t flow)
{
    const struct flow *f = &x->flows[flow];
    for (size_t i = 0; i < f->open_count; i++)
        if (!mj__match_eval(f->open[i], x->facts, holds_words, x))
            return false;
    return true;
}

bool mj__index_eval_all(struct mj__index *x, size_t flow)
{
    return mj__match_eval(x->flows[flow].match, x->facts, holds_words, x);
}
