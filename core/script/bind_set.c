/* jet.set: handles of named sets, which all scripts, the server and ctl share (state/sets.h), and
 * of sets that only one script sees. */
#include <limits.h>
#include <stdio.h>

#include "base/err.h"
#include "script/bind.h"
#include "script/bind_state.h"
#include "state/store.h"

#define CHECK_EVERY 1024 /* members between two looks at the deadline */

struct handle {
    struct mj_set *set; /* ref; NULL while it is being made */
    struct mj_buf at;   /* owned: where a walk is */
};

static struct handle *push_handle(lua_State *L)
{
    struct handle *h = lua_newuserdata(L, sizeof *h);
    *h = (struct handle){0};
    mj_vm_push_slot(L, MJ_SLOT_SET);
    lua_setmetatable(L, -2);
    return h;
}

static int handle_gc(lua_State *L)
{
    struct handle *h = lua_touserdata(L, 1);
    mj_set_unref(h->set);
    mj_buf_deinit(&h->at);
    *h = (struct handle){0};
    return 0;
}

struct mj_set *mj_set_from_lua(lua_State *L, int index)
{
    struct mj_set *set = NULL;
    if (lua_type(L, index) == LUA_TUSERDATA && lua_getmetatable(L, index)) {
        mj_vm_push_slot(L, MJ_SLOT_SET);
        if (lua_rawequal(L, -1, -2))
            set = ((struct handle *)lua_touserdata(L, index < 0 ? index - 2 : index))->set;
        lua_pop(L, 2);
    }
    return set;
}

/* ---- declaring ---- */

/* The list at the index into members of the plan's. */
static struct mj_members *read_list(lua_State *L, int index)
{
    struct mj_members *m = mj_plan_members(mj_vm_of(L)->plan);
    size_t n = lua_objlen(L, index);
    for (size_t i = 1; i <= n; i++) {
        lua_rawgeti(L, index, (int)i);
        if (lua_type(L, -1) != LUA_TSTRING)
            luaL_error(L, "jet.set: member %d is %s, not a text", (int)i, luaL_typename(L, -1));
        struct mj_span text;
        text.ptr = (const uint8_t *)lua_tolstring(L, -1, &text.len);
        int err = mj_members_add(m, text);
        if (err == MJ_EINVAL)
            luaL_error(L, "jet.set: member %d is empty", (int)i);
        if (err)
            mj_raise_state(L, "jet.set", err);
        lua_pop(L, 1);
        if (i % CHECK_EVERY == 0)
            mj_guard_check(L);
    }
    return m;
}

/* Reads a file of the script's folder. */
static struct mj_members *read_file(lua_State *L, const char *name)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_members *m = mj_plan_members(vm->plan);
    char path[PATH_MAX], real[PATH_MAX];
    size_t dir = strlen(vm->dir);
    int n = snprintf(path, sizeof path, "%s%s%s", *name == '/' ? "" : vm->dir,
                     *name == '/' ? "" : "/", name);
    if (n < 0 || (size_t)n >= sizeof path || !realpath(path, real))
        luaL_error(L, "jet.set: there is no file '%s' beside the script", name);
    if (strncmp(real, vm->dir, dir) != 0 || (real[dir] != '/' && dir > 1))
        luaL_error(L,
                   "jet.set: the file '%s' is outside the script's folder; a set of the "
                   "configuration (set \"…\" { file = … }) may be anywhere",
                   name);
    vm->scratch.len = 0;
    mj_sources_add_data(&vm->sources, real);
    if (mj_members_read(m, real, &vm->scratch)) {
        lua_pushlstring(L, (const char *)vm->scratch.ptr, vm->scratch.len);
        luaL_error(L, "jet.set: %s", lua_tostring(L, -1));
    }
    return m;
}

void mj_push_set(lua_State *L, const char *name, const struct mj_state_options *o,
                 struct mj_members *members, const char *what)
{
    struct mj_vm *vm = mj_vm_of(L);
    mj_need_declare(L, what);
    struct handle *h = push_handle(L);
    vm->scratch.len = 0;
    if (mj_plan_set(vm->plan, name, o, members, &h->set, &vm->scratch)) {
        lua_pushlstring(L, (const char *)vm->scratch.ptr, vm->scratch.len);
        luaL_error(L, "%s: %s", what, lua_tostring(L, -1));
    }
}

static bool is_list(lua_State *L, int index)
{
    bool named = false;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        named = named || lua_type(L, -2) != LUA_TNUMBER;
        lua_pop(L, 1);
    }
    if (named && lua_objlen(L, index))
        luaL_error(L,
                   "jet.set: members or options, not both in one table; options may name a file");
    return !named;
}

