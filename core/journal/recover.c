/* Opening a directory: which segments there are, and where the last whole batch ends.
 *
 * A mark says how much was on the disk when it was written, so only what lies behind the newest
 * such promise is read and hashed again: about a second's worth. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "journal/internal.h"

#define SYNC_SLACK_US INT64_C(10000000)

struct found {
    uint64_t first_seq;
    bool file[MJ_FILES];
};

/* A plain segment while it is not known yet how much of it counts. */
struct plain {
    struct mj_segment *s;
    struct mj_marks_head head;
    struct mj_mark *marks; /* owned */
    size_t count, holds;   /* marks there are; the first so many are what they say */
    uint64_t durable;      /* the newest promise among them */
    bool headless;
};

struct recovery {
    struct mj_journal *j;
    struct mj_buf *error;
    struct found *found; /* owned, ascending */
    size_t count, cap;
    struct plain *plain; /* owned, ascending */
    size_t plain_count;
    uint64_t
        durable; /* seqs below must be there: what is missing of them is damage, no torn tail */
};

static int complain(struct recovery *r, uint64_t first_seq, enum mj_file file, const char *why)
{
    char name[48];
    mj__file_name(name, first_seq, file);
    if (r->j->cfg.tolerant) {
        mj_buf_printf(r->error, "%s: %s\n", name, why);
        return MJ_EHASH;
    }
    mj_buf_printf(r->error,
                  "%s/%s: %s. `moonjet journal verify %s` tells more; to go on without the events "
                  "in it, move the files of that number away",
                  r->j->cfg.dir, name, why, r->j->cfg.dir);
    return MJ_EHASH;
}

static void remove_file(struct recovery *r, uint64_t first_seq, enum mj_file file)
{
    char name[48];
    mj__file_name(name, first_seq, file);
    if (!r->j->read_only)
        unlinkat(r->j->dir, name, 0);
}

/* ---- the directory ---- */

static int by_seq(const void *a, const void *b)
{
    uint64_t x = ((const struct found *)a)->first_seq, y = ((const struct found *)b)->first_seq;
    return (x > y) - (x < y);
}

static bool parse_name(const char *name, uint64_t *first_seq, enum mj_file *file)
{
    char again[48];
    uint64_t n = 0;
    for (int i = 0; i < 20; i++) {
        if (!isdigit((unsigned char)name[i]))
            return false;
        n = 10 * n + (uint64_t)(name[i] - '0');
    }
    for (int f = 0; f < MJ_FILES; f++) {
        mj__file_name(again, n, (enum mj_file)f);
        if (strcmp(again, name) == 0) {
            *first_seq = n;
            *file = (enum mj_file)f;
            return n > 0;
        }
    }
    return false;
}

static void note(struct recovery *r, uint64_t first_seq, enum mj_file file)
{
    size_t i = 0;
    while (i < r->count && r->found[i].first_seq != first_seq)
        i++;
    if (i == r->count) {
        if (r->count == r->cap) {
            r->cap = r->cap ? 2 * r->cap : 64;
            r->found = mj_realloc(r->found, r->cap * sizeof *r->found);
        }
        r->found[r->count++] = (struct found){.first_seq = first_seq};
    }
    r->found[i].file[file] = true;
}

static int read_dir(struct recovery *r)
{
    int fd = openat(r->j->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        mj_buf_printf(r->error, "%s: %s", r->j->cfg.dir, strerror(errno));
        return MJ_EIO;
    }
    struct dirent *e;
    while (errno = 0, (e = readdir(d))) {
        uint64_t first_seq;
        enum mj_file file;
        size_t n = strlen(e->d_name);
        if (parse_name(e->d_name, &first_seq, &file))
            note(r, first_seq, file);
        else if (n > 4 && strcmp(e->d_name + n - 4, ".new") == 0 && !r->j->read_only)
            unlinkat(r->j->dir, e->d_name, 0); /* what was being written when we died */
    }
    int err = errno; /* half a list would make leftovers of what is not */
    closedir(d);
    if (err) {
        mj_buf_printf(r->error, "%s: %s", r->j->cfg.dir, strerror(err));
        return MJ_EIO;
    }
    if (r->count)
        qsort(r->found, r->count, sizeof *r->found, by_seq);
    return 0;
}

