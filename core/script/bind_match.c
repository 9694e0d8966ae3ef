/* From what jet.from is given to a match expression:
 *
 *   "app.bsky.feed.post:create"                         the short form
 *   { collection = …, lang = …, words = … }             all keys must hold
 *   { "…", {…} }, jet.any {…}                           one must hold
 *   jet.no (…)                                          must not hold
 *
 * and each key's value is a text, a list of values, jet.any, jet.no, jet.prefix, jet.set or
 * jet.words. A key asks for a field the event has: { collection = jet.no "a.b.c" } is every other
 * collection, and no identity event, while jet.no { collection = "a.b.c" } is everything else.
 *
 * Lua is only read here, with calls that allocate nothing: an error raised in the middle would
 * leave half a tree to nobody. */
#include "base/err.h"
#include "base/options.h"
#include "script/bind.h"

#define NESTING_MAX 16
#define PATHS_MAX   64                 /* of one `record` table */
#define SIZE_MAX_OF ((size_t)64 << 20) /* bytes of all matches of a script */
#define SHOWN_MAX   3                  /* values of a list; and one more if that is all */
#define MIXED       "a match is either a list or has named keys, this one has both"

/* What the value of a key may be. */
enum value_type { V_KIND, V_OP, V_FIELD, V_TEXT, V_WORDS, V_REPLY, V_QUOTES, V_HAS, V_RECORD };

static const struct key {
    const char *name;
    enum value_type type;
    enum mj_field field; /* V_FIELD, V_QUOTES, V_RECORD */
} keys[] = {
    /* In this order, so that a match is always shown alike. */
    {"kind", V_KIND},
    {"collection", V_FIELD, MJ_FIELD_COLLECTION},
    {"op", V_OP},
    {"did", V_FIELD, MJ_FIELD_DID},
    {"lang", V_FIELD, MJ_FIELD_LANG},
    {"text", V_TEXT},
    {"words", V_WORDS},
    {"mentions", V_FIELD, MJ_FIELD_MENTION},
    {"links", V_FIELD, MJ_FIELD_LINK},
    {"tags", V_FIELD, MJ_FIELD_TAG},
    {"reply", V_REPLY},
    {"reply_to", V_FIELD, MJ_FIELD_REPLY_TO},
    {"root", V_FIELD, MJ_FIELD_ROOT},
    {"quotes", V_QUOTES, MJ_FIELD_QUOTE},
    {"subject", V_FIELD, MJ_FIELD_SUBJECT},
    {"has", V_HAS},
    {"record", V_RECORD, MJ_FIELD_PATH},
};

struct ctx {
    lua_State *L;
    struct mj_buf *shown, *error;
    unsigned depth;
};

static struct mj_span to_span(lua_State *L, int index)
{
    size_t len = 0;
    const char *s = lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, &len) : NULL;
    return mj_span(s, len);
}

static int fail(struct ctx *c, const char *text)
{
    mj_buf_puts(c->error, text);
    return MJ_ESYNTAX;
}

/* One level deeper into tables; 0 or MJ_ESYNTAX. Left with c->depth--, unless there was an error.
 */
static int enter(struct ctx *c)
{
    return ++c->depth > NESTING_MAX ? fail(c, "the match is nested too deeply") : 0;
}

/* Values of one key while they are read: plain ones are collected in `set` (or bits in `mask`,
 * words in `words`), other forms become trees in `any`. */
struct values {
    const struct key *key;
    const char *name;       /* of the key, or the path */
    struct mj_span path;    /* V_RECORD */
    struct mj_match *any;   /* owned */
    struct mj_match *set;   /* owned */
    struct mj_words *words; /* ref */
    unsigned mask;
    bool *negated; /* set when jet.no comes up */
};

static void values_init(struct values *v, const struct values *like)
{
    *v = *like;
    v->mask = 0;
    v->any = mj_match_or();
    v->set = mj_match_set(v->key->field);
    v->words = mj_words_new();
    if (v->key->type == V_RECORD)
        mj_match_path(v->set, v->path);
}

