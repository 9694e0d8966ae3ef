#include "script/repl.h"

#include <stdatomic.h>
#include <stdio.h>

#include "base/err.h"
#include "script/bed.h"
#include "script/bind.h"
#include "script/repl_names.h"
#include "script/scripts.h"
#include "script/secrets.h"

#define EVAL_NS INT64_C(5000000000) /* of what is typed into a session of its own */
#define CALL_NS INT64_C(50000000)   /* of one call of a function given to try or find */

extern const unsigned char mj_lua_pretty_lua[], mj_lua_repl_lua[];
extern const size_t mj_lua_pretty_lua_len, mj_lua_repl_lua_len;

struct mj_repl {
    struct mj_bed *bed; /* owned; NULL without a script */
    /* Without a script; else borrowed from the bed. */
    struct mj_guard *guard;
    struct mj_vm *vm;
    struct mj_facts *facts;  /* owned: of the event in hand, for matches */
    struct mj_kept **events; /* owned */
    size_t count, at;
    unsigned sends; /* events to send when the line is done */
    _Atomic bool interrupted;
};

/* What the functions at the prompt belong to; lives in the VM. */
struct session {
    struct mj_buf *out;   /* borrowed, while a line runs */
    struct mj_repl *repl; /* borrowed; NULL in a live process */
    bool cut;             /* the output was too long */
};

static struct session *session_of(lua_State *L) { return lua_touserdata(L, lua_upvalueindex(1)); }

/* ---- functions for lua/repl.lua ---- */

static int host_write(lua_State *L)
{
    struct session *s = session_of(L);
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    if (!s->out || s->cut)
        return 0;
    s->cut = s->out->len + len > MJ_REPL_TEXT_MAX;
    if (s->cut)
        mj_buf_puts(s->out, "… (more than can be shown)\n");
    else
        mj_buf_put(s->out, text, len);
    return 0;
}

static struct mj_repl *check_events(lua_State *L)
{
    struct mj_repl *r = session_of(L)->repl;
    if (!r || !r->count)
        luaL_error(L, "there are no events here: start with --events FILE");
    return r;
}

/* The event in hand is that one from now on; parts of the one before are stale. */
static void set_event(struct mj_repl *r, size_t at)
{
    r->at = at;
    r->vm->ev = &r->events[at]->ev;
    r->vm->generation++;
    mj_facts_begin(r->facts, r->vm->ev);
}

static int host_position(lua_State *L)
{
    struct mj_repl *r = check_events(L);
    lua_pushinteger(L, (lua_Integer)r->at + 1);
    lua_pushinteger(L, (lua_Integer)r->count);
    return 2;
}

/* host.move(n) */
static int host_move(lua_State *L)
{
    struct mj_repl *r = check_events(L);
    lua_Number to = (lua_Number)r->at + luaL_checknumber(L, 1);
    if (!(to >= 0))
        return luaL_error(L, "the first event is in hand");
    if (to >= (lua_Number)r->count)
        return luaL_error(L, "the last event is in hand");
    set_event(r, (size_t)to);
    return 0;
}

static int free_match(lua_State *L)
{
    mj_match_free(*(struct mj_match **)lua_touserdata(L, 1));
    return 0;
}

/* Never raises. The reason why it cannot be, or "". */
static void compile_match(lua_State *L, int index, struct mj_match **match, char *why, size_t cap)
{
    MJ_AUTO_BUF shown = {0};
    MJ_AUTO_BUF error = {0};
    *why = 0;
    if (!mj_match_from_lua(L, index, match, &shown, &error))
        return;
    *match = NULL;
    snprintf(why, cap, "%s", mj_buf_cstr(&error));
}

/* Replaces the match at the index by a userdata that owns it compiled. */
static struct mj_match *take_match(lua_State *L, int index)
{
    char why[300];
    struct mj_match **slot = lua_newuserdata(L, sizeof *slot);
    *slot = NULL;
    lua_newtable(L);
    lua_pushcfunction(L, free_match);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    compile_match(L, index, slot, why, sizeof why);
    if (!*slot)
        luaL_error(L, "%s", why);
    lua_replace(L, index);
    return *slot;
}

/* Calls the function at `index` on the event in hand. 1 yes, 0 no, -1 error, which is at the top.
 */
