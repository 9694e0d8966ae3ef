#include "match/automaton.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define NONE   UINT32_MAX
#define ROOT   0u
#define FOUND  0x80000000u /* in a base: a pattern ends here … */
#define ALONE  0x40000000u /* … no suffix of this state is one but the root */
#define FLAGS  (FOUND | ALONE)
#define TRIES  16 /* places looked at for a state's children before new room is taken */
#define SPREAD 4  /* so many levels lie side by side; behind them, what belongs together */

struct cell {
    uint32_t base; /* and FLAGS */
    uint32_t parent;
};

struct mj_automaton {
    struct cell *cells; /* owned; by state, with room for any byte behind the last base */
    uint32_t *fail;     /* owned; by state: the longest proper suffix that is a state */
    uint32_t *found;    /* owned; by state: the longest pattern that ends here, or NONE */
    uint32_t *shorter;  /* owned; by pattern: the next shorter one that ends with it, or NONE */
    uint32_t *alias;    /* owned; by pattern */
    size_t cap;         /* of the arrays by state */
    size_t pattern_count;
    int only;       /* the byte all patterns start with, or -1 */
    uint32_t start; /* with `only`: the state behind it */
};

static inline uint32_t base_of(const struct mj_automaton *a, uint32_t s)
{
    return a->cells[s].base & ~FLAGS;
}

/* The state after another byte. */
static inline uint32_t step(const struct mj_automaton *a, uint32_t s, uint8_t byte)
{
    for (;;) {
        uint32_t base = a->cells[s].base, to = (base & ~FLAGS) + byte;
        if (a->cells[to].parent == s)
            return to;
        if (s == ROOT)
            return ROOT;
        s = base & ALONE ? ROOT : a->fail[s];
    }
}

/* ---- making one ---- */

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

/* A state whose children have to be placed: the sorted patterns from…to go through it. */
struct task {
    uint32_t state, from, to, depth;
};

struct tasks {
    struct task *items; /* owned */
    size_t count, cap;
};

struct making {
    struct mj_automaton *a;
    const struct mj_span *patterns;
    const uint32_t *order;
    uint64_t *used;   /* bitmap of states; its words cover a->cap */
    size_t low;       /* below this bitmap word all is used */
    size_t end;       /* states in use lie below */
    struct tasks all; /* every state placed, for what comes after */
};

static void push(struct tasks *t, struct task task)
{
    if (t->count == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 1024;
        t->items = mj_realloc(t->items, t->cap * sizeof *t->items);
    }
    t->items[t->count++] = task;
}

static void reserve(struct making *m, size_t states)
{
    struct mj_automaton *a = m->a;
    size_t cap = a->cap ? a->cap : 1024;
    while (cap < states)
        cap *= 2;
    if (cap == a->cap)
        return;
    a->cells = mj_realloc(a->cells, cap * sizeof *a->cells);
    m->used = mj_realloc(m->used, cap / 8);
    memset((uint8_t *)m->used + a->cap / 8, 0, (cap - a->cap) / 8);
    for (size_t i = a->cap; i < cap; i++)
        a->cells[i] = (struct cell){0, NONE};
    a->cap = cap;
}

static bool is_used(const struct making *m, size_t i)
{
    return i < m->a->cap && (m->used[i / 64] >> (i % 64) & 1);
}

/* A base that puts all children on free places. */
static uint32_t find_base(struct making *m, const uint8_t *labels, size_t n)
{
    while (m->low < m->a->cap / 64 && m->used[m->low] == UINT64_MAX)
        m->low++;
    unsigned tries = 0;
    for (size_t w = m->low; w < m->end / 64 && tries < TRIES; w++)
        for (uint64_t gaps = ~m->used[w]; gaps && tries < TRIES; gaps &= gaps - 1, tries++) {
            size_t at = w * 64 + (size_t)__builtin_ctzll(gaps), k = 1;
            if (at < labels[0])
                continue;
            while (k < n && !is_used(m, at - labels[0] + labels[k]))
                k++;
            if (k == n)
                return (uint32_t)(at - labels[0]);
        }
    return (uint32_t)(m->end > labels[0] ? m->end - labels[0] : 0);
}

/* Places a state's children, sorted by the patterns' next bytes, and hands them to `next`. */
static void place(struct making *m, struct task t, struct tasks *next)
{
    struct mj_automaton *a = m->a;
    uint8_t labels[256];
    uint32_t ends[256], from = t.from;
    size_t n = 0;
    /* A pattern that ends here is the shortest of those that go through. */
    while (from < t.to && m->patterns[m->order[from]].len == t.depth)
        from++;
    for (uint32_t i = from; i < t.to; i++) {
        uint8_t label = m->patterns[m->order[i]].ptr[t.depth];
        if (!n || labels[n - 1] != label)
            labels[n++] = label;
        ends[n - 1] = i + 1;
    }
    push(&m->all, t);
    if (!n)
        return;
    uint32_t base = find_base(m, labels, n);
    reserve(m, (size_t)base + 512);
    a->cells[t.state].base = base;
    for (size_t k = 0; k < n; k++) {
        uint32_t child = base + labels[k];
        a->cells[child].parent = t.state;
        m->used[child / 64] |= UINT64_C(1) << (child % 64);
        m->end = child >= m->end ? child + 1 : m->end;
        push(next, (struct task){child, k ? ends[k - 1] : from, ends[k], t.depth + 1});
    }
}

