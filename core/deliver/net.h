/* What scripts get from the net thread: requests and look-ups by ticket, answered on their own
 * thread.
 *
 *   scripts' thread                          net thread
 *   mj_net_fetch(ticket, …)   ─────────▶     http.h
 *   mj_net_resolve(ticket, …) ─────────▶     resolve.h
 *   mj_net_deliver() ◀── wake ── list ◀───   answers, and questions of webhooks (hook.h) */
#pragma once

#include "deliver/hook.h"
#include "deliver/http.h"
#include "deliver/resolve.h"
#include "script/script.h"

struct mj_net_cfg {
    const char *const *allow; /* borrowed during start: what reach.h takes, beyond the internet */
    size_t allow_count;
    const char *plc;            /* borrowed until stop: resolve.h */
    const char *dns;            /* the same */
    struct mj_journal *journal; /* borrowed until stop: what webhooks read; NULL: there are none */
    /* Called on the net thread, until mj_net_stop() returns, when there are answers and there were
     * none; NULL for none. */
    void (*wake)(void *ctx);
    void *ctx;
    /* Limits; zeros for the defaults. `reach` is filled in here. */
    struct mj_http_cfg http;
    struct mj_resolver_cfg resolver; /* plc and dns are filled in here */
};

struct mj_net;

/* Starts the thread. 0, or MJ_ESYNTAX or MJ_EIO with a sentence appended to `error`. */
int mj_net_start(const struct mj_net_cfg *cfg, struct mj_net **out, struct mj_buf *error);
/* Ends it. Answers that were not delivered are dropped. NULL is fine. */
void mj_net_stop(struct mj_net *n);

/* mj_services.fetch and .resolve, with the net in place of their ctx. */
void mj_net_fetch(struct mj_net *n, uint64_t ticket, const struct mj_fetch *request);
void mj_net_resolve(struct mj_net *n, uint64_t ticket, struct mj_span who, enum mj_resolve how);
/* What one script may reach besides, in place of what was said before: its configuration's
 * http_allow. 0, or MJ_ESYNTAX with a sentence appended to `error`, and nothing changes. */
int mj_net_allow(struct mj_net *n, const char *script, const char *const *allow, size_t count,
                 struct mj_buf *error);
/* mj_services.hook_open, with the net in place of its ctx; mj_hook_close() closes it. NULL without
 * a journal. */
struct mj_hook *mj_net_hook_open(struct mj_net *n, struct mj_reader *reader,
                                 const struct mj_hook_spec *spec);
/* Before the end: webhooks take nothing more, and what they have in the air gets that long. */
void mj_net_drain(struct mj_net *n, int64_t budget_us);
/* Hands all answers there are to the scripts, on their thread. */
void mj_net_deliver(struct mj_net *n, struct mj_scripts *scripts);
/* The client itself, for other parts of the program. */
struct mj_http *mj_net_http(struct mj_net *n);
