#include "server/scan.h"

#define SLOTS 2048 /* 320 KiB in all */

void mj_scans_init(struct mj_scans *s) { s->slots = mj_calloc(SLOTS, sizeof *s->slots); }

void mj_scans_deinit(struct mj_scans *s)
{
    free(s->slots);
    s->slots = NULL;
}

/* Looks at [w->to, end). */
static void extend(struct mj_window *w, struct mj_class *class, const struct mj_view *v,
                   uint64_t end)
{
    struct mj_run r;
    if (w->to < v->floor)
        w->to = v->floor; /* nobody can ask for what lies below any more */
    while (w->to < end) {
        if (!mj_view_run(v, w->to, &r))
            return; /* never */
        if (r.seq >= end) {
            w->to = end; /* seqs are missing up to there */
            return;
        }
        size_t n = r.count < end - r.seq ? r.count : (size_t)(end - r.seq);
        if (!r.summary || mj_filter_may_any(class->filter, v->journal, class->stream, r.summary))
            mj_filter_scan(class->filter, v->journal, class->stream, r.entries, n, w->bits,
                           (size_t)(r.seq - w->first));
        w->to = r.seq + n;
    }
}

const struct mj_window *mj_scan(struct mj_scans *s, struct mj_class *class, const struct mj_view *v,
                                uint64_t seq)
{
    uint64_t first = seq & ~(uint64_t)(MJ_WINDOW - 1), end = first + MJ_WINDOW;
    uint64_t mixed = (class->serial * 31 + first / MJ_WINDOW) * UINT64_C(0x9e3779b97f4a7c15);
    struct mj_window *w = &s->slots[mixed >> 32 & (SLOTS - 1)];
    if (end > v->end)
        end = v->end;
    uint64_t version = mj_filter_version(class->filter);
    if (w->serial != class->serial || w->first != first || w->version != version)
        *w = (struct mj_window){
            .serial = class->serial, .first = first, .to = first, .version = version};
    if (w->to < end)
        extend(w, class, v, end);
    return w;
}

uint64_t mj_window_next(const struct mj_window *w, uint64_t seq, uint64_t to)
{
    size_t i = (size_t)(seq - w->first), stop = (size_t)(to - w->first);
    while (i < stop) {
        uint64_t word = w->bits[i / 64] >> i % 64;
        if (word) {
            i += (size_t)__builtin_ctzll(word);
            return i < stop ? w->first + i : to;
        }
        i += 64 - i % 64;
    }
    return to;
}
