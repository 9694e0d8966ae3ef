/* What the files of core/script share about the set of scripts; internal to core/script.
 *
 *   mj_scripts ─owns─▶ mj_script ─owns─▶ mj_vm ─owns─▶ graph, lent to the router
 *
 * A script is a file that runs now: its VM, where it came from, and its life (life.h). */
#pragma once

#include "script/life.h"
#include "script/vm.h"

struct mj_script {
    struct mj_scripts *owner; /* borrowed */
    struct mj_vm *vm;         /* owned */
    char *path;               /* owned: as it was given */
    uint64_t cfg_digest;      /* of the configuration it was loaded with */
    size_t place;             /* reload.c's own */
    int64_t loaded_us;        /* monotonic */
    struct mj_life life;
    enum mj_on_error on_error;
    bool struck; /* the call in progress, or the last one, was a strike */
    struct mj_metric *state, *strikes, *quarantines;
};

struct mj_scripts {
    struct mj_router *router;   /* borrowed, may be NULL */
    struct mj_guard *guard;     /* owned */
    struct mj_sched *sched;     /* owned */
    bool strict, lenient;       /* mj_scripts_strict(), mj_scripts_lenient() */
    bool asked;                 /* mj_scripts_asked() */
    bool shared;                /* mj_scripts_share() */
    int64_t shares_us;          /* monotonic: since when each one's sync_ns counts; 0: not yet */
    struct mj_store *store;     /* borrowed, or owned if it is `own_store` */
    struct mj_store *own_store; /* owned: in memory, while nobody gave another */
    struct mj_script **scripts; /* owned, in load order */
    size_t count;
    struct mj_script **retired; /* owned: replaced, and still ending */
    size_t retired_count;
    void (*on_stuck)(void *ctx, const struct mj_stuck *stuck);
    void *stuck_ctx; /* borrowed */
};

/* script.c: a fresh script, loaded but in no router and no list. NULL with a sentence in `error`
 * and the reason in *err. */
struct mj_script *mj__script_new(struct mj_scripts *s, const char *path,
                                 const struct mj_script_cfg *cfg, struct mj_buf *error, int *err);
void mj__script_free(struct mj_script *script);
/* Takes a script that no router has any more: its tasks get some seconds to end, then it is freed.
 */
void mj__retire(struct mj_scripts *s, struct mj_script *script);
/* Frees those that have ended. True when none is left. */
bool mj__retired_tick(struct mj_scripts *s);

/* reload.c: tells two configurations of a script apart. */
uint64_t mj__cfg_digest(const struct mj_script_cfg *cfg);

/* bind_serve.c: the set of scripts has changed, and with it the routes: tells the services. */
void mj__serving_publish(struct mj_scripts *s);
/* In mj_vm_free(), behind the tasks: answers requests that nobody will answer any more. */
void mj__serving_free(struct mj_vm *vm);
/* Whether no request is being answered. */
bool mj__serving_idle(const struct mj_vm *vm);

/* strikes.c */
/* The VM's script was stopped for its time, or ran out of memory: may quarantine it. On the
 * scripts' thread; mj_vm_call() does it by itself, for tasks whoever slices them. Nothing happens
 * while the script is being loaded. */
void mj__strike(struct mj_vm *vm);
/* Ends quarantines that are over; monotonic µs. Returns when to call again, or -1. */
int64_t mj__lives_tick(struct mj_scripts *s, int64_t now);
/* Says who takes most of everybody's time; monotonic µs. */
void mj__shares_tick(struct mj_scripts *s, int64_t now);
/* " (2 strikes)", " (3 strikes, quarantined 4s)", or "" when the last call was no strike. Returns
 * out. */
const char *mj__strike_words(const struct mj_script *script, char *out, size_t cap);