static int private_set(lua_State *L)
{
    if (!lua_isnoneornil(L, 2) || !is_list(L, 1))
        return luaL_error(L, "jet.set: a set without a name is a list and nothing else");
    struct mj_members *m = read_list(L, 1);
    struct handle *h = push_handle(L);
    h->set = mj_sets_private(mj_store_sets(mj_shelf_store(mj_vm_of(L)->shelf)));
    int err = h->set ? mj_set_give(h->set, "", m) : MJ_ENOMEM;
    return err ? mj_raise_state(L, "jet.set", err) : 1;
}

static int jet_set(lua_State *L)
{
    static const char *const names[] = {"max", "ttl", "persist", "file", NULL};
    struct mj_state_options o = {0};
    struct mj_members *members = NULL;
    mj_need_declare(L, "jet.set");
    lua_settop(L, 2);
    if (lua_type(L, 1) == LUA_TTABLE)
        return private_set(L);
    const char *name = mj_check_state_name(L, "jet.set");
    if (!lua_isnil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        if (is_list(L, 2)) {
            members = read_list(L, 2);
        } else {
            mj_check_options(L, 2, "jet.set", names);
            mj_read_state_options(L, 2, "jet.set", &o);
            lua_getfield(L, 2, "file");
            if (lua_type(L, -1) == LUA_TSTRING)
                members = read_file(L, lua_tostring(L, -1));
            else if (!lua_isnil(L, -1))
                return luaL_error(L, "jet.set: file is the name of a file, not %s",
                                  luaL_typename(L, -1));
            lua_pop(L, 1);
        }
    }
    mj_push_set(L, name, &o, members, "jet.set");
    return 1;
}

/* ---- using ---- */

static struct handle *check_set(lua_State *L, const char *what)
{
    struct handle *h = mj_check_handle(L, MJ_SLOT_SET, what);
    mj_need_running(L, what);
    return h;
}

static int set_add(lua_State *L)
{
    struct handle *h = check_set(L, "set:add");
    int r = mj_set_add(h->set, mj_check_text(L, 2, "set:add", "member"));
    if (r == MJ_EINVAL)
        return luaL_error(L, "set:add: the member is empty");
    if (r < 0)
        return mj_raise_state(L, "set:add", r);
    lua_pushboolean(L, r);
    return 1;
}

static int set_has(lua_State *L)
{
    struct handle *h = check_set(L, "set:has");
    lua_pushboolean(L, mj_set_has(h->set, mj_check_text(L, 2, "set:has", "member")));
    return 1;
}

static int set_remove(lua_State *L)
{
    struct handle *h = check_set(L, "set:remove");
    lua_pushboolean(L, mj_set_remove(h->set, mj_check_text(L, 2, "set:remove", "member")));
    return 1;
}

static int set_count(lua_State *L)
{
    struct handle *h = check_set(L, "set:count");
    lua_pushnumber(L, (lua_Number)mj_set_count(h->set));
    return 1;
}

static int set_clear(lua_State *L)
{
    int err = mj_set_clear(check_set(L, "set:clear")->set);
    return err ? mj_raise_state(L, "set:clear", err) : 0;
}

/* The iterator of set:pairs(): as map:pairs(), it goes on by the last member. */
static int set_next(lua_State *L)
{
    struct handle *h = check_set(L, "set:pairs");
    struct mj_span at = {0};
    int r;
    if (!lua_isnoneornil(L, 2))
        at = mj_check_text(L, 2, "set:pairs", "member");
    while ((r = mj_set_after(h->set, at, &h->at)) == MJ_EAGAIN) {
        mj_guard_check(L);
        lua_settop(L, 1); /* `at` may be the text that was there */
        lua_pushlstring(L, (const char *)h->at.ptr, h->at.len);
        at = mj_check_text(L, 2, "set:pairs", "member");
    }
    if (!r)
        return 0;
    lua_pushlstring(L, (const char *)h->at.ptr, h->at.len);
    return 1;
}

static int set_pairs(lua_State *L)
{
    check_set(L, "set:pairs");
    lua_pushcfunction(L, set_next);
    lua_pushvalue(L, 1);
    return 2;
}

void mj_bind_set(lua_State *L)
{
    static const luaL_Reg set[] = {
        {"add", set_add},     {"has", set_has},     {"remove", set_remove},
        {"count", set_count}, {"pairs", set_pairs}, {"clear", set_clear},
        {NULL, NULL}};
    mj_bind_class(L, MJ_SLOT_SET, "set", set, handle_gc);
    lua_pushcfunction(L, jet_set);
    lua_setfield(L, -2, "set");
}
