/* What benches of scripts run on: a router with a journal in memory, streams and scripts. */
#pragma once

#include "script/script.h"

struct mj_bench_route {
    struct mj_journal *journal; /* owned, like all of these */
    struct mj_streams *streams;
    struct mj_router *router;
    struct mj_scripts *scripts;
};

/* `kept`: bytes the journal keeps. */
void mj_bench_route_init(struct mj_bench_route *r, size_t kept);
void mj_bench_route_deinit(struct mj_bench_route *r);
/* Loads a script from its source. cfg NULL: defaults. `name` (NULL: nobody asks) gets how metrics
 * name it. 0, or a negative error after a message on stderr. */
int mj_bench_script(struct mj_scripts *scripts, struct mj_span source,
                    const struct mj_script_cfg *cfg, char name[32]);
