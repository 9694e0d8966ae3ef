#include "script/bind.h"

/* The collector sees handles of a few bytes; so many bytes behind them are worth a step of its. */
#define DEBT_MAX ((size_t)64 << 10)

void mj_held_need(lua_State *L, size_t bytes)
{
    struct mj_vm *vm = mj_vm_of(L);
    bytes += sizeof(struct mj_held);
    vm->held_debt += bytes;
    if (vm->held_debt > DEBT_MAX) {
        vm->held_debt = 0;
        mj__vm_gc(L, LUA_GCSTEP);
    }
    /* A part of the memory stays for everything else: a script that keeps too much must still be
     * able to let go. */
    size_t most = vm->cap - vm->cap / 8;
    if (MJ_LIKELY(bytes <= most && vm->used <= most - bytes))
        return;
    mj_guard_check(L);
    mj__vm_gc(L, LUA_GCCOLLECT);
    if (bytes <= most && vm->used <= most - bytes)
        return;
    /* More than the allocator gives: LuaJIT raises its own error, which counts as what it is. */
    lua_newuserdata(L, vm->cap < (1 << 30) ? vm->cap : (size_t)1 << 30);
    luaL_error(L, "not enough memory");
}

struct mj_held *mj_held_new(lua_State *L, struct mj_kept *kept)
{
    size_t bytes = mj_kept_size(kept);
    mj_held_need(L, bytes);
    struct mj_held *h = mj_alloc(sizeof *h);
    *h = (struct mj_held){mj_kept_ref(kept), mj_vm_of(L), 1, bytes + sizeof *h};
    h->vm->used += h->bytes;
    return h;
}

struct mj_held *mj_held_ref(struct mj_held *h)
{
    h->refs++;
    return h;
}

void mj_held_unref(struct mj_held *h)
{
    if (!h || --h->refs)
        return;
    h->vm->used -= h->bytes;
    mj_kept_unref(h->kept);
    free(h);
}
