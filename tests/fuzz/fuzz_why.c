/* What somebody asks why of: what parses names a DID, and asked for again in its own words it is
 * the same. What a control socket answers, as a report: shown as text, it steers no terminal. Notes
 * in a journal's file: whatever they say is for the entry they stand behind. And a match's
 * explanation of a record, as JSON says it: it agrees with the match. */
#include "cli/text.c"
#include "cli/why_search.c"
#include "cli/why_show.c"
#include "cli/why_target.c"
#include "match/match.h"

int why_handle_resolve(struct mj_span handle, const struct why_lookup *l, struct mj_buf *did,
                       struct mj_buf *error)
{
    (void)handle, (void)l, (void)did, (void)error;
    return MJ_ENOENT;
}

static void as_target(struct mj_span in)
{
    struct why_target t, again;
    MJ_AUTO_BUF error = {0};
    char *given = mj_span_dup(in);
    if (why_target_parse(given, &t, &error)) {
        if (!error.len)
            abort();
    } else {
        if (!mj_did_valid(t.did) || why_target_parse(mj_buf_cstr(&t.text), &again, &error) ||
            !mj_span_eq(t.did, again.did) || !mj_span_eq(t.collection, again.collection) ||
            !mj_span_eq(t.rkey, again.rkey))
            abort();
        why_target_deinit(&again);
        why_target_deinit(&t);
    }
    free(given);
}

static void as_report(struct mj_span in)
{
    MJ_AUTO_BUF out = {0};
    int status = why_show(in, false, &out);
    if (status == MJ_EXIT_USAGE ? out.len > 0 : !out.len)
        abort();
    for (size_t i = 0; i < out.len; i++)
        if (out.ptr[i] == 0x7f || (out.ptr[i] < 0x20 && out.ptr[i] != '\n'))
            abort();
}

static void as_note(struct mj_span in)
{
    struct why_entry e = {.seq = 1000};
    read_note(in, 1003, &e);
    if (e.note_count > 1 || (e.note_count && e.notes[0].seq != 1003))
        abort();
    free_entry(&e);
}

static void as_match(struct mj_span in)
{
    static const char *const forms[] = {"app.bsky.feed.post:create", "app.bsky.*", "#account"};
    static struct mj_from_json *reader;
    struct mj_event ev;
    size_t at;
    reader = reader ? reader : mj_from_json_new();
    if (mj_event_from_json(reader, in, &ev, &at))
        return;
    struct mj_facts *facts = mj_facts_new();
    mj_facts_begin(facts, &ev);
    for (size_t i = 0; i < MJ_COUNT(forms) + MJ_FIELD_COUNT; i++) {
        MJ_AUTO_BUF out = {0};
        struct mj_match *m;
        if (i < MJ_COUNT(forms) && mj_match_parse(mj_str(forms[i]), &m, &out))
            abort();
        if (i >= MJ_COUNT(forms)) {
            m = mj_match_set((enum mj_field)(i - MJ_COUNT(forms)));
            mj_match_set_add(m, MJ_SPAN("en"));
        }
        if (mj_match_explain(m, facts, &out) != mj_match_eval(m, facts) ||
            !out.len != mj_match_eval(m, facts))
            abort();
        mj_match_free(m);
    }
    mj_facts_free(facts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mj_span in = mj_span(data + 1, size - 1);
    if (!size)
        return 0;
    switch (*data % 4) {
    case 0:
        as_target(in);
        break;
    case 1:
        as_report(in);
        break;
    case 2:
        as_note(in);
        break;
    default:
        as_match(in);
        break;
    }
    return 0;
}
