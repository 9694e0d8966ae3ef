/* Option tables of functions that scripts call. */
#include "base/options.h"
#include "base/clock.h"
#include "script/bind.h"

void mj_check_options(lua_State *L, int index, const char *what, const char *const *names)
{
    size_t n = 0;
    /* The table's __index may call whoever reads it again. */
    mj_check_stack(L);
    while (names[n])
        n++;
    const char *key_of = strrchr(what, ' '); /* "each: retry", a table within a table */
    const char *call = key_of ? key_of + 1 : what, *is = key_of ? " =" : "";
    if (!lua_istable(L, index))
        luaL_error(L, "%s wants a table of options: %s%s { %s = … }", what, call, is, names[0]);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
        size_t i = 0;
        while (i < n && key && strcmp(key, names[i]) != 0)
            i++;
        if (!key)
            luaL_error(L, "%s wants named options: %s%s { %s = … }", what, call, is, names[0]);
        if (i == n) {
            const char *near = mj_closest(key, names, n);
            luaL_error(L, "%s has no option '%s'%s%s%s", what, key, near ? "; did you mean '" : "",
                       near ? near : "", near ? "'?" : "");
        }
        lua_pop(L, 1);
    }
}

/* Reached by a name that the methods at upvalue 1 do not have; upvalue 2 is the class. */
static int no_method(lua_State *L)
{
    const char *names[64];
    size_t n = 0;
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : luaL_typename(L, 2);
    lua_settop(L, 2);
    lua_pushnil(L);
    while (lua_next(L, lua_upvalueindex(1))) {
        if (n < MJ_COUNT(names))
            names[n++] = lua_tostring(L, -2);
        lua_pop(L, 1);
    }
    const char *near = mj_closest(key, names, n);
    return luaL_error(L, "a %s has no '%s'%s%s%s", lua_tostring(L, lua_upvalueindex(2)), key,
                      near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

void mj_seal_methods(lua_State *L, const char *name)
{
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, -2);
    lua_pushstring(L, name);
    lua_pushcclosure(L, no_method, 2);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
}

int64_t mj_duration_option(lua_State *L, int index, const char *what, const char *name, int64_t def)
{
    size_t len = 0;
    lua_getfield(L, index, name);
    if (!lua_isnil(L, -1)) {
        const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
        if (!text || mj_duration_us(mj_span(text, len), &def))
            luaL_error(L, "%s: '%s' wants a duration as text, such as \"90s\" or \"1h30m\"", what,
                       name);
    }
    lua_pop(L, 1);
    return def;
}

int64_t mj_integer_option(lua_State *L, int index, const char *what, const char *name,
                          int64_t least, int64_t most, int64_t def)
{
    lua_getfield(L, index, name);
    if (!lua_isnil(L, -1)) {
        lua_Number n = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0.5;
        if (!(n >= (lua_Number)least && n <= (lua_Number)most) || n != (lua_Number)(int64_t)n)
            luaL_error(L, "%s: '%s' wants a whole number from %f to %f", what, name,
                       (lua_Number)least, (lua_Number)most);
        def = (int64_t)n;
    }
    lua_pop(L, 1);
    return def;
}
