#include "source/peek.h"

#include "base/err.h"

struct item {
    unsigned major;
    uint64_t arg;
};

/* One head, bounds checked and nothing else. False at the end or for what CBOR reserves. */
static inline bool head(const uint8_t **p, const uint8_t *end, struct item *out)
{
    if (*p == end)
        return false;
    unsigned info = **p & 31;
    out->major = *(*p)++ >> 5;
    out->arg = info;
    if (info < 24)
        return true;
    size_t n = (size_t)1 << (info - 24);
    if (info > 27 || (size_t)(end - *p) < n)
        return false;
    out->arg = 0;
    for (size_t i = 0; i < n; i++)
        out->arg = out->arg << 8 | *(*p)++;
    return true;
}

/* Steps over one item with all it holds. Counting what is still to come instead of recursing
 * needs no depth limit: each item takes a byte, so the walk ends. */
static bool skip(const uint8_t **p, const uint8_t *end)
{
    struct item it;
    for (uint64_t left = 1; left; left--) {
        if (!head(p, end, &it))
            return false;
        size_t room = (size_t)(end - *p);
        if (it.major == 2 || it.major == 3) {
            if (it.arg > room)
                return false;
            *p += it.arg;
        } else if (it.major == 4 || it.major == 5) {
            if (it.arg > room) /* every child takes a byte at least */
                return false;
            left += it.major == 4 ? it.arg : 2 * it.arg;
        } else if (it.major == 6) {
            left++;
        }
    }
    return true;
}

static bool text(const uint8_t **p, const uint8_t *end, struct mj_span *out)
{
    struct item it;
    if (!head(p, end, &it) || it.major != 3 || it.arg > (size_t)(end - *p))
        return false;
    *out = mj_span(*p, (size_t)it.arg);
    *p += it.arg;
    return true;
}

static bool integer(const uint8_t **p, const uint8_t *end, int64_t *out)
{
    struct item it;
    if (!head(p, end, &it) || it.major > 1 || it.arg > INT64_MAX)
        return false;
    *out = it.major ? -1 - (int64_t)it.arg : (int64_t)it.arg;
    return true;
}

/* The header: a map of `op` and `t`, in either order, foreign keys ignored. */
static bool header(const uint8_t **p, const uint8_t *end, struct mj_peek *out)
{
    struct item map;
    if (!head(p, end, &map) || map.major != 5)
        return false;
    for (uint64_t i = 0; i < map.arg; i++) {
        struct mj_span key;
        if (!text(p, end, &key))
            return false;
        bool good = mj_span_eq(key, MJ_SPAN("op"))  ? integer(p, end, &out->op)
                    : mj_span_eq(key, MJ_SPAN("t")) ? text(p, end, &out->t)
                                                    : skip(p, end);
        if (!good)
            return false;
    }
    return true;
}

int mj_peek(struct mj_span frame, bool want_time, struct mj_peek *out)
{
    *out = (struct mj_peek){0};
    if (!frame.len)
        return MJ_EFRAME;
    const uint8_t *p = frame.ptr, *end = frame.ptr + frame.len;
    if (!header(&p, end, out))
        return MJ_EFRAME;
    out->payload = mj_span(p, (size_t)(end - p));
    struct item map;
    if (!head(&p, end, &map) || map.major != 5)
        return MJ_EFRAME;
    for (uint64_t i = 0; i < map.arg; i++) {
        struct mj_span key;
        if (!text(&p, end, &key))
            return MJ_EFRAME;
        if (mj_span_eq(key, MJ_SPAN("seq"))) {
            const uint8_t *at = p;
            if (out->seq_at.len || !integer(&p, end, &out->seq) || out->seq < 0)
                return MJ_EFRAME;
            out->seq_at = mj_span(at, (size_t)(p - at));
            if (!want_time)
                return 0;
        } else if (want_time && mj_span_eq(key, MJ_SPAN("time"))) {
            if (!text(&p, end, &out->time))
                return MJ_EFRAME;
        } else if (!skip(&p, end)) {
            return MJ_EFRAME;
        }
    }
    return p == end ? 0 : MJ_EFRAME;
}
