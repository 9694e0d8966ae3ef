/* A table of names that only grows: a name's number is the number of its line in a file. Numbers
 * stay what they are for the life of the file, so entries and other processes may use them. One
 * thread adds; any thread may look a number up while it does. */
#pragma once

#include <stdatomic.h>

#include "base/bytes.h"

struct mj_name;

struct mj_names {
    struct mj_name *_Atomic *items; /* owned; items[0] is number `first` */
    _Atomic size_t count;
    size_t max, first, longest;
    int fd;                /* owned; -1: in memory */
    size_t good;           /* bytes of the file that were names when it was loaded */
    struct mj_buf pending; /* lines not written yet */
};

/* Numbers run from `first`; at most `max` names of at most `longest` bytes. In memory until
 * mj_names_load(). */
void mj_names_init(struct mj_names *n, size_t first, size_t max, size_t longest);
void mj_names_deinit(struct mj_names *n);
/* Reads DIR/NAME, made if it is not there (unless read_only), up to the first line that can be no
 * name. 0, MJ_EIO with errno set, or MJ_ESYNTAX for a file larger than any table. */
int mj_names_load(struct mj_names *n, int dir, const char *name, bool read_only);
/* Cuts what mj_names_load() did not read, and waits for the disk to have the rest. Before the first
 * name is added; what a crash left of last lines was never used, but whether that is all there is
 * to cut only the caller knows. 0 or MJ_EIO with errno set. */
int mj_names_cut(struct mj_names *n);
/* The number, or MJ_ENOENT. Looks at all names: for short lists. */
int mj_names_find(const struct mj_names *n, struct mj_span name);
/* Adds a name that is not there yet: its number, or MJ_ELIMIT (table full, name too long or holding
 * control bytes). Not on the disk until mj_names_write(). */
int mj_names_add(struct mj_names *n, struct mj_span name);
/* Hands new names to the kernel; `sync` also waits for the disk. 0 or MJ_EIO with errno set. */
int mj_names_write(struct mj_names *n, bool sync);
/* The name of a number, or {NULL, 0}. Borrowed as long as the table lives. */
struct mj_span mj_names_get(const struct mj_names *n, size_t number);
static inline size_t mj_names_count(const struct mj_names *n)
{
    return atomic_load_explicit(&n->count, memory_order_acquire);
}
