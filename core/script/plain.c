/* Values of a script as plain data: what specs compare and the prompt prints. */
#include "atproto/cid.h"
#include "script/bind.h"

static void set_span(lua_State *L, const char *key, struct mj_span s)
{
    if (!s.ptr)
        return;
    lua_pushlstring(L, (const char *)s.ptr, s.len);
    lua_setfield(L, -2, key);
}

void mj_push_event(lua_State *L, struct mj_vm *vm, const struct mj_event *ev)
{
    char cid[2 * MJ_CID_MAX];
    lua_createtable(L, 0, 12);
    set_span(L, "kind", mj_str(mj_kind_name(ev->kind)));
    set_span(L, "did", ev->did);
    set_span(L, "time", ev->time);
    set_span(L, "id", ev->id);
    lua_pushnumber(L, (lua_Number)ev->seq);
    lua_setfield(L, -2, "seq");
    lua_pushnumber(L, (lua_Number)ev->time_us);
    lua_setfield(L, -2, "time_us");
    if (ev->kind == MJ_KIND_IDENTITY)
        set_span(L, "handle", ev->handle);
    if (ev->kind == MJ_KIND_ACCOUNT) {
        lua_pushboolean(L, ev->active);
        lua_setfield(L, -2, "active");
        set_span(L, "status", ev->status);
    }
    if (ev->kind != MJ_KIND_COMMIT)
        return;
    set_span(L, "op", mj_str(mj_op_name(ev->op)));
    set_span(L, "collection", ev->collection);
    set_span(L, "rkey", ev->rkey);
    set_span(L, "rev", ev->rev);
    if (ev->cid.len)
        set_span(L, "cid", mj_span(cid, mj_cid_text(ev->cid, cid)));
    lua_pushliteral(L, "at://");
    lua_pushlstring(L, (const char *)ev->did.ptr, ev->did.len);
    lua_pushliteral(L, "/");
    lua_pushlstring(L, (const char *)ev->collection.ptr, ev->collection.len);
    lua_pushliteral(L, "/");
    lua_pushlstring(L, (const char *)ev->rkey.ptr, ev->rkey.len);
    lua_concat(L, 6);
    lua_setfield(L, -2, "uri");
    if (ev->record.len) {
        mj_push_table(L, vm, ev->record);
        lua_setfield(L, -2, "record");
    }
}

int mj_lua_plain(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    lua_settop(L, 1);
    mj_vm_push_slot(L, MJ_SLOT_NULL);
    if (lua_rawequal(L, 1, 2)) {
        lua_pushliteral(L, "jet.null");
        return 1;
    }
    if (mj_is_event(L, 1) && vm->ev) {
        mj_push_event(L, vm, vm->ev);
        return 1;
    }
    struct mj_span item = vm->ev ? mj_proxy_span(L, vm, 1) : mj_span(NULL, 0);
    if (item.ptr)
        mj_push_table(L, vm, mj_cbor_item(item));
    else if (!luaL_callmeta(L, 1, "__tostring"))
        lua_pushfstring(L, "<%s>", luaL_typename(L, 1));
    return 1;
}
