#include <stdio.h>

#include "base/err.h"
#include "base/log.h"
#include "cli/run.h"

#define SLICE_US 1000             /* of tasks between two batches of frames */
#define STOP_US  INT64_C(5000000) /* for what scripts still do at the end */
#define STEP_US  20000

bool run_was_harmless(const struct run_notes *notes, const char *path, unsigned *n, bool *out)
{
    bool loading = false;
    *out = false;
    *n = notes ? run_notes_count(notes, path, out, &loading) : 0;
    if (*n && loading)
        mj_log(MJ_LOG_ERROR, "run",
               "%s was stuck while it was loaded and made us start again; it is left out until "
               "it is reloaded",
               path);
    else if (*n)
        mj_log(MJ_LOG_ERROR, "run", "%s was stuck and made us start again (%u time%s lately); %s",
               path, *n, *n == 1 ? "" : "s",
               *out ? "it is left out until it is reloaded" : "it is quarantined");
    return !*n || !loading;
}

bool run_may_miss(const struct run_notes *notes, const struct mj_buf *error)
{
    if (!notes || !notes->count)
        return false;
    mj_log(MJ_LOG_ERROR, "run", "%.*s; it is left out until it is reloaded", (int)error->len,
           (const char *)error->ptr);
    return true;
}

int run_load_scripts(struct mj_scripts *scripts, const struct mj_config *config,
                     const struct run_notes *notes)
{
    for (size_t i = 0; i < config->script_count; i++) {
        const struct mj_config_script *s = config->scripts[i];
        MJ_AUTO_BUF error = {0};
        unsigned n;
        bool out = false;
        if ((notes && s->lane == MJ_LANE_OWN) || !run_was_harmless(notes, s->path, &n, &out))
            continue;
        if (mj_scripts_load(scripts, s->path, &s->cfg, &error)) {
            if (run_may_miss(notes, &error))
                continue;
            fprintf(stderr, "moonjet run: %s\n", mj_buf_cstr(&error));
            return MJ_EXIT_FAILED;
        }
        if (n)
            mj_scripts_quarantine(scripts, mj_scripts_count(scripts) - 1, out ? 0 : n);
    }
    return 0;
}

static void on_due(void *ctx)
{
    struct run *run = ctx;
    mj_timer_set(run->tasks, mj_scripts_run(run->scripts, SLICE_US));
    mj_router_flush(run->router, -1, 0);
}

void run_scripts(struct run *run)
{
    int64_t next = mj_scripts_run(run->scripts, SLICE_US);
    mj_timer_set(run->tasks, run->ending ? 0 : next); /* that may have been the end */
}

void run_start_scripts(struct run *run)
{
    run->tasks = mj_timer_new(run->loop, on_due, run);
    mj_timer_set(run->tasks, 0);
}

void run_stop_scripts(struct run *run)
{
    mj_timer_free(run->tasks);
    run->tasks = NULL;
}

/* The end of the tasks that jet.on_stop started, or of their time. */
static void on_ending(void *ctx)
{
    struct run *run = ctx;
    int64_t next = mj_scripts_run(run->scripts, SLICE_US);
    if (mj_scripts_stop(run->scripts, STOP_US))
        mj_loop_stop(run->loop);
    else
        mj_timer_set(run->tasks, next < 0 || next > STEP_US ? STEP_US : next);
}

void run_end_scripts(struct run *run)
{
    if (!run->tasks || mj_scripts_stop(run->scripts, STOP_US))
        return;
    run->ending = true;
    mj_timer_free(run->tasks);
    run->tasks = mj_timer_new(run->loop, on_ending, run);
    mj_timer_set(run->tasks, 0);
    mj_loop_resume(run->loop);
    mj_loop_run(run->loop);
}
