#include "server/class.h"

#include "state/epoch.h"

#define HITS_ENOUGH      (64u << 10)
#define NAME_ENTRIES_MAX (1u << 20) /* of all lists by collection; past it they start over */

/* Classes that want one collection. */
struct mj_name_list {
    struct mj_class **v; /* owned array of borrowed classes */
    uint32_t count, cap;
    uint64_t generation;
};

void mj_classes_init(struct mj_classes *c, struct mj_journal *journal)
{
    *c = (struct mj_classes){.journal = journal, .serial = 1, .names_generation = 1};
    mj_dids_init(&c->dids, (struct mj_class *const *const *)&c->all);
}

static void drop_names(struct mj_classes *c)
{
    for (uint32_t i = 0; i < c->names_cap; i++)
        free(c->names[i].v);
    free(c->names);
    c->names = NULL;
    c->names_cap = 0;
    c->names_entries = 0;
}

void mj_classes_deinit(struct mj_classes *c)
{
    drop_names(c);
    for (size_t i = 0; i < MJ_INDEXES; i++)
        free(c->lists[i].v);
    free(c->all);
    free(c->table);
    free(c->free_slots);
    mj_dids_deinit(&c->dids);
    for (size_t i = 0; i < c->set_cap; i++)
        free(c->sets[i].classes.v);
    free(c->sets);
    free(c->hits);
    free(c->touched);
    *c = (struct mj_classes){0};
}

/* ---- the set ---- */

static void grow(struct mj_classes *c)
{
    uint32_t cap = c->cap ? 2 * c->cap : 16;
    c->all = mj_realloc(c->all, cap * sizeof(struct mj_class *));
    c->free_slots = mj_realloc(c->free_slots, cap * sizeof *c->free_slots);
    free(c->table);
    c->table = mj_calloc(cap, sizeof(struct mj_class *));
    for (uint32_t i = 0; i < c->cap; i++) {
        struct mj_class *class = c->all[i];
        class->next = c->table[class->hash & (cap - 1)];
        c->table[class->hash & (cap - 1)] = class;
    }
    for (uint32_t i = cap; i-- > c->cap;) {
        c->all[i] = NULL;
        c->free_slots[c->frees++] = i;
    }
    c->cap = cap;
}

static uint64_t hash_of(unsigned stream, enum mj_codec codec, const struct mj_filter *f)
{
    uint64_t h = f ? mj_filter_hash(f) : 0;
    h = (h ^ (stream * MJ_CODECS + codec + 1)) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 32;
}

struct mj_class *mj_class_get(struct mj_classes *c, unsigned stream, enum mj_codec codec,
                              struct mj_filter *filter)
{
    if (filter && mj_filter_is_open(filter)) {
        mj_filter_free(filter);
        filter = NULL;
    }
    uint64_t hash = hash_of(stream, codec, filter);
    struct mj_class *class = c->cap ? c->table[hash & (c->cap - 1)] : NULL;
    for (; class; class = class->next)
        if (class->hash == hash && class->stream == stream && class->codec == codec &&
            !class->filter == !filter && (!filter || mj_filter_equal(class->filter, filter))) {
            mj_filter_free(filter);
            class->refs++;
            return class;
        }
    if (!c->frees)
        grow(c);
    class = mj_calloc(1, sizeof *class);
    class->serial = c->serial++;
    class->filter = filter;
    class->size = filter ? mj_filter_size(filter) : 0;
    class->hash = hash;
    class->refs = 1;
    class->max_json = UINT64_MAX;
    class->pass = UINT16_MAX;
    if (filter) {
        if (codec == MJ_CODEC_TEXT)
            class->max_json = mj_filter_max_size(filter);
        class->pass = mj_filter_pass(filter);
        class->named = mj_filter_has_collections(filter);
    }
    class->stream = (uint8_t)stream;
    class->codec = (uint8_t)codec;
    class->first_hit = class->last_hit = MJ_NO_HIT;
    class->slot = c->free_slots[--c->frees];
    c->all[class->slot] = class;
    class->next = c->table[hash & (c->cap - 1)];
    c->table[hash & (c->cap - 1)] = class;
    c->count++;
    c->bytes += class->size;
    return class;
}

static void push(struct mj_class_list *list, struct mj_class *class)
{
    if (list->count == list->cap) {
        list->cap = list->cap ? 2 * list->cap : 8;
        list->v = mj_realloc(list->v, list->cap * sizeof(struct mj_class *));
    }
    list->v[list->count++] = class;
}

/* The place of the set in c->sets, or c->set_count. */
static size_t find_set(const struct mj_classes *c, const struct mj_set *set)
{
    size_t i = 0;
    while (i < c->set_count && c->sets[i].set != set)
        i++;
    return i;
}

