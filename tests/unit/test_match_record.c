/* Matches on what records say: made-up records and matches, asked by the decision, by evaluation
 * and by a plain reading of the model they were made from; hostile shapes; and real posts. */
#include <stdio.h>

#include "cmocka_all.h"

#include "base/err.h"
#include "event/decode.h"
#include "frames.h"
#include "journal/journal.h"
#include "json_cbor.h"
#include "match/decision.h"
#include "match/finder.h"

#define LIST 3

/* What a record is made of; NULL for what it lacks. */
struct model {
    enum mj_kind kind;
    enum mj_op op;
    const char *collection, *did;
    const char *text, *langs[LIST], *mentions[LIST], *links[LIST], *facet_tags[LIST], *tags[LIST];
    const char *parent, *root;                          /* URIs */
    const char *quote, *card, *card_title, *alts[LIST]; /* embed */
    bool beside;                                        /* a quote with media */
    const char *subject;                                /* a DID, or the URI in a reference */
    int number;                                         /* 0: not there */
    const char *flag;                                   /* "true" or "false" */
};

static const char *const collections[] = {"app.bsky.feed.post", "app.bsky.feed.like",
                                          "app.bsky.graph.follow", "com.example.thing"};
static const char *const dids[] = {"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",
                                   "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", "did:web:example.com",
                                   "did:web:other.example"};
static const char *const uris[] = {
    "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/3kgmi5fzxhc2l",
    "at://did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/app.bsky.feed.post/3kgmi5fzxhc2l",
    "at://did:web:example.com/app.bsky.feed.post/3kgmi5fzxhc2l",
    "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/3kgmi5g2bn22l"};
static const char *const langs[] = {"en", "pt", "pt-BR", "EN-gb"};
static const char *const links[] = {"https://example.com/a", "http://WWW.Example.com:80",
                                    "https://user@m.other.example?x", "not a link"};
static const char *const hosts[] = {"example.com", "www.example.com", "other.example", "com"};
static const char *const tags[] = {"moon", "Moon", "Ärger", "lua"};
static const char *const tag_keys[] = {"moon", "MOON", "ärger", "luajit"};
static const char *const texts[] = {"", "the Moon is new", "honeymoon in NEW YORK",
                                    "lua, moon; lua"};
static const char *const words[] = {"moon", "new york", "lua*", "*moon*"};

static uint64_t rng_state;

static unsigned rng(unsigned n)
{
    rng_state ^= rng_state << 13, rng_state ^= rng_state >> 7, rng_state ^= rng_state << 17;
    return (unsigned)((rng_state >> 33) % n);
}

static const char *pick(const char *const *from) { return from[rng(4)]; }
static const char *perhaps(const char *const *from) { return rng(2) ? from[rng(4)] : NULL; }

static void perhaps_some(const char **to, const char *const *from)
{
    for (unsigned i = 0, n = rng(3) ? 0 : 1 + rng(LIST); i < n; i++)
        to[i] = pick(from);
}

static struct model random_model(void)
{
    struct model m = {.kind = rng(6) ? MJ_KIND_COMMIT : (enum mj_kind)rng(3), .did = pick(dids)};
    if (m.kind != MJ_KIND_COMMIT)
        return m;
    m.op = rng(5) ? MJ_OP_CREATE : (enum mj_op)(MJ_OP_CREATE + rng(3));
    m.collection = pick(collections);
    if (m.op == MJ_OP_DELETE)
        return m;
    m.text = rng(4) ? pick(texts) : NULL;
    perhaps_some(m.langs, langs);
    perhaps_some(m.mentions, dids);
    perhaps_some(m.links, links);
    perhaps_some(m.facet_tags, tags);
    perhaps_some(m.tags, tags);
    if (!rng(3)) {
        m.parent = pick(uris);
        m.root = pick(uris);
    }
    if (!rng(3))
        m.quote = pick(uris);
    m.beside = rng(2);
    if (!m.quote || m.beside) {
        m.card = perhaps(links);
        m.card_title = m.card ? perhaps(texts) : NULL;
        perhaps_some(m.alts, texts);
    }
    m.subject = rng(3) ? NULL : rng(2) ? pick(dids) : pick(uris);
    m.number = rng(3) ? 0 : 1 + (int)rng(3);
    m.flag = rng(3) ? NULL : rng(2) ? "true" : "false";
    return m;
}

