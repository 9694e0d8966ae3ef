#include "deliver/net.h"

#include <pthread.h>

#include "base/err.h"

/* A ticket on its way. */
struct letter {
    struct letter *next;
    struct mj_net *net; /* borrowed */
    uint64_t ticket;
    bool is_identity;
    int status;
    char *error;                 /* owned, NULL when all is well */
    struct mj_buf headers, body; /* of a fetch */
    /* Owned; of an identity. */
    char *did, *handle, *pds, *key, *labeler, *label_key;
};

struct mj_net {
    struct mj_reach *reach;       /* owned */
    struct mj_http *http;         /* owned */
    struct mj_resolver *resolver; /* owned */
    struct mj_hooks *hooks;       /* owned; NULL without a journal */
    void (*wake)(void *ctx);
    void *ctx; /* borrowed */
    pthread_mutex_t lock;
    struct letter *first, **last; /* answers */
    struct mj_hook_ask *asks, **asks_last;
};

static struct letter *letter_new(struct mj_net *n, uint64_t ticket)
{
    struct letter *l = mj_calloc(1, sizeof *l);
    l->net = n;
    l->ticket = ticket;
    return l;
}

static void letter_free(struct letter *l)
{
    free(l->error);
    free(l->did);
    free(l->handle);
    free(l->pds);
    free(l->key);
    free(l->labeler);
    free(l->label_key);
    mj_buf_deinit(&l->headers);
    mj_buf_deinit(&l->body);
    free(l);
}

static void post(struct letter *l)
{
    struct mj_net *n = l->net;
    l->next = NULL;
    pthread_mutex_lock(&n->lock);
    bool empty = !n->first && !n->asks;
    *n->last = l;
    n->last = &l->next;
    pthread_mutex_unlock(&n->lock);
    if (empty && n->wake)
        n->wake(n->ctx);
}

static char *copy(const char *s) { return s ? mj_strdup(s) : NULL; }

static void on_fetched(void *ctx, const struct mj_fetched *a)
{
    struct letter *l = ctx;
    l->error = copy(a->error);
    l->status = a->status;
    if (!a->error && (mj_buf_try_reserve(&l->body, a->body.len) ||
                      mj_buf_try_reserve(&l->headers, a->headers.len))) {
        l->error = mj_strdup("out of memory");
    } else if (!a->error) {
        mj_buf_put(&l->body, a->body.ptr, a->body.len);
        mj_buf_put(&l->headers, a->headers.ptr, a->headers.len);
    }
    post(l);
}

static void on_resolved(void *ctx, const struct mj_identity *id)
{
    struct letter *l = ctx;
    l->is_identity = true;
    l->error = copy(id->error);
    l->did = copy(id->did);
    l->handle = copy(id->handle);
    l->pds = copy(id->pds);
    l->key = copy(id->key);
    l->labeler = copy(id->labeler);
    l->label_key = copy(id->label_key);
    post(l);
}

void mj_net_fetch(struct mj_net *n, uint64_t ticket, const struct mj_fetch *request)
{
    mj_http_send(n->http, request, false, on_fetched, letter_new(n, ticket));
}

void mj_net_resolve(struct mj_net *n, uint64_t ticket, struct mj_span who, enum mj_resolve how)
{
    mj_resolver_ask(n->resolver, who, how, on_resolved, letter_new(n, ticket));
}

/* A webhook's parcel, for the script's function. */
static void on_ask(void *ctx, struct mj_hook_ask *ask)
{
    struct mj_net *n = ctx;
    *mj_hook_ask_next(ask) = NULL;
    pthread_mutex_lock(&n->lock);
    bool empty = !n->first && !n->asks;
    *n->asks_last = ask;
    n->asks_last = mj_hook_ask_next(ask);
    pthread_mutex_unlock(&n->lock);
    if (empty && n->wake)
        n->wake(n->ctx);
}

/* scripts NULL: nobody is there any more. */
static void answer_asks(struct mj_net *n, struct mj_scripts *scripts)
{
    pthread_mutex_lock(&n->lock);
    struct mj_hook_ask *list = n->asks;
    n->asks = NULL;
    n->asks_last = &n->asks;
    pthread_mutex_unlock(&n->lock);
    for (struct mj_hook_ask *a = list, *next; a; a = next) {
        struct mj_hook_question q;
        struct mj_formatted made = {.what = MJ_FORMAT_GONE};
        next = *mj_hook_ask_next(a);
        mj_hook_question(a, &q);
        if (scripts)
            mj_scripts_format(scripts, q.function, q.items, q.n, q.list, &made);
        mj_hook_answer(a, &made);
    }
}

