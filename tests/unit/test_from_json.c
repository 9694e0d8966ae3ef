/* Events from JSON: whatever the printer prints comes back, byte for byte, and nothing that breaks
 * a rule gets in. */
#include "cmocka_all.h"

#include "atproto/cbor.h"
#include "base/err.h"
#include "event/decode.h"
#include "event/from_json.h"
#include "event/jetstream.h"
#include "frames.h"

#define CID_TEXT "bafyreiaaaebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4"
#define RAW_TEXT "bafkreiaaaebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4"
#define HEAD                                                                                       \
    "{\"did\":\"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa\",\"time_us\":1767323045678000,\"kind\":"         \
    "\"commit\","                                                                                  \
    "\"commit\":{\"rev\":\"3jzfcijpj2z2a\",\"operation\":\"create\",\"collection\":"               \
    "\"app.example.post\",\"rkey\":\"self\",\"record\":"

/* Reads a heap copy of exactly the bytes, so that reading past them is seen. */
static int read_event(struct mj_from_json *r, struct mj_span json, struct mj_event *ev, size_t *at,
                      uint8_t **copy)
{
    *copy = malloc(json.len ? json.len : 1);
    if (json.len)
        memcpy(*copy, json.ptr, json.len);
    return mj_event_from_json(r, mj_span(*copy, json.len), ev, at);
}

static void same_json(struct mj_from_json *r, struct mj_span json)
{
    struct mj_event ev;
    size_t at = 0;
    uint8_t *copy;
    int err = read_event(r, json, &ev, &at, &copy);
    if (err)
        fail_msg("%s at %zu of\n%.*s", mj_strerror(err), at, (int)json.len, (const char *)json.ptr);
    MJ_AUTO_BUF again = {0};
    assert_int_equal(mj_jetstream_encode(&ev, NULL, &again), 0);
    if (!mj_span_eq(mj_buf_span(&again), json))
        fail_msg("\n%.*s\n%s", (int)json.len, (const char *)json.ptr, mj_buf_cstr(&again));
    if (ev.record.len)
        assert_int_equal(mj_record_check(ev.record), 0);
    free(copy);
}

struct corpus {
    struct mj_from_json *r;
    unsigned events, records;
};

/* Frame to event to JSON to event: every field as it was, and the record's hash still its CID. */
static int there_and_back(void *ctx, struct mj_event *ev)
{
    struct corpus *c = ctx;
    struct mj_event got;
    size_t at;
    uint8_t *copy;
    MJ_AUTO_BUF json = {0};
    ev->time_us = 1767323045678000 + c->events++;
    assert_int_equal(mj_jetstream_encode(ev, NULL, &json), 0);
    assert_int_equal(read_event(c->r, mj_buf_span(&json), &got, &at, &copy), 0);
    assert_int_equal(got.kind, ev->kind);
    assert_int_equal(got.op, ev->op);
    assert_int_equal(got.time_us, ev->time_us);
    assert_true(mj_span_eq(got.did, ev->did));
    assert_true(mj_span_eq(got.collection, ev->collection));
    assert_true(mj_span_eq(got.rkey, ev->rkey));
    assert_true(mj_span_eq(got.rev, ev->rev));
    assert_true(mj_span_eq(got.cid, ev->cid));
    assert_true(mj_span_eq(got.record, ev->record));
    assert_true(mj_span_eq(got.handle, ev->handle));
    assert_true(mj_span_eq(got.status, ev->status));
    assert_true(got.plain && got.record_checked);
    if (ev->kind != MJ_KIND_COMMIT) {
        assert_int_equal(got.seq, ev->seq);
        assert_true(mj_span_eq(got.time, ev->time));
        assert_true(ev->kind == MJ_KIND_IDENTITY || got.active == ev->active);
    }
    if (got.record.len) {
        assert_true(mj_cid_matches(got.cid, got.record));
        c->records++;
    }
    MJ_AUTO_BUF again = {0};
    assert_int_equal(mj_jetstream_encode(&got, NULL, &again), 0);
    assert_true(mj_span_eq(mj_buf_span(&again), mj_buf_span(&json)));
    free(copy);
    return 0;
}

