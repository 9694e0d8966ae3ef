#include "event/shape.h"

#include "atproto/cid.h"

/* The text item at p, which may be none. */
static bool text_at(const uint8_t *p, const uint8_t *end, struct mj_span *out)
{
    unsigned major;
    uint64_t n;
    if (mj__cbor_head(&p, end, &major, &n) || major != MJ__TEXT || n > (size_t)(end - p))
        return false;
    *out = mj_span(p, (size_t)n);
    return true;
}

static bool cid_text_at(const uint8_t *p, const uint8_t *end)
{
    uint8_t cid[MJ_CID_MAX];
    struct mj_span s;
    return text_at(p, end, &s) && mj_cid_from_text(s, cid) > 0;
}

static bool is_base64(struct mj_span s)
{
    size_t n = s.len;
    if (n % 4 == 0) /* padding is optional, and only at the end of a full group */
        for (int i = 0; i < 2 && n && s.ptr[n - 1] == '='; i++)
            n--;
    if (n % 4 == 1)
        return false;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = s.ptr[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              c == '+' || c == '/'))
            return false;
    }
    return true;
}

static bool starts_with(const uint8_t *p, const uint8_t *end, const char *bytes, size_t n)
{
    return (size_t)(end - p) >= n && memcmp(p, bytes, n) == 0;
}

/* Canonical key order makes every blob begin alike: ref, size, $type, mimeType. `p` is behind
 * "$type". The two entries before it have been walked, so their bytes are well-formed. */
static bool is_blob(const struct mj__map *m, uint64_t i, const uint8_t *p, const uint8_t *end)
{
    const size_t link = 2 + 39; /* tag head, then the bytes */
    struct mj_span mime;
    return m->count == 4 && i == 2 && starts_with(m->first, end, "\x63ref\xd8\x2a", 6) &&
           starts_with(m->first + 4 + link, end, "\x64size", 5) &&
           m->first[4 + link + 5] >> 5 == MJ__UINT &&
           starts_with(p, end,
                       "\x64"
                       "blob\x68mimeType",
                       14) &&
           text_at(p + 14, end, &mime);
}

int mj__shape_key(struct mj__map *m, uint64_t i, struct mj_span key, const uint8_t *p,
                  const uint8_t *end)
{
    struct mj_span text;
    if (mj_span_eq(key, MJ_SPAN("$type"))) {
        if (!text_at(p, end, &text) || text.len == 0)
            return MJ_ERECORD;
        if (mj_span_eq(text, MJ_SPAN("blob"))) {
            m->shape = MJ__BLOB;
            return is_blob(m, i, p, end) ? 0 : MJ_ERECORD;
        }
    } else if (mj_span_eq(key, MJ_SPAN("$link"))) {
        m->shape = MJ__LINK_MAP;
        return m->count == 1 && cid_text_at(p, end) ? 0 : MJ_ERECORD;
    } else if (mj_span_eq(key, MJ_SPAN("$bytes"))) {
        m->shape = MJ__BYTES_MAP;
        return m->count == 1 && text_at(p, end, &text) && is_base64(text) ? 0 : MJ_ERECORD;
    } else if (mj_span_eq(key, MJ_SPAN("mimeType")) && m->count == 2 && i == 1 &&
               starts_with(m->first, end,
                           "\x63"
                           "cid",
                           4)) {
        m->shape = MJ__LEGACY_BLOB;
        return text_at(p, end, &text) && cid_text_at(m->first + 4, end) ? 0 : MJ_ERECORD;
    }
    return 0;
}
