#include "script/config.h"

#include <ctype.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "script/source.h"
#include "script/vm.h"

extern const unsigned char mj_lua_config_lua[];
extern const size_t mj_lua_config_lua_len;

#define MEMORY      ((size_t)16 << 20)
#define BUDGET_NS   INT64_C(2000000000)
#define SCRIPTS_MAX 1000
#define OPTIONS_MAX 10000

/* One run of a file. What the host functions make is put here at once, never held across an error
 * of Lua's. */
struct reader {
    struct mj_config *config;
    const struct mj_option *options;
    const char *shown; /* how messages name the file */
    char *dir;         /* owned */
    struct mj_buf *notes;
    /* What script_key and set_key work on: the scripts that the last entry named. */
    size_t *named; /* owned */
    size_t named_count;
};

static struct reader *reader_of(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "moonjet.config");
    struct reader *r = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return r;
}

/* The innermost line of the file itself; 0 when there is none. */
static unsigned line_of(lua_State *L)
{
    struct reader *r = reader_of(L);
    lua_Debug at;
    for (int level = 0; lua_getstack(L, level, &at); level++) {
        lua_getinfo(L, "Sl", &at);
        if (at.currentline > 0 && at.source[0] == '@' && strcmp(at.source + 1, r->shown) == 0)
            return (unsigned)at.currentline;
    }
    return 0;
}

/* host.where(): "moonjet.lua:12: " */
static int host_where(lua_State *L)
{
    lua_pushfstring(L, "%s:%d: ", reader_of(L)->shown, (int)line_of(L));
    return 1;
}

static int refuse(lua_State *L, const char *text)
{
    lua_pushfstring(L, "%s:%d: %s", reader_of(L)->shown, (int)line_of(L), text);
    return lua_error(L);
}

/* host.quote(text) */
static int host_quote(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    luaL_addchar(&b, '"');
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        char code[8];
        if (c == '"' || c == '\\')
            snprintf(code, sizeof code, "\\%c", c);
        else if (c == '\n')
            snprintf(code, sizeof code, "\\n");
        else if (c < 0x20 || c == 0x7f)
            snprintf(code, sizeof code, "\\%03d", c);
        else
            snprintf(code, sizeof code, "%c", c);
        luaL_addstring(&b, code);
    }
    luaL_addchar(&b, '"');
    luaL_pushresult(&b);
    return 1;
}

/* host.reserved(word): cannot be a key without brackets */
static int host_reserved(lua_State *L)
{
    static const char *const words[] = {"and",   "break", "do",       "else", "elseif", "end",
                                        "false", "for",   "function", "goto", "if",     "in",
                                        "local", "nil",   "not",      "or",   "repeat", "return",
                                        "then",  "true",  "until",    "while"};
    const char *word = luaL_checkstring(L, 1);
    bool found = false;
    for (size_t i = 0; i < MJ_COUNT(words); i++)
        found |= strcmp(word, words[i]) == 0;
    lua_pushboolean(L, found);
    return 1;
}

/* host.getenv(name) */
static int host_getenv(lua_State *L)
{
    lua_pushstring(L, getenv(luaL_checkstring(L, 1)));
    return 1;
}

/* A path of the file, relative to its folder. */
static char *resolve(const struct reader *r, const char *path)
{
    struct mj_buf out = {0};
    if (*path && *path != '/' && strcmp(r->dir, ".") != 0)
        mj_buf_printf(&out, "%s/", r->dir);
    mj_buf_puts(&out, path);
    mj_buf_cstr(&out);
    return (char *)out.ptr;
}

