/* string.find, match, gmatch and gsub over script/pattern.h, as the Lua 5.1 manual has them. */
#include "script/bind.h"
#include "script/pattern.h"

static struct mj_span check_span(lua_State *L, int index)
{
    size_t len;
    const char *s = luaL_checklstring(L, index, &len);
    return mj_span(s, len);
}

/* Offset of the `init` argument: from 1, or from the end when negative; within the text. */
static size_t check_init(lua_State *L, int index, size_t len)
{
    lua_Number init = luaL_optnumber(L, index, 1);
    if (init < 0)
        init += (lua_Number)len + 1;
    if (!(init >= 1))
        return 0;
    return init - 1 < (lua_Number)len ? (size_t)(init - 1) : len;
}

/* Pushes capture i; number 0 of a pattern without captures is the whole match. */
static void push_capture(lua_State *L, const struct mj_pattern *m, int i, const char *s,
                         const char *e)
{
    if (i >= m->level) {
        if (i)
            luaL_error(L, "invalid capture index %%%d", i + 1);
        lua_pushlstring(L, s, (size_t)(e - s));
    } else if (m->capture[i].len == MJ_CAPTURE_POSITION) {
        lua_pushnumber(L, (lua_Number)(m->capture[i].start - m->src + 1));
    } else if (m->capture[i].len == MJ_CAPTURE_OPEN) {
        luaL_error(L, "malformed pattern (unfinished capture)");
    } else {
        lua_pushlstring(L, m->capture[i].start, (size_t)m->capture[i].len);
    }
}

/* All captures, or the whole match when there are none and `whole`. */
static int push_captures(lua_State *L, const struct mj_pattern *m, const char *s, const char *e,
                         bool whole)
{
    int n = m->level || !whole ? m->level : 1;
    luaL_checkstack(L, n + 1, "too many captures");
    for (int i = 0; i < n; i++)
        push_capture(L, m, i, s, e);
    return n;
}

static bool is_plain(struct mj_span pat)
{
    for (size_t i = 0; i < pat.len; i++)
        if (!pat.ptr[i] || strchr("^$*+?.([%-", pat.ptr[i]))
            return false;
    return true;
}

static int search(lua_State *L, bool find)
{
    struct mj_span src = check_span(L, 1), pat = check_span(L, 2);
    size_t init = check_init(L, 3, src.len);
    if (find && (lua_toboolean(L, 4) || is_plain(pat))) {
        const uint8_t *at = memmem(src.ptr + init, src.len - init, pat.ptr, pat.len);
        if (!at) {
            lua_pushnil(L);
            return 1;
        }
        lua_pushnumber(L, (lua_Number)(at - src.ptr + 1));
        lua_pushnumber(L, (lua_Number)((size_t)(at - src.ptr) + pat.len));
        return 2;
    }
    struct mj_pattern m;
    mj_pattern_init(&m, L, src, pat);
    const char *p = (const char *)pat.ptr, *s = m.src + init;
    bool anchored = pat.len && *p == '^';
    if (anchored)
        p++;
    do {
        m.level = 0;
        const char *e = mj_pattern_match(&m, s, p);
        if (e && !find)
            return push_captures(L, &m, s, e, true);
        if (e) {
            lua_pushnumber(L, (lua_Number)(s - m.src + 1));
            lua_pushnumber(L, (lua_Number)(e - m.src));
            return 2 + push_captures(L, &m, s, e, false);
        }
    } while (s++ < m.src_end && !anchored);
    lua_pushnil(L);
    return 1;
}

static int host_find(lua_State *L) { return search(L, true); }
static int host_match(lua_State *L) { return search(L, false); }

