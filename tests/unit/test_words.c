/* Words: how texts are folded and cut, what is found in them, and the automaton against a search
 * for each pattern by itself. */
#include "cmocka_all.h"

#include "base/err.h"
#include "match/automaton.h"
#include "match/fold.h"
#include "match/words.h"

/* The stream with '|' for edges and '?' for bytes that were no UTF-8. */
static const char *tokens(const char *text, struct mj_buf *out)
{
    out->len = 0;
    mj_fold_tokens(mj_str(text), out);
    for (size_t i = 0; i < out->len; i++)
        if (out->ptr[i] >= 0xfe)
            out->ptr[i] = out->ptr[i] == MJ_EDGE ? '|' : '?';
    return mj_buf_cstr(out);
}

static void texts_are_cut(void **state)
{
    (void)state;
    static const struct {
        const char *text, *tokens;
    } cases[] = {
        {"", "|"},
        {" \t\n", "|"},
        {"Moon", "|moon|"},
        {"  two\r\n Words ", "|two|words|"},
        {"a-b", "|a|-|b|"},
        {"snake_case 2x", "|snake_case|2x|"},
        {"don't", "|don|'|t|"},
        {"don\u2019t", "|don|'|t|"},
        {"#Moon @who.example.com!!", "|#|moon|@|who|.|example|.|com|!|!|"},
        {"ΣΊΣΥΦΟΣ σίσυφος", "|σίσυφοσ|σίσυφοσ|"},
        {"МОСКВА", "|москва|"},
        {"Straße STRA\u1e9eE", "|straße|straße|"},
        {"\u212aelvin", "|kelvin|"},
        {"\U00010400", "|\U00010428|"},
        {"Ǆ ǅ ǆ", "|ǆ|ǆ|ǆ|"},
        {"cafe\u0301 CAFÉ", "|cafe\u0301|café|"},
        {"東京タワーABC", "|東|京|タ|ワ|ー|abc|"},
        {"東京 タワー", "|東|京|タ|ワ|ー|"},
        {"กิน", "|กิ|น|"},
        {"안녕하세요", "|안녕하세요|"},
        {"مرحبا بالعالم", "|مرحبا|بالعالم|"},
        {"नमस्ते", "|नमस्ते|"},
        {"🌕moon🌕", "|🌕|moon|🌕|"},
        {"\u2764\ufe0f", "|\u2764|"},
        {"mo\u00adon mo\u200don mo\u200bon", "|moon|moon|mo|on|"},
        {"\u3000wide\u00a0space\u2003", "|wide|space|"},
        {"a\xffz \xe2\x82", "|a|?|z|?|?|"},
    };
    MJ_AUTO_BUF out = {0};
    for (size_t i = 0; i < MJ_COUNT(cases); i++)
        assert_string_equal(tokens(cases[i].text, &out), cases[i].tokens);
}

static void folding_stays_within_its_bounds(void **state)
{
    (void)state;
    for (uint32_t point = 1; point < 0x110000; point++) {
        uint8_t utf8[4];
        size_t n;
        if (point < 0x80)
            n = 1, utf8[0] = (uint8_t)point;
        else if (point < 0x800)
            n = 2, utf8[0] = (uint8_t)(0xc0 | point >> 6), utf8[1] = 0x80 | (point & 63);
        else if (point < 0x10000)
            n = 3, utf8[0] = (uint8_t)(0xe0 | point >> 12), utf8[1] = 0x80 | (point >> 6 & 63),
            utf8[2] = 0x80 | (point & 63);
        else
            n = 4, utf8[0] = (uint8_t)(0xf0 | point >> 18), utf8[1] = 0x80 | (point >> 12 & 63),
            utf8[2] = 0x80 | (point >> 6 & 63), utf8[3] = 0x80 | (point & 63);
        struct mj_buf once = {0}, twice = {0};
        mj_fold_tokens(mj_span(utf8, n), &once);
        assert_true(once.len <= 2 * n + 2);
        once.len = 0;
        mj_fold_case(mj_span(utf8, n), &once);
        assert_true(2 * once.len <= 3 * n);
        mj_fold_case(mj_buf_span(&once), &twice);
        assert_true(mj_span_eq(mj_buf_span(&once), mj_buf_span(&twice)));
        mj_buf_deinit(&once);
        mj_buf_deinit(&twice);
    }
}

