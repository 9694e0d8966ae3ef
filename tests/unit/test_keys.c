/* Keys against the interop vectors, and against themselves. */
#include "cmocka_all.h"

#include <cjson/cJSON.h>
#include <openssl/evp.h>

#include "atproto/keys.h"
#include "base/err.h"
#include "shared.h"

/* The file, or the test is skipped. */
static struct mj_buf shared(const char *name)
{
    struct mj_buf b = {0};
    if (!mj_test_shared(name, &b))
        skip();
    return b;
}

static cJSON *load(const char *name)
{
    MJ_AUTO_BUF text = shared(name);
    cJSON *json = cJSON_ParseWithLength((const char *)text.ptr, text.len);
    assert_non_null(json);
    return json;
}

static const char *str(const cJSON *o, const char *key)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));
    assert_non_null(s);
    return s;
}

/* Base64 with or without padding. */
static size_t unbase64(const char *in, uint8_t *out)
{
    static const char abc[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t acc = 0;
    int bits = 0;
    size_t n = 0;
    for (; *in && *in != '='; in++) {
        const char *at = strchr(abc, *in);
        assert_non_null(at);
        acc = acc << 6 | (uint32_t)(at - abc);
        bits += 6;
        if (bits >= 8)
            out[n++] = (uint8_t)(acc >> (bits -= 8));
    }
    return n;
}

static void signature_vectors(void **state)
{
    (void)state;
    cJSON *all = load("interop/crypto/signature-fixtures.json"), *v;
    int n = 0, good = 0;
    cJSON_ArrayForEach(v, all)
    {
        uint8_t message[64], sig[128];
        size_t message_len = unbase64(str(v, "messageBase64"), message);
        size_t sig_len = unbase64(str(v, "signatureBase64"), sig);
        bool valid = cJSON_IsTrue(cJSON_GetObjectItem(v, "validSignature"));
        struct mj_pubkey *k;
        assert_int_equal(mj_pubkey_parse(mj_str(str(v, "publicKeyDid")), &k), 0);
        assert_int_equal(mj_pubkey_verify(k, mj_span(message, message_len), mj_span(sig, sig_len)),
                         valid ? 0 : MJ_ESIG);
        message[0] ^= 1;
        assert_int_equal(mj_pubkey_verify(k, mj_span(message, message_len), mj_span(sig, sig_len)),
                         MJ_ESIG);

        /* The same point in the legacy form: multibase without a codec. */
        MJ_AUTO_BUF point = {0};
        assert_int_equal(mj_base58_decode(mj_str(str(v, "publicKeyMultibase") + 1), &point), 0);
        struct mj_pubkey *bare;
        assert_int_equal(mj_pubkey_from_point(mj_pubkey_type(k), mj_buf_span(&point), &bare), 0);
        assert_true(mj_span_eq(mj_pubkey_point(k), mj_pubkey_point(bare)));
        mj_pubkey_free(bare);
        mj_pubkey_free(k);
        n++;
        good += valid;
    }
    assert_int_equal(n, 6);
    assert_int_equal(good, 2);
    cJSON_Delete(all);
}

static void check_did_key(enum mj_key_type type, const uint8_t secret[32], const char *did_key)
{
    struct mj_keypair k;
    assert_int_equal(mj_keypair_from_secret(type, secret, &k), 0);
    char text[MJ_MULTIBASE_MAX];
    size_t n = mj_key_multibase(type, k.point, text);
    assert_int_equal(n, strlen(text));
    assert_string_equal(text, did_key + strlen("did:key:"));
    struct mj_pubkey *pub;
    assert_int_equal(mj_pubkey_parse(mj_str(did_key), &pub), 0);
    assert_int_equal(mj_pubkey_type(pub), type);
    assert_memory_equal(mj_pubkey_point(pub).ptr, k.point, MJ_POINT_LEN);
    mj_pubkey_free(pub);
}

static void did_key_vectors(void **state)
{
    (void)state;
    cJSON *all = load("interop/crypto/w3c_didkey_K256.json"), *v;
    int n = 0;
    cJSON_ArrayForEach(v, all)
    {
        const char *hex = str(v, "privateKeyBytesHex");
        uint8_t secret[32];
        for (size_t i = 0; i < 32; i++) {
            unsigned byte;
            assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
            secret[i] = (uint8_t)byte;
        }
        check_did_key(MJ_KEY_K256, secret, str(v, "publicDidKey"));
        n++;
    }
    assert_int_equal(n, 5);
    cJSON_Delete(all);

    all = load("interop/crypto/w3c_didkey_P256.json");
    n = 0;
    cJSON_ArrayForEach(v, all)
    {
        MJ_AUTO_BUF secret = {0};
        assert_int_equal(mj_base58_decode(mj_str(str(v, "privateKeyBytesBase58")), &secret), 0);
        assert_int_equal(secret.len, 32);
        check_did_key(MJ_KEY_P256, secret.ptr, str(v, "publicDidKey"));
        n++;
    }
    assert_int_equal(n, 1);
    cJSON_Delete(all);
}

/* RFC 6979 A.2.5, "sample" and "test" with SHA-256 on P-256; s is lowered where it is high. */
static void p256_nonces_follow_the_rfc(void **state)
{
    (void)state;
    static const char secret_hex[] =
        "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721";
    static const struct {
        const char *message, *r, *s;
        bool high;
    } vectors[] = {
        {"sample", "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
         "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8", true},
        {"test", "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367",
         "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083", false},
    };
    uint8_t secret[32], want[64], sig[64], n[32];
    size_t len;
    struct mj_keypair k;
    assert_true(OPENSSL_hexstr2buf_ex(secret, 32, &len, secret_hex, '\0'));
    assert_true(OPENSSL_hexstr2buf_ex(
        n, 32, &len, "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551", '\0'));
    assert_int_equal(mj_keypair_from_secret(MJ_KEY_P256, secret, &k), 0);
    for (size_t i = 0; i < MJ_COUNT(vectors); i++) {
        assert_true(OPENSSL_hexstr2buf_ex(want, 32, &len, vectors[i].r, '\0'));
        assert_true(OPENSSL_hexstr2buf_ex(want + 32, 32, &len, vectors[i].s, '\0'));
        int borrow = 0;
        for (int j = 31; j >= 0 && vectors[i].high; j--) { /* n − s */
            int d = n[j] - want[32 + j] - borrow;
            borrow = d < 0;
            want[32 + j] = (uint8_t)d;
        }
        mj_keypair_sign(&k, mj_str(vectors[i].message), sig);
        assert_memory_equal(sig, want, 64);
    }
}

static void sign_and_verify(void **state)
{
    (void)state;
    for (int type = MJ_KEY_K256; type <= MJ_KEY_P256; type++) {
        for (uint32_t i = 0; i < 100; i++) {
            struct mj_keypair k, again;
            mj_keypair_derive(type, mj_span(&i, sizeof i), &k);
            mj_keypair_derive(type, mj_span(&i, sizeof i), &again);
            assert_memory_equal(k.secret, again.secret, 32);
            assert_memory_equal(k.point, again.point, MJ_POINT_LEN);
            struct mj_pubkey *pub;
            assert_int_equal(mj_pubkey_from_point(type, mj_span(k.point, MJ_POINT_LEN), &pub), 0);
            uint8_t sig[MJ_SIG_LEN], sig2[MJ_SIG_LEN];
            struct mj_span message = mj_span(&i, sizeof i);
            mj_keypair_sign(&k, message, sig);
            mj_keypair_sign(&k, message, sig2);
            assert_memory_equal(sig, sig2, MJ_SIG_LEN);
            assert_int_equal(mj_pubkey_verify(pub, message, mj_span(sig, 64)), 0);
            assert_int_equal(mj_pubkey_verify(pub, message, mj_span(sig, 63)), MJ_ESIG);
            sig[i % 64] ^= 0x10;
            assert_int_equal(mj_pubkey_verify(pub, message, mj_span(sig, 64)), MJ_ESIG);
            mj_pubkey_free(pub);
        }
    }
}

static void bad_keys(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int r;
    } bad[] = {
        {"", MJ_ESYNTAX},
        {"z", MJ_EKEY},
        {"did:key:", MJ_ESYNTAX},
        {"f0123", MJ_ESYNTAX},
        {"zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBm0", MJ_ESYNTAX}, /* 0 is not base58 */
        {"zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBm", MJ_EKEY},     /* one short */
        {"z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK", MJ_EKEY},     /* Ed25519 */
    };
    struct mj_pubkey *k;
    for (size_t i = 0; i < MJ_COUNT(bad); i++)
        assert_int_equal(mj_pubkey_parse(mj_str(bad[i].text), &k), bad[i].r);
    char huge[4096];
    memset(huge, 'z', sizeof huge);
    assert_int_equal(mj_pubkey_parse(mj_span(huge, sizeof huge), &k), MJ_ESYNTAX);

    uint8_t point[65] = {2};
    memset(point + 1, 0xff, 64);
    for (int type = MJ_KEY_K256; type <= MJ_KEY_P256; type++) {
        point[0] = 2;
        assert_int_equal(mj_pubkey_from_point(type, mj_span(point, 33), &k), MJ_EKEY);
        point[0] = 4;
        assert_int_equal(mj_pubkey_from_point(type, mj_span(point, 65), &k), MJ_EKEY);
        assert_int_equal(mj_pubkey_from_point(type, mj_span(point, 33), &k), MJ_EKEY);
        assert_int_equal(mj_pubkey_from_point(type, (struct mj_span){0}, &k), MJ_EKEY);
        struct mj_keypair pair;
        uint8_t secret[32] = {0};
        assert_int_equal(mj_keypair_from_secret(type, secret, &pair), MJ_EKEY);
        memset(secret, 0xff, 32);
        assert_int_equal(mj_keypair_from_secret(type, secret, &pair), MJ_EKEY);
    }
}

