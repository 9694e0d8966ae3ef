#include "cli/recording.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/err.h"
#include "event/decode.h"
#include "event/from_json.h"
#include "source/capture.h"

typedef int (*event_fn)(void *ctx, struct mj_event *ev);

/* Also tells events from what the decoder itself says. */
struct teller {
    event_fn fn;
    void *ctx;
    int result;
};

static int tell(void *ctx, struct mj_event *ev)
{
    struct teller *t = ctx;
    t->result = t->fn(t->ctx, ev);
    return t->result;
}

static int read_capture(const char *path, struct teller *t, struct mj_buf *error)
{
    struct mj_capture *capture;
    if (mj_capture_open(path, &capture)) {
        mj_buf_printf(error, "%s: %s", path, strerror(errno));
        return MJ_EIO;
    }
    struct mj_decoder *decoder = mj_decoder_new();
    struct mj_span bytes;
    unsigned long long frames = 0, readable = 0;
    int got = 0, err = 0;
    while (t->result >= 0 && (got = mj_capture_next(capture, &bytes)) > 0) {
        struct mj_frame frame;
        frames++;
        readable += !mj_decode(decoder, bytes, &frame, tell, t);
    }
    if (t->result < 0) {
        err = t->result;
    } else if (got < 0) {
        mj_buf_printf(error, "%s: frame %llu: %s", path, frames + 1,
                      got == MJ_EIO      ? strerror(errno)
                      : got == MJ_ETRUNC ? "the file ends inside it"
                      : got == MJ_EBIG   ? "impossible size; is this a capture?"
                                         : "damaged compression");
        err = got;
    } else if (!readable) {
        mj_buf_printf(error, "%s: holds no frame that can be read", path);
        err = MJ_EINVAL;
    }
    mj_capture_close(capture);
    mj_decoder_free(decoder);
    return err;
}

static int read_lines(const char *path, FILE *file, struct teller *t, struct mj_buf *error)
{
    struct mj_from_json *reader = mj_from_json_new();
    char *line = NULL;
    size_t cap = 0, at;
    ssize_t n;
    int err = 0;
    for (unsigned long long number = 1; !err && (n = getline(&line, &cap, file)) >= 0; number++) {
        struct mj_event ev;
        if (!line[strspn(line, " \t\r\n")])
            continue;
        err = mj_event_from_json(reader, mj_span(line, (size_t)n), &ev, &at);
        if (err)
            mj_buf_printf(error, "%s:%llu: no event: %s at byte %zu", path, number,
                          mj_strerror(err), at);
        else if (tell(t, &ev) < 0)
            err = t->result;
    }
    if (!err && ferror(file)) {
        mj_buf_printf(error, "%s: %s", path, strerror(errno));
        err = MJ_EIO;
    }
    free(line);
    mj_from_json_free(reader);
    return err;
}

/* In a capture the fourth byte is the top one of a size that never needs it; zstd's magic number
 * has one there that is no ASCII. In JSON it is neither. */
static bool is_lines(FILE *file)
{
    unsigned char head[4];
    size_t n = fread(head, 1, sizeof head, file);
    rewind(file);
    return n == sizeof head && head[3] != 0 && head[3] < 0x80;
}

int mj_recording_read(const char *path, event_fn fn, void *ctx, struct mj_buf *error)
{
    struct teller t = {.fn = fn, .ctx = ctx};
    struct stat st;
    FILE *file = fopen(path, "re");
    if (!file || fstat(fileno(file), &st) || S_ISDIR(st.st_mode)) {
        mj_buf_printf(error, "%s: %s", path, file ? strerror(EISDIR) : strerror(errno));
        if (file)
            fclose(file);
        return MJ_EIO;
    }
    int err = is_lines(file) ? read_lines(path, file, &t, error) : read_capture(path, &t, error);
    fclose(file);
    return err;
}