/* Upvalues: the text, the pattern, the offset to go on from. */
static int gmatch_next(lua_State *L)
{
    struct mj_span src = check_span(L, lua_upvalueindex(1)),
                   pat = check_span(L, lua_upvalueindex(2));
    size_t at = (size_t)lua_tonumber(L, lua_upvalueindex(3));
    struct mj_pattern m;
    mj_pattern_init(&m, L, src, pat);
    for (const char *s = m.src + at; at <= src.len; s++, at++) {
        m.level = 0;
        const char *e = mj_pattern_match(&m, s, (const char *)pat.ptr);
        if (!e)
            continue;
        /* An empty match moves on by one, or it would be found for ever. */
        lua_pushnumber(L, (lua_Number)(e - m.src + (e == s)));
        lua_replace(L, lua_upvalueindex(3));
        return push_captures(L, &m, s, e, true);
    }
    return 0;
}

static int host_gmatch(lua_State *L)
{
    check_span(L, 1);
    check_span(L, 2);
    lua_settop(L, 2);
    lua_pushnumber(L, 0);
    lua_pushcclosure(L, gmatch_next, 3);
    return 1;
}

/* Adds the replacement text with its %0 … %9. */
static void add_text(lua_State *L, luaL_Buffer *b, const struct mj_pattern *m, const char *s,
                     const char *e)
{
    size_t len;
    const char *text = lua_tolstring(L, 3, &len);
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '%' || i + 1 == len) {
            luaL_addchar(b, text[i]);
            continue;
        }
        char c = text[++i];
        if (c < '0' || c > '9') {
            luaL_addchar(b, c);
        } else if (c == '0') {
            luaL_addlstring(b, s, (size_t)(e - s));
        } else {
            push_capture(L, m, c - '1', s, e);
            luaL_addvalue(b);
        }
    }
}

/* Adds what stands for the match [s, e). */
static void add_replacement(lua_State *L, luaL_Buffer *b, const struct mj_pattern *m, const char *s,
                            const char *e)
{
    int type = lua_type(L, 3);
    if (type == LUA_TSTRING || type == LUA_TNUMBER) {
        add_text(L, b, m, s, e);
        return;
    }
    if (type == LUA_TTABLE) {
        push_capture(L, m, 0, s, e);
        lua_gettable(L, 3);
    } else {
        lua_pushvalue(L, 3);
        int n = push_captures(L, m, s, e, true);
        lua_call(L, n, 1);
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(b, s, (size_t)(e - s));
        return;
    }
    if (!lua_isstring(L, -1))
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    luaL_addvalue(b);
}

static int host_gsub(lua_State *L)
{
    struct mj_span src = check_span(L, 1), pat = check_span(L, 2);
    int type = lua_type(L, 3);
    if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TTABLE && type != LUA_TFUNCTION)
        return luaL_error(L, "bad argument #3 to 'gsub' (string, table or function expected)");
    lua_Number max = luaL_optnumber(L, 4, (lua_Number)src.len + 1);
    /* The buffer below is large and on the C stack, and the replacement may call gsub again. */
    mj_check_stack(L);
    struct mj_pattern m;
    mj_pattern_init(&m, L, src, pat);
    const char *p = (const char *)pat.ptr, *s = m.src;
    bool anchored = pat.len && *p == '^';
    if (anchored)
        p++;
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    int count = 0;
    while (count < max) {
        m.level = 0;
        const char *e = mj_pattern_match(&m, s, p);
        if (e) {
            count++;
            add_replacement(L, &b, &m, s, e);
        }
        if (e && e > s)
            s = e;
        else if (s < m.src_end)
            luaL_addchar(&b, *s++);
        else
            break;
        if (anchored)
            break;
    }
    luaL_addlstring(&b, s, (size_t)(m.src_end - s));
    luaL_pushresult(&b);
    lua_pushinteger(L, count);
    return 2;
}

void mj_bind_pattern(lua_State *L)
{
    static const luaL_Reg host[] = {{"find", host_find},
                                    {"match", host_match},
                                    {"gmatch", host_gmatch},
                                    {"gsub", host_gsub},
                                    {NULL, NULL}};
    luaL_register(L, NULL, host);
}
