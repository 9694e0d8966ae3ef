/* Our pattern matching against LuaJIT's own: random patterns over random short texts must give the
 * same results, captures and errors included. Then what LuaJIT's cannot do: stop. */
#include <stdio.h>

#include "cmocka_all.h"

#include <lualib.h>

#include "script/vm.h"

static uint64_t rng_state;
static uint32_t rng(uint32_t below)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return (uint32_t)(rng_state >> 33) % below;
}

/* Both run this chunk; one with LuaJIT's string functions, one with ours. */
static const char chunk[] =
    "local string, s, p, r, init = ...\n"
    "local out = {}\n"
    "local function note(name, ok, ...)\n"
    "  out[#out + 1] = name .. '=' .. (ok and 'ok' or 'error')\n"
    "  for i = 1, ok and select('#', ...) or 0 do\n"
    "    out[#out + 1] = tostring((select(i, ...)))\n"
    "  end\n"
    "end\n"
    "note('find', pcall(string.find, s, p, init))\n"
    "note('match', pcall(string.match, s, p, init))\n"
    "note('gsub text', pcall(string.gsub, s, p, r))\n"
    "note('gsub twice', pcall(string.gsub, s, p, '<%0>', 2))\n"
    "note('gsub table', pcall(string.gsub, s, p, { a = 'A', [''] = '-' }))\n"
    "note('gsub function', pcall(string.gsub, s, p, function(...)\n"
    "  return select('#', ...) .. tostring((...)) end))\n"
    "note('gmatch', pcall(function()\n"
    "  local n = 0\n"
    "  for a, b in string.gmatch(s, p) do\n"
    "    n = n + 1\n"
    "    out[#out + 1] = tostring(a) .. '/' .. tostring(b)\n"
    "    if n > 20 then break end\n"
    "  end\n"
    "end))\n"
    "return table.concat(out, '|')\n";

static const char *run(lua_State *L, const char *s, size_t slen, const char *p, size_t plen,
                       const char *r, int init)
{
    lua_settop(L, 2); /* 1: the chunk, 2: the string table */
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_pushlstring(L, s, slen);
    lua_pushlstring(L, p, plen);
    lua_pushstring(L, r);
    lua_pushinteger(L, init);
    if (lua_pcall(L, 5, 1, 0))
        fail_msg("%s", lua_tostring(L, -1));
    return lua_tostring(L, -1);
}

static void prepare(lua_State *L)
{
    lua_settop(L, 0);
    assert_int_equal(luaL_loadbuffer(L, chunk, sizeof chunk - 1, "=test"), 0);
    lua_getglobal(L, "string");
}

static struct mj_guard *guard;
static struct mj_vm *vm;

static int setup(void **state)
{
    (void)state;
    MJ_AUTO_BUF error = {0};
    guard = mj_guard_new();
    vm = mj_vm_new("test", (size_t)64 << 20, guard, &error);
    vm->stack = __builtin_frame_address(0);
    return vm ? 0 : 1;
}

static int teardown(void **state)
{
    (void)state;
    mj_vm_free(vm);
    mj_guard_free(guard);
    return 0;
}

static void same_as_luajit(void **state)
{
    (void)state;
    static const char *const items[] = {
        "a",     "b",      "x",     ".",    "%a",     "%d",   "%s", "%W",  "%p",  "[ab]",
        "[^ab]", "[a-c]",  "[%w_]", "%.",   "[]]",    "[^]]", "%",  "[",   "]",   "-",
        "%bab",  "%f[a]",  "%1",    "%2",   "(",      ")",    "()", "(a)", "(.)", "$",
        "^",     "%f[%A]", "%z",    "[a-]", "[%a-z]", "%c",   "%x", "%u",  "%l",  "(a*)"};
    static const char often[] = "*+-?";
    static const char text[] = "aaabbbcx1. (%_-]\0A";
    static const char *const replace[] = {"", "%0", "%1", "[%0%0]", "%%", "%2", "%a"};
    lua_State *stock = luaL_newstate();
    luaL_openlibs(stock);
    prepare(stock);
    prepare(vm->L);
    rng_state = 88172645463325252u;
    unsigned matched = 0;
    for (int i = 0; i < 20000; i++) {
        char s[24], p[64];
        size_t slen = rng(sizeof s - 1), plen = 0;
        for (size_t k = 0; k < slen; k++)
            s[k] = text[rng(sizeof text - 1)];
        for (unsigned k = 0, n = rng(5) + 1; k < n; k++) {
            plen += (size_t)snprintf(p + plen, sizeof p - plen, "%s", items[rng(MJ_COUNT(items))]);
            if (rng(3) == 0)
                p[plen++] = often[rng(4)];
        }
        const char *r = replace[rng(MJ_COUNT(replace))];
        int init = (int)rng(12) - 4;
        size_t wlen, glen;
        const char *want = run(stock, s, slen, p, plen, r, init);
        const char *got = run(vm->L, s, slen, p, plen, r, init);
        lua_tolstring(stock, -1, &wlen);
        lua_tolstring(vm->L, -1, &glen);
        if (wlen != glen || memcmp(want, got, wlen) != 0)
            fail_msg("text '%.*s' pattern '%.*s' replace '%s' init %d\nLuaJIT: %s\nours:   %s",
                     (int)slen, s, (int)plen, p, r, init, want, got);
        matched += strncmp(got, "find=ok|nil", 11) != 0 && strncmp(got, "find=error", 10) != 0;
    }
    assert_in_range(matched, 3000, 17000);
    lua_close(stock);
}

static int timed(const char *source)
{
    int64_t ns;
    lua_settop(vm->L, 0);
    assert_int_equal(luaL_loadstring(vm->L, source), 0);
    int status = mj_vm_call(vm, MJ_CONTEXT_SYNC, 0, 0, 20000000, &ns);
    /* It is the guard that ended it, and not minutes later. */
    if (status)
        assert_true(ns < INT64_C(20000000000));
    return status;
}

static void endless_matches_are_stopped(void **state)
{
    (void)state;
    static const char *const sources[] = {
        "return (('a'):rep(5000)):find(('.-'):rep(20) .. 'b')",
        "return (('x'):rep(100000)):match('(.*)(.*)(.*)(.*)b')",
        "for _ in (('a'):rep(9000)):gmatch(('a*'):rep(10) .. 'b') do end",
        "return (('a'):rep(9000)):gsub(('a*'):rep(10) .. 'b', '')",
        "return (('('):rep(1000000)):gsub('%b()', '')",
    };
    for (size_t i = 0; i < MJ_COUNT(sources); i++) {
        if (!timed(sources[i]))
            fail_msg("not stopped: %s", sources[i]);
        if (!strstr(lua_tostring(vm->L, -1), "stopped after 20 ms"))
            fail_msg("%s", lua_tostring(vm->L, -1));
    }
    assert_int_equal(timed("assert(('abc'):find('b.') == 2)"), 0); /* and the VM lives on */
}

static void nesting_has_an_end(void **state)
{
    (void)state;
    assert_int_not_equal(timed("local function f(s) return (s:gsub('.', f)) end return f('x')"), 0);
    assert_non_null(strstr(lua_tostring(vm->L, -1), "nested too deeply"));
    assert_int_not_equal(timed("return ('a'):rep(300):match(('(a'):rep(30) .. (')'):rep(30) .. "
                               "('a?'):rep(250))"),
                         0);
    assert_non_null(strstr(lua_tostring(vm->L, -1), "pattern too complex"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_luajit),
        cmocka_unit_test(endless_matches_are_stopped),
        cmocka_unit_test(nesting_has_an_end),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
