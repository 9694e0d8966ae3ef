/* moonjet journal: a look at what a router keeps under --data, also while it runs. */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cli/commands.h"
#include "journal/inspect.h"

struct cfg {
    bool json;
};

static const struct mj_option options[] = {
    {"json", MJ_OPT_FLAG, offsetof(struct cfg, json), NULL, "one JSON object on stdout"}, {0}};

/* DATA is as good as DATA/journal. */
static char *journal_dir(const char *given)
{
    struct mj_buf path = {0};
    struct stat st;
    mj_buf_printf(&path, "%s/journal", given);
    if (stat(mj_buf_cstr(&path), &st) || !S_ISDIR(st.st_mode)) {
        path.len = 0;
        mj_buf_puts(&path, given);
    }
    mj_buf_cstr(&path);
    return (char *)path.ptr;
}

static const char *when(int64_t us, char out[32])
{
    time_t t = (time_t)(us / 1000000);
    struct tm tm;
    if (!us || !gmtime_r(&t, &tm))
        return "-";
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return out;
}

static const char *size(int64_t bytes, char out[32])
{
    static const char units[] = "BKMGT";
    double v = (double)bytes;
    size_t u = 0;
    for (; v >= 1024 && u < 4; u++)
        v /= 1024;
    snprintf(out, 32, u ? "%.1f%c" : "%.0f%c", v, units[u]);
    return out;
}

struct totals {
    int64_t events, plain, stored;
    size_t sealed;
};

static struct totals sum_up(struct mj_journal *j)
{
    struct totals t = {0};
    for (size_t i = 0; i < mj_inspect_count(j); i++) {
        struct mj_segment_info s;
        mj_inspect_segment(j, i, &s);
        t.events += (int64_t)(s.end_seq - s.first_seq);
        t.plain += s.plain_bytes;
        t.stored += s.stored_bytes;
        t.sealed += s.sealed;
    }
    return t;
}

static void inspect_text(struct mj_journal *j)
{
    char a[32], b[32], c[32], d[32];
    struct totals t = sum_up(j);
    printf("%-10s %20s %20s  %-20s  %-20s %10s %10s\n", "segment", "first seq", "events", "from",
           "to", "as sent", "on disk");
    for (size_t i = 0; i < mj_inspect_count(j); i++) {
        struct mj_segment_info s;
        mj_inspect_segment(j, i, &s);
        printf("%-10s %20" PRIu64 " %20" PRIu64 "  %-20s  %-20s %10s %10s\n",
               s.sealed ? "sealed" : "plain", s.first_seq, s.end_seq - s.first_seq,
               when(s.first_us, a), when(s.last_us, b), size(s.plain_bytes, c),
               size(s.stored_bytes, d));
    }
    printf("\n%zu segments, %zu sealed; %" PRId64 " events; %s as sent, %s on disk",
           mj_inspect_count(j), t.sealed, t.events, size(t.plain, a), size(t.stored, b));
    if (t.events)
        printf(" (%.0f and %.0f bytes an event)", (double)t.plain / (double)t.events,
               (double)t.stored / (double)t.events);
    printf("\n%zu collections\n", mj_inspect_collections(j));
    for (size_t i = 0; i < mj_inspect_streams(j); i++) {
        struct mj_span name = mj_inspect_stream(j, i);
        printf("stream %.*s\n", (int)name.len, (const char *)name.ptr);
    }
    for (size_t i = 0; i < mj_inspect_sources(j); i++) {
        int64_t cursor;
        struct mj_span url = mj_inspect_source(j, i, &cursor);
        printf("source %.*s, resumed after seq %" PRId64 "\n", (int)url.len, (const char *)url.ptr,
               cursor);
    }
}

