#include "atproto/utf8.h"

#define HIGH 0x8080808080808080

/* No byte with the high bit, which is the usual case by far. The last step overlaps the one before
 * it, so that nothing is left over. */
static bool ascii(const uint8_t *p, size_t n)
{
    uint64_t v, bits = 0;
    if (n < 8) {
        uint32_t a, b;
        if (n >= 4) {
            memcpy(&a, p, 4);
            memcpy(&b, p + n - 4, 4);
            return !((a | b) & (uint32_t)HIGH);
        }
        return n == 0 || !((p[0] | p[n / 2] | p[n - 1]) & 0x80);
    }
    for (size_t i = 0; i + 8 < n; i += 8) {
        memcpy(&v, p + i, 8);
        bits |= v;
    }
    memcpy(&v, p + n - 8, 8);
    return !((bits | v) & HIGH);
}

bool mj_utf8_valid(struct mj_span s)
{
    if (ascii(s.ptr, s.len))
        return true;
    const uint8_t *p = s.ptr, *end = s.ptr + s.len;
    while (p < end) {
        unsigned n = mj_utf8_len(p, end);
        if (!n)
            return false;
        p += n;
    }
    return true;
}
