/* Reload: what runs is brought in line with the files and the configuration, while it runs.
 *
 *   file, modules or configuration changed ─▶ new VM, declare ─▶ router swaps graphs between events
 *        │ no                                     │ fails            │ fails
 *        └─▶ stays                                └─▶ the old one goes on, and why is said
 *
 * Whether something changed is decided by contents, not by times: a script that is as it was keeps
 * its VM and all its locals. Named state lives outside of VMs and survives. The old VM's tasks get
 * some seconds to end. Everything runs on the scripts' thread, between frames; loading takes as
 * long as the script's top level, for at most its budget. */
#pragma once

#include "script/script.h"

/* A script as it shall run. */
struct mj_script_spec {
    const char *path;                /* borrowed */
    const struct mj_script_cfg *cfg; /* borrowed; what it borrows lives until the call returns */
    bool keep;                       /* when it runs, leave it as it is, whatever has changed */
    bool revive; /* load it, though nothing has changed, when it is out until it is reloaded */
};

struct mj_reload {
    unsigned kept, reloaded, added, removed, failed;
};

/* Makes the scripts those of the list, in its order. `all`: also those that have not changed. What
 * changed and what failed is appended to `report`, a line each. 0, or MJ_EINVAL when something
 * failed: a script that does not load, or whose streams cannot be, stays as it was. */
int mj_scripts_reload(struct mj_scripts *s, const struct mj_script_spec *specs, size_t n, bool all,
                      struct mj_reload *out, struct mj_buf *report);
/* Appends the names of the streams that the scripts feed, a line each. Any thread, while they run.
 */
void mj_scripts_fed(const struct mj_scripts *s, struct mj_buf *out);
/* Of two such texts: a line for each stream that is fed no more. Its subscribers wait for ever. */
void mj_reload_unfed(struct mj_span before, struct mj_span now, struct mj_buf *report);
/* Whether script i is not what its files and that configuration say. Any thread, while it runs. */
bool mj_scripts_changed(const struct mj_scripts *s, size_t i, const struct mj_script_cfg *cfg);
/* Names each file that the scripts were loaded from: scripts, modules, files of sets. */
void mj_scripts_files(const struct mj_scripts *s, void (*fn)(void *ctx, const char *path),
                      void *ctx);
