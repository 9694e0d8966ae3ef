/* Syntax of atproto identifiers (spec/firehose.md §8). Every function looks at bytes only, never
 * allocates and returns true when the whole span is valid. */
#pragma once

#include "base/bytes.h"

bool mj_did_valid(struct mj_span s);
bool mj_handle_valid(struct mj_span s);
bool mj_at_identifier_valid(struct mj_span s);
bool mj_nsid_valid(struct mj_span s);
bool mj_rkey_valid(struct mj_span s);
bool mj_tid_valid(struct mj_span s);
bool mj_aturi_valid(struct mj_span s);
bool mj_datetime_valid(struct mj_span s); /* grammar and calendar */
bool mj_cid_text_valid(struct mj_span s); /* the loose textual rule, not a decode */
/* Splits "collection/rkey"; false unless both parts are valid and there is exactly one slash. */
bool mj_path_split(struct mj_span path, struct mj_span *collection, struct mj_span *rkey);

/* Microseconds since 1970 of a valid TID (0 for an invalid one). */
int64_t mj_tid_time_us(struct mj_span s);
/* 13 characters and a NUL. time_us < 2^53, clock < 1024. */
void mj_tid_make(int64_t time_us, unsigned clock, char out[14]);
/* Microseconds since 1970 of a valid datetime; MJ_ETIME otherwise. */
int mj_datetime_us(struct mj_span s, int64_t *out);
/* "2026-07-04T14:38:08.123456Z" and a NUL. */
void mj_datetime_make(int64_t us, char out[28]);
