/* What durable readers read back from disks: a note in the journal, a position, a dead letter, and
 * an event whose id is asked for. The first byte says which. What is accepted is the same after
 * writing and reading it again, and spans lie within the input. */
#include "base/json.h"
#include "event/from_json.h"
#include "event/id.h"
#include "event/jetstream.h"
#include "journal/reader_internal.h"

#define REQUIRE(x) ((x) ? (void)0 : abort())

static void as_note(struct mj_span in)
{
    struct mj__note note, again, quick;
    MJ_AUTO_BUF name = {0};
    MJ_AUTO_BUF front = {0};
    MJ_AUTO_BUF out = {0};
    if (mj__note_take(in, &note)) {
        mj__note_front(&front, "a.lua each#1");
        REQUIRE(!mj__note_quick(in, mj_buf_span(&front), &quick));
        return;
    }
    REQUIRE(note.back > 0);
    mj_json_text(note.reader, &name);
    mj__note_front(&front, mj_buf_cstr(&name));
    if (mj__note_quick(in, mj_buf_span(&front), &quick))
        REQUIRE(quick.back == note.back && quick.upstream_seq == note.upstream_seq);
    mj__note_put(&out, mj_buf_span(&front), note.back, note.upstream_seq);
    bool is_quick = mj__note_quick(mj_buf_span(&out), mj_buf_span(&front), &quick);
    REQUIRE(is_quick ==
            (note.upstream_seq >= 0 && note.upstream_seq < INT64_C(1000000000000000000)));
    /* Bytes that are no UTF-8 are no text of ours. */
    if (mj__note_take(mj_buf_span(&out), &again))
        return;
    REQUIRE(again.back == note.back && again.upstream_seq == note.upstream_seq);
    if (is_quick)
        REQUIRE(quick.back == note.back && quick.upstream_seq == note.upstream_seq);
}

static void as_position(struct mj_span in)
{
    struct mj_reader r = {0}, again = {0};
    MJ_AUTO_BUF out = {0};
    MJ_AUTO_BUF twice = {0};
    if (mj__position_take(in, &r) == 0) {
        REQUIRE(r.window.live <= in.len && r.window.unresolved == r.window.live);
        REQUIRE(mj__reader_position(&r) <= r.scanned);
        mj__position_put(&out, &r);
        REQUIRE(mj__position_take(mj_buf_span(&out), &again) == 0);
        mj__position_put(&twice, &again);
        REQUIRE(mj_span_eq(mj_buf_span(&out), mj_buf_span(&twice)));
    } else {
        REQUIRE(!r.window.live && !r.scanned);
    }
    mj__window_deinit(&r.window);
    mj__window_deinit(&again.window);
}

static void as_letter(struct mj_span in)
{
    struct mj__letter_in l, again;
    MJ_AUTO_BUF out = {0};
    if (mj__letter_take(in, &l))
        return;
    struct mj_item *items = mj_calloc(l.n + 1, sizeof *items);
    size_t n = 0;
    struct mj__letter_in walk = l;
    while (mj__letter_next(&walk, &items[n])) {
        const struct mj_span json = items[n].json;
        REQUIRE(json.ptr >= in.ptr && json.ptr + json.len <= in.ptr + in.len);
        REQUIRE(++n <= l.n);
    }
    REQUIRE(n == l.n);
    const struct mj__letter letter = {.items = items,
                                      .n = n,
                                      .first_us = l.dead.first_us,
                                      .died_us = l.dead.died_us,
                                      .attempts = l.dead.attempts,
                                      .status = l.dead.status,
                                      .reason = l.reason,
                                      .excerpt = l.dead.excerpt};
    mj__letter_put(&out, &letter);
    REQUIRE(mj__letter_take(mj_buf_span(&out), &again) == 0);
    REQUIRE(again.n == n && again.dead.attempts == l.dead.attempts &&
            again.dead.status == l.dead.status && strcmp(again.reason, l.reason) == 0 &&
            strcmp(again.id, l.id) == 0);
    free(items);
}

/* An event has the same id as the JSON that is made of it. */
static void as_event(struct mj_span in)
{
    static struct mj_from_json *reader;
    uint8_t from_text[MJ_EVENT_ID], from_event[MJ_EVENT_ID];
    MJ_AUTO_BUF json = {0};
    struct mj_event ev;
    size_t at;
    if (!reader)
        reader = mj_from_json_new();
    mj_event_id_json(in, from_text);
    if (mj_event_from_json(reader, in, &ev, &at))
        return;
    mj_event_id(&ev, from_event);
    REQUIRE(mj_jetstream_encode(&ev, NULL, &json) == 0);
    REQUIRE(mj_event_id_json(mj_buf_span(&json), from_text) == 0);
    REQUIRE(memcmp(from_text, from_event, sizeof from_text) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    struct mj_span in = mj_span(data + 1, size - 1);
    switch (*data) {
    case 'n':
        as_note(in);
        break;
    case 'p':
        as_position(in);
        break;
    case 'l':
        as_letter(in);
        break;
    case 'e':
        as_event(in);
        break;
    default:
        break;
    }
    return 0;
}
