/* jet.queue: values on their way between tasks of one script, and from functions that look at
 * events to tasks.
 *
 *   put ──▶ a getter that waits, at once      get ◀── the oldest value
 *       └─▶ the ring, and waits while it holds more than `max`
 *
 * The values are in the userdata's environment, a table used as a ring; who waits is known by
 * tickets, some of which may be for tasks that have given up. */
#include "script/bind.h"
#include "script/made.h"
#include "script/task.h"

#define QUEUE_MAX 1000000
/* Each task that waits to put has one value in the ring beyond `max`. Those of tasks that were
 * given up meanwhile stay, too. */
#define RING(q) ((q)->max + MJ_TASKS_MAX)

/* Tickets in order; the memory is the queue's. */
struct tickets {
    uint64_t *v; /* owned */
    size_t n, cap;
};

struct queue {
    size_t max, head, count;
    struct tickets getters, putters;
};

static struct queue *check_queue(lua_State *L, const char *what)
{
    if (!mj_made_by(L, 1, MJ_SLOT_QUEUE))
        luaL_error(L, "%s belongs to a queue; call it with a colon: queue:%s(…)", what, what);
    return lua_touserdata(L, 1);
}

static void drop_stale(lua_State *L, struct tickets *t)
{
    size_t kept = 0;
    for (size_t i = 0; i < t->n; i++)
        if (mj__task_waits(L, t->v[i]))
            t->v[kept++] = t->v[i];
    t->n = kept;
}

static void wait_in(lua_State *L, struct tickets *t, uint64_t ticket)
{
    /* A task waits for one thing at a time, so there are at most as many as tasks, and some stale
     * ones, which go before the list grows. */
    if (t->n == t->cap) {
        drop_stale(L, t);
        if (t->n >= t->cap / 2) {
            t->cap = t->cap ? t->cap * 2 : 8;
            t->v = mj_realloc(t->v, t->cap * sizeof *t->v);
        }
    }
    t->v[t->n++] = ticket;
}

/* Gives the value at the index to the first that still waits. */
static bool hand(lua_State *L, struct tickets *t, int index)
{
    for (size_t i = 0; i < t->n; i++)
        if (mj__task_hand(L, t->v[i], index)) {
            t->n -= i + 1;
            memmove(t->v, t->v + i + 1, t->n * sizeof *t->v);
            return true;
        }
    t->n = 0;
    return false;
}

/* queue:put(value) */
static int queue_put(lua_State *L)
{
    struct queue *q = check_queue(L, "put");
    bool task = mj_vm_of(L)->context == MJ_CONTEXT_TASK;
    luaL_checkany(L, 2);
    if (lua_isnil(L, 2))
        return luaL_error(L, "a queue holds anything but nil");
    if (!q->count && hand(L, &q->getters, 2)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    bool full = q->count >= q->max;
    if (full && !task) {
        lua_pushboolean(L, 0);
        return 1;
    }
    if (full)
        mj__task_can_wait(L, "queue:put");
    if (q->count >= RING(q))
        return luaL_error(L, "queue:put: the queue is full of values whose tasks have given up");
    lua_getfenv(L, 1);
    lua_pushvalue(L, 2);
    lua_rawseti(L, -2, (int)((q->head + q->count) % RING(q)) + 1);
    q->count++;
    if (full) {
        wait_in(L, &q->putters, mj_task_wait(L, "queue:put"));
        return lua_yield(L, 0);
    }
    lua_pushboolean(L, 1);
    return 1;
}

static int push_nil(lua_State *L, void *ctx)
{
    (void)ctx;
    lua_pushnil(L);
    return 1;
}

/* queue:get(timeout) */
static int queue_get(lua_State *L)
{
    struct queue *q = check_queue(L, "get");
    int64_t timeout = lua_isnoneornil(L, 2) ? -1 : mj_check_duration(L, 2, "queue:get");
    mj__task_can_wait(L, "queue:get");
    if (!q->count) {
        if (!timeout) {
            lua_pushnil(L);
            return 1;
        }
        uint64_t ticket = mj_task_wait(L, "queue:get");
        wait_in(L, &q->getters, ticket);
        if (timeout > 0)
            mj_task_expire(L, ticket, timeout, push_nil, NULL);
        return lua_yield(L, 0);
    }
    int at = (int)(q->head % RING(q)) + 1;
    lua_getfenv(L, 1);
    lua_rawgeti(L, -1, at);
    lua_pushnil(L);
    lua_rawseti(L, -3, at);
    q->count--;
    q->head = q->count ? (q->head + 1) % RING(q) : 0;
    if (q->putters.n) {
        lua_pushboolean(L, 1);
        hand(L, &q->putters, lua_gettop(L));
        lua_pop(L, 1);
    }
    return 1;
}

/* queue:count() */
static int queue_count(lua_State *L)
{
    const struct queue *q = check_queue(L, "count");
    lua_pushinteger(L, (lua_Integer)q->count);
    return 1;
}

static int queue_gc(lua_State *L)
{
    struct queue *q = lua_touserdata(L, 1);
    free(q->getters.v);
    free(q->putters.v);
    return 0;
}

/* jet.queue(max) */
static int jet_queue(lua_State *L)
{
    lua_Number max = lua_isnoneornil(L, 1)           ? 1000
                     : lua_type(L, 1) == LUA_TNUMBER ? lua_tonumber(L, 1)
                                                     : 0;
    if (!(max >= 1 && max <= QUEUE_MAX) || max != (lua_Number)(size_t)max)
        return luaL_error(L, "jet.queue wants a whole number from 1 to %d", QUEUE_MAX);
    struct queue *q = lua_newuserdata(L, sizeof *q);
    *q = (struct queue){.max = (size_t)max};
    lua_newtable(L);
    lua_setfenv(L, -2);
    mj_vm_push_slot(L, MJ_SLOT_QUEUE);
    lua_setmetatable(L, -2);
    mj_made(L, "jet.queue", NULL);
    return 1;
}

void mj_bind_queue(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"put", queue_put}, {"get", queue_get}, {"count", queue_count}, {NULL, NULL}};
    lua_pushcfunction(L, jet_queue);
    lua_setfield(L, -2, "queue");
    mj_vm_push_slot(L, MJ_SLOT_QUEUE);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    mj_seal_methods(L, "queue");
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, queue_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushliteral(L, "queue");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
