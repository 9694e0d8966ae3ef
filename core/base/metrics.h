/* Metrics: named families of counters, gauges and histograms, rendered in Prometheus text format.
 *
 * A family is registered once by name; a series within it is found or made by its label text and
 * then lives as long as the process, so callers keep the pointer and update it without a lock:
 *
 *   struct mj_metric *m = mj_metric("moonjet_drops_total", MJ_COUNTER, "Events dropped.",
 *                                   "reason=\"%s\"", mj_errlabel(err));
 *   mj_metric_add(m, 1);
 *
 * Updates are relaxed atomics; making a series takes a lock (never do that per event). The number
 * of series per family is capped at MJ_METRIC_SERIES_MAX; past it all new labels share one series
 * labelled other="true", so a hostile label cannot grow memory. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "base/bytes.h"

#define MJ_METRIC_SERIES_MAX 10000

enum mj_metric_type {
    MJ_COUNTER,
    MJ_GAUGE,
    MJ_HISTOGRAM,
    MJ_GAUGE_REAL /* a gauge with fractions: mj_metric_set_real() */
};

struct mj_metric {
    _Atomic int64_t value;
};

/* Find or make a series. `labels_fmt` NULL for none; values must already be safe (use
 * mj_metric_label for strangers' text). Never NULL. Thread-safe. */
struct mj_metric *mj_metric(const char *family, enum mj_metric_type type, const char *help,
                            const char *labels_fmt, ...) __attribute__((format(printf, 4, 5)));
/* Escapes a label value into a static-size buffer (cut at its end); returns out. */
const char *mj_metric_label(struct mj_span value, char *out, size_t cap);

static inline void mj_metric_add(struct mj_metric *m, int64_t n)
{
    atomic_fetch_add_explicit(&m->value, n, memory_order_relaxed);
}
static inline void mj_metric_set(struct mj_metric *m, int64_t n)
{
    atomic_store_explicit(&m->value, n, memory_order_relaxed);
}
static inline int64_t mj_metric_get(const struct mj_metric *m)
{
    return atomic_load_explicit(&m->value, memory_order_relaxed);
}

/* The same of a MJ_GAUGE_REAL, whose value is kept as the bits of a double. */
static inline void mj_metric_set_real(struct mj_metric *m, double v)
{
    int64_t bits;
    memcpy(&bits, &v, sizeof bits);
    mj_metric_set(m, bits);
}
static inline double mj_metric_get_real(const struct mj_metric *m)
{
    int64_t bits = mj_metric_get(m);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
/* Makes the family, for a name that a script has chosen, or takes it over when nobody claims it any
 * more: false when there is one of that name and another type, which must not be written to.
 * `label` tells whose claim it is, as its series begin: `script="x.lua"`. Thread-safe. */
bool mj_metric_claim(const char *family, enum mj_metric_type type, const char *help,
                     const char *label);
/* Ends a claim that was granted. With the last one of a label the gauges that begin with it are not
 * shown any more, until a series is asked for again, which is 0 then; counters stay. Series are not
 * freed: somebody may be updating one. Thread-safe. */
void mj_metric_unclaim(const char *family, const char *label);

/* How durations are distributed: given in microseconds, shown in seconds, as v1's and everybody's
 * dashboards expect. Buckets are counted apart and summed up when rendered, so what is shown is
 * consistent in itself whatever is observed meanwhile. */
#define MJ_HISTOGRAM_MAX 24

struct mj_histogram {
    const int64_t
        *bounds; /* borrowed for ever: upper bounds, ascending; the last bucket has none */
    size_t n;    /* of bounds */
    _Atomic int64_t counts[MJ_HISTOGRAM_MAX + 1];
    _Atomic int64_t sum; /* µs */
};

/* Find or make a series, as mj_metric() does; the first caller's bounds count, and at most
 * MJ_HISTOGRAM_MAX of them. Never NULL. Thread-safe. */
struct mj_histogram *mj_histogram(const char *family, const char *help, const int64_t *bounds,
                                  size_t n, const char *labels_fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* The bucket of a value: the first whose bound is not below it. */
static inline size_t mj_histogram_bucket(const struct mj_histogram *h, int64_t us)
{
    size_t i = 0;
    while (i < h->n && us > h->bounds[i])
        i++;
    return i;
}
static inline void mj_histogram_observe(struct mj_histogram *h, int64_t us)
{
    atomic_fetch_add_explicit(&h->counts[mj_histogram_bucket(h, us)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum, us, memory_order_relaxed);
}
/* The same value n times. */
static inline void mj_histogram_observe_n(struct mj_histogram *h, int64_t us, int64_t n)
{
    atomic_fetch_add_explicit(&h->counts[mj_histogram_bucket(h, us)], n, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum, us * n, memory_order_relaxed);
}
/* Replaces everything: for a distribution over what there is now, counted by its owner. `counts`
 * has one element more than there are bounds. */
void mj_histogram_set(struct mj_histogram *h, const int64_t *counts, int64_t sum_us);

/* Gauges that are computed when asked (e.g. resident memory): called under the registry lock. */
void mj_metric_on_render(void (*fn)(void *ctx), void *ctx);
/* Sets all series to 0 whose labels hold that text; NULL: all there are. For test runners, so that
 * each test begins with none. Thread-safe. */
void mj_metrics_zero(const char *label);
/* Appends all families in order of name. Thread-safe. */
void mj_metrics_render(struct mj_buf *out);
