/* Drawing the graph: jet.from, jet.main, the operators, the sinks. Every function here works only
 * while the script is loading, and notes the file and line it was called from. */
#include "base/err.h"
#include "script/bind.h"
#include "script/made.h"
#include "script/webhook.h"

struct flow {
    struct mj_node *at;   /* what the next operator is put behind */
    struct mj_node *last; /* what :as() names */
};

struct sink {
    enum mj_node_type type;
    char name[MJ_STREAM_NAME_MAX + 1]; /* of a stream */
    struct mj_outlet *outlet;          /* borrowed: of a plug-in in C */
    struct mj_webhook *webhook;        /* borrowed */
};

static void *check_class(lua_State *L, int index, enum mj_slot slot)
{
    if (lua_getmetatable(L, index)) {
        mj_vm_push_slot(L, slot);
        bool same = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
        if (same)
            return lua_touserdata(L, index);
    }
    return NULL;
}

static struct flow *check_flow(lua_State *L, const char *what, bool lists)
{
    struct flow *f = check_class(L, 1, MJ_SLOT_FLOW);
    if (!f)
        luaL_error(L, "%s is an operator of a flow; call it with a colon: jet.from(…):%s(…)", what,
                   what);
    mj_need_declare(L, what);
    if (f->at->type == MJ_NODE_BATCH && !lists)
        luaL_error(L, "%s looks at one event, but behind batch there are lists: put it before",
                   what);
    return f;
}

/* Raises when the graph is full: asked before a match is compiled, which nobody would own then. */
static void need_room(lua_State *L)
{
    if (mj_vm_of(L)->graph->count >= MJ_NODES_MAX)
        luaL_error(L, "the script draws more than %d nodes", MJ_NODES_MAX);
}

static struct mj_node *add_node(lua_State *L, enum mj_node_type type, struct mj_node *parent)
{
    struct mj_vm *vm = mj_vm_of(L);
    lua_Debug at = {.currentline = 0};
    need_room(L);
    mj__guard_line(L, 1, &at);
    struct mj_node *n = mj_graph_add(vm->graph, type, parent, at.short_src,
                                     at.currentline > 0 ? (unsigned)at.currentline : 0);
    n->ctx = vm;
    return n;
}

static void push_flow(lua_State *L, struct mj_node *at, struct mj_node *last)
{
    struct flow *f = lua_newuserdata(L, sizeof *f);
    *f = (struct flow){at, last};
    mj_vm_push_slot(L, MJ_SLOT_FLOW);
    lua_setmetatable(L, -2);
}

/* Main is one line: whatever flow value an operator is called on, it goes to the line's end. What
 * is behind a batch is no part of the line. Behind an each things go on as before it. */
static struct flow flow_after(const struct flow *f, struct mj_node *added)
{
    bool stays = added->type == MJ_NODE_EACH ||
                 (f->at->type == MJ_NODE_MAIN && added->type != MJ_NODE_BATCH);
    return (struct flow){stays ? f->at : added, added};
}

const struct mj_node *mj_flow_batch(lua_State *L, const char *what)
{
    const struct flow *f = check_flow(L, what, true);
    return f->at->type == MJ_NODE_BATCH ? f->at : NULL;
}

void mj_flow_begin(lua_State *L, const char *what, bool lists)
{
    check_flow(L, what, lists);
    need_room(L);
    push_flow(L, NULL, NULL);
}

struct mj_node *mj_flow_end(lua_State *L, enum mj_node_type type)
{
    const struct flow *f = lua_touserdata(L, 1);
    struct mj_node *n = add_node(L, type, f->at);
    *(struct flow *)lua_touserdata(L, -1) = flow_after(f, n);
    return n;
}

void mj_flow_methods(lua_State *L, const luaL_Reg *methods)
{
    mj_vm_push_slot(L, MJ_SLOT_FLOW);
    lua_getfield(L, -1, "__index");
    luaL_register(L, NULL, methods);
    lua_pop(L, 2);
}

/* Compiles the match at the index [raises]. */
static void take_match(lua_State *L, int index, struct mj_match **match, char **text)
{
    struct mj_buf shown = {0}, error = {0};
    if (mj_match_from_lua(L, index, match, &shown, &error)) {
        luaL_where(L, 1);
        lua_pushlstring(L, (const char *)error.ptr, error.len);
        mj_buf_deinit(&shown);
        mj_buf_deinit(&error);
        lua_concat(L, 2);
        lua_error(L);
    }
    mj_buf_deinit(&error);
    mj_buf_cstr(&shown);
    *text = (char *)shown.ptr;
}

/* The stream at the index, or NULL. */
static const char *stream_at(lua_State *L, int index)
{
    const struct sink *s = check_class(L, index, MJ_SLOT_SINK);
    return s && s->type == MJ_NODE_STREAM ? s->name : NULL;
}

