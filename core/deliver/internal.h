/* What the files of the net thread share. Everything here belongs to that thread, unless it says
 * otherwise. */
#pragma once

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/metrics.h"
#include "deliver/http.h"

#define MJ_URL_MAX      8192
#define MJ_ANSWER_HEADS (64u << 10) /* bytes of an answer's headers */

/* Who is counted together: the requests of a script, or to a host. */
struct mj_party {
    struct mj_party *next; /* in its chain */
    size_t jobs, active;
    char *name; /* owned */
};

enum mj_outcome {
    MJ_OUTCOME_2XX,
    MJ_OUTCOME_3XX,
    MJ_OUTCOME_4XX,
    MJ_OUTCOME_5XX,
    MJ_OUTCOME_ERROR,
    MJ_OUTCOME_REFUSED, /* by us, before anything was sent */
    MJ_OUTCOMES
};

struct mj_client { /* a script */
    struct mj_party party;
    size_t lingering;       /* look-ups of names that nobody waits for any more */
    size_t bytes;           /* of its requests and answers, of those in http->bytes */
    struct mj_reach *reach; /* owned: what it may reach besides; NULL for nothing */
    struct mj_metric *outcomes[MJ_OUTCOMES];
};

/* One request, from mj_http_send() to its `done`; or a line's, which is used again and again. */
struct mj_job {
    struct mj_job *next;
    struct mj_http *http; /* borrowed */
    mj_http_done_fn done;
    void *ctx;
    char *script, *method, *url; /* owned */
    struct mj_buf request_headers, request_body;
    size_t max_bytes;
    size_t counted; /* in http->bytes */
    int64_t start_us, deadline_us, timeout_us;
    bool trusted;              /* the operator named the address */
    struct mj_http_line *line; /* borrowed; NULL: a request of its own */

    char *origin; /* owned: "https://host:port", for messages, which must not show tokens */
    char *host;   /* owned: as in the URL, without brackets */
    int port;
    struct mj_client *client;       /* counted */
    struct mj_party *to;            /* counted */
    CURL *easy;                     /* owned; NULL while it waits */
    struct curl_slist *header_list; /* owned */
    char curl_error[CURL_ERROR_SIZE];
    size_t lines; /* of the answer's headers */
    bool head, refused, too_large, too_many_headers, out_of_memory;
    bool cut;           /* a line's: more of the answer is not kept */
    char vetted[64];    /* a line's: the address that was last found to be allowed … */
    unsigned vetted_at; /* … under http->reach_changes */
    struct mj_buf headers, body, error;
};

/* http_line.c */
struct mj_http_line {
    struct mj_http_line *next; /* in http->lines, once it was used */
    struct mj_http *http;      /* borrowed */
    struct mj_job *first;      /* owned: what the others are made after; of no request itself */
    struct mj_reach *allow;    /* owned */
    bool only_allowed, known;
    int64_t timeout_us;
    size_t keep, idle_count;
    struct mj_job *idle, *running; /* owned lists */
};

/* A look-up that was given up: its thread is the system's until that gives up, too. */
struct mj_lingering {
    struct mj_lingering *next;
    struct mj_client *client; /* counted */
    int64_t until_us;
};

struct mj_http {
    struct mj_http_cfg cfg;
    pthread_t thread;
    CURLM *multi;        /* owned */
    int epoll, bell;     /* owned: libcurl's sockets; what other threads ring */
    int64_t curl_due_us; /* libcurl wants to be called, in real time; 0: at once */
    uint8_t *interest;   /* owned: by descriptor, what epoll has of it */
    size_t interest_cap;
    struct curl_slist *connect_to; /* owned */
    struct mj_metric *in_flight, *queued;
    struct mj_histogram *seconds;

    /* Handed over by other threads. */
    pthread_mutex_t lock;
    struct mj_job *incoming, **incoming_last;
    struct mj_http_task *tasks, **tasks_last;
    bool stopping;
    _Atomic size_t bytes; /* of all requests and answers held */
    _Atomic size_t jobs;  /* not answered yet */

    struct mj_job *waiting, **waiting_last; /* for a turn, in order */
    struct mj_job *running;                 /* owned list */
    struct mj_http_line *lines;             /* borrowed list */
    unsigned reach_changes;                 /* calls of mj_http_allow() */
    size_t active;
    int64_t next_expiry_us; /* no waiting job ends before; INT64_MAX for none */
    struct mj_party *hosts[256];
    struct mj_party *clients; /* struct mj_client; never freed before the end */
    struct mj_lingering *lingering, **lingering_last; /* owned list, in order of time */

    struct mj_http_poller poller;
    int64_t (*tick)(void *ctx); /* mj_http_set_tick(); NULL for none */
    void *tick_ctx;             /* borrowed: its own */
};

/* http.c: the script's own party, made when it is new. */
struct mj_client *mj__http_client(struct mj_http *h, const char *script);
/* http.c: tells whoever waits for what libcurl is done with. True when there was something. */
bool mj__http_results(struct mj_http *h);

/* http_wait.c: after `multi` was made; 0 or MJ_EIO; deinit either way, after `multi` is gone. */
int mj__wait_init(struct mj_http *h);
void mj__wait_deinit(struct mj_http *h);
/* What is due by libcurl's clock. True when something has ended. */
bool mj__wait_run_due(struct mj_http *h);
/* Waits for sockets, the bell, the poller's descriptors, or that long, and lets libcurl work. */
void mj__wait(struct mj_http *h, int64_t timeout_us);
/* libcurl's CURLOPT_CLOSESOCKETFUNCTION, with the mj_http. */
int mj__http_close(void *http, curl_socket_t fd);
/* http_line.c: a line's request has ended; at the end all of them have. */
void mj__line_result(struct mj_job *job, CURLcode code);
void mj__lines_stop(struct mj_http *h);

/* http_job.c: reads URL, method and headers of a new job, and finds out whom it goes to. 0, or
 * MJ_EINVAL with the sentence in job->error. */
int mj__job_prepare(struct mj_job *job);
/* Header lines made or checked by ourselves, in place of those the job has; Content-Type is the
 * first. 0 or MJ_ENOMEM. */
int mj__job_headers(struct mj_job *job, struct mj_span lines);
/* Makes the easy handle. 0, MJ_ENOMEM, or MJ_EINVAL with the sentence in job->error. */
int mj__job_start(struct mj_job *job);
/* What the result of a transfer means, as a sentence; NULL: there is an answer. */
const char *mj__job_result(struct mj_job *job, CURLcode code);
void mj__job_free(struct mj_job *job);
