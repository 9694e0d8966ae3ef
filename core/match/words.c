#include "match/words.h"

#include <stdatomic.h>

#include "atproto/utf8.h"
#include "base/err.h"
#include "match/automaton.h"
#include "match/fold.h"

struct mj_words {
    _Atomic unsigned refs;
    size_t count, cap;
    uint32_t *ends;                 /* owned; by word: where its stream ends in `streams` */
    struct mj_buf streams;          /* back to back */
    struct mj_automaton *automaton; /* owned; NULL until it is needed */
};

struct mj_words *mj_words_new(void)
{
    struct mj_words *w = mj_calloc(1, sizeof *w);
    atomic_init(&w->refs, 1);
    return w;
}

struct mj_words *mj_words_ref(struct mj_words *w)
{
    atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
    return w;
}

void mj_words_unref(struct mj_words *w)
{
    if (!w || atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) > 1)
        return;
    mj_automaton_free(w->automaton);
    mj_buf_deinit(&w->streams);
    free(w->ends);
    free(w);
}

static int refuse(int err, struct mj_span word, const char *text, struct mj_buf *error)
{
    mj_buf_printf(error, "the word '%.*s' %s", (int)(word.len < 80 ? word.len : 80),
                  word.len ? (const char *)word.ptr : "", text);
    return err;
}

/* Takes a star off either end. */
static void take_stars(struct mj_span *s, bool *before, bool *after)
{
    *before = s->len && s->ptr[0] == '*';
    if (*before)
        *s = mj_span(s->ptr + 1, s->len - 1);
    *after = s->len && s->ptr[s->len - 1] == '*';
    s->len -= *after;
}

int mj_words_add(struct mj_words *w, struct mj_span word, struct mj_buf *error)
{
    struct mj_span rest = word;
    bool before, after;
    if (w->count == MJ_WORDS_MAX) {
        mj_buf_printf(error, "more than %u words", MJ_WORDS_MAX);
        return MJ_ELIMIT;
    }
    if (word.len > MJ_WORD_MAX)
        return refuse(MJ_ELIMIT, word, "is too long", error);
    if (!mj_utf8_valid(word))
        return refuse(MJ_ESYNTAX, mj_span(NULL, 0), "is not valid UTF-8", error);
    take_stars(&rest, &before, &after);
    if (rest.len && memchr(rest.ptr, '*', rest.len))
        return refuse(MJ_ESYNTAX, word, "has a star inside; one may stand at the start or the end",
                      error);
    struct mj_buf *b = &w->streams;
    size_t start = b->len;
    mj_fold_tokens(rest, b);
    if (b->len - start < 2) {
        b->len = start;
        return refuse(MJ_ESYNTAX, word, "has nothing to look for", error);
    }
    /* The stream of "moon *" would be that of "moon*". */
    if ((before && rest.ptr[0] == ' ') || (after && rest.ptr[rest.len - 1] == ' ')) {
        b->len = start;
        return refuse(MJ_ESYNTAX, word, "has a space beside its star", error);
    }
    if (before)
        memmove(b->ptr + start, b->ptr + start + 1, --b->len - start);
    b->len -= after;
    if (w->count == w->cap) {
        w->cap = w->cap ? 2 * w->cap : 4;
        w->ends = mj_realloc(w->ends, w->cap * sizeof *w->ends);
    }
    w->ends[w->count++] = (uint32_t)b->len;
    return 0;
}

size_t mj_words_count(const struct mj_words *w) { return w->count; }

struct mj_span mj_words_stream(const struct mj_words *w, size_t i)
{
    size_t start = i ? w->ends[i - 1] : 0;
    return mj_span(w->streams.ptr + start, w->ends[i] - start);
}

size_t mj_words_bytes(const struct mj_words *w)
{
    return sizeof *w + w->count * sizeof *w->ends + w->streams.len;
}

size_t mj_words_share(const struct mj_words *w)
{
    return mj_words_bytes(w) / atomic_load_explicit(&w->refs, memory_order_relaxed) + 1;
}

static enum mj_scan take_first(void *ctx, uint32_t pattern)
{
    *(int *)ctx = (int)pattern;
    return MJ_SCAN_END;
}

int mj_words_find(struct mj_words *w, struct mj_span stream)
{
    int found = MJ_ENOENT;
    if (!w->automaton) {
        struct mj_span *patterns = mj_alloc((w->count + 1) * sizeof *patterns);
        for (size_t i = 0; i < w->count; i++)
            patterns[i] = mj_words_stream(w, i);
        w->automaton = mj_automaton_new(patterns, w->count);
        free(patterns);
    }
    mj_automaton_scan(w->automaton, stream, take_first, &found);
    return found;
}
