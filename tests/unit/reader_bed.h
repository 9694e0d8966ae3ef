/* A journal with durable readers, for their tests: events are posted, taken and settled at times
 * the test chooses. */
#pragma once

#include "cmocka_all.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/metrics.h"
#include "journal/reader.h"

#define SECOND INT64_C(1000000)

struct reader_bed {
    char dir[64]; /* "" for in memory */
    struct mj_journal_cfg cfg;
    struct mj_journal *j;
    struct mj_disk *disk;
    struct mj_readers *rs;
    struct mj_reader *a;
    struct mj_view view;
    struct mj_buf error, text;
    int64_t now, again;
    unsigned woken;
    unsigned posted;
};

static void bed_wake(void *ctx) { ((struct reader_bed *)ctx)->woken++; }

static void bed_get(struct reader_bed *b, const char *node, struct mj_reader **out)
{
    if (mj_reader_get(b->rs, "bot.lua", node, MJ_READER_EACH, out, &b->error))
        fail_msg("%s", mj_buf_cstr(&b->error));
}

static void bed_open(struct reader_bed *b)
{
    b->error.len = 0;
    if (*b->dir) {
        MJ_AUTO_BUF path = {0};
        mj_buf_printf(&path, "%s/journal", b->dir);
        b->cfg.dir = mj_buf_cstr(&path);
        if (mj_journal_open(&b->cfg, &b->j, &b->error))
            fail_msg("%s", mj_buf_cstr(&b->error));
        path.len = 0;
        mj_buf_printf(&path, "%s/state", b->dir);
        if (mj_disk_open(mj_buf_cstr(&path), &b->disk, &b->error))
            fail_msg("%s", mj_buf_cstr(&b->error));
    } else {
        b->j = mj_journal_in_memory(64 << 20);
    }
    b->rs = mj_readers_new(&(struct mj_readers_cfg){.journal = b->j, .disk = b->disk});
    bed_get(b, "each#1", &b->a);
    mj_view_init(&b->view, b->j);
}

static void bed_close(struct reader_bed *b)
{
    mj_view_deinit(&b->view);
    mj_readers_free(b->rs);
    mj_disk_close(b->disk);
    b->disk = NULL;
    mj_journal_close(b->j);
}

static inline struct reader_bed *bed_new(bool on_disk)
{
    struct reader_bed *b = mj_calloc(1, sizeof *b);
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    b->now = mj_now_us();
    if (on_disk) {
        strcpy(b->dir, "/tmp/moonjet-reader-XXXXXX");
        assert_non_null(mkdtemp(b->dir));
    }
    b->cfg = (struct mj_journal_cfg){.sync_us = INT64_C(3600000000),
                                     .segment_bytes = 64 << 10,
                                     .plain_bytes = 1,
                                     .no_seal = true};
    bed_open(b);
    return b;
}

static inline void bed_free(struct reader_bed *b)
{
    char command[128];
    bed_close(b);
    snprintf(command, sizeof command, "rm -r '%s'", b->dir);
    if (*b->dir)
        assert_int_equal(system(command), 0);
    mj_buf_deinit(&b->error);
    mj_buf_deinit(&b->text);
    free(b);
}

static inline void bed_own(struct reader_bed *b, struct mj_owner_cfg cfg)
{
    cfg.wake = bed_wake;
    cfg.ctx = b;
    mj_reader_own(b->a, &cfg);
}

/* Appends an event of that account, in the streams, and a note for each reader; not published. */
static void bed_append(struct reader_bed *b, const char *did, uint64_t streams,
                       struct mj_reader *const *readers, size_t n)
{
    b->text.len = 0;
    struct mj_append e = {.time_us = mj_journal_next_time(b->j),
                          .did_hash = mj_hash(mj_str(did)),
                          .streams = streams,
                          .collection = mj_collection_id(MJ_SPAN("app.bsky.feed.post")),
                          .kind = MJ_KIND_COMMIT,
                          .op = MJ_OP_CREATE};
    mj_buf_printf(
        &b->text,
        "{\"did\":\"%s\",\"time_us\":%lld,\"kind\":\"commit\",\"commit\":{\"rev\":\"r%u\","
        "\"operation\":\"create\",\"collection\":\"app.bsky.feed.post\",\"rkey\":\"k%u\","
        "\"record\":{\"text\":\"event %u\"}}}",
        did, (long long)e.time_us, b->posted, b->posted, b->posted);
    assert_int_equal(mj_journal_append(b->j, &e, mj_buf_span(&b->text)), 0);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(mj_reader_note(readers[i], &e, (unsigned)i + 1, 1000 + b->posted), 0);
    b->posted++;
}

static void bed_publish(struct reader_bed *b)
{
    mj_readers_publish(b->rs);
    assert_int_equal(mj_journal_publish(b->j, -1, 0), 0);
    mj_readers_published(b->rs);
    mj_view_refresh(&b->view);
}

static inline void bed_post(struct reader_bed *b, const char *did)
{
    bed_append(b, did, 1, &b->a, 1);
    bed_publish(b);
}

static inline struct mj_parcel *bed_take(struct reader_bed *b)
{
    struct mj_parcel *p;
    do
        p = mj_reader_take(b->a, b, &b->view, b->now, &b->again);
    while (!p && b->again == 0);
    return p;
}

/* The parcel's events by number: "3 4". */
static inline const char *bed_numbers(const struct mj_parcel *p)
{
    static char out[256];
    size_t at = 0;
    *out = 0;
    for (size_t i = 0; p && i < p->n; i++) {
        unsigned n;
        MJ_AUTO_BUF json = {0};
        mj_buf_put(&json, p->items[i].json.ptr, p->items[i].json.len);
        const char *text = strstr(mj_buf_cstr(&json), "\"event ");
        assert_non_null(text);
        assert_int_equal(sscanf(text, "\"event %u", &n), 1);
        at += (size_t)snprintf(out + at, sizeof out - at, at ? " %u" : "%u", n);
    }
    return out;
}

#define assert_takes(b, p, text)                                                                   \
    do {                                                                                           \
        (p) = bed_take(b);                                                                         \
        assert_string_equal(bed_numbers(p), text);                                                 \
    } while (0)

static inline void bed_fail(struct reader_bed *b, struct mj_parcel *p, int what)
{
    struct mj_failure f = {.status = 503, .reason = "the endpoint answered 503"};
    f.what = what;
    mj_parcel_fail(p, b->now, &f);
}
