/* An inbox: kept events on their way to an :each, in memory, bounded by number and bytes.
 *
 *   put ──▶ oldest ◀─────────────── waiting ─────────────▶ newest
 *                 one lane per account: take ▶ in work ▶ done
 *
 * What is taken is the oldest letter of an account that has none in work, so several workers keep
 * each account's events in order. A letter is one event, or a list from a batch. With a total
 * order all share one lane, without any each letter has its own. Accounts are told apart by a hash:
 * two that share it only wait for each other.
 *
 * Owns the letters it holds; a letter holds a reference to each of its events. One thread. */
#pragma once

#include "event/kept.h"
#include "journal/reader.h"
#include "script/due.h"

struct mj_inbox;

struct mj_letter {
    struct mj_kept **events; /* owned */
    size_t n, bytes;
    void *owner; /* the taker's, from take to done */
    /* the inbox's: */
    struct mj_kept *one; /* where a single event is */
    int64_t age;
    struct mj_lane *lane;
    struct mj_letter *older, *newer; /* of all that wait, or of all in work */
    struct mj_letter *next;          /* of its lane */
};

struct mj_inbox_cfg {
    size_t max;          /* events */
    size_t max_bytes;    /* of them all */
    bool drop_old;       /* when full: what has waited longest, instead of what comes */
    enum mj_order order; /* which letters are worked on one after the other; total for lists, which
                            hold many accounts */
};

struct mj_inbox *mj_inbox_new(const struct mj_inbox_cfg *cfg);
/* Letters in work go, too. */
void mj_inbox_free(struct mj_inbox *in);
/* Puts one letter in; the events stay the caller's, references are taken. Returns how many events
 * were dropped for lack of room: of those given (then all n of them), or older ones. */
size_t mj_inbox_put(struct mj_inbox *in, struct mj_kept *const *events, size_t n);
/* The next letter to be worked on, or NULL. It is the taker's until mj_inbox_done(). */
struct mj_letter *mj_inbox_take(struct mj_inbox *in);
/* The letter has been worked on; it is freed. */
void mj_inbox_done(struct mj_inbox *in, struct mj_letter *l);
/* Events that wait, without those in work. */
size_t mj_inbox_count(const struct mj_inbox *in);
/* Letters in work, and their events. */
size_t mj_inbox_busy(const struct mj_inbox *in);
size_t mj_inbox_busy_events(const struct mj_inbox *in);
