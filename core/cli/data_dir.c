#include "cli/data_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/dirs.h"
#include "base/err.h"

static char *join(const char *dir, const char *name)
{
    struct mj_buf b = {0};
    mj_buf_printf(&b, "%s/%s", dir, name);
    mj_buf_cstr(&b);
    return (char *)b.ptr;
}

int mj_data_dir_open(struct mj_data_dir *d, const char *path, struct mj_buf *error)
{
    *d = (struct mj_data_dir){.lock = -1};
    if (!path || !*path)
        return 0;
    int err = MJ_EIO;
    char *name MJ_AUTO_FREE = join(path, "lock");
    d->path = mj_strdup(path);
    if (mj_make_dirs(path)) {
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
    err = 0;
out:
    if (err)
        mj_data_dir_close(d);
    return err;
}

bool mj_data_dir_is_used(const char *path)
{
    char *name MJ_AUTO_FREE = join(path, "lock");
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool used = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    return used;
}

void mj_data_dir_close(struct mj_data_dir *d)
{
    if (d->lock >= 0)
        close(d->lock);
    free(d->path);
    *d = (struct mj_data_dir){.lock = -1};
}
