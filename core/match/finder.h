/* Many paths into one record. A path is followed by passing over what comes before it, which a
 * stranger can make a megabyte of: a hundred paths would take the router a second. So containers of
 * a large record that a path has led into are remembered by where their children start.
 *
 * Internal to the match room. Belongs to facts. */
#pragma once

#include "event/path.h"

#define MJ__FINDER_OPEN 64 /* containers that are remembered */

struct mj__finder {
    struct mj_span record; /* borrowed; checked */
    struct mj__opened {
        uint32_t at;    /* where it starts in the record */
        uint32_t first; /* of its children */
        uint32_t count;
        bool is_map;
    } opened[MJ__FINDER_OPEN];
    size_t opened_count;
    struct mj_buf children; /* owned: struct mj__child; no more of them than the record has bytes */
};

void mj__finder_begin(struct mj__finder *f, struct mj_span record);
void mj__finder_deinit(struct mj__finder *f);
/* As mj_path_step(), for `in` within the record. */
int mj__finder_step(struct mj__finder *f, struct mj_span in, const struct mj_step *step,
                    struct mj_span *value);
