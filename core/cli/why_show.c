/* The report as text. It may come from a newer moonjet than this one, and strangers' words are in
 * it: what is missing is left out, and what is shown cannot steer a terminal. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/options.h"
#include "cli/text.h"
#include "cli/why.h"

#define TEXT_MAX 400 /* characters of one text */
#define GREEN    "\033[32m"
#define RED      "\033[31m"
#define YELLOW   "\033[33m"
#define DIM      "\033[2m"
#define BOLD     "\033[1m"
#define PLAIN    "\033[0m"

struct show {
    struct mj_buf *out;
    bool colour;
    bool running; /* the report is a running router's */
};

static void tint(struct show *s, const char *colour)
{
    if (s->colour)
        mj_buf_puts(s->out, colour);
}

static const char *text(const cJSON *o, const char *key)
{
    const char *t = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));
    return t ? t : "";
}

static int64_t number(const cJSON *o, const char *key)
{
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsNumber(n) && n->valuedouble > -9e15 && n->valuedouble < 9e15
               ? (int64_t)n->valuedouble
               : 0;
}

static bool flag(const cJSON *o, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, key));
}

static const cJSON *list(const cJSON *o, const char *key)
{
    const cJSON *a = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsArray(a) ? a : NULL;
}

static size_t put(struct show *s, const char *t)
{
    return mj_text_harmless(mj_str(t), TEXT_MAX, s->out);
}

static void pad(struct show *s, size_t have, size_t want)
{
    for (; have < want; have++)
        mj_buf_putc(s->out, ' ');
}

/* 2026-07-04T14:38:08.123Z */
static void put_time(struct show *s, int64_t us)
{
    char digits[32];
    const char *t = mj_text_time(us, digits);
    size_t n = strlen(t);
    if (n > 1 && us > 0)
        mj_buf_printf(s->out, "%.*s.%03dZ", (int)n - 1, t, (int)(us / 1000 % 1000));
    else
        mj_buf_puts(s->out, t);
}

/* 0.4 s, 12 s, 3.5 min, 2.1 h, 4.0 d */
static void put_duration(struct show *s, int64_t us)
{
    double v = (double)us / 1e6;
    if (v < 10)
        mj_buf_printf(s->out, "%.1f s", v);
    else if (v < 120)
        mj_buf_printf(s->out, "%.0f s", v);
    else if (v < 7200)
        mj_buf_printf(s->out, "%.1f min", v / 60);
    else if (v < 172800)
        mj_buf_printf(s->out, "%.1f h", v / 3600);
    else
        mj_buf_printf(s->out, "%.1f d", v / 86400);
}

/* ---- one step ---- */

static void put_head(struct show *s, const cJSON *step)
{
    int64_t at = number(step, "time_us"), made = number(step, "committed_us"),
            seq = number(step, "upstream_seq");
    const char *op = text(step, "operation"), *kind = text(step, "kind"),
               *source = text(step, "source");
    tint(s, BOLD);
    put_time(s, at);
    tint(s, PLAIN);
    mj_buf_puts(s->out, "  ");
    put(s, *op ? op : kind);
    if (*source || seq)
        mj_buf_puts(s->out, *source ? " from " : " as");
    put(s, source);
    if (seq)
        mj_buf_printf(s->out, *source ? ", seq %" PRId64 : " seq %" PRId64, seq);
    if (made && at >= made) {
        mj_buf_puts(s->out, ", ");
        put_duration(s, at - made);
        mj_buf_puts(s->out, " after its commit");
    }
    mj_buf_putc(s->out, '\n');
}

/* The streams that have it, with the seqs of their entries. */
static void put_streams(struct show *s, const cJSON *step)
{
    const cJSON *entry, *name, *entries = list(step, "entries");
    bool main = false;
    cJSON_ArrayForEach(entry, entries)
    {
        cJSON_ArrayForEach(name, list(entry, "streams"))
        {
            const char *stream = cJSON_GetStringValue(name);
            if (!stream)
                continue;
            main |= !strcmp(stream, "main");
            mj_buf_puts(s->out, "  ");
            tint(s, GREEN);
            mj_buf_puts(s->out, !strcmp(stream, "main") ? "in the main stream" : "in stream ");
            if (strcmp(stream, "main") != 0)
                put(s, stream);
            tint(s, PLAIN);
            mj_buf_printf(s->out, ", as seq %" PRId64 " of the journal\n", number(entry, "seq"));
        }
        if (!cJSON_GetArraySize(list(entry, "streams")))
            mj_buf_printf(s->out, "  kept for deliveries only, as seq %" PRId64 " of the journal\n",
                          number(entry, "seq"));
    }
    if (main)
        return;
    mj_buf_puts(s->out, "  ");
    if (*text(step, "dropped")) {
        tint(s, RED);
        mj_buf_puts(s->out, "dropped: ");
        put(s, text(step, "dropped_text"));
        tint(s, PLAIN);
        mj_buf_puts(s->out, " (");
        put(s, text(step, "dropped"));
        mj_buf_puts(s->out, ")\n");
    } else if (flag(step, "main")) {
        mj_buf_puts(s->out, "in the main stream; the journal does not hold it any more\n");
    } else {
        tint(s, YELLOW);
        mj_buf_puts(s->out, "not in the main stream\n");
        tint(s, PLAIN);
    }
}

