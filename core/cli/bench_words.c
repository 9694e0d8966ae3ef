/* Matching: 10,000 words over the posts, and 1,000 flows with match tables beside 10. */
#include <math.h>
#include <stdio.h>

#include "base/err.h"
#include "cli/bench.h"
#include "event/decode.h"
#include "event/kept.h"
#include "journal/journal.h"
#include "match/decision.h"
#include "match/fold.h"

#define WORDS 10000
#define FLOWS 1000

struct posts {
    struct mj_kept **events; /* all events, whose records are sound */
    uint32_t *collections;
    size_t count, cap;
    struct mj_span *texts; /* borrowed from the events */
    size_t text_count;
    struct mj_buf made; /* words, one after the other, a NUL behind each */
    uint64_t random;
};

static uint32_t below(struct posts *p, uint32_t n)
{
    p->random ^= p->random << 13, p->random ^= p->random >> 7, p->random ^= p->random << 17;
    return (uint32_t)((p->random >> 32) * n >> 32);
}

static int keep(void *ctx, struct mj_event *ev)
{
    struct posts *p = ctx;
    if (ev->record.len && mj_record_check(ev->record))
        return 0;
    ev->record_checked = true;
    if (p->count == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 256;
        p->events = mj_realloc(p->events, p->cap * sizeof *p->events);
        p->collections = mj_realloc(p->collections, p->cap * sizeof *p->collections);
    }
    p->collections[p->count] = ev->collection.len ? mj_collection_id(ev->collection) : 0;
    p->events[p->count++] = mj_kept_new(ev);
    return 0;
}

static void posts_init(struct posts *p, const struct mj_bench *b)
{
    struct mj_decoder *decoder = mj_decoder_new();
    struct mj_frame frame;
    *p = (struct posts){.random = 88172645463325252u};
    for (size_t i = 0; i < b->in->count; i++)
        mj_decode(decoder, b->in->frames[i], &frame, keep, p);
    mj_decoder_free(decoder);
    p->texts = mj_alloc((p->count + 1) * sizeof *p->texts);
    for (size_t i = 0; i < p->count; i++) {
        const struct mj_event *ev = &p->events[i]->ev;
        struct mj_span value;
        struct mj_cbor_head head;
        if (!mj_span_is(ev->collection, "app.bsky.feed.post") || !ev->record.len ||
            mj_cbor_map_get(ev->record, MJ_SPAN("text"), &value))
            continue;
        struct mj_cbor c = mj_cbor(value);
        if (mj_cbor_next(&c, &head) == 0 && head.type == MJ_CBOR_TEXT)
            p->texts[p->text_count++] = head.s;
    }
}

static void posts_deinit(struct posts *p)
{
    for (size_t i = 0; i < p->count; i++)
        mj_kept_unref(p->events[i]);
    free(p->events);
    free(p->collections);
    free(p->texts);
    mj_buf_deinit(&p->made);
}

/* A word that begins as one of the posts does, so that texts go part of the way with it: keywords
 * are words, not noise. One in eight is two words, one in sixteen may go on. */
static struct mj_span make_word(struct posts *p)
{
    struct mj_buf *b = &p->made;
    size_t start = b->len = 0;
    for (unsigned parts = below(p, 8) ? 1 : 2; parts; parts--) {
        struct mj_span text = p->texts[below(p, (uint32_t)p->text_count)];
        size_t n = 2 + below(p, 4), at = text.len > n ? below(p, (uint32_t)(text.len - n)) : 0;
        /* From the start of a word. */
        while (at && at < text.len && text.ptr[at - 1] != ' ')
            at++;
        for (size_t i = at; i < text.len && i < at + n; i++)
            if (text.ptr[i] > ' ' && text.ptr[i] < 0x7f && text.ptr[i] != '*')
                mj_buf_putc(b, (char)text.ptr[i]);
        for (int i = 0; i < 4; i++)
            mj_buf_putc(b, (char)('a' + below(p, 26)));
        if (parts > 1)
            mj_buf_putc(b, ' ');
    }
    if (!below(p, 16))
        mj_buf_putc(b, '*');
    return mj_span(b->ptr + start, b->len - start);
}

