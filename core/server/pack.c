#include "server/pack.h"

#include <zstd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/ws.h"

#define BLOCK_MAX (4u << 20)  /* bytes a block keeps */
#define CHUNK     (64u << 10) /* of a block, unless a frame is larger */
#define BUDGET    (8u << 20)  /* of all blocks; two are kept whatever they take */
#define CHAINS    256         /* more than blocks fit the budget */
#define HEAD      4           /* what most frames need */

struct chunk {
    struct chunk *next;
    size_t used, cap;
    uint8_t data[];
};

struct block {
    uint64_t window; /* seq / MJ_PACK_WINDOW */
    struct block *chain;
    struct block *newer, *older; /* by last use */
    struct chunk *chunks;        /* owned, the one being filled first */
    size_t size;
    const uint8_t *at[MJ_PACK_WINDOW];
    uint32_t len[MJ_PACK_WINDOW]; /* 0: not made yet */
};

struct mj_packer {
    ZSTD_CCtx *cctx;   /* owned */
    ZSTD_CDict *cdict; /* owned */
    struct block *chains[CHAINS];
    struct block *newest, *oldest;
    size_t size, count;
    struct mj_buf scratch;
    struct mj_metric *events, *in, *out, *kept;
};

int mj_packer_new(struct mj_span dictionary, struct mj_packer **out)
{
    if (!ZSTD_getDictID_fromDict(dictionary.ptr, dictionary.len))
        return MJ_EINVAL;
    struct mj_packer *p = mj_calloc(1, sizeof *p);
    p->cctx = ZSTD_createCCtx();
    p->cdict = ZSTD_createCDict(dictionary.ptr, dictionary.len, 1);
    if (!p->cctx || !p->cdict ||
        ZSTD_isError(ZSTD_CCtx_setParameter(p->cctx, ZSTD_c_checksumFlag, 1)) ||
        ZSTD_isError(ZSTD_CCtx_refCDict(p->cctx, p->cdict))) {
        mj_packer_free(p);
        return MJ_EINVAL;
    }
    p->events = mj_metric("moonjet_zstd_events_total", MJ_COUNTER, "Events compressed.", NULL);
    p->in = mj_metric("moonjet_zstd_in_bytes_total", MJ_COUNTER, "Bytes of JSON compressed.", NULL);
    p->out =
        mj_metric("moonjet_zstd_out_bytes_total", MJ_COUNTER, "Bytes of zstd they became.", NULL);
    p->kept =
        mj_metric("moonjet_zstd_kept_bytes", MJ_GAUGE, "Memory held for compressed events.", NULL);
    *out = p;
    return 0;
}

/* ---- blocks ---- */

static struct block **chain_of(struct mj_packer *p, uint64_t window)
{
    return &p->chains[(window * UINT64_C(0x9e3779b97f4a7c15) >> 32) % CHAINS];
}

static void unlink_used(struct mj_packer *p, struct block *b)
{
    *(b->newer ? &b->newer->older : &p->newest) = b->older;
    *(b->older ? &b->older->newer : &p->oldest) = b->newer;
}

static void link_newest(struct mj_packer *p, struct block *b)
{
    b->newer = NULL;
    b->older = p->newest;
    *(p->newest ? &p->newest->newer : &p->oldest) = b;
    p->newest = b;
}