static cJSON *strings(const char *const *list)
{
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; i < LIST && list[i]; i++)
        cJSON_AddItemToArray(array, cJSON_CreateString(list[i]));
    return array;
}

static void add_facet(cJSON *facets, const char *type, const char *key, const char *value)
{
    char name[64];
    cJSON *facet = cJSON_CreateObject(), *feature = cJSON_CreateObject();
    snprintf(name, sizeof name, "app.bsky.richtext.facet#%s", type);
    cJSON_AddStringToObject(feature, "$type", name);
    cJSON_AddStringToObject(feature, key, value);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(facet, "features"), feature);
    cJSON_AddItemToArray(facets, facet);
}

static cJSON *reference(const char *uri)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "uri", uri);
    cJSON_AddStringToObject(o, "cid", "bafyreib");
    return o;
}

static cJSON *make_embed(const struct model *m)
{
    cJSON *embed = cJSON_CreateObject(), *media = embed;
    if (m->quote && m->beside) {
        cJSON *record = cJSON_AddObjectToObject(embed, "record");
        cJSON_AddItemToObject(record, "record", reference(m->quote));
        media = cJSON_AddObjectToObject(embed, "media");
    } else if (m->quote) {
        cJSON_AddItemToObject(embed, "record", reference(m->quote));
    }
    if (m->card) {
        cJSON *card = cJSON_AddObjectToObject(media, "external");
        cJSON_AddStringToObject(card, "uri", m->card);
        if (m->card_title)
            cJSON_AddStringToObject(card, "title", m->card_title);
    }
    if (m->alts[0] && !m->alts[1]) { /* a video */
        cJSON_AddStringToObject(media, "alt", m->alts[0]);
    } else if (m->alts[0]) {
        cJSON *images = cJSON_AddArrayToObject(media, "images");
        for (size_t i = 0; i < LIST && m->alts[i]; i++) {
            cJSON *image = cJSON_CreateObject();
            cJSON_AddStringToObject(image, "alt", m->alts[i]);
            cJSON_AddItemToArray(images, image);
        }
    }
    return embed;
}

static void make_record(const struct model *m, struct mj_buf *out)
{
    cJSON *r = cJSON_CreateObject(), *facets = cJSON_CreateArray();
    cJSON_AddStringToObject(r, "$type", m->collection);
    if (m->text)
        cJSON_AddStringToObject(r, "text", m->text);
    if (m->langs[0])
        cJSON_AddItemToObject(r, "langs", strings(m->langs));
    if (m->tags[0])
        cJSON_AddItemToObject(r, "tags", strings(m->tags));
    for (size_t i = 0; i < LIST; i++) {
        if (m->mentions[i])
            add_facet(facets, "mention", "did", m->mentions[i]);
        if (m->links[i])
            add_facet(facets, "link", "uri", m->links[i]);
        if (m->facet_tags[i])
            add_facet(facets, "tag", "tag", m->facet_tags[i]);
    }
    cJSON_AddItemToObject(r, "facets", facets);
    if (m->parent) {
        cJSON *reply = cJSON_AddObjectToObject(r, "reply");
        cJSON_AddItemToObject(reply, "parent", reference(m->parent));
        cJSON_AddItemToObject(reply, "root", reference(m->root));
    }
    if (m->quote || m->card || m->alts[0])
        cJSON_AddItemToObject(r, "embed", make_embed(m));
    if (m->subject && strncmp(m->subject, "did:", 4) == 0)
        cJSON_AddStringToObject(r, "subject", m->subject);
    else if (m->subject)
        cJSON_AddItemToObject(r, "subject", reference(m->subject));
    if (m->number)
        cJSON_AddNumberToObject(cJSON_AddObjectToObject(r, "extra"), "number", m->number);
    if (m->flag)
        cJSON_AddBoolToObject(r, "flag", strcmp(m->flag, "true") == 0);
    out->len = 0;
    mj_test_to_cbor(r, out);
    cJSON_Delete(r);
}

