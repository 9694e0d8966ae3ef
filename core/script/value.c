/* Between DAG-CBOR and Lua values. Both ways follow the data model's JSON form where Lua has no
 * type of its own: a link is { ["$link"] = "bafy…" }, bytes are { ["$bytes"] = "…base64" }. */
#include <stdio.h>

#include "atproto/cid.h"
#include "atproto/utf8.h"
#include "script/bind.h"

#define DEPTH_MAX 64                 /* of a Lua value that becomes CBOR */
#define EXACT_MAX 9007199254740991.0 /* 2^53 - 1: above it doubles skip integers */

static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void put_base64(struct mj_buf *out, struct mj_span in)
{
    for (size_t i = 0; i < in.len; i += 3) {
        size_t n = in.len - i < 3 ? in.len - i : 3;
        uint32_t v = (uint32_t)in.ptr[i] << 16 | (n > 1 ? (uint32_t)in.ptr[i + 1] << 8 : 0) |
                     (n > 2 ? in.ptr[i + 2] : 0);
        for (size_t k = 0; k <= n; k++)
            mj_buf_putc(out, base64[v >> (18 - 6 * k) & 63]);
    }
}

/* With or without padding. False for anything else. */
static bool get_base64(struct mj_buf *out, struct mj_span in)
{
    while (in.len && in.len % 4 == 0 && in.ptr[in.len - 1] == '=' && in.len > 1)
        in.len -= in.ptr[in.len - 2] == '=' ? 2 : 1;
    if (in.len % 4 == 1)
        return false;
    uint32_t v = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < in.len; i++) {
        const char *at = in.ptr[i] ? strchr(base64, in.ptr[i]) : NULL;
        if (!at)
            return false;
        v = v << 6 | (uint32_t)(at - base64);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            mj_buf_putc(out, (char)(v >> bits & 255));
        }
    }
    return (v & ((1u << bits) - 1)) == 0;
}

void mj_push_int64(lua_State *L, int64_t v)
{
    char text[24];
    lua_pushlstring(L, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)v));
}

static void push_tagged(lua_State *L, struct mj_vm *vm, const struct mj_cbor_head *head)
{
    vm->scratch.len = 0;
    lua_createtable(L, 0, 1);
    if (head->type == MJ_CBOR_LINK) {
        mj_buf_reserve(&vm->scratch, 2 * MJ_CID_MAX);
        vm->scratch.len = mj_cid_text(head->s, (char *)vm->scratch.ptr);
    } else {
        put_base64(&vm->scratch, head->s);
    }
    lua_pushlstring(L, (const char *)vm->scratch.ptr, vm->scratch.len);
    lua_setfield(L, -2, head->type == MJ_CBOR_LINK ? "$link" : "$bytes");
}

/* Pushes anything but an array or a map; false for those, with nothing pushed. */
static bool push_scalar(lua_State *L, struct mj_vm *vm, const struct mj_cbor_head *head)
{
    switch (head->type) {
    case MJ_CBOR_INT:
        lua_pushnumber(L, (lua_Number)head->i);
        return true;
    case MJ_CBOR_TEXT:
        lua_pushlstring(L, (const char *)head->s.ptr, head->s.len);
        return true;
    case MJ_CBOR_BOOL:
        lua_pushboolean(L, head->i != 0);
        return true;
    case MJ_CBOR_NULL:
        mj_vm_push_slot(L, MJ_SLOT_NULL);
        return true;
    case MJ_CBOR_LINK:
    case MJ_CBOR_BYTES:
        push_tagged(L, vm, head);
        return true;
    default:
        return false;
    }
}

/* Records are checked before a script sees them, so a bad head here is our own defect; raising
 * keeps even that within the script's call. */
static void next_head(lua_State *L, struct mj_cbor *c, struct mj_cbor_head *head)
{
    if (mj_cbor_next(c, head))
        luaL_error(L, "the record cannot be read");
}

