#include "state/sieve.h"

#include "base/hash.h"
#include "state/epoch.h"

#define BITS_PER_ITEM 16u
#define ITEMS_MIN     512u
#define ITEMS_MAX     (1u << 27)
#define FILL_PER_ADD  8 /* so that it is full long before it must be larger again */

struct mj_sieve_bits {
    unsigned shift; /* of a mixed hash, to a bit */
    uint32_t items; /* it was made for */
    uint32_t added; /* so far */
    _Atomic uint64_t words[];
};

static struct mj_sieve_bits *new_bits(size_t items)
{
    uint32_t n = ITEMS_MIN;
    while (n < items && n < ITEMS_MAX)
        n *= 2;
    size_t bits = (size_t)n * BITS_PER_ITEM;
    struct mj_sieve_bits *b = calloc(1, sizeof *b + bits / 8);
    if (b) {
        b->items = n;
        b->shift = 32 - (unsigned)__builtin_ctzll(bits);
    }
    return b;
}

static void set(struct mj_sieve_bits *b, uint32_t mixed)
{
    uint32_t bit = mixed >> b->shift;
    atomic_fetch_or_explicit(&b->words[bit / 64], UINT64_C(1) << bit % 64, memory_order_release);
    b->added++;
}

void mj_sieve_deinit(struct mj_sieve *s)
{
    free(atomic_load(&s->now));
    free(s->next);
    free(s->old);
    mj_buf_deinit(&s->at);
    *s = (struct mj_sieve){0};
}

/* Puts `bits` in the place of what there is. What was there before that has long been left. */
static void replace(struct mj_sieve *s, struct mj_sieve_bits *bits)
{
    struct mj_sieve_bits *before = atomic_load_explicit(&s->now, memory_order_relaxed);
    atomic_store_explicit(&s->now, bits, memory_order_seq_cst);
    s->old = before;
    s->old_epoch = mj_epoch_retire();
}

/* True when the place for what is replaced is free. */
static bool reclaim(struct mj_sieve *s)
{
    if (s->old && mj_epoch_safe() >= s->old_epoch) {
        free(s->old);
        s->old = NULL;
    }
    return !s->old;
}

static void begin(struct mj_sieve *s, size_t items)
{
    s->next = new_bits(items);
    s->walking = false;
}

void mj_sieve_clear(struct mj_sieve *s)
{
    free(s->next);
    s->next = NULL;
    /* Too many bits are no mistake: if there is no place for the old ones yet, they stay. */
    if (reclaim(s))
        replace(s, new_bits(0));
}

void mj_sieve_add(struct mj_sieve *s, const struct mj_table *t, const struct mj_table_item *item)
{
    struct mj_sieve_bits *now = atomic_load_explicit(&s->now, memory_order_relaxed);
    uint32_t mixed = mj_item_mixed(item);
    if (now)
        set(now, mixed);
    if (s->next)
        set(s->next, mixed);
    else if (!now || now->added > now->items)
        begin(s, 2 * t->count);
    mj_sieve_step(s, t, FILL_PER_ADD);
}

bool mj_sieve_step(struct mj_sieve *s, const struct mj_table *t, size_t n)
{
    bool room = reclaim(s);
    if (!s->next)
        return false;
    struct mj_span at = mj_buf_span(&s->at);
    const struct mj_table_item *item =
        s->walking ? mj_table_after(t, at, mj_table_hash_of(mj_hash(at))) : mj_table_first(t);
    s->walking = true;
    const struct mj_table_item *last = NULL;
    for (; item && n; n--) {
        set(s->next, mj_item_mixed(item));
        last = item;
        item = mj_table_next(item);
    }
    if (last) {
        struct mj_span key = mj_item_key(t, last);
        s->at.len = 0;
        mj_buf_put(&s->at, key.ptr, key.len);
    }
    if (item || !room)
        return item != NULL;
    s->next->added = (uint32_t)t->count;
    struct mj_sieve_bits *full = s->next;
    s->next = NULL;
    replace(s, full);
    return false;
}

bool mj_sieve_may_have(const struct mj_sieve *s, uint32_t low)
{
    const struct mj_sieve_bits *b =
        atomic_load_explicit(&((struct mj_sieve *)s)->now, memory_order_seq_cst);
    if (!b)
        return true;
    uint32_t bit = mj_table_mixed(low) >> b->shift;
    return atomic_load_explicit(&((struct mj_sieve_bits *)b)->words[bit / 64],
                                memory_order_acquire) >>
               bit % 64 &
           1;
}
