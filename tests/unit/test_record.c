/* Records to JSON: the encoding rules of spec/jetstream-v1.md §14 by their numbers, every rule of
 * the data model, and agreement of the check with the printer. */
#include "cmocka_all.h"

#include <cJSON.h>

#include "atproto/cbor.h"
#include "base/err.h"
#include "event/jetstream.h"
#include "json_cbor.h"

#define CID_HEX "01711220 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define CID_B32 "bafyreiaaaebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4"
#define RAW_HEX "01551220 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define RAW_B32 "bafkreiaaaebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4"
#define LINK    "d82a582500" CID_HEX
#define BLOB                                                                                       \
    "a4 63726566 d82a582500" RAW_HEX " 6473697a65 193039 65 2474797065 64 626c6f62"                \
    " 68 6d696d6554797065 69 696d6167652f706e67"

/* A heap copy of exactly the bytes that hex spells: reads past the end are then seen. */
static uint8_t *exact(const char *hex, size_t *n)
{
    MJ_AUTO_BUF b = {0};
    mj_test_hex(hex, &b);
    uint8_t *copy = malloc(b.len ? b.len : 1);
    if (b.len)
        memcpy(copy, b.ptr, b.len);
    *n = b.len;
    return copy;
}

/* Prints the record; also requires that mj_record_check() says accepted or refused alike. */
static int print(struct mj_span record, struct mj_buf *json)
{
    struct mj_event ev = {.kind = MJ_KIND_COMMIT,
                          .op = MJ_OP_CREATE,
                          .did = mj_str("did:plc:x"),
                          .time_us = 5,
                          .rev = mj_str("r"),
                          .collection = mj_str("c"),
                          .rkey = mj_str("k"),
                          .record = record};
    json->len = 0;
    int err = mj_jetstream_encode(&ev, NULL, json);
    int check = mj_record_check(record);
    if ((err == 0) != (check == 0))
        fail_msg("encode %s, check %s", mj_errlabel(err), mj_errlabel(check));
    if (err)
        assert_int_equal(json->len, 0);
    return err;
}

static const char head[] = "{\"did\":\"did:plc:x\",\"time_us\":5,\"kind\":\"commit\",\"commit\":{"
                           "\"rev\":\"r\",\"operation\":\"create\",\"collection\":\"c\","
                           "\"rkey\":\"k\",\"record\":";

