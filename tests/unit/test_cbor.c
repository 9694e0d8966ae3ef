/* The DRISL reader and writer: every row of the table of malformed input, the published DASL
 * vectors with exactly the documented differences, and libcbor as a second opinion. */
#include "cmocka_all.h"

#include <cJSON.h>

#include "atproto/cbor.h"
#include "atproto/cid.h"
#include "atproto/utf8.h"
#include "base/err.h"
#include "shared.h"

#define CID32 "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

/* spec/firehose.md §5, by row. */
static void test_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        int err;
    } cases[] = {
        /* what is accepted, for contrast */
        {"00", 0},
        {"1b7fffffffffffffff", 0},
        {"3b7fffffffffffffff", 0},
        {"1817", MJ_EMINIMAL},
        {"1818", 0},
        {"f4", 0},
        {"a2616100616201", 0},
        {"a26162006261 6101", 0},
        {"d82a5825000171 1220" CID32, 0},
        {"d82a5825000155 1220" CID32, 0},
        {"6100", 0}, /* NUL is text */
        /* 1 truncated, trailing, empty */
        {"", MJ_ETRUNC},
        {"0000", MJ_ETRAILING},
        {"18", MJ_ETRUNC},
        {"1900", MJ_ETRUNC},
        {"1a000000", MJ_ETRUNC},
        {"1b00000000000000", MJ_ETRUNC},
        {"6261", MJ_ETRUNC},
        {"4201", MJ_ETRUNC},
        {"5b7fffffffffffffff", MJ_ETRUNC},
        {"8100 00", MJ_ETRAILING},
        {"8200", MJ_ETRUNC},
        {"9b7fffffffffffffff00", MJ_ETRUNC},
        {"a1", MJ_ETRUNC},
        {"a16161", MJ_ETRUNC},
        {"bb7fffffffffffffff616100", MJ_ETRUNC},
        {"d8", MJ_ETRUNC},
        {"d82a", MJ_ETRUNC},
        {"d82a5825000171", MJ_ETRUNC},
        {"fb0000", MJ_ETRUNC},
        /* 2 not minimal */
        {"1800", MJ_EMINIMAL},
        {"1900ff", MJ_EMINIMAL},
        {"1a0000ffff", MJ_EMINIMAL},
        {"1b00000000ffffffff", MJ_EMINIMAL},
        {"5800", MJ_EMINIMAL},
        {"790000", MJ_EMINIMAL},
        {"9800", MJ_EMINIMAL},
        {"b801616100", MJ_EMINIMAL},
        {"d9002a582500017112 20" CID32, MJ_EMINIMAL},
        {"d82a590025000171 1220" CID32, MJ_EMINIMAL},
        /* 3 indefinite length, stray break */
        {"9fff", MJ_EINDEF},
        {"bfff", MJ_EINDEF},
        {"5fff", MJ_EINDEF},
        {"7fff", MJ_EINDEF},
        {"ff", MJ_EINDEF},
        {"81ff", MJ_EINDEF},
        /* 4 reserved */
        {"1c", MJ_ERESERVED},
        {"5d", MJ_ERESERVED},
        {"9e", MJ_ERESERVED},
        {"fc", MJ_ERESERVED},
        /* 5 key not text */
        {"a10000", MJ_EKEYTYPE},
        {"a1406100", MJ_EKEYTYPE},
        /* 6 order */
        {"a2616201616100", MJ_EKEYORDER},
        {"a262616100616201", MJ_EKEYORDER},
        /* 7 duplicate */
        {"a2616100616101", MJ_EKEYDUP},
        {"a260006001", MJ_EKEYDUP},
        /* 8 tags */
        {"c24101", MJ_ETAG},
        {"d9d9f700", MJ_ETAG},
        {"c000", MJ_ETAG},
        /* 9 tag 42 */
        {"d82a00", MJ_ECID},
        {"d82a40", MJ_ECID},
        {"d82a4100", MJ_ECID},
        {"d82a582401711220" CID32, MJ_ECID},         /* no 00 */
        {"d82a582300 1220" CID32, MJ_ECID},          /* CIDv0 */
        {"d82a5825000271 1220" CID32, MJ_ECID},      /* version */
        {"d82a5825000170 1220" CID32, MJ_ECID},      /* codec */
        {"d82a5825000171 1320" CID32, MJ_ECID},      /* hash */
        {"d82a5825000171 1221" CID32, MJ_ECID},      /* length */
        {"d82a5826000171 1220" CID32 "00", MJ_ECID}, /* trailing byte */
        /* 10 simple values */
        {"f7", MJ_ESIMPLE},
        {"e0", MJ_ESIMPLE},
        {"f8ff", MJ_ESIMPLE},
        {"f814", MJ_ESIMPLE},
        /* 11, 12 floats */
        {"f93e00", MJ_EFLOAT},
        {"fa3fc00000", MJ_EFLOAT},
        {"fb7ff8000000000000", MJ_EFLOAT},
        {"fb8000000000000000", MJ_EFLOAT},
        {"fb3ff8000000000000", MJ_EFLOAT},
        /* 13 integers */
        {"1b8000000000000000", MJ_EINT},
        {"1bffffffffffffffff", MJ_EINT},
        {"3b8000000000000000", MJ_EINT},
        /* 14 UTF-8 */
        {"62c328", MJ_EUTF8},
        {"63eda080", MJ_EUTF8},
        {"62c080", MJ_EUTF8},
        {"64f4908080", MJ_EUTF8},
        {"a161ff00", MJ_EUTF8},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        MJ_AUTO_BUF b = {0};
        mj_test_hex(cases[i].hex, &b);
        /* An exact heap copy, so that a read past the end is seen. */
        uint8_t *copy = malloc(b.len ? b.len : 1);
        memcpy(copy, b.ptr ? b.ptr : (uint8_t *)"", b.len);
        int err = mj_cbor_check(mj_span(copy, b.len));
        free(copy);
        if (err != cases[i].err)
            fail_msg("%s: %s, not %s", cases[i].hex, mj_errlabel(err), mj_errlabel(cases[i].err));
    }
}

