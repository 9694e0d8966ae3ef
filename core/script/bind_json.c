/* jet.json: Lua values as JSON, and JSON as Lua values, with nothing guessed. As in records, null
 * is jet.null, and what could be a list or a map, the empty table, is marked. Numbers may have
 * fractions, which records have not. */
#include <math.h>
#include <stdio.h>

#include "atproto/utf8.h"
#include "event/jetstream.h"
#include "script/bind.h"

#define DEPTH_MAX  64
#define JSON_MAX   ((size_t)16 << 20) /* of a text, either way */
#define NUMBER_MAX 1024               /* characters of a number */
#define SCRATCH    ((size_t)1 << 20)  /* a larger buffer is given back at once */

/* ---- Lua to JSON ---- */

static void put(lua_State *L, struct mj_vm *vm, int index, struct mj_buf *out, unsigned depth);

static void put_text(lua_State *L, struct mj_span s, struct mj_buf *out)
{
    if (out->len + s.len > JSON_MAX)
        luaL_error(L, "jet.json.encode: the value is larger than 16 MiB");
    if (!mj_utf8_valid(s))
        luaL_error(L, "jet.json.encode: a text is not valid UTF-8 (cut in the middle of a "
                      "character?)");
    mj_buf_put_json(out, s);
}

/* A decimal text, no longer than need be, that reads back as the same number. */
static void put_number(lua_State *L, lua_Number n, struct mj_buf *out)
{
    char text[40];
    if (!isfinite(n))
        luaL_error(L, "jet.json.encode: %f is no number in JSON", n);
    if (fabs(n) < 1e15 && n == (lua_Number)(int64_t)n) {
        snprintf(text, sizeof text, "%lld", (long long)n);
    } else {
        for (int digits = 15; digits <= 17; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, n);
            if (strtod(text, NULL) == n)
                break;
        }
    }
    mj_buf_puts(out, text);
}

static void put_array(lua_State *L, struct mj_vm *vm, int index, size_t n, struct mj_buf *out,
                      unsigned depth)
{
    mj_buf_putc(out, '[');
    for (size_t i = 1; i <= n; i++) {
        lua_rawgeti(L, index, (int)i);
        if (lua_isnil(L, -1))
            luaL_error(L, "jet.json.encode: item %d of a list is nil; a null is written jet.null",
                       (int)i);
        if (i > 1)
            mj_buf_putc(out, ',');
        put(L, vm, lua_gettop(L), out, depth);
        lua_pop(L, 1);
    }
    mj_buf_putc(out, ']');
}

static int key_order(const void *a, const void *b)
{
    return mj_span_cmp(*(const struct mj_span *)a, *(const struct mj_span *)b);
}

/* In order of the keys, so that equal tables are equal texts. The table holds the strings while
 * their spans are in vm->keys. */
static void put_map(lua_State *L, struct mj_vm *vm, int index, struct mj_buf *out, unsigned depth)
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
    mj_buf_putc(out, '{');
    for (size_t i = 0; i < n; i++) {
        struct mj_span key;
        memcpy(&key, vm->keys.ptr + base + i * sizeof key, sizeof key);
        if (i)
            mj_buf_putc(out, ',');
        put_text(L, key, out);
        mj_buf_putc(out, ':');
        lua_pushlstring(L, (const char *)key.ptr, key.len);
        lua_rawget(L, index);
        put(L, vm, lua_gettop(L), out, depth);
        lua_pop(L, 1);
    }
    mj_buf_putc(out, '}');
    vm->keys.len = base;
}

