#include "atproto/html.h"

#include <utf8proc.h>

#include "atproto/utf8.h"

static bool is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Whether the page has the text at `at`, in whatever case; `text` is in lower case. */
static bool has(struct mj_span page, size_t at, const char *text)
{
    size_t len = strlen(text);
    return page.len - at >= len && !strncasecmp((const char *)page.ptr + at, text, len);
}

/* The first place of the text at or behind `at`, whatever its case; the page's end without one. */
static size_t find(struct mj_span page, size_t at, const char *text)
{
    for (; at < page.len; at++)
        if ((page.ptr[at] | 32) == (uint8_t)(*text | 32) && has(page, at, text))
            break;
    return at;
}

static size_t skip_space(struct mj_span page, size_t at)
{
    while (at < page.len && is_space(page.ptr[at]))
        at++;
    return at;
}

/* Whether the tag that begins at `at` ("<") is of that name. */
static bool is_tag(struct mj_span page, size_t at, const char *name)
{
    size_t end = at + 1 + strlen(name);
    return has(page, at + 1, name) && (end >= page.len || is_space(page.ptr[end]) ||
                                       page.ptr[end] == '>' || page.ptr[end] == '/');
}

/* Reads one attribute of a tag and moves behind it; false at the tag's end. */
static bool attribute(struct mj_span page, size_t *at, struct mj_span *name, struct mj_span *value)
{
    size_t i = *at, start;
    while (i < page.len && (is_space(page.ptr[i]) || page.ptr[i] == '/'))
        i++;
    if (i >= page.len || page.ptr[i] == '>') {
        *at = i;
        return false;
    }
    start = i++; /* a name may begin with anything, even "=" */
    while (i < page.len && !is_space(page.ptr[i]) && !strchr("=>/", page.ptr[i] ? page.ptr[i] : 1))
        i++;
    *name = mj_span(page.ptr + start, i - start);
    *value = mj_span(page.ptr + i, 0);
    size_t equals = skip_space(page, i);
    if (equals >= page.len || page.ptr[equals] != '=') {
        *at = i;
        return true;
    }
    i = skip_space(page, equals + 1);
    if (i < page.len && (page.ptr[i] == '"' || page.ptr[i] == '\'')) {
        const uint8_t *end = memchr(page.ptr + i + 1, page.ptr[i], page.len - i - 1);
        size_t stop = end ? (size_t)(end - page.ptr) : page.len;
        *value = mj_span(page.ptr + i + 1, stop - i - 1);
        *at = end ? stop + 1 : stop;
        return true;
    }
    start = i;
    while (i < page.len && !is_space(page.ptr[i]) && page.ptr[i] != '>')
        i++;
    *value = mj_span(page.ptr + start, i - start);
    *at = i;
    return true;
}

static bool is_named(struct mj_span name, const char *as)
{
    return name.len == strlen(as) && !strncasecmp((const char *)name.ptr, as, name.len);
}

/* Reads the attributes of the <meta> whose name ends at h->at. */
static bool read_meta(struct mj_html *h, struct mj_meta *out)
{
    struct mj_span name, value;
    bool property = false;
    *out = (struct mj_meta){0};
    while (attribute(h->page, &h->at, &name, &value)) {
        if (is_named(name, "property")) {
            out->name = value;
            property = true;
        } else if (is_named(name, "name") && !property) {
            out->name = value;
        } else if (is_named(name, "content")) {
            out->content = value;
        }
    }
    return out->name.len && out->content.len;
}

