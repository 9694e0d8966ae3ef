/* Time. Wall-clock microseconds for what the wire shows, monotonic microseconds for durations. */
#pragma once

#include "base/bytes.h"

int64_t mj_now_us(void);  /* Unix time in microseconds */
int64_t mj_mono_us(void); /* monotonic, arbitrary start; never steps back */
/* The same a third as dear, and up to a tick of the system's (1 to 10 ms) behind. */
int64_t mj_coarse_us(void);

/* From here on both stand at that time, for the whole process, until told another one; negative:
 * they run again. For test runners: what reads the clock then sees the test's. */
void mj_clock_freeze(int64_t us);

/* A duration as people write it: a number with ms, s, m, h or d, or several of them (1h30m); a bare
 * 0 is zero. Microseconds; 0, MJ_ESYNTAX, or MJ_ELIMIT above a thousand years. */
int mj_duration_us(struct mj_span text, int64_t *out);
/* A rate as people write it: a whole number, a slash, and a unit or a duration (6/m, 100/h, 5/10s).
 * 0 with *count above 0 and *period_us from 1 ms to a year, MJ_ESYNTAX or MJ_ELIMIT. */
int mj_rate_parse(struct mj_span text, int64_t *count, int64_t *period_us);
