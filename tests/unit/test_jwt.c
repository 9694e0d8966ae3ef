/* Tokens of service auth: what is read, what is believed, and signatures with a high s. */
#include "cmocka_all.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>

#include "atproto/jwt.h"
#include "base/err.h"

#define ISS "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
#define US  "did:web:feeds.example.com"
#define LXM "app.bsky.feed.getFeedSkeleton"
#define NOW 1767225600

static void put_base64url(struct mj_span in, struct mj_buf *out)
{
    static const char abc[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t bits = 0;
    int n = 0;
    for (size_t i = 0; i < in.len; i++) {
        bits = bits << 8 | in.ptr[i];
        for (n += 8; n >= 6; n -= 6)
            mj_buf_putc(out, abc[bits >> (n - 6) & 63]);
    }
    if (n)
        mj_buf_putc(out, abc[bits << (6 - n) & 63]);
}

static struct mj_keypair key_of(enum mj_key_type type)
{
    struct mj_keypair k;
    mj_keypair_derive(type, MJ_SPAN("jwt"), &k);
    return k;
}

/* The other s that is good as well: the order less s. */
static void flip(enum mj_key_type type, uint8_t sig[MJ_SIG_LEN])
{
    EC_GROUP *g =
        EC_GROUP_new_by_curve_name(type == MJ_KEY_K256 ? NID_secp256k1 : NID_X9_62_prime256v1);
    BIGNUM *s = BN_bin2bn(sig + 32, 32, NULL);
    assert_int_equal(BN_sub(s, EC_GROUP_get0_order(g), s), 1);
    assert_int_equal(BN_bn2binpad(s, sig + 32, 32), 32);
    BN_free(s);
    EC_GROUP_free(g);
}

static void make(const char *header, const char *claims, const struct mj_keypair *k, bool high,
                 struct mj_buf *out)
{
    uint8_t sig[MJ_SIG_LEN];
    put_base64url(mj_str(header), out);
    mj_buf_putc(out, '.');
    put_base64url(mj_str(claims), out);
    mj_keypair_sign(k, mj_buf_span(out), sig);
    if (high)
        flip(k->type, sig);
    mj_buf_putc(out, '.');
    put_base64url(mj_span(sig, sizeof sig), out);
}

#define CLAIMS                                                                                     \
    "{\"iss\":\"" ISS "\",\"aud\":\"" US "\",\"lxm\":\"" LXM                                       \
    "\",\"iat\":1767225600,\"exp\":1767225660}"

static void signatures(void **state)
{
    (void)state;
    static const char *const headers[] = {[MJ_KEY_K256] = "{\"typ\":\"JWT\",\"alg\":\"ES256K\"}",
                                          [MJ_KEY_P256] = "{\"alg\":\"ES256\"}"};
    for (int type = 0; type < 2; type++)
        for (int high = 0; high < 2; high++) {
            struct mj_keypair k = key_of((enum mj_key_type)type);
            struct mj_pubkey *mine, *other;
            struct mj_jwt jwt;
            MJ_AUTO_BUF token = {0};
            make(headers[type], CLAIMS, &k, high, &token);
            assert_int_equal(mj_jwt_parse(mj_buf_span(&token), &jwt), 0);
            assert_string_equal(jwt.iss, ISS);
            assert_string_equal(jwt.aud, US);
            assert_string_equal(jwt.lxm, LXM);
            assert_int_equal(jwt.exp, NOW + 60);
            assert_int_equal(mj_pubkey_from_point(k.type, mj_span(k.point, MJ_POINT_LEN), &mine),
                             0);
            assert_int_equal(mj_jwt_verify(&jwt, mine), 0);
            /* A key of the other curve, and another message. */
            struct mj_keypair o = key_of((enum mj_key_type) !type);
            assert_int_equal(mj_pubkey_from_point(o.type, mj_span(o.point, MJ_POINT_LEN), &other),
                             0);
            assert_int_equal(mj_jwt_verify(&jwt, other), MJ_ESIG);
            jwt.sig[5] ^= 1;
            assert_int_equal(mj_jwt_verify(&jwt, mine), MJ_ESIG);
            mj_pubkey_free(mine);
            mj_pubkey_free(other);
        }
}

static void odd_tokens(void **state)
{
    (void)state;
    static const char good[] = "{\"alg\":\"ES256K\"}";
    static const struct {
        const char *header, *claims;
        int err;
    } cases[] = {
        {good, CLAIMS, 0},
        {"{\"alg\":\"ES256K\",\"typ\":\"jwt\",\"kid\":5}", CLAIMS, 0},
        {"{\"alg\":\"none\"}", CLAIMS, MJ_EKEY},
        {"{\"alg\":\"HS256\"}", CLAIMS, MJ_EKEY},
        {"{\"alg\":\"ES256K\",\"alg\":\"none\"}", CLAIMS, MJ_EKEY},
        {"{\"typ\":\"JWT\"}", CLAIMS, MJ_ESYNTAX},
        {"{\"alg\":7}", CLAIMS, MJ_ESYNTAX},
        {"{\"alg\":\"ES256K\",\"typ\":\"at+jwt\"}", CLAIMS, MJ_ETYPE},
        {"{\"alg\":\"ES256K\",\"crit\":[\"x\"]}", CLAIMS, MJ_ETYPE},
        {"[]", CLAIMS, MJ_ESYNTAX},
        {"", CLAIMS, MJ_ESYNTAX},
        {good, "{}", MJ_ESYNTAX},
        {good, "", MJ_ESYNTAX},
        {good, "{\"iss\":\"" ISS "\",\"aud\":\"" US "\"}", MJ_ESYNTAX},
        {good, "{\"iss\":\"" ISS "\",\"exp\":1}", MJ_ESYNTAX},
        {good, "{\"iss\":\"" ISS "\",\"aud\":[\"" US "\"],\"exp\":1}", MJ_ESYNTAX},
        {good, "{\"iss\":\"" ISS "\",\"aud\":\"" US "\",\"exp\":\"1\"}", MJ_ESYNTAX},
        {good, "{\"iss\":\"" ISS "\",\"aud\":\"" US "\",\"exp\":-1}", MJ_ESYNTAX},
        {good, "{\"iss\":\"" ISS "\",\"aud\":\"" US "\",\"exp\":1e99}", MJ_ESYNTAX},
        {good, "{\"iss\":\"" ISS "\",\"aud\":\"" US "\",\"exp\":1767225660.5}", 0},
        {good, "{\"iss\":\"" ISS "#atproto\",\"aud\":\"" US "\",\"exp\":1}", 0},
        {good, "{\"iss\":\"alice.test\",\"aud\":\"" US "\",\"exp\":1}", MJ_EDID},
        {good, "{\"iss\":\"did:plc:x\\u0000y\",\"aud\":\"" US "\",\"exp\":1}", MJ_ESYNTAX},
    };
    struct mj_keypair k = key_of(MJ_KEY_K256);
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        struct mj_jwt jwt;
        MJ_AUTO_BUF token = {0};
        make(cases[i].header, cases[i].claims, &k, false, &token);
        int err = mj_jwt_parse(mj_buf_span(&token), &jwt);
        if (err != cases[i].err)
            fail_msg("%s %s: %s", cases[i].header, cases[i].claims, mj_strerror(err));
        if (!err)
            assert_string_equal(jwt.iss, ISS);
        else
            assert_non_null(mj_jwt_parse_fault(err).name);
    }
}