static int find(const char *word, const char *text)
{
    MJ_AUTO_BUF stream = {0}, error = {0};
    struct mj_words *w = mj_words_new();
    if (mj_words_add(w, mj_str(word), &error))
        fail_msg("%s", mj_buf_cstr(&error));
    mj_fold_tokens(mj_str(text), &stream);
    int found = mj_words_find(w, mj_buf_span(&stream));
    mj_words_unref(w);
    return found;
}

static void words_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *word, *text;
        bool found;
    } cases[] = {
        {"moon", "to the Moon!", true},
        {"moon", "moonlight", false},
        {"moon", "honeymoon", false},
        {"moon", "moon_shot", false},
        {"moon", "the moon's", true},
        {"moon", "#moon", true},
        {"#moon", "a #Moon b", true},
        {"#moon", "a moon", false},
        {"moon*", "moonlight", true},
        {"moon*", "moon", true},
        {"moon*", "honeymoon", false},
        {"*moon", "honeymoon", true},
        {"*moon", "honeymoons", false},
        {"*moon*", "honeymoons", true},
        {"new york", "in New\n  York.", true},
        {"new york", "in new, york", false},
        {"new york", "newyork", false},
        {"new york*", "new yorkers", true},
        {"  new   york ", "new york", true},
        {"don't", "I don\u2019t", true},
        {"l'amour", "L'AMOUR", true},
        {"amour", "l'amour", true},
        {"c++", "in C++11", true},
        {"c++", "in c+", false},
        {"月", "満月の夜", true},
        {"満月", "今夜は満月だ", true},
        {"満月", "満 月", true},
        {"แมว", "ชอบแมวมาก", true},
        {"σίσυφος", "ΣΊΣΥΦΟΣ", true},
        {"👍", "👍🏽", true},
        {"\u2764", "\u2764\ufe0f", true},
        {"cafe", "cafe\u0301", false},
        {"cafe*", "cafe\u0301", true},
        {"moon", "mo\u00adon", true},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++)
        if ((find(cases[i].word, cases[i].text) == 0) != cases[i].found)
            fail_msg("'%s' in '%s'", cases[i].word, cases[i].text);
}

static void bad_words(void **state)
{
    (void)state;
    static const char long_word[MJ_WORD_MAX + 2] = {[0 ... MJ_WORD_MAX] = 'a'};
    const struct {
        const char *word, *says;
    } cases[] = {
        {"", "has nothing to look for"},
        {" \t", "has nothing to look for"},
        {"*", "has nothing to look for"},
        {"**", "has nothing to look for"},
        {"\u200d", "has nothing to look for"},
        {"mo*on", "'mo*on' has a star inside"},
        {"***", "has a star inside"},
        {"moon *", "has a space beside its star"},
        {"* moon", "has a space beside its star"},
        {"\xff", "is not valid UTF-8"},
        {long_word, "is too long"},
    };
    struct mj_words *w = mj_words_new();
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        MJ_AUTO_BUF error = {0};
        assert_true(mj_words_add(w, mj_str(cases[i].word), &error) < 0);
        if (!strstr(mj_buf_cstr(&error), cases[i].says))
            fail_msg("'%s': %s", cases[i].word, mj_buf_cstr(&error));
    }
    assert_int_equal(mj_words_count(w), 0);
    assert_int_equal(mj_words_find(w, MJ_SPAN("\xffmoon\xff")), MJ_ENOENT);
    mj_words_unref(w);
}

static uint64_t rng_state;

static unsigned rng(unsigned n)
{
    rng_state ^= rng_state << 13, rng_state ^= rng_state >> 7, rng_state ^= rng_state << 17;
    return (unsigned)((rng_state >> 33) % n);
}

struct seen {
    struct mj_automaton *automaton;
    unsigned counts[64];
    size_t limit;
};

static enum mj_scan count(void *ctx, uint32_t pattern)
{
    struct seen *s = ctx;
    s->counts[pattern]++;
    return s->limit && --s->limit == 0 ? MJ_SCAN_END : MJ_SCAN_ON;
}

