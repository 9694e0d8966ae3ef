/* Signatures of webhooks: the published vectors, bad secrets, and what is said about bad
 * signatures. */
#include "cmocka_all.h"

#include <stdio.h>

#include "base/err.h"
#include "deliver/sign.h"

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define OTHER  "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
#define PRIVATE                                                                                    \
    "whsk_6Xb/dCcHpPea21PS1N9VY/"                                                                  \
    "NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
#define SEED   "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc="
#define PUBLIC "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
#define THEN   1614265330
#define V1     "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
#define V1A                                                                                        \
    "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
#define ID   "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define BODY "{\"test\": 2432232314}"

static struct mj_sign_key *key(const char *text)
{
    struct mj_sign_key *k;
    MJ_AUTO_BUF error = {0};
    if (mj_sign_key_parse(mj_str(text), &k, &error))
        fail_msg("%s", mj_buf_cstr(&error));
    return k;
}

static void check_sign(const char *secret, const char *id, const char *want)
{
    struct mj_sign_key *k = key(secret);
    struct mj_signed what = {mj_str(id), THEN, MJ_SPAN(BODY)};
    MJ_AUTO_BUF out = {0};
    assert_int_equal(mj_sign((const struct mj_sign_key *[]){k}, 1, &what, &out), 0);
    assert_string_equal(mj_buf_cstr(&out), want);
    mj_sign_key_free(k);
}

static void vectors(void **state)
{
    (void)state;
    check_sign(SECRET, ID, V1);
    check_sign(" " SECRET "\r\n", ID, V1);
    check_sign(PRIVATE, ID, V1A);
    check_sign(SEED, ID, V1A);
}

