#include "server/filter.h"

#include <sys/random.h>

#include "atproto/syntax.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "state/epoch.h"

#define KINDS_ALL 7u  /* bit per enum mj_kind */
#define OPS_ALL   14u /* bit per enum mj_op, MJ_OP_NONE aside */

/* A set of texts: one block of bytes, and an open-addressed table found by the low half of their
 * hash, which is what an index record has of a DID. */
struct text {
    uint64_t hash;
    uint32_t offset, len;
};

struct slot {
    uint32_t hash;
    uint32_t item; /* index into items plus one, 0 for empty */
};

struct text_set {
    struct mj_buf bytes;
    struct text *items; /* owned */
    struct slot *slots; /* owned */
    uint64_t *bits;     /* owned: bit (place of a hash) of each text, SPARSE * cap of them */
    size_t count, cap;  /* cap items, 2 * cap slots, a power of two */
};

struct mj_filter {
    struct text_set names, prefixes, dids;       /* every prefix ends in a dot */
    struct mj_sets *from;                        /* borrowed while it is put together */
    struct mj_set *sets[MJ_WANTED_SETS_MAX + 1]; /* refs, in order of their addresses */
    size_t set_count;
    size_t prefix_count;  /* with duplicates, as v1 counts them */
    bool any_collections; /* also when no wanted prefix can match anything */
    uint8_t kinds, ops;   /* bits; 0 for all */
    uint16_t pass;        /* bit (kind * 4 + op): passes what kinds and ops say */
    uint64_t max_size;    /* UINT64_MAX for none */
    uint8_t *known;       /* owned; two bits per collection number: 0 unknown, 2 no, 3 yes */
    uint32_t known_cap;   /* numbers it has room for */
    uint32_t summed;      /* numbers below are in `wanted` */
    uint64_t wanted[4];   /* bit (number % 256) of each wanted collection */
};

/* Where a hash starts in the table. The secret keeps a client from choosing DIDs that all start in
 * the same slot and make its filter slow for everybody. */
static uint64_t secret;

static uint64_t mix(uint32_t hash)
{
    return ((uint64_t)hash ^ secret) * UINT64_C(0x9e3779b97f4a7c15) >> 32;
}
static size_t start(const struct text_set *s, uint32_t hash)
{
    return mix(hash) & (2 * s->cap - 1);
}

/* Nearly all that is asked about is not there. One bit in SPARSE says so without a branch that the
 * processor would guess wrong, as it does in a table that is a third full. */
#define SPARSE 64
static void set_bit(struct text_set *s, uint32_t hash)
{
    size_t bit = mix(hash) & (SPARSE * s->cap - 1);
    s->bits[bit / 64] |= UINT64_C(1) << bit % 64;
}

static void set_deinit(struct text_set *s)
{
    mj_buf_deinit(&s->bytes);
    free(s->items);
    free(s->slots);
    free(s->bits);
}

static struct mj_span item_text(const struct text_set *s, size_t i)
{
    return mj_span(s->bytes.ptr + s->items[i].offset, s->items[i].len);
}

/* The slot that holds the text, or the empty one where it belongs. The set must have slots. */
static struct slot *set_slot(const struct text_set *s, struct mj_span text, uint32_t hash)
{
    size_t mask = 2 * s->cap - 1;
    size_t i = start(s, hash);
    for (; s->slots[i].item; i = (i + 1) & mask)
        if (s->slots[i].hash == hash && mj_span_eq(item_text(s, s->slots[i].item - 1), text))
            break;
    return &s->slots[i];
}

static bool set_has(const struct text_set *s, struct mj_span text, uint32_t hash)
{
    return s->count && set_slot(s, text, hash)->item != 0;
}

/* Is there a text with that hash? */
static bool set_may_have(const struct text_set *s, uint32_t hash)
{
    size_t bit = mix(hash) & (SPARSE * s->cap - 1);
    if (MJ_LIKELY(!(s->bits[bit / 64] >> bit % 64 & 1)))
        return false;
    size_t mask = 2 * s->cap - 1, i = start(s, hash);
    while (s->slots[i].item && s->slots[i].hash != hash)
        i = (i + 1) & mask;
    return s->slots[i].item != 0;
}

