#include "match/facts.h"

#include "atproto/cid.h"
#include "base/err.h"
#include "match/finder.h"
#include "match/fold.h"

#define LANG_MAX   64   /* bytes; anything longer is no language tag */
#define HOST_MAX   253  /* bytes of a host name */
#define LARGE      2048 /* bytes of a record from which it pays to remember what paths lead to */
#define LABELS_MAX 8    /* of a host, from the right, that are values of their own */

/* Keys of a record's top level that matter here, in canonical order. */
enum key { TAGS, TEXT, EMBED, LANGS, REPLY, FACETS, SUBJECT, KEY_COUNT };

static const struct mj_span key_names[KEY_COUNT] = {
    [TAGS] = {(const uint8_t *)"tags", 4},      [TEXT] = {(const uint8_t *)"text", 4},
    [EMBED] = {(const uint8_t *)"embed", 5},    [LANGS] = {(const uint8_t *)"langs", 5},
    [REPLY] = {(const uint8_t *)"reply", 5},    [FACETS] = {(const uint8_t *)"facets", 6},
    [SUBJECT] = {(const uint8_t *)"subject", 7}};

/* What has been read of the event at hand. */
enum {
    READ_TOP = 1,
    READ_LANGS = 2,
    READ_RICH = 4,
    READ_EMBED = 8,
    READ_REPLY = 16,
    READ_SUBJECT = 32,
    READ_TEXT = 64,
    READ_WORDS = 128,
    READ_PATHS = 256
};

struct list {
    struct mj_span *items; /* owned */
    size_t count, cap;
};

struct mj_facts {
    const struct mj_event *ev; /* borrowed */
    struct mj_span record;
    unsigned read;
    struct mj_span top[KEY_COUNT]; /* from the value to the record's end; {NULL, 0}: not there */
    struct list lists[MJ_FIELD_COUNT];
    struct mj_buf made;   /* folded values; never grows while an event is looked at */
    struct mj_buf stream; /* of the text, then of the other words */
    size_t text_len;
    struct mj_buf item;
    struct mj__finder finder;
};

struct mj_facts *mj_facts_new(void) { return mj_calloc(1, sizeof(struct mj_facts)); }

void mj_facts_free(struct mj_facts *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < MJ_FIELD_COUNT; i++)
        free(f->lists[i].items);
    mj_buf_deinit(&f->made);
    mj_buf_deinit(&f->stream);
    mj_buf_deinit(&f->item);
    mj__finder_deinit(&f->finder);
    free(f);
}

void mj_facts_begin(struct mj_facts *f, const struct mj_event *ev)
{
    bool has_record =
        ev->kind == MJ_KIND_COMMIT && (ev->op == MJ_OP_CREATE || ev->op == MJ_OP_UPDATE);
    f->ev = ev;
    f->record = has_record && ev->record.len ? ev->record : mj_span(NULL, 0);
    f->read = 0;
}

const struct mj_event *mj_facts_event(const struct mj_facts *f) { return f->ev; }

struct mj_span mj_facts_record(const struct mj_facts *f) { return f->record; }

static void add(struct mj_facts *f, enum mj_field field, struct mj_span value)
{
    struct list *l = &f->lists[field];
    if (!value.len || l->count == MJ_FACTS_MAX)
        return;
    if (l->count == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 8;
        l->items = mj_realloc(l->items, l->cap * sizeof *l->items);
    }
    l->items[l->count++] = value;
}

/* CBOR that has been checked, read with the expectation that it is of another shape. */

static struct mj_span rest(const struct mj_cbor *c)
{
    return mj_span(c->p, (size_t)(c->end - c->p));
}

static bool is_text(struct mj_span item, struct mj_span *text)
{
    struct mj_cbor c = mj_cbor(item);
    struct mj_cbor_head head;
    if (!item.len || mj_cbor_next(&c, &head) || head.type != MJ_CBOR_TEXT)
        return false;
    *text = head.s;
    return true;
}

