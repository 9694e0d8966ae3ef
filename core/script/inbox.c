#include "script/inbox.h"

#include "base/hash.h"

/* The waiting letters of one account, oldest first, and whether one more is in work. */
struct mj_lane {
    struct mj_due due; /* first member; key: the first letter's age. In `ready` unless in work */
    uint64_t hash;
    struct mj_letter *first, **end;
    bool busy;
    struct mj_lane *next; /* of its bucket */
};

struct mj_inbox {
    struct mj_inbox_cfg cfg;
    struct mj_letter *oldest, *newest;
    struct mj_letter *working;
    size_t count, bytes, busy, busy_events;
    int64_t ages;
    struct mj_dues ready;     /* lanes with a letter and none in work */
    struct mj_lane **buckets; /* owned, a power of two */
    size_t lane_count, bucket_count;
};

struct mj_inbox *mj_inbox_new(const struct mj_inbox_cfg *cfg)
{
    struct mj_inbox *in = mj_calloc(1, sizeof *in);
    in->cfg = *cfg;
    in->bucket_count = 16;
    in->buckets = mj_calloc(in->bucket_count, sizeof *in->buckets);
    return in;
}

static void letter_free(struct mj_letter *l)
{
    for (size_t i = 0; i < l->n; i++)
        mj_kept_unref(l->events[i]);
    if (l->events != &l->one)
        free(l->events);
    free(l);
}

/* ---- lanes ---- */

static void grow(struct mj_inbox *in)
{
    size_t n = in->bucket_count * 2;
    struct mj_lane **buckets = mj_calloc(n, sizeof *buckets);
    for (size_t i = 0; i < in->bucket_count; i++)
        for (struct mj_lane *lane = in->buckets[i], *next; lane; lane = next) {
            next = lane->next;
            lane->next = buckets[lane->hash & (n - 1)];
            buckets[lane->hash & (n - 1)] = lane;
        }
    free(in->buckets);
    in->buckets = buckets;
    in->bucket_count = n;
}

static uint64_t lane_hash(const struct mj_inbox *in, const struct mj_letter *l)
{
    switch (in->cfg.order) {
    case MJ_ORDER_TOTAL:
        return 0;
    case MJ_ORDER_NONE:
        return (uint64_t)l->age;
    default:
        return mj_hash(l->events[0]->ev.did);
    }
}

static struct mj_lane *lane_of(struct mj_inbox *in, const struct mj_letter *l)
{
    uint64_t hash = lane_hash(in, l);
    for (struct mj_lane *lane = in->buckets[hash & (in->bucket_count - 1)]; lane; lane = lane->next)
        if (lane->hash == hash)
            return lane;
    if (in->lane_count == in->bucket_count)
        grow(in);
    struct mj_lane *lane = mj_calloc(1, sizeof *lane);
    struct mj_lane **bucket = &in->buckets[hash & (in->bucket_count - 1)];
    lane->hash = hash;
    lane->end = &lane->first;
    lane->next = *bucket;
    *bucket = lane;
    in->lane_count++;
    return lane;
}

static void lane_free(struct mj_inbox *in, struct mj_lane *lane)
{
    struct mj_lane **at = &in->buckets[lane->hash & (in->bucket_count - 1)];
    while (*at != lane)
        at = &(*at)->next;
    *at = lane->next;
    in->lane_count--;
    free(lane);
}

/* Puts the lane where it belongs after a change: among the ready ones, or away. */
static void settle(struct mj_inbox *in, struct mj_lane *lane)
{
    if (lane->busy)
        return;
    if (lane->first) {
        mj_due_set(&in->ready, &lane->due, lane->first->age);
        return;
    }
    mj_due_clear(&in->ready, &lane->due);
    lane_free(in, lane);
}

/* Takes the first letter of the lane out of the queue. */
static struct mj_letter *unqueue(struct mj_inbox *in, struct mj_lane *lane)
{
    struct mj_letter *l = lane->first;
    lane->first = l->next;
    if (!lane->first)
        lane->end = &lane->first;
    *(l->older ? &l->older->newer : &in->oldest) = l->newer;
    *(l->newer ? &l->newer->older : &in->newest) = l->older;
    in->count -= l->n;
    in->bytes -= l->bytes;
    return l;
}

/* ---- letters ---- */

static bool has_room(const struct mj_inbox *in, size_t n, size_t bytes)
{
    return in->count + n <= in->cfg.max && in->bytes + bytes <= in->cfg.max_bytes;
}

static size_t drop_oldest(struct mj_inbox *in)
{
    /* Letters of a lane wait in order, so the oldest of all is the first of its own. */
    struct mj_lane *lane = in->oldest->lane;
    struct mj_letter *l = unqueue(in, lane);
    size_t n = l->n;
    settle(in, lane);
    letter_free(l);
    return n;
}

size_t mj_inbox_put(struct mj_inbox *in, struct mj_kept *const *events, size_t n)
{
    size_t bytes = 0, dropped = 0;
    for (size_t i = 0; i < n; i++)
        bytes += mj_kept_size(events[i]);
    while (in->cfg.drop_old && in->oldest && !has_room(in, n, bytes))
        dropped += drop_oldest(in);
    if (!has_room(in, n, bytes))
        return dropped + n;

    struct mj_letter *l = mj_calloc(1, sizeof *l);
    l->n = n;
    l->bytes = bytes;
    l->events = n == 1 ? &l->one : mj_alloc(n * sizeof *l->events);
    for (size_t i = 0; i < n; i++)
        l->events[i] = mj_kept_ref(events[i]);
    l->age = in->ages++;
    l->older = in->newest;
    *(l->older ? &l->older->newer : &in->oldest) = l;
    in->newest = l;
    l->lane = lane_of(in, l);
    *l->lane->end = l;
    l->lane->end = &l->next;
    in->count += n;
    in->bytes += bytes;
    settle(in, l->lane);
    return dropped;
}

struct mj_letter *mj_inbox_take(struct mj_inbox *in)
{
    struct mj_lane *lane = (struct mj_lane *)mj_dues_first(&in->ready);
    if (!lane)
        return NULL;
    mj_due_clear(&in->ready, &lane->due);
    lane->busy = true;
    struct mj_letter *l = unqueue(in, lane);
    l->older = NULL;
    l->newer = in->working;
    if (l->newer)
        l->newer->older = l;
    in->working = l;
    in->busy++;
    in->busy_events += l->n;
    return l;
}

void mj_inbox_done(struct mj_inbox *in, struct mj_letter *l)
{
    *(l->older ? &l->older->newer : &in->working) = l->newer;
    if (l->newer)
        l->newer->older = l->older;
    l->lane->busy = false;
    in->busy--;
    in->busy_events -= l->n;
    settle(in, l->lane);
    letter_free(l);
}

size_t mj_inbox_count(const struct mj_inbox *in) { return in->count; }

size_t mj_inbox_busy(const struct mj_inbox *in) { return in->busy; }

size_t mj_inbox_busy_events(const struct mj_inbox *in) { return in->busy_events; }

void mj_inbox_free(struct mj_inbox *in)
{
    if (!in)
        return;
    while (in->oldest)
        drop_oldest(in);
    while (in->working)
        mj_inbox_done(in, in->working);
    mj_dues_deinit(&in->ready);
    free(in->buckets);
    free(in);
}
