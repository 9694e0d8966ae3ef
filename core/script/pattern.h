/* Lua's patterns, matched by us instead of LuaJIT: the same language, but a match that runs long is
 * ended by the guard. A backtracking match over a stranger's text can take exponential time, and no
 * hook reaches into LuaJIT's own.
 *
 *   single character   x  .  %a  [set]         one item and how often:  *  +  -  ?
 *   (…)  ()  %1        captures                %bxy  %f[set]            balance, frontier
 *
 * Knows Lua only to raise errors. */
#pragma once

#include <lua.h>

#include "base/bytes.h"

#define MJ_CAPTURES_MAX 32

enum { MJ_CAPTURE_OPEN = -1, MJ_CAPTURE_POSITION = -2 };

struct mj_pattern {
    lua_State *L;              /* where errors are raised */
    const char *src, *src_end; /* borrowed */
    const char *pat_end;       /* borrowed */
    unsigned steps, depth;
    int level; /* captures so far */
    struct {
        const char *start;
        ptrdiff_t len; /* or MJ_CAPTURE_… */
    } capture[MJ_CAPTURES_MAX];
};

void mj_pattern_init(struct mj_pattern *m, lua_State *L, struct mj_span src, struct mj_span pat);
/* Matches `pat` (without a leading '^') at `s`. The end of the match, or NULL. Raises on a
 * malformed pattern, one that nests too deeply, and when the call's time is up. */
const char *mj_pattern_match(struct mj_pattern *m, const char *s, const char *pat);