bool mj_html_next(struct mj_html *h, struct mj_meta *out)
{
    static const char *const skipped[][2] = {
        {"script", "</script"}, {"style", "</style"}, {"noscript", "</noscript"}};
    while (h->at < h->page.len) {
        const uint8_t *tag = memchr(h->page.ptr + h->at, '<', h->page.len - h->at);
        if (!tag)
            break;
        size_t at = (size_t)(tag - h->page.ptr);
        h->at = at + 1;
        if (has(h->page, at, "<!--")) {
            h->at = find(h->page, at + 4, "-->");
        } else if (is_tag(h->page, at, "body")) {
            break;
        } else if (is_tag(h->page, at, "meta")) {
            h->at = at + strlen("<meta");
            if (read_meta(h, out))
                return true;
        } else if (is_tag(h->page, at, "title")) {
            size_t start = find(h->page, at, ">");
            start += start < h->page.len;
            h->at = find(h->page, start, "</title");
            *out = (struct mj_meta){mj_str("title"), mj_span(h->page.ptr + start, h->at - start)};
            if (out->content.len)
                return true;
        } else {
            for (size_t i = 0; i < MJ_COUNT(skipped); i++)
                if (is_tag(h->page, at, skipped[i][0]))
                    h->at = find(h->page, at, skipped[i][1]);
        }
        h->at += h->at == at; /* always on */
    }
    h->at = h->page.len;
    return false;
}

/* ---- text ---- */

/* The character of the entity at the start of `s` ("&amp;"), and its length; 0 when it is none. */
static uint32_t entity(struct mj_span s, size_t *len)
{
    static const struct {
        const char *name;
        uint32_t c;
    } names[] = {{"amp", '&'},      {"lt", '<'},       {"gt", '>'},        {"quot", '"'},
                 {"apos", '\''},    {"nbsp", 0xa0},    {"hellip", 0x2026}, {"ndash", 0x2013},
                 {"mdash", 0x2014}, {"lsquo", 0x2018}, {"rsquo", 0x2019},  {"ldquo", 0x201c},
                 {"rdquo", 0x201d}, {"laquo", 0xab},   {"raquo", 0xbb},    {"middot", 0xb7},
                 {"bull", 0x2022},  {"copy", 0xa9},    {"reg", 0xae},      {"trade", 0x2122}};
    const uint8_t *end = memchr(s.ptr, ';', s.len < 12 ? s.len : 12);
    uint32_t c = 0;
    if (!end)
        return 0;
    *len = (size_t)(end - s.ptr) + 1;
    struct mj_span name = mj_span(s.ptr + 1, *len - 2);
    if (name.len < 2 || name.ptr[0] != '#') {
        for (size_t i = 0; i < MJ_COUNT(names); i++)
            if (mj_span_eq(name, mj_str(names[i].name)))
                return names[i].c;
        return 0;
    }
    bool hex = (name.ptr[1] | 32) == 'x';
    if (name.len < (hex ? 3 : 2))
        return 0;
    for (size_t i = hex ? 2 : 1; i < name.len; i++) {
        uint8_t digit = name.ptr[i] | 32;
        if (name.ptr[i] >= '0' && name.ptr[i] <= '9')
            digit = name.ptr[i] - '0';
        else if (hex && digit >= 'a' && digit <= 'f')
            digit = (uint8_t)(digit - 'a' + 10);
        else
            return 0;
        c = c * (hex ? 16 : 10) + digit;
        if (c > 0x10ffff)
            return 0;
    }
    return c >= 0xd800 && c <= 0xdfff ? 0 : c;
}

void mj_html_text(struct mj_span written, size_t max, struct mj_buf *out)
{
    size_t start = out->len;
    bool gap = false;
    for (size_t at = 0; at < written.len;) {
        const uint8_t *p = written.ptr + at;
        uint8_t bytes[4];
        size_t used = 1, n;
        uint32_t c = *p == '&' ? entity(mj_span(p, written.len - at), &used) : 0;
        if (c) {
            n = (size_t)utf8proc_encode_char((utf8proc_int32_t)c, bytes);
        } else if ((n = mj_utf8_len(p, written.ptr + written.len))) {
            memcpy(bytes, p, n);
            used = n;
        } else {
            n = (size_t)utf8proc_encode_char(*p, bytes);
        }
        at += used;
        if (bytes[0] < 0x21 || bytes[0] == 0x7f) { /* white space, and what no text should have */
            gap = out->len > start;
            continue;
        }
        if (out->len - start + gap + n > max)
            break;
        if (gap)
            mj_buf_putc(out, ' ');
        gap = false;
        mj_buf_put(out, bytes, n);
    }
}
