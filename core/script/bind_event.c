/* The event as scripts see it: ev.did, ev.text, ev:get "reply.root.uri". A call's event is one
 * userdata per VM that holds nothing; what it shows is the event of the call in progress. A kept
 * event is a userdata of its own that holds it. */
#include "atproto/cid.h"
#include "base/err.h"
#include "base/options.h"
#include "event/jetstream.h"
#include "script/bind.h"

enum field {
    F_KIND,
    F_OP,
    F_DID,
    F_COLLECTION,
    F_RKEY,
    F_REV,
    F_CID,
    F_SEQ,
    F_TIME_US,
    F_TIME,
    F_URI,
    F_LANGS,
    F_RECORD,
    F_TEXT,
    F_ACTIVE,
    F_STATUS,
    F_HANDLE,
    F_ID,
    F_COUNT
};

static const char *const field_names[F_COUNT] = {
    "kind", "op",  "did",   "collection", "rkey", "rev",    "cid",    "seq",    "time_us",
    "time", "uri", "langs", "record",     "text", "active", "status", "handle", "id"};

bool mj_is_event(lua_State *L, int index)
{
    return lua_touserdata(L, index) == mj_vm_of(L)->event_ud && lua_type(L, index) == LUA_TUSERDATA;
}

struct mj_subject mj_current_event(lua_State *L, struct mj_vm *vm)
{
    if (MJ_UNLIKELY(!vm->ev))
        luaL_error(L, "the event is gone: it can be used until the function it was given to "
                      "returns; ev:keep() makes one that stays");
    return (struct mj_subject){vm->ev, vm->patch, NULL};
}

struct handle {
    struct mj_held *held; /* ref; NULL: the call's */
};

/* Any event that is not the call's: kept, or one of an earlier call. */
static struct mj_subject check_other(lua_State *L)
{
    if (!mj_made_by(L, 1, MJ_SLOT_KEPT))
        luaL_error(L, "this needs an event; call it with a colon: ev:name(…)");
    struct mj_held *held = ((struct handle *)lua_touserdata(L, 1))->held;
    if (!held)
        luaL_error(L, "the event is gone: it was given to an earlier call; ev:keep() makes one "
                      "that stays");
    return (struct mj_subject){&held->kept->ev, NULL, held};
}

struct mj_subject mj_check_event(lua_State *L, struct mj_vm *vm)
{
    if (MJ_UNLIKELY(lua_touserdata(L, 1) != vm->event_ud))
        return check_other(L);
    return mj_current_event(L, vm);
}

static void push_span(lua_State *L, struct mj_span s)
{
    if (s.ptr)
        lua_pushlstring(L, (const char *)s.ptr, s.len);
    else
        lua_pushnil(L);
}

/* Absent fields are {NULL, 0}; an empty span counts as absent, too. */
static void push_or_nil(lua_State *L, struct mj_span s)
{
    push_span(L, s.len ? s : mj_span(NULL, 0));
}

/* Few collections make up the stream, so their strings are kept: pushing one is then a comparison
 * instead of a hash and a search. */
void mj_push_collection(lua_State *L, struct mj_vm *vm, struct mj_span name)
{
    if (!name.len) {
        lua_pushnil(L);
        return;
    }
    size_t slot = (name.len * 7 + name.ptr[name.len - 1] * 3u + name.ptr[name.len / 2]) % MJ_NAMES;
    mj_vm_push_slot(L, MJ_SLOT_NAMES);
    if (vm->names[slot].len == name.len && !memcmp(vm->names[slot].text, name.ptr, name.len)) {
        lua_rawgeti(L, -1, (int)slot + 1);
    } else {
        vm->names[slot].len = 0;
        lua_pushlstring(L, (const char *)name.ptr, name.len);
        lua_pushvalue(L, -1);
        lua_rawseti(L, -3, (int)slot + 1);
        vm->names[slot].text = lua_tostring(L, -1);
        vm->names[slot].len = name.len;
    }
    lua_replace(L, -2);
}