static void set_grow(struct text_set *s)
{
    s->cap = s->cap ? 2 * s->cap : 4;
    s->items = mj_realloc(s->items, s->cap * sizeof *s->items);
    free(s->slots);
    free(s->bits);
    s->slots = mj_calloc(2 * s->cap, sizeof *s->slots);
    s->bits = mj_calloc(s->cap, SPARSE / 8);
    size_t mask = 2 * s->cap - 1;
    for (size_t n = 0; n < s->count; n++) {
        uint32_t hash = (uint32_t)s->items[n].hash;
        size_t i = start(s, hash);
        while (s->slots[i].item)
            i = (i + 1) & mask;
        s->slots[i] = (struct slot){hash, (uint32_t)n + 1};
        set_bit(s, hash);
    }
}

static void set_add(struct text_set *s, struct mj_span text)
{
    uint64_t hash = mj_hash(text);
    if (set_has(s, text, (uint32_t)hash))
        return;
    if (s->count == s->cap)
        set_grow(s);
    struct slot *slot = set_slot(s, text, (uint32_t)hash);
    s->items[s->count] =
        (struct text){.hash = hash, .offset = (uint32_t)s->bytes.len, .len = (uint32_t)text.len};
    mj_buf_put(&s->bytes, text.ptr, text.len);
    *slot = (struct slot){(uint32_t)hash, (uint32_t)++s->count};
    set_bit(s, (uint32_t)hash);
}

static size_t set_size(const struct text_set *s)
{
    return s->bytes.cap + s->cap * (sizeof *s->items + 2 * sizeof *s->slots + SPARSE / 8);
}

/* The same whatever the order. */
static uint64_t set_hash(const struct text_set *s)
{
    uint64_t sum = s->count;
    for (size_t i = 0; i < s->count; i++)
        sum += (s->items[i].hash ^ s->items[i].hash >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
    return sum * UINT64_C(0x94d049bb133111eb);
}

static bool set_equal(const struct text_set *a, const struct text_set *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!set_has(b, item_text(a, i), (uint32_t)a->items[i].hash))
            return false;
    return true;
}

static void set_pass(struct mj_filter *f)
{
    unsigned kinds = f->kinds ? f->kinds : KINDS_ALL, ops = f->ops ? f->ops : OPS_ALL | 1;
    f->pass = 0;
    for (unsigned kind = 0; kind < 3; kind++)
        for (unsigned op = 0; op < 4; op++)
            if (kinds >> kind & 1 && (kind != MJ_KIND_COMMIT || ops >> op & 1))
                f->pass |= (uint16_t)(1u << (kind * 4 + op));
}

struct mj_filter *mj_filter_new(struct mj_sets *sets)
{
    struct mj_filter *f = mj_calloc(1, sizeof *f);
    f->from = sets;
    if (!secret && getrandom(&secret, sizeof secret, 0) < 0)
        secret = (uint64_t)mj_mono_us();
    f->max_size = UINT64_MAX;
    f->summed = 1;
    set_pass(f);
    return f;
}

