/* What a misbehaving firehose says, and the client on a loop to aim at it. Includes the
 * client's .c: tests look at its counters. */
#pragma once

#include "support/wsserver.h"

#include <signal.h>

#include "atproto/cbor.h"

#include "source/firehose.c"

/* ---- frames ---- */

static inline void put_text(struct mj_buf *b, const char *s) { mj_cbor_put_text(b, mj_str(s)); }

/* An #identity frame, or one of another type with the same fields. */
static inline void event_frame(struct mj_buf *b, const char *t, int64_t seq)
{
    mj_cbor_put_map(b, 2);
    put_text(b, "t");
    put_text(b, t);
    put_text(b, "op");
    mj_cbor_put_int(b, 1);
    mj_cbor_put_map(b, 3);
    put_text(b, "did");
    put_text(b, "did:plc:ewvi7nxzyoun6zhxrhs64oiz");
    put_text(b, "seq");
    mj_cbor_put_int(b, seq);
    put_text(b, "time");
    put_text(b, "2026-07-04T14:38:08.123Z");
}

static inline void named_frame(struct mj_buf *b, const char *t, const char *key, const char *name)
{
    mj_cbor_put_map(b, t ? 2 : 1);
    if (t) {
        put_text(b, "t");
        put_text(b, t);
    }
    put_text(b, "op");
    mj_cbor_put_int(b, t ? 1 : -1);
    mj_cbor_put_map(b, 2);
    put_text(b, key);
    put_text(b, name);
    put_text(b, "message");
    put_text(b, "because");
}

static inline void say_events(struct visit *v, int64_t from, int64_t to)
{
    for (int64_t seq = from; seq <= to; seq++) {
        MJ_AUTO_BUF b = {0};
        event_frame(&b, "#identity", seq);
        say_message(v, MJ_WS_BINARY, b.ptr, b.len);
    }
}

static inline void say_named(struct visit *v, const char *t, const char *key, const char *name)
{
    MJ_AUTO_BUF b = {0};
    named_frame(&b, t, key, name);
    say_message(v, MJ_WS_BINARY, b.ptr, b.len);
}

/* ---- the client ---- */

struct rig {
    struct server *server;
    struct mj_loop *loop;
    struct mj_firehose *f;
    struct mj_decoder *decoder;
    struct mj_firehose_cfg cfg;
    char url[64];
    int64_t seqs[256];
    int events, flushes, stopped;
    bool (*done)(struct rig *r);
    int ticks;
};

static inline int on_event(void *ctx, struct mj_event *ev)
{
    struct rig *r = ctx;
    assert_true(r->events < 256);
    r->seqs[r->events++] = ev->seq;
    return 0;
}

static inline int rig_frame(void *ctx, struct mj_span frame, struct mj_frame *out)
{
    struct rig *r = ctx;
    return mj_decode(r->decoder, frame, out, on_event, r);
}

static inline void rig_flush(void *ctx) { ((struct rig *)ctx)->flushes++; }
static inline void rig_stopped(void *ctx) { ((struct rig *)ctx)->stopped++; }

static inline void rig_tick(void *ctx)
{
    struct rig *r = ctx;
    if (r->done(r) || ++r->ticks > 20000)
        mj_loop_stop(r->loop);
}

/* With a server that speaks TLS when `tls` is not NULL. */
static inline void rig_open_tls(struct rig *r, void (*serve)(struct visit *v), int64_t cursor,
                                SSL_CTX *tls, const char *host)
{
    *r = (struct rig){0};
    r->server = server_start(serve, tls);
    r->loop = mj_loop_new();
    r->decoder = mj_decoder_new();
    /* The URL labels the metrics, and the system may hand out a port again. */
    static int rigs;
    snprintf(r->url, sizeof r->url, "%s://%s:%d?rig=%d", tls ? "wss" : "ws", host, r->server->port,
             ++rigs);
    r->cfg = (struct mj_firehose_cfg){
        .url = r->url,
        .cursor = cursor,
        .times = {.backoff = 1, .backoff_max = 2, .slow = 1},
        .frame = rig_frame,
        .flush = rig_flush,
        .stopped = rig_stopped,
        .ctx = r,
    };
}

static inline void rig_open(struct rig *r, void (*serve)(struct visit *v), int64_t cursor)
{
    rig_open_tls(r, serve, cursor, NULL, "127.0.0.1");
}

static inline void rig_run(struct rig *r, bool (*done)(struct rig *r))
{
    r->done = done;
    assert_int_equal(mj_firehose_new(r->loop, &r->cfg, &r->f), 0);
    mj_loop_every(r->loop, 1, rig_tick, r);
    mj_loop_run(r->loop);
    /* What the server noted of a visit before it counted it may be read from here on. */
    atomic_load(&r->server->visits);
    assert_true(r->ticks <= 20000);
}

static inline void rig_close(struct rig *r)
{
    mj_firehose_free(r->f);
    mj_loop_free(r->loop); /* closes what is still open, so the server's reads end */
    server_stop(r->server);
    mj_decoder_free(r->decoder);
}

static inline void expect_events(const struct rig *r, int64_t from, int64_t to)
{
    assert_int_equal(r->events, to - from + 1);
    for (int i = 0; i < r->events; i++)
        assert_int_equal(r->seqs[i], from + i);
}

static inline bool asked(const struct rig *r, int visit, const char *text)
{
    return strstr(r->server->v[visit].request, text) != NULL;
}
