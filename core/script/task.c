#include "script/task.h"

#include <stdatomic.h>

#include "base/clock.h"
#include "event/from_json.h"
#include "journal/reader.h"
#include "script/bind.h"
#include "script/scripts.h"
#include "script/services.h"

#define SLICE_NS   INT64_C(1000000) /* of a task, while others wait for the thread */
#define SLICE_MIN  INT64_C(100000)  /* at the end of a turn, too */
#define COLLECT_NS INT64_C(300000)  /* of garbage collection per round, for all scripts */

#define VIEW_US INT64_C(10000000) /* the journal is looked at that often at least */

enum state { READY, RUNNING, WAITING };

struct mj_task {
    struct mj_due timer; /* first member: timers lead back to their task */
    struct mj_vm *vm;    /* borrowed */
    lua_State *co;       /* borrowed: anchored in MJ_SLOT_TASKS at `slot` */
    struct mj_task *prev, *next, *next_ready;
    enum state state;
    uint32_t slot;
    int results; /* on co's top: arguments, results of the call that waited, or of the function */
    int64_t deadline, timeout_us; /* 0 = none */
    int64_t expires;              /* µs, of the ticket; 0 = never */
    int (*expire_push)(lua_State *L, void *ctx);
    void *expire_ctx;
    bool begun, timed_out;
    const char *name;          /* borrowed */
    struct mj_node *node;      /* borrowed; may be NULL */
    const struct mj_event *ev; /* borrowed: what it is about; may be NULL */
    unsigned writes;           /* numbered so far */
    void (*done)(void *ctx, bool ok);
    void *ctx;
};

/* One VM's. */
struct mj_tasks {
    struct mj_task *all, *ready, **ready_end;
    size_t count;
    bool begun, stopping;
    int64_t stop_by; /* µs */
};

/* A place that tickets name: its task, and which of that task's waits counts. */
struct slot {
    struct mj_task *task; /* borrowed; NULL = free */
    uint32_t wait;
    uint32_t next_free; /* 1 + slot; 0 = none */
};

struct mj_sched {
    struct mj_guard *guard;             /* borrowed */
    const struct mj_services *services; /* borrowed, may be NULL */
    struct slot *slots;                 /* owned */
    uint32_t slot_count, slot_cap, free_slot;
    struct mj_dues timers; /* keys: µs of mj__sched_now() */
    struct mj_vm **vms;    /* owned array of borrowed VMs that have begun */
    size_t vm_count, turn;
    size_t collected; /* whose garbage was collected last */
    /* For one of the readers; any thread. Apart from other flags, which compilers read together. */
    _Alignas(8) _Atomic bool news;
    struct mj_view view;       /* owned: what :each reads the journal with; journal NULL: not yet */
    struct mj_from_json *json; /* owned; NULL: not yet */
    bool running, poked;
};

struct mj_sched *mj__sched_new(struct mj_guard *guard)
{
    struct mj_sched *s = mj_calloc(1, sizeof *s);
    s->guard = guard;
    return s;
}

void mj__sched_free(struct mj_sched *s)
{
    if (!s)
        return;
    mj_dues_deinit(&s->timers);
    if (s->view.journal)
        mj_view_deinit(&s->view);
    mj_from_json_free(s->json);
    free(s->slots);
    free(s->vms);
    free(s);
}

void mj__sched_set_services(struct mj_sched *s, const struct mj_services *services)
{
    s->services = services;
}

const struct mj_services *mj__sched_services(const struct mj_sched *s) { return s->services; }

int64_t mj__sched_now(const struct mj_sched *s)
{
    const struct mj_services *v = s->services;
    return v && v->now_us ? v->now_us(v->ctx) : mj_mono_us();
}

void mj__tasks_poke(struct mj_vm *vm)
{
    struct mj_sched *s = vm->sched;
    if (s->running || s->poked || !vm->tasks->begun)
        return;
    s->poked = true;
    if (s->services && s->services->wake)
        s->services->wake(s->services->ctx);
}

void mj__sched_news(struct mj_sched *s)
{
    if (!atomic_exchange(&s->news, true) && s->services && s->services->notify)
        s->services->notify(s->services->ctx);
}

