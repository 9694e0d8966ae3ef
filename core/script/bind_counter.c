/* jet.counter: a family of counters among the program's metrics, moonjet_script_NAME. Label values
 * come from records, so a counter has room for so many combinations and counts the rest as one. */
#include <stdio.h>

#include "base/err.h"
#include "script/bind.h"

#define LABELS_MAX 8
#define SERIES_MAX 1000

struct counter {
    char family[96];
    char script[128]; /* as a label value */
    int labels;
    char names[LABELS_MAX][32];
    size_t series;           /* made so far; they are in the userdata's environment */
    struct mj_metric *other; /* borrowed for ever; NULL until needed */
};

static bool is_name(const char *s, size_t max)
{
    size_t len = strlen(s);
    return len && len <= max && strspn(s, "0123456789") == 0 &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == len;
}

static struct counter *check_counter(lua_State *L)
{
    struct counter *c = NULL;
    if (lua_getmetatable(L, 1)) {
        mj_vm_push_slot(L, MJ_SLOT_COUNTER);
        if (lua_rawequal(L, -1, -2))
            c = lua_touserdata(L, 1);
        lua_pop(L, 2);
    }
    if (!c)
        luaL_error(L, "call it with a colon: counter:inc(…)");
    return c;
}

static struct mj_metric *find_metric(const struct counter *c, const char *labels)
{
    return mj_metric(c->family, MJ_COUNTER, "Counted by scripts.", "script=\"%s\"%s", c->script,
                     labels);
}

/* The series of the label values at 2…, made on first use. */
static struct mj_metric *make_series(lua_State *L, struct counter *c)
{
    char labels[1024], value[96];
    size_t at = 0;
    if (c->series >= SERIES_MAX) {
        if (!c->other)
            c->other = find_metric(c, ",other=\"true\"");
        return c->other;
    }
    labels[0] = 0;
    for (int i = 0; i < c->labels; i++) {
        size_t len = 0;
        const char *text = lua_tolstring(L, i + 2, &len);
        mj_metric_label(mj_span(text ? text : "", len), value, sizeof value);
        at += (size_t)snprintf(labels + at, sizeof labels - at, ",%s=\"%s\"", c->names[i], value);
    }
    c->series++;
    return find_metric(c, labels);
}

/* counter:inc(value, …, n) */
static int counter_inc(lua_State *L)
{
    struct counter *c = check_counter(L);
    for (int i = 0; i < c->labels; i++) {
        int type = lua_type(L, i + 2);
        if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TNIL && type != LUA_TNONE)
            return luaL_error(L, "label '%s' wants a text, not %s", c->names[i],
                              luaL_typename(L, i + 2));
    }
    lua_Number n = luaL_optnumber(L, c->labels + 2, 1);
    if (!(n >= 0 && n < 1e15))
        return luaL_error(L, "a counter only goes up");
    lua_settop(L, c->labels + 1);
    lua_getfenv(L, 1);
    int cache = lua_gettop(L);
    if (c->labels == 1 && lua_type(L, 2) == LUA_TSTRING) {
        lua_pushvalue(L, 2);
    } else {
        luaL_Buffer key;
        luaL_buffinit(L, &key);
        for (int i = 0; i < c->labels; i++) {
            luaL_addchar(&key, 31); /* unit separator: keeps "a","bc" and "ab","c" apart */
            lua_pushvalue(L, i + 2);
            if (lua_isnil(L, -1)) {
                lua_pop(L, 1);
                lua_pushliteral(L, "");
            }
            luaL_addvalue(&key);
        }
        luaL_pushresult(&key);
    }
    lua_pushvalue(L, -1);
    lua_rawget(L, cache);
    struct mj_metric *m = lua_touserdata(L, -1);
    if (!m) {
        m = make_series(L, c);
        if (m != c->other) {
            lua_pop(L, 1);
            lua_pushlightuserdata(L, m);
            lua_rawset(L, cache);
        }
    }
    mj_metric_add(m, (int64_t)n);
    return 0;
}

/* jet.counter(name, labels) */
static int jet_counter(lua_State *L)
{
    mj_need_declare(L, "jet.counter");
    const char *name = luaL_checkstring(L, 1);
    if (!is_name(name, 64))
        return luaL_error(L, "'%s' cannot name a counter: letters, digits and '_'", name);
    int labels = 0;
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        labels = (int)lua_objlen(L, 2);
        if (labels > LABELS_MAX)
            return luaL_error(L, "a counter has at most %d labels", LABELS_MAX);
    }
    struct counter *c = lua_newuserdata(L, sizeof *c);
    *c = (struct counter){.labels = labels};
    snprintf(c->family, sizeof c->family, "moonjet_script_%s", name);
    mj_metric_label(mj_str(mj_vm_of(L)->graph->script), c->script, sizeof c->script);
    for (int i = 0; i < labels; i++) {
        lua_rawgeti(L, 2, i + 1);
        const char *label = lua_tostring(L, -1);
        if (!label || !is_name(label, sizeof c->names[i] - 1) || !strcmp(label, "script") ||
            !strcmp(label, "other"))
            return luaL_error(L, "'%s' cannot name a label", label ? label : luaL_typename(L, -1));
        strcpy(c->names[i], label);
        lua_pop(L, 1);
    }
    lua_newtable(L);
    lua_setfenv(L, -2);
    mj_vm_push_slot(L, MJ_SLOT_COUNTER);
    lua_setmetatable(L, -2);
    return 1;
}

void mj_bind_counter(lua_State *L)
{
    lua_pushcfunction(L, jet_counter);
    lua_setfield(L, -2, "counter");
    mj_vm_push_slot(L, MJ_SLOT_COUNTER);
    lua_newtable(L);
    lua_pushcfunction(L, counter_inc);
    lua_setfield(L, -2, "inc");
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "counter");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
