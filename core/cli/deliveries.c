#include "cli/deliveries.h"

#include <inttypes.h>
#include <stdio.h>

#include "atproto/syntax.h"
#include "base/clock.h"
#include "base/err.h"
#include "cli/text.h"

#define NEAR_MAX    5    /* names that an error lists */
#define LETTERS_MAX 1000 /* that one answer shows */

/* ---- words ---- */

int mj__deliveries_time(const char *text, int64_t now_us, int64_t *out)
{
    struct mj_span s = mj_str(text);
    int64_t n;
    if (mj_span_is(s, "oldest") || mj_span_is(s, "now")) {
        *out = mj_span_is(s, "now") ? now_us : 0;
        return 0;
    }
    if (s.len && *s.ptr == '-') {
        if (mj_duration_us(mj_span(s.ptr + 1, s.len - 1), &n))
            return MJ_ESYNTAX;
        *out = n < now_us ? now_us - n : 0;
        return 0;
    }
    if (mj_span_i64(s, &n) == 0) { /* seconds before the year 5138, else microseconds */
        if (n < 0)
            return MJ_ESYNTAX;
        *out = n < INT64_C(100000000000) ? n * 1000000 : n;
        return 0;
    }
    return mj_datetime_us(s, out) ? MJ_ESYNTAX : 0;
}

/* ---- names ---- */

static int refuse(struct mj_buf *out, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int refuse(struct mj_buf *out, int status, const char *fmt, ...)
{
    MJ_AUTO_BUF text = {0};
    va_list ap;
    va_start(ap, fmt);
    mj_buf_vprintf(&text, fmt, ap);
    va_end(ap);
    out->len = 0;
    mj_buf_puts(out, "{\"error\":");
    mj_buf_put_json(out, mj_buf_span(&text));
    mj_buf_puts(out, "}\n");
    return status;
}

struct search {
    const char *part;
    struct mj_buf name; /* owned: of the one that was found */
    struct mj_buf near; /* owned: of the others, for people */
    struct mj_buf node; /* owned: of the one whose node is called just that */
    size_t found, nodes;
};

static bool match(void *ctx, const struct mj_reader_state *s)
{
    struct search *q = ctx;
    MJ_AUTO_BUF name = {0};
    mj_buf_printf(&name, "%s %s", s->script, s->node);
    bool exact = strcmp(mj_buf_cstr(&name), q->part) == 0;
    if (!exact && !strstr(mj_buf_cstr(&name), q->part))
        return true;
    if (exact) {
        q->found = 0;
        q->near.len = 0;
    }
    if (strcmp(s->node, q->part) == 0 && q->nodes++ == 0)
        mj_buf_puts(&q->node, mj_buf_cstr(&name));
    if (q->found++ == 0) {
        q->name.len = 0;
        mj_buf_puts(&q->name, mj_buf_cstr(&name));
    }
    if (q->found <= NEAR_MAX)
        mj_buf_printf(&q->near, "%s'%s'", q->near.len ? ", " : "", mj_buf_cstr(&name));
    return !exact;
}

/* The one reader that the words mean; NULL after an answer, whose status is *status. */
static struct mj_reader *find(struct mj_readers *rs, const char *part, struct mj_buf *out,
                              int *status)
{
    struct search q = {.part = part};
    MJ_AUTO_BUF word = {0};
    mj_text_harmless(mj_str(part), 100, &word);
    if (*part)
        mj_readers_glance(rs, match, &q);
    if (q.found > 1 && q.nodes == 1) {
        q.found = 1;
        q.name.len = 0;
        mj_buf_puts(&q.name, mj_buf_cstr(&q.node));
    }
    struct mj_reader *r = q.found == 1 ? mj_readers_find(rs, mj_buf_cstr(&q.name)) : NULL;
    if (q.found > 1)
        *status = refuse(out, 409, "'%s' may be %s%s; say more of the name", mj_buf_cstr(&word),
                         mj_buf_cstr(&q.near), q.found > NEAR_MAX ? " or others" : "");
    else if (!r)
        *status = refuse(out, 404, "no delivery is called '%s'; `deliveries list` shows them",
                         mj_buf_cstr(&word));
    mj_buf_deinit(&q.name);
    mj_buf_deinit(&q.near);
    mj_buf_deinit(&q.node);
    return r;
}

/* Dead letters that the word means: a number, or a webhook-id. */
struct letters {
    uint64_t number;      /* or 0 */
    const char *event_id; /* or NULL */
    uint64_t *ids;        /* owned */
    size_t n, cap;
};

static bool is_letter(const char *word, struct letters *out)
{
    int64_t n;
    *out = (struct letters){0};
    if (mj_span_i64(mj_str(word), &n) == 0 && n > 0) {
        out->number = (uint64_t)n;
        return true;
    }
    if (strncmp(word, "evt_", 4) == 0 && strlen(word) == MJ_DELIVERY_ID_LEN)
        out->event_id = word;
    return out->event_id;
}

static bool collect(void *ctx, const struct mj_dead *d)
{
    struct letters *l = ctx;
    if (l->number && d->id != l->number)
        return false; /* they come in order, from it on */
    if (l->event_id && strcmp(l->event_id, d->event_id) != 0)
        return true;
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 64;
        l->ids = mj_realloc(l->ids, l->cap * sizeof *l->ids);
    }
    l->ids[l->n++] = d->id;
    return !l->number;
}

