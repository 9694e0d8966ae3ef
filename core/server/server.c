#include "server/server.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "server/internal.h"
#include "server/labels.h"

#define FILES_WANTED  65536 /* descriptors we ask the system for, if it allows as many */
#define FILES_RESERVE 64    /* of them for everything that is not a connection */
#define STOP_SECONDS  2.5

void mj__pump(struct mj_server *s)
{
    int64_t start = mj_mono_us();
    mj_view_refresh(&s->view);
    bool news = s->live_end < s->view.end;
    if (news)
        s->last_event_us = start;
    bool more = mj__feed_round(s);
    mj_metric_set(s->m.live, (int64_t)s->live_end - 1);
    s->pump_end_us = mj_mono_us();
    if (news)
        s->pump_cost_us = s->pump_end_us - start;
    mj_metric_add(s->m.rounds, 1);
    if (more && !ev_is_active(&s->flush)) { /* others have their turn in between */
        ev_timer_set(&s->flush, 0., 0.);
        ev_timer_start(s->loop, &s->flush);
    }
}

static void on_flush(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop;
    (void)events;
    mj__pump(timer->data);
}

/* News. A round costs about the same for one event as for a hundred, so after a dear round the
 * next one waits: four times as long as the last one took, which leaves the thread four fifths
 * idle, but not so long that wait and round together take above 10 ms; and at least a quarter of
 * the last one, so that there is a turn for others. When rounds are cheap, that is at once. */
static void on_wake(struct ev_loop *loop, ev_async *async, int events)
{
    (void)events;
    struct mj_server *s = async->data;
    if (ev_is_active(&s->flush))
        return;
    int64_t wait = 4 * s->pump_cost_us;
    if (wait > MJ_FLUSH_MAX_US - s->pump_cost_us)
        wait = MJ_FLUSH_MAX_US - s->pump_cost_us;
    if (wait < s->pump_cost_us / 4)
        wait = s->pump_cost_us / 4;
    wait -= mj_mono_us() - s->pump_end_us;
    if (wait < 200) {
        mj__pump(s);
        return;
    }
    ev_timer_set(&s->flush, (double)wait / 1e6, 0.);
    ev_timer_start(loop, &s->flush);
}

static void on_second(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)events;
    struct mj_server *s = timer->data;
    if (!s->stopping && mj_mono_us() - s->pump_end_us > 500000)
        mj__pump(s); /* lets go of segments that were dropped, though nothing is new */
    mj__labels_second(s);
    if (!s->stopping)
        mj__subs_second(s);
    else if (!s->adopted || ev_now(loop) - s->started > STOP_SECONDS)
        ev_break(loop, EVBREAK_ALL);
}

static void on_stop(struct ev_loop *loop, ev_async *async, int events)
{
    (void)events;
    struct mj_server *s = async->data;
    if (s->stopping)
        return;
    s->stopping = true;
    s->started = ev_now(loop);
    mj__front_stop_accepting(s);
    mj_view_refresh(&s->view);
    while (mj__feed_round(s))
        ;
    mj__subs_close_all(s);
    mj__labels_close_all(s);
    ev_timer_stop(loop, &s->second);
    ev_timer_set(&s->second, 0., 0.02);
    ev_timer_start(loop, &s->second);
}

static void on_answered(struct ev_loop *loop, ev_async *async, int events)
{
    (void)loop;
    (void)events;
    mj__front_answered(async->data);
}

static void *serve(void *arg)
{
    struct mj_server *s = arg;
    ev_run(s->loop, 0);
    return NULL;
}

/* On the writer's thread: one write to an eventfd at most, and none while one is pending. */
static void wake(void *ctx)
{
    struct mj_server *s = ctx;
    ev_async_send(s->loop, &s->wake);
}

static const int64_t delivery_bounds[] = {250,    500,    1000,   2500,    5000,   10000,
                                          15000,  20000,  25000,  30000,   40000,  50000,
                                          100000, 250000, 500000, 1000000, 5000000};
static const int64_t lag_bounds[] = {0,         100000,    1000000,    5000000,     30000000,
                                     120000000, 600000000, 3600000000, 14400000000, 86400000000};

