#include "script/reload.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "script/scripts.h"
#include "script/source.h"
#include "script/task.h"
#include "state/store.h"

static void mix(struct mj_buf *b, const void *p, size_t n)
{
    mj_buf_put(b, &n, sizeof n); /* so that "a","bc" is not "ab","c" */
    mj_buf_put(b, p, n);
}

static void mix_text(struct mj_buf *b, const char *s) { mix(b, s ? s : "", s ? strlen(s) + 1 : 0); }

static void mix_list(struct mj_buf *b, const struct mj_strings *list)
{
    size_t n = list ? list->n : SIZE_MAX;
    mix(b, &n, sizeof n);
    for (size_t i = 0; list && i < list->n; i++)
        mix_text(b, list->v[i]);
}

uint64_t mj__cfg_digest(const struct mj_script_cfg *cfg)
{
    MJ_AUTO_BUF b = {0};
    const int64_t numbers[] = {(int64_t)cfg->memory, cfg->call_us, cfg->declare_us, cfg->slow_us,
                               cfg->on_error};
    mix(&b, numbers, sizeof numbers);
    mix_text(&b, cfg->config_lua);
    mix_text(&b, cfg->secrets_dir);
    mix_list(&b, cfg->config);
    mix_list(&b, cfg->secrets);
    return mj_hash(mj_buf_span(&b));
}

static bool changed(const struct mj_script *script, const struct mj_script_cfg *cfg)
{
    return script->cfg_digest != mj__cfg_digest(cfg) || mj_sources_changed(&script->vm->sources);
}

bool mj_scripts_changed(const struct mj_scripts *s, size_t i, const struct mj_script_cfg *cfg)
{
    return changed(s->scripts[i], cfg);
}

static struct mj_script *find(const struct mj_scripts *s, const char *path)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->scripts[i] && strcmp(s->scripts[i]->path, path) == 0)
            return s->scripts[i];
    return NULL;
}

/* Loads the spec and puts it where `old` (NULL: nowhere) is. The script that runs afterwards: the
 * new one, or on failure the old one. */
static struct mj_script *replace(struct mj_scripts *s, struct mj_script *old,
                                 const struct mj_script_spec *spec, struct mj_reload *out,
                                 struct mj_buf *report)
{
    MJ_AUTO_BUF error = {0};
    int err;
    struct mj_script *script = mj__script_new(s, spec->path, spec->cfg, &error, &err);
    if (script && s->router)
        err = mj__outlets_start(script->vm, &error);
    if (script && s->router && !err)
        err = mj_router_swap(s->router, old ? old->vm->graph : NULL, script->vm->graph, &error);
    if (err) {
        mj__script_free(script);
        out->failed++;
        mj_buf_printf(report, "%s; %s\n", mj_buf_cstr(&error),
                      old ? "the running one goes on" : "it does not run");
        return old;
    }
    mj_metric_set(script->state, MJ_LIFE_RUNNING);
    (*(old ? &out->reloaded : &out->added))++;
    mj_buf_printf(report, "%s: %s, %zu node%s\n", spec->path, old ? "reloaded" : "added",
                  script->vm->graph->count, script->vm->graph->count == 1 ? "" : "s");
    if (old)
        mj__retire(s, old);
    if (s->router) {
        mj_plan_commit(script->vm->plan);
        mj__tasks_begin(script->vm);
    }
    return script;
}

/* The main stream runs through scripts in order, so scripts that changed places are taken out and
 * put back. */
static void reorder(struct mj_scripts *s, struct mj_script **before, size_t count)
{
    size_t k = 0;
    for (size_t i = 0; i < s->count && k < count; i++)
        if (before[k] == s->scripts[i])
            k++;
    if (!s->router || k == count)
        return;
    for (size_t i = 0; i < s->count; i++) {
        struct mj_script *script = s->scripts[i];
        MJ_AUTO_BUF error = {0};
        if (mj_router_swap(s->router, script->vm->graph, NULL, &error) ||
            mj_router_swap(s->router, NULL, script->vm->graph, &error))
            mj_log(MJ_LOG_ERROR, "script", "%s cannot change its place: %s", script->path,
                   mj_buf_cstr(&error));
        else if (mj_life_paused(&script->life))
            mj_router_pause(s->router, script->vm->graph, true,
                            script->on_error == MJ_ON_ERROR_DROP);
    }
}

