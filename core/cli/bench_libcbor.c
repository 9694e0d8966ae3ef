/* The obvious way, as a yardstick: load everything with libcbor, build a cJSON tree, print it.
 * Only ever fed frames of our own captures: cbor_load must not see a stranger's bytes. */
#include <cbor.h>
#include <cjson/cJSON.h>
#include <stdio.h>

#include "atproto/cid.h"
#include "cli/bench.h"

static void base64(struct mj_span in, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t w = 0;
    uint32_t acc = 0;
    int bits = 0;
    for (size_t i = 0; i < in.len; i++) {
        acc = acc << 8 | in.ptr[i];
        for (bits += 8; bits >= 6; bits -= 6)
            out[w++] = digits[acc >> (bits - 6) & 63];
    }
    if (bits)
        out[w++] = digits[acc << (6 - bits) & 63];
    out[w] = '\0';
}

static cJSON *convert(const cbor_item_t *item)
{
    switch (cbor_typeof(item)) {
    case CBOR_TYPE_UINT:
        return cJSON_CreateNumber((double)cbor_get_int(item));
    case CBOR_TYPE_NEGINT:
        return cJSON_CreateNumber(-1.0 - (double)cbor_get_int(item));
    case CBOR_TYPE_STRING: {
        char *text = mj_span_dup(mj_span(cbor_string_handle(item), cbor_string_length(item)));
        cJSON *s = cJSON_CreateString(text);
        free(text);
        return s;
    }
    case CBOR_TYPE_BYTESTRING: {
        struct mj_span s = mj_span(cbor_bytestring_handle(item), cbor_bytestring_length(item));
        char *text = mj_alloc(s.len * 2 + 8);
        base64(s, text);
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "$bytes", text);
        free(text);
        return o;
    }
    case CBOR_TYPE_ARRAY: {
        cJSON *a = cJSON_CreateArray();
        for (size_t i = 0; i < cbor_array_size(item); i++)
            cJSON_AddItemToArray(a, convert(cbor_array_handle(item)[i]));
        return a;
    }
    case CBOR_TYPE_MAP: {
        cJSON *o = cJSON_CreateObject();
        struct cbor_pair *pairs = cbor_map_handle(item);
        for (size_t i = 0; i < cbor_map_size(item); i++) {
            char *key = mj_span_dup(
                mj_span(cbor_string_handle(pairs[i].key), cbor_string_length(pairs[i].key)));
            cJSON_AddItemToObject(o, key, convert(pairs[i].value));
            free(key);
        }
        return o;
    }
    case CBOR_TYPE_TAG: {
        cbor_item_t *inner = cbor_tag_item(item); /* takes a reference */
        char text[MJ_CID_MAX * 2];
        struct mj_span cid =
            mj_span(cbor_bytestring_handle(inner) + 1, cbor_bytestring_length(inner) - 1);
        size_t n = cid.len <= MJ_CID_MAX ? mj_cid_text(cid, text) : 0;
        text[n] = '\0';
        cbor_decref(&inner);
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "$link", text);
        return o;
    }
    case CBOR_TYPE_FLOAT_CTRL:
        if (cbor_is_bool(item))
            return cJSON_CreateBool(cbor_get_bool(item));
        return cJSON_CreateNull();
    }
    return cJSON_CreateNull();
}

static const cbor_item_t *member(const cbor_item_t *map, const char *key)
{
    struct cbor_pair *pairs = cbor_map_handle(map);
    for (size_t i = 0; i < cbor_map_size(map); i++)
        if (mj_span_is(mj_span(cbor_string_handle(pairs[i].key), cbor_string_length(pairs[i].key)),
                       key))
            return pairs[i].value;
    return NULL;
}

static void add_text(cJSON *o, const char *name, const cbor_item_t *item)
{
    if (item && cbor_isa_string(item))
        cJSON_AddItemToObject(o, name, convert(item));
}

static uint64_t leb128(struct mj_span *s)
{
    uint64_t v = 0;
    for (int shift = 0; s->len && shift < 63; shift += 7) {
        uint8_t c = *s->ptr++;
        s->len--;
        v |= (uint64_t)(c & 0x7f) << shift;
        if (!(c & 0x80))
            break;
    }
    return v;
}

