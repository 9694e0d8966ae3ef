/* What the server's files share. Everything here belongs to the server's thread. */
#pragma once

#include <ev.h>
#include <libwebsockets.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/http.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/route.h"
#include "server/address.h"
#include "server/call.h"
#include "server/class.h"
#include "server/pack.h"
#include "server/scan.h"
#include "server/server.h"
#include "server/update.h"

#define MJ_HEAD_MAX          (1u << 20)  /* bytes of a request head */
#define MJ_HEADS_BYTES_MAX   (64u << 20) /* of all heads being read; of all else: bodies, calls */
#define MJ_BODY_MAX          (1u << 20)  /* of a route's request */
#define MJ_CONTROL_BODY_MAX  (64u << 20) /* of a command; a named set is long */
#define MJ_ANSWER_MAX        (16u << 20) /* of a route's answer */
#define MJ_CALLS_MAX         1024        /* in work: handed over and not answered */
#define MJ_WRITE_MAX         (64u << 10) /* of one write to a subscriber, unless a frame is larger */
#define MJ_FLUSH_MAX_US      10000       /* for an event to wait and be sent, if the machine can */
#define MJ_FILTERS_BYTES_MAX (512u << 20) /* of all filters */

enum mj_listener { MJ_LISTEN_STREAM, MJ_LISTEN_METRICS, MJ_LISTEN_CONTROL, MJ_LISTENERS };

/* Why a connection ended; the names are metric labels. */
#define MJ_ENDS(X)                                                                                 \
    X(MJ_END_CLIENT, "client")           /* the peer closed, or its network did */                 \
    X(MJ_END_BAD_MESSAGE, "bad_message") /* an options_update that cannot be obeyed */             \
    X(MJ_END_OVERTAKEN, "overtaken")     /* slower than retention */                               \
    X(MJ_END_DAMAGED, "damaged")         /* what it should get next cannot be read */              \
    X(MJ_END_STALLED, "stalled")         /* nothing acknowledged for stall_seconds */              \
    X(MJ_END_MEMORY, "memory")           /* a budget for what clients send is used up */           \
    X(MJ_END_SHUTDOWN, "shutdown")

enum mj_end {
#define X(name, label) name,
    MJ_ENDS(X)
#undef X
        MJ_END_COUNT
};

/* Where a subscriber gets its events from.
 *
 *   WAITING ──▶ BEHIND ◀──▶ LIVE
 *                 ▲ │
 *                 │ ▼
 *               PARKED            and from everywhere to ENDING */
enum mj_sub_state {
    MJ_SUB_WAITING, /* for the handshake or the hello: nothing is sent */
    MJ_SUB_BEHIND,  /* from its position, whenever its socket takes more */
    MJ_SUB_LIVE,    /* from the rounds: it is a live member of its class */
    MJ_SUB_PARKED,  /* for the next round, or for its address to have tokens again */
    MJ_SUB_ENDING   /* nothing any more, but a close frame perhaps */
};

struct mj_sub {
    struct mj_server *server; /* borrowed */
    struct lws *wsi;          /* borrowed from libwebsockets; NULL before it is established */
    struct mj_class *class;   /* ref */
    struct mj_host *host;     /* ref */
    uint32_t index;           /* in server->subs, valid while wsi is set */
    uint32_t place;           /* in class->live, valid while LIVE */
    uint64_t position;        /* next seq to look at, unless LIVE */
    struct mj_buf message;    /* text message being received */
    int64_t cursor;
    int64_t progress_us; /* monotonic: when the peer last acknowledged something, or owed nothing */
    uint64_t acked;      /* bytes, at the last look */
    int64_t ping_us;     /* monotonic: when the next ping is due */
    int64_t message_us;  /* monotonic: when the message being received began */
    int64_t heartbeat_us; /* 0 for none */
    int64_t sent_us;      /* monotonic: when something was last sent; kept for heartbeats only */
    struct mj_sub *park_next, **park_link; /* while PARKED */
    int fd;
    uint8_t state; /* enum mj_sub_state */
    uint8_t end;   /* enum mj_end, once known */
    bool has_cursor;
    bool hello_due; /* nothing is sent before the first valid options_update */
    bool greet;     /* is to be told when it has caught up for the first time */
    bool replaying; /* has not caught up yet, so that its address pays for what it gets */
    bool closing;   /* close frame with `close_code` and `close_reason` is due */
    bool close_sent;
    bool discarding; /* rest of a message that is ignored */
    uint16_t close_code;
    char close_reason[124];
};