static void index_sets(struct mj_classes *c, struct mj_class *class)
{
    for (size_t k = 0; k < mj_filter_set_count(class->filter); k++) {
        size_t i = find_set(c, mj_filter_set(class->filter, k));
        if (i == c->set_count) {
            if (c->set_count == c->set_cap) {
                size_t cap = c->set_cap ? 2 * c->set_cap : 4;
                c->sets = mj_realloc(c->sets, cap * sizeof *c->sets);
                memset(c->sets + c->set_cap, 0, (cap - c->set_cap) * sizeof *c->sets);
                c->set_cap = cap;
            }
            c->sets[i].set = mj_filter_set(class->filter, k);
            c->set_count++;
        }
        push(&c->sets[i].classes, class);
    }
}

static void unindex_sets(struct mj_classes *c, const struct mj_class *class)
{
    for (size_t k = 0; k < mj_filter_set_count(class->filter); k++) {
        size_t i = find_set(c, mj_filter_set(class->filter, k));
        struct mj_class_list *list = &c->sets[i].classes;
        uint32_t at = 0;
        while (list->v[at] != class)
            at++;
        list->v[at] = list->v[--list->count];
        if (!list->count) {
            /* The list's memory stays with the place that becomes free. */
            struct mj_class_set gone = c->sets[i];
            c->sets[i] = c->sets[--c->set_count];
            c->sets[c->set_count] = gone;
        }
    }
}

static void unindex(struct mj_classes *c, struct mj_class *class)
{
    if (class->index == MJ_INDEX_NONE)
        return;
    if (class->index == MJ_INDEX_DIDS) {
        mj_dids_remove(&c->dids, class);
        unindex_sets(c, class);
    }
    if (class->index == MJ_INDEX_NAMED)
        c->names_generation++;
    struct mj_class_list *list = &c->lists[class->index];
    struct mj_class *last = list->v[--list->count];
    list->v[class->place] = last;
    last->place = class->place;
}

void mj_class_unref(struct mj_classes *c, struct mj_class *class)
{
    if (!class || --class->refs)
        return;
    unindex(c, class);
    struct mj_class **at = &c->table[class->hash & (c->cap - 1)];
    while (*at != class)
        at = &(*at)->next;
    *at = class->next;
    c->all[class->slot] = NULL;
    c->free_slots[c->frees++] = class->slot;
    c->count--;
    c->bytes -= class->size;
    mj_filter_free(class->filter);
    free(class->live);
    free(class);
}

void mj_class_index(struct mj_classes *c, struct mj_class *class)
{
    if (class->index != MJ_INDEX_NONE)
        return;
    const struct mj_filter *f = class->filter;
    if (!f) {
        class->index = MJ_INDEX_OPEN;
    } else if (mj_filter_has_dids(f)) {
        class->index = MJ_INDEX_DIDS;
        mj_dids_add(&c->dids, class);
        index_sets(c, class);
    } else if (mj_filter_has_collections(f)) {
        class->index = MJ_INDEX_NAMED;
        c->names_generation++;
    } else {
        class->index = MJ_INDEX_REST;
    }
    class->place = c->lists[class->index].count;
    push(&c->lists[class->index], class);
}

/* ---- a round ---- */

static void hit(struct mj_classes *c, struct mj_class *class, uint32_t entry)
{
    /* Several sets of a class, or a set and a name, may have the DID. */
    if (class->last_hit != MJ_NO_HIT && c->hits[class->last_hit].entry == entry)
        return;
    if (c->hit_count == c->hit_cap) {
        c->hit_cap = c->hit_cap ? 2 * c->hit_cap : 1024;
        c->hits = mj_realloc(c->hits, c->hit_cap * sizeof *c->hits);
    }
    uint32_t at = (uint32_t)c->hit_count++;
    c->hits[at] = (struct mj_hit){.next = MJ_NO_HIT, .entry = entry};
    if (class->first_hit == MJ_NO_HIT) {
        if (c->touched_count == c->touched_cap) {
            c->touched_cap = c->touched_cap ? 2 * c->touched_cap : 64;
            c->touched = mj_realloc(c->touched, c->touched_cap * sizeof(struct mj_class *));
        }
        c->touched[c->touched_count++] = class;
        class->first_hit = at;
    } else {
        c->hits[class->last_hit].next = at;
    }
    class->last_hit = at;
}

/* The entry being matched. */
struct candidate {
    const struct mj_entry *entry;
    struct mj_span json;
    uint32_t i;
    unsigned pass; /* its bit */
    bool unnamed;  /* a commit whose collection has no number */
};

/* Of DIDs and collections it is known, or does not matter, whether the class wants them. */
static bool passes(const struct mj_class *class, const struct candidate *at)
{
    return class->live_count && at->entry->streams >> class->stream & 1 &&
           class->pass >> at->pass & 1 && at->json.len <= class->max_json;
}

