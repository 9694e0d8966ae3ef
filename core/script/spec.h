/* Specs: Lua files that test scripts (docs/scripting.md, "Testing"). A spec runs in a VM of its own
 * with describe, it and assert; jet.test in it loads a script into a bed (script/bed.h).
 *
 *   spec file ── VM of the spec: lua/test.lua, lua/assert.lua
 *       jet.test "moon" ─▶ bed: VM of the script, router, made-up network
 *
 * Values cross between the two as copies. A spec may take some seconds per `it`; one that takes
 * longer is stopped with its line, and the next one runs. */
#pragma once

#include "base/bytes.h"
#include "event/event.h"

/* Takes one recorded event, which is borrowed during the call; a negative return ends the reading
 * and is its result. */
typedef int (*mj_recorded_fn)(void *ctx, struct mj_event *ev);

struct mj_spec_cfg {
    const char *filter; /* a Lua pattern that a test's full name must match; NULL: all */
    bool list;          /* print the names, run nothing */
    bool tap;           /* print TAP, a machine's format */
    bool colour;
    int64_t limit_us; /* of one `it` with its hooks; 0 = 10 s */
    /* Takes what is printed; borrowed during the call. */
    void (*write)(void *ctx, struct mj_span text);
    void *ctx;
    /* Reads a recording, calls fn per event. 0, what fn said, or an error with a sentence appended
     * to `error`. NULL: t:replay is an error. */
    int (*read)(const char *path, mj_recorded_fn fn, void *fn_ctx, struct mj_buf *error);
};

struct mj_spec_counts {
    unsigned passed, failed, skipped;
};

/* Runs the spec file and adds to the counts. A file that does not load counts as one failure. */
void mj_spec_run(const char *path, const struct mj_spec_cfg *cfg, struct mj_spec_counts *counts);
