/* One request: what is asked of libcurl, and what comes back. */
#include <arpa/inet.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "deliver/internal.h"

static int fail(struct mj_job *job, const char *sentence)
{
    mj_buf_puts(&job->error, sentence);
    return MJ_EINVAL;
}

static bool same(struct mj_span a, const char *b)
{
    return a.len == strlen(b) && strncasecmp((const char *)a.ptr, b, a.len) == 0;
}

static bool is_token(struct mj_span s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        bool alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (!alnum && !memchr("!#$%&'*+-.^_`|~", c, 15))
            return false;
    }
    return s.len > 0;
}

static int read_method(struct mj_job *job)
{
    static const char *const refused[] = {"CONNECT", "TRACE", "PRI"};
    if (!is_token(mj_str(job->method)) || strlen(job->method) > 32)
        return fail(job, "the method of a request is a word such as GET");
    for (size_t i = 0; i < MJ_COUNT(refused); i++)
        if (strcasecmp(job->method, refused[i]) == 0)
            return fail(job, "CONNECT and TRACE are not for scripts");
    job->head = strcmp(job->method, "HEAD") == 0;
    return 0;
}

static char *url_part(CURLU *u, CURLUPart part, unsigned flags)
{
    char *text;
    return curl_url_get(u, part, &text, flags) ? NULL : text;
}

