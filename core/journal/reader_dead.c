/* Dead letters: what was given up on, with the reason, until somebody has it retried or removes it.
 *
 *   version │ first, died (8 each) │ attempts │ status │ reason │ excerpt │ n
 *           │ n × (id │ time, upstream seq, DID's hash (8, 8, 4) │ length) │ the events as a JSON
 * array
 *
 * On disk under a number of the reader's, by id; in memory are only the ids, and those letters
 * which the disk may not have yet. Without a disk all of them are in memory, and fewer. */
#include <endian.h>
#include <stdio.h>

#include "journal/reader_internal.h"

#define SLOTS_WITH_LETTER 256 /* of a window: a larger position waits for its second */

#define VERSION      1
#define EXCERPT_MOST 2048
#define MEMORY_MOST  ((size_t)32 << 20) /* bytes of letters without a disk */
#define HEAD_LEAST   (MJ_DELIVERY_ID_LEN + 20 + 1)

/* ---- the value ---- */

static void put_text(struct mj_buf *out, struct mj_span s, size_t most)
{
    s.len = s.len < most ? s.len : most;
    mj__put_varint(out, s.len);
    mj_buf_put(out, s.ptr, s.len);
}

static int take_bytes(struct mj_span *in, uint64_t n, struct mj_span *out)
{
    if (n > in->len)
        return MJ_ETRUNC;
    *out = mj_span(in->ptr, (size_t)n);
    *in = mj_span(in->ptr + n, in->len - (size_t)n);
    return 0;
}

static int take_text(struct mj_span *in, struct mj_span *out)
{
    uint64_t n;
    int err = mj__take_varint(in, &n);
    return err ? err : take_bytes(in, n, out);
}

void mj__letter_put(struct mj_buf *out, const struct mj__letter *l)
{
    mj_buf_putc(out, VERSION);
    mj__put64(out, (uint64_t)l->first_us);
    mj__put64(out, (uint64_t)l->died_us);
    mj__put_varint(out, l->attempts);
    mj__put_varint(out, l->status > 0 ? (uint64_t)l->status : 0);
    put_text(out, mj_str(l->reason), 255);
    put_text(out, l->excerpt, EXCERPT_MOST);
    mj__put_varint(out, l->n);
    for (size_t i = 0; i < l->n; i++) {
        const struct mj_item *item = &l->items[i];
        uint32_t did = htole32(item->did);
        mj_buf_put(out, item->id, MJ_DELIVERY_ID_LEN);
        mj__put64(out, (uint64_t)item->time_us);
        mj__put64(out, (uint64_t)item->upstream_seq);
        mj_buf_put(out, &did, sizeof did);
        mj__put_varint(out, item->json.len);
    }
    mj_buf_putc(out, '[');
    for (size_t i = 0; i < l->n; i++) {
        mj_buf_puts(out, i ? "," : "");
        mj_buf_put(out, l->items[i].json.ptr, l->items[i].json.len);
    }
    mj_buf_putc(out, ']');
}

static int take_head(struct mj_span *in, struct mj_item *out)
{
    struct mj_span id, did;
    uint64_t time, upstream, len;
    uint32_t little;
    int err = take_bytes(in, MJ_DELIVERY_ID_LEN, &id);
    if (!err)
        err = mj__take64(in, &time);
    if (!err)
        err = mj__take64(in, &upstream);
    if (!err)
        err = take_bytes(in, sizeof little, &did);
    if (!err)
        err = mj__take_varint(in, &len);
    if (err)
        return err;
    if (len > MJ_JSON_MAX || time > MJ_TIME_MAX || memchr(id.ptr, 0, id.len))
        return MJ_EINVAL;
    memcpy(&little, did.ptr, sizeof little);
    *out = (struct mj_item){.time_us = (int64_t)time,
                            .upstream_seq = (int64_t)upstream,
                            .did = le32toh(little),
                            .json = {NULL, (size_t)len}};
    memcpy(out->id, id.ptr, MJ_DELIVERY_ID_LEN);
    return 0;
}

