/* The firehose client: one upstream of com.atproto.sync.subscribeRepos (spec/firehose.md §§1-2),
 * kept connected for as long as it lives.
 *
 *   dial ─▶ TLS ─▶ upgrade ─▶ frames ─▶ cfg.frame() each, cfg.flush() after every batch
 *     ▲                         │
 *     └─── back-off ◀───────────┘ lost, silent, closed, error frame, damaged frames
 *
 * It runs on a loop, in the thread of the router it feeds: frames are handed over in place from
 * the receive buffer, and while the router is busy nothing is read, so back-pressure reaches the
 * server. libwebsockets polls; reading, TLS, the upgrade and the framing are ours, because its
 * own WebSocket client looks at every byte separately and its RAW role cannot start TLS. Names
 * are resolved and connections opened on a helper thread: the loop never waits for them.
 *
 * The cursor is the seq of the last frame cfg.frame() has seen. What arrives at or below it is
 * dropped and counted, so a server that resumes inclusively causes no duplicates. */
#pragma once

#include "event/decode.h"
#include "source/loop.h"

/* What a cursor ahead of the server means (error frame FutureCursor): the wrong server, or one
 * that lost its history. Never decided silently: the default is to stop. */
enum mj_on_future { MJ_FUTURE_STOP, MJ_FUTURE_LIVE, MJ_FUTURE_OLDEST };

/* Exit status of a command whose source stopped for that reason. */
#define MJ_EXIT_FUTURE_CURSOR 3

/* Milliseconds; 0 = the default in brackets. Only tests have reason to set them. */
struct mj_firehose_times {
    int64_t handshake;   /* connect, TLS and upgrade together [10,000] */
    int64_t ping;        /* between our pings [30,000] */
    int64_t silence;     /* without a byte: the connection is dropped [60,000] */
    int64_t backoff;     /* n-th retry after rand(0, min(backoff_max, backoff * 2^n)) [1,000] */
    int64_t backoff_max; /* [30,000] */
    int64_t slow;        /* after what looks like a configuration error, at least [60,000] */
};

struct mj_firehose_cfg {
    const char *url;        /* ws, wss, http, https; without a path: MJ_FIREHOSE_PATH. Copied */
    const char *user_agent; /* NULL = "moonjet/VERSION". Copied */
    int64_t cursor;         /* resume after this seq; 0 = the oldest there is; -1 = live only */
    enum mj_on_future on_future;
    struct mj_firehose_times times;
    /* Takes one frame; fills *out as mj_decode() does and returns 0 or the reason it was dropped.
     * mj_router_frame() fits. The frame is borrowed for the call. */
    int (*frame)(void *ctx, struct mj_span frame, struct mj_frame *out);
    /* After each batch of frames; may be NULL. mj_router_flush() fits. */
    void (*flush)(void *ctx);
    /* The source gave up for good (on_future = stop); may be NULL. */
    void (*stopped)(void *ctx);
    void *ctx; /* borrowed */
};

#define MJ_FIREHOSE_PATH "/xrpc/com.atproto.sync.subscribeRepos"

struct mj_firehose;

/* Starts connecting; what goes wrong from here on is logged, counted and tried again. 0, or
 * MJ_ESYNTAX/MJ_ELIMIT for a bad URL, MJ_EIO when the certificate store cannot be read. */
int mj_firehose_new(struct mj_loop *loop, const struct mj_firehose_cfg *cfg,
                    struct mj_firehose **out);
/* Closes (with code 1000 when connected). NULL is fine. */
void mj_firehose_free(struct mj_firehose *f);
/* Seq of the last frame handed over; the configured cursor before that; -1 for none. */
int64_t mj_firehose_cursor(const struct mj_firehose *f);
bool mj_firehose_connected(const struct mj_firehose *f);
/* True once it gave up. */
bool mj_firehose_stopped(const struct mj_firehose *f);
/* "stop", "live", "oldest"; -1 for anything else. */
int mj_on_future_parse(const char *name);