static int read_url(struct mj_job *job)
{
    if (strlen(job->url) > MJ_URL_MAX)
        return fail(job, "the URL is longer than 8 KiB");
    CURLU *u = curl_url();
    if (!u)
        return fail(job, "out of memory");
    CURLUcode code = curl_url_set(u, CURLUPART_URL, job->url, CURLU_DISALLOW_USER);
    char *scheme = code ? NULL : url_part(u, CURLUPART_SCHEME, 0);
    char *host = code ? NULL : url_part(u, CURLUPART_HOST, 0);
    char *port = code ? NULL : url_part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    int err = 0;
    if (code == CURLUE_USER_NOT_ALLOWED)
        err = fail(job, "a user name in a URL is not allowed; send an Authorization header");
    else if (!scheme || !host || !port || !*host)
        err = fail(job, "not a URL such as https://host/path");
    else if (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)
        err = fail(job, "only http and https");
    if (!err) {
        size_t n = strlen(host);
        bool v6 = host[0] == '[';
        job->host = mj_span_dup(v6 ? mj_span(host + 1, n - 2) : mj_span(host, n));
        job->port = atoi(port);
        MJ_AUTO_BUF origin = {0};
        bool usual = job->port == (strcmp(scheme, "https") == 0 ? 443 : 80);
        mj_buf_printf(&origin, "%s://%.255s%s%s", scheme, host, usual ? "" : ":",
                      usual ? "" : port);
        job->origin = mj_strdup(mj_buf_cstr(&origin));
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(u);
    return err;
}

static int add_header(struct mj_job *job, const char *line)
{
    struct curl_slist *list = curl_slist_append(job->header_list, line);
    if (!list)
        return fail(job, "out of memory");
    job->header_list = list;
    return 0;
}

int mj__job_headers(struct mj_job *job, struct mj_span lines)
{
    MJ_AUTO_BUF text = {0};
    curl_slist_free_all(job->header_list);
    job->header_list = NULL;
    /* libcurl looks at the start of each item for names that it knows, and sends it as it is. So
     * all lines are one item, which costs a tenth of one each. */
    if (lines.len > 2)
        mj_buf_put(&text, lines.ptr, lines.len - 2);
    if (add_header(job, mj_buf_cstr(&text)))
        return MJ_ENOMEM;
    return add_header(job, "Expect:") ? MJ_ENOMEM : 0;
}

/* "Name: value\r\n"…; a line break anywhere else would let a value smuggle in headers. */
static int read_headers(struct mj_job *job)
{
    static const char *const ours[] = {"Content-Length", "Transfer-Encoding", "Connection",
                                       "Expect",         "Upgrade",           "TE",
                                       "Trailer",        "Accept-Encoding"};
    struct mj_span rest = mj_buf_span(&job->request_headers);
    bool typed = false, agent = false;
    if (rest.len > MJ_ANSWER_HEADS)
        return fail(job, "the headers are larger than 64 KiB");
    while (rest.len) {
        const uint8_t *end = memmem(rest.ptr, rest.len, "\r\n", 2);
        size_t len = end ? (size_t)(end - rest.ptr) : rest.len;
        struct mj_span line = mj_span(rest.ptr, len);
        len += end ? 2 : 0;
        rest = mj_span(rest.ptr + len, rest.len - len);
        const uint8_t *colon = line.len ? memchr(line.ptr, ':', line.len) : NULL;
        struct mj_span name = mj_span(line.ptr, colon ? (size_t)(colon - line.ptr) : 0);
        if (!colon || !is_token(name))
            return fail(job, "a header's name is a word such as X-Token");
        struct mj_span value = mj_span(colon + 1, line.len - name.len - 1);
        for (size_t i = 0; i < value.len; i++)
            if ((value.ptr[i] < 0x20 && value.ptr[i] != '\t') || value.ptr[i] == 0x7f)
                return fail(job, "a header's value has no line breaks or other control characters");
        for (size_t i = 0; i < MJ_COUNT(ours); i++)
            if (same(name, ours[i])) {
                mj_buf_printf(&job->error, "the header %s is set by Moonjet", ours[i]);
                return MJ_EINVAL;
            }
        typed |= same(name, "Content-Type");
        agent |= same(name, "User-Agent");
        while (value.len && (value.ptr[0] == ' ' || value.ptr[0] == '\t'))
            value = mj_span(value.ptr + 1, value.len - 1);
        MJ_AUTO_BUF text = {0};
        mj_buf_put(&text, name.ptr, name.len);
        mj_buf_puts(&text, value.len ? ": " : ";"); /* libcurl's way to say "empty" */
        mj_buf_put(&text, value.ptr, value.len);
        int err = add_header(job, mj_buf_cstr(&text));
        if (err)
            return err;
    }
    if (!typed && job->request_body.len &&
        add_header(job, "Content-Type: text/plain; charset=utf-8"))
        return MJ_EINVAL;
    if (!typed && !job->request_body.len && add_header(job, "Content-Type:"))
        return MJ_EINVAL; /* which libcurl would add */
    if (!agent && add_header(job, "User-Agent: moonjet/" MOONJET_VERSION))
        return MJ_EINVAL;
    return add_header(job, "Expect:"); /* no waiting for "100 Continue" */
}

int mj__job_prepare(struct mj_job *job)
{
    int err = read_url(job);
    if (!err)
        err = read_method(job);
    if (!err)
        err = read_headers(job);
    return err;
}

/* Judges an address, and says what is wrong with it. */
static bool may_reach(struct mj_job *job, const struct mj_address *a, int port)
{
    const struct mj_http_line *line = job->line;
    const struct mj_reach *const lists[] = {job->http->cfg.reach, job->client->reach,
                                            line ? line->allow : NULL};
    for (size_t i = 0; i < MJ_COUNT(lists); i++)
        if (line && line->only_allowed ? mj_reach_names(lists[i], job->host, a, port)
                                       : mj_reach_may(lists[i], job->host, a, port))
            return true;
    if (job->trusted)
        return true;
    char text[MJ_ADDRESS_TEXT];
    const char *special = mj_address_special(a);
    mj_address_print(a, text);
    job->refused = true;
    job->error.len = 0;
    if (line)
        mj_buf_printf(&job->error, "refused: %s is %s; name it in the webhook's allow to reach it",
                      text, special ? special : "in no list, and the URL is not https");
    else
        mj_buf_printf(&job->error, "refused: %s is %s; --http-allow %s lets scripts reach it", text,
                      special, text);
    return false;
}

static curl_socket_t on_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *to)
{
    struct mj_job *job = ctx;
    (void)purpose;
    struct mj_address a;
    uint16_t port = 0;
    mj_address_of(&to->addr, to->addrlen, &a);
    /* Of either family the port comes right behind the family's number. Other families come out as
     * "::", which is special. */
    memcpy(&port, to->addr.sa_data, sizeof port);
    if (!may_reach(job, &a, ntohs(port)))
        return CURL_SOCKET_BAD;
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

/* Before each request, also on a connection that another one made: that one may have been trusted.
 */
static int on_connected(void *ctx, char *ip, char *local_ip, int port, int local_port)
{
    struct mj_job *job = ctx;
    (void)local_ip;
    (void)local_port;
    struct mj_address a;
    /* A line has one port, and what it may reach seldom changes. */
    if (job->line && *job->vetted && job->vetted_at == job->http->reach_changes &&
        strcmp(ip, job->vetted) == 0)
        return CURL_PREREQFUNC_OK;
    struct mj_span text = mj_str(ip);
    const uint8_t *zone = text.len ? memchr(text.ptr, '%', text.len) : NULL;
    if (zone)
        text.len = (size_t)(zone - text.ptr);
    if (mj_address_parse(text, &a))
        memset(&a, 0, sizeof a);
    if (!may_reach(job, &a, port))
        return CURL_PREREQFUNC_ABORT;
    if (strlen(ip) < sizeof job->vetted)
        memcpy(job->vetted, ip, strlen(ip) + 1);
    job->vetted_at = job->http->reach_changes;
    return CURL_PREREQFUNC_OK;
}

/* Counts n bytes more; false when all that is held together, or by its script, would be too much.
 */
static bool take_bytes(struct mj_job *job, size_t n)
{
    size_t max = job->http->cfg.max_bytes;
    size_t all = atomic_fetch_add_explicit(&job->http->bytes, n, memory_order_relaxed);
    job->counted += n;
    job->client->bytes += n;
    return all + n <= max && job->client->bytes <= max / 2;
}

static size_t on_body(char *data, size_t one, size_t n, void *ctx)
{
    struct mj_job *job = ctx;
    (void)one;
    if (job->line) {
        size_t room = job->max_bytes - job->body.len;
        job->cut = n > room;
        mj_buf_put(&job->body, data, job->cut ? room : n);
        return job->cut ? 0 : n;
    }
    /* These are the bytes after decompression: a small answer cannot unfold into a large one. */
    job->too_large = job->body.len + n > job->max_bytes;
    job->out_of_memory =
        !job->too_large && (!take_bytes(job, n) || mj_buf_try_reserve(&job->body, n));
    if (job->too_large || job->out_of_memory)
        return 0;
    mj_buf_put(&job->body, data, n);
    return n;
}

/* Those that described the transfer would only be wrong about what scripts get. */
static bool is_about_transfer(const struct mj_job *job, struct mj_span name)
{
    return same(name, "Transfer-Encoding") || same(name, "Connection") ||
           same(name, "Keep-Alive") || same(name, "Content-Encoding") ||
           (same(name, "Content-Length") && !job->head);
}

static size_t on_header(char *data, size_t one, size_t n, void *ctx)
{
    struct mj_job *job = ctx;
    (void)one;
    struct mj_span line = mj_span(data, n);
    while (line.len && (line.ptr[line.len - 1] == '\r' || line.ptr[line.len - 1] == '\n'))
        line.len--;
    if (mj_span_starts(line, MJ_SPAN("HTTP/"))) {
        job->headers.len = job->lines = 0; /* of "100 Continue", say */
        return n;
    }
    const uint8_t *colon = line.len ? memchr(line.ptr, ':', line.len) : NULL;
    struct mj_span name = mj_span(line.ptr, colon ? (size_t)(colon - line.ptr) : 0);
    if (!colon || !is_token(name) || is_about_transfer(job, name))
        return n;
    job->too_many_headers =
        job->headers.len + line.len + 4 > MJ_ANSWER_HEADS || ++job->lines > MJ_HEADERS_MAX;
    if (job->too_many_headers)
        return 0;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        mj_buf_putc(&job->headers, (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c));
    }
    struct mj_span value = mj_span(colon + 1, line.len - name.len - 1);
    while (value.len && (value.ptr[0] == ' ' || value.ptr[0] == '\t'))
        value = mj_span(value.ptr + 1, value.len - 1);
    mj_buf_puts(&job->headers, ": ");
    mj_buf_put(&job->headers, value.ptr, value.len);
    mj_buf_puts(&job->headers, "\r\n");
    return n;
}

