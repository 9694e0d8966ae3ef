#include "script/pattern.h"

#include <ctype.h>
#include <string.h>

#include <lauxlib.h>

#include "script/guard.h"

#define DEPTH_MAX   200  /* of recursion: captures and repetitions in a row */
#define STEPS_CHECK 4096 /* between looks at the clock */

void mj_pattern_init(struct mj_pattern *m, lua_State *L, struct mj_span src, struct mj_span pat)
{
    m->L = L;
    m->src = (const char *)src.ptr;
    m->src_end = m->src + src.len;
    m->pat_end = (const char *)pat.ptr + pat.len;
    m->steps = m->depth = 0;
    m->level = 0;
}

static void step(struct mj_pattern *m)
{
    if (MJ_UNLIKELY(++m->steps % STEPS_CHECK == 0))
        mj_guard_check(m->L);
}

/* The end of the single-character item that starts at p. */
static const char *item_end(struct mj_pattern *m, const char *p)
{
    if (*p == '%') {
        if (p + 1 == m->pat_end)
            luaL_error(m->L, "malformed pattern (ends with '%%')");
        return p + 2;
    }
    if (*p++ != '[')
        return p;
    if (p < m->pat_end && *p == '^')
        p++;
    /* A ']' in first place stands for itself. */
    for (bool first = true;; first = false) {
        if (p >= m->pat_end)
            luaL_error(m->L, "malformed pattern (missing ']')");
        if (*p == ']' && !first)
            return p + 1;
        p += *p == '%' && p + 1 < m->pat_end ? 2 : 1;
    }
}

/* Classes as in the C locale: what a script matches must not depend on the machine. */
static bool in_class(unsigned char c, char class)
{
    bool yes;
    bool ascii = c < 128;
    switch (class | 32) {
    case 'a':
        yes = ascii && isalpha(c);
        break;
    case 'c':
        yes = ascii && iscntrl(c);
        break;
    case 'd':
        yes = ascii && isdigit(c);
        break;
    case 'g':
        yes = ascii && isgraph(c);
        break;
    case 'l':
        yes = ascii && islower(c);
        break;
    case 'p':
        yes = ascii && ispunct(c);
        break;
    case 's':
        yes = ascii && isspace(c);
        break;
    case 'u':
        yes = ascii && isupper(c);
        break;
    case 'w':
        yes = ascii && isalnum(c);
        break;
    case 'x':
        yes = ascii && isxdigit(c);
        break;
    case 'z':
        yes = c == 0;
        break;
    default:
        return c == (unsigned char)class;
    }
    return isupper((unsigned char)class) ? !yes : yes;
}

/* [p, end) is a whole set, brackets included. */
static bool in_set(unsigned char c, const char *p, const char *end)
{
    bool wanted = true;
    p++;
    end--;
    if (p < end && *p == '^') {
        wanted = false;
        p++;
    }
    while (p < end) {
        if (*p == '%') {
            if (in_class(c, p[1]))
                return wanted;
            p += 2;
        } else if (end - p > 2 && p[1] == '-') {
            if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2])
                return wanted;
            p += 3;
        } else {
            if ((unsigned char)*p == c)
                return wanted;
            p++;
        }
    }
    return !wanted;
}

/* The character at s is what the item [p, end) asks for. */
static bool is_item(struct mj_pattern *m, const char *s, const char *p, const char *end)
{
    step(m);
    if (s >= m->src_end)
        return false;
    switch (*p) {
    case '.':
        return true;
    case '%':
        return in_class((unsigned char)*s, p[1]);
    case '[':
        return in_set((unsigned char)*s, p, end);
    default:
        return *p == *s;
    }
}

/* %bxy at s: up to the y that balances the x at s. */
static const char *balance(struct mj_pattern *m, const char *s, const char *p)
{
    if (m->pat_end - p < 4)
        luaL_error(m->L, "malformed pattern (%%b wants two characters)");
    if (s >= m->src_end || *s != p[2])
        return NULL;
    for (unsigned open = 1; ++s < m->src_end;) {
        step(m);
        if (*s == p[3]) {
            if (--open == 0)
                return s + 1;
        } else if (*s == p[2]) {
            open++;
        }
    }
    return NULL;
}

static const char *as_many(struct mj_pattern *m, const char *s, const char *p, const char *end,
                           ptrdiff_t least)
{
    ptrdiff_t n = 0;
    while (is_item(m, s + n, p, end))
        n++;
    for (; n >= least; n--) {
        const char *e = mj_pattern_match(m, s + n, end + 1);
        if (e)
            return e;
    }
    return NULL;
}