struct mj_view *mj__sched_view(struct mj_sched *s, const struct mj_reader *reader)
{
    if (s->view.journal)
        mj_view_refresh(&s->view);
    else
        mj_view_init(&s->view, mj_reader_journal(reader));
    return &s->view;
}

struct mj_from_json *mj__sched_from_json(struct mj_sched *s)
{
    if (!s->json)
        s->json = mj_from_json_new();
    return s->json;
}

void mj__timer_set(struct mj_sched *s, struct mj_due *due, int64_t at_us)
{
    const struct mj_due *first = mj_dues_first(&s->timers);
    bool earlier = !first || at_us < first->key;
    mj_due_set(&s->timers, due, at_us);
    if (earlier && !s->running && !s->poked && s->services && s->services->wake) {
        s->poked = true;
        s->services->wake(s->services->ctx);
    }
}

void mj__timer_clear(struct mj_sched *s, struct mj_due *due) { mj_due_clear(&s->timers, due); }

/* ---- a task's own life ---- */

static void make_ready(struct mj_task *t)
{
    struct mj_tasks *of = t->vm->tasks;
    t->state = READY;
    t->next_ready = NULL;
    *of->ready_end = t;
    of->ready_end = &t->next_ready;
    mj__tasks_poke(t->vm);
}

static void unready(struct mj_task *t)
{
    struct mj_tasks *of = t->vm->tasks;
    struct mj_task **at = &of->ready;
    while (*at && *at != t)
        at = &(*at)->next_ready;
    if (!*at)
        return;
    *at = t->next_ready;
    if (of->ready_end == &t->next_ready)
        of->ready_end = at;
}

static void forget(struct mj_task *t)
{
    struct mj_sched *s = t->vm->sched;
    struct mj_tasks *of = t->vm->tasks;
    struct slot *slot = &s->slots[t->slot];
    mj__timer_clear(s, &t->timer);
    slot->task = NULL;
    slot->wait++;
    slot->next_free = s->free_slot;
    s->free_slot = t->slot + 1;
    *(t->prev ? &t->prev->next : &of->all) = t->next;
    if (t->next)
        t->next->prev = t->prev;
    of->count--;
}

static void remove_task(struct mj_task *t)
{
    lua_State *L = t->vm->L;
    mj_vm_push_slot(L, MJ_SLOT_TASKS);
    lua_pushnil(L);
    lua_rawseti(L, -2, (int)t->slot + 1);
    lua_pop(L, 1);
    forget(t);
    free(t);
}

/* The task has ended. On failure the error is on its top. */
static void end(struct mj_task *t, bool ok)
{
    struct mj_vm *vm = t->vm;
    if (t->state == READY)
        unready(t);
    mj__timer_clear(vm->sched, &t->timer);
    struct mj_retry_wish wish;
    bool ours = t->node && t->node->type == MJ_NODE_EACH; /* who says what becomes of the event */
    if (!ok && !(ours && mj__retry_reason(t->co, &wish))) {
        mj__report(vm, t->co, t->name, t->node ? t->node->file : vm->graph->script,
                   t->node ? t->node->line : 0, t->ev);
        mj_metric_add(t->node ? t->node->errors : vm->task_errors, 1);
    }
    t->state = RUNNING; /* whatever `done` starts or wakes, it is not this one */
    if (t->done)
        t->done(t->ctx, ok);
    remove_task(t);
    if (vm->tasks->count == MJ_TASKS_MAX - 1)
        mj__eaches_pump(vm); /* which had no room */
}

lua_State *mj_task_results(struct mj_task *t, int *n)
{
    *n = t->results;
    return t->co;
}

/* Leaves a message on the task's stack, where its results would be. */
struct message {
    lua_State *co;
    const char *text;
    int ms;
};

static int push_message(lua_State *L)
{
    struct message *m = lua_touserdata(L, 1);
    if (lua_checkstack(m->co, 1)) {
        lua_pushfstring(L, m->text, m->ms);
        lua_xmove(L, m->co, 1);
    }
    return 0;
}

static void fail(struct mj_task *t, const char *text, int ms)
{
    struct message m = {t->co, text, ms};
    if (lua_cpcall(t->vm->L, push_message, &m)) {
        lua_settop(t->vm->L, 0);
        if (lua_checkstack(t->co, 1))
            lua_pushnil(t->co);
    }
    t->results = 1;
    end(t, false);
}

