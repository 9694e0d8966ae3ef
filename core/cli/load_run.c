/* The course of a load test: one thread, one epoll, opening, measuring, and the sum at the end. */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "cli/load_run.h"
#include "source/dial.h"

#define SCOUT_US INT64_C(30000000)
#define TICK_US  100000
#define BATCH    256 /* epoll events, and connects, in a row */

static volatile sig_atomic_t signalled;

static void on_signal(int number)
{
    (void)number;
    signalled = 1;
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* ---- the course of a run ---- */

/* Makes the filters out of what the scout saw; if it saw too little, as many as that gives. */
static void stop_scouting(struct mj__load_run *r)
{
    size_t each = r->cfg->filter_dids, n = r->did_count / each;
    const char *at = mj_buf_cstr(&r->did_texts);
    r->scouting = false;
    for (size_t i = 0; i < n; i++) {
        struct mj__load_class *c = &r->classes[r->class_count++];
        MJ_AUTO_BUF query = {0};
        *c = (struct mj__load_class){.weight = 1, .from_scout = true};
        for (size_t k = 0; k < each; k++) {
            mj_buf_puts(&query, k ? "&wantedDids=" : "wantedDids=");
            for (; *at != '\n'; at++)
                mj_buf_puts(&query, *at == '%' ? "%25" : (char[]){*at, '\0'});
            at++;
        }
        c->query = mj_strdup(mj_buf_cstr(&query));
        c->log.want_packed = r->zmessage;
        mj__load_filter_init(&c->filter, mj_str(c->query));
    }
    r->result->scouted = n;
    r->start_us = r->measured_us = mj_mono_us(); /* the others' ramp begins now */
}

static uint32_t class_for(const struct mj__load_run *r, size_t i)
{
    if (r->cfg->filters) {
        size_t n = r->result->scouted;
        return i && n ? (uint32_t)(r->class_count - n + (i - 1) % n) : 0;
    }
    size_t at = i % r->weights, k = 0;
    while (at >= r->classes[k].weight)
        at -= r->classes[k++].weight;
    return (uint32_t)k;
}

static void open_due(struct mj__load_run *r, int64_t now)
{
    size_t due = r->count;
    if (r->scouting)
        due = 1;
    else if (now - r->start_us < r->cfg->ramp_us)
        due =
            1 + (size_t)((double)r->count * (double)(now - r->start_us) / (double)r->cfg->ramp_us);
    for (int i = 0; i < BATCH && r->next < due && r->next < r->count; i++) {
        struct mj__load_sub *s = &r->subs[r->next];
        s->class = class_for(r, r->next);
        s->stalled = r->next >= r->count - r->cfg->stalled;
        /* Spread evenly over all, not the first so many. */
        size_t p = r->cfg->zstd_percent;
        s->zstd = mj__load_class_of(r, s)->zstd || (r->next + 1) * p / 100 > r->next * p / 100;
        r->next++;
        mj__load_connect(r, s);
    }
}

/* Everybody is there. Live, only what comes from now on is measured; a replay is measured from its
 * start, or it might be over. */
static void begin_window(struct mj__load_run *r, int64_t now)
{
    r->window_us = now;
    r->result->ramp_seconds = (double)(now - r->start_us) / 1e6;
    if (r->cfg->cursor)
        return;
    r->measured_us = now;
    r->measured_cpu = cpu_seconds();
    r->result->window_events = r->result->events; /* subtracted at the end */
    r->result->window_bytes = r->result->bytes;
    r->result->latency = r->result->stamped = (struct mj__load_histogram){0};
    for (size_t i = 0; i < r->count; i++)
        r->subs[i].window_events = r->subs[i].events;
}

/* One leaves, half of them without a word, and comes back where it was. */
static void churn(struct mj__load_run *r, int64_t now)
{
    size_t due = (size_t)((double)(now - r->window_us) / 1e6 * (double)r->cfg->churn);
    size_t from = r->cfg->filters ? 1 : 0, n = r->count - r->cfg->stalled;
    for (int i = 0; i < BATCH && r->churn_done < due && n > from; i++, r->churn_done++) {
        struct mj__load_sub *s = &r->subs[from + r->churn_at++ % (n - from)];
        if (s->state != LOAD_OPEN)
            continue;
        struct linger reset = {.l_onoff = 1};
        if (r->churn_done & 1) {
            setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            s->conn.fd = -1; /* not shut down first, which would be a goodbye */
        } else {
            mj__load_goodbye(s, 1000);
        }
        mj__load_release(r, s);
        r->result->churned++;
        s->resuming = s->place.last;
        mj__load_connect(r, s);
    }
}

static void show(struct mj__load_run *r, int64_t now)
{
    const struct mj__load_result *o = r->result;
    double s = (double)(now - r->shown_us) / 1e6;
    if (r->scouting)
        fprintf(stderr, "\rlooking for %zu DIDs to filter by: %zu \033[K", r->did_want,
                r->did_count);
    else
        fprintf(stderr,
                "\r%5.1f s  %zu of %zu connected  %.0f events/s  %.1f MB/s  p99 %.1f ms%s "
                "\033[K",
                (double)(now - r->start_us) / 1e6, r->opened, r->count,
                (double)(o->events - r->shown_events) / s,
                (double)(o->bytes - r->shown_bytes) / s / 1e6,
                (double)mj__load_percentile(&o->latency, 0.99) / 1e3,
                r->window_us ? "" : "  (ramp)");
    r->shown_us = now;
    r->shown_events = o->events;
    r->shown_bytes = o->bytes;
}

static void drop_late(struct mj__load_run *r, int64_t now)
{
    for (size_t i = 0; i < r->next && r->pending; i++) {
        struct mj__load_sub *s = &r->subs[i];
        if (s->state != LOAD_IDLE && s->state != LOAD_OPEN && s->state != LOAD_ENDED &&
            now - s->since_us > LOAD_HANDSHAKE_US)
            mj__load_end_sub(r, s, 0, "no connection after %d s",
                             (int)(LOAD_HANDSHAKE_US / 1000000));
    }
}

static bool is_over(const struct mj__load_run *r, int64_t now)
{
    const struct mj__load_cfg *c = r->cfg;
    size_t live = r->count - c->stalled;
    if (r->window_us && c->duration_us && now - r->window_us >= c->duration_us)
        return true;
    if (r->window_us && c->events && r->reached >= live)
        return true;
    return r->next == r->count && !r->pending && !r->opened; /* nobody is left */
}

static void serve(struct mj__load_run *r)
{
    struct epoll_event ready[BATCH];
    int64_t late_us = 0;
    while (!signalled) {
        int64_t now = mj_mono_us();
        if (r->scouting && (r->did_count == r->did_want || now > r->scout_end_us ||
                            (r->next && r->subs[0].state == LOAD_ENDED)))
            stop_scouting(r);
        open_due(r, now);
        if (!r->window_us && r->next == r->count && !r->pending)
            begin_window(r, now);
        if (is_over(r, now))
            break;
        if (r->window_us && r->cfg->churn)
            churn(r, now);
        if (now - late_us > 1000000) {
            late_us = now;
            drop_late(r, now);
            if (r->cfg->progress)
                show(r, now);
        }
        bool busy = r->next < r->count && !r->scouting;
        int n = epoll_wait(r->epoll, ready, BATCH, busy ? 1 : TICK_US / 1000);
        for (int i = 0; i < n; i++)
            mj__load_ready(r, ready[i].data.ptr, ready[i].events);
    }
}

static void conclude(struct mj__load_run *r)
{
    struct mj__load_result *o = r->result;
    int64_t now = mj_mono_us();
    o->seconds = (double)(now - r->measured_us) / 1e6;
    o->cpu_seconds = cpu_seconds() - r->measured_cpu;
    o->window_events = o->events - o->window_events;
    o->window_bytes = o->bytes - o->window_bytes;
    o->interrupted = signalled;

    /* Equal are the subscribers of the largest class; those that were there all the time count. */
    size_t *members = mj_calloc(r->class_count, sizeof *members), largest = 0;
    for (size_t i = 0; i < r->count - r->cfg->stalled; i++)
        members[r->subs[i].class] += r->subs[i].state == LOAD_OPEN;
    for (size_t k = 0; k < r->class_count; k++)
        largest = members[k] > members[largest] ? k : largest;
    free(members);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < r->count; i++) {
        struct mj__load_sub *s = &r->subs[i];
        o->stalled_open += s->stalled && s->state == LOAD_OPEN;
        if (s->stalled)
            continue;
        o->missing += mj__load_settle(&mj__load_class_of(r, s)->log, &s->place);
        if (s->state != LOAD_OPEN || s->class != largest)
            continue;
        uint64_t n = s->events - s->window_events;
        o->fewest = !o->equal || n < o->fewest ? n : o->fewest;
        o->most = n > o->most ? n : o->most;
        sum += (double)n;
        squares += (double)n * (double)n;
        o->equal++;
    }
    if (o->equal) {
        o->mean = sum / (double)o->equal;
        o->deviation = sqrt(fmax(0, squares / (double)o->equal - o->mean * o->mean));
    }
    /* A replay is as fast as each one reads; and where all got what was asked for, all were fed. */
    bool live = !r->cfg->cursor && !(r->cfg->events && r->reached >= r->count - r->cfg->stalled);
    if (live && o->most >= 20 && o->seconds >= 1)
        for (size_t i = 0; i < r->count; i++)
            o->starved += !r->subs[i].stalled && r->subs[i].state == LOAD_OPEN &&
                          r->subs[i].class == largest &&
                          r->subs[i].events - r->subs[i].window_events < o->most / 2;
    for (size_t k = 0; k < r->class_count; k++) {
        const struct mj__load_class *c = &r->classes[k];
        if (c->from_scout)
            o->unlike +=
                mj__load_compare(&r->classes[0].log, &c->log, c->filter.dids, c->filter.did_count);
        if (c->log.inserts > MJ__LOAD_INSERTS_MAX)
            o->unlike += c->log.inserts;
    }
}

