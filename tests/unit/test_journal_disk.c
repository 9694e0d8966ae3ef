/* The journal on disk: what was published is there after the process is gone, whatever it was
 * doing; seq, time_us and cursors only grow; tails are cut at whole batches; sealed segments read
 * like plain ones; damage is told, never served. */
#include "cmocka_all.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "journal/blocks.h"
#include "journal/inspect.h"
#include "journal/internal.h"

struct bed {
    char dir[64];
    struct mj_journal_cfg cfg;
    struct mj_journal *j;
    struct mj_buf error;
    int failed;
};

static void on_failed(void *ctx) { ((struct bed *)ctx)->failed++; }

static int setup(void **state)
{
    struct bed *b = mj_calloc(1, sizeof *b);
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    strcpy(b->dir, "/tmp/moonjet-journal-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    b->cfg = (struct mj_journal_cfg){.dir = b->dir,
                                     .sync_us = INT64_C(3600000000),
                                     .segment_bytes = 64 << 10,
                                     .plain_bytes = 1,
                                     .no_seal = true,
                                     .failed = on_failed,
                                     .ctx = b};
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bed *b = *state;
    mj_journal_close(b->j);
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", b->dir);
    assert_int_equal(system(command), 0);
    mj_buf_deinit(&b->error);
    free(b);
    return 0;
}

static void open_bed(struct bed *b)
{
    b->error.len = 0;
    if (mj_journal_open(&b->cfg, &b->j, &b->error))
        fail_msg("%s", mj_buf_cstr(&b->error));
}

static void close_bed(struct bed *b)
{
    mj_journal_close(b->j);
    b->j = NULL;
}

/* Drops the journal as a dead process does: nothing more is written. */
static void kill_bed(struct bed *b)
{
    mj__keeper_stop(b->j);
    atomic_store(&b->j->failed, true);
    close_bed(b);
}

/* The n-th event: 20 to 620 bytes that tell its number. */
static size_t text_of(char out[700], uint64_t n)
{
    size_t len = 20 + n * 7919 % 600;
    memset(out, (int)('A' + n % 26), len);
    int w = snprintf(out, 21, "%020llu", (unsigned long long)n);
    out[w] = (char)('A' + n % 26);
    return len;
}

static void append(struct bed *b, uint64_t n)
{
    char json[700], did[32], collection[32];
    snprintf(did, sizeof did, "did:plc:%d", (int)(n % 50));
    snprintf(collection, sizeof collection, "com.example.c%d", (int)(n % 7));
    struct mj_append a = {.time_us = mj_journal_next_time(b->j),
                          .did_hash = mj_hash(mj_str(did)),
                          .streams = 1,
                          .collection = mj_collection_id(mj_str(collection)),
                          .kind = MJ_KIND_COMMIT,
                          .op = MJ_OP_CREATE};
    assert_int_equal(mj_journal_append(b->j, &a, mj_span(json, text_of(json, n))), 0);
}

/* Events from..to in batches of `batch`, of source 0 at upstream seq 10 * n. */
static void fill(struct bed *b, uint64_t from, uint64_t to, uint64_t batch)
{
    for (uint64_t n = from; n <= to; n++) {
        append(b, n);
        if (n % batch == 0 || n == to)
            assert_int_equal(mj_journal_publish(b->j, 0, (int64_t)(10 * n)), 0);
    }
}

/* Reads everything; the events must be first..last in order, times rising. Returns the seq of the
 * last one. */
static uint64_t check(struct bed *b, uint64_t first, uint64_t last)
{
    struct mj_view v;
    mj_view_init(&v, b->j);
    uint64_t n = first, seq = v.floor, before = 0;
    int64_t time_us = 0;
    struct mj_run r;
    while (mj_view_run(&v, seq, &r)) {
        assert_true(r.seq >= seq && r.count > 0);
        assert_int_equal(mj_view_load(&v, &r), 0);
        for (size_t i = 0; i < r.count; i++, n++) {
            char want[700], name[32];
            size_t len = text_of(want, n);
            struct mj_span json = mj_run_json(&r, i);
            assert_int_equal(json.len, len);
            assert_memory_equal(json.ptr, want, len);
            assert_true(mj_run_time(&r, i) > time_us);
            time_us = mj_run_time(&r, i);
            assert_int_equal(mj_view_find(&v, time_us), r.seq + i);
            snprintf(name, sizeof name, "com.example.c%d", (int)(n % 7));
            assert_true(
                mj_span_is(mj_journal_collection_name(b->j, r.entries[i].collection), name));
            before = r.seq + i;
        }
        seq = r.seq + r.count;
    }
    assert_int_equal(n, last + 1);
    assert_true(seq == v.end || v.end > seq); /* seqs may have been jumped over */
    assert_int_equal(mj_view_newest(&v), time_us);
    mj_view_deinit(&v);
    return before;
}

static char *path_of(struct bed *b, uint64_t first_seq, enum mj_file file)
{
    static char path[160];
    char name[48];
    mj__file_name(name, first_seq, file);
    snprintf(path, sizeof path, "%s/%s", b->dir, name);
    return path;
}

