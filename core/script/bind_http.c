/* jet.http and jet.resolve: a task asks, and sleeps until mj_scripts_fetched() or
 * mj_scripts_resolved() brings the answer. lua/sandbox.lua puts get, post and request in front. */
#include "base/err.h"
#include "script/bind.h"
#include "script/services.h"
#include "script/task.h"

#define TIMEOUT_US     INT64_C(10000000)
#define TIMEOUT_MAX_US INT64_C(600000000)
#define BYTES          (1 << 20)
#define BYTES_MAX      (64 << 20)
#define HEADERS_MAX    ((size_t)64 << 10) /* bytes; a server refuses much less */

static const struct mj_services *services_of(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    return vm->sched ? mj__sched_services(vm->sched) : NULL;
}

static bool is_content_type(const char *name) { return strcasecmp(name, "content-type") == 0; }

/* A line break in a value would start another header. */
bool mj_put_headers(lua_State *L, int options, const char *what, struct mj_buf *out)
{
    bool typed = false;
    lua_getfield(L, options, "headers");
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return false;
    }
    if (!lua_istable(L, -1))
        luaL_error(L, "%s: 'headers' wants a table: { [\"X-Name\"] = \"value\" }", what);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        if (lua_type(L, -2) != LUA_TSTRING || !lua_isstring(L, -1))
            luaL_error(L, "%s: 'headers' wants names and texts: { [\"X-Name\"] = \"value\" }",
                       what);
        size_t name_len, value_len;
        const char *name = lua_tolstring(L, -2, &name_len);
        lua_pushvalue(L, -1); /* lua_next must not find a number turned into a text */
        const char *value = lua_tolstring(L, -1, &value_len);
        if (memchr(name, '\r', name_len) || memchr(name, '\n', name_len) ||
            memchr(value, '\r', value_len) || memchr(value, '\n', value_len))
            luaL_error(L, "%s: the header '%s' has a line break in it", what, name);
        if (name_len + value_len + 4 > HEADERS_MAX - out->len)
            luaL_error(L, "%s: the headers take more than %d KiB", what, (int)(HEADERS_MAX >> 10));
        mj_buf_put(out, name, name_len);
        mj_buf_puts(out, ": ");
        mj_buf_put(out, value, value_len);
        mj_buf_puts(out, "\r\n");
        typed |= is_content_type(name);
        lua_pop(L, 2);
    }
    lua_pop(L, 1);
    return typed;
}

/* host.fetch(what, method, url, body, options, json) */
static int host_fetch(lua_State *L)
{
    static const char *const names[] = {"headers", "timeout", "max_bytes", NULL};
    static const char *const all[] = {"url",     "method",    "headers", "body",
                                      "timeout", "max_bytes", NULL};
    struct mj_vm *vm = mj_vm_of(L);
    const char *what = luaL_checkstring(L, 1);
    struct mj_fetch f = {.script = vm->graph->script, .timeout_us = TIMEOUT_US, .max_bytes = BYTES};
    lua_settop(L, 6);
    for (int i = 2; i <= 3; i++)
        if (lua_type(L, i) != LUA_TSTRING)
            return luaL_error(L, "%s wants the %s as text, not %s", what,
                              i == 2 ? "method" : "address", luaL_typename(L, i));
    if (!lua_isnil(L, 4) && lua_type(L, 4) != LUA_TSTRING)
        return luaL_error(L, "%s wants the body as text or table, not %s", what,
                          luaL_typename(L, 4));
    vm->scratch.len = 0;
    bool json = lua_toboolean(L, 6);
    if (!lua_isnil(L, 5)) {
        mj_check_options(L, 5, what, strcmp(what, "jet.http.request") == 0 ? all : names);
        f.timeout_us = mj_duration_option(L, 5, what, "timeout", TIMEOUT_US);
        if (f.timeout_us < 1000 || f.timeout_us > TIMEOUT_MAX_US)
            return luaL_error(L, "%s: 'timeout' is 1ms to 10m", what);
        f.max_bytes = (size_t)mj_integer_option(L, 5, what, "max_bytes", 1, BYTES_MAX, BYTES);
        if (mj_put_headers(L, 5, what, &vm->scratch))
            json = false;
    }
    if (json)
        mj_buf_puts(&vm->scratch, "Content-Type: application/json\r\n");
    f.headers = mj_buf_span(&vm->scratch);
    f.method.ptr = (const uint8_t *)lua_tolstring(L, 2, &f.method.len);
    f.url.ptr = (const uint8_t *)lua_tolstring(L, 3, &f.url.len);
    if (!lua_isnil(L, 4))
        f.body.ptr = (const uint8_t *)lua_tolstring(L, 4, &f.body.len);
    const struct mj_services *s = services_of(L);
    mj__task_can_wait(L, what);
    if (!s || !s->fetch)
        return luaL_error(L, "%s: there is no network here", what);
    uint64_t ticket = mj_task_wait(L, what);
    s->fetch(s->ctx, ticket, &f);
    return lua_yield(L, 0);
}

static int push_error(lua_State *L, const char *error)
{
    lua_pushnil(L);
    lua_pushstring(L, error);
    return 2;
}

struct header {
    struct mj_span name, value;
};