/* host.option(name, text) */
static int host_option(lua_State *L)
{
    struct reader *r = reader_of(L);
    struct mj_config *c = r->config;
    size_t len;
    const char *name = luaL_checkstring(L, 1), *text = luaL_checklstring(L, 2, &len);
    const struct mj_option *o = r->options;
    while (o->name && strcmp(o->name, name) != 0)
        o++;
    if (!o->name)
        return refuse(L, "an option that does not exist");
    if (strlen(text) != len)
        return refuse(L, "a text with a NUL byte in it");
    unsigned line = line_of(L);
    for (size_t i = 0; o->type != MJ_OPT_LIST && i < c->option_count; i++)
        if (c->options[i].option == o) {
            lua_pushfstring(L, "%s.%s is set twice (before in line %d)", o->group,
                            o->key ? o->key : o->name, (int)c->options[i].line);
            return refuse(L, lua_tostring(L, -1));
        }
    if (c->option_count == OPTIONS_MAX)
        return refuse(L, "too many options");
    c->options = mj_realloc(c->options, (c->option_count + 1) * sizeof *c->options);
    c->options[c->option_count++] = (struct mj_config_option){
        .option = o, .value = o->path ? resolve(r, text) : mj_strdup(text), .line = line};
    return 0;
}

static bool is_spec(const char *path)
{
    size_t n = strlen(path), m = strlen("_spec.lua");
    return n > m && strcmp(path + n - m, "_spec.lua") == 0;
}

static size_t find_script(const struct mj_config *c, const char *path)
{
    char a[PATH_MAX], b[PATH_MAX];
    bool real = realpath(path, a);
    size_t i = 0;
    for (; i < c->script_count; i++) {
        if (strcmp(c->scripts[i]->path, path) == 0)
            break;
        if (real && realpath(c->scripts[i]->path, b) && strcmp(a, b) == 0)
            break;
    }
    return i;
}

/* Index of the script, which is added when it is new. */
static size_t put_script(struct mj_config *c, const char *path, unsigned line)
{
    size_t i = find_script(c, path);
    if (i < c->script_count)
        return i;
    struct mj_config_script *s = mj_calloc(1, sizeof *s);
    s->path = mj_strdup(path);
    s->line = line;
    c->scripts = mj_realloc(c->scripts, (i + 1) * sizeof s);
    c->scripts[i] = s;
    return c->script_count++;
}

struct mj_config_script *mj_config_script(struct mj_config *c, const char *path)
{
    size_t i = put_script(c, path, 0); /* may move the array */
    return c->scripts[i];
}

/* The path for glob(): of the folder's name, which nobody has written here, each sign is itself. */
static char *as_pattern(const char *path, const char *given)
{
    struct mj_buf out = {0};
    size_t dir = strlen(path) - strlen(given);
    for (size_t i = 0; i < dir; i++) {
        if (strchr("*?[\\", path[i]))
            mj_buf_putc(&out, '\\');
        mj_buf_putc(&out, path[i]);
    }
    mj_buf_puts(&out, given);
    mj_buf_cstr(&out);
    return (char *)out.ptr;
}

/* host.script(pattern) */
static int host_script(lua_State *L)
{
    struct reader *r = reader_of(L);
    struct mj_config *c = r->config;
    unsigned line = line_of(L);
    size_t len;
    const char *given = luaL_checklstring(L, 1, &len);
    if (strlen(given) != len)
        return refuse(L, "a path with a NUL byte in it");
    char *plain MJ_AUTO_FREE = resolve(r, given);
    char *pattern MJ_AUTO_FREE = as_pattern(plain, given);
    bool wild = strpbrk(given, "*?[");
    glob_t found = {0};
    r->named_count = 0;
    bool full = false;
    if (wild && glob(pattern, GLOB_ERR, NULL, &found) != 0) {
        mj_buf_printf(r->notes, "%s:%u: no script matches %s\n", r->shown, line, given);
    }
    size_t n = wild ? found.gl_pathc : 1;
    r->named = mj_realloc(r->named, (n + 1) * sizeof *r->named);
    for (size_t i = 0; i < n && !full; i++) {
        const char *path = wild ? found.gl_pathv[i] : plain;
        if (wild && is_spec(path))
            continue;
        full = c->script_count >= SCRIPTS_MAX;
        if (!full)
            r->named[r->named_count++] = put_script(c, path, line);
    }
    globfree(&found);
    if (full) {
        /* Raising leaves this function without its end. */
        free(plain);
        free(pattern);
        plain = pattern = NULL;
        return refuse(L, "more than 1000 scripts");
    }
    return 0;
}

