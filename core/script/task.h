/* Tasks: coroutines of a script that may wait. They run on the scripts' thread, in slices, between
 * batches of frames; a task that computes is pre-empted by the guard's hook, one that waits costs
 * nothing.
 *
 *   ready ──run──▶ running ──wait──▶ waiting (timer, ticket) ──wake──▶ ready
 *                     │  ▲
 *          slice over └──┘ ends, raises, or runs out of its own timeout
 *
 * Functions that wait are C functions which take a ticket and yield:
 *
 *   uint64_t ticket = mj_task_wait(L, "jet.http.get");    raises outside of tasks
 *   services->fetch(…, ticket, …);
 *   return lua_yield(L, 0);                 its results are what mj_task_wake() pushes
 *
 * A ticket is a slot and a number that grows, so an answer that comes too late finds nobody.
 *
 * The scheduler (one per set of scripts) owns timers and slots; each VM owns its tasks, which go
 * with it. Coroutines are anchored in MJ_SLOT_TASKS. Everything here is for the scripts' thread.
 * Internal to core/script. */
#pragma once

#include "script/due.h"
#include "script/vm.h"

#define MJ_TASKS_MAX 10000 /* per script */

struct mj_task;
struct mj_sched;
struct mj_services;

/* ---- for functions that wait ---- */

/* A ticket for the running task; lua_yield(L, 0) must be the next thing that happens. Raises "WHAT
 * waits; use :each or jet.spawn" where nothing may wait, and says so when a function in C (a gsub,
 * a sort, a metamethod) is in the way. The answer must not come before the yield. */
uint64_t mj_task_wait(lua_State *L, const char *what);
/* Raises where mj_task_wait() would. */
void mj__task_can_wait(lua_State *L, const char *what);
#define MJ_BELOW_C                                                                                 \
    " cannot wait here: a function that C has called, such as one given to string.gsub or "        \
    "table.sort, or a metamethod, must return first"
#define MJ_NO_TASK " waits; use :each or jet.spawn"
/* The ticket is also good after that long, whatever comes first; then mj_task_wake() returns false.
 * `push` as for mj_task_wake(). */
void mj_task_expire(lua_State *L, uint64_t ticket, int64_t after_us,
                    int (*push)(lua_State *L, void *ctx), void *ctx);
/* Makes the task ready: `push` (NULL: none) is called at once, and leaves the yielding call's
 * results on the stack it is given (not the task's own) and returns how many; it may raise. False
 * when the task is gone or was woken before. Not from within a script's call. */
bool mj_task_wake(struct mj_scripts *s, uint64_t ticket, int (*push)(lua_State *L, void *ctx),
                  void *ctx);
/* The same from within a call into the same VM, with the value at L's `index` (0: none) as result.
 * True also tells that the value is taken. */
bool mj__task_hand(lua_State *L, uint64_t ticket, int index);
/* Whether somebody still waits on the ticket. */
bool mj__task_waits(lua_State *L, uint64_t ticket);

/* Whether the state is the task's own, not a coroutine it has made; `t` may be NULL. */
bool mj__task_is(const struct mj_task *t, const lua_State *L);

/* ---- starting ---- */

/* Starts a task in the VM: function and `args` arguments are on L's top, and are popped. `name` is
 * borrowed for as long as the VM (a node's name, or "every"). timeout_us 0: none. `done` (may be
 * NULL) is called once when it has ended, outside of any call; not when its VM is freed. NULL when
 * the script has too many tasks. [raises] for lack of memory: outside of a call into the VM use
 * lua_cpcall. An error in the task is reported and counted here. */
struct mj_task *mj_task_start(lua_State *L, int args, const char *name, int64_t timeout_us,
                              void (*done)(void *ctx, bool ok), void *ctx);
/* The node the task works for: names its place in messages and gets its time; and the event it is
 * about (may be NULL). Both borrowed until it is done. */
void mj__task_about(struct mj_task *t, struct mj_node *node, const struct mj_event *ev);
/* What a call from the running task can know of it. */
struct mj_task_view {
    const struct mj_node *node; /* borrowed; NULL unless it works for a node of :each */
    const struct mj_event *ev;  /* borrowed; NULL unless it is about one event */
    int64_t left_us;            /* of its time; -1: it has no limit */
    unsigned *writes;           /* borrowed: how many writes it has numbered, from 0 */
};
/* False outside of tasks. */
bool mj__task_look(const struct mj_vm *vm, struct mj_task_view *out);
/* What is to become of the event whose task ended with the error that jet.retry raises. */
enum mj_again {
    MJ_AGAIN,           /* it comes again, as long as there are attempts left */
    MJ_AGAIN_UNCOUNTED, /* it comes again, and that was no attempt: something all need is down */
    MJ_AGAIN_NEVER
};
struct mj_retry_wish {
    int64_t after_us; /* at the earliest; 0: nothing was said */
    enum mj_again kind;
};
/* bind_task.c: the reason of such an error at L's top; NULL for any other value. Needs no memory.
 * Borrowed from that value. */