static const char *name_of(struct mj_reader *r, struct mj_buf *out)
{
    struct mj_reader_state s;
    mj_reader_state(r, &s);
    out->len = 0;
    mj_buf_printf(out, "%s %s", s.script, s.node);
    return mj_buf_cstr(out);
}

/* ---- list, show ---- */

static const char *const kinds[] = {"each", "sink", "webhook"};

static void put_moment(struct mj_buf *out, const char *key, int64_t us)
{
    char text[28];
    if (us > 0)
        mj_datetime_make(us, text);
    mj_buf_printf(out, us > 0 ? ",\"%s\":\"%s\"" : ",\"%s\":null", key, text);
}

/* What a process counts goes with it. */
static void put_counts(struct mj_buf *out, const struct mj_reader_state *s)
{
    mj_buf_printf(out,
                  ",\"in_flight\":%zu,\"delivered\":%" PRIu64 ",\"failed\":%" PRIu64
                  ",\"retried\":%" PRIu64 ",\"dead\":%" PRIu64 ",\"overtaken\":%" PRIu64,
                  s->in_the_air, s->delivered, s->failed, s->retried, s->dead, s->overtaken);
    put_moment(out, "last_delivered", s->last_ok_us);
    put_moment(out, "last_failed", s->last_fail_us);
}

static void put_state(struct mj_buf *out, const struct mj_reader_state *s, bool stopped)
{
    int64_t now = mj_now_us();
    const char *state = stopped && strcmp(s->state, "gone") == 0 ? "stopped" : s->state;
    mj_buf_puts(out, "{\"script\":");
    mj_buf_put_json(out, mj_str(s->script));
    mj_buf_puts(out, ",\"node\":");
    mj_buf_put_json(out, mj_str(s->node));
    mj_buf_printf(out,
                  ",\"kind\":\"%s\",\"state\":\"%s\",\"waiting\":%zu,\"lag_seconds\":%.3f,"
                  "\"dead_letters\":%zu,\"position\":%" PRIu64,
                  kinds[s->kind], state, s->waiting,
                  s->at_us && now > s->at_us ? (double)(now - s->at_us) / 1e6 : 0, s->letters,
                  s->position);
    put_moment(out, "oldest", s->at_us);
    if (!stopped)
        put_counts(out, s);
    mj_buf_puts(out, ",\"last_error\":");
    if (*s->reason)
        mj_buf_put_json(out, mj_str(s->reason));
    else
        mj_buf_puts(out, "null");
    mj_buf_putc(out, '}');
}

struct listing {
    struct mj_buf *out;
    const char *part; /* of the names; NULL: all */
    bool stopped;
    size_t n;
};

static bool list_one(void *ctx, const struct mj_reader_state *s)
{
    struct listing *l = ctx;
    MJ_AUTO_BUF name = {0};
    mj_buf_printf(&name, "%s %s", s->script, s->node);
    if (l->part && !strstr(mj_buf_cstr(&name), l->part))
        return true;
    if (l->n++)
        mj_buf_putc(l->out, ',');
    put_state(l->out, s, l->stopped);
    return true;
}

static int list(struct mj_readers *rs, const struct mj_strings *args, bool stopped,
                struct mj_buf *out)
{
    struct listing l = {out, args->n > 1 ? args->v[1] : NULL, stopped, 0};
    mj_buf_puts(out, "{\"ok\":true,\"deliveries\":[");
    mj_readers_each(rs, list_one, &l);
    mj_buf_puts(out, "]}\n");
    return 200;
}

