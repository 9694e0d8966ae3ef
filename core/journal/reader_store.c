/* Positions on disk. A name of mj_disk per reader, and under its number one key, "position":
 *
 *   version │ flags │ kind │ scanned │ n │ n × slot │ reason
 *   slot: note − the one before │ attempts │ only with attempts: group, since, due
 *
 * Numbers are LEB128, but `scanned`, since and due, which have 8 bytes. When the slots do not fit,
 * the first that does not is where reading goes on: what was done above it comes again. */
#include <endian.h>
#include <stdio.h>

#include "journal/reader_internal.h"

#define VERSION   2 /* 1 has no group without an attempt */
#define PAUSED    1u
#define DISABLED  2u
#define SLOT_MOST 40 /* bytes of one slot */

static const char key_text[] = "position";

void mj__put_varint(struct mj_buf *out, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        mj_buf_putc(out, (char)(v | 0x80));
    mj_buf_putc(out, (char)v);
}

void mj__put64(struct mj_buf *out, uint64_t v)
{
    uint64_t little = htole64(v);
    mj_buf_put(out, &little, sizeof little);
}

int mj__take_varint(struct mj_span *in, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; in->len; shift += 7) {
        uint8_t byte = *in->ptr;
        *in = mj_span(in->ptr + 1, in->len - 1);
        if (shift > 63 || (shift == 63 && byte > 1))
            return MJ_EINVAL;
        *out |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return 0;
    }
    return MJ_ETRUNC;
}

int mj__take64(struct mj_span *in, uint64_t *out)
{
    uint64_t little;
    if (in->len < sizeof little)
        return MJ_ETRUNC;
    memcpy(&little, in->ptr, sizeof little);
    *out = le64toh(little);
    *in = mj_span(in->ptr + sizeof little, in->len - sizeof little);
    return 0;
}

/* ---- the record ---- */

void mj__position_put(struct mj_buf *out, const struct mj_reader *r)
{
    const struct mj__window *w = &r->window;
    struct mj_buf slots = {0};
    uint64_t scanned = r->scanned, before = 0;
    size_t n = 0;
    for (size_t i = w->head; i < w->n; i++) {
        const struct mj__slot *s = &w->slots[i];
        if (s->state == MJ__DONE)
            continue;
        if (slots.len + SLOT_MOST > MJ__SLOTS_SAVED) {
            scanned = s->note;
            break;
        }
        mj__put_varint(&slots, s->note - before);
        mj__put_varint(&slots, s->attempts);
        mj__put_varint(&slots, s->group);
        if (s->attempts) {
            mj__put64(&slots, (uint64_t)s->since_us);
            mj__put64(&slots, (uint64_t)s->due_us);
        }
        before = s->note;
        n++;
    }
    mj_buf_putc(out, VERSION);
    mj_buf_putc(out, (char)((r->paused ? PAUSED : 0) | (r->disabled ? DISABLED : 0)));
    mj_buf_putc(out, (char)r->kind);
    mj__put64(out, scanned);
    mj__put_varint(out, n);
    mj_buf_put(out, slots.ptr, slots.len);
    mj_buf_puts(out, r->disabled ? r->reason : "");
    mj_buf_deinit(&slots);
}

static int take_slot(struct mj_span *in, uint8_t version, uint64_t *note, struct mj__slot *out)
{
    uint64_t step, attempts, group = 0, since = 0, due = 0;
    int err = mj__take_varint(in, &step);
    if (!err)
        err = mj__take_varint(in, &attempts);
    if (!err && (attempts || version > 1))
        err = mj__take_varint(in, &group);
    if (!err && attempts)
        err = mj__take64(in, &since);
    if (!err && attempts)
        err = mj__take64(in, &due);
    if (err)
        return err;
    if (!step || step > MJ_TIME_MAX - *note || attempts > UINT32_MAX || group > UINT32_MAX ||
        since > MJ_TIME_MAX || due > MJ_TIME_MAX)
        return MJ_EINVAL;
    *note += step;
    *out = (struct mj__slot){.note = *note,
                             .attempts = (uint32_t)attempts,
                             .group = (uint32_t)group,
                             .since_us = (int64_t)since,
                             .due_us = (int64_t)due};
    return 0;
}

