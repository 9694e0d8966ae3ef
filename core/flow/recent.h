/* Keys seen of late: a bounded table of 64-bit hashes with a time each, in the order they were
 * added. What a dedupe node has seen and where a limit node's buckets stand.
 *
 *   log     entries (hash, time) in chunks: added at the head, forgotten at the tail
 *   shards  small open-addressing tables of places in the log, by the hash's upper bits: each grows
 *           by itself, so a table of millions never stops the world
 *
 * Takes 16 bytes an entry in the log and 5 to 11 in a shard, allocated as entries come, given back
 * as they go. The hash is the key: whoever adds keys of strangers seeds it. One thread. */
#pragma once

#include "base/bytes.h"

#define MJ_RECENT_MAX 10000000

struct mj_recent;

/* At most `max` entries (1 to MJ_RECENT_MAX). What is past its time goes when others come. When it
 * is full the oldest goes; with `rotate`, an old entry whose time was moved on is put in front
 * again first. Never NULL. */
struct mj_recent *mj_recent_new(size_t max, bool rotate);
void mj_recent_free(struct mj_recent *r); /* NULL is fine */
/* The time of the hash, past or not, to be read and changed until the next call; NULL when there is
 * none. */
int64_t *mj_recent_find(const struct mj_recent *r, uint64_t hash);
/* Adds the hash as the newest, with a time after which it may go; if it is there, it is moved. */
void mj_recent_add(struct mj_recent *r, uint64_t hash, int64_t time, int64_t now);
size_t mj_recent_count(const struct mj_recent *r);
size_t mj_recent_bytes(const struct mj_recent *r); /* allocated */
