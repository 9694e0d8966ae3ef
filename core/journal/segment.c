/* A segment's files: made, mapped, opened, removed. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "journal/internal.h"

static const char *const endings[MJ_FILES] = {"data", "index", "marks", "sealed"};

void mj__file_name(char out[48], uint64_t first_seq, enum mj_file file)
{
    snprintf(out, 48, "%020" PRIu64 ".%s", first_seq, endings[file]);
}

uint64_t mj__mark_hash(const struct mj_mark *m, uint64_t first_seq)
{
    return XXH3_64bits_withSeed(m, offsetof(struct mj_mark, hash), first_seq);
}

uint64_t mj__batch_hash(const struct mj_entry *entries, size_t n, struct mj_span data)
{
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, data.ptr, data.len);
    XXH3_64bits_update(&state, entries, n * sizeof *entries);
    return XXH3_64bits_digest(&state);
}

static struct mj_segment *segment_alloc(uint64_t first_seq)
{
    struct mj_segment *s = mj_calloc(1, sizeof *s);
    s->first_seq = first_seq;
    s->refs = 1;
    for (int i = 0; i < MJ_FILES; i++)
        s->fd[i] = -1;
    for (int i = 0; i < MJ_SOURCES_MAX; i++)
        s->cursors[i] = -1;
    return s;
}

void mj__segment_ref(struct mj_segment *s) { s->refs++; }

void mj__segment_close_files(struct mj_segment *s)
{
    for (int i = 0; i < MJ_FILES; i++) {
        if (s->fd[i] >= 0)
            close(s->fd[i]);
        s->fd[i] = -1;
    }
}

void mj__segment_free(struct mj_segment *s)
{
    if (!s)
        return;
    if (s->memory) {
        munmap(s->memory, s->memory_size);
    } else {
        if (s->entries)
            munmap((void *)(uintptr_t)s->entries, s->entry_cap * sizeof *s->entries);
        if (s->data)
            munmap((void *)(uintptr_t)s->data, s->data_cap);
        if (s->sealed)
            munmap((void *)(uintptr_t)s->sealed, s->sealed_size);
    }
    mj__segment_close_files(s);
    free(s);
}

void mj__segment_unref(struct mj_journal *j, struct mj_segment *s)
{
    if (--s->refs)
        return;
    if (s->memory && s->data_cap == MJ_MEMORY_DATA && j->spares < MJ_COUNT(j->spare))
        j->spare[j->spares++] = s;
    else
        mj__segment_free(s);
}

/* One mapping: the index, the bytes. Untouched pages cost nothing, so the index may be generous. */
static struct mj_segment *memory_segment(size_t entries, size_t data)
{
    size_t index = (entries * sizeof(struct mj_entry) + 4095) & ~(size_t)4095;
    size_t size = index + data;
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    struct mj_segment *s = segment_alloc(0);
    s->memory = p;
    s->memory_size = size;
    s->entries = p;
    s->data = (uint8_t *)p + index;
    s->entry_cap = entries;
    s->data_cap = data;
    return s;
}

static struct mj_segment *new_in_memory(struct mj_journal *j, uint64_t first_seq, int64_t base_us,
                                        size_t need)
{
    struct mj_segment *s = NULL;
    pthread_mutex_lock(&j->lock);
    if (need <= MJ_MEMORY_DATA && j->spares)
        s = j->spare[--j->spares];
    pthread_mutex_unlock(&j->lock);
    if (!s)
        s = need <= MJ_MEMORY_DATA ? memory_segment(MJ_MEMORY_COUNT, MJ_MEMORY_DATA)
                                   : memory_segment(1, need);
    if (!s)
        return NULL;
    s->first_seq = first_seq;
    s->base_us = s->last_us = base_us;
    s->state = MJ_ACTIVE;
    s->n = s->used = 0;
    s->refs = 1;
    return s;
}

static void *map(int fd, size_t size)
{
    void *p = size ? mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    return p == MAP_FAILED ? NULL : p;
}

int mj__segment_map(struct mj_segment *s)
{
    s->entries = map(s->fd[MJ_FILE_INDEX], s->entry_cap * sizeof *s->entries);
    s->data = map(s->fd[MJ_FILE_DATA], s->data_cap);
    return s->entries && s->data ? 0 : MJ_EIO;
}

static int write_head(struct mj_journal *j, struct mj_segment *s)
{
    struct mj_marks_head head = {.first_seq = s->first_seq, .base_us = s->base_us};
    memcpy(head.magic, MJ_MARKS_MAGIC, sizeof head.magic);
    pthread_mutex_lock(&j->lock);
    if (j->count) {
        const struct mj_segment *before = j->segments[j->count - 1];
        head.after = before->first_seq;
        head.follows = before->first_seq + before->n;
    }
    pthread_mutex_unlock(&j->lock);
    memcpy(head.cursors, j->cursors, sizeof head.cursors);
    head.hash = XXH3_64bits(&head, offsetof(struct mj_marks_head, hash));
    ssize_t n = pwrite(s->fd[MJ_FILE_MARKS], &head, sizeof head, 0);
    if (n >= 0 && n < (ssize_t)sizeof head)
        errno = ENOSPC;
    return n == (ssize_t)sizeof head ? 0 : MJ_EIO;
}

