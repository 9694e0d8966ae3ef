/* jet.webhook: what a script says of an endpoint, checked and noted. */
#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "script/bind.h"
#include "script/made.h"
#include "script/secrets.h"
#include "script/services.h"
#include "script/webhook.h"

#define WHAT            "jet.webhook"
#define TIMEOUT_US      INT64_C(15000000)
#define TIMEOUT_MAX_US  INT64_C(600000000)
#define CONCURRENCY     4
#define CONCURRENCY_MAX 256
#define BATCH           100
#define BATCH_MAX       10000
#define BATCH_BYTES     (1 << 20)
#define BATCH_BYTES_MAX (16 << 20)
#define BATCH_EVERY_US  INT64_C(1000000)
#define RETRY_MIN_US    INT64_C(5000000)
#define RETRY_MAX_US    INT64_C(7200000000)
#define RETRY_FOR_US    INT64_C(270000000000) /* 75 h, as Standard Webhooks suggests */
#define TRIES_MAX       1000000
#define ALLOW_MAX       100

/* The text at key `name`, or NULL [raises when it is none]. */
static const char *text_option(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TSTRING)
        luaL_error(L, WHAT ": '%s' wants a text, not %s", name, luaL_typename(L, -1));
    const char *text = lua_tostring(L, -1);
    if (text && strlen(text) != lua_objlen(L, -1))
        luaL_error(L, WHAT ": '%s' has a NUL in it", name);
    lua_pop(L, 1); /* the options hold it */
    return text;
}

/* Which of the words the text at the key is; `def` when it is not there [raises]. */
static int word_option(lua_State *L, const char *name, const char *const *words, int def)
{
    const char *text = text_option(L, name);
    char shown[100] = "";
    if (!text)
        return def;
    for (int i = 0; words[i]; i++) {
        size_t n = strlen(shown);
        if (strcmp(text, words[i]) == 0)
            return i;
        snprintf(shown + n, sizeof shown - n, "%s\"%s\"",
                 !i             ? ""
                 : words[i + 1] ? ", "
                                : " or ",
                 words[i]);
    }
    return luaL_error(L, WHAT ": '%s' is %s", name, shown);
}

