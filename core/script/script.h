/* Scripts: Lua files that draw graphs and run on events (docs/scripting.md).
 *
 *   struct mj_scripts *s = mj_scripts_new(router);
 *   if (mj_scripts_load(s, "examples/quickstart.lua", &cfg, &error)) …
 *
 * One file is one VM: a script's error, loop or memory bomb costs its own events only. Loading
 * runs the file once, which declares; on success its graph is added to the router, and its
 * functions run on the router's thread from then on.
 *
 * Owns the VMs and graphs, borrows the router. Free the router first. */
#pragma once

#include "base/options.h"
#include "flow/router.h"

struct mj_scripts;

struct mj_script_cfg {
    size_t memory;                   /* bytes of heap; 0 = 64 MiB */
    int64_t call_us;                 /* budget of one call; 0 = 50 ms */
    int64_t declare_us;              /* budget of loading; 0 = 500 ms */
    int64_t slow_us;                 /* a call above it is counted as slow; 0 = 5 ms */
    const struct mj_strings *config; /* borrowed, while loading: "key=value" each, for jet.config */
};

/* router NULL: scripts are loaded and checked, nothing runs. */
struct mj_scripts *mj_scripts_new(struct mj_router *router);
void mj_scripts_free(struct mj_scripts *s);

/* Loads one file. cfg NULL for the defaults. 0; MJ_EIO when it cannot be read; MJ_EINVAL when it
 * does not load; MJ_ELIMIT for too many streams. The reason is appended to `error`, with file and
 * line where there is one; nothing of the script remains then. */
int mj_scripts_load(struct mj_scripts *s, const char *path, const struct mj_script_cfg *cfg,
                    struct mj_buf *error);
size_t mj_scripts_count(const struct mj_scripts *s);
/* The graph of script i, in load order. Borrowed. */
const struct mj_graph *mj_scripts_graph(const struct mj_scripts *s, size_t i);
