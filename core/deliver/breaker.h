/* A circuit breaker: whoever fails again and again is left alone for a while, so that nobody waits
 * for what does not answer.
 *
 *   closed ──10 failures in a row──▶ open ──its time is over──▶ half-open: one probe
 *     ▲                               ▲                           │        │
 *     │                               └──── twice as long ────────┘ fails  │
 *     └────────────────────────────────────────────────────────────────────┘ succeeds
 *
 * It decides when, and discards nothing. Only arithmetic on times, which are monotonic µs given by
 * the caller. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MJ_BREAKER_FAILURES   10
#define MJ_BREAKER_FIRST_US   INT64_C(5000000)
#define MJ_BREAKER_LONGEST_US INT64_C(300000000)

enum mj_breaker_state { MJ_BREAKER_CLOSED, MJ_BREAKER_HALF_OPEN, MJ_BREAKER_OPEN };

struct mj_breaker {
    enum mj_breaker_state state;
    unsigned failures; /* in a row */
    bool probing;      /* the probe is on its way */
    int64_t pause, until;
};

/* After how long to ask again: 0 now, and then mj_breaker_sent() must follow; -1: when what is on
 * its way has ended. */
int64_t mj_breaker_wait(struct mj_breaker *b, int64_t now);
void mj_breaker_sent(struct mj_breaker *b);
/* How it ended. `random` (any number) spreads those who opened together. True when the state has
 * changed between closed and not. */
bool mj_breaker_ended(struct mj_breaker *b, bool ok, uint64_t random, int64_t now);
/* What was sent has come to nothing by our own doing: as if it had not been. */
void mj_breaker_undo(struct mj_breaker *b);
/* "closed", "half-open", "open" */
const char *mj_breaker_name(enum mj_breaker_state state);