static bool get(struct mj_span map, struct mj_span key, struct mj_span *value)
{
    return map.len && mj_cbor_map_get(map, key, value) == 0;
}

static bool get_text(struct mj_span map, struct mj_span key, struct mj_span *text)
{
    struct mj_span value;
    return get(map, key, &value) && is_text(value, text);
}

/* Opens the array at `item`: *c is at its first item. How many there are, 0 for anything else. */
static uint64_t open_list(struct mj_span item, struct mj_cbor *c)
{
    struct mj_cbor_head head;
    *c = mj_cbor(item);
    return item.len && mj_cbor_next(c, &head) == 0 && head.type == MJ_CBOR_ARRAY ? head.n : 0;
}

static void read_top(struct mj_facts *f)
{
    struct mj_cbor c = mj_cbor(f->record);
    struct mj_cbor_head map, key;
    if (f->read & READ_TOP)
        return;
    f->read |= READ_TOP;
    f->made.len = 0;
    for (size_t i = 0; i < KEY_COUNT; i++)
        f->top[i] = mj_span(NULL, 0);
    if (!f->record.len || mj_cbor_next(&c, &map) || map.type != MJ_CBOR_MAP)
        return;
    /* Folding makes at most half as much again of each text. */
    mj_buf_reserve(&f->made, 2 * f->record.len + 16);
    size_t k = 0;
    for (uint64_t i = 0; i < map.n && k < KEY_COUNT; i++) {
        if (mj_cbor_next(&c, &key))
            return;
        while (k < KEY_COUNT) {
            struct mj_span name = key_names[k];
            int cmp = key.s.len != name.len ? (key.s.len < name.len ? -1 : 1)
                                            : memcmp(key.s.ptr, name.ptr, name.len);
            if (cmp == 0)
                f->top[k] = rest(&c);
            if (cmp < 0)
                break;
            k++;
        }
        if (mj_cbor_skip_checked(&c))
            return;
    }
}

/* A copy in lower case, or folded, that lives as long as the facts of the event. */
static struct mj_span make(struct mj_facts *f, enum mj_field field, struct mj_span text)
{
    size_t at = f->made.len;
    mj_facts_key(field, text, &f->made);
    return mj_span(f->made.ptr + at, f->made.len - at);
}

void mj_facts_key(enum mj_field field, struct mj_span text, struct mj_buf *out)
{
    if (field == MJ_FIELD_LANG || field == MJ_FIELD_LINK || field == MJ_FIELD_TAG)
        mj_fold_case(text, out);
    else
        mj_buf_put(out, text.ptr, text.len);
}

static void read_langs(struct mj_facts *f)
{
    struct mj_cbor c;
    struct mj_span text;
    for (uint64_t n = open_list(f->top[LANGS], &c); n; n--, mj_cbor_skip_checked(&c)) {
        if (!is_text(rest(&c), &text) || text.len > LANG_MAX)
            continue;
        text = make(f, MJ_FIELD_LANG, text);
        add(f, MJ_FIELD_LANG, text);
        while (text.len--)
            if (text.ptr[text.len] == '-')
                add(f, MJ_FIELD_LANG, text);
    }
}

/* "https://user@www.Example.com:80/path" gives "www.example.com", "example.com" and "com". */
static void add_link(struct mj_facts *f, struct mj_span uri)
{
    const uint8_t *p = uri.ptr, *end = uri.len ? p + uri.len : p;
    while (p < end && *p != ':')
        p++;
    if (end - p < 4 || p[1] != '/' || p[2] != '/')
        return;
    const uint8_t *host = p += 3;
    for (; p < end && !strchr("/?#\\", *p); p++)
        if (*p == '@')
            host = p + 1;
    end = p;
    if (host < end && *host == '[') { /* an IPv6 address */
        for (p = host; p < end && *p != ']';)
            p++;
        end = p < end ? p + 1 : host;
    } else {
        for (p = host; p < end && *p != ':';)
            p++;
        end = p;
    }
    if (end > host && end[-1] == '.')
        end--;
    if (end == host || end - host > HOST_MAX)
        return;
    struct mj_span name = make(f, MJ_FIELD_LINK, mj_span(host, (size_t)(end - host)));
    unsigned labels = 0;
    for (size_t i = name.len; i-- && labels < LABELS_MAX;)
        if (i == 0 || name.ptr[i - 1] == '.') {
            add(f, MJ_FIELD_LINK, mj_span(name.ptr + i, name.len - i));
            labels += 1;
            if (i == 0)
                return;
        }
    add(f, MJ_FIELD_LINK, name);
}

