#include "script/spec.h"

#include <limits.h>
#include <stdio.h>

#include "base/err.h"
#include "base/options.h"
#include "script/source.h"
#include "script/spec_vm.h"

#define MEMORY    ((size_t)512 << 20) /* of a spec: it may hold a recording as tables */
#define LIMIT_US  INT64_C(10000000)
#define WHOLE_NS  (INT64_C(24) * 3600 * 1000000000) /* of a file: its parts have limits */
#define TRACE_MAX 10

extern const unsigned char mj_lua_pretty_lua[], mj_lua_assert_lua[], mj_lua_spy_lua[],
    mj_lua_pds_lua[], mj_lua_bed_lua[], mj_lua_test_lua[];
extern const size_t mj_lua_pretty_lua_len, mj_lua_assert_lua_len, mj_lua_spy_lua_len,
    mj_lua_pds_lua_len, mj_lua_bed_lua_len, mj_lua_test_lua_len;

int64_t mj__spec_limit(const struct mj_spec *spec)
{
    return spec->cfg->limit_us ? spec->cfg->limit_us : LIMIT_US;
}

void mj__spec_out(struct mj_spec *spec, lua_State *L)
{
    mj_guard_leave(spec->guard, L);
    spec->left -= mj_guard_now() - spec->started;
}

void mj__spec_in(struct mj_spec *spec, lua_State *L)
{
    spec->started = mj_guard_now();
    mj_guard_enter(spec->guard, L, spec->started, spec->left);
}

void mj__spec_register(lua_State *L, struct mj_spec *spec, const luaL_Reg *functions)
{
    for (; functions->name; functions++) {
        lua_pushlightuserdata(L, spec);
        lua_pushcclosure(L, functions->func, 1);
        lua_setfield(L, -2, functions->name);
    }
}

void mj__spec_close(struct mj_spec *spec, size_t n)
{
    while (spec->bed_count > n) {
        mj_bed_free(spec->beds[--spec->bed_count]);
        spec->beds[spec->bed_count] = NULL;
    }
}

/* The functions of lua/test.lua's host. */

/* Pushes "file:line" of the innermost line of the spec from that level on, or nil. Lines of our own
 * Lua files say nothing to a spec's author. */
static void push_place(lua_State *L, int level)
{
    lua_Debug at;
    for (; lua_getstack(L, level, &at); level++) {
        lua_getinfo(L, "Sl", &at);
        if (at.currentline > 0 && at.source[0] == '@') {
            lua_pushfstring(L, "%s:%d", at.source + 1, at.currentline);
            return;
        }
    }
    lua_pushnil(L);
}

int mj__spec_error(lua_State *L, const char *fmt, ...)
{
    va_list ap;
    push_place(L, 1);
    va_start(ap, fmt);
    lua_pushvfstring(L, fmt, ap);
    va_end(ap);
    if (lua_isnil(L, -2))
        return lua_error(L);
    lua_pushliteral(L, ": ");
    lua_insert(L, -2);
    lua_concat(L, 3);
    return lua_error(L);
}

/* host.place(level): "file:line" */
static int host_place(lua_State *L)
{
    push_place(L, (int)luaL_optinteger(L, 1, 1));
    return 1;
}

/* Whether the value at the top is what lua/assert.lua and lua/test.lua raise, not just any table
 * that a spec may raise. */
static bool is_report(lua_State *L)
{
    bool is = false;
    if (!lua_istable(L, -1))
        return false;
    static const char *const marks[] = {"failure", "pending"};
    for (size_t i = 0; i < MJ_COUNT(marks) && !is; i++) {
        lua_pushstring(L, marks[i]);
        lua_rawget(L, -2);
        is = lua_toboolean(L, -1);
        lua_pop(L, 1);
    }
    return is;
}

/* Called where the error happened: notes the place and the lines that led there. */
static int on_error(lua_State *L)
{
    lua_settop(L, 1);
    if (!is_report(L)) {
        lua_newtable(L);
        lua_pushvalue(L, 1);
        lua_setfield(L, 2, "message");
        lua_replace(L, 1);
    }
    push_place(L, 1);
    lua_setfield(L, 1, "at");
    lua_newtable(L);
    lua_Debug at;
    int n = 0;
    for (int level = 1; n < TRACE_MAX && lua_getstack(L, level, &at); level++) {
        lua_getinfo(L, "Sl", &at);
        if (at.currentline <= 0 || at.source[0] != '@')
            continue;
        lua_pushfstring(L, "%s:%d", at.source + 1, at.currentline);
        lua_rawseti(L, -2, ++n);
    }
    lua_setfield(L, 1, "trace");
    return 1;
}

