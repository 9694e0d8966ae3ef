/* Prefixes from a configuration, and X-Forwarded-For from strangers. What parses has a text that
 * parses to the same; a client is the peer or an address that stands in a header, and never one of
 * the proxies unless there is nothing else. */
#include "base/err.h"
#include "server/address.h"

static void as_prefix(struct mj_span in)
{
    struct mj_cidr c;
    if (mj_cidr_parse(in, &c))
        return;
    if (c.bits > 128 || !mj_cidr_has(&c, &c.address))
        abort();
    struct mj_address a, unit = mj_address_unit(&c.address), again;
    char text[MJ_ADDRESS_TEXT];
    mj_address_text(&unit, text);
    char *slash = strchr(text, '/');
    if (slash)
        *slash = '\0';
    if (mj_address_parse(mj_str(text), &a))
        abort();
    again = mj_address_unit(&a);
    if (memcmp(&again, &unit, sizeof unit) != 0)
        abort();
}

static bool trusts(const struct mj_cidr *c, size_t n, const struct mj_address *a)
{
    for (size_t i = 0; i < n; i++)
        if (mj_cidr_has(&c[i], a))
            return true;
    return false;
}

static void as_headers(struct mj_span in)
{
    struct mj_cidr trusted[2];
    struct mj_address peer, client;
    mj_cidr_parse(MJ_SPAN("10.0.0.0/8"), &trusted[0]);
    mj_cidr_parse(MJ_SPAN("2001:db8::/32"), &trusted[1]);
    mj_address_parse(MJ_SPAN("10.1.2.3"), &peer);
    /* Two headers: the input up to its first newline, and the rest. */
    struct mj_http_head head = {.count = 2};
    const uint8_t *line = in.len ? memchr(in.ptr, '\n', in.len) : NULL;
    size_t first = line ? (size_t)(line - in.ptr) : in.len;
    head.headers[0].name = head.headers[1].name = MJ_SPAN("X-Forwarded-For");
    head.headers[0].value = mj_span(in.ptr, first);
    head.headers[1].value = mj_span(in.ptr + first, in.len - first);
    if (line) {
        head.headers[1].value.ptr++;
        head.headers[1].value.len--;
    } else {
        head.count = 1;
    }
    mj_address_client(&peer, &head, trusted, 2, &client);
    bool same = memcmp(&client, &peer, sizeof peer) == 0;
    /* A proxy other than the peer: only when the whole list is proxies, so without any garbage. */
    if (!same && trusts(trusted, 2, &client) &&
        (!in.len || memchr(in.ptr, 'g', in.len) || memchr(in.ptr, 0, in.len)))
        abort();
    mj_address_client(&peer, &head, NULL, 0, &client);
    if (memcmp(&client, &peer, sizeof peer) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    as_prefix(mj_span(data, n));
    as_headers(mj_span(data, n));
    return 0;
}
