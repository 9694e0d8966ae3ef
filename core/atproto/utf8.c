#include "atproto/utf8.h"

bool mj_utf8_valid(struct mj_span s)
{
    const uint8_t *p = s.ptr, *end = s.ptr + s.len;
    while (p < end) {
        /* Runs of ASCII, eight at a time: the usual case by far. */
        uint64_t v;
        while (end - p >= 8) {
            memcpy(&v, p, sizeof v);
            if (v & 0x8080808080808080)
                break;
            p += 8;
        }
        if (p == end)
            break;
        unsigned n = mj_utf8_len(p, end);
        if (!n)
            return false;
        p += n;
    }
    return true;
}
