/* Lua at a prompt: what `moonjet repl` and `moonjet ctl repl` have in common. With a terminal lines
 * are edited (libedit, where the build has it) and remembered; without, they are read as they come,
 * so that a session can be a file. One prompt per process. */
#pragma once

#include "base/bytes.h"

struct mj_prompt_cfg {
    const char *greeting; /* borrowed */
    void *ctx;            /* of the functions */
    /* Runs the lines so far and appends what they say. 0, MJ_ETRUNC when the code goes on in
     * another line, or another error. */
    int (*eval)(void *ctx, struct mj_span code, struct mj_buf *out);
    /* Ends the running eval soon; async-signal-safe. NULL: the program ends instead. */
    void (*interrupt)(void *ctx);
    /* Calls fn with each way to complete the end of `text`. NULL: there is none. */
    void (*complete)(void *ctx, const char *text, void (*fn)(void *ctx, const char *word),
                     void *fn_ctx);
};

/* Takes lines until there are no more. False when one of them failed and nobody sat there to see
 * it. */
bool mj_prompt_run(const struct mj_prompt_cfg *cfg);
