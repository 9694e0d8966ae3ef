/* Where persistent state is on disk: one LMDB environment, written by a thread of its own. Whoever
 * owns state hands over batches of changes and never waits; the thread applies all that have come
 * in one transaction, about twice a second. So kill -9 costs about a second at most, power loss no
 * more, and what is there is always whole.
 *
 *   key                                       value
 *   0 (8 bytes) │ script │ zero byte │ name   number (8 bytes), kind: which cells are whose
 *   number (8)  │ …                           a cell (codec.h)
 *
 * Numbers are never reused while a process runs. What has a number that nobody owns, because the
 * process ended before it was swept, is swept at the next start.
 *
 * When the disk takes nothing (it is full, say), that is logged and counted, the batches stay in
 * memory, up to a limit, and are tried again every second. */
#pragma once

#include "base/bytes.h"

struct mj_disk;

/* Kinds of what is kept. */
#define MJ_DISK_MAP  'm'
#define MJ_DISK_ZSET 'z'
#define MJ_DISK_SET  's'

/* Makes DIR if need be. 0, or MJ_EIO with a sentence that names it and the remedy in `error`. */
int mj_disk_open(const char *dir, struct mj_disk **out, struct mj_buf *error);
/* For looking at it, also while another process writes: what is handed over is dropped. 0;
 * MJ_ENOENT when there is nothing, MJ_EIO, with a sentence in `error`. */
int mj_disk_open_read_only(const char *dir, struct mj_disk **out, struct mj_buf *error);
/* Writes what was handed over, if the disk takes it, and ends the thread. NULL is fine. */
void mj_disk_close(struct mj_disk *d);

/* Changes, in the order in which they are to be made. */
void mj_batch_put(struct mj_buf *batch, struct mj_span key, struct mj_span value);
void mj_batch_remove(struct mj_buf *batch, struct mj_span key);
/* Everything under the number, bit by bit. */
void mj_batch_sweep(struct mj_buf *batch, uint64_t number);
/* The number and kind of a script's state of that name. */
void mj_batch_name(struct mj_buf *batch, const char *script, const char *name, uint64_t number,
                   char kind);
void mj_batch_forget(struct mj_buf *batch, const char *script, const char *name);

/* Any thread. True when the batch was taken, and is empty then; false when too much is waiting
 * already, unless `force`. */
bool mj_disk_hand_over(struct mj_disk *d, struct mj_buf *batch, bool force);
/* Has what was handed over written now, without waiting for more to come, and waits for that, for
 * wait_us at most. False when it is not on the disk then. Any thread. */
bool mj_disk_flush(struct mj_disk *d, int64_t wait_us);
/* Would a large batch be taken now? */
bool mj_disk_has_room(struct mj_disk *d);
/* How many batches were handed over, and how many of these, in that order, are on the disk. */
uint64_t mj_disk_handed(struct mj_disk *d);
uint64_t mj_disk_written(struct mj_disk *d);
uint64_t mj_disk_new_number(struct mj_disk *d);

/* Calls `fn` for each state of a script that is kept. Any thread, but not from `fn`. 0 or MJ_EIO.
 */
int mj_disk_names(struct mj_disk *d, const char *script,
                  void (*fn)(void *ctx, const char *name, uint64_t number, char kind), void *ctx);
/* Calls `fn` for each key and value under the number; they are good until mj_disk_read() returns,
 * and so `done` may still use them. 0 or MJ_EIO. */
int mj_disk_read(struct mj_disk *d, uint64_t number,
                 void (*fn)(void *ctx, struct mj_span key, struct mj_span value),
                 void (*done)(void *ctx), void *ctx);
/* The same from the first key at or above number and `from` on, until `fn` says false. Key and
 * value are borrowed during the call. */
int mj_disk_walk(struct mj_disk *d, uint64_t number, struct mj_span from,
                 bool (*fn)(void *ctx, struct mj_span key, struct mj_span value), void *ctx);