/* A match as it was meant. */
enum what {
    W_AND,
    W_OR,
    W_NOT,
    W_KINDS,
    W_OPS,
    W_COLLECTION,
    W_DID,
    W_DID_PREFIX,
    W_LANG,
    W_TEXT,
    W_WORDS,
    W_MENTION,
    W_LINK,
    W_TAG,
    W_TAG_PREFIX,
    W_REPLY,
    W_REPLY_TO,
    W_ROOT,
    W_QUOTE,
    W_SUBJECT,
    W_PRESENT,
    W_HAS,
    W_NUMBER,
    W_FLAG,
    W_AT_PATH,
    W_MEMBER,
    W_COUNT
};

struct desc {
    enum what what;
    unsigned mask; /* which of the four */
    struct desc *parts[3];
};

static struct desc pool[200000];
static size_t used;
static const char *const has_paths[] = {"embed", "facets[1].features", "extra.number", "reply"};
static const enum mj_field present_fields[] = {MJ_FIELD_LANG, MJ_FIELD_MENTION, MJ_FIELD_QUOTE,
                                               MJ_FIELD_LINK};

static struct desc *make_desc(unsigned depth)
{
    struct desc *d = &pool[used++];
    d->what = (enum what)(depth && rng(3) ? rng(3) : 3 + rng(W_COUNT - 3));
    d->mask = 1 + rng(15);
    for (unsigned i = 0; i < 3; i++)
        d->parts[i] = NULL;
    unsigned parts = d->what == W_NOT ? 1 : d->what <= W_OR ? 1 + rng(3) : 0;
    for (unsigned i = 0; i < parts; i++)
        d->parts[i] = make_desc(depth - 1);
    return d;
}

/* Sets that are edited all the time: which of the DIDs and collections are in. */
static struct mj_set *sets[4];
static bool is_in[4][8];

static const char *member(unsigned i) { return i < 4 ? dids[i] : collections[i - 4]; }

static void edit_sets(void)
{
    unsigned set = rng(4), i = rng(8);
    is_in[set][i] = !is_in[set][i];
    int changed = is_in[set][i] ? mj_set_add(sets[set], mj_str(member(i)))
                                : mj_set_remove(sets[set], mj_str(member(i)));
    assert_int_equal(changed, 1);
}

static bool naive_member(unsigned set, const char *value)
{
    for (unsigned i = 0; i < 8; i++)
        if (value && is_in[set][i] && strcmp(member(i), value) == 0)
            return true;
    return false;
}

static bool equal(const char *a, const char *b) { return a && b && strcmp(a, b) == 0; }

/* Whether one of the chosen four is the value. */
static bool among(unsigned mask, const char *const *four, const char *value)
{
    for (unsigned i = 0; i < 4; i++)
        if ((mask >> i & 1) && equal(four[i], value))
            return true;
    return false;
}

