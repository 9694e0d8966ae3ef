#include "source/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/err.h"

#define READ_BYTES (256u << 10)

struct mj_capture {
    int fd;
    bool started, ended;
    ZSTD_DStream *zstd;   /* owned; NULL for plain input */
    size_t zstd_hint;     /* 0 = at the end of a compressed frame */
    struct mj_buf packed; /* compressed input */
    size_t packed_at;
    struct mj_buf in; /* plain bytes; those before `at` have been handed out */
    size_t at;
};

int mj_capture_open(const char *path, struct mj_capture **out)
{
    int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return MJ_EIO;
    struct mj_capture *c = mj_calloc(1, sizeof *c);
    c->fd = fd;
    *out = c;
    return 0;
}

void mj_capture_progress(const struct mj_capture *c, uint64_t *done, uint64_t *all)
{
    struct stat st;
    off_t at = lseek(c->fd, 0, SEEK_CUR);
    bool known = at >= 0 && fstat(c->fd, &st) == 0 && S_ISREG(st.st_mode);
    *done = known ? (uint64_t)at : 0;
    *all = known ? (uint64_t)st.st_size : 0;
}

void mj_capture_close(struct mj_capture *c)
{
    if (!c)
        return;
    if (c->fd != STDIN_FILENO)
        close(c->fd);
    ZSTD_freeDStream(c->zstd);
    mj_buf_deinit(&c->packed);
    mj_buf_deinit(&c->in);
    free(c);
}

/* Bytes appended to b, 0 at the end, MJ_EIO. */
static int64_t read_more(int fd, struct mj_buf *b)
{
    mj_buf_reserve(b, READ_BYTES);
    ssize_t n;
    while ((n = read(fd, b->ptr + b->len, READ_BYTES)) < 0 && errno == EINTR)
        ;
    if (n < 0)
        return MJ_EIO;
    b->len += (size_t)n;
    return n;
}

/* The first read decides what the input is. */
static int64_t begin(struct mj_capture *c)
{
    c->started = true;
    while (c->in.len < 4) {
        int64_t n = read_more(c->fd, &c->in);
        if (n < 0)
            return n;
        if (n == 0)
            break;
    }
    if (!mj_span_starts(mj_buf_span(&c->in), MJ_SPAN("\x28\xb5\x2f\xfd")))
        return (int64_t)c->in.len;
    c->packed = c->in;
    c->in = (struct mj_buf){0};
    c->zstd = ZSTD_createDStream();
    if (!c->zstd)
        return MJ_ENOMEM;
    ZSTD_initDStream(c->zstd);
    return 1;
}

static int64_t unpack_more(struct mj_capture *c)
{
    if (c->packed_at == c->packed.len) {
        c->packed.len = c->packed_at = 0;
        int64_t n = read_more(c->fd, &c->packed);
        if (n < 0)
            return n;
        if (n == 0)
            return c->zstd_hint ? MJ_ETRUNC : 0;
    }
    mj_buf_reserve(&c->in, READ_BYTES);
    ZSTD_inBuffer in = {c->packed.ptr, c->packed.len, c->packed_at};
    ZSTD_outBuffer out = {c->in.ptr + c->in.len, READ_BYTES, 0};
    c->zstd_hint = ZSTD_decompressStream(c->zstd, &out, &in);
    if (ZSTD_isError(c->zstd_hint))
        return MJ_ESYNTAX;
    c->packed_at = in.pos;
    c->in.len += out.pos;
    return 1; /* maybe no bytes yet, but not the end either */
}

/* Positive when there may be more bytes, 0 at the end, or the error. */
static int64_t fill(struct mj_capture *c)
{
    if (c->at) {
        mj_buf_shift(&c->in, c->at);
        c->at = 0;
    }
    if (!c->started)
        return begin(c);
    return c->zstd ? unpack_more(c) : read_more(c->fd, &c->in);
}

static uint32_t size_at(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

bool mj_capture_ready(const struct mj_capture *c)
{
    size_t have = c->in.len - c->at;
    return have >= 4 && have - 4 >= size_at(c->in.ptr + c->at);
}

int mj_capture_next(struct mj_capture *c, struct mj_span *frame)
{
    while (!c->ended) {
        size_t have = c->in.len - c->at;
        uint32_t size = have >= 4 ? size_at(c->in.ptr + c->at) : 0;
        if (size > MJ_CAPTURE_FRAME_MAX) {
            c->ended = true;
            return MJ_EBIG;
        }
        if (have >= 4 && have - 4 >= size) {
            *frame = mj_span(c->in.ptr + c->at + 4, size);
            c->at += 4 + size;
            return 1;
        }
        int64_t n = fill(c);
        if (n <= 0) {
            c->ended = true;
            return n < 0 ? (int)n : have ? MJ_ETRUNC : 0;
        }
    }
    return 0;
}

void mj_capture_put(struct mj_buf *out, struct mj_span frame)
{
    uint32_t n = (uint32_t)frame.len;
    uint8_t size[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};
    mj_buf_put(out, size, sizeof size);
    mj_buf_put(out, frame.ptr, frame.len);
}
