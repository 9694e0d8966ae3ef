/* A map from texts to texts, numbers or booleans, of which the least recently written go first when
 * it is full. Functions that take `now` want Unix µs. On one thread at a time. */
#pragma once

#include "state/cells.h"

enum mj_value_type { MJ_VALUE_NUMBER, MJ_VALUE_TEXT, MJ_VALUE_FALSE, MJ_VALUE_TRUE };

struct mj_value {
    enum mj_value_type type;
    double number;
    struct mj_span text; /* borrowed */
};

struct mj_map {
    struct mj_cells cells;
};

/* 0 or MJ_ENOMEM. */
int mj_map_init(struct mj_map *m, struct mj_state_budget *budget);
void mj_map_deinit(struct mj_map *m);
static inline size_t mj_map_count(const struct mj_map *m) { return mj_cells_count(&m->cells); }

/* False when it is not there. The text is borrowed until the map changes. */
bool mj_map_get(const struct mj_map *m, struct mj_span key, int64_t now, struct mj_value *out);
/* ttl_us: of this entry, 0 for the map's. 0; MJ_EBIG: key or text is too long; MJ_ELIMIT: the
 * budget is used up; MJ_ENOMEM. After an error the entry is as it was, or not there. */
int mj_map_set(struct mj_map *m, struct mj_span key, const struct mj_value *value, int64_t now,
               int64_t ttl_us);
/* The same for an entry that was written at an earlier time, which disk had. */
int mj_map_restore(struct mj_map *m, struct mj_span key, const struct mj_value *value,
                   int64_t written, int64_t ttl_us);
/* Adds to a number, 0 when there is none; an entry with a ttl of its own keeps it. MJ_ETYPE: it is
 * no number; MJ_EINVAL: the sum is none; and as mj_map_set(). */
int mj_map_incr(struct mj_map *m, struct mj_span key, double by, int64_t now, double *out);
/* True when it was there. */
bool mj_map_remove(struct mj_map *m, struct mj_span key, int64_t now);
/* The entry behind the key (NULL: the first). 1; 0 at the end; MJ_EAGAIN: *next has ended, go on
 * from it. All borrowed until the map changes. */
int mj_map_after(const struct mj_map *m, const struct mj_span *key, int64_t now,
                 struct mj_span *next, struct mj_value *value);
