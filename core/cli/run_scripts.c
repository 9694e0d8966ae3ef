#include <stdio.h>

#include "base/err.h"
#include "cli/run.h"

#define SLICE_US 2000 /* of tasks between two batches of frames */

int run_load_scripts(struct mj_scripts *scripts, const struct mj_config *config)
{
    for (size_t i = 0; i < config->script_count; i++) {
        const struct mj_config_script *s = config->scripts[i];
        MJ_AUTO_BUF error = {0};
        if (mj_scripts_load(scripts, s->path, &s->cfg, &error)) {
            fprintf(stderr, "moonjet run: %s\n", mj_buf_cstr(&error));
            return MJ_EXIT_FAILED;
        }
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
    mj_timer_set(run->tasks, mj_scripts_run(run->scripts, SLICE_US));
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
