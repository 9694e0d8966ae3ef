/* jet.test as specs see it: the methods of jet.Test that make events and look at what came of them.
 * Defaults that read better in Lua are in lua/test.lua, which wraps some of these. */
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "atproto/syntax.h"
#include "base/clock.h"
#include "base/err.h"
#include "event/decode.h"
#include "script/services.h"
#include "script/spec_vm.h"

#define STOP_STEP_US INT64_C(100000)   /* of the script's time between two looks at how far it is */
#define SERVE_US     INT64_C(60000000) /* of the script's time, for a route */
#define DEFAULT_DID  "did:plc:testtesttesttesttesttest"

struct handle {
    size_t slot;
    uint64_t serial;
};

static struct mj_bed *check_bed(lua_State *L, struct mj_spec *spec)
{
    struct handle *h = luaL_checkudata(L, 1, "moonjet.test");
    if (h->slot >= spec->bed_count || spec->serials[h->slot] != h->serial)
        luaL_error(L, "this script's test has ended: call jet.test in a before_each or in the "
                      "`it` that uses it");
    return spec->beds[h->slot];
}

/* host.bed(name, config): a bed with the script beside the spec; config is the source of a table */
static int host_bed(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    const char *name = luaL_checkstring(L, 1);
    struct mj_script_cfg cfg = {.config_lua = luaL_checkstring(L, 2)};
    char path[PATH_MAX];
    size_t len = strlen(name);
    const char *end = len > 4 && strcmp(name + len - 4, ".lua") == 0 ? "" : ".lua";
    int n = name[0] == '/' ? snprintf(path, sizeof path, "%s%s", name, end)
                           : snprintf(path, sizeof path, "%s/%s%s", spec->vm->dir, name, end);
    if (n < 0 || (size_t)n >= sizeof path || access(path, R_OK))
        return luaL_error(L, "jet.test: there is no script '%s%s' beside the spec", name, end);
    if (spec->bed_count == MJ_SPEC_BEDS_MAX)
        return luaL_error(L, "more than %d scripts at once", MJ_SPEC_BEDS_MAX);
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
    struct mj_bed *bed = mj_bed_new(path, slash + 1, &cfg, &spec->error);
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

/* The text under the key of the event's table at 2, which holds it; else the default. Raises when
 * it is something else. */
static struct mj_span text_field(lua_State *L, const char *key, const char *preset)
{
    struct mj_span s = mj_span(NULL, 0);
    lua_getfield(L, 2, key);
    if (lua_isnil(L, -1))
        s = mj_span(preset, preset ? strlen(preset) : 0);
    else if (lua_type(L, -1) == LUA_TSTRING)
        s.ptr = (const uint8_t *)lua_tolstring(L, -1, &s.len);
    else
        luaL_error(L, "%s of an event is a text, not %s", key, luaL_typename(L, -1));
    lua_pop(L, 1);
    return s;
}

static void need(lua_State *L, bool valid, const char *key, struct mj_span value, const char *what)
{
    if (valid)
        return;
    lua_pushlstring(L, (const char *)value.ptr, value.len);
    luaL_error(L, "%s '%s' of an event is not %s", key, lua_tostring(L, -1), what);
}

static void read_commit(lua_State *L, struct mj_spec *spec, struct mj_event *ev, const char *tid,
                        struct mj_cid *cid)
{
    struct mj_span op = text_field(L, "op", "create");
    ev->op = mj_span_is(op, "create")   ? MJ_OP_CREATE
             : mj_span_is(op, "update") ? MJ_OP_UPDATE
             : mj_span_is(op, "delete") ? MJ_OP_DELETE
                                        : MJ_OP_NONE;
    need(L, ev->op != MJ_OP_NONE, "op", op, "create, update or delete");
    ev->collection = text_field(L, "collection", NULL);
    if (!ev->collection.ptr)
        luaL_error(L, "a commit needs a collection: { collection = \"app.bsky.feed.like\", … }");
    need(L, mj_nsid_valid(ev->collection), "collection", ev->collection, "an NSID");
    ev->rkey = text_field(L, "rkey", tid);
    need(L, mj_rkey_valid(ev->rkey), "rkey", ev->rkey, "a record key");
    ev->rev = text_field(L, "rev", tid);
    need(L, mj_tid_valid(ev->rev), "rev", ev->rev, "a TID");
    lua_getfield(L, 2, "record");
    if (ev->op == MJ_OP_DELETE) {
        if (!lua_isnil(L, -1))
            luaL_error(L, "a delete has no record");
        lua_pop(L, 1);
        return;
    }
    if (!lua_istable(L, -1))
        luaL_error(L, "the record of an event is a table, not %s", luaL_typename(L, -1));
    ev->record = mj_to_cbor(L, spec->vm, lua_gettop(L));
    lua_pop(L, 1);
    int err = ev->record.len > MJ_RECORD_MAX ? MJ_ELIMIT : mj_record_check(ev->record);
    if (err)
        luaL_error(L, "no network would carry this record: %s", mj_strerror(err));
    ev->record_checked = true;
    mj_cid_of(ev->record, cid);
    ev->cid = mj_span(cid->bytes, sizeof cid->bytes);
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
    mj_bed_fetched(bed, &answer);
    lua_settop(L, top);
}

/* The same for t:resolve: DID, handle, PDS and key, or nil and a message. */
static void answer_resolve(lua_State *L, struct mj_bed *bed, const struct mj_ask *ask)
{
    struct mj_identity answer = {.error = "nobody knows it: the spec has no t:resolve"};
    int top = lua_gettop(L);
    if (push_answerer(L, "resolve")) {
        lua_pushlstring(L, (const char *)ask->what.ptr, ask->what.len);
        lua_call(L, 1, 4);
        answer = (struct mj_identity){.did = lua_tostring(L, -4),
                                      .handle = lua_tostring(L, -3),
                                      .pds = lua_tostring(L, -2),
                                      .key = lua_tostring(L, -1)};
        if (!answer.did)
            answer = (struct mj_identity){.error = lua_tostring(L, -3)};
    }
    mj_bed_resolved(bed, &answer);
    lua_settop(L, top);
}

/* Runs what is due until the script's clock is at `until`, answering what it asks for on the way.
 * The test is at index 1. */
static void run_until(lua_State *L, struct mj_spec *spec, struct mj_bed *bed, int64_t until)
{
    for (;;) {
        mj__spec_out(spec, L);
        int result = mj_bed_run(bed, until);
        mj__spec_in(spec, L);
        if (result < 0)
            luaL_error(L,
                       "the script's tasks do not come to rest: after %d s of real time "
                       "something is still due",
                       (int)(MJ_BED_PATIENCE_NS / 1000000000));
        if (!result)
            return;
        const struct mj_ask *ask = mj_bed_ask(bed);
        if (ask->resolve)
            answer_resolve(L, bed, ask);
        else
            answer_fetch(L, bed, ask);
    }
}

static void send(lua_State *L, struct mj_spec *spec, struct mj_bed *bed, struct mj_event *ev)
{
    mj__spec_out(spec, L);
    int err = mj_bed_send(bed, ev);
    mj__spec_in(spec, L);
    if (err == MJ_ELIMIT)
        luaL_error(L,
                   "the script has sent more than %d MiB that nobody took; call t:out or "
                   "t:printed in between",
                   (int)(MJ_BED_OUTPUT_MAX >> 20));
    if (err)
        luaL_error(L, "the event could not be routed: %s", mj_strerror(err));
}

/* test:send(event): routes a made-up event, returns it as sent */
static int test_send(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_bed *bed = check_bed(L, spec);
    char tid[14], time[28];
    struct mj_cid cid;
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    struct mj_event ev = {.plain = true, .seq = mj_bed_seq(bed)};
    mj_tid_make(mj_bed_now(bed) + ev.seq, 0, tid);
    mj_datetime_make(mj_bed_now(bed), time);
    lua_getfield(L, 2, "seq");
    if (!lua_isnil(L, -1)) {
        lua_Number seq = luaL_checknumber(L, -1);
        if (!(seq >= 0 && seq < 9007199254740992.0 && seq == (lua_Number)(int64_t)seq))
            return luaL_error(L, "seq of an event is a whole number");
        ev.seq = (int64_t)seq;
    }
    lua_pop(L, 1);
    ev.did = text_field(L, "did", DEFAULT_DID);
    need(L, mj_did_valid(ev.did), "did", ev.did, "a DID");
    ev.time = text_field(L, "time", time);
    need(L, mj_datetime_valid(ev.time), "time", ev.time, "a time like 2026-01-01T00:00:00Z");
    struct mj_span kind = text_field(L, "kind", "commit");
    if (mj_span_is(kind, "commit")) {
        read_commit(L, spec, &ev, tid, &cid);
    } else if (mj_span_is(kind, "identity")) {
        ev.kind = MJ_KIND_IDENTITY;
        ev.handle = text_field(L, "handle", NULL);
        need(L, !ev.handle.ptr || mj_handle_valid(ev.handle), "handle", ev.handle, "a handle");
    } else if (mj_span_is(kind, "account")) {
        ev.kind = MJ_KIND_ACCOUNT;
        lua_getfield(L, 2, "active");
        ev.active = lua_isnil(L, -1) || lua_toboolean(L, -1);
        lua_pop(L, 1);
        ev.status = text_field(L, "status", NULL);
        ev.plain = false;
    } else {
        need(L, false, "kind", kind, "commit, identity or account");
    }
    send(L, spec, bed, &ev);
    mj_push_event(L, spec->vm, &ev);
    run_until(L, spec, bed, 0);
    return 1;
}

/* test:now(): the script's time as records write it */
static int test_now(lua_State *L)
{
    char time[28];
    mj_datetime_make(mj_bed_now(check_bed(L, mj__spec_of(L))), time);
    lua_pushstring(L, time);
    return 1;
}

/* test:advance(duration) */
static int test_advance(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_bed *bed = check_bed(L, spec);
    struct mj_span text;
    int64_t us;
    text.ptr = (const uint8_t *)luaL_checklstring(L, 2, &text.len);
    if (mj_duration_us(text, &us))
        return luaL_error(L, "'%s' is no duration; write \"500ms\", \"90s\", \"1h30m\"",
                          lua_tostring(L, 2));
    run_until(L, spec, bed, mj_bed_now(bed) + us);
    return 0;
}

/* test:stop() */
static int test_stop(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_bed *bed = check_bed(L, spec);
    for (bool done = false; !done;) {
        mj__spec_out(spec, L);
        done = mj_bed_stop(bed);
        mj__spec_in(spec, L);
        run_until(L, spec, bed, mj_bed_now(bed) + (done ? 0 : STOP_STEP_US));
    }
    return 0;
}

/* test:answer(name, function): who answers "http" or "resolve" */
static int test_answer(lua_State *L)
{
    check_bed(L, mj__spec_of(L));
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
    struct mj_bed *bed = check_bed(L, mj__spec_of(L));
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
    struct mj_bed *bed = check_bed(L, spec);
    struct mj_route_request request = {.peer = MJ_SPAN("127.0.0.1")};
    struct mj_span *const fields[] = {&request.method, &request.path, &request.query, &request.body,
                                      &request.headers};
    for (int i = 0; i < (int)MJ_COUNT(fields); i++)
        fields[i]->ptr = (const uint8_t *)luaL_checklstring(L, i + 2, &fields[i]->len);
    mj__spec_out(spec, L);
    const struct mj_answer *answer = mj_bed_serve(bed, &request);
    mj__spec_in(spec, L);
    run_until(L, spec, bed, mj_bed_now(bed));
    if (!answer->done)
        run_until(L, spec, bed, mj_bed_now(bed) + SERVE_US);
    if (!answer->done)
        return luaL_error(L, "the route has not answered within %d s of its time",
                          (int)(SERVE_US / 1000000));
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, answer->status);
    lua_setfield(L, -2, "status");
    set_bytes(L, "body", mj_buf_span(&answer->body));
    mj_push_headers(L, mj_buf_span(&answer->headers));
    lua_setfield(L, -2, "headers");
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
    struct replay r = {check_bed(L, spec), 0};
    const char *name = luaL_checkstring(L, 2);
    char path[PATH_MAX];
    int n = name[0] == '/' ? snprintf(path, sizeof path, "%s", name)
                           : snprintf(path, sizeof path, "%s/%s", spec->vm->dir, name);
    if (!spec->cfg->read || n < 0 || (size_t)n >= sizeof path)
        return luaL_error(L, "there are no recordings here");
    spec->error.len = 0;
    mj__spec_out(spec, L);
    int err = spec->cfg->read(path, replay_one, &r, &spec->error);
    mj__spec_in(spec, L);
    if (err == MJ_ELIMIT && !spec->error.len)
        return luaL_error(L, "the script has sent more than %d MiB of %s that nobody took",
                          (int)(MJ_BED_OUTPUT_MAX >> 20), name);
    if (err)
        return luaL_error(L, "%s", mj_buf_cstr(&spec->error));
    run_until(L, spec, r.bed, 0);
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
    struct mj_bed *bed = check_bed(L, spec);
    const char *stream = luaL_checkstring(L, 2);
    if (!mj_bed_has_stream(bed, stream))
        return 0;
    return push_outputs(L, spec, bed, stream);
}

static int test_printed(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    return push_outputs(L, spec, check_bed(L, spec), NULL);
}

/* test:streams(): the names of all */
static int test_streams(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_bed *bed = check_bed(L, spec);
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
    struct mj_bed *bed = check_bed(L, spec);
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
    struct mj_bed *bed = check_bed(L, spec);
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
    struct mj_bed *bed = check_bed(L, spec);
    const char *name = luaL_checkstring(L, 2), *labels = luaL_optstring(L, 3, NULL);
    lua_pushnumber(L, mj_bed_metric(bed, name, labels));
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
    static const luaL_Reg host[] = {{"bed", host_bed}, {"unseen", host_unseen}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"send", test_send},       {"now", test_now},         {"advance", test_advance},
        {"stop", test_stop},       {"answer", test_answer},   {"requests", test_requests},
        {"serve", test_serve},     {"replay", test_replay},   {"take", test_take},
        {"printed", test_printed}, {"streams", test_streams}, {"logs", test_logs},
        {"errors", test_errors},   {"metric", test_metric},   {NULL, NULL}};
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
