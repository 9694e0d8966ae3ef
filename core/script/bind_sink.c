/* jet.sink: plug-ins as sinks of flows. One in C (flow/plugin.h) has an instance per jet.sink,
 * whose thread takes what the flow sends; one in Lua is a task of the script behind a batch, which
 * lua/sandbox.lua makes of the table that the plug-in's file returns. */
#include <stdio.h>

#include "event/kept.h"
#include "flow/plugin.h"
#include "journal/reader.h"
#include "script/bind.h"
#include "script/made.h"
#include "script/services.h"
#include "script/source.h"
#include "script/task.h"

#define DRAIN_US INT64_C(5000000) /* for what waits when the script ends */

struct mj_outlet {
    struct mj_vm *vm;     /* borrowed */
    char *name;           /* owned: the plug-in's */
    struct mj_sink *sink; /* owned */
    bool whole;           /* false: its options were refused, which the script has caught */
    struct mj_outlet *next;
};

static enum mj_verdict push(struct mj_outlet *o, const struct mj_event *ev)
{
    const struct mj_services *v = mj__sched_services(o->vm->sched);
    if (!v || !v->sunk)
        return mj_sink_push(o->sink, ev) ? MJ_VERDICT_DROP : MJ_VERDICT_PASS;
    v->sunk(v->ctx, o->name, ev);
    return MJ_VERDICT_PASS;
}

static enum mj_verdict sink_event(struct mj_node *node, const struct mj_event *ev)
{
    return push(node->ctx, ev);
}

static void add(struct mj_metric *m, int64_t n)
{
    if (m)
        mj_metric_set(m, mj_metric_get(m) + n);
}

static void sink_list(struct mj_node *node, struct mj_kept *const *events, size_t n)
{
    size_t passed = 0;
    for (size_t i = 0; i < n; i++)
        passed += push(node->ctx, &events[i]->ev) == MJ_VERDICT_PASS;
    add(node->in, (int64_t)n);
    add(node->passed, (int64_t)passed);
    add(node->dropped, (int64_t)(n - passed));
}

void mj_outlet_node(struct mj_outlet *o, struct mj_node *node)
{
    node->ctx = o;
    node->fn = sink_event;
    node->list = sink_list;
    node->plugin = mj_strdup(o->name);
    node->durable = true;
    node->reader_kind = MJ_READER_SINK;
}

/* One option at the top of the stack as the text people write; {NULL, 0} for what is none [raises
 * for lack of memory]. */
static struct mj_span option_text(lua_State *L)
{
    lua_Number n;
    char number[32];
    size_t len;
    const char *text;
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
        return mj_str(lua_toboolean(L, -1) ? "true" : "false");
    case LUA_TNUMBER:
        n = lua_tonumber(L, -1);
        snprintf(number, sizeof number,
                 n > -1e15 && n < 1e15 && n == (lua_Number)(int64_t)n ? "%.0f" : "%.17g", n);
        lua_pushstring(L, number);
        lua_replace(L, -2);
        /* fall through */
    case LUA_TSTRING:
        text = lua_tolstring(L, -1, &len);
        return mj_span(text, len);
    default:
        return mj_span(NULL, 0);
    }
}

static int refuse(lua_State *L, const struct mj_buf *error)
{
    lua_pushnil(L);
    lua_pushlstring(L, (const char *)error->ptr, error->len);
    return 2;
}

/* host.sink(name, options): an instance of a plug-in in C, or nil and a message */
static int host_sink(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    const char *name = luaL_checkstring(L, 1);
    struct mj_buf *error = &vm->scratch;
    luaL_checktype(L, 2, LUA_TTABLE);
    /* The list owns it from the start: whatever raises below, it goes with the VM. */
    struct mj_outlet *o = mj_calloc(1, sizeof *o);
    o->vm = vm;
    o->name = mj_strdup(name);
    o->next = vm->outlets;
    vm->outlets = o;
    error->len = 0;
    if (mj_sink_new(name, vm->graph->script, &o->sink, error))
        return refuse(L, error);
    lua_pushnil(L);
    while (lua_next(L, 2)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "a number";
        struct mj_span value = option_text(L);
        error->len = 0;
        if (!value.ptr)
            mj_buf_printf(error, "%s: %s is a text, a number, true or false, not %s", name, key,
                          luaL_typename(L, -1));
        if (!value.ptr || mj_sink_set(o->sink, key, value, error))
            return refuse(L, error);
        lua_pop(L, 1);
    }
    error->len = 0;
    if (mj_sink_check(o->sink, error))
        return refuse(L, error);
    o->whole = true;
    mj_push_outlet(L, o);
    return 1;
}

/* host.plugin(name): what the file of a plug-in in Lua returns; nothing when there is none of that
 * name */
static int host_plugin(lua_State *L)
{
    struct mj_buf *path = &mj_vm_of(L)->scratch;
    const char *name = luaL_checkstring(L, 1);
    mj_need_declare(L, "jet.sink");
    path->len = 0;
    if (mj_plugin_lua(name, path))
        return 0;
    lua_pushfstring(L, "%s/init.lua", name);
    if (mj_load_source(L, mj_buf_cstr(path), lua_tostring(L, -1)))
        return lua_error(L);
    lua_call(L, 0, 1);
    return 1;
}

/* host.made_sink(sink, name): notes it, for `moonjet check` */
static int host_made_sink(lua_State *L)
{
    lua_settop(L, 2);
    const char *name = lua_tostring(L, 2);
    lua_pushvalue(L, 1);
    mj_made_sink(L, "jet.sink", name);
    return 0;
}

int mj__outlets_start(struct mj_vm *vm, struct mj_buf *error)
{
    const struct mj_services *v = mj__sched_services(vm->sched);
    for (struct mj_outlet *o = vm->outlets; o && (!v || !v->sunk); o = o->next) {
        int err = o->whole ? mj_sink_start(o->sink, error) : 0;
        if (err)
            return err;
    }
    return 0;
}

void mj__outlets_read(struct mj_vm *vm)
{
    for (size_t i = 0; i < vm->graph->count && !mj__tasks_ending(vm); i++) {
        const struct mj_node *n = vm->graph->nodes[i];
        if (n->type != MJ_NODE_SINK || !n->reader)
            continue;
        struct mj_outlet *o = n->ctx;
        struct mj_owner_cfg cfg = {.max = SIZE_MAX};
        mj__batch_cfg(n->parent, &cfg);
        if (!mj_sink_reads(o->sink, n->reader))
            mj_sink_read(o->sink, n->reader, &cfg);
    }
}

void mj__outlets_free(struct mj_vm *vm)
{
    for (struct mj_outlet *o = vm->outlets, *next; o; o = next) {
        next = o->next;
        mj_sink_stop(o->sink, DRAIN_US);
        free(o->name);
        free(o);
    }
    vm->outlets = NULL;
}

void mj_bind_sink_host(lua_State *L)
{
    static const luaL_Reg host[] = {
        {"sink", host_sink}, {"plugin", host_plugin}, {"made_sink", host_made_sink}, {NULL, NULL}};
    luaL_register(L, NULL, host);
    mj_vm_push_slot(L, MJ_SLOT_SINK); /* for plug-ins in Lua, whose sinks are tables */
    lua_setfield(L, -2, "sink_class");
}
