/* What people ask the control socket about: streams, and who is connected to them. */
#include <linux/tcp.h>
#include <netinet/in.h>

#include "base/clock.h"
#include "base/err.h"
#include "server/internal.h"

#define LIMIT_DEFAULT 1000
#define LIMIT_MAX     20000 /* about 6 MB of JSON; the thread has subscribers to serve */

void mj__list_streams(struct mj_server *s, struct mj_buf *json)
{
    size_t n = mj_streams_count(s->cfg.streams), by_stream[MJ_STREAMS_MAX] = {0};
    for (size_t i = 0; i < s->sub_count; i++)
        by_stream[s->subs[i]->class->stream]++;
    mj_buf_puts(json, "{\"streams\":[");
    for (size_t i = 0; i < n; i++) {
        const char *name = mj_streams_name(s->cfg.streams, i);
        mj_buf_puts(json, i ? ",{\"name\":" : "{\"name\":");
        mj_buf_put_json(json, mj_str(name));
        mj_buf_puts(json, ",\"path\":");
        MJ_AUTO_BUF path = {0};
        if (mj_streams_bit(s->cfg.streams, i) == MJ_STREAM_MAIN)
            mj_buf_puts(&path, "/subscribe");
        else
            mj_buf_printf(&path, "/stream/%s/subscribe", name);
        mj_buf_put_json(json, mj_buf_span(&path));
        mj_buf_printf(json, ",\"subscribers\":%zu}", by_stream[mj_streams_bit(s->cfg.streams, i)]);
    }
    mj_buf_puts(json, "]}\n");
}

static const char *stream_name(const struct mj_server *s, unsigned bit)
{
    for (size_t i = 0; i < mj_streams_count(s->cfg.streams); i++)
        if (mj_streams_bit(s->cfg.streams, i) == bit)
            return mj_streams_name(s->cfg.streams, i);
    return "";
}

static void put_subscriber(struct mj_server *s, const struct mj_sub *sub, int64_t now,
                           struct mj_buf *json)
{
    static const char *const states[] = {[MJ_SUB_WAITING] = "waiting",
                                         [MJ_SUB_BEHIND] = "behind",
                                         [MJ_SUB_LIVE] = "live",
                                         [MJ_SUB_PARKED] = "parked",
                                         [MJ_SUB_ENDING] = "ending"};
    char peer[MJ_ADDRESS_TEXT];
    mj_address_text(&sub->host->unit, peer);
    mj_buf_puts(json, "{\"stream\":");
    mj_buf_put_json(json, mj_str(stream_name(s, sub->class->stream)));
    mj_buf_printf(json, ",\"peer\":\"%s\",\"state\":\"%s\",\"codec\":\"%s\",\"position\":%llu,",
                  peer, states[sub->state], sub->class->codec == MJ_CODEC_ZSTD ? "zstd" : "text",
                  (unsigned long long)mj__feed_position(sub));
    struct tcp_info info;
    socklen_t len = sizeof info;
    unsigned long long acked = 0;
    if (getsockopt(sub->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
        len >= offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof info.tcpi_bytes_acked)
        acked = info.tcpi_bytes_acked;
    mj_buf_printf(json, "\"lag_seconds\":%.3f,\"bytes\":%llu,\"filter\":",
                  (double)mj__feed_lag(sub, now) / 1e6, acked);
    if (sub->class->filter)
        mj_filter_print(sub->class->filter, json);
    else
        mj_buf_puts(json, "{}");
    mj_buf_putc(json, '}');
}

void mj__list_subscribers(struct mj_server *s, struct mj_span query, struct mj_buf *json)
{
    int64_t limit = LIMIT_DEFAULT, now = mj_now_us();
    MJ_AUTO_BUF stream = {0};
    MJ_AUTO_BUF text = {0};
    struct mj_span key, value;
    bool one_stream = false;
    while (mj_query_next(&query, &key, &value)) {
        text.len = 0;
        if (mj_query_decode(value, &text))
            continue;
        if (mj_span_is(key, "limit") && mj_span_i64(mj_buf_span(&text), &limit))
            limit = LIMIT_DEFAULT;
        if (mj_span_is(key, "stream")) {
            stream.len = 0;
            mj_buf_put(&stream, text.ptr, text.len);
            one_stream = true;
        }
    }
    if (limit < 0 || limit > LIMIT_MAX)
        limit = LIMIT_MAX;
    int bit = one_stream ? mj_streams_find(s->cfg.streams, mj_buf_span(&stream)) : -1;
    size_t shown = 0, fit = 0;
    mj_buf_puts(json, "{\"subscribers\":[");
    for (size_t i = 0; i < s->sub_count; i++) {
        const struct mj_sub *sub = s->subs[i];
        if (one_stream && (int)sub->class->stream != bit)
            continue;
        if (fit++ >= (size_t)limit)
            continue;
        if (shown++)
            mj_buf_putc(json, ',');
        put_subscriber(s, sub, now, json);
    }
    mj_buf_printf(json, "],\"total\":%zu}\n", fit);
}
