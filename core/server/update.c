#include "server/update.h"

#include <strings.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/http.h"
#include "base/json.h"

#define OPTIONS "invalid subscriber options"

/* One pair, decoded. False when v1 would drop it: a bad escape, or a semicolon. */
static bool next_pair(struct mj_span *rest, struct mj_buf *key, struct mj_buf *value, bool *usable)
{
    struct mj_span k, v;
    if (!mj_query_next(rest, &k, &v))
        return false;
    key->len = value->len = 0;
    *usable = !(k.len && memchr(k.ptr, ';', k.len)) && !(v.len && memchr(v.ptr, ';', v.len)) &&
              mj_query_decode(k, key) == 0 && mj_query_decode(v, value) == 0;
    return true;
}

/* v1 kept the limit in 32 bits, so 4294967297 meant one byte; we mean what is written. */
static int64_t size_limit(struct mj_span text)
{
    int64_t v;
    int err = mj_span_i64(text, &v);
    return err || v < 0 ? 0 : v;
}

static int add_all(struct mj_span query, const char *name, struct mj_filter *f,
                   int (*add)(struct mj_filter *, struct mj_span), struct mj_buf *bad)
{
    MJ_AUTO_BUF key = {0};
    MJ_AUTO_BUF value = {0};
    bool usable;
    while (next_pair(&query, &key, &value, &usable)) {
        if (!usable || !mj_span_is(mj_buf_span(&key), name))
            continue;
        int err = add(f, mj_buf_span(&value));
        if (err) {
            mj_buf_put(bad, value.ptr, value.len);
            return err;
        }
    }
    return 0;
}

/* Scalars: the first value of a name counts. */
enum scalar { CURSOR, MAX_SIZE, HELLO, COMPRESS, INFO, HEARTBEAT, SCALARS };

static const char *const scalar_names[SCALARS] = {
    "cursor", "maxMessageSizeBytes", "requireHello", "compress", "info", "heartbeat"};

struct scalars {
    struct mj_buf value[SCALARS];
    bool seen[SCALARS];
};

static void read_scalars(struct mj_span query, struct scalars *s)
{
    MJ_AUTO_BUF key = {0};
    MJ_AUTO_BUF value = {0};
    bool usable;
    while (next_pair(&query, &key, &value, &usable)) {
        enum scalar i = CURSOR;
        while (i < SCALARS && !mj_span_is(mj_buf_span(&key), scalar_names[i]))
            i++;
        if (!usable || i == SCALARS || s->seen[i])
            continue;
        s->seen[i] = true;
        mj_buf_put(&s->value[i], value.ptr, value.len);
    }
}

static bool is_true(const struct scalars *s, enum scalar i)
{
    return mj_span_is(mj_buf_span(&s->value[i]), "true");
}

/* Our own parameters: nothing here can refuse what v1 clients send. */
static int read_extensions(struct mj_span query, const struct scalars *s,
                           struct mj_subscribe_query *out, struct mj_buf *error)
{
    MJ_AUTO_BUF bad = {0};
    if (add_all(query, "kinds", out->filter, mj_filter_add_kind, &bad)) {
        mj_buf_puts(error, OPTIONS ": unknown kind: ");
        mj_buf_put(error, bad.ptr, bad.len);
        mj_buf_puts(error, "; there are commit, identity and account");
        return MJ_EINVAL;
    }
    if (add_all(query, "operations", out->filter, mj_filter_add_operation, &bad)) {
        mj_buf_puts(error, OPTIONS ": unknown operation: ");
        mj_buf_put(error, bad.ptr, bad.len);
        mj_buf_puts(error, "; there are create, update and delete");
        return MJ_EINVAL;
    }
    if (s->seen[HEARTBEAT]) {
        struct mj_span text = mj_buf_span(&s->value[HEARTBEAT]);
        if (mj_duration_us(text, &out->heartbeat_us) || out->heartbeat_us < MJ_HEARTBEAT_MIN_US ||
            out->heartbeat_us > MJ_HEARTBEAT_MAX_US) {
            mj_buf_puts(error, OPTIONS ": invalid heartbeat: ");
            mj_buf_put(error, text.ptr, text.len);
            mj_buf_puts(error, "; it is 1s to 1h, such as 30s or 5m");
            return MJ_EINVAL;
        }
    }
    out->info = is_true(s, INFO) || out->heartbeat_us;
    return 0;
}

/* v1 has no words of its own for a bad DID. */
static void tell_bad_did(struct mj_sets *sets, int err, struct mj_span culprit, struct mj_buf *out)
{
    if (err != MJ_ENOENT)
        return;
    mj_buf_puts(out, ": no such set: ");
    mj_buf_put(out, culprit.ptr, culprit.len);
    mj_buf_puts(out, "; there are: ");
    mj_sets_names(sets, out);
}