static size_t size_of(const char *path)
{
    struct stat st;
    return stat(path, &st) ? 0 : (size_t)st.st_size;
}

static void restarts(void **state)
{
    struct bed *b = *state;
    open_bed(b);
    assert_int_equal(mj_journal_source(b->j, "wss://a.example"), 0);
    assert_int_equal(mj_journal_source(b->j, "wss://b.example"), 1);
    assert_int_equal(mj_journal_cursor(b->j, 0), -1);
    assert_int_equal(mj_journal_stream(b->j, MJ_SPAN("lua")), 1);
    fill(b, 1, 1000, 7);
    append(b, 1001); /* never published */
    check(b, 1, 1000);
    close_bed(b);
    open_bed(b);
    assert_int_equal(mj_journal_source(b->j, "wss://b.example"), 1);
    assert_int_equal(mj_journal_source(b->j, "wss://c.example"), 2);
    assert_int_equal(mj_journal_cursor(b->j, 0), 10000);
    assert_int_equal(mj_journal_cursor(b->j, 1), -1);
    assert_int_equal(mj_journal_stream(b->j, MJ_SPAN("new")), 2);
    assert_int_equal(mj_journal_stream(b->j, MJ_SPAN("lua")), 1);
    check(b, 1, 1000);
    fill(b, 1001, 2000, 13);
    assert_int_equal(check(b, 1, 2000), 2000); /* closed in order: no seq is jumped over */
    struct mj_journal_window w;
    mj_journal_window(b->j, &w);
    assert_true(w.segments > 5 && w.on_disk);
    assert_int_equal(w.floor, 1);
    assert_int_equal(w.end, 2001);
}

static void survives_death(void **state)
{
    struct bed *b = *state;
    uint64_t n = 0, last = 0;
    for (int round = 0; round < 10; round++) {
        open_bed(b);
        mj_journal_source(b->j, "wss://a.example");
        assert_int_equal(mj_journal_cursor(b->j, 0), n ? (int64_t)(10 * n) : -1);
        if (n)
            assert_int_equal(check(b, 1, n), last);
        fill(b, n + 1, n + 300, 11);
        n += 300;
        uint64_t now = check(b, 1, n);
        assert_true(now >= last + 300); /* a seq is never given out twice */
        last = now;
        for (int i = 0; i < round; i++)
            append(b, n + 1 + (uint64_t)i); /* staged, never published */
        kill_bed(b);
    }
}

/* What a machine that loses power may leave: later writes there, earlier ones not; sizes grown over
 * zeros; half a mark. Whatever it is, what is left is a prefix of what was, batch by batch. */
static void cuts_torn_tails(void **state)
{
    struct bed *b = *state;
    b->cfg.segment_bytes = 1 << 20;
    for (int kind = 0; kind < 7; kind++) {
        open_bed(b);
        mj_journal_source(b->j, "wss://a.example");
        fill(b, 1, 100, 10);
        assert_int_equal(mj_journal_sync(b->j), 0);
        fill(b, 101, 200, 10);
        kill_bed(b);
        char data[160], index[160], marks[160];
        strcpy(data, path_of(b, 1, MJ_FILE_DATA));
        strcpy(index, path_of(b, 1, MJ_FILE_INDEX));
        strcpy(marks, path_of(b, 1, MJ_FILE_MARKS));
        size_t marks_size = size_of(marks);
        assert_int_equal(marks_size, MJ_MARKS_AT + 20 * sizeof(struct mj_mark));
        int fd, kept = 200;
        static const char zeros[4096];
        switch (kind) {
        case 0: /* half a mark */
            assert_int_equal(truncate(marks, (off_t)marks_size - 20), 0);
            kept = 190;
            break;
        case 1: /* the last three marks are zeros */
            fd = open(marks, O_WRONLY);
            assert_int_equal(pwrite(fd, zeros, 192, (off_t)marks_size - 192), 192);
            close(fd);
            kept = 170;
            break;
        case 2: /* a hole in the marks */
            fd = open(marks, O_WRONLY);
            assert_int_equal(pwrite(fd, zeros, 64, (off_t)marks_size - 5 * 64), 64);
            close(fd);
            kept = 150;
            break;
        case 3: { /* bytes of batch 15 never arrived */
            struct mj_mark m;
            fd = open(marks, O_RDONLY);
            assert_int_equal(pread(fd, &m, sizeof m, MJ_MARKS_AT + 14 * (off_t)sizeof m), sizeof m);
            close(fd);
            fd = open(data, O_WRONLY);
            assert_int_equal(pwrite(fd, zeros, 100, (off_t)m.end - 150), 100);
            close(fd);
            kept = 140;
            break;
        }
        case 4: /* an entry of batch 12 never arrived */
            fd = open(index, O_WRONLY);
            assert_int_equal(pwrite(fd, zeros, 24, 115 * 24), 24);
            close(fd);
            kept = 110;
            break;
        case 5: /* marks grew over zeros */
            fd = open(marks, O_WRONLY | O_APPEND);
            assert_int_equal(write(fd, zeros, 1000), 1000);
            close(fd);
            break;
        case 6: /* names of collections that the index uses are gone */
            break;
        }
        open_bed(b);
        assert_int_equal(mj_journal_source(b->j, "wss://a.example"), 0);
        assert_int_equal(mj_journal_cursor(b->j, 0), 10 * kept);
        check(b, 1, (uint64_t)kept);
        fill(b, (uint64_t)kept + 1, 300, 10);
        assert_true(check(b, 1, 300) > 300); /* not the seqs that were lost */
        close_bed(b);
        char command[128];
        snprintf(command, sizeof command, "rm -r '%s'/*", b->dir);
        assert_int_equal(system(command), 0);
    }
}

