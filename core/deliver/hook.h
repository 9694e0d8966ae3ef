/* Webhooks: each endpoint owns a reader of the journal and posts what it takes from it. Lives on
 * the net thread.
 *
 *   reader ─wake─▶ tick ─▶ take a parcel ─▶ (script's function) ─▶ sign ─▶ line (http.h)
 *                    ▲         │ while there is room: concurrency, rate, bytes, breaker
 *                    └── done ◀┴── answer: done, again later, dead letter, disabled
 *
 * An endpoint has as many requests in the air as it may, and a peer that hangs holds up no other
 * endpoint: nothing here is shared but the thread, and bytes past which everybody has one request
 * at a time. What is not in the air is in the journal.
 *
 * The scripts' thread opens and closes endpoints; a closed one finishes what it has in the air. */
#pragma once

#include "deliver/http.h"
#include "script/hook.h"

struct mj_hooks;
struct mj_hook;

/* A parcel for the script's function, from taking it until it is answered. */
struct mj_hook_ask;

struct mj_hooks_cfg {
    struct mj_http *http;       /* borrowed */
    struct mj_journal *journal; /* borrowed */
    /* Hands the question to the scripts' thread, which answers with mj_hook_answer(). On the net
     * thread; must not wait. NULL: there are no functions. */
    void (*ask)(void *ctx, struct mj_hook_ask *ask);
    void *ctx;        /* borrowed */
    size_t max_bytes; /* of parcels in the air, past which each endpoint has one; 0: 256 MiB */
};

/* Never NULL. One per mj_http. */
struct mj_hooks *mj_hooks_new(const struct mj_hooks_cfg *cfg);
/* Takes nothing more from any reader, and gives what is in the air that long. Any thread. */
void mj_hooks_drain(struct mj_hooks *hs, int64_t budget_us);
/* After mj_http_stop(), which ends what is still in the air: it goes back. NULL is fine. */
void mj_hooks_free(struct mj_hooks *hs);

/* Whether an endpoint can be made of it: URL, headers, secrets, allow. 0, or MJ_EINVAL with a
 * sentence. Any thread. */
int mj_hook_check(const struct mj_hook_spec *spec, struct mj_buf *error);
/* Begins to post what the reader has; the spec is copied. NULL, after a line in the log, when
 * mj_hook_check() would fail. The scripts' thread. */
struct mj_hook *mj_hook_open(struct mj_hooks *hs, struct mj_reader *reader,
                             const struct mj_hook_spec *spec);
/* Lets go of the reader, unless another has it by now. NULL is fine. */
void mj_hook_close(struct mj_hook *hook);

/* For the scripts' thread: the question, and its answer, which is taken over (its buffers are empty
 * afterwards). Once per ask. */
struct mj_hook_question {
    uint64_t function;           /* of the spec */
    const struct mj_item *items; /* borrowed until the answer */
    size_t n;
    bool list; /* the function gets lists */
};
void mj_hook_question(const struct mj_hook_ask *ask, struct mj_hook_question *out);
void mj_hook_answer(struct mj_hook_ask *ask, struct mj_formatted *answer);
/* Where questions are kept on their way; the asker's own. */
struct mj_hook_ask **mj_hook_ask_next(struct mj_hook_ask *ask);
