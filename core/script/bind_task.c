/* jet.every, jet.spawn, jet.sleep, jet.on_stop, jet.time: what scripts do by the clock. What the
 * top level declares starts when the script does. */
#include "base/clock.h"
#include "script/bind.h"
#include "script/services.h"
#include "script/task.h"

#define EVERY_MIN 1000 /* µs */
#define TIMED_MAX 1000 /* functions of one script for jet.every, and for jet.on_stop */

struct every {
    struct mj_due timer; /* first member */
    struct mj_vm *vm;    /* borrowed */
    int ref;             /* the function, in the registry */
    int64_t interval;    /* µs */
    bool again;          /* false: the script is ending */
    struct every *next;
};

struct mj_task_binding {
    struct every *every; /* owned list */
    size_t every_count;
    int *on_stop; /* owned: functions in the registry */
    size_t on_stop_count;
    size_t stopping; /* of those, how many still run */
    size_t ticking;  /* tasks of jet.every that run */
};

/* A function kept in the registry, to be started as a task where errors can be caught. */
struct start {
    struct mj_vm *vm;
    int ref;
    const char *name;
    void (*done)(void *ctx, bool ok);
    void *ctx;
    struct mj_task *task;
};

static int start_protected(lua_State *L)
{
    struct start *s = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->ref);
    s->task = mj_task_start(L, 0, s->name, 0, s->done, s->ctx);
    return 0;
}

static bool start(struct start *s)
{
    lua_State *L = s->vm->L;
    if (lua_cpcall(L, start_protected, s)) {
        mj__report(s->vm, L, s->name, s->vm->graph->script, 0, NULL);
        lua_pop(L, 1);
    }
    return s->task != NULL;
}

int64_t mj_check_duration(lua_State *L, int index, const char *what)
{
    size_t len;
    int64_t us;
    if (lua_type(L, index) != LUA_TSTRING)
        luaL_error(L, "%s wants a duration as text, such as \"500ms\" or \"1h30m\", not %s", what,
                   lua_type(L, index) == LUA_TNUMBER ? "a number" : luaL_typename(L, index));
    const char *text = lua_tolstring(L, index, &len);
    if (mj_duration_us(mj_span(text, len), &us))
        luaL_error(L, "'%s' is no duration: write a number with ms, s, m, h or d, as in \"1h30m\"",
                   text);
    return us;
}

/* ---- every ---- */

static void set_next(struct every *e)
{
    if (e->again)
        mj__timer_set(e->vm->sched, &e->timer, mj__sched_now(e->vm->sched) + e->interval);
}

static void every_done(void *ctx, bool ok)
{
    struct every *e = ctx;
    (void)ok;
    e->vm->binding->ticking--;
    set_next(e);
}

static void every_due(struct mj_due *due)
{
    struct every *e = (struct every *)due;
    struct start s = {.vm = e->vm, .ref = e->ref, .name = "every", .done = every_done, .ctx = e};
    if (start(&s))
        e->vm->binding->ticking++;
    else
        set_next(e); /* no room for a task: the next time, perhaps */
}

/* jet.every(interval, fn) */
static int jet_every(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    mj_need_declare(L, "jet.every");
    int64_t interval = mj_check_duration(L, 1, "jet.every");
    if (lua_type(L, 2) != LUA_TFUNCTION)
        return luaL_error(L, "jet.every wants a function: jet.every(\"1m\", function() … end)");
    if (interval < EVERY_MIN)
        return luaL_error(L, "jet.every wants 1ms or more");
    if (vm->binding->every_count == TIMED_MAX)
        return luaL_error(L, "jet.every: a script has at most %d", TIMED_MAX);
    lua_settop(L, 2);
    int ref = luaL_ref(L, LUA_REGISTRYINDEX);
    struct every *e = mj_calloc(1, sizeof *e);
    e->timer.fire = every_due;
    e->vm = vm;
    e->ref = ref;
    e->interval = interval;
    e->again = true;
    e->next = vm->binding->every;
    vm->binding->every = e;
    vm->binding->every_count++;
    vm->graph->tasks = true;
    return 0;
}

/* ---- spawn, sleep, on_stop ---- */

/* jet.spawn(fn, …) */
static int jet_spawn(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TFUNCTION)
        return luaL_error(L, "jet.spawn wants a function and its arguments");
    if (!mj_task_start(L, lua_gettop(L) - 1, "spawn", 0, NULL, NULL))
        return luaL_error(L, "jet.spawn: %d tasks are waiting or running, a script has no more",
                          MJ_TASKS_MAX);
    mj_vm_of(L)->graph->tasks = true;
    return 0;
}

