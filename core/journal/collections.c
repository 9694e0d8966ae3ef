/* Interned collection names. Lookups take no lock: a slot of the hash table goes from NULL to a
 * name once and never changes again, so an acquire-load is enough. Names come from the network,
 * hence the bound: anybody can write records in as many collections as they like. */
#include <pthread.h>
#include <stdatomic.h>

#include "base/hash.h"
#include "journal/journal.h"

#define SLOTS (2 * MJ_COLLECTIONS_MAX) /* a power of two, never more than half full */

struct name {
    uint64_t hash;
    uint32_t id;
    uint32_t len;
    uint8_t text[];
};

static struct name *_Atomic slots[SLOTS];
static struct name *_Atomic by_id[MJ_COLLECTIONS_MAX + 1];
static uint32_t count; /* under the lock */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The name, or NULL with *slot at the empty slot where it belongs. */
static struct name *find(struct mj_span text, uint64_t hash, size_t *slot)
{
    for (size_t i = hash & (SLOTS - 1);; i = (i + 1) & (SLOTS - 1)) {
        struct name *n = atomic_load_explicit(&slots[i], memory_order_acquire);
        *slot = i;
        if (!n || (n->hash == hash && mj_span_eq(mj_span(n->text, n->len), text)))
            return n;
    }
}

uint32_t mj_collection_id(struct mj_span text)
{
    uint64_t hash = mj_hash(text);
    size_t slot;
    struct name *n = find(text, hash, &slot);
    if (MJ_LIKELY(n != NULL))
        return n->id;
    if (text.len > MJ_COLLECTION_LEN)
        return MJ_COLLECTION_NONE;
    pthread_mutex_lock(&lock);
    n = find(text, hash, &slot); /* another thread may have been first */
    if (!n && count < MJ_COLLECTIONS_MAX) {
        n = mj_alloc(sizeof *n + text.len);
        n->hash = hash;
        n->id = ++count;
        n->len = (uint32_t)text.len;
        if (text.len)
            memcpy(n->text, text.ptr, text.len);
        atomic_store_explicit(&by_id[n->id], n, memory_order_release);
        atomic_store_explicit(&slots[slot], n, memory_order_release);
    }
    pthread_mutex_unlock(&lock);
    return n ? n->id : MJ_COLLECTION_NONE;
}

struct mj_span mj_collection_name(uint32_t id)
{
    if (id > MJ_COLLECTIONS_MAX)
        return mj_span(NULL, 0);
    struct name *n = atomic_load_explicit(&by_id[id], memory_order_acquire);
    return n ? mj_span(n->text, n->len) : mj_span(NULL, 0);
}