static void bad_shapes(void **state)
{
    (void)state;
    struct mj_keypair k = key_of(MJ_KEY_K256);
    struct mj_jwt jwt;
    MJ_AUTO_BUF token = {0};
    make("{\"alg\":\"ES256K\"}", CLAIMS, &k, false, &token);
    for (size_t n = 0; n < token.len; n++)
        assert_int_not_equal(mj_jwt_parse(mj_span(token.ptr, n), &jwt), 0);
    MJ_AUTO_BUF more = {0};
    mj_buf_put(&more, token.ptr, token.len);
    mj_buf_puts(&more, "A");
    assert_int_equal(mj_jwt_parse(mj_buf_span(&more), &jwt), MJ_ESYNTAX);
    more.len--;
    mj_buf_puts(&more, "=");
    assert_int_equal(mj_jwt_parse(mj_buf_span(&more), &jwt), MJ_ESYNTAX);
    /* A last character with spare bits would be a second text for the same bytes. */
    more.len--;
    more.ptr[more.len - 1]++;
    assert_int_equal(mj_jwt_parse(mj_buf_span(&more), &jwt), MJ_ESYNTAX);
    while (more.len <= MJ_JWT_MAX)
        mj_buf_putc(&more, 'A');
    assert_int_equal(mj_jwt_parse(mj_buf_span(&more), &jwt), MJ_ELIMIT);
}

static void checks(void **state)
{
    (void)state;
    static const struct {
        const char *aud, *lxm;
        int64_t exp, nbf, iat;
        const char *fault;
    } cases[] = {
        {US, LXM, NOW + 60, 0, NOW, NULL},
        {US "#bsky_fg", LXM, NOW + 60, 0, 0, NULL},
        {US "#atproto_labeler", LXM, NOW + 60, 0, 0, "BadJwtAudience"},
        {US ".evil.example", LXM, NOW + 60, 0, 0, "BadJwtAudience"},
        {"did:web:other.example", LXM, NOW + 60, 0, 0, "BadJwtAudience"},
        {US, "app.bsky.feed.getFeed", NOW + 60, 0, 0, "BadJwtLexiconMethod"},
        {US, "", NOW + 60, 0, 0, "BadJwtLexiconMethod"},
        {US, LXM, NOW - MJ_JWT_SKEW_S, 0, 0, NULL},
        {US, LXM, NOW - MJ_JWT_SKEW_S - 1, 0, 0, "JwtExpired"},
        {US, LXM, NOW + 60, NOW + MJ_JWT_SKEW_S, 0, NULL},
        {US, LXM, NOW + 60, NOW + MJ_JWT_SKEW_S + 1, 0, "BadJwt"},
        {US, LXM, NOW + 60, 0, NOW + MJ_JWT_SKEW_S + 1, "BadJwt"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        struct mj_jwt jwt = {.exp = cases[i].exp, .nbf = cases[i].nbf, .iat = cases[i].iat};
        struct mj_jwt_fault fault = {0};
        strcpy(jwt.aud, cases[i].aud);
        strcpy(jwt.lxm, cases[i].lxm);
        bool good = mj_jwt_check(&jwt, US, "#bsky_fg", LXM, NOW, &fault);
        assert_int_equal(good, !cases[i].fault);
        if (!good)
            assert_string_equal(fault.name, cases[i].fault);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signatures),
        cmocka_unit_test(odd_tokens),
        cmocka_unit_test(bad_shapes),
        cmocka_unit_test(checks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
