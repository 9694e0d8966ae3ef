/* What the cases about subscribers share.
 *
 *   this process                                    the drain, a process of its own
 *   ┌───────────────────────────────────┐           ┌───────────────────────────────┐
 *   │ append ─▶ journal ─▶ server ──────┼─ sockets ─┼▶ recv() without looking at it │
 *   │ bare loop of send() ──────────────┼─ sockets ─┼▶ the same                     │
 *   └───────────────────────────────────┘           └───────────────────────────────┘
 *
 * So all CPU of this process, less what its main thread spends on waiting, is the server's, and the
 * yardstick has the same readers. Readers check nothing but the number of bytes: whether they get
 * the right ones is what `moonjet load` and the tests are for.
 *
 * Glossary. group: connections of the drain that are opened, spoken to and closed together. */
#pragma once

#include <stdatomic.h>

#include "cli/bench.h"
#include "server/server.h"

/* ---- events (bench_events.c) ---- */

/* The events of the frames as JSON, with what the index wants to know. */
struct mj_bench_events {
    struct mj_buf json; /* owned */
    struct mj_bench_event {
        size_t at, len; /* in json */
        uint64_t did_hash;
        uint32_t collection;
        uint8_t kind, op;
    } * items; /* owned */
    size_t count, cap;
};

void mj_bench_events_collect(const struct mj_bench *b, struct mj_bench_events *e);
void mj_bench_events_deinit(struct mj_bench_events *e);
/* Appends event n (they repeat) with these streams and returns the bytes of its JSON; 0 on an
 * error. */
size_t mj_bench_event_append(struct mj_journal *j, const struct mj_bench_events *e, size_t n,
                             uint64_t streams);
/* Gives event n (they repeat) the DID with that number; false when its own is not as long. */
bool mj_bench_event_did(struct mj_bench_events *e, size_t n, uint32_t number);
/* DIDs by number: "did:plc:" and 24 letters. */
#define MJ_BENCH_DID_LEN 32
void mj_bench_did(uint32_t number, char out[MJ_BENCH_DID_LEN + 1]);

/* ---- readers (bench_drain.c) ---- */

#define MJ_BENCH_GROUPS 4

struct mj_bench_drain {
    int pid, control;                 /* owned */
    struct mj_bench_drained *drained; /* owned: memory of both processes */
};

struct mj_bench_open {
    unsigned group;
    size_t count;
    int port;
    const char *target; /* of the WebSocket request; NULL: there is none, only the connection */
    bool spread;        /* each from an address of its own, 127.x.y.z */
    bool stalled;       /* never reads once it is upgraded, into a small buffer */
};

/* Forks: before this process has threads. 0 or MJ_EIO after a message. */
int mj_bench_drain_start(struct mj_bench_drain *d);
void mj_bench_drain_stop(struct mj_bench_drain *d);
/* Connects, in a group that is closed. 0, or MJ_EIO after a message. The upgrades may not be
 * through yet. */
int mj_bench_drain_open(struct mj_bench_drain *d, const struct mj_bench_open *o);
/* All of a group send a text message. */
void mj_bench_drain_say(struct mj_bench_drain *d, unsigned group, struct mj_span text);
void mj_bench_drain_close(struct mj_bench_drain *d, unsigned group);
/* Waits until so many are open; false, after a message, when that takes too long. */
bool mj_bench_drain_await(struct mj_bench_drain *d, unsigned group, size_t count);
/* Of a group since it was opened: bytes behind the heads of answers, and connections that the other
 * side ended. */
uint64_t mj_bench_drain_bytes(const struct mj_bench_drain *d, unsigned group);
uint64_t mj_bench_drain_ended(const struct mj_bench_drain *d, unsigned group);
/* Waits for so many bytes; false, after a message, when nothing comes for ten seconds. */
bool mj_bench_drain_receive(struct mj_bench_drain *d, unsigned group, uint64_t bytes);

/* ---- the server under test (bench_bed.c) ---- */

struct mj_bench_bed {
    char dir[MJ_BENCH_DIR];
    struct mj_bench_events events;
    struct mj_bench_drain drain;
    struct mj_journal *journal;
    struct mj_streams *streams;
    struct mj_server *server;
    int port;
};

/* A drain, a journal on disk with fsync each second and segments of that size, and a server.
 * 0, or a negative error after a message; deinit either way. */
int mj_bench_bed_init(struct mj_bench *b, struct mj_bench_bed *bed, size_t segment_bytes,
                      struct mj_span dictionary);
void mj_bench_bed_deinit(struct mj_bench_bed *bed);
/* The yardstick's sockets: connected to the drain, blocking, with the server's SO_SNDBUF. 0 or
 * MJ_EIO after a message; the caller closes fds[0…n-1]. */
int mj_bench_bare_open(struct mj_bench_bed *bed, unsigned group, size_t n, int *fds);
void mj_bench_bare_close(struct mj_bench_bed *bed, unsigned group, size_t n, const int *fds);

/* CPU nanoseconds of all threads of this process, and of all but this one. */
int64_t mj_bench_process_cpu_ns(void);
int64_t mj_bench_others_cpu_ns(void);
/* A counter of this process, its labels as they were made; 0 when there is none yet. */
int64_t mj_bench_counter(const char *family);
/* File descriptors for so many connections on both sides, if the system allows as many; false,
 * after a message that names the case left out, when it does not. */
bool mj_bench_allow_files(size_t n, const char *what);