bool mj__letter_next(struct mj__letter_in *l, struct mj_item *out)
{
    if (!l->heads.len || take_head(&l->heads, out))
        return false;
    out->json.ptr = l->texts.ptr + 1; /* behind the bracket or the comma */
    l->texts = mj_span(l->texts.ptr + 1 + out->json.len, l->texts.len - 1 - out->json.len);
    return true;
}

int mj__letter_take(struct mj_span value, struct mj__letter_in *out)
{
    struct mj_span in = value, reason;
    struct mj_item item;
    uint64_t first, died, attempts, status, n;
    *out = (struct mj__letter_in){0};
    if (!in.len)
        return MJ_ETRUNC;
    if (*in.ptr != VERSION)
        return MJ_EINVAL;
    in = mj_span(in.ptr + 1, in.len - 1);
    int err = mj__take64(&in, &first);
    if (!err)
        err = mj__take64(&in, &died);
    if (!err)
        err = mj__take_varint(&in, &attempts);
    if (!err)
        err = mj__take_varint(&in, &status);
    if (!err)
        err = take_text(&in, &reason);
    if (!err)
        err = take_text(&in, &out->dead.excerpt);
    if (!err)
        err = mj__take_varint(&in, &n);
    if (err)
        return err;
    if (n > in.len / HEAD_LEAST || attempts > UINT32_MAX - 1 || status > 999 ||
        first > MJ_TIME_MAX || died > MJ_TIME_MAX || reason.len >= sizeof out->reason)
        return MJ_EINVAL;
    out->n = (size_t)n;
    out->heads = in;
    uint64_t texts = n ? n + 1 : 2;
    for (uint64_t i = 0; i < n; i++) {
        if ((err = take_head(&in, &item)))
            return err;
        texts += item.json.len;
        if (!i)
            memcpy(out->id, item.id, sizeof out->id);
    }
    out->heads.len -= in.len;
    if (texts != in.len)
        return texts > in.len ? MJ_ETRUNC : MJ_ETRAILING;
    out->texts = in;
    snprintf(out->reason, sizeof out->reason, "%.*s", (int)reason.len, (const char *)reason.ptr);
    out->dead.event_id = out->id;
    out->dead.reason = out->reason;
    out->dead.first_us = (int64_t)first;
    out->dead.died_us = (int64_t)died;
    out->dead.attempts = (unsigned)attempts;
    out->dead.status = (int)status;
    out->dead.events = in;
    return 0;
}

/* ---- what is not on the disk yet ---- */

/* Under dead_lock. */
static void drop_recent(struct mj_readers *rs, size_t i)
{
    rs->recent_bytes -= rs->recent[i].value.len;
    mj_buf_deinit(&rs->recent[i].value);
    memmove(rs->recent + i, rs->recent + i + 1, (rs->recent_count - i - 1) * sizeof *rs->recent);
    rs->recent_count--;
}

static void drop_written(struct mj_readers *rs)
{
    uint64_t written = rs->disk ? mj_disk_written(rs->disk) : 0;
    size_t n = 0;
    while (rs->disk && n < rs->recent_count && rs->recent[n].handed <= written) {
        rs->recent_bytes -= rs->recent[n].value.len;
        mj_buf_deinit(&rs->recent[n++].value);
    }
    rs->recent_count -= n;
    if (n)
        memmove(rs->recent, rs->recent + n, rs->recent_count * sizeof *rs->recent);
}

static size_t recent_of(const struct mj_readers *rs, uint64_t id)
{
    size_t i = rs->recent_count;
    while (i && rs->recent[i - 1].id != id)
        i--;
    return i; /* one more than its place, or 0 */
}

