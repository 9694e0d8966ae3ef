/* A ring of texts between one writer and one reader thread, of fixed size. Texts lie in it whole:
 * the ring's memory is mapped twice in a row, so that one which starts at its end goes on there.
 * Writing takes no lock unless the reader sleeps. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/bytes.h"

struct mj_ring {
    uint8_t *bytes;                     /* owned mapping of 2 × size */
    size_t size;                        /* a power of two */
    _Alignas(64) _Atomic uint64_t head; /* written up to here; the writer's */
    _Alignas(64) _Atomic uint64_t tail; /* read up to here; the reader's */
    atomic_bool sleeping;
    bool ended, poked;
    pthread_mutex_t lock; /* of `ended` and sleeping */
    pthread_cond_t wake;
};

struct mj_ring_item {
    struct mj_span text; /* borrowed until mj_ring_done() */
    int64_t tag;         /* the writer's */
};

/* `size` is rounded up to a power of two, 64 KiB or more. 0 or MJ_ENOMEM. */
int mj_ring_init(struct mj_ring *r, size_t size);
void mj_ring_deinit(struct mj_ring *r);
/* The writer: 0, or MJ_ELIMIT when there is no room. */
int mj_ring_put(struct mj_ring *r, struct mj_span text, int64_t tag);
/* The reader: up to `max` items in order; waits for the first for `wait_us` at most, or until
 * mj_ring_end(). */
size_t mj_ring_get(struct mj_ring *r, struct mj_ring_item *out, size_t max, int64_t wait_us);
/* The reader is done with the first n of what it got last. */
void mj_ring_done(struct mj_ring *r, const struct mj_ring_item *items, size_t n);
/* The next, or present, mj_ring_get() does not wait. Any thread. */
void mj_ring_poke(struct mj_ring *r);
/* No more comes: mj_ring_get() does not wait any longer. Any thread. */
void mj_ring_end(struct mj_ring *r);
bool mj_ring_ended(struct mj_ring *r);
/* Bytes waiting. Any thread. */
size_t mj_ring_used(const struct mj_ring *r);
