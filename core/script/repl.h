/* Running lines of Lua in a script's VM: what `moonjet repl` and `moonjet ctl repl` are made of.
 *
 * What is typed sees the script's own locals, as far as one of its functions uses them, and may
 * change them; names it assigns itself last as long as the VM. With a recording there is an event
 * in hand, and functions that go through the others (lua/repl.lua).
 *
 *   line ─▶ session in the script's VM ─▶ text for people
 *
 * What is typed has a limit on its time and the script's limit on memory. Being stopped is no
 * strike: whoever types is no part of the script. */
#pragma once

#include "event/kept.h"
#include "script/script.h"

#define MJ_REPL_TEXT_MAX (1u << 20) /* bytes one line may print */

/* Runs `code` in the script of that name (with or without .lua; NULL: the first) and appends what
 * it printed and returned to `out`. On the scripts' thread, between frames. 0; MJ_ENOENT when
 * there is no such script, MJ_ETRUNC when the code goes on in another line, MJ_EINVAL when it
 * failed; `out` has words about each. */
int mj_scripts_eval(struct mj_scripts *s, const char *script, struct mj_span code,
                    struct mj_buf *out);

struct mj_repl;

/* A session of its own, beside no network: `path` NULL is an empty script. The events are taken
 * over (the array, too). NULL with a sentence in `error`, and the events are freed. */
struct mj_repl *mj_repl_new(const char *path, const struct mj_script_cfg *cfg,
                            struct mj_kept **events, size_t count, struct mj_buf *error);
void mj_repl_free(struct mj_repl *r); /* NULL is fine */
/* As mj_scripts_eval(). */
int mj_repl_eval(struct mj_repl *r, struct mj_span code, struct mj_buf *out);
/* Ends the running mj_repl_eval() soon. Async-signal-safe. */
void mj_repl_interrupt(struct mj_repl *r);
/* Calls fn with each way to complete the expression at the end of `text` ("jet.from" for "jet.fr");
 * borrowed during the call. */
void mj_repl_complete(struct mj_repl *r, const char *text, void (*fn)(void *ctx, const char *word),
                      void *ctx);
