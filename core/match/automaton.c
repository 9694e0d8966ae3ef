#include "match/automaton.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define NONE  UINT32_MAX
#define ROOT  0u
#define SLACK 16 /* bytes behind the labels that a 16-byte load may touch */

struct state {
    uint32_t first; /* its first child */
    uint32_t fail;  /* the longest proper suffix that is a state */
    uint32_t found; /* the longest pattern that ends here, or NONE */
    uint32_t count; /* of children */
};

struct mj_automaton {
    struct state *states; /* owned; states[0] is the root */
    uint8_t *labels;      /* owned; by state: the byte that leads to it */
    uint32_t *shorter;    /* owned; by pattern: the next shorter one that ends with it, or NONE */
    uint32_t *alias;      /* owned; by pattern */
    size_t count, pattern_count;
    uint32_t root[256]; /* the root's children, ROOT where there is none */
    int only;           /* the byte all patterns start with, or -1 */
    uint32_t start;     /* with `only`: the state behind it … */
    uint32_t next[256]; /* … and its children, ROOT where there is none */
};

/* The child of a state for a byte, or ROOT. */
static inline uint32_t child(const struct mj_automaton *a, uint32_t s, uint8_t byte)
{
    uint32_t first = a->states[s].first, n = a->states[s].count;
    const uint8_t *labels = a->labels + first;
#if defined(__SSE2__)
    __m128i want = _mm_set1_epi8((char)byte);
    for (uint32_t i = 0; i < n; i += 16) {
        __m128i have = _mm_loadu_si128((const __m128i *)(labels + i));
        unsigned hit = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(have, want));
        if (n - i < 16)
            hit &= (1u << (n - i)) - 1;
        if (hit)
            return first + i + (unsigned)__builtin_ctz(hit);
    }
#else
    for (uint32_t i = 0; i < n; i++)
        if (labels[i] == byte)
            return first + i;
#endif
    return ROOT;
}

static inline uint32_t step(const struct mj_automaton *a, uint32_t s, uint8_t byte)
{
    for (; s != ROOT; s = a->states[s].fail) {
        uint32_t to = s == a->start ? a->next[byte] : child(a, s, byte);
        if (to != ROOT)
            return to;
    }
    return a->root[byte];
}

struct sorting {
    const struct mj_span *patterns;
    uint32_t *order, *spare;
};

/* Merge sort by bytes, equal ones in the order given: patterns tend to come sorted already, and
 * then it only compares neighbours. */
static void sort(struct sorting *s, size_t from, size_t to)
{
    if (to - from < 2)
        return;
    size_t mid = from + (to - from) / 2, i = from, k = mid, n = from;
    sort(s, from, mid);
    sort(s, mid, to);
    if (mj_span_cmp(s->patterns[s->order[mid - 1]], s->patterns[s->order[mid]]) <= 0)
        return;
    memcpy(s->spare + from, s->order + from, (mid - from) * sizeof *s->order);
    while (i < mid && k < to)
        s->order[n++] = mj_span_cmp(s->patterns[s->spare[i]], s->patterns[s->order[k]]) <= 0
                            ? s->spare[i++]
                            : s->order[k++];
    memcpy(s->order + n, s->spare + i, (mid - i) * sizeof *s->order);
}

/* A state while the tree is made: the sorted patterns that go through it. */
struct range {
    uint32_t from, to;
};

