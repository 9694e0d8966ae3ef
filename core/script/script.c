#include "script/script.h"

#include <limits.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "flow/operator.h"
#include "script/bind.h"
#include "script/scripts.h"
#include "script/secrets.h"
#include "script/services.h"
#include "script/source.h"
#include "script/task.h"
#include "state/store.h"

#define STATE_STEP      1000 /* µs for what is due in one script's state */
#define MEMORY_DEFAULT  ((size_t)64 << 20)
#define CALL_DEFAULT    INT64_C(50000)
#define DECLARE_DEFAULT INT64_C(500000)
#define SLOW_DEFAULT    INT64_C(5000)
#define MESSAGE_MAX     1000             /* bytes of an error's text */
#define ZEROS_MAX       4096             /* of one that has zero bytes */
#define RETIRE_US       INT64_C(5000000) /* for what a replaced script still does */
#define RETIRED_US      50000            /* between looks at whether it has ended */
#define ERROR_BURST     10               /* logged per second and script; all are counted */

static int64_t now_of_services(void *ctx)
{
    const struct mj_services *v = mj__sched_services(((struct mj_scripts *)ctx)->sched);
    return v && v->now_us ? v->now_us(v->ctx) : mj_now_us();
}

struct mj_scripts *mj_scripts_new(struct mj_router *router)
{
    struct mj_scripts *s = mj_calloc(1, sizeof *s);
    s->router = router;
    s->guard = mj_guard_new();
    s->sched = mj__sched_new(s->guard);
    MJ_AUTO_BUF error = {0};
    struct mj_store_cfg cfg = {.now_us = now_of_services, .ctx = s};
    mj_store_open(&cfg, &s->own_store, &error); /* in memory nothing can fail */
    s->store = s->own_store;
    return s;
}

void mj_scripts_set_store(struct mj_scripts *s, struct mj_store *store) { s->store = store; }

struct mj_store *mj_scripts_store(const struct mj_scripts *s) { return s->store; }

void mj_scripts_free(struct mj_scripts *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->count; i++)
        mj__script_free(s->scripts[i]);
    for (size_t i = 0; i < s->retired_count; i++)
        mj__script_free(s->retired[i]);
    free(s->retired);
    mj_store_close(s->own_store);
    mj__sched_free(s->sched);
    mj_guard_free(s->guard);
    free(s->scripts);
    free(s);
}

void mj_scripts_leave(struct mj_scripts *s) { s->router = NULL; }

size_t mj_scripts_count(const struct mj_scripts *s) { return s->count; }

const struct mj_graph *mj_scripts_graph(const struct mj_scripts *s, size_t i)
{
    return s->scripts[i]->vm->graph;
}

/* Replaces the object at L's top by what its __tostring makes of it, if that is a text. The
 * function is the script's, and is called with the same limits as any: it may not end, or fail. */
static void make_text(lua_State *L, struct mj_vm *vm)
{
    lua_State *main = vm->L; /* L has failed, and cannot run anything any more */
    int64_t ns;
    size_t cap = vm->cap;
    if (vm->context != MJ_CONTEXT_IDLE || !lua_checkstack(L, 3) || !lua_checkstack(main, 3))
        return;
    vm->cap = SIZE_MAX;
    bool can = luaL_getmetafield(L, -1, "__tostring");
    vm->cap = cap;
    if (!can)
        return;
    lua_pushvalue(L, -2);
    if (L != main)
        lua_xmove(L, main, 2);
    enum mj_context context = vm->script ? MJ_CONTEXT_SYNC : MJ_CONTEXT_DECLARE;
    bool done = !mj_vm_call(vm, context, 1, 1, vm->call_ns, &ns);
    if (!done || lua_type(main, -1) != LUA_TSTRING) {
        lua_pop(main, 1);
        return;
    }
    if (L != main)
        lua_xmove(main, L, 1);
    lua_replace(L, -2);
}

/* Zero bytes of the text at L's top are shown as \0, since logs go by where a text ends. */
static const char *without_zeros(lua_State *L)
{
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    if (!text || strlen(text) == len)
        return text;
    MJ_AUTO_BUF shown = {0};
    for (size_t i = 0; i < len && shown.len < ZEROS_MAX; i++)
        if (text[i])
            mj_buf_putc(&shown, text[i]);
        else
            mj_buf_puts(&shown, "\\0");
    lua_pop(L, 1);
    lua_pushlstring(L, (const char *)shown.ptr, shown.len);
    return lua_tostring(L, -1);
}

/* An error may be a number, and becoming a text then takes memory that the script may have used up;
 * nothing would catch that error. */
