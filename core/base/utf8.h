/* Characters of UTF-8 as Unicode defines it: no overlong forms, no surrogates, nothing above
 * U+10FFFF. */
#pragma once

#include "base/bytes.h"

/* Length (1…4) of the well-formed sequence at p, or 0 when there is none. p < end. */
static inline unsigned mj_utf8_len(const uint8_t *p, const uint8_t *end)
{
    size_t n = (size_t)(end - p);
    uint8_t a = p[0];
    if (a < 0x80)
        return 1;
    if (a < 0xe0)
        return a >= 0xc2 && n >= 2 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
    if (a < 0xf0) {
        if (n < 3 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80)
            return 0;
        /* e0 would be overlong below a0; ed holds the surrogates from a0 on. */
        return (a == 0xe0 && p[1] < 0xa0) || (a == 0xed && p[1] >= 0xa0) ? 0 : 3;
    }
    if (a > 0xf4 || n < 4 || (p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 ||
        (p[3] & 0xc0) != 0x80)
        return 0;
    return (a == 0xf0 && p[1] < 0x90) || (a == 0xf4 && p[1] >= 0x90) ? 0 : 4;
}
