/* What a store is made of; internal to core/state. */
#pragma once

#include <pthread.h>

#include "state/store.h"

struct mj_shelf {
    struct mj_store *store;   /* borrowed */
    char *script;             /* owned */
    struct mj_state **states; /* owned array of refs */
    size_t count;
    struct mj_state *dying; /* owned: nobody has them any more */
    struct mj_state_budget budget;
    int64_t now; /* Unix µs, of the last step */
    struct mj_shelf *next;
};

struct mj_store {
    pthread_mutex_t lock;     /* over the list of shelves */
    struct mj_shelf *shelves; /* owned; they stay as long as the store */
    struct mj_sets *sets;     /* owned */
    size_t script_bytes;
    int64_t (*now_us)(void *ctx);
    void *ctx;
};

void mj__state_metrics(const char *script, const char *name, struct mj_metric **entries,
                       struct mj_metric **bytes, struct mj_metric **evicted);
