/* What the server's files share. Everything here belongs to the server's thread. */
#pragma once

#include <ev.h>
#include <libwebsockets.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/http.h"
#include "base/log.h"
#include "base/metrics.h"
#include "server/server.h"
#include "server/update.h"

#define MJ_HEAD_MAX          (1u << 20)  /* bytes of a request head */
#define MJ_HEADS_BYTES_MAX   (64u << 20) /* of all heads being read */
#define MJ_WRITE_MAX         (64u << 10) /* of one write to a subscriber, unless a frame is larger */
#define MJ_FLUSH_MAX_US      10000       /* a published event waits no longer than this */
#define MJ_FILTERS_BYTES_MAX (512u << 20) /* of all filters */

enum mj_listener { MJ_LISTEN_STREAM, MJ_LISTEN_METRICS, MJ_LISTENERS };

/* Why a connection ended; the names are metric labels. */
#define MJ_ENDS(X)                                                                                 \
    X(MJ_END_CLIENT, "client")           /* the peer closed, or its network did */                 \
    X(MJ_END_BAD_MESSAGE, "bad_message") /* an options_update that cannot be obeyed */             \
    X(MJ_END_OVERTAKEN, "overtaken")     /* slower than retention */                               \
    X(MJ_END_STALLED, "stalled")         /* nothing acknowledged for stall_seconds */              \
    X(MJ_END_MEMORY, "memory")           /* a budget for what clients send is used up */           \
    X(MJ_END_SHUTDOWN, "shutdown")

enum mj_end {
#define X(name, label) name,
    MJ_ENDS(X)
#undef X
        MJ_END_COUNT
};

/* Series of one peer address: v1's names. Shared by its subscribers, lives with the process. */
struct mj_peer {
    struct mj_metric *connected, *events, *bytes;
};

struct mj_sub {
    struct mj_server *server; /* borrowed */
    struct lws *wsi;          /* borrowed from libwebsockets; NULL before it is established */
    size_t index;             /* in server->subs, valid while wsi is set */
    uint64_t position;        /* next seq to look at; meaningful while live */
    struct mj_filter *filter; /* owned; NULL passes everything */
    size_t filter_size;       /* of it, as counted in server->filter_bytes */
    struct mj_buf message;    /* text message being received */
    struct mj_peer peer;
    int64_t cursor;
    int64_t progress_us; /* monotonic: when the peer last acknowledged something, or owed nothing */
    uint64_t acked;      /* bytes, at the last look */
    int64_t ping_us;     /* monotonic: when the next ping is due */
    int64_t message_us;  /* monotonic: when the message being received began */
    int fd;
    uint8_t stream; /* bit */
    uint8_t end;    /* enum mj_end, once known */
    bool has_cursor;
    bool hello_due; /* nothing is sent before the first valid options_update */
    bool live;      /* events may be sent: established, greeted, not closing */
    bool blocked;   /* waits for the socket to take more */
    bool closing;   /* close frame with `close_code` and `close_reason` is due */
    bool close_sent;
    bool discarding; /* rest of a message that is ignored */
    uint16_t close_code;
    char close_reason[124];
};

struct mj_conn;
struct mj_batch;

struct mj_server {
    struct mj_server_cfg cfg;
    int ports[MJ_LISTENERS];
    pthread_t thread;
    struct ev_loop *loop;          /* owned */
    ev_io accepting[MJ_LISTENERS]; /* data: the server; fd -1 when there is none */
    ev_timer accept_pause;
    ev_async wake, stop;
    ev_timer flush, second;
    double started; /* loop time of the stop request */
    bool stopping;

    struct lws_context *lws; /* owned */
    struct lws_vhost *vhost; /* owned by lws */
    struct mj_sub *adopting; /* being handed over; NULL once lws has it */

    struct mj_conn *conns; /* owned list */
    size_t conn_count, conn_bytes;

    struct mj_view view;
    struct mj_sub **subs; /* owned array of borrowed established subscribers */
    size_t sub_count, sub_cap, adopted;
    size_t message_bytes, filter_bytes;
    int64_t pump_end_us, pump_cost_us; /* of the last round */
    int64_t last_event_us;             /* monotonic: when the last news came; 0 for never */
    struct mj_batch *batch;            /* owned; the write being put together */

    struct {
        struct mj_metric *writes, *frames, *write_bytes, *ends[MJ_END_COUNT], *rounds, *floor,
            *newest, *subs, *heads, *refused, *accepted, *message_bytes;
    } m;
};

/* front.c: listening sockets and request heads. */
void mj__front_start(struct mj_server *s);
void mj__front_stop_accepting(struct mj_server *s);
void mj__front_close_all(struct mj_server *s);

/* endpoints.c: what a request gets. */
struct mj_answer {
    int status;
    const char *type;      /* Content-Type; NULL for none */
    struct mj_buf headers; /* further header lines, each ending in CRLF */
    struct mj_buf body;
};
/* Fills in *out, or, for a request that becomes a subscriber, sets *sub (owned by the caller) and
 * leaves *out alone. */
void mj__endpoint(struct mj_server *s, enum mj_listener at, const struct mj_http_head *head,
                  struct mj_answer *out, struct mj_sub **sub);

/* subscriber.c */
int mj__subs_init(struct mj_server *s);
void mj__subs_deinit(struct mj_server *s);
struct mj_sub *mj__sub_new(struct mj_server *s, unsigned stream, struct mj_subscribe_query *q);
/* Hands the socket over; `key` is the client's Sec-WebSocket-Key. The subscriber and the descriptor
 * are taken whatever happens. */
void mj__sub_adopt(struct mj_sub *sub, int fd, struct mj_span key, const char *address);
/* Everyone who has caught up gets what is new. */
void mj__subs_pump(struct mj_server *s);
void mj__subs_second(struct mj_server *s); /* pings, stalls */
void mj__subs_close_all(struct mj_server *s);