static struct mj_words *make_words(struct posts *p, size_t n)
{
    MJ_AUTO_BUF error = {0};
    struct mj_words *w = mj_words_new();
    while (mj_words_count(w) < n)
        mj_words_add(w, make_word(p), &error);
    return w;
}

/* The yardstick: what just folding the text takes, without looking for anything. */
static void bench_words(struct mj_bench *b, struct posts *p)
{
    struct mj_words *words = make_words(p, WORDS);
    struct mj_buf stream = {0};
    double ours = INFINITY, folding = INFINITY;
    size_t found = 0, bytes = 0, passes = 0;
    for (size_t i = 0; i < p->text_count; i++)
        bytes += p->texts[i].len;
    int64_t begin = mj_bench_cpu_ns();
    mj_words_find(words, MJ_SPAN("\xff")); /* makes the automaton */
    double made = (double)(mj_bench_cpu_ns() - begin) / 1e6;
    for (int round = 0; round < MJ_BENCH_ROUNDS; round++)
        for (int look = 0; look < 2; look++) {
            uint64_t n = 0;
            int64_t start = mj_bench_cpu_ns(), spent;
            do {
                for (size_t i = 0; i < p->text_count; i++) {
                    stream.len = 0;
                    mj_fold_tokens(p->texts[i], &stream);
                    if (look)
                        found += mj_words_find(words, mj_buf_span(&stream)) >= 0;
                }
                n += p->text_count;
                passes += (unsigned)look;
            } while ((spent = mj_bench_cpu_ns() - start) < mj_bench_round(b));
            double *best = look ? &ours : &folding;
            *best = fmin(*best, (double)spent / (double)n);
        }
    char beside[128];
    snprintf(beside, sizeof beside,
             "folding alone: %.0f ns; %.0f bytes a post, %.1f %% have a word; made in %.1f ms",
             folding, (double)bytes / (double)p->text_count,
             100.0 * (double)found / (double)p->text_count / (double)passes, made);
    mj_bench_report(b, "words_10000_ns_per_post", ours, "ns", beside, MJ_GOAL_AT_MOST, 1000);
    mj_buf_deinit(&stream);
    mj_words_unref(words);
}

static struct mj_match *set_of(struct posts *p, enum mj_field field, const char *pattern, int n)
{
    struct mj_match *set = mj_match_set(field);
    while (n--) {
        char text[128];
        snprintf(text, sizeof text, pattern, below(p, 1000000000));
        mj_match_set_add(set, mj_str(text));
    }
    return set;
}

static struct mj_match *at_path(struct mj_match *atom, const char *path)
{
    mj_match_path(atom, mj_str(path));
    return atom;
}

static struct mj_match *value_at(struct posts *p, const char *path)
{
    struct mj_match *set = at_path(mj_match_set(MJ_FIELD_PATH), path);
    MJ_AUTO_BUF item = {0};
    mj_cbor_put_int(&item, below(p, 1000000));
    mj_match_set_add(set, mj_buf_span(&item));
    return set;
}

/* What flow i asks for beside collection and operation: the keys of match tables one after the
 * other.
 */
static struct mj_match *make_question(struct posts *p, size_t i)
{
    static const char did[] = "did:plc:%024u";
    static const char *const langs[] = {"gl", "eu", "mt", "is", "cy", "ga"};
    struct mj_match *m;
    switch (i % 13) {
    case 0:
        return set_of(p, MJ_FIELD_DID, did, 1 + (int)(i % 20));
    case 1:
        return set_of(p, MJ_FIELD_SUBJECT, did, 1);
    case 2:
        return set_of(p, MJ_FIELD_MENTION, did, 1);
    case 3:
        return set_of(p, MJ_FIELD_TAG, "tag%u", 3);
    case 4:
        return set_of(p, MJ_FIELD_LINK, "n%u.example.com", 2);
    case 5:
        return mj_match_words(make_words(p, 10), false);
    case 6:
        return mj_match_words(make_words(p, 10), true);
    case 7:
        return set_of(p, MJ_FIELD_REPLY_TO, did, 1);
    case 8:
        return set_of(p, MJ_FIELD_ROOT, "at://did:plc:%024u/app.bsky.feed.post/3mptbyplj5d2a", 1);
    case 9:
        return set_of(p, MJ_FIELD_QUOTE, did, 1);
    case 10:
        m = mj_match_set(MJ_FIELD_LANG);
        mj_match_set_add(m, mj_str(langs[below(p, MJ_COUNT(langs))]));
        return m;
    case 11:
        return value_at(p, i % 2 ? "extra.number" : "embed.images[1].size");
    default:
        m = mj_match_and(); /* of a young collection, with no key to look up */
        mj_match_add(
            m, at_path(mj_match_present(MJ_FIELD_PATH), i % 2 ? "labels.values" : "embed.video"));
        mj_match_add(m, mj_match_not(mj_match_is_reply()));
        return m;
    }
}

