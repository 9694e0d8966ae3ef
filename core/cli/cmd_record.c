/* moonjet record: a firehose into a capture. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cli/commands.h"
#include "source/capture.h"
#include "source/firehose.h"

struct cfg {
    const char *output, *on_future;
    int64_t frames, cursor;
};

struct run {
    struct mj_loop *loop; /* borrowed */
    struct mj_decoder *decoder;
    int fd;
    int64_t limit; /* frames; 0 = none */
    int64_t frames, bytes, since_us, shown_frames;
    struct mj_buf out;
    int status;
};

static int ignore_event(void *ctx, struct mj_event *ev)
{
    (void)ctx;
    (void)ev;
    return 0;
}

/* Everything is kept as it came, damaged frames included; only error frames are not, because they
 * speak about a connection and would end every replay. */
static int on_frame(void *ctx, struct mj_span frame, struct mj_frame *out)
{
    struct run *run = ctx;
    int err = mj_decode(run->decoder, frame, out, ignore_event, NULL);
    if (out->type == MJ_FRAME_ERROR || (run->limit && run->frames >= run->limit))
        return err;
    mj_capture_put(&run->out, frame);
    run->frames++;
    run->bytes += (int64_t)frame.len;
    if (run->limit && run->frames >= run->limit)
        mj_loop_stop(run->loop);
    return err;
}

static void on_flush(void *ctx)
{
    struct run *run = ctx;
    for (size_t at = 0; at < run->out.len;) {
        ssize_t n = write(run->fd, run->out.ptr + at, run->out.len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            if (errno != EPIPE) {
                fprintf(stderr, "moonjet record: cannot write: %s\n", strerror(errno));
                run->status = MJ_EXIT_FAILED;
            }
            mj_loop_stop(run->loop);
            break;
        }
        at += (size_t)n;
    }
    run->out.len = 0;
}

static void on_stopped(void *ctx)
{
    struct run *run = ctx;
    run->status = MJ_EXIT_FUTURE_CURSOR;
    mj_loop_stop(run->loop);
}

static void show_progress(void *ctx)
{
    struct run *run = ctx;
    int64_t now = mj_mono_us();
    double seconds = (double)(now - run->since_us) / 1e6;
    fprintf(stderr, "\r%lld frames, %.1f MB, %.0f/s \033[K", (long long)run->frames,
            (double)run->bytes / 1e6, (double)(run->frames - run->shown_frames) / seconds);
    run->since_us = now;
    run->shown_frames = run->frames;
}

static int record_main(const struct mj_command *cmd, int argc, char **argv)
{
    static char long_form[] = "--output";
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "-o") == 0)
            argv[i] = long_form;
    struct cfg cfg = {0};
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    int on_future = mj_on_future_parse(cfg.on_future);
    if (on_future < 0 || cfg.frames < 0) {
        fprintf(stderr, "moonjet record: %s\n",
                on_future < 0 ? "--on-future-cursor is stop, live or oldest"
                              : "--frames cannot be negative");
        return MJ_EXIT_USAGE;
    }
    bool to_stdout = !cfg.output || strcmp(cfg.output, "-") == 0;
    if (to_stdout && isatty(STDOUT_FILENO)) {
        fprintf(stderr, "moonjet record: captures are not for terminals: use -o FILE\n");
        return MJ_EXIT_USAGE;
    }
    struct run run = {.limit = cfg.frames, .fd = STDOUT_FILENO};
    if (!to_stdout)
        run.fd = open(cfg.output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (run.fd < 0) {
        fprintf(stderr, "moonjet record: cannot create %s: %s\n", cfg.output, strerror(errno));
        return MJ_EXIT_FAILED;
    }
    run.decoder = mj_decoder_new();
    run.loop = mj_loop_new();
    mj_loop_stop_on_signals(run.loop);
    struct mj_firehose_cfg source = {
        .url = pos.v[0],
        .cursor = cfg.cursor,
        .on_future = (enum mj_on_future)on_future,
        .frame = on_frame,
        .flush = on_flush,
        .stopped = on_stopped,
        .ctx = &run,
    };
    struct mj_firehose *f = NULL;
    int err = mj_firehose_new(run.loop, &source, &f);
    if (err) {
        fprintf(stderr, "moonjet record: '%s' is not a URL like wss://bsky.network\n", pos.v[0]);
        run.status = MJ_EXIT_USAGE;
    } else {
        bool show = isatty(STDERR_FILENO);
        run.since_us = mj_mono_us();
        if (show)
            mj_loop_every(run.loop, 1000, show_progress, &run);
        mj_loop_run(run.loop);
        on_flush(&run);
        fprintf(stderr, "%s%lld frames, %lld bytes, last seq %lld\n", show ? "\r\033[K" : "",
                (long long)run.frames, (long long)run.bytes, (long long)mj_firehose_cursor(f));
    }
    mj_firehose_free(f);
    mj_loop_free(run.loop);
    mj_decoder_free(run.decoder);
    mj_buf_deinit(&run.out);
    if (!to_stdout && close(run.fd) && !run.status) {
        fprintf(stderr, "moonjet record: cannot write %s: %s\n", cfg.output, strerror(errno));
        run.status = MJ_EXIT_FAILED;
    }
    return run.status;
}

static const struct mj_option options[] = {
    {"output", MJ_OPT_STR, offsetof(struct cfg, output), "FILE",
     "where to write (also -o); stdout if absent"},
    {"frames", MJ_OPT_INT, offsetof(struct cfg, frames), "N", "end after N frames"},
    {"cursor", MJ_OPT_INT, offsetof(struct cfg, cursor), "SEQ",
     "start after this seq; 0 = the oldest there is, -1 = live", .def = "-1"},
    {"on-future-cursor", MJ_OPT_STR, offsetof(struct cfg, on_future), "stop|live|oldest",
     "when the cursor is ahead of the server", .def = "stop"},
    {0}};

const struct mj_command mj_cmd_record = {
    .name = "record",
    .usage = "URL",
    .summary = "Write a firehose into a capture.",
    .details =
        "Every frame as it came, behind its size (u32, little endian). Lost connections are\n"
        "resumed where they broke. Ends on SIGINT or SIGTERM with the file complete; exit\n"
        "status 3 when the server says that the cursor is ahead of it.",
    .options = options,
    .positional_min = 1,
    .positional_max = 1,
    .main = record_main,
};
