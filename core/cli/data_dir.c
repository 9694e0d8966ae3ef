#include "cli/data_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

static char *join(const char *dir, const char *name)
{
    struct mj_buf b = {0};
    mj_buf_printf(&b, "%s/%s", dir, name);
    mj_buf_cstr(&b);
    return (char *)b.ptr;
}

/* mkdir -p, for the owner alone. */
static int make_dirs(const char *path)
{
    char *p MJ_AUTO_FREE = mj_strdup(path);
    for (char *slash = p + 1; *slash; slash++) {
        if (*slash != '/')
            continue;
        *slash = '\0';
        if (mkdir(p, 0700) && errno != EEXIST)
            return MJ_EIO;
        *slash = '/';
    }
    return mkdir(p, 0700) && errno != EEXIST ? MJ_EIO : 0;
}

static int read_cursors(struct mj_data_dir *d, struct mj_buf *error)
{
    char *name MJ_AUTO_FREE = join(d->path, "cursors");
    FILE *f = fopen(name, "re");
    if (!f && errno == ENOENT)
        return 0;
    if (!f) {
        mj_buf_printf(error, "%s: %s", name, strerror(errno));
        return MJ_EIO;
    }
    char line[4096];
    int number = 0, err = 0;
    while (!err && fgets(line, sizeof line, f)) {
        number++;
        size_t n = strcspn(line, "\n");
        char *blank = memchr(line, ' ', n);
        int64_t seq;
        if (line[n] != '\n' || !blank || mj_span_i64(mj_span(line, (size_t)(blank - line)), &seq) ||
            seq < 0) {
            mj_buf_printf(error,
                          "%s:%d: expected `seq URL`; remove the line (its source then starts "
                          "live) or name a start with --cursor",
                          name, number);
            err = MJ_ESYNTAX;
        } else {
            line[n] = '\0';
            mj_data_dir_set(d, blank + 1, seq);
        }
    }
    if (ferror(f)) {
        mj_buf_printf(error, "%s: read error", name);
        err = MJ_EIO;
    }
    fclose(f);
    return err;
}

int mj_data_dir_open(struct mj_data_dir *d, const char *path, struct mj_buf *error)
{
    *d = (struct mj_data_dir){.lock = -1};
    if (!path || !*path)
        return 0;
    int err = MJ_EIO;
    char *name MJ_AUTO_FREE = join(path, "lock");
    d->path = mj_strdup(path);
    if (make_dirs(path)) {
        mj_buf_printf(error, "--data %s: cannot make the directory: %s", path, strerror(errno));
        goto out;
    }
    d->lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (d->lock < 0) {
        mj_buf_printf(error, "%s: %s", name, strerror(errno));
        goto out;
    }
    if (flock(d->lock, LOCK_EX | LOCK_NB)) {
        mj_buf_printf(
            error, "%s: another moonjet uses this directory; give this one its own --data", name);
        goto out;
    }
    err = read_cursors(d, error);
out:
    if (err)
        mj_data_dir_close(d);
    return err;
}

int64_t mj_data_dir_cursor(const struct mj_data_dir *d, const char *url)
{
    for (size_t i = 0; i < d->count; i++)
        if (strcmp(d->cursors[i].url, url) == 0)
            return d->cursors[i].seq;
    return -1;
}

bool mj_data_dir_set(struct mj_data_dir *d, const char *url, int64_t seq)
{
    if (!d->path)
        return false;
    for (size_t i = 0; i < d->count; i++)
        if (strcmp(d->cursors[i].url, url) == 0) {
            bool news = d->cursors[i].seq != seq;
            d->cursors[i].seq = seq;
            return news;
        }
    if (d->count == MJ_SOURCES_MAX)
        return false;
    d->cursors[d->count].url = mj_strdup(url);
    d->cursors[d->count++].seq = seq;
    return true;
}

int mj_data_dir_save(const struct mj_data_dir *d, bool sync)
{
    if (!d->path || !d->count)
        return 0;
    char *name MJ_AUTO_FREE = join(d->path, "cursors");
    char *fresh MJ_AUTO_FREE = join(d->path, "cursors.new");
    FILE *f = fopen(fresh, "we");
    if (!f)
        return MJ_EIO;
    for (size_t i = 0; i < d->count; i++)
        fprintf(f, "%lld %s\n", (long long)d->cursors[i].seq, d->cursors[i].url);
    bool ok = fflush(f) == 0 && (!sync || fsync(fileno(f)) == 0);
    ok = fclose(f) == 0 && ok;
    return ok && rename(fresh, name) == 0 ? 0 : MJ_EIO;
}

void mj_data_dir_close(struct mj_data_dir *d)
{
    for (size_t i = 0; i < d->count; i++)
        free(d->cursors[i].url);
    if (d->lock >= 0)
        close(d->lock);
    free(d->path);
    *d = (struct mj_data_dir){.lock = -1};
}
