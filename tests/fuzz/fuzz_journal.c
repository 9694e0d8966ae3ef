/* A journal directory as strangers, or a dying disk, may leave it: a small sound one, with a sealed
 * and a plain segment, is changed as the input says, then opened for looking, read, and verified.
 * Whatever comes out must be frames that lie where entries say, and nothing may be touched that is
 * not there.
 *
 * Input: steps of eight bytes: file, what to do, four of offset, two of value. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "journal/inspect.h"
#include "journal/internal.h"

#define FILES_MAX 16

static struct file {
    char name[64];
    uint8_t *bytes;
    size_t len;
} files[FILES_MAX];
static size_t file_count;
static char dir[64];

static void keep_file(const char *name)
{
    struct file *f = &files[file_count++];
    char path[160];
    struct stat st;
    snprintf(f->name, sizeof f->name, "%s", name);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st))
        abort();
    f->len = (size_t)st.st_size;
    f->bytes = malloc(f->len + 1);
    if (read(fd, f->bytes, f->len) != (ssize_t)f->len)
        abort();
    close(fd);
}

static void fill(struct mj_journal *j, int from, int to)
{
    for (int n = from; n < to; n++) {
        char json[400];
        memset(json, 'a' + n % 26, sizeof json);
        struct mj_append a = {.time_us = 1000 * (n + 1),
                              .did_hash = (uint64_t)n * 7919,
                              .streams = 1,
                              .collection = mj_collection_id(MJ_SPAN("com.example.a")),
                              .op = MJ_OP_CREATE};
        if (mj_journal_append(j, &a, mj_span(json, 100 + (size_t)(n % 300))) ||
            (n % 5 == 4 && mj_journal_publish(j, 0, n)))
            abort();
    }
    mj_journal_publish(j, -1, 0);
}

static void remove_dir(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    if (system(command))
        perror(dir);
}

static void make_sound_one(void)
{
    mj_log_setup(MJ_LOG_ERROR + 1, false);
    strcpy(dir, "/dev/shm/moonjet-fuzz-XXXXXX");
    if (!mkdtemp(dir))
        abort();
    atexit(remove_dir);
    struct mj_journal_cfg cfg = {
        .dir = dir, .sync_us = 3600000000, .no_seal = true, .segment_bytes = 40000};
    struct mj_journal *j;
    MJ_AUTO_BUF error = {0};
    if (mj_journal_open(&cfg, &j, &error))
        abort();
    mj_journal_source(j, "wss://a.example");
    fill(j, 0, 600);
    if (mj_journal_seal(j, 20000))
        abort();
    struct mj_journal_window w;
    mj_journal_window(j, &w);
    if (!w.sealed_segments || w.segments < w.sealed_segments + 2)
        abort();
    mj_journal_close(j);
    static const char *const names[] = {"collections", "streams", "sources", "reserve"};
    for (size_t i = 0; i < MJ_COUNT(names); i++)
        keep_file(names[i]);
    for (uint64_t seq = 1; seq < 700; seq++)
        for (int f = 0; f < MJ_FILES; f++) {
            char name[48], path[160];
            mj__file_name(name, seq, (enum mj_file)f);
            snprintf(path, sizeof path, "%s/%s", dir, name);
            if (access(path, F_OK) == 0 && file_count < FILES_MAX)
                keep_file(name);
        }
}

static void write_file(const struct file *f, const uint8_t *bytes, size_t len)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", dir, f->name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, bytes, len) != (ssize_t)len)
        abort();
    close(fd);
}

/* Changes one file; hashes are mended on request, so that what is behind them is reached, too. */
static void change(const uint8_t *step)
{
    const struct file *f = &files[step[0] % file_count];
    uint32_t at;
    uint16_t value;
    memcpy(&at, step + 2, 4);
    memcpy(&value, step + 6, 2);
    MJ_AUTO_BUF b = {0};
    mj_buf_put(&b, f->bytes, f->len);
    size_t ending = strlen(f->name);
    bool sealed = ending > 6 && strcmp(f->name + ending - 6, "sealed") == 0;
    switch (step[1] % 6) {
    case 0: /* a byte */
        if (b.len)
            b.ptr[at % b.len] = (uint8_t)value;
        break;
    case 1: /* cut */
        b.len = b.len ? at % b.len : 0;
        break;
    case 2: { /* a word of the foot, its hash right */
        if (!sealed)
            break;
        struct mj_foot foot;
        memcpy(&foot, b.ptr + b.len - sizeof foot, sizeof foot);
        ((uint16_t *)&foot)[at % (offsetof(struct mj_foot, hash) / 2)] = value;
        foot.hash = XXH3_64bits(&foot, offsetof(struct mj_foot, hash));
        memcpy(b.ptr + b.len - sizeof foot, &foot, sizeof foot);
        break;
    }
    case 3: { /* a word of a row, its hash right */
        if (!sealed)
            break;
        struct mj_foot foot;
        memcpy(&foot, b.ptr + b.len - sizeof foot, sizeof foot);
        struct mj_row row;
        uint8_t *where = b.ptr + foot.rows_at + (value >> 8) % foot.rows * sizeof row;
        memcpy(&row, where, sizeof row);
        ((uint16_t *)&row)[at % 16] = value;
        row.hash = XXH3_64bits(&row, offsetof(struct mj_row, hash));
        memcpy(where, &row, sizeof row);
        break;
    }
    case 4: { /* a word of a mark, its hash right */
        uint64_t first = strtoull(f->name, NULL, 10);
        if (!strstr(f->name, "marks") || b.len < MJ_MARKS_AT + sizeof(struct mj_mark))
            break;
        size_t n = (b.len - MJ_MARKS_AT) / sizeof(struct mj_mark);
        struct mj_mark m;
        uint8_t *where = b.ptr + MJ_MARKS_AT + (value >> 4) % n * sizeof m;
        memcpy(&m, where, sizeof m);
        ((uint16_t *)&m)[at % (offsetof(struct mj_mark, hash) / 2)] = value;
        m.hash = mj__mark_hash(&m, first);
        memcpy(where, &m, sizeof m);
        break;
    }
    case 5: { /* gone */
        char path[160];
        snprintf(path, sizeof path, "%s/%s", dir, f->name);
        unlink(path);
        return;
    }
    }
    write_file(f, b.ptr, b.len);
}

