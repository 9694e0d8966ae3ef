/* A crowd: subscribers with random filters, codecs, cursors and streams come and go, read in odd
 * pieces or hardly at all through tiny buffers, and change their filters, while events are
 * published. Each must get exactly what a naive look at all events says: in order, once, the bytes
 * that its codec says. MOONJET_SEED=N repeats one run; the seeds are fixed otherwise. */
#include "cmocka_all.h"

#include <errno.h>
#include <ftw.h>
#include <poll.h>

#include "support/dictionary.h"
#include "support/jetserver.h"

#define DIDS        24
#define CLIENTS     40
#define EVENTS      6000
#define COLLECTIONS 8

static const char *const collections[COLLECTIONS] = {
    "app.bsky.feed.post",    "app.bsky.feed.like",      "app.bsky.feed.repost",
    "app.bsky.graph.follow", "app.bsky.graph.block",    "com.example.thing",
    "com.example.other",     "net.example.deep.er.name"};
static const char *const wanted_names[] = {
    "app.bsky.feed.post", "app.bsky.feed.*",    "app.bsky.graph.follow", "app.*",
    "com.example.thing",  "net.example.deep.*", "com.example.thing.*",   "com.nothing.here"};

struct event {
    uint8_t did, collection, kind, op, streams;
    uint32_t json_len, zstd_len;
    int64_t time_us;
};

struct filter {
    unsigned names, kinds, ops; /* bits, 0 for all */
    uint32_t dids;
    uint32_t max_size;
};

struct client {
    struct wsclient *ws; /* NULL: free */
    struct filter filter;
    bool zstd, info, has_cursor, greeted, changed;
    unsigned stream;
    size_t next;  /* event to look for the next match from */
    size_t loose; /* from here on, if not from next: it is not known what the server had looked at
                     when the filter changed; 0 for not */
    unsigned speed;
    uint64_t got;
};

static struct jetserver jet;
static struct event events[EVENTS + 1]; /* by number, from 1 */
static struct client clients[CLIENTS];
static ZSTD_CCtx *cctx;
static uint64_t rng;

static unsigned roll(unsigned n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (unsigned)((rng >> 20) % n);
}

static void did_text(unsigned i, char out[40])
{
    snprintf(out, 40, "did:plc:%024u", i * i * 7 + i);
}

static void add_event(void)
{
    MJ_AUTO_BUF json = {0};
    static char pad[70001];
    memset(pad, 'p', 100);
    uint64_t n = ++jet.n;
    struct event *e = &events[n];
    char did[40];
    *e = (struct event){.did = (uint8_t)roll(DIDS),
                        .kind = (uint8_t)(roll(8) ? 0 : 1 + roll(2)),
                        .streams = (uint8_t)(1 + roll(3)),
                        .time_us = mj_journal_next_time(jet.journal)};
    did_text(e->did, did);
    struct mj_append a = {.time_us = e->time_us,
                          .did_hash = mj_hash(mj_str(did)),
                          .streams = e->streams,
                          .kind = e->kind};
    if (e->kind == MJ_KIND_COMMIT) {
        e->op = (uint8_t)(MJ_OP_CREATE + roll(3));
        e->collection = (uint8_t)roll(COLLECTIONS);
        a.op = e->op;
        a.collection = mj_collection_id(mj_str(collections[e->collection]));
        size_t size = roll(400) ? roll(600) : roll(2) ? 70000 : 4000;
        for (size_t i = 0; i < size; i++)
            pad[i] = (char)('a' + roll(20));
        mj_buf_printf(
            &json,
            "{\"did\":\"%s\",\"time_us\":%lld,\"kind\":\"commit\",\"commit\":{\"rev\":\"r\","
            "\"operation\":\"%s\",\"collection\":\"%s\",\"rkey\":\"r%llu\",\"record\":{"
            "\"text\":\"%.*s\"}}}",
            did, (long long)e->time_us, mj_op_name((enum mj_op)e->op), collections[e->collection],
            (unsigned long long)n, (int)size, pad);
    } else {
        mj_buf_printf(&json,
                      "{\"did\":\"%s\",\"time_us\":%lld,\"kind\":\"%s\",\"%s\":{\"did\":\"%s\","
                      "\"seq\":%llu}}",
                      did, (long long)e->time_us, mj_kind_name((enum mj_kind)e->kind),
                      mj_kind_name((enum mj_kind)e->kind), did, (unsigned long long)n);
    }
    e->json_len = (uint32_t)json.len;
    static uint8_t packed[100000];
    size_t packed_len = ZSTD_compress2(cctx, packed, sizeof packed, json.ptr, json.len);
    assert_false(ZSTD_isError(packed_len));
    e->zstd_len = (uint32_t)packed_len;
    assert_int_equal(mj_journal_append(jet.journal, &a, mj_buf_span(&json)), 0);
}