static void test_depth(void **state)
{
    (void)state;
    uint8_t deep[MJ_CBOR_DEPTH_MAX + 2];
    memset(deep, 0x81, sizeof deep);
    deep[MJ_CBOR_DEPTH_MAX] = 0x00;
    assert_int_equal(mj_cbor_check(mj_span(deep, MJ_CBOR_DEPTH_MAX + 1)), 0);
    deep[MJ_CBOR_DEPTH_MAX] = 0x80;
    deep[MJ_CBOR_DEPTH_MAX + 1] = 0x00;
    assert_int_equal(mj_cbor_check(mj_span(deep, MJ_CBOR_DEPTH_MAX + 1)), MJ_EDEPTH);
    struct mj_cbor c = mj_cbor(mj_span(deep, sizeof deep));
    assert_int_equal(mj_cbor_skip(&c), MJ_EDEPTH);
}

static void test_utf8(void **state)
{
    (void)state;
    /* Every code point's encoding passes, every surrogate's fails; a byte more or less fails. */
    for (uint32_t cp = 0; cp <= 0x110000; cp++) {
        uint8_t b[4];
        unsigned n;
        if (cp < 0x80) {
            b[0] = (uint8_t)cp, n = 1;
        } else if (cp < 0x800) {
            b[0] = (uint8_t)(0xc0 | cp >> 6), b[1] = (uint8_t)(0x80 | (cp & 63)), n = 2;
        } else if (cp < 0x10000) {
            b[0] = (uint8_t)(0xe0 | cp >> 12), b[1] = (uint8_t)(0x80 | (cp >> 6 & 63));
            b[2] = (uint8_t)(0x80 | (cp & 63)), n = 3;
        } else {
            b[0] = (uint8_t)(0xf0 | cp >> 18), b[1] = (uint8_t)(0x80 | (cp >> 12 & 63));
            b[2] = (uint8_t)(0x80 | (cp >> 6 & 63)), b[3] = (uint8_t)(0x80 | (cp & 63)), n = 4;
        }
        bool good = cp < 0x110000 && (cp < 0xd800 || cp > 0xdfff);
        if (mj_utf8_valid(mj_span(b, n)) != good || (n > 1 && mj_utf8_valid(mj_span(b, n - 1))) ||
            (n > 1 && mj_utf8_valid(mj_span(b + 1, n - 1))))
            fail_msg("U+%04X", cp);
    }
    static const char *const bad[] = {"\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf",    "\xf0\x8f\xbf\xbf",
                                      "\x80",     "\xfe",     "\xf5\x80\x80\x80"};
    for (size_t i = 0; i < MJ_COUNT(bad); i++)
        assert_false(mj_utf8_valid(mj_str(bad[i])));
    /* Behind, before and across the eight-byte steps. */
    for (size_t at = 0; at < 24; at++) {
        uint8_t text[26];
        memset(text, 'x', sizeof text);
        memcpy(text + at, "\xc3\xa9", 2);
        assert_true(mj_utf8_valid(mj_span(text, sizeof text)));
        text[at] = 0xc0;
        assert_false(mj_utf8_valid(mj_span(text, sizeof text)));
    }
}

