/* What names mean at the prompt: the script's locals, which its functions hold as upvalues, and
 * what is behind a value, for completion. */
#include "script/repl_names.h"

#include "script/bind.h"

#define LOCALS_MAX 10000 /* functions looked into for the script's locals */
#define KEYS_DEEP  8     /* metatables behind metatables */

/* Notes the upvalues of the function at the top, and puts those that are functions into `queue`. */
static void note_locals(lua_State *L, int names, int queue, int seen)
{
    int fn = lua_gettop(L);
    const char *name;
    for (int i = 1; (name = lua_getupvalue(L, fn, i)); i++) {
        if (*name) {
            lua_getfield(L, names, name);
            bool is_new = lua_isnil(L, -1);
            lua_pop(L, 1);
            if (is_new) {
                lua_createtable(L, 2, 0);
                lua_pushvalue(L, fn);
                lua_rawseti(L, -2, 1);
                lua_pushinteger(L, i);
                lua_rawseti(L, -2, 2);
                lua_setfield(L, names, name);
            }
        }
        if (lua_isfunction(L, -1) && !lua_iscfunction(L, -1)) {
            lua_pushvalue(L, -1);
            lua_rawget(L, seen);
            bool visited = lua_toboolean(L, -1);
            lua_pop(L, 1);
            if (!visited) {
                lua_pushvalue(L, -1);
                lua_rawseti(L, queue, (int)lua_objlen(L, queue) + 1);
            }
        }
        lua_pop(L, 1);
    }
}

/* Our own Lua code is nothing that a script's author wrote. */
static bool is_ours(lua_State *L)
{
    lua_Debug at;
    lua_pushvalue(L, -1);
    lua_getinfo(L, ">S", &at);
    return strcmp(at.short_src, "moonjet") == 0;
}

/* host.locals(): { name = { function, number of its upvalue } }. What flows and tasks call is in
 * the registry; everything that the script's functions share is behind those as upvalues. */
int mj__repl_locals(lua_State *L)
{
    lua_settop(L, 0);
    lua_newtable(L); /* 1: names */
    lua_newtable(L); /* 2: queue */
    lua_newtable(L); /* 3: seen */
    int n = 0;
    lua_pushnil(L);
    while (lua_next(L, LUA_REGISTRYINDEX)) {
        if (lua_type(L, -2) == LUA_TNUMBER && lua_isfunction(L, -1) && !lua_iscfunction(L, -1)) {
            lua_pushvalue(L, -1);
            lua_rawseti(L, 2, ++n);
        }
        lua_pop(L, 1);
    }
    for (int i = 1; i <= LOCALS_MAX; i++) {
        lua_rawgeti(L, 2, i);
        if (lua_isnil(L, -1))
            break;
        lua_pushvalue(L, -1);
        lua_rawget(L, 3);
        bool seen = lua_toboolean(L, -1);
        lua_pop(L, 1);
        if (!seen && !is_ours(L)) {
            lua_pushvalue(L, -1);
            lua_pushboolean(L, 1);
            lua_rawset(L, 3);
            note_locals(L, 1, 2, 3);
        }
        lua_pop(L, 1);
    }
    lua_settop(L, 1);
    return 1;
}

/* host.get_local(entry), host.set_local(entry, value) */
static int upvalue_of(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_rawgeti(L, 1, 1);
    lua_rawgeti(L, 1, 2);
    int i = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    return i;
}

int mj__repl_get_local(lua_State *L)
{
    lua_settop(L, 1);
    int i = upvalue_of(L);
    return lua_getupvalue(L, 2, i) ? 1 : 0;
}

int mj__repl_set_local(lua_State *L)
{
    lua_settop(L, 2);
    int i = upvalue_of(L);
    lua_pushvalue(L, 2);
    lua_setupvalue(L, 3, i);
    return 0;
}

/* host.keys(value): a set of the names behind it, those that metatables lend it included */
int mj__repl_keys(lua_State *L)
{
    lua_settop(L, 1);
    lua_newtable(L); /* 2 */
    lua_pushvalue(L, 1);
    for (int deep = 0; deep < KEYS_DEEP; deep++) {
        int at = lua_gettop(L);
        if (lua_istable(L, at)) {
            lua_pushnil(L);
            while (lua_next(L, at)) {
                lua_pop(L, 1);
                lua_pushvalue(L, -1);
                lua_pushboolean(L, 1);
                lua_rawset(L, 2);
            }
        }
        if (!lua_getmetatable(L, at))
            break;
        lua_pushliteral(L, "__index");
        lua_rawget(L, -2);
        /* A function of ours keeps the names it knows in its first upvalue. */
        if (lua_iscfunction(L, -1) && !lua_getupvalue(L, -1, 1))
            break;
    }
    lua_settop(L, 2);
    return 1;
}
