#include "atproto/syntax.h"

#include "base/err.h"

/* One table answers every "may this byte stand here" question. */
enum {
    DIGIT = 1,
    LOWER = 2,
    UPPER = 4,
    DID_ID = 8,              /* alnum . _ : % - */
    RKEY = 16,               /* alnum . _ : ~ - */
    TID = 32,                /* 2-7 a-z */
    CID_TEXT = 64,           /* alnum + = */
    LABEL = 128,             /* alnum - */
    ALPHA = LOWER | UPPER,   /* for is(): one of the bits */
    ALNUM = LABEL | CID_TEXT /* for all(): both bits, which only letters and digits have */
};

#define ANY (DID_ID | RKEY | CID_TEXT | LABEL)
static const uint8_t class[256] = {
    ['0' ... '1'] = DIGIT | ANY,
    ['2' ... '7'] = DIGIT | ANY | TID,
    ['8' ... '9'] = DIGIT | ANY,
    ['A' ... 'Z'] = UPPER | ANY,
    ['a' ... 'z'] = LOWER | ANY | TID,
    ['.'] = DID_ID | RKEY,
    ['_'] = DID_ID | RKEY,
    [':'] = DID_ID | RKEY,
    ['-'] = DID_ID | RKEY | LABEL,
    ['%'] = DID_ID,
    ['~'] = RKEY,
    ['+'] = CID_TEXT,
    ['='] = CID_TEXT,
};

/* The byte has at least one of the bits. */
static inline bool is(uint8_t c, unsigned mask) { return (class[c] & mask) != 0; }

/* Every byte has all of the bits. */
static inline bool all(const uint8_t *p, const uint8_t *end, unsigned mask)
{
    unsigned seen = mask;
    for (; end - p >= 4; p += 4)
        seen &= class[p[0]] & class[p[1]] & class[p[2]] & class[p[3]];
    while (p < end)
        seen &= class[*p++];
    return seen == mask;
}

bool mj_did_valid(struct mj_span s)
{
    if (s.len < 7 || s.len > 2048 || memcmp(s.ptr, "did:", 4) != 0)
        return false;
    const uint8_t *p = s.ptr + 4, *end = s.ptr + s.len;
    while (p < end && is(*p, LOWER))
        p++;
    if (p == s.ptr + 4 || end - p < 2 || *p != ':')
        return false;
    return end[-1] != ':' && end[-1] != '%' && all(p + 1, end, DID_ID);
}

/* Steps over one label of 1-63 letters, digits and inner hyphens; NULL when there is none. */
static const uint8_t *skip_label(const uint8_t *p, const uint8_t *end)
{
    const uint8_t *start = p;
    while (p < end && is(*p, LABEL))
        p++;
    if (p == start || p - start > 63 || *start == '-' || p[-1] == '-')
        return NULL;
    return p;
}

bool mj_handle_valid(struct mj_span s)
{
    if (s.len < 3 || s.len > 253)
        return false;
    const uint8_t *p = s.ptr, *end = s.ptr + s.len;
    for (unsigned labels = 1;; labels++) {
        const uint8_t *start = p;
        p = skip_label(p, end);
        if (!p)
            return false;
        if (p == end)
            return labels >= 2 && is(*start, ALPHA);
        if (*p++ != '.')
            return false;
    }
}

bool mj_at_identifier_valid(struct mj_span s)
{
    return mj_span_starts(s, MJ_SPAN("did:")) ? mj_did_valid(s) : mj_handle_valid(s);
}

bool mj_nsid_valid(struct mj_span s)
{
    if (s.len < 5 || s.len > 317 || !is(s.ptr[0], ALPHA))
        return false;
    const uint8_t *p = s.ptr, *end = s.ptr + s.len, *label = p;
    unsigned labels = 1;
    for (; p < end; p++) {
        if (is(*p, LABEL))
            continue;
        if (*p != '.' || p == label || p - label > 63 || *label == '-' || p[-1] == '-')
            return false;
        labels++;
        label = p + 1;
    }
    /* The name: a letter, then no hyphens. Only the whole has a length limit: published valid
     * vectors have an authority of 283 bytes. */
    return labels >= 3 && label < end && end - label <= 63 && is(*label, ALPHA) &&
           all(label, end, ALNUM);
}

