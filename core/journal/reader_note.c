/* The text of a note. It lies in the journal's files, so what comes back is checked like anything
 * from a disk. Nearly always it is what mj__note_put() writes for that reader, byte for byte, and
 * needs no look at its JSON. */
#include "base/json.h"
#include "journal/reader_internal.h"

static const char seq_key[] = ",\"seq\":";

void mj__note_front(struct mj_buf *out, const char *reader)
{
    mj_buf_puts(out, "{\"reader\":");
    mj_buf_put_json(out, mj_str(reader));
    mj_buf_puts(out, ",\"back\":");
}

/* Decimal digits in front of `end`; where they begin. */
static char *digits(char *end, uint64_t v)
{
    do
        *--end = (char)('0' + v % 10);
    while (v /= 10);
    return end;
}

void mj__note_put(struct mj_buf *out, struct mj_span front, unsigned back, int64_t upstream_seq)
{
    char room[64], *end = room + sizeof room, *at = end;
    bool negative = upstream_seq < 0;
    *--at = '}';
    at = digits(at, negative ? -(uint64_t)upstream_seq : (uint64_t)upstream_seq);
    if (negative)
        *--at = '-';
    at -= sizeof seq_key - 1;
    memcpy(at, seq_key, sizeof seq_key - 1);
    at = digits(at, back);
    mj_buf_put(out, front.ptr, front.len);
    mj_buf_put(out, at, (size_t)(end - at));
}

/* A number without leading zeros off the front, of 18 digits at most: it cannot overflow. */
static bool take_digits(struct mj_span *rest, uint64_t *out)
{
    size_t n = 0;
    uint64_t v = 0;
    while (n < rest->len && n < 18 && rest->ptr[n] >= '0' && rest->ptr[n] <= '9')
        v = v * 10 + rest->ptr[n++] - '0';
    if (!n || (n > 1 && rest->ptr[0] == '0'))
        return false;
    *out = v;
    *rest = mj_span(rest->ptr + n, rest->len - n);
    return true;
}

bool mj__note_quick(struct mj_span json, struct mj_span front, struct mj__note *out)
{
    static const struct mj_span key = {(const uint8_t *)seq_key, sizeof seq_key - 1};
    uint64_t back, seq;
    if (!mj_span_starts(json, front))
        return false;
    struct mj_span rest = mj_span(json.ptr + front.len, json.len - front.len);
    if (!take_digits(&rest, &back) || back < 1 || back > UINT32_MAX || !mj_span_starts(rest, key))
        return false;
    rest = mj_span(rest.ptr + key.len, rest.len - key.len);
    if (!take_digits(&rest, &seq) || !mj_span_is(rest, "}"))
        return false;
    *out = (struct mj__note){.back = (uint32_t)back, .upstream_seq = (int64_t)seq};
    return true;
}

int mj__note_take(struct mj_span json, struct mj__note *out)
{
    struct mj_span rest = json, object, key, raw;
    int64_t back = 0, seq = 0;
    struct mj__note note = {0};
    if (mj_json_take(&rest, &object) != MJ_JSON_OBJECT || rest.len)
        return MJ_ESYNTAX;
    rest = mj_json_inside(object);
    for (int type; (type = mj_json_member(&rest, &key, &raw)) >= 0;) {
        if (type == MJ_JSON_STRING && mj_span_is(key, "\"reader\""))
            note.reader = raw;
        else if (type == MJ_JSON_NUMBER && mj_span_is(key, "\"back\"") && mj_span_i64(raw, &back))
            return MJ_EINVAL;
        else if (type == MJ_JSON_NUMBER && mj_span_is(key, "\"seq\"") && mj_span_i64(raw, &seq))
            return MJ_EINVAL;
    }
    if (!note.reader.len || back < 1 || back > UINT32_MAX)
        return MJ_EINVAL;
    note.back = (uint32_t)back;
    note.upstream_seq = seq;
    *out = note;
    return 0;
}
