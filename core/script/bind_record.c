/* Records as scripts see them: ev.record.reply.parent.uri reads straight from the CBOR, one level
 * per step. A proxy stands for one array or map. It knows where that starts; in a draft, where
 * edits move things, it also knows its path and finds itself again after an edit. */
#include "atproto/utf8.h"
#include "base/err.h"
#include "event/jetstream.h"
#include "script/bind.h"

struct proxy {
    struct mj_held
        *held;           /* ref, of a kept event; then the rest but offset is 0. NULL: the call's */
    uint32_t generation; /* of the call it was made in */
    uint32_t version;    /* of the draft `offset` is right for */
    size_t offset;       /* of the item's first byte in the record */
    unsigned steps;      /* encoded in path[], draft only: index, key length, key */
    uint8_t path[];
};

struct coded_step {
    uint32_t index, len;
};

static uint32_t version_of(const struct mj_subject *of)
{
    return of->patch ? of->patch->version : 0;
}

void mj_push_proxy(lua_State *L, struct mj_vm *vm, const struct mj_subject *of, struct mj_span item,
                   const struct mj_path *path)
{
    size_t size = 0;
    for (unsigned i = 0; of->patch && i < path->count; i++)
        size += sizeof(struct coded_step) + path->steps[i].key.len;
    struct proxy *p = lua_newuserdata(L, sizeof *p + size);
    p->held = NULL;
    p->generation = vm->generation;
    p->version = version_of(of);
    p->offset = (size_t)(item.ptr - mj_subject_record(of).ptr);
    p->steps = 0;
    if (of->patch) {
        uint8_t *at = p->path;
        for (unsigned i = 0; i < path->count; i++) {
            const struct mj_step *s = &path->steps[i];
            struct coded_step coded = {s->index, (uint32_t)s->key.len};
            memcpy(at, &coded, sizeof coded);
            at += sizeof coded;
            if (s->key.len)
                memcpy(at, s->key.ptr, s->key.len);
            at += s->key.len;
        }
        p->steps = path->count;
    }
    mj_vm_push_slot(L, of->held ? MJ_SLOT_KEPT_PROXY : MJ_SLOT_PROXY);
    lua_setmetatable(L, -2);
    if (of->held)
        p->held = mj_held_ref(of->held);
}

static struct proxy *to_proxy(lua_State *L, int index)
{
    if (!lua_getmetatable(L, index))
        return NULL;
    mj_vm_push_slot(L, MJ_SLOT_PROXY);
    bool same = lua_rawequal(L, -1, -2);
    if (!same) {
        lua_pop(L, 1);
        mj_vm_push_slot(L, MJ_SLOT_KEPT_PROXY);
        same = lua_rawequal(L, -1, -2);
    }
    lua_pop(L, 2);
    return same ? lua_touserdata(L, index) : NULL;
}

static void path_of(const struct proxy *p, struct mj_path *out)
{
    const uint8_t *at = p->path;
    out->count = 0;
    for (unsigned i = 0; i < p->steps; i++) {
        struct coded_step coded;
        memcpy(&coded, at, sizeof coded);
        at += sizeof coded;
        out->steps[out->count++] =
            (struct mj_step){{coded.index && !coded.len ? NULL : at, coded.len}, coded.index};
        at += coded.len;
    }
}

/* The path of the proxy or record at the index, for drafts. */
static void proxy_path(lua_State *L, struct mj_vm *vm, int index, struct mj_path *out)
{
    out->count = 0;
    if (lua_touserdata(L, index) != vm->record_ud)
        path_of(to_proxy(L, index), out);
}

/* As mj_proxy_span(), and whose record it is in. */
static struct mj_span locate(lua_State *L, struct mj_vm *vm, int index, struct mj_subject *of)
{
    void *ud = lua_touserdata(L, index);
    if (ud == vm->record_ud) {
        *of = mj_current_event(L, vm);
        return mj_subject_record(of);
    }
    struct proxy *p = to_proxy(L, index);
    if (!p)
        return mj_span(NULL, 0);
    if (p->held) {
        *of = (struct mj_subject){&p->held->kept->ev, NULL, p->held};
        struct mj_span whole = of->ev->record;
        return mj_span(whole.ptr + p->offset, whole.len - p->offset);
    }
    *of = mj_current_event(L, vm);
    if (p->generation != vm->generation)
        luaL_error(L, "this part of a record belongs to an event that is gone; copy what you want "
                      "to keep with ev:table(), or use ev:keep()");
    struct mj_span record = mj_subject_record(of);
    if (MJ_UNLIKELY(p->version != version_of(of))) {
        struct mj_path path;
        struct mj_span item;
        path_of(p, &path);
        if (mj_path_find(record, &path, &item))
            luaL_error(L, "this part of the record has been removed");
        p->offset = (size_t)(item.ptr - record.ptr);
        p->version = version_of(of);
    }
    return mj_span(record.ptr + p->offset, record.len - p->offset);
}