/* A DID or URI: chosen from DIDs by the low bits of the mask, from URIs by all. */
static bool among_uris(unsigned mask, const char *uri)
{
    char did[64] = "";
    if (uri && strncmp(uri, "at://", 5) == 0)
        sscanf(uri + 5, "%63[^/]", did);
    return among(mask & 3, dids, uri) || among(mask & 3, dids, did) || among(mask & 12, uris, uri);
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

static bool is_word(char c) { return c == '_' || (lower(c) >= 'a' && lower(c) <= 'z'); }

/* ASCII only, one space between words: what the lists above have. */
static bool naive_word(const char *word, const char *text)
{
    char bare[32];
    size_t n = strlen(word), len = strlen(text);
    bool before = word[0] == '*', after = word[n - 1] == '*';
    snprintf(bare, sizeof bare, "%.*s", (int)(n - before - after), word + before);
    n = strlen(bare);
    for (size_t at = 0; at + n <= len; at++) {
        size_t i = 0;
        while (i < n && lower(text[at + i]) == bare[i])
            i++;
        if (i == n && (before || at == 0 || !is_word(text[at - 1])) &&
            (after || !is_word(text[at + n])))
            return true;
    }
    return false;
}

static bool naive_words(unsigned mask, const char *text)
{
    for (unsigned i = 0; i < 4 && text; i++)
        if ((mask >> i & 1) && naive_word(words[i], text))
            return true;
    return false;
}

static bool naive_tag(unsigned mask, const char *tag)
{
    if (!tag)
        return false;
    bool moon = strcasecmp(tag, "moon") == 0, anger = strcmp(tag, "Ärger") == 0;
    return ((mask & 3) && moon) || ((mask & 4) && anger);
}

static bool naive_link(unsigned mask, const char *link)
{
    if (!link)
        return false;
    bool example = strcasestr(link, "example.com") != NULL, www = strstr(link, "WWW") != NULL,
         other = strstr(link, "other.example") != NULL;
    return ((mask & 1) && example) || ((mask & 2) && www) || ((mask & 4) && other) ||
           ((mask & 8) && example);
}

static bool naive_lang(unsigned mask, const char *lang)
{
    return lang && (((mask & 1) && strcasestr(lang, "en")) || ((mask & 2) && strstr(lang, "pt")) ||
                    ((mask & 4) && equal(lang, "pt-BR")) || ((mask & 8) && equal(lang, "EN-gb")));
}

static bool is_link(const char *link) { return link && strstr(link, "//"); }

static bool naive(const struct desc *d, const struct model *m)
{
    bool commit = m->kind == MJ_KIND_COMMIT, yes = false;
    unsigned mask = d->mask;
    switch (d->what) {
    case W_AND:
        yes = true;
        for (unsigned i = 0; i < 3 && d->parts[i]; i++)
            yes = naive(d->parts[i], m) && yes;
        return yes;
    case W_OR:
        for (unsigned i = 0; i < 3 && d->parts[i]; i++)
            yes = naive(d->parts[i], m) || yes;
        return yes;
    case W_NOT:
        return !naive(d->parts[0], m);
    case W_KINDS:
        return mask >> m->kind & 1;
    case W_OPS:
        return commit && (mask >> m->op & 1);
    case W_COLLECTION:
        return among(mask, collections, m->collection);
    case W_DID:
        return among(mask, dids, m->did);
    case W_DID_PREFIX:
        return strncmp(m->did, mask & 1 ? "did:web:" : "did:plc:a", mask & 1 ? 8 : 9) == 0;
    case W_TEXT:
        return naive_words(mask, m->text);
    case W_REPLY:
        return m->parent;
    case W_REPLY_TO:
        return among_uris(mask, m->parent);
    case W_ROOT:
        return among_uris(mask, m->root);
    case W_QUOTE:
        return among_uris(mask, m->quote);
    case W_SUBJECT:
        return among_uris(mask, m->subject);
    case W_NUMBER:
        return m->number && (mask >> m->number & 1);
    case W_FLAG:
        return equal(m->flag, mask & 1 ? "true" : "false");
    case W_AT_PATH:
        return among(mask, langs, m->langs[0]);
    case W_HAS:
        return mask & 1   ? m->quote || m->card || m->alts[0]
               : mask & 2 ? m->mentions[0] || m->links[0] || m->facet_tags[0]
               : mask & 4 ? m->number != 0
                          : m->parent != NULL;
    case W_MEMBER:
        if (mask & 8)
            return naive_member(mask & 3, mask & 4 ? m->collection : m->did);
        for (unsigned i = 0; i < LIST; i++)
            yes |= naive_member(mask & 3, m->mentions[i]);
        return yes;
    case W_PRESENT:
        if (mask & 8 && !(mask & 7))
            yes = is_link(m->card);
        for (unsigned i = 0; i < LIST; i++)
            yes |= mask & 1   ? m->langs[i] != NULL
                   : mask & 2 ? m->mentions[i] != NULL
                   : mask & 4 ? m->quote != NULL
                              : is_link(m->links[i]);
        return yes;
    case W_WORDS:
        yes = naive_words(mask, m->text) || naive_words(mask, m->card_title);
        for (unsigned i = 0; i < LIST; i++)
            yes |= naive_words(mask, m->alts[i]) || naive_words(mask, m->tags[i]) ||
                   naive_words(mask, m->facet_tags[i]);
        return yes;
    default:
        if (d->what == W_LINK)
            yes = naive_link(mask, m->card);
        for (unsigned i = 0; i < LIST; i++)
            switch (d->what) {
            case W_LANG:
                yes |= naive_lang(mask, m->langs[i]);
                break;
            case W_MENTION:
                yes |= among(mask, dids, m->mentions[i]);
                break;
            case W_LINK:
                yes |= naive_link(mask, m->links[i]);
                break;
            case W_TAG:
                yes |= naive_tag(mask, m->tags[i]) || naive_tag(mask, m->facet_tags[i]);
                break;
            default: /* W_TAG_PREFIX */
                yes |= naive_tag(3, m->tags[i]) || naive_tag(3, m->facet_tags[i]);
                break;
            }
        return yes;
    }
}

static struct mj_match *set_of(enum mj_field field, unsigned mask, const char *const *four,
                               struct mj_match *set)
{
    MJ_AUTO_BUF error = {0};
    struct mj_match *own;
    if (!set)
        set = mj_match_set(field);
    for (unsigned i = 0; i < 4; i++)
        if ((mask >> i & 1) && mj_match_value(field, mj_str(four[i]), set, &own, &error))
            fail_msg("%s", mj_buf_cstr(&error));
    return set;
}

static struct mj_match *uris_of(enum mj_field field, unsigned mask)
{
    return set_of(field, mask & 12, uris, set_of(field, mask & 3, dids, NULL));
}

/* A set of integers, booleans or texts at a path. */
static struct mj_match *values_at(const char *path, unsigned mask, enum what what)
{
    struct mj_match *set = mj_match_set(MJ_FIELD_PATH);
    assert_int_equal(mj_match_path(set, mj_str(path)), 0);
    for (unsigned i = 0; i < 4; i++) {
        MJ_AUTO_BUF item = {0};
        if (what == W_FLAG)
            mj_cbor_put_bool(&item, mask & 1);
        else if (!(mask >> i & 1))
            continue;
        else if (what == W_NUMBER)
            mj_cbor_put_int(&item, i);
        else
            mj_cbor_put_text(&item, mj_str(langs[i]));
        mj_match_set_add(set, mj_buf_span(&item));
    }
    return set;
}

static struct mj_match *words_of(unsigned mask, bool all)
{
    MJ_AUTO_BUF error = {0};
    struct mj_words *w = mj_words_new();
    for (unsigned i = 0; i < 4; i++)
        if (mask >> i & 1)
            assert_int_equal(mj_words_add(w, mj_str(words[i]), &error), 0);
    return mj_match_words(w, all);
}

static struct mj_match *to_match(const struct desc *d)
{
    unsigned mask = d->mask;
    struct mj_match *m;
    switch (d->what) {
    case W_AND:
    case W_OR:
        m = d->what == W_AND ? mj_match_and() : mj_match_or();
        for (unsigned i = 0; i < 3 && d->parts[i]; i++)
            mj_match_add(m, to_match(d->parts[i]));
        return m;
    case W_NOT:
        return mj_match_not(to_match(d->parts[0]));
    case W_KINDS:
        return mj_match_kinds(mask);
    case W_OPS:
        return mj_match_ops(mask);
    case W_COLLECTION:
        return set_of(MJ_FIELD_COLLECTION, mask, collections, NULL);
    case W_DID:
        return set_of(MJ_FIELD_DID, mask, dids, NULL);
    case W_DID_PREFIX:
        return mj_match_prefix(MJ_FIELD_DID, mj_str(mask & 1 ? "did:web:" : "did:plc:a"));
    case W_LANG:
        return set_of(MJ_FIELD_LANG, mask, langs, NULL);
    case W_TEXT:
    case W_WORDS:
        return words_of(mask, d->what == W_WORDS);
    case W_MENTION:
        return set_of(MJ_FIELD_MENTION, mask, dids, NULL);
    case W_LINK:
        return set_of(MJ_FIELD_LINK, mask, hosts, NULL);
    case W_TAG:
        return set_of(MJ_FIELD_TAG, mask, tag_keys, NULL);
    case W_TAG_PREFIX:
        return mj_match_prefix(MJ_FIELD_TAG, MJ_SPAN("mo"));
    case W_REPLY:
        return mj_match_is_reply();
    case W_REPLY_TO:
        return uris_of(MJ_FIELD_REPLY_TO, mask);
    case W_ROOT:
        return uris_of(MJ_FIELD_ROOT, mask);
    case W_QUOTE:
        return uris_of(MJ_FIELD_QUOTE, mask);
    case W_SUBJECT:
        return uris_of(MJ_FIELD_SUBJECT, mask);
    case W_PRESENT:
        return mj_match_present(present_fields[__builtin_ctz(mask)]);
    case W_HAS:
        m = mj_match_present(MJ_FIELD_PATH);
        assert_int_equal(mj_match_path(m, mj_str(has_paths[__builtin_ctz(mask)])), 0);
        return m;
    case W_MEMBER:
        return mj_match_member(mask & 8 ? (mask & 4 ? MJ_FIELD_COLLECTION : MJ_FIELD_DID)
                                        : MJ_FIELD_MENTION,
                               mj_set_ref(sets[mask & 3]));
    case W_NUMBER:
        return values_at("extra.number", mask, d->what);
    case W_FLAG:
        return values_at("flag", mask, d->what);
    default:
        return values_at("langs[1]", mask, d->what);
    }
}

static int64_t now_us(void *ctx)
{
    (void)ctx;
    return 1;
}

static void decision_agrees(void **state)
{
    (void)state;
    size_t hits = 0, asked = 0;
    struct mj_facts *facts = mj_facts_new();
    struct mj_buf record = {0};
    for (size_t i = 0; i < 4; i++)
        assert_non_null(sets[i] = mj_set_new(now_us, NULL, NULL));
    for (unsigned seed = 1; seed < 250; seed++) {
        static struct desc *descs[150];
        static struct mj_match *flows[150];
        rng_state = seed * 0x9e3779b97f4a7c15;
        size_t n = 1 + rng(150);
        struct mj_decision *d = mj_decision_new();
        used = 0;
        for (size_t i = 0; i < n; i++) {
            descs[i] = make_desc(rng(4));
            flows[i] = to_match(descs[i]);
            mj_decision_add(d, flows[i]);
        }
        for (int k = 0; k < 100; k++) {
            struct model m = random_model();
            edit_sets();
            struct mj_event ev = {.kind = m.kind,
                                  .op = m.op,
                                  .did = mj_str(m.did),
                                  .collection = mj_str(m.collection)};
            if (m.op == MJ_OP_CREATE || m.op == MJ_OP_UPDATE) {
                make_record(&m, &record);
                assert_int_equal(mj_record_check(mj_buf_span(&record)), 0);
                ev.record = mj_buf_span(&record);
            }
            uint32_t id = m.kind != MJ_KIND_COMMIT ? 0
                          : rng(10)                ? mj_collection_id(ev.collection)
                                                   : MJ_COLLECTION_NONE;
            bool reads = mj_decision_reads(d, &ev, id);
            const uint64_t *got = mj_decision_eval(d, &ev, id);
            mj_facts_begin(facts, &ev);
            for (size_t i = 0; i < n; i++) {
                bool want = naive(descs[i], &m);
                if (want != (got[i / 64] >> (i % 64) & 1))
                    fail_msg("seed %u, event %d, flow %zu: %d", seed, k, i, want);
                if (want != mj_match_eval(flows[i], facts))
                    fail_msg("seed %u, event %d, flow %zu, by itself: %d", seed, k, i, want);
                hits += want;
                asked++;
            }
            assert_int_equal(got[n / 64] >> (n % 64), 0);
            /* What need not be read decides nothing. */
            if (!reads && ev.record.len) {
                uint64_t before[3];
                memcpy(before, got, sizeof *got * (n / 64 + 1));
                ev.record = MJ_SPAN("\xa0");
                assert_memory_equal(mj_decision_eval(d, &ev, id), before,
                                    sizeof *got * (n / 64 + 1));
            }
        }
        mj_decision_free(d);
        for (size_t i = 0; i < n; i++)
            mj_match_free(flows[i]);
    }
    mj_buf_deinit(&record);
    mj_facts_free(facts);
    for (size_t i = 0; i < 4; i++)
        mj_set_unref(sets[i]);
    /* A test in which nearly everything or nothing matched would show little. */
    assert_in_range(hits * 100 / asked, 15, 85);
}

/* Asks both ways. */
static bool ask(struct mj_match *m, const struct mj_event *ev)
{
    struct mj_facts *facts = mj_facts_new();
    struct mj_decision *d = mj_decision_new();
    mj_decision_add(d, m);
    mj_facts_begin(facts, ev);
    bool yes = mj_match_eval(m, facts);
    assert_int_equal(*mj_decision_eval(d, ev, mj_collection_id(ev->collection)), yes);
    mj_decision_free(d);
    mj_facts_free(facts);
    mj_match_free(m);
    return yes;
}

static struct mj_match *one_value(enum mj_field field, const char *text)
{
    MJ_AUTO_BUF error = {0};
    struct mj_match *set = mj_match_set(field), *own;
    if (mj_match_value(field, mj_str(text), set, &own, &error))
        fail_msg("%s", mj_buf_cstr(&error));
    return set;
}

static struct mj_match *one_word(const char *text, bool all)
{
    MJ_AUTO_BUF error = {0};
    struct mj_words *w = mj_words_new();
    if (mj_words_add(w, mj_str(text), &error))
        fail_msg("%s", mj_buf_cstr(&error));
    return mj_match_words(w, all);
}

struct corpus {
    struct mj_span lines;
    unsigned words, values;
};

static void check_value(struct corpus *c, const struct mj_event *ev, enum mj_field field,
                        const cJSON *text, const char *other)
{
    if (!cJSON_IsString(text))
        return;
    if (!ask(one_value(field, text->valuestring), ev))
        fail_msg("%s is not found", text->valuestring);
    assert_false(ask(one_value(field, other), ev));
    c->values++;
}

/* Words of ASCII letters between spaces: each is found, and none of them with more behind it. */
static void check_words(struct corpus *c, const struct mj_event *ev, const char *text)
{
    const char *letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, " \n"), plain = strspn(p, letters);
        if (n && plain >= n && n < 60) {
            char word[64];
            snprintf(word, sizeof word, "%.*s", (int)n, p);
            if (!ask(one_word(word, false), ev) || !ask(one_word(word, true), ev))
                fail_msg("'%s' is not found", word);
            snprintf(word, sizeof word, "%.*szq", (int)n, p);
            assert_false(ask(one_word(word, true), ev));
            c->words++;
        }
        p += n + (p[n] != 0);
    }
}