static void github_vector(void **state)
{
    (void)state;
    char out[MJ_SIGN_GITHUB_LEN + 1];
    MJ_AUTO_BUF why = {0};
    const struct mj_span secret = MJ_SPAN("It's a Secret to Everybody"),
                         body = MJ_SPAN("Hello, World!");
    assert_int_equal(mj_sign_github(secret, body, out), 0);
    assert_string_equal(out,
                        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
    assert_int_equal(mj_sign_github_verify(secret, mj_str(out), body, &why), 0);
    assert_int_equal(mj_sign_github_verify(secret, mj_str(out), MJ_SPAN("Hello"), &why), MJ_ESIG);
    assert_int_equal(mj_sign_github_verify(secret, mj_str(NULL), body, &why), MJ_ENOENT);
    assert_int_equal(mj_sign_github_verify(secret, MJ_SPAN("sha1=ab"), body, &why), MJ_ESYNTAX);
    assert_int_equal(mj_sign_github(MJ_SPAN(""), body, out), MJ_EINVAL);
}

/* Each is refused with a remedy, and no part of the secret is in the message. */
static void bad_secrets(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "empty"},
        {"correct horse battery staple", "plain text"},
        {"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "plain text"},
        {"whsec_", "not base64"},
        {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "not base64"},
        {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa-_", "not base64"},
        {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZI\no2LaLaSw", "not base64"},
        {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2La====", "not base64"},
        {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaQ=", "23 bytes; 24 to 64"},
        {"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
         "AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
         "65 bytes; 24 to 64"},
        {"whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "no Ed25519 key"},
        {"whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "no Ed25519 key"},
        /* the public half of another key */
        {"whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6K"
         "vQ==",
         "no Ed25519 key"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        struct mj_sign_key *k;
        MJ_AUTO_BUF error = {0};
        assert_int_equal(mj_sign_key_parse(mj_str(cases[i].text), &k, &error), MJ_EKEY);
        assert_null(k);
        if (!strstr(mj_buf_cstr(&error), cases[i].says) ||
            !strstr(mj_buf_cstr(&error), "moonjet webhook secret"))
            fail_msg("%s: %s", cases[i].text, mj_buf_cstr(&error));
        assert_null(strstr(mj_buf_cstr(&error), "MfKQ"));
        assert_null(strstr(mj_buf_cstr(&error), "horse"));
    }
    MJ_AUTO_BUF error = {0};
    struct mj_sign_key *k;
    assert_int_equal(mj_sign_key_parse(MJ_SPAN("\0whsec_"), &k, &error), MJ_EKEY);
}

static void public_only_checks(void **state)
{
    (void)state;
    struct mj_sign_key *k = key(PUBLIC), *p = key(PRIVATE), *s = key(SECRET);
    struct mj_signed what = {MJ_SPAN("a"), THEN, MJ_SPAN("")};
    MJ_AUTO_BUF out = {0};
    assert_false(mj_sign_key_signs(k));
    assert_true(mj_sign_key_signs(p) && mj_sign_key_signs(s));
    assert_int_equal(mj_sign((const struct mj_sign_key *[]){k}, 1, &what, &out), MJ_EINVAL);
    out.len = 0;
    assert_int_equal(mj_sign_key_public(p, &out), 0);
    assert_string_equal(mj_buf_cstr(&out), PUBLIC);
    assert_int_equal(mj_sign_key_public(s, &out), MJ_EINVAL);
    mj_sign_key_free(k);
    mj_sign_key_free(p);
    mj_sign_key_free(s);
    mj_sign_key_free(NULL);
}

/* Old and new keys of both kinds sign; a receiver that knows any one of them accepts. */
static void rotation(void **state)
{
    (void)state;
    struct mj_sign_key *keys[] = {key(SECRET), key(OTHER), key(PRIVATE)};
    struct mj_sign_key *known[] = {key(OTHER), key(PUBLIC), key(SECRET)};
    struct mj_signed what = {MJ_SPAN(ID), THEN, MJ_SPAN(BODY)};
    MJ_AUTO_BUF out = {0};
    assert_int_equal(mj_sign((const struct mj_sign_key *const *)keys, 3, &what, &out), 0);
    struct mj_sign_headers headers = {MJ_SPAN(ID), MJ_SPAN("1614265330"), mj_buf_span(&out)};
    for (size_t i = 0; i < 3; i++) {
        MJ_AUTO_BUF why = {0};
        size_t which = 9;
        const struct mj_sign_key *const one[] = {known[i]};
        assert_int_equal(mj_sign_verify(one, 1, &headers, what.body, THEN + 300, 300, &which, &why),
                         0);
        assert_int_equal(which, 0);
        assert_int_equal(mj_sign_verify((const struct mj_sign_key *const *)known, i + 1, &headers,
                                        what.body, THEN - 300, 300, NULL, &why),
                         0);
    }
    for (size_t i = 0; i < 3; i++) {
        mj_sign_key_free(keys[i]);
        mj_sign_key_free(known[i]);
    }
}

static void reasons(void **state)
{
    (void)state;
    struct mj_sign_key *s = key(SECRET), *o = key(OTHER), *p = key(PUBLIC);
    static const struct {
        const char *id, *timestamp, *signature, *body;
        int64_t now;
        char key;
        int err;
        const char *says;
    } cases[] = {
        {ID, "1614265330", V1, BODY, THEN, 's', 0, ""},
        {ID, "1614265330", "v2,x  " V1 " ", BODY, THEN, 's', 0, ""},
        {NULL, "1614265330", V1, BODY, THEN, 's', MJ_ENOENT, "webhook-id is missing"},
        {ID, NULL, V1, BODY, THEN, 's', MJ_ENOENT, "webhook-timestamp is missing"},
        {ID, "1614265330", "", BODY, THEN, 's', MJ_ENOENT, "webhook-signature is empty"},
        {ID, "1614265330x", V1, BODY, THEN, 's', MJ_ESYNTAX, "not a number"},
        {ID, "-1", V1, BODY, THEN, 's', MJ_ESYNTAX, "not a number"},
        {ID, "99999999999999999999", V1, BODY, THEN, 's', MJ_ESYNTAX, "not a number"},
        {"a.b", "1614265330", V1, BODY, THEN, 's', MJ_ESYNTAX, "has a '.'"},
        {ID, "1614265330", "v2,abc", BODY, THEN, 's', MJ_ESYNTAX, "no v1 or v1a"},
        {ID, "1614265330", "   ", BODY, THEN, 's', MJ_ESYNTAX, "no v1 or v1a"},
        {ID, "1614265330", "v1,g0hM", BODY, THEN, 's', MJ_ESYNTAX, "not whole base64"},
        {ID, "1614265330", "v1,", BODY, THEN, 's', MJ_ESYNTAX, "not whole base64"},
        {ID, "1614265330", V1, BODY " ", THEN, 's', MJ_ESIG, "no signature fits"},
        {ID "x", "1614265330", V1, BODY, THEN, 's', MJ_ESIG, "no signature fits"},
        {ID, "1614265331", V1, BODY, THEN, 's', MJ_ESIG, "no signature fits"},
        {ID, "1614265330", V1, BODY, THEN, 'o', MJ_ESIG, "no signature fits"},
        {ID, "1614265330", V1A, BODY, THEN, 's', MJ_ESIG, "no whpk_ key is given"},
        {ID, "1614265330", V1, BODY, THEN, 'p', MJ_ESIG, "whsec_ secret only"},
        {ID, "1614265330", V1A, BODY, THEN, 'p', 0, ""},
        {ID, "1614265330", V1A, BODY "x", THEN, 'p', MJ_ESIG, "no signature fits"},
        {ID, "1614265330", V1, BODY, THEN + 301, 's', MJ_ELIMIT, "301 seconds old"},
        {ID, "1614265330", V1, BODY, THEN - 301, 's', MJ_ELIMIT, "301 seconds in the future"},
    };
    for (size_t i = 0; i < MJ_COUNT(cases); i++) {
        MJ_AUTO_BUF why = {0};
        struct mj_sign_headers headers = {mj_str(cases[i].id), mj_str(cases[i].timestamp),
                                          mj_str(cases[i].signature)};
        const struct mj_sign_key *const k[] = {cases[i].key == 's'   ? s
                                               : cases[i].key == 'o' ? o
                                                                     : p};
        int err = mj_sign_verify(k, 1, &headers, mj_str(cases[i].body), cases[i].now,
                                 MJ_SIGN_TOLERANCE_S, NULL, &why);
        if (err != cases[i].err || !strstr(mj_buf_cstr(&why), cases[i].says))
            fail_msg("case %zu: %s, '%s'", i, mj_strerror(err), mj_buf_cstr(&why));
    }
    mj_sign_key_free(s);
    mj_sign_key_free(o);
    mj_sign_key_free(p);
}

static void made(void **state)
{
    (void)state;
    MJ_AUTO_BUF secret = {0};
    MJ_AUTO_BUF again = {0};
    MJ_AUTO_BUF private = {0};
    MJ_AUTO_BUF public = {0};
    MJ_AUTO_BUF derived = {0};
    assert_int_equal(mj_sign_make_secret(&secret), 0);
    assert_int_equal(mj_sign_make_secret(&again), 0);
    assert_false(mj_span_eq(mj_buf_span(&secret), mj_buf_span(&again)));
    mj_sign_key_free(key(mj_buf_cstr(&secret)));
    assert_int_equal(mj_sign_make_pair(&private, &public), 0);
    struct mj_sign_key *k = key(mj_buf_cstr(&private));
    assert_int_equal(mj_sign_key_public(k, &derived), 0);
    assert_string_equal(mj_buf_cstr(&derived), mj_buf_cstr(&public));
    mj_sign_key_free(k);
    mj_sign_key_free(key(mj_buf_cstr(&public)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors),     cmocka_unit_test(github_vector),
        cmocka_unit_test(bad_secrets), cmocka_unit_test(public_only_checks),
        cmocka_unit_test(rotation),    cmocka_unit_test(reasons),
        cmocka_unit_test(made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
