/* What is written in Lua over the rest of `jet` (lua/moonjet): agents, bots, feeds. A script that
 * uses none of it does not even load it; one that does gets it with the first use, once per VM. */
#include <stdio.h>

#include "script/bind.h"

#define LIBRARY(name)                                                                              \
    extern const unsigned char mj_lua_moonjet_##name##_lua[];                                      \
    extern const size_t mj_lua_moonjet_##name##_lua_len;
#define LIBRARIES(X)                                                                               \
    X(agent)                                                                                       \
    X(bot)                                                                                         \
    X(chat)                                                                                        \
    X(feed)                                                                                        \
    X(labeler)                                                                                     \
    X(post)                                                                                        \
    X(repo)                                                                                        \
    X(richtext)                                                                                    \
    X(xrpc)
LIBRARIES(LIBRARY)

struct library {
    const char *name;
    const unsigned char *text;
    const size_t *len;
};

#define ROW(name) {#name, mj_lua_moonjet_##name##_lua, &mj_lua_moonjet_##name##_lua_len},
static const struct library libraries[] = {LIBRARIES(ROW)};

/* host.load_library(name): the chunk of lua/moonjet/NAME.lua, as a function */
static int host_load_library(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    char chunk[64];
    for (size_t i = 0; i < MJ_COUNT(libraries); i++) {
        const struct library *l = &libraries[i];
        if (strcmp(l->name, name) != 0)
            continue;
        snprintf(chunk, sizeof chunk, "=moonjet/%s.lua", name);
        if (luaL_loadbufferx(L, (const char *)l->text, *l->len, chunk, "t"))
            return lua_error(L);
        return 1;
    }
    return luaL_error(L, "there is no library '%s'", name);
}

void mj_bind_library_host(lua_State *L)
{
    lua_pushcfunction(L, host_load_library);
    lua_setfield(L, -2, "load_library");
}