static void look(void)
{
    struct mj_journal *j;
    MJ_AUTO_BUF problems = {0};
    size_t count;
    if (mj_inspect_open(dir, &j, &problems, &count)) {
        if (!problems.len)
            abort();
        return;
    }
    struct mj_view v;
    mj_view_init(&v, j);
    struct mj_run r;
    uint64_t seq = v.floor, sum = 0;
    while (mj_view_run(&v, seq, &r)) {
        if (r.seq < seq || !r.count)
            abort();
        if (mj_view_load(&v, &r) == 0)
            for (size_t i = 0; i < r.count; i++) {
                struct mj_span frame = mj_run_frame(&r, i);
                for (size_t k = 0; k < frame.len; k++)
                    sum += frame.ptr[k];
                sum += mj_journal_collection_name(j, r.entries[i].collection).len;
            }
        seq = r.seq + r.count;
    }
    mj_view_find(&v, 500000);
    mj_view_newest(&v);
    mj_view_deinit(&v);
    for (size_t i = 0; i < mj_inspect_count(j); i++)
        mj_verify_segment(j, i, &problems, NULL, NULL);
    mj_journal_close(j);
    if (sum == 1)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!file_count)
        make_sound_one();
    if (size > 64)
        return -1;
    for (size_t i = 0; i < file_count; i++)
        write_file(&files[i], files[i].bytes, files[i].len);
    for (size_t at = 0; at + 8 <= size; at += 8)
        change(data + at);
    look();
    return 0;
}
