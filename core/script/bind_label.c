/* What lua/moonjet/labeler.lua is made of: a labeler's key, and the labels of all labelers, which
 * state/labels.h keeps and the server serves. */
#include <stdatomic.h>
#include <stdio.h>

#include "atproto/cbor.h"
#include "atproto/label.h"
#include "atproto/syntax.h"
#include "base/err.h"
#include "script/bind.h"
#include "script/bind_state.h"
#include "script/secrets.h"
#include "script/services.h"
#include "script/task.h"
#include "state/store.h"

#define LIST_MAX   1000
#define LOOKED_MAX 100000 /* labels one list looks at */

/* The signing half of a labeler: labels that wait to be written keep it when the script is gone. */
struct signer {
    struct mj_label_signer base; /* first */
    atomic_uint refs;
    struct mj_keypair key;
};

struct labeler {
    struct signer *signer;    /* ref; NULL while it is being made */
    struct mj_labels *labels; /* borrowed from the store, which outlives VMs */
    int64_t last_us;          /* cts of the last change: the next one is later */
    bool declared;
    char did[2049];
};

static int make(struct mj_label_signer *s, const struct mj_label_change *c, struct mj_buf *out)
{
    const struct mj_label label = {.src = c->src,
                                   .uri = c->uri,
                                   .val = c->val,
                                   .cid = c->cid,
                                   .cts = c->cts,
                                   .exp = c->exp,
                                   .neg = c->neg};
    return mj_label_sign(&label, &((struct signer *)s)->key, out);
}

