/* The guard: ends a call into Lua that runs past its deadline, even a compiled endless loop.
 *
 * With hook checks in LuaJIT (MOONJET_LUAJIT_CHECKHOOK) the JIT stays on and a call costs nothing:
 * a watchdog thread looks at the running call's deadline and, once it has passed, sends a signal
 * to that call's thread. The handler sets a hook there, so hook and VM never race. Without hook
 * checks the JIT is off and a permanent count hook looks at the clock.
 *
 *   enter ──── call ──── leave
 *              │ deadline passes: signal ▶ hook after the next instruction ▶ error
 *              │ pcall swallows it: the hook is still there and raises again
 *
 * Past the deadline a call is stopped once it has spent another 10 ms of CPU: a thread that a busy
 * machine held back is late without having done anything wrong.
 *
 * A call that is stuck inside a C function of LuaJIT's reaches no hook. The watchdog sees that,
 * too, and tells whoever asked for it (mj_guard_on_stuck()): only the process can be ended then.
 *
 * A task is a call that may be left and taken up again. Where it has had its slice, the hook lets
 * its coroutine yield instead of raising; a timer of the task's own thread looks twice a
 * millisecond, but only while tasks run. Below a C function that called back into Lua nothing can
 * yield: there the deadline holds, as in any other call.
 *
 * One guard per set of scripts; one call at a time; the thread may differ from call to call. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

struct mj_guard;

/* Starts the watchdog. Takes SIGURG, process-wide, for good. */
struct mj_guard *mj_guard_new(void);
void mj_guard_free(struct mj_guard *g); /* no call may be running */

/* Calls `fn` on the watchdog's thread when a call is 2 s past its deadline, has been computing for
 * half of that, and still does not end. Before the first call. What fn reads of the state must be
 * what does not change during a call. */
void mj_guard_on_stuck(struct mj_guard *g, void (*fn)(void *ctx, lua_State *L), void *ctx);
/* Prepares a fresh state: JIT on or off, and the permanent hook where that is the way. */
void mj_guard_setup(lua_State *L);
/* A call of at most budget_ns begins at now_ns (mj_guard_now()). */
void mj_guard_enter(struct mj_guard *g, lua_State *L, int64_t now_ns, int64_t budget_ns);
/* The call just begun is a task's: it yields after slice_ns, wherever `may_yield` (called from a
 * hook) says that this coroutine can. Between mj_guard_tick(g, true) and false. */
void mj_guard_slice(struct mj_guard *g, int64_t slice_ns, bool (*may_yield)(lua_State *L));
/* Starts and stops the timer that ends slices, on the thread that runs them. */
void mj_guard_tick(struct mj_guard *g, bool on);
/* The call is over. True when it was stopped, or has computed for longer than it may all the same:
 * nothing raises inside a C function, nor while an error leaves very many of them. */
bool mj_guard_leave(struct mj_guard *g, lua_State *L);
/* Whether the call that is over was stopped, rather than only long. */
bool mj_guard_stopped(const struct mj_guard *g);
/* Whether the call that is over yielded because it had had its slice. */
bool mj_guard_yielded(const struct mj_guard *g);
/* The call that is running, if any, has had its time: it is stopped soon. Async-signal-safe. */
void mj_guard_cancel(struct mj_guard *g);
/* For C functions that may run long on a script's behalf: raises the error if it is time. */
void mj_guard_check(lua_State *L);

/* Fills *at (short_src and currentline) with the innermost line of the script at or above the
 * level: what runs may be a function in C, or one of lua/sandbox.lua or lua/moonjet, which is not
 * where the script's author looks. False when there is none; then currentline is 0 or less. */
bool mj__guard_line(lua_State *L, int level, lua_Debug *at);
/* Pushes "file:line: " of that. */
void mj_guard_where(lua_State *L);

int64_t mj_guard_now(void); /* monotonic nanoseconds */
