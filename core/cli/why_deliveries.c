/* What was delivered of an entry: a note of each reader that wants it lies behind it; whether the
 * reader is done with the note says its window, how it went say the attempts lately, and what could
 * not be delivered is a dead letter. */
#include <inttypes.h>

#include "base/json.h"
#include "cli/why.h"
#include "event/from_json.h"
#include "journal/reader.h"

#define LETTERS_MAX 100 /* that are about the record */

struct letter {
    char *reader;        /* owned */
    struct mj_buf event; /* owned: its JSON */
    struct mj_buf json;  /* owned: what is told */
};

struct search {
    struct mj_readers *readers;
    const struct why_target *target;
    const _Atomic bool *stop;
    struct mj_from_json *reader; /* owned */
    struct letter *letters;      /* owned */
    size_t count;
};

/* ---- dead letters ---- */

static void put_letter(struct letter *l, const struct mj_dead *d)
{
    mj_buf_printf(&l->json,
                  "{\"id\":%" PRIu64 ",\"died_us\":%" PRId64 ",\"first_us\":%" PRId64
                  ",\"attempts\":%u,\"status\":%d,\"reason\":",
                  d->id, d->died_us, d->first_us, d->attempts, d->status);
    mj_buf_put_json(&l->json, mj_str(d->reason));
    mj_buf_puts(&l->json, ",\"excerpt\":");
    mj_buf_put_json(&l->json, d->excerpt);
    mj_buf_putc(&l->json, '}');
}

static bool on_dead(void *ctx, const struct mj_dead *d)
{
    struct search *s = ctx;
    struct mj_span rest = d->events, array, element;
    struct mj_span needle = s->target->rkey.len ? s->target->rkey : s->target->did;
    if (!d->events.len || !memmem(d->events.ptr, d->events.len, needle.ptr, needle.len) ||
        mj_json_take(&rest, &array) != MJ_JSON_ARRAY)
        return s->count < LETTERS_MAX && !(s->stop && atomic_load(s->stop));
    rest = mj_json_inside(array);
    while (s->count < LETTERS_MAX && mj_json_element(&rest, &element) >= 0) {
        if (!why_target_is(s->target, s->reader, element))
            continue;
        struct letter *l = &s->letters[s->count++];
        l->reader = mj_strdup(d->reader);
        mj_buf_put(&l->event, element.ptr, element.len);
        put_letter(l, d);
    }
    return s->count < LETTERS_MAX;
}

/* ---- attempts ---- */

struct attempts {
    const char *reader;
    struct mj_buf *out;
    unsigned n;
};

static void on_attempt(void *ctx, const struct mj_attempt *a)
{
    static const char *const what[] = {"delivered", "failed", "dead"};
    struct attempts *all = ctx;
    if (strcmp(a->reader, all->reader) != 0)
        return;
    mj_buf_printf(all->out,
                  "%s{\"time_us\":%" PRId64 ",\"attempt\":%u,\"result\":\"%s\",\"status\":%d",
                  all->n++ ? "," : "", a->at_us, a->attempt, what[a->what], a->status);
    if (*a->reason) {
        mj_buf_puts(all->out, ",\"reason\":");
        mj_buf_put_json(all->out, mj_str(a->reason));
    }
    mj_buf_putc(all->out, '}');
}

/* ---- together ---- */

static void put_delivery(struct search *s, const struct why_entry *e, const struct why_noted *note,
                         struct mj_buf *out)
{
    static const char *const kinds[] = {"each", "sink", "webhook"};
    struct mj_reader *r = mj_readers_find(s->readers, note->reader);
    struct attempts attempts = {note->reader, out, 0};
    struct mj_reader_state state;
    const struct letter *letter = NULL;
    for (size_t i = 0; i < s->count && !letter; i++)
        if (!strcmp(s->letters[i].reader, note->reader) &&
            mj_span_eq(mj_buf_span(&s->letters[i].event), mj_buf_span(&e->json)))
            letter = &s->letters[i];
    mj_buf_puts(out, "{\"reader\":");
    mj_buf_put_json(out, mj_str(note->reader));
    if (r) {
        mj_reader_state(r, &state);
        mj_buf_printf(out, ",\"kind\":\"%s\",\"reader_state\":\"%s\"", kinds[state.kind],
                      state.state);
        if (*state.reason) {
            mj_buf_puts(out, ",\"reader_reason\":");
            mj_buf_put_json(out, mj_str(state.reason));
        }
    }
    mj_buf_puts(out, ",\"attempts\":[");
    mj_attempts_find(s->readers, e->seq, on_attempt, &attempts);
    mj_buf_printf(out, "],\"state\":\"%s\"",
                  letter                         ? "dead"
                  : !r                           ? "forgotten"
                  : mj_reader_done(r, note->seq) ? "delivered"
                  : attempts.n                   ? "trying"
                                                 : "waiting");
    if (letter) {
        mj_buf_puts(out, ",\"letter\":");
        mj_buf_put(out, letter->json.ptr, letter->json.len);
    }
    mj_buf_putc(out, '}');
}

/* Letters outlive what the journal holds. */
static void put_letters(const struct search *s, struct mj_buf *out)
{
    for (size_t i = 0; i < s->count; i++) {
        mj_buf_puts(out, i ? ",{\"reader\":" : "{\"reader\":");
        mj_buf_put_json(out, mj_str(s->letters[i].reader));
        mj_buf_puts(out, ",\"letter\":");
        mj_buf_put(out, s->letters[i].json.ptr, s->letters[i].json.len);
        mj_buf_putc(out, '}');
    }
}

void why_deliveries(struct mj_readers *readers, const struct why_target *target,
                    const _Atomic bool *stop, struct why_found *found)
{
    struct search s = {.readers = readers,
                       .target = target,
                       .stop = stop,
                       .reader = mj_from_json_new(),
                       .letters = mj_calloc(LETTERS_MAX, sizeof *s.letters)};
    found->asked = true;
    mj_dead_each(readers, NULL, 0, on_dead, &s);
    for (size_t i = 0; i < found->count; i++) {
        struct why_entry *e = &found->entries[i];
        for (size_t k = 0; k < e->note_count; k++) {
            mj_buf_puts(&e->deliveries, k ? "," : "");
            put_delivery(&s, e, &e->notes[k], &e->deliveries);
        }
    }
    put_letters(&s, &found->letters);
    for (size_t i = 0; i < s.count; i++) {
        free(s.letters[i].reader);
        mj_buf_deinit(&s.letters[i].event);
        mj_buf_deinit(&s.letters[i].json);
    }
    free(s.letters);
    mj_from_json_free(s.reader);
}
