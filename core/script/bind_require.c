/* require: `require "moonjet"` is jet; every other module is a Lua file in the script's folder or
 * below, `require "lib.words"` being lib/words.lua. Only while the script loads: reading files
 * would hold up the stream. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "script/bind.h"
#include "script/source.h"

static bool name_valid(const char *name, size_t len)
{
    bool start = true;
    if (!len || len > 200)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '_' || c == '-';
        if (!word && (c != '.' || start))
            return false;
        start = c == '.';
    }
    return !start;
}

/* Finds the module's file and compiles it; 0 or the Lua status. A function of its own, so that its
 * paths are not on the stack while the module runs, which may require others. */
static __attribute__((noinline)) int load_module(lua_State *L, const struct mj_vm *vm,
                                                 const char *name)
{
    char relative[256], path[PATH_MAX], real[PATH_MAX];
    snprintf(relative, sizeof relative, "%s", name);
    for (char *c = relative; *c; c++)
        if (*c == '.')
            *c = '/';
    strcat(relative, ".lua");
    size_t dir = strlen(vm->dir);
    int n = snprintf(path, sizeof path, "%s/%s", vm->dir, relative);
    if (n < 0 || (size_t)n >= sizeof path || !realpath(path, real))
        return luaL_error(L, "module '%s' not found (%s beside the script)", name, relative);
    /* A symbolic link may not lead out of the folder. */
    if (strncmp(real, vm->dir, dir) != 0 || (real[dir] != '/' && dir > 1))
        return luaL_error(L, "module '%s' is outside the script's folder", name);
    return mj_load_source(L, real, relative);
}

int mj_lua_require(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    lua_settop(L, 1);
    mj_vm_push_slot(L, MJ_SLOT_LOADED);
    lua_getfield(L, 2, name);
    if (lua_type(L, 3) == LUA_TLIGHTUSERDATA)
        return luaL_error(L, "module '%s' requires itself", name);
    if (!lua_isnil(L, 3))
        return 1;
    if (vm->context != MJ_CONTEXT_DECLARE)
        return luaL_error(L, "require reads a file: call it at the top level of the script");
    if (!name_valid(name, len))
        return luaL_error(L,
                          "'%s' cannot name a module: letters, digits, '_' and '-', with dots "
                          "between folders",
                          name);
    mj_check_stack(L);
    int status = load_module(L, vm, name);
    lua_pushlightuserdata(L, vm);
    lua_setfield(L, 2, name);
    if (!status)
        status = lua_pcall(L, 0, 1, 0);
    if (status) {
        lua_pushnil(L);
        lua_setfield(L, 2, name); /* asking again gives the same error, not "requires itself" */
        return lua_error(L);
    }
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushboolean(L, 1);
    }
    lua_pushvalue(L, -1);
    lua_setfield(L, 2, name);
    return 1;
}