/* Lets the flow at the top begin at the root: made before the root, which nothing that raises may
 * follow. */
static void fill_flow(lua_State *L, struct mj_node *root)
{
    *(struct flow *)lua_touserdata(L, -1) = (struct flow){root, root};
}

/* A flow from the stream, or the list of streams, at 1; false when that is something else. */
static bool from_streams(lua_State *L)
{
    struct mj_node *n;
    size_t count = lua_istable(L, 1) ? lua_objlen(L, 1) : 0, streams = 0;
    if (check_class(L, 1, MJ_SLOT_SINK)) {
        if (!stream_at(L, 1))
            luaL_error(L, "jet.from wants a match or a stream: nothing comes out of another sink");
        mj_made_used(L, 1);
        n = add_node(L, MJ_NODE_FROM, NULL);
        mj_graph_read(n, stream_at(L, 1));
        fill_flow(L, n);
        return true;
    }
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, 1, (int)i);
        streams += stream_at(L, -1) != NULL;
        mj_made_used(L, -1);
        lua_pop(L, 1);
    }
    if (!streams)
        return false;
    if (streams != count)
        luaL_error(L, "a list for jet.from holds either matches or streams, not both");
    n = add_node(L, MJ_NODE_FROM, NULL);
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, 1, (int)i);
        mj_graph_read(n, stream_at(L, -1));
        lua_pop(L, 1);
    }
    fill_flow(L, n);
    return true;
}

/* jet.from(match) */
static int jet_from(lua_State *L)
{
    struct mj_match *match;
    char *text;
    mj_need_declare(L, "jet.from");
    luaL_checkany(L, 1);
    need_room(L);
    push_flow(L, NULL, NULL);
    if (from_streams(L))
        return 1;
    take_match(L, 1, &match, &text);
    struct mj_node *n = add_node(L, MJ_NODE_FROM, NULL);
    n->match = match;
    n->match_text = text;
    fill_flow(L, n);
    return 1;
}

/* jet.main() */
static int jet_main(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    mj_need_declare(L, "jet.main");
    if (!lua_isnone(L, 1))
        return luaL_error(L, "jet.main takes nothing; narrow it with :where(match)");
    if (!vm->graph->main)
        vm->graph->main = add_node(L, MJ_NODE_MAIN, NULL);
    push_flow(L, vm->graph->main, vm->graph->main);
    return 1;
}

static int add_function(lua_State *L, const char *what, enum mj_node_type type)
{
    check_flow(L, what, false);
    if (lua_type(L, 2) != LUA_TFUNCTION)
        return luaL_error(L, "%s wants a function", what);
    /* The reference first: taking it may run out of memory, which the script may catch, and a node
     * without its function must not stay behind. */
    lua_pushvalue(L, 2);
    int ref = luaL_ref(L, LUA_REGISTRYINDEX);
    mj_flow_begin(L, what, false);
    struct mj_node *n = mj_flow_end(L, type);
    n->ref = ref;
    n->fn = mj_script_run_node;
    return 1;
}

/* flow:where(function or match) */
static int flow_where(lua_State *L)
{
    check_flow(L, "where", false);
    if (lua_type(L, 2) == LUA_TFUNCTION)
        return add_function(L, "where", MJ_NODE_WHERE);
    if (lua_type(L, 2) != LUA_TSTRING && lua_type(L, 2) != LUA_TTABLE)
        return luaL_error(L, "where wants a function or a match");
    struct mj_match *match;
    char *text;
    mj_flow_begin(L, "where", false);
    take_match(L, 2, &match, &text);
    struct mj_node *n = mj_flow_end(L, MJ_NODE_WHERE);
    n->match = match;
    n->match_text = text;
    return 1;
}

static int flow_map(lua_State *L) { return add_function(L, "map", MJ_NODE_MAP); }
static int flow_tap(lua_State *L) { return add_function(L, "tap", MJ_NODE_TAP); }

/* Raises when another node has the name: positions, dead letters and metrics are found by it. */
static void check_taken(lua_State *L, const struct mj_node *node, const char *name)
{
    const struct mj_graph *g = mj_vm_of(L)->graph;
    for (size_t i = 0; i < g->count; i++)
        if (g->nodes[i] != node && !strcmp(g->nodes[i]->name, name))
            luaL_error(L, "there is already a node named '%s' (line %d)", name,
                       (int)g->nodes[i]->line);
}

/* flow:as(name) */
static int flow_as(lua_State *L)
{
    struct flow *f = check_flow(L, "as", true);
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);
    if (!len || len > 64 ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") != len)
        return luaL_error(L, "a name is 1 to 64 letters, digits, '_', '.' or '-'");
    check_taken(L, f->last, name);
    free(f->last->name);
    f->last->name = mj_strdup(name);
    lua_settop(L, 1);
    return 1;
}

