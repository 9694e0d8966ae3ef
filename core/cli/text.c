#include "cli/text.h"

#include <stdio.h>
#include <time.h>

#include "atproto/utf8.h"

/* Controls, those of Latin-1, line ends, and what turns the direction of text. */
static bool is_control(const uint8_t *p, unsigned n)
{
    if (n == 3 && p[0] == 0xe2 && p[1] == 0x80) /* U+200E U+200F, U+2028 to U+202E */
        return p[2] == 0x8e || p[2] == 0x8f || (p[2] >= 0xa8 && p[2] <= 0xae);
    if (n == 3 && p[0] == 0xe2 && p[1] == 0x81) /* U+2066 to U+2069 */
        return p[2] >= 0xa6 && p[2] <= 0xa9;
    return !n || *p < 0x20 || *p == 0x7f || (n == 2 && p[0] == 0xc2 && p[1] < 0xa0);
}

size_t mj_text_harmless(struct mj_span text, size_t max, struct mj_buf *out)
{
    const uint8_t *p = text.ptr, *end = text.len ? p + text.len : p;
    size_t shown = 0;
    for (; p < end; shown++) {
        unsigned n = mj_utf8_len(p, end), step = n ? n : 1;
        if (shown + 1 >= max && p + step < end) {
            if (max)
                mj_buf_puts(out, "…");
            return max;
        }
        if (is_control(p, n))
            mj_buf_putc(out, ' ');
        else
            mj_buf_put(out, p, n);
        p += step;
    }
    return shown;
}

const char *mj_text_number(uint64_t n, char out[32])
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    char *w = out;
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            *w++ = ',';
        *w++ = digits[i];
    }
    *w = '\0';
    return out;
}

const char *mj_text_time(int64_t us, char out[32])
{
    time_t t = (time_t)(us / 1000000);
    struct tm tm;
    if (!us || !gmtime_r(&t, &tm))
        return "-";
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return out;
}