static void push_uri(lua_State *L, struct mj_vm *vm, const struct mj_event *ev)
{
    if (ev->kind != MJ_KIND_COMMIT) {
        lua_pushnil(L);
        return;
    }
    struct mj_buf *b = &vm->scratch;
    b->len = 0;
    mj_buf_puts(b, "at://");
    mj_buf_put(b, ev->did.ptr, ev->did.len);
    mj_buf_putc(b, '/');
    mj_buf_put(b, ev->collection.ptr, ev->collection.len);
    mj_buf_putc(b, '/');
    mj_buf_put(b, ev->rkey.ptr, ev->rkey.len);
    lua_pushlstring(L, (const char *)b->ptr, b->len);
}

static void push_cid(lua_State *L, const struct mj_event *ev)
{
    char text[2 * MJ_CID_MAX];
    if (ev->cid.len && ev->cid.len <= MJ_CID_MAX)
        lua_pushlstring(L, text, mj_cid_text(ev->cid, text));
    else
        lua_pushnil(L);
}

/* A field of the record's top level, if there is a record that has it. */
static bool top_level(const struct mj_subject *of, struct mj_span key, struct mj_span *value)
{
    struct mj_span record = mj_subject_record(of);
    return record.len && mj_cbor_map_get(record, key, value) == 0;
}

/* record.text, or an empty span. */
static struct mj_span text_of(const struct mj_subject *of)
{
    struct mj_cbor_head head;
    struct mj_span value;
    if (!top_level(of, MJ_SPAN("text"), &value))
        return mj_span("", 0);
    struct mj_cbor c = mj_cbor(value);
    return mj_cbor_next(&c, &head) == 0 && head.type == MJ_CBOR_TEXT ? head.s : mj_span("", 0);
}

static void push_text(lua_State *L, const struct mj_subject *of)
{
    struct mj_span text = text_of(of);
    lua_pushlstring(L, text.len ? (const char *)text.ptr : "", text.len);
}

/* Opens the array at `item`: *c is at its first item. Returns how many there are, 0 for anything
 * else. Walking on from item to item keeps this linear, however long strangers make their lists. */
static uint64_t open_list(struct mj_span item, struct mj_cbor *c)
{
    struct mj_cbor_head head;
    *c = mj_cbor(item);
    return mj_cbor_next(c, &head) == 0 && head.type == MJ_CBOR_ARRAY ? head.n : 0;
}

/* Appends the texts of the array at `item` to the table at the top of the stack. */
static void append_texts(lua_State *L, struct mj_span item)
{
    struct mj_cbor c;
    struct mj_cbor_head head;
    int n = (int)lua_objlen(L, -1);
    for (uint64_t left = open_list(item, &c); left; left--, mj_cbor_skip_checked(&c)) {
        struct mj_cbor at = c;
        if (mj_cbor_next(&at, &head) || head.type != MJ_CBOR_TEXT)
            continue;
        lua_pushlstring(L, (const char *)head.s.ptr, head.s.len);
        lua_rawseti(L, -2, ++n);
    }
}

static void push_langs(lua_State *L, const struct mj_subject *of)
{
    struct mj_span value;
    lua_newtable(L);
    if (top_level(of, MJ_SPAN("langs"), &value))
        append_texts(L, value);
    mj_vm_push_slot(L, MJ_SLOT_ARRAY);
    lua_setmetatable(L, -2);
}

/* Upvalue 1 has the names of fields and methods. */
static void unknown_field(lua_State *L)
{
    const char *names[64];
    size_t n = 0;
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : NULL;
    lua_pushnil(L);
    while (lua_next(L, lua_upvalueindex(1))) {
        if (n < MJ_COUNT(names))
            names[n++] = lua_tostring(L, -2);
        lua_pop(L, 1);
    }
    const char *near = key ? mj_closest(key, names, n) : NULL;
    luaL_error(L, "an event has no '%s'%s%s%s; fields of the record are under ev.record",
               key ? key : luaL_typename(L, 2), near ? "; did you mean '" : "", near ? near : "",
               near ? "'?" : "");
}