struct mj_hook *mj_net_hook_open(struct mj_net *n, struct mj_reader *reader,
                                 const struct mj_hook_spec *spec)
{
    return n->hooks ? mj_hook_open(n->hooks, reader, spec) : NULL;
}

void mj_net_drain(struct mj_net *n, int64_t budget_us)
{
    if (n && n->hooks)
        mj_hooks_drain(n->hooks, budget_us);
}

static struct letter *take_all(struct mj_net *n)
{
    pthread_mutex_lock(&n->lock);
    struct letter *list = n->first;
    n->first = NULL;
    n->last = &n->first;
    pthread_mutex_unlock(&n->lock);
    return list;
}

void mj_net_deliver(struct mj_net *n, struct mj_scripts *scripts)
{
    for (struct letter *l = take_all(n), *next; l; l = next) {
        next = l->next;
        if (l->is_identity) {
            struct mj_identity id = {l->error, l->did,     l->handle,   l->pds,
                                     l->key,   l->labeler, l->label_key};
            mj_scripts_resolved(scripts, l->ticket, &id);
        } else {
            struct mj_fetched a = {.error = l->error,
                                   .status = l->status,
                                   .headers = mj_buf_span(&l->headers),
                                   .body = mj_buf_span(&l->body)};
            mj_scripts_fetched(scripts, l->ticket, &a);
        }
        letter_free(l);
    }
    answer_asks(n, scripts);
}

/* NULL with a sentence in `error`. */
static struct mj_reach *read_list(const char *const *allow, size_t count, struct mj_buf *error)
{
    struct mj_reach *r = mj_reach_new();
    for (size_t i = 0; i < count; i++)
        if (mj_reach_allow(r, allow[i], error)) {
            mj_reach_free(r);
            return NULL;
        }
    return r;
}

int mj_net_allow(struct mj_net *n, const char *script, const char *const *allow, size_t count,
                 struct mj_buf *error)
{
    struct mj_reach *r = read_list(allow, count, error);
    if (!r)
        return MJ_ESYNTAX;
    mj_http_allow(n->http, script, r);
    return 0;
}

struct mj_http *mj_net_http(struct mj_net *n) { return n->http; }

int mj_net_start(const struct mj_net_cfg *cfg, struct mj_net **out, struct mj_buf *error)
{
    struct mj_net *n = mj_calloc(1, sizeof *n);
    pthread_mutex_init(&n->lock, NULL);
    n->last = &n->first;
    n->asks_last = &n->asks;
    n->wake = cfg->wake;
    n->ctx = cfg->ctx;
    n->reach = read_list(cfg->allow, cfg->allow_count, error);
    int err = n->reach ? 0 : MJ_ESYNTAX;
    if (!err) {
        struct mj_http_cfg http = cfg->http;
        http.reach = n->reach;
        err = mj_http_start(&http, &n->http);
        if (err)
            mj_buf_puts(error, "cannot start the net thread");
    }
    if (!err) {
        struct mj_resolver_cfg resolver = cfg->resolver;
        resolver.plc = cfg->plc;
        resolver.dns = cfg->dns;
        err = mj_resolver_new(n->http, &resolver, &n->resolver);
        if (err)
            mj_buf_puts(error, "cannot look up names; the log says why");
    }
    if (!err && cfg->journal) {
        const struct mj_hooks_cfg hooks = {
            .http = n->http, .journal = cfg->journal, .ask = on_ask, .ctx = n};
        n->hooks = mj_hooks_new(&hooks);
    }
    if (err)
        mj_net_stop(n);
    else
        *out = n;
    return err;
}

void mj_net_stop(struct mj_net *n)
{
    if (!n)
        return;
    mj_net_drain(n, 0);
    mj_http_stop(n->http);
    answer_asks(n, NULL);
    mj_hooks_free(n->hooks);
    mj_resolver_free(n->resolver);
    for (struct letter *l = take_all(n), *next; l; l = next) {
        next = l->next;
        letter_free(l);
    }
    mj_reach_free(n->reach);
    pthread_mutex_destroy(&n->lock);
    free(n);
}
