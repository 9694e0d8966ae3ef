/* What is due when: a binary heap whose items are members of what they stand for, so that one can
 * be moved or taken out wherever it is. Serves as the timers' queue (keys are times) and as the
 * inboxes' (keys are ages). Equal keys come out in no particular order.
 *
 * The heap owns its array of pointers; the items belong to whoever embeds them and must be taken
 * out before they go. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mj_due {
    int64_t key;
    size_t index; /* 1 + place in the heap; 0 = in none */
    void (*fire)(struct mj_due *due);
};

struct mj_dues {
    struct mj_due **v; /* owned array of borrowed items */
    size_t n, cap;
};

void mj_dues_deinit(struct mj_dues *h);
/* Puts the item in, or moves it to its new key. */
void mj_due_set(struct mj_dues *h, struct mj_due *due, int64_t key);
/* Takes the item out; fine when it is in none. */
void mj_due_clear(struct mj_dues *h, struct mj_due *due);
/* The item with the least key, or NULL. */
static inline struct mj_due *mj_dues_first(const struct mj_dues *h)
{
    return h->n ? h->v[0] : NULL;
}
