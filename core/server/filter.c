#include "server/filter.h"

#include <sys/random.h>

#include "atproto/syntax.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"

/* A set of texts: one block of bytes, one open-addressed table of offsets into it. */
struct text {
    uint64_t hash;
    uint32_t offset, len;
};

struct text_set {
    struct mj_buf bytes;
    struct text *items; /* owned */
    uint32_t *slots;    /* owned; index into items plus one, 0 for empty */
    size_t count, cap;  /* cap items, 2 * cap slots, a power of two */
};

struct mj_filter {
    struct text_set names, prefixes, dids;
    size_t prefix_count;  /* with duplicates, as v1 counts them */
    bool any_collections; /* also when no wanted prefix can match anything */
    uint64_t max_size;    /* UINT64_MAX for none */
    uint8_t *known;       /* owned; two bits per collection id: 0 unknown, 2 no, 3 yes */
    uint32_t known_cap;   /* ids it has room for */
};

/* Where a hash starts in the table. The secret keeps a client from choosing DIDs that all start in
 * the same slot and make its filter slow for everybody. */
static uint64_t secret;

static size_t start(const struct text_set *s, uint64_t hash)
{
    return (((uint32_t)hash ^ secret) * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (2 * s->cap - 1);
}

static void set_deinit(struct text_set *s)
{
    mj_buf_deinit(&s->bytes);
    free(s->items);
    free(s->slots);
}

static struct mj_span item_text(const struct text_set *s, size_t i)
{
    return mj_span(s->bytes.ptr + s->items[i].offset, s->items[i].len);
}

/* The slot that holds the text, or the empty one where it belongs. The set must have slots. */
static uint32_t *set_slot(const struct text_set *s, struct mj_span text, uint64_t hash)
{
    size_t mask = 2 * s->cap - 1;
    size_t i = start(s, hash);
    for (; s->slots[i]; i = (i + 1) & mask) {
        const struct text *t = &s->items[s->slots[i] - 1];
        if (t->hash == hash && mj_span_eq(item_text(s, s->slots[i] - 1), text))
            break;
    }
    return &s->slots[i];
}

static bool set_has(const struct text_set *s, struct mj_span text, uint64_t hash)
{
    return s->count && *set_slot(s, text, hash) != 0;
}

static void set_grow(struct text_set *s)
{
    s->cap = s->cap ? 2 * s->cap : 4;
    s->items = mj_realloc(s->items, s->cap * sizeof *s->items);
    free(s->slots);
    s->slots = mj_calloc(2 * s->cap, sizeof *s->slots);
    size_t mask = 2 * s->cap - 1;
    for (size_t n = 0; n < s->count; n++) {
        size_t i = start(s, s->items[n].hash);
        while (s->slots[i])
            i = (i + 1) & mask;
        s->slots[i] = (uint32_t)n + 1;
    }
}

static void set_add(struct text_set *s, struct mj_span text)
{
    uint64_t hash = mj_hash(text);
    if (set_has(s, text, hash))
        return;
    if (s->count == s->cap)
        set_grow(s);
    uint32_t *slot = set_slot(s, text, hash);
    s->items[s->count] =
        (struct text){.hash = hash, .offset = (uint32_t)s->bytes.len, .len = (uint32_t)text.len};
    mj_buf_put(&s->bytes, text.ptr, text.len);
    *slot = (uint32_t)++s->count;
}

static size_t set_size(const struct text_set *s)
{
    return s->bytes.cap + s->cap * (sizeof *s->items + 2 * sizeof *s->slots);
}

struct mj_filter *mj_filter_new(void)
{
    struct mj_filter *f = mj_calloc(1, sizeof *f);
    if (!secret && getrandom(&secret, sizeof secret, 0) < 0)
        secret = (uint64_t)mj_mono_us();
    f->max_size = UINT64_MAX;
    return f;
}

void mj_filter_free(struct mj_filter *f)
{
    if (!f)
        return;
    set_deinit(&f->names);
    set_deinit(&f->prefixes);
    set_deinit(&f->dids);
    free(f->known);
    free(f);
}

int mj_filter_add_collection(struct mj_filter *f, struct mj_span name)
{
    if (name.len >= 2 && memcmp(name.ptr + name.len - 2, ".*", 2) == 0) {
        /* Not validated, as in v1. A prefix no collection can have is counted, but need not be
         * kept: it matches nothing. */
        f->any_collections = true;
        f->prefix_count++;
        name.len--;
        if (name.len <= MJ_COLLECTION_LEN && f->prefix_count <= MJ_WANTED_COLLECTIONS_MAX)
            set_add(&f->prefixes, name);
        return 0;
    }
    if (!mj_nsid_valid(name))
        return MJ_ESYNTAX;
    f->any_collections = true;
    if (f->names.count <= MJ_WANTED_COLLECTIONS_MAX)
        set_add(&f->names, name);
    return 0;
}

int mj_filter_add_did(struct mj_filter *f, struct mj_span did)
{
    if (!mj_did_valid(did))
        return MJ_ESYNTAX;
    if (f->dids.count <= MJ_WANTED_DIDS_MAX)
        set_add(&f->dids, did);
    return 0;
}

const char *mj_filter_check_collections(const struct mj_filter *f)
{
    return f->names.count + f->prefix_count > MJ_WANTED_COLLECTIONS_MAX
               ? "too many wanted collections"
               : NULL;
}

const char *mj_filter_check_dids(const struct mj_filter *f)
{
    return f->dids.count > MJ_WANTED_DIDS_MAX ? "too many wanted DIDs" : NULL;
}

void mj_filter_set_max_size(struct mj_filter *f, int64_t bytes)
{
    f->max_size = bytes > 0 ? (uint64_t)bytes : UINT64_MAX;
}

bool mj_filter_is_open(const struct mj_filter *f)
{
    return !f->any_collections && !f->dids.count && f->max_size == UINT64_MAX;
}

static bool wants_name(const struct mj_filter *f, struct mj_span name)
{
    if (set_has(&f->names, name, mj_hash(name)))
        return true;
    for (size_t i = 0; i < f->prefixes.count; i++)
        if (mj_span_starts(name, item_text(&f->prefixes, i)))
            return true;
    return false;
}

/* Text between `key` and the next quote. Our JSON puts `did` first and the scalars of the commit
 * before its record, and neither DIDs, revs nor NSIDs can hold a quote, so the first occurrence is
 * the right one. */
static struct mj_span json_text(struct mj_span json, struct mj_span key)
{
    const uint8_t *at = json.len ? memmem(json.ptr, json.len, key.ptr, key.len) : NULL;
    if (!at)
        return mj_span(NULL, 0);
    at += key.len;
    const uint8_t *end = memchr(at, '"', (size_t)(json.ptr + json.len - at));
    return end ? mj_span(at, (size_t)(end - at)) : mj_span(NULL, 0);
}

static bool wants_collection(struct mj_filter *f, const struct mj_journal *j,
                             const struct mj_entry *e, struct mj_span json)
{
    uint32_t id = e->collection;
    if (id == MJ_COLLECTION_OTHER)
        return wants_name(f, json_text(json, MJ_SPAN("\"collection\":\"")));
    if (MJ_UNLIKELY(id >= f->known_cap)) {
        uint32_t cap = f->known_cap ? f->known_cap : 64;
        while (cap <= id)
            cap *= 2;
        f->known = mj_realloc(f->known, cap / 4);
        memset(f->known + f->known_cap / 4, 0, (cap - f->known_cap) / 4);
        f->known_cap = cap;
    }
    unsigned shift = id % 4 * 2;
    unsigned bits = f->known[id / 4] >> shift & 3;
    if (MJ_UNLIKELY(!bits)) {
        bits = wants_name(f, mj_journal_collection_name(j, (uint16_t)id)) ? 3 : 2;
        f->known[id / 4] |= (uint8_t)(bits << shift);
    }
    return bits == 3;
}

bool mj_filter_match(struct mj_filter *f, const struct mj_journal *j, const struct mj_entry *e,
                     struct mj_span json)
{
    /* Identity and account events pass collection filters: v1 clients rely on it. */
    if (f->any_collections && e->kind == MJ_KIND_COMMIT && !wants_collection(f, j, e, json))
        return false;
    if (f->dids.count) {
        size_t mask = 2 * f->dids.cap - 1, i = start(&f->dids, e->did);
        while (f->dids.slots[i] && (uint32_t)f->dids.items[f->dids.slots[i] - 1].hash != e->did)
            i = (i + 1) & mask;
        if (!f->dids.slots[i] || !set_has(&f->dids, json_text(json, MJ_SPAN("{\"did\":\"")),
                                          mj_hash(json_text(json, MJ_SPAN("{\"did\":\"")))))
            return false;
    }
    return json.len <= f->max_size;
}

size_t mj_filter_size(const struct mj_filter *f)
{
    return sizeof *f + set_size(&f->names) + set_size(&f->prefixes) + set_size(&f->dids) +
           f->known_cap / 4;
}
