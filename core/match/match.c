#include "match/match.h"

#include "base/err.h"
#include "base/hash.h"
#include "match/tree.h"

static struct mj_match *new_match(enum mj__type type)
{
    struct mj_match *m = mj_calloc(1, sizeof *m);
    m->type = type;
    return m;
}

struct mj_match *mj_match_and(void) { return new_match(MJ__AND); }
struct mj_match *mj_match_or(void) { return new_match(MJ__OR); }
struct mj_match *mj_match_has_text(void) { return new_match(MJ__HAS_TEXT); }
struct mj_match *mj_match_is_reply(void) { return new_match(MJ__IS_REPLY); }

struct mj_match *mj_match_not(struct mj_match *child)
{
    struct mj_match *m = new_match(MJ__NOT);
    mj_match_add(m, child);
    return m;
}

struct mj_match *mj_match_kinds(unsigned mask)
{
    struct mj_match *m = new_match(MJ__KINDS);
    m->mask = mask;
    return m;
}

struct mj_match *mj_match_ops(unsigned mask)
{
    struct mj_match *m = new_match(MJ__OPS);
    m->mask = mask;
    return m;
}

static struct mj_match *new_atom(enum mj__type type, enum mj_field field)
{
    struct mj_match *m = new_match(type);
    m->field = field;
    return m;
}

struct mj_match *mj_match_set(enum mj_field field) { return new_atom(MJ__SET, field); }
struct mj_match *mj_match_present(enum mj_field field) { return new_atom(MJ__PRESENT, field); }

struct mj_match *mj_match_prefix(enum mj_field field, struct mj_span prefix)
{
    struct mj_match *m = new_atom(MJ__PREFIX, field);
    m->prefix = mj_span(mj_span_dup(prefix), prefix.len);
    return m;
}

struct mj_match *mj_match_member(enum mj_field field, struct mj_set *set)
{
    struct mj_match *m = new_atom(MJ__MEMBER, field);
    m->members = set;
    return m;
}

struct mj_match *mj_match_words(struct mj_words *words, bool all)
{
    struct mj_match *m = new_match(MJ__WORDS);
    m->words = words;
    m->all = all;
    return m;
}

int mj_match_path(struct mj_match *m, struct mj_span path)
{
    m->path_text = mj_span(mj_span_dup(path), path.len);
    m->path = mj_calloc(1, sizeof *m->path);
    return path.len ? mj_path_parse(m->path, m->path_text) : MJ_ESYNTAX;
}

void mj_match_add(struct mj_match *parent, struct mj_match *child)
{
    if (parent->count == parent->cap) {
        parent->cap = parent->cap ? parent->cap * 2 : 2;
        parent->children = mj_realloc(parent->children, parent->cap * sizeof child);
    }
    parent->children[parent->count++] = child;
}

/* The slot that holds the value, or the empty one where it belongs. */
static struct mj_span *slot_of(struct mj_span *slots, size_t cap, struct mj_span value)
{
    size_t i = mj_hash(value) & (cap - 1);
    while (slots[i].ptr && !mj_span_eq(slots[i], value))
        i = (i + 1) & (cap - 1);
    return &slots[i];
}

void mj_match_set_add(struct mj_match *m, struct mj_span value)
{
    if (m->set.count * 2 >= m->set.cap) {
        size_t cap = m->set.cap ? m->set.cap * 2 : 8;
        struct mj_span *slots = mj_calloc(cap, sizeof *slots);
        for (size_t i = 0; i < m->set.cap; i++)
            if (m->set.slots[i].ptr)
                *slot_of(slots, cap, m->set.slots[i]) = m->set.slots[i];
        free(m->set.slots);
        m->set.slots = slots;
        m->set.cap = cap;
    }
    struct mj_span *slot = slot_of(m->set.slots, m->set.cap, value);
    if (slot->ptr)
        return;
    *slot = mj_span(mj_span_dup(value), value.len);
    m->set.count++;
    m->set.bytes += value.len;
}

