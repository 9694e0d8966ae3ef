/* flow:each and flow:batch: what leaves the events' own time. Both keep a copy of the event and let
 * the router go on.
 *
 *   router ─▶ batch ─▶ list ─▶ each: inbox ─▶ task, task … (at most `workers`)
 *          └──────────────────▶ each
 *
 * The inbox in memory is bounded; what it has no room for is dropped and counted. */
#include "script/bind.h"
#include "script/inbox.h"
#include "script/scripts.h"
#include "script/task.h"

#define EACH_BYTES_MAX   ((size_t)64 << 20) /* of records waiting before one each */
#define EACH_WORKERS_MAX 1000
#define EACH_QUEUE_MAX   1000000
#define EACH_TIMEOUT     INT64_C(60000000)
#define BATCH_MAX        100000
#define BATCH_BYTES_MAX  (EACH_BYTES_MAX / 4)

struct mj_each {
    struct mj_vm *vm;     /* borrowed */
    struct mj_node *node; /* borrowed */
    struct mj_inbox *in;  /* owned */
    size_t workers;
    int64_t timeout;
    bool lists;
    struct mj_metric *queued, *full; /* gauge, counter; NULL until the graph is ready */
    struct mj_each *next;
};

struct mj_batch {
    struct mj_due timer; /* first member: when the oldest event has waited long enough */
    struct mj_vm *vm;    /* borrowed */
    struct mj_node *node;
    size_t max, max_bytes, n, bytes;
    int64_t every;
    struct mj_kept **events; /* owned; room for max */
    struct mj_batch *next;
};

static void bump(struct mj_metric *m, size_t n)
{
    if (m)
        mj_metric_set(m, mj_metric_get(m) + (int64_t)n);
}

static struct mj_metric *node_metric(const struct mj_each *e, const char *family,
                                     enum mj_metric_type type, const char *help)
{
    char script[256], name[256];
    return mj_metric(family, type, help, "script=\"%s\",node=\"%s\"",
                     mj_metric_label(mj_str(e->vm->graph->script), script, sizeof script),
                     mj_metric_label(mj_str(e->node->name), name, sizeof name));
}

static void show(struct mj_each *e)
{
    if (!e->queued) {
        e->queued = node_metric(e, "moonjet_node_queue", MJ_GAUGE,
                                "Events that wait for a node's function.");
        e->full = node_metric(e, "moonjet_node_queue_full_total", MJ_COUNTER,
                              "Events dropped because a node's queue was full.");
    }
    mj_metric_set(e->queued, (int64_t)mj_inbox_count(e->in));
}

/* ---- each ---- */

static void pump(struct mj_each *e);

static void each_done(void *ctx, bool ok)
{
    struct mj_letter *l = ctx;
    struct mj_each *e = l->owner;
    (void)ok;
    mj_inbox_done(e->in, l);
    pump(e);
    show(e);
}

static int start_protected(lua_State *L)
{
    struct mj_letter *l = lua_touserdata(L, 1);
    struct mj_each *e = l->owner;
    lua_rawgeti(L, LUA_REGISTRYINDEX, e->node->ref);
    if (e->lists) {
        lua_createtable(L, (int)l->n, 0);
        for (size_t i = 0; i < l->n; i++) {
            mj_push_kept(L, l->events[i]);
            lua_rawseti(L, -2, (int)i + 1);
        }
    } else {
        mj_push_kept(L, l->events[0]);
    }
    struct mj_task *t = mj_task_start(L, 1, e->node->name, e->timeout, each_done, l);
    if (t)
        mj__task_about(t, e->node, e->lists ? NULL : &l->events[0]->ev);
    else
        luaL_error(L, "too many tasks");
    return 0;
}

/* Starts tasks as long as there is work and a worker. A quarantined script's events wait: their
 * time would run, and each that finds no memory costs collecting all of it. */
static void pump(struct mj_each *e)
{
    struct mj_letter *l;
    while (!e->vm->paused && mj_inbox_busy(e->in) < e->workers && mj__tasks_room(e->vm) &&
           (l = mj_inbox_take(e->in))) {
        l->owner = e;
        mj__vm_relieve(e->vm, mj_guard_now());
        int status = lua_cpcall(e->vm->L, start_protected, l);
        if (status == LUA_ERRMEM) {
            lua_pop(e->vm->L, 1);
            mj__vm_collect_all(e->vm);
            status = lua_cpcall(e->vm->L, start_protected, l);
        }
        if (status) {
            mj__strike(e->vm);
            mj__report(e->vm, e->vm->L, e->node->name, e->node->file, e->node->line,
                       e->lists ? NULL : &l->events[0]->ev);
            lua_pop(e->vm->L, 1);
            bump(e->node->errors, l->n);
            mj_inbox_done(e->in, l);
        }
    }
}