static enum mj_scan count_new(void *ctx, uint32_t pattern)
{
    struct seen *s = ctx;
    return s->counts[pattern]++ ? MJ_SCAN_SEEN : MJ_SCAN_ON;
}

static void automaton_agrees_with_search(void **state)
{
    (void)state;
    size_t found = 0;
    for (unsigned seed = 1; seed < 3000; seed++) {
        rng_state = seed * 0x9e3779b97f4a7c15;
        rng(2);
        uint8_t bytes[64][12], text[200];
        struct mj_span patterns[64];
        size_t n = rng(64) + (seed % 50 != 0), letters = 1 + rng(4), len = rng(200);
        bool alike = rng(2); /* all start with an edge, as whole words do */
        for (size_t i = 0; i < n; i++) {
            size_t k = 1 + rng(11);
            for (size_t j = 0; j < k; j++)
                bytes[i][j] = rng(4) ? (uint8_t)('a' + rng((unsigned)letters)) : MJ_EDGE;
            if (alike)
                bytes[i][0] = MJ_EDGE;
            patterns[i] = mj_span(bytes[i], k);
        }
        for (size_t i = 0; i < len; i++)
            text[i] = rng(4) ? (uint8_t)('a' + rng((unsigned)letters)) : MJ_EDGE;
        struct seen s = {.automaton = mj_automaton_new(patterns, n)};
        assert_false(mj_automaton_scan(s.automaton, mj_span(text, len), count, &s));
        for (size_t i = 0; i < n; i++) {
            unsigned want = 0;
            size_t same = i;
            for (size_t at = 0; at + patterns[i].len <= len; at++)
                want += memcmp(text + at, patterns[i].ptr, patterns[i].len) == 0;
            for (size_t k = i; k--;)
                if (mj_span_eq(patterns[k], patterns[i]))
                    same = k;
            assert_int_equal(mj_automaton_alias(s.automaton, (uint32_t)i), same);
            assert_int_equal(s.counts[i], same == i ? want : 0);
            found += want;
        }
        /* Whoever needs to know each but once hears of each, and of little else. */
        struct seen once = {.automaton = s.automaton};
        size_t heard = 0;
        assert_false(mj_automaton_scan(s.automaton, mj_span(text, len), count_new, &once));
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(once.counts[i] != 0, s.counts[i] != 0);
            heard += once.counts[i];
        }
        assert_true(heard <= len + n);
        /* It stops when it is told to. */
        unsigned total = 0;
        for (size_t i = 0; i < n; i++)
            total += s.counts[i];
        if (total) {
            memset(s.counts, 0, sizeof s.counts);
            s.limit = 1 + rng(total);
            size_t limit = s.limit;
            assert_true(mj_automaton_scan(s.automaton, mj_span(text, len), count, &s));
            for (size_t i = 0; i < n; i++)
                limit -= s.counts[i];
            assert_int_equal(limit, 0);
        }
        mj_automaton_free(s.automaton);
    }
    assert_true(found > 10000);
}

static void the_first_word_is_told(void **state)
{
    (void)state;
    MJ_AUTO_BUF stream = {0}, error = {0};
    struct mj_words *w = mj_words_new();
    static const char *const words[] = {"sun", "moon", "new moon", "moon", "star*"};
    for (size_t i = 0; i < MJ_COUNT(words); i++)
        assert_int_equal(mj_words_add(w, mj_str(words[i]), &error), 0);
    mj_fold_tokens(MJ_SPAN("a New Moon, the sun"), &stream);
    assert_int_equal(mj_words_find(w, mj_buf_span(&stream)), 2);
    stream.len = 0;
    mj_fold_tokens(MJ_SPAN("a starry sun"), &stream);
    assert_int_equal(mj_words_find(w, mj_buf_span(&stream)), 4);
    struct mj_words *again = mj_words_ref(w);
    mj_words_unref(w);
    assert_int_equal(mj_words_count(again), 5);
    mj_words_unref(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_cut),
        cmocka_unit_test(folding_stays_within_its_bounds),
        cmocka_unit_test(words_are_found),
        cmocka_unit_test(bad_words),
        cmocka_unit_test(automaton_agrees_with_search),
        cmocka_unit_test(the_first_word_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
