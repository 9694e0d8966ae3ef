/* Filter classes without sockets: who shares one, matching once for all against asking each,
 * remembered bits over windows against asking each, and skipping of blocks by their summary. */
#include "cmocka_all.h"

#include <ftw.h>
#include <stdio.h>

#include "base/err.h"
#include "base/hash.h"
#include "server/class.h"
#include "server/scan.h"

#define DIDS  50
#define NAMES 40

static uint64_t rng = 88172645463325252u;

static unsigned roll(unsigned n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (unsigned)((rng >> 20) % n);
}

static void did_text(unsigned i, char out[40]) { snprintf(out, 40, "did:web:n%u.example", i); }
static void name_text(unsigned i, char out[40])
{
    snprintf(out, 40, "%s.g%u.n%u", i % 3 ? "com.a" : "org.b", i % 5, i);
}

static struct mj_filter *filter_of(const char *const *names, const char *const *dids)
{
    struct mj_filter *f = mj_filter_new(NULL);
    for (; names && *names; names++)
        assert_int_equal(mj_filter_add_collection(f, mj_str(*names)), 0);
    for (; dids && *dids; dids++)
        assert_int_equal(mj_filter_add_did(f, mj_str(*dids)), 0);
    return f;
}

static void sharing(void **state)
{
    (void)state;
    struct mj_classes set;
    struct mj_journal *j = mj_journal_in_memory(1 << 20);
    mj_classes_init(&set, j);
    static const char *const ab[] = {"com.a.b", "com.a.c", "com.x.*", NULL},
                             *const ba[] = {"com.x.*", "com.a.c", "com.a.b", "com.a.c", NULL},
                             *const a[] = {"com.a.b", NULL},
                             *const d[] = {"did:web:a.example", NULL};
    struct mj_class *c[16];
    size_t n = 0;
    c[n++] = mj_class_get(&set, 0, MJ_CODEC_TEXT, filter_of(ab, d));
    c[n++] = mj_class_get(&set, 0, MJ_CODEC_TEXT, filter_of(ba, d));
    assert_ptr_equal(c[0], c[1]);
    size_t one = set.bytes;
    assert_true(one > 0);
    c[n++] = mj_class_get(&set, 0, MJ_CODEC_ZSTD, filter_of(ab, d));
    c[n++] = mj_class_get(&set, 1, MJ_CODEC_TEXT, filter_of(ab, d));
    c[n++] = mj_class_get(&set, 0, MJ_CODEC_TEXT, filter_of(ab, NULL));
    c[n++] = mj_class_get(&set, 0, MJ_CODEC_TEXT, filter_of(a, NULL));
    c[n++] = mj_class_get(&set, 0, MJ_CODEC_TEXT, NULL);
    c[n++] = mj_class_get(&set, 0, MJ_CODEC_TEXT, filter_of(NULL, NULL));
    assert_ptr_equal(c[6], c[7]); /* what filters nothing is no filter */
    assert_null(c[7]->filter);
    struct mj_filter *f = filter_of(NULL, NULL);
    static const char *const all[] = {"commit", "identity", "account"};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(mj_filter_add_kind(f, mj_str(all[i])), 0);
    c[n++] = mj_class_get(&set, 0, MJ_CODEC_TEXT, f);
    assert_ptr_equal(c[6], c[8]);
    f = filter_of(NULL, NULL);
    mj_filter_set_max_size(f, 1000);
    c[n++] = mj_class_get(&set, 0, MJ_CODEC_TEXT, f);
    assert_int_equal(set.count, 7);
    for (size_t i = 0; i < n; i++)
        for (size_t k = i + 1; k < n; k++)
            assert_true(c[i] != c[k] || (i == 0 && k == 1) || (i >= 6 && k <= 8));
    uint64_t serial = c[0]->serial;
    for (size_t i = 0; i < n; i++)
        mj_class_unref(&set, c[i]);
    assert_int_equal(set.count, 0);
    assert_int_equal(set.bytes, 0);
    c[0] = mj_class_get(&set, 0, MJ_CODEC_TEXT, filter_of(ab, d));
    assert_true(c[0]->serial > serial); /* nothing remembered of the old one is its */
    mj_class_unref(&set, c[0]);
    mj_classes_deinit(&set);
    mj_journal_close(j);
}

static struct mj_sets *sets;
static struct mj_set *named[3];