bool mj__load_passed(const struct mj__load_result *r)
{
    return r->events && !r->refused && !r->end_count && !r->duplicates && !r->disorder &&
           !r->missing && !r->wrong && !r->malformed && !r->unlike && !r->starved;
}

/* ---- preparations ---- */

/* Finds an address that answers; everybody then connects to it. */
static bool resolve(struct mj__load_run *r)
{
    const struct mj_url *u = &r->cfg->url;
    struct mj_dialed d;
    int fd = mj_dial(u->host, u->port, 10000), got;
    if (fd < 0) {
        fprintf(stderr, "moonjet load: %s\n", strerror(errno));
        return false;
    }
    while ((got = mj_dial_finish(fd, &d)) == MJ_EAGAIN && !signalled) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        poll(&p, 1, 1000);
    }
    close(fd);
    if (got || d.fd < 0) {
        fprintf(stderr, "moonjet load: %s:%d: %s\n", u->host, u->port, got ? "interrupted" : d.why);
        return false;
    }
    r->to_len = sizeof r->to;
    bool ok = getpeername(d.fd, (struct sockaddr *)&r->to, &r->to_len) == 0;
    close(d.fd);
    return ok;
}

static bool allow_descriptors(size_t n)
{
    struct rlimit l;
    getrlimit(RLIMIT_NOFILE, &l);
    if (l.rlim_cur < n + 64 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max < n + 64 ? l.rlim_max : n + 64;
        setrlimit(RLIMIT_NOFILE, &l);
    }
    if (l.rlim_cur >= n + 64)
        return true;
    fprintf(stderr,
            "moonjet load: %zu connections need as many descriptors, and this process may open "
            "%llu; raise that with `ulimit -n`\n",
            n, (unsigned long long)l.rlim_cur);
    return false;
}