static struct mj_match *values_done(struct values *v)
{
    if (v->key->type == V_KIND || v->key->type == V_OP)
        mj_match_add(v->any,
                     v->key->type == V_KIND ? mj_match_kinds(v->mask) : mj_match_ops(v->mask));
    if (mj_match_set_count(v->set))
        mj_match_add(v->any, v->set);
    else
        mj_match_free(v->set);
    if (mj_words_count(v->words))
        mj_match_add(v->any, mj_match_words(v->words, v->key->type == V_WORDS));
    else
        mj_words_unref(v->words);
    return v->any;
}

static int read_values(struct ctx *c, int index, struct values *v);

static int refuse(struct ctx *c, const struct values *v, const char *what, const char *remedy)
{
    mj_buf_printf(c->error, "%s does not fit '%s'%s", what, v->name, remedy);
    return MJ_ESYNTAX;
}

static int read_text(struct ctx *c, struct mj_span text, struct values *v)
{
    MJ_AUTO_BUF item = {0};
    struct mj_match *own = NULL;
    int err, bit;
    mj_buf_put_json(c->shown, text);
    switch (v->key->type) {
    case V_KIND:
    case V_OP:
        bit = v->key->type == V_KIND ? mj_match_kind_named(text, c->error)
                                     : mj_match_op_named(text, c->error);
        if (bit < 0)
            return bit;
        v->mask |= 1u << bit;
        return 0;
    case V_TEXT:
    case V_WORDS:
        return mj_words_add(v->words, text, c->error);
    case V_RECORD:
        mj_cbor_put_text(&item, text);
        mj_match_set_add(v->set, mj_buf_span(&item));
        return 0;
    default:
        err = mj_match_value(v->key->field, text, v->set, &own, c->error);
        if (own)
            mj_match_add(v->any, own);
        return err;
    }
}

/* A number or a boolean, which only values of the record may be. */
static int read_scalar(struct ctx *c, int index, struct values *v)
{
    lua_State *L = c->L;
    MJ_AUTO_BUF item = {0};
    lua_Number n = lua_tonumber(L, index);
    if (lua_type(L, index) == LUA_TBOOLEAN) {
        mj_buf_puts(c->shown, lua_toboolean(L, index) ? "true" : "false");
        mj_cbor_put_bool(&item, lua_toboolean(L, index));
    } else if (n > -9007199254740992.0 && n < 9007199254740992.0 && n == (lua_Number)(int64_t)n) {
        mj_buf_printf(c->shown, "%lld", (long long)n);
        mj_cbor_put_int(&item, (int64_t)n);
    } else {
        mj_buf_printf(c->error, "%.14g fits nothing: numbers in records are whole and below 2^53",
                      n);
        return MJ_ESYNTAX;
    }
    mj_match_set_add(v->set, mj_buf_span(&item));
    return 0;
}

static int read_list(struct ctx *c, int index, struct values *v)
{
    lua_State *L = c->L;
    size_t n = lua_objlen(L, index), end = 0;
    size_t shown = n > SHOWN_MAX + 1 ? SHOWN_MAX : n;
    for (size_t i = 1; i <= n; i++) {
        if (i > 1 && i <= shown)
            mj_buf_puts(c->shown, ", ");
        lua_rawgeti(L, index, (int)i);
        int err = read_values(c, lua_gettop(L), v);
        lua_pop(L, 1);
        if (err)
            return err;
        if (i <= shown)
            end = c->shown->len;
        c->shown->len = end;
    }
    if (shown < n)
        mj_buf_printf(c->shown, ", … and %zu more", n - shown);
    return 0;
}

static bool has_text_key(lua_State *L, int index)
{
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            lua_pop(L, 1);
            return true;
        }
    }
    return false;
}

static int read_prefix(struct ctx *c, int index, struct values *v)
{
    MJ_AUTO_BUF key = {0};
    lua_rawgeti(c->L, index, 1);
    struct mj_span prefix = to_span(c->L, -1);
    lua_pop(c->L, 1); /* the table still holds it */
    mj_buf_puts(c->shown, "prefix ");
    mj_buf_put_json(c->shown, prefix);
    if (v->key->type == V_TEXT || v->key->type == V_WORDS)
        return refuse(c, v, "jet.prefix", "; a word that may go on is written \"moon*\"");
    if (v->key->type == V_KIND || v->key->type == V_OP || !prefix.len)
        return refuse(c, v, "jet.prefix", "");
    if (v->key->field == MJ_FIELD_TAG && prefix.ptr[0] == '#')
        return refuse(c, v, "a '#'", "; tags are written without");
    mj_facts_key(v->key->field, prefix, &key);
    struct mj_match *m = mj_match_prefix(v->key->field, mj_buf_span(&key));
    if (v->key->type == V_RECORD)
        mj_match_path(m, v->path);
    mj_match_add(v->any, m);
    return 0;
}

