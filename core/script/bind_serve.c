/* jet.serve: requests to a script's routes, each answered by a task. lua/sandbox.lua wraps the
 * script's function so that its task ends with a status, a body and header lines.
 *
 * A route may be for one value of one parameter of the query, as feeds are: they share a path, and
 * each script has its own. Such a route goes before one without, and gets the other requests when
 * there is none without. */
#include "base/err.h"
#include "base/http.h"
#include "base/log.h"
#include "base/route.h"
#include "script/bind.h"
#include "script/publish.h"
#include "script/scripts.h"
#include "script/services.h"
#include "script/task.h"

#define ROUTES_MAX 200 /* of a script */
#define QUERY_MAX  1000
#define SERVE_US   INT64_C(30000000) /* as long as the server waits */

struct route {
    char *text; /* owned; `route` borrows from it */
    struct mj_route route;
    char *key, *value; /* owned: a parameter of the query, as it must be; NULL: any query */
    int ref;           /* the function, in the registry */
};

/* A request in work. */
struct served {
    struct served *next, **link;
    struct mj_task *task; /* borrowed until it has ended */
    void (*done)(void *ctx, int status, struct mj_span headers, struct mj_span body);
    void *ctx;
};

struct mj_serving {
    struct route *v; /* owned */
    size_t n;
    struct served *in_work; /* owned list */
};

static bool same_text(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }

static bool same_route(const struct route *r, const char *text, const char *key, const char *value)
{
    return strcmp(r->text, text) == 0 && same_text(r->key, key) && same_text(r->value, value);
}

/* host.serve(route, fn, key, value): the last two may be left out */
static int host_serve(lua_State *L)
{
    struct mj_serving *s = mj_vm_of(L)->serving;
    mj_need_declare(L, "jet.serve");
    if (lua_type(L, 1) != LUA_TSTRING)
        return luaL_error(L, "jet.serve wants a route and a function: "
                             "jet.serve(\"GET /path\", function(request) … end)");
    size_t len;
    const char *text = lua_tolstring(L, 1, &len);
    const char *key = luaL_optstring(L, 3, NULL), *value = key ? luaL_checkstring(L, 4) : NULL;
    struct mj_buf *error = &mj_vm_of(L)->scratch;
    struct mj_route route;
    error->len = 0;
    if (mj_route_parse(mj_span(text, len), &route, error))
        return luaL_error(L, "jet.serve: '%s': %s", text, mj_buf_cstr(error));
    for (size_t i = 0; i < s->n; i++)
        if (same_route(&s->v[i], text, key, value))
            return luaL_error(L, "jet.serve: '%s' is served already", text);
    if (s->n == ROUTES_MAX)
        return luaL_error(L, "jet.serve: a script has at most %d routes", ROUTES_MAX);
    lua_pushvalue(L, 2);
    struct route r = {.ref = luaL_ref(L, LUA_REGISTRYINDEX)};
    r.key = key ? mj_strdup(key) : NULL;
    r.value = value ? mj_strdup(value) : NULL;
    r.text = mj_span_dup(mj_span(text, len));
    mj_route_parse(mj_str(r.text), &r.route, NULL);
    s->v = mj_realloc(s->v, (s->n + 1) * sizeof r);
    s->v[s->n++] = r;
    mj_vm_of(L)->graph->tasks = true;
    return 0;
}

/* ---- a request ---- */

static void fail(void (*done)(void *ctx, int status, struct mj_span headers, struct mj_span body),
                 void *ctx, int status, const char *message)
{
    MJ_AUTO_BUF body = {0};
    mj_buf_puts(&body, "{\"message\":");
    mj_buf_put_json(&body, mj_str(message));
    mj_buf_putc(&body, '}');
    done(ctx, status, MJ_SPAN("Content-Type: application/json\r\n"), mj_buf_span(&body));
}

static void forget(struct served *s)
{
    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
    free(s);
}