int mj__position_take(struct mj_span value, struct mj_reader *r)
{
    struct mj__window *w = &r->window;
    uint64_t scanned, n = 0, note = 0;
    if (value.len < 3)
        return MJ_ETRUNC;
    uint8_t version = value.ptr[0], flags = value.ptr[1], kind = value.ptr[2];
    struct mj_span in = mj_span(value.ptr + 3, value.len - 3);
    if (version < 1 || version > VERSION || flags > (PAUSED | DISABLED) || kind > MJ_READER_WEBHOOK)
        return MJ_EINVAL;
    int err = mj__take64(&in, &scanned);
    if (!err)
        err = mj__take_varint(&in, &n);
    if (!err && (scanned > MJ_TIME_MAX || n > in.len))
        err = MJ_EINVAL;
    uint32_t group = 0;
    for (uint64_t i = 0; i < n && !err; i++) {
        struct mj__slot slot;
        err = take_slot(&in, version, &note, &slot);
        if (!err && note >= scanned)
            err = MJ_EINVAL;
        if (!err) {
            *mj__window_add(w) = slot;
            group = slot.group > group ? slot.group : group;
        }
    }
    if (!err && in.len >= sizeof r->reason)
        err = MJ_ETRAILING;
    if (err) {
        mj__window_clear(w);
        return err;
    }
    w->unresolved = w->live;
    r->scanned = scanned;
    r->group = group;
    r->kind = kind;
    r->paused = flags & PAUSED;
    r->disabled = flags & DISABLED;
    snprintf(r->reason, sizeof r->reason, "%.*s", (int)in.len, (const char *)in.ptr);
    return 0;
}

/* ---- saving ---- */

static size_t position_key(uint64_t number, uint8_t key[8 + sizeof key_text])
{
    uint64_t big = htobe64(number);
    memcpy(key, &big, 8);
    memcpy(key + 8, key_text, sizeof key_text - 1);
    return 8 + sizeof key_text - 1;
}

/* Under the lock. A reader with nothing to do is as far as the journal, so that retention does not
 * come nearer, and a restart has nothing to look at. */
static void move_idle(struct mj_reader *r)
{
    if (r->window.live || r->scanned < r->news)
        return;
    pthread_mutex_lock(&r->mail);
    if (!r->staged_first && !r->news_first) {
        uint64_t end = atomic_load_explicit(&r->rs->journal->published, memory_order_acquire);
        if (r->scanned < end) {
            r->scanned = r->news = end;
            r->dirty = true;
        }
    }
    pthread_mutex_unlock(&r->mail);
}

static void save(struct mj_reader *r, struct mj_buf *batch, struct mj_buf *value)
{
    uint8_t key[8 + sizeof key_text];
    if (!r->disk_number) {
        r->disk_number = mj_disk_new_number(r->rs->disk);
        mj_batch_name(batch, MJ__READERS_SCRIPT, r->name, r->disk_number, MJ_DISK_READER);
    }
    value->len = 0;
    mj__position_put(value, r);
    mj_batch_put(batch, mj_span(key, position_key(r->disk_number, key)), mj_buf_span(value));
    r->dirty = false;
}

void mj__reader_put(struct mj_reader *r, struct mj_buf *batch)
{
    MJ_AUTO_BUF value = {0};
    save(r, batch, &value);
}

void mj__reader_save(struct mj_reader *r)
{
    MJ_AUTO_BUF batch = {0};
    if (!r->rs->disk || r->rs->journal->read_only)
        return;
    mj__reader_put(r, &batch);
    mj_disk_hand_over(r->rs->disk, &batch, true);
    r->made = mj_disk_handed(r->rs->disk);
}

/* Positions are written every second, so while the disk takes nothing, they would fill the memory:
 * those that have no room stay dirty. At the end, what there is is handed over. */
void mj__readers_save(struct mj_readers *rs, bool last)
{
    MJ_AUTO_BUF batch = {0};
    MJ_AUTO_BUF value = {0};
    bool writes = rs->disk && !rs->journal->read_only && (last || mj_disk_has_room(rs->disk));
    int64_t now = mj_now_us();
    uint64_t budget = MJ__LOOK_SAVE;
    size_t n = atomic_load_explicit(&rs->count, memory_order_acquire);
    pthread_mutex_lock(&rs->lock);
    mj_view_refresh(&rs->view);
    for (size_t i = 0; i < n; i++) {
        struct mj_reader *r = rs->all[i];
        pthread_mutex_lock(&r->lock);
        if (r->known) {
            move_idle(r);
            mj__take_mail(r);
            mj__window_floor(r, rs->view.floor);
            mj__count_floor(r, rs->view.floor); /* of those, too, that nobody takes from */
            if (writes && r->dirty)
                save(r, &batch, &value);
            mj__reader_show(r, now, &budget);
        }
        pthread_mutex_unlock(&r->lock);
    }
    pthread_mutex_unlock(&rs->lock);
    if (rs->disk)
        mj_disk_hand_over(rs->disk, &batch, true);
}

