/* The live tables: what each node of each script does, and what is delivered, from two readings of
 * the metrics. */
#include <stdio.h>

#include "cli/ctl.h"
#include "cli/text.h"

void mj__ctl_sample_deinit(struct mj__ctl_sample *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->nodes[i].script);
        free(s->nodes[i].node);
    }
    for (size_t i = 0; i < s->reader_count; i++)
        free(s->readers[i].name);
    free(s->readers);
    free(s->nodes);
    *s = (struct mj__ctl_sample){0};
}

/* The value of a label in `labels`, escapes and all; {NULL, 0} when it is not there. */
static struct mj_span label(struct mj_span labels, struct mj_span name)
{
    while (labels.len) {
        const uint8_t *eq = memchr(labels.ptr, '=', labels.len);
        if (!eq || (size_t)(eq - labels.ptr) + 2 > labels.len)
            break;
        struct mj_span key = mj_span(labels.ptr, (size_t)(eq - labels.ptr));
        const uint8_t *start = eq + 2, *p = start, *end = labels.ptr + labels.len;
        while (p < end && *p != '"')
            p += *p == '\\' ? 2 : 1;
        if (p >= end)
            break;
        if (mj_span_eq(key, name))
            return mj_span(start, (size_t)(p - start));
        p += p + 1 < end ? 2 : 1; /* and the comma */
        labels = mj_span(p, (size_t)(end - p));
    }
    return (struct mj_span){NULL, 0};
}

static struct mj__ctl_node *node(struct mj__ctl_sample *s, struct mj_span script,
                                 struct mj_span name)
{
    /* Series of one family follow each other in the order the nodes were made: the next one is
     * mostly the one behind the last. */
    for (size_t i = 0; i < s->count; i++)
        if (mj_span_is(name, s->nodes[i].node) && mj_span_is(script, s->nodes[i].script))
            return &s->nodes[i];
    if (s->count == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 64;
        s->nodes = mj_realloc(s->nodes, s->cap * sizeof *s->nodes);
    }
    s->nodes[s->count] = (struct mj__ctl_node){mj_span_dup(script), mj_span_dup(name), 0};
    return &s->nodes[s->count++];
}

static struct mj__ctl_reader *reader(struct mj__ctl_sample *s, struct mj_span name)
{
    for (size_t i = 0; i < s->reader_count; i++)
        if (mj_span_is(name, s->readers[i].name))
            return &s->readers[i];
    if (s->reader_count == s->reader_cap) {
        s->reader_cap = s->reader_cap ? 2 * s->reader_cap : 16;
        s->readers = mj_realloc(s->readers, s->reader_cap * sizeof *s->readers);
    }
    s->readers[s->reader_count] = (struct mj__ctl_reader){.name = mj_span_dup(name)};
    return &s->readers[s->reader_count++];
}

/* `name` without "moonjet_reader_". */
static void read_reader(struct mj__ctl_reader *r, struct mj_span name, double value)
{
    const struct {
        const char *name;
        double *to;
    } fields[] = {{"delivered_total", &r->delivered},
                  {"failed_total", &r->failed},
                  {"waiting_events", &r->waiting},
                  {"lag_seconds", &r->lag},
                  {"in_flight_events", &r->in_flight},
                  {"dead_letters", &r->letters},
                  {"state", &r->state}};
    for (size_t i = 0; i < MJ_COUNT(fields); i++)
        if (mj_span_is(name, fields[i].name))
            *fields[i].to = value;
}

