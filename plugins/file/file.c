/* Events as JSON lines in a file that is rotated by size:
 *
 *   posts.jsonl ─▶ posts.jsonl.1 ─▶ posts.jsonl.2 ─▶ … ─▶ gone
 *
 * The model of a plug-in in C: an options table, a state, three functions, no linkage but the one
 * symbol. A line is written whole or not at all: what a full disk cut is taken back, and the events
 * come again. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "moonjet.h"

#define LINES 256 /* per write */

struct cfg {
    const char *path;
    int64_t rotate, keep;
    int sync;
};

static const struct mj_plugin_option options[] = {
    {"path", MJ_PLUGIN_TEXT, offsetof(struct cfg, path), NULL, "the file to append to"},
    {"rotate", MJ_PLUGIN_SIZE, offsetof(struct cfg, rotate), "64M",
     "start a new file at that size; 0: never"},
    {"keep", MJ_PLUGIN_INTEGER, offsetof(struct cfg, keep), "5", "older files to keep, 1 to 1000"},
    {"sync", MJ_PLUGIN_FLAG, offsetof(struct cfg, sync), "false",
     "wait for the disk after each write"},
    {0}};

struct file {
    const struct mj_plugin_host *host; /* borrowed */
    const struct cfg *cfg;             /* borrowed */
    int fd;
    int64_t size;
};

static void say(struct file *f, enum mj_plugin_level level, const char *what)
{
    char text[600];
    snprintf(text, sizeof text, "%.300s: %s: %s", f->cfg->path, what, strerror(errno));
    f->host->log(f->host->self, level, text);
}

static int open_file(struct file *f)
{
    struct stat st;
    f->fd = open(f->cfg->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (f->fd < 0 || fstat(f->fd, &st)) {
        say(f, MJ_PLUGIN_ERROR, "cannot open");
        return -1;
    }
    f->size = st.st_size;
    return 0;
}

static int on_init(const struct mj_plugin_host *host, const void *cfg, void **state)
{
    struct file *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    *f = (struct file){.host = host, .cfg = cfg, .fd = -1};
    if (f->cfg->keep < 1 || f->cfg->keep > 1000 || f->cfg->rotate < 0) {
        host->log(host->self, MJ_PLUGIN_ERROR, "keep is 1 to 1000, rotate a size");
        free(f);
        return -1;
    }
    if (open_file(f)) {
        if (f->fd >= 0)
            close(f->fd);
        free(f);
        return -1;
    }
    *state = f;
    return 0;
}

/* path.1 becomes path.2 and so on; the last one goes. */
static int rotate(struct file *f)
{
    size_t room = strlen(f->cfg->path) + 8;
    char *from = malloc(2 * room), *to = from ? from + room : NULL;
    if (!from)
        return -1;
    for (int64_t i = f->cfg->keep - 1; i >= 0; i--) {
        snprintf(to, room, "%s.%d", f->cfg->path, (int)i + 1);
        if (i)
            snprintf(from, room, "%s.%d", f->cfg->path, (int)i);
        if (rename(i ? from : f->cfg->path, to) && errno != ENOENT) {
            say(f, MJ_PLUGIN_ERROR, "cannot rename");
            free(from);
            return -1;
        }
    }
    free(from);
    close(f->fd);
    f->fd = -1;
    return open_file(f);
}

static int deliver(struct file *f, const struct mj_plugin_event *events, size_t n)
{
    struct iovec lines[2 * LINES];
    int64_t bytes = 0;
    size_t taken = 0;
    if (f->fd < 0 && open_file(f))
        return MJ_PLUGIN_AGAIN;
    for (; taken < n && taken < LINES; taken++) {
        int64_t more = (int64_t)events[taken].len + 1;
        if (taken && f->cfg->rotate && f->size + bytes + more > f->cfg->rotate)
            break;
        lines[2 * taken] = (struct iovec){(void *)events[taken].json, events[taken].len};
        lines[2 * taken + 1] = (struct iovec){(void *)"\n", 1};
        bytes += more;
    }
    if (f->cfg->rotate && f->size && f->size + bytes > f->cfg->rotate && rotate(f))
        return MJ_PLUGIN_AGAIN;
    ssize_t written = writev(f->fd, lines, (int)(2 * taken));
    if (written != bytes) {
        if (written >= 0)
            errno = ENOSPC;
        say(f, MJ_PLUGIN_ERROR, "cannot write; trying again");
        if (written > 0 && ftruncate(f->fd, f->size))
            say(f, MJ_PLUGIN_ERROR, "cannot take back half a line");
        return MJ_PLUGIN_AGAIN;
    }
    if (f->cfg->sync && fdatasync(f->fd)) {
        say(f, MJ_PLUGIN_ERROR, "cannot sync");
        f->size += bytes;
        return (int)taken;
    }
    f->size += bytes;
    return (int)taken;
}

static int on_deliver(void *state, const struct mj_plugin_event *events, size_t n)
{
    struct file *f = state;
    struct stat there, ours;
    /* Somebody else may rotate, too: follow the name once a second. */
    if (!n && f->fd >= 0 && fstat(f->fd, &ours) == 0 &&
        (stat(f->cfg->path, &there) || there.st_ino != ours.st_ino)) {
        close(f->fd);
        f->fd = -1;
    }
    return n ? deliver(f, events, n) : 0;
}

static void on_deinit(void *state)
{
    struct file *f = state;
    if (f->fd >= 0)
        close(f->fd);
    free(f);
}

__attribute__((visibility("default"))) const struct mj_plugin moonjet_plugin = {
    MJ_PLUGIN_HEAD,
    .name = "file",
    .help = "Events as JSON lines in a file that is rotated by size.",
    .options = options,
    .cfg_size = sizeof(struct cfg),
    .init = on_init,
    .deliver = on_deliver,
    .deinit = on_deinit};