static bool take_header(struct mj_span *lines, struct header *out)
{
    const uint8_t *end = memchr(lines->ptr, '\n', lines->len);
    size_t len = end ? (size_t)(end - lines->ptr) + 1 : lines->len;
    struct mj_span line = mj_span(lines->ptr, len);
    *lines = mj_span(lines->ptr + len, lines->len - len);
    while (line.len && (line.ptr[line.len - 1] == '\n' || line.ptr[line.len - 1] == '\r'))
        line.len--;
    const uint8_t *colon = line.len ? memchr(line.ptr, ':', line.len) : NULL;
    if (!colon)
        return false;
    size_t name = (size_t)(colon - line.ptr), at = name + 1;
    while (at < line.len && line.ptr[at] == ' ')
        at++;
    *out = (struct header){mj_span(line.ptr, name), mj_span(line.ptr + at, line.len - at)};
    return true;
}

/* "name: value\r\n"… as a table; of a name that comes again, the values are one list. That list is
 * put together here: in Lua every value more would copy it once more, and a stranger says how many
 * there are. */
void mj_push_headers(lua_State *L, struct mj_span lines)
{
    struct header all[MJ_HEADERS_MAX];
    size_t n = 0;
    while (lines.len && n < MJ_COUNT(all))
        n += take_header(&lines, &all[n]);
    lua_newtable(L);
    mj_vm_push_slot(L, MJ_SLOT_OBJECT); /* so that an empty one can be sent as JSON */
    lua_setmetatable(L, -2);
    for (size_t i = 0; i < n; i++) {
        struct mj_span name = all[i].name;
        luaL_Buffer list;
        if (!name.ptr) /* taken by the first of its name */
            continue;
        lua_pushlstring(L, (const char *)name.ptr, name.len);
        luaL_buffinit(L, &list);
        luaL_addlstring(&list, (const char *)all[i].value.ptr, all[i].value.len);
        for (size_t k = i + 1; k < n; k++) {
            if (!all[k].name.ptr || !mj_span_eq(all[k].name, name))
                continue;
            luaL_addlstring(&list, ", ", 2);
            luaL_addlstring(&list, (const char *)all[k].value.ptr, all[k].value.len);
            all[k].name.ptr = NULL;
        }
        luaL_pushresult(&list);
        lua_rawset(L, -3);
    }
}

static int push_fetched(lua_State *L, void *ctx)
{
    const struct mj_fetched *a = ctx;
    if (a->error)
        return push_error(L, a->error);
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, a->status);
    lua_setfield(L, -2, "status");
    lua_pushlstring(L, (const char *)a->body.ptr, a->body.len);
    lua_setfield(L, -2, "body");
    mj_push_headers(L, a->headers);
    lua_setfield(L, -2, "headers");
    return 1;
}

void mj_scripts_fetched(struct mj_scripts *s, uint64_t ticket, const struct mj_fetched *answer)
{
    mj_task_wake(s, ticket, push_fetched, (void *)(uintptr_t)answer);
}

static int resolve(lua_State *L, enum mj_resolve how)
{
    size_t len;
    if (lua_type(L, 1) != LUA_TSTRING)
        return luaL_error(L, "jet.resolve wants a DID or a handle as text, not %s",
                          luaL_typename(L, 1));
    const char *who = lua_tolstring(L, 1, &len);
    const struct mj_services *s = services_of(L);
    mj__task_can_wait(L, "jet.resolve");
    if (!s || !s->resolve)
        return luaL_error(L, "jet.resolve: there is no network here");
    uint64_t ticket = mj_task_wait(L, "jet.resolve");
    s->resolve(s->ctx, ticket, mj_span(who, len), how);
    return lua_yield(L, 0);
}

/* jet.resolve(did_or_handle) */
static int jet_resolve(lua_State *L) { return resolve(L, MJ_RESOLVE_WHO); }

/* host.resolve_document(did): for whoever needs no handle, which dead name servers would delay */
static int host_resolve_document(lua_State *L) { return resolve(L, MJ_RESOLVE_DOCUMENT); }

/* host.resolve_anew(did): for when what was found before proved to be out of date; no handle */
static int host_resolve_anew(lua_State *L) { return resolve(L, MJ_RESOLVE_ANEW); }

static int push_identity(lua_State *L, void *ctx)
{
    const struct mj_identity *id = ctx;
    const char *const fields[][2] = {{"did", id->did},         {"handle", id->handle},
                                     {"pds", id->pds},         {"key", id->key},
                                     {"labeler", id->labeler}, {"label_key", id->label_key}};
    if (id->error)
        return push_error(L, id->error);
    lua_createtable(L, 0, MJ_COUNT(fields));
    for (size_t i = 0; i < MJ_COUNT(fields); i++)
        if (fields[i][1]) {
            lua_pushstring(L, fields[i][1]);
            lua_setfield(L, -2, fields[i][0]);
        }
    return 1;
}

void mj_scripts_resolved(struct mj_scripts *s, uint64_t ticket, const struct mj_identity *answer)
{
    mj_task_wake(s, ticket, push_identity, (void *)(uintptr_t)answer);
}

void mj_bind_http(lua_State *L)
{
    lua_pushcfunction(L, jet_resolve);
    lua_setfield(L, -2, "resolve");
}

void mj_bind_http_host(lua_State *L)
{
    lua_pushcfunction(L, host_fetch);
    lua_setfield(L, -2, "fetch");
    lua_pushcfunction(L, host_resolve_document);
    lua_setfield(L, -2, "resolve_document");
    lua_pushcfunction(L, host_resolve_anew);
    lua_setfield(L, -2, "resolve_anew");
}