/* ---- the naive look ---- */

static bool wants_name(const struct filter *f, const char *name)
{
    for (unsigned i = 0; i < MJ_COUNT(wanted_names); i++) {
        const char *w = wanted_names[i];
        size_t len = strlen(w);
        if (!(f->names >> i & 1))
            continue;
        if (w[len - 1] == '*' ? strncmp(name, w, len - 1) == 0 : strcmp(name, w) == 0)
            return true;
    }
    return false;
}

static bool wants(const struct client *c, const struct event *e)
{
    const struct filter *f = &c->filter;
    if (!(e->streams >> c->stream & 1) || (f->kinds && !(f->kinds >> e->kind & 1)) ||
        (f->dids && !(f->dids >> e->did & 1)) ||
        (f->max_size && (c->zstd ? e->zstd_len : e->json_len) > f->max_size))
        return false;
    return e->kind != MJ_KIND_COMMIT || ((!f->ops || f->ops >> e->op & 1) &&
                                         (!f->names || wants_name(f, collections[e->collection])));
}

static size_t next_wanted(const struct client *c, size_t from)
{
    while (from <= jet.n && !wants(c, &events[from]))
        from++;
    return from;
}

/* What it must get next at the latest. */
static size_t next_due(const struct client *c)
{
    return next_wanted(c, c->loose ? c->loose : c->next);
}

/* ---- clients ---- */

static void random_filter(struct filter *f)
{
    *f = (struct filter){0};
    if (roll(2))
        f->names = 1 + roll((1u << MJ_COUNT(wanted_names)) - 1);
    if (!roll(3))
        for (unsigned k = 1 + roll(4); k > 0; k--)
            f->dids |= 1u << roll(DIDS);
    if (!roll(5))
        f->kinds = 1 + roll(7);
    if (!roll(5))
        f->ops = (1 + roll(7)) << 1;
    if (!roll(5))
        f->max_size = 100 + roll(500);
}

static void put_query(const struct filter *f, struct mj_buf *out)
{
    char did[40];
    for (unsigned i = 0; i < MJ_COUNT(wanted_names); i++)
        if (f->names >> i & 1)
            mj_buf_printf(out, "&wantedCollections=%s", wanted_names[i]);
    for (unsigned i = DIDS; i-- > 0;)
        if (f->dids >> i & 1) {
            did_text(i, did);
            mj_buf_printf(out, "&wantedDids=%s", did);
        }
    for (unsigned i = 0; i < 3; i++)
        if (f->kinds >> i & 1)
            mj_buf_printf(out, "&kinds=%s", mj_kind_name((enum mj_kind)i));
    for (unsigned i = 1; i < 4; i++)
        if (f->ops >> i & 1)
            mj_buf_printf(out, "&operations=%s", mj_op_name((enum mj_op)i));
    if (f->max_size)
        mj_buf_printf(out, "&maxMessageSizeBytes=%u", f->max_size);
}

static void put_list(struct mj_buf *out, const char *name, unsigned bits, unsigned from, unsigned n,
                     const char *(*text)(unsigned, char[40]))
{
    char copy[40];
    bool first = true;
    mj_buf_printf(out, "\"%s\":[", name);
    for (unsigned i = from; i < n; i++)
        if (bits >> i & 1) {
            mj_buf_printf(out, "%s\"%s\"", first ? "" : ",", text(i, copy));
            first = false;
        }
    mj_buf_puts(out, "],");
}

static const char *name_text(unsigned i, char copy[40]) { return (void)copy, wanted_names[i]; }
static const char *kind_text(unsigned i, char copy[40])
{
    return (void)copy, mj_kind_name((enum mj_kind)i);
}
static const char *op_text(unsigned i, char copy[40])
{
    return (void)copy, mj_op_name((enum mj_op)i);
}
static const char *did_of(unsigned i, char copy[40]) { return did_text(i, copy), copy; }

static void join(struct client *c)
{
    MJ_AUTO_BUF target = {0};
    *c = (struct client){.zstd = roll(2), .info = roll(2), .stream = roll(2), .speed = roll(4)};
    random_filter(&c->filter);
    mj_buf_printf(&target, "%s/subscribe?x=y", c->stream ? "/stream/second" : "");
    put_query(&c->filter, &target);
    mj_buf_puts(&target, c->zstd ? "&compress=true" : "");
    mj_buf_puts(&target, c->info ? "&info=true" : "");
    c->next = jet.n + 1;
    switch (roll(4)) {
    case 0:
        c->has_cursor = true;
        c->next = 1;
        mj_buf_puts(&target, "&cursor=0");
        break;
    case 1:
        if (jet.n) {
            c->has_cursor = true;
            c->next = 1 + roll((unsigned)jet.n);
            mj_buf_printf(&target, "&cursor=%lld", (long long)events[c->next].time_us);
        }
        break;
    default:
        break;
    }
    tcp_rcvbuf = c->speed < 3 ? 8192 : 0;
    c->ws = jet_connect(&jet, mj_buf_cstr(&target));
}