static void put_table(lua_State *L, struct mj_vm *vm, int index, struct mj_buf *out, unsigned depth)
{
    size_t texts = 0, numbers = 0, n = lua_objlen(L, index);
    if (depth == DEPTH_MAX)
        luaL_error(L, "jet.json.encode: a table is nested too deeply, or contains itself");
    luaL_checkstack(L, 6, "table nested too deeply");
    lua_pushnil(L);
    while (lua_next(L, index)) {
        int type = lua_type(L, -2);
        lua_Number k = type == LUA_TNUMBER ? lua_tonumber(L, -2) : 1;
        if (type != LUA_TSTRING && type != LUA_TNUMBER)
            luaL_error(L, "jet.json.encode: a %s cannot be a key", lua_typename(L, type));
        if (!(k >= 1 && k <= (lua_Number)n) && type == LUA_TNUMBER)
            luaL_error(L, "jet.json.encode: a list needs the keys 1 to %d without holes, found %f",
                       (int)n, k);
        if (type == LUA_TNUMBER && k != (lua_Number)(size_t)k)
            luaL_error(L, "jet.json.encode: %f cannot be a key", k);
        *(type == LUA_TSTRING ? &texts : &numbers) += 1;
        lua_pop(L, 1);
    }
    if (texts && numbers)
        luaL_error(L, "jet.json.encode: a table is either a list or a map, this one has both kinds "
                      "of keys");
    if (numbers || (!texts && mj_made_by(L, index, MJ_SLOT_ARRAY)))
        put_array(L, vm, index, n, out, depth + 1);
    else if (texts || mj_made_by(L, index, MJ_SLOT_OBJECT))
        put_map(L, vm, index, out, depth + 1);
    else
        luaL_error(L, "jet.json.encode: an empty table is neither a list nor a map: write "
                      "jet.array{} or jet.object{}");
}

static void put_userdata(lua_State *L, struct mj_vm *vm, int index, struct mj_buf *out)
{
    mj_vm_push_slot(L, MJ_SLOT_NULL);
    bool is_null = lua_rawequal(L, -1, index);
    lua_pop(L, 1);
    if (is_null) {
        mj_buf_puts(out, "null");
        return;
    }
    if (mj_is_event(L, index) || mj_made_by(L, index, MJ_SLOT_KEPT))
        luaL_error(L, "jet.json.encode: an event as JSON is ev:json()");
    struct mj_span item = mj_proxy_span(L, vm, index);
    if (!item.ptr)
        luaL_error(L, "jet.json.encode: this has no form in JSON");
    if (mj_json_from_cbor(mj_cbor_item(item), out))
        luaL_error(L, "jet.json.encode: the record cannot be written as JSON");
}

static void put(lua_State *L, struct mj_vm *vm, int index, struct mj_buf *out, unsigned depth)
{
    struct mj_span s;
    if (out->len > JSON_MAX)
        luaL_error(L, "jet.json.encode: the value is larger than 16 MiB");
    if (++vm->tables % 1024 == 0)
        mj_guard_check(L);
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        mj_buf_puts(out, lua_toboolean(L, index) ? "true" : "false");
        break;
    case LUA_TNUMBER:
        put_number(L, lua_tonumber(L, index), out);
        break;
    case LUA_TSTRING:
        s.ptr = (const uint8_t *)lua_tolstring(L, index, &s.len);
        put_text(L, s, out);
        break;
    case LUA_TTABLE:
        put_table(L, vm, index, out, depth);
        break;
    case LUA_TUSERDATA:
        put_userdata(L, vm, index, out);
        break;
    default:
        luaL_error(L, "jet.json.encode: a %s has no form in JSON", luaL_typename(L, index));
    }
}

void mj_json_from_lua(lua_State *L, struct mj_vm *vm, int index, struct mj_buf *out)
{
    vm->keys.len = 0;
    put(L, vm, index < 0 ? lua_gettop(L) + index + 1 : index, out, 0);
}

/* ---- JSON to Lua ---- */

struct reader {
    struct mj_vm *vm;
    const uint8_t *start, *p, *end;
    const char *error;
};

static bool fail(struct reader *r, const char *error)
{
    if (!r->error)
        r->error = error;
    return false;
}

static void blanks(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
        r->p++;
}

static bool take(struct reader *r, uint8_t c)
{
    if (r->p == r->end || *r->p != c)
        return false;
    r->p++;
    return true;
}

static bool take_word(struct reader *r, struct mj_span word)
{
    if (!mj_span_starts(mj_span(r->p, (size_t)(r->end - r->p)), word))
        return fail(r, "a value is expected");
    r->p += word.len;
    return true;
}

static bool digits(struct reader *r)
{
    const uint8_t *start = r->p;
    while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
        r->p++;
    return r->p > start;
}

