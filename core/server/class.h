/* Filter classes. Subscribers that ask for the same thing (stream, codec, and the same filter in
 * whatever order it was written) share a class, and what is new is matched once for all classes:
 *
 *   entry ─┬─ its DID's hash ────▶ classes that want this DID
 *          ├─ each set in use ───▶ classes that want the DIDs in it, if it has this one
 *          ├─ its collection ────▶ classes that want this collection, worked out when first seen
 *          └─ a short list ──────▶ classes that want neither by name
 *                                       │
 *                                       ▼
 *   hits: per class a chain of entries, in order; classes without one are never touched
 *
 * Classes that pass everything are not matched at all: open[] lists them.
 *
 * Glossary. live members: subscribers of a class that have got everything up to the end of the last
 * round; they share that position and have none of their own. slot: where a class is in all[],
 * reused; serial: never reused.
 *
 * The set owns its classes, classes own their filters; a class lives while it is referenced. All on
 * the server's thread. */
#pragma once

#include "server/dids.h"

enum mj_codec { MJ_CODEC_TEXT, MJ_CODEC_ZSTD, MJ_CODECS };

struct mj_sub;

struct mj_class {
    /* What a round looks at, in one cache line. */
    uint64_t serial;
    struct mj_filter *filter;     /* owned; NULL passes everything */
    uint64_t max_json;            /* larger events do not pass; of zstd only their frame can tell */
    uint32_t first_hit, last_hit; /* of this round; MJ_NO_HIT when there is none */
    uint32_t live_count;
    uint16_t pass;  /* mj_filter_pass() */
    uint8_t stream; /* bit */
    uint8_t codec;  /* enum mj_codec */
    uint8_t index;  /* enum mj_class_index */
    bool named;     /* the filter has collections */

    uint64_t hash;
    struct mj_class *next; /* in its chain */
    size_t size;           /* of the filter, as counted in the set */
    struct mj_sub **live;  /* owned array of borrowed live members; the server's */
    uint32_t live_cap;
    unsigned refs;
    uint32_t slot;
    uint32_t place; /* in the list that it is in, by `index` */
};

/* How new entries find a class. */
enum mj_class_index {
    MJ_INDEX_NONE,  /* it never had a live member */
    MJ_INDEX_OPEN,  /* passes everything */
    MJ_INDEX_DIDS,  /* by DID, and by set */
    MJ_INDEX_NAMED, /* by collection; identity and account events by the list */
    MJ_INDEX_REST,  /* asked about every entry */
    MJ_INDEXES
};

#define MJ_NO_HIT UINT32_MAX

struct mj_hit {
    uint32_t next;  /* hit of the same class, MJ_NO_HIT at the end */
    uint32_t entry; /* of the run */
};

struct mj_class_list {
    struct mj_class **v; /* owned array of borrowed classes */
    uint32_t count, cap;
};

/* Classes that want the DIDs of one set. */
struct mj_class_set {
    struct mj_set *set; /* borrowed: their filters have it */
    struct mj_class_list classes;
};

struct mj_classes {
    struct mj_journal *journal; /* borrowed */
    struct mj_class **all;      /* owned; NULL where a slot is free */
    struct mj_class **table;    /* owned; chains by hash */
    uint32_t *free_slots;       /* owned */
    uint32_t count, cap, frees; /* cap slots, a power of two, and as many chains */
    uint64_t serial;            /* of the next class */
    size_t bytes;               /* of all filters */
    struct mj_class_list lists[MJ_INDEXES];

    /* By collection: lists as of `names_generation`, others are stale. */
    struct mj_name_list *names;
    uint32_t names_cap;
    uint64_t names_generation;
    size_t names_entries;

    struct mj_dids dids;
    struct mj_class_set *sets; /* owned; those that some class wants */
    size_t set_count, set_cap;

    struct mj_hit *hits; /* owned */
    size_t hit_count, hit_cap;
    struct mj_class **touched; /* owned; borrowed classes that have hits */
    size_t touched_count, touched_cap;
};

void mj_classes_init(struct mj_classes *c, struct mj_journal *journal);
void mj_classes_deinit(struct mj_classes *c); /* after the last class is gone */

/* The class; the filter is taken (NULL for none). Never NULL; one reference is the caller's. */
struct mj_class *mj_class_get(struct mj_classes *c, unsigned stream, enum mj_codec codec,
                              struct mj_filter *filter);
void mj_class_unref(struct mj_classes *c, struct mj_class *class);
/* From the first live member on, entries find the class. */
void mj_class_index(struct mj_classes *c, struct mj_class *class);

/* Matches the first n entries of a loaded run against all indexed classes with live members.
 * Returns how many entries it got through: fewer than n, but at least one, when there are so many
 * hits that the caller had better send them first. What was hit is in touched[], to be forgotten
 * by mj_classes_done() before the next match and before any class goes. */
size_t mj_classes_match(struct mj_classes *c, const struct mj_run *r, size_t n);
void mj_classes_done(struct mj_classes *c);
