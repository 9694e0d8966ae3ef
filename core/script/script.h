/* Scripts: Lua files that draw graphs and run on events (docs/scripting.md).
 *
 *   struct mj_scripts *s = mj_scripts_new(router);
 *   if (mj_scripts_load(s, "examples/quickstart.lua", &cfg, &error)) …
 *
 * One file is one VM: a script's error, loop or memory bomb costs its own events only. Loading
 * runs the file once, which declares; on success its graph is added to the router, and its
 * functions run on the router's thread from then on.
 *
 * Owns the VMs and graphs, borrows the router. Free the router first. */
#pragma once

#include "base/options.h"
#include "flow/router.h"

struct mj_scripts;

/* What a failing where or map, and a quarantined script's part of main, do with the event. */
enum mj_on_error {
    MJ_ON_ERROR_DEFAULT, /* a failing function drops it; a quarantined script's main passes it */
    MJ_ON_ERROR_PASS,    /* both pass it as it came */
    MJ_ON_ERROR_DROP     /* both drop it */
};

struct mj_script_cfg {
    size_t memory;      /* bytes of heap; 0 = 64 MiB */
    int64_t call_us;    /* budget of one call; 0 = 50 ms */
    int64_t declare_us; /* budget of loading; 0 = 500 ms */
    int64_t slow_us;    /* a call above it is counted as slow; 0 = 5 ms */
    /* Borrowed while loading, each may be NULL: */
    const char *config_lua;          /* jet.config as a Lua table, "{ did = 'did:…', n = 5 }" */
    const struct mj_strings *config; /* "key=value" each, over those */
    /* Names that jet.secret may ask for (NULL: any), the directory of their files, and for tests
     * "NAME=value" instead of anything else. */
    const struct mj_strings *secrets;
    const char *secrets_dir;
    const struct mj_strings *secret_values;
    bool lint;            /* mj_scripts_unused() will be asked */
    bool made_up_secrets; /* every secret is to be had, and is MJ_SECRET_MADE_UP: for whoever runs
                             scripts that cannot act */
    enum mj_on_error on_error;
};

/* router NULL: scripts are loaded and checked, nothing runs. */
struct mj_scripts *mj_scripts_new(struct mj_router *router);
void mj_scripts_free(struct mj_scripts *s);
/* The router is about to go, or gone: the scripts get no events any more, and end. */
void mj_scripts_leave(struct mj_scripts *s);

/* What scripts remember (state/store.h); before the first script is loaded. Borrowed; free the
 * scripts first. Without it they have a store of their own, in memory, with the services' clock. */
struct mj_store;
void mj_scripts_set_store(struct mj_scripts *s, struct mj_store *store);
struct mj_store *mj_scripts_store(const struct mj_scripts *s);

/* Loads one file. cfg NULL for the defaults. 0; MJ_EIO when it cannot be read; MJ_EINVAL when it
 * does not load; MJ_ELIMIT for too many streams. The reason is appended to `error`, with file and
 * line where there is one; nothing of the script remains then. */
int mj_scripts_load(struct mj_scripts *s, const char *path, const struct mj_script_cfg *cfg,
                    struct mj_buf *error);
size_t mj_scripts_count(const struct mj_scripts *s);
/* The graph of script i, in load order. Borrowed. */
const struct mj_graph *mj_scripts_graph(const struct mj_scripts *s, size_t i);

/* Appends a line "FILE:LINE: …" for each thing that script i made at its top level and nothing can
 * ever use, and returns how many there are. It was loaded with cfg.lint. */
size_t mj_scripts_unused(struct mj_scripts *s, size_t i, struct mj_buf *out);

/* How a script is doing. Texts are borrowed until it is reloaded. */
struct mj_script_state {
    const char *name, *path;
    const char *state; /* "running", "degraded", "quarantined", "out" */
    unsigned strikes;  /* since the last 10 quiet minutes */
    int64_t left_us;   /* of the quarantine */
    size_t heap, heap_max;
    int64_t age_us; /* since it was loaded */
};
/* Of script i, in load order. On the scripts' thread. */
void mj_scripts_state(const struct mj_scripts *s, size_t i, struct mj_script_state *out);

/* A script as quarantined for the n-th time (n from 1) or, n 0, out until it is reloaded: for those
 * that made a process before this one restart. */
void mj_scripts_quarantine(struct mj_scripts *s, size_t i, unsigned n);

/* A call that is stuck inside C, where nothing but the process can be ended. */
struct mj_stuck {
    const char *path;  /* of the script, as it was given */
    const char *doing; /* the node's or task's name, or "loading" */
};
/* Called on a thread of its own while the scripts' thread is stuck; must not touch the scripts.
 * Before the first script is loaded. */
void mj_scripts_on_stuck(struct mj_scripts *s, void (*fn)(void *ctx, const struct mj_stuck *stuck),
                         void *ctx);

/* ---- tasks and services; on the thread that routes ---- */

struct mj_services;
struct mj_fetched;
struct mj_identity;
/* Before the first script is loaded. Borrowed. */
void mj_scripts_set_services(struct mj_scripts *s, const struct mj_services *services);
/* For tests of scripts: every call gets handles of its own, so that an event which is used after
 * its call is an error, always. Before the first script is loaded. */
void mj_scripts_strict(struct mj_scripts *s);
/* Strikes are counted, but nobody is quarantined for them: where what a script would do is looked
 * at, and nobody else is there to be protected from it. */
void mj_scripts_lenient(struct mj_scripts *s);
/* These run beside each other in one thread that others wait for: when one takes more than half of
 * its time, that is logged. */
void mj_scripts_share(struct mj_scripts *s);
/* Before scripts are loaded that have no router: their matches are asked about events, so what they
 * put into their sets is to be there. */
void mj_scripts_asked(struct mj_scripts *s);
/* Runs timers and tasks that are due, for about budget_us at most. Returns after how many µs to
 * call it again; negative: not before something happens. */
int64_t mj_scripts_run(struct mj_scripts *s, int64_t budget_us);
/* The part of it that is no task: quarantines that are over, room that state gives back. Where no
 * task may run. */
int64_t mj_scripts_tend(struct mj_scripts *s);
/* Answers of services (script/services.h). A ticket nobody waits for any more is ignored. */
void mj_scripts_fetched(struct mj_scripts *s, uint64_t ticket, const struct mj_fetched *answer);
void mj_scripts_resolved(struct mj_scripts *s, uint64_t ticket, const struct mj_identity *answer);

/* Runs a webhook's format function on the items: what it made of them is appended to out's buffers.
 * `list`: it gets a list, even of one. */
struct mj_item;
struct mj_formatted; /* script/hook.h */
void mj_scripts_format(struct mj_scripts *s, uint64_t function, const struct mj_item *items,
                       size_t n, bool list, struct mj_formatted *out);

/* A request to one of the scripts' routes; everything borrowed during the call. */
struct mj_route_request {
    struct mj_span method, path, query, headers, body, peer;
};
/* Starts the task that answers it. `done` is called once, on this thread, with the answer (status
 * 404 when no route fits, 500 when the function failed, 503 when too many are being answered). */
void mj_scripts_serve(struct mj_scripts *s, const struct mj_route_request *request,
                      void (*done)(void *ctx, int status, struct mj_span headers,
                                   struct mj_span body),
                      void *ctx);
/* Runs what jet.on_stop gave, as tasks, for `budget_us` at most (they may wait; call
 * mj_scripts_run() and the loop meanwhile). True when all have ended. */
bool mj_scripts_stop(struct mj_scripts *s, int64_t budget_us);