static void time_out(struct mj_task *t)
{
    t->timed_out = true;
    fail(t, "was not done after %d ms and is given up", (int)(t->timeout_us / 1000));
}

/* ---- waiting ---- */

static struct mj_task *find(struct mj_sched *s, uint64_t ticket)
{
    uint32_t slot = (uint32_t)(ticket >> 32) - 1;
    if (slot >= s->slot_count)
        return NULL;
    struct mj_task *t = s->slots[slot].task;
    return t && t->state == WAITING && s->slots[slot].wait == (uint32_t)ticket ? t : NULL;
}

void mj__task_can_wait(lua_State *L, const char *what)
{
    struct mj_vm *vm = mj_vm_of(L);
    bool task = vm->context == MJ_CONTEXT_TASK && vm->task;
    if (task && !vm->blocked && lua_isyieldable(L))
        return;
    mj_guard_where(L); /* the script's line: a library of ours may be between */
    lua_pushfstring(L, task ? "%s" MJ_BELOW_C : "%s" MJ_NO_TASK, what);
    lua_concat(L, 2);
    lua_error(L);
}

uint64_t mj_task_wait(lua_State *L, const char *what)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_task *t = vm->task;
    mj__task_can_wait(L, what);
    vm->yielder = L;
    t->state = WAITING;
    t->expires = 0;
    return (uint64_t)(t->slot + 1) << 32 | ++vm->sched->slots[t->slot].wait;
}

static void set_timer(struct mj_task *t)
{
    int64_t at = t->deadline;
    if (t->state == WAITING && t->expires && (!at || t->expires < at))
        at = t->expires;
    if (at)
        mj__timer_set(t->vm->sched, &t->timer, at);
    else
        mj__timer_clear(t->vm->sched, &t->timer);
}

void mj_task_expire(lua_State *L, uint64_t ticket, int64_t after_us,
                    int (*push)(lua_State *L, void *ctx), void *ctx)
{
    struct mj_sched *s = mj_vm_of(L)->sched;
    struct mj_task *t = find(s, ticket);
    if (!t)
        return;
    int64_t now = mj__sched_now(s);
    t->expires = after_us < INT64_MAX - now ? now + after_us : INT64_MAX;
    t->expire_push = push;
    t->expire_ctx = ctx;
    set_timer(t);
}

/* The wait is over; its results are on the task's stack. */
static void wake(struct mj_task *t, int results)
{
    t->results = results;
    t->vm->sched->slots[t->slot].wait++;
    make_ready(t);
    set_timer(t);
}

struct handover {
    lua_State *to;
    int (*push)(lua_State *L, void *ctx);
    void *ctx;
    int n;
};

/* Results are made where an error can be caught, which is not the suspended task's stack. */
static int push_results(lua_State *L)
{
    struct handover *h = lua_touserdata(L, 1);
    int n = h->push(L, h->ctx);
    if (!lua_checkstack(h->to, n))
        return luaL_error(L, "not enough memory");
    lua_xmove(L, h->to, n);
    h->n = n;
    return 0;
}

static void wake_with(struct mj_task *t, int (*push)(lua_State *L, void *ctx), void *ctx)
{
    struct handover h = {t->co, push, ctx, 0};
    if (push && lua_cpcall(t->vm->L, push_results, &h)) {
        /* nil and why, as from anything that fails */
        lua_pushnil(t->co);
        lua_xmove(t->vm->L, t->co, 1);
        h.n = 2;
    }
    wake(t, h.n);
}

bool mj_task_wake(struct mj_scripts *scripts, uint64_t ticket, int (*push)(lua_State *L, void *ctx),
                  void *ctx)
{
    struct mj_task *t = find(mj__scripts_sched(scripts), ticket);
    if (!t || t->vm->context != MJ_CONTEXT_IDLE)
        return false;
    wake_with(t, push, ctx);
    return true;
}

bool mj__task_waits(lua_State *L, uint64_t ticket)
{
    return find(mj_vm_of(L)->sched, ticket) != NULL;
}

