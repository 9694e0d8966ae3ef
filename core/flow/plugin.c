#include "flow/plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/metrics.h"
#include "event/jetstream.h"
#include "flow/ring.h"
#include "journal/reader.h"
#include "moonjet.h"

#ifndef MOONJET_PLUGIN_DIR
#define MOONJET_PLUGIN_DIR "/usr/local/lib/moonjet/plugins"
#endif

#define RING_BYTES (4u << 20)
#define BATCH      256
#define TICK_US    INT64_C(1000000) /* between two calls of deliver() without events */
#define AGAIN_MIN  INT64_C(10000)
#define AGAIN_MAX  INT64_C(1000000)
#define TEXTS_MAX  64 /* options of one plug-in */

/* A reader that a sink owns. */
struct inlet {
    struct mj_sink *sink;     /* borrowed */
    struct mj_reader *reader; /* borrowed */
    struct inlet *next;
};

struct mj_sink {
    const struct mj_plugin *plugin; /* borrowed from the library */
    void *library;                  /* owned; NULL for one in Lua */
    char *script;                   /* owned */
    struct mj_plugin_host host;
    void *cfg;              /* owned */
    char *texts[TEXTS_MAX]; /* owned: values of text options */
    bool given[TEXTS_MAX];
    void *state; /* the plug-in's */
    struct mj_ring ring;
    _Atomic(struct inlet *) inlets; /* owned list; only the scripts' thread adds, at the front */
    struct mj_view view;            /* the thread's; journal NULL: not yet */
    struct mj_buf json;
    struct mj_log_gate gate;
    bool started;
    _Atomic int64_t give_up_us; /* monotonic: when draining ends; 0 while running */
    struct mj_metric *delivered, *full, *failed, *left;
};

static struct mj_strings extra_dirs; /* its texts are borrowed */

static pthread_mutex_t threads_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t threads_gone = PTHREAD_COND_INITIALIZER;
static size_t threads; /* of sinks, running or ending */
static bool abandoned; /* those that are left must touch nothing any more */

void mj_plugins_dirs(const struct mj_strings *dirs) { extra_dirs = *dirs; }

