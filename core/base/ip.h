/* Internet addresses: of peers, of those we connect to, and prefixes of either. An IPv4 address is
 * kept as ::ffff:a.b.c.d, so that one prefix length fits both families. Plain values; nobody owns
 * anything. */
#pragma once

#include <sys/socket.h>

#include "base/bytes.h"

#define MJ_ADDRESS_TEXT 64

struct mj_address {
    uint8_t bytes[16];
};

struct mj_cidr {
    struct mj_address address;
    unsigned bits; /* of 128 */
};

/* An IPv4 or IPv6 address, nothing around it. 0 or MJ_ESYNTAX. */
int mj_address_parse(struct mj_span text, struct mj_address *out);
/* ADDRESS or ADDRESS/BITS; bits of the address behind the prefix are ignored. 0 or MJ_ESYNTAX. */
int mj_cidr_parse(struct mj_span text, struct mj_cidr *out);
bool mj_cidr_has(const struct mj_cidr *c, const struct mj_address *a);
/* Of an IPv4 or IPv6 socket address of that many bytes; all zeros for everything else. */
void mj_address_of(const struct sockaddr *from, size_t len, struct mj_address *out);
bool mj_address_is_v4(const struct mj_address *a);
/* "192.0.2.1" or "2001:db8::1"; returns out. */
const char *mj_address_print(const struct mj_address *a, char out[MJ_ADDRESS_TEXT]);