/* Takes the value. */
static void keep_recent(struct mj_readers *rs, uint64_t id, struct mj_buf *value)
{
    size_t old = recent_of(rs, id);
    if (old)
        drop_recent(rs, old - 1);
    drop_written(rs);
    if (rs->recent_count == rs->recent_cap) {
        rs->recent_cap = rs->recent_cap ? 2 * rs->recent_cap : 16;
        rs->recent = mj_realloc(rs->recent, rs->recent_cap * sizeof *rs->recent);
    }
    rs->recent[rs->recent_count++] =
        (struct mj__recent){id, rs->disk ? mj_disk_handed(rs->disk) : UINT64_MAX, *value};
    rs->recent_bytes += value->len;
    *value = (struct mj_buf){0};
    while (!rs->disk && rs->recent_count > 1 && rs->recent_bytes > MEMORY_MOST)
        drop_recent(rs, 0); /* its id is dropped when it is asked for */
}

/* ---- letters ---- */

static struct mj_span key_of(const struct mj_reader *r, uint64_t id, uint64_t key[2])
{
    key[0] = htobe64(r->dead_number);
    key[1] = htobe64(id);
    return mj_span(key, 2 * sizeof *key);
}

static size_t place_of(const struct mj_reader *r, uint64_t id)
{
    size_t lo = 0, hi = r->letter_count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (r->letters[mid] < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool has(const struct mj_reader *r, uint64_t id)
{
    size_t i = place_of(r, id);
    return i < r->letter_count && r->letters[i] == id;
}

static void add_id(struct mj_reader *r, uint64_t id)
{
    if (r->letter_count == r->letter_cap) {
        r->letter_cap = r->letter_cap ? 2 * r->letter_cap : 16;
        r->letters = mj_realloc(r->letters, r->letter_cap * sizeof *r->letters);
    }
    size_t at = place_of(r, id);
    memmove(r->letters + at + 1, r->letters + at, (r->letter_count - at) * sizeof *r->letters);
    r->letters[at] = id;
    r->letter_count++;
}

static void write_letter(struct mj_reader *r, uint64_t id, const struct mj__letter *l)
{
    struct mj_readers *rs = r->rs;
    MJ_AUTO_BUF batch = {0};
    struct mj_buf value = {0};
    uint64_t key[2];
    mj__letter_put(&value, l);
    if (rs->disk) {
        if (!r->dead_number) {
            r->dead_number = mj_disk_new_number(rs->disk);
            mj_batch_name(&batch, MJ__DEAD_SCRIPT, r->name, r->dead_number, MJ_DISK_DEAD);
        }
        mj_batch_put(&batch, key_of(r, id, key), mj_buf_span(&value));
        /* With the position that says so, or after kill -9 the events would die once more. */
        if (r->window.n - r->window.head <= SLOTS_WITH_LETTER)
            mj__reader_put(r, &batch);
        mj_disk_hand_over(rs->disk, &batch, true);
    }
    pthread_mutex_lock(&rs->dead_lock);
    keep_recent(rs, id, &value);
    pthread_mutex_unlock(&rs->dead_lock);
}

void mj__dead_drop(struct mj_reader *r, uint64_t id)
{
    struct mj_readers *rs = r->rs;
    MJ_AUTO_BUF batch = {0};
    uint64_t key[2];
    if (!has(r, id))
        return;
    size_t at = place_of(r, id);
    memmove(r->letters + at, r->letters + at + 1, (r->letter_count - at - 1) * sizeof *r->letters);
    r->letter_count--;
    if (rs->disk) {
        mj_batch_remove(&batch, key_of(r, id, key));
        mj_disk_hand_over(rs->disk, &batch, true);
    }
    pthread_mutex_lock(&rs->dead_lock);
    size_t recent = recent_of(rs, id);
    if (recent)
        drop_recent(rs, recent - 1);
    pthread_mutex_unlock(&rs->dead_lock);
}

void mj__dead_add(struct mj_reader *r, const struct mj__letter *l)
{
    struct mj_readers *rs = r->rs;
    static struct mj_log_gate gate;
    pthread_mutex_lock(&rs->dead_lock);
    uint64_t id = rs->next_dead++;
    pthread_mutex_unlock(&rs->dead_lock);
    write_letter(r, id, l);
    add_id(r, id);
    while (r->letter_count > rs->dead_max) {
        mj_metric_add(r->m.dropped, 1);
        mj_log_limited(&gate, 1, MJ_LOG_WARN, "reader",
                       "%s has more than %zu dead letters; the oldest is dropped", r->name,
                       rs->dead_max);
        mj__dead_drop(r, r->letters[0]);
    }
}

void mj__dead_replace(struct mj_reader *r, uint64_t id, const struct mj__letter *l)
{
    if (has(r, id)) /* else it was removed while it was out */
        write_letter(r, id, l);
}

void mj__dead_clear(struct mj_reader *r)
{
    struct mj_readers *rs = r->rs;
    MJ_AUTO_BUF batch = {0};
    pthread_mutex_lock(&rs->dead_lock);
    for (size_t i = rs->recent_count; i-- > 0;)
        if (has(r, rs->recent[i].id))
            drop_recent(rs, i);
    pthread_mutex_unlock(&rs->dead_lock);
    if (rs->disk && r->dead_number) {
        mj_batch_sweep(&batch, r->dead_number);
        mj_batch_forget(&batch, MJ__DEAD_SCRIPT, r->name);
        mj_disk_hand_over(rs->disk, &batch, true);
    }
    r->dead_number = 0;
    r->letter_count = r->revived_count = 0;
}

struct looking {
    struct mj_span key;
    struct mj_buf *out;
    bool found;
};

static bool on_value(void *ctx, struct mj_span key, struct mj_span value)
{
    struct looking *l = ctx;
    if (mj_span_eq(key, l->key)) {
        mj_buf_put(l->out, value.ptr, value.len);
        l->found = true;
    }
    return false;
}

int mj__dead_read(struct mj_reader *r, uint64_t id, struct mj_buf *out)
{
    struct mj_readers *rs = r->rs;
    uint64_t key[2];
    struct looking l = {key_of(r, id, key), out, false};
    if (!has(r, id))
        return MJ_ENOENT;
    pthread_mutex_lock(&rs->dead_lock);
    size_t recent = recent_of(rs, id);
    if (recent) {
        struct mj_span value = mj_buf_span(&rs->recent[recent - 1].value);
        mj_buf_put(out, value.ptr, value.len);
        l.found = true;
    }
    pthread_mutex_unlock(&rs->dead_lock);
    if (!l.found && rs->disk) {
        int err =
            mj_disk_walk(rs->disk, r->dead_number, mj_span(&key[1], sizeof key[1]), on_value, &l);
        if (err)
            return err;
    }
    if (!l.found)
        mj__dead_drop(r, id); /* there was no room for it in memory */
    return l.found ? 0 : MJ_ENOENT;
}

static bool on_letter(void *ctx, struct mj_span key, struct mj_span value)
{
    struct mj_reader *r = ctx;
    uint64_t big;
    (void)value;
    if (key.len != 8 + sizeof big)
        return true;
    memcpy(&big, key.ptr + 8, sizeof big);
    uint64_t id = be64toh(big);
    add_id(r, id);
    if (r->rs->next_dead <= id && id < UINT64_MAX)
        r->rs->next_dead = id + 1;
    return true;
}

struct numbering {
    struct mj_readers *rs;
};

static void on_dead_name(void *ctx, const char *name, uint64_t number, char kind)
{
    struct mj_reader *r = mj_readers_find(((struct numbering *)ctx)->rs, name);
    if (r && kind == MJ_DISK_DEAD)
        r->dead_number = number;
}

void mj__dead_load(struct mj_readers *rs)
{
    struct numbering n = {rs};
    if (mj_disk_names(rs->disk, MJ__DEAD_SCRIPT, on_dead_name, &n))
        return;
    for (size_t i = 0; i < rs->count; i++)
        if (rs->all[i]->dead_number)
            mj_disk_walk(rs->disk, rs->all[i]->dead_number, (struct mj_span){NULL, 0}, on_letter,
                         rs->all[i]);
}

/* ---- control ---- */

struct mj__one {
    uint64_t id;
    struct mj_reader *reader;
};

static int by_id(const void *a, const void *b)
{
    uint64_t x = ((const struct mj__one *)a)->id, y = ((const struct mj__one *)b)->id;
    return (x > y) - (x < y);
}

/* Calls fn with a letter; 0, or what keeps it from being read. */
static int show(const struct mj__one *one, bool (*fn)(void *ctx, const struct mj_dead *d),
                void *ctx, bool *more)
{
    MJ_AUTO_BUF value = {0};
    struct mj__letter_in l;
    pthread_mutex_lock(&one->reader->lock);
    int err = mj__dead_read(one->reader, one->id, &value);
    pthread_mutex_unlock(&one->reader->lock);
    if (!err && mj__letter_take(mj_buf_span(&value), &l) == 0) {
        l.dead.id = one->id;
        l.dead.reader = one->reader->name;
        *more = fn(ctx, &l.dead);
    }
    return err == MJ_ENOENT ? 0 : err;
}

int mj_dead_each(struct mj_readers *rs, const char *reader, uint64_t from,
                 bool (*fn)(void *ctx, const struct mj_dead *d), void *ctx)
{
    struct mj__one *all = NULL;
    size_t n = 0, count = atomic_load_explicit(&rs->count, memory_order_acquire);
    bool more = true;
    int err = 0;
    for (size_t i = 0; i < count; i++) {
        struct mj_reader *r = rs->all[i];
        if (reader && strcmp(r->name, reader) != 0)
            continue;
        pthread_mutex_lock(&r->lock);
        size_t at = place_of(r, from);
        if (at < r->letter_count)
            all = mj_realloc(all, (n + r->letter_count - at) * sizeof *all);
        for (; at < r->letter_count; at++)
            all[n++] = (struct mj__one){r->letters[at], r};
        pthread_mutex_unlock(&r->lock);
    }
    if (n)
        qsort(all, n, sizeof *all, by_id);
    for (size_t i = 0; i < n && more && !err; i++)
        err = show(&all[i], fn, ctx, &more);
    free(all);
    return err;
}

/* The reader that has the letter, locked, or NULL. */
static struct mj_reader *lock_owner(struct mj_readers *rs, uint64_t id)
{
    size_t count = atomic_load_explicit(&rs->count, memory_order_acquire);
    for (size_t i = 0; i < count; i++) {
        pthread_mutex_lock(&rs->all[i]->lock);
        if (has(rs->all[i], id))
            return rs->all[i];
        pthread_mutex_unlock(&rs->all[i]->lock);
    }
    return NULL;
}

int mj_dead_retry(struct mj_readers *rs, uint64_t id)
{
    struct mj_reader *r = lock_owner(rs, id);
    if (!r)
        return MJ_ENOENT;
    int err = r->owned ? 0 : MJ_EINVAL;
    bool asked = false;
    for (size_t i = 0; i < r->revived_count; i++)
        asked |= r->revived[i].id == id;
    if (!err && !asked) {
        if (r->revived_count == r->revived_cap) {
            r->revived_cap = r->revived_cap ? 2 * r->revived_cap : 16;
            r->revived = mj_realloc(r->revived, r->revived_cap * sizeof *r->revived);
        }
        r->revived[r->revived_count++] = (struct mj__revived){.id = id};
    }
    pthread_mutex_unlock(&r->lock);
    if (!err)
        mj__reader_stir(r, true);
    return err;
}

int mj_dead_remove(struct mj_readers *rs, uint64_t id)
{
    struct mj_reader *r = lock_owner(rs, id);
    if (!r)
        return MJ_ENOENT;
    mj__dead_drop(r, id);
    for (size_t i = 0; i < r->revived_count; i++)
        if (r->revived[i].id == id && !r->revived[i].out) {
            memmove(r->revived + i, r->revived + i + 1,
                    (r->revived_count - i - 1) * sizeof *r->revived);
            r->revived_count--;
            break;
        }
    pthread_mutex_unlock(&r->lock);
    return 0;
}