static void test_writer(void **state)
{
    (void)state;
    static const int64_t ints[] = {0,          23,         24,          255,      256, 65535, 65536,
                                   4294967295, 4294967296, INT64_MAX,   -1,       -24, -25,   -256,
                                   -257,       -65536,     -4294967296, INT64_MIN};
    for (size_t i = 0; i < MJ_COUNT(ints); i++) {
        MJ_AUTO_BUF b = {0};
        struct mj_cbor_head h;
        mj_cbor_put_int(&b, ints[i]);
        assert_int_equal(mj_cbor_check(mj_buf_span(&b)), 0); /* shortest form included */
        struct mj_cbor c = mj_cbor(mj_buf_span(&b));
        assert_int_equal(mj_cbor_next(&c, &h), 0);
        assert_int_equal(h.type, MJ_CBOR_INT);
        assert_true(h.i == ints[i]);
    }
    MJ_AUTO_BUF b = {0}, want = {0};
    struct mj_cid cid = {{0x01, 0x55, 0x12, 0x20}};
    mj_cbor_put_map(&b, 4);
    mj_cbor_put_text(&b, mj_str("a"));
    mj_cbor_put_array(&b, 3);
    mj_cbor_put_null(&b);
    mj_cbor_put_bool(&b, true);
    mj_cbor_put_bool(&b, false);
    mj_cbor_put_text(&b, mj_str("b"));
    mj_cbor_put_link(&b, mj_span(cid.bytes, MJ_CID_LEN));
    mj_cbor_put_text(&b, mj_str("cc"));
    mj_cbor_put_bytes(&b, mj_str("\x01\x02"));
    mj_cbor_put_text(&b, mj_str("dd"));
    mj_cbor_put_text(&b, mj_str("twenty-four bytes of text"));
    mj_test_hex("a4 6161 83f6f5f4 6162 d82a582500 01551220"
                "0000000000000000000000000000000000000000000000000000000000000000"
                "626363 420102 626464 7819 7477656e74792d666f7572206279746573206f662074657874",
                &want);
    assert_int_equal(b.len, want.len);
    assert_memory_equal(b.ptr, want.ptr, want.len);
    assert_int_equal(mj_cbor_check(mj_buf_span(&b)), 0);

    struct mj_span value;
    assert_int_equal(mj_cbor_map_get(mj_buf_span(&b), mj_str("cc"), &value), 0);
    assert_int_equal(value.ptr[0], 0x42);
    assert_int_equal(mj_cbor_map_get(mj_buf_span(&b), mj_str("bb"), &value), MJ_ENOENT);
    assert_int_equal(mj_cbor_map_get(mj_buf_span(&b), mj_str("zzz"), &value), MJ_ENOENT);
    assert_int_equal(mj_cbor_map_get(mj_str("\x80"), mj_str("a"), &value), MJ_ETYPE);
}

/* One DASL case is for decoders of this family when its tags say so; 83 are. */
static bool relevant(const cJSON *c)
{
    static const char *const families[] = {"basic", "dag-cbor", "dasl-cid"};
    const cJSON *tag;
    if (strcmp(cJSON_GetObjectItem(c, "type")->valuestring, "invalid_out") == 0)
        return false;
    cJSON_ArrayForEach(tag, cJSON_GetObjectItem(c, "tags"))
    {
        for (size_t i = 0; i < MJ_COUNT(families); i++)
            if (strcmp(tag->valuestring, families[i]) == 0)
                return true;
    }
    return false;
}

/* Legal DRISL that the atproto data model refuses: the six documented differences. */
static const struct {
    const char *name;
    int err;
} differences[] = {
    {"64-bit floats only", MJ_EFLOAT},           {"zero float64", MJ_EFLOAT},
    {"64-bit subnormal number", MJ_EFLOAT},      {"largest CBOR integer, 2^64-1", MJ_EINT},
    {"smallest CBOR integer, -(2^64)", MJ_EINT}, {"Big DASL CID", MJ_ECID},
};

static void test_dasl(void **state)
{
    (void)state;
    static const char *const files[] = {"cid",
                                        "concat",
                                        "floats",
                                        "indefinite",
                                        "integer_range",
                                        "map_keys",
                                        "numeric_reduction",
                                        "short_form",
                                        "simple",
                                        "tags",
                                        "utf8"};
    unsigned cases = 0, differ = 0;
    bool seen[MJ_COUNT(differences)] = {false};
    for (size_t f = 0; f < MJ_COUNT(files); f++) {
        char name[128];
        MJ_AUTO_BUF text = {0};
        snprintf(name, sizeof name, "interop/dasl-cbor/%s.json", files[f]);
        if (!mj_test_shared(name, &text))
            return;
        cJSON *json = cJSON_Parse((const char *)text.ptr), *c;
        assert_non_null(json);
        cJSON_ArrayForEach(c, json)
        {
            if (!relevant(c))
                continue;
            cases++;
            MJ_AUTO_BUF data = {0};
            const char *label = cJSON_GetObjectItem(c, "name")->valuestring;
            bool valid = strcmp(cJSON_GetObjectItem(c, "type")->valuestring, "roundtrip") == 0;
            mj_test_hex(cJSON_GetObjectItem(c, "data")->valuestring, &data);
            int err = mj_cbor_check(mj_buf_span(&data));
            if ((err == 0) == valid)
                continue;
            differ++;
            size_t d = 0;
            while (d < MJ_COUNT(differences) && (strcmp(differences[d].name, label) != 0 ||
                                                 differences[d].err != err || seen[d]))
                d++;
            if (d == MJ_COUNT(differences))
                fail_msg("%s: %s: %s", files[f], label, mj_errlabel(err));
            seen[d] = true;
        }
        cJSON_Delete(json);
    }
    print_message("dasl-cbor: %u cases, %u differ\n", cases, differ);
    assert_int_equal(cases, 83);
    assert_int_equal(differ, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_malformed), cmocka_unit_test(test_depth), cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_writer),    cmocka_unit_test(test_dasl),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