/* host.protect(fn, …): calls it with a time limit of its own. nil, or a table that says what went
 * wrong: { message =, at =, trace = } and what else an assertion has put there. */
static int host_protect(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    luaL_checkany(L, 1);
    lua_pushcfunction(L, on_error);
    lua_insert(L, 1);
    mj__spec_out(spec, L);
    int64_t left = spec->left;
    spec->left = 1000 * mj__spec_limit(spec);
    mj__spec_in(spec, L);
    int status = lua_pcall(L, lua_gettop(L) - 2, 0, 1);
    bool stopped = mj_guard_leave(spec->guard, L);
    spec->left = left;
    mj__spec_in(spec, L);
    if (!status && !stopped)
        return 0;
    /* What this test has filled the heap with must not cost the next one its memory, nor us. */
    if (status == LUA_ERRMEM || status == LUA_ERRERR)
        mj__vm_gc(L, LUA_GCCOLLECT);
    if (!status)
        lua_pushnil(L); /* the spec caught the error that was meant to end it */
    /* An error that on_error did not see, such as one of memory. */
    if (!lua_istable(L, -1)) {
        lua_newtable(L);
        lua_pushvalue(L, -2);
        lua_setfield(L, -2, "message");
    }
    if (stopped) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, "stopped");
    }
    return 1;
}

/* host.callable(value): whether it is a function, or a table or userdata that works as one */
static int host_callable(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushboolean(L, lua_isfunction(L, 1) || luaL_getmetafield(L, 1, "__call"));
    return 1;
}

/* host.write(text) */
static int host_write(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_span text;
    text.ptr = (const uint8_t *)luaL_checklstring(L, 1, &text.len);
    spec->cfg->write(spec->cfg->ctx, text);
    return 0;
}

/* host.beds(): how many are open. host.close(n): closes all but the first n. */
static int host_beds(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)mj__spec_of(L)->bed_count);
    return 1;
}

static int host_close(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    size_t n = (size_t)luaL_checkinteger(L, 1);
    mj__spec_out(spec, L);
    mj__spec_close(spec, n);
    mj__spec_in(spec, L);
    return 0;
}