static void make_states(struct making *m, size_t n)
{
    struct tasks level = {0}, below = {0}, stack = {0};
    reserve(m, 512);
    m->used[0] = 1;
    m->end = 1;
    push(&level, (struct task){ROOT, 0, (uint32_t)n, 0});
    for (unsigned depth = 0; depth < SPREAD; depth++) {
        for (size_t i = 0; i < level.count; i++)
            place(m, level.items[i], &below);
        struct tasks done = level;
        level = below;
        below = done;
        below.count = 0;
    }
    for (size_t i = 0; i < level.count; i++) {
        push(&stack, level.items[i]);
        while (stack.count)
            place(m, stack.items[--stack.count], &stack);
    }
    free(level.items);
    free(below.items);
    free(stack.items);
}

/* Orders the states by depth: what a state falls back to is nearer to the root. */
static struct task *by_depth(const struct tasks *all)
{
    size_t deepest = 0;
    for (size_t i = 0; i < all->count; i++)
        deepest = all->items[i].depth > deepest ? all->items[i].depth : deepest;
    size_t *at = mj_calloc(deepest + 2, sizeof *at);
    struct task *sorted = mj_alloc(all->count * sizeof *sorted);
    for (size_t i = 0; i < all->count; i++)
        at[all->items[i].depth + 1]++;
    for (size_t i = 1; i <= deepest; i++)
        at[i] += at[i - 1];
    for (size_t i = 0; i < all->count; i++)
        sorted[at[all->items[i].depth]++] = all->items[i];
    free(at);
    return sorted;
}

static void link_states(struct making *m)
{
    struct mj_automaton *a = m->a;
    a->fail = mj_calloc(a->cap, sizeof *a->fail);
    a->found = mj_alloc(a->cap * sizeof *a->found);
    memset(a->found, 0xff, a->cap * sizeof *a->found);
    struct task *states = by_depth(&m->all);
    for (size_t i = 0; i < m->all.count; i++) {
        struct task t = states[i];
        uint32_t parent = a->cells[t.state].parent;
        if (t.depth > 1)
            a->fail[t.state] = step(a, a->fail[parent], (uint8_t)(t.state - base_of(a, parent)));
        uint32_t inherited = a->found[a->fail[t.state]], own = m->order[t.from];
        if (t.depth && m->patterns[own].len == t.depth) {
            a->found[t.state] = own;
            a->shorter[own] = inherited;
            for (uint32_t k = t.from; k < t.to && m->patterns[m->order[k]].len == t.depth; k++)
                a->alias[m->order[k]] = own;
        } else {
            a->found[t.state] = inherited;
        }
        if (a->found[t.state] != NONE)
            a->cells[t.state].base |= FOUND;
        if (a->fail[t.state] == ROOT)
            a->cells[t.state].base |= ALONE;
    }
    free(states);
}

struct mj_automaton *mj_automaton_new(const struct mj_span *patterns, size_t n)
{
    struct mj_automaton *a = mj_calloc(1, sizeof *a);
    struct sorting s = {patterns, mj_alloc((n + 1) * sizeof(uint32_t)),
                        mj_alloc((n + 1) * sizeof(uint32_t))};
    struct making m = {.a = a, .patterns = patterns, .order = s.order};
    a->pattern_count = n;
    a->shorter = mj_alloc((n + 1) * sizeof *a->shorter);
    a->alias = mj_alloc((n + 1) * sizeof *a->alias);
    for (uint32_t i = 0; i < n; i++)
        s.order[i] = i;
    a->only = -1;
    if (n) {
        sort(&s, 0, n);
        make_states(&m, n);
        link_states(&m);
        uint8_t least = patterns[s.order[0]].ptr[0], most = patterns[s.order[n - 1]].ptr[0];
        a->only = least == most ? least : -1;
        a->start = least == most ? step(a, ROOT, least) : ROOT;
    }
    free(m.used);
    free(m.all.items);
    free(s.order);
    free(s.spare);
    return a;
}

void mj_automaton_free(struct mj_automaton *a)
{
    if (!a)
        return;
    free(a->cells);
    free(a->fail);
    free(a->found);
    free(a->shorter);
    free(a->alias);
    free(a);
}

size_t mj_automaton_size(const struct mj_automaton *a)
{
    return sizeof *a + a->cap * (sizeof *a->cells + 2 * sizeof(uint32_t)) +
           2 * (a->pattern_count + 1) * sizeof(uint32_t);
}

uint32_t mj_automaton_alias(const struct mj_automaton *a, uint32_t pattern)
{
    return a->alias[pattern];
}

/* The next such byte, or the end. Where it is cannot be foretold, so it is looked for in a way that
 * seldom branches. */
static const uint8_t *find_byte(const uint8_t *p, const uint8_t *end, uint8_t byte)
{
#if defined(__SSE2__)
    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)p);
        unsigned hits = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_set1_epi8((char)byte)));
        if (MJ_LIKELY(hits))
            return p + __builtin_ctz(hits);
    }
#endif
    while (p < end && *p != byte)
        p++;
    return p;
}

bool mj_automaton_scan(const struct mj_automaton *a, struct mj_span text, mj_found_fn fn, void *ctx)
{
    const uint8_t *p = text.ptr, *end = text.len ? p + text.len : p;
    uint32_t s = ROOT;
    if (!a->pattern_count)
        return false;
    for (; p < end; p++) {
        if (s == ROOT && a->only >= 0) {
            /* Every pattern starts alike: nothing can begin before. */
            p = find_byte(p, end, (uint8_t)a->only);
            if (p == end)
                return false;
            s = a->start;
        } else {
            s = step(a, s, *p);
        }
        if (MJ_LIKELY(!(a->cells[s].base & FOUND)))
            continue;
        enum mj_scan said = MJ_SCAN_ON;
        for (uint32_t i = a->found[s]; i != NONE && said == MJ_SCAN_ON; i = a->shorter[i])
            said = fn(ctx, i);
        if (said == MJ_SCAN_END)
            return true;
    }
    return false;
}
