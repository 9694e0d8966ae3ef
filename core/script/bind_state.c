/* jet.map, jet.zset, jet.top: handles of what the store keeps (state/store.h). A handle owns a
 * reference, so it is good as long as the VM, whatever a reload declares. Nothing here is held
 * across a call that may raise: keys and values are the Lua strings on the stack. */
#include <math.h>

#include "base/err.h"
#include "script/bind.h"
#include "script/bind_state.h"
#include "script/made.h"
#include "state/store.h"

#define LIST_USUAL  10
#define RANGE_USUAL 1000
#define LIST_MAX    1000000 /* entries in one answer */
#define CHECK_EVERY 256     /* entries between two looks at the deadline */

struct handle {
    struct mj_state *state; /* ref; NULL while it is being made */
};

/* ---- what sets use, too ---- */

void *mj_check_handle(lua_State *L, enum mj_slot slot, const char *what)
{
    if (lua_getmetatable(L, 1)) {
        mj_vm_push_slot(L, slot);
        bool same = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
        if (same)
            return lua_touserdata(L, 1);
    }
    luaL_error(L, "call it with a colon: %s(…)", what);
    return NULL;
}

void mj_need_running(lua_State *L, const char *what)
{
    if (mj_vm_of(L)->context == MJ_CONTEXT_DECLARE)
        luaL_error(L,
                   "%s works in functions: while the script is being loaded, its state is only "
                   "declared",
                   what);
}

struct mj_span mj_check_text(lua_State *L, int index, const char *what, const char *role)
{
    size_t len;
    const char *text;
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
    case LUA_TNUMBER:
        text = lua_tolstring(L, index, &len);
        return mj_span(text, len);
    case LUA_TBOOLEAN:
        return lua_toboolean(L, index) ? MJ_SPAN("true") : MJ_SPAN("false");
    default:
        luaL_error(L, "%s: the %s must be a text, a number or a boolean, not %s", what, role,
                   luaL_typename(L, index));
        return mj_span(NULL, 0);
    }
}

const char *mj_check_state_name(lua_State *L, const char *what)
{
    size_t len;
    const char *name = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &len) : NULL;
    if (!name)
        luaL_error(L, "%s wants a name first, not %s", what, luaL_typename(L, 1));
    if (!mj_state_name_valid(mj_span(name, len)))
        luaL_error(
            L, "%s: '%s' cannot be a name: up to %d letters, digits and '_', and no digit first",
            what, name, MJ_SET_NAME_MAX);
    return name;
}

void mj_read_state_options(lua_State *L, int index, const char *what, struct mj_state_options *out)
{
    out->max = (uint64_t)mj_integer_option(L, index, what, "max", 1, MJ_STATE_MAX, 0);
    out->says_max = out->max != 0;
    out->ttl_us = mj_duration_option(L, index, what, "ttl", -1);
    out->says_ttl = out->ttl_us >= 0;
    if (out->ttl_us == 0)
        luaL_error(L, "%s: a 'ttl' of 0 would keep nothing", what);
    lua_getfield(L, index, "persist");
    out->says_persist = !lua_isnil(L, -1);
    if (out->says_persist && lua_type(L, -1) != LUA_TBOOLEAN)
        luaL_error(L, "%s: 'persist' is true or false", what);
    out->persist = lua_toboolean(L, -1);
    lua_pop(L, 1);
}

int mj_raise_state(lua_State *L, const char *what, int err)
{
    switch (err) {
    case MJ_EBIG:
        return luaL_error(L, "%s: too long: a key has at most %d bytes, a text %d", what,
                          (int)MJ_STATE_KEY_MAX, (int)MJ_STATE_VALUE_MAX);
    case MJ_ELIMIT:
        return luaL_error(L,
                          "%s: no room: what the script remembers has used up its memory; lower "
                          "`max` of what is large",
                          what);
    default:
        return luaL_error(L, "%s: %s", what, mj_strerror(err));
    }
}

/* ---- declaring ---- */

static struct handle *push_handle(lua_State *L, enum mj_slot slot)
{
    struct handle *h = lua_newuserdata(L, sizeof *h);
    h->state = NULL;
    mj_vm_push_slot(L, slot);
    lua_setmetatable(L, -2);
    return h;
}

static int handle_gc(lua_State *L)
{
    struct handle *h = lua_touserdata(L, 1);
    mj_state_unref(h->state);
    h->state = NULL;
    return 0;
}

/* Leaves the error that a plan gave on the VM's scratch. */
static int raise_plan(lua_State *L, const char *what, struct mj_buf *error)
{
    lua_pushlstring(L, (const char *)error->ptr, error->len);
    return luaL_error(L, "%s: %s", what, lua_tostring(L, -1));
}