struct mj_conn;
struct mj_batch;
struct mj_label_serving;
struct mj_label_sub;

struct mj_server {
    struct mj_server_cfg cfg;
    int ports[MJ_LISTENERS];
    pthread_t thread;
    struct ev_loop *loop;          /* owned */
    ev_io accepting[MJ_LISTENERS]; /* data: the server; fd -1 when there is none */
    ev_timer accept_pause;
    ev_async wake, stop, answered;
    struct mj_desk *desk; /* ref */
    size_t calls;         /* in work */
    struct {
        char *path; /* owned; NULL when there is no control socket */
        uint64_t dev, ino;
    } control;
    ev_timer flush, second;
    double started; /* loop time of the stop request */
    bool stopping;

    struct lws_context *lws; /* owned */
    struct lws_vhost *vhost; /* owned by lws */
    struct mj_sub *adopting; /* being handed over; NULL once lws has it */

    struct mj_conn *conns; /* owned list */
    size_t conn_count, conn_bytes;
    size_t head_bytes; /* of conn_bytes */

    struct mj_view view;
    uint64_t live_end; /* the position of all live members */
    int64_t live_us;   /* time_us of the entry before it; 0 when there has never been one */
    struct mj_classes classes;
    struct mj_scans scans;
    struct mj_packer *packer; /* owned; NULL without a dictionary */
    struct mj_batch *batch;   /* owned; the write being put together */
    struct mj_sub *parked;    /* borrowed list */
    ev_timer park;            /* runs while there are any */

    struct mj_sub **subs; /* owned array of borrowed established subscribers */
    size_t sub_count, sub_cap, adopted, live_count;
    size_t message_bytes;
    int64_t pump_end_us, pump_cost_us; /* of the last round */
    int64_t last_event_us;             /* monotonic: when the last news came; 0 for never */
    int64_t started_us;                /* Unix time */

    struct mj_label_serving *labels; /* owned: labels.c */
    struct mj_hosts hosts;
    struct mj_cidr *trusted; /* owned */
    size_t trusted_count;

    struct {
        struct mj_metric *writes, *frames, *write_bytes, *ends[MJ_END_COUNT], *rounds, *live, *subs,
            *heads, *refused, *accepted, *message_bytes, *classes, *overtaken, *damaged;
        struct mj_histogram *delivery, *lag;
    } m;
};

/* front.c: listening sockets and request heads. */
void mj__front_start(struct mj_server *s);
void mj__front_stop_accepting(struct mj_server *s);
void mj__front_close_all(struct mj_server *s);
/* Sends what calls were answered with. */
void mj__front_answered(struct mj_server *s);

/* A call as the server sees it: until it is answered, the thread it was handed to looks at `call`
 * and `gone` only, and the server at the rest. */
struct mj__call {
    struct mj_call call;  /* first, so that one pointer is both */
    struct mj_desk *desk; /* ref */
    struct mj_buf text;   /* what the spans of `call` borrow from, but for the body */
    struct mj_buf in;     /* request's body */
    struct mj_conn *conn; /* borrowed; NULL once nobody waits for the answer */
    _Atomic bool gone;
    struct mj_metric *answers[6]; /* by status / 100; NULL for a command */
    size_t bytes;                 /* counted in conn_bytes */
    size_t body_max;
    int status;
    struct mj_buf out_headers, out_body;
};

/* Where calls come back to. It outlives the server while there are calls elsewhere. */
struct mj_desk {
    pthread_mutex_t lock;
    struct ev_loop *loop; /* borrowed until closed */
    ev_async *async;      /* the same */
    struct mj_call *answered;
    bool closed;
    _Atomic size_t refs;
};

/* call.c */
struct mj_desk *mj__desk_new(struct ev_loop *loop, ev_async *async);
/* Answers are dropped from now on. NULL is fine. */
void mj__desk_close(struct mj_desk *d);
/* The list of calls that were answered since the last time; the caller frees them. */
struct mj_call *mj__desk_answered(struct mj_desk *d);
struct mj__call *mj__call_new(struct mj_desk *d);
void mj__call_free(struct mj__call *c);
/* Copies what the other thread gets to see, but for the body; path and peer as given. */
void mj__call_fill(struct mj__call *c, enum mj_call_kind kind, const struct mj_http_head *head,
                   struct mj_span path, const char *peer);
