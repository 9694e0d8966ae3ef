/* Proves that the LuaJIT we link can be stopped: an endless loop, compiled to machine code where
 * the JIT may stay on, ends with an error soon after another thread has set a hook. Without hook
 * checks the compiled loop would never look, and the alarm ends this test as failed. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>

static atomic_bool started;

static void on_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    luaL_error(L, "stopped by the hook");
}

static void *interrupt(void *L)
{
    /* The loop becomes hot within microseconds of its start; 50 ms leaves no doubt that it runs as
     * machine code by the time the hook is set. */
    const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
    while (!atomic_load(&started))
        nanosleep(&pause, NULL);
    nanosleep(&pause, NULL);
    lua_sethook(L, on_hook, LUA_MASKCOUNT, 1);
    return NULL;
}

static int mark_started(lua_State *L)
{
    (void)L;
    atomic_store(&started, true);
    return 0;
}

int main(void)
{
    alarm(20);
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    if (!MOONJET_LUAJIT_CHECKHOOK)
        luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    lua_register(L, "mark_started", mark_started);

    pthread_t thread;
    if (pthread_create(&thread, NULL, interrupt, L))
        return 1;
    int failed = luaL_dostring(L, "mark_started() while true do end");
    const char *why = failed ? lua_tostring(L, -1) : "the loop ended by itself";
    printf("%s, JIT %s: %s\n", LUAJIT_VERSION, MOONJET_LUAJIT_CHECKHOOK ? "on" : "off", why);
    int ok = failed && why && strstr(why, "stopped by the hook");
    pthread_join(thread, NULL);
    lua_close(L);
    return ok ? 0 : 1;
}
