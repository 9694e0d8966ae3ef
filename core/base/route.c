#include "base/route.h"

#include "base/err.h"

static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};

static bool is_method(struct mj_span s)
{
    for (size_t i = 0; i < MJ_COUNT(methods); i++)
        if (mj_span_is(s, methods[i]))
            return true;
    return false;
}

/* Paths the server answers itself, so that no route could ever get a request for them. */
static bool is_taken(struct mj_span path)
{
    static const char end[] = "/subscribe";
    const size_t n = sizeof end - 1;
    return mj_span_is(path, "/") || mj_span_is(path, end) ||
           (mj_span_starts(path, MJ_SPAN("/stream/")) && path.len > n &&
            memcmp(path.ptr + path.len - n, end, n) == 0);
}

/* The byte at *i of a path as it was written, and on behind it; -1 for a bad escape. */
static int next_byte(struct mj_span path, size_t *i)
{
    uint8_t c = path.ptr[(*i)++];
    if (c != '%')
        return c;
    int high = *i + 1 < path.len ? mj_hex_digit(path.ptr[*i]) : -1;
    int low = *i + 1 < path.len ? mj_hex_digit(path.ptr[*i + 1]) : -1;
    *i += 2;
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

static int fail(struct mj_buf *error, const char *sentence)
{
    if (error)
        mj_buf_puts(error, sentence);
    return MJ_ESYNTAX;
}

int mj_route_parse(struct mj_span text, struct mj_route *out, struct mj_buf *error)
{
    *out = (struct mj_route){0};
    const uint8_t *blank = text.len ? memchr(text.ptr, ' ', text.len) : NULL;
    if (!blank || text.len > MJ_ROUTE_MAX)
        return fail(error, "a route is a method and a path: \"GET /path\"");
    size_t n = (size_t)(blank - text.ptr);
    out->method = mj_span(text.ptr, n);
    out->path = mj_span(blank + 1, text.len - n - 1);
    if (!is_method(out->method))
        return fail(error, "the method of a route is GET, POST, PUT, PATCH or DELETE, in capitals");
    if (!out->path.len || out->path.ptr[0] != '/')
        return fail(error, "the path of a route begins with \"/\"");
    for (size_t i = 0; i < out->path.len; i++) {
        uint8_t c = out->path.ptr[i];
        if (c == '*' && i + 1 == out->path.len && out->path.ptr[i - 1] == '/') {
            out->prefix = true;
            out->path.len--;
            break;
        }
        if (c <= 0x20 || c == 0x7f || c == '?' || c == '#' || c == '*')
            return fail(error, "the path of a route has no blanks, \"?\" or \"#\", and a \"*\" "
                               "only behind its last \"/\"");
    }
    for (size_t i = 0; i < out->path.len;)
        if (next_byte(out->path, &i) < 0)
            return fail(error,
                        "a \"%\" in the path of a route is followed by two hex digits, as in "
                        "an address; \"%25\" is the sign itself");
    if (!out->prefix && is_taken(out->path))
        return fail(error, "the server itself answers /, /subscribe and /stream/NAME/subscribe");
    return 0;
}

size_t mj_route_fit(const struct mj_route *r, struct mj_span path)
{
    size_t n = 0;
    for (size_t i = 0; i < r->path.len; n++)
        if (n == path.len || next_byte(r->path, &i) != path.ptr[n])
            return 0;
    return r->prefix ? 2 * n : n == path.len ? 2 * n + 1 : 0;
}

bool mj_route_takes(const struct mj_route *r, struct mj_span method)
{
    return mj_span_eq(r->method, method) ||
           (mj_span_is(r->method, "GET") && mj_span_is(method, "HEAD"));
}

bool mj_route_look_at(struct mj_route_look *look, const struct mj_route *r)
{
    size_t fit = mj_route_fit(r, look->path);
    if (!fit)
        return false;
    look->known = true;
    mj_buf_put(look->allow, ", ", 2);
    mj_buf_put(look->allow, r->method.ptr, r->method.len);
    if (mj_span_is(r->method, "GET"))
        mj_buf_puts(look->allow, ", HEAD");
    if (fit <= look->fit || !mj_route_takes(r, look->method))
        return false;
    look->fit = fit;
    return true;
}
