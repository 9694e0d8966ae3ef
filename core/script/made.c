#include "script/made.h"

#include "script/scripts.h"

/* The slot's table: [1] the weak table, value ─▶ number of its text, negative for what is used by
 * being led to (sinks); [2] the texts by number, false once used. */
enum { VALUES = 1, TEXTS = 2 };

static bool is_on(struct mj_vm *vm)
{
    return vm->context == MJ_CONTEXT_DECLARE && vm->cfg && vm->cfg->lint;
}

/* Pushes the two tables. */
static void push_tables(lua_State *L)
{
    mj_vm_push_slot(L, MJ_SLOT_MADE);
    lua_rawgeti(L, -1, VALUES);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_createtable(L, 0, 1);
        lua_pushliteral(L, "k");
        lua_setfield(L, -2, "__mode");
        lua_setmetatable(L, -2);
        lua_pushvalue(L, -1);
        lua_rawseti(L, -3, VALUES);
        lua_newtable(L);
        lua_rawseti(L, -3, TEXTS);
    }
    lua_rawgeti(L, -2, TEXTS);
    lua_remove(L, -3);
}

static void note(lua_State *L, const char *what, const char *name, const char *odd, int sign)
{
    struct mj_vm *vm = mj_vm_of(L);
    if (!is_on(vm))
        return;
    int value = lua_gettop(L);
    push_tables(L);
    int number = (int)lua_objlen(L, -1) + 1;
    luaL_where(L, 1);
    lua_pushfstring(L, "%s%s%s%s %s", what, name ? " \"" : "", name ? name : "", name ? "\"" : "",
                    odd);
    lua_concat(L, 2);
    lua_rawseti(L, -2, number);
    lua_pushvalue(L, value);
    lua_pushinteger(L, sign * number);
    lua_rawset(L, -4);
    lua_settop(L, value);
}

void mj_made(lua_State *L, const char *what, const char *name)
{
    note(L, what, name, "is used by nothing that runs on events or later", 1);
}

void mj_made_sink(lua_State *L, const char *what, const char *name)
{
    note(L, what, name, "leads nowhere: no flow goes :to it", -1);
}

void mj_made_used(lua_State *L, int index)
{
    struct mj_vm *vm = mj_vm_of(L);
    if (!is_on(vm))
        return;
    int top = lua_gettop(L);
    lua_pushvalue(L, index);
    push_tables(L);
    lua_pushvalue(L, -3);
    lua_rawget(L, -3);
    int number = (int)lua_tointeger(L, -1);
    if (number) {
        lua_pushboolean(L, false);
        lua_rawseti(L, -3, number < 0 ? -number : number);
    }
    lua_settop(L, top);
}

struct report {
    struct mj_buf *out;
    size_t count;
};

/* In protected mode: what is collected may have a finalizer, and the tables are walked. */
static int report(lua_State *L)
{
    struct report *r = lua_touserdata(L, 1);
    lua_gc(L, LUA_GCCOLLECT, 0);
    lua_gc(L, LUA_GCCOLLECT, 0); /* what the first one finalized */
    push_tables(L);
    lua_pushnil(L);
    while (lua_next(L, -3)) {
        int number = (int)lua_tointeger(L, -1);
        lua_pop(L, 1);
        if (number > 0) { /* something still has it */
            lua_pushboolean(L, false);
            lua_rawseti(L, -3, number);
        }
    }
    for (int i = 1, n = (int)lua_objlen(L, -1); i <= n; i++) {
        lua_rawgeti(L, -1, i);
        const char *text = lua_tostring(L, -1);
        if (text) {
            mj_buf_puts(r->out, text);
            mj_buf_putc(r->out, '\n');
            r->count++;
        }
        lua_pop(L, 1);
    }
    return 0;
}

size_t mj_scripts_unused(struct mj_scripts *s, size_t i, struct mj_buf *out)
{
    struct report r = {.out = out};
    lua_State *L = s->scripts[i]->vm->L;
    lua_cpcall(L, report, &r);
    lua_settop(L, 0);
    return r.count;
}
