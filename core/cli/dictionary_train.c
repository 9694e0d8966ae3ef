/* moonjet dictionary train: a zstd dictionary made from events, and proof that it is worth having.
 *
 *   events ──▶ every k-th is kept ──▶ nine of ten train ──▶ dictionary ──▶ FILE
 *                                 └─▶ one of ten judges: bytes without and with it
 *
 * Events come in one pass of unknown length. k starts at 1 and doubles, and half of what is kept
 * goes, whenever the kept bytes exceed what training needs: so the sample is spread evenly over
 * everything seen, in bounded memory. */
#include <errno.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>
#include <zdict.h>
#include <zstd.h>

#include "base/clock.h"
#include "base/err.h"
#include "cli/dictionary.h"
#include "journal/journal.h"

#define LINE_BYTES (16u << 20) /* a record of 1 MB, escaped as badly as JSON can be */
/* libzstd advises a hundred times the dictionary's size to train from. */
#define SAMPLES_PER_SIZE 128
#define SAMPLES_MIN      100
#define SAMPLE_BYTES_MIN (1u << 20)
#define EVENT_BYTES_MAX  (64u << 10) /* longer ones have nothing in common with others */
#define LEVEL            1           /* what the server compresses with */

struct train_cfg {
    const char *data, *jsonl, *out;
    int64_t size, id, events;
};

struct samples {
    struct mj_buf bytes;
    size_t *sizes; /* owned */
    size_t count, cap;
};

struct sampler {
    struct samples kept;
    size_t budget; /* bytes */
    uint64_t seen, every;
    int64_t shown_us; /* when progress was last told */
    bool tell;        /* on a terminal */
};

static void samples_deinit(struct samples *s)
{
    mj_buf_deinit(&s->bytes);
    free(s->sizes);
}

static void samples_add(struct samples *s, struct mj_span event)
{
    if (s->count == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 1024;
        s->sizes = mj_realloc(s->sizes, s->cap * sizeof *s->sizes);
    }
    mj_buf_put(&s->bytes, event.ptr, event.len);
    s->sizes[s->count++] = event.len;
}

/* Drops every second sample, in place. */
static void samples_halve(struct samples *s)
{
    size_t from = 0, to = 0, n = 0;
    for (size_t i = 0; i < s->count; i++) {
        size_t size = s->sizes[i];
        if (i % 2 == 0) {
            memmove(s->bytes.ptr + to, s->bytes.ptr + from, size);
            to += size;
            s->sizes[n++] = size;
        }
        from += size;
    }
    s->bytes.len = to;
    s->count = n;
}

static void sampler_add(struct sampler *s, struct mj_span event)
{
    if (s->seen++ % s->every || !event.len || event.len > EVENT_BYTES_MAX)
        return;
    samples_add(&s->kept, event);
    while (s->kept.bytes.len > s->budget) {
        samples_halve(&s->kept);
        s->every *= 2;
    }
}

static void show_progress(struct sampler *s, int64_t of)
{
    int64_t now = mj_mono_us();
    if (!s->tell || (s->seen & 1023) || now - s->shown_us < 100000)
        return;
    s->shown_us = now;
    char bar[31];
    size_t full = of > 0 ? (size_t)(s->seen * 30 / (uint64_t)of) : 0;
    for (size_t i = 0; i < 30; i++)
        bar[i] = i < full ? '#' : '.';
    bar[30] = '\0';
    if (of > 0)
        fprintf(stderr, "\rreading [%s] %llu of %lld events \033[K", bar,
                (unsigned long long)s->seen, (long long)of);
    else
        fprintf(stderr, "\rreading: %llu events \033[K", (unsigned long long)s->seen);
}

