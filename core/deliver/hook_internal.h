/* What the files of the webhook engine share: hook.c, when to post; hook_post.c, what is posted and
 * what becomes of it. Everything belongs to the net thread unless it says otherwise. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/metrics.h"
#include "deliver/breaker.h"
#include "deliver/hook.h"
#include "deliver/sign.h"
#include "script/due.h"

enum mj__posted { /* requests by what came of them: a label */
                  MJ__POSTED_2XX,
                  MJ__POSTED_3XX,
                  MJ__POSTED_4XX,
                  MJ__POSTED_5XX,
                  MJ__POSTED_ERROR,
                  MJ__POSTED_REFUSED,
                  MJ__POSTED_COUNT
};

/* A parcel on its way. */
struct mj_hook_ask {
    struct mj_hook *hook;     /* borrowed: lives as long as its parcels */
    struct mj_parcel *parcel; /* owned until it is settled */
    struct mj_formatted made; /* owned: what the script's function said, or the batch's body */
    size_t bytes;             /* of its events and its body */
    bool sent;
    int64_t sent_us;
    struct mj_hook_ask *next; /* whoever has it on a list */
};

struct mj_hook {
    struct mj_hooks *hooks;                     /* borrowed */
    struct mj_hook *next;                       /* in hooks->all */
    struct mj_reader *reader;                   /* borrowed */
    struct mj_hook_spec *spec;                  /* owned */
    struct mj_http_line *line;                  /* owned */
    struct mj_sign_key *keys[MJ_HOOK_LIST_MAX]; /* owned */
    struct mj_buf fixed;                        /* owned: header lines of every request */
    struct mj_buf type;                         /* owned: Content-Type, when the script gave one */
    struct mj_secret *hidden;                   /* owned: what an excerpt must not show */
    char name[MJ_READER_NAME_MAX + 1];          /* "SCRIPT NODE", fit for a header */
    struct mj_breaker breaker;
    size_t busy, bytes;    /* parcels and their bytes on their way */
    int64_t hold_until_us; /* the peer has asked for quiet, or the script is quarantined */
    int64_t next_us;       /* the rate allows no request before */
    unsigned refused;      /* 401, 403, 404 in a row */
    int64_t refused_us;    /* since when */
    bool closing, ready;
    struct mj_hook *ready_next;
    struct mj_due timer;
    _Atomic bool woken; /* any thread */
    struct mj_hook *woken_next;
    struct mj_metric *posted[MJ__POSTED_COUNT], *state, *opened;
};

struct mj_hooks {
    struct mj_hooks_cfg cfg;
    struct mj_view view;
    struct mj_hook *all; /* owned list, by open() */
    struct mj_hook *ready, **ready_last;
    struct mj_dues timers;
    size_t bytes;    /* of parcels on their way */
    uint64_t random; /* xorshift's */
    struct mj_histogram *delay, *took;
    _Atomic(struct mj_hook *) woken;        /* any thread pushes */
    _Atomic(struct mj_hook_ask *) answered; /* the same */
    _Atomic bool draining;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* `sent` is 0 */
    _Atomic size_t sent;    /* requests in the air */
};

/* hook.c: the endpoint may have something to do. */
void mj__hook_ready(struct mj_hook *h);
uint64_t mj__hooks_random(struct mj_hooks *hs);
/* The parcel is settled: what it took is free. */
void mj__hook_free_room(struct mj_hook_ask *a);

/* hook_post.c */
/* Begins with a parcel. */
void mj__hook_start(struct mj_hook *h, struct mj_parcel *p);
/* Goes on when the script's function has answered. */
void mj__hook_formatted(struct mj_hook_ask *a);
/* Nobody tried. */
void mj__hook_back(struct mj_hook_ask *a);
/* Reads secrets, fixed headers. 0, or MJ_EINVAL with a sentence. */
int mj__hook_prepare(struct mj_hook *h, struct mj_buf *error);
