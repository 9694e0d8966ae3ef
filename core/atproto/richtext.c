#include "atproto/richtext.h"

#include <libpsl.h>
#include <utf8proc.h>

#include "atproto/syntax.h"
#include "atproto/utf8.h"

/* ---- characters ---- */

#define BROKEN (-1) /* a byte that is no UTF-8 */

/* The character at the start of [p, end), and how many bytes it has. p < end. */
static utf8proc_int32_t decode(const uint8_t *p, const uint8_t *end, unsigned *len)
{
    utf8proc_int32_t c;
    unsigned n = mj_utf8_len(p, end);
    *len = n ? n : 1;
    if (!n)
        return BROKEN;
    utf8proc_iterate(p, (utf8proc_ssize_t)n, &c);
    return c;
}

/* The character that ends at p. start < p. */
static utf8proc_int32_t decode_back(const uint8_t *start, const uint8_t *p, unsigned *len)
{
    const uint8_t *at = p - 1;
    while (at > start && p - at < 4 && (*at & 0xc0) == 0x80)
        at--;
    utf8proc_int32_t c = decode(at, p, len);
    if (at + *len == p)
        return c;
    *len = 1;
    return BROKEN;
}

/* White space as the official package's expressions have it. */
static bool is_space(utf8proc_int32_t c)
{
    return (c >= '\t' && c <= '\r') || c == ' ' || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000 || c == 0xfeff;
}

/* What shows nothing and ends a tag. */
static bool is_invisible(utf8proc_int32_t c)
{
    return c == 0xad || c == 0x2060 || (c >= 0x200a && c <= 0x200d) || c == 0x20e2;
}

