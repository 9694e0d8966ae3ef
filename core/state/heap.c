#include "state/heap.h"

#include "base/err.h"

void mj_heap_deinit(struct mj_heap *h)
{
    free(h->v);
    h->v = NULL;
    h->count = h->cap = 0;
}

static void set(struct mj_heap *h, uint32_t i, struct mj_heap_node node)
{
    h->v[i] = node;
    h->moved(node.item, i + 1);
}

static void up(struct mj_heap *h, uint32_t i, struct mj_heap_node node)
{
    for (; i && node.key < h->v[(i - 1) / 2].key; i = (i - 1) / 2)
        set(h, i, h->v[(i - 1) / 2]);
    set(h, i, node);
}

static void down(struct mj_heap *h, uint32_t i, struct mj_heap_node node)
{
    for (uint32_t child; (child = 2 * i + 1) < h->count; i = child) {
        if (child + 1 < h->count && h->v[child + 1].key < h->v[child].key)
            child++;
        if (node.key <= h->v[child].key)
            break;
        set(h, i, h->v[child]);
    }
    set(h, i, node);
}

int mj_heap_put(struct mj_heap *h, int64_t key, void *item)
{
    if (h->count == h->cap) {
        uint32_t cap = h->cap ? 2 * h->cap : 16;
        void *v = realloc(h->v, cap * sizeof *h->v);
        if (!v)
            return MJ_ENOMEM;
        h->v = v;
        h->cap = cap;
    }
    up(h, h->count++, (struct mj_heap_node){key, item});
    return 0;
}

void mj_heap_change(struct mj_heap *h, uint32_t place, int64_t key)
{
    struct mj_heap_node node = h->v[place - 1];
    bool smaller = key < node.key;
    node.key = key;
    if (smaller)
        up(h, place - 1, node);
    else
        down(h, place - 1, node);
}

void mj_heap_take(struct mj_heap *h, uint32_t place)
{
    struct mj_heap_node gone = h->v[place - 1], last = h->v[--h->count];
    if (place - 1 < h->count) {
        if (last.key < gone.key)
            up(h, place - 1, last);
        else
            down(h, place - 1, last);
    }
    h->moved(gone.item, 0);
}
