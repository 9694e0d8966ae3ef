/* What happened to deliveries lately: a ring of the last so many, of all readers. It is looked
 * through only when somebody asks, so it has no index. */
#include "journal/reader_internal.h"

struct mj__attempts {
    pthread_mutex_t lock;
    struct mj_attempt *v; /* owned */
    size_t cap, n, next;
};

struct mj__attempts *mj__attempts_new(size_t count)
{
    struct mj__attempts *a = mj_calloc(1, sizeof *a);
    a->v = mj_calloc(count, sizeof *a->v);
    a->cap = count;
    pthread_mutex_init(&a->lock, NULL);
    return a;
}

void mj__attempts_free(struct mj__attempts *a)
{
    if (!a)
        return;
    pthread_mutex_destroy(&a->lock);
    free(a->v);
    free(a);
}

void mj__attempts_add(struct mj__attempts *a, const struct mj_attempt *one)
{
    pthread_mutex_lock(&a->lock);
    a->v[a->next] = *one;
    a->next = (a->next + 1) % a->cap;
    if (a->n < a->cap)
        a->n++;
    pthread_mutex_unlock(&a->lock);
}

void mj_attempts_find(struct mj_readers *rs, uint64_t seq,
                      void (*fn)(void *ctx, const struct mj_attempt *a), void *ctx)
{
    struct mj__attempts *a = rs->attempts;
    pthread_mutex_lock(&a->lock);
    for (size_t i = 0; i < a->n; i++) {
        const struct mj_attempt *one = &a->v[(a->next + a->cap - a->n + i) % a->cap];
        if (one->seq == seq)
            fn(ctx, one);
    }
    pthread_mutex_unlock(&a->lock);
}
