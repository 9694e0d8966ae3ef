/* The journal, looked through for one record. Index records tell nearly all entries apart, and
 * summaries whole blocks of sealed ones; only what is left is unpacked and read. */
#include "atproto/syntax.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/json.h"
#include "cli/why.h"
#include "event/from_json.h"
#include "journal/reader.h"

#define MJ_ENTRY_NOTE 7                  /* journal/reader.h */
#define PAUSE_US      INT64_C(5000000)   /* without an event: worth telling */
#define BEFORE_US     INT64_C(60000000)  /* pauses are looked for from a minute before … */
#define AFTER_US      INT64_C(600000000) /* … to ten after the record was made */
#define NOTES_AHEAD   4096               /* entries behind an event that may be its notes */

struct search {
    struct mj_view view;
    const struct why_target *target;
    struct mj_from_json *reader; /* owned */
    struct why_found *out;
    uint32_t did;
    size_t cap;
};

static bool may_have(const struct mj_summary *s, uint32_t did)
{
    uint32_t bits[3] = {did % 4096, (did >> 12) % 4096, (did >> 20) % 4096};
    for (size_t i = 0; s && i < 3; i++)
        if (!(s->dids[bits[i] / 64] >> bits[i] % 64 & 1))
            return false;
    return true;
}

static void free_entry(struct why_entry *e)
{
    for (size_t i = 0; i < e->note_count; i++)
        free(e->notes[i].reader);
    free(e->notes);
    mj_buf_deinit(&e->json);
    mj_buf_deinit(&e->deliveries);
}

static void drop_oldest(struct why_found *f)
{
    free_entry(&f->entries[0]);
    memmove(f->entries, f->entries + 1, --f->count * sizeof *f->entries);
    f->left_out++;
}

static void add_entry(struct search *s, const struct mj_run *run, size_t i)
{
    struct why_found *f = s->out;
    if (f->count == WHY_ENTRIES_MAX)
        drop_oldest(f);
    if (f->count == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 8;
        f->entries = mj_realloc(f->entries, s->cap * sizeof *f->entries);
    }
    struct why_entry *e = &f->entries[f->count++];
    *e = (struct why_entry){.seq = run->seq + i,
                            .time_us = mj_run_time(run, i),
                            .streams = run->entries[i].streams,
                            .kind = run->entries[i].kind,
                            .op = run->entries[i].op};
    struct mj_span json = mj_run_json(run, i);
    mj_buf_put(&e->json, json.ptr, json.len);
}

/* {"reader":"SCRIPT NODE","back":2,"seq":17}: kept when it stands for that entry. */
static void read_note(struct mj_span json, uint64_t note, struct why_entry *e)
{
    struct mj_span rest = json, object, key, raw, reader = {NULL, 0};
    int64_t back = 0, seq = 0;
    MJ_AUTO_BUF name = {0};
    if (mj_json_take(&rest, &object) != MJ_JSON_OBJECT)
        return;
    rest = mj_json_inside(object);
    for (int type; (type = mj_json_member(&rest, &key, &raw)) >= 0;) {
        if (type == MJ_JSON_STRING && mj_span_is(key, "\"reader\""))
            reader = raw;
        if (type == MJ_JSON_NUMBER && mj_span_is(key, "\"back\""))
            mj_span_i64(raw, &back);
        if (type == MJ_JSON_NUMBER && mj_span_is(key, "\"seq\""))
            mj_span_i64(raw, &seq);
    }
    if (!reader.len || back < 0 || (uint64_t)back != note - e->seq ||
        e->note_count == WHY_NOTES_MAX)
        return;
    mj_json_text(reader, &name);
    e->notes = mj_realloc(e->notes, (e->note_count + 1) * sizeof *e->notes);
    e->notes[e->note_count++] = (struct why_noted){mj_strdup(mj_buf_cstr(&name)), note};
    e->upstream_seq = seq ? seq : e->upstream_seq;
}

/* Notes lie behind their event, in the same batch: before anything of another account comes. */
static void find_notes(struct search *s, struct why_entry *e)
{
    struct mj_run run;
    for (uint64_t seq = e->seq + 1; seq < e->seq + NOTES_AHEAD && mj_view_run(&s->view, seq, &run);
         seq = run.seq + run.count)
        for (size_t i = 0; i < run.count; i++) {
            if (run.entries[i].did != s->did)
                return;
            if (run.entries[i].kind != MJ_ENTRY_NOTE)
                continue;
            if (!run.data && mj_view_load(&s->view, &run)) {
                s->out->damaged = true;
                return;
            }
            read_note(mj_run_json(&run, i), run.seq + i, e);
        }
}

