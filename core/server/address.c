#include "server/address.h"

#include <sys/random.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"

#define LABELS_MAX 1000 /* addresses with metrics of their own: as many as a monitor can bear */
#define SLOTS_MIN  64

struct mj_address mj_address_unit(const struct mj_address *a)
{
    struct mj_address unit = *a;
    if (!mj_address_is_v4(a))
        memset(unit.bytes + 8, 0, 8);
    return unit;
}

void mj_address_text(const struct mj_address *unit, char out[MJ_ADDRESS_TEXT])
{
    mj_address_print(unit, out);
    if (!mj_address_is_v4(unit))
        strcat(out, "/64");
}

static bool is_trusted(const struct mj_address *a, const struct mj_cidr *trusted, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (mj_cidr_has(&trusted[i], a))
            return true;
    return false;
}

static struct mj_span trim(struct mj_span s)
{
    while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s.ptr++, s.len--;
    while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

static bool is_port(struct mj_span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
    return s.len && s.len <= 5;
}

/* ADDRESS, "1.2.3.4:80", "[::1]" or "[::1]:80". */
static int parse_entry(struct mj_span s, struct mj_address *out)
{
    s = trim(s);
    const uint8_t *colon = s.len ? memchr(s.ptr, ':', s.len) : NULL;
    if (s.len && s.ptr[0] == '[') {
        const uint8_t *end = memchr(s.ptr, ']', s.len);
        if (!end)
            return MJ_ESYNTAX;
        struct mj_span rest = mj_span(end + 1, (size_t)(s.ptr + s.len - end) - 1);
        if (rest.len && (rest.ptr[0] != ':' || !is_port(mj_span(rest.ptr + 1, rest.len - 1))))
            return MJ_ESYNTAX;
        s = mj_span(s.ptr + 1, (size_t)(end - s.ptr) - 1);
        return s.len && memchr(s.ptr, ':', s.len) ? mj_address_parse(s, out) : MJ_ESYNTAX;
    }
    if (colon && memchr(s.ptr, '.', (size_t)(colon - s.ptr))) {
        if (!is_port(mj_span(colon + 1, (size_t)(s.ptr + s.len - colon) - 1)))
            return MJ_ESYNTAX;
        s.len = (size_t)(colon - s.ptr);
    }
    return mj_address_parse(s, out);
}

void mj_address_client(const struct mj_address *peer, const struct mj_http_head *head,
                       const struct mj_cidr *trusted, size_t count, struct mj_address *out)
{
    *out = *peer;
    if (!is_trusted(peer, trusted, count))
        return;
    struct mj_address at = *peer;
    /* Several headers are one list, in their order. */
    for (size_t h = head->count; h-- > 0;) {
        struct mj_span name = head->headers[h].name, rest = head->headers[h].value;
        static const char wanted[] = "X-Forwarded-For";
        if (name.len != sizeof wanted - 1 ||
            strncasecmp((const char *)name.ptr, wanted, name.len) != 0)
            continue;
        for (bool more = true; more;) {
            const uint8_t *comma = rest.len ? memrchr(rest.ptr, ',', rest.len) : NULL;
            size_t from = comma ? (size_t)(comma - rest.ptr) + 1 : 0;
            if (parse_entry(mj_span(rest.ptr + from, rest.len - from), &at))
                return; /* *out is the peer */
            if (!is_trusted(&at, trusted, count)) {
                *out = at;
                return;
            }
            more = comma != NULL;
            rest.len = from ? from - 1 : 0;
        }
    }
    *out = at; /* proxies all the way */
}

static size_t slot_of(const struct mj_hosts *h, const struct mj_address *unit)
{
    uint64_t hash = mj_hash(mj_span(unit->bytes, sizeof unit->bytes)) ^ h->secret;
    return (hash * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (h->cap - 1);
}

static struct mj_host *find(const struct mj_hosts *h, const struct mj_address *unit)
{
    struct mj_host *host = h->slots[slot_of(h, unit)];
    while (host && memcmp(host->unit.bytes, unit->bytes, sizeof unit->bytes) != 0)
        host = host->next;
    return host;
}

void mj_hosts_init(struct mj_hosts *h, double rate)
{
    *h = (struct mj_hosts){.rate = rate, .cap = SLOTS_MIN};
    if (getrandom(&h->secret, sizeof h->secret, 0) < 0)
        h->secret = (uint64_t)mj_mono_us();
    h->slots = mj_calloc(h->cap, sizeof(struct mj_host *));
}

void mj_hosts_deinit(struct mj_hosts *h)
{
    for (size_t i = 0; i < h->cap; i++)
        for (struct mj_host *host = h->slots[i], *next; host; host = next) {
            next = host->next;
            free(host);
        }
    free(h->slots);
    *h = (struct mj_hosts){0};
}

static void grow(struct mj_hosts *h)
{
    struct mj_host **old = h->slots;
    size_t cap = h->cap;
    h->cap *= 2;
    h->slots = mj_calloc(h->cap, sizeof(struct mj_host *));
    for (size_t i = 0; i < cap; i++)
        for (struct mj_host *host = old[i], *next; host; host = next) {
            struct mj_host **slot = &h->slots[slot_of(h, &host->unit)];
            next = host->next;
            host->next = *slot;
            *slot = host;
        }
    free(old);
}

/* v1's series of an address. */
static void find_metrics(struct mj_host *host)
{
    static size_t known;
    static char seen[LABELS_MAX][MJ_ADDRESS_TEXT];
    char text[MJ_ADDRESS_TEXT];
    mj_address_text(&host->unit, text);
    size_t i = 0;
    while (i < known && strcmp(seen[i], text) != 0)
        i++;
    if (i == known && known < LABELS_MAX)
        strcpy(seen[known++], text);
    const char *label = i < known ? text : "other";
    host->connected = mj_metric("jetstream_subscribers_connected", MJ_GAUGE,
                                "Subscribers connected now.", "ip_address=\"%s\"", label);
    host->events = mj_metric("jetstream_events_delivered_total", MJ_COUNTER,
                             "Events sent to subscribers.", "ip_address=\"%s\"", label);
    host->bytes =
        mj_metric("jetstream_bytes_delivered_total", MJ_COUNTER,
                  "Bytes of messages sent to subscribers, as sent.", "ip_address=\"%s\"", label);
}

struct mj_host *mj_hosts_ref(struct mj_hosts *h, const struct mj_address *unit, int64_t mono_us)
{
    struct mj_host *host = find(h, unit);
    if (!host) {
        if (h->count >= h->cap)
            grow(h);
        host = mj_calloc(1, sizeof *host);
        host->unit = *unit;
        host->tokens = h->rate;
        host->filled_us = mono_us;
        find_metrics(host);
        struct mj_host **slot = &h->slots[slot_of(h, unit)];
        host->next = *slot;
        *slot = host;
        h->count++;
    }
    host->connections++;
    return host;
}

void mj_hosts_unref(struct mj_hosts *h, struct mj_host *host)
{
    (void)h;
    host->connections--;
}

size_t mj_hosts_connections(const struct mj_hosts *h, const struct mj_address *unit)
{
    struct mj_host *host = find(h, unit);
    return host ? host->connections : 0;
}

static void fill(const struct mj_hosts *h, struct mj_host *host, int64_t mono_us)
{
    host->tokens += (double)(mono_us - host->filled_us) / 1e6 * h->rate;
    if (host->tokens > h->rate)
        host->tokens = h->rate;
    host->filled_us = mono_us;
}

void mj_hosts_sweep(struct mj_hosts *h, int64_t mono_us)
{
    for (size_t i = 0; i < h->cap; i++)
        for (struct mj_host **at = &h->slots[i]; *at;) {
            struct mj_host *host = *at;
            if (!host->connections && h->rate > 0)
                fill(h, host, mono_us);
            if (host->connections || host->tokens < h->rate) {
                at = &host->next;
                continue;
            }
            *at = host->next;
            free(host);
            h->count--;
        }
}

size_t mj_host_allowance(const struct mj_hosts *h, struct mj_host *host, int64_t mono_us)
{
    if (!h->rate)
        return SIZE_MAX;
    fill(h, host, mono_us);
    return host->tokens >= 1 ? (size_t)host->tokens : 0;
}

void mj_host_spend(const struct mj_hosts *h, struct mj_host *host, size_t events)
{
    if (h->rate > 0)
        host->tokens -= (double)events;
}
