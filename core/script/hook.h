/* A webhook as jet.webhook declares it: plain data that the script room makes, and whoever has
 * sockets (deliver/hook.h) works with. A text here is a script's, checked as far as it can be
 * without the network.
 *
 *   event  ─▶ its Jetstream JSON                                 ┐
 *   batch  ─▶ {"type":"moonjet.batch","timestamp":…,"data":[…]}  ├─▶ body
 *   fn     ─▶ whatever the script's function makes of it         ┘
 *
 * A spec is owned by who made it; secrets are wiped when it goes. */
#pragma once

#include "journal/reader.h"

#define MJ_HOOK_LIST_MAX 16 /* secrets; further lists are as long as they are */

enum mj_hook_format { MJ_HOOK_EVENT, MJ_HOOK_BATCH, MJ_HOOK_FUNCTION };

struct mj_hook_spec {
    char *script, *node; /* owned, as all texts here */
    char *url;
    char *secrets[MJ_HOOK_LIST_MAX];
    size_t secret_count;
    char *github_secret; /* NULL: none */
    bool made_up;        /* MJ_SECRET_MADE_UP is for a key, and nothing is signed */
    char **allow;        /* hosts, addresses, prefixes */
    size_t allow_count;
    char *headers; /* "Name: value\r\n"…; NULL: none */
    enum mj_order order;
    struct mj_retry retry;
    bool retry_bad; /* a 4xx is tried again, too */
    size_t max, max_bytes;
    int64_t every_us;
    size_t concurrency;
    int64_t rate_count, rate_period_us; /* 0: no limit */
    int64_t timeout_us;
    enum mj_hook_format format;
    uint64_t function; /* for mj_scripts_format(); with MJ_HOOK_FUNCTION */
};

struct mj_hook_spec *mj_hook_spec_copy(const struct mj_hook_spec *spec);
void mj_hook_spec_free(struct mj_hook_spec *spec); /* NULL is fine */
void mj_hook_spec_deinit(struct mj_hook_spec *spec);

/* Appends "https://host:port" of the URL. 0, or MJ_ESYNTAX with a sentence in `error` when it is no
 * URL to post to: http needs `allow`, a user name is refused. */
int mj_hook_origin(const struct mj_hook_spec *spec, struct mj_buf *out, struct mj_buf *error);

/* Appends the body of a batch. The same for the same items. */
void mj_hook_batch(const struct mj_item *items, size_t n, struct mj_buf *out);

/* What the script's function made of a parcel. */
struct mj_formatted {
    enum {
        MJ_FORMATTED,     /* body and type */
        MJ_FORMAT_NONE,   /* nothing is to be sent */
        MJ_FORMAT_FAILED, /* it raised, or what it returned is no body: `error` */
        MJ_FORMAT_LATER,  /* the script is quarantined */
        MJ_FORMAT_GONE    /* no such function any more */
    } what;
    struct mj_buf body, type, error; /* owned by whoever made the struct */
};
