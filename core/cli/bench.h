/* Bench: what `moonjet bench` runs. Every figure stands beside a yardstick measured in the same
 * run, alternately, so that a noisy machine moves both.
 *
 *   case      one function; adds one or more results
 *   result    key, value, unit; the yardstick's value and the ratio where there is one; the goal
 *
 * Frames come from a capture (--frames) or, without one, from the simulator. */
#pragma once

#include "base/bytes.h"

struct mj_bench_frames {
    struct mj_buf bytes;    /* owned: frames back to back */
    struct mj_span *frames; /* owned; spans into bytes */
    size_t count;
    size_t events;  /* that one pass over them gives */
    char *path;     /* owned: the capture file */
    bool temporary; /* remove the file at the end */
};

/* Reads a capture, or simulates one when path is NULL (and writes it to a temporary file, for what
 * needs one). 0, or a negative error after a message on stderr. */
int mj_bench_load(const char *path, struct mj_bench_frames *out);
void mj_bench_unload(struct mj_bench_frames *in);

struct mj_bench {
    const struct mj_bench_frames *in; /* borrowed */
    double seconds;                   /* to spend per measurement */
    bool json;
    const char *dictionary; /* borrowed: zstd's, a file; NULL when none was named */
    struct mj_buf out;      /* owned: JSON members so far */
    unsigned missed;        /* goals not reached */
};

enum mj_bench_goal { MJ_GOAL_NONE, MJ_GOAL_AT_LEAST, MJ_GOAL_AT_MOST };

/* A measurement is the best of so many short rounds, taken in turns with its yardstick: what the
 * machine does besides only ever adds. */
#define MJ_BENCH_ROUNDS 20

/* CPU nanoseconds of one round. */
static inline int64_t mj_bench_round(const struct mj_bench *b)
{
    return (int64_t)(b->seconds * 1e9 / MJ_BENCH_ROUNDS);
}

/* So many rounds, or one when --seconds is so short that only whether it runs is wanted. */
static inline int mj_bench_rounds(const struct mj_bench *b, int n)
{
    return b->seconds < 0.1 ? 1 : n;
}

/* Reports one figure. `key` is the JSON name. yardstick: "" for none. */
void mj_bench_report(struct mj_bench *b, const char *key, double value, const char *unit,
                     const char *yardstick, enum mj_bench_goal sense, double goal);

/* CPU nanoseconds of the calling thread, and wall nanoseconds. */
int64_t mj_bench_cpu_ns(void);
int64_t mj_bench_wall_ns(void);

/* Heap allocations by this thread since it started (the bench links counting wrappers). */
uint64_t mj_bench_allocations(void);

/* This binary as a child process. */
struct mj_bench_child {
    int pid, err; /* err: the read end of its stderr */
};
/* Starts `moonjet ARGS…` (NULL-terminated, without the program name) and waits, ten seconds at
 * most, for a line on its stderr that holds `ready`; that line, NUL-terminated, in `line`. 0 or
 * MJ_EIO after a message. */
int mj_bench_spawn(struct mj_bench_child *c, const char *const *args, const char *ready, char *line,
                   size_t cap);
void mj_bench_kill(struct mj_bench_child *c); /* SIGTERM, and waits */

void mj_bench_decode(struct mj_bench *b);       /* frames to JSON beside libcbor + cJSON */
void mj_bench_instructions(struct mj_bench *b); /* what mj_bench_decode runs under callgrind */
void mj_bench_from_json(struct mj_bench *b);
void mj_bench_route(struct mj_bench *b);    /* router, script, append */
void mj_bench_flow(struct mj_bench *b);     /* twenty scripts, edits, dedupe, limit */
void mj_bench_reload(struct mj_bench *b);   /* a thousand reloads under load */
void mj_bench_pause(struct mj_bench *b);    /* the router's worst pause */
void mj_bench_tasks(struct mj_bench *b);    /* events through tasks */
void mj_bench_feed(struct mj_bench *b);     /* over loopback from `moonjet replay` */
void mj_bench_append(struct mj_bench *b);   /* the journal beside a loop of writes */
void mj_bench_seal(struct mj_bench *b);     /* what sealing saves */
void mj_bench_start(struct mj_bench *b);    /* opening a full window */
void mj_bench_reader(struct mj_bench *b);   /* durable readers */
void mj_bench_fanout(struct mj_bench *b);   /* a thousand subscribers, live */
void mj_bench_zstd(struct mj_bench *b);     /* the same, compressed */
void mj_bench_replay(struct mj_bench *b);   /* subscribers that catch up */
void mj_bench_match(struct mj_bench *b);    /* a thousand filters */
void mj_bench_words(struct mj_bench *b);    /* words and flows with match tables */
void mj_bench_state(struct mj_bench *b);    /* maps and sets */
void mj_bench_http(struct mj_bench *b);     /* requests out, routes in */
void mj_bench_webhook(struct mj_bench *b);  /* beside a bare loop of POSTs */
void mj_bench_memory(struct mj_bench *b);   /* what subscribers take */
void mj_bench_specs(struct mj_bench *b);    /* tests of scripts beside loading them */
void mj_bench_connects(struct mj_bench *b); /* how fast they come */
void mj_bench_resident(struct mj_bench *b); /* memory at idle */

#define MJ_BENCH_DIR 48

/* Makes a fresh folder, in /tmp or, as that may be memory, on a disk. 0; MJ_EIO after a message,
 * and `dir` is empty. */
int mj_bench_make_dir(bool on_disk, char dir[MJ_BENCH_DIR]);
void mj_bench_remove_dir(const char *dir); /* with what is in it; an empty name is fine */

/* The yardstick: one frame through cbor_load and cJSON; returns events printed. */
size_t mj_bench_libcbor_frame(struct mj_span frame);
