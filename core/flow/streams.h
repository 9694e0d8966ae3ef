/* The streams of this run. A stream is a bit in an entry's mask; which name has which bit is the
 * journal's to say, for as long as the journal lives, so that entries of earlier runs keep their
 * meaning. Here are those that are fed now, and may be subscribed to. Thread-safe. */
#pragma once

#include "journal/journal.h"

#define MJ_STREAM_NAME_MAX 64

struct mj_streams;

/* Holds "main" as bit MJ_STREAM_MAIN from the start. The journal is borrowed, and added to on the
 * caller's thread; NULL: bits are given out here. Never NULL. */
struct mj_streams *mj_streams_new(struct mj_journal *journal);
void mj_streams_free(struct mj_streams *s); /* after the last user is gone */

/* True for [a-z0-9][a-z0-9._-]{0,63}. */
bool mj_stream_name_valid(struct mj_span name);
/* The bit of the name, given out now if it is new: 0…MJ_STREAMS_MAX-1, MJ_ESYNTAX, or MJ_ELIMIT
 * when all are taken: a journal knows 64 names in its life), or MJ_EIO. */
int mj_streams_add(struct mj_streams *s, struct mj_span name);
/* The bit of the name, or MJ_ENOENT. */
int mj_streams_find(struct mj_streams *s, struct mj_span name);
/* How many there are. */
size_t mj_streams_count(struct mj_streams *s);
/* Name and bit of the i-th, in the order they were added; i below the count. The name is
 * NUL-terminated and borrowed as long as the registry lives. */
const char *mj_streams_name(struct mj_streams *s, size_t i);
unsigned mj_streams_bit(struct mj_streams *s, size_t i);
