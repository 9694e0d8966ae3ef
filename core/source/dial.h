/* Opening a TCP connection without waiting for it: name resolution may block for seconds, so it
 * and the connect run on a short-lived thread, which hands the socket over through a pair. */
#pragma once

#include "base/bytes.h"

struct mj_dialed {
    int fd;        /* connected, non-blocking; -1 = failed */
    char why[120]; /* what failed, for people */
};

/* Starts one attempt. Returns a descriptor that becomes readable when it is decided; give it to
 * mj_dial_finish(), or close it to forget the attempt (nothing leaks). MJ_EIO when no thread or
 * descriptor is to be had. timeout_ms covers the connects, not the resolver. */
int mj_dial(const char *host, int port, int64_t timeout_ms);
/* 0 with *out filled, MJ_EAGAIN when it is not decided yet. Leaves the descriptor open. */
int mj_dial_finish(int dial_fd, struct mj_dialed *out);