static int read_set(struct ctx *c, struct mj_set *set, struct values *v)
{
    if (v->key->type != V_FIELD && v->key->type != V_QUOTES && v->key->type != V_RECORD)
        return refuse(c, v, "jet.set",
                      v->key->type == V_TEXT || v->key->type == V_WORDS
                          ? "; words are listed with jet.words"
                          : "");
    if (*mj_set_name(set))
        mj_buf_printf(c->shown, "set %s", mj_set_name(set));
    else
        mj_buf_printf(c->shown, "set of %zu", mj_set_count(set));
    struct mj_match *m = mj_match_member(v->key->field, mj_set_ref(set));
    if (v->key->type == V_RECORD)
        mj_match_path(m, v->path);
    mj_match_add(v->any, m);
    return 0;
}

static int read_userdata(struct ctx *c, int index, struct values *v)
{
    struct mj_words *words = mj_lua_words(c->L, index);
    struct mj_set *set = mj_set_from_lua(c->L, index);
    if (set)
        return read_set(c, set, v);
    if (!words)
        return refuse(c, v, "this value", "");
    if (v->key->type != V_TEXT && v->key->type != V_WORDS)
        return refuse(c, v, "jet.words", "; it goes behind 'text' or 'words'");
    mj_show_words(c->L, index, SHOWN_MAX, c->shown);
    mj_match_add(v->any, mj_match_words(mj_words_ref(words), v->key->type == V_WORDS));
    return 0;
}

static int read_table(struct ctx *c, int index, struct values *v)
{
    lua_State *L = c->L;
    struct values inner;
    int err;
    if (mj_made_by(L, index, MJ_SLOT_PREFIX))
        return read_prefix(c, index, v);
    if (mj_made_by(L, index, MJ_SLOT_NO)) {
        *v->negated = true;
        values_init(&inner, v);
        mj_buf_puts(c->shown, "no ");
        lua_rawgeti(L, index, 1);
        err = read_values(c, lua_gettop(L), &inner);
        lua_pop(L, 1);
        mj_match_add(v->any, mj_match_not(values_done(&inner)));
        return err;
    }
    if (has_text_key(L, index)) {
        mj_buf_printf(c->error, "'%s' wants a list of texts, not a map", v->name);
        return MJ_ESYNTAX;
    }
    if (!lua_objlen(L, index)) {
        mj_buf_printf(c->error, "the list for '%s' is empty, so nothing could match", v->name);
        return MJ_ESYNTAX;
    }
    mj_buf_putc(c->shown, '{');
    err = read_list(c, index, v);
    mj_buf_putc(c->shown, '}');
    return err;
}

static int read_values(struct ctx *c, int index, struct values *v)
{
    lua_State *L = c->L;
    int type = lua_type(L, index);
    if (type == LUA_TSTRING)
        return read_text(c, to_span(L, index), v);
    if ((type == LUA_TNUMBER || type == LUA_TBOOLEAN) && v->key->type == V_RECORD)
        return read_scalar(c, index, v);
    if (type == LUA_TUSERDATA)
        return read_userdata(c, index, v);
    if (type != LUA_TTABLE) {
        mj_buf_printf(c->error, "'%s' wants a text or a list of texts, not %s", v->name,
                      luaL_typename(L, index));
        return MJ_ESYNTAX;
    }
    int err = enter(c);
    if (err)
        return err;
    err = read_table(c, index, v);
    c->depth--;
    return err;
}

