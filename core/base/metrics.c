#include "base/metrics.h"

#include <float.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/utf8.h"

struct series {
    char *labels; /* owned, "" for none */
    struct mj_metric metric;
    struct mj_histogram *histogram; /* owned; only in families of histograms */
    bool hidden;                    /* what it told does not hold any more */
    struct series *next;
};

/* Scripts of one label that have the family. */
struct claim {
    char *label; /* owned */
    size_t n;
    struct claim *next;
};

struct family {
    char *name, *help; /* owned */
    enum mj_metric_type type;
    bool scripts;         /* a claim has made it */
    struct claim *claims; /* owned list */
    size_t count;
    struct series *head, **tail;
    struct series **slots; /* owned; the same by their labels, at most half full */
    size_t cap;            /* a power of two, or 0 */
    struct family *next;   /* ascending by name */
};

#define OTHER "other=\"true\""

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct family *families;
static struct {
    void (*fn)(void *);
    void *ctx;
} hooks[8];
static size_t hook_count;

static struct family *family_get(const char *name, enum mj_metric_type type, const char *help)
{
    struct family **at = &families;
    while (*at && strcmp((*at)->name, name) < 0)
        at = &(*at)->next;
    if (*at && strcmp((*at)->name, name) == 0)
        return *at;
    struct family *f = mj_calloc(1, sizeof *f);
    f->name = mj_strdup(name);
    f->help = mj_strdup(help);
    f->type = type;
    f->tail = &f->head;
    f->next = *at;
    *at = f;
    return f;
}

/* Where the series is, or the free slot where it belongs. */
static struct series **slot_of(const struct family *f, const char *labels)
{
    size_t i = mj_hash(mj_str(labels)) & (f->cap - 1);
    while (f->slots[i] && strcmp(f->slots[i]->labels, labels) != 0)
        i = (i + 1) & (f->cap - 1);
    return &f->slots[i];
}

static void grow(struct family *f)
{
    free(f->slots);
    f->cap = f->cap ? 2 * f->cap : 8;
    f->slots = mj_calloc(f->cap, sizeof(struct series *));
    for (struct series *s = f->head; s; s = s->next)
        *slot_of(f, s->labels) = s;
}

/* The series of a family, made if it is new. Past the bound all new ones are one. A reload asks for
 * several of each node, so this must not take longer the more there are. */
static struct series *series_get(struct family *f, const char *labels)
{
    if (2 * f->count >= f->cap)
        grow(f);
    struct series **slot = slot_of(f, labels);
    if (!*slot && f->count >= MJ_METRIC_SERIES_MAX)
        slot = slot_of(f, labels = OTHER);
    if (*slot) {
        if ((*slot)->hidden)
            mj_metric_set(&(*slot)->metric, 0);
        (*slot)->hidden = false;
        return *slot;
    }
    struct series *s = mj_calloc(1, sizeof *s);
    s->labels = mj_strdup(labels);
    *slot = *f->tail = s;
    f->tail = &s->next;
    f->count++;
    return s;
}

struct mj_metric *mj_metric(const char *family, enum mj_metric_type type, const char *help,
                            const char *labels_fmt, ...)
{
    MJ_AUTO_BUF labels = {0};
    if (labels_fmt) {
        va_list ap;
        va_start(ap, labels_fmt);
        mj_buf_vprintf(&labels, labels_fmt, ap);
        va_end(ap);
    }
    const char *text = mj_buf_cstr(&labels);
    pthread_mutex_lock(&lock);
    struct series *s = series_get(family_get(family, type, help), text);
    pthread_mutex_unlock(&lock);
    return &s->metric;
}