/* A plug-in in Lua puts its own nodes behind the flow. */
static void attach(lua_State *L, struct flow *f, int index)
{
    lua_getfield(L, index, "attach");
    lua_pushvalue(L, 1);
    lua_pushboolean(L, f->at->type == MJ_NODE_BATCH);
    lua_call(L, 2, 1);
    struct flow *behind = check_class(L, -1, MJ_SLOT_FLOW);
    if (behind)
        f->last = behind->last;
    lua_pop(L, 1);
    mj_made_used(L, index);
}

/* flow:to(sink, …) */
static int flow_to(lua_State *L)
{
    struct flow *f = check_flow(L, "to", true);
    int top = lua_gettop(L);
    if (top < 2)
        return luaL_error(L, "to wants a sink: jet.stream(name), jet.webhook { … }, jet.print() or "
                             "jet.sink(plugin)");
    for (int i = 2; i <= top; i++) {
        struct sink *s = check_class(L, i, MJ_SLOT_SINK);
        if (lua_type(L, i) == LUA_TTABLE && mj_made_by(L, i, MJ_SLOT_SINK)) {
            attach(L, f, i);
            continue;
        }
        if (!s && lua_type(L, i) == LUA_TSTRING)
            return luaL_error(L, "to wants a sink, not a text: jet.stream \"%s\"",
                              lua_tostring(L, i));
        if (!s)
            return luaL_error(
                L,
                "to wants a sink: jet.stream(name), jet.webhook { … }, jet.print() or "
                "jet.sink(plugin), not %s",
                luaL_typename(L, i));
        if (f->at->type == MJ_NODE_BATCH && s->type != MJ_NODE_SINK)
            return luaL_error(L, "behind batch there are lists, which %s cannot take",
                              s->type == MJ_NODE_STREAM ? "a stream"
                              : s->webhook ? "jet.webhook (give it batch = { … } instead)"
                                           : "jet.print");
        f->last = add_node(L, s->type, f->at);
        if (s->type == MJ_NODE_STREAM)
            f->last->stream = mj_strdup(s->name);
        if (s->outlet)
            mj_outlet_node(s->outlet, f->last);
        if (s->webhook) {
            mj_webhook_node(s->webhook, f->last);
            check_taken(L, f->last, f->last->name);
        }
        mj_made_used(L, i);
    }
    lua_settop(L, 1);
    return 1;
}

static struct sink *push_sink(lua_State *L, enum mj_node_type type)
{
    struct sink *s = lua_newuserdata(L, sizeof *s);
    *s = (struct sink){.type = type};
    mj_vm_push_slot(L, MJ_SLOT_SINK);
    lua_setmetatable(L, -2);
    return s;
}

void mj_push_outlet(lua_State *L, struct mj_outlet *o) { push_sink(L, MJ_NODE_SINK)->outlet = o; }

void mj_push_webhook(lua_State *L, struct mj_webhook *w)
{
    push_sink(L, MJ_NODE_HOOK)->webhook = w;
}

/* jet.stream(name) */
static int jet_stream(lua_State *L)
{
    mj_need_declare(L, "jet.stream");
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    if (strcmp(name, "main") == 0)
        return luaL_error(L, "the main stream is jet.main()");
    if (!mj_stream_name_valid(mj_span(name, len)))
        return luaL_error(L,
                          "'%s' cannot name a stream: 1 to 64 of a-z, 0-9, '.', '_', '-', and a "
                          "letter or digit first",
                          name);
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lua_pushnil(L);
        if (lua_next(L, 2))
            return luaL_error(L, "jet.stream has no option '%s'",
                              lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?");
    }
    struct sink *s = push_sink(L, MJ_NODE_STREAM);
    memcpy(s->name, name, len);
    mj_made_sink(L, "jet.stream", s->name);
    return 1;
}

/* jet.print() */
static int jet_print(lua_State *L)
{
    mj_need_declare(L, "jet.print");
    push_sink(L, MJ_NODE_PRINT);
    mj_made_sink(L, "jet.print", NULL);
    return 1;
}

void mj_bind_flow(lua_State *L)
{
    static const luaL_Reg methods[] = {{"where", flow_where}, {"map", flow_map}, {"tap", flow_tap},
                                       {"as", flow_as},       {"to", flow_to},   {NULL, NULL}};
    static const luaL_Reg jet[] = {{"from", jet_from},
                                   {"main", jet_main},
                                   {"stream", jet_stream},
                                   {"print", jet_print},
                                   {NULL, NULL}};
    luaL_register(L, NULL, jet);
    mj_vm_push_slot(L, MJ_SLOT_FLOW);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    mj_seal_methods(L, "flow");
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "flow");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    mj_vm_push_slot(L, MJ_SLOT_SINK);
    lua_pushliteral(L, "sink");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