static void push_record(lua_State *L, struct mj_vm *vm, const struct mj_subject *of)
{
    static const struct mj_path whole = {.count = 0};
    struct mj_span record = mj_subject_record(of);
    if (!record.len)
        lua_pushnil(L);
    else if (of->held)
        mj_push_proxy(L, vm, of, record, &whole);
    else
        mj_vm_push_slot(L, MJ_SLOT_RECORD);
}

/* ev.name: upvalue 1 maps names to field numbers or methods. */
static int event_index(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_subject of = mj_check_event(L, vm);
    const struct mj_event *ev = of.ev;
    lua_settop(L, 2);
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    if (lua_type(L, 3) == LUA_TFUNCTION)
        return 1;
    if (lua_type(L, 3) != LUA_TNUMBER)
        unknown_field(L);
    switch ((enum field)lua_tointeger(L, 3)) {
    case F_KIND:
        lua_rawgeti(L, lua_upvalueindex(2), (int)ev->kind + 1);
        break;
    case F_OP:
        lua_rawgeti(L, lua_upvalueindex(3), (int)ev->op);
        break;
    case F_DID:
        push_span(L, ev->did);
        break;
    case F_COLLECTION:
        mj_push_collection(L, vm, ev->collection);
        break;
    case F_RKEY:
        push_or_nil(L, ev->rkey);
        break;
    case F_REV:
        push_or_nil(L, ev->rev);
        break;
    case F_CID:
        push_cid(L, ev);
        break;
    case F_SEQ:
        lua_pushnumber(L, (lua_Number)ev->seq);
        break;
    case F_TIME_US:
        lua_pushnumber(L, (lua_Number)ev->time_us);
        break;
    case F_TIME:
        push_or_nil(L, ev->time);
        break;
    case F_URI:
        push_uri(L, vm, ev);
        break;
    case F_LANGS:
        push_langs(L, &of);
        break;
    case F_RECORD:
        push_record(L, vm, &of);
        break;
    case F_TEXT:
        push_text(L, &of);
        break;
    case F_ACTIVE:
        if (ev->kind == MJ_KIND_ACCOUNT)
            lua_pushboolean(L, ev->active);
        else
            lua_pushnil(L);
        break;
    case F_STATUS:
        push_span(L, ev->status);
        break;
    case F_HANDLE:
        push_span(L, ev->handle);
        break;
    case F_ID:
        push_span(L, ev->id);
        break;
    default:
        return 0;
    }
    return 1;
}

/* ev.record = {…} in a draft */
static int event_newindex(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_subject of = mj_check_event(L, vm);
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (strcmp(key, "record") == 0) {
        struct mj_path whole = {.count = 0};
        mj_edit(L, vm, &of, &whole, 3, false);
        return 0;
    }
    if (!of.patch)
        return luaL_error(L, "events cannot be changed here; edit the draft in a :map");
    if (strcmp(key, "text") == 0 || strcmp(key, "langs") == 0)
        return luaL_error(L, "write draft.record.%s = …", key);
    return luaL_error(L, "only the record can be edited: draft.record.%s = …", *key ? key : "name");
}

static void check_path(lua_State *L, int index, struct mj_path *path)
{
    size_t len;
    const char *text = luaL_checklstring(L, index, &len);
    path->count = 0;
    int err = mj_path_parse(path, mj_span(text, len));
    if (err)
        luaL_error(L, "bad path '%s': write keys with dots, list items as [1]", text);
}

/* Finds the path in the record. A last step $link or $bytes is taken as the link's or bytes' own
 * text: *tag tells. */
