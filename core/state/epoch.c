#include "state/epoch.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/bytes.h"

/* Slots live for ever and are used again: as many as there were ever threads at a time. */
struct slot {
    alignas(64) _Atomic uint64_t epoch; /* 0: in no section */
    atomic_flag taken;
    struct slot *next; /* set before it is published */
};

static _Atomic uint64_t epoch = 1;
static _Atomic(struct slot *) slots;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local struct slot *mine;
static _Thread_local unsigned depth;

static void give_back(void *slot)
{
    mine = NULL;
    atomic_flag_clear_explicit(&((struct slot *)slot)->taken, memory_order_release);
}

static void make_key(void) { pthread_key_create(&key, give_back); }

static struct slot *take_slot(void)
{
    pthread_once(&once, make_key);
    struct slot *s = atomic_load(&slots);
    while (s && atomic_flag_test_and_set_explicit(&s->taken, memory_order_acquire))
        s = s->next;
    if (!s) {
        void *p = NULL;
        if (posix_memalign(&p, alignof(struct slot), sizeof *s))
            abort();
        s = p;
        memset(p, 0, sizeof *s);
        atomic_flag_test_and_set(&s->taken);
        s->next = atomic_load(&slots);
        while (!atomic_compare_exchange_weak(&slots, &s->next, s))
            ;
    }
    pthread_setspecific(key, s);
    return mine = s;
}

void mj_epoch_enter(void)
{
    struct slot *s = mine;
    if (depth++)
        return;
    if (MJ_UNLIKELY(!s))
        s = take_slot();
    /* Ordered before all that the section reads. */
    atomic_exchange(&s->epoch, atomic_load(&epoch));
}

void mj_epoch_leave(void)
{
    if (--depth == 0)
        atomic_store_explicit(&mine->epoch, 0, memory_order_release);
}

uint64_t mj_epoch_retire(void) { return atomic_fetch_add(&epoch, 1) + 1; }

uint64_t mj_epoch_safe(void)
{
    uint64_t oldest = UINT64_MAX;
    for (struct slot *s = atomic_load(&slots); s; s = s->next) {
        uint64_t at = atomic_load(&s->epoch);
        if (at && at < oldest)
            oldest = at;
    }
    return oldest;
}
