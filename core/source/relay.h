/* A small firehose server: what `moonjet replay` and `moonjet simulate` serve
 * com.atproto.sync.subscribeRepos with, and what the firehose client is tested against.
 *
 * One thread, plain sockets. A client is a position in a feed and an output buffer of at most one
 * batch (256 KiB); nothing is queued for it, so a slow client costs nothing but its own lag.
 *
 *   feed       where frames come from, addressed by position (0, 1, 2 …): either the relay's own
 *              window, filled by mj_relay_publish(), or the caller's callbacks (pull mode), which
 *              are asked for more only when a client has taken what it got
 *   window     the newest frames, in memory, bounded; a client that falls out of it is told
 *              ConsumerTooSlow and closed
 *
 * Cursors (spec/firehose.md §1): none = live only, 0 = oldest, in the window = what has seq > N
 * and then live, too old = `#info OutdatedCursor` and the whole window, ahead = error frame
 * FutureCursor and close. Pings are answered, idle clients are pinged. Plain GETs of other paths
 * go to a callback. */
#pragma once

#include "base/bytes.h"

#define MJ_RELAY_PATH "/xrpc/com.atproto.sync.subscribeRepos"

/* Answers a GET of another path (no upgrade): appends the body and returns the status. *type is
 * "application/json" unless changed; a string that outlives the call. Runs on the relay's thread,
 * so it may not block for long; only one call at a time. */
typedef int (*mj_relay_get_fn)(void *ctx, struct mj_span path, struct mj_span query,
                               struct mj_buf *body, const char **type);

enum mj_relay_start { MJ_RELAY_LIVE, MJ_RELAY_BACKLOG, MJ_RELAY_OUTDATED, MJ_RELAY_FUTURE };

/* Pull mode. Both run on the relay's thread. */
struct mj_relay_feed {
    void *ctx; /* borrowed until the relay stops */
    /* Position of the first frame for a client; cursor NULL = it gave none. */
    enum mj_relay_start (*seek)(void *ctx, const int64_t *cursor, uint64_t *pos);
    /* Appends frames from *pos on with mj_relay_put(), until `max` bytes are reached or nothing is
     * due, and moves *pos behind them. 0; or MJ_ECLOSED when *pos is no longer there (the client
     * is told ConsumerTooSlow). When nothing is due, *wait_us says when to ask again; leave it
     * alone to be asked after mj_relay_wake() only. */
    int (*read)(void *ctx, uint64_t *pos, size_t max, struct mj_buf *out, int64_t *wait_us);
};

struct mj_relay_cfg {
    const char *listen;               /* "HOST:PORT"; borrowed during the call */
    size_t window_bytes;              /* 0 = 64 MiB */
    size_t window_frames;             /* 0 = as many as window_bytes holds */
    const struct mj_relay_feed *feed; /* pull mode; NULL = the window. Copied */
    mj_relay_get_fn get;              /* NULL = 404 for other paths */
    void *get_ctx;                    /* borrowed until the relay stops */
};

struct mj_relay;

/* Listens and starts the thread. 0; MJ_ESYNTAX for a bad address; MJ_EIO with errno set. */
int mj_relay_start(const struct mj_relay_cfg *cfg, struct mj_relay **out);
/* Tells the clients (close 1001), ends the thread, frees everything. NULL is fine. */
void mj_relay_stop(struct mj_relay *r);
/* The port it listens on: the real one when 0 was asked for. */
int mj_relay_port(const struct mj_relay *r);
/* Clients subscribed now. Thread-safe. */
int mj_relay_clients(const struct mj_relay *r);
/* Window mode, any thread: appends a copy of one frame (header and payload CBOR, no WebSocket
 * head) with seq above the last one's. MJ_ESEQ when it is not, MJ_EBIG above 5,000,000 bytes,
 * MJ_EINVAL in pull mode. Never waits for clients. */
int mj_relay_publish(struct mj_relay *r, int64_t seq, struct mj_span frame);
/* Pull mode, any thread: there may be more to read. */
void mj_relay_wake(struct mj_relay *r);
/* Appends one frame as the binary message that goes on the wire. */
void mj_relay_put(struct mj_buf *out, struct mj_span frame);
