/* Captures, the peek at a frame, and a capture served as a firehose. */
#include "cmocka_all.h"

#include <fcntl.h>
#include <unistd.h>
#include <zstd.h>

#include "atproto/cbor.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "source/capture.h"
#include "source/peek.h"
#include "source/replay.h"
#include "support/wsclient.h"

static char path[] = "/tmp/moonjet-capture-XXXXXX";

static void put_text(struct mj_buf *b, const char *s) { mj_cbor_put_text(b, mj_str(s)); }

/* A frame with `time` before or after what pads it; seq 0 = none. */
static void frame(struct mj_buf *b, int64_t seq, const char *time)
{
    mj_cbor_put_map(b, 2);
    put_text(b, "t");
    put_text(b, "#commit");
    put_text(b, "op");
    mj_cbor_put_int(b, 1);
    mj_cbor_put_map(b, seq ? 4 : 3);
    put_text(b, "ops");
    mj_cbor_put_array(b, 2); /* something to step over that looks like a seq */
    mj_cbor_put_map(b, 1);
    put_text(b, "seq");
    mj_cbor_put_int(b, 7);
    mj_cbor_put_link(b, mj_span("\x01\x71\x12\x20"
                                "0123456789abcdef0123456789abcdef",
                                36));
    if (seq) {
        put_text(b, "seq");
        mj_cbor_put_int(b, seq);
    }
    put_text(b, "time");
    put_text(b, time);
    put_text(b, "blocks");
    mj_cbor_put_bytes(b, MJ_SPAN("0123456789"));
}

static void write_file(struct mj_span bytes)
{
    int fd = open(path, O_WRONLY | O_TRUNC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes.ptr, bytes.len), bytes.len);
    close(fd);
}

/* Frames with these seqs, a tenth of a second apart. */
static void write_seqs(const int64_t *seqs, size_t n)
{
    MJ_AUTO_BUF file = {0};
    for (size_t i = 0; i < n; i++) {
        MJ_AUTO_BUF b = {0};
        char time[64];
        snprintf(time, sizeof time, "2026-07-04T14:38:0%zu.%zu00Z", i / 10, i % 10);
        frame(&b, seqs[i], time);
        mj_capture_put(&file, mj_buf_span(&b));
    }
    write_file(mj_buf_span(&file));
}

/* ---- captures ---- */

/* Reads the file whole; returns how it ended and counts frames and their bytes. */
static int read_all(int *frames, size_t *bytes)
{
    struct mj_capture *c;
    struct mj_span f;
    int got;
    *frames = 0;
    *bytes = 0;
    uint64_t done, all, before = 0;
    assert_int_equal(mj_capture_open(path, &c), 0);
    while ((got = mj_capture_next(c, &f)) > 0) {
        for (size_t i = 0; i < f.len; i++)
            assert_int_equal(f.ptr[i], (uint8_t)(*frames * 31));
        ++*frames;
        *bytes += f.len;
        mj_capture_progress(c, &done, &all);
        assert_true(done >= before && done > 0 && done <= all);
        before = done;
    }
    if (!got) {
        mj_capture_progress(c, &done, &all);
        assert_int_equal(done, all);
    }
    assert_int_equal(mj_capture_next(c, &f), 0); /* nothing more, ever */
    mj_capture_close(c);
    return got;
}

static void test_capture(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 5, 300000, 70000, 1, 0, 5000000};
    MJ_AUTO_BUF file = {0};
    size_t total = 0;
    for (size_t i = 0; i < MJ_COUNT(sizes); i++) {
        struct mj_buf f = {0};
        mj_buf_reserve(&f, sizes[i] + 1);
        memset(f.ptr, (int)(i * 31), sizes[i]);
        f.len = sizes[i];
        mj_capture_put(&file, mj_buf_span(&f));
        total += sizes[i];
        mj_buf_deinit(&f);
    }
    int frames;
    size_t bytes;
    write_file(mj_buf_span(&file));
    assert_int_equal(read_all(&frames, &bytes), 0);
    assert_int_equal(frames, MJ_COUNT(sizes));
    assert_int_equal(bytes, total);

    MJ_AUTO_BUF packed = {0};
    mj_buf_reserve(&packed, ZSTD_compressBound(file.len));
    packed.len = ZSTD_compress(packed.ptr, packed.cap, file.ptr, file.len, 1);
    write_file(mj_buf_span(&packed));
    assert_int_equal(read_all(&frames, &bytes), 0);
    assert_int_equal(bytes, total);
    write_file(mj_span(packed.ptr, packed.len / 2));
    assert_int_equal(read_all(&frames, &bytes), MJ_ETRUNC);
    packed.ptr[packed.len / 2] ^= 0xff;
    packed.ptr[4] ^= 0x08; /* a reserved bit of the header */
    write_file(mj_buf_span(&packed));
    assert_int_equal(read_all(&frames, &bytes), MJ_ESYNTAX);

    write_file(mj_span(file.ptr, file.len - 1));
    assert_int_equal(read_all(&frames, &bytes), MJ_ETRUNC);
    assert_int_equal(frames, MJ_COUNT(sizes) - 1);
    write_file(MJ_SPAN("\x01\x00\x00"));
    assert_int_equal(read_all(&frames, &bytes), MJ_ETRUNC);
    write_file(MJ_SPAN(""));
    assert_int_equal(read_all(&frames, &bytes), 0);
    assert_int_equal(frames, 0);
    write_file(MJ_SPAN("\x41\x4b\x4c\x00 one byte above the limit"));
    assert_int_equal(read_all(&frames, &bytes), MJ_EBIG);
    struct mj_capture *c;
    assert_int_equal(mj_capture_open("/nonexistent/file", &c), MJ_EIO);
}