static int declare(lua_State *L, enum mj_state_type type, enum mj_slot slot, const char *what)
{
    static const char *const names[] = {"max", "ttl", "persist", NULL};
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_state_options o = {0};
    struct mj_state *state;
    mj_need_declare(L, what);
    const char *name = mj_check_state_name(L, what);
    if (!lua_isnoneornil(L, 2)) {
        mj_check_options(L, 2, what, names);
        mj_read_state_options(L, 2, what, &o);
    }
    struct handle *h = push_handle(L, slot);
    vm->scratch.len = 0;
    if (mj_plan_state(vm->plan, type, name, &o, &state, &vm->scratch))
        return raise_plan(L, what, &vm->scratch);
    h->state = mj_state_ref(state);
    mj_made(L, what, name);
    return 1;
}

void mj_push_map(lua_State *L, const char *name, const struct mj_state_options *o, const char *what)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_state *state;
    mj_need_declare(L, what);
    struct handle *h = push_handle(L, MJ_SLOT_MAP);
    vm->scratch.len = 0;
    if (mj_plan_state(vm->plan, MJ_STATE_MAP, name, o, &state, &vm->scratch))
        raise_plan(L, what, &vm->scratch);
    h->state = mj_state_ref(state);
}

static int jet_map(lua_State *L) { return declare(L, MJ_STATE_MAP, MJ_SLOT_MAP, "jet.map"); }
static int jet_zset(lua_State *L) { return declare(L, MJ_STATE_ZSET, MJ_SLOT_ZSET, "jet.zset"); }

static int jet_top(lua_State *L)
{
    static const char *const names[] = {"k", "window", NULL};
    static const char *const what = "jet.top";
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_state *state;
    size_t k = 100;
    int64_t window = 0;
    mj_need_declare(L, what);
    const char *name = mj_check_state_name(L, what);
    if (!lua_isnoneornil(L, 2)) {
        mj_check_options(L, 2, what, names);
        k = (size_t)mj_integer_option(L, 2, what, "k", 1, MJ_TOP_K_MAX, 100);
        window = mj_duration_option(L, 2, what, "window", -1);
        if (!window)
            return luaL_error(L, "%s: a 'window' of 0 would keep nothing", what);
        window = window < 0 ? 0 : window;
    }
    struct handle *h = push_handle(L, MJ_SLOT_TOP);
    vm->scratch.len = 0;
    if (mj_plan_top(vm->plan, name, k, window, &state, &vm->scratch))
        return raise_plan(L, what, &vm->scratch);
    h->state = mj_state_ref(state);
    mj_made(L, what, name);
    return 1;
}

/* ---- using ---- */

static struct mj_state *check_state(lua_State *L, enum mj_slot slot, const char *what)
{
    struct handle *h = mj_check_handle(L, slot, what);
    mj_need_running(L, what);
    return h->state;
}

static int64_t now_of(lua_State *L, const struct mj_state *s)
{
    return mj_shelf_now(mj_vm_of(L)->shelf, s);
}

static void push_value(lua_State *L, const struct mj_value *v)
{
    switch (v->type) {
    case MJ_VALUE_NUMBER:
        lua_pushnumber(L, v->number);
        break;
    case MJ_VALUE_TEXT:
        lua_pushlstring(L, (const char *)v->text.ptr, v->text.len);
        break;
    default:
        lua_pushboolean(L, v->type == MJ_VALUE_TRUE);
    }
}

int mj_map_peek(lua_State *L)
{
    struct mj_state *s = ((struct handle *)mj_check_handle(L, MJ_SLOT_MAP, "map:get"))->state;
    struct mj_span key = mj_check_text(L, 2, "map:get", "key");
    struct mj_value v;
    if (mj_map_get(&s->map, key, now_of(L, s), &v))
        push_value(L, &v);
    else
        lua_settop(L, 3);
    return 1;
}

static int map_get(lua_State *L)
{
    check_state(L, MJ_SLOT_MAP, "map:get");
    return mj_map_peek(L);
}

