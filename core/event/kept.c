#include "event/kept.h"

/* What an event points to, in the order it is copied. */
static const size_t spans[] = {
    offsetof(struct mj_event, did),        offsetof(struct mj_event, time),
    offsetof(struct mj_event, collection), offsetof(struct mj_event, rkey),
    offsetof(struct mj_event, rev),        offsetof(struct mj_event, cid),
    offsetof(struct mj_event, record),     offsetof(struct mj_event, id),
    offsetof(struct mj_event, handle),     offsetof(struct mj_event, status)};

static struct mj_span *span_of(struct mj_event *ev, size_t i)
{
    return (struct mj_span *)((char *)ev + spans[i]);
}

struct mj_kept *mj_kept_new(const struct mj_event *from)
{
    struct mj_event ev = *from;
    size_t bytes = 0;
    for (size_t i = 0; i < MJ_COUNT(spans); i++)
        bytes += span_of(&ev, i)->len;
    struct mj_kept *k = mj_alloc(sizeof *k + bytes);
    uint8_t *at = (uint8_t *)(k + 1);
    for (size_t i = 0; i < MJ_COUNT(spans); i++) {
        struct mj_span *s = span_of(&ev, i);
        if (!s->ptr)
            continue;
        if (s->len)
            memcpy(at, s->ptr, s->len);
        s->ptr = at;
        at += s->len;
    }
    k->ev = ev;
    atomic_init(&k->refs, 1);
    return k;
}

struct mj_kept *mj_kept_ref(struct mj_kept *k)
{
    atomic_fetch_add_explicit(&k->refs, 1, memory_order_relaxed);
    return k;
}

void mj_kept_unref(struct mj_kept *k)
{
    if (k && atomic_fetch_sub_explicit(&k->refs, 1, memory_order_acq_rel) == 1)
        free(k);
}

size_t mj_kept_size_of(const struct mj_event *from)
{
    struct mj_event ev = *from;
    size_t bytes = sizeof(struct mj_kept);
    for (size_t i = 0; i < MJ_COUNT(spans); i++)
        bytes += span_of(&ev, i)->len;
    return bytes;
}

size_t mj_kept_size(const struct mj_kept *k) { return mj_kept_size_of(&k->ev); }
