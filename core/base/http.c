#include "base/http.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

#define RETRY_AFTER_MAX 3600 /* seconds: the longest a server may send a client away for */

static bool is_token_char(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(struct mj_span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!is_token_char(s.ptr[i]))
            return false;
    return s.len > 0;
}

static struct mj_span trim(struct mj_span s)
{
    while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s = mj_span(s.ptr + 1, s.len - 1);
    while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* Takes what stands before the byte c off *rest, and c with it. False when there is no c. */
static bool take_until(struct mj_span *rest, char c, struct mj_span *out)
{
    const uint8_t *at = rest->len ? memchr(rest->ptr, c, rest->len) : NULL;
    if (!at)
        return false;
    size_t n = (size_t)(at - rest->ptr);
    *out = mj_span(rest->ptr, n);
    *rest = mj_span(at + 1, rest->len - n - 1);
    return true;
}

/* A line without its CRLF. A lone CR or LF, or any control byte but a tab, is refused: what two
 * parsers may read differently is how requests are smuggled. */
static bool take_line(struct mj_span *rest, struct mj_span *out)
{
    if (!take_until(rest, '\n', out) || !out->len || out->ptr[out->len - 1] != '\r')
        return false;
    out->len--;
    for (size_t i = 0; i < out->len; i++)
        if ((out->ptr[i] < 0x20 && out->ptr[i] != '\t') || out->ptr[i] == 0x7f)
            return false;
    return true;
}

/* Leaves *rest at the headers. */
static int first_line(struct mj_span in, struct mj_span *rest, struct mj_span *line)
{
    const uint8_t *end = in.len ? memmem(in.ptr, in.len, "\r\n\r\n", 4) : NULL;
    if (!end)
        return MJ_EAGAIN;
    size_t size = (size_t)(end - in.ptr) + 4;
    *rest = mj_span(in.ptr, size);
    return take_line(rest, line) ? (int)size : MJ_ESYNTAX;
}

static int parse_headers(struct mj_span rest, struct mj_http_head *out)
{
    for (;;) {
        struct mj_span line, name;
        if (!take_line(&rest, &line))
            return MJ_ESYNTAX;
        if (!line.len)
            return 0;
        if (!take_until(&line, ':', &name) || !is_token(name))
            return MJ_ESYNTAX;
        if (out->count == MJ_HTTP_HEADERS_MAX)
            return MJ_ELIMIT;
        out->headers[out->count].name = name;
        out->headers[out->count++].value = trim(line);
    }
}

int mj_http_parse_request(struct mj_span in, struct mj_http_head *out)
{
    struct mj_span rest, line;
    *out = (struct mj_http_head){0};
    if (in.len > INT32_MAX)
        return MJ_ELIMIT;
    int size = first_line(in, &rest, &line);
    if (size < 0)
        return size;
    if (!take_until(&line, ' ', &out->method) || !is_token(out->method) ||
        !take_until(&line, ' ', &out->target) || !out->target.len ||
        memchr(out->target.ptr, '\t', out->target.len) ||
        (!mj_span_is(line, "HTTP/1.1") && !mj_span_is(line, "HTTP/1.0")))
        return MJ_ESYNTAX;
    out->path = out->target;
    struct mj_span query = out->target;
    if (take_until(&query, '?', &out->path))
        out->query = query;
    int r = parse_headers(rest, out);
    return r ? r : size;
}

int mj_http_parse_response(struct mj_span in, struct mj_http_head *out)
{
    struct mj_span rest, line, version;
    *out = (struct mj_http_head){0};
    if (in.len > INT32_MAX)
        return MJ_ELIMIT;
    int size = first_line(in, &rest, &line);
    if (size < 0)
        return size;
    if (!take_until(&line, ' ', &version) ||
        (!mj_span_is(version, "HTTP/1.1") && !mj_span_is(version, "HTTP/1.0")) || line.len < 3 ||
        (line.len > 3 && line.ptr[3] != ' '))
        return MJ_ESYNTAX;
    for (int i = 0; i < 3; i++) {
        if (line.ptr[i] < '0' || line.ptr[i] > '9')
            return MJ_ESYNTAX;
        out->status = out->status * 10 + (line.ptr[i] - '0');
    }
    if (out->status < 100)
        return MJ_ESYNTAX;
    int r = parse_headers(rest, out);
    return r ? r : size;
}

static bool same_text(struct mj_span s, const char *text)
{
    return s.len == strlen(text) && (!s.len || strncasecmp((const char *)s.ptr, text, s.len) == 0);
}

struct mj_span mj_http_header(const struct mj_http_head *head, const char *name)
{
    for (size_t i = 0; i < head->count; i++)
        if (same_text(head->headers[i].name, name))
            return head->headers[i].value;
    return (struct mj_span){0};
}

int64_t mj_http_retry_after(const struct mj_http_head *head, int64_t now_s)
{
    struct mj_span v = mj_http_header(head, "retry-after");
    int64_t s = 0;
    if (v.len && mj_span_i64(v, &s)) {
        char *text = mj_span_dup(v);
        struct tm tm = {0};
        s = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm) ? timegm(&tm) - now_s : 0;
        free(text);
    }
    return s < 0 ? 0 : s > RETRY_AFTER_MAX ? RETRY_AFTER_MAX : s;
}

bool mj_http_has_token(struct mj_span value, const char *token)
{
    struct mj_span item;
    bool more = true;
    while (more) {
        more = take_until(&value, ',', &item);
        if (same_text(trim(more ? item : value), token))
            return true;
    }
    return false;
}