static void consider_list(struct mj_classes *c, struct mj_class *const *v, uint32_t n,
                          const struct candidate *at)
{
    for (uint32_t i = 0; i < n; i++)
        if (passes(v[i], at))
            hit(c, v[i], at->i);
}

/* The classes that want a collection, worked out if the classes have changed since. */
static struct mj_name_list *names_of(struct mj_classes *c, const struct mj_entry *e)
{
    uint32_t id = e->collection;
    if (c->names_entries > NAME_ENTRIES_MAX)
        drop_names(c);
    if (id >= c->names_cap) {
        uint32_t cap = c->names_cap ? c->names_cap : 256;
        while (cap <= id)
            cap *= 2;
        c->names = mj_realloc(c->names, cap * sizeof *c->names);
        memset(c->names + c->names_cap, 0, (cap - c->names_cap) * sizeof *c->names);
        c->names_cap = cap;
    }
    struct mj_name_list *list = &c->names[id];
    if (MJ_LIKELY(list->generation == c->names_generation))
        return list;
    c->names_entries -= list->count;
    list->count = 0;
    const struct mj_class_list *named = &c->lists[MJ_INDEX_NAMED];
    for (uint32_t i = 0; i < named->count; i++) {
        if (!mj_filter_wants(named->v[i]->filter, c->journal, e->collection))
            continue;
        if (list->count == list->cap) {
            list->cap = list->cap ? 2 * list->cap : 4;
            list->v = mj_realloc(list->v, list->cap * sizeof(struct mj_class *));
        }
        list->v[list->count++] = named->v[i];
    }
    list->generation = c->names_generation;
    c->names_entries += list->count;
    return list;
}

/* The classes that want a collection by name. */
static void match_named(struct mj_classes *c, const struct candidate *at)
{
    const struct mj_class_list *named = &c->lists[MJ_INDEX_NAMED];
    if (at->entry->kind != MJ_KIND_COMMIT) {
        consider_list(c, named->v, named->count, at);
    } else if (!at->unnamed) {
        struct mj_name_list *list = names_of(c, at->entry);
        consider_list(c, list->v, list->count, at);
    } else {
        for (uint32_t i = 0; i < named->count; i++)
            if (passes(named->v[i], at) &&
                mj_filter_confirm(named->v[i]->filter, at->entry, at->json))
                hit(c, named->v[i], at->i);
    }
}

/* One that wants the entry's DID, and perhaps some collections only. */
static void consider(struct mj_classes *c, struct mj_class *class, const struct candidate *at)
{
    if (passes(class, at) &&
        (!class->named || (mj_filter_may(class->filter, c->journal, at->entry) &&
                           mj_filter_confirm(class->filter, at->entry, at->json))))
        hit(c, class, at->i);
}

static void match_dids(struct mj_classes *c, const struct candidate *at)
{
    uint32_t n;
    const struct mj_did_member *members = mj_dids_find(&c->dids, at->entry, at->json, &n);
    for (uint32_t i = 0; i < n; i++)
        consider(c, c->all[members[i].slot], at);
    for (size_t i = 0; i < c->set_count; i++) {
        const struct mj_class_set *s = &c->sets[i];
        if (mj_set_may_have(s->set, at->entry->did) && mj_set_has(s->set, mj_json_did(at->json)))
            for (uint32_t k = 0; k < s->classes.count; k++)
                consider(c, s->classes.v[k], at);
    }
}

size_t mj_classes_match(struct mj_classes *c, const struct mj_run *r, size_t n)
{
    if (!c->lists[MJ_INDEX_DIDS].count && !c->lists[MJ_INDEX_NAMED].count &&
        !c->lists[MJ_INDEX_REST].count)
        return n;
    const struct mj_class_list *rest = &c->lists[MJ_INDEX_REST];
    size_t i = 0;
    mj_epoch_enter();
    for (; i < n && c->hit_count < HITS_ENOUGH; i++) {
        const struct mj_entry *e = &r->entries[i];
        if (MJ_UNLIKELY(!e->streams)) /* durable readers' own */
            continue;
        struct candidate at = {e, mj_run_json(r, i), (uint32_t)i, mj_filter_pass_bit(e),
                               e->kind == MJ_KIND_COMMIT && e->collection == MJ_COLLECTION_OTHER};
        consider_list(c, rest->v, rest->count, &at);
        if (c->lists[MJ_INDEX_NAMED].count)
            match_named(c, &at);
        if (c->lists[MJ_INDEX_DIDS].count)
            match_dids(c, &at);
    }
    mj_epoch_leave();
    return i;
}

void mj_classes_done(struct mj_classes *c)
{
    for (size_t i = 0; i < c->touched_count; i++)
        c->touched[i]->first_hit = c->touched[i]->last_hit = MJ_NO_HIT;
    c->touched_count = c->hit_count = 0;
}