/* The task has ended: what the wrapper left are a number and two texts, which need no memory. */
static void on_done(void *ctx, bool ok)
{
    struct served *s = ctx;
    int n = 0;
    lua_State *L = ok ? mj_task_results(s->task, &n) : NULL;
    if (n == 3) {
        struct mj_span body, headers;
        body.ptr = (const uint8_t *)lua_tolstring(L, -2, &body.len);
        headers.ptr = (const uint8_t *)lua_tolstring(L, -1, &headers.len);
        s->done(s->ctx, (int)lua_tonumber(L, -3), headers, body);
    } else {
        fail(s->done, s->ctx, 500, "Internal Server Error");
    }
    forget(s);
}

struct start {
    struct mj_vm *vm;
    const struct route *route;
    const struct mj_route_request *request;
    struct served *served;
};

static void push_span(lua_State *L, struct mj_span s, const char *field)
{
    lua_pushlstring(L, (const char *)s.ptr, s.len);
    lua_setfield(L, -2, field);
}

static void push_decoded(lua_State *L, struct mj_vm *vm, struct mj_span s)
{
    vm->scratch.len = 0;
    if (mj_query_decode(s, &vm->scratch) == 0)
        s = mj_buf_span(&vm->scratch);
    lua_pushlstring(L, (const char *)s.ptr, s.len);
}

/* The query as a table; of a key that comes again, the first value counts. */
static void push_query(lua_State *L, struct mj_vm *vm, struct mj_span query)
{
    struct mj_span key, value;
    lua_newtable(L);
    mj_vm_push_slot(L, MJ_SLOT_OBJECT);
    lua_setmetatable(L, -2);
    while (mj_query_next(&query, &key, &value)) {
        push_decoded(L, vm, key);
        lua_pushvalue(L, -1);
        lua_rawget(L, -3);
        bool again = !lua_isnil(L, -1);
        lua_pop(L, 1);
        if (again) {
            lua_pop(L, 1);
            continue;
        }
        push_decoded(L, vm, value);
        lua_rawset(L, -3);
    }
}

static int start_protected(lua_State *L)
{
    struct start *st = lua_touserdata(L, 1);
    const struct mj_route_request *q = st->request;
    lua_rawgeti(L, LUA_REGISTRYINDEX, st->route->ref);
    lua_createtable(L, 0, 6);
    push_span(L, q->method, "method");
    push_span(L, q->path, "path");
    push_span(L, q->body, "body");
    push_span(L, q->peer, "peer");
    push_query(L, st->vm, q->query);
    lua_setfield(L, -2, "query");
    mj_push_headers(L, q->headers);
    lua_setfield(L, -2, "headers");
    st->served->task = mj_task_start(L, 1, st->route->text, SERVE_US, on_done, st->served);
    return 0;
}

/* Is the first value of that parameter the route's? */
static bool is_for(const struct route *r, struct mj_span query)
{
    MJ_AUTO_BUF text = {0};
    struct mj_span key, value;
    while (mj_query_next(&query, &key, &value)) {
        text.len = 0;
        if (mj_query_decode(key, &text) || !mj_span_is(mj_buf_span(&text), r->key))
            continue;
        text.len = 0;
        return mj_query_decode(value, &text) == 0 && mj_span_is(mj_buf_span(&text), r->value);
    }
    return false;
}

/* How well the route fits the request, 0 when it does not. */
static size_t fit_of(const struct route *r, const struct mj_route_request *q)
{
    size_t fit = mj_route_fit(&r->route, q->path);
    if (!fit || !mj_route_takes(&r->route, q->method))
        return 0;
    return 3 * fit + (!r->key ? 1 : is_for(r, q->query) ? 2 : 0);
}

static size_t count_pairs(struct mj_span query)
{
    size_t n = 1;
    for (size_t i = 0; i < query.len; i++)
        n += query.ptr[i] == '&';
    return n;
}