static void put_dead(struct mj_buf *out, const struct mj_dead *d, bool whole)
{
    mj_buf_printf(out, "{\"letter\":%" PRIu64 ",\"delivery\":", d->id);
    mj_buf_put_json(out, mj_str(d->reader));
    mj_buf_puts(out, ",\"id\":");
    mj_buf_put_json(out, mj_str(d->event_id));
    put_moment(out, "died", d->died_us);
    put_moment(out, "first_attempt", d->first_us);
    mj_buf_printf(out, ",\"attempts\":%u,\"status\":%d,\"reason\":", d->attempts, d->status);
    mj_buf_put_json(out, mj_str(d->reason));
    mj_buf_printf(out, ",\"bytes\":%zu", d->events.len);
    if (whole) {
        mj_buf_puts(out, ",\"answer\":");
        mj_buf_put_json(out, d->excerpt);
        mj_buf_puts(out, ",\"events\":");
        mj_buf_put(out, d->events.ptr, d->events.len);
    }
    mj_buf_putc(out, '}');
}

struct letter_list {
    struct mj_buf *out;
    const struct letters *wanted; /* NULL: all of a reader, in short */
    size_t n;
};

static bool list_letter(void *ctx, const struct mj_dead *d)
{
    struct letter_list *l = ctx;
    const struct letters *w = l->wanted;
    if (w && w->number && d->id != w->number)
        return false;
    if (w && w->event_id && strcmp(w->event_id, d->event_id) != 0)
        return true;
    if (l->n == LETTERS_MAX)
        return false;
    if (l->n++)
        mj_buf_putc(l->out, ',');
    put_dead(l->out, d, w != NULL);
    return true;
}

static int unreadable(struct mj_buf *out)
{
    return refuse(out, 500, "the dead letters cannot be read; the log says why");
}

static int show(struct mj_readers *rs, const struct mj_strings *args, bool stopped,
                struct mj_buf *out)
{
    const char *word = args->v[1];
    struct letters wanted;
    struct letter_list l = {out, NULL, 0};
    int status = 200;
    if (is_letter(word, &wanted)) {
        l.wanted = &wanted;
        mj_buf_puts(out, "{\"ok\":true,\"dead_letters\":[");
        if (mj_dead_each(rs, NULL, wanted.number, list_letter, &l))
            return unreadable(out);
        mj_buf_puts(out, "]}\n");
        return l.n ? 200 : refuse(out, 404, "there is no dead letter %s", word);
    }
    struct mj_reader *r = find(rs, word, out, &status);
    if (!r)
        return status;
    MJ_AUTO_BUF name = {0};
    struct mj_reader_state s;
    mj_reader_state(r, &s);
    mj_buf_puts(out, "{\"ok\":true,\"delivery\":");
    put_state(out, &s, stopped);
    mj_buf_puts(out, ",\"dead_letters\":[");
    if (mj_dead_each(rs, name_of(r, &name), 0, list_letter, &l))
        return unreadable(out);
    mj_buf_puts(out, "]}\n");
    return 200;
}

/* ---- what changes something ---- */

