/* State from outside: a file of members, and an entry as a disk might give it back. Members come
 * out as they went in, whatever the file was; an entry that is accepted is the same after writing
 * and reading it again, and never larger than what may be kept. */
#include "state/codec.h"
#include "state/members.h"

static void as_file(struct mj_span in)
{
    struct mj_members m = {0};
    struct mj_members again = {0};
    MJ_AUTO_BUF error = {0};
    MJ_AUTO_BUF text = {0};
    size_t n = 0;
    int err = mj_members_parse(&m, in, &error);
    if ((err != 0) != (error.len != 0))
        abort();
    struct mj_span rest = mj_buf_span(&m.bytes), member;
    while (mj_members_next(&rest, &member)) {
        if (!member.len || member.len > MJ_STATE_KEY_MAX || member.ptr[0] == '#' ||
            memchr(member.ptr, '\n', member.len) || memchr(member.ptr, 0, member.len))
            abort();
        mj_buf_put(&text, member.ptr, member.len);
        mj_buf_putc(&text, '\n');
        n++;
    }
    if (rest.len || n != m.count || text.len > in.len + 1)
        abort();
    /* A first member may begin with the mark that is skipped at the start of a file. */
    if (text.len >= 3 && !memcmp(text.ptr, "\xef\xbb\xbf", 3))
        goto out;
    if (mj_members_parse(&again, mj_buf_span(&text), &error) || again.count != m.count ||
        again.hash != m.hash)
        abort();
out:
    mj_members_deinit(&m);
    mj_members_deinit(&again);
}

static void as_entry(struct mj_span in)
{
    struct mj_codec_cell cell;
    uint8_t key[MJ_CODEC_KEY_MAX];
    MJ_AUTO_BUF out = {0};
    if (mj_codec_take(in, &cell))
        return;
    if (cell.key.len > MJ_STATE_KEY_MAX || cell.text.len > MJ_STATE_VALUE_MAX || cell.written < 0 ||
        cell.ttl_us < 0)
        abort();
    mj_codec_put(&out, &cell);
    if (!mj_span_eq(mj_buf_span(&out), in))
        abort();
    if (mj_codec_key(7, cell.key, key) > sizeof key)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    as_file(mj_span(data, n));
    as_entry(mj_span(data, n));
    return 0;
}