struct mj_histogram *mj_histogram(const char *family, const char *help, const int64_t *bounds,
                                  size_t n, const char *labels_fmt, ...)
{
    MJ_AUTO_BUF labels = {0};
    if (labels_fmt) {
        va_list ap;
        va_start(ap, labels_fmt);
        mj_buf_vprintf(&labels, labels_fmt, ap);
        va_end(ap);
    }
    const char *text = mj_buf_cstr(&labels);
    pthread_mutex_lock(&lock);
    struct series *s = series_get(family_get(family, MJ_HISTOGRAM, help), text);
    if (!s->histogram) {
        s->histogram = mj_calloc(1, sizeof *s->histogram);
        s->histogram->bounds = bounds;
        s->histogram->n = n < MJ_HISTOGRAM_MAX ? n : MJ_HISTOGRAM_MAX;
    }
    pthread_mutex_unlock(&lock);
    return s->histogram;
}

void mj_histogram_set(struct mj_histogram *h, const int64_t *counts, int64_t sum_us)
{
    for (size_t i = 0; i <= h->n; i++)
        atomic_store_explicit(&h->counts[i], counts[i], memory_order_relaxed);
    atomic_store_explicit(&h->sum, sum_us, memory_order_relaxed);
}

/* Prometheus throws all metrics away for one label that is no UTF-8, so nothing is cut in two. */
const char *mj_metric_label(struct mj_span value, char *out, size_t cap)
{
    size_t w = 0;
    for (size_t i = 0, n; i < value.len; i += n ? n : 1) {
        uint8_t c = value.ptr[i];
        n = mj_utf8_len(value.ptr + i, value.ptr + value.len);
        if (w + 2 + (n ? n : 1) > cap)
            break;
        if (c == '"' || c == '\\')
            out[w++] = '\\';
        if (!n || c < 0x20)
            out[w++] = '?';
        for (size_t k = 0; k < n && c >= 0x20; k++)
            out[w++] = (char)value.ptr[i + k];
    }
    out[w] = '\0';
    return out;
}

void mj_metric_on_render(void (*fn)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&lock);
    if (hook_count < MJ_COUNT(hooks)) {
        hooks[hook_count].fn = fn;
        hooks[hook_count++].ctx = ctx;
    }
    pthread_mutex_unlock(&lock);
}

/* Microseconds as seconds, without zeros nobody needs. */
static void put_seconds(struct mj_buf *out, int64_t us)
{
    char text[40];
    int n = snprintf(text, sizeof text, "%s%lld.%06lld", us < 0 ? "-" : "",
                     (long long)(us < 0 ? -us : us) / 1000000,
                     (long long)(us < 0 ? -us : us) % 1000000);
    while (text[n - 1] == '0')
        n--;
    mj_buf_put(out, text, (size_t)(text[n - 1] == '.' ? n - 1 : n));
}

static void render_histogram(struct mj_buf *out, const char *name, const struct series *s)
{
    const struct mj_histogram *h = s->histogram;
    const char *comma = *s->labels ? "," : "";
    int64_t total = 0;
    for (size_t i = 0; i <= h->n; i++) {
        total += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
        mj_buf_printf(out, "%s_bucket{%s%sle=\"", name, s->labels, comma);
        if (i < h->n)
            put_seconds(out, h->bounds[i]);
        else
            mj_buf_puts(out, "+Inf");
        mj_buf_printf(out, "\"} %lld\n", (long long)total);
    }
    const char *open = *s->labels ? "{" : "", *close = *s->labels ? "}" : "";
    mj_buf_printf(out, "%s_sum%s%s%s ", name, open, s->labels, close);
    put_seconds(out, atomic_load_explicit(&h->sum, memory_order_relaxed));
    mj_buf_printf(out, "\n%s_count%s%s%s %lld\n", name, open, s->labels, close, (long long)total);
}

void mj_metrics_zero(const char *label)
{
    pthread_mutex_lock(&lock);
    for (struct family *f = families; f; f = f->next)
        for (struct series *s = f->head; s; s = s->next) {
            if (label && !strstr(s->labels, label))
                continue;
            mj_metric_set(&s->metric, 0);
            if (s->histogram) {
                static const int64_t none[MJ_HISTOGRAM_MAX + 1];
                mj_histogram_set(s->histogram, none, 0);
            }
        }
    pthread_mutex_unlock(&lock);
}