size_t mj_match_set_count(const struct mj_match *set) { return set->set.count; }

void mj_match_free(struct mj_match *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->count; i++)
        mj_match_free(m->children[i]);
    for (size_t i = 0; i < m->set.cap; i++)
        free((void *)m->set.slots[i].ptr);
    mj_words_unref(m->words);
    mj_set_unref(m->members);
    free(m->children);
    free(m->set.slots);
    free(m->path);
    free((void *)m->path_text.ptr);
    free((void *)m->prefix.ptr);
    free(m);
}

size_t mj_match_size(const struct mj_match *m)
{
    size_t n = sizeof *m + m->cap * sizeof *m->children + m->prefix.len + m->path_text.len +
               (m->path ? sizeof *m->path : 0) + m->set.cap * sizeof *m->set.slots + m->set.bytes +
               m->set.count * 16 /* what malloc adds */;
    if (m->words)
        n += mj_words_share(m->words);
    for (size_t i = 0; i < m->count; i++)
        n += mj_match_size(m->children[i]);
    return n;
}

bool mj__match_in_set(const struct mj_match *m, struct mj_span value)
{
    return m->set.cap && slot_of(m->set.slots, m->set.cap, value)->ptr;
}

/* Whether a value is one that the atom asks for. */
static bool fits(const struct mj_match *m, struct mj_span value)
{
    if (m->type == MJ__MEMBER)
        return mj_set_has(m->members, value);
    return m->type == MJ__PREFIX ? mj_span_starts(value, m->prefix) : mj__match_in_set(m, value);
}

static bool path_fits(const struct mj_match *m, struct mj_facts *f)
{
    struct mj_span item = mj_facts_item(f, m->path);
    if (m->type == MJ__SET)
        return item.len && fits(m, item);
    struct mj_cbor c = mj_cbor(item);
    struct mj_cbor_head head;
    return item.len && mj_cbor_next(&c, &head) == 0 && head.type == MJ_CBOR_TEXT && fits(m, head.s);
}

static bool field_fits(const struct mj_match *m, struct mj_facts *f)
{
    const struct mj_event *ev = mj_facts_event(f);
    switch (m->field) {
    case MJ_FIELD_DID: /* the two that every flow may ask for, without a detour */
        return ev->did.len && fits(m, ev->did);
    case MJ_FIELD_COLLECTION:
        return ev->kind == MJ_KIND_COMMIT && ev->collection.len && fits(m, ev->collection);
    case MJ_FIELD_PATH:
        return path_fits(m, f);
    default:
        break;
    }
    struct mj_values values = mj_facts_values(f, m->field);
    for (size_t i = 0; i < values.count; i++)
        if (fits(m, values.items[i]))
            return true;
    return false;
}

static bool atom_holds(const struct mj_match *m, struct mj_facts *f)
{
    const struct mj_event *ev = mj_facts_event(f);
    switch (m->type) {
    case MJ__KINDS:
        return m->mask & (1u << ev->kind);
    case MJ__OPS:
        return ev->kind == MJ_KIND_COMMIT && (m->mask & (1u << ev->op));
    case MJ__SET:
    case MJ__PREFIX:
    case MJ__MEMBER:
        return field_fits(m, f);
    case MJ__PRESENT:
        return m->field == MJ_FIELD_PATH ? mj_facts_has(f, m->path)
                                         : mj_facts_values(f, m->field).count > 0;
    case MJ__HAS_TEXT:
        return mj_facts_has_text(f);
    case MJ__IS_REPLY:
        return mj_facts_is_reply(f);
    case MJ__WORDS:
        return mj_words_find(m->words, m->all ? mj_facts_words(f) : mj_facts_text(f)) >= 0;
    default:
        return false;
    }
}