bool mj_rkey_valid(struct mj_span s)
{
    if (s.len < 1 || s.len > 512 || !all(s.ptr, s.ptr + s.len, RKEY))
        return false;
    return !mj_span_eq(s, MJ_SPAN(".")) && !mj_span_eq(s, MJ_SPAN(".."));
}

bool mj_tid_valid(struct mj_span s)
{
    if (s.len != 13 || !all(s.ptr, s.ptr + 13, TID))
        return false;
    return s.ptr[0] <= 'j'; /* the top bit of 65 must be clear; digits sort below the letters */
}

bool mj_path_split(struct mj_span path, struct mj_span *collection, struct mj_span *rkey)
{
    const uint8_t *slash = path.len ? memchr(path.ptr, '/', path.len) : NULL;
    if (!slash)
        return false;
    size_t n = (size_t)(slash - path.ptr);
    struct mj_span c = mj_span(path.ptr, n), r = mj_span(slash + 1, path.len - n - 1);
    if (!mj_nsid_valid(c) || !mj_rkey_valid(r)) /* a second slash is no rkey character */
        return false;
    *collection = c;
    *rkey = r;
    return true;
}

bool mj_aturi_valid(struct mj_span s)
{
    if (s.len > 8192 || !mj_span_starts(s, MJ_SPAN("at://")))
        return false;
    s.ptr += 5;
    s.len -= 5;
    const uint8_t *slash = s.len ? memchr(s.ptr, '/', s.len) : NULL;
    if (!slash)
        return mj_at_identifier_valid(s);
    size_t n = (size_t)(slash - s.ptr);
    if (!mj_at_identifier_valid(mj_span(s.ptr, n)))
        return false;
    struct mj_span rest = mj_span(slash + 1, s.len - n - 1), collection, rkey;
    return mj_nsid_valid(rest) || mj_path_split(rest, &collection, &rkey);
}

bool mj_cid_text_valid(struct mj_span s)
{
    return s.len >= 8 && s.len <= 256 && all(s.ptr, s.ptr + s.len, CID_TEXT) &&
           !mj_span_starts(s, MJ_SPAN("Qmb"));
}

static const char tid_digits[] = "234567abcdefghijklmnopqrstuvwxyz";

int64_t mj_tid_time_us(struct mj_span s)
{
    if (!mj_tid_valid(s))
        return 0;
    uint64_t v = 0;
    for (size_t i = 0; i < 13; i++)
        v = v << 5 | (uint64_t)(s.ptr[i] >= 'a' ? s.ptr[i] - 'a' + 6 : s.ptr[i] - '2');
    return (int64_t)(v >> 10 &
                     ((1ull << 53) - 1)); /* the first digit's bit 3 is none of the time's */
}

void mj_tid_make(int64_t time_us, unsigned clock, char out[14])
{
    uint64_t v = ((uint64_t)time_us & ((1ull << 53) - 1)) << 10 | (clock & 1023);
    for (int i = 12; i >= 0; i--, v >>= 5)
        out[i] = tid_digits[v & 31];
    out[13] = '\0';
}

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar. Years start in March, so
 * that the leap day is the last one of a year. */
