/* Calls: requests that the server's thread hands to another thread, and their answers.
 *
 *   server's thread                                    the other thread (the router's)
 *   head and body are read
 *   cfg.request(ctx, call) ──▶ mj_calls ──wake──▶ mj_calls_take()
 *   answer is sent     ◀── libev async ── mj_call_answer()
 *
 * A call belongs to whoever it was handed to, who answers it once, from any thread, whenever: the
 * client may be gone by then, the server may have said 504 after 30 seconds or have stopped, and
 * then the answer is dropped. Whatever a call holds is valid until it is answered. */
#pragma once

#include "base/bytes.h"

enum mj_call_kind {
    MJ_CALL_ROUTE,  /* path is one of cfg.routes */
    MJ_CALL_CONTROL /* /ctl/COMMAND on the control socket; path is COMMAND */
};

struct mj_call {
    enum mj_call_kind kind;
    struct mj_span method;  /* a HEAD request comes as GET */
    struct mj_span path;    /* percent-decoded */
    struct mj_span query;   /* what is behind "?", still encoded */
    struct mj_span headers; /* "name: value\r\n"…, names in lower case */
    struct mj_span body;    /* at most 1 MiB; 64 MiB on the control socket */
    struct mj_span peer;    /* the client's address; empty on the control socket */
    struct mj_call *next;   /* for whoever holds the call */
};

/* Answers and gives the call back; everything is copied. `headers` are lines "Name: value\r\n" and
 * must not contain Content-Length, Connection or Transfer-Encoding; without a Content-Type it is
 * JSON. The first parameter is the call, as void * so that this can be passed as
 * mj_scripts_serve()'s `done`. */
void mj_call_answer(void *call, int status, struct mj_span headers, struct mj_span body);
/* Answers {"error":"…"}. */
void mj_call_fail(struct mj_call *call, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* True when nobody waits any more, so that work may be saved. The call is still to be answered. */
bool mj_call_gone(const struct mj_call *call);

/* Carries calls to the thread that answers them. */
struct mj_calls;

/* `wake` is called on the server's thread when the queue was empty. Never NULL. */
struct mj_calls *mj_calls_new(void (*wake)(void *ctx), void *ctx);
/* After the server has stopped. Answers what is left with 503. NULL is fine. */
void mj_calls_free(struct mj_calls *c);
/* mj_server_cfg.request with the queue as its ctx. Any thread. */
void mj_calls_put(void *calls, struct mj_call *call);
/* The oldest call, which is the caller's then, or NULL. Any thread. */
struct mj_call *mj_calls_take(struct mj_calls *c);

/* Which paths of the stream's listener are somebody's. Outlives the server that looks into it. */
struct mj_routes;

struct mj_routes *mj_routes_new(void);
void mj_routes_free(struct mj_routes *r);
/* Replaces them all: "GET /path" each, as base/route.h has it; what does not parse is left out. Any
 * thread. */
void mj_routes_set(struct mj_routes *r, const char *const *routes, size_t n);
