/* jet.counter and jet.gauge: families among the program's metrics, moonjet_script_NAME. Label
 * values come from records, so each has room for so many combinations and counts the rest as one.
 */
#include <math.h>
#include <stdio.h>

#include "base/err.h"
#include "script/bind.h"
#include "script/made.h"

#define LABELS_MAX   8
#define SERIES_MAX   1000
#define DECLARED_MAX 1000 /* counters and gauges of a script; what they count is kept for good */

struct counter {
    bool gauge;
    char family[96];
    char script[128]; /* as a label value */
    int labels;
    char names[LABELS_MAX][32];
    size_t series;           /* made so far; they are in the userdata's environment */
    struct mj_metric *other; /* borrowed for ever; NULL until needed */
};

/* A name that the script has: as long as its VM, since what made it may be collected before. */
struct mj_claimed {
    struct mj_claimed *next;
    char family[96];
    char label[160]; /* as its series begin */
};

static bool is_name(const char *s, size_t max)
{
    size_t len = strlen(s);
    return len && len <= max && strspn(s, "0123456789") == 0 &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == len;
}

static struct counter *check_counter(lua_State *L, enum mj_slot slot, const char *what)
{
    struct counter *c = NULL;
    if (lua_getmetatable(L, 1)) {
        mj_vm_push_slot(L, slot);
        if (lua_rawequal(L, -1, -2))
            c = lua_touserdata(L, 1);
        lua_pop(L, 2);
    }
    if (!c)
        luaL_error(L, "call it with a colon: %s(…)", what);
    return c;
}

static enum mj_metric_type type_of(bool gauge) { return gauge ? MJ_GAUGE_REAL : MJ_COUNTER; }
static const char *help_of(bool gauge)
{
    return gauge ? "Told by scripts." : "Counted by scripts.";
}

static struct mj_metric *find_metric(const struct counter *c, const char *labels)
{
    return mj_metric(c->family, type_of(c->gauge), help_of(c->gauge), "script=\"%s\"%s", c->script,
                     labels);
}

/* What Moonjet itself counts of each script: a counter of that name would be the same series. */
static bool is_ours(const char *name)
{
    static const char *const ours[] = {"heap_bytes", "quarantines_total", "slow_total",
                                       "state",      "stopped_total",     "strikes_total"};
    for (size_t i = 0; i < MJ_COUNT(ours); i++)
        if (!strcmp(ours[i], name))
            return true;
    return false;
}

/* The series of the label values at 2…, made on first use. */
static struct mj_metric *make_series(lua_State *L, struct counter *c)
{
    char labels[LABELS_MAX * 136], value[96]; /* ,NAME="VALUE" each */
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

/* The series of the label values at 2…; what is behind them is gone then. */
static struct mj_metric *find_series(lua_State *L, struct counter *c)
{
    for (int i = 0; i < c->labels; i++) {
        int type = lua_type(L, i + 2);
        if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TNIL && type != LUA_TNONE)
            luaL_error(L, "label '%s' wants a text, not %s", c->names[i], luaL_typename(L, i + 2));
    }
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
    return m;
}

/* counter:inc(value, …, n) */
static int counter_inc(lua_State *L)
{
    struct counter *c = check_counter(L, MJ_SLOT_COUNTER, "counter:inc");
    lua_Number n = luaL_optnumber(L, c->labels + 2, 1);
    if (!(n >= 0 && n < 1e15))
        return luaL_error(L, "a counter only goes up");
    if (n != floor(n))
        return luaL_error(L, "a counter counts in whole numbers; jet.gauge takes fractions");
    mj_metric_add(find_series(L, c), (int64_t)n);
    return 0;
}

/* gauge:set(value, …, n) */
static int gauge_set(lua_State *L)
{
    struct counter *c = check_counter(L, MJ_SLOT_GAUGE, "gauge:set");
    lua_Number n = luaL_checknumber(L, c->labels + 2);
    if (isnan(n))
        return luaL_error(L, "a gauge wants a number, not NaN");
    mj_metric_set_real(find_series(L, c), n);
    return 0;
}

/* gauge:add(value, …, n). A series is one script's, and so one thread's. */
static int gauge_add(lua_State *L)
{
    struct counter *c = check_counter(L, MJ_SLOT_GAUGE, "gauge:add");
    lua_Number n = luaL_optnumber(L, c->labels + 2, 1);
    struct mj_metric *m = find_series(L, c);
    lua_Number sum = mj_metric_get_real(m) + n;
    if (isnan(sum))
        return luaL_error(L, "a gauge wants a number, not NaN");
    mj_metric_set_real(m, sum);
    return 0;
}

