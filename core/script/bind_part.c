/* The modules in lua/moonjet, which are parts of `jet`, and what all of them need. */
#include "base/clock.h"
#include "script/bind.h"

#define PARTS(X) X(feed) X(labeler)

#define X(name)                                                                                    \
    extern const unsigned char mj_lua_moonjet_##name##_lua[];                                      \
    extern const size_t mj_lua_moonjet_##name##_lua_len;
PARTS(X)
#undef X

/* host.part(name): the module as a function, to be called with host and jet. Its lines are
 * Moonjet's, as those of lua/sandbox.lua are: messages name the script's. */
static int host_part(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    const struct {
        const char *name;
        const unsigned char *text;
        size_t len;
    } parts[] = {
#define X(name) {#name, mj_lua_moonjet_##name##_lua, mj_lua_moonjet_##name##_lua_len},
        PARTS(X)
#undef X
    };
    for (size_t i = 0; i < MJ_COUNT(parts); i++) {
        if (strcmp(parts[i].name, name) != 0)
            continue;
        if (luaL_loadbufferx(L, (const char *)parts[i].text, parts[i].len, "=moonjet", "t"))
            return lua_error(L);
        return 1;
    }
    return luaL_error(L, "no part '%s'", name);
}

/* host.where(): "file:line: " of the script's innermost line */
static int host_where(lua_State *L)
{
    mj_guard_where(L);
    return 1;
}

/* host.duration(what, duration): µs */
static int host_duration(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)mj_check_duration(L, 2, luaL_checkstring(L, 1)));
    return 1;
}

void mj_bind_part_host(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"part", host_part}, {"where", host_where}, {"duration", host_duration}, {NULL, NULL}};
    luaL_register(L, NULL, functions);
}
