/* Catching up: 1, 100 and 1,000 subscribers that read a part of the journal from the same place,
 * beside a bare loop that sends the same bytes, from the same pages, in writes of the same size, to
 * as many sockets of the same readers; then one that wants a hundredth of all events.
 *
 * Subscribers connect with requireHello and a cursor, so that a round begins when all of them say
 * hello and holds no handshakes. What is compared is CPU: of all threads but this one, which only
 * waits, and of this one in the bare loop. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/ws.h"
#include "cli/bench_net.h"

#define EVENTS      1000000 /* in the journal */
#define EVENTS_MIN  20000
#define SEGMENT     (64u << 20)
#define WRITE_BYTES (64u << 10) /* the server's */
#define ROUND_BYTES                                                                                \
    (UINT64_C(1) << 30) /* twice as much for the most readers, whose hellos count                  \
                         */
#define ROUNDS        5
#define READERS_MAX   1000
#define DIDS          20000
#define ONE_IN        100 /* events that a filter wants */
#define WANTED_DIDS   (DIDS / ONE_IN)
#define USUAL         "app.bsky.feed.like"
#define RARE          "app.bsky.bench.rare"
#define HELLO_NOTHING "{\"type\":\"options_update\",\"payload\":{}}"
#define HELLO_RARE                                                                                 \
    "{\"type\":\"options_update\",\"payload\":{\"wantedCollections\":[\"" RARE "\"]}}"

enum { SUBSCRIBERS, BARE };

struct replay {
    struct mj_bench *b;
    struct mj_bench_bed bed;
    size_t events, rare, wanted;       /* in the journal; in the collection; of the accounts */
    uint64_t rare_bytes, wanted_bytes; /* their frames' */
    int fds[READERS_MAX];
};

/* Events of DIDS accounts. A hundredth of them is of the accounts that are wanted later, and a
 * hundredth in a collection of its own. */
static bool fill(struct replay *r)
{
    uint64_t x = 88172645463325252u;
    uint32_t rare = mj_collection_id(mj_str(RARE)), usual = mj_collection_id(mj_str(USUAL));
    struct mj_bench_events *e = &r->bed.events;
    for (size_t n = 0; n < r->events; n++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        struct mj_bench_event *it = &e->items[n % e->count], was = *it;
        uint32_t did = (uint32_t)(x >> 40) % DIDS;
        bool is_rare = (x >> 16) % ONE_IN == 0;
        /* Identity and account events pass all collection filters, and are few in life. */
        if (is_rare || it->kind != MJ_KIND_COMMIT) {
            it->kind = MJ_KIND_COMMIT;
            it->op = MJ_OP_CREATE;
            it->collection = is_rare ? rare : usual;
        }
        bool is_wanted = mj_bench_event_did(e, n, did) && did < WANTED_DIDS;
        size_t len = mj_bench_event_append(r->bed.journal, e, n, 1);
        it->kind = was.kind;
        it->op = was.op;
        it->collection = was.collection;
        uint8_t head[MJ_WS_HEAD_MAX];
        size_t frame = mj_ws_head(head, MJ_WS_TEXT, len) + len;
        r->rare_bytes += is_rare ? frame : 0;
        r->wanted_bytes += is_wanted ? frame : 0;
        r->rare += is_rare;
        r->wanted += is_wanted;
        if (!len || (n % 1000 == 999 && mj_journal_publish(r->bed.journal, -1, 0)))
            return false;
    }
    return !mj_journal_publish(r->bed.journal, -1, 0);
}

/* The bytes of the newest entries, at most so many; from where they are. */
static uint64_t part(struct mj_view *v, uint64_t limit, uint64_t *from)
{
    struct mj_run run;
    uint64_t bytes = 0, total = 0;
    for (uint64_t seq = v->floor; mj_view_run(v, seq, &run); seq = run.seq + run.count)
        total += run.entries[run.count - 1].end - run.start;
    *from = v->floor;
    for (uint64_t seq = v->floor; total - bytes > limit && mj_view_run(v, seq, &run);
         seq = run.seq + run.count)
        for (size_t i = 0; i < run.count && total - bytes > limit; i++) {
            bytes += run.entries[i].end - (i ? run.entries[i - 1].end : run.start);
            *from = run.seq + i + 1;
        }
    return total - bytes;
}