/* Returns how many of the events were dropped, these or older ones. */
static size_t take_in(struct mj_each *e, struct mj_kept *const *events, size_t n)
{
    size_t dropped = mj__tasks_ending(e->vm) ? n : mj_inbox_put(e->in, events, n);
    pump(e);
    show(e);
    bump(e->full, dropped);
    return dropped;
}

static enum mj_verdict each_event(struct mj_node *node, const struct mj_event *ev)
{
    struct mj_each *e = node->ctx;
    struct mj_kept *kept = mj_kept_new(ev);
    size_t dropped = take_in(e, &kept, 1);
    mj_kept_unref(kept);
    return dropped ? MJ_VERDICT_DROP : MJ_VERDICT_PASS;
}

static void each_list(struct mj_node *node, struct mj_kept *const *events, size_t n)
{
    bump(node->in, n);
    size_t dropped = take_in(node->ctx, events, n);
    bump(node->dropped, dropped);
    bump(node->passed, dropped < n ? n - dropped : 0);
}

/* The text at key "full" of the options: whether the old ones go. */
static bool check_full(lua_State *L)
{
    bool drop_old = false;
    lua_getfield(L, 3, "full");
    if (!lua_isnil(L, -1)) {
        const char *s = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
        drop_old = strcmp(s, "drop_old") == 0;
        if (!drop_old && strcmp(s, "drop_new") != 0)
            luaL_error(L, "each: 'full' is \"drop_new\" or \"drop_old\"");
    }
    lua_pop(L, 1);
    return drop_old;
}

/* flow:each(fn, options) */
static int flow_each(lua_State *L)
{
    static const char *const names[] = {"workers", "queue", "full", "timeout", NULL};
    struct mj_vm *vm = mj_vm_of(L);
    const struct mj_node *batch = mj_flow_batch(L, "each");
    if (lua_type(L, 2) != LUA_TFUNCTION)
        return luaL_error(L, "each wants a function");
    lua_settop(L, 3);
    if (lua_isnil(L, 3)) {
        lua_newtable(L);
        lua_replace(L, 3);
    }
    mj_check_options(L, 3, "each", names);
    size_t workers =
        (size_t)mj_integer_option(L, 3, "each", "workers", 1, batch ? 1 : EACH_WORKERS_MAX, 1);
    size_t least = batch ? ((const struct mj_batch *)batch->ctx)->max : 1;
    size_t queue = (size_t)mj_integer_option(L, 3, "each", "queue", (int64_t)least, EACH_QUEUE_MAX,
                                             least > 1000 ? (int64_t)least : 1000);
    int64_t timeout = mj_duration_option(L, 3, "each", "timeout", EACH_TIMEOUT);
    if (timeout < 1000)
        return luaL_error(L, "each: 'timeout' is 1ms or more");
    bool drop_old = check_full(L);
    lua_pushvalue(L, 2);
    int ref = luaL_ref(L, LUA_REGISTRYINDEX);
    mj_flow_begin(L, "each", true);

    struct mj_each *e = mj_calloc(1, sizeof *e);
    struct mj_inbox_cfg cfg = {queue, EACH_BYTES_MAX, drop_old, batch != NULL};
    e->vm = vm;
    e->in = mj_inbox_new(&cfg);
    e->workers = workers;
    e->timeout = timeout;
    e->lists = batch != NULL;
    e->next = vm->eaches;
    vm->eaches = e;
    e->node = mj_flow_end(L, MJ_NODE_EACH);
    e->node->ref = ref;
    e->node->ctx = e;
    e->node->fn = each_event;
    e->node->list = each_list;
    return 1;
}

/* ---- batch ---- */

static void flush(struct mj_batch *b)
{
    size_t n = b->n;
    b->n = b->bytes = 0;
    if (b->vm->sched)
        mj__timer_clear(b->vm->sched, &b->timer);
    for (size_t i = 0; n && i < b->node->child_count; i++) {
        struct mj_node *child = b->node->children[i];
        if (child->list)
            child->list(child, b->events, n);
    }
    for (size_t i = 0; i < n; i++)
        mj_kept_unref(b->events[i]);
}

