#include "journal/inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "base/hash.h"
#include "journal/blocks.h"
#include "journal/internal.h"

int mj_inspect_open(const char *dir, struct mj_journal **out, struct mj_buf *problems,
                    size_t *count)
{
    struct mj_journal_cfg cfg = {.dir = dir, .read_only = true, .tolerant = true};
    size_t before = problems->len;
    int err = 0;
    /* A router that runs may have sealed or dropped what was listed a moment ago. */
    for (int turn = 0; turn < 3; turn++) {
        problems->len = before;
        *count = 0;
        err = mj_journal_open(&cfg, out, problems);
        if (!err && problems->len > before && turn < 2)
            mj_journal_close(*out);
        else if (!err)
            break;
    }
    /* Even a new one has its main stream. */
    if (!err && problems->len == before && !(*out)->count && !mj_inspect_streams(*out)) {
        mj_journal_close(*out);
        mj_buf_printf(problems, "%s: no journal here; name a directory that was given as --data",
                      dir);
        err = MJ_ENOENT;
    }
    if (err)
        mj_buf_putc(problems, '\n');
    for (size_t i = before; i < problems->len; i++)
        *count += problems->ptr[i] == '\n';
    return err;
}

size_t mj_inspect_count(const struct mj_journal *j) { return j->count; }

void mj_inspect_segment(const struct mj_journal *j, size_t i, struct mj_segment_info *out)
{
    const struct mj_segment *s = j->segments[i];
    int64_t index, bytes = mj__segment_bytes(s, &index);
    *out = (struct mj_segment_info){
        .first_seq = s->first_seq,
        .end_seq = s->first_seq + s->n,
        .first_us = s->base_us + s->entries[0].time,
        .last_us = s->last_us,
        .plain_bytes = s->used,
        .stored_bytes = bytes + index + (int64_t)(s->marks * sizeof(struct mj_mark)),
        .sealed = s->sealed != NULL,
    };
}

size_t mj_inspect_sources(const struct mj_journal *j) { return mj_names_count(&j->sources); }
struct mj_span mj_inspect_source(const struct mj_journal *j, size_t i, int64_t *cursor)
{
    *cursor = j->found[i];
    return mj_names_get(&j->sources, i);
}
size_t mj_inspect_streams(const struct mj_journal *j) { return mj_names_count(&j->streams); }
struct mj_span mj_inspect_stream(const struct mj_journal *j, size_t i)
{
    return mj_names_get(&j->streams, i);
}
size_t mj_inspect_collections(const struct mj_journal *j)
{
    return mj_names_count(&j->collections);
}

/* ---- verify ---- */

struct verifying {
    struct mj_journal *j;
    const struct mj_segment *s;
    struct mj_buf *problems;
    size_t count;
    int64_t last_us;
};

static void problem(struct verifying *v, enum mj_file file, uint32_t first, uint32_t n,
                    const char *what)
{
    char name[48];
    mj__file_name(name, v->s->first_seq, file);
    mj_buf_printf(v->problems, "%s: %s: events %" PRIu64 " to %" PRIu64 "\n", name, what,
                  v->s->first_seq + first, v->s->first_seq + first + (n ? n - 1 : 0));
    v->count++;
}

/* Entries first..first+n, whose frames are at data: each one a text frame of just that length,
 * names that exist, times that rise. */
static void check_entries(struct verifying *v, uint32_t first, uint32_t n, const uint8_t *data)
{
    const struct mj_segment *s = v->s;
    size_t names = mj_names_count(&v->j->collections);
    uint32_t at = first ? s->entries[first - 1].end : 0, start = at;
    enum mj_file file = s->sealed ? MJ_FILE_SEALED : MJ_FILE_DATA;
    for (uint32_t i = first; i < first + n; i++) {
        const struct mj_entry *e = &s->entries[i];
        struct mj_span frame = mj_span(data + (at - start), e->end - at);
        unsigned head = mj_frame_head(frame.len);
        uint64_t len = frame.ptr[1];
        if (head == 4)
            len = len == 126 ? (uint64_t)frame.ptr[2] << 8 | frame.ptr[3] : UINT64_MAX;
        for (unsigned k = 2; head == 10 && k < 10; k++)
            len = k == 2 ? frame.ptr[2] : len << 8 | frame.ptr[k];
        if (frame.ptr[0] != 0x81 || len != frame.len - head)
            problem(v, file, i, 1, "no frame where the index says");
        if (e->collection != MJ_COLLECTION_OTHER && e->collection > names)
            problem(v, MJ_FILE_INDEX, i, 1, "a collection without a name");
        int64_t time_us = s->base_us + e->time;
        if (time_us <= v->last_us)
            problem(v, MJ_FILE_INDEX, i, 1, "time_us does not rise");
        v->last_us = time_us;
        at = e->end;
    }
}

