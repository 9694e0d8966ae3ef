#include <stdio.h>

#include "atproto/syntax.h"
#include "base/hash.h"
#include "cli/load.h"

/* ---- the log ---- */

void mj__load_log_deinit(struct mj__load_log *l)
{
    free(l->times);
    free(l->packed);
    free(l->dids);
    *l = (struct mj__load_log){0};
}

/* Index of the first entry at or behind t. */
static size_t find(const struct mj__load_log *l, int64_t t)
{
    size_t low = 0, high = l->len;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (l->times[mid] < t)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void *grow(void *p, size_t cap) { return mj_realloc(p, cap * sizeof(uint64_t)); }

static void insert(struct mj__load_log *l, size_t at, int64_t t, uint64_t did)
{
    if (l->len == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 64;
        l->times = grow(l->times, l->cap);
        if (l->want_packed)
            l->packed = grow(l->packed, l->cap);
        if (l->want_dids)
            l->dids = grow(l->dids, l->cap);
    }
    size_t rest = (l->len - at) * sizeof(uint64_t);
    if (rest) {
        memmove(l->times + at + 1, l->times + at, rest);
        if (l->packed)
            memmove(l->packed + at + 1, l->packed + at, rest);
        if (l->dids)
            memmove(l->dids + at + 1, l->dids + at, rest);
        l->inserts++;
    }
    l->times[at] = t;
    if (l->packed)
        l->packed[at] = 0;
    if (l->dids)
        l->dids[at] = did;
    l->len++;
}

enum mj__load_order mj__load_note(struct mj__load_log *l, struct mj__load_place *p, int64_t time_us,
                                  uint64_t did)
{
    if (p->last && time_us <= p->last)
        return time_us == p->last ? MJ__LOAD_DUPLICATE : MJ__LOAD_DISORDER;
    p->last = time_us;
    size_t at = (size_t)(p->next - l->base);
    if (!(p->next >= l->base && at < l->len && l->times[at] == time_us)) {
        at = find(l, time_us);
        if (at == l->len || l->times[at] != time_us) {
            /* What lies before all that is known cannot be compared, nor can anything once a
             * server sends everybody something else. */
            if ((at == 0 && l->len) || l->inserts > MJ__LOAD_INSERTS_MAX || mj__load_full(l))
                return MJ__LOAD_RISING;
            insert(l, at, time_us, did);
        }
    }
    p->next = l->base + at + 1;
    if (!p->first)
        p->first = time_us;
    p->received++;
    return MJ__LOAD_RISING;
}

int64_t mj__load_known(const struct mj__load_log *l, const struct mj__load_place *p, uint64_t hash)
{
    if (!l->packed || p->next < l->base || p->next - l->base >= l->len)
        return 0;
    size_t at = (size_t)(p->next - l->base);
    return hash && l->packed[at] == hash ? l->times[at] : 0;
}

void mj__load_remember(struct mj__load_log *l, const struct mj__load_place *p, uint64_t hash)
{
    if (l->packed && p->next > l->base && p->next - l->base <= l->len &&
        l->times[p->next - l->base - 1] == p->last)
        l->packed[p->next - l->base - 1] = hash;
}

uint64_t mj__load_settle(const struct mj__load_log *l, struct mj__load_place *p)
{
    uint64_t there = 0, received = p->received;
    if (p->first)
        there = find(l, p->last + 1) - find(l, p->first);
    p->first = 0;
    p->received = 0;
    return there > received ? there - received : 0;
}

void mj__load_trim(struct mj__load_log *l)
{
    size_t half = l->len / 2, keep = l->len - half;
    memmove(l->times, l->times + half, keep * sizeof *l->times);
    if (l->packed)
        memmove(l->packed, l->packed + half, keep * sizeof *l->packed);
    if (l->dids)
        memmove(l->dids, l->dids + half, keep * sizeof *l->dids);
    l->base += half;
    l->len = keep;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool among(const uint64_t *sorted, size_t n, uint64_t v)
{
    return n && bsearch(&v, sorted, n, sizeof v, by_value);
}

uint64_t mj__load_compare(const struct mj__load_log *whole, const struct mj__load_log *part,
                          const uint64_t *dids, size_t n)
{
    if (!whole->len || !part->len || !whole->dids)
        return 0;
    int64_t from = part->times[0], to = part->times[part->len - 1];
    if (whole->times[0] > from)
        from = whole->times[0];
    if (whole->times[whole->len - 1] < to)
        to = whole->times[whole->len - 1];
    size_t j = find(part, from);
    uint64_t unlike = 0;
    for (size_t i = find(whole, from); i < whole->len && whole->times[i] <= to; i++) {
        if (!among(dids, n, whole->dids[i]))
            continue;
        while (j < part->len && part->times[j] < whole->times[i]) {
            unlike++; /* nobody without a filter saw it */
            j++;
        }
        if (j < part->len && part->times[j] == whole->times[i])
            j++;
        else
            unlike++;
    }
    for (; j < part->len && part->times[j] <= to; j++)
        unlike++;
    return unlike;
}

/* ---- events ---- */

struct mj__load_event mj__load_event(struct mj_span json)
{
    static const char did[] = "{\"did\":\"", time[] = "\",\"time_us\":";
    struct mj__load_event e = {0};
    if (json.len < sizeof did - 1 || memcmp(json.ptr, did, sizeof did - 1))
        return e;
    const uint8_t *at = json.ptr + sizeof did - 1, *end = json.ptr + json.len;
    const uint8_t *quote = memchr(at, '"', (size_t)(end - at));
    if (!quote || (size_t)(end - quote) < sizeof time || memcmp(quote, time, sizeof time - 1))
        return e;
    const uint8_t *p = quote + sizeof time - 1;
    int64_t t = 0;
    for (int digits = 0; p < end && *p >= '0' && *p <= '9' && digits < 18; digits++)
        t = t * 10 + (*p++ - '0');
    if (p == end || (*p != ',' && *p != '}'))
        return e;
    e.did = mj_span(at, (size_t)(quote - at));
    e.time_us = t;
    return e;
}

/* The text of the first string member of that name; only for members that stand before anything
 * that a stranger wrote. */
static struct mj_span member(struct mj_span json, const char *key)
{
    size_t n = strlen(key);
    size_t near = json.len < 600 ? json.len : 600;
    const uint8_t *at = memmem(json.ptr, near, key, n);
    if (!at)
        return (struct mj_span){0};
    at += n;
    const uint8_t *end = memchr(at, '"', (size_t)(json.ptr + json.len - at));
    return end ? mj_span(at, (size_t)(end - at)) : (struct mj_span){0};
}

int64_t mj__load_stamp(struct mj_span json)
{
    struct mj_span rev = member(json, ",\"kind\":\"commit\",\"commit\":{\"rev\":\"");
    return mj_tid_valid(rev) ? mj_tid_time_us(rev) : 0;
}

void mj__load_filter_init(struct mj__load_filter *f, struct mj_span query)
{
    *f = (struct mj__load_filter){0};
    struct mj_span key, value;
    MJ_AUTO_BUF text = {0};
    size_t cap = 0;
    while (mj_query_next(&query, &key, &value)) {
        bool did = mj_span_is(key, "wantedDids");
        text.len = 0;
        if ((!did && !mj_span_is(key, "wantedCollections")) || mj_query_decode(value, &text))
            continue;
        if (did) {
            if (f->did_count == cap) {
                cap = cap ? 2 * cap : 16;
                f->dids = grow(f->dids, cap);
            }
            f->dids[f->did_count++] = mj_hash(mj_buf_span(&text));
        } else if (text.len && text.len < 256) {
            mj_buf_putc(&f->collections, (char)text.len);
            mj_buf_put(&f->collections, text.ptr, text.len);
        }
    }
    if (f->did_count)
        qsort(f->dids, f->did_count, sizeof *f->dids, by_value);
}

void mj__load_filter_deinit(struct mj__load_filter *f)
{
    free(f->dids);
    mj_buf_deinit(&f->collections);
    *f = (struct mj__load_filter){0};
}

bool mj__load_passes(const struct mj__load_filter *f, uint64_t did, struct mj_span json)
{
    if (f->did_count && !among(f->dids, f->did_count, did))
        return false;
    if (!f->collections.len)
        return true;
    struct mj_span have = member(json, ",\"collection\":\"");
    if (!have.len)
        return true; /* identity and account events pass every collection filter */
    for (size_t at = 0; at < f->collections.len; at += 1 + f->collections.ptr[at]) {
        struct mj_span want = mj_span(f->collections.ptr + at + 1, f->collections.ptr[at]);
        bool prefix = want.len > 2 && memcmp(want.ptr + want.len - 2, ".*", 2) == 0;
        if (prefix ? mj_span_starts(have, mj_span(want.ptr, want.len - 1)) : mj_span_eq(have, want))
            return true;
    }
    return false;
}

/* ---- latency ---- */

static size_t bucket(uint64_t v)
{
    if (v < 32)
        return (size_t)v;
    unsigned top = 63 - (unsigned)__builtin_clzll(v);
    return (size_t)(top - 4) * 32 + (size_t)((v >> (top - 5)) & 31);
}

/* The largest value in a bucket. */
static int64_t ceiling(size_t b)
{
    if (b < 32)
        return (int64_t)b;
    unsigned top = (unsigned)(b / 32) + 4;
    return (int64_t)(((uint64_t)(32 + b % 32 + 1) << (top - 5)) - 1);
}

void mj__load_measure(struct mj__load_histogram *h, int64_t us)
{
    us = us < 0 ? 0 : us; /* clocks of two machines differ a little */
    h->buckets[bucket((uint64_t)us)]++;
    h->count++;
    h->max = us > h->max ? us : h->max;
}

int64_t mj__load_percentile(const struct mj__load_histogram *h, double share)
{
    uint64_t want = (uint64_t)(share * (double)h->count), seen = 0;
    want = want < 1 ? 1 : want;
    for (size_t b = 0; b < MJ__LOAD_BUCKETS && h->count; b++) {
        seen += h->buckets[b];
        if (seen >= want)
            return ceiling(b) < h->max ? ceiling(b) : h->max;
    }
    return 0;
}