static void fail_at(const struct client *c, size_t n)
{
    const struct filter *f = &c->filter;
    const struct event *e = &events[n];
    print_error("%s subscriber of stream %u, %s%s: names %x, DIDs %x, kinds %x, ops %x, size %u\n",
                c->zstd ? "zstd" : "text", c->stream, c->has_cursor ? "cursor" : "live",
                c->changed ? ", changed" : "", f->names, f->dids, f->kinds, f->ops, f->max_size);
    fail_msg("it has had %llu and waits for event %zu of %llu: %s by %u, op %u, %s, %u or %u bytes",
             (unsigned long long)c->got, n, (unsigned long long)jet.n,
             mj_kind_name((enum mj_kind)e->kind), e->did, e->op, collections[e->collection],
             e->json_len, e->zstd_len);
}

static void check_info(struct client *c, struct mj_span json)
{
    long long time_us = 0;
    assert_true(c->info);
    assert_true(mj_span_starts(json, MJ_SPAN("{\"time_us\":")));
    time_us = strtoll((const char *)json.ptr + 11, NULL, 10);
    assert_non_null(memmem(json.ptr, json.len, "{\"name\":\"caught_up\"}", 20));
    assert_true(c->has_cursor && !c->greeted);
    c->greeted = true;
    /* Everything up to there has been sent. */
    size_t next = next_due(c);
    assert_true(next > jet.n || events[next].time_us > time_us);
}

static void check_message(struct client *c, const struct mj_ws_msg *m)
{
    static struct mj_buf text;
    if (m->op == MJ_WS_PING || m->op == MJ_WS_PONG)
        return;
    if (m->op == MJ_WS_CLOSE)
        fail_msg("closed: %.*s", (int)m->payload.len - 2, (const char *)m->payload.ptr + 2);
    assert_int_equal(m->op, c->zstd ? MJ_WS_BINARY : MJ_WS_TEXT);
    text.len = 0;
    if (c->zstd)
        test_decode(m->payload, &text);
    else
        mj_buf_put(&text, m->payload.ptr, m->payload.len);
    mj_buf_cstr(&text);
    if (memmem(text.ptr, text.len, "\"kind\":\"info\"", 13)) {
        check_info(c, mj_buf_span(&text));
        return;
    }
    uint64_t n = jet_number(mj_buf_span(&text));
    if (c->loose && n >= c->next && n < c->loose && wants(c, &events[n]))
        c->next = n;
    else
        c->next = next_due(c);
    c->loose = 0;
    if (n != c->next) {
        print_error("got event %llu\n", (unsigned long long)n);
        fail_at(c, c->next);
    }
    assert_int_equal(text.len, events[n].json_len);
    if (c->zstd)
        assert_int_equal(m->payload.len, events[n].zstd_len);
    c->next++;
    c->got++;
}

