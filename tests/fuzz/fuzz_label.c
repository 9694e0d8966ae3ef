/* Labels and queries for them: a label that is read is one that could be published, and comes back
 * from what is written of it; a query is a list of prefixes in order, none inside another. */
#include "atproto/label.h"
#include "base/err.h"
#include "server/label_query.h"

static void as_label(struct mj_span in)
{
    struct mj_label l, again;
    struct mj_span sig, sig_again;
    MJ_AUTO_BUF out = {0};
    if (mj_label_parse(in, &l, &sig))
        return;
    if (mj_label_check(&l))
        abort();
    mj_label_encode(&l, sig, &out);
    if (mj_label_parse(mj_buf_span(&out), &again, &sig_again) || !mj_span_eq(l.uri, again.uri) ||
        !mj_span_eq(l.cid, again.cid) || l.neg != again.neg || !mj_span_eq(sig, sig_again))
        abort();
}

static void as_query(struct mj_span in)
{
    struct mj_label_query q;
    MJ_AUTO_BUF error = {0};
    MJ_AUTO_BUF cursor = {0};
    int err = mj_label_query_parse(in, &q, &error);
    if ((err != 0) != (error.len > 0))
        abort();
    if (!err) {
        if (!q.prefix_count || q.limit < 1 || q.limit > MJ_LABEL_LIMIT_MAX)
            abort();
        for (size_t i = 1; i < q.prefix_count; i++)
            if (mj_span_cmp(q.prefixes[i - 1], q.prefixes[i]) >= 0 ||
                mj_span_starts(q.prefixes[i], q.prefixes[i - 1]))
                abort();
        mj_label_cursor_put(q.cursor, &cursor);
        if (cursor.len != 2 * q.cursor.len)
            abort();
    }
    mj_label_query_deinit(&q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    bool has;
    uint64_t seq;
    as_label(mj_span(data, n));
    as_query(mj_span(data, n));
    mj_label_seq_parse(mj_span(data, n), &has, &seq);
    return 0;
}