static void look_into(struct search *s, struct mj_run *run, uint16_t collection)
{
    struct why_found *f = s->out;
    if (!may_have(run->summary, s->did))
        return;
    for (size_t i = 0; i < run->count; i++) {
        const struct mj_entry *e = &run->entries[i];
        if (MJ_LIKELY(e->did != s->did) || e->kind == MJ_ENTRY_NOTE)
            continue;
        f->of_did++;
        f->did_us = mj_run_time(run, i);
        bool commit = e->kind == MJ_KIND_COMMIT;
        if (commit != (s->target->collection.len > 0) ||
            (commit && e->collection != collection && e->collection != MJ_COLLECTION_OTHER))
            continue;
        if (!run->data && mj_view_load(&s->view, run)) {
            f->damaged = true;
            return;
        }
        if (why_target_is(s->target, s->reader, mj_run_json(run, i)))
            add_entry(s, run, i);
    }
}

/* The journal's number of a collection; 0 when it has none of it. */
static uint16_t number_of(const struct mj_journal *j, struct mj_span name)
{
    for (uint16_t id = 1; name.len && id < MJ_COLLECTION_OTHER; id++) {
        struct mj_span n = mj_journal_collection_name(j, id);
        if (!n.ptr)
            return 0;
        if (mj_span_eq(n, name))
            return id;
    }
    return 0;
}

/* Keeps the longest ones, in order of time. */
static void add_pause(struct why_found *f, int64_t from, int64_t to)
{
    if (f->pause_count == WHY_PAUSES_MAX) {
        size_t least = 0;
        for (size_t i = 1; i < f->pause_count; i++)
            if (f->pauses[i].to_us - f->pauses[i].from_us <
                f->pauses[least].to_us - f->pauses[least].from_us)
                least = i;
        if (f->pauses[least].to_us - f->pauses[least].from_us >= to - from)
            return;
        memmove(f->pauses + least, f->pauses + least + 1,
                (--f->pause_count - least) * sizeof *f->pauses);
    }
    f->pauses[f->pause_count].from_us = from;
    f->pauses[f->pause_count++].to_us = to;
}

static void find_pauses(struct search *s, int64_t made_us)
{
    struct mj_run run;
    uint64_t seq = mj_view_find(&s->view, made_us - BEFORE_US);
    int64_t last = seq > s->view.floor ? mj_view_time(&s->view, seq - 1) : 0;
    for (; mj_view_run(&s->view, seq, &run); seq = run.seq + run.count)
        for (size_t i = 0; i < run.count; i++) {
            int64_t now = mj_run_time(&run, i);
            if (last && now - last >= PAUSE_US)
                add_pause(s->out, last, now);
            last = now;
            if (now > made_us + AFTER_US)
                return;
        }
}

void why_search(struct mj_journal *journal, const struct why_target *target,
                const _Atomic bool *stop, struct why_found *out)
{
    struct search s = {.target = target,
                       .reader = mj_from_json_new(),
                       .out = out,
                       .did = (uint32_t)mj_hash(target->did)};
    struct mj_run run;
    *out = (struct why_found){0};
    mj_view_init(&s.view, journal);
    out->floor = s.view.floor;
    out->end = s.view.end;
    out->floor_us = mj_view_time(&s.view, s.view.floor);
    out->newest_us = mj_view_newest(&s.view);
    uint16_t collection = number_of(journal, target->collection);
    for (uint64_t seq = s.view.floor; mj_view_run(&s.view, seq, &run); seq = run.seq + run.count) {
        if (stop && atomic_load_explicit(stop, memory_order_relaxed))
            break;
        look_into(&s, &run, collection);
    }
    for (size_t i = 0; i < out->count; i++)
        find_notes(&s, &out->entries[i]);
    int64_t made = mj_tid_time_us(target->rkey);
    if (made && !out->count)
        find_pauses(&s, made);
    mj_from_json_free(s.reader);
    mj_view_deinit(&s.view);
}

void why_found_deinit(struct why_found *f)
{
    for (size_t i = 0; i < f->count; i++)
        free_entry(&f->entries[i]);
    mj_buf_deinit(&f->letters);
    free(f->entries);
    *f = (struct why_found){0};
}
