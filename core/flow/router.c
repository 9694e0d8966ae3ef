#include "flow/router.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/metrics.h"
#include "event/jetstream.h"

struct mj_router {
    struct mj_tail *tail; /* borrowed */
    struct mj_decoder *decoder;
    struct mj_buf json;
    struct mj_metric *frames[MJ_FRAME_TYPE_COUNT];
    struct mj_metric *events;
    struct mj_metric *drops[MJ_ERR_MAX];
    struct mj_log_gate drop_gate;
};

static void count_drop(struct mj_router *r, int reason, const char *what)
{
    unsigned i = reason < 0 && -reason < MJ_ERR_MAX ? (unsigned)-reason : 0;
    if (!r->drops[i])
        r->drops[i] = mj_metric("moonjet_drops_total", MJ_COUNTER,
                                "Frames and operations dropped, by reason.", "reason=\"%s\"",
                                mj_errlabel(reason));
    mj_metric_add(r->drops[i], 1);
    mj_log_limited(&r->drop_gate, 5, MJ_LOG_DEBUG, "router", "dropped %s: %s", what,
                   mj_strerror(reason));
}

static void on_drop(void *ctx, int reason, struct mj_span path)
{
    (void)path;
    count_drop(ctx, reason, "operation");
}

struct mj_router *mj_router_new(struct mj_tail *tail)
{
    static const char *const names[] = {"unknown", "commit", "sync", "identity",
                                        "account", "info",   "error"};
    struct mj_router *r = mj_calloc(1, sizeof *r);
    r->tail = tail;
    r->decoder = mj_decoder_new();
    mj_decoder_on_drop(r->decoder, on_drop, r);
    for (int i = 0; i < MJ_FRAME_TYPE_COUNT; i++)
        r->frames[i] = mj_metric("moonjet_frames_total", MJ_COUNTER,
                                 "Firehose frames received, by type.", "type=\"%s\"", names[i]);
    r->events = mj_metric("moonjet_events_total", MJ_COUNTER, "Events decoded.", NULL);
    return r;
}

void mj_router_free(struct mj_router *r)
{
    if (!r)
        return;
    mj_decoder_free(r->decoder);
    mj_buf_deinit(&r->json);
    free(r);
}

static int on_event(void *ctx, struct mj_event *ev)
{
    struct mj_router *r = ctx;
    ev->time_us = mj_tail_next_time(r->tail);
    mj_metric_add(r->events, 1);
    r->json.len = 0;
    int err = mj_jetstream_encode(ev, NULL, &r->json);
    if (err) {
        count_drop(r, err, "operation");
        return 0;
    }
    struct mj_entry entry = {
        .time_us = ev->time_us,
        .upstream_seq = ev->seq,
        .did_hash = mj_hash(ev->did),
        .streams = UINT64_C(1) << MJ_STREAM_MAIN,
        .collection = ev->collection.len ? mj_collection_id(ev->collection) : 0,
        .kind = (uint8_t)ev->kind,
        .op = (uint8_t)ev->op,
    };
    return mj_tail_append(r->tail, &entry, mj_buf_span(&r->json));
}

int mj_router_frame(struct mj_router *r, struct mj_span frame, struct mj_frame *out)
{
    int err = mj_decode(r->decoder, frame, out, on_event, r);
    mj_metric_add(r->frames[out->type], 1);
    if (err)
        count_drop(r, err, "frame");
    return err;
}

void mj_router_flush(struct mj_router *r) { mj_tail_publish(r->tail); }
