/* Time. Wall-clock microseconds for what the wire shows, monotonic microseconds for durations. */
#pragma once

#include <stdint.h>

int64_t mj_now_us(void);  /* Unix time in microseconds */
int64_t mj_mono_us(void); /* monotonic, arbitrary start; never steps back */
