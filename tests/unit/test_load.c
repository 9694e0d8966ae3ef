/* The load tester: what it finds in what subscribers got, and that it finds it in a server that
 * misbehaves. */
#include "support/zdict.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>

#include "cli/cmd_load.c"
#include "cli/load_check.c"
#include "cli/load_run.c"
#include "cli/load_sub.c"

/* ---- what is checked ---- */

static enum mj__load_order see(struct mj__load_log *l, struct mj__load_place *p, int64_t from,
                               int64_t to)
{
    enum mj__load_order order = MJ__LOAD_RISING;
    for (int64_t t = from; t <= to && !order; t++)
        order = mj__load_note(l, p, t, (uint64_t)t % 10);
    return order;
}

static void test_order(void **state)
{
    (void)state;
    struct mj__load_log l = {0};
    struct mj__load_place p = {0};
    assert_int_equal(see(&l, &p, 100, 110), MJ__LOAD_RISING);
    assert_int_equal(see(&l, &p, 110, 110), MJ__LOAD_DUPLICATE);
    assert_int_equal(see(&l, &p, 105, 105), MJ__LOAD_DISORDER);
    assert_int_equal(see(&l, &p, 111, 120), MJ__LOAD_RISING);
    assert_int_equal(mj__load_settle(&l, &p), 0);
    mj__load_log_deinit(&l);
}

static void test_gaps(void **state)
{
    (void)state;
    struct mj__load_log l = {0};
    struct mj__load_place a = {0}, b = {0}, c = {0}, d = {0};
    see(&l, &a, 100, 200); /* leads, and later lacks 201 to 205 */
    see(&l, &b, 100, 149);
    see(&l, &b, 153, 160); /* lacks three */
    see(&l, &c, 150, 160); /* came later: not a gap */
    see(&l, &a, 206, 210);
    see(&l, &c, 161, 210); /* has what the leader lacks */
    see(&l, &d, 300, 310); /* came while the others were behind it */
    see(&l, &a, 211, 310);
    see(&l, &d, 311, 320);
    assert_int_equal(l.len, 221);
    assert_int_equal(mj__load_settle(&l, &a), 5);
    assert_int_equal(mj__load_settle(&l, &b), 3);
    assert_int_equal(mj__load_settle(&l, &c), 0);
    assert_int_equal(mj__load_settle(&l, &d), 0);
    /* Settled is settled; a fresh start counts from there. */
    see(&l, &b, 163, 170);
    assert_int_equal(mj__load_settle(&l, &b), 0);
    mj__load_log_deinit(&l);
}

static void test_trim(void **state)
{
    (void)state;
    struct mj__load_log l = {.want_packed = true, .want_dids = true};
    struct mj__load_place fast = {0}, slow = {0}, lossy = {0};
    see(&l, &fast, 1, 1000);
    see(&l, &slow, 1, 100);
    see(&l, &lossy, 1, 600);
    see(&l, &lossy, 602, 700);
    assert_int_equal(mj__load_settle(&l, &fast), 0);
    assert_int_equal(mj__load_settle(&l, &slow), 0);
    assert_int_equal(mj__load_settle(&l, &lossy), 1);
    mj__load_trim(&l);
    assert_int_equal(l.len, 500);
    assert_int_equal(l.base, 500);
    assert_int_equal(l.times[0], 501);
    assert_int_equal(l.dids[0], 1);
    see(&l, &slow, 101, 800); /* what was dropped cannot be compared */
    assert_int_equal(slow.received, 300);
    see(&l, &slow, 802, 1100);
    see(&l, &fast, 1001, 1100);
    see(&l, &lossy, 701, 1100);
    assert_int_equal(mj__load_settle(&l, &slow), 1);
    assert_int_equal(mj__load_settle(&l, &fast), 0);
    assert_int_equal(mj__load_settle(&l, &lossy), 0);
    assert_int_equal(l.len, 600);
    mj__load_log_deinit(&l);
}

