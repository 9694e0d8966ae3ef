/* Which classes want a DID. For a new entry that is one look-up and one comparison of texts,
 * however many classes there are:
 *
 *   low half of the hash ──▶ group: one DID ──▶ members: class, class, …
 *
 * A member says by slot and serial which class it is; classes that are gone leave their members
 * behind, which are dropped when they are met, or all at once when they are half of all. A group
 * keeps no text of its own: its first member's filter has it. */
#pragma once

#include "server/filter.h"

struct mj_class;

struct mj_did_member {
    uint32_t slot, serial; /* of the class; the low half of its serial */
    uint32_t item;         /* which of its filter's DIDs this is */
};

struct mj_did_group {
    uint64_t hash;              /* of the DID */
    struct mj_did_member *many; /* owned; NULL while `one` is enough */
    struct mj_did_member one;
    uint32_t count, cap; /* cap 0: the slot is free */
};

struct mj_dids {
    struct mj_class *const *const *all; /* borrowed: where slots lead */
    struct mj_did_group *groups;        /* owned, open-addressed by the low half of the hash */
    size_t used, cap;                   /* cap a power of two */
    size_t members, dead;
    uint64_t secret; /* so that nobody can choose DIDs that all start in one place */
};

void mj_dids_init(struct mj_dids *d, struct mj_class *const *const *all);
void mj_dids_deinit(struct mj_dids *d);
/* The class is in its slot already. */
void mj_dids_add(struct mj_dids *d, const struct mj_class *class);
/* It is about to go. */
void mj_dids_remove(struct mj_dids *d, const struct mj_class *class);
/* Members of the group for the entry's DID: *count of them, borrowed until the next call; those of
 * classes that are gone have been dropped. */
const struct mj_did_member *mj_dids_find(struct mj_dids *d, const struct mj_entry *e,
                                         struct mj_span json, uint32_t *count);
