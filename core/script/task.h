/* Tasks: coroutines of a script that may wait. They run on the scripts' thread, in slices, between
 * batches of frames; a task that computes is pre-empted by the guard's hook, one that waits costs
 * nothing.
 *
 *   ready ──run──▶ running ──wait──▶ waiting (timer, ticket) ──wake──▶ ready
 *                     └── ends, or runs out of its own timeout
 *
 * Functions that wait are C functions which take a ticket and yield:
 *
 *   uint64_t ticket = mj_task_wait(L, "jet.http.get");    raises outside of tasks
 *   services->fetch(…, ticket, …);
 *   return lua_yield(L, 0);                                its results are what mj_task_wake()
 * pushes
 *
 * Internal to core/script. */
#pragma once

#include "script/vm.h"

struct mj_task;

/* A ticket for the running task, which is about to yield. Raises "WHAT waits; use :each or
 * jet.spawn" where nothing may wait. */
uint64_t mj_task_wait(lua_State *L, const char *what);
/* The ticket is also good after that long, whatever comes first; then mj_task_wake() returns false.
 * `push` as for mj_task_wake(). */
void mj_task_expire(lua_State *L, uint64_t ticket, int64_t after_us,
                    int (*push)(lua_State *L, void *ctx), void *ctx);
/* Makes the task ready: `push` (NULL: none) leaves the yielding call's results on the task's stack
 * and returns how many. False when the task is gone or was woken before. On the scripts' thread. */
bool mj_task_wake(struct mj_scripts *s, uint64_t ticket, int (*push)(lua_State *L, void *ctx),
                  void *ctx);
/* Starts a task in the VM: function and `args` arguments are on L's top, and are popped. `name` is
 * borrowed for ever (a node's name, or "every"). timeout_us 0: none. `done` (may be NULL) is called
 * once when it has ended. NULL when the script has too many tasks. */
struct mj_task *mj_task_start(lua_State *L, int args, const char *name, int64_t timeout_us,
                              void (*done)(void *ctx, bool ok), void *ctx);
