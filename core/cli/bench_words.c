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

/* A word of the posts with letters changed, so that texts go part of the way with it: keywords are
 * words, not noise. One in eight is two words, one in sixteen may go on. */
static struct mj_span make_word(struct posts *p)
{
    struct mj_buf *b = &p->made;
    size_t start = b->len = 0;
    for (unsigned parts = below(p, 8) ? 1 : 2; parts; parts--) {
        struct mj_span text = p->texts[below(p, (uint32_t)p->text_count)];
        size_t n = 3 + below(p, 7), at = text.len > n ? below(p, (uint32_t)(text.len - n)) : 0;
        /* From the start of a word. */
        while (at && at < text.len && text.ptr[at - 1] != ' ')
            at++;
        for (size_t i = at; i < text.len && i < at + n; i++)
            if (text.ptr[i] > ' ' && text.ptr[i] < 0x7f && text.ptr[i] != '*')
                mj_buf_putc(b, (char)text.ptr[i]);
        mj_buf_putc(b, (char)('a' + below(p, 26)));
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
    size_t found = 0, bytes = 0, rounds = 0;
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
                    bytes += p->texts[i].len;
                }
                n += p->text_count;
                rounds += (unsigned)look;
            } while ((spent = mj_bench_cpu_ns() - start) < mj_bench_round(b));
            double ns = (double)spent / (double)n;
            double *best = look ? &ours : &folding;
            *best = fmin(*best, ns);
        }
    char beside[128];
    snprintf(beside, sizeof beside, "folding alone: %.0f ns; %.0f bytes a post, %.1f %% have one",
             folding, (double)bytes / (double)p->text_count / (2 * (double)rounds),
             100.0 * (double)found / (double)p->text_count / (double)rounds);
    mj_bench_report(b, "words_10000_ns_per_post", ours, "ns", beside, MJ_GOAL_AT_MOST, 1000);
    mj_buf_deinit(&stream);
    mj_words_unref(words);
}

void mj_bench_words(struct mj_bench *b)
{
    struct posts p;
    posts_init(&p, b);
    if (p.text_count)
        bench_words(b, &p);
    else
        fprintf(stderr, "moonjet bench: words: there are no posts\n");
    posts_deinit(&p);
}
