/* jet.test as specs see it: the methods of jet.Test that make events and look at what came of them.
 * Defaults that read better in Lua are in lua/test.lua, which wraps some of these. */
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "atproto/syntax.h"
#include "base/clock.h"
#include "base/err.h"
#include "script/services.h"
#include "script/spec_vm.h"
#include "state/store.h"

#define STOP_STEP_US INT64_C(100000)   /* of the script's time between two looks at how far it is */
#define SERVE_US     INT64_C(60000000) /* of the script's time, for a route */
#define DEFAULT_DID  "did:plc:testtesttesttesttesttest"

struct handle {
    size_t slot;
    uint64_t serial;
};

struct mj_bed *mj__spec_bed(lua_State *L, struct mj_spec *spec)
{
    struct handle *h = luaL_checkudata(L, 1, "moonjet.test");
    if (h->slot >= spec->bed_count || spec->serials[h->slot] != h->serial)
        mj__spec_error(L, "this script's test has ended: call jet.test in a before_each or in the "
                          "`it` that uses it");
    return spec->beds[h->slot];
}

/* host.bed(name, config, secrets): a bed with the script beside the spec; config is the source of a
 * table, secrets a list of "NAME=value" */
static int host_bed(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    const char *name = luaL_checkstring(L, 1);
    struct mj_strings secrets = {.n = 0};
    struct mj_script_cfg cfg = {.config_lua = luaL_checkstring(L, 2), .secret_values = &secrets};
    luaL_checktype(L, 3, LUA_TTABLE);
    for (; secrets.n < MJ_STRINGS_MAX; secrets.n++) {
        lua_rawgeti(L, 3, (int)secrets.n + 1);
        if (!(secrets.v[secrets.n] = lua_tostring(L, -1)))
            break;
        lua_pop(L, 1); /* the table holds it */
    }
    char path[PATH_MAX];
    size_t len = strlen(name);
    const char *end = len > 4 && strcmp(name + len - 4, ".lua") == 0 ? "" : ".lua";
    int n = name[0] == '/' ? snprintf(path, sizeof path, "%s%s", name, end)
                           : snprintf(path, sizeof path, "%s/%s%s", spec->vm->dir, name, end);
    if (n < 0 || (size_t)n >= sizeof path || access(path, R_OK))
        return mj__spec_error(L, "jet.test: there is no script '%s%s' beside the spec", name, end);
    if (spec->bed_count == MJ_SPEC_BEDS_MAX)
        return mj__spec_error(L, "more than %d scripts at once", MJ_SPEC_BEDS_MAX);
    struct handle *h = lua_newuserdata(L, sizeof *h);
    lua_newtable(L); /* who answers requests */
    lua_setfenv(L, -2);
    luaL_getmetatable(L, "moonjet.test");
    lua_setmetatable(L, -2);
    const char *slash = strrchr(path, '/');
    spec->error.len = 0;
    mj__spec_out(spec, L);
    if (!spec->bed_count)
        mj_metrics_zero(NULL);
    struct mj_bed *bed = mj_bed_new(path, slash + 1, &cfg, true, &spec->error);
    mj__spec_in(spec, L);
    if (!bed) {
        lua_pushlstring(L, (const char *)spec->error.ptr, spec->error.len);
        return lua_error(L);
    }
    *h = (struct handle){spec->bed_count++, ++spec->serial};
    spec->beds[h->slot] = bed;
    spec->serials[h->slot] = h->serial;
    return 1;
}

static void set_bytes(lua_State *L, const char *key, struct mj_span s)
{
    lua_pushlstring(L, s.len ? (const char *)s.ptr : "", s.len);
    lua_setfield(L, -2, key);
}

