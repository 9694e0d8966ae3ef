#include "flow/recent.h"

#define CHUNK       1024 /* entries */
#define SHARD       4096 /* entries, about, when the table is full */
#define SHARD_LEAST 8    /* slots */
#define NOWHERE     UINT32_MAX
#define SWEEP       4 /* old entries looked at per new one */

struct entry {
    uint64_t hash;
    int64_t time;
};

struct shard {
    uint32_t *slots; /* owned: places in the log, or NOWHERE; at most three quarters are taken */
    uint32_t cap, used;
};

struct mj_recent {
    size_t max;
    bool rotate;
    uint64_t head, tail;   /* entries ever added, ever forgotten; a place is one modulo `places` */
    size_t places;         /* a power of two, more than max */
    struct entry **chunks; /* owned array of owned chunks, those between tail and head */
    struct entry *spare;   /* owned: a chunk given back, for the next */
    struct shard *shards;  /* owned */
    size_t shard_count;    /* a power of two */
    size_t count;          /* in the shards; the log may hold places given up, too */
    size_t bytes;
};

static size_t power_of_two(size_t n)
{
    size_t p = 1;
    while (p < n)
        p *= 2;
    return p;
}

struct mj_recent *mj_recent_new(size_t max, bool rotate)
{
    struct mj_recent *r = mj_calloc(1, sizeof *r);
    r->max = max < 1 ? 1 : max > MJ_RECENT_MAX ? MJ_RECENT_MAX : max;
    r->rotate = rotate;
    r->places = power_of_two(r->max + CHUNK + 1);
    r->chunks = mj_calloc(r->places / CHUNK, sizeof *r->chunks);
    r->shard_count = power_of_two(r->max / SHARD + 1);
    r->shards = mj_calloc(r->shard_count, sizeof *r->shards);
    r->bytes =
        sizeof *r + r->places / CHUNK * sizeof *r->chunks + r->shard_count * sizeof *r->shards;
    return r;
}

void mj_recent_free(struct mj_recent *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->places / CHUNK; i++)
        free(r->chunks[i]);
    for (size_t i = 0; i < r->shard_count; i++)
        free(r->shards[i].slots);
    free(r->chunks);
    free(r->spare);
    free(r->shards);
    free(r);
}

size_t mj_recent_count(const struct mj_recent *r) { return r->count; }
size_t mj_recent_bytes(const struct mj_recent *r) { return r->bytes; }

static struct entry *entry_at(const struct mj_recent *r, uint32_t place)
{
    return &r->chunks[place / CHUNK][place % CHUNK];
}

static uint32_t place_of(const struct mj_recent *r, uint64_t number)
{
    return (uint32_t)(number & (r->places - 1));
}

static struct shard *shard_of(const struct mj_recent *r, uint64_t hash)
{
    return &r->shards[(hash >> 40) & (r->shard_count - 1)];
}

/* The slot of the hash, or the empty one where it would go. The shard has slots. */
static uint32_t slot_of(const struct mj_recent *r, const struct shard *s, uint64_t hash)
{
    uint32_t i = (uint32_t)hash & (s->cap - 1);
    while (s->slots[i] != NOWHERE && entry_at(r, s->slots[i])->hash != hash)
        i = (i + 1) & (s->cap - 1);
    return i;
}

static void resize(struct mj_recent *r, struct shard *s, uint32_t cap)
{
    struct shard old = *s;
    s->slots = mj_alloc(cap * sizeof *s->slots);
    s->cap = cap;
    memset(s->slots, 0xff, cap * sizeof *s->slots);
    for (uint32_t i = 0; i < old.cap; i++)
        if (old.slots[i] != NOWHERE)
            s->slots[slot_of(r, s, entry_at(r, old.slots[i])->hash)] = old.slots[i];
    free(old.slots);
    r->bytes += (size_t)cap * sizeof *s->slots;
    r->bytes -= (size_t)old.cap * sizeof *s->slots;
}

/* Empties a slot; those behind it that it had pushed on move up. */
static void remove_slot(struct mj_recent *r, struct shard *s, uint32_t hole)
{
    for (uint32_t i = (hole + 1) & (s->cap - 1); s->slots[i] != NOWHERE;
         i = (i + 1) & (s->cap - 1)) {
        uint32_t home = (uint32_t)entry_at(r, s->slots[i])->hash & (s->cap - 1);
        /* It may not move before its home. */
        if (((i - home) & (s->cap - 1)) >= ((i - hole) & (s->cap - 1))) {
            s->slots[hole] = s->slots[i];
            hole = i;
        }
    }
    s->slots[hole] = NOWHERE;
    s->used--;
    r->count--;
}

int64_t *mj_recent_find(const struct mj_recent *r, uint64_t hash)
{
    const struct shard *s = shard_of(r, hash);
    if (!s->used)
        return NULL;
    uint32_t place = s->slots[slot_of(r, s, hash)];
    return place == NOWHERE ? NULL : &entry_at(r, place)->time;
}

/* Writes the entry at the head and lets the slot (taken or empty) lead to it. */
static void append(struct mj_recent *r, struct shard *s, uint32_t slot, uint64_t hash, int64_t time)
{
    uint32_t place = place_of(r, r->head++);
    struct entry **chunk = &r->chunks[place / CHUNK];
    if (!*chunk) {
        *chunk = r->spare ? r->spare : mj_alloc(CHUNK * sizeof **chunk);
        r->bytes += r->spare ? 0 : CHUNK * sizeof **chunk;
        r->spare = NULL;
    }
    (*chunk)[place % CHUNK] = (struct entry){hash, time};
    s->slots[slot] = place;
}

/* The log ends one place later. */
static void drop_tail(struct mj_recent *r)
{
    uint32_t place = place_of(r, r->tail++);
    struct entry **chunk = &r->chunks[place / CHUNK];
    if (place % CHUNK != CHUNK - 1)
        return;
    if (r->spare) {
        free(r->spare);
        r->bytes -= CHUNK * sizeof **chunk;
    }
    r->spare = *chunk;
    *chunk = NULL;
}

/* Looks at the oldest entry. False when it must stay. */
static bool sweep_one(struct mj_recent *r, int64_t now, bool must)
{
    uint32_t place = place_of(r, r->tail);
    struct entry e = *entry_at(r, place);
    struct shard *s = shard_of(r, e.hash);
    uint32_t slot = s->used ? slot_of(r, s, e.hash) : 0;
    if (!s->used || s->slots[slot] != place) { /* given up */
        drop_tail(r);
        return true;
    }
    if (e.time > now && !must) {
        if (!r->rotate)
            return false;
        drop_tail(r);
        append(r, s, slot, e.hash, e.time);
        return true;
    }
    remove_slot(r, s, slot);
    drop_tail(r);
    if (s->cap > SHARD_LEAST && s->used < s->cap / 8)
        resize(r, s, s->cap / 2);
    return true;
}

void mj_recent_add(struct mj_recent *r, uint64_t hash, int64_t time, int64_t now)
{
    for (int i = 0; i < SWEEP && r->tail < r->head && sweep_one(r, now, false); i++)
        continue;
    while (r->head - r->tail >= r->max)
        sweep_one(r, now, true);
    struct shard *s = shard_of(r, hash);
    if ((s->used + 1) * 4 > s->cap * 3)
        resize(r, s, s->cap ? s->cap * 2 : SHARD_LEAST);
    uint32_t slot = slot_of(r, s, hash);
    if (s->slots[slot] == NOWHERE) {
        s->used++;
        r->count++;
    }
    append(r, s, slot, hash, time);
}