bool mj__match_eval(const struct mj_match *m, struct mj_facts *f, mj__words_fn words, void *ctx)
{
    switch (m->type) {
    case MJ__AND:
        for (size_t i = 0; i < m->count; i++)
            if (!mj__match_eval(m->children[i], f, words, ctx))
                return false;
        return true;
    case MJ__OR:
        for (size_t i = 0; i < m->count; i++)
            if (mj__match_eval(m->children[i], f, words, ctx))
                return true;
        return false;
    case MJ__NOT:
        return !mj__match_eval(m->children[0], f, words, ctx);
    case MJ__WORDS:
        if (words)
            return words(ctx, m);
        return atom_holds(m, f);
    default:
        return atom_holds(m, f);
    }
}

bool mj_match_eval(const struct mj_match *m, struct mj_facts *facts)
{
    return mj__match_eval(m, facts, NULL, NULL);
}

/* What an atom is about: nothing but the class of events, or the record, or, when neither, what
 * every event has or what may change between two. */
static bool is_about_class(const struct mj_match *m)
{
    return m->type == MJ__KINDS || m->type == MJ__OPS ||
           (m->field == MJ_FIELD_COLLECTION &&
            (m->type == MJ__SET || m->type == MJ__PREFIX || m->type == MJ__PRESENT));
}

static bool is_about_record(const struct mj_match *m)
{
    if (m->type == MJ__SET || m->type == MJ__PREFIX || m->type == MJ__MEMBER ||
        m->type == MJ__PRESENT)
        return m->field > MJ_FIELD_DID;
    return m->type == MJ__HAS_TEXT || m->type == MJ__IS_REPLY || m->type == MJ__WORDS;
}

bool mj_match_reads_record(const struct mj_match *m)
{
    bool reads = is_about_record(m);
    for (size_t i = 0; i < m->count && !reads; i++)
        reads = mj_match_reads_record(m->children[i]);
    return reads;
}

bool mj__match_is_class(const struct mj_match *m)
{
    if (m->type > MJ__NOT)
        return is_about_class(m);
    for (size_t i = 0; i < m->count; i++)
        if (!mj__match_is_class(m->children[i]))
            return false;
    return true;
}

static enum mj__tri atom_class(const struct mj_match *m, const struct mj_event *ev)
{
    bool commit = ev->kind == MJ_KIND_COMMIT, yes;
    if (m->type == MJ__KINDS)
        yes = m->mask & (1u << ev->kind);
    else if (m->type == MJ__OPS)
        yes = commit && (m->mask & (1u << ev->op));
    else if (is_about_class(m))
        yes = commit && ev->collection.len && (m->type == MJ__PRESENT || fits(m, ev->collection));
    else if (is_about_record(m))
        return commit && (ev->op == MJ_OP_CREATE || ev->op == MJ_OP_UPDATE) ? MJ__DEPENDS : MJ__NO;
    else
        return MJ__DEPENDS;
    return yes ? MJ__YES : MJ__NO;
}

enum mj__tri mj__match_class(const struct mj_match *m, const struct mj_event *ev)
{
    enum mj__tri all, one;
    switch (m->type) {
    case MJ__AND:
        all = MJ__YES;
        for (size_t i = 0; i < m->count; i++) {
            one = mj__match_class(m->children[i], ev);
            if (one == MJ__NO)
                return MJ__NO;
            if (one == MJ__DEPENDS)
                all = MJ__DEPENDS;
        }
        return all;
    case MJ__OR:
        all = MJ__NO;
        for (size_t i = 0; i < m->count; i++) {
            one = mj__match_class(m->children[i], ev);
            if (one == MJ__YES)
                return MJ__YES;
            if (one == MJ__DEPENDS)
                all = MJ__DEPENDS;
        }
        return all;
    case MJ__NOT:
        one = mj__match_class(m->children[0], ev);
        return one == MJ__DEPENDS ? MJ__DEPENDS : one == MJ__YES ? MJ__NO : MJ__YES;
    default:
        return atom_class(m, ev);
    }
}

bool mj_match_may(const struct mj_match *m, const struct mj_event *like)
{
    return mj__match_class(m, like) != MJ__NO;
}