static int map_set(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_MAP, "map:set");
    struct mj_span key = mj_check_text(L, 2, "map:set", "key");
    int64_t ttl = lua_isnoneornil(L, 4) ? 0 : mj_check_duration(L, 4, "map:set");
    if (!ttl && !lua_isnoneornil(L, 4))
        return luaL_error(L, "map:set: a ttl of 0 would keep nothing");
    struct mj_value v = {0};
    switch (lua_type(L, 3)) {
    case LUA_TNIL:
    case LUA_TNONE:
        mj_map_remove(&s->map, key, now_of(L, s));
        return 0;
    case LUA_TNUMBER:
        v = (struct mj_value){.type = MJ_VALUE_NUMBER, .number = lua_tonumber(L, 3)};
        break;
    case LUA_TBOOLEAN:
        v.type = lua_toboolean(L, 3) ? MJ_VALUE_TRUE : MJ_VALUE_FALSE;
        break;
    case LUA_TSTRING:
        v.type = MJ_VALUE_TEXT;
        v.text.ptr = (const uint8_t *)lua_tolstring(L, 3, &v.text.len);
        break;
    default:
        return luaL_error(L,
                          "map:set: the value must be a text, a number or a boolean, not %s; "
                          "jet.json.encode makes a text of a table",
                          luaL_typename(L, 3));
    }
    /* An entry's own time has to be exact, even when it is the first of its kind. */
    int64_t now = ttl ? mj_store_now(mj_shelf_store(mj_vm_of(L)->shelf)) : now_of(L, s);
    int err = mj_map_set(&s->map, key, &v, now, ttl);
    return err ? mj_raise_state(L, "map:set", err) : 0;
}

static int map_incr(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_MAP, "map:incr");
    struct mj_span key = mj_check_text(L, 2, "map:incr", "key");
    double by = luaL_optnumber(L, 3, 1), sum;
    int err = mj_map_incr(&s->map, key, by, now_of(L, s), &sum);
    if (err == MJ_ETYPE)
        return luaL_error(L, "map:incr: what is at '%s' is no number", lua_tostring(L, 2));
    if (err == MJ_EINVAL)
        return luaL_error(L, "map:incr: the sum at '%s' would not be a number", lua_tostring(L, 2));
    if (err)
        return mj_raise_state(L, "map:incr", err);
    lua_pushnumber(L, sum);
    return 1;
}

static int map_has(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_MAP, "map:has");
    struct mj_value v;
    struct mj_span key = mj_check_text(L, 2, "map:has", "key");
    lua_pushboolean(L, mj_map_get(&s->map, key, now_of(L, s), &v));
    return 1;
}

static int map_remove(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_MAP, "map:remove");
    struct mj_span key = mj_check_text(L, 2, "map:remove", "key");
    lua_pushboolean(L, mj_map_remove(&s->map, key, now_of(L, s)));
    return 1;
}

static int map_count(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_MAP, "map:count");
    lua_pushnumber(L, (lua_Number)mj_map_count(&s->map));
    return 1;
}

static int map_clear(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_MAP, "map:clear");
    int err = mj_cells_clear(&s->cells);
    return err ? mj_raise_state(L, "map:clear", err) : 0;
}

/* The iterator of map:pairs(): it goes on by the last key, so nothing dangles whatever the loop's
 * body does. */
static int map_next(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_MAP, "map:pairs");
    struct mj_span key = {0}, next;
    struct mj_value v;
    bool first = lua_isnoneornil(L, 2);
    int r;
    lua_settop(L, 2);
    if (!first)
        key = mj_check_text(L, 2, "map:pairs", "key");
    int64_t now = now_of(L, s);
    while ((r = mj_map_after(&s->map, first ? NULL : &key, now, &next, &v)) == MJ_EAGAIN) {
        mj_guard_check(L);
        key = next;
        first = false;
    }
    if (!r)
        return 0;
    lua_pushlstring(L, (const char *)next.ptr, next.len);
    push_value(L, &v);
    return 2;
}

static int map_pairs(lua_State *L)
{
    check_state(L, MJ_SLOT_MAP, "map:pairs");
    lua_pushcfunction(L, map_next);
    lua_pushvalue(L, 1);
    return 2;
}

static int raise_zset(lua_State *L, const char *what, int err)
{
    if (err == MJ_EINVAL)
        return luaL_error(L, "%s: the score of '%s' would not be a number", what,
                          lua_tostring(L, 2));
    return mj_raise_state(L, what, err);
}

static int zset_set(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_ZSET, "zset:set");
    struct mj_span key = mj_check_text(L, 2, "zset:set", "key");
    int err = mj_zset_set(&s->zset, key, luaL_checknumber(L, 3), now_of(L, s));
    return err ? raise_zset(L, "zset:set", err) : 0;
}

static int zset_incr(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_ZSET, "zset:incr");
    struct mj_span key = mj_check_text(L, 2, "zset:incr", "key");
    double by = luaL_optnumber(L, 3, 1), score;
    int err = mj_zset_incr(&s->zset, key, by, now_of(L, s), &score);
    if (err)
        return raise_zset(L, "zset:incr", err);
    lua_pushnumber(L, score);
    return 1;
}

