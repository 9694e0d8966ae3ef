#include "script/life.h"

const char *mj_life_name(enum mj_life_state state)
{
    static const char *const names[] = {"running", "degraded", "quarantined", "out"};
    return names[state];
}

void mj_life_quarantine(struct mj_life *l, unsigned n, int64_t now)
{
    int64_t pause = MJ_LIFE_FIRST_US;
    for (unsigned i = 1; i < n && pause < MJ_LIFE_LONGEST_US; i++)
        pause *= 2;
    l->pause = pause < MJ_LIFE_LONGEST_US ? pause : MJ_LIFE_LONGEST_US;
    l->until = now + l->pause;
    l->level = n;
    l->last = now;
    l->state = MJ_LIFE_QUARANTINED;
}

bool mj_life_strike(struct mj_life *l, int64_t now)
{
    l->total++;
    l->last = now;
    l->strikes[l->next] = now;
    l->next = (l->next + 1) % MJ_LIFE_STRIKES;
    if (mj_life_paused(l)) /* what had begun before the pause */
        return false;
    /* This one and the two before it, of which the ring now shows the first; or one more after a
     * quarantine that is not forgotten. */
    bool enough =
        l->level || (l->total >= MJ_LIFE_STRIKES && now - l->strikes[l->next] <= MJ_LIFE_WINDOW_US);
    if (enough)
        mj_life_quarantine(l, l->level + 1, now);
    else
        l->state = MJ_LIFE_DEGRADED;
    return enough;
}

int64_t mj_life_due(const struct mj_life *l)
{
    return l->state == MJ_LIFE_QUARANTINED ? l->until
           : l->state == MJ_LIFE_DEGRADED  ? l->last + MJ_LIFE_FORGET_US
                                           : -1;
}

bool mj_life_tick(struct mj_life *l, int64_t now)
{
    int64_t due = mj_life_due(l);
    if (due < 0 || now < due)
        return false;
    if (l->state == MJ_LIFE_DEGRADED) {
        *l = (struct mj_life){.state = MJ_LIFE_RUNNING};
        return false;
    }
    l->state = MJ_LIFE_DEGRADED;
    l->last = now;
    return true;
}
