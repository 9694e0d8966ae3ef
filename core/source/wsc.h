/* A WebSocket client connection on a loop: what the firehose client and `moonjet tail` share.
 *
 *   mj_wsc_connect() ─▶ dial ─▶ TLS ─▶ upgrade ─▶ opened() ─▶ message()… batch() ─▶ …
 *                         └────────┴───────┴──────────────────────┴──▶ ended(): gone, and why
 *
 * Names are resolved and connections opened on a helper thread, so the loop never waits. Messages
 * are handed over in place from the receive buffer. Pings are answered, and sent; a peer from
 * which nothing comes is given up. Redirects are not followed, no extension is offered. Trying
 * again is the owner's business: mj_wsc_connect() once more, when it likes. */
#pragma once

#include "base/http.h"
#include "base/ws.h"
#include "source/loop.h"

enum mj_wsc_end {
    MJ_WSC_NETWORK,  /* resolving, connecting, TLS, reading, writing */
    MJ_WSC_TIMEOUT,  /* no connection in time */
    MJ_WSC_STATUS,   /* an HTTP answer other than 101: `code` */
    MJ_WSC_NOT_WS,   /* an answer that is no upgrade, or no HTTP */
    MJ_WSC_PROTOCOL, /* a message or frame we may not accept; `code` is what we closed with */
    MJ_WSC_SILENCE,
    MJ_WSC_CLOSED /* by the server: `code` of its close frame, 1006 without one */
};

struct mj_wsc_ended {
    enum mj_wsc_end end;
    int code;
    int64_t retry_after_ms; /* of an HTTP answer; 0 = none */
    const char *why;        /* for people; borrowed for the call */
};

struct mj_wsc_cfg {
    struct mj_url url;           /* its path is replaced by mj_wsc_connect()'s target */
    const char *user_agent;      /* borrowed for the connection's life; NULL = "moonjet/VERSION" */
    enum mj_ws_opcode wanted;    /* TEXT or BINARY: what goes to message() */
    size_t limit;                /* bytes of a message; 0 = MJ_WS_LIMIT */
    int64_t handshake_ms;        /* connect, TLS and upgrade together; 0 = 10,000 */
    int64_t ping_ms, silence_ms; /* 0 = 30,000 and 60,000 */
    void (*opened)(void *ctx);
    /* May close, not free. */
    void (*message)(void *ctx, struct mj_span payload);
    /* Messages of the other kind; NULL: one ends the connection with 1003. May close, not free. */
    void (*other)(void *ctx, struct mj_span payload);
    void (*batch)(void *ctx); /* after the messages of one turn, 4 MiB or some milliseconds at most;
                                 also when they ended it. A busy source's batches are large, an idle
                                 one's wait for nothing */
    /* The connection is gone and everything of it released; never after mj_wsc_close(). */
    void (*ended)(void *ctx, const struct mj_wsc_ended *e);
    void *ctx; /* borrowed */
};

struct mj_wsc;

/* 0, or MJ_EIO when the certificate store cannot be read. */
int mj_wsc_new(struct mj_loop *loop, const struct mj_wsc_cfg *cfg, struct mj_wsc **out);
/* Closes with 1000 first. NULL is fine; not inside a callback. */
void mj_wsc_free(struct mj_wsc *w);
/* Starts an attempt to GET this target (path and query). Only when not connected or connecting. */
void mj_wsc_connect(struct mj_wsc *w, const char *target);
/* Says goodbye with that code when open, and drops the connection or attempt at once. */
void mj_wsc_close(struct mj_wsc *w, int code);
bool mj_wsc_is_open(const struct mj_wsc *w);

/* Full jitter (spec/firehose.md §1): a random time up to min(max_ms, base_ms * 2^attempts), so
 * that many clients of one server do not come back in step. */
int64_t mj_wsc_backoff_ms(unsigned attempts, int64_t base_ms, int64_t max_ms);