bool mj__task_hand(lua_State *L, uint64_t ticket, int index)
{
    struct mj_task *t = find(mj_vm_of(L)->sched, ticket);
    if (!t)
        return false;
    if (index && !lua_checkstack(t->co, 1))
        luaL_error(L, "not enough memory");
    if (index) {
        lua_pushvalue(L, index);
        lua_xmove(L, t->co, 1);
    }
    wake(t, index ? 1 : 0);
    return true;
}

static void on_timer(struct mj_due *due)
{
    struct mj_task *t = (struct mj_task *)due;
    int64_t now = mj__sched_now(t->vm->sched);
    t->vm->script->struck = false;
    if (t->deadline && now >= t->deadline)
        time_out(t);
    else if (t->state == WAITING && t->expires && now >= t->expires)
        wake_with(t, t->expire_push, t->expire_ctx);
    else
        set_timer(t);
}

bool mj__task_is(const struct mj_task *t, const lua_State *L) { return t && t->co == L; }

/* ---- starting and running ---- */

static uint32_t peek_slot(struct mj_sched *s)
{
    if (s->free_slot)
        return s->free_slot - 1;
    if (s->slot_count == s->slot_cap) {
        s->slot_cap = s->slot_cap ? s->slot_cap * 2 : 64;
        s->slots = mj_realloc(s->slots, s->slot_cap * sizeof *s->slots);
    }
    s->slots[s->slot_count] = (struct slot){.wait = 0};
    return s->slot_count;
}

static void take_slot(struct mj_sched *s, uint32_t slot, struct mj_task *t)
{
    if (slot == s->slot_count)
        s->slot_count++;
    else
        s->free_slot = s->slots[slot].next_free;
    s->slots[slot].task = t;
}

struct mj_task *mj_task_start(lua_State *L, int args, const char *name, int64_t timeout_us,
                              void (*done)(void *ctx, bool ok), void *ctx)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_tasks *of = vm->tasks;
    if (of->count >= MJ_TASKS_MAX) {
        lua_pop(L, args + 1);
        return NULL;
    }
    /* All that may raise comes first; then nobody knows of the task yet. */
    uint32_t slot = peek_slot(vm->sched);
    luaL_checkstack(L, 4, "too many arguments");
    lua_State *co = lua_newthread(L);
    mj_vm_push_slot(L, MJ_SLOT_TASKS);
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, (int)slot + 1);
    lua_pop(L, 2);
    if (!lua_checkstack(co, args + 1 + LUA_MINSTACK))
        luaL_error(L, "not enough memory");
    lua_xmove(L, co, args + 1);

    struct mj_task *t = mj_calloc(1, sizeof *t);
    t->timer.fire = on_timer;
    t->vm = vm;
    t->co = co;
    t->slot = slot;
    t->results = args;
    t->name = name;
    t->done = done;
    t->ctx = ctx;
    t->next = of->all;
    if (of->all)
        of->all->prev = t;
    of->all = t;
    of->count++;
    take_slot(vm->sched, slot, t);
    if (timeout_us) {
        t->timeout_us = timeout_us;
        t->deadline = mj__sched_now(vm->sched) + timeout_us;
    }
    make_ready(t);
    set_timer(t);
    return t;
}

void mj__task_about(struct mj_task *t, struct mj_node *node, const struct mj_event *ev)
{
    t->node = node;
    t->ev = ev;
}

bool mj__task_look(const struct mj_vm *vm, struct mj_task_view *out)
{
    struct mj_task *t = vm->task;
    if (!t || vm->context != MJ_CONTEXT_TASK)
        return false;
    int64_t left = t->deadline ? t->deadline - mj__sched_now(vm->sched) : -1;
    *out = (struct mj_task_view){t->node, t->ev, t->deadline && left < 0 ? 0 : left, &t->writes};
    return true;
}

void *mj__task_ctx(const struct mj_task *t)
{
    return t->node && t->node->type == MJ_NODE_EACH ? t->ctx : NULL;
}

bool mj__task_timed_out(const struct mj_task *t) { return t->timed_out; }

bool mj__task_drop(struct mj_task *t)
{
    if (t->begun)
        return false;
    unready(t);
    remove_task(t);
    return true;
}

/* From the guard's hook, when the slice is over. Not while a coroutine of the user's hands the
 * scheduler's yield on to the one around it: lua/sandbox.lua must then get to its end. */
