/* One script's LuaJIT VM: capped memory, a sandboxed environment, and calls with a deadline.
 *
 * What a script may hold of an event are handles of its VM, valid while one of its functions runs
 * on that event:
 *
 *   event    one userdata per VM, re-pointed for each call
 *   record   one userdata per VM for the record as a whole
 *   proxy    a userdata per array or map inside the record: an offset, checked against the call's
 *            generation, and in a draft also against the record's version
 *
 * Internal to core/script. */
#pragma once

#include <lauxlib.h>
#include <lua.h>

#include "base/log.h"
#include "flow/graph.h"
#include "script/guard.h"
#include "script/script.h"
#include "script/source.h"

enum mj_context { MJ_CONTEXT_IDLE, MJ_CONTEXT_DECLARE, MJ_CONTEXT_SYNC, MJ_CONTEXT_TASK };

/* Values kept in the registry under these integer keys. Others come from luaL_ref, above them. */
enum mj_slot {
    MJ_SLOT_EVENT = 1,
    MJ_SLOT_RECORD,
    MJ_SLOT_NULL,
    MJ_SLOT_ARRAY,      /* metatable of arrays */
    MJ_SLOT_OBJECT,     /* metatable of maps that would be ambiguous */
    MJ_SLOT_PROXY,      /* metatable of proxies */
    MJ_SLOT_KEPT_PROXY, /* of those into kept events */
    MJ_SLOT_FLOW,       /* metatable of flows */
    MJ_SLOT_SINK,       /* metatable of sinks */
    MJ_SLOT_COUNTER,
    MJ_SLOT_GAUGE,
    MJ_SLOT_WORDS, /* metatables of what jet.words, jet.map … make */
    MJ_SLOT_MAP,
    MJ_SLOT_SET,
    MJ_SLOT_ZSET,
    MJ_SLOT_TOP,
    MJ_SLOT_QUEUE,
    MJ_SLOT_KEPT,  /* metatable of events, kept or not */
    MJ_SLOT_TASKS, /* coroutines by ticket, so that they are not collected */
    MJ_SLOT_NO,    /* metatables of what jet.no, jet.any, jet.prefix make */
    MJ_SLOT_ANY,
    MJ_SLOT_PREFIX,
    MJ_SLOT_NAMES,  /* collection names, so that their strings stay interned */
    MJ_SLOT_LOADED, /* modules by name */
    MJ_SLOT_CONFIG, /* jet.config */
    MJ_SLOT_MADE,   /* made.h */
    MJ_SLOT_LABELER,
    MJ_SLOT_RETRY, /* metatable of the errors that jet.retry raises */
    MJ_SLOT_COUNT
};

#define MJ_NAMES 64 /* collection names kept, direct-mapped */

struct mj_vm {
    lua_State *L;                    /* owned */
    lua_Alloc alloc;                 /* the allocator LuaJIT came with */
    void *alloc_ud;                  /* borrowed: its own */
    size_t used, cap;                /* bytes */
    struct mj_guard *guard;          /* borrowed */
    struct mj_graph *graph;          /* owned */
    char *dir;                       /* owned: the script's folder, resolved */
    const struct mj_script_cfg *cfg; /* borrowed, while loading */
    enum mj_context context;
    struct mj_sources sources; /* owned: the files it was loaded from */
    struct mj_secret *secrets; /* owned: values that log lines must not show */
    struct mj_script *script;  /* borrowed; NULL while loading */
    struct mj_shelf *shelf;    /* borrowed: what the script remembers; NULL for other VMs */
    struct mj_plan *plan;      /* owned: what it declares of that, carried out when it takes over */
    bool paused;               /* quarantined: neither its functions nor its tasks run */

    /* The call in progress. */
    const struct mj_event *ev; /* borrowed; NULL between calls */
    struct mj_patch *patch;    /* borrowed; map only */
    uint32_t generation;       /* +1 per call */
    void *event_ud, *record_ud;
    bool strict;       /* handles are new in every call, for tests of scripts */
    const char *stack; /* where the C stack was when the call began */
    /* What the watchdog's thread says of a call that is stuck: */
    const char *path;  /* borrowed: the script's, as it was given */
    const char *doing; /* borrowed: the node or task */
    char failure[256]; /* what mj__report() said last, for flow/why.h */

