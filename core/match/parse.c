/* Reading matches and values as people write them. */
#include "atproto/syntax.h"
#include "atproto/utf8.h"
#include "base/err.h"
#include "base/options.h"
#include "match/tree.h"

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

static int refuse_did(struct mj_span text, const char *shown, struct mj_buf *error)
{
    mj_buf_printf(error, "'%.80s' is not a DID", shown);
    if (text.len && memchr(text.ptr, '*', text.len))
        mj_buf_puts(error, "; jet.prefix matches the start of one");
    else if (mj_handle_valid(text))
        mj_buf_puts(error, "; events carry DIDs, not handles");
    return MJ_ESYNTAX;
}

static int refuse_collection(struct mj_span text, const char *shown, struct mj_buf *error)
{
    mj_buf_printf(error, "'%.80s' is not a collection (like app.bsky.feed.post or app.bsky.*)",
                  shown);
    if (mj_did_valid(text))
        mj_buf_puts(error, "; a DID goes into a table: { did = \"…\" }");
    return MJ_ESYNTAX;
}

static bool has_any(struct mj_span text, const char *bytes)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] && strchr(bytes, text.ptr[i]))
            return true;
    return false;
}

/* Letters, digits and hyphens, as in "pt-BR". */
static bool is_lang(struct mj_span s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i] | 0x20;
        if (!(c >= 'a' && c <= 'z') && !(s.ptr[i] >= '0' && s.ptr[i] <= '9') && s.ptr[i] != '-')
            return false;
    }
    return s.len && s.len <= 64 && s.ptr[0] != '-' && s.ptr[s.len - 1] != '-';
}

/* NULL, or what is wrong with a value of the field. */
static const char *wrong_value(enum mj_field field, struct mj_span text)
{
    switch (field) {
    case MJ_FIELD_LANG:
        return is_lang(text) ? NULL : "is not a language (like en or pt-BR)";
    case MJ_FIELD_TAG:
        if (mj_span_starts(text, MJ_SPAN("#")) ||
            mj_span_starts(text, MJ_SPAN("\xef\xbc\x83"))) /* the full-width one */
            return "has a '#'; tags are written without";
        return text.len && mj_utf8_valid(text) ? NULL : "is not a hashtag";
    case MJ_FIELD_LINK:
        if (has_any(text, "/:"))
            return "is not a host; write it alone, like example.com";
        if (has_any(text, "*") || mj_span_starts(text, MJ_SPAN(".")))
            return "is not a host; example.com also matches the hosts below it";
        return text.len && !has_any(text, " @?#") && mj_utf8_valid(text) &&
                       text.ptr[text.len - 1] != '.'
                   ? NULL
                   : "is not a host (like example.com)";
    default:
        if (mj_did_valid(text) || mj_aturi_valid(text))
            return NULL;
        return mj_handle_valid(text)
                   ? "is neither a DID nor an AT URI; events carry DIDs, not handles"
                   : "is neither a DID nor an AT URI (at://did:…/collection/rkey)";
    }
}

int mj_match_value(enum mj_field field, struct mj_span text, struct mj_match *set,
                   struct mj_match **out, struct mj_buf *error)
{
    MJ_AUTO_FREE char *shown = mj_span_dup(text);
    MJ_AUTO_BUF key = {0};
    const char *wrong = NULL;
    *out = NULL;
    switch (field) {
    case MJ_FIELD_COLLECTION:
        if (text.len > 2 && text.ptr[text.len - 1] == '*' &&
            nsid_prefix_valid(mj_span(text.ptr, text.len - 1))) {
            *out = mj_match_prefix(field, mj_span(text.ptr, text.len - 1));
            return 0;
        }
        if (!mj_nsid_valid(text))
            return refuse_collection(text, shown, error);
        break;
    case MJ_FIELD_DID:
    case MJ_FIELD_MENTION:
        if (!mj_did_valid(text))
            return refuse_did(text, shown, error);
        break;
    default:
        wrong = wrong_value(field, text);
        if (wrong) {
            mj_buf_printf(error, "'%.80s' %s", shown, wrong);
            return MJ_ESYNTAX;
        }
        break;
    }
    mj_facts_key(field, text, &key);
    mj_match_set_add(set, mj_buf_span(&key));
    return 0;
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
