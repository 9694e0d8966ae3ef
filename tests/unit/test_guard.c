/* The guard alone: what is stopped, and what is only late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include <lauxlib.h>
#include <lualib.h>

#include "script/guard.h"

#define BUDGET_NS INT64_C(20000000)

/* As if the system had given the processor to somebody else. */
static int nap(lua_State *L)
{
    (void)L;
    usleep(150000);
    return 0;
}

/* Runs the chunk under the guard; true when it was stopped. */
static bool run(const char *chunk)
{
    struct mj_guard *g = mj_guard_new();
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    mj_guard_setup(L);
    lua_register(L, "nap", nap);
    assert_int_equal(luaL_loadstring(L, chunk), 0);
    mj_guard_enter(g, L, mj_guard_now(), BUDGET_NS);
    int status = lua_pcall(L, 0, 0, 0);
    bool stopped = mj_guard_leave(g, L);
    if (!stopped)
        assert_int_equal(status, 0);
    lua_close(L);
    mj_guard_free(g);
    return stopped;
}

static void endless_is_stopped(void **state)
{
    (void)state;
    assert_true(run("while true do end"));
    assert_true(run("while true do pcall(function() while true do end end) end"));
    assert_true(run("nap() while true do end"));
}

static void held_back_is_not_stopped(void **state)
{
    (void)state;
    assert_false(run("nap() local x = 0 for i = 1, 1000 do x = x + i end"));
    assert_false(run("for i = 1, 1000 do end nap() for i = 1, 1000 do end"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endless_is_stopped),
        cmocka_unit_test(held_back_is_not_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
