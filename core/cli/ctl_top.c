/* The live table: what each node of each script does, from two readings of the metrics. */
#include <stdio.h>

#include "cli/ctl.h"
#include "cli/text.h"

void mj__ctl_sample_deinit(struct mj__ctl_sample *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->nodes[i].script);
        free(s->nodes[i].node);
    }
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
    const struct mj_span front = MJ_SPAN("moonjet_node_");
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

void mj__ctl_top(const struct mj__ctl_sample *before, const struct mj__ctl_sample *now,
                 size_t lines, struct mj_buf *out)
{
    double seconds = (double)(now->at_us - before->at_us) / 1e6;
    if (seconds <= 0)
        seconds = 1;
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
}