/* A server that sends everybody something else must not make the tester slow. */
static void test_chaos(void **state)
{
    (void)state;
    struct mj__load_log l = {0};
    struct mj__load_place p = {0};
    see(&l, &p, 1, 1);
    for (int64_t i = 0; i < 3 * MJ__LOAD_INSERTS_MAX; i++) {
        p = (struct mj__load_place){0};
        mj__load_note(&l, &p, 1000000 - (i * 7919) % 500000, 0);
    }
    assert_true(l.inserts > MJ__LOAD_INSERTS_MAX);
    assert_true(l.inserts < MJ__LOAD_INSERTS_MAX + 10);
    mj__load_log_deinit(&l);
}

static void test_known(void **state)
{
    (void)state;
    struct mj__load_log l = {.want_packed = true};
    struct mj__load_place a = {0}, b = {0};
    for (int64_t t = 1; t <= 10; t++) {
        see(&l, &a, t, t);
        mj__load_remember(&l, &a, (uint64_t)t * 77);
    }
    assert_int_equal(mj__load_known(&l, &b, 77), 1);
    see(&l, &b, 1, 1);
    assert_int_equal(mj__load_known(&l, &b, 77), 0);
    assert_int_equal(mj__load_known(&l, &b, 2 * 77), 2);
    see(&l, &b, 2, 10);
    assert_int_equal(mj__load_known(&l, &b, 11 * 77), 0);
    assert_int_equal(mj__load_settle(&l, &b), 0);
    mj__load_log_deinit(&l);
}

static void test_compare(void **state)
{
    (void)state;
    struct mj__load_log whole = {.want_dids = true}, part = {0};
    struct mj__load_place w = {0}, p = {0};
    uint64_t dids[] = {3, 7};
    see(&whole, &w, 100, 200);
    for (int64_t t = 113; t <= 210; t++)
        if (t % 10 == 3 || t % 10 == 7)
            mj__load_note(&part, &p, t, 0);
    assert_int_equal(mj__load_compare(&whole, &part, dids, 2), 0);
    assert_int_equal(mj__load_compare(&whole, &part, dids, 1),
                     9); /* seen, but not wanted: the 7s */
    mj__load_log_deinit(&part);
    p = (struct mj__load_place){0};
    int64_t lacks[] = {103, 107, 117, 123}; /* not 113 */
    for (size_t i = 0; i < 4; i++)
        mj__load_note(&part, &p, lacks[i], 0);
    assert_int_equal(mj__load_compare(&whole, &part, dids, 2), 1);
    mj__load_log_deinit(&part);
    mj__load_log_deinit(&whole);
}

#define POST                                                                                       \
    "{\"did\":\"did:plc:a\",\"time_us\":1700000000000001,\"kind\":\"commit\",\"commit\":{\"rev\":" \
    "\"3l3qo2vuowo2b\",\"operation\":\"create\",\"collection\":\"app.bsky.feed.post\",\"rkey\":"   \
    "\"x\",\"record\":{\"text\":\"\\\",\\\"collection\\\":\\\"evil.a.b\\\"\"}}}"

static void expect_passes(const char *query, bool want)
{
    struct mj__load_filter f;
    mj__load_filter_init(&f, mj_str(query));
    struct mj__load_event e = mj__load_event(MJ_SPAN(POST));
    if (mj__load_passes(&f, mj_hash(e.did), MJ_SPAN(POST)) != want)
        fail_msg("%s", query);
    mj__load_filter_deinit(&f);
}

