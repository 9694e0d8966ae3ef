#include "match/match.h"

#include "atproto/syntax.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/options.h"

enum type { AND, OR, NOT, KINDS, OPS, SET, PREFIX };

struct mj_match {
    enum type type;
    enum mj_field field;        /* SET, PREFIX */
    unsigned mask;              /* KINDS, OPS */
    struct mj_match **children; /* owned; AND, OR, NOT */
    size_t count, cap;
    struct mj_span prefix; /* owned; PREFIX */
    struct {
        struct mj_span *slots; /* owned, and so is each value; open addressing */
        size_t count, cap;     /* cap is 0 or a power of two, at most half full */
    } set;
};

static struct mj_match *new_match(enum type type)
{
    struct mj_match *m = mj_calloc(1, sizeof *m);
    m->type = type;
    return m;
}

struct mj_match *mj_match_and(void) { return new_match(AND); }
struct mj_match *mj_match_or(void) { return new_match(OR); }

struct mj_match *mj_match_not(struct mj_match *child)
{
    struct mj_match *m = new_match(NOT);
    mj_match_add(m, child);
    return m;
}

struct mj_match *mj_match_kinds(unsigned mask)
{
    struct mj_match *m = new_match(KINDS);
    m->mask = mask;
    return m;
}

struct mj_match *mj_match_ops(unsigned mask)
{
    struct mj_match *m = new_match(OPS);
    m->mask = mask;
    return m;
}

struct mj_match *mj_match_set(enum mj_field field)
{
    struct mj_match *m = new_match(SET);
    m->field = field;
    return m;
}

struct mj_match *mj_match_prefix(enum mj_field field, struct mj_span prefix)
{
    struct mj_match *m = new_match(PREFIX);
    m->field = field;
    m->prefix = mj_span(mj_span_dup(prefix), prefix.len);
    return m;
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
}

void mj_match_free(struct mj_match *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->count; i++)
        mj_match_free(m->children[i]);
    for (size_t i = 0; i < m->set.cap; i++)
        free((void *)m->set.slots[i].ptr);
    free(m->children);
    free(m->set.slots);
    free((void *)m->prefix.ptr);
    free(m);
}

static struct mj_span field_of(const struct mj_event *ev, enum mj_field field)
{
    return field == MJ_FIELD_DID ? ev->did : ev->collection;
}

static bool atom_holds(const struct mj_match *m, const struct mj_event *ev)
{
    struct mj_span value;
    switch (m->type) {
    case KINDS:
        return m->mask & (1u << ev->kind);
    case OPS:
        return ev->kind == MJ_KIND_COMMIT && (m->mask & (1u << ev->op));
    case SET:
        value = field_of(ev, m->field);
        return value.len && m->set.cap && slot_of(m->set.slots, m->set.cap, value)->ptr;
    case PREFIX:
        value = field_of(ev, m->field);
        return value.len && mj_span_starts(value, m->prefix);
    default:
        return false;
    }
}

bool mj_match_eval(const struct mj_match *m, const struct mj_event *ev)
{
    switch (m->type) {
    case AND:
        for (size_t i = 0; i < m->count; i++)
            if (!mj_match_eval(m->children[i], ev))
                return false;
        return true;
    case OR:
        for (size_t i = 0; i < m->count; i++)
            if (mj_match_eval(m->children[i], ev))
                return true;
        return false;
    case NOT:
        return !mj_match_eval(m->children[0], ev);
    default:
        return atom_holds(m, ev);
    }
}

enum mj_tri mj_match_without_did(const struct mj_match *m, const struct mj_event *ev)
{
    enum mj_tri all, one;
    switch (m->type) {
    case AND:
        all = MJ_YES;
        for (size_t i = 0; i < m->count; i++) {
            one = mj_match_without_did(m->children[i], ev);
            if (one == MJ_NO)
                return MJ_NO;
            if (one == MJ_DEPENDS)
                all = MJ_DEPENDS;
        }
        return all;
    case OR:
        all = MJ_NO;
        for (size_t i = 0; i < m->count; i++) {
            one = mj_match_without_did(m->children[i], ev);
            if (one == MJ_YES)
                return MJ_YES;
            if (one == MJ_DEPENDS)
                all = MJ_DEPENDS;
        }
        return all;
    case NOT:
        one = mj_match_without_did(m->children[0], ev);
        return one == MJ_DEPENDS ? MJ_DEPENDS : one == MJ_YES ? MJ_NO : MJ_YES;
    case SET:
    case PREFIX:
        if (m->field == MJ_FIELD_DID)
            return MJ_DEPENDS;
        break;
    default:
        break;
    }
    return atom_holds(m, ev) ? MJ_YES : MJ_NO;
}

