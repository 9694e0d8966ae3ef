/* CBOR as a record: the three ways of judging it agree, what is accepted prints as JSON that
 * another parser reads, and writing it anew gives the same bytes. */
#include <cJSON.h>

#include "atproto/cbor.h"
#include "base/err.h"
#include "event/jetstream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(cond)                                                                              \
    do {                                                                                           \
        if (!(cond))                                                                               \
            abort();                                                                               \
    } while (0)

/* Writes one item anew, head by head. */
static void rewrite(struct mj_cbor *c, struct mj_buf *out)
{
    struct mj_cbor_head h;
    REQUIRE(mj_cbor_next(c, &h) == 0);
    switch (h.type) {
    case MJ_CBOR_INT:
        mj_cbor_put_int(out, h.i);
        break;
    case MJ_CBOR_BYTES:
        mj_cbor_put_bytes(out, h.s);
        break;
    case MJ_CBOR_TEXT:
        mj_cbor_put_text(out, h.s);
        break;
    case MJ_CBOR_ARRAY:
        mj_cbor_put_array(out, h.n);
        for (uint64_t i = 0; i < h.n; i++)
            rewrite(c, out);
        break;
    case MJ_CBOR_MAP:
        mj_cbor_put_map(out, h.n);
        for (uint64_t i = 0; i < 2 * h.n; i++)
            rewrite(c, out);
        break;
    case MJ_CBOR_LINK:
        mj_cbor_put_link(out, h.s);
        break;
    case MJ_CBOR_BOOL:
        mj_cbor_put_bool(out, h.i);
        break;
    case MJ_CBOR_NULL:
        mj_cbor_put_null(out);
        break;
    }
}

static void require_json(struct mj_span json)
{
    const char *end = NULL;
    cJSON *tree = cJSON_ParseWithLengthOpts((const char *)json.ptr, json.len, &end, 0);
    REQUIRE(tree && end == (const char *)json.ptr + json.len);
    cJSON_Delete(tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mj_buf json, copy;
    struct mj_span in = mj_span(data, size);
    int cbor = mj_cbor_check(in), record = mj_record_check(in);

    struct mj_cbor c = mj_cbor(in);
    int skip = mj_cbor_skip(&c);
    REQUIRE(c.p >= data && c.p <= data + size);
    if (cbor == 0) {
        REQUIRE(skip == 0 && c.p == data + size);
        copy.len = 0;
        c = mj_cbor(in);
        rewrite(&c, &copy);
        REQUIRE(mj_span_eq(in, mj_buf_span(&copy)));
    }

    struct mj_event ev = {.kind = MJ_KIND_COMMIT, .op = MJ_OP_CREATE, .record = in};
    json.len = 0;
    mj_buf_puts(&json, "kept");
    int printed = mj_jetstream_encode(&ev, NULL, &json);
    REQUIRE((record == 0) == (printed == 0));
    REQUIRE(json.len >= 4 && memcmp(json.ptr, "kept", 4) == 0);
    if (printed == 0)
        require_json(mj_span(json.ptr + 4, json.len - 4));
    else
        REQUIRE(json.len == 4);

    json.len = 0;
    int any = mj_json_from_cbor(in, &json);
    REQUIRE(record != 0 || any == 0);
    REQUIRE(any != 0 || cbor == 0);
    if (any == 0)
        require_json(mj_buf_span(&json));
    return 0;
}