static int open_sets(void **state)
{
    (void)state;
    static const char *const texts[] = {"a", "b", "c"};
    sets = mj_sets_new(NULL, NULL, 0);
    for (size_t i = 0; i < MJ_COUNT(named); i++) {
        named[i] = mj_sets_make(sets, texts[i]);
        mj_sets_declare(sets, named[i]);
    }
    return 0;
}

static int close_sets(void **state)
{
    (void)state;
    for (size_t i = 0; i < MJ_COUNT(named); i++)
        mj_set_unref(named[i]);
    mj_sets_free(sets);
    return 0;
}

/* Edits some of the sets' members. */
static void edit_sets(void)
{
    char text[40];
    for (unsigned k = roll(10); k > 0; k--) {
        did_text(roll(DIDS), text);
        struct mj_set *s = named[roll(MJ_COUNT(named))];
        if (roll(3))
            mj_set_add(s, mj_str(text));
        else
            mj_set_remove(s, mj_str(text));
    }
}

static struct mj_filter *random_filter(void)
{
    struct mj_filter *f = mj_filter_new(sets);
    char text[40];
    if (roll(2))
        for (unsigned k = 1 + roll(4); k > 0; k--) {
            name_text(roll(NAMES + 10), text);
            if (!roll(4))
                snprintf(text, sizeof text, "com.a.g%u.*", roll(6));
            assert_int_equal(mj_filter_add_collection(f, mj_str(text)), 0);
        }
    if (!roll(3))
        for (unsigned k = 1 + roll(roll(4) ? 4 : DIDS); k > 0; k--) {
            did_text(roll(DIDS + 10), text);
            assert_int_equal(mj_filter_add_did(f, mj_str(text)), 0);
        }
    for (unsigned k = roll(4) ? 0 : roll(4); k > 0; k--) {
        snprintf(text, sizeof text, "set:%c", 'a' + roll(3));
        assert_int_equal(mj_filter_add_did(f, mj_str(text)), 0);
    }
    if (!roll(4))
        mj_filter_add_kind(f, mj_str(mj_kind_name((enum mj_kind)roll(3))));
    if (!roll(4))
        mj_filter_add_operation(f, mj_str(mj_op_name((enum mj_op)(1 + roll(3)))));
    if (!roll(4))
        mj_filter_set_max_size(f, 120 + roll(60));
    return f;
}

static void append(struct mj_journal *j, unsigned did_bound)
{
    char did[40], name[40];
    MJ_AUTO_BUF json = {0};
    did_text(roll(did_bound), did);
    name_text(roll(NAMES), name);
    struct mj_append a = {.time_us = mj_journal_next_time(j),
                          .did_hash = mj_hash(mj_str(did)),
                          .streams = 1 + roll(3),
                          .kind = (uint8_t)(roll(6) ? 0 : 1 + roll(2))};
    if (a.kind == MJ_KIND_COMMIT) {
        a.collection = mj_collection_id(mj_str(name));
        a.op = (uint8_t)(1 + roll(3));
    }
    mj_buf_printf(&json, "{\"did\":\"%s\",\"commit\":{\"collection\":\"%s\",\"x\":\"%*s\"}}", did,
                  name, (int)roll(80), "");
    assert_int_equal(mj_journal_append(j, &a, mj_buf_span(&json)), 0);
}

static bool naive(const struct mj_class *c, const struct mj_journal *j, const struct mj_run *r,
                  size_t i)
{
    const struct mj_entry *e = &r->entries[i];
    return e->streams >> c->stream & 1 &&
           (!c->filter ||
            (mj_filter_may(c->filter, j, e) && mj_filter_confirm(c->filter, e, mj_run_json(r, i)) &&
             (c->codec != MJ_CODEC_TEXT ||
              mj_run_json(r, i).len <= mj_filter_max_size(c->filter))));
}

