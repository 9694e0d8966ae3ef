/* Stream names. A stream is a bit in an entry's mask; this is the table that says which name has
 * which bit. Names are never taken back: a bit means the same stream for the life of the process,
 * so readers and entries need no further agreement. Thread-safe. */
#pragma once

#include "journal/tail.h"

#define MJ_STREAM_NAME_MAX 64

struct mj_streams;

/* Holds "main" as bit MJ_STREAM_MAIN from the start. Never NULL. */
struct mj_streams *mj_streams_new(void);
void mj_streams_free(struct mj_streams *s); /* after the last user is gone */

/* True for [a-z0-9][a-z0-9._-]{0,63}. */
bool mj_stream_name_valid(struct mj_span name);
/* The bit of the name, given out now if it is new: 0…MJ_STREAMS_MAX-1, MJ_ESYNTAX, or MJ_ELIMIT
 * when all are taken. */
int mj_streams_add(struct mj_streams *s, struct mj_span name);
/* The bit of the name, or MJ_ENOENT. */
int mj_streams_find(struct mj_streams *s, struct mj_span name);
/* How many there are; their bits are 0…count-1. */
size_t mj_streams_count(struct mj_streams *s);
/* Name of a bit below the count, NUL-terminated, borrowed as long as the registry lives. */
const char *mj_streams_name(struct mj_streams *s, size_t bit);
