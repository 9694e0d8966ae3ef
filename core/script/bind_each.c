/* flow:each and flow:batch: what leaves the events' own time. Where events are kept, the router
 * notes them for the node's reader, which makes the lists, too (each.h). Elsewhere both keep copies
 * in memory:
 *
 *   router ─▶ batch ─▶ list ─▶ each: inbox ─▶ task, task … (at most `workers`)
 *          └──────────────────▶ each
 */
#include "script/bind.h"
#include "script/each.h"
#include "script/scripts.h"

#define EACH_BYTES_MAX   ((size_t)64 << 20) /* of records waiting before one each */
#define EACH_WORKERS_MAX 1000
#define EACH_QUEUE_MAX   1000000
#define EACH_TIMEOUT     INT64_C(60000000)
#define TRIES_MAX        1000
#define BATCH_MAX        100000
#define BATCH_BYTES_MAX  (EACH_BYTES_MAX / 4)

struct mj_batch {
    struct mj_due timer; /* first member: when the oldest event has waited long enough */
    struct mj_vm *vm;    /* borrowed */
    struct mj_node *node;
    size_t max, max_bytes, n, bytes;
    int64_t every;
    struct mj_kept **events; /* owned; room for max */
    struct mj_batch *next;
};

/* Which of the words (NULL ends them) the option is; `def` when it is not there [raises]. */
static unsigned word_option(lua_State *L, const char *name, const char *const *words, unsigned def,
                            const char *says)
{
    lua_getfield(L, 3, name);
    const char *s = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    unsigned i = 0;
    while (words[i] && strcmp(words[i], s) != 0)
        i++;
    if (lua_isnil(L, -1))
        i = def;
    else if (!words[i])
        luaL_error(L, "each: '%s' is %s", name, says);
    lua_pop(L, 1);
    return i;
}

/* The table at key "retry" of the options; *errors: whether errors are tried again, too [raises].
 */
static struct mj_retry retry_option(lua_State *L, bool *errors)
{
    static const char *const names[] = {"tries", "min", "max", "for", "errors", NULL};
    struct mj_retry r = {8, 1000000, INT64_C(300000000), 0};
    lua_getfield(L, 3, "retry");
    int at = lua_gettop(L);
    *errors = false;
    if (!lua_isnil(L, at)) {
        mj_check_options(L, at, "each: retry", names);
        lua_getfield(L, at, "tries");
        *errors = !lua_isnil(L, -1);
        lua_getfield(L, at, "errors");
        if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TBOOLEAN)
            luaL_error(L, "each: retry: 'errors' is true or false");
        if (!lua_isnil(L, -1))
            *errors = lua_toboolean(L, -1);
        r.tries = (unsigned)mj_integer_option(L, at, "each: retry", "tries", 0, TRIES_MAX, r.tries);
        r.min_us = mj_duration_option(L, at, "each: retry", "min", r.min_us);
        r.max_us = mj_duration_option(L, at, "each: retry", "max",
                                      r.min_us > r.max_us ? r.min_us : r.max_us);
        r.for_us = mj_duration_option(L, at, "each: retry", "for", 0);
        if (r.min_us < 1000 || r.max_us < r.min_us)
            luaL_error(L, "each: retry: 'min' is 1ms or more, and 'max' not less than 'min'");
    }
    lua_settop(L, 3);
    return r;
}