static int zset_score(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_ZSET, "zset:score");
    struct mj_span key = mj_check_text(L, 2, "zset:score", "key");
    double score;
    if (mj_zset_score(&s->zset, key, now_of(L, s), &score))
        lua_pushnumber(L, score);
    else
        lua_pushnil(L);
    return 1;
}

static int zset_rank(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_ZSET, "zset:rank");
    struct mj_span key = mj_check_text(L, 2, "zset:rank", "key");
    size_t rank = mj_zset_rank(&s->zset, key, now_of(L, s));
    if (rank)
        lua_pushnumber(L, (lua_Number)rank);
    else
        lua_pushnil(L);
    return 1;
}

static int zset_remove(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_ZSET, "zset:remove");
    struct mj_span key = mj_check_text(L, 2, "zset:remove", "key");
    lua_pushboolean(L, mj_zset_remove(&s->zset, key, now_of(L, s)));
    return 1;
}

static int zset_count(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_ZSET, "zset:count");
    lua_pushnumber(L, (lua_Number)mj_zset_count(&s->zset));
    return 1;
}

static int zset_clear(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_ZSET, "zset:clear");
    int err = mj_zset_clear(&s->zset);
    return err ? mj_raise_state(L, "zset:clear", err) : 0;
}

static size_t check_number(lua_State *L, int index, const char *what, const char *role, double most,
                           double usual)
{
    double n = luaL_optnumber(L, index, usual);
    if (!(n >= 0 && n <= most) || n != floor(n))
        luaL_error(L, "%s: %s is a whole number from 0 to %d", what, role, (int)most);
    return (size_t)n;
}

/* The zset's entries from `at` on, n of them, as a list of { key =, score = }. What has ended is
 * passed over. Nothing can change the zset meanwhile: no code of the script runs. */
static int push_entries(lua_State *L, const struct mj_state *s, struct mj_zset_cell *at,
                        struct mj_zset_cell *(*step)(const struct mj_zset_cell *), size_t n,
                        double most)
{
    int64_t now = now_of(L, s);
    struct mj_zset_entry e;
    size_t pushed = 0;
    lua_newtable(L);
    for (size_t looked = 1; at && pushed < n; at = step(at), looked++) {
        if (looked % CHECK_EVERY == 0)
            mj_guard_check(L);
        bool there = mj_zset_at(&s->zset, at, now, &e);
        if (e.score > most)
            break;
        if (!there)
            continue;
        lua_createtable(L, 0, 2);
        lua_pushlstring(L, (const char *)e.key.ptr, e.key.len);
        lua_setfield(L, -2, "key");
        lua_pushnumber(L, e.score);
        lua_setfield(L, -2, "score");
        lua_rawseti(L, -2, (int)++pushed);
    }
    return 1;
}

static int zset_top(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_ZSET, "zset:top");
    size_t n = check_number(L, 2, "zset:top", "n", LIST_MAX, LIST_USUAL);
    size_t after = check_number(L, 3, "zset:top", "after", (double)MJ_STATE_MAX, 0);
    return push_entries(L, s, mj_zset_from_rank(&s->zset, after + 1), mj_zset_down, n, INFINITY);
}

static int zset_range(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_ZSET, "zset:range");
    double least = luaL_checknumber(L, 2), most = luaL_checknumber(L, 3);
    if (isnan(least) || isnan(most))
        return luaL_error(L, "zset:range: min and max must be numbers, not NaN");
    size_t n = check_number(L, 4, "zset:range", "n", LIST_MAX, RANGE_USUAL);
    return push_entries(L, s, mj_zset_from_score(&s->zset, least), mj_zset_up, n, most);
}

/* Where the entries begin that follow such a key with such a score, highest first. */
static struct mj_zset_cell *zset_place(lua_State *L, const struct mj_state *s, double score,
                                       struct mj_span key)
{
    double now_score;
    size_t rank = 0;
    if (mj_zset_score(&s->zset, key, now_of(L, s), &now_score) && now_score == score)
        rank = mj_zset_rank(&s->zset, key, now_of(L, s));
    if (rank)
        return mj_zset_from_rank(&s->zset, rank + 1);
    /* It has gone, or has moved: what it was among may still be there. */
    struct mj_zset_cell *at = mj_zset_from_score(&s->zset, score);
    struct mj_zset_cell *below = at ? mj_zset_down(at) : mj_zset_from_rank(&s->zset, 1);
    struct mj_zset_entry e;
    for (size_t looked = 1; at; at = mj_zset_up(at), looked++) {
        if (looked % CHECK_EVERY == 0)
            mj_guard_check(L);
        mj_zset_at(&s->zset, at, 0, &e);
        if (e.score > score || mj_span_cmp(e.key, key) <= 0)
            break;
        below = at;
    }
    return below;
}

