/* What bind_state.c and bind_set.c share; internal to core/script. Functions that check raise
 * errors that start with `what`, the function as scripts write it. */
#pragma once

#include "script/bind.h"
#include "state/cells.h"

/* The userdata at 1, when it is of that class. */
void *mj_check_handle(lua_State *L, enum mj_slot slot, const char *what);
/* Raises while the script is being loaded. */
void mj_need_running(lua_State *L, const char *what);
/* A text, number or boolean as a text; borrowed from the stack. */
struct mj_span mj_check_text(lua_State *L, int index, const char *what, const char *role);
/* The name at 1 of what is declared. */
const char *mj_check_state_name(lua_State *L, const char *what);
/* max, ttl, persist of the table. */
void mj_read_state_options(lua_State *L, int index, const char *what, struct mj_state_options *out);
/* Raises what a function of core/state returned. */
int mj_raise_state(lua_State *L, const char *what, int err);
/* For what is built in: declares a map, or a named set (state/store.h), and pushes it [raises]. The
 * name may be one that scripts cannot give. */
void mj_push_map(lua_State *L, const char *name, const struct mj_state_options *o,
                 const char *what);
struct mj_members;
void mj_push_set(lua_State *L, const char *name, const struct mj_state_options *o,
                 struct mj_members *members, const char *what);
/* As map:get(key), but also while the script is being loaded. */
int mj_map_peek(lua_State *L);
/* Fills a class's metatable. */
void mj_bind_class(lua_State *L, enum mj_slot slot, const char *name, const luaL_Reg *methods,
                   lua_CFunction gc);
/* bind_set.c: jet.set, added to the table at the top. */
void mj_bind_set(lua_State *L);
