#include "base/ip.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/err.h"

static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool mj_address_is_v4(const struct mj_address *a)
{
    return memcmp(a->bytes, v4_prefix, sizeof v4_prefix) == 0;
}

int mj_address_parse(struct mj_span text, struct mj_address *out)
{
    char copy[INET6_ADDRSTRLEN];
    if (!text.len || text.len >= sizeof copy || memchr(text.ptr, 0, text.len))
        return MJ_ESYNTAX;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    struct mj_address a;
    memcpy(a.bytes, v4_prefix, sizeof v4_prefix);
    if (inet_pton(AF_INET, copy, a.bytes + 12) != 1 && inet_pton(AF_INET6, copy, a.bytes) != 1)
        return MJ_ESYNTAX;
    *out = a;
    return 0;
}

int mj_cidr_parse(struct mj_span text, struct mj_cidr *out)
{
    const uint8_t *slash = text.len ? memchr(text.ptr, '/', text.len) : NULL;
    size_t len = slash ? (size_t)(slash - text.ptr) : text.len;
    if (mj_address_parse(mj_span(text.ptr, len), &out->address))
        return MJ_ESYNTAX;
    bool dotted = !memchr(text.ptr, ':', len);
    unsigned most = dotted ? 32 : 128, bits = most;
    if (slash) {
        size_t digits = text.len - len - 1;
        if (!digits || digits > 3)
            return MJ_ESYNTAX;
        bits = 0;
        for (size_t i = 0; i < digits; i++) {
            uint8_t c = slash[1 + i];
            if (c < '0' || c > '9')
                return MJ_ESYNTAX;
            bits = bits * 10 + c - '0';
        }
        if (bits > most)
            return MJ_ESYNTAX;
    }
    out->bits = dotted ? bits + 96 : bits;
    return 0;
}

bool mj_cidr_has(const struct mj_cidr *c, const struct mj_address *a)
{
    unsigned whole = c->bits / 8, rest = c->bits % 8;
    if (memcmp(c->address.bytes, a->bytes, whole) != 0)
        return false;
    return !rest || (c->address.bytes[whole] ^ a->bytes[whole]) >> (8 - rest) == 0;
}

void mj_address_of(const struct sockaddr *from, size_t len, struct mj_address *out)
{
    memset(out, 0, sizeof *out);
    if (from->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in in;
        memcpy(&in, from, sizeof in);
        memcpy(out->bytes, v4_prefix, sizeof v4_prefix);
        memcpy(out->bytes + 12, &in.sin_addr, 4);
    } else if (from->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 in6;
        memcpy(&in6, from, sizeof in6);
        memcpy(out->bytes, &in6.sin6_addr, 16);
    }
}

const char *mj_address_print(const struct mj_address *a, char out[MJ_ADDRESS_TEXT])
{
    bool v4 = mj_address_is_v4(a);
    if (!inet_ntop(v4 ? AF_INET : AF_INET6, a->bytes + (v4 ? 12 : 0), out, INET6_ADDRSTRLEN))
        strcpy(out, "unknown");
    return out;
}
