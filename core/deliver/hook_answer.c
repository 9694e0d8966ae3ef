#include "deliver/hook_answer.h"

#include <curl/curl.h>

#include "base/err.h"
#include "base/json.h"

int64_t mj_retry_after(struct mj_span value, int64_t now_us)
{
    char text[64];
    int64_t seconds, us;
    int err = mj_span_i64(value, &seconds);
    if (err == MJ_ELIMIT)
        return value.ptr[0] == '-' ? 0 : MJ_RETRY_AFTER_MAX;
    if (err) {
        if (!value.len || value.len >= sizeof text || memchr(value.ptr, 0, value.len))
            return 0;
        memcpy(text, value.ptr, value.len);
        text[value.len] = 0;
        time_t when = curl_getdate(text, NULL);
        if (when < 0)
            return 0;
        seconds = (int64_t)when - now_us / 1000000;
    }
    if (seconds <= 0)
        return 0;
    us = seconds > MJ_RETRY_AFTER_MAX / 1000000 ? MJ_RETRY_AFTER_MAX : seconds * 1000000;
    return us;
}

struct mj_span mj_hook_header(struct mj_span lines, const char *name)
{
    size_t len = strlen(name);
    while (lines.len) {
        const uint8_t *end = memmem(lines.ptr, lines.len, "\r\n", 2);
        size_t n = end ? (size_t)(end - lines.ptr) : lines.len;
        if (n > len && memcmp(lines.ptr, name, len) == 0 && lines.ptr[len] == ':') {
            struct mj_span value = mj_span(lines.ptr + len + 1, n - len - 1);
            while (value.len && (value.ptr[0] == ' ' || value.ptr[0] == '\t'))
                value = mj_span(value.ptr + 1, value.len - 1);
            while (value.len &&
                   (value.ptr[value.len - 1] == ' ' || value.ptr[value.len - 1] == '\t'))
                value.len--;
            return value;
        }
        n += end ? 2 : 0;
        lines = mj_span(lines.ptr + n, lines.len - n);
    }
    return mj_span(NULL, 0);
}

struct mj_judged mj_hook_judge(const struct mj_fetched *a, int64_t now_us)
{
    struct mj_judged j = {.what = MJ_ANSWER_RETRY};
    if (a->error)
        return j;
    switch (a->status) {
    case 401:
    case 403:
    case 404:
        j.what = MJ_ANSWER_REFUSED;
        break;
    case 410:
        j.what = MJ_ANSWER_GONE;
        break;
    case 408:
    case 425:
    case 429:
        break;
    default:
        if (a->status / 100 == 2)
            j.what = MJ_ANSWER_DONE;
        else if (a->status / 100 == 4)
            j.what = MJ_ANSWER_BAD;
    }
    if (j.what == MJ_ANSWER_RETRY)
        j.after_us = mj_retry_after(mj_hook_header(a->headers, "retry-after"), now_us);
    return j;
}

static int by_id(const void *a, const void *b)
{
    const struct mj_item *const *x = a, *const *y = b;
    return memcmp((*x)->id, (*y)->id, MJ_DELIVERY_ID_LEN);
}

/* Both are a stranger's to choose, how many ids there are and of how many events: so they are
 * sorted. An id holds no escapes: a raw string is compared as it is. */
static size_t mark(struct mj_span raw, const struct mj_item **sorted, const struct mj_item *items,
                   size_t n, bool *failed)
{
    struct mj_item wanted;
    size_t low = 0, high = n, marked = 0;
    const struct mj_item *key = &wanted;
    if (raw.len != MJ_DELIVERY_ID_LEN + 2)
        return 0;
    memcpy(wanted.id, raw.ptr + 1, MJ_DELIVERY_ID_LEN);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (by_id(&sorted[middle], &key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < n && by_id(&sorted[low], &key) == 0; low++) {
        bool *at = &failed[sorted[low] - items];
        if (*at)
            break; /* it was named before */
        *at = true;
        marked++;
    }
    return marked;
}

static size_t mark_whole(struct mj_span object, const struct mj_item **sorted,
                         const struct mj_item *items, size_t n, bool *failed)
{
    struct mj_span rest = mj_json_inside(object), key, value;
    size_t marked = 0;
    for (int type; (type = mj_json_member(&rest, &key, &value)) >= 0;) {
        if (type != MJ_JSON_ARRAY || !mj_span_is(key, "\"failed\""))
            continue;
        struct mj_span ids = mj_json_inside(value), id;
        for (int i = 0; i < MJ_HOOK_FAILED_MAX && (type = mj_json_element(&ids, &id)) >= 0; i++)
            if (type == MJ_JSON_STRING)
                marked += mark(id, sorted, items, n, failed);
    }
    return marked;
}

static bool take_char(struct mj_span *rest, char c)
{
    while (rest->len && memchr(" \t\r\n", *rest->ptr, 4))
        *rest = mj_span(rest->ptr + 1, rest->len - 1);
    if (!rest->len || *rest->ptr != (uint8_t)c)
        return false;
    *rest = mj_span(rest->ptr + 1, rest->len - 1);
    return true;
}

/* What is no JSON any more since its end is missing. An id that is found in the wrong place only
 * makes its event come once more. */
static size_t mark_cut(struct mj_span body, const struct mj_item **sorted,
                       const struct mj_item *items, size_t n, bool *failed)
{
    static const char key[] = "\"failed\"";
    size_t marked = 0, looked = 0;
    for (const uint8_t *at; (at = memmem(body.ptr, body.len, key, sizeof key - 1));) {
        size_t behind = (size_t)(at - body.ptr) + sizeof key - 1;
        body = mj_span(body.ptr + behind, body.len - behind);
        struct mj_span rest = body;
        if (!take_char(&rest, ':') || !take_char(&rest, '['))
            continue;
        while (looked++ < MJ_HOOK_FAILED_MAX && take_char(&rest, '"')) {
            const uint8_t *end = rest.len ? memchr(rest.ptr, '"', rest.len) : NULL;
            if (!end)
                break;
            size_t len = (size_t)(end - rest.ptr);
            marked += mark(mj_span(rest.ptr - 1, len + 2), sorted, items, n, failed);
            rest = mj_span(end + 1, rest.len - len - 1);
            if (!take_char(&rest, ','))
                break;
        }
    }
    return marked;
}

size_t mj_hook_failed(struct mj_span body, bool cut, const struct mj_item *items, size_t n,
                      bool *failed)
{
    struct mj_span raw, rest = body, start = body;
    if (cut ? !take_char(&start, '{') : mj_json_take(&rest, &raw) != MJ_JSON_OBJECT || rest.len)
        return 0;
    const struct mj_item **sorted = mj_calloc(n, sizeof *sorted);
    for (size_t i = 0; i < n; i++)
        sorted[i] = &items[i];
    qsort(sorted, n, sizeof *sorted, by_id);
    size_t marked =
        cut ? mark_cut(start, sorted, items, n, failed) : mark_whole(raw, sorted, items, n, failed);
    free(sorted);
    return marked;
}
