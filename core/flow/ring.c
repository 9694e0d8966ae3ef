#include "flow/ring.h"

#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

struct item_head {
    uint32_t len; /* of the text */
    uint32_t unused;
    int64_t tag;
};

static size_t padded(size_t len) { return sizeof(struct item_head) + (len + 7) / 8 * 8; }

int mj_ring_init(struct mj_ring *r, size_t size)
{
    *r = (struct mj_ring){.size = 65536};
    while (r->size < size)
        r->size *= 2;
    int fd = memfd_create("moonjet-ring", MFD_CLOEXEC);
    if (fd < 0)
        return MJ_ENOMEM;
    if (ftruncate(fd, (off_t)r->size) == 0)
        r->bytes = mmap(NULL, 2 * r->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool mapped = r->bytes && r->bytes != MAP_FAILED;
    for (size_t i = 0; mapped && i < 2; i++)
        mapped = mmap(r->bytes + i * r->size, r->size, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED;
    close(fd);
    if (!mapped) {
        if (r->bytes && r->bytes != MAP_FAILED)
            munmap(r->bytes, 2 * r->size);
        r->bytes = NULL;
        return MJ_ENOMEM;
    }
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->wake, &attr);
    pthread_condattr_destroy(&attr);
    return 0;
}

void mj_ring_deinit(struct mj_ring *r)
{
    if (!r->bytes)
        return;
    munmap(r->bytes, 2 * r->size);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->wake);
    r->bytes = NULL;
}

int mj_ring_put(struct mj_ring *r, struct mj_span text, int64_t tag)
{
    uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
    if (text.len > UINT32_MAX || padded(text.len) > r->size - (head - tail))
        return MJ_ELIMIT;
    uint8_t *at = r->bytes + (head & (r->size - 1));
    struct item_head item = {.len = (uint32_t)text.len, .tag = tag};
    memcpy(at, &item, sizeof item);
    if (text.len)
        memcpy(at + sizeof item, text.ptr, text.len);
    /* Sequentially consistent, as is the reader's look after it has said that it sleeps: one of the
     * two sees the other. */
    atomic_store(&r->head, head + padded(text.len));
    if (atomic_load(&r->sleeping)) {
        pthread_mutex_lock(&r->lock);
        pthread_cond_signal(&r->wake);
        pthread_mutex_unlock(&r->lock);
    }
    return 0;
}

static void sleep_until_news(struct mj_ring *r, int64_t wait_us)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t ns = (int64_t)t.tv_nsec + wait_us % 1000000 * 1000;
    t.tv_sec += (time_t)(wait_us / 1000000 + ns / 1000000000);
    t.tv_nsec = (long)(ns % 1000000000);
    pthread_mutex_lock(&r->lock);
    atomic_store(&r->sleeping, true);
    while (!r->ended && !r->poked && atomic_load(&r->head) == atomic_load(&r->tail))
        if (pthread_cond_timedwait(&r->wake, &r->lock, &t))
            break;
    r->poked = false;
    atomic_store(&r->sleeping, false);
    pthread_mutex_unlock(&r->lock);
}

size_t mj_ring_get(struct mj_ring *r, struct mj_ring_item *out, size_t max, int64_t wait_us)
{
    uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);
    if (head == tail) {
        sleep_until_news(r, wait_us);
        head = atomic_load_explicit(&r->head, memory_order_acquire);
    }
    size_t n = 0;
    for (; n < max && tail != head; n++) {
        const uint8_t *at = r->bytes + (tail & (r->size - 1));
        struct item_head item;
        memcpy(&item, at, sizeof item);
        out[n] = (struct mj_ring_item){mj_span(at + sizeof item, item.len), item.tag};
        tail += padded(item.len);
    }
    return n;
}

void mj_ring_done(struct mj_ring *r, const struct mj_ring_item *items, size_t n)
{
    uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    for (size_t i = 0; i < n; i++)
        tail += padded(items[i].text.len);
    atomic_store(&r->tail, tail);
}

void mj_ring_poke(struct mj_ring *r)
{
    pthread_mutex_lock(&r->lock);
    r->poked = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
}

void mj_ring_end(struct mj_ring *r)
{
    pthread_mutex_lock(&r->lock);
    r->ended = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
}

bool mj_ring_ended(struct mj_ring *r)
{
    pthread_mutex_lock(&r->lock);
    bool ended = r->ended;
    pthread_mutex_unlock(&r->lock);
    return ended;
}

size_t mj_ring_used(const struct mj_ring *r)
{
    uint64_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
    return (size_t)(atomic_load_explicit(&r->head, memory_order_acquire) - tail);
}
