/* What lua/moonjet/richtext.lua and bot.lua leave to C: graphemes, facets and cuts of texts, and
 * what an image is. Offsets are bytes from 0, ends exclusive, as in facets. */
#include "atproto/html.h"
#include "atproto/richtext.h"
#include "atproto/utf8.h"
#include "base/image.h"
#include "script/bind.h"

#define TEXT_MAX      ((size_t)1 << 20) /* one call may take that much, and is not interrupted */
#define PAGE_MAX      ((size_t)1 << 20)
#define METAS_MAX     200
#define META_TEXT_MAX 2000 /* bytes */

static struct mj_span check_text(lua_State *L)
{
    size_t len;
    const char *s = luaL_checklstring(L, 1, &len);
    if (len > TEXT_MAX)
        luaL_error(L, "the text is larger than 1 MiB");
    return mj_span(s, len);
}

/* The number at the index, as an offset into the text. */
static size_t check_offset(lua_State *L, int index, struct mj_span text)
{
    lua_Number n = luaL_checknumber(L, index);
    return n >= 0 && n <= (lua_Number)text.len ? (size_t)n : n > 0 ? text.len : 0;
}

/* jet.graphemes(text) */
static int jet_graphemes(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)mj_graphemes(check_text(L)));
    return 1;
}

/* host.bad_utf8(text): the first byte, from 1, that is no UTF-8; nil when there is none */
static int host_bad_utf8(lua_State *L)
{
    struct mj_span text = check_text(L);
    for (size_t at = 0; at < text.len;) {
        unsigned len = mj_utf8_len(text.ptr + at, text.ptr + text.len);
        if (!len) {
            lua_pushnumber(L, (lua_Number)at + 1);
            return 1;
        }
        at += len;
    }
    return 0;
}

/* host.facets(text): a list of { from =, to =, kind =, value =, bare = } */
static int host_facets(lua_State *L)
{
    static const char *const kinds[] = {
        [MJ_FACET_MENTION] = "mention",
        [MJ_FACET_LINK] = "link",
        [MJ_FACET_TAG] = "tag",
        [MJ_FACET_CASHTAG] = "cashtag",
    };
    struct mj_facets walk;
    struct mj_facet f;
    int n = 0;
    mj_facets_init(&walk, check_text(L));
    lua_newtable(L);
    while (mj_facets_next(&walk, &f)) {
        lua_createtable(L, 0, 5);
        lua_pushnumber(L, (lua_Number)f.start);
        lua_setfield(L, -2, "from");
        lua_pushnumber(L, (lua_Number)f.end);
        lua_setfield(L, -2, "to");
        lua_pushstring(L, kinds[f.kind]);
        lua_setfield(L, -2, "kind");
        lua_pushlstring(L, (const char *)f.value.ptr, f.value.len);
        lua_setfield(L, -2, "value");
        lua_pushboolean(L, f.bare);
        lua_setfield(L, -2, "bare");
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

/* host.fit(text, from, graphemes, bytes): where the longest part from there ends that has at most
 * so many of each */
static int host_fit(lua_State *L)
{
    struct mj_span text = check_text(L);
    size_t from = check_offset(L, 2, text);
    lua_Number graphemes = luaL_checknumber(L, 3), bytes = luaL_checknumber(L, 4);
    struct mj_span rest = mj_span(text.ptr + from, text.len - from);
    size_t fits = mj_graphemes_fit(rest, graphemes > 0 ? (size_t)graphemes : 0,
                                   bytes > 0 ? (size_t)bytes : 0);
    lua_pushnumber(L, (lua_Number)(from + fits));
    return 1;
}

/* host.word_end(text, from, to): the last end of a word in the part, which ends before white space
 * or with the text; `from` when there is none */
static int host_word_end(lua_State *L)
{
    struct mj_span text = check_text(L);
    size_t from = check_offset(L, 2, text), to = check_offset(L, 3, text);
    struct mj_span rest = mj_span(text.ptr + from, text.len - from);
    lua_pushnumber(L, (lua_Number)(from + mj_word_end(rest, to > from ? to - from : 0)));
    return 1;
}

/* host.trim(text, from, to): the part without the white space around it */
static int host_trim(lua_State *L)
{
    struct mj_span text = check_text(L);
    size_t from = check_offset(L, 2, text), to = check_offset(L, 3, text);
    struct mj_span part = mj_span(text.ptr + from, to > from ? to - from : 0);
    size_t before = mj_space_before(part);
    part = mj_span(part.ptr + before, part.len - before);
    lua_pushnumber(L, (lua_Number)(from + before));
    lua_pushnumber(L, (lua_Number)(from + before + part.len - mj_space_after(part)));
    return 2;
}

/* host.image(bytes): media type, width, height; nil when it is none that is known */
static int host_image(lua_State *L)
{
    struct mj_image image;
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    if (!mj_image_read(mj_span(bytes, len), &image))
        return 0;
    lua_pushstring(L, image.type);
    lua_pushnumber(L, (lua_Number)image.width);
    lua_pushnumber(L, (lua_Number)image.height);
    return 3;
}

/* host.page_head(html): what its metas say by name, the first of each, at most so many: a table */
static int host_page_head(lua_State *L)
{
    struct mj_buf *text = &mj_vm_of(L)->scratch;
    size_t len;
    const char *page = luaL_checklstring(L, 1, &len);
    struct mj_html walk = {.page = mj_span(page, len < PAGE_MAX ? len : PAGE_MAX)};
    struct mj_meta meta;
    lua_newtable(L);
    for (int n = 0; n < METAS_MAX && mj_html_next(&walk, &meta); n++) {
        lua_pushlstring(L, (const char *)meta.name.ptr, meta.name.len < 64 ? meta.name.len : 64);
        lua_pushvalue(L, -1);
        lua_rawget(L, 2);
        if (lua_isnil(L, -1)) {
            text->len = 0;
            mj_html_text(meta.content, META_TEXT_MAX, text);
            lua_pop(L, 1);
            lua_pushlstring(L, (const char *)text->ptr, text->len);
            lua_rawset(L, 2);
        }
        lua_settop(L, 2);
    }
    return 1;
}

void mj_bind_text_host(lua_State *L)
{
    static const luaL_Reg host[] = {{"bad_utf8", host_bad_utf8},
                                    {"facets", host_facets},
                                    {"fit", host_fit},
                                    {"word_end", host_word_end},
                                    {"trim", host_trim},
                                    {"image", host_image},
                                    {"page_head", host_page_head},
                                    {NULL, NULL}};
    luaL_register(L, NULL, host);
}

void mj_bind_text(lua_State *L)
{
    lua_pushcfunction(L, jet_graphemes);
    lua_setfield(L, -2, "graphemes");
}