static const char *as_few(struct mj_pattern *m, const char *s, const char *p, const char *end)
{
    for (;; s++) {
        const char *e = mj_pattern_match(m, s, end + 1);
        if (e)
            return e;
        if (!is_item(m, s, p, end))
            return NULL;
    }
}

static const char *open_capture(struct mj_pattern *m, const char *s, const char *p, ptrdiff_t what)
{
    if (m->level == MJ_CAPTURES_MAX)
        luaL_error(m->L, "too many captures");
    m->capture[m->level].start = s;
    m->capture[m->level].len = what;
    m->level++;
    const char *e = mj_pattern_match(m, s, p);
    if (!e)
        m->level--;
    return e;
}

static const char *close_capture(struct mj_pattern *m, const char *s, const char *p)
{
    int i = m->level - 1;
    while (i >= 0 && m->capture[i].len != MJ_CAPTURE_OPEN)
        i--;
    if (i < 0)
        luaL_error(m->L, "malformed pattern (')' without '(')");
    m->capture[i].len = s - m->capture[i].start;
    const char *e = mj_pattern_match(m, s, p);
    if (!e)
        m->capture[i].len = MJ_CAPTURE_OPEN;
    return e;
}

/* %1 … %9 at s. */
static const char *same_again(struct mj_pattern *m, const char *s, char digit)
{
    int i = digit - '1';
    if (i < 0 || i >= m->level || m->capture[i].len == MJ_CAPTURE_OPEN)
        luaL_error(m->L, "invalid capture index %%%d", i + 1);
    ptrdiff_t len = m->capture[i].len;
    if (len < 0 || m->src_end - s < len || memcmp(m->capture[i].start, s, (size_t)len) != 0)
        return NULL;
    return s + len;
}

/* %f[set]: between a character outside the set and one inside; the ends count as '\0'. */
static bool frontier(struct mj_pattern *m, const char *s, const char *p, const char **end)
{
    if (p >= m->pat_end || *p != '[')
        luaL_error(m->L, "malformed pattern (%%f wants a '[')");
    *end = item_end(m, p);
    unsigned char before = s == m->src ? 0 : (unsigned char)s[-1];
    unsigned char after = s < m->src_end ? (unsigned char)*s : 0;
    return !in_set(before, p, *end) && in_set(after, p, *end);
}

const char *mj_pattern_match(struct mj_pattern *m, const char *s, const char *p)
{
    const char *end;
    if (++m->depth > DEPTH_MAX)
        luaL_error(m->L, "pattern too complex");
    step(m);
    for (;;) {
        if (p == m->pat_end)
            break;
        if (*p == '(') {
            bool position = p + 1 < m->pat_end && p[1] == ')';
            s = open_capture(m, s, p + (position ? 2 : 1),
                             position ? MJ_CAPTURE_POSITION : MJ_CAPTURE_OPEN);
            break;
        }
        if (*p == ')') {
            s = close_capture(m, s, p + 1);
            break;
        }
        if (*p == '$' && p + 1 == m->pat_end) {
            s = s == m->src_end ? s : NULL;
            break;
        }
        if (*p == '%' && p + 1 < m->pat_end && p[1] == 'b') {
            s = balance(m, s, p);
            p += 4;
            if (!s)
                break;
            continue;
        }
        if (*p == '%' && p + 1 < m->pat_end && p[1] == 'f') {
            if (!frontier(m, s, p + 2, &end)) {
                s = NULL;
                break;
            }
            p = end;
            continue;
        }
        if (*p == '%' && p + 1 < m->pat_end && isdigit((unsigned char)p[1])) {
            s = same_again(m, s, p[1]);
            p += 2;
            if (!s)
                break;
            continue;
        }
        end = item_end(m, p);
        char often = end < m->pat_end ? *end : 0;
        if (often == '*' || often == '+') {
            s = as_many(m, s, p, end, often == '+');
            break;
        }
        if (often == '-') {
            s = as_few(m, s, p, end);
            break;
        }
        if (often == '?') {
            const char *e;
            if (is_item(m, s, p, end) && (e = mj_pattern_match(m, s + 1, end + 1))) {
                s = e;
                break;
            }
            p = end + 1;
            continue;
        }
        if (!is_item(m, s, p, end)) {
            s = NULL;
            break;
        }
        s++;
        p = end;
    }
    m->depth--;
    return s;
}
