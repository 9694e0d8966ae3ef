#include "flow/cursors.h"

static bool caught_up(struct mj_lane *const *lanes, size_t n, int source)
{
    for (size_t i = 0; i < n; i++)
        if (!mj__lane_caught_up(lanes[i], source))
            return false;
    return true;
}

int mj__cursors_flush(struct mj__cursors *c, struct mj__exit *e, struct mj_lane *const *lanes,
                      size_t lane_count, int source, int64_t upstream_seq)
{
    bool idle = caught_up(lanes, lane_count, -1);
    int err = 0;
    if (source >= 0) {
        c->newest[source] = upstream_seq;
        if (!(c->held >> source & 1)) {
            c->held |= UINT64_C(1) << source;
            c->noted[source] = upstream_seq;
            for (size_t i = 0; i < lane_count; i++)
                mj__lane_note(lanes[i], source);
        }
    }
    bool told = false;
    for (uint64_t left = c->held; left && !err; left &= left - 1) {
        int s = __builtin_ctzll(left);
        if (!idle && !caught_up(lanes, lane_count, s))
            continue;
        if (idle)
            c->noted[s] = c->newest[s];
        err = mj__exit_flush(e, s, c->noted[s]);
        told = true;
        if (c->noted[s] == c->newest[s]) {
            c->held &= ~(UINT64_C(1) << s);
            continue;
        }
        c->noted[s] = c->newest[s];
        for (size_t i = 0; i < lane_count; i++)
            mj__lane_note(lanes[i], s);
    }
    return told ? err : mj__exit_flush(e, -1, 0);
}
