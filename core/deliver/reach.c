#include "deliver/reach.h"

#include <strings.h>

#include "base/err.h"

struct allowed {
    char *host; /* owned, without a last dot; NULL: `net` counts */
    struct mj_cidr net;
    int port; /* 0: every port */
};

struct mj_reach {
    struct allowed *v; /* owned */
    size_t n;
};

struct mj_reach *mj_reach_new(void) { return mj_calloc(1, sizeof(struct mj_reach)); }

void mj_reach_free(struct mj_reach *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n; i++)
        free(r->v[i].host);
    free(r->v);
    free(r);
}

/* No name ends in a number: what does is an address with a mistake in it. */
static bool is_host(struct mj_span s)
{
    const uint8_t *dot = s.len ? memrchr(s.ptr, '.', s.len) : NULL;
    size_t front = dot ? (size_t)(dot + 1 - s.ptr) : 0;
    int64_t number;
    if (mj_span_i64(mj_span(s.ptr + front, s.len - front), &number) != MJ_ESYNTAX)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        bool alnum = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (!alnum && c != '.' && c != '-' && c != '_')
            return false;
    }
    return s.len > 0 && s.len < 256;
}

static struct mj_span without_dot(struct mj_span host)
{
    if (host.len && host.ptr[host.len - 1] == '.')
        host.len--;
    return host;
}

/* Takes ":PORT" off the end of *s. False when there is one that is no port. */
static bool take_port(struct mj_span *s, int *port)
{
    const uint8_t *colon = s->len ? memrchr(s->ptr, ':', s->len) : NULL;
    *port = 0;
    bool bracket = s->len && s->ptr[0] == '[';
    if (!colon || (bracket && s->ptr[s->len - 1] == ']') ||
        (!bracket && memchr(s->ptr, ':', (size_t)(colon - s->ptr))))
        return true; /* none, or an IPv6 address as it is */
    int64_t v;
    struct mj_span digits = mj_span(colon + 1, (size_t)(s->ptr + s->len - colon) - 1);
    if (mj_span_i64(digits, &v) || v < 1 || v > 65535)
        return false;
    *port = (int)v;
    s->len = (size_t)(colon - s->ptr);
    return true;
}

int mj_reach_allow(struct mj_reach *r, const char *text, struct mj_buf *error)
{
    struct allowed a = {0};
    struct mj_span s = mj_str(text);
    bool ok = take_port(&s, &a.port), v6 = ok && s.len > 2 && s.ptr[0] == '[';
    if (v6) {
        ok = s.ptr[s.len - 1] == ']';
        s = mj_span(s.ptr + 1, s.len - 2);
    }
    if (ok && mj_cidr_parse(s, &a.net)) {
        s = without_dot(s);
        ok = !v6 && is_host(s);
        if (ok)
            a.host = mj_span_dup(s);
    }
    if (!ok) {
        mj_buf_printf(error,
                      "\"%.200s\" is no host, address or prefix such as hook.example, 10.0.0.5, "
                      "10.0.0.0/8 or [::1]:8080",
                      text);
        return MJ_ESYNTAX;
    }
    r->v = mj_realloc(r->v, (r->n + 1) * sizeof a);
    r->v[r->n++] = a;
    return 0;
}

bool mj_reach_may(const struct mj_reach *r, const char *host, const struct mj_address *a, int port)
{
    return !mj_address_special(a) || mj_reach_names(r, host, a, port);
}

bool mj_reach_names(const struct mj_reach *r, const char *host, const struct mj_address *a,
                    int port)
{
    struct mj_span name = without_dot(mj_str(host));
    for (size_t i = 0; r && i < r->n; i++) {
        const struct allowed *e = &r->v[i];
        if (e->port && e->port != port)
            continue;
        if (!e->host && mj_cidr_has(&e->net, a))
            return true;
        if (e->host && strlen(e->host) == name.len &&
            strncasecmp(e->host, (const char *)name.ptr, name.len) == 0)
            return true;
    }
    return false;
}

struct special {
    const char *prefix, *what;
};

static bool inside(const struct mj_address *a, const char *prefix)
{
    struct mj_cidr c;
    return mj_cidr_parse(mj_str(prefix), &c) == 0 && mj_cidr_has(&c, a);
}

static const char *look_up(const struct special *table, size_t n, const struct mj_address *a)
{
    for (size_t i = 0; i < n; i++)
        if (inside(a, table[i].prefix))
            return table[i].what;
    return NULL;
}

/* IANA's special-purpose registry, as far as it is not globally reachable. */
static const char *special_v4(const struct mj_address *a)
{
    static const struct special table[] = {
        {"0.0.0.0/8", "an address of this host"},
        {"10.0.0.0/8", "a private address"},
        {"100.64.0.0/10", "an address behind a carrier's NAT"},
        {"127.0.0.0/8", "a loopback address"},
        {"169.254.0.0/16", "a link-local address"},
        {"172.16.0.0/12", "a private address"},
        {"192.0.0.0/24", "a reserved address"},
        {"192.0.2.0/24", "an address for documentation"},
        {"192.88.99.0/24", "a 6to4 relay"},
        {"192.168.0.0/16", "a private address"},
        {"198.18.0.0/15", "an address for benchmarks"},
        {"198.51.100.0/24", "an address for documentation"},
        {"203.0.113.0/24", "an address for documentation"},
        {"224.0.0.0/4", "a multicast address"},
        {"240.0.0.0/4", "a reserved address"},
    };
    return look_up(table, MJ_COUNT(table), a);
}

/* The IPv4 address at that byte of an IPv6 one. */
static const char *embedded(const struct mj_address *a, size_t at)
{
    struct mj_address v4 = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}};
    memcpy(v4.bytes + 12, a->bytes + at, 4);
    return special_v4(&v4);
}

const char *mj_address_special(const struct mj_address *a)
{
    static const struct special table[] = {
        {"::/128", "an address of this host"},
        {"::1/128", "a loopback address"},
        {"64:ff9b:1::/48", "a private address behind NAT64"},
        {"100::/64", "a reserved address"},
        {"2001:db8::/32", "an address for documentation"},
        {"2001::/32", "an address behind a Teredo tunnel"},
        {"2001::/23", "a reserved address"},
        {"2002::/16", "an address behind a 6to4 tunnel"},
        {"3fff::/20", "an address for documentation"},
        {"fc00::/7", "a private address"},
        {"fe80::/10", "a link-local address"},
        {"fec0::/10", "a private address"},
        {"ff00::/8", "a multicast address"},
    };
    if (mj_address_is_v4(a))
        return special_v4(a);
    const char *what = look_up(table, MJ_COUNT(table), a);
    if (what)
        return what;
    if (inside(a, "64:ff9b::/96")) /* NAT64 */
        return embedded(a, 12);
    if (!inside(a, "2000::/3")) /* nothing else is given out */
        return "a reserved address";
    /* ISATAP: …:0:5efe:10.0.0.5, with or without the bit for "unique" */
    if ((a->bytes[8] & 0xfd) == 0 && a->bytes[9] == 0 && a->bytes[10] == 0x5e &&
        a->bytes[11] == 0xfe)
        return embedded(a, 12);
    return NULL;
}