static struct mj_span tag_of(struct mj_span text)
{
    if (mj_span_starts(text, MJ_SPAN("#")))
        return mj_span(text.ptr + 1, text.len - 1);
    if (mj_span_starts(text, MJ_SPAN("\xef\xbc\x83"))) /* the full-width one */
        return mj_span(text.ptr + 3, text.len - 3);
    return text;
}

static void add_tag(struct mj_facts *f, struct mj_span text)
{
    add(f, MJ_FIELD_TAG, make(f, MJ_FIELD_TAG, tag_of(text)));
}

static void read_feature(struct mj_facts *f, struct mj_span feature)
{
    struct mj_span type, text, prefix = MJ_SPAN("app.bsky.richtext.facet#");
    if (!get_text(feature, MJ_SPAN("$type"), &type) || !mj_span_starts(type, prefix))
        return;
    type = mj_span(type.ptr + prefix.len, type.len - prefix.len);
    if (mj_span_is(type, "mention") && get_text(feature, MJ_SPAN("did"), &text))
        add(f, MJ_FIELD_MENTION, text);
    else if (mj_span_is(type, "link") && get_text(feature, MJ_SPAN("uri"), &text))
        add_link(f, text);
    else if (mj_span_is(type, "tag") && get_text(feature, MJ_SPAN("tag"), &text))
        add_tag(f, text);
}

/* Rich text, and tags beside it. */
static void read_rich(struct mj_facts *f)
{
    struct mj_cbor facet, feature, tag;
    struct mj_span features, text;
    for (uint64_t n = open_list(f->top[FACETS], &facet); n; n--, mj_cbor_skip_checked(&facet)) {
        if (!get(rest(&facet), MJ_SPAN("features"), &features))
            continue;
        for (uint64_t k = open_list(features, &feature); k; k--, mj_cbor_skip_checked(&feature))
            read_feature(f, rest(&feature));
    }
    for (uint64_t n = open_list(f->top[TAGS], &tag); n; n--, mj_cbor_skip_checked(&tag))
        if (is_text(rest(&tag), &text))
            add_tag(f, text);
}

/* A DID, or an AT URI and whose record it names. */
static void add_uri(struct mj_facts *f, enum mj_field field, struct mj_span uri)
{
    add(f, field, uri);
    if (!mj_span_starts(uri, MJ_SPAN("at://")))
        return;
    struct mj_span who = mj_span(uri.ptr + 5, uri.len - 5);
    const uint8_t *slash = who.len ? memchr(who.ptr, '/', who.len) : NULL;
    if (slash)
        who.len = (size_t)(slash - who.ptr);
    add(f, field, who);
}

static void read_embed(struct mj_facts *f)
{
    struct mj_span embed = f->top[EMBED], part, text;
    /* A post, or a post beside images; the record's own record is where it is then. */
    if (get(embed, MJ_SPAN("record"), &part)) {
        if (get_text(part, MJ_SPAN("uri"), &text) ||
            (get(part, MJ_SPAN("record"), &part) && get_text(part, MJ_SPAN("uri"), &text)))
            add_uri(f, MJ_FIELD_QUOTE, text);
    }
    if ((get(embed, MJ_SPAN("external"), &part) && get_text(part, MJ_SPAN("uri"), &text)) ||
        (get(embed, MJ_SPAN("media"), &part) && get(part, MJ_SPAN("external"), &part) &&
         get_text(part, MJ_SPAN("uri"), &text)))
        add_link(f, text);
}

