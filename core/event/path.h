/* Paths into a record, as scripts write them: "reply.root.uri", "embed.images[1].alt",
 * "langs.1". Parts are separated by dots; [n] counts from 1, and a number between dots does the
 * same where the container is an array. A key that holds a dot cannot be named this way. */
#pragma once

#include "atproto/cbor.h"

#define MJ_PATH_MAX 64

struct mj_step {
    struct mj_span key; /* borrowed; empty for a pure index */
    uint32_t index;     /* from 1; 0 when the key is no number */
};

struct mj_path {
    struct mj_step steps[MJ_PATH_MAX];
    unsigned count;
};

/* Appends the steps of `text` (the path then borrows it). 0; MJ_ESYNTAX for an empty part or a
 * bad [n]; MJ_ELIMIT for more than MJ_PATH_MAX steps. */
int mj_path_parse(struct mj_path *path, struct mj_span text);
int mj_path_add_key(struct mj_path *path, struct mj_span key);
int mj_path_add_index(struct mj_path *path, uint32_t index);

/* One step down from the container at the start of `in` (checked CBOR). 0 with *value from the
 * child's first byte to the end of `in`; MJ_ENOENT; MJ_ETYPE when it is no container. */
int mj_path_step(struct mj_span in, const struct mj_step *step, struct mj_span *value);
/* All steps. Same results. */
int mj_path_find(struct mj_span root, const struct mj_path *path, struct mj_span *value);
/* The bytes of the one item at the start of `in`, children included. */
struct mj_span mj_cbor_item(struct mj_span in);
