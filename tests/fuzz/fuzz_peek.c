/* The peek at a frame against the decoder: what decodes has the seq that the peek saw. */
#include "event/decode.h"
#include "source/peek.h"

static int ignore(void *ctx, struct mj_event *ev)
{
    (void)ctx;
    (void)ev;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct mj_decoder *decoder;
    if (!decoder)
        decoder = mj_decoder_new();
    struct mj_span in = mj_span(data, n);
    struct mj_peek p, all;
    int brief = mj_peek(in, false, &p), whole = mj_peek(in, true, &all);
    if (whole == 0 && (brief || p.seq != all.seq))
        abort();
    if (!brief && p.seq_at.len && (p.seq_at.ptr < data || p.seq_at.ptr + p.seq_at.len > data + n))
        abort();
    struct mj_frame frame;
    if (mj_decode(decoder, in, &frame, ignore, NULL) == 0 && frame.type != MJ_FRAME_UNKNOWN &&
        (whole || all.seq != frame.seq))
        abort();
    return 0;
}
