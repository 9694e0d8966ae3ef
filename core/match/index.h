/* The index behind a decision: from what an event holds to the flows that could want it.
 *
 *   key      (field or path, value) ─▶ flows      did:plc:…, tag "moon", host "example.com"
 *   word     of the one automaton of all flows' words ─▶ atoms on words ─▶ flows
 *   asked    a question without a value to look up ("has embed.images") ─▶ flows
 *
 * Each flow is filed under what it insists on, and of several such things under the most selective:
 * it cannot match unless one of its keys, words or asked questions is met. Where that is all that
 * matters about it, it is `sure`. Questions that several flows ask alike are asked once.
 *
 * Internal to the match room. Borrows the flows' expressions. One thread. */
#pragma once

#include "match/tree.h"

struct mj__index;

/* What the flows of one class of events are filed under. */
struct mj__part {
    unsigned fields;         /* bits 1 << enum mj_field */
    bool text, words;        /* atoms on the text, on all words */
    uint32_t *paths, *asked; /* owned */
    size_t path_count, asked_count;
};

/* Never NULL. */
struct mj__index *mj__index_new(const struct mj_match *const *flows, size_t n);
void mj__index_free(struct mj__index *x);

/* Works out the part that matters for a set of flows (a bitmap). */
void mj__part_init(struct mj__part *p, const struct mj__index *x, const uint64_t *flows);
void mj__part_deinit(struct mj__part *p);

/* A new event: what was found about words is forgotten. */
void mj__index_begin(struct mj__index *x, struct mj_facts *facts);
/* Adds to two bitmaps the flows that want the event if they look at its class at all, and those
 * that still have to be evaluated. */
void mj__index_find(struct mj__index *x, const struct mj__part *p, uint64_t *sure, uint64_t *maybe);
/* Evaluates what the class leaves open of a flow. */
bool mj__index_eval(struct mj__index *x, size_t flow);
/* Evaluates a flow altogether. */
bool mj__index_eval_all(struct mj__index *x, size_t flow);