void mj_scripts_fed(const struct mj_scripts *s, struct mj_buf *out)
{
    for (size_t i = 0; i < s->count; i++)
        for (size_t k = 0; k < s->scripts[i]->vm->graph->count; k++) {
            const char *name = s->scripts[i]->vm->graph->nodes[k]->stream;
            if (name)
                mj_buf_printf(out, "%s\n", name);
        }
}

/* The first name; `rest` is moved behind it. Empty at the end. */
static struct mj_span next_name(struct mj_span *rest)
{
    const uint8_t *end = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL;
    if (!end)
        return (struct mj_span){0};
    struct mj_span name = mj_span(rest->ptr, (size_t)(end - rest->ptr));
    *rest = mj_span(end + 1, rest->len - name.len - 1);
    return name;
}

void mj_reload_unfed(struct mj_span before, struct mj_span now, struct mj_buf *report)
{
    for (struct mj_span name; (name = next_name(&before)).len;) {
        struct mj_span rest = now, other;
        while ((other = next_name(&rest)).len && !mj_span_eq(other, name))
            ;
        if (!other.len)
            mj_buf_printf(report,
                          "stream '%.*s' is fed by nobody any more: its subscribers stay, and get "
                          "nothing\n",
                          (int)name.len, (const char *)name.ptr);
    }
}

int mj_scripts_reload(struct mj_scripts *s, const struct mj_script_spec *specs, size_t n, bool all,
                      struct mj_reload *out, struct mj_buf *report)
{
    static const struct mj_script_cfg defaults;
    *out = (struct mj_reload){0};
    struct mj_script **next = mj_calloc(n + 1, sizeof *next);
    struct mj_script **stayed = mj_calloc(n + 1, sizeof *stayed); /* in the old order */
    size_t count = 0, stay = 0;
    for (size_t i = 0; i < n; i++) {
        struct mj_script_spec spec = specs[i];
        if (!spec.cfg)
            spec.cfg = &defaults;
        struct mj_script *old = find(s, spec.path), *script = old;
        size_t at = 0;
        while (old && s->scripts[at] != old)
            at++;
        bool again = old && (all || changed(old, spec.cfg) ||
                             (spec.revive && old->life.state == MJ_LIFE_OUT));
        if (old && (spec.keep || !again))
            out->kept++;
        else
            script = replace(s, old, &spec, out, report);
        if (old)
            s->scripts[at] = NULL; /* claimed */
        if (!script)
            continue;
        /* Where it was in the old order, for those who had a place. */
        script->place = old ? at : SIZE_MAX;
        next[count++] = script;
    }
    for (size_t i = 0; i < s->count; i++) {
        if (!s->scripts[i])
            continue;
        MJ_AUTO_BUF error = {0};
        if (s->router)
            mj_router_swap(s->router, s->scripts[i]->vm->graph, NULL, &error);
        mj_buf_printf(report, "%s: removed\n", s->scripts[i]->path);
        out->removed++;
        mj__retire(s, s->scripts[i]);
    }
    /* As the router has them now: the old ones by their places, the new ones behind. */
    for (size_t place = 0; place < s->count; place++)
        for (size_t i = 0; i < count; i++)
            if (next[i]->place == place)
                stayed[stay++] = next[i];
    for (size_t i = 0; i < count; i++)
        if (next[i]->place == SIZE_MAX)
            stayed[stay++] = next[i];
    free(s->scripts);
    s->scripts = next;
    s->count = count;
    reorder(s, stayed, stay);
    free(stayed);
    mj__serving_publish(s);
    return out->failed ? MJ_EINVAL : 0;
}

void mj_scripts_files(const struct mj_scripts *s, void (*fn)(void *ctx, const char *path),
                      void *ctx)
{
    for (size_t i = 0; i < s->count; i++)
        for (size_t k = 0; k < s->scripts[i]->vm->sources.count; k++)
            fn(ctx, s->scripts[i]->vm->sources.files[k].path);
}
