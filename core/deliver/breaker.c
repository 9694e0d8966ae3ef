#include "deliver/breaker.h"

int64_t mj_breaker_wait(struct mj_breaker *b, int64_t now)
{
    if (b->state == MJ_BREAKER_CLOSED)
        return 0;
    if (b->state == MJ_BREAKER_OPEN && now < b->until)
        return b->until - now;
    b->state = MJ_BREAKER_HALF_OPEN;
    return b->probing ? -1 : 0;
}

void mj_breaker_sent(struct mj_breaker *b) { b->probing = b->state == MJ_BREAKER_HALF_OPEN; }

void mj_breaker_undo(struct mj_breaker *b) { b->probing = false; }

bool mj_breaker_ended(struct mj_breaker *b, bool ok, uint64_t random, int64_t now)
{
    bool was_closed = b->state == MJ_BREAKER_CLOSED;
    /* An answer to what was sent before it opened tells as much as a probe. */
    if (ok) {
        *b = (struct mj_breaker){.state = MJ_BREAKER_CLOSED};
        return !was_closed;
    }
    b->failures++;
    if (was_closed && b->failures < MJ_BREAKER_FAILURES)
        return false;
    if (b->state == MJ_BREAKER_OPEN) /* sent before; its time runs already */
        return false;
    b->pause = was_closed ? MJ_BREAKER_FIRST_US : b->pause * 2;
    if (b->pause > MJ_BREAKER_LONGEST_US)
        b->pause = MJ_BREAKER_LONGEST_US;
    b->until = now + b->pause / 2 + (int64_t)(random % (uint64_t)(b->pause / 2 + 1));
    b->state = MJ_BREAKER_OPEN;
    b->probing = false;
    return was_closed;
}

const char *mj_breaker_name(enum mj_breaker_state state)
{
    static const char *const names[] = {"closed", "half-open", "open"};
    return names[state];
}