/* A batch that is larger than a segment, cut off in its middle: none of it counts. */
static void batches_over_segments(void **state)
{
    struct bed *b = *state;
    open_bed(b);
    mj_journal_source(b->j, "wss://a.example");
    fill(b, 1, 50, 10);
    for (int whole = 0; whole < 2; whole++) {
        size_t room = b->cfg.segment_bytes + MJ_SLACK_BYTES, used = 0;
        uint64_t n = 51;
        while (used < 2 * room) { /* batches are kept together as long as mappings have room */
            struct mj_append a = {.time_us = mj_journal_next_time(b->j), .streams = 1};
            size_t len = 8 << 20;
            char *json = mj_calloc(1, len);
            memset(json, 'x', len);
            assert_int_equal(mj_journal_append(b->j, &a, mj_span(json, len)), 0);
            free(json);
            used += len;
            n++;
        }
        struct mj_journal_window w;
        mj_journal_window(b->j, &w);
        assert_true(w.segments >= 2);
        assert_int_equal(w.end, whole ? w.end : 51);
        if (whole)
            assert_int_equal(mj_journal_publish(b->j, 0, 999), 0);
        kill_bed(b);
        open_bed(b);
        mj_journal_window(b->j, &w);
        if (!whole) {
            check(b, 1, 50);
            assert_int_equal(mj_journal_cursor(b->j, 0), 500);
            assert_int_equal(w.segments, 1);
        } else {
            assert_int_equal(mj_journal_cursor(b->j, 0), 999);
            struct mj_view v;
            mj_view_init(&v, b->j);
            struct mj_run r;
            size_t events = 0;
            for (uint64_t seq = v.floor; mj_view_run(&v, seq, &r); seq = r.seq + r.count)
                events += r.count;
            assert_int_equal(events, 50 + (n - 51));
            mj_view_deinit(&v);
        }
    }
}

static void seals(void **state)
{
    struct bed *b = *state;
    b->cfg.segment_bytes = 600 << 10;
    open_bed(b);
    mj_journal_source(b->j, "wss://a.example");
    struct mj_view v;
    mj_view_init(&v, b->j);
    fill(b, 1, 9000, 17);
    mj_view_refresh(&v);
    struct mj_run before;
    assert_true(mj_view_run(&v, 100, &before) && before.data);
    assert_int_equal(mj_journal_seal(b->j, 0), 0);
    struct mj_journal_window w;
    mj_journal_window(b->j, &w);
    assert_int_equal(w.sealed_segments, w.segments - 1);
    assert_true(w.sealed_segments >= 3);
    assert_int_equal(size_of(path_of(b, 1, MJ_FILE_DATA)), 0);
    /* A view holds what it saw until it looks again. */
    assert_int_equal(mj_run_json(&before, 0).ptr[19], '0');
    assert_false(mj_view_refresh(&v));
    assert_true(mj_view_run(&v, 100, &before));
    assert_null(before.data);
    assert_non_null(before.summary);
    check(b, 1, 9000);
    /* Every summary holds what its block holds. */
    struct mj_run r;
    for (uint64_t seq = 1; mj_view_run(&v, seq, &r) && r.summary; seq = r.seq + r.count)
        for (size_t i = 0; i < r.count; i++) {
            const struct mj_entry *e = &r.entries[i];
            assert_true(r.summary->collections[e->collection % 256 / 64] >> e->collection % 64 & 1);
            assert_true(r.summary->streams & 1);
            assert_true(r.summary->kinds >> e->kind & 1 && r.summary->ops >> e->op & 1);
            uint32_t bits[3] = {e->did % 4096, (e->did >> 12) % 4096, (e->did >> 20) % 4096};
            for (int k = 0; k < 3; k++)
                assert_true(r.summary->dids[bits[k] / 64] >> bits[k] % 64 & 1);
        }
    mj_view_deinit(&v);
    kill_bed(b);
    open_bed(b);
    check(b, 1, 9000);
    assert_int_equal(mj_journal_cursor(b->j, 0), 90000);
    fill(b, 9001, 9100, 10);
    check(b, 1, 9100);
    /* All of it sealed, nothing active: cursors come from the foot. */
    close_bed(b);
    open_bed(b);
    assert_int_equal(mj_journal_seal(b->j, 0), 0);
    mj_journal_window(b->j, &w);
    assert_int_equal(w.sealed_segments, w.segments);
    close_bed(b);
    open_bed(b);
    assert_int_equal(mj_journal_cursor(b->j, 0), 91000);
    check(b, 1, 9100);
    fill(b, 9101, 9200, 10);
    assert_int_equal(check(b, 1, 9200) >= 9200, 1);
}