void mj_readers_save(struct mj_readers *rs) { mj__readers_save(rs, false); }

/* Nobody looks at it any more, so its gauges would stay as they were. */
static void show_forgotten(struct mj_reader *r)
{
    mj_metric_set(r->m.state, MJ__STATE_GONE);
    mj_metric_set(r->m.waiting, 0);
    mj_metric_set_real(r->m.lag, 0);
    mj_metric_set(r->m.air, 0);
    mj_metric_set(r->m.letters, 0);
}

int mj_reader_forget(struct mj_reader *r)
{
    struct mj_readers *rs = r->rs;
    MJ_AUTO_BUF batch = {0};
    pthread_mutex_lock(&r->lock);
    int err = r->owned ? MJ_EINVAL : r->known ? 0 : MJ_ENOENT;
    if (!err) {
        mj__dead_clear(r);
        if (rs->disk && r->disk_number) {
            mj_batch_sweep(&batch, r->disk_number);
            mj_batch_forget(&batch, MJ__READERS_SCRIPT, r->name);
            mj_disk_hand_over(rs->disk, &batch, true);
        }
        mj__window_clear(&r->window);
        r->epoch++;
        r->disk_number = 0;
        r->known = r->dirty = r->paused = r->disabled = false;
        r->air = r->air_events = 0;
        r->unread = r->claimed = r->uncounted_at = r->uncounted_end = 0;
        r->reason[0] = 0;
        show_forgotten(r);
    }
    pthread_mutex_unlock(&r->lock);
    return err;
}

/* ---- loading ---- */

struct found {
    char name[MJ_READER_NAME_MAX + 1];
    uint64_t number;
};

struct finding {
    struct found *v; /* owned */
    size_t n;
    char kind;
};

static void on_name(void *ctx, const char *name, uint64_t number, char kind)
{
    struct finding *f = ctx;
    if (kind != f->kind || strlen(name) > MJ_READER_NAME_MAX || f->n == MJ_READERS_MAX)
        return;
    f->v = mj_realloc(f->v, (f->n + 1) * sizeof *f->v);
    snprintf(f->v[f->n].name, sizeof f->v[f->n].name, "%s", name);
    f->v[f->n++].number = number;
}

static void on_position(void *ctx, struct mj_span key, struct mj_span value)
{
    struct mj_reader *r = ctx;
    if (!mj_span_eq(mj_span(key.ptr + 8, key.len - 8), mj_span(key_text, sizeof key_text - 1)))
        return;
    int err = mj__position_take(value, r);
    if (err)
        mj_log(MJ_LOG_ERROR, "reader",
               "the position of %s cannot be read (%s); it goes on with what comes from now on",
               r->name, mj_strerror(err));
    else
        r->known = true;
}

/* What the position says of the journal: a seq that was never given out is another journal's. */
static void place(struct mj_reader *r)
{
    struct mj_journal *j = r->rs->journal;
    uint64_t end = atomic_load_explicit(&j->published, memory_order_acquire);
    if (r->scanned > j->next_seq) {
        mj_log(MJ_LOG_WARN, "reader",
               "%s was at another journal's event %llu; it goes on with what comes from now on",
               r->name, (unsigned long long)r->scanned);
        mj__window_clear(&r->window);
        r->scanned = j->next_seq;
    }
    if (r->collection <= MJ_COLLECTIONS_MAX && j->local[r->collection])
        r->number = j->local[r->collection];
    r->news = r->scanned > end ? r->scanned : end;
    mj__count_again(r, r->scanned);
}

void mj__readers_load(struct mj_readers *rs)
{
    struct finding found = {.kind = MJ_DISK_READER};
    MJ_AUTO_BUF error = {0};
    if (!rs->disk || mj_disk_names(rs->disk, MJ__READERS_SCRIPT, on_name, &found))
        return;
    for (size_t i = 0; i < found.n; i++) {
        char *space = strrchr(found.v[i].name, ' ');
        if (!space)
            continue;
        *space = 0;
        struct mj_reader *r =
            mj__reader_new(rs, found.v[i].name, space + 1, MJ_READER_EACH, &error);
        if (!r)
            break;
        r->disk_number = found.v[i].number;
        mj_disk_read(rs->disk, r->disk_number, on_position, NULL, r);
        place(r);
        if (!r->known) {
            r->known = r->dirty = true;
            r->scanned = r->news;
        }
    }
    free(found.v);
    mj__dead_load(rs);
}
