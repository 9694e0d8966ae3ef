/* Events that specs make up: tables become events as a firehose would bring them, or an error that
 * says why none would. */
#include "atproto/syntax.h"
#include "base/err.h"
#include "event/decode.h"
#include "script/spec_vm.h"

#define DEFAULT_DID "did:plc:testtesttesttesttesttest"

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
        mj__spec_error(L, "%s of an event is a text, not %s", key, luaL_typename(L, -1));
    lua_pop(L, 1);
    return s;
}

static void need(lua_State *L, bool valid, const char *key, struct mj_span value, const char *what)
{
    if (valid)
        return;
    lua_pushlstring(L, (const char *)value.ptr, value.len);
    mj__spec_error(L, "%s '%s' of an event is not %s", key, lua_tostring(L, -1), what);
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
        mj__spec_error(L,
                       "a commit needs a collection: { collection = \"app.bsky.feed.like\", … }");
    need(L, mj_nsid_valid(ev->collection), "collection", ev->collection, "an NSID");
    ev->rkey = text_field(L, "rkey", tid);
    need(L, mj_rkey_valid(ev->rkey), "rkey", ev->rkey, "a record key");
    ev->rev = text_field(L, "rev", tid);
    need(L, mj_tid_valid(ev->rev), "rev", ev->rev, "a TID");
    lua_getfield(L, 2, "record");
    if (ev->op == MJ_OP_DELETE) {
        if (!lua_isnil(L, -1))
            mj__spec_error(L, "a delete has no record");
        lua_pop(L, 1);
        return;
    }
    if (!lua_istable(L, -1))
        mj__spec_error(L, "the record of an event is a table, not %s", luaL_typename(L, -1));
    ev->record = mj_to_cbor(L, spec->vm, lua_gettop(L));
    lua_pop(L, 1);
    int err = ev->record.len > MJ_RECORD_MAX ? MJ_ELIMIT : mj_record_check(ev->record);
    if (err)
        mj__spec_error(L, "no network would carry this record: %s", mj_strerror(err));
    ev->record_checked = true;
    mj_cid_of(ev->record, cid);
    ev->cid = mj_span(cid->bytes, sizeof cid->bytes);
}

static void send(lua_State *L, struct mj_spec *spec, struct mj_bed *bed, struct mj_event *ev)
{
    mj__spec_out(spec, L);
    int err = mj_bed_send(bed, ev);
    mj__spec_in(spec, L);
    if (err == MJ_ELIMIT)
        mj__spec_error(L,
                       "the script has sent more than %d MiB that nobody took; call t:out or "
                       "t:printed in between",
                       (int)(MJ_BED_OUTPUT_MAX >> 20));
    if (err)
        mj__spec_error(L, "the event could not be routed: %s", mj_strerror(err));
}

/* test:send(event): routes a made-up event, returns it as sent */
int mj__test_send(lua_State *L)
{
    struct mj_spec *spec = mj__spec_of(L);
    struct mj_bed *bed = mj__spec_bed(L, spec);
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
            return mj__spec_error(L, "seq of an event is a whole number");
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
    mj__spec_run(L, spec, bed, 0);
    return 1;
}