struct mj_span mj_proxy_span(lua_State *L, struct mj_vm *vm, int index)
{
    struct mj_subject of;
    return locate(L, vm, index, &of);
}

static struct mj_span check_proxy(lua_State *L, struct mj_vm *vm, int index, struct mj_subject *of)
{
    struct mj_span item = locate(L, vm, index, of);
    if (!item.ptr)
        luaL_error(L, "this is not a part of a record");
    return item;
}

/* The step a Lua key means, or false when no container has such a key. */
static bool to_step(lua_State *L, int index, struct mj_step *out)
{
    *out = (struct mj_step){{NULL, 0}, 0};
    if (lua_type(L, index) == LUA_TSTRING) {
        out->key.ptr = (const uint8_t *)lua_tolstring(L, index, &out->key.len);
        return true;
    }
    if (lua_type(L, index) != LUA_TNUMBER)
        return false;
    lua_Number n = lua_tonumber(L, index);
    if (!(n >= 1 && n <= UINT32_MAX) || n != (lua_Number)(uint32_t)n)
        return false;
    out->index = (uint32_t)n;
    return true;
}

/* proxy[key] */
static int proxy_index(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_subject of;
    struct mj_span item = check_proxy(L, vm, 1, &of), value;
    struct mj_step step;
    if (!to_step(L, 2, &step) || mj_path_step(item, &step, &value)) {
        lua_pushnil(L);
        return 1;
    }
    struct mj_path path = {.count = 0};
    if (of.patch) {
        proxy_path(L, vm, 1, &path);
        if (path.count == MJ_PATH_MAX)
            return luaL_error(L, "the record is nested too deeply to be edited here");
        path.steps[path.count++] = step;
    }
    mj_push_value(L, vm, &of, value, &path);
    return 1;
}

/* Sets what the path names to the item, where maps on the way are missing: puts the item into maps
 * of one key each, and those where the path ends that is there. Nothing raises. */
static int set_with_maps(struct mj_vm *vm, struct mj_patch *patch, const struct mj_path *path,
                         struct mj_span item)
{
    struct mj_path there = *path;
    struct mj_span old;
    int err = MJ_ENOENT;
    while (err == MJ_ENOENT && --there.count) {
        if (mj_path_find(patch->record, &there, &old) == 0)
            return MJ_ENOENT; /* a list: it has no such place, and nothing takes its own */
        vm->scratch.len = 0;
        for (unsigned i = there.count; i < path->count; i++) {
            if (!path->steps[i].key.ptr || !mj_utf8_valid(path->steps[i].key))
                return MJ_ENOENT;
            mj_cbor_put_map(&vm->scratch, 1);
            mj_cbor_put_text(&vm->scratch, path->steps[i].key);
        }
        mj_buf_put(&vm->scratch, item.ptr, item.len);
        err = mj_patch_set(patch, &there, mj_buf_span(&vm->scratch));
    }
    return err;
}

void mj_edit(lua_State *L, struct mj_vm *vm, const struct mj_subject *of,
             const struct mj_path *path, int value, bool maps)
{
    int err;
    if (!of->patch)
        luaL_error(L, "events cannot be changed here; edit the draft in a :map");
    if (!of->ev->record.len)
        luaL_error(L, "this event has no record to edit (%s %s)", mj_kind_name(of->ev->kind),
                   mj_op_name(of->ev->op));
    if (!path->count) {
        int type = lua_type(L, value);
        if (type != LUA_TTABLE && type != LUA_TUSERDATA)
            luaL_error(L, "a record must be a map");
    }
    if (lua_isnil(L, value)) {
        err = mj_patch_unset(of->patch, path);
    } else {
        struct mj_span item = mj_to_cbor(L, vm, value);
        if (path->count && !mj_utf8_valid(path->steps[path->count - 1].key))
            luaL_error(L, "the key is not valid UTF-8");
        if (!path->count && (item.ptr[0] & 0xe0) != 0xa0)
            luaL_error(L, "a record must be a map");
        err = mj_patch_set(of->patch, path, item);
        if (err == MJ_ENOENT && maps)
            err = set_with_maps(vm, of->patch, path, item);
    }
    if (err == MJ_ENOENT)
        luaL_error(
            L, "cannot set this: what should hold it is not there (a list grows by its next item)");
    if (err == MJ_ETYPE)
        luaL_error(L, "cannot set this: what should hold it is neither a list nor a map");
    if (err)
        luaL_error(L, "cannot edit the record: %s", mj_strerror(err));
}

