/* A server over a journal that a test fills by hand, for the tests of core/server. */
#pragma once

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "server/server.h"
#include "support/wsclient.h"

struct jetserver {
    struct mj_journal *journal;
    struct mj_streams *streams;
    struct mj_server *server;
    int64_t time_us; /* of the last event */
    uint64_t n;      /* events so far */
};

/* Over j->journal, which the caller has opened and jet_stop() closes. */
static inline void jet_start_on(struct jetserver *j, struct mj_server_cfg cfg)
{
    *j = (struct jetserver){.journal = j->journal};
    j->streams = mj_streams_new(j->journal);
    mj_log_setup(MJ_LOG_ERROR, false);
    cfg.listen = "127.0.0.1:0";
    cfg.metrics_listen = "127.0.0.1:0";
    cfg.journal = j->journal;
    cfg.streams = j->streams;
    assert_int_equal(mj_server_start(&cfg, &j->server), 0);
    assert_true(mj_server_port(j->server) > 0);
    assert_true(mj_server_metrics_port(j->server) > 0);
}

static inline void jet_start(struct jetserver *j, struct mj_server_cfg cfg, size_t budget)
{
    j->journal = mj_journal_in_memory(budget);
    jet_start_on(j, cfg);
}

static inline void jet_stop(struct jetserver *j)
{
    mj_server_stop(j->server);
    mj_streams_free(j->streams);
    mj_journal_close(j->journal);
}

/* Appends (does not publish) a commit, or, with an empty collection, an account event. The JSON
 * has v1's shape and is padded to at least `size` bytes. */
static inline void jet_append(struct jetserver *j, const char *did, const char *collection,
                              uint64_t streams, size_t size)
{
    static struct mj_buf pad;
    MJ_AUTO_BUF json = {0};
    j->time_us = mj_journal_next_time(j->journal);
    j->n++;
    while (pad.len < size)
        mj_buf_putc(&pad, 'x');
    struct mj_append e = {.time_us = j->time_us,
                          .did_hash = mj_hash(mj_str(did)),
                          .streams = streams,
                          .kind = *collection ? MJ_KIND_COMMIT : MJ_KIND_ACCOUNT};
    if (*collection) {
        e.collection = mj_collection_id(mj_str(collection));
        e.op = MJ_OP_CREATE;
        mj_buf_printf(&json,
                      "{\"did\":\"%s\",\"time_us\":%lld,\"kind\":\"commit\",\"commit\":{\"rev\":"
                      "\"3l3qo2vuowo2b\",\"operation\":\"create\",\"collection\":\"%s\",\"rkey\":"
                      "\"r%llu\",\"record\":{\"text\":\"",
                      did, (long long)j->time_us, collection, (unsigned long long)j->n);
        size_t used = json.len + 4;
        if (size > used)
            mj_buf_put(&json, pad.ptr, size - used);
        mj_buf_puts(&json, "\"}}}");
    } else {
        mj_buf_printf(&json,
                      "{\"did\":\"%s\",\"time_us\":%lld,\"kind\":\"account\",\"account\":{"
                      "\"active\":true,\"did\":\"%s\",\"seq\":%llu,\"time\":\"now\"}}",
                      did, (long long)j->time_us, did, (unsigned long long)j->n);
    }
    assert_int_equal(mj_journal_append(j->journal, &e, mj_buf_span(&json)), 0);
}

/* The number jet_append() gave the event, from its JSON. */
static inline uint64_t jet_number(struct mj_span json)
{
    const char *keys[] = {"\"rkey\":\"r", "\"seq\":"};
    for (size_t i = 0; i < 2; i++) {
        const uint8_t *p = memmem(json.ptr, json.len, keys[i], strlen(keys[i]));
        if (p)
            return strtoull((const char *)p + strlen(keys[i]), NULL, 10);
    }
    return 0;
}

/* Reads one event; its number. */
static inline uint64_t jet_read(struct wsclient *c)
{
    struct mj_ws_msg m;
    do {
        assert_true(ws_read(c, &m));
    } while (m.op == MJ_WS_PING);
    assert_int_equal(m.op, MJ_WS_TEXT);
    return jet_number(m.payload);
}

/* Reads the close frame; its code. `reason` (of 128 bytes) may be NULL. */
static inline int jet_read_close(struct wsclient *c, char *reason)
{
    struct mj_ws_msg m;
    do {
        assert_true(ws_read(c, &m));
    } while (m.op != MJ_WS_CLOSE);
    assert_true(m.payload.len >= 2 && m.payload.len <= 125);
    if (reason) {
        memcpy(reason, m.payload.ptr + 2, m.payload.len - 2);
        reason[m.payload.len - 2] = '\0';
    }
    return m.payload.ptr[0] << 8 | m.payload.ptr[1];
}

static inline struct wsclient *jet_connect(struct jetserver *j, const char *target)
{
    struct wsclient *c = ws_connect(mj_server_port(j->server), target);
    assert_int_equal(c->status, 101);
    return c;
}

static inline void jet_publish(struct jetserver *j)
{
    assert_int_equal(mj_journal_publish(j->journal, -1, 0), 0);
}

/* GET on the metrics listener; the body, owned. */
static inline void jet_metrics(struct jetserver *j, const char *path, struct mj_buf *out)
{
    MJ_AUTO_BUF b = {0};
    mj_buf_printf(&b, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    struct wsclient *c = ws_request(mj_server_metrics_port(j->server), mj_buf_cstr(&b));
    assert_int_equal(c->status, 200);
    const char *body = strstr(mj_buf_cstr(&c->head), "\r\n\r\n");
    mj_buf_puts(out, body + 4);
    ws_free(c);
}

/* Value of one series. Metrics are the process's, so tests compare differences. */
static inline int64_t jet_metric(struct jetserver *j, const char *series)
{
    MJ_AUTO_BUF text = {0};
    MJ_AUTO_BUF line = {0};
    mj_buf_putc(&text, '\n');
    jet_metrics(j, "/metrics", &text);
    mj_buf_printf(&line, "\n%s ", series);
    const char *at = strstr(mj_buf_cstr(&text), mj_buf_cstr(&line));
    return at ? strtoll(at + line.len, NULL, 10) : 0;
}

/* Waits until the series has reached the value, ten seconds at most. */
static inline void jet_await(struct jetserver *j, const char *series, int64_t value)
{
    for (int i = 0; i < 1000 && jet_metric(j, series) != value; i++)
        usleep(10000);
    assert_int_equal(jet_metric(j, series), value);
}
