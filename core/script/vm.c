#include "script/vm.h"

#include <limits.h>
#include <lualib.h>

#include "script/bind.h"
#include "script/publish.h"
#include "script/scripts.h"
#include "script/secrets.h"
#include "script/task.h"
#include "state/store.h"

extern const unsigned char mj_lua_sandbox_lua[];
extern const size_t mj_lua_sandbox_lua_len;

/* Collect when the heap has grown by this per cent: more often than LuaJIT's own 100, because the
 * pauses that matter come from the string table's size (spec/lua.md B4). */
#define GC_PAUSE 130
/* Work per step: large, so that a cycle ends before much more has been allocated. With the default
 * of 200, a few texts of a megabyte each outrun the collector. */
#define GC_STEPMUL 1000
#define GC_WORTH   ((size_t)256 << 10) /* bytes allocated before collecting between calls */

static void *counting_alloc(void *ud, void *ptr, size_t old, size_t size)
{
    struct mj_vm *vm = ud;
    if (size > old && vm->used + (size - old) > vm->cap)
        return NULL;
    void *p = vm->alloc(vm->alloc_ud, ptr, old, size);
    if (p || !size)
        vm->used = vm->used + size - old;
    return p;
}

static int on_panic(lua_State *L)
{
    mj_log(MJ_LOG_ERROR, "script", "error outside a protected call: %s", lua_tostring(L, -1));
    abort();
}

static void open_lib(lua_State *L, const char *name, lua_CFunction open)
{
    lua_pushcfunction(L, open);
    lua_pushstring(L, name);
    lua_call(L, 1, 0);
}

static void new_slot(lua_State *L, enum mj_slot slot)
{
    lua_newtable(L);
    lua_rawseti(L, LUA_REGISTRYINDEX, (int)slot);
}

static int setup(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    /* luaL_ref counts up from the registry's length, so the slots are taken first. */
    for (int i = 1; i < MJ_SLOT_COUNT; i++)
        new_slot(L, (enum mj_slot)i);
    open_lib(L, "", luaopen_base);
    open_lib(L, LUA_TABLIBNAME, luaopen_table);
    open_lib(L, LUA_STRLIBNAME, luaopen_string);
    open_lib(L, LUA_MATHLIBNAME, luaopen_math);
    open_lib(L, LUA_OSLIBNAME, luaopen_os);
    open_lib(L, LUA_BITLIBNAME, luaopen_bit);
    open_lib(L, LUA_DBLIBNAME, luaopen_debug);
    open_lib(L, LUA_JITLIBNAME, luaopen_jit); /* turns the compiler on */

    if (luaL_loadbufferx(L, (const char *)mj_lua_sandbox_lua, mj_lua_sandbox_lua_len, "=moonjet",
                         "t"))
        lua_error(L);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    lua_newtable(L);
    mj_bind_record(L);
    mj_bind_pattern(L);
    mj_bind_host(L);
    lua_newtable(L);
    mj_bind_event(L);
    mj_bind_flow(L);
    mj_bind_operator(L);
    mj_bind_counter(L);
    mj_bind_words(L);
    mj_bind_state(L);
    mj_bind_secret(L);
    mj_bind_task(L);
    mj_bind_http(L);
    mj_bind_each(L);
    mj_bind_webhook(L);
    mj_bind_queue(L);
    mj_bind_json(L);
    mj_bind_text(L);
    mj_bind_jet(L);
    lua_call(L, 3, 1);
    lua_replace(L, LUA_GLOBALSINDEX);
    /* Nothing may find the stock libraries again. */
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, "_PRELOAD");
    vm->generation = 1;
    return 0;
}

struct mj_vm *mj_vm_new(const char *name, size_t cap, struct mj_guard *guard, struct mj_buf *error)
{
    struct mj_vm *vm = mj_calloc(1, sizeof *vm);
    char label[256];
    vm->guard = guard;
    vm->cap = SIZE_MAX;
    vm->graph = mj_graph_new(name);
    mj__tasks_init(vm);
    vm->L = luaL_newstate();
    if (!vm->L) {
        mj_buf_puts(error, "no memory for a Lua VM");
        mj_vm_free(vm);
        return NULL;
    }
    lua_atpanic(vm->L, on_panic);
    vm->alloc = lua_getallocf(vm->L, &vm->alloc_ud);
    vm->used =
        (size_t)lua_gc(vm->L, LUA_GCCOUNT, 0) * 1024 + (size_t)lua_gc(vm->L, LUA_GCCOUNTB, 0);
    lua_setallocf(vm->L, counting_alloc, vm);
    vm->cap = cap;
    mj_guard_setup(vm->L);
    lua_gc(vm->L, LUA_GCSETPAUSE, GC_PAUSE);
    lua_gc(vm->L, LUA_GCSETSTEPMUL, GC_STEPMUL);
    if (lua_cpcall(vm->L, setup, NULL)) {
        mj_buf_printf(error, "cannot set up a Lua VM: %s", lua_tostring(vm->L, -1));
        mj_vm_free(vm);
        return NULL;
    }
    mj_guard_setup(vm->L); /* luaopen_jit has set the mode, too */
    mj_metric_label(mj_str(name), label, sizeof label);
    vm->slow = mj_metric("moonjet_script_slow_total", MJ_COUNTER,
                         "Calls into a script above its soft budget.", "script=\"%s\"", label);
    vm->stopped =
        mj_metric("moonjet_script_stopped_total", MJ_COUNTER,
                  "Calls into a script stopped for running too long.", "script=\"%s\"", label);
    vm->task_errors =
        mj_metric("moonjet_task_errors_total", MJ_COUNTER,
                  "Errors in a script's tasks other than its nodes'.", "script=\"%s\"", label);
    vm->heap = mj_metric("moonjet_script_heap_bytes", MJ_GAUGE, "Heap of a script's VM.",
                         "script=\"%s\"", label);
    return vm;
}

