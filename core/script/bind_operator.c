/* Operators of flows that run in C: strip, keep, redact, sample, dedupe, limit. Here their
 * arguments are read; what they do is in flow/operator.h. */
#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "flow/operator.h"
#include "flow/recent.h"
#include "script/bind.h"

/* Makes the operator and adds its node. `function` is where `by` is one, else 0. [raises] */
static int add(lua_State *L, const struct mj_operator_cfg *cfg, int function)
{
    const char *what = mj_node_type_name(cfg->type);
    struct mj_operator *op = NULL;
    struct mj_buf error = {0};
    int ref = 0;
    if (function) {
        lua_pushvalue(L, function);
        ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    mj_flow_begin(L, what, false);
    if (mj_operator_new(cfg, &op, &error)) {
        char text[300];
        snprintf(text, sizeof text, "%.*s", (int)error.len, (const char *)error.ptr);
        mj_buf_deinit(&error);
        return luaL_error(L, "%s: %s", what, text);
    }
    struct mj_node *n = mj_flow_end(L, cfg->type);
    n->op = op;
    n->ref = ref;
    n->key = function ? mj_script_find_key : NULL;
    return 1;
}

/* The text at the index, borrowed from the stack [raises]. */
static struct mj_span text_at(lua_State *L, int index, const char *what, const char *wants)
{
    size_t len;
    if (lua_type(L, index) != LUA_TSTRING)
        luaL_error(L, "%s wants %s, not %s", what, wants, luaL_typename(L, index));
    const char *s = lua_tolstring(L, index, &len);
    return mj_span(s, len);
}

static int add_paths(lua_State *L, enum mj_node_type type)
{
    struct mj_span paths[MJ_OPERATOR_PATHS];
    const char *what = mj_node_type_name(type);
    int n = lua_gettop(L) - 1;
    struct mj_operator_cfg cfg = {.type = type, .paths = paths};
    if (n < 1 || n > MJ_OPERATOR_PATHS)
        return luaL_error(L, "%s wants 1 to %d paths: :%s(\"embed\", \"reply.root\")", what,
                          MJ_OPERATOR_PATHS, what);
    for (int i = 0; i < n; i++)
        paths[i] = text_at(L, i + 2, what, "paths as texts");
    cfg.path_count = (size_t)n;
    return add(L, &cfg, 0);
}

/* flow:strip(path, …) */
static int flow_strip(lua_State *L) { return add_paths(L, MJ_NODE_STRIP); }
/* flow:keep(path, …) */
static int flow_keep(lua_State *L) { return add_paths(L, MJ_NODE_KEEP); }

/* flow:redact(path, text) */
static int flow_redact(lua_State *L)
{
    struct mj_span path = text_at(L, 2, "redact", "a path as text");
    struct mj_operator_cfg cfg = {.type = MJ_NODE_REDACT,
                                  .paths = &path,
                                  .path_count = 1,
                                  .text = text_at(L, 3, "redact", "the text to put there")};
    return add(L, &cfg, 0);
}

/* flow:sample(part, by) */
static int flow_sample(lua_State *L)
{
    struct mj_operator_cfg cfg = {.type = MJ_NODE_SAMPLE, .by = MJ_BY_URI};
    if (lua_type(L, 2) != LUA_TNUMBER)
        return luaL_error(L, "sample wants a part from 0 to 1, not %s", luaL_typename(L, 2));
    cfg.part = lua_tonumber(L, 2);
    if (!lua_isnoneornil(L, 3)) {
        cfg.by_path = text_at(L, 3, "sample", "what to choose by as text: \"did\"");
        cfg.by = mj_by_named(cfg.by_path);
    }
    return add(L, &cfg, 0);
}

/* Reads `by` from the options at 2 and leaves it on the stack. Its index when it is a function. */
static int read_by(lua_State *L, const char *what, struct mj_operator_cfg *cfg)
{
    lua_getfield(L, 2, "by");
    if (lua_isnil(L, -1))
        return 0;
    if (lua_type(L, -1) == LUA_TFUNCTION) {
        cfg->by = MJ_BY_KEY;
        return lua_gettop(L);
    }
    if (lua_type(L, -1) != LUA_TSTRING)
        luaL_error(L,
                   "%s: 'by' wants a field of the event such as \"did\", \"uri\" or \"text\", a "
                   "path of the "
                   "record, or a function, not %s",
                   what, luaL_typename(L, -1));
    cfg->by_path = text_at(L, -1, what, "");
    cfg->by = mj_by_named(cfg->by_path);
    return 0;
}

/* flow:dedupe { by, within, max } */
static int flow_dedupe(lua_State *L)
{
    static const char *const names[] = {"within", "by", "max", NULL};
    mj_check_options(L, 2, "dedupe", names);
    struct mj_operator_cfg cfg = {.type = MJ_NODE_DEDUPE, .by = MJ_BY_URI};
    cfg.within_us = mj_duration_option(L, 2, "dedupe", "within", 0);
    cfg.max = mj_integer_option(L, 2, "dedupe", "max", 1, MJ_RECENT_MAX, 0);
    return add(L, &cfg, read_by(L, "dedupe", &cfg));
}

/* flow:limit { rate, by, burst, max } */
static int flow_limit(lua_State *L)
{
    static const char *const names[] = {"rate", "by", "burst", "max", NULL};
    mj_check_options(L, 2, "limit", names);
    struct mj_operator_cfg cfg = {.type = MJ_NODE_LIMIT};
    lua_getfield(L, 2, "rate");
    if (lua_type(L, -1) != LUA_TSTRING ||
        mj_rate_parse(text_at(L, -1, "limit", ""), &cfg.count, &cfg.period_us))
        return luaL_error(L, "limit: 'rate' wants a number of events and a time as text, such as "
                             "\"6/m\" or \"5/10s\"");
    cfg.burst = mj_integer_option(L, 2, "limit", "burst", 1, 1000000000, 0);
    cfg.max = mj_integer_option(L, 2, "limit", "max", 1, MJ_RECENT_MAX, 0);
    return add(L, &cfg, read_by(L, "limit", &cfg));
}

void mj_bind_operator(lua_State *L)
{
    static const luaL_Reg methods[] = {{"strip", flow_strip},
                                       {"keep", flow_keep},
                                       {"redact", flow_redact},
                                       {"sample", flow_sample},
                                       {"dedupe", flow_dedupe},
                                       {"limit", flow_limit},
                                       {NULL, NULL}};
    mj_flow_methods(L, methods);
}
