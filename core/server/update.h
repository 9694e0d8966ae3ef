/* What a subscriber may ask for: by the query of its request, and later by options_update messages
 * (spec/jetstream-v1.md §§2, 6; our own extensions are in docs/protocol.md). Bytes in, a filter or
 * v1's words for the error out; no sockets. */
#pragma once

#include "server/filter.h"

#define MJ_HEARTBEAT_MIN_US INT64_C(1000000)
#define MJ_HEARTBEAT_MAX_US INT64_C(3600000000)

/* How many bytes of one client message are read; a longer one is ignored. */
#define MJ_CLIENT_MESSAGE_MAX 10000000

struct mj_subscribe_query {
    struct mj_filter *filter; /* owned by the caller after success */
    int64_t cursor;
    bool has_cursor; /* false: live */
    bool require_hello, compress;
    bool info;            /* frames that tell where the stream is */
    int64_t heartbeat_us; /* such a frame after so long without an event; 0 for none */
};

/* Reads the query of /subscribe. `sets`: where "set:NAME" is looked up; may be NULL. 0, or
 * MJ_EINVAL with the body of the 400 in *error. */
int mj_subscribe_query_parse(struct mj_span query, struct mj_sets *sets,
                             struct mj_subscribe_query *out, struct mj_buf *error);

/* Reads one client message. 1: an update, *out is the new filter, owned by the caller; 0: to be
 * ignored; MJ_EINVAL: close with *reason. */
int mj_client_message_parse(struct mj_span text, struct mj_sets *sets, struct mj_filter **out,
                            struct mj_buf *reason);

/* The seq a cursor stands for: spec §2's table, with the two defects of v1 (a cursor newer than
 * the newest event replays everything) made "live". A cursor in the future is live, too, but not
 * one that an event has: time_us runs ahead of a clock that was set back. now_us is Unix time. */
uint64_t mj_cursor_position(const struct mj_view *v, int64_t cursor, int64_t now_us);