static void set_text(lua_State *L, const char *key, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static struct mj_span top_span(lua_State *L, int index)
{
    struct mj_span s;
    s.ptr = (const uint8_t *)lua_tolstring(L, index, &s.len);
    return s;
}

/* Pushes the function that the spec gave t:http or t:resolve; false when it gave none. */
static bool push_answerer(lua_State *L, const char *name)
{
    lua_getfenv(L, 1);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
    bool is_there = !lua_isnil(L, -1);
    if (!is_there)
        lua_pop(L, 1);
    return is_there;
}

static void push_request(lua_State *L, const struct mj_ask *ask)
{
    lua_createtable(L, 0, 4);
    set_bytes(L, "method", mj_buf_span(&ask->method));
    set_bytes(L, "url", mj_buf_span(&ask->what));
    if (ask->body.len)
        set_bytes(L, "body", mj_buf_span(&ask->body));
    mj_push_headers(L, mj_buf_span(&ask->headers));
    lua_setfield(L, -2, "headers");
}

/* Has the spec's function answer a request; lua/test.lua has made it return status, body and header
 * lines, or nil and a message. */
static void answer_fetch(lua_State *L, struct mj_bed *bed, const struct mj_ask *ask)
{
    struct mj_fetched answer = {.error = "nobody answers: the spec has no t:http"};
    int top = lua_gettop(L);
    if (push_answerer(L, "http")) {
        push_request(L, ask);
        lua_call(L, 1, 3);
        answer.error = NULL;
        answer.status = (int)lua_tointeger(L, -3);
        answer.body = top_span(L, -2);
        answer.headers = top_span(L, -1);
        if (lua_isnil(L, -3))
            answer.error = lua_tostring(L, -2);
        else if (answer.body.len > ask->max_bytes)
            answer.error = "the answer is larger than max_bytes";
    }
    mj_bed_fetched(bed, ask, &answer);
    lua_settop(L, top);
}

/* The same for t:resolve: DID, handle, PDS, key, labeler and its key, or nil and a message. */
static void answer_resolve(lua_State *L, struct mj_bed *bed, const struct mj_ask *ask)
{
    struct mj_identity answer = {.error = "nobody knows it: the spec has no t:resolve"};
    int top = lua_gettop(L);
    if (push_answerer(L, "resolve")) {
        lua_pushlstring(L, (const char *)ask->what.ptr, ask->what.len);
        lua_call(L, 1, 6);
        answer = (struct mj_identity){.did = lua_tostring(L, -6),
                                      .handle = lua_tostring(L, -5),
                                      .pds = lua_tostring(L, -4),
                                      .key = lua_tostring(L, -3),
                                      .labeler = lua_tostring(L, -2),
                                      .label_key = lua_tostring(L, -1)};
        if (!answer.did)
            answer = (struct mj_identity){.error = lua_tostring(L, -5)};
    }
    mj_bed_resolved(bed, ask, &answer);
    lua_settop(L, top);
}

/* Runs what is due until the script's clock is at `until`, answering what it asks for on the way.
 * The test is at index 1. */
void mj__spec_run(lua_State *L, struct mj_spec *spec, struct mj_bed *bed, int64_t until)
{
    int64_t patience_us = 2 * mj__spec_limit(spec);
    for (;;) {
        mj__spec_out(spec, L);
        int result = mj_bed_run(bed, until, patience_us);
        mj__spec_in(spec, L);
        if (result < 0)
            mj__spec_error(L,
                           "the script's tasks do not come to rest: after %f s of real time "
                           "something is still due",
                           (double)patience_us / 1e6);
        if (!result)
            return;
        const struct mj_ask *ask = mj_bed_ask(bed);
        if (ask->resolve)
            answer_resolve(L, bed, ask);
        else
            answer_fetch(L, bed, ask);
    }
}

/* test:now(): the script's time as records write it */
static int test_now(lua_State *L)
{
    char time[28];
    mj_datetime_make(mj_bed_now(mj__spec_bed(L, mj__spec_of(L))), time);
    lua_pushstring(L, time);
    return 1;
}

/* test:advance(duration) */
static int test_advance(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_bed *bed = mj__spec_bed(L, spec);
    struct mj_span text;
    int64_t us;
    text.ptr = (const uint8_t *)luaL_checklstring(L, 2, &text.len);
    if (mj_duration_us(text, &us))
        return mj__spec_error(L, "'%s' is no duration; write \"500ms\", \"90s\", \"1h30m\"",
                              lua_tostring(L, 2));
    mj__spec_run(L, spec, bed, mj_bed_now(bed) + us);
    return 0;
}

/* test:reload(): true, or nil and why the one that runs goes on */
static int test_reload(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_bed *bed = mj__spec_bed(L, spec);
    spec->error.len = 0;
    mj__spec_out(spec, L);
    int err = mj_bed_reload(bed, &spec->error);
    mj__spec_in(spec, L);
    mj__spec_run(L, spec, bed, 0);
    if (!err) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushnil(L);
    lua_pushlstring(L, (const char *)spec->error.ptr, spec->error.len);
    return 2;
}

/* test:stop() */
static int test_stop(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_bed *bed = mj__spec_bed(L, spec);
    for (bool done = false; !done;) {
        mj__spec_out(spec, L);
        done = mj_bed_stop(bed);
        mj__spec_in(spec, L);
        mj__spec_run(L, spec, bed, mj_bed_now(bed) + (done ? 0 : STOP_STEP_US));
    }
    return 0;
}

/* test:answer(name, function): who answers "http" or "resolve" */
static int test_answer(lua_State *L)
{
    mj__spec_bed(L, mj__spec_of(L));
    lua_settop(L, 3);
    lua_getfenv(L, 1);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 3);
    lua_rawset(L, -3);
    return 0;
}