static void release(struct mj_label_signer *base)
{
    struct signer *s = (struct signer *)base;
    if (atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    explicit_bzero(&s->key, sizeof s->key);
    free(s);
}

static int labeler_gc(lua_State *L)
{
    struct labeler *l = lua_touserdata(L, 1);
    if (l->declared)
        mj_labels_declare(l->labels, -1);
    if (l->signer)
        release(&l->signer->base);
    l->declared = false;
    l->signer = NULL;
    return 0;
}

/* Whether this is a running moonjet, which serves what its scripts publish: not a spec, a check or
 * a backtest. */
static bool is_live(const struct mj_vm *vm)
{
    const struct mj_services *s = vm->sched ? mj__sched_services(vm->sched) : NULL;
    return s && s->routes && !s->sunk;
}

/* host.labeler(did, key, seq): the handle, its public key as multibase, and whether this is live */
static int host_labeler(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    size_t did_len, key_len;
    struct mj_keypair key;
    char multibase[MJ_MULTIBASE_MAX];
    const char *did = luaL_checklstring(L, 1, &did_len);
    const char *text = luaL_checklstring(L, 2, &key_len);
    double seq = luaL_optnumber(L, 3, 0);
    mj_need_declare(L, "jet.labeler");
    if (did_len >= sizeof(((struct labeler *)0)->did))
        return luaL_error(L, "jet.labeler: 'did' is too long");
    struct labeler *l = lua_newuserdata(L, sizeof *l);
    *l = (struct labeler){.labels = mj_store_labels(mj_shelf_store(vm->shelf))};
    memcpy(l->did, did, did_len + 1);
    mj_vm_push_slot(L, MJ_SLOT_LABELER);
    lua_setmetatable(L, -2);
    if (vm->cfg && vm->cfg->made_up_secrets && strcmp(text, MJ_SECRET_MADE_UP) == 0)
        mj_keypair_derive(MJ_KEY_K256, mj_span(text, key_len), &key);
    else if (mj_keypair_parse(mj_span(text, key_len), &key))
        return luaL_error(L, "jet.labeler: 'key' is no private key: 64 hex digits (K-256), or "
                             "multibase \"z…\" (K-256 or P-256)");
    l->signer = mj_calloc(1, sizeof *l->signer);
    *l->signer = (struct signer){.base = {make, release}, .key = key};
    atomic_init(&l->signer->refs, 1);
    explicit_bzero(&key, sizeof key);
    if (is_live(vm) && !mj_labels_on_disk(l->labels))
        return luaL_error(L, "jet.labeler needs a place where labels outlive the process: start "
                             "Moonjet with --data DIR");
    vm->scratch.len = 0;
    if (mj_labels_open(l->labels, &vm->scratch)) {
        lua_pushlstring(L, (const char *)vm->scratch.ptr, vm->scratch.len);
        return luaL_error(L, "jet.labeler: %s", lua_tostring(L, -1));
    }
    mj_labels_declare(l->labels, 1);
    l->declared = true;
    if (seq >= 1 && seq < 9007199254740992.0)
        mj_labels_begin_at(l->labels, (uint64_t)seq);
    mj_key_multibase(l->signer->key.type, l->signer->key.point, multibase);
    lua_pushstring(L, multibase);
    lua_pushboolean(L, is_live(vm));
    return 3;
}

static struct mj_span opt_text(lua_State *L, int index)
{
    struct mj_span s = {NULL, 0};
    if (lua_type(L, index) == LUA_TSTRING)
        s.ptr = (const uint8_t *)lua_tolstring(L, index, &s.len);
    return s;
}

/* `exp` as a datetime, or a duration from now on. */
static void read_exp(lua_State *L, int index, struct mj_label_change *c, char text[28])
{
    struct mj_span given = opt_text(L, index);
    if (!given.len)
        return;
    if (mj_datetime_us(given, &c->exp_us) == 0) {
        c->exp = given;
        return;
    }
    int64_t us = mj_check_duration(L, index, "labeler:apply");
    if (us <= 0)
        luaL_error(L, "labeler:apply: an 'exp' of 0 would be over at once");
    c->exp_us = c->now_us + us;
    c->slack_us = us / 2;
    mj_datetime_make(c->exp_us, text);
    c->exp = mj_str(text);
}

static int raise_put(lua_State *L, const char *what, int err)
{
    if (err == MJ_EBIG)
        return luaL_error(L, "%s: too long: address, DID, label and CID have %d bytes together",
                          what, MJ_LABEL_KEY_MAX - 3);
    if (err == MJ_ELIMIT)
        return luaL_error(L, "%s: too many labels wait to be written; the log says why", what);
    return luaL_error(L, "%s: %s", what, mj_strerror(err));
}

/* host.label(labeler, neg, uri, val, cid, exp) */
static int host_label(lua_State *L)
{
    bool neg = lua_toboolean(L, 2);
    const char *what = neg ? "labeler:negate" : "labeler:apply";
    char cts[28], exp[28];
    struct labeler *l = mj_check_handle(L, MJ_SLOT_LABELER, what);
    mj_need_running(L, what);
    struct mj_label_change c = {.src = mj_str(l->did),
                                .uri = opt_text(L, 3),
                                .val = opt_text(L, 4),
                                .cid = opt_text(L, 5),
                                .neg = neg,
                                .now_us = mj_vm_now_us(mj_vm_of(L))};
    read_exp(L, 6, &c, exp);
    int64_t at = c.now_us > l->last_us ? c.now_us : l->last_us + 1;
    mj_datetime_make(at, cts);
    c.cts = mj_str(cts);
    const struct mj_label label = {
        .src = c.src, .uri = c.uri, .val = c.val, .cid = c.cid, .cts = c.cts, .exp = c.exp};
    const char *wrong = mj_label_check(&label);
    if (wrong)
        return luaL_error(L, "%s: %s", what, wrong);
    l->last_us = at;
    atomic_fetch_add(&l->signer->refs, 1);
    int err = mj_labels_put(l->labels, &c, &l->signer->base);
    return err ? raise_put(L, what, err) : 0;
}

/* Gathered while the database is open, and so where nothing may raise. */
struct gathering {
    const struct labeler *l;
    struct mj_buf *items; /* labels as CBOR, back to back */
    struct mj_span prefix;
    bool whole; /* the prefix is all of the address */
    size_t n, max, looked;
    int64_t now_us;
};

static bool gather(void *ctx, const struct mj_label_found *f)
{
    struct gathering *g = ctx;
    bool ours = mj_span_is(f->src, g->l->did) && (!g->whole || mj_span_eq(f->uri, g->prefix));
    if (ours && !f->neg && (!f->exp_us || f->exp_us > g->now_us)) {
        mj_buf_put(g->items, f->label.ptr, f->label.len);
        g->n++;
    }
    return g->n < g->max && ++g->looked < LOOKED_MAX;
}

/* host.labels(labeler, prefix, whole, n): what is in force, as tables */
static int host_labels(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct labeler *l = mj_check_handle(L, MJ_SLOT_LABELER, "labeler:list");
    size_t len;
    mj_need_running(L, "labeler:list");
    const char *prefix = luaL_checklstring(L, 2, &len);
    double max = luaL_optnumber(L, 4, 100);
    if (!(max >= 1 && max <= LIST_MAX))
        return luaL_error(L, "labeler:list: n is 1 to %d", LIST_MAX);
    struct gathering g = {.l = l,
                          .items = &vm->value,
                          .prefix = mj_span(prefix, len),
                          .whole = lua_toboolean(L, 3),
                          .max = (size_t)max,
                          .now_us = mj_vm_now_us(vm)};
    vm->value.len = 0;
    if (mj_labels_find(l->labels, g.prefix, mj_span(NULL, 0), gather, &g))
        return luaL_error(L, "labeler:list: labels cannot be read; the log says why");
    struct mj_cbor c = mj_cbor(mj_buf_span(&vm->value));
    lua_createtable(L, (int)g.n, 0);
    for (size_t i = 1; i <= g.n; i++) {
        struct mj_span rest = mj_span(c.p, (size_t)(c.end - c.p));
        if (mj_cbor_skip_checked(&c))
            break;
        mj_push_table(L, vm, mj_span(rest.ptr, (size_t)(c.p - rest.ptr)));
        lua_rawseti(L, -2, (int)i);
    }
    return 1;
}

void mj_bind_label_host(lua_State *L)
{
    static const luaL_Reg methods[] = {{NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"labeler", host_labeler}, {"label", host_label}, {"labels", host_labels}, {NULL, NULL}};
    mj_bind_class(L, MJ_SLOT_LABELER, "labeler", methods, labeler_gc);
    luaL_register(L, NULL, functions);
}
