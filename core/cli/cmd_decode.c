/* moonjet decode: recorded frames to Jetstream v1 JSON, one line per event. What cannot be decoded
 * is told on stderr and does not stop the rest. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "atproto/syntax.h"
#include "base/err.h"
#include "cli/commands.h"
#include "event/decode.h"
#include "event/jetstream.h"
#include "source/capture.h"

#define FLUSH_BYTES (64u << 10)

struct run {
    uint64_t number; /* of the frame, from 1 */
    uint64_t readable;
    struct mj_buf out;
};

static void on_drop(void *ctx, int reason, struct mj_span path)
{
    struct run *run = ctx;
    fprintf(stderr, "moonjet decode: frame %llu: operation %.*s: %s\n",
            (unsigned long long)run->number, path.len > 900 ? 900 : (int)path.len,
            path.len ? (const char *)path.ptr : "", mj_strerror(reason));
}

static int on_event(void *ctx, struct mj_event *ev)
{
    struct run *run = ctx;
    int err = mj_datetime_us(ev->time, &ev->time_us);
    if (!err)
        err = mj_jetstream_encode(ev, NULL, &run->out);
    if (err) {
        MJ_AUTO_BUF path = {0};
        mj_buf_put(&path, ev->collection.ptr, ev->collection.len);
        mj_buf_putc(&path, '/');
        mj_buf_put(&path, ev->rkey.ptr, ev->rkey.len);
        on_drop(run, err, mj_buf_span(&path));
        return 0;
    }
    mj_buf_putc(&run->out, '\n');
    return 0;
}

/* False when nobody reads any more, or writing failed (errno). */
static bool flush(struct mj_buf *out)
{
    for (size_t at = 0; at < out->len;) {
        ssize_t n = write(STDOUT_FILENO, out->ptr + at, out->len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        at += (size_t)n;
    }
    out->len = 0;
    return true;
}

static int decode_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, NULL, &pos);
    if (r)
        return r;
    const char *path = pos.n ? pos.v[0] : "-";
    struct mj_capture *capture;
    if (mj_capture_open(path, &capture)) {
        fprintf(stderr, "moonjet decode: cannot open %s: %s\n", path, strerror(errno));
        return MJ_EXIT_FAILED;
    }
    struct run run = {0};
    struct mj_decoder *decoder = mj_decoder_new();
    mj_decoder_on_drop(decoder, on_drop, &run);
    struct mj_span bytes;
    bool open = true;
    int got = 1;
    while (open && (got = mj_capture_next(capture, &bytes)) > 0) {
        struct mj_frame frame;
        run.number++;
        int err = mj_decode(decoder, bytes, &frame, on_event, &run);
        if (err)
            fprintf(stderr, "moonjet decode: frame %llu: %s\n", (unsigned long long)run.number,
                    mj_strerror(err));
        run.readable += !err;
        if (run.out.len >= FLUSH_BYTES || !mj_capture_ready(capture))
            open = flush(&run.out);
    }
    if (open)
        open = flush(&run.out);
    int status = run.readable ? MJ_EXIT_OK : MJ_EXIT_FAILED;
    if (!open && errno != EPIPE) {
        fprintf(stderr, "moonjet decode: cannot write: %s\n", strerror(errno));
        status = MJ_EXIT_FAILED;
    }
    if (got < 0)
        fprintf(stderr, "moonjet decode: frame %llu: %s\n", (unsigned long long)run.number + 1,
                got == MJ_EIO      ? strerror(errno)
                : got == MJ_ETRUNC ? "the input ends inside it"
                : got == MJ_EBIG   ? "impossible size; is this a capture?"
                                   : "damaged compression");
    else if (!run.readable && !run.number)
        fprintf(stderr, "moonjet decode: no frames in %s\n", pos.n ? path : "the input");
    mj_capture_close(capture);
    mj_decoder_free(decoder);
    mj_buf_deinit(&run.out);
    return status;
}

static const struct mj_option options[] = {{0}};

const struct mj_command mj_cmd_decode = {
    .name = "decode",
    .usage = "[FILE]",
    .summary = "Recorded frames (FILE or stdin) as Jetstream JSON lines.",
    .details =
        "Reads a capture as `moonjet record` writes it, each frame behind its size (u32, little\n"
        "endian); one compressed with zstd is decompressed. time_us is the frame's own time. Bad\n"
        "frames and operations are reported on stderr with the frame's number. Exit status 0\n"
        "unless not a single frame could be read.",
    .options = options,
    .positional_max = 1,
    .main = decode_main,
};