/* test:requests() */
static int test_requests(lua_State *L)
{
    struct mj_bed *bed = mj__spec_bed(L, mj__spec_of(L));
    const struct mj_ask *ask;
    lua_newtable(L);
    for (int n = 1; (ask = mj_bed_request(bed)); n++) {
        push_request(L, ask);
        lua_rawseti(L, -2, n);
    }
    return 1;
}

/* test:serve(method, path, query, body, headers): status, body, headers */
static int test_serve(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_bed *bed = mj__spec_bed(L, spec);
    struct mj_route_request request = {.peer = MJ_SPAN("127.0.0.1")};
    struct mj_span *const fields[] = {&request.method, &request.path, &request.query, &request.body,
                                      &request.headers};
    for (int i = 0; i < (int)MJ_COUNT(fields); i++)
        fields[i]->ptr = (const uint8_t *)luaL_checklstring(L, i + 2, &fields[i]->len);
    mj__spec_out(spec, L);
    const struct mj_answer *answer = mj_bed_serve(bed, &request);
    mj__spec_in(spec, L);
    mj__spec_run(L, spec, bed, mj_bed_now(bed));
    if (!answer->done)
        mj__spec_run(L, spec, bed, mj_bed_now(bed) + SERVE_US);
    if (!answer->done)
        return mj__spec_error(L, "the route has not answered within %d s of its time",
                              (int)(SERVE_US / 1000000));
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, answer->status);
    lua_setfield(L, -2, "status");
    set_bytes(L, "body", mj_buf_span(&answer->body));
    mj_push_headers(L, mj_buf_span(&answer->headers));
    lua_setfield(L, -2, "headers");
    return 1;
}

/* The named set at 2, made when there is none. */
static struct mj_set *check_set(lua_State *L, struct mj_bed *bed)
{
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);
    if (!mj_state_name_valid(mj_span(name, len)))
        mj__spec_error(L, "'%s' cannot name a set: letters, digits and '_', and no digit first",
                       name);
    struct mj_set *set = mj_sets_make(mj_bed_sets(bed), name);
    if (!set)
        mj__spec_error(L, "there are too many sets");
    mj_sets_declare(mj_bed_sets(bed), set);
    mj_set_unref(set); /* what is declared stays as long as the bed */
    return set;
}

/* test:edit(set, "add" or "remove", member): whether that changed anything; "clear" */
static int test_edit(lua_State *L)
{
    static const char *const verbs[] = {"add", "remove", "clear", NULL};
    struct mj_set *set = check_set(L, mj__spec_bed(L, mj__spec_of(L)));
    int verb = luaL_checkoption(L, 3, NULL, verbs);
    size_t len = 0;
    const char *member = verb == 2 ? "" : luaL_checklstring(L, 4, &len);
    int result = verb == 0   ? mj_set_add(set, mj_span(member, len))
                 : verb == 1 ? mj_set_remove(set, mj_span(member, len))
                             : mj_set_clear(set);
    if (result < 0)
        return mj__spec_error(L, "the set takes no '%s': %s", member, mj_strerror(result));
    lua_pushboolean(L, result > 0);
    return 1;
}

