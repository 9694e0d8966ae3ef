/* What lua/moonjet/feed.lua needs of C: tokens that say who asks, and places in a script. */
#include "atproto/jwt.h"
#include "base/err.h"
#include "script/bind.h"

static struct mj_span check_span(lua_State *L, int index)
{
    size_t len;
    const char *text = luaL_checklstring(L, index, &len);
    return mj_span(text, len);
}

static int push_fault(lua_State *L, struct mj_jwt_fault fault)
{
    lua_pushnil(L);
    lua_pushstring(L, fault.name);
    lua_pushstring(L, fault.message);
    return 3;
}

/* host.jwt_read(token, did, service, lxm): the account it speaks for, if it is for us and now; its
 * signature is not looked at. Or nil, the error's name and its message. */
static int host_jwt_read(lua_State *L)
{
    struct mj_jwt jwt;
    struct mj_jwt_fault fault;
    struct mj_span token = check_span(L, 1);
    const char *did = luaL_checkstring(L, 2), *service = luaL_checkstring(L, 3);
    const char *lxm = luaL_checkstring(L, 4);
    int err = mj_jwt_parse(token, &jwt);
    if (err)
        return push_fault(L, mj_jwt_parse_fault(err));
    int64_t now_s = mj_vm_now_us(mj_vm_of(L)) / 1000000;
    if (!mj_jwt_check(&jwt, did, service, lxm, now_s, &fault))
        return push_fault(L, fault);
    lua_pushstring(L, jwt.iss);
    return 1;
}

/* host.jwt_verify(token, key): whether the key, "did:key:…", has signed it */
static int host_jwt_verify(lua_State *L)
{
    struct mj_jwt jwt;
    struct mj_pubkey *key = NULL;
    struct mj_span token = check_span(L, 1), text = check_span(L, 2);
    bool good = mj_jwt_parse(token, &jwt) == 0 && mj_pubkey_parse(text, &key) == 0 &&
                mj_jwt_verify(&jwt, key) == 0;
    mj_pubkey_free(key);
    lua_pushboolean(L, good);
    return 1;
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

void mj_bind_keys_host(lua_State *L)
{
    static const luaL_Reg functions[] = {{"jwt_read", host_jwt_read},
                                         {"jwt_verify", host_jwt_verify},
                                         {"where", host_where},
                                         {"duration", host_duration},
                                         {NULL, NULL}};
    luaL_register(L, NULL, functions);
}