static void test_encoding(void **state)
{
    (void)state;
    static const struct {
        const char *rule, *hex, *json;
    } cases[] = {
        {"empty", "a0", "{}"},
        {"10 keys sorted bytewise", "a3 6162 01 6163 02 626161 03", "{\"aa\":3,\"b\":1,\"c\":2}"},
        {"10 at every level", "a1 6178 a2 617a 01 626161 02", "{\"x\":{\"aa\":2,\"z\":1}}"},
        {"10 key a prefix of another", "a3 6161 01 626161 02 63616161 03",
         "{\"a\":1,\"aa\":2,\"aaa\":3}"},
        {"10 equal for more than eight bytes",
         "a2 6a 61616161616161616162 01 6b 6161616161616161616161 02",
         "{\"aaaaaaaaaaa\":2,\"aaaaaaaaab\":1}"},
        {"11 blob order", "a1 6162 " BLOB,
         "{\"b\":{\"$type\":\"blob\",\"ref\":{\"$link\":\"" RAW_B32
         "\"},\"mimeType\":\"image/png\",\"size\":12345}}"},
        {"12 legacy blob",
         "a1 6162 a2 63636964 783b " /* cid text follows */
         "6261667972656961616165626167626166617964717163696b626d676132647170"
         "63616972656579756375 6c626f67617a64696e7279686936643 4"
         " 68 6d696d6554797065 61 78",
         "{\"b\":{\"cid\":\"" CID_B32 "\",\"mimeType\":\"x\"}}"},
        {"13 &", "a1 6161 6126", "{\"a\":\"\\u0026\"}"},
        {"14 <>", "a1 6161 623c3e", "{\"a\":\"\\u003c\\u003e\"}"},
        {"15 U+2028 U+2029 escaped, their neighbours not", "a1 6161 6c e280a8 e280a9 e280a7 e280aa",
         "{\"a\":\"\\u2028\\u2029\xe2\x80\xa7\xe2\x80\xaa\"}"},
        {"15 other non-ASCII raw", "a1 6161 6a c3a9 f09f9880 e282ac 7f",
         "{\"a\":\"\xc3\xa9\xf0\x9f\x98\x80\xe2\x82\xac\x7f\"}"},
        {"16 no short form for 08 and 0c", "a1 6161 65 08 0c 00 1b 1f",
         "{\"a\":\"\\u0008\\u000c\\u0000\\u001b\\u001f\"}"},
        {"short forms", "a1 6161 66 22 5c 0a 0d 09 2f", "{\"a\":\"\\\"\\\\\\n\\r\\t/\"}"},
        {"18 beyond 2^53", "a1 6161 1b0020000000000001", "{\"a\":9007199254740993}"},
        {"integers",
         "a1 6161 88 00 20 1903e7 1903e8 1a0001869f 1b7fffffffffffffff 3b7fffffffffffffff 1864",
         "{\"a\":[0,-1,999,1000,99999,9223372036854775807,-9223372036854775808,100]}"},
        {"22 bytes unpadded", "a1 6161 85 40 4101 420102 43010203 44fbffbf3e",
         "{\"a\":[{\"$bytes\":\"\"},{\"$bytes\":\"AQ\"},{\"$bytes\":\"AQI\"},{\"$bytes\":"
         "\"AQID\"},{\"$bytes\":\"+/+/Pg\"}]}"},
        {"23 link outside a blob", "a1 6161 " LINK, "{\"a\":{\"$link\":\"" CID_B32 "\"}}"},
        {"24 null, empty map and array", "a3 6161 f6 6162 a0 6163 80",
         "{\"a\":null,\"b\":{},\"c\":[]}"},
        {"booleans", "a2 6161 f4 6162 f5", "{\"a\":false,\"b\":true}"},
        {"25 escaped order", "a3 6161 01 626120 02 626121 03", "{\"a \":2,\"a!\":3,\"a\":1}"},
        {"25 & sorts as a backslash", "a3 615a 01 615f 02 62266b 03",
         "{\"Z\":1,\"\\u0026k\":3,\"_\":2}"},
        {"25 control byte sorts as a backslash", "a2 6109 01 615a 02", "{\"Z\":2,\"\\t\":1}"},
        {"$link and $bytes maps as they are",
         "a2 6162 a1 66 246279746573 64 4151493d 616c a1 65 246c696e6b 78 3b"
         "6261667972656961616165626167626166617964717163696b626d676132647170"
         "63616972656579756375 6c626f67617a64696e72796869366434",
         "{\"b\":{\"$bytes\":\"AQI=\"},\"l\":{\"$link\":\"" CID_B32 "\"}}"},
        {"$type of another kind", "a2 6161 01 65 2474797065 65 626c6f6262",
         "{\"$type\":\"blobb\",\"a\":1}"},
        {"keys with a dollar but no meaning", "a1 63 247878 01", "{\"$xx\":1}"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        size_t n;
        uint8_t *record = exact(cases[i].hex, &n);
        MJ_AUTO_BUF json = {0}, want = {0};
        int err = print(mj_span(record, n), &json);
        free(record);
        if (err)
            fail_msg("%s: %s", cases[i].rule, mj_errlabel(err));
        mj_buf_printf(&want, "%s%s}}", head, cases[i].json);
        if (!mj_span_eq(mj_buf_span(&json), mj_buf_span(&want)))
            fail_msg("%s:\n%s\n%s", cases[i].rule, mj_buf_cstr(&want), mj_buf_cstr(&json));
    }
}

/* spec/firehose.md §5 by row, as it shows inside a record, and §14 no. 17, 19, 21. */
static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *rule, *hex;
        int err;
    } cases[] = {
        {"1 empty", "", MJ_ETRUNC},
        {"1 cut", "a1 6161", MJ_ETRUNC},
        {"1 cut in a text", "a1 6161 6261", MJ_ETRUNC},
        {"1 cut in bytes", "a1 6161 4201", MJ_ETRUNC},
        {"1 cut in a link", "a1 6161 d82a582500 0171", MJ_ETRUNC},
        {"1 map count that cannot fit", "bb7fffffffffffffff 6161 01", MJ_ETRUNC},
        {"1 array count that cannot fit", "a1 6161 9b7fffffffffffffff", MJ_ETRUNC},
        {"1 trailing", "a1 6161 01 00", MJ_ETRAILING},
        {"2 integer", "a1 6161 1801", MJ_EMINIMAL},
        {"2 text length", "a1 6161 7801 61", MJ_EMINIMAL},
        {"2 key length", "a1 780161 01", MJ_EMINIMAL},
        {"2 tag", "a1 6161 d9002a5825 00" CID_HEX, MJ_EMINIMAL},
        {"3 indefinite map", "bf6161 01 ff", MJ_EINDEF},
        {"3 indefinite text", "a1 6161 7f6161ff", MJ_EINDEF},
        {"3 indefinite key", "a1 7f6161ff 01", MJ_EINDEF},
        {"3 stray break", "a1 6161 ff", MJ_EINDEF},
        {"4 reserved", "a1 6161 1c", MJ_ERESERVED},
        {"5 key not text", "a1 00 00", MJ_EKEYTYPE},
        {"5 key is bytes", "a1 4161 00", MJ_EKEYTYPE},
        {"6 order by length", "a2 626161 01 6162 02", MJ_EKEYORDER},
        {"6 order by bytes", "a2 6162 01 6161 02", MJ_EKEYORDER},
        {"7 duplicate", "a2 6161 01 6161 02", MJ_EKEYDUP},
        {"8 tag", "a1 6161 c24101", MJ_ETAG},
        {"9 link to nothing", "a1 6161 d82a4100", MJ_ECID},
        {"9 link not on bytes", "a1 6161 d82a6100", MJ_ECID},
        {"10 undefined", "a1 6161 f7", MJ_ESIMPLE},
        {"10 simple", "a1 6161 f8ff", MJ_ESIMPLE},
        {"11 float16", "a1 6161 f93c00", MJ_EFLOAT},
        {"11 NaN", "a1 6161 fb7ff8000000000000", MJ_EFLOAT},
        {"12 integral float64", "a1 6161 fb3ff0000000000000", MJ_EFLOAT},
        {"12 float64", "a1 6161 fb3ff8000000000000", MJ_EFLOAT},
        {"13 above int64", "a1 6161 1bffffffffffffffff", MJ_EINT},
        {"13 below int64", "a1 6161 3b8000000000000000", MJ_EINT},
        {"14 byte ff", "a1 6161 61ff", MJ_EUTF8},
        {"14 surrogate", "a1 6161 63eda080", MJ_EUTF8},
        {"14 cut sequence behind ASCII", "a1 6161 6261c3", MJ_EUTF8},
        {"14 in a key", "a1 61ff 01", MJ_EUTF8},
        {"16 array", "80", MJ_ERECORD},
        {"16 text", "6161", MJ_ERECORD},
        {"16 null", "f6", MJ_ERECORD},
        {"16 $type empty", "a1 652474797065 60", MJ_ERECORD},
        {"16 $type null", "a1 652474797065 f6", MJ_ERECORD},
        {"16 $type a number", "a1 652474797065 187b", MJ_ERECORD},
        {"16 $type inside", "a1 6161 a1 652474797065 f6", MJ_ERECORD},
        {"16 $type in an array", "a1 6161 81 a1 652474797065 60", MJ_ERECORD},
        {"16 the record is a blob", BLOB, MJ_ERECORD},
        {"16 the record is bytes", "a1 66246279746573 6441514944", MJ_ERECORD},
        {"16 the record is a legacy blob",
         "a2 63636964 783b"
         "6261667972656961616165626167626166617964717163696b626d676132647170"
         "63616972656579756375 6c626f67617a64696e72796869366434 686d696d6554797065 6178",
         MJ_ERECORD},
        {"17 $link with company", "a1 6161 a2 6162 01 65246c696e6b 6161", MJ_ERECORD},
        {"17 $link not a CID", "a1 6161 a1 65246c696e6b 612e", MJ_ERECORD},
        {"17 $link a number", "a1 6161 a1 65246c696e6b 1904d2", MJ_ERECORD},
        {"17 $bytes with company", "a1 6161 a2 6162 01 66246279746573 644151494 4", MJ_ERECORD},
        {"17 $bytes not base64", "a1 6161 a1 66246279746573 6441512144", MJ_ERECORD},
        {"17 $bytes of five characters", "a1 6161 a1 66246279746573 654151494441", MJ_ERECORD},
        {"17 $bytes an array", "a1 6161 a1 66246279746573 83010203", MJ_ERECORD},
        {"17 blob with size as text",
         "a1 6162 a4 63726566 d82a582500" RAW_HEX " 6473697a65 653130303030"
         "652474797065 64626c6f62 686d696d6554797065 6178",
         MJ_ERECORD},
        {"17 blob with a negative size",
         "a1 6162 a4 63726566 d82a582500" RAW_HEX " 6473697a65 20"
         "652474797065 64626c6f62 686d696d6554797065 6178",
         MJ_ERECORD},
        {"17 blob without ref",
         "a1 6162 a3 6473697a65 01 652474797065 64626c6f62 686d696d6554797065 6178", MJ_ERECORD},
        {"17 blob with ref as text",
         "a1 6162 a4 63726566 6178 6473697a65 01 652474797065 64626c6f62"
         "686d696d6554797065 6178",
         MJ_ERECORD},
        {"17 blob without mimeType",
         "a1 6162 a4 63726566 d82a582500" RAW_HEX " 6473697a65 01 652474797065 64626c6f62"
         "686d696d6554797066 6178",
         MJ_ERECORD},
        {"17 blob with mimeType null",
         "a1 6162 a4 63726566 d82a582500" RAW_HEX " 6473697a65 01 652474797065 64626c6f62"
         "686d696d6554797065 f6",
         MJ_ERECORD},
        {"17 blob with a fifth field behind",
         "a1 6162 a5 63726566 d82a582500" RAW_HEX " 6473697a65 01 652474797065 64626c6f62"
         "686d696d6554797065 6178 697a7a7a7a7a7a7a7a7a 01",
         MJ_ERECORD},
        {"17 blob with a fifth field",
         "a1 6162 a5 6161 01 63726566 d82a582500" RAW_HEX " 6473697a65 01 652474797065 64626c6f62"
         "686d696d6554797065 6178",
         MJ_ERECORD},
        {"legacy blob without a CID", "a1 6162 a2 63636964 6178 686d696d6554797065 6178",
         MJ_ERECORD},
        {"legacy blob with mimeType null", "a1 6162 a2 63636964 6178 686d696d6554797065 f6",
         MJ_ERECORD},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        size_t n;
        uint8_t *record = exact(cases[i].hex, &n);
        MJ_AUTO_BUF json = {0};
        int err = print(mj_span(record, n), &json), check = mj_record_check(mj_span(record, n));
        free(record);
        if (err != cases[i].err || check != cases[i].err)
            fail_msg("%s: encode %s, check %s, not %s", cases[i].rule, mj_errlabel(err),
                     mj_errlabel(check), mj_errlabel(cases[i].err));
    }
}

