#include "server/call.h"

#include <pthread.h>
#include <stdio.h>

#include "base/err.h"
#include "server/internal.h"

void mj_call_answer(void *call, int status, struct mj_span headers, struct mj_span body)
{
    struct mj__call *c = call;
    struct mj_desk *desk = c->desk;
    c->status = status;
    mj_buf_put(&c->out_headers, headers.ptr, headers.len);
    if (mj_buf_try_reserve(&c->out_body, body.len)) {
        c->status = 500;
        body.len = 0;
    }
    mj_buf_put(&c->out_body, body.ptr, body.len);
    pthread_mutex_lock(&desk->lock);
    if (desk->closed) {
        pthread_mutex_unlock(&desk->lock);
        mj__call_free(c);
        return;
    }
    c->call.next = desk->answered;
    desk->answered = &c->call;
    /* Inside the lock: behind it the server may be gone, and its loop with it. */
    ev_async_send(desk->loop, desk->async);
    pthread_mutex_unlock(&desk->lock);
}

void mj_call_fail(struct mj_call *call, int status, const char *fmt, ...)
{
    MJ_AUTO_BUF text = {0};
    MJ_AUTO_BUF json = {0};
    va_list ap;
    va_start(ap, fmt);
    mj_buf_vprintf(&text, fmt, ap);
    va_end(ap);
    mj_buf_puts(&json, "{\"error\":");
    mj_buf_put_json(&json, mj_buf_span(&text));
    mj_buf_puts(&json, "}\n");
    mj_call_answer(call, status, mj_span(NULL, 0), mj_buf_span(&json));
}

bool mj_call_gone(const struct mj_call *call)
{
    return atomic_load_explicit(&((const struct mj__call *)call)->gone, memory_order_relaxed);
}

static void desk_unref(struct mj_desk *d)
{
    if (atomic_fetch_sub(&d->refs, 1) > 1)
        return;
    pthread_mutex_destroy(&d->lock);
    free(d);
}

struct mj_desk *mj__desk_new(struct ev_loop *loop, ev_async *async)
{
    struct mj_desk *d = mj_calloc(1, sizeof *d);
    pthread_mutex_init(&d->lock, NULL);
    d->loop = loop;
    d->async = async;
    atomic_init(&d->refs, 1);
    return d;
}

void mj__desk_close(struct mj_desk *d)
{
    if (!d)
        return;
    pthread_mutex_lock(&d->lock);
    struct mj_call *left = d->answered;
    d->answered = NULL;
    d->closed = true;
    pthread_mutex_unlock(&d->lock);
    while (left) {
        struct mj_call *next = left->next;
        mj__call_free((struct mj__call *)left);
        left = next;
    }
    desk_unref(d);
}

struct mj_call *mj__desk_answered(struct mj_desk *d)
{
    pthread_mutex_lock(&d->lock);
    struct mj_call *list = d->answered;
    d->answered = NULL;
    pthread_mutex_unlock(&d->lock);
    return list;
}

struct mj__call *mj__call_new(struct mj_desk *d)
{
    struct mj__call *c = mj_calloc(1, sizeof *c);
    c->desk = d;
    atomic_fetch_add(&d->refs, 1);
    return c;
}

void mj__call_free(struct mj__call *c)
{
    desk_unref(c->desk);
    mj_buf_deinit(&c->text);
    mj_buf_deinit(&c->in);
    mj_buf_deinit(&c->out_headers);
    mj_buf_deinit(&c->out_body);
    free(c);
}