/* jet.sleep(duration) */
static int jet_sleep(lua_State *L)
{
    int64_t us = mj_check_duration(L, 1, "jet.sleep");
    uint64_t ticket = mj_task_wait(L, "jet.sleep");
    mj_task_expire(L, ticket, us, NULL, NULL);
    return lua_yield(L, 0);
}

/* The error that jet.retry raises: a table with a mark, { reason, µs, kind }. Numbered, so that it
 * can be read where nothing catches a lack of memory. */
static int raise_retry(lua_State *L, int reason, int64_t after_us, enum mj_again kind)
{
    lua_createtable(L, 3, 0);
    lua_pushvalue(L, reason);
    lua_rawseti(L, -2, 1);
    lua_pushnumber(L, (lua_Number)after_us);
    lua_rawseti(L, -2, 2);
    lua_pushinteger(L, kind);
    lua_rawseti(L, -2, 3);
    mj_vm_push_slot(L, MJ_SLOT_RETRY);
    lua_setmetatable(L, -2);
    return lua_error(L);
}

/* host.never(reason): as jet.retry, but the event, or what is left of the list, is a dead letter at
 * once. For what is no error of the script's. */
static int host_never(lua_State *L)
{
    luaL_checkstring(L, 1);
    return raise_retry(L, 1, 0, MJ_AGAIN_NEVER);
}

/* host.taken(n): the first n of the events that are left of the list in hand are done, whatever
 * becomes of the others */
static int host_taken(lua_State *L)
{
    lua_Integer n = luaL_checkinteger(L, 1);
    if (mj_vm_of(L)->task && n > 0)
        mj__each_taken(mj_vm_of(L)->task, (size_t)n);
    return 0;
}

/* jet.retry(reason, after) */
static int jet_retry(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TSTRING)
        return luaL_error(L, "jet.retry wants a reason as text: jet.retry(\"the server is down\")");
    int64_t after = lua_isnoneornil(L, 2) ? 0 : mj_check_duration(L, 2, "jet.retry");
    struct mj_task_view view;
    if (!mj__task_look(mj_vm_of(L), &view) || !view.node)
        return luaL_error(L,
                          "jet.retry(\"%s\"): only the function of an :each can have its event "
                          "come again, and not from another task that it starts",
                          lua_tostring(L, 1));
    return raise_retry(L, 1, after, MJ_AGAIN);
}

/* host.outage(reason, after): as jet.retry, but it does not count as one of the attempts: what the
 * function needs is down for all events alike */
static int host_outage(lua_State *L)
{
    luaL_checkstring(L, 1);
    return raise_retry(L, 1, mj_check_duration(L, 2, "jet.agent"), MJ_AGAIN_UNCOUNTED);
}

static int retry_tostring(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_rawgeti(L, 1, 1);
    return 1;
}

const char *mj__retry_reason(lua_State *L, struct mj_retry_wish *out)
{
    const char *reason = NULL;
    *out = (struct mj_retry_wish){0, MJ_AGAIN};
    if (!lua_gettop(L) || !lua_checkstack(L, 3) || !mj_made_by(L, -1, MJ_SLOT_RETRY))
        return NULL;
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    lua_rawgeti(L, -3, 3);
    /* The script may have changed all of it. */
    if (lua_type(L, -3) == LUA_TSTRING)
        reason = lua_tostring(L, -3);
    lua_Number us = lua_type(L, -2) == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;
    lua_Number kind = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : MJ_AGAIN;
    out->after_us = us > 0 && us < 1e15 ? (int64_t)us : 0;
    out->kind =
        kind == MJ_AGAIN_UNCOUNTED || kind == MJ_AGAIN_NEVER ? (enum mj_again)kind : MJ_AGAIN;
    lua_pop(L, 3);
    return reason ? reason : "the script asks for it";
}

/* jet.on_stop(fn) */
static int jet_on_stop(lua_State *L)
{
    struct mj_task_binding *b = mj_vm_of(L)->binding;
    mj_need_declare(L, "jet.on_stop");
    if (lua_type(L, 1) != LUA_TFUNCTION)
        return luaL_error(L, "jet.on_stop wants a function");
    if (b->on_stop_count == TIMED_MAX)
        return luaL_error(L, "jet.on_stop: a script has at most %d", TIMED_MAX);
    lua_settop(L, 1);
    int ref = luaL_ref(L, LUA_REGISTRYINDEX);
    b->on_stop = mj_realloc(b->on_stop, (b->on_stop_count + 1) * sizeof ref);
    b->on_stop[b->on_stop_count++] = ref;
    return 0;
}