/* Every byte that needs a look, at every place of texts up to three 16-byte steps long. */
static void test_text_positions(void **state)
{
    (void)state;
    static const struct {
        const char *raw, *json;
    } marks[] = {{"\"", "\\\""},
                 {"\\", "\\\\"},
                 {"\x01", "\\u0001"},
                 {"<", "\\u003c"},
                 {"&", "\\u0026"},
                 {"\n", "\\n"},
                 {"\xc3\xa9", "\xc3\xa9"},
                 {"\xe2\x80\xa8", "\\u2028"},
                 {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
                 {"=", "="},
                 {"#", "#"},
                 {"%", "%"},
                 {"?", "?"},
                 {"]", "]"},
                 {"\x7f", "\x7f"}};
    for (size_t m = 0; m < MJ_COUNT(marks); m++) {
        size_t width = strlen(marks[m].raw);
        for (size_t len = width; len <= 50; len++) {
            for (size_t at = 0; at + width <= len; at++) {
                char text[64];
                MJ_AUTO_BUF cbor = {0}, json = {0}, want = {0};
                memset(text, 'x', len);
                memcpy(text + at, marks[m].raw, width);
                mj_cbor_put_text(&cbor, mj_span(text, len));
                mj_buf_printf(&want, "\"%.*s%s%.*s\"", (int)at, text, marks[m].json,
                              (int)(len - at - width), text + at + width);
                uint8_t *copy = malloc(cbor.len);
                memcpy(copy, cbor.ptr, cbor.len);
                assert_int_equal(mj_json_from_cbor(mj_span(copy, cbor.len), &json), 0);
                if (!mj_span_eq(mj_buf_span(&json), mj_buf_span(&want)))
                    fail_msg("%s", mj_buf_cstr(&want));
                free(copy);
            }
        }
    }
}

/* Wide maps take the path with a heap-allocated index; compared with a sort of our own. */
static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void test_wide_maps(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 300; n += 7) {
        MJ_AUTO_BUF cbor = {0}, json = {0}, want = {0};
        char keys[300][16];
        char *sorted[300];
        mj_cbor_put_map(&cbor, n);
        for (unsigned i = 0; i < n; i++) { /* longer keys last, ascending within a length */
            snprintf(keys[i], sizeof keys[i], "%.*s%03u", (int)(i * 6 / n), "bababa", i);
            sorted[i] = keys[i];
            mj_cbor_put_text(&cbor, mj_str(keys[i]));
            mj_cbor_put_int(&cbor, i);
        }
        assert_int_equal(mj_cbor_check(mj_buf_span(&cbor)), 0);
        qsort(sorted, n, sizeof *sorted, by_bytes);
        for (unsigned i = 0; i < n; i++)
            mj_buf_printf(&want, "%s\"%s\":%d", i ? "," : "{", sorted[i],
                          atoi(sorted[i] + strlen(sorted[i]) - 3));
        mj_buf_puts(&want, "}");
        assert_int_equal(mj_json_from_cbor(mj_buf_span(&cbor), &json), 0);
        if (!mj_span_eq(mj_buf_span(&json), mj_buf_span(&want)))
            fail_msg("%u keys:\n%s\n%s", n, mj_buf_cstr(&want), mj_buf_cstr(&json));
        assert_int_equal(mj_record_check(mj_buf_span(&cbor)), 0);
    }
}