/* A sealed segment asks for the names that it uses, not for what the writer has just learned and a
 * death takes away again. */
static void seals_beside_new_names(void **state)
{
    struct bed *b = *state;
    open_bed(b);
    mj_journal_source(b->j, "wss://a.example");
    fill(b, 1, 500, 17);
    struct mj_append a = {.time_us = mj_journal_next_time(b->j),
                          .streams = 1,
                          .collection = mj_collection_id(MJ_SPAN("com.example.staged")),
                          .kind = MJ_KIND_COMMIT,
                          .op = MJ_OP_CREATE};
    assert_int_equal(mj_journal_append(b->j, &a, MJ_SPAN("{}")), 0);
    assert_int_equal(mj_journal_seal(b->j, 0), 0);
    assert_non_null(b->j->segments[0]->sealed);
    kill_bed(b);
    open_bed(b);
    check(b, 1, 500);
}

static void flip(const char *path, off_t at)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x55;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* A damaged block is told when it is asked for; its neighbours are served. */
static void damage_in_a_block(void **state)
{
    struct bed *b = *state;
    b->cfg.segment_bytes = 1 << 20;
    open_bed(b);
    fill(b, 1, 6000, 17);
    assert_int_equal(mj_journal_seal(b->j, 0), 0);
    struct mj_segment *s = b->j->segments[0];
    assert_true(s->row_count > 4);
    off_t at[] = {(off_t)s->rows[1].at + 20, (const uint8_t *)&s->rows[2] - s->sealed + 4, -1};
    uint32_t entry = s->rows[3].first + 5;
    close_bed(b);
    flip(path_of(b, 1, MJ_FILE_SEALED), at[0]);
    flip(path_of(b, 1, MJ_FILE_SEALED), at[1]);
    flip(path_of(b, 1, MJ_FILE_INDEX), (off_t)entry * 24 + 7);
    open_bed(b);
    struct mj_view v;
    mj_view_init(&v, b->j);
    struct mj_run r;
    int good = 0, bad = 0;
    for (uint64_t seq = v.floor; mj_view_run(&v, seq, &r); seq = r.seq + r.count)
        mj_view_load(&v, &r) ? bad++ : good++;
    assert_true(good >= 4);
    assert_in_range(bad, 3, 4); /* an entry's end belongs to two blocks at most */
    mj_view_deinit(&v);
}

/* A directory that cannot be trusted is not opened, and the message says which file. */
static void damage_is_refused(void **state)
{
    struct bed *b = *state;
    b->cfg.segment_bytes = 600 << 10;
    open_bed(b);
    fill(b, 1, 3000, 17);
    assert_int_equal(mj_journal_seal(b->j, 0), 0);
    assert_int_equal(mj_journal_sync(b->j), 0);
    uint64_t active = b->j->active->first_seq;
    fill(b, 3001, 3010, 5);
    close_bed(b);
    struct {
        enum mj_file file;
        uint64_t seq;
        off_t at;
    } cases[] = {{MJ_FILE_SEALED, 1, (off_t)size_of(path_of(b, 1, MJ_FILE_SEALED)) - 100},
                 {MJ_FILE_MARKS, active, 20},
                 {MJ_FILE_MARKS, active, MJ_MARKS_AT + 64 + 5},
                 {MJ_FILE_INDEX, active, 7}};
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        char path[160];
        strcpy(path, path_of(b, cases[i].seq, cases[i].file));
        flip(path, cases[i].at);
        b->error.len = 0;
        int err = mj_journal_open(&b->cfg, &b->j, &b->error);
        if (i ==
            2) { /* a mark between good ones that promise more: nothing to mend, nothing lost */
            assert_int_equal(err, 0);
            close_bed(b);
        } else {
            assert_true(err < 0);
            assert_non_null(strstr(mj_buf_cstr(&b->error), path));
        }
        flip(path, cases[i].at);
    }
    open_bed(b);
    check(b, 1, 3010);
}

/* Without the names that its entries use a journal is not opened, and nothing of it is cut. */
static void damaged_names(void **state)
{
    struct bed *b = *state;
    char path[160];
    snprintf(path, sizeof path, "%s/collections", b->dir);
    for (int sealed = 0; sealed < 2; sealed++) {
        open_bed(b);
        fill(b, 1, 500, 17);
        assert_int_equal(mj_journal_sync(b->j), 0);
        fill(b, 501, 600, 17);
        if (sealed)
            assert_int_equal(mj_journal_seal(b->j, 0), 0);
        close_bed(b);
        size_t size = size_of(path);
        int fd = open(path, O_WRONLY);
        assert_int_equal(pwrite(fd, "\x01", 1, 20), 1);
        close(fd);
        b->error.len = 0;
        assert_true(mj_journal_open(&b->cfg, &b->j, &b->error) < 0);
        assert_non_null(strstr(mj_buf_cstr(&b->error), "collections"));
        assert_int_equal(size_of(path), size);
        fd = open(path, O_WRONLY);
        assert_int_equal(pwrite(fd, "x", 1, 20), 1);
        close(fd);
        open_bed(b);
        check(b, 1, 600);
        close_bed(b);
        char command[128];
        snprintf(command, sizeof command, "rm -r '%s'/*", b->dir);
        assert_int_equal(system(command), 0);
    }
}