static bool read_number(lua_State *L, struct reader *r)
{
    char text[NUMBER_MAX];
    const uint8_t *start = r->p;
    take(r, '-');
    if (!take(r, '0') && !digits(r))
        return fail(r, "a value is expected");
    if (take(r, '.') && !digits(r))
        return fail(r, "a digit is expected");
    if (take(r, 'e') || take(r, 'E')) {
        if (!take(r, '+'))
            take(r, '-');
        if (!digits(r))
            return fail(r, "a digit is expected");
    }
    size_t len = (size_t)(r->p - start);
    if (len >= sizeof text)
        return fail(r, "a number is too long");
    memcpy(text, start, len);
    text[len] = 0;
    lua_Number n = strtod(text, NULL);
    if (!isfinite(n))
        return fail(r, "a number is too large");
    lua_pushnumber(L, n);
    return true;
}

static bool hex4(struct reader *r, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++, r->p++) {
        uint8_t c = r->p < r->end ? *r->p : 0, low = c | 32;
        if (c >= '0' && c <= '9')
            *out = *out << 4 | (uint32_t)(c - '0');
        else if (low >= 'a' && low <= 'f')
            *out = *out << 4 | (uint32_t)(low - 'a' + 10);
        else
            return fail(r, "four hex digits are expected");
    }
    return true;
}

static void put_utf8(struct mj_buf *b, uint32_t c)
{
    if (c < 0x80) {
        mj_buf_putc(b, (char)c);
        return;
    }
    int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    mj_buf_putc(b, (char)((0xf0u << (3 - more) & 0xff) | c >> (6 * more)));
    while (more--)
        mj_buf_putc(b, (char)(0x80 | (c >> (6 * more) & 0x3f)));
}

static bool read_escape(struct reader *r, struct mj_buf *b)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    uint32_t c, low;
    if (r->p == r->end)
        return fail(r, "the text does not end");
    if (!take(r, 'u')) {
        const char *at = *r->p ? strchr(from, *r->p) : NULL;
        if (!at)
            return fail(r, "no such escape");
        mj_buf_putc(b, to[at - from]);
        r->p++;
        return true;
    }
    if (!hex4(r, &c))
        return false;
    if (c >= 0xd800 && c < 0xe000) {
        if (c >= 0xdc00 || !take(r, '\\') || !take(r, 'u') || !hex4(r, &low) || low < 0xdc00 ||
            low >= 0xe000)
            return fail(r, "half a surrogate pair");
        c = 0x10000 + ((c - 0xd800) << 10 | (low - 0xdc00));
    }
    put_utf8(b, c);
    return true;
}

/* Behind the opening quote. */
static bool read_text(lua_State *L, struct reader *r)
{
    struct mj_buf *b = &r->vm->scratch;
    const uint8_t *start = r->p;
    bool escaped = false;
    b->len = 0;
    for (;;) {
        const uint8_t *run = r->p;
        while (r->p < r->end && *r->p != '"' && *r->p != '\\' && *r->p >= 0x20) {
            unsigned n = mj_utf8_len(r->p, r->end);
            if (!n)
                return fail(r, "a text is not valid UTF-8");
            r->p += n;
        }
        if (r->p == r->end)
            return fail(r, "the text does not end");
        if (*r->p < 0x20)
            return fail(r, "a control character in a text");
        if (*r->p == '"' && !escaped) {
            lua_pushlstring(L, (const char *)start, (size_t)(r->p - start));
            break;
        }
        escaped = true;
        mj_buf_put(b, run, (size_t)(r->p - run));
        if (*r->p == '"') {
            lua_pushlstring(L, (const char *)b->ptr, b->len);
            break;
        }
        r->p++;
        if (!read_escape(r, b))
            return false;
    }
    r->p++;
    return true;
}

static bool read_value(lua_State *L, struct reader *r, unsigned depth);

static bool read_array(lua_State *L, struct reader *r, unsigned depth)
{
    lua_newtable(L);
    blanks(r);
    for (int i = 1; !take(r, ']'); i++) {
        if (i > 1 && !take(r, ','))
            return fail(r, "',' or ']' is expected");
        if (!read_value(L, r, depth))
            return false;
        lua_rawseti(L, -2, i);
        blanks(r);
    }
    mj_vm_push_slot(L, MJ_SLOT_ARRAY);
    lua_setmetatable(L, -2);
    return true;
}