static void test_limits(void **state)
{
    (void)state;
    MJ_AUTO_BUF b = {0}, json = {0};
    /* Depth: the record itself is the first container. */
    for (unsigned depth = MJ_CBOR_DEPTH_MAX; depth <= MJ_CBOR_DEPTH_MAX + 1; depth++) {
        for (int maps = 0; maps < 2; maps++) {
            b.len = 0;
            mj_buf_puts(&b, "\xa1\x61x");
            for (unsigned i = 2; i < depth; i++)
                mj_buf_puts(&b, maps ? "\xa1\x61x" : "\x81");
            mj_buf_putc(&b, maps ? (char)0xa0 : (char)0x80);
            assert_int_equal(print(mj_buf_span(&b), &json),
                             depth > MJ_CBOR_DEPTH_MAX ? MJ_EDEPTH : 0);
        }
    }
    /* A large record may not lie under many maps: each level is copied once more to be sorted. */
    for (unsigned maps = 8; maps <= 64; maps += 56) {
        b.len = 0;
        for (unsigned i = 0; i < maps; i++)
            mj_buf_puts(&b, "\xa2\x61y");
        char *long_text = calloc(1, 100000);
        memset(long_text, 't', 100000);
        mj_cbor_put_text(&b, mj_span(long_text, 100000));
        free(long_text);
        for (unsigned i = 0; i < maps; i++)
            mj_buf_puts(&b, "\x62xx\xf6");
        assert_int_equal(print(mj_buf_span(&b), &json), maps > 16 ? MJ_EDEPTH : 0);
        assert_int_equal(mj_record_check(mj_buf_span(&b)), maps > 16 ? MJ_EDEPTH : 0);
    }
    /* Keys. */
    for (size_t key = 8192; key <= 8193; key++) {
        b.len = 0;
        mj_cbor_put_map(&b, 1);
        char *text = calloc(1, key);
        memset(text, 'k', key);
        mj_cbor_put_text(&b, mj_span(text, key));
        mj_cbor_put_null(&b);
        free(text);
        assert_int_equal(print(mj_buf_span(&b), &json), key > 8192 ? MJ_ELIMIT : 0);
    }
    /* Containers. */
    for (size_t items = 131072; items <= 131073; items++) {
        b.len = 0;
        mj_cbor_put_map(&b, 1);
        mj_cbor_put_text(&b, mj_str("a"));
        mj_cbor_put_array(&b, items);
        for (size_t i = 0; i < items; i++)
            mj_cbor_put_null(&b);
        assert_int_equal(print(mj_buf_span(&b), &json), items > 131072 ? MJ_ELIMIT : 0);
    }
    /* A megabyte of what grows most prints without a fault. */
    b.len = 0;
    mj_cbor_put_map(&b, 1);
    mj_cbor_put_text(&b, mj_str("a"));
    uint8_t *zero = calloc(1, 1 << 20);
    mj_cbor_put_text(&b, mj_span(zero, 1 << 20));
    free(zero);
    assert_int_equal(print(mj_buf_span(&b), &json), 0);
    assert_int_equal(json.len, sizeof head - 1 + 6 * (1 << 20) + 10);
}

