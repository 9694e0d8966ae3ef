/* Reload of a running moonjet: by SIGHUP, `moonjet ctl reload`, or a file that changed (--watch).
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "cli/run.h"

#define DEBOUNCE_US INT64_C(100000)  /* editors write a file in several steps */
#define LOST_US     INT64_C(2000000) /* until a folder that went away is looked for again */
#define DIRS_MAX    256
#define EVENTS                                                                                     \
    (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_MOVE_SELF |         \
     IN_ONLYDIR)

static void watch_again(struct run *run, const struct mj_config *config);

/* ---- reload ---- */

bool run_is_named(const struct mj_strings *only, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    for (size_t i = 0; i < only->n; i++) {
        size_t n = strlen(only->v[i]);
        if (strcmp(only->v[i], path) == 0 || strcmp(only->v[i], name) == 0 ||
            (strncmp(name, only->v[i], n) == 0 && strcmp(name + n, ".lua") == 0))
            return true;
    }
    return false;
}

/* The first of the names that no script has, or NULL. */
static const char *unknown_name(const struct mj_strings *only, const struct mj_config *config)
{
    for (size_t i = 0; i < only->n; i++) {
        const struct mj_strings one = {.v = {only->v[i]}, .n = 1};
        bool found = false;
        for (size_t k = 0; k < config->script_count && !found; k++)
            found = run_is_named(&one, config->scripts[k]->path);
        if (!found)
            return only->v[i];
    }
    return NULL;
}

static void log_lines(enum mj_log_level level, const struct mj_buf *text, size_t from)
{
    struct mj_span rest = mj_span(text->ptr + from, text->len - from);
    while (rest.len) {
        const uint8_t *end = memchr(rest.ptr, '\n', rest.len);
        size_t n = end ? (size_t)(end - rest.ptr) : rest.len;
        mj_log(level, "reload", "%.*s", (int)n, (const char *)rest.ptr);
        rest = mj_span(rest.ptr + n + (end != NULL), rest.len - n - (end != NULL));
    }
}

static void add_fed(void *ctx, struct mj_scripts *scripts) { mj_scripts_fed(scripts, ctx); }

/* The streams that scripts feed, in lanes or not. */
static void put_fed(struct run *run, struct mj_buf *out)
{
    mj_scripts_fed(run->scripts, out);
    run_each_lane(run, add_fed, out);
}

static int reload_scripts(struct run *run, const struct mj_config *config, bool all,
                          const struct mj_strings *only, struct mj_buf *report)
{
    struct mj_reload result;
    MJ_AUTO_BUF error = {0};
    if (run_allow(run->net, config, &error) || run_give_sets(run, config, &error)) {
        mj_buf_printf(report, "%s; the scripts stay as they were\n", mj_buf_cstr(&error));
        return MJ_EINVAL;
    }
    struct mj_script_spec *specs = mj_calloc(config->script_count + 1, sizeof *specs);
    size_t n = 0;
    for (size_t i = 0; i < config->script_count; i++) {
        const struct mj_config_script *s = config->scripts[i];
        if (s->lane == MJ_LANE_OWN)
            continue;
        specs[n++] =
            (struct mj_script_spec){.path = s->path,
                                    .cfg = &s->cfg,
                                    .keep = only && only->n && !run_is_named(only, s->path),
                                    .revive = !run->watch_asked};
    }
    MJ_AUTO_BUF before = {0};
    MJ_AUTO_BUF now = {0};
    put_fed(run, &before);
    run_drop_lanes(run, config, report);
    int err = mj_scripts_reload(run->scripts, specs, n, all, &result, report);
    int lanes = run_reload_lanes(run, config, all, only, report);
    put_fed(run, &now);
    mj_reload_unfed(mj_buf_span(&before), mj_buf_span(&now), report);
    free(specs);
    return err ? err : lanes;
}

