#include <stdio.h>

#include "base/clock.h"
#include "script/scripts.h"
#include "script/task.h"

#define SHARES_US INT64_C(10000000)

static void pause_script(struct mj_script *script, bool paused)
{
    script->vm->paused = paused;
    if (script->owner->router) /* which ignores one that was replaced */
        mj_router_pause(script->owner->router, script->vm->graph, paused,
                        script->on_error == MJ_ON_ERROR_DROP);
    if (!paused)
        mj__eaches_pump(script->vm);
    mj__tasks_poke(script->vm);
}

void mj_scripts_quarantine(struct mj_scripts *s, size_t i, unsigned n)
{
    struct mj_script *script = s->scripts[i];
    if (n)
        mj_life_quarantine(&script->life, n, mj_mono_us());
    else
        script->life.state = MJ_LIFE_OUT;
    mj_metric_add(script->quarantines, 1);
    mj_metric_set(script->state, script->life.state);
    pause_script(script, true);
}

static void on_stuck(void *ctx, lua_State *L)
{
    struct mj_scripts *s = ctx;
    const struct mj_vm *vm = mj_vm_of(L);
    struct mj_stuck stuck = {vm->path, vm->doing};
    s->on_stuck(s->stuck_ctx, &stuck);
}

void mj_scripts_on_stuck(struct mj_scripts *s, void (*fn)(void *ctx, const struct mj_stuck *stuck),
                         void *ctx)
{
    s->on_stuck = fn;
    s->stuck_ctx = ctx;
    mj_guard_on_stuck(s->guard, on_stuck, s);
}

void mj__strike(struct mj_vm *vm)
{
    struct mj_script *script = vm->script;
    if (!script)
        return;
    script->struck = true;
    mj_metric_add(script->strikes, 1);
    if (!script->owner->lenient && mj_life_strike(&script->life, mj_mono_us())) {
        mj_metric_add(script->quarantines, 1);
        pause_script(script, true);
    }
    mj_metric_set(script->state, script->life.state);
}

const char *mj__strike_words(const struct mj_script *script, char *out, size_t cap)
{
    const struct mj_life *l = &script->life;
    if (!script->struck)
        *out = 0;
    else if (l->state == MJ_LIFE_QUARANTINED)
        snprintf(out, cap, " (%u strike%s, quarantined %llds)", l->total, l->total == 1 ? "" : "s",
                 (long long)(l->pause / 1000000));
    else
        snprintf(out, cap, " (%u strike%s)", l->total, l->total == 1 ? "" : "s");
    return out;
}

/* A call that takes nearly its budget, every time, is no strike. But who waits for it should know.
 */
void mj__shares_tick(struct mj_scripts *s, int64_t now)
{
    if (!s->shared || (s->shares_us && now - s->shares_us < SHARES_US))
        return;
    for (size_t i = 0; i < s->count; i++) {
        struct mj_vm *vm = s->scripts[i]->vm;
        int64_t percent = s->shares_us ? vm->sync_ns / 10 / (now - s->shares_us) : 0;
        if (percent > 50)
            mj_log(MJ_LOG_WARN, "script",
                   "%s: its functions on events took %d %% of the last %d s, and everybody waited "
                   "for them; a closer match, or lane = \"own\" in moonjet.lua, helps the others",
                   vm->graph->script, (int)percent, (int)((now - s->shares_us) / 1000000));
        vm->sync_ns = 0;
    }
    s->shares_us = now;
}

int64_t mj__lives_tick(struct mj_scripts *s, int64_t now)
{
    int64_t next = -1;
    for (size_t i = 0; i < s->count; i++) {
        struct mj_script *script = s->scripts[i];
        if (mj_life_tick(&script->life, now)) {
            mj_log(MJ_LOG_INFO, "script", "%s runs again after a quarantine of %llds",
                   script->vm->graph->script, (long long)(script->life.pause / 1000000));
            pause_script(script, false);
        }
        mj_metric_set(script->state, script->life.state);
        int64_t due = mj_life_due(&script->life);
        if (due >= 0 && (next < 0 || due < next))
            next = due;
    }
    return next;
}
