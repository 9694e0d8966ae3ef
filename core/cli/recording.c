#include "cli/recording.h"

#include <errno.h>

#include "base/err.h"
#include "event/decode.h"
#include "source/capture.h"

int mj_recording_read(const char *path, int (*fn)(void *ctx, struct mj_event *ev), void *ctx,
                      struct mj_buf *error)
{
    struct mj_capture *capture;
    if (mj_capture_open(path, &capture)) {
        mj_buf_printf(error, "%s: %s", path, strerror(errno));
        return MJ_EIO;
    }
    struct mj_decoder *decoder = mj_decoder_new();
    struct mj_span bytes;
    uint64_t frames = 0, readable = 0;
    int err = 0, got;
    while (!err && (got = mj_capture_next(capture, &bytes)) > 0) {
        struct mj_frame frame;
        frames++;
        int reason = mj_decode(decoder, bytes, &frame, fn, ctx);
        /* A frame that cannot be decoded hands no event over; anything else is what fn said. */
        if (reason && frame.events)
            err = reason;
        readable += !reason;
    }
    if (!err && got < 0) {
        mj_buf_printf(error, "%s: frame %llu: %s", path, (unsigned long long)frames + 1,
                      got == MJ_EIO      ? strerror(errno)
                      : got == MJ_ETRUNC ? "the file ends inside it"
                      : got == MJ_EBIG   ? "impossible size; is this a capture?"
                                         : "damaged compression");
        err = got;
    } else if (!err && !readable) {
        mj_buf_printf(error, "%s: holds no frame that can be read", path);
        err = MJ_EINVAL;
    }
    mj_capture_close(capture);
    mj_decoder_free(decoder);
    return err;
}