void mj_scripts_serve(struct mj_scripts *s, const struct mj_route_request *request,
                      void (*done)(void *ctx, int status, struct mj_span headers,
                                   struct mj_span body),
                      void *ctx)
{
    struct start st = {.request = request};
    size_t best = 0;
    if (count_pairs(request->query) > QUERY_MAX) {
        fail(done, ctx, 400, "too many parameters in the query");
        return;
    }
    for (size_t i = 0; i < s->count; i++) {
        struct mj_vm *vm = s->scripts[i]->vm;
        for (size_t k = 0; k < vm->serving->n; k++) {
            const struct route *r = &vm->serving->v[k];
            size_t fit = fit_of(r, request);
            if (fit > best) {
                best = fit;
                st.vm = vm;
                st.route = r;
            }
        }
    }
    MJ_AUTO_BUF document = {0};
    if (mj__published_answer(s, request, best / 3, &document)) {
        done(ctx, 200, MJ_SPAN("Content-Type: application/json\r\n"), mj_buf_span(&document));
        return;
    }
    if (!best) {
        fail(done, ctx, 404, "Not Found");
        return;
    }
    if (st.vm->paused) {
        fail(done, ctx, 503, "the script is paused after errors");
        return;
    }
    if (mj__tasks_ending(st.vm)) {
        fail(done, ctx, 503, "Moonjet is ending");
        return;
    }
    struct served *v = mj_calloc(1, sizeof *v);
    v->done = done;
    v->ctx = ctx;
    v->link = &st.vm->serving->in_work;
    v->next = *v->link;
    if (v->next)
        v->next->link = &v->next;
    *v->link = v;
    st.served = v;
    if (lua_cpcall(st.vm->L, start_protected, &st)) {
        mj__report(st.vm, st.vm->L, st.route->text, st.vm->graph->script, 0, NULL);
        lua_pop(st.vm->L, 1);
    }
    if (!v->task) {
        fail(done, ctx, 503, "the script has too much to do");
        forget(v);
    }
}

/* ---- the script's life ---- */

void mj__serving_free(struct mj_vm *vm)
{
    struct mj_serving *s = vm->serving;
    if (!s)
        return;
    while (s->in_work) { /* their tasks went with the VM, without a word */
        fail(s->in_work->done, s->in_work->ctx, 503, "the script was reloaded meanwhile");
        forget(s->in_work);
    }
    for (size_t i = 0; i < s->n; i++) {
        free(s->v[i].text);
        free(s->v[i].key);
        free(s->v[i].value);
    }
    free(s->v);
    free(s);
    vm->serving = NULL;
}

bool mj__serving_idle(const struct mj_vm *vm) { return !vm->serving->in_work; }

/* Says so when an earlier script has the route already. */
static void warn_twice(const struct mj_scripts *s, size_t script, const struct route *r)
{
    for (size_t i = 0; i < script; i++) {
        const struct mj_serving *other = s->scripts[i]->vm->serving;
        for (size_t k = 0; k < other->n; k++)
            if (same_route(&other->v[k], r->text, r->key, r->value)) {
                mj_log(
                    MJ_LOG_WARN, "script",
                    "%s serves '%s%s%s%s%s', which an earlier script serves: it gets no requests",
                    s->scripts[script]->vm->graph->script, r->text, r->key ? "?" : "",
                    r->key ? r->key : "", r->key ? "=" : "", r->key ? r->value : "");
                return;
            }
    }
}

void mj__serving_publish(struct mj_scripts *s)
{
    const struct mj_services *services = mj__sched_services(s->sched);
    const char *published[MJ_PUBLISHED_ROUTES];
    if (!services || !services->routes)
        return;
    size_t n = 0, more = mj__published_routes(s, published);
    for (size_t i = 0; i < s->count; i++)
        n += s->scripts[i]->vm->serving->n;
    const char **texts = mj_calloc(n + more + 1, sizeof *texts);
    n = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct mj_serving *serving = s->scripts[i]->vm->serving;
        for (size_t k = 0; k < serving->n; k++) {
            const char *text = serving->v[k].text;
            size_t j = 0;
            warn_twice(s, i, &serving->v[k]);
            while (j < n && strcmp(texts[j], text) != 0)
                j++;
            if (j == n)
                texts[n++] = text;
        }
    }
    for (size_t i = 0; i < more; i++)
        texts[n++] = published[i];
    services->routes(services->ctx, texts, n);
    free(texts);
}

void mj_bind_serve_host(lua_State *L)
{
    mj_vm_of(L)->serving = mj_calloc(1, sizeof(struct mj_serving));
    lua_pushcfunction(L, host_serve);
    lua_setfield(L, -2, "serve");
}
