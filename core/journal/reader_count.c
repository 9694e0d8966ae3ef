/* How much waits for a reader, and how much retention has taken from it. Notes are counted as they
 * are published; those that were there before, or are there again after a rewind, a part at a time,
 * because nobody may stand still while somebody looks through days of an index.
 *
 *   scanned             uncounted_at        uncounted_end        news
 *      │  counted: unread  │  not looked at yet  │  counted: unread │
 *
 * When retention overtakes the reader, what it had counted is a claim: each note that is found
 * again in what is left settles one, and what is left of the claim in the end was lost. */
#include "journal/reader_internal.h"

bool mj__block_may_have(const struct mj_reader *r, const struct mj_summary *s)
{
    return !s || (s->kinds >> MJ_ENTRY_NOTE & 1 &&
                  s->collections[r->number % 256 / 64] >> r->number % 64 & 1);
}

/* All is counted: what nobody has found is lost. */
static void settle(struct mj_reader *r)
{
    uint64_t lost = r->claimed;
    if (r->uncounted_at < r->uncounted_end)
        return;
    r->claimed = 0;
    mj__reader_lost(r, lost);
}

void mj__count_on(struct mj_reader *r, const struct mj_view *view, uint64_t *budget)
{
    struct mj_run run;
    if (r->uncounted_at < view->floor)
        r->uncounted_at = view->floor;
    while (*budget && r->uncounted_at < r->uncounted_end &&
           mj_view_run(view, r->uncounted_at, &run)) {
        uint64_t end = run.seq + run.count;
        bool may = mj__block_may_have(r, run.summary);
        if (end > r->uncounted_end)
            end = r->uncounted_end;
        size_t n = end > run.seq ? (size_t)(end - run.seq) : 0;
        if (may && n > *budget)
            n = (size_t)*budget;
        for (size_t i = 0; may && i < n; i++) {
            if (!mj__is_note_of(r, &run.entries[i]))
                continue;
            r->unread++;
            r->claimed -= r->claimed > 0;
        }
        *budget -= may ? n : 1;
        r->uncounted_at = n ? run.seq + n : r->uncounted_end; /* seqs are missing up to there */
    }
    settle(r);
}

void mj__count_read(struct mj_reader *r, uint64_t seq)
{
    if (seq >= r->uncounted_at && seq < r->uncounted_end)
        r->claimed -= r->claimed > 0;
    else
        r->unread -= r->unread > 0;
}

void mj__count_scanned(struct mj_reader *r)
{
    if (r->uncounted_at < r->scanned)
        r->uncounted_at = r->scanned;
    if (r->scanned >= r->news)
        r->unread = 0; /* a rewind may have counted what was being published twice */
    settle(r);
}

void mj__count_again(struct mj_reader *r, uint64_t from)
{
    r->unread = 0;
    r->uncounted_at = from;
    r->uncounted_end = r->news;
}

void mj__count_floor(struct mj_reader *r, uint64_t floor)
{
    if (r->scanned >= floor || r->scanned >= r->news)
        return;
    r->claimed += r->unread;
    mj__count_again(r, floor);
    r->scanned = floor;
    r->dirty = true;
}