static void make_metrics(struct mj_server *s)
{
    static const char *const ends[] = {
#define X(name, label) label,
        MJ_ENDS(X)
#undef X
    };
    for (int i = 0; i < MJ_END_COUNT; i++)
        s->m.ends[i] = mj_metric("moonjet_subscribers_ended_total", MJ_COUNTER,
                                 "Subscribers that are gone, by reason.", "reason=\"%s\"", ends[i]);
    s->m.subs = mj_metric("moonjet_subscribers", MJ_GAUGE, "Subscribers connected now.", NULL);
    s->m.writes = mj_metric("moonjet_writes_total", MJ_COUNTER, "Writes to subscribers.", NULL);
    s->m.frames = mj_metric("moonjet_frames_written_total", MJ_COUNTER,
                            "Events sent to subscribers; by writes, the frames per write.", NULL);
    s->m.write_bytes =
        mj_metric("moonjet_written_bytes_total", MJ_COUNTER, "Bytes sent to subscribers.", NULL);
    s->m.rounds = mj_metric("moonjet_flush_rounds_total", MJ_COUNTER,
                            "Times everybody was offered what is new.", NULL);
    s->m.live = mj_metric("moonjet_live_seq", MJ_GAUGE,
                          "Newest event that all live subscribers have been offered.", NULL);
    s->m.heads =
        mj_metric("moonjet_requests_open", MJ_GAUGE, "Requests being read or answered.", NULL);
    s->m.refused = mj_metric("moonjet_requests_refused_total", MJ_COUNTER,
                             "Requests refused for form, size, time or number.", NULL);
    s->m.classes = mj_metric("moonjet_classes", MJ_GAUGE,
                             "Different filters, streams and codecs of all subscribers.", NULL);
    static const char gaps[] = "moonjet_gaps_total",
                      gaps_help[] = "Events that a subscriber could not be given.";
    s->m.overtaken = mj_metric(gaps, MJ_COUNTER, gaps_help, "reason=\"overtaken\"");
    s->m.damaged = mj_metric(gaps, MJ_COUNTER, gaps_help, "reason=\"damaged\"");
    s->m.delivery = mj_histogram("moonjet_delivery_seconds",
                                 "From an event's time_us to the write that sent it live; of each "
                                 "write the oldest event.",
                                 delivery_bounds, MJ_COUNT(delivery_bounds), NULL);
    s->m.lag =
        mj_histogram("moonjet_subscriber_lag_seconds",
                     "Subscribers by how far they are behind now (all of them, every second: "
                     "not a rate).",
                     lag_bounds, MJ_COUNT(lag_bounds), NULL);
    s->m.message_bytes = mj_metric("moonjet_client_message_bytes", MJ_GAUGE,
                                   "Bytes held for messages that clients are sending.", NULL);
    s->m.accepted =
        mj_metric("moonjet_connections_total", MJ_COUNTER, "Connections accepted.", NULL);
}

/* Every connection is a file; the usual limit of 1,024 is too low for a server. */
static size_t raise_file_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r))
        return 1024;
    rlim_t want = r.rlim_max < FILES_WANTED ? r.rlim_max : FILES_WANTED;
    if (r.rlim_cur < want) {
        struct rlimit more = {want, r.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &more) == 0)
            r.rlim_cur = want;
    }
    return r.rlim_cur > FILES_RESERVE + 64 ? r.rlim_cur - FILES_RESERVE : 64;
}

static int listen_at(struct mj_server *s, enum mj_listener i, const char *where)
{
    struct mj_hostport at;
    if (mj_hostport_parse(where, &at)) {
        mj_log(MJ_LOG_ERROR, "server", "\"%s\" is not HOST:PORT", where);
        return MJ_ESYNTAX;
    }
    int fd = mj_listen(&at, &s->ports[i]);
    if (fd < 0) {
        mj_log(MJ_LOG_ERROR, "server", "cannot listen on %s: %s", where, strerror(errno));
        return MJ_EIO;
    }
    s->accepting[i].fd = fd;
    return 0;
}

/* Everything but the thread; also undoes a start that failed half way. */
static void destroy(struct mj_server *s)
{
    mj__front_stop_accepting(s);
    mj__front_close_all(s);
    mj__desk_close(s->desk);
    mj__control_close(s);
    mj__labels_deinit(s);
    mj__subs_deinit(s);
    mj__feed_deinit(s);
    mj_hosts_deinit(&s->hosts);
    if (s->loop)
        ev_loop_destroy(s->loop);
    mj_view_deinit(&s->view);
    free(s->trusted);
    free(s);
}

