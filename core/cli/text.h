/* Text for people's terminals. */
#pragma once

#include "base/bytes.h"

/* Appends at most `max` characters of what strangers wrote, as one line: nothing that could steer a
 * terminal gets through. Returns how many characters were appended. */
size_t mj_text_harmless(struct mj_span text, size_t max, struct mj_buf *out);
/* 1,234,567 */
const char *mj_text_number(uint64_t n, char out[32]);
/* 2026-07-04T14:38:08Z; "-" for 0. */
const char *mj_text_time(int64_t us, char out[32]);