/* Classes come, get and lose live members, and go, between rounds. */
static void rounds(void **state)
{
    (void)state;
    enum { CLASSES = 150 };
    struct mj_class *c[CLASSES] = {0};
    struct mj_classes set;
    struct mj_journal *j = mj_journal_in_memory(32 << 20);
    struct mj_view v;
    mj_classes_init(&set, j);
    mj_view_init(&v, j);
    uint64_t at = v.end;
    size_t hits = 0;
    for (unsigned round = 0; round < 300; round++) {
        edit_sets();
        for (unsigned k = roll(20); k > 0; k--) {
            struct mj_class **slot = &c[roll(CLASSES)];
            if (*slot && !roll(3)) {
                if ((*slot)->refs == 1)
                    (*slot)->live_count = 0;
                mj_class_unref(&set, *slot);
                *slot = NULL;
            } else if (*slot) {
                (*slot)->live_count = roll(3);
                mj_class_index(&set, *slot);
            } else {
                *slot = mj_class_get(&set, roll(2), roll(2) ? MJ_CODEC_TEXT : MJ_CODEC_ZSTD,
                                     roll(8) ? random_filter() : NULL);
            }
        }
        for (unsigned k = 1 + roll(60); k > 0; k--)
            append(j, DIDS);
        assert_int_equal(mj_journal_publish(j, -1, 0), 0);
        mj_view_refresh(&v);
        while (at < v.end) {
            struct mj_run r;
            assert_true(mj_view_run(&v, at, &r));
            assert_int_equal(mj_view_load(&v, &r), 0);
            size_t n = mj_classes_match(&set, &r, r.count);
            assert_in_range(n, 1, r.count);
            for (size_t k = 0; k < CLASSES; k++) {
                if (!c[k] || !c[k]->filter)
                    continue;
                uint32_t hit = c[k]->first_hit;
                for (size_t i = 0; i < n; i++) {
                    if (!c[k]->live_count || c[k]->index == MJ_INDEX_NONE || !naive(c[k], j, &r, i))
                        continue;
                    assert_int_not_equal(hit, MJ_NO_HIT);
                    assert_int_equal(set.hits[hit].entry, i);
                    hit = set.hits[hit].next;
                    hits++;
                }
                assert_int_equal(hit, MJ_NO_HIT);
            }
            mj_classes_done(&set);
            at = r.seq + n;
        }
    }
    assert_true(hits > 10000);
    for (size_t k = 0; k < CLASSES; k++)
        mj_class_unref(&set, c[k]);
    assert_int_equal(set.count, 0);
    mj_view_deinit(&v);
    mj_classes_deinit(&set);
    mj_journal_close(j);
}

static int by_hash(const void *a, const void *b)
{
    uint32_t x = (uint32_t)(*(const uint64_t *)a >> 32), y = (uint32_t)(*(const uint64_t *)b >> 32);
    return (x > y) - (x < y);
}

/* Two DIDs whose hashes have the same low half. */
static void twins(char out[2][40])
{
    enum { N = 400000 };
    uint64_t *all = mj_alloc(N * sizeof *all);
    for (uint32_t i = 0; i < N; i++) {
        did_text(i, out[0]);
        all[i] = mj_hash(mj_str(out[0])) << 32 | i;
    }
    qsort(all, N, sizeof *all, by_hash);
    size_t i = 1;
    while (i < N && all[i] >> 32 != all[i - 1] >> 32)
        i++;
    assert_true(i < N);
    did_text((uint32_t)all[i - 1], out[0]);
    did_text((uint32_t)all[i], out[1]);
    free(all);
}

