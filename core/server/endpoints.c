/* What a request gets: the answers of v1 (spec/jetstream-v1.md §§2, 9), streams by name, metrics
 * and what monitors ask. */
#include "base/err.h"
#include "server/internal.h"
#include "server/labels.h"

#define TEXT    "text/plain; charset=UTF-8"
#define JSON    "application/json; charset=UTF-8"
#define METRICS "text/plain; version=0.0.4; charset=utf-8"

static void say(struct mj_answer *out, int status, const char *type, const char *body)
{
    out->status = status;
    out->type = type;
    out->body.len = 0;
    mj_buf_puts(&out->body, body);
}

static void not_found(struct mj_answer *out) { say(out, 404, JSON, "{\"message\":\"Not Found\"}"); }

static void unknown_stream(struct mj_server *s, struct mj_span name, struct mj_answer *out)
{
    MJ_AUTO_BUF text = {0};
    mj_buf_puts(&text, "no stream is named \"");
    mj_buf_put(&text, name.ptr, name.len < 100 ? name.len : 100);
    mj_buf_puts(&text, "\"; there are: ");
    size_t n = mj_streams_count(s->cfg.streams);
    for (size_t i = 0; i < n; i++)
        mj_buf_printf(&text, "%s%s", i ? ", " : "", mj_streams_name(s->cfg.streams, i));
    say(out, 404, JSON, "{\"message\":");
    mj_buf_put_json(&out->body, mj_buf_span(&text));
    mj_buf_putc(&out->body, '}');
}

/* The bit of the stream a path subscribes to; MJ_ENOENT for other paths, MJ_EINVAL with the name
 * in *name for a stream we do not have. */
static int stream_of(struct mj_server *s, struct mj_span path, struct mj_span *name)
{
    static const char front[] = "/stream/", back[] = "/subscribe";
    const size_t f = sizeof front - 1, b = sizeof back - 1;
    if (mj_span_is(path, back))
        return MJ_STREAM_MAIN;
    if (path.len <= f + b || !mj_span_starts(path, MJ_SPAN("/stream/")) ||
        memcmp(path.ptr + path.len - b, back, b) != 0)
        return MJ_ENOENT;
    *name = mj_span(path.ptr + f, path.len - f - b);
    int bit = mj_streams_find(s->cfg.streams, *name);
    return bit < 0 ? MJ_EINVAL : bit;
}