static int done(struct mj_buf *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int done(struct mj_buf *out, const char *fmt, ...)
{
    MJ_AUTO_BUF text = {0};
    va_list ap;
    va_start(ap, fmt);
    mj_buf_vprintf(&text, fmt, ap);
    va_end(ap);
    mj_buf_puts(out, "{\"ok\":true,\"text\":");
    mj_buf_put_json(out, mj_buf_span(&text));
    mj_buf_puts(out, "}\n");
    return 200;
}

/* The dead letters that a word means, in `l`; 200, or the status of the answer. */
static int find_letters(struct mj_readers *rs, const char *word, struct letters *l,
                        struct mj_buf *name, struct mj_buf *out)
{
    int status = 200;
    struct mj_reader *r = NULL;
    bool one = is_letter(word, l);
    if (!one && strcmp(word, "--all") != 0) {
        r = find(rs, word, out, &status);
        if (!r)
            return status;
        name_of(r, name);
    }
    if (mj_dead_each(rs, r ? mj_buf_cstr(name) : NULL, l->number, collect, l))
        return unreadable(out);
    if (one && !l->n)
        return refuse(out, 404, "there is no dead letter %s", word);
    return 200;
}

static const char *plural(size_t n) { return n == 1 ? "" : "s"; }

static int retry(struct mj_readers *rs, const struct mj_strings *args, bool stopped,
                 struct mj_buf *out)
{
    (void)stopped;
    struct letters l;
    MJ_AUTO_BUF name = {0};
    size_t sent = 0, ownerless = 0;
    int status = find_letters(rs, args->v[1], &l, &name, out);
    for (size_t i = 0; status == 200 && i < l.n; i++) {
        int err = mj_dead_retry(rs, l.ids[i]);
        sent += !err;
        ownerless += err == MJ_EINVAL;
    }
    free(l.ids);
    if (status != 200)
        return status;
    if (ownerless && !sent)
        return refuse(out, 409,
                      "the script that delivers it does not run now; load it, then retry");
    MJ_AUTO_BUF rest = {0};
    if (ownerless)
        mj_buf_printf(&rest, "; %zu stay, as the script that delivers them does not run now",
                      ownerless);
    return done(out, "%zu dead letter%s to be delivered once more%s", sent, plural(sent),
                mj_buf_cstr(&rest));
}

static int purge(struct mj_readers *rs, const struct mj_strings *args, bool stopped,
                 struct mj_buf *out)
{
    (void)stopped;
    const char *word = args->v[1];
    struct letters l;
    MJ_AUTO_BUF name = {0};
    size_t removed = 0;
    if (strcmp(word, "--all") == 0)
        return refuse(out, 400, "purge wants NAME, or a dead letter");
    int status = find_letters(rs, word, &l, &name, out);
    for (size_t i = 0; status == 200 && i < l.n; i++)
        removed += mj_dead_remove(rs, l.ids[i]) == 0;
    free(l.ids);
    return status == 200 ? done(out, "%zu dead letter%s removed", removed, plural(removed))
                         : status;
}

static int pause_one(struct mj_readers *rs, const struct mj_strings *args, bool stopped,
                     struct mj_buf *out)
{
    (void)stopped;
    int status = 200;
    MJ_AUTO_BUF name = {0};
    struct mj_reader *r = find(rs, args->v[1], out, &status);
    if (!r)
        return status;
    mj_reader_pause(r);
    return done(out, "%s is paused; what comes for it waits in the journal", name_of(r, &name));
}

static int resume(struct mj_readers *rs, const struct mj_strings *args, bool stopped,
                  struct mj_buf *out)
{
    (void)stopped;
    int status = 200;
    MJ_AUTO_BUF name = {0};
    struct mj_reader *r = find(rs, args->v[1], out, &status);
    if (!r)
        return status;
    mj_reader_resume(r);
    return done(out, "%s goes on", name_of(r, &name));
}

static int rewind_to(struct mj_readers *rs, const struct mj_strings *args, bool stopped,
                     struct mj_buf *out)
{
    (void)stopped;
    int status = 200;
    int64_t us;
    char when[28];
    MJ_AUTO_BUF name = {0};
    struct mj_reader *r = find(rs, args->v[1], out, &status);
    if (!r)
        return status;
    if (mj__deliveries_time(args->v[2], mj_now_us(), &us))
        return refuse(out, 400, "a time is -2h, 2026-11-27T09:00:00Z, microseconds, oldest or now");
    mj_datetime_make(us, when);
    if (us > mj_now_us())
        return refuse(out, 400,
                      "%s is still to come; --at=now leaves out what waits, and pause and resume "
                      "hold back what comes",
                      when);
    mj_reader_rewind(r, us);
    return us ? done(out, "%s goes on from %s", name_of(r, &name), when)
              : done(out, "%s goes on from the oldest event there is", name_of(r, &name));
}

static int forget(struct mj_readers *rs, const struct mj_strings *args, bool stopped,
                  struct mj_buf *out)
{
    (void)stopped;
    int status = 200;
    MJ_AUTO_BUF name = {0};
    struct mj_reader *r = find(rs, args->v[1], out, &status);
    if (!r)
        return status;
    name_of(r, &name);
    if (mj_reader_forget(r))
        return refuse(out, 409,
                      "a script delivers %s: take it out of the script, reload, then forget",
                      mj_buf_cstr(&name));
    return done(out, "%s is forgotten", mj_buf_cstr(&name));
}

/* ---- commands ---- */

static const struct verb {
    const char *name, *wants;
    size_t min, max; /* words behind it */
    bool changes;
    int (*run)(struct mj_readers *rs, const struct mj_strings *args, bool stopped,
               struct mj_buf *out);
} verbs[] = {
    {"list", "at most a NAME", 0, 1, false, list},
    {"show", "NAME, or a dead letter", 1, 1, false, show},
    {"retry", "NAME, a dead letter, or --all", 1, 1, true, retry},
    {"purge", "NAME, or a dead letter", 1, 1, true, purge},
    {"pause", "NAME", 1, 1, true, pause_one},
    {"resume", "NAME", 1, 1, true, resume},
    {"rewind", "NAME and a time", 2, 2, true, rewind_to},
    {"forget", "NAME", 1, 1, true, forget},
};

static const struct verb *find_verb(const char *name, struct mj_buf *error)
{
    const char *names[MJ_COUNT(verbs)];
    for (size_t i = 0; i < MJ_COUNT(verbs); i++) {
        names[i] = verbs[i].name;
        if (strcmp(name, verbs[i].name) == 0)
            return &verbs[i];
    }
    MJ_AUTO_BUF word = {0};
    mj_text_harmless(mj_str(name), 60, &word);
    const char *near = mj_closest(name, names, MJ_COUNT(names));
    mj_buf_printf(error,
                  "no verb '%s'%s%s%s; there are list, show, retry, purge, pause, resume, rewind "
                  "and forget",
                  mj_buf_cstr(&word), near ? "; did you mean '" : "", near ? near : "",
                  near ? "'?" : "");
    return NULL;
}

/* The verb of a command, or NULL with what is wrong with it. */
static const struct verb *check(const struct mj_strings *args, struct mj_buf *error)
{
    const struct verb *v = find_verb(args->n ? args->v[0] : "list", error);
    size_t n = args->n ? args->n - 1 : 0;
    if (!v || (n >= v->min && n <= v->max))
        return v;
    mj_buf_printf(error, "%s wants %s", v->name, v->wants);
    return NULL;
}

bool mj__deliveries_check(const struct mj_strings *args, struct mj_buf *error)
{
    return check(args, error);
}

int mj__deliveries(struct mj_readers *rs, const struct mj_strings *args, bool stopped,
                   struct mj_buf *out)
{
    MJ_AUTO_BUF error = {0};
    const struct verb *v = check(args, &error);
    if (!v)
        return refuse(out, 400, "%s", mj_buf_cstr(&error));
    if (v->changes && stopped)
        return refuse(out, 409, "nothing can be changed while moonjet does not run");
    return v->run(rs, args, stopped, out);
}

/* ---- the summary ---- */

struct summary {
    size_t readers, live, behind, paused, disabled, gone, waiting, in_flight, letters;
    uint64_t delivered, overtaken;
    int64_t oldest_us;
};

static bool sum_up(void *ctx, const struct mj_reader_state *s)
{
    struct summary *sum = ctx;
    size_t *const by_state[] = {&sum->live, &sum->behind, &sum->paused, &sum->disabled, &sum->gone};
    static const char *const states[] = {"live", "behind", "paused", "disabled", "gone"};
    for (size_t i = 0; i < MJ_COUNT(states); i++)
        *by_state[i] += strcmp(s->state, states[i]) == 0;
    sum->readers++;
    sum->waiting += s->waiting;
    sum->in_flight += s->in_the_air;
    sum->letters += s->letters;
    sum->delivered += s->delivered;
    sum->overtaken += s->overtaken;
    /* Who is to stand still is not late. */
    bool moves = strcmp(s->state, "live") == 0 || strcmp(s->state, "behind") == 0;
    if (moves && s->at_us && (!sum->oldest_us || s->at_us < sum->oldest_us))
        sum->oldest_us = s->at_us;
    return true;
}

void mj__deliveries_summary(struct mj_readers *rs, struct mj_buf *out)
{
    struct summary s = {0};
    int64_t now = mj_now_us();
    mj_readers_glance(rs, sum_up, &s);
    mj_buf_printf(out,
                  "{\"readers\":%zu,\"live\":%zu,\"behind\":%zu,\"paused\":%zu,"
                  "\"disabled\":%zu,\"gone\":%zu,\"waiting\":%zu,\"in_flight\":%zu,"
                  "\"lag_seconds\":%.3f,\"delivered\":%" PRIu64 ",\"dead_letters\":%zu,"
                  "\"overtaken\":%" PRIu64 "}",
                  s.readers, s.live, s.behind, s.paused, s.disabled, s.gone, s.waiting, s.in_flight,
                  s.oldest_us && now > s.oldest_us ? (double)(now - s.oldest_us) / 1e6 : 0,
                  s.delivered, s.letters, s.overtaken);
}