/* The route for a percent-decoded path: 0 with its text appended to `name`; MJ_EINVAL when there
 * are routes for other methods only, MJ_ENOENT when there are none. The methods of all that fit are
 * appended to `allow`, ", " before each. */
int mj__routes_find(struct mj_routes *r, struct mj_span method, struct mj_span path,
                    struct mj_buf *name, struct mj_buf *allow);

/* control.c: the Unix socket. Listens at cfg.control: 0, MJ_ESYNTAX or MJ_EIO after a log line. */
int mj__control_listen(struct mj_server *s);
void mj__control_close(struct mj_server *s);

/* endpoints.c: what a request gets. */
struct mj_answer {
    int status;
    const char *type;      /* Content-Type; NULL for none */
    struct mj_buf headers; /* further header lines, each ending in CRLF */
    struct mj_buf body;
};
/* What else a request may become; both owned by the caller. */
struct mj_taken {
    struct mj_sub *sub;
    struct mj_label_sub *label_sub;
    struct mj__call *call; /* wants its body, then goes to cfg.request */
};
/* Fills in *out, or one of *taken and leaves *out alone. */
void mj__endpoint(struct mj_server *s, enum mj_listener at, const struct mj_http_head *head,
                  const struct mj_address *peer, struct mj_answer *out, struct mj_taken *taken);
/* Does the request ask for a WebSocket, with a key that is one? */
bool mj__is_upgrade(const struct mj_http_head *head);
/* The answer for an address that has enough connections. */
void mj__too_many(struct mj_server *s, const struct mj_address *unit, struct mj_answer *out);
/* Headers that every answer on the stream's listener has. `allow`: methods, for a preflight; NULL
 * otherwise. */
void mj__cors(struct mj_answer *out, const char *allow);

/* status.c: what monitors ask. */
void mj__health(struct mj_server *s, struct mj_buf *json);
void mj__status(struct mj_server *s, struct mj_buf *json);
/* Streams with their subscribers; subscribers of the query's `stream`, `limit` of them. */
void mj__list_streams(struct mj_server *s, struct mj_buf *json);
void mj__list_subscribers(struct mj_server *s, struct mj_span query, struct mj_buf *json);

/* server.c: refreshes the view and has a round. */
void mj__pump(struct mj_server *s);

/* subscriber.c: their life. */
int mj__subs_init(struct mj_server *s);
void mj__subs_deinit(struct mj_server *s);
/* Takes the query's filter. */
struct mj_sub *mj__sub_new(struct mj_server *s, unsigned stream, enum mj_codec codec,
                           struct mj_subscribe_query *q, const struct mj_address *unit);
/* Hands the socket over; `key` is the client's Sec-WebSocket-Key. The subscriber and the descriptor
 * are taken whatever happens. */
void mj__sub_adopt(struct mj_sub *sub, int fd, struct mj_span key);
void mj__subs_second(struct mj_server *s); /* pings, stalls, heartbeats, lag */
void mj__subs_close_all(struct mj_server *s);
/* A close frame with a reason, as soon as the socket takes it. */
void mj__sub_close(struct mj_sub *sub, enum mj_end end, unsigned code, const char *reason,
                   size_t len);
/* Without a word: for peers that do not take any. */
void mj__sub_kill(struct mj_sub *sub, enum mj_end end);
/* May we write to the descriptor now? Not behind a close frame that libwebsockets has decided on by
 * itself: then the subscriber is ENDING. */
bool mj__sub_may_write(struct mj_sub *sub);

/* feed.c: their events. */
int mj__feed_init(struct mj_server *s);
void mj__feed_deinit(struct mj_server *s);
/* Leaves the state it is in; from LIVE, with the position of all. Then it is in `to`, which is not
 * LIVE; if it is BEHIND its socket has been asked to call. */
void mj__feed_move(struct mj_sub *sub, enum mj_sub_state to);
/* The socket of a subscriber that is BEHIND takes more. */
void mj__feed_turn(struct mj_sub *sub);
/* What is new goes to all live members. True when there is more of it. */
bool mj__feed_round(struct mj_server *s);
/* Sends an info frame; false when the socket takes nothing now. */
bool mj__feed_info(struct mj_sub *sub, const char *name);
/* The next seq it has not looked at, and how long ago that was published, in µs; 0 at the end. */
uint64_t mj__feed_position(const struct mj_sub *sub);
int64_t mj__feed_lag(const struct mj_sub *sub, int64_t now_us);