static void add_text(struct mj_strings *list, const char *text)
{
    if (list->n < MJ_STRINGS_MAX)
        list->v[list->n++] = mj_strdup(text);
}

static void clear_texts(struct mj_strings *list)
{
    for (size_t i = 0; i < list->n; i++)
        free((char *)list->v[i]);
    list->n = 0;
}

/* A size or a time, read like an option's. */
static int read_value(enum mj_opt_type type, const char *text, int64_t *out, struct mj_buf *error)
{
    const struct mj_option option = {"value", type, 0, NULL, NULL};
    return mj_option_set(&option, out, text, error);
}

static int set_key(struct mj_config_script *s, const char *key, const char *text,
                   struct mj_buf *error)
{
    int64_t value = 0;
    int err = 0;
    if (strcmp(key, "config") == 0) {
        free(s->config_lua);
        s->config_lua = mj_strdup(text);
    } else if (strcmp(key, "secrets") == 0 || strcmp(key, "http_allow") == 0) {
        bool secrets = *key == 's';
        struct mj_strings *list = secrets ? &s->secrets : &s->http_allow;
        *(secrets ? &s->has_secrets : &s->has_http_allow) = true;
        if (!text)
            clear_texts(list);
        else if (list->n == MJ_STRINGS_MAX) {
            mj_buf_printf(error, "more than %d", MJ_STRINGS_MAX);
            return MJ_ELIMIT;
        } else
            add_text(list, text);
    } else if (strcmp(key, "lane") == 0) {
        s->lane = strcmp(text, "own") == 0 ? MJ_LANE_OWN : MJ_LANE_SHARED;
    } else if (strcmp(key, "lag") == 0) {
        s->lag = strcmp(text, "skip") == 0 ? MJ_LAG_SKIP : MJ_LAG_WAIT;
    } else if (strcmp(key, "on_error") == 0) {
        s->cfg.on_error = strcmp(text, "pass") == 0 ? MJ_ON_ERROR_PASS : MJ_ON_ERROR_DROP;
    } else if (strcmp(key, "memory") == 0) {
        err = read_value(MJ_OPT_SIZE, text, &value, error);
        if (!err && (value < 1 << 20 || value > INT64_C(1) << 40)) {
            mj_buf_puts(error, "expected 1M or more");
            err = MJ_ELIMIT;
        }
        s->cfg.memory = (size_t)value;
    } else {
        err = read_value(MJ_OPT_TIME, text, &value, error);
        if (!err && (value < 1000 || value > INT64_C(3600000000))) {
            mj_buf_puts(error, "expected 1ms to 1h");
            err = MJ_ELIMIT;
        }
        *(strcmp(key, "call") == 0   ? &s->cfg.call_us
          : strcmp(key, "slow") == 0 ? &s->cfg.slow_us
                                     : &s->cfg.declare_us) = value;
    }
    return err;
}

/* Raises with the file's line; takes what the buffer holds to Lua first, since raising leaves. */
static int refuse_buf(lua_State *L, const char *what, struct mj_buf *why)
{
    char text[300];
    snprintf(text, sizeof text, "%s: %s", what, mj_buf_cstr(why));
    mj_buf_deinit(why);
    return refuse(L, text);
}

/* host.script_key(key, text): for all scripts of the last entry; text nil empties a list */
static int host_script_key(lua_State *L)
{
    struct reader *r = reader_of(L);
    size_t len = 0;
    const char *key = luaL_checkstring(L, 1), *text = lua_tolstring(L, 2, &len);
    if (text && strlen(text) != len)
        return refuse(L, "a text with a NUL byte in it");
    for (size_t i = 0; i < r->named_count; i++) {
        struct mj_buf error = {0};
        if (set_key(r->config->scripts[r->named[i]], key, text, &error)) {
            char what[200];
            snprintf(what, sizeof what, "script.%s = \"%s\"", key, text ? text : "");
            return refuse_buf(L, what, &error);
        }
    }
    return 0;
}