static void drop(struct mj_packer *p, struct block *b)
{
    struct block **at = chain_of(p, b->window);
    while (*at != b)
        at = &(*at)->chain;
    *at = b->chain;
    unlink_used(p, b);
    p->size -= b->size;
    p->count--;
    for (struct chunk *c = b->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(b);
}

void mj_packer_free(struct mj_packer *p)
{
    if (!p)
        return;
    while (p->newest)
        drop(p, p->newest);
    if (p->kept)
        mj_metric_set(p->kept, 0);
    ZSTD_freeCCtx(p->cctx);
    ZSTD_freeCDict(p->cdict);
    mj_buf_deinit(&p->scratch);
    free(p);
}

static struct block *block_of(struct mj_packer *p, uint64_t seq)
{
    uint64_t window = seq / MJ_PACK_WINDOW;
    struct block *b = p->newest;
    if (b && b->window == window)
        return b;
    struct block **chain = chain_of(p, window);
    for (b = *chain; b; b = b->chain)
        if (b->window == window) {
            unlink_used(p, b);
            link_newest(p, b);
            return b;
        }
    /* The one used last may still be borrowed from. */
    while (p->size > BUDGET && p->count > 1)
        drop(p, p->oldest);
    chain = chain_of(p, window);
    b = mj_calloc(1, sizeof *b);
    b->window = window;
    b->size = sizeof *b;
    b->chain = *chain;
    *chain = b;
    link_newest(p, b);
    p->count++;
    p->size += b->size;
    mj_metric_set(p->kept, (int64_t)p->size);
    return b;
}

/* A chunk with room for n bytes; NULL without memory. */
static struct chunk *chunk_for(struct mj_packer *p, struct block *b, size_t n)
{
    struct chunk *c = b->chunks;
    if (c && c->cap - c->used >= n)
        return c;
    size_t cap = n > CHUNK ? n : CHUNK;
    c = malloc(sizeof *c + cap);
    if (!c)
        return NULL;
    c->used = 0;
    c->cap = cap;
    c->next = b->chunks;
    b->chunks = c;
    b->size += sizeof *c + cap;
    p->size += sizeof *c + cap;
    mj_metric_set(p->kept, (int64_t)p->size);
    return c;
}

/* ---- frames ---- */

/* Room a frame may need at most, its head included. */
static size_t bound(size_t json) { return ZSTD_compressBound(json) + MJ_WS_HEAD_MAX; }

/* Writes the frame into bound() bytes; its size, or 0 when zstd fails. */
static size_t make(struct mj_packer *p, struct mj_span json, uint8_t *out)
{
    size_t n =
        ZSTD_compress2(p->cctx, out + HEAD, ZSTD_compressBound(json.len), json.ptr, json.len);
    if (ZSTD_isError(n)) {
        static struct mj_log_gate gate;
        mj_log_limited(&gate, 1, MJ_LOG_ERROR, "server", "zstd: %s", ZSTD_getErrorName(n));
        return 0;
    }
    uint8_t head[MJ_WS_HEAD_MAX];
    size_t h = mj_ws_head(head, MJ_WS_BINARY, n);
    if (h != HEAD)
        memmove(out + h, out + HEAD, n);
    memcpy(out, head, h);
    mj_metric_add(p->events, 1);
    mj_metric_add(p->in, (int64_t)json.len);
    mj_metric_add(p->out, (int64_t)n);
    return h + n;
}

int mj_packer_once(struct mj_packer *p, struct mj_span json, struct mj_span *frame)
{
    p->scratch.len = 0;
    if (mj_buf_try_reserve(&p->scratch, bound(json.len)))
        return MJ_ENOMEM;
    size_t n = make(p, json, p->scratch.ptr);
    *frame = mj_span(p->scratch.ptr, n);
    return n ? 0 : MJ_ENOMEM;
}

int mj_packer_event(struct mj_packer *p, uint64_t seq, struct mj_span json, struct mj_span *frame,
                    bool *fleeting)
{
    struct block *b = block_of(p, seq);
    size_t i = seq % MJ_PACK_WINDOW;
    *fleeting = false;
    if (!b->len[i]) {
        struct chunk *c = NULL;
        if (b->size + bound(json.len) <= BLOCK_MAX)
            c = chunk_for(p, b, bound(json.len));
        if (!c) {
            *fleeting = true;
            return mj_packer_once(p, json, frame);
        }
        size_t n = make(p, json, c->data + c->used);
        if (!n)
            return MJ_ENOMEM;
        b->at[i] = c->data + c->used;
        b->len[i] = (uint32_t)n;
        c->used += n;
    }
    *frame = mj_span(b->at[i], b->len[i]);
    return 0;
}