/* proxy[key] = value */
static int proxy_newindex(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_path path = {.count = 0};
    struct mj_subject of;
    check_proxy(L, vm, 1, &of);
    if (!of.patch)
        return luaL_error(L, "events cannot be changed here; edit the draft in a :map");
    proxy_path(L, vm, 1, &path);
    if (path.count == MJ_PATH_MAX)
        return luaL_error(L, "the record is nested too deeply to be edited here");
    if (!to_step(L, 2, &path.steps[path.count++]))
        return luaL_error(L, "a key is text, or a number from 1 in a list");
    mj_edit(L, vm, &of, &path, 3, false);
    return 0;
}

/* #proxy */
static int proxy_len(lua_State *L)
{
    struct mj_subject of;
    struct mj_cbor c = mj_cbor(check_proxy(L, mj_vm_of(L), 1, &of));
    struct mj_cbor_head head;
    bool is_array = mj_cbor_next(&c, &head) == 0 && head.type == MJ_CBOR_ARRAY;
    lua_pushinteger(L, is_array ? (lua_Integer)head.n : 0);
    return 1;
}

/* tostring(proxy): its JSON */
static int proxy_tostring(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_subject of;
    vm->scratch.len = 0;
    int err = mj_json_from_cbor(mj_cbor_item(check_proxy(L, vm, 1, &of)), &vm->scratch);
    if (err)
        return luaL_error(L, "%s", mj_strerror(err));
    lua_pushlstring(L, (const char *)vm->scratch.ptr, vm->scratch.len);
    return 1;
}

/* Iteration. Upvalues: the container; the last key or index (nil or 0 at first); where the next
 * item starts, from the container's first byte; items left; the draft's version for these two. */
enum { UP_ITEM = 1, UP_LAST, UP_OFFSET, UP_LEFT, UP_VERSION, UP_COUNT = UP_VERSION };

static int key_order(struct mj_span a, struct mj_span b)
{
    if (a.len != b.len)
        return a.len < b.len ? -1 : 1;
    return a.len ? memcmp(a.ptr, b.ptr, a.len) : 0;
}

/* Finds the place again after an edit: behind the last key, or as many items in. Returns the items
 * left. */
static uint64_t refind(lua_State *L, struct mj_cbor *c)
{
    struct mj_cbor_head head, key;
    if (mj_cbor_next(c, &head))
        return 0;
    if (head.type == MJ_CBOR_ARRAY) {
        uint64_t done = (uint64_t)lua_tonumber(L, lua_upvalueindex(UP_LAST));
        for (uint64_t i = 0; i < done && i < head.n; i++)
            mj_cbor_skip_checked(c);
        return head.n > done ? head.n - done : 0;
    }
    if (head.type != MJ_CBOR_MAP)
        return 0;
    struct mj_span last;
    last.ptr = (const uint8_t *)lua_tolstring(L, lua_upvalueindex(UP_LAST), &last.len);
    for (; head.n; head.n--) {
        struct mj_cbor before = *c;
        if (mj_cbor_next(c, &key))
            return 0;
        if (!last.ptr || key_order(key.s, last) > 0) {
            *c = before;
            break;
        }
        mj_cbor_skip_checked(c);
    }
    return head.n;
}

/* The next item: pushes key or index, then value, and returns true. */
static bool next_item(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    int container = lua_upvalueindex(UP_ITEM);
    struct mj_subject of;
    struct mj_span item = check_proxy(L, vm, container, &of);
    struct mj_cbor c = mj_cbor(item), probe = c;
    struct mj_cbor_head head, key;
    uint64_t left;
    if (mj_cbor_next(&probe, &head))
        return false;
    uint32_t version = version_of(&of);
    if ((uint32_t)lua_tonumber(L, lua_upvalueindex(UP_VERSION)) == version) {
        c.p += (size_t)lua_tonumber(L, lua_upvalueindex(UP_OFFSET));
        left = (uint64_t)lua_tonumber(L, lua_upvalueindex(UP_LEFT));
    } else {
        left = refind(L, &c);
    }
    if (!left)
        return false;
    struct mj_path path = {.count = 0};
    struct mj_step step = {{NULL, 0}, 0};
    if (head.type == MJ_CBOR_MAP) {
        if (mj_cbor_next(&c, &key))
            return false;
        step.key = key.s;
        lua_pushlstring(L, (const char *)key.s.ptr, key.s.len);
    } else {
        step.index = (uint32_t)lua_tonumber(L, lua_upvalueindex(UP_LAST)) + 1;
        lua_pushnumber(L, step.index);
    }
    lua_pushvalue(L, -1);
    lua_replace(L, lua_upvalueindex(UP_LAST));
    if (of.patch) {
        proxy_path(L, vm, container, &path);
        if (path.count == MJ_PATH_MAX)
            luaL_error(L, "the record is nested too deeply to be edited here");
        path.steps[path.count++] = step;
    }
    struct mj_span value = mj_span(c.p, (size_t)(c.end - c.p));
    mj_cbor_skip_checked(&c);
    lua_pushnumber(L, (lua_Number)(c.p - item.ptr));
    lua_replace(L, lua_upvalueindex(UP_OFFSET));
    lua_pushnumber(L, (lua_Number)(left - 1));
    lua_replace(L, lua_upvalueindex(UP_LEFT));
    lua_pushnumber(L, version);
    lua_replace(L, lua_upvalueindex(UP_VERSION));
    mj_push_value(L, vm, &of, value, &path);
    return true;
}