static void read_line(struct mj__ctl_sample *s, struct mj_span line)
{
    const uint8_t *space = memrchr(line.ptr, ' ', line.len);
    const uint8_t *brace = memchr(line.ptr, '{', line.len);
    if (!space || *line.ptr == '#')
        return;
    MJ_AUTO_BUF digits = {0};
    mj_buf_put(&digits, space + 1, line.len - (size_t)(space + 1 - line.ptr));
    double value = strtod(mj_buf_cstr(&digits), NULL);
    if (brace > space)
        brace = NULL;
    struct mj_span name = mj_span(line.ptr, (size_t)((brace ? brace : space) - line.ptr));
    struct mj_span labels =
        brace ? mj_span(brace + 1, (size_t)(space - brace - 1)) : (struct mj_span){NULL, 0};
    if (mj_span_is(name, "moonjet_events_total"))
        s->events += value;
    else if (mj_span_is(name, "jetstream_subscribers_connected"))
        s->subscribers += value;
    else if (mj_span_is(name, "jetstream_events_delivered_total"))
        s->delivered += value;
    const struct mj_span front = MJ_SPAN("moonjet_node_"), durable = MJ_SPAN("moonjet_reader_");
    struct mj_span whose = label(labels, MJ_SPAN("reader"));
    if (whose.ptr && mj_span_starts(name, durable))
        read_reader(reader(s, whose), mj_span(name.ptr + durable.len, name.len - durable.len),
                    value);
    struct mj_span script = label(labels, MJ_SPAN("script")), what = label(labels, MJ_SPAN("node"));
    if (!mj_span_starts(name, front) || !script.ptr || !what.ptr)
        return;
    name = mj_span(name.ptr + front.len, name.len - front.len);
    struct mj__ctl_node *n = node(s, script, what);
    if (mj_span_is(name, "events_in_total"))
        n->in = value;
    else if (mj_span_is(name, "events_out_total"))
        n->out = value;
    else if (mj_span_is(name, "events_dropped_total"))
        n->dropped = value;
    else if (mj_span_is(name, "errors_total"))
        n->errors = value;
    else if (mj_span_is(name, "nanoseconds_total"))
        n->ns = value;
}

void mj__ctl_sample_read(struct mj__ctl_sample *s, struct mj_span metrics, int64_t at_us)
{
    s->at_us = at_us;
    while (metrics.len) {
        const uint8_t *end = memchr(metrics.ptr, '\n', metrics.len);
        size_t n = end ? (size_t)(end - metrics.ptr) : metrics.len;
        if (n)
            read_line(s, mj_span(metrics.ptr, n));
        metrics = mj_span(metrics.ptr + n + (end != NULL), metrics.len - n - (end != NULL));
    }
}

/* A reading that went down is of another process: it began at 0. */
static double rate(double before, double now, double seconds)
{
    return (now >= before ? now - before : now) / seconds;
}

static const struct mj__ctl_node *find(const struct mj__ctl_sample *s, const struct mj__ctl_node *n)
{
    static const struct mj__ctl_node none;
    for (size_t i = 0; i < s->count; i++)
        if (!strcmp(s->nodes[i].node, n->node) && !strcmp(s->nodes[i].script, n->script))
            return &s->nodes[i];
    return &none;
}

static int busier(const void *a, const void *b)
{
    const struct mj__ctl_node *x = a, *y = b;
    if (x->ns != y->ns)
        return x->ns < y->ns ? 1 : -1;
    return (x->in < y->in) - (x->in > y->in);
}

static int needier(const void *a, const void *b)
{
    const struct mj__ctl_reader *x = a, *y = b;
    if (x->waiting != y->waiting)
        return x->waiting < y->waiting ? 1 : -1;
    return (x->delivered < y->delivered) - (x->delivered > y->delivered);
}