/* ---- the peek ---- */

static void test_peek(void **state)
{
    (void)state;
    static const int64_t seqs[] = {1, 23, 24, 255, 256, 65536, INT64_C(1) << 32, INT64_C(1) << 53};
    struct mj_peek p;
    for (size_t i = 0; i < MJ_COUNT(seqs); i++) {
        MJ_AUTO_BUF b = {0}, number = {0};
        frame(&b, seqs[i], "then");
        mj_cbor_put_int(&number, seqs[i]);
        for (int time = 0; time < 2; time++) {
            assert_int_equal(mj_peek(mj_buf_span(&b), time, &p), 0);
            assert_int_equal(p.op, 1);
            assert_true(mj_span_is(p.t, "#commit"));
            assert_int_equal(p.seq, seqs[i]);
            assert_true(mj_span_eq(p.seq_at, mj_buf_span(&number)));
            assert_true(mj_span_is(p.time, time ? "then" : ""));
        }
        for (size_t n = 0; n < b.len; n++) /* cut anywhere: seen, if all of it is asked for */
            assert_int_equal(mj_peek(mj_span(b.ptr, n), true, &p), MJ_EFRAME);
        mj_buf_putc(&b, 0);
        assert_int_equal(mj_peek(mj_buf_span(&b), true, &p), MJ_EFRAME);
        assert_int_equal(mj_peek(mj_buf_span(&b), false, &p), 0);
    }
    MJ_AUTO_BUF none = {0};
    frame(&none, 0, "then");
    assert_int_equal(mj_peek(mj_buf_span(&none), false, &p), 0);
    assert_int_equal(p.seq, 0);
    assert_int_equal(p.seq_at.len, 0);
    static const char *const bad[] = {"\xa0",
                                      "\x01",
                                      "\xff",
                                      "\xa1\x62op\x01\xa1\x63seq\x61x",
                                      "\xa1\x62op\x01\xa1\x63seq\x20",
                                      "\xa1\x62op\x01\xa1\x01\x01",
                                      "\xa1\x62op\x01\xbf\xff",
                                      "\xa1\x01\x01\xa0"};
    for (size_t i = 0; i < MJ_COUNT(bad); i++)
        if (mj_peek(mj_str(bad[i]), false, &p) != MJ_EFRAME)
            fail_msg("bad frame %zu was accepted", i);
}

/* ---- replay ---- */

struct rig {
    struct mj_replay *replay;
    struct mj_relay *relay;
};

static void rig_open(struct rig *r, struct mj_replay_cfg cfg)
{
    cfg.path = path;
    assert_int_equal(mj_replay_open(&cfg, &r->replay), 0);
    struct mj_relay_feed feed = mj_replay_feed(r->replay);
    struct mj_relay_cfg relay = {.listen = "127.0.0.1:0", .feed = &feed};
    assert_int_equal(mj_relay_start(&relay, &r->relay), 0);
}

static void rig_close(struct rig *r)
{
    mj_relay_stop(r->relay);
    mj_replay_close(r->replay);
}

static struct wsclient *subscribe(struct rig *r, const char *query)
{
    char target[256];
    snprintf(target, sizeof target, "%s%s", MJ_RELAY_PATH, query);
    struct wsclient *c = ws_connect(mj_relay_port(r->relay), target);
    assert_int_equal(c->status, 101);
    return c;
}

static void expect_seq(struct wsclient *c, int64_t seq)
{
    struct mj_ws_msg m;
    struct mj_peek p;
    assert_true(ws_read(c, &m));
    assert_int_equal(mj_peek(m.payload, true, &p), 0);
    assert_int_equal(p.seq, seq);
}

static void expect_text(struct wsclient *c, const char *text)
{
    struct mj_ws_msg m;
    assert_true(ws_read(c, &m));
    assert_non_null(memmem(m.payload.ptr, m.payload.len, text, strlen(text)));
}

