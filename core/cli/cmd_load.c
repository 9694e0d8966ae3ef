/* moonjet load: many subscribers of one Jetstream server, each of them checked. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/dictionary.h"
#include "base/err.h"
#include "cli/commands.h"
#include "cli/load.h"

#define DEFAULT_URL "ws://127.0.0.1:6008/subscribe"
#define CLASSES_MAX 100000
#define LINE_MAX_   (1u << 20)

struct cfg {
    struct mj_strings collections, dids;
    const char *ramp, *duration, *cursor, *mix, *dictionary;
    int64_t subscribers, stall, churn, filters, filter_dids, zstd, events;
    bool stamp, json;
};

static int usage(const char *what)
{
    fprintf(stderr, "moonjet load: %s (moonjet load --help tells more)\n", what);
    return MJ_EXIT_USAGE;
}

/* "500ms", "10s", "5m", "1h", or seconds as a bare number. False when it is none of them. */
static bool parse_duration(const char *text, int64_t *us)
{
    char *unit;
    errno = 0;
    double v = strtod(text, &unit);
    double scale = strcmp(unit, "ms") == 0            ? 1e3
                   : strcmp(unit, "s") == 0 || !*unit ? 1e6
                   : strcmp(unit, "m") == 0           ? 60e6
                   : strcmp(unit, "h") == 0           ? 3600e6
                                                      : 0;
    if (unit == text || errno || scale == 0 || !(v >= 0 && v * scale < 1e15))
        return false;
    *us = (int64_t)(v * scale);
    return true;
}

/* ---- classes ---- */

struct mix {
    struct mj__load_class *classes; /* owned */
    size_t count, cap;
    bool zstd; /* some class asks for it */
};

static void add_class(struct mix *m, unsigned weight, struct mj_span query)
{
    if (m->count == m->cap) {
        m->cap = m->cap ? 2 * m->cap : 16;
        m->classes = mj_realloc(m->classes, m->cap * sizeof *m->classes);
    }
    struct mj__load_class *c = &m->classes[m->count++];
    *c = (struct mj__load_class){.weight = weight, .query = mj_span_dup(query)};
    mj__load_filter_init(&c->filter, query);
    struct mj_span key, value;
    while (mj_query_next(&query, &key, &value))
        c->zstd = c->zstd || (mj_span_is(key, "compress") && mj_span_is(value, "true"));
    m->zstd = m->zstd || c->zstd;
}

/* The class of --collection and --did. */
static void add_own_class(struct mix *m, const struct cfg *c)
{
    const struct mj_strings *lists[] = {&c->collections, &c->dids};
    static const char *const keys[] = {"wantedCollections", "wantedDids"};
    MJ_AUTO_BUF query = {0};
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < lists[k]->n; i++) {
            mj_buf_printf(&query, "%s%s=", query.len ? "&" : "", keys[k]);
            for (const char *p = lists[k]->v[i]; *p; p++) {
                bool plain = (*p >= '0' && *p <= '9') ||
                             ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'z') || strchr("-._~:*", *p);
                mj_buf_printf(&query, plain ? "%c" : "%%%02X", (uint8_t)*p);
            }
        }
    add_class(m, 1, mj_buf_span(&query));
}

/* WEIGHT, a blank, a query string (or nothing); `#` starts a comment line. */
static bool read_mix(struct mix *m, const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        fprintf(stderr, "moonjet load: %s: %s\n", path, strerror(errno));
        return false;
    }
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    int number = 0;
    bool ok = true;
    while (ok && (n = getline(&line, &cap, f)) >= 0) {
        number++;
        n = (ssize_t)strcspn(line, "\r\n");
        if (!n || line[0] == '#')
            continue;
        size_t digits = strspn(line, "0123456789");
        size_t blanks = strspn(line + digits, " \t");
        struct mj_span query = mj_span(line + digits + blanks, (size_t)n - digits - blanks);
        query.len -= query.len && query.ptr[0] == '?';
        query.ptr += query.len && query.ptr[0] == '?';
        int64_t weight = 0;
        ok = digits && (blanks || (size_t)n == digits) && query.len < LINE_MAX_ &&
             !mj_span_i64(mj_span(line, digits), &weight) && weight >= 1 && weight <= 1000000 &&
             m->count < CLASSES_MAX;
        for (size_t i = 0; ok && i < query.len; i++)
            ok = query.ptr[i] > 0x20 && query.ptr[i] < 0x7f;
        if (ok)
            add_class(m, (unsigned)weight, query);
        else
            fprintf(stderr,
                    "moonjet load: %s:%d: expected a weight and a query string, like "
                    "`10 wantedCollections=app.bsky.feed.post`\n",
                    path, number);
    }
    free(line);
    fclose(f);
    if (ok && !m->count)
        fprintf(stderr, "moonjet load: %s: there are no filters in it\n", path);
    return ok && m->count;
}

