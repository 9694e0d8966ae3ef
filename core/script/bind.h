/* What Lua sees, one file per class, each with its part of the surface; internal to core/script.
 * Functions marked [raises] leave by lua_error() and so own nothing on the C heap meanwhile. */
#pragma once

#include "event/kept.h"
#include "script/vm.h"

/* bind_jet.c: fills the table at the top of the stack with jet's functions. */
void mj_bind_jet(lua_State *L);
/* Fills the table at the top with what lua/sandbox.lua calls `host`. */
void mj_bind_host(lua_State *L);
/* bind_flow.c: metatables of flows and sinks; adds from, main, stream, print to the table at the
 * top. */
void mj_bind_flow(lua_State *L);
/* An operator adds a node in two steps. The first checks that there is a flow at 1 (behind a batch
 * only if the operator takes lists), that the script is loading and the graph has room, and pushes
 * the flow that goes on behind the node [raises, with the operator's name]. */
void mj_flow_begin(lua_State *L, const char *what, bool lists);
/* The second adds the node, with the VM as its ctx; that flow is at the top. Raises nothing: what
 * it needs (a reference, an operator) was made before, and is set now. */
struct mj_node *mj_flow_end(lua_State *L, enum mj_node_type type);
/* The batch node whose lists the flow at 1 gives, or NULL [raises as mj_flow_begin()]. */
const struct mj_node *mj_flow_batch(lua_State *L, const char *what);
/* Gives flows further methods. */
void mj_flow_methods(lua_State *L, const luaL_Reg *methods);
/* bind_operator.c: strip, keep, redact, sample, dedupe, limit, as methods of flows. */
void mj_bind_operator(lua_State *L);
/* Raises unless the value at the index is a table that has none but these keys; a misspelt one is
 * told the nearest. `names` ends with NULL. */
void mj_check_options(lua_State *L, int index, const char *what, const char *const *names);
/* Makes a method that the table at the top does not have an error that names the nearest; `name` is
 * what has them, "map". */
void mj_seal_methods(lua_State *L, const char *name);
/* The option of the table at the index, `def` when it is not there: a duration in µs; a whole
 * number from least to most [raise]. */
int64_t mj_duration_option(lua_State *L, int index, const char *what, const char *name,
                           int64_t def);
int64_t mj_integer_option(lua_State *L, int index, const char *what, const char *name,
                          int64_t least, int64_t most, int64_t def);
/* bind_event.c, bind_record.c, bind_counter.c, bind_pattern.c, bind_secret.c, bind_words.c: the
 * rest alike. */
void mj_bind_event(lua_State *L);
void mj_bind_record(lua_State *L);
void mj_bind_counter(lua_State *L);
void mj_bind_state(lua_State *L);
void mj_bind_pattern(lua_State *L);
void mj_bind_words(lua_State *L);
void mj_bind_secret(lua_State *L);
void mj_bind_task(lua_State *L);
void mj_bind_each(lua_State *L);
void mj_bind_queue(lua_State *L);
void mj_bind_json(lua_State *L);
void mj_bind_task_host(lua_State *L); /* adds to `host` */
/* bind_sink.c: plug-ins as sinks. */
struct mj_outlet;
void mj_bind_sink_host(lua_State *L);
/* Makes the node one that sends to the plug-in. */
void mj_outlet_node(struct mj_outlet *o, struct mj_node *node);
/* bind_flow.c: pushes it as a sink for flow:to [raises]. */
void mj_push_outlet(lua_State *L, struct mj_outlet *o);
/* bind_webhook.c */
void mj_bind_webhook(lua_State *L);
/* bind_http.c, bind_serve.c */
void mj_bind_http(lua_State *L);
void mj_bind_http_host(lua_State *L);
void mj_bind_serve_host(lua_State *L);
/* bind_keys.c, bind_label.c, bind_publish.c: what feeds and labelers in lua/moonjet are made of. */
void mj_bind_keys_host(lua_State *L);
void mj_bind_publish_host(lua_State *L);
void mj_bind_label_host(lua_State *L);
void mj_bind_state_host(lua_State *L);
/* Appends the option `headers` of the table at `options` as lines "Name: value\r\n" to `out`, which
 * must be one of the VM's own [raises]. True when one of them is Content-Type. */
bool mj_put_headers(lua_State *L, int options, const char *what, struct mj_buf *out);
/* Pushes "name: value\r\n"… as a table [raises]. */
void mj_push_headers(lua_State *L, struct mj_span lines);
/* Raises when the call in progress has used up its part of the C stack: coroutines in coroutines
 * and gsub in gsub take some each, and LuaJIT does not look at its end. */
void mj_check_stack(lua_State *L);
/* bind_task.c: the duration at the index, in µs, 0 or more; WHAT wants it [raises]. */
int64_t mj_check_duration(lua_State *L, int index, const char *what);
/* Unix µs, as the script's clock has it: a test's may stand still. */
int64_t mj_vm_now_us(const struct mj_vm *vm);
/* bind_require.c */
int mj_lua_require(lua_State *L);
/* bind_library.c, bind_agent.c */
void mj_bind_library_host(lua_State *L);
void mj_bind_agent_host(lua_State *L);
/* bind_text.c */
void mj_bind_text(lua_State *L);
void mj_bind_text_host(lua_State *L);

/* bind_match.c: compiles the match at a stack index; the text it stands for is appended to
 * `shown`. MJ_ESYNTAX with a sentence in `error`. Never raises. */
int mj_match_from_lua(lua_State *L, int index, struct mj_match **out, struct mj_buf *shown,
                      struct mj_buf *error);

