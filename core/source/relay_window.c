#include "source/relay_window.h"

#include <pthread.h>

#include "base/err.h"
#include "base/ws.h"

struct slot {
    int64_t seq;
    size_t len;
    uint8_t *bytes; /* owned: the WebSocket frame */
};

/* Frame number n lives in slots[n % cap] while first <= n < next. */
struct mj_relay_window {
    pthread_mutex_t lock;
    size_t max_bytes, max_frames;
    struct slot *slots; /* owned */
    size_t cap;         /* a power of two */
    uint64_t first, next;
    size_t bytes;
    int64_t last_seq;
};

struct mj_relay_window *mj_relay_window_new(size_t bytes, size_t frames)
{
    struct mj_relay_window *w = mj_calloc(1, sizeof *w);
    pthread_mutex_init(&w->lock, NULL);
    w->max_bytes = bytes;
    w->max_frames = frames;
    w->cap = 64;
    w->slots = mj_calloc(w->cap, sizeof *w->slots);
    return w;
}

static struct slot *slot_at(struct mj_relay_window *w, uint64_t n)
{
    return &w->slots[n & (w->cap - 1)];
}

static void drop_oldest(struct mj_relay_window *w)
{
    struct slot *s = slot_at(w, w->first++);
    w->bytes -= s->len;
    free(s->bytes);
    s->bytes = NULL;
}

void mj_relay_window_free(struct mj_relay_window *w)
{
    if (!w)
        return;
    while (w->first < w->next)
        drop_oldest(w);
    pthread_mutex_destroy(&w->lock);
    free(w->slots);
    free(w);
}

static void grow(struct mj_relay_window *w)
{
    struct slot *wider = mj_calloc(w->cap * 2, sizeof *wider);
    for (uint64_t n = w->first; n < w->next; n++)
        wider[n & (w->cap * 2 - 1)] = *slot_at(w, n);
    free(w->slots);
    w->slots = wider;
    w->cap *= 2;
}

int mj_relay_window_put(struct mj_relay_window *w, int64_t seq, struct mj_span frame)
{
    if (frame.len > MJ_WS_LIMIT)
        return MJ_EBIG;
    struct mj_buf b = {0}; /* becomes the slot's */
    mj_buf_reserve(&b, frame.len + MJ_WS_HEAD_MAX);
    mj_relay_put(&b, frame);
    pthread_mutex_lock(&w->lock);
    int r = seq > w->last_seq ? 0 : MJ_ESEQ;
    if (!r) {
        while (w->first < w->next &&
               (w->next - w->first >= w->max_frames || w->bytes + b.len > w->max_bytes))
            drop_oldest(w);
        if (w->next - w->first == w->cap)
            grow(w);
        *slot_at(w, w->next++) = (struct slot){seq, b.len, b.ptr};
        w->bytes += b.len;
        w->last_seq = seq;
        b = (struct mj_buf){0};
    }
    pthread_mutex_unlock(&w->lock);
    mj_buf_deinit(&b);
    return r;
}

enum mj_relay_start mj_relay_window_seek(void *ctx, const int64_t *cursor, uint64_t *pos)
{
    struct mj_relay_window *w = ctx;
    pthread_mutex_lock(&w->lock);
    enum mj_relay_start start = MJ_RELAY_BACKLOG;
    if (!cursor) {
        start = MJ_RELAY_LIVE;
        *pos = w->next;
    } else if (*cursor > w->last_seq) {
        start = MJ_RELAY_FUTURE;
    } else {
        uint64_t low = w->first, high = w->next;
        while (low < high) {
            uint64_t mid = low + (high - low) / 2;
            if (slot_at(w, mid)->seq > *cursor)
                high = mid;
            else
                low = mid + 1;
        }
        *pos = low;
        /* Numbers may be missing from the stream itself, so a hole right behind the cursor proves
         * nothing as long as the window still holds everything that was ever published. */
        if (low == w->first && w->first > 0 && *cursor > 0 && slot_at(w, low)->seq > *cursor + 1)
            start = MJ_RELAY_OUTDATED;
    }
    pthread_mutex_unlock(&w->lock);
    return start;
}

int mj_relay_window_read(void *ctx, uint64_t *pos, size_t max, struct mj_buf *out, int64_t *wait_us)
{
    (void)wait_us;
    struct mj_relay_window *w = ctx;
    pthread_mutex_lock(&w->lock);
    int r = *pos < w->first ? MJ_ECLOSED : 0;
    while (!r && *pos < w->next && out->len < max) {
        struct slot *s = slot_at(w, (*pos)++);
        mj_buf_put(out, s->bytes, s->len);
    }
    pthread_mutex_unlock(&w->lock);
    return r;
}
