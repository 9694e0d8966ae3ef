/* moonjet simulate: a network in a process, served as a relay, a PLC directory and a PDS would. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/http.h"
#include "cli/commands.h"
#include "source/relay.h"
#include "source/simulate.h"

/* The first frame of a capture: 2026-01-01T00:00:00Z, so that a seed always gives the same file. */
#define CAPTURE_START_US INT64_C(1767225600000000)
#define CAPTURE_FRAMES   10000
#define REPORT_US        10000000

struct cfg {
    const char *listen, *out;
    int64_t accounts, rate, seed, frames, records, window, window_frames;
    bool quiet;
};

static volatile sig_atomic_t stopping;

static void on_signal(int sig)
{
    (void)sig;
    stopping = 1;
}

/* The network is not made for two threads: the relay's asks for documents while ours makes frames.
 */
struct shared {
    pthread_mutex_t lock;
    struct mj_simulate *sim;
};

static int get(void *ctx, struct mj_span path, struct mj_span query, struct mj_buf *body,
               const char **type)
{
    struct shared *s = ctx;
    pthread_mutex_lock(&s->lock);
    int status = mj_simulate_get(s->sim, path, query, body, type);
    pthread_mutex_unlock(&s->lock);
    return status;
}

static void sleep_us(int64_t us)
{
    struct timespec ts = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&ts, NULL); /* a signal ends it early, as it should */
}

static int write_capture(const struct cfg *c, struct mj_simulate *sim)
{
    FILE *f = strcmp(c->out, "-") == 0 ? stdout : fopen(c->out, "wb");
    if (!f) {
        fprintf(stderr, "moonjet simulate: %s: %s\n", c->out, strerror(errno));
        return MJ_EXIT_FAILED;
    }
    int64_t frames = c->frames ? c->frames : CAPTURE_FRAMES, started = mj_mono_us(), n = 0;
    int64_t bytes = 0;
    bool good = true;
    for (; n < frames && good && !stopping; n++) {
        struct mj_span frame;
        mj_simulate_next(sim, &frame);
        uint8_t head[4] = {(uint8_t)frame.len, (uint8_t)(frame.len >> 8),
                           (uint8_t)(frame.len >> 16), (uint8_t)(frame.len >> 24)};
        good = fwrite(head, 1, 4, f) == 4 && fwrite(frame.ptr, 1, frame.len, f) == frame.len;
        bytes += 4 + (int64_t)frame.len;
    }
    int saved = errno;
    if ((f == stdout ? fflush(f) : fclose(f)) && good) {
        saved = errno;
        good = false;
    }
    if (!good) {
        fprintf(stderr, "moonjet simulate: %s: %s\n", c->out, strerror(saved));
        return MJ_EXIT_FAILED;
    }
    double seconds = (double)(mj_mono_us() - started) / 1e6;
    fprintf(stderr, "%lld frames, %lld bytes in %.2f s (%.0f/s)\n", (long long)n, (long long)bytes,
            seconds, (double)n / (seconds > 0 ? seconds : 1));
    return MJ_EXIT_OK;
}

/* Publishes at the rate until the frames are used up, then stays for those who read. */
static int run(const struct cfg *c, struct shared *s, struct mj_relay *relay)
{
    int64_t started = mj_mono_us(), reported = started, told = 0, n = 0;
    while (!stopping) {
        if (c->frames && n == c->frames) {
            sleep_us(100000);
            continue;
        }
        int64_t now = mj_mono_us();
        int64_t due = c->rate ? (int64_t)((double)n * 1e6 / (double)c->rate) + started : now;
        if (due > now) {
            sleep_us(due - now < 100000 ? due - now : 100000);
            continue;
        }
        struct mj_span frame;
        pthread_mutex_lock(&s->lock);
        int64_t seq = mj_simulate_next(s->sim, &frame);
        pthread_mutex_unlock(&s->lock);
        int r = mj_relay_publish(relay, seq, frame);
        if (r) {
            fprintf(stderr, "moonjet simulate: frame %lld: %s\n", (long long)seq, mj_strerror(r));
            return MJ_EXIT_FAILED;
        }
        n++;
        bool done = n == c->frames;
        if (!c->quiet && (now - reported >= REPORT_US || done)) {
            double seconds = (double)(mj_mono_us() - reported) / 1e6;
            fprintf(stderr, "%lld frames, %.0f/s, %d subscribed\n", (long long)n,
                    (double)(n - told) / (seconds > 0 ? seconds : 1), mj_relay_clients(relay));
            reported = now;
            told = n;
        }
    }
    return MJ_EXIT_OK;
}

