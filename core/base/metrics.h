/* Metrics: named families of counters and gauges, rendered in Prometheus text format.
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

enum mj_metric_type { MJ_COUNTER, MJ_GAUGE };

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

/* Gauges that are computed when asked (e.g. resident memory): called under the registry lock. */
void mj_metric_on_render(void (*fn)(void *ctx), void *ctx);
/* Appends all families in order of name. Thread-safe. */
void mj_metrics_render(struct mj_buf *out);