/* One flow in fifty takes every like; the rest next to nothing, so one in a hundred flows wants an
 * event. */
static struct mj_match *make_flow(struct posts *p, size_t i)
{
    bool broad = i % 50 == 49, likes = broad || i % 13 == 1;
    struct mj_match *m = mj_match_and(), *collection = mj_match_set(MJ_FIELD_COLLECTION);
    mj_match_set_add(collection, mj_str(likes ? "app.bsky.feed.like" : "app.bsky.feed.post"));
    mj_match_add(m, collection);
    mj_match_add(m, mj_match_ops(1u << MJ_OP_CREATE));
    mj_match_add(m, broad ? at_path(mj_match_present(MJ_FIELD_PATH), "subject.uri")
                          : make_question(p, i));
    return m;
}

static size_t decide_all(struct mj_decision *d, const struct posts *p)
{
    size_t hits = 0, words = (mj_decision_count(d) + 63) / 64;
    for (size_t i = 0; i < p->count; i++) {
        const uint64_t *got = mj_decision_eval(d, &p->events[i]->ev, p->collections[i]);
        for (size_t w = 0; w < words; w++)
            hits += (size_t)__builtin_popcountll(got[w]);
    }
    return hits;
}

static void bench_flows(struct mj_bench *b, struct posts *p)
{
    struct mj_match *flows[FLOWS];
    struct mj_decision *few = mj_decision_new(), *many = mj_decision_new();
    for (size_t i = 0; i < FLOWS; i++) {
        flows[i] = make_flow(p, i);
        mj_decision_add(many, flows[i]);
        if (i % 101 == 0) /* ten, each of another kind */
            mj_decision_add(few, flows[i]);
    }
    int64_t start = mj_bench_cpu_ns();
    mj_decision_ready(many);
    double built = (double)(mj_bench_cpu_ns() - start) / 1e6;
    size_t hits = decide_all(many, p);
    decide_all(few, p);
    double best[2] = {INFINITY, INFINITY};
    for (int round = 0; round < MJ_BENCH_ROUNDS; round++)
        for (int which = 0; which < 2; which++) {
            uint64_t n = 0;
            int64_t spent;
            start = mj_bench_cpu_ns();
            do {
                decide_all(which ? many : few, p);
                n += p->count;
            } while ((spent = mj_bench_cpu_ns() - start) < mj_bench_round(b));
            best[which] = fmin(best[which], (double)spent / (double)n);
        }
    char beside[128];
    snprintf(beside, sizeof beside,
             "10: %.0f ns, 1,000: %.0f ns an event; %.1f %% match; built in "
             "%.1f ms",
             best[0], best[1], 100.0 * (double)hits / (double)p->count / FLOWS, built);
    mj_bench_report(b, "flows_1000_vs_10", best[1] / best[0], "x", beside, MJ_GOAL_AT_MOST, 3);
    mj_decision_free(few);
    mj_decision_free(many);
    for (size_t i = 0; i < FLOWS; i++)
        mj_match_free(flows[i]);
}

void mj_bench_words(struct mj_bench *b)
{
    struct posts p;
    posts_init(&p, b);
    if (p.text_count) {
        bench_words(b, &p);
        bench_flows(b, &p);
    } else {
        fprintf(stderr, "moonjet bench: words: there are no posts\n");
    }
    posts_deinit(&p);
}
