/* Routes of scripts: what parses can be fitted with itself, and its parts are of the input; rules
 * of what may be reached either parse or say why. The input is a route or a rule, and a path behind
 * the first newline. */
#include "base/err.h"
#include "base/http.h"
#include "base/route.h"
#include "deliver/reach.h"

/* What a route's path stands for: a plus is itself. */
static void decode(struct mj_span path, struct mj_buf *out)
{
    for (size_t i = 0; i < path.len; i++) {
        size_t n = path.ptr[i] == '%' ? 3 : 1;
        if (path.ptr[i] == '+')
            mj_buf_putc(out, '+');
        else if (i + n > path.len || mj_query_decode(mj_span(path.ptr + i, n), out))
            abort();
        i += n - 1;
    }
}

static void as_route(struct mj_span text, struct mj_span path)
{
    struct mj_route r;
    MJ_AUTO_BUF error = {0};
    if (mj_route_parse(text, &r, &error)) {
        if (!error.len)
            abort();
        return;
    }
    MJ_AUTO_BUF plain = {0};
    decode(r.path, &plain);
    if (r.path.ptr < text.ptr || r.path.ptr + r.path.len > text.ptr + text.len ||
        !mj_route_fit(&r, mj_buf_span(&plain)) || !mj_route_takes(&r, r.method))
        abort();
    size_t fit = mj_route_fit(&r, path);
    if (fit && !mj_span_starts(path, mj_buf_span(&plain)))
        abort();
    if (fit && !r.prefix && !mj_span_eq(path, mj_buf_span(&plain)))
        abort();
}

static void as_rule(struct mj_span text)
{
    char *z = mj_span_dup(text);
    struct mj_reach *r = mj_reach_new();
    MJ_AUTO_BUF error = {0};
    struct mj_address home;
    mj_address_parse(MJ_SPAN("127.0.0.1"), &home);
    if (mj_reach_allow(r, z, &error) ? !error.len : error.len != 0)
        abort();
    if (error.len && mj_reach_may(r, "localhost", &home, 80))
        abort();
    mj_reach_free(r);
    free(z);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const uint8_t *line = n ? memchr(data, '\n', n) : NULL;
    size_t first = line ? (size_t)(line - data) : n;
    struct mj_span path = mj_span(NULL, 0);
    if (line)
        path = mj_span(line + 1, n - first - 1);
    as_route(mj_span(data, first), path);
    as_rule(mj_span(data, first));
    return 0;
}