static bool find(const struct mj_subject *of, struct mj_path *path, struct mj_span *value,
                 bool *tag)
{
    struct mj_span record = mj_subject_record(of);
    *tag = false;
    if (!record.len)
        return false;
    if (mj_path_find(record, path, value) == 0)
        return true;
    if (!path->count)
        return false;
    struct mj_span key = path->steps[--path->count].key;
    enum mj_cbor_type want = mj_span_is(key, "$link")    ? MJ_CBOR_LINK
                             : mj_span_is(key, "$bytes") ? MJ_CBOR_BYTES
                                                         : MJ_CBOR_NULL;
    struct mj_cbor_head head;
    if (want == MJ_CBOR_NULL || mj_path_find(record, path, value))
        return false;
    struct mj_cbor c = mj_cbor(*value);
    *tag = mj_cbor_next(&c, &head) == 0 && head.type == want;
    return *tag;
}

/* ev:get(path, default) */
static int event_get(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_path path;
    struct mj_span value;
    bool tag;
    struct mj_subject of = mj_check_event(L, vm);
    check_path(L, 2, &path);
    if (!find(&of, &path, &value, &tag)) {
        lua_settop(L, 3);
        return 1;
    }
    mj_push_value(L, vm, &of, value, &path);
    if (tag) {
        lua_pushnil(L);
        lua_next(L, -2);
    }
    return 1;
}

/* ev:has(path) */
static int event_has(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_path path;
    struct mj_span value;
    bool tag;
    struct mj_subject of = mj_check_event(L, vm);
    check_path(L, 2, &path);
    lua_pushboolean(L, find(&of, &path, &value, &tag));
    return 1;
}

/* ev:each(path) */
static int event_each(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_path path;
    struct mj_span value;
    bool tag;
    struct mj_subject of = mj_check_event(L, vm);
    check_path(L, 2, &path);
    if (!find(&of, &path, &value, &tag))
        value = mj_span(NULL, 0);
    return mj_push_each(L, vm, &of, value, &path);
}

/* ev:table(path) */
static int event_table(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_path path = {.count = 0};
    struct mj_span value;
    bool tag;
    struct mj_subject of = mj_check_event(L, vm);
    if (!lua_isnoneornil(L, 2))
        check_path(L, 2, &path);
    if (find(&of, &path, &value, &tag) && !tag)
        mj_push_table(L, vm, value);
    else
        lua_pushnil(L);
    return 1;
}

/* ev:int64(path) */
static int event_int64(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_path path;
    struct mj_span value;
    bool tag;
    struct mj_subject of = mj_check_event(L, vm);
    check_path(L, 2, &path);
    if (find(&of, &path, &value, &tag)) {
        struct mj_cbor c = mj_cbor(value);
        struct mj_cbor_head head;
        if (mj_cbor_next(&c, &head) == 0 && head.type == MJ_CBOR_INT) {
            mj_push_int64(L, head.i);
            return 1;
        }
    }
    lua_pushnil(L);
    return 1;
}

/* ev:json() */
static int event_json(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_subject of = mj_check_event(L, vm);
    vm->scratch.len = 0;
    int err = mj_jetstream_encode(of.ev, of.patch, &vm->scratch);
    if (err)
        return luaL_error(L, "the event cannot be written as JSON: %s", mj_strerror(err));
    lua_pushlstring(L, (const char *)vm->scratch.ptr, vm->scratch.len);
    return 1;
}

/* Rich text. A facet's features say what a stretch of the text is; mentions, links and tags differ
 * in their type and in the key that holds what is meant. */
static struct mj_span rest_of(const struct mj_cbor *c)
{
    return mj_span(c->p, (size_t)(c->end - c->p));
}