static void read_reply(struct mj_facts *f)
{
    struct mj_span part, text;
    if (get(f->top[REPLY], MJ_SPAN("parent"), &part) && get_text(part, MJ_SPAN("uri"), &text))
        add_uri(f, MJ_FIELD_REPLY_TO, text);
    if (get(f->top[REPLY], MJ_SPAN("root"), &part) && get_text(part, MJ_SPAN("uri"), &text))
        add_uri(f, MJ_FIELD_ROOT, text);
}

static void read_subject(struct mj_facts *f)
{
    struct mj_span text;
    if (is_text(f->top[SUBJECT], &text) || get_text(f->top[SUBJECT], MJ_SPAN("uri"), &text))
        add_uri(f, MJ_FIELD_SUBJECT, text);
}

/* True the first time a part of the event is asked for; the lists that only it fills are empty
 * then. */
static bool first(struct mj_facts *f, unsigned part)
{
    if (f->read & part)
        return false;
    read_top(f);
    f->read |= part;
    return true;
}

static void need_rich(struct mj_facts *f)
{
    if (!first(f, READ_RICH))
        return;
    f->lists[MJ_FIELD_MENTION].count = f->lists[MJ_FIELD_TAG].count = 0;
    if (!(f->read & READ_EMBED))
        f->lists[MJ_FIELD_LINK].count = 0;
    read_rich(f);
}

static void need_embed(struct mj_facts *f)
{
    if (!first(f, READ_EMBED))
        return;
    f->lists[MJ_FIELD_QUOTE].count = 0;
    if (!(f->read & READ_RICH))
        f->lists[MJ_FIELD_LINK].count = 0;
    read_embed(f);
}

struct mj_values mj_facts_values(struct mj_facts *f, enum mj_field field)
{
    struct list *l = &f->lists[field];
    switch (field) {
    case MJ_FIELD_COLLECTION:
        l->count = 0;
        if (f->ev->kind == MJ_KIND_COMMIT)
            add(f, field, f->ev->collection);
        break;
    case MJ_FIELD_DID:
        l->count = 0;
        add(f, field, f->ev->did);
        break;
    case MJ_FIELD_LANG:
        if (first(f, READ_LANGS)) {
            l->count = 0;
            read_langs(f);
        }
        break;
    case MJ_FIELD_LINK:
        need_embed(f);
        need_rich(f);
        break;
    case MJ_FIELD_QUOTE:
        need_embed(f);
        break;
    case MJ_FIELD_REPLY_TO:
    case MJ_FIELD_ROOT:
        if (first(f, READ_REPLY)) {
            f->lists[MJ_FIELD_REPLY_TO].count = f->lists[MJ_FIELD_ROOT].count = 0;
            read_reply(f);
        }
        break;
    case MJ_FIELD_SUBJECT:
        if (first(f, READ_SUBJECT)) {
            l->count = 0;
            read_subject(f);
        }
        break;
    default:
        need_rich(f);
        break;
    }
    return (struct mj_values){l->items, l->count};
}

bool mj_facts_has_text(struct mj_facts *f)
{
    struct mj_span text;
    read_top(f);
    return is_text(f->top[TEXT], &text);
}

bool mj_facts_is_reply(struct mj_facts *f)
{
    struct mj_cbor_head head;
    read_top(f);
    struct mj_cbor c = mj_cbor(f->top[REPLY]);
    return f->top[REPLY].len && mj_cbor_next(&c, &head) == 0 && head.type == MJ_CBOR_MAP;
}

struct mj_span mj_facts_text(struct mj_facts *f)
{
    struct mj_span text;
    if (first(f, READ_TEXT)) {
        f->stream.len = 0;
        if (is_text(f->top[TEXT], &text))
            mj_fold_tokens(text, &f->stream);
        f->text_len = f->stream.len;
    }
    return mj_span(f->stream.ptr, f->text_len);
}

static void add_words(struct mj_facts *f, struct mj_span map, struct mj_span key)
{
    struct mj_span text;
    if (get_text(map, key, &text))
        mj_fold_tokens(text, &f->stream);
}