static void batch_due(struct mj_due *due) { flush((struct mj_batch *)due); }

static enum mj_verdict batch_event(struct mj_node *node, const struct mj_event *ev)
{
    struct mj_batch *b = node->ctx;
    size_t bytes = mj_kept_size_of(ev);
    if (mj__tasks_ending(b->vm))
        return MJ_VERDICT_DROP;
    if (b->n && b->bytes + bytes > b->max_bytes)
        flush(b);
    b->events[b->n++] = mj_kept_new(ev);
    b->bytes += bytes;
    if (b->n == b->max || b->bytes >= b->max_bytes)
        flush(b);
    else if (b->n == 1)
        mj__timer_set(b->vm->sched, &b->timer, mj__sched_now(b->vm->sched) + b->every);
    return MJ_VERDICT_PASS;
}

/* flow:batch(options) */
static int flow_batch(lua_State *L)
{
    static const char *const names[] = {"max", "every", "bytes", NULL};
    struct mj_vm *vm = mj_vm_of(L);
    if (mj_flow_batch(L, "batch"))
        return luaL_error(L, "batch behind batch would make lists of lists; one is enough");
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        lua_newtable(L);
        lua_replace(L, 2);
    }
    mj_check_options(L, 2, "batch", names);
    size_t max = (size_t)mj_integer_option(L, 2, "batch", "max", 1, BATCH_MAX, 100);
    size_t bytes =
        (size_t)mj_integer_option(L, 2, "batch", "bytes", 1, (int64_t)BATCH_BYTES_MAX, 1 << 20);
    int64_t every = mj_duration_option(L, 2, "batch", "every", 1000000);
    if (every < 1000)
        return luaL_error(L, "batch: 'every' is 1ms or more");
    mj_flow_begin(L, "batch", false);

    struct mj_batch *b = mj_calloc(1, sizeof *b);
    b->timer.fire = batch_due;
    b->vm = vm;
    b->max = max;
    b->max_bytes = bytes;
    b->every = every;
    b->events = mj_alloc(max * sizeof *b->events);
    b->next = vm->batches;
    vm->batches = b;
    b->node = mj_flow_end(L, MJ_NODE_BATCH);
    b->node->ctx = b;
    b->node->fn = batch_event;
    return 1;
}

/* ---- the script's life ---- */

void mj__eaches_pump(struct mj_vm *vm)
{
    for (struct mj_each *e = vm->eaches; e; e = e->next) {
        pump(e);
        show(e);
    }
}

void mj__batches_flush(struct mj_vm *vm)
{
    for (struct mj_batch *b = vm->batches; b; b = b->next)
        flush(b);
}

bool mj__eaches_idle(const struct mj_vm *vm)
{
    for (const struct mj_each *e = vm->eaches; e; e = e->next)
        if (mj_inbox_count(e->in) || mj_inbox_busy(e->in))
            return false;
    return true;
}

/* What was not worked on is dropped, in work or not. */
static void drop_rest(struct mj_each *e)
{
    size_t left = mj_inbox_count(e->in) + mj_inbox_busy_events(e->in);
    bump(e->node->dropped, left);
    if (e->queued)
        mj_metric_set(e->queued, 0);
    if (left)
        mj_log(MJ_LOG_WARN, "script",
               "%s %s: %zu events were not worked on in time and are dropped", e->vm->graph->script,
               e->node->name, left);
    mj_inbox_free(e->in);
}

void mj__eaches_free(struct mj_vm *vm)
{
    for (struct mj_batch *b = vm->batches, *next; b; b = next) {
        next = b->next;
        bump(b->node->dropped, b->n);
        b->node->child_count = 0;
        flush(b);
        free(b->events);
        free(b);
    }
    for (struct mj_each *e = vm->eaches, *next; e; e = next) {
        next = e->next;
        drop_rest(e);
        free(e);
    }
    vm->batches = NULL;
    vm->eaches = NULL;
}

void mj_bind_each(lua_State *L)
{
    static const luaL_Reg methods[] = {{"each", flow_each}, {"batch", flow_batch}, {NULL, NULL}};
    mj_flow_methods(L, methods);
}