static void equal_hashes(void **state)
{
    (void)state;
    char did[2][40];
    twins(did);
    const char *first[] = {did[0], NULL}, *both[] = {did[1], did[0], NULL};
    struct mj_classes set;
    struct mj_journal *j = mj_journal_in_memory(1 << 20);
    struct mj_view v;
    struct mj_run r;
    mj_classes_init(&set, j);
    mj_view_init(&v, j);
    struct mj_class *c[] = {mj_class_get(&set, 0, MJ_CODEC_TEXT, filter_of(NULL, first)),
                            mj_class_get(&set, 0, MJ_CODEC_TEXT, filter_of(NULL, both))};
    for (int i = 0; i < 2; i++) {
        c[i]->live_count = 1;
        mj_class_index(&set, c[i]);
    }
    for (int i = 0; i < 2; i++) {
        char json[100];
        int n = snprintf(json, sizeof json, "{\"did\":\"%s\"}", did[i]);
        struct mj_append a = {
            .time_us = mj_journal_next_time(j), .did_hash = mj_hash(mj_str(did[i])), .streams = 1};
        assert_int_equal(mj_journal_append(j, &a, mj_span(json, (size_t)n)), 0);
    }
    mj_journal_publish(j, -1, 0);
    mj_view_refresh(&v);
    assert_true(mj_view_run(&v, v.floor, &r));
    assert_int_equal(r.entries[0].did, r.entries[1].did);
    assert_int_equal(mj_classes_match(&set, &r, 2), 2);
    assert_int_equal(set.hit_count, 3); /* its own one; each once */
    assert_int_equal(set.hits[c[0]->first_hit].entry, 0);
    assert_int_equal(c[0]->first_hit, c[0]->last_hit);
    assert_int_equal(set.hits[c[1]->first_hit].entry, 0);
    assert_int_equal(set.hits[c[1]->last_hit].entry, 1);
    mj_classes_done(&set);
    mj_class_unref(&set, c[0]);
    assert_int_equal(mj_classes_match(&set, &r, 2), 2);
    assert_int_equal(set.hit_count, 2); /* nothing is left of the one that is gone */
    mj_classes_done(&set);
    mj_class_unref(&set, c[1]);
    mj_view_deinit(&v);
    mj_classes_deinit(&set);
    mj_journal_close(j);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

/* Windows over a journal that grows, on disk, with sealed blocks. */
static void windows(void **state)
{
    (void)state;
    char dir[] = "/tmp/moonjet-class-XXXXXX";
    assert_non_null(mkdtemp(dir));
    MJ_AUTO_BUF error = {0};
    struct mj_journal *j;
    struct mj_journal_cfg cfg = {
        .dir = dir, .segment_bytes = 128 << 10, .no_seal = true, .sync_us = 1000000};
    assert_int_equal(mj_journal_open(&cfg, &j, &error), 0);
    struct mj_classes set;
    struct mj_scans scans;
    struct mj_view v;
    mj_classes_init(&set, j);
    mj_scans_init(&scans);
    mj_view_init(&v, j);
    struct mj_class *c[40];
    for (size_t k = 0; k < MJ_COUNT(c); k++)
        c[k] = mj_class_get(&set, roll(2), MJ_CODEC_ZSTD, random_filter());
    size_t candidates = 0, skipped = 0;
    for (unsigned round = 0; round < 12; round++) {
        for (unsigned k = 0; k < 900; k++)
            append(j, round % 3 ? DIDS + 10 : 5); /* blocks without most DIDs, too */
        assert_int_equal(mj_journal_publish(j, -1, 0), 0);
        assert_int_equal(mj_journal_seal(j, 0), 0);
        mj_view_refresh(&v);
        for (size_t k = 0; k < MJ_COUNT(c); k++) {
            if (!c[k]->filter)
                continue;
            uint64_t pos = v.floor + roll((unsigned)(v.end - v.floor)), end = v.end;
            while (pos < end) {
                const struct mj_window *w = mj_scan(&scans, c[k], &v, pos);
                assert_true(w->to > pos && w->to <= end);
                uint64_t next = mj_window_next(w, pos, w->to);
                /* What lies between is nothing the class wants. */
                for (struct mj_run r; pos < next || (pos == next && pos < w->to);) {
                    assert_true(mj_view_run(&v, pos, &r));
                    assert_int_equal(r.seq, pos);
                    skipped += r.summary != NULL;
                    if (pos == next) {
                        candidates++;
                        pos++;
                        break;
                    }
                    assert_int_equal(mj_view_load(&v, &r), 0);
                    for (size_t i = 0; i < r.count && pos < next; i++, pos++)
                        assert_false(naive(c[k], j, &r, i));
                }
            }
        }
    }
    assert_true(candidates > 1000);
    assert_true(skipped > 0);
    for (size_t k = 0; k < MJ_COUNT(c); k++)
        mj_class_unref(&set, c[k]);
    mj_view_deinit(&v);
    mj_scans_deinit(&scans);
    mj_classes_deinit(&set);
    mj_journal_close(j);
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* A window that was looked at in part, whose rest has been overtaken by retention when it is looked
 * at again. */
static void moving_floor(void **state)
{
    (void)state;
    struct mj_journal *j = mj_journal_in_memory(1 << 20);
    struct mj_classes set;
    struct mj_scans scans;
    struct mj_view v;
    static const char *const one[] = {"did:web:n1.example", NULL};
    static char json[20000];
    mj_classes_init(&set, j);
    mj_scans_init(&scans);
    mj_view_init(&v, j);
    struct mj_class *c = mj_class_get(&set, 0, MJ_CODEC_TEXT, filter_of(NULL, one));
    memset(json, 'x', sizeof json);
    uint64_t floor = v.floor, wanted = 0;
    for (uint64_t n = 1; n < MJ_WINDOW - 1; n++) {
        bool want = n % 50 == 0;
        struct mj_append a = {.time_us = mj_journal_next_time(j),
                              .did_hash = want ? mj_hash(mj_str(one[0])) : n,
                              .streams = 1};
        assert_int_equal(mj_journal_append(j, &a, mj_span(json, sizeof json)), 0);
        if (n != 20 && n < 900)
            continue;
        mj_journal_publish(j, -1, 0);
        mj_view_refresh(&v);
        uint64_t pos = v.floor;
        const struct mj_window *w = mj_scan(&scans, c, &v, pos);
        assert_int_equal(w->to, v.end);
        while ((pos = mj_window_next(w, pos, w->to)) < w->to) {
            assert_int_equal(pos % 50, 0);
            wanted++;
            pos++;
        }
    }
    assert_true(v.floor > 100 && v.floor > floor);
    assert_true(wanted > 0);
    mj_class_unref(&set, c);
    mj_view_deinit(&v);
    mj_scans_deinit(&scans);
    mj_classes_deinit(&set);
    mj_journal_close(j);
}

static void summaries(void **state)
{
    (void)state;
    struct mj_journal *j = mj_journal_in_memory(1 << 20);
    char name[40];
    for (unsigned i = 0; i < NAMES; i++) { /* numbers 1 to NAMES */
        name_text(i, name);
        struct mj_append a = {.time_us = mj_journal_next_time(j),
                              .collection = mj_collection_id(mj_str(name)),
                              .op = MJ_OP_CREATE};
        assert_int_equal(mj_journal_append(j, &a, MJ_SPAN("{}")), 0);
    }
    mj_journal_publish(j, -1, 0);
    name_text(6, name); /* org.b.g1.n6, number 7 */
    const char *names[] = {name, NULL};
    struct mj_filter *f = filter_of(names, NULL);
    struct mj_summary s = {.streams = 2, .kinds = 1, .ops = 2};
    s.collections[0] = 1u << 7;
    assert_true(mj_filter_may_any(f, j, 1, &s));
    assert_false(mj_filter_may_any(f, j, 0, &s)); /* of another stream */
    s.collections[0] = 1u << 8;
    assert_false(mj_filter_may_any(f, j, 1, &s));
    s.kinds |= 1u << MJ_KIND_ACCOUNT; /* passes collection filters */
    assert_true(mj_filter_may_any(f, j, 1, &s));
    s.kinds = 1;
    s.collections[3] = UINT64_C(1) << 63; /* a name that has no number */
    assert_true(mj_filter_may_any(f, j, 1, &s));
    assert_int_equal(mj_filter_add_operation(f, MJ_SPAN("delete")), 0);
    assert_false(mj_filter_may_any(f, j, 1, &s));
    mj_filter_free(f);
    const char *dids[] = {"did:web:a.example", NULL};
    f = filter_of(NULL, dids);
    uint32_t d = (uint32_t)mj_hash(mj_str(dids[0]));
    assert_false(mj_filter_may_any(f, j, 1, &s));
    uint32_t bits[] = {d % 4096, (d >> 12) % 4096, (d >> 20) % 4096};
    for (size_t i = 0; i < 3; i++)
        s.dids[bits[i] / 64] |= UINT64_C(1) << bits[i] % 64;
    assert_true(mj_filter_may_any(f, j, 1, &s));
    mj_filter_free(f);
    /* By a set, as it is now; above 256 members every block may have one. */
    f = mj_filter_new(sets);
    assert_int_equal(mj_filter_add_did(f, MJ_SPAN("set:a")), 0);
    assert_int_equal(mj_filter_add_did(f, MJ_SPAN("set:nobody")), MJ_ENOENT);
    mj_set_clear(named[0]);
    assert_false(mj_filter_may_any(f, j, 1, &s));
    mj_set_add(named[0], MJ_SPAN("did:web:b.example"));
    assert_false(mj_filter_may_any(f, j, 1, &s));
    uint64_t version = mj_filter_version(f);
    mj_set_add(named[0], mj_str(dids[0]));
    assert_true(mj_filter_version(f) > version);
    assert_true(mj_filter_may_any(f, j, 1, &s));
    mj_set_remove(named[0], mj_str(dids[0]));
    assert_false(mj_filter_may_any(f, j, 1, &s));
    for (unsigned i = 0; i < 300; i++) {
        did_text(i, name);
        mj_set_add(named[0], mj_str(name));
    }
    assert_true(mj_filter_may_any(f, j, 1, &s));
    mj_filter_free(f);
    mj_journal_close(j);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, open_sets, close_sets)
    const struct CMUnitTest tests[] = {T(sharing), T(rounds),       T(equal_hashes),
                                       T(windows), T(moving_floor), T(summaries)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
