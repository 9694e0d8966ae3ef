#include <stdio.h>

#include "base/clock.h"
#include "base/err.h"
#include "cli/run.h"

static int on_frame(void *ctx, struct mj_span frame, struct mj_frame *out)
{
    struct source *s = ctx;
    mj_router_set_source(s->run->router, s->number);
    return mj_router_frame(s->run->router, frame, out);
}

static void on_flush(void *ctx)
{
    struct source *s = ctx;
    int64_t before = mj_metric_get(s->run->published);
    mj_router_flush(s->run->router, s->number, mj_firehose_cursor(s->hose));
    int64_t n = mj_metric_get(s->run->published) - before;
    mj_metric_add(s->emitted, n);
    if (s->run->on_disk)
        mj_metric_add(s->persisted, n);
    atomic_store_explicit(&s->seq, mj_firehose_cursor(s->hose), memory_order_relaxed);
    atomic_store_explicit(&s->run->last_frame_us, mj_now_us(), memory_order_relaxed);
    run_scripts(s->run);
}

static void on_stopped(void *ctx)
{
    struct source *s = ctx;
    s->run->future = true;
    mj_loop_stop(s->run->loop);
}

void run_copy_sources(void *ctx)
{
    struct run *run = ctx;
    for (size_t i = 0; i < run->source_count; i++) {
        struct source *s = &run->sources[i];
        atomic_store_explicit(&s->seq, mj_firehose_cursor(s->hose), memory_order_relaxed);
        atomic_store_explicit(&s->connected, mj_firehose_connected(s->hose), memory_order_relaxed);
    }
}

/* Where a source goes on: where the option says, where the journal ended, or, without one on disk,
 * where this process was when a script made it start again. */
static int64_t start_cursor(const struct run *run, const struct run_cfg *cfg,
                            const struct mj_journal *journal, const struct source *s,
                            const struct run_notes *notes)
{
    for (size_t i = 0; !run->on_disk && i < notes->cursor_count; i++)
        if (strcmp(notes->cursors[i].url, s->url) == 0)
            return notes->cursors[i].seq;
    return cfg->cursor >= 0 ? cfg->cursor : mj_journal_cursor(journal, s->number);
}

int run_start_sources(struct run *run, const struct run_cfg *cfg, struct mj_journal *journal,
                      const struct run_notes *notes)
{
    run->published = mj_metric("jetstream_events_emitted_total", MJ_COUNTER, "", NULL);
    for (size_t i = 0; i < cfg->sources.n; i++) {
        struct source *s = &run->sources[i];
        s->run = run;
        s->url = mj_strdup(cfg->sources.v[i]);
        s->number = mj_journal_source(journal, s->url);
        char label[512];
        mj_metric_label(mj_str(s->url), label, sizeof label);
        s->emitted = mj_metric("consumer_events_emitted_total", MJ_COUNTER,
                               "Events made visible to readers.", "socket_url=\"%s\"", label);
        s->persisted =
            mj_metric("consumer_events_persisted_total", MJ_COUNTER,
                      "Events written to the journal on disk.", "socket_url=\"%s\"", label);
        if (s->number < 0) {
            fprintf(stderr, "moonjet run: --source %s: %s\n", s->url,
                    s->number == MJ_ELIMIT
                        ? "the journal has known 64 sources, all it can tell apart; start a new "
                          "--data directory"
                        : "the journal cannot note it; the log says why");
            free(s->url);
            return MJ_EXIT_FAILED;
        }
        struct mj_firehose_cfg hose = {
            .url = s->url,
            .cursor = start_cursor(run, cfg, journal, s, notes),
            .on_future = (enum mj_on_future)mj_on_future_parse(cfg->on_future),
            .frame = on_frame,
            .flush = on_flush,
            .stopped = on_stopped,
            .ctx = s,
        };
        atomic_store(&s->seq, hose.cursor);
        int err = mj_firehose_new(run->loop, &hose, &s->hose);
        if (err) {
            fprintf(stderr, "moonjet run: --source %s: %s\n", s->url, mj_strerror(err));
            free(s->url);
            return MJ_EXIT_FAILED;
        }
        run->source_count++;
    }
    return 0;
}

void run_stop_sources(struct run *run)
{
    for (size_t i = 0; i < run->source_count; i++) {
        mj_firehose_free(run->sources[i].hose);
        free(run->sources[i].url);
    }
    run->source_count = 0;
}

void run_put_sources(struct run *run, struct mj_buf *json)
{
    mj_buf_puts(json, ",\"sources\":[");
    for (size_t i = 0; i < run->source_count; i++) {
        struct source *s = &run->sources[i];
        mj_buf_puts(json, i ? ",{\"url\":" : "{\"url\":");
        mj_buf_put_json(json, mj_str(s->url));
        mj_buf_printf(json, ",\"connected\":%s,\"seq\":%lld}",
                      atomic_load_explicit(&s->connected, memory_order_relaxed) ? "true" : "false",
                      (long long)atomic_load_explicit(&s->seq, memory_order_relaxed));
    }
    mj_buf_putc(json, ']');
}