int mj_subscribe_query_parse(struct mj_span query, struct mj_sets *sets,
                             struct mj_subscribe_query *out, struct mj_buf *error)
{
    struct scalars s = {0};
    MJ_AUTO_BUF bad = {0};
    int err = MJ_EINVAL, added;
    *out = (struct mj_subscribe_query){.filter = mj_filter_new(sets)};
    read_scalars(query, &s);

    struct mj_span cursor = mj_buf_span(&s.value[CURSOR]);
    if (cursor.len) {
        if (mj_span_i64(cursor, &out->cursor)) {
            mj_buf_puts(error, "invalid cursor: ");
            mj_buf_put(error, cursor.ptr, cursor.len);
            goto done;
        }
        out->has_cursor = true;
    }
    const char *many;
    if (add_all(query, "wantedCollections", out->filter, mj_filter_add_collection, &bad)) {
        mj_buf_puts(error, OPTIONS ": invalid collection: ");
        mj_buf_put(error, bad.ptr, bad.len);
        goto done;
    }
    if ((many = mj_filter_check_collections(out->filter))) {
        mj_buf_printf(error, OPTIONS ": %s", many);
        goto done;
    }
    if ((added = add_all(query, "wantedDids", out->filter, mj_filter_add_did, &bad))) {
        mj_buf_puts(error, OPTIONS);
        tell_bad_did(sets, added, mj_buf_span(&bad), error);
        goto done;
    }
    if ((many = mj_filter_check_dids(out->filter))) {
        mj_buf_printf(error, OPTIONS ": %s", many);
        goto done;
    }
    mj_filter_set_max_size(out->filter, size_limit(mj_buf_span(&s.value[MAX_SIZE])));
    out->require_hello = is_true(&s, HELLO);
    out->compress = is_true(&s, COMPRESS);
    err = read_extensions(query, &s, out, error);

done:
    if (err) {
        mj_filter_free(out->filter);
        out->filter = NULL;
    }
    for (size_t i = 0; i < SCALARS; i++)
        mj_buf_deinit(&s.value[i]);
    return err;
}

static bool key_is(struct mj_span raw, const char *name)
{
    MJ_AUTO_BUF text = {0};
    mj_json_text(raw, &text);
    return text.len == strlen(name) && !strncasecmp((const char *)text.ptr, name, text.len);
}

static const char *const type_names[] = {"null",     "a boolean", "a number",
                                         "a string", "an array",  "an object"};

/* Last value of the key in an object, any case; its type, or MJ_ENOENT. */
static int member(struct mj_span object, const char *name, struct mj_span *value)
{
    struct mj_span rest = mj_json_inside(object), key, raw;
    int type, found = MJ_ENOENT;
    while ((type = mj_json_member(&rest, &key, &raw)) >= 0)
        if (key_is(key, name)) {
            found = type;
            *value = raw;
        }
    return found;
}

#define BAD_UPDATE  "failed to unmarshal subscriber options update: "
#define BAD_MESSAGE "failed to unmarshal subscriber sourced message: "
#define BAD_OPTIONS "failed to parse subscriber options: " OPTIONS

/* True when the member is absent, null, or an array of strings and nulls. *array is empty unless it
 * is an array. */
static bool string_array(struct mj_span payload, const char *name, struct mj_span *array,
                         struct mj_buf *reason)
{
    struct mj_span raw, rest;
    int type = member(payload, name, array);
    if (type != MJ_JSON_ARRAY)
        *array = MJ_SPAN("[]");
    if (type == MJ_ENOENT || type == MJ_JSON_NULL)
        return true;
    if (type == MJ_JSON_ARRAY) {
        rest = mj_json_inside(*array);
        do {
            type = mj_json_element(&rest, &raw);
        } while (type == MJ_JSON_STRING || type == MJ_JSON_NULL);
        if (type == MJ_ENOENT)
            return true;
    }
    mj_buf_printf(reason, BAD_UPDATE "%s must be an array of strings", name);
    return false;
}

/* Gives every string of the array to `add`; on an error *text holds the culprit. A null is the
 * empty string, as in v1, and no more valid. */
static int add_strings(struct mj_span array, struct mj_filter *f,
                       int (*add)(struct mj_filter *, struct mj_span), struct mj_buf *text)
{
    struct mj_span rest = mj_json_inside(array), raw;
    int type, err = 0;
    while (!err && (type = mj_json_element(&rest, &raw)) >= 0) {
        text->len = 0;
        if (type == MJ_JSON_STRING)
            mj_json_text(raw, text);
        err = add(f, mj_buf_span(text));
    }
    return err;
}

