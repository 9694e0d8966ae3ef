/* What an expression and an event say to each other, in words.
 *
 * Questions about one thing (a field, a path, the text) are told as "it is this, wanted that",
 * however many of them there are: `lang is "en", wanted "pt" or "es"`. Where a match has
 * alternatives about different things, each is told by itself. */
#include "atproto/cbor.h"
#include "base/err.h"
#include "match/fold.h"
#include "match/tree.h"

#define SHOWN_MAX  4  /* values of a list */
#define VALUE_MAX  80 /* bytes of one */
#define OTHERS_MAX 3  /* alternatives */

static const char *const fields[] = {"collection", "did",  "lang",   "tags",    "mentions", "links",
                                     "reply_to",   "root", "quotes", "subject", "record"};
_Static_assert(MJ_COUNT(fields) == MJ_FIELD_PATH + 1, "a name for each field");

static void put_value(struct mj_span value, struct mj_buf *out)
{
    size_t len = value.len;
    if (len > VALUE_MAX) {
        len = VALUE_MAX;
        while (len && (value.ptr[len] & 0xc0) == 0x80)
            len--;
    }
    mj_buf_put_json(out, mj_span(value.ptr, len));
    if (len < value.len)
        mj_buf_puts(out, "…");
}

/* A CBOR text, integer or boolean. */
static void put_item(struct mj_span item, struct mj_buf *out)
{
    struct mj_cbor c = mj_cbor(item);
    struct mj_cbor_head head;
    if (mj_cbor_next(&c, &head))
        return;
    if (head.type == MJ_CBOR_TEXT)
        put_value(head.s, out);
    else if (head.type == MJ_CBOR_BOOL)
        mj_buf_puts(out, head.i ? "true" : "false");
    else
        mj_buf_printf(out, "%lld", (long long)head.i);
}

/* ---- what an atom asks about ---- */

static bool is_value(const struct mj_match *m)
{
    return m->type == MJ__SET || m->type == MJ__PREFIX || m->type == MJ__MEMBER;
}

static bool same_subject(const struct mj_match *a, const struct mj_match *b)
{
    if (is_value(a) ? !is_value(b) : a->type != b->type)
        return false;
    if (a->type == MJ__WORDS)
        return a->all == b->all;
    if (is_value(a) || a->type == MJ__PRESENT)
        return a->field == b->field && mj_span_eq(a->path_text, b->path_text);
    return true;
}

/* True when all atoms ask about the same thing; *atom is one of them. */
static bool about_one(const struct mj_match *m, const struct mj_match **atom)
{
    if (m->type > MJ__NOT) {
        if (!*atom)
            *atom = m;
        return same_subject(*atom, m);
    }
    for (size_t i = 0; i < m->count; i++)
        if (!about_one(m->children[i], atom))
            return false;
    return *atom != NULL;
}

static void put_name(const struct mj_match *m, struct mj_buf *out)
{
    mj_buf_puts(out, fields[m->field]);
    if (m->field == MJ_FIELD_PATH) {
        mj_buf_putc(out, '.');
        mj_buf_put(out, m->path_text.ptr, m->path_text.len);
    }
}

/* ---- what it is ---- */

static void put_text(struct mj_facts *f, struct mj_buf *out)
{
    struct mj_span value = {NULL, 0};
    struct mj_cbor_head head;
    if (mj_facts_has_text(f) && mj_cbor_map_get(mj_facts_record(f), MJ_SPAN("text"), &value) == 0) {
        struct mj_cbor c = mj_cbor(value);
        if (mj_cbor_next(&c, &head) == 0 && head.type == MJ_CBOR_TEXT) {
            mj_buf_puts(out, "the text is ");
            put_value(head.s, out);
            return;
        }
    }
    mj_buf_puts(out, "it has no text");
}

static void put_path(const struct mj_match *m, struct mj_facts *f, struct mj_buf *out)
{
    struct mj_span item = mj_facts_item(f, m->path);
    if (!item.len && !mj_facts_has(f, m->path)) {
        mj_buf_puts(out, "it has no ");
        put_name(m, out);
        return;
    }
    put_name(m, out);
    mj_buf_puts(out, " is ");
    if (item.len)
        put_item(item, out);
    else
        mj_buf_puts(out, "no text, number or boolean");
}

/* What is part of another value ("pt" of "pt-br", the DID of an AT URI) was derived from it. */
static bool is_derived(const struct mj_values *v, size_t i)
{
    for (size_t k = 0; k < v->count; k++)
        if (v->items[k].len > v->items[i].len &&
            (!v->items[i].len ||
             memmem(v->items[k].ptr, v->items[k].len, v->items[i].ptr, v->items[i].len)))
            return true;
    return false;
}