bool mj_match_dids(const struct mj_match *m, void (*fn)(void *ctx, struct mj_span did), void *ctx)
{
    switch (m->type) {
    case AND: /* one child that insists on named DIDs is enough */
        for (size_t i = 0; i < m->count; i++)
            if (mj_match_dids(m->children[i], NULL, NULL))
                return mj_match_dids(m->children[i], fn, ctx);
        return false;
    case OR: /* every child must */
        for (size_t i = 0; i < m->count; i++)
            if (!mj_match_dids(m->children[i], NULL, NULL))
                return false;
        for (size_t i = 0; fn && i < m->count; i++)
            mj_match_dids(m->children[i], fn, ctx);
        return true;
    case SET:
        if (m->field != MJ_FIELD_DID)
            return false;
        for (size_t i = 0; fn && i < m->set.cap; i++)
            if (m->set.slots[i].ptr)
                fn(ctx, m->set.slots[i]);
        return true;
    default:
        return false;
    }
}

/* Reading what people write. */

static const char *const kind_names[] = {"commit", "identity", "account"};
static const char *const op_names[] = {"", "create", "update", "delete"};

static int named(struct mj_span name, const char *what, const char *const *names, size_t n,
                 struct mj_buf *error)
{
    MJ_AUTO_FREE char *text = mj_span_dup(name);
    for (size_t i = 0; i < n; i++)
        if (*names[i] && mj_span_is(name, names[i]))
            return (int)i;
    const char *near = mj_closest(text, names, n);
    mj_buf_printf(error, "unknown %s '%.80s'", what, text);
    if (near && *near)
        mj_buf_printf(error, "; did you mean '%s'?", near);
    return MJ_ESYNTAX;
}

int mj_match_kind_named(struct mj_span name, struct mj_buf *error)
{
    return named(name, "kind", kind_names, MJ_COUNT(kind_names), error);
}

int mj_match_op_named(struct mj_span name, struct mj_buf *error)
{
    return named(name, "operation", op_names, MJ_COUNT(op_names), error);
}

/* "app.bsky." of "app.bsky.*": labels of letters, digits and inner hyphens. The strict rule for
 * whole NSIDs does not apply to a part of one. */
static bool nsid_prefix_valid(struct mj_span s)
{
    uint8_t last = '.';
    if (!s.len || s.len > 317)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (c == '.' ? last == '.' || last == '-' : !word && (c != '-' || last == '.'))
            return false;
        last = c;
    }
    return last == '.';
}

int mj_match_value(enum mj_field field, struct mj_span text, struct mj_match *set,
                   struct mj_match **out, struct mj_buf *error)
{
    MJ_AUTO_FREE char *shown = mj_span_dup(text);
    *out = NULL;
    if (field == MJ_FIELD_DID) {
        if (mj_did_valid(text)) {
            mj_match_set_add(set, text);
            return 0;
        }
        mj_buf_printf(error, "'%.80s' is not a DID", shown);
        if (text.len && memchr(text.ptr, '*', text.len))
            mj_buf_puts(error, "; jet.prefix matches the start of one");
        else if (mj_handle_valid(text))
            mj_buf_puts(error, "; events carry DIDs, not handles");
        return MJ_ESYNTAX;
    }
    if (mj_nsid_valid(text)) {
        mj_match_set_add(set, text);
        return 0;
    }
    if (text.len > 2 && text.ptr[text.len - 1] == '*' &&
        nsid_prefix_valid(mj_span(text.ptr, text.len - 1))) {
        *out = mj_match_prefix(field, mj_span(text.ptr, text.len - 1));
        return 0;
    }
    mj_buf_printf(error, "'%.80s' is not a collection (like app.bsky.feed.post or app.bsky.*)",
                  shown);
    if (mj_did_valid(text))
        mj_buf_puts(error, "; a DID goes into a table: { did = \"…\" }");
    return MJ_ESYNTAX;
}

int mj_match_parse(struct mj_span text, struct mj_match **out, struct mj_buf *error)
{
    *out = NULL;
    if (mj_span_is(text, "*")) {
        *out = mj_match_and();
        return 0;
    }
    if (text.len && text.ptr[0] == '#') {
        int kind = mj_match_kind_named(mj_span(text.ptr + 1, text.len - 1), error);
        if (kind < 0)
            return kind;
        *out = mj_match_kinds(1u << kind);
        return 0;
    }
    struct mj_span collection = text, op = {NULL, 0};
    const uint8_t *colon = text.len ? memchr(text.ptr, ':', text.len) : NULL;
    if (colon && !mj_did_valid(text)) {
        collection.len = (size_t)(colon - text.ptr);
        op = mj_span(colon + 1, text.len - collection.len - 1);
    }
    struct mj_match *all = mj_match_and(), *set = mj_match_set(MJ_FIELD_COLLECTION), *own = NULL;
    int err = 0;
    mj_match_add(all, mj_match_kinds(1u << MJ_KIND_COMMIT));
    if (!mj_span_is(collection, "*"))
        err = mj_match_value(MJ_FIELD_COLLECTION, collection, set, &own, error);
    if (own || set->set.count)
        mj_match_add(all, own ? own : set);
    if (own || !set->set.count)
        mj_match_free(set);
    if (!err && op.ptr) {
        int bit = mj_match_op_named(op, error);
        if (bit < 0)
            err = bit;
        else
            mj_match_add(all, mj_match_ops(1u << bit));
    }
    if (err) {
        mj_match_free(all);
        return err;
    }
    *out = all;
    return 0;
}
