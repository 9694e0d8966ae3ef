/* Events of the past: a journal (also beside the router that writes it), a capture, JSON lines. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atproto/syntax.h"
#include "base/err.h"
#include "cli/backtest.h"
#include "event/decode.h"
#include "event/from_json.h"
#include "journal/inspect.h"
#include "source/capture.h"

#define LINES_CHUNK (1u << 20)
#define TICK_EVENTS 4096 /* entries or events between two ticks */
#define KINDS       6    /* what a journal's index tells of an event besides its collection */

struct mj__backtest_source {
    struct mj_journal *journal; /* owned; NULL for files */
    struct mj_view view;
    struct mj_from_json *reader; /* owned */
    uint8_t *wanted;             /* owned: per collection and kind; 0 not asked yet, 1 no, 2 yes */
};

static void tick(struct mj__backtest_input *in)
{
    if (in->tick)
        in->tick(in->ctx);
}

static bool in_range(struct mj__backtest_input *in, int64_t time_us)
{
    if (time_us < in->from_us || time_us >= in->until_us)
        return false;
    if (!in->events++)
        in->first_us = time_us;
    in->last_us = time_us;
    return true;
}

static void note_bad(struct mj__backtest_input *in, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static void note_bad(struct mj__backtest_input *in, const char *fmt, ...)
{
    if (in->bad++)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(in->first_bad, sizeof in->first_bad, fmt, ap);
    va_end(ap);
}

/* ---- a journal ---- */

static int open_journal(struct mj__backtest_input *in, struct mj_buf *error)
{
    struct mj__backtest_source *s = in->source;
    MJ_AUTO_BUF dir = {0};
    MJ_AUTO_BUF problems = {0};
    struct stat st;
    size_t count;
    mj_buf_printf(&dir, "%s/journal", in->data);
    if (stat(mj_buf_cstr(&dir), &st) || !S_ISDIR(st.st_mode)) {
        dir.len = 0;
        mj_buf_puts(&dir, in->data);
    }
    int err = mj_inspect_open(mj_buf_cstr(&dir), &s->journal, &problems, &count);
    if (err) {
        if (problems.len && problems.ptr[problems.len - 1] == '\n')
            problems.len--;
        mj_buf_put(error, problems.ptr, problems.len);
        return err;
    }
    for (struct mj_span rest = mj_buf_span(&problems); rest.len;) {
        const uint8_t *end = memchr(rest.ptr, '\n', rest.len);
        size_t n = end ? (size_t)(end - rest.ptr) : rest.len;
        note_bad(in, "%.*s", (int)n, (const char *)rest.ptr);
        rest = mj_span(rest.ptr + n + (end != NULL), rest.len - n - (end != NULL));
    }
    mj_view_init(&s->view, s->journal);
    s->wanted = mj_calloc((size_t)(MJ_COLLECTION_OTHER + 1) * KINDS, 1);
    return 0;
}

/* What the index tells of an entry is enough to see that no flow wants it. */
static bool entry_wanted(struct mj__backtest_input *in, const struct mj_entry *e)
{
    struct mj__backtest_source *s = in->source;
    if (e->collection == MJ_COLLECTION_OTHER || e->kind > MJ_KIND_ACCOUNT || e->op > MJ_OP_DELETE)
        return true;
    unsigned kind = e->kind == MJ_KIND_COMMIT ? e->op : MJ_OP_DELETE + e->kind;
    uint8_t *known = &s->wanted[e->collection * KINDS + kind];
    if (!*known) {
        struct mj_event like = {
            .kind = (enum mj_kind)e->kind,
            .op = (enum mj_op)e->op,
            .collection = mj_journal_collection_name(s->journal, e->collection),
        };
        *known = in->wants(in->ctx, &like) ? 2 : 1;
    }
    return *known == 2;
}

static void read_entry(struct mj__backtest_input *in, const struct mj_run *run, size_t i)
{
    struct mj_event ev;
    size_t at;
    uint64_t seq = run->seq + i;
    in->read++;
    int err = mj_event_from_json(in->source->reader, mj_run_json(run, i), &ev, &at);
    if (err) {
        in->events--;
        note_bad(in, "event %llu: %s", (unsigned long long)seq, mj_strerror(err));
    } else {
        in->event(in->ctx, seq, &ev);
    }
}

static void read_journal(struct mj__backtest_input *in)
{
    struct mj__backtest_source *s = in->source;
    uint64_t seq = mj_view_find(&s->view, in->from_us), end = mj_view_find(&s->view, in->until_us);
    uint64_t first = seq;
    struct mj_run run;
    in->all = end > seq ? end - seq : 0;
    while (seq < end && mj_view_run(&s->view, seq, &run)) {
        bool loaded = false, broken = false;
        for (size_t i = 0; i < run.count && run.seq + i < end; i++) {
            const struct mj_entry *e = &run.entries[i];
            if (i % TICK_EVENTS == 0) {
                in->done = run.seq + i - first;
                tick(in);
            }
            /* What left main is how the event came; other entries are what scripts made of it. */
            if (!(e->streams >> MJ_STREAM_MAIN & 1) || !in_range(in, mj_run_time(&run, i)) ||
                !entry_wanted(in, e))
                continue;
            if (!loaded && !broken) {
                broken = mj_view_load(&s->view, &run) != 0;
                loaded = !broken;
            }
            if (!broken) {
                read_entry(in, &run, i);
                continue;
            }
            in->events--;
            note_bad(in, "event %" PRIu64 ": its block is damaged", run.seq + i);
        }
        seq = run.seq + run.count;
    }
    in->done = in->all;
}

/* ---- a capture ---- */

struct frames {
    struct mj__backtest_input *in;
    uint64_t events, frame;
};

static int on_event(void *ctx, struct mj_event *ev)
{
    struct frames *f = ctx;
    uint64_t ordinal = f->events++;
    if (mj_datetime_us(ev->time, &ev->time_us)) {
        note_bad(f->in, "frame %llu: its time", (unsigned long long)f->frame);
    } else if (in_range(f->in, ev->time_us)) {
        f->in->read++;
        f->in->event(f->in->ctx, ordinal, ev);
    }
    return 0;
}

static void on_drop(void *ctx, int reason, struct mj_span path)
{
    struct frames *f = ctx;
    (void)path;
    note_bad(f->in, "frame %llu: %s", (unsigned long long)f->frame, mj_strerror(reason));
}

static int read_capture(struct mj__backtest_input *in, struct mj_buf *error)
{
    struct mj_capture *capture;
    struct mj_span bytes;
    struct frames f = {.in = in};
    if (mj_capture_open(in->capture, &capture)) {
        mj_buf_printf(error, "%s: %s", in->capture, strerror(errno));
        return MJ_EIO;
    }
    struct mj_decoder *decoder = mj_decoder_new();
    mj_decoder_on_drop(decoder, on_drop, &f);
    int got;
    while ((got = mj_capture_next(capture, &bytes)) > 0) {
        struct mj_frame frame;
        if (f.frame++ % (TICK_EVENTS / 16) == 0) {
            mj_capture_progress(capture, &in->done, &in->all);
            tick(in);
        }
        int err = mj_decode(decoder, bytes, &frame, on_event, &f);
        if (err)
            note_bad(in, "frame %llu: %s", (unsigned long long)f.frame, mj_strerror(err));
    }
    if (got < 0)
        mj_buf_printf(error, "%s: frame %llu: %s", in->capture, (unsigned long long)f.frame + 1,
                      got == MJ_EIO      ? strerror(errno)
                      : got == MJ_ETRUNC ? "the file ends inside it"
                                         : "damaged; is this a capture, as moonjet record makes?");
    mj_decoder_free(decoder);
    mj_capture_close(capture);
    return got;
}

/* ---- JSON lines ---- */

static void read_line(struct mj__backtest_input *in, struct mj_span line, uint64_t number)
{
    struct mj_event ev;
    size_t at;
    if (!line.len)
        return;
    int err = mj_event_from_json(in->source->reader, line, &ev, &at);
    if (err) {
        note_bad(in, "line %llu, byte %zu: %s", (unsigned long long)number, at + 1,
                 err == MJ_EFIELD ? "not an event as Jetstream writes it" : mj_strerror(err));
    } else if (in_range(in, ev.time_us)) {
        in->read++;
        in->event(in->ctx, number, &ev);
    }
}

static int read_lines(struct mj__backtest_input *in, struct mj_buf *error)
{
    bool is_stdin = strcmp(in->lines, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(in->lines, "rb");
    MJ_AUTO_BUF buf = {0};
    struct stat st;
    uint64_t number = 0;
    size_t scanned = 0;
    int err = 0;
    if (!file) {
        mj_buf_printf(error, "%s: %s", in->lines, strerror(errno));
        return MJ_EIO;
    }
    if (fstat(fileno(file), &st) == 0 && S_ISREG(st.st_mode))
        in->all = (uint64_t)st.st_size;
    for (bool more = true; more && !err;) {
        mj_buf_reserve(&buf, LINES_CHUNK);
        size_t got = fread(buf.ptr + buf.len, 1, LINES_CHUNK, file), start = 0;
        more = got > 0;
        buf.len += got;
        const uint8_t *end;
        while ((end = memchr(buf.ptr + scanned, '\n', buf.len - scanned)) || (!more && buf.len)) {
            size_t n = end ? (size_t)(end - buf.ptr) : buf.len;
            if (number++ % TICK_EVENTS == 0)
                tick(in);
            read_line(in, mj_span(buf.ptr + start, n - start), number);
            start = scanned = end ? n + 1 : buf.len;
            if (scanned == buf.len)
                break;
        }
        in->done += start;
        mj_buf_shift(&buf, start);
        scanned = buf.len;
        if (buf.len > MJ_JSON_EVENT_MAX) {
            mj_buf_printf(error, "%s: line %llu is longer than any event", in->lines,
                          (unsigned long long)number + 1);
            err = MJ_EBIG;
        }
    }
    if (!err && ferror(file)) {
        mj_buf_printf(error, "%s: %s", in->lines, strerror(errno));
        err = MJ_EIO;
    }
    if (!is_stdin)
        fclose(file);
    return err;
}

/* ---- all ---- */

int mj__backtest_open(struct mj__backtest_input *in, struct mj_buf *error)
{
    const char *file = in->capture ? in->capture : in->lines;
    in->source = mj_calloc(1, sizeof *in->source);
    in->source->reader = mj_from_json_new();
    if (!file)
        return open_journal(in, error);
    if (strcmp(file, "-") != 0 && access(file, R_OK)) {
        mj_buf_printf(error, "%s: %s", file, strerror(errno));
        return MJ_EIO;
    }
    return 0;
}

int64_t mj__backtest_newest(const struct mj__backtest_input *in)
{
    return in->source->journal ? mj_view_newest(&in->source->view) : 0;
}

int mj__backtest_read(struct mj__backtest_input *in, struct mj_buf *error)
{
    if (in->capture)
        return read_capture(in, error);
    if (in->lines)
        return read_lines(in, error);
    read_journal(in);
    return 0;
}

void mj__backtest_close(struct mj__backtest_input *in)
{
    struct mj__backtest_source *s = in->source;
    if (!s)
        return;
    if (s->journal) {
        mj_view_deinit(&s->view);
        mj_journal_close(s->journal);
    }
    mj_from_json_free(s->reader);
    free(s->wanted);
    free(s);
    in->source = NULL;
}
