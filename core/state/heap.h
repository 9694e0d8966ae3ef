/* A binary heap of numbers with something each; the smallest is on top. Whoever is in the heap
 * keeps its place up to date by `moved`, so that it can be moved or taken out from anywhere. */
#pragma once

#include "base/bytes.h"

struct mj_heap_node {
    int64_t key;
    void *item; /* borrowed */
};

struct mj_heap {
    struct mj_heap_node *v; /* owned */
    uint32_t count, cap;
    void (*moved)(void *item, uint32_t place); /* place 0: no longer in the heap */
};

void mj_heap_deinit(struct mj_heap *h); /* items are not told */
/* 0 or MJ_ENOMEM. */
int mj_heap_put(struct mj_heap *h, int64_t key, void *item);
/* Places count from 1. */
void mj_heap_change(struct mj_heap *h, uint32_t place, int64_t key);
void mj_heap_take(struct mj_heap *h, uint32_t place);
static inline const struct mj_heap_node *mj_heap_top(const struct mj_heap *h)
{
    return h->count ? &h->v[0] : NULL;
}