static bool read_object(lua_State *L, struct reader *r, unsigned depth)
{
    bool empty = true;
    lua_newtable(L);
    blanks(r);
    for (; !take(r, '}'); empty = false) {
        if (!empty && !take(r, ','))
            return fail(r, "',' or '}' is expected");
        blanks(r);
        if (!take(r, '"'))
            return fail(r, "a key in quotes is expected");
        if (!read_text(L, r))
            return false;
        blanks(r);
        if (!take(r, ':'))
            return fail(r, "':' is expected");
        if (!read_value(L, r, depth))
            return false;
        lua_rawset(L, -3);
        blanks(r);
    }
    if (empty) {
        mj_vm_push_slot(L, MJ_SLOT_OBJECT);
        lua_setmetatable(L, -2);
    }
    return true;
}

static bool read_value(lua_State *L, struct reader *r, unsigned depth)
{
    if (depth == DEPTH_MAX)
        return fail(r, "nested too deeply");
    if (!lua_checkstack(L, 6))
        luaL_error(L, "not enough memory");
    if (++r->vm->tables % 1024 == 0)
        mj_guard_check(L);
    blanks(r);
    switch (r->p < r->end ? *r->p : 0) {
    case '{':
        r->p++;
        return read_object(L, r, depth + 1);
    case '[':
        r->p++;
        return read_array(L, r, depth + 1);
    case '"':
        r->p++;
        return read_text(L, r);
    case 't':
        lua_pushboolean(L, 1);
        return take_word(r, MJ_SPAN("true"));
    case 'f':
        lua_pushboolean(L, 0);
        return take_word(r, MJ_SPAN("false"));
    case 'n':
        mj_vm_push_slot(L, MJ_SLOT_NULL);
        return take_word(r, MJ_SPAN("null"));
    default:
        return read_number(L, r);
    }
}

bool mj_json_to_lua(lua_State *L, struct mj_vm *vm, struct mj_span json,
                    struct mj_json_error *error)
{
    struct reader r = {vm, json.ptr, json.ptr, json.ptr + json.len, NULL};
    int top = lua_gettop(L);
    bool ok = json.len <= JSON_MAX ? read_value(L, &r, 0) : fail(&r, "it is larger than 16 MiB");
    blanks(&r);
    if (ok && r.p < r.end)
        ok = fail(&r, "something follows the value");
    if (ok)
        return true;
    lua_settop(L, top);
    error->text = r.error;
    error->at = (size_t)(r.p - r.start) + 1;
    return false;
}

static void give_back(struct mj_buf *b)
{
    if (b->cap > SCRATCH)
        mj_buf_deinit(b);
}

/* jet.json.encode(value) */
static int json_encode(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    if (lua_isnil(L, 1))
        return luaL_error(L, "jet.json.encode: nil has no form in JSON; a null is jet.null");
    vm->scratch.len = 0;
    mj_json_from_lua(L, vm, 1, &vm->scratch);
    lua_pushlstring(L, (const char *)vm->scratch.ptr, vm->scratch.len);
    give_back(&vm->scratch);
    return 1;
}

/* jet.json.decode(text) */
static int json_decode(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_json_error error;
    struct mj_span json;
    if (lua_type(L, 1) != LUA_TSTRING)
        return luaL_error(L, "jet.json.decode wants a text, not %s", luaL_typename(L, 1));
    json.ptr = (const uint8_t *)lua_tolstring(L, 1, &json.len);
    bool ok = mj_json_to_lua(L, vm, json, &error);
    give_back(&vm->scratch);
    if (ok)
        return 1;
    lua_pushnil(L);
    lua_pushfstring(L, "%s, at byte %d", error.text, (int)error.at);
    return 2;
}

void mj_bind_json(lua_State *L)
{
    lua_newtable(L);
    lua_pushcfunction(L, json_encode);
    lua_setfield(L, -2, "encode");
    lua_pushcfunction(L, json_decode);
    lua_setfield(L, -2, "decode");
    lua_setfield(L, -2, "json");
}