static void test_corpus(void **state)
{
    (void)state;
    MJ_AUTO_BUF frames = {0}, expected = {0};
    if (!mj_test_corpus(&frames) || !mj_test_shared("corpus/expected_v1.jsonl", &expected))
        skip();
    struct mj_decoder *d = mj_decoder_new();
    struct corpus c = {.r = mj_from_json_new()};
    struct mj_span rest = mj_buf_span(&frames), frame, line;
    struct mj_frame out;
    while (mj_test_frame(&rest, &frame))
        mj_decode(d, frame, &out, there_and_back, &c);
    assert_true(c.events >= 62 && c.records >= 50);
    rest = mj_buf_span(&expected);
    while (mj_test_line(&rest, &line))
        same_json(c.r, line);
    print_message("corpus: %u events, %u records\n", c.events, c.records);
    mj_from_json_free(c.r);
    mj_decoder_free(d);
}

/* JSON as the printer writes it, and the CBOR behind it. */
static void test_values(void **state)
{
    (void)state;
    static const struct {
        const char *json, *hex;
    } cases[] = {
        {"{}", "a0"},
        {"{\"a\":[]}", "a1 6161 80"},
        {"{\"aa\":3,\"b\":1,\"c\":2}", "a3 6162 01 6163 02 626161 03"},
        {"{\"a \":2,\"a!\":3,\"a\":1}", "a3 6161 01 626120 02 626121 03"},
        {"{\"aaaaaaaaaaa\":2,\"aaaaaaaaab\":1}",
         "a2 6a 61616161616161616162 01 6b 6161616161616161616161 02"},
        {"{\"abcdefgh1\":1,\"abcdefgh2\":{\"\":null}}",
         "a2 69 616263646566676831 01 69 616263646566676832 a1 60 f6"},
        {"{\"a\":[0,-1,23,24,255,256,65535,65536,4294967295,4294967296,9223372036854775807,"
         "-9223372036854775808]}",
         "a1 6161 8c 00 20 17 1818 18ff 190100 19ffff 1a00010000 1affffffff 1b0000000100000000 "
         "1b7fffffffffffffff 3b7fffffffffffffff"},
        {"{\"a\":[true,false,null]}", "a1 6161 83 f5 f4 f6"},
        {"{\"a\":\"\\u0000\\u0008\\t\\n\\\"\\\\\\u0026\\u2028\xf0\x9f\x98\x80\"}",
         "a1 6161 6e 00 08 09 0a 22 5c 26 e280a8 f09f9880"},
        {"{\"a\":{\"$link\":\"" CID_TEXT "\"}}",
         "a1 6161 d82a582500 01711220 "
         "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"},
        {"{\"a\":[{\"$bytes\":\"\"},{\"$bytes\":\"AQ\"},{\"$bytes\":\"AQI\"},{\"$bytes\":"
         "\"AQID\"},{\"$bytes\":\"+/+/Pg\"}]}",
         "a1 6161 85 40 4101 420102 43010203 44fbffbf3e"},
        /* No byte string is printed with padding or spare bits: these were maps. */
        {"{\"a\":[{\"$bytes\":\"AQ==\"},{\"$bytes\":\"AR\"}]}",
         "a1 6161 82 a1 66 246279746573 64 41513d3d a1 66 246279746573 62 4152"},
        {"{\"b\":{\"$type\":\"blob\",\"ref\":{\"$link\":\"" RAW_TEXT
         "\"},\"mimeType\":\"image/png\",\"size\":12345}}",
         "a1 6162 a4 63726566 d82a582500 01551220 "
         "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 6473697a65 193039 65 "
         "2474797065 64 626c6f62 68 6d696d6554797065 69 696d6167652f706e67"},
    };
    struct mj_from_json *r = mj_from_json_new();
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        MJ_AUTO_BUF json = {0}, want = {0};
        struct mj_span cbor;
        size_t at = 0;
        mj_test_hex(cases[i].hex, &want);
        int err = mj_cbor_from_json(r, mj_str(cases[i].json), &cbor, &at);
        if (err)
            fail_msg("%s: %s at %zu", cases[i].json, mj_strerror(err), at);
        if (!mj_span_eq(cbor, mj_buf_span(&want))) {
            for (size_t k = 0; k < cbor.len; k++)
                mj_buf_printf(&json, "%02x", cbor.ptr[k]);
            fail_msg("%s: %s", cases[i].json, mj_buf_cstr(&json));
        }
        mj_buf_printf(&json, HEAD "%s}}", cases[i].json);
        same_json(r, mj_buf_span(&json));
    }
    mj_from_json_free(r);
}

