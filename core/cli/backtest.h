/* What `moonjet backtest` is made of: events of the past through scripts that must not act.
 *
 *   input    a journal, a capture or JSON lines, told from first to last; each event has an
 *            ordinal, which grows and is the same whoever reads the input
 *   side     a set of scripts with a router of its own that writes nowhere; what it would have let
 *            through is an outcome
 *   outlet   where events leave a side: a stream, what is printed, a node that hands them to tasks
 *            or plug-ins
 *   outcome  of one event: which outlets it reached, and in which version
 *
 *   input ─▶ side NEW ─▶ outcomes ─┐
 *   input ─▶ side OLD ─▶ outcomes ─┴▶ comparison, by ordinal
 *
 * With two sides, OLD lives in a process of its own: what scripts share within a process (sets,
 * metrics, the clock) cannot leak from one to the other. Its outcomes come through a pipe. */
#pragma once

#include "base/bytes.h"
#include "base/options.h"
#include "event/event.h"

/* ---- input (backtest_input.c) ---- */

struct mj__backtest_input {
    /* Set by the caller. */
    const char *data, *capture, *lines; /* borrowed; one of them, the others NULL */
    int64_t from_us, until_us;          /* [from, until) */
    void *ctx;                          /* of the functions */
    /* Could any event of that kind, operation and collection matter? */
    bool (*wants)(void *ctx, const struct mj_event *like);
    void (*event)(void *ctx, uint64_t ordinal, struct mj_event *ev);
    void (*tick)(void *ctx); /* now and then */

    /* Found out on the way. */
    uint64_t events; /* in the range, and readable as far as they were read */
    uint64_t read;   /* how many had to be read */
    uint64_t bad;    /* that could not be, and why the first one could not */
    char first_bad[200];
    int64_t first_us, last_us;          /* of events in the range; 0 when there are none */
    uint64_t done, all;                 /* how far it is, in its own units; all 0: not known */
    struct mj__backtest_source *source; /* owned */
};

/* Makes sure that it is there. 0, or a negative error with a sentence in `error`. A journal is read
 * as it is now, also by a process forked afterwards. */
int mj__backtest_open(struct mj__backtest_input *in, struct mj_buf *error);
/* time_us of the newest event of a journal; 0 for other inputs. */
int64_t mj__backtest_newest(const struct mj__backtest_input *in);
/* Tells everything. 0, or a negative error with a sentence in `error`. */
int mj__backtest_read(struct mj__backtest_input *in, struct mj_buf *error);
void mj__backtest_close(struct mj__backtest_input *in);

/* ---- side (backtest_side.c) ---- */

#define MJ__OUTLETS_MAX 1024

struct mj__outlet {
    char *name; /* owned: "stream lua", "print", "each bot.lua each#1" */
    bool main;  /* the main stream: outcomes tell where it was not left alone */
};

struct mj__hit {
    uint32_t outlet;
    bool dropped;    /* main only: the event did not get there */
    uint64_t digest; /* of the edited record; 0: as it came */
};

/* Of one event; the spans are borrowed during the call. */
struct mj__outcome {
    uint64_t ordinal;
    struct mj_span uri, text;
    const struct mj__hit *hits;
    size_t count; /* 1 or more */
};

struct mj__side;
typedef void (*mj__outcome_fn)(void *ctx, const struct mj__outcome *o);

/* Loads the scripts; NULL with a sentence in `error`. `alone`: a script's name is not needed to
 * tell its nodes from others. */
struct mj__side *mj__side_new(const struct mj_strings *scripts, const struct mj_strings *config,
                              size_t memory, struct mj_buf *error);
void mj__side_free(struct mj__side *s);
void mj__side_on_outcome(struct mj__side *s, mj__outcome_fn fn, void *ctx);
/* As the input's functions. */
bool mj__side_wants(void *side, const struct mj_event *like);
void mj__side_event(void *side, uint64_t ordinal, struct mj_event *ev);
void mj__side_tick(struct mj__side *s);

size_t mj__side_outlets(const struct mj__side *s);
const struct mj__outlet *mj__side_outlet(const struct mj__side *s, size_t i);

/* A node of a side's scripts, for the report. */
struct mj__node_figures {
    const char *script, *node, *file;
    unsigned line;
    int64_t in, passed, dropped, errors, ns;
};
size_t mj__side_nodes(const struct mj__side *s);
struct mj__node_figures mj__side_node(const struct mj__side *s, size_t i);
/* Different error messages of scripts, as far as they were kept, with how often each came. */
size_t mj__side_errors(const struct mj__side *s);
const char *mj__side_error(const struct mj__side *s, size_t i, uint64_t *count);

/* ---- the other side (backtest_old.c) ---- */

struct mj__other;

/* Starts a process that runs the scripts over the input. NULL with a sentence in `error`. Before
 * this process has threads. */
struct mj__other *mj__other_start(struct mj__backtest_input *in, const struct mj_strings *scripts,
                                  const struct mj_strings *config, size_t memory,
                                  struct mj_buf *error);
/* Waits until its scripts are loaded: its outlets. 0, or MJ_EINVAL after it has said why not. */
int mj__other_ready(struct mj__other *o);
size_t mj__other_outlets(const struct mj__other *o);
const struct mj__outlet *mj__other_outlet(const struct mj__other *o, size_t i);
/* Its next outcome, valid until the next call; false at the end. */
bool mj__other_next(struct mj__other *o, struct mj__outcome *out);
/* Waits for its end: 0, or MJ_EIO when it did not come to one. *errors: of its scripts. */
int mj__other_end(struct mj__other *o, uint64_t *errors);
void mj__other_free(struct mj__other *o);

/* ---- comparison (backtest_compare.c) ---- */

enum mj__change { MJ__NEWLY, MJ__NO_LONGER, MJ__CHANGED, MJ__CHANGES };

struct mj__example {
    char *uri, *text; /* owned */
};

/* One outlet in the report. */
struct mj__row {
    const char *name; /* borrowed */
    bool main;
    uint64_t reached[2]; /* events: of NEW, of OLD; in the main stream: those that did not */
    uint64_t changes[MJ__CHANGES];
    struct mj__example *examples[MJ__CHANGES]; /* owned; without OLD, those under MJ__NEWLY */
    size_t example_count[MJ__CHANGES];
};

struct mj__comparison {
    struct mj__other *other; /* borrowed; NULL: only one side */
    size_t examples;         /* kept of each kind */
    struct mj__row *rows;    /* owned */
    size_t row_count;
    uint32_t *of_new, *of_old; /* owned: rows of the sides' outlets */
    struct mj__outcome old;    /* the old side's next one */
    bool old_ended;
};

void mj__comparison_init(struct mj__comparison *c, const struct mj__side *side,
                         struct mj__other *other, size_t examples);
void mj__comparison_deinit(struct mj__comparison *c);
/* The new side's next outcome: an mj__outcome_fn. */
void mj__comparison_note(void *comparison, const struct mj__outcome *o);
/* After the last one: what the old side has besides. */
void mj__comparison_end(struct mj__comparison *c);

/* ---- report (backtest_report.c) ---- */

struct mj__backtest_report {
    const struct mj__backtest_input *in;
    const struct mj__comparison *comparison;
    const struct mj__side *side;
    uint64_t old_errors;
    double seconds;
};
void mj__backtest_print(const struct mj__backtest_report *r, struct mj_buf *out);
void mj__backtest_print_json(const struct mj__backtest_report *r, struct mj_buf *out);