static bool name_valid(const char *name)
{
    size_t len = strlen(name);
    return len && len <= 64 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

static bool exists(const char *dir, const char *name, const char *file, struct mj_buf *out)
{
    out->len = 0;
    mj_buf_printf(out, "%s/%s/%s", dir, name, file);
    return access(mj_buf_cstr(out), R_OK) == 0;
}

/* DIR/NAME/FILE in the first directory that has it. */
static int find(const char *name, const char *file, struct mj_buf *out)
{
    if (!name_valid(name))
        return MJ_ENOENT;
    for (size_t i = 0; i < extra_dirs.n; i++)
        if (exists(extra_dirs.v[i], name, file, out))
            return 0;
    /* As built; and as installed, below whichever prefix. */
    static const char *const beside[] = {"/plugins", "/../lib/moonjet/plugins"};
    char self[PATH_MAX];
    for (size_t i = 0; i < MJ_COUNT(beside); i++) {
        ssize_t n = readlink("/proc/self/exe", self, sizeof self - strlen(beside[i]) - 1);
        if (n <= 0)
            break;
        self[n] = 0;
        char *slash = strrchr(self, '/');
        strcpy(slash ? slash : self, beside[i]);
        if (exists(self, name, file, out))
            return 0;
    }
    return exists(MOONJET_PLUGIN_DIR, name, file, out) ? 0 : MJ_ENOENT;
}

int mj_plugin_lua(const char *name, struct mj_buf *out) { return find(name, "init.lua", out); }

static void on_log(void *self, enum mj_plugin_level level, const char *text)
{
    struct mj_sink *s = self;
    static const enum mj_log_level levels[] = {MJ_LOG_DEBUG, MJ_LOG_INFO, MJ_LOG_WARN,
                                               MJ_LOG_ERROR};
    mj_log_limited(&s->gate, 10, levels[level <= MJ_PLUGIN_ERROR ? level : MJ_PLUGIN_ERROR],
                   s->plugin->name, "%s: %.1000s", s->script, text);
}

static size_t option_count(const struct mj_plugin *p)
{
    size_t n = 0;
    while (p->options && p->options[n].name)
        n++;
    return n;
}

static int check_plugin(const struct mj_plugin *p, const char *path, struct mj_buf *error)
{
    if (p->abi != MJ_PLUGIN_ABI) {
        mj_buf_printf(error, "%s: made for version %u of the plug-in interface, this is version %u",
                      path, p->abi, MJ_PLUGIN_ABI);
        return MJ_EINVAL;
    }
    if (p->size < sizeof *p || !p->name || !p->init || !p->deliver || !p->deinit ||
        option_count(p) > TEXTS_MAX) {
        mj_buf_printf(error, "%s: its descriptor is not complete", path);
        return MJ_EINVAL;
    }
    return 0;
}

int mj_sink_new(const char *name, const char *script, struct mj_sink **out, struct mj_buf *error)
{
    MJ_AUTO_BUF path = {0};
    MJ_AUTO_BUF file = {0};
    mj_buf_printf(&file, "%s.so", name);
    *out = NULL;
    if (find(name, mj_buf_cstr(&file), &path)) {
        mj_buf_printf(
            error, "there is no plug-in '%.80s'; --plugins DIR adds a directory to look in", name);
        return MJ_ENOENT;
    }
    void *library = dlopen(mj_buf_cstr(&path), RTLD_NOW | RTLD_LOCAL);
    const struct mj_plugin *plugin = library ? dlsym(library, "moonjet_plugin") : NULL;
    if (!plugin) {
        mj_buf_printf(error, "%s", dlerror());
        if (library)
            dlclose(library);
        return MJ_EINVAL;
    }
    int err = check_plugin(plugin, mj_buf_cstr(&path), error);
    if (err) {
        dlclose(library);
        return err;
    }
    struct mj_sink *s = mj_calloc(1, sizeof *s);
    s->plugin = plugin;
    s->library = library;
    s->script = mj_strdup(script);
    s->cfg = mj_calloc(1, plugin->cfg_size ? plugin->cfg_size : 1);
    s->host = (struct mj_plugin_host){.abi = MJ_PLUGIN_ABI,
                                      .size = sizeof s->host,
                                      .self = s,
                                      .log = on_log,
                                      .script = s->script};
    for (size_t i = 0; i < option_count(plugin); i++) {
        const struct mj_plugin_option *o = &plugin->options[i];
        if (o->def && (err = mj_sink_set(s, o->name, mj_str(o->def), error))) {
            mj_sink_stop(s, 0);
            return err;
        }
        s->given[i] = o->def != NULL;
    }
    *out = s;
    return 0;
}

static int set_value(struct mj_sink *s, size_t i, const char *text)
{
    /* The table that command lines use knows the same types, and how people write them. */
    static const enum mj_opt_type types[] = {MJ_OPT_STR, MJ_OPT_FLAG, MJ_OPT_INT, MJ_OPT_SIZE,
                                             MJ_OPT_TIME};
    const struct mj_plugin_option *o = &s->plugin->options[i];
    char *at = (char *)s->cfg + o->offset;
    bool flag = false;
    if (o->type == MJ_PLUGIN_TEXT) {
        free(s->texts[i]);
        s->texts[i] = mj_strdup(text);
        memcpy(at, &s->texts[i], sizeof s->texts[i]);
        return 0;
    }
    const struct mj_option type = {.name = o->name, .type = types[o->type]};
    MJ_AUTO_BUF ignored = {0};
    int err = mj_option_set(&type, o->type == MJ_PLUGIN_FLAG ? &flag : (void *)at, text, &ignored);
    if (!err && o->type == MJ_PLUGIN_FLAG) {
        int yes = flag;
        memcpy(at, &yes, sizeof yes);
    }
    return err;
}

int mj_sink_set(struct mj_sink *s, const char *name, struct mj_span value, struct mj_buf *error)
{
    static const char *const expected[] = {"a text", "true or false", "a whole number",
                                           "a size such as 64M", "a duration such as 90s"};
    const char *names[TEXTS_MAX];
    size_t n = option_count(s->plugin);
    for (size_t i = 0; i < n; i++) {
        const struct mj_plugin_option *o = &s->plugin->options[i];
        names[i] = o->name;
        if (strcmp(o->name, name))
            continue;
        MJ_AUTO_FREE char *text = mj_span_dup(value);
        if (strlen(text) == value.len && o->type <= MJ_PLUGIN_DURATION && !set_value(s, i, text)) {
            s->given[i] = true;
            return 0;
        }
        mj_buf_printf(error, "%s: %s = '%.80s': expected %s", s->plugin->name, name, text,
                      expected[o->type <= MJ_PLUGIN_DURATION ? o->type : 0]);
        return MJ_EINVAL;
    }
    const char *near = mj_closest(name, names, n);
    mj_buf_printf(error, "%s has no option '%.80s'", s->plugin->name, name);
    if (near)
        mj_buf_printf(error, "; did you mean '%s'?", near);
    return MJ_EINVAL;
}

int mj_sink_check(const struct mj_sink *s, struct mj_buf *error)
{
    for (size_t i = 0; i < option_count(s->plugin); i++) {
        const struct mj_plugin_option *o = &s->plugin->options[i];
        if (s->given[i])
            continue;
        mj_buf_printf(error, "%s needs '%s': %s", s->plugin->name, o->name, o->help ? o->help : "");
        return MJ_EINVAL;
    }
    return 0;
}

static void sink_free(struct mj_sink *s)
{
    mj_ring_deinit(&s->ring);
    mj_buf_deinit(&s->json);
    for (size_t i = 0; i < TEXTS_MAX; i++)
        free(s->texts[i]);
    free(s->cfg);
    free(s->script);
    dlclose(s->library);
    free(s);
}

/* After MJ_PLUGIN_AGAIN: longer each time, but not past the end of draining. */
static void pause_before_again(struct mj_sink *s, int64_t *pause)
{
    *pause = *pause ? *pause * 2 : AGAIN_MIN;
    if (*pause > AGAIN_MAX)
        *pause = AGAIN_MAX;
    for (int64_t until = mj_mono_us() + *pause; mj_mono_us() < until;) {
        int64_t give_up = atomic_load(&s->give_up_us);
        if (give_up && mj_mono_us() >= give_up)
            return;
        usleep(AGAIN_MIN);
    }
}

/* A plug-in that hangs may come back when the readers and the journal are gone. Under the lock, so
 * that nobody goes on while they go. */
static void lock_or_end(void)
{
    pthread_mutex_lock(&threads_lock);
    if (abandoned) {
        pthread_mutex_unlock(&threads_lock);
        pthread_exit(NULL);
    }
}

static void unlock(void) { pthread_mutex_unlock(&threads_lock); }

/* What became of the parcel, of which the plug-in has taken the first `done`. */
static void settle(struct mj_sink *s, struct mj_parcel *p, size_t done, int result)
{
    bool failed[BATCH];
    struct mj_failure f = {.what = result == MJ_PLUGIN_AGAIN ? MJ_FAIL_RETRY : MJ_FAIL_DEAD,
                           .reason = result == MJ_PLUGIN_AGAIN
                                         ? "the plug-in asks to be asked again"
                                         : "the plug-in cannot take it",
                           .failed = failed};
    for (size_t i = 0; i < p->n; i++)
        failed[i] = i >= done;
    mj_metric_add(s->delivered, (int64_t)done);
    if (done < p->n && result != MJ_PLUGIN_AGAIN)
        mj_metric_add(s->failed, (int64_t)(p->n - done));
    if (done == p->n)
        mj_parcel_done(p, mj_now_us(), 0);
    else
        mj_parcel_fail(p, mj_now_us(), &f);
}

/* Delivers one parcel of each reader. False when there was none; then *wait_us may be made less. */
static bool deliver_parcels(struct mj_sink *s, int64_t *wait_us)
{
    struct mj_plugin_event events[BATCH];
    bool any = false;
    for (struct inlet *in = atomic_load(&s->inlets); in; in = in->next) {
        int64_t again;
        lock_or_end();
        if (s->view.journal)
            mj_view_refresh(&s->view);
        else
            mj_view_init(&s->view, mj_reader_journal(in->reader));
        struct mj_parcel *p = mj_reader_take(in->reader, in, &s->view, mj_now_us(), &again);
        unlock();
        if (!p && again >= 0 && again < *wait_us)
            *wait_us = again;
        if (!p)
            continue;
        any = true;
        for (size_t i = 0; i < p->n; i++)
            events[i] = (struct mj_plugin_event){(const char *)p->items[i].json.ptr,
                                                 p->items[i].json.len, p->items[i].time_us};
        size_t done = 0;
        int took = 1;
        while (done < p->n && (took = s->plugin->deliver(s->state, events + done, p->n - done)) > 0)
            done += (size_t)took < p->n - done ? (size_t)took : p->n - done;
        lock_or_end();
        settle(s, p, done, took ? took : MJ_PLUGIN_AGAIN);
        unlock();
    }
    return any;
}

static void let_go(struct mj_sink *s)
{
    lock_or_end();
    for (struct inlet *in = atomic_load(&s->inlets), *next; in; in = next) {
        next = in->next;
        mj_reader_disown(in->reader, in);
        free(in);
    }
    if (s->view.journal)
        mj_view_deinit(&s->view);
    unlock();
}

static void *run(void *arg)
{
    struct mj_sink *s = arg;
    struct mj_ring_item items[BATCH];
    struct mj_plugin_event events[BATCH];
    int64_t pause = 0, called = mj_mono_us();
    for (;;) {
        int64_t wait = TICK_US;
        bool busy = !mj_ring_ended(&s->ring) && deliver_parcels(s, &wait);
        size_t n = mj_ring_get(&s->ring, items, BATCH, busy ? 0 : wait);
        /* Under the ring's lock: mj_sink_stop() is done with the sink then. */
        if (mj_ring_ended(&s->ring) && (!n || mj_mono_us() >= atomic_load(&s->give_up_us)))
            break;
        if (!n && (busy || mj_mono_us() < called + TICK_US))
            continue;
        called = mj_mono_us();
        for (size_t i = 0; i < n; i++)
            events[i] = (struct mj_plugin_event){(const char *)items[i].text.ptr, items[i].text.len,
                                                 items[i].tag};
        int took = s->plugin->deliver(s->state, events, n);
        if (took == MJ_PLUGIN_AGAIN || (n && !took)) {
            pause_before_again(s, &pause);
            continue;
        }
        pause = 0;
        size_t done = took < 0 ? n : (size_t)took < n ? (size_t)took : n;
        mj_metric_add(took < 0 ? s->failed : s->delivered, (int64_t)done);
        mj_ring_done(&s->ring, items, done);
    }
    for (size_t n; (n = mj_ring_get(&s->ring, items, BATCH, 0));) {
        mj_metric_add(s->left, (int64_t)n);
        mj_ring_done(&s->ring, items, n);
    }
    let_go(s);
    s->plugin->deinit(s->state);
    sink_free(s);
    pthread_mutex_lock(&threads_lock);
    threads--;
    pthread_cond_broadcast(&threads_gone);
    pthread_mutex_unlock(&threads_lock);
    return NULL;
}

/* On any thread. */
static void on_news(void *ctx) { mj_ring_poke(&((struct inlet *)ctx)->sink->ring); }

void mj_sink_read(struct mj_sink *s, struct mj_reader *reader, const struct mj_owner_cfg *cfg)
{
    struct inlet *in = mj_alloc(sizeof *in);
    *in = (struct inlet){s, reader, atomic_load(&s->inlets)};
    struct mj_owner_cfg own = *cfg;
    own.order = MJ_ORDER_TOTAL;
    own.workers = 1;
    own.max = !own.max || own.max > BATCH ? BATCH : own.max;
    own.retry = (struct mj_retry){.min_us = AGAIN_MIN, .max_us = AGAIN_MAX};
    own.wake = on_news;
    own.ctx = in;
    atomic_store(&s->inlets, in);
    mj_reader_own(reader, &own);
    on_news(in);
}

bool mj_sink_reads(struct mj_sink *s, const struct mj_reader *reader)
{
    const struct inlet *in = atomic_load(&s->inlets);
    while (in && in->reader != reader)
        in = in->next;
    return in != NULL;
}

static struct mj_metric *dropped(const struct mj_sink *s, const char *script, const char *reason)
{
    return mj_metric("moonjet_sink_dropped_total", MJ_COUNTER,
                     "Events a plug-in did not get, by reason.",
                     "script=\"%s\",plugin=\"%s\",reason=\"%s\"", script, s->plugin->name, reason);
}

int mj_sink_start(struct mj_sink *s, struct mj_buf *error)
{
    char script[256];
    mj_metric_label(mj_str(s->script), script, sizeof script);
    s->delivered = mj_metric("moonjet_sink_events_total", MJ_COUNTER, "Events a plug-in has taken.",
                             "script=\"%s\",plugin=\"%s\"", script, s->plugin->name);
    s->full = dropped(s, script, "full");
    s->failed = dropped(s, script, "failed");
    s->left = dropped(s, script, "stopped");
    if (mj_ring_init(&s->ring, RING_BYTES)) {
        mj_buf_printf(error, "%s: no memory for the events of plug-in %s", s->script,
                      s->plugin->name);
        return MJ_EIO;
    }
    if (s->plugin->init(&s->host, s->cfg, &s->state)) {
        mj_buf_printf(error, "%s: plug-in %s does not start; the log says why", s->script,
                      s->plugin->name);
        return MJ_EIO;
    }
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_mutex_lock(&threads_lock);
    pthread_t thread;
    bool failed = pthread_create(&thread, &attr, run, s) != 0;
    threads += !failed;
    pthread_mutex_unlock(&threads_lock);
    pthread_attr_destroy(&attr);
    if (failed) {
        s->plugin->deinit(s->state);
        mj_buf_printf(error, "%s: no thread for plug-in %s", s->script, s->plugin->name);
        return MJ_EIO;
    }
    s->started = true;
    return 0;
}

int mj_sink_push(struct mj_sink *s, const struct mj_event *ev)
{
    s->json.len = 0;
    int err = mj_jetstream_encode(ev, NULL, &s->json);
    if (err) {
        mj_metric_add(s->failed, 1);
        return err;
    }
    err = mj_ring_put(&s->ring, mj_buf_span(&s->json), ev->time_us);
    if (err) {
        mj_metric_add(s->full, 1);
        mj_log_limited(&s->gate, 1, MJ_LOG_WARN, s->plugin->name,
                       "%s: events come faster than they go; dropping", s->script);
    }
    return err;
}

void mj_sink_stop(struct mj_sink *s, int64_t drain_us)
{
    if (!s)
        return;
    if (!s->started) {
        sink_free(s);
        return;
    }
    atomic_store(&s->give_up_us, mj_mono_us() + (drain_us > 0 ? drain_us : 1));
    mj_ring_end(&s->ring); /* the thread may free it from here on */
}

bool mj_sinks_wait(int64_t wait_us)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t ns = t.tv_nsec + wait_us % 1000000 * 1000;
    t.tv_sec += (time_t)(wait_us / 1000000 + ns / 1000000000);
    t.tv_nsec = (long)(ns % 1000000000);
    pthread_mutex_lock(&threads_lock);
    while (threads && !pthread_cond_clockwait(&threads_gone, &threads_lock, CLOCK_MONOTONIC, &t))
        ;
    bool gone = !threads;
    abandoned = !gone;
    pthread_mutex_unlock(&threads_lock);
    return gone;
}
