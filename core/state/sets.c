#include "state/sets.h"

#include <pthread.h>

#include "base/clock.h"
#include "state/set_internal.h"
#include "state/store_internal.h"

struct mj_sets {
    pthread_mutex_t lock;
    struct entry {
        struct mj_set *set; /* ref */
        bool declared;
    } v[MJ_SETS_MAX]; /* in order of name; sets stay */
    size_t count;
    struct mj_state_budget budget;
    struct mj_disk *disk; /* borrowed; may be NULL */
    int64_t (*now_us)(void *ctx);
    void *ctx;
};

static int64_t clock_us(void *ctx)
{
    (void)ctx;
    return mj_now_us();
}

struct mj_sets *mj_sets_new(int64_t (*now_us)(void *ctx), void *ctx, size_t max_bytes)
{
    struct mj_sets *s = mj_calloc(1, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    s->budget.max = max_bytes;
    s->now_us = now_us ? now_us : clock_us;
    s->ctx = ctx;
    return s;
}

void mj_sets_free(struct mj_sets *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->count; i++)
        mj_set_unref(s->v[i].set);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void mj_sets_set_disk(struct mj_sets *s, struct mj_disk *disk) { s->disk = disk; }

/* Index of the name, or where it would be. */
static size_t find(const struct mj_sets *s, struct mj_span name, bool *there)
{
    size_t low = 0, high = s->count;
    *there = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int c = mj_span_cmp(mj_str(mj_set_name(s->v[middle].set)), name);
        if (c == 0) {
            *there = true;
            return middle;
        }
        if (c < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct mj_set *mj_sets_get(struct mj_sets *s, struct mj_span name)
{
    bool there;
    if (!s)
        return NULL;
    pthread_mutex_lock(&s->lock);
    size_t i = find(s, name, &there);
    struct mj_set *set = there && s->v[i].declared ? mj_set_ref(s->v[i].set) : NULL;
    pthread_mutex_unlock(&s->lock);
    return set;
}

struct mj_set *mj_sets_make(struct mj_sets *s, const char *name)
{
    bool there;
    struct mj_set *set = NULL;
    pthread_mutex_lock(&s->lock);
    size_t i = find(s, mj_str(name), &there);
    if (there)
        set = mj_set_ref(s->v[i].set);
    else if (s->count < MJ_SETS_MAX && (set = mj_set_new(s->now_us, s->ctx, &s->budget))) {
        set->name = mj_strdup(name);
        set->disk = s->disk;
        if (s->disk)
            mj__load_set(s->disk, set);
        memmove(&s->v[i + 1], &s->v[i], (s->count - i) * sizeof s->v[0]);
        s->v[i] = (struct entry){.set = mj_set_ref(set)};
        s->count++;
    }
    pthread_mutex_unlock(&s->lock);
    return set;
}

void mj_sets_declare(struct mj_sets *s, struct mj_set *set)
{
    bool there;
    pthread_mutex_lock(&s->lock);
    size_t i = find(s, mj_str(mj_set_name(set)), &there);
    if (there && !s->v[i].declared) {
        s->v[i].declared = true;
        mj__state_metrics("", set->name, &set->entries, &set->bytes, &set->evicted);
    }
    pthread_mutex_unlock(&s->lock);
}

struct mj_set *mj_sets_private(struct mj_sets *s)
{
    return mj_set_new(s->now_us, s->ctx, &s->budget);
}

void mj_sets_names(struct mj_sets *s, struct mj_buf *out)
{
    size_t n = 0;
    if (s) {
        pthread_mutex_lock(&s->lock);
        for (size_t i = 0; i < s->count; i++)
            if (s->v[i].declared)
                mj_buf_printf(out, "%s%s", n++ ? ", " : "", mj_set_name(s->v[i].set));
        pthread_mutex_unlock(&s->lock);
    }
    if (!n)
        mj_buf_puts(out, "none");
}

void mj_sets_each(struct mj_sets *s, void (*fn)(void *ctx, struct mj_set *set), void *ctx)
{
    struct mj_set *all[MJ_SETS_MAX];
    size_t n = 0;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->count; i++)
        if (s->v[i].declared)
            all[n++] = mj_set_ref(s->v[i].set);
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < n; i++) {
        fn(ctx, all[i]);
        mj_set_unref(all[i]);
    }
}

size_t mj_sets_count(struct mj_sets *s)
{
    pthread_mutex_lock(&s->lock);
    size_t n = s->count;
    pthread_mutex_unlock(&s->lock);
    return n;
}

struct step {
    size_t n;
    bool more;
};

static void step_one(void *ctx, struct mj_set *set)
{
    struct step *step = ctx;
    step->more = mj_set_step(set, step->n) || step->more;
}

bool mj_sets_step(struct mj_sets *s, size_t n)
{
    struct step step = {.n = n};
    mj_sets_each(s, step_one, &step);
    return step.more;
}

bool mj_state_name_valid(struct mj_span name)
{
    if (!name.len || name.len > MJ_SET_NAME_MAX || (name.ptr[0] >= '0' && name.ptr[0] <= '9'))
        return false;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i] | 32;
        if (!((c >= 'a' && c <= 'z') || name.ptr[i] == '_' ||
              (name.ptr[i] >= '0' && name.ptr[i] <= '9')))
            return false;
    }
    return true;
}