const char *mj__error_text(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_retry_wish wish;
    const char *text = mj__retry_reason(L, &wish);
    if (!text && !lua_isstring(L, -1))
        make_text(L, vm);
    size_t cap = vm->cap;
    vm->cap = SIZE_MAX;
    text = text ? text : without_zeros(L);
    vm->cap = cap;
    return text ? text : "an error that is no text";
}

/* jet.config: the table, then "key=value" strings over it. */
static int fill_config(lua_State *L)
{
    const char *table = mj_vm_of(L)->cfg->config_lua;
    const struct mj_strings *config = mj_vm_of(L)->cfg->config;
    mj_vm_push_slot(L, MJ_SLOT_CONFIG);
    int target = lua_gettop(L);
    if (table) {
        lua_pushfstring(L, "return %s", table);
        if (luaL_loadbufferx(L, lua_tostring(L, -1), lua_objlen(L, -1), "=config", "t"))
            lua_error(L);
        lua_call(L, 0, 1);
        luaL_checktype(L, -1, LUA_TTABLE);
        lua_pushnil(L);
        while (lua_next(L, -2)) {
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, target);
        }
        lua_settop(L, target);
    }
    for (size_t i = 0; config && i < config->n; i++) {
        const char *eq = strchr(config->v[i], '=');
        lua_pushlstring(L, config->v[i], eq ? (size_t)(eq - config->v[i]) : strlen(config->v[i]));
        lua_pushstring(L, eq ? eq + 1 : "true");
        lua_rawset(L, -3);
    }
    return 0;
}

static int load(struct mj_vm *vm, const char *path, const char *name,
                const struct mj_script_cfg *cfg, struct mj_buf *error)
{
    lua_State *L = vm->L;
    int64_t ns, budget = cfg->declare_us ? cfg->declare_us : DECLARE_DEFAULT;
    char real[PATH_MAX];
    if (!realpath(path, real)) {
        mj_buf_printf(error, "%s: no such file", path);
        return MJ_EIO;
    }
    vm->dir = mj_strdup(real);
    char *slash = strrchr(vm->dir, '/');
    slash[slash == vm->dir] = 0;
    vm->call_ns = 1000 * (cfg->call_us ? cfg->call_us : CALL_DEFAULT);
    vm->slow_ns = 1000 * (cfg->slow_us ? cfg->slow_us : SLOW_DEFAULT);
    vm->cfg = cfg;
    vm->path = path;
    vm->doing = "loading";
    int status = lua_cpcall(L, fill_config, NULL);
    if (!status)
        status = mj_load_source(L, real, name);
    if (status) {
        mj_buf_puts(error, mj__error_text(L));
        return status == LUA_ERRFILE ? MJ_EIO : MJ_EINVAL;
    }
    status = mj_vm_call(vm, MJ_CONTEXT_DECLARE, 0, 0, budget * 1000, &ns);
    if (status) {
        const char *text = mj__error_text(L);
        /* Errors that come from no line, such as "not enough memory", still name the script. */
        if (!strstr(text, ".lua:"))
            mj_buf_printf(error, "%s: ", name);
        struct mj_span shown = mj_secrets_hide(vm->secrets, mj_str(text), &vm->scratch);
        mj_buf_put(error, shown.ptr, shown.len);
    }
    vm->cfg = NULL;
    lua_settop(L, 0);
    return status ? MJ_EINVAL : 0;
}

static const struct mj_script_cfg defaults;

struct mj_script *mj__script_new(struct mj_scripts *s, const char *path,
                                 const struct mj_script_cfg *cfg, struct mj_buf *error, int *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    if (!cfg)
        cfg = &defaults;
    struct mj_vm *vm = mj_vm_new(name, cfg->memory ? cfg->memory : MEMORY_DEFAULT, s->guard, error);
    if (vm) {
        vm->sched = s->sched;
        vm->strict = s->strict;
        vm->shelf = mj_store_shelf(s->store, name);
        vm->plan = mj_plan_new(vm->shelf);
    }
    *err = vm ? load(vm, path, name, cfg, error) : MJ_ENOMEM;
    if (*err) {
        mj_vm_free(vm);
        return NULL;
    }
    struct mj_script *script = mj_calloc(1, sizeof *script);
    char label[256];
    mj_metric_label(mj_str(name), label, sizeof label);
    *script = (struct mj_script){
        .owner = s,
        .vm = vm,
        .path = mj_strdup(path),
        .cfg_digest = mj__cfg_digest(cfg),
        .loaded_us = mj_mono_us(),
        .on_error = cfg->on_error,
        .state = mj_metric("moonjet_script_state", MJ_GAUGE,
                           "0 running, 1 degraded, 2 quarantined, 3 out until it is reloaded.",
                           "script=\"%s\"", label),
        .strikes = mj_metric("moonjet_script_strikes_total", MJ_COUNTER,
                             "Calls into a script stopped for their time or out of memory.",
                             "script=\"%s\"", label),
        .quarantines =
            mj_metric("moonjet_script_quarantines_total", MJ_COUNTER,
                      "How often a script was left out for a while.", "script=\"%s\"", label),
    };
    vm->script = script;
    vm->path = script->path;
    return script;
}

