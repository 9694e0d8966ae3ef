/* The text of a note. It lies in the journal's files, so what comes back is checked like anything
 * from a disk. */
#include "base/json.h"
#include "journal/reader_internal.h"

void mj__note_put(struct mj_buf *out, const char *reader, unsigned back, int64_t upstream_seq)
{
    mj_buf_puts(out, "{\"reader\":");
    mj_buf_put_json(out, mj_str(reader));
    mj_buf_printf(out, ",\"back\":%u,\"seq\":%lld}", back, (long long)upstream_seq);
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