static int ask(lua_State *L, struct mj_repl *r, int index)
{
    struct mj_vm *vm = r->vm;
    lua_pushvalue(L, index);
    mj_vm_push_slot(L, MJ_SLOT_EVENT);
    mj_guard_leave(vm->guard, L);
    mj_guard_enter(vm->guard, L, mj_guard_now(), CALL_NS);
    int status = lua_pcall(L, 1, 1, 0);
    bool stopped = mj_guard_leave(vm->guard, L);
    mj_guard_enter(vm->guard, L, mj_guard_now(), EVAL_NS);
    if (status || stopped)
        return -1;
    int yes = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return yes;
}

/* host.find(function or match): the next event like that is in hand; false when there is none */
static int host_find(lua_State *L)
{
    struct mj_repl *r = check_events(L);
    size_t before = r->at;
    lua_settop(L, 1);
    const struct mj_match *match = lua_isfunction(L, 1) ? NULL : take_match(L, 1);
    for (size_t i = before + 1; i < r->count && !r->interrupted; i++) {
        set_event(r, i);
        int yes = match ? mj_match_eval(match, r->facts) : ask(L, r, 1);
        if (yes < 0) /* at the event that it failed on */
            return lua_error(L);
        if (yes) {
            lua_pushboolean(L, 1);
            return 1;
        }
    }
    set_event(r, before);
    lua_pushboolean(L, 0);
    return 1;
}

/* host.try(match or nil, function or nil, show): how many events there are, how many pass, how many
 * end in an error, the first error */
static int host_try(lua_State *L)
{
    struct mj_repl *r = check_events(L);
    size_t before = r->at, passed = 0, errors = 0;
    lua_settop(L, 3);
    const struct mj_match *match = lua_isnil(L, 1) ? NULL : take_match(L, 1);
    if (!lua_isnil(L, 2))
        luaL_checktype(L, 2, LUA_TFUNCTION);
    bool show = true;
    size_t i = 0;
    lua_pushnil(L); /* 4: the first error */
    for (; i < r->count && !r->interrupted; i++) {
        set_event(r, i);
        if (match && !mj_match_eval(match, r->facts))
            continue;
        int yes = lua_isnil(L, 2) ? 1 : ask(L, r, 2);
        if (yes < 0) {
            if (!errors++)
                lua_replace(L, 4);
            lua_settop(L, 4);
            continue;
        }
        passed += yes > 0;
        if (yes && show) {
            lua_pushvalue(L, 3);
            lua_call(L, 0, 1);
            show = lua_toboolean(L, -1);
            lua_pop(L, 1);
        }
    }
    set_event(r, before);
    lua_pushnumber(L, (lua_Number)i);
    lua_pushnumber(L, (lua_Number)passed);
    lua_pushnumber(L, (lua_Number)errors);
    lua_pushvalue(L, 4);
    return 4;
}

/* host.send(): the event in hand goes through the flows once the line is done */
static int host_send(lua_State *L)
{
    struct mj_repl *r = check_events(L);
    if (!r->bed)
        return luaL_error(L, "there is no script here: moonjet repl SCRIPT --events FILE");
    r->sends++;
    return 0;
}

/* ---- one line ---- */

struct line {
    struct mj_vm *vm;
    struct mj_repl *repl;
    struct mj_span code;
    struct mj_buf *out;
    int64_t budget;
    bool complete; /* code is a text to complete */
    void (*word)(void *ctx, const char *word);
    void *ctx;
    int result;
};

static void load_embedded(lua_State *L, const unsigned char *text, size_t len)
{
    if (luaL_loadbufferx(L, (const char *)text, len, "=moonjet", "t"))
        lua_error(L);
}