static void free_mix(struct mix *m)
{
    for (size_t i = 0; i < m->count; i++) {
        free(m->classes[i].query);
        mj__load_filter_deinit(&m->classes[i].filter);
        mj__load_log_deinit(&m->classes[i].log);
    }
    free(m->classes);
}

/* ---- the report ---- */

static double per_second(uint64_t n, const struct mj__load_result *r)
{
    return r->seconds > 0 ? (double)n / r->seconds : 0;
}

static void print_latency(const char *what, const struct mj__load_histogram *h)
{
    if (!h->count) {
        printf("%-22s none: nothing live came\n", what);
        return;
    }
    printf("%-22s p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, max %.2f ms\n", what,
           (double)mj__load_percentile(h, 0.5) / 1e3, (double)mj__load_percentile(h, 0.99) / 1e3,
           (double)mj__load_percentile(h, 0.999) / 1e3, (double)h->max / 1e3);
}

static void print_check(const char *what, uint64_t faults, const char *means)
{
    printf("%-22s %s", what, faults ? "FAILED" : "ok");
    if (faults)
        printf(": %llu %s", (unsigned long long)faults, means);
    printf("\n");
}

static void print_table(const struct mj__load_cfg *c, const struct mj__load_result *r)
{
    printf("%-22s %llu connected, %llu refused, in %.1f s", "subscribers",
           (unsigned long long)r->opened - r->churned, (unsigned long long)r->refused,
           r->ramp_seconds);
    if (c->filters)
        printf("; %zu filters of %zu DIDs", r->scouted, c->filter_dids);
    if (r->churned)
        printf("; %llu left and came back", (unsigned long long)r->churned);
    printf("\n%-22s %.0f events/s, %.1f MB/s over %.1f s (%llu events in all)\n", "received",
           per_second(r->window_events, r), per_second(r->window_bytes, r) / 1e6, r->seconds,
           (unsigned long long)r->events);
    print_latency("server to client", &r->latency);
    if (c->stamp)
        print_latency("commit to client", &r->stamped);
    printf("%-22s fewest %llu, mean %.1f, most %llu, deviation %.2f (%zu equal subscribers)\n",
           "events each", (unsigned long long)r->fewest, r->mean, (unsigned long long)r->most,
           r->deviation, r->equal);
    if (c->stalled)
        printf("%-22s %llu still connected, %llu cut by the server\n", "never reading",
               (unsigned long long)r->stalled_open, (unsigned long long)r->stalled_cut);
    if (r->seconds >= 1)
        printf("%-22s %.0f %% of a core%s\n", "this load tester", 100 * r->cpu_seconds / r->seconds,
               r->cpu_seconds > 0.9 * r->seconds ? ": IT WAS THE BOTTLENECK, not the server" : "");
    print_check("order", r->disorder, "events with a smaller time_us than the one before");
    print_check("duplicates", r->duplicates, "events with the time_us of the one before");
    print_check("gaps", r->missing, "events that others with the same filter got in between");
    print_check("filters", r->wrong + r->unlike,
                "events against the filter, or not the same as without it");
    print_check("messages", r->malformed, "messages that are no events");
    print_check("fairness", r->starved, "subscribers with less than half of what the first got");
    print_check("connections", r->end_count, "kinds of ends that nobody here asked for:");
    for (size_t i = 0; i < r->end_count; i++) {
        const struct mj__load_end *e = &r->ends[i];
        char code[16] = "";
        if (e->code)
            snprintf(code, sizeof code, "%d ", e->code);
        printf("%24llu × %s%s\n", (unsigned long long)e->count, code, e->why);
    }
    if (!r->events)
        printf("%-22s FAILED: nothing came at all\n", "events");
}

static void json_latency(struct mj_buf *b, const char *key, const struct mj__load_histogram *h)
{
    mj_buf_printf(b, ",\"%s\":", key);
    if (!h->count) {
        mj_buf_puts(b, "null");
        return;
    }
    mj_buf_printf(b, "{\"count\":%llu,\"p50\":%lld,\"p99\":%lld,\"p999\":%lld,\"max\":%lld}",
                  (unsigned long long)h->count, (long long)mj__load_percentile(h, 0.5),
                  (long long)mj__load_percentile(h, 0.99), (long long)mj__load_percentile(h, 0.999),
                  (long long)h->max);
}