/* ---- deliveries ---- */

static void put_status(struct show *s, const cJSON *o)
{
    const char *reason = text(o, "reason");
    if (number(o, "status"))
        mj_buf_printf(s->out, ", status %" PRId64, number(o, "status"));
    if (*reason) {
        mj_buf_puts(s->out, ": ");
        put(s, reason);
    }
}

static void put_letter(struct show *s, const cJSON *letter)
{
    tint(s, RED);
    mj_buf_puts(s->out, "dead letter");
    tint(s, PLAIN);
    mj_buf_printf(s->out, " %" PRId64 " since ", number(letter, "id"));
    put_time(s, number(letter, "died_us"));
    mj_buf_printf(s->out, ", after %" PRId64 " attempt%s", number(letter, "attempts"),
                  number(letter, "attempts") == 1 ? "" : "s");
    put_status(s, letter);
    if (*text(letter, "excerpt")) {
        mj_buf_puts(s->out, "\n        it answered: ");
        put(s, text(letter, "excerpt"));
    }
    mj_buf_putc(s->out, '\n');
}

/* What the state of the reader adds, when it is not just doing its work. */
static void put_reader(struct show *s, const cJSON *d)
{
    const char *state = text(d, "reader_state"), *reason = text(d, "reader_reason");
    bool odd = !strcmp(state, "paused") || !strcmp(state, "disabled") || !strcmp(state, "gone");
    if (!odd && strcmp(state, "behind") != 0)
        return;
    mj_buf_puts(s->out, !strcmp(state, "gone") ? "; nobody takes from it now" : "; it is ");
    if (strcmp(state, "gone") != 0)
        put(s, state);
    if (odd && *reason) {
        mj_buf_puts(s->out, " (");
        put(s, reason);
        mj_buf_puts(s->out, ")");
    }
}

static void put_delivery(struct show *s, const cJSON *d)
{
    const char *state = text(d, "state");
    const cJSON *a, *letter = cJSON_GetObjectItemCaseSensitive(d, "letter");
    mj_buf_puts(s->out, "  ");
    put(s, text(d, "reader"));
    if (*text(d, "kind")) {
        mj_buf_puts(s->out, " (");
        put(s, text(d, "kind"));
        mj_buf_puts(s->out, ")");
    }
    mj_buf_puts(s->out, ": ");
    if (letter) {
        put_letter(s, letter);
    } else {
        tint(s, !strcmp(state, "delivered") ? GREEN : YELLOW);
        put(s, !strcmp(state, "trying")      ? "not delivered yet"
               : !strcmp(state, "waiting")   ? "waits for its turn"
               : !strcmp(state, "forgotten") ? "the reader was forgotten"
                                             : state);
        tint(s, PLAIN);
        if (strcmp(state, "delivered") != 0 && s->running)
            put_reader(s, d); /* of a stopped process nobody takes */
        mj_buf_putc(s->out, '\n');
    }
    cJSON_ArrayForEach(a, list(d, "attempts"))
    {
        const char *result = text(a, "result");
        mj_buf_puts(s->out, "    ");
        put_time(s, number(a, "time_us"));
        mj_buf_printf(s->out, "  attempt %" PRId64 " ", number(a, "attempt"));
        tint(s, !strcmp(result, "delivered") ? GREEN : RED);
        put(s, !strcmp(result, "dead") ? "failed for good" : result);
        tint(s, PLAIN);
        put_status(s, a);
        mj_buf_putc(s->out, '\n');
    }
}

static void put_deliveries(struct show *s, const cJSON *step)
{
    const cJSON *entry, *d, *name;
    cJSON_ArrayForEach(entry, list(step, "entries"))
    {
        cJSON_ArrayForEach(d, list(entry, "deliveries")) put_delivery(s, d);
        cJSON_ArrayForEach(name, list(entry, "readers"))
        {
            mj_buf_puts(s->out, "  ");
            put(s, cJSON_IsString(name) ? name->valuestring : "");
            mj_buf_puts(s->out, " gets it; whether it did, moonjet ctl why tells\n");
        }
    }
}