/* flow:each(fn, options) */
static int flow_each(lua_State *L)
{
    static const char *const names[] = {"workers", "order", "queue", "full",
                                        "timeout", "retry", NULL};
    static const char *const orders[] = {"did", "total", "none", NULL};
    static const char *const fulls[] = {"wait", "drop_new", "drop_old", NULL};
    struct mj_vm *vm = mj_vm_of(L);
    const struct mj_node *behind = mj_flow_batch(L, "each");
    const struct mj_batch *batch = behind ? behind->ctx : NULL;
    if (lua_type(L, 2) != LUA_TFUNCTION)
        return luaL_error(L, "each wants a function");
    lua_settop(L, 3);
    if (lua_isnil(L, 3)) {
        lua_newtable(L);
        lua_replace(L, 3);
    }
    mj_check_options(L, 3, "each", names);
    struct mj_each e = {.vm = vm, .lists = batch != NULL};
    unsigned order =
        word_option(L, "order", orders, MJ_ORDER_DID, "\"did\", \"total\" or \"none\"");
    unsigned full = word_option(L, "full", fulls, 0, "\"wait\", \"drop_new\" or \"drop_old\"");
    e.workers = (size_t)mj_integer_option(L, 3, "each", "workers", 1,
                                          order == MJ_ORDER_TOTAL ? 1 : EACH_WORKERS_MAX, 1);
    size_t least = batch ? batch->max : 1;
    size_t queue = (size_t)mj_integer_option(L, 3, "each", "queue", (int64_t)least, EACH_QUEUE_MAX,
                                             least > 1000 ? (int64_t)least : 1000);
    e.timeout = mj_duration_option(L, 3, "each", "timeout", EACH_TIMEOUT);
    if (e.timeout < 1000)
        return luaL_error(L, "each: 'timeout' is 1ms or more");
    e.durable = full == 0;
    e.cfg = (struct mj_owner_cfg){.order = (enum mj_order)order,
                                  .workers = e.workers,
                                  .max = 1,
                                  .window = queue,
                                  .retry = retry_option(L, &e.retry_errors)};
    mj__batch_cfg(behind, &e.cfg);
    lua_pushvalue(L, 2);
    int ref = luaL_ref(L, LUA_REGISTRYINDEX);
    mj_flow_begin(L, "each", true);

    struct mj_each *made = mj_alloc(sizeof *made);
    const struct mj_inbox_cfg inbox = {.max = e.durable ? EACH_QUEUE_MAX : queue,
                                       .max_bytes = EACH_BYTES_MAX,
                                       .drop_old = full == 2,
                                       .order = batch && order == MJ_ORDER_DID
                                                    ? MJ_ORDER_TOTAL /* lists hold many accounts */
                                                    : e.cfg.order};
    *made = e;
    made->in = mj_inbox_new(&inbox);
    made->next = vm->eaches;
    vm->eaches = made;
    made->node = mj_flow_end(L, MJ_NODE_EACH);
    made->node->ref = ref;
    made->node->ctx = made;
    made->node->fn = mj__each_event;
    made->node->list = mj__each_list;
    made->node->durable = e.durable;
    made->node->reader_kind = MJ_READER_EACH;
    mj__each_init(made);
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
        if (child->list && !child->reader) /* readers make lists of their own */
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

void mj__batch_cfg(const struct mj_node *node, struct mj_owner_cfg *cfg)
{
    const struct mj_batch *b = node && node->type == MJ_NODE_BATCH ? node->ctx : NULL;
    if (!b)
        return;
    cfg->max = b->max;
    cfg->max_bytes = b->max_bytes;
    cfg->every_us = b->every;
}

/* ---- the script's life ---- */

void mj__batches_flush(struct mj_vm *vm)
{
    for (struct mj_batch *b = vm->batches; b; b = b->next)
        flush(b);
}

void mj__eaches_free(struct mj_vm *vm)
{
    for (struct mj_batch *b = vm->batches, *next; b; b = next) {
        next = b->next;
        if (b->n)
            mj_metric_add(b->node->dropped, (int64_t)b->n);
        b->node->child_count = 0;
        flush(b);
        free(b->events);
        free(b);
    }
    for (struct mj_each *e = vm->eaches, *next; e; e = next) {
        next = e->next;
        mj__each_free(e);
    }
    vm->batches = NULL;
    vm->eaches = NULL;
}

void mj_bind_each(lua_State *L)
{
    static const luaL_Reg methods[] = {{"each", flow_each}, {"batch", flow_batch}, {NULL, NULL}};
    mj_flow_methods(L, methods);
}