/* Makes the VM's session: the functions of lua/repl.lua and what they are about. */
static void open_session(lua_State *L, struct mj_repl *repl)
{
    static const luaL_Reg host[] = {{"write", host_write},
                                    {"plain", mj_lua_plain},
                                    {"locals", mj__repl_locals},
                                    {"get_local", mj__repl_get_local},
                                    {"set_local", mj__repl_set_local},
                                    {"keys", mj__repl_keys},
                                    {"position", host_position},
                                    {"move", host_move},
                                    {"find", host_find},
                                    {"try", host_try},
                                    {"send", host_send},
                                    {NULL, NULL}};
    struct session *s = lua_newuserdata(L, sizeof *s);
    *s = (struct session){.repl = repl};
    int session = lua_gettop(L);
    lua_newtable(L);
    int at = session + 1;
    for (size_t i = 0; host[i].name; i++) {
        lua_pushvalue(L, session);
        lua_pushcclosure(L, host[i].func, 1);
        lua_setfield(L, at, host[i].name);
    }
    mj_vm_push_slot(L, MJ_SLOT_EVENT);
    lua_setfield(L, at, "event");
    lua_pushboolean(L, repl && repl->count);
    lua_setfield(L, at, "has_events");
    load_embedded(L, mj_lua_pretty_lua, mj_lua_pretty_lua_len);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    lua_pushvalue(L, at);
    lua_call(L, 2, 1);
    lua_setfield(L, at, "pretty");
    load_embedded(L, mj_lua_repl_lua, mj_lua_repl_lua_len);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    lua_pushvalue(L, at);
    lua_call(L, 2, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "moonjet.repl");
    lua_pushvalue(L, session);
    lua_setfield(L, LUA_REGISTRYINDEX, "moonjet.session");
    lua_settop(L, session - 1);
}

static void tell_words(lua_State *L, struct line *line)
{
    for (int i = 1; line->complete && lua_istable(L, -1); i++) {
        lua_rawgeti(L, -1, i);
        const char *word = lua_tostring(L, -1);
        if (word)
            line->word(line->ctx, word);
        lua_pop(L, 1);
        if (!word)
            break;
    }
}

static int run_line(lua_State *L)
{
    struct line *line = lua_touserdata(L, 1);
    struct mj_vm *vm = line->vm;
    lua_getfield(L, LUA_REGISTRYINDEX, "moonjet.session");
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        open_session(L, line->repl);
        lua_getfield(L, LUA_REGISTRYINDEX, "moonjet.session");
    }
    struct session *s = lua_touserdata(L, -1);
    s->cut = false;
    lua_getfield(L, LUA_REGISTRYINDEX, "moonjet.repl");
    lua_getfield(L, -1, line->complete ? "complete" : "run");
    lua_pushlstring(L, (const char *)line->code.ptr, line->code.len);

    const struct mj_event *ev = NULL;
    if (line->repl && line->repl->count)
        ev = &line->repl->events[line->repl->at]->ev;
    struct mj_script *script = vm->script;
    int64_t ns;
    vm->ev = ev;
    vm->generation++;
    vm->script = NULL;  /* being stopped is no strike of the script's */
    s->out = line->out; /* only while nothing can raise past us */
    int status = mj_vm_call(vm, MJ_CONTEXT_SYNC, 1, 1, line->budget, &ns);
    vm->script = script;
    vm->ev = NULL;
    s->out = NULL;
    if (status && line->repl && line->repl->interrupted) {
        mj_buf_puts(line->out, "stopped\n");
        line->result = MJ_EINVAL;
    } else if (status) {
        const char *text = lua_tostring(L, -1);
        mj_buf_printf(line->out, "%s\n", text ? text : "an error that is no text");
        line->result = MJ_EINVAL;
    } else if (line->complete) {
        tell_words(L, line);
    } else {
        line->result = lua_toboolean(L, -1) ? MJ_ETRUNC : 0;
    }
    return 0;
}

/* What a script was given in confidence is not shown here either. */
static void hide_secrets(struct line *line, size_t from)
{
    MJ_AUTO_BUF hidden = {0};
    struct mj_span said = mj_span(line->out->ptr + from, line->out->len - from);
    struct mj_span shown = mj_secrets_hide(line->vm->secrets, said, &hidden);
    if (shown.ptr == said.ptr)
        return;
    line->out->len = from;
    mj_buf_put(line->out, shown.ptr, shown.len);
}

static int eval(struct line *line)
{
    size_t from = line->out->len;
    /* What the line before has left must not cost this one the memory to begin. */
    mj__vm_relieve(line->vm, mj_guard_now());
    if (lua_cpcall(line->vm->L, run_line, line)) {
        const char *text = lua_tostring(line->vm->L, -1);
        mj_buf_printf(line->out, "%s\n", text ? text : "out of memory");
        line->result = MJ_EINVAL;
        line->vm->ev = NULL;
    }
    lua_settop(line->vm->L, 0);
    hide_secrets(line, from);
    return line->result;
}

static bool is_named(const char *script, const char *name)
{
    size_t len = strlen(name);
    return strncmp(script, name, len) == 0 && (!script[len] || strcmp(script + len, ".lua") == 0);
}

