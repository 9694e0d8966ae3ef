/* Webhooks of a running script: they open and close with it, its format functions are called here,
 * and where nothing is posted, what would be is put together here. */
#include "script/webhook.h"

#include "base/err.h"
#include "event/id.h"
#include "event/jetstream.h"
#include "script/bind.h"
#include "script/scripts.h"
#include "script/secrets.h"
#include "script/services.h"

#define TYPE_MAX 200

static const struct mj_services *services_of(const struct mj_vm *vm)
{
    return vm->sched ? mj__sched_services(vm->sched) : NULL;
}

/* ---- the format function ---- */

/* What the function gets, and what it made. */
struct call {
    struct mj_vm *vm;
    int ref;
    struct mj_kept **events; /* a list; NULL: the call's event */
    size_t n;
};

/* format_call(call): body and content type, or nothing to send */
static int format_call(lua_State *L)
{
    const struct call *c = lua_touserdata(L, 1);
    struct mj_vm *vm = c->vm;
    lua_settop(L, 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, c->ref);
    if (c->events) {
        lua_createtable(L, (int)c->n, 0);
        for (size_t i = 0; i < c->n; i++) {
            mj_push_kept(L, c->events[i]);
            lua_rawseti(L, -2, (int)i + 1);
        }
    } else {
        mj_vm_push_slot(L, MJ_SLOT_EVENT);
    }
    lua_call(L, 1, 2);
    if (lua_isnil(L, 1))
        return 0;
    if (lua_type(L, 1) == LUA_TTABLE) {
        vm->scratch.len = 0;
        mj_json_from_lua(L, vm, 1, &vm->scratch);
        lua_pushlstring(L, (const char *)vm->scratch.ptr, vm->scratch.len);
        lua_replace(L, 1);
    }
    if (lua_type(L, 1) != LUA_TSTRING)
        return luaL_error(L, "format returns a text, a table, or nil to send nothing, not %s",
                          luaL_typename(L, 1));
    size_t len = 0;
    const char *type = lua_tolstring(L, 2, &len);
    if (!lua_isnil(L, 2) && lua_type(L, 2) != LUA_TSTRING)
        return luaL_error(L, "format returns the content type as a text, not %s",
                          luaL_typename(L, 2));
    for (size_t i = 0; i < len; i++)
        if (type[i] < 0x20 || type[i] > 0x7e || len > TYPE_MAX)
            return luaL_error(L, "format returns a content type such as \"text/plain\"");
    return 2;
}

static void put_span(struct mj_buf *out, struct mj_span s) { mj_buf_put(out, s.ptr, s.len); }

/* Calls it. `ev`: the event, when it is no list. */
static void call(struct mj_webhook *w, struct call *c, const struct mj_event *ev,
                 struct mj_formatted *out)
{
    struct mj_vm *vm = w->vm;
    lua_State *L = vm->L;
    const struct mj_hooked *h = vm->hooked;
    int64_t ns;
    while (h && h->of != w)
        h = h->next;
    vm->script->struck = false;
    vm->doing = h ? h->node->name : "webhook";
    if (vm->strict)
        mj_fresh_handles(vm);
    vm->ev = ev;
    vm->generation++;
    size_t cap = vm->cap; /* nothing would catch an error before the call */
    vm->cap = SIZE_MAX;
    lua_pushcfunction(L, format_call);
    lua_pushlightuserdata(L, c);
    vm->cap = cap;
    int status = mj_vm_call(vm, MJ_CONTEXT_SYNC, 1, 2, vm->call_ns, &ns);
    if (ns > vm->slow_ns)
        mj_metric_add(vm->slow, 1);
    if (h && h->node->ns)
        mj_metric_set(h->node->ns, mj_metric_get(h->node->ns) + ns);
    if (status) {
        out->what = MJ_FORMAT_FAILED;
        const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "an error";
        put_span(&out->error, mj_secrets_hide(vm->secrets, mj_str(text), &vm->scratch));
        mj__report(vm, L, vm->doing, h ? h->node->file : w->spec.script, h ? h->node->line : 0, ev);
    } else if (lua_isnil(L, -2)) {
        out->what = MJ_FORMAT_NONE;
    } else {
        struct mj_span body, type;
        body.ptr = (const uint8_t *)lua_tolstring(L, -2, &body.len);
        type.ptr = (const uint8_t *)lua_tolstring(L, -1, &type.len);
        out->what = MJ_FORMATTED;
        put_span(&out->body, body);
        if (type.ptr)
            put_span(&out->type, type);
    }
    vm->ev = NULL;
    lua_settop(L, 0);
}

