/* Any record that passes the check, asked for everything: all spans lie in the record or the facts'
 * scratch and are what they should be, and the decision and the evaluation of a number of matches
 * agree, whatever the record's shapes.
 *
 * Input: a byte for the operation, the record. */
#include "atproto/utf8.h"
#include "base/err.h"
#include "journal/journal.h"
#include "match/decision.h"
#include "match/finder.h"
#include "match/fold.h"

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            __builtin_trap();                                                                      \
    } while (0)

static const char *const paths[] = {
    "text",     "reply.parent.uri",   "embed.images[1].alt", "langs.2",
    "a.b[3].c", "embed.record.$link", "cid.$bytes",          "facets[1].features[1].tag"};
static const char *const words[] = {"moon", "a", "*a*", "b c", "\xe6\x9c\x88", "#a"};
static const char did[] = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";

static struct mj_match *flows[64];
static size_t flow_count;
static struct mj_decision *decision;
static struct mj_facts *facts;

static void add(struct mj_match *m)
{
    flows[flow_count++] = m;
    mj_decision_add(decision, m);
}

static struct mj_match *at_path(struct mj_match *atom, const char *path)
{
    CHECK(mj_match_path(atom, mj_str(path)) == 0);
    return atom;
}

static void set_up(void)
{
    decision = mj_decision_new();
    facts = mj_facts_new();
    for (enum mj_field field = MJ_FIELD_LANG; field < MJ_FIELD_COUNT; field++) {
        static const char *const values[] = {"a", "en", "example.com", did,
                                             "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/a.b.c/d"};
        struct mj_match *set = mj_match_set(field);
        for (size_t i = 0; i < MJ_COUNT(values); i++)
            mj_match_set_add(set, mj_str(values[i]));
        add(set);
        add(mj_match_prefix(field, MJ_SPAN("a")));
        add(mj_match_not(mj_match_present(field)));
    }
    for (size_t i = 0; i < MJ_COUNT(paths); i++) {
        struct mj_match *set = at_path(mj_match_set(MJ_FIELD_PATH), paths[i]);
        mj_match_set_add(set, MJ_SPAN("\x61"
                                      "a"));
        mj_match_set_add(set, MJ_SPAN("\x05"));
        mj_match_set_add(set, MJ_SPAN("\xf5"));
        add(set);
        add(at_path(mj_match_present(MJ_FIELD_PATH), paths[i]));
        add(at_path(mj_match_prefix(MJ_FIELD_PATH, MJ_SPAN("b")), paths[i]));
    }
    add(mj_match_has_text());
    add(mj_match_is_reply());
    for (int all = 0; all < 2; all++) {
        struct mj_words *w = mj_words_new();
        struct mj_buf error = {0};
        for (size_t i = 0; i < MJ_COUNT(words); i++)
            CHECK(mj_words_add(w, mj_str(words[i]), &error) == 0);
        add(mj_match_words(w, all));
        struct mj_match *both = mj_match_and();
        mj_match_add(both, mj_match_words(mj_words_ref(w), !all));
        mj_match_add(both, mj_match_not(mj_match_is_reply()));
        add(both);
    }
}

static void check_values(const struct mj_event *ev)
{
    for (enum mj_field field = MJ_FIELD_COLLECTION; field < MJ_FIELD_COUNT; field++) {
        struct mj_values v = mj_facts_values(facts, field);
        CHECK(v.count <= MJ_FACTS_MAX);
        for (size_t i = 0; i < v.count; i++) {
            struct mj_span s = v.items[i];
            CHECK(s.len && mj_utf8_valid(s));
            CHECK(s.len <= 2 * ev->record.len + 64);
            CHECK(field != MJ_FIELD_LINK || s.len <= 2 * 253);
        }
    }
    struct mj_span all = mj_facts_words(facts), text = mj_facts_text(facts);
    CHECK(text.len <= all.len && (!all.len || text.ptr == all.ptr || !text.len));
    CHECK((text.len != 0) == mj_facts_has_text(facts));
    for (size_t i = 0; i < all.len; i++)
        CHECK(all.ptr[i] != MJ_BROKEN);
}

/* What is remembered is found as what is not, twice. */
static void check_finder(const struct mj_event *ev)
{
    struct mj__finder f = {0};
    mj__finder_begin(&f, ev->record);
    for (size_t i = 0; i < 2 * MJ_COUNT(paths); i++) {
        struct mj_path path = {0};
        CHECK(mj_path_parse(&path, mj_str(paths[i % MJ_COUNT(paths)])) == 0);
        struct mj_span a = ev->record, b = a;
        int one = 0, other = 0;
        for (unsigned k = 0; k < path.count && !one; k++) {
            one = mj_path_step(a, &path.steps[k], &a);
            other = mj__finder_step(&f, b, &path.steps[k], &b);
            CHECK(one == other && (one || (a.ptr == b.ptr && a.len == b.len)));
        }
    }
    CHECK(f.children.len <= ev->record.len * 8);
    mj__finder_deinit(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!decision)
        set_up();
    if (!size)
        return 0;
    struct mj_event ev = {.kind = MJ_KIND_COMMIT,
                          .op = (enum mj_op)(MJ_OP_CREATE + data[0] % 3),
                          .did = mj_str(did),
                          .collection = MJ_SPAN("app.bsky.feed.post"),
                          .record = mj_span(data + 1, size - 1)};
    if (mj_record_check(ev.record))
        return 0;
    ev.record_checked = true;
    uint32_t id = data[0] & 64 ? MJ_COLLECTION_NONE : 1;
    const uint64_t *got = mj_decision_eval(decision, &ev, id);
    mj_facts_begin(facts, &ev);
    for (size_t i = 0; i < flow_count; i++)
        CHECK(mj_match_eval(flows[i], facts) == (got[i / 64] >> (i % 64) & 1));
    /* In whatever order things are asked. */
    mj_facts_begin(facts, &ev);
    if (data[0] & 32)
        for (size_t i = flow_count; i--;)
            CHECK(mj_match_eval(flows[i], facts) == (got[i / 64] >> (i % 64) & 1));
    check_values(&ev);
    check_finder(&ev);
    return 0;
}