static void put_values(const struct mj_match *m, struct mj_facts *f, struct mj_buf *out)
{
    struct mj_values v = mj_facts_values(f, m->field);
    size_t shown = 0;
    for (size_t i = 0; i < v.count && shown < SHOWN_MAX; i++) {
        if (is_derived(&v, i))
            continue;
        if (!shown)
            put_name(m, out);
        mj_buf_puts(out, shown++ ? ", " : " is ");
        put_value(v.items[i], out);
    }
    if (!shown) {
        mj_buf_puts(out, "it has no ");
        put_name(m, out);
    }
}

static void put_is(const struct mj_match *m, struct mj_facts *f, struct mj_buf *out)
{
    const struct mj_event *ev = mj_facts_event(f);
    bool has;
    switch (m->type) {
    case MJ__KINDS:
        mj_buf_printf(out, "kind is \"%s\"", mj_kind_name(ev->kind));
        break;
    case MJ__OPS:
        if (ev->kind == MJ_KIND_COMMIT)
            mj_buf_printf(out, "op is \"%s\"", mj_op_name(ev->op));
        else
            mj_buf_puts(out, "it has no op");
        break;
    case MJ__HAS_TEXT:
        mj_buf_puts(out, mj_facts_has_text(f) ? "it has a text" : "it has no text");
        break;
    case MJ__IS_REPLY:
        mj_buf_puts(out, mj_facts_is_reply(f) ? "it is a reply" : "it is no reply");
        break;
    case MJ__WORDS:
        put_text(f, out);
        break;
    case MJ__PRESENT:
        has = m->field == MJ_FIELD_PATH ? mj_facts_has(f, m->path)
                                        : mj_facts_values(f, m->field).count > 0;
        mj_buf_puts(out, has ? "it has " : "it has no ");
        put_name(m, out);
        break;
    default:
        if (m->field == MJ_FIELD_PATH)
            put_path(m, f, out);
        else
            put_values(m, f, out);
        break;
    }
}

/* ---- what is wanted ---- */

static int by_text(const void *a, const void *b)
{
    return mj_span_cmp(*(const struct mj_span *)a, *(const struct mj_span *)b);
}

static void put_more(size_t all, size_t shown, struct mj_buf *out)
{
    if (all > shown)
        mj_buf_printf(out, " or %zu more", all - shown);
}

static void put_set(const struct mj_match *m, struct mj_buf *out)
{
    struct mj_span some[SHOWN_MAX];
    size_t n = 0;
    for (size_t i = 0; i < m->set.cap && n < SHOWN_MAX; i++)
        if (m->set.slots[i].ptr)
            some[n++] = m->set.slots[i];
    qsort(some, n, sizeof *some, by_text);
    for (size_t i = 0; i < n; i++) {
        mj_buf_puts(out, i ? " or " : "");
        if (m->field == MJ_FIELD_PATH)
            put_item(some[i], out);
        else
            put_value(some[i], out);
    }
    put_more(m->set.count, n, out);
}

/* The tokens of a word's stream, and a star where none ends. */
static void put_word(struct mj_span stream, struct mj_buf *out)
{
    MJ_AUTO_BUF text = {0};
    bool open = false;
    for (size_t i = 0; i < stream.len; i++) {
        uint8_t c = stream.ptr[i];
        if (c != MJ_EDGE) {
            if (!i)
                mj_buf_putc(&text, '*');
            mj_buf_putc(&text, (char)c);
        } else if (text.len && i + 1 < stream.len) {
            mj_buf_putc(&text, ' ');
        }
        open = c != MJ_EDGE;
    }
    if (open)
        mj_buf_putc(&text, '*');
    put_value(mj_buf_span(&text), out);
}

static void put_words(const struct mj_match *m, struct mj_buf *out)
{
    size_t all = mj_words_count(m->words), n = 0;
    mj_buf_puts(out, "the word ");
    for (; n < all && n < SHOWN_MAX; n++) {
        mj_buf_puts(out, n ? " or " : "");
        put_word(mj_words_stream(m->words, n), out);
    }
    put_more(all, n, out);
    if (m->all)
        mj_buf_puts(out, " there, in alt texts, the link card or tags");
}

static void put_names(unsigned mask, const char *(*name)(unsigned bit), struct mj_buf *out)
{
    bool any = false;
    for (unsigned bit = 0; mask; bit++, mask >>= 1)
        if (mask & 1) {
            mj_buf_printf(out, "%s\"%s\"", any ? " or " : "", name(bit));
            any = true;
        }
}

static const char *kind_of(unsigned bit) { return mj_kind_name((enum mj_kind)bit); }
static const char *op_of(unsigned bit) { return mj_op_name((enum mj_op)bit); }

