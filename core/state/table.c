#include "state/table.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/hash.h"

#define PART_MIN 64u
#define MAPPED   ((size_t)256 << 10) /* bytes from which a part is mapped: zeroed by the page */
#define UNMAP    ((size_t)1 << 20)   /* bytes given back at a time */

static uint64_t secret; /* set before there is a table */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_secret(void)
{
    if (getrandom(&secret, sizeof secret, 0) != sizeof secret)
        secret = (uint64_t)mj_now_us() * UINT64_C(0x9e3779b97f4a7c15);
}

uint64_t mj_table_hash(struct mj_span key)
{
    return XXH3_64bits_withSeed(key.ptr, key.len, secret);
}

/* Mixes 32 bits into 32 others, one to one. */
static uint32_t mix(uint32_t x)
{
    x ^= (uint32_t)secret;
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

uint64_t mj_table_hash_of(uint64_t hash) { return hash >> 32 << 32 | mix((uint32_t)hash); }

static uint64_t backwards(uint64_t x)
{
    x = __builtin_bswap64(x);
    x = (x >> 4 & UINT64_C(0x0f0f0f0f0f0f0f0f)) | (x & UINT64_C(0x0f0f0f0f0f0f0f0f)) << 4;
    x = (x >> 2 & UINT64_C(0x3333333333333333)) | (x & UINT64_C(0x3333333333333333)) << 2;
    return (x >> 1 & UINT64_C(0x5555555555555555)) | (x & UINT64_C(0x5555555555555555)) << 1;
}

uint32_t mj_table_mixed(uint32_t low) { return mix(low); }
uint32_t mj_item_mixed(const struct mj_table_item *item)
{
    return (uint32_t)backwards(item->link.order);
}

static uint64_t order_of(uint64_t hash) { return backwards(hash) | 1; }

/* Loads and stores are sequentially consistent because mj_epoch's promise needs that of those that
 * unlink and those that follow; on the machines we know, that costs a load nothing. */
static struct mj_link *follow(const struct mj_link *l)
{
    return atomic_load_explicit(&((struct mj_link *)l)->next, memory_order_seq_cst);
}

static size_t part_marks(unsigned part) { return part ? (size_t)PART_MIN << (part - 1) : PART_MIN; }

static struct mj_link *mark_at(const struct mj_table *t, uint64_t i)
{
    if (i < PART_MIN)
        return &t->parts[0][i];
    unsigned part = 64 - (unsigned)__builtin_clzll(i / PART_MIN);
    return &t->parts[part][i - part_marks(part)];
}

static struct mj_link *mark_of(const struct mj_table *t, uint64_t hash)
{
    uint64_t n = atomic_load_explicit(&((struct mj_table *)t)->marks, memory_order_acquire);
    uint64_t mask = UINT64_MAX >> (n > 1 ? __builtin_clzll(n - 1) : 63);
    uint64_t i = hash & mask;
    if (i >= n)
        i &= mask >> 1;
    return mark_at(t, i);
}

/* The next part of marks; false without memory. */
static bool add_part(struct mj_table *t, unsigned part)
{
    size_t bytes = part_marks(part) * sizeof(struct mj_link);
    void *p;
    if (bytes < MAPPED) {
        p = calloc(1, bytes);
    } else {
        p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            p = NULL;
    }
    if (!p)
        return false;
    t->parts[part] = p;
    t->parts_bytes += bytes;
    return true;
}

struct mj_table *mj_table_new(size_t size)
{
    struct mj_table *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    pthread_once(&once, make_secret);
    t->size = size;
    if (!add_part(t, 0)) {
        free(t);
        return NULL;
    }
    atomic_store_explicit(&t->marks, 1, memory_order_release);
    return t;
}

/* The last piece of the last part; false when there is none. */
static bool drop_piece(struct mj_table *t)
{
    unsigned part = MJ_TABLE_PARTS;
    while (part && !t->parts[part - 1])
        part--;
    if (!part--)
        return false;
    /* A part in the middle of going is as long as parts_bytes says. */
    size_t before = part ? part_marks(part) * sizeof(struct mj_link) : 0;
    size_t left = t->parts_bytes - before;
    if (part_marks(part) * sizeof(struct mj_link) < MAPPED) {
        free(t->parts[part]);
        t->parts[part] = NULL;
        t->parts_bytes -= left;
        return true;
    }
    size_t piece = left < UNMAP ? left : UNMAP;
    munmap((uint8_t *)t->parts[part] + (left - piece), piece);
    t->parts_bytes -= piece;
    if (piece == left)
        t->parts[part] = NULL;
    return true;
}

void mj_table_free(struct mj_table *t)
{
    if (!t)
        return;
    while (drop_piece(t))
        ;
    free(t);
}

bool mj_table_free_some(struct mj_table *t, size_t n,
                        void (*destroy)(void *ctx, struct mj_table_item *item), void *ctx)
{
    while (t->count) {
        struct mj_table_item *item = mj_table_first(t);
        if (!n--)
            return false;
        atomic_store_explicit(&t->parts[0]->next, follow(&item->link), memory_order_relaxed);
        destroy(ctx, item);
        t->count--;
    }
    if (drop_piece(t))
        return false;
    free(t);
    return true;
}

/* Where an item stands, or would: the link before it, from the mark of its bucket. */
static struct mj_link *before(const struct mj_table *t, struct mj_span key, uint64_t hash,
                              struct mj_table_item **there)
{
    uint64_t order = order_of(hash);
    struct mj_link *at = mark_of(t, hash), *next;
    *there = NULL;
    for (; (next = follow(at)) && next->order <= order; at = next) {
        if (next->order < order)
            continue;
        /* Different texts of one hash, which hardly ever meet, are in the order of their bytes. */
        struct mj_table_item *item = (struct mj_table_item *)next;
        int c = mj_span_cmp(mj_item_key(t, item), key);
        if (c == 0)
            *there = item;
        if (c >= 0)
            break;
    }
    return at;
}

struct mj_table_item *mj_table_find(const struct mj_table *t, struct mj_span key, uint64_t hash)
{
    struct mj_table_item *item;
    before(t, key, hash, &item);
    return item;
}

bool mj_table_has_low(const struct mj_table *t, uint32_t low)
{
    uint64_t mixed = mix(low), order = backwards(mixed);
    const struct mj_link *at = mark_of(t, mixed);
    while ((at = follow(at)) && at->order >> 32 <= order >> 32)
        if (at->order & 1 && at->order >> 32 == order >> 32)
            return true;
    return false;
}

struct mj_table_item *mj_table_item(const struct mj_table *t, struct mj_span key, uint64_t hash)
{
    uint8_t *p = calloc(1, t->size + key.len);
    if (!p)
        return NULL;
    struct mj_table_item *item = (struct mj_table_item *)p;
    item->link.order = order_of(hash);
    item->key_len = (uint32_t)key.len;
    if (key.len)
        memcpy(p + t->size, key.ptr, key.len);
    return item;
}

static void insert(struct mj_link *at, struct mj_link *link)
{
    atomic_store_explicit(&link->next, follow(at), memory_order_relaxed);
    atomic_store_explicit(&at->next, link, memory_order_seq_cst);
}

/* Sets one more mark. Without memory the table stays as it is, only a little slower. */
static void split(struct mj_table *t)
{
    uint64_t i = atomic_load_explicit(&t->marks, memory_order_relaxed);
    unsigned part = i < PART_MIN ? 0 : 64 - (unsigned)__builtin_clzll(i / PART_MIN);
    if (part >= MJ_TABLE_PARTS || (!t->parts[part] && !add_part(t, part)))
        return;
    struct mj_link *mark = mark_at(t, i), *next;
    struct mj_link *at = mark_at(t, i & ~(UINT64_C(1) << (63 - __builtin_clzll(i))));
    mark->order = backwards(i);
    while ((next = follow(at)) && next->order < mark->order)
        at = next;
    insert(at, mark);
    atomic_store_explicit(&t->marks, i + 1, memory_order_release);
}

void mj_table_put(struct mj_table *t, struct mj_table_item *item)
{
    struct mj_table_item *there;
    insert(before(t, mj_item_key(t, item), backwards(item->link.order), &there), &item->link);
    if (++t->count > atomic_load_explicit(&t->marks, memory_order_relaxed))
        split(t);
}

void mj_table_take(struct mj_table *t, struct mj_table_item *item)
{
    struct mj_table_item *there;
    struct mj_link *at = before(t, mj_item_key(t, item), backwards(item->link.order), &there);
    atomic_store_explicit(&at->next, follow(&item->link), memory_order_seq_cst);
    t->count--;
}

static struct mj_table_item *item_from(struct mj_link *l)
{
    while (l && !(l->order & 1))
        l = follow(l);
    return (struct mj_table_item *)l;
}

struct mj_table_item *mj_table_after(const struct mj_table *t, struct mj_span key, uint64_t hash)
{
    struct mj_table_item *there;
    struct mj_link *at = before(t, key, hash, &there);
    return item_from(follow(there ? &there->link : at));
}

struct mj_table_item *mj_table_first(const struct mj_table *t)
{
    return item_from(follow(t->parts[0]));
}

struct mj_table_item *mj_table_next(const struct mj_table_item *item)
{
    return item_from(follow(&item->link));
}