bool mj_query_next(struct mj_span *rest, struct mj_span *key, struct mj_span *value)
{
    while (rest->len) {
        struct mj_span pair;
        if (!take_until(rest, '&', &pair)) {
            pair = *rest;
            *rest = (struct mj_span){0};
        }
        if (!pair.len)
            continue;
        if (take_until(&pair, '=', key)) {
            *value = pair;
        } else {
            *key = pair;
            *value = (struct mj_span){0};
        }
        return true;
    }
    return false;
}

int mj_query_decode(struct mj_span in, struct mj_buf *out)
{
    size_t start = out->len;
    mj_buf_reserve(out, in.len);
    for (size_t i = 0; i < in.len; i++) {
        uint8_t c = in.ptr[i];
        if (c == '%') {
            int high = i + 2 < in.len ? mj_hex_digit(in.ptr[i + 1]) : -1;
            int low = i + 2 < in.len ? mj_hex_digit(in.ptr[i + 2]) : -1;
            if (high < 0 || low < 0) {
                out->len = start;
                return MJ_ESYNTAX;
            }
            c = (uint8_t)(high << 4 | low);
            i += 2;
        } else if (c == '+') {
            c = ' ';
        }
        out->ptr[out->len++] = c;
    }
    return 0;
}

/* Port digits: 0…65535, or -1. */
static int parse_port(const char *text)
{
    int64_t v;
    if (*text < '0' || *text > '9' || mj_span_i64(mj_str(text), &v) || v > 65535)
        return -1;
    return (int)v;
}

/* Splits "HOST", "HOST:PORT" or "[IPV6]:PORT". *port is -1 when there is none. */
static int split_host(const char *text, char *host, size_t cap, int *port)
{
    const char *end, *after;
    bool bracket = *text == '[';
    if (bracket) {
        end = strchr(++text, ']');
        if (!end || end == text)
            return MJ_ESYNTAX;
        after = end + 1;
    } else {
        end = after = text + strcspn(text, ":");
    }
    size_t n = (size_t)(end - text);
    if (n >= cap)
        return MJ_ELIMIT;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        bool alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (!alnum && !strchr(bracket ? ":.%" : ".-_", c))
            return MJ_ESYNTAX;
    }
    if (bracket && !memchr(text, ':', n))
        return MJ_ESYNTAX;
    memcpy(host, text, n);
    host[n] = '\0';
    *port = -1;
    if (!*after)
        return 0;
    if (*after != ':' || (*port = parse_port(after + 1)) < 0)
        return MJ_ESYNTAX;
    return 0;
}

int mj_hostport_parse(const char *text, struct mj_hostport *out)
{
    int r = split_host(text, out->host, sizeof out->host, &out->port);
    return r ? r : out->port < 0 ? MJ_ESYNTAX : 0;
}

static int listen_on(const struct addrinfo *ai, int *port)
{
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int one = 1, zero = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    struct sockaddr_storage real;
    socklen_t len = sizeof real;
    char digits[8];
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) || listen(fd, 1024) ||
        getsockname(fd, (struct sockaddr *)&real, &len) ||
        getnameinfo((struct sockaddr *)&real, len, NULL, 0, digits, sizeof digits,
                    NI_NUMERICSERV)) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    *port = atoi(digits);
    return fd;
}

int mj_listen(const struct mj_hostport *at, int *port)
{
    char digits[8];
    snprintf(digits, sizeof digits, "%d", at->port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list;
    int r = getaddrinfo(*at->host ? at->host : NULL, digits, &hints, &list);
    if (r) {
        if (r != EAI_SYSTEM)
            errno = EADDRNOTAVAIL;
        return MJ_EIO;
    }
    /* "" means every interface: the IPv6 wildcard takes IPv4 too, so it goes first. A name like
     * localhost goes to IPv4 first, where scripts that say 127.0.0.1 look for it. */
    int first = *at->host ? AF_INET : AF_INET6;
    int fd = -1;
    for (int pass = 0; pass < 2 && fd < 0; pass++)
        for (struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next)
            if ((ai->ai_family == first) == (pass == 0))
                fd = listen_on(ai, port);
    int saved = errno;
    freeaddrinfo(list);
    errno = saved;
    return fd < 0 ? MJ_EIO : fd;
}

int mj_url_parse(const char *text, struct mj_url *out)
{
    static const struct {
        const char *prefix;
        bool tls;
    } schemes[] = {{"ws://", false}, {"wss://", true}, {"http://", false}, {"https://", true}};
    *out = (struct mj_url){0};
    size_t skip = 0;
    for (size_t i = 0; i < MJ_COUNT(schemes) && !skip; i++)
        if (strncasecmp(text, schemes[i].prefix, strlen(schemes[i].prefix)) == 0) {
            skip = strlen(schemes[i].prefix);
            out->tls = schemes[i].tls;
        }
    if (!skip)
        return MJ_ESYNTAX;
    text += skip;
    size_t n = strcspn(text, "/?#");
    char authority[sizeof out->host + 16];
    if (n >= sizeof authority)
        return MJ_ELIMIT;
    memcpy(authority, text, n);
    authority[n] = '\0';
    int r = split_host(authority, out->host, sizeof out->host, &out->port);
    if (r)
        return r;
    if (!*out->host || out->port == 0)
        return MJ_ESYNTAX;
    if (out->port < 0)
        out->port = out->tls ? 443 : 80;
    text += n;
    n = strcspn(text, "#");
    size_t slash = *text == '/' ? 0 : 1;
    if (n + slash >= sizeof out->path)
        return MJ_ELIMIT;
    for (size_t i = 0; i < n; i++)
        if ((uint8_t)text[i] <= 0x20 || (uint8_t)text[i] >= 0x7f)
            return MJ_ESYNTAX;
    out->path[0] = '/';
    memcpy(out->path + slash, text, n);
    out->path[n + slash] = '\0';
    out->has_path = out->path[1] && out->path[1] != '?';
    return 0;
}
