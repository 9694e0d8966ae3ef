/* What a VM keeps of its webhooks; internal to core/script.
 *
 *   jet.webhook { … } ─▶ mj_webhook ◀── mj_hooked, one per flow that goes :to it ─▶ node ─▶ reader
 *
 * Nothing of it is open before the script's graph is live, and all of it is closed when the script
 * ends. Where nothing is posted (specs, the backtest), what would be is made here and told. */
#pragma once

#include "event/from_json.h"
#include "script/hook.h"
#include "script/task.h"

/* Owned by the VM's list from the start: whatever raises while it is filled in, it goes with the
 * VM. */
struct mj_webhook {
    struct mj_vm *vm;            /* borrowed */
    struct mj_hook_spec spec;    /* owned, but for the node's name */
    char *name, *origin;         /* owned; name NULL: nodes have their own */
    int ref;                     /* of the format function */
    unsigned uses;               /* flows that go to it */
    struct mj_from_json *reader; /* owned; NULL before the function was called */
    struct mj_webhook *next;
};

struct mj_hooked {
    struct mj_due timer; /* first member: when what was collected goes out, where nothing is posted
                          */
    struct mj_webhook *of; /* borrowed */
    struct mj_node *node;  /* borrowed */
    bool begun;
    void *open;              /* hook_open()'s; NULL when it is not */
    struct mj_kept **events; /* owned: collected */
    size_t n, bytes;
    struct mj_hooked *next;
};

/* bind_flow.c: pushes it as a sink for flow:to [raises]. */
void mj_push_webhook(lua_State *L, struct mj_webhook *w);
/* Makes the node one that posts. */
void mj_webhook_node(struct mj_webhook *w, struct mj_node *node);
