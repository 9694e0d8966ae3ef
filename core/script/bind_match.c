/* From what jet.from is given to a match expression:
 *
 *   "app.bsky.feed.post:create"                         the short form
 *   { collection = …, op = …, did = …, kind = … }       all keys must hold
 *   { "…", {…} }, jet.any {…}                           one must hold
 *   jet.no (…)                                          must not hold
 *
 * and each key's value is a text, a list of values, jet.any, jet.no or jet.prefix of them. A key
 * asks for a field the event has: { collection = jet.no "a.b.c" } is every other collection, and
 * no identity event, while jet.no { collection = "a.b.c" } is everything else. */
#include "base/err.h"
#include "base/options.h"
#include "script/bind.h"

#define NESTING_MAX 16
#define MIXED       "a match is either a list or has named keys, this one has both"

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

/* The value of one key: adds plain texts to `set` (or bits to *mask) and other forms to `any`. */
struct values {
    const char *key;
    bool named;                 /* kind, op: names become bits */
    enum mj_field field;        /* else */
    struct mj_match *set, *any; /* owned */
    unsigned mask;
};

static int read_values(struct ctx *c, int index, struct values *v);

static void values_init(struct values *v, const struct values *like)
{
    *v = *like;
    v->mask = 0;
    v->set = mj_match_set(v->field);
    v->any = mj_match_or();
}

static struct mj_match *values_done(struct values *v)
{
    if (v->named) {
        mj_match_add(v->any,
                     strcmp(v->key, "kind") == 0 ? mj_match_kinds(v->mask) : mj_match_ops(v->mask));
        mj_match_free(v->set);
    } else {
        mj_match_add(v->any, v->set);
    }
    return v->any;
}

static int read_text(struct ctx *c, struct mj_span text, struct values *v)
{
    mj_buf_put_json(c->shown, text);
    if (v->named) {
        int bit = strcmp(v->key, "kind") == 0 ? mj_match_kind_named(text, c->error)
                                              : mj_match_op_named(text, c->error);
        if (bit < 0)
            return bit;
        v->mask |= 1u << bit;
        return 0;
    }
    struct mj_match *own;
    int err = mj_match_value(v->field, text, v->set, &own, c->error);
    if (!err && own)
        mj_match_add(v->any, own);
    return err;
}

