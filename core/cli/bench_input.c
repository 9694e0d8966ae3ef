/* The frames to measure on: a capture, or a simulated network of the same mix. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "cli/bench.h"
#include "event/decode.h"
#include "source/capture.h"
#include "source/simulate.h"

#define SIMULATED_FRAMES 500
#define INPUT_MAX        (256u << 20)

static int count_event(void *ctx, struct mj_event *ev)
{
    (void)ev;
    ++*(size_t *)ctx;
    return 0;
}

/* `sizes` holds each frame's length in order. */
static void index_frames(struct mj_bench_frames *out, const size_t *sizes)
{
    out->frames = mj_calloc(out->count, sizeof *out->frames);
    size_t at = 0;
    struct mj_decoder *d = mj_decoder_new();
    for (size_t i = 0; i < out->count; i++) {
        struct mj_frame frame;
        out->frames[i] = mj_span(out->bytes.ptr + at, sizes[i]);
        at += sizes[i];
        mj_decode(d, out->frames[i], &frame, count_event, &out->events);
    }
    mj_decoder_free(d);
}

static int simulate(struct mj_bench_frames *out)
{
    char path[] = "/tmp/moonjet-bench-XXXXXX";
    int fd = mkstemp(path);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!f) {
        perror("moonjet bench: temporary capture");
        return MJ_EIO;
    }
    out->path = mj_strdup(path);
    out->temporary = true;
    struct mj_simulate_cfg cfg = {
        .seed = 1, .accounts = 200, .start_us = 1783175888000000, .step_us = 2000};
    struct mj_simulate *sim;
    int err = mj_simulate_new(&cfg, &sim);
    size_t sizes[SIMULATED_FRAMES];
    struct mj_buf file = {0};
    while (!err && out->count < SIMULATED_FRAMES) {
        struct mj_span frame;
        mj_simulate_next(sim, &frame);
        mj_buf_put(&out->bytes, frame.ptr, frame.len);
        mj_capture_put(&file, frame);
        sizes[out->count++] = frame.len;
    }
    if (!err) {
        mj_simulate_free(sim);
        err = fwrite(file.ptr, 1, file.len, f) == file.len ? 0 : MJ_EIO;
    }
    mj_buf_deinit(&file);
    err = fclose(f) && !err ? MJ_EIO : err;
    if (err)
        fprintf(stderr, "moonjet bench: %s: %s\n", path, mj_strerror(err));
    else
        index_frames(out, sizes);
    return err;
}

int mj_bench_load(const char *path, struct mj_bench_frames *out)
{
    *out = (struct mj_bench_frames){0};
    if (!path)
        return simulate(out);
    struct mj_capture *capture;
    if (mj_capture_open(path, &capture)) {
        fprintf(stderr, "moonjet bench: --frames %s: %s\n", path, strerror(errno));
        return MJ_EIO;
    }
    out->path = mj_strdup(path);
    size_t *sizes MJ_AUTO_FREE = NULL;
    struct mj_span frame;
    int r;
    while ((r = mj_capture_next(capture, &frame)) > 0 && out->bytes.len < INPUT_MAX) {
        if ((out->count & (out->count - 1)) == 0)
            sizes = mj_realloc(sizes, (out->count ? out->count * 2 : 1) * sizeof *sizes);
        sizes[out->count++] = frame.len;
        mj_buf_put(&out->bytes, frame.ptr, frame.len);
    }
    mj_capture_close(capture);
    if (r < 0 || !out->count) {
        fprintf(stderr, "moonjet bench: --frames %s: %s\n", path,
                r < 0 ? mj_strerror(r) : "holds no frame");
        return MJ_EIO;
    }
    index_frames(out, sizes);
    return 0;
}

void mj_bench_unload(struct mj_bench_frames *in)
{
    if (in->temporary)
        unlink(in->path);
    free(in->path);
    free(in->frames);
    mj_buf_deinit(&in->bytes);
    *in = (struct mj_bench_frames){0};
}