void mj__script_free(struct mj_script *script)
{
    if (!script)
        return;
    mj_vm_free(script->vm);
    free(script->path);
    free(script);
}

int mj_scripts_load(struct mj_scripts *s, const char *path, const struct mj_script_cfg *cfg,
                    struct mj_buf *error)
{
    int err;
    struct mj_script *script = mj__script_new(s, path, cfg, error, &err);
    if (script && s->router)
        err = mj__outlets_start(script->vm, error);
    if (script && s->router && !err)
        err = mj_router_add(s->router, script->vm->graph, error);
    if (err) {
        mj__script_free(script);
        return err;
    }
    mj_metric_set(script->state, MJ_LIFE_RUNNING);
    s->scripts = mj_realloc(s->scripts, (s->count + 1) * sizeof script);
    s->scripts[s->count++] = script;
    mj__serving_publish(s);
    if (s->router || s->asked)
        mj_plan_commit(script->vm->plan);
    if (s->router)
        mj__tasks_begin(script->vm);
    return 0;
}

void mj_scripts_state(const struct mj_scripts *s, size_t i, struct mj_script_state *out)
{
    const struct mj_script *script = s->scripts[i];
    int64_t left = script->life.until - mj_mono_us();
    *out = (struct mj_script_state){
        .name = script->vm->graph->script,
        .path = script->path,
        .state = mj_life_name(script->life.state),
        .strikes = script->life.total,
        .left_us = script->life.state == MJ_LIFE_QUARANTINED && left > 0 ? left : 0,
        .heap = script->vm->used,
        .heap_max = script->vm->cap,
        .age_us = mj_mono_us() - script->loaded_us,
    };
}

struct mj_sched *mj__scripts_sched(struct mj_scripts *s) { return s->sched; }

void mj_scripts_set_services(struct mj_scripts *s, const struct mj_services *services)
{
    mj__sched_set_services(s->sched, services);
}

void mj_scripts_strict(struct mj_scripts *s) { s->strict = true; }
void mj_scripts_asked(struct mj_scripts *s) { s->asked = true; }
void mj_scripts_lenient(struct mj_scripts *s) { s->lenient = true; }
void mj_scripts_share(struct mj_scripts *s) { s->shared = true; }

/* The earlier of two waits; negative ones are none. */
static int64_t sooner(int64_t a, int64_t b) { return a < 0 || (b >= 0 && b < a) ? b : a; }

int64_t mj_scripts_tend(struct mj_scripts *s)
{
    int64_t now = mj_mono_us(), next = mj__lives_tick(s, now);
    mj__shares_tick(s, now);
    next = next < 0 ? -1 : next > now ? next - now : 0;
    for (size_t i = 0; i < s->count; i++)
        next = sooner(next, mj_shelf_step(s->scripts[i]->vm->shelf, STATE_STEP));
    return sooner(next, mj_store_step(s->store, STATE_STEP));
}

int64_t mj_scripts_run(struct mj_scripts *s, int64_t budget_us)
{
    /* The reader of a script in a lane is found by the router, after the script was loaded. */
    for (size_t i = 0; i < s->count; i++)
        mj__webhooks_begin(s->scripts[i]->vm);
    int64_t next = mj__sched_run(s->sched, budget_us);
    next = sooner(next, mj_scripts_tend(s));
    mj__retired_tick(s);
    return s->retired_count ? sooner(next, RETIRED_US) : next;
}

/* A quarantined script does nothing, so nobody waits for it to end unless its time comes before
 * that; of a replaced one it never comes. */
static bool has_ended(struct mj_script *script, bool replaced)
{
    if (mj__tasks_stopped(script->vm))
        return true;
    int64_t due = mj_life_due(&script->life);
    return script->vm->paused && (replaced || due < 0 || due > mj_mono_us() + RETIRE_US);
}