/* Appends a text, or a list of them, to `out`, which has room for `max` [raises]. */
static void list_option(lua_State *L, const char *name, size_t max, char **out, size_t *n)
{
    lua_getfield(L, 1, name);
    if (lua_type(L, -1) == LUA_TSTRING) {
        lua_createtable(L, 1, 0);
        lua_insert(L, -2);
        lua_rawseti(L, -2, 1);
    }
    if (!lua_isnil(L, -1) && !lua_istable(L, -1))
        luaL_error(L, WHAT ": '%s' wants a text, or a list of texts", name);
    for (size_t i = 1; lua_istable(L, -1) && i <= lua_objlen(L, -1); i++) {
        lua_rawgeti(L, -1, (int)i);
        if (lua_type(L, -1) != LUA_TSTRING || strlen(lua_tostring(L, -1)) != lua_objlen(L, -1))
            luaL_error(L, WHAT ": '%s' wants texts, not %s", name, luaL_typename(L, -1));
        if (*n == max)
            luaL_error(L, WHAT ": '%s' has more than %d texts", name, (int)max);
        out[(*n)++] = mj_strdup(lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* Pushes the table at the key, an empty one when it is not there; true when it is. */
static bool push_options(lua_State *L, const char *name, const char *what, const char *const *names)
{
    lua_getfield(L, 1, name);
    bool there = !lua_isnil(L, -1);
    if (!there) {
        lua_pop(L, 1);
        lua_newtable(L);
    }
    mj_check_options(L, lua_gettop(L), what, names);
    return there;
}

static void read_retry(lua_State *L, struct mj_hook_spec *s)
{
    static const char *const names[] = {"tries", "min", "max", "for", NULL};
    static const char what[] = WHAT ": retry";
    push_options(L, "retry", what, names);
    int at = lua_gettop(L);
    s->retry = (struct mj_retry){
        .tries = (unsigned)mj_integer_option(L, at, what, "tries", 1, TRIES_MAX, 0),
        .min_us = mj_duration_option(L, at, what, "min", RETRY_MIN_US),
        .max_us = mj_duration_option(L, at, what, "max", RETRY_MAX_US),
        .for_us = mj_duration_option(L, at, what, "for", RETRY_FOR_US),
    };
    if (s->retry.min_us < 1000)
        luaL_error(L, "%s: 'min' is 1ms or more", what);
    lua_getfield(L, at, "max");
    if (lua_isnil(L, -1) && s->retry.max_us < s->retry.min_us)
        s->retry.max_us = s->retry.min_us;
    if (s->retry.max_us < s->retry.min_us)
        luaL_error(L, "%s: 'max' is less than 'min'", what);
    lua_settop(L, at - 1);
}

/* True when there is a batch. */
static bool read_batch(lua_State *L, struct mj_hook_spec *s)
{
    static const char *const names[] = {"max", "bytes", "every", NULL};
    static const char what[] = WHAT ": batch";
    bool there = push_options(L, "batch", what, names);
    int at = lua_gettop(L);
    s->max = (size_t)mj_integer_option(L, at, what, "max", 1, BATCH_MAX, there ? BATCH : 1);
    s->max_bytes = (size_t)mj_integer_option(L, at, what, "bytes", 1, BATCH_BYTES_MAX, BATCH_BYTES);
    s->every_us = mj_duration_option(L, at, what, "every", there ? BATCH_EVERY_US : 0);
    lua_settop(L, at - 1);
    return s->max > 1;
}

static void read_format(lua_State *L, struct mj_webhook *w, bool batch)
{
    static const char *const words[] = {"event", "batch", NULL};
    static uint64_t functions; /* scripts are loaded on several threads, when lanes are */
    lua_getfield(L, 1, "format");
    if (lua_type(L, -1) == LUA_TFUNCTION) {
        w->ref = luaL_ref(L, LUA_REGISTRYINDEX);
        w->spec.format = MJ_HOOK_FUNCTION;
        w->spec.function = __atomic_add_fetch(&functions, 1, __ATOMIC_RELAXED);
        return;
    }
    if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TSTRING)
        luaL_error(L, WHAT ": 'format' is \"event\", \"batch\" or a function");
    lua_pop(L, 1);
    w->spec.format =
        (enum mj_hook_format)word_option(L, "format", words, batch ? MJ_HOOK_BATCH : MJ_HOOK_EVENT);
    if (batch && w->spec.format == MJ_HOOK_EVENT)
        luaL_error(L, WHAT ": format \"event\" posts one event, and batch.max is %d",
                   (int)w->spec.max);
}

static void read_rate(lua_State *L, struct mj_hook_spec *s)
{
    const char *text = text_option(L, "rate");
    if (text && mj_rate_parse(mj_str(text), &s->rate_count, &s->rate_period_us))
        luaL_error(L, WHAT ": 'rate' wants a rate as text, such as \"10/s\" or \"600/m\"");
}

static void read_secrets(lua_State *L, struct mj_hook_spec *s)
{
    static const char *const words[] = {"standard", "github", NULL};
    const char *github = text_option(L, "github_secret");
    bool plain = word_option(L, "signature", words, 0) == 1;
    list_option(L, "secret", MJ_HOOK_LIST_MAX, s->secrets, &s->secret_count);
    if (plain && (github || s->secret_count != 1))
        luaL_error(L, WHAT ": signature = \"github\" wants one 'secret', and no 'github_secret'");
    if (plain) {
        s->github_secret = s->secrets[0];
        s->secrets[0] = NULL;
        s->secret_count = 0;
    } else if (github) {
        s->github_secret = mj_strdup(github);
    }
    if (s->github_secret && !*s->github_secret)
        luaL_error(L, WHAT ": the secret is empty");
}

static void read_headers(lua_State *L, struct mj_vm *vm, struct mj_hook_spec *s)
{
    vm->scratch.len = 0;
    mj_put_headers(L, 1, WHAT, &vm->scratch);
    if (memchr(vm->scratch.ptr ? vm->scratch.ptr : (uint8_t *)"", 0, vm->scratch.len))
        luaL_error(L, WHAT ": a header has a NUL in it");
    if (vm->scratch.len)
        s->headers = mj_strdup(mj_buf_cstr(&vm->scratch));
}

static void read_name(lua_State *L, struct mj_webhook *w)
{
    const char *name = text_option(L, "name");
    size_t len = name ? strlen(name) : 1;
    if (!len || len > 60 ||
        (name &&
         strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") != len))
        luaL_error(L, WHAT ": 'name' is 1 to 60 letters, digits, '_', '.' or '-'");
    w->name = name ? mj_strdup(name) : NULL;
}

/* What only whoever posts can tell: whether keys are keys, hosts hosts. */
static void check(lua_State *L, struct mj_webhook *w)
{
    struct mj_vm *vm = w->vm;
    const struct mj_services *v = vm->sched ? mj__sched_services(vm->sched) : NULL;
    struct mj_buf *text = &vm->scratch, *error = &vm->value; /* the VM's: what follows raises */
    text->len = error->len = 0;
    int err = mj_hook_origin(&w->spec, text, error);
    if (!err)
        w->origin = mj_strdup(mj_buf_cstr(text));
    if (!err && v && v->hook_check)
        err = v->hook_check(v->ctx, &w->spec, error);
    if (err)
        luaL_error(L, WHAT ": %s", mj_buf_cstr(error));
}

/* jet.webhook(options) */
static int jet_webhook(lua_State *L)
{
    static const char *const names[] = {"url",    "secret",      "github_secret", "signature",
                                        "allow",  "retry",       "refused",       "batch",
                                        "order",  "concurrency", "rate",          "timeout",
                                        "format", "headers",     "name",          NULL};
    static const char *const orders[] = {"did", "total", "none", NULL};
    static const char *const refused[] = {"dead", "retry", NULL};
    struct mj_vm *vm = mj_vm_of(L);
    mj_need_declare(L, WHAT);
    mj_check_options(L, 1, WHAT, names);
    lua_settop(L, 1);
    struct mj_webhook *w = mj_calloc(1, sizeof *w);
    struct mj_hook_spec *s = &w->spec;
    w->vm = vm;
    w->ref = LUA_NOREF;
    w->next = vm->webhooks;
    vm->webhooks = w;
    const char *url = text_option(L, "url");
    if (!url)
        return luaL_error(L, WHAT " wants the address: url = \"https://example.com/hook\"");
    s->script = mj_strdup(vm->graph->script);
    s->made_up = vm->cfg && vm->cfg->made_up_secrets;
    /* Addresses with tokens in them are secrets as a whole. */
    bool nowhere = s->made_up && strcmp(url, MJ_SECRET_MADE_UP) == 0;
    s->url = mj_strdup(nowhere ? "https://" MJ_SECRET_MADE_UP : url);
    s->allow = mj_calloc(ALLOW_MAX, sizeof *s->allow);
    list_option(L, "allow", ALLOW_MAX, s->allow, &s->allow_count);
    read_secrets(L, s);
    read_retry(L, s);
    s->retry_bad = word_option(L, "refused", refused, 0) == 1;
    s->order = (enum mj_order)word_option(L, "order", orders, MJ_ORDER_DID);
    s->concurrency = (size_t)mj_integer_option(L, 1, WHAT, "concurrency", 1, CONCURRENCY_MAX,
                                               s->order == MJ_ORDER_TOTAL ? 1 : CONCURRENCY);
    if (s->order == MJ_ORDER_TOTAL && s->concurrency > 1)
        return luaL_error(L, WHAT ": order \"total\" posts one after the other; 'concurrency' is 1 "
                                  "then");
    read_rate(L, s);
    s->timeout_us = mj_duration_option(L, 1, WHAT, "timeout", TIMEOUT_US);
    if (s->timeout_us < 1000 || s->timeout_us > TIMEOUT_MAX_US)
        return luaL_error(L, WHAT ": 'timeout' is 1ms to 10m");
    read_format(L, w, read_batch(L, s));
    read_headers(L, vm, s);
    read_name(L, w);
    check(L, w);
    mj_push_webhook(L, w);
    mj_made_sink(L, WHAT, w->origin);
    return 1;
}

void mj_bind_webhook(lua_State *L)
{
    lua_pushcfunction(L, jet_webhook);
    lua_setfield(L, -2, "webhook");
}