static void push_tree(lua_State *L, struct mj_vm *vm, struct mj_cbor *c)
{
    struct mj_cbor_head head, key;
    luaL_checkstack(L, 4, "record nested too deeply");
    next_head(L, c, &head);
    if (push_scalar(L, vm, &head))
        return;
    /* A record can hold a million of these, and no hook looks in here. */
    if (++vm->tables % 1024 == 0)
        mj_guard_check(L);
    bool is_array = head.type == MJ_CBOR_ARRAY;
    int n = head.n < 1024 ? (int)head.n : 1024;
    lua_createtable(L, is_array ? n : 0, is_array ? 0 : n);
    for (uint64_t i = 0; i < head.n; i++) {
        if (is_array) {
            push_tree(L, vm, c);
            lua_rawseti(L, -2, (int)i + 1);
        } else {
            next_head(L, c, &key);
            lua_pushlstring(L, (const char *)key.s.ptr, key.s.len);
            push_tree(L, vm, c);
            lua_rawset(L, -3);
        }
    }
    if (is_array || !head.n) {
        mj_vm_push_slot(L, is_array ? MJ_SLOT_ARRAY : MJ_SLOT_OBJECT);
        lua_setmetatable(L, -2);
    }
}

void mj_push_table(lua_State *L, struct mj_vm *vm, struct mj_span item)
{
    struct mj_cbor c = mj_cbor(item);
    push_tree(L, vm, &c);
}

void mj_push_value(lua_State *L, struct mj_vm *vm, const struct mj_subject *of, struct mj_span item,
                   const struct mj_path *path)
{
    struct mj_cbor c = mj_cbor(item);
    struct mj_cbor_head head;
    next_head(L, &c, &head);
    if (!push_scalar(L, vm, &head))
        mj_push_proxy(L, vm, of, item, path);
}

/* From Lua to CBOR. */

static void put(lua_State *L, struct mj_vm *vm, int index, unsigned depth);

static void put_text(lua_State *L, struct mj_vm *vm, struct mj_span text)
{
    if (text.len > MJ_PATCH_RECORD_MAX || vm->value.len > MJ_PATCH_RECORD_MAX)
        luaL_error(L, "the value is too large for a record");
    if (!mj_utf8_valid(text))
        luaL_error(L, "text is not valid UTF-8 (cut in the middle of a character?)");
    mj_cbor_put_text(&vm->value, text);
}

static void put_number(lua_State *L, struct mj_vm *vm, lua_Number n)
{
    if (!(n >= -EXACT_MAX && n <= EXACT_MAX))
        luaL_error(L, "%f is beyond 2^53: Lua numbers are not exact there", n);
    if (n != (lua_Number)(int64_t)n)
        luaL_error(L, "%f is not a whole number: records have no fractions; use a text", n);
    mj_cbor_put_int(&vm->value, (int64_t)n);
}

/* { ["$link"] = … } and { ["$bytes"] = … }, at a table whose only key is at -2, value at -1. */
static bool put_tagged(lua_State *L, struct mj_vm *vm)
{
    size_t len;
    const char *key = lua_tostring(L, -2);
    bool link = strcmp(key, "$link") == 0;
    if ((!link && strcmp(key, "$bytes") != 0) || lua_type(L, -1) != LUA_TSTRING)
        return false;
    const char *text = lua_tolstring(L, -1, &len);
    if (link) {
        uint8_t cid[MJ_CID_MAX];
        int n = mj_cid_from_text(mj_span(text, len), cid);
        if (n < 0)
            luaL_error(L, "\"$link\" wants the text of a CID");
        mj_cbor_put_link(&vm->value, mj_span(cid, (size_t)n));
    } else {
        vm->scratch.len = 0;
        if (!get_base64(&vm->scratch, mj_span(text, len)))
            luaL_error(L, "\"$bytes\" wants base64");
        mj_cbor_put_bytes(&vm->value, mj_buf_span(&vm->scratch));
    }
    return true;
}

static void put_array(lua_State *L, struct mj_vm *vm, int index, size_t n, unsigned depth)
{
    mj_cbor_put_array(&vm->value, n);
    for (size_t i = 1; i <= n; i++) {
        lua_rawgeti(L, index, (int)i);
        if (lua_isnil(L, -1))
            luaL_error(L, "item %d of the list is nil; a null is written jet.null", (int)i);
        put(L, vm, lua_gettop(L), depth);
        lua_pop(L, 1);
    }
}

/* DRISL's order: shorter first, then bytewise. */
static int key_order(const void *a, const void *b)
{
    const struct mj_span *x = a, *y = b;
    if (x->len != y->len)
        return x->len < y->len ? -1 : 1;
    return x->len ? memcmp(x->ptr, y->ptr, x->len) : 0;
}