/* Opens subscribers, lets them read `bytes` each, closes them. CPU nanoseconds; 0 on a failure. */
static double serve(struct replay *r, size_t readers, int64_t cursor, struct mj_span hello,
                    uint64_t bytes)
{
    char target[96];
    snprintf(target, sizeof target, "/subscribe?requireHello=true&cursor=%lld", (long long)cursor);
    struct mj_bench_drain *d = &r->bed.drain;
    struct mj_bench_open o = {
        .group = SUBSCRIBERS, .count = readers, .port = r->bed.port, .target = target};
    double ns = 0;
    if (!mj_bench_drain_open(d, &o) && mj_bench_drain_await(d, SUBSCRIBERS, readers)) {
        int64_t start = mj_bench_others_cpu_ns();
        mj_bench_drain_say(d, SUBSCRIBERS, hello);
        if (mj_bench_drain_receive(d, SUBSCRIBERS, bytes * readers))
            ns = (double)(mj_bench_others_cpu_ns() - start);
        if (mj_bench_drain_bytes(d, SUBSCRIBERS) != bytes * readers) {
            fprintf(stderr, "moonjet bench: readers did not get what they should\n");
            ns = 0;
        }
    }
    mj_bench_drain_close(d, SUBSCRIBERS);
    return ns;
}

/* The yardstick, once blocking, each socket in turn, and once as sockets are ready: whichever is
 * cheaper on this machine. */
struct bare {
    const struct replay *r;
    struct mj_view *view;
    size_t readers;
    uint64_t from;
};

static bool send_in_turn(const struct bare *b)
{
    struct mj_run run;
    for (uint64_t seq = b->from; mj_view_run(b->view, seq, &run); seq = run.seq + run.count) {
        if (mj_view_load(b->view, &run))
            return false;
        size_t left = run.entries[run.count - 1].end - run.start;
        for (const uint8_t *p = run.data; left;) {
            size_t n = left < WRITE_BYTES ? left : WRITE_BYTES;
            for (size_t i = 0; i < b->readers; i++)
                if (send(b->r->fds[i], p, n, MSG_NOSIGNAL) != (ssize_t)n)
                    return false;
            p += n;
            left -= n;
        }
    }
    return true;
}

/* Where a socket is. */
struct sending {
    struct mj_run run; /* loaded */
    size_t at, size;   /* bytes of the run */
    int fd;
};

/* 1; 0 at the end; or an error. */
static int next_run(const struct bare *b, struct sending *s, uint64_t seq)
{
    if (!mj_view_run(b->view, seq, &s->run))
        return 0;
    s->at = 0;
    s->size = s->run.entries[s->run.count - 1].end - s->run.start;
    return mj_view_load(b->view, &s->run) ? MJ_EIO : 1;
}

static bool send_when_ready(const struct bare *b)
{
    struct sending *all = mj_calloc(b->readers, sizeof *all);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    size_t left = b->readers;
    bool ok = epoll >= 0;
    for (size_t i = 0; i < b->readers && ok; i++) {
        all[i].fd = b->r->fds[i];
        struct epoll_event e = {.events = EPOLLOUT, .data.ptr = &all[i]};
        ok = next_run(b, &all[i], b->from) > 0 &&
             epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &e) == 0;
    }
    while (left && ok) {
        struct epoll_event ready[256];
        int n = epoll_wait(epoll, ready, MJ_COUNT(ready), 10000);
        ok = n > 0;
        for (int i = 0; i < n && ok; i++) {
            struct sending *s = ready[i].data.ptr;
            size_t most = s->size - s->at < WRITE_BYTES ? s->size - s->at : WRITE_BYTES;
            ssize_t sent = send(s->fd, s->run.data + s->at, most, MSG_NOSIGNAL | MSG_DONTWAIT);
            ok = sent > 0 || errno == EAGAIN;
            s->at += sent > 0 ? (size_t)sent : 0;
            if (s->at < s->size)
                continue;
            int more = next_run(b, s, s->run.seq + s->run.count);
            ok = ok && more >= 0;
            if (!more && !epoll_ctl(epoll, EPOLL_CTL_DEL, s->fd, NULL))
                left--;
        }
    }
    if (epoll >= 0)
        close(epoll);
    free(all);
    return ok;
}

/* CPU nanoseconds of this thread; 0 on a failure. */
static double cpu_of(bool (*run)(const struct bare *), const struct bare *b)
{
    int64_t start = mj_bench_cpu_ns();
    return run(b) ? (double)(mj_bench_cpu_ns() - start) : 0;
}

static double least(double best, double now)
{
    return now > 0 && (!best || now < best) ? now : best;
}