static int next_pair(lua_State *L) { return next_item(L) ? 2 : 0; }
static int next_value(lua_State *L) { return next_item(L) ? 1 : 0; }
static int nothing(lua_State *L)
{
    (void)L;
    return 0;
}

/* Pushes an iterator over the proxy at the top of the stack (popped). */
static void push_iterator(lua_State *L, const struct mj_subject *of, struct mj_span item,
                          lua_CFunction next)
{
    struct mj_cbor c = mj_cbor(item);
    struct mj_cbor_head head = {0};
    mj_cbor_next(&c, &head);
    if (head.type == MJ_CBOR_ARRAY)
        lua_pushnumber(L, 0);
    else
        lua_pushnil(L);
    lua_pushnumber(L, (lua_Number)(c.p - item.ptr));
    lua_pushnumber(L, (lua_Number)head.n);
    lua_pushnumber(L, version_of(of));
    lua_pushcclosure(L, next, UP_COUNT);
}

static int push_pairs(lua_State *L, bool arrays_only)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_subject of;
    struct mj_span item = locate(L, vm, 1, &of);
    if (!item.ptr)
        return luaL_error(L, mj_is_event(L, 1) ? "an event is not a table; walk ev.record"
                                               : "this cannot be walked");
    bool is_array = (item.ptr[0] & 0xe0) == 0x80;
    if (arrays_only && !is_array) {
        lua_pushcfunction(L, nothing);
        return 1;
    }
    lua_pushvalue(L, 1);
    push_iterator(L, &of, item, next_pair);
    return 1;
}

static int host_pairs(lua_State *L) { return push_pairs(L, false); }
static int host_ipairs(lua_State *L) { return push_pairs(L, true); }

int mj_push_each(lua_State *L, struct mj_vm *vm, const struct mj_subject *of, struct mj_span item,
                 const struct mj_path *path)
{
    bool is_array = item.len && (item.ptr[0] & 0xe0) == 0x80;
    if (!is_array) {
        lua_pushcfunction(L, nothing);
        return 1;
    }
    mj_push_proxy(L, vm, of, item, path);
    push_iterator(L, of, item, next_value);
    return 1;
}

static int proxy_gc(lua_State *L)
{
    mj_held_unref(((struct proxy *)lua_touserdata(L, 1))->held);
    return 0;
}

void mj_set_record(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct proxy *p = lua_newuserdata(L, sizeof *p);
    *p = (struct proxy){.held = NULL};
    mj_vm_push_slot(L, MJ_SLOT_PROXY);
    lua_setmetatable(L, -2);
    lua_rawseti(L, LUA_REGISTRYINDEX, MJ_SLOT_RECORD);
    vm->record_ud = p;
}

void mj_bind_record(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__index", proxy_index},
                                    {"__newindex", proxy_newindex},
                                    {"__len", proxy_len},
                                    {"__tostring", proxy_tostring},
                                    {NULL, NULL}};
    static const luaL_Reg host[] = {{"pairs", host_pairs}, {"ipairs", host_ipairs}, {NULL, NULL}};
    luaL_register(L, NULL, host);
    for (int kept = 0; kept < 2; kept++) {
        mj_vm_push_slot(L, kept ? MJ_SLOT_KEPT_PROXY : MJ_SLOT_PROXY);
        luaL_register(L, NULL, meta);
        lua_pushliteral(L, "record");
        lua_setfield(L, -2, "__metatable");
        if (kept) {
            lua_pushcfunction(L, proxy_gc);
            lua_setfield(L, -2, "__gc");
        }
        lua_pop(L, 1);
    }
    mj_set_record(L);
}