/* Reads the value at the index and adds what it asks to `all`. */
static int read_any(struct ctx *c, int index, const struct key *key, struct mj_span path,
                    struct mj_match *all)
{
    bool negated = false;
    struct values like = {.key = key, .name = key->name, .path = path, .negated = &negated}, v;
    struct mj_match *present = NULL;
    if (key->type == V_RECORD)
        like.name = (const char *)path.ptr;
    values_init(&v, &like);
    int err = read_values(c, index, &v);
    /* `no` must not turn around that the event has the field. */
    if (key->type == V_OP || (key->type == V_FIELD && key->field == MJ_FIELD_COLLECTION))
        mj_match_add(all, mj_match_kinds(1u << MJ_KIND_COMMIT));
    else if (negated && (key->type == V_TEXT || key->type == V_WORDS))
        mj_match_add(all, mj_match_has_text());
    else if (negated && key->type != V_KIND && key->field != MJ_FIELD_DID)
        mj_match_add(all, present = mj_match_present(key->field));
    if (present && key->type == V_RECORD)
        mj_match_path(present, path);
    mj_match_add(all, values_done(&v));
    return err;
}

/* reply, and quotes when it is a boolean. Those that are not one are posts none the less. */
static int read_flag(struct ctx *c, int index, const struct key *key, struct mj_match *all)
{
    bool yes = lua_toboolean(c->L, index);
    struct mj_match *is = key->type == V_REPLY ? mj_match_is_reply() : mj_match_present(key->field);
    mj_buf_puts(c->shown, yes ? "true" : "false");
    if (!yes)
        mj_match_add(all, mj_match_has_text());
    mj_match_add(all, yes ? is : mj_match_not(is));
    return 0;
}

/* A path, a list of which all must be there, jet.any or jet.no of such. */
static int read_has(struct ctx *c, int index, struct mj_match *to)
{
    lua_State *L = c->L;
    struct mj_span text = to_span(L, index);
    if (text.ptr) {
        struct mj_match *m = mj_match_present(MJ_FIELD_PATH);
        mj_match_add(to, m);
        mj_buf_put_json(c->shown, text);
        if (mj_match_path(m, text) == 0)
            return 0;
        mj_buf_printf(c->error, "bad path '%.80s': write keys with dots, list items as [1]",
                      (const char *)text.ptr);
        return MJ_ESYNTAX;
    }
    bool any = lua_type(L, index) == LUA_TTABLE && mj_made_by(L, index, MJ_SLOT_ANY),
         no = lua_type(L, index) == LUA_TTABLE && mj_made_by(L, index, MJ_SLOT_NO);
    size_t n = lua_type(L, index) == LUA_TTABLE ? lua_objlen(L, index) : 0;
    if (!n || mj_made_by(L, index, MJ_SLOT_PREFIX))
        return fail(c, "'has' wants a path or a list of paths");
    if (enter(c))
        return MJ_ESYNTAX;
    struct mj_match *part = any ? mj_match_or() : mj_match_and();
    struct mj_match *whole = part;
    if (no) {                   /* a record that has not: nothing else could have had */
        whole = mj_match_and(); /* `to` may be a list of which one must hold */
        mj_match_add(whole, mj_match_kinds(1u << MJ_KIND_COMMIT));
        mj_match_add(whole, mj_match_ops(1u << MJ_OP_CREATE | 1u << MJ_OP_UPDATE));
        mj_match_add(whole, mj_match_not(part));
    }
    mj_match_add(to, whole);
    mj_buf_puts(c->shown, no ? "no " : any ? "any {" : "{");
    for (size_t i = 1; i <= n; i++) {
        if (i > 1)
            mj_buf_puts(c->shown, ", ");
        lua_rawgeti(L, index, (int)i);
        int err = read_has(c, lua_gettop(L), part);
        lua_pop(L, 1);
        if (err)
            return err;
    }
    if (!no)
        mj_buf_putc(c->shown, '}');
    c->depth--;
    return 0;
}