static int read_list(struct ctx *c, int index, struct values *v)
{
    lua_State *L = c->L;
    int n = (int)lua_objlen(L, index);
    for (int i = 1; i <= n; i++) {
        if (i > 1)
            mj_buf_puts(c->shown, ", ");
        lua_rawgeti(L, index, i);
        int err = read_values(c, lua_gettop(L), v);
        lua_pop(L, 1);
        if (err)
            return err;
    }
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

static int read_values(struct ctx *c, int index, struct values *v)
{
    lua_State *L = c->L;
    if (lua_type(L, index) == LUA_TSTRING)
        return read_text(c, to_span(L, index), v);
    if (lua_type(L, index) != LUA_TTABLE) {
        mj_buf_printf(c->error, "'%s' wants a text or a list of texts, not %s", v->key,
                      luaL_typename(L, index));
        return MJ_ESYNTAX;
    }
    if (++c->depth > NESTING_MAX || !lua_checkstack(L, 4))
        return fail(c, "the match is nested too deeply");
    int err = 0;
    if (mj_made_by(L, index, MJ_SLOT_PREFIX)) {
        lua_rawgeti(L, index, 1);
        struct mj_span prefix = to_span(L, -1);
        mj_buf_puts(c->shown, "prefix ");
        mj_buf_put_json(c->shown, prefix);
        if (v->named || !prefix.len) {
            mj_buf_printf(c->error, "jet.prefix does not fit '%s'", v->key);
            err = MJ_ESYNTAX;
        } else {
            mj_match_add(v->any, mj_match_prefix(v->field, prefix));
        }
        lua_pop(L, 1);
    } else if (mj_made_by(L, index, MJ_SLOT_NO)) {
        struct values inner;
        values_init(&inner, v);
        mj_buf_puts(c->shown, "no ");
        lua_rawgeti(L, index, 1);
        err = read_values(c, lua_gettop(L), &inner);
        lua_pop(L, 1);
        mj_match_add(v->any, mj_match_not(values_done(&inner)));
    } else {
        bool is_map = has_text_key(L, index);
        if (is_map || !lua_objlen(L, index)) {
            mj_buf_printf(c->error,
                          is_map ? "'%s' wants a list of texts, not a map"
                                 : "the list for '%s' is empty, so nothing could match",
                          v->key);
            err = MJ_ESYNTAX;
        } else {
            mj_buf_putc(c->shown, '{');
            err = read_list(c, index, v);
            mj_buf_putc(c->shown, '}');
        }
    }
    c->depth--;
    return err;
}

static int read_match(struct ctx *c, int index, struct mj_match **out);

static int read_key(struct ctx *c, struct mj_match *all)
{
    static const char *const keys[] = {"kind", "collection", "op", "did"};
    lua_State *L = c->L;
    const char *key = lua_tostring(L, -2);
    struct values like = {.key = NULL}, v;
    for (size_t i = 0; i < MJ_COUNT(keys); i++)
        if (strcmp(key, keys[i]) == 0)
            like.key = keys[i];
    if (!like.key) {
        const char *near = mj_closest(key, keys, MJ_COUNT(keys));
        mj_buf_printf(c->error, "a match has no '%.80s'", key);
        if (near)
            mj_buf_printf(c->error, "; did you mean '%s'?", near);
        else
            mj_buf_puts(c->error, " (it knows kind, collection, op, did)");
        return MJ_ESYNTAX;
    }
    like.named = strcmp(like.key, "kind") == 0 || strcmp(like.key, "op") == 0;
    like.field = strcmp(like.key, "did") == 0 ? MJ_FIELD_DID : MJ_FIELD_COLLECTION;
    mj_buf_printf(c->shown, "%s = ", like.key);
    values_init(&v, &like);
    int err = read_values(c, lua_gettop(L), &v);
    /* Only commits have a collection and an operation; `no` must not turn that around. */
    if (strcmp(like.key, "collection") == 0 || strcmp(like.key, "op") == 0)
        mj_match_add(all, mj_match_kinds(1u << MJ_KIND_COMMIT));
    mj_match_add(all, values_done(&v));
    return err;
}

/* Keys in this order, so that a match is always shown alike. */
static int read_table(struct ctx *c, int index, struct mj_match *all)
{
    static const char *const order[] = {"kind", "collection", "op", "did"};
    lua_State *L = c->L;
    bool first = true;
    lua_pushnil(L);
    while (lua_next(L, index)) { /* unknown keys first */
        bool known = false;
        if (lua_type(L, -2) != LUA_TSTRING) {
            lua_pop(L, 2);
            return fail(c, MIXED);
        }
        for (size_t i = 0; i < MJ_COUNT(order); i++)
            known |= strcmp(lua_tostring(L, -2), order[i]) == 0;
        int err = known ? 0 : read_key(c, all);
        lua_pop(L, 1);
        if (err) {
            lua_pop(L, 1);
            return err;
        }
    }
    mj_buf_puts(c->shown, "{ ");
    for (size_t i = 0; i < MJ_COUNT(order); i++) {
        lua_pushstring(L, order[i]);
        lua_pushvalue(L, -1);
        lua_rawget(L, index);
        int err = 0;
        if (!lua_isnil(L, -1)) {
            if (!first)
                mj_buf_puts(c->shown, ", ");
            first = false;
            err = read_key(c, all);
        }
        lua_pop(L, 2);
        if (err)
            return err;
    }
    mj_buf_puts(c->shown, " }");
    return 0;
}

static int read_alternatives(struct ctx *c, int index, struct mj_match *any)
{
    lua_State *L = c->L;
    int n = (int)lua_objlen(L, index);
    mj_buf_puts(c->shown, "any { ");
    for (int i = 1; i <= n; i++) {
        struct mj_match *one = NULL;
        if (i > 1)
            mj_buf_puts(c->shown, ", ");
        lua_rawgeti(L, index, i);
        int err = read_match(c, lua_gettop(L), &one);
        lua_pop(L, 1);
        if (err)
            return err;
        mj_match_add(any, one);
    }
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
    if (lua_type(L, index) != LUA_TTABLE) {
        mj_buf_printf(c->error, "a match is a text or a table, not %s", luaL_typename(L, index));
        return MJ_ESYNTAX;
    }
    if (++c->depth > NESTING_MAX || !lua_checkstack(L, 6))
        return fail(c, "the match is nested too deeply");
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
        err = read_table(c, index, m);
    }
    c->depth--;
    if (err) {
        mj_match_free(m);
        return err;
    }
    *out = m;
    return 0;
}

int mj_match_from_lua(lua_State *L, int index, struct mj_match **out, struct mj_buf *shown,
                      struct mj_buf *error)
{
    struct ctx c = {.L = L, .shown = shown, .error = error};
    *out = NULL;
    int top = lua_gettop(L);
    int err = lua_checkstack(L, 8) ? read_match(&c, index, out) : MJ_ELIMIT;
    lua_settop(L, top);
    return err;
}
