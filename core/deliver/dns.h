/* TXT records, asked for by c-ares on the net thread: handles are told by "_atproto.HANDLE". */
#pragma once

#include "deliver/http.h"

struct mj_dns;

/* servers: "ADDRESS:PORT,…", or NULL for the system's. Takes the net thread's poller. 0, MJ_ESYNTAX
 * for servers that are none, or MJ_EIO. Everything but
 * mj_dns_new() and mj_dns_free() is on the net thread. */
int mj_dns_new(struct mj_http *http, const char *servers, struct mj_dns **out);
/* Starts to watch its sockets; once, before the first question. */
void mj_dns_attach(struct mj_dns *d);
/* Ends every question, with an error. After mj_http_stop(). NULL is fine. */
void mj_dns_free(struct mj_dns *d);

/* Asks. `done` is called once, perhaps before this returns, with the texts (each of a record's
 * pieces put together), or with n 0 and an error text; an existing name without such records has
 * neither. */
void mj_dns_txt(struct mj_dns *d, const char *name,
                void (*done)(void *ctx, const char *error, const struct mj_span *texts, size_t n),
                void *ctx);
