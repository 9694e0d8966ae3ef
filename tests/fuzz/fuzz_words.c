/* Words in texts. Whatever the two are: a word is found exactly when its stream is part of the
 * text's stream, folding twice is folding once, and the streams have the shape they promise.
 *
 * Input: words separated by line ends, an empty line, the text. */
#include "base/err.h"
#include "match/automaton.h"
#include "match/fold.h"
#include "match/words.h"

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            __builtin_trap();                                                                      \
    } while (0)

#define WORDS 64

struct seen {
    unsigned counts[WORDS];
};

static enum mj_scan count(void *ctx, uint32_t pattern)
{
    ((struct seen *)ctx)->counts[pattern]++;
    return MJ_SCAN_ON;
}

static unsigned occurrences(struct mj_span in, struct mj_span what)
{
    unsigned n = 0;
    for (size_t at = 0; at + what.len <= in.len; at++)
        n += memcmp(in.ptr + at, what.ptr, what.len) == 0;
    return n;
}

static void check_text(struct mj_span text, struct mj_buf *stream)
{
    mj_fold_tokens(text, stream);
    CHECK(stream->len >= 1 && stream->len <= 2 * text.len + 2);
    CHECK(stream->ptr[0] == MJ_EDGE && stream->ptr[stream->len - 1] == MJ_EDGE);
    for (size_t i = 1; i < stream->len; i++)
        CHECK(stream->ptr[i] != MJ_EDGE || stream->ptr[i - 1] != MJ_EDGE);
    struct mj_buf once = {0}, twice = {0};
    mj_fold_case(text, &once);
    CHECK(2 * once.len <= 3 * text.len);
    mj_fold_case(mj_buf_span(&once), &twice);
    CHECK(mj_span_eq(mj_buf_span(&once), mj_buf_span(&twice)));
    mj_buf_deinit(&once);
    mj_buf_deinit(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mj_span rest = mj_span(data, size), patterns[WORDS];
    struct mj_buf stream = {0}, error = {0};
    struct mj_words *words = mj_words_new();
    while (rest.len) {
        const uint8_t *end = memchr(rest.ptr, '\n', rest.len);
        size_t n = end ? (size_t)(end - rest.ptr) : rest.len, step = end ? n + 1 : n;
        struct mj_span line = mj_span(rest.ptr, n);
        rest = mj_span(rest.ptr + step, rest.len - step);
        if (!n)
            break;
        error.len = 0;
        if (mj_words_count(words) < WORDS && mj_words_add(words, line, &error))
            CHECK(error.len);
    }
    size_t n = mj_words_count(words);
    for (size_t i = 0; i < n; i++) {
        patterns[i] = mj_words_stream(words, i);
        CHECK(patterns[i].len);
    }
    check_text(rest, &stream);
    struct seen seen = {.counts = {0}};
    struct mj_automaton *a = mj_automaton_new(patterns, n);
    mj_automaton_scan(a, mj_buf_span(&stream), count, &seen);
    bool any = false;
    for (uint32_t i = 0; i < n; i++) {
        unsigned want = occurrences(mj_buf_span(&stream), patterns[i]);
        CHECK(seen.counts[mj_automaton_alias(a, i)] == want);
        any |= want > 0;
    }
    int found = mj_words_find(words, mj_buf_span(&stream));
    CHECK((found >= 0) == any);
    if (found >= 0)
        CHECK(occurrences(mj_buf_span(&stream), patterns[found]));
    mj_automaton_free(a);
    mj_words_unref(words);
    mj_buf_deinit(&stream);
    mj_buf_deinit(&error);
    return 0;
}