static void prepare(struct mj__load_run *r)
{
    const struct mj__load_cfg *c = r->cfg;
    for (size_t k = 0; k < r->class_count; k++) {
        struct mj__load_class *class = &r->classes[k];
        r->weights += class->weight;
        class->log.want_packed = r->zmessage;
        class->log.want_dids = c->filters && k == 0;
    }
    if (!c->filters)
        return;
    r->did_want = c->filters * c->filter_dids;
    r->did_cap = 64;
    while (r->did_cap < 2 * r->did_want)
        r->did_cap *= 2;
    r->did_set = mj_calloc(r->did_cap, sizeof *r->did_set);
    r->scouting = true;
}

int mj__load_run(const struct mj__load_cfg *cfg, struct mj__load_class *classes, size_t count,
                 struct mj__load_result *out)
{
    struct mj__load_run r = {.cfg = cfg,
                             .classes = classes,
                             .class_count = count,
                             .result = out,
                             .count = cfg->subscribers + cfg->stalled,
                             .epoll = -1};
    int status = MJ_EXIT_FAILED;
    *out = (struct mj__load_result){0};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    signalled = 0;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    r.subs = mj_calloc(r.count, sizeof *r.subs);
    for (size_t i = 0; i < r.count; i++)
        r.subs[i].fd = r.subs[i].conn.fd = -1;
    r.rx = mj_alloc(LOAD_RX_BYTES);
    if (cfg->dictionary.len)
        r.zmessage = mj_zmessage_new(cfg->dictionary, LOAD_MESSAGE_MAX);
    r.tls = cfg->url.tls ? mj_conn_tls_new() : NULL;
    r.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (r.epoll >= 0 && (r.tls || !cfg->url.tls) && allow_descriptors(r.count) && resolve(&r)) {
        prepare(&r);
        r.start_us = r.shown_us = r.measured_us = mj_mono_us();
        r.measured_cpu = cpu_seconds();
        r.scout_end_us = r.start_us + SCOUT_US;
        serve(&r);
        if (cfg->progress)
            fprintf(stderr, "\r\033[K");
        conclude(&r);
        status = 0;
    }
    for (size_t i = 0; i < r.count; i++) {
        if (r.subs[i].state == LOAD_OPEN)
            mj__load_goodbye(&r.subs[i], 1000);
        if (r.subs[i].state != LOAD_IDLE && r.subs[i].state != LOAD_ENDED)
            mj__load_release(&r, &r.subs[i]);
    }
    if (r.epoll >= 0)
        close(r.epoll);
    mj_conn_tls_free(r.tls);
    mj_zmessage_free(r.zmessage);
    mj_buf_deinit(&r.did_texts);
    free(r.did_set);
    free(r.subs);
    free(r.rx);
    return status;
}
