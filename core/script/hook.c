#include "script/hook.h"

#include "atproto/syntax.h"
#include "base/err.h"

static void wipe(char **text)
{
    if (*text)
        explicit_bzero(*text, strlen(*text));
    free(*text);
    *text = NULL;
}

void mj_hook_spec_deinit(struct mj_hook_spec *s)
{
    for (size_t i = 0; i < s->secret_count; i++)
        wipe(&s->secrets[i]);
    wipe(&s->github_secret);
    wipe(&s->headers);
    wipe(&s->url); /* they often hold tokens */
    for (size_t i = 0; i < s->allow_count; i++)
        free(s->allow[i]);
    free(s->allow);
    free(s->script);
    free(s->node);
    *s = (struct mj_hook_spec){0};
}

void mj_hook_spec_free(struct mj_hook_spec *s)
{
    if (s)
        mj_hook_spec_deinit(s);
    free(s);
}

static char *copy(const char *s) { return s ? mj_strdup(s) : NULL; }

struct mj_hook_spec *mj_hook_spec_copy(const struct mj_hook_spec *s)
{
    struct mj_hook_spec *c = mj_alloc(sizeof *c);
    *c = *s;
    c->script = copy(s->script);
    c->node = copy(s->node);
    c->url = copy(s->url);
    c->github_secret = copy(s->github_secret);
    c->headers = copy(s->headers);
    for (size_t i = 0; i < s->secret_count; i++)
        c->secrets[i] = copy(s->secrets[i]);
    c->allow = mj_calloc(s->allow_count + 1, sizeof *c->allow);
    for (size_t i = 0; i < s->allow_count; i++)
        c->allow[i] = copy(s->allow[i]);
    return c;
}

int mj_hook_origin(const struct mj_hook_spec *spec, struct mj_buf *out, struct mj_buf *error)
{
    const char *url = spec->url;
    bool plain = strncasecmp(url, "http://", 7) == 0;
    if (!plain && strncasecmp(url, "https://", 8) != 0) {
        mj_buf_puts(error, "'url' is an address such as https://example.com/hook");
        return MJ_ESYNTAX;
    }
    const char *host = url + (plain ? 7 : 8);
    size_t len = strcspn(host, "/?#\\");
    for (const char *p = url; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f) {
            mj_buf_puts(error, "'url' has a blank or control character in it; write it as %20");
            return MJ_ESYNTAX;
        }
    if (memchr(host, '@', len)) {
        mj_buf_puts(error, "'url' has a user name in it, which is not sent; give headers = "
                           "{ Authorization = … }");
        return MJ_ESYNTAX;
    }
    if (!len || *host == ':') {
        mj_buf_puts(error, "'url' has no host; it is an address such as https://example.com/hook");
        return MJ_ESYNTAX;
    }
    if (plain && !spec->allow_count) {
        mj_buf_printf(error,
                      "'url' is http, which anybody on the way can read; give https, or for a host "
                      "of your own name it: allow = { \"%.*s\" }",
                      len > 200 ? 200 : (int)len, host);
        return MJ_ESYNTAX;
    }
    mj_buf_printf(out, "%s://%.*s", plain ? "http" : "https", len > 255 ? 255 : (int)len, host);
    return 0;
}

void mj_hook_batch(const struct mj_item *items, size_t n, struct mj_buf *out)
{
    char time[28];
    size_t bytes = 100;
    for (size_t i = 0; i < n; i++)
        bytes += items[i].json.len + 64;
    mj_buf_reserve(out, bytes);
    mj_datetime_make(items[n - 1].time_us, time);
    mj_buf_printf(out, "{\"type\":\"moonjet.batch\",\"timestamp\":\"%s\",\"data\":[", time);
    for (size_t i = 0; i < n; i++) {
        mj_buf_puts(out, i ? ",{\"id\":\"" : "{\"id\":\"");
        mj_buf_puts(out, items[i].id);
        mj_buf_puts(out, "\",\"event\":");
        mj_buf_put(out, items[i].json.ptr, items[i].json.len);
        mj_buf_putc(out, '}');
    }
    mj_buf_puts(out, "]}");
}