/* The keys are strings of the table, which holds them while their spans are in vm->keys. */
static void put_map(lua_State *L, struct mj_vm *vm, int index, unsigned depth)
{
    size_t base = vm->keys.len, n = 0;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        struct mj_span key;
        key.ptr = (const uint8_t *)lua_tolstring(L, -2, &key.len);
        mj_buf_put(&vm->keys, &key, sizeof key);
        n++;
        lua_pop(L, 1);
    }
    if (n)
        qsort(vm->keys.ptr + base, n, sizeof(struct mj_span), key_order);
    mj_cbor_put_map(&vm->value, n);
    for (size_t i = 0; i < n; i++) {
        struct mj_span key;
        memcpy(&key, vm->keys.ptr + base + i * sizeof key, sizeof key);
        put_text(L, vm, key);
        lua_pushlstring(L, (const char *)key.ptr, key.len);
        lua_rawget(L, index);
        put(L, vm, lua_gettop(L), depth);
        lua_pop(L, 1);
    }
    vm->keys.len = base;
}

bool mj_made_by(lua_State *L, int index, enum mj_slot slot)
{
    if (!lua_getmetatable(L, index))
        return false;
    mj_vm_push_slot(L, slot);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

static void put_table(lua_State *L, struct mj_vm *vm, int index, unsigned depth)
{
    size_t texts = 0, numbers = 0, n = lua_objlen(L, index);
    if (depth == DEPTH_MAX)
        luaL_error(L, "the table is nested too deeply, or contains itself");
    luaL_checkstack(L, 6, "table nested too deeply");
    lua_pushnil(L);
    while (lua_next(L, index)) {
        int type = lua_type(L, -2);
        if (type == LUA_TSTRING) {
            texts++;
        } else if (type == LUA_TNUMBER) {
            lua_Number k = lua_tonumber(L, -2);
            if (k < 1 || k > (lua_Number)n || k != (lua_Number)(size_t)k)
                luaL_error(L, "a list needs the keys 1 to %d without holes, found %f", (int)n, k);
            numbers++;
        } else {
            luaL_error(L, "a %s cannot be a key in a record", lua_typename(L, type));
        }
        lua_pop(L, 1);
    }
    if (texts && numbers)
        luaL_error(L, "a table is either a list or a map, this one has both kinds of keys");
    if (texts == 1) {
        lua_pushnil(L);
        lua_next(L, index);
        bool done = put_tagged(L, vm);
        lua_pop(L, 2);
        if (done)
            return;
    }
    if (numbers || mj_made_by(L, index, MJ_SLOT_ARRAY)) {
        if (texts)
            luaL_error(L, "jet.array holds a key that is text");
        put_array(L, vm, index, n, depth + 1);
    } else if (texts || mj_made_by(L, index, MJ_SLOT_OBJECT)) {
        put_map(L, vm, index, depth + 1);
    } else {
        luaL_error(L, "an empty table is neither a list nor a map: write jet.array{} or "
                      "jet.object{}");
    }
}

static void put_userdata(lua_State *L, struct mj_vm *vm, int index)
{
    mj_vm_push_slot(L, MJ_SLOT_NULL);
    bool is_null = lua_rawequal(L, -1, index);
    lua_pop(L, 1);
    if (is_null) {
        mj_cbor_put_null(&vm->value);
        return;
    }
    struct mj_span item = mj_proxy_span(L, vm, index);
    if (!item.ptr)
        luaL_error(L, "this cannot be put into a record");
    item = mj_cbor_item(item);
    mj_buf_put(&vm->value, item.ptr, item.len);
}

static void put(lua_State *L, struct mj_vm *vm, int index, unsigned depth)
{
    size_t len;
    const char *text;
    if (vm->value.len > MJ_PATCH_RECORD_MAX)
        luaL_error(L, "the value is too large for a record");
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        mj_cbor_put_bool(&vm->value, lua_toboolean(L, index));
        break;
    case LUA_TNUMBER:
        put_number(L, vm, lua_tonumber(L, index));
        break;
    case LUA_TSTRING:
        text = lua_tolstring(L, index, &len);
        put_text(L, vm, mj_span(text, len));
        break;
    case LUA_TTABLE:
        put_table(L, vm, index, depth);
        break;
    case LUA_TUSERDATA:
        put_userdata(L, vm, index);
        break;
    default:
        luaL_error(L, "a %s cannot be put into a record", luaL_typename(L, index));
    }
}

struct mj_span mj_to_cbor(lua_State *L, struct mj_vm *vm, int index)
{
    vm->value.len = 0;
    vm->keys.len = 0;
    put(L, vm, index, 0);
    return mj_buf_span(&vm->value);
}