static const char *tint_of(const char *verdict)
{
    static const struct {
        const char *verdict, *colour;
    } of[] = {{"passed", GREEN},      {"edited", GREEN},   {"matches", GREEN},
              {"no match", DIM},      {"dropped", YELLOW}, {"error", RED},
              {"error, passed", RED}, {"no room", RED},    {"paused", RED}};
    for (size_t i = 0; i < MJ_COUNT(of); i++)
        if (!strcmp(of[i].verdict, verdict))
            return of[i].colour;
    return "";
}

/* What a verdict means for an end of a flow. */
static const char *words_of(const char *verdict, const char *type)
{
    bool passed = !strcmp(verdict, "passed");
    if (passed && !strcmp(type, "stream"))
        return "took it";
    if (passed && (!strcmp(type, "each") || !strcmp(type, "batch") || !strcmp(type, "sink") ||
                   !strcmp(type, "webhook")))
        return "took it";
    if (passed && !strcmp(type, "print"))
        return "printed it";
    if (passed && !strcmp(type, "from"))
        return "matched";
    if (!strcmp(verdict, "paused"))
        return "did not get it: the script was paused";
    if (!strcmp(verdict, "no room"))
        return "had no room for it";
    if (!strcmp(verdict, "error"))
        return "failed, so it left the flow";
    if (!strcmp(verdict, "error, passed"))
        return "failed, and it went on as it was";
    if (!strcmp(verdict, "matches"))
        return "matches, as far as is known now";
    return verdict;
}

static void put_flow(struct show *s, const cJSON *f, const char *last_script, size_t wide)
{
    const char *script = text(f, "script"), *verdict = text(f, "verdict");
    MJ_AUTO_BUF place = {0};
    if (strcmp(script, last_script) != 0) {
        mj_buf_puts(s->out, "  ");
        put(s, *script ? script : "a script that was replaced long ago");
        mj_buf_putc(s->out, '\n');
    }
    mj_buf_puts(s->out, "    ");
    pad(s, put(s, *text(f, "node") ? text(f, "node") : "?"), 12);
    mj_buf_printf(&place, "%s:%" PRId64, text(f, "file"), number(f, "line"));
    mj_buf_puts(s->out, "  ");
    pad(s, put(s, mj_buf_cstr(&place)), wide);
    mj_buf_puts(s->out, "  ");
    tint(s, tint_of(verdict));
    put(s, words_of(verdict, text(f, "type")));
    tint(s, PLAIN);
    if (*text(f, "error") || *text(f, "why")) {
        mj_buf_puts(s->out, ": ");
        put(s, *text(f, "error") ? text(f, "error") : text(f, "why"));
    } else if (*text(f, "match")) {
        mj_buf_puts(s->out, ": it wants ");
        put(s, text(f, "match"));
    }
    mj_buf_putc(s->out, '\n');
}

static void put_flows(struct show *s, const cJSON *step)
{
    const cJSON *f, *flows = list(step, "flows");
    const char *last = "";
    size_t wide = 12;
    bool none = true;
    cJSON_ArrayForEach(f, flows)
    {
        size_t n = strlen(text(f, "file")) + 5;
        wide = n > wide && n < 40 ? n : wide;
    }
    cJSON_ArrayForEach(f, flows)
    {
        put_flow(s, f, none ? "\1" : last, wide);
        last = text(f, "script");
        none = false;
    }
    if (flag(step, "more_nodes"))
        mj_buf_puts(s->out, "    … and more nodes than are remembered\n");
    if (none || flag(step, "remembered") || !strcmp(text(step, "kind"), "frame"))
        return;
    tint(s, DIM);
    mj_buf_puts(s->out,
                "    (what flows decided then is not remembered any more; this is what they "
                "say now)\n");
    tint(s, PLAIN);
}

static void put_step(struct show *s, const cJSON *step)
{
    mj_buf_putc(s->out, '\n');
    put_head(s, step);
    if (!strcmp(text(step, "kind"), "frame")) {
        tint(s, RED);
        mj_buf_puts(s->out, "  something of this account was dropped: ");
        put(s, text(step, "dropped_text"));
        tint(s, PLAIN);
        mj_buf_putc(s->out, '\n');
        return;
    }
    put_streams(s, step);
    put_deliveries(s, step);
    put_flows(s, step);
}

/* ---- never arrived ---- */

static void put_range(struct show *s, const char *what, const cJSON *o)
{
    int64_t from = number(o, "from_us"), to = number(o, "to_us");
    mj_buf_printf(s->out, "  %s ", what);
    if (!from) {
        mj_buf_puts(s->out, "nothing\n");
        return;
    }
    mj_buf_puts(s->out, "what came from ");
    put_time(s, from);
    mj_buf_puts(s->out, " to ");
    put_time(s, to);
    mj_buf_putc(s->out, '\n');
}