static void print_json(const struct mj__load_result *r)
{
    MJ_AUTO_BUF b = {0};
    const struct {
        const char *key;
        uint64_t value;
    } counts[] = {
        {"connected", r->opened - r->churned},
        {"refused", r->refused},
        {"churned", r->churned},
        {"stalled_open", r->stalled_open},
        {"stalled_cut", r->stalled_cut},
        {"filters", r->scouted},
        {"messages", r->messages},
        {"events", r->events},
        {"bytes", r->bytes},
        {"disorder", r->disorder},
        {"duplicates", r->duplicates},
        {"missing", r->missing},
        {"wrong", r->wrong},
        {"unlike", r->unlike},
        {"malformed", r->malformed},
        {"starved", r->starved},
        {"equal", r->equal},
        {"events_fewest", r->fewest},
        {"events_most", r->most},
    };
    mj_buf_printf(&b, "{\"passed\":%s,\"interrupted\":%s", mj__load_passed(r) ? "true" : "false",
                  r->interrupted ? "true" : "false");
    for (size_t i = 0; i < MJ_COUNT(counts); i++)
        mj_buf_printf(&b, ",\"%s\":%llu", counts[i].key, (unsigned long long)counts[i].value);
    mj_buf_printf(&b,
                  ",\"events_mean\":%.3f,\"events_deviation\":%.3f,\"seconds\":%.3f,"
                  "\"ramp_seconds\":%.3f,\"events_per_s\":%.1f,\"bytes_per_s\":%.1f,"
                  "\"cpu_seconds\":%.3f",
                  r->mean, r->deviation, r->seconds, r->ramp_seconds,
                  per_second(r->window_events, r), per_second(r->window_bytes, r), r->cpu_seconds);
    json_latency(&b, "latency_us", &r->latency);
    json_latency(&b, "commit_latency_us", &r->stamped);
    mj_buf_puts(&b, ",\"ends\":[");
    for (size_t i = 0; i < r->end_count; i++) {
        mj_buf_printf(&b, "%s{\"code\":%d,\"count\":%llu,\"why\":", i ? "," : "", r->ends[i].code,
                      (unsigned long long)r->ends[i].count);
        mj_buf_put_json(&b, mj_str(r->ends[i].why));
        mj_buf_putc(&b, '}');
    }
    mj_buf_puts(&b, "]}");
    printf("%s\n", mj_buf_cstr(&b));
}

/* ---- the command ---- */

/* 0, or the exit status after a message. */
static int check(const struct cfg *c, struct mj__load_cfg *out)
{
    struct mj_span key, value, query = mj_str(strchr(out->url.path, '?'));
    if (!parse_duration(c->ramp, &out->ramp_us) || !parse_duration(c->duration, &out->duration_us))
        return usage("--ramp and --duration are like 500ms, 10s, 5m or 1h");
    if (c->subscribers < 1 || c->subscribers > 1000000 || c->stall < 0 || c->stall > 1000000)
        return usage("--subscribers is 1 to 1,000,000, --stall 0 to 1,000,000");
    if (c->zstd < 0 || c->zstd > 100)
        return usage("--zstd is a share of 0 to 100 percent");
    if (c->churn < 0 || c->churn > 100000 || c->events < 0)
        return usage("--churn is 0 to 100,000 a second, --events not negative");
    if (c->filters < 0 || c->filters > CLASSES_MAX || c->filter_dids < 1 || c->filter_dids > 10000)
        return usage("--filters is 0 to 100,000, --filter-dids 1 to 10,000");
    if ((c->filters ? 1 : 0) + (c->mix && *c->mix ? 1 : 0) +
            (c->collections.n || c->dids.n ? 1 : 0) >
        1)
        return usage("--filters, --mix, and --collection with --did are three ways to say who gets "
                     "what: use one");
    while (mj_query_next(&query, &key, &value))
        if (mj_span_is(key, "cursor") || mj_span_is(key, "compress") ||
            mj_span_is(key, "requireHello"))
            return usage("cursors are said with --cursor, zstd with --zstd, not in the URL, and "
                         "requireHello is not for load tests");
    if (c->cursor && strspn(c->cursor, "-0123456789") != strlen(c->cursor))
        return usage("--cursor is a number");
    return 0;
}

