/* 64-bit hash of bytes for tables and index records (XXH3; not for anything an attacker profits
 * from colliding: equality is always checked on the bytes). */
#pragma once

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/bytes.h"

static inline uint64_t mj_hash(struct mj_span s) { return XXH3_64bits(s.ptr, s.len); }