static int read_jsonl(const struct train_cfg *c, struct sampler *s, struct mj_buf *error)
{
    bool is_stdin = strcmp(c->jsonl, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(c->jsonl, "re");
    if (!f) {
        mj_buf_printf(error, "%s: %s", c->jsonl, strerror(errno));
        return MJ_EIO;
    }
    MJ_AUTO_BUF line = {0};
    bool skipping = false; /* the rest of a line that is too long */
    char chunk[65536];
    size_t n;
    while ((int64_t)s->seen < c->events && (n = fread(chunk, 1, sizeof chunk, f)) > 0) {
        for (size_t at = 0; at < n && (int64_t)s->seen < c->events;) {
            const char *nl = memchr(chunk + at, '\n', n - at);
            size_t part = nl ? (size_t)(nl - (chunk + at)) : n - at;
            skipping = skipping || line.len + part > LINE_BYTES;
            if (!skipping)
                mj_buf_put(&line, chunk + at, part);
            at += part + (nl ? 1 : 0);
            if (!nl)
                continue;
            if (!skipping && line.len) {
                sampler_add(s, mj_buf_span(&line));
                show_progress(s, 0);
            }
            skipping = false;
            line.len = 0;
        }
    }
    int err = ferror(f) ? MJ_EIO : 0;
    if (err)
        mj_buf_printf(error, "%s: read error", c->jsonl);
    else if (line.len && !skipping && (int64_t)s->seen < c->events)
        sampler_add(s, mj_buf_span(&line));
    if (!is_stdin)
        fclose(f);
    return err;
}

/* The newest events of a router's journal, which may be running meanwhile. */
static int read_journal(const struct train_cfg *c, struct sampler *s, struct mj_buf *error)
{
    MJ_AUTO_BUF dir = {0};
    mj_buf_printf(&dir, "%s/journal", c->data);
    struct mj_journal_cfg cfg = {.dir = mj_buf_cstr(&dir), .read_only = true};
    struct mj_journal *journal;
    int err = mj_journal_open(&cfg, &journal, error);
    if (err)
        return err;
    struct mj_view view;
    struct mj_run run;
    mj_view_init(&view, journal);
    uint64_t most = (uint64_t)c->events;
    uint64_t seq = view.end - view.floor > most ? view.end - most : view.floor;
    int64_t of = (int64_t)(view.end - seq);
    while (mj_view_run(&view, seq, &run)) {
        seq = run.seq + run.count;
        if (mj_view_load(&view, &run))
            continue; /* damaged, which the journal has said; the others will do */
        for (size_t i = 0; i < run.count; i++) {
            if (!run.entries[i].streams) /* not what a server sends */
                continue;
            sampler_add(s, mj_run_json(&run, i));
            show_progress(s, of);
        }
    }
    mj_view_deinit(&view);
    mj_journal_close(journal);
    return 0;
}

/* Bytes of all events, each compressed by itself, as a server sends them. */
static size_t packed_bytes(const struct samples *s, struct mj_span dictionary)
{
    ZSTD_CCtx *ctx = ZSTD_createCCtx();
    ZSTD_CDict *dict =
        dictionary.len ? ZSTD_createCDict(dictionary.ptr, dictionary.len, LEVEL) : NULL;
    MJ_AUTO_BUF out = {0};
    mj_buf_reserve(&out, ZSTD_compressBound(EVENT_BYTES_MAX));
    size_t total = 0, at = 0;
    for (size_t i = 0; ctx && i < s->count; i++) {
        const uint8_t *p = s->bytes.ptr + at;
        size_t n = dict ? ZSTD_compress_usingCDict(ctx, out.ptr, out.cap, p, s->sizes[i], dict)
                        : ZSTD_compressCCtx(ctx, out.ptr, out.cap, p, s->sizes[i], LEVEL);
        total += ZSTD_isError(n) ? s->sizes[i] : n;
        at += s->sizes[i];
    }
    ZSTD_freeCDict(dict);
    ZSTD_freeCCtx(ctx);
    return total;
}

static void print_ratio(const char *what, size_t plain, size_t packed, size_t events)
{
    printf("%-34s %6.1f bytes/event  ratio %.2f\n", what, (double)packed / (double)events,
           packed ? (double)plain / (double)packed : 0);
}

static void judge(const struct train_cfg *c, const struct samples *s, struct mj_span fresh)
{
    struct mj_dictionary now;
    MJ_AUTO_BUF error = {0};
    size_t plain = s->bytes.len, n = s->count;
    printf("judged by %zu events it was not trained on, zstd level %d:\n", n, LEVEL);
    print_ratio("  plain", plain, plain, n);
    print_ratio("  before, without a dictionary", plain, packed_bytes(s, (struct mj_span){0}), n);
    if (!mj_dictionary_find(NULL, c->data, &now, &error)) {
        char what[64];
        snprintf(what, sizeof what, "  before, with %u", now.id);
        print_ratio(what, plain, packed_bytes(s, mj_buf_span(&now.bytes)), n);
        mj_dictionary_deinit(&now);
    }
    print_ratio("  after, with the new one", plain, packed_bytes(s, fresh), n);
}

static int train(const struct train_cfg *c, const struct samples *all, bool tell,
                 struct mj_buf *error)
{
    struct samples train = {0}, rest = {0};
    MJ_AUTO_BUF dict = {0};
    size_t at = 0;
    for (size_t i = 0; i < all->count; i++) {
        samples_add(i % 10 == 9 ? &rest : &train, mj_span(all->bytes.ptr + at, all->sizes[i]));
        at += all->sizes[i];
    }
    if (tell)
        fprintf(stderr, "\rtraining from %zu events, %.1f MB \033[K", train.count,
                (double)train.bytes.len / 1e6);
    mj_buf_reserve(&dict, (size_t)c->size);
    size_t n = ZDICT_trainFromBuffer(dict.ptr, (size_t)c->size, train.bytes.ptr, train.sizes,
                                     (unsigned)train.count);
    if (tell)
        fprintf(stderr, "\r\033[K");
    int err = 0;
    const char *why = "";
    uint32_t id = (uint32_t)c->id;
    if (!ZDICT_isError(n)) {
        dict.len = n;
        /* libzstd derives an id from the content; ours stands in the same four bytes, which
         * nothing else in the file depends on. */
        for (unsigned i = 0; i < 4; i++)
            dict.ptr[4 + i] = (uint8_t)(id >> (8 * i));
        err = mj_dictionary_check(mj_buf_span(&dict), &id, &why);
    } else {
        mj_buf_printf(error,
                      "libzstd cannot make a dictionary of %lld bytes from these %zu events (%zu "
                      "bytes): %s; give it more events, or a smaller --size",
                      (long long)c->size, train.count, train.bytes.len, ZDICT_getErrorName(n));
        err = MJ_EINVAL;
    }
    if (!err && !mj__dictionary_write(c->out, mj_buf_span(&dict))) {
        mj_buf_printf(error, "%s: %s", c->out, strerror(errno));
        err = MJ_EIO;
    }
    if (!err) {
        mj__dictionary_print(c->out, mj_buf_span(&dict), id);
        judge(c, &rest, mj_buf_span(&dict));
    } else if (*why) {
        mj_buf_printf(error, "what was trained %s", why);
    }
    samples_deinit(&train);
    samples_deinit(&rest);
    return err;
}

/* An id for private use: the registry keeps those below 32,768 and those from 2^31 on. */
static uint32_t random_id(void)
{
    uint32_t r = 0;
    if (getrandom(&r, sizeof r, 0) != sizeof r)
        r = (uint32_t)mj_now_us();
    return 32768 + r % (0x80000000u - 32768);
}

static int usage(const char *what)
{
    fprintf(stderr, "moonjet dictionary train: %s (--help tells more)\n", what);
    return MJ_EXIT_USAGE;
}

static int train_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct train_cfg c = {0};
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, &c, &pos);
    if (r)
        return r;
    if (!c.out || !*c.out)
        return usage("where to? --out FILE");
    bool lines = c.jsonl && *c.jsonl;
    if (!lines && !(c.data && *c.data))
        return usage("from what? --data DIR, or --jsonl FILE");
    if (c.size < 1024 || c.size > MJ_DICTIONARY_BYTES)
        return usage("--size is 1K to 16M");
    if (c.id < 0 || c.id > UINT32_MAX || c.events < SAMPLES_MIN)
        return usage("--id is 1 to 4,294,967,295, and --events at least 100");
    if (c.id == MJ_DICTIONARY_JETSTREAM_ID)
        return usage("--id: that is the id of the dictionary that Jetstream's clients carry, and "
                     "they would take this one for it");
    if (!c.id)
        c.id = random_id();
    size_t budget = (size_t)c.size * SAMPLES_PER_SIZE;
    struct sampler s = {.budget = budget < SAMPLE_BYTES_MIN ? SAMPLE_BYTES_MIN : budget,
                        .every = 1,
                        .tell = isatty(STDERR_FILENO)};
    MJ_AUTO_BUF error = {0};
    int err = lines ? read_jsonl(&c, &s, &error) : read_journal(&c, &s, &error);
    if (s.tell)
        fprintf(stderr, "\r\033[K");
    if (!err && s.kept.count < SAMPLES_MIN) {
        mj_buf_printf(&error,
                      "only %zu events to train from; that takes at least %d, better tens "
                      "of thousands",
                      s.kept.count, SAMPLES_MIN);
        err = MJ_EINVAL;
    }
    if (!err)
        err = train(&c, &s.kept, s.tell, &error);
    samples_deinit(&s.kept);
    if (err)
        fprintf(stderr, "moonjet dictionary train: %s\n", mj_buf_cstr(&error));
    return err ? MJ_EXIT_FAILED : MJ_EXIT_OK;
}

#define AT(field) offsetof(struct train_cfg, field)

static const struct mj_option train_options[] = {
    {"data", MJ_OPT_STR, AT(data), "DIR",
     "train from the newest events of this router's journal; it may be running",
     .env = "JETSTREAM_DATA_DIR"},
    {"jsonl", MJ_OPT_STR, AT(jsonl), "FILE",
     "train from a file instead: one event per line; - = stdin"},
    {"out", MJ_OPT_STR, AT(out), "FILE", "where to write the dictionary"},
    {"size", MJ_OPT_SIZE, AT(size), "BYTES", "of the dictionary, at most", .def = "64K"},
    {"id", MJ_OPT_INT, AT(id), "N", "its id; a random one if absent"},
    {"events", MJ_OPT_INT, AT(events), "N", "look at so many events", .def = "100000"},
    {0}};

const struct mj_command mj__dictionary_train = {
    .name = "dictionary train",
    .usage = "",
    .summary = "Make a zstd dictionary from events, and say what it is worth.",
    .details = "The events are sampled evenly; nine of ten train, one of ten judges. Clients need\n"
               "the very same file, so Jetstream's clients cannot use what is trained here.",
    .options = train_options,
    .main = train_main,
};