/* host.closest(word, list): the list's nearest text, or nil. */
static int host_closest(lua_State *L)
{
    const char *names[64];
    size_t n = 0;
    const char *word = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    for (; n < MJ_COUNT(names); n++) {
        lua_rawgeti(L, 2, (int)n + 1);
        if (lua_type(L, -1) != LUA_TSTRING)
            break;
        names[n] = lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    lua_pushstring(L, mj_closest(word, names, n));
    return 1;
}

static void load_embedded(lua_State *L, const unsigned char *text, size_t len)
{
    if (luaL_loadbufferx(L, (const char *)text, len, "=moonjet", "t"))
        lua_error(L);
}

static void set_option(lua_State *L, const char *name, bool on)
{
    lua_pushboolean(L, on);
    lua_setfield(L, -2, name);
}

/* Leaves lua/test.lua's function that runs a file's chunk on the stack. */
static int prepare(lua_State *L)
{
    static const luaL_Reg host[] = {
        {"protect", host_protect}, {"place", host_place},       {"write", host_write},
        {"plain", mj_lua_plain},   {"beds", host_beds},         {"close", host_close},
        {"closest", host_closest}, {"callable", host_callable}, {NULL, NULL}};
    struct mj_spec *spec = lua_touserdata(L, 1);
    lua_newtable(L);
    int at = lua_gettop(L);
    mj__spec_register(L, spec, host);
    mj_vm_push_slot(L, MJ_SLOT_LOADED);
    lua_setfield(L, at, "loaded");
    mj_vm_push_slot(L, MJ_SLOT_NULL);
    lua_setfield(L, at, "null");
    mj_bind_test(L, spec);

    lua_newtable(L);
    set_option(L, "tap", spec->cfg->tap);
    set_option(L, "list", spec->cfg->list);
    set_option(L, "colour", spec->cfg->colour);
    lua_pushinteger(L, (lua_Integer)spec->told);
    lua_setfield(L, -2, "told");
    lua_pushstring(L, spec->cfg->filter);
    lua_setfield(L, -2, "filter");
    lua_setfield(L, at, "options");

    static const struct {
        const unsigned char *text;
        const size_t *len;
        const char *name; /* where the host has what it returns */
    } parts[] = {{mj_lua_pretty_lua, &mj_lua_pretty_lua_len, "pretty"},
                 {mj_lua_assert_lua, &mj_lua_assert_lua_len, "assert"},
                 {mj_lua_spy_lua, &mj_lua_spy_lua_len, "spies"},
                 {mj_lua_pds_lua, &mj_lua_pds_lua_len, "pds"},
                 {mj_lua_bed_lua, &mj_lua_bed_lua_len, "jet_test"},
                 {mj_lua_test_lua, &mj_lua_test_lua_len, "run"}};
    for (size_t i = 0; i < MJ_COUNT(parts); i++) {
        load_embedded(L, parts[i].text, *parts[i].len);
        lua_pushvalue(L, LUA_GLOBALSINDEX);
        lua_pushvalue(L, at);
        lua_call(L, 2, 1);
        lua_setfield(L, at, parts[i].name);
    }
    lua_getfield(L, at, "run");
    /* A registry reference would do as well; a field is found by name in a debugger. */
    lua_setfield(L, LUA_REGISTRYINDEX, "moonjet.run");
    return 0;
}

/* A line about the file as a whole. */
static void tell(const struct mj_spec *spec, const char *path, const char *text)
{
    MJ_AUTO_BUF line = {0};
    if (spec->cfg->tap)
        mj_buf_printf(&line, "not ok %u - ", spec->told + 1);
    mj_buf_printf(&line, "%s: %s\n", path, text);
    spec->cfg->write(spec->cfg->ctx, mj_buf_span(&line));
}

/* False with the reason in spec->error. */
static bool run(struct mj_spec *spec, const char *path, struct mj_spec_counts *counts)
{
    char real[PATH_MAX];
    if (!realpath(path, real)) {
        mj_buf_puts(&spec->error, "no such file");
        return false;
    }
    spec->vm = mj_vm_new(path, MEMORY, spec->guard, &spec->error);
    if (!spec->vm)
        return false;
    lua_State *L = spec->vm->L;
    spec->vm->dir = mj_strdup(real);
    char *slash = strrchr(spec->vm->dir, '/');
    slash[slash == spec->vm->dir] = 0;
    int64_t ns;
    int status = lua_cpcall(L, prepare, spec);
    if (!status) {
        lua_getfield(L, LUA_REGISTRYINDEX, "moonjet.run");
        status = mj_load_source(L, real, path);
    }
    if (!status) {
        lua_pushstring(L, path);
        spec->started = mj_guard_now();
        spec->left = WHOLE_NS;
        status = mj_vm_call(spec->vm, MJ_CONTEXT_DECLARE, 2, 3, WHOLE_NS, &ns);
    }
    if (status) {
        const char *text = lua_tostring(L, -1);
        mj_buf_puts(&spec->error, text ? text : "an error that is no text");
        return false;
    }
    counts->passed += (unsigned)lua_tointeger(L, -3);
    counts->failed += (unsigned)lua_tointeger(L, -2);
    counts->skipped += (unsigned)lua_tointeger(L, -1);
    lua_settop(L, 0);
    return true;
}

void mj_spec_run(const char *path, const struct mj_spec_cfg *cfg, struct mj_spec_counts *counts)
{
    struct mj_spec spec = {
        .cfg = cfg,
        .guard = mj_guard_new(),
        .told = counts->passed + counts->failed + counts->skipped,
    };
    if (!run(&spec, path, counts)) {
        tell(&spec, path, mj_buf_cstr(&spec.error));
        counts->failed++;
    }
    mj__spec_close(&spec, 0);
    mj_vm_free(spec.vm);
    mj_guard_free(spec.guard);
    mj_buf_deinit(&spec.scratch);
    mj_buf_deinit(&spec.error);
}