/* host.set(name) */
static int host_set(lua_State *L)
{
    struct mj_config *c = reader_of(L)->config;
    const char *name = luaL_checkstring(L, 1);
    unsigned line = line_of(L);
    for (size_t i = 0; i < c->set_count; i++)
        if (strcmp(c->sets[i].name, name) == 0) {
            lua_pushfstring(L, "set \"%s\" is there twice (before in line %d)", name,
                            (int)c->sets[i].line);
            return refuse(L, lua_tostring(L, -1));
        }
    if (c->set_count == SCRIPTS_MAX)
        return refuse(L, "more than 1000 sets");
    c->sets = mj_realloc(c->sets, (c->set_count + 1) * sizeof *c->sets);
    c->sets[c->set_count++] = (struct mj_config_set){.name = mj_strdup(name), .line = line};
    return 0;
}

/* host.set_key(key, text): of the last set */
static int host_set_key(lua_State *L)
{
    struct reader *r = reader_of(L);
    struct mj_config_set *set = &r->config->sets[r->config->set_count - 1];
    size_t len = 0;
    const char *key = luaL_checkstring(L, 1), *text = lua_tolstring(L, 2, &len);
    if (text && strlen(text) != len)
        return refuse(L, "a text with a NUL byte in it");
    if (strcmp(key, "file") == 0) {
        free(set->file);
        set->file = resolve(r, text);
    } else if (text) {
        set->members = mj_realloc(set->members, (set->member_count + 1) * sizeof *set->members);
        set->members[set->member_count++] = mj_strdup(text);
    }
    return 0;
}

static const char *type_name(enum mj_opt_type type)
{
    switch (type) {
    case MJ_OPT_FLAG:
        return "flag";
    case MJ_OPT_INT:
        return "int";
    case MJ_OPT_SIZE:
        return "size";
    case MJ_OPT_TIME:
        return "time";
    case MJ_OPT_LIST:
        return "list";
    case MJ_OPT_STR:
        break;
    }
    return "string";
}

static void push_key(lua_State *L, const struct mj_option *o)
{
    char key[64];
    snprintf(key, sizeof key, "%s", o->key ? o->key : o->name);
    for (char *c = key; !o->key && *c; c++)
        if (*c == '-')
            *c = '_';
    lua_pushstring(L, key);
}

/* groups[group][key] = { name =, type =, shape = } */
static void push_groups(lua_State *L, const struct mj_option *options)
{
    lua_newtable(L);
    for (const struct mj_option *o = options; o->name; o++) {
        if (!o->group)
            continue;
        lua_getfield(L, -1, o->group);
        if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            lua_newtable(L);
            lua_pushvalue(L, -1);
            lua_setfield(L, -3, o->group);
        }
        push_key(L, o);
        lua_createtable(L, 0, 3);
        lua_pushstring(L, o->name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, type_name(o->type));
        lua_setfield(L, -2, "type");
        lua_pushstring(L, mj_option_shape(o));
        lua_setfield(L, -2, "shape");
        lua_rawset(L, -3);
        lua_pop(L, 1);
    }
}

/* host.closest(word, table) of lua/sandbox.lua's, for this file's own host. */
static int host_closest(lua_State *L)
{
    const char *names[64];
    size_t n = 0;
    const char *word = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, 2)) {
        if (lua_type(L, -2) == LUA_TSTRING && n < MJ_COUNT(names))
            names[n++] = lua_tostring(L, -2);
        lua_pop(L, 1);
    }
    lua_pushstring(L, mj_closest(word, names, n));
    return 1;
}