void mj_filter_free(struct mj_filter *f)
{
    if (!f)
        return;
    set_deinit(&f->names);
    set_deinit(&f->prefixes);
    set_deinit(&f->dids);
    for (size_t i = 0; i < f->set_count; i++)
        mj_set_unref(f->sets[i]);
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

static int add_named_set(struct mj_filter *f, struct mj_span name)
{
    struct mj_set *set = mj_sets_get(f->from, name);
    size_t i = 0;
    if (!set)
        return MJ_ENOENT;
    while (i < f->set_count && (uintptr_t)f->sets[i] < (uintptr_t)set)
        i++;
    /* One more than there may be is kept, so that there are too many. */
    if ((i < f->set_count && f->sets[i] == set) || f->set_count > MJ_WANTED_SETS_MAX) {
        mj_set_unref(set);
        return 0;
    }
    memmove(&f->sets[i + 1], &f->sets[i], (f->set_count - i) * sizeof f->sets[0]);
    f->sets[i] = set;
    f->set_count++;
    return 0;
}

int mj_filter_add_did(struct mj_filter *f, struct mj_span did)
{
    const struct mj_span set = MJ_SPAN("set:");
    if (mj_span_starts(did, set))
        return add_named_set(f, mj_span(did.ptr + set.len, did.len - set.len));
    if (!mj_did_valid(did))
        return MJ_ESYNTAX;
    if (f->dids.count <= MJ_WANTED_DIDS_MAX)
        set_add(&f->dids, did);
    return 0;
}

int mj_filter_add_kind(struct mj_filter *f, struct mj_span name)
{
    for (unsigned k = MJ_KIND_COMMIT; k <= MJ_KIND_ACCOUNT; k++)
        if (mj_span_is(name, mj_kind_name((enum mj_kind)k))) {
            f->kinds |= (uint8_t)(1u << k);
            set_pass(f);
            return 0;
        }
    return MJ_ESYNTAX;
}

int mj_filter_add_operation(struct mj_filter *f, struct mj_span name)
{
    for (unsigned op = MJ_OP_CREATE; op <= MJ_OP_DELETE; op++)
        if (mj_span_is(name, mj_op_name((enum mj_op)op))) {
            f->ops |= (uint8_t)(1u << op);
            set_pass(f);
            return 0;
        }
    return MJ_ESYNTAX;
}

const char *mj_filter_check_collections(const struct mj_filter *f)
{
    return f->names.count + f->prefix_count > MJ_WANTED_COLLECTIONS_MAX
               ? "too many wanted collections"
               : NULL;
}

const char *mj_filter_check_dids(const struct mj_filter *f)
{
    if (f->set_count > MJ_WANTED_SETS_MAX)
        return "too many wanted sets";
    return f->dids.count > MJ_WANTED_DIDS_MAX ? "too many wanted DIDs" : NULL;
}

void mj_filter_set_max_size(struct mj_filter *f, int64_t bytes)
{
    f->max_size = bytes > 0 ? (uint64_t)bytes : UINT64_MAX;
}

/* Everything there is passes kinds and ops. */
static bool passes_all(const struct mj_filter *f)
{
    return (!f->kinds || f->kinds == KINDS_ALL) && (!f->ops || f->ops == OPS_ALL);
}

bool mj_filter_is_open(const struct mj_filter *f)
{
    return !f->any_collections && !mj_filter_has_dids(f) && f->max_size == UINT64_MAX &&
           passes_all(f);
}

uint64_t mj_filter_hash(const struct mj_filter *f)
{
    uint64_t parts[] = {set_hash(&f->names),
                        set_hash(&f->prefixes),
                        set_hash(&f->dids),
                        f->max_size,
                        f->pass,
                        f->any_collections,
                        mj_hash(mj_span(f->sets, f->set_count * sizeof f->sets[0]))};
    return mj_hash(mj_span(parts, sizeof parts));
}

bool mj_filter_equal(const struct mj_filter *a, const struct mj_filter *b)
{
    return a->any_collections == b->any_collections && a->pass == b->pass &&
           a->max_size == b->max_size && set_equal(&a->names, &b->names) &&
           set_equal(&a->prefixes, &b->prefixes) && set_equal(&a->dids, &b->dids) &&
           a->set_count == b->set_count &&
           memcmp(a->sets, b->sets, a->set_count * sizeof a->sets[0]) == 0;
}

size_t mj_filter_size(const struct mj_filter *f)
{
    return sizeof *f + set_size(&f->names) + set_size(&f->prefixes) + set_size(&f->dids) +
           f->known_cap / 4;
}

uint64_t mj_filter_max_size(const struct mj_filter *f) { return f->max_size; }
bool mj_filter_has_collections(const struct mj_filter *f) { return f->any_collections; }
bool mj_filter_has_dids(const struct mj_filter *f) { return f->dids.count || f->set_count; }
size_t mj_filter_did_count(const struct mj_filter *f) { return f->dids.count; }
size_t mj_filter_set_count(const struct mj_filter *f) { return f->set_count; }
struct mj_set *mj_filter_set(const struct mj_filter *f, size_t i) { return f->sets[i]; }
uint64_t mj_filter_did_hash(const struct mj_filter *f, size_t i) { return f->dids.items[i].hash; }

struct mj_span mj_filter_did_text(const struct mj_filter *f, size_t i)
{
    return item_text(&f->dids, i);
}

uint64_t mj_filter_version(const struct mj_filter *f)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < f->set_count; i++)
        sum += mj_set_version(f->sets[i]);
    return sum;
}

uint16_t mj_filter_pass(const struct mj_filter *f) { return f->pass; }

