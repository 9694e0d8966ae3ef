/* What a set is made of: for set.c and whoever keeps sets on disk. */
#pragma once

#include <pthread.h>

#include "state/set.h"
#include "state/sieve.h"

/* A member that disk had. 0, or as mj_set_add(). */
int mj__set_restore(struct mj_set *s, struct mj_span text, int64_t written);

/* Hands everything that disk does not have over. */
void mj__set_flush(struct mj_set *s);

struct giver {
    char *name;    /* owned */
    uint64_t hash; /* of what it gave last */
    size_t count;
    bool given; /* at all */
};

/* Members being given. */
struct giving {
    bool active, sweep, walking;
    unsigned giver; /* index */
    uint32_t round;
    struct mj_members members; /* owned */
    struct mj_span rest;       /* of members */
    struct mj_buf at;          /* owned: the key that the sweep has come to */
    struct mj_table *removed;  /* owned: what live edits have taken away since; NULL: nothing */
};

struct mj_set {
    struct mj_cells cells; /* writers: under the lock */
    struct mj_sieve sieve;
    _Atomic uint64_t version;
    _Atomic int64_t now; /* Unix µs, as of the last write or step: readers read no clock */
    _Atomic size_t count;
    _Atomic unsigned refs;
    pthread_mutex_t lock;
    int64_t (*now_us)(void *ctx);
    void *ctx;            /* borrowed */
    char *name;           /* owned; NULL when it has none */
    struct mj_disk *disk; /* borrowed; NULL: nothing is kept */
    bool persist;
    struct mj_metric *entries, *bytes, *evicted; /* NULL until it is declared */
    uint64_t evicted_told;
    struct giver givers[MJ_SET_GIVERS_MAX];
    size_t giver_count;
    struct giving giving;
};