/* Ours in proportion to the bare loop, for so many readers; 0 when it failed. */
static double plain(struct replay *r, size_t readers)
{
    struct mj_view v;
    uint64_t from, limit = (uint64_t)((double)ROUND_BYTES * (readers < READERS_MAX ? 1 : 2) *
                                      fmin(1, r->b->seconds)) /
                           readers;
    double ours = 0, in_turn = 0, ready = 0, ratio = 0;
    int64_t writes = mj_bench_counter("moonjet_writes_total");
    mj_view_init(&v, r->bed.journal);
    uint64_t bytes = part(&v, limit > 65536 ? limit : 65536, &from);
    int64_t cursor = mj_view_time(&v, from);
    if (mj_bench_bare_open(&r->bed, BARE, readers, r->fds))
        goto out;
    struct bare yardstick = {r, &v, readers, from};
    /* One reader is fed in short ones. */
    int rounds = mj_bench_rounds(r->b, readers == 1 ? 2 * ROUNDS : ROUNDS);
    for (int round = 0; round < rounds; round++) {
        ours = least(ours, serve(r, readers, cursor, MJ_SPAN(HELLO_NOTHING), bytes));
        in_turn = least(in_turn, cpu_of(send_in_turn, &yardstick));
        ready = least(ready, cpu_of(send_when_ready, &yardstick));
    }
    mj_bench_bare_close(&r->bed, BARE, readers, r->fds);
    double bare = least(in_turn, ready);
    ratio = ours > 0 ? bare / ours : 0;
    writes = mj_bench_counter("moonjet_writes_total") - writes;
    char key[48], beside[128];
    double each = (double)bytes * (double)readers;
    snprintf(key, sizeof key, "replay_plain_vs_send_%zu", readers);
    snprintf(beside, sizeof beside,
             "ours %.2f GB/s, send() %.2f in turn, %.2f by epoll; %.1f MB each, %.0f KiB a write",
             each / ours, each / in_turn, each / ready, (double)bytes / 1e6,
             each * rounds / 1024 / (double)(writes ? writes : 1));
    mj_bench_report(r->b, key, ratio, "x", beside, MJ_GOAL_NONE, 0);
out:
    mj_view_deinit(&v);
    return ratio;
}

/* Entries looked at per second of CPU by one subscriber that gets `bytes` of all there is. */
static double scan(struct replay *r, struct mj_span hello, uint64_t bytes)
{
    double best = 0;
    for (int round = 0; round < mj_bench_rounds(r->b, ROUNDS); round++)
        best = least(best, serve(r, 1, 1, hello, bytes));
    return best > 0 ? (double)r->events * 1e9 / best : 0;
}

static void filtered(struct replay *r, const char *suffix, enum mj_bench_goal sense)
{
    MJ_AUTO_BUF by_did = {0};
    mj_buf_puts(&by_did, "{\"type\":\"options_update\",\"payload\":{\"wantedDids\":[");
    for (uint32_t i = 0; i < WANTED_DIDS; i++) {
        char did[MJ_BENCH_DID_LEN + 1];
        mj_bench_did(i, did);
        mj_buf_printf(&by_did, "%s\"%s\"", i ? "," : "", did);
    }
    mj_buf_puts(&by_did, "]}}");
    double collection = scan(r, MJ_SPAN(HELLO_RARE), r->rare_bytes),
           dids = scan(r, mj_buf_span(&by_did), r->wanted_bytes);
    char key[64], beside[112];
    snprintf(key, sizeof key, "replay_%sfiltered_events_per_s", suffix);
    snprintf(beside, sizeof beside,
             "by collection (%.2f %%) %.0f million, by %d DIDs (%.2f %%) %.0f million",
             100.0 * (double)r->rare / (double)r->events, collection / 1e6, WANTED_DIDS,
             100.0 * (double)r->wanted / (double)r->events, dids / 1e6);
    mj_bench_report(r->b, key, fmin(collection, dids), "entries/s", beside, sense, 5e7);
}

void mj_bench_replay(struct mj_bench *b)
{
    if (!mj_bench_allow_files(2 * READERS_MAX, "replay"))
        return;
    struct replay *r = mj_calloc(1, sizeof *r);
    r->b = b;
    r->events = (size_t)fmax(EVENTS_MIN, EVENTS * fmin(1, b->seconds));
    if (mj_bench_bed_init(b, &r->bed, SEGMENT, mj_span(NULL, 0)) || !fill(r))
        goto out;
    static const size_t readers[] = {1, 100, 1000};
    double worst = INFINITY;
    for (size_t i = 0; i < MJ_COUNT(readers); i++)
        worst = fmin(worst, plain(r, readers[i]));
    mj_bench_report(b, "replay_plain_vs_send", worst, "x", "the least of these", MJ_GOAL_AT_LEAST,
                    0.8);
    filtered(r, "", MJ_GOAL_AT_LEAST);

    struct mj_journal_window after;
    if (mj_journal_seal(r->bed.journal, 0))
        goto out;
    mj_journal_window(r->bed.journal, &after);
    char beside[96];
    snprintf(beside, sizeof beside, "%zu of %zu segments are sealed; one reader",
             after.sealed_segments, after.segments);
    struct mj_view v;
    uint64_t from;
    mj_view_init(&v, r->bed.journal);
    uint64_t bytes = part(&v, UINT64_MAX, &from);
    mj_view_deinit(&v);
    mj_bench_report(b, "replay_sealed_events_per_s", scan(r, MJ_SPAN(HELLO_NOTHING), bytes),
                    "events/s", beside, MJ_GOAL_NONE, 0);
    filtered(r, "sealed_", MJ_GOAL_NONE);
out:
    mj_bench_bed_deinit(&r->bed);
    free(r);
}
