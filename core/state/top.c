#include "state/top.h"

#include "base/err.h"

#define COUNTERS_PER_K 4
#define COUNTERS_MIN   400
#define OVERHEAD       48 /* bytes of malloc, mark and heap node */
#define COUNT_MAX      (INT64_C(1) << 60)

struct counter {
    struct mj_table_item item; /* first */
    uint32_t place;            /* in the heap */
    int64_t count, error;
};

static void moved(void *item, uint32_t place) { ((struct counter *)item)->place = place; }

static size_t capacity(const struct mj_top *t)
{
    size_t n = t->k * COUNTERS_PER_K;
    return n < COUNTERS_MIN ? COUNTERS_MIN : n;
}

void mj_top_init(struct mj_top *t, size_t k, int64_t window_us, struct mj_state_budget *budget)
{
    *t = (struct mj_top){.k = k, .window_us = window_us, .budget = budget};
    for (size_t i = 0; i < MJ_TOP_SLICES; i++)
        t->slices[i].counters.moved = moved;
}

static bool charge(struct mj_top *t, ptrdiff_t bytes)
{
    struct mj_state_budget *b = t->budget;
    if (b && bytes > 0 && b->max &&
        atomic_load_explicit(&b->bytes, memory_order_relaxed) + (size_t)bytes > b->max)
        return false;
    t->bytes += (size_t)bytes;
    if (b)
        atomic_fetch_add_explicit(&b->bytes, (size_t)bytes, memory_order_relaxed);
    return true;
}

static ptrdiff_t bytes_of(size_t key_len)
{
    return (ptrdiff_t)(sizeof(struct counter) + key_len + OVERHEAD);
}

static void free_counter(void *ctx, struct mj_table_item *item)
{
    charge(ctx, -bytes_of(item->key_len));
    free(item);
}

static bool dig(struct mj_top *t, size_t n)
{
    if (t->going && mj_table_free_some(t->going, n, free_counter, t))
        t->going = NULL;
    return t->going != NULL;
}

/* The slice is empty; what it held is given back bit by bit. Slices end at most every tenth of a
 * window, but if the clock jumps there may be several at a time. */
static void drop(struct mj_top *t, struct mj_top_slice *s)
{
    while (dig(t, SIZE_MAX))
        ;
    t->going = s->table;
    s->table = NULL;
    mj_heap_deinit(&s->counters);
}

void mj_top_clear(struct mj_top *t)
{
    for (size_t i = 0; i < MJ_TOP_SLICES; i++)
        if (t->slices[i].table)
            drop(t, &t->slices[i]);
}

void mj_top_deinit(struct mj_top *t)
{
    mj_top_clear(t);
    while (dig(t, SIZE_MAX))
        ;
    mj_buf_deinit(&t->entries);
    mj_buf_deinit(&t->index);
}

void mj_top_configure(struct mj_top *t, size_t k, int64_t window_us)
{
    if (t->k == k && t->window_us == window_us)
        return;
    mj_top_clear(t);
    t->k = k;
    t->window_us = window_us;
}

static int64_t slice_number(const struct mj_top *t, int64_t now)
{
    int64_t length = t->window_us / MJ_TOP_SLICES;
    return t->window_us ? now / (length ? length : 1) : 0;
}

static bool is_over(const struct mj_top *t, const struct mj_top_slice *s, int64_t now)
{
    int64_t age = slice_number(t, now) - s->number;
    return age >= MJ_TOP_SLICES || age <= -MJ_TOP_SLICES; /* or the clock was set back a lot */
}

static struct mj_top_slice *slice_of(struct mj_top *t, int64_t now)
{
    int64_t number = slice_number(t, now);
    struct mj_top_slice *s = &t->slices[(uint64_t)number % MJ_TOP_SLICES];
    if (s->number != number) {
        if (s->table)
            drop(t, s);
        s->number = number;
    }
    return s;
}

/* A counter for the key, which has none in the slice. */
static int take_counter(struct mj_top *t, struct mj_top_slice *s, struct mj_span key, uint64_t hash,
                        int64_t n)
{
    if (!charge(t, bytes_of(key.len)))
        return MJ_ELIMIT;
    struct counter *c = (struct counter *)mj_table_item(s->table, key, hash), *lowest = NULL;
    if (!c) {
        charge(t, -bytes_of(key.len));
        return MJ_ENOMEM;
    }
    if (s->counters.count >= capacity(t)) {
        lowest = mj_heap_top(&s->counters)->item;
        c->error = lowest->count;
        mj_heap_take(&s->counters, lowest->place);
        mj_table_take(s->table, &lowest->item);
        free_counter(t, &lowest->item);
    }
    c->count = c->error + n;
    if (mj_heap_put(&s->counters, c->count, c)) {
        free_counter(t, &c->item);
        return MJ_ENOMEM;
    }
    mj_table_put(s->table, &c->item);
    return 0;
}