static bool claim(struct mj_vm *vm, const struct counter *c)
{
    struct mj_claimed *claimed = mj_calloc(1, sizeof *claimed);
    strcpy(claimed->family, c->family);
    snprintf(claimed->label, sizeof claimed->label, "script=\"%s\"", c->script);
    if (!mj_metric_claim(c->family, type_of(c->gauge), help_of(c->gauge), claimed->label)) {
        free(claimed);
        return false;
    }
    claimed->next = vm->claimed;
    vm->claimed = claimed;
    return true;
}

void mj__counters_free(struct mj_vm *vm)
{
    for (struct mj_claimed *c; (c = vm->claimed);) {
        vm->claimed = c->next;
        mj_metric_unclaim(c->family, c->label);
        free(c);
    }
}

static bool is_empty_table(lua_State *L, int index)
{
    lua_pushnil(L);
    return lua_istable(L, index) && !lua_next(L, index);
}

static int declare(lua_State *L, bool gauge)
{
    const char *kind = gauge ? "gauge" : "counter";
    mj_need_declare(L, gauge ? "jet.gauge" : "jet.counter");
    const char *name = luaL_checkstring(L, 1);
    if (!is_name(name, 64))
        return luaL_error(
            L, "'%s' cannot name a %s: up to 64 letters, digits and '_', and no digit first", name,
            kind);
    if (mj_vm_of(L)->counters++ >= DECLARED_MAX)
        return luaL_error(L, "jet.%s: a script has at most %d counters and gauges", kind,
                          DECLARED_MAX);
    int labels = 0;
    if (!lua_isnoneornil(L, 2)) {
        labels = lua_istable(L, 2) ? (int)lua_objlen(L, 2) : 0;
        if (!labels && !is_empty_table(L, 2))
            return luaL_error(L, "the labels of a %s are a list: { \"kind\", \"lang\" }", kind);
        if (labels > LABELS_MAX)
            return luaL_error(L, "a %s has at most %d labels", kind, LABELS_MAX);
    }
    struct counter *c = lua_newuserdata(L, sizeof *c);
    *c = (struct counter){.gauge = gauge, .labels = labels};
    snprintf(c->family, sizeof c->family, "moonjet_script_%s", name);
    if (is_ours(name))
        return luaL_error(L, "%s is Moonjet's own metric; give this %s another name", c->family,
                          kind);
    mj_metric_label(mj_str(mj_vm_of(L)->graph->script), c->script, sizeof c->script);
    for (int i = 0; i < labels; i++) {
        lua_rawgeti(L, 2, i + 1);
        const char *label = lua_tostring(L, -1);
        if (!label || !is_name(label, sizeof c->names[i] - 1) || !strcmp(label, "script") ||
            !strcmp(label, "other") || !strncmp(label, "__", 2))
            return luaL_error(L, "'%s' cannot name a label", label ? label : luaL_typename(L, -1));
        /* Prometheus would refuse every metric of the program for it. */
        for (int k = 0; k < i; k++)
            if (!strcmp(c->names[k], label))
                return luaL_error(L, "a %s has the label '%s' twice", kind, label);
        strcpy(c->names[i], label);
        lua_pop(L, 1);
    }
    /* Now, and not when it is used first: until then another may have taken the name, too. */
    if (!claim(mj_vm_of(L), c))
        return luaL_error(L, "%s is another kind of metric already; give this %s another name",
                          c->family, kind);
    lua_newtable(L);
    lua_setfenv(L, -2);
    mj_vm_push_slot(L, gauge ? MJ_SLOT_GAUGE : MJ_SLOT_COUNTER);
    lua_setmetatable(L, -2);
    mj_made(L, gauge ? "jet.gauge" : "jet.counter", name);
    return 1;
}

/* jet.counter(name, labels), jet.gauge(name, labels) */
static int jet_counter(lua_State *L) { return declare(L, false); }
static int jet_gauge(lua_State *L) { return declare(L, true); }

void mj_bind_counter(lua_State *L)
{
    static const struct {
        enum mj_slot slot;
        const char *name;
        lua_CFunction make;
        luaL_Reg methods[3];
    } classes[] = {
        {MJ_SLOT_COUNTER, "counter", jet_counter, {{"inc", counter_inc}}},
        {MJ_SLOT_GAUGE, "gauge", jet_gauge, {{"set", gauge_set}, {"add", gauge_add}}},
    };
    for (size_t i = 0; i < MJ_COUNT(classes); i++) {
        lua_pushcfunction(L, classes[i].make);
        lua_setfield(L, -2, classes[i].name);
        mj_vm_push_slot(L, classes[i].slot);
        lua_newtable(L);
        for (const luaL_Reg *m = classes[i].methods; m->name; m++) {
            lua_pushcfunction(L, m->func);
            lua_setfield(L, -2, m->name);
        }
        mj_seal_methods(L, classes[i].name);
        lua_setfield(L, -2, "__index");
        lua_pushstring(L, classes[i].name);
        lua_setfield(L, -2, "__metatable");
        lua_pop(L, 1);
    }
}
