/* A DNS server for tests: answers TXT questions by a function of the test's. */
#pragma once

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"

struct dnsserver {
    int fd, port;
    pthread_t thread;
    /* Texts of the name, "|" between records, "~" between pieces of one; "" for none; NULL for "no
     * such name"; "!" for no answer at all. */
    const char *(*_Atomic txt)(const char *name);
    _Atomic int questions;
};

static inline void dns_answer(struct dnsserver *s, const uint8_t *in, size_t n,
                              const struct sockaddr_in *to)
{
    uint8_t out[1500] = {0};
    char name[256];
    size_t at = 12, len = 0;
    while (at < n && in[at] && len + in[at] + 1 < sizeof name) {
        memcpy(name + len, in + at + 1, in[at]);
        len += in[at];
        name[len++] = '.';
        at += in[at] + 1u;
    }
    name[len ? len - 1 : 0] = 0;
    at += 5;
    const char *(*txt)(const char *name) = atomic_load(&s->txt);
    const char *texts = txt(name);
    if (texts && *texts == '!')
        return;
    memcpy(out, in, at);
    out[2] = 0x84;                /* an answer, with authority */
    out[3] = texts ? 0x80 : 0x83; /* NXDOMAIN */
    out[6] = out[7] = out[8] = out[9] = out[10] = out[11] = 0;
    while (texts && *texts) {
        size_t one = strcspn(texts, "|");
        static const uint8_t head[] = {0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60};
        memcpy(out + at, head, sizeof head);
        at += sizeof head;
        size_t size_at = at;
        at += 2;
        while (one) {
            size_t piece = strcspn(texts, "|~");
            out[at++] = (uint8_t)piece;
            memcpy(out + at, texts, piece);
            at += piece;
            texts += piece;
            one -= piece;
            if (one) {
                texts++;
                one--;
            }
        }
        out[size_at] = (uint8_t)((at - size_at - 2) >> 8);
        out[size_at + 1] = (uint8_t)(at - size_at - 2);
        out[7]++;
        if (*texts == '|')
            texts++;
    }
    sendto(s->fd, out, at, 0, (const struct sockaddr *)to, sizeof *to);
}

static inline void *dns_serve(void *arg)
{
    struct dnsserver *s = arg;
    uint8_t in[512];
    struct sockaddr_in from;
    for (;;) {
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(s->fd, in, sizeof in, 0, (struct sockaddr *)&from, &len);
        if (n < 17)
            return NULL; /* the last word: dns_stop() */
        atomic_fetch_add(&s->questions, 1);
        dns_answer(s, in, (size_t)n, &from);
    }
}

static inline void dns_start(struct dnsserver *s, const char *(*txt)(const char *name))
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    *s = (struct dnsserver){0};
    s->txt = txt;
    s->fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (bind(s->fd, (struct sockaddr *)&at, sizeof at) ||
        getsockname(s->fd, (struct sockaddr *)&at, &len) ||
        pthread_create(&s->thread, NULL, dns_serve, s))
        abort();
    s->port = ntohs(at.sin_port);
}

static inline void dns_stop(struct dnsserver *s)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)s->port)};
    sendto(s->fd, "", 0, 0, (struct sockaddr *)&at, sizeof at);
    pthread_join(s->thread, NULL);
    close(s->fd);
}
