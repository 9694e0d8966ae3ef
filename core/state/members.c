#include "state/members.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/hash.h"
#include "state/cells.h"

void mj_members_deinit(struct mj_members *m)
{
    mj_buf_deinit(&m->bytes);
    *m = (struct mj_members){0};
}

int mj_members_add(struct mj_members *m, struct mj_span text)
{
    uint32_t len = (uint32_t)text.len;
    if (!text.len)
        return MJ_EINVAL;
    if (text.len > MJ_STATE_KEY_MAX)
        return MJ_EBIG;
    if (mj_buf_try_reserve(&m->bytes, sizeof len + text.len))
        return MJ_ENOMEM;
    mj_buf_put(&m->bytes, &len, sizeof len);
    mj_buf_put(&m->bytes, text.ptr, text.len);
    m->count++;
    m->hash = (m->hash ^ mj_hash(text)) * UINT64_C(0x9e3779b97f4a7c15);
    return 0;
}

bool mj_members_next(struct mj_span *rest, struct mj_span *text)
{
    uint32_t len;
    if (rest->len < sizeof len)
        return false;
    memcpy(&len, rest->ptr, sizeof len);
    *text = mj_span(rest->ptr + sizeof len, len);
    *rest = mj_span(rest->ptr + sizeof len + len, rest->len - sizeof len - len);
    return true;
}

static bool is_blank(uint8_t c) { return c == ' ' || c == '\t' || c == '\r'; }

/* The member on a line; empty when there is none. */
static struct mj_span member_of(struct mj_span line)
{
    for (size_t i = 0; i < line.len; i++)
        if (line.ptr[i] == '#' && (i == 0 || is_blank(line.ptr[i - 1])))
            line.len = i;
    while (line.len && is_blank(line.ptr[line.len - 1]))
        line.len--;
    while (line.len && is_blank(line.ptr[0]))
        line = mj_span(line.ptr + 1, line.len - 1);
    return line;
}

int mj_members_parse(struct mj_members *m, struct mj_span text, struct mj_buf *error)
{
    size_t number = 0;
    if (mj_span_starts(text, MJ_SPAN("\xef\xbb\xbf"))) /* a mark some editors leave */
        text = mj_span(text.ptr + 3, text.len - 3);
    while (text.len) {
        const uint8_t *end = memchr(text.ptr, '\n', text.len);
        struct mj_span line = mj_span(text.ptr, end ? (size_t)(end - text.ptr) : text.len);
        text = mj_span(text.ptr + line.len + !!end, text.len - line.len - !!end);
        number++;
        struct mj_span member = member_of(line);
        if (!member.len)
            continue;
        if (memchr(member.ptr, 0, member.len)) {
            mj_buf_printf(error, "line %zu: a zero byte; this is not a text file", number);
            return MJ_ESYNTAX;
        }
        int err = mj_members_add(m, member);
        if (err == MJ_EBIG)
            mj_buf_printf(error, "line %zu: a member of %zu bytes; at most %u are allowed", number,
                          member.len, MJ_STATE_KEY_MAX);
        else if (err)
            mj_buf_printf(error, "line %zu: %s", number, mj_strerror(err));
        if (err)
            return err;
    }
    return 0;
}

static int read_all(int fd, struct mj_buf *out)
{
    struct stat st;
    if (fstat(fd, &st))
        return MJ_EIO;
    if (!S_ISREG(st.st_mode)) {
        errno = S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
        return MJ_EIO;
    }
    for (;;) {
        if (out->len > MJ_MEMBERS_FILE_MAX)
            return MJ_EBIG;
        if (mj_buf_try_reserve(out, (size_t)st.st_size > out->len ? (size_t)st.st_size + 1 : 65536))
            return MJ_ENOMEM;
        ssize_t n = read(fd, out->ptr + out->len, out->cap - out->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? MJ_EIO : 0;
        out->len += (size_t)n;
    }
}

int mj_members_read(struct mj_members *m, const char *path, struct mj_buf *error)
{
    MJ_AUTO_BUF text = {0};
    MJ_AUTO_BUF why = {0};
    /* Not blocking: a pipe without a writer is no file, and nothing to wait for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int err = fd < 0 ? MJ_EIO : read_all(fd, &text);
    if (err == MJ_EIO)
        mj_buf_printf(error, "cannot read %s: %s", path, strerror(errno));
    else if (err == MJ_EBIG)
        mj_buf_printf(error, "%s: larger than %zu MiB", path, MJ_MEMBERS_FILE_MAX >> 20);
    else if (err)
        mj_buf_printf(error, "%s: %s", path, mj_strerror(err));
    if (fd >= 0)
        close(fd);
    if (err)
        return err;
    err = mj_members_parse(m, mj_buf_span(&text), &why);
    if (err)
        mj_buf_printf(error, "%s: %s", path, mj_buf_cstr(&why));
    return err;
}
