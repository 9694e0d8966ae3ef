#include "base/dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/err.h"

/* A parent that we may write but not read cannot be opened, so not be synced either; nor can those
 * of file systems that do not know how. */
int mj_sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EACCES ? 0 : MJ_EIO;
    int r = fsync(fd);
    if (r && (errno == EINVAL || errno == EROFS))
        r = 0;
    int saved = errno;
    close(fd);
    errno = saved;
    return r ? MJ_EIO : 0;
}

int mj_make_dirs(const char *path)
{
    if (!*path) {
        errno = ENOENT;
        return MJ_EIO;
    }
    char *p MJ_AUTO_FREE = mj_strdup(path), *parent MJ_AUTO_FREE = mj_strdup(path);
    size_t n = strlen(p);
    while (n > 1 && p[n - 1] == '/')
        p[--n] = '\0';
    strcpy(parent, *p == '/' ? "/" : ".");
    for (char *slash = p + 1; *slash; slash++) {
        if (*slash != '/' || slash[-1] == '/')
            continue;
        *slash = '\0';
        bool made = mkdir(p, 0700) == 0;
        if ((!made && errno != EEXIST) || (made && mj_sync_dir(parent)))
            return MJ_EIO;
        strcpy(parent, p);
        *slash = '/';
    }
    /* The last one's name is synced in any case: whoever made it may have died before. */
    return (mkdir(p, 0700) && errno != EEXIST) || mj_sync_dir(parent) ? MJ_EIO : 0;
}