static void inspect_json(struct mj_journal *j)
{
    MJ_AUTO_BUF out = {0};
    struct totals t = sum_up(j);
    mj_buf_puts(&out, "{\"segments\":[");
    for (size_t i = 0; i < mj_inspect_count(j); i++) {
        struct mj_segment_info s;
        mj_inspect_segment(j, i, &s);
        mj_buf_printf(&out,
                      "%s{\"sealed\":%s,\"first_seq\":%" PRIu64 ",\"end_seq\":%" PRIu64
                      ",\"first_time_us\":%" PRId64 ",\"last_time_us\":%" PRId64
                      ",\"plain_bytes\":%" PRId64 ",\"stored_bytes\":%" PRId64 "}",
                      i ? "," : "", s.sealed ? "true" : "false", s.first_seq, s.end_seq, s.first_us,
                      s.last_us, s.plain_bytes, s.stored_bytes);
    }
    mj_buf_printf(&out,
                  "],\"events\":%" PRId64 ",\"plain_bytes\":%" PRId64 ",\"stored_bytes\":%" PRId64
                  ",\"collections\":%zu,\"streams\":[",
                  t.events, t.plain, t.stored, mj_inspect_collections(j));
    for (size_t i = 0; i < mj_inspect_streams(j); i++) {
        mj_buf_puts(&out, i ? "," : "");
        mj_buf_put_json(&out, mj_inspect_stream(j, i));
    }
    mj_buf_puts(&out, "],\"sources\":[");
    for (size_t i = 0; i < mj_inspect_sources(j); i++) {
        int64_t cursor;
        struct mj_span url = mj_inspect_source(j, i, &cursor);
        mj_buf_puts(&out, i ? ",{\"url\":" : "{\"url\":");
        mj_buf_put_json(&out, url);
        mj_buf_printf(&out, ",\"cursor\":%" PRId64 "}", cursor);
    }
    mj_buf_puts(&out, "]}");
    printf("%s\n", mj_buf_cstr(&out));
}

struct progress {
    int64_t done, all, shown_us;
    bool terminal;
};

static void on_progress(void *ctx, int64_t bytes)
{
    struct progress *p = ctx;
    p->done += bytes;
    int64_t now = mj_mono_us();
    if (!p->terminal || now - p->shown_us < 100000)
        return;
    p->shown_us = now;
    char a[32], b[32];
    int percent = p->all ? (int)(100 * p->done / p->all) : 100;
    fprintf(stderr, "\r%3d %%  %s of %s ", percent, size(p->done, a), size(p->all, b));
}

static size_t verify(struct mj_journal *j, struct mj_buf *problems)
{
    size_t count = 0;
    struct progress p = {.all = sum_up(j).plain, .terminal = isatty(STDERR_FILENO)};
    for (size_t i = 0; i < mj_inspect_count(j); i++)
        count += mj_verify_segment(j, i, problems, on_progress, &p);
    if (p.shown_us)
        fprintf(stderr, "\r%40s\r", "");
    return count;
}

static void put_lines(struct mj_buf *out, struct mj_span lines)
{
    while (lines.len) {
        const uint8_t *end = memchr(lines.ptr, '\n', lines.len);
        size_t n = end ? (size_t)(end - lines.ptr) : lines.len;
        mj_buf_putc(out, out->len && out->ptr[out->len - 1] != '[' ? ',' : ' ');
        mj_buf_put_json(out, mj_span(lines.ptr, n));
        lines = mj_span(lines.ptr + n + (end != NULL), lines.len - n - (end != NULL));
    }
}

static int journal_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg cfg = {0};
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    bool verifying = strcmp(pos.v[0], "verify") == 0;
    if (!verifying && strcmp(pos.v[0], "inspect") != 0) {
        fprintf(stderr, "moonjet journal: no '%s'; there are inspect and verify\n", pos.v[0]);
        return MJ_EXIT_USAGE;
    }
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    char *dir MJ_AUTO_FREE = journal_dir(pos.v[1]);
    MJ_AUTO_BUF problems = {0};
    struct mj_journal *j;
    size_t count;
    if (mj_inspect_open(dir, &j, &problems, &count)) {
        fprintf(stderr, "moonjet journal: %s", mj_buf_cstr(&problems));
        return MJ_EXIT_FAILED;
    }
    if (verifying) {
        count += verify(j, &problems);
        if (cfg.json) {
            MJ_AUTO_BUF out = {0};
            mj_buf_printf(&out, "{\"events\":%" PRId64 ",\"problems\":[", sum_up(j).events);
            put_lines(&out, mj_buf_span(&problems));
            printf("%s]}\n", mj_buf_cstr(&out));
        } else {
            printf("%s%zu segments, %" PRId64 " events: %s\n", mj_buf_cstr(&problems),
                   mj_inspect_count(j), sum_up(j).events, count ? "damaged" : "sound");
        }
    } else {
        if (cfg.json)
            inspect_json(j);
        else
            inspect_text(j);
        fputs(mj_buf_cstr(&problems), stderr);
    }
    mj_journal_close(j);
    return count ? MJ_EXIT_FAILED : MJ_EXIT_OK;
}

const struct mj_command mj_cmd_journal = {
    .name = "journal",
    .usage = "inspect|verify DIR",
    .summary = "Look at the events a router keeps under --data DIR, also while it runs.",
    .details =
        "inspect lists the segments, sources and streams; verify reads everything and checks\n"
        "it against its hashes. Both end with status 1 when something is damaged, with a line\n"
        "for each thing that is. Nothing is changed.",
    .options = options,
    .positional_min = 2,
    .positional_max = 2,
    .main = journal_main,
};
