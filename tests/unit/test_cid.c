/* CIDs in both forms, SHA-256, and the CAR reader. */
#include "cmocka_all.h"

#include "atproto/car.h"
#include "atproto/cid.h"
#include "base/err.h"
#include "shared.h"

/* The empty MST and its published CID. */
static const uint8_t empty_tree[] = {0xa2, 0x61, 'e', 0x80, 0x61, 'l', 0xf6};
static const char empty_tree_cid[] = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm";

static void test_sha256(void **state)
{
    (void)state;
    uint8_t got[32];
    MJ_AUTO_BUF want = {0};
    mj_sha256(mj_str("abc"), got);
    mj_test_hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", &want);
    assert_memory_equal(got, want.ptr, 32);
    mj_sha256(mj_span(NULL, 0), got);
    assert_int_equal(got[0], 0xe3);
}

static void test_text(void **state)
{
    (void)state;
    struct mj_cid cid;
    char text[MJ_CID_TEXT_LEN];
    uint8_t back[MJ_CID_MAX];
    mj_cid_of(mj_span(empty_tree, sizeof empty_tree), &cid);
    struct mj_span span = mj_span(cid.bytes, MJ_CID_LEN);
    assert_int_equal(mj_cid_text(span, text), MJ_CID_TEXT_LEN);
    assert_memory_equal(text, empty_tree_cid, MJ_CID_TEXT_LEN);
    assert_int_equal(mj_cid_from_text(mj_span(text, MJ_CID_TEXT_LEN), back), MJ_CID_LEN);
    assert_memory_equal(back, cid.bytes, MJ_CID_LEN);
    assert_true(mj_cid_is_structural(span));
    assert_true(mj_cid_matches(span, mj_span(empty_tree, sizeof empty_tree)));
    assert_false(mj_cid_matches(span, mj_span(empty_tree, sizeof empty_tree - 1)));

    /* Every length of bytes survives the text form when it is a CID. */
    for (size_t digest = 1; digest <= MJ_CID_MAX - 4; digest++) {
        uint8_t any[MJ_CID_MAX] = {0x01, 0x71, 0x12, (uint8_t)digest};
        char long_text[1 + (MJ_CID_MAX * 8 + 4) / 5];
        for (size_t i = 0; i < digest; i++)
            any[4 + i] = (uint8_t)(digest * 37 + i * 101);
        size_t n = mj_cid_text(mj_span(any, 4 + digest), long_text);
        assert_int_equal(n, 1 + ((4 + digest) * 8 + 4) / 5);
        assert_int_equal(mj_cid_from_text(mj_span(long_text, n), back), 4 + digest);
        assert_memory_equal(back, any, 4 + digest);
    }

    static const char *const bad[] = {
        "",
        "b",
        "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hp",   /* one short */
        "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpma", /* one over */
        "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpn",  /* spare bits set */
        "Bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm",
        "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hp1",
        "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR",
        "zdj7WWeQ43G6JJvLWQWZpyHuAMq6uYWRjkBXFad11vE2LHhQ7"};
    for (size_t i = 0; i < MJ_COUNT(bad); i++)
        if (mj_cid_from_text(mj_str(bad[i]), back) != MJ_ECID)
            fail_msg("%s", bad[i]);
}

static void test_parse(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        int size;
        bool valid;
    } cases[] = {
        {"01 71 12 01 aa ff", 5, false},   /* what follows is not part of it */
        {"01 b0 02 1e 02 aabb", 7, false}, /* two-byte codec */
        {"12 20 00", MJ_ECID, false},      /* CIDv0 */
        {"02 71 12 01 aa", MJ_ECID, false},
        {"01 71 12 00", MJ_ECID, false},       /* no digest */
        {"01 71 12 02 aa", MJ_ECID, false},    /* cut */
        {"01 f1 00 12 01 aa", MJ_ECID, false}, /* varint not minimal */
        {"01 71 12 61 aa", MJ_ECID, false},
        {"01", MJ_ECID, false},
        {"", MJ_ECID, false},
        {"01 55 12 20 0000000000000000000000000000000000000000000000000000000000000000", 36, true},
        {"01 70 12 20 0000000000000000000000000000000000000000000000000000000000000000", 36, false},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        MJ_AUTO_BUF b = {0};
        mj_test_hex(cases[i].hex, &b);
        if (mj_cid_parse(mj_buf_span(&b)) != cases[i].size)
            fail_msg("%s", cases[i].hex);
        assert_int_equal(mj_cid_is_valid(mj_buf_span(&b)), cases[i].valid);
    }
    uint8_t big[102] = {0x01, 0x71, 0x12, 0x60};
    assert_int_equal(mj_cid_parse(mj_span(big, sizeof big)), MJ_CID_MAX);
    big[3] = 0x61;
    assert_int_equal(mj_cid_parse(mj_span(big, sizeof big)), MJ_ECID);
}

