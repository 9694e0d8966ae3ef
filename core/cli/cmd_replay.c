/* moonjet replay: a capture served as a firehose. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "base/err.h"
#include "base/http.h"
#include "base/log.h"
#include "cli/commands.h"
#include "source/replay.h"

struct cfg {
    const char *listen, *rate;
    bool loop, original_pace, quiet;
};

static int usage(const char *what)
{
    fprintf(stderr, "moonjet replay: %s (moonjet replay --help tells more)\n", what);
    return MJ_EXIT_USAGE;
}

static int explain(const char *path, int err)
{
    const char *why = err == MJ_EIO       ? strerror(errno)
                      : err == MJ_ENOENT  ? "there are no frames in it"
                      : err == MJ_ETRUNC  ? "it ends inside a frame"
                      : err == MJ_EBIG    ? "a frame has an impossible size; is this a capture?"
                      : err == MJ_ESYNTAX ? "its compression is damaged"
                                          : "no frame in it has a seq, so --loop cannot raise one";
    fprintf(stderr, "moonjet replay: %s: %s\n", path, why);
    return MJ_EXIT_FAILED;
}

static int replay_main(const struct mj_command *cmd, int argc, char **argv)
{
    struct cfg cfg = {0};
    struct mj_strings pos;
    int r = mj_options_parse(cmd, argc, argv, &cfg, &pos);
    if (r)
        return r;
    struct mj_replay_cfg what = {.path = pos.v[0], .loop = cfg.loop, .own_pace = cfg.original_pace};
    if (cfg.rate) {
        char *end;
        what.rate = strtod(cfg.rate, &end);
        if (*end || !(what.rate > 0 && what.rate <= 1e9))
            return usage("--rate needs frames per second, above 0");
        if (what.own_pace)
            return usage("--rate and --original-pace exclude each other");
    }
    if (cfg.quiet)
        mj_log_setup(MJ_LOG_WARN, false);
    struct mj_hostport at;
    if (mj_hostport_parse(cfg.listen, &at))
        return usage("--listen needs HOST:PORT");

    /* From here on the main thread only waits for a signal. */
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    struct mj_replay *replay;
    int err = mj_replay_open(&what, &replay);
    if (err)
        return explain(what.path, err);
    pthread_sigmask(SIG_BLOCK, &ends, NULL);
    struct mj_relay_feed feed = mj_replay_feed(replay);
    struct mj_relay_cfg relay_cfg = {.listen = cfg.listen, .feed = &feed};
    struct mj_relay *relay;
    if (mj_replay_torn(replay))
        fprintf(stderr, "moonjet replay: %s ends inside frame %zu; serving those before it\n",
                what.path, mj_replay_frames(replay) + 1);
    err = mj_relay_start(&relay_cfg, &relay);
    if (err) {
        fprintf(stderr, "moonjet replay: cannot listen on %s: %s\n", cfg.listen, strerror(errno));
        mj_replay_close(replay);
        return MJ_EXIT_FAILED;
    }
    const char *host = *at.host ? at.host : "127.0.0.1";
    bool v6 = strchr(host, ':');
    fprintf(stderr, "%zu frames, %zu bytes\nlistening on ws://%s%s%s:%d%s\n",
            mj_replay_frames(replay), mj_replay_bytes(replay), v6 ? "[" : "", host, v6 ? "]" : "",
            mj_relay_port(relay), MJ_RELAY_PATH);
    int number;
    sigwait(&ends, &number);
    mj_relay_stop(relay);
    mj_replay_close(replay);
    return MJ_EXIT_OK;
}

static const struct mj_option options[] = {
    {"listen", MJ_OPT_STR, offsetof(struct cfg, listen), "HOST:PORT",
     "where to serve; port 0 = any, told on stderr", .def = "127.0.0.1:2470"},
    {"rate", MJ_OPT_STR, offsetof(struct cfg, rate), "N", "frames per second"},
    {"original-pace", MJ_OPT_FLAG, offsetof(struct cfg, original_pace), NULL,
     "as fast as the frames' own times say"},
    {"loop", MJ_OPT_FLAG, offsetof(struct cfg, loop), NULL,
     "start over at the end, with rising seq"},
    {"quiet", MJ_OPT_FLAG, offsetof(struct cfg, quiet), NULL, "do not log clients"},
    {0}};

const struct mj_command mj_cmd_replay = {
    .name = "replay",
    .usage = "FILE",
    .summary = "Serve a capture as a firehose.",
    .details =
        "FILE is a capture as `moonjet record` writes it, or one compressed with zstd. Without\n"
        "--rate or --original-pace, frames go out as fast as each client reads, and a client\n"
        "without a cursor gets the whole capture. With either, one clock runs for all clients,\n"
        "started by the first. Connections stay open after the last frame.",
    .options = options,
    .positional_min = 1,
    .positional_max = 1,
    .main = replay_main,
};