/* As short as it can be told from its neighbours; whole numbers without an exponent. */
static void render_real(struct mj_buf *out, const char *name, const struct series *s)
{
    char text[32];
    double v = mj_metric_get_real(&s->metric);
    int n = snprintf(text, sizeof text, "%.15g", v);
    if (n > 0 && strtod(text, NULL) != v)
        snprintf(text, sizeof text, "%.17g", v);
    /* Prometheus writes infinities with a sign and a capital. */
    if (v > DBL_MAX || v < -DBL_MAX)
        strcpy(text, v > 0 ? "+Inf" : "-Inf");
    mj_buf_printf(out, "%s%s%s%s %s\n", name, *s->labels ? "{" : "", s->labels,
                  *s->labels ? "}" : "", text);
}

/* `prefix` NULL: all of them. */
static void hide(struct family *f, const char *prefix)
{
    size_t n = prefix ? strlen(prefix) : 0;
    for (struct series *s = f->head; s; s = s->next)
        s->hidden = s->hidden || !n || strncmp(s->labels, prefix, n) == 0;
}

/* Where the label's claim is, or NULL is. */
static struct claim **claim_of(struct family *f, const char *label)
{
    struct claim **at = &f->claims;
    while (*at && strcmp((*at)->label, label) != 0)
        at = &(*at)->next;
    return at;
}

bool mj_metric_claim(const char *family, enum mj_metric_type type, const char *help,
                     const char *label)
{
    pthread_mutex_lock(&lock);
    struct family *f = family_get(family, type, help);
    f->scripts = f->scripts || !f->head;
    if (f->scripts && !f->claims && f->type != type) {
        hide(f, NULL);
        free(f->help);
        f->help = mj_strdup(help);
        f->type = type;
    }
    bool granted = f->type == type;
    struct claim **at = claim_of(f, label);
    if (granted && !*at) {
        *at = mj_calloc(1, sizeof **at);
        (*at)->label = mj_strdup(label);
    }
    if (granted)
        (*at)->n++;
    pthread_mutex_unlock(&lock);
    return granted;
}

void mj_metric_unclaim(const char *family, const char *label)
{
    pthread_mutex_lock(&lock);
    struct family *f = families;
    while (f && strcmp(f->name, family) != 0)
        f = f->next;
    struct claim **at = f ? claim_of(f, label) : NULL, *claim = at ? *at : NULL;
    if (claim && --claim->n == 0) {
        *at = claim->next;
        free(claim->label);
        free(claim);
        if (f->type != MJ_COUNTER)
            hide(f, f->claims ? label : NULL);
    }
    pthread_mutex_unlock(&lock);
}

/* A family of scripts that are gone, and have left nothing to tell. */
static bool is_over(const struct family *f)
{
    const struct series *s = f->head;
    while (s && s->hidden)
        s = s->next;
    return f->scripts && !f->claims && !s;
}

static void render_family(struct mj_buf *out, const struct family *f)
{
    static const char *const types[] = {"counter", "gauge", "histogram", "gauge"};
    mj_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, types[f->type]);
    for (struct series *s = f->head; s; s = s->next)
        if (s->hidden)
            continue;
        else if (f->type == MJ_HISTOGRAM)
            render_histogram(out, f->name, s);
        else if (f->type == MJ_GAUGE_REAL)
            render_real(out, f->name, s);
        else
            mj_buf_printf(out, "%s%s%s%s %lld\n", f->name, *s->labels ? "{" : "", s->labels,
                          *s->labels ? "}" : "", (long long)mj_metric_get(&s->metric));
}

void mj_metrics_render(struct mj_buf *out)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < hook_count; i++)
        hooks[i].fn(hooks[i].ctx);
    for (struct family *f = families; f; f = f->next)
        if (!is_over(f))
            render_family(out, f);
    pthread_mutex_unlock(&lock);
}