/* bind_words.c: the words at a stack index (borrowed), or NULL for anything else. Never raises. */
struct mj_words *mj_lua_words(lua_State *L, int index);
/* Appends those words as people read them, `max` of them and how many there are more. Never raises.
 */
void mj_show_words(lua_State *L, int index, size_t max, struct mj_buf *out);
/* Pushes which of the words at the index (jet.words, or a text) the text holds, as it was written,
 * or false [raises]. */
int mj_push_contained(lua_State *L, int index, struct mj_span text);
/* bind_set.c: the set at the index, borrowed as long as the value; NULL when it is none. Take a
 * reference to keep it (state/set.h). */
struct mj_set *mj_set_from_lua(lua_State *L, int index);

/* An event as a handle, or a part of its record, leads to it. */
struct mj_subject {
    const struct mj_event *ev;
    struct mj_patch *patch; /* of a draft, else NULL */
    struct mj_held *held;   /* of a kept event; NULL: the call's, and gone with it */
};

/* The record, as edited so far; empty when there is none. */
static inline struct mj_span mj_subject_record(const struct mj_subject *s)
{
    return s->patch ? s->patch->record : s->ev->record;
}

/* bind_event.c: true when the value is the event of the call in progress. */
bool mj_is_event(lua_State *L, int index);
/* The event of the call in progress [raises when there is none]. */
struct mj_subject mj_current_event(lua_State *L, struct mj_vm *vm);
/* The event at 1, of the call or kept [raises]. */
struct mj_subject mj_check_event(lua_State *L, struct mj_vm *vm);
/* Pushes the collection's name without hashing it anew each time. */
void mj_push_collection(lua_State *L, struct mj_vm *vm, struct mj_span name);
/* Pushes a handle of a kept event, with a reference of its own [raises]. */
void mj_push_kept(lua_State *L, struct mj_kept *kept);
/* Gives the next call handles of its own, so that one of an earlier call that was put aside is
 * found out. */
void mj_fresh_handles(struct mj_vm *vm);

/* held.c: kept events as scripts hold them; what they take counts as the script's memory. */
struct mj_held {
    struct mj_kept *kept; /* ref */
    struct mj_vm *vm;     /* borrowed */
    unsigned refs;        /* handles and proxies */
    size_t bytes;
};
/* Room for a kept event of so many bytes within the script's cap [raises when there is none]:
 * before it is made, then mj_held_new() does not raise. */
void mj_held_need(lua_State *L, size_t bytes);
/* Takes a reference to the event [raises, for lack of memory; nothing was taken then]. */
struct mj_held *mj_held_new(lua_State *L, struct mj_kept *kept);
struct mj_held *mj_held_ref(struct mj_held *h);
void mj_held_unref(struct mj_held *h); /* NULL is fine; also while the VM closes */

/* bind_record.c: a new handle for the record of the call's event, in MJ_SLOT_RECORD [raises]. */
void mj_set_record(lua_State *L);
/* A proxy for the container at `item` (within the subject's record), which `path`
 * leads to. */
void mj_push_proxy(lua_State *L, struct mj_vm *vm, const struct mj_subject *of, struct mj_span item,
                   const struct mj_path *path);
/* The bytes a proxy (or the record) at the index stands for, from its first byte to the end of the
 * record; {NULL, 0} when the value is something else [raises when it is stale]. */
struct mj_span mj_proxy_span(lua_State *L, struct mj_vm *vm, int index);
/* Sets (or with nil at `value` removes) what the path names in the draft, with the maps on the way
 * that are not there if `maps` says so [raises]. */
void mj_edit(lua_State *L, struct mj_vm *vm, const struct mj_subject *of,
             const struct mj_path *path, int value, bool maps);
/* An iterator over the items of the array at `item`; ends at once for anything else. */
int mj_push_each(lua_State *L, struct mj_vm *vm, const struct mj_subject *of, struct mj_span item,
                 const struct mj_path *path);

/* value.c: pushes the item as scripts see it: text, number, boolean, jet.null; arrays and maps as
 * proxies with that path (NULL: as tables); links and bytes as { ["$link"] = … }. */
void mj_push_value(lua_State *L, struct mj_vm *vm, const struct mj_subject *of, struct mj_span item,
                   const struct mj_path *path);
/* Pushes the item with everything in it as tables [raises]. */
void mj_push_table(lua_State *L, struct mj_vm *vm, struct mj_span item);
/* The Lua value as one CBOR item in vm->value [raises]. Borrowed until the next call. */
struct mj_span mj_to_cbor(lua_State *L, struct mj_vm *vm, int index);
/* True when the value has the metatable that jet.array, jet.object, jet.no … give. */
bool mj_made_by(lua_State *L, int index, enum mj_slot slot);
/* plain.c: pushes an event as a table with the fields that scripts see. */
void mj_push_event(lua_State *L, struct mj_vm *vm, const struct mj_event *ev);
/* A C function: of a userdata what can be read of it, as tables; else a text that names it. */
int mj_lua_plain(lua_State *L);
/* bind_json.c: the Lua value at the index as JSON, appended to `out`, which must be one of the VM's
 * own [raises]. */
void mj_json_from_lua(lua_State *L, struct mj_vm *vm, int index, struct mj_buf *out);
/* What is wrong, and at which byte, from 1. */
struct mj_json_error {
    const char *text;
    size_t at;
};
/* Pushes the JSON as a Lua value, null as jet.null; when it is none, pushes nothing and fills
 * *error [raises for lack of memory]. */
bool mj_json_to_lua(lua_State *L, struct mj_vm *vm, struct mj_span json,
                    struct mj_json_error *error);
/* Pushes an integer's exact decimal text. */
void mj_push_int64(lua_State *L, int64_t v);
