/* The exit: what happens to a version of an event that leaves the flows. It is encoded once, shown
 * to whoever watches, printed, and appended to the journal. Gives out the stamps, too.
 *
 * Internal to the flow room. */
#pragma once

#include "flow/router.h"

struct mj__exit {
    struct mj_journal *journal;   /* borrowed, may be NULL */
    struct mj_readers *readers;   /* borrowed, may be NULL: durable readers of the journal */
    struct mj_buf json;           /* owned, reused */
    bool silent;                  /* print nodes write nothing */
    bool printed;                 /* something is in stdout's buffer */
    mj_output_fn watch;           /* or NULL */
    void *watch_ctx;              /* borrowed: its own */
    int64_t (*now_us)(void *ctx); /* NULL: the journal's clock, or the system's */
    void *now_ctx;                /* borrowed: its own */
    int64_t last_time_us;         /* given out; only where the journal does not */
};

/* The stamp of the next event. */
int64_t mj__exit_time(struct mj__exit *e);
/* Where a version goes. */
struct mj__way {
    uint64_t streams;
    unsigned prints;
    struct mj_reader *const *readers; /* borrowed: durable readers; each gets a note */
    size_t reader_count;
};
/* 0, or what the journal says. An event that cannot be encoded goes nowhere: *dropped is why, else
 * 0.
 */
int mj__exit_emit(struct mj__exit *e, const struct mj_event *ev, uint32_t collection,
                  const struct mj__way *way, int *dropped);
/* Publishes, as mj_router_flush(). */
int mj__exit_flush(struct mj__exit *e, int source, int64_t upstream_seq);
void mj__exit_deinit(struct mj__exit *e);
