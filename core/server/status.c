/* What monitors ask: /_health for machines that decide by its age fields, /status for people. */
#include <zstd.h>

#include "base/clock.h"
#include "server/internal.h"

/* What both begin with. */
static void put_freshness(struct mj_server *s, struct mj_buf *json)
{
    if (s->last_event_us)
        mj_buf_printf(json, ",\"last_event_age_seconds\":%.3f",
                      (double)(mj_mono_us() - s->last_event_us) / 1e6);
    else
        mj_buf_puts(json, ",\"last_event_age_seconds\":null");
}

void mj__health(struct mj_server *s, struct mj_buf *json)
{
    mj_buf_printf(json, "{\"status\":\"ok\",\"version\":\"%s\",\"subscribers\":%zu",
                  MOONJET_VERSION, s->sub_count);
    put_freshness(s, json);
    mj_buf_printf(json, ",\"oldest_seq\":%llu,\"next_seq\":%llu", (unsigned long long)s->view.floor,
                  (unsigned long long)s->view.end);
    if (s->cfg.health)
        s->cfg.health(s->cfg.health_ctx, json);
    mj_buf_puts(json, "}\n");
}

static void put_subscribers(struct mj_server *s, struct mj_buf *json)
{
    size_t by_stream[MJ_STREAMS_MAX] = {0}, by_codec[MJ_CODECS] = {0}, replaying = 0;
    for (size_t i = 0; i < s->sub_count; i++) {
        const struct mj_sub *sub = s->subs[i];
        by_stream[sub->class->stream]++;
        by_codec[sub->class->codec]++;
        replaying += sub->replaying;
    }
    size_t n = mj_streams_count(s->cfg.streams);
    mj_buf_puts(json, ",\"streams\":[");
    for (size_t i = 0; i < n; i++) {
        mj_buf_puts(json, i ? ",{\"name\":" : "{\"name\":");
        mj_buf_put_json(json, mj_str(mj_streams_name(s->cfg.streams, i)));
        mj_buf_printf(json, ",\"subscribers\":%zu}", by_stream[mj_streams_bit(s->cfg.streams, i)]);
    }
    mj_buf_printf(json,
                  "],\"subscribers\":{\"total\":%zu,\"text\":%zu,\"zstd\":%zu,\"live\":%zu,"
                  "\"replaying\":%zu,\"classes\":%u,\"addresses\":%zu}",
                  s->sub_count, by_codec[MJ_CODEC_TEXT], by_codec[MJ_CODEC_ZSTD], s->live_count,
                  replaying, s->classes.count, s->hosts.count);
}

static void put_journal(struct mj_server *s, struct mj_buf *json)
{
    struct mj_journal_window w;
    mj_journal_window(s->cfg.journal, &w);
    mj_buf_printf(json,
                  ",\"journal\":{\"on_disk\":%s,\"oldest_seq\":%llu,\"next_seq\":%llu,"
                  "\"durable_seq\":%llu,\"oldest_time_us\":%lld,\"newest_time_us\":%lld,",
                  w.on_disk ? "true" : "false", (unsigned long long)w.floor,
                  (unsigned long long)w.end, (unsigned long long)w.durable, (long long)w.floor_us,
                  (long long)w.newest_us);
    mj_buf_printf(json,
                  "\"plain_bytes\":%lld,\"sealed_bytes\":%lld,\"index_bytes\":%lld,"
                  "\"segments\":%zu,\"sealed_segments\":%zu}",
                  (long long)w.plain_bytes, (long long)w.sealed_bytes, (long long)w.index_bytes,
                  w.segments, w.sealed_segments);
}

void mj__status(struct mj_server *s, struct mj_buf *json)
{
    mj_buf_printf(json,
                  "{\"version\":\"%s\",\"versions\":{\"moonjet\":\"%s\",\"libwebsockets\":\"%s\","
                  "\"zstd\":\"%s\"},\"uptime_seconds\":%.0f,\"zstd\":%s",
                  MOONJET_VERSION, MOONJET_VERSION, lws_get_library_version(), ZSTD_versionString(),
                  (double)(mj_now_us() - s->started_us) / 1e6, s->packer ? "true" : "false");
    put_freshness(s, json);
    put_subscribers(s, json);
    put_journal(s, json);
    if (s->cfg.health)
        s->cfg.health(s->cfg.health_ctx, json);
    mj_buf_puts(json, "}\n");
}