/* By full name, or by a prefix: those end in a dot, so there is one candidate per dot. */
static bool wants_name(const struct mj_filter *f, struct mj_span name)
{
    if (set_has(&f->names, name, (uint32_t)mj_hash(name)))
        return true;
    if (f->prefixes.count)
        for (size_t i = 0; i < name.len; i++) {
            struct mj_span prefix = mj_span(name.ptr, i + 1);
            if (name.ptr[i] == '.' && set_has(&f->prefixes, prefix, (uint32_t)mj_hash(prefix)))
                return true;
        }
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

struct mj_span mj_json_did(struct mj_span json) { return json_text(json, MJ_SPAN("{\"did\":\"")); }

/* The two bits of a collection's number, worked out now. */
static unsigned learn(struct mj_filter *f, const struct mj_journal *j, uint32_t id)
{
    if (id >= f->known_cap) {
        uint32_t cap = f->known_cap ? f->known_cap : 64;
        while (cap <= id)
            cap *= 2;
        f->known = mj_realloc(f->known, cap / 4);
        memset(f->known + f->known_cap / 4, 0, (cap - f->known_cap) / 4);
        f->known_cap = cap;
    }
    struct mj_span name = mj_journal_collection_name(j, (uint16_t)id);
    if (!name.ptr)
        return 2; /* not to be remembered: the name may come */
    unsigned bits = wants_name(f, name) ? 3 : 2;
    f->known[id / 4] |= (uint8_t)(bits << id % 4 * 2);
    return bits;
}

static inline bool wants_collection(struct mj_filter *f, const struct mj_journal *j, uint32_t id)
{
    if (MJ_UNLIKELY(id == MJ_COLLECTION_OTHER))
        return true; /* only its text can tell */
    unsigned bits = id < f->known_cap ? f->known[id / 4] >> id % 4 * 2 & 3 : 0;
    if (MJ_UNLIKELY(!bits))
        bits = learn(f, j, id);
    return bits == 3;
}

bool mj_filter_wants(struct mj_filter *f, const struct mj_journal *j, uint16_t collection)
{
    return wants_collection(f, j, collection);
}

/* By half of a hash. */
static bool may_want_did(const struct mj_filter *f, uint32_t hash)
{
    if (f->dids.count && set_may_have(&f->dids, hash))
        return true;
    for (size_t i = 0; i < f->set_count; i++)
        if (mj_set_may_have(f->sets[i], hash))
            return true;
    return false;
}

static inline bool may(struct mj_filter *f, const struct mj_journal *j, const struct mj_entry *e)
{
    if (!(f->pass >> mj_filter_pass_bit(e) & 1))
        return false;
    /* Identity and account events pass collection filters: v1 clients rely on it. */
    if (f->any_collections && e->kind == MJ_KIND_COMMIT && !wants_collection(f, j, e->collection))
        return false;
    if (MJ_LIKELY(!f->set_count))
        return !f->dids.count || set_may_have(&f->dids, e->did);
    return may_want_did(f, e->did);
}

bool mj_filter_may(struct mj_filter *f, const struct mj_journal *j, const struct mj_entry *e)
{
    return may(f, j, e);
}

bool mj_filter_confirm(const struct mj_filter *f, const struct mj_entry *e, struct mj_span json)
{
    if (f->any_collections && e->kind == MJ_KIND_COMMIT && e->collection == MJ_COLLECTION_OTHER &&
        !wants_name(f, json_text(json, MJ_SPAN("\"collection\":\""))))
        return false;
    if (!mj_filter_has_dids(f))
        return true;
    struct mj_span did = mj_json_did(json);
    bool wanted = set_has(&f->dids, did, e->did);
    for (size_t i = 0; i < f->set_count && !wanted; i++)
        wanted = mj_set_has(f->sets[i], did);
    return wanted;
}

void mj_filter_scan(struct mj_filter *f, const struct mj_journal *j, unsigned stream,
                    const struct mj_entry *entries, size_t n, uint64_t *bits, size_t at)
{
    mj_epoch_enter(); /* once for all entries, not for each look into a set */
    for (size_t i = 0; i < n;) {
        /* A word at a time, so that the bits stay in a register. */
        size_t k = at + i, stop = i + 64 - k % 64;
        uint64_t word = 0;
        if (stop > n)
            stop = n;
        for (; i < stop; i++) {
            const struct mj_entry *e = &entries[i];
            bool hit = e->streams >> stream & 1 && may(f, j, e);
            word |= (uint64_t)hit << (at + i) % 64;
        }
        bits[k / 64] |= word;
    }
    mj_epoch_leave();
}

/* `wanted`, up to the newest number there is. */
static void sum_wanted(struct mj_filter *f, const struct mj_journal *j)
{
    for (; f->summed < MJ_COLLECTION_OTHER; f->summed++) {
        if (!mj_journal_collection_name(j, (uint16_t)f->summed).ptr)
            return;
        if (wants_collection(f, j, f->summed))
            f->wanted[f->summed % 256 / 64] |= UINT64_C(1) << f->summed % 64;
    }
}

static bool bloom_has(const struct mj_summary *s, uint32_t did)
{
    uint32_t a = did % 4096, b = (did >> 12) % 4096, c = (did >> 20) % 4096;
    return s->dids[a / 64] >> a % 64 & s->dids[b / 64] >> b % 64 & s->dids[c / 64] >> c % 64 & 1;
}

static bool is_in_summary(void *ctx, struct mj_span member)
{
    return bloom_has(ctx, (uint32_t)mj_hash(member));
}

/* May the block have one of the DIDs? Beyond some hundred nearly every block has one; asking for
 * each would cost more than reading the index. */
static bool may_have_did(const struct mj_filter *f, const struct mj_summary *s)
{
    size_t count = f->dids.count;
    for (size_t i = 0; i < f->set_count; i++)
        count += mj_set_count(f->sets[i]);
    if (!mj_filter_has_dids(f) || count > 256)
        return true;
    for (size_t i = 0; i < f->dids.count; i++)
        if (bloom_has(s, (uint32_t)f->dids.items[i].hash))
            return true;
    for (size_t i = 0; i < f->set_count; i++)
        if (mj_set_any(f->sets[i], is_in_summary, (void *)s))
            return true;
    return false;
}

bool mj_filter_may_any(struct mj_filter *f, const struct mj_journal *j, unsigned stream,
                       const struct mj_summary *s)
{
    if (!(s->streams >> stream & 1))
        return false;
    /* Which kinds of the block can pass? Commits only with a wanted operation and collection. */
    uint32_t kinds = s->kinds & (f->kinds ? f->kinds : KINDS_ALL);
    bool commits = kinds >> MJ_KIND_COMMIT & 1 && (!f->ops || s->ops & f->ops);
    if (commits && f->any_collections) {
        const unsigned other = MJ_COLLECTION_OTHER % 256;
        sum_wanted(f, j);
        commits = s->collections[other / 64] >> other % 64 & 1;
        for (size_t i = 0; i < 4 && !commits; i++)
            commits = (s->collections[i] & f->wanted[i]) != 0;
    }
    if (!commits && !(kinds & ~(1u << MJ_KIND_COMMIT)))
        return false;
    return may_have_did(f, s);
}

static void print_set(const struct text_set *set, const char *suffix, bool *any,
                      struct mj_buf *json)
{
    for (size_t i = 0; i < set->count; i++) {
        MJ_AUTO_BUF text = {0};
        struct mj_span item = item_text(set, i);
        mj_buf_put(&text, item.ptr, item.len);
        mj_buf_puts(&text, suffix);
        if (*any)
            mj_buf_putc(json, ',');
        mj_buf_put_json(json, mj_buf_span(&text));
        *any = true;
    }
}

void mj_filter_print(const struct mj_filter *f, struct mj_buf *json)
{
    static const char *const kinds[] = {"commit", "identity", "account"};
    static const char *const ops[] = {"", "create", "update", "delete"};
    bool any = false;
    mj_buf_putc(json, '{');
    if (f->any_collections) {
        mj_buf_puts(json, "\"collections\":[");
        print_set(&f->names, "", &any, json);
        print_set(&f->prefixes, "*", &any, json);
        mj_buf_puts(json, "],");
    }
    if (f->dids.count)
        mj_buf_printf(json, "\"dids\":%zu,", f->dids.count);
    for (unsigned i = 0, n = 0; f->kinds && i < MJ_COUNT(kinds); i++)
        if (f->kinds >> i & 1)
            mj_buf_printf(json, "%s\"%s\"", n++ ? "," : "\"kinds\":[", kinds[i]);
    if (f->kinds)
        mj_buf_puts(json, "],");
    for (unsigned i = 1, n = 0; f->ops && i < MJ_COUNT(ops); i++)
        if (f->ops >> i & 1)
            mj_buf_printf(json, "%s\"%s\"", n++ ? "," : "\"operations\":[", ops[i]);
    if (f->ops)
        mj_buf_puts(json, "],");
    if (f->max_size != UINT64_MAX)
        mj_buf_printf(json, "\"max_bytes\":%llu,", (unsigned long long)f->max_size);
    if (json->ptr[json->len - 1] == ',')
        json->len--;
    mj_buf_putc(json, '}');
}