void mj__call_fill(struct mj__call *c, enum mj_call_kind kind, const struct mj_http_head *head,
                   struct mj_span path, const char *peer)
{
    struct mj_buf *t = &c->text;
    struct mj_call *call = &c->call;
    call->kind = kind;
    if (mj_span_is(head->method, "HEAD"))
        mj_buf_puts(t, "GET");
    else
        mj_buf_put(t, head->method.ptr, head->method.len);
    size_t at_path = t->len;
    mj_buf_put(t, path.ptr, path.len);
    size_t at_query = t->len;
    mj_buf_put(t, head->query.ptr, head->query.len);
    size_t at_peer = t->len;
    mj_buf_puts(t, peer);
    size_t at_headers = t->len;
    for (size_t i = 0; i < head->count; i++) {
        struct mj_span name = head->headers[i].name, value = head->headers[i].value;
        for (size_t k = 0; k < name.len; k++) {
            uint8_t b = name.ptr[k];
            mj_buf_putc(t, (char)(b >= 'A' && b <= 'Z' ? b | 0x20 : b));
        }
        mj_buf_puts(t, ": ");
        mj_buf_put(t, value.ptr, value.len);
        mj_buf_puts(t, "\r\n");
    }
    call->method = mj_span(t->ptr, at_path);
    call->path = mj_span(t->ptr + at_path, at_query - at_path);
    call->query = mj_span(t->ptr + at_query, at_peer - at_query);
    call->peer = mj_span(t->ptr + at_peer, at_headers - at_peer);
    call->headers = mj_span(t->ptr + at_headers, t->len - at_headers);
}

struct mj_calls {
    pthread_mutex_t lock;
    struct mj_call *first, **last;
    void (*wake)(void *ctx);
    void *ctx; /* borrowed */
};

struct mj_calls *mj_calls_new(void (*wake)(void *ctx), void *ctx)
{
    struct mj_calls *c = mj_calloc(1, sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    c->last = &c->first;
    c->wake = wake;
    c->ctx = ctx;
    return c;
}

void mj_calls_free(struct mj_calls *c)
{
    if (!c)
        return;
    for (struct mj_call *call; (call = mj_calls_take(c));)
        mj_call_fail(call, 503, "Moonjet is stopping");
    pthread_mutex_destroy(&c->lock);
    free(c);
}

void mj_calls_put(void *calls, struct mj_call *call)
{
    struct mj_calls *c = calls;
    call->next = NULL;
    pthread_mutex_lock(&c->lock);
    bool empty = !c->first;
    *c->last = call;
    c->last = &call->next;
    pthread_mutex_unlock(&c->lock);
    if (empty && c->wake)
        c->wake(c->ctx);
}

struct mj_call *mj_calls_take(struct mj_calls *c)
{
    pthread_mutex_lock(&c->lock);
    struct mj_call *call = c->first;
    if (call) {
        c->first = call->next;
        if (!c->first)
            c->last = &c->first;
        call->next = NULL;
    }
    pthread_mutex_unlock(&c->lock);
    return call;
}

struct mj_routes {
    pthread_mutex_t lock;
    struct entry {
        char *text; /* owned; `route` borrows from it */
        struct mj_route route;
    } * v;
    size_t n;
};

struct mj_routes *mj_routes_new(void)
{
    struct mj_routes *r = mj_calloc(1, sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    return r;
}

static void clear(struct mj_routes *r)
{
    for (size_t i = 0; i < r->n; i++)
        free(r->v[i].text);
    free(r->v);
    r->v = NULL;
    r->n = 0;
}

void mj_routes_free(struct mj_routes *r)
{
    if (!r)
        return;
    clear(r);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void mj_routes_set(struct mj_routes *r, const char *const *routes, size_t n)
{
    pthread_mutex_lock(&r->lock);
    clear(r);
    r->v = mj_calloc(n + 1, sizeof *r->v);
    for (size_t i = 0; i < n; i++) {
        struct entry e = {.text = mj_strdup(routes[i])};
        if (mj_route_parse(mj_str(e.text), &e.route, NULL)) {
            free(e.text);
            continue;
        }
        r->v[r->n++] = e;
    }
    pthread_mutex_unlock(&r->lock);
}

int mj__routes_find(struct mj_routes *r, struct mj_span method, struct mj_span path,
                    struct mj_buf *name, struct mj_buf *allow)
{
    struct mj_route_look look = {.method = method, .path = path, .allow = allow};
    size_t at = 0;
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->n; i++)
        if (mj_route_look_at(&look, &r->v[i].route))
            at = i;
    if (look.fit)
        mj_buf_puts(name, r->v[at].text);
    pthread_mutex_unlock(&r->lock);
    return look.fit ? 0 : look.known ? MJ_EINVAL : MJ_ENOENT;
}
