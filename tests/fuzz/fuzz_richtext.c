/* Rich text of any bytes: facets are in order, apart, within the text and not empty; what fits is
 * the longest that fits, and its graphemes are as many as the count says. */
#include "atproto/richtext.h"

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            __builtin_trap();                                                                      \
    } while (0)

static void check_facets(struct mj_span text)
{
    static const size_t sign[] = {1, 0, 1, 1};
    struct mj_facets walk;
    struct mj_facet f;
    size_t covered = 0;
    mj_facets_init(&walk, text);
    while (mj_facets_next(&walk, &f)) {
        CHECK(f.start >= covered && f.end <= text.len && f.end > f.start + sign[f.kind]);
        CHECK(f.value.ptr >= text.ptr + f.start + sign[f.kind]);
        CHECK(f.value.ptr + f.value.len == text.ptr + f.end);
        CHECK(f.value.len);
        CHECK(f.kind != MJ_FACET_TAG || mj_graphemes(f.value) <= MJ_TAG_GRAPHEMES);
        covered = f.end;
    }
}

static void check_cuts(struct mj_span text, size_t graphemes, size_t bytes)
{
    size_t at = 0, parts = 0, all = mj_graphemes(text);
    while (at < text.len) {
        struct mj_span rest = mj_span(text.ptr + at, text.len - at);
        size_t fits = mj_graphemes_fit(rest, graphemes, bytes);
        CHECK(fits <= rest.len && fits <= bytes);
        CHECK(mj_graphemes(mj_span(rest.ptr, fits)) <= graphemes);
        size_t word = mj_word_end(rest, fits);
        CHECK(word <= fits);
        CHECK(!mj_space_after(mj_span(rest.ptr, word)) || word == rest.len);
        if (!fits)
            fits = mj_graphemes_fit(rest, 1, rest.len);
        CHECK(fits > 0);
        parts += mj_graphemes(mj_span(rest.ptr, fits));
        at += fits;
    }
    CHECK(parts == all && all <= text.len);
    CHECK(mj_space_before(text) <= text.len && mj_space_after(text) <= text.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct mj_span text = mj_span(data + 2, size - 2);
    check_facets(text);
    check_cuts(text, data[0] % 32, data[1]);
    return 0;
}
