/* What lua/moonjet/agent.lua needs from C: what it remembers under names that no script can take,
 * the keys of its records, and what the task that calls it is about. All of it is `host`'s. */
#include <endian.h>
#include <stdio.h>
#include <sys/random.h>

#include "atproto/syntax.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "event/id.h"
#include "script/bind.h"
#include "script/bind_state.h"
#include "script/secrets.h"
#include "script/task.h"
#include "state/store.h"

#define TIME_MAX (INT64_C(1) << 53)        /* of a TID */
#define NAMED_US INT64_C(1672531200000000) /* 2023; and 2^46 µs are more than two years */

/* host.map(name): a map of that name, kept over restarts. A dot in the name keeps it out of
 * scripts' reach. */
static int host_map(lua_State *L)
{
    const struct mj_state_options o = {.says_persist = true, .persist = true};
    mj_push_map(L, luaL_checkstring(L, 1), &o, "jet.agent");
    return 1;
}

/* host.set(name, member): the named set, kept over restarts; with a member, which is then the only
 * one the script gives it */
static int host_set(lua_State *L)
{
    const struct mj_state_options o = {.says_persist = true, .persist = true};
    const char *name = luaL_checkstring(L, 1);
    struct mj_members *members = NULL;
    size_t len;
    if (!lua_isnoneornil(L, 2)) {
        const char *member = luaL_checklstring(L, 2, &len);
        members = mj_plan_members(mj_vm_of(L)->plan);
        int err = mj_members_add(members, mj_span(member, len));
        if (err)
            return mj_raise_state(L, "jet.agent", err);
    }
    mj_push_set(L, name, &o, members, "jet.agent");
    return 1;
}

/* host.declaring(): whether the script is being loaded */
static int host_declaring(lua_State *L)
{
    lua_pushboolean(L, mj_vm_of(L)->context == MJ_CONTEXT_DECLARE);
    return 1;
}

/* host.need_declare(what) */
static int host_need_declare(lua_State *L)
{
    const char *what = luaL_checkstring(L, 1);
    if (mj_vm_of(L)->context == MJ_CONTEXT_DECLARE)
        return 0;
    mj_guard_where(L);
    lua_pushfstring(L,
                    "%s is declared: call it at the top level of the script, and keep what it "
                    "returns in a local variable",
                    what);
    lua_concat(L, 2);
    return lua_error(L);
}

/* host.can_wait(what): an error where nothing may wait */
static int host_can_wait(lua_State *L)
{
    mj__task_can_wait(L, luaL_checkstring(L, 1));
    return 0;
}

/* host.hide(old, new): log lines no longer hide the one, and hide the other; both may be nil */
static int host_hide(lua_State *L)
{
    struct mj_secret **list = &mj_vm_of(L)->secrets;
    size_t len;
    const char *text = luaL_optlstring(L, 1, "", &len);
    const char *new;
    mj_secret_forget(list, mj_span(text, len));
    new = luaL_optlstring(L, 2, "", &len);
    mj_secret_remember(list, mj_span(new, len));
    return 0;
}

/* host.task(): whether the task works for an each, and how many seconds it has left (nil: no
 * limit). Nothing outside of tasks. */
static int host_task(lua_State *L)
{
    struct mj_task_view view;
    if (!mj__task_look(mj_vm_of(L), &view))
        return 0;
    lua_pushboolean(L, view.node != NULL);
    if (view.left_us < 0)
        return 1;
    lua_pushnumber(L, (lua_Number)view.left_us / 1e6);
    return 2;
}

/* host.write_number(): how many writes the running task has numbered before, from 0; nil outside */
static int host_write_number(lua_State *L)
{
    struct mj_task_view view;
    if (!mj__task_look(mj_vm_of(L), &view))
        return 0;
    lua_pushinteger(L, (lua_Integer)(*view.writes)++);
    return 1;
}

/* host.event_id(event): what tells the event, or without one the running task's, from all others,
 * as bytes; when the network says it happened, and when it came here, in µs; and whether it is the
 * task's. nil when there is none. The task's is told apart by its node, too: two that work on one
 * event are two actions. */
static int host_event_id(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    struct mj_task_view view = {0};
    uint8_t id[MJ_EVENT_ID];
    mj__task_look(vm, &view);
    const struct mj_event *ev = lua_isnoneornil(L, 1) ? view.ev : mj_check_event(L, vm).ev;
    if (!ev)
        return 0;
    mj_event_id(ev, id);
    lua_pushlstring(L, (const char *)id, sizeof id);
    bool own = ev == view.ev && view.node;
    if (own) {
        lua_pushstring(L, view.node->name);
        lua_concat(L, 2);
    }
    int64_t said = ev->kind == MJ_KIND_COMMIT ? mj_tid_time_us(ev->rev) : 0;
    lua_pushnumber(L, (lua_Number)(said > 0 ? said : ev->time_us));
    lua_pushnumber(L, (lua_Number)ev->time_us);
    lua_pushboolean(L, own);
    return 4;
}

