/* What strangers send to the server: a query, a client message, plain JSON. Parsing never reads
 * outside the input or keeps more than the input is worth; every error has words; JSON we accept
 * is JSON to cJSON, too. */
#include <cJSON.h>

#include "base/err.h"
#include "base/json.h"
#include "server/update.h"

static struct mj_sets *sets; /* one set, "vips" */

static void ask(struct mj_filter *f)
{
    const struct mj_span json[] = {
        MJ_SPAN(""), MJ_SPAN("{\"did\":\"did:web:a.example\",\"time_us\":1,\"kind\":\"commit\","
                             "\"commit\":{\"collection\":\"com.example.a\"}}")};
    for (unsigned i = 0; i < 16; i++) {
        struct mj_entry e = {.collection = MJ_COLLECTION_OTHER,
                             .kind = (uint8_t)(i / 4),
                             .op = (uint8_t)(i % 4),
                             .streams = 1};
        uint64_t bits[2] = {0};
        bool may = mj_filter_may(f, NULL, &e);
        mj_filter_scan(f, NULL, 0, &e, 1, bits, 64);
        if (bits[0] || bits[1] != may)
            abort();
        mj_filter_confirm(f, &e, json[i % 2]);
    }
    if (!mj_filter_equal(f, f))
        abort();
}

static void as_query(struct mj_span in)
{
    struct mj_subscribe_query q;
    MJ_AUTO_BUF error = {0};
    if (mj_subscribe_query_parse(in, sets, &q, &error)) {
        if (!error.len || q.filter)
            abort();
        return;
    }
    if (error.len || mj_filter_size(q.filter) > 8192 + 64 * in.len)
        abort();
    if (q.heartbeat_us &&
        (!q.info || q.heartbeat_us < MJ_HEARTBEAT_MIN_US || q.heartbeat_us > MJ_HEARTBEAT_MAX_US))
        abort();
    ask(q.filter);
    mj_filter_free(q.filter);
}

static void as_message(struct mj_span in)
{
    struct mj_filter *f = NULL;
    MJ_AUTO_BUF reason = {0};
    int r = mj_client_message_parse(in, sets, &f, &reason);
    if ((r == 1) != (f != NULL) || (r < 0) != (reason.len > 0))
        abort();
    if (f)
        ask(f);
    mj_filter_free(f);
}

static void walk(struct mj_span raw, int type)
{
    struct mj_span rest, key, value;
    MJ_AUTO_BUF text = {0};
    if (type == MJ_JSON_STRING) {
        mj_json_text(raw, &text);
        if (text.len > raw.len)
            abort();
    }
    if (type != MJ_JSON_ARRAY && type != MJ_JSON_OBJECT)
        return;
    rest = mj_json_inside(raw);
    while ((type == MJ_JSON_ARRAY ? mj_json_element(&rest, &value)
                                  : mj_json_member(&rest, &key, &value)) >= 0)
        if (value.ptr < raw.ptr || value.ptr + value.len > raw.ptr + raw.len)
            abort();
    if (rest.len != 1) /* nothing but the closing bracket is left */
        abort();
}

static void as_json(struct mj_span in)
{
    struct mj_span rest = in, raw;
    int type = mj_json_take(&rest, &raw);
    if (type < 0)
        return;
    walk(raw, type);
    /* cJSON refuses lone surrogates, which we replace; it takes other liberties, but on input that
     * is JSON by our rules it must agree. */
    if (rest.len || memmem(in.ptr, in.len, "\\u", 2))
        return;
    cJSON *tree = cJSON_ParseWithLength((const char *)in.ptr, in.len);
    if (!tree)
        abort();
    bool same = (type == MJ_JSON_OBJECT) == !!cJSON_IsObject(tree) &&
                (type == MJ_JSON_NUMBER) == !!cJSON_IsNumber(tree);
    cJSON_Delete(tree);
    if (!same)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (!sets) {
        sets = mj_sets_new(NULL, NULL, 0);
        struct mj_set *vips = mj_sets_make(sets, "vips");
        mj_set_add(vips, MJ_SPAN("did:web:a.example"));
        mj_sets_declare(sets, vips);
        mj_set_unref(vips);
    }
    as_query(mj_span(data, n));
    as_message(mj_span(data, n));
    as_json(mj_span(data, n));
    return 0;
}
