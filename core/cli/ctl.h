/* What `moonjet ctl` is made of: a client of the control socket, answers as text, and the live
 * table.
 *
 *   POST /ctl/COMMAND   {"args":["…"]}
 *   answer              a JSON object, {"error":"…"} with a status of 400 or more; or text
 *
 * The server is trusted to be ours, not to be well: what it says is bounded, checked and, since
 * strangers' words are in it, shown without anything that could steer a terminal. */
#pragma once

#include "base/bytes.h"

#define MJ__CTL_ANSWER_MAX  (256u << 20) /* bytes */
#define MJ__CTL_REQUEST_MAX (60u << 20)

struct mj__ctl_answer {
    int status;
    bool is_json;
    struct mj_buf body; /* owned */
};

/* Asks once. `command` goes into the path as it is. 0; or a negative error with a sentence in
 * `error` that says what to do. An answer of any status is an answer. */
int mj__ctl_ask(const char *socket, const char *command, struct mj_span body,
                struct mj__ctl_answer *out, struct mj_buf *error);
/* The sentence of an answer that is an error, or {NULL, 0}: borrowed from `text`. */
struct mj_span mj__ctl_error(const struct mj__ctl_answer *a, struct mj_buf *text);

/* Appends a JSON value as text: members a line each, lists of objects as tables. False when it is
 * no JSON; then nothing was appended. */
bool mj__ctl_show(struct mj_span json, struct mj_buf *out);

/* ---- deliveries ---- */

/* What stands behind `moonjet ctl deliveries`; all borrowed. */
struct mj__ctl_deliveries {
    const char *const *words; /* the verb and the words of a name */
    size_t words_n;
    const char *at; /* or NULL */
    bool all, yes, json;
};
/* An exit status. */
int mj__ctl_deliveries(const char *socket, const struct mj__ctl_deliveries *given);

/* ---- top ---- */

struct mj__ctl_node {
    char *script, *node; /* owned */
    double in, out, dropped, errors, ns;
};

/* A durable reader: a webhook, an :each, a plug-in. */
struct mj__ctl_reader {
    char *name; /* owned */
    double delivered, failed, waiting, lag, in_flight, letters, state;
};

/* Two of them make a table. */
struct mj__ctl_sample {
    struct mj__ctl_node *nodes; /* owned */
    size_t count, cap;
    struct mj__ctl_reader *readers; /* owned */
    size_t reader_count, reader_cap;
    double events, subscribers, delivered;
    int64_t at_us; /* monotonic */
};
void mj__ctl_sample_deinit(struct mj__ctl_sample *s);
/* Takes the figures out of metrics in Prometheus' text form. */
void mj__ctl_sample_read(struct mj__ctl_sample *s, struct mj_span metrics, int64_t at_us);
/* At most `lines` lines of table; what takes most time first. */
void mj__ctl_top(const struct mj__ctl_sample *before, const struct mj__ctl_sample *now,
                 size_t lines, struct mj_buf *out);