static int load_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg c = {0};
    struct mj_strings pos;
    int status = mj_options_parse(cmd, argc, argv, &c, &pos);
    if (status)
        return status;
    struct mj__load_cfg run = {0};
    const char *url = pos.n ? pos.v[0] : DEFAULT_URL;
    if (mj_url_parse(url, &run.url)) {
        fprintf(stderr, "moonjet load: '%s' is not a URL like %s\n", url, DEFAULT_URL);
        return MJ_EXIT_USAGE;
    }
    status = check(&c, &run);
    if (status)
        return status;
    run.cursor = c.cursor && *c.cursor ? c.cursor : NULL;
    run.subscribers = (size_t)c.subscribers + (c.filters ? 1 : 0); /* the scout is one more */
    run.stalled = (size_t)c.stall;
    run.filters = (size_t)c.filters;
    run.filter_dids = (size_t)c.filter_dids;
    run.churn = (size_t)c.churn;
    run.zstd_percent = (unsigned)c.zstd;
    run.events = (uint64_t)c.events;
    run.stamp = c.stamp;
    run.progress = isatty(STDERR_FILENO);

    struct mix mix = {0};
    struct mj_dictionary dictionary = {0};
    MJ_AUTO_BUF error = {0};
    struct mj__load_result *result = mj_calloc(1, sizeof *result);
    status = MJ_EXIT_FAILED;
    if (c.mix && *c.mix) {
        if (!read_mix(&mix, c.mix))
            goto out;
    } else {
        add_own_class(&mix, &c);
    }
    if (c.zstd || mix.zstd) {
        int err = mj_dictionary_find(c.dictionary, NULL, &dictionary, &error);
        if (err) {
            fprintf(stderr, "moonjet load: %s\n",
                    err == MJ_ENOENT ? "zstd needs the server's dictionary: name it with "
                                       "--dictionary FILE, or `moonjet dictionary install FILE` "
                                       "once"
                                     : mj_buf_cstr(&error));
            goto out;
        }
        run.dictionary = mj_buf_span(&dictionary.bytes);
    }
    if (run.filters) {
        mix.cap = mix.count + run.filters;
        mix.classes = mj_realloc(mix.classes, mix.cap * sizeof *mix.classes);
    }
    if (mj__load_run(&run, mix.classes, mix.count, result))
        goto out;
    mix.count += result->scouted;
    if (c.json)
        print_json(result);
    else
        print_table(&run, result);
    status = mj__load_passed(result) ? MJ_EXIT_OK : MJ_EXIT_FAILED;
out:
    free_mix(&mix);
    mj_dictionary_deinit(&dictionary);
    free(result);
    return status;
}

#define AT(field) offsetof(struct cfg, field)

static const struct mj_option options[] = {
    {"subscribers", MJ_OPT_INT, AT(subscribers), "N", "connections that read", .def = "100"},
    {"ramp", MJ_OPT_STR, AT(ramp), "TIME", "open them spread over so long", .def = "1s"},
    {"duration", MJ_OPT_STR, AT(duration), "TIME",
     "measure so long, from when all are there; 0 = until Ctrl-C", .def = "10s"},
    {"events", MJ_OPT_INT, AT(events), "N", "end earlier, once everybody has got N events"},
    {"cursor", MJ_OPT_STR, AT(cursor), "TIME_US", "all start there: a replay; 0 = the oldest"},
    {"collection", MJ_OPT_LIST, AT(collections), "NSID",
     "all want only this collection, or app.bsky.feed.*; repeatable"},
    {"did", MJ_OPT_LIST, AT(dids), "DID", "all want only this account; repeatable"},
    {"filters", MJ_OPT_INT, AT(filters), "N",
     "N different filters by DID, of accounts seen in the first seconds; one more subscriber "
     "without a filter says what they must get"},
    {"filter-dids", MJ_OPT_INT, AT(filter_dids), "N", "DIDs in each of those", .def = "1"},
    {"mix", MJ_OPT_STR, AT(mix), "FILE",
     "filters from a file: lines of a weight, a blank and a query string"},
    {"zstd", MJ_OPT_INT, AT(zstd), "PERCENT", "share of the subscribers that ask for zstd"},
    {"dictionary", MJ_OPT_STR, AT(dictionary), "FILE",
     "the server's, else the one that `moonjet dictionary show` names"},
    {"stall", MJ_OPT_INT, AT(stall), "N", "further connections that never read"},
    {"churn", MJ_OPT_INT, AT(churn), "N",
     "so many a second leave, every other one without a word, and resume where they were"},
    {"stamp", MJ_OPT_FLAG, AT(stamp), NULL,
     "measure from the commits' rev, too: when `moonjet simulate` or a PDS made them"},
    {"json", MJ_OPT_FLAG, AT(json), NULL, "one JSON object instead of the table"},
    {0}};

const struct mj_command mj_cmd_load = {
    .name = "load",
    .usage = "[URL]",
    .summary = "Load a Jetstream server with subscribers, and check what each of them gets.",
    .details =
        "URL defaults to " DEFAULT_URL "; one without a path gets\n"
        "/subscribe. Every subscriber is checked: time_us rises strictly, nothing that others\n"
        "with the same filter got is missing, filters hold, nobody is cut off or left behind.\n"
        "Latency is from an event's time_us (and, with --stamp, its commit) to here: on another\n"
        "machine the clocks' difference is part of it. Exit status 1 when a check failed.\n"
        "Only for servers that are yours.",
    .options = options,
    .positional_max = 1,
    .main = load_main,
};