static void put_made(struct show *s, const cJSON *report)
{
    int64_t made = number(report, "made_us"), from = 0, to = 0, end;
    const cJSON *parts[] = {cJSON_GetObjectItemCaseSensitive(report, "journal"),
                            cJSON_GetObjectItemCaseSensitive(report, "decisions")};
    for (size_t i = 0; i < MJ_COUNT(parts); i++) {
        int64_t first = number(parts[i], "from_us");
        from = first && (!from || first < from) ? first : from;
        end = number(parts[i], "to_us");
        to = end > to ? end : to;
    }
    if (!made)
        return;
    mj_buf_puts(s->out, "  its key says it was made at ");
    put_time(s, made);
    if (from && made < from) {
        tint(s, YELLOW);
        mj_buf_puts(s->out, ": before what is kept, so it may have come and gone");
        tint(s, PLAIN);
    } else if (from && made > to) {
        tint(s, YELLOW);
        mj_buf_puts(s->out, ": after the newest event there is");
        tint(s, PLAIN);
    }
    mj_buf_putc(s->out, '\n');
}

static void put_letters(struct show *s, const cJSON *report)
{
    const cJSON *l;
    cJSON_ArrayForEach(l, list(report, "letters"))
    {
        mj_buf_puts(s->out, "  ");
        put(s, text(l, "reader"));
        mj_buf_puts(s->out, ": ");
        put_letter(s, cJSON_GetObjectItemCaseSensitive(l, "letter"));
    }
}

static void put_never(struct show *s, const cJSON *report)
{
    const cJSON *account = cJSON_GetObjectItemCaseSensitive(report, "account"), *p;
    char n[32];
    tint(s, RED);
    mj_buf_puts(s->out, *text(report, "uri")
                            ? "\nnever arrived, as far as is known\n"
                            : "\nno identity or account event of it arrived, as far as is known\n");
    tint(s, PLAIN);
    put_made(s, report);
    put_range(s, "the journal holds", cJSON_GetObjectItemCaseSensitive(report, "journal"));
    if (cJSON_GetObjectItemCaseSensitive(report, "decisions"))
        put_range(s, "decisions are remembered for",
                  cJSON_GetObjectItemCaseSensitive(report, "decisions"));
    if (number(account, "events")) {
        mj_buf_printf(s->out, "  of this account there are %s events, the newest of ",
                      mj_text_number((uint64_t)number(account, "events"), n));
        put_time(s, number(account, "newest_us"));
        mj_buf_putc(s->out, '\n');
    } else {
        mj_buf_puts(s->out, "  of this account there is nothing at all\n");
    }
    put_letters(s, report);
    cJSON_ArrayForEach(p, list(report, "pauses"))
    {
        mj_buf_puts(s->out, "  nothing came at all from ");
        put_time(s, number(p, "from_us"));
        mj_buf_puts(s->out, " to ");
        put_time(s, number(p, "to_us"));
        mj_buf_putc(s->out, '\n');
    }
    cJSON_ArrayForEach(p, list(report, "gaps"))
    {
        mj_buf_puts(s->out, "  ");
        put(s, text(p, "source"));
        mj_buf_printf(s->out, " jumped from seq %" PRId64 " to %" PRId64 " at ",
                      number(p, "from_seq"), number(p, "to_seq"));
        put_time(s, number(p, "time_us"));
        mj_buf_putc(s->out, '\n');
    }
    if (flag(cJSON_GetObjectItemCaseSensitive(report, "journal"), "damaged"))
        mj_buf_puts(s->out, "  a part of the journal cannot be read; moonjet journal verify tells "
                            "more\n");
}

int why_show(struct mj_span json, bool colour, struct mj_buf *out)
{
    cJSON *report = cJSON_ParseWithLength((const char *)json.ptr, json.len);
    struct show s = {out, colour, flag(report, "running")};
    const cJSON *step;
    char n[32];
    if (!list(report, "steps")) {
        cJSON_Delete(report);
        return MJ_EXIT_USAGE;
    }
    bool arrived = flag(report, "arrived");
    tint(&s, BOLD);
    put(&s, *text(report, "uri") ? text(report, "uri") : text(report, "did"));
    tint(&s, PLAIN);
    mj_buf_putc(out, '\n');
    if (number(report, "left_out"))
        mj_buf_printf(out, "\n%s older operations are left out\n",
                      mj_text_number((uint64_t)number(report, "left_out"), n));
    cJSON_ArrayForEach(step, list(report, "steps")) put_step(&s, step);
    if (!arrived)
        put_never(&s, report);
    cJSON_Delete(report);
    return arrived ? MJ_EXIT_OK : MJ_EXIT_FAILED;
}
