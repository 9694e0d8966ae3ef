/* jet.words: a list of words for matches and for ev:contains. The userdata holds a reference to the
 * compiled list, its environment the words as they were written. */
#include "base/err.h"
#include "match/fold.h"
#include "script/bind.h"

struct mj_words *mj_lua_words(lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TUSERDATA || !mj_made_by(L, index, MJ_SLOT_WORDS))
        return NULL;
    return *(struct mj_words **)lua_touserdata(L, index);
}

void mj_show_words(lua_State *L, int index, size_t max, struct mj_buf *out)
{
    lua_getfenv(L, index);
    size_t n = lua_objlen(L, -1), shown = n > max + 1 ? max : n;
    mj_buf_puts(out, "words {");
    for (size_t i = 1; i <= shown; i++) {
        size_t len;
        lua_rawgeti(L, -1, (int)i);
        const char *word = lua_tolstring(L, -1, &len);
        if (i > 1)
            mj_buf_puts(out, ", ");
        mj_buf_put_json(out, mj_span(word, len));
        lua_pop(L, 1);
    }
    if (shown < n)
        mj_buf_printf(out, ", … and %zu more", n - shown);
    mj_buf_putc(out, '}');
    lua_pop(L, 1);
}

/* jet.words(list) */
static int jet_words(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    mj_need_declare(L, "jet.words");
    if (lua_type(L, 1) == LUA_TSTRING) { /* one word is a list of one */
        lua_newtable(L);
        lua_pushvalue(L, 1);
        lua_rawseti(L, -2, 1);
        lua_replace(L, 1);
    }
    if (lua_type(L, 1) != LUA_TTABLE)
        return luaL_error(L, "jet.words wants a list of words, not %s", luaL_typename(L, 1));
    size_t n = lua_objlen(L, 1);
    if (!n)
        return luaL_error(L, "the list for jet.words is empty, so nothing could match");
    if (n > MJ_WORDS_MAX)
        return luaL_error(L, "jet.words takes at most %d words", (int)MJ_WORDS_MAX);
    lua_settop(L, 1);
    /* The userdata first: from then on whatever is raised leaves the list to the collector. */
    struct mj_words **ud = lua_newuserdata(L, sizeof *ud);
    *ud = NULL;
    mj_vm_push_slot(L, MJ_SLOT_WORDS);
    lua_setmetatable(L, 2);
    lua_createtable(L, (int)n, 0);
    *ud = mj_words_new();
    for (size_t i = 1; i <= n; i++) {
        lua_rawgeti(L, 1, (int)i);
        if (lua_type(L, -1) != LUA_TSTRING)
            return luaL_error(L, "item %d of jet.words is no text but %s", (int)i,
                              luaL_typename(L, -1));
        size_t len;
        const char *word = lua_tolstring(L, -1, &len);
        vm->scratch.len = 0;
        if (mj_words_add(*ud, mj_span(word, len), &vm->scratch))
            return luaL_error(L, "%s", mj_buf_cstr(&vm->scratch));
        lua_rawseti(L, 3, (int)i);
    }
    if (mj_words_bytes(*ud) > MJ_WORDS_BYTES)
        return luaL_error(L, "the words for jet.words take more than %d MiB",
                          (int)(MJ_WORDS_BYTES >> 20));
    lua_setfenv(L, 2);
    return 1;
}

static int words_gc(lua_State *L)
{
    struct mj_words **ud = lua_touserdata(L, 1);
    mj_words_unref(*ud);
    *ud = NULL;
    return 0;
}

/* #words */
static int words_len(lua_State *L)
{
    lua_getfenv(L, 1);
    lua_pushinteger(L, (lua_Integer)lua_objlen(L, -1));
    return 1;
}

static int words_tostring(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    vm->scratch.len = 0;
    mj_show_words(L, 1, 3, &vm->scratch);
    lua_pushlstring(L, (const char *)vm->scratch.ptr, vm->scratch.len);
    return 1;
}

int mj_push_contained(lua_State *L, int index, struct mj_span text)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_words *words = mj_lua_words(L, index), *own = NULL;
    size_t len;
    vm->scratch.len = 0;
    if (!words) {
        if (lua_type(L, index) != LUA_TSTRING)
            return luaL_error(L, "contains wants jet.words or a text, not %s",
                              luaL_typename(L, index));
        const char *word = lua_tolstring(L, index, &len);
        words = own = mj_words_new();
        if (mj_words_add(own, mj_span(word, len), &vm->scratch)) {
            mj_words_unref(own);
            return luaL_error(L, "%s", mj_buf_cstr(&vm->scratch));
        }
    }
    mj_fold_tokens(text, &vm->scratch);
    int found = text.len ? mj_words_find(words, mj_buf_span(&vm->scratch)) : MJ_ENOENT;
    if (own)
        mj_words_unref(own);
    if (found < 0) {
        lua_pushboolean(L, 0);
    } else if (own) {
        lua_pushvalue(L, index);
    } else {
        lua_getfenv(L, index);
        lua_rawgeti(L, -1, found + 1);
    }
    return 1;
}

void mj_bind_words(lua_State *L)
{
    lua_pushcfunction(L, jet_words);
    lua_setfield(L, -2, "words");
    mj_vm_push_slot(L, MJ_SLOT_WORDS);
    lua_pushcfunction(L, words_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, words_len);
    lua_setfield(L, -2, "__len");
    lua_pushcfunction(L, words_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "words");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
