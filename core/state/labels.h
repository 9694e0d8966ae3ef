/* Where labels are kept: a log with rising seqs, and of each label the latest word.
 *
 *   mj_labels_put() ─▶ queue ─▶ thread: is it news? ─ make() ─▶ one transaction ─▶ published
 *                                                                  log    seq ─▶ label
 *                                                                  index  uri src val cid ─▶ seq
 *
 * Log and index are one database: 'l' and the seq (8 bytes, big-endian), 'i' and the rest.
 *
 * What is published is on disk: nobody has seen a label that kill -9 or a power failure takes back,
 * so seqs never go back and are never used twice. A label that says what the latest of its kind
 * says already is no news, and gets no seq. What a label looks like is none of our business: make()
 * writes and signs it.
 *
 * One per process, for all labelers. Everything may be called on any thread. */
#pragma once

#include <stdbool.h>

#include "base/bytes.h"

#define MJ_LABEL_KEY_MAX     510    /* bytes of uri, src, val and cid, with three between them */
#define MJ_LABELS_QUEUED_MAX 100000 /* waiting to be written */

struct mj_labels;

/* What somebody says of something. Texts without zero bytes, borrowed. */
struct mj_label_change {
    struct mj_span src, uri, val;
    struct mj_span cid, exp; /* empty: none. With neg and no cid: of whatever cid there is */
    struct mj_span cts;
    int64_t exp_us; /* Unix µs, of exp */
    int64_t now_us; /* when it is said: what has ended by then does not count */
    /* A label in force that ends at most so much earlier says the same: so one that is applied for
     * a week again and again is not news each time. 0: exp must be the same. */
    int64_t slack_us;
    bool neg;
};

/* Who makes the label of a change. Whoever calls mj_labels_put() gives a reference. */
struct mj_label_signer {
    /* On the thread: appends the label. 0 or an error, and then it is left out. */
    int (*make)(struct mj_label_signer *s, const struct mj_label_change *c, struct mj_buf *out);
    void (*release)(struct mj_label_signer *s); /* any thread */
};

/* In that directory, which is borrowed; NULL: in memory, and then mj_labels_put() waits for the
 * thread. Nothing is opened yet. */
struct mj_labels *mj_labels_new(const char *dir);
/* Writes what is queued, if the disk takes it. NULL is fine. */
void mj_labels_free(struct mj_labels *l);
/* Opens what is there, once; later calls do nothing. 0 or MJ_EIO with a sentence in `error`. */
int mj_labels_open(struct mj_labels *l, struct mj_buf *error);
bool mj_labels_on_disk(const struct mj_labels *l);

/* Queues a change and takes the signer, whatever happens. 0; MJ_EBIG: the key is too long;
 * MJ_ELIMIT: too many are waiting; MJ_ECLOSED: not open. */
int mj_labels_put(struct mj_labels *l, const struct mj_label_change *c,
                  struct mj_label_signer *signer);
/* The next seq will be that one at least: for a labeler that has moved here. */
void mj_labels_begin_at(struct mj_labels *l, uint64_t seq);
/* A labeler has come (1) or gone (-1). There is something to serve while there is one, or once
 * there are labels. */
void mj_labels_declare(struct mj_labels *l, int by);
bool mj_labels_served(const struct mj_labels *l);

/* Seq of the newest published label, and of the oldest; the oldest is above the newest when there
 * is none. */
uint64_t mj_labels_newest(const struct mj_labels *l);
uint64_t mj_labels_oldest(const struct mj_labels *l);
/* The seq of the next label, at least. */
uint64_t mj_labels_next(const struct mj_labels *l);
/* `fn` is called on the thread after new ones were published. NULL: not any more, and when this
 * returns it is not being called either. */
void mj_labels_watch(struct mj_labels *l, void (*fn)(void *ctx), void *ctx);

/* Calls `fn` with the published labels from that seq on until it returns false. Texts are borrowed
 * during the call. 0 or MJ_EIO. */
int mj_labels_read(struct mj_labels *l, uint64_t from,
                   bool (*fn)(void *ctx, uint64_t seq, struct mj_span label), void *ctx);

/* The latest word on something. */
struct mj_label_found {
    struct mj_span key; /* to go on behind it */
    struct mj_span uri, src, val, cid;
    struct mj_span label;
    int64_t exp_us; /* 0: does not end */
    bool neg;
};
/* Calls `fn` for those whose uri starts with `prefix`, in bytewise order of their keys, from behind
 * the key `after` (empty: from the first), until it returns false. 0 or MJ_EIO. */
int mj_labels_find(struct mj_labels *l, struct mj_span prefix, struct mj_span after,
                   bool (*fn)(void *ctx, const struct mj_label_found *found), void *ctx);
