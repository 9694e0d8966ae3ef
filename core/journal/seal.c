/* Sealing: the bytes of a closed segment in compressed blocks, each with a summary of what is in
 * it, so that a selective reader opens only blocks that can match. The index stays as it is. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/hash.h"
#include "journal/internal.h"

#define LEVEL 3 /* 1 packs a tenth worse for a third less work that nobody waits for */

struct sealing {
    struct mj_journal *j;
    struct mj_segment *s;
    ZSTD_CCtx *cctx;
    struct mj_buf packed;
    struct mj_row *rows; /* owned */
    size_t count, cap;
    uint64_t at;    /* bytes written */
    uint32_t names; /* of collections: entries up to here use so many */
    int fd;
    char fresh[56], name[48];
};

/* A disk without room for the sealed form may still have some for events: sealing waits, and only
 * the writer says when it is full. */
static int cannot(struct sealing *w, const char *what, int err)
{
    if (err != ENOSPC && err != EDQUOT)
        return mj__journal_fail(w->j, what, w->fresh, err);
    mj_log(MJ_LOG_WARN, "journal", "%s/%s: %s; not sealed, trying again in a minute", w->j->cfg.dir,
           w->fresh, strerror(err));
    w->j->seal_again_us = mj_mono_us() + INT64_C(60000000);
    return MJ_ELIMIT;
}

static int put(struct sealing *w, const void *p, size_t n)
{
    const uint8_t *from = p;
    while (n) {
        ssize_t wrote = write(w->fd, from, n);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return cannot(w, "cannot write to", wrote < 0 ? errno : ENOSPC);
        from += wrote;
        n -= (size_t)wrote;
        w->at += (uint64_t)wrote;
    }
    return 0;
}

static void summarize(struct sealing *w, struct mj_row *r, const struct mj_entry *e)
{
    struct mj_summary *s = &r->summary;
    for (uint32_t i = 0; i < r->count; i++, e++) {
        if (e->collection > w->names && e->collection != MJ_COLLECTION_OTHER)
            w->names = e->collection;
        s->collections[e->collection % 256 / 64] |= UINT64_C(1) << (e->collection % 64);
        s->streams |= e->streams;
        s->kinds |= 1u << (e->kind & 31);
        s->ops |= 1u << (e->op & 31);
        for (unsigned shift = 0; shift < 3; shift++) {
            unsigned bit = e->did >> (shift * 12 - (shift == 2) * 4) & 4095;
            s->dids[bit / 64] |= UINT64_C(1) << (bit % 64);
        }
    }
}

/* One block: as many events as fit, one at least. */
static int block(struct sealing *w, uint32_t first, uint32_t start)
{
    const struct mj_segment *s = w->s;
    if (w->count == w->cap) {
        w->cap = w->cap ? 2 * w->cap : 256;
        w->rows = mj_realloc(w->rows, w->cap * sizeof *w->rows);
    }
    struct mj_row *r = &w->rows[w->count++];
    *r = (struct mj_row){.at = w->at, .first = first, .count = 1, .start = start};
    while (first + r->count < s->n && s->entries[first + r->count].end - start <= MJ_BLOCK_BYTES)
        r->count++;
    r->len = s->entries[first + r->count - 1].end - start;
    summarize(w, r, s->entries + first);
    size_t bound = ZSTD_compressBound(r->len);
    w->packed.len = 0;
    if (mj_buf_try_reserve(&w->packed, bound))
        return MJ_ENOMEM;
    size_t n = ZSTD_compress2(w->cctx, w->packed.ptr, bound, s->data + start, r->len);
    if (ZSTD_isError(n))
        return MJ_ENOMEM;
    r->packed = (uint32_t)n;
    r->hash = XXH3_64bits(r, offsetof(struct mj_row, hash));
    return put(w, w->packed.ptr, n);
}

static int finish(struct sealing *w)
{
    const struct mj_segment *s = w->s;
    static const uint8_t zeros[8];
    int err = put(w, zeros, (size_t)(-w->at & 7));
    struct mj_foot f = {.first_seq = s->first_seq,
                        .base_us = s->base_us,
                        .last_us = s->last_us,
                        .count = s->n,
                        .end = s->used,
                        .rows = (uint32_t)w->count,
                        .collections = w->names,
                        .rows_at = w->at,
                        .index_hash = XXH3_64bits(s->entries, s->n * sizeof *s->entries)};
    memcpy(f.magic, MJ_SEALED_MAGIC, sizeof f.magic);
    memcpy(f.cursors, s->cursors, sizeof f.cursors);
    f.hash = XXH3_64bits(&f, offsetof(struct mj_foot, hash));
    if (!err)
        err = put(w, w->rows, w->count * sizeof *w->rows);
    if (!err)
        err = put(w, &f, sizeof f);
    if (!err &&
        (fdatasync(w->fd) || renameat(w->j->dir, w->fresh, w->j->dir, w->name) || fsync(w->j->dir)))
        err = cannot(w, "cannot finish", errno);
    return err;
}

struct mj_segment *mj__seal(struct mj_journal *j, struct mj_segment *s,
                            bool (*breathe)(struct mj_journal *j))
{
    struct sealing w = {.j = j, .s = s, .cctx = ZSTD_createCCtx()};
    struct mj_segment *sealed = NULL;
    MJ_AUTO_BUF error = {0};
    mj__file_name(w.name, s->first_seq, MJ_FILE_SEALED);
    snprintf(w.fresh, sizeof w.fresh, "%s.new", w.name);
    w.fd = openat(j->dir, w.fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int err = w.fd < 0 ? cannot(&w, "cannot make", errno) : 0;
    if (w.cctx) {
        ZSTD_CCtx_setParameter(w.cctx, ZSTD_c_compressionLevel, LEVEL);
        ZSTD_CCtx_setParameter(w.cctx, ZSTD_c_checksumFlag, 1);
    } else {
        err = MJ_ENOMEM;
    }
    uint32_t first = 0, start = 0;
    while (!err && first < s->n) {
        err = block(&w, first, start);
        if (!err) {
            first += w.rows[w.count - 1].count;
            start += w.rows[w.count - 1].len;
        }
        if (!err && breathe && !breathe(j))
            err = MJ_ECLOSED;
    }
    if (!err)
        err = finish(&w);
    if (!err) {
        sealed = mj__segment_open_sealed(j, s->first_seq, &error);
        if (!sealed)
            mj_log(MJ_LOG_ERROR, "journal", "just sealed, but %s", mj_buf_cstr(&error));
    }
    if (err && w.fd >= 0)
        unlinkat(j->dir, w.fresh, 0);
    if (w.fd >= 0)
        close(w.fd);
    ZSTD_freeCCtx(w.cctx);
    mj_buf_deinit(&w.packed);
    free(w.rows);
    return sealed;
}
