/* HTTP heads, queries, addresses and URLs: spans stay inside the input, a head cut anywhere is
 * "not there yet", a parsed URL survives being printed and parsed again. */
#include <stdio.h>

#include "base/err.h"
#include "base/http.h"

static void inside(struct mj_span s, struct mj_span in)
{
    if (s.len && (s.ptr < in.ptr || s.ptr + s.len > in.ptr + in.len))
        abort();
}

static void check_head(const struct mj_http_head *h, struct mj_span in)
{
    inside(h->method, in);
    inside(h->path, in);
    inside(h->query, in);
    for (size_t i = 0; i < h->count; i++) {
        inside(h->headers[i].name, in);
        inside(h->headers[i].value, in);
    }
    if (mj_http_header(h, "connection").len)
        mj_http_has_token(mj_http_header(h, "connection"), "upgrade");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct mj_span in = mj_span(data, n);
    struct mj_http_head h;
    int size = mj_http_parse_request(in, &h);
    if (size > 0) {
        check_head(&h, in);
        if (mj_http_parse_request(mj_span(data, (size_t)size - 1), &h) != MJ_EAGAIN)
            abort();
    }
    if (mj_http_parse_response(in, &h) > 0) {
        check_head(&h, in);
        if (h.status < 100 || h.status > 999)
            abort();
    }
    struct mj_span rest = in, key, value;
    MJ_AUTO_BUF text = {0};
    while (mj_query_next(&rest, &key, &value)) {
        inside(key, in);
        inside(value, in);
        text.len = 0;
        if (mj_query_decode(value, &text) == 0 && text.len > value.len)
            abort();
    }
    char *z = mj_span_dup(in);
    struct mj_hostport at;
    mj_hostport_parse(z, &at);
    struct mj_url u, again;
    if (mj_url_parse(z, &u) == 0) {
        char back[3000];
        snprintf(back, sizeof back, "%s://%s%s%s:%d%s", u.tls ? "wss" : "ws",
                 strchr(u.host, ':') ? "[" : "", u.host, strchr(u.host, ':') ? "]" : "", u.port,
                 u.path);
        if (mj_url_parse(back, &again) || strcmp(u.path, again.path) || u.port != again.port)
            abort();
    }
    free(z);
    return 0;
}