static bool read_item(struct mj_webhook *w, const struct mj_item *item, struct mj_event *ev)
{
    size_t at;
    if (!w->reader)
        w->reader = mj_from_json_new();
    if (mj_event_from_json(w->reader, item->json, ev, &at))
        return false;
    ev->seq = item->upstream_seq;
    ev->id = mj_str(item->id);
    return true;
}

static void format(struct mj_webhook *w, const struct mj_item *items, size_t n, bool list,
                   struct mj_formatted *out)
{
    struct mj_event ev;
    struct call c = {.vm = w->vm, .ref = w->ref};
    if (w->vm->paused) {
        out->what = MJ_FORMAT_LATER;
        return;
    }
    if (list)
        c.events = mj_calloc(n, sizeof *c.events);
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++) {
        ok = read_item(w, &items[i], &ev);
        if (ok && list)
            c.events[c.n++] = mj_kept_new(&ev);
    }
    if (ok) {
        call(w, &c, list ? NULL : &ev, out);
    } else {
        out->what = MJ_FORMAT_FAILED;
        mj_buf_puts(&out->error, "it is no event that can be read");
    }
    for (size_t i = 0; i < c.n; i++)
        mj_kept_unref(c.events[i]);
    free(c.events);
}

static struct mj_webhook *find(const struct mj_vm *vm, uint64_t function)
{
    struct mj_webhook *w = vm->webhooks;
    while (w && w->spec.function != function)
        w = w->next;
    return w;
}

void mj_scripts_format(struct mj_scripts *s, uint64_t function, const struct mj_item *items,
                       size_t n, bool list, struct mj_formatted *out)
{
    struct mj_webhook *w = NULL;
    for (size_t i = 0; !w && i < s->count; i++)
        w = find(s->scripts[i]->vm, function);
    for (size_t i = 0; !w && i < s->retired_count; i++)
        w = find(s->retired[i]->vm, function);
    if (w)
        format(w, items, n, list, out);
    else
        out->what = MJ_FORMAT_GONE;
}

/* ---- where nothing is posted ---- */

/* The events as a parcel of the reader would have them; their texts lie in `text`. */
static struct mj_item *make_items(const struct mj_hooked *h, struct mj_buf *text)
{
    struct mj_item *items = mj_calloc(h->n, sizeof *items);
    MJ_AUTO_BUF name = {0};
    mj_buf_printf(&name, "%s %s", h->of->spec.script, h->node->name);
    for (size_t i = 0; i < h->n; i++) {
        const struct mj_event *ev = &h->events[i]->ev;
        uint8_t id[MJ_EVENT_ID];
        size_t from = text->len;
        mj_event_id(ev, id);
        mj_delivery_id(mj_buf_span(&name), id, items[i].id);
        items[i].time_us = ev->time_us;
        items[i].upstream_seq = ev->seq;
        if (mj_jetstream_encode(ev, NULL, text))
            text->len = from;
        items[i].json.len = text->len - from;
    }
    for (size_t i = 0, at = 0; i < h->n; i++) {
        items[i].json.ptr = text->ptr + at;
        at += items[i].json.len;
    }
    return items;
}

static void flush(struct mj_hooked *h)
{
    struct mj_webhook *w = h->of;
    const struct mj_services *v = services_of(w->vm);
    if (!h->n)
        return;
    mj__timer_clear(w->vm->sched, &h->timer);
    MJ_AUTO_BUF text = {0};
    struct mj_formatted made = {0};
    struct mj_item *items = make_items(h, &text);
    if (w->spec.format == MJ_HOOK_FUNCTION)
        format(w, items, h->n, w->spec.max > 1, &made);
    else if (w->spec.format == MJ_HOOK_BATCH)
        mj_hook_batch(items, h->n, &made.body);
    else
        put_span(&made.body, items[0].json);
    if (made.what == MJ_FORMATTED) {
        const struct mj_posted p = {
            .node = h->node->name,
            .url = w->spec.url,
            .type = made.type.len ? mj_buf_span(&made.type) : MJ_SPAN("application/json"),
            .body = mj_buf_span(&made.body),
            .id = items[0].id,
            .events = h->n,
        };
        v->posted(v->ctx, &p);
    }
    mj_buf_deinit(&made.body);
    mj_buf_deinit(&made.type);
    mj_buf_deinit(&made.error);
    free(items);
    for (size_t i = 0; i < h->n; i++)
        mj_kept_unref(h->events[i]);
    h->n = h->bytes = 0;
}

