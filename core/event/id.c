/* SHA-256 over the fields, each behind its length, so that no two lists of fields read alike. */
#include "event/id.h"

#include "base/err.h"
#include "base/json.h"

struct fields {
    struct mj_span kind, did, collection, rkey, rev, operation, seq, time;
};

#define SHORT 512 /* bytes of all fields, nearly always */

static void hash_list(const struct mj_span *fields, size_t n, uint8_t out[32])
{
    uint8_t room[SHORT], *all = room, *at;
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += 8 + fields[i].len;
    if (bytes > SHORT)
        all = mj_alloc(bytes);
    at = all;
    for (size_t i = 0; i < n; i++) {
        for (int k = 0; k < 8; k++)
            *at++ = (uint8_t)((uint64_t)fields[i].len >> (8 * k));
        if (fields[i].len)
            memcpy(at, fields[i].ptr, fields[i].len);
        at += fields[i].len;
    }
    mj_sha256(mj_span(all, bytes), out);
    if (all != room)
        free(all);
}

static void hash(const struct fields *f, uint8_t out[MJ_EVENT_ID])
{
    uint8_t whole[32];
    const struct mj_span commit[] = {f->kind, f->did, f->collection, f->rkey, f->rev, f->operation};
    const struct mj_span other[] = {f->kind, f->did, f->seq, f->time};
    if (mj_span_is(f->kind, "commit"))
        hash_list(commit, MJ_COUNT(commit), whole);
    else
        hash_list(other, MJ_COUNT(other), whole);
    memcpy(out, whole, MJ_EVENT_ID);
}

void mj_event_id(const struct mj_event *ev, uint8_t out[MJ_EVENT_ID])
{
    struct mj_buf seq = {0};
    mj_buf_printf(&seq, "%lld", (long long)ev->seq);
    const struct fields f = {.kind = mj_str(mj_kind_name(ev->kind)),
                             .did = ev->did,
                             .collection = ev->collection,
                             .rkey = ev->rkey,
                             .rev = ev->rev,
                             .operation = mj_str(mj_op_name(ev->op)),
                             .seq = mj_buf_span(&seq),
                             .time = ev->time};
    hash(&f, out);
    mj_buf_deinit(&seq);
}

/* A text's span: without its quotes where nothing is escaped in it, which is nearly always; else
 * resolved into *room. */
static struct mj_span text(struct mj_span raw, struct mj_buf *room)
{
    struct mj_span plain = mj_span(raw.ptr + 1, raw.len - 2);
    if (!plain.len || !memchr(plain.ptr, '\\', plain.len))
        return plain;
    mj_json_text(raw, room);
    return mj_buf_span(room);
}

static int take(struct mj_span object, struct fields *f, struct mj_buf rooms[8], unsigned depth)
{
    struct mj_span rest = mj_json_inside(object), key, raw;
    for (int type; (type = mj_json_member(&rest, &key, &raw)) >= 0;) {
        static const char *const names[] = {"\"kind\"", "\"did\"", "\"collection\"",
                                            "\"rkey\"", "\"rev\"", "\"operation\"",
                                            "\"seq\"",  "\"time\""};
        struct mj_span *const places[] = {&f->kind, &f->did,       &f->collection, &f->rkey,
                                          &f->rev,  &f->operation, &f->seq,        &f->time};
        bool inner = mj_span_is(key, "\"commit\"") || mj_span_is(key, "\"identity\"") ||
                     mj_span_is(key, "\"account\"");
        if (depth == 0 && inner && type == MJ_JSON_OBJECT) {
            int err = take(raw, f, rooms, 1);
            if (err)
                return err;
        }
        /* The envelope says kind and DID, what is in it the rest. */
        for (unsigned i = depth ? 2 : 0; i < (depth ? 8u : 2u); i++)
            if (mj_span_is(key, names[i])) {
                if (type != (i == 6 ? MJ_JSON_NUMBER : MJ_JSON_STRING))
                    return MJ_EFIELD;
                *places[i] = i == 6 ? raw : text(raw, &rooms[i]);
            }
    }
    return 0;
}

/* Takes a literal off the front. */
static bool eat(struct mj_span *rest, const char *literal)
{
    size_t n = strlen(literal);
    if (rest->len < n || memcmp(rest->ptr, literal, n) != 0)
        return false;
    *rest = mj_span(rest->ptr + n, rest->len - n);
    return true;
}

/* Takes a text up to its closing quote, which goes, too. False when something is escaped in it. */
static bool eat_text(struct mj_span *rest, struct mj_span *out)
{
    const uint8_t *end = rest->len ? memchr(rest->ptr, '"', rest->len) : NULL;
    size_t n = end ? (size_t)(end - rest->ptr) : 0;
    if (!n || memchr(rest->ptr, '\\', n))
        return false;
    *out = mj_span(rest->ptr, n);
    *rest = mj_span(rest->ptr + n + 1, rest->len - n - 1);
    return true;
}

/* A commit as event/jetstream.h writes it: all that is asked stands before the record, which need
 * not be looked at. False for anything else. */
static bool take_commit(struct mj_span json, struct fields *f)
{
    if (!eat(&json, "{\"did\":\"") || !eat_text(&json, &f->did) || !eat(&json, ",\"time_us\":"))
        return false;
    while (json.len && *json.ptr >= '0' && *json.ptr <= '9')
        json = mj_span(json.ptr + 1, json.len - 1);
    f->kind = MJ_SPAN("commit");
    return eat(&json, ",\"kind\":\"commit\",\"commit\":{\"rev\":\"") && eat_text(&json, &f->rev) &&
           eat(&json, ",\"operation\":\"") && eat_text(&json, &f->operation) &&
           eat(&json, ",\"collection\":\"") && eat_text(&json, &f->collection) &&
           eat(&json, ",\"rkey\":\"") && eat_text(&json, &f->rkey);
}

int mj_event_id_json(struct mj_span json, uint8_t out[MJ_EVENT_ID])
{
    struct fields quick = {0}, f = {0};
    if (take_commit(json, &quick)) {
        hash(&quick, out);
        return 0;
    }
    struct mj_buf rooms[8] = {0};
    struct mj_span rest = json, object;
    if (mj_json_take(&rest, &object) != MJ_JSON_OBJECT || rest.len)
        return MJ_ESYNTAX;
    int err = take(object, &f, rooms, 0);
    if (!err && (!f.did.len || !f.kind.len))
        err = MJ_EFIELD;
    if (!err)
        hash(&f, out);
    for (size_t i = 0; i < MJ_COUNT(rooms); i++)
        mj_buf_deinit(&rooms[i]);
    return err;
}

void mj_delivery_id(struct mj_span reader, const uint8_t event[MJ_EVENT_ID],
                    char out[MJ_DELIVERY_LEN + 1])
{
    static const char hex[] = "0123456789abcdef";
    uint8_t whole[32];
    const struct mj_span fields[] = {reader, mj_span(event, MJ_EVENT_ID)};
    hash_list(fields, MJ_COUNT(fields), whole);
    memcpy(out, MJ_DELIVERY_ID, 4);
    for (size_t i = 0; i < 16; i++) {
        out[4 + 2 * i] = hex[whole[i] >> 4];
        out[5 + 2 * i] = hex[whole[i] & 15];
    }
    out[MJ_DELIVERY_LEN] = 0;
}