static bool may_yield(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    if (vm->context != MJ_CONTEXT_TASK || vm->blocked || vm->yielder || !lua_isyieldable(L))
        return false;
    vm->yielder = L;
    return true;
}

/* A slice that C has made longer than any call may be. Its task goes on, but nobody else could. */
static void tell_long(const struct mj_task *t, int64_t ns)
{
    char strikes[64];
    mj_log(MJ_LOG_WARN, "script",
           "%s %s: computed for %d ms in C, where nothing can interrupt it%s", t->vm->graph->script,
           t->name, (int)(ns / 1000000), mj__strike_words(t->vm->script, strikes, sizeof strikes));
}

/* Runs the task for a slice, which ends with the turn at end_ns. */
static void resume(struct mj_task *t, int64_t end_ns)
{
    struct mj_vm *vm = t->vm;
    mj__vm_relieve(vm, mj_guard_now());
    vm->task = t;
    vm->context = MJ_CONTEXT_TASK;
    vm->blocked = 0;
    vm->yielder = NULL;
    vm->stack = __builtin_frame_address(0);
    vm->script->struck = false;
    vm->doing = t->name;
    t->state = RUNNING;
    t->begun = true;
    int64_t start = mj_guard_now();
    mj_guard_enter(vm->guard, t->co, start, vm->call_ns);
    int64_t slice = end_ns - start < SLICE_NS ? end_ns - start : SLICE_NS;
    mj_guard_slice(vm->guard, slice > SLICE_MIN ? slice : SLICE_MIN, may_yield);
    int status = lua_resume(t->co, t->results);
    bool over = mj_guard_leave(vm->guard, vm->L);
    bool stopped = mj_guard_stopped(vm->guard);
    bool sliced = mj_guard_yielded(vm->guard);
    int64_t ns = mj_guard_now() - start;
    vm->task = NULL;
    vm->context = MJ_CONTEXT_IDLE;
    if (t->node)
        mj_metric_set(t->node->ns, mj_metric_get(t->node->ns) + ns);
    mj_metric_set(vm->heap, (int64_t)vm->used);
    t->results = 0;

    if (MJ_UNLIKELY(stopped))
        mj_metric_add(vm->stopped, 1);
    if (MJ_UNLIKELY(over || status == LUA_ERRMEM))
        mj__strike(vm);
    if (MJ_UNLIKELY(over && !stopped && (status == 0 || status == LUA_YIELD)))
        tell_long(t, ns);
    bool starved = status == LUA_ERRMEM;
    if (status == LUA_YIELD && !stopped) {
        if (sliced) {
            make_ready(t);
            if (t->deadline && mj__sched_now(vm->sched) >= t->deadline)
                time_out(t);
        } else if (t->state != WAITING || vm->yielder == NULL) {
            fail(t, "coroutine.yield outside of a coroutine; jet.sleep waits", 0);
        } else {
            set_timer(t);
        }
    } else if (status == 0 && !stopped) {
        t->results = lua_gettop(t->co);
        end(t, true);
    } else if (status == 0 || status == LUA_YIELD) {
        /* The script has caught the error and gone on. */
        fail(t, "stopped after %d ms", (int)(vm->call_ns / 1000000));
    } else {
        t->results = 1;
        end(t, false);
    }
    if (MJ_UNLIKELY(starved))
        mj__vm_collect_all(vm);
}

static bool has_work(const struct mj_vm *vm) { return !vm->paused && vm->tasks->ready; }

/* One task of the next script that has one. */
static bool run_one(struct mj_sched *s, int64_t end_ns)
{
    for (size_t i = 0; i < s->vm_count; i++) {
        struct mj_vm *vm = s->vms[s->turn++ % s->vm_count];
        if (!has_work(vm))
            continue;
        struct mj_task *t = vm->tasks->ready;
        vm->tasks->ready = t->next_ready;
        if (!vm->tasks->ready)
            vm->tasks->ready_end = &vm->tasks->ready;
        resume(t, end_ns);
        return true;
    }
    return false;
}

static void fire_timers(struct mj_sched *s)
{
    int64_t now = mj__sched_now(s);
    /* As many as there are now: what they set may be due at once, and then waits for its turn. */
    for (size_t left = s->timers.n; left; left--) {
        struct mj_due *due = mj_dues_first(&s->timers);
        if (!due || due->key > now)
            break;
        mj_due_clear(&s->timers, due);
        due->fire(due);
    }
}