/* What another program may write and we do not: the same event. */
static void test_spelling(void **state)
{
    (void)state;
    struct mj_from_json *r = mj_from_json_new();
    static const char odd[] =
        " {\"kind\" : \"c\\u006fmmit\",\n\"commit\":{\"cid\":\"" CID_TEXT
        "\",\"record\":{ \"text\" : \"\\ud83d\\ude00\\/\" , \"$type\":\"app.example.post\" },"
        "\"x\":[{\"y\":1.5}],\"rkey\":\"s\\u0065lf\",\"collection\":\"app.example.\\u0070ost\","
        "\"operation\":\"create\",\"rev\":\"3jzfcijpj2z2a\"},\"time_us\":1767323045678000,"
        "\"more\":null,\"did\":\"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa\"}\r\n";
    struct mj_event ev;
    size_t at = 0;
    uint8_t *copy;
    assert_int_equal(read_event(r, mj_str(odd), &ev, &at, &copy), 0);
    MJ_AUTO_BUF json = {0};
    assert_int_equal(mj_jetstream_encode(&ev, NULL, &json), 0);
    assert_string_equal(mj_buf_cstr(&json),
                        HEAD "{\"$type\":\"app.example.post\",\"text\":\"\xf0\x9f\x98\x80/\"},"
                             "\"cid\":\"" CID_TEXT "\"}}");
    assert_true(mj_span_is(ev.time, "2026-01-02T03:04:05.678000Z"));
    free(copy);
    mj_from_json_free(r);
}

/* More entries than are sorted in place, and heads longer than a byte. */
static void test_large(void **state)
{
    (void)state;
    struct mj_from_json *r = mj_from_json_new();
    static const unsigned sizes[] = {23, 24, 32, 33, 255, 256, 5000, 70000};
    for (size_t s = 0; s < MJ_COUNT(sizes); s++) {
        MJ_AUTO_BUF json = {0};
        mj_buf_puts(&json, HEAD "{\"a\":[");
        for (unsigned i = 0; i < sizes[s]; i++)
            mj_buf_printf(&json, "%s\"\xc3\xa9%u\"", i ? "," : "", i);
        mj_buf_puts(&json, "],\"m\":{");
        for (unsigned i = 0; i < sizes[s]; i++)
            mj_buf_printf(&json, "%s\"k%06u\":{\"x\":%u}", i ? "," : "", i, i);
        mj_buf_puts(&json, "},\"t\":\"");
        for (unsigned i = 0; i < sizes[s]; i++)
            mj_buf_puts(&json, i % 100 ? "t" : "\\u0001");
        mj_buf_puts(&json, "\"}}}");
        same_json(r, mj_buf_span(&json));
        /* Keys of two lengths, so that one order is not the other. */
        json.len = 0;
        mj_buf_puts(&json, "{");
        for (unsigned i = 0; i < sizes[s]; i++)
            mj_buf_printf(&json, "%s\"%u\":%u", i ? "," : "", sizes[s] - i, i);
        mj_buf_puts(&json, "}");
        struct mj_span cbor;
        size_t at;
        assert_int_equal(mj_cbor_from_json(r, mj_buf_span(&json), &cbor, &at), 0);
        assert_int_equal(mj_cbor_check(cbor), 0);
    }
    mj_from_json_free(r);
}

