#include "server/dids.h"

#include <sys/random.h>

#include "base/clock.h"
#include "base/hash.h"
#include "server/class.h"

#define CAP_MIN 256

void mj_dids_init(struct mj_dids *d, struct mj_class *const *const *all)
{
    *d = (struct mj_dids){.all = all};
    if (getrandom(&d->secret, sizeof d->secret, 0) < 0)
        d->secret = (uint64_t)mj_mono_us();
}

static size_t start(const struct mj_dids *d, uint64_t hash)
{
    uint64_t mixed = ((uint32_t)hash ^ d->secret) * UINT64_C(0x9e3779b97f4a7c15);
    return mixed >> 32 & (d->cap - 1);
}

static struct mj_did_member *members(struct mj_did_group *g) { return g->many ? g->many : &g->one; }

static const struct mj_class *class_of(const struct mj_dids *d, const struct mj_did_member *m)
{
    const struct mj_class *class = (*d->all)[m->slot];
    return class && (uint32_t) class->serial == m->serial ? class : NULL;
}

static void purge(struct mj_dids *d, struct mj_did_group *g)
{
    struct mj_did_member *m = members(g);
    for (uint32_t i = 0; i < g->count;) {
        if (class_of(d, &m[i])) {
            i++;
            continue;
        }
        m[i] = m[--g->count];
        d->members--;
        d->dead--;
    }
}

static struct mj_span text_of(const struct mj_dids *d, struct mj_did_group *g)
{
    const struct mj_did_member *m = members(g);
    return mj_filter_did_text(class_of(d, m)->filter, m->item);
}

/* A table that is at most half full with `more` groups more, without what is dead. */
static void rebuild(struct mj_dids *d, size_t more)
{
    struct mj_did_group *old = d->groups;
    size_t old_cap = d->cap, live = 0;
    for (size_t i = 0; i < old_cap; i++)
        if (old[i].cap) {
            purge(d, &old[i]);
            live += old[i].count != 0;
        }
    d->cap = CAP_MIN;
    while (d->cap < 2 * (live + more))
        d->cap *= 2;
    d->groups = mj_calloc(d->cap, sizeof *d->groups);
    d->used = live;
    for (size_t i = 0; i < old_cap; i++) {
        if (!old[i].count) {
            free(old[i].many);
            continue;
        }
        size_t k = start(d, old[i].hash);
        while (d->groups[k].cap)
            k = (k + 1) & (d->cap - 1);
        d->groups[k] = old[i];
    }
    free(old);
}

void mj_dids_deinit(struct mj_dids *d)
{
    for (size_t i = 0; i < d->cap; i++)
        free(d->groups[i].many);
    free(d->groups);
    *d = (struct mj_dids){0};
}

static void add_member(struct mj_dids *d, struct mj_did_group *g, struct mj_did_member m)
{
    if (g->count == g->cap) {
        struct mj_did_member *many = mj_realloc(g->many, 2 * g->cap * sizeof *many);
        if (!g->many)
            many[0] = g->one;
        g->many = many;
        g->cap *= 2;
    }
    members(g)[g->count++] = m;
    d->members++;
}

void mj_dids_add(struct mj_dids *d, const struct mj_class *class)
{
    size_t n = mj_filter_did_count(class->filter);
    if (2 * (d->used + n) > d->cap || 2 * d->dead > d->members)
        rebuild(d, n);
    for (size_t i = 0; i < n; i++) {
        uint64_t hash = mj_filter_did_hash(class->filter, i);
        size_t k = start(d, hash);
        for (;; k = (k + 1) & (d->cap - 1)) {
            struct mj_did_group *g = &d->groups[k];
            if (!g->cap)
                break;
            if (g->hash != hash)
                continue;
            purge(d, g);
            if (!g->count || mj_span_eq(text_of(d, g), mj_filter_did_text(class->filter, i)))
                break;
        }
        struct mj_did_group *g = &d->groups[k];
        if (!g->cap) {
            g->hash = hash;
            g->cap = 1;
            d->used++;
        }
        add_member(d, g,
                   (struct mj_did_member){class->slot, (uint32_t) class->serial, (uint32_t)i});
    }
}

void mj_dids_remove(struct mj_dids *d, const struct mj_class *class)
{
    d->dead += mj_filter_did_count(class->filter);
}

const struct mj_did_member *mj_dids_find(struct mj_dids *d, const struct mj_entry *e,
                                         struct mj_span json, uint32_t *count)
{
    *count = 0;
    if (!d->cap)
        return NULL;
    for (size_t k = start(d, e->did); d->groups[k].cap; k = (k + 1) & (d->cap - 1)) {
        struct mj_did_group *g = &d->groups[k];
        if ((uint32_t)g->hash != e->did)
            continue;
        purge(d, g);
        if (g->count && mj_span_eq(text_of(d, g), mj_json_did(json))) {
            *count = g->count;
            return members(g);
        }
    }
    return NULL;
}