static void retention(void **state)
{
    struct bed *b = *state;
    b->cfg.retain_bytes = 1 << 20;
    b->cfg.sync_us = 1000;
    open_bed(b);
    mj_journal_source(b->j, "wss://a.example");
    fill(b, 1, 20000, 17); /* 6.4 MB */
    struct mj_journal_window w;
    for (int i = 0; i < 1000; i++) {
        mj_journal_window(b->j, &w);
        if (w.plain_bytes + w.index_bytes <= 1 << 20)
            break;
        usleep(10000);
    }
    assert_in_range(w.plain_bytes + w.index_bytes, 512 << 10, 1 << 20);
    assert_true(w.floor > 1);
    check(b, w.floor, 20000);
    assert_int_equal(access(path_of(b, 1, MJ_FILE_DATA), F_OK), -1);
    kill_bed(b);
    open_bed(b);
    assert_int_equal(mj_journal_cursor(b->j, 0), 200000);
    mj_journal_window(b->j, &w);
    check(b, w.floor, 20000);
    /* By age: everything is old at once; all but the newest segment goes. */
    close_bed(b);
    b->cfg.retain_us = 1;
    open_bed(b);
    for (int i = 0; i < 1000 && w.segments > 1; i++) {
        usleep(10000);
        mj_journal_window(b->j, &w);
    }
    assert_int_equal(w.segments, 1);
    check(b, 20001 - (w.end - w.floor), 20000);
    close_bed(b);
}

/* However many segments were begun since the last sync, all of them are on the disk after one. */
static void syncs_all_segments(void **state)
{
    struct bed *b = *state;
    b->cfg.segment_bytes = 32 << 10;
    open_bed(b);
    fill(b, 1, 10000, 17);
    assert_true(b->j->count > 64);
    for (int turn = 0; turn < 2; turn++) {
        assert_int_equal(mj_journal_sync(b->j), 0);
        for (size_t i = 0; i < b->j->count; i++)
            assert_true(!b->j->segments[i]->dirty || b->j->segments[i] == b->j->active);
        kill_bed(b);
        open_bed(b);
        for (size_t i = 0; i < b->j->count; i++) /* found unsynced, synced since */
            assert_false(b->j->segments[i]->dirty);
    }
    check(b, 1, 10000);
}

/* Retention keeps what a power loss would need to go on: the newest entries, times and cursors that
 * are on the disk. */
static void retention_keeps_the_cursors(void **state)
{
    struct bed *b = *state;
    b->cfg.segment_bytes = 32 << 10;
    b->cfg.retain_bytes = 128 << 10;
    open_bed(b);
    mj_journal_source(b->j, "wss://a.example");
    fill(b, 1, 10000, 17);
    struct mj_journal_window w;
    for (int i = 0; i < 1000; i++) {
        mj_journal_window(b->j, &w);
        if (w.segments <= 5)
            break;
        usleep(10000);
    }
    assert_in_range(w.segments, 1, 5);
    assert_true(w.durable > w.floor);
    close_bed(b);
    /* A long time later all of it is too old, and nothing new comes before the next death. */
    b->cfg.retain_us = 1;
    open_bed(b);
    int64_t time_us = mj_journal_next_time(b->j) - 1;
    for (int i = 0; i < 1000; i++) {
        mj_journal_window(b->j, &w);
        if (w.segments <= 1)
            break;
        usleep(10000);
    }
    kill_bed(b);
    open_bed(b);
    assert_int_equal(mj_journal_cursor(b->j, 0), 100000);
    assert_true(b->j->last_time > 0 && mj_journal_next_time(b->j) > time_us);
    fill(b, 10001, 10010, 5);
    for (int i = 0; i < 1000; i++) {
        mj_journal_window(b->j, &w);
        if (w.segments == 1)
            break;
        usleep(10000);
    }
    assert_int_equal(w.segments, 1);
    check(b, 10001, 10010);
}

