#include "journal/blocks.h"

#include <zstd.h>

#include "base/hash.h"
#include "journal/internal.h"

struct block {
    const struct mj_segment *segment; /* borrowed key; NULL: empty */
    uint32_t row;
    uint64_t used; /* turn of the last use */
    uint8_t *data; /* owned */
    size_t cap;
};

struct mj_blocks {
    struct block blocks[MJ_BLOCKS];
    uint64_t turn;
    ZSTD_DCtx *dctx; /* owned; NULL before it is needed */
};

struct mj_blocks *mj_blocks_new(void) { return mj_calloc(1, sizeof(struct mj_blocks)); }

void mj_blocks_free(struct mj_blocks *b)
{
    if (!b)
        return;
    for (size_t i = 0; i < MJ_BLOCKS; i++)
        free(b->blocks[i].data);
    ZSTD_freeDCtx(b->dctx);
    free(b);
}

void mj_blocks_forget(struct mj_blocks *b, const struct mj_segment *s)
{
    for (size_t i = 0; i < MJ_BLOCKS; i++)
        if (b->blocks[i].segment == s)
            b->blocks[i].segment = NULL;
}

bool mj_block_is_sound(const struct mj_segment *s, uint32_t row)
{
    const struct mj_row *r = &s->rows[row];
    size_t rows_at = (size_t)((const uint8_t *)s->rows - s->sealed);
    return r->hash == XXH3_64bits(r, offsetof(struct mj_row, hash)) && r->at <= rows_at &&
           r->packed <= rows_at - r->at && r->count && r->first <= s->n &&
           r->count <= s->n - r->first && r->start <= s->used && r->len <= s->used - r->start;
}

/* Every frame of the block begins where the one before ends, the last one at its end. */
static bool entries_fit(const struct mj_segment *s, const struct mj_row *r)
{
    uint32_t at = r->start;
    if ((r->first ? s->entries[r->first - 1].end : 0) != at)
        return false;
    for (uint32_t i = r->first; i < r->first + r->count; i++) {
        if (s->entries[i].end < at || s->entries[i].end - at < 2)
            return false;
        at = s->entries[i].end;
    }
    return at == r->start + r->len;
}

static int unpack(struct mj_blocks *b, struct block *to, const struct mj_segment *s, uint32_t row)
{
    const struct mj_row *r = &s->rows[row];
    if (!mj_block_is_sound(s, row) || !entries_fit(s, r))
        return MJ_EHASH;
    to->segment = NULL;
    if (to->cap < r->len || to->cap > 4 * (size_t)MJ_BLOCK_BYTES) {
        free(to->data);
        to->cap = r->len > MJ_BLOCK_BYTES ? r->len : MJ_BLOCK_BYTES;
        to->data = malloc(to->cap);
        if (!to->data) {
            to->cap = 0;
            return MJ_ENOMEM;
        }
    }
    if (!b->dctx && !(b->dctx = ZSTD_createDCtx()))
        return MJ_ENOMEM;
    size_t n = ZSTD_decompressDCtx(b->dctx, to->data, r->len, s->sealed + r->at, r->packed);
    if (ZSTD_isError(n) || n != r->len)
        return MJ_EHASH;
    to->segment = s;
    to->row = row;
    return 0;
}

/* Damage is said once per segment and counted each time. */
static int damaged(const struct mj_segment *s, const struct mj_run *r, int err)
{
    mj_metric_add(mj_metric("moonjet_journal_damaged_total", MJ_COUNTER,
                            "Times a block of the journal could not be read.", NULL),
                  1);
    char name[48];
    mj__file_name(name, s->first_seq, MJ_FILE_SEALED);
    if (!atomic_exchange(&((struct mj_segment *)(uintptr_t)s)->damage_said, true))
        mj_log(MJ_LOG_ERROR, "journal",
               "%s: block %u (from seq %llu) cannot be read: %s; `moonjet journal verify` tells "
               "what is lost, and readers go on behind it with a later cursor",
               name, r->block, (unsigned long long)r->seq, mj_strerror(err));
    return err;
}

int mj_blocks_load(struct mj_blocks *b, struct mj_run *r)
{
    const struct mj_segment *s = r->segment;
    const struct mj_row *row = &s->rows[r->block];
    size_t first = (size_t)(r->entries - s->entries);
    if (first < row->first || first - row->first > row->count ||
        r->count > row->count - (first - row->first))
        return damaged(s, r, MJ_EHASH); /* rows out of order: this one is not the run's */
    struct block *oldest = &b->blocks[0], *at = NULL;
    for (size_t i = 0; i < MJ_BLOCKS && !at; i++) {
        if (b->blocks[i].segment == s && b->blocks[i].row == r->block)
            at = &b->blocks[i];
        if (b->blocks[i].used < oldest->used)
            oldest = &b->blocks[i];
    }
    if (!at) {
        int err = unpack(b, oldest, s, r->block);
        if (err)
            return damaged(s, r, err);
        at = oldest;
    }
    at->used = ++b->turn;
    r->data = at->data + (r->start - row->start);
    return 0;
}