static void test_depth(void **state)
{
    (void)state;
    struct mj_from_json *r = mj_from_json_new();
    for (unsigned depth = 126; depth < 131; depth++) {
        static const char *const open[] = {"[", "{\"a\":"}, *const close[] = {"]", "}"};
        for (unsigned k = 0; k < 2; k++) {
            MJ_AUTO_BUF json = {0};
            for (unsigned i = 0; i < depth; i++)
                mj_buf_puts(&json, open[k]);
            mj_buf_puts(&json, "{\"$bytes\":\"AQ\"}"); /* a byte string is no level */
            for (unsigned i = 0; i < depth; i++)
                mj_buf_puts(&json, close[k]);
            struct mj_span cbor;
            size_t at;
            int err = mj_cbor_from_json(r, mj_buf_span(&json), &cbor, &at);
            assert_int_equal(err, depth <= MJ_CBOR_DEPTH_MAX ? 0 : MJ_EDEPTH);
            if (!err)
                assert_int_equal(mj_cbor_check(cbor), 0);
        }
    }
    /* What looks like one level more is a link, or too deep. */
    static const struct {
        const char *json;
        int err;
    } last[] = {{"{\"a\":1}", MJ_EDEPTH},
                {"{}", MJ_EDEPTH},
                {"[]", MJ_EDEPTH},
                {"{\"$link\":\"" CID_TEXT "\"}", 0}};
    for (size_t k = 0; k < MJ_COUNT(last); k++) {
        MJ_AUTO_BUF json = {0};
        struct mj_span cbor;
        size_t at;
        for (unsigned i = 0; i < MJ_CBOR_DEPTH_MAX; i++)
            mj_buf_puts(&json, "[");
        mj_buf_puts(&json, last[k].json);
        for (unsigned i = 0; i < MJ_CBOR_DEPTH_MAX; i++)
            mj_buf_puts(&json, "]");
        assert_int_equal(mj_cbor_from_json(r, mj_buf_span(&json), &cbor, &at), last[k].err);
    }
    MJ_AUTO_BUF deep = {0};
    for (unsigned i = 0; i < 1000000; i++)
        mj_buf_puts(&deep, "[");
    struct mj_span cbor;
    size_t at;
    assert_int_equal(mj_cbor_from_json(r, mj_buf_span(&deep), &cbor, &at), MJ_EDEPTH);
    mj_from_json_free(r);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *record;
        int err;
        int at; /* into the record; -1: do not look */
    } records[] = {
        {"{\"a\":1.5}", MJ_EFLOAT, 5},
        {"{\"a\":1e3}", MJ_EFLOAT, 5},
        {"{\"a\":-0}", MJ_EFLOAT, 5},
        {"{\"a\":01}", MJ_ESYNTAX, 5},
        {"{\"a\":+1}", MJ_ESYNTAX, 5},
        {"{\"a\":-}", MJ_ESYNTAX, 5},
        {"{\"a\":9223372036854775808}", MJ_EINT, 5},
        {"{\"a\":-9223372036854775809}", MJ_EINT, 5},
        {"{\"a\":99999999999999999999999}", MJ_EINT, 5},
        {"{\"a\":nul}", MJ_ESYNTAX, 5},
        {"{\"a\":1,}", MJ_ESYNTAX, 7},
        {"{\"a\":1 \"b\":2}", MJ_ESYNTAX, 7},
        {"{\"a\" 1}", MJ_ESYNTAX, 5},
        {"{a:1}", MJ_ESYNTAX, 1},
        {"{\"a\":[1,]}", MJ_ESYNTAX, 8},
        {"{\"a\":[1", MJ_ESYNTAX, 7},
        {"{\"a\":\"\\x\"}", MJ_ESYNTAX, 6},
        {"{\"a\":\"\\u12g4\"}", MJ_ESYNTAX, 6},
        {"{\"a\":\"\\ud800\"}", MJ_EUTF8, 6},
        {"{\"a\":\"\\udc00\\ud800\"}", MJ_EUTF8, 6},
        {"{\"a\":\"\\udc00\\udc00\"}", MJ_EUTF8, 6},
        {"{\"a\":\"\\ud800\\u0041\"}", MJ_EUTF8, 6},
        {"{\"a\":\"\x01\"}", MJ_ESYNTAX, 6},
        {"{\"a\":\"x\xc3\"}", MJ_EUTF8, 7},
        {"{\"a\":\"\xed\xa0\x80\"}", MJ_EUTF8, 6},
        {"{\"a\":\"", MJ_ESYNTAX, 6},
        {"{\"b\":1,\"a\":2,\"b\":3}", MJ_EKEYDUP, 0},
        {"{\"b\":1,\"\\u0062\":3}", MJ_EKEYDUP, 0},
        {"{\"abcdefgh\":1,\"abcdefgh\":3}", MJ_EKEYDUP, 0},
        {"[]", MJ_ETYPE, 0},
        {"null", MJ_ETYPE, 0},
        {"{\"$link\":\"" CID_TEXT "\"}", MJ_ERECORD, 0},
        {"{\"$bytes\":\"AQ\"}", MJ_ERECORD, 0},
        {"{\"a\":{\"$link\":\"x\"}}", MJ_ERECORD, 5},
        {"{\"a\":{\"$link\":1}}", MJ_ERECORD, 5},
        {"{\"a\":{\"$link\":\"" CID_TEXT "\",\"b\":1}}", MJ_ERECORD, 5},
        {"{\"a\":{\"$bytes\":\"A\"}}", MJ_ERECORD, 5},
        {"{\"a\":{\"$bytes\":\"A*\"}}", MJ_ERECORD, 5},
        {"{\"a\":{\"$type\":\"\"}}", MJ_ERECORD, 5},
        {"{\"a\":{\"$type\":\"blob\"}}", MJ_ERECORD, 5},
        {"{\"$type\":\"blob\",\"ref\":{\"$link\":\"" RAW_TEXT
         "\"},\"mimeType\":\"a/b\",\"size\":-1}",
         MJ_ERECORD, 0},
        {"{\"$type\":\"blob\",\"ref\":{\"$link\":\"" RAW_TEXT
         "\"},\"mimeType\":\"a/b\",\"size\":1}",
         MJ_ERECORD, 0},
    };
    struct mj_from_json *r = mj_from_json_new();
    struct mj_event ev;
    size_t at;
    uint8_t *copy;
    for (size_t i = 0; i < MJ_COUNT(records); i++) {
        MJ_AUTO_BUF json = {0};
        mj_buf_printf(&json, HEAD "%s", records[i].record);
        size_t n = strlen(records[i].record);
        if (records[i].record[n - 1] == '}')
            mj_buf_puts(&json, "}}");
        int err = read_event(r, mj_buf_span(&json), &ev, &at, &copy);
        free(copy);
        if (err != records[i].err || (int)(at - sizeof HEAD + 1) != records[i].at)
            fail_msg("%s: %s at %d", records[i].record, mj_errlabel(err),
                     (int)(at - sizeof HEAD + 1));
    }
    static const struct {
        const char *from, *to; /* of a good event */
        int err;
    } events[] = {
        {"did:plc", "did", MJ_EDID},
        {"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "nobody", MJ_EDID},
        {"\"did\"", "\"didx\"", MJ_EFIELD},
        {"1767323045678000", "-5", MJ_EFIELD},
        {"1767323045678000", "\"5\"", MJ_ETYPE},
        {"1767323045678000", "9000000000000000000", MJ_EFIELD},
        {"\"kind\":\"commit\"", "\"kind\":\"identity\"", MJ_EFIELD},
        {"\"kind\":\"commit\"", "\"kind\":\"x\"", MJ_EFIELD},
        {"\"kind\":\"commit\"", "\"kind\":7", MJ_ETYPE},
        {"3jzfcijpj2z2a", "", MJ_EREV},
        {"create", "move", MJ_EACTION},
        {"create", "", MJ_EACTION},
        {"create", "delete", MJ_EFIELD}, /* with a record */
        {"app.example.post", "post", MJ_EPATH},
        {"\"self\"", "\".\"", MJ_EPATH},
        {"\"rkey\"", "\"rev\"", MJ_EFIELD},
        {"\"record\"", "\"recor\"", MJ_EFIELD},
        {"{\"rev\"", "[\"rev\"", MJ_ETYPE},
    };
    for (size_t i = 0; i < MJ_COUNT(events); i++) {
        static const char good[] = HEAD "{}}}";
        MJ_AUTO_BUF json = {0};
        const char *where = strstr(good, events[i].from);
        mj_buf_printf(&json, "%.*s%s%s", (int)(where - good), good, events[i].to,
                      where + strlen(events[i].from));
        int err = read_event(r, mj_buf_span(&json), &ev, &at, &copy);
        free(copy);
        if (err != events[i].err)
            fail_msg("%s: %s", mj_buf_cstr(&json), mj_errlabel(err));
    }
    assert_int_equal(mj_event_from_json(r, mj_span(NULL, 0), &ev, &at), MJ_ESYNTAX);
    assert_int_equal(mj_event_from_json(r, MJ_SPAN(HEAD "{}}}x"), &ev, &at), MJ_ETRAILING);
    assert_int_equal(mj_event_from_json(r, MJ_SPAN("{}"), &ev, &at), MJ_EFIELD);
    mj_from_json_free(r);
}