/* ---- one plain segment ---- */

static bool mark_is_whole(const struct plain *p, size_t i)
{
    return p->marks[i].hash == mj__mark_hash(&p->marks[i], p->s->first_seq);
}

/* Does the batch of mark i hold, given that the marks before it do? */
static bool batch_holds(struct recovery *r, struct plain *p, size_t i)
{
    const struct mj_mark *m = &p->marks[i];
    uint32_t n0 = i ? m[-1].count : 0, end0 = i ? m[-1].end : 0;
    if (m->count < n0 || m->end < end0 || m->collections > mj_names_count(&r->j->collections))
        return false;
    size_t entries = (m->count - n0) * sizeof(struct mj_entry), bytes = m->end - end0;
    uint8_t *buf MJ_AUTO_FREE = malloc(entries + bytes + 1);
    if (!buf || pread(p->s->fd[MJ_FILE_INDEX], buf, entries,
                      (off_t)(n0 * sizeof(struct mj_entry))) != (ssize_t)entries)
        return false;
    for (size_t got = 0; got < bytes;) {
        ssize_t n =
            pread(p->s->fd[MJ_FILE_DATA], buf + entries + got, bytes - got, (off_t)(end0 + got));
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return m->batch == mj__batch_hash((const struct mj_entry *)(void *)buf, m->count - n0,
                                      mj_span(buf + entries, bytes));
}

/* How many marks hold. What was promised to be on the disk is taken to be there. */
static void check_marks(struct recovery *r, struct plain *p)
{
    size_t n = p->count;
    while (n && !mark_is_whole(p, n - 1))
        n--;
    if (!n)
        return;
    p->durable = p->marks[n - 1].durable;
    size_t i = n;
    while (i && (!mark_is_whole(p, i - 1) || p->s->first_seq + p->marks[i - 1].count > p->durable))
        i--;
    while (i < n && mark_is_whole(p, i) && batch_holds(r, p, i))
        i++;
    p->holds = i;
}

static int read_marks(struct recovery *r, struct plain *p)
{
    struct stat st;
    int fd = p->s->fd[MJ_FILE_MARKS];
    if (fstat(fd, &st))
        return complain(r, p->s->first_seq, MJ_FILE_MARKS, strerror(errno));
    p->headless = pread(fd, &p->head, sizeof p->head, 0) != (ssize_t)sizeof p->head ||
                  memcmp(p->head.magic, MJ_MARKS_MAGIC, sizeof p->head.magic) != 0 ||
                  p->head.first_seq != p->s->first_seq || p->head.base_us < 0 ||
                  p->head.base_us > MJ_TIME_MAX ||
                  p->head.hash != XXH3_64bits(&p->head, offsetof(struct mj_marks_head, hash));
    /* Without its head it counts for nothing, but its marks tell whether that is a loss. */
    p->count = st.st_size > MJ_MARKS_AT ? (size_t)(st.st_size - MJ_MARKS_AT) / sizeof *p->marks : 0;
    size_t size = p->count * sizeof *p->marks;
    p->marks = malloc(size + 1);
    if (!p->marks)
        return complain(r, p->s->first_seq, MJ_FILE_MARKS, "out of memory");
    for (size_t got = 0; got < size;) {
        ssize_t n = pread(fd, (uint8_t *)p->marks + got, size - got, (off_t)(MJ_MARKS_AT + got));
        if (n <= 0)
            return complain(r, p->s->first_seq, MJ_FILE_MARKS, n ? strerror(errno) : "cut short");
        got += (size_t)n;
    }
    check_marks(r, p);
    if (p->holds && p->marks[p->holds - 1].collections > mj_names_count(&r->j->collections))
        return complain(r, p->s->first_seq, MJ_FILE_MARKS,
                        "uses more collections than the file `collections` has");
    return 0;
}

/* Every frame begins where the one before ends, and is a frame at least. */
static bool index_is_sound(const struct mj_segment *s)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->entries[i].end < at || s->entries[i].end - at < 2)
            return false;
        at = s->entries[i].end;
    }
    return at == s->used;
}