static void test_cursors(void **state)
{
    (void)state;
    static const int64_t seqs[] = {10, 11, 12, 20, 21};
    write_seqs(seqs, MJ_COUNT(seqs));
    struct rig r;
    rig_open(&r, (struct mj_replay_cfg){0});
    assert_int_equal(mj_replay_frames(r.replay), 5);
    static const struct {
        const char *query;
        size_t from;
    } cases[] = {{"", 0},           {"?cursor=0", 0},  {"?cursor=9", 0}, {"?cursor=10", 1},
                 {"?cursor=12", 3}, {"?cursor=15", 3}, {"?cursor=20", 4}};
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        struct wsclient *c = subscribe(&r, cases[i].query);
        for (size_t k = cases[i].from; k < MJ_COUNT(seqs); k++)
            expect_seq(c, seqs[k]);
        ws_send(c, MJ_WS_PING, "still here", 10); /* it stays connected after the last frame */
        expect_text(c, "still here");
        ws_free(c);
    }
    struct wsclient *c = subscribe(&r, "?cursor=8");
    expect_text(c, "OutdatedCursor");
    expect_seq(c, 10);
    ws_free(c);
    c = subscribe(&r, "?cursor=22");
    expect_text(c, "FutureCursor");
    ws_free(c);
    rig_close(&r);
}

static void test_loop_reencodes_seq(void **state)
{
    (void)state;
    /* Passes of 3: the integer grows from one byte to two, three and five on the way. */
    static const int64_t seqs[] = {22, 23, 0, 24};
    write_seqs(seqs, MJ_COUNT(seqs));
    struct rig r;
    rig_open(&r, (struct mj_replay_cfg){.loop = true});
    struct wsclient *c = subscribe(&r, "");
    for (int64_t pass = 0; pass < 30000; pass++)
        for (size_t i = 0; i < MJ_COUNT(seqs); i++)
            expect_seq(c, seqs[i] ? seqs[i] + 3 * pass : 0);
    struct wsclient *later = subscribe(&r, "?cursor=60000");
    expect_seq(later, 60001);
    ws_free(later);
    struct wsclient *ahead = subscribe(&r, "?cursor=9000000000000");
    expect_text(ahead, "FutureCursor");
    ws_free(ahead);
    ws_free(c);
    rig_close(&r);
}

/* The clock starts with the first client, and nobody is served ahead of it. */
static void test_paces(void **state)
{
    (void)state;
    int64_t seqs[21];
    for (size_t i = 0; i < MJ_COUNT(seqs); i++)
        seqs[i] = (int64_t)i + 1;
    write_seqs(seqs, MJ_COUNT(seqs));
    static const struct {
        struct mj_replay_cfg cfg;
        int64_t least_us; /* for 21 frames */
    } cases[] = {{{.rate = 100}, 200000}, {{.own_pace = true}, 2000000}};
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        struct rig r;
        rig_open(&r, cases[i].cfg);
        int64_t started = mj_mono_us();
        struct wsclient *c = subscribe(&r, "");
        for (size_t k = 0; k < MJ_COUNT(seqs); k++)
            expect_seq(c, seqs[k]);
        assert_true(mj_mono_us() - started >= cases[i].least_us);
        struct wsclient *again = subscribe(&r, "?cursor=18");
        expect_seq(again, 19);
        ws_free(again);
        ws_free(c);
        rig_close(&r);
    }
    struct rig r; /* resumed in a fresh server: the clock starts at the cursor */
    rig_open(&r, (struct mj_replay_cfg){.rate = 1});
    struct wsclient *c = subscribe(&r, "?cursor=20");
    expect_seq(c, 21);
    ws_free(c);
    rig_close(&r);
}

static void test_open_refused(void **state)
{
    (void)state;
    struct mj_replay *r;
    struct mj_replay_cfg cfg = {.path = path, .loop = true};
    write_file(MJ_SPAN(""));
    assert_int_equal(mj_replay_open(&cfg, &r), MJ_ENOENT);
    write_file(MJ_SPAN("\x01\x00\x00\x00\xff"));
    assert_int_equal(mj_replay_open(&cfg, &r), MJ_EINVAL); /* no seq to raise */
    cfg.loop = false;
    assert_int_equal(mj_replay_open(&cfg, &r), 0); /* damaged frames are served, too */
    assert_false(mj_replay_torn(r));
    mj_replay_close(r);
    write_file(MJ_SPAN("\x01\x00\x00\x00\xff\x02\x00\x00\x00\xff"));
    assert_int_equal(mj_replay_open(&cfg, &r), 0); /* what lies before the tear */
    assert_true(mj_replay_torn(r));
    assert_int_equal(mj_replay_frames(r), 1);
    mj_replay_close(r);
    write_file(MJ_SPAN("\x02\x00\x00\x00\xff")); /* nothing lies before it */
    assert_int_equal(mj_replay_open(&cfg, &r), MJ_ETRUNC);
    cfg.path = "/nonexistent/file";
    assert_int_equal(mj_replay_open(&cfg, &r), MJ_EIO);
}

int main(void)
{
    mj_log_setup(MJ_LOG_ERROR, false);
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_capture), cmocka_unit_test(test_peek),
        cmocka_unit_test(test_cursors), cmocka_unit_test(test_loop_reencodes_seq),
        cmocka_unit_test(test_paces),   cmocka_unit_test(test_open_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