/* `from`: where the report begins to be about what was done. */
static void told(int err, struct mj_buf *report, size_t from)
{
    log_lines(err ? MJ_LOG_ERROR : MJ_LOG_INFO, report, from);
    if (report->len == from)
        mj_buf_puts(report, "nothing has changed\n");
    mj_metric_add(mj_metric("moonjet_reloads_total", MJ_COUNTER, "Reloads, by how they ended.",
                            "result=\"%s\"", err ? "failed" : "ok"),
                  1);
}

int run_reload(struct run *run, bool all, const struct mj_strings *only, struct mj_buf *report)
{
    struct mj_config config;
    MJ_AUTO_BUF notes = {0};
    size_t from = report->len;
    int err = run_read_again(run->settings, &config, &notes, report);
    if (err) {
        mj_buf_puts(report, "; everything stays as it was\n");
        told(err, report, from);
        watch_again(run, NULL);
        return err;
    }
    log_lines(MJ_LOG_WARN, &notes, 0);
    mj_buf_put(report, notes.ptr, notes.len);
    from = report->len;
    const char *unknown = only ? unknown_name(only, &config) : NULL;
    if (unknown) {
        mj_buf_printf(report, "no script '%s'; moonjet ctl scripts lists them\n", unknown);
        err = MJ_ENOENT;
    } else {
        err = reload_scripts(run, &config, all, only, report);
        told(err, report, from);
    }
    watch_again(run, &config);
    mj_config_deinit(&config);
    run_scripts(run);
    return err;
}

/* ---- files that change ---- */

struct run_watcher {
    struct run *run;        /* borrowed */
    int fd;                 /* the watch's */
    struct mj_watch *watch; /* owned */
    struct mj_timer *timer; /* owned */
    int dirs[DIRS_MAX];     /* inotify's numbers */
    size_t count;
    bool full;
    /* Owned: what the configuration named when it could last be read, the scripts and the files of
     * sets. Some of it may not be there, or not have loaded. */
    char **named;
    size_t named_count;
};

static void name(struct run_watcher *w, const char *path)
{
    w->named = mj_realloc(w->named, (w->named_count + 1) * sizeof *w->named);
    w->named[w->named_count++] = mj_strdup(path);
}

static void forget_names(struct run_watcher *w)
{
    while (w->named_count)
        free(w->named[--w->named_count]);
    free(w->named);
    w->named = NULL;
}

/* Adding a folder that is watched gives the same number. */
static void watch_folder_of(struct run_watcher *w, const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(dir, sizeof dir, "%.*s",
             slash == path ? 1
             : slash       ? (int)(slash - path)
                           : 1,
             slash ? path : ".");
    int number = inotify_add_watch(w->fd, dir, EVENTS);
    for (size_t i = 0; i < w->count; i++)
        if (w->dirs[i] == number)
            return;
    if (number < 0) {
        if (errno != ENOENT) /* the reload says of what should be in it that it is not there */
            mj_log(MJ_LOG_WARN, "reload", "cannot watch %s: %s", dir,
                   errno == ENOSPC ? "too many watches; raise fs.inotify.max_user_watches"
                                   : strerror(errno));
        mj_timer_set(w->timer, LOST_US);
    } else if (w->count == DIRS_MAX) {
        if (!w->full)
            mj_log(MJ_LOG_WARN, "reload", "only the first %d folders of scripts are watched",
                   DIRS_MAX);
        w->full = true;
        inotify_rm_watch(w->fd, number);
    } else {
        w->dirs[w->count++] = number;
    }
}

/* And that of the file itself, where the path is a link. */
static void watch_folder(void *ctx, const char *path)
{
    char real[PATH_MAX];
    watch_folder_of(ctx, path);
    if (realpath(path, real))
        watch_folder_of(ctx, real);
}

