/* The rest of `jet`, and `host`: the C functions lua/sandbox.lua builds the environment from. */
#include "atproto/syntax.h"
#include "base/options.h"
#include "script/bind.h"
#include "script/secrets.h"

#define LOG_BURST 50 /* lines per second and script */
#define LOG_MAX   4096
#define STACK_MAX (256 * 1024) /* bytes of C stack one call into a script may take */

/* jet.now() */
static int jet_now(lua_State *L)
{
    char text[28];
    mj_datetime_make(mj_vm_now_us(mj_vm_of(L)), text);
    lua_pushstring(L, text);
    return 1;
}

/* printf's texts end at a NUL, and a record's do not: what is behind one must be seen, too. */
static struct mj_span without_nul(struct mj_span text, struct mj_buf *scratch)
{
    if (!text.len || !memchr(text.ptr, 0, text.len))
        return text;
    if (text.ptr != scratch->ptr) {
        scratch->len = 0;
        mj_buf_put(scratch, text.ptr, text.len);
    }
    for (size_t i = 0; i < text.len; i++)
        if (!scratch->ptr[i])
            scratch->ptr[i] = ' ';
    return mj_span(scratch->ptr, text.len);
}

/* host.log(level, text) */
static int host_log(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    size_t len;
    int level = mj_log_level_parse(luaL_checkstring(L, 1));
    const char *text = luaL_checklstring(L, 2, &len);
    struct mj_span shown = mj_secrets_hide(vm->secrets, mj_span(text, len), &vm->scratch);
    shown = without_nul(shown, &vm->scratch);
    mj_log_limited(&vm->log_gate, LOG_BURST, level < 0 ? MJ_LOG_INFO : (enum mj_log_level)level,
                   vm->graph->script, "%.*s", (int)(shown.len < LOG_MAX ? shown.len : LOG_MAX),
                   (const char *)shown.ptr);
    return 0;
}

/* host.closest(word, table): the table's nearest key, or nil */
static int host_closest(lua_State *L)
{
    const char *names[64];
    size_t n = 0;
    const char *word = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, 2)) {
        if (lua_type(L, -2) == LUA_TSTRING && n < MJ_COUNT(names))
            names[n++] = lua_tostring(L, -2);
        lua_pop(L, 1);
    }
    lua_pushstring(L, mj_closest(word, names, n));
    return 1;
}

/* host.memory(): bytes */
static int host_memory(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)mj_vm_of(L)->used);
    return 1;
}

void mj_check_stack(lua_State *L)
{
    const char *here = __builtin_frame_address(0), *start = mj_vm_of(L)->stack;
    if ((start > here ? start - here : here - start) <= STACK_MAX)
        return;
    mj_guard_where(L);
    lua_pushliteral(L, "functions nested too deeply");
    lua_concat(L, 2);
    lua_error(L);
}

static int null_tostring(lua_State *L)
{
    lua_pushliteral(L, "null");
    return 1;
}

/* host.deep(): an error when functions are nested too deeply in each other by way of C */
static int host_deep(lua_State *L)
{
    mj_check_stack(L);
    return 0;
}

void mj_bind_host(lua_State *L)
{
    static const luaL_Reg host[] = {{"log", host_log},           {"deep", host_deep},
                                    {"closest", host_closest},   {"memory", host_memory},
                                    {"require", mj_lua_require}, {NULL, NULL}};
    static const struct {
        const char *name;
        enum mj_slot slot;
    } tables[] = {{"no", MJ_SLOT_NO},       {"any", MJ_SLOT_ANY},       {"prefix", MJ_SLOT_PREFIX},
                  {"array", MJ_SLOT_ARRAY}, {"object", MJ_SLOT_OBJECT}, {"loaded", MJ_SLOT_LOADED}};
    luaL_register(L, NULL, host);
    mj_bind_task_host(L);
    mj_bind_sink_host(L);
    mj_bind_http_host(L);
    mj_bind_serve_host(L);
    mj_bind_keys_host(L);
    mj_bind_label_host(L);
    mj_bind_publish_host(L);
    mj_bind_state_host(L);
    mj_bind_library_host(L);
    mj_bind_agent_host(L);
    mj_bind_text_host(L);
    for (size_t i = 0; i < MJ_COUNT(tables); i++) {
        mj_vm_push_slot(L, tables[i].slot);
        if (tables[i].slot != MJ_SLOT_LOADED) {
            lua_pushboolean(L, 0);
            lua_setfield(L, -2, "__metatable");
        }
        lua_setfield(L, -2, tables[i].name);
    }
}

void mj_bind_jet(lua_State *L)
{
    lua_pushcfunction(L, jet_now);
    lua_setfield(L, -2, "now");
    mj_vm_push_slot(L, MJ_SLOT_CONFIG); /* filled before the script runs */
    lua_setfield(L, -2, "config");
    lua_newuserdata(L, 1);
    lua_newtable(L);
    lua_pushcfunction(L, null_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "null");
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawseti(L, LUA_REGISTRYINDEX, MJ_SLOT_NULL);
    lua_setfield(L, -2, "null");
}
