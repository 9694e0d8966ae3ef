/* Who is behind a DID or a handle, with the handle checked in both directions.
 *
 *   did    ──▶ document ──▶ claims a handle? ──▶ does it lead back to the DID? then it counts
 *   handle ──▶ DID ──▶ document ──▶ does it claim the handle? then that is the answer
 *   did    ──▶ document, which is all that is needed for a key or a PDS (MJ_RESOLVE_DOCUMENT)
 *
 *   document   did:plc from the directory, did:web from the host
 *   handle     DNS (TXT of _atproto.HANDLE); without a word from there, HTTPS
 *
 * Each of the two kinds of step is cached by itself, good ones for an hour, failures for a minute;
 * those who want the same step at the same time wait for one request. Entries are bounded, and the
 * least recently used goes first. Everything happens on the net thread. */
#pragma once

#include "deliver/http.h"

struct mj_resolver_cfg {
    const char *plc;        /* borrowed: the did:plc directory; NULL: https://plc.directory */
    const char *dns;        /* borrowed: "ADDRESS:PORT,…"; NULL: the system's name servers */
    int64_t keep_us;        /* 0: an hour */
    int64_t keep_failed_us; /* 0: a minute */
    int64_t timeout_us;     /* of one step; 0: 5 s */
    size_t max_entries;     /* 0: 10,000 */
    size_t max_asks;        /* waiting at a time; 0: 10,000 */
};

struct mj_resolver;
typedef void (*mj_resolver_done_fn)(void *ctx, const struct mj_identity *identity);

/* 0, MJ_ESYNTAX (dns) or MJ_EIO after a log line. Borrows http. */
int mj_resolver_new(struct mj_http *http, const struct mj_resolver_cfg *cfg,
                    struct mj_resolver **out);
/* After mj_http_stop(). Whoever still waits gets an error. NULL is fine. */
void mj_resolver_free(struct mj_resolver *r);

/* Asks for a DID or handle, which is copied. `done` is called once, on the net thread (or the one
 * that ends things), never before this returns; its argument is borrowed. Any thread.
 *
 * MJ_RESOLVE_ANEW is for whoever found that the DID's document is out of date (a key that does not
 * fit): what is cached for longer than `keep_failed_us` is asked for anew, what is younger counts.
 * So whoever sends bad signatures costs one request a minute. */
void mj_resolver_ask(struct mj_resolver *r, struct mj_span who, enum mj_resolve how,
                     mj_resolver_done_fn done, void *ctx);