static void test_events(void **state)
{
    (void)state;
    struct mj__load_event e = mj__load_event(MJ_SPAN(POST));
    assert_true(mj_span_is(e.did, "did:plc:a"));
    assert_int_equal(e.time_us, 1700000000000001);
    assert_int_equal(mj__load_stamp(MJ_SPAN(POST)), mj_tid_time_us(MJ_SPAN("3l3qo2vuowo2b")));
    for (size_t n = 0; n < 50; n++) {
        if (n < strlen("{\"did\":\"did:plc:a\",\"time_us\":1700000000000001,"))
            assert_int_equal(mj__load_event(mj_span(POST, n)).time_us, 0);
        mj__load_stamp(mj_span(POST, n));
    }
    const char *no[] = {"",
                        "{}",
                        "{\"did\":\"a\",\"time_us\":}",
                        "{\"did\":\"a\",\"time_us\":12x",
                        "{\"time_us\":1,\"did\":\"a\"}",
                        "{\"did\":\"a\",\"time_us\":-1}",
                        "{\"did\":\"a\",\"time_us\":99999999999999999999}"};
    for (size_t i = 0; i < MJ_COUNT(no); i++)
        assert_int_equal(mj__load_event(mj_str(no[i])).time_us, 0);

    expect_passes("", true);
    expect_passes("wantedCollections=app.bsky.feed.post", true);
    expect_passes("wantedCollections=app.bsky.feed.like", false);
    expect_passes("wantedCollections=app.bsky.feed.like&wantedCollections=app.bsky.*", true);
    expect_passes("wantedCollections=app.bsky.feed.p.*", false);
    expect_passes("wantedCollections=evil.a.b", false);
    expect_passes("wantedDids=did:plc:b&wantedDids=did%3Aplc%3Aa", true);
    expect_passes("wantedDids=did:plc:b", false);
    expect_passes("wantedDids=did:plc:a&wantedCollections=x.y.z", false);
}

static void test_histogram(void **state)
{
    (void)state;
    static struct mj__load_histogram h;
    assert_int_equal(mj__load_percentile(&h, 0.5), 0);
    for (int64_t i = 1; i <= 100000; i++)
        mj__load_measure(&h, i);
    mj__load_measure(&h, -5); /* counts as nothing */
    assert_in_range(mj__load_percentile(&h, 0.5), 50000, 52000);
    assert_in_range(mj__load_percentile(&h, 0.99), 99000, 100000);
    assert_int_equal(mj__load_percentile(&h, 1), 100000);
    assert_int_equal(h.max, 100000);
    mj__load_measure(&h, INT64_MAX);
    assert_int_equal(mj__load_percentile(&h, 1), INT64_MAX);
    for (uint64_t v = 1; v < UINT64_C(1) << 62; v += v / 3 + 1)
        assert_true((uint64_t)ceiling(bucket(v)) >= v && ceiling(bucket(v) - 1) < (int64_t)v);
}

static void test_durations(void **state)
{
    (void)state;
    int64_t us;
    assert_true(parse_duration("500ms", &us) && us == 500000);
    assert_true(parse_duration("10", &us) && us == 10000000);
    assert_true(parse_duration("1.5m", &us) && us == 90000000);
    assert_true(parse_duration("0s", &us) && us == 0);
    const char *no[] = {"", "s", "5x", "-1s", "nan", "1e99h", "5 s"};
    for (size_t i = 0; i < MJ_COUNT(no); i++)
        assert_false(parse_duration(no[i], &us));
}

/* ---- servers that misbehave ---- */

struct liar;
struct call {
    struct liar *liar;
    int fd, number; /* 0, 1, 2 …: in the order of arrival */
    char request[4096];
};

/* A server in threads, one per connection. */
struct liar {
    int listen_fd, port;
    pthread_t thread, calls[1024];
    int count;
    void (*tell)(struct call *c);
};

static void tell_bytes(struct call *c, const void *p, size_t n) { send(c->fd, p, n, MSG_NOSIGNAL); }

static void tell_message(struct call *c, enum mj_ws_opcode op, struct mj_span m)
{
    uint8_t head[MJ_WS_HEAD_MAX];
    tell_bytes(c, head, mj_ws_head(head, op, m.len));
    tell_bytes(c, m.ptr, m.len);
}

static void put_event(struct mj_buf *b, int64_t t)
{
    b->len = 0;
    mj_buf_printf(b, "{\"did\":\"did:plc:%s\",\"time_us\":%lld,\"kind\":\"x\"}", t % 2 ? "a" : "b",
                  (long long)t);
}

static void tell(struct call *c, int64_t from, int64_t to)
{
    MJ_AUTO_BUF b = {0};
    for (int64_t t = from; t <= to; t++) {
        put_event(&b, t);
        tell_message(c, MJ_WS_TEXT, mj_buf_span(&b));
    }
}