/* Makes the states level by level. A pattern that ends in a state comes first in its range. */
static void make_states(struct mj_automaton *a, const struct mj_span *patterns,
                        const uint32_t *order, size_t n)
{
    size_t cap = 1024;
    struct range *ranges = mj_alloc(cap * sizeof *ranges);
    a->states = mj_alloc(cap * sizeof *a->states);
    a->labels = mj_alloc(cap + SLACK);
    ranges[0] = (struct range){0, (uint32_t)n};
    a->states[0].fail = ROOT;
    a->labels[0] = 0;
    a->count = 1;
    size_t depth = 0, level_end = 1;
    for (size_t s = 0; s < a->count; s++) {
        if (s == level_end) {
            level_end = a->count;
            depth++;
        }
        struct range r = ranges[s];
        a->states[s].found = NONE;
        while (r.from < r.to && patterns[order[r.from]].len == depth) {
            uint32_t pattern = order[r.from++];
            if (a->states[s].found == NONE)
                a->states[s].found = pattern;
            a->alias[pattern] = a->states[s].found;
        }
        a->states[s].first = (uint32_t)a->count;
        while (r.from < r.to) {
            uint8_t label = patterns[order[r.from]].ptr[depth];
            uint32_t to = r.from + 1;
            while (to < r.to && patterns[order[to]].ptr[depth] == label)
                to++;
            if (a->count == cap) {
                cap *= 2;
                ranges = mj_realloc(ranges, cap * sizeof *ranges);
                a->states = mj_realloc(a->states, cap * sizeof *a->states);
                a->labels = mj_realloc(a->labels, cap + SLACK);
            }
            ranges[a->count] = (struct range){r.from, to};
            a->labels[a->count++] = label;
            r.from = to;
        }
        a->states[s].count = (uint32_t)a->count - a->states[s].first;
    }
    free(ranges);
    a->states = mj_realloc(a->states, a->count * sizeof *a->states);
    a->labels = mj_realloc(a->labels, a->count + SLACK);
    memset(a->labels + a->count, 0, SLACK);
}

/* Fails and shorter patterns, parents before children. */
static void link_states(struct mj_automaton *a)
{
    for (size_t s = 0; s < a->count; s++) {
        const struct state *parent = &a->states[s];
        for (uint32_t c = parent->first; c < parent->first + parent->count; c++) {
            struct state *state = &a->states[c];
            state->fail = s == ROOT ? ROOT : step(a, parent->fail, a->labels[c]);
            uint32_t inherited = a->states[state->fail].found;
            if (state->found == NONE)
                state->found = inherited;
            else
                a->shorter[state->found] = inherited;
        }
    }
}

struct mj_automaton *mj_automaton_new(const struct mj_span *patterns, size_t n)
{
    struct mj_automaton *a = mj_calloc(1, sizeof *a);
    struct sorting s = {patterns, mj_alloc((n + 1) * sizeof(uint32_t)),
                        mj_alloc((n + 1) * sizeof(uint32_t))};
    a->pattern_count = n;
    a->shorter = mj_alloc((n + 1) * sizeof *a->shorter);
    a->alias = mj_alloc((n + 1) * sizeof *a->alias);
    memset(a->shorter, 0xff, (n + 1) * sizeof *a->shorter);
    for (uint32_t i = 0; i < n; i++)
        s.order[i] = i;
    sort(&s, 0, n);
    make_states(a, patterns, s.order, n);
    free(s.order);
    free(s.spare);
    const struct state *root = &a->states[ROOT];
    for (uint32_t c = root->first; c < root->first + root->count; c++)
        a->root[a->labels[c]] = c;
    a->only = root->count == 1 ? a->labels[root->first] : -1;
    if (a->only >= 0) {
        a->start = root->first;
        const struct state *start = &a->states[a->start];
        for (uint32_t c = start->first; c < start->first + start->count; c++)
            a->next[a->labels[c]] = c;
    }
    link_states(a);
    return a;
}

void mj_automaton_free(struct mj_automaton *a)
{
    if (!a)
        return;
    free(a->states);
    free(a->labels);
    free(a->shorter);
    free(a->alias);
    free(a);
}

size_t mj_automaton_size(const struct mj_automaton *a)
{
    return sizeof *a + a->count * (sizeof *a->states + 1) + SLACK +
           2 * (a->pattern_count + 1) * sizeof(uint32_t);
}

uint32_t mj_automaton_alias(const struct mj_automaton *a, uint32_t pattern)
{
    return a->alias[pattern];
}

bool mj_automaton_scan(const struct mj_automaton *a, struct mj_span text, mj_found_fn fn, void *ctx)
{
    const uint8_t *p = text.ptr, *end = text.len ? p + text.len : p;
    uint32_t s = ROOT;
    if (a->count == 1)
        return false;
    for (; p < end; p++) {
        if (s == ROOT && a->only >= 0) {
            /* Every pattern starts alike: nothing can begin before. */
            while (*p != a->only)
                if (++p == end)
                    return false;
            s = a->start;
        } else {
            s = step(a, s, *p);
        }
        for (uint32_t i = a->states[s].found; MJ_UNLIKELY(i != NONE); i = a->shorter[i])
            if (fn(ctx, i))
                return true;
    }
    return false;
}