/* { path = value }, in order of the paths. */
static int read_record(struct ctx *c, int index, const struct key *key, struct mj_match *all)
{
    lua_State *L = c->L;
    struct mj_span paths[PATHS_MAX];
    size_t n = 0;
    if (lua_type(L, index) != LUA_TTABLE || lua_objlen(L, index))
        return fail(c, "'record' wants paths and their values: { [\"reply.root.uri\"] = … }");
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        struct mj_span path = to_span(L, -1);
        if (!path.ptr || n == PATHS_MAX) {
            lua_pop(L, 1);
            return fail(c, path.ptr ? "'record' has more than 64 paths"
                                    : "the keys of 'record' are paths, as texts");
        }
        size_t i = n++;
        for (; i && mj_span_cmp(paths[i - 1], path) > 0; i--)
            paths[i] = paths[i - 1];
        paths[i] = path;
    }
    if (!n)
        return fail(c, "'record' is empty");
    mj_buf_puts(c->shown, "{ ");
    for (size_t i = 0; i < n; i++) {
        struct mj_match *probe = mj_match_present(MJ_FIELD_PATH);
        int err = mj_match_path(probe, paths[i]);
        mj_match_free(probe);
        if (err) {
            mj_buf_printf(c->error, "bad path '%.80s': write keys with dots, list items as [1]",
                          (const char *)paths[i].ptr);
            return MJ_ESYNTAX;
        }
        mj_buf_printf(c->shown, "%s[", i ? ", " : "");
        mj_buf_put_json(c->shown, paths[i]);
        mj_buf_puts(c->shown, "] = ");
        lua_pushnil(L); /* finding the value again by walking allocates nothing */
        while (lua_next(L, index) && !mj_span_eq(to_span(L, -2), paths[i]))
            lua_pop(L, 1);
        err = read_any(c, lua_gettop(L), key, paths[i], all);
        lua_pop(L, 2);
        if (err)
            return err;
    }
    mj_buf_puts(c->shown, " }");
    return 0;
}

static int read_key(struct ctx *c, int index, const struct key *key, struct mj_match *all)
{
    bool flag = lua_type(c->L, index) == LUA_TBOOLEAN;
    mj_buf_printf(c->shown, "%s = ", key->name);
    switch (key->type) {
    case V_REPLY:
        return flag ? read_flag(c, index, key, all)
                    : fail(c, "'reply' is true (replies only) or false (roots only); whose is "
                              "'reply_to'");
    case V_QUOTES:
        return flag ? read_flag(c, index, key, all)
                    : read_any(c, index, key, mj_span(NULL, 0), all);
    case V_HAS:
        return read_has(c, index, all);
    case V_RECORD:
        return read_record(c, index, key, all);
    default:
        return read_any(c, index, key, mj_span(NULL, 0), all);
    }
}

static int unknown_key(struct ctx *c, const char *name)
{
    const char *names[MJ_COUNT(keys)];
    for (size_t i = 0; i < MJ_COUNT(keys); i++)
        names[i] = keys[i].name;
    const char *near = mj_closest(name, names, MJ_COUNT(keys));
    mj_buf_printf(c->error, "a match has no '%.80s'", name);
    if (near) {
        mj_buf_printf(c->error, "; did you mean '%s'?", near);
        return MJ_ESYNTAX;
    }
    mj_buf_puts(c->error, " (it knows ");
    for (size_t i = 0; i < MJ_COUNT(keys); i++)
        mj_buf_printf(c->error, "%s%s", i ? ", " : "", keys[i].name);
    mj_buf_puts(c->error, "; values of the record go into record = { path = value })");
    return MJ_ESYNTAX;
}

/* Complains about the first key that is none. */
static int check_keys(struct ctx *c, int index)
{
    lua_State *L = c->L;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        const char *name = (const char *)to_span(L, -1).ptr;
        size_t i = 0;
        while (name && i < MJ_COUNT(keys) && strcmp(keys[i].name, name) != 0)
            i++;
        if (!name || i == MJ_COUNT(keys)) {
            int err = name ? unknown_key(c, name) : fail(c, MIXED);
            lua_pop(L, 1);
            return err;
        }
    }
    return 0;
}

static int read_keys(struct ctx *c, int index, struct mj_match *all)
{
    lua_State *L = c->L;
    const char *comma = "{ ";
    int err = check_keys(c, index);
    for (size_t i = 0; i < MJ_COUNT(keys) && !err; i++) {
        lua_pushnil(L);
        while (lua_next(L, index)) {
            if (mj_span_is(to_span(L, -2), keys[i].name)) {
                mj_buf_puts(c->shown, comma);
                comma = ", ";
                err = read_key(c, lua_gettop(L), &keys[i], all);
                lua_pop(L, 2);
                break;
            }
            lua_pop(L, 1);
        }
    }
    /* An empty list, or one whose only value was nil: neither is meant to be everything. */
    if (!err && *comma == '{')
        return fail(c, "the match is empty (is a value nil?); \"*\" is every event");
    mj_buf_puts(c->shown, " }");
    return err;
}

static int read_match(struct ctx *c, int index, struct mj_match **out);

