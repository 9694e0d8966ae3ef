#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/http.h"
#include "base/json.h"
#include "cli/ctl.h"

#define HEAD_MAX     65536
#define WAIT_SECONDS 60 /* a server says within 30 that nobody answers */

static int give_up(struct mj_buf *error, int fd, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int give_up(struct mj_buf *error, int fd, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    mj_buf_vprintf(error, fmt, ap);
    va_end(ap);
    if (fd >= 0)
        close(fd);
    return MJ_EIO;
}

static int dial(const char *path, struct mj_buf *error, int *out)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof at.sun_path)
        return give_up(error, -1, "%s: a socket's path has at most %zu bytes", path,
                       sizeof at.sun_path - 1);
    strcpy(at.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval wait = {.tv_sec = WAIT_SECONDS};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait))
        return give_up(error, fd, "cannot make a socket: %s", strerror(errno));
    if (connect(fd, (const struct sockaddr *)&at, sizeof at)) {
        int err = errno;
        const char *remedy = err == ENOENT
                                 ? "is moonjet running, and is that its --data or --control?"
                             : err == ECONNREFUSED ? "the moonjet that made it has ended"
                             : err == EACCES       ? "it is for the user whom moonjet runs as"
                                                   : "";
        return give_up(error, fd, "%s: %s%s%s", path, strerror(err), *remedy ? "; " : "", remedy);
    }
    *out = fd;
    return 0;
}

static bool send_all(int fd, struct mj_span bytes)
{
    for (size_t at = 0; at < bytes.len;) {
        ssize_t n = send(fd, bytes.ptr + at, bytes.len - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

/* Reads the head and as much behind it as its Content-Length says. */
static int receive(int fd, struct mj__ctl_answer *out, struct mj_buf *error)
{
    MJ_AUTO_BUF in = {0};
    struct mj_http_head head;
    int head_size = MJ_EAGAIN;
    int64_t length = 0;
    for (;;) {
        mj_buf_reserve(&in, 65536);
        ssize_t n = recv(fd, in.ptr + in.len, 65536, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return give_up(error, -1, "no answer within %d seconds", WAIT_SECONDS);
        if (n < 0)
            return give_up(error, -1, "no answer: %s", strerror(errno));
        in.len += (size_t)n;
        if (head_size == MJ_EAGAIN) {
            head_size = mj_http_parse_response(mj_buf_span(&in), &head);
            struct mj_span value =
                head_size > 0 ? mj_http_header(&head, "Content-Length") : (struct mj_span){NULL, 0};
            if ((head_size < 0 && head_size != MJ_EAGAIN) ||
                (head_size == MJ_EAGAIN && in.len > HEAD_MAX) ||
                (head_size > 0 &&
                 (mj_span_i64(value, &length) || length < 0 || length > MJ__CTL_ANSWER_MAX)))
                return give_up(error, -1, "the answer is not what moonjet says");
        }
        if (head_size > 0 && in.len >= (size_t)head_size + (size_t)length)
            break;
        if (n == 0)
            return give_up(error, -1, "the connection ended before the answer did");
    }
    /* The buffer has moved since the head was parsed. */
    mj_http_parse_response(mj_buf_span(&in), &head);
    struct mj_span type = mj_http_header(&head, "Content-Type");
    out->status = head.status;
    out->is_json = mj_span_starts(type, MJ_SPAN("application/json"));
    out->body.len = 0;
    mj_buf_put(&out->body, in.ptr + head_size, (size_t)length);
    return 0;
}

int mj__ctl_ask(const char *socket, const char *command, struct mj_span body,
                struct mj__ctl_answer *out, struct mj_buf *error)
{
    int fd;
    MJ_AUTO_BUF head = {0};
    if (body.len > MJ__CTL_REQUEST_MAX)
        return give_up(error, -1, "that is more than the %u MiB a request may have",
                       MJ__CTL_REQUEST_MAX >> 20);
    int err = dial(socket, error, &fd);
    if (err)
        return err;
    mj_buf_printf(&head,
                  "POST /ctl/%s HTTP/1.1\r\nHost: moonjet\r\nConnection: close\r\n"
                  "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                  command, body.len);
    /* A server that refuses early may have answered all the same. */
    if (send_all(fd, mj_buf_span(&head)))
        send_all(fd, body);
    size_t before = error->len;
    err = receive(fd, out, error);
    if (err) {
        MJ_AUTO_BUF why = {0};
        mj_buf_put(&why, error->ptr + before, error->len - before);
        error->len = before;
        mj_buf_printf(error, "%s: %s", socket, mj_buf_cstr(&why));
    }
    close(fd);
    return err;
}

struct mj_span mj__ctl_error(const struct mj__ctl_answer *a, struct mj_buf *text)
{
    struct mj_span rest = mj_buf_span(&a->body), object, key, raw;
    bool failed = a->status >= 400;
    text->len = 0;
    if (a->is_json && mj_json_take(&rest, &object) == MJ_JSON_OBJECT) {
        struct mj_span members = mj_json_inside(object);
        int type;
        while ((type = mj_json_member(&members, &key, &raw)) >= 0) {
            failed |= type == MJ_JSON_BOOL && mj_span_is(key, "\"ok\"") && mj_span_is(raw, "false");
            if (type == MJ_JSON_STRING &&
                (mj_span_is(key, "\"error\"") || (!text->len && mj_span_is(key, "\"message\""))))
                text->len = 0, mj_json_text(raw, text);
        }
    }
    if (!failed)
        return (struct mj_span){NULL, 0};
    if (!text->len)
        mj_buf_printf(text, "status %d", a->status);
    return mj_buf_span(text);
}
