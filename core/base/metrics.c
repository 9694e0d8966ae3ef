#include "base/metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct series {
    char *labels; /* owned, "" for none */
    struct mj_metric metric;
    struct series *next;
};

struct family {
    char *name, *help; /* owned */
    enum mj_metric_type type;
    size_t count;
    struct series *head, **tail;
    struct family *next; /* ascending by name */
};

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

static struct mj_metric *series_get(struct family *f, const char *labels)
{
    for (struct series *s = f->head; s; s = s->next)
        if (strcmp(s->labels, labels) == 0)
            return &s->metric;
    struct series *s = mj_calloc(1, sizeof *s);
    s->labels = mj_strdup(labels);
    *f->tail = s;
    f->tail = &s->next;
    f->count++;
    return &s->metric;
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
    struct family *f = family_get(family, type, help);
    struct mj_metric *m;
    if (f->count < MJ_METRIC_SERIES_MAX)
        m = series_get(f, text);
    else {
        m = NULL;
        for (struct series *s = f->head; s && !m; s = s->next)
            if (strcmp(s->labels, text) == 0)
                m = &s->metric;
        if (!m)
            m = series_get(f, "other=\"true\"");
    }
    pthread_mutex_unlock(&lock);
    return m;
}

const char *mj_metric_label(struct mj_span value, char *out, size_t cap)
{
    size_t w = 0;
    for (size_t i = 0; i < value.len && w + 3 < cap; i++) {
        char c = (char)value.ptr[i];
        if (c == '"' || c == '\\')
            out[w++] = '\\';
        out[w++] = (unsigned char)c < 0x20 ? '?' : c;
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

void mj_metrics_render(struct mj_buf *out)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < hook_count; i++)
        hooks[i].fn(hooks[i].ctx);
    for (struct family *f = families; f; f = f->next) {
        mj_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name,
                      f->type == MJ_COUNTER ? "counter" : "gauge");
        for (struct series *s = f->head; s; s = s->next)
            mj_buf_printf(out, "%s%s%s%s %lld\n", f->name, *s->labels ? "{" : "", s->labels,
                          *s->labels ? "}" : "", (long long)mj_metric_get(&s->metric));
    }
    pthread_mutex_unlock(&lock);
}