static const cJSON *at(const cJSON *v, const char *a, const char *b, const char *c)
{
    v = cJSON_GetObjectItem(v, a);
    v = b ? cJSON_GetObjectItem(v, b) : v;
    return c ? cJSON_GetObjectItem(v, c) : v;
}

static int check_event(void *ctx, struct mj_event *ev)
{
    struct corpus *c = ctx;
    struct mj_span line;
    const cJSON *one, *feature;
    const char *other = "did:web:nobody.example";
    assert_true(mj_test_line(&c->lines, &line));
    cJSON *json = cJSON_ParseWithLength((const char *)line.ptr, line.len);
    const cJSON *record = at(json, "commit", "record", NULL);
    cJSON_ArrayForEach(one, at(record, "langs", NULL, NULL))
        check_value(c, ev, MJ_FIELD_LANG, one, "tlh");
    check_value(c, ev, MJ_FIELD_REPLY_TO, at(record, "reply", "parent", "uri"), other);
    check_value(c, ev, MJ_FIELD_ROOT, at(record, "reply", "root", "uri"), other);
    check_value(c, ev, MJ_FIELD_SUBJECT, at(record, "subject", NULL, NULL), other);
    check_value(c, ev, MJ_FIELD_SUBJECT, at(record, "subject", "uri", NULL), other);
    check_value(c, ev, MJ_FIELD_QUOTE, at(record, "embed", "record", "uri"), other);
    cJSON_ArrayForEach(one, at(record, "facets", NULL, NULL))
    {
        feature = cJSON_GetArrayItem(at(one, "features", NULL, NULL), 0);
        check_value(c, ev, MJ_FIELD_MENTION, at(feature, "did", NULL, NULL), other);
        check_value(c, ev, MJ_FIELD_TAG, at(feature, "tag", NULL, NULL), "nothing");
        if (at(feature, "uri", NULL, NULL))
            assert_true(ask(mj_match_present(MJ_FIELD_LINK), ev));
    }
    if (cJSON_IsString(at(record, "text", NULL, NULL)))
        check_words(c, ev, at(record, "text", NULL, NULL)->valuestring);
    cJSON_Delete(json);
    return 0;
}