/* Reads what is there, `most` bytes of it. True when there was something. */
static bool read_some(struct client *c, size_t most)
{
    struct mj_ws_msg m;
    int got;
    bool some = false;
    /* What came with the head is in the reader already. */
    for (;;) {
        while ((got = mj_ws_reader_next(&c->ws->reader, &m)) == 1) {
            check_message(c, &m);
            some = true;
        }
        assert_int_equal(got, 0);
        if (!most)
            return some;
        size_t want = most < sizeof c->ws->rx ? most : sizeof c->ws->rx;
        ssize_t n = recv(c->ws->fd, c->ws->rx, want, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return some;
        assert_true(n > 0);
        mj_ws_reader_feed(&c->ws->reader, c->ws->rx, (size_t)n);
        most -= (size_t)n;
        some = true;
    }
}

/* Until it has had all there is for it. */
static void drain(struct client *c)
{
    for (int idle = 0; next_due(c) <= jet.n;) {
        struct pollfd p = {.fd = c->ws->fd, .events = POLLIN};
        idle = poll(&p, 1, 1000) == 1 ? 0 : idle + 1;
        if (idle > 20)
            fail_at(c, next_due(c));
        read_some(c, 1 << 20);
    }
}

/* A new filter, from here on: nothing is under way when it is sent. */
static void change(struct client *c)
{
    MJ_AUTO_BUF b = {0};
    drain(c);
    random_filter(&c->filter);
    mj_buf_puts(&b, "{\"type\":\"options_update\",\"payload\":{");
    put_list(&b, "wantedCollections", c->filter.names, 0, MJ_COUNT(wanted_names), name_text);
    put_list(&b, "wantedDids", c->filter.dids, 0, DIDS, did_of);
    put_list(&b, "kinds", c->filter.kinds, 0, 3, kind_text);
    put_list(&b, "operations", c->filter.ops, 0, 4, op_text);
    mj_buf_printf(&b, "\"maxMessageSizeBytes\":%u}}", c->filter.max_size);
    ws_send(c->ws, MJ_WS_TEXT, b.ptr, b.len);
    c->loose = jet.n + 1;
    ws_send(c->ws, MJ_WS_PING, "p", 1);
    struct mj_ws_msg m;
    do {
        assert_true(ws_read(c->ws, &m));
        check_message(c, &m);
    } while (m.op != MJ_WS_PONG);
    c->changed = true;
}

static void leave(struct client *c)
{
    if (roll(2))
        drain(c);
    ws_free(c->ws);
    c->ws = NULL;
}

static void crowd(uint64_t seed)
{
    static const unsigned pieces[] = {37, 700, 9000, 1 << 20};
    rng = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    uint64_t live = 0;
    memset(clients, 0, sizeof clients);
    while (jet.n < EVENTS) {
        unsigned n = roll(4) ? roll(20) : roll(200);
        for (; n > 0 && jet.n < EVENTS; n--)
            add_event();
        jet_publish(&jet);
        for (unsigned i = roll(3); i > 0; i--) {
            struct client *c = &clients[roll(CLIENTS)];
            if (!c->ws)
                join(c);
            else if (!roll(4))
                leave(c);
            else if (!roll(4))
                change(c);
        }
        for (unsigned i = 0; i < CLIENTS; i++)
            if (clients[i].ws && roll(3))
                read_some(&clients[i], 1 + roll(pieces[clients[i].speed]));
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        if (clients[i].ws) {
            drain(&clients[i]);
            live += clients[i].got;
        }
    assert_true(live > EVENTS);
    /* And nothing more: the pong comes behind everything there was. */
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *c = &clients[i];
        struct mj_ws_msg m;
        if (!c->ws)
            continue;
        ws_send(c->ws, MJ_WS_PING, "p", 1);
        do {
            assert_true(ws_read(c->ws, &m));
            check_message(c, &m);
        } while (m.op != MJ_WS_PONG);
        assert_int_equal(c->greeted, c->info && c->has_cursor);
        ws_free(c->ws);
    }
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static void run(const struct mj_journal_cfg *journal)
{
    const char *one = getenv("MOONJET_SEED");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1;
    for (uint64_t seed = first; seed <= (one ? first : 3); seed++) {
        char dir[] = "/tmp/moonjet-crowd-XXXXXX";
        struct mj_journal_cfg cfg = *journal;
        MJ_AUTO_BUF error = {0};
        if (cfg.dir) {
            assert_non_null(mkdtemp(dir));
            cfg.dir = dir;
        }
        assert_int_equal(mj_journal_open(&cfg, &jet.journal, &error), 0);
        jet_start_on(&jet, (struct mj_server_cfg){.sndbuf = 4096, .dictionary = test_dictionary()});
        assert_int_equal(mj_streams_add(jet.streams, MJ_SPAN("second")), 1);
        print_message("seed %llu\n", (unsigned long long)seed);
        crowd(seed);
        struct mj_journal_window w;
        mj_journal_window(jet.journal, &w);
        assert_true(!cfg.dir || w.sealed_segments > 0);
        jet_stop(&jet);
        if (cfg.dir)
            nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    }
}

static void in_memory(void **state)
{
    (void)state;
    run(&(struct mj_journal_cfg){.memory = 64 << 20});
}

/* Small segments, sealed as soon as may be: those behind read compressed blocks. */
static void on_disk(void **state)
{
    (void)state;
    run(&(struct mj_journal_cfg){
        .dir = "", .segment_bytes = 256 << 10, .plain_bytes = 1, .sync_us = 50000});
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    struct mj_span dict = test_dictionary();
    cctx = ZSTD_createCCtx();
    ZSTD_CDict *cdict = ZSTD_createCDict(dict.ptr, dict.len, 1);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_checksumFlag, 1);
    ZSTD_CCtx_refCDict(cctx, cdict);
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_memory), cmocka_unit_test(on_disk)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    ZSTD_freeCCtx(cctx);
    ZSTD_freeCDict(cdict);
    return failed;
}