int mj__job_start(struct mj_job *job)
{
    const struct mj_http_cfg *cfg = &job->http->cfg;
    int64_t left_us = job->deadline_us - mj_mono_us();
    CURL *e = curl_easy_init();
    if (!e)
        return MJ_ENOMEM;
    job->easy = e;
    curl_easy_setopt(e, CURLOPT_PRIVATE, job);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, job->curl_error);
    curl_easy_setopt(e, CURLOPT_URL, job->url);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(e, CURLOPT_PROXY, ""); /* whatever the environment says */
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    if (!job->line) /* of whose answers little is kept, whatever they are */
        curl_easy_setopt(e, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    /* Without it, a name server that says nothing would hold up the thread when a request ends. */
    curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)(left_us < 1000 ? 1 : left_us / 1000));
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)(cfg->connect_us / 1000));
    curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, job);
    curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, mj__http_close);
    curl_easy_setopt(e, CURLOPT_CLOSESOCKETDATA, job->http);
    curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, on_connected);
    curl_easy_setopt(e, CURLOPT_PREREQDATA, job);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, job);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, job);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, job->header_list);
    if (job->http->connect_to)
        curl_easy_setopt(e, CURLOPT_CONNECT_TO, job->http->connect_to);
    if (cfg->ca_file)
        curl_easy_setopt(e, CURLOPT_CAINFO, cfg->ca_file);
    if (job->line) {
        curl_easy_setopt(e, CURLOPT_POST, 1L);
    } else if (job->head) {
        curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
    } else if (strcmp(job->method, "GET") != 0 || job->request_body.len) {
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)job->request_body.len);
        curl_easy_setopt(e, CURLOPT_POSTFIELDS,
                         job->request_body.len ? (const char *)job->request_body.ptr : "");
        curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, job->method);
    }
    return 0;
}

