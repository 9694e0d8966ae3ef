/* A load test in progress: shared by its course (load_run.c) and its connections (load_sub.c). */
#pragma once

#include <sys/socket.h>

#include "base/dictionary.h"
#include "base/ws.h"
#include "cli/load.h"
#include "source/conn.h"

#define LOAD_RX_BYTES     (256u << 10)
#define LOAD_MESSAGE_MAX  (16u << 20) /* a record of 1 MB, escaped as badly as JSON can be */
#define LOAD_HANDSHAKE_US INT64_C(15000000)

enum mj__load_state { LOAD_IDLE, LOAD_CONNECTING, LOAD_TLS, LOAD_UPGRADING, LOAD_OPEN, LOAD_ENDED };

struct mj__load_sub {
    struct mj_conn conn;
    int fd; /* owned; -1 = none */
    enum mj__load_state state;
    bool zstd, stalled, resuming; /* resuming: the server repeats the event of the cursor */
    uint32_t class;
    uint32_t polled;             /* epoll's events as registered */
    int64_t since_us, opened_us; /* monotonic, of the attempt; wall clock */
    char key[25];
    struct mj_buf head, out; /* owned: the response; not yet written */
    struct mj_ws_reader reader;
    struct mj__load_place place;
    uint64_t events, window_events;
};

struct mj__load_run {
    const struct mj__load_cfg *cfg;
    struct mj__load_class *classes;
    size_t class_count, weights;
    struct mj__load_result *result;
    struct mj__load_sub *subs; /* owned; the stalled ones come last */
    size_t count, opened, next, pending, reached;
    struct sockaddr_storage to;
    socklen_t to_len;
    struct ssl_ctx_st *tls;       /* owned; NULL for plain */
    struct mj_zmessage *zmessage; /* owned; NULL without a dictionary */
    uint8_t *rx;                  /* owned, LOAD_RX_BYTES */
    int epoll;
    int64_t start_us, window_us, shown_us; /* monotonic; window_us 0: not begun */
    int64_t measured_us;                   /* monotonic: from when on figures are taken */
    double measured_cpu;
    uint64_t shown_events, shown_bytes;
    bool scouting;
    int64_t scout_end_us;
    size_t churn_at, churn_done;
    /* The scout's DIDs: a set of hashes, and the texts one behind the other. */
    uint64_t *did_set;
    size_t did_cap, did_count, did_want;
    struct mj_buf did_texts;
};

static inline struct mj__load_class *mj__load_class_of(struct mj__load_run *r,
                                                       const struct mj__load_sub *s)
{
    return &r->classes[s->class];
}

/* Starts an attempt, as the subscriber's class, codec and place say. */
void mj__load_connect(struct mj__load_run *r, struct mj__load_sub *s);
/* What epoll said of its socket. */
void mj__load_ready(struct mj__load_run *r, struct mj__load_sub *s, uint32_t events);
/* Says goodbye if there is room for it. */
void mj__load_goodbye(struct mj__load_sub *s, int code);
/* Closes and frees; the place and the figures stay. */
void mj__load_release(struct mj__load_run *r, struct mj__load_sub *s);
/* The same for an end that we did not ask for: it is counted, by its code or reason. */
void mj__load_end_sub(struct mj__load_run *r, struct mj__load_sub *s, int code, const char *fmt,
                      ...) __attribute__((format(printf, 4, 5)));