/* Of the next script that has some worth it, whether it has tasks or not. */
static void collect(struct mj_sched *s)
{
    for (size_t i = 0; i < s->vm_count; i++)
        if (mj__vm_collect(s->vms[++s->collected % s->vm_count], COLLECT_NS))
            return;
}

/* A view that is not looked at keeps what the journal would drop. */
static void look_for_news(struct mj_sched *s)
{
    if (s->view.journal)
        mj_view_refresh(&s->view);
    if (atomic_load_explicit(&s->news, memory_order_relaxed) && atomic_exchange(&s->news, false))
        for (size_t i = 0; i < s->vm_count; i++) {
            mj__outlets_read(s->vms[i]);
            mj__eaches_pump(s->vms[i]);
        }
}

int64_t mj__sched_run(struct mj_sched *s, int64_t budget_us)
{
    s->running = true;
    s->poked = false;
    look_for_news(s);
    fire_timers(s);
    bool more = false;
    for (size_t i = 0; i < s->vm_count && !more; i++)
        more = has_work(s->vms[i]);
    if (more) {
        int64_t end_ns = mj_guard_now() + budget_us * 1000;
        mj_guard_tick(s->guard, true);
        while ((more = run_one(s, end_ns)) && mj_guard_now() < end_ns)
            ;
        mj_guard_tick(s->guard, false);
    }
    collect(s);
    s->running = false;
    if (more)
        return 0;
    const struct mj_due *first = mj_dues_first(&s->timers);
    if (!first)
        return s->view.journal ? VIEW_US : -1;
    int64_t now = mj__sched_now(s);
    int64_t next = first->key > now ? first->key - now : 0;
    return s->view.journal && next > VIEW_US ? VIEW_US : next;
}

/* ---- a script's life ---- */

void mj__tasks_init(struct mj_vm *vm)
{
    vm->tasks = mj_calloc(1, sizeof *vm->tasks);
    vm->tasks->ready_end = &vm->tasks->ready;
}

void mj__tasks_free(struct mj_vm *vm)
{
    struct mj_sched *s = vm->sched;
    mj__task_binding_free(vm);
    while (vm->tasks->all) {
        struct mj_task *t = vm->tasks->all;
        forget(t);
        free(t);
    }
    mj__eaches_free(vm);
    for (size_t i = 0; s && i < s->vm_count; i++)
        if (s->vms[i] == vm) {
            memmove(&s->vms[i], &s->vms[i + 1], (s->vm_count - i - 1) * sizeof vm);
            s->vm_count--;
            break;
        }
    free(vm->tasks);
    vm->tasks = NULL;
}

void mj__tasks_begin(struct mj_vm *vm)
{
    struct mj_sched *s = vm->sched;
    if (vm->tasks->begun)
        return;
    s->vms = mj_realloc(s->vms, (s->vm_count + 1) * sizeof *s->vms);
    s->vms[s->vm_count++] = vm;
    vm->tasks->begun = true;
    mj__task_binding_begin(vm);
    mj__webhooks_begin(vm);
    mj__sched_news(s); /* its readers may hold some */
    mj__tasks_poke(vm);
}

void mj__tasks_stop(struct mj_vm *vm, int64_t budget_us)
{
    struct mj_tasks *of = vm->tasks;
    if (of->stopping || !of->begun)
        return;
    mj__batches_flush(vm);
    mj__webhooks_stop(vm);
    of->stopping = true;
    mj__eaches_stop(vm);
    of->stop_by = mj__sched_now(vm->sched) + budget_us;
    mj__task_binding_stop(vm);
    mj__tasks_poke(vm);
}

bool mj__tasks_ending(const struct mj_vm *vm) { return vm->tasks->stopping; }

bool mj__tasks_room(const struct mj_vm *vm) { return vm->tasks->count < MJ_TASKS_MAX; }

bool mj__tasks_stopped(struct mj_vm *vm)
{
    const struct mj_tasks *of = vm->tasks;
    return !of->begun ||
           (of->stopping &&
            ((mj__task_binding_stopped(vm) && mj__eaches_idle(vm) && mj__serving_idle(vm)) ||
             mj__sched_now(vm->sched) >= of->stop_by));
}