static int push_tid(lua_State *L, int64_t time_us, unsigned clock)
{
    char tid[14];
    mj_tid_make(time_us, clock & 1023, tid);
    lua_pushstring(L, tid);
    return 1;
}

/* The first 8 bytes of the text's hash. Keys are on the network: alike on all machines. */
static uint64_t hash_bits(const char *text, size_t len)
{
    uint8_t hash[32];
    uint64_t bits;
    mj_sha256(mj_span(text, len), hash);
    memcpy(&bits, hash, sizeof bits);
    return be64toh(bits);
}

/* host.action_key(µs, text): the record key of an action: of that second, and beyond that 30 bits
 * of the text's hash. The same each time. */
static int host_action_key(lua_State *L)
{
    lua_Number at = luaL_checknumber(L, 1);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    uint64_t bits = hash_bits(text, len);
    if (!(at >= 0 && at < (lua_Number)TIME_MAX))
        at = 0;
    return push_tid(L, ((int64_t)at & ~INT64_C(0xfffff)) | (int64_t)(bits & 0xfffff),
                    (unsigned)(bits >> 20));
}

/* host.named_key(text): the record key of an action that has a name and no event: by its hash,
 * somewhere in 2023 or 2024 */
static int host_named_key(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    uint64_t bits = hash_bits(text, len);
    return push_tid(L, NAMED_US + (int64_t)(bits >> 18), (unsigned)bits);
}

/* host.fresh_key(): a record key of now, which nobody else makes */
static int host_fresh_key(lua_State *L)
{
    struct mj_vm *vm = mj_vm_of(L);
    int64_t now = mj_vm_now_us(vm);
    uint16_t clock = 0;
    if (getrandom(&clock, sizeof clock, GRND_NONBLOCK) != sizeof clock)
        clock = (uint16_t)(uintptr_t)vm >> 4;
    vm->last_key_us = now > vm->last_key_us ? now : vm->last_key_us + 1;
    return push_tid(L, vm->last_key_us, clock);
}

/* host.datetime(µs): as records write it */
static int host_datetime(lua_State *L)
{
    lua_Number us = luaL_checknumber(L, 1);
    char text[28];
    mj_datetime_make(us >= 0 && us < (lua_Number)TIME_MAX ? (int64_t)us : 0, text);
    lua_pushstring(L, text);
    return 1;
}

/* host.seconds(text): of a duration; nil when it is none */
static int host_seconds(lua_State *L)
{
    size_t len;
    int64_t us;
    const char *text = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &len) : NULL;
    if (!text || mj_duration_us(mj_span(text, len), &us))
        return 0;
    lua_pushnumber(L, (lua_Number)us / 1e6);
    return 1;
}

/* host.count(name, label, value): adds one to that metric of the script's */
static int host_count(lua_State *L)
{
    static const struct {
        const char *name, *family, *help;
    } all[] = {
        {"requests", "moonjet_agent_requests_total", "Requests of agents, by what came of them."},
        {"logins", "moonjet_agent_sessions_total", "Sessions of agents, by how they came about."},
        {"waits", "moonjet_agent_waits_total", "Times an agent waited for a rate limit."},
        {"skips", "moonjet_agent_skips_total", "What bots left unanswered, by why."},
    };
    const char *name = luaL_checkstring(L, 1), *how = luaL_checkstring(L, 2);
    char script[256], value[64];
    for (size_t i = 0; i < MJ_COUNT(all); i++) {
        if (strcmp(name, all[i].name) != 0)
            continue;
        mj_metric_add(
            mj_metric(all[i].family, MJ_COUNTER, all[i].help, "script=\"%s\",what=\"%s\"",
                      mj_metric_label(mj_str(mj_vm_of(L)->graph->script), script, sizeof script),
                      mj_metric_label(mj_str(how), value, sizeof value)),
            1);
    }
    return 0;
}

void mj_bind_agent_host(lua_State *L)
{
    static const luaL_Reg host[] = {{"map", host_map},
                                    {"peek", mj_map_peek},
                                    {"set", host_set},
                                    {"declaring", host_declaring},
                                    {"need_declare", host_need_declare},
                                    {"can_wait", host_can_wait},
                                    {"hide", host_hide},
                                    {"task", host_task},
                                    {"write_number", host_write_number},
                                    {"event_id", host_event_id},
                                    {"action_key", host_action_key},
                                    {"named_key", host_named_key},
                                    {"fresh_key", host_fresh_key},
                                    {"datetime", host_datetime},
                                    {"seconds", host_seconds},
                                    {"count", host_count},
                                    {NULL, NULL}};
    luaL_register(L, NULL, host);
}
