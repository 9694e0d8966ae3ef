/* The server: everything that subscribers and monitors connect to, in one thread of its own.
 *
 *   accept ─▶ request head ─┬─▶ plain answers: welcome, errors, /metrics, /status, /_health
 *   (front.c)  (front.c)    │   (endpoints.c, status.c)
 *                           └─▶ subscriber: its socket is handed to libwebsockets (subscriber.c),
 *                               its events come from the journal (feed.c)
 *
 * A subscriber is a filter class (class.h), a position and a socket; it has no queue. The thread
 * wakes once per flush of the journal, matches what is new once for all classes, and sends the same
 * bytes to every member of a class that has caught up; those behind are driven by their sockets. */
#pragma once

#include "flow/streams.h"
#include "journal/journal.h"
#include "server/call.h"
#include "state/labels.h"
#include "state/sets.h"

struct mj_server_cfg {
    const char *listen;         /* "HOST:PORT" of the stream; borrowed during start */
    const char *metrics_listen; /* the same for /metrics, /status, /_health; NULL or "" for none */
    /* Path of a Unix socket that answers like metrics_listen, and /ctl/COMMAND; NULL or "" for
     * none. Only the user who runs this may connect. */
    const char *control;
    bool control_may_fail;      /* nobody asked for it: then it is a warning that there is none */
    struct mj_journal *journal; /* borrowed until mj_server_stop(); its wake function is taken */
    struct mj_streams *streams; /* borrowed until mj_server_stop() */
    struct mj_sets *sets; /* for wantedDids=set:NAME; borrowed until mj_server_stop(), or NULL */
    struct mj_labels *labels;  /* of all labelers; borrowed until mj_server_stop(), or NULL */
    struct mj_span dictionary; /* zstd's; borrowed during start; empty: no compression */
    /* Appends `,"name":value` pairs to the object /_health and /status answer, or NULL. Called on
     * the server's thread. */
    void (*health)(void *ctx, struct mj_buf *json);
    void *health_ctx;
    /* Takes calls (call.h): requests for paths in `routes` that the server has no answer for
     * itself, and commands it does not know. Called on the server's thread; mj_calls_put() fits.
     * NULL: there are no such requests. */
    void (*request)(void *ctx, struct mj_call *call);
    void *request_ctx;
    struct mj_routes *routes; /* borrowed until mj_server_stop(); NULL for none */
    size_t max_connections;   /* 0: as many as the process may have files, less a reserve */
    size_t max_per_ip;        /* subscribers of one address; 0 for no limit */
    int64_t replay_rate;      /* events per second of catching up, per address; 0 for no limit */
    const char *const *trusted_proxies; /* CIDR prefixes whose X-Forwarded-For is believed; borrowed
                                           during start */
    size_t trusted_proxy_count;
    int sndbuf;            /* cap of SO_SNDBUF in bytes; 0: 128 KiB */
    int stall_seconds;     /* cut after so long without an acknowledged byte; 0: 60 */
    int ping_seconds;      /* 0: 30 */
    int head_seconds;      /* for a request head to arrive, and then for its body; 0: 10 */
    int call_seconds;      /* for a call to be answered; 0: 30 */
    size_t message_budget; /* bytes of client messages being received, all together; 0: 64 MiB */
};

struct mj_server;

/* Listens, then starts the thread. 0, or MJ_ESYNTAX (bad address, prefix or socket path), MJ_EINVAL
 * (no zstd dictionary) or MJ_EIO after a log line that says what failed. */
int mj_server_start(const struct mj_server_cfg *cfg, struct mj_server **out);
/* The real ports; 0 when there is no such listener. */
int mj_server_port(const struct mj_server *s);
int mj_server_metrics_port(const struct mj_server *s);
/* Stops listening, sends what is published, closes every subscriber with 1001, and joins the
 * thread: within three seconds, whatever the peers do. Frees *s; NULL is fine. */
void mj_server_stop(struct mj_server *s);
