/* Reading Lua source files; internal to core/script. */
#pragma once

#include <lua.h>

#define MJ_SOURCE_MAX (1 << 20) /* bytes */

/* Pushes the file's compiled chunk, or a message. Text only. 0, or a Lua status; `shown` is how
 * messages name the file. */
int mj_load_source(lua_State *L, const char *path, const char *shown);
