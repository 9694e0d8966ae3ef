/* Whether a text is UTF-8 as Unicode defines it (base/utf8.h); NUL is allowed (spec/firehose.md §5
 * rule 14). */
#pragma once

#include "base/utf8.h"

bool mj_utf8_valid(struct mj_span s);