/* The text under the key of the map at `map`. */
static bool text_at(struct mj_span map, struct mj_span key, struct mj_span *text)
{
    struct mj_cbor_head head;
    struct mj_span value;
    if (mj_cbor_map_get(map, key, &value))
        return false;
    struct mj_cbor c = mj_cbor(value);
    if (mj_cbor_next(&c, &head) || head.type != MJ_CBOR_TEXT)
        return false;
    *text = head.s;
    return true;
}

static void append_features(lua_State *L, const struct mj_subject *of, struct mj_span type,
                            struct mj_span key)
{
    struct mj_span facets, features, text;
    if (!top_level(of, MJ_SPAN("facets"), &facets))
        return;
    int found = 0;
    struct mj_cbor facet, feature;
    for (uint64_t n = open_list(facets, &facet); n; n--, mj_cbor_skip_checked(&facet)) {
        if (mj_cbor_map_get(rest_of(&facet), MJ_SPAN("features"), &features))
            continue;
        for (uint64_t k = open_list(features, &feature); k; k--, mj_cbor_skip_checked(&feature)) {
            if (!text_at(rest_of(&feature), MJ_SPAN("$type"), &text) || !mj_span_eq(text, type) ||
                !text_at(rest_of(&feature), key, &text))
                continue;
            lua_pushlstring(L, (const char *)text.ptr, text.len);
            lua_rawseti(L, -2, ++found);
        }
    }
}

static int next_of_list(lua_State *L)
{
    int i = (int)lua_tointeger(L, lua_upvalueindex(2)) + 1;
    lua_pushinteger(L, i);
    lua_replace(L, lua_upvalueindex(2));
    lua_rawgeti(L, lua_upvalueindex(1), i);
    return 1;
}

static int push_features(lua_State *L, struct mj_span type, struct mj_span key, bool tags)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_span value;
    struct mj_subject of = mj_check_event(L, vm);
    lua_newtable(L);
    append_features(L, &of, type, key);
    if (tags && top_level(&of, MJ_SPAN("tags"), &value))
        append_texts(L, value);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, next_of_list, 2);
    return 1;
}

static int event_mentions(lua_State *L)
{
    return push_features(L, MJ_SPAN("app.bsky.richtext.facet#mention"), MJ_SPAN("did"), false);
}

static int event_links(lua_State *L)
{
    return push_features(L, MJ_SPAN("app.bsky.richtext.facet#link"), MJ_SPAN("uri"), false);
}

static int event_tags(lua_State *L)
{
    return push_features(L, MJ_SPAN("app.bsky.richtext.facet#tag"), MJ_SPAN("tag"), true);
}

/* ev:contains(words) */
static int event_contains(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_subject of = mj_check_event(L, vm);
    return mj_push_contained(L, 2, text_of(&of));
}

static struct mj_subject need_draft(lua_State *L, const char *what)
{
    struct mj_subject of = mj_check_event(L, mj_vm_of(L));
    if (!of.patch)
        luaL_error(L, "%s edits a draft: use it in a :map", what);
    return of;
}

/* draft:set(path, value) */
static int event_set(lua_State *L)
{
    struct mj_path path;
    struct mj_subject of = need_draft(L, "set");
    check_path(L, 2, &path);
    luaL_checkany(L, 3);
    if (lua_isnil(L, 3))
        return luaL_error(L, "set wants a value; a null is jet.null, draft:unset removes");
    mj_edit(L, mj_vm_of(L), &of, &path, 3, true);
    return 0;
}

/* draft:unset(path) */
static int event_unset(lua_State *L)
{
    struct mj_path path;
    struct mj_subject of = need_draft(L, "unset");
    check_path(L, 2, &path);
    if (!path.count)
        return luaL_error(L, "the record as a whole cannot be removed; drop the event instead");
    lua_settop(L, 2);
    lua_pushnil(L);
    mj_edit(L, mj_vm_of(L), &of, &path, 3, false);
    return 0;
}

/* draft:keep_cid() */
static int event_keep_cid(lua_State *L)
{
    need_draft(L, "keep_cid").patch->keep_cid = true;
    return 0;
}