static void on_change(void *ctx)
{
    struct run_watcher *w = ctx;
    MJ_AUTO_BUF report = {0};
    watch_again(w->run, NULL); /* before files are read: what is saved from now on is seen */
    w->run->watch_asked = true;
    run_reload(w->run, false, NULL, &report);
    w->run->watch_asked = false;
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

struct wanted {
    const char *name;
    bool found;
};

static void compare(void *ctx, const char *path)
{
    struct wanted *want = ctx;
    const char *slash = strrchr(path, '/');
    want->found |= strcmp(slash ? slash + 1 : path, want->name) == 0;
}

static void compare_lane(void *ctx, struct mj_scripts *scripts)
{
    mj_scripts_files(scripts, compare, ctx);
}

/* Editors leave all kinds of files beside the one they edit. What matters is Lua, or the file of a
 * set; whether it really changed is decided by its contents. */
static bool matters(const struct run_watcher *w, const struct inotify_event *e)
{
    if (e->mask & (IN_IGNORED | IN_Q_OVERFLOW | IN_MOVE_SELF))
        return true;
    if (!e->len)
        return false;
    struct wanted want = {e->name, ends_with(e->name, ".lua")};
    mj_scripts_files(w->run->scripts, compare, &want);
    run_each_lane(w->run, compare_lane, &want);
    for (size_t i = 0; i < w->named_count; i++)
        compare(&want, w->named[i]);
    return want.found;
}

static void on_readable(void *ctx)
{
    struct run_watcher *w = ctx;
    _Alignas(struct inotify_event) char bytes[16384];
    bool change = false;
    ssize_t n;
    while ((n = read(w->fd, bytes, sizeof bytes)) > 0)
        for (char *p = bytes; p < bytes + n;) {
            const struct inotify_event *e = (const struct inotify_event *)p;
            change |= matters(w, e);
            if (e->mask & IN_MOVE_SELF) /* another folder may have its name now */
                inotify_rm_watch(w->fd, e->wd);
            for (size_t i = 0; e->mask & IN_IGNORED && i < w->count; i++)
                if (w->dirs[i] == e->wd)
                    w->dirs[i--] = w->dirs[--w->count];
            p += sizeof *e + e->len;
        }
    if (change)
        mj_timer_set(w->timer, DEBOUNCE_US);
}

static void watch_lane(void *ctx, struct mj_scripts *scripts)
{
    mj_scripts_files(scripts, watch_folder, ctx);
}

/* config: as it is now; NULL when it cannot be read. Nothing without --watch. */
static void watch_again(struct run *run, const struct mj_config *config)
{
    struct run_watcher *w = run->watcher;
    if (!w)
        return;
    if (config)
        forget_names(w);
    for (size_t i = 0; config && i < config->script_count; i++)
        name(w, config->scripts[i]->path);
    for (size_t i = 0; config && i < config->set_count; i++)
        if (config->sets[i].file)
            name(w, config->sets[i].file);
    mj_scripts_files(run->scripts, watch_folder, w);
    run_each_lane(run, watch_lane, w);
    for (size_t i = 0; i < w->named_count; i++)
        watch_folder(w, w->named[i]);
    if (run->settings->path)
        watch_folder(w, run->settings->path);
}

int run_watch(struct run *run)
{
    static const struct mj_watch_fns fns = {.readable = on_readable};
    struct run_watcher *w = mj_calloc(1, sizeof *w);
    w->run = run;
    w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    w->watch = w->fd < 0 ? NULL : mj_watch_new(run->loop, w->fd, &fns, w);
    if (!w->watch) {
        fprintf(stderr, "moonjet run: --watch: %s\n", strerror(errno));
        if (w->fd >= 0)
            close(w->fd);
        free(w);
        return MJ_EXIT_FAILED;
    }
    w->timer = mj_timer_new(run->loop, on_change, w);
    run->watcher = w;
    watch_again(run, &run->settings->file);
    return 0;
}

void run_unwatch(struct run *run)
{
    struct run_watcher *w = run->watcher;
    if (!w)
        return;
    mj_watch_close(w->watch);
    mj_timer_free(w->timer);
    forget_names(w);
    free(w);
    run->watcher = NULL;
}
