/* A thousand different filters, each passing a hundredth of all events, half of them by DID and
 * half by collection: what the server does with them in a live round, beside asking every filter
 * about every event. Both must come to the same matches. */
#include <math.h>
#include <stdio.h>

#include "base/err.h"
#include "cli/bench_net.h"
#include "server/class.h"

#define FILTERS     1000
#define DIDS        20000
#define NAMES       1000
#define ONE_IN      100  /* events that a filter passes */
#define EVENTS      2000 /* just published, so in the cache as they are in life */
#define ROUND_LIVE  10   /* events of a live round: 1,000 a second, every 10 ms */
#define EACH_EVENTS 500  /* between two looks at the clock */
#define MEMORY      (64u << 20)

struct match {
    struct mj_journal *journal;
    struct mj_view view;
    struct mj_classes set;
    struct mj_class *classes[FILTERS];
    uint64_t x; /* of random() */
};

static uint32_t random_below(struct match *m, uint32_t n)
{
    m->x ^= m->x << 13, m->x ^= m->x >> 7, m->x ^= m->x << 17;
    return (uint32_t)(m->x >> 32) % n;
}

static void name_of(uint32_t i, char out[48]) { snprintf(out, 48, "app.bench%u.name%u", i % 7, i); }

static struct mj_filter *make_filter(struct match *m, size_t i)
{
    struct mj_filter *f = mj_filter_new(NULL);
    for (int k = 0; k < DIDS / ONE_IN && i % 2; k++) {
        char did[MJ_BENCH_DID_LEN + 1];
        mj_bench_did(random_below(m, DIDS), did);
        mj_filter_add_did(f, mj_str(did));
    }
    for (int k = 0; k < NAMES / ONE_IN && i % 2 == 0; k++) {
        char name[48];
        name_of(random_below(m, NAMES), name);
        mj_filter_add_collection(f, mj_str(name));
    }
    return f;
}

static bool init(struct match *m, const struct mj_bench *b)
{
    struct mj_bench_events e = {0};
    mj_bench_events_collect(b, &e);
    m->x = 88172645463325252u;
    m->journal = mj_journal_in_memory(MEMORY);
    mj_classes_init(&m->set, m->journal);
    bool ok = e.count > 0;
    for (size_t n = 0; n < EVENTS && ok; n++) {
        char name[48];
        name_of(random_below(m, NAMES), name);
        struct mj_bench_event *it = &e.items[n % e.count];
        mj_bench_event_did(&e, n, random_below(m, DIDS));
        it->kind = MJ_KIND_COMMIT;
        it->op = MJ_OP_CREATE;
        it->collection = mj_collection_id(mj_str(name));
        ok = mj_bench_event_append(m->journal, &e, n, 1) > 0;
    }
    mj_bench_events_deinit(&e);
    ok = ok && !mj_journal_publish(m->journal, -1, 0);
    mj_view_init(&m->view, m->journal);
    for (size_t i = 0; i < FILTERS; i++) {
        m->classes[i] = mj_class_get(&m->set, MJ_STREAM_MAIN, MJ_CODEC_TEXT, make_filter(m, i));
        mj_class_index(&m->set, m->classes[i]);
        m->classes[i]->live_count = 1; /* only whether there are any is looked at */
    }
    return ok;
}

static void deinit(struct match *m)
{
    for (size_t i = 0; i < FILTERS; i++)
        mj_class_unref(&m->set, m->classes[i]);
    mj_classes_deinit(&m->set);
    mj_view_deinit(&m->view);
    mj_journal_close(m->journal);
}

/* As the server: a few events at a time, the hits gone through class by class. */
static uint64_t all_at_once(struct match *m, const struct mj_run *run, size_t n)
{
    uint64_t matches = 0;
    for (size_t i = 0; i < n;) {
        struct mj_run r = *run;
        r.entries += i;
        r.count = n - i < ROUND_LIVE ? n - i : ROUND_LIVE;
        r.seq += i;
        r.data += i ? run->entries[i - 1].end - run->start : 0;
        r.start = i ? run->entries[i - 1].end : run->start;
        i += mj_classes_match(&m->set, &r, r.count);
        for (size_t k = 0; k < m->set.touched_count; k++)
            for (uint32_t h = m->set.touched[k]->first_hit; h != MJ_NO_HIT; h = m->set.hits[h].next)
                matches++;
        mj_classes_done(&m->set);
    }
    return matches;
}

static uint64_t each_by_itself(struct match *m, const struct mj_run *run, size_t from, size_t n)
{
    uint64_t matches = 0;
    for (size_t i = from; i < from + n; i++)
        for (size_t k = 0; k < FILTERS; k++) {
            struct mj_filter *f = m->classes[k]->filter;
            matches += mj_filter_may(f, m->journal, &run->entries[i]) &&
                       mj_filter_confirm(f, &run->entries[i], mj_run_json(run, i));
        }
    return matches;
}

void mj_bench_match(struct mj_bench *b)
{
    struct match *m = mj_calloc(1, sizeof *m);
    struct mj_run run;
    if (!init(m, b) || !mj_view_run(&m->view, m->view.floor, &run) ||
        mj_view_load(&m->view, &run)) {
        fprintf(stderr, "moonjet bench: match: there is nothing to match\n");
        goto out;
    }
    uint64_t matches = all_at_once(m, &run, run.count),
             same = each_by_itself(m, &run, 0, run.count);
    if (matches != same) {
        fprintf(stderr, "moonjet bench: match: %llu matches at once, %llu by themselves\n",
                (unsigned long long)matches, (unsigned long long)same);
        goto out;
    }
    double ours = INFINITY, each = INFINITY;
    for (int round = 0; round < MJ_BENCH_ROUNDS; round++) {
        uint64_t n = 0;
        int64_t start = mj_bench_cpu_ns(), spent;
        do {
            all_at_once(m, &run, run.count);
            n += run.count;
        } while ((spent = mj_bench_cpu_ns() - start) < mj_bench_round(b));
        ours = fmin(ours, (double)spent / (double)n);
        n = 0;
        start = mj_bench_cpu_ns();
        do {
            size_t few = run.count < EACH_EVENTS ? run.count : EACH_EVENTS;
            each_by_itself(m, &run, n % (run.count - few + 1), few);
            n += few;
        } while ((spent = mj_bench_cpu_ns() - start) < mj_bench_round(b));
        each = fmin(each, (double)spent / (double)n);
    }
    char beside[112];
    snprintf(beside, sizeof beside, "ours %.0f, each %.0f ns an event; %.2f of %d match, the same",
             ours, each, (double)matches / (double)run.count, FILTERS);
    mj_bench_report(b, "match_1000_filters_vs_each", each / ours, "x", beside, MJ_GOAL_AT_LEAST,
                    50);
out:
    deinit(m);
    free(m);
}
