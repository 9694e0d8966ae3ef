/* The named sets of the process: `jet.set("vips")` in every script, `did = jet.set("vips")` in
 * matches, `wantedDids=set:vips` of subscribers and `moonjet ctl set` all mean the same one.
 *
 * Any thread may ask for a set and edit it. A set exists from its declaration on and as long as the
 * process; a script that declared it may go. */
#pragma once

#include "state/set.h"

#define MJ_SETS_MAX     1000
#define MJ_SET_NAME_MAX 64

struct mj_sets;

/* `now_us` NULL: the clock. max_bytes: of all sets together, 0 for no limit. */
struct mj_sets *mj_sets_new(int64_t (*now_us)(void *ctx), void *ctx, size_t max_bytes);
/* After the last reference to any of its sets is gone. NULL is fine. */
void mj_sets_free(struct mj_sets *s);

/* Sets are kept on that disk (borrowed) if their options say so; those that disk has are read when
 * they are made. Before the first is made. */
struct mj_disk;
void mj_sets_set_disk(struct mj_sets *s, struct mj_disk *disk);

/* The set of that name, with a reference for the caller; NULL when none has been declared. `s` may
 * be NULL. */
struct mj_set *mj_sets_get(struct mj_sets *s, struct mj_span name);
/* The same, made when there is none. It counts as declared only with mj_sets_declare(), so that a
 * script which does not load leaves nothing behind. NULL when there are MJ_SETS_MAX, or no memory.
 */
struct mj_set *mj_sets_make(struct mj_sets *s, const char *name);
void mj_sets_declare(struct mj_sets *s, struct mj_set *set);
/* A set without a name, of the same clock and budget. NULL without memory. */
struct mj_set *mj_sets_private(struct mj_sets *s);
/* Appends the names declared, "a, b, c", or "none". */
void mj_sets_names(struct mj_sets *s, struct mj_buf *out);
/* Calls `fn` with each declared set, in order of name, under no lock. */
void mj_sets_each(struct mj_sets *s, void (*fn)(void *ctx, struct mj_set *set), void *ctx);
/* How many there are, declared or not. */
size_t mj_sets_count(struct mj_sets *s);
/* About n members' worth of what is due in each. True when there is more. */
bool mj_sets_step(struct mj_sets *s, size_t n);
/* 1 to MJ_SET_NAME_MAX letters, digits and '_', not starting with a digit? Names of all state. */
bool mj_state_name_valid(struct mj_span name);