int mj_scripts_eval(struct mj_scripts *s, const char *script, struct mj_span code,
                    struct mj_buf *out)
{
    for (size_t i = 0; i < s->count; i++) {
        struct mj_vm *vm = s->scripts[i]->vm;
        if (script && !is_named(vm->graph->script, script))
            continue;
        struct line line = {.vm = vm, .code = code, .out = out, .budget = vm->call_ns};
        int result = eval(&line);
        if (result == MJ_ETRUNC)
            mj_buf_puts(out, "the code goes on: its end is missing\n");
        return result;
    }
    mj_buf_printf(out, "no script%s%s is running\n", script ? " named " : "", script ? script : "");
    return MJ_ENOENT;
}

/* ---- a session of its own ---- */

struct mj_repl *mj_repl_new(const char *path, const struct mj_script_cfg *cfg,
                            struct mj_kept **events, size_t count, struct mj_buf *error)
{
    struct mj_repl *r = mj_calloc(1, sizeof *r);
    r->facts = mj_facts_new();
    r->events = events;
    r->count = count;
    if (path) {
        const char *slash = strrchr(path, '/');
        r->bed = mj_bed_new(path, slash ? slash + 1 : path, cfg, false, error);
        if (r->bed)
            r->vm = mj_bed_scripts(r->bed)->scripts[0]->vm;
    } else {
        r->guard = mj_guard_new();
        r->vm =
            mj_vm_new("repl", cfg && cfg->memory ? cfg->memory : (size_t)64 << 20, r->guard, error);
    }
    if (r->vm)
        return r;
    mj_repl_free(r);
    return NULL;
}

void mj_repl_free(struct mj_repl *r)
{
    if (!r)
        return;
    if (r->bed)
        mj_bed_free(r->bed);
    else
        mj_vm_free(r->vm);
    mj_guard_free(r->guard);
    mj_facts_free(r->facts);
    for (size_t i = 0; i < r->count; i++)
        mj_kept_unref(r->events[i]);
    free(r->events);
    free(r);
}

static void tell_outputs(struct mj_repl *r, const char *stream, const struct mj_event *sent,
                         struct mj_buf *out)
{
    const struct mj_output *o;
    while ((o = mj_bed_take(r->bed, stream))) {
        bool edited = !mj_span_eq(o->event->ev.record, sent->record);
        if (stream)
            mj_buf_printf(out, "→ %s%s\n", stream, edited ? ", edited" : "");
        for (unsigned i = 0; !stream && i < o->prints; i++)
            mj_buf_printf(out, "→ printed%s\n", edited ? ", edited" : "");
    }
}

static void send_event(struct mj_repl *r, struct mj_buf *out)
{
    struct mj_event ev = r->events[r->at]->ev;
    const struct mj_logged *l;
    const char *stream;
    size_t before = out->len;
    int err = mj_bed_send(r->bed, &ev);
    if (err)
        mj_buf_printf(out, "not sent: %s\n", mj_strerror(err));
    for (size_t i = 0; (stream = mj_bed_stream(r->bed, i)); i++)
        tell_outputs(r, stream, &ev, out);
    tell_outputs(r, NULL, &ev, out);
    if (out->len == before)
        mj_buf_puts(out, "→ nowhere\n");
    while ((l = mj_bed_log(r->bed, false)))
        mj_buf_printf(out, "%s: %s\n", mj_log_level_name(l->level), l->text);
    while ((l = mj_bed_log(r->bed, true)))
        mj_buf_printf(out, "error: %s\n", l->text);
}

int mj_repl_eval(struct mj_repl *r, struct mj_span code, struct mj_buf *out)
{
    struct line line = {.vm = r->vm, .repl = r, .code = code, .out = out, .budget = EVAL_NS};
    atomic_store(&r->interrupted, false);
    r->sends = 0;
    int result = eval(&line);
    for (; r->sends; r->sends--)
        send_event(r, out);
    return result;
}

void mj_repl_interrupt(struct mj_repl *r)
{
    atomic_store(&r->interrupted, true);
    mj_guard_cancel(r->vm->guard);
}

void mj_repl_complete(struct mj_repl *r, const char *text, void (*fn)(void *ctx, const char *word),
                      void *ctx)
{
    MJ_AUTO_BUF out = {0};
    struct line line = {.vm = r->vm,
                        .repl = r,
                        .code = mj_str(text),
                        .out = &out,
                        .budget = CALL_NS,
                        .complete = true,
                        .word = fn,
                        .ctx = ctx};
    eval(&line);
}