/* The clock steps back a day between two runs. */
static void time_only_grows(void **state)
{
    struct bed *b = *state;
    open_bed(b);
    struct mj_append a = {.time_us = mj_now_us() + INT64_C(86400000000), .streams = 1};
    assert_int_equal(mj_journal_append(b->j, &a, MJ_SPAN("{}")), 0);
    assert_int_equal(mj_journal_publish(b->j, -1, 0), 0);
    close_bed(b);
    open_bed(b);
    assert_int_equal(mj_journal_next_time(b->j), a.time_us + 1);
    /* After another boot, unsynced events may have had later times. */
    kill_bed(b);
    struct mj_reserve r;
    char path[160];
    snprintf(path, sizeof path, "%s/reserve", b->dir);
    int fd = open(path, O_RDWR);
    assert_int_equal(read(fd, &r, sizeof r), sizeof r);
    strcpy(r.boot, "another boot");
    r.hash = XXH3_64bits(&r, offsetof(struct mj_reserve, hash));
    assert_int_equal(pwrite(fd, &r, sizeof r, 0), sizeof r);
    close(fd);
    open_bed(b);
    assert_true(mj_journal_next_time(b->j) > a.time_us + b->cfg.sync_us);
    kill_bed(b); /* before its first event; the next start is of the same boot */
    open_bed(b);
    assert_true(mj_journal_next_time(b->j) > a.time_us + b->cfg.sync_us);
    close_bed(b);
    open_bed(b);
    assert_true(mj_journal_next_time(b->j) > a.time_us + b->cfg.sync_us);
    /* Far apart: one segment's clock reaches 71 minutes. */
    int64_t t = mj_journal_next_time(b->j);
    for (int i = 0; i < 5; i++) {
        struct mj_append far = {.time_us = t + i * INT64_C(5000000000), .streams = 1};
        assert_int_equal(mj_journal_append(b->j, &far, MJ_SPAN("{}")), 0);
    }
    assert_int_equal(mj_journal_publish(b->j, -1, 0), 0);
    struct mj_view v;
    mj_view_init(&v, b->j);
    assert_int_equal(mj_view_newest(&v), t + 4 * INT64_C(5000000000));
    assert_int_equal(mj_view_time(&v, mj_view_find(&v, t + 1)), t + INT64_C(5000000000));
    mj_view_deinit(&v);
}

/* A full disk: the writer stops, says so once, and nothing of the batch is visible. */
static void full_disk(void **state)
{
    struct bed *b = *state;
    open_bed(b);
    mj_journal_source(b->j, "wss://a.example");
    fill(b, 1, 100, 10);
    /* /dev/full takes the place of the active segment's bytes. */
    int fd = open("/dev/full", O_RDWR), old = dup(b->j->active->fd[MJ_FILE_DATA]);
    dup2(fd, b->j->active->fd[MJ_FILE_DATA]);
    for (uint64_t n = 101; n <= 110; n++)
        append(b, n);
    assert_int_equal(mj_journal_publish(b->j, 0, 1100), MJ_EIO);
    assert_int_equal(b->failed, 1);
    check(b, 1, 100);
    struct mj_append a = {.time_us = mj_journal_next_time(b->j), .streams = 1};
    assert_int_equal(mj_journal_append(b->j, &a, MJ_SPAN("{}")), MJ_EIO);
    assert_int_equal(mj_journal_publish(b->j, 0, 1100), MJ_EIO);
    assert_int_equal(b->failed, 1);
    dup2(old, b->j->active->fd[MJ_FILE_DATA]);
    close(old);
    close(fd);
    close_bed(b);
    open_bed(b);
    assert_int_equal(mj_journal_cursor(b->j, 0), 1000);
    check(b, 1, 100);
    fill(b, 101, 200, 10);
    check(b, 1, 200);
}

/* A source that moves on without events of its own takes its cursor along. */
static void idle_sources(void **state)
{
    struct bed *b = *state;
    open_bed(b);
    mj_journal_source(b->j, "wss://a.example");
    mj_journal_source(b->j, "wss://b.example");
    fill(b, 1, 10, 10);
    assert_int_equal(mj_journal_publish(b->j, 1, 77), 0);
    assert_int_equal(mj_journal_publish(b->j, 1, 78), 0);
    assert_int_equal(mj_journal_publish(b->j, 0, 4711), 0);
    close_bed(b);
    open_bed(b);
    assert_int_equal(mj_journal_cursor(b->j, 0), 4711);
    assert_int_equal(mj_journal_cursor(b->j, 1), 78);
    check(b, 1, 10);
}

/* … also when nothing was ever kept: a script may want very little. */
static void progress_without_events(void **state)
{
    struct bed *b = *state;
    open_bed(b);
    mj_journal_source(b->j, "wss://a.example");
    mj_journal_source(b->j, "wss://b.example");
    assert_int_equal(mj_journal_publish(b->j, 1, 4711), 0);
    close_bed(b);
    open_bed(b);
    assert_int_equal(mj_journal_cursor(b->j, 0), -1);
    assert_int_equal(mj_journal_cursor(b->j, 1), 4711);
    /* What is not closed in order says nothing of the sort: only what is there counts. */
    fill(b, 1, 10, 10);
    kill_bed(b);
    open_bed(b);
    assert_int_equal(mj_journal_cursor(b->j, 0), 100);
    assert_int_equal(mj_journal_cursor(b->j, 1), 4711);
}

/* Beside a writer in another process. */
static void read_only(void **state)
{
    struct bed *b = *state;
    b->cfg.segment_bytes = 600 << 10;
    open_bed(b);
    fill(b, 1, 5000, 17);
    assert_int_equal(mj_journal_seal(b->j, 0), 0);
    append(b, 5001);
    struct bed other = *b;
    other.cfg.read_only = true;
    open_bed(&other);
    check(&other, 1, 5000);
    struct mj_append a = {.time_us = mj_journal_next_time(other.j), .streams = 1};
    assert_int_equal(mj_journal_append(other.j, &a, MJ_SPAN("{}")), MJ_EINVAL);
    close_bed(&other);
    assert_int_equal(mj_journal_publish(b->j, -1, 0), 0);
    check(b, 1, 5001);
}