/* Leaves the environment that the file runs in. */
static int make_environment(lua_State *L)
{
    static const luaL_Reg host[] = {{"where", host_where},
                                    {"quote", host_quote},
                                    {"reserved", host_reserved},
                                    {"getenv", host_getenv},
                                    {"option", host_option},
                                    {"script", host_script},
                                    {"script_key", host_script_key},
                                    {"set", host_set},
                                    {"set_key", host_set_key},
                                    {"closest", host_closest},
                                    {NULL, NULL}};
    struct reader *r = lua_touserdata(L, 1);
    lua_pushlightuserdata(L, r);
    lua_setfield(L, LUA_REGISTRYINDEX, "moonjet.config");
    if (luaL_loadbufferx(L, (const char *)mj_lua_config_lua, mj_lua_config_lua_len, "=moonjet",
                         "t"))
        lua_error(L);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    lua_newtable(L);
    luaL_register(L, NULL, host);
    push_groups(L, r->options);
    lua_call(L, 3, 1);
    lua_replace(L, LUA_GLOBALSINDEX);
    return 0;
}

static int run(struct mj_vm *vm, struct reader *r, const char *path, struct mj_buf *error)
{
    lua_State *L = vm->L;
    int64_t ns;
    int status = lua_cpcall(L, make_environment, r);
    if (!status)
        status = mj_load_source(L, path, r->shown);
    int err = status == LUA_ERRFILE ? MJ_EIO : MJ_EINVAL;
    if (!status)
        status = mj_vm_call(vm, MJ_CONTEXT_DECLARE, 0, 0, BUDGET_NS, &ns);
    if (!status)
        return 0;
    const char *text = lua_tostring(L, -1);
    if (!text || !strstr(text, r->shown))
        mj_buf_printf(error, "%s: ", r->shown);
    mj_buf_puts(error, text ? text : "an error that is no text");
    return err;
}

static void finish(struct mj_config *c)
{
    for (size_t i = 0; i < c->script_count; i++) {
        struct mj_config_script *s = c->scripts[i];
        s->cfg.config_lua = s->config_lua;
    }
}

int mj_config_load(const char *path, const struct mj_option *options, struct mj_config *out,
                   struct mj_buf *notes, struct mj_buf *error)
{
    *out = (struct mj_config){.path = mj_strdup(path)};
    const char *slash = strrchr(path, '/');
    struct reader r = {.config = out,
                       .options = options,
                       .shown = slash ? slash + 1 : path,
                       .notes = notes,
                       .dir = slash == path ? mj_strdup("/")
                              : slash       ? mj_span_dup(mj_span(path, (size_t)(slash - path)))
                                            : mj_strdup(".")};
    struct mj_guard *guard = mj_guard_new();
    struct mj_vm *vm = mj_vm_new(r.shown, MEMORY, guard, error);
    int err = vm ? run(vm, &r, path, error) : MJ_ENOMEM;
    mj_vm_free(vm);
    mj_guard_free(guard);
    free(r.dir);
    free(r.named);
    if (err)
        mj_config_deinit(out);
    else
        finish(out);
    return err;
}

void mj_config_deinit(struct mj_config *c)
{
    for (size_t i = 0; i < c->option_count; i++)
        free(c->options[i].value);
    for (size_t i = 0; i < c->script_count; i++) {
        struct mj_config_script *s = c->scripts[i];
        clear_texts(&s->secrets);
        clear_texts(&s->http_allow);
        free(s->config_lua);
        free(s->path);
        free(s);
    }
    for (size_t i = 0; i < c->set_count; i++) {
        for (size_t k = 0; k < c->sets[i].member_count; k++)
            free(c->sets[i].members[k]);
        free(c->sets[i].members);
        free(c->sets[i].name);
        free(c->sets[i].file);
    }
    free(c->options);
    free(c->scripts);
    free(c->sets);
    free(c->path);
    *c = (struct mj_config){0};
}