static int parse_trusted(struct mj_server *s)
{
    const struct mj_server_cfg *cfg = &s->cfg;
    s->trusted = mj_calloc(cfg->trusted_proxy_count + 1, sizeof *s->trusted);
    for (; s->trusted_count < cfg->trusted_proxy_count; s->trusted_count++) {
        const char *text = cfg->trusted_proxies[s->trusted_count];
        if (mj_cidr_parse(mj_str(text), &s->trusted[s->trusted_count])) {
            mj_log(MJ_LOG_ERROR, "server",
                   "trusted proxy \"%s\" is no address or prefix such as 10.0.0.0/8 or ::1", text);
            return MJ_ESYNTAX;
        }
    }
    return 0;
}

int mj_server_start(const struct mj_server_cfg *cfg, struct mj_server **out)
{
    struct mj_server *s = mj_calloc(1, sizeof *s);
    s->cfg = *cfg;
    size_t files = raise_file_limit();
    if (!s->cfg.max_connections || s->cfg.max_connections > files)
        s->cfg.max_connections = files;
    if (!s->cfg.sndbuf)
        s->cfg.sndbuf = 128 << 10;
    if (!s->cfg.stall_seconds)
        s->cfg.stall_seconds = 60;
    if (!s->cfg.ping_seconds)
        s->cfg.ping_seconds = 30;
    if (!s->cfg.head_seconds)
        s->cfg.head_seconds = 10;
    if (!s->cfg.call_seconds)
        s->cfg.call_seconds = 30;
    if (!s->cfg.message_budget)
        s->cfg.message_budget = 64 << 20;
    for (int i = 0; i < MJ_LISTENERS; i++)
        s->accepting[i].fd = -1;
    make_metrics(s);
    mj_view_init(&s->view, cfg->journal);
    s->live_end = s->view.end;
    s->live_us = mj_view_newest(&s->view);
    s->started_us = mj_now_us();
    mj_metric_set(s->m.live, (int64_t)s->live_end - 1);
    mj_hosts_init(&s->hosts, cfg->replay_rate > 0 ? (double)cfg->replay_rate : 0);

    int err = parse_trusted(s);
    if (!err)
        err = mj__feed_init(s);
    if (err)
        goto fail;
    err = MJ_EIO;
    s->loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOSIGMASK);
    if (!s->loop)
        goto fail;
    if ((err = listen_at(s, MJ_LISTEN_STREAM, cfg->listen)))
        goto fail;
    if (cfg->metrics_listen && *cfg->metrics_listen &&
        (err = listen_at(s, MJ_LISTEN_METRICS, cfg->metrics_listen)))
        goto fail;
    if (cfg->control && *cfg->control && (err = mj__control_listen(s)) && !cfg->control_may_fail)
        goto fail;
    if ((err = mj__subs_init(s))) {
        mj_log(MJ_LOG_ERROR, "server", "libwebsockets does not start; is its libev plug-in there?");
        goto fail;
    }
    ev_async_init(&s->wake, on_wake);
    ev_async_init(&s->stop, on_stop);
    ev_async_init(&s->answered, on_answered);
    ev_timer_init(&s->flush, on_flush, 0., 0.);
    ev_timer_init(&s->second, on_second, 1., 1.);
    s->wake.data = s->stop.data = s->answered.data = s->flush.data = s->second.data = s;
    ev_async_start(s->loop, &s->wake);
    ev_async_start(s->loop, &s->stop);
    ev_async_start(s->loop, &s->answered);
    mj__labels_init(s);
    s->desk = mj__desk_new(s->loop, &s->answered);
    ev_timer_start(s->loop, &s->second);
    mj__front_start(s);
    s->cfg.dictionary = mj_span(NULL, 0);
    s->cfg.trusted_proxies = NULL;
    s->cfg.control = NULL;
    if (pthread_create(&s->thread, NULL, serve, s)) {
        mj_log(MJ_LOG_ERROR, "server", "cannot start a thread");
        err = MJ_EIO;
        goto fail;
    }
    mj_journal_on_publish(cfg->journal, wake, s);
    if (cfg->labels)
        mj_labels_watch(cfg->labels, mj__labels_wake, s);
    wake(s); /* for what was published before */
    *out = s;
    return 0;

fail:
    destroy(s);
    return err;
}

int mj_server_port(const struct mj_server *s) { return s->ports[MJ_LISTEN_STREAM]; }
int mj_server_metrics_port(const struct mj_server *s) { return s->ports[MJ_LISTEN_METRICS]; }

void mj_server_stop(struct mj_server *s)
{
    if (!s)
        return;
    mj_journal_on_publish(s->cfg.journal, NULL, NULL);
    if (s->cfg.labels)
        mj_labels_watch(s->cfg.labels, NULL, NULL);
    ev_async_send(s->loop, &s->stop);
    pthread_join(s->thread, NULL);
    destroy(s);
}
