/* A handle in a question: events carry DIDs, so it is looked up first, as scripts' handles are
 * (deliver/resolve.h), by the command that asks. */
#include <pthread.h>
#include <time.h>

#include "base/err.h"
#include "cli/why.h"
#include "deliver/resolve.h"

#define WAIT_SECONDS 30 /* both steps have deadlines of their own, so this is for none */

struct waiting {
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool done;
    struct mj_buf did, error; /* owned */
};

static void on_answer(void *ctx, const struct mj_identity *identity)
{
    struct waiting *w = ctx;
    pthread_mutex_lock(&w->lock);
    if (identity->error)
        mj_buf_puts(&w->error, identity->error);
    else
        mj_buf_puts(&w->did, identity->did);
    w->done = true;
    pthread_cond_signal(&w->answered);
    pthread_mutex_unlock(&w->lock);
}

static void wait_for(struct waiting *w)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_SECONDS;
    pthread_mutex_lock(&w->lock);
    while (!w->done && !pthread_cond_timedwait(&w->answered, &w->lock, &until))
        ;
    pthread_mutex_unlock(&w->lock);
}

int why_handle_resolve(struct mj_span handle, const struct why_lookup *l, struct mj_buf *did,
                       struct mj_buf *error)
{
    struct mj_http *http;
    struct mj_resolver *resolver;
    struct waiting w = {.lock = PTHREAD_MUTEX_INITIALIZER, .answered = PTHREAD_COND_INITIALIZER};
    const struct mj_http_cfg http_cfg = {0};
    const struct mj_resolver_cfg cfg = {.plc = l->plc, .dns = l->dns};
    int err = mj_http_start(&http_cfg, &http);
    if (err) {
        mj_buf_puts(error, "there is no thread to look it up on");
        return err;
    }
    err = mj_resolver_new(http, &cfg, &resolver);
    if (err)
        mj_buf_printf(error, "--dns %s: expected ADDRESS:PORT", l->dns ? l->dns : "");
    if (!err) {
        mj_resolver_ask(resolver, handle, MJ_RESOLVE_WHO, on_answer, &w);
        wait_for(&w);
    }
    /* Whoever still waits is answered here, so `w` is nobody's afterwards. */
    mj_http_stop(http);
    if (!err) {
        mj_resolver_free(resolver);
        if (w.did.len) {
            mj_buf_put(did, w.did.ptr, w.did.len);
        } else {
            mj_buf_printf(error, "%.*s: %s; a DID in its place needs no look-up", (int)handle.len,
                          (const char *)handle.ptr,
                          w.error.len ? mj_buf_cstr(&w.error) : "no answer");
            err = MJ_ENOENT;
        }
    }
    mj_buf_deinit(&w.did);
    mj_buf_deinit(&w.error);
    return err;
}