/* Every beginning of a good event is refused, and reads nothing behind its end. */
static void test_cut(void **state)
{
    (void)state;
    static const char good[] =
        HEAD "{\"$type\":\"a\",\"b\":[{\"$bytes\":\"AQID\"},\"\\ud83d\\ude00\xc3\xa9\",-12,true],"
             "\"zz\":{\"$link\":\"" CID_TEXT "\"}},\"cid\":\"" CID_TEXT "\"}}";
    struct mj_from_json *r = mj_from_json_new();
    struct mj_event ev;
    size_t at;
    uint8_t *copy;
    for (size_t n = 0; n < sizeof good - 1; n++) {
        assert_true(read_event(r, mj_span(good, n), &ev, &at, &copy) < 0);
        assert_true(at <= n);
        free(copy);
    }
    mj_from_json_free(r);
}

/* Maps in maps in maps cost their size once more per level, and there is a limit to that. */
static void test_weight(void **state)
{
    (void)state;
    struct mj_from_json *r = mj_from_json_new();
    MJ_AUTO_BUF json = {0};
    for (unsigned i = 0; i < 100; i++)
        mj_buf_puts(&json, "{\"b\":");
    mj_buf_putc(&json, '"');
    for (unsigned i = 0; i < 1000000; i++)
        mj_buf_putc(&json, 'x');
    mj_buf_putc(&json, '"');
    for (unsigned i = 0; i < 100; i++)
        mj_buf_puts(&json, ",\"aa\":0}");
    struct mj_span cbor;
    size_t at;
    assert_int_equal(mj_cbor_from_json(r, mj_buf_span(&json), &cbor, &at), MJ_EDEPTH);
    assert_true(at < 600); /* a map that begins far before the end: not all has been copied first */
    mj_from_json_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_corpus),   cmocka_unit_test(test_values),
        cmocka_unit_test(test_spelling), cmocka_unit_test(test_large),
        cmocka_unit_test(test_depth),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cut),      cmocka_unit_test(test_weight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