    /* Tasks: task.c. */
    struct mj_sched *sched; /* borrowed; set before the script is loaded */
    struct mj_tasks *tasks; /* owned */
    struct mj_task *task;   /* borrowed: the running one */
    struct mj_each *eaches; /* owned lists: bind_each.c */
    struct mj_batch *batches;
    struct mj_task_binding *binding; /* owned: what the script has declared, bind_task.c */
    struct mj_serving *serving;      /* owned: its routes, bind_serve.c */
    struct mj_published *published;  /* owned list: bind_publish.c */
    unsigned blocked;                /* coroutines around the running one that cannot yield */
    lua_State *yielder; /* borrowed: the coroutine whose yield is meant for the scheduler */
    bool gc_running;    /* a collection has begun between calls */
    size_t held_debt;   /* bytes of kept events taken since the collector was last pushed */
    size_t gc_used;     /* bytes in use when the last one ended */

    struct mj_outlet *outlets;   /* owned list: plug-ins it sends to, bind_sink.c */
    struct mj_webhook *webhooks; /* owned lists: webhook.c */
    struct mj_hooked *hooked;

    struct {
        const char *text; /* borrowed from the string kept in MJ_SLOT_NAMES */
        size_t len;
    } names[MJ_NAMES];
    int64_t last_key_us;        /* of the last record key that was made of the time */
    unsigned tables;            /* made from records so far */
    unsigned counters;          /* and gauges, declared so far */
    struct mj_claimed *claimed; /* owned list: their names, bind_counter.c */
    struct mj_buf value;        /* CBOR being made from a Lua value */
    struct mj_buf keys;         /* spans of map keys being sorted */
    struct mj_buf scratch;      /* text being made */
    int64_t next_full_gc;       /* ns */
    int64_t call_ns, slow_ns;   /* budgets */
    int64_t sync_ns;            /* in functions on events, since that was last looked at */
    struct mj_log_gate log_gate, error_gate;
    struct mj_metric *slow, *stopped, *heap, *task_errors;
};

/* A fresh sandboxed VM for the script of that name. NULL with a sentence in `error` when not even
 * that fits the cap. */
struct mj_vm *mj_vm_new(const char *name, size_t cap, struct mj_guard *guard, struct mj_buf *error);
void mj_vm_free(struct mj_vm *vm);

/* lua_pcall with context and deadline. 0 or the Lua status; *ns gets the time it took. */
int mj_vm_call(struct mj_vm *vm, enum mj_context context, int args, int results, int64_t budget_ns,
               int64_t *ns);

/* Before a call: collects all garbage when the heap is near its cap, but only so often. */
void mj__vm_relieve(struct mj_vm *vm, int64_t now_ns);
/* Between calls: collects all garbage, now. */
void mj__vm_collect_all(struct mj_vm *vm);
/* Within a call: lua_gc(L, what, 0), which is not held to the cap it makes room under. */
void mj__vm_gc(lua_State *L, int what);
/* Between calls: goes on with a collection for about that long, so that less of it falls into
 * calls. Does nothing, and returns false, when little was allocated. */
bool mj__vm_collect(struct mj_vm *vm, int64_t budget_ns);

/* The VM a state belongs to: any coroutine of it will do. */
static inline struct mj_vm *mj_vm_of(lua_State *L)
{
    void *vm;
    lua_getallocf(L, &vm);
    return vm;
}

static inline void mj_vm_push_slot(lua_State *L, enum mj_slot slot)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, (int)slot);
}

/* What where, map and tap nodes call: script.c. */
enum mj_verdict mj_script_run_node(struct mj_node *node, const struct mj_event *ev);
/* What dedupe and limit nodes whose `by` is a function call: a mj_key_fn. */
enum mj_verdict mj_script_find_key(struct mj_node *node, const struct mj_event *ev, uint64_t *hash);

/* The error at L's top as text, borrowed from it. */
const char *mj__error_text(lua_State *L);
/* Logs the error on L's top (limited): "quickstart.lua:12 where#1: attempt to …; at://…". `file`
 * and `line` serve when the message names no place; `ev` may be NULL. */
void mj__report(struct mj_vm *vm, lua_State *L, const char *name, const char *file, unsigned line,
                const struct mj_event *ev);

/* The script's plug-ins start, before its graph does. 0, or an error with a sentence. */
int mj__outlets_start(struct mj_vm *vm, struct mj_buf *error);
/* They own their nodes' readers, where there are some; once the graph is live. */
void mj__outlets_read(struct mj_vm *vm);
/* They end, each when it has delivered what waits. */
void mj__outlets_free(struct mj_vm *vm);

/* bind_counter.c: the names of its metrics may be another's. */
void mj__counters_free(struct mj_vm *vm);

/* webhook.c: those of the script that have a reader open, once; are closed, which ends by itself;
 * go. */
void mj__webhooks_begin(struct mj_vm *vm);
void mj__webhooks_stop(struct mj_vm *vm);
void mj__webhooks_free(struct mj_vm *vm);

/* Raises unless the script is being loaded: `what` draws the graph. */
void mj_need_declare(lua_State *L, const char *what);