void mj__retire(struct mj_scripts *s, struct mj_script *script)
{
    mj__tasks_stop(script->vm, RETIRE_US);
    s->retired = mj_realloc(s->retired, (s->retired_count + 1) * sizeof script);
    s->retired[s->retired_count++] = script;
    mj__retired_tick(s);
}

bool mj__retired_tick(struct mj_scripts *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->retired_count; i++)
        if (has_ended(s->retired[i], true))
            mj__script_free(s->retired[i]);
        else
            s->retired[kept++] = s->retired[i];
    s->retired_count = kept;
    return !kept;
}

bool mj_scripts_stop(struct mj_scripts *s, int64_t budget_us)
{
    bool done = true;
    for (size_t i = 0; i < s->count; i++) {
        mj__tasks_stop(s->scripts[i]->vm, budget_us);
        done &= has_ended(s->scripts[i], false);
    }
    return mj__retired_tick(s) && done;
}

/* Lua puts the line where the error happened before the message; when it did not, the node's own
 * line serves. */
void mj__report(struct mj_vm *vm, lua_State *L, const char *name, const char *at_file,
                unsigned at_line, const struct mj_event *ev)
{
    const char *text = mj__error_text(L);
    if (mj_secrets_hide(vm->secrets, mj_str(text), &vm->scratch).ptr != (const uint8_t *)text)
        text = mj_buf_cstr(&vm->scratch);
    size_t file = 0;
    const char *colon = strchr(text, ':');
    if (colon && colon[1] >= '0' && colon[1] <= '9') {
        const char *end = colon + 1 + strspn(colon + 1, "0123456789");
        if (*end == ':')
            file = (size_t)(end - text);
    }
    char place[300];
    if (file && file < sizeof place)
        snprintf(place, sizeof place, "%.*s", (int)file, text);
    else if (at_line)
        snprintf(place, sizeof place, "%s:%u", at_file, at_line);
    else
        snprintf(place, sizeof place, "%s", at_file);
    const char *message = file ? text + file + 1 : text;
    message += strspn(message, " ");
    size_t whole = strlen(message);
    int len = (int)(whole < MESSAGE_MAX ? whole : MESSAGE_MAX);
    snprintf(vm->failure, sizeof vm->failure, "%.80s: %.160s", place, message);
    /* Strikes are few: each of them is told. */
    struct mj_log_gate open = {0}, *gate = vm->script->struck ? &open : &vm->error_gate;
    char strikes[64];
    mj__strike_words(vm->script, strikes, sizeof strikes);
    if (!ev) {
        mj_log_limited(gate, ERROR_BURST, MJ_LOG_ERROR, "script", "%s %s: %.*s%s", place, name, len,
                       message, strikes);
        return;
    }
    bool commit = ev->kind == MJ_KIND_COMMIT;
    mj_log_limited(gate, ERROR_BURST, MJ_LOG_ERROR, "script", "%s %s: %.*s; %s%.*s%s%.*s%s%.*s%s",
                   place, name, len, message, commit ? "at://" : "", (int)ev->did.len,
                   (const char *)ev->did.ptr, commit ? "/" : "", (int)ev->collection.len,
                   (const char *)ev->collection.ptr, commit ? "/" : "", (int)ev->rkey.len,
                   (const char *)ev->rkey.ptr, strikes);
}

/* Pushes the text with the top value's type in it. Nothing would catch an error here, so the
 * script's cap must not be in the way. */
static void push_message(lua_State *L, const char *text)
{
    struct mj_vm *vm = mj_vm_of(L);
    size_t cap = vm->cap;
    vm->cap = SIZE_MAX;
    lua_pushfstring(L, text, luaL_typename(L, -1));
    vm->cap = cap;
}

static enum mj_verdict verdict_of(lua_State *L, const struct mj_node *n)
{
    if (n->type == MJ_NODE_TAP)
        return MJ_VERDICT_PASS;
    if (n->type == MJ_NODE_WHERE || !lua_toboolean(L, -1))
        return lua_toboolean(L, -1) ? MJ_VERDICT_PASS : MJ_VERDICT_DROP;
    if (mj_is_event(L, -1))
        return MJ_VERDICT_PASS;
    push_message(L, "map returns the event it was given, or nil to drop it, not %s");
    return MJ_VERDICT_ERROR;
}

/* What becomes of the event of a call that failed. */
static enum mj_verdict on_failure(const struct mj_script *script, struct mj_node *n)
{
    if (script->on_error != MJ_ON_ERROR_PASS)
        return MJ_VERDICT_ERROR; /* the router counts it */
    mj_metric_set(n->errors, mj_metric_get(n->errors) + 1);
    return MJ_VERDICT_PASS;
}