static int64_t days_of(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

/* The number that two digits spell; anything else sets bits above the low four in *bad. */
static inline int two(const uint8_t *p, unsigned *bad)
{
    unsigned a = p[0] - (unsigned)'0', b = p[1] - (unsigned)'0';
    *bad |= a | b | (a + 6) | (b + 6);
    return (int)(a * 10 + b);
}

struct datetime {
    int year, month, day, hour, minute, second;
    int offset;              /* minutes east of UTC */
    struct mj_span fraction; /* borrowed: its digits */
};

/* Grammar and calendar; all but the earliest moment that is allowed. */
static bool parse_datetime(struct mj_span s, struct datetime *t)
{
    static const uint8_t month_days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const uint8_t *p = s.ptr, *end = s.ptr + s.len;
    unsigned bad = 0;
    if (s.len < 20 || s.len > 64 || p[4] != '-' || p[7] != '-' || p[10] != 'T' || p[13] != ':' ||
        p[16] != ':')
        return false;
    t->year = two(p, &bad) * 100 + two(p + 2, &bad);
    t->month = two(p + 5, &bad);
    t->day = two(p + 8, &bad);
    t->hour = two(p + 11, &bad);
    t->minute = two(p + 14, &bad);
    t->second = two(p + 17, &bad);
    if (bad > 15 || t->month < 1 || t->month > 12 || t->day < 1 ||
        t->day > month_days[t->month - 1] || t->hour > 23 || t->minute > 59 || t->second > 59)
        return false;
    if (t->month == 2 && t->day == 29 &&
        (t->year % 4 != 0 || (t->year % 100 == 0 && t->year % 400 != 0)))
        return false;
    p += 19;
    t->fraction = mj_span(p, 0);
    if (*p == '.') {
        const uint8_t *start = ++p;
        while (p < end && is(*p, DIGIT))
            p++;
        if (p == start || p - start > 20)
            return false;
        t->fraction = mj_span(start, (size_t)(p - start));
    }
    t->offset = 0;
    if (end - p == 1 && *p == 'Z')
        return true;
    if (end - p != 6 || (*p != '+' && *p != '-') || p[3] != ':')
        return false;
    int h = two(p + 1, &bad), m = two(p + 4, &bad);
    if (bad > 15 || h > 23 || m > 59 || (*p == '-' && h == 0 && m == 0))
        return false;
    t->offset = (*p == '-' ? -1 : 1) * (h * 60 + m);
    return true;
}

int mj_datetime_us(struct mj_span s, int64_t *out)
{
    struct datetime t;
    if (!parse_datetime(s, &t))
        return MJ_ETIME;
    int64_t minutes = days_of(t.year, t.month, t.day) * 1440 + t.hour * 60 + t.minute - t.offset;
    if (minutes < days_of(0, 1, 1) * 1440)
        return MJ_ETIME;
    int micros = 0, scale = 100000;
    for (size_t i = 0; i < t.fraction.len && i < 6; i++, scale /= 10)
        micros += (t.fraction.ptr[i] - '0') * scale;
    *out = (minutes * 60 + t.second) * 1000000 + micros;
    return 0;
}

bool mj_datetime_valid(struct mj_span s)
{
    struct datetime t;
    int64_t us;
    /* Only an offset from the first day of year 0 leads to before it. */
    return parse_datetime(s, &t) && (t.year > 0 || mj_datetime_us(s, &us) == 0);
}

static char *put_digits(char *w, int64_t v, unsigned n)
{
    for (unsigned i = n; i-- > 0; v /= 10)
        w[i] = (char)('0' + v % 10);
    return w + n;
}

void mj_datetime_make(int64_t us, char out[28])
{
    int64_t days = us / 86400000000, rest = us % 86400000000;
    if (rest < 0) {
        rest += 86400000000;
        days--;
    }
    /* The inverse of days_of(). */
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    int64_t day = doy - (153 * mp + 2) / 5 + 1, month = mp < 10 ? mp + 3 : mp - 9;
    int64_t year = yoe + era * 400 + (month <= 2);
    char *w = put_digits(out, year, 4);
    *w++ = '-';
    w = put_digits(w, month, 2);
    *w++ = '-';
    w = put_digits(w, day, 2);
    *w++ = 'T';
    w = put_digits(w, rest / 3600000000, 2);
    *w++ = ':';
    w = put_digits(w, rest / 60000000 % 60, 2);
    *w++ = ':';
    w = put_digits(w, rest / 1000000 % 60, 2);
    *w++ = '.';
    w = put_digits(w, rest % 1000000, 6);
    *w++ = 'Z';
    *w = '\0';
}
