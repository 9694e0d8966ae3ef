/* The router thread's event loop: a libwebsockets context that owns polling and timers, shared by
 * all sources of one router (and whatever else that thread must wait for).
 *
 *   struct mj_loop *loop = mj_loop_new();
 *   struct mj_firehose *f; mj_firehose_new(loop, &cfg, &f);
 *   mj_loop_run(loop);                        until mj_loop_stop(), from anywhere
 *   mj_firehose_free(f); mj_loop_free(loop);
 *
 * Everything but mj_loop_stop() and mj_loop_wake() belongs to the thread that runs the loop. The
 * sources know this interface only, not libwebsockets. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct mj_loop;

/* Never NULL (aborts without memory or descriptors). */
struct mj_loop *mj_loop_new(void);
/* After everything that uses it is freed. NULL is fine. */
void mj_loop_free(struct mj_loop *l);
/* Serves descriptors and timers until mj_loop_stop(); returns at once when that came first. */
void mj_loop_run(struct mj_loop *l);
/* Lets it run once more after mj_loop_stop(): for what is left to do at the end. */
void mj_loop_resume(struct mj_loop *l);
/* Ends mj_loop_run(). Any thread, and from a signal handler. */
void mj_loop_stop(struct mj_loop *l);
/* Whether it is ending. Any thread. */
bool mj_loop_stopped(struct mj_loop *l);
/* Makes the loop call the mj_loop_on_wake() function soon. Any thread, and from a signal handler;
 * several calls may end in one. */
void mj_loop_wake(struct mj_loop *l);
void mj_loop_on_wake(struct mj_loop *l, void (*fn)(void *ctx), void *ctx);

/* A descriptor the loop polls. `readable` is called when it can be read or has ended, `writable`
 * once after each mj_watch_writable(). The descriptor belongs to the watch and is closed with it.
 * Inside its own callbacks a watch may be closed too. */
struct mj_watch;
struct mj_watch_fns {
    void (*readable)(void *ctx);
    void (*writable)(void *ctx); /* may be NULL when never asked for */
};
/* NULL when the loop has no room for another descriptor (which stays the caller's then). */
struct mj_watch *mj_watch_new(struct mj_loop *l, int fd, const struct mj_watch_fns *fns, void *ctx);
void mj_watch_writable(struct mj_watch *w);
/* No callback comes any more; NULL is fine. */
void mj_watch_close(struct mj_watch *w);

/* A timer: fires once per mj_timer_set(). */
struct mj_timer;
struct mj_timer *mj_timer_new(struct mj_loop *l, void (*fn)(void *ctx), void *ctx);
/* Fires `us` microseconds from now, instead of whenever it was to fire; negative = never. */
void mj_timer_set(struct mj_timer *t, int64_t us);
void mj_timer_free(struct mj_timer *t); /* not inside its own callback; NULL is fine */

/* Calls fn every `ms` (1 or more) milliseconds, for the life of the loop. */
void mj_loop_every(struct mj_loop *l, int ms, void (*fn)(void *ctx), void *ctx);

/* SIGHUP wakes the loop, and mj_loop_hung_up() is true once after it. One loop per process. */
void mj_loop_wake_on_hangup(struct mj_loop *l);
bool mj_loop_hung_up(struct mj_loop *l);
/* SIGINT and SIGTERM end the loop (the second one ends the process at once). One loop per process
 * may ask for it. */
void mj_loop_stop_on_signals(struct mj_loop *l);