static bool is_punctuation(utf8proc_int32_t c)
{
    if (c < 0)
        return false;
    utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

static bool is_digit(utf8proc_int32_t c) { return c >= '0' && c <= '9'; }
static bool is_letter(utf8proc_int32_t c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }
static bool is_alnum(utf8proc_int32_t c) { return is_digit(c) || is_letter(c); }

/* Where the run of what is no space begins to end: the first white space at or behind `at`. */
static size_t run_end(struct mj_span text, size_t at)
{
    const uint8_t *end = text.ptr + text.len;
    while (at < text.len) {
        unsigned len;
        if (is_space(decode(text.ptr + at, end, &len)))
            break;
        at += len;
    }
    return at;
}

/* Whether a facet may begin at `at`: at the start, behind white space, or, if `bracket`, behind an
 * opening bracket. */
static bool may_begin(struct mj_span text, size_t at, bool bracket)
{
    unsigned len;
    if (!at)
        return true;
    utf8proc_int32_t c = decode_back(text.ptr, text.ptr + at, &len);
    return is_space(c) || (bracket && c == '(');
}

/* ---- domains ---- */

/* Whether the name ends in a top-level domain that exists, in lower case, below which there is
 * something; ".test" exists for handles. */
static bool in_a_zone(struct mj_span name, bool handle)
{
    char label[64];
    size_t dots = 0;
    if (handle && name.len > 5 && !memcmp(name.ptr + name.len - 5, ".test", 5))
        return true;
    for (size_t i = name.len; i-- > 0;) {
        if (name.ptr[i] != '.')
            continue;
        size_t len = name.len - i - 1;
        if (!len || len >= sizeof label)
            return false;
        memcpy(label, name.ptr + i + 1, len);
        label[len] = 0;
        /* A few zones are only listed with what is below them: "co.za". */
        if (psl_is_public_suffix2(psl_builtin(), label, PSL_TYPE_ICANN | PSL_TYPE_NO_STAR_RULE))
            return true;
        if (++dots == 2)
            return false;
    }
    return false;
}

/* ---- the four scanners: each finds the first of its kind at or behind `at` ---- */

/* "@" and a domain name, up to the last place where a word begins or ends. */
static bool find_mention(struct mj_span text, size_t *at, struct mj_facet *out)
{
    while (*at < text.len) {
        const uint8_t *sign = memchr(text.ptr + *at, '@', text.len - *at);
        if (!sign)
            break;
        size_t start = (size_t)(sign - text.ptr), end = start + 1, run;
        *at = start + 1;
        if (!may_begin(text, start, true))
            continue;
        while (end < text.len &&
               (is_alnum(text.ptr[end]) || text.ptr[end] == '.' || text.ptr[end] == '-'))
            end++;
        run = end;
        for (; end > start + 1; end--) {
            bool before = is_alnum(text.ptr[end - 1]);
            bool after = end < text.len && (is_alnum(text.ptr[end]) || text.ptr[end] == '_');
            if (before != after)
                break;
        }
        struct mj_span handle = mj_span(text.ptr + start + 1, end - start - 1);
        *at = run;
        if (mj_handle_valid(handle) && in_a_zone(handle, true)) {
            *out = (struct mj_facet){MJ_FACET_MENTION, start, end, handle, false};
            return true;
        }
    }
    *at = text.len;
    return false;
}

/* Length of "http://" or "https://" there, in whatever case. */
static size_t scheme_len(struct mj_span text, size_t at)
{
    static const char *const schemes[] = {"https://", "http://"};
    for (size_t i = 0; i < MJ_COUNT(schemes); i++) {
        size_t len = strlen(schemes[i]);
        if (text.len - at > len && !strncasecmp((const char *)text.ptr + at, schemes[i], len))
            return len;
    }
    return 0;
}

/* Length of the domain name there: labels of ASCII letters and digits, at least two, the first of
 * which begins with a letter. */
static size_t domain_len(struct mj_span text, size_t at)
{
    size_t i = at, end = 0;
    if (i >= text.len || !is_letter(text.ptr[i]))
        return 0;
    while (i < text.len && is_alnum(text.ptr[i]))
        i++;
    while (i + 1 < text.len && text.ptr[i] == '.' && is_alnum(text.ptr[i + 1])) {
        for (i++; i < text.len && is_alnum(text.ptr[i]); i++)
            ;
        end = i;
    }
    return end ? end - at : 0;
}

static bool find_link(struct mj_span text, size_t *at, struct mj_facet *out)
{
    while (*at < text.len) {
        size_t start = *at, scheme, end;
        if (!is_letter(text.ptr[start]) || !may_begin(text, start, true)) {
            ++*at;
            continue;
        }
        scheme = scheme_len(text, start);
        if (scheme && run_end(text, start + scheme) == start + scheme)
            scheme = 0;
        size_t domain = scheme ? 0 : domain_len(text, start);
        if (!scheme && !domain) {
            ++*at;
            continue;
        }
        end = *at = run_end(text, start);
        if (domain && !in_a_zone(mj_span(text.ptr + start, domain), false))
            continue;
        if (strchr(".,;:!?", text.ptr[end - 1]) && text.ptr[end - 1])
            end--;
        if (text.ptr[end - 1] == ')' && !memchr(text.ptr + start, '(', end - start))
            end--;
        /* What a PDS would refuse as an address is none. */
        if (scheme && (end <= start + scheme || text.ptr[start + scheme] == '/'))
            continue;
        if (end - start > MJ_LINK_BYTES)
            continue;
        *out = (struct mj_facet){MJ_FACET_LINK, start, end, mj_span(text.ptr + start, end - start),
                                 domain > 0};
        return true;
    }
    return false;
}

/* Length of "#", or of the one that fonts of East Asia have, at p. */
static size_t hash_len(const uint8_t *p, const uint8_t *end)
{
    if (*p == '#')
        return 1;
    return end - p >= 3 && !memcmp(p, "\xef\xbc\x83", 3) ? 3 : 0;
}

static bool find_tag(struct mj_span text, size_t *at, struct mj_facet *out)
{
    const uint8_t *end = text.ptr + text.len;
    for (; *at < text.len; ++*at) {
        size_t start = *at, sign = hash_len(text.ptr + start, end), i = start + sign, last = i;
        bool good = false, emoji;
        if (!sign || !may_begin(text, start, false))
            continue;
        /* "#️⃣" is an emoji. */
        emoji = text.len - i >= 3 && !memcmp(text.ptr + i, "\xef\xb8\x8f", 3);
        while (!emoji && i < text.len) {
            unsigned len;
            utf8proc_int32_t c = decode(text.ptr + i, end, &len);
            if (is_space(c) || is_invisible(c))
                break;
            i += len;
            if (!is_punctuation(c)) {
                last = i;
                good |= !is_digit(c);
            }
        }
        struct mj_span tag = mj_span(text.ptr + start + sign, last - start - sign);
        if (!good || tag.len > MJ_TAG_BYTES || mj_graphemes(tag) > MJ_TAG_GRAPHEMES)
            continue;
        *at = i;
        *out = (struct mj_facet){MJ_FACET_TAG, start, last, tag, false};
        return true;
    }
    return false;
}

static bool find_cashtag(struct mj_span text, size_t *at, struct mj_facet *out)
{
    while (*at < text.len) {
        const uint8_t *sign = memchr(text.ptr + *at, '$', text.len - *at);
        if (!sign)
            break;
        size_t start = (size_t)(sign - text.ptr), end = start + 1;
        *at = start + 1;
        if (!may_begin(text, start, true) || end >= text.len || !is_letter(text.ptr[end]))
            continue;
        while (end < text.len && is_alnum(text.ptr[end]))
            end++;
        if (end - start - 1 > 5)
            continue;
        if (end < text.len) {
            unsigned len;
            utf8proc_int32_t c = decode(text.ptr + end, text.ptr + text.len, &len);
            if (!is_space(c) && c != 0x2019 && !(c > 0 && c < 128 && strchr(".,;:!?)\"'", c)))
                continue;
        }
        *at = end;
        *out = (struct mj_facet){MJ_FACET_CASHTAG, start, end,
                                 mj_span(text.ptr + start + 1, end - start - 1), false};
        return true;
    }
    *at = text.len;
    return false;
}

typedef bool (*find_fn)(struct mj_span text, size_t *at, struct mj_facet *out);
static const find_fn finders[MJ_FACET_KINDS] = {
    [MJ_FACET_MENTION] = find_mention,
    [MJ_FACET_LINK] = find_link,
    [MJ_FACET_TAG] = find_tag,
    [MJ_FACET_CASHTAG] = find_cashtag,
};

void mj_facets_init(struct mj_facets *f, struct mj_span text)
{
    *f = (struct mj_facets){.text = text};
    for (int i = 0; i < MJ_FACET_KINDS; i++)
        f->has[i] = finders[i](text, &f->at[i], &f->next[i]);
}

bool mj_facets_next(struct mj_facets *f, struct mj_facet *out)
{
    for (;;) {
        int first = -1;
        for (int i = 0; i < MJ_FACET_KINDS; i++)
            if (f->has[i] && (first < 0 || f->next[i].start < f->next[first].start))
                first = i;
        if (first < 0)
            return false;
        *out = f->next[first];
        f->has[first] = finders[first](f->text, &f->at[first], &f->next[first]);
        if (out->start >= f->covered) {
            f->covered = out->end;
            return true;
        }
    }
}

/* ---- graphemes and words ---- */

/* Consonants of Indic scripts that a virama between them joins to one cluster. Unicode has that
 * rule (GB9c) since 15.1; the libutf8proc of Debian 12 is older. */
static bool is_conjunct_consonant(utf8proc_int32_t c)
{
    static const struct {
        uint16_t first, last;
    } rows[] = {{0x915, 0x939}, {0x958, 0x95f}, {0x978, 0x97f}, {0x995, 0x9a8}, {0x9aa, 0x9b0},
                {0x9b2, 0x9b2}, {0x9b6, 0x9b9}, {0x9dc, 0x9dd}, {0x9df, 0x9df}, {0x9f0, 0x9f1},
                {0xa95, 0xaa8}, {0xaaa, 0xab0}, {0xab2, 0xab3}, {0xab5, 0xab9}, {0xaf9, 0xaf9},
                {0xb15, 0xb28}, {0xb2a, 0xb30}, {0xb32, 0xb33}, {0xb35, 0xb39}, {0xb5c, 0xb5d},
                {0xb5f, 0xb5f}, {0xb71, 0xb71}, {0xc15, 0xc28}, {0xc2a, 0xc39}, {0xc58, 0xc5a},
                {0xd15, 0xd3a}};
    if (c < 0x915 || c > 0xd3a)
        return false;
    for (size_t i = 0; i < MJ_COUNT(rows); i++)
        if (c >= rows[i].first && c <= rows[i].last)
            return true;
    return false;
}

static bool is_virama(utf8proc_int32_t c)
{
    return c == 0x94d || c == 0x9cd || c == 0xacd || c == 0xb4d || c == 0xc4d || c == 0xd4d;
}

static bool is_extending(utf8proc_int32_t c)
{
    int class = c == BROKEN ? 0 : utf8proc_get_property(c)->boundclass;
    return (class == UTF8PROC_BOUNDCLASS_EXTEND && c != 0x200c) || class == UTF8PROC_BOUNDCLASS_ZWJ;
}

/* How far a conjunct is, behind c: none, a consonant, a consonant and a virama. */
enum conjunct { NONE, CONSONANT, LINKED };

static enum conjunct conjunct_behind(enum conjunct before, utf8proc_int32_t c)
{
    if (is_conjunct_consonant(c))
        return CONSONANT;
    if (before != NONE && is_virama(c))
        return LINKED;
    return before != NONE && is_extending(c) ? before : NONE;
}

/* Length of the first grapheme. The text is not empty. */
static size_t grapheme_len(struct mj_span text)
{
    const uint8_t *p = text.ptr, *end = p + text.len;
    utf8proc_int32_t state = 0;
    unsigned len;
    utf8proc_int32_t c = decode(p, end, &len), next;
    enum conjunct conjunct = conjunct_behind(NONE, c);
    for (p += len; p < end; p += len, c = next) {
        next = decode(p, end, &len);
        if (c == BROKEN || next == BROKEN)
            break;
        if (utf8proc_grapheme_break_stateful(c, next, &state) &&
            !(conjunct == LINKED && is_conjunct_consonant(next)))
            break;
        conjunct = conjunct_behind(conjunct, next);
    }
    return (size_t)(p - text.ptr);
}

size_t mj_graphemes(struct mj_span text)
{
    size_t n = 0;
    for (size_t at = 0; at < text.len; n++)
        at += grapheme_len(mj_span(text.ptr + at, text.len - at));
    return n;
}

size_t mj_graphemes_fit(struct mj_span text, size_t graphemes, size_t bytes)
{
    size_t at = 0;
    while (at < text.len && graphemes--) {
        size_t len = grapheme_len(mj_span(text.ptr + at, text.len - at));
        if (len > bytes - at)
            break;
        at += len;
    }
    return at;
}

size_t mj_space_before(struct mj_span text)
{
    size_t at = 0;
    unsigned len;
    while (at < text.len && is_space(decode(text.ptr + at, text.ptr + text.len, &len)))
        at += len;
    return at;
}

size_t mj_space_after(struct mj_span text)
{
    size_t at = text.len;
    unsigned len;
    while (at && is_space(decode_back(text.ptr, text.ptr + at, &len)))
        at -= len;
    return text.len - at;
}

size_t mj_word_end(struct mj_span text, size_t end)
{
    unsigned len;
    if (end >= text.len)
        return text.len;
    /* Back to where white space follows, and over that white space. */
    while (end && !is_space(decode(text.ptr + end, text.ptr + text.len, &len)))
        do
            end--;
        while (end && (text.ptr[end] & 0xc0) == 0x80);
    return end - mj_space_after(mj_span(text.ptr, end));
}
