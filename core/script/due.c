#include "script/due.h"

#include "base/bytes.h"

void mj_dues_deinit(struct mj_dues *h)
{
    free(h->v);
    *h = (struct mj_dues){0};
}

static void place(struct mj_dues *h, struct mj_due *due, size_t i)
{
    h->v[i] = due;
    due->index = i + 1;
}

static void rise(struct mj_dues *h, struct mj_due *due, size_t i)
{
    while (i && h->v[(i - 1) / 2]->key > due->key) {
        place(h, h->v[(i - 1) / 2], i);
        i = (i - 1) / 2;
    }
    place(h, due, i);
}

static void sink(struct mj_dues *h, struct mj_due *due, size_t i)
{
    for (size_t child; (child = 2 * i + 1) < h->n; i = child) {
        if (child + 1 < h->n && h->v[child + 1]->key < h->v[child]->key)
            child++;
        if (h->v[child]->key >= due->key)
            break;
        place(h, h->v[child], i);
    }
    place(h, due, i);
}

void mj_due_set(struct mj_dues *h, struct mj_due *due, int64_t key)
{
    if (!due->index) {
        if (h->n == h->cap) {
            h->cap = h->cap ? h->cap * 2 : 16;
            h->v = mj_realloc(h->v, h->cap * sizeof *h->v);
        }
        due->key = key;
        rise(h, due, h->n++);
        return;
    }
    bool earlier = key < due->key;
    due->key = key;
    if (earlier)
        rise(h, due, due->index - 1);
    else
        sink(h, due, due->index - 1);
}

void mj_due_clear(struct mj_dues *h, struct mj_due *due)
{
    if (!due->index)
        return;
    size_t i = due->index - 1;
    struct mj_due *last = h->v[--h->n];
    due->index = 0;
    if (last == due)
        return;
    if (i && h->v[(i - 1) / 2]->key > last->key)
        rise(h, last, i);
    else
        sink(h, last, i);
}