/* 2-9: the three envelopes. */
static void test_envelopes(void **state)
{
    (void)state;
    static const uint8_t cid[] = {0x01, 0x71, 0x12, 0x20, 0,  1,  2,  3,  4,  5,  6,  7,
                                  8,    9,    10,   11,   12, 13, 14, 15, 16, 17, 18, 19,
                                  20,   21,   22,   23,   24, 25, 26, 27, 28, 29, 30, 31};
    struct mj_event ev = {.kind = MJ_KIND_COMMIT,
                          .op = MJ_OP_UPDATE,
                          .seq = 9,
                          .time_us = 1783175888085434,
                          .did = mj_str("did:plc:x"),
                          .time = mj_str("2026-01-02T03:04:05Z"),
                          .rev = mj_str("r"),
                          .collection = mj_str("a.b.c"),
                          .rkey = mj_str("k:1"),
                          .record = mj_str("\xa1\x61x\x01"),
                          .cid = mj_span(cid, sizeof cid)};
    struct mj_event deleted = ev, bare = ev, identity = ev, handle = ev, active = ev, gone = ev;
    struct mj_event odd = ev;
    deleted.op = MJ_OP_DELETE;
    bare.cid = mj_span(NULL, 0);
    identity.kind = handle.kind = MJ_KIND_IDENTITY;
    handle.handle = mj_str("h.example.com");
    active.kind = gone.kind = MJ_KIND_ACCOUNT;
    active.active = true;
    gone.status = mj_str("deleted");
    odd.rkey = mj_str("\"<");
#define TOP "{\"did\":\"did:plc:x\",\"time_us\":1783175888085434,\"kind\":"
#define UPD "{\"rev\":\"r\",\"operation\":\"update\",\"collection\":\"a.b.c\",\"rkey\":"
    const struct {
        const struct mj_event *ev;
        const char *json;
    } cases[] = {
        {&ev,
         TOP "\"commit\",\"commit\":" UPD "\"k:1\",\"record\":{\"x\":1},\"cid\":\"" CID_B32 "\"}}"},
        {&bare, TOP "\"commit\",\"commit\":" UPD "\"k:1\",\"record\":{\"x\":1}}}"},
        {&odd, TOP "\"commit\",\"commit\":" UPD
                   "\"\\\"\\u003c\",\"record\":{\"x\":1},\"cid\":\"" CID_B32 "\"}}"},
        {&deleted, TOP "\"commit\",\"commit\":{\"rev\":\"r\",\"operation\":\"delete\","
                       "\"collection\":\"a.b.c\",\"rkey\":\"k:1\"}}"},
        {&identity, TOP "\"identity\",\"identity\":{\"did\":\"did:plc:x\",\"seq\":9,\"time\":"
                        "\"2026-01-02T03:04:05Z\"}}"},
        {&handle, TOP "\"identity\",\"identity\":{\"did\":\"did:plc:x\",\"handle\":"
                      "\"h.example.com\",\"seq\":9,\"time\":\"2026-01-02T03:04:05Z\"}}"},
        {&active, TOP "\"account\",\"account\":{\"active\":true,\"did\":\"did:plc:x\",\"seq\":9,"
                      "\"time\":\"2026-01-02T03:04:05Z\"}}"},
        {&gone, TOP "\"account\",\"account\":{\"active\":false,\"did\":\"did:plc:x\",\"seq\":9,"
                    "\"status\":\"deleted\",\"time\":\"2026-01-02T03:04:05Z\"}}"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        for (int plain = 0; plain < 2; plain++) {
            struct mj_event copy = *cases[i].ev;
            if (cases[i].ev == &odd && plain)
                continue;
            copy.plain = plain;
            MJ_AUTO_BUF json = {0};
            assert_int_equal(mj_jetstream_encode(&copy, NULL, &json), 0);
            assert_string_equal(mj_buf_cstr(&json), cases[i].json);
        }
    }
    MJ_AUTO_BUF json = {0};
    handle.handle = mj_str("\xff");
    assert_int_equal(mj_jetstream_encode(&handle, NULL, &json), MJ_EUTF8);
    ev.op = MJ_OP_NONE;
    assert_int_equal(mj_jetstream_encode(&ev, NULL, &json), MJ_EACTION);
    assert_int_equal(json.len, 0);
}

static cJSON *load(const char *name)
{
    MJ_AUTO_BUF text = {0};
    if (!mj_test_shared(name, &text))
        return NULL;
    cJSON *json = cJSON_Parse((const char *)text.ptr);
    assert_non_null(json);
    return json;
}

/* Published: JSON, the CBOR it stands for, and the CID of that. */
static void test_data_model(void **state)
{
    (void)state;
    cJSON *list = load("interop/data-model/data-model-fixtures.json"), *c;
    unsigned n = 0;
    if (!list)
        skip();
    cJSON_ArrayForEach(c, list)
    {
        MJ_AUTO_BUF want = {0}, json = {0}, made = {0};
        struct mj_cid cid;
        char text[MJ_CID_TEXT_LEN + 1] = {0};
        mj_test_base64(cJSON_GetObjectItem(c, "cbor_base64")->valuestring, &want);
        mj_cid_of(mj_buf_span(&want), &cid);
        mj_cid_text(mj_span(cid.bytes, MJ_CID_LEN), text);
        assert_string_equal(text, cJSON_GetObjectItem(c, "cid")->valuestring);
        mj_test_to_cbor(cJSON_GetObjectItem(c, "json"), &made);
        assert_true(mj_span_eq(mj_buf_span(&made), mj_buf_span(&want)));
        assert_int_equal(mj_json_from_cbor(mj_buf_span(&want), &json), 0);
        cJSON *tree = cJSON_Parse(mj_buf_cstr(&json));
        assert_true(cJSON_Compare(tree, cJSON_GetObjectItem(c, "json"), true));
        cJSON_Delete(tree);
        n++;
    }
    cJSON_Delete(list);
    assert_int_equal(n, 3);
}

static void test_data_model_judged(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool valid;
        unsigned count;
    } files[] = {{"interop/data-model/data-model-valid.json", true, 5},
                 {"interop/data-model/data-model-invalid.json", false, 12}};
    for (size_t f = 0; f < MJ_COUNT(files); f++) {
        cJSON *list = load(files[f].name), *c;
        unsigned n = 0;
        if (!list)
            skip();
        cJSON_ArrayForEach(c, list)
        {
            MJ_AUTO_BUF cbor = {0}, json = {0};
            const cJSON *value = cJSON_GetObjectItem(c, "json");
            const char *note = cJSON_GetObjectItem(c, "note")->valuestring;
            mj_test_to_cbor(value, &cbor);
            int err = print(mj_buf_span(&cbor), &json);
            if ((err == 0) != files[f].valid)
                fail_msg("%s: %s", note, mj_errlabel(err));
            n++;
        }
        cJSON_Delete(list);
        assert_int_equal(n, files[f].count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encoding),       cmocka_unit_test(test_refused),
        cmocka_unit_test(test_text_positions), cmocka_unit_test(test_wide_maps),
        cmocka_unit_test(test_limits),         cmocka_unit_test(test_envelopes),
        cmocka_unit_test(test_data_model),     cmocka_unit_test(test_data_model_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
