/* The store: what scripts remember, by script, name and type. It outlives the scripts' VMs, so a
 * reload finds everything in its place.
 *
 *   store ─┬─ named sets, of all scripts (sets.h)
 *          ├─ labels, of all labelers (labels.h)
 *          └─ shelf "moon.lua" ─┬─ map "seen"
 *             shelf "bot.lua"   ├─ zset "likes"
 *                               └─ top "tags"
 *
 * A script that is being loaded only makes a plan, of what it declares. The plan is carried out
 * when the script takes over, or dropped when it does not: a script that fails to load changes
 * nothing for the one that runs.
 *
 *   plan = mj_plan_new(shelf) ─ mj_plan_map() … ─┬─ loaded ─▶ mj_plan_commit()
 *                                                └──────────▶ mj_plan_free()
 *
 * A shelf belongs to one thread at a time, the one that runs its script; everything else here may
 * be called on any thread. */
#pragma once

#include "state/labels.h"
#include "state/map.h"
#include "state/sets.h"
#include "state/top.h"
#include "state/zset.h"

#define MJ_SHELF_STATES_MAX 1000

struct mj_store;
struct mj_disk;
struct mj_shelf;
struct mj_plan;
struct mj_metric;

struct mj_store_cfg {
    const char *data;             /* directory; NULL or "": nothing is kept on disk */
    int64_t (*now_us)(void *ctx); /* Unix µs, any thread; NULL: the clock */
    void *ctx;
    size_t script_bytes; /* of one script's state; 0: 1 GiB */
    size_t sets_bytes;   /* of all named sets; 0: 1 GiB */
};

enum mj_state_type { MJ_STATE_MAP, MJ_STATE_ZSET, MJ_STATE_TOP };

struct mj_state {
    enum mj_state_type type;
    char *name; /* owned */
    unsigned refs;
    struct mj_shelf *shelf; /* borrowed */
    struct mj_state *next;  /* once nobody has it any more */
    struct mj_metric *entries, *bytes, *evicted;
    uint64_t evicted_told;
    union {
        struct mj_cells cells; /* of map or zset */
        struct mj_map map;
        struct mj_zset zset;
        struct mj_top top;
    };
};

/* 0, or a negative error with a sentence that says what to do appended to `error`. */
int mj_store_open(const struct mj_store_cfg *cfg, struct mj_store **out, struct mj_buf *error);
/* Writes what is not on disk yet. After the last reference to a state or set is gone. NULL is
 * fine. */
void mj_store_close(struct mj_store *s);
struct mj_sets *mj_store_sets(struct mj_store *s);
/* The labels of all labelers; there from mj_store_open() on, opened by the first who needs them. */
struct mj_labels *mj_store_labels(struct mj_store *s);
/* What it keeps things on; NULL without a data directory. Borrowed as long as the store. */
struct mj_disk *mj_store_disk(struct mj_store *s);
int64_t mj_store_now(const struct mj_store *s); /* Unix µs */

/* The script's shelf, with what disk has of it, which may take a while the first time. Never NULL;
 * it stays as long as the store, so that a script which comes back finds what it knew. */
struct mj_shelf *mj_store_shelf(struct mj_store *s, const char *script);
struct mj_store *mj_shelf_store(const struct mj_shelf *shelf);
/* Unix µs for an operation on the state: exact where ends depend on it, else as of the last step.
 */
int64_t mj_shelf_now(const struct mj_shelf *shelf, const struct mj_state *s);
/* What is due on the shelf: ends, memory, writing; for about budget_us. Returns after how many µs
 * to call it again; -1: not before something is declared. */
int64_t mj_shelf_step(struct mj_shelf *shelf, int64_t budget_us);
/* The same for the named sets. */
int64_t mj_store_step(struct mj_store *s, int64_t budget_us);

/* What a script declares, until it takes over. */
struct mj_plan *mj_plan_new(struct mj_shelf *shelf);
/* Drops what was not carried out. NULL is fine. */
void mj_plan_free(struct mj_plan *p);
/* The state of that name and type, as it is, or a fresh one; borrowed as long as the plan: take a
 * reference to keep it. MJ_EINVAL with a sentence when the
 * script has declared the name otherwise already; MJ_ELIMIT, MJ_ENOMEM alike. */
int mj_plan_state(struct mj_plan *p, enum mj_state_type type, const char *name,
                  const struct mj_state_options *o, struct mj_state **out, struct mj_buf *error);
int mj_plan_top(struct mj_plan *p, const char *name, size_t k, int64_t window_us,
                struct mj_state **out, struct mj_buf *error);
/* A named set, with a reference for the caller. `members` (NULL: none) are taken on success. */
int mj_plan_set(struct mj_plan *p, const char *name, const struct mj_state_options *o,
                struct mj_members *members, struct mj_set **out, struct mj_buf *error);
/* Room for members while they are gathered; empty at first. Borrowed as long as the plan. */
struct mj_members *mj_plan_members(struct mj_plan *p);
/* The script takes over: what it does not declare any more is forgotten, unless disk keeps it. */
void mj_plan_commit(struct mj_plan *p);

struct mj_state *mj_state_ref(struct mj_state *s);
void mj_state_unref(struct mj_state *s); /* NULL is fine */