/* host.zset_page(zset, n, score, key): the n entries behind that place, or the first ones */
static int host_zset_page(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_ZSET, "zset:top");
    size_t n = check_number(L, 2, "zset:top", "n", LIST_MAX, LIST_USUAL);
    struct mj_zset_cell *at;
    if (lua_isnoneornil(L, 3)) {
        at = mj_zset_from_rank(&s->zset, 1);
    } else {
        double score = luaL_checknumber(L, 3);
        struct mj_span key = mj_check_text(L, 4, "zset:top", "key");
        at = zset_place(L, s, score, key);
    }
    return push_entries(L, s, at, mj_zset_down, n, INFINITY);
}

static int top_add(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_TOP, "top:add");
    struct mj_span key = mj_check_text(L, 2, "top:add", "key");
    double n = luaL_optnumber(L, 3, 1);
    if (!(n >= 1 && n <= 9007199254740992.0) || n != floor(n))
        return luaL_error(L, "top:add: n is a whole number, at least 1");
    int err = mj_top_add(&s->top, key, (int64_t)n, now_of(L, s));
    return err ? mj_raise_state(L, "top:add", err) : 0;
}

static int top_list(lua_State *L)
{
    struct mj_state *s = check_state(L, MJ_SLOT_TOP, "top:list");
    const struct mj_top_entry *v;
    size_t n = check_number(L, 2, "top:list", "n", LIST_MAX, LIST_USUAL);
    ptrdiff_t count = mj_top_list(&s->top, n, now_of(L, s), &v);
    if (count < 0)
        return mj_raise_state(L, "top:list", (int)count);
    lua_createtable(L, (int)count, 0);
    for (ptrdiff_t i = 0; i < count; i++) {
        lua_createtable(L, 0, 3);
        lua_pushlstring(L, (const char *)v[i].key.ptr, v[i].key.len);
        lua_setfield(L, -2, "key");
        lua_pushnumber(L, (lua_Number)v[i].count);
        lua_setfield(L, -2, "count");
        lua_pushnumber(L, (lua_Number)v[i].error);
        lua_setfield(L, -2, "error");
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int top_clear(lua_State *L)
{
    mj_top_clear(&check_state(L, MJ_SLOT_TOP, "top:clear")->top);
    return 0;
}

void mj_bind_class(lua_State *L, enum mj_slot slot, const char *name, const luaL_Reg *methods,
                   lua_CFunction gc)
{
    mj_vm_push_slot(L, slot);
    lua_newtable(L);
    for (const luaL_Reg *m = methods; m->name; m++) {
        lua_pushcfunction(L, m->func);
        lua_setfield(L, -2, m->name);
    }
    mj_seal_methods(L, name);
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__metatable");
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}

void mj_bind_state_host(lua_State *L)
{
    lua_pushcfunction(L, host_zset_page);
    lua_setfield(L, -2, "zset_page");
}

void mj_bind_state(lua_State *L)
{
    static const luaL_Reg map[] = {
        {"get", map_get},     {"set", map_set},       {"incr", map_incr},
        {"has", map_has},     {"remove", map_remove}, {"count", map_count},
        {"pairs", map_pairs}, {"clear", map_clear},   {NULL, NULL}};
    static const luaL_Reg zset[] = {{"set", zset_set},       {"incr", zset_incr},
                                    {"score", zset_score},   {"rank", zset_rank},
                                    {"top", zset_top},       {"range", zset_range},
                                    {"remove", zset_remove}, {"count", zset_count},
                                    {"clear", zset_clear},   {NULL, NULL}};
    static const luaL_Reg top[] = {
        {"add", top_add}, {"list", top_list}, {"clear", top_clear}, {NULL, NULL}};
    static const luaL_Reg jet[] = {
        {"map", jet_map}, {"zset", jet_zset}, {"top", jet_top}, {NULL, NULL}};
    mj_bind_class(L, MJ_SLOT_MAP, "map", map, handle_gc);
    mj_bind_class(L, MJ_SLOT_ZSET, "zset", zset, handle_gc);
    mj_bind_class(L, MJ_SLOT_TOP, "top", top, handle_gc);
    for (const luaL_Reg *f = jet; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    mj_bind_set(L);
}