void mj_vm_free(struct mj_vm *vm)
{
    if (!vm)
        return;
    mj__tasks_free(vm);
    mj__serving_free(vm);
    mj__published_free(vm);
    if (vm->L) {
        /* LuaJIT gives its arena back only when it finds its own allocator in place. */
        if (vm->alloc)
            lua_setallocf(vm->L, vm->alloc, vm->alloc_ud);
        lua_close(vm->L);
    }
    mj_plan_free(vm->plan);
    mj__outlets_free(vm);
    mj__webhooks_free(vm);
    mj__counters_free(vm);
    mj_graph_free(vm->graph);
    mj_buf_deinit(&vm->value);
    mj_buf_deinit(&vm->keys);
    mj_buf_deinit(&vm->scratch);
    mj_secrets_free(vm->secrets);
    mj_sources_deinit(&vm->sources);
    free(vm->dir);
    free(vm);
}

/* A script near its cap would fail before LuaJIT's own collector, which works in small steps, gets
 * to its garbage. Collecting all of it is dear, so a tenth of the time may go there at most. */
static int collect_all(lua_State *L)
{
    lua_gc(L, LUA_GCCOLLECT, 0);
    return 0;
}

static int collect_some(lua_State *L)
{
    struct mj_vm *vm = lua_touserdata(L, 1);
    vm->gc_running = !lua_gc(L, LUA_GCSTEP, 0);
    return 0;
}

/* Collecting takes a little memory before it gives some back (this call does, and so does a string
 * table that shrinks); it is needed most when there is none left under the cap. And it is done
 * where it may raise. */
static void protected_gc(struct mj_vm *vm, lua_CFunction fn)
{
    size_t cap = vm->cap;
    vm->cap = SIZE_MAX;
    if (lua_cpcall(vm->L, fn, vm))
        lua_pop(vm->L, 1);
    vm->cap = cap;
}

void mj__vm_gc(lua_State *L, int what)
{
    struct mj_vm *vm = mj_vm_of(L);
    size_t cap = vm->cap;
    vm->cap = SIZE_MAX;
    lua_gc(L, what, 0);
    vm->cap = cap;
}

void mj__vm_collect_all(struct mj_vm *vm)
{
    int64_t now = mj_guard_now();
    protected_gc(vm, collect_all);
    int64_t end = mj_guard_now();
    vm->next_full_gc = end + 9 * (end - now);
    vm->gc_running = false;
    vm->gc_used = vm->used;
}

static void relieve(struct mj_vm *vm, int64_t now)
{
    if (now >= vm->next_full_gc)
        mj__vm_collect_all(vm);
}

void mj__vm_relieve(struct mj_vm *vm, int64_t now)
{
    if (MJ_UNLIKELY(vm->used > vm->cap - vm->cap / 4))
        relieve(vm, now);
}

bool mj__vm_collect(struct mj_vm *vm, int64_t budget_ns)
{
    if (!vm->gc_running && vm->used < vm->gc_used + vm->gc_used / 8 + GC_WORTH)
        return false;
    int64_t end = mj_guard_now() + budget_ns;
    do {
        protected_gc(vm, collect_some);
    } while (vm->gc_running && mj_guard_now() < end);
    if (!vm->gc_running)
        vm->gc_used = vm->used;
    return true;
}

int mj_vm_call(struct mj_vm *vm, enum mj_context context, int args, int results, int64_t budget_ns,
               int64_t *ns)
{
    int64_t start = mj_guard_now();
    if (MJ_UNLIKELY(vm->used > vm->cap - vm->cap / 4)) {
        relieve(vm, start);
        start = mj_guard_now();
    }
    vm->context = context;
    vm->stack = __builtin_frame_address(0);
    vm->blocked = 0;
    mj_guard_enter(vm->guard, vm->L, start, budget_ns);
    int status = lua_pcall(vm->L, args, results, 0);
    bool stopped = mj_guard_leave(vm->guard, vm->L);
    vm->context = MJ_CONTEXT_IDLE;
    int64_t end = mj_guard_now();
    *ns = end - start;
    if (MJ_UNLIKELY(stopped)) {
        mj_metric_add(vm->stopped, 1);
        /* The script may have caught the first error and ended by itself in the next moment, or
         * ended in a C function that nothing can stop; it is over its budget all the same. */
        if (!status) {
            lua_pop(vm->L, results);
            /* Nothing would catch an error here, so the cap must not be in the way. */
            size_t cap = vm->cap;
            vm->cap = SIZE_MAX;
            lua_pushfstring(vm->L, "stopped after %d ms", (int)(budget_ns / 1000000));
            vm->cap = cap;
            status = LUA_ERRRUN;
        }
    }
    if (MJ_UNLIKELY(stopped || status == LUA_ERRMEM))
        mj__strike(vm);
    /* Whenever the last one was, or the next event would find no room either. Strikes bound it. */
    if (MJ_UNLIKELY(status == LUA_ERRMEM))
        mj__vm_collect_all(vm);
    mj_metric_set(vm->heap, (int64_t)vm->used);
    return status;
}

void mj_need_declare(lua_State *L, const char *what)
{
    if (mj_vm_of(L)->context != MJ_CONTEXT_DECLARE)
        luaL_error(L,
                   "%s draws the graph: call it at the top level of the script, not in a function "
                   "that runs on events",
                   what);
}