static int serve(const struct cfg *c, struct mj_simulate *sim)
{
    struct mj_hostport at;
    struct shared s = {.sim = sim};
    pthread_mutex_init(&s.lock, NULL);
    struct mj_relay_cfg rc = {.listen = c->listen,
                              .window_bytes = (size_t)c->window,
                              .window_frames = (size_t)c->window_frames,
                              .get = get,
                              .get_ctx = &s};
    struct mj_relay *relay;
    int r = mj_hostport_parse(c->listen, &at);
    if (!r)
        r = mj_relay_start(&rc, &relay);
    if (r) {
        fprintf(stderr, "moonjet simulate: --listen %s: %s\n", c->listen,
                r == MJ_EIO ? strerror(errno) : mj_strerror(r));
        pthread_mutex_destroy(&s.lock);
        return r == MJ_EIO ? MJ_EXIT_FAILED : MJ_EXIT_USAGE;
    }
    MJ_AUTO_BUF host = {0}, url = {0};
    const char *name = at.host[0] ? at.host : "127.0.0.1";
    mj_buf_printf(&host, strchr(name, ':') ? "[%s]:%d" : "%s:%d", name, mj_relay_port(relay));
    mj_buf_printf(&url, "http://%s", mj_buf_cstr(&host));
    pthread_mutex_lock(&s.lock);
    mj_simulate_set_pds(sim, mj_buf_cstr(&url));
    pthread_mutex_unlock(&s.lock);
    fprintf(stderr, "listening on ws://%s" MJ_RELAY_PATH "\n", mj_buf_cstr(&host));
    r = run(c, &s, relay);
    mj_relay_stop(relay);
    pthread_mutex_destroy(&s.lock);
    return r;
}

static int simulate_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg c = {0};
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, &c, &pos);
    if (r)
        return r;
    if (c.accounts < 1 || c.accounts > 1000000 || c.rate < 0 || c.frames < 0 || c.records < 1 ||
        c.records > 1000000 || c.window < 1 || c.window_frames < 0) {
        fprintf(stderr, "moonjet simulate: --accounts and --records are 1 to 1,000,000, --window is"
                        " at least 1, --rate, --frames and --window-frames at least 0\n");
        return MJ_EXIT_USAGE;
    }
    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    struct mj_simulate_cfg sc = {.seed = (uint64_t)c.seed,
                                 .accounts = (uint32_t)c.accounts,
                                 .records_max = (uint32_t)c.records,
                                 .start_us = c.out ? CAPTURE_START_US : 0,
                                 .step_us = c.rate ? 1000000 / c.rate : 1000};
    struct mj_simulate *sim;
    r = mj_simulate_new(&sc, &sim);
    if (r) {
        fprintf(stderr, "moonjet simulate: %s\n", mj_strerror(r));
        return MJ_EXIT_FAILED;
    }
    r = c.out ? write_capture(&c, sim) : serve(&c, sim);
    mj_simulate_free(sim);
    return r;
}

#define AT(field) offsetof(struct cfg, field)

static const struct mj_option options[] = {
    {"listen", MJ_OPT_STR, AT(listen), "HOST:PORT", "where to serve; port 0 picks one",
     .def = "127.0.0.1:2470"},
    {"accounts", MJ_OPT_INT, AT(accounts), "N", "people in the network", .def = "1000"},
    {"rate", MJ_OPT_INT, AT(rate), "N", "frames per second; 0 = as fast as possible", .def = "50"},
    {"seed", MJ_OPT_INT, AT(seed), "N", "same seed, same network", .def = "1"},
    {"frames", MJ_OPT_INT, AT(frames), "N", "stop making frames after N; they stay served",
     .def = "0"},
    {"records", MJ_OPT_INT, AT(records), "N",
     "records after which somebody leaves and somebody new signs up", .def = "400"},
    {"window", MJ_OPT_SIZE, AT(window), "SIZE", "bytes of frames kept for cursors", .def = "64M"},
    {"window-frames", MJ_OPT_INT, AT(window_frames), "N", "frames kept for cursors; 0 = no limit",
     .def = "0"},
    {"out", MJ_OPT_STR, AT(out), "FILE",
     "write a capture instead of serving (- = stdout; 10,000 frames unless --frames)", .def = NULL},
    {"quiet", MJ_OPT_FLAG, AT(quiet), NULL, "no line about the rate every ten seconds",
     .def = NULL},
    {0}};

const struct mj_command mj_cmd_simulate = {
    .name = "simulate",
    .usage = "",
    .summary = "An atproto network in a process: signed repositories, firehose, DID documents.",
    .details =
        "Serves com.atproto.sync.subscribeRepos, and on the same address GET /<did> as a PLC\n"
        "directory does, com.atproto.identity.resolveHandle and com.atproto.sync.getRepo. Frames\n"
        "are signed and carry proofs, so a verifying consumer accepts them. With --out the clock\n"
        "is simulated too, and the same options always give the same file.",
    .options = options,
    .main = simulate_main,
};
