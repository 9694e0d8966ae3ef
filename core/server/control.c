/* The control socket: a Unix socket that speaks HTTP, so that curl --unix-socket does, too. Who may
 * connect is the file's business: it is made with mode 0600.
 *
 * A file that a dead process left behind is replaced; one that somebody listens on is not, nor is
 * anything that is no socket. */
#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "server/internal.h"

static void say(const struct mj_server *s, const char *what)
{
    mj_log(s->cfg.control_may_fail ? MJ_LOG_WARN : MJ_LOG_ERROR, "server",
           "control socket %s: %s%s", s->cfg.control, what,
           s->cfg.control_may_fail ? "; going on without one" : "");
}

/* Makes room for a socket of that name. 0 or MJ_EIO. */
static int clear_way(const struct mj_server *s, const struct sockaddr_un *at)
{
    struct stat st;
    if (lstat(at->sun_path, &st))
        return 0; /* not there, or bind() will say what is wrong */
    if (!S_ISSOCK(st.st_mode)) {
        say(s, "there is a file of that name; remove it, or choose another --control");
        return MJ_EIO;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r = connect(fd, (const struct sockaddr *)at, sizeof *at);
    bool dead = r && errno == ECONNREFUSED;
    close(fd);
    if (!dead) {
        say(s, "another process listens there; stop it, or choose another --control");
        return MJ_EIO;
    }
    if (unlink(at->sun_path)) {
        say(s, strerror(errno));
        return MJ_EIO;
    }
    return 0;
}

int mj__control_listen(struct mj_server *s)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    const char *path = s->cfg.control;
    if (strlen(path) >= sizeof at.sun_path) {
        say(s, "a socket's path has at most 107 bytes; choose a shorter --control");
        return MJ_ESYNTAX;
    }
    strcpy(at.sun_path, path);
    int err = clear_way(s, &at);
    if (err)
        return err;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct stat st;
    /* The file gets the socket's own mode, so there is no moment in which others may connect. */
    if (fd < 0 || fchmod(fd, 0600) || bind(fd, (struct sockaddr *)&at, sizeof at) ||
        chmod(path, 0600) || listen(fd, 64) || lstat(path, &st)) {
        say(s, strerror(errno));
        if (fd >= 0)
            close(fd);
        return MJ_EIO;
    }
    s->control.path = mj_strdup(path);
    s->control.dev = st.st_dev;
    s->control.ino = st.st_ino;
    s->accepting[MJ_LISTEN_CONTROL].fd = fd;
    return 0;
}

void mj__control_close(struct mj_server *s)
{
    struct stat st;
    if (!s->control.path)
        return;
    /* Only if it is still ours: a successor may have replaced it. */
    if (lstat(s->control.path, &st) == 0 && st.st_dev == s->control.dev &&
        st.st_ino == s->control.ino)
        unlink(s->control.path);
    free(s->control.path);
    s->control.path = NULL;
}