/* A small archive: `blocks` blocks of `size` bytes. */
static void make_car(struct mj_buf *out, unsigned blocks, size_t size)
{
    uint8_t *block = calloc(1, size + 1);
    struct mj_cid cid;
    for (unsigned i = 0; i < blocks; i++) {
        block[0] = (uint8_t)i;
        mj_cid_of(mj_span(block, size), &cid);
        if (i == 0)
            mj_car_put_header(out, mj_span(cid.bytes, MJ_CID_LEN));
        mj_car_put_section(out, mj_span(cid.bytes, MJ_CID_LEN), mj_span(block, size));
    }
    free(block);
}

/* Sections of the archive, or the error. */
static int count(struct mj_span in)
{
    struct mj_car car;
    struct mj_car_section s;
    int err = mj_car_open(&car, in), n = 0;
    while (!err && (err = mj_car_next(&car, &s)) > 0) {
        err = 0;
        n++;
    }
    return err ? err : n;
}

static void test_car(void **state)
{
    (void)state;
    /* Sizes on both sides of the one-, two- and three-byte section lengths. */
    static const size_t sizes[] = {0, 1, 91, 92, 300, 16347, 16348, 70000};
    for (size_t i = 0; i < MJ_COUNT(sizes); i++) {
        MJ_AUTO_BUF b = {0};
        make_car(&b, 3, sizes[i]);
        struct mj_car car;
        struct mj_car_section s;
        assert_int_equal(mj_car_open(&car, mj_buf_span(&b)), 0);
        for (int n = 0; n < 3; n++) {
            assert_int_equal(mj_car_next(&car, &s), 1);
            assert_int_equal(s.block.len, sizes[i]);
            assert_true(mj_cid_matches(s.cid, s.block));
            assert_int_equal(mj_span_eq(s.cid, car.root), n == 0 || sizes[i] == 0);
        }
        assert_int_equal(mj_car_next(&car, &s), 0);
        /* Cut anywhere but between sections, it is not an archive. */
        size_t step = b.len > 2000 ? 997 : 1;
        for (size_t cut = 0; cut < b.len; cut += step) {
            int n = count(mj_span(b.ptr, cut));
            size_t body = b.len - 3 * (b.len - 59) / 3;
            bool boundary = cut >= body && (cut - body) % ((b.len - 59) / 3) == 0;
            if (boundary ? n < 0 : n != MJ_ECAR)
                fail_msg("size %zu cut %zu: %d", sizes[i], cut, n);
        }
    }
}

#define ROOT                                                                                       \
    "d82a58250001711220"                                                                           \
    "0000000000000000000000000000000000000000000000000000000000000000"
static void test_car_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        int result;
    } cases[] = {
        {"3a a2 65 726f6f7473 81 " ROOT " 67 76657273696f6e 01", 0},
        {"ba00 a2 65 726f6f7473 81 " ROOT " 67 76657273696f6e 01",
         MJ_ECAR}, /* length not minimal */
        {"3a a2 65 726f6f7473 81 " ROOT " 67 76657273696f6e 02", MJ_ECAR},
        {"3b a2 65 726f6f7473 81 " ROOT " 67 76657273696f6e 01 00", MJ_ECAR}, /* trailing byte */
        {"11 a2 65 726f6f7473 80 67 76657273696f6e 01", MJ_ECAR},             /* no root */
        {"11 a2 65 726f6f7473 f6 67 76657273696f6e 01", MJ_ECAR},
        {"11 a2 65 726f6f7473 8100 67 76657273696f6e 01", MJ_ECAR},
        {"0a a1 67 76657273696f6e 01", MJ_ECAR},
        {"01 80", MJ_ECAR},
        {"00", MJ_ECAR},
        {"", MJ_ECAR},
        {"ffffffffffffffffff01 00", MJ_ECAR},
        /* sections */
        {"3a a2 65 726f6f7473 81 " ROOT " 67 76657273696f6e 01  00", MJ_ECAR},
        {"3a a2 65 726f6f7473 81 " ROOT " 67 76657273696f6e 01  05 01b002 1e 01", MJ_ECAR},
        {"3a a2 65 726f6f7473 81 " ROOT " 67 76657273696f6e 01  07 01b002 1e 01 aa bb", 1},
        {"3a a2 65 726f6f7473 81 " ROOT " 67 76657273696f6e 01  03 1220aa", MJ_ECAR},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        MJ_AUTO_BUF b = {0};
        mj_test_hex(cases[i].hex, &b);
        int got = count(mj_buf_span(&b));
        if (got != cases[i].result)
            fail_msg("%s: %d", cases[i].hex, got);
    }
    /* A section length in two bytes where one would do. */
    MJ_AUTO_BUF b = {0};
    make_car(&b, 1, 20);
    size_t at = b.len - 57;
    assert_int_equal(b.ptr[at], 56);
    mj_buf_putc(&b, 0);
    memmove(b.ptr + at + 2, b.ptr + at + 1, 56);
    b.ptr[at] = 0x80 | 56;
    b.ptr[at + 1] = 0;
    assert_int_equal(count(mj_buf_span(&b)), MJ_ECAR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256),        cmocka_unit_test(test_text),
        cmocka_unit_test(test_parse),         cmocka_unit_test(test_car),
        cmocka_unit_test(test_car_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