/* What an embed, or the media beside a post it shows, says in words. */
static void add_media(struct mj_facts *f, struct mj_span media)
{
    struct mj_span part;
    struct mj_cbor image;
    add_words(f, media, MJ_SPAN("alt"));
    if (get(media, MJ_SPAN("images"), &part))
        for (uint64_t n = open_list(part, &image); n; n--, mj_cbor_skip_checked(&image))
            add_words(f, rest(&image), MJ_SPAN("alt"));
    if (get(media, MJ_SPAN("external"), &part)) {
        add_words(f, part, MJ_SPAN("title"));
        add_words(f, part, MJ_SPAN("description"));
    }
}

struct mj_span mj_facts_words(struct mj_facts *f)
{
    struct mj_span part;
    mj_facts_text(f);
    if (first(f, READ_WORDS)) {
        add_media(f, f->top[EMBED]);
        if (get(f->top[EMBED], MJ_SPAN("media"), &part))
            add_media(f, part);
        struct mj_values tags = mj_facts_values(f, MJ_FIELD_TAG);
        for (size_t i = 0; i < tags.count; i++)
            mj_fold_tokens(tags.items[i], &f->stream);
    }
    return mj_buf_span(&f->stream);
}

/* The first `n` steps of the path. */
static bool follow(struct mj_facts *f, const struct mj_path *path, unsigned n,
                   struct mj_span *value)
{
    struct mj_span at = f->record;
    bool large = at.len >= LARGE;
    if (large && !(f->read & READ_PATHS)) {
        f->read |= READ_PATHS;
        mj__finder_begin(&f->finder, f->record);
    }
    for (unsigned i = 0; i < n; i++)
        if (large ? mj__finder_step(&f->finder, at, &path->steps[i], &at)
                  : mj_path_step(at, &path->steps[i], &at))
            return false;
    *value = at;
    return true;
}

/* Finds what the path names. A last step $link or $bytes is taken as the link's or bytes' own
 * text: *tag tells. */
static bool find(struct mj_facts *f, const struct mj_path *path, struct mj_span *value, bool *tag)
{
    *tag = false;
    if (!f->record.len)
        return false;
    if (follow(f, path, path->count, value))
        return true;
    if (!path->count)
        return false;
    struct mj_span key = path->steps[path->count - 1].key;
    enum mj_cbor_type want = mj_span_is(key, "$link")    ? MJ_CBOR_LINK
                             : mj_span_is(key, "$bytes") ? MJ_CBOR_BYTES
                                                         : MJ_CBOR_NULL;
    if (want == MJ_CBOR_NULL || !follow(f, path, path->count - 1, value))
        return false;
    struct mj_cbor_head head;
    struct mj_cbor c = mj_cbor(*value);
    *tag = mj_cbor_next(&c, &head) == 0 && head.type == want;
    return *tag;
}

bool mj_facts_has(struct mj_facts *f, const struct mj_path *path)
{
    struct mj_span value;
    bool tag;
    return find(f, path, &value, &tag);
}

struct mj_span mj_facts_item(struct mj_facts *f, const struct mj_path *path)
{
    struct mj_span value;
    struct mj_cbor_head head;
    char text[2 * MJ_CID_MAX];
    bool tag;
    if (!find(f, path, &value, &tag))
        return mj_span(NULL, 0);
    struct mj_cbor c = mj_cbor(value);
    if (mj_cbor_next(&c, &head))
        return mj_span(NULL, 0);
    if (head.type == MJ_CBOR_TEXT || head.type == MJ_CBOR_INT || head.type == MJ_CBOR_BOOL)
        return mj_span(value.ptr, (size_t)(c.p - value.ptr));
    if (!tag || head.type != MJ_CBOR_LINK)
        return mj_span(NULL, 0);
    f->item.len = 0;
    mj_cbor_put_text(&f->item, mj_span(text, mj_cid_text(head.s, text)));
    return mj_buf_span(&f->item);
}