static void put_wanted(const struct mj_match *m, struct mj_buf *out)
{
    switch (m->type) {
    case MJ__AND:
    case MJ__OR:
        for (size_t i = 0; i < m->count && i < SHOWN_MAX; i++) {
            mj_buf_puts(out, !i ? "" : m->type == MJ__OR ? " or " : " and ");
            put_wanted(m->children[i], out);
        }
        put_more(m->count, SHOWN_MAX, out);
        break;
    case MJ__NOT:
        mj_buf_puts(out, "not ");
        put_wanted(m->children[0], out);
        break;
    case MJ__KINDS:
        put_names(m->mask, kind_of, out);
        break;
    case MJ__OPS:
        put_names(m->mask, op_of, out);
        break;
    case MJ__SET:
        put_set(m, out);
        break;
    case MJ__PREFIX:
        mj_buf_puts(out, "what starts with ");
        put_value(m->prefix, out);
        break;
    case MJ__MEMBER:
        if (*mj_set_name(m->members))
            mj_buf_printf(out, "a member of set %s%s", mj_set_name(m->members),
                          mj_set_count(m->members) ? "" : ", which is empty");
        else
            mj_buf_printf(out, "a member of a set of %zu", mj_set_count(m->members));
        break;
    case MJ__WORDS:
        put_words(m, out);
        break;
    default: /* whether there is one: what it is says it all */
        break;
    }
}

/* ---- together ---- */

/* One word after the other: the automaton of a list is its matches' thread's, and this may be
 * another one. */
static bool has_word(void *ctx, const struct mj_match *atom)
{
    struct mj_span text = atom->all ? mj_facts_words(ctx) : mj_facts_text(ctx);
    for (size_t i = 0; text.len && i < mj_words_count(atom->words); i++) {
        struct mj_span word = mj_words_stream(atom->words, i);
        if (memmem(text.ptr, text.len, word.ptr, word.len))
            return true;
    }
    return false;
}

static bool holds(const struct mj_match *m, struct mj_facts *f)
{
    return mj__match_eval(m, f, has_word, f);
}

static void explain(const struct mj_match *m, struct mj_facts *f, struct mj_buf *out);

/* What holds of a tree that must not. */
static void put_holding(const struct mj_match *m, struct mj_facts *f, size_t *left,
                        struct mj_buf *out)
{
    if (!holds(m, f) || !*left)
        return;
    if (m->type > MJ__NOT || m->type == MJ__NOT) {
        const struct mj_match *atom = NULL;
        if (!about_one(m, &atom))
            return;
        mj_buf_puts(out, *left < OTHERS_MAX ? " and " : "");
        put_is(atom, f, out);
        --*left;
        return;
    }
    for (size_t i = 0; i < m->count; i++)
        put_holding(m->children[i], f, left, out);
}

static void put_alternatives(const struct mj_match *m, struct mj_facts *f, struct mj_buf *out)
{
    if (m->count == 1) {
        explain(m->children[0], f, out);
        return;
    }
    if (!m->count) {
        mj_buf_puts(out, "nothing can match");
        return;
    }
    mj_buf_printf(out, "none of %zu alternatives holds", m->count);
    for (size_t i = 0; i < m->count && i < OTHERS_MAX; i++) {
        mj_buf_puts(out, i ? "), (" : ": (");
        explain(m->children[i], f, out);
    }
    mj_buf_puts(out, m->count > OTHERS_MAX ? "), …" : ")");
}

/* Whether it has no text is of no interest when it should be another kind of record anyway. */
static void explain_all(const struct mj_match *m, struct mj_facts *f, struct mj_buf *out)
{
    bool any = false, class_only = false;
    for (size_t i = 0; i < m->count; i++)
        class_only |= mj__match_is_class(m->children[i]) && !holds(m->children[i], f);
    for (size_t i = 0; i < m->count; i++) {
        const struct mj_match *child = m->children[i];
        if (holds(child, f) || (class_only && !mj__match_is_class(child)))
            continue;
        mj_buf_puts(out, any ? "; " : "");
        any = true;
        explain(child, f, out);
    }
}

/* Of a tree that does not hold. */
static void explain(const struct mj_match *m, struct mj_facts *f, struct mj_buf *out)
{
    const struct mj_match *atom = NULL;
    size_t left = OTHERS_MAX;
    if (m->type == MJ__AND) {
        explain_all(m, f, out);
        return;
    }
    if (about_one(m, &atom)) {
        put_is(atom, f, out);
        if (is_value(atom) || atom->type == MJ__KINDS || atom->type == MJ__OPS ||
            atom->type == MJ__WORDS) {
            mj_buf_puts(out, ", wanted ");
            put_wanted(m, out);
        }
        return;
    }
    if (m->type == MJ__OR) {
        put_alternatives(m, f, out);
        return;
    }
    mj_buf_puts(out, "what must not be, is: ");
    put_holding(m->children[0], f, &left, out);
}

bool mj_match_explain(const struct mj_match *m, struct mj_facts *f, struct mj_buf *out)
{
    bool yes = holds(m, f);
    if (!yes)
        explain(m, f, out);
    return yes;
}
