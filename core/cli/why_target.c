#include "atproto/syntax.h"
#include "base/err.h"
#include "cli/why.h"
#include "event/from_json.h"

/* What bsky.app's pages show. */
static const struct {
    const char *page, *collection;
} pages[] = {{"post", "app.bsky.feed.post"},
             {"feed", "app.bsky.feed.generator"},
             {"lists", "app.bsky.graph.list"},
             {"starter-pack", "app.bsky.graph.starterpack"}};

static struct mj_span part(struct mj_span *rest)
{
    const uint8_t *slash = rest->len ? memchr(rest->ptr, '/', rest->len) : NULL;
    struct mj_span first = mj_span(rest->ptr, slash ? (size_t)(slash - rest->ptr) : rest->len);
    size_t used = first.len + (slash != NULL);
    *rest = mj_span(rest->ptr + used, rest->len - used);
    return first;
}

/* The path of a page: "profile/WHO/post/RKEY". */
static bool read_page(struct mj_span rest, struct mj_span parts[3])
{
    struct mj_span word = part(&rest);
    if (!mj_span_is(word, "profile"))
        return false;
    parts[0] = part(&rest);
    word = part(&rest);
    parts[2] = part(&rest);
    for (size_t i = 0; i < MJ_COUNT(pages); i++)
        if (mj_span_is(word, pages[i].page))
            parts[1] = mj_str(pages[i].collection);
    return parts[0].len && (!word.len || (parts[1].len && parts[2].len)) && !rest.len;
}

static bool read_parts(struct mj_span text, struct mj_span parts[3])
{
    static const char *const hosts[] = {"https://bsky.app/", "http://bsky.app/",
                                        "https://www.bsky.app/"};
    for (size_t i = 0; i < MJ_COUNT(hosts); i++) {
        size_t n = strlen(hosts[i]);
        if (mj_span_starts(text, mj_str(hosts[i]))) {
            for (size_t k = n; k < text.len; k++)
                if (text.ptr[k] == '?' || text.ptr[k] == '#')
                    text.len = k;
            while (text.len > n && text.ptr[text.len - 1] == '/')
                text.len--;
            return read_page(mj_span(text.ptr + n, text.len - n), parts);
        }
    }
    bool uri = mj_span_starts(text, MJ_SPAN("at://"));
    struct mj_span rest = uri ? mj_span(text.ptr + 5, text.len - 5) : text;
    for (size_t i = 0; i < 3; i++)
        parts[i] = part(&rest);
    return !rest.len && parts[0].len && (uri || !parts[1].len) && !parts[1].len == !parts[2].len;
}

int why_target_parse(const char *given, struct why_target *out, struct mj_buf *error)
{
    struct mj_span parts[3] = {0};
    *out = (struct why_target){0};
    if (!read_parts(mj_str(given), parts)) {
        mj_buf_printf(error,
                      "'%.200s' is none of at://DID/COLLECTION/RKEY, https://bsky.app/profile/DID/"
                      "post/RKEY, or a DID",
                      given);
        return MJ_ESYNTAX;
    }
    if (!mj_did_valid(parts[0])) {
        bool handle = mj_handle_valid(parts[0]);
        mj_buf_printf(error, "'%.*s' is %s", (int)(parts[0].len < 200 ? parts[0].len : 200),
                      (const char *)parts[0].ptr,
                      handle ? "a handle, and events carry DIDs: give did:… in its place"
                             : "not a DID");
        return MJ_ESYNTAX;
    }
    if (parts[1].len && !mj_nsid_valid(parts[1])) {
        mj_buf_printf(error, "'%.*s' is not a collection (like app.bsky.feed.post)",
                      (int)(parts[1].len < 200 ? parts[1].len : 200), (const char *)parts[1].ptr);
        return MJ_ESYNTAX;
    }
    if (parts[2].len && !mj_rkey_valid(parts[2])) {
        mj_buf_printf(error, "'%.*s' is not a record key",
                      (int)(parts[2].len < 200 ? parts[2].len : 200), (const char *)parts[2].ptr);
        return MJ_ESYNTAX;
    }
    size_t starts[3];
    mj_buf_puts(&out->text, parts[1].len ? "at://" : "");
    for (size_t i = 0; i < 3; i++) {
        mj_buf_puts(&out->text, i && parts[i].len ? "/" : "");
        starts[i] = out->text.len;
        mj_buf_put(&out->text, parts[i].ptr, parts[i].len);
    }
    mj_buf_cstr(&out->text);
    out->did = mj_span(out->text.ptr + starts[0], parts[0].len);
    out->collection = mj_span(out->text.ptr + starts[1], parts[1].len);
    out->rkey = mj_span(out->text.ptr + starts[2], parts[2].len);
    return 0;
}

int why_target_ask(const char *given, const struct why_lookup *l, struct why_target *out,
                   struct mj_buf *error)
{
    struct mj_span parts[3] = {0};
    MJ_AUTO_BUF text = {0};
    if (!read_parts(mj_str(given), parts) || mj_did_valid(parts[0]) || !mj_handle_valid(parts[0]))
        return why_target_parse(given, out, error);
    mj_buf_puts(&text, parts[1].len ? "at://" : "");
    int err = why_handle_resolve(parts[0], l, &text, error);
    if (err)
        return err;
    for (size_t i = 1; i < 3 && parts[i].len; i++)
        mj_buf_printf(&text, "/%.*s", (int)parts[i].len, (const char *)parts[i].ptr);
    return why_target_parse(mj_buf_cstr(&text), out, error);
}

bool why_target_is(const struct why_target *t, struct mj_from_json *reader, struct mj_span json)
{
    struct mj_event ev;
    size_t at;
    if (mj_event_from_json(reader, json, &ev, &at) || !mj_span_eq(ev.did, t->did))
        return false;
    if (!t->collection.len)
        return ev.kind != MJ_KIND_COMMIT;
    return ev.kind == MJ_KIND_COMMIT && mj_span_eq(ev.collection, t->collection) &&
           mj_span_eq(ev.rkey, t->rkey);
}

void why_target_deinit(struct why_target *t) { mj_buf_deinit(&t->text); }
