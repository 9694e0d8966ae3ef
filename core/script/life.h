/* The life of a script that runs too long or takes too much memory: whoever does it again and again
 * is left out for a while, so that nobody else pays for it.
 *
 *   running ──strike──▶ degraded ──3 strikes in 10 s──▶ quarantined 1 s
 *      ▲                 │  ▲                               │
 *      └──── 10 quiet ───┘  └──────────── over ─────────────┘
 *            minutes           one more strike: quarantined 2 s, 4 s, … 5 min
 *
 * A strike is a call that was stopped for its time, or that ran out of memory. An ordinary error
 * costs its event and is no strike. Only arithmetic on times: who pauses what is script.c's part.
 * All times are monotonic microseconds, given by the caller. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MJ_LIFE_STRIKES    3
#define MJ_LIFE_WINDOW_US  INT64_C(10000000)
#define MJ_LIFE_FIRST_US   INT64_C(1000000)
#define MJ_LIFE_LONGEST_US INT64_C(300000000)
#define MJ_LIFE_FORGET_US  INT64_C(600000000)

enum mj_life_state {
    MJ_LIFE_RUNNING,
    MJ_LIFE_DEGRADED,    /* has strikes that are not forgotten */
    MJ_LIFE_QUARANTINED, /* until a time */
    MJ_LIFE_OUT          /* until it is reloaded */
};

struct mj_life {
    enum mj_life_state state;
    int64_t strikes[MJ_LIFE_STRIKES]; /* the last ones, in a ring; 0 = none */
    unsigned next;                    /* … where the next goes */
    unsigned total;                   /* strikes since the last 10 quiet minutes */
    unsigned level;                   /* quarantines since then */
    int64_t last;                     /* when something last happened */
    int64_t pause, until;             /* quarantined: how long, and until when */
};

/* A strike. True when the script is quarantined because of it. */
bool mj_life_strike(struct mj_life *l, int64_t now);
/* Quarantined at once for the n-th time (n from 1), whatever was before. */
void mj_life_quarantine(struct mj_life *l, unsigned n, int64_t now);
/* Looks at the time. True when a quarantine is over with this call. */
bool mj_life_tick(struct mj_life *l, int64_t now);
/* When mj_life_tick() has something to do next; -1 for never. */
int64_t mj_life_due(const struct mj_life *l);
static inline bool mj_life_paused(const struct mj_life *l)
{
    return l->state == MJ_LIFE_QUARANTINED || l->state == MJ_LIFE_OUT;
}
/* "running", "degraded", "quarantined", "out" */
const char *mj_life_name(enum mj_life_state state);