static void real_posts(void **state)
{
    (void)state;
    MJ_AUTO_BUF frames = {0}, expected = {0};
    if (!mj_test_corpus(&frames) || !mj_test_shared("corpus/expected_v1.jsonl", &expected))
        skip();
    struct corpus c = {.lines = mj_buf_span(&expected)};
    struct mj_decoder *d = mj_decoder_new();
    struct mj_span rest = mj_buf_span(&frames), frame;
    struct mj_frame out;
    while (mj_test_frame(&rest, &frame))
        assert_int_equal(mj_decode(d, frame, &out, check_event, &c), 0);
    mj_decoder_free(d);
    assert_int_equal(c.lines.len, 0);
    assert_true(c.words > 100 && c.values > 40);
}

/* A list beyond the bound is not read further, and costs no more. */
static void long_lists(void **state)
{
    (void)state;
    MJ_AUTO_BUF record = {0};
    char text[32];
    mj_cbor_put_map(&record, 1);
    mj_cbor_put_text(&record, MJ_SPAN("tags"));
    mj_cbor_put_array(&record, 50000);
    for (unsigned i = 0; i < 50000; i++)
        mj_cbor_put_text(&record, mj_span(text, (size_t)snprintf(text, sizeof text, "t%u", i)));
    struct mj_event ev = {.kind = MJ_KIND_COMMIT,
                          .op = MJ_OP_CREATE,
                          .did = mj_str(dids[0]),
                          .collection = mj_str(collections[0]),
                          .record = mj_buf_span(&record)};
    assert_int_equal(mj_record_check(ev.record), 0);
    assert_true(ask(one_value(MJ_FIELD_TAG, "t0"), &ev));
    assert_true(ask(one_value(MJ_FIELD_TAG, "t999"), &ev));
    assert_false(ask(one_value(MJ_FIELD_TAG, "t1000"), &ev));
}