static void verify_sealed(struct verifying *v, void (*progress)(void *, int64_t), void *ctx)
{
    const struct mj_segment *s = v->s;
    struct mj_foot foot;
    memcpy(&foot, s->sealed + s->sealed_size - sizeof foot, sizeof foot);
    if (foot.index_hash != XXH3_64bits(s->entries, s->n * sizeof *s->entries))
        problem(v, MJ_FILE_INDEX, 0, s->n, "not the index that was sealed");
    struct mj_blocks *blocks = mj_blocks_new();
    uint32_t next = 0;
    for (uint32_t i = 0; i < s->row_count; i++) {
        const struct mj_row *row = &s->rows[i];
        struct mj_run r = {.segment = s,
                           .block = i,
                           .start = row->start,
                           .entries = s->entries + row->first,
                           .count = row->count};
        if (!mj_block_is_sound(s, i) || row->first != next) {
            uint32_t end = i + 1 < s->row_count ? s->rows[i + 1].first : s->n;
            problem(v, MJ_FILE_SEALED, next, end > next ? end - next : 0, "damaged row");
            next = end;
            continue;
        }
        r.seq = s->first_seq + row->first;
        if (mj_blocks_load(blocks, &r))
            problem(v, MJ_FILE_SEALED, row->first, row->count, "damaged block");
        else
            check_entries(v, row->first, row->count, r.data);
        next = row->first + row->count;
        if (progress)
            progress(ctx, row->len);
    }
    mj_blocks_free(blocks);
}

static void verify_plain(struct verifying *v, void (*progress)(void *, int64_t), void *ctx)
{
    const struct mj_segment *s = v->s;
    uint32_t n = 0, end = 0;
    char name[48];
    mj__file_name(name, s->first_seq, MJ_FILE_MARKS);
    int fd = openat(v->j->dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) { /* a router has sealed or dropped it since: not its hashes */
        check_entries(v, 0, s->n, s->data);
        return;
    }
    if (fd < 0) {
        problem(v, MJ_FILE_MARKS, 0, s->n, strerror(errno));
        return;
    }
    for (uint32_t i = 0; i < s->marks; i++) {
        struct mj_mark m;
        if (pread(fd, &m, sizeof m, MJ_MARKS_AT + i * (off_t)sizeof m) != (ssize_t)sizeof m ||
            m.hash != mj__mark_hash(&m, s->first_seq) || m.count < n || m.end < end ||
            m.count > s->n || m.end != (m.count ? s->entries[m.count - 1].end : 0)) {
            problem(v, MJ_FILE_MARKS, n, 0, "damaged mark");
            continue;
        }
        if (m.batch !=
            mj__batch_hash(s->entries + n, m.count - n, mj_span(s->data + end, m.end - end)))
            problem(v, MJ_FILE_DATA, n, m.count - n, "not the bytes that were written");
        else
            check_entries(v, n, m.count - n, s->data + end);
        if (progress)
            progress(ctx, m.end - end);
        n = m.count;
        end = m.end;
    }
    close(fd);
}

size_t mj_verify_segment(struct mj_journal *j, size_t i, struct mj_buf *problems,
                         void (*progress)(void *ctx, int64_t bytes), void *ctx)
{
    struct verifying v = {.j = j, .s = j->segments[i], .problems = problems};
    v.last_us = i ? j->segments[i - 1]->last_us : INT64_MIN;
    if (v.s->sealed)
        verify_sealed(&v, progress, ctx);
    else
        verify_plain(&v, progress, ctx);
    return v.count;
}