static void learn_cursors(struct plain *p)
{
    memcpy(p->s->cursors, p->head.cursors, sizeof p->s->cursors);
    for (size_t i = 0; i < p->holds; i++)
        if (p->marks[i].source < MJ_SOURCES_MAX)
            p->s->cursors[p->marks[i].source] = p->marks[i].upstream_seq;
}

/* Most files have their size already, at each start. */
static int cut(int fd, size_t size)
{
    struct stat st;
    if (fstat(fd, &st))
        return -1;
    return st.st_size == (off_t)size ? 0 : ftruncate(fd, (off_t)size);
}

/* Files longer than what counts are cut, so that nothing of an unfinished batch can ever be taken
 * for one. */
static int cut_files(struct recovery *r, struct mj_segment *s, size_t marks)
{
    if (r->j->read_only)
        return 0;
    if (cut(s->fd[MJ_FILE_MARKS], MJ_MARKS_AT + marks * sizeof(struct mj_mark)) ||
        cut(s->fd[MJ_FILE_INDEX], s->n * sizeof(struct mj_entry)) ||
        cut(s->fd[MJ_FILE_DATA], s->used)) {
        mj_buf_printf(r->error, "%s: cannot cut a segment: %s", r->j->cfg.dir, strerror(errno));
        return MJ_EIO;
    }
    return 0;
}