/* test:has(set, member) */
static int test_has(lua_State *L)
{
    const struct mj_set *set = check_set(L, mj__spec_bed(L, mj__spec_of(L)));
    size_t len;
    const char *member = luaL_checklstring(L, 3, &len);
    lua_pushboolean(L, mj_set_has(set, mj_span(member, len)));
    return 1;
}

/* test:members(set): a list */
static int test_members(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_set *set = check_set(L, mj__spec_bed(L, spec));
    struct mj_span last = mj_span(NULL, 0);
    int n = 0;
    lua_newtable(L);
    spec->scratch.len = 0;
    for (int result; (result = mj_set_after(set, last, &spec->scratch)) != 0;) {
        last = mj_buf_span(&spec->scratch);
        if (result != 1)
            continue;
        lua_pushlstring(L, (const char *)last.ptr, last.len);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

struct replay {
    struct mj_bed *bed;
    int64_t n;
};

static int replay_one(void *ctx, struct mj_event *ev)
{
    struct replay *r = ctx;
    r->n++;
    return mj_bed_send(r->bed, ev);
}

/* test:replay(file): routes recorded events, returns how many */
static int test_replay(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct replay r = {mj__spec_bed(L, spec), 0};
    const char *name = luaL_checkstring(L, 2);
    char path[PATH_MAX];
    int n = name[0] == '/' ? snprintf(path, sizeof path, "%s", name)
                           : snprintf(path, sizeof path, "%s/%s", spec->vm->dir, name);
    if (!spec->cfg->read || n < 0 || (size_t)n >= sizeof path)
        return mj__spec_error(L, "there are no recordings here");
    spec->error.len = 0;
    mj__spec_out(spec, L);
    int err = spec->cfg->read(path, replay_one, &r, &spec->error);
    mj__spec_in(spec, L);
    if (err == MJ_ELIMIT && !spec->error.len)
        return mj__spec_error(L, "the script has sent more than %d MiB of %s that nobody took",
                              (int)(MJ_BED_OUTPUT_MAX >> 20), name);
    if (err)
        return mj__spec_error(L, "%s", mj_buf_cstr(&spec->error));
    mj__spec_run(L, spec, r.bed, 0);
    lua_pushnumber(L, (lua_Number)r.n);
    return 1;
}

/* The outputs in a stream, or what was printed, as a list. */
static int push_outputs(lua_State *L, struct mj_spec *spec, struct mj_bed *bed, const char *stream)
{
    const struct mj_output *o;
    int n = 0;
    lua_newtable(L);
    while ((o = mj_bed_take(bed, stream)))
        for (unsigned i = 0; i < (stream ? 1 : o->prints); i++) {
            mj_push_event(L, spec->vm, &o->event->ev);
            lua_rawseti(L, -2, ++n);
        }
    return 1;
}

/* test:take(stream): what arrived there; nil when the script feeds no such stream */
static int test_take(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_bed *bed = mj__spec_bed(L, spec);
    const char *stream = luaL_checkstring(L, 2);
    if (!mj_bed_has_stream(bed, stream))
        return 0;
    return push_outputs(L, spec, bed, stream);
}

static int test_printed(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    return push_outputs(L, spec, mj__spec_bed(L, spec), NULL);
}

/* test:webhooks(node): what webhooks would have posted; nil when there is none of that name */
static int test_webhooks(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_bed *bed = mj__spec_bed(L, spec);
    const char *node = luaL_optstring(L, 2, NULL);
    const struct mj_bed_post *p;
    if (node && !mj_bed_has_webhook(bed, node))
        return 0;
    lua_newtable(L);
    for (int n = 1; (p = mj_bed_posted(bed, node)); n++) {
        lua_createtable(L, 0, 6);
        set_text(L, "node", p->node);
        set_text(L, "url", p->url);
        set_text(L, "id", p->id);
        set_bytes(L, "type", mj_buf_span(&p->type));
        set_bytes(L, "body", mj_buf_span(&p->body));
        lua_pushinteger(L, (lua_Integer)p->events);
        lua_setfield(L, -2, "events");
        lua_rawseti(L, -2, n);
    }
    return 1;
}

/* test:sunk(plugin): what went to it */
static int test_sunk(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_bed *bed = mj__spec_bed(L, spec);
    const char *plugin = luaL_checkstring(L, 2);
    const struct mj_event *ev;
    lua_newtable(L);
    for (int n = 1; (ev = mj_bed_sunk(bed, plugin)); n++) {
        mj_push_event(L, spec->vm, ev);
        lua_rawseti(L, -2, n);
    }
    return 1;
}

/* test:streams(): the names of all */
static int test_streams(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_bed *bed = mj__spec_bed(L, spec);
    const char *name;
    lua_newtable(L);
    for (size_t i = 0; (name = mj_bed_stream(bed, i)); i++) {
        lua_pushstring(L, name);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int test_logs(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_bed *bed = mj__spec_bed(L, spec);
    const struct mj_logged *l;
    lua_newtable(L);
    for (int n = 1; (l = mj_bed_log(bed, false)); n++) {
        lua_createtable(L, 0, 2);
        set_text(L, "level", mj_log_level_name(l->level));
        set_text(L, "text", l->text);
        lua_rawseti(L, -2, n);
    }
    return 1;
}

static int test_errors(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_bed *bed = mj__spec_bed(L, spec);
    const struct mj_logged *l;
    lua_newtable(L);
    for (int n = 1; (l = mj_bed_log(bed, true)); n++) {
        lua_pushstring(L, l->text);
        lua_rawseti(L, -2, n);
    }
    return 1;
}

/* test:metric(name, labels) */
static int test_metric(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_bed *bed = mj__spec_bed(L, spec);
    const char *name = luaL_checkstring(L, 2), *labels = luaL_optstring(L, 3, NULL);
    lua_pushnumber(L, mj_bed_metric(bed, name, labels));
    return 1;
}

/* host.now(): the clock of the script that was loaded last, in µs */
static int host_now(lua_State *L)
{
    const struct mj_spec *spec = mj__spec_of(L);
    lua_pushnumber(L, (lua_Number)(spec->bed_count ? mj_bed_now(spec->beds[spec->bed_count - 1])
                                                   : MJ_BED_START_US));
    return 1;
}

/* host.like(to, from): the table `to`, a list or map as `from` was said to be one */
static int host_like(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    if (lua_getmetatable(L, 2))
        lua_setmetatable(L, 1);
    lua_settop(L, 1);
    return 1;
}

/* host.unseen(error): what open beds logged and nobody asked for, as a list of texts */
static int host_unseen(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    bool error = lua_toboolean(L, 1);
    const struct mj_logged *l;
    int n = 0;
    lua_newtable(L);
    for (size_t i = 0; i < spec->bed_count; i++)
        while ((l = mj_bed_log(spec->beds[i], error))) {
            lua_pushstring(L, l->text);
            lua_rawseti(L, -2, ++n);
        }
    return 1;
}

void mj_bind_test(lua_State *L, struct mj_spec *spec)
{
    static const luaL_Reg host[] = {{"bed", host_bed},
                                    {"unseen", host_unseen},
                                    {"now", host_now},
                                    {"like", host_like},
                                    {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"send", mj__test_send},     {"now", test_now},         {"advance", test_advance},
        {"stop", test_stop},         {"reload", test_reload},   {"answer", test_answer},
        {"edit", test_edit},         {"has", test_has},         {"members", test_members},
        {"requests", test_requests}, {"serve", test_serve},     {"replay", test_replay},
        {"take", test_take},         {"printed", test_printed}, {"sunk", test_sunk},
        {"webhooks", test_webhooks}, {"streams", test_streams}, {"logs", test_logs},
        {"errors", test_errors},     {"metric", test_metric},   {NULL, NULL}};
    mj__spec_register(L, spec, host);
    luaL_newmetatable(L, "moonjet.test");
    lua_newtable(L);
    mj__spec_register(L, spec, methods);
    lua_pushvalue(L, -1);
    lua_setfield(L, -4, "Test");
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "jet.test");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
