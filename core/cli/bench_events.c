/* The events that the cases append: those of the frames, over and over. */
#include "base/hash.h"
#include "cli/bench_net.h"
#include "event/decode.h"
#include "event/jetstream.h"

static const char did_key[] = "{\"did\":\"";

static int keep_event(void *ctx, struct mj_event *ev)
{
    struct mj_bench_events *e = ctx;
    if (e->count == e->cap) {
        e->cap = e->cap ? 2 * e->cap : 256;
        e->items = mj_realloc(e->items, e->cap * sizeof *e->items);
    }
    size_t at = e->json.len;
    ev->time_us = INT64_C(1783175888123456);
    if (mj_jetstream_encode(ev, NULL, &e->json)) {
        e->json.len = at;
        return 0;
    }
    e->items[e->count++] = (struct mj_bench_event){
        .at = at,
        .len = e->json.len - at,
        .did_hash = mj_hash(ev->did),
        .collection = ev->collection.len ? mj_collection_id(ev->collection) : 0,
        .kind = (uint8_t)ev->kind,
        .op = (uint8_t)ev->op,
    };
    return 0;
}

void mj_bench_events_collect(const struct mj_bench *b, struct mj_bench_events *e)
{
    struct mj_decoder *decoder = mj_decoder_new();
    struct mj_frame frame;
    for (size_t i = 0; i < b->in->count; i++)
        mj_decode(decoder, b->in->frames[i], &frame, keep_event, e);
    mj_decoder_free(decoder);
}

void mj_bench_events_deinit(struct mj_bench_events *e)
{
    mj_buf_deinit(&e->json);
    free(e->items);
    *e = (struct mj_bench_events){0};
}

size_t mj_bench_event_append(struct mj_journal *j, const struct mj_bench_events *e, size_t n,
                             uint64_t streams)
{
    if (!e->count)
        return 0;
    const struct mj_bench_event *it = &e->items[n % e->count];
    struct mj_append a = {.time_us = mj_journal_next_time(j),
                          .did_hash = it->did_hash,
                          .streams = streams,
                          .collection = it->collection,
                          .kind = it->kind,
                          .op = it->op};
    return mj_journal_append(j, &a, mj_span(e->json.ptr + it->at, it->len)) ? 0 : it->len;
}

void mj_bench_did(uint32_t number, char out[MJ_BENCH_DID_LEN + 1])
{
    memcpy(out, "did:plc:", 8);
    uint64_t x = number;
    for (int i = 8; i < MJ_BENCH_DID_LEN; i++, x /= 32)
        out[i] = "abcdefghijklmnopqrstuvwxyz234567"[(x + (uint64_t)i) % 32];
    out[MJ_BENCH_DID_LEN] = '\0';
}

bool mj_bench_event_did(struct mj_bench_events *e, size_t n, uint32_t number)
{
    if (!e->count)
        return false;
    struct mj_bench_event *it = &e->items[n % e->count];
    uint8_t *at = e->json.ptr + it->at + sizeof did_key - 1;
    char did[MJ_BENCH_DID_LEN + 1];
    if (it->len < sizeof did_key + MJ_BENCH_DID_LEN || at[MJ_BENCH_DID_LEN] != '"')
        return false;
    mj_bench_did(number, did);
    memcpy(at, did, MJ_BENCH_DID_LEN);
    it->did_hash = mj_hash(mj_span(did, MJ_BENCH_DID_LEN));
    return true;
}