static void put_readers(const struct mj__ctl_sample *before, const struct mj__ctl_sample *now,
                        double seconds, size_t lines, struct mj_buf *out)
{
    static const char *const states[] = {"live", "behind", "paused", "disabled", "gone"};
    struct mj__ctl_reader *rates = mj_calloc(now->reader_count, sizeof *rates);
    for (size_t i = 0; i < now->reader_count; i++) {
        const struct mj__ctl_reader *r = &now->readers[i], none = {0}, *b = &none;
        for (size_t k = 0; k < before->reader_count; k++)
            if (strcmp(before->readers[k].name, r->name) == 0)
                b = &before->readers[k];
        rates[i] = *r;
        rates[i].delivered = rate(b->delivered, r->delivered, seconds);
        rates[i].failed = rate(b->failed, r->failed, seconds);
    }
    qsort(rates, now->reader_count, sizeof *rates, needier);
    mj_buf_printf(out, "\n%-41s %-8s %11s %9s %9s %10s %9s %7s\n", "delivery", "state",
                  "delivered/s", "failed/s", "in flight", "waiting", "lag s", "letters");
    for (size_t i = 0; i < now->reader_count && i < lines; i++) {
        const struct mj__ctl_reader *r = &rates[i];
        MJ_AUTO_BUF name = {0};
        mj_text_harmless(mj_str(r->name), 41, &name);
        size_t state = r->state >= 0 && r->state < 100 ? (size_t)r->state : 100;
        mj_buf_printf(out, "%-41s %-8s %11.0f %9.1f %9.0f %10.0f %9.1f %7.0f\n", mj_buf_cstr(&name),
                      state < MJ_COUNT(states) ? states[state] : "", r->delivered, r->failed,
                      r->in_flight, r->waiting, r->lag, r->letters);
    }
    free(rates);
}

void mj__ctl_top(const struct mj__ctl_sample *before, const struct mj__ctl_sample *now,
                 size_t lines, struct mj_buf *out)
{
    double seconds = (double)(now->at_us - before->at_us) / 1e6;
    if (seconds <= 0)
        seconds = 1;
    /* A third of a terminal for deliveries, at most, and two lines above them. */
    size_t most = lines == SIZE_MAX ? SIZE_MAX : lines < 12 ? 0 : lines / 3;
    size_t readers = now->reader_count < most ? now->reader_count : most;
    if (lines != SIZE_MAX && readers)
        lines -= readers + 2;
    struct mj__ctl_node *rates = mj_calloc(now->count + 1, sizeof *rates);
    for (size_t i = 0; i < now->count; i++) {
        const struct mj__ctl_node *n = &now->nodes[i], *b = find(before, n);
        rates[i] = *n;
        rates[i].in = rate(b->in, n->in, seconds);
        rates[i].out = rate(b->out, n->out, seconds);
        rates[i].dropped = rate(b->dropped, n->dropped, seconds);
        rates[i].errors = rate(b->errors, n->errors, seconds);
        rates[i].ns = rate(b->ns, n->ns, seconds);
    }
    qsort(rates, now->count, sizeof *rates, busier);
    mj_buf_printf(out, "%.0f events/s in, %.0f delivered to %.0f subscribers\n\n",
                  rate(before->events, now->events, seconds),
                  rate(before->delivered, now->delivered, seconds), now->subscribers);
    mj_buf_printf(out, "%-20s %-20s %10s %10s %10s %8s %9s %7s\n", "script", "node", "in/s",
                  "out/s", "dropped/s", "errors/s", "µs/event", "core");
    for (size_t i = 0; i < now->count && i + 3 < lines; i++) {
        const struct mj__ctl_node *r = &rates[i];
        MJ_AUTO_BUF script = {0};
        MJ_AUTO_BUF name = {0};
        mj_text_harmless(mj_str(r->script), 20, &script);
        mj_text_harmless(mj_str(r->node), 20, &name);
        mj_buf_printf(out, "%-20s %-20s %10.0f %10.0f %10.0f %8.1f %9.2f %5.1f %%\n",
                      mj_buf_cstr(&script), mj_buf_cstr(&name), r->in, r->out, r->dropped,
                      r->errors, r->in > 0 ? r->ns / r->in / 1e3 : 0, r->ns / 1e7);
    }
    if (!now->count)
        mj_buf_puts(out, "no scripts\n");
    free(rates);
    if (readers)
        put_readers(before, now, seconds, readers, out);
}