int mj_top_add(struct mj_top *t, struct mj_span key, int64_t n, int64_t now)
{
    if (key.len > MJ_STATE_KEY_MAX)
        return MJ_EBIG;
    struct mj_top_slice *s = slice_of(t, now);
    if (!s->table && !(s->table = mj_table_new(sizeof(struct counter))))
        return MJ_ENOMEM;
    dig(t, 2);
    uint64_t hash = mj_table_hash(key);
    struct counter *c = (struct counter *)mj_table_find(s->table, key, hash);
    if (!c)
        return take_counter(t, s, key, hash, n);
    if (c->count < COUNT_MAX)
        c->count += n;
    mj_heap_change(&s->counters, c->place, c->count);
    return 0;
}

/* What a key that has no counter in the slice may have had there. */
static int64_t lowest_count(const struct mj_top *t, const struct mj_top_slice *s)
{
    return s->counters.count >= capacity(t) ? mj_heap_top(&s->counters)->key : 0;
}

static int by_count(const void *a, const void *b)
{
    const struct mj_top_entry *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return mj_span_cmp(x->key, y->key);
}

/* What is being summed up: each key once, found again by the slots. */
struct sums {
    struct mj_top_entry *v; /* in the top's entries */
    size_t n;
    uint32_t *slots; /* in the top's index: 1 + the key's place in v, or 0; half full at most */
    size_t mask;
    int64_t unseen; /* what a key without any counter may have had */
};

static struct mj_top_entry *sum_of(struct sums *a, struct mj_span key, uint64_t order)
{
    size_t i = (size_t)(order * UINT64_C(0x9e3779b97f4a7c15) >> 32) & a->mask;
    while (a->slots[i] && !mj_span_eq(a->v[a->slots[i] - 1].key, key))
        i = (i + 1) & a->mask;
    if (!a->slots[i]) {
        a->v[a->n] = (struct mj_top_entry){key, a->unseen, a->unseen};
        a->slots[i] = (uint32_t)++a->n;
    }
    return &a->v[a->slots[i] - 1];
}

/* Room for as many keys as there are counters in slices that count. */
static int begin_sums(struct mj_top *t, int64_t now, struct sums *a)
{
    size_t counters = 0, slots = 64;
    *a = (struct sums){0};
    for (size_t i = 0; i < MJ_TOP_SLICES; i++) {
        const struct mj_top_slice *s = &t->slices[i];
        if (!s->table || is_over(t, s, now))
            continue;
        counters += s->counters.count;
        a->unseen += lowest_count(t, s);
    }
    while (slots < 2 * counters)
        slots *= 2;
    t->entries.len = t->index.len = 0;
    if (mj_buf_try_reserve(&t->entries, counters * sizeof *a->v) ||
        mj_buf_try_reserve(&t->index, slots * sizeof *a->slots))
        return MJ_ENOMEM;
    a->v = (void *)t->entries.ptr;
    a->slots = (void *)t->index.ptr;
    a->mask = slots - 1;
    memset(a->slots, 0, slots * sizeof *a->slots);
    return 0;
}

/* Keeps v a heap of n whose last in order is first, from `at` down. */
static void sift(struct mj_top_entry *v, size_t n, size_t at)
{
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && by_count(&v[child + 1], &v[child]) > 0;
        if (by_count(&v[child], &v[at]) <= 0)
            return;
        struct mj_top_entry e = v[at];
        v[at] = v[child];
        v[child] = e;
    }
}

/* Brings the first n in order to the front, in order: of all, only they are sorted. */
static void select_first(struct mj_top_entry *v, size_t all, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift(v, n, i);
    for (size_t i = n; n && i < all; i++)
        if (by_count(&v[i], &v[0]) < 0) {
            v[0] = v[i];
            sift(v, n, 0);
        }
    if (n)
        qsort(v, n, sizeof *v, by_count);
}

ptrdiff_t mj_top_list(struct mj_top *t, size_t n, int64_t now, const struct mj_top_entry **out)
{
    struct sums a;
    *out = NULL;
    if (begin_sums(t, now, &a))
        return MJ_ENOMEM;
    for (size_t i = 0; i < MJ_TOP_SLICES; i++) {
        const struct mj_top_slice *s = &t->slices[i];
        if (!s->table || is_over(t, s, now))
            continue;
        int64_t lowest = lowest_count(t, s);
        for (struct mj_table_item *item = mj_table_first(s->table); item;
             item = mj_table_next(item)) {
            const struct counter *c = (const struct counter *)item;
            struct mj_top_entry *e = sum_of(&a, mj_item_key(s->table, item), item->link.order);
            e->count += c->count - lowest;
            e->error += c->error - lowest;
        }
    }
    if (n > t->k)
        n = t->k;
    if (n > a.n)
        n = a.n;
    select_first(a.v, a.n, n);
    *out = a.v;
    return (ptrdiff_t)n;
}

size_t mj_top_count(const struct mj_top *t)
{
    size_t n = 0;
    for (size_t i = 0; i < MJ_TOP_SLICES; i++)
        n += t->slices[i].counters.count;
    return n;
}

bool mj_top_step(struct mj_top *t, int64_t now, size_t n)
{
    bool more = dig(t, n);
    for (size_t i = 0; i < MJ_TOP_SLICES && !more; i++)
        if (t->slices[i].table && is_over(t, &t->slices[i], now)) {
            drop(t, &t->slices[i]);
            more = true;
        }
    return more;
}
