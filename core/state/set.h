/* A set of texts that any thread may edit while others look into it.
 *
 *   script ─┐                       ┌─▶ matches        on the router's thread
 *   ctl ────┼─▶ mutex ─▶ table ─────┤
 *   file ───┘                       └─▶ subscribers'   on the server's
 *                                       filters
 *
 * Looking takes no lock and waits for nobody: a hash, the mark of a bucket, mostly no or one item
 * (table.h). What is removed is freed once no reader can hold it any more (epoch.h). A reader that
 * has worked something out from a set asks mj_set_version() whether it still holds.
 *
 * Glossary. Given members come from a list or a file; they neither end nor count for the limit, and
 * go when whoever gave them gives others. All the rest are live members.
 *
 * A set lives while it is referenced. */
#pragma once

#include "state/cells.h"
#include "state/members.h"

#define MJ_SET_GIVERS_MAX 32

struct mj_set;

/* A set of its own, without a name. `now_us`: Unix µs; the budget may be NULL; both are borrowed.
 * NULL without memory. */
struct mj_set *mj_set_new(int64_t (*now_us)(void *ctx), void *ctx, struct mj_state_budget *budget);
struct mj_set *mj_set_ref(struct mj_set *s);
void mj_set_unref(struct mj_set *s);             /* NULL is fine */
const char *mj_set_name(const struct mj_set *s); /* "" when it has none */

/* ---- readers, on any thread ---- */

bool mj_set_has(const struct mj_set *s, struct mj_span text);
/* The same, when the caller has mj_hash() of the text. */
bool mj_set_has_hashed(const struct mj_set *s, struct mj_span text, uint64_t hash);
/* May it have a text of which only the low half of mj_hash() is known? Nearly never wrong. */
bool mj_set_may_have(const struct mj_set *s, uint32_t low);
/* Is `fn` true for one of them? It is called inside an mj_epoch section, and must not edit sets. */
bool mj_set_any(const struct mj_set *s, bool (*fn)(void *ctx, struct mj_span member), void *ctx);
/* Larger after each change of what is in it. */
uint64_t mj_set_version(const struct mj_set *s);
size_t mj_set_count(const struct mj_set *s);
/* How many live members it holds at most. */
uint64_t mj_set_max(struct mj_set *s);

/* ---- writers, on any thread ---- */

/* 1 when it is new, 0 when it was there (it is the newest now). MJ_EINVAL: empty; MJ_EBIG: above
 * MJ_STATE_KEY_MAX bytes; MJ_ENOMEM; MJ_ELIMIT: the budget is used up. */
int mj_set_add(struct mj_set *s, struct mj_span text);
/* 1 when it was there, else 0. */
int mj_set_remove(struct mj_set *s, struct mj_span text);
/* 0 or MJ_ENOMEM. Given members go, too. */
int mj_set_clear(struct mj_set *s);
/* Its live members are exactly these afterwards, the last one the newest, and nothing is given any
 * more, nor comes in that was still being given. Other writers wait until all of it is done.
 * Readers do not: what was in the set and is named is there all the while, what is not named goes
 * first, then the new ones come. Disk has the old members as a whole until it has the new ones. 0;
 * MJ_ELIMIT: more than the set's max, and nothing has changed, or more than the budget has room
 * for, and MJ_ENOMEM: then some of them are missing. */
int mj_set_replace(struct mj_set *s, const struct mj_members *m);
/* What was said; lower limits are caught up with step by step. */
void mj_set_configure(struct mj_set *s, const struct mj_state_options *o);
/* These are the giver's members from now on, instead of those it gave before; the same ones once
 * more change nothing, whatever was edited meanwhile. *m is taken and empty afterwards. The first
 * time it is done at once, later many members are left to mj_set_step(); what is removed before its
 * turn has come stays away. 0; MJ_ELIMIT: too many givers, or the budget is used up; MJ_ENOMEM. */
int mj_set_give(struct mj_set *s, const char *giver, struct mj_members *m);
/* The member behind `text` ({NULL, 0}: the first), copied to *out. 1; 0 at the end; MJ_EAGAIN: *out
 * is where to go on from. */
int mj_set_after(struct mj_set *s, struct mj_span text, struct mj_buf *out);
/* About n members' worth of what is due. True when there is more. */
bool mj_set_step(struct mj_set *s, size_t n);