/* The block of a 36-byte CID, by walking the CAR as often as asked. */
static struct mj_span block_of(struct mj_span car, struct mj_span cid)
{
    uint64_t n = leb128(&car);
    car = mj_span(car.ptr + n, car.len - n);
    while (car.len) {
        n = leb128(&car);
        if (n > car.len || n < MJ_CID_LEN)
            break;
        if (memcmp(car.ptr, cid.ptr, MJ_CID_LEN) == 0)
            return mj_span(car.ptr + MJ_CID_LEN, n - MJ_CID_LEN);
        car = mj_span(car.ptr + n, car.len - n);
    }
    return mj_span(NULL, 0);
}

static size_t print_event(cJSON *event)
{
    char *text = cJSON_PrintUnformatted(event);
    size_t n = text != NULL;
    cJSON_free(text);
    cJSON_Delete(event);
    return n;
}

static size_t print_op(const cbor_item_t *body, const cbor_item_t *op)
{
    const cbor_item_t *blocks = member(body, "blocks");
    cJSON *event = cJSON_CreateObject(), *commit = cJSON_CreateObject();
    add_text(event, "did", member(body, "repo"));
    cJSON_AddNumberToObject(event, "time_us", 0);
    cJSON_AddStringToObject(event, "kind", "commit");
    add_text(commit, "rev", member(body, "rev"));
    add_text(commit, "operation", member(op, "action"));
    const cbor_item_t *path = member(op, "path");
    char *text = mj_span_dup(mj_span(cbor_string_handle(path), cbor_string_length(path)));
    char *slash = strchr(text, '/');
    if (slash) {
        *slash = '\0';
        cJSON_AddStringToObject(commit, "collection", text);
        cJSON_AddStringToObject(commit, "rkey", slash + 1);
    }
    free(text);
    const cbor_item_t *cid = member(op, "cid");
    if (cid && cbor_isa_tag(cid)) {
        cbor_item_t *inner = cbor_tag_item(cid);
        struct mj_span bytes =
            mj_span(cbor_bytestring_handle(inner) + 1, cbor_bytestring_length(inner) - 1);
        struct mj_span block = block_of(
            mj_span(cbor_bytestring_handle(blocks), cbor_bytestring_length(blocks)), bytes);
        struct cbor_load_result result;
        cbor_item_t *record = cbor_load(block.ptr, block.len, &result);
        if (record) {
            cJSON_AddItemToObject(commit, "record", convert(record));
            cbor_decref(&record);
        }
        char cid_text[MJ_CID_MAX * 2];
        cid_text[mj_cid_text(bytes, cid_text)] = '\0';
        cJSON_AddStringToObject(commit, "cid", cid_text);
        cbor_decref(&inner);
    }
    cJSON_AddItemToObject(event, "commit", commit);
    return print_event(event);
}

size_t mj_bench_libcbor_frame(struct mj_span frame)
{
    struct cbor_load_result result;
    cbor_item_t *head = cbor_load(frame.ptr, frame.len, &result);
    if (!head)
        return 0;
    frame = mj_span(frame.ptr + result.read, frame.len - result.read);
    cbor_item_t *body = cbor_load(frame.ptr, frame.len, &result);
    size_t events = 0;
    const cbor_item_t *type = member(head, "t");
    if (body && type) {
        struct mj_span t = mj_span(cbor_string_handle(type), cbor_string_length(type));
        if (mj_span_is(t, "#commit")) {
            const cbor_item_t *ops = member(body, "ops");
            for (size_t i = 0; i < cbor_array_size(ops); i++)
                events += print_op(body, cbor_array_handle(ops)[i]);
        } else if (mj_span_is(t, "#identity") || mj_span_is(t, "#account")) {
            cJSON *event = cJSON_CreateObject();
            add_text(event, "did", member(body, "did"));
            cJSON_AddItemToObject(event, t.ptr[1] == 'i' ? "identity" : "account", convert(body));
            events += print_event(event);
        }
    }
    if (body)
        cbor_decref(&body);
    cbor_decref(&head);
    return events;
}
