/* Labels: their bytes, their signatures, and what is refused; and private keys. */
#include "cmocka_all.h"

#include "atproto/cbor.h"
#include "atproto/label.h"
#include "base/err.h"

static const struct mj_label plain = {.src = MJ_SPAN("did:web:labels.example.com"),
                                      .uri = MJ_SPAN("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"),
                                      .val = MJ_SPAN("spam"),
                                      .cts = MJ_SPAN("2026-01-01T00:00:00.000000Z")};

static const char *const keys[] = {
    "1111111111111111111111111111111111111111111111111111111111111111",
    "z42tkBZ7pzUwoxSyz9VF5JeYivp1AKLoaCjm3stoUFThPkkh"};

static void parse_key(const char *text, struct mj_keypair *out, struct mj_pubkey **public)
{
    assert_int_equal(mj_keypair_parse(mj_str(text), out), 0);
    assert_int_equal(mj_pubkey_from_point(out->type, mj_span(out->point, MJ_POINT_LEN), public), 0);
}

static void private_keys(void **state)
{
    (void)state;
    /* What @atproto/crypto says of the same secrets. */
    static const char *const expected[] = {"zQ3shjyJXUaRJC2GC43mX8aPrUhoTdoiongXhZjsdTzPKYZUM",
                                           "zDnaex62me84JZnkEzmeYRa8FCLNe7y1asoSwBMK26GBYpL7c"};
    char text[MJ_MULTIBASE_MAX];
    struct mj_keypair k;
    for (size_t i = 0; i < MJ_COUNT(keys); i++) {
        assert_int_equal(mj_keypair_parse(mj_str(keys[i]), &k), 0);
        mj_key_multibase(k.type, k.point, text);
        assert_string_equal(text, expected[i]);
    }
    assert_int_equal(mj_keypair_parse(mj_str(""), &k), MJ_ESYNTAX);
    assert_int_equal(mj_keypair_parse(mj_str("z"), &k), MJ_EKEY);
    assert_int_equal(mj_keypair_parse(mj_str("0x11"), &k), MJ_ESYNTAX);
    assert_int_equal(mj_keypair_parse(mj_str(expected[0]), &k), MJ_EKEY); /* a public one */
    char zero[65];
    memset(zero, '0', 64);
    zero[64] = 0;
    assert_int_equal(mj_keypair_parse(mj_str(zero), &k), MJ_EKEY);
}

static void bytes(void **state)
{
    (void)state;
    struct mj_label l = plain, back;
    struct mj_span sig;
    MJ_AUTO_BUF b = {0};
    mj_label_encode(&l, mj_span(NULL, 0), &b);
    assert_int_equal(b.ptr[0], 0xa5); /* cts src uri val ver */
    assert_int_equal(mj_cbor_check(mj_buf_span(&b)), 0);
    b.len = 0;
    l.neg = true;
    l.cid = MJ_SPAN("bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a");
    l.exp = MJ_SPAN("2026-02-01T00:00:00Z");
    mj_label_encode(&l, MJ_SPAN("0123"), &b);
    assert_int_equal(b.ptr[0], 0xa9);
    assert_int_equal(mj_label_parse(mj_buf_span(&b), &back, &sig), 0);
    assert_true(mj_span_eq(back.cid, l.cid) && mj_span_eq(back.exp, l.exp) && back.neg);
    assert_true(mj_span_eq(back.uri, l.uri) && mj_span_is(sig, "0123"));
    for (size_t n = 0; n < b.len; n++)
        assert_int_not_equal(mj_label_parse(mj_span(b.ptr, n), &back, &sig), 0);
}

static void signatures(void **state)
{
    (void)state;
    for (size_t i = 0; i < MJ_COUNT(keys); i++) {
        struct mj_keypair k;
        struct mj_pubkey *public;
        struct mj_label back;
        struct mj_span sig;
        MJ_AUTO_BUF b = {0};
        parse_key(keys[i], &k, &public);
        /* P-256 takes another nonce each time: half of them have to be turned round. */
        for (int turn = 0; turn < 20; turn++) {
            b.len = 0;
            assert_int_equal(mj_label_sign(&plain, &k, &b), 0);
            assert_int_equal(mj_label_parse(mj_buf_span(&b), &back, &sig), 0);
            assert_int_equal(sig.len, MJ_SIG_LEN);
            assert_int_equal(mj_label_verify(&back, sig, public), 0);
        }
        back.neg = true;
        assert_int_equal(mj_label_verify(&back, sig, public), MJ_ESIG);
        mj_pubkey_free(public);
    }
}

/* Some say neg: false, and sign it. */
static void a_false_neg_counts(void **state)
{
    (void)state;
    struct mj_keypair k;
    struct mj_pubkey *public;
    uint8_t sig[MJ_SIG_LEN];
    MJ_AUTO_BUF b = {0};
    parse_key(keys[0], &k, &public);
    const struct mj_span texts[][2] = {{MJ_SPAN("cts"), plain.cts},
                                       {MJ_SPAN("neg"), {0}},
                                       {MJ_SPAN("src"), plain.src},
                                       {MJ_SPAN("uri"), plain.uri},
                                       {MJ_SPAN("val"), plain.val}};
    mj_cbor_put_map(&b, 6);
    for (size_t i = 0; i < MJ_COUNT(texts); i++) {
        mj_cbor_put_text(&b, texts[i][0]);
        if (texts[i][1].ptr)
            mj_cbor_put_text(&b, texts[i][1]);
        else
            mj_cbor_put_bool(&b, false);
    }
    mj_cbor_put_text(&b, MJ_SPAN("ver"));
    mj_cbor_put_int(&b, 1);
    mj_keypair_sign(&k, mj_buf_span(&b), sig);
    assert_int_equal(mj_label_verify(&plain, mj_span(sig, sizeof sig), public), 0);
    mj_pubkey_free(public);
}

static void refused(void **state)
{
    (void)state;
    char longer[130];
    memset(longer, 'x', sizeof longer);
    struct mj_label l = plain;
    assert_null(mj_label_check(&l));
    l.val = mj_span(longer, 129);
    assert_non_null(mj_label_check(&l));
    l.val = mj_span(NULL, 0);
    assert_non_null(mj_label_check(&l));
    l.val = mj_span("a\0b", 3);
    assert_non_null(mj_label_check(&l));
    l = plain;
    l.uri = MJ_SPAN("https://example.com");
    assert_non_null(mj_label_check(&l));
    struct mj_span *const needed[] = {&l.src, &l.uri, &l.val, &l.cts};
    for (size_t i = 0; i < MJ_COUNT(needed); i++) {
        l = plain;
        *needed[i] = mj_span(NULL, 0);
        assert_non_null(mj_label_check(&l));
    }
    l = plain;
    l.src = MJ_SPAN("example.com");
    assert_non_null(mj_label_check(&l));
    l = plain;
    l.exp = MJ_SPAN("tomorrow");
    assert_non_null(mj_label_check(&l));
    l = plain;
    l.cid = MJ_SPAN("x");
    assert_non_null(mj_label_check(&l));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(private_keys), cmocka_unit_test(bytes),
        cmocka_unit_test(signatures),   cmocka_unit_test(a_false_neg_counts),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
