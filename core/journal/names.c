#include "journal/names.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

struct mj_name {
    size_t len;
    uint8_t text[];
};

void mj_names_init(struct mj_names *n, size_t first, size_t max, size_t longest)
{
    *n = (struct mj_names){.first = first, .max = max, .longest = longest, .fd = -1};
    n->items = mj_calloc(max, sizeof *n->items);
}

void mj_names_deinit(struct mj_names *n)
{
    for (size_t i = 0; i < mj_names_count(n); i++)
        free(atomic_load_explicit(&n->items[i], memory_order_relaxed));
    free(n->items);
    if (n->fd >= 0)
        close(n->fd);
    mj_buf_deinit(&n->pending);
    *n = (struct mj_names){.fd = -1};
}

static int put(struct mj_names *n, struct mj_span text)
{
    size_t i = mj_names_count(n);
    if (i == n->max || !text.len || text.len > n->longest)
        return MJ_ELIMIT;
    for (size_t k = 0; k < text.len; k++)
        if (text.ptr[k] < 0x20)
            return MJ_ELIMIT;
    struct mj_name *name = mj_alloc(sizeof *name + text.len);
    name->len = text.len;
    memcpy(name->text, text.ptr, text.len);
    atomic_store_explicit(&n->items[i], name, memory_order_release);
    atomic_store_explicit(&n->count, i + 1, memory_order_release);
    return (int)(i + n->first);
}

static int read_all(int fd, struct mj_buf *out, size_t most)
{
    for (;;) {
        if (out->len > most)
            return MJ_ESYNTAX;
        mj_buf_reserve(out, 65536);
        ssize_t got = read(fd, out->ptr + out->len, out->cap - out->len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return MJ_EIO;
        if (got == 0)
            return 0;
        out->len += (size_t)got;
    }
}

int mj_names_load(struct mj_names *n, int dir, const char *name, bool read_only)
{
    int flags = read_only ? O_RDONLY | O_CLOEXEC : O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC;
    n->fd = openat(dir, name, flags, 0600);
    if (n->fd < 0)
        return read_only && errno == ENOENT ? 0 : MJ_EIO;
    MJ_AUTO_BUF text = {0};
    int err = read_all(n->fd, &text, n->max * (n->longest + 1));
    if (err)
        return err;
    size_t at = 0;
    const uint8_t *end;
    while (at < text.len && (end = memchr(text.ptr + at, '\n', text.len - at))) {
        size_t len = (size_t)(end - text.ptr) - at;
        if (put(n, mj_span(text.ptr + at, len)) < 0)
            break;
        at += len + 1;
    }
    n->good = at;
    return 0;
}

int mj_names_cut(struct mj_names *n)
{
    return ftruncate(n->fd, (off_t)n->good) || fdatasync(n->fd) ? MJ_EIO : 0;
}

int mj_names_find(const struct mj_names *n, struct mj_span name)
{
    for (size_t i = 0; i < mj_names_count(n); i++)
        if (mj_span_eq(mj_names_get(n, i + n->first), name))
            return (int)(i + n->first);
    return MJ_ENOENT;
}

int mj_names_add(struct mj_names *n, struct mj_span name)
{
    int id = put(n, name);
    if (id >= 0 && n->fd >= 0) {
        mj_buf_put(&n->pending, name.ptr, name.len);
        mj_buf_putc(&n->pending, '\n');
    }
    return id;
}

int mj_names_write(struct mj_names *n, bool sync)
{
    while (n->pending.len) {
        ssize_t wrote = write(n->fd, n->pending.ptr, n->pending.len);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return MJ_EIO;
        mj_buf_shift(&n->pending, (size_t)wrote);
    }
    return sync && n->fd >= 0 && fdatasync(n->fd) ? MJ_EIO : 0;
}

struct mj_span mj_names_get(const struct mj_names *n, size_t number)
{
    if (number < n->first || number - n->first >= mj_names_count(n))
        return mj_span(NULL, 0);
    struct mj_name *name = atomic_load_explicit(&n->items[number - n->first], memory_order_acquire);
    return mj_span(name->text, name->len);
}
