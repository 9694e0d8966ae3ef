/* Outgoing HTTP: one thread, libcurl, and limits.
 *
 *   any thread                      net thread
 *   mj_http_send() ── list ──▶ wait for a turn ──▶ libcurl ──▶ done(ctx, answer)
 *
 * What a request may not do: reach what is not the public internet (reach.h), follow a redirect,
 * use anything but http and https, take cookies, netrc or a proxy from the surroundings, go
 * unverified over TLS, last longer or bring more bytes than it said, or crowd out the requests of
 * other scripts and to other hosts: a script has at most half of what may wait and of the bytes.
 * Time spent waiting for a turn counts.
 *
 * Messages about failures name the host only: addresses carry tokens in their paths. */
#pragma once

#include "deliver/reach.h"
#include "script/services.h"

struct mj_http_cfg {
    const struct mj_reach *reach; /* borrowed until mj_http_stop(); NULL: public internet only */
    size_t max_active;            /* at a time; 0: 256 */
    size_t max_per_host;          /* 0: 16 */
    size_t max_per_script;        /* 0: 64 */
    size_t max_waiting;           /* requests not answered yet; 0: 20,000 */
    size_t max_bytes;             /* of all requests and answers held; 0: 256 MiB */
    int64_t connect_us;           /* for a connection to stand; 0: 5 s */
    int64_t linger_us;            /* the system asks silent name servers that long; 0: 20 s */
    const char *ca_file;          /* borrowed: certificates to trust; NULL: the system's */
    /* borrowed: "HOST:PORT:OTHER-HOST:OTHER-PORT" each, where requests for a host really go, as
     * libcurl's CONNECT_TO; ends with NULL; NULL for none */
    const char *const *connect_to;
};

struct mj_http;
typedef void (*mj_http_done_fn)(void *ctx, const struct mj_fetched *answer);

/* Starts the thread. 0, or MJ_EIO after a log line. */
int mj_http_start(const struct mj_http_cfg *cfg, struct mj_http **out);
/* Ends the thread and every request, with an error. NULL is fine. */
void mj_http_stop(struct mj_http *h);

/* Starts a request; everything is copied. `trusted`: the operator named the address, so it may be
 * anywhere. `done` is called once, on the net thread (or, at the end, on the one that stops it),
 * and never before this returns. The answer is borrowed during the call. Any thread. */
void mj_http_send(struct mj_http *h, const struct mj_fetch *request, bool trusted,
                  mj_http_done_fn done, void *ctx);

/* What the requests of one script may reach beyond cfg.reach; taken, NULL for nothing more. Counts
 * for requests that are sent from now on. Any thread. */
void mj_http_allow(struct mj_http *h, const char *script, struct mj_reach *reach);

/* For others who live on the net thread. */

/* A line to one address: what is known beforehand is prepared once, and handles are kept, so a
 * request costs little. A line has no turn to wait for and shares no limit with anybody: whoever
 * uses it decides how many requests are in the air, and a peer that hangs holds up these only. */
struct mj_http_line;
struct mj_http_line_cfg {
    const char *script;     /* borrowed during the call: whose requests they are, in metrics */
    const char *url;        /* the same */
    struct mj_span headers; /* the same: lines to be checked now; what a script gave */
    struct mj_reach *allow; /* taken: what it may reach besides; NULL for nothing */
    bool only_allowed;      /* also of the public internet only what a list names */
    int64_t timeout_us;
    size_t keep; /* idle handles */
};
/* Any thread. 0, or MJ_EINVAL with a sentence appended to `error` (`allow` is taken all the same).
 */
int mj_http_line_new(struct mj_http *h, const struct mj_http_line_cfg *cfg,
                     struct mj_http_line **out, struct mj_buf *error);
/* "https://host:port", for messages. Borrowed. */
const char *mj_http_line_origin(const struct mj_http_line *line);
/* Posts the body, which is borrowed until `done`; `headers` (lines, made by ourselves) is copied.
 * What comes behind the first max_bytes of the answer is not read, and that is no error. `done` is
 * called once, never before this returns, and may send the next. */
void mj_http_line_post(struct mj_http_line *line, struct mj_span headers, struct mj_span body,
                       size_t max_bytes, mj_http_done_fn done, void *ctx);
/* When nothing of it is in the air. NULL is fine. */
void mj_http_line_free(struct mj_http_line *line);

/* Calls fn in each round of the thread; it returns after how many µs it wants to be called again
 * at the latest. One at a time; fn NULL: nobody. */
void mj_http_set_tick(struct mj_http *h, int64_t (*fn)(void *ctx), void *ctx);
/* Lets a round begin, soon. Any thread. */
void mj_http_wake(struct mj_http *h);

/* Runs fn there, soon (or, at the end, on the thread that stops it). Any thread. */
void mj_http_run(struct mj_http *h, void (*fn)(void *ctx), void *ctx);

struct pollfd;
/* Descriptors to watch beside libcurl's: `prepare` fills in up to `max` of them, and lowers
 * *timeout_us to the time after which it must be called at the latest; `ready` gets them back. */
struct mj_http_poller {
    size_t (*prepare)(void *ctx, struct pollfd *fds, size_t max, int64_t *timeout_us);
    void (*ready)(void *ctx, const struct pollfd *fds, size_t n);
    void *ctx;
};
/* On the net thread; one at a time. */
void mj_http_set_poller(struct mj_http *h, const struct mj_http_poller *p);