static void *call_main(void *arg)
{
    struct call *c = arg;
    size_t n = 0;
    ssize_t got = 1;
    while (got > 0 && !memmem(c->request, n, "\r\n\r\n", 4)) {
        got = recv(c->fd, c->request + n, sizeof c->request - 1 - n, 0);
        n += got > 0 ? (size_t)got : 0;
    }
    if (got > 0)
        c->liar->tell(c);
    char rest[1024];
    while (recv(c->fd, rest, sizeof rest, 0) > 0)
        ;
    close(c->fd);
    free(c);
    return NULL;
}

static void *liar_main(void *arg)
{
    struct liar *l = arg;
    int fd, number = -1; /* the first connection only asks whether somebody is there */
    while ((fd = accept(l->listen_fd, NULL, NULL)) >= 0 && l->count < 1024) {
        struct call *c = mj_calloc(1, sizeof *c);
        *c = (struct call){.liar = l, .fd = fd, .number = number++};
        pthread_create(&l->calls[l->count++], NULL, call_main, c);
    }
    return NULL;
}

static void upgrade(struct call *c)
{
    struct mj_http_head h;
    char accept_key[29];
    MJ_AUTO_BUF b = {0};
    mj_http_parse_request(mj_str(c->request), &h);
    mj_ws_accept(mj_http_header(&h, "sec-websocket-key"), accept_key);
    mj_buf_printf(&b,
                  "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade"
                  "\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                  accept_key);
    tell_bytes(c, b.ptr, b.len);
}

/* Runs `moonjet load URL ARGS…` against it; the exit status, and stdout in *out. */
static int run_load(void (*how)(struct call *c), const char *args, struct mj_buf *out)
{
    struct liar l = {.tell = how};
    struct mj_hostport at = {"127.0.0.1", 0};
    l.listen_fd = mj_listen(&at, &l.port);
    assert_true(l.listen_fd >= 0);
    fcntl(l.listen_fd, F_SETFL, 0); /* blocking */
    pthread_create(&l.thread, NULL, liar_main, &l);

    char url[64], words[512], *argv[32] = {"load", url}, *save = NULL;
    int argc = 2;
    snprintf(url, sizeof url, "ws://127.0.0.1:%d", l.port);
    snprintf(words, sizeof words, "--json --ramp 0 --duration 20s %s", args);
    for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    char file[] = "/tmp/moonjet-load-XXXXXX";
    int fd = mkstemp(file), saved = dup(STDOUT_FILENO), errors = dup(STDERR_FILENO);
    int null = open("/dev/null", O_WRONLY);
    fflush(stdout);
    dup2(fd, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    int status = mj_cmd_load.main(&mj_cmd_load, argc, argv);
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    dup2(errors, STDERR_FILENO);
    lseek(fd, 0, SEEK_SET);
    out->len = 0;
    mj_buf_reserve(out, 1 << 16);
    ssize_t n = read(fd, out->ptr, (1 << 16) - 1);
    out->len = n > 0 ? (size_t)n : 0;
    close(fd);
    close(saved);
    close(errors);
    close(null);
    unlink(file);

    shutdown(l.listen_fd, SHUT_RDWR);
    pthread_join(l.thread, NULL);
    for (int i = 0; i < l.count; i++)
        pthread_join(l.calls[i], NULL);
    close(l.listen_fd);
    return status;
}

static void expect(void (*how)(struct call *c), const char *args, int status, const char *says)
{
    MJ_AUTO_BUF out = {0};
    int got = run_load(how, args, &out);
    if (got != status || !strstr(mj_buf_cstr(&out), says))
        fail_msg("%s: exit %d, wanted %d and '%s': %s", args, got, status, says, mj_buf_cstr(&out));
}

static void be_good(struct call *c)
{
    upgrade(c);
    tell(c, 101, 150);
}

static void be_lossy(struct call *c)
{
    upgrade(c);
    tell(c, 101, 110);
    tell(c, c->number == 2 ? 113 : 111, 150); /* the third one lacks two */
}

static void be_double(struct call *c)
{
    upgrade(c);
    tell(c, 101, 110);
    tell(c, 110, 150);
}

static void be_unordered(struct call *c)
{
    upgrade(c);
    tell(c, 101, 110);
    tell(c, 105, 105);
    tell(c, 111, 150);
}

static void be_rude(struct call *c)
{
    upgrade(c);
    tell(c, 101, 110);
    tell_message(c, MJ_WS_CLOSE, MJ_SPAN("\x03\xf0so \x1b[31mslow"));
}

static void be_full(struct call *c)
{
    static const char answer[] = "HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\ncome back";
    tell_bytes(c, answer, sizeof answer - 1);
}

static void be_silly(struct call *c)
{
    upgrade(c);
    tell_message(c, MJ_WS_TEXT, MJ_SPAN("{\"hello\":\"world\"}"));
    tell(c, 101, 150);
}

static void be_broken(struct call *c)
{
    upgrade(c);
    tell_bytes(c, "\xff\xff\xff\xff", 4);
}

static void test_liars(void **state)
{
    (void)state;
    expect(be_good, "--subscribers 5 --events 50", MJ_EXIT_OK,
           "\"passed\":true,\"interrupted\":false,\"connected\":5,");
    expect(be_good, "--subscribers 5 --events 50 --stall 2", MJ_EXIT_OK, "\"stalled_open\":2,");
    expect(be_lossy, "--subscribers 5 --events 45", MJ_EXIT_FAILED, "\"missing\":2,");
    expect(be_double, "--subscribers 3 --events 51", MJ_EXIT_FAILED, "\"duplicates\":3,");
    expect(be_unordered, "--subscribers 3 --events 51", MJ_EXIT_FAILED, "\"disorder\":3,");
    expect(be_rude, "--subscribers 4", MJ_EXIT_FAILED,
           "\"ends\":[{\"code\":1008,\"count\":4,\"why\":\"so ?[31mslow\"}]");
    expect(be_full, "--subscribers 4", MJ_EXIT_FAILED,
           "\"ends\":[{\"code\":503,\"count\":4,\"why\":\"come back\"}]");
    expect(be_silly, "--subscribers 2 --events 50", MJ_EXIT_FAILED, "\"malformed\":2,");
    expect(be_broken, "--subscribers 2", MJ_EXIT_FAILED, "\"malformed\":2,");
    expect(be_good, "--subscribers 2 --events 50 --did did:plc:a", MJ_EXIT_FAILED, "\"wrong\":50,");
}

/* What it asks for is kept to by this one: odd times are of did:plc:a, even ones of did:plc:b. */
static void be_filtered(struct call *c, bool lossy)
{
    bool a = strstr(c->request, "wantedDids=did:plc:a");
    bool b = strstr(c->request, "wantedDids=did:plc:b");
    upgrade(c);
    for (int64_t t = 101; t <= 150; t++)
        if ((!a && !b) || (t % 2 ? a : b))
            if (!(lossy && b && t == 130))
                tell(c, t, t);
}

static void be_exact(struct call *c) { be_filtered(c, false); }
static void be_inexact(struct call *c) { be_filtered(c, true); }

static void test_filters(void **state)
{
    (void)state;
    expect(be_exact, "--subscribers 4 --filters 2 --events 25", MJ_EXIT_OK, "\"filters\":2,");
    /* Both with that filter lack the same event: only the one without a filter can tell. */
    expect(be_inexact, "--subscribers 4 --filters 2 --events 24", MJ_EXIT_FAILED, "\"unlike\":1,");
    char file[] = "/tmp/moonjet-mix-XXXXXX", args[128];
    int fd = mkstemp(file);
    static const char mix[] = "# two of three\n2 wantedDids=did:plc:a\n1\n";
    assert_int_equal(write(fd, mix, sizeof mix - 1), sizeof mix - 1);
    close(fd);
    snprintf(args, sizeof args, "--subscribers 6 --events 25 --mix %s", file);
    expect(be_exact, args, MJ_EXIT_OK, "\"connected\":6,");
    unlink(file);
}

static struct mj_buf dict;

/* Compressed for some, and every subscriber's own way for the last one. */
static void be_compressing(struct call *c)
{
    bool zstd = strstr(c->request, "compress=true");
    upgrade(c);
    MJ_AUTO_BUF b = {0}, packed = {0};
    for (int64_t t = 101; t <= 150; t++) {
        put_event(&b, t);
        if (zstd)
            pack(&packed, mj_buf_span(&b), mj_buf_span(&dict), c->number % 3);
        tell_message(c, zstd ? MJ_WS_BINARY : MJ_WS_TEXT, mj_buf_span(zstd ? &packed : &b));
    }
}

static void test_zstd(void **state)
{
    (void)state;
    char file[] = "/tmp/moonjet-load-dict-XXXXXX", args[128];
    int fd = mkstemp(file);
    make_dictionary(&dict, 77);
    assert_int_equal(write(fd, dict.ptr, dict.len), dict.len);
    close(fd);
    snprintf(args, sizeof args, "--subscribers 8 --events 50 --zstd 75 --dictionary %s", file);
    expect(be_compressing, args, MJ_EXIT_OK, "\"malformed\":0,");
    make_dictionary(&dict, 78); /* not the one it was given */
    snprintf(args, sizeof args, "--subscribers 3 --zstd 100 --dictionary %s", file);
    expect(be_compressing, args, MJ_EXIT_FAILED,
           "\"count\":3,\"why\":\"cannot decode a compressed message (dictionary 78)\"");
    mj_buf_deinit(&dict);
    unlink(file);
}

/* Goes on where the cursor says, and repeats that event. */
static void resume_at(struct call *c, int64_t skip)
{
    const char *cursor = strstr(c->request, "cursor=");
    int64_t from = cursor ? strtoll(cursor + 7, NULL, 10) : 101;
    upgrade(c);
    if (cursor && skip)
        tell(c, from, from);
    /* As if live: a little every 5 ms, so that some leave while something comes. */
    for (int64_t t = from + (cursor ? skip : 0); t <= 100 + 400; t++) {
        tell(c, t, t);
        if (t % 4 == 0)
            poll(NULL, 0, 5);
    }
}

static void be_resuming(struct call *c) { resume_at(c, 0); }
static void be_skipping(struct call *c) { resume_at(c, 3); } /* two events lost at each seam */

static void test_churn(void **state)
{
    (void)state;
    const char *args = "--subscribers 4 --events 350 --churn 20";
    MJ_AUTO_BUF out = {0};
    assert_int_equal(run_load(be_resuming, args, &out), MJ_EXIT_OK);
    assert_null(strstr(mj_buf_cstr(&out), "\"churned\":0,"));
    assert_int_equal(run_load(be_skipping, args, &out), MJ_EXIT_FAILED);
    assert_null(strstr(mj_buf_cstr(&out), "\"missing\":0,"));
}

static void test_usage(void **state)
{
    (void)state;
    MJ_AUTO_BUF out = {0};
    const char *bad[] = {"--subscribers 0",           "--zstd 101",         "--ramp soon",
                         "--filters 3 --did did:a:b", "--cursor yesterday", "--churn -1"};
    for (size_t i = 0; i < MJ_COUNT(bad); i++)
        assert_int_equal(run_load(be_good, bad[i], &out), MJ_EXIT_USAGE);
    assert_int_equal(run_load(be_good, "--mix /nowhere/mix", &out), MJ_EXIT_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),     cmocka_unit_test(test_gaps),
        cmocka_unit_test(test_trim),      cmocka_unit_test(test_chaos),
        cmocka_unit_test(test_known),     cmocka_unit_test(test_compare),
        cmocka_unit_test(test_events),    cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_durations), cmocka_unit_test(test_liars),
        cmocka_unit_test(test_filters),   cmocka_unit_test(test_zstd),
        cmocka_unit_test(test_churn),     cmocka_unit_test(test_usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