int64_t mj_vm_now_us(const struct mj_vm *vm)
{
    const struct mj_services *v = vm->sched ? mj__sched_services(vm->sched) : NULL;
    return v && v->now_us ? v->now_us(v->ctx) : mj_now_us();
}

/* jet.time() */
static int jet_time(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)mj_vm_now_us(mj_vm_of(L)) / 1e6);
    return 1;
}

/* ---- coroutines of the user's inside tasks: lua/sandbox.lua ---- */

/* host.enter(): around a resume; 1 when the coroutine that resumes cannot yield itself */
static int host_enter(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    mj_check_stack(L);
    int blocked = !lua_isyieldable(L);
    vm->blocked += (unsigned)blocked;
    lua_pushinteger(L, blocked);
    return 1;
}

/* host.left(co, entered): whether the yield that ended the resume is the task's, so that the
 * coroutine around it must yield, too */
static int host_left(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    unsigned blocked = (unsigned)lua_tointeger(L, 2);
    vm->blocked -= blocked < vm->blocked ? blocked : vm->blocked;
    bool through = vm->yielder && vm->yielder == lua_tothread(L, 1);
    if (through)
        vm->yielder = L;
    lua_pushboolean(L, through);
    return 1;
}

/* host.may_yield(): before a yield that is meant for the script's own resume; raises where LuaJIT
 * would say something of a C-call boundary, or nobody would resume. */
static int host_may_yield(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    bool main = lua_pushthread(L), task = mj__task_is(vm->task, L);
    if (!main && !task && lua_isyieldable(L))
        return 0;
    mj_guard_where(L);
    lua_pushstring(L, main                  ? "coroutine.yield" MJ_NO_TASK
                      : !lua_isyieldable(L) ? "coroutine.yield" MJ_BELOW_C
                                            : "coroutine.yield outside of a coroutine; jet.sleep "
                                              "waits");
    lua_concat(L, 2);
    return lua_error(L);
}

/* host.running(): as coroutine.running, but a task is no coroutine of the script's to resume */
static int host_running(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    if (lua_pushthread(L) || mj__task_is(vm->task, L))
        lua_pushnil(L);
    return 1;
}

/* ---- the script's life ---- */

void mj__task_binding_begin(struct mj_vm *vm)
{
    int64_t now = mj__sched_now(vm->sched);
    for (struct every *e = vm->binding->every; e; e = e->next)
        mj__timer_set(vm->sched, &e->timer, now + e->interval);
}

static void on_stop_done(void *ctx, bool ok)
{
    struct mj_task_binding *b = ctx;
    (void)ok;
    b->stopping--;
}

void mj__task_binding_stop(struct mj_vm *vm)
{
    struct mj_task_binding *b = vm->binding;
    for (struct every *e = b->every; e; e = e->next) {
        e->again = false;
        mj__timer_clear(vm->sched, &e->timer);
    }
    for (size_t i = 0; i < b->on_stop_count; i++) {
        struct start s = {
            .vm = vm, .ref = b->on_stop[i], .name = "on_stop", .done = on_stop_done, .ctx = b};
        b->stopping += start(&s);
    }
}

bool mj__task_binding_stopped(const struct mj_vm *vm)
{
    return !vm->binding->stopping && !vm->binding->ticking;
}

void mj__task_binding_free(struct mj_vm *vm)
{
    struct mj_task_binding *b = vm->binding;
    if (!b)
        return;
    for (struct every *e = b->every, *next; e; e = next) {
        next = e->next;
        if (vm->sched)
            mj__timer_clear(vm->sched, &e->timer);
        free(e);
    }
    free(b->on_stop);
    free(b);
    vm->binding = NULL;
}

void mj_bind_task(lua_State *L)
{
    static const luaL_Reg jet[] = {
        {"every", jet_every}, {"spawn", jet_spawn}, {"sleep", jet_sleep}, {"on_stop", jet_on_stop},
        {"time", jet_time},   {"retry", jet_retry}, {NULL, NULL}};
    mj_vm_push_slot(L, MJ_SLOT_RETRY);
    lua_pushcfunction(L, retry_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "retry");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    mj_vm_of(L)->binding = mj_calloc(1, sizeof(struct mj_task_binding));
    luaL_register(L, NULL, jet);
}

void mj_bind_task_host(lua_State *L)
{
    static const luaL_Reg host[] = {{"enter", host_enter},     {"left", host_left},
                                    {"running", host_running}, {"may_yield", host_may_yield},
                                    {"taken", host_taken},     {"never", host_never},
                                    {"outage", host_outage},   {NULL, NULL}};
    luaL_register(L, NULL, host);
}
