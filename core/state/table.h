/* The hash table under all state: it grows by one bucket at a time, so no insert is slow however
 * many keys there are, and it may be read without a lock while one thread changes it.
 *
 * All items are in one list, in the order of their hashes' bits read backwards. Buckets are marks
 * in that list. When a bucket is split, a mark is set in its middle and no item moves:
 *
 *   buckets  0 ──────────────▶ 1 ──────────▶          items of bucket 0, then those of bucket 1
 *   becomes  0 ────▶ 2 ──────▶ 1 ────▶ 3 ──▶          those whose next bit is set come behind the
 *                                                     new mark already
 *
 * A reader that has not heard of a new mark starts at the older one before it and walks a little
 * further. Marks are kept in parts of doubling size, which never move either.
 *
 *   parts[0]  64 marks    parts[1]  64    parts[2]  128    parts[3]  256 …
 *
 * An item is embedded in a larger struct, whose size the table knows; its key lies behind it. Items
 * belong to whoever put them. One writer at a time; readers inside mj_epoch sections. */
#pragma once

#include <stdatomic.h>

#include "base/bytes.h"

#define MJ_TABLE_PARTS 27 /* 2^32 marks */

struct mj_link {
    _Atomic(struct mj_link *) next;
    uint64_t order; /* bits of the hash backwards; odd for items, even for marks */
};

struct mj_table_item {
    struct mj_link link; /* first */
    uint32_t key_len;
};

struct mj_table {
    size_t size; /* bytes of what an item is embedded in */
    size_t count;
    _Atomic uint64_t marks;                /* that may be used */
    struct mj_link *parts[MJ_TABLE_PARTS]; /* owned */
    size_t parts_bytes;
};

/* A hash of a text that nobody outside can foresee, so that nobody can choose texts that meet. Once
 * there is a table. */
uint64_t mj_table_hash(struct mj_span key);
/* The same, of which half can be told from the low half of mj_hash(). */
uint64_t mj_table_hash_of(uint64_t hash);

/* What the low half of mj_hash() becomes there, and of an item's text. */
uint32_t mj_table_mixed(uint32_t low);
uint32_t mj_item_mixed(const struct mj_table_item *item);

/* NULL without memory. */
struct mj_table *mj_table_new(size_t size);
/* Items are not looked at. For large tables use mj_table_free_some(). */
void mj_table_free(struct mj_table *t);
/* Gives back up to n items, each by `destroy`, then the table itself: true when it is gone. Nobody
 * may be reading it any more. */
bool mj_table_free_some(struct mj_table *t, size_t n,
                        void (*destroy)(void *ctx, struct mj_table_item *item), void *ctx);

static inline struct mj_span mj_item_key(const struct mj_table *t, const struct mj_table_item *item)
{
    return mj_span((const uint8_t *)item + t->size, item->key_len);
}

/* NULL when it is not there. */
struct mj_table_item *mj_table_find(const struct mj_table *t, struct mj_span key, uint64_t hash);
/* Any item whose mj_table_hash_of() has that low half: whether there may be a text of that hash. */
bool mj_table_has_low(const struct mj_table *t, uint32_t low);
/* A zeroed item, not in the table yet, with the key behind it; free() ends it. NULL without memory.
 */
struct mj_table_item *mj_table_item(const struct mj_table *t, struct mj_span key, uint64_t hash);
/* Its key must not be there. */
void mj_table_put(struct mj_table *t, struct mj_table_item *item);
/* It must be there. Readers may hold it still. */
void mj_table_take(struct mj_table *t, struct mj_table_item *item);
/* The item behind where the key is or would be, NULL at the end. A walk that goes on by the last
 * key sees every item that is there all the while exactly once, whatever comes and goes. */
struct mj_table_item *mj_table_after(const struct mj_table *t, struct mj_span key, uint64_t hash);
struct mj_table_item *mj_table_first(const struct mj_table *t);
struct mj_table_item *mj_table_next(const struct mj_table_item *item);