/* "1.5s": as scripts write it, the largest unit that is whole. */
static void put_duration(struct mj_buf *out, int64_t us)
{
    if (us % 1000000 == 0)
        mj_buf_printf(out, "%llds", (long long)us / 1000000);
    else
        mj_buf_printf(out, "%lldms", (long long)us / 1000);
}

const char *mj__job_result(struct mj_job *job, CURLcode code)
{
    struct mj_buf *out = &job->error;
    if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && job->cut))
        return NULL;
    /* It may have had a second address, which failed otherwise. */
    job->refused &= code == CURLE_COULDNT_CONNECT || code == CURLE_ABORTED_BY_CALLBACK;
    if (job->refused)
        return mj_buf_cstr(out);
    out->len = 0;
    if (job->too_large)
        mj_buf_printf(out, "the answer is larger than max_bytes, %zu", job->max_bytes);
    else if (job->too_many_headers)
        mj_buf_printf(out, "the answer's headers are larger than 64 KiB or more than %d",
                      MJ_HEADERS_MAX);
    else if (job->out_of_memory)
        mj_buf_puts(out, "too much is being received at once");
    else if (code == CURLE_OPERATION_TIMEDOUT && (mj_mono_us() >= job->deadline_us - 1000 ||
                                                  job->timeout_us <= job->http->cfg.connect_us)) {
        mj_buf_puts(out, "no answer within ");
        put_duration(out, job->timeout_us);
    } else if (code == CURLE_OPERATION_TIMEDOUT) {
        mj_buf_puts(out, "no connection within ");
        put_duration(out, job->http->cfg.connect_us);
    } else if (code == CURLE_COULDNT_RESOLVE_HOST)
        mj_buf_puts(out, "no host of that name is known");
    else
        mj_buf_puts(out, *job->curl_error ? job->curl_error : curl_easy_strerror(code));
    return mj_buf_cstr(out);
}

void mj__job_free(struct mj_job *job)
{
    if (job->easy)
        curl_easy_cleanup(job->easy);
    curl_slist_free_all(job->header_list);
    if (job->client) {
        job->client->party.jobs--;
        job->client->bytes -= job->counted;
    }
    if (!job->line) /* which may outlive it */
        atomic_fetch_sub_explicit(&job->http->bytes, job->counted, memory_order_relaxed);
    free(job->script);
    free(job->method);
    free(job->url);
    free(job->origin);
    free(job->host);
    mj_buf_deinit(&job->request_headers);
    mj_buf_deinit(&job->request_body);
    mj_buf_deinit(&job->headers);
    mj_buf_deinit(&job->body);
    mj_buf_deinit(&job->error);
    free(job);
}