/* Both forms of a point are one key; uncompressed generators of the two curves. */
static void uncompressed_points(void **state)
{
    (void)state;
    static const char *hex[] = {
        [MJ_KEY_K256] = "0479BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798"
                        "483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8",
        [MJ_KEY_P256] = "046B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296"
                        "4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5"};
    for (int type = MJ_KEY_K256; type <= MJ_KEY_P256; type++) {
        uint8_t point[65], one[32] = {[31] = 1};
        size_t len;
        assert_true(OPENSSL_hexstr2buf_ex(point, 65, &len, hex[type], '\0'));
        struct mj_pubkey *k;
        struct mj_keypair pair;
        assert_int_equal(mj_pubkey_from_point(type, mj_span(point, 65), &k), 0);
        assert_int_equal(mj_keypair_from_secret(type, one, &pair), 0);
        assert_memory_equal(mj_pubkey_point(k).ptr, pair.point, MJ_POINT_LEN);
        mj_pubkey_free(k);
    }
}

static void base58_round_trip(void **state)
{
    (void)state;
    uint8_t bytes[40];
    for (size_t n = 0; n <= sizeof bytes; n++) {
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)(i < n % 5 ? 0 : 7 * i + n);
        MJ_AUTO_BUF text = {0}, back = {0};
        mj_base58_encode(mj_span(bytes, n), &text);
        assert_int_equal(mj_base58_decode(mj_buf_span(&text), &back), 0);
        assert_true(mj_span_eq(mj_buf_span(&back), mj_span(bytes, n)));
    }
    MJ_AUTO_BUF out = {0};
    assert_int_equal(mj_base58_decode(MJ_SPAN("StV1DL6CwTryKyV"), &out), 0);
    assert_true(mj_span_is(mj_buf_span(&out), "hello world"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signature_vectors), cmocka_unit_test(did_key_vectors),
        cmocka_unit_test(sign_and_verify),   cmocka_unit_test(p256_nonces_follow_the_rfc),
        cmocka_unit_test(bad_keys),          cmocka_unit_test(uncompressed_points),
        cmocka_unit_test(base58_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
