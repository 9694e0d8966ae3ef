/* Who is asking. Peers' addresses, the proxies whose word about them is taken, and what each
 * address may use: connections at a time, and events per second of catching up.
 *
 *   peer 10.0.0.5, a trusted proxy
 *   X-Forwarded-For: 1.1.1.1, 203.0.113.9, 10.0.0.7
 *                    forged?  the client   trusted      read from the right; the first one that is
 *                                                       not a proxy of ours is the client
 *
 * IPv6 counts per /64, which is what one customer has. All on the server's thread. */
#pragma once

#include "base/http.h"
#include "base/ip.h"
#include "base/metrics.h"

/* What counts as one: the address, or the /64 of an IPv6 address. */
struct mj_address mj_address_unit(const struct mj_address *a);
/* Text of such a unit: "192.0.2.1" or "2001:db8:1:2::/64". */
void mj_address_text(const struct mj_address *unit, char out[MJ_ADDRESS_TEXT]);

/* The client's address: the peer's, or, when that one is inside a trusted prefix, what the
 * X-Forwarded-For headers say. Entries may carry a port. Anything there that is no address makes
 * it the peer's own. */
void mj_address_client(const struct mj_address *peer, const struct mj_http_head *head,
                       const struct mj_cidr *trusted, size_t count, struct mj_address *out);

/* What the connections of one address share: v1's metrics, a count, and a bucket of tokens. */
struct mj_host {
    struct mj_address unit;
    size_t connections;   /* references; at 0 it goes once the bucket is full again */
    double tokens;        /* events it may still replay now */
    int64_t filled_us;    /* monotonic: when tokens was right */
    struct mj_host *next; /* in its slot */
    struct mj_metric *connected, *events, *bytes; /* borrowed for ever */
};

struct mj_hosts {
    double rate;            /* tokens per second and at most; 0 for no limit */
    struct mj_host **slots; /* owned lists */
    size_t count, cap;      /* cap slots, a power of two */
    uint64_t secret;        /* so that nobody can choose addresses of one slot */
};

void mj_hosts_init(struct mj_hosts *h, double rate);
void mj_hosts_deinit(struct mj_hosts *h);
/* Counts one connection more; never NULL, valid until it is given back. */
struct mj_host *mj_hosts_ref(struct mj_hosts *h, const struct mj_address *unit, int64_t mono_us);
void mj_hosts_unref(struct mj_hosts *h, struct mj_host *host);
/* How many connections the address has now. */
size_t mj_hosts_connections(const struct mj_hosts *h, const struct mj_address *unit);
/* Frees who is gone, and would have a full bucket by now. Once a second. */
void mj_hosts_sweep(struct mj_hosts *h, int64_t mono_us);
/* How many events the host may replay now; SIZE_MAX without a limit. */
size_t mj_host_allowance(const struct mj_hosts *h, struct mj_host *host, int64_t mono_us);
void mj_host_spend(const struct mj_hosts *h, struct mj_host *host, size_t events);