/* Descriptors do not grow with the number of segments found, neither for a look nor to go on. */
static void few_descriptors(void **state)
{
    struct bed *b = *state;
    b->cfg.segment_bytes = 32 << 10;
    open_bed(b);
    fill(b, 1, 10000, 17);
    assert_int_equal(mj_journal_sync(b->j), 0);
    assert_true(b->j->count > 64);
    fill(b, 10001, 10100, 17);
    kill_bed(b);
    struct rlimit before, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = 64;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    size_t count;
    int err = mj_inspect_open(b->dir, &b->j, &b->error, &count);
    for (size_t i = 0; !err && i < mj_inspect_count(b->j); i++)
        count += mj_verify_segment(b->j, i, &b->error, NULL, NULL);
    if (!err)
        close_bed(b);
    int again = mj_journal_open(&b->cfg, &b->j, &b->error);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    if (err || count || again)
        fail_msg("%s", mj_buf_cstr(&b->error));
    check(b, 1, 10100);
}

/* Whoever is late with a lower ceiling does not take back a higher one. */
static void reserve_only_grows(void **state)
{
    struct bed *b = *state;
    open_bed(b);
    assert_int_equal(mj__reserve(b->j, 5 * MJ_RESERVE, 0, false), 0);
    assert_int_equal(mj__reserve(b->j, 3 * MJ_RESERVE, 0, false), 0);
    assert_int_equal(atomic_load(&b->j->ceiling), 5 * MJ_RESERVE);
    struct mj_reserve r;
    assert_true(mj__reserve_read(b->j->dir, &r));
    assert_int_equal(r.ceiling, 5 * MJ_RESERVE);
    close_bed(b); /* in order: that one says where it ends */
    open_bed(b);
    assert_int_equal(b->j->next_seq, 1);
}

