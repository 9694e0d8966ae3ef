/* What scripts need from the rest of the program, as functions: the script room knows no sockets
 * and no curl. Whoever runs scripts (moonjet run, test, backtest, repl) fills it in; what is NULL
 * does not exist there, and using it is an error that says so.
 *
 *   task ─ jet.http.get ─▶ fetch(ticket, request) ─▶ net thread
 *                          mj_scripts_fetched(ticket, …) ◀── on the scripts' thread, later
 *
 * All functions are called on the scripts' thread and must not wait. */
#pragma once

#include "event/event.h"

#define MJ_HEADERS_MAX 256 /* header lines of an answer */

/* A request of a script; everything is borrowed during the call. */
struct mj_fetch {
    const char *script; /* whose */
    struct mj_span method, url, headers /* "Name: value\r\n"… */, body;
    int64_t timeout_us;
    size_t max_bytes;
};

/* Its answer; borrowed during mj_scripts_fetched(). */
struct mj_fetched {
    const char *error; /* NULL: there is an answer */
    int status;
    struct mj_span headers; /* "name: value\r\n"…, names in lower case; MJ_HEADERS_MAX */
    struct mj_span body;
    bool cut;    /* there was more of it, which is not kept */
    bool unsent; /* the error is ours: nobody was asked */
};

struct mj_identity {
    const char *error;                    /* NULL: found */
    const char *did, *handle, *pds, *key; /* all but did may be NULL */
    const char *labeler, *label_key;      /* a labeler's address and key */
};

/* How much of it is asked for. */
enum mj_resolve {
    MJ_RESOLVE_WHO,      /* all, and the handle has to lead back */
    MJ_RESOLVE_DOCUMENT, /* of a DID, what its document says: keys and the PDS, but no handle */
    MJ_RESOLVE_ANEW,     /* the same, when what was found before proved to be out of date */
};

struct mj_hook_spec; /* script/hook.h */
struct mj_reader;    /* journal/reader.h */

/* What a webhook would post, where nothing is posted; everything borrowed during the call. */
struct mj_posted {
    const char *node;
    const char *url;
    struct mj_span type, body; /* Content-Type, body */
    const char *id;            /* of its first event */
    size_t events;
};

struct mj_services {
    void *ctx;
    /* Unix µs; NULL: the clock. A test's clock stands still. */
    int64_t (*now_us)(void *ctx);
    /* Starts a request; answered by mj_scripts_fetched() with the ticket, once. */
    void (*fetch)(void *ctx, uint64_t ticket, const struct mj_fetch *request);
    /* Looks up a DID or handle; answered by mj_scripts_resolved(). */
    void (*resolve)(void *ctx, uint64_t ticket, struct mj_span who, enum mj_resolve how);
    /* The routes of all scripts have changed: `routes` are "GET /path" texts, borrowed. */
    void (*routes)(void *ctx, const char *const *routes, size_t n);
    /* Takes what goes to plug-ins, which do not run then: for specs and the backtest. NULL: they
     * run. `ev` is borrowed. */
    void (*sunk)(void *ctx, const char *plugin, const struct mj_event *ev);
    /* Webhooks. Whether one can be made of the spec: 0, or a negative error with a sentence. */
    int (*hook_check)(void *ctx, const struct mj_hook_spec *spec, struct mj_buf *error);
    /* Posts what the reader has from now on (the spec is copied), until hook_close() gets what this
     * returned; NULL when it cannot, which it has said. */
    void *(*hook_open)(void *ctx, struct mj_reader *reader, const struct mj_hook_spec *spec);
    void (*hook_close)(void *ctx, void *hook);
    /* Takes what webhooks would post: for specs. NULL: see `sunk`, which then gets their events,
     * with "webhook" for the plug-in's name. */
    void (*posted)(void *ctx, const struct mj_posted *posted);
    /* Something became due earlier than the last mj_scripts_run() said: call it soon. */
    void (*wake)(void *ctx);
    /* The same, on any thread. */
    void (*notify)(void *ctx);
};