static struct handle *new_handle(lua_State *L)
{
    struct handle *h = lua_newuserdata(L, sizeof *h);
    h->held = NULL;
    mj_vm_push_slot(L, MJ_SLOT_KEPT);
    lua_setmetatable(L, -2);
    return h;
}

void mj_push_kept(lua_State *L, struct mj_kept *kept)
{
    struct handle *h = new_handle(L);
    h->held = mj_held_new(L, kept);
}

/* A kept copy of the event. The handle owns it before anything can raise. */
static void push_copy(lua_State *L, const struct mj_event *ev)
{
    struct handle *h = new_handle(L);
    mj_held_need(L, mj_kept_size_of(ev));
    struct mj_kept *kept = mj_kept_new(ev);
    h->held = mj_held_new(L, kept);
    mj_kept_unref(kept);
}

/* ev:keep() */
static int event_keep(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_subject of = mj_check_event(L, vm);
    struct mj_event edited;
    if (of.held) {
        lua_settop(L, 1);
        return 1;
    }
    if (of.patch && mj_patch_changed(of.patch)) {
        mj_patch_event(of.patch, of.ev, &edited);
        of.ev = &edited;
    }
    push_copy(L, of.ev);
    return 1;
}

static int event_tostring(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    const struct handle *h = lua_touserdata(L, 1);
    const struct mj_event *ev = NULL;
    if (h == vm->event_ud)
        ev = vm->ev;
    else if (mj_made_by(L, 1, MJ_SLOT_KEPT) && h->held)
        ev = &h->held->kept->ev;
    if (!ev)
        lua_pushliteral(L, "event (gone)");
    else if (ev->kind == MJ_KIND_COMMIT)
        push_uri(L, vm, ev);
    else
        push_span(L, ev->did);
    return 1;
}

static int event_gc(lua_State *L)
{
    mj_held_unref(((struct handle *)lua_touserdata(L, 1))->held);
    return 0;
}

static void set_event(lua_State *L)
{
    struct handle *h = new_handle(L);
    lua_rawseti(L, LUA_REGISTRYINDEX, MJ_SLOT_EVENT);
    mj_vm_of(L)->event_ud = h;
}

static int set_handles(lua_State *L)
{
    set_event(L);
    mj_set_record(L);
    return 0;
}

void mj_fresh_handles(struct mj_vm *vm)
{
    if (lua_cpcall(vm->L, set_handles, NULL))
        lua_pop(vm->L, 1); /* no memory: the old ones do */
}

void mj_bind_event(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"get", event_get},           {"has", event_has},     {"each", event_each},
        {"table", event_table},       {"int64", event_int64}, {"json", event_json},
        {"mentions", event_mentions}, {"links", event_links}, {"tags", event_tags},
        {"contains", event_contains}, {"set", event_set},     {"unset", event_unset},
        {"keep_cid", event_keep_cid}, {"keep", event_keep},   {NULL, NULL}};
    mj_vm_push_slot(L, MJ_SLOT_KEPT); /* the metatable */
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    for (int i = 0; i < F_COUNT; i++) {
        lua_pushinteger(L, i);
        lua_setfield(L, -2, field_names[i]);
    }
    lua_newtable(L);
    for (int i = MJ_KIND_COMMIT; i <= MJ_KIND_ACCOUNT; i++) {
        lua_pushstring(L, mj_kind_name((enum mj_kind)i));
        lua_rawseti(L, -2, i + 1);
    }
    lua_newtable(L);
    for (int i = MJ_OP_CREATE; i <= MJ_OP_DELETE; i++) {
        lua_pushstring(L, mj_op_name((enum mj_op)i));
        lua_rawseti(L, -2, i);
    }
    lua_pushcclosure(L, event_index, 3);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, event_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_pushcfunction(L, event_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushcfunction(L, event_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushliteral(L, "event");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    set_event(L);
}
