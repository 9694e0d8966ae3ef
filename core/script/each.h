/* An :each at work: events that wait for a node's function become its tasks.
 *
 *   journal ──▶ reader ──take──▶ parcel ─┐
 *                                        ├─▶ work = one call, in a task ──▶ settle
 *   router ───▶ inbox ───take──▶ letter ─┘
 *
 * A durable one owns the node's reader (journal/reader.h), from when its script runs until it ends:
 * what waits is in the journal, and a parcel comes again until it is settled. The other kind has an
 * inbox in memory, which forgets: for `full = "drop_new"` and "drop_old", and where there is no
 * reader because nothing is kept (specs, backtest, prompt). There a durable one has the same inbox
 * without its small bound, and repeats what is to be repeated by itself, so that a spec sees what a
 * run would show.
 *
 *   how the call ends           durable                           in memory, dropping
 *   returns                     done                              done
 *   raises                      dead letter (or `retry.tries`)    gone
 *   its time runs out,
 *   jet.retry                   again, by the policy              gone
 *   script ends meanwhile       again, as if nobody had tried     gone, counted as dropped
 *
 * Everything here is for the scripts' thread; what happened is reported by task.c. Internal to
 * core/script. */
#pragma once

#include "journal/reader.h"
#include "script/inbox.h"
#include "script/task.h"

struct mj_work;

struct mj_each {
    struct mj_due timer;  /* first member: when the reader has something next */
    struct mj_vm *vm;     /* borrowed */
    struct mj_node *node; /* borrowed */
    struct mj_inbox *in;  /* owned */
    size_t workers;
    int64_t timeout;   /* µs */
    bool lists;        /* the function gets lists */
    bool durable;      /* not only for as long as there is room in memory */
    bool retry_errors; /* not only what was cut short */
    struct mj_owner_cfg cfg;
    bool owns;              /* the reader is ours */
    struct mj_work *works;  /* owned list */
    size_t running, asleep; /* of these: in a task; in memory, until they are tried again */
    struct mj_metric *queued, *full; /* gauge, counter; NULL until needed */
    struct mj_each *next;            /* owned by the VM's list */
};

/* Of one whose other fields are set. */
void mj__each_init(struct mj_each *e);
/* What the node's `fn` and `list` do. */
enum mj_verdict mj__each_event(struct mj_node *node, const struct mj_event *ev);
void mj__each_list(struct mj_node *node, struct mj_kept *const *events, size_t n);
/* Lets go of the reader; what is in work goes back, or is counted as dropped. */
void mj__each_free(struct mj_each *e);
/* Whether the node's events come from its reader. */
static inline bool mj__each_reads(const struct mj_each *e) { return e->durable && e->node->reader; }
