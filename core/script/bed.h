/* A bed: one script in the real router with the real VM and the real limits, and around it what a
 * test controls: the clock, what arrives, and who takes what comes out.
 *
 *   mj_bed_send ─▶ router ─▶ script's flows ─▶ outputs, kept until they are taken
 *                    clock: stands still        logs and errors, the same
 *
 * The clock and the log are the process's (base/clock.h, base/log.h), so between two calls of these
 * functions they are what they always are, and a bed may be used from one thread at a time only.
 *
 * A bed owns all it is made of. It knows nothing of the VM that a spec itself runs in. */
#pragma once

#include "base/log.h"
#include "event/kept.h"
#include "script/script.h"
#include "script/services.h"

#define MJ_BED_START_US   INT64_C(1767225600000000) /* 2026-01-01T00:00:00Z */
#define MJ_BED_OUTPUT_MAX ((size_t)256 << 20)       /* bytes that wait to be taken */
#define MJ_BED_ASKS_MAX   100000
#define MJ_BED_LOGS_MAX   10000 /* lines that wait to be taken */

struct mj_bed;
struct mj_sets;

/* One version of an event that left the flows. */
struct mj_output {
    struct mj_kept *event; /* one reference */
    uint64_t streams;      /* bit per stream */
    unsigned prints;       /* print nodes it reached */
};

struct mj_logged {
    enum mj_log_level level;
    bool error; /* an error of one of the script's functions, else a line of its own */
    char *text; /* owned */
};

/* Something a task of the script waits for. Everything is owned by the bed. */
struct mj_ask {
    bool resolve; /* jet.resolve, of `what`; else HTTP */
    uint64_t ticket;
    struct mj_buf method, what /* URL, DID or handle */, headers /* lines */, body;
    int64_t timeout_us;
    size_t max_bytes;
};

/* An answer of one of the script's routes. */
struct mj_answer {
    bool pending, done;
    bool head_only; /* to a HEAD request: the body is dropped */
    int status;
    struct mj_buf headers /* lines */, body;
};

/* Loads the script at `path`, its metrics being 0, which is named `name` in messages and metrics.
 * Of cfg (NULL: defaults) only
 * config_lua, config and secret_values are looked at; they are copied. `strict`: using an event
 * after its call is always an error (mj_scripts_strict()). NULL with a sentence appended to
 * `error`. */
struct mj_bed *mj_bed_new(const char *path, const char *name, const struct mj_script_cfg *cfg,
                          bool strict, struct mj_buf *error);
void mj_bed_free(struct mj_bed *bed); /* NULL is fine */

/* Loads the script's file again, whether or not it has changed. MJ_EINVAL when it does not load:
 * the one that runs goes on, and why is appended to `report`. */
int mj_bed_reload(struct mj_bed *bed, struct mj_buf *report);
/* Runs what is due until the script's clock is `until`, or now when that has passed; the clock
 * stops at each thing that is due. 0; 1 when the script has asked for something (mj_bed_ask()),
 * which is to be answered before the call is made again; MJ_ELIMIT when it did not come to rest in
 * patience_us of real time. */
int mj_bed_run(struct mj_bed *bed, int64_t until, int64_t patience_us);
/* Takes the oldest thing that the script has asked for; NULL when there is nothing. Borrowed for as
 * long as the bed. */
const struct mj_ask *mj_bed_ask(struct mj_bed *bed);
/* Answers it, by its kind. */
void mj_bed_fetched(struct mj_bed *bed, const struct mj_ask *ask, const struct mj_fetched *answer);
void mj_bed_resolved(struct mj_bed *bed, const struct mj_ask *ask,
                     const struct mj_identity *answer);
/* The next HTTP request since the last one asked for, told or not; NULL when there is none.
 * Borrowed for as long as the bed. */
const struct mj_ask *mj_bed_request(struct mj_bed *bed);
/* Asks one of the script's routes, or gets what the server says by itself; everything in `request`
 * is borrowed during the call. The answer comes during mj_bed_run(), which then ends at once. One
 * at a time. Borrowed until the next. */
const struct mj_answer *mj_bed_serve(struct mj_bed *bed, const struct mj_route_request *request);
/* Begins the end, of which mj_bed_run() is the rest: what the script has given jet.on_stop is due,
 * and its every-functions are over. True when all of it is done. */
bool mj_bed_stop(struct mj_bed *bed);

/* Routes one event; its time_us is set. 0, or MJ_ELIMIT when more waits to be taken than
 * MJ_BED_OUTPUT_MAX. */
int mj_bed_send(struct mj_bed *bed, struct mj_event *ev);
/* The bed's scripts, of which there is one. Borrowed. */
struct mj_scripts *mj_bed_scripts(struct mj_bed *bed);
/* The named sets it has. Borrowed. */
struct mj_sets *mj_bed_sets(struct mj_bed *bed);
int64_t mj_bed_now(const struct mj_bed *bed); /* Unix µs */
/* The next upstream seq, from 1. */
int64_t mj_bed_seq(struct mj_bed *bed);

/* The next output in the stream of that name, since the last one asked for; NULL: what was printed.
 * NULL when there is none; the name of no stream has none. Borrowed until the bed's next call. */
const struct mj_output *mj_bed_take(struct mj_bed *bed, const char *stream);
/* The name of the i-th stream, "main" first; NULL behind the last. */
const char *mj_bed_stream(const struct mj_bed *bed, size_t i);
/* True when the script feeds the stream, or it is "main". */
bool mj_bed_has_stream(const struct mj_bed *bed, const char *stream);

/* The next event that was handed to the plug-in of that name since the last one asked for; NULL
 * when there is none. Borrowed until the bed's next call. */
const struct mj_event *mj_bed_sunk(struct mj_bed *bed, const char *plugin);
/* The next request that a webhook would have made since the last one asked for, of that node (NULL:
 * any); NULL when there is none. Borrowed until the bed's next call. */
struct mj_bed_post {
    char *node, *url, *id;    /* owned by the bed */
    struct mj_buf type, body; /* the same */
    size_t events;
    bool taken;
};
const struct mj_bed_post *mj_bed_posted(struct mj_bed *bed, const char *node);
/* Whether the script has a webhook at a node of that name. */
bool mj_bed_has_webhook(const struct mj_bed *bed, const char *node);
/* The next line the script logged, or (error) the next error of its functions; NULL when there is
 * none. Borrowed until the bed's next call. */
const struct mj_logged *mj_bed_log(struct mj_bed *bed, bool error);
/* The sum of the metric's series that are this script's, or nobody's, and have all of the labels
 * (`a="b",c="d"`; NULL: any). 0 when there is none. */
double mj_bed_metric(struct mj_bed *bed, const char *name, const char *labels);
