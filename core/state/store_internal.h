/* What a store is made of; internal to core/state. */
#pragma once

#include <pthread.h>

#include "state/disk.h"
#include "state/ledger.h"
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
    struct mj_labels *labels; /* owned */
    struct mj_disk *disk;     /* owned; NULL without a data directory */
    size_t script_bytes;
    int64_t (*now_us)(void *ctx);
    void *ctx;
};

/* load.c: fills a fresh shelf, or a fresh set, with what disk has. */
void mj__load_shelf(struct mj_shelf *shelf);
void mj__load_set(struct mj_disk *disk, struct mj_set *set);
/* store.c */
struct mj_state *mj__state_new(struct mj_shelf *shelf, enum mj_state_type type, const char *name);
void mj__shelve(struct mj_shelf *shelf, struct mj_state *s);
/* Once per process: something is to persist, and there is no data directory. */
void mj__warn_no_disk(const char *name);
void mj__state_metrics(const char *script, const char *name, struct mj_metric **entries,
                       struct mj_metric **bytes, struct mj_metric **evicted);