/* { k0000 = [0, …], k0001 = … } of more than a finder opens, and many paths into it. */
static void many_paths(void **state)
{
    (void)state;
    enum { KEYS = 200, ITEMS = 600 };
    MJ_AUTO_BUF record = {0};
    struct mj__finder f = {0};
    char text[40];
    mj_cbor_put_map(&record, KEYS);
    for (unsigned k = 0; k < KEYS; k++) {
        mj_cbor_put_text(&record, mj_span(text, (size_t)snprintf(text, sizeof text, "k%04u", k)));
        mj_cbor_put_array(&record, ITEMS);
        for (unsigned i = 0; i < ITEMS; i++)
            mj_cbor_put_int(&record, k + i);
    }
    struct mj_event ev = {.kind = MJ_KIND_COMMIT,
                          .op = MJ_OP_CREATE,
                          .did = mj_str(dids[0]),
                          .collection = mj_str(collections[0]),
                          .record = mj_buf_span(&record)};
    assert_int_equal(mj_record_check(ev.record), 0);
    mj__finder_begin(&f, ev.record);
    for (unsigned n = 0; n < 20000; n++) {
        unsigned k = n * 7919 % (KEYS + 10), i = n * 31 % (ITEMS + 10);
        struct mj_path path = {0};
        struct mj_span want = {0}, at = ev.record;
        struct mj_cbor_head head;
        snprintf(text, sizeof text, n % 2 ? "k%04u[%u]" : "k%04u.%u", k, i + 1);
        assert_int_equal(mj_path_parse(&path, mj_str(text)), 0);
        int err = mj_path_find(ev.record, &path, &want), got = 0;
        assert_int_equal(err == 0, k < KEYS && i < ITEMS);
        for (unsigned s = 0; s < path.count && !got; s++)
            got = mj__finder_step(&f, at, &path.steps[s], &at);
        assert_int_equal(got, err);
        if (err)
            continue;
        struct mj_cbor c = mj_cbor(at);
        assert_ptr_equal(at.ptr, want.ptr);
        assert_int_equal(mj_cbor_next(&c, &head), 0);
        assert_int_equal(head.i, k + i);
    }
    assert_int_equal(f.opened_count, MJ__FINDER_OPEN);
    assert_true(f.children.len <= 8 * record.len);
    mj__finder_deinit(&f);
    struct mj_match *atom = mj_match_set(MJ_FIELD_PATH);
    MJ_AUTO_BUF item = {0};
    mj_cbor_put_int(&item, 199 + 599);
    mj_match_set_add(atom, mj_buf_span(&item));
    assert_int_equal(mj_match_path(atom, MJ_SPAN("k0199[600]")), 0);
    assert_true(ask(atom, &ev));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decision_agrees),
        cmocka_unit_test(real_posts),
        cmocka_unit_test(long_lists),
        cmocka_unit_test(many_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
