/* A prompt: reads lines, gathers those that belong together, and hands them over to be evaluated.
 * On a terminal they are edited, remembered and completed (libedit, where the build has it);
 * otherwise they come from stdin as they are, so that a session can be a file. */
#pragma once

#include "base/bytes.h"

struct mj__prompt_cfg {
    void *ctx;
    /* Evaluates the code and appends what is to be shown to `out`. 0; MJ_ETRUNC when it goes on in
     * another line; any other error, with words about it in `out`. */
    int (*eval)(void *ctx, struct mj_span code, struct mj_buf *out);
    /* Ctrl-C during eval. Async-signal-safe; NULL: nothing. */
    void (*interrupt)(void *ctx);
    /* Calls fn with each way to complete the word; NULL: no completion. */
    void (*complete)(void *ctx, const char *word, void (*fn)(void *fn_ctx, const char *word),
                     void *fn_ctx);
};

/* Until the input ends. The exit status: 0, or without a terminal 1 when something failed. One
 * prompt at a time. */
int mj__prompt_run(const struct mj__prompt_cfg *cfg);