/* Types are checked before names, because v1 unmarshals the whole payload first. */
static int apply(struct mj_span payload, struct mj_sets *sets, struct mj_filter *f,
                 struct mj_buf *reason)
{
    MJ_AUTO_BUF text = {0};
    struct mj_span collections, dids, kinds, operations, raw;
    if (!string_array(payload, "wantedCollections", &collections, reason) ||
        !string_array(payload, "wantedDids", &dids, reason) ||
        !string_array(payload, "kinds", &kinds, reason) ||
        !string_array(payload, "operations", &operations, reason))
        return MJ_EINVAL;
    int64_t size = 0;
    int type = member(payload, "maxMessageSizeBytes", &raw);
    if (type != MJ_ENOENT && type != MJ_JSON_NULL &&
        (type != MJ_JSON_NUMBER || mj_span_i64(raw, &size))) {
        mj_buf_puts(reason, BAD_UPDATE "maxMessageSizeBytes must be an integer");
        return MJ_EINVAL;
    }
    const char *many;
    int err;
    if (add_strings(collections, f, mj_filter_add_collection, &text)) {
        mj_buf_puts(reason, BAD_OPTIONS ": invalid collection: ");
        mj_buf_put(reason, text.ptr, text.len);
    } else if ((many = mj_filter_check_collections(f))) {
        mj_buf_printf(reason, BAD_OPTIONS ": %s", many);
    } else if ((err = add_strings(dids, f, mj_filter_add_did, &text))) {
        mj_buf_puts(reason, BAD_OPTIONS);
        tell_bad_did(sets, err, mj_buf_span(&text), reason);
    } else if ((many = mj_filter_check_dids(f))) {
        mj_buf_printf(reason, BAD_OPTIONS ": %s", many);
    } else if (add_strings(kinds, f, mj_filter_add_kind, &text)) {
        mj_buf_puts(reason, BAD_OPTIONS ": unknown kind: ");
        mj_buf_put(reason, text.ptr, text.len);
    } else if (add_strings(operations, f, mj_filter_add_operation, &text)) {
        mj_buf_puts(reason, BAD_OPTIONS ": unknown operation: ");
        mj_buf_put(reason, text.ptr, text.len);
    } else {
        mj_filter_set_max_size(f, size);
        return 1;
    }
    return MJ_EINVAL;
}

int mj_client_message_parse(struct mj_span text, struct mj_sets *sets, struct mj_filter **out,
                            struct mj_buf *reason)
{
    struct mj_span rest = text, message, name, payload;
    int type = mj_json_take(&rest, &message);
    if (type < 0 || rest.len) {
        mj_buf_printf(reason, BAD_MESSAGE "%s",
                      type == MJ_EDEPTH ? "nested too deeply" : "not JSON");
        return MJ_EINVAL;
    }
    if (type == MJ_JSON_NULL)
        return 0; /* to v1 a message without a type, so of an unknown one */
    if (type != MJ_JSON_OBJECT) {
        mj_buf_printf(reason, BAD_MESSAGE "not an object but %s", type_names[type]);
        return MJ_EINVAL;
    }
    type = member(message, "type", &name);
    if (type == MJ_ENOENT || type == MJ_JSON_NULL)
        return 0;
    if (type != MJ_JSON_STRING) {
        mj_buf_printf(reason, BAD_MESSAGE "type is %s, not a string", type_names[type]);
        return MJ_EINVAL;
    }
    MJ_AUTO_BUF word = {0};
    mj_json_text(name, &word);
    if (!mj_span_is(mj_buf_span(&word), "options_update"))
        return 0;
    type = member(message, "payload", &payload);
    if (type == MJ_ENOENT) {
        mj_buf_puts(reason, BAD_UPDATE "payload is missing");
        return MJ_EINVAL;
    }
    if (type == MJ_JSON_NULL)
        payload = MJ_SPAN("{}"); /* all filters off */
    else if (type != MJ_JSON_OBJECT) {
        mj_buf_printf(reason, BAD_UPDATE "payload is %s, not an object", type_names[type]);
        return MJ_EINVAL;
    }
    struct mj_filter *f = mj_filter_new(sets);
    int r = apply(payload, sets, f, reason);
    if (r == 1)
        *out = f;
    else
        mj_filter_free(f);
    return r;
}

/* v1 compared cursors with 16-digit keys as text, so a cursor in seconds (10 digits) or
 * milliseconds (13) works as if filled up with zeros. */
static int64_t scale(int64_t cursor, unsigned *digits)
{
    unsigned n = 1;
    for (int64_t v = cursor; v >= 10; v /= 10)
        n++;
    *digits = n;
    for (; n < 16; n++)
        cursor *= 10;
    return cursor;
}

uint64_t mj_cursor_position(const struct mj_view *v, int64_t cursor, int64_t now_us)
{
    uint64_t oldest = v->floor < v->end ? v->floor : v->end;
    if (cursor > now_us && cursor > mj_view_newest(v))
        return v->end;
    if (cursor <= 0)
        return oldest;
    unsigned digits;
    int64_t time_us = scale(cursor, &digits);
    uint64_t seq = mj_view_find(v, time_us);
    /* A small number is no time at all: `1`, `5` and `99` all mean "from the beginning". */
    return seq == v->end && digits < 10 ? oldest : seq;
}
