#include "flow/exit.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/hash.h"
#include "event/jetstream.h"

int64_t mj__exit_time(struct mj__exit *e)
{
    if (MJ_LIKELY(e->journal && !e->now_us))
        return mj_journal_next_time(e->journal);
    int64_t now = e->now_us ? e->now_us(e->now_ctx) : mj_now_us();
    e->last_time_us = now > e->last_time_us ? now : e->last_time_us + 1;
    return e->last_time_us;
}

int mj__exit_emit(struct mj__exit *e, const struct mj_event *ev, uint32_t collection,
                  const struct mj__way *way, int *dropped)
{
    e->json.len = 0;
    *dropped = mj_jetstream_encode(ev, NULL, &e->json);
    if (*dropped)
        return 0;
    if (MJ_UNLIKELY(e->watch != NULL))
        e->watch(e->watch_ctx, ev, mj_buf_span(&e->json), way->streams, way->prints);
    for (unsigned i = 0; i < way->prints && !e->silent; i++) {
        fwrite(e->json.ptr, 1, e->json.len, stdout);
        fputc('\n', stdout);
        e->printed = true;
    }
    if ((!way->streams && !way->reader_count) || !e->journal)
        return 0;
    struct mj_append entry = {
        .time_us = ev->time_us,
        .did_hash = mj_hash(ev->did),
        .streams = way->streams,
        .collection = collection,
        .kind = (uint8_t)ev->kind,
        .op = (uint8_t)ev->op,
    };
    int err = mj_journal_append(e->journal, &entry, mj_buf_span(&e->json));
    for (size_t i = 0; i < way->reader_count && !err; i++)
        err = mj_reader_note(way->readers[i], &entry, (unsigned)i + 1, ev->seq);
    return err;
}

int mj__exit_flush(struct mj__exit *e, int source, int64_t upstream_seq)
{
    if (e->printed)
        fflush(stdout);
    e->printed = false;
    if (e->readers)
        mj_readers_publish(e->readers);
    int err = e->journal ? mj_journal_publish(e->journal, source, upstream_seq) : 0;
    if (e->readers && !err)
        mj_readers_published(e->readers);
    return err;
}

void mj__exit_deinit(struct mj__exit *e) { mj_buf_deinit(&e->json); }