/* As gorilla/websocket asked for it. The key must be 16 bytes of base64. */
bool mj__is_upgrade(const struct mj_http_head *head)
{
    struct mj_span key = mj_http_header(head, "Sec-WebSocket-Key");
    if (!mj_http_has_token(mj_http_header(head, "Connection"), "upgrade") ||
        !mj_http_has_token(mj_http_header(head, "Upgrade"), "websocket") ||
        !mj_span_is(mj_http_header(head, "Sec-WebSocket-Version"), "13") || key.len != 24 ||
        memcmp(key.ptr + 22, "==", 2) != 0)
        return false;
    for (size_t i = 0; i < 22; i++) {
        uint8_t c = key.ptr[i];
        if (!(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') && c != '+' &&
            c != '/')
            return false;
    }
    return true;
}

void mj__too_many(struct mj_server *s, const struct mj_address *unit, struct mj_answer *out)
{
    char address[MJ_ADDRESS_TEXT];
    mj_address_text(unit, address);
    say(out, 429, TEXT, "");
    mj_buf_printf(
        &out->body,
        "too many connections from %s: %zu are allowed at a time. Close one, or try again "
        "later.",
        address, s->cfg.max_per_ip);
    mj_buf_puts(&out->headers, "Retry-After: 30\r\n");
    mj_metric_add(s->m.refused, 1);
}

static void subscribe(struct mj_server *s, unsigned stream, const struct mj_http_head *head,
                      const struct mj_address *peer, struct mj_answer *out, struct mj_sub **sub)
{
    struct mj_subscribe_query q;
    if (mj_subscribe_query_parse(head->query, s->cfg.sets, &q, &out->body)) {
        out->status = 400;
        out->type = TEXT;
        return;
    }
    struct mj_span encoding = mj_http_header(head, "Socket-Encoding");
    bool zstd = q.compress || (encoding.len && memmem(encoding.ptr, encoding.len, "zstd", 4));
    struct mj_address client, unit;
    mj_address_client(peer, head, s->trusted, s->trusted_count, &client);
    unit = mj_address_unit(&client);
    if (zstd && !s->packer) {
        say(out, 400, TEXT,
            "zstd is not available: this server has no dictionary. Connect without compress=true "
            "and Socket-Encoding to get the same events as text, or ask the operator to run "
            "`moonjet dictionary install FILE`.");
    } else if (!mj__is_upgrade(head)) {
        say(out, 400, "text/plain; charset=utf-8", "Bad Request\n");
        mj_buf_puts(&out->headers, "Sec-Websocket-Version: 13\r\n");
    } else if (s->cfg.max_per_ip && mj_hosts_connections(&s->hosts, &unit) >= s->cfg.max_per_ip) {
        mj__too_many(s, &unit, out);
    } else if (s->classes.bytes + mj_filter_size(q.filter) > MJ_FILTERS_BYTES_MAX) {
        say(out, 503, TEXT, "too many large filters at once");
    } else {
        *sub = mj__sub_new(s, stream, zstd ? MJ_CODEC_ZSTD : MJ_CODEC_TEXT, &q, &unit);
        return;
    }
    mj_filter_free(q.filter);
}

void mj__cors(struct mj_answer *out, const char *allow)
{
    mj_buf_puts(&out->headers, "Vary: Origin\r\nAccess-Control-Allow-Origin: *\r\n");
    if (allow)
        mj_buf_printf(&out->headers,
                      "Vary: Access-Control-Request-Method\r\n"
                      "Vary: Access-Control-Request-Headers\r\n"
                      "Access-Control-Allow-Methods: %s\r\n",
                      allow);
}

static void wrong_method(struct mj_answer *out)
{
    say(out, 405, JSON, "{\"message\":\"Method Not Allowed\"}");
    mj_buf_puts(&out->headers, "Allow: OPTIONS, GET\r\n");
}

static void on_metrics(struct mj_server *s, const struct mj_http_head *head, struct mj_answer *out)
{
    static const char *const paths[] = {"/metrics", "/status", "/_health"};
    size_t i = 0;
    while (i < MJ_COUNT(paths) && !mj_span_is(head->path, paths[i]))
        i++;
    if (i == MJ_COUNT(paths)) {
        not_found(out);
    } else if (!mj_span_is(head->method, "GET") && !mj_span_is(head->method, "HEAD")) {
        wrong_method(out);
    } else if (i == 0) {
        say(out, 200, METRICS, "");
        mj_metrics_render(&out->body);
    } else {
        say(out, 200, JSON, "");
        (i == 1 ? mj__status : mj__health)(s, &out->body);
    }
}

/* Percent-decodes a path, in which '+' is itself. False for a bad escape. */
static bool decode_path(struct mj_span path, struct mj_buf *out)
{
    while (path.len) {
        const uint8_t *plus = memchr(path.ptr, '+', path.len);
        size_t n = plus ? (size_t)(plus - path.ptr) : path.len;
        if (mj_query_decode(mj_span(path.ptr, n), out))
            return false;
        if (plus)
            mj_buf_putc(out, '+');
        n += plus != NULL;
        path = mj_span(path.ptr + n, path.len - n);
    }
    return true;
}

static struct mj__call *new_call(struct mj_server *s, enum mj_call_kind kind,
                                 const struct mj_http_head *head, struct mj_span path,
                                 const char *peer)
{
    struct mj__call *call = mj__call_new(s->desk);
    mj__call_fill(call, kind, head, path, peer);
    call->body_max = kind == MJ_CALL_CONTROL ? MJ_CONTROL_BODY_MAX : MJ_BODY_MAX;
    return call;
}

static void find_answer_metrics(struct mj__call *call, struct mj_span route)
{
    char label[256];
    mj_metric_label(route, label, sizeof label);
    for (int i = 2; i <= 5; i++)
        call->answers[i] = mj_metric("moonjet_route_requests_total", MJ_COUNTER,
                                     "Requests to scripts' routes, by the answer's class.",
                                     "route=\"%s\",status=\"%dxx\"", label, i);
}

/* A path nothing here owns: a script's route, perhaps. */
static void on_route(struct mj_server *s, const struct mj_http_head *head,
                     const struct mj_address *peer, struct mj_answer *out, struct mj_taken *taken)
{
    MJ_AUTO_BUF path = {0};
    MJ_AUTO_BUF route = {0};
    MJ_AUTO_BUF allow = {0};
    bool preflight = mj_span_is(head->method, "OPTIONS");
    if (!decode_path(head->path, &path) && !preflight) {
        say(out, 400, JSON, "{\"message\":\"Bad Request\"}");
        return;
    }
    int err = MJ_ENOENT;
    if (s->cfg.request && s->cfg.routes)
        err = mj__routes_find(s->cfg.routes, head->method, mj_buf_span(&path), &route, &allow);
    if (err == MJ_ENOENT && preflight) {
        mj__cors(out, "GET,HEAD,OPTIONS"); /* v1 answers for whatever path */
    } else if (err == MJ_ENOENT) {
        not_found(out);
    } else if (preflight) {
        mj_buf_puts(&allow, ", OPTIONS");
        mj__cors(out, mj_buf_cstr(&allow) + 2);
        mj_buf_puts(&out->headers, "Access-Control-Allow-Headers: *, Authorization\r\n");
    } else if (err) {
        say(out, 405, JSON, "{\"message\":\"Method Not Allowed\"}");
        mj_buf_printf(&out->headers, "Allow: OPTIONS%s\r\n", mj_buf_cstr(&allow));
    } else if (s->calls >= MJ_CALLS_MAX) {
        say(out, 503, TEXT, "too many requests are being answered");
        mj_buf_puts(&out->headers, "Retry-After: 1\r\n");
        mj_metric_add(s->m.refused, 1);
    } else {
        char text[MJ_ADDRESS_TEXT];
        struct mj_address client;
        mj_address_client(peer, head, s->trusted, s->trusted_count, &client);
        taken->call =
            new_call(s, MJ_CALL_ROUTE, head, mj_buf_span(&path), mj_address_print(&client, text));
        find_answer_metrics(taken->call, mj_buf_span(&route));
    }
}

static void on_control(struct mj_server *s, const struct mj_http_head *head, struct mj_answer *out,
                       struct mj_taken *taken)
{
    const struct mj_span front = MJ_SPAN("/ctl/");
    MJ_AUTO_BUF command = {0};
    if (!mj_span_starts(head->path, front)) {
        on_metrics(s, head, out);
        return;
    }
    struct mj_span name = mj_span(head->path.ptr + front.len, head->path.len - front.len);
    if (!decode_path(name, &command)) {
        say(out, 400, JSON, "{\"error\":\"bad escape in the path\"}\n");
        return;
    }
    name = mj_buf_span(&command);
    if (!mj_span_is(head->method, "GET") && !mj_span_is(head->method, "POST")) {
        say(out, 405, JSON, "{\"error\":\"GET or POST\"}\n");
        mj_buf_puts(&out->headers, "Allow: GET, POST\r\n");
        return;
    }
    /* Answered here, so also while the scripts' thread is busy or stuck. */
    out->status = 200;
    out->type = JSON;
    if (mj_span_is(name, "status")) {
        mj__status(s, &out->body);
    } else if (mj_span_is(name, "health")) {
        mj__health(s, &out->body);
    } else if (mj_span_is(name, "metrics")) {
        out->type = METRICS;
        mj_metrics_render(&out->body);
    } else if (mj_span_is(name, "streams")) {
        mj__list_streams(s, &out->body);
    } else if (mj_span_is(name, "subscribers")) {
        mj__list_subscribers(s, head->query, &out->body);
    } else if (!s->cfg.request || !name.len) {
        say(out, 404, JSON, "{\"error\":\"no such command\"}\n");
    } else if (s->calls >= MJ_CALLS_MAX + 32) {
        say(out, 503, JSON, "{\"error\":\"too many requests are being answered\"}\n");
    } else {
        *out = (struct mj_answer){0};
        taken->call = new_call(s, MJ_CALL_CONTROL, head, name, "");
    }
}

void mj__endpoint(struct mj_server *s, enum mj_listener at, const struct mj_http_head *head,
                  const struct mj_address *peer, struct mj_answer *out, struct mj_taken *taken)
{
    if (at == MJ_LISTEN_METRICS) {
        on_metrics(s, head, out);
        return;
    }
    if (at == MJ_LISTEN_CONTROL) {
        on_control(s, head, out, taken);
        return;
    }
    if (mj__labels_endpoint(s, head, peer, out, &taken->label_sub))
        return;
    bool preflight = mj_span_is(head->method, "OPTIONS");
    struct mj_span name = {0};
    int stream = stream_of(s, head->path, &name);
    bool root = mj_span_is(head->path, "/");
    if (stream == MJ_ENOENT && !root)
        on_route(s, head, peer, out, taken);
    else if (preflight)
        mj__cors(out, "GET,HEAD,OPTIONS");
    else if (!mj_span_is(head->method, "GET"))
        wrong_method(out);
    else if (root)
        say(out, 200, TEXT, "Welcome to Jetstream");
    else if (stream == MJ_EINVAL)
        unknown_stream(s, name, out);
    else
        subscribe(s, (unsigned)stream, head, peer, out, &taken->sub);
    if (preflight)
        out->status = 204;
    else if (!taken->sub && !taken->call)
        mj__cors(out, NULL);
}
