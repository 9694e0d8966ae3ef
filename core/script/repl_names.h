/* C functions for lua/repl.lua that look at names. Internal to core/script. */
#pragma once

#include <lua.h>

/* locals(): { name = entry }, the script's locals as far as its functions use them */
int mj__repl_locals(lua_State *L);
/* get_local(entry), set_local(entry, value) */
int mj__repl_get_local(lua_State *L);
int mj__repl_set_local(lua_State *L);
/* keys(value): a set of the names behind it, those that metatables lend it included */
int mj__repl_keys(lua_State *L);