static void flush_due(struct mj_due *due) { flush((struct mj_hooked *)due); }

/* Called for events that no reader gets: there is no journal. */
static enum mj_verdict on_event(struct mj_node *node, const struct mj_event *ev)
{
    struct mj_hooked *h = node->ctx;
    const struct mj_hook_spec *s = &h->of->spec;
    struct mj_vm *vm = h->of->vm;
    const struct mj_services *v = services_of(vm);
    if (v && v->sunk && !v->posted) {
        v->sunk(v->ctx, "webhook", ev);
        return MJ_VERDICT_PASS;
    }
    if (!v || !v->posted || mj__tasks_ending(vm))
        return MJ_VERDICT_DROP;
    if (!h->events)
        h->events = mj_calloc(s->max, sizeof *h->events);
    h->events[h->n++] = mj_kept_new(ev);
    h->bytes += mj_kept_size_of(ev);
    if (h->n == s->max || h->bytes >= s->max_bytes)
        flush(h);
    else if (h->n == 1)
        mj__timer_set(vm->sched, &h->timer, mj__sched_now(vm->sched) + s->every_us);
    return MJ_VERDICT_PASS;
}

/* ---- the script's life ---- */

void mj_webhook_node(struct mj_webhook *w, struct mj_node *node)
{
    struct mj_hooked *h = mj_calloc(1, sizeof *h);
    h->timer.fire = flush_due;
    h->of = w;
    h->node = node;
    h->next = w->vm->hooked;
    w->vm->hooked = h;
    node->ctx = h;
    node->fn = on_event;
    node->durable = true;
    node->reader_kind = MJ_READER_WEBHOOK;
    node->target = mj_strdup(w->origin);
    if (!w->name)
        return;
    MJ_AUTO_BUF name = {0};
    mj_buf_puts(&name, w->name);
    if (w->uses++) /* each flow has a position of its own, and so a name */
        mj_buf_printf(&name, "#%u", w->uses);
    free(node->name);
    node->name = mj_strdup(mj_buf_cstr(&name));
}

void mj__webhooks_begin(struct mj_vm *vm)
{
    const struct mj_services *v = services_of(vm);
    for (struct mj_hooked *h = vm->hooked; h; h = h->next) {
        if (h->begun || !h->node->reader || !v || !v->hook_open || mj__tasks_ending(vm))
            continue;
        h->begun = true;
        struct mj_hook_spec spec = h->of->spec;
        spec.node = h->node->name;
        h->open = v->hook_open(v->ctx, h->node->reader, &spec);
    }
}

void mj__webhooks_stop(struct mj_vm *vm)
{
    const struct mj_services *v = services_of(vm);
    for (struct mj_hooked *h = vm->hooked; h; h = h->next) {
        if (h->open)
            v->hook_close(v->ctx, h->open);
        h->open = NULL;
        flush(h);
    }
}

void mj__webhooks_free(struct mj_vm *vm)
{
    const struct mj_services *v = services_of(vm);
    for (struct mj_hooked *h = vm->hooked, *next; h; h = next) {
        next = h->next;
        if (h->open)
            v->hook_close(v->ctx, h->open);
        if (vm->sched)
            mj__timer_clear(vm->sched, &h->timer);
        for (size_t i = 0; i < h->n; i++)
            mj_kept_unref(h->events[i]);
        free(h->events);
        free(h);
    }
    for (struct mj_webhook *w = vm->webhooks, *next; w; w = next) {
        next = w->next;
        mj_hook_spec_deinit(&w->spec);
        mj_from_json_free(w->reader);
        free(w->name);
        free(w->origin);
        free(w);
    }
    vm->hooked = NULL;
    vm->webhooks = NULL;
}