const char *mj__retry_reason(lua_State *L, struct mj_retry_wish *out);
/* In `done` only: whether the task ran out of its own time. */
bool mj__task_timed_out(const struct mj_task *t);
/* What `done` gets, of a task that is an :each's; else NULL. */
void *mj__task_ctx(const struct mj_task *t);
/* each.c: the first n events that are left of what the task works on are done. Nothing for tasks
 * that are not of an :each. */
void mj__each_taken(struct mj_task *t, size_t n);
/* Ends a task that has not begun to run, without `done`. False when it has begun. */
bool mj__task_drop(struct mj_task *t);
/* In `done` only: a state with the task's *n results on its top, or one error. Read only what needs
 * no memory, or use lua_cpcall on another state. */
lua_State *mj_task_results(struct mj_task *t, int *n);

/* ---- a script's life: script.c ---- */

/* In mj_vm_new() and mj_vm_free(), before lua_close(). What still waits is forgotten; kept events
 * that were not worked on are counted as dropped. */
void mj__tasks_init(struct mj_vm *vm);
void mj__tasks_free(struct mj_vm *vm);
/* The script is loaded and its graph gets events: what it has declared starts. */
void mj__tasks_begin(struct mj_vm *vm);
/* The script ends: no jet.every any more, batches are flushed, jet.on_stop's functions run, queues
 * are worked off, and what jet.every and jet.serve have begun goes on; budget_us from now what is
 * left is dropped. It should get no events any more. */
void mj__tasks_stop(struct mj_vm *vm, int64_t budget_us);
/* After mj__tasks_stop(): whether all that has ended, or its time. */
bool mj__tasks_stopped(struct mj_vm *vm);
/* Since mj__tasks_stop(): nothing new is taken on. */
bool mj__tasks_ending(const struct mj_vm *vm);
/* Whether another task can be started. */
bool mj__tasks_room(const struct mj_vm *vm);
/* bind_each.c: what flow:each and flow:batch hold. To pump is to start tasks for what waits, when
 * the script may run again or has room for tasks again. */
void mj__eaches_pump(struct mj_vm *vm);
void mj__batches_flush(struct mj_vm *vm);
/* The lists that the node gives, if it is a batch: max, max_bytes, every_us; else nothing changes.
 */
struct mj_owner_cfg;
void mj__batch_cfg(const struct mj_node *node, struct mj_owner_cfg *cfg);
bool mj__eaches_idle(const struct mj_vm *vm);
/* The script ends: what waits in the journal stays there, and what has not begun goes back. */
void mj__eaches_stop(struct mj_vm *vm);
void mj__eaches_free(struct mj_vm *vm);
/* bind_task.c: what of all that the script has declared. */
void mj__task_binding_begin(struct mj_vm *vm);
void mj__task_binding_stop(struct mj_vm *vm);
bool mj__task_binding_stopped(const struct mj_vm *vm);
void mj__task_binding_free(struct mj_vm *vm);

/* ---- the scheduler ---- */

struct mj_sched *mj__sched_new(struct mj_guard *guard); /* the guard is borrowed */
void mj__sched_free(struct mj_sched *s);                /* after its VMs */
void mj__sched_set_services(struct mj_sched *s, const struct mj_services *services);
const struct mj_services *mj__sched_services(const struct mj_sched *s); /* NULL: none */
struct mj_sched *mj__scripts_sched(struct mj_scripts *s);               /* script.c */
/* µs of the timers' clock: the services', or monotonic. */
int64_t mj__sched_now(const struct mj_sched *s);
/* mj_scripts_run() */
int64_t mj__sched_run(struct mj_sched *s, int64_t budget_us);
/* Calls due->fire at that time, from mj__sched_run(). */
void mj__timer_set(struct mj_sched *s, struct mj_due *due, int64_t at_us);
void mj__timer_clear(struct mj_sched *s, struct mj_due *due);
/* There is news for a reader that an :each of these scripts owns. Any thread. */
void mj__sched_news(struct mj_sched *s);
/* What :each reads the journal with: a view of that reader's journal, as of now; and what its JSON
 * becomes events with. */
struct mj_view;
struct mj_reader;
struct mj_from_json;
struct mj_view *mj__sched_view(struct mj_sched *s, const struct mj_reader *reader);
struct mj_from_json *mj__sched_from_json(struct mj_sched *s);
/* There is something to do in the VM: asks for mj_scripts_run() when nobody has yet. */
void mj__tasks_poke(struct mj_vm *vm);
