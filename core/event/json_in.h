/* Reading JSON values into DAG-CBOR: the way back of json.c. Internal to the event room: json_in.c
 * (values) and from_json.c (the envelope around them).
 *
 *   JSON          {"$type":"blob","ref":{"$link":"bafk…"},"mimeType":"image/png","size":1}
 *   CBOR, first   a4 65 $type … 63 ref d8 2a … 68 mimeType … 64 size 01      as they come
 *   in order      a4 63 ref d8 2a … 64 size 01 65 $type … 68 mimeType …      shorter keys first
 *
 * Invariant: the output has room for everything that the input may still become, made once per
 * value (mj__in_room()), so nothing in between asks. No item is longer than its JSON but for the
 * heads of long texts, three bytes in 65,536; putting a map in order takes its size once more. */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "event/shape.h"

/* A map's entry, written but perhaps not in its place. */
struct mj__in_entry {
    uint64_t order;      /* length of the key (16 bits), then its first six bytes */
    uint32_t start, end; /* offsets into the output */
};

struct mj__in {
    const uint8_t *end; /* of the input */
    const uint8_t *at;  /* where an error is */
    int err;            /* valid once something has returned NULL */
    struct mj_buf out;  /* owned: CBOR */
    struct mj_buf text; /* owned: envelope texts that had escapes; never moves during an event */
    struct mj__in_entry *entries; /* owned: of all maps being read, inner ones last */
    size_t entry_count, entry_cap;
    size_t weight, weight_max; /* of the maps so far, as shape.h says; what they may weigh */
    enum mj__shape shape;      /* of the map read last */
};

static inline const uint8_t *mj__in_fail(struct mj__in *in, const uint8_t *at, int err)
{
    in->at = at;
    in->err = err;
    return NULL;
}

static inline const uint8_t *mj__in_blanks(const struct mj__in *in, const uint8_t *p)
{
    while (p < in->end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

/* All of these take where their part starts and return where it ends, or NULL with err and at. */

/* That one byte, and blanks on both sides. */
const uint8_t *mj__in_byte(struct mj__in *in, const uint8_t *p, char c);
/* A string: its text, borrowed from the input, or from in->text when it had escapes. */
const uint8_t *mj__in_text(struct mj__in *in, const uint8_t *p, struct mj_span *out);
/* An integer: MJ_EFLOAT for other numbers, MJ_EINT beyond 64 bits. */
const uint8_t *mj__in_int(struct mj__in *in, const uint8_t *p, int64_t *out);
/* Any value, appended to in->out, which has room for `in`. */
const uint8_t *mj__in_value(struct mj__in *in, const uint8_t *p, unsigned depth);
/* Empties the output and makes room for the value that starts at p, whatever it is. 0 or
 * MJ_ENOMEM. */
int mj__in_room(struct mj__in *in, const uint8_t *p);
