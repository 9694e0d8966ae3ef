/* A clock that stands still unless a test moves it, for scripts with tasks. */
#pragma once

#include "script/services.h"
#include "unit/script_fixture.h"

static int64_t now_us;
static unsigned wakes;

static int64_t test_now(void *ctx)
{
    (void)ctx;
    return now_us;
}

static void test_wake(void *ctx)
{
    (void)ctx;
    wakes++;
}

static const struct mj_services services = {.now_us = test_now, .wake = test_wake};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    fixture_open(f);
    now_us = INT64_C(1700000000000000);
    wakes = 0;
    mj_scripts_set_services(f->scripts, &services);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture_close(*state);
    free(*state);
    return 0;
}

static inline int64_t counter(const char *family, const char *labels)
{
    return mj_metric_get(mj_metric(family, MJ_COUNTER, "", "%s", labels));
}

/* Runs all that is due, and moves the clock from one thing that is due to the next. */
static inline void advance(struct fixture *f, int64_t us)
{
    int64_t until = now_us + us;
    for (;;) {
        int64_t next = mj_scripts_run(f->scripts, 1000000);
        if (next == 0)
            continue;
        if (next < 0 || now_us + next > until)
            break;
        now_us += next;
    }
    now_us = until;
    mj_scripts_run(f->scripts, 1000000);
}

/* What the last script has counted as moonjet_script_seen. */
#define SEEN "local seen = jet.counter('seen', { 'what' })\n"

static inline int64_t seen_by(unsigned script, const char *what)
{
    char labels[128];
    snprintf(labels, sizeof labels, "script=\"s%u.lua\",what=\"%s\"", script, what);
    return counter("moonjet_script_seen", labels);
}
