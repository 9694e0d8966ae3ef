/* A kept event: a copy of an event that outlives its frame, for tasks, queues, batches, lanes and
 * plug-ins. One allocation, immutable, reference-counted; any thread may hold and drop it. */
#pragma once

#include <stdatomic.h>

#include "event/event.h"

struct mj_kept {
    _Atomic unsigned refs;
    struct mj_event ev; /* its spans point behind this struct */
};

/* A copy with one reference. Never NULL. */
struct mj_kept *mj_kept_new(const struct mj_event *ev);
struct mj_kept *mj_kept_ref(struct mj_kept *k);
void mj_kept_unref(struct mj_kept *k); /* NULL is fine */
/* Bytes a kept copy of the event takes. */
size_t mj_kept_size_of(const struct mj_event *ev);
/* Bytes it holds, itself included. */
size_t mj_kept_size(const struct mj_kept *k);