struct mj_segment *mj__segment_new(struct mj_journal *j, uint64_t first_seq, int64_t base_us,
                                   size_t need)
{
    if (!j->cfg.dir)
        return new_in_memory(j, first_seq, base_us, need);
    struct mj_segment *s = segment_alloc(first_seq);
    s->base_us = s->last_us = base_us;
    s->state = MJ_ACTIVE;
    s->dirty = true;
    s->data_cap = j->cfg.segment_bytes + MJ_SLACK_BYTES + need;
    s->entry_cap = s->data_cap / MJ_EVENT_LEAST;
    char name[48] = "";
    /* Files of that number can only be what a crash left of a segment nobody saw. The marks come
     * first: without them the others are nothing. */
    static const enum mj_file order[] = {MJ_FILE_MARKS, MJ_FILE_DATA, MJ_FILE_INDEX};
    for (size_t i = 0; i < MJ_COUNT(order); i++) {
        mj__file_name(name, first_seq, order[i]);
        int fd = openat(j->dir, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        s->fd[order[i]] = fd;
        if (fd < 0)
            goto fail;
    }
    /* Sparse: the mapping reaches over the whole size, the disk holds what is written. */
    if (ftruncate(s->fd[MJ_FILE_DATA], (off_t)s->data_cap) ||
        ftruncate(s->fd[MJ_FILE_INDEX], (off_t)(s->entry_cap * sizeof *s->entries)) ||
        mj__segment_map(s) || write_head(j, s))
        goto fail;
    return s;

fail:
    mj__journal_fail(j, "cannot make", name, errno);
    mj__segment_free(s);
    return NULL;
}

int64_t mj__segment_bytes(const struct mj_segment *s, int64_t *index)
{
    *index = (int64_t)s->n * (int64_t)sizeof(struct mj_entry);
    return s->state == MJ_SEALED ? (int64_t)s->sealed_size : (int64_t)s->used;
}

/* The rows lie where the foot says, and the index holds what the foot counts; what rows say is
 * checked when they are used. */
static const char *check_foot(const struct mj_segment *s, const struct mj_foot *f, uint64_t first,
                              off_t index_size)
{
    if (memcmp(f->magic, MJ_SEALED_MAGIC, sizeof f->magic) != 0)
        return "is not a sealed segment, or cut short";
    if (f->hash != XXH3_64bits(f, offsetof(struct mj_foot, hash)))
        return "is damaged";
    size_t body = s->sealed_size - sizeof *f;
    if (f->first_seq != first || !f->count || !f->rows || f->base_us < 0 ||
        f->last_us < f->base_us || f->last_us > MJ_TIME_MAX || f->rows_at % 8 ||
        f->rows_at > body || (body - f->rows_at) / sizeof(struct mj_row) != f->rows)
        return "is damaged";
    if (index_size < (off_t)(f->count * sizeof(struct mj_entry)))
        return "has a cut .index";
    return NULL;
}

struct mj_segment *mj__segment_open_sealed(struct mj_journal *j, uint64_t first_seq,
                                           struct mj_buf *error)
{
    struct mj_segment *s = segment_alloc(first_seq);
    const char *why = NULL;
    char name[48] = "";
    struct stat st[2];
    static const enum mj_file files[2] = {MJ_FILE_INDEX, MJ_FILE_SEALED};
    for (int i = 0; i < 2; i++) {
        mj__file_name(name, first_seq, files[i]);
        int fd = openat(j->dir, name, O_RDONLY | O_CLOEXEC);
        s->fd[files[i]] = fd;
        if (fd < 0 || fstat(fd, &st[i])) {
            why = strerror(errno);
            goto fail;
        }
    }
    s->sealed_size = (size_t)st[1].st_size;
    struct mj_foot foot;
    why = "is damaged";
    if (s->sealed_size < sizeof foot)
        goto fail;
    s->sealed = map(s->fd[MJ_FILE_SEALED], s->sealed_size);
    if (!s->sealed) {
        why = strerror(errno);
        goto fail;
    }
    memcpy(&foot, s->sealed + s->sealed_size - sizeof foot, sizeof foot);
    why = check_foot(s, &foot, first_seq, st[0].st_size);
    if (!why && foot.collections > mj_names_count(&j->collections))
        why = "uses more collections than the file `collections` has";
    if (why)
        goto fail;
    s->state = MJ_SEALED;
    s->base_us = foot.base_us;
    s->last_us = foot.last_us;
    s->n = foot.count;
    s->used = foot.end;
    s->rows = (const struct mj_row *)(s->sealed + foot.rows_at);
    s->row_count = foot.rows;
    memcpy(s->cursors, foot.cursors, sizeof s->cursors);
    s->entry_cap = s->n;
    s->entries = map(s->fd[MJ_FILE_INDEX], s->entry_cap * sizeof *s->entries);
    if (s->entries) {
        mj__segment_close_files(s);
        return s;
    }
    why = strerror(errno);

fail:
    mj_buf_printf(error, "%s/%s: %s", j->cfg.dir, name, why);
    mj__segment_free(s);
    return NULL;
}
