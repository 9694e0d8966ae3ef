/* jet.secret */
#include <stdio.h>

#include "script/bind.h"
#include "script/secrets.h"

/* jet.secret(name) */
static int jet_secret(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    char why[600];
    const char *name = luaL_checkstring(L, 1);
    if (vm->context != MJ_CONTEXT_DECLARE || !vm->cfg)
        return luaL_error(L, "jet.secret is read when the script loads: call it at the top level, "
                             "and keep what it returns in a local variable");
    /* Both buffers are gone before anything can raise. */
    struct mj_buf value = {0}, error = {0};
    int err = mj_secret_find(vm->cfg, name, &value, &error);
    snprintf(why, sizeof why, "%s", err ? mj_buf_cstr(&error) : "");
    mj_buf_deinit(&error);
    if (!err)
        mj_secret_remember(&vm->secrets, mj_buf_span(&value));
    vm->scratch.len = 0;
    mj_buf_put(&vm->scratch, value.ptr, value.len);
    if (value.len)
        explicit_bzero(value.ptr, value.len);
    mj_buf_deinit(&value);
    if (err)
        return luaL_error(L, "%s", why);
    lua_pushlstring(L, (const char *)vm->scratch.ptr, vm->scratch.len);
    explicit_bzero(vm->scratch.ptr, vm->scratch.len);
    vm->scratch.len = 0;
    return 1;
}

void mj_bind_secret(lua_State *L)
{
    lua_pushcfunction(L, jet_secret);
    lua_setfield(L, -2, "secret");
}