static int read_alternatives(struct ctx *c, int index, struct mj_match *any)
{
    lua_State *L = c->L;
    size_t n = lua_objlen(L, index), end = 0, shown = n > SHOWN_MAX + 1 ? SHOWN_MAX : n;
    mj_buf_puts(c->shown, "any { ");
    for (size_t i = 1; i <= n; i++) {
        struct mj_match *one = NULL;
        if (i > 1 && i <= shown)
            mj_buf_puts(c->shown, ", ");
        lua_rawgeti(L, index, (int)i);
        int err = read_match(c, lua_gettop(L), &one);
        lua_pop(L, 1);
        if (err)
            return err;
        mj_match_add(any, one);
        if (i <= shown)
            end = c->shown->len;
        c->shown->len = end;
    }
    if (shown < n)
        mj_buf_printf(c->shown, ", … and %zu more", n - shown);
    mj_buf_puts(c->shown, " }");
    return n ? 0 : fail(c, "the list is empty, so nothing could match");
}

static int read_match(struct ctx *c, int index, struct mj_match **out)
{
    lua_State *L = c->L;
    int err;
    if (lua_type(L, index) == LUA_TSTRING) {
        struct mj_span text = to_span(L, index);
        mj_buf_put(c->shown, text.ptr, text.len);
        return mj_match_parse(text, out, c->error);
    }
    if (mj_lua_words(L, index))
        return fail(c, "jet.words goes behind a key: { text = jet.words { … } }");
    if (mj_set_from_lua(L, index))
        return fail(c, "jet.set goes behind a key: { did = jet.set(…) }");
    if (lua_type(L, index) != LUA_TTABLE) {
        mj_buf_printf(c->error, "a match is a text or a table, not %s", luaL_typename(L, index));
        return MJ_ESYNTAX;
    }
    if (enter(c))
        return MJ_ESYNTAX;
    struct mj_match *m;
    if (mj_made_by(L, index, MJ_SLOT_NO)) {
        struct mj_match *inner = NULL;
        mj_buf_puts(c->shown, "no ");
        lua_rawgeti(L, index, 1);
        err = read_match(c, lua_gettop(L), &inner);
        lua_pop(L, 1);
        m = inner ? mj_match_not(inner) : NULL;
    } else if (mj_made_by(L, index, MJ_SLOT_PREFIX)) {
        m = NULL;
        err = fail(c, "jet.prefix goes behind a key: { did = jet.prefix \"did:web:\" }");
    } else if (lua_objlen(L, index) && has_text_key(L, index)) {
        m = NULL;
        err = fail(c, MIXED);
    } else if (mj_made_by(L, index, MJ_SLOT_ANY) || lua_objlen(L, index)) {
        m = mj_match_or();
        err = read_alternatives(c, index, m);
    } else {
        m = mj_match_and();
        err = read_keys(c, index, m);
    }
    c->depth--;
    if (err) {
        mj_match_free(m);
        return err;
    }
    *out = m;
    return 0;
}

/* What a script's matches take is not in its heap, so it has a limit of its own. */
static int check_size(struct ctx *c, const struct mj_match *made)
{
    const struct mj_graph *g = mj_vm_of(c->L)->graph;
    size_t size = mj_match_size(made);
    for (size_t i = 0; i < g->count; i++)
        size += g->nodes[i]->match ? mj_match_size(g->nodes[i]->match) : 0;
    if (size <= SIZE_MAX_OF)
        return 0;
    mj_buf_printf(c->error,
                  "the script's matches take more than %zu MiB; share a jet.words or a "
                  "jet.set among flows",
                  SIZE_MAX_OF >> 20);
    return MJ_ELIMIT;
}

int mj_match_from_lua(lua_State *L, int index, struct mj_match **out, struct mj_buf *shown,
                      struct mj_buf *error)
{
    struct ctx c = {.L = L, .shown = shown, .error = error};
    struct mj_match *m = NULL;
    *out = NULL;
    int top = lua_gettop(L);
    if (!lua_checkstack(L, 4 * NESTING_MAX + 8)) {
        mj_buf_puts(error, "functions nested too deeply");
        return MJ_ELIMIT;
    }
    int err = read_match(&c, index, &m);
    if (!err)
        err = check_size(&c, m);
    lua_settop(L, top);
    if (err)
        mj_match_free(m);
    else
        *out = m;
    return err;
}