/* What cannot be written is no journal, and nothing of the attempt stays. */
static void refuses_what_it_cannot_write(void **state)
{
    struct bed *b = *state;
    char path[160];
    snprintf(path, sizeof path, "%s/reserve", b->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(mj_journal_open(&b->cfg, &b->j, &b->error), MJ_EIO);
    assert_non_null(strstr(mj_buf_cstr(&b->error), b->dir));
    assert_int_equal(b->failed, 1);
    assert_int_equal(rmdir(path), 0);
    open_bed(b);
}

/* Marks whose hashes hold, but that give the first batch the bytes of the second one. */
static void hostile_marks(void **state)
{
    struct bed *b = *state;
    open_bed(b);
    fill(b, 1, 100, 50);
    struct mj_segment *s = b->j->active;
    struct mj_mark m[2];
    int fd = open(path_of(b, 1, MJ_FILE_MARKS), O_RDWR);
    assert_int_equal(pread(fd, m, sizeof m, MJ_MARKS_AT), sizeof m);
    assert_true(m[1].end - m[0].end > 8192);
    m[0].end = m[1].end;
    m[0].batch = mj__batch_hash(s->entries, m[0].count, mj_span(s->data, m[0].end));
    m[1].batch = mj__batch_hash(s->entries + m[0].count, m[1].count - m[0].count, MJ_SPAN(""));
    for (int i = 0; i < 2; i++)
        m[i].hash = mj__mark_hash(&m[i], 1);
    assert_int_equal(pwrite(fd, m, sizeof m, MJ_MARKS_AT), sizeof m);
    close(fd);
    close_bed(b);
    size_t count;
    assert_int_equal(mj_inspect_open(b->dir, &b->j, &b->error, &count), 0);
    assert_int_equal(count, 0);
    assert_int_equal(mj_inspect_count(b->j), 1);
    assert_true(mj_verify_segment(b->j, 0, &b->error, NULL, NULL) > 0);
}

/* Times at the end of all time, hashes right: refused before anybody adds to them. */
static void hostile_times(void **state)
{
    struct bed *b = *state;
    open_bed(b);
    fill(b, 1, 300, 50);
    assert_int_equal(mj_journal_seal(b->j, 0), 0);
    assert_non_null(b->j->segments[0]->sealed);
    uint64_t active = b->j->active->first_seq;
    close_bed(b);
    struct mj_marks_head head;
    int fd = open(path_of(b, active, MJ_FILE_MARKS), O_RDWR);
    assert_int_equal(pread(fd, &head, sizeof head, 0), sizeof head);
    head.base_us = INT64_MAX - 5;
    head.hash = XXH3_64bits(&head, offsetof(struct mj_marks_head, hash));
    assert_int_equal(pwrite(fd, &head, sizeof head, 0), sizeof head);
    close(fd);
    struct mj_foot foot;
    fd = open(path_of(b, 1, MJ_FILE_SEALED), O_RDWR);
    off_t at = lseek(fd, -(off_t)sizeof foot, SEEK_END);
    assert_int_equal(pread(fd, &foot, sizeof foot, at), sizeof foot);
    foot.base_us = foot.last_us = INT64_MAX - 5;
    foot.hash = XXH3_64bits(&foot, offsetof(struct mj_foot, hash));
    assert_int_equal(pwrite(fd, &foot, sizeof foot, at), sizeof foot);
    close(fd);
    size_t count;
    assert_int_equal(mj_inspect_open(b->dir, &b->j, &b->error, &count), 0);
    assert_int_equal(count, 1);
    assert_int_equal(mj_inspect_count(b->j), 0);
}

/* A directory without a journal is not called a sound one. */
static void inspects_journals_only(void **state)
{
    struct bed *b = *state;
    size_t count;
    assert_int_equal(mj_inspect_open(b->dir, &b->j, &b->error, &count), MJ_ENOENT);
    assert_int_equal(count, 1);
    assert_non_null(strstr(mj_buf_cstr(&b->error), b->dir));
    b->error.len = 0;
    open_bed(b);
    close_bed(b);
    assert_int_equal(mj_inspect_open(b->dir, &b->j, &b->error, &count), 0); /* a new one */
    assert_int_equal(count, 0);
    assert_int_equal(mj_inspect_count(b->j), 0);
}

/* One writer, a keeper that seals and drops, readers that check all they see. */
struct reader {
    struct mj_journal *j;
    _Atomic bool done;
    uint64_t seen, skipped;
    bool bad;
};

static void *read_all(void *arg)
{
    struct reader *s = arg;
    struct mj_view v;
    mj_view_init(&v, s->j);
    uint64_t pos = 1;
    char want[700];
    for (;;) {
        bool last = atomic_load(&s->done);
        mj_view_refresh(&v);
        if (pos < v.floor) {
            s->skipped += v.floor - pos;
            pos = v.floor;
        }
        struct mj_run r;
        for (int turn = 0; turn < 4 && mj_view_run(&v, pos, &r); turn++) {
            s->bad |= r.seq != pos || mj_view_load(&v, &r) != 0;
            for (size_t i = 0; i < r.count && !s->bad; i++, pos++, s->seen++) {
                size_t len = text_of(want, pos);
                struct mj_span json = mj_run_json(&r, i);
                s->bad |= json.len != len || memcmp(json.ptr, want, len) != 0;
            }
        }
        if (s->bad || (last && pos == v.end))
            break;
    }
    mj_view_deinit(&v);
    return NULL;
}

static void threads(void **state)
{
    struct bed *b = *state;
    b->cfg.segment_bytes = 1 << 20;
    b->cfg.retain_bytes = 5 << 20;
    b->cfg.sync_us = 1000;
    b->cfg.no_seal = false;
    open_bed(b);
    struct reader s[3];
    pthread_t id[3];
    for (int i = 0; i < 3; i++) {
        s[i] = (struct reader){.j = b->j};
        pthread_create(&id[i], NULL, read_all, &s[i]);
    }
    fill(b, 1, 60000, 37);
    for (int i = 0; i < 3; i++)
        atomic_store(&s[i].done, true);
    for (int i = 0; i < 3; i++) {
        pthread_join(id[i], NULL);
        assert_false(s[i].bad);
        assert_int_equal(s[i].seen + s[i].skipped, 60000);
        assert_true(s[i].seen > 0);
    }
    assert_int_equal(b->failed, 0);
}

/* Sealing on one thread beside retention on another: each segment stays whole or goes whole. */
static void *seal_on(void *arg)
{
    struct reader *s = arg;
    while (!atomic_load(&s->done))
        s->bad |= mj_journal_seal(s->j, 1) != 0;
    return NULL;
}

static void seals_beside_retention(void **state)
{
    struct bed *b = *state;
    b->cfg.segment_bytes = 32 << 10;
    b->cfg.retain_bytes = 128 << 10;
    b->cfg.sync_us = 1000;
    open_bed(b);
    struct reader s = {.j = b->j};
    pthread_t id;
    pthread_create(&id, NULL, seal_on, &s);
    fill(b, 1, 60000, 5);
    atomic_store(&s.done, true);
    pthread_join(id, NULL);
    assert_false(s.bad);
    assert_int_equal(b->failed, 0);
    kill_bed(b);
    open_bed(b);
    struct mj_journal_window w;
    mj_journal_window(b->j, &w);
    check(b, 60001 - (w.end - w.floor), 60000);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(restarts),
        TEST(survives_death),
        TEST(cuts_torn_tails),
        TEST(batches_over_segments),
        TEST(seals),
        TEST(seals_beside_new_names),
        TEST(damage_in_a_block),
        TEST(damage_is_refused),
        TEST(damaged_names),
        TEST(syncs_all_segments),
        TEST(retention),
        TEST(retention_keeps_the_cursors),
        TEST(time_only_grows),
        TEST(full_disk),
        TEST(idle_sources),
        TEST(progress_without_events),
        TEST(read_only),
        TEST(few_descriptors),
        TEST(reserve_only_grows),
        TEST(refuses_what_it_cannot_write),
        TEST(hostile_marks),
        TEST(hostile_times),
        TEST(inspects_journals_only),
        TEST(threads),
        TEST(seals_beside_retention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
