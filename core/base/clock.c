#include "base/clock.h"

#include <stdatomic.h>
#include <time.h>

#include "base/err.h"

static _Atomic int64_t frozen = -1;

static int64_t read_us(clockid_t id)
{
    struct timespec ts;
    int64_t still = atomic_load_explicit(&frozen, memory_order_relaxed);
    if (MJ_UNLIKELY(still >= 0))
        return still;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

void mj_clock_freeze(int64_t us) { atomic_store_explicit(&frozen, us, memory_order_relaxed); }

int64_t mj_now_us(void) { return read_us(CLOCK_REALTIME); }
int64_t mj_mono_us(void) { return read_us(CLOCK_MONOTONIC); }
int64_t mj_coarse_us(void) { return read_us(CLOCK_MONOTONIC_COARSE); }

static int64_t unit_us(const uint8_t **p, const uint8_t *end)
{
    static const struct {
        const char *name;
        int64_t us;
    } units[] = {{"ms", 1000},
                 {"s", 1000000},
                 {"m", 60000000},
                 {"h", INT64_C(3600000000)},
                 {"d", INT64_C(86400000000)}};
    for (size_t i = 0; i < MJ_COUNT(units); i++) {
        size_t n = strlen(units[i].name);
        if ((size_t)(end - *p) >= n && memcmp(*p, units[i].name, n) == 0) {
            *p += n;
            return units[i].us;
        }
    }
    return 0;
}

int mj_duration_us(struct mj_span text, int64_t *out)
{
    const int64_t most = INT64_C(1000) * 365 * 86400 * 1000000;
    int64_t sum = 0;
    if (!text.len)
        return MJ_ESYNTAX;
    const uint8_t *p = text.ptr, *end = text.ptr + text.len;
    if (mj_span_is(text, "0")) {
        *out = 0;
        return 0;
    }
    while (p < end) {
        const uint8_t *digits = p;
        int64_t n = 0;
        for (; p < end && *p >= '0' && *p <= '9'; p++)
            if ((n = 10 * n + (*p - '0')) > most)
                return MJ_ELIMIT;
        int64_t us = p > digits ? unit_us(&p, end) : 0;
        if (!us)
            return MJ_ESYNTAX;
        if (n > (most - sum) / us)
            return MJ_ELIMIT;
        sum += n * us;
    }
    *out = sum;
    return 0;
}

int mj_rate_parse(struct mj_span text, int64_t *count, int64_t *period_us)
{
    const uint8_t *slash = text.len ? memchr(text.ptr, '/', text.len) : NULL;
    if (!slash)
        return MJ_ESYNTAX;
    int err = mj_span_i64(mj_span(text.ptr, (size_t)(slash - text.ptr)), count);
    if (err)
        return err;
    const uint8_t *p = slash + 1, *end = text.ptr + text.len;
    *period_us = unit_us(&p, end);
    if (!*period_us || p != end) {
        err = mj_duration_us(mj_span(slash + 1, (size_t)(end - slash - 1)), period_us);
        if (err)
            return err;
    }
    return *count < 1                                                         ? MJ_ESYNTAX
           : *period_us < 1000 || *period_us > INT64_C(366) * 86400 * 1000000 ? MJ_ELIMIT
                                                                              : 0;
}