/* What becomes of an event that an earlier node of the script has just had it quarantined for. */
static enum mj_verdict on_paused(const struct mj_script *script, const struct mj_node *n)
{
    bool main = n->parent && n->parent->type == MJ_NODE_MAIN;
    return main && script->on_error != MJ_ON_ERROR_DROP ? MJ_VERDICT_PASS : MJ_VERDICT_DROP;
}

/* Calls the node's function on the event: a Lua status, and the result or error at the top. */
static int call_node(struct mj_vm *vm, struct mj_node *n, const struct mj_event *ev)
{
    int64_t ns;
    vm->script->struck = false;
    vm->doing = n->name;
    if (MJ_UNLIKELY(vm->strict))
        mj_fresh_handles(vm);
    vm->ev = ev;
    vm->generation++;
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, n->ref);
    mj_vm_push_slot(vm->L, MJ_SLOT_EVENT);
    int status = mj_vm_call(vm, MJ_CONTEXT_SYNC, 1, 1, vm->call_ns, &ns);
    if (MJ_UNLIKELY(ns > vm->slow_ns))
        mj_metric_add(vm->slow, 1);
    mj_metric_set(n->ns, mj_metric_get(n->ns) + ns);
    vm->sync_ns += ns;
    return status;
}

static void end_call(struct mj_vm *vm)
{
    vm->ev = NULL;
    vm->patch = NULL;
    lua_settop(vm->L, 0);
}

enum mj_verdict mj_script_run_node(struct mj_node *n, const struct mj_event *ev)
{
    struct mj_vm *vm = n->ctx;
    lua_State *L = vm->L;
    if (MJ_UNLIKELY(vm->paused)) {
        if (n->type == MJ_NODE_MAP)
            mj_patch_begin(&n->patch, ev->record);
        return on_paused(vm->script, n);
    }
    if (n->type == MJ_NODE_MAP) {
        mj_patch_begin(&n->patch, ev->record);
        vm->patch = &n->patch;
    }
    int status = call_node(vm, n, ev);
    enum mj_verdict verdict = status ? MJ_VERDICT_ERROR : verdict_of(L, n);
    if (MJ_UNLIKELY(verdict == MJ_VERDICT_ERROR)) {
        mj__report(vm, L, n->name, n->file, n->line, ev);
        n->reason = vm->failure;
        if (n->type == MJ_NODE_MAP)
            mj_patch_begin(&n->patch, ev->record);
        verdict = on_failure(vm->script, n);
    }
    end_call(vm);
    return verdict;
}

/* The key that the value at the top stands for. */
static enum mj_verdict key_of(lua_State *L, uint64_t *hash)
{
    int type = lua_type(L, -1);
    size_t len = 0;
    lua_Number number;
    const char *text;
    switch (type) {
    case LUA_TNIL:
        return MJ_VERDICT_DROP;
    case LUA_TSTRING:
        text = lua_tolstring(L, -1, &len);
        *hash = mj_key_hash(mj_span(text, len));
        return MJ_VERDICT_PASS;
    case LUA_TNUMBER:
        number = lua_tonumber(L, -1);
        *hash = ~mj_key_hash(mj_span(&number, sizeof number));
        return MJ_VERDICT_PASS;
    case LUA_TBOOLEAN:
        *hash = (uint64_t)lua_toboolean(L, -1);
        return MJ_VERDICT_PASS;
    default:
        push_message(L, "'by' returns a text, a number, true or false, or nil to let the event "
                        "through, not %s");
        return MJ_VERDICT_ERROR;
    }
}

enum mj_verdict mj_script_find_key(struct mj_node *n, const struct mj_event *ev, uint64_t *hash)
{
    struct mj_vm *vm = n->ctx;
    /* An event that is to pass has no key. */
    if (MJ_UNLIKELY(vm->paused))
        return on_paused(vm->script, n) == MJ_VERDICT_PASS ? MJ_VERDICT_DROP : MJ_VERDICT_ERROR;
    int status = call_node(vm, n, ev);
    enum mj_verdict verdict = status ? MJ_VERDICT_ERROR : key_of(vm->L, hash);
    if (MJ_UNLIKELY(verdict == MJ_VERDICT_ERROR)) {
        mj__report(vm, vm->L, n->name, n->file, n->line, ev);
        n->reason = vm->failure;
        if (on_failure(vm->script, n) == MJ_VERDICT_PASS)
            verdict = MJ_VERDICT_DROP;
    }
    end_call(vm);
    return verdict;
}