static int open_files(struct recovery *r, struct mj_segment *s)
{
    for (int f = 0; f <= MJ_FILE_MARKS; f++) {
        char name[48];
        mj__file_name(name, s->first_seq, (enum mj_file)f);
        s->fd[f] = openat(r->j->dir, name, (r->j->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
        if (s->fd[f] < 0)
            return errno == ENOENT ? MJ_ENOENT
                                   : complain(r, s->first_seq, (enum mj_file)f, strerror(errno));
    }
    return 0;
}

static int open_plain(struct recovery *r, uint64_t first_seq)
{
    struct mj_segment *s = mj_calloc(1, sizeof *s);
    struct plain *p = &r->plain[r->plain_count++];
    *p = (struct plain){.s = s};
    s->first_seq = first_seq;
    s->refs = 1;
    s->state = MJ_CLOSED;
    for (int f = 0; f < MJ_FILES; f++)
        s->fd[f] = -1;
    int err = open_files(r, s);
    if (err == MJ_ENOENT) {
        /* We died while its files were being made, or the power went before their names were on
         * the disk: nothing of it can count. */
        p->headless = true;
        return 0;
    }
    if (!err)
        err = read_marks(r, p);
    mj__segment_close_files(s); /* there may be thousands */
    if (p->durable > r->durable)
        r->durable = p->durable;
    return err;
}

/* What is kept of the segment is in p->holds; now it becomes one that can be read. */
static int adopt(struct recovery *r, struct plain *p)
{
    struct mj_segment *s = p->s;
    const struct mj_mark *last = &p->marks[p->holds - 1];
    struct stat st[2];
    s->n = last->count;
    s->used = last->end;
    s->marks = (uint32_t)p->holds;
    s->base_us = p->head.base_us;
    s->entry_cap = s->n;
    s->data_cap = s->used;
    /* A cut must be on the disk, too, before there is anything behind it. */
    s->dirty = s->first_seq + s->n > r->durable || p->holds < p->count;
    learn_cursors(p);
    int err = open_files(r, s);
    if (err)
        return err == MJ_ENOENT ? complain(r, s->first_seq, MJ_FILE_MARKS, "gone") : err;
    if (fstat(s->fd[MJ_FILE_DATA], &st[0]) || fstat(s->fd[MJ_FILE_INDEX], &st[1]) ||
        st[0].st_size < (off_t)s->used || st[1].st_size < (off_t)(s->n * sizeof *s->entries))
        return complain(r, s->first_seq, MJ_FILE_DATA, "shorter than its marks say");
    err = cut_files(r, s, p->holds);
    if (err)
        return err;
    if (mj__segment_map(s))
        return complain(r, s->first_seq, MJ_FILE_DATA, strerror(errno));
    if (!index_is_sound(s))
        return complain(r, s->first_seq, MJ_FILE_INDEX, "damaged");
    s->last_us = s->base_us + s->entries[s->n - 1].time;
    if (!s->dirty || r->j->read_only)
        mj__segment_close_files(s);
    return 0;
}

static void discard(struct recovery *r, struct plain *p)
{
    uint64_t first_seq = p->s->first_seq;
    mj__segment_free(p->s);
    p->s = NULL;
    remove_file(r, first_seq, MJ_FILE_MARKS);
    remove_file(r, first_seq, MJ_FILE_DATA);
    remove_file(r, first_seq, MJ_FILE_INDEX);
}

/* First seq of the segment that is not there. */
static uint64_t end_of(const struct plain *p)
{
    return p->s->first_seq + (p->holds ? p->marks[p->holds - 1].count : 0);
}

static int damaged(struct recovery *r, struct plain *p)
{
    int err = complain(r, p->s->first_seq, MJ_FILE_MARKS, "damaged in what was synced");
    return r->j->cfg.tolerant ? 0 : err;
}

/* Cuts the torn tail: a segment counts when the one it follows is there to its end, and the newest
 * one that counts ends with a whole batch. */
static int cut_tail(struct recovery *r)
{
    size_t n = 0;
    while (n < r->plain_count) {
        struct plain *p = &r->plain[n];
        const struct plain *before = n ? p - 1 : NULL;
        if (p->headless || !p->holds)
            break;
        if (before && p->head.after == before->s->first_seq && p->head.follows > end_of(before))
            break;
        n++;
    }
    if (n < r->plain_count) {
        struct plain *p = &r->plain[n];
        /* The first seq that is missing: seqs that were jumped over are not. */
        uint64_t lost = n ? end_of(p - 1) : p->s->first_seq;
        if (!p->headless && p->head.follows == lost)
            lost = p->s->first_seq;
        int err = lost < r->durable ? damaged(r, p) : 0;
        if (err)
            return err;
    }
    for (size_t i = n; i < r->plain_count; i++)
        discard(r, &r->plain[i]);
    for (; n; n--) {
        struct plain *p = &r->plain[n - 1];
        while (p->holds && p->marks[p->holds - 1].flags & MJ_MARK_MORE)
            p->holds--;
        int err = end_of(p) < p->durable ? damaged(r, p) : 0;
        if (err)
            return err;
        if (p->holds)
            return 0;
        discard(r, p);
    }
    return 0;
}

/* ---- all of them ---- */

static int open_segments(struct recovery *r)
{
    struct mj_journal *j = r->j;
    j->cap = r->count + 16;
    j->segments = mj_calloc(j->cap, sizeof(struct mj_segment *));
    r->plain = mj_calloc(r->count + 1, sizeof *r->plain);
    for (size_t i = 0; i < r->count; i++) {
        const struct found *f = &r->found[i];
        if (f->file[MJ_FILE_SEALED]) {
            struct mj_segment *s = mj__segment_open_sealed(j, f->first_seq, r->error);
            if (!s && j->cfg.tolerant) {
                mj_buf_putc(r->error, '\n');
                continue;
            }
            if (!s) {
                mj_buf_puts(r->error, "; to go on without the events in it, move the files of that "
                                      "number away");
                return MJ_EHASH;
            }
            j->segments[j->count++] = s;
            remove_file(r, f->first_seq, MJ_FILE_MARKS);
            remove_file(r, f->first_seq, MJ_FILE_DATA);
        } else if (f->file[MJ_FILE_MARKS]) {
            int err = open_plain(r, f->first_seq);
            if (err && !j->cfg.tolerant)
                return err;
            if (err) {
                mj__segment_free(r->plain[--r->plain_count].s);
                free(r->plain[r->plain_count].marks);
            }
        } else {
            remove_file(r, f->first_seq, MJ_FILE_INDEX); /* leftovers of one that was dropped */
            remove_file(r, f->first_seq, MJ_FILE_DATA);
        }
    }
    int err = cut_tail(r);
    for (size_t i = 0; i < r->plain_count && !err; i++) {
        if (!r->plain[i].s)
            continue;
        err = adopt(r, &r->plain[i]);
        if (!err) {
            j->segments[j->count++] = r->plain[i].s;
            r->plain[i].s = NULL;
        } else if (j->cfg.tolerant) {
            err = 0;
        }
    }
    return err;
}

static int by_first_seq(const void *a, const void *b)
{
    uint64_t x = (*(struct mj_segment *const *)a)->first_seq;
    uint64_t y = (*(struct mj_segment *const *)b)->first_seq;
    return (x > y) - (x < y);
}

static int check_order(struct recovery *r)
{
    struct mj_journal *j = r->j;
    if (j->count)
        qsort(j->segments, j->count, sizeof *j->segments, by_first_seq);
    for (size_t i = 1; i < j->count; i++) {
        const struct mj_segment *a = j->segments[i - 1], *b = j->segments[i];
        if (a->first_seq + a->n > b->first_seq || a->last_us >= b->base_us) {
            int err = complain(r, b->first_seq, b->sealed ? MJ_FILE_SEALED : MJ_FILE_MARKS,
                               "overlaps the segment before it");
            if (!j->cfg.tolerant)
                return err;
        }
    }
    return 0;
}

/* Where to go on: above everything that may have been given out before. */
static void go_on(struct mj_journal *j)
{
    uint64_t next = 1;
    if (j->count) {
        const struct mj_segment *last = j->segments[j->count - 1];
        next = last->first_seq + last->n;
        j->last_time = last->last_us;
        memcpy(j->cursors, last->cursors, sizeof j->cursors);
        memcpy(j->found, last->cursors, sizeof j->found);
        j->floor = j->segments[0]->first_seq;
    }
    struct mj_reserve reserve;
    bool known = mj__reserve_read(j->dir, &reserve);
    j->next_seq = next;
    if (known && reserve.ceiling > next)
        j->next_seq = reserve.ceiling;
    else if (!known && j->count)
        j->next_seq = next + MJ_RESERVE;
    char boot[40];
    mj__boot_id(boot);
    if (known && reserve.clean) {
        memcpy(j->cursors, reserve.cursors, sizeof j->cursors);
        memcpy(j->found, reserve.cursors, sizeof j->found);
    }
    if (known && reserve.time_us > j->last_time)
        j->last_time = reserve.time_us;
    if ((known || j->count) &&
        !(known && (reserve.clean || memcmp(boot, reserve.boot, sizeof boot) == 0))) {
        /* What was lost had times, too: all newer than what was synced by the time between two
         * syncs, and what a sync takes. */
        int64_t window = j->cfg.sync_us;
        if (known && reserve.sync_us > window)
            window = reserve.sync_us;
        j->last_time += window + SYNC_SLACK_US;
    }
    if (!j->count) /* nothing below is there, so nobody shall wait there for what comes */
        next = j->floor = j->next_seq;
    atomic_store(&j->published, next);
    atomic_store(&j->durable, 1); /* what was found is synced before anything is added */
}

int mj__recover(struct mj_journal *j, struct mj_buf *error)
{
    struct recovery r = {.j = j, .error = error};
    int err = read_dir(&r);
    if (!err)
        err = open_segments(&r);
    if (!err)
        err = check_order(&r);
    if (!err)
        go_on(j);
    for (size_t i = 0; i < r.plain_count; i++) {
        mj__segment_free(r.plain[i].s);
        free(r.plain[i].marks);
    }
    free(r.plain);
    free(r.found);
    return err;
}
